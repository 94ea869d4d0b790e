//! Virtual machines and containers: configuration, power, snapshots.

mod disks;
pub(crate) mod network;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use proxmox_codegen::facts::{Format, Method, Schemas, Type};
use serde_json::{Map, Value, json};

use self::disks::size_of;
pub(crate) use self::disks::{
    Feature, as_new_disk, is_cloud_init, is_file_name, parse_size, parse_volume_name, volume_of,
};
use crate::calls::remote::Target;
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::inside::{Files, Inside};
use crate::propstring;
use crate::sample::mix;
use crate::schema::{ApiSchema, lookup, split_index};
use crate::world::World;

pub(crate) type Config = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Qemu,
    Lxc,
}

impl Kind {
    /// As in API paths and resource ids.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::Lxc => "lxc",
        }
    }

    /// As in messages.
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

    fn config_path(self) -> &'static str {
        match self {
            Self::Qemu => "/nodes/{node}/qemu/{vmid}/config",
            Self::Lxc => "/nodes/{node}/lxc/{vmid}/config",
        }
    }

    /// The key of a disk's property string that names its volume.
    fn volume_key(self) -> &'static str {
        match self {
            Self::Qemu => "file",
            Self::Lxc => "volume",
        }
    }

    fn disk_content(self) -> &'static str {
        match self {
            Self::Qemu => "images",
            Self::Lxc => "rootdir",
        }
    }

    /// Whether a configuration key is a disk or mount point.
    pub(crate) fn is_disk(self, key: &str) -> bool {
        let family = split_index(key).map(|(family, _)| family);
        match self {
            Self::Qemu => {
                matches!(key, "efidisk0" | "tpmstate0")
                    || matches!(family, Some("ide" | "sata" | "scsi" | "virtio" | "unused"))
            }
            Self::Lxc => key == "rootfs" || matches!(family, Some("mp" | "unused")),
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
    /// The files then; `None` as long as nobody had looked inside.
    pub(crate) files: Option<Files>,
}

#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) kind: Kind,
    pub(crate) node: String,
    pub(crate) config: Config,
    /// Changes that wait for a stop; `None` deletes.
    pub(crate) pending: BTreeMap<String, Option<String>>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) parent: Option<String>,
    pub(crate) lock: Option<String>,
    pub(crate) started: Option<Duration>,
    pub(crate) paused: bool,
    pub(crate) pool: Option<String>,
    /// When its system will have come up.
    pub(crate) up: Option<Duration>,
    /// Made when somebody looks inside.
    pub(crate) inside: Option<Box<Inside>>,
}

impl Guest {
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

    /// What is inside; made now if nobody has looked before.
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

    fn power_on(&mut self, now: Duration, up: Duration) {
        self.power_off();
        self.started = Some(now);
        self.up = Some(up);
    }

    fn power_off(&mut self) {
        self.started = None;
        self.up = None;
        self.paused = false;
        if let Some(inside) = &mut self.inside {
            inside.power_off();
        }
    }

    /// Its node went down.
    pub(crate) fn cut_power(&mut self) {
        self.power_off();
        self.apply_pending();
    }

    /// Its node came up.
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

    /// That its number is taken.
    pub(crate) fn taken(&self, vmid: u32) -> String {
        format!(
            "{} {vmid} already exists on node '{}'",
            self.kind.noun(),
            self.node
        )
    }

    pub(crate) fn template(&self) -> bool {
        self.config.get("template").is_some_and(|t| t == "1")
    }

