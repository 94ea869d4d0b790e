//! The simulated cluster: nodes, storages, volumes, guests, tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::access::{Access, Identity};
use crate::calls::records::{Row, Rows};
use crate::console::{Console, Screen};
use crate::error::{ApiError, ApiResult};
use crate::faults::Spoil;
use crate::formats::split_list;
use crate::guest::{Config, Guest, GuestEffect};
use crate::sample::mix;
use crate::schema::ApiSchema;
use crate::tasks::{self, Task};
use crate::tunnel::Farewell;

pub(crate) const GIB: u64 = 1 << 30;
/// Ports consoles are given, one after the other.
const CONSOLE_PORTS: std::ops::Range<u16> = 5_900..6_000;
const CONSOLE_TICKET_LIFETIME: Duration = Duration::from_secs(40);

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) online: bool,
    pub(crate) cores: u32,
    pub(crate) memory: u64,
    pub(crate) booted: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) kind: String,
    pub(crate) content: Vec<String>,
    pub(crate) shared: bool,
    pub(crate) total: u64,
    pub(crate) path: Option<String>,
    pub(crate) disabled: bool,
    /// Settings without a meaning here.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Storage {
    /// Volumes are files with a format, in directories.
    pub(crate) fn is_file_based(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "dir" | "nfs" | "cifs" | "cephfs" | "btrfs" | "glusterfs"
        )
    }

    pub(crate) fn holds(&self, content: &str) -> bool {
        self.content.iter().any(|c| c == content)
    }
}

/// The node of a local volume (empty for a shared one) and the volume id.
pub(crate) type VolumeKey = (String, String);

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) storage: String,
    pub(crate) content: String,
    pub(crate) format: String,
    pub(crate) size: u64,
    pub(crate) vmid: Option<u32>,
    pub(crate) created: u64,
    pub(crate) notes: Option<String>,
    pub(crate) protected: bool,
    /// What a backup holds.
    pub(crate) saved: Option<Config>,
}

/// What a task does when it ends.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Nothing,
    Fail(String),
    Guest(u32, GuestEffect),
    AddVolume(VolumeKey, Volume),
    /// What is in a volume, where that matters later.
    Downloaded(VolumeKey, Arc<Vec<u8>>),
    DeleteVolume(VolumeKey),
    ApplySdn,
    /// A node goes down, and its guests with it.
    NodeDown(String),
    /// A node is there again.
    NodeUp(String),
    /// Puts the planned interfaces of a node in force.
    ApplyNetwork(String),
    /// Changes what is held of configuration and storages.
    Edit(Vec<Edit>),
    /// One after the other, whatever comes of those before; the first error is that of all.
    All(Vec<Effect>),
    /// Does something to each guest, and warns of those it cannot be done to.
    Each(Vec<(u32, GuestEffect)>),
    /// What would have happened, and what a fault made of it.
    Spoiled(Box<Effect>, Spoil),
}

/// A change of what is held.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// List, id and the entry.
    Set(String, String, Row),
    Remove(String, String),
    AddStorage(String, Storage),
    RemoveStorage(String),
}

impl Effect {
    fn on_guest(&self) -> Option<(u32, &GuestEffect)> {
        match self {
            Self::Guest(vmid, effect) => Some((*vmid, effect)),
            Self::Spoiled(effect, _) => effect.on_guest(),
            _ => None,
        }
    }
}

/// A task about to start.
pub(crate) struct Plan<'a> {
    pub(crate) node: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: String,
    pub(crate) who: &'a Identity,
    /// In simulated seconds, before the time factor.
    pub(crate) seconds: f64,
    /// Spread evenly over the duration.
    pub(crate) lines: Vec<String>,
    pub(crate) effect: Effect,
}

