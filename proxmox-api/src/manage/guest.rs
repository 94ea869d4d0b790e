//! Guests as people think of them: by number, wherever they run.
//!
//! [`Client::guest`] gives a handle that finds the guest's node and kind by itself, remembers them, and finds
//! them again when the guest was migrated. What takes time gives a [`Started`], which is waited for on demand.
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

mod backup;
mod cloud_init;
mod config;
mod copy;
mod difference;
mod failure;
mod ids;
mod migrate;
mod power;
mod retention;
mod snapshot;
mod started;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::pve::lxc::LxcVmidPath;
use crate::pve::qemu::QemuVmidPath;
use crate::request::{ApiRequest, Sending};
use crate::task::Task;
use started::Goal;

pub use backup::{Backup, Restore};
pub use cloud_init::CloudInit;
pub use config::{Bus, Size};
pub use copy::{CloneGuest, Cloned, Destroy};
pub use failure::{GuestError, GuestErrorKind};
pub use ids::{allocate, next_free};
pub use migrate::{Migrate, MigrationCheck};
pub use power::{Power, PowerAction};
pub use retention::{Retention, Verdict};
pub use snapshot::{Snapshot, TakeSnapshot};
pub use started::{Started, WaitStarted};

/// What is done with a guest, under way.
pub(crate) type Acting<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A call for wherever the guest is.
pub(crate) type Calling<'a, T> = &'a (dyn Fn(&Place) -> Sending<T> + Sync);

/// Lets a description of an operation be awaited. Inline, so that only programs that do so compile it.
macro_rules! awaits {
    ($operation:ty => $output:ty) => {
        impl IntoFuture for $operation {
            type Output = Result<$output, $crate::error::Error>;
            type IntoFuture = $crate::manage::guest::Acting<'static, $output>;

            #[inline]
            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.run())
            }
        }
    };
}
pub(crate) use awaits;

