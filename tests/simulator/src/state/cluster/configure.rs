//! Creates and changes the configuration of guests.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxmox_codegen::facts::{Format, Method, Schemas};

use crate::api_error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::indexed::{has_index, without_index};
use crate::propstring;
use crate::schema::{ApiSchema, lookup};
use crate::state::cluster::Cluster;
use crate::state::config::Config;
use crate::state::guest::volumes::volume_of;
use crate::state::guest::{Change, Guest, Kind, check_lock};

impl Cluster {
    /// Checks a new value of a configuration key and creates what it requests: a volume, a MAC
    /// address.
    ///
    /// Returns the value to store and the lines a task logs about it.
    pub(crate) fn prepare(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        key: &str,
        text: &str,
    ) -> Result<(String, Vec<String>), String> {
        if key == "tags" {
            let mut tags: Vec<String> = split_list(text).map(str::to_ascii_lowercase).collect();
            tags.sort();
            tags.dedup();
            return Ok((tags.join(";"), Vec::new()));
        }
        if kind == Kind::Lxc && matches!(key, "nameserver" | "searchdomain") {
            return Ok((split_list(text).collect::<Vec<_>>().join(" "), Vec::new()));
        }
        let schema = Arc::clone(&self.schema);
        let Some(keys) = key_schemas(&schema, kind, key) else {
            return Ok((text.to_owned(), Vec::new()));
        };
        if kind.is_disk(key) {
            return self.prepare_disk(kind, node, vmid, key, keys, text);
        }
        if has_index(key, "net") {
            let mut parts = propstring::parse(keys, text)?;
            let (mac, extra) = match kind {
                Kind::Qemu => ("macaddr", None),
                Kind::Lxc => ("hwaddr", Some(("type", "veth"))),
            };
            if !parts.contains_key(mac) {
                parts.insert(mac.into(), self.mac());
            }
            if let Some((name, value)) = extra {
                parts.entry(name.into()).or_insert_with(|| value.into());
            }
            return Ok((print_net(kind, keys, &parts), Vec::new()));
        }
        Ok((text.to_owned(), Vec::new()))
    }

    /// Builds the configuration of a new guest. An error leaves nothing behind.
    pub(crate) fn build(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        given: &Config,
    ) -> Result<(Config, Vec<String>), String> {
        self.uncommitted_volumes.clear();
        let mut config = Config::new();
        let mut log = Vec::new();
        // The root file system is created before the mount points.
        let first = given.get_key_value("rootfs");
        let rest = given.iter().filter(|(key, _)| *key != "rootfs");
        for (key, value) in first.into_iter().chain(rest) {
            match self.prepare(kind, node, vmid, key, value) {
                Ok((value, lines)) => {
                    config.insert(key.clone(), value);
                    log.extend(lines);
                }
                Err(error) => {
                    self.remove_uncommitted();
                    return Err(error);
                }
            }
        }
        match kind {
            Kind::Qemu => {
                let uuid = self.uuid();
                config
                    .entry("smbios1".into())
                    .or_insert_with(|| format!("uuid={uuid}"));
                let generation = self.uuid();
                config.entry("vmgenid".into()).or_insert(generation);
                let created = self.now.as_secs();
                config
                    .entry("meta".into())
                    .or_insert_with(|| format!("creation-qemu=10.1.2,ctime={created}"));
                if !config.contains_key("boot") {
                    let order = match boot_order(&config) {
                        order if order.is_empty() => " ".to_owned(),
                        order => format!("order={order}"),
                    };
                    config.insert("boot".into(), order);
                }
            }
            Kind::Lxc => {
                for (key, value) in [
                    ("arch", "amd64"),
                    ("memory", "512"),
                    ("swap", "512"),
                    ("ostype", "debian"),
                    ("unprivileged", "1"),
                ] {
                    config.entry(key.into()).or_insert_with(|| value.into());
                }
                config
                    .entry("hostname".into())
                    .or_insert_with(|| format!("CT{vmid}"));
            }
        }
        Ok((config, log))
    }

