//! Backup jobs, existing backups, guests restored from them, pruning; replication jobs.
//!
//! One backup of one guest is [`Guest::backup`](super::guest::Guest::backup).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::guest::{Guest, Kind, PowerState, Retention, unsigned};
use super::work::{Action, Ensured, State, Subject, Track, Work, WorkError, some_at_once};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::pve::cluster::{BackupJobConfig, ClusterReplicationItem};
use crate::pve::node_storage::NodeStorageContentItem;
use crate::pve::types::PruneBackups;
use crate::task::TaskOutcome;
use crate::value::List;
use crate::value::serialize::{record_serde, variant_serde};

/// The wanted state of a backup job of the cluster; see [`Client::carry_out`]. Needs release 7.1 or
/// newer.
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::backups::BackupJob;
/// use proxmox_api::manage::guest::Retention;
///
/// let nightly = BackupJob::new("nightly", "pbs", "02:30")
///     .all_but([9000])
///     .keep(Retention { daily: 7, weekly: 4, ..Retention::default() })
///     .notes("{{guestname}} on {{node}}");
/// pve.carry_out(nightly.clone()).await?;
/// pve.carry_out(nightly.run_now()).on_step(|step| println!("{step}")).await?;
/// # Ok(())
/// # }
/// ```
///
/// Carried out again, it changes the settings that differ, and the choice of guests as a whole.
/// Settings that are not set here stay.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupJob {
    id: String,
    wanted: BackupJobConfig,
    keep: Option<Retention>,
}

impl BackupJob {
    /// A job of this name that backs guests up to a storage by a schedule, such as `02:30` or `sat
    /// 18:15`. A job without a choice of guests has none, which the server refuses.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        storage: impl Into<String>,
        schedule: impl Into<String>,
    ) -> Self {
        let id = id.into();
        let wanted = BackupJobConfig {
            storage: Some(storage.into().into()),
            schedule: Some(schedule.into()),
            enabled: Some(true),
            ..BackupJobConfig::new(&id)
        };
        Self {
            id,
            wanted,
            keep: None,
        }
    }

    /// Backs up these guests.
    #[must_use]
    pub fn guests(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self.choose();
        self.wanted.vmid = Some(List(vmids.into_iter().collect()));
        self
    }

    /// Backs up all guests.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.choose();
        self.wanted.all = Some(true);
        self
    }

    /// Backs up all guests except these.
    #[must_use]
    pub fn all_but(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self = self.all();
        self.wanted.exclude = Some(List(vmids.into_iter().collect()));
        self
    }

    /// Backs up the guests of a pool.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.choose();
        self.wanted.pool = Some(pool.into());
        self
    }

    fn choose(&mut self) {
        self.wanted.all = None;
        self.wanted.vmid = None;
        self.wanted.exclude = None;
        self.wanted.pool = None;
    }

    /// The backups of a guest to keep after each run; by default the setting of the storage.
    #[must_use]
    pub fn keep(mut self, rule: Retention) -> Self {
        self.keep = Some(rule);
        self
    }

    /// Notes for each backup, with any number of lines and the placeholders of
    /// [`Backup::notes`](super::guest::Backup::notes).
    #[must_use]
    pub fn notes(mut self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().replace("\r\n", "\n").replace('\\', r"\\");
        self.wanted.notes_template = Some(text.replace('\n', r"\n"));
        self
    }

    /// Whether it runs by its schedule. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.wanted.enabled = Some(enabled);
        self
    }

    /// Any other settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut BackupJobConfig)) -> Self {
        change(&mut self.wanted);
        self
    }

    /// Work that runs the job at once, on every online node. The job has to exist, and may be
    /// disabled.
    #[must_use]
    pub fn run_now(&self) -> RunBackupJob {
        RunBackupJob::new(&self.id)
    }

    fn subject(id: &str) -> Subject {
        Subject::Other(format!("backup job {id}"))
    }
}

