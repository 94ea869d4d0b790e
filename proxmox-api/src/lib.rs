//! Typed bindings for the whole Proxmox VE HTTP API.

#![deny(missing_docs)]

#[rustfmt::skip]
#[path = "generated/mod.rs"]
pub mod api;
mod api_error;
pub mod auth;
mod availability;
pub mod client;
pub mod decode;
pub mod download;
pub mod encode;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod formats;
#[cfg(feature = "guests")]
pub mod guest;
mod list;
pub mod open_enum;
pub mod paging;
pub mod property_string;
pub mod request;
mod secret;
mod support;
pub mod task;
#[cfg(feature = "guests")]
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transport;
pub mod upload;
pub mod upid;

pub use client::{Client, ClientBuilder};
pub use error::Error;
pub use list::List;
pub use secret::Secret;
pub use serde_json::Value;

// Compiles the examples of the readme.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../README.md")]
pub struct ReadmeDoctests;
