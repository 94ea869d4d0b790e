//! Many clones of one template.

use std::time::Duration;

use proxmox_api::manage::clones::Clones;
use proxmox_api::manage::guest::PowerState;
use proxmox_api::manage::work::Subject;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{GIB, Steps, left, start, subjects};

fn cluster(release: &str, storage: &str) -> Builder {
    let disk = format!("{storage}:4");
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .node("pve3")
        .storage("ceph", "rbd", &["images", "rootdir"], 500 * GIB)
        .qemu(
            9000,
            "pve1",
            &[("name", "base"), ("template", "1"), ("scsi0", &disk)],
        )
}

fn clones() -> Clones {
    Clones::of(9000)
        .count(5)
        .ids(5000..=5099)
        .name("web-{n}")
        .nodes(["pve1", "pve2", "pve3"])
        .at_once(2)
        .full(true)
        .started()
}

#[tokio::test]
async fn clones_are_distributed_and_found_again() {
    for release in last_of_each_major() {
        // On local storage they are created beside the template and moved.
        for storage in ["ceph", "local-lvm"] {
            let (simulator, pve) = start(cluster(release, storage)).await;
            let guests = pve.carry_out(clones()).await;
            let guests = guests.unwrap_or_else(|error| panic!("{release} {storage}: {error}"));
            let mut spread = Vec::new();
            for guest in &guests {
                assert_eq!(guest.status().await.unwrap().state, PowerState::Running);
                spread.push(guest.location().await.unwrap().node);
            }
            assert_eq!(spread, ["pve1", "pve2", "pve3", "pve1", "pve2"]);
            let names = guests.iter().map(|guest| guest.status());
            let names = futures_util::future::join_all(names).await;
            let names: Vec<_> = names
                .into_iter()
                .map(|status| status.unwrap().name)
                .collect();
            assert_eq!(names[4].as_deref(), Some("web-5"));
            let moves = simulator.requests().into_iter();
            let moves = moves
                .filter(|request| request.method == "POST" && request.path.ends_with("/migrate"));
            assert_eq!(moves.count(), if storage == "ceph" { 0 } else { 3 });

            simulator.clear_requests();
            let more = pve.carry_out(clones().count(6)).await.unwrap();
            assert_eq!(more.len(), 6);
            let posts = simulator.requests().into_iter();
            let posts = posts.filter(|request| request.path.ends_with("/clone"));
            assert_eq!(posts.count(), 1, "only the sixth is made");
        }
    }
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release, "ceph")).await;
        let fault = Fault::TaskFails("clone failed: no space left".into());
        let clone = simulator.faults().on("POST", "/nodes/*/qemu/*/clone");
        clone.skip(2).times(1).respond(fault);
        let steps = Steps::default();
        let failed = pve.carry_out(clones()).on_step(steps.listener()).await;
        let (rest, cause) = left(failed);
        assert!(cause.to_string().contains("no space left"), "{cause}");
        // The error names existing clones; the failed one was removed.
        let mut existing = Vec::new();
        for vmid in 5000..5099 {
            if pve.guest(vmid).locate().await.is_ok() {
                existing.push(Subject::Guest(vmid));
            }
        }
        let mut named = subjects(&rest);
        named.sort();
        assert_eq!(named, existing, "{release}: {:?}", steps.take());
        assert!(!existing.is_empty() && existing.len() < 5);

        // One of them is locked, and a node is offline for a while.
        let Subject::Guest(first) = existing[0] else {
            panic!("not a guest");
        };
        pve.guest(first).stop().await.unwrap().wait().await.unwrap();
        simulator.set_lock(first, Some("backup"));
        let (_, cause) = left(pve.carry_out(clones()).await);
        assert!(cause.to_string().contains("locked"), "{release}: {cause}");
        let patient = pve
            .carry_out(clones())
            .wait_for_locks(Duration::from_secs(60));
        let unlock = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            simulator.set_lock(first, None);
        };
        let (guests, ()) = tokio::join!(patient, unlock);
        assert_eq!(guests.unwrap().len(), 5, "{release}");

        // Errors also list existing guests that were started.
        for guest in [5000, 5001] {
            let stop = pve.guest(guest).stop().await.unwrap();
            stop.wait().await.unwrap();
        }
        let fault = Fault::TaskFails("start failed".into());
        let start = simulator
            .faults()
            .on("POST", "/nodes/*/qemu/*/status/start");
        start.skip(1).times(1).respond(fault);
        let (rest, cause) = left(pve.carry_out(clones().at_once(1)).await);
        let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
        let one = matches!(&rest[..], [one] if one.ends_with("was started"));
        assert!(one, "{release}: {cause} {rest:?}");
        pve.carry_out(clones()).await.unwrap();

        simulator.set_online("pve2", false);
        let (rest, cause) = left(pve.carry_out(clones().count(6).first(3)).await);
        assert_eq!(
            cause.kind(),
            Some(proxmox_api::error::ErrorKind::NodeUnreachable),
            "{cause}"
        );
        for left in rest {
            assert!(matches!(left.subject, Subject::Guest(5005..)), "{left}");
        }
    }
}
