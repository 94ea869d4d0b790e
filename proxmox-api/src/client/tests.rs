//! The client with scripted answers, and with a socket where single bytes matter.

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

#[tokio::test]
async fn a_token_needs_no_login_and_no_csrf() {
    let fake = accepting_server();
    fake.token_client()
        .execute(call(Method::Post, "/pools", &[]))
        .await
        .expect("accepted");
    let [request] = &fake.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.origin, "https://pve1:8006");
    assert_eq!(
        request.header("authorization"),
        Some("PVEAPIToken=root@pam!ci=tok3n-s3cret")
    );
    assert_eq!(request.header("cookie"), None);
    assert_eq!(request.header("csrfpreventiontoken"), None);
}

#[tokio::test]
async fn a_password_becomes_a_ticket_and_writes_carry_the_csrf_token() {
    let fake = accepting_server();
    let client = with_password(&fake, &ManualClock::default());
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    client
        .execute(call(Method::Delete, "/pools/p1", &[]))
        .await
        .expect("accepted");

    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(body(&requests[0]), "username=root%40pam&password=pa55-word");
    assert_eq!(requests[0].header("cookie"), None);
    let cookie = Some("PVEAuthCookie=PVE:root@pam:6B49D200::sig1+/==");
    assert_eq!(requests[1].header("cookie"), cookie);
    assert_eq!(requests[1].header("csrfpreventiontoken"), None);
    assert_eq!(requests[2].header("cookie"), cookie);
    assert_eq!(
        requests[2].header("csrfpreventiontoken"),
        Some("6B49D200:csrf1")
    );
    assert_eq!(requests[2].header("authorization"), None);
}

#[tokio::test]
async fn many_calls_at_once_log_in_once_and_renew_once() {
    let fake = accepting_server();
    let clock = ManualClock::default();
    let client = with_password(&fake, &clock);
    for round in 1..=3 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            calls.spawn(client.execute(call(Method::Get, "/version", &[])));
        }
        while let Some(result) = calls.join_next().await {
            result.expect("no panic").expect("accepted");
        }
        assert_eq!(logins(&fake), round);
        clock.forward(RENEWAL);
    }
    let renewal = fake
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("ticket"))
        .nth(1);
    let form = body(&renewal.expect("there were three logins"));
    assert!(
        form.contains("password=PVE%3Aroot%40pam"),
        "the ticket stands in for the password: {form}"
    );
}

const RENEWAL: u64 = 60 * 60;

/// Lets a renewal in the background end.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_ticket_in_use() {
    let away = Arc::new(Mutex::new(false));
    let clock = ManualClock::default();
    let mut number = 0;
    let fake = Fake::new({
        let away = Arc::clone(&away);
        move |request| {
            if !request.path.ends_with("/access/ticket") {
                return ok(r#"{"data":null}"#);
            }
            if *away.lock().expect("no panic") {
                return Err(TransportError::interrupted("reset"));
            }
            number += 1;
            ok(login_answer(number))
        }
    });
    let client = with_password(&fake, &clock);
    let version = || client.execute(call(Method::Get, "/version", &[]));
    version().await.expect("accepted");

    clock.forward(RENEWAL);
    *away.lock().expect("no panic") = true;
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    assert_eq!(
        logins(&fake),
        2,
        "a failed renewal is not tried with every call"
    );
    clock.forward(60);
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    assert_eq!(logins(&fake), 3);

    *away.lock().expect("no panic") = false;
    clock.forward(60);
    version().await.expect("accepted");
    settle().await;
    version().await.expect("accepted");
    let last = fake.requests().pop().expect("requests were sent");
    assert!(
        last.header("cookie")
            .is_some_and(|cookie| cookie.ends_with("sig2+/=="))
    );

    *away.lock().expect("no panic") = true;
    clock.forward(2 * RENEWAL);
    let error = version().await.expect_err("no ticket is valid any more");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
}

