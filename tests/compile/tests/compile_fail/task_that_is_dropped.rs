//! A task must be waited for, or detached explicitly.

#![deny(unused_must_use)]

use proxmox_api::{Client, Error};

async fn stop(pve: Client) -> Result<(), Error> {
    let vm = pve.nodes().node("pve1").qemu().vmid(100);
    vm.status().stop().post().await?;
    Ok(())
}

fn main() {}
