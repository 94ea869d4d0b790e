//! The client with scripted answers, and with a socket where single bytes matter.

mod deadlines;
mod login;
mod settings;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::send::{BODY_LIMIT, OLD_BODY_LIMIT};
use super::*;
use crate::client::auth::AuthErrorKind;
use crate::client::call::Call;
use crate::client::environment::from_variables;
use crate::client::hosts::Base;
use crate::client::retry::RetryPolicy;
use crate::error::{ApiError, Error, ErrorKind, RequestErrorKind, WaitingFor};
use crate::testing::{Fake, TOKEN_SECRET, json, ok};
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;
use crate::value::Secret;
use crate::value::encode::ParamValue;
use crate::value::endpoint::{Endpoint, Method, Permission};

const PASSWORD: &str = "pa55-word";
const RENEWAL: u64 = 60 * 60;
static NEEDS_TICKET: Endpoint = Endpoint::new(Method::Put, "/access/password", Permission::World)
    .ticket_only()
    .secrets(&["password"]);

fn call(method: Method, path: &str, params: &[(&'static str, &str)]) -> Call {
    let mut call = Call::new(method, path);
    for (key, value) in params {
        call.params.set(*key, ParamValue::One((*value).to_owned()));
    }
    call
}

/// A clock that stands still until the test moves it.
#[derive(Clone, Default)]
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let seconds = Arc::clone(&self.0);
        move || UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds.load(Ordering::SeqCst))
    }
}

fn login_answer(number: usize) -> String {
    format!(
        r#"{{"data":{{"username":"root@pam","ticket":"PVE:root@pam:6B49D200::sig{number}+/==",
            "CSRFPreventionToken":"6B49D200:csrf{number}"}}}}"#
    )
}

