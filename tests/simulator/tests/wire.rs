//! The bytes on the wire: framing, reason phrases, logins, refusals.

use std::time::Duration;

use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET, releases};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Wire, ask, ask_with, login};

const VERSION: &str = "GET /api2/json/version HTTP/1.1\r\nHost: x\r\n";

fn token() -> String {
    format!("Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n")
}

async fn pve() -> Simulator {
    Simulator::builder()
        .time_factor(0.0)
        .start()
        .await
        .expect("starts")
}

#[tokio::test]
async fn refused_logins_have_their_text_in_the_reason_phrase_only() {
    let pve = pve().await;
    let ticket = login(&pve, "root@pam", ROOT_PASSWORD).await;
    let cookie = ticket.lines().next().expect("a cookie");
    for (method, headers, reason) in [
        ("GET", String::new(), "No ticket"),
        (
            "GET",
            "Authorization: PVEAPIToken=root@pam!test=bad\r\n".into(),
            "Authentication failed!",
        ),
        (
            "GET",
            "Cookie: PVEAuthCookie=junk\r\n".into(),
            "Authentication failed!",
        ),
        // An expired cookie takes precedence over a valid token.
        (
            "GET",
            format!("Cookie: PVEAuthCookie=junk\r\n{}", token()),
            "Authentication failed!",
        ),
        (
            "POST",
            format!("{cookie}\r\n"),
            "Permission denied - invalid csrf token",
        ),
    ] {
        let mut wire = Wire::open(&pve).await;
        wire.send(
            format!("{method} /api2/json/access/groups HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
                .as_bytes(),
        )
        .await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.reason.as_str()), (401, reason));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.all("connection"), ["close"]);
        assert!(wire.rest().await.is_empty());
    }
    let wrong = ask_with(
        &pve,
        "POST",
        "/access/ticket",
        "",
        "username=root%40pam&password=x",
    )
    .await;
    assert_eq!(
        (wrong.status, wrong.reason.as_str()),
        (401, "authentication failure")
    );
    assert_eq!(
        wrong.json(),
        json!({ "data": null, "message": "authentication failure\n" })
    );
}

#[tokio::test]
async fn tickets_expire_and_renew() {
    let clock = Clock::manual(1_800_000_000);
    let pve = Simulator::builder()
        .clock(clock.clone())
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let headers = login(&pve, "root@pam", ROOT_PASSWORD).await;
    let ticket = headers
        .lines()
        .next()
        .and_then(|line| line.split_once("PVEAuthCookie="))
        .map(|(_, ticket)| ticket.replace('+', "%2B").replace('=', "%3D"))
        .expect("a ticket");
    clock.advance(Duration::from_secs(7_200));
    assert_eq!(
        ask_with(&pve, "GET", "/version", &headers, "").await.status,
        200
    );
    let renewed = login(&pve, "root@pam", &ticket).await;
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        ask_with(&pve, "GET", "/version", &headers, "").await.status,
        401
    );
    assert_eq!(
        ask_with(&pve, "GET", "/version", &renewed, "").await.status,
        200
    );
    let form = format!("username=root%40pam&password={ticket}");
    assert_eq!(
        ask_with(&pve, "POST", "/access/ticket", "", &form)
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn second_factor_in_two_steps() {
    let pve = Simulator::builder()
        .user("tfa@pve", "pw")
        .second_factor("tfa@pve", "123456")
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let first = ask_with(
        &pve,
        "POST",
        "/access/ticket",
        "",
        "username=tfa%40pve&password=pw",
    )
    .await
    .data();
    assert_eq!(first["NeedTFA"], 1);
    assert!(first["cap"].is_null());
    let challenge = first["ticket"].as_str().expect("a challenge");
    let escaped =
        percent_encoding::utf8_percent_encode(challenge, percent_encoding::NON_ALPHANUMERIC);
    let cookie = format!("Cookie: PVEAuthCookie={escaped}\r\n");
    assert_eq!(
        ask_with(&pve, "GET", "/version", &cookie, "").await.status,
        401
    );
    let step =
        |code: &str| format!("username=tfa%40pve&tfa-challenge={escaped}&password=totp%3A{code}");
    assert_eq!(
        ask_with(&pve, "POST", "/access/ticket", "", &step("000000"))
            .await
            .status,
        401
    );
    let second = ask_with(&pve, "POST", "/access/ticket", "", &step("123456"))
        .await
        .data();
    assert!(
        second["ticket"]
            .as_str()
            .is_some_and(|ticket| ticket.starts_with("PVE:tfa@pve:"))
    );
    assert_eq!(second["cap"]["vms"]["VM.Audit"], 1);
}

#[tokio::test]
async fn tokens_do_not_have_all_rights_of_their_users() {
    let pve = pve().await;
    let answer = ask(
        &pve,
        "PUT",
        "/access/password",
        "userid=root%40pam&password=secret12",
    )
    .await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.reason,
        "Permission check failed (URI '/access/password' not available with API token, need proper ticket."
    );
    let root_only = ask(&pve, "DELETE", "/nodes/pve1/qemu/100", "skiplock=1").await;
    assert_eq!(
        root_only.json()["errors"],
        json!({ "skiplock": "Only root may use this option." })
    );
}

