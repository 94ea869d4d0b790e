//! Virtual machines and containers.

pub(crate) mod clone;
pub(crate) mod create;
pub(crate) mod disks;
pub(crate) mod migrate;
pub(crate) mod params;
pub(crate) mod power;

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::guests::params::config_params;
use crate::calls::guests::power::{destroy, no_checkpoint, power, running, start, template};
use crate::calls::{agent, cluster, graphs, ha, snapshots};
use crate::formats::split_list;
use crate::state::cluster::configure::may_configure;
use crate::state::effect::Effect;
use crate::state::guest::volumes::{Feature, volume_of};
use crate::state::guest::{Change, GuestEffect, Kind};

pub(super) fn guests(call: &mut Call<'_>, kind: Kind, rest: &str) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    let lxc = kind == Kind::Lxc;
    if let Some(answer) = elsewhere(call, kind, rest) {
        return Some(answer);
    }
    Some(match (call.method, rest) {
        (Get, "") => guest_list(call, kind),
        (Post, "") => create::create(call, kind),
        (Get, "/{vmid}" | "/{vmid}/status") => {
            let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
            match call.cluster.guest(kind, &node, vmid) {
                Ok(_) => return None,
                Err(error) => Err(error),
            }
        }
        (Delete, "/{vmid}") => destroy(call, kind),
        (Post, "/{vmid}/remote_migrate") => crate::calls::remote::migrate(call, kind),
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
        (Post, "/{vmid}/clone") => clone::clone(call, kind),
        (Post, "/{vmid}/template") => template(call, kind),
        (Get, "/{vmid}/snapshot") => snapshots::list(call, kind),
        (Post, "/{vmid}/snapshot") => snapshots::create(call, kind),
        (Delete, "/{vmid}/snapshot/{snapname}") => snapshots::delete(call, kind),
        (Get, "/{vmid}/snapshot/{snapname}/config") => snapshots::config(call, kind),
        (Put, "/{vmid}/snapshot/{snapname}/config") => snapshots::edit(call, kind),
        (Post, "/{vmid}/snapshot/{snapname}/rollback") => snapshots::rollback(call, kind),
        (Put, "/{vmid}/resize") => disks::resize(call, kind),
        (Put, "/{vmid}/unlink") => disks::unlink(call, kind),
        (Post, "/{vmid}/move_disk" | "/{vmid}/move_volume") => disks::move_disk(call, kind),
        (Get, "/{vmid}/migrate") => migrate::preconditions(call, kind),
        (Get, "/{vmid}/feature") => feature(call, kind),
        (Post, "/{vmid}/migrate") => migrate::migrate(call, kind),
        (Get, "/{vmid}/rrd") => graphs::guest(call, kind),
        (Get, "/{vmid}/rrddata") => rrd(call, kind),
        (Put, "/{vmid}/sendkey") => match running(call, kind) {
            Ok(true) => return None,
            Ok(false) => {
                let vmid = call.vmid("vmid");
                Err(ApiError::die(format!("VM {vmid} not running")))
            }
            Err(error) => Err(error),
        },
        (Post, "/{vmid}/monitor") => match running(call, kind) {
            Ok(true) => Ok(Reply::data("")),
            Ok(false) => {
                let vmid = call.vmid("vmid");
                Ok(Reply::data(format!("ERROR: VM {vmid} not running\n")))
            }
            Err(error) => Err(error),
        },
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

/// A node's answer about a guest that it does not have, for calls that do not read the
/// configuration first.
fn elsewhere(call: &mut Call<'_>, kind: Kind, rest: &str) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let no_file = call.cluster.guest(kind, &node, vmid).err()?.message;
    let no_machine = format!("unable to find configuration file for VM {vmid} on node '{node}'");
    let later = |call: &mut Call<'_>, task, text: &str| {
        let managed = call.cluster.ha_state(vmid).is_some();
        Some(Ok(match rest {
            "/{vmid}/status/start" if managed => {
                ha::request_ha_state(call, vmid, "hastart", "started")
            }
            "/{vmid}/status/stop" | "/{vmid}/status/shutdown" if managed => {
                ha::request_ha_state(call, vmid, "hastop", "stopped")
            }
            _ => call.fail(task, vmid, text.trim_end().to_owned()),
        }))
    };
    let at_once = |text: String| Some(Err(ApiError::die(text)));
    match (kind, call.method, rest) {
        (Kind::Qemu, Post, "/{vmid}/status/start") => later(call, "qmstart", &no_file),
        (Kind::Qemu, Post, "/{vmid}/status/stop") => later(call, "qmstop", &no_machine),
        (Kind::Qemu, Post, "/{vmid}/status/shutdown") => later(call, "qmshutdown", &no_machine),
        (Kind::Qemu, Post, "/{vmid}/snapshot/{snapname}/rollback") => {
            later(call, "qmrollback", &no_file)
        }
        (Kind::Qemu, Delete, "/{vmid}/snapshot/{snapname}") => {
            later(call, "qmdelsnapshot", &no_file)
        }
        (
            Kind::Qemu,
            Post,
            "/{vmid}/status/reboot"
            | "/{vmid}/status/reset"
            | "/{vmid}/status/resume"
            | "/{vmid}/status/suspend"
            | "/{vmid}/clone",
        )
        | (Kind::Qemu, Get, "/{vmid}/feature") => at_once(no_machine),
        (Kind::Lxc, Post, "/{vmid}/status/start") => later(call, "vzstart", &no_file),
        (
            Kind::Lxc,
            Post,
            "/{vmid}/status/stop" | "/{vmid}/status/shutdown" | "/{vmid}/status/suspend",
        ) if call.cluster.ha_state(vmid).is_none() => at_once(format!("CT {vmid} not running")),
        (Kind::Lxc, Post, "/{vmid}/status/stop") => later(call, "vzstop", &no_file),
        (Kind::Lxc, Post, "/{vmid}/status/shutdown") => later(call, "vzshutdown", &no_file),
        (Kind::Lxc, Post, "/{vmid}/status/reboot") => at_once(format!("VM {vmid} not running")),
        (Kind::Lxc, Post, "/{vmid}/status/resume") => later(call, "vzresume", &no_checkpoint(vmid)),
        (Kind::Lxc, Post, "/{vmid}/snapshot/{snapname}/rollback") => {
            later(call, "vzrollback", &no_file)
        }
        (Kind::Lxc, Post, "/{vmid}/snapshot") => later(call, "vzsnapshot", &no_file),
        (Kind::Lxc, Delete, "/{vmid}/snapshot/{snapname}") => {
            later(call, "vzdelsnapshot", &no_file)
        }
        (Kind::Lxc, Get, "/{vmid}/interfaces") => Some(Ok(Reply::data(Value::Null))),
        (_, Put, "/{vmid}/snapshot/{snapname}/config") if call.text("description").is_none() => {
            Some(Ok(Reply::data(Value::Null)))
        }
        _ => None,
    }
}

/// Whether all disks of a guest support copies, linked copies or snapshots, and the nodes with
/// access to them.
fn feature(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let config = match call.text("snapname") {
        Some(name) => guest
            .snapshots
            .get(name)
            .map(|snapshot| &snapshot.config)
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None => &guest.config,
    };
    let feature = match call.text("feature") {
        Some("snapshot") => Feature::Snapshot,
        Some("clone") => Feature::Clone,
        _ => Feature::Copy,
    };
    let snapshot = call.text("snapname").is_some();
    let cluster = &*call.cluster;
    let has = cluster.has_feature(feature, kind, &node, config, snapshot);
    let shared = config
        .iter()
        .filter(|(key, _)| kind.is_disk(key))
        .filter_map(|(_, value)| Some(volume_of(value).split_once(':')?.0))
        .all(|storage| cluster.storages.get(storage).is_some_and(|s| s.shared));
    let nodes = cluster.nodes.iter().map(|other| other.name.as_str());
    let nodes: Vec<&str> = nodes.filter(|name| shared || *name == node).collect();
    let mut row = json!({ "hasFeature": u8::from(has) });
    if kind == Kind::Qemu {
        row["nodes"] = json!(nodes);
    }
    Ok(Reply::data(row))
}

fn rrd(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let vmid = call.vmid("vmid");
    // Every node has the metrics of all guests.
    let guests = &call.cluster.guests;
    let Some(guest) = guests.get(&vmid).filter(|guest| guest.kind == kind) else {
        return Err(graphs::missing(&graphs::guest_file(call, vmid)));
    };
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
        .cluster
        .guests
        .iter()
        .filter(|(_, guest)| guest.kind == kind && guest.node == node)
        .filter(|(vmid, _)| call.may(&format!("/vms/{vmid}"), "VM.Audit"))
        .map(|(vmid, guest)| {
            let mut row = call.cluster.guest_json(*vmid, guest);
            if !full {
                row.remove("qmpstatus");
            }
            Value::Object(row)
        });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn config(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    if call.flag("current") && call.params.contains_key("snapshot") {
        let text = "cannot use 'snapshot' parameter with 'current'";
        let errors = ["current", "snapshot"].map(|name| (name.to_owned(), text.to_owned()));
        return Err(ApiError::parameters(errors.into()));
    }
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let config = match call.text("snapshot") {
        Some(name) => guest
            .snapshots
            .get(name)
            .map(|snapshot| snapshot.config.clone())
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None if call.flag("current") => guest.config.clone(),
        None => guest.planned(),
    };
    let mut row = call.cluster.config_json(kind, &config);
    row.insert("digest".into(), json!(guest.digest()));
    if let Some(snapshot) = call
        .text("snapshot")
        .and_then(|name| guest.snapshots.get(name))
    {
        row.insert("snaptime".into(), json!(snapshot.time));
        if let Some(description) = &snapshot.description {
            row.insert("description".into(), json!(description));
        }
    }
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
        delete: (list("delete").into_iter())
            .map(|key| match key.as_str() {
                "cdrom" => "ide2".to_owned(),
                _ => key,
            })
            .collect(),
        revert: list("revert"),
        digest: call.text("digest").map(str::to_owned),
        skip_lock: call.flag("skiplock"),
    };
    if change.is_empty() {
        return Err(ApiError::die("no options specified"));
    }
    call.cluster.check_change(kind, &change)?;
    if kind == Kind::Qemu {
        create::check_encoded_keys(call)?;
        create::check_drives(&change.set)?;
        create::check_cpu(call, &change.set)?;
    }
    crate::calls::rights::guests::configure(call, kind)?;
    if kind == Kind::Qemu {
        create::check_storages(call, &change.set)?;
        create::check_names(call, kind, &change.set)?;
    }
    call.cluster.guest(kind, &node, vmid)?;
    Ok(change)
}

pub(super) fn configure(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    call.cluster
        .configure(vmid, &change)
        .map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

pub(super) fn configure_later(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    let guest = call.cluster.guest(kind, &call.owned("node"), vmid)?;
    may_configure(guest, &change).map_err(ApiError::die)?;
    if let Err(error) = crate::calls::rights::guests::in_task(call) {
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
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let mut config = guest.config.clone();
    config.insert("digest".into(), guest.digest());
    let values = call.cluster.config_json(kind, &config);
    let planned = guest
        .pending
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
        .collect();
    let waiting = call.cluster.config_json(kind, &planned);
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
    let guest = call.cluster.guest(kind, &node, vmid)?;
    let mut row = call.cluster.guest_json(vmid, guest);
    let mut ha = json!({ "managed": 0 });
    if let Some(resource) =
        (call.cluster.ha_resource(vmid)).filter(|_| call.cluster.ha_state(vmid).is_some())
    {
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
            let supported = json!({
                "pbs-dirty-bitmap": true, "pbs-dirty-bitmap-savevm": true, "pbs-dirty-bitmap-migration": true,
                "query-bitmap-info": true, "backup-max-workers": true, "pbs-masterkey": true,
                "pbs-library-version": "1.5.1",
            });
            row.insert("proxmox-support".into(), supported);
            if guest.config.get("balloon").map(String::as_str) != Some("0") {
                let memory = guest.memory();
                row.insert("balloon".into(), json!(memory));
                row.insert(
                    "ballooninfo".into(),
                    json!({ "actual": memory, "max_mem": memory, "free_mem": memory / 2 }),
                );
                row.insert("freemem".into(), json!(memory / 2));
            }
        }
    }
    Ok(Reply::data(row))
}
