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

mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::Value;
use crate::manage::guest::Kind;
use crate::value::serialize::record_serde;
use crate::value::upid::Upid;

pub use watch::Watch;

/// A guest as the events know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestState {
    /// Its kind.
    pub kind: Kind,
    /// The node it belongs to.
    pub node: String,
    /// Its name; empty if it has none or the node has not reported it lately.
    pub name: String,
    /// The status from the server: `running`, `stopped`, `paused`, `unknown`.
    pub status: String,
    /// The operation that locks it; empty for none.
    pub lock: String,
}

record_serde!(GuestState {
    kind,
    node,
    name,
    status,
    lock,
});

/// A task as the events know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskState {
    /// When it started, in seconds since 1970, by its node's clock.
    pub started: u64,
    /// The exit status from the server; `None` while it runs.
    pub ended: Option<String>,
}

record_serde!(TaskState { started, ended });

/// The state of everything that has events, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Guests by number.
    pub guests: BTreeMap<u32, GuestState>,
    /// Status of nodes by name: `online`, `offline`, `unknown`.
    pub nodes: BTreeMap<String, String>,
    /// Status of storages by node and name: `available`, `unknown`, …
    pub storages: BTreeMap<(String, String), String>,
    /// Tasks by identifier, running ones and those that ended lately.
    pub tasks: BTreeMap<String, TaskState>,
    /// Nodes whose tasks are not all known, because they could not be asked, and since when
    /// (seconds since 1970, by the node's clock). They are asked again.
    pub unread: BTreeMap<String, u64>,
    /// By node, the start of the newest forgotten task. Tasks that started before it are not
    /// reported again.
    pub forgotten: BTreeMap<String, u64>,
    /// The time of the first poll, in seconds since 1970, by this machine's clock; 0 before it.
    pub origin: u64,
    /// The number of reported changes of each guest, node or storage.
    pub reported: BTreeMap<String, u64>,
}

/// One difference between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new guest.
    GuestCreated {
        /// Its number.
        vmid: u32,
        /// Its state.
        guest: GuestState,
    },
    /// A guest was removed.
    GuestRemoved {
        /// Its number.
        vmid: u32,
        /// Its last state.
        guest: GuestState,
    },
    /// A guest changed its status.
    GuestStatus {
        /// Its number.
        vmid: u32,
        /// Its state now.
        guest: GuestState,
        /// Its status before.
        old: String,
    },
    /// A guest moved to another node.
    GuestMigrated {
        /// Its number.
        vmid: u32,
        /// Its state now.
        guest: GuestState,
        /// Its node before.
        from: String,
    },
    /// A guest's name or lock changed.
    GuestChanged {
        /// Its number.
        vmid: u32,
        /// Its state now.
        guest: GuestState,
    },
    /// A node changed its status, or is new.
    NodeStatus {
        /// The node.
        node: String,
        /// Its status before; `None` if it is new.
        old: Option<String>,
        /// Its status now.
        new: String,
    },
    /// A node left the cluster.
    NodeRemoved {
        /// The node.
        node: String,
    },
    /// A storage changed its status on a node, or is new there.
    StorageStatus {
        /// The node.
        node: String,
        /// The storage.
        storage: String,
        /// Its status before; `None` if it is new.
        old: Option<String>,
        /// Its status now.
        new: String,
    },
    /// A storage was removed from a node.
    StorageRemoved {
        /// The node.
        node: String,
        /// The storage.
        storage: String,
    },
    /// A task started.
    TaskStarted {
        /// Its identifier.
        upid: String,
        /// The time, in seconds since 1970, by its node's clock.
        started: u64,
    },
    /// A task ended.
    TaskEnded {
        /// Its identifier.
        upid: String,
        /// Its exit status from the server: `OK`, `WARNINGS: 2` or the error's text.
        status: String,
    },
}

