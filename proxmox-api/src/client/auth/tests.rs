use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use super::*;
use crate::client::call::Call;
use crate::client::{Client, ClientBuilder};
use crate::testing::{Fake, TOKEN_SECRET, json, ok};
use crate::value::endpoint::{Endpoint, Method, Permission};

const START: u64 = 1_800_000_000;

fn builder(fake: &Fake) -> ClientBuilder {
    Client::builder("pve1")
        .transport(Arc::new(fake.clone()))
        .clock(|| UNIX_EPOCH + Duration::from_secs(START))
}

fn version() -> Call {
    Call::new(Method::Get, "/version")
}

fn ticket(number: usize) -> String {
    format!(
        r#"{{"data":{{"username":"alice@company","ticket":"PVE:alice@company:6B49D200::sig{number}",
            "CSRFPreventionToken":"6B49D200:csrf{number}"}}}}"#
    )
}

/// A server that asks for a second factor, and accepts the code 123456.
fn two_steps() -> Fake {
    Fake::new(|request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        match request.path.as_str() {
            "/api2/json/access/ticket" if form.contains("password=totp%3A123456") => ok(ticket(1)),
            "/api2/json/access/ticket" if form.contains("tfa-challenge=") => Ok(json(
                401,
                "authentication failure",
                r#"{"data":null,"message":"authentication failure\n"}"#,
            )),
            "/api2/json/access/ticket" => ok(
                r#"{"data":{"username":"alice@company","NeedTFA":1,"CSRFPreventionToken":"x",
                    "ticket":"PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,1]}:6B49D200::c0de+"}}"#,
            ),
            _ => ok(r#"{"data":null}"#),
        }
    })
}

async fn many(client: &Client) -> Vec<Result<(), Error>> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(version()));
    }
    let mut results = Vec::new();
    while let Some(result) = calls.join_next().await {
        results.push(result.expect("no panic").map(drop));
    }
    results
}

#[tokio::test]
async fn one_handler_call_answers_the_second_factor_for_all_calls() {
    let fake = two_steps();
    let calls = Arc::new(AtomicUsize::new(0));
    let client = builder(&fake)
        .password("alice@company", "pa55-word")
        .tfa({
            let calls = Arc::clone(&calls);
            move |challenge| {
                assert_eq!(challenge.methods(), ["recovery", "totp"]);
                calls.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, String>(TfaAnswer::totp(" 123 456\n")) }
            }
        })
        .build()
        .expect("complete");
    for result in many(&client).await {
        result.expect("logged in");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(fake.lines().len(), 2 + 20);
}

#[tokio::test]
async fn a_wrong_code_is_a_refusal_and_is_not_asked_for_again_at_once() {
    let fake = two_steps();
    let client = builder(&fake)
        .password("alice@company", "pa55-word")
        .tfa(|_| async { Ok::<_, String>(TfaAnswer::recovery("000000")) })
        .build()
        .expect("complete");
    for result in many(&client).await {
        let error = result.expect_err("a wrong code");
        assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
    }
    assert_eq!(fake.lines().len(), 2);
}

#[tokio::test]
async fn the_error_of_a_handler_is_part_of_the_error() {
    let fake = two_steps();
    let client = builder(&fake)
        .password("alice@company", "pa55-word")
        .tfa(|_| async { Err("nobody is\nat the keyboard") })
        .build()
        .expect("complete");
    let error = client.execute(version()).await.expect_err("no answer");
    assert!(error.never_sent());
    assert_eq!(
        error.to_string(),
        "GET /version #1: no second factor for the login of alice@company: nobody is / at the keyboard"
    );
    let Error::Auth(error) = error else {
        panic!("{error}")
    };
    let challenge = error.challenge().expect("it can still be answered");
    client
        .answer_tfa(challenge, TfaAnswer::totp("123456"))
        .await
        .expect("the right code");
    client.execute(version()).await.expect("logged in");
}

