//! Accesses the inside of a virtual machine through its guest agent: `cargo run -p proxmox-api
//! --example guest_agent -- VMID`.
//!
//! Shows its addresses and file systems and runs `uname -a`, or the command given as further
//! arguments. On the simulated cluster it starts machine 100, and also writes and reads a file; on
//! a real server nothing is written.

mod common;

use std::time::Duration;

use common::{Outcome, open};
use proxmox_simulator::CommandOutput;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [
            ("name", "web"),
            ("agent", "1"),
            ("scsi0", "local-lvm:8"),
            ("net0", "virtio,bridge=vmbr0"),
        ];
        let failing = CommandOutput::failure(100, "no network\n");
        (builder.time_factor(0.2))
            .qemu(100, "pve1", &settings)
            .guest_command(100, &["apt-get"], failing)
    })
    .await?;
    let mut arguments = std::env::args().skip(1);
    let vmid: u32 = match (arguments.next(), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 100,
        (None, None) => return Err("pass the number of the machine".into()),
    };
    let guest = pve.guest(vmid);
    let agent = guest.agent();
    if simulator.is_some() {
        guest.start().await?.wait().await?;
    }
    agent.wait_until_up(Duration::from_secs(60)).await?;

    for interface in guest.interfaces().await? {
        let addresses: Vec<String> = (interface.addresses.iter())
            .map(ToString::to_string)
            .collect();
        println!("{}: {}", interface.name, addresses.join(", "));
    }
    for system in agent.file_systems().await? {
        let gib = |bytes: Option<u64>| bytes.map_or(0.0, |bytes| bytes as f64 / f64::from(1 << 30));
        let (used, total) = (gib(system.used), gib(system.total));
        println!("{}: {used:.1} of {total:.1} GiB", system.mount_point);
    }
    let mut command: Vec<String> = arguments.collect();
    if command.is_empty() {
        command = vec!["uname".to_owned(), "-a".to_owned()];
    }
    let output = agent.exec(command).timeout(Duration::from_secs(60)).await?;
    print!("{}{}", output.stdout_text(), output.stderr_text());
    println!("exit code {:?}", output.exit_code);

    if simulator.is_some() {
        let motd = "Welcome.\n".repeat(10_000);
        agent.write_file("/etc/motd", motd.as_bytes()).await?;
        let read = agent.read_file("/etc/motd").await?;
        println!("wrote {} bytes and read {}", motd.len(), read.len());
        let update = agent.exec(["apt-get", "update"]).await?;
        println!("{:?}: {}", update.exit_code, update.stderr_text().trim());
    }
    Ok(())
}
