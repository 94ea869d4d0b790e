//! Nodes, guests and storages of a cluster, with their usage and free capacity.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::manage::inventory::{Inventory, Order, ResourceType, SortBy};
//!
//! let inventory = Inventory::fetch(&pve).await?;
//! let web = inventory
//!     .select()
//!     .of_type(ResourceType::Vm)
//!     .status("running")
//!     .pool("production")
//!     .sort(SortBy::Memory, Order::Descending)
//!     .list();
//! for guest in web {
//!     println!("{} on {}", guest.name(), guest.node.as_deref().unwrap_or("-"));
//! }
//! # Ok(())
//! # }
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::client::Client;
use crate::error::Error;
use crate::manage::guest::{Kind, ParseNameError, unsigned};
use crate::pve::cluster::ClusterResourcesItem;
use crate::value::serialize::{record_serde, variant_serde, word_serde};

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ResourceType {
    /// Virtual machines and containers.
    Vm,
    /// Nodes.
    Node,
    /// Storages, once for each node that has them.
    Storage,
    /// Anything else, such as networks.
    Other,
}

/// `vm`, `node`, `storage` or `other`.
impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vm => "vm",
            Self::Node => "node",
            Self::Storage => "storage",
            Self::Other => "other",
        })
    }
}

/// Parses the output of `Display`.
impl std::str::FromStr for ResourceType {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        match text {
            "vm" => Ok(Self::Vm),
            "node" => Ok(Self::Node),
            "storage" => Ok(Self::Storage),
            "other" => Ok(Self::Other),
            _ => {
                let names = vec!["vm", "node", "storage", "other"];
                Err(ParseNameError::new("kind of resource", text, names))
            }
        }
    }
}

word_serde!(ResourceType);

/// One resource of the cluster. Figures that do not apply, or that the node has not reported
/// lately, are zero.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resource {
    /// Its identifier, such as `qemu/100`, `node/pve1` or `storage/pve1/local`.
    pub id: String,
    /// Its type.
    pub resource_type: ResourceType,
    /// For guests, their kind.
    pub kind: Option<Kind>,
    /// For guests, their number.
    pub vmid: Option<u32>,
    /// For guests, their name.
    pub guest_name: Option<String>,
    /// Its node, or itself for a node.
    pub node: Option<String>,
    /// For storages, the storage.
    pub storage: Option<String>,
    /// The status from the server: `running`, `stopped`, `online`, `available`, `unknown`, …
    pub status: Option<String>,
    /// The pool it belongs to.
    pub pool: Option<String>,
    /// For guests, their tags.
    pub tags: Vec<String>,
    /// For guests, whether it is a template.
    pub template: bool,
    /// For storages, whether all nodes see the same content.
    pub shared: bool,
    /// For guests, the operation that locks it.
    pub lock: Option<String>,
    /// For guests, the state of high availability.
    pub ha_state: Option<String>,
    /// Share of the processors in use, from 0 to 1.
    pub cpu: f64,
    /// Processors.
    pub cpus: f64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Memory, in bytes.
    pub max_memory: u64,
    /// Disk space in use, in bytes. Zero for virtual machines, because the server cannot read their
    /// disks.
    pub disk: u64,
    /// Disk space, in bytes.
    pub max_disk: u64,
    /// For guests, bytes received since the start.
    pub net_in: u64,
    /// For guests, bytes sent since the start.
    pub net_out: u64,
    /// For guests, bytes read from disks since the start.
    pub disk_read: u64,
    /// For guests, bytes written to disks since the start.
    pub disk_write: u64,
    /// Seconds since the start.
    pub uptime: u64,
}

record_serde!(Resource {
    id,
    resource_type,
    kind,
    vmid,
    guest_name,
    node,
    storage,
    status,
    pool,
    tags,
    template,
    shared,
    lock,
    ha_state,
    cpu,
    cpus,
    memory,
    max_memory,
    disk,
    max_disk,
    net_in,
    net_out,
    disk_read,
    disk_write,
    uptime,
});

impl Resource {
    /// The name of a guest, node or storage; the number of a guest without a name.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = match self.resource_type {
            ResourceType::Vm => self.guest_name.as_deref(),
            ResourceType::Node => self.node.as_deref(),
            ResourceType::Storage => self.storage.as_deref(),
            ResourceType::Other => None,
        };
        name.unwrap_or(&self.id)
    }
}

