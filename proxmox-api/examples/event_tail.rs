//! Prints the events of a cluster: `cargo run -p proxmox-api --example event_tail`.
//!
//! With `PROXMOX_CURSOR` set to a file, it continues from the last run. With `PROXMOX_WEBHOOK` set
//! to a URL and `PROXMOX_WEBHOOK_SECRET` to a secret, it also posts the events there. On the
//! simulated cluster it makes a few changes and ends.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Client;
use proxmox_api::manage::events::{State, Watch};
use proxmox_api::manage::webhook::{Deliverer, Webhook};
use proxmox_simulator::Simulator;

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        builder
            .time_factor(0.0)
            .qemu(100, "pve1", &[("name", "web")])
            .lxc(
                200,
                "pve2",
                &[("hostname", "dns"), ("rootfs", "local-lvm:4")],
            )
    })
    .await?;
    if let Some(simulator) = simulator {
        return play(&simulator, &pve).await;
    }
    let cursor = variable("PROXMOX_CURSOR");
    let mut watch = match cursor.as_deref().map(std::fs::read_to_string) {
        Some(Ok(text)) => {
            let json = serde_json::from_str(&text)?;
            let state = State::from_json(&json).ok_or("the file contains no cursor")?;
            Watch::resume(&pve, state)
        }
        _ => Watch::new(&pve),
    };
    let hook = match variable("PROXMOX_WEBHOOK") {
        Some(url) => {
            let secret =
                variable("PROXMOX_WEBHOOK_SECRET").ok_or("PROXMOX_WEBHOOK_SECRET is missing")?;
            Some((Webhook::new("event_tail", &url, secret)?, Deliverer::new()?))
        }
        None => None,
    };
    loop {
        let event = match watch.next_event().await {
            Ok(event) => event,
            Err(error) if error.is_retryable() => {
                eprintln!("{error}");
                tokio::time::sleep(Duration::from_secs(5)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        println!("{event}");
        if let Some((hook, deliverer)) = &hook
            && let Err(error) = deliverer.deliver(hook, &event).await
        {
            eprintln!("{error}");
        }
        if let (Some(path), Some(state)) = (&cursor, watch.cursor()) {
            keep(Path::new(path), state)?;
        }
    }
}

/// Replaces the file atomically.
fn keep(path: &Path, state: &State) -> Outcome {
    let new = path.with_extension("new");
    std::fs::write(&new, state.to_json().to_string())?;
    std::fs::rename(&new, path)?;
    Ok(())
}

async fn play(simulator: &Simulator, pve: &Client) -> Outcome {
    let mut watch = Watch::new(pve);
    watch.poll().await?;
    let web = pve.guest(100);
    web.start().await?.wait().await?;
    show(&mut watch).await?;
    web.migrate("pve2").await?.wait().await?;
    show(&mut watch).await?;
    let copy = pve.guest(200).clone_to(201).await?;
    copy.started.wait().await?;
    copy.guest.destroy().purge().await?.wait().await?;
    show(&mut watch).await?;
    simulator.set_online("pve2", false);
    show(&mut watch).await?;
    simulator.set_online("pve2", true);
    web.stop().await?.wait().await?;
    show(&mut watch).await
}

async fn show(watch: &mut Watch) -> Outcome {
    for event in watch.poll().await? {
        println!("{event}");
    }
    Ok(())
}