#[tokio::test]
async fn a_refused_ticket_is_replaced_once_and_the_call_retried_once() {
    let mut number = 0;
    let fake = Fake::new(move |request| {
        if request.path.ends_with("/access/ticket") {
            number += 1;
            return ok(login_answer(number));
        }
        match request.header("cookie") {
            Some(cookie) if cookie.contains("sig1") => Ok(json(401, "Authentication failed!", "")),
            _ => ok(r#"{"data":1}"#),
        }
    });
    let client = with_password(&fake, &ManualClock::default());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(call(Method::Post, "/pools", &[("poolid", "p")])));
    }
    while let Some(result) = calls.join_next().await {
        result
            .expect("no panic")
            .expect("the second ticket is accepted");
    }
    assert_eq!(logins(&fake), 2);
    let accepted = fake.requests().into_iter().filter(|request| {
        request.path.ends_with("/pools")
            && request.header("csrfpreventiontoken") == Some("6B49D200:csrf2")
            && request
                .header("cookie")
                .is_some_and(|cookie| cookie.contains("sig2"))
    });
    assert_eq!(accepted.count(), 20);
}

#[tokio::test]
async fn a_server_that_refuses_every_ticket_gets_two_attempts() {
    let mut number = 0;
    let fake = Fake::new(move |request| {
        if request.path.ends_with("/access/ticket") {
            number += 1;
            return ok(login_answer(number));
        }
        Ok(json(401, "Permission denied - invalid csrf token", ""))
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Post, "/pools", &[]))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::InvalidCsrf));
    assert_eq!(
        error.to_string(),
        "POST /pools #1: 401 Permission denied - invalid csrf token"
    );
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test]
async fn an_endpoint_that_checks_a_password_itself_causes_no_login() {
    let fake = Fake::new(|request| match request.path.as_str() {
        "/api2/json/access/ticket" => ok(login_answer(1)),
        _ => Ok(json(
            401,
            "permission denied",
            r#"{"data":null,"message":"permission denied\n"}"#,
        )),
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Put, "/access/tfa", &[]))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
    assert_eq!(logins(&fake), 1);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let clock = ManualClock::default();
    let fake = Fake::new(|_| {
        let body = r#"{"data":null,"message":"authentication failure\n"}"#;
        Ok(json(401, "authentication failure", body))
    });
    let client = with_password(&fake, &clock);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(call(Method::Get, "/version", &[])));
    }
    while let Some(result) = calls.join_next().await {
        let error = result.expect("no panic").expect_err("refused");
        assert!(error.never_sent());
        assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
        assert_eq!(
            error.to_string(),
            "POST /access/ticket #21: the server refuses the login of root@pam: authentication failure"
        );
    }
    assert_eq!(logins(&fake), 1);
    clock.forward(30);
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("refused");
    assert_eq!(logins(&fake), 2);
    client.login().await.expect_err("refused");
    assert_eq!(logins(&fake), 3, "an explicit login is sent at once");
}

