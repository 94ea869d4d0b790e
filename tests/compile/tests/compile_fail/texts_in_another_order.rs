//! Each text is given by its name, in one order.

use proxmox_api::pve::Root;

fn main() {
    let rules = Root::detached().cluster().firewall().rules();
    let _ = rules.post().action("ACCEPT").type_("in");
}
