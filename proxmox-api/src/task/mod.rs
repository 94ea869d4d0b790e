//! Tasks: work that continues after the call that started it ([wire protocol §8](crate::guide::wire_protocol)).

mod and_wait;
mod outcome;
mod wait;

use std::fmt;

use serde_json::{Value, json};

use crate::bounds::{Bound, Exceeded};
use crate::client::request::{Request, exchange};
use crate::client::{Client, KeptSecrets, Reply};
use crate::error::{CallId, Error};
use crate::value::decode::{DecodeError, Extra, count, decode_answer, decode_data};
use crate::value::encode::escape;
use crate::value::endpoint::Method;
use crate::value::serialize::record_serde;
use crate::value::text::{OneLine, shortened};
use crate::value::upid::{Upid, UpidError};

pub use and_wait::{AndWait, SendAndWait, Waitable, Waiting};
#[cfg(feature = "guests")]
pub(crate) use outcome::or_error;
pub use wait::{LogLines, WaitBuilder};

pub use crate::error::task::{TaskError, TaskErrorKind};
pub use crate::value::log_line::TaskLogLine;
#[cfg(feature = "guests")]
pub(crate) use wait::{PollSchedule, PollTolerance};

/// The number of log lines for each request.
const PAGE: u64 = 500;

/// A handle for a task on its node. Dropping it changes nothing there.
///
/// Some calls complete their work with the answer, sometimes or on some releases, and start no
/// task. Their handle is done: waiting for it returns [`TaskOutcome::Ok`] without a request.
///
/// A successful call stays successful if the identifier of its task cannot be parsed; requests
/// about the task then end in [`TaskErrorKind::Unreadable`].
#[must_use = "what the task may still fail: wait for it, or `detach` it"]
#[derive(Clone)]
pub struct Task {
    client: Client,
    id: Id,
    /// Secrets of the call that started it, which its log may quote.
    secrets: KeptSecrets,
}

#[derive(Clone)]
enum Id {
    /// There is no task; the work is complete.
    Done,
    Upid(Upid),
    /// An answer without a readable UPID.
    Odd(String, UpidError),
}

impl Task {
    pub(crate) fn new(client: Client, upid: Upid) -> Self {
        let id = Id::Upid(upid);
        let secrets = None;
        Self {
            client,
            id,
            secrets,
        }
    }

    /// The task in an answer.
    fn of_answer(client: Client, named: &Value, secrets: KeptSecrets) -> Self {
        let id = match named {
            Value::Null => Id::Done,
            Value::String(text) if matches!(text.as_str(), "" | "OK") => Id::Done,
            Value::String(text) => match text.parse() {
                Ok(upid) => Id::Upid(upid),
                Err(error) => Id::Odd(text.clone(), error),
            },
            other => {
                let text = other.to_string();
                let error = text.parse::<Upid>().err();
                error.map_or(Id::Done, |error| Id::Odd(text, error))
            }
        };
        Self {
            client,
            id,
            secrets,
        }
    }

    #[cfg(feature = "guests")]
    pub(crate) fn done(client: &Client) -> Self {
        let id = Id::Done;
        let (client, secrets) = (client.clone(), None);
        Self {
            client,
            id,
            secrets,
        }
    }

