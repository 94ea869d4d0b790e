//! Migration of guests.

use std::time::Duration;

use proxmox_api::manage::guest::PowerState;
use proxmox_api::manage::migration::Migration;
use proxmox_api::manage::work::Subject;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major, newest_release};

use crate::support::{GIB, left, start, subjects};

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .node("pve3")
        .storage("thin", "lvmthin", &["images", "rootdir"], 500 * GIB)
        .storage("fast", "lvmthin", &["images", "rootdir"], 500 * GIB)
        .qemu(
            101,
            "pve1",
            &[("scsi0", "local-lvm:4"), ("scsi1", "thin:1")],
        )
        .lxc(201, "pve1", &[("rootfs", "local-lvm:2")])
}

#[tokio::test]
async fn a_guest_moves_with_its_disks_and_is_found() {
    for release in last_of_each_major() {
        for running in [false, true] {
            let mut builder = cluster(release);
            if running {
                builder = builder.running(101).running(201);
            }
            let (simulator, pve) = start(builder).await;
            for vmid in [101, 201] {
                let disk = if vmid == 101 { "scsi0" } else { "rootfs" };
                let migration = Migration::of(vmid, "pve2")
                    .disk(disk, "fast")
                    .bandwidth(1024);
                let moved = pve.carry_out(migration.clone()).await;
                let moved = moved.unwrap_or_else(|error| panic!("{release} {vmid}: {error}"));
                assert_eq!((&*moved.from, &*moved.to), ("pve1", "pve2"));
                let state = moved.guest.status().await.unwrap().state;
                assert_eq!(state == PowerState::Running, running, "{release}");
                let disks = moved.guest.disks().await.unwrap();
                assert_eq!(
                    disks[0].storage.as_deref(),
                    Some("fast"),
                    "{release} {vmid}"
                );
                simulator.clear_requests();
                pve.carry_out(migration).await.unwrap();
                assert!(
                    simulator
                        .requests()
                        .iter()
                        .all(|request| request.method == "GET")
                );
            }
            let disks = pve.guest(101).disks().await.unwrap();
            assert_eq!(disks[1].storage.as_deref(), Some("thin"));
        }
    }
}

#[tokio::test]
async fn rules_of_high_availability_limit_the_targets() {
    use proxmox_api::manage::ha::HaWanted;

    let mut builder = cluster(newest_release()).storage("ceph", "rbd", &["images"], 500 * GIB);
    for (vmid, node) in [(301, "pve1"), (302, "pve1"), (303, "pve3")] {
        builder = builder
            .qemu(vmid, node, &[("scsi0", "ceph:1")])
            .running(vmid);
    }
    let (simulator, pve) = start(builder).await;
    for vmid in [301, 302, 303] {
        pve.carry_out(HaWanted::of(vmid)).await.unwrap();
    }
    pve.carry_out(HaWanted::of(301).together_with([302]))
        .await
        .unwrap();
    pve.carry_out(HaWanted::of(303).apart_from([302]))
        .await
        .unwrap();
    // The guest that must be with it must also be apart from one on the target.
    let check = pve.guest(301).check_migration("pve3").await.unwrap();
    assert!(
        check.is_blocked("pve3") && !check.is_blocked("pve2"),
        "{check:?}"
    );
    assert_eq!(check.dependent_resources, ["vm:302"]);
    simulator.clear_requests();
    let (rest, cause) = left(pve.carry_out(Migration::of(301, "pve3")).await);
    assert!(rest.is_empty() && cause.never_sent(), "{cause}");
    assert!(cause.to_string().contains("vm:303"), "{cause}");
    // If requested all the same, the server refuses.
    let forced = pve.guest(301).migrate("pve3").await;
    let ended = match forced {
        Ok(started) => started.wait().await.map(drop),
        Err(error) => Err(error),
    };
    let error = ended.expect_err("the rules are against it").to_string();
    assert!(error.contains("vm:301"), "{error}");

    let moved = pve.carry_out(Migration::of(301, "pve2")).await.unwrap();
    assert_eq!(moved.with, ["vm:302"]);
    for vmid in [301, 302] {
        assert_eq!(pve.guest(vmid).locate().await.unwrap().node, "pve2");
    }
    // Strictly bound to nodes, it may move to no other.
    let bound = HaWanted::of(303).nodes([("pve3", 2), ("pve2", 1)]).strict();
    pve.carry_out(bound).await.unwrap();
    let check = pve.guest(303).check_migration("pve1").await.unwrap();
    assert!(check.is_blocked("pve1"), "{check:?}");
}

