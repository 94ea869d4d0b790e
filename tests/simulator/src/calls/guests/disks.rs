//! Resizing, moving and detaching disks.

use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::schema::is_task;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{Feature, is_cloud_init, parse_volume_name, volume_of};
use crate::state::guest::{Change, Guest, GuestEffect, Kind, check_lock};

const MODIFIED: &str = "detected modified configuration - file changed by other user? Try again.";

/// Whether a snapshot of the guest uses the volume.
fn in_snapshot(guest: &Guest, volid: &str) -> bool {
    let mut values = guest.snapshots.values().flat_map(|s| s.config.values());
    values.any(|value| volume_of(value) == volid)
}

/// The error for a mount point that does not exist: an empty value is not a mount point.
fn no_mount_point() -> ApiError {
    let missing = "property is missing and it is not optional".to_owned();
    ApiError {
        errors: [
            ("mp".to_owned(), missing.clone()),
            ("volume".to_owned(), missing),
        ]
        .into(),
        ..ApiError::die("format error")
    }
}

fn is_cdrom(value: &str) -> bool {
    value.contains("media=cdrom") && !is_cloud_init(value)
}

/// The requested size in bytes.
fn new_size(size: &str, current_size: u64) -> Option<u64> {
    let plain = size.strip_prefix('+').unwrap_or(size);
    let bytes = crate::state::guest::volumes::parse_size(plain)?;
    if size.starts_with('+') {
        current_size.checked_add(bytes)
    } else {
        Some(bytes)
    }
}

pub(super) fn resize(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let (disk, size) = (call.owned("disk"), call.owned("size"));
    // Releases before 8.0 resized a disk without a task. A virtual machine's task makes all checks
    // itself.
    let later = is_task(call.method, call.path, call.endpoint);
    let checked = resizable(call, kind, &node, vmid, &disk, &size);
    if let Err(error) = checked {
        if later && kind == Kind::Qemu {
            let text = error.message.trim_end().to_owned();
            return Ok(call.fail("resize", vmid, text));
        }
        return Err(error);
    }
    let effect = GuestEffect::Resize { disk, size };
    if later {
        return Ok(call.start("resize", vmid, 0.5, Vec::new(), Effect::Guest(vmid, effect)));
    }
    call.cluster
        .apply_to_guest(vmid, effect)
        .map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

fn resizable(
    call: &Call<'_>,
    kind: Kind,
    node: &str,
    vmid: u32,
    disk: &str,
    size: &str,
) -> ApiResult<()> {
    let guest = call.cluster.guest(kind, node, vmid)?;
    let stale = call
        .text("digest")
        .is_some_and(|digest| digest != guest.digest());
    let Some(value) = guest.config.get(disk) else {
        check_lock(guest).map_err(ApiError::die)?;
        return Err(match kind {
            Kind::Qemu => ApiError::die(format!("disk '{disk}' does not exist")),
            Kind::Lxc => no_mount_point(),
        });
    };
    match kind {
        Kind::Qemu => {
            if stale {
                return Err(ApiError::die(
                    "checksum mismatch (file change by other user?)",
                ));
            }
            check_lock(guest).map_err(ApiError::die)?;
            if value.contains("media=cdrom") {
                return Err(ApiError::die("you can't resize a cdrom"));
            }
        }
        Kind::Lxc => {
            check_lock(guest).map_err(ApiError::die)?;
            if stale {
                return Err(ApiError::die(MODIFIED));
            }
            let key = call.cluster.volume_key(node, volume_of(value));
            let current_size = call
                .cluster
                .volumes
                .get(&key)
                .map_or(0, |volume| volume.size);
            match new_size(size, current_size) {
                Some(now) if now < current_size => {
                    return Err(ApiError::die("unable to shrink disk size"));
                }
                Some(now) if now == current_size => {
                    return Err(ApiError::die("disk is already at specified size"));
                }
                _ => {}
            }
        }
    }
    // For a virtual machine the task reports a missing privilege on the storage.
    match volume_of(value).split_once(':') {
        Some((storage, _)) => {
            call.require(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])
        }
        None => Ok(()),
    }
}

