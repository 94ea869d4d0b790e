//! Shows how a virtual machine differs from its wanted configuration, and corrects it: `cargo run
//! -p proxmox-api --example drift`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_VMID` is the machine's number; it is changed if `PROXMOX_REPAIR` is set.

mod common;

use common::{Outcome, open, variable};
use proxmox_api::pve::qemu::{QemuConfig, QemuNet};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [
            ("name", "web"),
            ("cores", "2"),
            ("memory", "2048"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr1"),
        ];
        builder.qemu(101, "pve1", &settings)
    })
    .await?;
    let vmid: u32 = variable("PROXMOX_VMID").map_or(Ok(101), |vmid| vmid.parse())?;

    let desired = QemuConfig::new()
        .cores(4)
        .memory(8192)
        .net(0, QemuNet::virtio().bridge("vmbr0"));
    let guest = pve.guest(vmid);
    let drift = guest.qemu_config().await?.drift(&desired);
    println!("{} settings of {vmid} differ:\n{drift}", drift.len());

    if simulator.is_some() || variable("PROXMOX_REPAIR").is_some() {
        guest
            .edit_qemu(|found, request| request.changes(&found.drift(&desired)))
            .await?;
        let drift = guest.qemu_config().await?.drift(&desired);
        println!("repaired, {} differ", drift.len());
    }
    Ok(())
}
