//! Ceph: services, disks, pools, file systems and flags. At the start, Ceph is installed and empty.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::field;
use crate::state::effect::{Edit, Effect};
use crate::state::records::{Row, Rows};
use crate::state::storage::{GIB, Storage};

const POOLS: &str = "/ceph/pool";

const SYSTEMS: &str = "/ceph/fs";

const OSDS: &str = "/ceph/osd";

const FLAGS: &str = "/ceph/flags";

const VERSION: &str = "19.2.3";

/// The flags of a cluster, and the operations that they prevent.
const ALL_FLAGS: [(&str, &str); 11] = [
    ("nobackfill", "Backfilling is suspended."),
    ("nodeep-scrub", "Deep scrubbing is off."),
    ("nodown", "Failure reports are ignored."),
    ("noin", "Disks that come back stay out."),
    ("noout", "Disks that are down stay in."),
    ("norebalance", "Rebalancing is suspended."),
    ("norecover", "Recovery is suspended."),
    ("noscrub", "Scrubbing is off."),
    ("notieragent", "Cache tiering is suspended."),
    ("noup", "Disks may not start."),
    ("pause", "Reads and writes are paused."),
];

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    if call.path.starts_with("/cluster/ceph/flags") {
        return Some(flags(call));
    }
    let rest = call.path.strip_prefix("/nodes/{node}/ceph/")?.to_owned();
    let parts: Vec<&str> = rest.split('/').collect();
    // Releases before 8 have two spellings of one path.
    Some(match (call.method, parts.as_slice()) {
        (Get, [kind @ ("mon" | "mgr" | "mds")]) => Ok(services(call, kind)),
        (Post, [kind @ ("mon" | "mgr" | "mds"), _]) => add_service(call, kind),
        (Delete, [kind @ ("mon" | "mgr" | "mds"), _]) => remove_service(call, kind),
        (Get, ["pool" | "pools"]) => Ok(pools(call)),
        (Post, ["pool" | "pools"]) => add_pool(call),
        (Get, ["pool", _, "status"] | ["pools", _]) => pool_status(call),
        (Put, ["pool" | "pools", _]) => change_pool(call),
        (Delete, ["pool" | "pools", _]) => remove_pool(call),
        (Get, ["fs"]) => Ok(systems(call)),
        (Post, ["fs", _]) => add_system(call),
        (Delete, ["fs", _]) => remove_system(call),
        (Get, ["osd"]) => Ok(tree(call)),
        (Post, ["osd"]) => add_osd(call),
        (Delete, ["osd", _]) => remove_osd(call),
        (Post, ["osd", _, what @ ("in" | "out")]) => mark_osd(call, *what == "in"),
        _ => return None,
    })
}

fn row(value: Value) -> Row {
    value.as_object().cloned().unwrap_or_default()
}

fn key_of(kind: &str) -> String {
    format!("/ceph/{kind}")
}

/// The id of a service; by default the node's name.
fn service_id(call: &Call<'_>, kind: &str) -> String {
    let name = match kind {
        "mon" => "monid",
        "mgr" => "id",
        _ => "name",
    };
    match call.text(name) {
        Some("localhost") | None => call.owned("node"),
        Some(id) => id.to_owned(),
    }
}

fn services(call: &Call<'_>, kind: &str) -> Reply {
    let rows = call.cluster.rows(&key_of(kind));
    let entries = rows.iter().zip(0u32..).map(|((name, row), rank)| {
        let mut entry = json!({
            "name": name, "host": field(row, "host"), "addr": field(row, "addr"), "direxists": 1, "service": 1,
            "ceph_version": format!("ceph version {VERSION} squid (stable)"), "ceph_version_short": VERSION,
        });
        match kind {
            "mon" => {
                entry["rank"] = json!(rank);
                entry["quorum"] = json!(1);
                entry["state"] = json!("running");
            }
            _ => entry["state"] = json!(if rank == 0 { "active" } else { "standby" }),
        }
        entry
    });
    Reply::data(entries.collect::<Value>())
}

