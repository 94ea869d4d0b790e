//! Moving guests to other nodes and other clusters, with checks before the move.

use std::collections::BTreeMap;
use std::fmt;

use super::guest::{Disk, Guest, Kind, PowerState};
use super::work::{Action, State, Subject, Track, Work, WorkError};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::pve::types::RemoteEndpoint;
use crate::task::Task;
use crate::value::BoxFuture;
use crate::value::Secret;

/// The wanted node of a guest; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::migration::Migration;
///
/// let move_ = Migration::of(101, "pve2").disk("scsi1", "fast").bandwidth(200 * 1024);
/// let moved = pve.carry_out(move_).on_step(|step| println!("{step}")).await?;
/// println!("from {} in {:?}", moved.from, moved.with);
/// # Ok(())
/// # }
/// ```
///
/// The obstacles are checked first, and any of them is the error before anything is started: those
/// of [`Guest::check_migration`](super::guest::Guest::check_migration), and for every release and
/// both kinds of guests that the target is online and has the storages. Disks that the target
/// cannot reach are copied.
///
/// A guest that is on the target already is found. After a failure the guest is on its old node or
/// on the target; [`UnfinishedError::left`](super::work::UnfinishedError::left) describes it if its
/// state has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    vmid: u32,
    target: String,
    storage: Option<String>,
    disks: BTreeMap<String, String>,
    bandwidth: Option<u64>,
    conntrack: Option<bool>,
}

/// A guest on its wanted node; the result of [`Migration`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Moved {
    /// The guest.
    pub guest: Guest,
    /// Its previous node.
    pub from: String,
    /// Its present node.
    pub to: String,
    /// The resources that high availability moves with it, as `vm:104`. They are not waited for.
    pub with: Vec<String>,
}

impl Migration {
    /// A guest on a node.
    #[must_use]
    pub fn of(vmid: u32, target: impl Into<String>) -> Self {
        Self {
            vmid,
            target: target.into(),
            storage: None,
            disks: BTreeMap::new(),
            bandwidth: None,
            conntrack: None,
        }
    }

    /// The storage of all disks that have no storage of their own here.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// The storage of one disk, by its setting as `scsi1`. The others go to the storage of
    /// [`Migration::storage`], or to the storage of the same name. The server maps storages, not
    /// disks: if disks of one storage go to several, the storage that gets most of their bytes is
    /// used during the migration, and the rest moves on once the guest is on its new node. A
    /// container must be stopped for that.
    #[must_use]
    pub fn disk(mut self, key: impl Into<String>, storage: impl Into<String>) -> Self {
        self.disks.insert(key.into(), storage.into());
        self
    }

    /// The limit on the copy rate, in KiB per second; by default the setting of the cluster.
    #[must_use]
    pub fn bandwidth(mut self, kibibytes: u64) -> Self {
        self.bandwidth = Some(kibibytes);
        self
    }

    /// Whether the state of network connections moves with a running virtual machine. Needs release
    /// 9.0.
    #[must_use]
    pub fn connections(mut self, along: bool) -> Self {
        self.conntrack = Some(along);
        self
    }

    fn refuse(&self, problem: impl Into<String>) -> Error {
        WorkError::new(Subject::Guest(self.vmid), problem).into()
    }

    /// The target storage of a disk.
    fn target_storage(&self, disk: &Disk) -> Option<String> {
        let storage = self.disks.get(&disk.key);
        storage
            .or(self.storage.as_ref())
            .or(disk.storage.as_ref())
            .cloned()
    }