#[tokio::test]
async fn a_second_factor_is_requested_and_answered() {
    let fake = Fake::new(|request| {
        let form = String::from_utf8_lossy(&request.body);
        match request.path.as_str() {
            "/api2/json/access/ticket" if form.contains("tfa-challenge=") => ok(login_answer(1)),
            "/api2/json/access/ticket" => ok(
                r#"{"data":{"username":"root@pam","NeedTFA":1,"CSRFPreventionToken":"x",
                    "ticket":"PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,1]}:6B49D200::c0de+"}}"#,
            ),
            _ => ok(r#"{"data":null}"#),
        }
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("not yet");
    assert_eq!(
        error.to_string(),
        "GET /version #1: the login of root@pam needs a second factor (recovery, totp)"
    );
    let Error::Auth(error) = error else {
        panic!("a login error")
    };
    let challenge = error.challenge().expect("the server asked");
    assert_eq!(challenge.methods(), ["recovery", "totp"]);

    client
        .answer_tfa(challenge, "totp:123456")
        .await
        .expect("accepted");
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("logged in");
    assert_eq!(
        body(&fake.requests()[1]),
        "username=root%40pam&tfa-challenge=PVE%3A%21tfa%21%7B%22totp%22%253Atrue%2C%22recovery%22%253A\
         %5B0%2C1%5D%7D%3A6B49D200%3A%3Ac0de%2B&password=totp%3A123456"
    );
    assert_eq!(fake.lines().len(), 3);
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

#[tokio::test]
async fn a_given_ticket_is_used_and_renewed() {
    let fake = accepting_server();
    let clock = ManualClock::default();
    let client = with_ticket(&fake, &clock);
    assert_eq!(client.user(), Some("root@pam"));
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    assert_eq!(logins(&fake), 0);
    clock.forward(RENEWAL);
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    settle().await;
    let renewal = (fake.requests().into_iter()).find(|request| request.path.ends_with("ticket"));
    assert_eq!(
        body(&renewal.expect("a renewal")),
        "username=root%40pam&password=PVE%3Aroot%40pam%3A6B49D200%3A%3Agiven%2B"
    );
}

#[tokio::test]
async fn an_expired_given_ticket_has_its_own_error() {
    let fake = Fake::new(|_| Ok(json(401, "Authentication failed!", "")));
    let clock = ManualClock::default();
    let client = with_ticket(&fake, &clock);
    let error = client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("refused");
    assert_eq!(
        error.kind(),
        Some(ErrorKind::Unauthorized),
        "it is young, so something else is wrong with it"
    );
    assert_eq!(fake.lines().len(), 1, "no password to log in again");

    clock.forward(3 * RENEWAL);
    for _ in 0..2 {
        let error = client
            .execute(call(Method::Get, "/version", &[]))
            .await
            .expect_err("refused");
        assert!(
            matches!(&error, Error::Auth(error) if matches!(error.reason(), AuthErrorKind::Expired))
        );
        assert_eq!(error.kind(), Some(ErrorKind::TicketExpired));
    }
    assert_eq!(fake.lines().len(), 2, "one renewal was tried");
}

#[tokio::test]
async fn an_accepted_login_without_a_ticket_is_an_error() {
    let fake = Fake::new(|_| ok(r#"{"data":{"username":"root@pam"}}"#));
    let client = with_password(&fake, &ManualClock::default());
    let error = client.login().await.expect_err("no ticket came");
    assert_eq!(
        error.to_string(),
        "the login of root@pam was accepted but gave no ticket"
    );
}

static NEEDS_TICKET: Endpoint = Endpoint::new(Method::Put, "/access/password", Permission::World)
    .ticket_only()
    .secrets(&["password"]);

#[tokio::test]
async fn an_endpoint_that_refuses_tokens_is_not_called_with_one() {
    let fake = accepting_server();
    let put = || Call {
        endpoint: Some(&NEEDS_TICKET),
        ..call(Method::Put, "/access/password", &[])
    };
    let error = fake
        .token_client()
        .execute(put())
        .await
        .expect_err("not sent");
    let Error::Request(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), &RequestErrorKind::NeedsTicket);
    assert!(fake.lines().is_empty());
    with_password(&fake, &ManualClock::default())
        .execute(put())
        .await
        .expect("a ticket is accepted");
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
async fn a_refused_ticket_is_replaced_even_if_a_proxy_moved_the_phrase_into_the_body() {
    for (text, replaced) in [
        ("permission denied - invalid PVE ticket", true),
        ("Authentication failed!", true),
        ("authentication failure", false),
    ] {
        let mut refusals = 1;
        let mut logins = 0;
        let fake = Fake::new(move |request| {
            if request.path == "/api2/json/access/ticket" {
                logins += 1;
                return ok(login_answer(logins));
            }
            if refusals > 0 {
                refusals -= 1;
                let body = serde_json::json!({"data": null, "message": format!("{text}\n")});
                return Ok(json(401, text, body.to_string()));
            }
            ok(r#"{"data":null}"#)
        });
        let client = with_password(&fake, &ManualClock::default());
        let result = client.execute(Call::new(Method::Get, "/nodes")).await;
        assert_eq!(result.is_ok(), replaced, "{text}");
        assert_eq!(self::logins(&fake), 1 + usize::from(replaced), "{text}");
    }
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

#[test]
fn addresses_are_parsed() {
    for (text, origin, prefix) in [
        ("pve1", "https://pve1:8006", ""),
        (" pve1.example.org ", "https://pve1.example.org:8006", ""),
        ("pve1:443", "https://pve1:443", ""),
        ("10.0.0.1:8007", "https://10.0.0.1:8007", ""),
        ("::1", "https://[::1]:8006", ""),
        ("[2001:db8::1]", "https://[2001:db8::1]:8006", ""),
        ("[2001:db8::1]:9000", "https://[2001:db8::1]:9000", ""),
        ("https://pve1:8006", "https://pve1:8006", ""),
        ("https://pve1:8006/", "https://pve1:8006", ""),
        ("https://pve1:8006/api2/json", "https://pve1:8006", ""),
        ("https://pve1:8006/api2/json/", "https://pve1:8006", ""),
        (
            "https://proxy.example.org",
            "https://proxy.example.org:443",
            "",
        ),
        (
            "https://proxy.example.org/pve/",
            "https://proxy.example.org:443",
            "/pve",
        ),
        ("http://127.0.0.1:8006", "http://127.0.0.1:8006", ""),
    ] {
        let base = Base::parse(text, None).expect(text);
        assert_eq!(
            (base.origin.as_str(), base.prefix.as_str()),
            (origin, prefix),
            "{text}"
        );
    }
    for text in [
        "",
        "https://",
        "ftp://pve1",
        "pve 1",
        "pve1:port",
        "https://pve1/?x=1",
        "pve1:99999",
    ] {
        let error = Base::parse(text, None).expect_err(text);
        assert!(matches!(error, Error::Config(_)), "{text}: {error}");
    }
    let error = Base::parse("https://root:hunter22@pve1", None).expect_err("credentials in it");
    assert!(!error.to_string().contains("hunter22"), "{error}");
}

#[test]
fn unencrypted_addresses_are_for_this_machine_only() {
    for text in [
        "http://localhost:8006",
        "http://127.0.0.1:1",
        "http://[::1]:1",
    ] {
        Client::builder(text).build().expect(text);
    }
    let error = Client::builder("http://pve1:8006")
        .build()
        .expect_err("readable by anybody");
    assert!(error.to_string().contains("danger_allow_http"), "{error}");
    Client::builder("http://pve1:8006")
        .danger_allow_http(true)
        .build()
        .expect("explicitly allowed");
}

fn from(variables: &[(&str, &str)]) -> Result<Client, Error> {
    builder_from(variables)?.build()
}

fn builder_from(variables: &[(&str, &str)]) -> Result<ClientBuilder, Error> {
    let read = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, value)| (*value).to_owned()))
    };
    from_variables(&read)
}

#[test]
fn a_client_is_built_from_environment_variables() {
    let token = [
        ("PROXMOX_HOST", "pve1.local"),
        ("PROXMOX_PORT", "8007"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_TOKEN_ID", "ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
        ("PROXMOX_NODE", "pve"),
    ];
    let client = from(&token).expect("complete");
    assert_eq!(client.url(), "https://pve1.local:8007");
    assert_eq!(client.user(), Some("root@pam!ci"));
    assert_eq!(client.default_node(), Some("pve"));

    let several = [
        ("PROXMOX_HOST", "pve1, pve2:8007,"),
        ("PROXMOX_TOKEN_ID", "root@pam!ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
    ];
    let hosts = from(&several).expect("complete").hosts();
    let urls: Vec<_> = hosts.iter().map(|host| host.url.as_str()).collect();
    assert_eq!(urls, ["https://pve1:8006", "https://pve2:8007"]);

    let whole = [
        ("PROXMOX_HOST", "https://pve1:8006"),
        ("PROXMOX_TOKEN_ID", "root@pam!ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
        ("PROXMOX_INSECURE", "1"),
        ("PROXMOX_NODE", ""),
    ];
    let client = from(&whole).expect("complete");
    assert_eq!(
        (client.user(), client.default_node()),
        (Some("root@pam!ci"), None)
    );

    let password = [
        ("PROXMOX_HOST", "pve1"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_PASSWORD", PASSWORD),
        ("PROXMOX_FINGERPRINT", &["ab"; 32].join(":")),
    ];
    let client = from(&password).expect("complete");
    assert_eq!(client.user(), Some("root@pam"));
}

#[test]
fn a_token_can_be_set_in_one_variable() {
    let text = format!("PVEAPIToken=root@pam!ci={TOKEN_SECRET}");
    let host = ("PROXMOX_HOST", "pve1");
    let client = from(&[host, ("PROXMOX_API_TOKEN", &text)]).expect("complete");
    assert_eq!(client.user(), Some("root@pam!ci"));
}

#[tokio::test]
async fn white_space_is_part_of_a_password() {
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let body = Arc::clone(&seen);
    let fake = Fake::new(move |request| {
        *body.lock().expect("not poisoned") = String::from_utf8_lossy(&request.body).into_owned();
        ok(login_answer(1))
    });
    let variables = [
        ("PROXMOX_HOST", "pve1"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_PASSWORD", " pass word "),
    ];
    let builder = builder_from(&variables).expect("complete");
    let client = builder.transport(Arc::new(fake)).build().expect("complete");
    client.login().await.expect("accepted");
    let body = seen.lock().expect("not poisoned").clone();
    assert!(body.contains("password=%20pass%20word%20"), "{body}");
}

#[test]
fn errors_name_contradicting_variables() {
    let host = ("PROXMOX_HOST", "pve1");
    let whole = format!("root@pam!ci={TOKEN_SECRET}");
    let token = ("PROXMOX_API_TOKEN", whole.as_str());
    let id = ("PROXMOX_TOKEN_ID", "root@pam!ci");
    let secret = ("PROXMOX_TOKEN_SECRET", TOKEN_SECRET);
    for (variables, named) in [
        (vec![], "PROXMOX_HOST"),
        (vec![host], "PROXMOX_API_TOKEN"),
        (vec![host, id], "PROXMOX_TOKEN_SECRET"),
        (vec![host, secret], "PROXMOX_TOKEN_ID"),
        (
            vec![host, ("PROXMOX_TOKEN_ID", "ci"), secret],
            "PROXMOX_USERNAME",
        ),
        (
            vec![host, id, secret, ("PROXMOX_USERNAME", "bob@pve")],
            "another user",
        ),
        (vec![host, token, id], "PROXMOX_TOKEN_ID"),
        (vec![host, token, secret], "PROXMOX_TOKEN_SECRET"),
        (
            vec![host, token, ("PROXMOX_USERNAME", "bob@pve")],
            "another user",
        ),
        (
            vec![host, ("PROXMOX_API_TOKEN", TOKEN_SECRET)],
            "PROXMOX_API_TOKEN",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root@pam!ci"),
                ("PROXMOX_PASSWORD", PASSWORD),
            ],
            "api_token",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root@pam"),
                ("PROXMOX_PASSWORD", "pass\n"),
            ],
            "line break",
        ),
        (
            vec![host, ("PROXMOX_USERNAME", "root@pam")],
            "PROXMOX_PASSWORD",
        ),
        (
            vec![host, ("PROXMOX_PASSWORD", PASSWORD)],
            "PROXMOX_USERNAME",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root"),
                ("PROXMOX_PASSWORD", PASSWORD),
            ],
            "name@realm",
        ),
        (
            vec![host, id, secret, ("PROXMOX_PORT", "https")],
            "PROXMOX_PORT",
        ),
        (
            vec![
                ("PROXMOX_HOST", "pve1:1"),
                id,
                secret,
                ("PROXMOX_PORT", "2"),
            ],
            "PROXMOX_PORT",
        ),
        (
            vec![host, id, secret, ("PROXMOX_FINGERPRINT", "AB:CD")],
            "PROXMOX_FINGERPRINT",
        ),
        (
            vec![host, id, secret, ("PROXMOX_CA_FILE", "/no/such/file.pem")],
            "/no/such/file.pem",
        ),
        (
            vec![host, id, secret, ("PROXMOX_INSECURE", "maybe")],
            "PROXMOX_INSECURE",
        ),
    ] {
        let error = from(&variables).expect_err(named).to_string();
        assert!(error.contains(named), "{named}: {error}");
        assert!(
            !error.contains(TOKEN_SECRET) && !error.contains(PASSWORD),
            "{error}"
        );
    }
}

#[test]
fn invalid_credentials_are_refused() {
    for id in ["root@pam", "root!ci", "@pam!ci", "root@!ci", "root@pam!"] {
        let error = Client::builder("pve1")
            .api_token(id, TOKEN_SECRET)
            .build()
            .expect_err(id);
        assert!(matches!(error, Error::Config(_)));
    }
    Client::builder("pve1")
        .api_token("root@pam!ci", "")
        .build()
        .expect_err("no secret");
    for ticket in [
        "",
        "PVE",
        "PVE:root@pam:xyz::s",
        "PBS:root@pam:6B49D200::s",
        "PVE:root@pam:6B49D200",
    ] {
        Client::builder("pve1")
            .ticket(ticket, None)
            .build()
            .expect_err(ticket);
    }
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

#[tokio::test]
async fn dropping_a_call_during_a_login_does_not_block_others() {
    let fake = accepting_server();
    let client = with_password(&fake, &ManualClock::default());
    {
        let mut call = client.execute(call(Method::Get, "/version", &[]));
        let once =
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context)));
        assert!(once.await.is_pending(), "the login is under way");
    }
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    assert_eq!(logins(&fake), 1);
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

/// The future of an answer.
type Exchange = BoxFuture<'static, Result<WireResponse, TransportError>>;

/// Answers by an asynchronous function, and counts the requests.
struct SlowTransport<F>(F, Mutex<Vec<String>>);

impl<F: Fn(String) -> Exchange + Send + Sync + 'static> SlowTransport<F> {
    fn new(answer: F) -> Arc<Self> {
        Arc::new(Self(answer, Mutex::default()))
    }

    fn count(&self, path: &str) -> usize {
        let seen = self.1.lock().expect("no panic");
        seen.iter().filter(|seen| seen.ends_with(path)).count()
    }
}

impl<F> fmt::Debug for SlowTransport<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowTransport")
    }
}