    /// The task's identifier; `None` for work that was complete with the answer, and if it cannot
    /// be parsed.
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        match &self.id {
            Id::Upid(upid) => Some(upid),
            Id::Done | Id::Odd(..) => None,
        }
    }

    /// The task's identifier as the server wrote it; `None` for work that was complete with the
    /// answer.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.id {
            Id::Done => None,
            Id::Upid(upid) => Some(upid.as_str()),
            Id::Odd(text, _) => Some(text),
        }
    }

    /// Whether the call completed its work with the answer and started no task.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.id, Id::Done)
    }

    /// Ignores the task, and its failure.
    pub fn detach(self) {}

    /// An error about this task.
    pub(crate) fn error(&self, reason: TaskErrorKind) -> TaskError {
        let clean = |text: String| shortened(self.clean(text));
        let reason = match reason {
            TaskErrorKind::Failed(text) => TaskErrorKind::Failed(clean(text)),
            TaskErrorKind::Interrupted(text) => TaskErrorKind::Interrupted(clean(text)),
            other => other,
        };
        let name = self
            .as_str()
            .map_or_else(|| self.to_string(), str::to_owned);
        TaskError::new(clean(name), self.upid().cloned(), reason)
    }

    /// A text of the server without secrets of the call.
    fn clean(&self, text: String) -> String {
        self.client.without_secrets(&self.secrets, text)
    }

    fn undecodable(&self, name: CallId, error: DecodeError) -> Error {
        self.client.undecodable(name, &self.secrets, error)
    }

    /// The UPID for further calls; `None` if there is none.
    fn known(&self) -> Result<Option<&Upid>, Error> {
        match &self.id {
            Id::Done => Ok(None),
            Id::Upid(upid) => Ok(Some(upid)),
            Id::Odd(_, error) => Err(self.error(TaskErrorKind::Unreadable(*error)).into()),
        }
    }

    /// The client of this handle.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads the state of the task: [`GET
    /// /nodes/{node}/tasks/{upid}/status`](crate::pve::nodes::NodeTasksUpidStatusPath::get).
    ///
    /// # Errors
    /// Those of every request; [`ErrorKind::NotFound`](crate::error::ErrorKind::NotFound) if the
    /// node has no such task.
    pub async fn status(&self) -> Result<TaskStatus, Error> {
        let Some(upid) = self.known()? else {
            return Ok(TaskStatus::of_nothing());
        };
        let request = self.request(Method::Get, upid, "/status");
        let (_, name, reply) = exchange(request.client, request.call).await?;
        let status = decode_data(&reply).and_then(TaskStatus::read);
        status.map_err(|error| self.undecodable(name, error))
    }

    /// Reads lines of the log: [`GET
    /// /nodes/{node}/tasks/{upid}/log`](crate::pve::nodes::NodeTasksUpidLogGet). `start` lines are
    /// skipped; a `limit` of 0 means all that follow.
    ///
    /// For an empty or missing log, the server sends one line that says so.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn log(&self, start: u64, limit: u64) -> Result<Vec<TaskLogLine>, Error> {
        Ok(self.log_page(start, limit).await?.0)
    }

    /// Lines of the log, and the number of lines that the server has counted.
    async fn log_page(&self, start: u64, limit: u64) -> Result<(Vec<TaskLogLine>, u64), Error> {
        let Some(upid) = self.known()? else {
            return Ok((Vec::new(), 0));
        };
        let request = self.request(Method::Get, upid, "/log");
        let request = request.param("start", start).param("limit", limit);
        let (_, name, reply) = exchange(request.client, request.call).await?;
        let mut beside = Extra::new();
        let data: Value =
            decode_answer(&reply, &mut beside).map_err(|error| self.undecodable(name, error))?;
        let rows = data.as_array().map(Vec::as_slice);
        let lines = (1_u64..)
            .zip(rows.unwrap_or_default())
            .map(|(place, row)| TaskLogLine::read(start.saturating_add(place), row))
            .collect();
        Ok((lines, beside.get("total").and_then(count).unwrap_or(0)))
    }

    /// The last lines of the log, at most `count`; none of an empty or missing log.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn log_tail(&self, count: usize) -> Result<Vec<TaskLogLine>, Error> {
        let mut tail = Vec::new();
        let (mut start, mut seen) = (0, 0);
        let pages = self.client.bounds().pages;
        for _ in 0..pages {
            let (lines, total) = self.log_page(start, PAGE).await?;
            let end = start.saturating_add(lines.len() as u64);
            let last = lines.last().map_or(0, |line| line.number);
            tail.extend(lines.into_iter().filter(|line| !line.stands_for_none()));
            tail.drain(..tail.len().saturating_sub(count));
            // The count is that of the lines the server has read, which need not be all.
            let more = end - start >= PAGE || total > end;
            if !more || last <= seen {
                return Ok(tail);
            }
            seen = last;
            start = end.max(total.saturating_sub(count as u64));
        }
        let name = CallId::new(Method::Get, "/nodes/{node}/tasks/{upid}/log");
        Err(Error::exceeded(&name, Exceeded::new(Bound::Pages, pages)))
    }

    /// Stops the task: [`DELETE
    /// /nodes/{node}/tasks/{upid}`](crate::pve::nodes::NodeTasksUpidPath::delete). The server waits
    /// up to five seconds for its end and then kills it. Does nothing to a task that has ended.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn stop(&self) -> Result<(), Error> {
        let Some(upid) = self.known()? else {
            return Ok(());
        };
        let request = self.request(Method::Delete, upid, "");
        self.client.execute(request.call).await.map(drop)
    }

    /// Waits for the end. Awaiting it returns [`TaskOutcome::Ok`] or [`TaskOutcome::Warnings`], and
    /// a failed task as [`Error::Task`].
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
        WaitBuilder::new(self)
    }

    fn request(&self, method: Method, upid: &Upid, below: &str) -> Request<Value> {
        let node = escape(upid.node());
        let upid = escape(upid.as_str());
        (self.client).request(method, format!("/nodes/{node}/tasks/{upid}{below}"))
    }
}

