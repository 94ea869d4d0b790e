//! Guests by number, on whichever node they run.
//!
//! [`Client::guest`] returns a handle that finds the guest's node and kind, remembers them, and
//! finds them again after a migration. Longer operations return a [`StartedOperation`], which can
//! be waited for.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use std::time::Duration;
//!
//! let guest = pve.guest(101);
//! guest.shutdown().or_stop_after(Duration::from_secs(120)).await?.wait().await?;
//! guest.snapshot("before-upgrade").await?.wait().await?;
//! guest.start().await?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod backup;
mod cloud_init;
mod config;
#[cfg(feature = "console")]
mod console;
mod copy;
mod disks;
mod identity;
mod ids;
mod locations;
mod migrate;
mod operation;
mod power;
mod retention;
mod snapshot;
pub(super) mod started;
#[cfg(test)]
mod tests;
mod without_identity;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::Client;
use crate::client::request::exchange;
use crate::error::Error;
use crate::value::BoxFuture;

use crate::error::api::ErrorKind;
use crate::pve::lxc::LxcVmidPath;
use crate::pve::qemu::QemuVmidPath;
use crate::request::{ApiRequest, Request};
use crate::task::{PollSchedule, Task, TaskErrorKind};
use crate::value::decode::Extra;
use crate::value::serialize::{record_serde, word_serde};
use identity::{Identity, IdentityMatch};
use started::TargetState;

pub use apply::{Applied, Apply, ApplyStep, PendingChange};
pub use backup::{Backup, Restore};
pub use cloud_init::{CloudInit, ssh_keys};
pub use config::{Bus, Size};
#[cfg(feature = "console")]
pub use console::{Display, GuestConsole};
pub use copy::{CloneGuest, Cloned, Destroy};
pub use disks::Disk;
pub use ids::{allocate, next_free};
pub use locations::Listed;
pub(crate) use locations::Locations;
pub use migrate::{MappedResource, Migrate, MigrationCheck, NodeRefusal};
pub use operation::{DeleteSnapshot, GuestOperation, MoveDisk, Rollback};
pub use power::{Power, PowerAction};
pub use retention::{Retention, Verdict};
pub use snapshot::{Snapshot, TakeSnapshot};
pub use started::{StartedOperation, WaitOperation};

pub use crate::error::{GuestError, GuestErrorKind};
pub use crate::value::guest::{GuestLocation, Kind, ParseNameError};

/// A call to the guest on its node.
pub(crate) type LocatedCall<'a, T> =
    &'a (dyn Fn(&GuestLocation) -> BoxFuture<'static, Result<T, Error>> + Sync);

/// Makes a description of an operation awaitable. Inline, so that only programs that use it compile
/// it.
macro_rules! impl_into_future {
    ($operation:ty => $output:ty) => {
        impl IntoFuture for $operation {
            type Output = Result<$output, $crate::error::Error>;
            type IntoFuture = $crate::BoxFuture<'static, Result<$output, Error>>;

            #[inline]
            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.run())
            }
        }
    };
}
pub(crate) use impl_into_future;

/// The same for operations that end in a [`StartedOperation`], which can be repeated after a lock
/// or a move.
macro_rules! impl_into_started {
    ($operation:ty) => {
        impl IntoFuture for $operation {
            type Output = Result<$crate::manage::guest::StartedOperation, $crate::error::Error>;
            type IntoFuture =
                $crate::BoxFuture<'static, Result<$crate::manage::guest::StartedOperation, Error>>;

            #[inline]
            fn into_future(self) -> Self::IntoFuture {
                let again = self.clone();
                Box::pin(async move { Ok(self.run().await?.or_again(Some(again))) })
            }
        }
    };
}
pub(crate) use impl_into_started;

/// A request that may start a task, with those settings that have a value.
macro_rules! start_task {
    ($request:expr $(, $setter:ident: $value:expr)* $(,)?) => {{
        let request = $request;
        $(
            let request = match $value {
                Some(value) => request.$setter(value),
                None => request,
            };
        )*
        $crate::manage::guest::task(request)
    }};
}
pub(crate) use start_task;

/// The maximum of attempts of a configuration change while others change it, too.
const ATTEMPTS: u32 = 5;