#[tokio::test]
async fn privileges_are_checked_and_filter_lists() {
    let pve = Simulator::builder()
        .node("pve1")
        .qemu(100, "pve1", &[("name", "mine")])
        .qemu(101, "pve1", &[("name", "other")])
        .user("bob@pve", "pw")
        .acl("/vms/100", "bob@pve", "PVEVMUser")
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let bob = login(&pve, "bob@pve", "pw").await;
    let list = ask_with(&pve, "GET", "/nodes/pve1/qemu", &bob, "")
        .await
        .data();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["name"], "mine");
    let refused = ask_with(&pve, "GET", "/nodes/pve1/qemu/101/config", &bob, "").await;
    assert_eq!(
        refused.reason,
        "Permission check failed (/vms/101, VM.Audit)"
    );
    assert_eq!(
        ask_with(&pve, "POST", "/nodes/pve1/qemu/100/status/start", &bob, "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn requests_that_the_server_refuses_to_read() {
    let pve = pve().await;
    let auth = token();
    for (request, status, reason, body) in [
        (
            format!(
                "POST /api2/json/pools HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            501,
            "chunked transfer encoding not supported",
            true,
        ),
        (
            format!("GET /api2/json/version HTTP/1.1\r\n{auth}Content-Length: 3\r\n\r\na=1"),
            501,
            "Unexpected content for method 'GET'",
            true,
        ),
        (
            format!("DELETE /api2/json/pools/x HTTP/1.1\r\n{auth}Content-Length: 3\r\n\r\na=1"),
            501,
            "Unexpected content for method 'DELETE'",
            true,
        ),
        (
            format!("HEAD /api2/json/version HTTP/1.1\r\n{auth}\r\n"),
            501,
            "method 'HEAD' not available",
            false,
        ),
        (
            format!("GET /api2/json/version HTTP/2.0\r\n{auth}\r\n"),
            506,
            "http protocol version 2.0 not supported",
            true,
        ),
        (
            format!("GET /foo HTTP/1.1\r\n{auth}\r\n"),
            500,
            "no such file '/foo'",
            true,
        ),
        (
            format!("GET /api2/xml/version HTTP/1.1\r\n{auth}\r\n"),
            501,
            "no formatter for uri /version, xml",
            true,
        ),
        (
            format!(
                "POST /api2/json/pools HTTP/1.1\r\n{auth}Content-Type: text/plain\r\nContent-Length: 3\r\n\r\na=1"
            ),
            506,
            "upload 'Content-Type 'text/plain' not implemented",
            true,
        ),
        (
            format!("POST /api2/json/pools HTTP/1.1\r\n{auth}Content-Length: 524289\r\n\r\na"),
            501,
            "for data too large",
            true,
        ),
        (
            format!("{VERSION}{auth}bad header: x\r\n\r\n"),
            506,
            "unable to parse request header",
            true,
        ),
    ] {
        let mut wire = Wire::open(&pve).await;
        wire.send(request.as_bytes()).await;
        let answer = wire.answer().await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (status, reason),
            "{request}"
        );
        let expected = if body { reason } else { "" };
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
        assert_eq!(answer.header("content-length").is_some(), body);
        assert_eq!(answer.all("connection"), ["close"]);
    }
}

#[tokio::test]
async fn at_most_sixty_two_header_fields_are_accepted() {
    let pve = Simulator::builder()
        .idle_timeout(Duration::from_millis(200))
        .start()
        .await
        .expect("starts");
    let auth = format!("Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n");
    for (fields, answered) in [(62, true), (63, false)] {
        let filler = "X: y\r\n".repeat(fields - 1);
        let request = format!("GET /api2/json/version HTTP/1.1\r\n{auth}{filler}\r\n");
        let mut wire = Wire::open(&pve).await;
        wire.send(request.as_bytes()).await;
        assert_eq!(wire.try_answer().await.is_some(), answered, "{fields}");
    }
}

#[tokio::test]
async fn connections_end_without_a_tls_close_notify() {
    let pve = pve().await;
    let mut wire = Wire::open(&pve).await;
    let request = "GET /api2/json/version HTTP/1.1\r\nConnection: close\r\n\r\n";
    wire.send(request.as_bytes()).await;
    assert_eq!(wire.answer().await.status, 401);
    assert!(wire.ends_abruptly().await);
}

#[tokio::test]
async fn unknown_calls_in_the_extjs_format() {
    let pve = pve().await;
    let nope = ask(&pve, "GET", "/nope", "").await;
    assert_eq!(
        (nope.status, nope.reason.as_str()),
        (501, "Method 'GET /nope' not implemented")
    );
    assert_eq!(
        nope.json(),
        json!({ "data": null, "message": "Method 'GET /nope' not implemented" })
    );
    let mut wire = Wire::open(&pve).await;
    let request = format!(
        "POST /api2/extjs/nodes/pve1/qemu HTTP/1.1\r\n{}Content-Length: 6\r\n\r\nvmid=5",
        token()
    );
    wire.send(request.as_bytes()).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.reason.as_str()), (200, "OK"));
    let body = answer.json();
    assert_eq!(
        (&body["success"], &body["status"]),
        (&json!(0), &json!("400"))
    );
    assert_eq!(
        body["errors"]["vmid"],
        "invalid format - value does not look like a valid VM ID\n"
    );
}