#[test]
fn answers_to_second_factors_have_the_servers_form() {
    for (answer, text) in [
        (TfaAnswer::totp(" 123 456 "), "totp:123456"),
        (TfaAnswer::recovery(" ab-cd\n"), "recovery:ab-cd"),
        (TfaAnswer::yubico("ccccc\n"), "yubico:ccccc"),
        (TfaAnswer::webauthn("{\"id\":1}"), "webauthn:{\"id\":1}"),
        (TfaAnswer::other("u2f", "x"), "u2f:x"),
    ] {
        let printed = format!("{answer:?}");
        assert_eq!(Secret::from(answer).expose(), text);
        assert!(
            !printed.contains(text.split_once(':').expect("a kind").1),
            "{printed}"
        );
    }
}

/// A server that logs in by OpenID.
fn provider() -> Fake {
    let mut number = 0;
    Fake::new(move |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        match request.path.as_str() {
            "/api2/json/access/openid/auth-url" => {
                assert_eq!(
                    form,
                    "realm=company&redirect-url=http%3A%2F%2Flocalhost%3A1%2F"
                );
                ok(r#"{"data":"https://provider.example.org/?state=s1"}"#)
            }
            "/api2/json/access/openid/login" if form.contains("code=g00d") => {
                assert_eq!(
                    form,
                    "state=s+1%2F&code=g00d&redirect-url=http%3A%2F%2Flocalhost%3A1%2F"
                        .replace('+', "%20")
                );
                number += 1;
                ok(ticket(number))
            }
            "/api2/json/access/openid/login" => Ok(json(
                401,
                "openid authentication failure",
                r#"{"data":null,"message":"openid authentication failure, code b4d-code\n"}"#,
            )),
            "/api2/json/access/ticket" => {
                number += 1;
                ok(ticket(number))
            }
            _ => ok(r#"{"data":null}"#),
        }
    })
}

#[tokio::test]
async fn a_browser_logs_in_by_openid_and_the_ticket_is_renewed() {
    let fake = provider();
    let now = Arc::new(AtomicU64::new(START));
    let client = builder(&fake)
        .openid("company", "http://localhost:1/")
        .clock({
            let now = Arc::clone(&now);
            move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst))
        })
        .build()
        .expect("complete");
    assert_eq!(client.user(), None);
    let error = client
        .execute(version())
        .await
        .expect_err("nobody is there");
    assert_eq!(
        error.to_string(),
        "GET /version #1: nobody logged in by OpenID yet: send the user to Client::openid_url, and give the address the \
         browser comes back to to Client::openid_login"
    );
    assert!(fake.lines().is_empty());

    let url = client.openid_url().await.expect("answered");
    assert_eq!(url, "https://provider.example.org/?state=s1");
    let error = client
        .openid_login("http://localhost:1/?state=s1&code=b4d-code")
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
    assert!(
        !format!("{error} {error:?}").contains("b4d-code"),
        "{error}"
    );

    client
        .openid_login("http://localhost:1/?code=g00d&iss=x&state=s+1%2F#top")
        .await
        .expect("accepted");
    assert_eq!(client.user(), Some("alice@company"));
    client
        .execute(Call::new(Method::Post, "/pools"))
        .await
        .expect("logged in");
    let last = fake.requests().pop().expect("requests were sent");
    assert_eq!(last.header("csrfpreventiontoken"), Some("6B49D200:csrf1"));

    now.fetch_add(3600, Ordering::SeqCst);
    client.execute(version()).await.expect("logged in");
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    client.execute(version()).await.expect("renewed");
    let last = fake.requests().pop().expect("requests were sent");
    let cookie = last.header("cookie").unwrap_or_default();
    assert!(cookie.ends_with("sig2"), "{cookie}");
    let renewal = fake.requests().into_iter().rev();
    let form = renewal
        .map(|request| request.body)
        .find(|form| !form.is_empty())
        .expect("a form");
    assert_eq!(
        String::from_utf8_lossy(&form),
        "username=alice%40company&password=PVE%3Aalice%40company%3A6B49D200%3A%3Asig1"
    );
}

