//! Required strings are set by name, in a fixed order.

use proxmox_api::pve::Root;

fn main() {
    let rules = Root::detached().cluster().firewall().rules();
    let _ = rules.post().action("ACCEPT").type_("in");
}
