//! The everyday layer with a simulated server.

use std::time::Duration;

use proxmox_api::error::ErrorKind;
use proxmox_api::manage::guest::{
    Bus, CloudInit, Guest, GuestErrorKind, Kind, PowerState, Size, allocate, next_free,
};
use proxmox_api::pve::lxc::{LxcConfig, LxcMountPoint, LxcNet};
use proxmox_api::pve::qemu::{QemuConfig, QemuDrive, QemuNet};
use proxmox_api::task::{AndWait, TaskOutcome};
use proxmox_api::{Client, Error};
use proxmox_simulator::{Builder, Fault, Simulator, TOKEN_ID, TOKEN_SECRET, last_of_each_major};

const GIB: u64 = 1 << 30;

async fn start(builder: Builder) -> (Simulator, Client) {
    let simulator = builder.time_factor(0.0).start().await.expect("it starts");
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
        .storage("thin", "lvmthin", &["images", "rootdir"], 500 * GIB)
        .storage("ceph", "rbd", &["images", "rootdir"], 500 * GIB)
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

/// The kind of a guest error.
fn reason<T>(result: Result<T, Error>) -> GuestErrorKind {
    match result {
        Err(Error::Guest(error)) => error.reason().clone(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it worked"),
    }
}

#[tokio::test]
async fn power_by_number_alone() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(small().release(release)).await;
        for vmid in [101, 201] {
            let guest = pve.guest(vmid);
            assert_eq!(state(&guest).await, PowerState::Stopped);
            let started = guest.start().await.unwrap();
            assert_eq!(started.upid().unwrap().id(), Some(&*vmid.to_string()));
            assert_eq!(started.wait().await.unwrap(), TaskOutcome::Ok);
            assert_eq!(state(&guest).await, PowerState::Running);
            guest.reboot().await.unwrap().wait().await.unwrap();
            let shutdown = guest.shutdown().or_stop_after(Duration::from_secs(90));
            shutdown.await.unwrap().wait().await.unwrap();
            assert_eq!(state(&guest).await, PowerState::Stopped);
        }
        assert_eq!(
            simulator.count_requests("GET", "/cluster/resources"),
            1,
            "one list serves both"
        );
        let requests = simulator.requests();
        let shutdown = (requests.iter())
            .find(|request| request.path == "/nodes/pve2/lxc/201/status/shutdown")
            .unwrap();
        assert_eq!(shutdown.params["timeout"], "90");
        assert_eq!(shutdown.params["forceStop"], "1");
    }
}

#[tokio::test]
async fn pausing_and_what_only_machines_can() {
    let (_simulator, pve) = start(small().running(101)).await;
    let machine = pve.guest(101);
    machine.suspend().await.unwrap().wait().await.unwrap();
    assert_eq!(state(&machine).await, PowerState::Paused);
    machine.resume().await.unwrap().wait().await.unwrap();
    assert_eq!(state(&machine).await, PowerState::Running);
    machine.reset().await.unwrap().wait().await.unwrap();

    let wrong = GuestErrorKind::WrongKind {
        vmid: 201,
        is: Kind::Lxc,
        needed: Kind::Qemu,
    };
    assert_eq!(reason(pve.guest(201).reset().await), wrong);
    let error = pve.guest(999).start().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::NotFound));
    let missing = GuestErrorKind::NoSuchGuest { vmid: 999 };
    assert_eq!(reason(Err::<(), _>(error)), missing);
}

#[tokio::test]
async fn a_failure_of_the_task_is_an_error() {
    let (simulator, pve) = start(small()).await;
    simulator.set_lock(101, Some("backup"));
    let started = pve.guest(101).start().await.unwrap();
    let error = started.wait().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Locked));
    assert!(error.to_string().contains("is locked (backup)"), "{error}");
}

