//! A request without all required parameters cannot be sent.

use proxmox_api::Client;

async fn make(pve: Client) {
    let rules = pve.cluster().firewall().rules();
    rules.post().type_("in").await;
}

fn main() {}
