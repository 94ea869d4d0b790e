//! What a program's log shows with everything turned on: of this crate and of all below it, not one secret.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Value};
use proxmox_simulator::{ROOT_PASSWORD, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// A text in all the forms that a log may show it in.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex = |separator: &str| {
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(separator)
    };
    let mut forms = vec![
        secret.to_owned(),
        // As a byte string, and as a list of bytes.
        bytes.escape_ascii().to_string(),
        format!("{bytes:?}").replace(['[', ']'], ""),
        serde_json::to_string(secret)
            .expect("it is JSON")
            .replace('"', ""),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string(),
        hex(""),
        hex(" "),
        hex(":"),
    ];
    // Wherever in a longer text it begins: without the digits that hold bits of its neighbours.
    for offset in 0..3 {
        let padded = [&[0; 2][..offset], bytes].concat();
        let digits = STANDARD_NO_PAD.encode(&padded);
        let whole = (offset * 8).div_ceil(6)..padded.len() * 8 / 6;
        forms.push(digits[whole].to_owned());
    }
    forms
}

const PASSWORD: &str = "pl4nted pa55/w0rd";
const TYPED: &str = "typ3d-into-the-terminal";
const SHOWN: &str = "x7x7x7x7x7x7";
const HEADER: &str = "he4der/of my own";

fn builder(pve: &Simulator) -> ClientBuilder {
    Client::builder(pve.url())
        .fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
        .retry(RetryPolicy::none())
}

/// Logs in, does this and that with secrets, and gives those that came up.
async fn work(pve: &Simulator) -> Vec<String> {
    let root = builder(pve).password("root@pam", ROOT_PASSWORD);
    let root = root.build().expect("complete");
    root.access()
        .users()
        .post("alice@pve")
        .password(PASSWORD)
        .await
        .expect("accepted");
    root.access()
        .acl()
        .put()
        .path("/")
        .roles(["Administrator"])
        .users(["alice@pve"])
        .await
        .expect("accepted");
    let alice = builder(pve)
        .password("alice@pve", PASSWORD)
        .header("X-Gate", HEADER)
        .build()
        .expect("complete");
    let session = alice.save_session().await;
    assert!(session.is_none(), "nobody logged in yet");
    alice.login().await.expect("accepted");
    let session = alice.save_session().await.expect("logged in").to_secret();
    let ticket = (session.expose().lines())
        .find_map(|line| line.strip_prefix("ticket="))
        .expect("it is in there")
        .to_owned();
    let made = alice
        .access()
        .users()
        .userid("alice@pve")
        .token()
        .tokenid("ci")
        .post()
        .await
        .expect("accepted");
    let token = made.value.expose().to_owned();
    let by_token = builder(pve).api_token("alice@pve!ci", token.clone());
    by_token
        .build()
        .expect("complete")
        .request::<Value>(Method::Get, "/version")
        .await
        .expect("accepted");

    let mut terminal = (alice.lxc_console("pve1", 201).terminal().await).expect("accepted");
    terminal
        .write(format!("echo {TYPED}\r").as_bytes())
        .await
        .expect("open");
    let mut shown = String::new();
    while shown.matches(TYPED).count() < 2 {
        let piece = terminal.read().await.expect("open").expect("not over");
        shown += &String::from_utf8_lossy(&piece);
    }
    terminal.write(b"exit\r").await.expect("open");
    while terminal.read().await.expect("open").is_some() {}
    let mut vnc = (alice.qemu_console("pve1", 101).vnc().await).expect("accepted");
    let vnc_password = vnc.password().expose().to_owned();
    let mut version = [0; 12];
    vnc.read_exact(&mut version).await.expect("open");
    vnc.write_all(SHOWN.as_bytes()).await.expect("open");
    vnc.shutdown().await.expect("open");

    // A refusal that quotes, and logins that fail.
    let wrong = "wr0ng-but-nearly-right";
    let refused = builder(pve).password("alice@pve", wrong);
    let refused = refused.build().expect("complete");
    refused.login().await.expect_err("refused");
    let unknown = alice
        .request::<Value>(Method::Put, "/access/password")
        .param("userid", "nobody@pve")
        .param("password", wrong);
    unknown.await.expect_err("refused");
    [
        PASSWORD,
        TYPED,
        SHOWN,
        HEADER,
        wrong,
        &ticket,
        &token,
        &vnc_password,
        "PVEVNC:",
        "PVE:alice",
        "PVE:root",
    ]
    .map(str::to_owned)
    .into()
}

#[tokio::test]
async fn no_crate_logs_a_secret_whatever_is_turned_on() {
    log::set_logger(&Everything).expect("the first one");
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(Everything).expect("the first one");
    let pve = Simulator::builder()
        .node("pve1")
        .qemu(101, "pve1", &[("name", "web")])
        .running(101)
        .lxc(
            201,
            "pve1",
            &[("hostname", "ct"), ("rootfs", "local-lvm:8")],
        )
        .running(201)
        .time_factor(0.0)
        .start()
        .await
        .expect("it starts");
    let secrets = work(&pve).await;
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    // It does see what is logged.
    for target in ["proxmox_api:", "rustls::", "hyper_util::"] {
        assert!(log.contains(target), "nothing of {target}");
    }
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
