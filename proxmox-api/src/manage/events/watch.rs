//! Looking at a cluster again and again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::{Event, GuestState, State, TaskState, node_of, unix_now};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manage::guest::{Acting, Kind, unsigned};
use crate::request::ApiRequest;
use crate::value::upid::Upid;

/// Watches a cluster; see the module.
///
/// It is a [`Stream`] of `Result<Event, Error>` that never ends; after an error it looks again. Events can also be had
/// one by one ([`Watch::next`]) or look by look ([`Watch::poll`]), all three in any order.
pub struct Watch {
    client: Client,
    interval: Duration,
    /// The state after the last event that was handed over.
    told: Option<State>,
    waiting: VecDeque<Event>,
    looked: bool,
    /// What [`State::unread`] is once everything that waits was handed over.
    unread: BTreeMap<String, u64>,
    /// Kept here, so that whoever stops waiting for the next event does not stop the look.
    looking: Option<Acting<'static, Look>>,
}

/// What was known before a look, and what it saw.
type Look = (Option<State>, State);

impl Watch {
    /// Watches from now on: what is there at the first look is no event.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            interval: Duration::from_secs(5),
            told: None,
            waiting: VecDeque::new(),
            looked: false,
            unread: BTreeMap::new(),
            looking: None,
        }
    }

    /// Goes on from a cursor: what has become different since is told first.
    #[must_use]
    #[inline]
    pub fn resume(client: &Client, cursor: State) -> Self {
        Self {
            unread: cursor.unread.clone(),
            told: Some(cursor),
            ..Self::new(client)
        }
    }

    /// Looks this often; every five seconds unless set. The server's own figures are not newer than ten
    /// seconds for guests of other nodes.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Where the events that were handed over have got to; `None` before the first look. With
    /// [`Watch::resume`] it goes on with the next event, even if that has been seen already.
    #[must_use]
    pub fn cursor(&self) -> Option<&State> {
        self.told.as_ref()
    }

    /// The next event, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As for every call. Nothing is lost by an error; calling it again looks again.
    pub async fn next(&mut self) -> Result<Event, Error> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Looks once and gives what has changed; nothing the first time, unless it goes on from a cursor.
    ///
    /// # Errors
    /// As for every call. Nothing is lost by an error; calling it again looks again.
    pub async fn poll(&mut self) -> Result<Vec<Event>, Error> {
        // One that is under way may be waiting for its time, or have begun before what the caller did last.
        self.looking = None;
        self.looked = false;
        std::future::poll_fn(|context| self.poll_look(context)).await?;
        Ok(std::iter::from_fn(|| self.take()).collect())
    }

    #[inline]
    fn take(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        if let Some(told) = &mut self.told {
            told.apply(&event.change);
            if self.waiting.is_empty() {
                told.unread.clone_from(&self.unread);
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
            ready!(self.poll_look(context))?;
        }
    }

    #[inline]
    fn poll_look(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut looking = match self.looking.take() {
            Some(looking) => looking,
            None => self.look(),
        };
        let Poll::Ready(seen) = looking.as_mut().poll(context) else {
            self.looking = Some(looking);
            return Poll::Pending;
        };
        self.looked = true;
        let (known, now) = seen?;
        if let Some(known) = known {
            let time = unix_now();
            let changes = known.changes_to(&now).into_iter();
            (self.waiting).extend(changes.map(|change| Event { time, change }));
        }
        match &mut self.told {
            Some(told) => {
                // What was not read before is so until the last event of it is handed over.
                let unread = (now.unread.iter()).map(|(node, since)| (node.clone(), *since));
                told.unread.extend(unread);
                if self.waiting.is_empty() {
                    told.unread.clone_from(&now.unread);
                }
                told.forget(&now.tasks);
                self.unread = now.unread;
            }
            None => self.told = Some(now),
        }
        Poll::Ready(Ok(()))
    }

    /// The next look, when it is time for it.
    #[inline]
    fn look(&self) -> Acting<'static, Look> {
        let known = self.known();
        let client = self.client.clone();
        let pause = self.looked.then_some(self.interval);
        Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let now = observe(&client, known.as_ref()).await?;
            Ok((known, now))
        })
    }

    /// The state once all events that wait have been handed over; `None` before the first look.
    #[inline]
    fn known(&self) -> Option<State> {
        let mut known = self.told.clone()?;
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

/// The state of the cluster now. `known` is only needed to find tasks that are not listed any more.
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
        let status = row.status.unwrap_or_else(|| "unknown".to_owned());
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
        read_unlisted(client, known, &mut now).await;
        follow_lost(client, known, &mut now).await;
    }
    Ok(now)
}

/// The cluster's list holds the newest tasks only. Where more happened since the last look than it holds, the
/// node's own list has the rest.
async fn read_unlisted(client: &Client, known: &State, now: &mut State) {
    let mut behind = known.unread.clone();
    let mut all_new: BTreeMap<String, bool> = BTreeMap::new();
    for upid in now.tasks.keys() {
        if let Some(node) = node_of(upid) {
            *all_new.entry(node).or_insert(true) &= !known.tasks.contains_key(upid);
        }
    }
    for (node, _) in all_new.into_iter().filter(|(_, all_new)| *all_new) {
        let newest_known = (known.tasks.iter())
            .filter(|(upid, _)| node_of(upid).as_deref() == Some(&node))
            .map(|(_, task)| task.started)
            .max();
        if let Some(newest) = newest_known {
            behind.entry(node).or_insert(newest);
        }
    }
    for (node, since) in behind {
        if read_since(client, &node, since, now).await.is_err() {
            now.unread.insert(node, since);
        }
    }
}

async fn read_since(client: &Client, node: &str, since: u64, now: &mut State) -> Result<(), Error> {
    let request = client.api().nodes().node(node).tasks().get();
    let request = request.since(i64::try_from(since).unwrap_or(i64::MAX));
    let mut rows = request.source("all").items(PAGE);
    while let Some(row) = rows.try_next().await? {
        let ended = ended(row.endtime, row.status);
        let started = u64::try_from(row.starttime).unwrap_or(0);
        let task = TaskState { started, ended };
        now.tasks.entry(row.upid).or_insert(task);
    }
    Ok(())
}

/// Asks for tasks by themselves that ran at the last look and are not listed any more.
async fn follow_lost(client: &Client, known: &State, now: &mut State) {
    let lost: Vec<&String> = (known.tasks.iter())
        .filter(|(upid, task)| task.ended.is_none() && !now.tasks.contains_key(*upid))
        .map(|(upid, _)| upid)
        .collect();
    for upid in lost {
        let Ok(parsed) = upid.parse::<Upid>() else {
            continue;
        };
        let started = parsed.starttime();
        let ended = match client.task(parsed).status().await {
            Ok(status) if status.is_running() => None,
            Ok(status) => Some(status.exit_status().unwrap_or("unknown").to_owned()),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => Some("unknown".to_owned()),
            // It stays running for us until its node can be asked.
            Err(_) => None,
        };
        now.tasks.insert(upid.clone(), TaskState { started, ended });
    }
}

const PAGE: u32 = 500;

/// How a listed task ended. The list writes `RUNNING`, or nothing, for one that has not.
fn ended(endtime: Option<i64>, status: Option<String>) -> Option<String> {
    endtime?;
    Some(status.unwrap_or_else(|| "unknown".to_owned()))
}
