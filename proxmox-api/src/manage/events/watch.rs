//! Polling of a cluster.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::{StreamExt, iter};

use tokio::time::Instant;

use super::change::UNKNOWN;
use super::event::Event;
use super::state::{GuestState, State, TaskState, node_of};
use super::time::unix_now;
use crate::Value;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manage::guest::{Kind, unsigned};
use crate::request::ApiRequest;
use crate::value::encode::escape;
use crate::value::endpoint::Method;
use crate::value::upid::Upid;
use crate::value::{BoxFuture, Timestamp};

/// Watches a cluster; see the module.
///
/// It is a [`Stream`] of `Result<Event, Error>` that never ends; after an error it polls again.
/// Events are also available one by one ([`Watch::next_event`]) or poll by poll ([`Watch::poll`]),
/// in any combination.
pub struct Watch {
    client: Client,
    interval: Duration,
    /// The state after the last event that was handed over.
    handed_over: Option<State>,
    waiting: VecDeque<Event>,
    has_polled: bool,
    /// The value of [`State::unread`] once all pending events were handed over.
    unread: BTreeMap<String, u64>,
    /// Kept here, so that dropping the wait for the next event does not stop the poll.
    pending_poll: Option<BoxFuture<'static, Result<PollResult, Error>>>,
}

/// The state before a poll, and the one it found.
type PollResult = (Option<State>, State);

impl Watch {
    /// Watches from now on: the state at the first poll causes no events.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            interval: Duration::from_secs(5),
            handed_over: None,
            waiting: VecDeque::new(),
            has_polled: false,
            unread: BTreeMap::new(),
            pending_poll: None,
        }
    }

    /// Continues from a cursor: the differences since are reported first.
    #[must_use]
    #[inline]
    pub fn resume(client: &Client, cursor: State) -> Self {
        Self {
            unread: cursor.unread.clone(),
            handed_over: Some(cursor),
            ..Self::new(client)
        }
    }

    /// The polling interval; every five seconds by default. The server's own figures for guests of
    /// other nodes are up to ten seconds old.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The position after the events that were handed over; `None` before the first poll.
    /// [`Watch::resume`] continues with the next event, even if it was seen already.
    #[must_use]
    pub fn cursor(&self) -> Option<&State> {
        self.handed_over.as_ref()
    }

    /// The next event, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of every request. An error loses nothing; calling it again polls again.
    pub async fn next_event(&mut self) -> Result<Event, Error> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Polls once and returns the changes; none the first time, unless it continues from a cursor.
    ///
    /// # Errors
    /// Those of every request. An error loses nothing; calling it again polls again.
    pub async fn poll(&mut self) -> Result<Vec<Event>, Error> {
        // A running poll may be waiting for its time, or have started before the caller's last
        // action.
        self.pending_poll = None;
        self.has_polled = false;
        std::future::poll_fn(|context| self.drive_poll(context)).await?;
        Ok(std::iter::from_fn(|| self.take()).collect())
    }

    #[inline]
    fn take(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        if let Some(handed_over) = &mut self.handed_over {
            handed_over.apply(&event.change);
            if self.waiting.is_empty() {
                handed_over.unread.clone_from(&self.unread);
            }
        }
        Some(event)
    }

    #[inline]
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            if let Some(event) = self.take() {
                return Poll::Ready(Ok(event));
            }
            ready!(self.drive_poll(context))?;
        }
    }

    #[inline]
    fn drive_poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut pending_poll = match self.pending_poll.take() {
            Some(pending_poll) => pending_poll,
            None => self.next_poll(),
        };
        let Poll::Ready(seen) = pending_poll.as_mut().poll(context) else {
            self.pending_poll = Some(pending_poll);
            return Poll::Pending;
        };
        self.has_polled = true;
        let (known, now) = seen?;
        if let Some(mut known) = known {
            let time = unix_now();
            for change in known.changes_to(&now) {
                self.waiting
                    .push_back(Event::after(&known, time, change.clone()));
                known.apply(&change);
            }
        }
        match &mut self.handed_over {
            Some(handed_over) => {
                // Nodes stay unread until the last event of them is handed over.
                let unread = (now.unread.iter()).map(|(node, since)| (node.clone(), *since));
                handed_over.unread.extend(unread);
                if self.waiting.is_empty() {
                    handed_over.unread.clone_from(&now.unread);
                }
                handed_over.forget(&now.tasks);
                self.unread = now.unread;
            }
            None => {
                self.handed_over = Some(State {
                    origin: unix_now(),
                    ..now
                });
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next poll, when it is due.
    #[inline]
    fn next_poll(&self) -> BoxFuture<'static, Result<PollResult, Error>> {
        let known = self.known();
        let client = self.client.clone();
        let pause = self.has_polled.then_some(self.interval);
        Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let now = observe(&client, known.as_ref()).await?;
            Ok((known, now))
        })
    }

    /// The state once all pending events have been handed over; `None` before the first poll.
    #[inline]
    fn known(&self) -> Option<State> {
        let mut known = self.handed_over.clone()?;
        for event in &self.waiting {
            known.apply(&event.change);
        }
        known.unread.clone_from(&self.unread);
        Some(known)
    }
}

