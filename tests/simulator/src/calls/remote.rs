//! Guests that go to another cluster: to a simulator in the same process, found by its port.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Call, Reply, guests};
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::guest::{Guest, GuestEffect, Kind, check_lock, volume_of};
use crate::world::{Effect, Volume, World};

/// The simulators of this process by their ports, with the fingerprints of their certificates.
static RUNNING: Mutex<BTreeMap<u16, (Weak<App>, String)>> = Mutex::new(BTreeMap::new());

/// Makes a simulator known to the others.
pub(crate) fn announce(port: u16, app: &Arc<App>, fingerprint: &str) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|_, (app, _)| app.strong_count() > 0);
    running.insert(port, (Arc::downgrade(app), fingerprint.to_owned()));
}

/// What a guest's move needs of its target.
#[derive(Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    token: String,
    fingerprint: Option<String>,
    vmid: u32,
    storages: String,
    bridges: String,
    delete: bool,
}

/// Without the token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} at {}:{}", self.vmid, self.host, self.port)
    }
}

impl Target {
    fn of(call: &Call<'_>, vmid: u32) -> Self {
        let endpoint = call.owned("target-endpoint");
        let part = |key: &str| {
            let parts = endpoint.split(',').filter_map(|part| part.split_once('='));
            let mut own = parts.filter(|(own, _)| *own == key);
            own.next().map(|(_, value)| value.to_owned())
        };
        Self {
            host: part("host").unwrap_or_default(),
            port: part("port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(8006),
            token: part("apitoken").unwrap_or_default(),
            fingerprint: part("fingerprint"),
            vmid: match call.params.contains_key("target-vmid") {
                true => call.vmid("target-vmid"),
                false => vmid,
            },
            storages: call.owned("target-storage"),
            bridges: call.owned("target-bridge"),
            delete: call.flag("delete"),
        }
    }

    /// Does something with the other cluster, unless that waits for this one at the same moment.
    fn with<T>(&self, act: impl FnOnce(&mut World) -> Result<T, String>) -> Result<T, String> {
        let lost =
            |text: &str| format!("500 Can't connect to {}:{} ({text})", self.host, self.port);
        let known = {
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(&self.port).cloned()
        };
        let (app, fingerprint) = known.ok_or_else(|| lost("Connection refused"))?;
        let app = app.upgrade().ok_or_else(|| lost("Connection refused"))?;
        if (self.fingerprint.as_ref()).is_none_or(|own| !own.eq_ignore_ascii_case(&fingerprint)) {
            return Err(lost("hostname verification failed"));
        }
        let mut other = app
            .try_world()
            .ok_or_else(|| lost("Connection timed out"))?;
        let now = other.now;
        let token = self
            .token
            .strip_prefix("PVEAPIToken=")
            .unwrap_or(&self.token);
        if other.access.check_token(token, now).is_none() {
            return Err("401 Authentication failed!".to_owned());
        }
        act(&mut other)
    }
}

/// What a name becomes by `from:to` pairs or one for all.
fn mapped(map: &str, name: &str) -> Option<String> {
    let mut all = None;
    for part in map.split([',', ';', ' ']).filter(|part| !part.is_empty()) {
        match part.split_once(':') {
            Some((from, to)) if from == name => return Some(to.to_owned()),
            Some(_) => {}
            None => all = Some(part.to_owned()),
        }
    }
    all
}

/// `POST /nodes/{node}/{qemu|lxc}/{vmid}/remote_migrate`.
pub(crate) fn migrate(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    check_lock(guest).map_err(ApiError::die)?;
    if guest.running() && !call.flag("online") && !call.flag("restart") {
        let noun = kind.noun();
        return Err(ApiError::die(format!(
            "can't migrate running {noun} without --online"
        )));
    }
    if call.world.ha_state(vmid).is_some() {
        return Err(ApiError::die(format!(
            "cannot migrate HA-managed {} {vmid} to another cluster",
            kind.noun()
        )));
    }
    let target = Target::of(call, vmid);
    let storages: Vec<String> = (guest.config.iter())
        .filter(|(key, _)| kind.is_disk(key))
        .filter_map(|(_, value)| Some(volume_of(value).split_once(':')?.0.to_owned()))
        .collect();
    let check = target.with(|other| {
        if other.guests.contains_key(&target.vmid) {
            return Err(format!(
                "target-vmid: Guest with ID '{}' already exists on remote cluster",
                target.vmid
            ));
        }
        for storage in &storages {
            let to = mapped(&target.storages, storage).unwrap_or_else(|| storage.clone());
            if !other.storages.contains_key(&to) {
                return Err(format!("storage '{to}' does not exist on remote cluster"));
            }
        }
        Ok(())
    });
    check.map_err(ApiError::die)?;
    let task = if kind == Kind::Lxc {
        "vzmigrate"
    } else {
        "qmigrate"
    };
    guests::lock(call.world, vmid, "migrate");
    let lines = vec![
        format!("remote: started tunnel worker for {}", target.host),
        "migration finished successfully (duration 00:00:05)".into(),
    ];
    let effect = Effect::Guest(vmid, GuestEffect::SendAway(Box::new(target)));
    Ok(call.start(task, vmid, 5.0, lines, effect))
}

impl World {
    /// Gives a guest to another cluster.
    pub(crate) fn send_away(&mut self, vmid: u32, target: &Target) -> Result<(), String> {
        let Some(guest) = self.guests.get_mut(&vmid) else {
            return Ok(());
        };
        guest.lock = None;
        let guest = guest.clone();
        let sizes: BTreeMap<String, Volume> = (guest.config.values())
            .filter_map(|value| {
                let volid = volume_of(value);
                let volume = self.volumes.get(&self.volume_key(&guest.node, volid))?;
                Some((volid.to_owned(), volume.clone()))
            })
            .collect();
        target.with(|other| take_in(other, &guest, &sizes, target))?;
        if target.delete {
            self.guests.remove(&vmid);
            self.volumes
                .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
            self.forget_guest(vmid, true);
        } else if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.cut_power();
        }
        Ok(())
    }
}

