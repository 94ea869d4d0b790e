//! High availability: resources follow the requested state, and power calls of their guests go
//! through it.

use proxmox_codegen::facts::{Method, Type};
use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::schema::returns_type;
use crate::state::cluster::Cluster;
use crate::state::cluster::ha::{RESOURCES, full_id, vmid_of};
use crate::state::effect::{Effect, Plan};
use crate::state::guest::{Guest, GuestEffect, Kind};
use crate::state::records::Row;

/// The rules' consequences for moving a managed guest.
#[derive(Debug, Default)]
pub(super) struct MoveConsequences {
    /// Guests that must stay with it, and therefore move along.
    pub(super) along: Vec<u32>,
    /// The reasons against nodes, for it or a guest that moves along: node, resource, and kind of
    /// rule.
    pub(super) blocked: Vec<(String, String, &'static str)>,
}

impl MoveConsequences {
    pub(super) fn blocks(&self, node: &str) -> bool {
        self.blocked.iter().any(|(on, ..)| on == node)
    }
}

/// The resource ids as rules write them.
pub(super) fn sid_of(cluster: &Cluster, vmid: u32) -> String {
    full_id(cluster, &vmid.to_string())
}

pub(super) fn move_consequences(cluster: &Cluster, vmid: u32) -> MoveConsequences {
    let mut consequences = MoveConsequences::default();
    if cluster.schema.release().major < 9 || cluster.ha_resource(vmid).is_none() {
        return consequences;
    }
    let text = |row: &Row, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let members = |row: &Row| -> Vec<u32> {
        let resources = text(row, "resources").unwrap_or_default();
        split_list(&resources).filter_map(vmid_of).collect()
    };
    let is_off = |row: &Row| {
        row.get("disable")
            .is_some_and(|off| *off == json!(1) || *off == json!("1"))
    };
    let rules: Vec<&Row> = (cluster.rows("/cluster/ha/rules").iter())
        .map(|(_, row)| row)
        .filter(|row| !is_off(row))
        .collect();
    let affinity = |row: &&&Row| text(row, "affinity");
    let mut group = vec![vmid];
    let mut at = 0;
    while let Some(one) = group.get(at).copied() {
        at += 1;
        let positive = rules
            .iter()
            .filter(|row| affinity(row).as_deref() == Some("positive"));
        for rule in positive.filter(|row| members(row).contains(&one)) {
            for other in members(rule) {
                if !group.contains(&other) {
                    group.push(other);
                }
            }
        }
    }
    for one in &group {
        for rule in rules.iter().filter(|row| members(row).contains(one)) {
            if text(rule, "affinity").as_deref() == Some("negative") {
                let others = members(rule)
                    .into_iter()
                    .filter(|other| !group.contains(other));
                consequences.blocked.extend(others.filter_map(|other| {
                    let node = cluster.guests.get(&other)?.node.clone();
                    Some((node, sid_of(cluster, other), "resource-affinity"))
                }));
            }
            let strict = rule
                .get("strict")
                .is_some_and(|on| *on == json!(1) || *on == json!("1"));
            if strict && let Some(nodes) = text(rule, "nodes") {
                let named: Vec<String> = split_list(&nodes)
                    .map(|node| node.split(':').next().unwrap_or_default().to_owned())
                    .collect();
                let away = cluster
                    .nodes
                    .iter()
                    .filter(|node| !named.contains(&node.name));
                consequences.blocked.extend(
                    away.map(|node| (node.name.clone(), sid_of(cluster, *one), "node-affinity")),
                );
            }
        }
    }
    group.retain(|other| *other != vmid);
    consequences.along = group;
    consequences
}

/// A power call for a managed guest: its task only passes the request to the manager, which carries
/// it out later in another task.
pub(super) fn request_ha_state(call: &mut Call<'_>, vmid: u32, task: &str, state: &str) -> Reply {
    let line = format!("asking for the state {state:?} of guest {vmid}");
    let reply = call.start(task, vmid, 0.5, vec![line], Effect::Nothing);
    call.cluster.ask_ha(vmid, state);
    changed(call, RESOURCES, &vmid.to_string());
    reply
}

/// The same for moving a guest.
pub(super) fn request_ha_move(call: &mut Call<'_>, vmid: u32, target: &str) -> Reply {
    let consequences = move_consequences(call.cluster, vmid);
    let sid = sid_of(call.cluster, vmid);
    if consequences.blocks(target) {
        let problem = format!("cannot migrate resource '{sid}' to node '{target}'");
        return call.fail("hamigrate", vmid, problem);
    }
    let line = format!("asking for guest {vmid} to be moved to node {target}");
    let reply = call.start("hamigrate", vmid, 0.5, vec![line], Effect::Nothing);
    send_to(call, vmid, target);
    for other in consequences.along {
        send_to(call, other, target);
    }
    reply
}

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    if let Some(sid) = call
        .text("sid")
        .filter(|_| call.path.starts_with(RESOURCES))
    {
        let unknown = !sid.contains(':')
            && sid
                .parse()
                .is_ok_and(|vmid: u32| !call.cluster.guests.contains_key(&vmid));
        if unknown {
            return Some(Err(ApiError::die(format!(
                "unable to detect SID from VMID - VM/CT {sid} does not exist"
            ))));
        }
        let sid = full_id(call.cluster, sid);
        call.params
            .insert("sid".into(), crate::params::Param::Text(sid));
    }
    let migrated = call.cluster.schema.release().major >= 9;
    Some(match (call.method, call.path) {
        (Method::Get, "/cluster/ha/groups") if migrated => Err(ApiError::die(
            "cannot index groups: ha groups have been migrated to rules",
        )),
        (method, "/cluster/ha/groups" | "/cluster/ha/groups/{group}") if migrated => {
            let verb = match method {
                Method::Post => "create",
                Method::Put => "update",
                Method::Delete => "delete",
                Method::Get => "read",
            };
            let text = format!("cannot {verb} group: ha groups have been migrated to rules");
            Err(ApiError::die(text))
        }
        (Method::Get, "/cluster/ha/status/current") => Ok(Reply::data(status(call.cluster))),
        (Method::Get, "/cluster/ha/status/manager_status") => {
            Ok(Reply::data(manager(call.cluster)))
        }
        (
            Method::Post,
            "/cluster/ha/resources/{sid}/migrate" | "/cluster/ha/resources/{sid}/relocate",
        ) => migrate(call),
        _ => return None,
    })
}

