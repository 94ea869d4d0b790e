//! Events: content, receivers and order.
//!
//! One of several gateways watches the cluster and writes the changes to the store. Each gateway
//! reads the store and sends events to its listeners from one ring buffer in memory. A listener has
//! a position instead of a queue, so a slow one costs no memory.

mod filter;
mod names;
mod watcher;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proxmox_api::Value;
use serde::Serialize;
use tokio::sync::watch;

use crate::permissions::Permissions;
use crate::store::{KeptEvent, Store, StoreError};
use crate::time::utc;

pub(crate) use filter::{Filter, unique};
pub(crate) use names::{is_name, test_event};
pub(crate) use watcher::{LEASE, Watcher};

/// Events kept in memory.
const RING: usize = 4_096;
/// Events kept in the store. A cursor is valid as long as its event is kept.
pub(crate) const KEPT: i64 = 100_000;
/// Events read from the store at a time.
const BATCH: i64 = 512;
/// Interval at which events of other gateways are read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The subject of an event, as far as it decides who may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Guest {
        vmid: u32,
        node: String,
    },
    Node(String),
    Storage {
        node: String,
        storage: String,
    },
    Task {
        node: String,
        user: String,
        id: String,
    },
}

impl Subject {
    fn to_text(&self) -> String {
        match self {
            Self::Guest { vmid, node } => format!("guest\t{vmid}\t{node}"),
            Self::Node(node) => format!("node\t{node}"),
            Self::Storage { node, storage } => format!("storage\t{node}\t{storage}"),
            Self::Task { node, user, id } => format!("task\t{node}\t{user}\t{id}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('\t').collect();
        Some(match *parts.as_slice() {
            ["guest", vmid, node] => Self::Guest {
                vmid: vmid.parse().ok()?,
                node: node.to_owned(),
            },
            ["node", node] => Self::Node(node.to_owned()),
            ["storage", node, storage] => Self::Storage {
                node: node.to_owned(),
                storage: storage.to_owned(),
            },
            ["task", node, user, id] => Self::Task {
                node: node.to_owned(),
                user: user.to_owned(),
                id: id.to_owned(),
            },
            _ => return None,
        })
    }

    /// Whether a user may see the subject: the same rule as for the cluster's own API. A task is
    /// also visible to the user who started it.
    pub(crate) fn is_visible(&self, user: &str, permissions: &Permissions) -> bool {
        match self {
            Self::Guest { vmid, .. } => permissions.allow(&format!("/vms/{vmid}"), "VM.Audit"),
            Self::Node(node) => permissions.allow(&format!("/nodes/{node}"), "Sys.Audit"),
            Self::Storage { storage, .. } => {
                permissions.allow(&format!("/storage/{storage}"), "Datastore.Audit")
            }
            Self::Task {
                node, user: own, ..
            } => user == own || permissions.allow(&format!("/nodes/{node}"), "Sys.Audit"),
        }
    }
}

/// An event as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct SentEvent {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) subject: Subject,
    /// The message as JSON, serialized once for all listeners.
    pub(crate) text: Bytes,
}

/// A message of the event stream.
#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    cursor: String,
    r#type: &'a str,
    timestamp: String,
    data: &'a Value,
}

impl SentEvent {
    fn of(kept: KeptEvent) -> Option<Self> {
        let event = kept.event;
        let message = Message {
            id: &event.id,
            cursor: kept.seq.to_string(),
            r#type: &event.kind,
            timestamp: utc(event.time),
            data: &event.data,
        };
        Some(Self {
            seq: kept.seq,
            text: serde_json::to_vec(&message).ok()?.into(),
            subject: Subject::read(&event.subject)?,
            kind: event.kind,
        })
    }
}

/// Distributes all events.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    store: Store,
    ring: Mutex<VecDeque<Arc<SentEvent>>>,
    /// The number of the newest event.
    newest: watch::Sender<i64>,
    /// Requests an immediate read of the store.
    poke: tokio::sync::Notify,
}

