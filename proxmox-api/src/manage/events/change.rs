//! A difference between two states.

use serde_json::json;

use super::state::GuestState;
use crate::Value;
use crate::manage::guest::Kind;
use crate::value::upid::Upid;

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

impl Change {
    /// Reads the output of [`Change::kind`] and [`Change::data`], with the further members of the
    /// serialised form.
    pub(super) fn read(kind: &str, data: &Value) -> Option<Self> {
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
    pub(super) fn about(&self) -> String {
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

    pub(super) fn is_of_task(&self) -> bool {
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
pub(super) const UNKNOWN: &str = "unknown";
