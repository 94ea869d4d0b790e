//! Many tasks at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::error::{Error, ErrorKind};
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
    pub outcome: Result<TaskOutcome, NoEnd>,
}

impl TaskEnd {
    /// Whether it did its work, with or without warnings.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(&self.outcome, Ok(outcome) if outcome.is_success())
    }
}

/// Why it is not known how a task ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum NoEnd {
    /// It was still running after this time, and is left running.
    TimedOut(Duration),
    /// It could not be watched any more; it may still be running.
    Lost(Error),
}

impl fmt::Display for NoEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "it did not end within {limit:?}, and goes on"),
            Self::Lost(error) => write!(f, "lost sight of it: {error}"),
        }
    }
}

impl std::error::Error for NoEnd {}

/// Waiting for many tasks; made by [`wait_all`].
#[must_use = "nothing is waited for until `each` or `all` is awaited"]
#[derive(Debug)]
pub struct WaitAll {
    client: Client,
    tasks: Vec<Task>,
    timeout: Option<Duration>,
    interval: Option<Duration>,
}

/// Waits for many tasks at once. One request for each node tells which of them still run, and only the others
/// are looked at themselves, so that waiting for hundreds costs little more than waiting for one.
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client, tasks: Vec<proxmox_api::task::Task>) {
/// use proxmox_api::tasks::{GUEST_TIMEOUT, wait_all};
///
/// let ends = wait_all(&pve, tasks).timeout(GUEST_TIMEOUT).all().await;
/// let failed = ends.iter().filter(|end| !end.is_success()).count();
/// # }
/// ```
pub fn wait_all(client: &Client, tasks: impl IntoIterator<Item = Task>) -> WaitAll {
    WaitAll {
        client: client.clone(),
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

    /// Like [`WaitAll::all`], and calls `seen` with each task's place and end as soon as it is known.
    pub async fn each(self, mut seen: impl FnMut(usize, &TaskEnd)) -> Vec<TaskEnd> {
        let start = Instant::now();
        let mut ends: Vec<Option<TaskEnd>> = self.tasks.iter().map(|_| None).collect();
        let mut open: Vec<Open> = (self.tasks.into_iter().enumerate())
            .map(|(index, task)| Open {
                index,
                task,
                failures: 0,
                unknown: 0,
            })
            .collect();
        let mut pause = self.interval.unwrap_or(FIRST_PAUSE);
        while !open.is_empty() {
            let running = running(&self.client, &open).await;
            let (running, mut asked): (Vec<Open>, Vec<Open>) =
                (open.into_iter()).partition(|open| running.contains(open.task.upid().as_str()));
            open = running;
            let mut looks = FuturesUnordered::new();
            loop {
                while looks.len() < AT_ONCE
                    && let Some(one) = asked.pop()
                {
                    looks.push(one.look());
                }
                let Some(look) = looks.next().await else {
                    break;
                };
                match look {
                    (one, None) => open.push(one),
                    (one, Some(outcome)) => one.end(outcome, &mut ends, &mut seen),
                }
            }
            if open.is_empty() {
                break;
            }
            if let Some(limit) = self
                .timeout
                .filter(|limit| start.elapsed() + pause > *limit)
            {
                for one in open.drain(..) {
                    one.end(Err(NoEnd::TimedOut(limit)), &mut ends, &mut seen);
                }
                break;
            }
            sleep(pause).await;
            if self.interval.is_none() {
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
        }
        ends.into_iter().flatten().collect()
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many tasks are looked at themselves at the same time.
const AT_ONCE: usize = 8;
/// How many looks in a row may fail for reasons that pass by themselves.
const PATIENCE: u32 = 10;
/// How many times a task may be unknown before it first shows up.
const BIRTH: u32 = 3;
/// More tasks than that do not run on a node at the same time.
const LISTED: i64 = 1_000;

/// A task whose end is not known yet.
struct Open {
    index: usize,
    task: Task,
    failures: u32,
    unknown: u32,
}

impl Open {
    async fn look(mut self) -> (Self, Option<Result<TaskOutcome, NoEnd>>) {
        let outcome = match self.task.status().await {
            Ok(status) => {
                self.failures = 0;
                self.unknown = BIRTH;
                status.outcome().map(Ok)
            }
            // A task that was just started may not be on record yet.
            Err(error) if error.kind() == Some(ErrorKind::NotFound) && self.unknown < BIRTH => {
                self.unknown += 1;
                None
            }
            Err(error) if error.is_retryable() && self.failures < PATIENCE => {
                self.failures += 1;
                None
            }
            Err(error) => Some(Err(NoEnd::Lost(error))),
        };
        (self, outcome)
    }

    fn end(
        self,
        outcome: Result<TaskOutcome, NoEnd>,
        ends: &mut [Option<TaskEnd>],
        seen: &mut impl FnMut(usize, &TaskEnd),
    ) {
        let end = TaskEnd {
            task: self.task,
            outcome,
        };
        seen(self.index, &end);
        if let Some(slot) = ends.get_mut(self.index) {
            *slot = Some(end);
        }
    }
}

/// Which of the tasks run, as far as their nodes' lists tell. What is not there is to be asked for itself: it has
/// ended, or belongs to somebody else, or its node cannot be asked.
async fn running(client: &Client, open: &[Open]) -> BTreeSet<String> {
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for one in open {
        *nodes.entry(one.task.upid().node()).or_default() += 1;
    }
    let mut lists: FuturesUnordered<_> = (nodes.into_iter())
        // Asking for a single task itself costs the same and tells more.
        .filter(|(_, tasks)| *tasks > 1)
        .map(|(node, _)| {
            let request = client.api().nodes().node(node).tasks().get();
            request.source("active").limit(LISTED).into_future()
        })
        .collect();
    let mut running = BTreeSet::new();
    while let Some(list) = lists.next().await {
        for row in list.unwrap_or_default() {
            if row.endtime.is_none() {
                running.insert(row.upid);
            }
        }
    }
    running
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{Fake, ok};

    fn upid(number: u32) -> String {
        format!("UPID:pve1:{number:08X}:0002DDA4:6B01F6EE:qmstart:{number}:root@pam!ci:")
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_of_tasks_cost_one_list_each_round() {
        // Task n runs for n / 50 rounds.
        let round = Mutex::new(0);
        let fake = Fake::new(move |request| {
            let mut round = round.lock().expect("one at a time");
            if request.path.contains("source=active") {
                *round += 1;
                let rows: Vec<String> = (0..200)
                    .filter(|number| number / 50 >= *round)
                    .map(|number| {
                        format!(
                            r#"{{"upid":"{}","node":"pve1","type":"qmstart","id":"1","user":"root@pam",
                                "pid":1,"pstart":1,"starttime":1,"status":"RUNNING"}}"#,
                            upid(number)
                        )
                    })
                    .collect();
                return ok(format!(r#"{{"data":[{}]}}"#, rows.join(",")));
            }
            ok(r#"{"data":{"status":"stopped","exitstatus":"OK"}}"#)
        });
        let client = fake.token_client();
        let tasks: Vec<Task> = (0..200)
            .map(|number| client.task(upid(number).parse().expect("a UPID")))
            .collect();
        let mut order = HashMap::new();
        let ends = wait_all(&client, tasks).each(|index, _| {
            let place = order.len();
            order.insert(index, place);
        });
        let ends = ends.await;
        assert!(ends.len() == 200 && ends.iter().all(TaskEnd::is_success));
        assert!(order[&10] < order[&60] && order[&60] < order[&160]);
        assert_eq!(
            fake.requests().len(),
            200 + 4,
            "a look at each, and four lists"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_in_time_is_told_apart_from_what_failed() {
        let fake = Fake::new(|request| {
            if request.path.contains("source=active") {
                ok(r#"{"data":[]}"#)
            } else if request.path.contains("00000001") {
                ok(r#"{"data":{"status":"running"}}"#)
            } else {
                ok(r#"{"data":{"status":"stopped","exitstatus":"VM is locked (backup)"}}"#)
            }
        });
        let client = fake.token_client();
        let tasks = [1, 2].map(|number| client.task(upid(number).parse().expect("a UPID")));
        let ends = wait_all(&client, tasks).timeout(GUEST_TIMEOUT).all().await;
        assert!(matches!(
            ends[0].outcome,
            Err(NoEnd::TimedOut(GUEST_TIMEOUT))
        ));
        assert!(
            matches!(&ends[1].outcome, Ok(TaskOutcome::Failed(text)) if text.contains("locked"))
        );
    }
}
