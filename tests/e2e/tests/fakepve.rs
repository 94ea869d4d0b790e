//! The client with fakepve, a third-party fake of Proxmox VE.
//!
//! These tests need its server, which `.ci/run` starts with `fakepve/serve.py`. To start it by
//! hand:
//!
//! ```text
//! python3 -m venv VENV && VENV/bin/pip install -r tests/e2e/fakepve/requirements.txt
//! mkdir RUN && VENV/bin/python tests/e2e/fakepve/serve.py RUN &
//! (set -a && . RUN/environment && cargo test -p proxmox-e2e --test fakepve -- --ignored --show-output)
//! ```
//!
//! The last test lists the features that fakepve does not have.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use proxmox_api::client::auth::{AuthErrorKind, TfaAnswer, TfaChallenge};
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::error::ErrorKind;
use proxmox_api::pve::qemu::QemuNet;
use proxmox_api::request::ApiRequest;
use proxmox_api::stream::upload::{ChecksumAlgorithm, UploadContent};
use proxmox_api::task::{Task, TaskErrorKind, TaskOutcome};
use proxmox_api::tls::Fingerprint;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POLL: Duration = Duration::from_millis(50);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; see the head of this file"))
}

fn server() -> ClientBuilder {
    builder_for("FAKEPVE_URL")
}

/// One of the servers, by the variable with its address.
fn builder_for(url: &str) -> ClientBuilder {
    Client::builder(variable(url)).ca_file(variable("FAKEPVE_CA_FILE"))
}

fn with_root(server: ClientBuilder) -> ClientBuilder {
    server.password("root@pam", variable("FAKEPVE_PASSWORD"))
}

fn built(builder: ClientBuilder) -> Client {
    builder
        .build()
        .expect("the environment describes the server")
}

fn with_token(server: ClientBuilder) -> Client {
    server
        .api_token(
            variable("FAKEPVE_TOKEN_ID"),
            variable("FAKEPVE_TOKEN_SECRET"),
        )
        .build()
        .expect("the environment describes the server")
}

