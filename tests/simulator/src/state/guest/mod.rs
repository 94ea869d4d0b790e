//! Virtual machines and containers: configuration, power, snapshots.

pub(crate) mod network;
pub(crate) mod target;
pub(crate) mod volumes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::guest_agent::Inside;
use crate::guest_agent::output::Files;
use crate::indexed::split_index;
use crate::propstring;
use crate::state::config::Config;
use crate::state::guest::target::Target;
use crate::state::guest::volumes::{is_cloud_init, size_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Qemu,
    Lxc,
}

impl Kind {
    /// As used in API paths and resource ids.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Lxc => "lxc",
        }
    }

    /// As used in messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Qemu => "VM",
            Self::Lxc => "CT",
        }
    }

    pub(crate) fn create_path(self) -> &'static str {
        match self {
            Self::Qemu => "/nodes/{node}/qemu",
            Self::Lxc => "/nodes/{node}/lxc",
        }
    }

    pub(crate) fn config_path(self) -> &'static str {
        match self {
            Self::Qemu => "/nodes/{node}/qemu/{vmid}/config",
            Self::Lxc => "/nodes/{node}/lxc/{vmid}/config",
        }
    }

    /// The key of a disk's property string that names its volume.
    pub(crate) fn volume_key(self) -> &'static str {
        match self {
            Self::Qemu => "file",
            Self::Lxc => "volume",
        }
    }

    pub(crate) fn disk_content(self) -> &'static str {
        match self {
            Self::Qemu => "images",
            Self::Lxc => "rootdir",
        }
    }

    /// Whether a configuration key is a disk or mount point.
    pub(crate) fn is_disk(self, key: &str) -> bool {
        let prefix = split_index(key).map(|(prefix, _)| prefix);
        match self {
            Self::Qemu => {
                matches!(key, "efidisk0" | "tpmstate0")
                    || matches!(prefix, Some("ide" | "sata" | "scsi" | "virtio" | "unused"))
            }
            Self::Lxc => key == "rootfs" || matches!(prefix, Some("mp" | "unused")),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) config: Config,
    pub(crate) parent: Option<String>,
    pub(crate) time: u64,
    pub(crate) description: Option<String>,
    pub(crate) vmstate: bool,
    /// The files at the snapshot; `None` if they were not created yet.
    pub(crate) files: Option<Files>,
}

#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) kind: Kind,
    pub(crate) node: String,
    pub(crate) config: Config,
    /// Changes that take effect at the next stop; `None` deletes.
    pub(crate) pending: BTreeMap<String, Option<String>>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) parent: Option<String>,
    pub(crate) lock: Option<String>,
    pub(crate) started: Option<Duration>,
    pub(crate) paused: bool,
    pub(crate) pool: Option<String>,
    /// The time when its system has booted.
    pub(crate) up: Option<Duration>,
    /// Created on first access.
    pub(crate) inside: Option<Box<Inside>>,
}

impl Guest {
    /// Whether a machine takes values that depend on others.
    pub(crate) fn may_take(&self, change: &Change) -> Result<(), String> {
        if let Some(text) = change.set.get("boot")
            && let Some(order) = propstring::value(text, "order")
        {
            let exists = |device: &str| {
                let is_set = self.config.contains_key(device)
                    || matches!(self.pending.get(device), Some(Some(_)));
                let deleted = change.delete.iter().any(|key| key == device);
                change.set.contains_key(device) || is_set && !deleted
            };
            if let Some(device) = order.split(';').find(|device| !exists(device)) {
                return Err(format!(
                    "invalid bootorder: device '{device}' does not exist'"
                ));
            }
        }
        if let Some(text) = change.set.get("machine")
            && propstring::value(text, "viommu") == Some("intel")
        {
            let first = text.split(',').next().unwrap_or("");
            let kind = first.strip_prefix("type=").unwrap_or(first);
            if !kind.contains("q35") {
                return Err("to use Intel vIOMMU please set the machine type to q35".into());
            }
        }
        Ok(())
    }

    pub(crate) fn new(kind: Kind, node: &str, config: Config) -> Self {
        Self {
            kind,
            node: node.to_owned(),
            config,
            pending: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            parent: None,
            lock: None,
            started: None,
            paused: false,
            pool: None,
            up: None,
            inside: None,
        }
    }

