//! Moving guests to other nodes and other clusters, with everything looked at before.

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

/// A guest on another node of its cluster, as it is wanted; see [`Client::carry_out`].
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
/// What stands in the way is looked at first and, where there is something, is the error before anything is begun: what
/// [`Guest::check_migration`](super::guest::Guest::check_migration) tells, and for every release and both kinds of guests that
/// the target is there and has the storages. Disks that the target cannot reach are copied along.
///
/// A guest that is there already is found. After a failure the guest is where it was, or on the target;
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) says so where it is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    vmid: u32,
    target: String,
    storage: Option<String>,
    disks: BTreeMap<String, String>,
    bandwidth: Option<u64>,
    conntrack: Option<bool>,
}

/// A guest that is where it was to be; what [`Migration`] comes to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Moved {
    /// The guest.
    pub guest: Guest,
    /// The node it came from.
    pub from: String,
    /// The node it is on.
    pub to: String,
    /// What high availability moves along with it, as `vm:104`. That is not waited for.
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

    /// The storage that all disks go to that have none of their own here.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// The storage that one disk goes to, by its setting as `scsi1`. The others go where [`Migration::storage`] says, or to the
    /// storage of the same name. The server maps storages, not disks: where disks of one storage go to several, most of their
    /// bytes go there at once, and the rest moves on once the guest is on its new node. A container must not run for that.
    #[must_use]
    pub fn disk(mut self, key: impl Into<String>, storage: impl Into<String>) -> Self {
        self.disks.insert(key.into(), storage.into());
        self
    }

    /// The most that is copied in a second, in KiB; what the cluster is set to unless set.
    #[must_use]
    pub fn bandwidth(mut self, kibibytes: u64) -> Self {
        self.bandwidth = Some(kibibytes);
        self
    }

    /// Whether the state of network connections moves along with a running virtual machine. Needs release 9.0.
    #[must_use]
    pub fn connections(mut self, along: bool) -> Self {
        self.conntrack = Some(along);
        self
    }

    fn refuse(&self, problem: impl Into<String>) -> Error {
        WorkError::new(Subject::Guest(self.vmid), problem).into()
    }

    /// Where a disk goes.
    fn wanted(&self, disk: &Disk) -> Option<String> {
        let own = self.disks.get(&disk.key);
        own.or(self.storage.as_ref())
            .or(disk.storage.as_ref())
            .cloned()
    }

    /// Which storage goes to which, in the server's words, and the disks that have to move once more over there: the
    /// server maps storages, so of the disks of one storage only those that go to one and the same arrive there at once.
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
            if let (Some(from), Some(to)) = (&disk.storage, self.wanted(disk)) {
                groups
                    .entry(from)
                    .or_default()
                    .entry(to)
                    .or_default()
                    .push(disk);
            }
        }
        for (from, targets) in groups {
            let bytes = |disks: &Vec<&Disk>| disks.iter().filter_map(|disk| disk.size).sum::<u64>();
            let Some((most, _)) = targets.iter().max_by_key(|(_, disks)| bytes(disks)) else {
                continue;
            };
            routes.map.push(format!("{from}:{most}"));
            for (to, disks) in targets.iter().filter(|(to, _)| *to != most) {
                // A cloud-init drive is written anew wherever it is.
                let disks = disks.iter().filter(|disk| !disk.cloud_init);
                routes
                    .later
                    .extend(disks.map(|disk| (disk.key.clone(), to.clone())));
            }
        }
        // The disks of a container move only while it stands still.
        if kind == Kind::Lxc
            && !routes.later.is_empty()
            && guest.status().await?.state == PowerState::Running
        {
            return Err(self.refuse(
                "the disks of one storage cannot go to several while the container runs; stop it first",
            ));
        }
        Ok(routes)
    }

    /// Moves disks on the node where the guest is to the storages that they are to be on.
    async fn spread(
        &self,
        guest: &Guest,
        later: &[(String, String)],
        track: &Track<'_>,
    ) -> Result<(), Error> {
        for (key, to) in later {
            let subject = Subject::Other(format!("disk {key} of guest {}", self.vmid));
            let begin = || guest.move_disk(key, to).delete_source();
            let moved = track.task(&subject, Action::Migrate, begin).await;
            if let Err(error) = moved {
                track.leave(&subject, &format!("is not on storage {to}"));
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is against the target that no release tells in all cases.
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
            Some(_) => return Ok(vec![format!("node {} is not there", self.target)]),
        }
        let mut wanted: Vec<String> = match storages {
            [one] if !one.contains(':') => vec![one.clone()],
            map => {
                let to = |from: &String| {
                    let mut pairs = map.iter().filter_map(|pair| pair.split_once(':'));
                    pairs
                        .find(|(own, _)| own == from)
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

/// How the disks of a guest get to their storages.
#[derive(Debug, Default)]
struct Routes {
    /// One storage for all, or `from:to`.
    map: Vec<String>,
    /// Disks, with the storages they move to afterwards.
    later: Vec<(String, String)>,
}

impl Work for Migration {
    type Done = Moved;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Moved, Error> {
        let subject = Subject::Guest(self.vmid);
        let guest = match track.locks() {
            Some(patience) => pve.guest(self.vmid).wait_for_locks(patience),
            None => pve.guest(self.vmid),
        };
        // Not from a list: where it was some seconds ago is not good enough.
        let place = guest.locate().await?;
        let from = place.node;
        let moved = |guest: &Guest, with: Vec<String>| Moved {
            guest: guest.clone(),
            from: from.clone(),
            to: self.target.clone(),
            with,
        };
        if from == self.target {
            track.found(&subject, Action::Migrate);
            // A disk that was to move on may have been left where it was.
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
        } = self.storages(&guest, place.kind).await?;
        let mut reasons = self.obstacles(pve, &guest, &storages, &later).await?;
        let mut with = Vec::new();
        if reasons.is_empty() {
            let check = guest.check_migration(&self.target).await?;
            reasons = check.reasons(&self.target);
            // Storages of its own choice have been looked at; those of today do not count then.
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
                "cannot go to {}: {}",
                self.target,
                reasons.join("; ")
            )));
        }
        if !with.is_empty() {
            let along = State::Line(format!("moves along: {}", with.join(", ")));
            track.step(&subject, Action::Migrate, along);
        }
        let ran = guest.status().await?.state;
        let begin = || {
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
        let ended = track.task(&subject, Action::Migrate, begin).await;
        let now = match &ended {
            Ok(_) => Some(guest.status().await?.state),
            Err(_) => guest.status().await.ok().map(|status| status.state),
        };
        if let Err(error) = ended {
            let place = guest.place().await.ok().map(|place| place.node);
            if place.as_ref() == Some(&self.target) {
                track.leave(&subject, &format!("is on node {}", self.target));
            }
            if ran == PowerState::Running && now != Some(PowerState::Running) {
                track.leave(&subject, "ran before and does not now");
            }
            return Err(error);
        }
        if ran == PowerState::Running && now != Some(PowerState::Running) {
            track.leave(&subject, "ran before and does not now");
            return Err(self.refuse("it does not run after its move"));
        }
        if let Err(error) = self.spread(&guest, &later, track).await {
            track.leave(&subject, &format!("is on node {}", self.target));
            return Err(error);
        }
        Ok(moved(&guest, with))
    }
}

/// Another cluster, and how to get in there; see [`RemoteMigration`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    host: String,
    port: Option<u16>,
    token: Secret,
    fingerprint: Option<String>,
}

impl Remote {
    /// A node of the other cluster by its address, and an API token there, as `root@pam!move=…`.
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

    /// SHA-256 of its certificate, unless an authority that this cluster knows signed it.
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

/// A guest in another cluster, as it is wanted; see [`Client::carry_out`]. Proxmox VE calls that experimental.
///
/// Nothing can be found here of what is over there, so that the second time it ends in an error if the guest is gone from
/// this cluster. After a failure the server removes what it made over there, and the guest runs on here.
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
    /// A guest in a cluster, with its disks on one storage and its network cards on one bridge over there. What the source
    /// has stays, stopped, unless [`RemoteMigration::delete_source`] is set.
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

    /// Its number over there, instead of the one it has.
    #[must_use]
    pub fn number(mut self, vmid: u32) -> Self {
        self.number = Some(vmid);
        self
    }

    /// Has what is on one storage here go to another one than the rest.
    #[must_use]
    pub fn map_storage(mut self, from: &str, to: &str) -> Self {
        self.storages.push(format!("{from}:{to}"));
        self
    }

    /// Has the cards of one bridge here go to another one than the rest.
    #[must_use]
    pub fn map_bridge(mut self, from: &str, to: &str) -> Self {
        self.bridges.push(format!("{from}:{to}"));
        self
    }

    /// **Removes the guest here** once it is over there.
    #[must_use]
    pub fn delete_source(mut self) -> Self {
        self.delete = true;
        self
    }

    /// The most that is copied in a second, in KiB.
    #[must_use]
    pub fn bandwidth(mut self, kibibytes: u64) -> Self {
        self.bandwidth = Some(kibibytes);
        self
    }
}

impl Work for RemoteMigration {
    /// The guest's number over there.
    type Done = u32;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<u32, Error> {
        let subject = Subject::Guest(self.vmid);
        let guest = pve.guest(self.vmid);
        let place = guest.locate().await?;
        let before = guest.status().await?;
        let online = before.state == PowerState::Running;
        let number = self.number.unwrap_or(self.vmid);
        let limit = self
            .bandwidth
            .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let begin = || {
            let (endpoint, storages, bridges) = (
                self.to.endpoint(),
                self.storages.clone(),
                self.bridges.clone(),
            );
            let sending: BoxFuture<'static, Result<Task, Error>> = match place.kind {
                Kind::Qemu => {
                    let at = guest.qemu_at(&place).remote_migrate();
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
                    let at = guest.lxc_at(&place).remote_migrate();
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
        let ended = track.task(&subject, Action::Migrate, begin).await;
        if let Err(error) = ended {
            match guest.status().await {
                Ok(status) => {
                    // A lock that was there already is nobody's of this work.
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