/// A guest: a handle, not the guest itself. Clones share the known state.
///
/// Made by [`Client::guest`]. Every method can fail with [`GuestErrorKind::NoSuchGuest`], and with
/// the errors of every request.
///
/// # Reused numbers
///
/// A handle follows its guest to other nodes, and belongs to the guest that it saw first. If the
/// number belongs to another guest now, calls end with [`GuestErrorKind::AnotherGuest`] and do
/// nothing to it. Guests are distinguished by their kind; virtual machines by their creation time
/// (`meta`), the identifier in their BIOS (`smbios1`) and their generation (`vmgenid`); and all by
/// the addresses of network cards and the configuration's digest. These are compared if the guest
/// is not on its last known node, and whenever the handle reads the configuration. Irreversible
/// operations ([`Guest::destroy`], [`Guest::destroy_disk`], [`Guest::make_template`],
/// [`Guest::rollback`], [`Guest::delete_snapshot`]) read it first, and also stop if the guest is
/// elsewhere and nothing shows that it is the same.
///
/// [`Guest::locate`] accepts the guest that has the number now; so does a new handle.
#[derive(Clone)]
pub struct Guest {
    client: Client,
    vmid: u32,
    memory: Arc<Mutex<Memory>>,
    /// The time limit for waiting for locks.
    locks: Option<Duration>,
}

/// The state of a handle.
#[derive(Clone, Default)]
struct Memory {
    location: Option<GuestLocation>,
    /// Its kind; once known, a guest of the other kind is another guest.
    kind: Option<Kind>,
    /// Whether it was seen, rather than expected.
    seen: bool,
    /// The time at which it was first seen, in seconds since 1970, by the server's clock.
    since: Option<u64>,
    /// Whether it was missing at some time after it was seen.
    gone: bool,
    identity: Identity,
}

/// The tolerance for differences between the clocks of a cluster's nodes, in seconds.
const SKEW: u64 = 5;

/// The required certainty that the guest is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentityCheck {
    /// No sign that it is another guest.
    Lenient,
    /// A sign that it is the same guest.
    Strict,
}

impl Client {
    /// A handle for a virtual machine or container. Sends nothing before the first use.
    #[must_use]
    pub fn guest(&self, vmid: u32) -> Guest {
        Guest {
            client: self.clone(),
            vmid,
            memory: Arc::default(),
            locks: None,
        }
    }

    /// Like [`Client::guest`] for a guest whose node is known, which saves a request. An outdated
    /// node does no harm. The kind is part of the identity: a guest of the other kind is another
    /// guest.
    #[must_use]
    pub fn guest_at(&self, vmid: u32, node: impl Into<String>, kind: Kind) -> Guest {
        let guest = self.guest(vmid);
        let node = node.into();
        guest.remember(|memory| {
            memory.kind = Some(kind);
            memory.location = Some(GuestLocation { node, kind });
        });
        guest
    }

    /// A handle for a guest that a list shows.
    pub(crate) fn guest_seen(
        &self,
        vmid: u32,
        location: GuestLocation,
        since: Option<u64>,
    ) -> Guest {
        let guest = self.guest(vmid);
        guest.remember(|memory| memory.see(location, since));
        guest
    }
}

impl Memory {
    fn see(&mut self, location: GuestLocation, time: Option<u64>) {
        self.kind = Some(location.kind);
        self.location = Some(location);
        self.seen = true;
        self.gone = false;
        if self.since.is_none() {
            self.since = time;
        }
    }

    /// Whether a guest of this identity was certainly created after this handle first saw its guest.
    fn is_created_since(&self, now: &Identity) -> bool {
        match (self.identity.created, now.created, self.since) {
            (Some(known), Some(created), _) => known != created,
            (None, Some(created), Some(since)) => self.seen && created > since.saturating_add(SKEW),
            _ => false,
        }
    }
}

impl Guest {
    /// Its number.
    #[must_use]
    pub fn vmid(&self) -> u32 {
        self.vmid
    }