#[tokio::test]
async fn a_migrated_guest_is_found_again() {
    let (simulator, pve) = start(small()).await;
    let guest = pve.guest(101);
    assert_eq!(guest.location().await.unwrap().node, "pve1");
    // Another client moves it.
    pve.guest(101).check_migration("pve2").await.unwrap();
    let other = pve.guest(101).migrate("pve2").with_local_disks();
    other.await.unwrap().wait().await.unwrap();

    simulator.clear_requests();
    guest.start().await.unwrap().wait().await.unwrap();
    assert_eq!(guest.location().await.unwrap().node, "pve2");
    assert_eq!(
        simulator.count_requests("POST", "/nodes/pve1/qemu/101/status/start"),
        1
    );
    assert_eq!(
        simulator.count_requests("POST", "/nodes/pve2/qemu/101/status/start"),
        1
    );

    // A handle that moves its guest knows the new location at once.
    let back = guest.migrate("pve1").with_local_disks();
    back.await.unwrap().wait().await.unwrap();
    assert_eq!(guest.location().await.unwrap().node, "pve1");
    let moves: Vec<_> = (simulator.requests().into_iter())
        .filter(|request| request.path == "/nodes/pve2/qemu/101/migrate")
        .collect();
    assert_eq!(moves[0].params["online"], "1", "it runs, so it moves live");

    // A wrong node from the start is harmless.
    let guess = pve.guest_at(201, "pve1", Kind::Lxc);
    assert_eq!(guess.status().await.unwrap().name.as_deref(), Some("dns"));
}

/// The server accepts some requests for a guest that the node does not have; only the task fails.
#[tokio::test]
async fn an_operation_on_the_wrong_node_is_repeated_on_the_right_one() {
    let (simulator, pve) = start(small()).await;
    let of = |vmid, kind| pve.guest_at(vmid, "pve2", kind);
    let machine = || of(101, Kind::Qemu);
    pve.guest(101).snapshot("snap").and_wait().await.unwrap();
    machine().start().and_wait().await.unwrap();
    let state = async |vmid| state(&pve.guest(vmid)).await;
    assert_eq!(state(101).await, PowerState::Running);
    machine().shutdown().and_wait().await.unwrap();
    assert_eq!(state(101).await, PowerState::Stopped);
    machine().start().and_wait().await.unwrap();
    machine().stop().and_wait().await.unwrap();
    assert_eq!(state(101).await, PowerState::Stopped);
    let larger = machine().resize_disk("scsi0", Size::By(1 << 30));
    larger.and_wait().await.unwrap();
    machine().rollback("snap").and_wait().await.unwrap();
    machine().delete_snapshot("snap").and_wait().await.unwrap();

    let container = || pve.guest_at(201, "pve1", Kind::Lxc);
    if state(201).await != PowerState::Running {
        container().start().and_wait().await.unwrap();
    }
    assert!(!container().interfaces().await.unwrap().is_empty());
    container().snapshot("snap").and_wait().await.unwrap();
    container().stop().and_wait().await.unwrap();
    assert_eq!(state(201).await, PowerState::Stopped);
    container().start().and_wait().await.unwrap();
    container().shutdown().and_wait().await.unwrap();
    assert_eq!(state(201).await, PowerState::Stopped);
    // A stopped container has no interfaces on any node.
    assert!(container().interfaces().await.unwrap().is_empty());

    // The guest was removed.
    let gone = pve.guest_at(999, "pve1", Kind::Qemu);
    let error = gone.start().and_wait().await.unwrap_err();
    assert!(
        matches!(&error, Error::Guest(why) if matches!(why.reason(), GuestErrorKind::NoSuchGuest { .. })),
        "{error:?}"
    );
    // Errors about other missing objects do not lead to other nodes.
    simulator.clear_requests();
    let missing = pve.guest(101).delete_snapshot("nope");
    assert_eq!(
        missing.and_wait().await.unwrap_err().kind(),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        simulator.count_requests("DELETE", "/nodes/pve1/qemu/101/snapshot/nope"),
        1
    );
}