    pub(crate) fn no_start_of_template(&self) -> String {
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

    /// Takes drives that go out of the boot order, and adds new CD drives to it.
    fn reorder_boot(&mut self, delete: &[String], set: &Config) {
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

    /// The configuration with pending changes as if they were made.
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

    fn apply_pending(&mut self) {
        self.config = self.planned();
        self.pending.clear();
    }
}

/// How long a system takes to come up, before the time factor.
const BOOT: Duration = Duration::from_secs(10);

/// What a guest task does when it ends.
#[derive(Clone, Debug)]
pub(crate) enum GuestEffect {
    Created {
        start: bool,
    },
    /// What is done although the guest is locked; the lock stays.
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
        /// Whether the old volume goes, rather than becoming an unused one.
        delete: bool,
    },
    /// Gives a disk to another guest.
    Reassign {
        disk: String,
        target: u32,
        target_disk: String,
    },
    Migrate {
        target: String,
        /// Which storage becomes which, or one for all.
        storages: String,
    },
    /// To another cluster.
    SendAway(Box<Target>),
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

/// Whether a change takes effect in a running guest at once.
fn at_once(kind: Kind, key: &str) -> bool {
    let family = split_index(key).map_or(key, |(family, _)| family);
    kind == Kind::Lxc
        || matches!(
            family,
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

impl World {
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

    /// Checks a new value of a configuration key and makes what it asks for: a volume, a MAC address.
    ///
    /// Returns the value to store and the lines a task logs about it.
    fn prepare(
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
        if split_index(key).is_some_and(|(family, _)| family == "net") {
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

    /// Builds the configuration of a new guest; on an error nothing is left behind.
    pub(crate) fn build(
        &mut self,
        kind: Kind,
        node: &str,
        vmid: u32,
        given: &Config,
    ) -> Result<(Config, Vec<String>), String> {
        self.made.clear();
        let mut config = Config::new();
        let mut log = Vec::new();
        // The root file system is made before the mount points.
        let first = given.get_key_value("rootfs");
        let rest = given.iter().filter(|(key, _)| *key != "rootfs");
        for (key, value) in first.into_iter().chain(rest) {
            match self.prepare(kind, node, vmid, key, value) {
                Ok((value, lines)) => {
                    config.insert(key.clone(), value);
                    log.extend(lines);
                }
                Err(error) => {
                    self.unmake();
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

    /// Checks a change that is refused before anything happens.
    pub(crate) fn check_change(&self, kind: Kind, change: &Change) -> ApiResult<()> {
        let endpoint = self.schema.endpoint(Method::Get, kind.config_path());
        for key in change.delete.iter().chain(&change.revert) {
            if change.set.contains_key(key) {
                return Err(ApiError::parameter(
                    "delete",
                    format!("you can't use '-{key}' and -delete {key}' at the same time"),
                ));
            }
            let known = endpoint
                .and_then(|e| e.returns.properties.as_ref())
                .is_none_or(|properties| lookup(properties, key).is_some());
            if !known {
                return Err(ApiError::parameter(
                    "delete",
                    format!("unknown option '{key}'"),
                ));
            }
        }
        Ok(())
    }

    /// Makes a change, at once or pending.
    pub(crate) fn configure(&mut self, vmid: u32, change: &Change) -> Result<(), String> {
        let guest = self.existing(vmid)?;
        let kind = guest.kind;
        may_configure(guest, change)?;
        fixed(guest, change)?;
        let node = guest.node.clone();
        let asked = |key: &str| change.set.get(key);
        if kind == Kind::Qemu && (asked("memory").is_some() || asked("balloon").is_some()) {
            let mut planned = Guest::new(kind, &node, guest.planned());
            planned.config.extend(change.set.clone());
            let number = |key: &str| planned.config.get(key)?.parse::<u64>().ok();
            if number("balloon").is_some_and(|balloon| balloon > planned.memory() >> 20) {
                return Err(
                    "balloon value too large (must be smaller than assigned memory)".into(),
                );
            }
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
            // No text is the same as none.
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

    fn existing(&self, vmid: u32) -> Result<&Guest, String> {
        self.guests.get(&vmid).ok_or_else(|| {
            format!("unable to find configuration file for VM {vmid} - no such machine")
        })
    }

    fn existing_mut(&mut self, vmid: u32) -> Result<&mut Guest, String> {
        self.guests.get_mut(&vmid).ok_or_else(|| {
            format!("unable to find configuration file for VM {vmid} - no such machine")
        })
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
                    return Err(guest.no_start_of_template());
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
                // What is on disks is on their copies.
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
                    // Nobody had looked inside then, so nothing had been written either.
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
            GuestEffect::SendAway(target) => self.send_away(vmid, &target)?,
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

    /// Undoes what a task prepared that was stopped before its end.
    pub(crate) fn abandon(&mut self, vmid: u32, effect: &GuestEffect) {
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

    /// A configuration as the API answers it, each value in the type the release declares.
    pub(crate) fn config_json(&self, kind: Kind, config: &Config) -> Map<String, Value> {
        let properties = self
            .schema
            .endpoint(Method::Get, kind.config_path())
            .and_then(|endpoint| endpoint.returns.properties.as_ref());
        config
            .iter()
            .map(|(key, text)| {
                let ty = properties
                    .and_then(|properties| lookup(properties, key))
                    .and_then(|schema| schema.ty);
                let value = match ty {
                    Some(Type::Integer | Type::Boolean) => {
                        text.parse::<i64>().map(Value::from).ok()
                    }
                    _ if key == "cipassword" => Some(json!("**********")),
                    _ => None,
                };
                (key.clone(), value.unwrap_or_else(|| json!(text)))
            })
            .collect()
    }

    /// What status and list calls say about a guest.
    pub(crate) fn guest_json(&self, vmid: u32, guest: &Guest) -> Map<String, Value> {
        let uptime = guest
            .started
            .map_or(0, |at| self.now.saturating_sub(at).as_secs());
        let busy = mix(&vmid.to_string(), uptime / 10) % 100;
        let memory = guest.memory();
        let (used, cpu, traffic) = if guest.running() {
            (
                memory / 100 * (30 + busy / 4),
                json!(busy_share(busy)),
                uptime * 1_500,
            )
        } else {
            (0, json!(0), 0)
        };
        let mut row = Map::from_iter(
            [
                ("vmid", json!(vmid)),
                ("name", json!(guest.name(vmid))),
                ("status", json!(guest.status())),
                ("cpus", json!(guest.cpus())),
                ("maxmem", json!(memory)),
                ("maxdisk", json!(guest.disk_size())),
                ("disk", json!(0)),
                ("uptime", json!(uptime)),
                ("cpu", cpu),
                ("mem", json!(used)),
                ("netin", json!(traffic)),
                ("netout", json!(traffic / 2)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        if guest.running() {
            row.insert("pid".into(), json!(10_000 + vmid));
            if self.schema.release().major >= 9 {
                for name in PRESSURE {
                    let none = match guest.kind {
                        Kind::Qemu => json!(0),
                        Kind::Lxc => json!("0.00"),
                    };
                    row.insert(name.to_owned(), none);
                }
            }
        }
        if guest.running() || guest.kind == Kind::Lxc {
            row.insert("diskread".into(), json!(traffic * 3));
            row.insert("diskwrite".into(), json!(traffic * 2));
        }
        if guest.kind == Kind::Qemu {
            row.insert("memhost".into(), json!(used));
            let state = if guest.paused {
                "paused"
            } else {
                guest.status()
            };
            row.insert("qmpstatus".into(), json!(state));
        } else {
            row.insert("type".into(), json!("lxc"));
            if !guest.config.contains_key("cores")
                && let Some(node) = self.node(&guest.node)
            {
                row.insert("cpus".into(), json!(node.cores));
            }
            let swap = guest.config.get("swap").and_then(|text| text.parse().ok());
            row.insert("maxswap".into(), json!(swap.unwrap_or(512_u64) << 20));
            row.insert("swap".into(), json!(0));
        }
        if guest.template() {
            row.insert("template".into(), json!(1));
        }
        for key in ["tags"] {
            if let Some(value) = guest.config.get(key).filter(|value| !value.is_empty()) {
                let tags: Vec<&str> = split_list(value).collect();
                row.insert(key.into(), json!(tags.join(";")));
            }
        }
        if let Some(lock) = &guest.lock {
            row.insert("lock".into(), json!(lock));
        }
        row
    }
}

/// How long work waits for what it needs.
const PRESSURE: [&str; 6] = [
    "pressurecpufull",
    "pressurecpusome",
    "pressureiofull",
    "pressureiosome",
    "pressurememoryfull",
    "pressurememorysome",
];

/// Hundredths as a share of one.
fn busy_share(busy: u64) -> f64 {
    u32::try_from(busy).map_or(0.0, f64::from) / 400.0
}

/// Refuses a change of what is locked or has been changed since.
pub(crate) fn may_configure(guest: &Guest, change: &Change) -> Result<(), String> {
    let stale = |given: &String| *given != guest.digest();
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

/// What a container needs or keeps for good.
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

pub(crate) fn check_lock(guest: &Guest) -> Result<(), String> {
    match &guest.lock {
        Some(lock) => Err(format!("{} is locked ({lock})", guest.kind.noun())),
        None => Ok(()),
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

fn boot_order(config: &Config) -> String {
    let cdrom = |value: &String| value.contains("media=cdrom") || value.starts_with("none");
    let disks = ["scsi", "virtio", "sata", "ide"].iter().filter_map(|bus| {
        config
            .iter()
            .find(|(key, value)| {
                split_index(key).is_some_and(|(family, _)| family == *bus) && !cdrom(value)
            })
            .map(|(key, _)| key.clone())
    });
    let cdroms = config
        .iter()
        .filter(|(key, value)| Kind::Qemu.is_disk(key) && cdrom(value))
        .map(|(key, _)| key.clone());
    let nets = config
        .keys()
        .filter(|key| split_index(key).is_some_and(|(family, _)| family == "net"))
        .take(1)
        .cloned();
    disks
        .take(1)
        .chain(cdroms.take(1))
        .chain(nets)
        .collect::<Vec<_>>()
        .join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

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
