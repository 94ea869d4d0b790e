//! The log at the most verbose level, of the gateway and of all libraries below it: one line for
//! each change, and no secret.

mod common;

use common::{Pair, background, token};
use futures_util::StreamExt;
use proxmox_api::Client;
use proxmox_gateway::gpve::v1::ListGuestsRequest;
use proxmox_gateway::gpve::v1::guest_service_client::GuestServiceClient;
use proxmox_simulator::{Simulator, TOKEN_SECRET};
use proxmox_test_support::captured_log;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{ClientBuilder, Message};

/// A receiver of webhooks that answers 200.
async fn receiver() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = Vec::new();
            while !text.ends_with(b"}") && stream.read_buf(&mut text).await.unwrap_or(0) > 0 {}
            let answer = b"HTTP/1.1 200 ok\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

/// Listens to events until one arrives. The handshake is complete, and messages go both ways.
async fn listen(pair: &Pair, headers: &[(&'static str, String)], secret: &str) {
    let address = pair.gateway.address();
    let url = format!("ws://{address}/v1/events/ws?types=vm.*&x={secret}");
    let mut request = ClientBuilder::new().uri(&url).expect("an address");
    for (name, value) in headers {
        let name = http::HeaderName::from_static(name);
        let value = http::HeaderValue::from_str(value).expect("a value");
        request = request.add_header(name, value).expect("allowed");
    }
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut socket, _) = request.connect_on(stream).await.expect("taken");
    futures_util::SinkExt::send(&mut socket, Message::text(format!("said {secret}")))
        .await
        .expect("sent");
    // Changes before the gateway watches give no events.
    let wait = async {
        let mut action = ["start", "stop"].into_iter().cycle();
        loop {
            let action = action.next().expect("for ever");
            let path = format!("POST /api2/json/nodes/node1/qemu/100/status/{action}");
            pair.send(&path, "").await;
            let next = tokio::time::timeout(std::time::Duration::from_millis(200), socket.next());
            if let Ok(Some(Ok(message))) = next.await
                && message.is_text()
            {
                return;
            }
        }
    };
    let received = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
    received.expect("an event");
    let _ = futures_util::SinkExt::close(&mut socket).await;
}

/// Uses secrets in many ways, and returns them.
async fn work(pair: &Pair) -> Vec<String> {
    let _ = pair.login("root@pam", "password-of-nobody").await;
    let login = pair.login("alice@pve", "planted-pa55word").await.json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let ticket = text(&login["data"]["ticket"]);
    let csrf = text(&login["data"]["CSRFPreventionToken"]);
    let start = "POST /api2/json/nodes/node1/qemu/100/status/start?x=query-secret";
    let _ = pair.send(start, "").await;

    let address = receiver().await;
    let hook = format!(
        r#"{{"name": "x", "url": "http://{address}/path-secret", "secret": "webhook-secret", "events": ["vm.*"]}}"#
    );
    let hook = pair.send("POST /v1/webhooks", &hook).await;
    assert_eq!(hook.status, 201, "{}", hook.text());
    let id = text(&hook.json()["id"]);
    let tested = pair.send(&format!("POST /v1/webhooks/{id}/test"), "").await;
    assert_eq!(tested.json()["status"], "delivered", "{}", tested.text());

    listen(pair, &[("authorization", token())], "listener-secret-1").await;
    let cookie = [("cookie", format!("PVEAuthCookie={ticket}"))];
    listen(pair, &cookie, "listener-secret-2").await;

    // A console: its ticket is in the query, and the input in its messages.
    let url = format!("http://{}", pair.gateway.address());
    let alice = Client::builder(url).password("alice@pve", "planted-pa55word");
    let alice = alice.build().expect("a client");
    let mut terminal = (alice.lxc_console("node1", 101).terminal().await).expect("a console");
    terminal.write(b"echo typed-secret\r").await.expect("typed");
    let mut output = String::new();
    while output.matches("typed-secret").count() < 2 {
        let piece = terminal.read().await.expect("open").expect("not over");
        output += &String::from_utf8_lossy(&piece);
    }

    let grpc = format!(
        "http://{}",
        pair.gateway.grpc_address().expect("it is served")
    );
    let mut guests = GuestServiceClient::connect(grpc).await.expect("connected");
    let mut request = tonic::Request::new(ListGuestsRequest::default());
    let value = token().parse().expect("a value");
    request.metadata_mut().insert("authorization", value);
    guests.list(request).await.expect("answered");

    let planted = [
        TOKEN_SECRET,
        "password-of-nobody",
        "planted-pa55word",
        "query-secret",
        "path-secret",
        "webhook-secret",
        "listener-secret-1",
        "listener-secret-2",
        "typed-secret",
        "PVEVNC:",
        "PVE:alice",
        &ticket,
        &csrf,
    ];
    planted.map(str::to_owned).into()
}

#[tokio::test]
async fn no_log_contains_a_secret_and_each_change_has_a_line() {
    captured_log::install();
    let simulator = Simulator::builder()
        .node("node1")
        .qemu(100, "node1", &[("name", "web"), ("scsi0", "local-lvm:8")])
        .lxc(101, "node1", &[("rootfs", "local-lvm:8")])
        .running(101)
        .user("alice@pve", "planted-pa55word")
        .acl("/", "alice@pve", "Administrator")
        .time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        config.background = Some(background());
        config.webhooks.allow_internal = true;
        config.limits.write = 0;
        config.grpc = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let secrets = work(&pair).await;
    let log = captured_log::text();
    // The capture works.
    for target in ["proxmox_api:", "rustls::", "hyper_util::", "h2::", "audit:"] {
        assert!(log.contains(target), "nothing of {target}");
    }
    let audit = |log: &str| {
        let lines = log.lines().filter(|line| line.starts_with("audit:"));
        let lengths: Vec<usize> = lines.map(str::len).collect();
        lengths
    };
    let lines = audit(&log);
    assert!(lines.len() >= 3, "{lines:?}");
    // Callers cannot fill the disk: long paths are cut, and requests refused by the limits are not
    // logged.
    for _ in 0..2 {
        let long = format!("DELETE /api2/json/pools/{}", "x".repeat(60_000));
        let _ = pair.send(&long, "").await;
    }
    for _ in 0..12 {
        let login = pair.login("root@pam", "wrong").await;
        assert!(matches!(login.status, 401 | 429));
    }
    let more = audit(&captured_log::text()).split_off(lines.len());
    assert!((3..=12).contains(&more.len()), "{more:?}");
    assert!(more.iter().all(|length| *length < 1_000), "{more:?}");
    assert!(log.contains("user=\"root@pam!test\""));
    captured_log::assert_holds_none_of(&secrets);
}