#[tokio::test]
async fn connections_live_until_idle_or_a_hundred_requests() {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .idle_timeout(Duration::from_secs(1))
        .start()
        .await
        .expect("starts");
    let mut idle = Wire::open(&pve).await;
    idle.send(format!("{VERSION}{}\r\n", token()).as_bytes())
        .await;
    let answer = idle.answer().await;
    assert_eq!(answer.all("connection"), ["Keep-Alive"]);
    assert!(idle.rest().await.is_empty(), "closed without another word");

    let mut crowded = Wire::open(&pve).await;
    let many: String = (0..64).map(|n| format!("X-{n}: 1\r\n")).collect();
    crowded
        .send(format!("{VERSION}{}{many}\r\n", token()).as_bytes())
        .await;
    assert!(
        crowded.rest().await.is_empty(),
        "too many headers are not answered"
    );

    let pve = Simulator::builder()
        .time_factor(0.0)
        .idle_timeout(Duration::from_secs(60))
        .start()
        .await
        .expect("starts");
    let mut busy = Wire::open(&pve).await;
    for n in 1..=100 {
        busy.send(format!("{VERSION}{}\r\n", token()).as_bytes())
            .await;
        let expected = if n < 100 { "Keep-Alive" } else { "close" };
        assert_eq!(
            busy.answer().await.all("connection"),
            [expected],
            "request {n}"
        );
    }

    let mut daemon = Wire::open(&pve).await;
    daemon
        .send(format!("GET /api2/json/nodes/pve1/qemu HTTP/1.1\r\n{}\r\n", token()).as_bytes())
        .await;
    assert_eq!(
        daemon.answer().await.all("connection"),
        ["close", "Keep-Alive"]
    );
    daemon
        .send(format!("{VERSION}{}\r\n", token()).as_bytes())
        .await;
    assert_eq!(daemon.answer().await.status, 200, "still open");
}

