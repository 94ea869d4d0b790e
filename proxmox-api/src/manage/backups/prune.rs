//! Pruning of backups.

use std::fmt;

use super::job::rule_text;
use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::Retention;
use crate::manage::work::{Action, Subject, Track, Work};
use crate::pve::types::PruneBackups;
use crate::value::serialize::variant_serde;

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
        let outcomes: Self::Done = (rows.into_iter())
            .map(|row| {
                let outcome = match row.mark.as_ref().map(|mark| mark.as_str()) {
                    Some("keep") => PruneOutcome::Keep,
                    Some("remove") => PruneOutcome::Remove,
                    _ => PruneOutcome::Exempt,
                };
                (row.volid.to_string(), outcome)
            })
            .collect();
        if self.dry
            || !outcomes
                .iter()
                .any(|(_, outcome)| *outcome == PruneOutcome::Remove)
        {
            return Ok(outcomes);
        }
        let subject = Subject::Other(format!("backups on {}", self.storage));
        let start_task = || at.delete().prune_backups(rule()).vmid(self.vmid);
        track.task(&subject, Action::Remove, start_task).await?;
        Ok(outcomes)
    }
}
