//! Calls about lists that neither read nor write an entry.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::{field, place};
use crate::calls::rules;
use crate::formats::split_list;
use crate::propstring;
use crate::state::cluster::Cluster;
use crate::state::guest::Kind;
use crate::state::records::{NOTIFICATION_ENDPOINTS, Row};

/// Answers derived from lists.
pub(crate) fn other(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let cluster = &*call.cluster;
    Some(match (call.method, call.path) {
        (Method::Get, path) if path.ends_with("/firewall/refs") => {
            let scope_path = place(call, path.strip_suffix("/refs").unwrap_or(path));
            let mut found = Vec::new();
            for (scope, place) in [("dc", "/cluster/firewall"), ("guest", scope_path.as_str())] {
                if scope == "guest" && scope_path == "/cluster/firewall" {
                    continue;
                }
                for (kind, list, sign) in [("ipset", "ipset", "+"), ("alias", "aliases", "")] {
                    if call.text("type").is_some_and(|requested| requested != kind) {
                        continue;
                    }
                    for (name, row) in cluster.rows(&format!("{place}/{list}")) {
                        let mut entry = json!({
                            "type": kind, "name": name, "ref": format!("{sign}{name}"), "scope": scope,
                        });
                        if let Some(comment) = row.get("comment") {
                            entry["comment"] = comment.clone();
                        }
                        found.push(entry);
                    }
                }
            }
            Ok(Reply::data(found))
        }
        (Method::Get, "/cluster/notifications/targets") => {
            let mut found = Vec::new();
            for (list, rows) in &cluster.records {
                let Some(kind) = list.strip_prefix(NOTIFICATION_ENDPOINTS) else {
                    continue;
                };
                for (name, row) in rows {
                    let mut entry =
                        json!({ "name": name, "type": kind, "origin": field(row, "origin") });
                    for key in ["comment", "disable"] {
                        if let Some(value) = row.get(key) {
                            entry[key] = value.clone();
                        }
                    }
                    found.push(entry);
                }
            }
            Ok(Reply::data(found))
        }
        (Method::Get, "/access/users/{userid}/tfa") => {
            let userid = call.owned("userid");
            let realm = userid.rsplit_once('@').map_or("", |(_, realm)| realm);
            let Some(realm) = cluster.entry("/access/domains", realm) else {
                let text = format!("auth domain '{realm}' does not exist");
                return Some(Err(ApiError::die(text)));
            };
            let mut row = json!({});
            let tfa = field(realm, "tfa").as_str().unwrap_or("");
            if let Some(kind) = propstring::value(tfa, "type") {
                row["realm"] = json!(kind);
            }
            if call.flag("multiple") {
                row["user"] = json!([]);
            }
            Ok(Reply::data(row))
        }
        (Method::Get, "/nodes/{node}/syslog") => Ok(Reply {
            total: Some(1),
            ..Reply::data(json!([{ "n": 1, "t": "-- No entries --" }]))
        }),
        (Method::Get, "/cluster/backup/{id}/included_volumes") => {
            let id = call.owned("id");
            match cluster.entry("/cluster/backup", &id) {
                Some(job) => Ok(Reply::data(json!({ "children": included(call, job) }))),
                None => Err(ApiError::parameter("id", format!("No such job '{id}'"))),
            }
        }
        // An empty log has one line saying so.
        (Method::Get, path) if path.ends_with("/firewall/log") => Ok(Reply {
            total: Some(1),
            ..Reply::data(json!([{ "n": 1, "t": "no content" }]))
        }),
        (Method::Get, "/cluster/firewall/macros") => {
            let rows = rules::MACROS.split_whitespace();
            Ok(Reply::data(
                rows.map(|name| json!({ "macro": name, "descr": format!("{name} traffic") }))
                    .collect::<Value>(),
            ))
        }
        (Method::Get, "/cluster/backup-info/not-backed-up") => {
            let jobs = cluster.rows("/cluster/backup");
            let left = cluster
                .guests
                .iter()
                .filter(|(vmid, guest)| !jobs.iter().any(|(_, job)| covers(job, **vmid, guest)));
            let rows = left.map(|(vmid, guest)| {
                json!({ "vmid": vmid, "type": guest.kind.api(), "name": guest.name(*vmid) })
            });
            Ok(Reply::data(rows.collect::<Value>()))
        }
        (Method::Get, "/nodes/{node}/replication") => {
            let node = call.owned("node");
            let jobs = cluster
                .rows("/cluster/replication")
                .iter()
                .filter(|(_, row)| {
                    row.get("source").and_then(Value::as_str) == Some(&node)
                        && call
                            .text("guest")
                            .is_none_or(|guest| row.get("guest") == Some(&json!(guest)))
                });
            Ok(Reply::data(
                jobs.map(|(id, row)| replica(cluster, id, row))
                    .collect::<Value>(),
            ))
        }
        (Method::Get, "/nodes/{node}/replication/{id}/status") => {
            let id = call.owned("id");
            match cluster.entry("/cluster/replication", &id) {
                Some(row) => Ok(Reply::data(replica(cluster, &id, row))),
                None => Err(ApiError::die(format!("no such replication job '{id}'"))),
            }
        }
        _ => return None,
    })
}