fn with_password() -> Client {
    server()
        .password("root@pam", variable("FAKEPVE_PASSWORD"))
        .build()
        .expect("the environment describes the server")
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_ticket_and_a_token_see_the_same_nodes_and_guests() {
    for pve in [with_password(), with_token(server())] {
        let version = pve.version().get().await.unwrap();
        assert_eq!(version.release, "9.0");

        let nodes = pve.nodes().get().await.unwrap();
        let names: Vec<_> = nodes.iter().map(|node| node.node.as_str()).collect();
        assert_eq!(names, ["pve1", "slow", "unplugged"]);
        assert_eq!(nodes[0].status.as_str(), "online");
        assert_eq!(nodes[0].maxcpu, Some(4));

        let guests = pve.cluster().resources().get().type_("vm").await.unwrap();
        let mut seen: Vec<_> = (guests.iter())
            .map(|guest| (guest.vmid.unwrap(), guest.type_.to_string()))
            .collect();
        seen.sort();
        let expected = [100, 101, 102, 103, 110].map(|vmid| (vmid, "qemu".to_owned()));
        assert_eq!(seen[..5], expected);
        assert_eq!(seen[5], (200, "lxc".to_owned()));

        let machines = pve.nodes().node("pve1").qemu().get().await.unwrap();
        let locked = machines.iter().find(|vm| vm.vmid == 102).unwrap();
        assert_eq!(locked.name.as_deref(), Some("locked"));
        assert_eq!(locked.status.as_str(), "running");
        assert_eq!(locked.maxmem, Some(512 << 20));

        let containers = pve.nodes().node("pve1").lxc().get().await.unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0].vmid, 200);
    }
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_wrong_password_and_a_wrong_token_are_refused() {
    let pve = server().password("root@pam", "wrong").build().unwrap();
    let error = pve.nodes().get().await.unwrap_err();
    assert!(matches!(error, Error::Auth(_)), "{error}");
    assert_eq!(error.api().unwrap().message(), "authentication failure");

    let token = variable("FAKEPVE_TOKEN_ID");
    let pve = server().api_token(token, "wrong").build().unwrap();
    let error = pve.nodes().get().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_pinned_certificate_is_accepted_and_another_refused() {
    let builder = || Client::builder(variable("FAKEPVE_URL"));
    let error = (with_token(builder()).version().get().await).unwrap_err();
    let Error::Connect(refused) = &error else {
        panic!("a certificate of no known authority was accepted: {error}");
    };
    let fingerprint: Fingerprint = refused.server_certificate().unwrap();
    let pinned = with_token(builder().fingerprint(fingerprint));
    pinned.version().get().await.unwrap();

    let other = with_token(builder().fingerprint(Fingerprint::of(b"another certificate")));
    let error = other.version().get().await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn power_changes_are_waited_for() {
    let pve = with_password();
    let vm = pve.nodes().node("pve1").qemu().vmid(100);
    let state = async || {
        vm.status()
            .current()
            .get()
            .await
            .unwrap()
            .status
            .to_string()
    };
    assert_eq!(state().await, "stopped");

    let log = Mutex::new(Vec::new());
    let task = vm.status().start().post().await.unwrap();
    assert_eq!(task.upid().expect("a task").task_type(), "qmstart");
    assert_eq!(task.upid().expect("a task").id(), Some("100"));
    let wait = task.wait().poll_interval(POLL);
    let outcome = wait
        .on_log(|line| log.lock().unwrap().push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(outcome, TaskOutcome::Ok);
    assert_eq!(*log.lock().unwrap(), ["TASK OK"]);
    assert_eq!(state().await, "running");

    let task = vm.status().shutdown().post().await.unwrap();
    task.wait().poll_interval(POLL).await.unwrap();
    assert_eq!(state().await, "stopped");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_failed_task_has_its_text() {
    let pve = with_token(server());
    let vm = pve.nodes().node("pve1").qemu().vmid(103);
    let task = vm.status().start().post().await.unwrap();
    let error = task.wait().poll_interval(POLL).await.unwrap_err();
    let Error::Task(failed) = &error else {
        panic!("not a failed task: {error}");
    };
    assert_eq!(failed.upid(), task.upid());
    let TaskErrorKind::Failed(text) = failed.reason() else {
        panic!("it is known how it ended: {error}");
    };
    assert_eq!(text, "volume 'local-lvm:vm-103-disk-0' does not exist");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_configuration_is_read_changed_and_written() {
    let pve = with_token(server());
    let vm = pve.nodes().node("pve1").qemu().vmid(101);
    let before = vm.config().get().await.unwrap();
    assert_eq!(before.cores, Some(2));
    assert_eq!(before.memory.as_ref().unwrap().current, 1024);
    assert_eq!(before.extra["from-the-future"], "kept=1");
    assert_eq!(before.net.keys().collect::<Vec<_>>(), [&0, &3]);
    let card = &before.net[&3];
    assert_eq!(card.model.as_str(), "e1000");
    assert_eq!(card.macaddr, Some("BC:24:11:00:01:31".into()));
    assert_eq!(card.tag, Some(7));

    let mut card = card.clone();
    card.tag = Some(8);
    let digest = before.digest.unwrap();
    let change = vm
        .config()
        .put()
        .digest(&digest)
        .net(3, card)
        .net(1, QemuNet::virtio().bridge("vmbr0").firewall(true))
        .description("two lines,\nand 100 % of = & ; + ü")
        .unset("ostype");
    change.clone().await.unwrap();

    let after = vm.config().get().await.unwrap();
    let text = "two lines,\nand 100 % of = & ; + ü";
    assert_eq!(after.description.as_deref().map(str::trim_end), Some(text));
    assert_eq!(
        after.net[&3].to_string(),
        "e1000=BC:24:11:00:01:31,bridge=vmbr1,tag=8"
    );
    assert_eq!(after.net[&1].bridge.as_deref(), Some("vmbr0"));
    assert_eq!(after.ostype, None);
    assert_eq!(after.extra["from-the-future"], "kept=1");
    assert_eq!(after.scsi[&0].to_string(), before.scsi[&0].to_string());

    let error = change.await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ConfigChanged), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn refused_parameters_are_named() {
    let pve = with_token(server().check_parameters(false));
    let vm = pve.nodes().node("pve1").qemu().vmid(101);
    let error = (vm.config().put().cores(0).param("colour", "blue"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ParameterVerification));
    let refusal = error.api().unwrap();
    assert_eq!(refusal.status(), 400);
    assert_eq!(refusal.message(), "Parameter verification failed.");
    let named: Vec<_> = refusal.errors().keys().map(String::as_str).collect();
    assert_eq!(named, ["colour", "cores"]);
    assert!(refusal.errors()["cores"].contains("minimum value of 1"));
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn texts_with_status_500_are_classified() {
    let pve = with_token(server());
    let node = pve.nodes().node("pve1");

    let error = node.qemu().vmid(999).config().get().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::NotFound), "{error}");
    assert_eq!(error.api().unwrap().status(), 500);
    assert_eq!(
        error.api().unwrap().message(),
        "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
    );

    let locked = node.qemu().vmid(102).status().shutdown().post();
    let error = locked.await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Locked), "{error}");
    assert_eq!(error.api().unwrap().message(), "VM is locked (backup)");

    let stopped = node.qemu().vmid(101).status().shutdown().post();
    let error = stopped.await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::NotRunning), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_slow_node_causes_a_timeout() {
    let list = async |pve: Client| pve.nodes().node("slow").qemu().get().await;
    let hasty = with_token(server().timeout(Duration::from_millis(300)));
    let error = list(hasty).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    assert!(!error.never_sent(), "it may have been processed");
    assert!(error.is_retryable(), "it only reads");

    let patient = with_token(server());
    let machines = list(patient).await.unwrap();
    assert_eq!(machines[0].name.as_deref(), Some("far-away"));
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_proxys_page_is_an_error() {
    let pve = with_token(server());
    let error = pve.cluster().log().get().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Unavailable), "{error}");
    assert_eq!(error.api().unwrap().status(), 502);
    assert!(error.to_string().contains("Bad Gateway"), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn any_path_can_be_called() {
    let pve = with_password();
    let answer = pve
        .request::<proxmox_api::Value>(Method::Get, "/cluster/nextid")
        .await
        .unwrap();
    assert_eq!(answer, "104");
}

async fn refusal(builder: ClientBuilder) -> AuthErrorKind {
    let result = built(builder).version().get().await;
    let error = result.expect_err("the login is not complete");
    assert!(error.never_sent(), "{error}");
    match error {
        Error::Auth(error) => error.reason().clone(),
        other => panic!("no failed login: {other}"),
    }
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_login_needs_a_second_factor() {
    let tfa = || builder_for("FAKEPVE_TFA_URL");
    let wrong = refusal(tfa().password("root@pam", "wrong")).await;
    assert!(matches!(wrong, AuthErrorKind::Refused(_)), "{wrong:?}");

    let reason = refusal(with_root(tfa())).await;
    let AuthErrorKind::SecondFactor(challenge) = reason else {
        panic!("not asked: {reason:?}");
    };
    assert_eq!(challenge.user(), "root@pam");

    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        move |challenge: TfaChallenge| {
            assert_eq!(challenge.user(), "root@pam");
            calls.fetch_add(1, Ordering::SeqCst);
            async { Err::<TfaAnswer, _>("nobody has the key") }
        }
    };
    let reason = refusal(with_root(tfa()).tfa(handler)).await;
    let AuthErrorKind::NoAnswer { problem, .. } = reason else {
        panic!("not asked: {reason:?}");
    };
    assert_eq!(problem, "nobody has the key");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Repeats a request with a ticket until the server refuses the ticket.
async fn until_refused(client: &Client) -> Error {
    let start = Instant::now();
    loop {
        match client.version().get().await {
            Err(error) => return error,
            Ok(_) if start.elapsed() > Duration::from_secs(60) => panic!("it does not expire"),
            Ok(_) => tokio::time::sleep(POLL).await,
        }
    }
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn an_expired_ticket_is_replaced_once_for_all_calls() {
    let expiry = || builder_for("FAKEPVE_EXPIRY_URL");
    let pve = built(with_root(expiry()));
    pve.login().await.unwrap();
    let old = pve.save_session().await.expect("logged in");
    let without_password = built(expiry().session(old.clone()));
    let error = until_refused(&without_password).await;
    // The text is the same for every refused ticket, and this client did not see the ticket's
    // creation.
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized), "{error}");
    assert!(!format!("{error} {error:?}").contains("::"), "{error:?}");

    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(IntoFuture::into_future(pve.version().get())))
        .collect();
    for call in calls {
        call.await.unwrap().expect("accepted with another ticket");
    }
    let new = pve.save_session().await.expect("logged in");
    assert!(old != new, "another ticket");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_ticket_that_is_old_by_the_local_clock_is_replaced_before_use() {
    let ahead = Arc::new(AtomicU64::new(0));
    let hands = Arc::clone(&ahead);
    let clock = move || SystemTime::now() + Duration::from_secs(hands.load(Ordering::SeqCst));
    let pve = built(with_root(server()).clock(clock));
    pve.version().get().await.unwrap();
    let old = pve.save_session().await.expect("logged in");
    for hours in [2, 4] {
        ahead.store(hours * 3600, Ordering::SeqCst);
        pve.version().get().await.unwrap();
    }
    assert!(old != pve.save_session().await.expect("logged in"));
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn faults_of_the_server_are_distinguished() {
    let pve = with_token(server());
    for (method, path, status, kind) in [
        (Method::Post, "/pools", 500, ErrorKind::NoQuorum),
        (
            Method::Put,
            "/nodes/pve1/qemu/103/config",
            500,
            ErrorKind::LockTimeout,
        ),
        (
            Method::Get,
            "/nodes/pve1/dns",
            500,
            ErrorKind::NodeUnreachable,
        ),
        (
            Method::Get,
            "/nodes/unplugged/qemu",
            595,
            ErrorKind::NodeUnreachable,
        ),
        (
            Method::Get,
            "/nodes/pve1/time",
            403,
            ErrorKind::PermissionDenied,
        ),
        (
            Method::Get,
            "/nodes/pve1/version",
            501,
            ErrorKind::UnknownMethod,
        ),
        (Method::Delete, "/pools", 401, ErrorKind::InvalidCsrf),
    ] {
        let error = pve
            .request::<proxmox_api::Value>(method, path)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{error}");
        assert_eq!(error.api().unwrap().status(), status, "{error}");
        assert_eq!(error.endpoint(), Some(&*format!("{method} {path}")));
    }
    let error = pve
        .request::<proxmox_api::Value>(Method::Get, "/nodes/pve1/time")
        .await
        .unwrap_err();
    let missing = error.api().unwrap().missing_permission();
    let missing = missing.unwrap();
    assert_eq!(
        (missing.path, missing.any_of),
        ("/nodes/pve1", vec!["Sys.Audit"])
    );

    let task = pve
        .nodes()
        .node("pve1")
        .qemu()
        .vmid(101)
        .status()
        .start()
        .post();
    let error = task
        .await
        .unwrap()
        .wait()
        .poll_interval(POLL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::AlreadyRunning), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_temporary_fault_is_retried_for_reads_only() {
    let pve = with_token(server());
    let path = "/cluster/backup";
    pve.request::<proxmox_api::Value>(Method::Get, path)
        .await
        .expect("the second time");

    let error = pve
        .request::<proxmox_api::Value>(Method::Post, path)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Unavailable), "{error}");
    // Only one request met the fault, otherwise this one would, too.
    let error = pve
        .request::<proxmox_api::Value>(Method::Post, path)
        .param("nonsense", "1")
        .await;
    let error = error.unwrap_err();
    assert_eq!(
        error.kind(),
        Some(ErrorKind::ParameterVerification),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_closed_or_silent_connection_means_maybe_processed() {
    let call = async |builder: ClientBuilder, method| {
        // With a token, the call itself gets no answer; with a password the login would get none,
        // and the call would not be sent.
        let pve = with_token(builder.retry(RetryPolicy::none()));
        pve.request::<proxmox_api::Value>(method, "/access/domains")
            .await
            .unwrap_err()
    };
    for method in [Method::Get, Method::Post] {
        let error = call(builder_for("FAKEPVE_DROPS_URL"), method).await;
        assert!(matches!(error, Error::Interrupted(_)), "{error}");
        // The time limit includes connecting.
        let hasty = builder_for("FAKEPVE_HANGS_URL").timeout(Duration::from_secs(1));
        let error = call(hasty, method).await;
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        assert!(!error.never_sent());
    }
    let dropped = builder_for("FAKEPVE_DROPS_URL").host(variable("FAKEPVE_URL"));
    let pve = with_token(dropped);
    pve.version().get().await.expect("the other host answers");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_body_beyond_the_servers_limit_is_recognized() {
    let pve = built(with_root(builder_for("FAKEPVE_SMALL_URL")));
    let text = "x".repeat(100 * 1024);
    let error = (pve
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .param("comment", text))
    .await
    .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::TooLarge), "{error}");
    let upload = pve.upload("pve1", "local").bytes(vec![0; 200 * 1024]);
    let error = upload.name("large.iso").await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::TooLarge), "{error}");
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn an_upload_becomes_a_volume() {
    let pve = with_password();
    let size = 3 << 20;
    // Contains texts that look like the end of a part.
    let tricky = b"--\r\n\0\xff--boundary\r\n\r\n";
    let bytes: Vec<u8> = tricky.iter().copied().cycle().take(size).collect();
    let progress = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&progress);
    let task = pve
        .upload("pve1", "local")
        .bytes(bytes)
        .name("debian-13.iso")
        .verified()
        .on_progress(move |now| seen.store(now.sent, Ordering::SeqCst))
        .await
        .unwrap();
    assert_eq!(task.upid().expect("a task").task_type(), "imgcopy");
    assert_eq!(
        task.wait().poll_interval(POLL).await.unwrap(),
        TaskOutcome::Ok
    );
    assert_eq!(progress.load(Ordering::SeqCst), size as u64);
    let storage = pve.nodes().node("pve1").storage().storage("local");
    let volumes = storage.content().get().await.unwrap();
    let volume = (volumes.iter())
        .find(|volume| volume.volid == "local:iso/debian-13.iso")
        .expect("it is listed");
    assert_eq!(volume.size, Some(size as u64));

    for (storage, name, content) in [
        ("local-lvm", "x.iso", UploadContent::Iso),
        ("nowhere", "x.iso", UploadContent::Iso),
    ] {
        let upload = pve.upload("pve1", storage).bytes("x").name(name);
        let error = upload.content(content).await.unwrap_err();
        assert!(error.api().is_some(), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn the_log_of_a_task_is_read_line_by_line() {
    let pve = with_password();
    let task = uploaded(&pve, "lines.iso").await;
    let mut lines = task.wait().poll_interval(POLL).lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.try_next().await.unwrap() {
        seen.push(line);
    }
    assert_eq!(seen, ["TASK OK"]);
}

#[tokio::test]
#[ignore = "needs fakepve"]
async fn a_machine_has_a_terminal_and_a_display() {
    for pve in [with_password(), with_token(server())] {
        let console = pve.qemu_console("pve1", 102);
        let mut terminal = console.terminal().await.unwrap();
        terminal.resize(100, 40).await.unwrap();
        terminal.write("größer\r".as_bytes()).await.unwrap();
        let mut output = Vec::new();
        while !output.ends_with("größer\r".as_bytes()) {
            output.extend_from_slice(&terminal.read().await.unwrap().expect("open"));
        }
        let greeting = "starting serial terminal on interface serial0\r\n";
        assert!(output.starts_with(greeting.as_bytes()), "{output:?}");
        terminal.close().await.unwrap();

        let mut display = console.vnc().await.unwrap();
        let mut version = [0; 12];
        display.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
        display.write_all(&version).await.unwrap();
        let mut kinds = [0; 2];
        display.read_exact(&mut kinds).await.unwrap();
        assert_eq!(kinds, [1, 2], "one kind of login, by password");
        display.write_all(&[2]).await.unwrap();
        let mut challenge = [0; 16];
        display.read_exact(&mut challenge).await.unwrap();
        display.write_all(&challenge).await.unwrap();
        let refused = display.read_u32().await.unwrap();
        assert_eq!(refused, 1, "what is not encrypted is no answer");
    }
}

async fn uploaded(pve: &Client, name: &str) -> Task {
    let upload = pve.upload("pve1", "local").bytes("x").name(name);
    let task = upload.await.expect("accepted");
    let wait = task.wait().poll_interval(POLL);
    wait.await.expect("it does its work");
    task
}

/// Each feature is tried: if it works, remove it from this list and add a test above.
#[tokio::test]
#[ignore = "needs fakepve"]
async fn missing_features_of_fakepve_are_listed() {
    let pve = with_password();
    let mut lacks = Vec::new();

    let challenge = match refusal(with_root(builder_for("FAKEPVE_TFA_URL"))).await {
        AuthErrorKind::SecondFactor(challenge) => challenge,
        other => panic!("not asked: {other:?}"),
    };
    if challenge.methods().is_empty() {
        lacks.push("list the second factors in a challenge");
    }
    let answering = async |_: TfaChallenge| Ok::<_, Error>(TfaAnswer::totp("123456"));
    let answered = refusal(with_root(builder_for("FAKEPVE_TFA_URL")).tfa(answering)).await;
    if let AuthErrorKind::Refused(_) = answered {
        lacks.push(
            "accept the answer to a challenge, so no login with a second factor can complete",
        );
    }

    pve.login().await.unwrap();
    let session = pve.save_session().await.expect("logged in");
    let later = || SystemTime::now() + Duration::from_secs(90 * 60);
    let renewing = built(server().session(session).clock(later));
    if renewing.version().get().await.is_err() {
        lacks
            .push("accept a ticket as password, so tickets cannot be renewed without the password");
    }

    let token = variable("FAKEPVE_TOKEN_ID");
    let error = built(server().api_token(token, "wrong"))
        .version()
        .get()
        .await;
    if !error.unwrap_err().api().unwrap().body().is_empty() {
        lacks.push("refuse a ticket or token without a body");
    }

    let task = uploaded(&pve, "lacks.iso").await;
    let log = pve.nodes().node("pve1").tasks().upid(task.to_string());
    let log = || log.log().get();
    if log().with_envelope().await.unwrap().total.is_none() {
        lacks.push("count the lines of a log");
    }
    let file = log().download(true).stream().await.unwrap();
    if file
        .content_type()
        .is_some_and(|kind| kind.contains("json"))
    {
        lacks.push("send a log as a file");
    }
    let wrong = "0".repeat(64);
    let upload = pve.upload("pve1", "local").bytes("x").name("sum.iso");
    let task = upload
        .checksum(ChecksumAlgorithm::Sha256, wrong)
        .await
        .unwrap();
    if task.wait().poll_interval(POLL).await.is_ok() {
        lacks.push("compare the checksum of an upload");
    }
    let upload = pve.upload("pve1", "local").bytes("x").name("disk.qcow2");
    if upload.await.is_err() {
        lacks.push("accept disk images");
    }
    for lack in &lacks {
        println!("fakepve does not {lack}");
    }
    assert_eq!(lacks.len(), 7, "{lacks:#?}");
}
