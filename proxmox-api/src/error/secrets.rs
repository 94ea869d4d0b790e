//! Every kind of error, and every type that holds a secret, from servers that repeat the whole
//! request in every encoding: no secret is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Error;
use crate::bounds::Bounds;
use crate::client::path::PathNode;
use crate::client::request::{Request, reply};
use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::task::{Task, read_task};
use crate::testing::{Fake, Script, json, ok};
use crate::transport::{TransportError, WireRequest, WireResponse};
use crate::value::endpoint::{Endpoint, Method, Permission};
use crate::value::upid::Upid;
use crate::{Secret, Value};

const UPID: &str = "UPID:pve1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam!ci:";
/// The start of every planted secret, so that the start of a truncated one is found, too.
const START: &str = "pl4nted";
const TOKEN: &str = "pl4nted-s3cret-of-a-t0ken";
const HEADER: &str = "pl4nted, of a header/of (my own)";

/// The names of secrets, from the schema's list.
fn names() -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Overlay {
        secret: Entries,
    }

    #[derive(serde::Deserialize)]
    struct Entries {
        names: BTreeMap<String, String>,
    }

    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../schema/pve/overlay/secrets.toml"
    );
    let text = std::fs::read_to_string(path).expect("the overlay is there");
    let overlay: Overlay = toml::from_str(&text).expect("it is TOML");
    overlay.secret.names.into_keys().collect()
}

/// A secret with characters that each encoding writes differently.
fn planted(name: &str) -> String {
    format!("{START} {name}/+\"ä&=%<€")
}

/// A secret in all forms in which a server can repeat it.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).expect("a text");
    let ascii = json.chars().map(|c| match c.is_ascii() {
        true => c.to_string(),
        false => format!("\\u{:04x}", u32::from(c)),
    });
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let hex = |upper: bool| -> String {
        let digit = |byte: u8| match upper {
            true => format!("{byte:02X}"),
            false => format!("{byte:02x}"),
        };
        secret.bytes().map(digit).collect()
    };
    let html = secret
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&#34;");
    let mut forms = vec![
        secret.to_owned(),
        secret.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        percent.replace("%20", "+"),
        percent,
        ascii.collect(),
        json,
        html,
        hex(false),
        hex(true),
    ];
    for before in ["", "a", "ab"] {
        forms.push(STANDARD.encode(format!("{before}{secret}")));
        forms.push(URL_SAFE.encode(format!("{before}{secret}: x")));
    }
    forms
}

/// The texts that must not be found: the start of a secret in all encodings.
fn traces() -> Vec<String> {
    let mut traces: Vec<String> = forms(START);
    traces.retain(|trace| trace.len() > START.len());
    traces.push(START.to_owned());
    // The digits of base64 that do not depend on the bytes before and after.
    for offset in 0..3 {
        let padded = [&[0; 2][..offset], START.as_bytes()].concat();
        let digits = STANDARD_NO_PAD.encode(&padded);
        traces.push(digits[(offset * 8).div_ceil(6)..padded.len() * 8 / 6].to_owned());
    }
    let trimmed = traces
        .iter()
        .map(|trace| trace.trim_matches('"').trim_end_matches('='));
    trimmed.map(str::to_owned).collect()
}

/// Everything that the server received with a request, in all forms, the unusual ones first,
/// because a truncated text cannot be found.
fn repeated(request: &WireRequest) -> String {
    let mut secrets = vec![HEADER.to_owned()];
    let by_token = request.header("authorization").is_some();
    secrets.push(match by_token {
        true => TOKEN.to_owned(),
        false => planted("login"),
    });
    let sent = format!(
        "{} {}",
        request.path,
        String::from_utf8_lossy(&request.body)
    );
    // Answers about a task quote the call that began the task.
    if sent.contains("cipassword") || request.path.contains("/tasks/") {
        secrets.extend(names().iter().map(|name| planted(name)));
    }
    let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let third = forms.len() / 3;
    forms.rotate_left(third);
    forms.join(" | ")
}

