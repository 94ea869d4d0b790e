//! Makes a machine from a cloud image, and finds it the second time:
//! `cargo run -p proxmox-api --example image_to_machine`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_IMAGE` is the image's address and `PROXMOX_SHA512` its checksum,
//! `PROXMOX_STORAGE` where the disk goes (`local-lvm`), `PROXMOX_SSH_KEY` a public key to let in. The machine is called
//! `image-to-machine`, has a number from 5000 to 5999, and stays. On releases before 8.3, log in with
//! `PROXMOX_PASSWORD` as `root@pam`: its API tokens may not import from a path.

mod common;

use std::time::Duration;

use common::{Outcome, open_as_root, variable};
use proxmox_api::manage::guest::CloudInit;
use proxmox_api::manage::image::Image;
use proxmox_api::manage::machine::Machine;
use proxmox_api::stream::upload::ChecksumAlgorithm;

#[tokio::main]
async fn main() -> Outcome {
    let url = variable("PROXMOX_IMAGE")
        .unwrap_or_else(|| "https://images.example.org/debian-13-genericcloud-amd64.qcow2".into());
    let (_simulator, pve) =
        open_as_root(|builder| builder.web_file(&url, vec![0; 1 << 20])).await?;
    let mut image = Image::url(url);
    if let Some(sum) = variable("PROXMOX_SHA512") {
        image = image.checksum(ChecksumAlgorithm::Sha512, sum);
    }
    let mut login = CloudInit::new().user("admin").dhcp(0);
    if let Some(key) = variable("PROXMOX_SSH_KEY") {
        login = login.ssh_key(key);
    }
    let storage = variable("PROXMOX_STORAGE").unwrap_or_else(|| "local-lvm".to_owned());
    let machine = Machine::new("image-to-machine", image)
        .ids(5000..=5999)
        .cores(2)
        .memory(2048)
        .disk(storage, 10 << 30)
        .cloud_init(login)
        .wait_for_address(Duration::from_secs(180));
    for round in 1..=2 {
        println!("round {round}");
        let created = pve.carry_out(machine.clone());
        let created = created.on_step(|step| println!("  {step}")).await?;
        println!(
            "  guest {} at {:?}, new: {}",
            created.guest.vmid(),
            created.addresses,
            created.new
        );
    }
    Ok(())
}
