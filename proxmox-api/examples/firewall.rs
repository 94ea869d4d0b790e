//! Firewall rules by content, and a virtual network: `cargo run -p proxmox-api --example firewall`.
//!
//! Works on a simulated cluster only, even if `PROXMOX_HOST` is set, because it replaces all rules
//! of the cluster.

mod common;

use proxmox_api::Client;
use proxmox_api::manage::firewall::{IpSet, Rule, Rules, Scope};
use proxmox_api::manage::sdn::Network;
use proxmox_simulator::{TOKEN_ID, TOKEN_SECRET};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulator = common::cluster().start().await?;
    let pve = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse()?)
        .build()?;
    let office = IpSet::of(Scope::Cluster, "office").member("192.0.2.0/24");
    println!("set: {:?}", pve.carry_out(office).await?);
    let ssh = Rule::accept_in().port("tcp", 22).from("+office");
    let web = Rule::accept_in().port("tcp", "80,443");
    let all = Rules::exactly(Scope::Cluster, [ssh.clone(), web.clone()]);
    println!("{} changes", pve.carry_out(all).await?);
    let change = Rules::of(Scope::Cluster)
        .first(web)
        .last(Rule::drop_in().comment("everything else"))
        .without(Rule::accept_in().service("Telnet"));
    for change in change.plan(&pve).await? {
        println!("  {change}");
    }
    println!("{} changes", pve.carry_out(change.clone()).await?);
    println!("{} changes", pve.carry_out(change).await?);

    let lab = Network::new()
        .zone("lab", "simple", [])
        .vnet("labnet", "lab", [("alias", "the lab")])
        .subnet("labnet", "10.20.0.0/24", [("gateway", "10.20.0.1")]);
    for _ in 0..2 {
        let operation = pve.carry_out(lab.clone());
        let changes = operation.on_step(|step| println!("  {step}")).await?;
        println!("{changes} changes of the network are active");
    }
    Ok(())
}
