//! Virtual machines and containers.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use super::{Call, Reply, agent, cluster, ha, rights, snapshots};
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::guest::{Change, Config, Guest, GuestEffect, Kind, as_new_disk, check_lock, volume_of};
use crate::world::{Effect, World};

/// Parameters of create and change calls that are no configuration.
const NOT_CONFIG: [&str; 26] = [
    "node",
    "vmid",
    "start",
    "pool",
    "unique",
    "storage",
    "archive",
    "force",
    "bwlimit",
    "live-restore",
    "ha-managed",
    "import-working-storage",
    "digest",
    "delete",
    "revert",
    "skiplock",
    "background_delay",
    "ostemplate",
    "password",
    "ssh-public-keys",
    "ignore-unpack-errors",
    "restore",
    "newid",
    "full",
    "snapname",
    "target",
];

pub(super) fn guests(call: &mut Call<'_>, kind: Kind, rest: &str) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    let lxc = kind == Kind::Lxc;
    Some(match (call.method, rest) {
        (Get, "") => guest_list(call, kind),
        (Post, "") => create(call, kind),
        (Delete, "/{vmid}") => destroy(call, kind),
        (Get, "/{vmid}/config") => config(call, kind),
        (Put, "/{vmid}/config") => configure(call, kind),
        (Post, "/{vmid}/config") => configure_later(call, kind),
        (Get, "/{vmid}/pending") => pending(call, kind),
        (Get, "/{vmid}/status/current") => current(call, kind),
        (Post, "/{vmid}/status/start") => start(call, kind),
        (Post, "/{vmid}/status/stop") => power(
            call,
            kind,
            if lxc { "vzstop" } else { "qmstop" },
            1.0,
            lxc,
            GuestEffect::Stop,
        ),
        (Post, "/{vmid}/status/shutdown") => power(
            call,
            kind,
            if lxc { "vzshutdown" } else { "qmshutdown" },
            2.0,
            lxc,
            GuestEffect::Stop,
        ),
        (Post, "/{vmid}/status/reboot") => power(
            call,
            kind,
            if lxc { "vzreboot" } else { "qmreboot" },
            2.0,
            true,
            GuestEffect::Reboot,
        ),
        (Post, "/{vmid}/status/reset") => {
            power(call, kind, "qmreset", 0.5, true, GuestEffect::Reset)
        }
        (Post, "/{vmid}/status/suspend") => {
            let to_disk = call.flag("todisk");
            let name = if lxc {
                "vzsuspend"
            } else if to_disk {
                "qmsuspend"
            } else {
                "qmpause"
            };
            power(
                call,
                kind,
                name,
                1.0,
                true,
                GuestEffect::Suspend { to_disk },
            )
        }
        (Post, "/{vmid}/status/resume") => power(
            call,
            kind,
            if lxc { "vzresume" } else { "qmresume" },
            0.5,
            false,
            GuestEffect::Resume,
        ),
        (Post, "/{vmid}/clone") => clone(call, kind),
        (Post, "/{vmid}/template") => template(call, kind),
        (Get, "/{vmid}/snapshot") => snapshots::list(call, kind),
        (Post, "/{vmid}/snapshot") => snapshots::create(call, kind),
        (Delete, "/{vmid}/snapshot/{snapname}") => snapshots::delete(call, kind),
        (Get, "/{vmid}/snapshot/{snapname}/config") => snapshots::config(call, kind),
        (Put, "/{vmid}/snapshot/{snapname}/config") => snapshots::edit(call, kind),
        (Post, "/{vmid}/snapshot/{snapname}/rollback") => snapshots::rollback(call, kind),
        (Put, "/{vmid}/resize") => resize(call, kind),
        (Put, "/{vmid}/unlink") => unlink(call, kind),
        (Post, "/{vmid}/move_disk") => move_disk(call, kind, "qmmove", "disk", "target-disk"),
        (Post, "/{vmid}/move_volume") => {
            move_disk(call, kind, "move_volume", "volume", "target-volume")
        }
        (Post, "/{vmid}/migrate") => migrate(call, kind),
        (Get, "/{vmid}/rrddata") => rrd(call, kind),
        (Get, "/{vmid}/interfaces") => agent::container_interfaces(call),
        (Post, "/{vmid}/agent") => agent::handle(call, ""),
        (_, path) => match path.strip_prefix("/{vmid}/agent/") {
            Some(command) => {
                let command = command.to_owned();
                agent::handle(call, &command)
            }
            None => return None,
        },
    })
}

