//! One action over many guests.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::manage::guest::PowerAction;
//!
//! let report = pve
//!     .batch([100, 101, 102, 103])
//!     .parallel(4)
//!     .per_node(2)
//!     .on_progress(|step| println!("{}/{}", step.done, step.total))
//!     .power(PowerAction::Start)
//!     .await?;
//! println!("{} of {} started", report.summary.succeeded, report.summary.total);
//! # Ok(())
//! # }
//! ```
//!
//! The client's own limits apply as well. With many guests, its [rate
//! limit](crate::ClientBuilder::rate_limit) determines the duration of a batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use serde_json::json;

use crate::Value;
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::manage::guest::{
    Guest, GuestErrorKind, Locations, PowerAction, StartedOperation, start_task,
};
use crate::task::Task;
use crate::value::BoxFuture;
use crate::value::serialize::{Fields, record_serde};
use crate::value::upid::Upid;

/// A batch; made by [`Client::batch`].
#[must_use = "does nothing unless an action is awaited"]
pub struct Batch<'a> {
    client: Client,
    vmids: Vec<u32>,
    parallel: usize,
    per_node: usize,
    continue_on_error: bool,
    wait: bool,
    timeout: Option<Duration>,
    interval: Option<Duration>,
    progress: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(&BatchProgress<'_>) + Send + 'a>;

impl Client {
    /// Prepares an action over many guests. A number that is given twice counts once.
    pub fn batch(&self, vmids: impl IntoIterator<Item = u32>) -> Batch<'static> {
        let mut seen = BTreeSet::new();
        Batch {
            client: self.clone(),
            vmids: vmids
                .into_iter()
                .filter(|vmid| seen.insert(*vmid))
                .collect(),
            parallel: 4,
            per_node: usize::MAX,
            continue_on_error: true,
            wait: true,
            timeout: None,
            interval: None,
            progress: None,
        }
    }
}