pub(crate) struct World {
    pub(crate) schema: Arc<ApiSchema>,
    pub(crate) now: Duration,
    pub(crate) factor: f64,
    pub(crate) cluster: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) storages: BTreeMap<String, Storage>,
    pub(crate) volumes: BTreeMap<VolumeKey, Volume>,
    /// What volumes hold that came from [`World::web`].
    pub(crate) downloads: BTreeMap<VolumeKey, Arc<Vec<u8>>>,
    /// Files that nodes can download, by their addresses.
    pub(crate) web: BTreeMap<String, Arc<Vec<u8>>>,
    /// Volumes made for the guest that is being built, to take back if that fails.
    pub(crate) made: Vec<VolumeKey>,
    pub(crate) guests: BTreeMap<u32, Guest>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) access: Access,
    /// Pools and their comments.
    pub(crate) pools: BTreeMap<String, String>,
    /// Lists of entries, by path.
    pub(crate) records: BTreeMap<String, Rows>,
    /// Options, by path.
    pub(crate) settings: BTreeMap<String, Row>,
    /// The software-defined network in force.
    pub(crate) sdn_running: BTreeMap<String, Rows>,
    /// What a fault does to the task the current call starts.
    pub(crate) spoil: Option<Spoil>,
    pub(crate) consoles: Vec<Console>,
    /// Where the SPICE proxy listens.
    pub(crate) spice_port: u16,
    /// Certificate of the cluster's authority.
    pub(crate) ca_pem: String,
    queue: BTreeMap<(Duration, u64), (String, Effect)>,
    seed: u64,
    counter: u64,
    started: Duration,
}

impl World {
    pub(crate) fn new(schema: Arc<ApiSchema>, now: Duration, factor: f64, seed: u64) -> Self {
        let major = schema.release().major;
        Self {
            schema,
            now,
            factor,
            cluster: "simulated".into(),
            nodes: Vec::new(),
            storages: BTreeMap::new(),
            volumes: BTreeMap::new(),
            downloads: BTreeMap::new(),
            web: BTreeMap::new(),
            made: Vec::new(),
            guests: BTreeMap::new(),
            tasks: Vec::new(),
            access: Access::new(seed, major),
            pools: BTreeMap::new(),
            records: BTreeMap::new(),
            settings: BTreeMap::new(),
            sdn_running: BTreeMap::new(),
            spoil: None,
            consoles: Vec::new(),
            spice_port: 3_128,
            ca_pem: String::new(),
            queue: BTreeMap::new(),
            seed,
            counter: 0,
            started: now,
        }
    }

    /// A number that looks random and is the same in every run with the same seed and requests.
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

    pub(crate) fn storage(&self, id: &str) -> ApiResult<&Storage> {
        self.storages
            .get(id)
            .ok_or_else(|| ApiError::die(format!("storage '{id}' does not exist")))
    }

    /// A storage that is in use on a node.
    pub(crate) fn enabled_storage(&self, id: &str, node: &str) -> ApiResult<&Storage> {
        let storage = self.storage(id)?;
        if storage.disabled {
            return Err(ApiError::die(format!("storage '{id}' is disabled")));
        }
        let nodes = storage.settings.get("nodes");
        if nodes.is_some_and(|nodes| !split_list(nodes).any(|own| own == node)) {
            return Err(ApiError::die(format!(
                "storage '{id}' is not available on node '{node}'"
            )));
        }
        Ok(storage)
    }

    /// A node of the cluster, whether it can be reached or not.
    pub(crate) fn known_node(&self, name: &str) -> ApiResult<&Node> {
        self.node(name)
            .ok_or_else(|| ApiError::die(format!("no such cluster node '{name}'")))
    }

    /// The key of a volume as seen from a node.
    pub(crate) fn volume_key(&self, node: &str, volid: &str) -> VolumeKey {
        let shared = volid
            .split_once(':')
            .and_then(|(storage, _)| self.storages.get(storage))
            .is_some_and(|storage| storage.shared);
        let node = if shared { "" } else { node };
        (node.to_owned(), volid.to_owned())
    }

