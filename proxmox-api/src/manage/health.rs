//! The health of disks and ZFS pools of nodes, and the usage of file systems inside guests.

use std::fmt;

use super::backups::reachable_nodes;
use super::guest::{Kind, unsigned};
use super::inventory::{Inventory, ResourceType};
use super::metrics::{MetricFamily, MetricType};
use super::work::{Action, State, Subject, Track, Work, some_at_once};
use crate::client::Client;
use crate::error::Error;
use crate::value::serialize::{record_serde, variant_serde};

/// The health of a disk or pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Health {
    /// No problem.
    Good,
    /// Unknown, for example for disks of virtual machines and behind some controllers.
    Unknown,
    /// It works with reduced redundancy or with errors.
    Degraded,
    /// It has failed, or predicts its failure.
    Failing,
}

variant_serde!(Health {
    Good = "good",
    Unknown = "unknown",
    Degraded = "degraded",
    Failing = "failing",
});

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        })
    }
}

/// A physical disk of a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DiskHealth {
    /// Its device, as `/dev/nvme0n1`.
    pub device: String,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its use, such as `ZFS` or `LVM`; `None` if it is free.
    pub used: Option<String>,
    /// The result of its self-assessment (SMART).
    pub health: Health,
    /// Its remaining life, in percent; `None` for disks that do not wear out or do not report it.
    pub life_left: Option<f64>,
    /// The names of SMART attributes that are at or below their thresholds.
    pub failed_attributes: Vec<String>,
}

record_serde!(DiskHealth {
    device,
    model,
    serial,
    size,
    used,
    health,
    life_left,
    failed_attributes,
});

/// A ZFS pool of a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolHealth {
    /// Its name.
    pub name: String,
    /// Its state as ZFS names it: `ONLINE`, `DEGRADED`.
    pub state: String,
    /// The meaning of the state.
    pub health: Health,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// The fragmentation of its free space, in percent.
    pub fragmentation: u64,
    /// The errors that ZFS reports, if there are any.
    pub errors: Option<String>,
    /// Devices with problems, with their states.
    pub devices: Vec<(String, String)>,
}

record_serde!(PoolHealth {
    name,
    state,
    health,
    size,
    used,
    fragmentation,
    errors,
    devices,
});

/// The disks and pools of a node.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NodeHealth {
    /// The node.
    pub node: String,
    /// Its physical disks.
    pub disks: Vec<DiskHealth>,
    /// Its ZFS pools.
    pub pools: Vec<PoolHealth>,
}

record_serde!(NodeHealth { node, disks, pools });

impl NodeHealth {
    /// The worst health of all disks and pools.
    #[must_use]
    pub fn worst(&self) -> Health {
        let disks = self.disks.iter().map(|disk| disk.health);
        let pools = self.pools.iter().map(|pool| pool.health);
        disks.chain(pools).max().unwrap_or(Health::Good)
    }

    /// The problems, as text.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for disk in self
            .disks
            .iter()
            .filter(|disk| disk.health >= Health::Degraded)
        {
            let model = disk.model.as_deref().unwrap_or("disk");
            let mut text = format!("{} ({model}) is {}", disk.device, disk.health);
            if !disk.failed_attributes.is_empty() {
                text = format!("{text}: {}", disk.failed_attributes.join(", "));
            }
            problems.push(text);
        }
        for pool in self
            .pools
            .iter()
            .filter(|pool| pool.health >= Health::Degraded)
        {
            let devices = pool
                .devices
                .iter()
                .map(|(name, state)| format!("{name} {state}"));
            let devices: Vec<String> = devices.collect();
            problems.push(format!(
                "pool {} is {}: {}",
                pool.name,
                pool.state,
                devices.join(", ")
            ));
        }
        problems
    }
}

