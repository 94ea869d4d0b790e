//! `/v1`: events, webhooks, templates, metrics.

use std::time::Duration;

use crate::common::{Pair, background, token};
use futures_util::StreamExt;
use proxmox_api::manage::webhook::{WINDOW, verify};
use proxmox_simulator::{Builder, Simulator, TOKEN_ID};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::upgrade::Error::DidNotSwitchProtocols;
use tokio_websockets::{ClientBuilder, WebSocketStream};

fn cluster() -> Builder {
    Simulator::builder()
        .node("node1")
        .node("node2")
        .qemu(
            100,
            "node1",
            &[("name", "web"), ("memory", "512"), ("scsi0", "local-lvm:8")],
        )
        .qemu(101, "node2", &[("name", "db")])
        .token("alice@pve!ci", "22222222-2222-3333-4444-555555555555")
        .user("alice@pve", "alice-password")
        .acl("/vms/101", "alice@pve", "PVEVMAdmin")
        .time_factor(0.0)
}

async fn pair() -> Pair {
    Pair::start(cluster(), |config| {
        config.background = Some(background());
        config.webhooks.allow_internal = true;
        config.webhooks.backoff_milliseconds = 0;
    })
    .await
}

fn alice() -> &'static str {
    "Authorization: PVEAPIToken=alice@pve!ci=22222222-2222-3333-4444-555555555555"
}

type Socket = WebSocketStream<TcpStream>;

