//! Request smuggling, path traversal, CSRF, and clean shutdown.

use crate::common::{Pair, token};
use proxmox_api::Client;
use proxmox_simulator::Simulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn pair() -> Pair {
    let simulator = Simulator::builder()
        .node("node1")
        .qemu(100, "node1", &[("name", "web"), ("scsi0", "local-lvm:8")])
        .lxc(101, "node1", &[("rootfs", "local-lvm:8")])
        .running(101)
        .time_factor(0.0);
    Pair::start(simulator, |config| config.body_seconds = 1).await
}

fn requests(pair: &Pair) -> Vec<String> {
    let requests = pair.simulator.requests();
    requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

#[tokio::test]
async fn one_request_is_one_request_to_the_cluster() {
    let pair = pair().await;
    let secret = token();
    let hidden = "GET /api2/json/cluster/status HTTP/1.1\r\nHost: x\r\n\r\n";
    for (name, head, body) in [
        (
            "both lengths",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "two lengths",
            "Content-Length: 0\r\nContent-Length: 52\r\n",
            hidden.to_owned(),
        ),
        (
            "an invalid length",
            "Content-Length: +5\r\n",
            format!("hello{hidden}"),
        ),
        (
            "an unknown transfer coding",
            "Transfer-Encoding: xchunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "a folded line",
            "X-A: b\r\n Transfer-Encoding: chunked\r\n",
            String::new(),
        ),
        (
            "a space before the colon",
            "Transfer-Encoding : chunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "a bare line feed",
            "X-A: b\nTransfer-Encoding: chunked\r\n",
            String::new(),
        ),
    ] {
        pair.simulator.clear_requests();
        let text = format!(
            "PUT /api2/json/nodes/node1/qemu/100/config HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
             Authorization: {secret}\r\n{head}\r\n{body}"
        );
        let _ = pair.raw(text.as_bytes()).await;
        let requests = requests(&pair);
        assert!(requests.len() <= 1, "{name}: {requests:?}");
        assert!(
            !requests
                .iter()
                .any(|request| request.contains("/cluster/status")),
            "{name}: {requests:?}"
        );
    }
}

#[tokio::test]
async fn a_path_cannot_leave_the_api() {
    let pair = pair().await;
    for path in [
        "/api2/json/nodes/x%0d%0aHost:%20evil%0d%0a%0d%0aGET%20/api2/json/cluster/status/status",
        "/api2/json/nodes/%2e%2e/cluster/status",
        "/api2/json/nodes/../../../etc/passwd",
        "/api2/json/nodes/node1%00/status",
        "/api2/json/nodes/node1%3Fx/status",
    ] {
        pair.simulator.clear_requests();
        let answer = pair.send(&format!("GET {path}"), "").await;
        assert!(answer.status >= 400, "{path}: {}", answer.status);
        assert!(requests(&pair).len() <= 1, "{path}");
    }
    // An absolute URL in the request line still goes to the cluster only.
    let answer = pair
        .send("GET http://evil.example/api2/json/version", "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (request, status) in [
        ("GET /nowhere", 404),
        ("GET /api2", 501),
        ("TRACE /api2/json/version", 501),
        ("CONNECT evil.example:443", 404),
    ] {
        let answer = pair.send(request, "").await;
        assert!(
            answer.status == status || answer.status == 400,
            "{request}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn requests_have_limits() {
    let pair = pair().await;
    let long = "x".repeat(600 * 1024);
    let answer = pair
        .send(
            "PUT /api2/json/nodes/node1/qemu/100/config",
            &format!("{{\"description\":\"{long}\"}}"),
        )
        .await;
    assert_eq!(answer.status, 413);
    let answer = pair
        .send("POST /v1/webhooks", &format!("{{\"name\":\"{long}\"}}"))
        .await;
    assert_eq!(answer.status, 413);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(pair.send_with("GET /healthz", &many, "").await.status, 431);
    let big = format!("X-Big: {}", "y".repeat(1_000_000));
    assert_eq!(
        pair.send_with("GET /healthz", &[&big], "").await.status,
        431
    );
    assert!(requests(&pair).is_empty());
}

#[tokio::test]
async fn a_ticket_needs_its_csrf_token_to_change_something() {
    let pair = pair().await;
    let login = pair.login("root@pam", "password").await.json();
    let cookie = format!(
        "Cookie: other=1; PVEAuthCookie={}",
        login["data"]["ticket"].as_str().expect("a ticket")
    );
    let csrf = format!(
        "CSRFPreventionToken: {}",
        login["data"]["CSRFPreventionToken"]
            .as_str()
            .expect("a token")
    );
    let start = "POST /api2/json/nodes/node1/qemu/100/status/start";
    assert_eq!(pair.send_with(start, &[&cookie], "").await.status, 401);
    assert_eq!(
        pair.send_with(start, &[&cookie, "CSRFPreventionToken: wrong"], "")
            .await
            .status,
        401
    );
    assert_eq!(
        pair.send_with(start, &[&cookie, &csrf], "").await.status,
        200
    );
    assert_eq!(
        pair.send_with("GET /api2/json/nodes", &[&cookie], "")
            .await
            .status,
        200
    );
    let batch = r#"{"action": "stop", "vmids": [100]}"#;
    assert_eq!(
        pair.send_with("POST /v1/batch/vms/action", &[&cookie], batch)
            .await
            .status,
        401
    );
    let wrong = pair
        .send_with(
            "POST /v1/batch/vms/action",
            &[&cookie, "CSRFPreventionToken: wrong"],
            batch,
        )
        .await;
    assert!(
        wrong.status == 401 || wrong.json()["summary"]["succeeded"] == 0,
        "{}",
        wrong.text()
    );
}

#[tokio::test]
async fn uploads_downloads_and_consoles_are_passed_through() {
    let pair = pair().await;
    let url = format!("http://{}", pair.gateway.address());
    let pve = Client::builder(url)
        .password("root@pam", "password")
        .build()
        .expect("a client");
    let content = vec![7; 3 << 20];
    let task = pve
        .upload("node1", "local")
        .bytes(content)
        .name("big.iso")
        .await
        .expect("uploaded");
    task.wait().await.expect("done");
    let log = task.log_tail(10).await.expect("a log");
    assert!(!log.is_empty());
    let mut terminal = pve
        .lxc_console("node1", "101")
        .terminal()
        .await
        .expect("a console");
    terminal.write(b"echo through\n").await.expect("typed");
    let mut seen = String::new();
    while !seen.contains("through") {
        let read = terminal.read().await.expect("read").expect("more");
        seen.push_str(&String::from_utf8_lossy(&read));
    }
}

#[tokio::test]
async fn running_requests_finish_at_shutdown() {
    use proxmox_simulator::Fault;
    let pair = pair().await;
    let slow = Fault::Latency(std::time::Duration::from_millis(300));
    let slow = pair.simulator.faults().on("GET", "/nodes").respond(slow);
    let address = pair.gateway.address();
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let request = format!(
        "GET /api2/json/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n",
        token()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    // The request is running once the cluster has it; the cluster delays its answer.
    while slow.hits() == 0 {
        tokio::task::yield_now().await;
    }
    pair.gateway.stop().await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