impl From<ClusterResourcesItem> for Resource {
    #[inline]
    fn from(row: ClusterResourcesItem) -> Self {
        let kind = Kind::read(row.type_.as_str());
        let resource_type = match row.type_.as_str() {
            "qemu" | "lxc" => ResourceType::Vm,
            "node" => ResourceType::Node,
            "storage" => ResourceType::Storage,
            _ => ResourceType::Other,
        };
        let tags = row.tags.unwrap_or_default();
        Self {
            id: row.id,
            resource_type,
            kind,
            vmid: row.vmid,
            guest_name: row.name,
            node: row.node.map(String::from),
            storage: row.storage.map(String::from),
            status: row.status,
            pool: row.pool,
            tags: tags.0,
            template: row.template == Some(true),
            shared: row.shared == Some(true),
            lock: row.lock,
            ha_state: row.hastate,
            cpu: row.cpu.unwrap_or(0.0),
            cpus: row.maxcpu.unwrap_or(0.0),
            memory: unsigned(row.mem),
            max_memory: unsigned(row.maxmem),
            disk: unsigned(row.disk),
            max_disk: unsigned(row.maxdisk),
            net_in: unsigned(row.netin),
            net_out: unsigned(row.netout),
            disk_read: unsigned(row.diskread),
            disk_write: unsigned(row.diskwrite),
            uptime: unsigned(row.uptime),
        }
    }
}

/// All resources of the cluster that the user may see, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Inventory {
    /// The resources, in the server's order.
    pub resources: Vec<Resource>,
}

record_serde!(Inventory { resources });

impl Inventory {
    /// Reads all resources: [`GET /cluster/resources`](crate::pve::cluster::ClusterResourcesGet).
    /// The server's figures are some seconds old.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn fetch(client: &Client) -> Result<Self, Error> {
        let rows = client.api().cluster().resources().get().await?;
        Ok(Self {
            resources: rows.into_iter().map(Resource::from).collect(),
        })
    }

    /// Starts a selection of the resources.
    #[inline]
    pub fn select(&self) -> Selection<'_> {
        Selection {
            chosen: self.resources.iter().collect(),
        }
    }

    /// The capacity and usage of each node, by name.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> BTreeMap<String, Capacity> {
        let mut nodes = BTreeMap::new();
        for row in &self.resources {
            if let (ResourceType::Node, Some(name)) = (row.resource_type, &row.node) {
                nodes.insert(
                    name.clone(),
                    Capacity {
                        online: row.status.as_deref() == Some("online"),
                        cpus: row.cpus,
                        cpu_used: row.cpu * row.cpus,
                        memory: row.max_memory,
                        memory_used: row.memory,
                        ..Capacity::default()
                    },
                );
            }
        }
        for row in &self.resources {
            let node = row.node.as_ref().and_then(|name| nodes.get_mut(name));
            if let (ResourceType::Vm, Some(node), false) = (row.resource_type, node, row.template) {
                node.guests += 1;
                if row.status.as_deref() == Some("running") {
                    node.running += 1;
                    node.cpus_promised += row.cpus;
                    node.memory_promised = node.memory_promised.saturating_add(row.max_memory);
                }
            }
        }
        nodes
    }

    /// The nodes that have room for another guest, the best first: online nodes whose memory
    /// suffices even if every running guest uses its maximum. The node with the most remaining
    /// memory comes first, then the one with the fewest promised processors for each it has.
    ///
    /// Checks memory and processors only. Storage, devices and rules of high availability can still
    /// prevent a guest.
    #[must_use]
    #[inline]
    pub fn placement(&self, memory: u64, cpus: f64) -> Vec<String> {
        let mut fit: Vec<(String, u64, f64)> = (self.capacity().into_iter())
            .filter(|(_, node)| node.online && node.cpus >= cpus)
            .filter_map(|(name, node)| {
                let left = node.memory_left().checked_sub(memory)?;
                let load = (node.cpus_promised + cpus) / node.cpus.max(1.0);
                Some((name, left, load))
            })
            .collect();
        fit.sort_by(|a, b| {
            (b.1.cmp(&a.1))
                .then(a.2.total_cmp(&b.2))
                .then(a.0.cmp(&b.0))
        });
        fit.into_iter().map(|(name, ..)| name).collect()
    }
}

/// The capacity and usage of a node; see [`Inventory::capacity`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Capacity {
    /// Whether it is online.
    pub online: bool,
    /// Its processors.
    pub cpus: f64,
    /// Processors in use now.
    pub cpu_used: f64,
    /// Processors that running guests may use.
    pub cpus_promised: f64,
    /// Its memory, in bytes.
    pub memory: u64,
    /// Memory in use now, in bytes.
    pub memory_used: u64,
    /// Memory that running guests may use, in bytes.
    pub memory_promised: u64,
    /// Its guests, without templates.
    pub guests: usize,
    /// Its running guests.
    pub running: usize,
}

