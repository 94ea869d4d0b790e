//! Clones, templates, and deleting of guests.

use std::ops::RangeInclusive;

use super::operation::Action;
use super::started::TargetState;
use super::{
    Guest, GuestErrorKind, GuestLocation, GuestOperation, IdentityCheck, Kind, PowerState,
    StartedOperation, allocate, start_task,
};
use crate::error::Error;
use crate::task::{Task, Waitable, Waiting};
use crate::value::BoxFuture;
use crate::value::upid::Upid;

/// A running clone; see [`Guest::clone_to`].
#[must_use = "the clone is not complete yet: wait for it"]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cloned {
    /// The new guest. It can be used once the task has ended.
    pub guest: Guest,
    /// The operation, which belongs to the original.
    pub started: StartedOperation,
}

/// Clones a guest; made by [`Guest::clone_to`] and [`Guest::clone_within`], awaiting it returns a
/// [`Cloned`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct CloneGuest {
    guest: Guest,
    ids: RangeInclusive<u32>,
    search: bool,
    name: Option<String>,
    description: Option<String>,
    full: Option<bool>,
    storage: Option<String>,
    target: Option<String>,
    pool: Option<String>,
    snapshot: Option<String>,
}

impl Guest {
    /// Clones it under a new number: [`POST /nodes/{node}/qemu/{vmid}/clone`](crate::pve::qemu::QemuVmidClonePost) or [`POST /nodes/{node}/lxc/{vmid}/clone`](crate::pve::lxc::LxcVmidClonePost).
    pub fn clone_to(&self, vmid: u32) -> CloneGuest {
        CloneGuest {
            guest: self.clone(),
            ids: vmid..=vmid,
            search: false,
            name: None,
            description: None,
            full: None,
            storage: None,
            target: None,
            pool: None,
            snapshot: None,
        }
    }

    /// Clones it under the lowest free number of a range, or the next one if another program takes
    /// that number.
    pub fn clone_within(&self, ids: RangeInclusive<u32>) -> CloneGuest {
        CloneGuest {
            ids,
            search: true,
            ..self.clone_to(0)
        }
    }

    /// Turns it into a template, which **cannot be undone**: templates do not run, they are cloned.
    /// [`POST /nodes/{node}/qemu/{vmid}/template`](crate::pve::qemu::QemuVmidTemplatePost) or
    /// [`POST /nodes/{node}/lxc/{vmid}/template`](crate::pve::lxc::LxcVmidTemplatePath::post). For a
    /// container the answer does not name the task, so it is looked for in the list of tasks.
    pub fn make_template(&self) -> GuestOperation {
        self.operation(Action::Template)
    }

    /// **Deletes the guest with its disks**: [`DELETE /nodes/{node}/qemu/{vmid}`](crate::pve::qemu::QemuVmidDelete) or [`DELETE /nodes/{node}/lxc/{vmid}`](crate::pve::lxc::LxcVmidDelete). It has to be stopped,
    /// unless [`Destroy::stop_first`] is set.
    pub fn destroy(&self) -> Destroy {
        Destroy {
            guest: self.clone(),
            purge: false,
            unreferenced: false,
            stop: false,
        }
    }
}

impl CloneGuest {
    /// The clone's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The clone's notes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Whether all disks are copied, instead of linked to those of the template. By default,
    /// templates give linked clones unless [`CloneGuest::storage`] is set, and other guests full
    /// ones.
    pub fn full(mut self, full: bool) -> Self {
        self.full = Some(full);
        self
    }

    /// The storage of the clone's disks. Makes it a full clone, since a linked one has its disks on
    /// the template's storage; together with `full(false)` it ends in
    /// [`GuestErrorKind::InvalidInput`].
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// The node of the clone. Another node than the original's needs shared storage.
    pub fn target(mut self, node: impl Into<String>) -> Self {
        self.target = Some(node.into());
        self
    }

    /// The pool the clone belongs to.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Clones the state of a snapshot.
    pub fn from_snapshot(mut self, name: impl Into<String>) -> Self {
        self.snapshot = Some(name.into());
        self
    }