    /// The guest's files and programs, created on first access.
    pub(crate) fn inside(&mut self, vmid: u32) -> &mut Inside {
        let name = self.name(vmid).replace(' ', "-");
        self.inside
            .get_or_insert_with(|| Box::new(Inside::new(&name)))
    }

    /// Whether the guest agent is enabled.
    pub(crate) fn has_agent(&self) -> bool {
        self.config.get("agent").is_some_and(|agent| {
            agent.split(',').any(|part| {
                let value = part.strip_prefix("enabled=").unwrap_or(part);
                matches!(value, "1" | "on" | "yes" | "true")
            })
        })
    }

    pub(crate) fn power_on(&mut self, now: Duration, up: Duration) {
        self.power_off();
        self.started = Some(now);
        self.up = Some(up);
    }

    pub(crate) fn power_off(&mut self) {
        self.started = None;
        self.up = None;
        self.paused = false;
        if let Some(inside) = &mut self.inside {
            inside.power_off();
        }
    }

    /// Stops the guest because its node went down.
    pub(crate) fn cut_power(&mut self) {
        self.power_off();
        self.apply_pending();
    }

    /// Starts the guest when its node is up again.
    pub(crate) fn start_at_boot(&mut self, now: Duration) {
        if self
            .config
            .get("onboot")
            .is_some_and(|onboot| onboot == "1")
            && !self.template()
        {
            self.power_on(now, now);
        }
    }

    pub(crate) fn running(&self) -> bool {
        self.started.is_some()
    }

    pub(crate) fn status(&self) -> &'static str {
        if self.running() { "running" } else { "stopped" }
    }

    pub(crate) fn protected(&self) -> bool {
        self.config.get("protection").is_some_and(|p| p == "1")
    }

    /// The error if the number exists already.
    pub(crate) fn already_exists_text(&self, vmid: u32) -> String {
        format!(
            "{} {vmid} already exists on node '{}'",
            self.kind.noun(),
            self.node
        )
    }

    pub(crate) fn template(&self) -> bool {
        self.config.get("template").is_some_and(|t| t == "1")
    }

    pub(crate) fn template_cannot_start(&self) -> String {
        let what = match self.kind {
            Kind::Qemu => "vm",
            Kind::Lxc => "CT",
        };
        format!("you can't start a {what} if it's a template")
    }

    pub(crate) fn name(&self, vmid: u32) -> String {
        let (key, prefix) = match self.kind {
            Kind::Qemu => ("name", "VM "),
            Kind::Lxc => ("hostname", "CT"),
        };
        self.config
            .get(key)
            .cloned()
            .unwrap_or_else(|| format!("{prefix}{vmid}"))
    }

    pub(crate) fn cpus(&self) -> u64 {
        let number = |key| self.config.get(key).and_then(|v| v.parse::<u64>().ok());
        match self.kind {
            Kind::Qemu => number("vcpus")
                .unwrap_or_else(|| number("cores").unwrap_or(1) * number("sockets").unwrap_or(1)),
            Kind::Lxc => number("cores").unwrap_or(1),
        }
    }

    pub(crate) fn memory(&self) -> u64 {
        self.config
            .get("memory")
            .and_then(|text| {
                text.strip_prefix("current=")
                    .unwrap_or(text)
                    .split(',')
                    .next()
            })
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(512)
            << 20
    }

    /// Size of the boot disk or root file system.
    pub(crate) fn disk_size(&self) -> u64 {
        let boot = match self.kind {
            Kind::Lxc => self.config.get("rootfs"),
            Kind::Qemu => self
                .config
                .iter()
                .find(|(key, value)| {
                    self.kind.is_disk(key)
                        && !key.starts_with("unused")
                        && !value.contains("media=cdrom")
                })
                .map(|(_, value)| value),
        };
        boot.and_then(|value| size_of(value)).unwrap_or(0)
    }

    /// Removes deleted drives from the boot order, and adds new CD drives to it.
    pub(crate) fn reorder_boot(&mut self, delete: &[String], set: &Config) {
        let order = |guest: &Self| -> Option<Vec<String>> {
            let text = guest.config.get("boot")?.strip_prefix("order=")?;
            Some(text.split(';').map(str::to_owned).collect())
        };
        let Some(mut devices) = order(self).filter(|_| !set.contains_key("boot")) else {
            return;
        };
        let before = devices.clone();
        devices.retain(|device| !delete.contains(device));
        for (key, value) in set {
            let reads = value.contains("media=cdrom") && !is_cloud_init(value);
            if self.kind.is_disk(key) && reads && !devices.contains(key) {
                devices.push(key.clone());
            }
        }
        if devices != before && !self.running() {
            self.config
                .insert("boot".into(), format!("order={}", devices.join(";")));
        }
    }

    /// The configuration with pending changes applied.
    pub(crate) fn planned(&self) -> Config {
        let mut config = self.config.clone();
        for (key, value) in &self.pending {
            match value {
                Some(value) => config.insert(key.clone(), value.clone()),
                None => config.remove(key),
            };
        }
        config
    }

    /// SHA-1 over the text of the configuration file.
    pub(crate) fn digest(&self) -> String {
        let mut text = String::new();
        let section = |text: &mut String, config: &Config| {
            for (key, value) in config {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{key}: {value}");
            }
        };
        section(&mut text, &self.config);
        for (key, value) in &self.pending {
            let _ = writeln!(text, "[PENDING] {key}: {value:?}");
        }
        for (name, snapshot) in &self.snapshots {
            let _ = writeln!(text, "[{name}] {}", snapshot.time);
            section(&mut text, &snapshot.config);
        }
        let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub(crate) fn apply_pending(&mut self) {
        self.config = self.planned();
        self.pending.clear();
    }
}

