//! Starts all stopped guests that have a tag: `cargo run -p proxmox-api --example bulk_start -- TAG`.
//!
//! Without a tag, on the simulated cluster, starts all of them; one is locked there and fails. At most four at a
//! time, and two on the same node. Ends with the report as JSON.

mod common;

use common::{Outcome, open};
use proxmox_api::manage::guest::PowerAction;
use proxmox_api::manage::inventory::{Inventory, ResourceType};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|mut builder| {
        for vmid in 100..112 {
            let node = if vmid % 2 == 0 { "pve1" } else { "pve2" };
            builder = builder.qemu(vmid, node, &[("tags", "web")]);
        }
        builder
    })
    .await?;
    if let Some(simulator) = &simulator {
        simulator.set_lock(105, Some("backup"));
    }
    let tag = match (std::env::args().nth(1), &simulator) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "web".to_owned(),
        (None, None) => return Err("pass the tag of the guests to start".into()),
    };

    let inventory = Inventory::fetch(&pve).await?;
    let chosen = (inventory.select())
        .of_type(ResourceType::Vm)
        .without_templates()
        .status("stopped")
        .tag(&tag)
        .vmids();
    println!("{} stopped guests are tagged {tag:?}", chosen.len());

    let report = pve
        .batch(chosen)
        .parallel(4)
        .per_node(2)
        .on_progress(|step| {
            let result = step
                .result
                .problem()
                .unwrap_or_else(|| "started".to_owned());
            println!(
                "{:>3}/{} guest {}: {result}",
                step.done,
                step.total,
                step.result.vmid()
            );
        })
        .power(PowerAction::Start)
        .await?;
    println!("\n{:#}", report.to_json());
    Ok(())
}
