//! Many clones of one template.

use std::ops::RangeInclusive;

use super::guest::Guest;
use super::inventory::{Inventory, ResourceType};
use super::work::{Action, Subject, Track, Work, WorkError, some_at_once};
use crate::client::Client;
use crate::error::Error;

/// The wanted clones of a template or of another guest; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use std::time::Duration;
///
/// use proxmox_api::manage::clones::Clones;
///
/// let workers = Clones::of(9000).count(12).ids(5000..=5099).name("worker-{n}").nodes(["pve1", "pve2", "pve3"]);
/// let guests = pve.carry_out(workers.at_once(2).started()).wait_for_locks(Duration::from_secs(600)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Made again
///
/// Clones are found by their names among the allowed numbers. Existing ones stay where they are,
/// unless that is a node that was not requested, and are started if wanted.
///
/// # What a failure leaves
///
/// After a failure no further clone is started; those in progress are finished. The server removes
/// a failed clone. Finished clones stay, and
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) names them and what they lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clones {
    template: u32,
    count: u32,
    first: u32,
    ids: RangeInclusive<u32>,
    name: String,
    nodes: Vec<String>,
    storage: Option<String>,
    full: Option<bool>,
    pool: Option<String>,
    at_once: usize,
    start: bool,
}

impl Clones {
    /// Clones of this guest: by default one, called `clone-1`, with a number from 100, on the
    /// guest's node.
    #[must_use]
    pub fn of(template: u32) -> Self {
        Self {
            template,
            count: 1,
            first: 1,
            ids: 100..=999_999_999,
            name: "clone-{n}".to_owned(),
            nodes: Vec::new(),
            storage: None,
            full: None,
            pool: None,
            at_once: 4,
            start: false,
        }
    }

    /// The number of clones.
    #[must_use]
    pub fn count(mut self, clones: u32) -> Self {
        self.count = clones;
        self
    }

    /// The value of `{n}` in the name of the first clone; 1 by default.
    #[must_use]
    pub fn first(mut self, number: u32) -> Self {
        self.first = number;
        self
    }

    /// The allowed guest numbers; the lowest free ones are taken.
    #[must_use]
    pub fn ids(mut self, ids: RangeInclusive<u32>) -> Self {
        self.ids = ids;
        self
    }

    /// Their names. `{n}` is replaced by the count from [`Clones::first`] on; it is added at the
    /// end if it is missing.
    #[must_use]
    pub fn name(mut self, pattern: impl Into<String>) -> Self {
        self.name = pattern.into();
        self
    }

