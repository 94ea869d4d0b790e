//! A server in front of a Proxmox VE cluster.
//!
//! It passes the cluster's own API through and adds what programs in other languages lack: work over many guests, events,
//! webhooks, gRPC and one document of everything. It holds no privilege: each call is made with the credentials that its
//! caller sends.
//!
//! [`Gateway::start`] runs one in the program's own process; `docs/gateway.md` says what it serves.

mod app;
mod caller;
mod cluster;
mod config;
mod limits;
mod proxy;
mod refusal;
mod server;
mod v1;

pub use config::{
    Background, ClusterConfig, Config, ConfigError, LimitsConfig, Tls, VclustersConfig,
    WebhooksConfig,
};
pub use server::Gateway;