#[tokio::test]
async fn each_disk_moves_to_its_storage() {
    for release in last_of_each_major() {
        for running in [false, true] {
            let disks = [
                ("scsi0", "local-lvm:4"),
                ("scsi1", "local-lvm:2"),
                ("scsi2", "local-lvm:1"),
            ];
            let builder = cluster(release).qemu(102, "pve1", &disks).lxc(
                202,
                "pve1",
                &[("rootfs", "local-lvm:2"), ("mp0", "local-lvm:1,mp=/data")],
            );
            let builder = match running {
                true => builder.running(102).running(202),
                false => builder,
            };
            let (simulator, pve) = start(builder).await;
            let migration = || {
                Migration::of(102, "pve2")
                    .disk("scsi1", "fast")
                    .disk("scsi2", "thin")
            };
            // The last disk does not move on: the guest is on the target, and the error says so.
            let fault = Fault::TaskFails("no space left".into());
            let path = "/nodes/pve2/qemu/102/move_disk";
            simulator
                .faults()
                .on("POST", path)
                .skip(1)
                .times(1)
                .respond(fault);
            let (rest, cause) = left(pve.carry_out(migration()).await);
            let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
            assert_eq!(
                rest,
                [
                    "disk scsi2 of guest 102 is not on storage thin",
                    "guest 102 is on node pve2"
                ],
                "{release}: {cause}"
            );
            pve.carry_out(migration())
                .await
                .unwrap_or_else(|error| panic!("{release}: {error}"));
            let storages = |disks: Vec<proxmox_api::manage::guest::Disk>| -> Vec<String> {
                disks.into_iter().filter_map(|disk| disk.storage).collect()
            };
            let now = storages(pve.guest(102).disks().await.unwrap());
            assert_eq!(now, ["local-lvm", "fast", "thin"], "{release}");
            assert_eq!(simulator.count_requests("POST", path), 3, "{release}");

            let container = Migration::of(202, "pve2")
                .storage("fast")
                .disk("mp0", "thin");
            let ended = pve.carry_out(container).await;
            if running {
                let (rest, cause) = left(ended);
                assert!(rest.is_empty() && cause.never_sent(), "{release}: {cause}");
                assert!(cause.to_string().contains("stop it first"), "{cause}");
            } else {
                ended.unwrap_or_else(|error| panic!("{release}: {error}"));
                let now = storages(pve.guest(202).disks().await.unwrap());
                assert_eq!(now, ["fast", "thin"], "{release}");
            }
        }
    }
}

#[tokio::test]
async fn obstacles_are_reported_before_anything_is_done() {
    for release in last_of_each_major() {
        let devices = [("scsi0", "local-lvm:1"), ("hostpci0", "0000:01:00.0")];
        let builder = cluster(release).qemu(102, "pve1", &devices).running(101);
        let (simulator, pve) = start(builder).await;
        simulator.set_online("pve3", false);
        for (vmid, target, storage, expected) in [
            (101, "pve9", None, "no node pve9"),
            (101, "pve3", None, "is offline"),
            (201, "pve3", None, "is offline"),
            (101, "pve2", Some("nowhere"), "lacks the storages nowhere"),
            (201, "pve2", Some("nowhere"), "lacks the storages nowhere"),
            (102, "pve2", None, "hostpci0"),
        ] {
            let mut migration = Migration::of(vmid, target);
            if let Some(storage) = storage {
                migration = migration.storage(storage);
            }
            let (rest, cause) = left(pve.carry_out(migration).await);
            assert!(
                rest.is_empty() && cause.never_sent(),
                "{release} {expected}: {cause}"
            );
            assert!(
                cause.to_string().contains(expected),
                "{release} {expected}: {cause}"
            );
        }
        let both = Migration::of(101, "pve2")
            .disk("scsi0", "fast")
            .disk("scsi9", "thin");
        let (_, cause) = left(pve.carry_out(both).await);
        assert!(cause.to_string().contains("no disk scsi9"), "{cause}");
        let posts = simulator.requests().into_iter();
        let posts = posts.filter(|request| request.path.ends_with("/migrate"));
        assert_eq!(posts.filter(|request| request.method == "POST").count(), 0);
    }
}

