//! The health of disks and pools, and the file systems inside guests.

use proxmox_api::manage::health::{CheckHealth, FileSystemMetrics, Health};
use proxmox_api::manage::metrics::{
    Consolidation, Timeframe, Unit, node_series, render, storage_series,
};
use proxmox_api::task::AndWait;
use proxmox_simulator::{Builder, Simulator, last_of_each_major};

use crate::support::{Steps, start};

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .qemu(101, "pve1", &[("scsi0", "local-lvm:4"), ("agent", "1")])
        .qemu(102, "pve1", &[("scsi0", "local-lvm:4")])
        .lxc(201, "pve2", &[("rootfs", "local-lvm:2")])
        .running(101)
        .running(102)
        .running(201)
}

#[tokio::test]
async fn failing_disks_and_pools_are_reported() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let pools = pve.nodes().node("pve1").disks().zfs();
        let make = pools
            .post()
            .name("tank")
            .raidlevel("mirror")
            .devices(["/dev/sdb", "/dev/sdc"]);
        make.and_wait()
            .await
            .unwrap_or_else(|error| panic!("{release}: {error}"));
        for check in [CheckHealth::new(), CheckHealth::new().details()] {
            let nodes = pve.carry_out(check).await.unwrap();
            assert_eq!(nodes.len(), 2, "{release}");
            assert!(
                nodes.iter().all(|node| node.worst() == Health::Good),
                "{nodes:?}"
            );
            assert_eq!(nodes[0].pools[0].name, "tank");
            assert_eq!(nodes[0].disks.len(), 4);
        }
        simulator.set_disk_health("pve1", "/dev/sdb", "FAILED");
        let check = CheckHealth::new().node("pve1").details();
        let node = pve.carry_out(check).await.unwrap().remove(0);
        assert_eq!(node.worst(), Health::Failing, "{release}");
        let problems = node.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("/dev/sdb") && problems[0].contains("Reallocated"));
        assert!(
            problems[1].contains("tank is DEGRADED: /dev/sdb FAULTED"),
            "{problems:?}"
        );

        // An offline node is reported, and the others are read.
        simulator.set_online("pve2", false);
        let steps = Steps::default();
        let check = pve.carry_out(CheckHealth::new()).on_step(steps.listener());
        assert_eq!(check.await.unwrap().len(), 1, "{release}");
        let steps = steps.take();
        assert!(
            steps
                .iter()
                .any(|step| step.contains("pve2") && step.contains("offline"))
        );
    }
}

#[tokio::test]
async fn file_systems_become_metrics_if_the_agent_answers() {
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release)).await;
        let steps = Steps::default();
        let work = pve
            .carry_out(FileSystemMetrics::new())
            .on_step(steps.listener());
        let text = render(&work.await.unwrap());
        let used = "pve_guest_file_system_used_bytes{id=\"qemu/101\",mountpoint=\"/\"";
        assert!(text.contains(used), "{release}: {text}");
        assert!(
            text.contains("pve_guest_file_system_size_bytes{id=\"lxc/201\""),
            "{text}"
        );
        assert!(!text.contains("qemu/102"), "{text}");
        let steps = steps.take();
        assert!(
            steps
                .iter()
                .any(|step| step.starts_with("guest 102: check: failed")),
            "{steps:?}"
        );
    }
}

#[tokio::test]
async fn figures_over_time_have_units() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        for how in [Consolidation::Average, Consolidation::Maximum] {
            let node = node_series(&pve, "pve1", Timeframe::Hour, how)
                .await
                .unwrap();
            let cpu = node.get("cpu").unwrap();
            assert_eq!((cpu.unit, cpu.step()), (Unit::Share, Some(60)), "{release}");
            assert!(cpu.points.last().unwrap().1.is_none(), "the newest is late");
            assert!(cpu.latest().is_some() && cpu.highest() >= cpu.average());
            let guest = pve.guest(101).series(Timeframe::Day, how).await.unwrap();
            assert_eq!(
                guest.get("netin").unwrap().unit,
                Unit::BytesPerSecond,
                "{release}"
            );
            assert_eq!(guest.get("netin").unwrap().step(), Some(1800));
            let storage = storage_series(&pve, "pve1", "local", Timeframe::Week, how)
                .await
                .unwrap();
            assert_eq!(storage.get("used").unwrap().unit, Unit::Bytes, "{release}");
        }
        let requests = simulator.requests();
        assert!(requests.iter().any(|request| request.params["cf"] == "MAX"));
        // Every node has the metrics of all guests.
        simulator.set_online("pve1", false);
        let away = pve
            .guest(101)
            .series(Timeframe::Hour, Consolidation::Average)
            .await;
        assert!(away.is_ok(), "{release}: {away:?}");
    }
}
