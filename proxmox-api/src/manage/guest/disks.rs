//! The disks of a guest.

use super::cloud_init::is_cloud_init;
use super::{Guest, Kind};
use crate::error::Error;
use crate::value::formats::{DiskSize, VolumeId};
use crate::value::serialize::record_serde;

/// A disk or mount point of a guest; see [`Guest::disks`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// Its setting, as `scsi0` or `rootfs`.
    pub key: String,
    /// Its volume, as `local-lvm:vm-101-disk-0`, or a path of the node.
    pub volume: String,
    /// The storage of the volume; `None` for a path.
    pub storage: Option<String>,
    /// Its size in bytes, if the configuration has it.
    pub size: Option<u64>,
    /// Whether it is the cloud-init drive.
    pub cloud_init: bool,
}

record_serde!(Disk {
    key,
    volume,
    storage,
    size,
    cloud_init,
});

impl Guest {
    /// The disks in its configuration, without CD-ROMs, unused disks and directories of the node.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn disks(&self) -> Result<Vec<Disk>, Error> {
        let mut disks = Vec::new();
        let mut add = |key: String, volume: &VolumeId, size: Option<&DiskSize>| {
            let storage = volume.storage().map(str::to_owned);
            disks.push(Disk {
                key,
                cloud_init: is_cloud_init(volume.as_str()),
                volume: volume.to_string(),
                storage,
                size: size.and_then(DiskSize::bytes),
            });
        };
        if self.location().await?.kind == Kind::Lxc {
            let config = self.lxc_config().await?;
            if let Some(root) = &config.rootfs {
                add("rootfs".to_owned(), &root.volume, root.size.as_ref());
            }
            for (index, mount) in config.mp.iter() {
                add(format!("mp{index}"), &mount.volume, mount.size.as_ref());
            }
        } else {
            let config = self.qemu_config().await?;
            let buses = [
                ("scsi", &config.scsi),
                ("virtio", &config.virtio),
                ("sata", &config.sata),
                ("ide", &config.ide),
            ];
            for (bus, drives) in buses {
                for (index, drive) in drives.iter() {
                    let file = drive.file.as_str();
                    let cdrom = drive
                        .media
                        .as_ref()
                        .is_some_and(|media| media.as_str() == "cdrom");
                    if file != "none" && (!cdrom || is_cloud_init(file)) {
                        add(format!("{bus}{index}"), &drive.file, drive.size.as_ref());
                    }
                }
            }
            if let Some(disk) = &config.efidisk0 {
                add("efidisk0".to_owned(), &disk.file, disk.size.as_ref());
            }
            if let Some(disk) = &config.tpmstate0 {
                add("tpmstate0".to_owned(), &disk.file, disk.size.as_ref());
            }
        }
        disks.retain(|disk| !disk.volume.starts_with('/') || disk.storage.is_some());
        Ok(disks)
    }

    /// The storages of its disks.
    pub(crate) async fn storages(&self) -> Result<Vec<String>, Error> {
        let disks = self.disks().await?;
        let mut storages: Vec<String> = disks.into_iter().filter_map(|disk| disk.storage).collect();
        storages.sort();
        storages.dedup();
        Ok(storages)
    }
}
