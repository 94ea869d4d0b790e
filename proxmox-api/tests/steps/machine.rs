//! Virtual machines from images.

use std::time::Duration;

use proxmox_api::Client;
use proxmox_api::manage::guest::{CloudInit, PowerState};
use proxmox_api::manage::image::Image;
use proxmox_api::manage::machine::Machine;
use proxmox_api::manage::work::Subject;
use proxmox_api::stream::upload::ChecksumAlgorithm;
use proxmox_simulator::{
    Builder, Fault, Simulator, TOKEN_ID, TOKEN_SECRET, last_of_each_major, newest_release,
};

use crate::support::{GIB, Steps, left, start, subjects};

const URL: &str = "https://images.example.org/debian-13-genericcloud-amd64.qcow2";

/// An empty qcow2 image of 3 GiB.
fn image() -> Vec<u8> {
    let mut image = b"QFI\xfb".to_vec();
    image.extend(3_u32.to_be_bytes());
    image.extend([0; 16]);
    image.extend((3 * GIB).to_be_bytes());
    image.resize(4096, 0);
    image
}

fn sum(data: &[u8]) -> String {
    use sha2::Digest;

    let digest = sha2::Sha256::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .web_file(URL, image())
}

/// The volume of an image on a release.
fn volume(release: &str, name: &str) -> String {
    match release {
        "7.4" => format!("local:iso/{name}.img"),
        _ => format!("local:import/{name}"),
    }
}

fn machine() -> Machine {
    let image = Image::url(URL).checksum(ChecksumAlgorithm::Sha256, sum(&image()));
    Machine::new("web", image)
        .node("pve2")
        .ids(5000..=5009)
        .cores(2)
        .memory(1024)
        .disk("local-lvm", 10 * GIB)
        .cloud_init(
            CloudInit::new()
                .user("admin")
                .ssh_key("ssh-ed25519 AAAA me")
                .dhcp(0),
        )
        .wait_for_address(Duration::from_secs(60))
}

#[tokio::test]
async fn an_image_becomes_a_running_machine_that_is_found_again() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let steps = Steps::default();
        let created = pve.carry_out(machine()).on_step(steps.listener()).await;
        let created = created.unwrap_or_else(|error| panic!("{release}: {error}"));
        assert!(created.new && created.guest.vmid() == 5000);
        assert!(!created.addresses.is_empty());
        let volume = volume(release, "debian-13-genericcloud-amd64.qcow2");
        let begun: Vec<String> = (steps.take().into_iter())
            .filter(|step| step.ends_with(": done"))
            .collect();
        let expected = [
            format!("volume {volume}: fetch: done"),
            "guest 5000: create: done".to_owned(),
            "guest 5000: resize: done".to_owned(),
            "guest 5000: start: done".to_owned(),
            "guest 5000: wait for: done".to_owned(),
        ];
        assert_eq!(begun, expected, "{release}");
        let config = created.guest.qemu_config().await.unwrap();
        assert_eq!(config.ciuser.as_deref(), Some("admin"));
        let disk = config.scsi.get(0).unwrap();
        assert_eq!(disk.size.as_ref().unwrap().bytes(), Some(10 * GIB));
        assert_eq!(created.guest.location().await.unwrap().node, "pve2");

        // Again: nothing is created, started or changed.
        simulator.clear_requests();
        let found = pve
            .carry_out(machine())
            .on_step(steps.listener())
            .await
            .unwrap();
        assert!(!found.new && found.guest.vmid() == 5000 && !found.addresses.is_empty());
        let changes = (simulator.requests().into_iter()).filter(|request| request.method != "GET");
        assert_eq!(changes.count(), 0, "{release}");
        // Differences are corrected; if a later step fails, the error lists the corrections.
        created.guest.stop().await.unwrap().wait().await.unwrap();
        let more = machine().disk("local-lvm", 12 * GIB);
        let more = more.cloud_init(CloudInit::new().user("root"));
        let fault = Fault::TaskFails("start failed".into());
        let start = simulator
            .faults()
            .on("POST", "/nodes/*/qemu/*/status/start");
        start.times(1).respond(fault);
        let (rest, cause) = left(pve.carry_out(more.clone()).await);
        let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
        let expected = [
            "guest 5000 has a larger disk",
            "guest 5000 was changed: ciuser",
        ];
        assert_eq!(rest, expected, "{release}: {cause}");
        pve.carry_out(more).await.unwrap();
        let config = created.guest.qemu_config().await.unwrap();
        assert_eq!(config.ciuser.as_deref(), Some("root"));
        let disk = config.scsi.get(0).unwrap();
        assert_eq!(disk.size.as_ref().unwrap().bytes(), Some(12 * GIB));
        assert_eq!(
            created.guest.status().await.unwrap().state,
            PowerState::Running
        );
    }
}

/// Before 8.3, the server refuses the import after the download. The job refuses before it.
#[tokio::test]
async fn tokens_on_old_releases_are_refused_before_the_download() {
    let (simulator, _) = start(cluster("7.4")).await;
    let pve = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse().unwrap())
        .build()
        .unwrap();
    let (rest, cause) = left(pve.carry_out(machine()).await);
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(
        cause.to_string(),
        "machine web: releases before 8.3 import images from paths, and only for root@pam, not for \
         root@pam!test; log in as root@pam with its password"
    );
    let sent = simulator.requests();
    assert!(sent.iter().all(|sent| sent.method == "GET"), "{sent:?}");
}

