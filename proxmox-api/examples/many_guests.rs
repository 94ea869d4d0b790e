//! Many handles on a large cluster, and the number of requests for its list: `cargo run -p
//! proxmox-api --example many_guests`.

mod common;

use common::{Outcome, open};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| builder.many_guests(2000)).await?;
    let guests = pve.listed_guests().await?;
    let running = guests.iter().filter(|guest| guest.is_running()).count();
    println!("{} guests, {running} of them run", guests.len());
    for listed in guests.iter().take(5) {
        // Each handle gets its location from the shared list.
        let status = pve.guest(listed.vmid).status().await?;
        let name = listed.name.as_deref().unwrap_or("-");
        println!(
            "{} {name} on {}: {:?}",
            listed.vmid, listed.location.node, status.state
        );
    }
    if let Some(simulator) = &simulator {
        let lists = simulator.requests().into_iter();
        let lists = lists.filter(|request| request.path == "/cluster/resources");
        println!("the list was read {} time(s)", lists.count());
    }
    Ok(())
}