async fn listen(
    pair: &Pair,
    query: &str,
    headers: &[(&'static str, String)],
) -> Result<Socket, u16> {
    let address = pair.gateway.address();
    let url = format!("ws://{address}/v1/events/ws{query}");
    let mut request = ClientBuilder::new().uri(&url).expect("an address");
    for (name, value) in headers {
        let name = http::HeaderName::from_static(name);
        let value = http::HeaderValue::from_str(value).expect("a value");
        request = request.add_header(name, value).expect("allowed");
    }
    let stream = TcpStream::connect(address).await.expect("a connection");
    match request.connect_on(stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_websockets::Error::Upgrade(DidNotSwitchProtocols(status))) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

fn credentials() -> Vec<(&'static str, String)> {
    vec![("authorization", token())]
}

/// The next event with this name.
async fn next(socket: &mut Socket, name: &str) -> Value {
    let wait = async {
        loop {
            let message = socket.next().await.expect("it goes on").expect("a message");
            if let Some(text) = message.as_text() {
                let event: Value = serde_json::from_str(text).expect("JSON");
                if event["type"] == name {
                    return event;
                }
            }
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(20), wait).await;
    event.unwrap_or_else(|_| panic!("no {name}"))
}

async fn power(pair: &Pair, node: &str, vmid: u32, action: &str) {
    let path = format!("POST /api2/json/nodes/{node}/qemu/{vmid}/status/{action}");
    let answer = pair.send(&path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until the gateway watches, because earlier changes give no events.
async fn watched(pair: &Pair) {
    let polls = || {
        let requests = pair.simulator.requests();
        requests
            .iter()
            .filter(|request| request.path == "/cluster/resources")
            .count()
    };
    let wait = async {
        while polls() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it watches");
}

#[tokio::test]
async fn events_arrive_by_websocket_and_resume_from_a_cursor() {
    let pair = pair().await;
    watched(&pair).await;
    let mut socket = listen(&pair, "?types=vm.*", &credentials())
        .await
        .expect("taken");
    power(&pair, "node1", 100, "start").await;
    let event = next(&mut socket, "vm.status.changed").await;
    let data = &event["data"];
    assert_eq!(
        (&data["vmid"], &data["node"]),
        (&json!(100), &json!("node1"))
    );
    assert_eq!(
        (&data["old_status"], &data["new_status"]),
        (&json!("stopped"), &json!("running"))
    );
    assert!(
        event["timestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    let started = next(&mut socket, "vm.started").await;
    drop(socket);
    power(&pair, "node1", 100, "stop").await;
    let cursor = started["cursor"].as_str().expect("a cursor");
    let query = format!("?types=vm.status.changed&cursor={cursor}");
    let mut again = listen(&pair, &query, &credentials()).await.expect("taken");
    assert_eq!(
        next(&mut again, "vm.status.changed").await["data"]["new_status"],
        "stopped"
    );
    // A cursor that does not exist.
    assert_eq!(
        listen(&pair, "?cursor=999999", &credentials()).await.err(),
        Some(410)
    );
    assert_eq!(
        listen(&pair, "?cursor=x", &credentials()).await.err(),
        Some(400)
    );
}

#[tokio::test]
async fn listeners_get_only_events_that_they_may_see() {
    let pair = pair().await;
    watched(&pair).await;
    let (_, credentials) = alice().split_once(": ").expect("a header");
    let headers = vec![("authorization", credentials.to_owned())];
    let mut socket = listen(&pair, "", &headers).await.expect("taken");
    power(&pair, "node1", 100, "start").await;
    power(&pair, "node2", 101, "start").await;
    let event = next(&mut socket, "vm.started").await;
    assert_eq!(event["data"]["vmid"], 101);
    assert_eq!(listen(&pair, "", &[]).await.err(), Some(401));
    let wrong = vec![("authorization", format!("PVEAPIToken={TOKEN_ID}=wrong"))];
    assert_eq!(listen(&pair, "", &wrong).await.err(), Some(401));
    // A page of another site; the browser adds the cookie.
    let login = pair.login("root@pam", "password").await;
    let ticket = login.json()["data"]["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned();
    let cookie = ("cookie", format!("PVEAuthCookie={ticket}"));
    let elsewhere = vec![
        cookie.clone(),
        ("origin", "https://evil.example".to_owned()),
    ];
    assert_eq!(listen(&pair, "", &elsewhere).await.err(), Some(403));
    let here = format!("http://{}", pair.gateway.address());
    assert!(listen(&pair, "", &[cookie, ("origin", here)]).await.is_ok());
}

#[tokio::test]
async fn listeners_of_one_user_do_not_use_up_those_of_others() {
    let pair = Pair::start(cluster(), |config| {
        config.background = Some(background());
        config.limits.listeners = 2;
    })
    .await;
    let one = listen(&pair, "", &credentials()).await.expect("taken");
    let login = pair.login("root@pam", "password").await.json();
    // A token counts for its user.
    let ticket = login["data"]["ticket"].as_str().expect("a ticket");
    let cookie = vec![("cookie", format!("PVEAuthCookie={ticket}"))];
    let two = listen(&pair, "", &cookie).await.expect("taken");
    for headers in [credentials(), cookie.clone()] {
        assert_eq!(listen(&pair, "", &headers).await.err(), Some(429));
    }
    let refused = pair.send("GET /v1/events", "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "30"));
    let hers = alice().split_once(": ").expect("a header").1.to_owned();
    let other = listen(&pair, "", &[("authorization", hers)]).await;
    other.expect("she has places of her own");
    drop(two);
    // The gateway notices asynchronously that a connection is closed.
    let again = async {
        loop {
            match listen(&pair, "", &cookie).await {
                Ok(socket) => return socket,
                Err(status) => assert_eq!(status, 429),
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(20), again).await;
    drop((again.expect("its place is free"), one));
}

#[tokio::test]
async fn events_arrive_as_server_sent_events() {
    let pair = pair().await;
    watched(&pair).await;
    let mut stream = TcpStream::connect(pair.gateway.address())
        .await
        .expect("a connection");
    let request = format!(
        "GET /v1/events?types=vm.started HTTP/1.1\r\nHost: gateway\r\nAuthorization: {}\r\n\r\n",
        token()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    let mut started = false;
    let wait = async {
        while !text.contains("\"vm.started\"") {
            let read = stream.read(&mut buffer).await.expect("read");
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if !started && text.contains("\r\n\r\n") {
                started = true;
                power(&pair, "node1", 100, "start").await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("an event");
    assert!(
        text.contains("text/event-stream") && text.contains("event: vm.started\ndata: {"),
        "{text}"
    );
}

/// Answers POSTs with these statuses in order, then with 200. Forwards the requests.
async fn receiver(
    statuses: &'static [u16],
) -> (
    String,
    tokio::sync::mpsc::UnboundedReceiver<(String, String)>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut statuses = statuses.iter().copied();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut text = Vec::new();
            let (head, body) = loop {
                let mut buffer = [0; 4_096];
                let read = stream.read(&mut buffer).await.expect("read");
                text.extend_from_slice(&buffer[..read]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                    let length = header(head, "content-length");
                    if body.len() == length.parse::<usize>().expect("a length") {
                        break (head.to_owned(), body.to_owned());
                    }
                }
            };
            let status = statuses.next().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

fn header(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    found
        .next()
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

fn check(secret: &str, head: &str, name: &str, body: &str) {
    let time = header(head, "x-webhook-timestamp");
    let now = time.parse().expect("seconds");
    verify(
        secret.as_bytes(),
        &header(head, name),
        &time,
        body.as_bytes(),
        now,
        WINDOW,
    )
    .expect("signed");
}

#[tokio::test]
async fn webhook_deliveries_are_signed_and_retried_until_they_succeed() {
    let pair = pair().await;
    watched(&pair).await;
    let (url, mut received) = receiver(&[503, 200]).await;
    let body = json!({
        "name": "chat", "url": url, "events": ["vm.started", "vm.stopped", "vm.migrated", "node.offline"],
        "secret": "webhook-secret-key", "enabled": true,
    });
    let answer = pair.send("POST /v1/webhooks", &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(!answer.text().contains("webhook-secret-key"));
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    power(&pair, "node1", 100, "start").await;
    let (head, body) = received.recv().await.expect("a delivery");
    assert!(head.starts_with("POST /hook HTTP/1.1"));
    check("webhook-secret-key", &head, "x-webhook-signature", &body);
    let delivered: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&delivered["type"], &delivered["data"]["vmid"]),
        (&json!("vm.started"), &json!(100))
    );
    let (_, again) = received.recv().await.expect("a second attempt");
    assert_eq!(again, body);
    // The log has both attempts.
    let wait = async {
        loop {
            let log = pair
                .send(&format!("GET /v1/webhooks/{id}/deliveries"), "")
                .await;
            let log = log.json();
            if log["items"][0]["status"] == "delivered" {
                return log;
            }
        }
    };
    let log = tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("delivered");
    assert_eq!(
        (
            &log["items"][0]["attempts"],
            &log["items"][0]["response_status"]
        ),
        (&json!(2), &json!(200))
    );
    // A new secret; for a time, the old one also signs.
    let path = format!("POST /v1/webhooks/{id}/rotate-secret");
    let rotated = pair.send(&path, r#"{"secret": "another-secret"}"#).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let tested = pair.send(&format!("POST /v1/webhooks/{id}/test"), "").await;
    assert_eq!(
        (tested.status, &tested.json()["status"]),
        (200, &json!("delivered"))
    );
    let (head, body) = received.recv().await.expect("a test");
    check("another-secret", &head, "x-webhook-signature", &body);
    check(
        "webhook-secret-key",
        &head,
        "x-webhook-signature-previous",
        &body,
    );
    // A webhook can be disabled and removed.
    let changed = pair
        .send(&format!("PUT /v1/webhooks/{id}"), r#"{"enabled": false}"#)
        .await;
    assert_eq!(changed.json()["enabled"], false);
    let list = pair.send("GET /v1/webhooks", "").await;
    assert_eq!(
        (list.header("x-total-count"), &list.json()["items"][0]["id"]),
        ("1", &json!(id))
    );
    assert_eq!(
        pair.send(&format!("DELETE /v1/webhooks/{id}"), "")
            .await
            .status,
        204
    );
    assert_eq!(
        pair.send(&format!("GET /v1/webhooks/{id}"), "")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_webhook_belongs_to_its_owner_and_gets_what_the_owner_may_see() {
    let pair = pair().await;
    watched(&pair).await;
    let (url, mut received) = receiver(&[]).await;
    let body =
        json!({"name": "hers", "url": url, "events": ["vm.started"], "secret": "long-enough"});
    let answer = pair
        .send_with("POST /v1/webhooks", &[alice()], &body.to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.json()["owner"], "alice@pve!ci");
    assert_eq!(
        pair.send(&format!("GET /v1/webhooks/{id}"), "")
            .await
            .status,
        404
    );
    power(&pair, "node1", 100, "start").await;
    power(&pair, "node2", 101, "start").await;
    let (_, body) = received.recv().await.expect("a delivery");
    let delivered: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(delivered["data"]["vmid"], 101);
    // Requests without credentials or with invalid settings are refused.
    let nobody = pair.send_with("POST /v1/webhooks", &[], "{}").await;
    assert_eq!(nobody.status, 401);
    let cookie = "Cookie: PVEAuthCookie=PVE:root@pam:12345678::x";
    let forged = pair.send_with("POST /v1/webhooks", &[cookie], "{}").await;
    assert_eq!(forged.status, 401);
    for (body, field) in [
        (json!({"url": "https://example.org/"}), "name"),
        (json!({"name": "x", "url": "ftp://example.org/"}), "url"),
        (
            json!({"name": "x", "url": "https://example.org/", "events": ["vm.exploded"]}),
            "events",
        ),
        (
            json!({"name": "x", "url": "https://example.org/", "secret": "short"}),
            "secret",
        ),
    ] {
        let refused = pair.send("POST /v1/webhooks", &body.to_string()).await;
        assert_eq!(refused.status, 400);
        assert!(
            refused.json()["errors"][field].is_string(),
            "{}",
            refused.text()
        );
    }
}

#[tokio::test]
async fn internal_addresses_are_refused_as_receivers_unless_allowed() {
    let pair = Pair::start(cluster(), |_| {}).await;
    for url in [
        "https://127.0.0.1/",
        "https://[::1]/x",
        "https://169.254.169.254/",
        "http://example.org/",
    ] {
        let body = json!({"name": "x", "url": url, "secret": "long-enough"});
        let refused = pair.send("POST /v1/webhooks", &body.to_string()).await;
        assert_eq!(refused.status, 400, "{url}");
    }
    // Names are resolved when a delivery is sent.
    let body = json!({"name": "x", "url": "https://localhost:1/", "secret": "long-enough"});
    let answer = pair.send("POST /v1/webhooks", &body.to_string()).await;
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let tested = pair
        .send(&format!("POST /v1/webhooks/{id}/test"), "")
        .await
        .json();
    assert_eq!(tested["status"], "failed");
    assert!(
        tested["error"]
            .as_str()
            .is_some_and(|error| error.contains("internal")),
        "{tested}"
    );
}

#[tokio::test]
async fn a_template_is_made_from_a_copy_of_a_guest() {
    let pair = pair().await;
    let body = json!({
        "source_vmid": 100, "name": "ubuntu-22.04-base", "description": "Base Ubuntu 22.04 template",
        "tags": ["ubuntu", "base"],
    });
    let answer = pair.send("POST /v1/templates", &body.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let vmid = answer.json()["vmid"].clone();
    let wait = async {
        loop {
            let list = pair.send("GET /v1/templates", "").await.json();
            if let Some(first) = list["items"].as_array().and_then(|items| items.first()) {
                return first.clone();
            }
        }
    };
    let template = tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("made");
    assert_eq!(
        (&template["vmid"], &template["name"]),
        (&vmid, &json!("ubuntu-22.04-base"))
    );
    let config = pair
        .send(
            &format!("GET /api2/json/nodes/node1/qemu/{vmid}/config"),
            "",
        )
        .await;
    let config = config.json()["data"].clone();
    assert_eq!(
        (&config["template"], &config["description"]),
        (&json!(1), &json!("Base Ubuntu 22.04 template"))
    );
    let tags = config["tags"].as_str().expect("tags");
    assert!(tags.contains("ubuntu") && tags.contains("base"), "{tags}");
    let source = pair
        .send("GET /api2/json/nodes/node1/qemu/100/config", "")
        .await;
    assert_eq!(source.json()["data"]["template"], Value::Null);
}

#[tokio::test]
async fn metrics_of_a_node_are_served_as_json_and_for_prometheus() {
    let pair = pair().await;
    let metrics = pair.send("GET /v1/nodes/node1/metrics", "").await;
    assert_eq!(metrics.status, 200, "{}", metrics.text());
    let metrics = metrics.json();
    assert!(
        metrics["cpu"]["usage_percent"].is_number() && metrics["memory"]["total_bytes"].is_number()
    );
    let text = pair
        .send("GET /v1/nodes/node1/metrics?format=prometheus", "")
        .await;
    assert!(
        text.header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(
        text.text()
            .contains("pve_node_memory_size_bytes{node=\"node1\"} "),
        "{}",
        text.text()
    );
    assert_eq!(
        pair.send("GET /v1/nodes/node1/metrics?format=xml", "")
            .await
            .status,
        400
    );
    assert_eq!(pair.send("GET /v1/nowhere", "").await.status, 404);
    assert_eq!(pair.send("DELETE /v1/templates", "").await.status, 405);
}
