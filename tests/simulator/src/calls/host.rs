//! A node's system: services, the hosts file, templates to download.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::field;
use crate::indexed::has_index;
use crate::state::effect::{Edit, Effect};
use crate::state::records::{Row, digest};
use crate::state::storage::Volume;

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post};
    let rest = call.path.strip_prefix("/nodes/{node}/")?.to_owned();
    Some(match (call.method, rest.as_str()) {
        (Get, "services") => Ok(services(call)),
        (Get, "netstat") => Ok(traffic(call)),
        (Get, "services/{service}/state") => Ok(Reply::data(service(call, &call.owned("service")))),
        (Post, path) if path.starts_with("services/{service}/") => command(call, &path[19..]),
        (Get, "hosts") => Ok(hosts(call)),
        (Post, "hosts") => change_hosts(call),
        (Post, "aplinfo") => template(call),
        (Post, "wakeonlan") => match call.cluster.nodes.first() {
            // The node that answers is the first.
            Some(own) if own.name == call.owned("node") => Err(ApiError::die(format!(
                "'{}' is local node, cannot wake my self!",
                own.name
            ))),
            _ => return None,
        },
        (Get, "subscription") if !may_audit(call) => {
            let key = crate::calls::records::rows::place(call, call.path);
            if call.cluster.settings.contains_key(&key) {
                return None;
            }
            Ok(Reply::data(json!({
                "status": "notfound", "message": "There is no subscription key",
                "url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing",
            })))
        }
        (Delete, "subscription") => {
            let key = crate::calls::records::rows::place(call, call.path);
            call.cluster.settings.remove(&key);
            Ok(Reply::data(Value::Null))
        }
        _ => return None,
    })
}

/// `POST /nodes/{node}/status`: the node and its guests go down after a moment. After a reboot, the
/// node comes back and starts its guests with `onboot`.
pub(super) fn power(call: &mut Call<'_>) -> ApiResult<Reply> {
    let node = call.owned("node");
    let again = call.text("command") == Some("reboot");
    call.cluster.schedule(2.0, Effect::NodeDown(node.clone()));
    if again {
        call.cluster.schedule(60.0, Effect::NodeUp(node));
    }
    Ok(Reply::data(Value::Null))
}

/// The counters of running guests' network devices. A device is named after the guest's number; the
/// values are strings.
fn traffic(call: &Call<'_>) -> Reply {
    let node = call.owned("node");
    let mut rows = Vec::new();
    let guests = call.cluster.guests.iter();
    for (vmid, guest) in guests.filter(|(_, guest)| guest.node == node && guest.running()) {
        let devices = guest.config.keys().filter(|key| has_index(key, "net"));
        rows.extend(devices.map(
            |device| json!({ "vmid": vmid.to_string(), "dev": device, "in": "0", "out": "0" }),
        ));
    }
    Reply::data(rows)
}

fn may_audit(call: &Call<'_>) -> bool {
    call.may(&format!("/nodes/{}", call.owned("node")), "Sys.Audit")
}

fn list(call: &Call<'_>) -> String {
    format!("/nodes/{}/services", call.owned("node"))
}

/// The release's services whose state can be queried.
fn names(call: &Call<'_>) -> Vec<String> {
    let state = call
        .cluster
        .schema
        .endpoint(Method::Get, "/nodes/{node}/services/{service}/state");
    state
        .and_then(|state| state.parameters.properties.get("service")?.values.clone())
        .unwrap_or_default()
}

fn service(call: &Call<'_>, name: &str) -> Value {
    let stopped = call.cluster.entry(&list(call), name).is_some();
    let (state, active) = if stopped {
        ("dead", "inactive")
    } else {
        ("running", "active")
    };
    json!({
        "service": name, "name": name, "desc": format!("Simulated {name}"), "state": state, "active-state": active,
        "unit-state": "enabled",
    })
}

fn services(call: &Call<'_>) -> Reply {
    let rows = names(call).into_iter().map(|name| service(call, &name));
    Reply::data(rows.collect::<Value>())
}

fn command(call: &mut Call<'_>, verb: &str) -> ApiResult<Reply> {
    let name = call.owned("service");
    // Stopping these would cut off the API.
    if verb == "stop" && matches!(name.as_str(), "pvedaemon" | "pveproxy" | "pve-cluster") {
        return Err(ApiError::die(format!(
            "invalid service cmd 'stop' for service '{name}'"
        )));
    }
    let list = list(call);
    let edit = match verb {
        "stop" => Edit::Set(list, name.clone(), Row::new()),
        _ => Edit::Remove(list, name.clone()),
    };
    let task = format!("srv{verb}");
    Ok(call.start(&task, name, 0.5, Vec::new(), Effect::Edit(vec![edit])))
}

fn hosts_file(call: &Call<'_>) -> String {
    let key = format!("/nodes/{}/hosts", call.owned("node"));
    let stored = call
        .cluster
        .settings
        .get(&key)
        .map(|row| field(row, "data"));
    stored.and_then(Value::as_str).map_or_else(
        || {
            let nodes = call.cluster.nodes.iter().zip(1..);
            let lines = nodes.map(|(node, n)| format!("192.0.2.{n} {}\n", node.name));
            let own = "127.0.0.1 localhost.localdomain localhost\n".to_owned();
            std::iter::once(own).chain(lines).collect()
        },
        str::to_owned,
    )
}

fn hosts(call: &Call<'_>) -> Reply {
    let text = hosts_file(call);
    Reply::data(json!({ "data": text, "digest": digest(&text) }))
}

fn change_hosts(call: &mut Call<'_>) -> ApiResult<Reply> {
    crate::calls::records::rows::check_digest(call, &digest(&hosts_file(call)))?;
    let key = format!("/nodes/{}/hosts", call.owned("node"));
    let data = json!(call.owned("data"));
    let row = call.cluster.settings.entry(key).or_default();
    row.insert("data".into(), data);
    Ok(Reply::data(Value::Null))
}

fn template(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id, name) = (
        call.owned("node"),
        call.owned("storage"),
        call.owned("template"),
    );
    if !call.cluster.storage(&id)?.holds("vztmpl") {
        return Err(ApiError::die(format!(
            "storage '{id}' does not support templates"
        )));
    }
    let volid = format!("{id}:vztmpl/{name}");
    let key = call.cluster.volume_key(&node, &volid);
    let volume = Volume {
        storage: id,
        content: "vztmpl".into(),
        format: "tzst".into(),
        size: 120 << 20,
        vmid: None,
        created: call.cluster.now.as_secs(),
        notes: None,
        protected: false,
        saved: None,
    };
    let lines = vec![format!("downloading {name}"), "checksum verified".into()];
    Ok(call.start("download", name, 2.0, lines, Effect::AddVolume(key, volume)))
}
