//! The cluster and its nodes.

use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::sample::{mix, number};
use crate::state::cluster::Cluster;
use crate::state::cluster::answers::NODE_PRESSURE;
use crate::state::guest::Guest;
use crate::state::storage::GIB;

pub(super) fn version(call: &Call<'_>) -> ApiResult<Reply> {
    let release = call.cluster.schema.release();
    Ok(Reply::data(json!({
        "release": release.to_string(),
        "version": format!("{release}.{}", 1 + mix(&release.to_string(), 3) % 9),
        "repoid": format!("{:016x}", mix(&release.to_string(), 4)),
    })))
}

/// `GET /cluster/metrics/export`: without measurements; a given node must exist.
pub(super) fn export(call: &Call<'_>) -> ApiResult<Reply> {
    let named = call.text("node-list").unwrap_or_default();
    let unknown: Vec<&str> = split_list(named)
        .filter(|node| call.cluster.node(node).is_none())
        .collect();
    if unknown.is_empty() {
        return Ok(Reply::data(json!({ "data": [] })));
    }
    Err(ApiError::die(format!(
        "Requested node-list contains unknown nodes - {}",
        unknown.join(", ")
    )))
}

pub(super) fn next_id(call: &Call<'_>) -> ApiResult<Reply> {
    if call.text("vmid").is_some() {
        let vmid = call.vmid("vmid");
        if call.cluster.guests.contains_key(&vmid) {
            return Err(ApiError::parameter(
                "vmid",
                format!("VM {vmid} already exists"),
            ));
        }
        return Ok(Reply::data(vmid.to_string()));
    }
    Ok(Reply::data(call.cluster.free_vmid(100).to_string()))
}

