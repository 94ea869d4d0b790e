//! Operations on a guest without settings.

use super::started::TargetState;
use super::{Guest, GuestLocation, IdentityCheck, Kind, Size, StartedOperation, start_task};
use crate::error::Error;
use crate::task::Task;

/// An operation on a guest, made by its methods; awaiting it returns a [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct GuestOperation {
    pub(super) guest: Guest,
    action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Template,
    Rollback {
        snapshot: String,
        start: bool,
    },
    DeleteSnapshot {
        snapshot: String,
        force: bool,
    },
    Resize {
        disk: String,
        size: Size,
    },
    Move {
        disk: String,
        storage: String,
        delete: bool,
    },
}

impl Guest {
    pub(super) fn operation(&self, action: Action) -> GuestOperation {
        let guest = self.clone();
        GuestOperation { guest, action }
    }
}

impl GuestOperation {
    async fn run(self) -> Result<StartedOperation, Error> {
        let Self { guest, action } = &self;
        let send = |location: &GuestLocation| match (location.kind, action) {
            (Kind::Qemu, Action::Template) => {
                start_task!(guest.qemu_at(location).template().post())
            }
            (Kind::Lxc, Action::Template) => start_task!(guest.lxc_at(location).template().post()),
            (Kind::Qemu, Action::Rollback { snapshot, start }) => {
                let at = guest.qemu_at(location).snapshot().snapname(snapshot);
                start_task!(at.rollback().post(), start: start.then_some(true))
            }
            (Kind::Lxc, Action::Rollback { snapshot, start }) => {
                let at = guest.lxc_at(location).snapshot().snapname(snapshot);
                start_task!(at.rollback().post(), start: start.then_some(true))
            }
            (Kind::Qemu, Action::DeleteSnapshot { snapshot, force }) => {
                let at = guest.qemu_at(location).snapshot().snapname(snapshot);
                start_task!(at.delete(), force: force.then_some(true))
            }
            (Kind::Lxc, Action::DeleteSnapshot { snapshot, force }) => {
                let at = guest.lxc_at(location).snapshot().snapname(snapshot);
                start_task!(at.delete(), force: force.then_some(true))
            }
            (Kind::Qemu, Action::Resize { disk, size }) => {
                start_task!(
                    guest
                        .qemu_at(location)
                        .resize()
                        .put()
                        .disk(disk.as_str())
                        .size(size.to_string())
                )
            }
            (Kind::Lxc, Action::Resize { disk, size }) => {
                start_task!(
                    guest
                        .lxc_at(location)
                        .resize()
                        .put()
                        .disk(disk.as_str())
                        .size(size.to_string())
                )
            }
            (
                Kind::Qemu,
                Action::Move {
                    disk,
                    storage,
                    delete,
                },
            ) => {
                let request = guest.qemu_at(location).move_disk().post(disk.as_str());
                start_task!(request.storage(storage).delete(*delete))
            }
            (
                Kind::Lxc,
                Action::Move {
                    disk,
                    storage,
                    delete,
                },
            ) => {
                let request = guest.lxc_at(location).move_volume().post(disk.as_str());
                start_task!(request.storage(storage).delete(*delete))
            }
        };
        match action {
            Action::Resize { .. } | Action::Move { .. } => {
                guest
                    .start_with(None, IdentityCheck::Lenient, TargetState::Nothing, &send)
                    .await
            }
            Action::Template => {
                let started = guest.start_irreversible(&send).await?;
                match guest.template_task(&started).await? {
                    Some(task) => Ok(StartedOperation::new(
                        guest,
                        Some(task),
                        TargetState::Nothing,
                    )),
                    None => Ok(started),
                }
            }
            Action::Rollback { .. } | Action::DeleteSnapshot { .. } => {
                guest.start_irreversible(&send).await
            }
        }
    }
}

impl Guest {
    /// The task that turns a container into a template: the server starts one without naming it
    /// (pve-container `API2/LXC.pm`, `template`).
    async fn template_task(&self, started: &StartedOperation) -> Result<Option<Task>, Error> {
        let location = self.memory().location.clone();
        let Some(location) = location.filter(|location| location.kind == Kind::Lxc) else {
            return Ok(None);
        };
        if !started.task().is_done() {
            return Ok(None);
        }
        let tasks = self.client.api().nodes().node(location.node).tasks().get();
        let latest = tasks
            .vmid(self.vmid)
            .typefilter("vztemplate")
            .source("all")
            .limit(1);
        let latest = latest.await?.into_iter().next();
        let upid = latest.and_then(|row| row.upid.parse().ok());
        Ok(upid.map(|upid| self.client.task(upid)))
    }
}

super::impl_into_started!(GuestOperation);

/// Rolls back to a snapshot; made by [`Guest::rollback`], awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Rollback(pub(super) GuestOperation);

impl Rollback {
    /// Starts the guest afterwards. A guest whose snapshot holds the memory continues to run in any
    /// case.
    pub fn started(mut self) -> Self {
        if let Action::Rollback { start, .. } = &mut self.0.action {
            *start = true;
        }
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        self.0.run().await
    }
}

super::impl_into_started!(Rollback);

/// Deletes a snapshot; made by [`Guest::delete_snapshot`], awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct DeleteSnapshot(pub(super) GuestOperation);

impl DeleteSnapshot {
    /// Removes it from the configuration even if its disks cannot be deleted.
    pub fn forced(mut self) -> Self {
        if let Action::DeleteSnapshot { force, .. } = &mut self.0.action {
            *force = true;
        }
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        self.0.run().await
    }
}

super::impl_into_started!(DeleteSnapshot);

/// Moves a disk to another storage; made by [`Guest::move_disk`], awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct MoveDisk(pub(super) GuestOperation);

impl MoveDisk {
    /// **Deletes the original** after the move. Otherwise it stays as an unused disk.
    pub fn delete_source(mut self) -> Self {
        if let Action::Move { delete, .. } = &mut self.0.action {
            *delete = true;
        }
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        self.0.run().await
    }
}

super::impl_into_started!(MoveDisk);
