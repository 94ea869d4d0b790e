//! Many tasks at once.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::error::Error;
use crate::task::{Task, TaskOutcome};

/// How long operations on a guest's power and configuration commonly take at most. A suggestion for
/// timeouts; nothing uses it unasked, but for guests that high availability manages.
pub const GUEST_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long operations that copy disks commonly take at most: clones, migrations, backups. A suggestion
/// for timeouts; nothing uses it unasked.
pub const STORAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How one of many tasks ended; see [`wait_all`].
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskEnd {
    /// The task.
    pub task: Task,
    /// How it ended, or why that is not known.
    pub outcome: Result<TaskOutcome, Error>,
}

impl TaskEnd {
    /// Whether it did its work, with or without warnings.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(&self.outcome, Ok(outcome) if outcome.is_success())
    }
}

/// Waiting for many tasks; made by [`wait_all`].
#[must_use = "nothing is waited for until `each` or `all` is awaited"]
#[derive(Debug)]
pub struct WaitAll {
    tasks: Vec<Task>,
    timeout: Option<Duration>,
    interval: Option<Duration>,
}

/// Waits for many tasks at once. They are looked at side by side, so the time taken is that of the longest.
///
/// ```no_run
/// # async fn example(tasks: Vec<proxmox_api::task::Task>) {
/// use proxmox_api::tasks::{GUEST_TIMEOUT, wait_all};
///
/// let ends = wait_all(tasks).timeout(GUEST_TIMEOUT).all().await;
/// let failed = ends.iter().filter(|end| !end.is_success()).count();
/// # }
/// ```
pub fn wait_all(tasks: impl IntoIterator<Item = Task>) -> WaitAll {
    WaitAll {
        tasks: tasks.into_iter().collect(),
        timeout: None,
        interval: None,
    }
}

impl WaitAll {
    /// Gives each task at most this time from now on. Tasks go on when it is up.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Looks at each task this often, instead of every second at first and more seldom later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Waits for all of them. The answer has the order of the tasks; it holds failures as
    /// [`TaskOutcome::Failed`], and an error where a task ran out of time or could not be watched.
    pub async fn all(self) -> Vec<TaskEnd> {
        self.each(|_, _| ()).await
    }

    /// Like [`WaitAll::all`], and calls `seen` with each task's place and end as soon as it has ended.
    pub async fn each(self, mut seen: impl FnMut(usize, &TaskEnd)) -> Vec<TaskEnd> {
        let Self {
            tasks,
            timeout,
            interval,
        } = self;
        let mut ends: Vec<Option<TaskEnd>> = tasks.iter().map(|_| None).collect();
        let mut waiting: FuturesUnordered<_> = (tasks.into_iter().enumerate())
            .map(|(index, task)| async move {
                let mut wait = task.wait();
                if let Some(timeout) = timeout {
                    wait = wait.timeout(timeout);
                }
                if let Some(interval) = interval {
                    wait = wait.poll_interval(interval);
                }
                let outcome = wait.outcome().await;
                (index, TaskEnd { task, outcome })
            })
            .collect();
        while let Some((index, end)) = waiting.next().await {
            seen(index, &end);
            if let Some(slot) = ends.get_mut(index) {
                *slot = Some(end);
            }
        }
        ends.into_iter().flatten().collect()
    }
}
