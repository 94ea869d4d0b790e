//! Tasks: start, end, and effects.

use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::TaskFault;
use crate::state::access::Identity;
use crate::state::cluster::Cluster;
use crate::state::effect::{Edit, Effect, Plan};
use crate::state::tasks;
use crate::state::tasks::Task;

impl Cluster {
    /// Starts a task and returns its UPID.
    pub(crate) fn start(&mut self, mut plan: Plan<'_>) -> Value {
        if let Some(task_fault) = self.task_fault.take() {
            if let TaskFault::Warn(count) = task_fault {
                let warning = |n| format!("WARN: simulated warning {n}");
                plan.lines.extend((1..=count.min(1_000)).map(warning));
            }
            plan.effect = Effect::Faulted(Box::new(plan.effect), task_fault);
        }
        let mut task = self.task_of(plan.node, plan.kind, &plan.id, plan.owner);
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

    /// Schedules an effect that belongs to no task, in simulated seconds.
    pub(crate) fn schedule(&mut self, seconds: f64, effect: Effect) {
        self.counter += 1;
        let due = self.now + Duration::from_secs_f64((seconds * self.factor).max(0.0));
        self.queue
            .insert((due, self.counter), (String::new(), effect));
    }

    /// Starts a task that runs until [`Cluster::end_task`], and returns its UPID.
    pub(crate) fn start_open_ended(
        &mut self,
        node: &str,
        kind: &str,
        id: &str,
        owner: &Identity,
    ) -> String {
        let task = self.task_of(node, kind, id, owner);
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

    fn task_of(&mut self, node: &str, kind: &str, id: &str, owner: &Identity) -> Task {
        self.counter += 1;
        let pid = 4_000 + u32::try_from(self.counter % 60_000).unwrap_or(0) * 3;
        let uptime = self.now.saturating_sub(self.started).as_millis() / 10;
        let pstart = 200_000 + u64::try_from(uptime).unwrap_or(0);
        Task {
            upid: tasks::upid(node, pid, pstart, self.now, kind, id, owner),
            node: node.to_owned(),
            pid,
            pstart,
            start: self.now,
            kind: kind.to_owned(),
            id: id.to_owned(),
            owner: owner.clone(),
            lines: Vec::new(),
            end: None,
        }
    }

    /// Advances the state to `now`: applies due effects, in order.
    pub(crate) fn advance_to(&mut self, now: Duration) {
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

    /// Applies a task's effect; returns the number of warnings, or the error text.
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
                    let result = self.apply(effect);
                    outcome = match (outcome, result) {
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
            Effect::Faulted(effect, TaskFault::Fail(text)) => {
                if let Some((vmid, effect)) = effect.on_guest() {
                    self.undo_effect(vmid, effect);
                }
                Err(text)
            }
            Effect::Faulted(effect, TaskFault::Warn(count)) => self
                .apply(*effect)
                .map(|warnings| warnings.saturating_add(count)),
        }
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Set(list, id, row) => {
                let rows = self.records.entry(list).or_default();
                match rows.iter_mut().find(|(key, _)| *key == id) {
                    Some((_, old)) => *old = row,
                    None => rows.push((id, row)),
                }
            }
            Edit::Remove(list, id) => {
                if let Some(rows) = self.records.get_mut(&list) {
                    rows.retain(|(key, _)| *key != id);
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

    /// Undoes the preparations of an interrupted task on a guest.
    pub(crate) fn undo_preparations(&mut self, vmid: u32) {
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

    /// Interrupts all running tasks and closes all consoles.
    pub(crate) fn interrupt_all(&mut self) {
        let running: Vec<String> = self.queue.values().map(|(upid, _)| upid.clone()).collect();
        for upid in running {
            self.stop_task(&upid);
        }
        self.consoles.clear();
    }

    /// Interrupts a running task; a finished one stays unchanged.
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
            self.undo_effect(vmid, effect);
        }
        let now = self.now;
        if let Some(task) = self.task_mut(upid) {
            task.finish(now, Err("received interrupt"));
        }
    }
}