impl<F: Fn(String) -> Exchange + Send + Sync> Transport for SlowTransport<F> {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        let path = request.path;
        self.1.lock().expect("no panic").push(path.clone());
        (self.0)(path)
    }
}

/// Answers a login after this time, and everything else at once.
fn slow_login(
    time: Duration,
    login: impl Fn() -> Result<WireResponse, TransportError> + Send + Sync + 'static,
) -> Arc<SlowTransport<impl Fn(String) -> Exchange + Send + Sync + 'static>> {
    let login = Arc::new(login);
    SlowTransport::new(move |path| {
        let login = Arc::clone(&login);
        Box::pin(async move {
            if path.ends_with("/access/ticket") {
                tokio::time::sleep(time).await;
                return login();
            }
            ok(r#"{"data":null}"#)
        })
    })
}

fn patient(transport: Arc<dyn Transport>, seconds: u64) -> ClientBuilder {
    Client::builder("pve1")
        .password("root@pam", PASSWORD)
        .transport(transport)
        .retry(RetryPolicy::none())
        .timeout(Duration::from_secs(seconds))
}

/// Sends that many calls at once; returns the errors and the duration in seconds.
async fn at_once(client: &Client, count: usize) -> (Vec<Result<Reply, Error>>, f64) {
    let start = tokio::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        calls.spawn(client.execute(call(Method::Get, "/version", &[])));
    }
    let results = calls.join_all().await;
    (results, start.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn a_hanging_login_delays_calls_by_their_time_limit_at_most() {
    let server = slow_login(Duration::from_secs(3600), || ok(login_answer(1)));
    let client = patient(server.clone(), 3).build().expect("complete");
    for round in 1..=3 {
        let (results, took) = at_once(&client, 64).await;
        for result in results {
            let error = result.expect_err("nobody is logged in");
            assert!(matches!(error, Error::Timeout(_)), "{error}");
            assert!(error.is_retryable());
        }
        assert!((2.9..3.1).contains(&took), "{took}");
        assert_eq!(server.count("/access/ticket"), round);
    }
    assert_eq!(server.count("/version"), 0);
    let saved = tokio::time::timeout(Duration::from_millis(1), client.save_session());
    assert_eq!(saved.await, Ok(None), "it does not wait for the login");
}

#[tokio::test(start_paused = true)]
async fn a_login_continues_when_its_callers_are_dropped() {
    let server = slow_login(Duration::from_millis(600), || ok(login_answer(1)));
    let client = patient(server.clone(), 60).build().expect("complete");
    let mut answered = 0;
    for _ in 0..10 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let call = client.execute(call(Method::Get, "/version", &[]));
            calls.spawn(tokio::time::timeout(Duration::from_millis(500), call));
        }
        let results = calls.join_all().await;
        answered += results.iter().filter(|result| result.is_ok()).count();
    }
    assert_eq!(answered, 180, "all but those before the login was complete");
    assert_eq!(server.count("/access/ticket"), 1);
}