/// The effect of a guest task at its end.
#[derive(Clone, Debug)]
pub(crate) enum GuestEffect {
    Created {
        start: bool,
    },
    /// An effect that applies to a locked guest; the lock stays.
    IgnoringLock(Box<GuestEffect>),
    Start,
    Stop,
    Reboot,
    Reset,
    Suspend {
        to_disk: bool,
    },
    Resume,
    Destroy {
        purge: bool,
    },
    Configure(Change),
    Cloned {
        source: u32,
    },
    Template,
    Snapshot {
        name: String,
        description: Option<String>,
        vmstate: bool,
    },
    Rollback {
        name: String,
        start: bool,
    },
    DeleteSnapshot {
        name: String,
    },
    Resize {
        disk: String,
        size: String,
    },
    Move {
        disk: String,
        storage: String,
        format: Option<String>,
        /// Whether the old volume is deleted instead of becoming an unused disk.
        delete: bool,
    },
    /// Moves a disk to another guest.
    Reassign {
        disk: String,
        target: u32,
        target_disk: String,
    },
    Migrate {
        target: String,
        /// Storage mapping, or one storage for all.
        storages: String,
    },
    /// Migration to another cluster.
    Export(Box<Target>),
}

/// A change of configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) set: Config,
    pub(crate) delete: Vec<String>,
    pub(crate) revert: Vec<String>,
    pub(crate) digest: Option<String>,
    pub(crate) skip_lock: bool,
}

impl Change {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty() && self.revert.is_empty()
    }
}

pub(crate) fn check_lock(guest: &Guest) -> Result<(), String> {
    match &guest.lock {
        Some(lock) => Err(format!("{} is locked ({lock})", guest.kind.noun())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::cluster::configure::boot_order;

    #[test]
    fn boot_order_prefers_disks() {
        let config = Config::from(
            [
                ("ide2", "none,media=cdrom"),
                ("net0", "virtio=BC:24:11:00:00:01"),
                ("scsi0", "local-lvm:vm-100-disk-0,size=4G"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        assert_eq!(boot_order(&config), "scsi0;ide2;net0");
    }

    #[test]
    fn the_digest_follows_the_configuration() {
        let mut guest = Guest::new(Kind::Qemu, "pve1", Config::new());
        let before = guest.digest();
        guest.config.insert("cores".into(), "2".into());
        assert_ne!(before, guest.digest());
        assert_eq!(before.len(), 40);
    }
}
