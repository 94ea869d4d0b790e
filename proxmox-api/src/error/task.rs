//! Errors of tasks that did not succeed.

use std::fmt;
use std::time::Duration;

use super::Error;
use super::api::ErrorKind;
use crate::value::log_line::TaskLogLine;
use crate::value::text::OneLine;
use crate::value::upid::{Upid, UpidError};

/// The limit on each line of the log, in characters.
const SHOWN: usize = 160;

/// A task failed, or its end is unknown. See [`Error::Task`].
#[derive(Clone, Debug)]
pub struct TaskError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    task: String,
    upid: Option<Upid>,
    reason: TaskErrorKind,
    log: Vec<TaskLogLine>,
}

/// The kinds of task failures.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// It failed with this text.
    Failed(String),
    /// It was stopped or killed before its end, or its end is unknown; see
    /// [`TaskOutcome::Interrupted`](crate::task::TaskOutcome::Interrupted).
    Interrupted(String),
    /// It was still running after this time, and continues.
    TimedOut(Duration),
    /// It could not be polled any more; it may still be running.
    Lost(Error),
    /// Its identifier is not a UPID, so it cannot be polled; it may be running.
    Unreadable(UpidError),
}

impl TaskError {
    /// `task` is the identifier from the server.
    pub(crate) fn new(task: String, upid: Option<Upid>, reason: TaskErrorKind) -> Self {
        Self(Box::new(Parts {
            task,
            upid,
            reason,
            log: Vec::new(),
        }))
    }

    pub(crate) fn with_log(mut self, log: Vec<TaskLogLine>) -> Self {
        self.0.log = log;
        self
    }

    /// The task; `None` if its identifier is not a UPID.
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        self.0.upid.as_ref()
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &TaskErrorKind {
        &self.0.reason
    }

    /// The last lines of the log of a task that failed or was interrupted, ten at most, without the
    /// line that repeats its end. Empty if there are none or they could not be read.
    #[must_use]
    pub fn log(&self) -> &[TaskLogLine] {
        &self.0.log
    }

    /// The error of the last poll.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        match &self.0.reason {
            TaskErrorKind::Lost(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the task may still be running.
    #[must_use]
    pub fn may_be_running(&self) -> bool {
        match &self.0.reason {
            TaskErrorKind::Failed(_) | TaskErrorKind::Interrupted(_) => false,
            TaskErrorKind::TimedOut(_) | TaskErrorKind::Lost(_) | TaskErrorKind::Unreadable(_) => {
                true
            }
        }
    }

    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match &self.0.reason {
            TaskErrorKind::Failed(text) | TaskErrorKind::Interrupted(text) => {
                Some(ErrorKind::of_text(text))
            }
            TaskErrorKind::TimedOut(_) | TaskErrorKind::Unreadable(_) => None,
            TaskErrorKind::Lost(error) => error.kind(),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            task: upid,
            upid: parsed,
            reason,
            log,
        } = &*self.0;
        match reason {
            TaskErrorKind::Failed(text) => write!(f, "task {upid} failed: {}", OneLine(text))?,
            TaskErrorKind::Interrupted(text) => {
                write!(f, "task {upid} was interrupted: {}", OneLine(text))?;
            }
            TaskErrorKind::TimedOut(limit) => write!(
                f,
                "task {upid} did not end within {limit:?}; it continues on node {}",
                parsed.as_ref().map_or("?", Upid::node)
            )?,
            TaskErrorKind::Lost(error) => write!(
                f,
                "cannot poll task {upid}, which may still be running: {error}"
            )?,
            TaskErrorKind::Unreadable(error) => write!(
                f,
                "the call succeeded, but its task identifier {upid:?} is invalid, so the task cannot be polled: {error}"
            )?,
        }
        let mut before = " (its log ends: ";
        for line in log {
            let limit = line.text.char_indices().nth(SHOWN);
            let (text, more) = match limit {
                Some((end, _)) => (line.text.get(..end).unwrap_or_default(), "…"),
                None => (line.text.as_str(), ""),
            };
            write!(f, "{before}{}{more}", OneLine(text))?;
            before = " | ";
        }
        f.write_str(if log.is_empty() { "" } else { ")" })
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let error = self.cause()?;
        Some(error)
    }
}
