//! What becomes of a task has to be asked, or left to itself by name.

#![deny(unused_must_use)]

use proxmox_api::{Client, Error};

async fn stop(pve: Client) -> Result<(), Error> {
    let vm = pve.nodes().node("pve1").qemu().vmid(100);
    vm.status().stop().post().await?;
    Ok(())
}

fn main() {}
