//! Typed bindings for the whole Proxmox VE HTTP API, generated from its official schema.
//!
//! Every endpoint of the [tracked releases](pve::RELEASES) is here, in one mechanical shape: each literal
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
//! use proxmox_api::pve::qemu::{QemuDrive, QemuNet};
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
//! | a call, by its path | [`pve`], one module for each area |
//! | servers, logins, certificates | [`Client::builder`], [`client::auth`], [`tls`] |
//! | work that goes on after the answer | [`task`] |
//! | what went wrong, and whether to try again | [`Error`] |
//! | a request as a value: inspect it, send it later | [`request`], [`pve::Root::detached`] |
//! | answers: what is lenient, what is kept | [`value::decode`] |
//! | texts with several keys, such as `net0` | [`value::property_string`] |
//! | volume ids, users, addresses, sizes | [`value::formats`] |
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

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod bounds;
pub mod client;
pub mod error;
#[cfg(feature = "guests")]
pub mod manage;
#[rustfmt::skip]
pub mod pve;
pub mod request;
pub mod stream;
mod support;
pub mod task;
pub mod testing;
pub mod tls;
pub mod transport;
pub mod value;

pub use client::{Client, ClientBuilder};
pub use error::Error;
#[doc(no_inline)]
pub use serde_json::Value;
pub use value::{IndexedMap, List, Pending, Secret};

// Compiles the examples of the readme.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../README.md")]
pub struct ReadmeDoctests;
