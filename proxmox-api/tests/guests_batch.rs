//! One action over many guests.
use std::collections::BTreeMap;
use std::sync::Mutex;

use proxmox_api::Client;
use proxmox_api::error::ErrorKind;
use proxmox_api::manage::batch::BatchReport;
use proxmox_api::manage::guest::PowerAction;
use proxmox_simulator::{Builder, Simulator, TOKEN_ID, TOKEN_SECRET, newest_release};

async fn start(builder: Builder) -> (Simulator, Client) {
    let simulator = builder.time_factor(0.0).start().await.expect("it starts");
    let client = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .rate_limit(proxmox_api::client::limit::RateLimit::none())
        .build()
        .expect("complete settings");
    (simulator, client)
}

fn nodes(names: &[&str]) -> Builder {
    (names.iter()).fold(Simulator::builder(), |builder, name| builder.node(*name))
}

#[tokio::test]
async fn the_report_has_the_documented_shape() {
    let mut builder = nodes(&["pve1"]);
    for vmid in 100..104 {
        builder = builder.qemu(vmid, "pve1", &[]);
    }
    let (simulator, pve) = start(builder).await;
    simulator.set_lock(102, Some("backup"));
    let batch = pve
        .batch([100, 101, 102, 103])
        .parallel(4)
        .continue_on_error(true);
    let report = batch.power(PowerAction::Start).await.unwrap();
    let json = report.to_json();
    assert_eq!(json["summary"]["total"], 4);
    assert_eq!(json["summary"]["succeeded"], 3);
    assert_eq!(json["summary"]["failed"], 1);
    let first = &json["results"][0];
    assert_eq!(
        (first["vmid"].as_u64(), first["success"].as_bool()),
        (Some(100), Some(true))
    );
    assert!(first["upid"].as_str().unwrap().contains(":qmstart:100:"));
    assert!(first.get("error").is_none());
    let third = &json["results"][2];
    assert_eq!(
        (third["vmid"].as_u64(), third["success"].as_bool()),
        (Some(102), Some(false))
    );
    assert!(
        third["error"]
            .as_str()
            .unwrap()
            .contains("VM is locked (backup)")
    );
    assert_eq!(
        report.results[2].error().unwrap().kind(),
        Some(ErrorKind::Locked)
    );
    // Written and read again, it is the same report, with texts instead of errors.
    let back: BatchReport = serde_json::from_value(json.clone()).unwrap();
    assert_eq!((&back, back.to_json()), (&report, json));
    assert!(back.results[2].error().is_none());
}

#[tokio::test]
async fn a_thousand_guests_stay_within_the_limits() {
    let names = ["pve1", "pve2", "pve3"];
    let mut builder = nodes(&names);
    for vmid in 1000..2000 {
        builder = builder.qemu(vmid, names[vmid as usize % 3], &[]);
    }
    let (simulator, pve) = start(builder).await;
    for vmid in (1000..2000).step_by(10) {
        simulator.set_lock(vmid, Some("backup"));
    }
    // The guests in progress, and the maximum: in total and by node.
    #[derive(Default)]
    struct Load {
        now: BTreeMap<String, usize>,
        max: usize,
        max_on_a_node: usize,
    }
    let loads = Mutex::new(Load::default());
    let load = &loads;
    let mut steps = 0;
    let report = pve
        .batch(1000..2000)
        .parallel(8)
        .per_node(3)
        .on_progress(|step| {
            steps += 1;
            assert_eq!((step.done, step.total), (steps, 1000));
        })
        .run(|guest| async move {
            let node = guest.location().await?.node;
            {
                let mut load = load.lock().unwrap();
                *load.now.entry(node.clone()).or_default() += 1;
                load.max_on_a_node = load.max_on_a_node.max(load.now[&node]);
                load.max = load.max.max(load.now.values().sum());
            }
            // All work is inside the future, so that the count covers the whole time.
            let done = async { guest.start().await?.wait().await }.await;
            *load.lock().unwrap().now.entry(node).or_default() -= 1;
            done.map(drop)
        })
        .await
        .unwrap();
    let load = loads.into_inner().unwrap();
    assert_eq!(
        (load.max, load.max_on_a_node),
        (8, 3),
        "the limits are reached and kept"
    );
    assert_eq!(steps, 1000);
    assert_eq!(
        (
            report.summary.total,
            report.summary.succeeded,
            report.summary.failed
        ),
        (1000, 900, 100)
    );
    for (result, vmid) in report.results.iter().zip(1000..) {
        assert_eq!(result.vmid(), vmid);
        assert_eq!(result.success(), vmid % 10 != 0);
    }
}

