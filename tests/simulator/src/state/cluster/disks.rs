//! Creates, moves, copies and releases disks of guests.

use proxmox_codegen::facts::Schemas;

use crate::propstring;
use crate::state::cluster::Cluster;
use crate::state::config::Config;
use crate::state::guest::Kind;
use crate::state::guest::volumes::{
    Feature, is_cloud_init, parse_size, print_size, replace_size, size_of, virtual_size,
    volume_name, volume_of,
};
use crate::state::storage::{Storage, Volume, VolumeKey};

impl Cluster {
    /// A storage, if it may hold disks of guests of this kind.
    fn storage_for_disks(&self, storage: &str, kind: Kind) -> Result<&Storage, String> {
        let Some(holder) = self.storages.get(storage) else {
            return Err(format!("storage '{storage}' does not exist"));
        };
        let content = kind.disk_content();
        match holder.holds(content) {
            true => Ok(holder),
            false => Err(format!(
                "storage '{storage}' does not support content-type '{content}'"
            )),
        }
    }

    pub(crate) fn prepare_disk(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        key: &str,
        keys: &Schemas,
        text: &str,
    ) -> Result<(String, Vec<String>), String> {
        let mut parts = propstring::parse(keys, text)?;
        let source = kind.volume_key();
        let Some(file) = parts.get(source).cloned() else {
            return Ok((text.to_owned(), Vec::new()));
        };
        let Some((storage, requested)) = file.split_once(':') else {
            return Ok((text.to_owned(), Vec::new()));
        };
        let import = parts.remove("import-from");
        let number = requested.parse::<f64>().is_ok();
        // These have a fixed size, whatever the request says.
        let fixed = requested == "cloudinit" || (number && matches!(key, "efidisk0" | "tpmstate0"));
        let new_size = if fixed {
            Some(4 << 20)
        } else if let Some(import) = &import {
            Some(self.import_size(node, import)?)
        } else if number {
            parse_size(&format!("{requested}G"))
        } else {
            None
        };
        let Some(size) = new_size else {
            let volume = self
                .volumes
                .get(&self.volume_key(node, &file))
                .ok_or_else(|| {
                    // A storage of files reports missing volumes itself; for others the virtual
                    // machine does.
                    let files = (self.storages.get(storage)).is_some_and(Storage::is_file_based);
                    match files {
                        true => format!("volume '{file}' does not exist"),
                        false => format!("volume {file} does not exist"),
                    }
                })?;
            // The size is the volume's, whatever the request says.
            parts.insert("size".into(), print_size(volume.size));
            return Ok((propstring::print(keys, &parts), Vec::new()));
        };
        let holder = self.storage_for_disks(storage, kind)?;
        let files = holder.is_file_based();
        let format = match parts.remove("format") {
            Some(format) if files || format == "raw" => format,
            Some(format) if kind == Kind::Qemu && requested != "cloudinit" => {
                return Err(format!("unsupported format '{format}'"));
            }
            _ if files && requested == "cloudinit" => "qcow2".into(),
            _ => "raw".into(),
        };
        let path = holder.path.clone().unwrap_or_default();
        let volid = if requested == "cloudinit" {
            parts.insert("media".into(), "cdrom".into());
            volume_name(
                storage,
                vmid,
                &format!("vm-{vmid}-cloudinit"),
                files,
                &format,
            )
        } else {
            self.free_volume(storage, vmid, files, &format)
        };
        parts.insert(source.into(), volid.clone());
        if requested != "cloudinit" {
            parts.insert("size".into(), print_size(size));
        }
        let key_of = self.volume_key(node, &volid);
        let created = self.now.as_secs();
        self.uncommitted_volumes.push(key_of.clone());
        self.volumes.insert(
            key_of,
            Volume {
                storage: storage.to_owned(),
                content: kind.disk_content().to_owned(),
                format: format.clone(),
                size,
                vmid: Some(vmid),
                created,
                notes: None,
                protected: false,
                saved: None,
            },
        );
        let value = propstring::print(keys, &parts);
        let name = volid.split_once(':').map_or("", |(_, name)| name);
        let first = if files {
            format!("Formatting '{path}/images/{name}', fmt={format} size={size} preallocation=off")
        } else {
            format!("  Logical volume \"{name}\" created.")
        };
        let second = format!("{key}: successfully created disk '{value}'");
        Ok((value, vec![first, second]))
    }

