//! Blocking calls with a simulator that has its own runtime.

use std::io::Read;

use proxmox_api::Client;
use proxmox_api::blocking::SendBlocking;
use proxmox_api::error::RequestErrorKind;
use proxmox_api::manage::events::Watch;
use proxmox_api::manage::guest::{Kind, PowerAction, PowerState, Size};
use proxmox_api::manage::inventory::Inventory;
use proxmox_api::manage::metrics;
use proxmox_api::manage::tasks::wait_all;
use proxmox_api::request::ApiRequest;
use proxmox_simulator::{Builder, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};

/// The server's runtime is dropped with it, outside of any other.
struct Server {
    pve: Simulator,
    runtime: tokio::runtime::Runtime,
}

fn server() -> Server {
    server_with(|builder| builder)
}

fn server_with(furnish: impl FnOnce(Builder) -> Builder) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let pve = runtime
        .block_on(furnish(Simulator::builder().node("pve1")).start())
        .expect("it starts");
    Server { pve, runtime }
}

fn client(server: &Server) -> Client {
    let pin = server.pve.fingerprint().to_string();
    Client::builder(server.pve.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(pin.parse().expect("a fingerprint"))
        .build()
        .expect("complete")
}

#[test]
fn a_session_is_saved_and_a_journal_read_without_a_runtime() {
    let server = server();
    let token = client(&server);
    assert!(
        token
            .save_session_blocking()
            .expect("no runtime here")
            .is_none()
    );
    let pin = server.pve.fingerprint().to_string();
    let pinned =
        || Client::builder(server.pve.url()).fingerprint(pin.parse().expect("a fingerprint"));
    let first = pinned().password("root@pam", ROOT_PASSWORD);
    let first = first.build().expect("complete");
    first
        .login()
        .send_blocking()
        .expect("the password is right");
    let session = first.save_session_blocking().expect("no runtime here");
    let next = pinned()
        .session(session.expect("logged in"))
        .build()
        .expect("complete");
    next.version()
        .get()
        .send_blocking()
        .expect("the ticket is good");

    let journal = next.nodes().node("pve1").journal().get().lastentries(5);
    let lines = journal.stream().send_blocking().expect("accepted").lines();
    for line in lines.blocking() {
        assert!(!line.expect("a line").contains('\n'));
    }
    let inside = server
        .runtime
        .block_on(async { first.save_session_blocking() });
    let error = inside.expect_err("it would block the runtime");
    assert!(error.never_sent(), "{error}");
}

#[test]
fn requests_tasks_uploads_lists_and_files_can_be_waited_for() {
    let server = server();
    let pve = client(&server);
    let version = pve.version().get().send_blocking().expect("accepted");
    assert_eq!(
        version.release.as_str(),
        proxmox_simulator::newest_release()
    );

    for i in 0..5 {
        let task = pve
            .upload("pve1", "local")
            .bytes("data")
            .name(format!("{i}.iso"))
            .send_blocking()
            .expect("accepted");
        let outcome = task
            .wait()
            .poll_interval(std::time::Duration::from_millis(5))
            .send_blocking()
            .expect("it ends");
        assert!(outcome.is_success());
        let log = pve.nodes().node("pve1").tasks().upid(task.to_string());
        let file = log.log().get().download(true).stream().send_blocking();
        let mut text = String::new();
        let mut reader = file.expect("a file").blocking();
        reader.read_to_string(&mut text).expect("complete");
        assert!(text.contains("TASK OK"), "{text}");
    }
    let content = pve
        .nodes()
        .node("pve1")
        .storage()
        .storage("local")
        .content();
    let uploaded = content.get().send_blocking().expect("accepted");
    let names: Vec<_> = uploaded
        .iter()
        .map(|volume| volume.volid.as_str())
        .collect();
    assert!(names.contains(&"local:iso/4.iso"), "{names:?}");

    let tasks = pve.nodes().node("pve1").tasks();
    let listed: Result<Vec<_>, _> = tasks.get().items(2).blocking().collect();
    assert_eq!(listed.expect("accepted").len(), 5);
}

#[test]
fn blocking_and_asynchronous_code_share_a_client() {
    let server = server();
    let pve = client(&server);
    for _ in 0..3 {
        pve.version().get().send_blocking().expect("accepted");
        let request = pve.version().get();
        server
            .runtime
            .block_on(async { request.await })
            .expect("accepted");
    }
}

#[test]
fn many_threads_wait_at_once() {
    let server = server();
    let pve = client(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    pve.version().get().send_blocking().expect("accepted");
                }
            });
        }
    });
    assert_eq!(server.pve.requests().len(), 40);
}

#[test]
fn inside_a_runtime_nothing_is_sent() {
    let server = server();
    let pve = client(&server);
    let error = server
        .runtime
        .block_on(async { pve.version().get().send_blocking() })
        .expect_err("it would stall");
    let proxmox_api::Error::Request(refusal) = &error else {
        panic!("{error}")
    };
    assert_eq!(refusal.kind(), &RequestErrorKind::InsideRuntime);
    assert!(error.to_string().contains("await the request"), "{error}");
    assert!(server.pve.requests().is_empty());
}

