//! The same with this crate.

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub use proxmox_api::Client;

pub fn connect(url: &str) -> Result<Client> {
    let client = Client::builder(url)
        .api_token("root@pam!bench", "secret")
        .danger_accept_invalid_certs(true)
        .rate_limit(proxmox_api::client::limit::RateLimit::none())
        .build()?;
    Ok(client)
}

pub async fn version(client: &Client) -> Result<String> {
    Ok(client.version().get().await?.version)
}

pub async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes = client.nodes().get().await?;
    Ok(nodes.into_iter().map(|node| node.node.into()).collect())
}

pub async fn guests(client: &Client) -> Result<Vec<(Option<u32>, Option<String>)>> {
    let guests = client.cluster().resources().get().await?;
    Ok(guests
        .into_iter()
        .map(|guest| (guest.vmid, guest.name))
        .collect())
}