#[tokio::test]
async fn a_compressed_file_is_decompressed() {
    use std::io::Write;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.raw.gz");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![7; 1 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    std::fs::write(&path, &packed).unwrap();
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release)).await;
        let image = Image::file(&path).checksum(ChecksumAlgorithm::Sha256, sum(&packed));
        let image_volume = pve.carry_out(image.on("pve1")).await.unwrap();
        let expected = match release {
            "7.4" => "/var/lib/vz/template/iso/small.raw.img".to_owned(),
            _ => "local:import/small.raw".to_owned(),
        };
        assert_eq!(image_volume, expected);
        let content = pve
            .nodes()
            .node("pve1")
            .storage()
            .storage("local")
            .content();
        let rows = content.get().await.unwrap();
        let row = rows
            .iter()
            .find(|row| row.volid.as_str().contains("small.raw"))
            .unwrap();
        assert_eq!(row.size, Some(1 << 20), "{release}");
        // The image exists: it is not uploaded again.
        pve.carry_out(image.on("pve1")).await.unwrap();

        let wrong = Image::file(&path).checksum(ChecksumAlgorithm::Sha256, "00".repeat(32));
        let wrong = pve.carry_out(wrong.name("other.raw.gz").on("pve1")).await;
        let (rest, cause) = left(wrong);
        assert!(
            rest.is_empty() && cause.to_string().contains("checksum"),
            "{cause}"
        );
    }
}

#[cfg(feature = "unpack")]
#[tokio::test]
async fn xz_and_zstd_are_decompressed() {
    // "proxmox\n", compressed by xz and by zstd.
    const XZ: &str =
        "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAHcHJveG1veAoAMZPEjtmgjXMAASAIuxnZux+2830BAAAAAARZWg==";
    const ZSTD: &str = "KLUv/SQIQQAAcHJveG1veAr6qdXw";
    use base64::Engine as _;

    let (_simulator, pve) = start(cluster(newest_release())).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, data) in [("a.raw.xz", XZ), ("b.raw.zst", ZSTD)] {
        let path = folder.path().join(name);
        let data = base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap();
        std::fs::write(&path, data).unwrap();
        let image_volume = pve.carry_out(Image::file(&path).on("pve1")).await.unwrap();
        let content = pve
            .nodes()
            .node("pve1")
            .storage()
            .storage("local")
            .content();
        let rows = content.get().await.unwrap();
        let row = rows.iter().find(|row| row.volid == *image_volume).unwrap();
        assert_eq!(row.size, Some(8), "{name}");
    }
    std::fs::write(folder.path().join("c.raw.xz"), b"no such thing").unwrap();
    let broken = Image::file(folder.path().join("c.raw.xz"));
    pve.carry_out(broken.on("pve1")).await.unwrap_err();
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let volume = Subject::Volume(volume(release, "debian-13-genericcloud-amd64.qcow2"));
        let machine = machine();

        // The wrong image: nothing is left.
        let wrong = Image::url(URL).checksum(ChecksumAlgorithm::Sha256, "00".repeat(32));
        let (rest, cause) = left(pve.carry_out(Machine::new("web", wrong).node("pve2")).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("checksum mismatch"),
            "{cause}"
        );

        // The machine is not created: the image stays, the number is free.
        let fault = Fault::TaskFails("no space left on device".into());
        simulator
            .faults()
            .on("POST", "/nodes/*/qemu")
            .times(1)
            .respond(fault);
        let (rest, _) = left(pve.carry_out(machine.clone()).await);
        assert_eq!(subjects(&rest), std::slice::from_ref(&volume), "{release}");
        assert!(pve.guest(5000).location().await.is_err());

        // It does not start: image and machine stay.
        let fault = Fault::TaskFails("start failed".into());
        simulator
            .faults()
            .on("POST", "/nodes/*/qemu/*/status/start")
            .times(1)
            .respond(fault);
        let (rest, cause) = left(pve.carry_out(machine.clone()).await);
        assert_eq!(
            subjects(&rest),
            [Subject::Guest(5000)],
            "{release}: {cause}"
        );
        assert_eq!(
            pve.guest(5000).status().await.unwrap().state,
            PowerState::Stopped
        );

        // A lock delays it; with a time limit for locks, the work waits.
        simulator.set_lock(5000, Some("backup"));
        let (rest, cause) = left(pve.carry_out(machine.clone()).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("locked"),
            "{release}: {cause}"
        );
        let patient = pve
            .carry_out(machine.clone())
            .wait_for_locks(Duration::from_secs(60));
        let unlock = async {
            while simulator.count_requests("POST", "/nodes/pve2/qemu/5000/status/start") < 3 {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            simulator.set_lock(5000, None);
        };
        let (created, ()) = tokio::join!(patient, unlock);
        assert!(!created.unwrap().new);
        assert_eq!(
            pve.guest(5000).status().await.unwrap().state,
            PowerState::Running
        );

        // The node goes offline: the machine is not created elsewhere.
        simulator.set_online("pve2", false);
        let away = machine.clone().ids(5001..=5001);
        let (rest, cause) = left(pve.carry_out(away).await);
        assert!(rest.is_empty(), "{release}: {cause}");
        assert!(pve.guest(5001).location().await.is_err());
    }
}

#[tokio::test]
async fn the_number_of_another_guest_is_refused() {
    let taken = cluster(newest_release()).qemu(5000, "pve1", &[("name", "other")]);
    let (_simulator, pve) = start(taken).await;
    let (rest, cause) = left(pve.carry_out(machine().id(5000)).await);
    assert!(rest.is_empty() && cause.never_sent(), "{cause}");
    assert!(cause.to_string().contains("another guest"), "{cause}");
}