    /// The server's map of storages, and the disks that have to move once more on the target: the
    /// server maps storages, so of the disks of one storage only those with one and the same target
    /// arrive there directly.
    async fn storages(&self, guest: &Guest, kind: Kind) -> Result<Routes, Error> {
        let mut routes = Routes::default();
        if self.storage.is_none() && self.disks.is_empty() {
            return Ok(routes);
        }
        let disks = guest.disks().await?;
        for key in self.disks.keys() {
            if !disks
                .iter()
                .any(|disk| disk.key == *key && disk.storage.is_some())
            {
                return Err(self.refuse(format!("it has no disk {key} on a storage")));
            }
        }
        if self.disks.is_empty() {
            routes.map.extend(self.storage.clone());
            return Ok(routes);
        }
        let mut groups: BTreeMap<&str, BTreeMap<String, Vec<&Disk>>> = BTreeMap::new();
        for disk in &disks {
            if let (Some(from), Some(to)) = (&disk.storage, self.target_storage(disk)) {
                groups
                    .entry(from)
                    .or_default()
                    .entry(to)
                    .or_default()
                    .push(disk);
            }
        }
        for (from, targets) in groups {
            let bytes = |disks: &Vec<&Disk>| {
                let sizes = disks.iter().filter_map(|disk| disk.size);
                sizes.fold(0, u64::saturating_add)
            };
            let Some((largest, _)) = targets.iter().max_by_key(|(_, disks)| bytes(disks)) else {
                continue;
            };
            routes.map.push(format!("{from}:{largest}"));
            for (to, disks) in targets.iter().filter(|(to, _)| *to != largest) {
                // A cloud-init drive is written again on any node.
                let disks = disks.iter().filter(|disk| !disk.cloud_init);
                routes
                    .later
                    .extend(disks.map(|disk| (disk.key.clone(), to.clone())));
            }
        }
        // The disks of a container move only while it is stopped.
        if kind == Kind::Lxc
            && !routes.later.is_empty()
            && guest.status().await?.state == PowerState::Running
        {
            return Err(self.refuse(
                "the disks of one storage cannot move to several storages while the container runs; stop it first",
            ));
        }
        Ok(routes)
    }

