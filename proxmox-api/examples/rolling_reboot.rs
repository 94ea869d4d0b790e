//! Reboots the nodes of a cluster one after the other: `cargo run -p proxmox-api --example rolling_reboot`.
//!
//! Before a node reboots, its running guests move to the other nodes, and afterwards they move
//! back. On a real cluster it only prints the plan unless `PROXMOX_REBOOT=1` is set, and it stops
//! at the first problem. The client should connect to a node that is not rebooted: set another one
//! in `PROXMOX_HOST`.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Client;
use proxmox_api::manage::inventory::{Inventory, Order, ResourceType, SortBy};
use proxmox_api::manage::tasks::STORAGE_TIMEOUT;
use proxmox_simulator::Simulator;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        builder
            .node("pve3")
            .time_factor(0.0)
            .storage("ceph", "rbd", &["images", "rootdir"], 1 << 40)
            .qemu(100, "pve2", &[("name", "web"), ("scsi0", "ceph:8")])
            .qemu(101, "pve3", &[("name", "db"), ("scsi0", "ceph:8")])
            .running(100)
            .running(101)
    })
    .await?;
    let really = simulator.is_some() || variable("PROXMOX_REBOOT").as_deref() == Some("1");
    let inventory = Inventory::fetch(&pve).await?;
    let nodes: Vec<String> = (inventory.select())
        .of_type(ResourceType::Node)
        .sort(SortBy::Name, Order::Ascending)
        .list()
        .into_iter()
        .filter_map(|node| node.node.clone())
        .collect();
    if nodes.len() < 2 {
        return Err("a single node has no targets for its guests".into());
    }
    for node in nodes {
        reboot(&pve, &node, simulator.as_ref(), really).await?;
    }
    Ok(())
}

async fn reboot(pve: &Client, node: &str, simulator: Option<&Simulator>, really: bool) -> Outcome {
    let mut moved = Vec::new();
    loop {
        // Read again for each guest, because the last one took room.
        let inventory = Inventory::fetch(pve).await?;
        let next = (inventory.select())
            .of_type(ResourceType::Vm)
            .node(node)
            .status("running")
            .matching(|guest| guest.vmid.is_some_and(|vmid| !moved.contains(&vmid)))
            .list()
            .into_iter()
            .next();
        let Some((vmid, row)) = next.and_then(|row| Some((row.vmid?, row))) else {
            break;
        };
        let room = inventory.placement(row.max_memory, row.cpus);
        let target = (room.iter().find(|other| *other != node))
            .ok_or_else(|| format!("no other node has room for guest {vmid}"))?;
        println!("{node}: guest {vmid} moves to {target}");
        moved.push(vmid);
        if really {
            let migration = pve.guest(vmid).migrate(target).await?;
            migration.wait().timeout(STORAGE_TIMEOUT).await?;
        }
    }
    println!("{node}: reboots");
    if really {
        pve.api().nodes().node(node).status().post("reboot").await?;
        if let Some(simulator) = simulator {
            // Simulated nodes do not reboot by themselves.
            simulator.set_online(node, false);
        }
        wait_for(pve, node, "offline").await?;
        if let Some(simulator) = simulator {
            simulator.set_online(node, true);
        }
        wait_for(pve, node, "online").await?;
    }
    for vmid in moved {
        println!("{node}: guest {vmid} comes back");
        if really {
            let migration = pve.guest(vmid).migrate(node).await?;
            migration.wait().timeout(STORAGE_TIMEOUT).await?;
        }
    }
    println!("{node}: done\n");
    Ok(())
}

async fn wait_for(pve: &Client, node: &str, status: &str) -> Outcome {
    for _ in 0..180 {
        // There is no answer while the connected node is down.
        if let Ok(nodes) = pve.api().nodes().get().await
            && (nodes.iter()).any(|row| row.node == node && row.status.as_str() == status)
        {
            println!("{node}: {status}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    Err(format!("{node} was not {status} within 15 minutes").into())
}