/// Reads the health of disks and pools from all online nodes; see [`Client::carry_out`]. An offline
/// node is a failed step. Changes nothing, so a failure leaves nothing behind.
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::health::CheckHealth;
///
/// for node in pve.carry_out(CheckHealth::new()).await? {
///     println!("{}: {} {:?}", node.node, node.worst(), node.problems());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckHealth {
    node: Option<String>,
    details: bool,
}

impl CheckHealth {
    /// All nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this node.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Also reads all SMART attributes of each disk, which takes a call for each disk and can wake
    /// it up.
    #[must_use]
    pub fn details(mut self) -> Self {
        self.details = true;
        self
    }

    async fn of(&self, pve: &Client, track: &Track<'_>, node: String) -> Result<NodeHealth, Error> {
        let subject = Subject::Node(node.clone());
        let at = pve.api().nodes().node(&node).disks();
        let mut disks = Vec::new();
        for row in track.act(&subject, Action::Check, at.list().get()).await? {
            let mut disk = DiskHealth {
                health: of_smart(row.health.as_deref()),
                life_left: row.wearout.as_deref().and_then(|left| left.parse().ok()),
                model: row.model,
                serial: row.serial,
                size: unsigned(Some(row.size)),
                used: row.used,
                failed_attributes: Vec::new(),
                device: row.devpath,
            };
            if self.details {
                let smart = at.smart().get(&disk.device).await?;
                disk.health = of_smart(smart.health.as_deref());
                let attributes = smart.attributes.unwrap_or_default().into_iter();
                let failed = attributes.filter(|one| match (one.normalized, one.threshold) {
                    (Some(now), Some(least)) => least > 0 && now <= least,
                    _ => one
                        .fail
                        .as_deref()
                        .is_some_and(|fail| fail != "-" && !fail.is_empty()),
                });
                disk.failed_attributes = failed.filter_map(|one| one.name).collect();
                if !disk.failed_attributes.is_empty() {
                    disk.health = Health::Failing;
                }
            }
            disks.push(disk);
        }
        let mut pools = Vec::new();
        for row in at.zfs().get().await? {
            let mut pool = PoolHealth {
                health: of_pool(&row.health),
                size: unsigned(Some(row.size)),
                used: unsigned(Some(row.alloc)),
                fragmentation: unsigned(Some(row.frag)),
                state: row.health,
                name: row.name,
                errors: None,
                devices: Vec::new(),
            };
            let request = pve.request::<crate::Value>(
                crate::value::endpoint::Method::Get,
                format!(
                    "/nodes/{}/disks/zfs/{}",
                    crate::value::encode::escape(&node),
                    crate::value::encode::escape(&pool.name)
                ),
            );
            let found = request.await?;
            let text = |key: &str| found.get(key).and_then(|text| text.as_str());
            pool.errors = (text("errors"))
                .filter(|errors| !errors.starts_with("No known"))
                .map(str::to_owned);
            faults(&found, &mut pool.devices);
            if pool.health == Health::Good && (pool.errors.is_some() || !pool.devices.is_empty()) {
                pool.health = Health::Degraded;
            }
            pools.push(pool);
        }
        Ok(NodeHealth { node, disks, pools })
    }
}

/// The devices below a part of a pool that have problems; the tree has as many levels as the pool.
fn faults(part: &crate::Value, found: &mut Vec<(String, String)>) {
    let children = part
        .get("children")
        .and_then(|children| children.as_array());
    for child in children.into_iter().flatten() {
        let text = |key: &str| child.get(key).and_then(|text| text.as_str());
        let errors = ["read", "write", "cksum"].into_iter().any(|key| {
            let count = child.get(key);
            count.is_some_and(|count| match count {
                crate::Value::Number(count) => count.as_i64() != Some(0),
                crate::Value::String(count) => !matches!(count.as_str(), "" | "0"),
                _ => false,
            })
        });
        let leaf = child
            .get("children")
            .and_then(crate::Value::as_array)
            .is_none_or(Vec::is_empty);
        let state = text("state").unwrap_or_default();
        let bad = !matches!(state, "" | "ONLINE" | "AVAIL" | "INUSE");
        if let Some(name) = text("name").filter(|_| leaf && (bad || errors)) {
            let state = if bad { state } else { "has errors" };
            found.push((name.to_owned(), state.to_owned()));
        }
        faults(child, found);
    }
}

