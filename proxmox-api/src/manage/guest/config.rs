//! Reading, changing and writing back configurations.

use std::fmt;

use super::operation::Action;
use super::started::TargetState;
use super::{
    ATTEMPTS, Guest, GuestErrorKind, GuestLocation, GuestOperation, IdentityCheck, Kind, MoveDisk,
    StartedOperation, task,
};
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::pve::lxc::{LxcConfig, LxcMountPoint, LxcNet, LxcVmidConfigPut};
use crate::pve::qemu::{QemuConfig, QemuDrive, QemuNet, QemuVmidConfigPost, QemuVmidConfigPut};
use crate::request::{ApiRequest, Request};
use crate::task::{PollSchedule, Task};
use crate::value::BoxFuture;
use crate::value::List;
use crate::value::serialize::variant_serde;

/// The bus of a virtual machine's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bus {
    /// `scsi0` to `scsi30`.
    Scsi,
    /// `virtio0` to `virtio15`.
    Virtio,
    /// `sata0` to `sata5`.
    Sata,
    /// `ide0` to `ide3`.
    Ide,
}

variant_serde!(Bus {
    Scsi = "scsi",
    Virtio = "virtio",
    Sata = "sata",
    Ide = "ide",
});

impl Bus {
    /// The name its settings start with, as `scsi`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scsi => "scsi",
            Self::Virtio => "virtio",
            Self::Sata => "sata",
            Self::Ide => "ide",
        }
    }

    fn slots(self) -> u8 {
        match self {
            Self::Scsi => 31,
            Self::Virtio => 16,
            Self::Sata => 6,
            Self::Ide => 4,
        }
    }
}

/// A size for [`Guest::resize_disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// At least this many bytes. Disks cannot shrink.
    To(u64),
    /// This many bytes more.
    By(u64),
}

variant_serde!(Size {
    To(bytes) = "to",
    By(bytes) = "by",
});

impl fmt::Display for Size {
    /// The size as the server reads it, in the largest unit that is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bytes) = match self {
            Self::To(bytes) => ("", *bytes),
            Self::By(bytes) => ("+", *bytes),
        };
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if bytes > 0 && bytes.is_multiple_of(1 << shift) {
                return write!(f, "{sign}{}{unit}", bytes >> shift);
            }
        }
        write!(f, "{sign}{bytes}")
    }
}

/// Puts the changes of a configuration into a request.
pub(super) type Change<'a, C, R> = &'a mut (dyn FnMut(&C, R) -> Result<R, Error> + Send + 'a);

/// The same as a future, or `None` without changes.
type Write<'a, C> = &'a mut (
            dyn FnMut(
    &C,
    &GuestLocation,
) -> Result<Option<BoxFuture<'static, Result<Option<Task>, Error>>>, Error>
                + Send
                + 'a
        );

#[inline]
fn read_qemu(guest: &Guest, location: &GuestLocation) -> Request<QemuConfig> {
    guest.qemu_at(location).config().get().into_request()
}

#[inline]
fn read_lxc(guest: &Guest, location: &GuestLocation) -> Request<LxcConfig> {
    guest.lxc_at(location).config().get().into_request()
}

/// The server refuses a change with only a digest.
fn unless_empty(
    request: impl ApiRequest<Output: super::IntoTask>,
) -> Option<BoxFuture<'static, Result<Option<Task>, Error>>> {
    let request = request.into_request();
    let changes = |(key, _)| key != "digest";
    let empty = !request.call().params().iter().any(changes);
    (!empty).then(|| super::optional(request.into_future()))
}

/// Lets `change` fill the request that matches the configuration that was read.
macro_rules! read_modify_write {
    ($guest:ident, $kind:ident, $read:ident, $at:ident, $verb:ident, $change:ident) => {
        $guest
            .edit(Kind::$kind, $read, &mut |config, location| {
                let request = $guest.$at(location).config().$verb();
                let request = match &config.digest {
                    Some(digest) => request.digest(digest),
                    None => request,
                };
                Ok(unless_empty($change(config, request)?))
            })
            .await
    };
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word) && bytes.all(|c| word(c) || matches!(c, b'-' | b'+' | b'.'))
}

const NETS: u8 = 32;
const MOUNT_POINTS: u8 = 255;

