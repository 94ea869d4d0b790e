//! Takes snapshots of all guests with a tag and removes old ones, to be run every night: `cargo run
//! -p proxmox-api --example nightly_snapshot -- TAG`.
//!
//! Keeps the snapshots of seven days and four weeks, and touches only its own snapshots. On the
//! simulated cluster it runs for twenty nights.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Outcome, open};
use proxmox_api::manage::guest::{Guest, Retention, Verdict};
use proxmox_api::manage::inventory::{Inventory, ResourceType};
use proxmox_api::{Client, Error};
use proxmox_simulator::Clock;

const PREFIX: &str = "nightly-";
const KEEP: Retention = Retention {
    last: 0,
    hourly: 0,
    daily: 7,
    weekly: 4,
    monthly: 0,
    yearly: 0,
};

#[tokio::main]
async fn main() -> Outcome {
    let clock = Clock::manual(1_793_491_200 + 2 * 3_600);
    let (simulator, pve) = open(|builder| {
        builder
            .clock(clock.clone())
            .time_factor(0.0)
            .qemu(
                100,
                "pve1",
                &[("tags", "nightly"), ("scsi0", "local-lvm:8")],
            )
            .lxc(
                200,
                "pve2",
                &[("tags", "nightly"), ("rootfs", "local-lvm:4")],
            )
            .qemu(300, "pve2", &[("scsi0", "local-lvm:8")])
    })
    .await?;
    let tag = match (std::env::args().nth(1), &simulator) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "nightly".to_owned(),
        (None, None) => return Err("pass the tag of the guests".into()),
    };
    if simulator.is_none() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        return night(&pve, &tag, now.as_secs()).await;
    }
    for _ in 0..20 {
        night(&pve, &tag, clock.now().as_secs()).await?;
        clock.advance(Duration::from_secs(86_400));
    }
    for vmid in [100, 200, 300] {
        let names: Vec<String> = (pve.guest(vmid).snapshots().await?.into_iter())
            .map(|snapshot| snapshot.name)
            .collect();
        println!("guest {vmid} has {names:?}");
    }
    Ok(())
}

async fn night(pve: &Client, tag: &str, now: u64) -> Outcome {
    let inventory = Inventory::fetch(pve).await?;
    let vms = inventory.select().of_type(ResourceType::Vm);
    let vmids = vms.without_templates().tag(tag).vmids();
    let report = pve
        .batch(vmids)
        .parallel(2)
        .run(|guest| async move {
            let snapshot = guest.snapshot(format!("{PREFIX}{now}"));
            let taken = snapshot.description("Nightly snapshot.").await?;
            taken.wait().await?;
            prune(&guest).await
        })
        .await?;
    for result in report.results {
        match result.problem() {
            Some(problem) => println!("guest {}: {problem}", result.vmid()),
            None => println!("guest {}: done", result.vmid()),
        }
    }
    Ok(())
}

/// One after the other, because a guest can have only one snapshot operation at a time.
async fn prune(guest: &Guest) -> Result<(), Error> {
    let snapshots: Vec<_> = (guest.snapshots().await?.into_iter())
        .filter(|snapshot| snapshot.name.starts_with(PREFIX))
        .filter_map(|snapshot| Some((snapshot.time?, snapshot.name)))
        .collect();
    let times: Vec<u64> = snapshots.iter().map(|(time, _)| *time).collect();
    for ((_, name), verdict) in snapshots.iter().zip(KEEP.evaluate(&times)) {
        if verdict == Verdict::Remove {
            println!("guest {}: {name} is removed", guest.vmid());
            guest.delete_snapshot(name).await?.wait().await?;
        }
    }
    Ok(())
}
