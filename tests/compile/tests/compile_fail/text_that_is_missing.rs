//! Nothing is sent before all is there.

use proxmox_api::Client;

async fn make(pve: Client) {
    let rules = pve.cluster().firewall().rules();
    rules.post().type_("in").await;
}

fn main() {}
