//! Privileges for a guest's configuration: by key, and for storages, volumes, bridges and devices
//! of the host.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_codegen::facts::Method::Post;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::rights::privileges::SPACE;
use crate::formats::split_list;
use crate::indexed::{has_index, split_index, without_index};
use crate::propstring;
use crate::schema::is_task;
use crate::state::cluster::configure::key_schemas;
use crate::state::config::Config;
use crate::state::guest::Kind;
use crate::state::guest::volumes::{parse_volume_name, volume_of};

/// The configuration of the guest a call is about.
fn current_config(call: &Call<'_>) -> Config {
    let guest = call.cluster.guests.get(&call.vmid("vmid"));
    guest.map(|guest| guest.planned()).unwrap_or_default()
}

pub(super) fn move_disk(call: &Call<'_>, kind: Kind) -> ApiResult<()> {
    if call.params.contains_key("target-vmid") {
        call.require_on_guest(call.vmid("target-vmid"), None, &["VM.Config.Disk"])?;
        let key = if kind == Kind::Lxc { "volume" } else { "disk" };
        let config = current_config(call);
        let disk = config.get(call.text(key).unwrap_or(""));
        let storage = disk.and_then(|disk| Some(volume_of(disk).split_once(':')?.0));
        return match storage {
            Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
            None => Ok(()),
        };
    }
    match call.text("storage") {
        Some(storage) => call.require(&format!("/storage/{storage}"), SPACE),
        None => Ok(()),
    }
}

