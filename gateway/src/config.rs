//! Settings of the gateway: a TOML file, and options and environment variables, which take
//! precedence.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxmox_api::Secret;
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The settings of a gateway. [`Config::default`] listens on loopback and has no cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Address of the HTTP listener.
    pub listen: SocketAddr,
    /// Address of the gRPC listener; `None` for no gRPC.
    pub grpc: Option<SocketAddr>,
    /// Folder of the embedded store, created with mode 700. Without it, the store is in memory.
    pub data: Option<PathBuf>,
    /// Certificate and key of both listeners. Required unless both are on loopback.
    pub tls: Option<Tls>,
    /// The cluster behind the gateway.
    pub cluster: ClusterConfig,
    /// The API token of the background work: events and webhooks.
    pub background: Option<Background>,
    /// Limits on requests.
    pub limits: LimitsConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// Kubernetes clusters as guests; without it, none can be created.
    pub vclusters: Option<VclustersConfig>,
    /// Address of a Postgres database that several gateways share. It replaces the embedded store.
    #[serde(deserialize_with = "secret")]
    pub postgres: Option<Secret>,
    /// PEM file of an authority to trust for the database, in addition to those of the system.
    pub postgres_ca: Option<PathBuf>,
    /// Addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<String>,
    /// Time for running requests to finish at shutdown, in seconds.
    pub grace_seconds: u64,
    /// Idle timeout of a request's body, in seconds.
    pub body_seconds: u64,
}

/// A certificate with its key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// The connection to the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// Addresses of nodes, `https://pve1:8006`, in the order of preference.
    pub urls: Vec<String>,
    /// SHA-256 fingerprints of the nodes' certificates. If there are any, authorities are ignored.
    pub fingerprints: Vec<String>,
    /// PEM file of an authority to trust, in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Timeout for an answer of the cluster, in seconds.
    pub timeout_seconds: u64,
}

/// The gateway's own login, for background work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// An API token as one text: `user@realm!name=secret`. It needs `Sys.Audit` and `VM.Audit` on `/`.
    #[serde(default, deserialize_with = "secret")]
    pub token: Option<Secret>,
    /// A file that holds the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Interval between polls of the cluster for events, in milliseconds.
    #[serde(default = "default_interval")]
    pub interval_milliseconds: u64,
}

fn default_interval() -> u64 {
    2_000
}

/// Requests that one user, including its tokens, may send in a minute, by class, and concurrent
/// listeners and connections. 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Logins, counted by address.
    pub authentication: u32,
    /// Requests that only read.
    pub read: u32,
    /// Requests that change something.
    pub write: u32,
    /// Actions over many guests.
    pub bulk: u32,
    /// Connections on which one user, including the user's tokens, listens to events.
    pub listeners: u32,
    /// Connections from one address. Those of `trusted_proxies` have no limit.
    pub connections: u32,
}

/// Settings of webhooks.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhooksConfig {
    /// Whether receivers may be in internal networks, and without TLS.
    pub allow_internal: bool,
    /// PEM file of an authority to trust, in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Maximum attempts of a delivery.
    pub attempts: u32,
    /// The pause before the second attempt, in milliseconds; it doubles with each attempt, up to an
    /// hour.
    pub backoff_milliseconds: u64,
    /// Maximum webhooks of one user.
    pub per_user: u32,
}

/// Settings of Kubernetes clusters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VclustersConfig {
    /// Number of the template that is cloned: a virtual machine with Kubernetes and the guest
    /// agent.
    pub template: u32,
    /// Lowest and highest number of clones.
    #[serde(default = "vcluster_ids")]
    pub ids: (u32, u32),
    /// Version of Kubernetes in the template, reported if the request has none.
    pub version: String,
    /// Path of the kubeconfig in the guest.
    #[serde(default = "kubeconfig")]
    pub kubeconfig: String,
    /// Port of the guest's API server.
    #[serde(default = "api_server_port")]
    pub port: u16,
}

fn vcluster_ids() -> (u32, u32) {
    (7_000, 7_999)
}

fn kubeconfig() -> String {
    "/etc/rancher/k3s/k3s.yaml".to_owned()
}

fn api_server_port() -> u16 {
    6_443
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)
        .map_err(|_| de::Error::custom("a secret must be a string"))?;
    Ok(text.map(Secret::from))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8_006)),
            grpc: Some(SocketAddr::from(([127, 0, 0, 1], 8_007))),
            data: None,
            tls: None,
            cluster: ClusterConfig::default(),
            background: None,
            limits: LimitsConfig::default(),
            webhooks: WebhooksConfig::default(),
            vclusters: None,
            postgres: None,
            postgres_ca: None,
            trusted_proxies: Vec::new(),
            grace_seconds: 30,
            body_seconds: 30,
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            fingerprints: Vec::new(),
            ca: None,
            timeout_seconds: 60,
        }
    }
}

impl ClusterConfig {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            authentication: 10,
            read: 1_000,
            write: 100,
            bulk: 10,
            listeners: 256,
            connections: 2_048,
        }
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            allow_internal: false,
            ca: None,
            attempts: 8,
            backoff_milliseconds: 1_000,
            per_user: 32,
        }
    }
}

impl Background {
    /// The token, read from its file if one is set.
    pub(crate) fn secret(&self) -> Result<Secret, ConfigError> {
        match (&self.token, &self.token_file) {
            (Some(token), None) => Ok(token.clone()),
            (None, Some(path)) => read(path).map(|text| Secret::from(text.trim().to_owned())),
            _ => Err(ConfigError::new(
                "background: set either token or token_file, not both",
            )),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("{}: {error}", path.display())))
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is unknown or invalid. The text contains no values.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(&read(path)?).map_err(|error| {
            // The parser's own text quotes the line, which may contain a secret.
            ConfigError(format!("{}: {}", path.display(), error.message()))
        })
    }

    /// Refuses settings that would send secrets over a network without encryption.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for address in [Some(self.listen), self.grpc].into_iter().flatten() {
            if self.tls.is_none() && !address.ip().is_loopback() {
                return Err(ConfigError(format!(
                    "{address} is not on loopback; set a certificate in [tls]"
                )));
            }
        }
        if self.cluster.urls.is_empty() {
            return Err(ConfigError::new("no cluster is configured"));
        }
        Ok(())
    }
}

/// The reason why a gateway cannot start. Contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Background {
    /// A token, with the default interval.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self {
            token: Some(token.into()),
            token_file: None,
            interval_milliseconds: default_interval(),
        }
    }
}

impl VclustersConfig {
    /// A template with a version of Kubernetes, and defaults for the rest.
    #[must_use]
    pub fn new(template: u32, version: impl Into<String>) -> Self {
        Self {
            template,
            ids: vcluster_ids(),
            version: version.into(),
            kubeconfig: kubeconfig(),
            port: api_server_port(),
        }
    }
}

impl From<proxmox_api::Error> for ConfigError {
    fn from(error: proxmox_api::Error) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        let mut config = read("[cluster]\nurls = ['https://pve1']").expect("valid");
        assert_eq!(config.check(), Ok(()));
        config.listen = SocketAddr::from(([0, 0, 0, 0], 8_006));
        assert!(config.check().is_err());
        config.tls = Some(Tls {
            certificate: "cert.pem".into(),
            key: "key.pem".into(),
        });
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn unknown_settings_are_errors_and_secrets_are_not_printed() {
        assert!(read("liste = '127.0.0.1:1'").is_err());
        let config = read(
            "postgres = 'postgres://u:hunter2@db/x'\n[background]\ntoken = 'root@pam!x=hunter2'",
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