pub(super) fn move_disk(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let lxc = kind == Kind::Lxc;
    let (task, key, target_key) = if lxc {
        ("move_volume", "volume", "target-volume")
    } else {
        ("qmmove", "disk", "target-disk")
    };
    let (node, vmid, disk) = (call.owned("node"), call.vmid("vmid"), call.owned(key));
    let both = |text: &str| {
        let errors = ["storage", "target-vmid"].map(|name| (name.to_owned(), text.to_owned()));
        Err(ApiError::parameters(errors.into()))
    };
    let (storage, target) = (
        call.text("storage").map(str::to_owned),
        call.text("target-vmid"),
    );
    match (storage, target) {
        (Some(_), Some(_)) if lxc => Err(ApiError::die(
            "either set storage or target-vmid, but not both",
        )),
        (Some(_), Some(_)) => both("either set 'storage' or 'target-vmid', but not both"),
        (None, None) => both("both 'storage' and 'target-vmid' missing, either needs to be set"),
        (None, Some(_)) => {
            let target = call.vmid("target-vmid");
            let target_disk = call.text(target_key).unwrap_or(&disk).to_owned();
            reassignable(call, kind, &disk, target, &target_disk)?;
            let id = format!("{vmid}-{disk}>{target}-{target_disk}");
            let lines = vec![format!(
                "reassign disk '{disk}' from {noun} '{vmid}' as '{target_disk}' to {noun} '{target}'",
                noun = kind.noun()
            )];
            let effect = GuestEffect::Reassign {
                disk,
                target,
                target_disk,
            };
            Ok(call.start(task, id, 1.0, lines, Effect::Guest(vmid, effect)))
        }
        (Some(storage), None) => {
            movable(call, kind, &node, vmid, &disk, &storage)?;
            let lines = vec![format!("create full clone of drive {disk}")];
            let effect = GuestEffect::Move {
                disk,
                storage,
                format: call.text("format").map(str::to_owned),
                delete: call.flag("delete"),
            };
            Ok(call.start(task, vmid, 3.0, lines, Effect::Guest(vmid, effect)))
        }
    }
}

/// Checks that a disk can move to another storage.
fn movable(
    call: &Call<'_>,
    kind: Kind,
    node: &str,
    vmid: u32,
    disk: &str,
    storage: &str,
) -> ApiResult<()> {
    let guest = call.cluster.guest(kind, node, vmid)?;
    let die = |text: &str| Err(ApiError::die(text));
    check_lock(guest).map_err(ApiError::die)?;
    let stale = call
        .text("digest")
        .is_some_and(|digest| digest != guest.digest());
    if kind == Kind::Lxc {
        if guest.running() {
            return die("cannot move volumes of a running container");
        }
        if disk.starts_with("unused") {
            return Err(ApiError::die(format!(
                "cannot move volume '{disk}', only configured volumes can be moved to another storage"
            )));
        }
        let Some(value) = guest.config.get(disk) else {
            return Err(no_mount_point());
        };
        if call.flag("delete") && in_snapshot(guest, volume_of(value)) {
            return die("you can't move a volume with snapshots and delete the source");
        }
        return if stale { die(MODIFIED) } else { Ok(()) };
    }
    if stale {
        return die(MODIFIED);
    }
    let Some(value) = guest.config.get(disk) else {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    };
    if is_cdrom(value) {
        return die("you can't move a cdrom");
    }
    let volid = volume_of(value);
    let own = volid.split_once(':').map_or("", |(own, _)| own);
    let key = call.cluster.volume_key(node, volid);
    let format = call
        .cluster
        .volumes
        .get(&key)
        .map(|volume| volume.format.as_str());
    let requested = call.text("format");
    if own == storage && (requested.is_none() || format.is_none() || requested == format) {
        return die("you can't move to the same storage with same format");
    }
    if !call.cluster.enabled_storage(storage, node)?.holds("images") {
        let text = format!("storage '{storage}' does not support vm images");
        return Err(ApiError::parameter("storage", text));
    }
    if call.flag("delete") && in_snapshot(guest, volid) {
        return die("you can't move a disk with snapshots and delete the source");
    }
    Ok(())
}