#[tokio::test]
async fn redirect_urls_are_parsed_strictly() {
    let client = builder(&provider())
        .openid("company", "http://localhost:1/")
        .build()
        .expect("complete");
    for (url, text) in [
        (
            "http://localhost:1/?error=access_denied&error_description=Not%20today",
            "client settings: the OpenID provider says: Not today",
        ),
        (
            "http://localhost:1/?error=access_denied",
            "client settings: the OpenID provider says: access_denied",
        ),
        (
            "http://localhost:1/",
            "client settings: the redirect address has no state and code",
        ),
        (
            "http://localhost:1/?state=s&code=",
            "client settings: the redirect address has no state and code",
        ),
    ] {
        let error = client.openid_login(url).await.expect_err(url);
        assert_eq!(error.to_string(), text);
    }
    let error = two_steps()
        .token_client()
        .openid_url()
        .await
        .expect_err("it has a token");
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[tokio::test]
async fn a_session_continues_in_another_process() {
    let fake = provider();
    let login = builder(&fake)
        .password("alice@company", "pa55-word")
        .build()
        .expect("complete");
    assert_eq!(login.save_session().await, None, "nobody logged in yet");
    login.login().await.expect("accepted");
    let saved = login.save_session().await.expect("logged in");
    assert!(!format!("{saved:?}").contains("sig1"));
    let text = saved.to_secret();
    let read: SavedSession = text.expose().parse().expect("it reads back");
    assert_eq!(read, saved);
    assert_eq!(read.user(), "alice@company");
    assert_eq!(read.obtained(), UNIX_EPOCH + Duration::from_secs(START));

    let sent = fake.lines().len();
    let client = builder(&fake)
        .session(read.clone())
        .build()
        .expect("complete");
    assert_eq!(client.user(), Some("alice@company"));
    client
        .execute(Call::new(Method::Post, "/pools"))
        .await
        .expect("logged in");
    assert_eq!(fake.lines().len(), sent + 1, "without another login");
    let last = fake.requests().pop().expect("requests were sent");
    assert_eq!(
        last.header("cookie"),
        Some("PVEAuthCookie=PVE:alice@company:6B49D200::sig1")
    );
    assert_eq!(last.header("csrfpreventiontoken"), Some("6B49D200:csrf1"));

    let late = builder(&fake)
        .session(read.clone())
        .password("alice@company", "pa55-word")
        .clock(|| UNIX_EPOCH + Duration::from_secs(START + 3 * 3600))
        .build()
        .expect("complete");
    late.execute(version()).await.expect("logged in again");

    for wrong in [
        builder(&fake)
            .session(read.clone())
            .password("bob@pve", "pa55-word"),
        builder(&fake)
            .session(read.clone())
            .api_token("alice@company!ci", TOKEN_SECRET),
        builder(&fake)
            .session(read.clone())
            .ticket("PVE:alice@company:6B49D200::x", None),
    ] {
        let error = wrong.build().expect_err("these do not go together");
        assert!(matches!(error, Error::Config(_)));
        assert!(!format!("{error} {error:?}").contains("sig1"));
    }
    assert_eq!(fake.token_client().save_session().await, None);
}

#[test]
fn a_hostile_ticket_cannot_change_a_saved_session() {
    for ticket in [
        "PVE:alice@pve:1::sig\nuser=evil@pve\nobtained=9",
        "a\r\nb",
        "100%25",
        "\u{85}\u{2028}",
    ] {
        let saved = SavedSession {
            user: "alice@pve".to_owned(),
            ticket: ticket.into(),
            csrf: Some(ticket.into()),
            obtained: UNIX_EPOCH + Duration::from_secs(START),
        };
        let read: SavedSession = (saved.to_secret().expose().parse()).expect("it reads back");
        assert_eq!(read, saved);
        assert_eq!(read.user(), "alice@pve");
    }
}

#[test]
fn invalid_sessions_are_refused_without_quoting_them() {
    let head = "proxmox-api session 1\n";
    for text in [
        "",
        "{\"ticket\":\"s3cret\"}",
        &format!("{head}user=root@pam\nobtained=1\n"),
        &format!("{head}user=root\nobtained=1\nticket=s3cret\n"),
        &format!("{head}user=root@pam\nticket=s3cret\n"),
        &format!("{head}user=root@pam\nobtained=x\nticket=s3cret\n"),
        &format!("{head}user=root@pam\nobtained=99999999999999999999999\nticket=s3cret\n"),
        &format!("{head}s3cret\n"),
    ] {
        let error = text.parse::<SavedSession>().expect_err(text);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
    let later = format!("{head}user=root@pam\nobtained=1\nticket=s3cret\nnode=pve1\n\n");
    assert!(later.parse::<SavedSession>().is_ok());
}

static NEEDS_TICKET: Endpoint =
    Endpoint::new(Method::Put, "/access/password", Permission::World).ticket_only();

#[tokio::test]
async fn a_token_is_sent_if_the_check_is_off() {
    let fake = provider();
    let client = builder(&fake)
        .api_token("root@pam!ci", TOKEN_SECRET)
        .check_token_access(false)
        .build()
        .expect("complete");
    let mut call = Call::new(Method::Put, "/access/password");
    call.endpoint = Some(&NEEDS_TICKET);
    client.execute(call).await.expect("the server decides");
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn additional_headers_are_sent_with_every_request_and_are_secret() {
    let fake = Fake::new(|request| {
        let quoted = request
            .header("x-gateway-key")
            .unwrap_or_default()
            .to_owned();
        match request.path.as_str() {
            "/api2/json/access/ticket" => ok(ticket(1)),
            _ => Ok(json(500, "no", format!(r#"{{"message":"got {quoted}"}}"#))),
        }
    });
    let client = builder(&fake)
        .password("alice@company", "pa55-word")
        .header("X-Gateway-Key", "0pen-sesame")
        .build()
        .expect("complete");
    let error = client.execute(version()).await.expect_err("refused");
    assert_eq!(error.to_string(), "GET /version #1: 500 got …");
    assert!(!format!("{client:?} {error:?}").contains("0pen-sesame"));
    for request in fake.requests() {
        assert_eq!(
            request.header("x-gateway-key"),
            Some("0pen-sesame"),
            "{}",
            request.path
        );
    }
    for (name, value) in [
        ("Authorization", "x"),
        ("cookie", "x"),
        ("HOST", "x"),
        ("a b", "x"),
        ("", "x"),
        ("X-Ok", "a\r\nb: s3cret"),
    ] {
        let error = builder(&fake).header(name, value).build().expect_err(name);
        assert!(matches!(error, Error::Config(_)));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_ticket_and_no_redirect_url_causes_a_panic(text in ".{0,200}", form in "PVE:.{0,20}:[0-9A-Fa-f]{0,17}::.{0,20}") {
        for text in [&text, &form] {
            let _ = super::texts::read_ticket(text);
            let _ = super::texts::read_redirect(&format!("https://x/?state={text}&code={text}"));
            let _ = super::texts::read_redirect(text);
        }
    }

    #[test]
    fn no_saved_session_causes_a_panic_or_is_quoted(text in "\\PC{0,40}", values in proptest::collection::vec(".{0,30}", 4)) {
        let session = format!(
            "proxmox-api session 2\nuser={}\nticket={}\ncsrf={}\nobtained={}\n{text}",
            values[0], values[1], values[2], values[3]
        );
        for text in [&session, &text] {
            if let Err(error) = text.parse::<SavedSession>() {
                let message = error.to_string();
                proptest::prop_assert!(values[1].len() < 8 || !message.contains(&values[1]));
            }
        }
    }
}