fn rule_text(rule: &Retention) -> String {
    let parts = [
        ("keep-last", rule.last),
        ("keep-hourly", rule.hourly),
        ("keep-daily", rule.daily),
        ("keep-weekly", rule.weekly),
        ("keep-monthly", rule.monthly),
        ("keep-yearly", rule.yearly),
    ];
    let parts = parts.into_iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = parts.map(|(key, count)| format!("{key}={count}")).collect();
    match parts.is_empty() {
        true => "keep-all=1".to_owned(),
        false => parts.join(","),
    }
}

fn rule_of_text(text: &str) -> Retention {
    let mut rule = Retention::default();
    for (key, count) in text.split(',').filter_map(|part| part.split_once('=')) {
        let slot = match key {
            "keep-last" => &mut rule.last,
            "keep-hourly" => &mut rule.hourly,
            "keep-daily" => &mut rule.daily,
            "keep-weekly" => &mut rule.weekly,
            "keep-monthly" => &mut rule.monthly,
            "keep-yearly" => &mut rule.yearly,
            _ => continue,
        };
        *slot = count.parse().unwrap_or_default();
    }
    rule
}

fn rule_of(job: &BackupJobConfig) -> Retention {
    let Some(rule) = &job.prune_backups else {
        // Some releases return it as one text.
        let text = job
            .extra
            .get("prune-backups")
            .and_then(|text| text.as_str());
        return text.map_or_else(Retention::default, rule_of_text);
    };
    let count = |number: Option<i64>| {
        number
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_default()
    };
    Retention {
        last: count(rule.keep_last),
        hourly: count(rule.keep_hourly),
        daily: count(rule.keep_daily),
        weekly: count(rule.keep_weekly),
        monthly: count(rule.keep_monthly),
        yearly: count(rule.keep_yearly),
    }
}

/// The ways to choose guests that a job uses.
fn choices(job: &BackupJobConfig) -> [bool; 4] {
    [
        job.all == Some(true),
        job.exclude.is_some(),
        job.pool.is_some(),
        job.vmid.is_some(),
    ]
}

impl Work for BackupJob {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        let subject = Self::subject(&self.id);
        let jobs = pve.api().cluster().backup();
        let rule = self
            .keep
            .as_ref()
            .map(|rule| PruneBackups::from(rule_text(rule).as_str()));
        let there = jobs.get().await?;
        let Some(now) = there.iter().find(|job| job.id == self.id) else {
            let request = jobs.post().settings(&self.wanted).prune_backups(rule);
            track.act(&subject, Action::Create, request).await?;
            return Ok(Ensured::Created);
        };
        let drift = now.drift(&self.wanted);
        let mut request = jobs.id(&self.id).put().changes(&drift);
        let mut changed: Vec<String> = drift
            .iter()
            .map(|change| change.name().to_owned())
            .collect();
        let wants = choices(&self.wanted);
        if wants.contains(&true) {
            let keys = ["all", "exclude", "pool", "vmid"];
            for ((key, has), wants) in keys.into_iter().zip(choices(now)).zip(wants) {
                if has && !wants {
                    request.0.call.unset(key.to_owned());
                    changed.push(key.to_owned());
                }
            }
        }
        if let (Some(rule), Some(wanted)) = (rule, self.keep)
            && rule_of(now) != wanted
        {
            request = request.prune_backups(rule);
            changed.push("prune-backups".to_owned());
        }
        if changed.is_empty() {
            track.found(&subject, Action::Configure);
            return Ok(Ensured::Found);
        }
        track.act(&subject, Action::Configure, request).await?;
        Ok(Ensured::Changed(changed))
    }
}

/// Runs a backup job at once; made by [`BackupJob::run_now`]. Returns the result for each node that
/// had guests to back up.
///
/// If it fails on a node, the others continue to their end; their backups stay, and
/// [`UnfinishedError::left`](super::work::UnfinishedError::left) names those nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBackupJob {
    id: String,
}

impl RunBackupJob {
    /// The job of this name.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into() }
    }
}

