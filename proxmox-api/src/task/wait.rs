//! Waiting for tasks, and reading their logs while they run.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Instant, sleep};

use super::outcome::or_error;
use super::{PAGE, Task, TaskOutcome};
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::error::task::TaskErrorKind;
use crate::value::BoxFuture;
use crate::value::log_line::TaskLogLine;

/// Waiting for a task; made by [`Task::wait`], started by awaiting it.
#[must_use = "nothing is waited for until this is awaited"]
pub struct WaitBuilder<'a> {
    task: Task,
    timeout: Option<Duration>,
    interval: Option<Duration>,
    log: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(&str) + Send + 'a>;
impl<'a> WaitBuilder<'a> {
    pub(super) fn new(task: &Task) -> Self {
        Self {
            task: task.clone(),
            timeout: None,
            interval: None,
            log: None,
        }
    }

    /// Gives up after this time. The task continues; use [`Task::stop`] to end it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Polls the task at this interval, instead of the client's
    /// ([`ClientBuilder::task_poll`](crate::ClientBuilder::task_poll)), or every second at first
    /// and every five seconds later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Calls `listener` with every line of the log, once and in order, while waiting. A line may be
    /// one poll late: until another line follows, it may be incomplete.
    pub fn on_log<'b>(self, listener: impl FnMut(&str) + Send + 'b) -> WaitBuilder<'b> {
        self.listen(Box::new(listener))
    }

    fn listen(self, listener: Listener<'_>) -> WaitBuilder<'_> {
        WaitBuilder {
            task: self.task,
            timeout: self.timeout,
            interval: self.interval,
            log: Some(listener),
        }
    }

    /// The lines of the log as a stream, while the task runs. It ends with the task; if the task or
    /// the wait fails, the error is last.
    ///
    /// ```no_run
    /// # async fn example(task: proxmox_api::task::Task) -> Result<(), proxmox_api::Error> {
    /// let mut lines = task.wait().lines();
    /// while let Some(line) = lines.try_next().await? {
    ///     println!("{line}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn lines(self) -> LogLines {
        let ready = Arc::new(Mutex::new(VecDeque::new()));
        let lines = Arc::clone(&ready);
        let listener = move |line: &str| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(line.to_owned());
        };
        LogLines {
            waiting: Some(self.listen(Box::new(listener)).into_future()),
            ready,
            outcome: None,
            error: None,
        }
    }

    /// Waits and returns the outcome; a failure is [`TaskOutcome::Failed`] or
    /// [`TaskOutcome::Interrupted`] instead of an error.
    ///
    /// # Errors
    /// [`Error::Task`] if the time limit passed or the task could not be polled any more.
    #[must_use = "futures do nothing until they are awaited"]
    pub fn outcome(self) -> BoxFuture<'a, Result<TaskOutcome, Error>> {
        Box::pin(async move {
            let Some(limit) = self.timeout else {
                return self.watch().await;
            };
            let task = self.task.clone();
            let outcome = tokio::time::timeout(limit, self.watch()).await;
            outcome.unwrap_or_else(|_| Err(task.error(TaskErrorKind::TimedOut(limit)).into()))
        })
    }

    /// Boxed, because it is used in two places.
    fn watch(self) -> BoxFuture<'a, Result<TaskOutcome, Error>> {
        Box::pin(async move {
            let mut follower = self.log.map(|listener| Follower {
                listener,
                seen: 0,
                held: None,
            });
            let interval = self.interval.or_else(|| self.task.client.task_poll());
            let mut schedule = PollSchedule::every(interval, None);
            let mut tolerance = PollTolerance::default();
            loop {
                let result = poll(&self.task, follower.as_mut()).await;
                if let Some(outcome) = tolerance.accept(&self.task, result)? {
                    return Ok(outcome);
                }
                schedule.again().await;
            }
        })
    }
}

/// Polls with growing pauses until a time limit.
pub(crate) struct PollSchedule {
    start: Instant,
    limit: Option<Duration>,
    pause: Duration,
    max_pause: Duration,
}

impl PollSchedule {
    pub(crate) fn new(limit: Option<Duration>, first: Duration, max_pause: Duration) -> Self {
        Self {
            start: Instant::now(),
            limit,
            pause: first,
            max_pause,
        }
    }

    /// At this interval, or else every second at first and every five seconds later.
    pub(crate) fn every(interval: Option<Duration>, limit: Option<Duration>) -> Self {
        let first = interval.unwrap_or(Duration::from_secs(1));
        Self::new(limit, first, interval.unwrap_or(Duration::from_secs(5)))
    }

