//! Snapshots of guests.

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::state::cluster::guests::lock;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{Feature, volume_of};
use crate::state::guest::{GuestEffect, Kind, check_lock};

pub(super) fn list(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let mut rows: Vec<Value> = guest
        .snapshots
        .iter()
        .map(|(name, snapshot)| {
            let mut row = json!({
                "name": name, "snaptime": snapshot.time, "description": snapshot.description.as_deref().unwrap_or(""),
            });
            if let Some(parent) = &snapshot.parent {
                row["parent"] = json!(parent);
            }
            if kind == Kind::Qemu {
                row["vmstate"] = json!(u8::from(snapshot.vmstate));
            }
            row
        })
        .collect();
    let mut here = json!({
        "name": "current", "description": "You are here!", "digest": guest.digest(),
        "running": u8::from(guest.running()),
    });
    if let Some(parent) = &guest.parent {
        here["parent"] = json!(parent);
    }
    rows.push(here);
    Ok(Reply::data(rows))
}

pub(super) fn create(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let reserved = match kind {
        Kind::Qemu => name == "current" || name.eq_ignore_ascii_case("pending"),
        Kind::Lxc => name == "current" || name == "vzdump" || name.eq_ignore_ascii_case("pending"),
    };
    if reserved {
        let name = name.to_ascii_lowercase();
        return Err(ApiError::die(format!(
            "unable to use snapshot name '{name}' (reserved name)"
        )));
    }
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzsnapshot"
    } else {
        "qmsnapshot"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if guest.template() {
        let error = "you can't take a snapshot if it's a template";
        return Ok(call.fail(task, vmid, error.to_owned()));
    }
    if guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot name '{name}' already used")));
    }
    if !call
        .cluster
        .has_feature(Feature::Snapshot, kind, &node, &guest.config, false)
    {
        return Ok(call.fail(task, vmid, "snapshot feature is not available".to_owned()));
    }
    let lines = guest
        .config
        .iter()
        .filter(|(key, value)| {
            kind.is_disk(key) && value.contains(':') && !value.contains("media=cdrom")
        })
        .map(|(key, value)| format!("snapshotting 'drive-{key}' ({})", volume_of(value)))
        .collect();
    let effect = GuestEffect::Snapshot {
        name,
        description: call.text("description").map(str::to_owned),
        vmstate: call.flag("vmstate"),
    };
    lock(call.cluster, vmid, "snapshot");
    Ok(call.start(task, vmid, 1.0, lines, Effect::Guest(vmid, effect)))
}

pub(super) fn delete(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzdelsnapshot"
    } else {
        "qmdelsnapshot"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot '{name}' does not exist")));
    }
    lock(call.cluster, vmid, "snapshot-delete");
    let effect = GuestEffect::DeleteSnapshot { name };
    Ok(call.start(task, vmid, 1.0, Vec::new(), Effect::Guest(vmid, effect)))
}

pub(super) fn config(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let snapshot = guest
        .snapshots
        .get(&name)
        .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?;
    let mut row = call.cluster.config_json(kind, &snapshot.config);
    row.insert("snaptime".into(), json!(snapshot.time));
    if let Some(description) = &snapshot.description {
        row.insert("description".into(), json!(description));
    }
    if let Some(parent) = &snapshot.parent {
        row.insert("parent".into(), json!(parent));
    }
    Ok(Reply::data(row))
}

pub(super) fn edit(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    call.cluster.guest(kind, &node, vmid)?;
    let description = call.text("description").map(str::to_owned);
    let snapshot = call
        .cluster
        .guests
        .get_mut(&vmid)
        .and_then(|guest| guest.snapshots.get_mut(&name))
        .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?;
    if description.is_some() {
        snapshot.description = description;
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn rollback(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzrollback"
    } else {
        "qmrollback"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot '{name}' does not exist")));
    }
    let lines = guest
        .config
        .values()
        .filter_map(|value| value.split_once(":vm-").map(|_| volume_of(value)))
        .map(|volume| format!("rolling back volume '{volume}'"))
        .collect();
    let effect = GuestEffect::Rollback {
        name,
        start: call.flag("start"),
    };
    lock(call.cluster, vmid, "rollback");
    Ok(call.start(task, vmid, 1.0, lines, Effect::Guest(vmid, effect)))
}