#[tokio::test]
async fn settings_are_changed_and_removed_and_conflicts_retried() {
    let (simulator, pve) = start(small()).await;
    let guest = pve.guest(101);
    guest
        .edit_qemu(|_, request| request.cores(4).balloon(1024))
        .await
        .unwrap();
    guest
        .edit_qemu(|config, request| request.cores(config.cores.unwrap() * 2).unset("balloon"))
        .await
        .unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert_eq!((config.cores, config.balloon), (Some(8), None));

    simulator.clear_requests();
    guest.edit_qemu(|_, request| request).await.unwrap();
    assert_eq!(
        simulator.count_requests("PUT", "/nodes/pve1/qemu/101/config"),
        0
    );

    // A digest that is always outdated ends after five attempts.
    let error = guest
        .edit_qemu(|_, request| request.cores(1).digest("00"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ConfigChanged));
    assert_eq!(
        simulator.count_requests("PUT", "/nodes/pve1/qemu/101/config"),
        5
    );
    let mut attempt = 0;
    guest
        .edit_qemu(|_, request| {
            attempt += 1;
            let request = request.cores(2);
            if attempt < 3 {
                request.digest("00")
            } else {
                request
            }
        })
        .await
        .unwrap();
    assert_eq!(attempt, 3);
    assert_eq!(guest.qemu_config().await.unwrap().cores, Some(2));

    simulator.clear_requests();
    guest
        .update_qemu(|config| {
            config.cores = Some(6);
            config.balloon = Some(512);
            config.net.insert(3, "virtio,bridge=vmbr9".into());
            config.tags = Some(["blue", "red"].into());
        })
        .await
        .unwrap();
    let requests = simulator.requests();
    let written = requests.iter().find(|request| request.method == "PUT");
    let sent = written.expect("a change was sent").params.as_object();
    let keys: Vec<&String> = sent.expect("a form").keys().collect();
    assert_eq!(keys, ["balloon", "cores", "digest", "net3", "tags"]);
    guest
        .update_qemu(|config| {
            config.balloon = None;
            let card = config.net.remove(3).expect("it was added");
            assert_eq!(card.bridge.as_deref(), Some("vmbr9"));
        })
        .await
        .unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert_eq!((config.cores, config.balloon), (Some(6), None));
    assert!(!config.net.contains_key(3));
    assert_eq!(config.tags.unwrap().0, ["blue", "red"]);

    let container = pve.guest(201);
    container
        .update_lxc(|config| config.hostname = Some("ns1".to_owned()))
        .await
        .unwrap();
    assert_eq!(
        container.lxc_config().await.unwrap().hostname.as_deref(),
        Some("ns1")
    );
    container
        .edit_lxc(|_, request| request.memory(1024).description("name server"))
        .await
        .unwrap();
    assert_eq!(container.lxc_config().await.unwrap().memory, Some(1024));
}

