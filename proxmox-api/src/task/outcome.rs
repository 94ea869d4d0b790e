//! The outcome of a task as a result.

use std::time::Duration;

use super::{Task, TaskOutcome};
use crate::error::Error;
use crate::error::task::TaskErrorKind;
use crate::value::text::shortened;

/// The number of last log lines that an error keeps.
const TAIL: usize = 10;
/// The time limit for reading the log of a failed task. The failure is known by then and must not
/// wait.
const TAIL_TIMEOUT: Duration = Duration::from_secs(10);
/// The outcome of a task that succeeded; for any other an error with the end of its log.
pub(crate) async fn or_error(task: &Task, outcome: TaskOutcome) -> Result<TaskOutcome, Error> {
    let reason = match outcome {
        TaskOutcome::Failed(text) => TaskErrorKind::Failed(text),
        TaskOutcome::Interrupted(text) => TaskErrorKind::Interrupted(text),
        done => return Ok(done),
    };
    let mut error = task.error(reason);
    if let Ok(Ok(mut lines)) = tokio::time::timeout(TAIL_TIMEOUT, task.log_tail(TAIL + 1)).await {
        if lines
            .last()
            .is_some_and(|line| line.text.starts_with("TASK "))
        {
            lines.pop();
        }
        lines.drain(..lines.len().saturating_sub(TAIL));
        for line in &mut lines {
            line.text = shortened(task.clean(std::mem::take(&mut line.text)));
        }
        error = error.with_log(lines);
    }
    Err(error.into())
}
