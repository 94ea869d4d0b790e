//! Manages a guest by high availability on two nodes, with groups or rules: `cargo run -p
//! proxmox-api --example high_availability`.
//!
//! On a real cluster (`PROXMOX_HOST` and so on), `PROXMOX_GUEST` is the guest; nothing is undone.

mod common;

use common::{Outcome, open, variable};
use proxmox_api::manage::ha::{HaView, HaWanted};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| builder.qemu(101, "pve1", &[("name", "db")])).await?;
    let vmid: u32 = match (variable("PROXMOX_GUEST"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 101,
        (None, None) => return Err("PROXMOX_GUEST has to be a guest's number".into()),
    };
    let nodes = pve.nodes().get().await?;
    let nodes = nodes.iter().map(|node| node.node.to_string()).zip(1..);
    let wanted = HaWanted::of(vmid).nodes(nodes).comment("by an example");
    for _ in 0..2 {
        let ensured = pve.carry_out(wanted.clone());
        println!("{:?}", ensured.on_step(|step| println!("  {step}")).await?);
    }
    for (vmid, guest) in HaView::fetch(&pve).await?.guests {
        println!("guest {vmid}: {} on {:?}", guest.state, guest.nodes);
    }
    if simulator.is_some() {
        println!("{:?}", pve.carry_out(HaWanted::none_of(vmid)).await?);
    }
    Ok(())
}
