//! A program that uses reqwest and no Proxmox crate.

use serde::Deserialize;
use serde::de::DeserializeOwned;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub struct Client {
    http: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Node {
    node: String,
}

#[derive(Deserialize)]
struct Guest {
    vmid: Option<u32>,
    name: Option<String>,
}

pub fn connect(url: &str) -> Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .http1_only()
        .timeout(std::time::Duration::from_secs(60))
        .no_proxy()
        .build()?;
    Ok(Client {
        http,
        url: url.to_owned(),
    })
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    let answer = client
        .http
        .get(format!("{}/api2/json{path}", client.url))
        .header("Authorization", "PVEAPIToken=root@pam!bench=secret")
        .send()
        .await?
        .error_for_status()?;
    let answer: Answer<T> = serde_json::from_slice(&answer.bytes().await?)?;
    Ok(answer.data)
}

pub async fn version(client: &Client) -> Result<String> {
    let version: Version = get(client, "/version").await?;
    Ok(version.version)
}

pub async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes: Vec<Node> = get(client, "/nodes").await?;
    Ok(nodes.into_iter().map(|node| node.node).collect())
}

pub async fn guests(client: &Client) -> Result<Vec<(Option<u32>, Option<String>)>> {
    let guests: Vec<Guest> = get(client, "/cluster/resources").await?;
    Ok(guests
        .into_iter()
        .map(|guest| (guest.vmid, guest.name))
        .collect())
}
