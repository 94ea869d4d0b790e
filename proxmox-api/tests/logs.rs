//! A program's log at the most verbose level, of this crate and all crates below it, contains no
//! secret.

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Value};
use proxmox_simulator::{ROOT_PASSWORD, Simulator};
use proxmox_test_support::captured_log;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PASSWORD: &str = "pl4nted pa55/w0rd";
const TYPED: &str = "typ3d-into-the-terminal";
const SHOWN: &str = "x7x7x7x7x7x7";
const HEADER: &str = "he4der/of my own";

fn builder(pve: &Simulator) -> ClientBuilder {
    Client::builder(pve.url())
        .fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
        .retry(RetryPolicy::none())
}

/// Logs in and uses secrets in many ways; returns those that the server issued.
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
    let created = alice
        .access()
        .users()
        .userid("alice@pve")
        .token()
        .tokenid("ci")
        .post()
        .await
        .expect("accepted");
    let token = created.value.expose().to_owned();
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
    let mut output = String::new();
    while output.matches(TYPED).count() < 2 {
        let piece = terminal.read().await.expect("open").expect("not over");
        output += &String::from_utf8_lossy(&piece);
    }
    terminal.write(b"exit\r").await.expect("open");
    while terminal.read().await.expect("open").is_some() {}
    let mut vnc = (alice.qemu_console("pve1", 101).vnc().await).expect("accepted");
    let vnc_password = vnc.password().expose().to_owned();
    let mut version = [0; 12];
    vnc.read_exact(&mut version).await.expect("open");
    vnc.write_all(SHOWN.as_bytes()).await.expect("open");
    vnc.shutdown().await.expect("open");

    // A refusal that quotes the request, and failed logins.
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
async fn no_crate_logs_a_secret_at_any_level() {
    captured_log::install();
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
    let log = captured_log::text();
    // The capture works.
    for target in ["proxmox_api:", "rustls::", "hyper_util::"] {
        assert!(log.contains(target), "nothing of {target}");
    }
    captured_log::assert_holds_none_of(&secrets);
}