fn add_service(call: &mut Call<'_>, kind: &str) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), service_id(call, kind));
    if call.cluster.entry(&key_of(kind), &id).is_some() {
        let what = match kind {
            "mon" => "monitor",
            "mgr" => "manager",
            _ => "metadata server",
        };
        return Err(ApiError::die(format!("{what} '{id}' already exists")));
    }
    let number = call
        .cluster
        .nodes
        .iter()
        .zip(1..)
        .find(|(member, _)| member.name == node);
    let address = format!("192.0.2.{}", number.map_or(1, |(_, number)| number));
    let row = row(json!({ "host": node, "addr": address }));
    let edit = Edit::Set(key_of(kind), id.clone(), row);
    Ok(call.start(
        &format!("cephcreate{kind}"),
        format!("{kind}.{id}"),
        1.0,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn remove_service(call: &mut Call<'_>, kind: &str) -> ApiResult<Reply> {
    let id = service_id(call, kind);
    if call.cluster.entry(&key_of(kind), &id).is_none() {
        return Err(ApiError::die(format!("no such {kind} id '{id}'")));
    }
    let left = call.cluster.rows(&key_of(kind)).len();
    if kind == "mon" && left == 1 {
        return Err(ApiError::die("can't remove last monitor"));
    }
    let edit = Edit::Remove(key_of(kind), id.clone());
    Ok(call.start(
        &format!("cephdestroy{kind}"),
        format!("{kind}.{id}"),
        1.0,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn pool_row(name: &str, row: &Row) -> Value {
    let number = |key: &str, or: u64| {
        let value = row.get(key).and_then(Value::as_str);
        value.and_then(|text| text.parse().ok()).unwrap_or(or)
    };
    let text = |key: &str, or: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .unwrap_or(or)
            .to_owned()
    };
    let application = text("application", "rbd");
    json!({
        "pool": number("pool", 1), "pool_name": name, "type": "replicated", "size": number("size", 3),
        "min_size": number("min_size", 2), "pg_num": number("pg_num", 128), "pg_num_min": number("pg_num_min", 1),
        "pg_num_final": number("pg_num", 128), "pg_autoscale_mode": text("pg_autoscale_mode", "warn"),
        "crush_rule": 0, "crush_rule_name": text("crush_rule", "replicated_rule"), "bytes_used": 0, "percent_used": 0,
        "application_metadata": { application: {} }, "autoscale_status": {},
    })
}

fn pools(call: &Call<'_>) -> Reply {
    let rows = call.cluster.rows(POOLS).iter();
    Reply::data(
        rows.map(|(name, row)| pool_row(name, row))
            .collect::<Value>(),
    )
}

/// The lowest unused number of this kind.
fn next(rows: &[(String, Row)], key: &str, from: u64) -> u64 {
    let taken = |number: u64| {
        let text = number.to_string();
        rows.iter()
            .any(|(id, row)| *id == text || row.get(key) == Some(&json!(text)))
    };
    (from..).find(|number| !taken(*number)).unwrap_or(from)
}

fn new_pool(call: &Call<'_>, name: &str, application: Option<&str>, taken: &Rows) -> Edit {
    let mut row = crate::calls::records::rows::parameter_row(call, "name");
    let mut rows = call.cluster.rows(POOLS).to_vec();
    rows.extend_from_slice(taken);
    row.insert("pool".into(), json!(next(&rows, "pool", 1).to_string()));
    if let Some(application) = application {
        row.insert("application".into(), json!(application));
    }
    Edit::Set(POOLS.into(), name.to_owned(), row)
}

fn pool_storage(kind: &str, settings: &[(&str, &str)], content: &[&str]) -> Storage {
    Storage {
        kind: kind.to_owned(),
        content: content.iter().map(|c| (*c).to_owned()).collect(),
        shared: true,
        total: 1024 * GIB,
        path: None,
        disabled: false,
        settings: settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn add_pool(call: &mut Call<'_>) -> ApiResult<Reply> {
    let name = call.owned("name");
    if call.cluster.entry(POOLS, &name).is_some() {
        return Err(ApiError::die(format!("pool '{name}' already exists")));
    }
    let mut edits = vec![new_pool(call, &name, None, &Vec::new())];
    if call.flag("add_storages") {
        if call.cluster.storages.contains_key(&name) {
            return Err(ApiError::die(format!(
                "storage ID '{name}' already defined"
            )));
        }
        let storage = pool_storage(
            "rbd",
            &[("pool", &name), ("krbd", "0")],
            &["images", "rootdir"],
        );
        edits.push(Edit::AddStorage(name.clone(), storage));
    }
    Ok(call.start("cephcreatepool", name, 1.0, Vec::new(), Effect::Edit(edits)))
}

fn existing_pool(call: &Call<'_>) -> ApiResult<(String, Row)> {
    let name = call.owned("name");
    match call.cluster.entry(POOLS, &name).cloned() {
        Some(row) => Ok((name, row)),
        None => Err(ApiError::die(format!("pool '{name}' does not exist"))),
    }
}

fn pool_status(call: &Call<'_>) -> ApiResult<Reply> {
    let (name, row) = existing_pool(call)?;
    let pool = pool_row(&name, &row);
    let application = row
        .get("application")
        .and_then(Value::as_str)
        .unwrap_or("rbd");
    let mut status = json!({
        "id": pool["pool"], "name": name, "application": application, "application_list": [application],
        "fast_read": 0, "hashpspool": 1, "nodeep-scrub": 0, "nodelete": 0, "nopgchange": 0, "noscrub": 0,
        "nosizechange": 0, "use_gmt_hitset": 1, "write_fadvise_dontneed": 0, "pgp_num": pool["pg_num"],
        "crush_rule": pool["crush_rule_name"],
    });
    for key in [
        "size",
        "min_size",
        "pg_num",
        "pg_num_min",
        "pg_autoscale_mode",
    ] {
        status[key] = pool[key].clone();
    }
    Ok(Reply::data(status))
}

fn change_pool(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (name, mut row) = existing_pool(call)?;
    row.extend(crate::calls::records::rows::parameter_row(call, "name"));
    let edit = Edit::Set(POOLS.into(), name.clone(), row);
    Ok(call.start(
        "cephsetpool",
        name,
        0.5,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn remove_pool(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (name, _) = existing_pool(call)?;
    let storages: Vec<String> = call
        .cluster
        .storages
        .iter()
        .filter(|(_, storage)| storage.kind == "rbd" && storage.settings.get("pool") == Some(&name))
        .map(|(id, _)| id.clone())
        .collect();
    let used = |id: &String| {
        call.cluster
            .volumes
            .values()
            .any(|volume| volume.storage == *id)
    };
    if let Some(id) = storages
        .iter()
        .find(|id| used(id))
        .filter(|_| !call.flag("force"))
    {
        return Err(ApiError::die(format!(
            "ceph pool '{name}' still in use by storage '{id}'"
        )));
    }
    let mut edits = vec![Edit::Remove(POOLS.into(), name.clone())];
    if call.flag("remove_storages") {
        edits.extend(storages.into_iter().map(Edit::RemoveStorage));
    }
    Ok(call.start(
        "cephdestroypool",
        name,
        1.0,
        Vec::new(),
        Effect::Edit(edits),
    ))
}

fn systems(call: &Call<'_>) -> Reply {
    let rows = call.cluster.rows(SYSTEMS).iter().map(|(name, _)| {
        let id = |pool: String| {
            let row = call.cluster.entry(POOLS, &pool).cloned().unwrap_or_default();
            pool_row(&pool, &row)["pool"].clone()
        };
        let (data, metadata) = (format!("{name}_data"), format!("{name}_metadata"));
        json!({
            "name": name, "data_pool": data, "data_pools": [data], "data_pool_ids": [id(data.clone())],
            "metadata_pool": metadata, "metadata_pool_id": id(metadata.clone()),
        })
    });
    Reply::data(rows.collect::<Value>())
}

fn add_system(call: &mut Call<'_>) -> ApiResult<Reply> {
    let name = call.text("name").unwrap_or("cephfs").to_owned();
    if call.cluster.entry(SYSTEMS, &name).is_some() {
        return Err(ApiError::die(format!(
            "ceph filesystem '{name}' already exists"
        )));
    }
    if call.cluster.rows("/ceph/mds").is_empty() {
        return Err(ApiError::die("no running Metadata Server (MDS) found!"));
    }
    let data = new_pool(call, &format!("{name}_data"), Some("cephfs"), &Vec::new());
    let taken = match &data {
        Edit::Set(_, id, row) => vec![(id.clone(), row.clone())],
        _ => Vec::new(),
    };
    let metadata = new_pool(call, &format!("{name}_metadata"), Some("cephfs"), &taken);
    let mut edits = vec![
        data,
        metadata,
        Edit::Set(SYSTEMS.into(), name.clone(), Row::new()),
    ];
    if call.flag("add-storage") {
        let mut storage = pool_storage(
            "cephfs",
            &[("fs-name", &name)],
            &["vztmpl", "iso", "backup"],
        );
        storage.path = Some(format!("/mnt/pve/{name}"));
        edits.push(Edit::AddStorage(name.clone(), storage));
    }
    Ok(call.start("cephfscreate", name, 1.0, Vec::new(), Effect::Edit(edits)))
}

fn remove_system(call: &mut Call<'_>) -> ApiResult<Reply> {
    let name = call.owned("name");
    if call.cluster.entry(SYSTEMS, &name).is_none() {
        return Err(ApiError::die(format!("no filesystem named '{name}' found")));
    }
    let mut edits = vec![Edit::Remove(SYSTEMS.into(), name.clone())];
    if call.flag("remove-pools") {
        for part in ["data", "metadata"] {
            edits.push(Edit::Remove(POOLS.into(), format!("{name}_{part}")));
        }
    }
    if call.flag("remove-storages") {
        edits.push(Edit::RemoveStorage(name.clone()));
    }
    Ok(call.start("cephdestroyfs", name, 1.0, Vec::new(), Effect::Edit(edits)))
}

/// The disks as a tree of hosts.
fn tree(call: &Call<'_>) -> Reply {
    let hosts: Vec<Value> = call
        .cluster
        .nodes
        .iter()
        .zip(2..)
        .filter_map(|(node, id)| {
            let own: Vec<Value> = call.cluster.rows(OSDS)
                .iter()
                .filter(|(_, row)| field(row, "host") == node.name.as_str())
                .map(|(id, row)| {
                    json!({
                        "id": id, "name": format!("osd.{id}"), "type": "osd", "leaf": 1, "host": node.name,
                        "status": "up", "in": u8::from(field(row, "out") != "1"), "reweight": 1, "crush_weight": 1,
                        "device_class": row.get("crush-device-class").cloned().unwrap_or_else(|| json!("ssd")),
                        "osdtype": "bluestore", "total_space": 1024 * GIB, "bytes_used": 0, "percent_used": 0,
                        "ceph_version": VERSION, "ceph_version_short": VERSION,
                    })
                })
                .collect();
            let host = json!({
                "id": format!("-{id}"), "name": node.name, "type": "host", "leaf": 0, "version": VERSION,
                "children": own,
            });
            (!own.is_empty()).then_some(host)
        })
        .collect();
    let root = json!({
        "leaf": 0,
        "children": [{ "id": "-1", "name": "default", "type": "root", "leaf": 0, "children": hosts }],
    });
    let set: Vec<&str> = call
        .cluster
        .rows(FLAGS)
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    Reply::data(json!({ "flags": set.join(","), "root": root }))
}

fn add_osd(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, device) = (call.owned("node"), call.owned("dev"));
    let list = format!("/nodes/{node}/disks/list");
    let Some(mut disk) = call.cluster.entry(&list, &device).cloned() else {
        return Err(ApiError::die(format!(
            "unable to get device info for '{device}'"
        )));
    };
    if !field(&disk, "used").is_null() {
        return Err(ApiError::die(format!(
            "device '{device}' is already in use"
        )));
    }
    let id = next(call.cluster.rows(OSDS), "id", 0);
    disk.insert("used".into(), json!("LVM"));
    // Numbers are strings here, except the -1 of a disk without one.
    disk.insert("osdid".into(), json!(id.to_string()));
    disk.insert("osdid-list".into(), json!([id.to_string()]));
    let mut row = crate::calls::records::rows::parameter_row(call, "");
    row.insert("host".into(), json!(node));
    row.insert("dev".into(), json!(device));
    let edits = vec![
        Edit::Set(list, device.clone(), disk),
        Edit::Set(OSDS.into(), id.to_string(), row),
    ];
    let name = device.strip_prefix("/dev/").unwrap_or(&device);
    Ok(call.start("cephcreateosd", name, 2.0, Vec::new(), Effect::Edit(edits)))
}

fn existing_osd(call: &Call<'_>) -> ApiResult<(String, Row)> {
    let id = call.owned("osdid");
    match call.cluster.entry(OSDS, &id).cloned() {
        Some(row) => Ok((id, row)),
        None => Err(ApiError::die(format!("no such OSD '{id}'"))),
    }
}

fn remove_osd(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (id, row) = existing_osd(call)?;
    if row.get("out") != Some(&json!("1")) {
        return Err(ApiError::die(format!(
            "osd is in use (up) - osd.{id} has to be taken out first"
        )));
    }
    let list = format!("/nodes/{}/disks/list", call.owned("node"));
    let device = field(&row, "dev").as_str().unwrap_or("");
    let mut edits = vec![Edit::Remove(OSDS.into(), id.clone())];
    if let Some(mut disk) = call.cluster.entry(&list, device).cloned() {
        disk.insert("osdid".into(), json!(-1));
        disk.insert("osdid-list".into(), Value::Null);
        if call.flag("cleanup") {
            disk.insert("used".into(), Value::Null);
        }
        edits.push(Edit::Set(list, device.to_owned(), disk));
    }
    Ok(call.start(
        "cephdestroyosd",
        format!("osd.{id}"),
        1.0,
        Vec::new(),
        Effect::Edit(edits),
    ))
}

fn mark_osd(call: &mut Call<'_>, inside: bool) -> ApiResult<Reply> {
    let (id, mut row) = existing_osd(call)?;
    row.insert("out".into(), json!(if inside { "0" } else { "1" }));
    call.cluster.edit(Edit::Set(OSDS.into(), id, row));
    Ok(Reply::data(Value::Null))
}

fn flags(call: &mut Call<'_>) -> ApiResult<Reply> {
    let one = call.text("flag").map(str::to_owned);
    let set = |call: &Call<'_>, name: &str| u8::from(call.cluster.entry(FLAGS, name).is_some());
    if call.method == Method::Get {
        if let Some(name) = one {
            return Ok(Reply::data(json!(set(call, &name))));
        }
        let rows = ALL_FLAGS.iter().map(
            |(name, text)| json!({ "name": name, "description": text, "value": set(call, name) }),
        );
        return Ok(Reply::data(rows.collect::<Value>()));
    }
    let edit = |name: &str, on: bool| match on {
        true => Edit::Set(FLAGS.into(), name.to_owned(), Row::new()),
        false => Edit::Remove(FLAGS.into(), name.to_owned()),
    };
    if let Some(name) = one {
        let edit = edit(&name, call.flag("value"));
        call.cluster.edit(edit);
        return Ok(Reply::data(Value::Null));
    }
    let edits = ALL_FLAGS
        .iter()
        .filter(|(name, _)| call.params.contains_key(*name))
        .map(|(name, _)| edit(name, call.flag(name)))
        .collect();
    Ok(call.start("cephsetflags", "", 0.5, Vec::new(), Effect::Edit(edits)))
}
