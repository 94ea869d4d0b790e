//! Requirements on every client of this API, with one test for each.

use std::time::{Duration, UNIX_EPOCH};

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::error::{ErrorKind, RequestErrorKind};
use proxmox_api::task::TaskOutcome;
use proxmox_api::value::endpoint::{Method, Release};
use proxmox_api::value::upid::Upid;
use proxmox_api::{Client, ClientBuilder, Error};
use proxmox_simulator::{Builder, Clock, Fault, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};

fn simulator() -> Builder {
    Simulator::builder()
        .time_factor(0.0)
        .clock(Clock::manual(1_800_000_000))
        .qemu(100, "pve1", &[("name", "one")])
}

async fn start(builder: Builder) -> Simulator {
    builder.start().await.expect("the simulator starts")
}

fn builder_for(pve: &Simulator) -> ClientBuilder {
    Client::builder(pve.url())
        .ca_pem(pve.ca_pem())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .retry(RetryPolicy::none())
}

fn built(builder: ClientBuilder) -> Client {
    builder.build().expect("the settings are complete")
}

#[tokio::test]
async fn connection_test_with_valid_and_invalid_credentials() {
    let pve = start(simulator()).await;
    let version = built(builder_for(&pve))
        .version()
        .get()
        .await
        .expect("the token is valid");
    assert_eq!(version.release, proxmox_simulator::newest_release());
    let user = built(builder_for(&pve).password("root@pam", ROOT_PASSWORD));
    user.login().await.expect("the password is right");

    for wrong in [
        builder_for(&pve).api_token(TOKEN_ID, "00000000-0000-0000-0000-000000000000"),
        builder_for(&pve).api_token("root@pam!unknown", TOKEN_SECRET),
        builder_for(&pve).password("root@pam", "wrong"),
        builder_for(&pve).password("nobody@pve", ROOT_PASSWORD),
    ] {
        let error = built(wrong).version().get().await.expect_err("refused");
        assert_eq!(error.kind(), Some(ErrorKind::Unauthorized), "{error}");
    }
}

#[tokio::test]
async fn api_endpoint_availability_verification() {
    let pve = start(simulator().release("7.4")).await;
    let client = built(builder_for(&pve));
    assert_eq!(
        client.server_release().await.expect("answered"),
        Release::new(7, 4)
    );
    let request = client.pools().get().poolid("p");
    let error = client
        .check(request.call())
        .await
        .expect_err("7.4 lacks it");
    let Error::Request(error) = error else {
        panic!("{error}")
    };
    assert!(matches!(error.kind(), RequestErrorKind::Unavailable { .. }));
    client
        .check(client.pools().get().call())
        .await
        .expect("7.4 has it");
    let unknown = client
        .request::<proxmox_api::Value>(Method::Get, "/nope")
        .await
        .expect_err("no such path");
    assert_eq!(unknown.kind(), Some(ErrorKind::UnknownMethod));
}

#[tokio::test]
async fn response_format_validation_success_and_error_cases() {
    let pve = start(simulator()).await;
    let client = built(builder_for(&pve));
    let pools = client.pools().get().await.expect("an empty list is a list");
    assert!(pools.is_empty());
    client.pools().post("p1").await.expect("null is an answer");
    let exists = client.pools().post("p1").await.expect_err("it is there");
    assert_eq!(exists.kind(), Some(ErrorKind::AlreadyExists), "{exists}");
    let refused = client
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .param("nonsense", "1")
        .await;
    let refused = refused.expect_err("parameters are wrong");
    let named: Vec<_> = refused.api().expect("a refusal").errors().keys().collect();
    assert_eq!(named, ["nonsense", "poolid"]);
    let _cut = pve
        .faults()
        .on("GET", "/version")
        .respond(Fault::Truncate(5));
    let broken = client.version().get().await.expect_err("it is cut off");
    assert!(matches!(broken, Error::Interrupted(_)), "{broken}");
}

