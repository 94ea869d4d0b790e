//! Backup jobs of the cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use super::archive::reachable_nodes;
use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::Retention;
use crate::manage::work::{Action, Ensured, Subject, Track, Work, WorkError, some_at_once};
use crate::pve::cluster::BackupJobConfig;
use crate::pve::types::PruneBackups;
use crate::task::TaskOutcome;
use crate::value::List;

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
    settings: BackupJobConfig,
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
        let settings = BackupJobConfig {
            storage: Some(storage.into().into()),
            schedule: Some(schedule.into()),
            enabled: Some(true),
            ..BackupJobConfig::new(&id)
        };
        Self {
            id,
            settings,
            keep: None,
        }
    }

    /// Backs up these guests.
    #[must_use]
    pub fn guests(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self.choose();
        self.settings.vmid = Some(List(vmids.into_iter().collect()));
        self
    }

    /// Backs up all guests.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.choose();
        self.settings.all = Some(true);
        self
    }

    /// Backs up all guests except these.
    #[must_use]
    pub fn all_but(mut self, vmids: impl IntoIterator<Item = u32>) -> Self {
        self = self.all();
        self.settings.exclude = Some(List(vmids.into_iter().collect()));
        self
    }

    /// Backs up the guests of a pool.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.choose();
        self.settings.pool = Some(pool.into());
        self
    }

    fn choose(&mut self) {
        self.settings.all = None;
        self.settings.vmid = None;
        self.settings.exclude = None;
        self.settings.pool = None;
    }

    /// The backups of a guest to keep after each run; by default the setting of the storage.
    #[must_use]
    pub fn keep(mut self, rule: Retention) -> Self {
        self.keep = Some(rule);
        self
    }

    /// Notes for each backup, with any number of lines and the placeholders of
    /// [`Backup::notes`](crate::manage::guest::Backup::notes).
    #[must_use]
    pub fn notes(mut self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().replace("\r\n", "\n").replace('\\', r"\\");
        self.settings.notes_template = Some(text.replace('\n', r"\n"));
        self
    }

    /// Whether it runs by its schedule. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.settings.enabled = Some(enabled);
        self
    }

    /// Any other settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut BackupJobConfig)) -> Self {
        change(&mut self.settings);
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

pub(super) fn rule_text(rule: &Retention) -> String {
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
        let existing = jobs.get().await?;
        let Some(current) = existing.iter().find(|job| job.id == self.id) else {
            let request = jobs.post().settings(&self.settings).prune_backups(rule);
            track.act(&subject, Action::Create, request).await?;
            return Ok(Ensured::Created);
        };
        let drift = current.drift(&self.settings);
        let mut request = jobs.id(&self.id).put().changes(&drift);
        let mut changed: Vec<String> = drift
            .iter()
            .map(|change| change.name().to_owned())
            .collect();
        let wants = choices(&self.settings);
        if wants.contains(&true) {
            let keys = ["all", "exclude", "pool", "vmid"];
            for ((key, has), wants) in keys.into_iter().zip(choices(current)).zip(wants) {
                if has && !wants {
                    request.0.call.unset(key.to_owned());
                    changed.push(key.to_owned());
                }
            }
        }
        if let (Some(rule), Some(desired)) = (rule, self.keep)
            && rule_of(current) != desired
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
/// [`UnfinishedError::left`](crate::manage::work::UnfinishedError::left) names those nodes.
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
        let only = job.node.as_ref().map(|node| node.as_str());
        let nodes = reachable_nodes(pve, track, Action::BackUp, only).await?;
        let one = |node: String| {
            let (plain, rule) = (&plain, rule.clone());
            async move {
                let subject = Subject::Node(node.clone());
                // A node without guests of the job starts no task.
                let started = AtomicBool::new(false);
                let start_task = || {
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
                let outcome = track.task(&subject, Action::BackUp, start_task).await?;
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
