//! Entries in answers: members that nobody set, and set members that are hidden.
//!
//! Most handlers return a section of a configuration file unchanged, which has its type and no id;
//! those of lists add the id. (PVE/API2/Backup.pm, API2/Jobs/RealmSync.pm,
//! API2/Cluster/{MetricServer,Mapping/*}.pm, API2/ACMEPlugin.pm)

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::calls::call::Call;
use crate::calls::records::rows::field;
use crate::formats::next_run;
use crate::propstring;
use crate::state::cluster::Cluster;
use crate::state::records::Row;

/// Whether an answer is for an entry or for the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    List,
    Alone,
}

/// Converts a stored entry to the server's answer. `stored` is its configuration.
pub(super) fn complete(
    call: &Call<'_>,
    list: &str,
    id: &str,
    stored: &Row,
    stamp: &str,
    view: View,
    row: &mut Row,
) {
    let alone = view == View::Alone;
    if let Some(kind) = list.strip_prefix("/cluster/mapping/") {
        row.insert("type".into(), json!(kind));
        row.insert("digest".into(), json!(stamp));
        if alone {
            row.remove("id");
        } else if call.params.contains_key("check-node") {
            let found = if kind == "usb" { "errors" } else { "checks" };
            row.insert(found.into(), checks(call, kind, stored));
        }
        return;
    }
    match list {
        "/cluster/sdn/ipams" => {
            row.insert("digest".into(), json!(stamp));
        }
        "/cluster/metrics/server" if alone => {
            row.remove("id");
            row.remove("digest");
        }
        "/cluster/metrics/server" => {
            row.retain(|key, _| matches!(key.as_str(), "id" | "type" | "server" | "port"));
            let off = field(stored, "disable") == "1";
            row.insert("disable".into(), json!(u8::from(off)));
        }
        "/cluster/acme/plugins" => {
            row.insert("plugin".into(), json!(id));
            row.insert("digest".into(), json!(stamp));
            row.remove("id");
        }
        "/cluster/backup" => {
            times(call.cluster, row, view);
        }
        "/cluster/jobs/realm-sync" => {
            row.insert("type".into(), json!("realm-sync"));
            row.remove("digest");
            if alone {
                row.remove("id");
            } else {
                row.insert("last-run".into(), Value::Null);
                times(call.cluster, row, view);
            }
        }
        _ => {}
    }
}

/// The schedule of a job. The older settings for it are not returned.
fn times(cluster: &Cluster, row: &mut Row, view: View) {
    let days = row.remove("dow");
    if let Some(Value::String(time)) = row.remove("starttime") {
        let days = days.as_ref().and_then(Value::as_str);
        let every = "mon,tue,wed,thu,fri,sat,sun";
        let schedule = match days.filter(|days| *days != every) {
            Some(days) => format!("{days} {time}"),
            None => time,
        };
        row.insert("schedule".into(), json!(schedule));
    }
    let next = (row.get("schedule").and_then(Value::as_str))
        .and_then(|schedule| next_run(schedule, cluster.now.as_secs()));
    if let Some(next) = next.filter(|_| view == View::List) {
        row.insert("next-run".into(), json!(next));
    }
}