/// Checks that a disk can move to another guest.
fn reassignable(
    call: &Call<'_>,
    kind: Kind,
    disk: &str,
    target: u32,
    target_disk: &str,
) -> ApiResult<()> {
    let vmid = call.vmid("vmid");
    let cluster = &*call.cluster;
    let lxc = kind == Kind::Lxc;
    let noun = kind.noun();
    let die = |text: String| Err(ApiError::die(text));
    if !lxc && target == vmid {
        let text = "must be different than source VMID to reassign disk";
        return Err(ApiError::parameter("target-vmid", text));
    }
    if lxc && (disk == "rootfs" || target_disk == "rootfs") {
        return die("Cannot move to/from 'rootfs'".into());
    }
    if lxc && disk.starts_with("unused") && !target_disk.starts_with("unused") {
        return die("Moving an unused volume to a used one is not possible".into());
    }
    let source = cluster.guest(kind, call.text("node").unwrap_or(""), vmid)?;
    let Some(other) = cluster.guests.get(&target) else {
        let what = if lxc { "target CT" } else { "target VM" };
        return die(format!("could not find {what} {target}"));
    };
    if source.node != other.node {
        let many = if lxc { "containers" } else { "VMs" };
        return die(format!(
            "Both {many} need to be on the same node ({} != {})",
            source.node, other.node
        ));
    }
    let other = cluster.guest(kind, &other.node, target)?;
    check_lock(source).map_err(ApiError::die)?;
    check_lock(other).map_err(ApiError::die)?;
    if source.template() || other.template() {
        let what = if lxc {
            "volumes from or to template CT"
        } else {
            "disks from or to template VMs"
        };
        return die(format!("Can't move {what}"));
    }
    let long = if lxc { "Container" } else { "VM" };
    for (name, vmid, guest) in [("digest", vmid, source), ("target-digest", target, other)] {
        if call
            .text(name)
            .is_some_and(|digest| digest != guest.digest())
        {
            return die(format!("{long} {vmid}: {MODIFIED}"));
        }
    }
    let Some(value) = source.config.get(disk) else {
        return die(match kind {
            Kind::Qemu => format!("Disk '{disk}' for VM '{vmid}' does not exist"),
            Kind::Lxc => format!("volume '{disk}' for container '{vmid}' does not exist"),
        });
    };
    if other.config.contains_key(target_disk) {
        return die(match kind {
            Kind::Qemu => {
                format!("Target disk key '{target_disk}' is already in use for VM '{target}'")
            }
            Kind::Lxc => {
                format!(
                    "Target volume key '{target_disk}' is already in use for container '{target}'"
                )
            }
        });
    }
    let volid = volume_of(value);
    if is_cdrom(value) {
        return die(format!(
            "CD drive contents can't be moved to another {noun}"
        ));
    }
    if !volid.contains(':') {
        return die(match kind {
            Kind::Qemu => format!("Volume '{volid}' not managed by PVE"),
            Kind::Lxc => "Cannot move a bindmount or device mount to another container".into(),
        });
    }
    if in_snapshot(source, volid) {
        return die(match kind {
            Kind::Qemu => "Can't move disk used by a snapshot to another VM".into(),
            Kind::Lxc => "Cannot move volume used by a snapshot to another container".into(),
        });
    }
    if !cluster.volume_has(Feature::Rename, kind, &source.node, volid, false) {
        let to = if lxc { "container" } else { "VM" };
        return die(format!(
            "Storage does not support moving of this disk to another {to}"
        ));
    }
    if source.running() && !disk.starts_with("unused") {
        return die(match kind {
            Kind::Qemu => {
                "Cannot move disk to another VM while the source VM is running - detach first".into()
            }
            Kind::Lxc => {
                "Cannot move in-use volume while the source CT is running - detach or shutdown first".into()
            }
        });
    }
    Ok(())
}

/// Removes disks from a configuration; with `force` also their volumes.
pub(super) fn unlink(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let keys: Vec<String> = split_list(&call.owned("idlist"))
        .map(str::to_owned)
        .collect();
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let volumes: Vec<String> = keys
        .iter()
        .filter_map(|key| guest.config.get(key))
        .map(|value| volume_of(value).to_owned())
        .collect();
    let change = Change {
        delete: keys,
        ..Change::default()
    };
    call.cluster.check_change(kind, &change)?;
    call.cluster
        .configure(vmid, &change)
        .map_err(ApiError::die)?;
    if call.flag("force") {
        for volume in volumes {
            let owner = parse_volume_name(volume.split_once(':').map_or("", |(_, name)| name)).1;
            if owner != Some(vmid) {
                continue;
            }
            let key = call.cluster.volume_key(&node, &volume);
            call.cluster.volumes.remove(&key);
            if let Some(guest) = call.cluster.guests.get_mut(&vmid) {
                guest.config.retain(|_, value| volume_of(value) != volume);
            }
        }
    }
    Ok(Reply::data(Value::Null))
}
