//! The same with proxmox-client 0.9.

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub type Client = proxmox_client::ProxmoxClient;

pub fn connect(url: &str) -> Result<Client> {
    let client = Client::builder(url)
        .api_token("root@pam!bench", "secret")
        .accept_invalid_certs(true)
        .build()?;
    Ok(client)
}

pub async fn version(client: &Client) -> Result<String> {
    Ok(client.version().await?.version.unwrap_or_default())
}

pub async fn nodes(client: &Client) -> Result<Vec<Option<String>>> {
    let nodes = client.list_nodes().await?;
    Ok(nodes.into_iter().map(|node| node.node).collect())
}

pub async fn guests(client: &Client) -> Result<Vec<(Option<i64>, Option<String>)>> {
    let guests = client.list_cluster_resources().await?;
    Ok(guests
        .into_iter()
        .map(|guest| (guest.vmid, guest.name))
        .collect())
}
