//! Reading, changing and writing back configurations.

use std::fmt;

use super::started::Goal;
use super::{ATTEMPTS, Guest, GuestError, Kind, Started, task};
use crate::api::lxc::{LxcConfig, LxcMountPoint, LxcNet, LxcVmidConfigPut};
use crate::api::qemu::{QemuConfig, QemuDrive, QemuNet, QemuVmidConfigPost, QemuVmidConfigPut};
use crate::api_error::ErrorKind;
use crate::list::List;
use crate::request::Call;

/// What disks of a virtual machine are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
pub enum Size {
    /// Up to this many bytes. Disks cannot shrink.
    To(u64),
    /// By this many bytes more.
    By(u64),
}

impl fmt::Display for Size {
    /// As the server reads it, in the largest unit that is exact.
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

const NETS: u8 = 32;
const MOUNT_POINTS: u8 = 255;

impl Guest {
    /// Reads a virtual machine's configuration with pending changes applied:
    /// `GET /nodes/{node}/qemu/{vmid}/config`.
    ///
    /// # Errors
    /// [`GuestError::WrongKind`] for a container; see [`Guest`].
    pub async fn qemu_config(&self) -> Result<QemuConfig, GuestError> {
        self.call_qemu(|vm| vm.config().get().into_future()).await
    }

    /// Reads a container's configuration with pending changes applied:
    /// `GET /nodes/{node}/lxc/{vmid}/config`.
    ///
    /// # Errors
    /// [`GuestError::WrongKind`] for a virtual machine; see [`Guest`].
    pub async fn lxc_config(&self) -> Result<LxcConfig, GuestError> {
        self.call_lxc(|ct| ct.config().get().into_future()).await
    }

    /// Changes a virtual machine's configuration: reads it, has `change` put what is to change into the
    /// request, and writes that unless the configuration was changed by somebody else in between; then it
    /// starts over, five times at most. `change` must therefore not do anything else.
    ///
    /// A request that is given back without any change is not sent. Settings are removed with the request's
    /// `unset`. Everything is done when this returns: `PUT /nodes/{node}/qemu/{vmid}/config`.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::guest::GuestError> {
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
    /// [`ErrorKind::ConfigChanged`] if others changed it every time; [`GuestError::WrongKind`] for a
    /// container; see [`Guest`].
    pub async fn edit_qemu(
        &self,
        mut change: impl FnMut(&QemuConfig, QemuVmidConfigPut) -> QemuVmidConfigPut,
    ) -> Result<(), GuestError> {
        self.try_edit_qemu(|config, request| Ok(change(config, request)))
            .await
    }

