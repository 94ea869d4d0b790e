//! The disks of a node, and what is created on them: directories, LVM, thin pools, ZFS.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::field;
use crate::formats::split_list;
use crate::sample::mix;
use crate::state::cluster::Cluster;
use crate::state::effect::{Edit, Effect};
use crate::state::records::Row;
use crate::state::storage::{GIB, Storage};

/// Path of the disks of a node.
fn disks(node: &str) -> String {
    format!("/nodes/{node}/disks/list")
}

/// Path of the stores of one kind; entries have the name, the disks and the size in bytes.
fn stores(node: &str, kind: &str) -> String {
    format!("/nodes/{node}/disks/{kind}")
}

/// The disks of a new node: one with the system, and three unused.
pub(crate) fn inventory(cluster: &mut Cluster) {
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    for node in names {
        let rows = ["sda", "sdb", "sdc", "nvme0n1"]
            .iter()
            .map(|name| {
                let path = format!("/dev/{name}");
                let flash = name.starts_with("nvme");
                let system = *name == "sda";
                let row = json!({
                    "devpath": path, "size": if system { 256 * GIB } else { 1024 * GIB }, "gpt": u8::from(system),
                    "mounted": 0, "osdid": -1, "osdid-list": null, "health": "PASSED",
                    "model": if flash { "SIMULATED_NVME" } else { "SIMULATED_SSD" },
                    "vendor": if flash { "unknown" } else { "ATA     " },
                    "serial": format!("S{:012X}", mix(&format!("{node} {name}"), 3) >> 16),
                    "wwn": format!("0x5{:015x}", mix(&format!("{node} {name}"), 4) >> 4),
                    "type": if flash { "nvme" } else { "ssd" }, "rpm": 0, "wearout": 99,
                    "by_id_link": format!("/dev/disk/by-id/simulated-{node}-{name}"),
                    "used": if system { json!("BIOS boot") } else { Value::Null },
                });
                (path, row.as_object().cloned().unwrap_or_default())
            })
            .collect();
        cluster.records.insert(disks(&node), rows);
    }
}

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    let rest = call.path.strip_prefix("/nodes/{node}/disks/")?.to_owned();
    let (kind, item) = rest
        .split_once('/')
        .map_or((rest.as_str(), false), |(kind, _)| (kind, true));
    let known = matches!(kind, "directory" | "lvm" | "lvmthin" | "zfs");
    Some(match (call.method, kind, item) {
        (Get, "list", false) => list(call),
        (Get, "smart", false) => smart(call),
        (Post, "initgpt", false) => initialize(call),
        (Put, "wipedisk", false) => wipe(call),
        (Get, _, false) if known => Ok(list_stores(call, kind)),
        (Get, "zfs", true) => zfs_pool(call),
        (Post, _, false) if known => create_store(call, kind),
        (Delete, _, true) if known => remove_store(call, kind),
        _ => return None,
    })
}

fn list(call: &Call<'_>) -> ApiResult<Reply> {
    let requested = call.text("type");
    let found = call
        .cluster
        .rows(&disks(&call.owned("node")))
        .iter()
        .map(|(_, row)| row)
        .filter(|row| match requested {
            Some("unused") => field(row, "used").is_null(),
            Some(_) => field(row, "used").is_null() || field(row, "gpt") == 1,
            None => true,
        })
        .map(|row| {
            // Unused disks have no `used`.
            let kept = row
                .iter()
                .filter(|(key, value)| *key != "used" || !value.is_null());
            let kept = kept.map(|(key, value)| (key.clone(), value.clone()));
            Value::Object(kept.collect())
        });
    Ok(Reply::data(found.collect::<Value>()))
}

/// A disk of the node, by any of its names.
fn disk(call: &Call<'_>, path: &str) -> ApiResult<Row> {
    call.cluster
        .rows(&disks(&call.owned("node")))
        .iter()
        .find(|(key, row)| key == path || field(row, "by_id_link") == path)
        .map(|(_, row)| row.clone())
        .ok_or_else(|| ApiError::die(format!("unable to get device info for '{path}'")))
}

/// The self-assessment of a disk.
fn smart(call: &Call<'_>) -> ApiResult<Reply> {
    let disk = disk(call, &call.owned("disk"))?;
    let health = field(&disk, "health").clone();
    if call.flag("healthonly") {
        return Ok(Reply::data(json!({ "health": health })));
    }
    if field(&disk, "type") == "nvme" {
        let text = format!(
            "Percentage Used: 1%\nHealth: {}\n",
            health.as_str().unwrap_or("")
        );
        return Ok(Reply::data(
            json!({ "health": health, "type": "text", "text": text }),
        ));
    }
    let failing = health != "PASSED";
    let value = if failing { 1 } else { 100 };
    let row = json!({
        "id": "  5", "name": "Reallocated_Sector_Ct", "value": value, "normalized": value, "worst": value,
        "threshold": 10, "raw": if failing { "4096" } else { "0" }, "flags": "PO--CK",
        "fail": if failing { "NOW" } else { "-" },
    });
    Ok(Reply::data(
        json!({ "health": health, "type": "ata", "attributes": [row] }),
    ))
}

