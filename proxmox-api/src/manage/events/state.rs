//! The state of a cluster, and the changes between two states.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, json};

use super::change::Change;
use crate::Value;
use crate::manage::guest::Kind;
use crate::value::serialize::record_serde;
use crate::value::upid::Upid;

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
    pub(super) fn is_forgotten(&self, upid: &str, task: &TaskState) -> bool {
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
    pub(super) fn forget(&mut self, listed: &BTreeMap<String, TaskState>) {
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

pub(super) fn node_of(upid: &str) -> Option<String> {
    upid.parse::<Upid>().ok().map(|upid| upid.node().to_owned())
}