    pub(super) async fn try_edit_qemu(
        &self,
        mut change: impl FnMut(&QemuConfig, QemuVmidConfigPut) -> Result<QemuVmidConfigPut, GuestError>,
    ) -> Result<(), GuestError> {
        let mut attempt = 1;
        loop {
            let config = self.qemu_config().await?;
            let mut request = self.qemu().await?.config().put();
            if let Some(digest) = &config.digest {
                request = request.digest(digest);
            }
            let request = change(&config, request)?;
            if changes_nothing(request.call()) {
                return Ok(());
            }
            match request.await {
                Ok(()) => return Ok(()),
                Err(error) if again(error.kind(), &mut attempt) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Like [`Guest::edit_qemu`], through the call that works as a task and so may take long, as allocating
    /// a disk does; waits for it. `POST /nodes/{node}/qemu/{vmid}/config`.
    ///
    /// # Errors
    /// As for [`Guest::edit_qemu`].
    pub async fn edit_qemu_by_task(
        &self,
        mut change: impl FnMut(
            &QemuConfig,
            QemuVmidConfigPost,
        ) -> Result<QemuVmidConfigPost, GuestError>,
    ) -> Result<(), GuestError> {
        let mut attempt = 1;
        loop {
            let config = self.qemu_config().await?;
            let mut request = self.qemu().await?.config().post();
            if let Some(digest) = &config.digest {
                request = request.digest(digest);
            }
            let request = change(&config, request)?;
            if changes_nothing(request.call()) {
                return Ok(());
            }
            let started = match task(request).await {
                Ok(task) => Started::new(self, task, Goal::Nothing),
                Err(error) if again(error.kind(), &mut attempt) => continue,
                Err(error) => return Err(error.into()),
            };
            match started.wait().await {
                Ok(_) => return Ok(()),
                Err(error) if again(error.kind(), &mut attempt) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes a container's configuration, as [`Guest::edit_qemu`] does for a virtual machine:
    /// `PUT /nodes/{node}/lxc/{vmid}/config`.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigChanged`] if others changed it every time; [`GuestError::WrongKind`] for a
    /// virtual machine; see [`Guest`].
    pub async fn edit_lxc(
        &self,
        mut change: impl FnMut(&LxcConfig, LxcVmidConfigPut) -> LxcVmidConfigPut,
    ) -> Result<(), GuestError> {
        self.try_edit_lxc(|config, request| Ok(change(config, request)))
            .await
    }

    async fn try_edit_lxc(
        &self,
        mut change: impl FnMut(&LxcConfig, LxcVmidConfigPut) -> Result<LxcVmidConfigPut, GuestError>,
    ) -> Result<(), GuestError> {
        let mut attempt = 1;
        loop {
            let config = self.lxc_config().await?;
            let mut request = self.lxc().await?.config().put();
            if let Some(digest) = &config.digest {
                request = request.digest(digest);
            }
            let request = change(&config, request)?;
            if changes_nothing(request.call()) {
                return Ok(());
            }
            match request.await {
                Ok(()) => return Ok(()),
                Err(error) if again(error.kind(), &mut attempt) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Its tags, in the order of the configuration.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn tags(&self) -> Result<Vec<String>, GuestError> {
        let tags = match self.place().await?.kind {
            Kind::Qemu => self.qemu_config().await?.tags,
            Kind::Lxc => self.lxc_config().await?.tags,
        };
        Ok(tags.unwrap_or_default().0)
    }

    /// Adds tags; those it has already are left alone.
    ///
    /// # Errors
    /// As for [`Guest::edit_qemu`].
    pub async fn add_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), GuestError> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        self.edit_tags(|have| {
            for tag in &tags {
                if !have.iter().any(|known| known.eq_ignore_ascii_case(tag)) {
                    have.push(tag.clone());
                }
            }
        })
        .await
    }

    /// Removes tags; those it does not have are passed over.
    ///
    /// # Errors
    /// As for [`Guest::edit_qemu`].
    pub async fn remove_tags(
        &self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), GuestError> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        self.edit_tags(|have| {
            have.retain(|known| !tags.iter().any(|tag| known.eq_ignore_ascii_case(tag)));
        })
        .await
    }

    async fn edit_tags(&self, change: impl Fn(&mut Vec<String>)) -> Result<(), GuestError> {
        let new = |old: &Option<List>| {
            let old = old.clone().unwrap_or_default().0;
            let mut tags = old.clone();
            change(&mut tags);
            (tags != old).then_some(tags)
        };
        match self.place().await?.kind {
            Kind::Qemu => {
                self.edit_qemu(|config, request| match new(&config.tags) {
                    None => request,
                    Some(tags) if tags.is_empty() => request.unset("tags"),
                    Some(tags) => request.tags(tags),
                })
                .await
            }
            Kind::Lxc => {
                self.edit_lxc(|config, request| match new(&config.tags) {
                    None => request,
                    Some(tags) if tags.is_empty() => request.unset("tags"),
                    Some(tags) => request.tags(tags),
                })
                .await
            }
        }
    }

    /// Adds a disk to a virtual machine in the first free place of a bus, and gives the setting's name,
    /// as `scsi1`. `QemuDrive::new("local-lvm:32")` allocates 32 GiB on the storage.
    ///
    /// # Errors
    /// [`GuestError::NoFreeSlot`] if the bus is full; as for [`Guest::edit_qemu`].
    pub async fn attach_disk(
        &self,
        bus: Bus,
        drive: impl Into<QemuDrive>,
    ) -> Result<String, GuestError> {
        let drive = drive.into();
        let mut key = String::new();
        self.edit_qemu_by_task(|config, request| {
            let taken = match bus {
                Bus::Scsi => &config.scsi,
                Bus::Virtio => &config.virtio,
                Bus::Sata => &config.sata,
                Bus::Ide => &config.ide,
            };
            let index = self.free(bus.as_str(), bus.slots(), |n| taken.contains_key(&n))?;
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

    /// Adds a mount point to a container in the first free place, and gives the setting's name, as `mp0`.
    ///
    /// # Errors
    /// [`GuestError::NoFreeSlot`] if there is no place left; as for [`Guest::edit_lxc`].
    pub async fn attach_mount_point(
        &self,
        mount: impl Into<LxcMountPoint>,
    ) -> Result<String, GuestError> {
        let mount = mount.into();
        let mut key = String::new();
        self.try_edit_lxc(|config, request| {
            let index = self.free("mp", MOUNT_POINTS, |n| config.mp.contains_key(&n))?;
            key = format!("mp{index}");
            Ok(request.mp(index, mount.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Takes a device out of the configuration: a disk, whose volume is kept as `unused0` and so on, a
    /// mount point, or a network card. `key` is the setting's name, as `scsi1`.
    ///
    /// # Errors
    /// As for [`Guest::edit_qemu`].
    pub async fn detach(&self, key: &str) -> Result<(), GuestError> {
        match self.place().await?.kind {
            Kind::Qemu => self.edit_qemu(|_, request| request.unset(key)).await,
            Kind::Lxc => self.edit_lxc(|_, request| request.unset(key)).await,
        }
    }

    /// Removes a disk of a virtual machine and **destroys what is on it**:
    /// `PUT /nodes/{node}/qemu/{vmid}/unlink`.
    ///
    /// # Errors
    /// [`GuestError::WrongKind`] for a container; see [`Guest`].
    pub async fn destroy_disk(&self, key: &str) -> Result<(), GuestError> {
        self.call_qemu(|vm| task(vm.unlink().put(key).force(true)))
            .await
            .map(drop)
    }

    /// Makes a disk larger. `disk` is the setting's name, as `scsi0` or `rootfs`:
    /// `PUT /nodes/{node}/{qemu|lxc}/{vmid}/resize`. For virtual machines a task since release 8.0 and done
    /// at once before that.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn resize_disk(&self, disk: &str, size: Size) -> Result<Started, GuestError> {
        let task = self
            .call(|place| match place.kind {
                Kind::Qemu => task(self.qemu_at(place).resize().put(disk, size.to_string())),
                Kind::Lxc => task(self.lxc_at(place).resize().put(disk, size.to_string())),
            })
            .await?;
        Ok(Started::new(self, task, Goal::Nothing))
    }

    /// Moves a disk or mount point to another storage, and deletes the original if `delete` says so; else
    /// it stays as an unused disk. `POST …/move_disk` for virtual machines, `POST …/move_volume` for
    /// containers.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn move_disk(
        &self,
        disk: &str,
        storage: &str,
        delete: bool,
    ) -> Result<Started, GuestError> {
        let task = self
            .call(|place| match place.kind {
                Kind::Qemu => {
                    let request = self.qemu_at(place).move_disk().post(disk);
                    task(request.storage(storage).delete(delete))
                }
                Kind::Lxc => {
                    let request = self.lxc_at(place).move_volume().post(disk);
                    task(request.storage(storage).delete(delete))
                }
            })
            .await?;
        Ok(Started::new(self, task, Goal::Nothing))
    }

    /// Adds a network card to a virtual machine in the first free place, and gives the setting's name, as
    /// `net1`. Without a MAC address the server makes one.
    ///
    /// # Errors
    /// [`GuestError::NoFreeSlot`] if there is no place left; as for [`Guest::edit_qemu`].
    pub async fn attach_net(&self, card: impl Into<QemuNet>) -> Result<String, GuestError> {
        let card = card.into();
        let mut key = String::new();
        self.try_edit_qemu(|config, request| {
            let index = self.free("net", NETS, |n| config.net.contains_key(&n))?;
            key = format!("net{index}");
            Ok(request.net(index, card.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Adds a network card to a container in the first free place, and gives the setting's name, as `net1`.
    ///
    /// # Errors
    /// [`GuestError::NoFreeSlot`] if there is no place left; as for [`Guest::edit_lxc`].
    pub async fn attach_lxc_net(&self, card: impl Into<LxcNet>) -> Result<String, GuestError> {
        let card = card.into();
        let mut key = String::new();
        self.try_edit_lxc(|config, request| {
            let index = self.free("net", NETS, |n| config.net.contains_key(&n))?;
            key = format!("net{index}");
            Ok(request.net(index, card.clone()))
        })
        .await?;
        Ok(key)
    }

    /// Changes a network card of a virtual machine; what `change` leaves alone, such as the MAC address,
    /// stays as it is.
    ///
    /// # Errors
    /// [`GuestError::NoSuchSetting`] if there is no such card; as for [`Guest::edit_qemu`].
    pub async fn edit_net(
        &self,
        index: u8,
        mut change: impl FnMut(&mut QemuNet),
    ) -> Result<(), GuestError> {
        self.try_edit_qemu(|config, request| {
            let mut card = self.present("net", index, config.net.get(&index))?;
            change(&mut card);
            Ok(request.net(index, card))
        })
        .await
    }

    /// Changes a network card of a container; what `change` leaves alone, such as the MAC address, stays as
    /// it is.
    ///
    /// # Errors
    /// [`GuestError::NoSuchSetting`] if there is no such card; as for [`Guest::edit_lxc`].
    pub async fn edit_lxc_net(
        &self,
        index: u8,
        mut change: impl FnMut(&mut LxcNet),
    ) -> Result<(), GuestError> {
        self.try_edit_lxc(|config, request| {
            let mut card = self.present("net", index, config.net.get(&index))?;
            change(&mut card);
            Ok(request.net(index, card))
        })
        .await
    }

    fn present<T: Clone>(
        &self,
        family: &str,
        index: u8,
        found: Option<&T>,
    ) -> Result<T, GuestError> {
        found.cloned().ok_or_else(|| GuestError::NoSuchSetting {
            vmid: self.vmid,
            key: format!("{family}{index}"),
        })
    }

    fn free(
        &self,
        family: &'static str,
        slots: u8,
        taken: impl Fn(u8) -> bool,
    ) -> Result<u8, GuestError> {
        (0..slots)
            .find(|index| !taken(*index))
            .ok_or(GuestError::NoFreeSlot {
                vmid: self.vmid,
                family,
            })
    }
}

/// Whether a change is worth another attempt; counts it.
fn again(kind: Option<ErrorKind>, attempt: &mut u32) -> bool {
    *attempt += 1;
    kind == Some(ErrorKind::ConfigChanged) && *attempt <= ATTEMPTS
}

/// The server refuses a change that holds nothing but the digest.
fn changes_nothing(call: &Call) -> bool {
    call.params().iter().all(|(key, _)| key == "digest")
}