    /// Moves disks on the guest's node to their wanted storages.
    async fn spread(
        &self,
        guest: &Guest,
        later: &[(String, String)],
        track: &Track<'_>,
    ) -> Result<(), Error> {
        for (key, to) in later {
            let subject = Subject::Other(format!("disk {key} of guest {}", self.vmid));
            let start_task = || guest.move_disk(key, to).delete_source();
            let moved = track.task(&subject, Action::Migrate, start_task).await;
            if let Err(error) = moved {
                track.leave(&subject, &format!("is not on storage {to}"));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Obstacles on the target that no release reports in all cases.
    async fn obstacles(
        &self,
        pve: &Client,
        guest: &Guest,
        storages: &[String],
        later: &[(String, String)],
    ) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let nodes = pve.api().nodes().get().await?;
        let node = nodes.iter().find(|node| node.node == *self.target);
        match node.map(|node| node.status.as_str()) {
            None => return Ok(vec![format!("the cluster has no node {}", self.target)]),
            Some("online") => {}
            Some(_) => return Ok(vec![format!("node {} is offline", self.target)]),
        }
        let mut wanted: Vec<String> = match storages {
            [one] if !one.contains(':') => vec![one.clone()],
            map => {
                let to = |from: &String| {
                    let mut pairs = map.iter().filter_map(|pair| pair.split_once(':'));
                    pairs
                        .find(|(key, _)| key == from)
                        .map(|(_, to)| to.to_owned())
                };
                let disks = guest.disks().await?;
                let used = disks.into_iter().filter_map(|disk| disk.storage);
                used.map(|from| to(&from).unwrap_or(from)).collect()
            }
        };
        wanted.extend(later.iter().map(|(_, to)| to.clone()));
        wanted.sort();
        wanted.dedup();
        let rows = pve
            .api()
            .nodes()
            .node(&self.target)
            .storage()
            .get()
            .enabled(true)
            .await?;
        wanted.retain(|storage| !rows.iter().any(|row| row.storage == **storage));
        if !wanted.is_empty() {
            found.push(format!("the node lacks the storages {}", wanted.join(", ")));
        }
        Ok(found)
    }
}

/// The storages of a guest's disks during and after a migration.
#[derive(Debug, Default)]
struct Routes {
    /// One storage for all, or `from:to`.
    map: Vec<String>,
    /// Disks that move afterwards, with their storages.
    later: Vec<(String, String)>,
}

impl Work for Migration {
    type Done = Moved;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Moved, Error> {
        let subject = Subject::Guest(self.vmid);
        let guest = track.with_locks(pve.guest(self.vmid));
        // Not from a list, which may be some seconds old.
        let location = guest.locate().await?;
        let from = location.node;
        let moved = |guest: &Guest, with: Vec<String>| Moved {
            guest: guest.clone(),
            from: from.clone(),
            to: self.target.clone(),
            with,
        };
        if from == self.target {
            track.found(&subject, Action::Migrate);
            // A disk that had to move on may still be on its old storage.
            let disks = match self.disks.is_empty() {
                true => Vec::new(),
                false => guest.disks().await?,
            };
            let later: Vec<(String, String)> = (disks.into_iter())
                .filter_map(|disk| {
                    let to = self.disks.get(&disk.key)?;
                    (disk.storage.as_ref() != Some(to)).then(|| (disk.key, to.clone()))
                })
                .collect();
            self.spread(&guest, &later, track).await?;
            return Ok(moved(&guest, Vec::new()));
        }
        let Routes {
            map: storages,
            later,
        } = self.storages(&guest, location.kind).await?;
        let mut reasons = self.obstacles(pve, &guest, &storages, &later).await?;
        let mut with = Vec::new();
        if reasons.is_empty() {
            let check = guest.check_migration(&self.target).await?;
            reasons = check.reasons(&self.target);
            // Target storages are set and checked, so objections about the present ones do not
            // apply.
            if !storages.is_empty() {
                reasons.retain(|reason| !reason.starts_with("the node lacks the storages"));
                if check.allowed_nodes.is_some() {
                    reasons.retain(|reason| !reason.starts_with("the server does not allow"));
                }
            }
            with = check.dependent_resources;
        }
        if !reasons.is_empty() {
            return Err(self.refuse(format!(
                "cannot move to {}: {}",
                self.target,
                reasons.join("; ")
            )));
        }
        if !with.is_empty() {
            let along = State::Line(format!("moves along: {}", with.join(", ")));
            track.step(&subject, Action::Migrate, along);
        }
        let ran = guest.status().await?.state;
        let start_task = || {
            let mut migrate = guest.migrate(&self.target).with_local_disks();
            for storage in &storages {
                migrate = migrate.target_storage(storage);
            }
            if let Some(bandwidth) = self.bandwidth {
                migrate = migrate.bandwidth(bandwidth);
            }
            match self.conntrack {
                Some(along) => migrate.connections(along),
                None => migrate,
            }
        };
        let ended = track.task(&subject, Action::Migrate, start_task).await;
        let now = match &ended {
            Ok(_) => Some(guest.status().await?.state),
            Err(_) => guest.status().await.ok().map(|status| status.state),
        };
        if let Err(error) = ended {
            let current_node = guest.location().await.ok().map(|location| location.node);
            if current_node.as_ref() == Some(&self.target) {
                track.leave(&subject, &format!("is on node {}", self.target));
            }
            if ran == PowerState::Running && now != Some(PowerState::Running) {
                track.leave(&subject, "ran before and does not now");
            }
            return Err(error);
        }
        if ran == PowerState::Running && now != Some(PowerState::Running) {
            track.leave(&subject, "ran before and does not now");
            return Err(self.refuse("it does not run after the move"));
        }
        if let Err(error) = self.spread(&guest, &later, track).await {
            track.leave(&subject, &format!("is on node {}", self.target));
            return Err(error);
        }
        Ok(moved(&guest, with))
    }
}

/// Another cluster, and the access to it; see [`RemoteMigration`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    host: String,
    port: Option<u16>,
    token: Secret,
    fingerprint: Option<String>,
}

impl Remote {
    /// The address of a node of the other cluster, and an API token of that cluster, as
    /// `root@pam!move=…`.
    #[must_use]
    pub fn new(host: impl Into<String>, token: impl Into<Secret>) -> Self {
        Self {
            host: host.into(),
            port: None,
            token: token.into(),
            fingerprint: None,
        }
    }

    /// Its port; 8006 unless set.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The SHA-256 fingerprint of its certificate, unless an authority that this cluster trusts
    /// signed it.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    fn endpoint(&self) -> RemoteEndpoint {
        let token = self.token.expose();
        let token = match token.starts_with("PVEAPIToken=") {
            true => token.to_owned(),
            false => format!("PVEAPIToken={token}"),
        };
        let endpoint = RemoteEndpoint::new(Secret::from(token), self.host.as_str());
        endpoint
            .port(self.port.map(i64::from))
            .fingerprint(self.fingerprint.as_deref())
    }
}

