//! Draining of nodes, and rolling reboots of clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::guest::PowerState;
use super::ha::HaView;
use super::inventory::{Inventory, Resource, ResourceType};
use super::migration::Migration;
use super::work::{Action, State, Subject, Track, Work, WorkError, some_at_once};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::task::PollSchedule;
use crate::value::serialize::record_serde;

/// A node without running guests; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::maintenance::Drain;
///
/// let drain = Drain::of("pve1").at_once(2);
/// println!("{}", drain.plan(&pve).await?);
/// let drained = pve.carry_out(drain).on_step(|step| println!("{step}")).await?;
/// // … work on the node …
/// pve.carry_out(drained.back()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Where guests go
///
/// The largest guests move first, each to the node with the most free memory among those that the
/// server, its storages and the rules of high availability allow. High availability moves the
/// guests that it manages; guests that must run together move to the same node. [`Drain::plan`]
/// shows the moves beforehand.
///
/// If a guest can move nowhere, the work ends before anything is done, unless [`Drain::leave_rest`]
/// or [`Drain::stop_rest`] is set.
///
/// # What a failure leaves
///
/// After a failure no further guest is moved; moves in progress are finished. Moved guests stay on
/// their new nodes, and [`UnfinishedError::left`](super::work::UnfinishedError::left) names them.
/// Carried out again, it moves the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    node: String,
    at_once: usize,
    targets: Option<Vec<String>>,
    rest: Rest,
    stopped_too: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Refuse,
    Leave,
    Stop(Duration),
}

/// The plan of [`Drain`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainPlan {
    /// The node to drain.
    pub node: String,
    /// The guests that move, in this order.
    pub moves: Vec<PlannedMove>,
    /// The guests that can move nowhere, with the reasons.
    pub stays: Vec<(u32, Vec<String>)>,
}

record_serde!(DrainPlan { node, moves, stays });

/// One guest's move.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedMove {
    /// The guest's number.
    pub vmid: u32,
    /// Its name.
    pub name: String,
    /// The target node.
    pub to: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether high availability moves it.
    pub by_ha: bool,
}

record_serde!(PlannedMove {
    vmid,
    name,
    to,
    running,
    by_ha,
});

/// A drained node, and the new nodes of its guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The node.
    pub node: String,
    /// The guests that were moved, each with its new node.
    pub moved: Vec<(u32, String)>,
    /// The guests that were stopped.
    pub stopped: Vec<u32>,
    /// The guests that were left running.
    pub left: Vec<u32>,
}

record_serde!(Drained {
    node,
    moved,
    stopped,
    left,
});