/// What a node finds wrong with what a mapping says of it.
fn checks(call: &Call<'_>, kind: &str, stored: &Row) -> Value {
    let node = call.owned("check-node");
    let entries: Vec<&str> = match field(stored, "map") {
        Value::Array(entries) => entries.iter().filter_map(Value::as_str).collect(),
        Value::String(entry) => vec![entry],
        _ => Vec::new(),
    };
    let listed: Vec<&str> = entries
        .into_iter()
        .filter(|entry| propstring::value(entry, "node") == Some(&*node))
        .collect();
    if listed.is_empty() {
        let text = format!("No mapping for node {node}.");
        return json!([{ "severity": "warning", "message": text }]);
    }
    let missing = listed.iter().filter_map(|entry| {
        let id = propstring::value(entry, "id").unwrap_or_default();
        let path = propstring::value(entry, "path");
        match (kind, path) {
            ("pci", path) => {
                let path = path.unwrap_or_default();
                let function = |path: &str| match path.contains('.') {
                    true => path.to_owned(),
                    false => format!("{path}.0"),
                };
                let mut functions = path.split(';').map(function);
                let absent = functions.find(|path| !has_device("pci", |row| row["id"] == *path));
                absent.map(|path| format!("pci device '{path}' not found"))
            }
            ("usb", Some(path)) => {
                let exists = has_device("usb", |row| {
                    let bus = row["busnum"].as_u64().unwrap_or_default();
                    format!("{bus}-{}", row["usbpath"].as_str().unwrap_or("")) == path
                });
                (!exists).then(|| format!("usb device '{path}' not found"))
            }
            ("usb", None) => {
                let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
                let exists = has_device("usb", |row| {
                    format!("{}:{}", text(row, "vendid"), text(row, "prodid")) == id
                });
                (!exists).then(|| format!("usb device '{id}' not found"))
            }
            _ => None,
        }
    });
    missing
        .map(|text| json!({ "severity": "error", "message": format!("Invalid configuration: {text}\n") }))
        .collect()
}

/// Whether every node has such a device.
fn has_device(kind: &str, fits: impl Fn(&Value) -> bool) -> bool {
    let devices = crate::sample::fresh_node(&format!("/nodes/{{node}}/hardware/{kind}"));
    devices.as_array().into_iter().flatten().any(fits)
}

/// The tags that the caller may assign, from those of guests and the registered ones.
pub(super) fn allowed_tags(call: &Call<'_>) -> Value {
    let settings = call.cluster.settings.get("/cluster/options");
    let text = |key: &str| {
        let value = settings.and_then(|row| row.get(key));
        value.and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let access = text("user-tag-access");
    let part = |name: &str| propstring::value(&access, name);
    let privileged = call.may("/", "Sys.Modify");
    let allow = part("user-allow").unwrap_or("free");
    let split = |list: &str| -> Vec<String> {
        let tags = list.split(';').filter(|tag| !tag.is_empty());
        tags.map(str::to_owned).collect()
    };
    let mut tags = std::collections::BTreeSet::new();
    if allow != "none" || privileged {
        tags.extend(split(part("user-allow-list").unwrap_or("")));
    }
    if matches!(allow, "free" | "existing") || privileged {
        for (vmid, guest) in &call.cluster.guests {
            if privileged || call.may(&format!("/vms/{vmid}"), "VM.Audit") {
                let assigned = guest.config.get("tags").map_or("", String::as_str);
                tags.extend(crate::formats::split_list(assigned).map(str::to_owned));
            }
        }
    }
    let registered = split(&text("registered-tags"));
    if privileged {
        tags.extend(registered);
    } else {
        tags.retain(|tag| !registered.contains(tag));
    }
    json!(tags)
}

/// Computed options of the data centre; fewer for callers who may not see all.
pub(super) fn options(call: &Call<'_>, row: &mut Row) {
    if call.method != Method::Get || call.path != "/cluster/options" {
        return;
    }
    if call.may("/", "Sys.Audit") {
        row.entry("mac_prefix").or_insert_with(|| json!("BC:24:11"));
        let text = row.get("description").and_then(Value::as_str).unwrap_or("");
        // A comment in the file, with a newline at its end.
        let text = match text.is_empty() || text.ends_with('\n') {
            true => text.to_owned(),
            false => format!("{text}\n"),
        };
        row.insert("description".into(), json!(text));
        let options = call.cluster.settings.get(call.path);
        if let Some(Value::String(list)) = options.and_then(|row| row.get("registered-tags")) {
            let tags: Vec<&str> = list.split(';').collect();
            row.insert("registered-tags".into(), json!(tags));
        }
        if let Some(Value::Object(access)) = row.get_mut("user-tag-access")
            && let Some(Value::String(list)) = access.get("user-allow-list").cloned()
        {
            let list: Vec<&str> = list.split(';').collect();
            access.insert("user-allow-list".into(), json!(list));
        }
    } else {
        row.retain(|key, _| matches!(key.as_str(), "console" | "tag-style"));
    }
    row.insert("allowed-tags".into(), allowed_tags(call));
}