fn of_smart(text: Option<&str>) -> Health {
    match text.map(str::to_ascii_uppercase).as_deref() {
        Some("PASSED" | "OK") => Health::Good,
        Some(text) if text.contains("FAIL") => Health::Failing,
        _ => Health::Unknown,
    }
}

fn of_pool(state: &str) -> Health {
    match state {
        "ONLINE" => Health::Good,
        "DEGRADED" => Health::Degraded,
        "FAULTED" | "UNAVAIL" | "SUSPENDED" | "REMOVED" => Health::Failing,
        _ => Health::Unknown,
    }
}

impl Work for CheckHealth {
    type Done = Vec<NodeHealth>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Self::Done, Error> {
        let nodes = reachable_nodes(pve, track, Action::Check, self.node.as_deref()).await?;
        let one = |node| self.of(pve, track, node);
        match some_at_once(4, nodes, one).await {
            (found, None) => Ok(found),
            (_, Some(error)) => Err(error),
        }
    }
}

/// Metrics of the file systems of all running guests, from their agents:
/// `pve_guest_file_system_size_bytes` and `pve_guest_file_system_used_bytes`, labelled by `id`,
/// `mountpoint` and `type`. For [`render`](super::metrics::render), beside those of
/// [`scrape`](super::metrics::scrape). For a container, its root file system as the node sees it.
///
/// A guest whose agent does not answer is a failed step, and has no samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSystemMetrics;

impl FileSystemMetrics {
    /// Those of all running guests.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Work for FileSystemMetrics {
    type Done = Vec<MetricFamily>;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<Self::Done, Error> {
        let inventory = Inventory::fetch(pve).await?;
        let mut running = inventory.resources;
        running.retain(|row| {
            row.resource_type == ResourceType::Vm
                && !row.template
                && row.status.as_deref() == Some("running")
        });
        let one = |row: super::inventory::Resource| {
            let (vmid, kind) = (row.vmid.unwrap_or_default(), row.kind);
            let (disk, size, id) = (row.disk, row.max_disk, row.id);
            async move {
                if kind == Some(Kind::Lxc) {
                    return Ok(vec![(id, "/".to_owned(), String::new(), size, disk)]);
                }
                let systems = match pve.guest(vmid).agent().file_systems().await {
                    Ok(systems) => systems,
                    Err(error) => {
                        let failed = State::Failed(error.to_string());
                        track.step(&Subject::Guest(vmid), Action::Check, failed);
                        return Ok(Vec::new());
                    }
                };
                let systems = systems.into_iter().filter_map(|system| {
                    let (size, used) = system.total.zip(system.used)?;
                    Some((
                        id.clone(),
                        system.mount_point,
                        system.file_system,
                        size,
                        used,
                    ))
                });
                Ok(systems.collect())
            }
        };
        let (rows, _) = some_at_once(8, running, one).await;
        let gauge = |name, help| MetricFamily::new(name, MetricType::Gauge, help);
        let mut size = gauge(
            "pve_guest_file_system_size_bytes",
            "Size of a guest's file system.",
        );
        let mut used = gauge(
            "pve_guest_file_system_used_bytes",
            "Bytes in use on a guest's file system.",
        );
        for (id, mount, kind, total, taken) in rows.into_iter().flatten() {
            let labels = [("id", &*id), ("mountpoint", &*mount), ("type", &*kind)];
            #[allow(clippy::cast_precision_loss, reason = "that is what metrics are")]
            let (total, taken) = (total as f64, taken as f64);
            size.add(&labels, total);
            used.add(&labels, taken);
        }
        Ok(vec![size, used])
    }
}