    /// The client of this handle.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A handle for the same guest that waits, at most this long, for locks of other operations: a
    /// lock on the guest, such as a backup's, or on a storage or the cluster. Without it, a lock is
    /// an error of kind [`Locked`](ErrorKind::Locked) or [`LockTimeout`](ErrorKind::LockTimeout) at
    /// once.
    ///
    /// A call that is refused for a lock had no effect and is repeated until it is accepted. If the
    /// task fails for a lock, waiting for it starts the operation again. After the time limit, the
    /// last refusal is the error.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use std::time::Duration;
    ///
    /// use proxmox_api::task::AndWait;
    ///
    /// let patient = pve.guest(101).wait_for_locks(Duration::from_secs(600));
    /// patient.snapshot("after-backup").and_wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn wait_for_locks(&self, timeout: Duration) -> Guest {
        let locks = Some(timeout);
        Guest {
            locks,
            ..self.clone()
        }
    }

    /// Its node and kind, from memory if they are known. Otherwise from a list of all guests that
    /// the handles of one client share; see
    /// [`ClientBuilder::guest_locations`](crate::ClientBuilder::guest_locations).
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none that this user may
    /// see; [`GuestErrorKind::AnotherGuest`] if it is not the guest that this handle saw before.
    pub async fn location(&self) -> Result<GuestLocation, Error> {
        match self.memory().location {
            Some(location) => Ok(location),
            None => self.find(IdentityCheck::Lenient, true).await,
        }
    }

    /// Asks for its node and kind: [`GET
    /// /cluster/resources`](crate::pve::cluster::ClusterResourcesGet). Accepts the guest that has
    /// the number now, whatever this handle saw before.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none that this user may
    /// see.
    pub async fn locate(&self) -> Result<GuestLocation, Error> {
        self.remember(|memory| *memory = Memory::default());
        self.find(IdentityCheck::Lenient, false).await
    }

    /// The location of this handle's guest, as far as known. `recent` allows a cached list.
    fn find(
        &self,
        check: IdentityCheck,
        recent: bool,
    ) -> BoxFuture<'_, Result<GuestLocation, Error>> {
        Box::pin(async move {
            let mut table = match recent {
                true => Locations::recent(&self.client).await?,
                false => Locations::fresh(&self.client).await?,
            };
            if recent && !table.guests.contains_key(&self.vmid) {
                table = Locations::fresh(&self.client).await?;
            }
            let Some(location) = table.guests.get(&self.vmid).map(|guest| &guest.location) else {
                self.remember(|memory| {
                    memory.location = None;
                    memory.gone = memory.seen;
                });
                return Err(GuestErrorKind::NoSuchGuest { vmid: self.vmid }.into());
            };
            self.check(location, check).await?;
            self.remember(|memory| memory.see(location.clone(), table.now()));
            Ok(location.clone())
        })
    }

    /// Whether the guest with the number at this location is, as far as known, the guest of this
    /// handle.
    async fn check(&self, now: &GuestLocation, check: IdentityCheck) -> Result<(), Error> {
        let memory = self.memory();
        let Some(kind) = memory.kind else {
            return Ok(());
        };
        let other = |certain| {
            let vmid = self.vmid;
            let now = now.clone();
            Err(GuestErrorKind::AnotherGuest {
                vmid,
                kind,
                now,
                certain,
            }
            .into())
        };
        if kind != now.kind {
            return other(true);
        }
        if memory.location.as_ref() == Some(now) && !memory.gone {
            return Ok(());
        }
        let identity = match self.identify(now).await {
            Ok(identity) => identity,
            // A user who may act on a guest need not have the right to read its configuration.
            Err(error) if error.kind() == Some(ErrorKind::PermissionDenied) => Identity::default(),
            Err(error) => return Err(error),
        };
        let likeness = match memory.is_created_since(&identity) {
            true => IdentityMatch::Other,
            false => memory.identity.compare(&identity),
        };
        match likeness {
            IdentityMatch::Other => return other(true),
            IdentityMatch::Unknown
                if memory.seen && (memory.gone || check == IdentityCheck::Strict) =>
            {
                return other(false);
            }
            IdentityMatch::Unknown | IdentityMatch::Same => {}
        }
        self.remember(|memory| memory.identity = identity);
        Ok(())
    }

    /// The identity in the configuration at this location.
    fn identify(&self, location: &GuestLocation) -> BoxFuture<'static, Result<Identity, Error>> {
        let call = match location.kind {
            Kind::Qemu => self.qemu_at(location).config().get().into_request().call,
            Kind::Lxc => self.lxc_at(location).config().get().into_request().call,
        };
        let client = Some(self.client.clone());
        Box::pin(async move {
            let (_, _, reply) = exchange(client, call).await?;
            Ok(Identity::of_answer(&reply.body))
        })
    }

    /// Reads a configuration, and the identity in it.
    pub(crate) async fn read<C: Send + 'static>(
        &self,
        kind: Kind,
        config: fn(&Self, &GuestLocation) -> Request<C>,
    ) -> Result<C, Error> {
        let send = |location: &GuestLocation| -> BoxFuture<'static, Result<(C, Identity, GuestLocation), Error>> {
            let request = config(self, location);
            let location = location.clone();
            Box::pin(async move {
                let (client, name, reply) = exchange(request.client, request.call).await?;
                let config = (request.decode)(&client, &reply, &mut Extra::new())
                    .map_err(|error| client.undecodable(name, &reply.secrets, error))?;
                Ok((config, Identity::of_answer(&reply.body), location))
            })
        };
        let (config, identity, location) = self.call(Some(kind), &send).await?;
        self.learn(identity, &location)?;
        Ok(config)
    }

    /// Records the identity of the guest at a location where this handle's guest was expected.
    fn learn(&self, identity: Identity, location: &GuestLocation) -> Result<(), Error> {
        if self.memory().is_created_since(&identity) {
            let another = GuestErrorKind::AnotherGuest {
                vmid: self.vmid,
                kind: location.kind,
                now: location.clone(),
                certain: true,
            };
            return Err(another.into());
        }
        self.remember(|memory| {
            memory.seen = true;
            memory.identity = identity;
        });
        Ok(())
    }

    /// Verifies before an irreversible operation that the guest is the same.
    async fn secure(&self, kind: Option<Kind>) -> Result<(), Error> {
        let send = |location: &GuestLocation| -> BoxFuture<'static, Result<(Identity, GuestLocation), Error>> {
            let identity = self.identify(location);
            let location = location.clone();
            Box::pin(async move { Ok((identity.await?, location)) })
        };
        match self.call_with(kind, IdentityCheck::Strict, &send).await {
            Ok((identity, location)) => self.learn(identity, &location),
            Err(error) if error.kind() == Some(ErrorKind::PermissionDenied) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Its current status: [`GET
    /// /nodes/{node}/qemu/{vmid}/status/current`](crate::pve::qemu::QemuVmidStatusCurrentPath::get)
    /// or [`GET
    /// /nodes/{node}/lxc/{vmid}/status/current`](crate::pve::lxc::LxcVmidStatusCurrentPath::get).
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn status(&self) -> Result<GuestStatus, Error> {
        self.call(None, &|location| match location.kind {
            Kind::Qemu => {
                let request = self.qemu_at(location).status().current().get();
                Box::pin(async move { Ok(GuestStatus::of_qemu(request.await?)) })
            }
            Kind::Lxc => {
                let request = self.lxc_at(location).status().current().get();
                Box::pin(async move { Ok(GuestStatus::of_lxc(request.await?)) })
            }
        })
        .await
    }

    /// The path of a virtual machine in the generated tree, for calls this module has no method for.
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] if it is a container; see [`Guest`].
    pub async fn qemu(&self) -> Result<QemuVmidPath, Error> {
        Ok(self.qemu_at(&self.location_as(Kind::Qemu).await?))
    }

    /// The path of a container in the generated tree, for calls this module has no method for.
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] if it is a virtual machine; see [`Guest`].
    pub async fn lxc(&self) -> Result<LxcVmidPath, Error> {
        Ok(self.lxc_at(&self.location_as(Kind::Lxc).await?))
    }

    #[inline]
    pub(crate) fn qemu_at(&self, location: &GuestLocation) -> QemuVmidPath {
        let node = self.client.api().nodes().node(&location.node);
        node.qemu().vmid(self.vmid)
    }

    #[inline]
    pub(crate) fn lxc_at(&self, location: &GuestLocation) -> LxcVmidPath {
        let node = self.client.api().nodes().node(&location.node);
        node.lxc().vmid(self.vmid)
    }

    /// Its location, if it is of this kind.
    async fn location_as(&self, kind: Kind) -> Result<GuestLocation, Error> {
        let location = self.location().await?;
        if location.kind == kind {
            return Ok(location);
        }
        let wrong = GuestErrorKind::WrongKind {
            vmid: self.vmid,
            is: location.kind,
            needed: kind,
        };
        Err(wrong.into())
    }

    fn memory(&self) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.clone()
    }

    fn remember(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sends the call that `send` makes for the guest's location, once more if the guest has moved.
    /// `kind` is the required kind.
    pub(crate) fn call<'a, T: 'a>(
        &'a self,
        kind: Option<Kind>,
        send: LocatedCall<'a, T>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        self.call_with(kind, IdentityCheck::Lenient, send)
    }

    fn call_with<'a, T: 'a>(
        &'a self,
        kind: Option<Kind>,
        check: IdentityCheck,
        send: LocatedCall<'a, T>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            let mut schedule = PollSchedule::every(None, self.locks);
            loop {
                let location = match kind {
                    Some(kind) => self.location_as(kind).await?,
                    None => self.location().await?,
                };
                let error = match send(&location).await {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                };
                let error = match self.moved(&location, check, error).await {
                    Ok(now) => match send(&now).await {
                        Ok(done) => return Ok(done),
                        Err(error) => error,
                    },
                    Err(error) => error,
                };
                if !(self.waits_for(&error) && schedule.again().await) {
                    return Err(error);
                }
            }
        })
    }

    /// Whether this handle waits for the cause of an error.
    fn waits_for(&self, error: &Error) -> bool {
        let locked = matches!(
            error.kind(),
            Some(ErrorKind::Locked | ErrorKind::LockTimeout)
        );
        self.locks.is_some() && locked
    }

    /// [`Guest::call`] for operations that may continue after the answer.
    #[inline]
    fn start_operation<'a>(
        &'a self,
        kind: Option<Kind>,
        target: TargetState,
        send: LocatedCall<'a, Option<Task>>,
    ) -> BoxFuture<'a, Result<StartedOperation, Error>> {
        self.start_with(kind, IdentityCheck::Lenient, target, send)
    }

    /// `start_operation` for irreversible operations.
    fn start_irreversible<'a>(
        &'a self,
        send: LocatedCall<'a, Option<Task>>,
    ) -> BoxFuture<'a, Result<StartedOperation, Error>> {
        Box::pin(async move {
            self.secure(None).await?;
            (self.start_with(None, IdentityCheck::Strict, TargetState::Nothing, send)).await
        })
    }

    fn start_with<'a>(
        &'a self,
        kind: Option<Kind>,
        check: IdentityCheck,
        target: TargetState,
        send: LocatedCall<'a, Option<Task>>,
    ) -> BoxFuture<'a, Result<StartedOperation, Error>> {
        Box::pin(async move {
            let task = self.call_with(kind, check, send).await?;
            Ok(StartedOperation::new(self, task, target))
        })
    }

    /// The guest's present location, if the error comes from a move; otherwise the error.
    #[inline]
    fn moved<'a>(
        &'a self,
        from: &'a GuestLocation,
        check: IdentityCheck,
        error: Error,
    ) -> BoxFuture<'a, Result<GuestLocation, Error>> {
        Box::pin(async move {
            if !may_have_moved(&error, from.kind) {
                return Err(error);
            }
            match self.find(check, false).await {
                Ok(now) if now != *from => Ok(now),
                Err(Error::Guest(gone)) => Err(Error::Guest(gone)),
                _ => Err(error),
            }
        })
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("vmid", &self.vmid)
            .field("location", &self.memory().location)
            .finish_non_exhaustive()
    }
}