    /// Moves a guest's disks to other storages: `from:to` pairs, or one storage for all.
    pub(crate) fn map_storages(&mut self, vmid: u32, map: &str) -> Result<(), String> {
        let target = |storage: &str| {
            let mut pairs = map.split(',').filter_map(|pair| pair.split_once(':'));
            let mapped = pairs.find(|(from, _)| *from == storage).map(|(_, to)| to);
            mapped.or((!map.contains(':')).then_some(map))
        };
        let Some(guest) = self.guests.get(&vmid) else {
            return Ok(());
        };
        let disks: Vec<(String, String)> = (guest.config.iter())
            .filter(|(key, value)| guest.kind.is_disk(key) && !is_cloud_init(value))
            .filter_map(|(key, value)| {
                let (storage, _) = volume_of(value).split_once(':')?;
                let to = target(storage).filter(|to| *to != storage)?;
                Some((key.clone(), to.to_owned()))
            })
            .collect();
        for (key, to) in disks {
            self.move_disk(vmid, &key, &to, None, true)?;
        }
        Ok(())
    }

    /// The size of a new disk made from a volume or a path.
    fn import_size(&self, node: &str, source: &str) -> Result<u64, String> {
        let key = self.import_key(node, source);
        let volume = (self.volumes.get(&key)).ok_or_else(|| match source.starts_with('/') {
            true => format!("'{source}' does not exist"),
            false => format!("volume '{source}' does not exist"),
        })?;
        let file = self.downloads.get(&key);
        Ok(file
            .and_then(|file| virtual_size(file))
            .unwrap_or(volume.size))
    }

    /// The volume for a volume id or a path on a node.
    fn import_key(&self, node: &str, source: &str) -> VolumeKey {
        let by_path = self.storages.iter().find_map(|(id, storage)| {
            let rest = source.strip_prefix(storage.path.as_deref()?)?;
            let rest = rest.strip_prefix('/')?;
            let rest = rest.strip_prefix("template/").unwrap_or(rest);
            Some(format!("{id}:{}", rest.replacen("cache/", "vztmpl/", 1)))
        });
        self.volume_key(node, by_path.as_deref().unwrap_or(source))
    }

    fn free_volume(&self, storage: &str, vmid: u32, files: bool, format: &str) -> String {
        let prefix = format!("{storage}:");
        // There can be tens of thousands of volumes, so the number is compared first.
        let names: Vec<&str> = self
            .volumes
            .iter()
            .filter(|(_, volume)| volume.vmid == Some(vmid))
            .map(|((_, volid), _)| volid.as_str())
            .filter(|volid| volid.starts_with(&prefix))
            .filter_map(|volid| volid.rsplit(['/', ':']).next()?.split('.').next())
            .collect();
        let foreign = |name: &str| {
            let volid = volume_name(storage, vmid, name, files, format);
            std::iter::once("")
                .chain(self.nodes.iter().map(|node| node.name.as_str()))
                .any(|node| self.volumes.contains_key(&(node.to_owned(), volid.clone())))
        };
        (0..)
            .map(|n| format!("vm-{vmid}-disk-{n}"))
            .find(|name| !names.contains(&name.as_str()) && !foreign(name))
            .map(|name| volume_name(storage, vmid, &name, files, format))
            .unwrap_or_default()
    }

    /// A removed disk becomes an unused one; a removed unused disk is deleted.
    pub(crate) fn release(&mut self, vmid: u32, kind: Kind, node: &str, key: &str, old: &str) {
        if !kind.is_disk(key) {
            return;
        }
        let volid = volume_of(old).to_owned();
        let volume = self.volume_key(node, &volid);
        let owned = self
            .volumes
            .get(&volume)
            .is_some_and(|v| v.vmid == Some(vmid));
        if !owned {
            return;
        }
        if key.starts_with("unused") || old.contains("media=cdrom") {
            self.volumes.remove(&volume);
        } else if let Some(guest) = self.guests.get_mut(&vmid) {
            let slot = (0..256)
                .map(|n| format!("unused{n}"))
                .find(|slot| !guest.config.contains_key(slot));
            if let Some(slot) = slot {
                guest.config.insert(slot, volid);
            }
        }
    }