record_serde!(Capacity {
    online,
    cpus,
    cpu_used,
    cpus_promised,
    memory,
    memory_used,
    memory_promised,
    guests,
    running,
});

impl Capacity {
    /// Memory that is neither in use nor promised, in bytes.
    #[must_use]
    pub fn memory_left(&self) -> u64 {
        self.memory
            .saturating_sub(self.memory_used.max(self.memory_promised))
    }
}

/// The order of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortBy {
    /// [`Resource::name`].
    Name,
    /// Guest number; other resources come last.
    Vmid,
    /// Memory in use.
    Memory,
    /// Share of processors in use.
    Cpu,
    /// Disk space in use.
    Disk,
    /// Time since the start.
    Uptime,
    /// Node.
    Node,
    /// Status.
    Status,
}

variant_serde!(SortBy {
    Name = "name",
    Vmid = "vmid",
    Memory = "memory",
    Cpu = "cpu",
    Disk = "disk",
    Uptime = "uptime",
    Node = "node",
    Status = "status",
});

/// The direction of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The lowest first.
    Ascending,
    /// The highest first.
    Descending,
}

variant_serde!(Order {
    Ascending = "ascending",
    Descending = "descending",
});

/// A selection of resources; made by [`Inventory::select`]. Every condition narrows it further.
#[derive(Clone, Debug)]
#[must_use = "a selection does nothing unless used"]
pub struct Selection<'a> {
    chosen: Vec<&'a Resource>,
}

impl<'a> Selection<'a> {
    /// Keeps those for which `keep` returns true.
    pub fn matching(mut self, mut keep: impl FnMut(&Resource) -> bool) -> Self {
        self.chosen.retain(|resource| keep(resource));
        self
    }

    /// Keeps those of one type.
    pub fn of_type(self, resource_type: ResourceType) -> Self {
        self.matching(|resource| resource.resource_type == resource_type)
    }

    /// Keeps guests of one kind.
    pub fn of_kind(self, kind: Kind) -> Self {
        self.matching(|resource| resource.kind == Some(kind))
    }

    /// Keeps those with this status.
    pub fn status(self, status: &str) -> Self {
        self.matching(|resource| resource.status.as_deref() == Some(status))
    }

    /// Keeps those on this node.
    pub fn node(self, node: &str) -> Self {
        self.matching(|resource| resource.node.as_deref() == Some(node))
    }

    /// Keeps those in this pool.
    pub fn pool(self, pool: &str) -> Self {
        self.matching(|resource| resource.pool.as_deref() == Some(pool))
    }

    /// Keeps guests with this tag, in upper or lower case.
    pub fn tag(self, tag: &str) -> Self {
        self.matching(|resource| (resource.tags.iter()).any(|own| own.eq_ignore_ascii_case(tag)))
    }

    /// Leaves templates out.
    pub fn without_templates(self) -> Self {
        self.matching(|resource| !resource.template)
    }

    /// Keeps templates.
    pub fn templates(self) -> Self {
        self.matching(|resource| resource.template)
    }

    /// Sorts; equal ones keep their order.
    #[inline]
    pub fn sort(mut self, by: SortBy, order: Order) -> Self {
        self.chosen.sort_by(|a, b| {
            let (first, second) = match order {
                Order::Ascending => (a, b),
                Order::Descending => (b, a),
            };
            match by {
                SortBy::Name => first.name().cmp(second.name()),
                // Resources without a number stay last in both orders.
                SortBy::Vmid => match (a.vmid, b.vmid) {
                    (Some(_), Some(_)) => first.vmid.cmp(&second.vmid),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => Ordering::Equal,
                },
                SortBy::Memory => first.memory.cmp(&second.memory),
                SortBy::Cpu => first.cpu.total_cmp(&second.cpu),
                SortBy::Disk => first.disk.cmp(&second.disk),
                SortBy::Uptime => first.uptime.cmp(&second.uptime),
                SortBy::Node => first.node.cmp(&second.node),
                SortBy::Status => first.status.cmp(&second.status),
            }
        });
        self
    }

    /// The numbers of the guests among them, as [`Client::batch`] takes them.
    #[must_use]
    #[inline]
    pub fn vmids(&self) -> Vec<u32> {
        (self.chosen.iter())
            .filter_map(|resource| resource.vmid)
            .collect()
    }

