//! Copies of guests.

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::guests::params::name_key;
use crate::indexed::has_index;
use crate::state::config::Config;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{Feature, is_cloud_init, volume_of};
use crate::state::guest::{Guest, GuestEffect, Kind, check_lock};

/// The source and settings of a copy.
struct Source {
    guest: Guest,
    config: Config,
    from_snapshot: bool,
    full: bool,
}

/// Refuses an impossible copy, in the server's order of checks.
fn check(call: &Call<'_>, kind: Kind) -> ApiResult<Source> {
    let (node, vmid, newid) = (call.owned("node"), call.vmid("vmid"), call.vmid("newid"));
    let cluster = &*call.cluster;
    if let Some(pool) = call
        .text("pool")
        .filter(|pool| !cluster.pools.contains_key(*pool))
    {
        return Err(ApiError::permission(&format!(
            "pool '{pool}' does not exist"
        )));
    }
    let elsewhere = call.text("target").filter(|target| *target != node);
    if let Some(target) = elsewhere {
        cluster.known_node(target)?;
    }
    let storage = call.text("storage");
    if let Some(id) = storage {
        let holder = cluster.enabled_storage(id, &node)?;
        if kind == Kind::Qemu && !holder.holds("images") {
            let text = format!("storage '{id}' does not support vm images");
            return Err(ApiError::parameter("storage", text));
        }
        if let Some(target) = elsewhere {
            cluster.enabled_storage(id, target)?;
            if !holder.shared {
                return Err(ApiError::die(format!(
                    "can't clone to non-shared storage '{id}'"
                )));
            }
        }
    }
    let guest = cluster.guest(kind, &node, vmid)?.clone();
    check_lock(&guest).map_err(ApiError::die)?;
    let existing = cluster.guests.get(&newid);
    if let (Some(other), Kind::Lxc) = (existing, kind) {
        return Err(ApiError::die(other.already_exists_text(newid)));
    }
    let snapshot = match call.text("snapname") {
        Some(name) => match guest.snapshots.get(name) {
            Some(snapshot) => Some((name.to_owned(), snapshot.config.clone())),
            None if kind == Kind::Qemu => {
                return Err(ApiError::die(format!("snapshot '{name}' does not exist")));
            }
            None => Some((name.to_owned(), Config::new())),
        },
        None => None,
    };
    let full = call
        .text("full")
        .map_or(!guest.template(), |full| full == "1");
    if !full {
        for name in ["storage", "format"] {
            if call.params.contains_key(name) {
                let text = format!("parameter '{name}' not allowed for linked clones");
                return Err(ApiError::die(text));
            }
        }
    }
    if let Some((name, _)) = snapshot
        .as_ref()
        .filter(|(name, _)| !guest.snapshots.contains_key(name))
    {
        return Err(ApiError::die(format!("snapshot '{name}' does not exist")));
    }
    let source = Source {
        config: snapshot
            .as_ref()
            .map_or(&guest.config, |(_, config)| config)
            .clone(),
        from_snapshot: snapshot.is_some(),
        guest,
        full,
    };
    let (local, refusal) = check_volumes(call, kind, &source)?;
    if let (Kind::Lxc, Some(text)) = (kind, &refusal) {
        return Err(ApiError::die(text.clone()));
    }
    if let Some(target) = elsewhere.filter(|_| local) {
        let noun = kind.noun();
        let text = format!("can't clone {noun} to node '{target}' ({noun} uses local storage)");
        return Err(ApiError::die(text));
    }
    if existing.is_some() {
        return Err(ApiError::die(format!(
            "unable to create VM {newid}: config file already exists"
        )));
    }
    let copies_memory = full && source.guest.running() && !source.from_snapshot;
    if kind == Kind::Qemu && copies_memory && source.config.contains_key("tpmstate0") {
        return Err(ApiError::die("cannot clone TPM state while VM is running"));
    }
    match refusal {
        Some(text) => Err(ApiError::die(text)),
        None => Ok(source),
    }
}

