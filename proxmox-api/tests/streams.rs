//! Files, lists and consoles with a simulated server.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use proxmox_api::error::ErrorKind;
use proxmox_api::request::ApiRequest;
use proxmox_api::stream::upload::{ChecksumAlgorithm, UploadContent};
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error};
use proxmox_simulator::{Builder, Clock, Fault, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};

async fn start(builder: Builder) -> (Simulator, Client) {
    let pve = builder.time_factor(0.0).start().await.expect("it starts");
    let client = pinned(&pve).api_token(TOKEN_ID, TOKEN_SECRET);
    (pve, client.build().expect("complete"))
}

fn pinned(pve: &Simulator) -> ClientBuilder {
    Client::builder(pve.url()).fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
}

fn one_node() -> Builder {
    Simulator::builder().node("pve1")
}

#[tokio::test]
async fn uploads_of_every_kind_arrive_under_their_names() {
    let (pve, client) = start(one_node()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("debian 13.tar.zst");
    std::fs::write(&path, vec![1; 300_000]).expect("room");
    let upload = || client.upload("pve1", "local");
    let uploads = [
        upload().bytes("an image").name("x.iso").verified(),
        upload().path(&path).verified(),
        upload()
            .reader(5, std::io::Cursor::new("12345"))
            .name("disk.qcow2"),
        upload()
            .bytes("")
            .name("empty.img")
            .content(UploadContent::Iso)
            .checksum(ChecksumAlgorithm::Md5, "d41d8cd98f00b204e9800998ecf8427e"),
    ];
    for upload in uploads {
        let task = upload.await.expect("accepted");
        assert_eq!(task.upid().expect("a task").task_type(), "imgcopy");
        task.wait()
            .poll_interval(Duration::from_millis(1))
            .await
            .expect("done");
    }
    let content = client.nodes().node("pve1").storage().storage("local");
    let content = content.content().get().await.expect("accepted");
    let size = |name: &str| {
        let found = content.iter().find(|volume| volume.volid == name);
        found
            .unwrap_or_else(|| panic!("{name} in {content:?}"))
            .size
    };
    assert_eq!(size("local:iso/x.iso"), Some(8));
    assert_eq!(size("local:vztmpl/debian_13.tar.zst"), Some(300_000));
    assert_eq!(size("local:import/disk.qcow2"), Some(5));
    assert_eq!(size("local:iso/empty.img"), Some(0));
    let uploads = pve.requests();
    let upload = (uploads.iter())
        .find(|request| request.params["filename"] == "debian 13.tar.zst")
        .expect("it came");
    assert_eq!(upload.params["checksum-algorithm"], "sha256");
}

#[tokio::test]
async fn refusals_of_uploads_are_api_errors() {
    let (_pve, client) = start(
        one_node()
            .user("u@pve", "secret")
            .acl("/", "u@pve", "PVEAuditor")
            .token("u@pve!t", "22222222-2222-3333-4444-555555555555"),
    )
    .await;
    let wrong = client
        .upload("pve1", "local")
        .bytes("x")
        .name("x.txt")
        .content(UploadContent::Iso)
        .await
        .expect_err("the ending does not fit");
    let api = wrong.api().expect("the server's refusal");
    assert!(api.errors().contains_key("filename"), "{wrong}");
    let wrong = client.upload("pve1", "local-lvm").bytes("x").name("x.iso");
    let wrong = wrong.await.expect_err("not configured for it");
    assert!(wrong.to_string().contains("not configured for"), "{wrong}");
}

#[tokio::test]
async fn a_missing_permission_is_reported() {
    let pve = one_node()
        .user("u@pve", "secret")
        .acl("/", "u@pve", "PVEAuditor")
        .time_factor(0.0)
        .start()
        .await
        .expect("it starts");
    let client = pinned(&pve).password("u@pve", "secret");
    let client = client.build().expect("complete");
    let error = client
        .upload("pve1", "local")
        .bytes(vec![0; 4 << 20])
        .name("x.iso")
        .await
        .expect_err("not allowed");
    assert_eq!(error.kind(), Some(ErrorKind::PermissionDenied), "{error}");
}

#[tokio::test]
async fn an_expired_ticket_is_replaced_for_streams() {
    let clock = Clock::manual(1_780_000_000);
    let pve = one_node().clock(clock.clone()).time_factor(0.0);
    let pve = pve.start().await.expect("it starts");
    // The client's clock is manual, so it does not renew ahead of time.
    let client = pinned(&pve)
        .password("root@pam", ROOT_PASSWORD)
        .clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000))
        .build()
        .expect("complete");
    client.version().get().await.expect("accepted");
    clock.advance(Duration::from_secs(3 * 60 * 60));
    let task = client.upload("pve1", "local").bytes("x").name("x.iso");
    let task = task.await.expect("with another ticket");

    clock.advance(Duration::from_secs(3 * 60 * 60));
    let log = client.nodes().node("pve1").tasks().upid(task.to_string());
    let mut file = log
        .log()
        .get()
        .download(true)
        .stream()
        .await
        .expect("with another ticket");
    let mut text = Vec::new();
    file.copy_to(&mut text).await.expect("complete");
    assert!(
        String::from_utf8_lossy(&text).contains("TASK OK"),
        "{text:?}"
    );

    clock.advance(Duration::from_secs(3 * 60 * 60));
    let once = client.upload("pve1", "local");
    let once = once.reader(1, std::io::Cursor::new("x")).name("x.iso");
    let error = once.await.expect_err("a reader cannot be read again");
    assert_eq!(error.kind(), Some(ErrorKind::TicketExpired), "{error}");
}

