//! Draining of nodes, and rolling reboots.

use std::time::Duration;

use proxmox_api::Client;
use proxmox_api::manage::ha::HaWanted;
use proxmox_api::manage::maintenance::{Drain, RollingReboot};
use proxmox_api::manage::work::Subject;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{GIB, is_since, left, start, start_slowly, subjects};

fn cluster(release: &str) -> Builder {
    let mut builder = Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .node("pve3")
        .storage("ceph", "rbd", &["images", "rootdir"], 500 * GIB);
    for (vmid, memory) in [(101, "4096"), (102, "2048"), (103, "1024")] {
        let settings = [("scsi0", "ceph:1"), ("memory", memory), ("onboot", "1")];
        builder = builder.qemu(vmid, "pve1", &settings).running(vmid);
    }
    builder
        .lxc(201, "pve1", &[("rootfs", "local-lvm:1"), ("onboot", "1")])
        .running(201)
        .qemu(104, "pve1", &[("scsi0", "ceph:1")])
}

async fn nodes(pve: &Client, vmids: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut nodes = Vec::new();
    for vmid in vmids {
        nodes.push(pve.guest(vmid).locate().await.expect("it is there").node);
    }
    nodes
}

#[tokio::test]
async fn a_node_is_drained_as_planned_and_filled_again() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let drain = Drain::of("pve1").at_once(2);
        let plan = drain.plan(&pve).await.unwrap();
        assert!(plan.stays.is_empty(), "{release}: {plan}");
        let first: Vec<u32> = plan.moves.iter().map(|planned| planned.vmid).collect();
        assert_eq!(first, [101, 102, 103, 201], "the largest first");
        assert!(
            simulator
                .requests()
                .iter()
                .all(|request| request.method != "PUT")
        );
        let drained = pve.carry_out(drain.clone()).await;
        let drained = drained.unwrap_or_else(|error| panic!("{release}: {error}"));
        for planned in &plan.moves {
            assert_eq!(
                nodes(&pve, [planned.vmid]).await,
                std::slice::from_ref(&planned.to),
                "{release}"
            );
        }
        assert_eq!(nodes(&pve, [104]).await, ["pve1"], "it does not run");
        let again = pve.carry_out(drain).await.unwrap();
        assert!(again.moved.is_empty());
        pve.carry_out(drained.back()).await.unwrap();
        assert!(
            nodes(&pve, [101, 102, 103, 201])
                .await
                .iter()
                .all(|node| node == "pve1")
        );
    }
}

