//! Changes a machine and reboots it only if something waits for that:
//! `cargo run -p proxmox-api --example change_and_reboot`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_GUEST` is the machine's number.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [
            ("name", "web"),
            ("cores", "2"),
            ("scsi0", "local-lvm:8"),
            ("agent", "1"),
        ];
        builder.qemu(101, "pve1", &settings).running(101)
    })
    .await?;
    let vmid: u32 = match (variable("PROXMOX_GUEST"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 101,
        (None, None) => return Err("PROXMOX_GUEST has to be a machine's number".into()),
    };
    let guest = pve.guest(vmid).wait_for_locks(Duration::from_secs(300));
    for round in 1..=2 {
        let applied = guest
            .apply_qemu(|config| {
                config.cores = Some(4);
                config.description = Some("four cores".to_owned());
            })
            .reboot_if_needed(Duration::from_secs(120))
            .on_step(|step| println!("  {step:?}"))
            .await?;
        println!(
            "round {round}: {} written, rebooted: {}, still waiting: {}",
            applied.written.len(),
            applied.rebooted,
            applied.pending.len()
        );
    }
    Ok(())
}