impl Work for RunBackupJob {
    type Done = Vec<(String, TaskOutcome)>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Self::Done, Error> {
        let jobs = pve.api().cluster().backup().get().await?;
        let Some(job) = jobs.into_iter().find(|job| job.id == self.id) else {
            let subject = BackupJob::subject(&self.id);
            return Err(WorkError::new(subject, "the job does not exist").into());
        };
        let rule = rule_of(&job);
        let rule =
            (rule != Retention::default()).then(|| PruneBackups::from(rule_text(&rule).as_str()));
        // A run takes no settings about the time of the job.
        let plain = BackupJobConfig {
            id: String::new(),
            comment: None,
            enabled: None,
            next_run: None,
            node: None,
            repeat_missed: None,
            schedule: None,
            type_: None,
            prune_backups: None,
            extra: Default::default(),
            ..job.clone()
        };
        let nodes = reachable_nodes(pve, track, Action::BackUp).await?;
        let nodes = nodes
            .into_iter()
            .filter(|node| job.node.as_ref().is_none_or(|own| own.as_str() == node));
        let one = |node: String| {
            let (plain, rule) = (&plain, rule.clone());
            async move {
                let subject = Subject::Node(node.clone());
                // A node without guests of the job starts no task.
                let started = AtomicBool::new(false);
                let begin = || {
                    let at = pve.api().nodes().node(&node).vzdump();
                    let mut request = at.post().prune_backups(rule.clone());
                    for change in &BackupJobConfig::new("").diff(plain) {
                        if let Some(value) = change.after() {
                            let name = change.name().to_owned();
                            request.0.call.put_value(name.into(), value.clone());
                        }
                    }
                    let started = &started;
                    async move {
                        let task = request.await?;
                        started.store(!task.is_done(), Ordering::Relaxed);
                        Ok::<_, Error>(task)
                    }
                };
                let outcome = track.task(&subject, Action::BackUp, begin).await?;
                if !started.into_inner() {
                    track.found(&subject, Action::BackUp);
                    return Ok(None);
                }
                track.leave(&subject, "made its backups");
                Ok(Some((node, outcome)))
            }
        };
        match some_at_once(usize::MAX, nodes, one).await {
            (done, None) => Ok(done.into_iter().flatten().collect()),
            (_, Some(error)) => Err(error),
        }
    }
}

/// The nodes that are online, and a step for each that is not.
pub(crate) async fn reachable_nodes(
    pve: &Client,
    track: &Track<'_>,
    action: Action,
) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for node in pve.api().nodes().get().await? {
        let name = node.node.to_string();
        if node.status.as_str() == "online" {
            names.push(name);
        } else {
            let away = State::Failed("the node is offline".to_owned());
            track.step(&Subject::Node(name), action, away);
        }
    }
    names.sort();
    Ok(names)
}

/// A backup on a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// A node that the storage can be read from.
    pub node: String,
    /// Its volume, as `local:backup/vzdump-qemu-101-2026_11_21-02_00_00.vma.zst`.
    pub volume: String,
    /// The kind of the guest; `None` if the server does not say.
    pub kind: Option<Kind>,
    /// The guest's number.
    pub vmid: u32,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The first line of its notes.
    pub notes: Option<String>,
    /// Whether it is protected from being pruned or removed.
    pub protected: bool,
    /// Whether a backup server found it intact at its last verification; `None` if there was none.
    pub verified: Option<bool>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

record_serde!(Archive {
    node,
    volume,
    kind,
    vmid,
    time,
    size,
    notes,
    protected,
    verified,
    encrypted,
});

impl Archive {
    fn of(node: &str, row: NodeStorageContentItem) -> Option<Self> {
        let volume = row.volid.to_string();
        let kind = match row.subtype.as_deref() {
            Some(kind) => Kind::read(kind),
            None if volume.contains("vzdump-qemu-") || volume.contains("backup/vm/") => {
                Some(Kind::Qemu)
            }
            None if volume.contains("vzdump-lxc-") || volume.contains("backup/ct/") => {
                Some(Kind::Lxc)
            }
            None => None,
        };
        Some(Self {
            node: node.to_owned(),
            kind,
            vmid: row.vmid?,
            time: unsigned(row.ctime),
            size: row.size.unwrap_or_default(),
            notes: row.notes,
            protected: row.protected == Some(true),
            verified: (row.verification.and_then(|found| found.state)).map(|state| state == "ok"),
            encrypted: row.encrypted.is_some(),
            volume,
        })
    }