pub(super) fn enrich(call: &Call<'_>, list: &str, id: &str, row: &mut Row) -> ApiResult<()> {
    if list == RESOURCES {
        if call.params.contains_key("group") && call.cluster.schema.release().major >= 9 {
            let text = "invalid parameter 'group': ha groups have been migrated to rules";
            return Err(ApiError::die(text));
        }
        let guest = vmid_of(id).and_then(|vmid| call.cluster.guests.get(&vmid));
        let Some(guest) = guest else {
            return Err(ApiError::die(format!(
                "resource '{id}' does not exist in cluster"
            )));
        };
        let kind = if guest.kind == Kind::Lxc { "ct" } else { "vm" };
        if !id.starts_with(&format!("{kind}:")) {
            let expected = if kind == "ct" {
                "virtual machine"
            } else {
                "container"
            };
            return Err(ApiError::die(format!(
                "resource '{id}' - guest with ID {} is not a {expected}",
                vmid_of(id).unwrap_or(0)
            )));
        }
        row.entry("state".to_owned())
            .or_insert_with(|| json!("started"));
        row.insert("type".into(), json!(kind));
    }
    Ok(())
}

/// Checks a rule in its new state.
pub(super) fn verify(call: &Call<'_>, id: &str, row: &Row, creates: bool) -> ApiResult<()> {
    let operation = match creates {
        true => "create ha rule",
        false => "update HA rules",
    };
    let refuse = |text: String| Err(ApiError::die(format!("{operation} failed: {text}")));
    let invalid =
        |name: &str, text: &str| refuse(format!("400 Rule '{id}' is invalid.\n{name}: {text}"));
    let list = |name: &str| -> Vec<&str> {
        let text = row.get(name).and_then(Value::as_str).unwrap_or("");
        split_list(text).collect()
    };
    let (resources, nodes) = (list("resources"), list("nodes"));
    let managed =
        |sid: &&str| vmid_of(sid).is_some_and(|vmid| call.cluster.ha_resource(vmid).is_some());
    let unmanaged: Vec<&str> = resources
        .iter()
        .copied()
        .filter(|sid| !managed(sid))
        .collect();
    if !unmanaged.is_empty() {
        return refuse(format!(
            "cannot use unmanaged resource(s) {}.",
            unmanaged.join(", ")
        ));
    }
    let name = |node: &&str| node.split(':').next().unwrap_or("").to_owned();
    let unknown: Vec<String> = nodes
        .iter()
        .map(name)
        .filter(|node| call.cluster.node(node).is_none())
        .collect();
    if !unknown.is_empty() {
        return refuse(format!(
            "cannot use non-existent node(s) {}.",
            unknown.join(", ")
        ));
    }
    let kind = |row: &Row| row.get("type").and_then(Value::as_str).map(str::to_owned);
    match kind(row).as_deref() {
        Some("resource-affinity") if resources.len() < 2 => invalid(
            "resources",
            "rule is ineffective as there are less than two resources",
        ),
        Some("node-affinity") => {
            let others = call.cluster.rows("/cluster/ha/rules").iter();
            let mut others = others.filter(|(own, other)| {
                own != id && kind(other).as_deref() == Some("node-affinity")
            });
            let taken = others.find_map(|(_, other)| {
                let text = other.get("resources")?.as_str()?;
                let sid = split_list(text).find(|sid| resources.contains(sid))?;
                Some(sid.to_owned())
            });
            match taken {
                Some(sid) => invalid(
                    "resources",
                    &format!("resource '{sid}' is already used in another node affinity rule"),
                ),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Brings a guest to the requested state.
pub(super) fn changed(call: &mut Call<'_>, list: &str, sid: &str) {
    if list != RESOURCES {
        return;
    }
    let Some(vmid) = vmid_of(sid) else { return };
    let state = call.cluster.ha_state(vmid).unwrap_or("").to_owned();
    let Some(guest) = call.cluster.guests.get(&vmid) else {
        return;
    };
    let lxc = guest.kind == Kind::Lxc;
    let (task, effect) = match (state.as_str(), guest.running()) {
        ("started" | "enabled", false) => {
            (if lxc { "vzstart" } else { "qmstart" }, GuestEffect::Start)
        }
        ("stopped" | "disabled", true) => (
            if lxc { "vzshutdown" } else { "qmshutdown" },
            GuestEffect::Stop,
        ),
        _ => return,
    };
    let node = guest.node.clone();
    let owner = crate::state::access::Identity {
        user: "root@pam".into(),
        token: None,
    };
    call.cluster.start(Plan {
        node: &node,
        kind: task,
        id: vmid.to_string(),
        owner: &owner,
        seconds: 2.0,
        lines: Vec::new(),
        effect: Effect::Guest(vmid, effect),
    });
}

fn first(cluster: &Cluster) -> String {
    cluster
        .nodes
        .first()
        .map(|node| node.name.clone())
        .unwrap_or_default()
}

fn status(cluster: &Cluster) -> Value {
    let now = cluster.now.as_secs();
    let home = first(cluster);
    let mut rows = vec![json!({
        "id": "quorum", "type": "quorum", "node": home, "status": "OK", "quorate": 1,
    })];
    let resources = cluster.rows(RESOURCES);
    if !resources.is_empty() {
        rows.push(json!({
            "id": "master", "type": "master", "node": home, "status": format!("{home} (active)"), "timestamp": now,
        }));
        for node in &cluster.nodes {
            let state = if node.online {
                "active"
            } else {
                "old timestamp - dead?"
            };
            rows.push(json!({
                "id": format!("lrm:{}", node.name), "type": "lrm", "node": node.name,
                "status": format!("{} ({state})", node.name), "timestamp": now,
            }));
        }
    }
    for (sid, row) in resources {
        let guest = vmid_of(sid).and_then(|vmid| cluster.guests.get(&vmid));
        let node = guest.map_or("", |guest| guest.node.as_str());
        let requested = row
            .get("state")
            .and_then(Value::as_str)
            .unwrap_or("started");
        let state = match guest {
            Some(guest) if guest.running() => "started",
            Some(_) if requested == "started" => "starting",
            Some(_) => "stopped",
            None => "error",
        };
        let number = |key: &str| {
            let text = row.get(key).and_then(Value::as_str);
            text.and_then(|text| text.parse().ok()).unwrap_or(1_u32)
        };
        let mut entry = json!({
            "id": format!("service:{sid}"), "type": "service", "sid": sid, "node": node, "state": state,
            "crm_state": state, "request_state": requested, "status": format!("{sid} ({node}, {state})"),
            "max_restart": number("max_restart"), "max_relocate": number("max_relocate"), "failback": number("failback"),
        });
        for key in ["group", "comment"] {
            if let Some(value) = row.get(key) {
                entry[key] = value.clone();
            }
        }
        rows.push(entry);
    }
    Value::Array(rows)
}

fn manager(cluster: &Cluster) -> Value {
    let nodes: Map<String, Value> = cluster
        .nodes
        .iter()
        .map(|node| {
            let state = if node.online { "online" } else { "unknown" };
            (node.name.clone(), json!(state))
        })
        .collect();
    json!({
        "manager_status": {
            "master_node": first(cluster), "node_status": nodes, "service_status": {}, "timestamp": cluster.now.as_secs(),
        },
        "quorum": { "node": first(cluster), "quorate": "1" },
    })
}

fn migrate(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (sid, target) = (call.owned("sid"), call.owned("node"));
    let vmid = vmid_of(&sid).filter(|vmid| call.cluster.ha_state(*vmid).is_some());
    let Some(vmid) = vmid else {
        return Err(ApiError::die(format!("resource '{sid}' is not HA managed")));
    };
    let consequences = move_consequences(call.cluster, vmid);
    // The request is stored; the manager finds out later that there is no such node.
    if call.cluster.node(&target).is_some() && !consequences.blocks(&target) {
        send_to(call, vmid, &target);
        for other in &consequences.along {
            send_to(call, *other, &target);
        }
    }
    if returns_type(&call.endpoint.returns) == Type::Null {
        return Ok(Reply::data(Value::Null));
    }
    let mut row = json!({ "sid": sid, "requested-node": target });
    let blocking = consequences
        .blocked
        .iter()
        .filter(|(node, ..)| *node == target);
    let blocking: Vec<Value> = blocking
        .map(|(_, sid, cause)| json!({ "sid": sid, "cause": cause }))
        .collect();
    match (blocking.is_empty(), consequences.along.is_empty()) {
        (false, _) => row["blocking-resources"] = Value::Array(blocking),
        (true, false) => {
            let along = consequences
                .along
                .iter()
                .map(|other| sid_of(call.cluster, *other));
            row["comigrated-resources"] = along.collect();
        }
        (true, true) => {}
    }
    Ok(Reply::data(row))
}

/// Requests a move from the manager; returns whether there is anything to do.
fn send_to(call: &mut Call<'_>, vmid: u32, target: &str) -> bool {
    let elsewhere = |guest: &&Guest| guest.node != target;
    let Some(guest) = call.cluster.guests.get(&vmid).filter(elsewhere) else {
        return false;
    };
    let from = guest.node.clone();
    let kind = match guest.kind {
        Kind::Lxc => "vzmigrate",
        Kind::Qemu => "qmigrate",
    };
    let caller = call.caller.clone();
    let target = target.to_owned();
    call.cluster.start(Plan {
        node: &from,
        kind,
        id: vmid.to_string(),
        owner: &caller,
        seconds: 3.0,
        lines: Vec::new(),
        effect: Effect::Guest(
            vmid,
            GuestEffect::Migrate {
                target,
                storages: String::new(),
            },
        ),
    });
    true
}
