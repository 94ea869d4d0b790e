//! The common frame of operations of several steps.
//!
//! The wanted state is a value: a machine from an image, many clones, a node without guests.
//! Awaiting [`Client::carry_out`] reaches it:
//!
//! * **Steps.** [`Working::on_step`] reports every [`Step`]: found as wanted, begun, a line of a
//!   task's log, done.
//! * **Repetition.** Existing objects are found ([`State::Found`]) and not made again, so work that
//!   was dropped or failed continues where it stopped when it is carried out again.
//! * **Cancellation.** Dropping the future stops between two calls. Running tasks continue on the
//!   server; the last steps name them.
//! * **Failure.** If something new is left behind, the error is [`Error::Unfinished`], and
//!   [`UnfinishedError::left`] lists it. Otherwise the error is the cause itself.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::Error;
//! use proxmox_api::manage::clones::Clones;
//!
//! let web = Clones::of(9000).count(3).ids(5000..=5099).name("web-{n}");
//! match pve.carry_out(web).on_step(|step| println!("{step}")).await {
//!     Ok(guests) => println!("{} clones are there", guests.len()),
//!     Err(Error::Unfinished(error)) => println!("{error}; left: {:?}", error.left()),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Programs can implement [`Work`] themselves, using calls and the work of this crate.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::guest::{Guest, PowerState};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::task::{PollSchedule, Waitable, Waiting};
use crate::value::upid::Upid;

pub use crate::error::work::{Left, Subject, UnfinishedError, WorkError};
use crate::value::serialize::{record_serde, variant_serde};

/// The action of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// A volume is downloaded or uploaded to a storage.
    Fetch,
    /// A compressed local file is unpacked.
    Unpack,
    /// Something new is made.
    Create,
    /// A guest is cloned.
    Clone,
    /// Settings are written.
    Configure,
    /// A disk is made larger.
    Resize,
    /// A guest is started.
    Start,
    /// A guest is stopped.
    Stop,
    /// A guest moves to another node.
    Migrate,
    /// A node is rebooted.
    Reboot,
    /// A guest is backed up.
    BackUp,
    /// A guest is made from a backup.
    Restore,
    /// Something is removed.
    Remove,
    /// A configuration is applied.
    Apply,
    /// A change is taken back.
    RollBack,
    /// Waiting for something.
    Wait,
    /// Something is checked.
    Check,
}

variant_serde!(Action {
    Fetch = "fetch",
    Unpack = "unpack",
    Create = "create",
    Clone = "clone",
    Configure = "configure",
    Resize = "resize",
    Start = "start",
    Stop = "stop",
    Migrate = "migrate",
    Reboot = "reboot",
    BackUp = "back_up",
    Restore = "restore",
    Remove = "remove",
    Apply = "apply",
    RollBack = "roll_back",
    Wait = "wait",
    Check = "check",
});

impl Action {
    fn words(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Unpack => "unpack",
            Self::Create => "create",
            Self::Clone => "clone",
            Self::Configure => "configure",
            Self::Resize => "resize",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Migrate => "migrate",
            Self::Reboot => "reboot",
            Self::BackUp => "back up",
            Self::Restore => "restore",
            Self::Remove => "remove",
            Self::Apply => "apply",
            Self::RollBack => "roll back",
            Self::Wait => "wait for",
            Self::Check => "check",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// The state of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is as wanted already; nothing is done.
    Found,
    /// It has begun, in this task if there is one.
    Begun(Option<Upid>),
    /// A line of the task's log, or another message.
    Line(String),
    /// It is done.
    Done,
    /// It failed, for this reason; other steps of the same work may continue.
    Failed(String),
}

variant_serde!(State {
    Found = "found",
    Begun(task) = "begun",
    Line(line) = "line",
    Done = "done",
    Failed(why) = "failed",
});

/// A report about running work; see [`Working::on_step`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The subject.
    pub subject: Subject,
    /// The action.
    pub action: Action,
    /// The state.
    pub state: State,
}

record_serde!(Step {
    subject,
    action,
    state,
});

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject, action, ..
        } = self;
        match &self.state {
            State::Found => write!(f, "{subject}: nothing to {action}"),
            State::Begun(_) => write!(f, "{subject}: {action} …"),
            State::Line(line) => write!(f, "{subject}: {action}: {line}"),
            State::Done => write!(f, "{subject}: {action}: done"),
            State::Failed(why) => write!(f, "{subject}: {action}: failed: {why}"),
        }
    }
}

/// The result of reaching a wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ensured {
    /// It was as wanted already.
    Found,
    /// It was created.
    Created,
    /// These of its settings were changed.
    Changed(Vec<String>),
}

variant_serde!(Ensured {
    Found = "found",
    Created = "created",
    Changed(names) = "changed",
});

type Listener<'a> = Box<dyn FnMut(&Step) + Send + 'a>;

