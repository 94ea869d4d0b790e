use std::sync::Arc;

use super::*;
use crate::client::Client;
use crate::error::Error;
use crate::testing::{Fake, json, ok};
use crate::value::encode::ParamValue;
use crate::value::endpoint::{Permission, Renamed};

static LATE: Endpoint = Endpoint::new(Method::Post, "/late", Permission::World).since(8, 1);
static GONE: Endpoint = Endpoint::new(Method::Get, "/gone", Permission::World).until(8, 4);
static BETWEEN: Endpoint = Endpoint::new(Method::Get, "/between", Permission::World)
    .since(8, 0)
    .until(8, 4);
static POOLS: Endpoint = Endpoint::new(Method::Get, "/pools", Permission::World).partial(&[
    Partial::new("poolid", Some(Release::new(8, 1)), None),
    Partial::new("net[n]", Some(Release::new(9, 0)), None),
]);

fn call(endpoint: &'static Endpoint, params: &[&'static str]) -> Call {
    let mut call = Call::new(endpoint.method, endpoint.path);
    call.endpoint = Some(endpoint);
    for name in params {
        call.params.set(*name, ParamValue::One("x".into()));
    }
    call
}

/// A server of that release that accepts everything, or refuses everything as unknown.
fn server(release: &'static str) -> Fake {
    Fake::new(move |request| match request.path.as_str() {
        "/api2/json/version" => ok(format!(
            r#"{{"data":{{"release":"{release}","version":"{release}.1","repoid":"0"}}}}"#
        )),
        path if path.contains('?') => Ok(json(
            400,
            "Parameter verification failed.",
            r#"{"data":null,"errors":{"poolid":"property is not defined in schema","net3":
                "property is not defined in schema","other":"property is not defined in schema"}}"#,
        )),
        _ => Ok(json(
            501,
            "Method 'POST /late' not implemented",
            r#"{"data":null}"#,
        )),
    })
}

fn checking(fake: &Fake) -> Client {
    Client::builder("pve1")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake.clone()))
        .check_availability(true)
        .build()
        .expect("the settings are complete")
}

#[tokio::test]
async fn calls_that_an_older_server_lacks_are_refused_before_sending() {
    let fake = server("7.4");
    let client = fake.token_client();
    for (call, text) in [
        (
            call(&LATE, &[]),
            "POST /late: not sent: this call exists since 8.1; the server runs 7.4",
        ),
        (
            call(&POOLS, &["type", "poolid"]),
            "GET /pools: not sent: `poolid` exists since 8.1; the server runs 7.4",
        ),
        (
            call(&POOLS, &["net3"]),
            "GET /pools: not sent: `net3` exists since 9.0; the server runs 7.4",
        ),
        (
            call(&BETWEEN, &[]),
            "GET /between: not sent: this call exists from 8.0 to 8.4; the server runs 7.4",
        ),
    ] {
        let error = client.check(&call).await.expect_err(text);
        assert_eq!(error.to_string(), text);
        assert!(error.never_sent());
    }
    client.check(&call(&GONE, &[])).await.expect("7.4 has it");
    assert_eq!(
        fake.lines(),
        ["GET /api2/json/version"],
        "the release is asked for once"
    );
}

#[tokio::test]
async fn calls_that_a_newer_server_dropped_are_refused_before_sending() {
    let client = server("9.0").token_client();
    let error = client.check(&call(&GONE, &[])).await.expect_err("dropped");
    assert_eq!(
        error.to_string(),
        "GET /gone: not sent: this call exists until 8.4; the server runs 9.0"
    );
    let Error::Request(error) = error else {
        panic!("a request error")
    };
    assert_eq!(
        error.kind(),
        &RequestErrorKind::Unavailable {
            parameter: None,
            since: None,
            until: Some(Release::new(8, 4)),
            server: Release::new(9, 0),
        }
    );
    client.check(&call(&LATE, &[])).await.expect("9.0 has it");
    assert_eq!(
        client.server_release().await.expect("answered"),
        Release::new(9, 0)
    );
}

#[tokio::test]
async fn the_release_is_not_read_if_every_release_has_the_call() {
    let fake = server("7.4");
    let client = fake.token_client();
    static SAME: Endpoint = Endpoint::new(Method::Get, "/same", Permission::World);
    client.check(&call(&SAME, &["x"])).await.expect("no doubt");
    client.check(&call(&POOLS, &["x"])).await.expect("no doubt");
    let plain = Call::new(Method::Get, "/late");
    client
        .check(&plain)
        .await
        .expect("nothing is known about it");
    assert!(fake.lines().is_empty());
}

#[tokio::test]
async fn servers_older_than_the_oldest_release_are_not_refused() {
    let client = server("7.2").token_client();
    client
        .check(&call(&GONE, &[]))
        .await
        .expect("7.2 may have it");
    client
        .check(&call(&LATE, &[]))
        .await
        .expect_err("it came in 8.1");
}

