//! Injected faults, seen from the client's side.

use std::time::Duration;

use proxmox_simulator::{Clock, Fault, Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::json;

use crate::support::{Wire, ask, finish};

async fn pve() -> Simulator {
    Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .qemu(100, "pve1", &[("name", "one")])
        .start()
        .await
        .expect("starts")
}

fn request(method: &str, path: &str) -> String {
    format!(
        "{method} /api2/json{path} HTTP/1.1\r\nHost: x\r\n\
         Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_status_fault_applies_the_given_number_of_times() {
    let pve = pve().await;
    let handle = pve
        .faults()
        .on("GET", "/nodes")
        .times(2)
        .respond(Fault::Status(503, "out of order".into()));
    for _ in 0..2 {
        let answer = ask(&pve, "GET", "/nodes", "").await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (503, "out of order")
        );
        assert_eq!(answer.json()["message"], "out of order\n");
    }
    assert_eq!(ask(&pve, "GET", "/nodes", "").await.status, 200);
    assert_eq!(handle.hits(), 2);
    let seen: Vec<u16> = pve.requests().iter().map(|r| r.status).collect();
    assert_eq!(seen, [503, 503, 200]);
}

#[tokio::test]
async fn unreachable_nodes_answer_without_a_body() {
    let pve = pve().await;
    let _ = pve.faults().add("1x GET /nodes/*/status node-down");
    let _ = pve
        .faults()
        .add("1x POST /nodes/*/qemu/100/status/start timeout");
    let down = ask(&pve, "GET", "/nodes/pve1/status", "").await;
    assert_eq!(
        (down.status, down.reason.as_str(), down.body.len()),
        (595, "Connection refused", 0)
    );
    let late = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/start", "").await;
    assert_eq!(
        (late.status, late.reason.as_str(), late.body.len()),
        (596, "Connection timed out", 0)
    );
    // The work continues.
    pve.clock().advance(Duration::from_secs(10));
    let current = ask(&pve, "GET", "/nodes/pve1/qemu/100/status/current", "").await;
    assert_eq!(current.data()["status"], "running");
}

#[tokio::test]
async fn connections_break_before_and_after_the_work() {
    let pve = pve().await;
    let path = "/nodes/pve1/qemu/100/status/start";
    for (fault, status) in [(Fault::Drop, "stopped"), (Fault::DropAnswer, "running")] {
        let _ = pve.faults().on("POST", path).times(1).respond(fault);
        let mut wire = Wire::open(&pve).await;
        wire.send(request("POST", path).as_bytes()).await;
        assert!(wire.rest().await.is_empty());
        pve.clock().advance(Duration::from_secs(10));
        let current = ask(&pve, "GET", "/nodes/pve1/qemu/100/status/current", "").await;
        assert_eq!(current.data()["status"], status);
    }
    let silent: Vec<u16> = pve.requests().iter().map(|r| r.status).collect();
    assert_eq!(silent, [0, 200, 0, 200]);
}

#[tokio::test]
async fn bodies_end_early() {
    let pve = pve().await;
    let _ = pve.faults().add("1x GET /version truncate:5");
    let mut wire = Wire::open(&pve).await;
    wire.send(request("GET", "/version").as_bytes()).await;
    let answer = String::from_utf8(wire.rest().await).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body.len(), 5);
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok())
        .expect("a length");
    assert!(length > 5);

    let _ = pve.faults().add("1x PUT /cluster/options drop-body:10");
    let mut wire = Wire::open(&pve).await;
    let head = request("PUT", "/cluster/options");
    let head = head.trim_end();
    // Only the start of the body is sent, so the server cannot be waiting for the rest.
    wire.send(format!("{head}\r\nContent-Length: 100000\r\n\r\nkeyboard=d").as_bytes())
        .await;
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn a_hanging_request_waits_until_the_client_disconnects() {
    let pve = pve().await;
    let hang = pve.faults().on("GET", "/version").respond(Fault::Hang);
    let mut wire = Wire::open(&pve).await;
    wire.send(request("GET", "/version").as_bytes()).await;
    while hang.hits() == 0 {
        tokio::task::yield_now().await;
    }
    // Other connections are served meanwhile.
    tokio::select! {
        answer = wire.try_answer() => panic!("answered {answer:?}"),
        other = ask(&pve, "GET", "/nodes", "") => assert_eq!(other.status, 200),
    }
    hang.remove();
    assert_eq!(ask(&pve, "GET", "/version", "").await.status, 200);
}

#[tokio::test]
async fn latency_delays_the_answer() {
    let pve = pve().await;
    let _ = pve
        .faults()
        .on("GET", "/version")
        .times(1)
        .respond(Fault::Latency(Duration::from_millis(40)));
    let before = std::time::Instant::now();
    assert_eq!(ask(&pve, "GET", "/version", "").await.status, 200);
    assert!(before.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn tasks_fail_or_warn() {
    let pve = pve().await;
    let create = pve
        .faults()
        .add("1x POST /nodes/*/qemu task-fails:no space left");
    let form = "vmid=101&scsi0=local-lvm%3A4";
    let failed = ask(&pve, "POST", "/nodes/pve1/qemu", form).await;
    assert_eq!(finish(&pve, &failed).await, "no space left");
    assert_eq!(create.expect("a fault").hits(), 1);
    let content = ask(&pve, "GET", "/nodes/pve1/storage/local-lvm/content", "").await;
    assert_eq!(content.data(), json!([]));
    let answer = ask(&pve, "POST", "/nodes/pve1/qemu", form).await;
    assert_eq!(finish(&pve, &answer).await, "OK");

    let _ = pve
        .faults()
        .add("1x POST /nodes/*/qemu/*/status/start task-warns:2");
    let start = ask(&pve, "POST", "/nodes/pve1/qemu/101/status/start", "").await;
    assert_eq!(finish(&pve, &start).await, "WARNINGS: 2");
    let upid = start.data();
    let path = format!("/nodes/pve1/tasks/{}/log", upid.as_str().expect("a UPID"));
    let log = ask(&pve, "GET", &path, "").await.data();
    let lines: Vec<&str> = log
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line["t"].as_str())
        .collect();
    assert_eq!(
        lines,
        [
            "WARN: simulated warning 1",
            "WARN: simulated warning 2",
            "TASK WARNINGS: 2"
        ]
    );
    let current = ask(&pve, "GET", "/nodes/pve1/qemu/101/status/current", "").await;
    assert_eq!(current.data()["status"], "running");
}
