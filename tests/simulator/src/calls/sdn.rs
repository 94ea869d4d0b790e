//! Software-defined network: what is planned, and what is in force since it was last applied.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use super::records::{Row, Rows, place};
use super::{Call, Reply};
use crate::error::{ApiError, ApiResult};
use crate::world::Effect;

fn list_of(path: &str) -> Option<(&str, &'static str)> {
    let lists = [
        ("/cluster/sdn/zones", "zone"),
        ("/cluster/sdn/vnets", "vnet"),
        ("/cluster/sdn/vnets/{vnet}/subnets", "subnet"),
        ("/cluster/sdn/controllers", "controller"),
        ("/cluster/sdn/dns", "dns"),
        ("/cluster/sdn/ipams", "ipam"),
    ];
    lists
        .into_iter()
        .find(|(list, id)| path == *list || path == format!("{list}/{{{id}}}"))
}

/// Whether the virtual network a call names is planned.
pub(super) fn has_vnet(call: &Call<'_>) -> bool {
    let vnet = call.text("vnet").unwrap_or("");
    let mut rows = call
        .world
        .records
        .get("/cluster/sdn/vnets")
        .into_iter()
        .flatten();
    rows.any(|(own, _)| own == vnet)
}

const LOCK: &str = "/cluster/sdn/lock";

/// What differs between plan and network in force.
fn has_pending(call: &Call<'_>) -> bool {
    let world = &*call.world;
    [
        "/cluster/sdn/zones",
        "/cluster/sdn/vnets",
        "/cluster/sdn/controllers",
    ]
    .iter()
    .any(|list| {
        let none = Rows::new();
        let planned = world.records.get(*list).unwrap_or(&none);
        planned != world.sdn_running.get(*list).unwrap_or(&none)
    })
}

/// Refuses to change what somebody has locked.
fn check_lock(call: &Call<'_>) -> ApiResult<()> {
    let held = (call.world.settings.get(LOCK)).and_then(|lock| lock.get("token")?.as_str());
    match held {
        Some(token) if call.text("lock-token") != Some(token) => {
            Err(ApiError::die("invalid lock token provided!"))
        }
        _ => Ok(()),
    }
}

/// Gives the lock back after what was done with it, unless that is not wanted.
fn release(call: &mut Call<'_>) {
    if call.text("lock-token").is_some() && call.text("release-lock") != Some("0") {
        call.world.settings.remove(LOCK);
    }
}

/// The lock of the whole configuration, since 9.0.
fn lock(call: &mut Call<'_>) -> ApiResult<Reply> {
    if call.method == Method::Delete {
        if !call.flag("force") {
            check_lock(call)?;
        }
        call.world.settings.remove(LOCK);
        return Ok(Reply::data(Value::Null));
    }
    check_lock(call)?;
    if !call.flag("allow-pending") && has_pending(call) {
        return Err(ApiError::die("configuration has pending changes"));
    }
    let token = call.world.uuid();
    let row = Row::from_iter([("token".to_owned(), json!(token))]);
    call.world.settings.insert(LOCK.to_owned(), row);
    Ok(Reply::data(token))
}

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    if call.path == LOCK {
        return Some(lock(call));
    }
    if call.path.starts_with("/cluster/sdn")
        && call.method != Method::Get
        && !call.path.contains("/firewall")
        && let Err(error) = check_lock(call)
    {
        return Some(Err(error));
    }
    match (call.method, call.path) {
        (Method::Put, "/cluster/sdn") => {
            release(call);
            let lines = vec!["applying the planned network".into()];
            return Some(Ok(call.start(
                "reloadnetworkall",
                "",
                1.0,
                lines,
                Effect::ApplySdn,
            )));
        }
        (Method::Post, "/cluster/sdn/rollback") => {
            release(call);
            call.world
                .records
                .retain(|key, _| !key.starts_with("/cluster/sdn/"));
            let running = call.world.sdn_running.clone();
            call.world.records.extend(running);
            return Some(Ok(Reply::data(Value::Null)));
        }
        (Method::Get, "/nodes/{node}/sdn/zones") => {
            let zones = call
                .world
                .sdn_running
                .get("/cluster/sdn/zones")
                .map_or(&[][..], Vec::as_slice);
            let rows = zones
                .iter()
                .map(|(zone, _)| json!({ "zone": zone, "status": "available" }));
            return Some(Ok(Reply::data(rows.collect::<Value>())));
        }
        _ => {}
    }
    let (list, id) = list_of(call.path)?;
    // The id of a subnet is made of its zone and range; calls may give either.
    if id == "subnet"
        && let Some(given) = call.text("subnet").filter(|given| given.contains('/'))
    {
        let full = format!("{}-{}", zone_of(call), given.replace('/', "-"));
        if call.method == Method::Post {
            let cidr = given.to_owned();
            call.params
                .insert("cidr".into(), crate::params::Param::Text(cidr));
        }
        call.params
            .insert("subnet".into(), crate::params::Param::Text(full));
    }
    if call.method != Method::Get || !(call.flag("pending") || call.flag("running")) {
        return None;
    }
    let key = place(call, list);
    let none = Rows::new();
    let planned = call.world.records.get(&key).unwrap_or(&none);
    let running = call.world.sdn_running.get(&key).unwrap_or(&none);
    let rows: Vec<Value> = if call.flag("running") {
        running
            .iter()
            .map(|(own, row)| shown(id, own, row))
            .collect()
    } else {
        let mut rows: Vec<Value> = planned
            .iter()
            .map(|(own, row)| {
                let old = running
                    .iter()
                    .find(|(name, _)| name == own)
                    .map(|(_, row)| row);
                let mut entry = shown(id, own, old.unwrap_or(row));
                if old != Some(row) {
                    entry["state"] = json!(if old.is_some() { "changed" } else { "new" });
                    entry["pending"] = shown(id, own, row);
                }
                entry
            })
            .collect();
        let gone = running
            .iter()
            .filter(|(own, _)| !planned.iter().any(|(name, _)| name == own));
        rows.extend(gone.map(|(own, row)| {
            let mut entry = shown(id, own, row);
            entry["state"] = json!("deleted");
            entry
        }));
        rows
    };
    if call.path == list {
        return Some(Ok(Reply::data(rows)));
    }
    let wanted = call.owned(id);
    let found = rows.into_iter().find(|row| row[id] == json!(wanted));
    Some(
        found
            .map(Reply::data)
            .ok_or_else(|| ApiError::die(format!("no such {id} '{wanted}'"))),
    )
}

