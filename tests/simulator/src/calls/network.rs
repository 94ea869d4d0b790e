//! Interfaces of a node: the active ones, and changes that wait for a reload.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::state::cluster::network::{planned, running};
use crate::state::effect::Effect;
use crate::state::records::Row;

pub(super) const LIST: &str = "/nodes/{node}/network";

/// Answers calls about all interfaces, and refuses impossible changes; `None` leaves the rest to
/// the list.
pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let node = call.owned("node");
    match (call.method, call.path) {
        (Method::Put, LIST) => {
            let lines = vec!["reloading network configuration".into()];
            let effect = Effect::ApplyNetwork(node);
            Some(Ok(call.start(
                "srvreload",
                "networking",
                1.0,
                lines,
                effect,
            )))
        }
        (Method::Delete, LIST) => {
            let old = call.cluster.rows(&running(&node)).to_vec();
            call.cluster.records.insert(planned(&node), old);
            Some(Ok(Reply::data(Value::Null)))
        }
        (Method::Post, LIST) => check(call, &node, true).err().map(Err),
        (Method::Put, "/nodes/{node}/network/{iface}") => check(call, &node, false).err().map(Err),
        (_, "/nodes/{node}/network/{iface}") => exists(call, &node).err().map(Err),
        _ => None,
    }
}

fn exists(call: &Call<'_>, node: &str) -> ApiResult<()> {
    let iface = call.text("iface").unwrap_or("");
    if call.cluster.entry(&planned(node), iface).is_some() {
        return Ok(());
    }
    Err(ApiError::parameter("iface", "interface does not exist"))
}

fn check(call: &Call<'_>, node: &str, new: bool) -> ApiResult<()> {
    let iface = call.owned("iface");
    let all = call.cluster.rows(&planned(node));
    let known = all.iter().any(|(key, _)| *key == iface);
    if new && known {
        return Err(ApiError::parameter("iface", "interface already exists"));
    }
    if !new && !known {
        return Err(ApiError::parameter("iface", "interface does not exist"));
    }
    let others = || all.iter().filter(|(key, _)| *key != iface);
    for (key, name) in [
        ("gateway", "Default gateway"),
        ("gateway6", "Default ipv6 gateway"),
    ] {
        if call.params.contains_key(key)
            && let Some((other, _)) = others().find(|(_, row)| row.contains_key(key))
        {
            let text = format!("{name} already exists on interface '{other}'.");
            return Err(ApiError::parameter(key, text));
        }
    }
    for (plain, short) in [("address", "cidr"), ("address6", "cidr6")] {
        if call.params.contains_key(short) && call.params.contains_key(plain) {
            let text = format!("{plain} conflicts with {short}");
            return Err(ApiError::parameter(plain, text));
        }
    }
    Ok(())
}

/// Whether an interface is of the kind that a list requests.
pub(super) fn fits(requested: &str, kind: &str) -> bool {
    match requested {
        "any_bridge" | "any_local_bridge" => matches!(kind, "bridge" | "OVSBridge"),
        "include_sdn" => true,
        requested => requested == kind,
    }
}

/// Members of an interface in a list beyond its settings; only active interfaces exist in the
/// system.
pub(super) fn complete(call: &Call<'_>, iface: &str, row: &mut Row) {
    let node = call.text("node").unwrap_or("");
    let active = call.cluster.entry(&running(node), iface).is_some();
    for key in ["active", "exists"] {
        if active {
            row.insert(key.into(), json!(1));
        } else {
            row.remove(key);
        }
    }
}

/// Virtual networks in a list of bridges.
pub(super) fn vnets(call: &Call<'_>) -> Vec<Value> {
    if !matches!(
        call.text("type"),
        Some("any_bridge" | "include_sdn" | "vnet")
    ) {
        return Vec::new();
    }
    let running = call.cluster.sdn_running.get("/cluster/sdn/vnets");
    let vnets = running.into_iter().flatten();
    vnets
        .map(|(vnet, _)| json!({ "iface": vnet, "type": "vnet", "active": 1 }))
        .collect()
}

/// The changes of a reload, as a diff of two files; `None` if there are none.
pub(super) fn changes(call: &Call<'_>) -> Option<String> {
    let node = call.text("node").unwrap_or("");
    let (old, new) = (
        lines(call.cluster.rows(&running(node))),
        lines(call.cluster.rows(&planned(node))),
    );
    if old == new {
        return None;
    }
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[start..]
        .iter()
        .rev()
        .zip(new[start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (gone, come) = (&old[start..old.len() - tail], &new[start..new.len() - tail]);
    let mut text = format!(
        "--- /etc/network/interfaces\n+++ /etc/network/interfaces.new\n@@ -{},{} +{},{} @@\n",
        start + 1,
        gone.len(),
        start + 1,
        come.len()
    );
    for (sign, lines) in [('-', gone), ('+', come)] {
        for line in lines {
            text.push_str(&format!("{sign}{line}\n"));
        }
    }
    Some(text)
}

/// Interfaces in the form of their configuration file.
fn lines(rows: &[(String, Row)]) -> Vec<String> {
    let mut out = Vec::new();
    for (iface, row) in rows {
        let text = |key: &str| row.get(key).and_then(Value::as_str);
        if text("autostart") == Some("1") {
            out.push(format!("auto {iface}"));
        }
        out.push(format!(
            "iface {iface} inet {}",
            text("method").unwrap_or("manual")
        ));
        let known = [
            "address", "netmask", "cidr", "gateway", "mtu", "slaves", "comments",
        ];
        for (key, value) in row {
            let is_visible = known.contains(&key.as_str())
                || key.starts_with("bridge")
                || key.starts_with("ovs");
            if let (true, Some(value)) = (is_visible, value.as_str()) {
                out.push(format!("\t{} {value}", key.replace('_', "-")));
            }
        }
        out.push(String::new());
    }
    out
}