impl Batch<'_> {
    /// The maximum of guests in progress at the same time; 4 by default, at least 1.
    pub fn parallel(mut self, guests: usize) -> Self {
        self.parallel = guests.max(1);
        self
    }

    /// The maximum of guests of one node in progress at the same time; no limit by default, at
    /// least 1.
    pub fn per_node(mut self, guests: usize) -> Self {
        self.per_node = guests.max(1);
        self
    }

    /// Whether the batch continues after a guest failed. On by default. Guests in progress are
    /// finished in any case.
    pub fn continue_on_error(mut self, go_on: bool) -> Self {
        self.continue_on_error = go_on;
        self
    }

    /// Does not wait for the tasks: a guest counts as done when the server has accepted the
    /// request.
    pub fn only_start(mut self) -> Self {
        self.wait = false;
        self
    }

    /// The time limit for each guest's task. Tasks continue after it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Polls each task at this interval, instead of every second at first and less often later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Calls `listener` whenever a guest is done, in that order.
    pub fn on_progress<'b>(
        self,
        listener: impl FnMut(&BatchProgress<'_>) + Send + 'b,
    ) -> Batch<'b> {
        Batch {
            client: self.client,
            vmids: self.vmids,
            parallel: self.parallel,
            per_node: self.per_node,
            continue_on_error: self.continue_on_error,
            wait: self.wait,
            timeout: self.timeout,
            interval: self.interval,
            progress: Some(Box::new(listener)),
        }
    }

    /// Changes the guests' power.
    ///
    /// # Errors
    /// Only if the guests' nodes cannot be determined; failures of guests are in the report.
    pub async fn power(self, action: PowerAction) -> Result<BatchReport, Error> {
        self.run(move |guest| guest.power(action)).await
    }

    /// Calls `act` for each guest, and waits for the operation that it returns, if any.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// let report = pve.batch([100, 101]).run(|guest| guest.snapshot("before-upgrade")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Only if the guests' nodes cannot be determined; failures of guests are in the report.
    #[inline]
    pub async fn run<F, T>(self, act: impl Fn(Guest) -> F + Sync) -> Result<BatchReport, Error>
    where
        F: IntoFuture<Output = Result<T, Error>, IntoFuture: Send>,
        T: Into<Operation>,
    {
        self.work(&|guest| {
            let acting = act(guest).into_future();
            Box::pin(async move { Ok(acting.await?.into().0) })
        })
        .await
    }

    async fn work<'f>(
        mut self,
        act: &(dyn Fn(Guest) -> BoxFuture<'f, Result<Option<StartedOperation>, Error>> + Sync),
    ) -> Result<BatchReport, Error> {
        let table = Locations::fresh(&self.client).await?;
        let vmids = std::mem::take(&mut self.vmids);
        let total = vmids.len();
        let mut results: Vec<Option<BatchResult>> = vmids.iter().map(|_| None).collect();
        let mut waiting: VecDeque<(usize, Guest, String)> = VecDeque::new();
        let mut ready: VecDeque<(usize, Outcome)> = VecDeque::new();
        for (index, vmid) in vmids.iter().enumerate() {
            match table.guests.get(vmid).map(|guest| &guest.location) {
                Some(location) => {
                    let guest = self.client.guest_seen(*vmid, location.clone(), table.now());
                    waiting.push_back((index, guest, location.node.clone()));
                }
                None => {
                    let problem = GuestErrorKind::NoSuchGuest { vmid: *vmid };
                    ready.push_back((index, Outcome::Failed(None, Failure::Error(problem.into()))));
                }
            }
        }
        let (wait, timeout, interval) = (self.wait, self.timeout, self.interval);
        let mut busy: BTreeMap<String, usize> = BTreeMap::new();
        let mut working = FuturesUnordered::new();
        let mut first_failure = None;
        let mut done = 0;
        loop {
            while working.len() < self.parallel && first_failure.is_none() {
                let next = (waiting.iter())
                    .position(|(_, _, node)| busy.get(node).copied().unwrap_or(0) < self.per_node);
                let Some((index, guest, node)) = next.and_then(|at| waiting.remove(at)) else {
                    break;
                };
                *busy.entry(node.clone()).or_default() += 1;
                let acting = act(guest);
                working.push(async move {
                    let outcome = act_on_one(acting, wait, timeout, interval).await;
                    (index, node, outcome)
                });
            }
            let (index, outcome) = match ready.pop_front() {
                Some(known) => known,
                None => match working.next().await {
                    Some((index, node, outcome)) => {
                        if let Some(count) = busy.get_mut(&node) {
                            *count -= 1;
                        }
                        (index, outcome)
                    }
                    None => break,
                },
            };
            let vmid = vmids.get(index).copied().unwrap_or_default();
            if !self.continue_on_error && matches!(outcome, Outcome::Failed(..)) {
                first_failure.get_or_insert(vmid);
            }
            done += 1;
            let result = BatchResult { vmid, outcome };
            if let Some(progress) = &mut self.progress {
                progress(&BatchProgress {
                    done,
                    total,
                    result: &result,
                });
            }
            if let Some(slot) = results.get_mut(index) {
                *slot = Some(result);
            }
        }
        let results: Vec<BatchResult> = (vmids.into_iter().zip(results))
            .map(|(vmid, result)| {
                result.unwrap_or(BatchResult {
                    vmid,
                    outcome: Outcome::NotTried {
                        because_of: first_failure.unwrap_or_default(),
                    },
                })
            })
            .collect();
        let succeeded = results.iter().filter(|result| result.success()).count();
        Ok(BatchReport {
            summary: Summary {
                total,
                succeeded,
                failed: total - succeeded,
            },
            results,
        })
    }

    /// Lets the server itself act on the guests, with one task for all: `POST
    /// /cluster/bulk-action/guest/…`, since release 9.1. The limit of [`Batch::parallel`] applies,
    /// and [`Batch::timeout`] as the time that guests get to shut down; the other settings do not.
    /// `None` if the release has no such call for the action; then use [`Batch::power`]. Also
    /// `None` for a batch without guests, which the server would read as all guests.
    ///
    /// The task's log has the result of each guest.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn on_server(&self, action: PowerAction) -> Result<Option<Task>, Error> {
        let (vms, workers) = (self.vmids.clone(), self.workers());
        let seconds = self.timeout.map(|timeout| timeout.as_secs());
        let seconds = seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let bulk = self.client.api().cluster().bulk_action().guest();
        let sending = match action {
            PowerAction::Start => start_task!(bulk.start().post().vms(vms).max_workers(workers)),
            PowerAction::Shutdown => {
                let request = bulk.shutdown().post().vms(vms).max_workers(workers);
                start_task!(request, timeout: seconds)
            }
            PowerAction::Suspend | PowerAction::Hibernate => {
                let request = bulk.suspend().post().vms(vms).max_workers(workers);
                start_task!(request, to_disk: (action == PowerAction::Hibernate).then_some(true))
            }
            _ => return Ok(None),
        };
        self.if_known(sending).await
    }

    /// Lets the server itself move the guests to a node, running ones live and with their local
    /// disks, as [`Batch::on_server`] does for power: [`POST
    /// /cluster/bulk-action/guest/migrate`](crate::pve::cluster::ClusterBulkActionGuestMigratePost).
    ///
    /// # Errors
    /// Those of every request.
    pub async fn migrate_on_server(&self, target: &str) -> Result<Option<Task>, Error> {
        let migrate = (self.client.api().cluster().bulk_action().guest()).migrate();
        let request = migrate.post(target).vms(self.vmids.clone());
        let request = request.max_workers(self.workers()).online(true);
        self.if_known(start_task!(request.with_local_disks(true)))
            .await
    }

    fn workers(&self) -> i64 {
        i64::try_from(self.parallel).unwrap_or(i64::MAX).min(64)
    }

    async fn if_known(
        &self,
        sending: BoxFuture<'static, Result<Option<Task>, Error>>,
    ) -> Result<Option<Task>, Error> {
        if self.vmids.is_empty() {
            return Ok(None);
        }
        match sending.await {
            Err(error) if error.kind() == Some(ErrorKind::UnknownMethod) => Ok(None),
            result => result,
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("vmids", &self.vmids)
            .field("parallel", &self.parallel)
            .field("per_node", &self.per_node)
            .field("continue_on_error", &self.continue_on_error)
            .finish_non_exhaustive()
    }
}

