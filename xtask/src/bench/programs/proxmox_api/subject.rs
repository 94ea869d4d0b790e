//! The same with proxmox-api 0.2.

use proxmox_api::ReqwestClient;

type Result<T> = std::result::Result<T, String>;

pub type Client = ReqwestClient;

pub fn connect(url: &str) -> Result<Client> {
    Ok(ReqwestClient::new(url, "root", "pam", None).with_api_token("bench", "secret"))
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

pub async fn version(client: &Client) -> Result<String> {
    let version = proxmox_api::version::VersionClient::new(client.clone());
    Ok(version.get().await.map_err(text)?.version)
}

pub async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes = proxmox_api::nodes::NodesClient::new(client.clone());
    let nodes = nodes.get().await.map_err(text)?;
    Ok(nodes.into_iter().map(|node| node.node).collect())
}

pub async fn guests(client: &Client) -> Result<Vec<(Option<i128>, Option<String>)>> {
    use proxmox_api::types::bounded_integer::BoundedInteger as _;
    let resources =
        proxmox_api::cluster::resources::ResourcesClient::new(client.clone(), "/cluster");
    let guests = resources.get(Default::default()).await.map_err(text)?;
    Ok(guests
        .into_iter()
        .map(|guest| (guest.vmid.map(|vmid| vmid.get()), guest.name))
        .collect())
}
