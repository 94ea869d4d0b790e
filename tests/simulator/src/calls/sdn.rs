//! The software-defined network: the planned configuration, and the running one since it was last
//! applied.

use std::net::IpAddr;

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::place;
use crate::state::effect::Effect;
use crate::state::records::{Row, Rows};

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

/// Whether a call's virtual network is running.
pub(super) fn has_vnet(call: &Call<'_>) -> bool {
    let vnet = call.text("vnet").unwrap_or("");
    let mut rows = call
        .cluster
        .sdn_running
        .get("/cluster/sdn/vnets")
        .into_iter()
        .flatten();
    rows.any(|(key, _)| key == vnet)
}

const LOCK: &str = "/cluster/sdn/lock";

/// The difference between the planned and the running configuration.
fn has_pending(call: &Call<'_>) -> bool {
    let cluster = &*call.cluster;
    [
        "/cluster/sdn/zones",
        "/cluster/sdn/vnets",
        "/cluster/sdn/controllers",
    ]
    .iter()
    .any(|list| {
        let none = Rows::new();
        let planned = cluster.records.get(*list).unwrap_or(&none);
        planned != cluster.sdn_running.get(*list).unwrap_or(&none)
    })
}

/// Refuses changes without the lock's token.
fn check_lock(call: &Call<'_>) -> ApiResult<()> {
    let lock_token = (call.cluster.settings.get(LOCK)).and_then(|lock| lock.get("token")?.as_str());
    match lock_token {
        Some(token) if call.text("lock-token") != Some(token) => {
            Err(ApiError::die("invalid lock token provided!"))
        }
        _ => Ok(()),
    }
}

/// Releases the lock after a call, unless the call keeps it.
fn release(call: &mut Call<'_>) {
    if call.text("lock-token").is_some() && call.text("release-lock") != Some("0") {
        call.cluster.settings.remove(LOCK);
    }
}

/// The lock of the whole configuration, since 9.0.
fn lock(call: &mut Call<'_>) -> ApiResult<Reply> {
    if call.method == Method::Delete {
        if !call.flag("force") {
            check_lock(call)?;
        }
        call.cluster.settings.remove(LOCK);
        return Ok(Reply::data(Value::Null));
    }
    let refused = "could not acquire lock for SDN config";
    if call.cluster.settings.contains_key(LOCK) {
        return Err(ApiError::die(format!(
            "{refused}: invalid lock token provided!"
        )));
    }
    if !call.flag("allow-pending") && has_pending(call) {
        return Err(ApiError::die(format!(
            "{refused}: configuration has pending changes"
        )));
    }
    let token = call.cluster.uuid();
    let row = Row::from_iter([("token".to_owned(), json!(token))]);
    call.cluster.settings.insert(LOCK.to_owned(), row);
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
            call.cluster
                .records
                .retain(|key, _| !key.starts_with("/cluster/sdn/"));
            let running = call.cluster.sdn_running.clone();
            call.cluster.records.extend(running);
            return Some(Ok(Reply::data(Value::Null)));
        }
        (Method::Get, "/nodes/{node}/sdn/zones") => {
            let zones = call
                .cluster
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
    if id == "subnet" {
        let vnet = call.owned("vnet");
        if call.cluster.entry("/cluster/sdn/vnets", &vnet).is_none() {
            let text = format!("sdn vnet '{vnet}' does not exist");
            return Some(Err(ApiError::die(text)));
        }
        if call.method == Method::Post
            && !call.text("subnet").is_some_and(|text| text.contains('/'))
        {
            let text = "invalid format - value does not look like a valid CIDR network\n";
            return Some(Err(ApiError::parameter("subnet", text)));
        }
    }
    // A subnet is created by its range; from then on its id consists of its zone and range.
    if id == "subnet"
        && call.method == Method::Post
        && let Some(subnet) = call.text("subnet")
    {
        let full = format!("{}-{}", zone_of(call), subnet.replace('/', "-"));
        let cidr = subnet.to_owned();
        call.params
            .insert("cidr".into(), crate::params::Param::Text(cidr));
        call.params
            .insert("subnet".into(), crate::params::Param::Text(full));
    }
    if call.method != Method::Get || !(call.flag("pending") || call.flag("running")) {
        return None;
    }
    let key = place(call, list);
    let none = Rows::new();
    let planned = call.cluster.records.get(&key).unwrap_or(&none);
    let running = call.cluster.sdn_running.get(&key).unwrap_or(&none);
    let rows: Vec<Value> = if call.flag("running") {
        running
            .iter()
            .map(|(key, row)| visible_entry(id, key, row))
            .collect()
    } else {
        let mut rows: Vec<Value> = planned
            .iter()
            .map(|(key, row)| {
                let old = running
                    .iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, row)| row);
                let mut entry =
                    visible_entry(id, key, &old.map_or_else(|| identity(row), Row::clone));
                entry["digest"] = Value::Null;
                if old != Some(row) {
                    entry["state"] = json!(if old.is_some() { "changed" } else { "new" });
                    entry["pending"] = pending(old, row);
                }
                complete(id, entry)
            })
            .collect();
        let gone = running
            .iter()
            .filter(|(key, _)| !planned.iter().any(|(name, _)| name == key));
        rows.extend(gone.map(|(key, row)| {
            let mut entry = visible_entry(id, key, row);
            entry["digest"] = Value::Null;
            entry["state"] = json!("deleted");
            complete(id, entry)
        }));
        rows
    };
    if call.path == list {
        return Some(Ok(Reply::data(rows)));
    }
    let requested = call.owned(id);
    let found = rows.into_iter().find(|row| row[id] == json!(requested));
    Some(
        found
            .map(Reply::data)
            .ok_or_else(|| ApiError::die(format!("no such {id} '{requested}'"))),
    )
}