async fn act_on_one(
    acting: BoxFuture<'_, Result<Option<StartedOperation>, Error>>,
    wait: bool,
    timeout: Option<Duration>,
    interval: Option<Duration>,
) -> Outcome {
    let started = match acting.await {
        Ok(started) => started,
        Err(error) => return Outcome::Failed(None, Failure::Error(error)),
    };
    let upid = (started.as_ref()).and_then(|started| started.upid().cloned());
    let Some(started) = started.filter(|_| wait) else {
        return Outcome::Done(upid);
    };
    let mut waiting = started.wait();
    if let Some(timeout) = timeout {
        waiting = waiting.timeout(timeout);
    }
    if let Some(interval) = interval {
        waiting = waiting.poll_interval(interval);
    }
    match waiting.await {
        Ok(_) => Outcome::Done(upid),
        Err(error) => Outcome::Failed(upid, Failure::Error(error)),
    }
}

/// The result of an action on a guest: a [`StartedOperation`] to wait for, an optional one, or
/// `()`.
#[derive(Debug)]
pub struct Operation(Option<StartedOperation>);

impl From<StartedOperation> for Operation {
    fn from(started: StartedOperation) -> Self {
        Self(Some(started))
    }
}

impl From<Option<StartedOperation>> for Operation {
    fn from(started: Option<StartedOperation>) -> Self {
        Self(started)
    }
}

impl From<()> for Operation {
    fn from((): ()) -> Self {
        Self(None)
    }
}