/// Issues a new ticket for each login and accepts every other request with `{"data":null}`.
fn accepting_server() -> Fake {
    let mut logins = 0;
    Fake::new(move |request| {
        if request.path == "/api2/json/access/ticket" {
            logins += 1;
            return ok(login_answer(logins));
        }
        ok(r#"{"data":null}"#)
    })
}

fn with_password(fake: &Fake, clock: &ManualClock) -> Client {
    Client::builder("pve1")
        .password("root@pam", PASSWORD)
        .transport(Arc::new(fake.clone()))
        .retry(RetryPolicy::none())
        .clock(clock.clock())
        .build()
        .expect("the settings are complete")
}

fn with_ticket(fake: &Fake, clock: &ManualClock) -> Client {
    Client::builder("pve1")
        // Issued at 1800000000 by the server's clock, where the clock of the tests starts.
        .ticket("PVE:root@pam:6B49D200::given+", Some("csrf".into()))
        .transport(Arc::new(fake.clone()))
        .retry(RetryPolicy::none())
        .clock(clock.clock())
        .build()
        .expect("the ticket has the right form")
}

fn logins(fake: &Fake) -> usize {
    fake.lines()
        .iter()
        .filter(|line| line.ends_with("/access/ticket"))
        .count()
}

fn body(request: &WireRequest) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

#[tokio::test]
async fn parameters_are_sent_where_the_server_reads_them() {
    let fake = accepting_server();
    let client = fake.token_client();
    let params = [("net0", "virtio,bridge=vmbr0"), ("name", "a&b;c+d")];
    for method in [Method::Get, Method::Post, Method::Put, Method::Delete] {
        client
            .execute(call(method, "/nodes/pve1/qemu", &params))
            .await
            .expect("accepted");
    }
    client
        .execute(call(Method::Post, "/nodes/pve1/qemu", &[]))
        .await
        .expect("accepted");

    let encoded = "net0=virtio%2Cbridge%3Dvmbr0&name=a%26b%3Bc%2Bd";
    let requests = fake.requests();
    for request in [&requests[0], &requests[3]] {
        assert_eq!(
            request.path,
            format!("/api2/json/nodes/pve1/qemu?{encoded}")
        );
        assert!(request.body.is_empty() && request.header("content-type").is_none());
    }
    for request in &requests[1..3] {
        assert_eq!(request.path, "/api2/json/nodes/pve1/qemu");
        assert_eq!(body(request), encoded);
        assert_eq!(
            request.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
    }
    assert!(requests[4].body.is_empty() && requests[4].header("content-type").is_none());
}

/// Lets a renewal in the background end.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn unauthenticated_calls_send_no_credentials() {
    let fake = accepting_server();
    with_password(&fake, &ManualClock::default())
        .execute(call(Method::Get, "/access/domains", &[]))
        .await
        .expect("accepted");
    fake.token_client()
        .execute(call(
            Method::Post,
            "/access/ticket",
            &[("username", "a@pve")],
        ))
        .await
        .expect("accepted");
    let requests = fake.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("cookie"), None);
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn a_body_beyond_the_servers_limit_is_not_sent() {
    let fake = accepting_server();
    let client = with_password(&fake, &ManualClock::default());
    let room = BODY_LIMIT - "description=".len();
    let text = "x".repeat(room);
    client
        .execute(call(Method::Post, "/x", &[("description", &text)]))
        .await
        .expect("it just fits");
    let sent = fake.lines().len();
    let text = "x".repeat(room + 1);
    let error = client
        .execute(call(Method::Post, "/x", &[("description", &text)]))
        .await;
    assert_eq!(
        error.expect_err("one byte too many").to_string(),
        "POST /x #3: not sent: the parameters take 524289 bytes, the server reads 524288"
    );
    assert_eq!(fake.lines().len(), sent);
}

#[tokio::test]
async fn older_servers_have_a_lower_limit_on_bodies() {
    let server = |release: &'static str| {
        Fake::new(move |request| match request.path.as_str() {
            "/api2/json/version" => ok(format!(r#"{{"data":{{"release":"{release}"}}}}"#)),
            _ => ok(r#"{"data":null}"#),
        })
    };
    let text = "x".repeat(OLD_BODY_LIMIT);
    let long = || call(Method::Post, "/x", &[("description", &text)]);
    let version = || Call::new(Method::Get, "/version");
    for (release, fits) in [("7.4", false), ("8.3", false), ("8.4", true), ("9.2", true)] {
        let fake = server(release);
        let client = fake.token_client();
        client.execute(long()).await.expect("nothing is known yet");
        client.execute(version()).await.expect("answered");
        let result = client.execute(long()).await;
        assert_eq!(result.is_ok(), fits, "{release}");
        if let Err(error) = result {
            assert_eq!(
                error.to_string(),
                "POST /x #3: not sent: the parameters take 65548 bytes, the server reads 65536"
            );
        }
        let exact = "x".repeat(OLD_BODY_LIMIT - "description=".len());
        let exact = call(Method::Post, "/x", &[("description", &exact)]);
        client.execute(exact).await.expect("it just fits");
    }
    let fake = server("8.3");
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", TOKEN_SECRET)
        .transport(Arc::new(fake.clone()))
        .check_availability(true)
        .build()
        .expect("complete");
    let error = client.execute(long()).await.expect_err("asked for first");
    assert!(matches!(error, Error::Request(_)), "{error}");
    assert_eq!(fake.lines(), ["GET /api2/json/version"]);
}

#[tokio::test]
async fn a_refusal_of_a_large_body_is_recognized() {
    let fake = Fake::new(|_| Ok(json(501, "for data too large", "for data too large\n")));
    let error = fake
        .token_client()
        .execute(call(Method::Post, "/x", &[]))
        .await;
    let error = error.expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::TooLarge));
    assert_eq!(
        error.to_string(),
        "POST /x #1: 501 for data too large (a server before 8.4 reads 64 KiB of parameters, a later one 512)"
    );
}

#[tokio::test]
async fn requests_are_numbered_and_errors_have_the_number() {
    let clock = ManualClock::default();
    let fake = Fake::new(|request| match request.path.as_str() {
        "/api2/json/access/ticket" => ok(login_answer(1)),
        "/api2/json/version" => ok(r#"{"data":{}}"#),
        "/api2/json/reset" => Err(TransportError::interrupted("reset")),
        _ => Ok(json(500, "no", "")),
    });
    let client = with_password(&fake, &clock);
    let mut numbers = Vec::new();
    // The login has the second number: the call that needs it has the first.
    for (path, shown) in [
        ("/refused", "GET /refused #1: 500 no"),
        ("/reset", "GET /reset #3: no usable answer"),
        ("/a/../b", "GET /a/../b #4: not sent"),
    ] {
        let error = client.clone().execute(Call::new(Method::Get, path)).await;
        let error = error.expect_err("it cannot work");
        assert!(error.to_string().starts_with(shown), "{error}");
        let name = format!("\"{}\"", shown.split(": ").next().expect("a name"));
        assert!(format!("{error:?}").contains(&name), "{error:?}");
        numbers.push(error.request_id());
    }
    let error = client.version().get().await.expect_err("it tells nothing");
    assert!(matches!(error, Error::Decode(_)), "{error}");
    assert!(
        error.to_string().starts_with("GET /version #5: "),
        "{error}"
    );
    numbers.push(error.request_id());
    assert_eq!(numbers, [Some(1), Some(3), Some(4), Some(5)]);

    let refused = Fake::new(|_| Ok(json(401, "no", r#"{"message":"authentication failure\n"}"#)));
    let error = with_password(&refused, &clock).login().await;
    let error = error.expect_err("a wrong password");
    assert_eq!(error.request_id(), Some(1));
    assert!(
        error.to_string().starts_with("POST /access/ticket #1: "),
        "{error}"
    );
    let error = Client::builder("").build().expect_err("no address");
    assert_eq!(error.request_id(), None);
}

#[tokio::test]
async fn decode_errors_name_the_real_path() {
    let fake = Fake::new(|_| ok(r#"{"data":"x"}"#));
    let client = fake.token_client();
    let error = client.task(
        "UPID:pve1:00000001:00000002:00000003:x:100:root@pam:"
            .parse()
            .expect("a UPID"),
    );
    let error = error.status().await.expect_err("no status");
    let path = "GET /nodes/pve1/tasks/UPID:pve1:00000001:00000002:00000003:x:100:root@pam:/status";
    assert_eq!(error.endpoint(), Some(path));
    let error = client.version().get().await.expect_err("no object");
    assert_eq!(error.endpoint(), Some("GET /version"));
}

#[tokio::test]
async fn values_of_a_wrong_type_are_not_quoted() {
    let fake = Fake::new(|_| ok(r#"{"data":{"size":"PLANTED"}}"#));
    let client = fake.token_client();
    let call = client.request::<std::collections::BTreeMap<String, u64>>(Method::Get, "/x");
    let error = call.await.expect_err("no number");
    let text = format!("{error} {error:?}");
    assert!(text.contains("expected u64, found string"), "{text}");
    assert!(!text.contains("PLANTED"), "{text}");
}

#[tokio::test]
async fn a_path_that_would_reach_another_endpoint_is_not_sent() {
    let fake = accepting_server();
    let client = fake.token_client();
    for path in [
        "/nodes//qemu",
        "/pools/",
        "/nodes/../access",
        "/nodes/%2e%2E/access",
        "/nodes/./qemu",
        "/nodes?x=1",
        "/nodes#x",
        "/no des",
        "/nodes/ä",
        "nodes",
        "",
    ] {
        let error = client
            .execute(call(Method::Delete, path, &[]))
            .await
            .expect_err(path);
        assert!(matches!(error, Error::Request(_)), "{path}: {error}");
    }
    assert!(fake.lines().is_empty());
    for path in [
        "/",
        "/nodes/pve1/tasks/UPID:pve1:0:0:0:x::root@pam!t:/log",
        "/a/..b/%2Fc",
    ] {
        client
            .execute(call(Method::Get, path, &[]))
            .await
            .expect(path);
    }
    let invalid = Call {
        invalid: Some(Box::new(RequestErrorKind::Path {
            problem: "the path value `node` is empty".into(),
        })),
        ..call(Method::Get, "/nodes", &[])
    };
    let error = client.execute(invalid).await.expect_err("not sent");
    assert_eq!(
        error.to_string(),
        "GET /nodes #15: not sent: the path value `node` is empty"
    );
}

#[tokio::test]
async fn a_web_page_is_not_an_answer() {
    let fake = Fake::new(|_| {
        let mut page = json(200, "OK", "<!doctype html><title>Sign in</title>");
        page.headers = vec![("Content-Type".into(), "text/html; charset=utf-8".into())];
        Ok(page)
    });
    let error = fake
        .token_client()
        .execute(call(Method::Get, "/version", &[]))
        .await;
    let error = error.expect_err("no JSON");
    assert_eq!(error.kind(), Some(ErrorKind::NotTheApi));
    assert_eq!(
        error.to_string(),
        "GET /version #1: 200 answered with the web page \"Sign in\"; is this address a Proxmox VE API?"
    );
}

#[tokio::test]
async fn files_outside_the_api_are_fetched_without_credentials() {
    let fake = Fake::new(|_| ok("const apiSchema = []"));
    let client = fake.token_client();
    let reply = client
        .fetch("/pve-docs/api-viewer/apidoc.js")
        .await
        .expect("accepted");
    assert_eq!(reply.body, "const apiSchema = []");
    let [request] = &fake.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.path, "/pve-docs/api-viewer/apidoc.js");
    assert_eq!(request.header("authorization"), None);

    let missing = Fake::new(|_| Ok(json(404, "Not Found", "")));
    let error = missing.token_client().fetch("/x?key=hunter22").await;
    let error = error.expect_err("it is not there");
    assert_eq!(error.endpoint(), Some("GET /x"));
    assert_eq!(missing.lines(), ["GET /x?key=hunter22"]);
}

#[tokio::test]
async fn fetched_files_are_below_the_servers_address() {
    let fake = accepting_server();
    let client = fake.token_client();
    for path in [
        "@127.0.0.9:1/x",
        ".example.org/x",
        "",
        "x",
        "/../x",
        "//example.org/x",
        "/x#y",
        "/x?y z",
        "/x\r\nHost: y",
    ] {
        let error = client.fetch(path).await.expect_err(path);
        assert!(matches!(error, Error::Request(_)), "{error}");
    }
    assert!(fake.lines().is_empty());
    client.fetch("/pve2/ext/all.js?ver=1").await.expect("sent");
}

#[tokio::test]
async fn no_text_shows_a_secret() {
    let fake = Fake::new(|request| {
        if request.path.ends_with("/access/ticket") {
            return ok(login_answer(1));
        }
        // A server that quotes everything it received.
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        let message = format!(
            "{} {}",
            headers.join(" "),
            String::from_utf8_lossy(&request.body)
        );
        Ok(json(
            500,
            "no",
            serde_json::json!({"message": message, "errors": {"password": message}}).to_string(),
        ))
    });
    let clock = ManualClock::default();
    let token = fake.token_client();
    let password = with_password(&fake, &clock);
    let builder = Client::builder("https://u:hunter22@pve1").api_token("root@pam!ci", TOKEN_SECRET);
    let change = Call {
        endpoint: Some(&NEEDS_TICKET),
        ..call(Method::Put, "/access/password", &[("password", "hunter22")])
    };
    let saved = password.login().await.map(|()| password.save_session());
    let saved = saved.expect("accepted").await.expect("logged in");
    let answer = crate::client::auth::TfaAnswer::totp("hunter22");
    let furnished = Client::builder("pve1")
        .password("root@pam", PASSWORD)
        .proxy("http://u:hunter22@proxy")
        .header("X-Key", "hunter22");
    let furnished = (
        format!("{furnished:?}"),
        furnished.build().expect("complete"),
    );
    let mut texts = vec![format!(
        "{token:?} {password:?} {builder:?} {change:?} {saved:?} {answer:?} {furnished:?} {:?}",
        Secret::from("hunter22")
    )];
    let ticket = with_ticket(&fake, &clock);
    for client in [token, password, ticket] {
        texts.push(format!("{client:?}"));
        for call in [change.clone(), call(Method::Get, "/version", &[])] {
            let error = client.execute(call).await.expect_err("refused");
            texts.push(format!("{error} {error:?}"));
        }
    }
    for text in texts {
        for secret in [
            TOKEN_SECRET,
            PASSWORD,
            "hunter22",
            "sig1",
            "csrf1",
            "given",
            "Cookie=P",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn everything_is_send() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let client = accepting_server().token_client();
    shared(&client);
    sent(&client.login());
    sent(&client.fetch("/"));
    let task = client.task("UPID:pve1:0:0:0:x::root@pam:".parse().expect("a UPID"));
    shared(&task);
    sent(&task.wait().outcome());
    sent(&std::future::IntoFuture::into_future(task.wait()));
    sent(&Error::config("x"));
}

/// Without any runtime: an exchange that is answered at once uses no timer.
#[test]
fn a_call_without_waits_needs_no_runtime() {
    let client = accepting_server().token_client();
    let mut sent = client.execute(call(Method::Get, "/nodes", &[]));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // The scripted server lets others go first some times.
    let mut polls = (0..1000).map(|_| sent.as_mut().poll(&mut context));
    let ready = polls.find(std::task::Poll::is_ready);
    assert!(
        matches!(ready, Some(std::task::Poll::Ready(Ok(_)))),
        "{ready:?}"
    );
}
