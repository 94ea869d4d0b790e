//! Attacks on the gateway, by callers and by anybody who can reach it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::{Answer, Pair, background, token};
use proxmox_simulator::Simulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn pair(change: impl FnOnce(&mut proxmox_gateway::Config)) -> Pair {
    let simulator = Simulator::builder()
        .node("node1")
        .qemu(100, "node1", &[("name", "web"), ("scsi0", "local-lvm:8")])
        .user("mallory@pve", "mallory-password")
        .time_factor(0.0);
    Pair::start(simulator, change).await
}

fn guess(number: u32) -> String {
    format!("Authorization: PVEAPIToken=root@pam!test={number:08}-2222-3333-4444-555555555555")
}

async fn statuses(pair: &Pair, requests: impl Iterator<Item = (String, Vec<String>)>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (request, headers) in requests {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        statuses.push(pair.send_with(&request, &headers, "").await.status);
    }
    statuses
}

fn count(statuses: &[u16], expected: u16) -> usize {
    statuses
        .iter()
        .filter(|status| **status == expected)
        .count()
}

#[tokio::test]
async fn endpoints_without_authentication_prove_no_credentials() {
    let pair = pair(|config| config.limits.authentication = 3).await;
    let open = (0..20).map(|n| ("GET /api2/json/openapi.json".to_owned(), vec![guess(n)]));
    let open = statuses(&pair, open).await;
    assert_eq!(count(&open, 200), 20, "{open:?}");
    let guesses = (0..20).map(|n| ("GET /api2/json/nodes".to_owned(), vec![guess(n)]));
    let guesses = statuses(&pair, guesses).await;
    assert_eq!(
        (count(&guesses, 401), count(&guesses, 429)),
        (3, 17),
        "{guesses:?}"
    );
    let by_v1 = (30..34).map(|n| ("GET /v1/webhooks".to_owned(), vec![guess(n)]));
    assert_eq!(count(&statuses(&pair, by_v1).await, 429), 4);
}