    fn storage(&self) -> &str {
        self.volume.split(':').next().unwrap_or_default()
    }

    /// Protects it from being pruned or removed, or ends that.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn protect(&self, pve: &Client, protected: bool) -> Result<(), Error> {
        let at = pve
            .api()
            .nodes()
            .node(&self.node)
            .storage()
            .storage(self.storage());
        at.content()
            .volume(&self.volume)
            .put()
            .protected(protected)
            .await
    }

    /// The guest's configuration in it: `GET /nodes/{node}/vzdump/extractconfig`. Reading it proves
    /// that the archive can be opened.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn config(&self, pve: &Client) -> Result<String, Error> {
        let at = pve.api().nodes().node(&self.node).vzdump().extractconfig();
        at.get(&self.volume).await
    }
}

/// The backups of a guest that meet conditions; see [`Client::carry_out`], which returns them with
/// the newest first. Looks at every storage for backups of every online node; an offline node is a
/// failed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindBackups {
    vmid: u32,
    storage: Option<String>,
    since: u64,
    before: u64,
    protected: bool,
    verified: bool,
    notes: Option<String>,
}

impl FindBackups {
    /// All backups of a guest, whether it still exists or not.
    #[must_use]
    pub fn of(vmid: u32) -> Self {
        Self {
            vmid,
            storage: None,
            since: 0,
            before: u64::MAX,
            protected: false,
            verified: false,
            notes: None,
        }
    }

    /// Only those on this storage.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// Only those made at this time or later, in seconds since 1970.
    #[must_use]
    pub fn since(mut self, time: u64) -> Self {
        self.since = time;
        self
    }

    /// Only those made before this time, in seconds since 1970.
    #[must_use]
    pub fn before(mut self, time: u64) -> Self {
        self.before = time;
        self
    }

    /// Only those that are protected.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    /// Only those that a backup server found intact.
    #[must_use]
    pub fn verified(mut self) -> Self {
        self.verified = true;
        self
    }

    /// Only those with this text in the first line of their notes.
    #[must_use]
    pub fn notes_with(mut self, text: impl Into<String>) -> Self {
        self.notes = Some(text.into());
        self
    }

    fn wants(&self, archive: &Archive) -> bool {
        archive.vmid == self.vmid
            && (self.since..self.before).contains(&archive.time)
            && (archive.protected || !self.protected)
            && (archive.verified == Some(true) || !self.verified)
            && (self.notes.as_ref())
                .is_none_or(|text| archive.notes.as_ref().is_some_and(|own| own.contains(text)))
    }
}

impl Work for FindBackups {
    type Done = Vec<Archive>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Vec<Archive>, Error> {
        let mut found = Vec::new();
        let mut shared = BTreeSet::new();
        for node in reachable_nodes(pve, track, Action::Check).await? {
            let at = pve.api().nodes().node(&node).storage();
            for storage in at.get().content(["backup"]).enabled(true).await? {
                let name = storage.storage.to_string();
                let other = self.storage.as_ref().is_some_and(|only| *only != name);
                if other || storage.active == Some(false) || shared.contains(&name) {
                    continue;
                }
                let content = at.storage(&name).content().get();
                let rows = content.content("backup").vmid(self.vmid).await?;
                let archives = rows.into_iter().filter_map(|row| Archive::of(&node, row));
                found.extend(archives.filter(|archive| self.wants(archive)));
                if storage.shared == Some(true) {
                    shared.insert(name);
                }
            }
        }
        found.sort_by(|a, b| (b.time, &b.volume).cmp(&(a.time, &a.volume)));
        Ok(found)
    }
}