pub(super) fn node_row(cluster: &Cluster, name: &str) -> Map<String, Value> {
    let mut row = Map::new();
    let Some(node) = cluster.node(name) else {
        return row;
    };
    row.insert("node".into(), json!(node.name));
    row.insert("id".into(), json!(format!("node/{}", node.name)));
    row.insert("type".into(), json!("node"));
    if !node.online {
        row.insert("status".into(), json!("offline"));
        return row;
    }
    let used: u64 = cluster
        .guests
        .values()
        .filter(|guest| guest.node == name && guest.running())
        .map(Guest::memory)
        .sum();
    let disk = cluster.storages.get("local").map_or(100 * GIB, |s| s.total);
    row.extend(
        [
            ("status", json!("online")),
            ("level", json!("")),
            ("cpu", json!(0.0625)),
            ("maxcpu", json!(node.cores)),
            ("mem", json!(2 * GIB + used.min(node.memory - 2 * GIB))),
            ("maxmem", json!(node.memory)),
            ("disk", json!(8 * GIB)),
            ("maxdisk", json!(disk)),
            (
                "uptime",
                json!(cluster.now.saturating_sub(node.booted).as_secs()),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    row
}

pub(super) fn nodes(call: &Call<'_>) -> ApiResult<Reply> {
    let names: Vec<String> = call
        .cluster
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .collect();
    let rows = names.iter().map(|name| {
        let mut row = node_row(call.cluster, name);
        let fingerprint = json!(vec!["5A"; 32].join(":"));
        row.insert("ssl_fingerprint".into(), fingerprint);
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn node_status(call: &Call<'_>) -> ApiResult<Reply> {
    let name = call.owned("node");
    let row = node_row(call.cluster, &name);
    let of = |key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (mem, maxmem, disk, maxdisk) = (of("mem"), of("maxmem"), of("disk"), of("maxdisk"));
    let release = call.cluster.schema.release();
    let kernel = match release.major {
        7 => "5.15.102-1-pve",
        8 => "6.8.12-9-pve",
        _ => "6.17.2-1-pve",
    };
    Ok(Reply::data(json!({
        "uptime": of("uptime"),
        "cpu": 0.0625,
        "wait": 0,
        "idle": 0,
        "loadavg": ["0.42", "0.37", "0.31"],
        "kversion": format!("Linux {kernel} #1 SMP PREEMPT_DYNAMIC"),
        "current-kernel": {
            "sysname": "Linux", "release": kernel, "version": "#1 SMP PREEMPT_DYNAMIC", "machine": "x86_64",
        },
        "pveversion": format!("pve-manager/{release}.1/{:016x}", mix(&release.to_string(), 4)),
        "boot-info": { "mode": "efi", "secureboot": 0 },
        "cpuinfo": {
            "cpus": of("maxcpu"), "cores": of("maxcpu") / 2, "sockets": 1, "model": "Simulated CPU",
            "mhz": "3000.000", "hvm": "1", "user_hz": 100, "flags": "fpu vme de pse tsc msr",
            "vendor": "GenuineIntel", "family": "6",
        },
        "memory": { "total": maxmem, "used": mem, "free": maxmem - mem, "available": maxmem - mem },
        "swap": { "total": 0, "used": 0, "free": 0 },
        "rootfs": { "total": maxdisk, "used": disk, "free": maxdisk - disk, "avail": maxdisk - disk },
        "ksm": { "shared": 0 },
    })))
}

pub(super) fn cluster_status(call: &Call<'_>) -> ApiResult<Reply> {
    let cluster = &call.cluster;
    let mut rows = vec![json!({
        "type": "cluster", "id": "cluster", "name": cluster.name, "nodes": cluster.nodes.len(), "quorate": 1,
        "version": cluster.nodes.len(),
    })];
    for (node, id) in cluster.nodes.iter().zip(1..) {
        rows.push(json!({
            "type": "node", "id": format!("node/{}", node.name), "name": node.name, "nodeid": id,
            "ip": format!("192.0.2.{id}"), "online": u8::from(node.online), "local": u8::from(id == 1), "level": "",
        }));
    }
    Ok(Reply::data(rows))
}

/// A guest in the list of resources.
pub(super) fn guest_row(cluster: &Cluster, vmid: u32, guest: &Guest) -> Map<String, Value> {
    let mut row = cluster.guest_json(vmid, guest);
    row.retain(|key, _| {
        !matches!(key.as_str(), "qmpstatus" | "pid" | "maxswap" | "swap")
            && !key.starts_with("pressure")
    });
    for key in ["diskread", "diskwrite"] {
        row.entry(key).or_insert_with(|| json!(0));
    }
    let cpus = row.remove("cpus").unwrap_or_default();
    row.insert("maxcpu".into(), cpus);
    row.insert("id".into(), json!(format!("{}/{vmid}", guest.kind.api())));
    row.insert("type".into(), json!(guest.kind.api()));
    row.insert("node".into(), json!(guest.node));
    row.insert("template".into(), json!(u8::from(guest.template())));
    row
}

pub(super) fn resources(call: &Call<'_>) -> ApiResult<Reply> {
    let cluster = &call.cluster;
    let requested = call.text("type");
    let show = |kind| requested.is_none_or(|requested| requested == kind);
    let mut rows = Vec::new();
    if show("vm") {
        for (vmid, guest) in &cluster.guests {
            if !call.may(&format!("/vms/{vmid}"), "VM.Audit") {
                continue;
            }
            let mut row = guest_row(cluster, *vmid, guest);
            if let Some(pool) = &guest.pool {
                row.insert("pool".into(), json!(pool));
            }
            if let Some(state) = cluster.ha_state(*vmid) {
                row.insert("hastate".into(), json!(state));
            }
            rows.push(Value::Object(row));
        }
    }
    if show("node") {
        for node in &cluster.nodes {
            rows.push(Value::Object(node_row(cluster, &node.name)));
        }
    }
    if show("storage") {
        for node in &cluster.nodes {
            let seen = cluster
                .storages
                .iter()
                .filter(|(id, _)| call.may(&format!("/storage/{id}"), "Datastore.Audit"));
            for (id, storage) in seen {
                let mut row = json!({
                    "id": format!("storage/{}/{id}", node.name), "type": "storage", "storage": id, "node": node.name,
                    "status": "available", "plugintype": storage.kind, "content": storage.content.join(","),
                    "shared": u8::from(storage.shared), "maxdisk": storage.total, "disk": cluster.used(&node.name, id),
                });
                if let Some(pool) = cluster.pool_of_storage(id) {
                    row["pool"] = json!(pool);
                }
                rows.push(row);
            }
        }
    }
    let networks = call
        .endpoint
        .returns
        .items
        .as_ref()
        .and_then(|items| items.properties.as_ref())
        .is_some_and(|properties| properties.contains_key("network-type"));
    if show("sdn") {
        for node in &cluster.nodes {
            let running = cluster.sdn_running.get("/cluster/sdn/zones");
            let zones = running.into_iter().flatten().map(|(zone, _)| zone.as_str());
            let zones = std::iter::once("localnetwork").chain(zones);
            for zone in zones.filter(|zone| call.may(&format!("/sdn/zones/{zone}"), "SDN.Audit")) {
                // SDN zones became one kind of network, with a field for the kind.
                rows.push(if networks {
                    json!({
                        "id": format!("network/{}/zone/{zone}", node.name), "type": "network",
                        "network-type": "zone", "network": zone, "node": node.name, "status": "ok",
                    })
                } else {
                    json!({
                        "id": format!("sdn/{}/{zone}", node.name), "type": "sdn", "sdn": zone,
                        "node": node.name, "status": "ok",
                    })
                });
            }
        }
    }
    Ok(Reply::data(rows))
}

pub(super) fn node_samples(call: &Call<'_>) -> ApiResult<Reply> {
    let name = call.owned("node");
    let Some(node) = call.cluster.node(&name) else {
        return Ok(Reply::data(json!([])));
    };
    let (memory, cpus) = (node.memory, node.cores);
    let since_9 = call.cluster.schema.release().major >= 9;
    let times = sample_times(call);
    let latest = times.clone().last();
    let rows = times.map(|time| {
        if Some(time) == latest {
            return json!({ "time": time, "maxcpu": cpus });
        }
        let busy = u32::try_from(mix("load", time / 60) % 1_000).map_or(0.0, f64::from) / 1_000.0;
        let share = mix("memory", time / 60) % 40 + 30;
        let used = memory / 100 * share;
        let mut row = json!({
            "time": time, "maxcpu": cpus, "cpu": number(busy), "iowait": number(busy / 8.0),
            "loadavg": number(busy * 2.0), "memtotal": memory, "memused": used, "swaptotal": 0, "swapused": 0,
            "roottotal": 100 * GIB, "rootused": 10 * GIB, "netin": number(busy * 1_234.5),
            "netout": number(busy * 987.25),
        });
        if since_9 {
            row["memavailable"] = json!(memory - used);
            row["arcsize"] = json!(0);
            for name in NODE_PRESSURE {
                row[*name] = json!(0);
            }
        }
        row
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

/// The times of stored measurements, the oldest first.
pub(super) fn sample_times(call: &Call<'_>) -> impl Iterator<Item = u64> + Clone + use<> {
    let step = match call.text("timeframe") {
        Some("day") => 1_800,
        Some("week") => 10_800,
        Some("month") => 43_200,
        Some("year") => 604_800,
        _ => 60,
    };
    let now = call.cluster.now.as_secs() / step * step;
    (0..70).map(move |row: u64| now.saturating_sub((69 - row) * step))
}

/// Seventy rows of measurements, the latest one incomplete as on a real server.
pub(super) fn samples(call: &Call<'_>, memory: u64, disk: u64, cpus: u64) -> Reply {
    let times = sample_times(call);
    let latest = times.clone().last();
    let rows = times.map(|time| {
        if Some(time) == latest {
            return json!({ "time": time, "maxcpu": cpus });
        }
        let busy = u32::try_from(mix("load", time / 60) % 1_000).map_or(0.0, f64::from) / 1_000.0;
        let share = mix("memory", time / 60) % 40 + 30;
        json!({
            "time": time, "maxcpu": cpus, "cpu": number(busy), "maxmem": memory, "mem": memory / 100 * share,
            "maxdisk": disk, "disk": 0,
            "netin": number(busy * 1_234.5), "netout": number(busy * 987.25), "diskread": 0, "diskwrite": number(busy * 42.5),
        })
    });
    Reply::data(rows.collect::<Value>())
}
