//! Typed bindings for the whole Proxmox VE HTTP API, generated from its official schema.
//!
//! Every endpoint of the [tracked releases](api::RELEASES) is here, in one mechanical shape: each literal
//! segment of a path is a method, each `{placeholder}` a method that takes the value, and the HTTP verb
//! ends the path. That gives a request value; required parameters are its arguments, optional ones are
//! setters, and awaiting it sends it.
//!
//! ```no_run
//! # #[cfg(not(feature = "qemu"))]
//! # fn main() {}
//! # #[cfg(feature = "qemu")]
//! # mod example {
//! use proxmox_api::Client;
//! use proxmox_api::api::qemu::{QemuDrive, QemuNet};
//!
//! # async fn example() -> Result<(), proxmox_api::Error> {
//! let pve = Client::builder("https://pve1.example.org:8006")
//!     .api_token("root@pam!ci", std::env::var("TOKEN_SECRET").unwrap_or_default())
//!     .build()?;
//!
//! for vm in pve.nodes().node("pve1").qemu().get().full(true).await? {
//!     println!("{} {} {}", vm.vmid, vm.status, vm.name.as_deref().unwrap_or("-"));
//! }
//!
//! let task = pve.nodes().node("pve1").qemu().post(101)
//!     .name("web")
//!     .memory(4096)
//!     .cores(2)
//!     .net(0, QemuNet::virtio().bridge("vmbr0").firewall(true))
//!     .scsi(0, QemuDrive::new("local-lvm:32").iothread(true))
//!     .await?;
//! task.wait().on_log(|line| println!("{line}")).await?;
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "qemu")]
//! # fn main() {}
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | a call, by its path | [`api`], one module for each area |
//! | servers, logins, certificates | [`Client::builder`], [`auth`], [`tls`] |
//! | work that goes on after the answer | [`task`] |
//! | what went wrong, and whether to try again | [`Error`] |
//! | a request as a value: inspect it, send it later | [`request`], [`api::Root::detached`] |
//! | answers: what is lenient, what is kept | [`decode`] |
//! | texts with several keys, such as `net0` | [`property_string`] |
//! | volume ids, users, addresses, sizes | [`formats`] |
//! | another way to reach the server, or none in tests | [`transport`] |
//!
//! # Nothing is lost
//!
//! An answer may come from any tracked release, or from one that is newer than this crate. What some
//! release may leave out is an [`Option`]; members that no release declares, and values that do not fit
//! their field, are in `extra`; enums keep values they do not list; property strings write back what
//! they read. Parameters that this crate does not know can be set with `param`, and paths called with
//! [`Client::request`].

#![deny(missing_docs)]

#[rustfmt::skip]
#[path = "generated/mod.rs"]
pub mod api;
#[cfg(feature = "guests")]
pub mod agent;
mod api_error;
pub mod auth;
mod availability;
#[cfg(feature = "guests")]
pub mod batch;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod client;
#[cfg(feature = "console")]
pub mod console;
pub mod decode;
pub mod download;
pub mod encode;
pub mod endpoint;
pub mod envelope;
pub mod error;
#[cfg(feature = "guests")]
pub mod events;
mod family;
pub mod formats;
#[cfg(feature = "guests")]
pub mod guest;
pub mod hosts;
#[cfg(feature = "guests")]
pub mod inventory;
pub mod limit;
pub mod lines;
mod list;
#[cfg(feature = "guests")]
pub mod metrics;
pub mod open_enum;
pub mod paging;
pub mod property_string;
pub mod request;
pub mod retry;
mod secret;
mod support;
pub mod task;
#[cfg(feature = "guests")]
pub mod tasks;
pub mod testing;
pub mod tls;
mod trace;
pub mod transport;
pub mod upid;
pub mod upload;
#[cfg(feature = "guests")]
pub mod webhook;

pub use client::{Client, ClientBuilder};
pub use error::Error;
pub use family::Family;
pub use list::List;
pub use secret::Secret;
pub use serde_json::Value;

// Compiles the examples of the readme.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../README.md")]
pub struct ReadmeDoctests;
