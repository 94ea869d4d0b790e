//! Work that goes on after the call that started it (wire protocol §8).

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;

use crate::api_error::{ErrorKind, OneLine};
use crate::client::Client;
use crate::decode::{DecodeError, decode_data};
use crate::encode::{ParamValue, escape};
use crate::endpoint::Method;
use crate::error::Error;
use crate::request::Call;
use crate::upid::Upid;

/// The time between two looks at a task grows from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many looks in a row may fail for reasons that pass by themselves.
const PATIENCE: u32 = 10;
/// How many times a task may be unknown before it first shows up.
const BIRTH: u32 = 3;
/// Lines asked for at once.
const PAGE: u64 = 500;

/// A task on a node: a handle, not the task itself. Dropping it changes nothing there.
#[derive(Clone)]
pub struct Task {
    client: Client,
    upid: Upid,
}

impl Task {
    pub(crate) fn new(client: Client, upid: Upid) -> Self {
        Self { client, upid }
    }

    /// The task's identifier.
    #[must_use]
    pub fn upid(&self) -> &Upid {
        &self.upid
    }

    /// Asks how the task is doing: `GET /nodes/{node}/tasks/{upid}/status`.
    ///
    /// # Errors
    /// As for every call; [`ErrorKind::NotFound`] if the node knows no such task.
    pub async fn status(&self) -> Result<TaskStatus, Error> {
        let call = self.call(Method::Get, "/status");
        let name = call.name();
        let data = self.ask(call).await?;
        TaskStatus::read(data).map_err(|error| Error::decode(name, error))
    }

    /// Reads lines of the log: `GET /nodes/{node}/tasks/{upid}/log`. `start` lines are skipped; a `limit`
    /// of 0 means all that follow.
    ///
    /// A log that is empty so far, or not there yet, comes from the server as one line saying so.
    ///
    /// # Errors
    /// As for every call.
    pub async fn log(&self, start: u64, limit: u64) -> Result<Vec<LogLine>, Error> {
        let mut call = self.call(Method::Get, "/log");
        call.params.set("start", ParamValue::One(start.to_string()));
        call.params.set("limit", ParamValue::One(limit.to_string()));
        let data = self.ask(call).await?;
        let rows = data.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok((start + 1..)
            .zip(rows)
            .map(|(place, row)| LogLine::read(place, row))
            .collect())
    }

    /// Tells the task to end: `DELETE /nodes/{node}/tasks/{upid}`. The server waits up to five seconds for
    /// it and then kills it. Does nothing to a task that has ended.
    ///
    /// # Errors
    /// As for every call.
    pub async fn stop(&self) -> Result<(), Error> {
        self.client
            .execute(self.call(Method::Delete, ""))
            .await
            .map(drop)
    }

    /// Waits for the end. Awaiting the result gives [`TaskOutcome::Ok`] or
    /// [`TaskOutcome::Warnings`], and a failed task as [`Error::Task`].
    ///
    /// ```no_run
    /// # async fn example(task: proxmox_api::task::Task) -> Result<(), proxmox_api::Error> {
    /// use std::time::Duration;
    ///
    /// task.wait().timeout(Duration::from_secs(300)).on_log(|line| println!("{line}")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(&self) -> WaitBuilder<'static> {
        WaitBuilder {
            task: self.clone(),
            timeout: None,
            first: FIRST_PAUSE,
            longest: LONGEST_PAUSE,
            log: None,
        }
    }

    fn call(&self, method: Method, below: &str) -> Call {
        let node = escape(self.upid.node());
        let upid = escape(self.upid.as_str());
        Call::new(method, format!("/nodes/{node}/tasks/{upid}{below}"))
    }

    async fn ask(&self, call: Call) -> Result<Value, Error> {
        let name = call.name();
        let reply = self.client.execute(call).await?;
        decode_data(&reply.body).map_err(|error| Error::decode(name, error))
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.upid)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upid.fmt(f)
    }
}

/// How a task is doing.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    running: bool,
    exit: Option<String>,
    data: Value,
}

