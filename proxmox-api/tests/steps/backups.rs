//! Backup jobs, selecting backups, restoring guests from them, pruning, replication.

use proxmox_api::manage::backups::{
    BackupJob, FindBackups, Prune, PruneOutcome, Recover, ReplicationJob, RunBackupJob,
};
use proxmox_api::manage::guest::{PowerState, Retention};
use proxmox_api::manage::work::{Ensured, Subject};
use proxmox_api::task::AndWait;
use proxmox_api::value::endpoint::Method;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{GIB, left, start, subjects};

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .storage("nas", "nfs", &["backup"], 500 * GIB)
        .qemu(
            101,
            "pve1",
            &[
                ("name", "web"),
                ("scsi0", "local-lvm:4"),
                ("net0", "virtio,bridge=vmbr0"),
            ],
        )
        .lxc(
            201,
            "pve2",
            &[
                ("hostname", "dns"),
                ("rootfs", "local-lvm:2"),
                ("net0", "name=eth0,bridge=vmbr0,ip=dhcp"),
            ],
        )
}

#[tokio::test]
async fn a_job_is_created_once_changed_and_run() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let rule = Retention {
            daily: 7,
            weekly: 4,
            ..Retention::default()
        };
        let job = BackupJob::new("nightly", "nas", "02:30")
            .all_but([999])
            .keep(rule);
        let job = job.notes("of {{guestname}}\nline 2");
        assert_eq!(pve.carry_out(job.clone()).await.unwrap(), Ensured::Created);
        assert_eq!(
            pve.carry_out(job.clone()).await.unwrap(),
            Ensured::Found,
            "{release}"
        );
        let other = BackupJob::new("nightly", "nas", "03:30")
            .guests([101, 201])
            .keep(rule);
        let Ensured::Changed(mut changed) = pve.carry_out(other).await.unwrap() else {
            panic!("it differs");
        };
        changed.sort();
        assert_eq!(changed, ["all", "exclude", "schedule", "vmid"], "{release}");
        let jobs = pve.cluster().backup().get().await.unwrap();
        assert_eq!(
            jobs[0].vmid.as_ref().map(|list| list.0.clone()),
            Some(vec![101, 201])
        );
        assert!(jobs[0].all.is_none() && jobs[0].exclude.is_none());

        let done = pve.carry_out(job.run_now()).await.unwrap();
        let nodes: Vec<&str> = done.iter().map(|(node, _)| node.as_str()).collect();
        assert_eq!(nodes, ["pve1", "pve2"], "{release}");
        for vmid in [101, 201] {
            let found = pve
                .carry_out(FindBackups::of(vmid).storage("nas"))
                .await
                .unwrap();
            assert_eq!(found.len(), 1, "{release} {vmid}");
            assert_eq!(
                found[0]
                    .notes
                    .as_deref()
                    .map(|text| text.starts_with("of ")),
                Some(true)
            );
        }

        // One node is offline: the other is backed up. One fails: the error has the result of the
        // other.
        simulator.set_online("pve2", false);
        assert_eq!(
            pve.carry_out(job.run_now()).await.unwrap().len(),
            1,
            "{release}"
        );
        simulator.set_online("pve2", true);
        simulator.set_lock(201, Some("snapshot"));
        let (rest, cause) = left(pve.carry_out(job.run_now()).await);
        assert_eq!(
            subjects(&rest),
            [Subject::Node("pve1".into())],
            "{release}: {cause}"
        );
        let (_, cause) = left(pve.carry_out(RunBackupJob::new("weekly")).await);
        assert!(
            cause.never_sent() && cause.to_string().contains("the job does not exist"),
            "{cause}"
        );
    }
}

