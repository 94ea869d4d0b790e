//! Disks of guests: making, growing, moving and copying their volumes.

use proxmox_codegen::facts::Schemas;

use super::{Config, Kind};
use crate::propstring;
use crate::world::{GIB, Storage, Volume, VolumeKey, World};

impl World {
    pub(super) fn prepare_disk(
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
        let Some((storage, wanted)) = file.split_once(':') else {
            return Ok((text.to_owned(), Vec::new()));
        };
        let import = parts.remove("import-from");
        let number = wanted.parse::<f64>().is_ok();
        // These are of a fixed size, whatever is asked for.
        let fixed = wanted == "cloudinit" || (number && matches!(key, "efidisk0" | "tpmstate0"));
        let new_size = if fixed {
            Some(4 << 20)
        } else if let Some(import) = &import {
            Some(self.import_size(node, import)?)
        } else if number {
            parse_size(&format!("{wanted}G"))
        } else {
            None
        };
        let Some(size) = new_size else {
            let volume = self
                .volumes
                .get(&self.volume_key(node, &file))
                .ok_or_else(|| format!("volume {file} does not exist"))?;
            // The size is that of the volume, whatever is said.
            parts.insert("size".into(), print_size(volume.size));
            return Ok((propstring::print(keys, &parts), Vec::new()));
        };
        let holder = self
            .storages
            .get(storage)
            .ok_or_else(|| format!("storage '{storage}' does not exist"))?;
        if !holder.holds(kind.disk_content()) {
            return Err(format!(
                "storage '{storage}' does not support content-type '{}'",
                kind.disk_content()
            ));
        }
        let files = holder.is_file_based();
        let format = match parts.remove("format") {
            Some(format) if files || format == "raw" => format,
            Some(format) if kind == Kind::Qemu && wanted != "cloudinit" => {
                return Err(format!("unsupported format '{format}'"));
            }
            _ if files && wanted == "cloudinit" => "qcow2".into(),
            _ => "raw".into(),
        };
        let path = holder.path.clone().unwrap_or_default();
        let volid = if wanted == "cloudinit" {
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
        if wanted != "cloudinit" {
            parts.insert("size".into(), print_size(size));
        }
        let key_of = self.volume_key(node, &volid);
        let created = self.now.as_secs();
        self.made.push(key_of.clone());
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

    /// Moves a guest's disks to other storages: `from:to` for some, or one storage for all.
    pub(super) fn map_storages(&mut self, vmid: u32, map: &str) -> Result<(), String> {
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

    /// How large a disk becomes that is made from a volume or a path.
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

    /// The volume that a volume's identifier or a path of a node is of.
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
        // Clusters may hold tens of thousands of volumes, so look at the number first.
        let own: Vec<&str> = self
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
            .find(|name| !own.contains(&name.as_str()) && !foreign(name))
            .map(|name| volume_name(storage, vmid, &name, files, format))
            .unwrap_or_default()
    }

    /// A disk taken out of the configuration becomes unused, an unused one is removed.
    pub(super) fn release(&mut self, vmid: u32, kind: Kind, node: &str, key: &str, old: &str) {
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

    pub(super) fn resize(&mut self, vmid: u32, disk: &str, size: &str) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let old = guest
            .config
            .get(disk)
            .cloned()
            .ok_or_else(|| format!("disk '{disk}' does not exist"))?;
        let node = guest.node.clone();
        let was = size_of(&old).unwrap_or(0);
        let wanted = match size.strip_prefix('+') {
            Some(more) => parse_size(more).and_then(|more| was.checked_add(more)),
            None => parse_size(size),
        }
        .ok_or_else(|| format!("unable to parse size '{size}'"))?;
        if wanted < was {
            return Err("shrinking disks is not supported".into());
        }
        let value = replace_size(&old, wanted);
        let key = self.volume_key(&node, volume_of(&old));
        if let Some(volume) = self.volumes.get_mut(&key) {
            volume.size = wanted;
        }
        self.existing_mut(vmid)?
            .config
            .insert(disk.to_owned(), value);
        Ok(())
    }

    pub(super) fn move_disk(
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

    /// Gives a disk to another guest of the same node; its volume takes that guest's number.
    pub(super) fn reassign_disk(
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
            let left: Vec<&str> = order.split(';').filter(|own| *own != disk).collect();
            if boot.starts_with("order=") {
                *boot = format!("order={}", left.join(";"));
            }
        }
        let value = if target_disk.starts_with("unused") {
            new
        } else {
            let value = old.replacen(&volid, &new, 1);
            // A volume that was unused has no size in its value.
            self.prepare(kind, &node, target, target_disk, &value)?.0
        };
        let target = self.existing_mut(target)?;
        target.config.insert(target_disk.to_owned(), value);
        Ok(())
    }

    /// Whether the storage of a volume can do something with it as it is: a base image, an image in use, a snapshot.
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
        let own = name.rsplit('/').next().unwrap_or(name);
        let base = own.starts_with("base-") || own.starts_with("basevol-");
        let current = !base && !snapshot;
        match (storage.kind.as_str(), feature) {
            (_, Feature::Rename) => current,
            ("iscsi" | "iscsidirect", _) => feature == Feature::Copy && !snapshot,
            ("lvm", Feature::Copy) => !snapshot,
            ("lvm", _) => false,
            ("lvmthin" | "rbd", Feature::Clone) => base || snapshot,
            ("lvmthin" | "rbd", Feature::Copy) => true,
            ("lvmthin" | "rbd" | "zfspool" | "zfs", Feature::Snapshot) => current,
            ("zfspool" | "zfs", Feature::Clone) => base && !snapshot,
            ("zfspool" | "zfs", Feature::Copy) => !snapshot,
            ("btrfs", Feature::Snapshot) => current,
            // A linked copy of a file is one of QEMU's own format, which containers do not take.
            (_, Feature::Clone) => base && !snapshot && kind == Kind::Qemu,
            (_, Feature::Copy) => !snapshot || format == "qcow2",
            (_, Feature::Snapshot) => !base && format == "qcow2",
        }
    }

    /// Whether all disks of a configuration have a feature; those that only read a medium do not count.
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

    /// Whether linked copies of a base image are left.
    pub(crate) fn is_base_in_use(&self, volid: &str) -> bool {
        let below = format!("{volid}/");
        self.volumes
            .keys()
            .any(|(_, other)| other.starts_with(&below))
    }

    /// A copy that shares what it has in common with its base image.
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
        // Thin volumes do not tell where they come from.
        let tells = files || matches!(holder.kind.as_str(), "zfspool" | "zfs" | "rbd");
        let format = if files { "qcow2" } else { "raw" };
        let own = self.free_volume(&source.storage, vmid, files, format);
        let copy = match own.split_once(':') {
            Some((_, name)) if tells => format!("{base}/{name}"),
            _ => own,
        };
        let key = self.volume_key(node, &copy);
        self.made.push(key.clone());
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

    /// A copy of a disk's volume for `vmid`; the disk's value with the new volume.
    pub(crate) fn copy_disk(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        disk: &str,
        storage: Option<&str>,
        wanted: Option<&str>,
    ) -> Result<String, String> {
        let volid = volume_of(disk);
        let key = self.volume_key(node, volid);
        let source = self
            .volumes
            .get(&key)
            .cloned()
            .ok_or_else(|| format!("volume '{volid}' does not exist"))?;
        let storage = storage.unwrap_or(&source.storage).to_owned();
        let holder = self
            .storages
            .get(&storage)
            .ok_or_else(|| format!("storage '{storage}' does not exist"))?;
        if !holder.holds(kind.disk_content()) {
            return Err(format!(
                "storage '{storage}' does not support content-type '{}'",
                kind.disk_content()
            ));
        }
        let files = holder.is_file_based();
        let format = match wanted {
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
        self.made.push(new_key.clone());
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

    /// Gives the volumes of a new template their `base-` names.
    pub(super) fn rename_disks(&mut self, vmid: u32) -> Result<(), String> {
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

/// The `size=` of a disk in bytes.
pub(super) fn size_of(disk: &str) -> Option<u64> {
    disk.split(',')
        .find_map(|part| part.strip_prefix("size="))
        .and_then(parse_size)
}

/// `32G` in bytes; no unit is bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim_end_matches("iB");
    let (number, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let digits: u64 = fraction.get(..fraction.len().min(6))?.parse().ok()?;
    let scale = 10_u64.pow(u32::try_from(fraction.len().min(6)).ok()?);
    Some(whole + digits * (1_u64 << shift) / scale)
}

/// Bytes in the largest unit that divides them.
pub(crate) fn print_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        // Terabytes are written in gigabytes unless there are thousands of them.
        if bytes > 0 && bytes.is_multiple_of(1 << shift) && (shift != 40 || bytes >= 1 << 50) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// What a storage may be able to do with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Snapshot,
    /// A linked copy.
    Clone,
    /// A full copy.
    Copy,
    /// To another guest.
    Rename,
}

/// Whether a disk value is the drive with the settings for cloud-init.
pub(crate) fn is_cloud_init(disk: &str) -> bool {
    let volume = volume_of(disk);
    let name = volume.rsplit(['/', ':']).next().unwrap_or(volume);
    let name = name.split('.').next().unwrap_or(name);
    name == "cloudinit" || name.starts_with("vm-") && name.ends_with("-cloudinit")
}

/// The size of the disk in a qcow2 image, from its header.
fn virtual_size(image: &[u8]) -> Option<u64> {
    let size = image.strip_prefix(b"QFI\xfb")?.get(20..28)?;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

/// The volume a disk value names.
pub(crate) fn volume_of(disk: &str) -> &str {
    let first = disk.split(',').next().unwrap_or("");
    first
        .strip_prefix("file=")
        .or_else(|| first.strip_prefix("volume="))
        .unwrap_or(first)
}

/// What a volume is, from its name on its storage: its content, and the guest it belongs to.
/// Whether a volume may be called so where volumes are files (pve-storage `Storage/Plugin.pm`, `parse_volname`).
pub(crate) fn is_file_name(name: &str) -> bool {
    let Some((folder, file)) = name.split_once('/') else {
        return false;
    };
    let ends = |endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    let plain = !file.is_empty() && !file.contains('/');
    match folder {
        "iso" => plain && ends(&[".iso", ".img", ".ISO", ".IMG"]),
        "vztmpl" => plain && ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"]),
        "snippets" => plain,
        "import" => plain && ends(&[".ova", ".ovf", ".qcow2", ".raw", ".vmdk"]),
        "backup" => {
            plain && (file.split('.').any(|part| matches!(part, "tar" | "vma")) || ends(&[".tgz"]))
        }
        _ => folder.parse::<u32>().is_ok() && !file.contains(char::is_whitespace),
    }
}

pub(crate) fn parse_volume_name(name: &str) -> (&'static str, Option<u32>) {
    let first = |text: &str| -> Option<u32> { text.split(['-', '/', '.']).next()?.parse().ok() };
    if let Some((directory, file)) = name.split_once('/') {
        match directory {
            "iso" => return ("iso", None),
            "vztmpl" => return ("vztmpl", None),
            "snippets" => return ("snippets", None),
            "import" => return ("import", None),
            "backup" => {
                let guest = ["vzdump-qemu-", "vzdump-lxc-"]
                    .iter()
                    .find_map(|start| file.strip_prefix(start));
                // On a backup server the path has the kind and the number.
                let served = file.split_once('/').and_then(|(_, rest)| first(rest));
                return ("backup", guest.and_then(first).or(served));
            }
            _ => {}
        }
    }
    let own = name.rsplit('/').next().unwrap_or(name);
    let owner = ["vm-", "base-", "subvol-", "basevol-"]
        .iter()
        .find_map(|start| own.strip_prefix(start))
        .and_then(first);
    ("images", owner.or_else(|| first(name)))
}

/// A saved disk as a create call would ask for it.
pub(crate) fn as_new_disk(disk: &str, storage: Option<&str>) -> Option<String> {
    let (home, _) = volume_of(disk).split_once(':')?;
    let (name, _) = volume_of(disk)
        .rsplit_once(['/', ':'])
        .map(|(_, name)| (name, ()))
        .unwrap_or_default();
    if !name.starts_with("vm-") && !name.starts_with("base-") {
        return None;
    }
    let size = size_of(disk)?;
    let rest: Vec<&str> = disk
        .split(',')
        .skip(1)
        .filter(|part| !part.starts_with("size="))
        .collect();
    let gib = size >> 30;
    let part = (size & (GIB - 1)) * 1_000_000 / GIB;
    let first = format!("{}:{gib}.{part:06}", storage.unwrap_or(home));
    Some(
        std::iter::once(first.as_str())
            .chain(rest)
            .collect::<Vec<_>>()
            .join(","),
    )
}

fn replace_size(disk: &str, size: u64) -> String {
    let size = format!("size={}", print_size(size));
    let mut parts: Vec<&str> = disk.split(',').collect();
    match parts.iter_mut().find(|part| part.starts_with("size=")) {
        Some(part) => *part = &size,
        None => parts.push(&size),
    }
    parts.join(",")
}

fn volume_name(storage: &str, vmid: u32, name: &str, files: bool, format: &str) -> String {
    if files {
        format!("{storage}:{vmid}/{name}.{format}")
    } else {
        format!("{storage}:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("32G"), Some(32 << 30));
        assert_eq!(parse_size("0.5G"), Some(1 << 29));
        assert_eq!(parse_size("1024"), Some(1024));
        assert_eq!(parse_size("4MiB"), Some(4 << 20));
        assert_eq!(parse_size("x"), None);
        assert_eq!(print_size(32 << 30), "32G");
        assert_eq!(print_size(1 << 40), "1024G");
        assert_eq!(print_size(528 << 10), "528K");
        assert_eq!(
            replace_size("local:vm-1-disk-0,iothread=1,size=1G", 2 << 30),
            "local:vm-1-disk-0,iothread=1,size=2G"
        );
    }
}