    #[inline]
    fn send(
        &self,
        location: &GuestLocation,
        vmid: u32,
    ) -> BoxFuture<'static, Result<Option<Task>, Error>> {
        macro_rules! clone {
            ($request:expr, $name:ident) => {
                start_task!(
                    $request,
                    $name: self.name.as_deref(),
                    description: self.description.as_deref(),
                    full: self.full.or(self.storage.as_ref().map(|_| true)),
                    storage: self.storage.as_deref(),
                    target: self.target.as_deref(),
                    pool: self.pool.as_deref(),
                    snapname: self.snapshot.as_deref(),
                )
            };
        }
        match location.kind {
            Kind::Qemu => clone!(self.guest.qemu_at(location).clone_().post(vmid), name),
            Kind::Lxc => clone!(self.guest.lxc_at(location).clone_().post(vmid), hostname),
        }
    }

    async fn run(self) -> Result<Cloned, Error> {
        let this = &self;
        let guest = &this.guest;
        if this.full == Some(false) && this.storage.is_some() {
            let invalid = GuestErrorKind::InvalidInput {
                vmid: guest.vmid,
                input: "the storage of a clone",
                problem: "a linked clone has its disks where the template has them; leave the storage out, \
                          or make it a full clone"
                    .to_owned(),
            };
            return Err(invalid.into());
        }
        let (vmid, started) = if this.search {
            allocate(&guest.client, this.ids.clone(), |vmid| this.copy(vmid)).await?
        } else {
            let vmid = *this.ids.start();
            (vmid, this.copy(vmid).await?)
        };
        let location = guest.location().await?;
        let node = this.target.clone().unwrap_or(location.node);
        // A repeated operation makes the same clone.
        let again = guest.locks.map(|_| {
            Copying(Self {
                ids: vmid..=vmid,
                search: false,
                ..this.clone()
            })
        });
        let started = started.or_again(again);
        Ok(Cloned {
            guest: guest.client.guest_at(vmid, node, location.kind),
            started,
        })
    }

    #[inline]
    fn copy(&self, vmid: u32) -> BoxFuture<'_, Result<StartedOperation, Error>> {
        Box::pin(async move {
            let send = |location: &GuestLocation| self.send(location, vmid);
            self.guest
                .start_operation(None, TargetState::Nothing, &send)
                .await
        })
    }
}

super::impl_into_future!(CloneGuest => Cloned);

/// A clone that is started again.
#[derive(Clone)]
struct Copying(CloneGuest);

impl IntoFuture for Copying {
    type Output = Result<StartedOperation, Error>;
    type IntoFuture = BoxFuture<'static, Result<StartedOperation, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        let vmid = *self.0.ids.start();
        Box::pin(async move { self.0.copy(vmid).await })
    }
}

impl Cloned {
    /// Returns the new guest without waiting for the clone. A failure is not reported.
    pub fn detach(self) -> Guest {
        self.guest
    }
}

impl Waitable for Cloned {
    type End = Guest;

    fn upid(&self) -> Option<&Upid> {
        self.started.upid()
    }

    /// Waits until the clone is complete, and returns it.
    fn finish<'a>(self, how: Waiting<'a>) -> BoxFuture<'a, Result<Guest, Error>>
    where
        Self: 'a,
    {
        let Self { guest, started } = self;
        Box::pin(async move {
            started.finish(how).await?;
            Ok(guest)
        })
    }
}

/// Deletes a guest; made by [`Guest::destroy`], awaiting it returns a [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Destroy {
    guest: Guest,
    purge: bool,
    unreferenced: bool,
    stop: bool,
}

impl Destroy {
    /// Also removes it from backup jobs, replication and high availability.
    pub fn purge(mut self) -> Self {
        self.purge = true;
        self
    }

    /// Also deletes volumes that carry its number and that its configuration does not mention.
    pub fn unreferenced_disks(mut self) -> Self {
        self.unreferenced = true;
        self
    }

    /// Stops it first if it runs, and waits for that.
    pub fn stop_first(mut self) -> Self {
        self.stop = true;
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let guest = &self.guest;
        guest.secure(None).await?;
        if self.stop && guest.status().await?.state != PowerState::Stopped {
            guest.stop().await?.wait().await?;
        }
        let (purge, all) = (
            self.purge.then_some(true),
            self.unreferenced.then_some(true),
        );
        let send = |location: &GuestLocation| match location.kind {
            Kind::Qemu => {
                let request = guest.qemu_at(location).delete();
                start_task!(request, purge: purge, destroy_unreferenced_disks: all)
            }
            Kind::Lxc => {
                let request = guest.lxc_at(location).delete();
                start_task!(request, purge: purge, destroy_unreferenced_disks: all)
            }
        };
        (guest.start_with(None, IdentityCheck::Strict, TargetState::Nothing, &send)).await
    }
}

super::impl_into_started!(Destroy);