#[tokio::test]
async fn the_newest_backup_becomes_a_guest() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release).running(101)).await;
        for vmid in [101, 201] {
            let guest = pve.guest(vmid);
            guest.backup("nas").notes("first").and_wait().await.unwrap();
            let found = pve.carry_out(FindBackups::of(vmid)).await.unwrap();
            found[0].protect(&pve, true).await.unwrap();
            assert!(found[0].config(&pve).await.unwrap().contains("net0"));
            let protected = pve
                .carry_out(FindBackups::of(vmid).protected())
                .await
                .unwrap();
            assert_eq!(protected.len(), 1);
            let none = FindBackups::of(vmid).notes_with("second");
            assert!(pve.carry_out(none.clone()).await.unwrap().is_empty());
            let (_, cause) = left(pve.carry_out(Recover::newest(none)).await);
            assert!(cause.to_string().contains("no such backup"), "{cause}");

            // The guest exists: nothing is restored.
            let newest = FindBackups::of(vmid);
            simulator.clear_requests();
            let found = pve
                .carry_out(Recover::newest(newest.clone()))
                .await
                .unwrap();
            assert_eq!(found.vmid(), vmid);
            assert!(
                simulator
                    .requests()
                    .iter()
                    .all(|request| request.method == "GET")
            );

            // Beside it, under another number, and only once.
            let copy = Recover::newest(newest.clone())
                .to(vmid + 500)
                .unique()
                .started();
            let copied = pve.carry_out(copy.clone()).await.unwrap();
            assert_eq!(
                copied.status().await.unwrap().state,
                PowerState::Running,
                "{release}"
            );
            let (_, cause) = left(pve.carry_out(copy).await);
            assert!(cause.to_string().contains("another guest"), "{cause}");

            // In its place.
            pve.guest(vmid).add_tags(["changed"]).await.unwrap();
            let replaced = pve.carry_out(Recover::newest(newest.clone()).replace().started());
            let replaced = replaced
                .await
                .unwrap_or_else(|error| panic!("{release}: {error}"));
            assert!(replaced.tags().await.unwrap().is_empty());
            assert_eq!(replaced.status().await.unwrap().state, PowerState::Running);

            // That fails halfway: the error names what is left.
            let kind = if vmid == 101 { "qemu" } else { "lxc" };
            let fault = Fault::TaskFails("restore failed: no space left".into());
            let path = format!("/nodes/*/{kind}");
            simulator.faults().on("POST", &path).times(1).respond(fault);
            let failed = pve
                .carry_out(Recover::newest(newest.clone()).replace())
                .await;
            let (rest, _) = left(failed);
            assert!(
                subjects(&rest).contains(&Subject::Guest(vmid)),
                "{release}: {rest:?}"
            );
            assert!(
                rest.iter().any(|left| left.state.contains("replaced")),
                "{rest:?}"
            );
        }
        // Its node is offline; the backup is on shared storage.
        simulator.set_online("pve1", false);
        let elsewhere = Recover::newest(FindBackups::of(101)).to(901);
        let restored = pve.carry_out(elsewhere).await;
        let restored = restored.unwrap_or_else(|error| panic!("{release}: {error}"));
        assert_eq!(restored.location().await.unwrap().node, "pve2");
    }
}

#[tokio::test]
async fn pruning_can_be_previewed() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        for _ in 0..4 {
            pve.guest(101).backup("nas").and_wait().await.unwrap();
            simulator
                .clock()
                .advance(std::time::Duration::from_secs(90));
        }
        let all = pve.carry_out(FindBackups::of(101)).await.unwrap();
        assert_eq!(all.len(), 4);
        all[3].protect(&pve, true).await.unwrap();
        let rule = Retention {
            last: 1,
            ..Retention::default()
        };
        let prune = Prune::of("pve1", "nas", rule).guest(101);
        let fates = pve.carry_out(prune.clone().dry_run()).await.unwrap();
        let count = |fate| fates.iter().filter(|(_, own)| *own == fate).count();
        assert_eq!(
            [
                count(PruneOutcome::Keep),
                count(PruneOutcome::Remove),
                count(PruneOutcome::Exempt)
            ],
            [1, 2, 1]
        );
        assert_eq!(pve.carry_out(FindBackups::of(101)).await.unwrap().len(), 4);

        let fault = Fault::TaskFails("got timeout".into());
        let path = "/nodes/*/storage/*/prunebackups";
        simulator
            .faults()
            .on("DELETE", path)
            .times(1)
            .respond(fault);
        pve.carry_out(prune.clone()).await.unwrap_err();
        assert_eq!(pve.carry_out(FindBackups::of(101)).await.unwrap().len(), 4);
        pve.carry_out(prune.clone()).await.unwrap();
        let kept = pve.carry_out(FindBackups::of(101)).await.unwrap();
        assert_eq!(
            kept,
            [all[0].clone(), {
                let mut oldest = all[3].clone();
                oldest.protected = true;
                oldest
            }]
        );
        simulator.clear_requests();
        pve.carry_out(prune).await.unwrap();
        let deletes = simulator.requests().into_iter();
        assert_eq!(
            deletes.filter(|request| request.method == "DELETE").count(),
            0
        );
    }
}

#[tokio::test]
async fn a_guest_is_replicated_by_one_job_for_each_node() {
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release).node("pve3")).await;
        let job = ReplicationJob::of(101, "pve2").schedule("*/30").rate(10.0);
        assert_eq!(pve.carry_out(job.clone()).await.unwrap(), Ensured::Created);
        assert_eq!(
            pve.carry_out(job.clone()).await.unwrap(),
            Ensured::Found,
            "{release}"
        );
        let changed = pve.carry_out(job.enabled(false)).await.unwrap();
        assert_eq!(
            changed,
            Ensured::Changed(vec!["disable".into()]),
            "{release}"
        );
        let second = pve
            .carry_out(ReplicationJob::of(101, "pve3"))
            .await
            .unwrap();
        assert_eq!(second, Ensured::Created);
        let jobs = pve
            .request::<proxmox_api::Value>(Method::Get, "/cluster/replication")
            .await
            .unwrap();
        let ids: Vec<_> = jobs
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].clone())
            .collect();
        assert_eq!(ids, ["101-0", "101-1"]);
        let (rest, _) = left(pve.carry_out(ReplicationJob::of(999, "pve2")).await);
        assert!(rest.is_empty());
    }
}