impl Stream for Watch {
    type Item = Result<Event, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(context).map(Some)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("interval", &self.interval)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// The present state of the cluster, as far as the server knows it. `known` decides the further
/// questions.
async fn observe(client: &Client, known: Option<&State>) -> Result<State, Error> {
    let mut now = State::default();
    let api = client.api();
    for row in api.cluster().tasks().get().await? {
        let ended = ended(row.endtime, row.status);
        let started = unsigned(row.starttime);
        now.tasks.insert(row.upid, TaskState { started, ended });
    }
    // After the tasks: a guest made by a task that is listed as ended is then there.
    for row in api.cluster().resources().get().await? {
        let status = row.status.unwrap_or_else(|| UNKNOWN.to_owned());
        let Some(node) = row.node.map(String::from) else {
            continue;
        };
        match (row.type_.as_str(), row.vmid, row.storage) {
            ("node", ..) => {
                now.nodes.insert(node, status);
            }
            ("storage", _, Some(storage)) => {
                now.storages.insert((node, storage.into()), status);
            }
            (kind, Some(vmid), _) => {
                if let Some(kind) = Kind::read(kind) {
                    let guest = GuestState {
                        kind,
                        node,
                        name: row.name.unwrap_or_default(),
                        status,
                        lock: row.lock.unwrap_or_default(),
                    };
                    now.guests.insert(vmid, guest);
                }
            }
            _ => {}
        }
    }
    if let Some(known) = known {
        now.keep_known(known);
        ask_more(client, known, &mut now).await;
    }
    Ok(now)
}

/// The result of one request of the second round.
enum QuestionResult {
    /// A node's tasks, and the time since which it has to be asked again.
    Tasks {
        node: String,
        tasks: Vec<(String, TaskState)>,
        unread: Option<u64>,
    },
    /// A guest that is missing from the list and was not removed, or may not have been.
    Guest(u32),
    Node(String),
    Storage(String, String),
    Nothing,
}

type Question<'a> = Pin<Box<dyn Future<Output = QuestionResult> + Send + 'a>>;

/// Asks for what the lists leave open: one question for each node whose tasks they do not show, and
/// one for each missing object, up to a limit.
async fn ask_more(client: &Client, known: &State, now: &mut State) {
    let end = Instant::now() + ROUND;
    let mut questions: Vec<Question<'_>> = Vec::new();
    for (node, (since, lost)) in incomplete(known, now) {
        if now
            .nodes
            .get(&node)
            .is_some_and(|status| status != "online")
        {
            if let Some(since) = since {
                now.unread.insert(node, since);
            }
            continue;
        }
        questions.push(in_time(
            end,
            tasks_of(client, node.clone(), since, lost),
            QuestionResult::Tasks {
                node,
                tasks: Vec::new(),
                unread: since,
            },
        ));
    }
    missing(client, known, now, end, &mut questions);
    let mut answers = iter(questions).buffer_unordered(AT_ONCE);
    while let Some(found) = answers.next().await {
        match found {
            QuestionResult::Tasks {
                node,
                tasks,
                unread,
            } => {
                for (upid, task) in tasks {
                    now.tasks.entry(upid).or_insert(task);
                }
                if let Some(since) = unread {
                    now.unread.insert(node, since);
                }
            }
            QuestionResult::Guest(vmid) => {
                let guest = known.guests.get(&vmid).cloned();
                now.guests.extend(guest.map(|guest| (vmid, guest)));
            }
            QuestionResult::Node(node) => {
                let status = known.nodes.get(&node).cloned();
                now.nodes.extend(status.map(|status| (node, status)));
            }
            QuestionResult::Storage(node, storage) => {
                let key = (node, storage);
                let status = known.storages.get(&key).cloned();
                now.storages.extend(status.map(|status| (key, status)));
            }
            QuestionResult::Nothing => {}
        }
    }
    drop(answers);
    // The storages of a removed node are removed with it.
    let left = |node: &String| known.nodes.contains_key(node) && !now.nodes.contains_key(node);
    let gone: Vec<_> = (now.storages.keys().filter(|(node, _)| left(node)))
        .cloned()
        .collect();
    for key in gone {
        now.storages.remove(&key);
    }
}

/// The answer to a question, or this default if there is no time for it.
fn in_time<'a>(
    end: Instant,
    question: impl Future<Output = QuestionResult> + Send + 'a,
    late: QuestionResult,
) -> Question<'a> {
    Box::pin(async move {
        let answer = tokio::time::timeout_at(end, question).await;
        answer.unwrap_or(late)
    })
}

