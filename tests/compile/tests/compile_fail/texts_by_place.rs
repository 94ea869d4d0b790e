//! Several strings cannot be passed by position.

use proxmox_api::pve::Root;

fn main() {
    let rules = Root::detached().cluster().firewall().rules();
    rules.post("ACCEPT", "in");
}
