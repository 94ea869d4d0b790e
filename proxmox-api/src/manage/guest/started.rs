//! Waiting for operations.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Guest, GuestErrorKind, GuestLocation, IdentityCheck, PowerState};
use crate::error::Error;
use crate::task::{PollSchedule, Task, TaskOutcome, Waitable, Waiting};
use crate::value::BoxFuture;
use crate::value::upid::Upid;

/// The usual maximum duration of operations on a guest's power and configuration. A suggestion for
/// timeouts; it is the default only for guests that high availability manages.
pub const GUEST_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Types of tasks that look for the guest's configuration only once they run: a node that does not
/// have the guest accepts the call all the same (qemu-server `API2/Qemu.pm`, pve-container
/// `API2/LXC.pm` and `API2/LXC/Snapshot.pm`).
pub(super) const LATE: [&str; 10] = [
    "qmdelsnapshot",
    "qmrollback",
    "qmshutdown",
    "qmstart",
    "qmstop",
    "resize",
    "vzdelsnapshot",
    "vzrollback",
    "vzsnapshot",
    "vzstart",
];

/// The state of a guest in which a request to high availability is fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetState {
    Nothing,
    State(PowerState),
    Node(String),
}

/// An operation that runs on the server; [`StartedOperation::wait`] waits for its end.
#[must_use = "the operation may still fail: wait for it, or `detach` it"]
#[derive(Clone)]
pub struct StartedOperation {
    guest: Guest,
    task: Task,
    target: TargetState,
    again: Option<Again>,
}

/// Starts an operation again.
type Again = Arc<dyn Fn() -> BoxFuture<'static, Result<StartedOperation, Error>> + Send + Sync>;

impl StartedOperation {
    pub(super) fn new(guest: &Guest, task: Option<Task>, target: TargetState) -> Self {
        Self {
            guest: guest.clone(),
            task: task.unwrap_or_else(|| Task::done(&guest.client)),
            target,
            again: None,
        }
    }

    /// The same, which is started again after a lock of the task, or if the guest is on another
    /// node.
    pub(super) fn or_again<O>(mut self, order: Option<O>) -> Self
    where
        O: Clone + Send + Sync + 'static,
        O: IntoFuture<
                Output = Result<Self, Error>,
                IntoFuture = BoxFuture<'static, Result<Self, Error>>,
            >,
    {
        if let Some(order) = order {
            self.again = Some(Arc::new(move || order.clone().into_future()));
        }
        self
    }

    /// The guest of the operation.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The task of the operation; one that [is done](Task::is_done) if the server completed it with
    /// the answer.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The task's identifier; see [`Task::upid`].
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        self.task.upid()
    }

    /// Does not wait for it. Failures are not reported, including the one for a guest that moved to
    /// another node, after which only [`wait`](Self::wait) would start the operation again.
    pub fn detach(self) {}

    /// Waits for the end. Awaiting it returns the outcome of the task, or its failure as an error.
    ///
    /// If high availability manages the guest, the task only passes the request on; then this also
    /// waits until the guest has the requested state, at most [`GUEST_TIMEOUT`] by default. For a
    /// handle that [waits for locks](Guest::wait_for_locks), it starts the operation again after a
    /// lock. It also starts it again if the task found that the node does not have the guest any
    /// more, and the guest is on another one.
    pub fn wait(&self) -> WaitOperation<'static> {
        WaitOperation {
            started: self.clone(),
            how: Waiting::default(),
        }
    }

    /// Whether the task failed because the guest is on another node now; otherwise the error.
    async fn missed(&self, error: Error) -> Result<(), Error> {
        let node = self.upid().map(|upid| upid.node().to_owned());
        let Some((node, kind)) = node.zip(self.guest.memory().kind) else {
            return Err(error);
        };
        let from = GuestLocation { node, kind };
        self.guest
            .moved(&from, IdentityCheck::Lenient, error)
            .await
            .map(drop)
    }

    /// Waits for the end of the task, and for the guest's requested state.
    async fn reached(&self, how: Waiting<'_>) -> Result<TaskOutcome, Error> {
        let (guest, limit) = (&self.guest, how.timeout.unwrap_or(GUEST_TIMEOUT));
        // The time of the task counts, too.
        let interval = how.interval.or_else(|| guest.client.task_poll());
        let schedule = PollSchedule::every(interval, Some(limit));
        let outcome = self.task.clone().finish(how).await?;
        if let TargetState::Node(node) = &self.target {
            // The operation itself moved the guest here.
            guest.remember(|memory| {
                memory.location = memory.kind.map(|kind| GuestLocation {
                    node: node.clone(),
                    kind,
                });
            });
        }
        let ha_request = (self.upid()).is_some_and(|upid| upid.task_type().starts_with("ha"));
        if ha_request && self.target != TargetState::Nothing {
            reach(guest, &self.target, schedule, limit).await?;
        }
        Ok(outcome)
    }
}