/// By node, the time since which its own list has to be read, and its tasks that ran and are not
/// listed any more.
type Unexplained = BTreeMap<String, (Option<u64>, Vec<String>)>;

/// The cluster's list holds the newest tasks only. If more happened since the last poll, the node's
/// own list has the rest.
fn incomplete(known: &State, now: &State) -> Unexplained {
    let mut unread: Unexplained = BTreeMap::new();
    for (node, since) in &known.unread {
        unread.entry(node.clone()).or_default().0 = Some(*since);
    }
    let mut all_new: BTreeMap<String, bool> = BTreeMap::new();
    for (upid, task) in &now.tasks {
        if let Some(node) = node_of(upid) {
            let new = !known.tasks.contains_key(upid) && !known.is_forgotten(upid, task);
            *all_new.entry(node).or_insert(true) &= new;
        }
    }
    for (node, _) in all_new.into_iter().filter(|(_, all_new)| *all_new) {
        let newest_known = (known.tasks.iter())
            .filter(|(upid, _)| node_of(upid).as_deref() == Some(&node))
            .map(|(_, task)| task.started)
            .max();
        if let Some(newest) = newest_known {
            unread.entry(node).or_default().0.get_or_insert(newest);
        }
    }
    for (upid, task) in &known.tasks {
        if let (None, false, Some(node)) =
            (&task.ended, now.tasks.contains_key(upid), node_of(upid))
        {
            unread.entry(node).or_default().1.push(upid.clone());
        }
    }
    unread
}

/// Reads a node's list, and polls the lost tasks that are not on it one by one.
async fn tasks_of(
    client: &Client,
    node: String,
    since: Option<u64>,
    lost: Vec<String>,
) -> QuestionResult {
    let mut tasks = Vec::new();
    let mut unread = since;
    if let Some(start) = since
        && let Ok(list) = read_since(client, &node, start).await
    {
        tasks = list;
        unread = None;
    }
    // One question shows whether the node can be reached.
    if since.is_none() || unread.is_none() {
        let listed: HashSet<String> = tasks.iter().map(|(upid, _)| upid.clone()).collect();
        for upid in lost {
            if listed.contains(&upid) {
                continue;
            }
            let Ok(parsed) = upid.parse::<Upid>() else {
                continue;
            };
            let started = parsed.starttime();
            let ended = match client.task(parsed).status().await {
                Ok(status) if status.is_running() => None,
                Ok(status) => Some(status.exit_status().unwrap_or(UNKNOWN).to_owned()),
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => Some(UNKNOWN.to_owned()),
                // They count as running until their node can be reached.
                Err(_) => break,
            };
            tasks.push((upid, TaskState { started, ended }));
        }
    }
    QuestionResult::Tasks {
        node,
        tasks,
        unread,
    }
}

