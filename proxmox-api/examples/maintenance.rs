//! Drains a node, reboots it and moves its guests back: `cargo run -p proxmox-api --example
//! maintenance`.
//!
//! On a real cluster (`PROXMOX_HOST` and so on), `PROXMOX_NODE` is the node. Without
//! `PROXMOX_REBOOT=1` it only shows the plan. The client should connect to another node.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::manage::maintenance::{Drain, RollingReboot};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let mut builder = builder
            .node("pve3")
            .storage("ceph", "rbd", &["images"], 1 << 40);
        for vmid in 101..105 {
            let settings = [("scsi0", "ceph:4"), ("memory", "2048"), ("onboot", "1")];
            builder = builder.qemu(vmid, "pve1", &settings).running(vmid);
        }
        builder
    })
    .await?;
    let node = match (variable("PROXMOX_NODE"), &simulator) {
        (Some(node), _) => node,
        (None, Some(_)) => "pve1".to_owned(),
        (None, None) => return Err("PROXMOX_NODE has to be a node's name".into()),
    };
    let drain = Drain::of(&node).at_once(2);
    println!("{}", drain.plan(&pve).await?);
    if simulator.is_none() && variable("PROXMOX_REBOOT").as_deref() != Some("1") {
        return Ok(());
    }
    let reboot = RollingReboot::of([&node]).drained_as(drain);
    pve.carry_out(reboot.patience(Duration::from_secs(900)))
        .wait_for_locks(Duration::from_secs(600))
        .on_step(|step| println!("  {step}"))
        .await?;
    Ok(())
}