#[tokio::test]
async fn streams_use_another_host_while_one_is_offline() {
    let pve = one_node()
        .time_factor(0.0)
        .start()
        .await
        .expect("it starts");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let client = Client::builder(format!("https://{address}"))
        .host(pve.url())
        .fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .build()
        .expect("complete");
    let upload = || client.upload("pve1", "local");
    let task = upload().bytes("x").name("x.iso").await.expect("elsewhere");
    let log = client.nodes().node("pve1").tasks().upid(task.to_string());
    let log = log.log().get().download(true).stream();
    drop(log.await.expect("elsewhere"));
    // The client knows the reachable host by now, so a reader that can be read only once works,
    // too.
    let once = upload().reader(1, std::io::Cursor::new("y")).name("y.iso");
    once.await.expect("to the reachable host").detach();
}

#[tokio::test]
async fn a_log_requested_as_a_file_has_a_helpful_error() {
    let (_pve, client) = start(one_node()).await;
    let upload = client.upload("pve1", "local").bytes("x").name("x.iso");
    let task = upload.await.expect("accepted");
    let log = client.nodes().node("pve1").tasks().upid(task.to_string());
    let error = log.log().get().download(true).await.expect_err("a file");
    let text = error.to_string();
    assert!(
        text.contains("not JSON") && text.contains("`stream()`"),
        "{text}"
    );
}

#[tokio::test]
async fn a_log_is_downloaded_and_truncation_is_an_error() {
    let (pve, client) = start(one_node()).await;
    let upload = client.upload("pve1", "local").bytes("x").name("x.iso");
    let task = upload.await.expect("accepted");
    let log = client.nodes().node("pve1").tasks().upid(task.to_string());
    let log = log.log().get().download(true);
    let mut whole = Vec::new();
    let mut file = log.clone().stream().await.expect("accepted");
    file.copy_to(&mut whole).await.expect("complete");
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(
        text.starts_with("target file: ") && text.contains("TASK OK"),
        "{text}"
    );

    let path = "/nodes/*/tasks/*/log";
    pve.faults()
        .on("GET", path)
        .times(1)
        .respond(Fault::Truncate(10));
    let mut file = log.clone().stream().await.expect("a start");
    let mut part = Vec::new();
    let error = file
        .copy_to(&mut part)
        .await
        .expect_err("the rest is missing");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
    assert!(whole.starts_with(&part) && part.len() <= 10);

    let missing = client
        .request::<proxmox_api::Value>(Method::Get, "/nodes/pve1/tasks/x/log")
        .stream();
    let error = missing.await.expect_err("no UPID");
    assert!(error.api().is_some(), "{error}");
}

#[tokio::test]
async fn lists_are_read_to_their_end_and_have_a_total() {
    let (pve, client) = start(one_node().qemu(100, "pve1", &[])).await;
    for i in 0..7 {
        let upload = client.upload("pve1", "local").bytes("x");
        upload
            .name(format!("{i}.iso"))
            .await
            .expect("accepted")
            .detach();
    }
    let tasks = client.nodes().node("pve1").tasks();
    let answer = tasks
        .get()
        .limit(2)
        .with_envelope()
        .await
        .expect("accepted");
    assert_eq!((answer.data.len(), answer.total), (2, Some(7)));
    pve.clear_requests();
    let mut items = tasks.get().items(3);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(task) = items.try_next().await.expect("accepted") {
        seen.insert(task.upid);
    }
    assert_eq!((seen.len(), items.total()), (7, Some(7)));
    let starts: Vec<_> = (pve.requests().iter())
        .map(|request| request.params["start"].clone())
        .collect();
    assert_eq!(starts, ["0", "3", "6"]);
}