impl State {
    /// The changes from this state to another. Nodes come first, then storages, started tasks,
    /// guests, and ended tasks, so that the effects of a task are between its start and its end.
    ///
    /// Tasks that are missing from `now` are ignored: the server forgets them in time. A guest
    /// whose status becomes known has changed, and was not started or stopped.
    #[must_use]
    #[inline]
    pub fn changes_to(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (node, new) in &now.nodes {
            let old = self.nodes.get(node);
            if old != Some(new) {
                changes.push(Change::NodeStatus {
                    node: node.clone(),
                    old: old.cloned(),
                    new: new.clone(),
                });
            }
        }
        for ((node, storage), new) in &now.storages {
            let old = self.storages.get(&(node.clone(), storage.clone()));
            if old != Some(new) {
                changes.push(Change::StorageStatus {
                    node: node.clone(),
                    storage: storage.clone(),
                    old: old.cloned(),
                    new: new.clone(),
                });
            }
        }
        let mut started: Vec<(&String, &TaskState)> = (now.tasks.iter())
            .filter(|(upid, task)| {
                !self.tasks.contains_key(*upid) && !self.is_forgotten(upid, task)
            })
            .collect();
        started.sort_by_key(|(upid, task)| (task.started, *upid));
        for (upid, task) in started {
            changes.push(Change::TaskStarted {
                upid: upid.clone(),
                started: task.started,
            });
        }
        self.guest_changes(now, &mut changes);
        for (upid, task) in &now.tasks {
            let before = self.tasks.get(upid).and_then(|task| task.ended.as_ref());
            if !self.tasks.contains_key(upid) && self.is_forgotten(upid, task) {
                continue;
            }
            if let (None, Some(status)) = (before, &task.ended) {
                changes.push(Change::TaskEnded {
                    upid: upid.clone(),
                    status: status.clone(),
                });
            }
        }
        for (node, storage) in self.storages.keys() {
            if !now.storages.contains_key(&(node.clone(), storage.clone())) {
                changes.push(Change::StorageRemoved {
                    node: node.clone(),
                    storage: storage.clone(),
                });
            }
        }
        for node in self
            .nodes
            .keys()
            .filter(|node| !now.nodes.contains_key(*node))
        {
            changes.push(Change::NodeRemoved { node: node.clone() });
        }
        changes
    }

    #[inline]
    fn guest_changes(&self, now: &Self, changes: &mut Vec<Change>) {
        for (vmid, guest) in &self.guests {
            // A number with a guest of another kind belongs to another guest.
            if (now.guests.get(vmid)).is_none_or(|new| new.kind != guest.kind) {
                changes.push(Change::GuestRemoved {
                    vmid: *vmid,
                    guest: guest.clone(),
                });
            }
        }
        for (vmid, guest) in &now.guests {
            let (vmid, guest) = (*vmid, guest.clone());
            let Some(old) = self.guests.get(&vmid).filter(|old| old.kind == guest.kind) else {
                changes.push(Change::GuestCreated { vmid, guest });
                continue;
            };
            if old.node != guest.node {
                changes.push(Change::GuestMigrated {
                    vmid,
                    guest: guest.clone(),
                    from: old.node.clone(),
                });
            }
            let was_known = old.status != "unknown";
            if old.status != guest.status && was_known {
                changes.push(Change::GuestStatus {
                    vmid,
                    guest: guest.clone(),
                    old: old.status.clone(),
                });
            }
            let became_known = old.status != guest.status && !was_known;
            if became_known || (&old.name, &old.lock) != (&guest.name, &guest.lock) {
                changes.push(Change::GuestChanged { vmid, guest });
            }
        }
    }

    /// Whether a task was reported before, and forgotten since.
    fn is_forgotten(&self, upid: &str, task: &TaskState) -> bool {
        let horizon = node_of(upid).and_then(|node| self.forgotten.get(&node).copied());
        horizon.is_some_and(|horizon| task.started < horizon)
    }