#[tokio::test]
async fn a_failed_migration_leaves_the_guest_on_its_node() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release).running(101)).await;
        let fault = Fault::TaskFails("migration aborted".into());
        simulator
            .faults()
            .on("POST", "/nodes/*/qemu/*/migrate")
            .times(1)
            .respond(fault);
        let (rest, cause) = left(pve.carry_out(Migration::of(101, "pve2")).await);
        assert!(rest.is_empty(), "{release}: {cause} {rest:?}");
        assert_eq!(pve.guest(101).locate().await.unwrap().node, "pve1");

        simulator.set_lock(101, Some("backup"));
        let (rest, cause) = left(pve.carry_out(Migration::of(101, "pve2")).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("locked"),
            "{cause}"
        );
        simulator.set_lock(101, None);

        // The node goes offline while the task is polled: the outcome is unknown.
        let fault = Fault::Status(595, "No route to host".into());
        let poll_fault = simulator
            .faults()
            .on("GET", "/nodes/pve1/tasks/*/status")
            .respond(fault);
        let (rest, cause) = left(pve.carry_out(Migration::of(101, "pve2")).await);
        assert_eq!(
            subjects(&rest),
            vec![Subject::Guest(101); rest.len()],
            "{cause}"
        );
        assert!(
            rest.iter().any(|left| left.task.is_some()),
            "{release}: {rest:?}"
        );
        poll_fault.remove();
        pve.guest(101).locate().await.unwrap();
        let again = pve.carry_out(Migration::of(101, "pve2"));
        again.wait_for_locks(Duration::from_secs(30)).await.unwrap();
        assert_eq!(
            simulator.count_requests("POST", "/nodes/pve2/qemu/101/migrate"),
            0
        );
    }
}

#[tokio::test]
async fn a_guest_moves_to_another_cluster() {
    use proxmox_api::manage::migration::{Remote, RemoteMigration};
    use proxmox_simulator::{TOKEN_ID, TOKEN_SECRET};

    for release in last_of_each_major() {
        let (here, pve) = start(cluster(release).running(101)).await;
        let (remote, other) = start(cluster(release)).await;
        for vmid in [101, 201] {
            other
                .guest(vmid)
                .destroy()
                .await
                .unwrap()
                .wait()
                .await
                .unwrap();
        }
        let target = |secret: &str| {
            Remote::new("127.0.0.1", format!("{TOKEN_ID}={secret}"))
                .port(remote.address().port())
                .fingerprint(remote.fingerprint())
        };
        let wrong = RemoteMigration::of(101, target("no"), "local-lvm", "vmbr0");
        let (rest, cause) = left(pve.carry_out(wrong).await);
        // 7.4 moves only virtual machines this way.
        if cause.kind() == Some(proxmox_api::error::ErrorKind::UnknownMethod) {
            continue;
        }
        assert!(
            rest.is_empty() && cause.to_string().contains("401"),
            "{release}: {cause}"
        );
        let go = RemoteMigration::of(101, target(TOKEN_SECRET), "local-lvm", "vmbr0");
        let go = go.map_storage("thin", "fast").number(301).delete_source();
        let fault = Fault::TaskFails("tunnel broke".into());
        let path = "/nodes/*/qemu/*/remote_migrate";
        here.faults().on("POST", path).times(1).respond(fault);
        let (rest, _) = left(pve.carry_out(go.clone()).await);
        assert!(rest.is_empty(), "{release}: {rest:?}");
        let moved = pve.carry_out(go).await;
        assert_eq!(
            moved.unwrap_or_else(|error| panic!("{release}: {error}")),
            301
        );
        assert!(pve.guest(101).locate().await.is_err(), "{release}");
        let arrived = other.guest(301);
        assert_eq!(
            arrived.status().await.unwrap().state,
            PowerState::Running,
            "{release}"
        );
        let disks = arrived.disks().await.unwrap();
        assert_eq!(disks[1].storage.as_deref(), Some("fast"), "{release}");

        // Without removing the source it stays, stopped; the number in the other cluster is taken
        // then.
        let copy = RemoteMigration::of(201, target(TOKEN_SECRET), "thin", "vmbr0");
        if let Err(error) = pve.carry_out(copy.clone()).await {
            assert_eq!(
                error.kind(),
                Some(proxmox_api::error::ErrorKind::UnknownMethod)
            );
            continue;
        }
        assert_eq!(
            pve.guest(201).status().await.unwrap().state,
            PowerState::Stopped
        );
        assert_eq!(
            other.guest(201).disks().await.unwrap()[0]
                .storage
                .as_deref(),
            Some("thin")
        );
        let (rest, cause) = left(pve.carry_out(copy).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("already exists"),
            "{cause}"
        );
    }
}