/// A guest restored from a backup; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::backups::{FindBackups, Recover};
///
/// let newest = FindBackups::of(101).storage("pbs").verified();
/// let copy = pve.carry_out(Recover::newest(newest.clone()).to(901).unique().started()).await?;
/// let same = pve.carry_out(Recover::newest(newest).replace()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Made again
///
/// If the guest of the backup exists under its number, it is found and left alone, unless it is to
/// be replaced: a virtual machine by the identifier of its BIOS, a container by the addresses of
/// its network cards. [`Recover::unique`] makes new ones, so a taken number is an error then.
///
/// # What a failure leaves
///
/// The server removes a guest that it could not restore. The disks of a guest that was to be
/// replaced may be gone by then; [`UnfinishedError::left`](super::work::UnfinishedError::left)
/// names it, even if it was only stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Recover {
    from: From,
    to: Option<u32>,
    node: Option<String>,
    storage: Option<String>,
    replace: bool,
    unique: bool,
    start: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum From {
    Newest(FindBackups),
    Archive(Box<Archive>),
}

impl Recover {
    /// From the newest of these backups.
    #[must_use]
    pub fn newest(backups: FindBackups) -> Self {
        Self::from(From::Newest(backups))
    }

    /// From this backup.
    #[must_use]
    pub fn archive(archive: Archive) -> Self {
        Self::from(From::Archive(Box::new(archive)))
    }

    fn from(from: From) -> Self {
        Self {
            from,
            to: None,
            node: None,
            storage: None,
            replace: false,
            unique: false,
            start: false,
        }
    }

    /// The number of the new guest, instead of its own.
    #[must_use]
    pub fn to(mut self, vmid: u32) -> Self {
        self.to = Some(vmid);
        self
    }

    /// The node of the new guest; by default that of the guest that is replaced, or one that can
    /// read the backup.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The storage of its disks, instead of the original ones. The server puts all disks of a
    /// container on one storage: by default, that of its root file system.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// **Replaces the guest** that has the number; one that runs is stopped first.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Gives it new addresses and identifiers, so that it can run beside the original.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Starts it.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start = true;
        self
    }
}

/// The values in the text of a configuration that identify a guest.
fn marks(config: &str) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    // The text after the first `[` belongs to snapshots.
    for line in config.lines().take_while(|line| !line.starts_with('[')) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if key == "smbios1" || key == "vmgenid" {
            let uuid = value.split([',', '=']).find(|part| part.trim().len() == 36);
            marks.extend(
                uuid.filter(|_| key == "smbios1")
                    .map(|uuid| uuid.trim().to_owned()),
            );
        } else if key.starts_with("net") {
            let mac = value
                .split(',')
                .filter_map(|part| Some(part.split_once('=')?.1));
            marks.extend(
                mac.filter(|mac| mac.len() == 17)
                    .map(str::to_ascii_lowercase),
            );
        }
    }
    marks
}

impl Recover {
    async fn is_of(&self, guest: &Guest, config: &str) -> Result<bool, Error> {
        let mut text = String::new();
        let mut add = |key: &str, value: Option<String>| {
            text.extend(value.map(|value| format!("{key}: {value}\n")));
        };
        match guest.place().await?.kind {
            Kind::Qemu => {
                let config = guest.qemu_config().await?;
                add("smbios1", config.smbios1.as_ref().map(ToString::to_string));
            }
            Kind::Lxc => {
                for (_, card) in guest.lxc_config().await?.net.iter() {
                    add("net0", Some(card.to_string()));
                }
            }
        }
        let wanted = marks(config);
        Ok(marks(&text).iter().any(|mark| wanted.contains(mark)))
    }
}

