//! Changes in a cluster, as a stream of typed events.
//!
//! The server has no such stream; [`Watch`] makes one: it polls [`GET
//! /cluster/resources`](crate::pve::cluster::ClusterResourcesGet) and [`GET
//! /cluster/tasks`](crate::pve::cluster::ClusterTasksPath::get) and compares the answers
//! ([`State::changes_to`]). It can be stopped at any event and resumed later from its cursor, the
//! [`State`] after the last event. It then reports all differences since at once.
//!
//! The user sees events of the resources on which it has a privilege, and of its own tasks, or of
//! all tasks with `Sys.Audit`.
//!
//! [`Watch`] is a [`Stream`](futures_core::Stream); [`Watch::next_event`] works without stream
//! traits.
//!
//! Each event is a difference between two polls. A guest that was stopped and started in between
//! shows no difference, but the tasks of both are events.
//!
//! # Names
//!
//! Each kind of event has one name, [`Change::kind`], in its text, in JSON and in webhooks. `guest`
//! stands for virtual machines and containers; `kind` in the data distinguishes them.
//!
//! | name | of |
//! |---|---|
//! | `guest.created`, `guest.removed`, `guest.migrated`, `guest.changed` (name or lock) | guests |
//! | `guest.started`, `guest.stopped`, `guest.paused`, `guest.status.changed` (any other status) | guests |
//! | `node.online`, `node.offline`, `node.status.changed`, `node.removed` | nodes |
//! | `storage.available`, `storage.status.changed`, `storage.removed` | storages |
//! | `task.started`, `task.ended`, `task.failed` | tasks |
//!
//! # What is known, and what is not
//!
//! Only known changes are reported, and none twice:
//!
//! * While a node is offline, or does not report (`unknown`), its guests and storages keep their
//!   last known state. Such a node causes `node.offline` and `node.online` only.
//! * A resource that is missing from the server's list was removed, or this user may not see it any
//!   more. The watch then asks the server: for a guest, whether its number is free; for a node, the
//!   list of nodes; for a storage, its configuration. If that does not decide it, the resource
//!   keeps its last known state, and later polls ask again.
//! * A task that disappeared from the server's list is not reported again when it is listed once
//!   more. A running task that disappeared is looked up on its node; if the node does not know it
//!   either, it has ended with the status `unknown`.
//!
//! A poll costs [`GET /cluster/tasks`](crate::pve::cluster::ClusterTasksPath::get), [`GET
//! /cluster/resources`](crate::pve::cluster::ClusterResourcesGet) and at most one round of further
//! calls, a few at a time, which takes some seconds at most even if nodes are offline. Open
//! questions are asked again at the next poll.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::manage::events::{Change, Watch};
//!
//! let mut watch = Watch::new(&pve);
//! loop {
//!     let event = watch.next_event().await?;
//!     if let Change::NodeStatus { node, new, .. } = &event.change {
//!         println!("{node} is {new}");
//!     }
//! }
//! # }
//! ```

mod change;
mod event;
mod state;
mod time;
mod watch;

pub use change::Change;
pub use event::Event;
pub use state::{GuestState, State, TaskState};
pub(crate) use time::unix_now;
pub use time::utc;
pub use watch::Watch;

#[cfg(test)]
mod tests;
