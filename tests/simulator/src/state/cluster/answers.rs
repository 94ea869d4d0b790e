//! Guests in answers.

use proxmox_codegen::facts::{Method, Type};
use serde_json::{Map, Value, json};

use crate::formats::split_list;
use crate::sample::mix;
use crate::schema::lookup;
use crate::state::cluster::Cluster;
use crate::state::config::Config;
use crate::state::guest::{Guest, Kind};

impl Cluster {
    /// A configuration in the form of an answer, each value with the type that the release
    /// declares.
    pub(crate) fn config_json(&self, kind: Kind, config: &Config) -> Map<String, Value> {
        let properties = self
            .schema
            .endpoint(Method::Get, kind.config_path())
            .and_then(|endpoint| endpoint.returns.properties.as_ref());
        config
            .iter()
            .map(|(key, text)| {
                let ty = properties
                    .and_then(|properties| lookup(properties, key))
                    .and_then(|schema| schema.ty);
                let value = match ty {
                    Some(Type::Integer | Type::Boolean) => {
                        text.parse::<i64>().map(Value::from).ok()
                    }
                    _ if key == "cipassword" => Some(json!("**********")),
                    _ => None,
                };
                (key.clone(), value.unwrap_or_else(|| json!(text)))
            })
            .collect()
    }

    /// The members about a guest in status and list calls.
    pub(crate) fn guest_json(&self, vmid: u32, guest: &Guest) -> Map<String, Value> {
        let uptime = guest
            .started
            .map_or(0, |at| self.now.saturating_sub(at).as_secs());
        let busy = mix(&vmid.to_string(), uptime / 10) % 100;
        let memory = guest.memory();
        let (used, cpu, traffic) = if guest.running() {
            (
                memory / 100 * (30 + busy / 4),
                json!(busy_share(busy)),
                uptime * 1_500,
            )
        } else {
            (0, json!(0), 0)
        };
        let mut row = Map::from_iter(
            [
                ("vmid", json!(vmid)),
                ("name", json!(guest.name(vmid))),
                ("status", json!(guest.status())),
                ("cpus", json!(guest.cpus())),
                ("maxmem", json!(memory)),
                ("maxdisk", json!(guest.disk_size())),
                ("disk", json!(0)),
                ("uptime", json!(uptime)),
                ("cpu", cpu),
                ("mem", json!(used)),
                ("netin", json!(traffic)),
                ("netout", json!(traffic / 2)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        if guest.running() {
            row.insert("pid".into(), json!(10_000 + vmid));
            if self.schema.release().major >= 9 {
                for name in PRESSURE {
                    let none = match guest.kind {
                        Kind::Qemu => json!(0),
                        Kind::Lxc => json!("0.00"),
                    };
                    row.insert(name.to_owned(), none);
                }
            }
        }
        if guest.running() || guest.kind == Kind::Lxc {
            row.insert("diskread".into(), json!(traffic * 3));
            row.insert("diskwrite".into(), json!(traffic * 2));
        }
        if guest.kind == Kind::Qemu {
            row.insert("memhost".into(), json!(used));
            let state = if guest.paused {
                "paused"
            } else {
                guest.status()
            };
            row.insert("qmpstatus".into(), json!(state));
        } else {
            row.insert("type".into(), json!("lxc"));
            if !guest.config.contains_key("cores")
                && let Some(node) = self.node(&guest.node)
            {
                row.insert("cpus".into(), json!(node.cores));
            }
            let swap = guest.config.get("swap").and_then(|text| text.parse().ok());
            row.insert("maxswap".into(), json!(swap.unwrap_or(512_u64) << 20));
            row.insert("swap".into(), json!(0));
        }
        if guest.template() {
            row.insert("template".into(), json!(1));
        }
        for key in ["tags"] {
            if let Some(value) = guest.config.get(key).filter(|value| !value.is_empty()) {
                let tags: Vec<&str> = split_list(value).collect();
                row.insert(key.into(), json!(tags.join(";")));
            }
        }
        if let Some(lock) = &guest.lock {
            row.insert("lock".into(), json!(lock));
        }
        row
    }
}

/// The pressure stall values of a guest.
pub(crate) const PRESSURE: [&str; 6] = [
    "pressurecpufull",
    "pressurecpusome",
    "pressureiofull",
    "pressureiosome",
    "pressurememoryfull",
    "pressurememorysome",
];

/// Those of a node, on which some process can always run.
pub(crate) const NODE_PRESSURE: &[&str] = PRESSURE.split_at(1).1;

/// Hundredths as a fraction.
fn busy_share(busy: u64) -> f64 {
    u32::try_from(busy).map_or(0.0, f64::from) / 400.0
}