    pub(crate) fn resize(&mut self, vmid: u32, disk: &str, size: &str) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let old = guest
            .config
            .get(disk)
            .cloned()
            .ok_or_else(|| format!("disk '{disk}' does not exist"))?;
        let node = guest.node.clone();
        let was = size_of(&old).unwrap_or(0);
        let new_size = match size.strip_prefix('+') {
            Some(more) => parse_size(more).and_then(|more| was.checked_add(more)),
            None => parse_size(size),
        }
        .ok_or_else(|| format!("unable to parse size '{size}'"))?;
        if new_size < was {
            return Err("shrinking disks is not supported".into());
        }
        let value = replace_size(&old, new_size);
        let key = self.volume_key(&node, volume_of(&old));
        if let Some(volume) = self.volumes.get_mut(&key) {
            volume.size = new_size;
        }
        self.existing_mut(vmid)?
            .config
            .insert(disk.to_owned(), value);
        Ok(())
    }

    pub(crate) fn move_disk(
        &mut self,
        vmid: u32,
        disk: &str,
        storage: &str,
        format: Option<&str>,
        delete: bool,
    ) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let (kind, node) = (guest.kind, guest.node.clone());
        let old = guest
            .config
            .get(disk)
            .cloned()
            .ok_or_else(|| format!("disk '{disk}' does not exist"))?;
        let value = self
            .copy_disk(kind, &node, vmid, &old, Some(storage), format)
            .map_err(|error| match kind {
                Kind::Qemu => format!("storage migration failed: {error}"),
                Kind::Lxc => error,
            })?;
        self.existing_mut(vmid)?
            .config
            .insert(disk.to_owned(), value);
        if delete {
            let key = self.volume_key(&node, volume_of(&old));
            self.volumes.remove(&key);
        } else {
            self.release(vmid, kind, &node, disk, &old);
        }
        Ok(())
    }

    /// Moves a disk to another guest of the same node; the volume is renamed to that guest's
    /// number.
    pub(crate) fn reassign_disk(
        &mut self,
        vmid: u32,
        disk: &str,
        target: u32,
        target_disk: &str,
    ) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let (kind, node) = (guest.kind, guest.node.clone());
        let old = guest
            .config
            .get(disk)
            .cloned()
            .ok_or_else(|| format!("disk '{disk}' does not exist"))?;
        self.existing(target)?;
        let volid = volume_of(&old).to_owned();
        let key = self.volume_key(&node, &volid);
        let mut volume = self
            .volumes
            .remove(&key)
            .ok_or_else(|| format!("volume '{volid}' does not exist"))?;
        let files = self
            .storages
            .get(&volume.storage)
            .is_some_and(Storage::is_file_based);
        let new = self.free_volume(&volume.storage, target, files, &volume.format);
        volume.vmid = Some(target);
        let key = self.volume_key(&node, &new);
        self.volumes.insert(key, volume);
        let source = self.existing_mut(vmid)?;
        source.config.remove(disk);
        source.pending.remove(disk);
        if let Some(boot) = source.config.get_mut("boot") {
            let order = boot.strip_prefix("order=").unwrap_or("");
            let left: Vec<&str> = order.split(';').filter(|other| *other != disk).collect();
            if boot.starts_with("order=") {
                *boot = format!("order={}", left.join(";"));
            }
        }
        let value = if target_disk.starts_with("unused") {
            new
        } else {
            let value = old.replacen(&volid, &new, 1);
            // An unused volume has no size in its value.
            self.prepare(kind, &node, target, target_disk, &value)?.0
        };
        let target = self.existing_mut(target)?;
        target.config.insert(target_disk.to_owned(), value);
        Ok(())
    }

    /// Whether the storage supports a feature for a volume in its state: a base image, a current
    /// image, or a snapshot.
    pub(crate) fn volume_has(
        &self,
        feature: Feature,
        kind: Kind,
        node: &str,
        volid: &str,
        snapshot: bool,
    ) -> bool {
        let Some((id, name)) = volid.split_once(':') else {
            return false;
        };
        let Some(storage) = self.storages.get(id) else {
            return false;
        };
        let key = self.volume_key(node, volid);
        let format = self.volumes.get(&key).map_or("raw", |v| v.format.as_str());
        let base_name = name.rsplit('/').next().unwrap_or(name);
        let base = base_name.starts_with("base-") || base_name.starts_with("basevol-");
        let current = !base && !snapshot;
        match (storage.kind.as_str(), feature) {
            (_, Feature::Rename) => current,
            ("iscsi" | "iscsidirect", _) => feature == Feature::Copy && !snapshot,
            ("lvm", Feature::Copy) => !snapshot,
            ("lvm", _) => false,
            (_, Feature::Template) => current,
            ("lvmthin" | "rbd", Feature::Clone) => base || snapshot,
            ("lvmthin" | "rbd", Feature::Copy) => true,
            ("lvmthin" | "rbd" | "zfspool" | "zfs", Feature::Snapshot) => current,
            ("zfspool" | "zfs", Feature::Clone) => base && !snapshot,
            ("zfspool" | "zfs", Feature::Copy) => !snapshot,
            ("btrfs", Feature::Snapshot) => current,
            // A linked clone of a file is a qcow2 image, which containers do not support.
            (_, Feature::Clone) => base && !snapshot && kind == Kind::Qemu,
            (_, Feature::Copy) => !snapshot || format == "qcow2",
            (_, Feature::Snapshot) => !base && format == "qcow2",
        }
    }

    /// Whether all disks of a configuration support a feature; CD-ROM drives do not count.
    pub(crate) fn has_feature(
        &self,
        feature: Feature,
        kind: Kind,
        node: &str,
        config: &Config,
        snapshot: bool,
    ) -> bool {
        let cloud_init = |value: &str| feature == Feature::Snapshot && is_cloud_init(value);
        config
            .iter()
            .filter(|(key, value)| {
                kind.is_disk(key)
                    && !key.starts_with("unused")
                    && (!value.contains("media=cdrom") || cloud_init(value))
            })
            .all(|(_, value)| self.volume_has(feature, kind, node, volume_of(value), snapshot))
    }

    /// Whether a base image has linked clones.
    pub(crate) fn is_base_in_use(&self, volid: &str) -> bool {
        let below = format!("{volid}/");
        self.volumes
            .keys()
            .any(|(_, other)| other.starts_with(&below))
    }

    /// A linked clone of a base image.
    pub(crate) fn link_disk(
        &mut self,
        node: &str,
        vmid: u32,
        disk: &str,
    ) -> Result<String, String> {
        let base = volume_of(disk).to_owned();
        let source = self
            .volumes
            .get(&self.volume_key(node, &base))
            .cloned()
            .ok_or_else(|| format!("volume '{base}' does not exist"))?;
        let holder = self
            .storages
            .get(&source.storage)
            .ok_or_else(|| format!("storage '{}' does not exist", source.storage))?;
        let files = holder.is_file_based();
        // Thin volumes do not record their origin.
        let tells = files || matches!(holder.kind.as_str(), "zfspool" | "zfs" | "rbd");
        let format = if files { "qcow2" } else { "raw" };
        let volid = self.free_volume(&source.storage, vmid, files, format);
        let copy = match volid.split_once(':') {
            Some((_, name)) if tells => format!("{base}/{name}"),
            _ => volid,
        };
        let key = self.volume_key(node, &copy);
        self.uncommitted_volumes.push(key.clone());
        let created = self.now.as_secs();
        self.volumes.insert(
            key,
            Volume {
                format: format.into(),
                vmid: Some(vmid),
                created,
                ..source
            },
        );
        Ok(disk.replacen(&base, &copy, 1))
    }

    /// Copies a disk's volume for `vmid`; returns the disk's value with the new volume.
    pub(crate) fn copy_disk(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        disk: &str,
        storage: Option<&str>,
        requested_format: Option<&str>,
    ) -> Result<String, String> {
        let volid = volume_of(disk);
        let key = self.volume_key(node, volid);
        let source = self
            .volumes
            .get(&key)
            .cloned()
            .ok_or_else(|| format!("volume '{volid}' does not exist"))?;
        let storage = storage.unwrap_or(&source.storage).to_owned();
        let holder = self.storage_for_disks(&storage, kind)?;
        let files = holder.is_file_based();
        let format = match requested_format {
            _ if !files => "raw".into(),
            Some(format) => format.to_owned(),
            None => source.format.clone(),
        };
        let copy = if is_cloud_init(disk) {
            volume_name(
                &storage,
                vmid,
                &format!("vm-{vmid}-cloudinit"),
                files,
                &format,
            )
        } else {
            self.free_volume(&storage, vmid, files, &format)
        };
        let created = self.now.as_secs();
        let new_key = self.volume_key(node, &copy);
        self.uncommitted_volumes.push(new_key.clone());
        self.volumes.insert(
            new_key,
            Volume {
                storage,
                format,
                vmid: Some(vmid),
                created,
                ..source
            },
        );
        Ok(disk.replacen(volid, &copy, 1))
    }

    /// Renames the volumes of a new template to `base-`.
    pub(crate) fn rename_disks(&mut self, vmid: u32) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let (kind, node) = (guest.kind, guest.node.clone());
        let disks: Vec<_> = guest
            .config
            .iter()
            .filter(|(key, _)| kind.is_disk(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in disks {
            let old = volume_of(&value).to_owned();
            if !self.volume_has(Feature::Template, kind, &node, &old, false) {
                continue;
            }
            let new = old.replace(&format!("vm-{vmid}-disk"), &format!("base-{vmid}-disk"));
            let old_key = self.volume_key(&node, &old);
            if let Some(volume) = self.volumes.remove(&old_key) {
                let new_key = self.volume_key(&node, &new);
                self.volumes.insert(new_key, volume);
                let value = value.replacen(&old, &new, 1);
                self.existing_mut(vmid)?.config.insert(key, value);
            }
        }
        Ok(())
    }
}
