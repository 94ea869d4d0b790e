//! Makes a virtual machine from a cloud image's template: `cargo run -p proxmox-api --example cloud_vm`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_TEMPLATE` is the template's number; `PROXMOX_STORAGE` is
//! where the cloud-init drive goes (`local-lvm`), `PROXMOX_SSH_KEY` a public key to let in. The machine gets the
//! first free number from 5000 to 5999 and stays.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Error;
use proxmox_api::manage::guest::{CloudInit, GuestErrorKind, Size};
use proxmox_api::manage::tasks::STORAGE_TIMEOUT;

const GIB: u64 = 1 << 30;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [
            ("name", "debian-13-cloud"),
            ("template", "1"),
            ("scsi0", "local-lvm:3"),
            ("net0", "virtio,bridge=vmbr0"),
            ("agent", "1"),
        ];
        builder.qemu(9000, "pve1", &settings)
    })
    .await?;
    let template: u32 = match (variable("PROXMOX_TEMPLATE"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 9000,
        (None, None) => return Err("PROXMOX_TEMPLATE has to be a template's number".into()),
    };
    let storage = variable("PROXMOX_STORAGE").unwrap_or_else(|| "local-lvm".to_owned());

    let clone = pve
        .guest(template)
        .clone_within(5000..=5999)
        .name("cloud-vm");
    let clone = clone.full(true).await?;
    let vm = clone.guest;
    println!("cloning template {template} to {} …", vm.vmid());
    (clone.started.wait())
        .timeout(STORAGE_TIMEOUT)
        .on_log(|line| println!("  | {line}"))
        .await?;

    let mut settings = CloudInit::new().drive(&storage).user("admin").dhcp(0);
    if let Some(key) = variable("PROXMOX_SSH_KEY") {
        settings = settings.ssh_key(key);
    }
    vm.set_cloud_init(settings).await?;
    // Cloud images are just large enough for what is in them.
    let disk = match vm.qemu_config().await?.scsi.is_empty() {
        true => "virtio0",
        false => "scsi0",
    };
    let resized = vm.resize_disk(disk, Size::By(8 * GIB)).await?;
    resized.wait().await?;
    vm.edit_qemu(|_, request| request.cores(2).onboot(true))
        .await?;
    vm.add_tags(["cloud"]).await?;
    println!("set up: 2 cores, 8 GiB more on {disk}, cloud-init on {storage}");

    vm.start().await?.wait().await?;
    println!("started on {}", vm.location().await?.node);

    let patience = Duration::from_secs(180);
    match vm.wait_for_address(patience).await {
        Ok(addresses) => println!("reachable at {addresses:?}"),
        Err(Error::Guest(error)) if matches!(error.reason(), GuestErrorKind::TimedOut { .. }) => {
            println!("no address within {patience:?}; does the image have the guest agent?");
        }
        Err(error) => println!("no address: {error}"),
    }
    Ok(())
}