impl Drain {
    /// A node without running guests.
    #[must_use]
    pub fn of(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            at_once: 2,
            targets: None,
            rest: Rest::Refuse,
            stopped_too: false,
        }
    }

    /// The maximum of moves at the same time; 2 by default, at least 1.
    #[must_use]
    pub fn at_once(mut self, guests: usize) -> Self {
        self.at_once = guests;
        self
    }

    /// The allowed target nodes; all others by default.
    #[must_use]
    pub fn to<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.targets = Some(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves guests that can move nowhere running where they are.
    #[must_use]
    pub fn leave_rest(mut self) -> Self {
        self.rest = Rest::Leave;
        self
    }

    /// Shuts down guests that can move nowhere, and stops them after this time.
    #[must_use]
    pub fn stop_rest(mut self, patience: Duration) -> Self {
        self.rest = Rest::Stop(patience);
        self
    }

    /// Also moves guests that do not run.
    #[must_use]
    pub fn stopped_too(mut self) -> Self {
        self.stopped_too = true;
        self
    }

    /// The present plan.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn plan(&self, pve: &Client) -> Result<DrainPlan, Error> {
        let inventory = Inventory::fetch(pve).await?;
        // Without the privilege to read it, the drain works without high availability.
        let ha = match HaView::fetch(pve).await {
            Err(error) if error.kind() == Some(ErrorKind::PermissionDenied) => HaView::default(),
            read => read?,
        };
        let mut guests: Vec<&Resource> = (inventory.resources.iter())
            .filter(|row| row.resource_type == ResourceType::Vm)
            .filter(|row| row.node.as_ref() == Some(&self.node) && !row.template)
            .filter(|row| self.stopped_too || row.status.as_deref() == Some("running"))
            .collect();
        guests.sort_by_key(|row| (std::cmp::Reverse(row.max_memory), row.vmid));
        let mut free_memory: BTreeMap<String, u64> = (inventory.capacity().into_iter())
            .filter(|(name, node)| *name != self.node && node.online)
            .filter(|(name, _)| {
                self.targets
                    .as_ref()
                    .is_none_or(|targets| targets.contains(name))
            })
            .map(|(name, node)| (name, node.memory_left()))
            .collect();
        let mut plan = DrainPlan {
            node: self.node.clone(),
            moves: Vec::new(),
            stays: Vec::new(),
        };
        for row in guests {
            let Some(vmid) = row.vmid else {
                continue;
            };
            let running = row.status.as_deref() == Some("running");
            let choice = self
                .choose(pve, &inventory, &ha, &plan, &free_memory, vmid)
                .await?;
            match choice {
                Ok(to) => {
                    if let Some(left) = free_memory.get_mut(&to).filter(|_| running) {
                        *left = left.saturating_sub(row.max_memory);
                    }
                    plan.moves.push(PlannedMove {
                        vmid,
                        name: row.name().to_owned(),
                        to,
                        running,
                        by_ha: row
                            .ha_state
                            .as_deref()
                            .is_some_and(|state| state != "ignored"),
                    });
                }
                Err(reasons) => plan.stays.push((vmid, reasons)),
            }
        }
        Ok(plan)
    }

    /// The target node of a guest, or the reason why there is none.
    async fn choose(
        &self,
        pve: &Client,
        inventory: &Inventory,
        ha: &HaView,
        plan: &DrainPlan,
        free_memory: &BTreeMap<String, u64>,
        vmid: u32,
    ) -> Result<Result<String, Vec<String>>, Error> {
        let guest = pve.guest(vmid);
        let managed = ha.guests.get(&vmid).cloned().unwrap_or_default();
        let storages = guest.storages().await?;
        let mut reasons = BTreeSet::new();
        let mut fitting = Vec::new();
        for (node, left) in free_memory {
            let lacks: Vec<&str> = (storages.iter())
                .filter(|storage| {
                    let mut rows = inventory.resources.iter();
                    !rows.any(|row| {
                        row.resource_type == ResourceType::Storage
                            && row.storage.as_ref() == Some(storage)
                            && row.node.as_ref() == Some(node)
                    })
                })
                .map(String::as_str)
                .collect();
            if !lacks.is_empty() {
                reasons.insert(format!("{node} lacks the storages {}", lacks.join(", ")));
                continue;
            }
            if !ha.allows(vmid, node) {
                reasons.insert(format!("high availability keeps it away from {node}"));
                continue;
            }
            let planned = |other: &u32| plan.moves.iter().find(|planned| planned.vmid == *other);
            let here = |other: &u32| {
                let mut rows = inventory.resources.iter();
                rows.any(|row| row.vmid == Some(*other) && row.node.as_ref() == Some(node))
            };
            if managed.apart.iter().any(|other| match planned(other) {
                Some(other) => other.to == *node,
                None => here(other),
            }) {
                reasons.insert(format!(
                    "a guest that must run on another node is on {node}"
                ));
                continue;
            }
            let bound = managed.together.iter().filter_map(planned);
            if bound.into_iter().any(|other| other.to != *node) {
                continue;
            }
            let preferred = managed
                .nodes
                .as_ref()
                .and_then(|nodes| nodes.priorities.get(node));
            fitting.push((
                preferred.map(|priority| priority + 1).unwrap_or(0),
                *left,
                node,
            ));
        }
        // Saves a call that would not change anything.
        if fitting.is_empty() {
            if reasons.is_empty() {
                reasons.insert("there is no other node".to_owned());
            }
            return Ok(Err(reasons.into_iter().collect()));
        }
        fitting.sort_by(|a, b| (b.0, b.1, a.2).cmp(&(a.0, a.1, b.2)));
        let first = fitting
            .first()
            .map(|(_, _, node)| (*node).clone())
            .unwrap_or_default();
        let check = guest.check_migration(&first).await?;
        for (_, _, node) in fitting {
            let against = check.reasons(node);
            if against.is_empty() {
                return Ok(Ok(node.clone()));
            }
            reasons.extend(
                against
                    .into_iter()
                    .map(|reason| format!("{node}: {reason}")),
            );
        }
        Ok(Err(reasons.into_iter().collect()))
    }
}

