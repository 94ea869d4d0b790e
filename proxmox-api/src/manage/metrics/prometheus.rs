//! Prometheus' text format.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::Kind;
use crate::manage::inventory::{Inventory, Resource, ResourceType};
use crate::value::serialize::variant_serde;

/// The content type of [`scrape`]'s answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The kind of a Prometheus metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricType {
    /// A value that goes up and down.
    Gauge,
    /// A value that only grows, until it starts over.
    Counter,
}

variant_serde!(MetricType {
    Gauge = "gauge",
    Counter = "counter",
});

/// A Prometheus metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    name: String,
    help: String,
    metric_type: MetricType,
    samples: Vec<(Labels, f64)>,
    /// The index of the sample with these labels.
    places: HashMap<Labels, usize>,
}

type Labels = Vec<(String, String)>;

impl MetricFamily {
    /// A metric without samples. In `name`, characters that Prometheus does not allow become `_`.
    #[must_use]
    pub fn new(name: &str, metric_type: MetricType, help: impl Into<String>) -> Self {
        Self {
            name: clean(name, true),
            help: help.into(),
            metric_type,
            samples: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds a sample. It replaces a sample with the same labels.
    #[inline]
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Labels = (labels.iter())
            .map(|(name, value)| (clean(name, false), (*value).to_owned()))
            .collect();
        let place = *(self.places.entry(labels.clone())).or_insert(self.samples.len());
        match self.samples.get_mut(place) {
            Some((_, old)) => *old = value,
            None => self.samples.push((labels, value)),
        }
    }
}

#[inline]
fn clean(name: &str, colons: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':';
    let mut cleaned: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if cleaned.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        cleaned.insert(0, '_');
    }
    cleaned
}

/// Writes metrics in Prometheus' text format (version 0.0.4). Metrics without samples are omitted.
#[must_use]
#[inline]
pub fn render(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.metric_type {
            MetricType::Gauge => "gauge",
            MetricType::Counter => "counter",
        };
        let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {} {help}", family.name);
        let _ = writeln!(text, "# TYPE {} {kind}", family.name);
        for (labels, value) in &family.samples {
            text.push_str(&family.name);
            for (index, (name, value)) in labels.iter().enumerate() {
                let value = value
                    .replace('\\', r"\\")
                    .replace('"', "\\\"")
                    .replace('\n', r"\n");
                let open = if index == 0 { '{' } else { ',' };
                let _ = write!(text, "{open}{name}=\"{value}\"");
            }
            if !labels.is_empty() {
                text.push('}');
            }
            let _ = writeln!(text, " {}", number(*value));
        }
    }
    text
}

#[inline]
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Reads all figures and writes them in Prometheus' text format, with three requests for a cluster
/// of any size: [`GET /cluster/resources`](crate::pve::cluster::ClusterResourcesGet), [`GET
/// /cluster/status`](crate::pve::cluster::ClusterStatusPath::get) and [`GET
/// /version`](crate::pve::version::VersionPath::get). Names and labels are those of common
/// dashboards for Proxmox VE (`pve_up`, `pve_cpu_usage_ratio`, …, labelled by `id`).
///
/// # Errors
/// Those of every request.
pub async fn scrape(client: &Client) -> Result<String, Error> {
    let inventory = Inventory::fetch(client).await?;
    let mut families = families(&inventory);
    let version = client.api().version().get().await?;
    let mut about = MetricFamily::new(
        "pve_version_info",
        MetricType::Gauge,
        "Release of the server.",
    );
    about.add(
        &[
            ("release", version.release.as_str()),
            ("version", version.version.as_str()),
        ],
        1.0,
    );
    families.push(about);
    let mut quorate = MetricFamily::new(
        "pve_cluster_quorate",
        MetricType::Gauge,
        "Whether the cluster has a majority of its votes.",
    );
    for row in client.api().cluster().status().get().await? {
        if let (Some(yes), "cluster") = (row.quorate, row.type_.as_str()) {
            quorate.add(&[("name", &row.name)], f64::from(u8::from(yes)));
        }
    }
    families.push(quorate);
    Ok(render(&families))
}

