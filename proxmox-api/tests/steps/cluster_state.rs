//! The state of a simulated cluster. Each object has the subject that errors name, so tests can
//! compare what an error lists as left behind with what is left behind.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_simulator::Simulator;
use serde_json::Value;

/// The network as a whole is one subject.
const SDN: &str = "the software-defined network";

/// The objects by subject and place, with their contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterState(BTreeMap<(String, String), Value>);

impl ClusterState {
    pub(crate) fn of(simulator: &Simulator) -> Self {
        let snapshot: Value = serde_json::from_str(&simulator.snapshot()).expect("JSON");
        let mut state = Self::default();
        for node in items(&snapshot["nodes"]) {
            let subject = format!("node {}", text(&node["name"]));
            state.put(subject, "booted", &node["booted"]);
        }
        for (vmid, guest) in members(&snapshot["guests"]) {
            let subject = format!("guest {vmid}");
            state.put(
                subject.clone(),
                "runs",
                &Value::from(!guest["started"].is_null()),
            );
            for key in ["kind", "node", "pending", "snapshots", "lock", "pool"] {
                state.put(subject.clone(), key, &guest[key]);
            }
            for (key, value) in members(&guest["config"]) {
                state.put(subject.clone(), &format!("config {key}"), value);
            }
        }
        for volume in items(&snapshot["volumes"]) {
            let id = text(&volume["volid"]);
            let subject = match text(&volume["content"]) {
                "images" | "rootdir" => format!("guest {}", volume["vmid"]),
                "backup" => format!("backups of guest {}", volume["vmid"]),
                _ => format!("volume {id}"),
            };
            let place = format!("volume {} {id}", text(&volume["node"]));
            state.put(subject, &place, &volume["size"]);
        }
        for (list, rows) in members(&snapshot["records"]) {
            for row in items(rows) {
                let id = text(&row[0]);
                state.put(subject(list, id), &format!("{list} {id}"), &row[1]);
            }
        }
        for (path, settings) in members(&snapshot["settings"]) {
            state.put(subject(path, ""), path, settings);
        }
        state.put(SDN.to_owned(), "in force", &snapshot["sdn_running"]);
        state
    }

    fn put(&mut self, subject: String, place: &str, value: &Value) {
        let empty = match value {
            Value::Null => true,
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !empty {
            self.0.insert((subject, place.to_owned()), value.clone());
        }
    }

    /// The subjects with changes.
    pub(crate) fn changed_since(&self, before: &Self) -> BTreeSet<String> {
        let both = self.0.iter().chain(&before.0);
        let changed = both.filter(|(key, _)| self.0.get(key) != before.0.get(key));
        changed.map(|((subject, _), _)| subject.clone()).collect()
    }

    /// The state, without details that differ between runs.
    pub(crate) fn outline(&self, with_nodes: bool) -> BTreeSet<String> {
        let places = self.0.iter().filter_map(|((subject, place), value)| {
            let content = match place.as_str() {
                "runs" => value.to_string(),
                "node" if with_nodes => value.to_string(),
                "node" | "booted" => return None,
                _ if subject.starts_with("backups ") => return None,
                place if place.starts_with("volume ") && !with_nodes => return None,
                _ => String::new(),
            };
            Some(format!("{subject}: {place} {content}"))
        });
        places.collect()
    }
}

/// The subject of a list entry in errors.
fn subject(list: &str, id: &str) -> String {
    let vmid = || {
        list.split('/')
            .find(|part| part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty())
    };
    match list {
        "/cluster/ha/resources" => match id.split_once(':') {
            Some((_, vmid)) => format!("guest {vmid}"),
            None => format!("{list} {id}"),
        },
        "/cluster/ha/groups" => format!("group {id}"),
        "/cluster/ha/rules" => format!("rule {id}"),
        "/cluster/backup" => format!("backup job {id}"),
        list if list.starts_with("/cluster/sdn") => SDN.to_owned(),
        list if list.ends_with("/firewall/rules") => match vmid() {
            Some(vmid) => format!("rules of guest {vmid}"),
            None => list.to_owned(),
        },
        list => format!("{list} {id}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