impl fmt::Display for DrainPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {} to move", self.node, self.moves.len())?;
        for planned in &self.moves {
            let PlannedMove { vmid, name, to, .. } = planned;
            let how = match (planned.running, planned.by_ha) {
                (_, true) => ", by high availability",
                (true, false) => "",
                (false, false) => ", stopped",
            };
            write!(f, "\n  guest {vmid} ({name}) to {to}{how}")?;
        }
        for (vmid, reasons) in &self.stays {
            write!(f, "\n  guest {vmid} cannot move: {}", reasons.join("; "))?;
        }
        Ok(())
    }
}

impl Work for Drain {
    type Done = Drained;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Drained, Error> {
        let plan = self.plan(pve).await?;
        if let (Rest::Refuse, Some((vmid, reasons))) = (self.rest, plan.stays.first()) {
            let problem = format!("cannot leave {}: {}", self.node, reasons.join("; "));
            return Err(WorkError::new(Subject::Guest(*vmid), problem).into());
        }
        let one = |planned: PlannedMove| async move {
            let migration = Migration::of(planned.vmid, &planned.to);
            migration.run(pve, track).await?;
            let moved = format!("was moved to {}", planned.to);
            track.leave(&Subject::Guest(planned.vmid), &moved);
            Ok((planned.vmid, planned.to))
        };
        let (moved, failure) = some_at_once(self.at_once, plan.moves, one).await;
        if let Some(error) = failure {
            return Err(error);
        }
        let mut drained = Drained {
            node: self.node,
            moved,
            ..Drained::default()
        };
        for (vmid, _) in plan.stays {
            let Rest::Stop(patience) = self.rest else {
                let stays = State::Failed("it stays on its node".to_owned());
                track.step(&Subject::Guest(vmid), Action::Migrate, stays);
                drained.left.push(vmid);
                continue;
            };
            let guest = pve.guest(vmid);
            if guest.status().await?.state == PowerState::Stopped {
                continue;
            }
            let subject = Subject::Guest(vmid);
            let start_task = || guest.shutdown().or_stop_after(patience);
            track.task(&subject, Action::Stop, start_task).await?;
            track.leave(&subject, "was stopped");
            drained.stopped.push(vmid);
        }
        Ok(drained)
    }
}

impl Drained {
    /// Work that moves the guests back, and starts those that were stopped.
    #[must_use]
    pub fn back(&self) -> MoveBack {
        MoveBack {
            drained: self.clone(),
            at_once: 2,
        }
    }
}

/// Moves the guests of a drained node back; made by [`Drained::back`]. Guests that are back already
/// are found, removed ones are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveBack {
    drained: Drained,
    at_once: usize,
}

impl MoveBack {
    /// The maximum of moves at the same time; 2 by default, at least 1.
    #[must_use]
    pub fn at_once(mut self, guests: usize) -> Self {
        self.at_once = guests;
        self
    }
}

impl Work for MoveBack {
    type Done = ();

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<(), Error> {
        let node = &self.drained.node;
        let one = |(vmid, from): (u32, String)| async move {
            let subject = Subject::Guest(vmid);
            match Migration::of(vmid, node).run(pve, track).await {
                Ok(_) => {
                    track.settle(&subject);
                    Ok(())
                }
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => {
                    track.step(&subject, Action::Migrate, State::Failed(error.to_string()));
                    track.settle(&subject);
                    Ok(())
                }
                Err(error) => {
                    track.settle(&subject);
                    track.leave(&subject, &format!("is still on {from}"));
                    Err(error)
                }
            }
        };
        let (_, failure) = some_at_once(self.at_once, self.drained.moved.clone(), one).await;
        if let Some(error) = failure {
            return Err(error);
        }
        for vmid in &self.drained.stopped {
            let guest = pve.guest(*vmid);
            let subject = Subject::Guest(*vmid);
            if guest.status().await?.state != PowerState::Running {
                track
                    .task(&subject, Action::Start, || guest.start())
                    .await?;
            }
            track.settle(&subject);
        }
        Ok(())
    }
}