fn take_in(
    other: &mut World,
    guest: &Guest,
    sizes: &BTreeMap<String, Volume>,
    target: &Target,
) -> Result<(), String> {
    let node = other.nodes.iter().find(|node| node.online);
    let node = node
        .map(|node| node.name.clone())
        .ok_or("no node is there")?;
    let mut arrived = guest.clone();
    arrived.node.clone_from(&node);
    arrived.pool = None;
    for (key, value) in &mut arrived.config {
        let volid = volume_of(value).to_owned();
        if let Some(volume) = sizes.get(&volid) {
            let (storage, name) = volid.split_once(':').unwrap_or(("", &volid));
            let to = mapped(&target.storages, storage).unwrap_or_else(|| storage.to_owned());
            let name = name.replace(
                &format!("-{}-", volume.vmid.unwrap_or_default()),
                &format!("-{}-", target.vmid),
            );
            let moved = format!("{to}:{name}");
            *value = value.replacen(&volid, &moved, 1);
            let volume = Volume {
                storage: to,
                vmid: Some(target.vmid),
                ..volume.clone()
            };
            let place = other.volume_key(&node, &moved);
            other.volumes.insert(place, volume);
        } else if key.starts_with("net") {
            let parts: Vec<String> = (value.split(','))
                .map(|part| match part.strip_prefix("bridge=") {
                    Some(bridge) => {
                        let to = mapped(&target.bridges, bridge);
                        format!("bridge={}", to.unwrap_or_else(|| bridge.to_owned()))
                    }
                    None => part.to_owned(),
                })
                .collect();
            *value = parts.join(",");
        }
    }
    other.guests.insert(target.vmid, arrived);
    Ok(())
}
