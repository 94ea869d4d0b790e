//! Guests that migrate to another cluster: a simulator in the same process, found by its port.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use crate::state::cluster::Cluster;
use crate::state::guest::Guest;
use crate::state::guest::target::Target;
use crate::state::guest::volumes::volume_of;
use crate::state::storage::Volume;

/// Another cluster in the same process.
pub(crate) trait Peer: Send + Sync {
    /// Its state, unless it is locked.
    fn try_cluster(&self) -> Option<MutexGuard<'_, Cluster>>;
}

/// Peers by port, with the fingerprints of their certificates.
type Peers = BTreeMap<u16, (Weak<dyn Peer>, String)>;

/// The simulators of this process.
static RUNNING: Mutex<Peers> = Mutex::new(BTreeMap::new());

/// Registers a simulator.
pub(crate) fn register(port: u16, peer: Weak<dyn Peer>, fingerprint: &str) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|_, (peer, _)| peer.strong_count() > 0);
    running.insert(port, (peer, fingerprint.to_owned()));
}

/// Maps a name by `from:to` pairs, or by one target for all.
pub(crate) fn mapped(map: &str, name: &str) -> Option<String> {
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

impl Cluster {
    /// Moves a guest to another cluster.
    pub(crate) fn export_guest(&mut self, vmid: u32, target: &Target) -> Result<(), String> {
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
        target.with(|other| import_guest(other, &guest, &sizes, target))?;
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

fn import_guest(
    other: &mut Cluster,
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

impl Target {
    /// Accesses the other cluster, unless that waits for this one at the same moment.
    pub(crate) fn with<T>(
        &self,
        act: impl FnOnce(&mut Cluster) -> Result<T, String>,
    ) -> Result<T, String> {
        let lost =
            |text: &str| format!("500 Can't connect to {}:{} ({text})", self.host, self.port);
        let known = {
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(&self.port).cloned()
        };
        let (peer, fingerprint) = known.ok_or_else(|| lost("Connection refused"))?;
        let peer = peer.upgrade().ok_or_else(|| lost("Connection refused"))?;
        if (self.fingerprint.as_ref())
            .is_none_or(|expected| !expected.eq_ignore_ascii_case(&fingerprint))
        {
            return Err(lost("hostname verification failed"));
        }
        let mut other = peer
            .try_cluster()
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