/// Identifying members, which are never pending.
const IDENTITY: [&str; 6] = ["type", "cidr", "network", "mask", "subnet", "id"];

/// Members of an object that is not running yet.
fn identity(row: &Row) -> Row {
    let subnet = row.contains_key("cidr");
    row.iter()
        .filter(|(key, _)| {
            IDENTITY.contains(&key.as_str()) || subnet && matches!(key.as_str(), "vnet" | "zone")
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The pending changes.
fn pending(old: Option<&Row>, row: &Row) -> Value {
    let base = identity(row);
    let mut entry: Row = row
        .iter()
        .filter(|(key, _)| !base.contains_key(*key))
        .filter(|(key, value)| old.and_then(|old| old.get(*key)) != Some(*value))
        .map(|(key, value)| (key.clone(), typed(key, value)))
        .collect();
    let gone = old
        .into_iter()
        .flatten()
        .filter(|(key, _)| !row.contains_key(*key));
    entry.extend(gone.map(|(key, _)| (key.clone(), json!("deleted"))));
    Value::Object(entry)
}

/// Parses the ranges of a subnet as for reading.
pub(super) fn ranges(row: &mut Row) {
    let Some(Value::Array(ranges)) = row.get_mut("dhcp-range") else {
        return;
    };
    for range in ranges {
        let Some(text) = range.as_str() else { continue };
        let parts: Row = text
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        *range = Value::Object(parts);
    }
}

fn complete(id: &str, mut entry: Value) -> Value {
    if let Some(row) = entry.as_object_mut().filter(|_| id == "subnet") {
        row.entry("dhcp-range").or_insert_with(|| json!([]));
        ranges(row);
    }
    entry
}

fn typed(key: &str, value: &Value) -> Value {
    let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
    let typed = matches!(
        key,
        "tag" | "vlanaware" | "isolate-ports" | "mtu" | "snat" | "vrf-vxlan" | "vxlan-port" | "asn"
    );
    number
        .filter(|_| typed)
        .map_or_else(|| value.clone(), Value::from)
}

fn visible_entry(id: &str, name: &str, row: &Row) -> Value {
    let mut entry: Row = row
        .iter()
        .map(|(key, value)| (key.clone(), typed(key, value)))
        .collect();
    entry.insert(id.to_owned(), json!(name));
    if id == "subnet" {
        entry.insert("id".into(), json!(name));
    }
    Value::Object(entry)
}

/// The zone of the call's virtual network.
fn zone_of(call: &Call<'_>) -> String {
    let zone = call.cluster.zone_of_vnet(call.text("vnet").unwrap_or(""));
    zone.unwrap_or("").to_owned()
}

/// Whether there are subnets in a zone.
fn has_subnets(call: &Call<'_>, zone: &str) -> bool {
    let subnets = call.cluster.records.iter();
    let mut subnets = subnets
        .filter(|(key, _)| key.starts_with("/cluster/sdn/vnets/") && key.ends_with("/subnets"))
        .flat_map(|(_, rows)| rows);
    subnets.any(|(_, row)| row.get("zone") == Some(&json!(zone)))
}

/// A parameter refused under the lock: the refusal is a plain text.
fn refused(operation: &str, problems: &[(&str, String)]) -> ApiError {
    let mut text = format!("{operation} failed: 400 Parameter verification failed.");
    for (name, problem) in problems {
        text.push_str(&format!("\n{name}: {problem}"));
    }
    ApiError::die(text)
}

fn zone_kind<'a>(call: &'a Call<'_>, zone: &str) -> Option<&'a str> {
    call.cluster
        .entry("/cluster/sdn/zones", zone)?
        .get("type")?
        .as_str()
}

/// Checks an object in its new state.
pub(super) fn verify(
    call: &Call<'_>,
    list: &str,
    id: &str,
    row: &Row,
    creates: bool,
) -> ApiResult<()> {
    match list {
        "/cluster/sdn/zones" => verify_zone(call, id, row, creates),
        "/cluster/sdn/controllers" => verify_controller(call, row, creates),
        "/cluster/sdn/vnets" => verify_vnet(call, id, row, creates),
        "/cluster/sdn/vnets/{vnet}/subnets" => verify_subnet(call, row, creates),
        _ => Ok(()),
    }
}

fn operation(kind: &str, creates: bool) -> String {
    let verb = if creates { "create" } else { "update" };
    format!("{verb} sdn {kind} object")
}

fn text<'r>(row: &'r Row, name: &str) -> Option<&'r str> {
    row.get(name).and_then(Value::as_str)
}

/// Whether a row of this type has both or neither of peers and a fabric, on releases with fabrics.
fn has_wrong_peers(call: &Call<'_>, row: &Row, kind: &str) -> bool {
    text(row, "type") == Some(kind)
        && call.endpoint.parameters.properties.contains_key("fabric")
        && text(row, "peers").is_some() == text(row, "fabric").is_some()
}

const WRONG_PEERS: &str = "must have exactly one of peers / fabric defined";

fn verify_zone(call: &Call<'_>, id: &str, row: &Row, creates: bool) -> ApiResult<()> {
    let operation = operation("zone", creates);
    let refuse = |problems: &[(&str, String)]| Err(refused(&operation, problems));
    let exists = |list: &str, id: &str| call.cluster.entry(list, id).is_some();
    let ipam = |row: &Row| row.get("ipam").cloned();
    let old = call.cluster.entry("/cluster/sdn/zones", id).and_then(ipam);
    if !creates && old != ipam(row) && has_subnets(call, id) {
        let text = "can't change ipam if a subnet is already defined in this zone";
        return refuse(&[("ipam", text.into())]);
    }
    if let Some(ipam) = text(row, "ipam").filter(|ipam| !exists("/cluster/sdn/ipams", ipam)) {
        return refuse(&[("ipam", format!("{ipam} not existing"))]);
    }
    if let Some(dns) = text(row, "dns").filter(|dns| !exists("/cluster/sdn/dns", dns)) {
        return refuse(&[("dns", format!("{dns} don't exist"))]);
    }
    if text(row, "dnszone").is_some() && text(row, "dns").is_none() {
        return refuse(&[("dnszone", "missing dns server".into())]);
    }
    if has_wrong_peers(call, row, "vxlan") {
        return refuse(&[
            ("peers", WRONG_PEERS.into()),
            ("fabric", WRONG_PEERS.into()),
        ]);
    }
    if let Some(controller) = text(row, "controller")
        && !exists("/cluster/sdn/controllers", controller)
    {
        return Err(ApiError::die(format!(
            "{operation} failed: controller {controller} don't exist"
        )));
    }
    Ok(())
}

fn verify_controller(call: &Call<'_>, row: &Row, creates: bool) -> ApiResult<()> {
    if has_wrong_peers(call, row, "evpn") {
        let operation = operation("controller", creates);
        return Err(ApiError::die(format!("{operation} failed: {WRONG_PEERS}")));
    }
    Ok(())
}

fn verify_vnet(call: &Call<'_>, id: &str, row: &Row, creates: bool) -> ApiResult<()> {
    let operation = operation("vnet", creates);
    let zone = text(row, "zone").unwrap_or("");
    if !creates {
        if zone.is_empty() {
            let text = "update sdn vnet object failed: unable to delete required option 'zone'";
            return Err(ApiError::die(text));
        }
        let old = call.cluster.entry("/cluster/sdn/vnets", id);
        let old = old.and_then(|row| text(row, "zone"));
        let subnets = call
            .cluster
            .rows(&format!("/cluster/sdn/vnets/{id}/subnets"));
        if old != Some(zone) && !subnets.is_empty() {
            let text = "can't change zone if subnets exist";
            return Err(refused(&operation, &[("zone", text.into())]));
        }
    }
    let Some(kind) = zone_kind(call, zone) else {
        return Err(ApiError::die(format!(
            "{operation} failed: cannot lookup undefined type!"
        )));
    };
    let refuse = |text: String| Err(refused(&operation, &[("tag", text)]));
    let Some(tag) = text(row, "tag") else {
        return match kind {
            "vlan" => refuse("missing vlan tag".into()),
            "evpn" | "vxlan" => refuse("missing vxlan tag".into()),
            _ => Ok(()),
        };
    };
    if kind == "simple" {
        return refuse("vlan tag is not allowed on simple zone".into());
    }
    let mut rows = call.cluster.rows("/cluster/sdn/vnets").iter();
    let other = rows.find(|(key, row)| {
        key != id && row.get("zone") == Some(&json!(zone)) && row.get("tag") == Some(&json!(tag))
    });
    match other {
        Some((vnet, _)) => refuse(format!("tag {tag} already exist in vnet {vnet}")),
        None => Ok(()),
    }
}

fn verify_subnet(call: &Call<'_>, row: &Row, creates: bool) -> ApiResult<()> {
    let operation = operation("subnet", creates);
    let refuse = |name: &str, text: String| Err(refused(&operation, &[(name, text)]));
    let vnet = call.owned("vnet");
    let aware = call
        .cluster
        .entry("/cluster/sdn/vnets", &vnet)
        .is_some_and(|row| row.get("vlanaware") == Some(&json!("1")));
    if aware {
        return refuse("vnet", "you can't add a subnet on a vlanaware vnet".into());
    }
    let cidr = text(row, "cidr").unwrap_or("");
    if let Some(gateway) = text(row, "gateway").filter(|ip| !within(ip, cidr)) {
        return refuse("gateway", format!("{gateway} is not in subnet {cidr}"));
    }
    let ranges = row.get("dhcp-range").and_then(Value::as_array);
    for range in ranges.into_iter().flatten().filter_map(Value::as_str) {
        for (name, ip) in range.split(',').filter_map(|part| part.split_once('=')) {
            if name.ends_with("-address") && !within(ip, cidr) {
                let text = format!("{name} {ip} is not in subnet {cidr}");
                return refuse("dhcp-range", text);
            }
        }
    }
    Ok(())
}

/// Whether an address is part of a network.
fn within(ip: &str, cidr: &str) -> bool {
    let Some((network, length)) = cidr.split_once('/') else {
        return false;
    };
    let Ok(length) = length.parse::<u32>() else {
        return false;
    };
    let (Ok(ip), Ok(network)) = (ip.parse::<IpAddr>(), network.parse::<IpAddr>()) else {
        return false;
    };
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let ((ip, wide), (network, width)) = (bits(ip), bits(network));
    wide == width && length <= wide && (ip ^ network).checked_shr(wide - length).unwrap_or(0) == 0
}

pub(super) fn enrich(call: &Call<'_>, list: &str, _id: &str, row: &mut Row) -> ApiResult<()> {
    match list {
        "/cluster/sdn/vnets" => {
            row.insert("type".into(), json!("vnet"));
        }
        "/cluster/sdn/vnets/{vnet}/subnets" => {
            let vnet = call.owned("vnet");
            if call.cluster.entry("/cluster/sdn/vnets", &vnet).is_none() {
                return Err(ApiError::die(format!("sdn vnet '{vnet}' does not exist")));
            }
            row.insert("type".into(), json!("subnet"));
            row.insert("vnet".into(), json!(vnet));
            row.insert("zone".into(), json!(zone_of(call)));
            // Since the releases with ranges, each subnet shows their number.
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

/// `GET /cluster/sdn/ipams/{ipam}/status`: which addresses are given away; only those that the cluster itself manages.
pub(super) fn addresses(call: &Call<'_>) -> ApiResult<Reply> {
    match call.text("ipam") {
        Some("pve") => Ok(Reply::data(json!([]))),
        _ => Err(ApiError::die("Currently only PVE IPAM is supported!")),
    }
}

/// How the removal of a subnet fails that is not there: the addresses of its zone are looked for under no name. Where
/// addresses are not managed, nothing happens.
pub(super) fn no_addresses(call: &Call<'_>, list: &str) -> Option<ApiError> {
    if list != "/cluster/sdn/vnets/{vnet}/subnets" {
        return None;
    }
    let zone = zone_of(call);
    let zone = call.cluster.entry("/cluster/sdn/zones", &zone);
    let managed = zone.is_some_and(|zone| zone.contains_key("ipam"));
    managed
        .then(|| ApiError::die("delete sdn subnet object failed: zone '' doesn't exist in IPAM DB"))
}

/// Refuses to remove what is in use.
pub(super) fn may_remove(call: &Call<'_>, list: &str, id: &str) -> ApiResult<()> {
    let (users, member, what) = match list {
        "/cluster/sdn/zones" => ("/cluster/sdn/vnets", "zone", "vnet "),
        "/cluster/sdn/controllers" => ("/cluster/sdn/zones", "controller", ""),
        _ => return Ok(()),
    };
    let mut rows = call.cluster.rows(users).iter();
    match rows.find(|(_, row)| row.get(member) == Some(&json!(id))) {
        Some((user, _)) => Err(ApiError::die(format!(
            "delete sdn {member} object failed: {member} {id} is used by {what}{user}"
        ))),
        None => Ok(()),
    }
}