impl TaskStatus {
    fn read(data: Value) -> Result<Self, DecodeError> {
        let running = match data.get("status").and_then(Value::as_str) {
            Some("running") => true,
            Some("stopped") => false,
            _ => {
                return Err(DecodeError::new(
                    "data.status",
                    "expected \"running\" or \"stopped\"",
                ));
            }
        };
        let exit = data
            .get("exitstatus")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(Self {
            running,
            exit,
            data,
        })
    }

    /// Whether it is still at work.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// How it ended, as the server writes it; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<&str> {
        self.exit.as_deref()
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn outcome(&self) -> Option<TaskOutcome> {
        if self.running {
            return None;
        }
        Some(match self.exit_status() {
            Some(text) => TaskOutcome::read(text),
            None => TaskOutcome::Failed("it ended without saying how".to_owned()),
        })
    }

    /// Everything the server told, as JSON.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskOutcome {
    /// It did its work.
    Ok,
    /// It did its work and logged this many warnings.
    Warnings(u32),
    /// It failed; the text says why.
    Failed(String),
}

impl TaskOutcome {
    fn read(exit: &str) -> Self {
        match exit
            .strip_prefix("WARNINGS:")
            .map(|count| count.trim().parse())
        {
            Some(Ok(count)) => Self::Warnings(count),
            _ if exit == "OK" => Self::Ok,
            _ => Self::Failed(exit.to_owned()),
        }
    }

    /// Whether the work was done, with or without warnings.
    #[must_use]
    pub fn is_success(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for TaskOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            Self::Warnings(count) => write!(f, "WARNINGS: {count}"),
            Self::Failed(text) => write!(f, "{}", OneLine(text)),
        }
    }
}

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// Its number; the first is 1.
    pub number: u64,
    /// Its text, without a line break.
    pub text: String,
}

impl LogLine {
    fn read(place: u64, row: &Value) -> Self {
        let number = match row.get("n") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) => digits.parse().ok(),
            _ => None,
        };
        let text = row
            .get("t")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self {
            number: number.unwrap_or(place),
            text,
        }
    }
}

/// Waiting for a task; made by [`Task::wait`], started by awaiting it.
#[must_use = "nothing is waited for until this is awaited"]
pub struct WaitBuilder<'a> {
    task: Task,
    timeout: Option<Duration>,
    first: Duration,
    longest: Duration,
    log: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(&str) + Send + 'a>;
type Waiting<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl<'a> WaitBuilder<'a> {
    /// Gives up after this time. The task goes on; use [`Task::stop`] to end it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Looks at the task at this interval, instead of every second at first and every five later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.first = interval;
        self.longest = interval;
        self
    }

    /// Hands over every line of the log, once and in order, while waiting. A line may come one look
    /// late: until something follows it, it may not be complete.
    pub fn on_log<'b>(self, listener: impl FnMut(&str) + Send + 'b) -> WaitBuilder<'b>
    where
        'a: 'b,
    {
        let Self {
            task,
            timeout,
            first,
            longest,
            log: _,
        } = self;
        WaitBuilder {
            task,
            timeout,
            first,
            longest,
            log: Some(Box::new(listener)),
        }
    }

    /// Waits and gives the outcome, a failure as [`TaskOutcome::Failed`] instead of an error.
    ///
    /// # Errors
    /// [`Error::Task`] if the time ran out or the task could not be watched any more.
    #[must_use = "futures do nothing until they are awaited"]
    pub fn outcome(self) -> Waiting<'a, TaskOutcome> {
        Box::pin(async move {
            let upid = self.task.upid.clone();
            match self.timeout {
                None => self.watch().await,
                Some(limit) => match tokio::time::timeout(limit, self.watch()).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(TaskError::new(upid, TaskErrorKind::TimedOut(limit)).into()),
                },
            }
        })
    }

    async fn watch(self) -> Result<TaskOutcome, Error> {
        let Self {
            task,
            first,
            longest,
            log,
            ..
        } = self;
        let mut follower = log.map(|listener| Follower {
            listener,
            seen: 0,
            held: None,
        });
        let mut pause = first;
        let mut failures = 0;
        let mut unborn = 0;
        loop {
            match look(&task, follower.as_mut()).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {
                    failures = 0;
                    unborn = BIRTH;
                }
                // A task that was just started may not be on record yet.
                Err(error) if error.kind() == Some(ErrorKind::NotFound) && unborn < BIRTH => {
                    unborn += 1
                }
                Err(error) if error.is_retryable() && failures < PATIENCE => failures += 1,
                Err(error) => {
                    return Err(TaskError::new(task.upid, TaskErrorKind::Lost(error)).into());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(longest);
        }
    }
}