/// Answers by the end of the path, quoting the request.
fn answer(request: &WireRequest) -> Result<WireResponse, TransportError> {
    let quoted = &*repeated(request);
    let path = request.path.split('?').next().unwrap_or_default();
    let refusal = |status, reason| {
        let body = serde_json::json!({
            "data": null, "message": quoted, "errors": { quoted: quoted, "password": quoted },
        });
        Ok(json(status, reason, body.to_string()))
    };
    let with_header = |status, name: &str, value: &str, body: String| {
        let mut answer = json(status, "x", body);
        answer.headers = vec![(name.to_owned(), value.to_owned())];
        Ok(answer)
    };
    let end = path.rsplit('/').next().unwrap_or_default();
    match end {
        "refused" => refusal(400, "Parameter verification failed."),
        "unauthorized" => refusal(401, "no"),
        "phrase" => {
            let mut answer = json(500, "", "");
            answer.reason = quoted.to_owned().into();
            Ok(answer)
        }
        "moved" => with_header(301, "Location", quoted, String::new()),
        "page" => {
            let page = format!("<html><title>{quoted}</title><body>{quoted}</body></html>");
            with_header(200, "Content-Type", "text/html", page)
        }
        "broken" => ok(format!(
            "{{\"data\": {}",
            serde_json::json!({ quoted: quoted })
        )),
        "shape" => ok(serde_json::json!({ "data": { quoted: { "x": quoted } } }).to_string()),
        "deep" => ok(serde_json::json!({ "data": [[[[quoted]]]] }).to_string()),
        "lost" => Err(TransportError::interrupted("connection reset")),
        "late" => Err(TransportError::timed_out(Duration::from_secs(1))),
        "nowhere" => Err(TransportError::never_sent("connection refused")),
        "begin" => ok(serde_json::json!({ "data": UPID }).to_string()),
        "odd-begin" => ok(serde_json::json!({ "data": quoted }).to_string()),
        "log" => {
            ok(serde_json::json!({ "data": [{ "n": 1, "t": quoted }], "total": 1 }).to_string())
        }
        "status" => {
            let status = serde_json::json!({ "status": "stopped", "exitstatus": quoted });
            ok(serde_json::json!({ "data": status }).to_string())
        }
        "ticket" => refusal(401, "authentication failure"),
        "file-read" | "file-write" | "ping" => {
            let error = serde_json::json!({ "class": quoted, "desc": quoted });
            ok(serde_json::json!({ "data": { "result": { "error": error } } }).to_string())
        }
        "resources" => {
            let row = serde_json::json!({
                "id": "qemu/100", "type": "qemu", "vmid": 100, "node": "pve1", "name": "x",
            });
            ok(serde_json::json!({ "data": [row] }).to_string())
        }
        other => panic!("{other}"),
    }
}

static ENDPOINT: Endpoint = Endpoint::new(Method::Post, "/x", Permission::Authenticated);

struct Texts {
    client: Client,
    shallow: Client,
    by_password: Client,
    errors: Vec<(String, Error)>,
    texts: Vec<(String, String)>,
}

fn builder(fake: &Fake) -> ClientBuilder {
    Client::builder("pve1")
        .transport(Arc::new(fake.clone()))
        .retry(RetryPolicy::none())
        .header("X-Gate", HEADER)
}

impl Texts {
    /// A request with a secret under each name that is a secret's.
    fn request<T>(&self, end: &str, request: Request<T>) -> Request<T> {
        let mut request = request;
        for name in names() {
            request = request.param(&*name, planted(&name));
        }
        request.call.path = format!("/{end}");
        request
    }

    fn untyped(&self, end: &str) -> Request<Value> {
        self.request(end, self.client.request(Method::Post, "/x"))
    }

    fn add_debug(&mut self, what: &str, value: &dyn fmt::Debug) {
        self.texts
            .push((what.to_owned(), format!("{value:?} {value:#?}")));
    }

    fn failed<T: fmt::Debug>(&mut self, what: &str, result: Result<T, Error>) {
        match result {
            Err(error) => self.errors.push((what.to_owned(), error)),
            Ok(value) => panic!("{what}: {value:?}"),
        }
    }
}

/// The variant's name. A new variant does not compile until it is added here and made below.
fn variant(error: &Error) -> &'static str {
    match error {
        Error::Api(_) => "Api",
        Error::Connect(_) => "Connect",
        Error::Interrupted(_) => "Interrupted",
        Error::Timeout(_) => "Timeout",
        Error::Exceeded(_) => "Exceeded",
        Error::Decode(_) => "Decode",
        Error::Auth(_) => "Auth",
        Error::Task(_) => "Task",
        Error::Request(_) => "Request",
        Error::Config(_) => "Config",
        Error::Unscripted(_) => "Unscripted",
        Error::Detached(_) => "Detached",
        Error::Local(_) => "Local",
        Error::Upid(_) => "Upid",
        Error::Guest(_) => "Guest",
        Error::Work(_) => "Work",
        Error::Unfinished(_) => "Unfinished",
        Error::Delivery(_) => "Delivery",
    }
}

const VARIANTS: usize = 18;

