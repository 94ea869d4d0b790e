//! Migration of guests to another node.

use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::ha;
use crate::state::cluster::Cluster;
use crate::state::cluster::guests::lock;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{is_cloud_init, parse_volume_name, volume_of};
use crate::state::guest::{Guest, GuestEffect, Kind, check_lock};

pub(super) fn migrate(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, target) = (call.owned("node"), call.vmid("vmid"), call.owned("target"));
    if target == node {
        return Err(ApiError::parameter("target", "target is local node."));
    }
    call.cluster.known_node(&target)?;
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let lxc = kind == Kind::Lxc;
    let task = if lxc { "vzmigrate" } else { "qmigrate" };
    let (online, restart) = (call.flag("online"), call.flag("restart"));
    if !lxc {
        check_lock(guest).map_err(ApiError::die)?;
    }
    if guest.running() && !online && !(lxc && restart) {
        return Err(ApiError::die(if lxc {
            "can't migrate running container without --online or --restart"
        } else {
            "can't migrate running VM without --online"
        }));
    }
    if !lxc && !call.params.contains_key("targetstorage") {
        for (key, value) in &guest.config {
            let storage = volume_of(value).split_once(':').map(|(storage, _)| storage);
            if let Some(storage) = storage.filter(|_| kind.is_disk(key)) {
                call.cluster.enabled_storage(storage, &node)?;
                call.cluster.enabled_storage(storage, &target)?;
            }
        }
    }
    if call.cluster.ha_state(vmid).is_some() {
        return Ok(ha::request_ha_move(call, vmid, &target));
    }
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    let problems = problems(call, guest, vmid, &target);
    if !problems.is_empty() {
        let mut lines: Vec<String> = problems
            .iter()
            .map(|text| format!("ERROR: {text}"))
            .collect();
        lines.push("ERROR: migration aborted (duration 00:00:00)".into());
        let effect = Effect::Fail("migration aborted".into());
        return Ok(call.start(task, vmid, 0.5, lines, effect));
    }
    let storages = match kind {
        Kind::Qemu => call.owned("targetstorage"),
        Kind::Lxc => call.owned("target-storage"),
    };
    lock(call.cluster, vmid, "migrate");
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
        Effect::Guest(vmid, GuestEffect::Migrate { target, storages }),
    ))
}

/// The error that a started migration fails with.
fn problems(call: &Call<'_>, guest: &Guest, vmid: u32, target: &str) -> Vec<String> {
    let cluster = &*call.cluster;
    if !cluster.node(target).is_some_and(|node| node.online) {
        return vec!["Can't connect to destination address using public key".into()];
    }
    let mut found = Vec::new();
    for (volid, value, _) in local_volumes(cluster, guest) {
        let fault = |text: &str| format!("can't migrate local disk '{volid}': {text}");
        if guest.kind == Kind::Lxc {
            if guest.running() && !call.flag("restart") {
                found.push(format!(
                    "unable to migrate local mount point '{volid}' while CT is running"
                ));
            }
            continue;
        }
        if is_cloud_init(&value) {
            continue;
        }
        if value.contains("media=cdrom") {
            found.push(fault("local cdrom image"));
            continue;
        }
        let name = volid.split_once(':').map_or("", |(_, name)| name);
        if parse_volume_name(name).1 != Some(vmid) {
            found.push(fault("owned by other VM"));
            continue;
        }
        let kept = guest.snapshots.values().flat_map(|s| s.config.values());
        let snapshots = kept.into_iter().any(|value| volume_of(value) == volid);
        let key = cluster.volume_key(&guest.node, &volid);
        let format = cluster
            .volumes
            .get(&key)
            .map_or("raw", |volume| volume.format.as_str());
        let storage = volid
            .split_once(':')
            .and_then(|(id, _)| cluster.storages.get(id));
        let carries = format == "qcow2" || storage.is_some_and(|s| s.kind == "zfspool");
        if snapshots && guest.running() {
            found.push(fault(
                "online storage migration not possible if non-replicated snapshot exists",
            ));
        } else if snapshots && !carries {
            found.push(fault("non-migratable snapshot exists"));
        } else if guest.running() && !call.flag("with-local-disks") {
            found.push(fault(
                "can't live migrate attached local disks without with-local-disks option",
            ));
        }
        if cluster.is_base_in_use(&volid) {
            found.push(fault("referenced by linked clone(s)"));
        }
    }
    found
}

