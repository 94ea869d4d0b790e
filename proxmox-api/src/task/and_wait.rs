//! Sending a request and waiting for its task in one call.

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use super::{Task, TaskOutcome};
use crate::error::Error;
use crate::value::BoxFuture;
use crate::value::upid::Upid;

/// The settings of a wait; see [`SendAndWait`].
#[derive(Default)]
pub struct Waiting<'a> {
    pub(crate) timeout: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) log: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(&str) + Send + 'a>;

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("timeout", &self.timeout)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Results of requests that can be waited for: a [`Task`], and operations on guests.
pub trait Waitable: Sized {
    /// The result.
    type End;

    /// The task's identifier; `None` if there is no task any more, or it cannot be parsed.
    fn upid(&self) -> Option<&Upid>;

    /// Waits for the end.
    fn finish<'a>(self, how: Waiting<'a>) -> BoxFuture<'a, Result<Self::End, Error>>
    where
        Self: 'a;
}

impl Waitable for Task {
    type End = TaskOutcome;

    fn upid(&self) -> Option<&Upid> {
        Task::upid(self)
    }

    fn finish<'a>(self, how: Waiting<'a>) -> BoxFuture<'a, Result<TaskOutcome, Error>>
    where
        Self: 'a,
    {
        let mut wait = self.wait();
        if let Some(timeout) = how.timeout {
            wait = wait.timeout(timeout);
        }
        if let Some(interval) = how.interval {
            wait = wait.poll_interval(interval);
        }
        match how.log {
            Some(log) => wait.on_log(log).into_future(),
            None => wait.into_future(),
        }
    }
}

/// Sends a request or starts an operation, and waits for its end.
///
/// ```no_run
/// # #[cfg(feature = "qemu")]
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use std::time::Duration;
///
/// use proxmox_api::task::AndWait;
///
/// let start = pve.nodes().node("pve1").qemu().vmid(100).status().start().post();
/// start.and_wait().timeout(Duration::from_secs(60)).await?;
/// # #[cfg(feature = "guests")]
/// pve.guest(100).snapshot("before-upgrade").and_wait().await?;
/// # Ok(())
/// # }
/// ```
pub trait AndWait<T: Waitable>: IntoFuture<Output = Result<T, Error>> + Sized {
    /// Sends it and waits for the task that it starts. Awaiting it returns the outcome, or the
    /// failure as an error.
    fn and_wait(self) -> SendAndWait<'static, Self> {
        SendAndWait {
            order: self,
            how: Waiting::default(),
        }
    }
}

impl<T: Waitable, F: IntoFuture<Output = Result<T, Error>>> AndWait<T> for F {}

/// Sends a request and waits for its task; made by [`AndWait::and_wait`], started by awaiting it.
#[must_use = "does nothing unless awaited"]
pub struct SendAndWait<'a, F> {
    order: F,
    how: Waiting<'a>,
}

impl<F> SendAndWait<'_, F> {
    /// Stops waiting after this time, counted from the answer on. The operation continues on the
    /// server.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.how.timeout = Some(timeout);
        self
    }

    /// Polls at this interval, instead of the client's.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.how.interval = Some(interval);
        self
    }

    /// Calls `listener` with every line of the task's log; see
    /// [`WaitBuilder::on_log`](super::WaitBuilder::on_log).
    pub fn on_log<'b>(self, listener: impl FnMut(&str) + Send + 'b) -> SendAndWait<'b, F> {
        SendAndWait {
            order: self.order,
            how: Waiting {
                timeout: self.how.timeout,
                interval: self.how.interval,
                log: Some(Box::new(listener)),
            },
        }
    }
}

impl<'a, T, F> IntoFuture for SendAndWait<'a, F>
where
    T: Waitable + Send + 'a,
    F: IntoFuture<Output = Result<T, Error>, IntoFuture: Send> + Send + 'a,
{
    type Output = Result<T::End, Error>;
    type IntoFuture = BoxFuture<'a, Result<T::End, Error>>;

    fn into_future(self) -> BoxFuture<'a, Result<T::End, Error>> {
        let Self { order, how } = self;
        let sending = order.into_future();
        Box::pin(async move { sending.await?.finish(how).await })
    }
}

impl<F: fmt::Debug> fmt::Debug for SendAndWait<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendAndWait")
            .field("order", &self.order)
            .field("how", &self.how)
            .finish()
    }
}
