//! Opens a container's terminal, and attaches to it with a text that could be passed to another
//! process: `cargo run -p proxmox-api --features console --example console_handover`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_GUEST` is the container.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::stream::console::ConsoleTicket;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        let settings = [("hostname", "dns"), ("rootfs", "local-lvm:2")];
        builder.lxc(201, "pve1", &settings).running(201)
    })
    .await?;
    let vmid: u32 = match (variable("PROXMOX_GUEST"), &simulator) {
        (Some(number), _) => number.parse()?,
        (None, Some(_)) => 201,
        (None, None) => return Err("PROXMOX_GUEST has to be a container's number".into()),
    };
    let console = pve.guest(vmid).console().await?;
    println!("displays: {:?}", console.displays());
    let text = console.open().open_terminal().await?.to_text();

    // From here on only the text and a login are needed.
    let ticket: ConsoleTicket = text.expose().parse()?;
    println!("{ticket:?}");
    let mut terminal = pve.attach_console(ticket).terminal().await?;
    terminal.resize(80, 24).await?;
    terminal.write(b"hostname\n").await?;
    while let Ok(output) = tokio::time::timeout(Duration::from_secs(1), terminal.read()).await {
        match output? {
            Some(output) => print!("{}", String::from_utf8_lossy(&output)),
            None => break,
        }
    }
    println!();
    terminal.close().await?;
    Ok(())
}