/// The reason why events after a position cannot be sent.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The events after the position are not kept any more.
    TooOld,
    Store(StoreError),
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Hub {
    /// Starts at the newest event of the store.
    pub(crate) async fn new(store: Store) -> Result<Self, StoreError> {
        let (_, newest) = store.event_range().await?;
        Ok(Self(Arc::new(Inner {
            store,
            ring: Mutex::default(),
            newest: watch::Sender::new(newest),
            poke: tokio::sync::Notify::new(),
        })))
    }

    /// Reads new events from the store. Runs as long as it is polled.
    pub(crate) async fn follow(self) {
        loop {
            match self.read_on().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "events cannot be read"),
            }
            tokio::select! {
                () = self.0.poke.notified() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Whether there may be more events.
    async fn read_on(&self) -> Result<bool, StoreError> {
        let last = *self.0.newest.borrow();
        let events = self.0.store.events_after(last, BATCH).await?;
        let Some(newest) = events.last().map(|kept| kept.seq) else {
            return Ok(false);
        };
        let more = events.len() as i64 >= BATCH;
        {
            let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.extend(events.into_iter().filter_map(SentEvent::of).map(Arc::new));
            let surplus = ring.len().saturating_sub(RING);
            ring.drain(..surplus);
        }
        self.0.newest.send_replace(newest);
        Ok(more)
    }

    /// Requests an immediate read of the store.
    pub(crate) fn wake(&self) {
        self.0.poke.notify_one();
    }

    /// The number of the newest event.
    pub(crate) fn newest(&self) -> i64 {
        *self.0.newest.borrow()
    }

    /// Waits until there is an event after a position.
    pub(crate) async fn wait_after(&self, seq: i64) {
        // The sender lives as long as the hub, so there is no error.
        let _ = self
            .0
            .newest
            .subscribe()
            .wait_for(|newest| *newest > seq)
            .await;
    }

    /// Whether all events after a position can be sent.
    pub(crate) async fn check(&self, seq: i64) -> Result<(), Lost> {
        let (oldest, newest) = self.0.store.event_range().await?;
        let is_known = seq <= newest && (seq + 1 >= oldest || newest == 0);
        if is_known { Ok(()) } else { Err(Lost::TooOld) }
    }

    /// Some events after a position, the oldest first.
    pub(crate) async fn after(&self, seq: i64) -> Result<Vec<Arc<SentEvent>>, Lost> {
        {
            let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            if ring.front().is_some_and(|oldest| oldest.seq <= seq + 1) {
                let start = ring.partition_point(|event| event.seq <= seq);
                let some = ring.iter().skip(start).take(BATCH as usize);
                return Ok(some.cloned().collect());
            }
        }
        self.check(seq).await?;
        let kept = self.0.store.events_after(seq, BATCH).await?;
        // Events in the store that were not read yet are sent by a later call.
        let newest = self.newest();
        let kept = kept.into_iter().filter(|kept| kept.seq <= newest);
        Ok(kept.filter_map(SentEvent::of).map(Arc::new).collect())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("newest", &self.newest())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::NewEvent;

    async fn add(store: &Store, count: usize) {
        assert!(store.lease("events", "me", 1, 9).await.expect("works"));
        let subject = Subject::Guest {
            vmid: 100,
            node: "n".to_owned(),
        }
        .to_text();
        let event = NewEvent {
            id: "evt-1".to_owned(),
            time: 0,
            kind: "vm.started".to_owned(),
            subject,
            data: json!({"vmid": 100}),
        };
        let events = vec![event; count];
        store
            .append(("events", "me"), &events, &[], ("c", ""))
            .await
            .expect("works");
    }

    async fn seqs(hub: &Hub, after: i64) -> Vec<i64> {
        let events = hub.after(after).await.expect("kept");
        events.iter().map(|event| event.seq).collect()
    }

    #[tokio::test]
    async fn events_are_sent_from_any_position_that_is_kept() {
        let store = Store::embedded(None).await.expect("opens");
        add(&store, 3).await;
        // Earlier events are in the store, later ones in the ring buffer.
        let hub = Hub::new(store.clone()).await.expect("works");
        assert_eq!(hub.newest(), 3);
        assert_eq!(seqs(&hub, 1).await, [2, 3]);
        add(&store, 2).await;
        assert!(seqs(&hub, 3).await.is_empty());
        while hub.read_on().await.expect("works") {}
        hub.wait_after(3).await;
        assert_eq!(seqs(&hub, 3).await, [4, 5]);
        assert_eq!(seqs(&hub, 0).await, [1, 2, 3, 4, 5]);
        store.prune(2, 0).await.expect("works");
        assert_eq!(seqs(&hub, 3).await, [4, 5]);
        assert!(matches!(hub.after(1).await, Err(Lost::TooOld)));
        // A cursor from another store, or a future one.
        assert!(matches!(hub.check(99).await, Err(Lost::TooOld)));
    }

    #[test]
    fn subjects_survive_the_store() {
        for subject in [
            Subject::Guest {
                vmid: 100,
                node: "n".into(),
            },
            Subject::Node("n".into()),
            Subject::Storage {
                node: "n".into(),
                storage: "local".into(),
            },
            Subject::Task {
                node: "n".into(),
                user: "root@pam".into(),
                id: "100".into(),
            },
        ] {
            assert_eq!(Subject::read(&subject.to_text()), Some(subject));
        }
        assert_eq!(Subject::read("guest\tx\tn"), None);
    }
}
