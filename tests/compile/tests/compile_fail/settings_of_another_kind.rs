//! A container's configuration cannot be used for a virtual machine.

use proxmox_api::pve::Root;
use proxmox_api::pve::lxc::LxcConfig;

fn main() {
    let config = Root::detached().nodes().node("pve1").qemu().vmid(100).config();
    let _ = config.put().settings(&LxcConfig::new());
}