/// A guest in another cluster; see [`Client::carry_out`]. Proxmox VE calls this experimental.
///
/// Guests of the other cluster cannot be found from here, so carried out again it ends in an error
/// if the guest is gone from this cluster, or its number is taken in the other one. After a failure the server removes what it made in the
/// other cluster, and the guest continues here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteMigration {
    vmid: u32,
    to: Remote,
    number: Option<u32>,
    storages: Vec<String>,
    bridges: Vec<String>,
    delete: bool,
    bandwidth: Option<u64>,
}

impl RemoteMigration {
    /// A guest in a cluster, with its disks on one storage and its network cards on one bridge
    /// there. The original stays, stopped, unless [`RemoteMigration::delete_source`] is set.
    #[must_use]
    pub fn of(
        vmid: u32,
        to: Remote,
        storage: impl Into<String>,
        bridge: impl Into<String>,
    ) -> Self {
        Self {
            vmid,
            to,
            number: None,
            storages: vec![storage.into()],
            bridges: vec![bridge.into()],
            delete: false,
            bandwidth: None,
        }
    }

    /// Its number in the other cluster, instead of the present one.
    #[must_use]
    pub fn number(mut self, vmid: u32) -> Self {
        self.number = Some(vmid);
        self
    }

    /// Moves the disks of one storage to another storage than the rest.
    #[must_use]
    pub fn map_storage(mut self, from: &str, to: &str) -> Self {
        self.storages.push(format!("{from}:{to}"));
        self
    }

    /// Connects the cards of one bridge to another bridge than the rest.
    #[must_use]
    pub fn map_bridge(mut self, from: &str, to: &str) -> Self {
        self.bridges.push(format!("{from}:{to}"));
        self
    }

    /// **Removes the guest here** once it is in the other cluster.
    #[must_use]
    pub fn delete_source(mut self) -> Self {
        self.delete = true;
        self
    }

    /// The limit on the copy rate, in KiB per second.
    #[must_use]
    pub fn bandwidth(mut self, kibibytes: u64) -> Self {
        self.bandwidth = Some(kibibytes);
        self
    }
}

impl Work for RemoteMigration {
    /// The guest's number in the other cluster.
    type Done = u32;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<u32, Error> {
        let subject = Subject::Guest(self.vmid);
        let guest = pve.guest(self.vmid);
        let location = guest.locate().await?;
        let before = guest.status().await?;
        let online = before.state == PowerState::Running;
        let number = self.number.unwrap_or(self.vmid);
        let limit = self
            .bandwidth
            .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let start_task = || {
            let (endpoint, storages, bridges) = (
                self.to.endpoint(),
                self.storages.clone(),
                self.bridges.clone(),
            );
            let sending: BoxFuture<'static, Result<Task, Error>> = match location.kind {
                Kind::Qemu => {
                    let at = guest.qemu_at(&location).remote_migrate();
                    let request = at
                        .post()
                        .target_endpoint(endpoint)
                        .target_storage(storages)
                        .target_bridge(bridges)
                        .target_vmid(number);
                    let request = request.online(online.then_some(true)).bwlimit(limit);
                    request.delete(self.delete.then_some(true)).into_future()
                }
                Kind::Lxc => {
                    let at = guest.lxc_at(&location).remote_migrate();
                    let request = at
                        .post()
                        .target_endpoint(endpoint)
                        .target_storage(storages)
                        .target_bridge(bridges)
                        .target_vmid(number);
                    let request = request.restart(online.then_some(true)).bwlimit(limit);
                    request.delete(self.delete.then_some(true)).into_future()
                }
            };
            sending
        };
        let ended = track.task(&subject, Action::Migrate, start_task).await;
        if let Err(error) = ended {
            match guest.status().await {
                Ok(status) => {
                    // A lock that existed before does not belong to this work.
                    if let Some(lock) = status.lock.filter(|_| before.lock.is_none()) {
                        track.leave(&subject, &format!("is locked ({lock})"));
                    }
                    if online && status.state != PowerState::Running {
                        track.leave(&subject, "ran before and does not now");
                    }
                }
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => {
                    track.leave(&subject, "is gone from this cluster");
                }
                Err(_) => {}
            }
            return Err(error);
        }
        Ok(number)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}