impl Cluster {
    /// Sets the self-assessment of a node's disk.
    pub(crate) fn set_disk_health(&mut self, node: &str, device: &str, health: &str) {
        let rows = self.records.get_mut(&disks(node));
        for (path, row) in rows.into_iter().flatten() {
            if path == device {
                row.insert("health".to_owned(), json!(health));
            }
        }
    }
}

/// The state of a pool's device.
fn device_state(call: &Call<'_>, device: &str) -> &'static str {
    let broken = disk(call, device).is_ok_and(|disk| field(&disk, "health") != "PASSED");
    if broken { "FAULTED" } else { "ONLINE" }
}

/// The state of a pool with these devices.
fn pool_state(call: &Call<'_>, row: &Row) -> &'static str {
    match devices(row).any(|device| device_state(call, device) != "ONLINE") {
        true => "DEGRADED",
        false => "ONLINE",
    }
}

fn unused(call: &Call<'_>, path: &str) -> ApiResult<Row> {
    let disk = disk(call, path)?;
    if field(&disk, "used").is_null() {
        return Ok(disk);
    }
    Err(ApiError::die(format!("device '{path}' is already in use")))
}

/// The change of a disk to this use.
fn edited_disk(call: &Call<'_>, mut disk: Row, used: Option<&str>, gpt: bool) -> Edit {
    let path = field(&disk, "devpath").as_str().unwrap_or("").to_owned();
    disk.insert("used".into(), json!(used));
    disk.insert("gpt".into(), json!(u8::from(gpt)));
    disk.insert("mounted".into(), json!(u8::from(used == Some("mounted"))));
    Edit::Set(disks(&call.owned("node")), path, disk)
}

/// The path without `/dev/`.
fn device_name(path: &str) -> &str {
    path.strip_prefix("/dev/").unwrap_or(path)
}

fn initialize(call: &mut Call<'_>) -> ApiResult<Reply> {
    let path = call.owned("disk");
    let disk = unused(call, &path)?;
    let edit = edited_disk(call, disk, None, true);
    Ok(call.start(
        "diskinit",
        device_name(&path),
        0.5,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn wipe(call: &mut Call<'_>) -> ApiResult<Reply> {
    let path = call.owned("disk");
    let disk = disk(call, &path)?;
    if matches!(
        field(&disk, "used").as_str(),
        Some("mounted" | "LVM" | "ZFS" | "BIOS boot")
    ) {
        let error = format!("error wiping '{path}': it is in use");
        return Ok(call.fail("wipedisk", device_name(&path), error));
    }
    let edit = edited_disk(call, disk, None, false);
    Ok(call.start(
        "wipedisk",
        device_name(&path),
        0.5,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn create_store(call: &mut Call<'_>, kind: &str) -> ApiResult<Reply> {
    let (node, name) = (call.owned("node"), call.owned("name"));
    let key = stores(&node, kind);
    if call.cluster.entry(&key, &name).is_some() {
        return Err(ApiError::die(match kind {
            "directory" => format!("a systemd mount unit for '{name}' already exists"),
            "zfs" => format!("pool '{name}' already exists on node '{node}'"),
            _ => format!("volume group with name '{name}' already exists on node '{node}'"),
        }));
    }
    let adds = call.flag("add_storage");
    if adds && call.cluster.storages.contains_key(&name) {
        return Err(ApiError::die(format!(
            "storage ID '{name}' already defined"
        )));
    }
    let paths = match kind {
        "zfs" => call.owned("devices"),
        _ => call.owned("device"),
    };
    let mut edits = Vec::new();
    let (mut devices, mut size) = (Vec::new(), 0);
    for path in split_list(&paths) {
        let disk = unused(call, path)?;
        size += field(&disk, "size").as_u64().unwrap_or(0);
        let used = match kind {
            "directory" => "mounted",
            "zfs" => "ZFS",
            _ => "LVM",
        };
        edits.push(edited_disk(call, disk, Some(used), kind != "lvm"));
        devices.push(path.to_owned());
    }
    let count = devices.len();
    let usable = match call.text("raidlevel") {
        Some("mirror") => size / u64::try_from(count.max(1)).unwrap_or(1),
        Some("raid10") => size / 2,
        _ => size,
    };
    let filesystem = call.text("filesystem").unwrap_or("ext4");
    let row = json!({ "devices": devices, "size": usable, "filesystem": filesystem });
    let row = row.as_object().cloned().unwrap_or_default();
    edits.push(Edit::Set(key, name.clone(), row));
    if adds {
        let storage = new_storage(kind, &node, &name, usable);
        edits.push(Edit::AddStorage(name.clone(), storage));
    }
    let task = match kind {
        "directory" => "dircreate",
        "lvm" => "lvmcreate",
        "lvmthin" => "lvmthincreate",
        _ => "zfscreate",
    };
    Ok(call.start(task, name, 2.0, Vec::new(), Effect::Edit(edits)))
}

/// The storage on a new store.
fn new_storage(kind: &str, node: &str, name: &str, total: u64) -> Storage {
    let (storage, content): (_, &[&str]) = match kind {
        "directory" => (
            "dir",
            &["images", "rootdir", "iso", "vztmpl", "backup", "snippets"],
        ),
        "zfs" => ("zfspool", &["images", "rootdir"]),
        other => (other, &["images", "rootdir"]),
    };
    let mut settings = std::collections::BTreeMap::from([("nodes".to_owned(), node.to_owned())]);
    match kind {
        "zfs" => settings.insert("pool".to_owned(), name.to_owned()),
        "lvm" | "lvmthin" => settings.insert("vgname".to_owned(), name.to_owned()),
        _ => settings.insert("is_mountpoint".to_owned(), "1".to_owned()),
    };
    if kind == "lvmthin" {
        settings.insert("thinpool".to_owned(), name.to_owned());
    }
    Storage {
        kind: storage.to_owned(),
        content: content.iter().map(|c| (*c).to_owned()).collect(),
        shared: false,
        total,
        path: (kind == "directory").then(|| format!("/mnt/pve/{name}")),
        disabled: false,
        settings,
    }
}

fn remove_store(call: &mut Call<'_>, kind: &str) -> ApiResult<Reply> {
    let (node, name) = (call.owned("node"), call.owned("name"));
    let key = stores(&node, kind);
    let found = call.cluster.entry(&key, &name);
    let task = match kind {
        "directory" => "dirremove",
        "lvm" => "lvmremove",
        "lvmthin" => "lvmthinremove",
        _ => "zfsremove",
    };
    let Some(row) = found.cloned() else {
        return Ok(call.fail(task, &name, format!("no such {kind} '{name}'")));
    };
    let mut edits = vec![Edit::Remove(key, name.clone())];
    if call.flag("cleanup-disks") {
        for path in field(&row, "devices").as_array().into_iter().flatten() {
            let disk = disk(call, path.as_str().unwrap_or(""))?;
            edits.push(edited_disk(call, disk, None, false));
        }
    }
    if call.flag("cleanup-config") {
        edits.push(Edit::RemoveStorage(name.clone()));
    }
    Ok(call.start(task, name, 1.0, Vec::new(), Effect::Edit(edits)))
}

fn list_stores(call: &Call<'_>, kind: &str) -> Reply {
    let node = call.owned("node");
    let rows = call.cluster.rows(&stores(&node, kind)).iter();
    if kind == "lvm" {
        let groups: Vec<Value> = rows
            .map(|(name, row)| {
                let parts: Vec<Value> = devices(row)
                    .map(|device| json!({ "name": device, "size": field(row, "size"), "free": field(row, "size"), "leaf": 1 }))
                    .collect();
                json!({
                    "name": name, "size": field(row, "size"), "free": field(row, "size"), "lvcount": 0, "leaf": 0, "children": parts,
                })
            })
            .collect();
        return Reply::data(json!({ "leaf": 0, "children": groups }));
    }
    let rows = rows.map(|(name, row)| {
        let size = field(row, "size").as_u64().unwrap_or(0);
        match kind {
            "directory" => json!({
                "path": format!("/mnt/pve/{name}"), "device": devices(row).next(), "type": field(row, "filesystem"),
                "options": "defaults", "unitfile": format!("/etc/systemd/system/mnt-pve-{name}.mount"),
            }),
            "lvmthin" => json!({
                "lv": name, "vg": name, "lv_size": size, "used": 0, "metadata_size": size / 1_000, "metadata_used": 0,
            }),
            _ => json!({
                "name": name, "size": size, "alloc": 0, "free": size, "frag": 0, "dedup": 1, "health": pool_state(call, row),
            }),
        }
    });
    Reply::data(rows.collect::<Value>())
}

fn devices(row: &Row) -> impl Iterator<Item = &str> {
    let devices = row.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().filter_map(Value::as_str)
}

fn zfs_pool(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, name) = (call.owned("node"), call.owned("name"));
    let row = call
        .cluster
        .entry(&stores(&node, "zfs"), &name)
        .ok_or_else(|| ApiError::die(format!("cannot open '{name}': no such pool")))?;
    let part = |name: &str, state: &str| json!({ "name": name, "state": state, "read": 0, "write": 0, "cksum": 0, "msg": "" });
    let state = pool_state(call, row);
    let mut top = part(&name, state);
    top["children"] = devices(row)
        .map(|device| part(device, device_state(call, device)))
        .collect();
    Ok(Reply::data(json!({
        "name": name, "state": state, "errors": "No known data errors", "children": [top],
    })))
}