    /// Keeps the known state of everything that the server does not know at the moment.
    #[inline]
    pub(crate) fn keep_known(&mut self, known: &Self) {
        for (node, status) in &mut self.nodes {
            if status == "unknown"
                && let Some(before) = known.nodes.get(node)
            {
                status.clone_from(before);
            }
        }
        for (key, status) in &mut self.storages {
            if status == "unknown"
                && let Some(before) = known.storages.get(key)
            {
                status.clone_from(before);
            }
        }
        for (vmid, guest) in &mut self.guests {
            if let Some(before) = (known.guests.get(vmid)).filter(|old| old.kind == guest.kind)
                && guest.status == "unknown"
            {
                guest.status.clone_from(&before.status);
                guest.lock.clone_from(&before.lock);
                if guest.name.is_empty() {
                    guest.name.clone_from(&before.name);
                }
            }
        }
    }

    /// Applies a change to this state.
    #[inline]
    pub fn apply(&mut self, change: &Change) {
        if !change.is_of_task() {
            *self.reported.entry(change.about()).or_default() += 1;
        }
        match change {
            Change::GuestRemoved { vmid, .. } => {
                self.guests.remove(vmid);
            }
            Change::GuestCreated { vmid, guest }
            | Change::GuestStatus { vmid, guest, .. }
            | Change::GuestMigrated { vmid, guest, .. }
            | Change::GuestChanged { vmid, guest } => {
                self.guests.insert(*vmid, guest.clone());
            }
            Change::NodeStatus { node, new, .. } => {
                self.nodes.insert(node.clone(), new.clone());
            }
            Change::NodeRemoved { node } => {
                self.nodes.remove(node);
            }
            Change::StorageStatus {
                node, storage, new, ..
            } => {
                self.storages
                    .insert((node.clone(), storage.clone()), new.clone());
            }
            Change::StorageRemoved { node, storage } => {
                self.storages.remove(&(node.clone(), storage.clone()));
            }
            Change::TaskStarted { upid, started } => {
                let task = TaskState {
                    started: *started,
                    ended: None,
                };
                self.tasks.insert(upid.clone(), task);
            }
            Change::TaskEnded { upid, status } => {
                if let Some(task) = self.tasks.get_mut(upid) {
                    task.ended = Some(status.clone());
                }
            }
        }
    }

    /// Forgets ended tasks that disappeared from the server's list, if it has newer ones of their
    /// node. A node without listed tasks may be offline. Tasks of a node's unread list are still
    /// compared with the known ones.
    #[inline]
    fn forget(&mut self, listed: &BTreeMap<String, TaskState>) {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for (upid, task) in listed {
            if let Some(node) = node_of(upid) {
                let newest = newest.entry(node).or_default();
                *newest = task.started.max(*newest);
            }
        }
        let unread = &self.unread;
        let mut dropped: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
        for (upid, task) in &self.tasks {
            let Some(node) = node_of(upid).filter(|_| task.ended.is_some()) else {
                continue;
            };
            let to_be_read = unread
                .get(&node)
                .is_some_and(|since| task.started >= *since);
            let passed = newest
                .get(&node)
                .is_some_and(|newest| task.started < *newest);
            if passed && !to_be_read && !listed.contains_key(upid) {
                let dropped = dropped.entry(node).or_default();
                dropped.push((upid.clone(), task.started));
            }
        }
        for (node, dropped) in dropped {
            let last = dropped
                .iter()
                .map(|(_, started)| *started)
                .max()
                .unwrap_or(0);
            let horizon = self.forgotten.entry(node).or_default();
            *horizon = last.max(*horizon);
            // Others that started in the same second may not have been seen.
            let before = dropped
                .into_iter()
                .filter(|(_, started)| *started < *horizon);
            for (upid, _) in before {
                self.tasks.remove(&upid);
            }
        }
    }