#[tokio::test]
async fn error_handling_for_network_issues() {
    let pve = start(simulator()).await;
    let url = pve.url();
    let client = built(builder_for(&pve));
    let closed = pve
        .faults()
        .on("GET", "/version")
        .times(1)
        .respond(Fault::Drop);
    let error = client
        .version()
        .get()
        .await
        .expect_err("the connection closed");
    assert!(
        matches!(error, Error::Interrupted(_)) && !error.never_sent(),
        "{error}"
    );
    assert_eq!(closed.hits(), 1);
    let client = built(builder_for(&pve).timeout(Duration::from_millis(200)));
    let _hangs = pve.faults().on("GET", "/version").respond(Fault::Hang);
    let error = client.version().get().await.expect_err("no answer");
    assert!(
        matches!(error, Error::Timeout(_)) && error.is_retryable(),
        "{error}"
    );
    let other = builder_for(&pve);
    drop(pve);
    let gone = built(
        Client::builder(url)
            .api_token(TOKEN_ID, TOKEN_SECRET)
            .retry(RetryPolicy::none()),
    );
    for client in [built(other), gone] {
        let error = client.version().get().await.expect_err("nobody is there");
        assert!(!matches!(error, Error::Api(_)), "{error}");
    }
}

#[tokio::test]
async fn token_expiration_and_permission_handling() {
    let pve = start(simulator().user("bob@pve", "b0b-pa55").acl(
        "/vms/100",
        "bob@pve",
        "PVEAuditor",
    ))
    .await;
    let hands = pve.clock();
    let now = hands.clone();
    let client = built(
        builder_for(&pve)
            .password("bob@pve", "b0b-pa55")
            .clock(move || UNIX_EPOCH + now.now()),
    );
    let config = "/nodes/pve1/qemu/100/config";
    client
        .request::<proxmox_api::Value>(Method::Get, config)
        .await
        .expect("bob may look");
    let error = client
        .request::<proxmox_api::Value>(Method::Put, config)
        .param("cores", "2")
        .await;
    let error = error.expect_err("bob may not change");
    assert_eq!(error.kind(), Some(ErrorKind::PermissionDenied), "{error}");
    hands.advance(Duration::from_secs(90 * 60));
    client
        .request::<proxmox_api::Value>(Method::Get, config)
        .await
        .expect("the ticket is renewed");
    hands.advance(Duration::from_secs(5 * 60 * 60));
    client
        .request::<proxmox_api::Value>(Method::Get, config)
        .await
        .expect("the password gives another one");
}

#[tokio::test]
async fn ssl_certificate_validation_bypass_homelab() {
    let pve = start(simulator()).await;
    let bare = || {
        Client::builder(pve.url())
            .api_token(TOKEN_ID, TOKEN_SECRET)
            .retry(RetryPolicy::none())
    };
    let error = built(bare())
        .version()
        .get()
        .await
        .expect_err("no authority signed it");
    let Error::Connect(error) = error else {
        panic!("{error}")
    };
    let presented = error.server_certificate().expect("it was shown");
    assert_eq!(presented.to_string(), pve.fingerprint());
    built(bare().fingerprint(presented))
        .version()
        .get()
        .await
        .expect("pinned");
    built(bare().danger_accept_invalid_certs(true))
        .version()
        .get()
        .await
        .expect("anything goes");
}

#[tokio::test]
async fn task_polling_timeout_scenarios() {
    // The clock is manual, so a task ends only when the clock is advanced.
    let pve = start(simulator().time_factor(1.0)).await;
    let client = built(builder_for(&pve));
    let start = "/nodes/pve1/qemu/100/status/start";
    let upid = client
        .request::<proxmox_api::Value>(Method::Post, start)
        .await
        .expect("accepted");
    let task = client.task(upid.as_str().expect("a UPID").parse().expect("a UPID"));
    let wait = || task.wait().poll_interval(Duration::from_millis(1));
    let error = wait()
        .timeout(Duration::from_millis(20))
        .await
        .expect_err("it runs on");
    assert!(matches!(error, Error::Task(_)), "{error}");
    pve.clock().advance(Duration::from_secs(3600));
    wait()
        .timeout(Duration::from_secs(60))
        .await
        .expect("it ended");
}

#[tokio::test]
async fn upid_parsing_and_status_tracking() {
    let pve = start(simulator()).await;
    let client = built(builder_for(&pve));
    let stop = client
        .request::<proxmox_api::Value>(Method::Post, "/nodes/pve1/qemu/100/status/start")
        .await;
    let text = stop.expect("accepted");
    let upid: Upid = text.as_str().expect("a text").parse().expect("a UPID");
    assert_eq!(
        (upid.node(), upid.task_type(), upid.id()),
        ("pve1", "qmstart", Some("100"))
    );
    assert_eq!(upid.to_string(), text);
    let task = client.task(upid);
    let outcome = task.wait().outcome().await.expect("it ended");
    assert_eq!(outcome, TaskOutcome::Ok);
    "UPID:pve1:nonsense".parse::<Upid>().expect_err("no UPID");
}
