//! A string cannot be used for a number.

use proxmox_api::pve::Root;

fn main() {
    let config = Root::detached().nodes().node("pve1").qemu().vmid(100).config();
    let _ = config.put().cores("two");
}
