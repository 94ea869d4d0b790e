//! Guests restored from backups.

use std::collections::BTreeSet;

use super::archive::{Archive, FindBackups};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::manage::guest::{Guest, GuestLocation, Kind, PowerState};
use crate::manage::work::{Action, Subject, Track, Work, WorkError};

/// A guest restored from a backup; see [`Client::carry_out`].
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::backups::{FindBackups, Recover};
///
/// let newest = FindBackups::of(101).storage("pbs").verified();
/// let copy = pve.carry_out(Recover::newest(newest.clone()).to(901).unique().started()).await?;
/// let same = pve.carry_out(Recover::newest(newest).replace()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Made again
///
/// If the guest of the backup exists under its number, it is found and left alone, unless it is to
/// be replaced: a virtual machine by the identifier of its BIOS, a container by the addresses of
/// its network cards. [`Recover::unique`] makes new ones, so a taken number is an error then.
///
/// # What a failure leaves
///
/// The server removes a guest that it could not restore. The disks of a guest that was to be
/// replaced may be gone by then; [`UnfinishedError::left`](crate::manage::work::UnfinishedError::left)
/// names it, even if it was only stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Recover {
    from: From,
    to: Option<u32>,
    node: Option<String>,
    storage: Option<String>,
    replace: bool,
    unique: bool,
    start: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum From {
    Newest(FindBackups),
    Archive(Box<Archive>),
}

impl Recover {
    /// From the newest of these backups.
    #[must_use]
    pub fn newest(backups: FindBackups) -> Self {
        Self::from(From::Newest(backups))
    }

    /// From this backup.
    #[must_use]
    pub fn archive(archive: Archive) -> Self {
        Self::from(From::Archive(Box::new(archive)))
    }

    fn from(from: From) -> Self {
        Self {
            from,
            to: None,
            node: None,
            storage: None,
            replace: false,
            unique: false,
            start: false,
        }
    }

    /// The number of the new guest, instead of its own.
    #[must_use]
    pub fn to(mut self, vmid: u32) -> Self {
        self.to = Some(vmid);
        self
    }

    /// The node of the new guest; by default that of the guest that is replaced, or one that can
    /// read the backup.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The storage of its disks, instead of the original ones. The server puts all disks of a
    /// container on one storage: by default, that of its root file system.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// **Replaces the guest** that has the number; one that runs is stopped first.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Gives it new addresses and identifiers, so that it can run beside the original.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Starts it.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start = true;
        self
    }
}

/// The values in the text of a configuration that identify a guest.
fn identifiers(config: &str) -> BTreeSet<String> {
    let mut identifiers = BTreeSet::new();
    // The text after the first `[` belongs to snapshots.
    for line in config.lines().take_while(|line| !line.starts_with('[')) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if key == "smbios1" {
            let uuid = value.split([',', '=']).find(|part| part.trim().len() == 36);
            identifiers.extend(uuid.map(|uuid| uuid.trim().to_owned()));
        } else if key.starts_with("net") {
            let mac = value
                .split(',')
                .filter_map(|part| Some(part.split_once('=')?.1));
            identifiers.extend(
                mac.filter(|mac| mac.len() == 17)
                    .map(str::to_ascii_lowercase),
            );
        }
    }
    identifiers
}

impl Recover {
    async fn is_of(&self, guest: &Guest, config: &str) -> Result<bool, Error> {
        let mut text = String::new();
        let mut add = |key: &str, value: Option<String>| {
            text.extend(value.map(|value| format!("{key}: {value}\n")));
        };
        match guest.location().await?.kind {
            Kind::Qemu => {
                let config = guest.qemu_config().await?;
                add("smbios1", config.smbios1.as_ref().map(ToString::to_string));
            }
            Kind::Lxc => {
                for (_, card) in guest.lxc_config().await?.net.iter() {
                    add("net0", Some(card.to_string()));
                }
            }
        }
        let expected = identifiers(config);
        Ok(identifiers(&text)
            .iter()
            .any(|identifier| expected.contains(identifier)))
    }

