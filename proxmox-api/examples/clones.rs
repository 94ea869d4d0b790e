//! Makes clones of a template on all nodes in turn: `cargo run -p proxmox-api --example clones`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_TEMPLATE` is the template's number, `PROXMOX_COUNT` how many clones
//! there are to be (3). They are called `clone-1` and so on, have numbers from 5000 to 5999, and stay.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Error;
use proxmox_api::manage::clones::Clones;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [
            ("name", "base"),
            ("template", "1"),
            ("scsi0", "local-lvm:4"),
        ];
        builder.qemu(9000, "pve1", &settings)
    })
    .await?;
    let template: u32 = match (variable("PROXMOX_TEMPLATE"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 9000,
        (None, None) => return Err("PROXMOX_TEMPLATE has to be a template's number".into()),
    };
    let count = variable("PROXMOX_COUNT").map_or(Ok(3), |count| count.parse())?;
    let nodes = pve.nodes().get().await?;
    let clones = Clones::of(template)
        .count(count)
        .ids(5000..=5999)
        .nodes(nodes.iter().map(|node| node.node.to_string()))
        .at_once(2)
        .full(true);
    let outcome = pve
        .carry_out(clones)
        .wait_for_locks(Duration::from_secs(600))
        .on_step(|step| println!("  {step}"))
        .await;
    match outcome {
        Ok(guests) => println!("{} clones are there", guests.len()),
        Err(Error::Unfinished(error)) => {
            println!("{}", error.cause());
            for left in error.left() {
                println!("left behind: {left}");
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