    /// The resources.
    #[must_use]
    pub fn list(self) -> Vec<&'a Resource> {
        self.chosen
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::value::decode::decode_data;

    fn inventory() -> Inventory {
        let gib = 1_u64 << 30;
        let data = json!({ "data": [
            { "id": "node/pve1", "type": "node", "node": "pve1", "status": "online", "maxcpu": 8, "cpu": 0.5,
              "maxmem": 32 * gib, "mem": 10 * gib },
            { "id": "node/pve2", "type": "node", "node": "pve2", "status": "online", "maxcpu": 8, "cpu": 0.1,
              "maxmem": 32 * gib, "mem": 4 * gib },
            { "id": "node/pve3", "type": "node", "node": "pve3", "status": "offline" },
            { "id": "qemu/100", "type": "qemu", "vmid": 100, "name": "web", "node": "pve1", "status": "running",
              "maxcpu": 4, "maxmem": 8 * gib, "mem": 3 * gib, "tags": "prod;Web", "pool": "production" },
            { "id": "qemu/101", "type": "qemu", "vmid": 101, "name": "db", "node": "pve2", "status": "running",
              "maxcpu": 6, "maxmem": 24 * gib, "mem": 5 * gib, "tags": "prod" },
            { "id": "lxc/102", "type": "lxc", "vmid": 102, "name": "dns", "node": "pve2", "status": "stopped",
              "maxcpu": 1, "maxmem": gib },
            { "id": "qemu/900", "type": "qemu", "vmid": 900, "name": "base", "node": "pve1", "status": "stopped",
              "template": 1, "maxmem": gib },
            { "id": "storage/pve1/local", "type": "storage", "storage": "local", "node": "pve1",
              "status": "available", "disk": 5, "maxdisk": 10 },
        ]});
        let rows: Vec<ClusterResourcesItem> =
            decode_data(data.to_string().as_bytes()).expect("rows as the server sends them");
        Inventory {
            resources: rows.into_iter().map(Resource::from).collect(),
        }
    }

    fn names(selection: Selection<'_>) -> Vec<&str> {
        selection.list().into_iter().map(Resource::name).collect()
    }

    #[test]
    fn filters_narrow_and_sorts_order() {
        let inventory = inventory();
        let vms = || inventory.select().of_type(ResourceType::Vm);
        assert_eq!(names(vms().status("running")), ["web", "db"]);
        assert_eq!(names(vms().tag("web")), ["web"]);
        assert_eq!(names(vms().pool("production")), ["web"]);
        assert_eq!(names(vms().node("pve2").of_kind(Kind::Lxc)), ["dns"]);
        assert_eq!(
            names(vms().sort(SortBy::Name, Order::Ascending)),
            ["base", "db", "dns", "web"]
        );
        assert_eq!(names(vms().templates()), ["base"]);
        assert_eq!(
            names(
                vms()
                    .without_templates()
                    .sort(SortBy::Memory, Order::Descending)
            ),
            ["db", "web", "dns"]
        );
        let all = inventory.select().sort(SortBy::Vmid, Order::Descending);
        assert_eq!(all.vmids(), [900, 102, 101, 100]);
        assert_eq!(
            all.list()[0].name(),
            "base",
            "what has no number comes last"
        );
        assert_eq!(
            names(inventory.select().of_type(ResourceType::Storage)),
            ["local"]
        );
    }

    #[test]
    fn capacity_counts_the_maxima_of_running_guests() {
        let capacity = inventory().capacity();
        let pve2 = &capacity["pve2"];
        assert_eq!((pve2.guests, pve2.running), (2, 1));
        assert_eq!(pve2.memory_promised, 24 << 30);
        assert_eq!(pve2.memory_left(), 8 << 30);
        assert_eq!(capacity["pve1"].guests, 1, "templates do not count");
        assert!(!capacity["pve3"].online);
    }

    #[test]
    fn placement_prefers_memory_and_never_overcommits_it() {
        let inventory = inventory();
        // pve1 has 22 GiB left (10 in use), pve2 has 8 (24 promised).
        assert_eq!(inventory.placement(4 << 30, 2.0), ["pve1", "pve2"]);
        assert_eq!(inventory.placement(10 << 30, 2.0), ["pve1"]);
        assert!(inventory.placement(40 << 30, 2.0).is_empty());
        assert!(inventory.placement(1 << 30, 16.0).is_empty());
    }
}
