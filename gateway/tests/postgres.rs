//! Two gateways with one database: each event is delivered once, by either gateway.
//!
//! Needs the address of a writable database in `GATEWAY_TEST_POSTGRES`, and the authority of its
//! certificate in `GATEWAY_TEST_POSTGRES_CA`; `.ci/postgres` provides both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Pair, background, token};
use futures_util::StreamExt;
use proxmox_gateway::{Config, Gateway};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{ClientBuilder, WebSocketStream};

/// Number of deliveries by event.
type DeliveryCounts = Arc<Mutex<BTreeMap<String, usize>>>;

async fn receiver() -> (String, DeliveryCounts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let received = DeliveryCounts::default();
    let counts = Arc::clone(&received);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let counts = Arc::clone(&counts);
            tokio::spawn(async move {
                let mut text = Vec::new();
                let mut buffer = [0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    text.extend_from_slice(&buffer[..read]);
                    let whole = String::from_utf8_lossy(&text).into_owned();
                    let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                    if let Ok(event) = serde_json::from_str::<Value>(body) {
                        let id = event["id"].as_str().expect("an id").to_owned();
                        *counts.lock().expect("no panic").entry(id).or_default() += 1;
                        break;
                    }
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
            });
        }
    });
    (url, received)
}

async fn listen(gateway: &Gateway, query: &str) -> WebSocketStream<TcpStream> {
    let address = gateway.address();
    let uri = format!("ws://{address}/v1/events/ws{query}");
    let value = token().parse().expect("a value");
    let request = ClientBuilder::new().uri(&uri).expect("an address");
    let request = request
        .add_header(http::header::AUTHORIZATION, value)
        .expect("allowed");
    let stream = TcpStream::connect(address).await.expect("a connection");
    request.connect_on(stream).await.expect("accepted").0
}

/// The next events of a name, as cursors and identifiers.
async fn next(
    socket: &mut WebSocketStream<TcpStream>,
    name: &str,
    count: usize,
) -> Vec<(String, String)> {
    let wait = async {
        let mut found = Vec::new();
        while found.len() < count {
            let message = socket
                .next()
                .await
                .expect("an open connection")
                .expect("a message");
            let Some(text) = message.as_text() else {
                continue;
            };
            let event: Value = serde_json::from_str(text).expect("JSON");
            if event["type"] == name {
                let text = |key: &str| event[key].as_str().expect("a text").to_owned();
                found.push((text("cursor"), text("id")));
            }
        }
        found
    };
    let found = tokio::time::timeout(Duration::from_secs(60), wait).await;
    found.unwrap_or_else(|_| panic!("no {name}"))
}

#[tokio::test]
async fn two_gateways_deliver_each_event_once_and_share_cursors() {
    let Ok(address) = std::env::var("GATEWAY_TEST_POSTGRES") else {
        println!("skipped: GATEWAY_TEST_POSTGRES is not set");
        return;
    };
    if address.contains("sslmode=require") {
        // An authority that did not issue the certificate.
        let other =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, other.cert.pem()).expect("writable");
        let mut config = Config::default();
        config.listen = ([127, 0, 0, 1], 0).into();
        config.grpc = None;
        config.cluster.urls = vec!["https://127.0.0.1:1".to_owned()];
        config.postgres = Some(address.clone().into());
        config.postgres_ca = Some(ca);
        let refused = Gateway::start(config)
            .await
            .expect_err("its certificate is not trusted");
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
    let configure = |config: &mut Config| {
        config.background = Some(background());
        config.webhooks.allow_internal = true;
        config.limits.write = 0;
        config.postgres = Some(address.into());
        config.postgres_ca = std::env::var_os("GATEWAY_TEST_POSTGRES_CA").map(Into::into);
    };
    let mut simulator = Simulator::builder().node("node1").time_factor(0.0);
    for vmid in 100..120 {
        simulator = simulator.qemu(vmid, "node1", &[("name", "web")]);
    }
    let one = Pair::start(simulator, configure.clone()).await;
    let mut config = Config::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.grpc = None;
    config.cluster.urls = vec![one.simulator.url()];
    config.cluster.fingerprints = vec![one.simulator.fingerprint().to_owned()];
    configure(&mut config);
    let two = Gateway::start(config).await.expect("a second gateway");
    let (url, counts) = receiver().await;
    let webhook =
        json!({ "name": "once", "url": url, "events": ["vm.started"], "secret": "of-the-webhook" });
    let answer = one.send("POST /v1/webhooks", &webhook.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());

    let (mut left, mut right) = (listen(&one.gateway, "").await, listen(&two, "").await);
    // Until the first event arrives, the gateways may not watch yet.
    one.send("POST /api2/json/nodes/node1/qemu/100/status/start", "")
        .await;
    let first = next(&mut left, "vm.started", 1).await;
    assert_eq!(first, next(&mut right, "vm.started", 1).await);
    for vmid in 101..110 {
        one.send(
            &format!("POST /api2/json/nodes/node1/qemu/{vmid}/status/start"),
            "",
        )
        .await;
    }
    let events = next(&mut left, "vm.started", 9).await;
    assert_eq!(events, next(&mut right, "vm.started", 9).await);
    // A cursor of one gateway is valid at the other.
    let middle = &events[3].0;
    let mut again = listen(&two, &format!("?cursor={middle}")).await;
    assert_eq!(next(&mut again, "vm.started", 5).await, events[4..]);

    // The watching gateway stops; the other continues from the same position.
    let Pair { simulator, gateway } = one;
    gateway.stop().await;
    let pve = proxmox_api::Client::builder(simulator.url())
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .build()
        .expect("complete");
    for vmid in 110..120 {
        pve.guest(vmid)
            .start()
            .await
            .expect("accepted")
            .wait()
            .await
            .expect("started");
    }
    let more = next(&mut right, "vm.started", 10).await;
    let all: Vec<&String> = [&first, &events, &more]
        .into_iter()
        .flatten()
        .map(|(_, id)| id)
        .collect();
    let wait = async {
        while counts.lock().expect("no panic").len() < all.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // A claim of a delivery is valid for longer than this, so the first gateway left none behind.
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("all are delivered");
    two.stop().await;
    let counts = counts.lock().expect("no panic").clone();
    let expected: BTreeMap<String, usize> = all.into_iter().map(|id| (id.clone(), 1)).collect();
    assert_eq!(counts, expected);
}