/// Volumes of a guest that exist on this node only, with the values and keys that name them.
fn local_volumes(cluster: &Cluster, guest: &Guest) -> Vec<(String, String, String)> {
    let local = |volid: &str| {
        volid
            .split_once(':')
            .and_then(|(storage, _)| cluster.storages.get(storage))
            .is_some_and(|storage| !storage.shared)
    };
    let disks = guest
        .config
        .iter()
        .filter(|(key, _)| guest.kind.is_disk(key));
    disks
        .filter(|(_, value)| local(volume_of(value)) && !value.contains("shared=1"))
        .map(|(key, value)| (volume_of(value).to_owned(), value.clone(), key.clone()))
        .collect()
}

/// The possible targets of a guest.
pub(super) fn preconditions(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(kind, &node, vmid)?;
    check_lock(guest).map_err(ApiError::die)?;
    let cluster = &*call.cluster;
    let lxc = kind == Kind::Lxc;
    let consequences = ha::move_consequences(cluster, vmid);
    let mut allowed = Vec::new();
    let mut blocked = Map::new();
    for other in cluster.nodes.iter().filter(|other| other.name != node) {
        let mut missing: Vec<&str> = guest
            .config
            .iter()
            .filter(|(key, _)| kind.is_disk(key))
            .filter_map(|(_, value)| Some(volume_of(value).split_once(':')?.0))
            .filter(|storage| cluster.enabled_storage(storage, &other.name).is_err())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let mut against = Map::new();
        if !missing.is_empty() && !lxc {
            against.insert("unavailable_storages".into(), json!(missing));
        }
        let blocking = consequences
            .blocked
            .iter()
            .filter(|(node, ..)| *node == other.name);
        let blocking: Vec<Value> = blocking
            .map(|(_, sid, cause)| json!({ "sid": sid, "cause": cause }))
            .collect();
        if !blocking.is_empty() {
            against.insert("blocking-ha-resources".into(), Value::Array(blocking));
        }
        if against.is_empty() {
            allowed.push(other.name.as_str());
            // The newest code has an empty reason where there should be one.
            if !lxc && cluster.schema.release().major >= 9 {
                blocked.insert(other.name.clone(), json!({}));
            }
        } else {
            blocked.insert(other.name.clone(), Value::Object(against));
        }
    }
    let mut row = json!({ "running": u8::from(guest.running()) });
    if !consequences.along.is_empty() {
        let along = consequences
            .along
            .iter()
            .map(|other| ha::sid_of(cluster, *other));
        row["dependent-ha-resources"] = along.collect();
    }
    if lxc {
        row["allowed-nodes"] = json!(allowed);
        row["not-allowed-nodes"] = Value::Object(blocked);
        return Ok(Reply::data(row));
    }
    // Older releases checked the nodes for stopped machines only.
    if cluster.schema.release().major >= 9 || !guest.running() {
        row["allowed_nodes"] = json!(allowed);
        row["not_allowed_nodes"] = Value::Object(blocked);
    }
    let disks = local_volumes(cluster, guest).into_iter().map(|(volid, value, key)| {
        let size = cluster.volumes.get(&cluster.volume_key(&node, &volid));
        let unused = key.starts_with("unused");
        let mut disk = json!({
            "volid": volid, "size": size.map_or(0, |volume| volume.size), "cdrom": u8::from(value.contains("media=cdrom")),
            "is_unused": u8::from(unused), "drivename": key, "is_attached": u8::from(!unused),
            "is_vmstate": 0, "is_cloudinit": u8::from(is_cloud_init(&value)), "is_tpmstate": u8::from(key == "tpmstate0"),
            "shared": 0, "replicate": 1,
        });
        let kept: Map<String, Value> = guest
            .snapshots
            .iter()
            .filter(|(_, s)| s.config.values().any(|value| volume_of(value) == volid))
            .map(|(name, _)| (name.clone(), json!(1)))
            .collect();
        if !kept.is_empty() {
            disk["referenced_in_snapshot"] = Value::Object(kept);
        }
        disk
    });
    row["local_disks"] = disks.collect();
    let device = |key: &String, value: &String| {
        let prefix = crate::indexed::split_index(key).map(|(prefix, _)| prefix);
        match prefix {
            Some("usb") => !value.contains("spice") && !value.contains("mapping="),
            Some("hostpci") => !value.contains("mapping="),
            Some("serial" | "parallel") => value.as_str() != "socket",
            _ => false,
        }
    };
    let devices = guest
        .config
        .iter()
        .filter(|(key, value)| device(key, value));
    row["local_resources"] = devices.map(|(key, _)| json!(key)).collect();
    let mapped = guest
        .config
        .iter()
        .filter(|(_, value)| value.contains("mapping="));
    row["mapped-resources"] = mapped.map(|(key, _)| json!(key)).collect();
    row["mapped-resource-info"] = json!({});
    row["has-dbus-vmstate"] = json!(1);
    Ok(Reply::data(row))
}