/// One look at a task: what is new in its log, and how it ended.
async fn look(
    task: &Task,
    follower: Option<&mut Follower<'_>>,
) -> Result<Option<TaskOutcome>, Error> {
    // In this order: once the task has ended, nothing is added to its log.
    let outcome = task.status().await?.outcome();
    if let Some(follower) = follower {
        follower.follow(task, outcome.is_some()).await?;
    }
    Ok(outcome)
}

struct Follower<'a> {
    listener: Listener<'a>,
    /// The number of the last line handed over.
    seen: u64,
    /// The line after it, as it looked the last time.
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

    /// Hands over what is complete; tells whether to ask for more at once.
    fn take(&mut self, lines: Vec<LogLine>, ended: bool, more: bool) -> bool {
        let before = self.seen;
        if before == 0 && matches!(lines.as_slice(), [line] if is_no_line(&line.text)) {
            return false;
        }
        let last = lines.last().map(|line| line.number);
        for line in lines.into_iter().filter(|line| line.number > before) {
            // The task may be in the middle of writing its last line.
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

/// What the server says instead of a log (wire protocol §8).
fn is_no_line(text: &str) -> bool {
    text == "no content" || text.starts_with("unable to open file")
}

impl<'a> IntoFuture for WaitBuilder<'a> {
    type Output = Result<TaskOutcome, Error>;
    type IntoFuture = Waiting<'a, TaskOutcome>;

    fn into_future(self) -> Self::IntoFuture {
        let upid = self.task.upid.clone();
        let outcome = self.outcome();
        Box::pin(async move {
            match outcome.await? {
                TaskOutcome::Failed(text) => {
                    Err(TaskError::new(upid, TaskErrorKind::Failed(text)).into())
                }
                done => Ok(done),
            }
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

/// A task failed, or it is not known how it ended. See [`Error::Task`].
#[derive(Debug)]
pub struct TaskError(Box<(Upid, TaskErrorKind)>);

/// What went wrong with a task.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// It ended with this text instead of success.
    Failed(String),
    /// It was still running after this time, and is left running.
    TimedOut(Duration),
    /// It could not be watched any more; it may still be running.
    Lost(Error),
}

impl TaskError {
    fn new(upid: Upid, kind: TaskErrorKind) -> Self {
        Self(Box::new((upid, kind)))
    }

    /// Which task.
    #[must_use]
    pub fn upid(&self) -> &Upid {
        &self.0.0
    }

    /// What went wrong.
    #[must_use]
    pub fn reason(&self) -> &TaskErrorKind {
        &self.0.1
    }

    /// Why the task could not be watched any more.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        match &self.0.1 {
            TaskErrorKind::Lost(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the task may still be at work.
    #[must_use]
    pub fn may_be_running(&self) -> bool {
        !matches!(self.0.1, TaskErrorKind::Failed(_))
    }

    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match &self.0.1 {
            TaskErrorKind::Failed(text) => Some(ErrorKind::of_text(text)),
            TaskErrorKind::TimedOut(_) => None,
            TaskErrorKind::Lost(error) => error.kind(),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (upid, kind) = &*self.0;
        match kind {
            TaskErrorKind::Failed(text) => write!(f, "task {upid} failed: {}", OneLine(text)),
            TaskErrorKind::TimedOut(limit) => {
                write!(
                    f,
                    "task {upid} did not end within {limit:?}; it goes on on node {}",
                    upid.node()
                )
            }
            TaskErrorKind::Lost(error) => {
                write!(
                    f,
                    "lost sight of task {upid}, which may still be running: {error}"
                )
            }
        }
    }
}

impl std::error::Error for TaskError {}

#[cfg(test)]
mod tests;
