//! Snapshots of guests.

use super::operation::Action;
use super::started::TargetState;
use super::{DeleteSnapshot, Guest, GuestLocation, Kind, Rollback, StartedOperation, start_task};
use crate::error::Error;
use crate::request::ApiRequest;
use crate::value::BoxFuture;
use crate::value::serialize::record_serde;

/// A snapshot of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The snapshot it builds on; `None` for the first.
    pub parent: Option<String>,
    /// When it was taken, in seconds since 1970. `None` while it is being taken or deleted.
    pub time: Option<u64>,
    /// Whether it holds the memory of a running virtual machine.
    pub memory: bool,
}

record_serde!(Snapshot {
    name,
    description,
    parent,
    time,
    memory,
});

/// Takes a snapshot; made by [`Guest::snapshot`], awaiting it returns a [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct TakeSnapshot {
    guest: Guest,
    name: String,
    description: Option<String>,
    memory: bool,
}

impl TakeSnapshot {
    /// Its description.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Also saves the memory of a running virtual machine. Containers ignore it.
    pub fn with_memory(mut self) -> Self {
        self.memory = true;
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let Self { guest, name, .. } = &self;
        let (text, memory) = (self.description.as_deref(), self.memory.then_some(true));
        let send = |location: &GuestLocation| match location.kind {
            Kind::Qemu => {
                let request = guest.qemu_at(location).snapshot().post(name);
                start_task!(request, description: text, vmstate: memory)
            }
            Kind::Lxc => {
                let request = guest.lxc_at(location).snapshot().post(name);
                start_task!(request, description: text)
            }
        };
        guest
            .start_operation(None, TargetState::Nothing, &send)
            .await
    }
}

super::impl_into_started!(TakeSnapshot);

impl Guest {
    /// Takes a snapshot: [`POST
    /// /nodes/{node}/qemu/{vmid}/snapshot`](crate::pve::qemu::QemuVmidSnapshotPost) or [`POST
    /// /nodes/{node}/lxc/{vmid}/snapshot`](crate::pve::lxc::LxcVmidSnapshotPost). A name has 2 to 40
    /// characters: a letter, then letters, digits, `-` and `_`.
    pub fn snapshot(&self, name: impl Into<String>) -> TakeSnapshot {
        TakeSnapshot {
            guest: self.clone(),
            name: name.into(),
            description: None,
            memory: false,
        }
    }

    /// Its snapshots, the oldest first: [`GET
    /// /nodes/{node}/qemu/{vmid}/snapshot`](crate::pve::qemu::QemuVmidSnapshotPath::get) or [`GET
    /// /nodes/{node}/lxc/{vmid}/snapshot`](crate::pve::lxc::LxcVmidSnapshotPath::get). The current
    /// state, which the server lists among them, is omitted.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let mut snapshots = self
            .call(None, &|location| match location.kind {
                Kind::Qemu => {
                    let request = self.qemu_at(location).snapshot().get();
                    read_rows(request, |row| Snapshot {
                        name: row.name,
                        description: row.description.unwrap_or_default(),
                        parent: row.parent,
                        time: row.snaptime.and_then(|time| u64::try_from(time).ok()),
                        memory: row.vmstate == Some(true),
                    })
                }
                Kind::Lxc => {
                    let request = self.lxc_at(location).snapshot().get();
                    read_rows(request, |row| Snapshot {
                        name: row.name,
                        description: row.description.unwrap_or_default(),
                        parent: row.parent,
                        time: row.snaptime.and_then(|time| u64::try_from(time).ok()),
                        memory: false,
                    })
                }
            })
            .await?;
        snapshots.retain(|snapshot| snapshot.name != "current");
        // A snapshot without a time is the newest.
        let age = |snapshot: &Snapshot| (snapshot.time.unwrap_or(u64::MAX), snapshot.name.clone());
        snapshots.sort_by_key(age);
        Ok(snapshots)
    }

    /// Rolls back to a snapshot; **all later changes are lost**. [`POST
    /// /nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback`](crate::pve::qemu::QemuVmidSnapshotSnapnameRollbackPost)
    /// or [`POST
    /// /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback`](crate::pve::lxc::LxcVmidSnapshotSnapnameRollbackPost).
    ///
    /// # Errors
    /// See [`Guest`].
    pub fn rollback(&self, name: &str) -> Rollback {
        let snapshot = name.to_owned();
        let start = false;
        Rollback(self.operation(Action::Rollback { snapshot, start }))
    }

    /// Deletes a snapshot; the guest stays as it is. [`DELETE /nodes/{node}/qemu/{vmid}/snapshot/{snapname}`](crate::pve::qemu::QemuVmidSnapshotSnapnameDelete) or [`DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}`](crate::pve::lxc::LxcVmidSnapshotSnapnameDelete).
    ///
    /// # Errors
    /// See [`Guest`].
    pub fn delete_snapshot(&self, name: &str) -> DeleteSnapshot {
        let snapshot = name.to_owned();
        let force = false;
        DeleteSnapshot(self.operation(Action::DeleteSnapshot { snapshot, force }))
    }
}

/// Reads a list and each of its rows.
fn read_rows<R: 'static>(
    request: impl ApiRequest<Output = Vec<R>>,
    read: fn(R) -> Snapshot,
) -> BoxFuture<'static, Result<Vec<Snapshot>, Error>> {
    let rows = request.into_request().into_future();
    Box::pin(async move { Ok(rows.await?.into_iter().map(read).collect()) })
}