impl Waitable for StartedOperation {
    type End = TaskOutcome;

    fn upid(&self) -> Option<&Upid> {
        self.task.upid()
    }

    fn finish<'a>(self, how: Waiting<'a>) -> BoxFuture<'a, Result<TaskOutcome, Error>>
    where
        Self: 'a,
    {
        WaitOperation { started: self, how }.into_future()
    }
}

impl fmt::Debug for StartedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedOperation")
            .field("guest", &self.guest)
            .field("task", &self.task)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Waiting for an operation; made by [`StartedOperation::wait`], started by awaiting it.
#[must_use = "does nothing unless awaited"]
pub struct WaitOperation<'a> {
    started: StartedOperation,
    how: Waiting<'a>,
}

impl WaitOperation<'_> {
    /// Gives up after this time. The operation continues on the server.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.how.timeout = Some(timeout);
        self
    }

    /// Polls at this interval, instead of every second at first and less often later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.how.interval = Some(interval);
        self
    }

    /// Calls `listener` with every line of the task's log; see
    /// [`WaitBuilder::on_log`](crate::task::WaitBuilder::on_log).
    pub fn on_log<'b>(self, listener: impl FnMut(&str) + Send + 'b) -> WaitOperation<'b> {
        WaitOperation {
            started: self.started,
            how: Waiting {
                timeout: self.how.timeout,
                interval: self.how.interval,
                log: Some(Box::new(listener)),
            },
        }
    }

    async fn run(self) -> Result<TaskOutcome, Error> {
        let Self {
            mut started,
            mut how,
        } = self;
        let mut schedule = PollSchedule::every(None, started.guest.locks);
        let mut followed = false;
        loop {
            let log = how
                .log
                .as_mut()
                .map(|log| -> Box<dyn FnMut(&str) + Send + '_> {
                    Box::new(|line: &str| log(line))
                });
            let once = Waiting {
                timeout: how.timeout,
                interval: how.interval,
                log,
            };
            let ended = started.reached(once).await;
            let Some(again) = &started.again else {
                return ended;
            };
            let again = Arc::clone(again);
            let error = match ended {
                Err(error) if !followed => started.missed(error).await.err(),
                Err(error) => Some(error),
                ended => return ended,
            };
            match error {
                None => followed = true,
                Some(error) if started.guest.waits_for(&error) && schedule.again().await => {}
                Some(error) => return Err(error),
            }
            started = StartedOperation {
                again: Some(Arc::clone(&again)),
                ..again().await?
            };
        }
    }
}

/// Waits until the guest has the requested state.
async fn reach(
    guest: &Guest,
    target: &TargetState,
    mut schedule: PollSchedule,
    limit: Duration,
) -> Result<(), Error> {
    loop {
        let last = match reached(guest, target).await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            // A failed poll is not a failed request.
            Err(error) if error.is_retryable() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        if !schedule.again().await {
            let late = GuestErrorKind::TimedOut {
                vmid: guest.vmid,
                waiting_for: target.to_string(),
                after: limit,
                last,
            };
            return Err(late.into());
        }
    }
}

async fn reached(guest: &Guest, target: &TargetState) -> Result<bool, Error> {
    if let TargetState::Node(node) = target
        && guest.find(IdentityCheck::Lenient, false).await?.node == *node
    {
        return Ok(true);
    }
    let status = guest.status().await?;
    if *target == TargetState::State(status.state) {
        return Ok(true);
    }
    match status.ha_state {
        Some(state) if state == "error" => {
            let vmid = guest.vmid;
            Err(GuestErrorKind::HighAvailability { vmid, state }.into())
        }
        _ => Ok(false),
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("end"),
            Self::State(state) => write!(f, "state {state:?}", state = state.to_string()),
            Self::Node(node) => write!(f, "arrival on node {node}"),
        }
    }
}

impl<'a> IntoFuture for WaitOperation<'a> {
    type Output = Result<TaskOutcome, Error>;
    type IntoFuture = BoxFuture<'a, Result<TaskOutcome, Error>>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for WaitOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitOperation")
            .field("started", &self.started)
            .field("how", &self.how)
            .finish()
    }
}
