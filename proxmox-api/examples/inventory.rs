//! Lists the guests of a cluster and the usage of its nodes: `cargo run -p proxmox-api --example
//! inventory`.
//!
//! Arguments filter and sort the list, such as `status=running`, `node=pve1`, `pool=…`, `tag=…`,
//! `kind=lxc`, and `sort=memory` with `order=desc`. The last lines show the nodes with room for a
//! guest of 4 GiB and two processors, and the usage of storages.

mod common;

use common::{Outcome, open};
use proxmox_api::manage::guest::Kind;
use proxmox_api::manage::inventory::{Inventory, Order, ResourceType, SortBy};
use proxmox_api::manage::metrics;

const GIB: u64 = 1 << 30;

#[tokio::main]
async fn main() -> Outcome {
    let (_simulator, pve) = open(|builder| {
        builder
            .qemu(
                100,
                "pve1",
                &[("name", "web"), ("memory", "4096"), ("tags", "prod")],
            )
            .qemu(
                101,
                "pve1",
                &[("name", "db"), ("memory", "16384"), ("tags", "prod")],
            )
            .running(100)
            .running(101)
            .lxc(
                200,
                "pve2",
                &[("hostname", "dns"), ("rootfs", "local-lvm:4")],
            )
    })
    .await?;
    let inventory = Inventory::fetch(&pve).await?;
    let mut guests = inventory.select().of_type(ResourceType::Vm);
    let (mut by, mut order) = (SortBy::Vmid, Order::Ascending);
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or("expected key=value")?;
        guests = match key {
            "status" => guests.status(value),
            "node" => guests.node(value),
            "pool" => guests.pool(value),
            "tag" => guests.tag(value),
            "kind" if value == "lxc" => guests.of_kind(Kind::Lxc),
            "kind" => guests.of_kind(Kind::Qemu),
            "sort" => {
                by = match value {
                    "name" => SortBy::Name,
                    "vmid" => SortBy::Vmid,
                    "memory" | "mem" => SortBy::Memory,
                    "cpu" => SortBy::Cpu,
                    "uptime" => SortBy::Uptime,
                    "node" => SortBy::Node,
                    "status" => SortBy::Status,
                    _ => return Err(format!("cannot sort by {value}").into()),
                };
                guests
            }
            "order" => {
                order = if value == "desc" {
                    Order::Descending
                } else {
                    Order::Ascending
                };
                guests
            }
            _ => return Err(format!("{key} is not known").into()),
        };
    }
    for guest in guests.sort(by, order).list() {
        println!(
            "{:<12} {:<16} {:<8} {:<8} {:>6} MiB",
            guest.id,
            guest.name(),
            guest.node.as_ref().map_or("-", |node| node.as_str()),
            guest.status.as_deref().unwrap_or("-"),
            guest.max_memory >> 20,
        );
    }
    println!();
    for (node, capacity) in inventory.capacity() {
        println!(
            "{node}: {} of {} guests run, {} of {} GiB left",
            capacity.running,
            capacity.guests,
            capacity.memory_left() / GIB,
            capacity.memory / GIB,
        );
    }
    let room = inventory.placement(4 * GIB, 2.0);
    println!("room for 4 GiB and two processors: {}\n", room.join(", "));
    for storage in (inventory.select().of_type(ResourceType::Storage)).list() {
        let (Some(node), Some(name)) = (&storage.node, &storage.storage) else {
            continue;
        };
        let figures = metrics::storage_metrics(&pve, node, name).await?;
        let (used, size) = (figures.used / GIB, figures.size / GIB);
        println!("{name} on {node}: {used} of {size} GiB");
    }
    Ok(())
}