async fn calls(texts: &mut Texts) {
    for end in [
        "refused",
        "unauthorized",
        "phrase",
        "moved",
        "page",
        "broken",
        "lost",
        "late",
        "nowhere",
    ] {
        let result = texts.untyped(end).await;
        texts.failed(end, result);
        let result = texts.untyped(end).stream().await.map(|_| ());
        match result {
            Err(error) => texts.errors.push((format!("{end}, as a stream"), error)),
            Ok(()) => assert!(matches!(end, "broken" | "page"), "{end}"),
        }
        let request = texts.untyped(end);
        texts.add_debug(end, &request);
        texts.add_debug(end, request.call());
    }
    let at = PathNode::root(Some(&texts.client)).literal("x");
    let typed: Request<BTreeMap<String, i64>> = at.request(&ENDPOINT, reply::data);
    let result = texts.request("shape", typed).await;
    texts.failed("a shape", result);
    let typed = at.request::<BTreeMap<String, Vec<BTreeMap<String, bool>>>>(&ENDPOINT, reply::data);
    let result = texts.request("shape", typed).await;
    texts.failed("another shape", result);
    let shallow = texts.shallow.clone();
    let result = texts.untyped("deep").with_client(&shallow).await;
    texts.failed("too deep", result);
    let detached = texts.untyped("refused");
    let detached = Request {
        client: None,
        ..detached
    };
    let result = detached.await;
    texts.failed("no client", result);
    let too_much = texts.untyped("refused").param("x", "x".repeat(1 << 20));
    let result = too_much.await;
    texts.failed("too much", result);
    let script = Script::new().client().expect("complete");
    let result = texts.untyped("refused").with_client(&script).await;
    texts.failed("not in the script", result);
    let page = texts.untyped("page").stream().await;
    let mut file = match page {
        Ok(file) => file,
        Err(_) => texts.untyped("broken").stream().await.expect("a file"),
    };
    texts.add_debug("a file", &file);
    let result = file.save("/nowhere/at/all").await;
    texts.failed("a file that cannot be written", result);
    let text = format!("UPID:pve1:{}", planted("ticket"));
    let result = text.parse::<Upid>().map_err(Error::from);
    texts.failed("a UPID", result);
    let result = texts
        .by_password
        .request::<Value>(Method::Get, "/version")
        .await;
    texts.failed("a login", result);
    let result = texts.by_password.login().await;
    texts.failed("another login", result);
}

async fn tasks(texts: &mut Texts) {
    let at = PathNode::root(Some(&texts.client)).literal("x");
    let start_task =
        |texts: &Texts, end: &str| texts.request(end, at.request::<Task>(&ENDPOINT, read_task));
    let task = start_task(texts, "begin").await.expect("it begins");
    texts.add_debug("a task", &task);
    let result = task.wait().await;
    texts.failed("a task", result);
    let outcome = task.wait().outcome().await.expect("it ended");
    texts.add_debug("an outcome", &outcome);
    let unusual = start_task(texts, "odd-begin").await.expect("it begins");
    let result = unusual.wait().await;
    texts.failed("a task with an unusual name", result);
}

async fn guests(texts: &mut Texts) {
    use crate::manage::webhook::{Deliverer, Webhook};
    use crate::manage::work::{Action, Subject, Track, Work, WorkError};

    /// Fails halfway.
    struct FailingWork(Request<Value>);

    impl Work for FailingWork {
        type Done = Value;

        async fn run(self, _: &Client, track: &Track<'_>) -> Result<Value, Error> {
            let subject = Subject::Other("the half".to_owned());
            track.leave(&subject, "was made");
            let Self(request) = self;
            track
                .act(&subject, Action::Create, async move { request.await })
                .await
        }
    }

    let guest = texts.client.guest(100);
    let result = guest.agent().read_file("/x").await;
    texts.failed("a file of a guest", result);
    let result = guest
        .agent()
        .write_file("/x", planted("login").as_bytes())
        .await;
    texts.failed("a file for a guest", result);
    let work = FailingWork(texts.untyped("refused"));
    let result = texts.client.carry_out(work).await;
    texts.failed("unfinished work", result);
    let problem = WorkError::new(Subject::Node("pve1".to_owned()), "is not there");
    texts.failed::<()>("no work", Err(problem.into()));
    let hidden = utf8_percent_encode(&planted("login"), NON_ALPHANUMERIC).to_string();
    let url = format!("http://127.0.0.1:1/{hidden}?{hidden}");
    let hook = Webhook::new("hook", &url, planted("secret")).expect("allowed");
    texts.add_debug("a webhook", &hook);
    let deliverer = Deliverer::new().expect("complete").attempts(1);
    texts.add_debug("its deliverer", &deliverer);
    let change = crate::manage::events::Change::NodeStatus {
        node: "pve1".to_owned(),
        old: None,
        new: "offline".to_owned(),
    };
    let event = crate::manage::events::Event::new(1_800_000_000, change);
    let result = deliverer.deliver(&hook, &event).await;
    texts.failed("a webhook", result);
    let image = crate::manage::image::Image::url(format!("https://u:{hidden}@x/{hidden}"));
    texts.add_debug("an image", &image);
    texts.add_debug("an image on a node", &image.on("pve1"));
    let mut first = crate::manage::guest::CloudInit::new();
    first = first.user("x").password(planted("cipassword"));
    texts.add_debug("a first user", &first);
}