    async fn find_archive(&self, pve: &Client, track: &Track<'_>) -> Result<Archive, Error> {
        match &self.from {
            From::Archive(archive) => Ok((**archive).clone()),
            From::Newest(backups) => {
                let found = backups.clone().run(pve, track).await?;
                found.into_iter().next().ok_or_else(|| {
                    let subject = Subject::Guest(backups.vmid);
                    WorkError::new(subject, "there is no such backup of this guest").into()
                })
            }
        }
    }

    /// Checks that the guest can be replaced, and stops it.
    async fn stop_replaced(
        &self,
        pve: &Client,
        track: &Track<'_>,
        location: &GuestLocation,
        vmid: u32,
        kind: Kind,
    ) -> Result<(), Error> {
        let subject = Subject::Guest(vmid);
        if location.kind != kind {
            let problem = "the number belongs to a guest of the other kind";
            return Err(WorkError::new(subject, problem).into());
        }
        let old = track.with_locks(pve.guest(vmid));
        if old.status().await?.state != PowerState::Stopped {
            track.task(&subject, Action::Stop, || old.stop()).await?;
            track.leave(&subject, "was stopped");
        }
        Ok(())
    }
}

/// The storage of a container's root file system.
fn root_storage(config: &str) -> Option<String> {
    let mut lines = config.lines().take_while(|line| !line.starts_with('['));
    let root = lines.find_map(|line| line.strip_prefix("rootfs:"))?;
    Some(root.trim().split_once(':')?.0.to_owned())
}

impl Work for Recover {
    type Done = Guest;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Guest, Error> {
        let archive = self.find_archive(pve, track).await?;
        let subject = Subject::Volume(archive.volume.clone());
        let config = track
            .act(&subject, Action::Check, archive.config(pve))
            .await?;
        let Some(kind) = archive.kind else {
            return Err(WorkError::new(subject, "the guest of the backup is unknown").into());
        };
        let vmid = self.to.unwrap_or(archive.vmid);
        let subject = Subject::Guest(vmid);
        let existing = match pve.guest(vmid).locate().await {
            Ok(location) => Some(location),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => None,
            Err(error) => return Err(error),
        };
        let guest = match existing {
            Some(location) if !self.replace => {
                let guest = track.with_locks(pve.guest(vmid));
                if self.unique || location.kind != kind || !self.is_of(&guest, &config).await? {
                    let problem = "another guest has this number, and replacing it is not allowed";
                    return Err(WorkError::new(subject, problem).into());
                }
                track.found(&subject, Action::Restore);
                guest
            }
            replaced => {
                if let Some(location) = &replaced {
                    self.stop_replaced(pve, track, location, vmid, kind).await?;
                }
                let node = match (&self.node, &replaced) {
                    (Some(node), _) => node.clone(),
                    (None, Some(location)) => location.node.clone(),
                    (None, None) => archive.node.clone(),
                };
                let storage = match kind {
                    Kind::Lxc => self.storage.clone().or_else(|| root_storage(&config)),
                    Kind::Qemu => self.storage.clone(),
                };
                let start_task = || {
                    let mut restore = pve.restore(&node, kind, vmid, &archive.volume);
                    if let Some(storage) = &storage {
                        restore = restore.storage(storage);
                    }
                    if replaced.is_some() {
                        restore = restore.overwrite();
                    }
                    match self.unique {
                        true => restore.unique(),
                        false => restore,
                    }
                };
                if replaced.is_some() {
                    track.leave(&subject, "was being replaced; its disks may be lost");
                }
                track.task(&subject, Action::Restore, start_task).await?;
                track.settle(&subject);
                track.leave(&subject, "was restored, but not set up completely");
                track.with_locks(pve.guest_at(vmid, node, kind))
            }
        };
        if self.start {
            track.start(&subject, &guest, true).await?;
        }
        Ok(guest)
    }
}
