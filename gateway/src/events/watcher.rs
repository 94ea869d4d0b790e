//! Watches the cluster for changes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proxmox_api::manage::events::{State, Watch};
use proxmox_api::{Client, Error};
use serde_json::Value;

use super::{Filter, Hub, KEPT, Subject, names};
use crate::permissions::Permissions;
use crate::store::{Delivery, NewEvent, Store, StoreError};
use crate::time::now;
use crate::webhooks::{Deliverer, payload};

pub(crate) const LEASE: &str = "watch";
const CURSOR: &str = "watch";
/// The lease of the watcher, in seconds: after a crash, another gateway takes over when it expires.
const LEASE_TIME: u64 = 15;
/// How long a user's permissions are cached.
const PERMISSIONS_TTL: Duration = Duration::from_secs(60);
/// How long finished deliveries are kept, in seconds.
const DELIVERY_LOG_SECONDS: u64 = 7 * 24 * 3_600;
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Watches the cluster unless another gateway does, and stores the changes.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) deliverer: Deliverer,
    pub(crate) interval: Duration,
    /// This gateway's name in leases.
    pub(crate) instance: String,
}

/// Cached permissions of the owners of webhooks.
type Owners = HashMap<String, (Instant, Permissions)>;

impl Watcher {
    /// Runs as long as it is polled.
    pub(crate) async fn run(self) {
        let mut owners = Owners::new();
        let mut watch: Option<Watch> = None;
        let mut pruned: Option<Instant> = None;
        loop {
            match self.round(&mut watch, &mut owners).await {
                Ok(()) => {}
                Err(error) => {
                    // The next round begins where the last stored one ended.
                    watch = None;
                    tracing::warn!(error, "the cluster cannot be watched");
                }
            }
            if watch.is_some() && pruned.is_none_or(|at| at.elapsed() > PRUNE_EVERY) {
                pruned = Some(Instant::now());
                if let Err(error) = self
                    .store
                    .prune(KEPT, now().saturating_sub(DELIVERY_LOG_SECONDS))
                    .await
                {
                    tracing::warn!(%error, "old events cannot be removed");
                }
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn round(&self, watch: &mut Option<Watch>, owners: &mut Owners) -> Result<(), String> {
        let until = now() + LEASE_TIME + self.interval.as_secs();
        let mine = self.store.lease(LEASE, &self.instance, now(), until).await;
        if !mine.map_err(text)? {
            *watch = None;
            return Ok(());
        }
        let watching = match watch {
            Some(watching) => watching,
            None => watch.insert(self.resume().await.map_err(text)?),
        };
        let events = watching.poll().await.map_err(text)?;
        let cursor = watching.cursor().map(State::to_json);
        let Some(cursor) = cursor.as_ref().map(Value::to_string) else {
            return Ok(());
        };
        let new_events: Vec<NewEvent> = events.iter().flat_map(names::events_of).collect();
        let deliveries = match new_events.is_empty() {
            true => Vec::new(),
            false => self.deliveries(&new_events, owners).await?,
        };
        let kept = self.store.append(
            (LEASE, &self.instance),
            &new_events,
            &deliveries,
            (CURSOR, &cursor),
        );
        kept.await.map_err(text)?;
        if !new_events.is_empty() {
            self.hub.wake();
            self.deliverer.wake();
        }
        Ok(())
    }

    /// Continues where the last watching gateway ended.
    async fn resume(&self) -> Result<Watch, StoreError> {
        let note = self.store.note(CURSOR).await?;
        let state = note.and_then(|note| serde_json::from_str(&note).ok());
        let state = state.and_then(|state: Value| State::from_json(&state));
        Ok(match state {
            Some(state) => Watch::resume(&self.client, state),
            None => Watch::new(&self.client),
        })
    }

    /// The webhooks that get an event: their filter matches, and their owner may see it.
    async fn deliveries(
        &self,
        events: &[NewEvent],
        owners: &mut Owners,
    ) -> Result<Vec<Delivery>, String> {
        let mut deliveries = Vec::new();
        for hook in self.store.hooks().await.map_err(text)? {
            if !hook.enabled {
                continue;
            }
            for event in events
                .iter()
                .filter(|event| Filter::names(&hook.events, &event.kind))
            {
                let Some(subject) = Subject::read(&event.subject) else {
                    continue;
                };
                let permissions = match self.permissions(&hook.owner, owners).await {
                    Ok(permissions) => permissions,
                    // Permissions are unknown, so this webhook's events are delivered later.
                    Err(error) if error.kind().is_none() => return Err(error.to_string()),
                    Err(error) => {
                        tracing::warn!(owner = hook.owner, %error, "its permissions cannot be read");
                        break;
                    }
                };
                if subject.is_visible(&hook.owner, permissions) {
                    deliveries.push(Delivery {
                        id: format!("{}-{}", hook.id, event.id),
                        webhook: hook.id.clone(),
                        kind: event.kind.clone(),
                        body: payload(&event.id, event.time, &event.kind, &event.data),
                        created: now(),
                        attempts: 0,
                        due: Some(now()),
                        status: "pending".to_owned(),
                        code: None,
                        problem: String::new(),
                        finished: None,
                    });
                }
            }
        }
        Ok(deliveries)
    }

    async fn permissions<'o>(
        &self,
        owner: &str,
        owners: &'o mut Owners,
    ) -> Result<&'o Permissions, Error> {
        let known = owners
            .get(owner)
            .is_some_and(|(at, _)| at.elapsed() < PERMISSIONS_TTL);
        if !known {
            let fresh = Permissions::fetch(&self.client, Some(owner)).await?;
            owners.insert(owner.to_owned(), (Instant::now(), fresh));
        }
        let (_, permissions) = owners
            .entry(owner.to_owned())
            .or_insert_with(|| (Instant::now(), Permissions::default()));
        Ok(permissions)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
