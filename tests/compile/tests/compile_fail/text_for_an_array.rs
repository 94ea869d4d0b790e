//! A program and its arguments are an array, not one string.

use proxmox_api::pve::Root;

fn main() {
    let agent = Root::detached().nodes().node("pve1").qemu().vmid(100).agent();
    let _ = agent.exec().post().command("ls -l");
}
