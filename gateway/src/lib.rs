//! A server in front of a Proxmox VE cluster.
//!
//! It passes the cluster's own API through and adds functions for programs in other languages:
//! batches of guests, events, webhooks, gRPC, and one OpenAPI document. It has no privileges: each
//! call is made with its caller's credentials.
//!
//! [`Gateway::start`] runs one in the program's own process; `docs/gateway.md` describes what it
//! serves.

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
mod memory;
mod operation;
mod pages;
mod peer;
mod permissions;
mod permits;
mod proxy;
mod random;
mod refusal;
mod selection;
mod server;
mod store;
mod time;
mod trust;
mod v1;
mod vclusters;
mod webhooks;
mod write_timeout;

pub use config::{
    Background, ClusterConfig, Config, ConfigError, LimitsConfig, Tls, VclustersConfig,
    WebhooksConfig,
};
pub use server::Gateway;