async fn read_since(
    client: &Client,
    node: &str,
    since: u64,
) -> Result<Vec<(String, TaskState)>, Error> {
    let request = client.api().nodes().node(node).tasks().get();
    let request = request.since(i64::try_from(since).unwrap_or(i64::MAX));
    let mut rows = request.source("all").items(PAGE);
    let mut tasks = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let ended = ended(row.endtime, row.status);
        let started = u64::try_from(row.starttime).unwrap_or(0);
        tasks.push((row.upid, TaskState { started, ended }));
    }
    Ok(tasks)
}

/// Asks about objects that disappeared from the list: they were removed, or this user may not see
/// them any more.
fn missing<'a>(
    client: &'a Client,
    known: &'a State,
    now: &State,
    end: Instant,
    questions: &mut Vec<Question<'a>>,
) {
    let mut open: Vec<(Question<'a>, QuestionResult)> = Vec::new();
    for vmid in known
        .guests
        .keys()
        .filter(|vmid| !now.guests.contains_key(vmid))
    {
        let question = async move {
            let free = client.api().cluster().nextid().get().vmid(*vmid).await;
            match free {
                Ok(_) => QuestionResult::Nothing,
                Err(_) => QuestionResult::Guest(*vmid),
            }
        };
        open.push((
            in_time(end, question, QuestionResult::Guest(*vmid)),
            QuestionResult::Guest(*vmid),
        ));
    }
    for node in known
        .nodes
        .keys()
        .filter(|node| !now.nodes.contains_key(*node))
    {
        let question = async move {
            // All users may see all nodes there.
            match client.api().nodes().get().await {
                Ok(rows)
                    if !rows.is_empty() && rows.iter().all(|row| row.node != node.as_str()) =>
                {
                    QuestionResult::Nothing
                }
                _ => QuestionResult::Node(node.clone()),
            }
        };
        open.push((
            in_time(end, question, QuestionResult::Node(node.clone())),
            QuestionResult::Node(node.clone()),
        ));
    }
    for (node, storage) in known.storages.keys() {
        if now.storages.contains_key(&(node.clone(), storage.clone())) {
            continue;
        }
        let kept = || QuestionResult::Storage(node.clone(), storage.clone());
        // A storage is removed from a node together with the node.
        let question = async move {
            let path = format!("/storage/{}", escape(storage));
            match client.request::<Value>(Method::Get, path).await {
                Ok(config) => match config.get("nodes").and_then(Value::as_str) {
                    Some(nodes) if !nodes.split([',', ' ']).any(|name| name == node) => {
                        QuestionResult::Nothing
                    }
                    _ => kept(),
                },
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => QuestionResult::Nothing,
                Err(_) => kept(),
            }
        };
        open.push((in_time(end, question, kept()), kept()));
    }
    // Other ones each time.
    let first = if open.len() > QUESTIONS {
        usize::try_from(unix_now()).unwrap_or(0) % open.len()
    } else {
        0
    };
    open.rotate_left(first);
    for (place, (question, kept)) in open.into_iter().enumerate() {
        if place < QUESTIONS {
            questions.push(question);
        } else {
            questions.push(Box::pin(std::future::ready(kept)));
        }
    }
}

/// The maximum of concurrent questions.
const AT_ONCE: usize = 8;
/// The maximum of missing objects that are asked about in one poll.
const QUESTIONS: usize = 32;
/// The time limit for all questions of a poll together.
const ROUND: Duration = Duration::from_secs(5);
const PAGE: u32 = 500;

/// The end of a listed task. The list writes `RUNNING`, or nothing, for a running one.
fn ended(endtime: Option<Timestamp>, status: Option<String>) -> Option<String> {
    endtime?;
    Some(status.unwrap_or_else(|| UNKNOWN.to_owned()))
}