impl Work for Recover {
    type Done = Guest;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Guest, Error> {
        let archive = match &self.from {
            From::Archive(archive) => (**archive).clone(),
            From::Newest(backups) => {
                let subject = Subject::Guest(backups.vmid);
                let found = backups.clone().run(pve, track).await?;
                let newest = found.into_iter().next();
                newest.ok_or_else(|| {
                    WorkError::new(subject, "there is no such backup of this guest")
                })?
            }
        };
        let subject = Subject::Volume(archive.volume.clone());
        let config = track
            .act(&subject, Action::Check, archive.config(pve))
            .await?;
        let Some(kind) = archive.kind else {
            return Err(WorkError::new(subject, "the guest of the backup is unknown").into());
        };
        let vmid = self.to.unwrap_or(archive.vmid);
        let subject = Subject::Guest(vmid);
        let there = match pve.guest(vmid).locate().await {
            Ok(place) => Some(place),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => None,
            Err(error) => return Err(error),
        };
        let patient = |guest: Guest| match track.locks() {
            Some(patience) => guest.wait_for_locks(patience),
            None => guest,
        };
        let guest = match there {
            Some(place) if !self.replace => {
                let guest = patient(pve.guest(vmid));
                if self.unique || place.kind != kind || !self.is_of(&guest, &config).await? {
                    let problem = "another guest has this number, and replacing it is not allowed";
                    return Err(WorkError::new(subject, problem).into());
                }
                track.found(&subject, Action::Restore);
                guest
            }
            there => {
                if let Some(place) = &there {
                    if place.kind != kind {
                        let problem = "the number belongs to a guest of the other kind";
                        return Err(WorkError::new(subject, problem).into());
                    }
                    let old = patient(pve.guest(vmid));
                    if old.status().await?.state != PowerState::Stopped {
                        track.task(&subject, Action::Stop, || old.stop()).await?;
                        track.leave(&subject, "was stopped");
                    }
                }
                let node = match (&self.node, &there) {
                    (Some(node), _) => node.clone(),
                    (None, Some(place)) => place.node.clone(),
                    (None, None) => archive.node.clone(),
                };
                let root = || {
                    let mut lines = config.lines().take_while(|line| !line.starts_with('['));
                    let root = lines.find_map(|line| line.strip_prefix("rootfs:"))?;
                    Some(root.trim().split_once(':')?.0.to_owned())
                };
                let storage = match kind {
                    Kind::Lxc => self.storage.clone().or_else(root),
                    Kind::Qemu => self.storage.clone(),
                };
                let begin = || {
                    let mut restore = pve.restore(&node, kind, vmid, &archive.volume);
                    if let Some(storage) = &storage {
                        restore = restore.storage(storage);
                    }
                    if there.is_some() {
                        restore = restore.overwrite();
                    }
                    match self.unique {
                        true => restore.unique(),
                        false => restore,
                    }
                };
                if there.is_some() {
                    track.leave(&subject, "was being replaced; its disks may be lost");
                }
                track.task(&subject, Action::Restore, begin).await?;
                track.settle(&subject);
                track.leave(&subject, "was restored, but not set up completely");
                patient(pve.guest_at(vmid, node, kind))
            }
        };
        if self.start {
            track.start(&subject, &guest, true).await?;
        }
        Ok(guest)
    }
}

/// Applies a pruning rule to the backups of a storage; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::backups::{PruneOutcome, Prune};
/// use proxmox_api::manage::guest::Retention;
///
/// let rule = Retention { last: 3, ..Retention::default() };
/// for (volume, fate) in pve.carry_out(Prune::of("pve1", "local", rule).dry_run()).await? {
///     if fate == PruneOutcome::Remove {
///         println!("{volume} would go");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    node: String,
    storage: String,
    rule: Retention,
    vmid: Option<u32>,
    dry: bool,
}

/// The result of a pruning rule for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PruneOutcome {
    /// The rule keeps it.
    Keep,
    /// The rule removes it.
    Remove,
    /// It stays, because it is protected, or was renamed so that no rule applies to it.
    Exempt,
}

variant_serde!(PruneOutcome {
    Keep = "keep",
    Remove = "remove",
    Exempt = "exempt",
});

impl fmt::Display for PruneOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Exempt => "exempt",
        })
    }
}

impl Prune {
    /// The backups of a storage as a node sees it. **Those that the rule does not keep are removed.**
    #[must_use]
    pub fn of(node: impl Into<String>, storage: impl Into<String>, keep: Retention) -> Self {
        Self {
            node: node.into(),
            storage: storage.into(),
            rule: keep,
            vmid: None,
            dry: false,
        }
    }

    /// Only those of this guest.
    #[must_use]
    pub fn guest(mut self, vmid: u32) -> Self {
        self.vmid = Some(vmid);
        self
    }

    /// Only reports the result of the rule.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry = true;
        self
    }
}

