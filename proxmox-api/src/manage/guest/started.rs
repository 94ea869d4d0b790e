//! Waiting for what was started.

use std::fmt;
use std::time::Duration;

use super::{Acting, Care, Guest, GuestErrorKind, Place, PowerState};
use crate::error::Error;
use crate::manage::tasks::GUEST_TIMEOUT;
use crate::task::{Looks, Task, TaskOutcome, WaitBuilder};
use crate::value::upid::Upid;

/// What has to be true once high availability has done what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Nothing,
    State(PowerState),
    Node(String),
}

/// An operation the server took on. It goes on by itself; [`Started::wait`] waits for its end.
#[derive(Clone, Debug)]
pub struct Started {
    guest: Guest,
    task: Option<Task>,
    goal: Goal,
}

impl Started {
    pub(super) fn new(guest: &Guest, task: Option<Task>, goal: Goal) -> Self {
        Self {
            guest: guest.clone(),
            task,
            goal,
        }
    }

    /// The guest it is about.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The task that does it. `None` if it is done already: some calls work at once, on some releases.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        self.task.as_ref()
    }

    /// The task's identifier.
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        self.task.as_ref().map(Task::upid)
    }

    /// Waits for the end. Awaiting the result gives how the task ended, and its failure as an error.
    ///
    /// If high availability manages the guest, the task only hands the order on; then this also waits
    /// until the guest is as ordered, at most [`GUEST_TIMEOUT`] unless another time is set.
    pub fn wait(&self) -> WaitStarted<'static> {
        WaitStarted {
            guest: self.guest.clone(),
            wait: self.task.as_ref().map(Task::wait),
            orders_only: (self.upid()).is_some_and(|upid| upid.task_type().starts_with("ha")),
            goal: self.goal.clone(),
            timeout: None,
            interval: None,
        }
    }
}

/// Waiting for an operation; made by [`Started::wait`], started by awaiting it.
#[must_use = "nothing is waited for until this is awaited"]
pub struct WaitStarted<'a> {
    guest: Guest,
    wait: Option<WaitBuilder<'a>>,
    orders_only: bool,
    goal: Goal,
    timeout: Option<Duration>,
    interval: Option<Duration>,
}

impl WaitStarted<'_> {
    /// Gives up after this time. What was started goes on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Looks this often, instead of every second at first and more seldom later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Hands over every line of the task's log; see [`WaitBuilder::on_log`].
    pub fn on_log<'b>(self, listener: impl FnMut(&str) + Send + 'b) -> WaitStarted<'b> {
        WaitStarted {
            guest: self.guest,
            wait: self.wait.map(|wait| wait.on_log(listener)),
            orders_only: self.orders_only,
            goal: self.goal,
            timeout: self.timeout,
            interval: self.interval,
        }
    }

    async fn run(self) -> Result<TaskOutcome, Error> {
        let limit = self.timeout.unwrap_or(GUEST_TIMEOUT);
        // The time of the task counts, too.
        let looks = Looks::every(self.interval, Some(limit));
        let mut outcome = TaskOutcome::Ok;
        if let Some(mut wait) = self.wait {
            if let Some(timeout) = self.timeout {
                wait = wait.timeout(timeout);
            }
            if let Some(interval) = self.interval {
                wait = wait.poll_interval(interval);
            }
            outcome = wait.await?;
        }
        if let Goal::Node(node) = &self.goal {
            // This is no place that somebody else took the guest to.
            self.guest.remember(|memory| {
                memory.place = memory.kind.map(|kind| Place {
                    node: node.clone(),
                    kind,
                });
            });
        }
        if self.orders_only && self.goal != Goal::Nothing {
            reach(&self.guest, &self.goal, looks, limit).await?;
        }
        Ok(outcome)
    }
}

/// Waits until the guest is as ordered.
async fn reach(guest: &Guest, goal: &Goal, mut looks: Looks, limit: Duration) -> Result<(), Error> {
    loop {
        match reached(guest, goal).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // A look that fails is not an order that was not carried out.
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
        if !looks.again().await {
            let late = GuestErrorKind::TimedOut {
                vmid: guest.vmid,
                waiting_for: goal.to_string(),
                after: limit,
            };
            return Err(late.into());
        }
    }
}

async fn reached(guest: &Guest, goal: &Goal) -> Result<bool, Error> {
    if let Goal::Node(node) = goal
        && guest.find(Care::Usual, false).await?.node == *node
    {
        return Ok(true);
    }
    let status = guest.status().await?;
    if *goal == Goal::State(status.state) {
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

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("end"),
            Self::State(state) => write!(f, "state {state:?}", state = state.to_string()),
            Self::Node(node) => write!(f, "arrival on node {node}"),
        }
    }
}

impl<'a> IntoFuture for WaitStarted<'a> {
    type Output = Result<TaskOutcome, Error>;
    type IntoFuture = Acting<'a, TaskOutcome>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for WaitStarted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitStarted")
            .field("guest", &self.guest)
            .field("wait", &self.wait)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