#[tokio::test]
async fn every_call_is_checked_if_the_setting_is_on() {
    let fake = server("7.4");
    let client = checking(&fake);
    let error = client
        .execute(call(&LATE, &[]))
        .await
        .expect_err("7.4 lacks it");
    assert!(matches!(error, Error::Request(_)), "{error}");
    client
        .execute(call(&POOLS, &["poolid"]))
        .await
        .expect_err("7.4 lacks it");
    assert_eq!(fake.lines(), ["GET /api2/json/version"]);

    fake.token_client()
        .execute(call(&LATE, &[]))
        .await
        .expect_err("refused by the server");
    assert_eq!(
        fake.lines()[1..],
        ["POST /api2/json/late"],
        "off unless set"
    );
}

#[tokio::test]
async fn a_refusal_names_the_releases_that_have_the_call() {
    let fake = server("7.4");
    let client = fake.token_client();
    let error = client.execute(call(&LATE, &[])).await.expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "POST /late #1: 501 Method 'POST /late' not implemented (this call exists since 8.1)"
    );
    let error = client
        .execute(call(&POOLS, &["poolid"]))
        .await
        .expect_err("unknown");
    assert_eq!(
        error.api().and_then(ApiError::hint),
        Some("`net3` exists since 9.0; `poolid` exists since 8.1")
    );
    assert_eq!(
        fake.lines().len(),
        2,
        "no request was made to find that out"
    );

    client.server_release().await.expect("answered");
    let error = client.execute(call(&LATE, &[])).await.expect_err("unknown");
    assert!(
        error
            .to_string()
            .ends_with("(this call exists since 8.1; the server runs 7.4)"),
        "{error}"
    );
}

static CLONE: Endpoint = Endpoint::new(Method::Post, "/clone", Permission::World)
    .renamed(&[Renamed::new("newid", "new-id", Release::new(9, 3))]);

#[tokio::test]
async fn a_parameter_is_sent_under_the_name_of_the_servers_release() {
    for (release, sent) in [
        ("9.2", "newid=5&delete=newid%2Cname"),
        ("9.3", "new-id=5&delete=new-id%2Cname"),
        ("10.0", "new-id=5&delete=new-id%2Cname"),
    ] {
        let fake = server(release);
        let client = fake.token_client();
        for _ in 0..2 {
            let mut call = call(&CLONE, &[]);
            call.params.set("newid", ParamValue::One("5".into()));
            call.unset("newid".into());
            call.unset("name".into());
            let _ = client.execute(call).await;
        }
        let requests = fake.requests();
        let bodies = requests
            .iter()
            .filter(|request| request.path.ends_with("/clone"));
        let bodies: Vec<_> = bodies.map(|request| request.body.clone()).collect();
        assert_eq!(bodies, [sent, sent], "{release}");
        let version_requests = requests
            .iter()
            .filter(|request| request.path.ends_with("/version"));
        assert_eq!(version_requests.count(), 1, "{release}");
    }
    // The call does not give it, so there is nothing to ask.
    let fake = server("9.3");
    let _ = fake.token_client().execute(call(&CLONE, &["name"])).await;
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn no_hint_about_releases_if_the_server_is_new_enough() {
    let fake = server("9.2");
    let client = fake.token_client();
    client.server_release().await.expect("answered");
    let error = client
        .execute(call(&POOLS, &["poolid"]))
        .await
        .expect_err("refused");
    assert_eq!(error.api().and_then(ApiError::hint), None);
}

#[test]
fn releases_are_parsed_in_all_forms_that_servers_send() {
    for (text, release) in [
        ("9.1", Some(Release::new(9, 1))),
        ("7.4-3", Some(Release::new(7, 4))),
        ("9.0.0~11", Some(Release::new(9, 0))),
        (" 8.0~beta", Some(Release::new(8, 0))),
        ("9", None),
        ("9.", None),
        ("", None),
        ("300.1", None),
        ("a.b", None),
    ] {
        assert_eq!(parse(text), release, "{text}");
    }
}

#[tokio::test]
async fn a_version_without_a_release_is_an_error_and_is_read_again() {
    let fake = Fake::new(|_| ok(r#"{"data":{"release":"new","version":7}}"#));
    let client = fake.token_client();
    for number in 1..=2 {
        let error = client.server_release().await.expect_err("no release in it");
        assert_eq!(error.request_id(), Some(number));
        assert_eq!(
            error.to_string(),
            format!(
                "GET /version #{number}: cannot read the answer: at data.release: expected a release such as 9.1, found none"
            )
        );
        assert_eq!(fake.lines().len() as u64, number);
    }
}

proptest::proptest! {
    #[test]
    fn no_version_causes_a_panic(text in "\\PC{0,40}", number in "[0-9]{1,30}[.][0-9]{0,30}.{0,5}") {
        let _ = (parse(&text), parse(&number));
    }
}