#[tokio::test(start_paused = true)]
async fn all_waiting_calls_share_the_failure_of_a_login() {
    let server = slow_login(Duration::from_secs(1), || {
        Ok(json(500, "no", r#"{"data":null,"message":"no quorum"}"#))
    });
    let client = patient(server.clone(), 60).build().expect("complete");
    let (results, took) = at_once(&client, 64).await;
    for result in results {
        let error = result.expect_err("nobody is logged in");
        assert_eq!(error.api().map(ApiError::status), Some(500), "{error}");
    }
    assert!((0.9..1.1).contains(&took), "{took}");
    assert_eq!(server.count("/access/ticket"), 1);
    // A timeout says nothing about the password, so the next call asks again.
    at_once(&client, 1).await;
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_remembered_for_thirty_seconds_even_if_the_clock_stands_still() {
    let refused = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let server = slow_login(Duration::ZERO, {
        let refused = Arc::clone(&refused);
        move || match refused.load(Ordering::SeqCst) {
            true => Ok(json(401, "authentication failure", "")),
            false => ok(login_answer(1)),
        }
    });
    let client = patient(server.clone(), 60)
        .clock(|| UNIX_EPOCH + Duration::from_secs(1_800_000_000))
        .build()
        .expect("complete");
    for _ in 0..5 {
        let (results, _) = at_once(&client, 20).await;
        assert!(results.iter().all(Result::is_err));
    }
    assert_eq!(server.count("/access/ticket"), 1);
    refused.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert!(at_once(&client, 1).await.0[0].is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(at_once(&client, 1).await.0[0].is_ok());
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_renewal_delays_no_call_while_the_ticket_is_valid() {
    let clock = ManualClock::default();
    let logins = Arc::new(AtomicU64::new(0));
    let server = SlowTransport::new(move |path| {
        let logins = Arc::clone(&logins);
        Box::pin(async move {
            if path.ends_with("/access/ticket") && logins.fetch_add(1, Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            ok(login_answer(1))
        })
    });
    let client = patient(server.clone(), 60)
        .clock(clock.clock())
        .build()
        .expect("complete");
    let (results, _) = at_once(&client, 10).await;
    assert!(results.iter().all(Result::is_ok));
    clock.forward(RENEWAL);
    let (results, took) = at_once(&client, 10).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(took < 0.1, "{took}");
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_the_queue_and_every_attempt() {
    let hangs = |_: String| -> Exchange { Box::pin(std::future::pending()) };
    let server = SlowTransport::new(hangs);
    let client = Client::builder("pve1")
        .transport(server.clone())
        .concurrency(2, 2)
        .timeout(Duration::from_secs(5))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 10).await;
    assert!((4.9..5.1).contains(&took), "{took}");
    let mut unsent = 0;
    for result in results {
        let error = result.expect_err("it hangs");
        let Error::Timeout(error) = &error else {
            panic!("{error}")
        };
        assert_eq!(error.after(), Duration::from_secs(5));
        unsent += usize::from(error.waiting_for() == WaitingFor::Limits);
    }
    assert_eq!((unsent, server.count("/version")), (8, 2));

    let answers = AtomicU64::new(0);
    let server = SlowTransport::new(move |_| match answers.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Box::pin(std::future::pending()),
        _ => Box::pin(async { ok(r#"{"data":null}"#) }),
    });
    let client = Client::builder("pve1")
        .transport(server.clone())
        .timeout(Duration::from_secs(5))
        .attempt_timeout(Duration::from_secs(1))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 1).await;
    assert!(results[0].is_ok(), "the third attempt is answered");
    assert!((2.0..3.0).contains(&took), "{took}");
    assert_eq!(server.count("/version"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_time_limit_ends_the_call_at_once() {
    let fake = Fake::new(|request| {
        let mut answer = match request.path.ends_with("/version") {
            true => json(429, "Too Many Requests", ""),
            false => json(200, "OK", r#"{"data":null}"#),
        };
        let headers = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "40")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        answer.headers.extend(headers);
        if answer.status == 429 {
            answer.headers.push(("Retry-After".into(), "20".into()));
        }
        Ok(answer)
    });
    let client = Client::builder("pve1")
        .transport(Arc::new(fake.clone()))
        .timeout(Duration::from_secs(5))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 1).await;
    let error = results[0].as_ref().expect_err("refused");
    let retry_after = error.api().and_then(ApiError::retry_after);
    assert_eq!(retry_after, Some(Duration::from_secs(20)), "{error}");
    assert!(took < 0.1, "{took}");

    let (results, took) = at_once(&client, 1).await;
    let error = results[0].as_ref().expect_err("not sent");
    assert_eq!(
        error.to_string(),
        "GET /version #2: not sent: the server asks for a pause of 20s, the time limit is 5s"
    );
    assert!(error.never_sent());
    assert!(took < 0.1, "{took}");
    assert_eq!(fake.lines().len(), 1);
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
