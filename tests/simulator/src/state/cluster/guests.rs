//! The effects of tasks on guests.

use std::time::Duration;

use crate::api_error::{ApiError, ApiResult};
use crate::state::cluster::Cluster;
use crate::state::guest::{Guest, GuestEffect, Kind, Snapshot, check_lock};

impl Cluster {
    pub(crate) fn guest(&self, kind: Kind, node: &str, vmid: u32) -> ApiResult<&Guest> {
        self.guests
            .get(&vmid)
            .filter(|guest| guest.kind == kind && guest.node == node)
            .ok_or_else(|| {
                ApiError::die(format!(
                    "Configuration file 'nodes/{node}/{}/{vmid}.conf' does not exist",
                    kind.directory()
                ))
            })
    }

    /// The lowest free id from `from` on.
    pub(crate) fn free_vmid(&self, from: u32) -> u32 {
        (from..)
            .find(|id| !self.guests.contains_key(id))
            .unwrap_or(from)
    }

    pub(crate) fn apply_to_guest(&mut self, vmid: u32, effect: GuestEffect) -> Result<(), String> {
        let now = self.now;
        let up = now + BOOT.mul_f64(self.factor);
        let guest = self.existing_mut(vmid)?;
        let noun = guest.kind.noun();
        let need_running = |guest: &Guest| {
            if guest.running() {
                Ok(())
            } else {
                Err(format!("{noun} {vmid} not running"))
            }
        };
        match effect {
            GuestEffect::Created { start } => {
                guest.lock = None;
                if start {
                    guest.power_on(now, up);
                }
            }
            GuestEffect::IgnoringLock(effect) => {
                let lock = guest.lock.take();
                let result = self.apply_to_guest(vmid, *effect);
                if let Some(guest) = self.guests.get_mut(&vmid) {
                    guest.lock = guest.lock.take().or(lock);
                }
                return result;
            }
            GuestEffect::Start => {
                if guest.lock.as_deref() == Some("suspended") {
                    guest.lock = None;
                }
                check_lock(guest)?;
                if guest.running() {
                    return Err(format!("{noun} {vmid} already running"));
                }
                if guest.template() {
                    return Err(guest.template_cannot_start());
                }
                guest.apply_pending();
                guest.power_on(now, up);
            }
            GuestEffect::Stop => {
                check_lock(guest)?;
                guest.power_off();
                guest.apply_pending();
            }
            GuestEffect::Reboot => {
                check_lock(guest)?;
                need_running(guest)?;
                guest.apply_pending();
                guest.power_on(now, up);
            }
            GuestEffect::Reset => {
                check_lock(guest)?;
                need_running(guest)?;
                let started = guest.started;
                guest.power_on(now, up);
                guest.started = started;
            }
            GuestEffect::Suspend { to_disk } => {
                check_lock(guest)?;
                need_running(guest)?;
                if to_disk {
                    guest.power_off();
                    guest.lock = Some("suspended".into());
                } else {
                    guest.paused = true;
                }
            }
            GuestEffect::Resume => {
                if guest.lock.as_deref() == Some("suspended") {
                    guest.lock = None;
                    guest.power_on(now, now);
                }
                need_running(guest)?;
                guest.paused = false;
            }
            GuestEffect::Destroy { purge } => {
                check_lock(guest)?;
                if guest.running() {
                    return Err(format!("{noun} {vmid} is running - destroy failed"));
                }
                self.guests.remove(&vmid);
                self.forget_guest(vmid, purge);
                self.volumes
                    .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
            }
            GuestEffect::Configure(change) => self.configure(vmid, &change)?,
            GuestEffect::Cloned { source } => {
                guest.lock = None;
                let mut files = None;
                if let Some(source) = self.guests.get_mut(&source) {
                    if matches!(source.lock.as_deref(), Some("clone" | "disk")) {
                        source.lock = None;
                    }
                    files = source.inside.as_ref().map(|inside| inside.files.clone());
                }
                // A copy contains the files on the disks.
                if let (Some(files), Some(guest)) = (files, self.guests.get_mut(&vmid)) {
                    guest.inside(vmid).files = files;
                }
            }
            GuestEffect::Template => {
                check_lock(guest)?;
                if guest.running() {
                    return Err(format!(
                        "you can't convert a {noun} to template if {noun} is running"
                    ));
                }
                guest.config.insert("template".into(), "1".into());
                self.rename_disks(vmid)?;
            }
            GuestEffect::Snapshot {
                name,
                description,
                vmstate,
            } => {
                guest.lock = None;
                let snapshot = Snapshot {
                    config: guest.config.clone(),
                    parent: guest.parent.replace(name.clone()),
                    time: now.as_secs(),
                    description,
                    vmstate: vmstate && guest.running(),
                    files: guest.inside.as_ref().map(|inside| inside.files.clone()),
                };
                guest.snapshots.insert(name, snapshot);
            }
            GuestEffect::Rollback { name, start } => {
                guest.lock = None;
                let snapshot = guest
                    .snapshots
                    .get(&name)
                    .cloned()
                    .ok_or_else(|| format!("snapshot '{name}' does not exist"))?;
                guest.config = snapshot.config;
                guest.pending.clear();
                guest.parent = Some(name);
                guest.power_off();
                if snapshot.vmstate {
                    guest.power_on(now, now);
                } else if start {
                    guest.power_on(now, up);
                }
                match (snapshot.files, &mut guest.inside) {
                    (Some(files), Some(inside)) => inside.files = files,
                    // The guest's files were not created yet at the snapshot, so they were
                    // unchanged.
                    (None, inside) => {
                        if let Some(old) = inside.take() {
                            guest.inside(vmid).keep_orders_of(*old);
                        }
                    }
                    (Some(files), None) => guest.inside(vmid).files = files,
                }
            }
            GuestEffect::DeleteSnapshot { name } => {
                guest.lock = None;
                let gone = guest
                    .snapshots
                    .remove(&name)
                    .ok_or_else(|| format!("snapshot '{name}' does not exist"))?;
                for snapshot in guest.snapshots.values_mut() {
                    if snapshot.parent.as_ref() == Some(&name) {
                        snapshot.parent.clone_from(&gone.parent);
                    }
                }
                if guest.parent.as_ref() == Some(&name) {
                    guest.parent = gone.parent;
                }
            }
            GuestEffect::Resize { disk, size } => {
                check_lock(guest)?;
                self.resize(vmid, &disk, &size)?;
            }
            GuestEffect::Move {
                disk,
                storage,
                format,
                delete,
            } => {
                check_lock(guest)?;
                self.move_disk(vmid, &disk, &storage, format.as_deref(), delete)?;
            }
            GuestEffect::Reassign {
                disk,
                target,
                target_disk,
            } => {
                check_lock(guest)?;
                self.reassign_disk(vmid, &disk, target, &target_disk)?;
            }
            GuestEffect::Export(target) => self.export_guest(vmid, &target)?,
            GuestEffect::Migrate { target, storages } => {
                guest.lock = None;
                let from = std::mem::replace(&mut guest.node, target.clone());
                let moved: Vec<_> = self
                    .volumes
                    .keys()
                    .filter(|key| key.0 == from)
                    .filter(|key| {
                        self.volumes[*key].vmid == Some(vmid)
                            && self.volumes[*key].content != "backup"
                    })
                    .cloned()
                    .collect();
                for key in moved {
                    if let Some(volume) = self.volumes.remove(&key) {
                        self.volumes.insert((target.clone(), key.1), volume);
                    }
                }
                if !storages.is_empty() {
                    self.map_storages(vmid, &storages)?;
                }
            }
        }
        Ok(())
    }

    /// Undoes the preparations of a task that was stopped.
    pub(crate) fn undo_effect(&mut self, vmid: u32, effect: &GuestEffect) {
        match effect {
            GuestEffect::Created { .. } | GuestEffect::Cloned { .. } => {
                self.guests.remove(&vmid);
                self.volumes
                    .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
                if let GuestEffect::Cloned { source } = effect
                    && let Some(guest) = self.guests.get_mut(source)
                {
                    guest.lock = None;
                }
            }
            _ => {
                if let Some(guest) = self.guests.get_mut(&vmid) {
                    guest.lock = None;
                }
            }
        }
    }
}

/// The time a guest's system takes to boot, before the time factor.
const BOOT: Duration = Duration::from_secs(10);

pub(crate) fn lock(cluster: &mut Cluster, vmid: u32, why: &str) {
    if let Some(guest) = cluster.guests.get_mut(&vmid) {
        guest.lock = Some(why.to_owned());
    }
}