/// Reports the steps of work, and records what would be left behind. Passed to [`Work::run`].
pub struct Track<'a> {
    listener: Mutex<Option<Listener<'a>>>,
    left: Mutex<Vec<Left>>,
    locks: Option<Duration>,
}

impl Track<'_> {
    /// Reports a step.
    pub fn step(&self, subject: &Subject, action: Action, state: State) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.as_mut() {
            listener(&Step {
                subject: subject.clone(),
                action,
                state,
            });
        }
    }

    /// Reports that something is as wanted already.
    pub fn found(&self, subject: &Subject, action: Action) {
        self.step(subject, action, State::Found);
    }

    /// Awaits an action that is complete with its answer, and reports it.
    ///
    /// # Errors
    /// The error of `operation`.
    pub async fn act<T, F>(
        &self,
        subject: &Subject,
        action: Action,
        operation: F,
    ) -> Result<T, Error>
    where
        F: IntoFuture<Output = Result<T, Error>, IntoFuture: Send> + Send,
        T: Send,
    {
        self.step(subject, action, State::Begun(None));
        match operation.into_future().await {
            Ok(done) => {
                self.step(subject, action, State::Done);
                Ok(done)
            }
            Err(error) => Err(self.failed(subject, action, error)),
        }
    }

    /// Starts a task, waits for its end and reports both and its log. `start` is called again after
    /// a lock, if the work [waits for locks](Working::wait_for_locks). Until the end is known, the
    /// subject counts as left behind.
    ///
    /// # Errors
    /// The error of `start`, or of the task.
    pub async fn task<F, T>(
        &self,
        subject: &Subject,
        action: Action,
        start: impl Fn() -> F + Send,
    ) -> Result<T::End, Error>
    where
        F: IntoFuture<Output = Result<T, Error>, IntoFuture: Send> + Send,
        T: Waitable + Send,
    {
        let mut schedule = PollSchedule::every(None, self.locks);
        loop {
            let starting = start().into_future();
            match self.once(subject, action, starting).await {
                Ok(end) => return Ok(end),
                Err(error) if self.waits_for(&error) => {
                    self.step(subject, action, State::Line(error.to_string()));
                    if !schedule.again().await {
                        return Err(self.failed(subject, action, error));
                    }
                }
                Err(error) => return Err(self.failed(subject, action, error)),
            }
        }
    }

    /// Like [`Track::task`] for a running operation; `again` starts it again.
    ///
    /// # Errors
    /// The error of the task, or of `again`.
    pub async fn follow<F, T>(
        &self,
        subject: &Subject,
        action: Action,
        started: T,
        again: impl Fn() -> F + Send + Sync,
    ) -> Result<T::End, Error>
    where
        F: IntoFuture<Output = Result<T, Error>, IntoFuture: Send> + Send,
        T: Waitable + Send,
    {
        let started = Mutex::new(Some(started));
        let start = || async {
            let first = started
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match first {
                Some(started) => Ok(started),
                None => again().into_future().await,
            }
        };
        self.task(subject, action, start).await
    }

    async fn once<T: Waitable>(
        &self,
        subject: &Subject,
        action: Action,
        start: impl Future<Output = Result<T, Error>>,
    ) -> Result<T::End, Error> {
        let task = start.await?;
        let upid = task.upid().cloned();
        self.step(subject, action, State::Begun(upid.clone()));
        let running = format!("is in progress ({action})");
        self.leave_with(subject, &running, upid);
        let how = Waiting {
            log: Some(Box::new(|line: &str| {
                self.step(subject, action, State::Line(line.to_owned()));
            })),
            ..Waiting::default()
        };
        let ended = task.finish(how).await;
        // The error of an ended task says what it left; a task that cannot be polled any more may
        // still be running.
        let over = match &ended {
            Ok(_) => true,
            Err(Error::Task(error)) => !error.may_be_running(),
            Err(_) => false,
        };
        if over {
            self.unleave(subject, &running);
        }
        let end = ended?;
        self.step(subject, action, State::Done);
        Ok(end)
    }

    fn failed(&self, subject: &Subject, action: Action, error: Error) -> Error {
        self.step(subject, action, State::Failed(error.to_string()));
        error
    }

    /// The time for which this work waits for locks.
    #[must_use]
    pub fn locks(&self) -> Option<Duration> {
        self.locks
    }

    /// The guest, waiting for locks as long as this work does.
    pub(super) fn with_locks(&self, guest: Guest) -> Guest {
        match self.locks {
            Some(patience) => guest.wait_for_locks(patience),
            None => guest,
        }
    }

    fn waits_for(&self, error: &Error) -> bool {
        self.locks.is_some()
            && matches!(
                error.kind(),
                Some(ErrorKind::Locked | ErrorKind::LockTimeout)
            )
    }

    /// Starts a guest unless it runs. That is left behind if the guest is not new: what becomes of a
    /// new guest is recorded with the guest itself.
    pub(super) async fn start(
        &self,
        subject: &Subject,
        guest: &Guest,
        new: bool,
    ) -> Result<(), Error> {
        if guest.status().await?.state == PowerState::Running {
            return Ok(());
        }
        self.task(subject, Action::Start, || guest.start()).await?;
        if !new {
            self.leave(subject, "was started");
        }
        Ok(())
    }

    /// Records what is left behind if the work fails from now on.
    pub fn leave(&self, subject: &Subject, state: &str) {
        self.leave_with(subject, state, None);
    }

    fn leave_with(&self, subject: &Subject, state: &str, task: Option<Upid>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(Left {
            subject: subject.clone(),
            state: state.to_owned(),
            task,
        });
    }

    fn unleave(&self, subject: &Subject, state: &str) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|left| left.subject != *subject || left.state != state);
    }

    /// Records that this is not left behind any more: it is as wanted, or removed.
    pub fn settle(&self, subject: &Subject) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|left| left.subject != *subject);
    }

    fn unfinished(self, cause: Error) -> Error {
        let left = (self.left.into_inner()).unwrap_or_else(PoisonError::into_inner);
        if left.is_empty() {
            return cause;
        }
        Error::Unfinished(UnfinishedError::new(cause, left))
    }
}