fn shown(id: &str, own: &str, row: &Row) -> Value {
    let mut entry: Row = row
        .iter()
        .map(|(key, value)| {
            let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
            let typed = matches!(
                key.as_str(),
                "tag" | "vlanaware" | "isolate-ports" | "mtu" | "snat" | "vrf-vxlan" | "vxlan-port"
            );
            let value = number
                .filter(|_| typed)
                .map_or_else(|| value.clone(), Value::from);
            (key.clone(), value)
        })
        .collect();
    entry.insert(id.to_owned(), json!(own));
    if id == "subnet" {
        entry.insert("id".into(), json!(own));
    }
    Value::Object(entry)
}

/// The zone of the virtual network the call is about.
fn zone_of(call: &Call<'_>) -> String {
    let vnet = call.text("vnet").unwrap_or("");
    call.world
        .records
        .get("/cluster/sdn/vnets")
        .and_then(|rows| rows.iter().find(|(own, _)| own == vnet))
        .and_then(|(_, row)| row.get("zone")?.as_str())
        .unwrap_or("")
        .to_owned()
}

fn holds(call: &Call<'_>, list: &str, id: &str) -> bool {
    call.world
        .records
        .get(list)
        .is_some_and(|rows| rows.iter().any(|(own, _)| own == id))
}

pub(super) fn enrich(call: &Call<'_>, list: &str, _id: &str, row: &mut Row) -> ApiResult<()> {
    match list {
        "/cluster/sdn/vnets" => {
            let zone = call.owned("zone");
            if !holds(call, "/cluster/sdn/zones", &zone) {
                return Err(ApiError::die(format!("no such zone '{zone}'")));
            }
            row.insert("type".into(), json!("vnet"));
        }
        "/cluster/sdn/vnets/{vnet}/subnets" => {
            let vnet = call.owned("vnet");
            if !holds(call, "/cluster/sdn/vnets", &vnet) {
                return Err(ApiError::die(format!("no such vnet '{vnet}'")));
            }
            row.insert("type".into(), json!("subnet"));
            row.insert("vnet".into(), json!(vnet));
            row.insert("zone".into(), json!(zone_of(call)));
            // Since there are ranges, each subnet shows how many it has.
            let declared = &call.endpoint.parameters.properties;
            if declared.contains_key("dhcp-range") {
                row.entry("dhcp-range").or_insert_with(|| json!([]));
            }
            if let Some((network, mask)) = call.text("cidr").and_then(|cidr| cidr.split_once('/')) {
                row.insert("network".into(), json!(network));
                row.insert("mask".into(), json!(mask));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Refuses to remove what is in use.
pub(super) fn may_remove(call: &Call<'_>, list: &str, id: &str) -> ApiResult<()> {
    if list != "/cluster/sdn/zones" {
        return Ok(());
    }
    let user = call
        .world
        .records
        .get("/cluster/sdn/vnets")
        .and_then(|rows| {
            rows.iter()
                .find(|(_, row)| row.get("zone") == Some(&json!(id)))
        });
    match user {
        Some((vnet, _)) => Err(ApiError::die(format!(
            "zone '{id}' is used by vnet '{vnet}'"
        ))),
        None => Ok(()),
    }
}