#[tokio::test]
async fn compression_on_request() {
    let pve = pve().await;
    for (path, encoding, expected) in [
        ("/access/roles", "gzip, deflate", Some("gzip")),
        ("/access/roles", "deflate", Some("deflate")),
        ("/access/roles", "br", None),
        ("/version", "gzip", None),
    ] {
        let headers = format!("{}Accept-Encoding: {encoding}\r\n", token());
        let answer = ask_with(&pve, "GET", path, &headers, "").await;
        assert_eq!(
            answer.header("content-encoding"),
            expected,
            "{path} {encoding}"
        );
    }
}

#[tokio::test]
async fn plain_http_is_redirected_to_https() {
    let pve = pve().await;
    for (method, reason) in [
        ("GET", "301 Moved Permanently"),
        ("POST", "308 Permanent Redirect"),
    ] {
        let mut tcp = TcpStream::connect(pve.address()).await.expect("listening");
        tcp.write_all(format!("{method} /x HTTP/1.1\r\nHost: example.org:8006\r\n\r\n").as_bytes())
            .await
            .expect("open");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("text");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {reason}\r\n")),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nLocation: https://example.org:8006/x\r\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn the_format_of_an_answer_depends_on_the_release() {
    let old = Simulator::builder()
        .release("8.3")
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let answer = ask(&old, "GET", "/nodes/pve1/qemu/999/config", "").await;
    assert_eq!(
        answer.reason,
        "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
    );
    assert_eq!(answer.json(), json!({ "data": null }));
    let refused = ask(&old, "POST", "/nodes/pve1/qemu", "vmid=5").await.json();
    assert!(refused.get("message").is_none());
    assert!(refused["errors"]["vmid"].is_string());

    let oldest = Simulator::builder()
        .release("7.4")
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let joined = ask(&oldest, "GET", "/nodes/pve1/tasks", "limit=1&limit=2")
        .await
        .json();
    assert_eq!(
        joined["errors"]["limit"],
        "type check ('integer') failed - got '1\u{0}2'"
    );
    let new = pve().await;
    let list = ask(&new, "GET", "/nodes/pve1/tasks", "limit=1&limit=2")
        .await
        .json();
    assert_eq!(
        list["errors"]["limit"],
        "type check ('integer') failed - got ARRAY"
    );
    assert_eq!(
        ask(&oldest, "GET", "/version", "").await.data()["release"],
        "7.4"
    );
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let pve = pve().await;
    let answer = ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=5&cores=x&bogus=1&memory=abc&scsihw=none&cpulimit=129&net0=bridge%3Dvmbr0&agent=maybe&node=pve9").await;
    assert_eq!(
        answer.json()["errors"],
        json!({ "node": "duplicate parameter (already defined in URI) with conflicting values!" })
    );
    let form = "vmid=5&cores=x&bogus=1&memory=abc&scsihw=none&cpulimit=129&net0=bridge%3Dvmbr0&agent=maybe&net32=virtio\
                &description=".to_owned()
        + &"d".repeat(8193);
    let answer = ask(&pve, "POST", "/nodes/pve1/qemu", &form).await;
    assert_eq!(answer.reason, "Parameter verification failed.");
    let unknown =
        "property is not defined in schema and the schema does not allow additional properties";
    assert_eq!(
        answer.json()["errors"],
        json!({
            "vmid": "invalid format - value does not look like a valid VM ID\n",
            "cores": "type check ('integer') failed - got 'x'",
            "memory": "invalid format - format error\nmemory.current: type check ('integer') failed - got 'abc'\n",
            "scsihw": "value 'none' does not have a value in the enumeration \
                       'lsi, lsi53c810, virtio-scsi-pci, virtio-scsi-single, megasas, pvscsi'",
            "cpulimit": "value must have a maximum value of 128",
            "net0": "invalid format - format error\nnet0.model: property is missing and it is not optional\n",
            "agent": "invalid format - format error\nagent.enabled: type check ('boolean') failed - got 'maybe'\n",
            "bogus": unknown,
            "net32": unknown,
            "description": "value may only be 8192 characters long",
        })
    );
    let upload = ask(
        &pve,
        "POST",
        "/nodes/pve1/storage/local/download-url",
        "content=iso&filename=a.iso&url=https%3A%2F%2Fx&checksum=00",
    )
    .await;
    assert_eq!(
        upload.json()["errors"],
        json!({ "checksum-algorithm": "missing property required by 'checksum'" })
    );
    assert_eq!(
        ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=300&tags=a&tags=b")
            .await
            .status,
        200,
        "repeated keys make a list"
    );
}

#[tokio::test]
async fn unknown_nodes_are_reported() {
    let pve = Simulator::builder()
        .node("pve1")
        .offline_node("pve2")
        .time_factor(0.0)
        .start()
        .await
        .expect("starts");
    let down = ask(&pve, "GET", "/nodes/pve2/qemu", "").await;
    assert_eq!(
        (down.status, down.reason.as_str()),
        (595, "Connection refused")
    );
    assert!(down.header("content-length").is_none());
    let unknown = ask(&pve, "GET", "/nodes/nosuch/qemu", "").await;
    assert!(
        unknown
            .reason
            .starts_with("hostname lookup 'nosuch' failed - "),
        "{unknown}"
    );
    assert_eq!(
        ask(&pve, "GET", "/nodes/localhost/qemu", "").await.data(),
        json!([])
    );
    pve.set_online("pve2", true);
    assert_eq!(ask(&pve, "GET", "/nodes/pve2/qemu", "").await.status, 200);
}

#[tokio::test]
async fn recorded_requests_do_not_print_secrets() {
    let pve = pve().await;
    login(&pve, "root@pam", ROOT_PASSWORD).await;
    ask(&pve, "GET", "/nodes/pve1/tasks", "limit=3").await;
    let requests = pve.requests();
    let last = requests.last().expect("recorded");
    assert_eq!(
        (last.method.as_str(), last.path.as_str(), last.status),
        ("GET", "/nodes/pve1/tasks", 200)
    );
    assert_eq!(last.params, json!({ "limit": "3" }));
    assert_eq!(last.user.as_deref(), Some(TOKEN_ID));
    assert_eq!(requests[0].params["password"], ROOT_PASSWORD);
    let debug = format!("{:?}", requests[0]);
    assert!(
        debug.contains("root@pam") && debug.contains("\"password\": String(\"…\")"),
        "{debug}"
    );
    pve.clear_requests();
    assert!(pve.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_are_served_at_once() {
    let pve = std::sync::Arc::new(pve().await);
    let clients: Vec<_> = (0..40)
        .map(|n| {
            let pve = std::sync::Arc::clone(&pve);
            tokio::spawn(async move {
                let form = format!("vmid={}&name=vm{n}", 200 + n);
                ask(&pve, "POST", "/nodes/pve1/qemu", &form).await.status
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.expect("no panic"), 200);
    }
    let list = ask(&pve, "GET", "/nodes/pve1/qemu", "").await.data();
    assert_eq!(list.as_array().map(Vec::len), Some(40));
}

#[test]
fn a_server_starts_without_a_runtime() {
    let pve = Simulator::builder().start_blocking().expect("starts");
    let answer = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { ask(&pve, "GET", "/version", "").await });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn an_unknown_release_is_refused() {
    let error = Simulator::builder()
        .release("6.4")
        .start()
        .await
        .expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!(
            "release 6.4 is not known; there are {}",
            releases().join(", ")
        )
    );
}

#[tokio::test]
async fn formats_other_than_json_work() {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .idle_timeout(Duration::from_millis(300))
        .start()
        .await
        .expect("starts");
    let get = |path: &'static str, auth: String| {
        let pve = &pve;
        async move {
            let mut wire = Wire::open(pve).await;
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{auth}\r\n").as_bytes())
                .await;
            wire.answer().await
        }
    };
    let page = get("/api2/html/version", token()).await;
    assert_eq!(page.header("content-type"), Some("text/html;charset=UTF-8"));
    let text = String::from_utf8(page.body).expect("text");
    assert!(
        text.contains(&format!(
            "&quot;release&quot;: &quot;{}&quot;",
            proxmox_simulator::newest_release()
        )),
        "{text}"
    );
    let login = get("/api2/html/nodes", String::new()).await;
    assert_eq!(
        (login.status, login.header("location")),
        (301, Some("/api2/html/access/ticket"))
    );
    let form = get("/api2/html/access/ticket", String::new()).await;
    assert!(String::from_utf8_lossy(&form.body).contains("<form"));
    let nothing = get("/api2/png/version", token()).await;
    assert_eq!(
        (
            nothing.status,
            nothing.header("content-type"),
            nothing.header("content-length")
        ),
        (200, Some("image/png"), None)
    );
    let file = get("/api2/spiceconfig/version", token()).await;
    assert!(file.body.starts_with(b"[virt-viewer]\n"));
}

#[tokio::test]
async fn a_one_time_code_at_login_is_checked_but_not_enough() {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .user("tfa@pve", "tfapass")
        .second_factor("tfa@pve", "123456")
        .start()
        .await
        .expect("starts");
    for (code, status) in [("123456", 200), ("000000", 401)] {
        let form = format!("username=tfa%40pve&password=tfapass&otp={code}");
        let answer = ask_with(&pve, "POST", "/access/ticket", "", &form).await;
        assert_eq!(answer.status, status, "{answer}");
        if status == 200 {
            assert_eq!(answer.data()["NeedTFA"], 1);
        }
    }
}

#[tokio::test]
async fn the_explorer_and_the_openapi_document_need_no_login() {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .release("8.0")
        .start()
        .await
        .expect("starts");
    let get = |path: &'static str| {
        let pve = &pve;
        async move {
            let mut wire = Wire::open(pve).await;
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                .await;
            wire.answer().await
        }
    };
    let moved = get("/api-explorer").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/api-explorer/"))
    );
    let page = get("/api-explorer/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=UTF-8")
    );
    let text = String::from_utf8(page.body).expect("text");
    assert!(text.len() < 3_000_000, "{} bytes", text.len());
    // The page also has releases that are newer than the simulated one.
    assert!(text.contains("\"/cluster/ha/rules\""));
    let document = get("/api2/json/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let path = |path: &str| document["paths"].get(path).is_some();
    assert!(path("/nodes/{node}/qemu/{vmid}/config"));
    assert!(!path("/cluster/ha/rules"), "8.0 has none");

    // The dump of the simulated release, at its usual address: importing it gives the same facts.
    let dump = get("/pve-docs/api-viewer/apidoc.js").await;
    assert_eq!(dump.header("content-type"), Some("application/javascript"));
    let origin = proxmox_codegen::apidoc::Origin {
        product: &proxmox_codegen::product::PVE,
        release: "8.0".parse().expect("a release"),
        package_version: None,
    };
    let facts = proxmox_codegen::apidoc::parse(&dump.body, &origin).expect("a dump");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/pve/8.0.json");
    let committed = std::fs::read_to_string(file).expect("the release is tracked");
    let committed = proxmox_codegen::facts_json::read(&committed).expect("facts");
    assert!(facts.endpoints == committed.endpoints && facts.formats == committed.formats);
}
