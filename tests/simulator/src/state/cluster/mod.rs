//! The simulated cluster: nodes, storages, volumes, guests, tasks.

pub(crate) mod answers;
pub(crate) mod configure;
pub(crate) mod consoles;
pub(crate) mod disks;
pub(crate) mod guests;
pub(crate) mod ha;
pub(crate) mod network;
pub(crate) mod permissions;
pub(crate) mod pools;
pub(crate) mod realms;
pub(crate) mod records;
pub(crate) mod remote;
pub(crate) mod storages;
pub(crate) mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api_error::{ApiError, ApiResult};
use crate::console::Console;
use crate::faults::TaskFault;
use crate::sample::mix;
use crate::schema::ApiSchema;
use crate::state::access::Access;
use crate::state::effect::Effect;
use crate::state::guest::Guest;
use crate::state::records::{Row, Rows};
use crate::state::storage::{Storage, Volume, VolumeKey};
use crate::state::tasks::Task;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) online: bool,
    pub(crate) cores: u32,
    pub(crate) memory: u64,
    pub(crate) booted: Duration,
}

pub(crate) struct Cluster {
    pub(crate) schema: Arc<ApiSchema>,
    pub(crate) now: Duration,
    pub(crate) factor: f64,
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) storages: BTreeMap<String, Storage>,
    pub(crate) volumes: BTreeMap<VolumeKey, Volume>,
    /// Contents of volumes that came from [`Cluster::web`].
    pub(crate) downloads: BTreeMap<VolumeKey, Arc<Vec<u8>>>,
    /// Files that nodes can download, by URL.
    pub(crate) web: BTreeMap<String, Arc<Vec<u8>>>,
    /// Volumes created for the guest in progress, removed again if that fails.
    pub(crate) uncommitted_volumes: Vec<VolumeKey>,
    pub(crate) guests: BTreeMap<u32, Guest>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) access: Access,
    /// Pools and their comments.
    pub(crate) pools: BTreeMap<String, String>,
    /// Configuration lists, by path.
    pub(crate) records: BTreeMap<String, Rows>,
    /// Options, by path.
    pub(crate) settings: BTreeMap<String, Row>,
    /// The running configuration of the software-defined network.
    pub(crate) sdn_running: BTreeMap<String, Rows>,
    /// The effect of a fault on the current call's task.
    pub(crate) task_fault: Option<TaskFault>,
    pub(crate) consoles: Vec<Console>,
    /// Address of the SPICE proxy.
    pub(crate) spice_port: u16,
    /// Certificate of the cluster's authority.
    pub(crate) ca_pem: String,
    pub(crate) queue: BTreeMap<(Duration, u64), (String, Effect)>,
    pub(crate) seed: u64,
    pub(crate) counter: u64,
    pub(crate) started: Duration,
}

impl Cluster {
    pub(crate) fn new(schema: Arc<ApiSchema>, now: Duration, factor: f64, seed: u64) -> Self {
        let major = schema.release().major;
        Self {
            schema,
            now,
            factor,
            name: "simulated".into(),
            nodes: Vec::new(),
            storages: BTreeMap::new(),
            volumes: BTreeMap::new(),
            downloads: BTreeMap::new(),
            web: BTreeMap::new(),
            uncommitted_volumes: Vec::new(),
            guests: BTreeMap::new(),
            tasks: Vec::new(),
            access: Access::new(seed, major),
            pools: BTreeMap::new(),
            records: BTreeMap::new(),
            settings: BTreeMap::new(),
            sdn_running: BTreeMap::new(),
            task_fault: None,
            consoles: Vec::new(),
            spice_port: 3_128,
            ca_pem: String::new(),
            queue: BTreeMap::new(),
            seed,
            counter: 0,
            started: now,
        }
    }

    /// A pseudo-random number that depends on the seed and the requests only.
    pub(crate) fn random(&mut self) -> u64 {
        self.counter += 1;
        mix(&format!("{} {}", self.seed, self.counter), 7)
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn count_from(&mut self, counter: u64) {
        self.counter = counter;
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    pub(crate) fn mac(&mut self) -> String {
        let bits = self.random();
        format!(
            "BC:24:11:{:02X}:{:02X}:{:02X}",
            (bits >> 16) & 0xff,
            (bits >> 8) & 0xff,
            bits & 0xff
        )
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A node of the cluster, reachable or not.
    pub(crate) fn known_node(&self, name: &str) -> ApiResult<&Node> {
        self.node(name)
            .ok_or_else(|| ApiError::die(format!("no such cluster node '{name}'")))
    }

    /// A certificate on one line, as configuration files hold it.
    pub(crate) fn one_line(pem: &str) -> String {
        pem.replace('\n', "\\n")
    }
}
