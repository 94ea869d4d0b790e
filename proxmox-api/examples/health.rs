//! The health of all nodes' disks and pools, and the file systems inside guests as metrics:
//! `cargo run -p proxmox-api --example health`.

mod common;

use common::{Outcome, open};
use proxmox_api::manage::health::{CheckHealth, FileSystemMetrics};
use proxmox_api::manage::metrics::render;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [("scsi0", "local-lvm:4"), ("agent", "1")];
        builder.qemu(101, "pve1", &settings).running(101)
    })
    .await?;
    if let Some(simulator) = &simulator {
        simulator.set_disk_health("pve2", "/dev/sdb", "FAILED");
    }
    let check = CheckHealth::new().details();
    for node in pve
        .carry_out(check)
        .on_step(|step| println!("{step}"))
        .await?
    {
        println!(
            "{}: {} disks, {}",
            node.node,
            node.disks.len(),
            node.worst()
        );
        for problem in node.problems() {
            println!("  {problem}");
        }
    }
    let families = pve.carry_out(FileSystemMetrics::new()).await?;
    println!("{}", render(&families));
    Ok(())
}
