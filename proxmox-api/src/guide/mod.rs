//! Guides: a page for each job, with code that compiles.
//!
//! The documentation cites [`wire_protocol`] as "wire protocol §n".
//! [`pve::index`](crate::pve::index) lists all calls by their path.

#[doc = include_str!("backups.md")]
pub mod backups {}
#[doc = include_str!("cloud_images.md")]
pub mod cloud_images {}
#[doc = include_str!("errors.md")]
pub mod errors {}
#[doc = include_str!("firewall.md")]
pub mod firewall {}
#[doc = include_str!("getting_started.md")]
pub mod getting_started {}
#[doc = include_str!("many_clusters.md")]
pub mod many_clusters {}
#[doc = include_str!("migration.md")]
pub mod migration {}
#[doc = include_str!("tasks.md")]
pub mod tasks {}
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("tls.md")]
pub mod tls {}
#[doc = include_str!("wire_protocol.md")]
pub mod wire_protocol {}