    /// The nodes over which they are distributed in turn. A clone is made on another node than the
    /// template's if all its disks are on shared storage; otherwise it is made on the template's
    /// node and moved.
    #[must_use]
    pub fn nodes<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.nodes = nodes.into_iter().map(Into::into).collect();
        self
    }

    /// The storage of their disks, which makes them full clones.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// Whether their disks are copied, instead of linked to those of the template; see
    /// [`CloneGuest::full`](super::guest::CloneGuest::full).
    #[must_use]
    pub fn full(mut self, full: bool) -> Self {
        self.full = Some(full);
        self
    }

    /// The pool they belong to.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// The maximum of clones in progress at the same time; 4 by default, at least 1. All of them
    /// write to the same storage.
    #[must_use]
    pub fn at_once(mut self, clones: usize) -> Self {
        self.at_once = clones;
        self
    }

    /// Starts them.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start = true;
        self
    }

    fn name_of(&self, number: u32) -> String {
        match self.name.contains("{n}") {
            true => self.name.replace("{n}", &number.to_string()),
            false => format!("{}{number}", self.name),
        }
    }

    async fn ensure_clone(
        &self,
        planned: PlannedClone,
        base: &Base,
        track: &Track<'_>,
    ) -> Result<Guest, Error> {
        let PlannedClone {
            name,
            node,
            existing,
        } = planned;
        let new = existing.is_none();
        let guest = match existing {
            Some(guest) => {
                track.found(&Subject::Guest(guest.vmid()), Action::Clone);
                guest
            }
            None => self.clone_template(&name, &node, base, track).await?,
        };
        let subject = Subject::Guest(guest.vmid());
        let current_node = match new {
            true => guest.location().await?.node,
            false => guest.locate().await?.node,
        };
        // An existing clone stays on any requested node.
        let misplaced = match new {
            true => current_node != node,
            false => !self.nodes.is_empty() && !self.nodes.contains(&current_node),
        };
        if misplaced {
            let start_task = || guest.migrate(&node).with_local_disks();
            track.task(&subject, Action::Migrate, start_task).await?;
            if !new {
                track.leave(&subject, &format!("was moved to {node}"));
            }
        }
        if self.start {
            track.start(&subject, &guest, new).await?;
        }
        Ok(guest)
    }

    async fn clone_template(
        &self,
        name: &str,
        node: &str,
        base: &Base,
        track: &Track<'_>,
    ) -> Result<Guest, Error> {
        let clone_as = |ids: RangeInclusive<u32>| {
            let mut clone = match ids.start() == ids.end() {
                true => base.guest.clone_to(*ids.start()),
                false => base.guest.clone_within(ids),
            };
            clone = clone.name(name);
            if let Some(storage) = &self.storage {
                clone = clone.storage(storage);
            }
            if let Some(full) = self.full {
                clone = clone.full(full);
            }
            if let Some(pool) = &self.pool {
                clone = clone.pool(pool);
            }
            match base.reaches(node) && base.node != node {
                true => clone.target(node),
                false => clone,
            }
        };
        let started = clone_as(self.ids.clone()).await?;
        let vmid = started.guest.vmid();
        let subject = Subject::Guest(vmid);
        let again = || clone_as(vmid..=vmid);
        let cloned = track
            .follow(&subject, Action::Clone, started, again)
            .await?;
        track.leave(&subject, &format!("was cloned as {name}"));
        Ok(track.with_locks(cloned))
    }
}

/// The guest to clone.
struct Base {
    guest: Guest,
    node: String,
    /// Whether a clone's disks can be reached from other nodes.
    shared: bool,
}

impl Base {
    fn reaches(&self, node: &str) -> bool {
        self.shared || self.node == node
    }
}

/// One of the clones.
struct PlannedClone {
    name: String,
    node: String,
    existing: Option<Guest>,
}

impl Work for Clones {
    type Done = Vec<Guest>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Vec<Guest>, Error> {
        let inventory = Inventory::fetch(pve).await?;
        let guest = track.with_locks(pve.guest(self.template));
        let node = guest.location().await?.node;
        let storages = match &self.storage {
            Some(storage) => vec![storage.clone()],
            None => guest.storages().await?,
        };
        let is_shared = |storage: &String| {
            (inventory.resources.iter())
                .filter(|row| row.resource_type == ResourceType::Storage)
                .any(|row| row.storage.as_ref() == Some(storage) && row.shared)
        };
        let base = Base {
            shared: storages.iter().all(is_shared),
            guest,
            node: node.clone(),
        };
        let mut planned = Vec::new();
        for (number, turn) in (self.first..).zip(0..self.count) {
            let name = self.name_of(number);
            let turn = usize::try_from(turn).unwrap_or(usize::MAX);
            let node = match turn.checked_rem(self.nodes.len()) {
                Some(index) => self.nodes.get(index).unwrap_or(&node).clone(),
                None => node.clone(),
            };
            let mut rows = inventory.resources.iter();
            let row = rows.find(|row| {
                row.guest_name.as_ref() == Some(&name)
                    && row.vmid.is_some_and(|vmid| self.ids.contains(&vmid))
            });
            if let Some(row) = row.filter(|row| row.lock.as_deref() == Some("create")) {
                let problem =
                    "it is locked: another task is creating it, or was stopped before the end";
                let subject = Subject::Guest(row.vmid.unwrap_or_default());
                return Err(WorkError::new(subject, problem).into());
            }
            let existing = row
                .and_then(|row| row.vmid)
                .map(|vmid| track.with_locks(pve.guest(vmid)));
            planned.push(PlannedClone {
                name,
                node,
                existing,
            });
        }
        let ensure_clone = |planned| self.ensure_clone(planned, &base, track);
        let (guests, failure) = some_at_once(self.at_once, planned, ensure_clone).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(guests),
        }
    }
}
