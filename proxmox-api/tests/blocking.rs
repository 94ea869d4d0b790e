//! Blocking calls against the simulator, which runs in a runtime of its own.

#![cfg(all(feature = "blocking", feature = "full"))]

use std::io::Read;

use proxmox_api::Client;
use proxmox_api::blocking::SendBlocking;
use proxmox_api::error::RequestErrorKind;
use proxmox_api::request::ApiRequest;
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};

/// The server's runtime is dropped with it, outside of any other.
struct Server {
    pve: Simulator,
    runtime: tokio::runtime::Runtime,
}

fn server() -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let pve = runtime
        .block_on(Simulator::builder().node("pve1").start())
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
fn requests_tasks_uploads_lists_and_files_can_be_waited_for() {
    let server = server();
    let pve = client(&server);
    let version = pve.version().get().send_blocking().expect("accepted");
    assert_eq!(version.release.as_str(), "9.2");

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
        let log = pve
            .nodes()
            .node("pve1")
            .tasks()
            .upid(task.upid().to_string());
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
