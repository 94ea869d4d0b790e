//! Tasks of guests with a simulated server.

use std::time::Duration;

use proxmox_api::error::ErrorKind;
use proxmox_api::manage::guest::{Guest, Kind, PowerState, StartedOperation};
use proxmox_api::manage::tasks::wait_all;
use proxmox_api::task::{TaskErrorKind, TaskOutcome};
use proxmox_api::{Client, Error};
use proxmox_simulator::{Builder, Clock, Fault, Simulator, TOKEN_ID, TOKEN_SECRET};

/// Tasks take time by the simulator's clock, unless `pace` is 0.
async fn start(builder: Builder, pace: f64) -> (Simulator, Client) {
    let simulator = builder.time_factor(pace).start().await.expect("it starts");
    let client = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .build()
        .expect("complete settings");
    (simulator, client)
}

/// Two nodes, a machine 101 and a container 201.
fn small() -> Builder {
    Simulator::builder()
        .node("pve1")
        .node("pve2")
        .qemu(
            101,
            "pve1",
            &[
                ("name", "web"),
                ("memory", "2048"),
                ("scsi0", "local-lvm:8"),
                ("net0", "virtio,bridge=vmbr0"),
            ],
        )
        .lxc(
            201,
            "pve2",
            &[("hostname", "dns"), ("rootfs", "local-lvm:4")],
        )
}

async fn state(guest: &Guest) -> PowerState {
    guest.status().await.expect("it is there").state
}

#[tokio::test]
async fn waiting_for_many_tasks_at_once() {
    let mut builder = Simulator::builder();
    for vmid in 100..120 {
        builder = builder.qemu(vmid, "pve1", &[]);
    }
    let (simulator, pve) = start(builder, 0.0).await;
    simulator.set_lock(107, Some("backup"));
    let mut tasks = Vec::new();
    for vmid in 100..120 {
        let started = pve
            .guest_at(vmid, "pve1", Kind::Qemu)
            .start()
            .await
            .unwrap();
        tasks.push(started.task().clone());
    }
    let mut seen = Vec::new();
    let ends = wait_all(&pve, tasks.clone())
        .on_end(|index, _| seen.push(index))
        .await
        .unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    for (index, (end, task)) in ends.iter().zip(&tasks).enumerate() {
        assert_eq!(
            end.task.upid(),
            task.upid(),
            "the order is that of the tasks"
        );
        assert_eq!(end.is_success(), index != 7, "{end:?}");
    }
    let error = ends[7].outcome.as_ref().unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Locked));
}

#[tokio::test]
async fn a_stopped_task_differs_from_a_failed_one() {
    let clock = Clock::manual(1_793_491_200);
    let builder = small().clock(clock.clone());
    let (simulator, pve) = start(builder, 1.0).await;
    let backup = pve.guest(101).backup("local").await.unwrap();
    let task = backup.task();
    assert!(task.status().await.unwrap().is_running());
    clock.advance(Duration::from_millis(500));
    task.stop().await.unwrap();
    let outcome = task.wait().outcome().await.unwrap();
    assert_eq!(
        outcome,
        TaskOutcome::Interrupted("received interrupt".to_owned())
    );
    let Err(Error::Task(error)) = backup.wait().await else {
        panic!("it was stopped");
    };
    assert!(matches!(error.reason(), TaskErrorKind::Interrupted(_)));
    assert!(!error.may_be_running());

    let rule = simulator.faults().on("POST", "/nodes/*/vzdump");
    rule.respond(Fault::TaskFails("disk full".to_owned()));
    let backup = pve.guest(101).backup("local").await.unwrap();
    clock.advance(Duration::from_secs(600));
    let Err(Error::Task(error)) = backup.wait().await else {
        panic!("it fails");
    };
    assert!(matches!(error.reason(), TaskErrorKind::Failed(text) if text == "disk full"));
    let log = backup.task().log(0, 0).await.unwrap();
    let logged: Vec<&str> = log.iter().map(|line| line.text.as_str()).collect();
    let (last, before) = logged.split_last().unwrap();
    assert_eq!(*last, "TASK ERROR: disk full");
    let kept: Vec<&str> = (error.log().iter())
        .map(|line| line.text.as_str())
        .collect();
    assert!(!kept.is_empty(), "{logged:?}");
    assert_eq!(kept, before);
    for line in kept {
        assert!(error.to_string().contains(line), "{error}");
    }
    assert_eq!(
        task.client()
            .task(task.upid().expect("a task").clone())
            .upid(),
        task.upid()
    );
}

#[tokio::test]
async fn operations_wait_for_high_availability() {
    let builder = small().clock(Clock::manual(1_793_491_200));
    let (simulator, pve) = start(builder, 1.0).await;
    let resources = pve.api().cluster().ha().resources();
    resources.post("vm:101").state("stopped").await.unwrap();
    resources.post("ct:201").state("stopped").await.unwrap();
    for (vmid, started, stopped) in [
        (101, "qmstart", "qmshutdown"),
        (201, "vzstart", "vzshutdown"),
    ] {
        let guest = pve.guest(vmid);
        assert!(guest.status().await.unwrap().ha_managed);
        let start = guest.start().await.unwrap();
        follow(&simulator, &start, "hastart", started).await;
        assert_eq!(state(&guest).await, PowerState::Running);
        let shutdown = guest.shutdown().await.unwrap();
        follow(&simulator, &shutdown, "hastop", stopped).await;
        assert_eq!(state(&guest).await, PowerState::Stopped);
    }
    let guest = pve.guest(101);
    let migration = guest.migrate("pve2").await.unwrap();
    follow(&simulator, &migration, "hamigrate", "qmigrate").await;
    assert_eq!(guest.location().await.unwrap().node, "pve2");
}

/// Waits for an operation, while each poll advances the clock. The task ends before the manager is
/// done.
async fn follow(
    simulator: &Simulator,
    order: &StartedOperation,
    order_type: &str,
    task_type: &str,
) {
    assert_eq!(order.upid().expect("a task").task_type(), order_type);
    let clock = simulator.clock();
    let ended = std::cell::Cell::new(false);
    let wait = async {
        let waiting = order.wait().poll_interval(Duration::from_millis(1));
        assert_eq!(waiting.await.expect("it is done"), TaskOutcome::Ok);
        ended.set(true);
    };
    let advance = async {
        while !ended.get() {
            clock.advance(Duration::from_millis(100));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(wait, advance);
    let client = order.guest().client();
    let tasks = client.api().cluster().tasks().get().await;
    let tasks = tasks.expect("accepted");
    let ends = |task_type: &str| {
        let newest = (tasks.iter()).find(|task| task.type_.as_deref() == Some(task_type));
        newest.and_then(|task| task.endtime).expect(task_type)
    };
    assert!(ends(order_type) < ends(task_type), "{tasks:?}");
}