/// Whether an error says that the node does not have the guest, so that certainly nothing was done.
fn may_have_moved(error: &Error, kind: Kind) -> bool {
    match error {
        Error::Api(error) => match error.kind() {
            ErrorKind::NotFound => true,
            // Stopping a container looks for its process, and not for the container on the node.
            ErrorKind::NotRunning => kind == Kind::Lxc,
            // The node left the cluster, or is offline while the guest runs elsewhere. With 596 and
            // above the call may have arrived.
            ErrorKind::NodeUnreachable => matches!(error.status(), 500 | 595),
            _ => false,
        },
        Error::Task(error) => {
            let late = (error.upid()).is_some_and(|upid| started::LATE.contains(&upid.task_type()));
            // Other objects that a task misses, such as a snapshot, are not looked for elsewhere.
            late && error.kind() == Some(ErrorKind::NotFound)
                && matches!(error.reason(), TaskErrorKind::Failed(text) if text.contains("onfiguration file"))
        }
        _ => false,
    }
}

/// Answers of calls that always, sometimes or never start a task.
pub(crate) trait IntoTask: 'static {
    fn into_task(self) -> Option<Task>;
}

impl IntoTask for Task {
    fn into_task(self) -> Option<Task> {
        Some(self)
    }
}

impl IntoTask for () {
    fn into_task(self) -> Option<Task> {
        None
    }
}

