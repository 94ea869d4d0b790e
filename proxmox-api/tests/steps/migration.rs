//! Guests on other nodes.

use std::time::Duration;

use proxmox_api::manage::guest::PowerState;
use proxmox_api::manage::migration::Migration;
use proxmox_api::manage::work::Subject;
use proxmox_simulator::{Builder, Fault, Simulator};

use crate::support::{GIB, RELEASES, asked, left, start, subjects};

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
    for release in RELEASES {
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
async fn what_stands_in_the_way_is_told_before_anything_is_done() {
    for release in RELEASES {
        let devices = [("scsi0", "local-lvm:1"), ("hostpci0", "0000:01:00.0")];
        let builder = cluster(release).qemu(102, "pve1", &devices).running(101);
        let (simulator, pve) = start(builder).await;
        simulator.set_online("pve3", false);
        for (vmid, target, storage, told) in [
            (101, "pve9", None, "no node pve9"),
            (101, "pve3", None, "is not there"),
            (201, "pve3", None, "is not there"),
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
                "{release} {told}: {cause}"
            );
            assert!(
                cause.to_string().contains(told),
                "{release} {told}: {cause}"
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
async fn a_migration_that_fails_leaves_the_guest_where_it_was() {
    for release in RELEASES {
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

        // The node goes away while the task is watched: nobody knows.
        let fault = Fault::Status(595, "No route to host".into());
        let look = simulator
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
        look.remove();
        pve.guest(101).locate().await.unwrap();
        let again = pve.carry_out(Migration::of(101, "pve2"));
        again.wait_for_locks(Duration::from_secs(30)).await.unwrap();
        assert_eq!(asked(&simulator, "POST", "/nodes/pve2/qemu/101/migrate"), 0);
    }
}

#[tokio::test]
async fn a_guest_moves_to_another_cluster() {
    use proxmox_api::manage::migration::{Remote, RemoteMigration};
    use proxmox_simulator::{TOKEN_ID, TOKEN_SECRET};

    for release in RELEASES {
        let (here, pve) = start(cluster(release).running(101)).await;
        let (there, other) = start(cluster(release)).await;
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
        let remote = |secret: &str| {
            Remote::new("127.0.0.1", format!("{TOKEN_ID}={secret}"))
                .port(there.address().port())
                .fingerprint(there.fingerprint())
        };
        let wrong = RemoteMigration::of(101, remote("no"), "local-lvm", "vmbr0");
        let (rest, cause) = left(pve.carry_out(wrong).await);
        // 7.4 moves virtual machines only in this way.
        if cause.kind() == Some(proxmox_api::error::ErrorKind::UnknownMethod) {
            continue;
        }
        assert!(
            rest.is_empty() && cause.to_string().contains("401"),
            "{release}: {cause}"
        );
        let go = RemoteMigration::of(101, remote(TOKEN_SECRET), "local-lvm", "vmbr0");
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

        // Without removing the source it stays, stopped; over there the number is taken then.
        let copy = RemoteMigration::of(201, remote(TOKEN_SECRET), "thin", "vmbr0");
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
