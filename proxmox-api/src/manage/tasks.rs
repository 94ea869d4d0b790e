//! Many tasks at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures_util::stream::{StreamExt, iter};
use serde::{Serialize, Serializer};

use crate::client::Client;
use crate::error::Error;
pub use crate::manage::guest::started::GUEST_TIMEOUT;
use crate::task::{PollSchedule, PollTolerance, Task, TaskErrorKind, TaskOutcome, or_error};
use crate::value::BoxFuture;
use crate::value::serialize::{Field, record};

/// The usual maximum duration of operations that copy disks: clones, migrations, backups. A
/// suggestion for timeouts; nothing uses it by default.
pub const STORAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The end of one of many tasks; see [`wait_all`].
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskEnd {
    /// The task.
    pub task: Task,
    /// The result of awaiting [`Task::wait`]: the outcome, or [`Error::Task`].
    pub outcome: Result<TaskOutcome, Error>,
}

/// `{"upid":"UPID:…","outcome":"ok"}`, or with `error`, its text. It is not read back: a task is waited for with a client.
impl Serialize for TaskEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let upid = self.task.upid();
        let problem = self.outcome.as_ref().err().map(ToString::to_string);
        let outcome: (&str, &dyn Field) = match (&self.outcome, &problem) {
            (Ok(outcome), _) => ("outcome", outcome),
            (Err(_), problem) => ("error", problem),
        };
        record(&[("upid", &upid), outcome], serializer)
    }
}

impl TaskEnd {
    /// Whether it succeeded, with or without warnings.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Waiting for many tasks; made by [`wait_all`], started by awaiting it.
#[must_use = "does nothing unless awaited"]
pub struct WaitAll<'a> {
    client: Client,
    tasks: Vec<Task>,
    timeout: Option<Duration>,
    interval: Option<Duration>,
    listener: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(usize, &TaskEnd) + Send + 'a>;

/// Waits for many tasks at once. One request for each node lists the running tasks, and only the
/// others are polled one by one, so waiting for hundreds costs little more than waiting for one.
///
/// Awaiting it returns one end for each task, in the order of the tasks. A failed task is an error
/// in its own entry only.
///
/// ```no_run
/// # async fn example(
/// #     pve: proxmox_api::Client, tasks: Vec<proxmox_api::task::Task>,
/// # ) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::tasks::{GUEST_TIMEOUT, wait_all};
///
/// let ends = wait_all(&pve, tasks).timeout(GUEST_TIMEOUT).await?;
/// let failed = ends.iter().filter(|end| !end.is_success()).count();
/// # Ok(())
/// # }
/// ```
pub fn wait_all(client: &Client, tasks: impl IntoIterator<Item = Task>) -> WaitAll<'static> {
    WaitAll {
        client: client.clone(),
        tasks: tasks.into_iter().collect(),
        timeout: None,
        interval: None,
        listener: None,
    }
}

impl<'a> WaitAll<'a> {
    /// The time limit for each task, from now on. Tasks continue after it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Polls each task at this interval, instead of every second at first and less often later.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Calls `listener` with each task's position and end as soon as the end is known.
    pub fn on_end<'b>(self, listener: impl FnMut(usize, &TaskEnd) + Send + 'b) -> WaitAll<'b> {
        WaitAll {
            client: self.client,
            tasks: self.tasks,
            timeout: self.timeout,
            interval: self.interval,
            listener: Some(Box::new(listener)),
        }
    }

    async fn run(self) -> Result<Vec<TaskEnd>, Error> {
        let mut rounds = PollSchedule::every(
            self.interval.or_else(|| self.client.task_poll()),
            self.timeout,
        );
        let mut ends = Ends {
            by_index: self.tasks.iter().map(|_| None).collect(),
            listener: self.listener,
        };
        let mut unfinished: Vec<RunningTask> = (self.tasks.into_iter().enumerate())
            .map(|(index, task)| RunningTask {
                index,
                task,
                tolerance: PollTolerance::default(),
            })
            .collect();
        loop {
            let running = running(&self.client, &unfinished).await;
            let (busy, others): (Vec<RunningTask>, Vec<RunningTask>) = (unfinished.into_iter())
                .partition(|unfinished| {
                    let upid = unfinished.task.upid();
                    upid.is_some_and(|upid| running.contains(upid.as_str()))
                });
            unfinished = busy;
            let mut schedule = iter(others)
                .map(RunningTask::poll)
                .buffer_unordered(AT_ONCE);
            while let Some((one, end)) = schedule.next().await {
                match end {
                    None => unfinished.push(one),
                    Some(outcome) => ends.add(one, outcome),
                }
            }
            if unfinished.is_empty() {
                break;
            }
            if !rounds.again().await {
                let limit = self.timeout.unwrap_or_default();
                for one in unfinished {
                    let timed_out = one.task.error(TaskErrorKind::TimedOut(limit));
                    ends.add(one, Err(timed_out.into()));
                }
                break;
            }
        }
        Ok(ends.by_index.into_iter().flatten().collect())
    }
}

