//! The client against fakepve, a fake Proxmox VE by other people: an independent opinion about the wire.
//!
//! These tests need its server, which `.ci/run` starts with `fakepve/serve.py`. By hand:
//!
//! ```text
//! python3 -m venv VENV && VENV/bin/pip install -r tests/e2e/fakepve/requirements.txt
//! mkdir RUN && VENV/bin/python tests/e2e/fakepve/serve.py RUN &
//! (set -a && . RUN/environment && cargo test -p proxmox-e2e --test fakepve -- --ignored)
//! ```

use std::sync::Mutex;
use std::time::Duration;

use proxmox_api::api::qemu::QemuNet;
use proxmox_api::endpoint::Method;
use proxmox_api::error::ErrorKind;
use proxmox_api::task::{TaskErrorKind, TaskOutcome};
use proxmox_api::tls::Fingerprint;
use proxmox_api::{Client, ClientBuilder, Error};

const POLL: Duration = Duration::from_millis(50);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; see the head of this file"))
}

fn server() -> ClientBuilder {
    Client::builder(variable("FAKEPVE_URL")).ca_file(variable("FAKEPVE_CA_FILE"))
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
        assert_eq!(names, ["pve1", "slow"]);
        assert_eq!(nodes[0].status.as_str(), "online");
        assert_eq!(nodes[0].maxcpu, Some(4));

        let guests = pve.cluster().resources().get().type_("vm").await.unwrap();
        let mut seen: Vec<_> = (guests.iter())
            .map(|guest| (guest.vmid.unwrap(), guest.type_.to_string()))
            .collect();
        seen.sort();
        let wanted = [100, 101, 102, 103, 110].map(|vmid| (vmid, "qemu".to_owned()));
        assert_eq!(seen[..5], wanted);
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
        panic!("a certificate nobody vouches for was accepted: {error}");
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
async fn power_changes_are_followed_to_their_end() {
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
    assert_eq!(task.upid().task_type(), "qmstart");
    assert_eq!(task.upid().id(), Some("100"));
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
async fn a_failed_task_tells_why() {
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
    assert_eq!(card.macaddr.as_deref(), Some("BC:24:11:00:01:31"));
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
async fn refused_parameters_are_named_one_by_one() {
    let pve = with_token(server());
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
async fn the_sentences_of_status_500_are_understood() {
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
async fn a_slow_node_costs_the_hasty_their_answer() {
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
async fn a_page_of_a_proxy_is_no_answer() {
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
    let answer = pve.request(Method::Get, "/cluster/nextid").await.unwrap();
    assert_eq!(answer, "104");
}