#[tokio::test]
async fn rules_of_high_availability_are_kept() {
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release)).await;
        let bound = HaWanted::of(101).nodes([("pve1", 2), ("pve3", 1)]).strict();
        pve.carry_out(bound).await.unwrap();
        if is_since(release, "9.0") {
            pve.carry_out(HaWanted::of(102)).await.unwrap();
            pve.carry_out(HaWanted::of(103)).await.unwrap();
            pve.carry_out(HaWanted::of(102).apart_from([101]))
                .await
                .unwrap();
            pve.carry_out(HaWanted::of(103).together_with([102]))
                .await
                .unwrap();
        }
        let plan = Drain::of("pve1").plan(&pve).await.unwrap();
        let to = |vmid: u32| {
            let mut moves = plan.moves.iter();
            moves
                .find(|planned| planned.vmid == vmid)
                .map(|planned| planned.to.as_str())
        };
        assert_eq!(to(101), Some("pve3"), "{release}: {plan}");
        if is_since(release, "9.0") {
            assert_eq!((to(102), to(103)), (Some("pve2"), Some("pve2")), "{plan}");
        }
        let only = Drain::of("pve1").to(["pve2"]);
        let plan = only.plan(&pve).await.unwrap();
        assert_eq!(plan.stays[0].0, 101, "{plan}");
        let (rest, cause) = left(pve.carry_out(only).await);
        assert!(rest.is_empty() && cause.never_sent(), "{release}: {cause}");
        let drained = pve.carry_out(Drain::of("pve1")).await.unwrap();
        assert_eq!(nodes(&pve, [101]).await, ["pve3"], "{release}");
        if is_since(release, "9.0") {
            // Guests that must be apart now cannot all return to their previous nodes.
            let (rest, cause) = left(pve.carry_out(drained.back().at_once(1)).await);
            assert!(cause.to_string().contains("cannot move to pve1"), "{cause}");
            assert!(!rest.is_empty());
            for vmid in [102, 103] {
                pve.carry_out(HaWanted::none_of(vmid)).await.unwrap();
            }
        }
        pve.carry_out(drained.back()).await.unwrap();
        assert_eq!(nodes(&pve, [101]).await, ["pve1"], "{release}");
    }
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let fault = Fault::TaskFails("migration aborted".into());
        let migrate = simulator.faults().on("POST", "/nodes/*/qemu/102/migrate");
        migrate.times(1).respond(fault);
        let failed = pve.carry_out(Drain::of("pve1").at_once(1)).await;
        let (rest, cause) = left(failed);
        assert_eq!(subjects(&rest), [Subject::Guest(101)], "{release}: {cause}");
        simulator.set_lock(103, Some("backup"));
        let failed = pve.carry_out(Drain::of("pve1").at_once(1)).await;
        let (rest, cause) = left(failed);
        assert!(
            !subjects(&rest).contains(&Subject::Guest(103)),
            "{release}: {cause}"
        );
        simulator.set_lock(103, None);
        // The planned node goes offline in between: others are used.
        simulator.set_online("pve2", false);
        pve.carry_out(Drain::of("pve1")).await.unwrap();
        let nodes_now = nodes(&pve, [101, 102, 103, 201]).await;
        assert!(
            nodes_now.iter().all(|node| node != "pve1"),
            "{release}: {nodes_now:?}"
        );

        // Guests without a target are stopped if requested, and started again.
        let (_other, pve) = start(cluster(release)).await;
        let to = Drain::of("pve1").to(Vec::<String>::new());
        let (rest, cause) = left(pve.carry_out(to.clone()).await);
        assert!(rest.is_empty(), "{cause}");
        let drained = pve.carry_out(to.clone().leave_rest()).await.unwrap();
        assert_eq!(drained.left.len(), 4);
        let drained = pve
            .carry_out(to.stop_rest(Duration::from_secs(5)))
            .await
            .unwrap();
        assert_eq!(drained.stopped.len(), 4, "{release}");
        pve.carry_out(drained.back()).await.unwrap();
        for vmid in [101, 102, 103, 201] {
            let state = pve.guest(vmid).status().await.unwrap().state;
            assert_eq!(state, proxmox_api::manage::guest::PowerState::Running);
        }
    }
}

#[tokio::test]
async fn a_cluster_is_rebooted_node_by_node() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let reboot = RollingReboot::of(["pve2", "pve1"]).patience(Duration::from_secs(5));
        let done = pve.carry_out(reboot.clone()).await;
        done.unwrap_or_else(|error| panic!("{release}: {error}"));
        for node in ["pve1", "pve2"] {
            assert_eq!(
                simulator.count_requests("POST", &format!("/nodes/{node}/status")),
                1
            );
        }
        assert!(
            nodes(&pve, [101, 102, 103, 201])
                .await
                .iter()
                .all(|node| node == "pve1")
        );
        for vmid in [101, 201] {
            let status = pve.guest(vmid).status().await.unwrap();
            assert_eq!(
                status.state,
                proxmox_api::manage::guest::PowerState::Running
            );
        }
        // The node is not back in time: the error says where its guests are.
        let (_slow, pve) = start_slowly(cluster(release), 0.02).await;
        let short = RollingReboot::of(["pve1"]).patience(Duration::from_millis(50));
        let (rest, _) = left(pve.carry_out(short).await);
        let rest = subjects(&rest);
        for vmid in [101, 102, 103, 201] {
            assert!(rest.contains(&Subject::Guest(vmid)), "{release}: {rest:?}");
        }
    }
}