impl<'a> IntoFuture for WaitAll<'a> {
    type Output = Result<Vec<TaskEnd>, Error>;
    type IntoFuture = BoxFuture<'a, Result<Vec<TaskEnd>, Error>>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for WaitAll<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitAll")
            .field("tasks", &self.tasks)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The maximum of tasks that are polled at the same time.
const AT_ONCE: usize = 8;
/// The maximum of running tasks that are listed of a node.
const LISTED: i64 = 1_000;

struct Ends<'a> {
    by_index: Vec<Option<TaskEnd>>,
    listener: Option<Listener<'a>>,
}

impl Ends<'_> {
    #[inline]
    fn add(&mut self, one: RunningTask, outcome: Result<TaskOutcome, Error>) {
        let task = one.task;
        let end = TaskEnd { task, outcome };
        if let Some(listener) = &mut self.listener {
            listener(one.index, &end);
        }
        if let Some(slot) = self.by_index.get_mut(one.index) {
            *slot = Some(end);
        }
    }
}

/// A task whose end is not known yet.
struct RunningTask {
    index: usize,
    task: Task,
    tolerance: PollTolerance,
}

impl RunningTask {
    async fn poll(mut self) -> (Self, Option<Result<TaskOutcome, Error>>) {
        let result = (self.task.status().await).map(|status| status.outcome());
        let end = match self.tolerance.accept(&self.task, result) {
            Ok(None) => None,
            Ok(Some(outcome)) => Some(or_error(&self.task, outcome).await),
            Err(error) => Some(Err(error)),
        };
        (self, end)
    }
}

/// The running tasks, as far as their nodes list them. The others have to be polled: they have
/// ended, or belong to another user, or their node cannot be reached.
async fn running(client: &Client, unfinished: &[RunningTask]) -> BTreeSet<String> {
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for one in unfinished {
        if let Some(upid) = one.task.upid() {
            *nodes.entry(upid.node()).or_default() += 1;
        }
    }
    // Polling a single task costs the same and returns more.
    let lists: Vec<_> = (nodes.into_iter())
        .filter(|(_, tasks)| *tasks > 1)
        .map(|(node, _)| {
            let request = client.api().nodes().node(node).tasks().get();
            request.source("active").limit(LISTED).into_future()
        })
        .collect();
    let mut lists = iter(lists).buffer_unordered(AT_ONCE);
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
        let waiting = wait_all(&client, tasks).on_end(|index, _| {
            let place = order.len();
            order.insert(index, place);
        });
        let ends = waiting.await.expect("it never fails as a whole");
        assert!(ends.len() == 200 && ends.iter().all(TaskEnd::is_success));
        assert!(order[&10] < order[&60] && order[&60] < order[&160]);
        assert_eq!(
            fake.requests().len(),
            200 + 4,
            "one poll of each task, and four lists"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_differs_from_a_failed_task() {
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
        let waiting = wait_all(&client, tasks).timeout(GUEST_TIMEOUT);
        let ends = waiting.await.expect("it never fails as a whole");
        let reason = |end: &TaskEnd| match &end.outcome {
            Err(Error::Task(error)) => format!("{:?}", error.reason()),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&ends[0]), format!("TimedOut({GUEST_TIMEOUT:?})"));
        assert_eq!(reason(&ends[1]), "Failed(\"VM is locked (backup)\")");
    }
}