/// A request that may start a task, with those of its settings that have a value.
macro_rules! order {
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
pub(crate) use order;

/// How often a change of configuration is tried when others change it at the same time.
const ATTEMPTS: u32 = 5;

/// What a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

impl Kind {
    /// As in paths and resource identifiers: `qemu` or `lxc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "qemu" => Some(Self::Qemu),
            "lxc" => Some(Self::Lxc),
            _ => None,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Qemu => "a virtual machine",
            Self::Lxc => "a container",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The node it belongs to.
    pub node: String,
    /// What it is.
    pub kind: Kind,
}

/// A guest: a handle, not the guest itself. Clones share what is known about its place.
///
/// Made by [`Client::guest`]. Every method can fail with [`GuestErrorKind::NoSuchGuest`], and with whatever the
/// server or the connection says.
#[derive(Clone)]
pub struct Guest {
    client: Client,
    vmid: u32,
    place: Arc<Mutex<Option<Place>>>,
}

impl Client {
    /// A handle for a virtual machine or container. Nothing is asked before the first use.
    #[must_use]
    pub fn guest(&self, vmid: u32) -> Guest {
        Guest {
            client: self.clone(),
            vmid,
            place: Arc::default(),
        }
    }

    /// Like [`Client::guest`] for a guest whose place is known, which saves asking for it. A place that is
    /// out of date does no harm.
    #[must_use]
    pub fn guest_at(&self, vmid: u32, node: impl Into<String>, kind: Kind) -> Guest {
        let guest = self.guest(vmid);
        let node = node.into();
        guest.remember(Some(Place { node, kind }));
        guest
    }
}

impl Guest {
    /// Its number.
    #[must_use]
    pub fn vmid(&self) -> u32 {
        self.vmid
    }

    /// The client it is reached through.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its node and kind, from memory if they were asked for before.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none this user may see.
    pub async fn place(&self) -> Result<Place, Error> {
        match self.remembered() {
            Some(place) => Ok(place),
            None => self.locate().await,
        }
    }

    /// Asks for its node and kind: `GET /cluster/resources`.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchGuest`] if the cluster has no such guest, or none this user may see.
    pub async fn locate(&self) -> Result<Place, Error> {
        let rows = self.client.api().cluster().resources().get().type_("vm");
        let place = rows
            .await?
            .into_iter()
            .filter(|row| row.vmid == Some(self.vmid))
            .find_map(|row| {
                let kind = Kind::read(row.type_.as_str())?;
                row.node.map(|node| Place {
                    node: node.into(),
                    kind,
                })
            });
        self.remember(place.clone());
        place.ok_or_else(|| GuestErrorKind::NoSuchGuest { vmid: self.vmid }.into())
    }

    /// How it is doing: `GET /nodes/{node}/{qemu|lxc}/{vmid}/status/current`.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn status(&self) -> Result<GuestStatus, Error> {
        self.call(None, &|place| match place.kind {
            Kind::Qemu => {
                let request = self.qemu_at(place).status().current().get();
                Box::pin(async move { Ok(GuestStatus::of_qemu(request.await?)) })
            }
            Kind::Lxc => {
                let request = self.lxc_at(place).status().current().get();
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
        Ok(self.qemu_at(&self.place_as(Kind::Qemu).await?))
    }

    /// The path of a container in the generated tree, for calls this module has no method for.
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] if it is a virtual machine; see [`Guest`].
    pub async fn lxc(&self) -> Result<LxcVmidPath, Error> {
        Ok(self.lxc_at(&self.place_as(Kind::Lxc).await?))
    }

    #[inline]
    pub(crate) fn qemu_at(&self, place: &Place) -> QemuVmidPath {
        let node = self.client.api().nodes().node(&place.node);
        node.qemu().vmid(self.vmid)
    }

    #[inline]
    pub(crate) fn lxc_at(&self, place: &Place) -> LxcVmidPath {
        let node = self.client.api().nodes().node(&place.node);
        node.lxc().vmid(self.vmid)
    }

    /// Its place, if it is of this kind.
    async fn place_as(&self, kind: Kind) -> Result<Place, Error> {
        if let Some(place) = self.remembered().filter(|place| place.kind == kind) {
            return Ok(place);
        }
        // What is remembered may be a guess, or the number may have been given away.
        let place = self.locate().await?;
        if place.kind == kind {
            return Ok(place);
        }
        let wrong = GuestErrorKind::WrongKind {
            vmid: self.vmid,
            is: place.kind,
            needed: kind,
        };
        Err(wrong.into())
    }

    fn remembered(&self) -> Option<Place> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    fn remember(&self, place: Option<Place>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Sends what `send` makes for the guest's place, once more if it turns out to have moved. `kind` is what the
    /// guest has to be.
    pub(crate) fn call<'a, T: 'a>(
        &'a self,
        kind: Option<Kind>,
        send: Calling<'a, T>,
    ) -> Acting<'a, T> {
        Box::pin(async move {
            let place = match kind {
                Some(kind) => self.place_as(kind).await?,
                None => self.place().await?,
            };
            let error = match send(&place).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let now = self.moved(&place, kind, error).await?;
            send(&now).await
        })
    }

    /// [`Guest::call`] for what may go on after the answer.
    #[inline]
    fn order<'a>(
        &'a self,
        kind: Option<Kind>,
        goal: Goal,
        send: Calling<'a, Option<Task>>,
    ) -> Acting<'a, Started> {
        Box::pin(async move {
            let task = self.call(kind, send).await?;
            Ok(Started::new(self, task, goal))
        })
    }

    /// Where the guest is by now, if the error comes from its being elsewhere; otherwise the error.
    #[inline]
    fn moved<'a>(&'a self, from: &'a Place, kind: Option<Kind>, error: Error) -> Acting<'a, Place> {
        Box::pin(async move {
            if !may_have_moved(&error) {
                return Err(error);
            }
            match self.locate().await {
                Ok(now) if now != *from => match kind {
                    Some(kind) => self.place_as(kind).await,
                    None => Ok(now),
                },
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
            .field("place", &self.remembered())
            .finish_non_exhaustive()
    }
}

/// Whether an error says that the node does not have the guest, and so certainly did nothing.
fn may_have_moved(error: &Error) -> bool {
    match error {
        Error::Api(error) => match error.kind() {
            ErrorKind::NotFound => true,
            // A node that was taken out of the cluster, or is down while the guest lives on elsewhere. With 596
            // and above the call may have arrived.
            ErrorKind::NodeUnreachable => matches!(error.status(), 500 | 595),
            _ => false,
        },
        _ => false,
    }
}

/// What calls answer that start a task always, on some releases, or never.
pub(crate) trait IntoTask: 'static {
    fn into_task(self) -> Option<Task>;
}

impl IntoTask for Task {
    fn into_task(self) -> Option<Task> {
        Some(self)
    }
}

impl IntoTask for Option<Task> {
    fn into_task(self) -> Option<Task> {
        self
    }
}

impl IntoTask for () {
    fn into_task(self) -> Option<Task> {
        None
    }
}

/// The future of a request that may start a task.
pub(crate) fn task(request: impl ApiRequest<Output: IntoTask>) -> Sending<Option<Task>> {
    optional(request.into_request().into_future())
}

#[inline]
fn optional<T: IntoTask>(sending: Sending<T>) -> Sending<Option<Task>> {
    Box::pin(async move { Ok(sending.await?.into_task()) })
}

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerState {
    /// It runs.
    Running,
    /// It is in memory and gets no processor time.
    Paused,
    /// Its memory is on disk; starting it goes on from there.
    Suspended,
    /// It does not run.
    Stopped,
    /// The node has not said lately, as when it is down.
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

/// How a guest is doing; see [`Guest::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuestStatus {
    /// What it is doing.
    pub state: PowerState,
    /// Its name.
    pub name: Option<String>,
    /// Which operation holds it, such as `backup`.
    pub lock: Option<String>,
    /// Whether high availability looks after it.
    pub ha_managed: bool,
    /// What high availability makes of it, such as `started` or `error`.
    pub ha_state: Option<String>,
    /// How long it has been running; zero if it does not.
    pub uptime: Duration,
    /// Share of its processors in use, from 0 to 1.
    pub cpu: f64,
    /// Its processors.
    pub cpus: f64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Memory it may use, in bytes.
    pub max_memory: u64,
    /// Whether the guest agent is enabled in its configuration.
    pub agent: bool,
}

pub(crate) fn unsigned(number: Option<i64>) -> u64 {
    number.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

impl GuestStatus {
    #[inline]
    fn of_qemu(status: crate::pve::qemu::QemuStatusCurrent) -> Self {
        let state = match (status.qmpstatus.as_deref(), status.lock.as_deref()) {
            (Some("paused"), _) => PowerState::Paused,
            (_, Some("suspended")) => PowerState::Suspended,
            _ => power_state(status.status.as_str()),
        };
        Self {
            state,
            name: status.name,
            lock: status.lock,
            ha_managed: (status.ha.as_ref()).is_some_and(|ha| ha.managed == Some(true)),
            ha_state: status.ha.and_then(|ha| ha.state),
            uptime: Duration::from_secs(unsigned(status.uptime)),
            cpu: status.cpu.unwrap_or(0.0),
            cpus: status.cpus.unwrap_or(0.0),
            memory: unsigned(status.mem),
            max_memory: unsigned(status.maxmem),
            agent: status.agent == Some(true),
        }
    }

    #[inline]
    fn of_lxc(status: crate::pve::lxc::LxcStatusCurrent) -> Self {
        Self {
            state: power_state(status.status.as_str()),
            name: status.name,
            lock: status.lock,
            ha_managed: (status.ha.as_ref()).is_some_and(|ha| ha.managed == Some(true)),
            ha_state: status.ha.and_then(|ha| ha.state),
            uptime: Duration::from_secs(unsigned(status.uptime)),
            cpu: status.cpu.unwrap_or(0.0),
            cpus: status.cpus.unwrap_or(0.0),
            memory: unsigned(status.mem),
            max_memory: unsigned(status.maxmem),
            agent: false,
        }
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