/// The future of a request that may start a task.
pub(crate) fn task(
    request: impl ApiRequest<Output: IntoTask>,
) -> BoxFuture<'static, Result<Option<Task>, Error>> {
    optional(request.into_request().into_future())
}

#[inline]
fn optional<T: IntoTask>(
    sending: BoxFuture<'static, Result<T, Error>>,
) -> BoxFuture<'static, Result<Option<Task>, Error>> {
    Box::pin(async move { Ok(sending.await?.into_task()) })
}

/// The power state of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerState {
    /// It runs.
    Running,
    /// It is in memory and gets no processor time.
    Paused,
    /// Its memory is on disk; a start resumes it.
    Suspended,
    /// It does not run.
    Stopped,
    /// The node has not reported it lately, for example while it is down.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        })
    }
}

/// Parses the output of `Display`.
impl std::str::FromStr for PowerState {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let states = [
            Self::Running,
            Self::Paused,
            Self::Suspended,
            Self::Stopped,
            Self::Unknown,
        ];
        let named = states.into_iter().find(|state| state.to_string() == text);
        named.ok_or_else(|| {
            let names = vec!["running", "paused", "suspended", "stopped", "unknown"];
            ParseNameError::new("power state", text, names)
        })
    }
}

word_serde!(PowerState);