/// The guests of a backup job, with their volumes and why these are included or not.
fn included(call: &Call<'_>, job: &Row) -> Vec<Value> {
    let guests = call.cluster.guests.iter();
    let taken = guests.filter(|(vmid, guest)| {
        covers(job, **vmid, guest) && call.may(&format!("/vms/{vmid}"), "VM.Audit")
    });
    taken
        .map(|(vmid, guest)| {
            let disks = guest.config.iter().filter(|(key, value)| {
                guest.kind.is_disk(key)
                    && !key.starts_with("unused")
                    && propstring::value(value, "media") != Some("cdrom")
            });
            let children: Vec<Value> = disks
                .map(|(key, value)| {
                    let backup = propstring::value(value, "backup");
                    let volume = crate::state::guest::volumes::volume_of(value);
                    let (taken, why) = match guest.kind {
                        Kind::Qemu => {
                            let why = if backup.is_some() { "backup=no" } else { "backup=yes" };
                            (backup != Some("0"), why)
                        }
                        Kind::Lxc if key == "rootfs" => (true, "rootfs"),
                        Kind::Lxc if volume.starts_with('/') => (false, "not a volume"),
                        Kind::Lxc if backup == Some("1") => (true, "enabled"),
                        Kind::Lxc => (false, "disabled"),
                    };
                    json!({
                        "id": format!("{vmid}:{key}"), "name": volume, "included": u8::from(taken), "reason": why,
                        "leaf": 1,
                    })
                })
                .collect();
            json!({
                "id": vmid, "type": guest.kind.api(), "name": guest.name(*vmid), "leaf": u8::from(children.is_empty()),
                "children": children,
            })
        })
        .collect()
}

/// Whether a backup job includes a guest.
fn covers(job: &Row, vmid: u32, guest: &crate::state::guest::Guest) -> bool {
    let text = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or("");
    let lists = |key: &str| split_list(text(key)).any(|id| id == vmid.to_string());
    let chosen = lists("vmid")
        || text("all") == "1" && !lists("exclude")
        || !text("pool").is_empty() && guest.pool.as_deref() == Some(text("pool"));
    chosen && (text("node").is_empty() || text("node") == guest.node)
}

fn replica(cluster: &Cluster, id: &str, row: &Row) -> Value {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("");
    let guest: u32 = text("guest").parse().unwrap_or(0);
    let kind = cluster
        .guests
        .get(&guest)
        .map_or("qemu", |guest| guest.kind.api());
    let mut entry = json!({
        "id": id, "guest": guest, "jobnum": text("jobnum").parse::<u32>().unwrap_or(0), "type": "local",
        "source": text("source"), "target": text("target"), "vmtype": kind, "fail_count": 0, "last_sync": 0,
        "last_try": 0, "duration": 0, "next_sync": cluster.now.as_secs() / 900 * 900 + 900,
        "schedule": row.get("schedule").cloned().unwrap_or_else(|| json!("*/15")),
    });
    for key in ["comment", "disable", "rate"] {
        if let Some(value) = row.get(key) {
            entry[key] = value.clone();
        }
    }
    entry
}
