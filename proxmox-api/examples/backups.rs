//! A nightly backup job, run at once, and a copy of a guest from its newest backup:
//! `cargo run -p proxmox-api --example backups`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_STORAGE` is a storage for backups and `PROXMOX_GUEST` the guest.
//! The job is called `example-nightly` and stays, and so does the copy, which has the guest's number and 1000 more.

mod common;

use common::{Outcome, open, variable};
use proxmox_api::manage::backups::{BackupJob, FindBackups, Prune, Recover};
use proxmox_api::manage::guest::Retention;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [("name", "web"), ("scsi0", "local-lvm:4")];
        let builder = builder.storage("nas", "nfs", &["backup"], 1 << 40);
        builder.qemu(101, "pve1", &settings).running(101)
    })
    .await?;
    let vmid: u32 = match (variable("PROXMOX_GUEST"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 101,
        (None, None) => return Err("PROXMOX_GUEST has to be a guest's number".into()),
    };
    let storage = variable("PROXMOX_STORAGE").unwrap_or_else(|| "nas".to_owned());
    let rule = Retention {
        daily: 7,
        weekly: 4,
        ..Retention::default()
    };
    let job = BackupJob::new("example-nightly", &storage, "02:30").guests([vmid]);
    let job = job.keep(rule).notes("{{guestname}} on {{node}}\nby a job");
    println!("job: {:?}", pve.carry_out(job.clone()).await?);
    println!("job again: {:?}", pve.carry_out(job.clone()).await?);
    let run = pve.carry_out(job.run_now());
    let run = run.on_step(|step| println!("  {step}"));
    for (node, outcome) in run.await? {
        println!("{node}: {outcome:?}");
    }
    let backups = FindBackups::of(vmid).storage(&storage);
    for backup in pve.carry_out(backups.clone()).await? {
        println!(
            "{} of {} bytes, {:?}",
            backup.volume, backup.size, backup.notes
        );
        let rule = Retention {
            last: 1,
            ..Retention::default()
        };
        let prune = Prune::of(&backup.node, &storage, rule).guest(vmid);
        for (volume, fate) in pve.carry_out(prune.dry_run()).await? {
            println!("  {fate:8} {volume}");
        }
    }
    let copy = Recover::newest(backups).to(vmid + 1000).unique();
    let copy = pve.carry_out(copy).on_step(|step| println!("  {step}"));
    println!("restored as {}", copy.await?.vmid());
    Ok(())
}