    /// Waits for the next poll; returns whether there is time for one.
    pub(crate) async fn again(&mut self) -> bool {
        let pause = self.pause;
        self.pause = (pause.saturating_mul(3) / 2).min(self.max_pause);
        let then = self.start.elapsed().saturating_add(pause);
        if self.limit.is_some_and(|limit| then > limit) {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// The maximum of consecutive polls that may fail for temporary reasons.
const MAX_FAILURES: u32 = 10;
/// The maximum of times that a task may be unknown before it first appears.
const MAX_NOT_FOUND: u32 = 3;

/// The tolerance for failed polls before a task counts as lost.
#[derive(Default)]
pub(crate) struct PollTolerance {
    failures: u32,
    unknown: u32,
}

impl PollTolerance {
    pub(crate) fn accept(
        &mut self,
        task: &Task,
        result: Result<Option<TaskOutcome>, Error>,
    ) -> Result<Option<TaskOutcome>, Error> {
        match result {
            Ok(outcome) => {
                self.failures = 0;
                self.unknown = MAX_NOT_FOUND;
                return Ok(outcome);
            }
            // A new task may not be on record yet.
            Err(error)
                if error.kind() == Some(ErrorKind::NotFound) && self.unknown < MAX_NOT_FOUND =>
            {
                self.unknown += 1;
            }
            Err(error @ Error::Task(_)) => return Err(error),
            Err(error) if error.is_retryable() && self.failures < MAX_FAILURES => {
                self.failures += 1
            }
            Err(error) => {
                return Err(task.error(TaskErrorKind::Lost(error)).into());
            }
        }
        Ok(None)
    }
}

/// One poll of a task: new lines of its log, and its outcome.
async fn poll(
    task: &Task,
    follower: Option<&mut Follower<'_>>,
) -> Result<Option<TaskOutcome>, Error> {
    // In this order: nothing is added to the log of an ended task.
    let outcome = task.status().await?.outcome();
    let outcome = outcome.map(|outcome| match outcome {
        TaskOutcome::Failed(text) => TaskOutcome::Failed(task.clean(text)),
        TaskOutcome::Interrupted(text) => TaskOutcome::Interrupted(task.clean(text)),
        other => other,
    });
    if let Some(follower) = follower {
        follower.follow(task, outcome.is_some()).await?;
    }
    Ok(outcome)
}

struct Follower<'a> {
    listener: Listener<'a>,
    /// The number of the last line handed over.
    seen: u64,
    /// The line after it, as of the last poll.
    held: Option<String>,
}

impl Follower<'_> {
    async fn follow(&mut self, task: &Task, ended: bool) -> Result<(), Error> {
        loop {
            let lines = task.log(self.seen, PAGE).await?;
            let more = lines.len() as u64 >= PAGE;
            if !self.take(lines, ended, more) {
                return Ok(());
            }
        }
    }

    /// Hands over complete lines; returns whether to ask for more at once.
    fn take(&mut self, lines: Vec<TaskLogLine>, ended: bool, more: bool) -> bool {
        let before = self.seen;
        if matches!(lines.as_slice(), [line] if line.stands_for_none()) {
            return false;
        }
        let last = lines.last().map(|line| line.number);
        for line in lines.into_iter().filter(|line| line.number > before) {
            // The task may still be writing its last line.
            let open = Some(line.number) == last && !ended && !more;
            if open && self.held.as_ref() != Some(&line.text) {
                self.held = Some(line.text);
                break;
            }
            self.seen = line.number;
            self.held = None;
            (self.listener)(&line.text);
        }
        more && self.seen > before
    }
}

impl<'a> IntoFuture for WaitBuilder<'a> {
    type Output = Result<TaskOutcome, Error>;
    type IntoFuture = BoxFuture<'a, Result<TaskOutcome, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let task = self.task.clone();
            let outcome = self.outcome().await?;
            or_error(&task, outcome).await
        })
    }
}

impl fmt::Debug for WaitBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitBuilder")
            .field("task", &self.task)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The lines of a task's log while it runs, each once and in order; made by [`WaitBuilder::lines`].
#[must_use = "does nothing unless read"]
pub struct LogLines {
    waiting: Option<BoxFuture<'static, Result<TaskOutcome, Error>>>,
    ready: Arc<Mutex<VecDeque<String>>>,
    outcome: Option<TaskOutcome>,
    /// The error after the last line.
    error: Option<Error>,
}

impl LogLines {
    /// The next line; `None` once the task has succeeded. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Task`] after the last line, if the task failed or could not be polled to its end.
    pub async fn try_next(&mut self) -> Result<Option<String>, Error> {
        std::future::poll_fn(|context| self.poll_line(context))
            .await
            .transpose()
    }

    /// The outcome of the task; `None` while it runs, and if its end is an error.
    #[must_use]
    pub fn outcome(&self) -> Option<&TaskOutcome> {
        self.outcome.as_ref()
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<String, Error>>> {
        let mut line = self.take();
        if let (None, Some(waiting)) = (&line, &mut self.waiting) {
            match waiting.as_mut().poll(context) {
                Poll::Ready(Ok(outcome)) => self.outcome = Some(outcome),
                Poll::Ready(Err(error)) => self.error = Some(error),
                Poll::Pending => {
                    return match self.take() {
                        Some(line) => Poll::Ready(Some(Ok(line))),
                        None => Poll::Pending,
                    };
                }
            }
            self.waiting = None;
            line = self.take();
        }
        Poll::Ready(match line {
            Some(line) => Some(Ok(line)),
            None => self.error.take().map(Err),
        })
    }

    fn take(&self) -> Option<String> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.pop_front()
    }
}

impl Stream for LogLines {
    type Item = Result<String, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(context)
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
