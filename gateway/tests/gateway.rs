//! The gateway's additions to the cluster's API, and what stays unchanged.

use crate::common::{Pair, token};
use proxmox_simulator::{Fault, Simulator};
use serde_json::json;

fn many_guests() -> proxmox_simulator::Builder {
    Simulator::builder()
        .node("node1")
        .node("node2")
        .qemu(100, "node1", &[("name", "web"), ("memory", "512")])
        .qemu(101, "node2", &[("name", "db")])
        .lxc(
            102,
            "node1",
            &[("hostname", "dns"), ("rootfs", "local-lvm:8")],
        )
        .running(100)
        .time_factor(0.0)
}

#[tokio::test]
async fn calls_reach_the_cluster_with_the_callers_credentials() {
    let pair = Pair::start(many_guests(), |_| {}).await;
    let health = pair.send_with("GET /healthz", &[], "").await;
    assert_eq!((health.status, health.text().as_str()), (200, "ok\n"));
    let ready = pair.send_with("GET /readyz", &[], "").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    let nodes = pair.send("GET /api2/json/nodes", "").await;
    assert_eq!(nodes.status, 200);
    let metrics = pair.send_with("GET /metrics", &[], "").await;
    let counted = "gateway_requests_total{class=\"read\",status=\"2xx\"} 1";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    assert_eq!(nodes.json()["data"].as_array().map(Vec::len), Some(2));
    let requests = pair.simulator.requests();
    assert_eq!(
        requests
            .last()
            .and_then(|request| request.user.clone())
            .as_deref(),
        Some("root@pam!test")
    );
    let without = pair.send_with("GET /api2/json/nodes", &[], "").await;
    assert_eq!(without.status, 401);
    assert_eq!(without.json()["status"], 401);
}

#[tokio::test]
async fn json_is_accepted_with_every_verb_and_without_content_type() {
    let pair = Pair::start(many_guests(), |_| {}).await;
    let body = r#"{"timeout": 60, "forceStop": false}"#;
    let stop = pair
        .send("POST /api2/json/nodes/node1/qemu/100/status/stop", body)
        .await;
    assert_eq!(stop.status, 200, "{}", stop.text());
    let body = r#"{"purge": true, "destroy-unreferenced-disks": true}"#;
    let gone = pair
        .send("DELETE /api2/json/nodes/node2/qemu/101", body)
        .await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    let requests = pair.simulator.requests();
    let request = requests.last().expect("a request");
    assert_eq!(
        request.params,
        json!({"purge": "1", "destroy-unreferenced-disks": "1"})
    );
}