#[tokio::test]
async fn without_continuing_the_remaining_guests_are_skipped() {
    let mut builder = nodes(&["pve1"]);
    for vmid in 100..110 {
        builder = builder.qemu(vmid, "pve1", &[]);
    }
    let (simulator, pve) = start(builder).await;
    simulator.set_lock(103, Some("backup"));
    let batch = pve.batch(100..110).parallel(1).continue_on_error(false);
    let report = batch.power(PowerAction::Start).await.unwrap();
    let tried: Vec<bool> = report
        .results
        .iter()
        .map(|result| !result.is_untried())
        .collect();
    assert_eq!(
        tried,
        [[true; 4].as_slice(), [false; 6].as_slice()].concat()
    );
    assert_eq!((report.summary.succeeded, report.summary.failed), (3, 7));
    let last = report.results[9].problem().unwrap();
    assert!(last.contains("guest 103 failed"), "{last}");
}

#[tokio::test]
async fn missing_guests_and_repeated_numbers() {
    let (_simulator, pve) = start(nodes(&["pve1"]).qemu(100, "pve1", &[])).await;
    let report = pve
        .batch([100, 100, 404])
        .only_start()
        .power(PowerAction::Start)
        .await
        .unwrap();
    assert_eq!((report.summary.total, report.summary.succeeded), (2, 1));
    let error = report.results[1].error().unwrap();
    assert_eq!(error.kind(), Some(ErrorKind::NotFound));
    assert!(error.to_string().contains("no guest 404"), "{error}");
}

#[tokio::test]
async fn a_batch_can_be_spawned() {
    let (_simulator, pve) = start(nodes(&["pve1"]).qemu(100, "pve1", &[])).await;
    let batch = tokio::spawn(async move { pve.batch([100]).power(PowerAction::Start).await });
    assert_eq!(batch.await.unwrap().unwrap().summary.succeeded, 1);
}

#[tokio::test]
async fn a_batch_without_guests_does_not_mean_all_guests() {
    let (simulator, pve) = start(nodes(&["pve1", "pve2"]).qemu(100, "pve1", &[])).await;
    let none = pve.batch([]);
    assert!(none.on_server(PowerAction::Start).await.unwrap().is_none());
    assert!(none.migrate_on_server("pve2").await.unwrap().is_none());
    assert_eq!(
        none.power(PowerAction::Start).await.unwrap().summary.total,
        0
    );
    let changes = simulator.requests();
    assert!(
        changes.iter().all(|call| call.method == "GET"),
        "{changes:?}"
    );
}

#[tokio::test]
async fn bulk_calls_of_the_server_if_it_has_them() {
    for (release, starts_task) in [("8.4", false), (newest_release(), true)] {
        let (simulator, pve) = start(nodes(&["pve1", "pve2"]).release(release).qemu(
            100,
            "pve1",
            &[],
        ))
        .await;
        let task = pve
            .batch([100])
            .on_server(PowerAction::Start)
            .await
            .unwrap();
        assert_eq!(task.is_some(), starts_task, "{release}");
        let nothing = pve
            .batch([100])
            .on_server(PowerAction::Reset)
            .await
            .unwrap();
        assert!(nothing.is_none());
        let moved = pve.batch([100]).migrate_on_server("pve2").await;
        if !starts_task {
            assert!(moved.unwrap().is_none(), "{release}");
            continue;
        }
        let requests = simulator.requests();
        let call = |path: &str| {
            let call = requests.iter().find(|call| call.path == path);
            call.expect("it was asked").params.clone()
        };
        assert_eq!(call("/cluster/bulk-action/guest/start")["vms"], "100");
        let migrate = call("/cluster/bulk-action/guest/migrate");
        assert_eq!(migrate["vms"], "100");
        assert_eq!(migrate["target"], "pve2");
        assert!(moved.unwrap().is_some());
    }
}
