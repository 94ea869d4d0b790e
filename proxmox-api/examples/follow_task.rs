//! Waits for tasks: `cargo run -p proxmox-api --example follow_task -- UPID…`.
//!
//! For one task it prints the log while it grows; several are waited for together. Without
//! arguments, on the simulated cluster, it runs a backup that fails, stops a backup, and starts ten
//! guests at once. On a real server it only reads.

mod common;

use common::{Outcome, open};
use proxmox_api::error::Error;
use proxmox_api::manage::tasks::{GUEST_TIMEOUT, STORAGE_TIMEOUT, wait_all};
use proxmox_api::task::Task;
use proxmox_api::value::upid::{Upid, UpidError};
use proxmox_simulator::Fault;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        (100..110).fold(builder.time_factor(0.2), |builder, vmid| {
            builder.qemu(vmid, "pve1", &[("scsi0", "local-lvm:8")])
        })
    })
    .await?;
    let upids: Result<Vec<Upid>, UpidError> =
        (std::env::args().skip(1).map(|text| text.parse())).collect();
    let tasks: Vec<Task> = upids?.into_iter().map(|upid| pve.task(upid)).collect();
    let Some(simulator) = simulator else {
        return match tasks.as_slice() {
            [] => Err("pass the UPIDs of the tasks".into()),
            [task] => show(task).await,
            _ => wait_for_all(tasks).await,
        };
    };

    let backup = pve.guest(100).backup("local").await?;
    show(backup.task()).await?;
    let rule = simulator.faults().on("POST", "/nodes/*/vzdump").times(1);
    rule.respond(Fault::TaskFails("no space left on device".to_owned()));
    let backup = pve.guest(100).backup("local").await?;
    if let Err(error) = backup.wait().timeout(STORAGE_TIMEOUT).await {
        println!("\n{error}\n");
    }
    let backup = pve.guest(100).backup("local").await?;
    let task = backup.task();
    task.stop().await?;
    println!("stopped: {}\n", task.wait().outcome().await?);
    let mut starts = Vec::new();
    for vmid in 100..110 {
        starts.push(pve.guest(vmid).start().await?.task().clone());
    }
    wait_for_all(starts).await
}

/// Prints the log as it grows, and the outcome.
async fn show(task: &Task) -> Outcome {
    println!(
        "{task} on {}",
        task.upid().map_or("no node", |upid| upid.node())
    );
    let mut lines = task.wait().timeout(STORAGE_TIMEOUT).lines();
    while let Some(line) = lines.try_next().await? {
        println!("  | {line}");
    }
    if let Some(outcome) = lines.outcome() {
        println!("ended: {outcome}");
    }
    Ok(())
}

async fn wait_for_all(tasks: Vec<Task>) -> Outcome {
    let Some(client) = tasks.first().map(|task| task.client().clone()) else {
        return Ok(());
    };
    let count = tasks.len();
    let ends = wait_all(&client, tasks)
        .timeout(GUEST_TIMEOUT)
        .on_end(|_, end| match &end.outcome {
            Ok(outcome) => println!("{}: {outcome}", end.task),
            Err(Error::Task(error)) if error.may_be_running() => {
                println!("outcome unknown: {error}")
            }
            Err(error) => println!("{error}"),
        })
        .await?;
    let done = ends.iter().filter(|end| end.is_success()).count();
    println!("{done} of {count} succeeded");
    Ok(())
}
