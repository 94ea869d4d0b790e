//! The same with pve 0.1, which leaves HTTP to its user.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

impl Client {
    async fn exchange<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let answer = request
            .header("Authorization", "PVEAPIToken=root@pam!bench=secret")
            .send()
            .await?
            .error_for_status()?;
        let answer: Answer<T> = serde_json::from_slice(&answer.bytes().await?)?;
        Ok(answer.data)
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/api2/json/{path}", self.url);
        self.http.request(method, url)
    }
}

impl pve::client::AsyncHttpClient for Client {
    type Error = Error;

    #[allow(clippy::manual_async_fn)]
    fn get<Q, R>(&self, path: &str, _query: &Q) -> impl Future<Output = Result<R>> + Send
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        let request = self.request(reqwest::Method::GET, path);
        async move { self.exchange(request).await }
    }

    fn post<B, R>(&self, path: &str, _body: &B) -> impl Future<Output = Result<R>> + Send
    where
        B: Serialize,
        R: DeserializeOwned,
    {
        let request = self.request(reqwest::Method::POST, path);
        async move { self.exchange(request).await }
    }

    fn put<B, R>(&self, path: &str, _body: &B) -> impl Future<Output = Result<R>> + Send
    where
        B: Serialize,
        R: DeserializeOwned,
    {
        let request = self.request(reqwest::Method::PUT, path);
        async move { self.exchange(request).await }
    }

    fn delete<B, R>(&self, path: &str, _body: &B) -> impl Future<Output = Result<R>> + Send
    where
        B: Serialize,
        R: DeserializeOwned,
    {
        let request = self.request(reqwest::Method::DELETE, path);
        async move { self.exchange(request).await }
    }
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

pub async fn version(client: &Client) -> Result<String> {
    let version = pve::version::AsyncVersionClient::new(client.clone());
    Ok(version.get().await?.version)
}

pub async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes = pve::nodes::AsyncNodesClient::new(client.clone());
    let nodes = nodes.get().await?;
    Ok(nodes.into_iter().map(|node| node.node).collect())
}

pub async fn guests(client: &Client) -> Result<Vec<(Option<u64>, Option<String>)>> {
    let resources = pve::cluster::resources::AsyncResourcesClient::new(client.clone(), "cluster");
    let guests = resources.get(Default::default()).await?;
    Ok(guests
        .into_iter()
        .map(|guest| (guest.vmid, guest.name))
        .collect())
}