fn settings(texts: &mut Texts, fake: &Fake) {
    let hidden = utf8_percent_encode(&planted("login"), NON_ALPHANUMERIC).to_string();
    let builders = [
        Client::builder(format!("https://u:{hidden}@pve1")),
        Client::builder("pve1").api_token(format!("root@pam!ci={TOKEN}"), TOKEN),
        Client::builder("pve1").api_token("root@pam", TOKEN),
        Client::builder("pve1").api_token_text(format!("{TOKEN}={TOKEN}")),
        Client::builder("pve1").password("root", planted("login")),
        Client::builder("pve1").ticket(planted("ticket"), Some(planted("csrf").into())),
        Client::builder("pve1").proxy(format!("gopher://u:{hidden}@proxy")),
        Client::builder("pve1").header("X\nY", planted("header")),
        Client::builder("pve1").header("X-Y", format!("{}\r\nZ: z", planted("header"))),
    ];
    for (number, builder) in builders.into_iter().enumerate() {
        texts.add_debug("settings", &builder);
        let result = builder.build();
        texts.failed(&format!("settings {number}"), result);
    }
    let good = [
        builder(fake).api_token("root@pam!ci", TOKEN),
        builder(fake).password("root@pam", planted("login")),
        Client::builder("pve1")
            .api_token("root@pam!ci", TOKEN)
            .proxy(format!("http://u:{hidden}@proxy:3128")),
    ];
    for builder in good {
        texts.add_debug("settings", &builder);
        texts.add_debug("a client", &builder.build().expect("complete"));
    }
    texts.add_debug("a secret", &Secret::from(planted("login")));
    let token = format!("root@pam!ci={TOKEN}").parse::<crate::client::auth::ApiToken>();
    texts.add_debug("a token", &token.expect("a token"));
    texts.add_debug(
        "a code",
        &crate::client::auth::TfaAnswer::totp(planted("otp")),
    );
}

/// All spans and events.
#[derive(Clone, Default)]
struct LogRecorder(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        *self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for LogRecorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        attributes.record(&mut Line(&mut self.0.lock().expect("no panic")));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Line(&mut self.0.lock().expect("no panic")));
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line(&mut self.0.lock().expect("no panic")));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn no_error_and_no_type_shows_a_secret_that_a_server_repeats() {
    let log = LogRecorder::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let fake = Fake::new(answer);
    let mut texts = Texts {
        client: builder(&fake)
            .api_token("root@pam!ci", TOKEN)
            .build()
            .expect("complete"),
        shallow: builder(&fake)
            .api_token("root@pam!ci", TOKEN)
            .bounds(Bounds::new().depth(3))
            .build()
            .expect("complete"),
        by_password: builder(&fake)
            .password("root@pam", planted("login"))
            .build()
            .expect("complete"),
        errors: Vec::new(),
        texts: Vec::new(),
    };
    let clients = (texts.client.clone(), texts.by_password.clone());
    texts.add_debug("clients", &clients);
    calls(&mut texts).await;
    tasks(&mut texts).await;
    guests(&mut texts).await;
    settings(&mut texts, &fake);

    let seen: BTreeSet<&str> = texts
        .errors
        .iter()
        .map(|(_, error)| variant(error))
        .collect();
    assert_eq!(seen.len(), VARIANTS, "{seen:?}");
    for (what, error) in &texts.errors {
        let mut text = format!("{error} {error:?} {error:#?}");
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        texts.texts.push((what.clone(), text));
    }
    let spans = log.0.lock().expect("no panic").clone();
    assert!(spans.contains("template"), "{spans}");
    texts.texts.push(("spans".to_owned(), spans));
    let traces = traces();
    let mut leaks = Vec::new();
    for (what, text) in &texts.texts {
        for trace in &traces {
            if let Some(at) = text.find(trace) {
                let start = text[..at]
                    .char_indices()
                    .rev()
                    .nth(60)
                    .map_or(0, |(at, _)| at);
                let end = text[at..]
                    .char_indices()
                    .nth(60)
                    .map_or(text.len(), |(end, _)| at + end);
                leaks.push(format!("{what}: {trace} in …{}…", &text[start..end]));
            }
        }
    }
    println!(
        "{} texts, {} of them errors",
        texts.texts.len(),
        texts.errors.len()
    );
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
}