fn rrd(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    Ok(cluster::samples(
        call,
        guest.memory(),
        guest.disk_size(),
        guest.cpus(),
    ))
}

pub(super) fn guest_list(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let node = call.owned("node");
    let full = call.flag("full");
    let rows = call
        .world
        .guests
        .iter()
        .filter(|(_, guest)| guest.kind == kind && guest.node == node)
        .filter(|(vmid, _)| call.may(&format!("/vms/{vmid}"), "VM.Audit"))
        .map(|(vmid, guest)| {
            let mut row = call.world.guest_json(*vmid, guest);
            if !full {
                row.remove("qmpstatus");
            }
            Value::Object(row)
        });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn config_params(call: &Call<'_>) -> Config {
    call.params
        .iter()
        .filter(|(key, _)| !NOT_CONFIG.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
        .collect()
}

pub(super) fn create(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let noun = kind.noun();
    let restore = call.text("archive").is_some() || call.flag("restore");
    if let Some(pool) = call.text("pool")
        && !call.world.pools.contains_key(pool)
    {
        return Err(ApiError::permission(&format!(
            "pool '{pool}' does not exist"
        )));
    }
    if let Some(other) = call.world.guests.get(&vmid) {
        if !(restore && call.flag("force")) {
            return Err(ApiError::die(format!(
                "unable to {} {noun} {vmid} - {} {vmid} already exists on node '{}'",
                if restore { "restore" } else { "create" },
                other.kind.noun(),
                other.node
            )));
        }
        call.world.guests.remove(&vmid);
        call.world
            .volumes
            .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
    }
    let task = match (kind, restore) {
        (Kind::Qemu, false) => "qmcreate",
        (Kind::Qemu, true) => "qmrestore",
        (Kind::Lxc, false) => "vzcreate",
        (Kind::Lxc, true) => "vzrestore",
    };
    let mut given = config_params(call);
    let mut lines = Vec::new();
    let source = match kind {
        Kind::Qemu => call.text("archive"),
        Kind::Lxc => call.text("ostemplate"),
    }
    .map(str::to_owned);
    if let Some(source) = source.as_deref().filter(|_| restore) {
        let key = call.world.volume_key(&node, source);
        let storage = call.text("storage");
        let saved = call
            .world
            .volumes
            .get(&key)
            .and_then(|volume| volume.saved.clone());
        for (key, value) in saved.unwrap_or_default() {
            let value = if kind.is_disk(&key) {
                as_new_disk(&value, storage).unwrap_or(value)
            } else {
                value
            };
            given.entry(key).or_insert(value);
        }
    }
    if kind == Kind::Lxc && !given.contains_key("rootfs") {
        let storage = call.text("storage").unwrap_or("local-lvm");
        given.insert("rootfs".into(), format!("{storage}:4"));
    }
    for (key, value) in &given {
        let storage = volume_of(value).split_once(':').map(|(storage, _)| storage);
        if let Some(storage) = storage.filter(|_| kind.is_disk(key)) {
            call.world.storage(storage)?;
        }
    }
    if let Some(source) = source.filter(|source| source.contains(':')) {
        let key = call.world.volume_key(&node, &source);
        if !call.world.volumes.contains_key(&key) {
            let error =
                format!("unable to create {noun} {vmid} - volume '{source}' does not exist");
            return Ok(call.fail(task, vmid, error));
        }
        lines.push(format!("extracting archive '{source}'"));
    }
    let config = match call.world.build(kind, &node, vmid, &given) {
        Ok((config, made)) => {
            lines.splice(0..0, made);
            config
        }
        Err(error) => {
            return Ok(call.fail(
                task,
                vmid,
                format!("unable to create {noun} {vmid} - {error}"),
            ));
        }
    };
    let mut guest = Guest::new(kind, &node, config);
    guest.lock = Some("create".into());
    guest.pool = call.text("pool").map(str::to_owned);
    call.world.guests.insert(vmid, guest);
    let effect = GuestEffect::Created {
        start: call.flag("start"),
    };
    Ok(call.start(task, vmid, 2.0, lines, Effect::Guest(vmid, effect)))
}

pub(super) fn destroy(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    if guest.config.get("protection").is_some_and(|p| p == "1") {
        return Err(ApiError::die(format!(
            "can't remove {noun} {vmid} - protection mode enabled"
        )));
    }
    let task = if kind == Kind::Lxc {
        "vzdestroy"
    } else {
        "qmdestroy"
    };
    if call.world.ha_resource(vmid).is_some() && !call.flag("purge") {
        return Err(ApiError::die(format!(
            "unable to remove {noun} {vmid} - used in HA resources and purge parameter not set."
        )));
    }
    if guest.running() && !(kind == Kind::Lxc && call.flag("force")) {
        return Err(ApiError::die(match kind {
            Kind::Qemu => format!("VM {vmid} is running - destroy failed"),
            Kind::Lxc => format!("unable to destroy CT {vmid} - container is running"),
        }));
    }
    if let (Err(error), false) = (check_lock(guest), call.flag("skiplock")) {
        return Ok(call.fail(task, vmid, error));
    }
    let lines = guest
        .config
        .iter()
        .filter(|(key, value)| {
            kind.is_disk(key) && value.contains(':') && !value.contains("media=cdrom")
        })
        .map(|(_, value)| {
            let name = volume_of(value)
                .split_once(':')
                .map_or("", |(_, name)| name);
            format!("  Logical volume \"{name}\" successfully removed.")
        })
        .collect();
    let force = call.flag("force");
    if let Some(guest) = call.world.guests.get_mut(&vmid) {
        if force && kind == Kind::Lxc {
            guest.started = None;
        }
        if call.params.contains_key("skiplock") {
            guest.lock = None;
        }
    }
    Ok(call.start(
        task,
        vmid,
        1.0,
        lines,
        Effect::Guest(
            vmid,
            GuestEffect::Destroy {
                purge: call.flag("purge"),
            },
        ),
    ))
}

pub(super) fn config(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let config = match call.text("snapshot") {
        Some(name) => guest
            .snapshots
            .get(name)
            .map(|snapshot| snapshot.config.clone())
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None if call.flag("current") => guest.config.clone(),
        None => guest.planned(),
    };
    let mut row = call.world.config_json(kind, &config);
    row.insert("digest".into(), json!(guest.digest()));
    if let Some(parent) = &guest.parent {
        row.insert("parent".into(), json!(parent));
    }
    if let Some(lock) = &guest.lock {
        row.insert("lock".into(), json!(lock));
    }
    Ok(Reply::data(row))
}

pub(super) fn change(call: &Call<'_>, kind: Kind) -> ApiResult<Change> {
    call.root_only("skiplock")?;
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let list = |name: &str| -> Vec<String> {
        call.text(name)
            .map(|text| split_list(text).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let change = Change {
        set: config_params(call),
        delete: list("delete"),
        revert: list("revert"),
        digest: call.text("digest").map(str::to_owned),
        skip_lock: call.flag("skiplock"),
    };
    if change.is_empty() {
        return Err(ApiError::die("no options specified"));
    }
    call.world.check_change(kind, &change)?;
    rights::configure(call, kind)?;
    call.world.guest(kind, &node, vmid)?;
    Ok(change)
}

pub(super) fn configure(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    call.world.configure(vmid, &change).map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

pub(super) fn configure_later(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    if let Err(error) = rights::in_task(call) {
        return Ok(call.fail("qmconfig", vmid, error.message.trim_end().to_owned()));
    }
    let lines = change
        .set
        .iter()
        .map(|(key, value)| format!("update VM {vmid}: -{key} {value}"))
        .collect();
    Ok(call.start(
        "qmconfig",
        vmid,
        0.5,
        lines,
        Effect::Guest(vmid, GuestEffect::Configure(change)),
    ))
}

pub(super) fn pending(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let mut config = guest.config.clone();
    config.insert("digest".into(), guest.digest());
    let values = call.world.config_json(kind, &config);
    let planned = guest
        .pending
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
        .collect();
    let waiting = call.world.config_json(kind, &planned);
    let mut rows = Vec::new();
    for (key, value) in &values {
        let mut row = json!({ "key": key, "value": value });
        match guest.pending.get(key) {
            Some(None) => row["delete"] = json!(1),
            Some(Some(_)) => row["pending"] = waiting.get(key).cloned().unwrap_or_default(),
            None => {}
        }
        rows.push(row);
    }
    for (key, value) in &waiting {
        if !values.contains_key(key) {
            rows.push(json!({ "key": key, "pending": value }));
        }
    }
    Ok(Reply::data(rows))
}

pub(super) fn current(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let mut row = call.world.guest_json(vmid, guest);
    let mut ha = json!({ "managed": 0 });
    if let Some(resource) = call.world.ha_resource(vmid) {
        ha["managed"] = json!(1);
        for key in ["state", "group"] {
            if let Some(value) = resource.get(key) {
                ha[key] = value.clone();
            }
        }
    }
    row.insert("ha".into(), ha);
    if kind == Kind::Qemu {
        if guest.has_agent() {
            row.insert("agent".into(), json!(1));
        }
        if guest.running() {
            row.insert("running-qemu".into(), json!("10.1.2"));
            row.insert("running-machine".into(), json!("pc-i440fx-10.1+pve0"));
        }
    }
    Ok(Reply::data(row))
}

pub(super) fn start(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    let task = if kind == Kind::Lxc {
        "vzstart"
    } else {
        "qmstart"
    };
    if kind == Kind::Lxc && guest.running() {
        return Err(ApiError::die(format!("CT {vmid} already running")));
    }
    let suspended = guest.lock.as_deref() == Some("suspended");
    let mut error = if suspended || call.flag("skiplock") {
        None
    } else {
        check_lock(guest).err()
    };
    if error.is_none() && guest.running() {
        error = Some(format!("{noun} {vmid} already running"));
    }
    if error.is_none() && guest.template() {
        error = Some(format!(
            "you can't start a {} if it's a template",
            noun.to_lowercase()
        ));
    }
    let managed = call.world.ha_state(vmid).is_some();
    match error {
        Some(error) => Ok(call.fail(task, vmid, error)),
        None if managed => Ok(ha::hand_on(call, vmid, "hastart", "started")),
        None => Ok(call.start(
            task,
            vmid,
            1.5,
            Vec::new(),
            Effect::Guest(vmid, GuestEffect::Start),
        )),
    }
}

pub(super) fn power(
    call: &mut Call<'_>,
    kind: Kind,
    task: &str,
    seconds: f64,
    must_run: bool,
    effect: GuestEffect,
) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    if must_run && !guest.running() {
        return Err(ApiError::die(format!("{} {vmid} not running", kind.noun())));
    }
    let resuming = matches!(effect, GuestEffect::Resume);
    if resuming && !guest.running() && guest.lock.as_deref() != Some("suspended") {
        return Err(ApiError::die(format!("{} {vmid} not running", kind.noun())));
    }
    if let (Err(error), false, false) = (check_lock(guest), resuming, call.flag("skiplock")) {
        return Ok(call.fail(task, vmid, error));
    }
    let stops = matches!(effect, GuestEffect::Stop);
    if stops && call.world.ha_state(vmid).is_some() {
        return Ok(ha::hand_on(call, vmid, "hastop", "stopped"));
    }
    Ok(call.start(task, vmid, seconds, Vec::new(), Effect::Guest(vmid, effect)))
}

pub(super) fn clone(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, newid) = (call.owned("node"), call.vmid("vmid"), call.vmid("newid"));
    let source = call.world.guest(kind, &node, vmid)?.clone();
    if call.world.guests.contains_key(&newid) {
        return Err(ApiError::die(format!(
            "unable to create {} {newid}: config file already exists",
            kind.noun()
        )));
    }
    check_lock(&source).map_err(ApiError::die)?;
    let task = if kind == Kind::Lxc {
        "vzclone"
    } else {
        "qmclone"
    };
    let full = call
        .text("full")
        .map_or(!source.template(), |full| full == "1");
    let from = match call.text("snapname") {
        Some(name) => source
            .snapshots
            .get(name)
            .map(|snapshot| snapshot.config.clone())
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None => source.config.clone(),
    };
    if !full && !source.template() {
        return Ok(call.fail(
            task,
            vmid,
            "Linked clone feature is not supported for this drive".into(),
        ));
    }
    let storage = call.text("storage").map(str::to_owned);
    if let Some(storage) = &storage {
        call.world.storage(storage)?;
    }
    call.world.made.clear();
    let mut config = Config::new();
    let mut lines = Vec::new();
    for (key, value) in from {
        if key.starts_with("unused") || matches!(key.as_str(), "template" | "protection") {
            continue;
        }
        let owned = kind.is_disk(&key) && value.contains(':') && !value.contains("media=cdrom");
        let value = if owned {
            lines.push(format!(
                "create {} clone of drive {key} ({})",
                if full { "full" } else { "linked" },
                volume_of(&value)
            ));
            match call
                .world
                .copy_disk(kind, &node, newid, &value, storage.as_deref())
            {
                Ok(value) => value,
                Err(error) => {
                    call.world.unmake();
                    return Ok(call.fail(task, vmid, format!("clone failed: {error}")));
                }
            }
        } else if crate::validate::in_family(&key, "net") {
            let old = value.split(',').find_map(|part| {
                let (_, mac) = part.split_once('=')?;
                (mac.matches(':').count() == 5).then_some(mac)
            });
            let mac = call.world.mac();
            old.map_or_else(|| value.clone(), |old| value.replace(old, &mac))
        } else if key == "smbios1" {
            format!("uuid={}", call.world.uuid())
        } else if key == "vmgenid" {
            call.world.uuid()
        } else {
            value
        };
        config.insert(key, value);
    }
    let name_key = if kind == Kind::Lxc {
        "hostname"
    } else {
        "name"
    };
    let name = call.text(name_key).map_or_else(
        || {
            format!(
                "Copy-of-{}-{}",
                kind.noun(),
                source.name(vmid).replace(' ', "-")
            )
        },
        str::to_owned,
    );
    config.insert(name_key.into(), name);
    if let Some(description) = call.text("description") {
        config.insert("description".into(), description.to_owned());
    }
    let target = call.text("target").unwrap_or(&node).to_owned();
    let mut guest = Guest::new(kind, &target, config);
    let (lock, source_lock) = match kind {
        Kind::Qemu => ("clone", "clone"),
        Kind::Lxc => ("create", "disk"),
    };
    guest.lock = Some(lock.into());
    guest.pool = call.text("pool").map(str::to_owned);
    let files = match call.text("snapname") {
        Some(name) => source.snapshots.get(name).and_then(|s| s.files.clone()),
        None => source.inside.as_ref().map(|inside| inside.files.clone()),
    };
    if let Some(files) = files {
        guest.inside(newid).files = files;
    }
    call.world.guests.insert(newid, guest);
    if let Some(source) = call.world.guests.get_mut(&vmid) {
        source.lock = Some(source_lock.into());
    }
    let seconds = if full { 4.0 } else { 1.0 };
    lines.push("transferred 100.00% of the data".into());
    Ok(call.start(
        task,
        vmid,
        seconds,
        lines,
        Effect::Guest(newid, GuestEffect::Cloned { source: vmid }),
    ))
}

pub(super) fn template(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    if guest.template() {
        return Err(ApiError::die("you can't convert a template to a template"));
    }
    if guest.running() {
        return Err(ApiError::die(match kind {
            Kind::Qemu => "you can't convert a VM to template if VM is running",
            Kind::Lxc => "you can't convert a CT to template if the CT is running",
        }));
    }
    if !guest.snapshots.is_empty() {
        return Err(ApiError::die(format!(
            "unable to create template, because {noun} contains snapshots"
        )));
    }
    if kind == Kind::Lxc {
        call.world
            .apply_to_guest(vmid, GuestEffect::Template)
            .map_err(ApiError::die)?;
        return Ok(Reply::data(Value::Null));
    }
    Ok(call.start(
        "qmtemplate",
        vmid,
        1.0,
        Vec::new(),
        Effect::Guest(vmid, GuestEffect::Template),
    ))
}

pub(super) fn lock(world: &mut World, vmid: u32, why: &str) {
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.lock = Some(why.to_owned());
    }
}

pub(super) fn resize(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let (disk, size) = (call.owned("disk"), call.owned("size"));
    let guest = call.world.guest(kind, &node, vmid)?;
    if let Some(digest) = call.text("digest")
        && digest != guest.digest()
    {
        return Err(ApiError::die(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    if !guest.config.contains_key(&disk) {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    }
    let effect = GuestEffect::Resize { disk, size };
    // Releases before 8.0 resized a disk without a task.
    if crate::schema::is_task(call.method, call.path, call.endpoint) {
        return Ok(call.start("resize", vmid, 0.5, Vec::new(), Effect::Guest(vmid, effect)));
    }
    call.world
        .apply_to_guest(vmid, effect)
        .map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

pub(super) fn move_disk(
    call: &mut Call<'_>,
    kind: Kind,
    task: &str,
    key: &str,
    target: &str,
) -> ApiResult<Reply> {
    let (node, vmid, disk) = (call.owned("node"), call.vmid("vmid"), call.owned(key));
    let guest = call.world.guest(kind, &node, vmid)?;
    if !guest.config.contains_key(&disk) {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    }
    let storage = call.owned("storage");
    let target = call.text(target).map(str::to_owned);
    if target.is_none() {
        call.world.storage(&storage)?;
    }
    let lines = vec![format!("create full clone of drive {disk}")];
    let effect = GuestEffect::Move {
        disk,
        storage,
        target,
    };
    Ok(call.start(task, vmid, 3.0, lines, Effect::Guest(vmid, effect)))
}

pub(super) fn migrate(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, target) = (call.owned("node"), call.vmid("vmid"), call.owned("target"));
    let guest = call.world.guest(kind, &node, vmid)?;
    if target == node {
        return Err(ApiError::parameter("target", "target is local node."));
    }
    let task = if kind == Kind::Lxc {
        "vzmigrate"
    } else {
        "qmigrate"
    };
    if guest.running() && kind == Kind::Qemu && !call.flag("online") {
        return Err(ApiError::die("can't migrate running VM without --online"));
    }
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !call.world.node(&target).is_some_and(|node| node.online) {
        return Err(ApiError::die(format!(
            "target node '{target}' is not online"
        )));
    }
    if call.world.ha_state(vmid).is_some() {
        return Ok(ha::hand_on_to(call, vmid, &target));
    }
    lock(call.world, vmid, "migrate");
    let lines = vec![
        format!(
            "starting migration of {} {vmid} to node '{target}'",
            kind.noun()
        ),
        "migration finished successfully (duration 00:00:03)".into(),
    ];
    Ok(call.start(
        task,
        vmid,
        3.0,
        lines,
        Effect::Guest(vmid, GuestEffect::Migrate { target }),
    ))
}

/// The same for many guests: those named, or all that it makes sense for.
pub(super) fn every_guest(call: &mut Call<'_>, task: &str, action: &str) -> ApiResult<Reply> {
    let node = call.text("node").map(str::to_owned);
    let target = call.owned("target");
    if action == "migrate" && !call.world.node(&target).is_some_and(|node| node.online) {
        return Ok(call.fail(task, "", format!("target node '{target}' is not online")));
    }
    let wanted = super::records::listed(call.params.get("vms"));
    let effect = || match action {
        "start" => GuestEffect::Start,
        "suspend" => GuestEffect::Suspend { to_disk: false },
        "migrate" => GuestEffect::Migrate {
            target: target.clone(),
        },
        _ => GuestEffect::Stop,
    };
    let fits = |guest: &Guest| match action {
        "migrate" => guest.node != target,
        _ => guest.running() == (action != "start") && !guest.template(),
    };
    let guests: Vec<(u32, GuestEffect)> = call
        .world
        .guests
        .iter()
        .filter(|(vmid, guest)| {
            node.as_ref().is_none_or(|node| guest.node == *node)
                && (wanted.is_empty() || wanted.contains(&vmid.to_string()))
                && fits(guest)
        })
        .map(|(vmid, _)| (*vmid, effect()))
        .collect();
    let lines = guests
        .iter()
        .map(|(vmid, _)| format!("{action} guest {vmid}"))
        .collect();
    Ok(call.start(task, "", 2.0, lines, Effect::Each(guests)))
}

/// Takes disks out of a configuration; with `force` their volumes go, too.
fn unlink(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let keys: Vec<String> = split_list(&call.owned("idlist"))
        .map(str::to_owned)
        .collect();
    let guest = call.world.guest(kind, &node, vmid)?;
    let volumes: Vec<String> = keys
        .iter()
        .filter_map(|key| guest.config.get(key))
        .map(|value| volume_of(value).to_owned())
        .collect();
    let change = Change {
        delete: keys,
        ..Change::default()
    };
    call.world.check_change(kind, &change)?;
    call.world.configure(vmid, &change).map_err(ApiError::die)?;
    if call.flag("force") {
        for volume in volumes {
            let key = call.world.volume_key(&node, &volume);
            call.world.volumes.remove(&key);
            if let Some(guest) = call.world.guests.get_mut(&vmid) {
                guest.config.retain(|_, value| volume_of(value) != volume);
            }
        }
    }
    Ok(Reply::data(Value::Null))
}