    /// Takes back what was made since the last guest.
    pub(crate) fn unmake(&mut self) {
        for key in std::mem::take(&mut self.made) {
            self.volumes.remove(&key);
        }
    }

    pub(crate) fn used(&self, node: &str, storage: &str) -> u64 {
        self.volumes
            .iter()
            .filter(|((on, _), volume)| volume.storage == storage && (on.is_empty() || on == node))
            .map(|(_, volume)| volume.size)
            .sum()
    }

    /// Starts a task and returns its UPID.
    pub(crate) fn start(&mut self, mut plan: Plan<'_>) -> Value {
        if let Some(spoil) = self.spoil.take() {
            if let Spoil::Warn(count) = spoil {
                let warning = |n| format!("WARN: simulated warning {n}");
                plan.lines.extend((1..=count.min(1_000)).map(warning));
            }
            plan.effect = Effect::Spoiled(Box::new(plan.effect), spoil);
        }
        let mut task = self.task_of(plan.node, plan.kind, &plan.id, plan.who);
        let length = Duration::from_secs_f64((plan.seconds * self.factor).max(0.0));
        let steps = u32::try_from(plan.lines.len()).unwrap_or(u32::MAX).max(1);
        task.lines = plan
            .lines
            .into_iter()
            .zip(0u32..)
            .map(|(line, step)| (self.now + length * step / steps, line))
            .collect();
        let upid = task.upid.clone();
        self.queue.insert(
            (self.now + length, self.counter),
            (upid.clone(), plan.effect),
        );
        self.tasks.push(task);
        json!(upid)
    }

    /// Lets something happen after so many simulated seconds that no task tells of.
    pub(crate) fn later(&mut self, seconds: f64, effect: Effect) {
        self.counter += 1;
        let due = self.now + Duration::from_secs_f64((seconds * self.factor).max(0.0));
        self.queue
            .insert((due, self.counter), (String::new(), effect));
    }

    /// Starts a task that goes on until [`World::end_task`], and returns its UPID.
    pub(crate) fn begin(&mut self, node: &str, kind: &str, id: &str, who: &Identity) -> String {
        let task = self.task_of(node, kind, id, who);
        let upid = task.upid.clone();
        self.tasks.push(task);
        upid
    }

    /// Ends a running task.
    pub(crate) fn end_task(&mut self, upid: &str, outcome: Result<u32, &str>) {
        let now = self.now;
        if let Some(task) = self.task_mut(upid).filter(|task| task.running()) {
            task.finish(now, outcome);
        }
    }

    fn task_of(&mut self, node: &str, kind: &str, id: &str, who: &Identity) -> Task {
        self.counter += 1;
        let pid = 4_000 + u32::try_from(self.counter % 60_000).unwrap_or(0) * 3;
        let uptime = self.now.saturating_sub(self.started).as_millis() / 10;
        let pstart = 200_000 + u64::try_from(uptime).unwrap_or(0);
        Task {
            upid: tasks::upid(node, pid, pstart, self.now, kind, id, who),
            node: node.to_owned(),
            pid,
            pstart,
            start: self.now,
            kind: kind.to_owned(),
            id: id.to_owned(),
            who: who.clone(),
            lines: Vec::new(),
            end: None,
        }
    }

    /// A port no console uses; the oldest console loses its one when there is none left.
    pub(crate) fn free_port(&mut self) -> u16 {
        let taken = |port: &u16| self.consoles.iter().any(|console| console.port == *port);
        if let Some(port) = CONSOLE_PORTS.clone().find(|port| !taken(port)) {
            return port;
        }
        let oldest = self.consoles.remove(0);
        self.end_task(&oldest.upid, Err("console was given up"));
        oldest.port
    }

    pub(crate) fn open_console(&mut self, console: Console) {
        self.consoles.push(console);
    }