impl fmt::Debug for Track<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track")
            .field("left", &self.left)
            .field("locks", &self.locks)
            .finish_non_exhaustive()
    }
}

/// A wanted state, and how to reach it; see [the module](self).
pub trait Work: Send {
    /// The result.
    type Done;

    /// Reaches the state. Reports every step through `track`, and records there what is left behind
    /// after a failure.
    fn run(
        self,
        pve: &Client,
        track: &Track<'_>,
    ) -> impl Future<Output = Result<Self::Done, Error>> + Send;
}

/// Work in progress; made by [`Client::carry_out`], started by awaiting it.
#[must_use = "does nothing unless awaited"]
pub struct Working<'a, W> {
    client: Client,
    work: W,
    listener: Option<Listener<'a>>,
    locks: Option<Duration>,
}

impl Client {
    /// Reaches a wanted state; see [`manage::work`](crate::manage::work).
    pub fn carry_out<W: Work>(&self, work: W) -> Working<'static, W> {
        Working {
            client: self.clone(),
            work,
            listener: None,
            locks: None,
        }
    }
}

impl<'a, W> Working<'a, W> {
    /// Calls `listener` with every step.
    pub fn on_step<'b>(self, listener: impl FnMut(&Step) + Send + 'b) -> Working<'b, W> {
        Working {
            client: self.client,
            work: self.work,
            listener: Some(Box::new(listener)),
            locks: self.locks,
        }
    }

    /// Waits for locks of other operations, at most this long each time; see
    /// [`Guest::wait_for_locks`](crate::manage::guest::Guest::wait_for_locks). Without it a lock
    /// ends the work.
    pub fn wait_for_locks(mut self, timeout: Duration) -> Self {
        self.locks = Some(timeout);
        self
    }
}

impl<'a, W: Work + 'a> IntoFuture for Working<'a, W> {
    type Output = Result<W::Done, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let track = Track {
                listener: Mutex::new(self.listener),
                left: Mutex::default(),
                locks: self.locks,
            };
            let ended = self.work.run(&self.client, &track).await;
            ended.map_err(|error| track.unfinished(error))
        })
    }
}

impl<W: fmt::Debug> fmt::Debug for Working<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Working")
            .field("work", &self.work)
            .field("locks", &self.locks)
            .finish_non_exhaustive()
    }
}

/// Calls `act` for all items, with a limit on those in progress. After a failure nothing more is
/// started; those in progress are finished. Returns the results in the order of the items, and the
/// first error.
pub(crate) async fn some_at_once<I, T, F>(
    limit: usize,
    items: impl IntoIterator<Item = I>,
    mut act: impl FnMut(I) -> F,
) -> (Vec<T>, Option<Error>)
where
    F: Future<Output = Result<T, Error>>,
{
    let mut items = items.into_iter().enumerate();
    let mut under_way = FuturesUnordered::new();
    let (mut done, mut failure) = (Vec::new(), None);
    loop {
        while under_way.len() < limit.max(1)
            && failure.is_none()
            && let Some((index, item)) = items.next()
        {
            let acting = act(item);
            under_way.push(async move { (index, acting.await) });
        }
        match under_way.next().await {
            Some((index, Ok(end))) => done.push((index, end)),
            Some((_, Err(error))) => {
                failure.get_or_insert(error);
            }
            None => break,
        }
    }
    done.sort_by_key(|(index, _)| *index);
    (done.into_iter().map(|(_, end)| end).collect(), failure)
}