/// Includes calls of the gateway that would succeed for any authenticated caller.
#[tokio::test]
async fn no_call_succeeds_with_credentials_that_the_cluster_refuses() {
    let pair = pair(|config| {
        config.limits.authentication = 0;
        config.limits.bulk = 0;
        config.background = Some(background());
        config.vclusters = Some(proxmox_gateway::VclustersConfig::new(100, "1.28.0"));
    })
    .await;
    let mut number = 0;
    for (request, body) in [
        ("GET /api2/json/version", ""),
        ("GET /api2/extjs/version", ""),
        ("GET /api2/json/cluster/resources?sort=name", ""),
        ("GET /v1/webhooks", ""),
        (
            "POST /v1/webhooks",
            r#"{"name": "x", "url": "https://example.org/"}"#,
        ),
        ("GET /v1/webhooks/wh-0", ""),
        ("DELETE /v1/webhooks/wh-0", ""),
        ("GET /v1/templates", ""),
        ("POST /v1/templates", r#"{"source_vmid": 100, "name": "x"}"#),
        ("GET /v1/vclusters", ""),
        ("POST /v1/vclusters", r#"{"name": "x"}"#),
        ("DELETE /v1/vclusters/vc-100", ""),
        ("GET /v1/nodes/node1/metrics", ""),
        ("GET /v1/events", ""),
        (
            "POST /v1/batch/vms/action",
            r#"{"action": "start", "vmids": [100]}"#,
        ),
        (
            "POST /v1/batch/vms/action",
            r#"{"action": "start", "vmids": [999], "options": {"wait": false}}"#,
        ),
    ] {
        let ticket = "Cookie: PVEAuthCookie=PVE:root@pam:6789ABCD::c2lnbmF0dXJl";
        number += 1;
        for headers in [
            vec![guess(number)],
            vec![
                ticket.to_owned(),
                "CSRFPreventionToken: 6789ABCD:x".to_owned(),
            ],
        ] {
            let lines: Vec<&str> = headers.iter().map(String::as_str).collect();
            let answer = pair.send_with(request, &lines, body).await;
            assert_eq!(answer.status, 401, "{request}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_new_login_does_not_give_a_new_quota() {
    let pair = pair(|config| config.limits.write = 3).await;
    let mut taken = Vec::new();
    for _ in 0..5 {
        let login = pair.login("root@pam", "password").await.json();
        let of = |name: &str| login["data"][name].as_str().expect("a text").to_owned();
        let cookie = format!("Cookie: PVEAuthCookie={}", of("ticket"));
        let csrf = format!("CSRFPreventionToken: {}", of("CSRFPreventionToken"));
        let reset = "POST /api2/json/nodes/node1/qemu/100/status/start";
        let answer = pair.send_with(reset, &[&cookie, &csrf], "").await;
        taken.push(answer.header("x-ratelimit-remaining").to_owned());
        assert_eq!(answer.status == 429, taken.len() > 3, "{taken:?}");
    }
    assert_eq!(taken, ["2", "1", "0", "0", "0"]);
    // A token of the same user shares the quota; another user has a separate one.
    assert_eq!(pair.send("DELETE /api2/json/pools/x", "").await.status, 429);
    let login = pair.login("mallory@pve", "mallory-password").await.json();
    let of = |name: &str| login["data"][name].as_str().expect("a text").to_owned();
    let cookie = format!("Cookie: PVEAuthCookie={}", of("ticket"));
    let csrf = format!("CSRFPreventionToken: {}", of("CSRFPreventionToken"));
    let pools = "DELETE /api2/json/pools/x";
    assert_ne!(
        pair.send_with(pools, &[&cookie, &csrf], "").await.status,
        429
    );
}

#[tokio::test]
async fn forged_credentials_give_no_extra_quota_for_endpoints_without_authentication() {
    let pair = pair(|config| config.limits.read = 5).await;
    let open = (0..20).map(|n| ("GET /api2/json/openapi.json".to_owned(), vec![guess(n)]));
    let open = statuses(&pair, open).await;
    assert_eq!((count(&open, 200), count(&open, 429)), (5, 15), "{open:?}");
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let pair = pair(|config| {
        config.limits.connections = 4;
        config.background = Some(background());
    })
    .await;
    let connect = async || {
        let stream = TcpStream::connect(pair.gateway.address()).await;
        stream.expect("a connection")
    };
    // Upgraded connections count, too.
    let mut listening = connect().await;
    let request = format!(
        "GET /v1/events/ws HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token()
    );
    listening.write_all(request.as_bytes()).await.expect("sent");
    let mut start = [0; 12];
    listening.read_exact(&mut start).await.expect("answered");
    assert_eq!(&start, b"HTTP/1.1 101");
    let idle = [connect().await, connect().await, connect().await];
    let is_closed = async || matches!(connect().await.read(&mut [0]).await, Ok(0) | Err(_));
    assert!(is_closed().await && is_closed().await);
    for earlier in &idle {
        let read = earlier.try_read(&mut [0]);
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::WouldBlock), "closed for being idle");
    }
    drop((idle, listening));
    let served = async {
        let mut answer = Vec::new();
        // The gateway needs some time to notice that the connections are closed.
        while !answer.starts_with(b"HTTP/1.1 200") {
            answer.clear();
            let mut stream = connect().await;
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(request).await;
            let _ = stream.read_to_end(&mut answer).await;
        }
    };
    let freed = tokio::time::timeout(Duration::from_secs(60), served).await;
    freed.expect("the places are free again");
}

#[tokio::test]
async fn concurrent_readiness_requests_share_a_check() {
    let pair = pair(|_| {}).await;
    pair.simulator.clear_requests();
    let began = Instant::now();
    let asking = (0..100).map(|_| pair.send_with("GET /readyz", &[], ""));
    let answers = futures_util::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let rounds = usize::try_from(began.elapsed().as_secs()).expect("few") + 1;
    let requests = pair.simulator.requests().len();
    assert!(requests <= rounds, "{requests} requests");
}

#[tokio::test]
async fn only_a_trusted_proxy_sets_the_address_of_a_request() {
    let login = |from: &str| {
        let headers = vec![
            "Content-Type: application/x-www-form-urlencoded".to_owned(),
            format!("X-Forwarded-For: {from}"),
        ];
        let request = "POST /api2/json/access/ticket?username=root@pam&password=wrong";
        (request.to_owned(), headers)
    };
    for (trusted, from, refused) in [
        // Without trusted proxies, all requests come from one address.
        (vec![], ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"], 2),
        (
            vec!["127.0.0.1"],
            ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"],
            0,
        ),
        // Entries before that of the last proxy are the caller's own claim.
        (
            vec!["127.0.0.0/8"],
            [
                "1.1.1.1, 9.9.9.9",
                "2.2.2.2, 9.9.9.9",
                "9.9.9.9",
                "4.4.4.4,9.9.9.9",
            ],
            2,
        ),
        (
            vec!["10.0.0.0/8"],
            ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"],
            2,
        ),
    ] {
        let pair = pair(|config| {
            config.limits.authentication = 2;
            config.trusted_proxies = trusted.iter().map(|&text| text.to_owned()).collect();
        })
        .await;
        let statuses = statuses(&pair, from.into_iter().map(login)).await;
        assert_eq!(count(&statuses, 429), refused, "{trusted:?}: {statuses:?}");
    }
}

#[tokio::test]
async fn the_logged_caller_is_the_acting_caller() {
    let pair = pair(|_| {}).await;
    let mut tickets = Vec::new();
    for (user, password) in [
        ("mallory@pve", "mallory-password"),
        ("root@pam", "password"),
    ] {
        let answer = pair.login(user, password).await;
        let data = &answer.json()["data"];
        tickets.push(data["ticket"].as_str().expect("a ticket").to_owned());
    }
    let [mallory, root] = [0, 1].map(|at| format!("PVEAuthCookie={}", tickets[at]));
    for headers in [
        vec![format!("Cookie: a {mallory}; {root}")],
        vec![format!("Cookie: {mallory}"), format!("Cookie: {root}")],
        vec![format!("Cookie: {mallory}; {root}")],
        vec![
            format!("Cookie: {mallory}"),
            format!("Authorization: {root}"),
        ],
        vec![
            format!("Cookie: {mallory}"),
            format!("Authorization: {}", token()),
        ],
    ] {
        pair.simulator.clear_requests();
        let lines: Vec<&str> = headers.iter().map(String::as_str).collect();
        pair.send_with("GET /api2/json/access/permissions", &lines, "")
            .await;
        let users: Vec<_> = pair
            .simulator
            .requests()
            .into_iter()
            .map(|request| request.user)
            .collect();
        assert_eq!(users, [Some("mallory@pve".to_owned())]);
    }
}

/// Sends bytes, and reads until the other side closes the connection.
async fn until_closed(
    address: SocketAddr,
    pieces: &[&[u8]],
    pause: Duration,
) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let stream = TcpStream::connect(address).await;
    let (mut reader, mut writer) = stream.expect("a connection").into_split();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        // A connection that stays open has not ended.
        std::future::pending::<()>().await;
        drop(writer);
    });
    let mut answer = Vec::new();
    let closed =
        tokio::time::timeout(Duration::from_secs(40), reader.read_to_end(&mut answer)).await;
    writing.abort();
    assert!(
        closed.is_ok(),
        "it is still open after {:?}",
        began.elapsed()
    );
    (answer, began.elapsed())
}

#[tokio::test]
async fn slow_senders_are_disconnected() {
    let pair = pair(|config| {
        config.body_seconds = 1;
        config.grpc = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let http = pair.gateway.address();
    let grpc = pair.gateway.grpc_address().expect("it is served");
    let put = format!(
        "PUT /api2/json/nodes/node1/qemu/100/config HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: 100\r\n\r\n",
        token()
    );
    let drip: Vec<&[u8]> =
        b"GET /api2/json/version HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
            .chunks(1)
            .collect();
    let nothing: [&[u8]; 0] = [];
    let stalled = [put.as_bytes(), b"des".as_slice()];
    let upload = format!(
        "POST /api2/json/nodes/node1/storage/local/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000000000\r\n\r\n--b\r\n",
        token()
    );
    let upload = [upload.as_bytes()];
    let second = Duration::from_millis(500);
    let preface: Vec<&[u8]> = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r".chunks(1).collect();
    let (silent, slow, nothing, drip, stalled, upload) = tokio::join!(
        until_closed(grpc, &nothing, second),
        until_closed(grpc, &preface, second),
        until_closed(http, &nothing, second),
        until_closed(http, &drip, second),
        until_closed(http, &stalled, second),
        until_closed(http, &upload, second),
    );
    for (name, (answer, took)) in [
        ("nothing over gRPC", silent),
        ("the start of gRPC", slow),
        ("nothing", nothing),
        ("a head", drip),
        ("a body", stalled),
        ("an upload", upload),
    ] {
        println!("{name}: {took:?}, {}", String::from_utf8_lossy(&answer));
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{name}");
    }
    assert!(
        pair.simulator
            .requests()
            .iter()
            .all(|request| request.path != "/nodes/node1/qemu/100/config")
    );
}

#[tokio::test]
async fn ambiguous_framing_makes_no_second_request() {
    let pair = pair(|_| {}).await;
    let secret = token();
    let hidden = "GET /api2/json/cluster/status HTTP/1.1\r\nHost: x\r\n\r\n";
    let long = format!("{}0\r\n\r\n{hidden}", "F".repeat(17));
    let with_trailers =
        format!("0\r\nAuthorization: x\r\nContent-Length: 9\r\nHost: evil\r\n\r\n{hidden}");
    for (head, body) in [
        (
            "Transfer-Encoding: chunked, identity\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: identity, chunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: \x0bchunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding:\r\n chunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        ("Content-Length: 0, 52\r\n", hidden.to_owned()),
        ("Content-Length: -1\r\n", hidden.to_owned()),
        ("Content-Length: 0x0\r\n", hidden.to_owned()),
        (
            "Content-Length: 18446744073709551616\r\n",
            hidden.to_owned(),
        ),
        ("Transfer-Encoding: chunked\r\n", long.clone()),
        (
            "Transfer-Encoding: chunked\r\n",
            format!("-0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            format!("0;\n\r\n\r\n{hidden}"),
        ),
        ("Transfer-Encoding: chunked\r\n", with_trailers.clone()),
        (
            "Upgrade: websocket\r\nContent-Length: 52\r\n",
            hidden.to_owned(),
        ),
        (
            "Expect: 100-continue\r\nContent-Length: 52\r\n",
            hidden.to_owned(),
        ),
        ("X: a\0b\r\n", String::new()),
        ("X\0: b\r\n", String::new()),
        ("X: a\rTransfer-Encoding: chunked\r\n", String::new()),
    ] {
        pair.simulator.clear_requests();
        let text = format!(
            "PUT /api2/json/nodes/node1/qemu/100/config HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
             Authorization: {secret}\r\n{head}\r\n{body}"
        );
        let _ = raw(&pair, text.as_bytes()).await;
        let requests: Vec<String> = pair
            .simulator
            .requests()
            .into_iter()
            .map(|request| request.path)
            .collect();
        assert!(requests.len() <= 1, "{head:?}: {requests:?}");
        assert!(
            !requests.iter().any(|path| path.contains("cluster")),
            "{head:?}: {requests:?}"
        );
    }
}

/// As [`Pair::raw`], but an answer is not required.
async fn raw(pair: &Pair, bytes: &[u8]) -> Option<Answer> {
    let stream = TcpStream::connect(pair.gateway.address()).await;
    let mut stream = stream.expect("a connection");
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it is answered or closed");
    let has_head = answer.windows(4).any(|four| four == b"\r\n\r\n");
    has_head.then(|| Answer::parse(&answer))
}

#[tokio::test]
async fn only_allowed_header_fields_reach_the_cluster() {
    let pair = pair(|_| {}).await;
    let secret = format!("Authorization: {}", token());
    // A header of the caller must not become one of the connection to the cluster.
    for header in [
        "Connection: close, authorization",
        "TE: trailers",
        "Host: evil",
        "X-HTTP-Method-Override: DELETE",
        "X-Original-URL: /api2/json/cluster/status",
        "X-Rewrite-URL: /api2/json/cluster/status",
        "Forwarded: for=1.1.1.1;host=evil",
        "X-Forwarded-Host: evil",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "Accept-Encoding: gzip;q=0",
    ] {
        pair.simulator.clear_requests();
        let answer = pair
            .send_with("GET /api2/json/version", &[&secret, header], "")
            .await;
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
        let requests = pair.simulator.requests();
        assert!(
            requests.len() == 1 && requests[0].path == "/version" && requests[0].method == "GET",
            "{header}: {requests:?}"
        );
    }
    for path in [
        "/api2/json/nodes/node1/%2e%2e/%2e%2e/cluster/status",
        "/api2/json/nodes/node1/..%2f..%2fcluster/status",
        "/api2/json/nodes/node1%2f..%2f../cluster/status",
        "/api2/json/nodes/node1/qemu/100/config%0d%0aX:%20y",
        "/api2/json/nodes/node1/qemu/100/config%20HTTP/1.1%0d%0a",
        "//api2/json/cluster/status",
        "/api2/../api2/json/cluster/status",
        "/api2/json/../../../../../etc/passwd",
        "/v1/../api2/json/cluster/status",
        "/v1/webhooks/..%2f..%2fapi2",
        "/v1/nodes/..%2f..%2fcluster%2fstatus/metrics",
    ] {
        pair.simulator.clear_requests();
        let answer = pair.send(&format!("GET {path}"), "").await;
        assert!(
            answer.status >= 400,
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let requests = pair.simulator.requests();
        let leaves = |path: &str| path == "/cluster/status";
        assert!(
            !requests
                .iter()
                .any(|request| request.status == 200 && leaves(&request.path)),
            "{path}: {requests:?}"
        );
    }
}