    /// The state as JSON, for [`State::from_json`].
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        let guests: Map<String, Value> = (self.guests.iter())
            .map(|(vmid, guest)| {
                let row = json!({
                    "kind": guest.kind.as_str(), "node": guest.node, "name": guest.name,
                    "status": guest.status, "lock": guest.lock,
                });
                (vmid.to_string(), row)
            })
            .collect();
        let storages: Vec<Value> = (self.storages.iter())
            .map(|((node, storage), status)| json!([node, storage, status]))
            .collect();
        let tasks: Map<String, Value> = (self.tasks.iter())
            .map(|(upid, task)| (upid.clone(), json!([task.started, task.ended])))
            .collect();
        json!({
            "version": 2, "guests": guests, "nodes": self.nodes, "storages": storages, "tasks": tasks,
            "unread": self.unread, "forgotten": self.forgotten, "origin": self.origin, "reported": self.reported,
        })
    }

    /// Reads the output of [`State::to_json`]; `None` for anything else.
    #[must_use]
    #[inline]
    pub fn from_json(json: &Value) -> Option<Self> {
        if json.get("version")?.as_u64()? != 2 {
            return None;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut state = Self::default();
        for (vmid, row) in json.get("guests")?.as_object()? {
            let guest = GuestState {
                kind: Kind::read(row.get("kind")?.as_str()?)?,
                node: text(row.get("node")?)?,
                name: text(row.get("name")?)?,
                status: text(row.get("status")?)?,
                lock: text(row.get("lock")?)?,
            };
            state.guests.insert(vmid.parse().ok()?, guest);
        }
        for (node, status) in json.get("nodes")?.as_object()? {
            state.nodes.insert(node.clone(), text(status)?);
        }
        for row in json.get("storages")?.as_array()? {
            let key = (text(row.get(0)?)?, text(row.get(1)?)?);
            state.storages.insert(key, text(row.get(2)?)?);
        }
        for (upid, row) in json.get("tasks")?.as_object()? {
            let task = TaskState {
                started: row.get(0)?.as_u64()?,
                ended: row.get(1).and_then(text),
            };
            state.tasks.insert(upid.clone(), task);
        }
        let numbers = |name: &str| -> Option<BTreeMap<String, u64>> {
            let members = json.get(name)?.as_object()?.iter();
            members
                .map(|(key, number)| Some((key.clone(), number.as_u64()?)))
                .collect()
        };
        state.unread = numbers("unread")?;
        state.forgotten = numbers("forgotten")?;
        state.origin = json.get("origin")?.as_u64()?;
        state.reported = numbers("reported")?;
        Some(state)
    }
}

/// Like [`State::to_json`].
impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::from_json(&json).ok_or_else(|| D::Error::custom("this is not the state of a watch"))
    }
}

/// Like [`Event::to_json`], with further members for reading it back.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = self.to_json();
        json["time"] = self.time.into();
        json["occurrence"] = json!([self.occurrence.0, self.occurrence.1]);
        let besides = match &self.change {
            Change::GuestCreated { guest, .. }
            | Change::GuestRemoved { guest, .. }
            | Change::GuestStatus { guest, .. }
            | Change::GuestMigrated { guest, .. }
            | Change::GuestChanged { guest, .. } => Some(("lock", guest.lock.as_str().into())),
            Change::TaskStarted { started, .. } => Some(("started", (*started).into())),
            _ => None,
        };
        if let Some((name, value)) = besides {
            json["data"][name] = value;
        }
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::read(&json).ok_or_else(|| D::Error::custom("this is not an event"))
    }
}

impl Event {
    fn read(json: &Value) -> Option<Self> {
        let count = |place: usize| json.get("occurrence")?.get(place)?.as_u64();
        Some(Self {
            time: json.get("time")?.as_u64()?,
            change: Change::read(json.get("type")?.as_str()?, json.get("data")?)?,
            occurrence: (count(0)?, count(1)?),
        })
    }
}

