//! The state as JSON: saving and restoring.

use std::time::Duration;

use proxmox_simulator::{Clock, Simulator};
use serde_json::{Value, json};

use crate::support::{ask, ask_with, finish, login};

async fn pve() -> Simulator {
    let pve = Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .node("pve1")
        .offline_node("pve2")
        .cluster("kept")
        .qemu(100, "pve1", &[("name", "one"), ("scsi0", "local-lvm:4")])
        .running(100)
        .lxc(101, "pve1", &[("rootfs", "local-lvm:4")])
        .user("ann@pve", "longenough")
        .start()
        .await
        .expect("starts");
    for (method, path, form) in [
        ("POST", "/nodes/pve1/qemu/100/snapshot", "snapname=s1"),
        ("POST", "/access/groups", "groupid=team"),
        ("PUT", "/access/users/ann@pve", "groups=team"),
        ("POST", "/access/roles", "roleid=looker&privs=VM.Audit"),
        ("PUT", "/access/acl", "path=/vms&roles=looker&groups=team"),
        ("POST", "/pools", "poolid=p1"),
        ("PUT", "/pools/p1", "vms=101"),
        ("POST", "/cluster/firewall/rules", "type=in&action=DROP"),
        ("PUT", "/cluster/options", "keyboard=de"),
        ("POST", "/cluster/sdn/zones", "zone=z1&type=simple"),
        ("POST", "/nodes/pve1/vzdump", "vmid=100&storage=local"),
    ] {
        let answer = ask(&pve, method, path, form).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer}");
        pve.clock().advance(Duration::from_secs(10));
    }
    pve
}

/// The answers of several calls as one value.
async fn view(pve: &Simulator) -> Value {
    let mut seen = serde_json::Map::new();
    for path in [
        "/cluster/status",
        "/cluster/resources",
        "/nodes/pve1/qemu/100/config",
        "/nodes/pve1/qemu/100/snapshot",
        "/nodes/pve1/qemu/100/status/current",
        "/nodes/pve1/storage/local/content",
        "/nodes/pve1/tasks",
        "/access/users",
        "/access/acl",
        "/access/roles",
        "/pools/p1",
        "/cluster/firewall/rules",
        "/cluster/options",
        "/cluster/sdn/zones",
    ] {
        seen.insert(path.into(), ask(pve, "GET", path, "").await.data());
    }
    Value::Object(seen)
}

#[tokio::test]
async fn a_restored_cluster_gives_the_same_answers() {
    let first = pve().await;
    let state = first.snapshot();
    let second = Simulator::builder()
        .clock(Clock::manual(first.clock().now().as_secs()))
        .restore(&state)
        .start()
        .await
        .expect("starts");
    assert_eq!(view(&second).await, view(&first).await);
    assert_eq!(second.snapshot(), state);
    let ann = login(&second, "ann@pve", "longenough").await;
    let seen = ask_with(&second, "GET", "/nodes/pve1/qemu", &ann, "")
        .await
        .data();
    assert_eq!(seen[0]["vmid"], 100);
}

#[tokio::test]
async fn a_simulator_can_restore_an_earlier_state() {
    let pve = pve().await;
    let state = pve.snapshot();
    let before = view(&pve).await["/cluster/resources"].clone();
    assert_eq!(
        finish(&pve, &ask(&pve, "DELETE", "/nodes/pve1/lxc/101", "").await).await,
        "OK"
    );
    let busy = ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=102").await;
    assert_eq!(busy.status, 200);
    let halfway = pve.snapshot();
    pve.restore(&state).expect("a state");
    let after = view(&pve).await["/cluster/resources"].clone();
    let ids = |rows: &Value| -> Vec<Value> {
        rows.as_array()
            .expect("rows")
            .iter()
            .map(|row| row["id"].clone())
            .collect()
    };
    assert_eq!(ids(&before), ids(&after));

    // An unfinished task is interrupted, and its guest does not exist.
    pve.restore(&halfway).expect("a state");
    let tasks = ask(&pve, "GET", "/nodes/pve1/tasks", "limit=1")
        .await
        .data();
    assert_eq!(tasks[0]["status"], "received interrupt");
    let gone = ask(&pve, "GET", "/nodes/pve1/qemu/102/config", "").await;
    assert_eq!(gone.status, 500);
}

#[tokio::test]
async fn an_invalid_state_changes_nothing() {
    let pve = pve().await;
    let before = pve.snapshot();
    let mut broken: Value = serde_json::from_str(&before).expect("JSON");
    broken["guests"]["100"]["kind"] = json!("docker");
    for (text, place) in [
        ("{".to_owned(), "EOF"),
        ("{}".to_owned(), "version"),
        (broken.to_string(), "guests.100.kind: expected qemu or lxc"),
    ] {
        let error = pve.restore(&text).expect_err("refused").to_string();
        assert!(error.contains(place), "{error}");
        assert_eq!(pve.snapshot(), before);
    }
    let error = Simulator::builder()
        .restore("[]")
        .start()
        .await
        .expect_err("refused");
    assert!(error.to_string().starts_with("state: version"), "{error}");
}