    /// Checks a change for errors that are reported before anything changes.
    pub(crate) fn check_change(&self, kind: Kind, change: &Change) -> ApiResult<()> {
        let endpoint = self.schema.endpoint(Method::Get, kind.config_path());
        let known = |key: &str| {
            endpoint
                .and_then(|e| e.returns.properties.as_ref())
                .is_none_or(|properties| lookup(properties, key).is_some())
        };
        for key in &change.revert {
            if !known(key) {
                return Err(ApiError::parameter(
                    "revert",
                    format!("unknown option '{key}'"),
                ));
            }
            if change.set.contains_key(key) {
                return Err(match kind {
                    Kind::Qemu => ApiError::parameter(
                        "delete",
                        format!("you can't use '-{key}' and -revert {key}' at the same time"),
                    ),
                    Kind::Lxc => ApiError::parameter(
                        "revert",
                        format!("you can't use '-{key}' and '-revert {key}' at the same time"),
                    ),
                });
            }
        }
        for key in &change.delete {
            if change.set.contains_key(key) {
                return Err(ApiError::parameter(
                    "delete",
                    format!("you can't use '-{key}' and -delete {key}' at the same time"),
                ));
            }
            if change.revert.contains(key) {
                return Err(match kind {
                    Kind::Qemu => ApiError::parameter(
                        "revert",
                        format!(
                            "you can't use '-delete {key}' and -revert {key}' at the same time"
                        ),
                    ),
                    Kind::Lxc => ApiError::parameter(
                        "delete",
                        format!(
                            "you can't use '-delete {key}' and '-revert {key}' at the same time"
                        ),
                    ),
                });
            }
            if !known(key) {
                return Err(ApiError::parameter(
                    "delete",
                    format!("unknown option '{key}'"),
                ));
            }
        }
        Ok(())
    }

    /// Applies a change, immediately or as pending.
    pub(crate) fn configure(&mut self, vmid: u32, change: &Change) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let kind = guest.kind;
        may_configure(guest, change)?;
        fixed(guest, change)?;
        let node = guest.node.clone();
        let requested = |key: &str| change.set.get(key);
        if kind == Kind::Qemu && (requested("memory").is_some() || requested("balloon").is_some()) {
            let mut planned = Guest::new(kind, &node, guest.planned());
            planned.config.extend(change.set.clone());
            let number = |key: &str| planned.config.get(key)?.parse::<u64>().ok();
            if number("balloon").is_some_and(|balloon| balloon > planned.memory() >> 20) {
                return Err(
                    "balloon value too large (must be smaller than assigned memory)".into(),
                );
            }
        }
        if kind == Kind::Qemu {
            self.existing(vmid)?.may_take(change)?;
        }
        let mut prepared = Config::new();
        for (key, value) in &change.set {
            if key == "lock" {
                continue;
            }
            let value = self.prepare(kind, &node, vmid, key, value)?.0;
            prepared.insert(key.clone(), value);
        }
        let mut freed = Vec::new();
        let guest = self.existing_mut(vmid)?;
        if let Some(lock) = change.set.get("lock") {
            guest.lock = Some(lock.clone());
        }
        if change.delete.iter().any(|key| key == "lock") {
            guest.lock = None;
        }
        if guest.protected()
            && let Some(key) = change.delete.iter().find(|key| kind.is_disk(key))
            && let Some(value) = guest.config.get(key)
        {
            return Err(match (kind, key.starts_with("unused")) {
                (Kind::Qemu, false) => {
                    format!("can't remove drive '{key}' - protection mode enabled")
                }
                (Kind::Qemu, true) => format!(
                    "can't remove unused disk '{}' - protection mode enabled",
                    volume_of(value)
                ),
                (Kind::Lxc, _) => {
                    format!("can't remove CT {vmid} drive '{key}' - protection mode enabled")
                }
            });
        }
        for key in &change.revert {
            guest.pending.remove(key);
        }
        let live = guest.running();
        for key in &change.delete {
            if live && !at_once(kind, key) {
                if guest.config.contains_key(key) {
                    guest.pending.insert(key.clone(), None);
                } else {
                    guest.pending.remove(key);
                }
                continue;
            }
            guest.pending.remove(key);
            if let Some(old) = guest.config.remove(key) {
                freed.push((key.clone(), old));
            }
        }
        if kind == Kind::Qemu {
            guest.reorder_boot(&change.delete, &prepared);
        }
        for (key, value) in prepared {
            // An empty text counts as unset.
            if key == "description" && value.is_empty() {
                guest.config.remove(&key);
                continue;
            }
            if live && !at_once(kind, &key) {
                guest.pending.insert(key, Some(value));
                continue;
            }
            guest.pending.remove(&key);
            if let Some(old) = guest.config.insert(key.clone(), value.clone())
                && kind.is_disk(&key)
                && volume_of(&old) != volume_of(&value)
            {
                freed.push((key, old));
            }
        }
        for (key, old) in freed {
            self.release(vmid, kind, &node, &key, &old);
        }
        Ok(())
    }

    pub(crate) fn existing(&self, vmid: u32) -> Result<&Guest, String> {
        self.guests.get(&vmid).ok_or_else(|| {
            format!("unable to find configuration file for VM {vmid} - no such machine")
        })
    }

    pub(crate) fn existing_mut(&mut self, vmid: u32) -> Result<&mut Guest, String> {
        self.guests.get_mut(&vmid).ok_or_else(|| {
            format!("unable to find configuration file for VM {vmid} - no such machine")
        })
    }
}

