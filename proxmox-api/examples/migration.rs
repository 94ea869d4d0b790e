//! Moves a guest to another node after checking for obstacles: `cargo run -p proxmox-api --example
//! migration`.
//!
//! On a real cluster (`PROXMOX_HOST` and so on), `PROXMOX_GUEST` is the guest and `PROXMOX_TARGET` the node.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Error;
use proxmox_api::manage::migration::Migration;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let disks = [("scsi0", "local-lvm:4")];
        let with_device = [("scsi0", "local-lvm:4"), ("hostpci0", "0000:01:00.0")];
        let builder = builder.qemu(101, "pve1", &disks).running(101);
        builder.qemu(102, "pve1", &with_device)
    })
    .await?;
    let (vmids, target) = match (
        variable("PROXMOX_GUEST"),
        variable("PROXMOX_TARGET"),
        &simulator,
    ) {
        (Some(guest), Some(target), _) => (vec![guest.parse()?], target),
        (_, _, Some(_)) => (vec![101, 102], "pve2".to_owned()),
        _ => return Err("set PROXMOX_GUEST and PROXMOX_TARGET".into()),
    };
    for vmid in vmids {
        let moved = pve
            .carry_out(Migration::of(vmid, &target).bandwidth(200 * 1024))
            .wait_for_locks(Duration::from_secs(600))
            .on_step(|step| println!("  {step}"))
            .await;
        match moved {
            Ok(moved) => println!("guest {vmid}: from {} to {}", moved.from, moved.to),
            Err(Error::Work(error)) => println!("nothing was done: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