#[tokio::test]
async fn refusals_have_one_shape_and_a_specific_status() {
    let pair = Pair::start(many_guests(), |_| {}).await;
    pair.simulator.set_lock(100, Some("backup"));
    let put = "PUT /api2/json/nodes/node1/qemu/100/config";
    let locked = pair.send(put, r#"{"cores": 2}"#).await;
    assert_eq!(locked.status, 423);
    assert_eq!(locked.json()["status"], 423);
    assert_eq!(locked.json()["message"], "VM is locked (backup)");
    assert_eq!(locked.json()["data"], json!(null));
    // The text stays in the reason phrase, too, for clients that read it there.
    assert_eq!(locked.reason, "VM is locked (backup)");
    let missing = pair
        .send("GET /api2/json/nodes/node1/qemu/999/config", "")
        .await;
    assert_eq!(missing.status, 404, "{}", missing.text());
    let wrong = pair.send(put, r#"{"memory": "few", "cores": 0}"#).await;
    assert_eq!(wrong.status, 400);
    let errors = wrong.json()["errors"].clone();
    assert!(
        errors["cores"].is_string() && errors["memory"].is_string(),
        "{errors}"
    );
    let exists = pair
        .send("POST /api2/json/nodes/node1/qemu", r#"{"vmid": 100}"#)
        .await;
    assert_eq!(exists.status, 409, "{}", exists.text());
    let quorum = Fault::Status(500, "cluster not ready - no quorum?".into());
    let _ = pair
        .simulator
        .faults()
        .on("PUT", "/nodes/*/qemu/*/config")
        .times(1)
        .respond(quorum);
    assert_eq!(pair.send(put, r#"{"cores": 2}"#).await.status, 503);
    // Other formats are unchanged.
    let other = pair
        .send("GET /api2/extjs/nodes/node1/qemu/999/config", "")
        .await;
    assert_eq!((other.status, &other.json()["success"]), (200, &json!(0)));
}

#[tokio::test]
async fn lists_have_totals_and_resources_can_be_selected() {
    let pair = Pair::start(many_guests(), |_| {}).await;
    for vmid in [101, 102] {
        let kind = if vmid == 102 {
            "node1/lxc"
        } else {
            "node2/qemu"
        };
        let path = format!("POST /api2/json/nodes/{kind}/{vmid}/status/start");
        assert_eq!(pair.send(&path, "").await.status, 200);
    }
    let tasks = pair
        .send(
            "GET /api2/json/nodes/node1/tasks?start=0&limit=1&source=all",
            "",
        )
        .await;
    assert_eq!(tasks.status, 200, "{}", tasks.text());
    assert_eq!(
        tasks.header("x-total-count"),
        tasks.json()["total"].to_string()
    );
    let path = "/api2/json/cluster/resources?type=vm&status=running&sort=vmid&order=desc&limit=1";
    let found = pair.send(&format!("GET {path}"), "").await;
    assert_eq!(found.json()["data"][0]["vmid"], 102, "{}", found.text());
    assert_eq!(found.header("x-total-count"), "3");
    let links = found.header("link");
    assert!(links.contains("start=1&limit=1>; rel=\"next\""), "{links}");
    assert!(links.contains("start=2&limit=1>; rel=\"last\""), "{links}");
    // Without a selection nothing changes.
    let all = pair
        .send("GET /api2/json/cluster/resources?type=vm", "")
        .await;
    assert_eq!((all.header("x-total-count"), all.header("link")), ("", ""));
}

#[tokio::test]
async fn each_caller_has_limits_that_headers_show() {
    let pair = Pair::start(many_guests(), |config| {
        config.limits.write = 2;
        config.limits.authentication = 3;
    })
    .await;
    let start = "POST /api2/json/nodes/node1/qemu/100/status/reset";
    let first = pair.send(start, "").await;
    assert_eq!(first.header("x-ratelimit-limit"), "2");
    assert_eq!(first.header("x-ratelimit-remaining"), "1");
    let _ = pair.send(start, "").await;
    let third = pair.send(start, "").await;
    assert_eq!(third.status, 429);
    let wait: u64 = third.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait));
    let text = format!("Rate limit exceeded. Try again in {wait} seconds.");
    assert_eq!(third.json()["message"], text);
    assert!(!third.header("x-ratelimit-reset").is_empty());
    assert_eq!(pair.send("GET /api2/json/version", "").await.status, 200);
    let login = "username=root%40pam&password=wrong";
    let form = "Content-Type: application/x-www-form-urlencoded";
    for _ in 0..3 {
        assert_eq!(pair.login("root@pam", "wrong").await.status, 401);
    }
    let path = "POST /api2/json/access//%74icket";
    assert_eq!(pair.send_with(path, &[form], login).await.status, 429);
}

#[tokio::test]
async fn a_batch_reports_the_result_of_each_guest() {
    let pair = Pair::start(many_guests(), |_| {}).await;
    pair.simulator.set_lock(102, Some("backup"));
    let body = r#"{"action": "start", "vmids": [100, 101, 102, 999],
        "options": {"parallel": 4, "continue_on_error": true}}"#;
    let answer = pair.send("POST /v1/batch/vms/action", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert_eq!(
        report["summary"],
        json!({"total": 4, "succeeded": 1, "failed": 3})
    );
    let results = report["results"].as_array().expect("results");
    let succeeded: Vec<bool> = results.iter().map(|one| one["success"] == true).collect();
    assert_eq!(succeeded, [false, true, false, false]);
    assert!(
        results[1]["upid"]
            .as_str()
            .is_some_and(|upid| upid.starts_with("UPID:node2:"))
    );
    assert!(
        results[2]["error"]
            .as_str()
            .is_some_and(|error| error.contains("locked"))
    );
    for (body, field) in [
        (r#"{"action": "dance", "vmids": [100]}"#, "action"),
        (r#"{"action": "start", "vmids": []}"#, "vmids"),
    ] {
        let refused = pair.send("POST /v1/batch/vms/action", body).await;
        assert_eq!(refused.status, 400);
        assert!(
            refused.json()["errors"][field].is_string(),
            "{}",
            refused.text()
        );
    }
    let nobody = pair.send_with("POST /v1/batch/vms/action", &[], body).await;
    assert_eq!(nobody.status, 401);
    assert!(token().contains("root@pam!test"));
}