pub(super) fn clone(call: &Call<'_>, kind: Kind) -> ApiResult<()> {
    let vmid = call.vmid("vmid");
    let Some(guest) = call.cluster.guests.get(&vmid) else {
        return Ok(());
    };
    let snapshot = call
        .text("snapname")
        .and_then(|name| guest.snapshots.get(name));
    let config = snapshot.map_or(&guest.config, |snapshot| &snapshot.config);
    for (key, value) in config {
        if kind.is_disk(key) && !key.starts_with("unused") && !value.contains("media=cdrom") {
            let storage = volume_of(value).split_once(':').map(|(storage, _)| storage);
            if let Some(storage) = storage.map(|storage| call.text("storage").unwrap_or(storage)) {
                call.require(&format!("/storage/{storage}"), SPACE)?;
            }
        }
    }
    for (key, value) in config {
        match split_index(key).map(|(prefix, _)| prefix) {
            Some("net") => call.require_bridge(kind, value)?,
            Some("usb" | "hostpci") if kind == Kind::Qemu => device(call, key, value)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks whether the guest may be created with these settings.
pub(super) fn create(call: &Call<'_>, kind: Kind) -> ApiResult<()> {
    let vmid = call.vmid("vmid");
    let pool = call.text("pool");
    let lxc = kind == Kind::Lxc;
    let restore = call.text("archive").is_some() || call.flag("restore");
    let privileged = lxc && !restore && call.text("unprivileged") == Some("0");
    if privileged {
        call.require("/", &["Sys.Modify"])?;
    }
    if let Some(pool) = pool.filter(|pool| !call.cluster.pools.contains_key(*pool)) {
        return Err(ApiError::permission(&format!(
            "pool '{pool}' does not exist"
        )));
    }
    if let Some(storage) = call.text("storage").filter(|_| !lxc) {
        call.require(&format!("/storage/{storage}"), SPACE)?;
    }
    if call.flag("ha-managed") {
        call.require("/", &["Sys.Console"])?;
    }
    if call.flag("start") && !lxc {
        call.require_on_guest(vmid, pool, &["VM.PowerMgmt"])?;
    }
    let allowed = call.may(&format!("/vms/{vmid}"), "VM.Allocate")
        || pool.is_some_and(|pool| call.may(&format!("/pool/{pool}"), "VM.Allocate"))
        || restore
            && call.flag("force")
            && call.cluster.guests.contains_key(&vmid)
            && call.may(&format!("/vms/{vmid}"), "VM.Backup");
    if !allowed {
        return Err(ApiError::permission(""));
    }
    let config = crate::calls::guests::params::config_params(call);
    let (source, content) = match kind {
        Kind::Qemu => (call.text("archive"), "backup"),
        Kind::Lxc if restore => (call.text("ostemplate"), "backup"),
        Kind::Lxc => (call.text("ostemplate"), "vztmpl"),
    };
    if !lxc && let Some(source) = source {
        call.require_volume(Some(vmid), source, Some(content))?;
    }
    let none = Config::new();
    let guest = ChangedGuest {
        vmid,
        pool,
        old: &none,
        privileged,
    };
    guest.keys(call, kind, config.keys())?;
    guest.values(call, kind, &config)?;
    if lxc && let Some(source) = source {
        call.require_volume(Some(vmid), source, Some(content))?;
    }
    if lxc && !config.contains_key("rootfs") {
        let storage = call.text("storage").unwrap_or("local");
        call.require(&format!("/storage/{storage}"), SPACE)?;
    }
    Ok(())
}

/// Checks a change of configuration, as far as the server checks it before the task.
pub(crate) fn configure(call: &Call<'_>, kind: Kind) -> ApiResult<()> {
    if call.caller.is_root() {
        return Ok(());
    }
    let old = current_config(call);
    let list = |name: &str| -> Vec<String> {
        let text = call.text(name).unwrap_or("");
        split_list(text).map(str::to_owned).collect()
    };
    let deleted = list("delete");
    let reverted = list("revert");
    let config = crate::calls::guests::params::config_params(call);
    let guest = ChangedGuest {
        vmid: call.vmid("vmid"),
        pool: None,
        privileged: kind == Kind::Lxc && old.get("unprivileged").is_none_or(|u| u != "1"),
        old: &old,
    };
    guest.keys(call, kind, deleted.iter())?;
    if kind == Kind::Lxc {
        guest.keys(call, kind, reverted.iter())?;
    }
    guest.keys(call, kind, config.keys())?;
    guest.values(call, kind, &config)?;
    // Removing a disk or a device needs the same privileges as adding one.
    let gone: Config = deleted
        .iter()
        .filter_map(|key| Some((key.clone(), old.get(key)?.clone())))
        .collect();
    let later = is_task(call.method, call.path, call.endpoint);
    if kind == Kind::Qemu && !later {
        guest.devices(call, &gone, "delete")?;
        guest.devices(call, &config, "modify")?;
    }
    Ok(())
}

/// Checks that the task of a configuration change makes.
pub(crate) fn in_task(call: &Call<'_>) -> ApiResult<()> {
    if call.caller.is_root() {
        return Ok(());
    }
    let old = current_config(call);
    let guest = ChangedGuest {
        vmid: call.vmid("vmid"),
        pool: None,
        privileged: false,
        old: &old,
    };
    let gone: Config = split_list(call.text("delete").unwrap_or(""))
        .filter_map(|key| Some((key.to_owned(), old.get(key)?.clone())))
        .collect();
    guest.devices(call, &gone, "delete")?;
    guest.devices(
        call,
        &crate::calls::guests::params::config_params(call),
        "modify",
    )
}

/// The guest whose configuration the call changes.
struct ChangedGuest<'a> {
    vmid: u32,
    /// The pool of a new guest.
    pool: Option<&'a str>,
    old: &'a Config,
    /// A privileged container.
    privileged: bool,
}

/// The privilege for a key of a virtual machine's configuration; `None` if only root@pam may set
/// it.
fn qemu_privileges(key: &str) -> Option<&'static [&'static str]> {
    let prefix = without_index(key);
    Some(match (prefix, key) {
        ("numa", _) => &["VM.Config.CPU"],
        (
            _,
            "cores" | "cpu" | "runningcpu" | "cpulimit" | "cpuunits" | "smp" | "sockets" | "vcpus",
        ) => &["VM.Config.CPU"],
        (_, "memory" | "balloon" | "shares" | "allow-ksm") => &["VM.Config.Memory"],
        (
            _,
            "acpi" | "hotplug" | "kvm" | "machine" | "runningmachine" | "scsihw" | "smbios1"
            | "tablet" | "vga" | "watchdog" | "audio0" | "rng0",
        ) => &["VM.Config.HWType"],
        (
            _,
            "agent" | "autostart" | "bios" | "description" | "keyboard" | "localtime"
            | "migrate_downtime" | "migrate_speed" | "name" | "onboot" | "ostype" | "protection"
            | "reboot" | "startdate" | "startup" | "tdf" | "template",
        ) => &["VM.Config.Options"],
        (_, "freeze") => &["VM.PowerMgmt"],
        (_, "boot" | "bootdisk" | "vmstatestorage") => &["VM.Config.Disk"],
        ("net", _) => &["VM.Config.Network"],
        ("ipconfig", _) => &["VM.Config.Cloudinit", "VM.Config.Network"],
        (
            _,
            "cicustom" | "cipassword" | "citype" | "ciuser" | "ciupgrade" | "nameserver"
            | "searchdomain" | "sshkeys",
        ) => &["VM.Config.Cloudinit", "VM.Config.Network"],
        (_, "vmstate") => &["VM.Config.Disk"],
        _ => return None,
    })
}

impl ChangedGuest<'_> {
    /// The privilege for each key, for all values.
    fn keys<'k>(
        &self,
        call: &Call<'_>,
        kind: Kind,
        keys: impl Iterator<Item = &'k String>,
    ) -> ApiResult<()> {
        for key in keys {
            match kind {
                Kind::Qemu => self.qemu_key(call, key)?,
                Kind::Lxc => self.lxc_key(call, key)?,
            }
        }
        Ok(())
    }

    fn require(&self, call: &Call<'_>, privileges: &[&str]) -> ApiResult<()> {
        call.require_on_guest(self.vmid, self.pool, privileges)
    }

    fn qemu_key(&self, call: &Call<'_>, key: &str) -> ApiResult<()> {
        let prefix = without_index(key);
        if Kind::Qemu.is_disk(key)
            || matches!(prefix, "cdrom" | "serial" | "usb" | "hostpci" | "virtiofs")
        {
            return Ok(());
        }
        if key == "tags" {
            return self.tags(call);
        }
        match qemu_privileges(key) {
            Some([one, other]) => call.require_any(&format!("/vms/{}", self.vmid), &[one, other]),
            Some(privileges) => {
                self.require(call, privileges)?;
                if key == "startup" {
                    call.require("/", &["Sys.Modify"])?;
                }
                Ok(())
            }
            None => Err(ApiError::die(format!("only root can set '{key}' config"))),
        }
    }

    fn lxc_key(&self, call: &Call<'_>, key: &str) -> ApiResult<()> {
        let prefix = without_index(key);
        match (prefix, key) {
            (_, "cores" | "cpuunits" | "cpulimit") => self.require(call, &["VM.Config.CPU"]),
            ("mp", _) | (_, "rootfs") => self.require(call, &["VM.Config.Disk"]),
            (_, "memory" | "swap") => self.require(call, &["VM.Config.Memory"]),
            ("net", _) | (_, "nameserver" | "searchdomain" | "hostname") => {
                self.require(call, &["VM.Config.Network"])
            }
            ("dev", _) => Err(ApiError::permission(
                "configuring device passthrough is only allowed for root@pam",
            )),
            (_, "hookscript") => Err(ApiError::permission(
                "changing the hookscript is only allowed for root@pam",
            )),
            (_, "features") if self.privileged => Err(ApiError::permission(
                "changing feature flags for privileged container is only allowed for root@pam",
            )),
            (_, "features") => self.features(call),
            (_, "tags") => self.tags(call),
            // Whether a container is unprivileged cannot change and has its own check.
            (_, "unprivileged") => Ok(()),
            _ => self.require(call, &["VM.Config.Options"]),
        }
    }

    /// Of a container's features, only `nesting` is allowed to users other than root@pam.
    fn features(&self, call: &Call<'_>) -> ApiResult<()> {
        let parts = |text: &str| -> BTreeSet<String> {
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        let old = parts(self.old.get("features").map_or("", String::as_str));
        let new = parts(call.text("features").unwrap_or(""));
        let mut changed = old.symmetric_difference(&new).peekable();
        if changed.peek().is_none() {
            return Ok(());
        }
        if changed.any(|part| !part.starts_with("nesting=")) {
            return Err(ApiError::permission(
                "changing feature flags (except nesting) is only allowed for root@pam",
            ));
        }
        self.require(call, &["VM.Allocate"])
    }

    fn tags(&self, call: &Call<'_>) -> ApiResult<()> {
        call.require_on_guest(self.vmid, None, &["VM.Config.Options"])?;
        if call.may("/", "Sys.Modify") {
            return Ok(());
        }
        let options = call.cluster.settings.get("/cluster/options");
        let registered = options.and_then(|row| row.get("registered-tags")?.as_str());
        let old = self.old.get("tags").map_or("", String::as_str);
        let new = call.text("tags").unwrap_or("");
        let has = |list: &str, tag: &str| split_list(list).any(|other| other == tag);
        let changed = split_list(old)
            .filter(|tag| !has(new, tag))
            .chain(split_list(new).filter(|tag| !has(old, tag)));
        for tag in changed {
            if registered.is_some_and(|list| has(list, tag)) {
                let text = format!("/, Sys.Modify for modifying tag '{tag}'");
                return Err(ApiError::permission(&text));
            }
        }
        Ok(())
    }

    /// Privileges for objects in values: storages, volumes, devices, bridges.
    fn values(&self, call: &Call<'_>, kind: Kind, config: &Config) -> ApiResult<()> {
        for (key, value) in config {
            if kind.is_disk(key) {
                self.volume(call, kind, key, value)?;
            }
        }
        if kind == Kind::Qemu {
            if let Some(storage) = config.get("vmstatestorage") {
                call.require(&format!("/storage/{storage}"), SPACE)?;
            }
            if call.method == Post && !call.path.ends_with("/config") {
                self.devices(call, config, "set")?;
            }
        }
        for (key, value) in config {
            if has_index(key, "net") {
                if let Some(old) = self.old.get(key).filter(|_| kind == Kind::Lxc) {
                    call.require_bridge(kind, old)?;
                }
                call.require_bridge(kind, value)?;
            }
        }
        self.cpu(call, config)
    }

    fn cpu(&self, call: &Call<'_>, config: &Config) -> ApiResult<()> {
        let model = |config: &Config| -> Option<String> {
            let first = config.get("cpu")?.split(',').next()?;
            Some(first.strip_prefix("cputype=").unwrap_or(first).to_owned())
        };
        match model(config) {
            Some(new) if Some(&new) != model(self.old).as_ref() => {
                match new.strip_prefix("custom-") {
                    Some(name) => call.require(&format!("/mapping/cpu/{name}"), &["Mapping.Use"]),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn volume(&self, call: &Call<'_>, kind: Kind, key: &str, value: &str) -> ApiResult<()> {
        let volid = volume_of(value);
        let fresh = |name: &str| name.parse::<f64>().is_ok();
        match (kind, volid.split_once(':')) {
            (Kind::Qemu, _) if matches!(volid, "" | "none" | "cloudinit") => Ok(()),
            (Kind::Qemu, Some((_, "cloudinit"))) => Ok(()),
            (Kind::Qemu, None) if volid == "cdrom" => call.require("/", &["Sys.Console"]),
            (Kind::Lxc, None) if volid.starts_with('/') => {
                let what = if volid.starts_with("/dev/") {
                    "device"
                } else {
                    "bind"
                };
                let text = format!("mount point type {what} is only allowed for root@pam");
                Err(ApiError::permission(&text))
            }
            // A size without a storage uses the call's `storage`.
            (Kind::Lxc, None) => Ok(()),
            (_, Some((storage, name))) if fresh(name) => {
                call.require(&format!("/storage/{storage}"), SPACE)?;
                let Some(import) = propstring::value(value, "import-from") else {
                    return Ok(());
                };
                let owner = import
                    .split_once(':')
                    .and_then(|(_, name)| parse_volume_name(name).1);
                match owner {
                    Some(owner) => call.require(&format!("/vms/{owner}"), &["VM.Clone"]),
                    None => call.require_volume(Some(self.vmid), import, None),
                }
            }
            _ => {
                let content = match kind {
                    Kind::Lxc => Some("rootdir"),
                    Kind::Qemu if key.starts_with("unused") => Some("images"),
                    Kind::Qemu => None,
                };
                call.require_volume(Some(self.vmid), volid, content)
            }
        }
    }

    /// Disks and devices of a virtual machine, whose privilege depends on their kind.
    fn devices(&self, call: &Call<'_>, config: &Config, verb: &str) -> ApiResult<()> {
        for (key, value) in config {
            let prefix = without_index(key);
            // Both the new and the old value count.
            let old = self.old.get(key).filter(|_| verb == "modify");
            for value in old.into_iter().chain([value]) {
                match prefix {
                    "serial" if value == "socket" => self.require(call, &["VM.Config.HWType"])?,
                    "serial" => {
                        let text = format!("only root can {verb} '{key}' config for real devices");
                        return Err(ApiError::die(text));
                    }
                    "usb" | "hostpci" => {
                        if prefix == "usb" {
                            self.require(call, &["VM.Config.HWType"])?;
                        }
                        device(call, key, value)?;
                        if prefix == "hostpci" {
                            self.require(call, &["VM.Config.HWType"])?;
                            if propstring::value(value, "romfile").is_some() {
                                let text = "only root@pam can set 'romfile' option";
                                return Err(ApiError::parameter(key, text));
                            }
                        }
                    }
                    "rng" if value.split(',').any(|part| part.ends_with("/dev/hwrng")) => {
                        call.require("/mapping/hwrng", &["Mapping.Use"])?;
                    }
                    "virtiofs" => {
                        self.require(call, &["VM.Config.Disk"])?;
                        let dir = value.split(',').next().unwrap_or("");
                        let dir = dir.strip_prefix("dirid=").unwrap_or(dir);
                        call.require(&format!("/mapping/dir/{dir}"), &["Mapping.Use"])?;
                    }
                    _ if verb != "set" && Kind::Qemu.is_disk(key) => {
                        if value.contains("cloudinit") {
                            self.require(call, &["VM.Config.Cloudinit", "VM.Config.CDROM"])?;
                        } else if value.contains("media=cdrom") {
                            self.require(call, &["VM.Config.CDROM"])?;
                        } else {
                            self.require(call, &["VM.Config.Disk"])?;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Only root@pam may assign a device of the host, unless there is a mapping for it.
fn device(call: &Call<'_>, key: &str, value: &str) -> ApiResult<()> {
    let usb = key.starts_with("usb");
    let parts = call.cluster.parts(Kind::Qemu, key, value);
    if let Some(host) = parts.get("host") {
        if usb && host.eq_ignore_ascii_case("spice") {
            return Ok(());
        }
        let what = if usb { "real" } else { "non-mapped" };
        return Err(ApiError::die(format!(
            "only root can set '{key}' config for {what} devices"
        )));
    }
    match parts.get("mapping") {
        Some(mapping) => {
            let kind = if usb { "usb" } else { "pci" };
            call.require(&format!("/mapping/{kind}/{mapping}"), &["Mapping.Use"])
        }
        None => Err(ApiError::die("either 'host' or 'mapping' must be set.")),
    }
}

impl crate::state::cluster::Cluster {
    /// The keys of a property string in a guest's configuration.
    pub(super) fn parts(&self, kind: Kind, key: &str, value: &str) -> BTreeMap<String, String> {
        key_schemas(&self.schema, kind, key)
            .and_then(|keys| propstring::parse(keys, value).ok())
            .unwrap_or_default()
    }
}