/// Reboots the nodes of a cluster one after the other, each without guests at that time; see
/// [`Client::carry_out`].
///
/// A node that answers the calls itself cannot report its own return, so a whole cluster needs a
/// client with further hosts ([`ClientBuilder::host`](crate::ClientBuilder)), or with a name that
/// leads to all nodes.
///
/// # What a failure leaves
///
/// Finished nodes stay as they are. For the node in progress, the error names the guests that were
/// moved away; they are not moved back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollingReboot {
    nodes: Vec<String>,
    drain: Drain,
    patience: Duration,
}

impl RollingReboot {
    /// These nodes, in this order.
    #[must_use]
    pub fn of<N: Into<String>>(nodes: impl IntoIterator<Item = N>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            drain: Drain::of(""),
            patience: Duration::from_secs(15 * 60),
        }
    }

    /// The settings for draining each node; the node name in it is ignored.
    #[must_use]
    pub fn drained_as(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// The time in which a node has to come back; 15 minutes by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn reboot(&self, pve: &Client, track: &Track<'_>, node: &str) -> Result<(), Error> {
        let subject = Subject::Node(node.to_owned());
        let gone = |problem: String| Error::from(WorkError::new(subject.clone(), problem));
        let before = uptime(pve, node)
            .await?
            .ok_or_else(|| gone("does not exist".to_owned()))?;
        let at = pve.api().nodes().node(node).status();
        track
            .act(&subject, Action::Reboot, at.post("reboot"))
            .await?;
        track.leave(&subject, "was rebooted, and is not back");
        let rebooted = Instant::now();
        let interval = pve.task_poll().unwrap_or(Duration::from_secs(5));
        let mut schedule = PollSchedule::every(Some(interval), Some(self.patience));
        while schedule.again().await {
            match uptime(pve, node).await {
                Ok(Some(now)) if has_rebooted(before, now, rebooted.elapsed()) => {
                    track.settle(&subject);
                    track.step(&subject, Action::Wait, State::Done);
                    return Ok(());
                }
                Ok(_) => {}
                // The host that answers may be the one that reboots.
                Err(error) if error.is_retryable() || error.never_sent() => {}
                Err(error) => return Err(error),
            }
        }
        Err(gone(format!("is not back within {:?}", self.patience)))
    }
}

/// The maximum age of the uptime in the list of nodes, in seconds.
const STALE: i64 = 15;

/// Whether a node with these uptimes has booted in between. A node that had booted shortly before
/// may have a longer uptime after its reboot, but not as long as without a reboot.
fn has_rebooted(before: i64, now: i64, between: Duration) -> bool {
    let between = i64::try_from(between.as_secs()).unwrap_or(i64::MAX);
    now < before || now < before.saturating_add(between).saturating_sub(STALE)
}

/// The uptime of a node in seconds; `None` if it is offline.
async fn uptime(pve: &Client, node: &str) -> Result<Option<i64>, Error> {
    let nodes = pve.api().nodes().get().await?;
    let row = nodes.into_iter().find(|row| row.node == *node);
    Ok(row
        .filter(|row| row.status.as_str() == "online")
        .map(|row| row.uptime.unwrap_or(0)))
}

impl Work for RollingReboot {
    type Done = ();

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<(), Error> {
        for node in &self.nodes {
            let drain = Drain {
                node: node.clone(),
                ..self.drain.clone()
            };
            let drained = drain.run(pve, track).await?;
            self.reboot(pve, track, node).await?;
            let back = drained.back().at_once(self.drain.at_once);
            back.run(pve, track).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_boot_shortly_after_the_first_is_detected() {
        for (before, now, between, expected) in [
            (900, 20, 60, true),
            (5, 20, 60, true),
            (900, 960, 60, false),
            (900, 948, 60, false),
            (5, 60, 60, false),
            (0, 3, 3, false),
        ] {
            let between = Duration::from_secs(between);
            assert_eq!(
                has_rebooted(before, now, between),
                expected,
                "{before} {now}"
            );
        }
    }
}
