//! Replication jobs.

use crate::client::Client;
use crate::error::Error;
use crate::manage::work::{Action, Ensured, Subject, Track, Work};
use crate::pve::cluster::ClusterReplicationItem;

/// The wanted state of a replication job, which copies a guest's disks to another node regularly.
/// See [`Client::carry_out`]. A guest has at most one job for each node; carried out again, it
/// changes the settings that differ.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationJob {
    vmid: u32,
    target: String,
    settings: ClusterReplicationItem,
}

impl ReplicationJob {
    /// Copies of a guest on a node, made every 15 minutes by default.
    #[must_use]
    pub fn of(vmid: u32, target: impl Into<String>) -> Self {
        Self {
            vmid,
            target: target.into(),
            settings: ClusterReplicationItem::new(),
        }
    }

    /// The schedule, as `*/15` or `02:00`.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Into<String>) -> Self {
        self.settings.schedule = Some(schedule.into());
        self
    }

    /// The limit on its transfer rate, in megabytes per second; at least 1.
    #[must_use]
    pub fn rate(mut self, megabytes: f64) -> Self {
        self.settings.rate = Some(megabytes);
        self
    }

    /// A comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.settings.comment = Some(text.into());
        self
    }

    /// Whether it runs. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.settings.disable = Some(!enabled);
        self
    }
}

impl Work for ReplicationJob {
    type Done = Ensured;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Ensured, Error> {
        let jobs = pve.api().cluster().replication();
        let rows = jobs.get().await?;
        let jobs_of_guest: Vec<_> = rows
            .iter()
            .filter(|job| job.guest == i64::from(self.vmid))
            .collect();
        let subject = Subject::Other(format!("replication of {} to {}", self.vmid, self.target));
        let Some(current) = jobs_of_guest.iter().find(|job| job.target == *self.target) else {
            let number = (0..).find(|number| jobs_of_guest.iter().all(|job| job.jobnum != *number));
            let id = format!("{}-{}", self.vmid, number.unwrap_or_default());
            let desired = ClusterReplicationItem {
                target: self.target.as_str().into(),
                type_: "local".into(),
                id: id.clone(),
                ..self.settings
            };
            let request = jobs
                .post()
                .type_("local")
                .id(id)
                .target(&*self.target)
                .settings(&desired);
            track.act(&subject, Action::Create, request).await?;
            return Ok(Ensured::Created);
        };
        let requested = self.settings;
        let desired = ClusterReplicationItem {
            schedule: requested.schedule.or_else(|| current.schedule.clone()),
            rate: requested.rate.or(current.rate),
            comment: requested.comment.or_else(|| current.comment.clone()),
            // A missing value means off.
            disable: match requested.disable {
                Some(disable) if disable != current.disable.unwrap_or(false) => Some(disable),
                _ => current.disable,
            },
            ..(*current).clone()
        };
        let drift = current.drift(&desired);
        let request = jobs.id(&current.id).put().changes(&drift);
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