impl Guest {
    /// Reads a virtual machine's configuration with pending changes applied:
    /// [`GET /nodes/{node}/qemu/{vmid}/config`](crate::pve::qemu::QemuVmidConfigGet).
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] for a container; see [`Guest`].
    pub async fn qemu_config(&self) -> Result<QemuConfig, Error> {
        self.read(Kind::Qemu, read_qemu).await
    }

    /// Reads a container's configuration with pending changes applied:
    /// [`GET /nodes/{node}/lxc/{vmid}/config`](crate::pve::lxc::LxcVmidConfigGet).
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] for a virtual machine; see [`Guest`].
    pub async fn lxc_config(&self) -> Result<LxcConfig, Error> {
        self.read(Kind::Lxc, read_lxc).await
    }

    /// Changes a virtual machine's configuration: reads it, lets `change` put the changes into the
    /// request, and writes it. If another program changed the configuration in between, it starts
    /// over, five times at most, so `change` must have no other effects.
    ///
    /// A request that is returned without any change is not sent. Settings are removed with the
    /// request's `unset`. The change is complete when this returns: [`PUT
    /// /nodes/{node}/qemu/{vmid}/config`](crate::pve::qemu::QemuVmidConfigPut).
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// pve.guest(101)
    ///     .edit_qemu(|config, request| {
    ///         request.cores(config.cores.unwrap_or(1) * 2).unset("balloon")
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ConfigChanged`] if others changed it every time; [`GuestErrorKind::WrongKind`] for a
    /// container; see [`Guest`].
    #[inline]
    pub async fn edit_qemu(
        &self,
        mut change: impl FnMut(&QemuConfig, QemuVmidConfigPut) -> QemuVmidConfigPut + Send,
    ) -> Result<(), Error> {
        self.put_qemu(&mut |config, request| Ok(change(config, request)))
            .await
    }

    /// Like [`Guest::edit_qemu`], by the call that runs as a task and may take long, for example to
    /// allocate a disk; waits for it. [`POST
    /// /nodes/{node}/qemu/{vmid}/config`](crate::pve::qemu::QemuVmidConfigPost).
    ///
    /// # Errors
    /// Those of [`Guest::edit_qemu`].
    #[inline]
    pub async fn edit_qemu_by_task(
        &self,
        mut change: impl FnMut(&QemuConfig, QemuVmidConfigPost) -> QemuVmidConfigPost + Send,
    ) -> Result<(), Error> {
        self.post_qemu(&mut |config, request| Ok(change(config, request)))
            .await
    }

    /// Changes a container's configuration, as [`Guest::edit_qemu`] does for a virtual machine:
    /// [`PUT /nodes/{node}/lxc/{vmid}/config`](crate::pve::lxc::LxcVmidConfigPut).
    ///
    /// # Errors
    /// [`ErrorKind::ConfigChanged`] if others changed it every time; [`GuestErrorKind::WrongKind`] for a
    /// virtual machine; see [`Guest`].
    #[inline]
    pub async fn edit_lxc(
        &self,
        mut change: impl FnMut(&LxcConfig, LxcVmidConfigPut) -> LxcVmidConfigPut + Send,
    ) -> Result<(), Error> {
        self.put_lxc(&mut |config, request| Ok(change(config, request)))
            .await
    }

    /// Changes a virtual machine's configuration as a value: reads it, passes it to `change`, and
    /// sends the differences. A member that became `None`, or was removed from its map, is removed
    /// from the configuration; an unchanged one is not sent. Members of `extra` count too. Members
    /// that are lists or objects in the answer cannot be changed this way, and the server has to
    /// refuse commas within the values of a property string. Otherwise like [`Guest::edit_qemu`].
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// pve.guest(101)
    ///     .update_qemu(|config| {
    ///         config.cores = Some(4);
    ///         config.balloon = None;
    ///         config.net.remove(&1);
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Guest::edit_qemu`].
    #[inline]
    pub async fn update_qemu(
        &self,
        mut change: impl FnMut(&mut QemuConfig) + Send,
    ) -> Result<(), Error> {
        self.put_qemu(&mut |config, request| {
            let mut wanted = config.clone();
            change(&mut wanted);
            Ok(request.changes(&config.diff(&wanted)))
        })
        .await
    }

    /// Changes a container's configuration as a value, as [`Guest::update_qemu`] does for a virtual machine.
    ///
    /// # Errors
    /// Those of [`Guest::edit_lxc`].
    #[inline]
    pub async fn update_lxc(
        &self,
        mut change: impl FnMut(&mut LxcConfig) + Send,
    ) -> Result<(), Error> {
        self.put_lxc(&mut |config, request| {
            let mut wanted = config.clone();
            change(&mut wanted);
            Ok(request.changes(&config.diff(&wanted)))
        })
        .await
    }

    #[inline]
    pub(super) async fn put_qemu(
        &self,
        change: Change<'_, QemuConfig, QemuVmidConfigPut>,
    ) -> Result<(), Error> {
        read_modify_write!(self, Qemu, read_qemu, qemu_at, put, change)
    }

    #[inline]
    pub(super) async fn post_qemu(
        &self,
        change: Change<'_, QemuConfig, QemuVmidConfigPost>,
    ) -> Result<(), Error> {
        read_modify_write!(self, Qemu, read_qemu, qemu_at, post, change)
    }

    #[inline]
    pub(super) async fn put_lxc(
        &self,
        change: Change<'_, LxcConfig, LxcVmidConfigPut>,
    ) -> Result<(), Error> {
        read_modify_write!(self, Lxc, read_lxc, lxc_at, put, change)
    }

    /// Reads the configuration and sends the result of `write`; repeats this while other programs
    /// change it in between.
    fn edit<'a, C: Send + 'static>(
        &'a self,
        kind: Kind,
        read: fn(&Self, &GuestLocation) -> Request<C>,
        write: Write<'a, C>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut attempt = 1;
            let mut schedule = PollSchedule::every(None, self.locks);
            loop {
                let config = self.read(kind, read).await?;
                let location = self.location().await?;
                let writing = write(&config, &location)?;
                drop(config);
                let Some(writing) = writing else {
                    return Ok(());
                };
                let written = match writing.await {
                    Ok(task) => {
                        let started = StartedOperation::new(self, task, TargetState::Nothing);
                        started.wait().await.map(drop)
                    }
                    Err(error) => Err(error),
                };
                match written {
                    Err(error)
                        if error.kind() == Some(ErrorKind::ConfigChanged) && attempt < ATTEMPTS =>
                    {
                        attempt += 1;
                    }
                    Err(error) if self.waits_for(&error) && schedule.again().await => {}
                    done => return done,
                }
            }
        })
    }

    /// Its tags, in the order of the configuration.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let tags = match self.location().await?.kind {
            Kind::Qemu => self.qemu_config().await?.tags,
            Kind::Lxc => self.lxc_config().await?.tags,
        };
        Ok(tags.unwrap_or_default().0)
    }

    /// Adds tags; present ones are skipped. The cluster's `tag-style` decides whether `Web` and
    /// `web` are the same, and is read if that matters; by default they are.
    ///
    /// The cluster's `user-tag-access` and `registered-tags` decide which tags a user may set. Only
    /// the server can check that, because it depends on privileges of others.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] for tags that the user may not set;
    /// [`GuestErrorKind::InvalidInput`] for an invalid tag: a tag starts with a letter, a digit or
    /// `_` and continues with those, `-`, `+` and `.`; those of [`Guest::edit_qemu`].
    pub async fn add_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), Error> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        if let Some(invalid) = tags.iter().find(|tag| !is_tag(tag)) {
            let invalid = GuestErrorKind::InvalidInput {
                vmid: self.vmid,
                input: "a tag",
                problem: format!(
                    "{invalid:?} cannot be one: a tag starts with a letter, a digit or `_`, followed by those, \
                     `-`, `+` and `.`"
                ),
            };
            return Err(invalid.into());
        }
        let same = self.tag_rule(&tags).await?;
        self.edit_tags(&|have| {
            for tag in &tags {
                if !have.iter().any(|known| same(known, tag)) {
                    have.push(tag.clone());
                }
            }
        })
        .await
    }

    /// Removes tags; missing ones are skipped. Tags are compared as in [`Guest::add_tags`].
    ///
    /// # Errors
    /// Those of [`Guest::edit_qemu`].
    pub async fn remove_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), Error> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        let same = self.tag_rule(&tags).await?;
        self.edit_tags(&|have| {
            have.retain(|known| !tags.iter().any(|tag| same(known, tag)));
        })
        .await
    }

    /// The cluster's rule for equal tags.
    async fn tag_rule(&self, tags: &[String]) -> Result<fn(&String, &String) -> bool, Error> {
        // If none of these depends on the case, the rule need not be read.
        let have = self.tags().await?;
        let differ = |a: &String, b: &String| a != b && a.eq_ignore_ascii_case(b);
        let matters = (have.iter()).any(|known| tags.iter().any(|tag| differ(known, tag)));
        if !matters {
            return Ok(|a, b| a == b);
        }
        let options = self.client.api().cluster().options().get().await?;
        let style = options.tag_style;
        match style.and_then(|style| style.case_sensitive) {
            Some(true) => Ok(|a, b| a == b),
            _ => Ok(|a, b| a.eq_ignore_ascii_case(b)),
        }
    }

    async fn edit_tags(&self, change: &(dyn Fn(&mut Vec<String>) + Sync)) -> Result<(), Error> {
        // The new value; `None` without tags.
        let new = |old: &Option<List>| {
            let old = old.clone().unwrap_or_default().0;
            let mut tags = old.clone();
            change(&mut tags);
            (tags != old).then_some((!tags.is_empty()).then_some(tags))
        };
        if self.location().await?.kind == Kind::Qemu {
            let change = |config: &QemuConfig, request: QemuVmidConfigPut| match new(&config.tags) {
                None => request,
                Some(None) => request.unset("tags"),
                Some(Some(tags)) => request.tags(tags),
            };
            return self.edit_qemu(change).await;
        }
        let change = |config: &LxcConfig, request: LxcVmidConfigPut| match new(&config.tags) {
            None => request,
            Some(None) => request.unset("tags"),
            Some(Some(tags)) => request.tags(tags),
        };
        self.edit_lxc(change).await
    }

    /// Adds a disk to a virtual machine at the first free index of a bus, and returns the setting's
    /// name, as `scsi1`. `QemuDrive::new("local-lvm:32")` allocates 32 GiB on the storage.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoFreeSlot`] if the bus is full; those of [`Guest::edit_qemu`].
    pub async fn attach_disk(
        &self,
        bus: Bus,
        drive: impl Into<QemuDrive>,
    ) -> Result<String, Error> {
        let drive = drive.into();
        let mut key = String::new();
        self.post_qemu(&mut |config, request| {
            let taken = match bus {
                Bus::Scsi => &config.scsi,
                Bus::Virtio => &config.virtio,
                Bus::Sata => &config.sata,
                Bus::Ide => &config.ide,
            };
            let free = (0..bus.slots()).find(|n| !taken.contains_key(n));
            let index = self.slot(free, bus.as_str())?;
            key = format!("{}{index}", bus.as_str());
            let drive = drive.clone();
            Ok(match bus {
                Bus::Scsi => request.scsi(index, drive),
                Bus::Virtio => request.virtio(index, drive),
                Bus::Sata => request.sata(index, drive),
                Bus::Ide => request.ide(index, drive),
            })
        })
        .await?;
        Ok(key)
    }

    /// Adds a mount point to a container at the first free index, and returns the setting's name,
    /// as `mp0`.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoFreeSlot`] if there is no free index; those of [`Guest::edit_lxc`].
    pub async fn attach_mount_point(
        &self,
        mount: impl Into<LxcMountPoint>,
    ) -> Result<String, Error> {
        let mount = mount.into();
        let mut key = String::new();
        self.put_lxc(&mut |config, request| {
            let free = (0..MOUNT_POINTS).find(|n| !config.mp.contains_key(n));
            let index = self.slot(free, "mp")?;
            key = format!("mp{index}");
            Ok(request.mp(index, mount.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Removes a device from the configuration: a disk, whose volume is kept as `unused0` and so
    /// on, a mount point, or a network card. `key` is the setting's name, as `scsi1`.
    ///
    /// # Errors
    /// Those of [`Guest::edit_qemu`].
    pub async fn detach(&self, key: &str) -> Result<(), Error> {
        match self.location().await?.kind {
            Kind::Qemu => self.edit_qemu(|_, request| request.unset(key)).await,
            Kind::Lxc => self.edit_lxc(|_, request| request.unset(key)).await,
        }
    }

    /// Removes a disk of a virtual machine and **destroys its data**: [`PUT
    /// /nodes/{node}/qemu/{vmid}/unlink`](crate::pve::qemu::QemuVmidUnlinkPut).
    ///
    /// # Errors
    /// [`GuestErrorKind::WrongKind`] for a container; see [`Guest`].
    pub async fn destroy_disk(&self, key: &str) -> Result<(), Error> {
        let send =
            |location: &GuestLocation| task(self.qemu_at(location).unlink().put(key).force(true));
        self.secure(Some(Kind::Qemu)).await?;
        let send = self.call_with(Some(Kind::Qemu), IdentityCheck::Strict, &send);
        send.await.map(drop)
    }

    /// Enlarges a disk. `disk` is the setting's name, as `scsi0` or `rootfs`: [`PUT
    /// /nodes/{node}/qemu/{vmid}/resize`](crate::pve::qemu::QemuVmidResizePut) or [`PUT
    /// /nodes/{node}/lxc/{vmid}/resize`](crate::pve::lxc::LxcVmidResizePut). For virtual machines a
    /// task since release 8.0, and complete with the answer before.
    ///
    /// # Errors
    /// See [`Guest`].
    pub fn resize_disk(&self, disk: &str, size: Size) -> GuestOperation {
        let disk = disk.to_owned();
        self.operation(Action::Resize { disk, size })
    }

    /// Moves a disk or mount point to another storage; the original stays as an unused disk unless
    /// [`MoveDisk::delete_source`] is set. `POST …/move_disk` for virtual machines, `POST …/move_volume` for
    /// containers.
    ///
    /// # Errors
    /// See [`Guest`].
    pub fn move_disk(&self, disk: &str, storage: &str) -> MoveDisk {
        let (disk, storage) = (disk.to_owned(), storage.to_owned());
        MoveDisk(self.operation(Action::Move {
            disk,
            storage,
            delete: false,
        }))
    }

    /// Adds a network card to a virtual machine at the first free index, and returns the setting's
    /// name, as `net1`. Without a MAC address the server makes one.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoFreeSlot`] if there is no free index; those of [`Guest::edit_qemu`].
    pub async fn attach_net(&self, card: impl Into<QemuNet>) -> Result<String, Error> {
        let card = card.into();
        let mut key = String::new();
        self.put_qemu(&mut |config, request| {
            let free = (0..NETS).find(|n| !config.net.contains_key(n));
            let index = self.slot(free, "net")?;
            key = format!("net{index}");
            Ok(request.net(index, card.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Adds a network card to a container at the first free index, and returns the setting's name,
    /// as `net1`.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoFreeSlot`] if there is no free index; those of [`Guest::edit_lxc`].
    pub async fn attach_lxc_net(&self, card: impl Into<LxcNet>) -> Result<String, Error> {
        let card = card.into();
        let mut key = String::new();
        self.put_lxc(&mut |config, request| {
            let free = (0..NETS).find(|n| !config.net.contains_key(n));
            let index = self.slot(free, "net")?;
            key = format!("net{index}");
            Ok(request.net(index, card.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Changes a network card of a virtual machine; values that `change` does not set, such as the
    /// MAC address, stay.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchSetting`] if there is no such card; those of [`Guest::edit_qemu`].
    pub async fn edit_net(
        &self,
        index: u8,
        mut change: impl FnMut(&mut QemuNet) + Send,
    ) -> Result<(), Error> {
        self.put_qemu(&mut |config, request| {
            let mut card = self.present(config.net.get(index), "net", index)?.clone();
            change(&mut card);
            Ok(request.net(index, card))
        })
        .await
    }

    /// Changes a network card of a container; values that `change` does not set, such as the MAC
    /// address, stay.
    ///
    /// # Errors
    /// [`GuestErrorKind::NoSuchSetting`] if there is no such card; those of [`Guest::edit_lxc`].
    pub async fn edit_lxc_net(
        &self,
        index: u8,
        mut change: impl FnMut(&mut LxcNet) + Send,
    ) -> Result<(), Error> {
        self.put_lxc(&mut |config, request| {
            let mut card = self.present(config.net.get(index), "net", index)?.clone();
            change(&mut card);
            Ok(request.net(index, card))
        })
        .await
    }

    fn present<T>(&self, found: Option<T>, prefix: &str, index: u8) -> Result<T, Error> {
        found.ok_or_else(|| {
            let missing = GuestErrorKind::NoSuchSetting {
                vmid: self.vmid,
                key: format!("{prefix}{index}"),
            };
            missing.into()
        })
    }

    pub(super) fn slot(&self, free: Option<u8>, device: &'static str) -> Result<u8, Error> {
        free.ok_or_else(|| {
            let vmid = self.vmid;
            GuestErrorKind::NoFreeSlot { vmid, device }.into()
        })
    }
}