/// The progress of a batch; see [`Batch::on_progress`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchProgress<'a> {
    /// The number of guests that are done, this one included.
    pub done: usize,
    /// The number of guests.
    pub total: usize,
    /// The result of the guest that was completed last.
    pub result: &'a BatchResult,
}

/// The result of one guest of a batch.
///
/// Written as JSON and read again, it has the text of an error ([`problem`](Self::problem)) and no longer the
/// [`error`](Self::error) itself.
#[derive(Debug)]
pub struct BatchResult {
    vmid: u32,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Done(Option<Upid>),
    Failed(Option<Upid>, Failure),
    NotTried { because_of: u32 },
}

#[derive(Debug)]
enum Failure {
    Error(Error),
    /// The error's text, if the result was read from JSON.
    Text(String),
}

/// Compares the serialized form.
impl PartialEq for BatchResult {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl Serialize for BatchResult {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for BatchResult {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::read(deserializer)?;
        let upid = fields.take("upid")?;
        let outcome = match (
            fields.take("success")?,
            fields.take("not_tried_because_of")?,
        ) {
            (true, _) => Outcome::Done(upid),
            (false, Some(because_of)) => Outcome::NotTried { because_of },
            (false, None) => Outcome::Failed(upid, Failure::Text(fields.take("error")?)),
        };
        Ok(Self {
            vmid: fields.take("vmid")?,
            outcome,
        })
    }
}

impl BatchResult {
    /// The guest's number.
    #[must_use]
    pub fn vmid(&self) -> u32 {
        self.vmid
    }

    /// Whether it succeeded.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    /// Whether it was skipped because another guest had failed.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        matches!(self.outcome, Outcome::NotTried { .. })
    }

    /// The task, if one was started.
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        match &self.outcome {
            Outcome::Done(upid) | Outcome::Failed(upid, _) => upid.as_ref(),
            Outcome::NotTried { .. } => None,
        }
    }

    /// The error; `None` for a guest that succeeded or was not tried, and of a result that was read from JSON.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match &self.outcome {
            Outcome::Failed(_, Failure::Error(error)) => Some(error),
            _ => None,
        }
    }

    /// The error as text.
    #[must_use]
    #[inline]
    pub fn problem(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Done(_) => None,
            Outcome::Failed(_, Failure::Error(error)) => Some(error.to_string()),
            Outcome::Failed(_, Failure::Text(text)) => Some(text.clone()),
            Outcome::NotTried { because_of } => {
                Some(format!("skipped because guest {because_of} failed"))
            }
        }
    }

    /// `{"vmid":100,"success":true,"upid":"UPID:…"}`, with `error` where it failed and `not_tried_because_of`, the guest that
    /// failed before, where it was not tried.
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        let mut json = json!({ "vmid": self.vmid, "success": self.success() });
        if let Some(upid) = self.upid() {
            json["upid"] = upid.as_str().into();
        }
        if let Some(problem) = self.problem() {
            json["error"] = problem.into();
        }
        if let Outcome::NotTried { because_of } = self.outcome {
            json["not_tried_because_of"] = because_of.into();
        }
        json
    }
}

/// Totals of a batch. Guests that were not tried count as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// All guests.
    pub total: usize,
    /// The guests that succeeded.
    pub succeeded: usize,
    /// The others.
    pub failed: usize,
}

record_serde!(Summary {
    total,
    succeeded,
    failed,
});

/// The result of a batch.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchReport {
    /// One entry for each guest, in the given order.
    pub results: Vec<BatchResult>,
    /// The totals.
    pub summary: Summary,
}

record_serde!(BatchReport { results, summary });

impl BatchReport {
    /// `{"results":[…],"summary":{"total":4,"succeeded":3,"failed":1}}`.
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        let results: Vec<Value> = self.results.iter().map(BatchResult::to_json).collect();
        json!({
            "results": results,
            "summary": {
                "total": self.summary.total,
                "succeeded": self.summary.succeeded,
                "failed": self.summary.failed,
            },
        })
    }
}