/// Whether a change takes effect in a running guest at once.
fn at_once(kind: Kind, key: &str) -> bool {
    let prefix = without_index(key);
    kind == Kind::Lxc
        || matches!(
            prefix,
            "name"
                | "description"
                | "onboot"
                | "startup"
                | "protection"
                | "tags"
                | "hotplug"
                | "lock"
                | "agent"
                | "net"
                | "scsi"
                | "virtio"
                | "sata"
                | "unused"
                | "usb"
                | "hookscript"
                | "bootdisk"
                | "boot"
                | "autostart"
                | "migrate_speed"
                | "migrate_downtime"
                | "shares"
                | "cpuunits"
                | "cpulimit"
                | "balloon"
                | "vmstatestorage"
                | "cicustom"
                | "ciuser"
                | "cipassword"
                | "sshkeys"
                | "ipconfig"
                | "nameserver"
                | "searchdomain"
                | "citype"
                | "ciupgrade"
        )
}

/// Refuses a change of a locked guest, or with an outdated digest.
pub(crate) fn may_configure(guest: &Guest, change: &Change) -> Result<(), String> {
    let stale = |digest: &String| *digest != guest.digest();
    if change.digest.as_ref().is_some_and(stale) {
        return Err(match guest.kind {
            Kind::Qemu => "checksum mismatch (file change by other user?)".into(),
            Kind::Lxc => {
                "detected modified configuration - file changed by other user? Try again.".into()
            }
        });
    }
    if !change.skip_lock {
        check_lock(guest)?;
    }
    Ok(())
}

/// Settings that a container requires or that cannot change.
fn fixed(guest: &Guest, change: &Change) -> Result<(), String> {
    if guest.kind == Kind::Qemu {
        return Ok(());
    }
    for key in change
        .delete
        .iter()
        .filter(|key| guest.config.contains_key(*key))
    {
        match key.as_str() {
            "memory" | "rootfs" | "ostype" => {
                return Err(format!("unable to delete required option '{key}'"));
            }
            "unprivileged" => {
                return Err(format!("unable to delete read-only option: '{key}'"));
            }
            _ => {}
        }
    }
    match change.set.contains_key("unprivileged") {
        true => Err("unable to modify read-only option: 'unprivileged'".into()),
        false => Ok(()),
    }
}

/// Containers have no default key, but the interface name comes first.
fn print_net(kind: Kind, keys: &Schemas, parts: &BTreeMap<String, String>) -> String {
    if kind == Kind::Qemu {
        return propstring::print(keys, parts);
    }
    let mut left = parts.clone();
    let name = left.remove("name").map(|name| format!("name={name}"));
    name.into_iter()
        .chain(left.iter().map(|(key, value)| format!("{key}={value}")))
        .collect::<Vec<_>>()
        .join(",")
}

pub(crate) fn boot_order(config: &Config) -> String {
    let cdrom = |value: &String| value.contains("media=cdrom") || value.starts_with("none");
    let disks = ["scsi", "virtio", "sata", "ide"].iter().filter_map(|bus| {
        config
            .iter()
            .find(|(key, value)| has_index(key, bus) && !cdrom(value))
            .map(|(key, _)| key.clone())
    });
    let cdroms = config
        .iter()
        .filter(|(key, value)| Kind::Qemu.is_disk(key) && cdrom(value))
        .map(|(key, _)| key.clone());
    let nets = config
        .keys()
        .filter(|key| has_index(key, "net"))
        .take(1)
        .cloned();
    disks
        .take(1)
        .chain(cdroms.take(1))
        .chain(nets)
        .collect::<Vec<_>>()
        .join(";")
}

/// The keys of a property string in the configuration of a guest.
pub(crate) fn key_schemas<'a>(schema: &'a ApiSchema, kind: Kind, key: &str) -> Option<&'a Schemas> {
    let endpoint = schema.endpoint(Method::Post, kind.create_path())?;
    match lookup(&endpoint.parameters.properties, key)?
        .format
        .as_ref()?
    {
        Format::Keys(keys) => Some(keys),
        Format::Name(name) => schema.formats().get(name),
        Format::List(_) => None,
    }
}