/// The current status of a guest; see [`Guest::status`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GuestStatus {
    /// The power state.
    pub state: PowerState,
    /// Its name.
    pub name: Option<String>,
    /// The operation that locks it, such as `backup`.
    pub lock: Option<String>,
    /// Whether high availability manages it.
    pub ha_managed: bool,
    /// The state that high availability reports, such as `started` or `error`.
    pub ha_state: Option<String>,
    /// The time since its start; zero if it does not run.
    pub uptime: Duration,
    /// Share of its processors in use, from 0 to 1.
    pub cpu: f64,
    /// Its processors.
    pub cpus: f64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Memory it may use, in bytes.
    pub max_memory: u64,
    /// Disk space in use, in bytes. Zero for virtual machines, because the server cannot read their
    /// disks.
    pub disk: u64,
    /// Disk space, in bytes.
    pub max_disk: u64,
    /// Bytes received since the start.
    pub net_in: u64,
    /// Bytes sent since the start.
    pub net_out: u64,
    /// Bytes read from disks since the start.
    pub disk_read: u64,
    /// Bytes written to disks since the start.
    pub disk_write: u64,
    /// Whether the guest agent is enabled in its configuration.
    pub agent: bool,
}

record_serde!(GuestStatus {
    state,
    name,
    lock,
    ha_managed,
    ha_state,
    uptime,
    cpu,
    cpus,
    memory,
    max_memory,
    disk,
    max_disk,
    net_in,
    net_out,
    disk_read,
    disk_write,
    agent,
});

pub(crate) fn unsigned(number: Option<impl TryInto<u64>>) -> u64 {
    number.and_then(|n| n.try_into().ok()).unwrap_or(0)
}

/// The status of both kinds of guests has these fields.
macro_rules! guest_status {
    ($status:ident, $state:ident, agent: $agent:expr) => {
        GuestStatus {
            state: $state,
            ha_managed: ($status.ha.as_ref()).is_some_and(|ha| ha.managed == Some(true)),
            ha_state: $status.ha.and_then(|ha| ha.state),
            uptime: Duration::from_secs(unsigned($status.uptime)),
            cpu: $status.cpu.unwrap_or(0.0),
            cpus: $status.cpus.unwrap_or(0.0),
            memory: unsigned($status.mem),
            max_memory: unsigned($status.maxmem),
            disk: unsigned($status.disk),
            max_disk: unsigned($status.maxdisk),
            net_in: unsigned($status.netin),
            net_out: unsigned($status.netout),
            disk_read: unsigned($status.diskread),
            disk_write: unsigned($status.diskwrite),
            agent: $agent,
            name: $status.name,
            lock: $status.lock,
        }
    };
}

impl GuestStatus {
    #[inline]
    fn of_qemu(status: crate::pve::qemu::QemuStatusCurrent) -> Self {
        let state = match (status.qmpstatus.as_deref(), status.lock.as_deref()) {
            (Some("paused"), _) => PowerState::Paused,
            (_, Some("suspended")) => PowerState::Suspended,
            _ => power_state(status.status.as_str()),
        };
        guest_status!(status, state, agent: status.agent == Some(true))
    }

    #[inline]
    fn of_lxc(status: crate::pve::lxc::LxcStatusCurrent) -> Self {
        let state = power_state(status.status.as_str());
        guest_status!(status, state, agent: false)
    }
}

pub(crate) fn power_state(status: &str) -> PowerState {
    match status {
        "running" => PowerState::Running,
        "paused" => PowerState::Paused,
        "stopped" => PowerState::Stopped,
        _ => PowerState::Unknown,
    }
}
