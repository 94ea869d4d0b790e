//! Texts that could be mixed up are not arguments.

use proxmox_api::pve::Root;

fn main() {
    let rules = Root::detached().cluster().firewall().rules();
    rules.post("ACCEPT", "in");
}