impl Client {
    /// A handle for a task that was started elsewhere.
    pub fn task(&self, upid: Upid) -> Task {
        Task::new(self.clone(), upid)
    }
}

/// Decodes the answer of a call that starts a task. The call has succeeded, whatever the identifier
/// of the task.
pub(crate) fn read_task(
    client: &Client,
    reply: &Reply,
    extra: &mut Extra,
) -> Result<Task, DecodeError> {
    let named: Value = decode_answer(reply, extra)?;
    Ok(Task::of_answer(
        client.clone(),
        &named,
        reply.secrets.clone(),
    ))
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({self})")
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Id::Done => f.pad("done at once"),
            Id::Upid(upid) => upid.fmt(f),
            Id::Odd(text, _) => OneLine(text).fmt(f),
        }
    }
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    running: bool,
    exit: Option<String>,
    data: Value,
}

record_serde!(TaskStatus {
    running,
    exit,
    data,
});

impl TaskStatus {
    /// The state of work that was complete with the answer.
    fn of_nothing() -> Self {
        Self {
            running: false,
            exit: Some("OK".to_owned()),
            data: Value::Null,
        }
    }

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

    /// Whether it is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Its exit status from the server; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<&str> {
        self.exit.as_deref()
    }

    /// Its outcome; `None` while it runs.
    #[must_use]
    pub fn outcome(&self) -> Option<TaskOutcome> {
        if self.running {
            return None;
        }
        Some(match self.exit_status() {
            Some(text) => TaskOutcome::read(text),
            None => TaskOutcome::Interrupted("it ended without an exit status".to_owned()),
        })
    }

    /// The server's whole answer, as JSON.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }
}

/// The outcome of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskOutcome {
    /// It succeeded.
    Ok,
    /// It succeeded and logged this many warnings.
    Warnings(u32),
    /// It failed, with this text.
    Failed(String),
    /// It was stopped or killed before its end, or its end is unknown; with the server's exit
    /// status, such as `received interrupt` or `unexpected status` ([wire protocol
    /// §8](crate::guide::wire_protocol)).
    Interrupted(String),
}

/// `"ok"`, `{"warnings":2}`, `{"failed":"…"}` or `{"interrupted":"…"}`.
impl serde::Serialize for TaskOutcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ok => Value::from("ok"),
            Self::Warnings(count) => json!({ "warnings": count }),
            Self::Failed(text) => json!({ "failed": text }),
            Self::Interrupted(text) => json!({ "interrupted": text }),
        }
        .serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for TaskOutcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        let count = json.get("warnings").and_then(Value::as_u64);
        let found = match json.as_str() {
            Some("ok") => Some(Self::Ok),
            _ => (count
                .and_then(|count| count.try_into().ok())
                .map(Self::Warnings))
            .or_else(|| text("failed").map(Self::Failed))
            .or_else(|| text("interrupted").map(Self::Interrupted)),
        };
        found.ok_or_else(|| serde::de::Error::custom("this is no outcome of a task"))
    }
}

impl TaskOutcome {
    fn read(exit: &str) -> Self {
        if exit == "OK" {
            return Self::Ok;
        }
        if let Some(count) = exit.strip_prefix("WARNINGS:")
            && let Ok(count) = count.trim().parse()
        {
            return Self::Warnings(count);
        }
        // A worker that gets a signal to end fails with that, sometimes behind the text of an inner
        // operation. The log of a killed one has no last line.
        let interrupted = exit == "unexpected status"
            || exit.ends_with("received interrupt")
            || exit.ends_with("interrupted by signal")
            || exit.starts_with("unable to get last line from task log");
        if interrupted {
            Self::Interrupted(exit.to_owned())
        } else {
            Self::Failed(exit.to_owned())
        }
    }

    /// Whether it succeeded, with or without warnings.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ok | Self::Warnings(_))
    }
}

impl fmt::Display for TaskOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            Self::Warnings(count) => write!(f, "WARNINGS: {count}"),
            Self::Failed(text) | Self::Interrupted(text) => write!(f, "{}", OneLine(text)),
        }
    }
}

#[cfg(test)]
mod tests;