    /// Counts a connection to a console in, or out with what was said at the end.
    pub(crate) fn link_console(&mut self, upid: &str, leaves: Option<Farewell>) {
        let Some(console) = self.consoles.iter_mut().find(|c| c.upid == upid) else {
            return;
        };
        let Some(farewell) = leaves else {
            console.links += 1;
            return;
        };
        console.links = console.links.saturating_sub(1);
        if console.links > 0 {
            return;
        }
        // The backend serves one connection and ends with it; its ticket stays good for a check.
        console.dead = true;
        let (screen, guest) = (console.screen, console.host.parse());
        let outcome = match (screen, farewell) {
            (Screen::Tunnel, Farewell::Sudden) => Err("mtunnel exited unexpectedly"),
            _ => Ok(0),
        };
        self.end_task(upid, outcome);
        if let (Screen::Tunnel, Farewell::Quit { cleanup: true }, Ok(vmid)) =
            (screen, farewell, guest)
        {
            self.undo(vmid);
        }
    }

    /// Forgets consoles whose ticket is too old to connect.
    fn expire_consoles(&mut self) {
        let now = self.now;
        let (kept, gone) =
            std::mem::take(&mut self.consoles)
                .into_iter()
                .partition(|console: &Console| {
                    console.links > 0
                        || now.saturating_sub(console.issued) <= CONSOLE_TICKET_LIFETIME
                });
        self.consoles = kept;
        for console in gone {
            let waiting = self.task(&console.upid).is_some_and(Task::running);
            self.end_task(&console.upid, Err("connection timed out"));
            if let (Screen::Tunnel, true, Ok(vmid)) =
                (console.screen, waiting, console.host.parse())
            {
                self.undo(vmid);
            }
        }
    }

    /// A certificate as configuration files of one line a key hold it.
    pub(crate) fn one_line(pem: &str) -> String {
        pem.replace('\n', "\\n")
    }

