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
mod connections;
mod counters;
mod docs;
mod documents;
mod events;
pub mod gpve;
mod grpc;
mod json;
mod limits;
mod listener;
mod operation;
mod pages;
mod patient;
mod peer;
mod permissions;
mod places;
mod proxy;
mod random;
mod refusal;
mod room;
mod selection;
mod server;
mod store;
mod time;
mod trust;
mod v1;
mod vclusters;
mod webhooks;

pub use config::{
    Background, ClusterConfig, Config, ConfigError, LimitsConfig, Tls, VclustersConfig,
    WebhooksConfig,
};
pub use server::Gateway;