/// The metrics of an inventory.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]
#[inline]
pub fn families(inventory: &Inventory) -> Vec<MetricFamily> {
    struct Figure {
        name: &'static str,
        metric_type: MetricType,
        help: &'static str,
        of: fn(&Resource) -> Option<f64>,
    }
    fn of_guest(resource: &Resource, value: u64) -> Option<f64> {
        (resource.resource_type == ResourceType::Vm && is_up(resource)).then_some(value as f64)
    }
    fn of_machine(resource: &Resource, value: f64) -> Option<f64> {
        let machine = matches!(
            resource.resource_type,
            ResourceType::Vm | ResourceType::Node
        );
        (machine && resource.max_memory > 0).then_some(value)
    }
    const FIGURES: &[Figure] = &[
        Figure {
            name: "pve_up",
            metric_type: MetricType::Gauge,
            help: "Whether a node is online, a guest runs or a storage is available.",
            of: |row| Some(f64::from(u8::from(is_up(row)))),
        },
        Figure {
            name: "pve_cpu_usage_ratio",
            metric_type: MetricType::Gauge,
            help: "Fraction of the processors in use, from 0 to 1.",
            of: |row| of_machine(row, row.cpu),
        },
        Figure {
            name: "pve_cpu_usage_limit",
            metric_type: MetricType::Gauge,
            help: "Number of processors.",
            of: |row| of_machine(row, row.cpus),
        },
        Figure {
            name: "pve_memory_usage_bytes",
            metric_type: MetricType::Gauge,
            help: "Memory in use.",
            of: |row| of_machine(row, row.memory as f64),
        },
        Figure {
            name: "pve_memory_size_bytes",
            metric_type: MetricType::Gauge,
            help: "Size of the memory.",
            of: |row| of_machine(row, row.max_memory as f64),
        },
        Figure {
            name: "pve_disk_usage_bytes",
            metric_type: MetricType::Gauge,
            help: "Disk space in use: root file systems and storages.",
            of: |row| (row.max_disk > 0).then_some(row.disk as f64),
        },
        Figure {
            name: "pve_disk_size_bytes",
            metric_type: MetricType::Gauge,
            help: "Size of the disk space.",
            of: |row| (row.max_disk > 0).then_some(row.max_disk as f64),
        },
        Figure {
            name: "pve_uptime_seconds",
            metric_type: MetricType::Gauge,
            help: "Time since the start.",
            of: |row| of_machine(row, row.uptime as f64),
        },
        Figure {
            name: "pve_network_receive_bytes_total",
            metric_type: MetricType::Counter,
            help: "Bytes a guest has received since its start.",
            of: |row| of_guest(row, row.net_in),
        },
        Figure {
            name: "pve_network_transmit_bytes_total",
            metric_type: MetricType::Counter,
            help: "Bytes a guest has sent since its start.",
            of: |row| of_guest(row, row.net_out),
        },
        Figure {
            name: "pve_disk_read_bytes_total",
            metric_type: MetricType::Counter,
            help: "Bytes a guest has read from its disks since its start.",
            of: |row| of_guest(row, row.disk_read),
        },
        Figure {
            name: "pve_disk_written_bytes_total",
            metric_type: MetricType::Counter,
            help: "Bytes a guest has written to its disks since its start.",
            of: |row| of_guest(row, row.disk_write),
        },
    ];
    let known = |row: &&Resource| row.resource_type != ResourceType::Other;
    let mut families = Vec::new();
    for figure in FIGURES {
        let mut family = MetricFamily::new(figure.name, figure.metric_type, figure.help);
        for row in inventory.resources.iter().filter(known) {
            if let Some(value) = (figure.of)(row) {
                family.add(&[("id", &row.id)], value);
            }
        }
        families.push(family);
    }
    let gauge = |name, help: &str| MetricFamily::new(name, MetricType::Gauge, help);
    let mut guests = gauge("pve_guest_info", "Labels of a guest.");
    let mut nodes = gauge("pve_node_info", "Labels of a node.");
    let mut storages = gauge("pve_storage_info", "Labels of a storage on a node.");
    let mut locks = gauge("pve_lock_state", "Operation that locks a guest.");
    let mut ha = gauge("pve_ha_state", "High availability state of a guest.");
    for row in &inventory.resources {
        let id = ("id", row.id.as_str());
        let node = ("node", row.node.as_deref().unwrap_or_default());
        match row.resource_type {
            ResourceType::Vm => {
                let template = if row.template { "1" } else { "0" };
                let labels = [
                    id,
                    node,
                    ("name", row.guest_name.as_deref().unwrap_or_default()),
                    ("type", row.kind.map_or("", Kind::as_str)),
                    ("template", template),
                    ("pool", row.pool.as_deref().unwrap_or_default()),
                    ("tags", &row.tags.join(";")),
                ];
                guests.add(&labels, 1.0);
                if let Some(lock) = &row.lock {
                    locks.add(&[id, ("state", lock)], 1.0);
                }
                if let Some(state) = &row.ha_state {
                    ha.add(&[id, ("state", state)], 1.0);
                }
            }
            ResourceType::Node => nodes.add(&[id, ("name", node.1)], 1.0),
            ResourceType::Storage => {
                let name = ("storage", row.storage.as_deref().unwrap_or_default());
                let shared = ("shared", if row.shared { "1" } else { "0" });
                storages.add(&[id, node, name, shared], 1.0);
            }
            ResourceType::Other => {}
        }
    }
    families.extend([guests, nodes, storages, locks, ha]);
    families
}

fn is_up(resource: &Resource) -> bool {
    matches!(
        resource.status.as_deref(),
        Some("online" | "running" | "available")
    )
}

#[cfg(test)]
mod tests;
