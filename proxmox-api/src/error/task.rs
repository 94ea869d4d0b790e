//! How a task that did not do its work is told about.

use std::fmt;
use std::time::Duration;

use super::Error;
use super::api::ErrorKind;
use crate::value::log_line::LogLine;
use crate::value::text::OneLine;
use crate::value::upid::{Upid, UpidError};

/// How much of each line is shown.
const SHOWN: usize = 160;

/// A task failed, or it is not known how it ended. See [`Error::Task`].
#[derive(Clone, Debug)]
pub struct TaskError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    task: String,
    upid: Option<Upid>,
    reason: TaskErrorKind,
    log: Vec<LogLine>,
}

/// What went wrong with a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// It ended with this text instead of success.
    Failed(String),
    /// It was stopped or killed before it was through, or nothing says how it ended; see
    /// [`TaskOutcome::Interrupted`](crate::task::TaskOutcome::Interrupted).
    Interrupted(String),
    /// It was still running after this time, and is left running.
    TimedOut(Duration),
    /// It could not be watched any more; it may still be running.
    Lost(Error),
    /// The server calls it by something that is no UPID, so it cannot be asked about; it may be running.
    Unreadable(UpidError),
}

impl TaskError {
    /// `task` is what the server calls it.
    pub(crate) fn new(task: String, upid: Option<Upid>, reason: TaskErrorKind) -> Self {
        Self(Box::new(Parts {
            task,
            upid,
            reason,
            log: Vec::new(),
        }))
    }

    pub(crate) fn with_log(mut self, log: Vec<LogLine>) -> Self {
        self.0.log = log;
        self
    }

    /// Which task; `None` for one whose identifier cannot be understood.
    #[must_use]
    pub fn upid(&self) -> Option<&Upid> {
        self.0.upid.as_ref()
    }

    /// What went wrong.
    #[must_use]
    pub fn reason(&self) -> &TaskErrorKind {
        &self.0.reason
    }

    /// The last lines of the log of a task that failed or was interrupted, ten at most, without the one that
    /// says again how it ended. Empty where there are none or they could not be read.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.0.log
    }

    /// Why the task could not be watched any more.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        match &self.0.reason {
            TaskErrorKind::Lost(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the task may still be at work.
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
                "task {upid} did not end within {limit:?}; it goes on on node {}",
                parsed.as_ref().map_or("?", Upid::node)
            )?,
            TaskErrorKind::Lost(error) => write!(
                f,
                "lost sight of task {upid}, which may still be running: {error}"
            )?,
            TaskErrorKind::Unreadable(error) => write!(
                f,
                "the call worked, but the server calls its task {upid:?}, which cannot be asked about: {error}"
            )?,
        }
        let mut before = " (its log ends: ";
        for line in log {
            let shown = line.text.char_indices().nth(SHOWN);
            let (text, more) = match shown {
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