impl Work for Prune {
    type Done = Vec<(String, PruneOutcome)>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Self::Done, Error> {
        let at = pve
            .api()
            .nodes()
            .node(&self.node)
            .storage()
            .storage(&self.storage);
        let at = at.prunebackups();
        let rule = || PruneBackups::from(rule_text(&self.rule).as_str());
        let rows = at.get().prune_backups(rule()).vmid(self.vmid).await?;
        let fates: Self::Done = (rows.into_iter())
            .map(|row| {
                let fate = match row.mark.as_ref().map(|mark| mark.as_str()) {
                    Some("keep") => PruneOutcome::Keep,
                    Some("remove") => PruneOutcome::Remove,
                    _ => PruneOutcome::Exempt,
                };
                (row.volid.to_string(), fate)
            })
            .collect();
        if self.dry || !fates.iter().any(|(_, fate)| *fate == PruneOutcome::Remove) {
            return Ok(fates);
        }
        let subject = Subject::Other(format!("backups on {}", self.storage));
        let begin = || at.delete().prune_backups(rule()).vmid(self.vmid);
        track.task(&subject, Action::Remove, begin).await?;
        Ok(fates)
    }
}

/// The wanted state of a replication job, which copies a guest's disks to another node regularly.
/// See [`Client::carry_out`]. A guest has at most one job for each node; carried out again, it
/// changes the settings that differ.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationJob {
    vmid: u32,
    target: String,
    wanted: ClusterReplicationItem,
}

impl ReplicationJob {
    /// Copies of a guest on a node, made every 15 minutes by default.
    #[must_use]
    pub fn of(vmid: u32, target: impl Into<String>) -> Self {
        Self {
            vmid,
            target: target.into(),
            wanted: ClusterReplicationItem::new(),
        }
    }

    /// The schedule, as `*/15` or `02:00`.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Into<String>) -> Self {
        self.wanted.schedule = Some(schedule.into());
        self
    }

    /// The limit on its transfer rate, in megabytes per second; at least 1.
    #[must_use]
    pub fn rate(mut self, megabytes: f64) -> Self {
        self.wanted.rate = Some(megabytes);
        self
    }

    /// A comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.wanted.comment = Some(text.into());
        self
    }

    /// Whether it runs. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.wanted.disable = Some(!enabled);
        self
    }
}

impl Work for ReplicationJob {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        let jobs = pve.api().cluster().replication();
        let rows = jobs.get().await?;
        let own: Vec<_> = rows
            .iter()
            .filter(|job| job.guest == i64::from(self.vmid))
            .collect();
        let subject = Subject::Other(format!("replication of {} to {}", self.vmid, self.target));
        let Some(now) = own.iter().find(|job| job.target == *self.target) else {
            let number = (0..).find(|number| own.iter().all(|job| job.jobnum != *number));
            let id = format!("{}-{}", self.vmid, number.unwrap_or_default());
            let wanted = ClusterReplicationItem {
                target: self.target.as_str().into(),
                type_: "local".into(),
                id: id.clone(),
                ..self.wanted
            };
            let request = jobs
                .post()
                .type_("local")
                .id(id)
                .target(&*self.target)
                .settings(&wanted);
            track.act(&subject, Action::Create, request).await?;
            return Ok(Ensured::Created);
        };
        let said = self.wanted;
        let wanted = ClusterReplicationItem {
            schedule: said.schedule.or_else(|| now.schedule.clone()),
            rate: said.rate.or(now.rate),
            comment: said.comment.or_else(|| now.comment.clone()),
            // A missing value means off.
            disable: match said.disable {
                Some(disable) if disable != now.disable.unwrap_or(false) => Some(disable),
                _ => now.disable,
            },
            ..(*now).clone()
        };
        let drift = now.drift(&wanted);
        let request = jobs.id(&now.id).put().changes(&drift);
        let changed: Vec<String> = drift
            .iter()
            .map(|change| change.name().to_owned())
            .collect();
        if changed.is_empty() {
            track.found(&subject, Action::Configure);
            return Ok(Ensured::Found);
        }
        track.act(&subject, Action::Configure, request).await?;
        Ok(Ensured::Changed(changed))
    }
}
