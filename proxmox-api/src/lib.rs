#![cfg_attr(feature = "full", doc = include_str!("../README.md"))]
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | a call, by its path | [`pve::index`], or the search |
//! | a job, from start to end | [`guide`] |
//! | guests by number: power, settings, snapshots, backups | [`manage::guest`], [`Client::guest`] |
//! | programs and files inside a guest | [`manage::agent`] |
//! | one action over many guests | [`manage::batch`] |
//! | what changes in a cluster, and telling others | [`manage::events`], [`manage::webhook`] |
//! | what there is and where there is room; figures | [`manage::inventory`], [`manage::metrics`] |
//! | uploads, downloads, long lists, consoles | [`stream`] |
//! | programs without a runtime | [`blocking`] |
//! | tests without a server | [`testing`] |
//! | what the server does on the wire | [`guide::wire_protocol`] |
//! | servers, logins, certificates | [`Client::builder`], [`client::auth`], [`tls`] |
//! | operations that continue after the answer | [`task`] |
//! | what went wrong, and whether to try again | [`Error`] |
//! | a request as a value: inspect it, send it later | [`request`], [`pve::Root::detached`] |
//! | answers: what is lenient, what is kept | [`value::decode`] |
//! | texts with several keys, such as `net0` | [`value::property_string`] |
//! | volume ids, users, addresses, sizes | [`value::formats`] |
//! | another way to reach the server, or none in tests | [`transport`] |
//!
//! # Nothing is lost
//!
//! An answer may come from any tracked release, or from one that is newer than this crate. A member
//! that some release may leave out is an [`Option`]. Members that no release declares, and values
//! that do not fit their field, are in `extra`. Enums keep unknown values. Property strings keep
//! unknown keys and write them back. Parameters that this crate does not know can be set with
//! `param`, and any path can be called with [`Client::request`].

#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg, doc_masked))]
// Without all areas, some links between them have no target.
#![cfg_attr(not(feature = "full"), allow(rustdoc::broken_intra_doc_links))]

// Without this, its traits would be on the page of every type.
#[cfg(all(docsrs, feature = "tracing"))]
#[doc(masked)]
extern crate tracing;

/// Items that generated code alone uses, so that they exist where an area of the API does.
macro_rules! if_any_area {
    ($($item:item)*) => {$(
        #[cfg(any(
            feature = "access",
            feature = "cluster",
            feature = "nodes",
            feature = "pools",
            feature = "storage"
        ))]
        $item
    )*};
}

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod bounds;
pub mod client;
pub mod error;
#[cfg(all(any(doc, doctest), feature = "full"))]
pub mod guide;
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
pub use value::{BoxFuture, IndexedMap, List, Pending, Secret};