impl Change {
    /// Reads the output of [`Change::kind`] and [`Change::data`], with the further members of the
    /// serialised form.
    fn read(kind: &str, data: &Value) -> Option<Self> {
        let text = |name: &str| data.get(name)?.as_str().map(str::to_owned);
        if let Some(what) = kind.strip_prefix("guest.") {
            let vmid = data.get("vmid")?.as_u64()?.try_into().ok()?;
            let guest = GuestState {
                kind: Kind::read(data.get("kind")?.as_str()?)?,
                node: text("node")?,
                name: text("name")?,
                status: text("status")?,
                lock: text("lock")?,
            };
            return Some(match what {
                "created" => Self::GuestCreated { vmid, guest },
                "removed" => Self::GuestRemoved { vmid, guest },
                "changed" => Self::GuestChanged { vmid, guest },
                "migrated" => Self::GuestMigrated {
                    from: text("old_node")?,
                    vmid,
                    guest,
                },
                _ => Self::GuestStatus {
                    old: text("old_status")?,
                    vmid,
                    guest,
                },
            });
        }
        let (node, storage, upid) = (text("node"), text("storage"), text("upid"));
        let (old, new) = (text("old_status"), text("new_status"));
        Some(match kind {
            "node.removed" => Self::NodeRemoved { node: node? },
            "storage.removed" => Self::StorageRemoved {
                node: node?,
                storage: storage?,
            },
            "task.started" => Self::TaskStarted {
                upid: upid?,
                started: data.get("started")?.as_u64()?,
            },
            _ if kind.starts_with("node.") => Self::NodeStatus {
                node: node?,
                old,
                new: new?,
            },
            _ if kind.starts_with("storage.") => Self::StorageStatus {
                node: node?,
                storage: storage?,
                old,
                new: new?,
            },
            _ if kind.starts_with("task.") => Self::TaskEnded {
                upid: upid?,
                status: text("status")?,
            },
            _ => return None,
        })
    }

    /// The name of the kind of change, as `guest.started` or `node.offline`; see the module.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::GuestCreated { .. } => "guest.created",
            Self::GuestRemoved { .. } => "guest.removed",
            Self::GuestStatus { guest, .. } => match guest.status.as_str() {
                "running" => "guest.started",
                "stopped" => "guest.stopped",
                "paused" => "guest.paused",
                _ => "guest.status.changed",
            },
            Self::GuestMigrated { .. } => "guest.migrated",
            Self::GuestChanged { .. } => "guest.changed",
            Self::NodeStatus { new, .. } => match new.as_str() {
                "online" => "node.online",
                "offline" => "node.offline",
                _ => "node.status.changed",
            },
            Self::NodeRemoved { .. } => "node.removed",
            Self::StorageStatus { new, .. } => match new.as_str() {
                "available" => "storage.available",
                _ => "storage.status.changed",
            },
            Self::StorageRemoved { .. } => "storage.removed",
            Self::TaskStarted { .. } => "task.started",
            Self::TaskEnded { status, .. } => match status.as_str() {
                "OK" | UNKNOWN => "task.ended",
                warnings if warnings.starts_with("WARNINGS:") => "task.ended",
                _ => "task.failed",
            },
        }
    }

    /// The subject: a guest, a node, a storage on a node, or a task.
    fn about(&self) -> String {
        match self {
            Self::GuestCreated { vmid, .. }
            | Self::GuestRemoved { vmid, .. }
            | Self::GuestStatus { vmid, .. }
            | Self::GuestMigrated { vmid, .. }
            | Self::GuestChanged { vmid, .. } => format!("guest/{vmid}"),
            Self::NodeStatus { node, .. } | Self::NodeRemoved { node } => format!("node/{node}"),
            Self::StorageStatus { node, storage, .. } | Self::StorageRemoved { node, storage } => {
                format!("storage/{node}/{storage}")
            }
            Self::TaskStarted { upid, .. } | Self::TaskEnded { upid, .. } => upid.clone(),
        }
    }

    fn is_of_task(&self) -> bool {
        matches!(self, Self::TaskStarted { .. } | Self::TaskEnded { .. })
    }

    /// The details, as JSON.
    #[must_use]
    #[inline]
    pub fn data(&self) -> Value {
        let of_guest = |vmid: &u32, guest: &GuestState| {
            json!({
                "vmid": vmid, "kind": guest.kind.as_str(), "name": guest.name, "node": guest.node,
                "status": guest.status,
            })
        };
        match self {
            Self::GuestCreated { vmid, guest } | Self::GuestRemoved { vmid, guest } => {
                of_guest(vmid, guest)
            }
            Self::GuestStatus { vmid, guest, old } => {
                let mut data = of_guest(vmid, guest);
                data["old_status"] = old.as_str().into();
                data["new_status"] = guest.status.as_str().into();
                data
            }
            Self::GuestMigrated { vmid, guest, from } => {
                let mut data = of_guest(vmid, guest);
                data["old_node"] = from.as_str().into();
                data["new_node"] = guest.node.as_str().into();
                data
            }
            Self::GuestChanged { vmid, guest } => {
                let mut data = of_guest(vmid, guest);
                data["lock"] = guest.lock.as_str().into();
                data
            }
            Self::NodeStatus { node, old, new } => {
                json!({ "node": node, "old_status": old, "new_status": new })
            }
            Self::NodeRemoved { node } => json!({ "node": node }),
            Self::StorageStatus {
                node,
                storage,
                old,
                new,
            } => json!({ "node": node, "storage": storage, "old_status": old, "new_status": new }),
            Self::StorageRemoved { node, storage } => json!({ "node": node, "storage": storage }),
            Self::TaskStarted { upid, .. } => task_data(upid),
            Self::TaskEnded { upid, status } => {
                let mut data = task_data(upid);
                data["status"] = status.as_str().into();
                data
            }
        }
    }
}