    /// Brings the world to `now`: ends what is due, in order.
    pub(crate) fn settle(&mut self, now: Duration) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((due, _), (upid, effect)) = entry.remove_entry();
            self.now = self.now.max(due);
            let outcome = self.apply(effect);
            if let Some(task) = self.task_mut(&upid) {
                task.finish(due, outcome.as_ref().map(|n| *n).map_err(String::as_str));
            }
        }
        self.now = self.now.max(now);
        self.expire_consoles();
    }

    /// Applies what a task does; the number of warnings, or the text of its error.
    fn apply(&mut self, effect: Effect) -> Result<u32, String> {
        match effect {
            Effect::Nothing => Ok(0),
            Effect::Fail(text) => Err(text),
            Effect::Guest(vmid, effect) => self.apply_to_guest(vmid, effect).map(|()| 0),
            Effect::AddVolume(key, volume) => {
                self.volumes.insert(key, volume);
                Ok(0)
            }
            Effect::Downloaded(key, file) => {
                self.downloads.insert(key, file);
                Ok(0)
            }
            Effect::ApplySdn => {
                self.apply_sdn();
                Ok(0)
            }
            Effect::ApplyNetwork(node) => {
                self.apply_network(&node);
                Ok(0)
            }
            Effect::NodeDown(name) => {
                for node in self.nodes.iter_mut().filter(|node| node.name == name) {
                    node.online = false;
                }
                for guest in self.guests.values_mut().filter(|guest| guest.node == name) {
                    guest.cut_power();
                }
                Ok(0)
            }
            Effect::NodeUp(name) => {
                let now = self.now;
                for node in self.nodes.iter_mut().filter(|node| node.name == name) {
                    node.online = true;
                    node.booted = now;
                }
                for guest in self.guests.values_mut().filter(|guest| guest.node == name) {
                    guest.start_at_boot(now);
                }
                Ok(0)
            }
            Effect::Edit(edits) => {
                for edit in edits {
                    self.edit(edit);
                }
                Ok(0)
            }
            Effect::DeleteVolume(key) => match self.volumes.get(&key) {
                Some(volume) if volume.protected => {
                    let (storage, name) = key.1.split_once(':').unwrap_or(("", &key.1));
                    Err(format!(
                        "cannot remove protected volume '{name}' on '{storage}'"
                    ))
                }
                Some(_) if self.is_base_in_use(&key.1) => Err(format!(
                    "base volume '{}' is still in use by linked clones",
                    key.1.split_once(':').map_or("", |(_, name)| name)
                )),
                Some(_) => {
                    self.volumes.remove(&key);
                    self.downloads.remove(&key);
                    Ok(0)
                }
                None => Err(format!("volume '{}' does not exist", key.1)),
            },
            Effect::All(effects) => {
                let mut outcome = Ok(0_u32);
                for effect in effects {
                    let own = self.apply(effect);
                    outcome = match (outcome, own) {
                        (Ok(warnings), Ok(more)) => Ok(warnings.saturating_add(more)),
                        (Ok(_), Err(error)) | (Err(error), _) => Err(error),
                    };
                }
                outcome
            }
            Effect::Each(guests) => {
                let mut warnings = 0;
                for (vmid, effect) in guests {
                    if self.apply_to_guest(vmid, effect).is_err() {
                        warnings += 1;
                    }
                }
                Ok(warnings)
            }
            Effect::Spoiled(effect, Spoil::Fail(text)) => {
                if let Some((vmid, effect)) = effect.on_guest() {
                    self.abandon(vmid, effect);
                }
                Err(text)
            }
            Effect::Spoiled(effect, Spoil::Warn(count)) => self
                .apply(*effect)
                .map(|warnings| warnings.saturating_add(count)),
        }
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Set(list, id, row) => {
                let rows = self.records.entry(list).or_default();
                match rows.iter_mut().find(|(own, _)| *own == id) {
                    Some((_, old)) => *old = row,
                    None => rows.push((id, row)),
                }
            }
            Edit::Remove(list, id) => {
                if let Some(rows) = self.records.get_mut(&list) {
                    rows.retain(|(own, _)| *own != id);
                }
            }
            Edit::AddStorage(id, storage) => {
                self.storages.insert(id, storage);
            }
            Edit::RemoveStorage(id) => {
                self.storages.remove(&id);
                self.volumes.retain(|_, volume| volume.storage != id);
            }
        }
    }

    pub(crate) fn task(&self, upid: &str) -> Option<&Task> {
        self.tasks.iter().rev().find(|task| task.upid == upid)
    }

    fn task_mut(&mut self, upid: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().rev().find(|task| task.upid == upid)
    }

    /// Undoes what an interrupted task had prepared on a guest.
    pub(crate) fn undo(&mut self, vmid: u32) {
        let Some(guest) = self.guests.get_mut(&vmid) else {
            return;
        };
        if guest.lock.as_deref() == Some("create") {
            self.guests.remove(&vmid);
            self.volumes
                .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
        } else {
            guest.lock = None;
        }
    }

    /// Interrupts every running task and gives up every console.
    pub(crate) fn rest(&mut self) {
        let running: Vec<String> = self.queue.values().map(|(upid, _)| upid.clone()).collect();
        for upid in running {
            self.stop_task(&upid);
        }
        self.consoles.clear();
    }

    /// Interrupts a running task; a finished one is left alone.
    pub(crate) fn stop_task(&mut self, upid: &str) {
        let key = self
            .queue
            .iter()
            .find(|(_, (queued, _))| queued == upid)
            .map(|(key, _)| *key);
        let Some((_, effect)) = key.and_then(|key| self.queue.remove(&key)) else {
            return;
        };
        if let Some((vmid, effect)) = effect.on_guest() {
            self.abandon(vmid, effect);
        }
        let now = self.now;
        if let Some(task) = self.task_mut(upid) {
            task.finish(now, Err("received interrupt"));
        }
    }
}
