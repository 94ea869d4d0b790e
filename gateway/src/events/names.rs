//! The names of events in this API, and their data.
//!
//! The crate calls virtual machines and containers guests; event names begin with `vm` for both,
//! and `kind` in the data distinguishes them. A change of status gives two events:
//! `vm.status.changed` and one named for the new status.

use proxmox_api::Value;
use proxmox_api::manage::events::{Change, Event};
use proxmox_api::value::upid::Upid;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Subject;
use crate::store::NewEvent;

/// All names.
const NAMES: [&str; 18] = [
    "vm.created",
    "vm.removed",
    "vm.migrated",
    "vm.changed",
    "vm.status.changed",
    "vm.started",
    "vm.stopped",
    "vm.paused",
    "node.online",
    "node.offline",
    "node.status.changed",
    "node.removed",
    "storage.available",
    "storage.status.changed",
    "storage.removed",
    "task.started",
    "task.ended",
    "task.failed",
];

/// Whether a name, which may end in `*`, matches any event.
pub(crate) fn is_name(name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => NAMES.iter().any(|known| known.starts_with(start)),
        None => NAMES.contains(&name),
    }
}

fn subject(change: &Change, data: &Value) -> Option<Subject> {
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    Some(match change {
        Change::GuestCreated { vmid, guest }
        | Change::GuestRemoved { vmid, guest }
        | Change::GuestStatus { vmid, guest, .. }
        | Change::GuestMigrated { vmid, guest, .. }
        | Change::GuestChanged { vmid, guest } => Subject::Guest {
            vmid: *vmid,
            node: guest.node.clone(),
        },
        Change::NodeStatus { node, .. } | Change::NodeRemoved { node } => {
            Subject::Node(node.clone())
        }
        Change::StorageStatus { node, storage, .. } | Change::StorageRemoved { node, storage } => {
            Subject::Storage {
                node: node.clone(),
                storage: storage.clone(),
            }
        }
        Change::TaskStarted { .. } | Change::TaskEnded { .. } => Subject::Task {
            node: text("node"),
            user: user_of(&text("upid")),
            id: text("id"),
        },
        _ => return None,
    })
}

/// The user who started a task, in the form that permissions use: including the token.
fn user_of(upid: &str) -> String {
    let parsed: Option<Upid> = upid.parse().ok();
    let named = parsed.map(|upid| match upid.token() {
        Some(token) => format!("{}!{token}", upid.user()),
        None => upid.user().to_owned(),
    });
    named.unwrap_or_default()
}

/// The gateway's events for an event of the cluster.
pub(super) fn events_of(event: &Event) -> Vec<NewEvent> {
    let data = event.change.data();
    let Some(subject) = subject(&event.change, &data) else {
        return Vec::new();
    };
    let kind = match event.change.kind().strip_prefix("guest.") {
        Some(rest) => format!("vm.{rest}"),
        None => event.change.kind().to_owned(),
    };
    let id = event.id();
    let new_event = |id: String, kind: &str| NewEvent {
        id,
        time: event.time,
        kind: kind.to_owned(),
        subject: subject.to_text(),
        data: data.clone(),
    };
    const CHANGED: &str = "vm.status.changed";
    let mut new_events = Vec::new();
    if matches!(event.change, Change::GuestStatus { .. }) && kind != CHANGED {
        // The identifier is derived from the event, so repeating the event gives the same one.
        let hash = Sha256::digest(format!("{id} {CHANGED}").as_bytes());
        let digits: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        new_events.push(new_event(format!("evt-{digits}"), CHANGED));
    }
    new_events.push(new_event(id, &kind));
    new_events
}

/// The test event of a webhook.
pub(crate) fn test_event(name: &str) -> (&'static str, Value) {
    ("webhook.test", json!({ "webhook": name }))
}
