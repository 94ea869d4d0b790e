//! Moving guests between nodes.

use super::started::Goal;
use super::{Guest, Kind, Place, PowerState, Started, order};
use crate::Value;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::value::List;
use crate::value::encode::escape;
use crate::value::endpoint::Method;

/// What stands in the way of a migration; see [`Guest::check_migration`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationCheck {
    /// Whether the guest runs.
    pub running: bool,
    /// The nodes the server says it can go to; `None` where the release does not say.
    pub allowed_nodes: Option<Vec<String>>,
    /// Disks that no other node can reach, each as `storage:volume`. They can be copied along.
    pub local_disks: Vec<String>,
    /// Devices of the node that the guest uses, such as `hostpci0`. They cannot be moved.
    pub local_resources: Vec<String>,
    /// Storages the target node lacks.
    pub missing_storages: Vec<String>,
    /// What high availability keeps away from the guest and runs on the target node, as `vm:102`.
    pub blocking_resources: Vec<String>,
}

impl MigrationCheck {
    /// Reads the answer member by member: what is declared about it and what comes are two things.
    #[inline]
    fn read(found: &Value, target: &str) -> Self {
        let texts = |list: Option<&Value>, key: &str| -> Vec<String> {
            let items = list.and_then(Value::as_array).map(Vec::as_slice);
            (items.unwrap_or_default().iter())
                .filter_map(|item| item.as_str().or_else(|| item.get(key)?.as_str()))
                .map(str::to_owned)
                .collect()
        };
        let running = match found.get("running") {
            Some(Value::Bool(running)) => *running,
            Some(Value::Number(number)) => number.as_i64() != Some(0),
            Some(Value::String(text)) => text == "1",
            _ => false,
        };
        let refused = (found.get("not_allowed_nodes")).and_then(|nodes| nodes.get(target));
        let why = |key: &str| texts(refused.and_then(|why| why.get(key)), "sid");
        Self {
            running,
            // A running guest gets none: the server does not look at the nodes then.
            allowed_nodes: (found.get("allowed_nodes"))
                .filter(|nodes| nodes.is_array() && !running)
                .map(|nodes| texts(Some(nodes), "node")),
            local_disks: texts(found.get("local_disks"), "volid"),
            local_resources: texts(found.get("local_resources"), "name"),
            missing_storages: why("unavailable_storages"),
            blocking_resources: why("blocking-ha-resources"),
        }
    }

    /// Whether the server names a reason against this target. No reason is no promise.
    #[must_use]
    pub fn is_blocked(&self, target: &str) -> bool {
        !self.local_resources.is_empty()
            || !self.missing_storages.is_empty()
            || !self.blocking_resources.is_empty()
            || (self.allowed_nodes.as_ref())
                .is_some_and(|nodes| !nodes.iter().any(|node| node == target))
    }
}

/// Moving a guest to another node; made by [`Guest::migrate`], awaiting it gives a [`Started`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Migrate {
    guest: Guest,
    target: String,
    live: Option<bool>,
    local_disks: bool,
    storages: Vec<String>,
}

impl Guest {
    /// Asks what stands in the way of a migration to a node: `GET /nodes/{node}/{qemu|lxc}/{vmid}/migrate`.
    /// For containers there is such a call since release 9.0; before, only `running` is filled.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn check_migration(&self, target: &str) -> Result<MigrationCheck, Error> {
        let asked = self
            .call(None, &|place| {
                let path = format!(
                    "/nodes/{}/{}/{}/migrate",
                    escape(&place.node),
                    place.kind,
                    self.vmid
                );
                let request = self.client.request(Method::Get, path);
                request.param("target", target).into_future()
            })
            .await;
        match asked {
            Ok(found) => Ok(MigrationCheck::read(&found, target)),
            Err(error) if error.kind() == Some(ErrorKind::UnknownMethod) => Ok(MigrationCheck {
                running: self.status().await?.state == PowerState::Running,
                ..MigrationCheck::default()
            }),
            Err(error) => Err(error),
        }
    }

    /// Moves it to another node: `POST /nodes/{node}/{qemu|lxc}/{vmid}/migrate`. A running virtual machine
    /// moves live, a running container is restarted over there, unless [`Migrate::live`] says otherwise.
    pub fn migrate(&self, target: impl Into<String>) -> Migrate {
        Migrate {
            guest: self.clone(),
            target: target.into(),
            live: None,
            local_disks: false,
            storages: Vec::new(),
        }
    }
}

impl Migrate {
    /// Whether a running guest is moved; without it the server refuses to move one that runs.
    pub fn live(mut self, live: bool) -> Self {
        self.live = Some(live);
        self
    }

    /// Copies disks along that the target cannot reach. Virtual machines only; containers do it anyway.
    pub fn with_local_disks(mut self) -> Self {
        self.local_disks = true;
        self
    }

    /// The storage the disks go to: one for all, or `from:to` for each.
    pub fn target_storage(mut self, storage: impl Into<String>) -> Self {
        self.storages.push(storage.into());
        self
    }

    async fn run(self) -> Result<Started, Error> {
        let guest = &self.guest;
        let live = match self.live {
            Some(live) => live,
            None => guest.status().await?.state == PowerState::Running,
        };
        let live = live.then_some(true);
        let disks = self.local_disks.then_some(true);
        let storages = || (!self.storages.is_empty()).then(|| List(self.storages.clone()));
        let send = |place: &Place| match place.kind {
            Kind::Qemu => {
                let request = guest.qemu_at(place).migrate().post(&self.target);
                order!(request, online: live, with_local_disks: disks, targetstorage: storages())
            }
            Kind::Lxc => {
                let request = guest.lxc_at(place).migrate().post(&self.target);
                order!(request, restart: live, target_storage: storages())
            }
        };
        let goal = Goal::Node(self.target.clone());
        guest.order(None, goal, &send).await
    }
}

super::awaits!(Migrate => Started);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_against_a_target_is_found() {
        let found = serde_json::json!({
            "running": 0,
            "allowed_nodes": ["pve3"],
            "local_disks": [{ "volid": "local-lvm:vm-101-disk-0", "size": 1, "cdrom": 0 }],
            "local_resources": ["hostpci0"],
            "not_allowed_nodes": {
                "pve2": {
                    "unavailable_storages": ["nfs"],
                    "blocking-ha-resources": [{ "sid": "vm:102", "cause": "resource-affinity" }],
                },
            },
        });
        let check = MigrationCheck::read(&found, "pve2");
        assert!(check.is_blocked("pve2"));
        assert_eq!(check.local_disks, ["local-lvm:vm-101-disk-0"]);
        assert_eq!(check.local_resources, ["hostpci0"]);
        assert_eq!(check.missing_storages, ["nfs"]);
        assert_eq!(check.blocking_resources, ["vm:102"]);
    }

    #[test]
    fn a_running_guest_is_judged_by_its_own_devices_only() {
        let found = serde_json::json!({
            "running": 1, "allowed_nodes": [], "local_disks": [], "local_resources": [],
        });
        let check = MigrationCheck::read(&found, "pve2");
        assert!(check.running && !check.is_blocked("pve2"));
        // Nothing of it can be trusted to be there.
        assert_eq!(
            MigrationCheck::read(&Value::Null, "pve2"),
            MigrationCheck::default()
        );
    }
}
