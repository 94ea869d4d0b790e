//! What the log shows with everything turned on, of the gateway and of all below it: a line for each change, and not one
//! secret.

mod common;

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use common::{Pair, token};
use futures_util::StreamExt;
use proxmox_api::Client;
use proxmox_gateway::Background;
use proxmox_gateway::gpve::v1::ListGuestsRequest;
use proxmox_gateway::gpve::v1::guest_service_client::GuestServiceClient;
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{ClientBuilder, Message};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// All that was logged, whichever way.
static LOG: Mutex<String> = Mutex::new(String::new());

fn note(line: fmt::Arguments<'_>) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(log, "{line}");
}

struct Everything;

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        note(format_args!("{}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut line = Line(format!("{}:", attributes.metadata().target()));
        attributes.record(&mut line);
        note(format_args!("{}", line.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("recorded:".to_owned());
        values.record(&mut line);
        note(format_args!("{}", line.0));
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        note(format_args!("{}", line.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A text in the forms that a log may show it in: plain, as bytes, percent-encoded, and as Base64 from wherever it begins.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let mut forms = vec![
        secret.to_owned(),
        bytes.escape_ascii().to_string(),
        format!("{bytes:?}").replace(['[', ']'], ""),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string(),
    ];
    for offset in 0..3 {
        let padded = [&[0; 2][..offset], bytes].concat();
        let digits = STANDARD_NO_PAD.encode(&padded);
        let whole = (offset * 8).div_ceil(6)..padded.len() * 8 / 6;
        forms.push(digits[whole].to_owned());
    }
    forms
}

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

/// Listens to events until one is told. The handshake is complete, and messages go both ways.
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
    // Until the gateway watches, what is done is no event.
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
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
    told.expect("an event");
    let _ = futures_util::SinkExt::close(&mut socket).await;
}

/// Does this and that with secrets, and gives them.
async fn work(pair: &Pair) -> Vec<String> {
    let form = "Content-Type: application/x-www-form-urlencoded";
    let wrong = "username=root%40pam&password=password-of-nobody";
    let _ = pair
        .send_with("POST /api2/json/access/ticket", &[form], wrong)
        .await;
    let login = "username=alice%40pve&password=planted-pa55word";
    let login = pair
        .send_with("POST /api2/json/access/ticket", &[form], login)
        .await
        .json();
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

    // A console: its ticket stands in the query, and what is typed in its messages.
    let url = format!("http://{}", pair.gateway.address());
    let alice = Client::builder(url).password("alice@pve", "planted-pa55word");
    let alice = alice.build().expect("a client");
    let mut terminal = (alice.lxc_console("node1", 101).terminal().await).expect("a console");
    terminal.write(b"echo typed-secret\r").await.expect("typed");
    let mut shown = String::new();
    while shown.matches("typed-secret").count() < 2 {
        let piece = terminal.read().await.expect("open").expect("not over");
        shown += &String::from_utf8_lossy(&piece);
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
async fn no_log_holds_a_secret_and_each_change_has_a_line() {
    log::set_logger(&Everything).expect("the first one");
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(Everything).expect("the first one");
    let simulator = Simulator::builder()
        .node("node1")
        .qemu(100, "node1", &[("name", "web"), ("scsi0", "local-lvm:8")])
        .lxc(101, "node1", &[("rootfs", "local-lvm:8")])
        .running(101)
        .user("alice@pve", "planted-pa55word")
        .acl("/", "alice@pve", "Administrator")
        .time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        let mut own = Background::new(format!("{TOKEN_ID}={TOKEN_SECRET}"));
        own.interval_milliseconds = 20;
        config.background = Some(own);
        config.webhooks.allow_internal = true;
        config.limits.write = 0;
        config.grpc = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let secrets = work(&pair).await;
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    // It does see what is logged.
    for target in ["proxmox_api:", "rustls::", "hyper_util::", "h2::", "audit:"] {
        assert!(log.contains(target), "nothing of {target}");
    }
    let audit = log
        .lines()
        .filter(|line| line.starts_with("audit:"))
        .count();
    assert!(audit >= 3, "{audit}");
    assert!(log.contains("user=\"root@pam!test\""));
    println!("{} lines, {} secrets", log.lines().count(), secrets.len());
    for secret in &secrets {
        for form in forms(secret) {
            assert!(form.len() > 4, "{form}");
            if let Some(at) = log.find(&form) {
                let start = log[..at].rfind('\n').map_or(0, |end| end + 1);
                let line = log[start..].lines().next();
                panic!("{form} of {secret} is logged: {line:?}");
            }
        }
    }
}