#[test]
fn inside_spawn_blocking_nothing_is_sent() {
    let server = server();
    let pve = client(&server);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let refused = |result: Result<_, proxmox_api::Error>| match result {
        Err(proxmox_api::Error::Request(error)) => *error.kind() == RequestErrorKind::InsideRuntime,
        _ => false,
    };
    let lent = pve.clone();
    let one = threads.block_on(async move {
        let work = move || lent.version().get().send_blocking().map(drop);
        tokio::task::spawn_blocking(work).await.unwrap()
    });
    let lent = pve.clone();
    let other = threads.block_on(async move {
        let work = move || lent.version().get().send_blocking().map(drop);
        let in_place = async { tokio::task::block_in_place(work) };
        tokio::spawn(in_place).await.unwrap()
    });
    assert!(refused(one) && refused(other));
    assert!(server.pve.requests().is_empty());
    // The alternative that the documentation names.
    let handle = threads.handle().clone();
    let lent = pve.clone();
    let waited = threads.block_on(async move {
        let work = move || {
            handle
                .block_on(async { lent.version().get().await })
                .map(drop)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    });
    waited.unwrap();
    let thread = std::thread::spawn(move || pve.version().get().send_blocking().map(drop));
    thread.join().unwrap().unwrap();
}

/// Operations of the everyday layer are sent from the same values as in asynchronous code.
#[test]
fn the_everyday_layer_works_without_a_runtime() {
    let server = server_with(|builder| {
        let settings = [("memory", "2048"), ("scsi0", "local-lvm:8")];
        (builder.time_factor(0.0).node("pve2"))
            .qemu(101, "pve1", &settings)
            .qemu(102, "pve1", &settings)
            .lxc(201, "pve2", &[("rootfs", "local-lvm:4")])
    });
    let pve = client(&server);
    let mut watch = Watch::new(&pve);
    assert!(watch.poll().send_blocking().unwrap().is_empty());

    let guest = pve.guest(101);
    let started = guest.start().send_blocking().unwrap();
    let mut lines = Vec::new();
    let waiting = started.wait().on_log(|line| lines.push(line.to_owned()));
    waiting.send_blocking().unwrap();
    assert_eq!(lines.last().map(String::as_str), Some("TASK OK"));
    let status = guest.status().send_blocking().unwrap();
    assert_eq!(status.state, PowerState::Running);
    let event = watch.next_event().send_blocking().unwrap();
    assert_eq!(event.change.kind(), "task.started");

    let mut log = started.task().wait().lines();
    let mut again = Vec::new();
    while let Some(line) = log.try_next().send_blocking().unwrap() {
        again.push(line);
    }
    assert_eq!(again, lines);

    let snapshot = guest.snapshot("first").with_memory();
    let taken = snapshot.send_blocking().unwrap();
    taken.wait().send_blocking().unwrap();
    assert_eq!(guest.snapshots().send_blocking().unwrap().len(), 1);
    let change = guest.edit_qemu(|_, request| request.cores(4));
    change.send_blocking().unwrap();
    let resized = guest.resize_disk("scsi0", Size::To(16 << 30));
    let resized = resized.send_blocking().unwrap();
    resized.wait().send_blocking().unwrap();
    let shutdown = guest.shutdown().send_blocking().unwrap();
    shutdown.wait().send_blocking().unwrap();
    // A snapshot would keep its disk on this node.
    let removed = guest.delete_snapshot("first");
    removed
        .send_blocking()
        .unwrap()
        .wait()
        .send_blocking()
        .unwrap();
    let migrated = guest.migrate("pve2").send_blocking().unwrap();
    migrated.wait().send_blocking().unwrap();
    assert_eq!(guest.location().send_blocking().unwrap().node, "pve2");

    let copy = pve.guest(201).clone_within(300..=310);
    let copy = copy.send_blocking().unwrap();
    copy.started.wait().send_blocking().unwrap();
    let destroyed = copy.guest.destroy().purge().send_blocking().unwrap();
    destroyed.wait().send_blocking().unwrap();

    let batch = pve.batch([101, 102, 201, 999]).parallel(2);
    let report = batch.power(PowerAction::Start).send_blocking().unwrap();
    assert_eq!((report.summary.succeeded, report.summary.failed), (3, 1));
    let stops = [(101, "pve2", Kind::Qemu), (201, "pve2", Kind::Lxc)].map(|(vmid, node, kind)| {
        let stopped = pve.guest_at(vmid, node, kind).stop().send_blocking();
        stopped.unwrap().task().clone()
    });
    let ends = wait_all(&pve, stops).send_blocking().unwrap();
    assert!(ends.iter().all(|end| end.is_success()), "{ends:?}");

    let inventory = Inventory::fetch(&pve).send_blocking().unwrap();
    assert_eq!(inventory.select().status("running").vmids(), [102]);
    let text = metrics::scrape(&pve).send_blocking().unwrap();
    assert!(text.contains("pve_up{id=\"qemu/102\"} 1"), "{text}");
}