#[tokio::test]
async fn a_journal_is_read_line_by_line() {
    let (pve, client) = start(one_node()).await;
    let journal = || client.nodes().node("pve1").journal().get();
    let whole = journal().await.expect("accepted");
    let mut lines = journal().stream().await.expect("accepted").lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.try_next().await.expect("a line") {
        seen.push(line);
    }
    assert!(!seen.is_empty());
    assert_eq!(seen, whole);

    let path = "/nodes/*/journal";
    (pve.faults().on("GET", path).times(1)).respond(Fault::Truncate(9));
    let mut lines = journal().stream().await.expect("a start").lines();
    let error = loop {
        match lines.try_next().await {
            Ok(line) => assert!(line.is_some(), "it is cut off"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
}

#[cfg(feature = "console")]
mod consoles {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn guests() -> Builder {
        let rootfs = ("rootfs", "local-lvm:8");
        one_node()
            .lxc(201, "pve1", &[("hostname", "ct"), rootfs])
            .running(201)
            .qemu(101, "pve1", &[("name", "web")])
            .running(101)
    }

    async fn until(terminal: &mut proxmox_api::stream::console::Terminal, end: &str) -> String {
        let mut output = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&output).into_owned();
            if text.ends_with(end) {
                return text;
            }
            let piece = terminal.read().await.expect("open");
            output.extend_from_slice(&piece.unwrap_or_else(|| panic!("ended after {text:?}")));
        }
    }

    #[tokio::test]
    async fn a_container_has_a_shell() {
        let (_pve, client) = start(guests()).await;
        let console = client.lxc_console("pve1", 201);
        let mut terminal = console.terminal().await.expect("accepted");
        let prompt = until(&mut terminal, "# ").await;
        assert_eq!(prompt, "root@ct:~# ");
        terminal.resize(132, 50).await.expect("open");
        terminal.write(b"stty size\r").await.expect("open");
        assert!(
            until(&mut terminal, &prompt)
                .await
                .contains("\r\n50 132\r\n")
        );
        terminal.write(b"repeat 1000000\r").await.expect("open");
        let much = until(&mut terminal, &prompt).await;
        assert_eq!(much.matches('x').count(), 1_000_000);
        // Longer than the maximum frame.
        let long = "y".repeat(300_000);
        terminal
            .write(format!("echo {long}\r").as_bytes())
            .await
            .expect("open");
        let echoed = until(&mut terminal, &prompt).await;
        assert_eq!(echoed.matches('y').count(), 600_000);
        terminal.write(b"exit\r").await.expect("open");
        while terminal.read().await.expect("a clean end").is_some() {}
    }

    #[tokio::test]
    async fn consoles_work_with_tickets_and_tokens() {
        let (pve, _) = start(guests()).await;
        let client = pinned(&pve)
            .password("root@pam", ROOT_PASSWORD)
            .build()
            .expect("complete");
        for console in [client.node_console("pve1"), client.lxc_console("pve1", 201)] {
            let mut terminal = console.terminal().await.expect("accepted");
            until(&mut terminal, "# ").await;
            terminal.close().await.expect("open");
        }
    }

    #[tokio::test]
    async fn a_machine_has_a_display() {
        let (_pve, client) = start(guests()).await;
        let mut vnc = client
            .qemu_console("pve1", 101)
            .vnc()
            .await
            .expect("accepted");
        assert!(!vnc.password().expose().is_empty());
        let mut version = [0; 12];
        vnc.read_exact(&mut version).await.expect("open");
        assert_eq!(&version, b"RFB 003.008\n");
        vnc.write_all(&version).await.expect("open");
        vnc.flush().await.expect("open");
        let kinds = vnc.read_u8().await.expect("the kinds of login");
        assert!(kinds > 0);
        let mut kinds = vec![0; usize::from(kinds)];
        vnc.read_exact(&mut kinds).await.expect("open");
        vnc.shutdown().await.expect("open");
    }

    #[tokio::test]
    async fn a_broken_console_ends_and_a_missing_one_is_an_error() {
        let (pve, client) = start(guests().qemu(102, "pve1", &[])).await;
        let path = "/nodes/*/lxc/*/vncwebsocket";
        pve.faults()
            .on("GET", path)
            .times(1)
            .respond(Fault::BreakConsole(5));
        let console = client.lxc_console("pve1", 201);
        let mut terminal = console.terminal().await.expect("accepted");
        let mut output = Vec::new();
        while let Ok(Some(piece)) = terminal.read().await {
            output.extend_from_slice(&piece);
        }
        assert_eq!(output, b"roo");

        let console = client.lxc_console("pve1", 999);
        let error = console.terminal().await.expect_err("no such container");
        assert!(error.api().is_some(), "{error}");
    }

    #[tokio::test]
    async fn a_spice_viewer_gets_its_settings() {
        let (_pve, client) = start(guests()).await;
        let console = client.qemu_console("pve1", 101);
        let file = console.spice().await.expect("accepted");
        assert!(file.text().starts_with("[virt-viewer]\n"));
        assert!(file.get("password").is_some() && file.get("proxy").is_some());
    }
}