#[inline]
fn task_data(upid: &str) -> Value {
    let mut data = json!({ "upid": upid });
    if let Ok(parsed) = upid.parse::<Upid>() {
        data["node"] = parsed.node().into();
        data["task_type"] = parsed.task_type().into();
        data["id"] = parsed.id().into();
        data["user"] = parsed.user().into();
    }
    data
}

/// The end of a task whose outcome is unknown.
const UNKNOWN: &str = "unknown";

/// A change, and the time at which it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The time at which it was seen, in seconds since 1970, by this machine's clock.
    pub time: u64,
    /// The change.
    pub change: Change,
    /// The start of the watch, and the number of this change of the same object.
    occurrence: (u64, u64),
}

impl Event {
    /// A change that was seen at a time, in seconds since 1970.
    #[must_use]
    pub fn new(time: u64, change: Change) -> Self {
        Self {
            time,
            change,
            occurrence: (0, 0),
        }
    }

    /// The next change of its subject, after those in this state.
    fn after(state: &State, time: u64, change: Change) -> Self {
        // The identifier of a task is unique, so all watches use the same one.
        let occurrence = match change.is_of_task() {
            true => (0, 0),
            false => {
                let reported = state.reported.get(&change.about());
                (state.origin, reported.copied().unwrap_or(0) + 1)
            }
        };
        Self {
            time,
            change,
            occurrence,
        }
    }

    /// An identifier made from the content of the event, and not from the time at which it was
    /// seen: a resumed watch that reports an event again gives it the same identifier. Events of
    /// tasks have the same identifier in all watches; other events of different watches have
    /// different ones.
    #[must_use]
    #[inline]
    pub fn id(&self) -> String {
        let (origin, count) = self.occurrence;
        let (kind, data) = (self.change.kind(), self.change.data());
        let text = format!("{origin} {count} {kind} {data}");
        let hash = Sha256::digest(text.as_bytes());
        let digits: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("evt-{digits}")
    }

    /// `{"type":"guest.started","timestamp":"2026-01-15T10:00:00Z","data":{…}}`.
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        json!({
            "type": self.change.kind(),
            "timestamp": utc(self.time),
            "data": self.change.data(),
        })
    }
}

/// One line of text.
impl fmt::Display for Event {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.change.data();
        write!(f, "{} {}", utc(self.time), self.change.kind())?;
        for (key, value) in data.as_object().into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::String(text) => write!(f, " {key}={}", text.escape_debug())?,
                other => write!(f, " {key}={other}")?,
            }
        }
        Ok(())
    }
}

/// A time as `2026-01-15T10:00:00Z`.
#[inline]
#[must_use]
pub fn utc(seconds: u64) -> String {
    // Years are counted from March, so that the leap day is the last one.
    let day = seconds / 86_400 + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year + era * 400, month + 3),
        _ => (year + era * 400 + 1, month - 9),
    };
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

pub(crate) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn node_of(upid: &str) -> Option<String> {
    upid.parse::<Upid>().ok().map(|upid| upid.node().to_owned())
}

#[cfg(test)]
mod tests;