/// Whether a volume is on local storage, and the refusal of the first volume that cannot be copied,
/// which other refusals precede.
fn check_volumes(
    call: &Call<'_>,
    kind: Kind,
    source: &Source,
) -> ApiResult<(bool, Option<String>)> {
    let cluster = &*call.cluster;
    let (node, storage) = (call.owned("node"), call.text("storage"));
    let Source {
        guest,
        config,
        from_snapshot,
        full,
    } = source;
    let mut local = false;
    let mut refusal = None;
    for (key, value) in config {
        if !kind.is_disk(key) || key.starts_with("unused") {
            continue;
        }
        let volid = volume_of(value);
        let Some((own, _)) = volid.split_once(':') else {
            if kind == Kind::Lxc && volid.starts_with('/') {
                let what = match volid.starts_with("/dev/") {
                    true => "device",
                    false => "bind",
                };
                let text = format!("unable to clone mountpoint '{key}' (type {what})");
                return Err(ApiError::die(text));
            }
            continue;
        };
        local |= !cluster
            .storages
            .get(storage.unwrap_or(own))
            .is_some_and(|s| s.shared);
        let cloud_init = is_cloud_init(value);
        if value.contains("media=cdrom") && !cloud_init {
            continue;
        }
        if kind == Kind::Lxc && *full && guest.running() && !from_snapshot {
            let text = "Full clone of a running container is only possible from a snapshot";
            return Err(ApiError::die(text));
        }
        let copied = *full || cloud_init || key == "tpmstate0";
        let feature = if copied {
            Feature::Copy
        } else {
            Feature::Clone
        };
        if refusal.is_none() && !cluster.volume_has(feature, kind, &node, volid, *from_snapshot) {
            let of = if *from_snapshot { " a snapshot of" } else { "" };
            refusal = Some(match (kind, copied) {
                (Kind::Lxc, false) => {
                    format!("Linked clone feature for '{volid}' is not available")
                }
                // The copy of a container starts, and its task fails at the volume.
                (Kind::Lxc, true) => continue,
                (Kind::Qemu, copied) => {
                    let what = if copied { "Full" } else { "Linked" };
                    format!("{what} clone feature is not supported for{of} '{volid}' ({key})")
                }
            });
        }
    }
    Ok((local, refusal))
}

/// The value of a setting that must differ between a copy and its source; any other unchanged.
fn with_new_identity(call: &mut Call<'_>, key: &str, value: String) -> String {
    if has_index(key, "net") {
        let old = value.split(',').find_map(|part| {
            let (_, mac) = part.split_once('=')?;
            (mac.matches(':').count() == 5).then_some(mac)
        });
        let mac = call.cluster.mac();
        return old.map_or_else(|| value.clone(), |old| value.replace(old, &mac));
    }
    match key {
        "smbios1" => {
            let uuid = format!("uuid={}", call.cluster.uuid());
            let rest = value.split(',').filter(|part| !part.starts_with("uuid="));
            std::iter::once(uuid.as_str())
                .chain(rest)
                .collect::<Vec<_>>()
                .join(",")
        }
        "vmgenid" => call.cluster.uuid(),
        _ => value,
    }
}

pub(super) fn clone(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let Source {
        guest: source,
        config: from,
        full,
        ..
    } = check(call, kind)?;
    let (node, vmid, newid) = (call.owned("node"), call.vmid("vmid"), call.vmid("newid"));
    let task = if kind == Kind::Lxc {
        "vzclone"
    } else {
        "qmclone"
    };
    let storage = call.text("storage").map(str::to_owned);
    let format = call.text("format").map(str::to_owned);
    call.cluster.uncommitted_volumes.clear();
    let mut config = Config::new();
    let mut lines = Vec::new();
    for (key, value) in from {
        if key.starts_with("unused") || key == "template" {
            continue;
        }
        let cloud_init = kind == Kind::Qemu && is_cloud_init(&value);
        let owned = kind.is_disk(&key)
            && value.contains(':')
            && (cloud_init || !value.contains("media=cdrom"));
        let value = if owned {
            let copied = full || cloud_init || key == "tpmstate0";
            lines.push(format!(
                "create {} clone of drive {key} ({})",
                if copied { "full" } else { "linked" },
                volume_of(&value)
            ));
            let copy = if copied {
                call.cluster.copy_disk(
                    kind,
                    &node,
                    newid,
                    &value,
                    storage.as_deref(),
                    format.as_deref(),
                )
            } else {
                call.cluster.link_disk(&node, newid, &value)
            };
            match copy {
                Ok(value) => value,
                Err(error) => {
                    call.cluster.remove_uncommitted();
                    return Ok(call.fail(task, vmid, format!("clone failed: {error}")));
                }
            }
        } else {
            with_new_identity(call, &key, value)
        };
        config.insert(key, value);
    }
    let name = call.text(name_key(kind)).map(str::to_owned);
    let name = match kind {
        Kind::Qemu => {
            let own = source.config.get("name").cloned();
            let own = own.unwrap_or_else(|| vmid.to_string());
            Some(name.unwrap_or_else(|| format!("Copy-of-VM-{own}")))
        }
        // A container keeps the name of its source.
        Kind::Lxc => name,
    };
    if let Some(name) = name {
        config.insert(name_key(kind).into(), name);
    }
    if let Some(description) = call.text("description") {
        config.insert("description".into(), description.to_owned());
    }
    let target = call.text("target").unwrap_or(&node).to_owned();
    let mut guest = Guest::new(kind, &target, config);
    // The source of a virtual machine's copy has a lock that several copies share; a container is
    // locked exclusively.
    let (lock, source_lock) = match kind {
        Kind::Qemu => ("clone", None),
        Kind::Lxc => ("create", Some("disk")),
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
    call.cluster.guests.insert(newid, guest);
    if let (Some(source), Some(lock)) = (call.cluster.guests.get_mut(&vmid), source_lock) {
        source.lock = Some(lock.into());
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