#[tokio::test]
async fn tags() {
    let (simulator, pve) = start(small()).await;
    for vmid in [101, 201] {
        let guest = pve.guest(vmid);
        assert!(guest.tags().await.unwrap().is_empty());
        guest.add_tags(["prod", "web"]).await.unwrap();
        guest.add_tags(["WEB", "blue"]).await.unwrap();
        // The server keeps the order of tags.
        assert_eq!(guest.tags().await.unwrap(), ["blue", "prod", "web"]);
        guest.remove_tags(["web", "never-had"]).await.unwrap();
        assert_eq!(guest.tags().await.unwrap(), ["blue", "prod"]);
        simulator.clear_requests();
        guest.add_tags(["blue"]).await.unwrap();
        let writes = (simulator.requests().iter())
            .filter(|request| request.method != "GET")
            .count();
        assert_eq!(writes, 0, "nothing to change");
        guest.remove_tags(["blue", "prod"]).await.unwrap();
        assert!(guest.tags().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn disks_and_network_cards() {
    let (simulator, pve) = start(small()).await;
    let guest = pve.guest(101);
    let disk = QemuDrive::new("local-lvm:16").iothread(true);
    let key = guest.attach_disk(Bus::Scsi, disk).await.unwrap();
    assert_eq!(key, "scsi1");
    let resized = guest.resize_disk(&key, Size::By(8 * GIB)).await.unwrap();
    resized.wait().await.unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert_eq!(config.scsi[&1].size, Some("24G".into()));
    assert_eq!(config.scsi[&1].iothread, Some(true));
    guest.detach(&key).await.unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert!(!config.scsi.contains_key(1));
    assert_eq!(config.unused.len(), 1, "the volume is kept");

    let card = QemuNet::virtio().bridge("vmbr1").tag(7);
    assert_eq!(guest.attach_net(card).await.unwrap(), "net1");
    let mac = guest.qemu_config().await.unwrap().net[&1].macaddr.clone();
    assert!(mac.is_some());
    guest.edit_net(1, |card| card.tag = Some(8)).await.unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert_eq!(
        (config.net[&1].tag, &config.net[&1].macaddr),
        (Some(8), &mac)
    );
    let missing = GuestErrorKind::NoSuchSetting {
        vmid: 101,
        key: "net5".to_owned(),
    };
    assert_eq!(reason(guest.edit_net(5, |_| ()).await), missing);
    for _ in 0..4 {
        guest
            .attach_disk(Bus::Ide, QemuDrive::new("local-lvm:1"))
            .await
            .unwrap();
    }
    let one_more = guest.attach_disk(Bus::Ide, QemuDrive::new("local-lvm:1"));
    let full = GuestErrorKind::NoFreeSlot {
        vmid: 101,
        device: "ide",
    };
    assert_eq!(reason(one_more.await), full);
    simulator.clear_requests();
    guest
        .move_disk("scsi0", "thin")
        .delete_source()
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    assert_eq!(
        simulator.count_requests("POST", "/nodes/pve1/qemu/101/move_disk"),
        1
    );

    let container = pve.guest(201);
    let mount = LxcMountPoint::new("/srv", "local-lvm:2");
    assert_eq!(container.attach_mount_point(mount).await.unwrap(), "mp0");
    let card = LxcNet::new("eth0").bridge("vmbr0").ip("dhcp");
    assert_eq!(container.attach_lxc_net(card).await.unwrap(), "net0");
    container
        .edit_lxc_net(0, |card| card.tag = Some(3))
        .await
        .unwrap();
    let config = container.lxc_config().await.unwrap();
    assert_eq!(
        (config.net[&0].tag, config.net[&0].name.as_str()),
        (Some(3), "eth0")
    );
    let resized = container
        .resize_disk("rootfs", Size::To(8 * GIB))
        .await
        .unwrap();
    resized.wait().await.unwrap();
    let size = container.lxc_config().await.unwrap().rootfs.unwrap().size;
    assert_eq!(size, Some("8G".into()));
}

#[tokio::test]
async fn resizing_has_no_task_on_old_releases() {
    let (_simulator, pve) = start(small().release("7.4")).await;
    let guest = pve.guest(101);
    let resized = guest
        .resize_disk("scsi0", Size::To(10 * GIB))
        .await
        .unwrap();
    assert!(resized.task().is_done());
    assert_eq!(resized.wait().await.unwrap(), TaskOutcome::Ok);
    let config = guest.qemu_config().await.unwrap();
    assert_eq!(config.scsi[&0].size, Some("10G".into()));
}

#[tokio::test]
async fn cloud_init() {
    let (simulator, pve) = start(small()).await;
    let guest = pve.guest(101);
    let keys = ["ssh-ed25519 AAAA+b/c== ann@desk", "ssh-rsa BBBB bob@desk"];
    let settings = CloudInit::new()
        .drive("local-lvm")
        .user("admin")
        .password("s3cret")
        .ssh_key(keys[0])
        .ssh_key(keys[1])
        .dhcp(0)
        .nameserver("192.0.2.53")
        .upgrade(false);
    guest.set_cloud_init(settings.clone()).await.unwrap();
    let config = guest.qemu_config().await.unwrap();
    assert!(
        config.ide[&2].file.as_str().contains("cloudinit"),
        "{:?}",
        config.ide
    );
    assert_eq!(config.ciuser.as_deref(), Some("admin"));
    assert_eq!(config.ipconfig[&0].ip.as_deref(), Some("dhcp"));
    let request = (simulator.requests().into_iter())
        .find(|request| request.path == "/nodes/pve1/qemu/101/config" && request.method == "POST")
        .unwrap();
    assert_eq!(
        request.params["sshkeys"],
        "ssh-ed25519%20AAAA%2Bb%2Fc%3D%3D%20ann%40desk%0Assh-rsa%20BBBB%20bob%40desk"
    );
    // The cloud-init drive exists now.
    guest.set_cloud_init(settings).await.unwrap();
    assert_eq!(guest.qemu_config().await.unwrap().ide.len(), 1);
    guest.regenerate_cloud_init().await.unwrap();
    assert_eq!(
        simulator.count_requests("PUT", "/nodes/pve1/qemu/101/cloudinit"),
        1
    );
}

#[tokio::test]
async fn snapshots() {
    let (_simulator, pve) = start(small().running(101)).await;
    for vmid in [101, 201] {
        let guest = pve.guest(vmid);
        assert!(guest.snapshots().await.unwrap().is_empty());
        let first = guest.snapshot("first").description("All is well.");
        first.await.unwrap().wait().await.unwrap();
        guest
            .snapshot("second")
            .with_memory()
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
        let found = guest.snapshots().await.unwrap();
        let names: Vec<&str> = found
            .iter()
            .map(|snapshot| snapshot.name.as_str())
            .collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(found[0].description.trim(), "All is well.");
        assert_eq!(found[1].parent.as_deref(), Some("first"));
        assert_eq!(found[1].memory, vmid == 101);
        guest.rollback("first").await.unwrap().wait().await.unwrap();
        guest
            .delete_snapshot("second")
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
        assert_eq!(guest.snapshots().await.unwrap().len(), 1);
        let twice = guest
            .snapshot("first")
            .await
            .unwrap()
            .wait()
            .await
            .unwrap_err();
        assert_eq!(twice.kind(), Some(ErrorKind::AlreadyExists), "{twice}");
    }
}

#[tokio::test]
async fn templates_clones_and_destroying() {
    let (_simulator, pve) = start(small()).await;
    let original = pve.guest(101);
    original
        .make_template()
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    let first = original.clone_to(5000).name("one").await.unwrap();
    first.started.wait().await.unwrap();
    let second = original
        .clone_within(5000..=5010)
        .name("two")
        .full(true)
        .await
        .unwrap();
    second.started.wait().await.unwrap();
    assert_eq!(second.guest.vmid(), 5001);
    assert_eq!(
        second.guest.qemu_config().await.unwrap().name.as_deref(),
        Some("two")
    );
    second.guest.start().await.unwrap().wait().await.unwrap();

    let running = second.guest.destroy().await;
    assert!(running.is_err(), "a guest that runs is not destroyed");
    let destroy = second.guest.destroy().purge().stop_first();
    destroy.await.unwrap().wait().await.unwrap();
    let gone = GuestErrorKind::NoSuchGuest { vmid: 5001 };
    assert_eq!(reason(second.guest.status().await), gone);
    // The answer for a container does not name the task.
    let task = pve.guest(201).make_template().await.unwrap();
    assert!(
        task.upid()
            .is_some_and(|upid| upid.task_type() == "vztemplate")
    );
    task.wait().await.unwrap();
    let copy = pve
        .guest(201)
        .clone_within(300..=310)
        .name("copy")
        .await
        .unwrap();
    copy.started.wait().await.unwrap();
    assert_eq!(
        copy.guest.lxc_config().await.unwrap().hostname.as_deref(),
        Some("copy")
    );
}

#[tokio::test]
async fn free_numbers() {
    let (_simulator, pve) = start(small()).await;
    assert_eq!(next_free(&pve, 100..=110).await.unwrap(), 100);
    assert_eq!(next_free(&pve, 101..=110).await.unwrap(), 102);
    let none = GuestErrorKind::NoFreeId {
        first: 101,
        last: 101,
    };
    assert_eq!(reason(next_free(&pve, 101..=101).await), none);

    // Another client takes the number between the query and the creation.
    let mut tried = Vec::new();
    let qemu = pve.api().nodes().node("pve1").qemu();
    let (vmid, task) = allocate(&pve, 102..=110, |vmid| {
        tried.push(vmid);
        let first = tried.len() == 1;
        let (thief, request) = (qemu.post(vmid).name("thief"), qemu.post(vmid).name("mine"));
        async move {
            if first {
                thief.await?.wait().await?;
            }
            request.await
        }
    })
    .await
    .unwrap();
    task.wait().await.unwrap();
    assert_eq!((vmid, tried), (103, vec![102, 103]));
    let name = pve.guest(103).qemu_config().await.unwrap().name;
    assert_eq!(name.as_deref(), Some("mine"));
}

#[tokio::test]
async fn backup_and_restore() {
    let (_simulator, pve) = start(small()).await;
    for (vmid, kind, node) in [(101, Kind::Qemu, "pve1"), (201, Kind::Lxc, "pve2")] {
        let guest = pve.guest(vmid);
        let backup = guest
            .backup("local")
            .mode("stop")
            .compress("zstd")
            .notes("{{guestname}}");
        backup.await.unwrap().wait().await.unwrap();
        let found = guest.backups("local").await.unwrap();
        assert_eq!(found.len(), 1);
        let restore = pve
            .restore(node, kind, vmid + 1000, &found[0].volid)
            .storage("local-lvm")
            .unique()
            .start();
        let restored = restore.await.unwrap();
        restored.wait().await.unwrap();
        assert_eq!(restored.guest().vmid(), vmid + 1000);
        assert_eq!(state(restored.guest()).await, PowerState::Running);
    }
}

#[tokio::test]
async fn a_guest_from_creation_to_removal_on_every_release() {
    for release in proxmox_simulator::releases() {
        let (_simulator, pve) = start(small().release(release)).await;
        let journey = async {
            pve.guest(101).make_template().await?.wait().await?;
            let clone = pve
                .guest(101)
                .clone_within(500..=509)
                .full(true)
                .storage("ceph")
                .name("life")
                .await?;
            clone.started.wait().await?;
            let guest = clone.guest;
            let settings = CloudInit::new()
                .drive("ceph")
                .user("admin")
                .ssh_key("ssh-rsa A b");
            guest.set_cloud_init(settings.dhcp(0)).await?;
            let disk = guest
                .attach_disk(Bus::Scsi, QemuDrive::new("ceph:1"))
                .await?;
            guest
                .resize_disk(&disk, Size::To(2 * GIB))
                .await?
                .wait()
                .await?;
            guest.attach_net(QemuNet::virtio().bridge("vmbr0")).await?;
            guest.add_tags(["life"]).await?;
            guest.start().await?.wait().await?;
            guest.snapshot("young").await?.wait().await?;
            guest.migrate("pve2").await?.wait().await?;
            guest.rollback("young").await?.wait().await?;
            guest.delete_snapshot("young").await?.wait().await?;
            guest.backup("local").await?.wait().await?;
            guest.destroy().purge().stop_first().await?.wait().await?;
            Ok::<_, Error>(())
        };
        if let Err(error) = journey.await {
            panic!("{release}: {error}");
        }
    }
}

#[tokio::test]
async fn a_change_reports_pending_settings_and_reboots_if_needed() {
    let patience = Duration::from_secs(60);
    for release in last_of_each_major() {
        let (simulator, pve) = start(small().release(release).running(101).running(201)).await;
        let guest = pve.guest(101);
        let mut steps = Vec::new();
        let applied = guest
            .apply_qemu(|config| {
                config.cores = Some(8);
                config.description = Some("eight cores".to_owned());
                config.ciuser = Some("admin".to_owned());
            })
            .on_step(|step| steps.push(format!("{step:?}")))
            .await
            .unwrap();
        assert_eq!(
            applied.written,
            ["ciuser", "cores", "description"],
            "{release}"
        );
        let waits: Vec<&str> = applied.pending.iter().map(|change| &*change.key).collect();
        assert!(
            waits.contains(&"cores") && !waits.contains(&"description"),
            "{waits:?}"
        );
        assert!(applied.needs_reboot() && !applied.rebooted);
        assert!(steps[0].starts_with("Written") && steps.last().unwrap().starts_with("Pending"));

        // The reboot fails: settings are not lost, and the next call continues.
        let rule = simulator
            .faults()
            .on("POST", "/nodes/*/qemu/101/status/reboot");
        rule.times(1)
            .respond(Fault::TaskFails("got timeout".to_owned()));
        let change = |config: &mut QemuConfig| config.cores = Some(8);
        let failed = guest.apply_qemu(change).reboot_if_needed(patience).await;
        assert!(matches!(failed, Err(Error::Task(_))), "{failed:?}");
        assert_eq!(guest.pending().await.unwrap(), applied.pending);
        let applied = guest
            .apply_qemu(change)
            .reboot_if_needed(patience)
            .await
            .unwrap();
        assert!(applied.written.is_empty() && applied.rebooted && !applied.needs_reboot());
        assert_eq!(state(&guest).await, PowerState::Running);
        simulator.clear_requests();
        let applied = guest
            .apply_qemu(change)
            .reboot_if_needed(patience)
            .await
            .unwrap();
        assert!(applied.written.is_empty() && !applied.rebooted);
        assert!(
            simulator
                .requests()
                .iter()
                .all(|request| request.method == "GET")
        );

        let container = pve.guest(201);
        let change = |config: &mut LxcConfig| config.hostname = Some("ns1".to_owned());
        let applied = container
            .apply_lxc(change)
            .reboot_if_needed(patience)
            .await
            .unwrap();
        assert_eq!(applied.written, ["hostname"]);
        assert!(!applied.needs_reboot(), "{applied:?}");
    }
}
