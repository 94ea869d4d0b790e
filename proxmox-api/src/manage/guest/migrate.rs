//! Moving guests between nodes.

use std::collections::{BTreeMap, HashSet};

use super::started::TargetState;
use super::{Guest, GuestLocation, Kind, PowerState, StartedOperation, start_task};
use crate::Value;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::value::List;
use crate::value::encode::escape;
use crate::value::endpoint::Method;
use crate::value::serialize::record_serde;

/// Obstacles of a migration; see [`Guest::check_migration`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationCheck {
    /// Whether the guest runs.
    pub running: bool,
    /// The nodes to which the server allows a move; `None` if the release does not list them.
    pub allowed_nodes: Option<Vec<String>>,
    /// The nodes to which the server does not allow a move, with the reasons.
    pub not_allowed_nodes: BTreeMap<String, NodeRefusal>,
    /// Disks that no other node can reach, each as `storage:volume`. They can be copied.
    pub local_disks: Vec<String>,
    /// Local devices that the guest uses, such as `hostpci0`, except mapped ones. They cannot be
    /// moved.
    pub local_resources: Vec<String>,
    /// Devices that the guest uses through a mapping of the cluster.
    pub mapped_resources: Vec<MappedResource>,
    /// The resources that high availability moves with the guest, as `vm:104`.
    pub dependent_resources: Vec<String>,
    /// Storages the target node lacks.
    pub missing_storages: Vec<String>,
    /// Mapped devices the target node lacks.
    pub missing_mappings: Vec<String>,
    /// The resources on the target node that high availability keeps apart from the guest, as
    /// `vm:102`.
    pub blocking_resources: Vec<String>,
}

record_serde!(MigrationCheck {
    running,
    allowed_nodes,
    not_allowed_nodes,
    local_disks,
    local_resources,
    mapped_resources,
    dependent_resources,
    missing_storages,
    missing_mappings,
    blocking_resources,
});

/// The reasons why a guest cannot move to a node; see [`MigrationCheck::not_allowed_nodes`].
/// Nothing is set if the server gives no reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRefusal {
    /// Storages the node lacks.
    pub missing_storages: Vec<String>,
    /// Mapped devices the node lacks.
    pub missing_mappings: Vec<String>,
    /// The resources on the node that high availability keeps apart from the guest, as `vm:102`.
    pub blocking_resources: Vec<String>,
}

record_serde!(NodeRefusal {
    missing_storages,
    missing_mappings,
    blocking_resources,
});

/// A device that a guest uses through a mapping of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedResource {
    /// The guest's setting, as `hostpci0`.
    pub key: String,
    /// The mapping; `None` if the release does not name it.
    pub mapping: Option<String>,
    /// Whether a running guest can be moved with it.
    pub live: bool,
}

record_serde!(MappedResource { key, mapping, live });

/// A member by either spelling: machines and containers differ, and so do releases.
fn member<'a>(found: &'a Value, name: &str) -> Option<&'a Value> {
    (found.get(name.replace('-', "_"))).or_else(|| found.get(name.replace('_', "-")))
}

/// A list of texts, or of objects with the text under this key.
fn texts(list: Option<&Value>, key: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice);
    (items.unwrap_or_default().iter())
        .filter_map(|item| item.as_str().or_else(|| item.get(key)?.as_str()))
        .map(str::to_owned)
        .collect()
}

fn flag(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(Value::String(text)) => !matches!(text.as_str(), "" | "0"),
        _ => false,
    }
}

impl NodeRefusal {
    fn read(why: &Value) -> Self {
        Self {
            missing_storages: texts(member(why, "unavailable-storages"), "storage"),
            missing_mappings: texts(member(why, "unavailable-resources"), "name"),
            blocking_resources: texts(member(why, "blocking-ha-resources"), "sid"),
        }
    }
}

impl MigrationCheck {
    /// Reads the answer member by member, because its declaration differs from real answers.
    #[inline]
    fn read(found: &Value, target: &str) -> Self {
        let running = flag(found.get("running"));
        let not_allowed_nodes: BTreeMap<String, NodeRefusal> = member(found, "not-allowed-nodes")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            // A node without a reason is not refused.
            .filter(|(_, why)| why.as_object().is_none_or(|why| !why.is_empty()))
            .map(|(node, why)| (node.clone(), NodeRefusal::read(why)))
            .collect();
        let allowed_nodes = member(found, "allowed-nodes")
            .filter(|nodes| nodes.is_array())
            .map(|nodes| texts(Some(nodes), "node"))
            // Releases before 9 check no node if the guest runs.
            .filter(|nodes| !(running && nodes.is_empty() && not_allowed_nodes.is_empty()));
        let mut mapped_resources: Vec<MappedResource> = member(found, "mapped-resource-info")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, about)| MappedResource {
                key: key.clone(),
                mapping: about.get("name").and_then(Value::as_str).map(str::to_owned),
                live: flag(member(about, "live-migration")),
            })
            .collect();
        let mut mapped: HashSet<String> = (mapped_resources.iter())
            .map(|known| known.key.clone())
            .collect();
        for key in texts(member(found, "mapped-resources"), "name") {
            if mapped.insert(key.clone()) {
                mapped_resources.push(MappedResource {
                    key,
                    mapping: None,
                    live: false,
                });
            }
        }
        let mut local_resources = texts(member(found, "local-resources"), "name");
        local_resources.retain(|key| !mapped.contains(key));
        let here = not_allowed_nodes.get(target).cloned().unwrap_or_default();
        Self {
            running,
            allowed_nodes,
            local_disks: texts(member(found, "local-disks"), "volid"),
            local_resources,
            mapped_resources,
            dependent_resources: texts(member(found, "dependent-ha-resources"), "sid"),
            missing_storages: here.missing_storages,
            missing_mappings: here.missing_mappings,
            blocking_resources: here.blocking_resources,
            not_allowed_nodes,
        }
    }

    /// Whether the server names a reason against this target. No reason is not a guarantee.
    #[must_use]
    pub fn is_blocked(&self, target: &str) -> bool {
        !self.reasons(target).is_empty()
    }

    /// The server's objections to this target, as text; empty if it has none.
    #[must_use]
    pub fn reasons(&self, target: &str) -> Vec<String> {
        let mut reasons = Vec::new();
        let mut add = |what: &str, items: &[String]| {
            if !items.is_empty() {
                reasons.push(format!("{what} {}", items.join(", ")));
            }
        };
        add("it uses devices of its node:", &self.local_resources);
        let fixed: Vec<String> = (self.mapped_resources.iter())
            .filter(|mapped| self.running && !mapped.live)
            .map(|mapped| mapped.key.clone())
            .collect();
        add(
            "it is running with devices that cannot be moved live:",
            &fixed,
        );
        if let Some(why) = self.not_allowed_nodes.get(target) {
            add("the node lacks the storages", &why.missing_storages);
            add("the node lacks the mapped devices", &why.missing_mappings);
            add(
                "high availability keeps it away from",
                &why.blocking_resources,
            );
        }
        let refused = self.not_allowed_nodes.contains_key(target)
            || (self.allowed_nodes.as_ref())
                .is_some_and(|nodes| !nodes.iter().any(|node| node == target));
        if refused && reasons.is_empty() {
            reasons.push(format!("the server does not allow node {target}"));
        }
        reasons
    }
}

/// Moves a guest to another node; made by [`Guest::migrate`], awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Migrate {
    guest: Guest,
    target: String,
    live: Option<bool>,
    local_disks: bool,
    storages: Vec<String>,
    bandwidth: Option<u64>,
    connections: Option<bool>,
}

impl Guest {
    /// Reads the obstacles of a migration to a node: [`GET
    /// /nodes/{node}/qemu/{vmid}/migrate`](crate::pve::qemu::QemuVmidMigrateGet) or [`GET
    /// /nodes/{node}/lxc/{vmid}/migrate`](crate::pve::lxc::LxcVmidMigrateGet). Containers have such
    /// a call since release 9.0; before, only `running` is filled.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn check_migration(&self, target: &str) -> Result<MigrationCheck, Error> {
        let answer = self
            .call(None, &|location| {
                let path = format!(
                    "/nodes/{}/{}/{}/migrate",
                    escape(&location.node),
                    location.kind,
                    self.vmid
                );
                let request = self.client.request::<Value>(Method::Get, path);
                request.param("target", target).into_future()
            })
            .await;
        match answer {
            Ok(found) => Ok(MigrationCheck::read(&found, target)),
            Err(error) if error.kind() == Some(ErrorKind::UnknownMethod) => Ok(MigrationCheck {
                running: self.status().await?.state == PowerState::Running,
                ..MigrationCheck::default()
            }),
            Err(error) => Err(error),
        }
    }

    /// Moves it to another node: [`POST
    /// /nodes/{node}/qemu/{vmid}/migrate`](crate::pve::qemu::QemuVmidMigratePost) or [`POST
    /// /nodes/{node}/lxc/{vmid}/migrate`](crate::pve::lxc::LxcVmidMigratePost). A running virtual
    /// machine moves live, a running container is restarted on the target, unless [`Migrate::live`]
    /// forbids it.
    pub fn migrate(&self, target: impl Into<String>) -> Migrate {
        Migrate {
            guest: self.clone(),
            target: target.into(),
            live: None,
            local_disks: false,
            storages: Vec::new(),
            bandwidth: None,
            connections: None,
        }
    }
}

impl Migrate {
    /// Whether a running guest may be moved. On by default; off, the server refuses to move a
    /// running guest.
    pub fn live(mut self, live: bool) -> Self {
        self.live = Some(live);
        self
    }

    /// Copies the disks that the target cannot reach. Virtual machines only; containers always copy
    /// them.
    pub fn with_local_disks(mut self) -> Self {
        self.local_disks = true;
        self
    }

    /// The target storage of the disks: one for all, or `from:to` for each.
    pub fn target_storage(mut self, storage: impl Into<String>) -> Self {
        self.storages.push(storage.into());
        self
    }

    /// The limit on the copy rate, in KiB per second; by default the setting of the cluster.
    pub fn bandwidth(mut self, kibibytes: u64) -> Self {
        self.bandwidth = Some(kibibytes);
        self
    }

    /// Whether the state of network connections moves with a running virtual machine. Needs release
    /// 9.0.
    pub fn connections(mut self, along: bool) -> Self {
        self.connections = Some(along);
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let guest = &self.guest;
        let limit = (self.bandwidth).map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let live = match self.live {
            Some(live) => live,
            None => guest.status().await?.state == PowerState::Running,
        };
        let live = live.then_some(true);
        let disks = self.local_disks.then_some(true);
        let storages = || (!self.storages.is_empty()).then(|| List(self.storages.clone()));
        let send = |location: &GuestLocation| match location.kind {
            Kind::Qemu => {
                let request = guest.qemu_at(location).migrate().post(&self.target);
                start_task!(
                    request,
                    online: live,
                    with_local_disks: disks,
                    targetstorage: storages(),
                    bwlimit: limit,
                    with_conntrack_state: self.connections,
                )
            }
            Kind::Lxc => {
                let request = guest.lxc_at(location).migrate().post(&self.target);
                start_task!(request, restart: live, target_storage: storages(), bwlimit: limit)
            }
        };
        let target = TargetState::Node(self.target.clone());
        guest.start_operation(None, target, &send).await
    }
}

super::impl_into_started!(Migrate);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reason_against_a_target_is_found() {
        // As virtual machines of 7 and 8, machines of 9, and containers report it.
        let old = json!({
            "running": 0,
            "allowed_nodes": ["pve3"],
            "local_disks": [{ "volid": "local-lvm:vm-101-disk-0", "size": 1, "cdrom": 0 }],
            "local_resources": ["hostpci0"],
            "not_allowed_nodes": { "pve2": { "unavailable_storages": ["nfs"] } },
        });
        let check = MigrationCheck::read(&old, "pve2");
        assert!(check.is_blocked("pve2") && check.is_blocked("pve3"));
        assert_eq!(check.local_disks, ["local-lvm:vm-101-disk-0"]);
        assert_eq!(check.local_resources, ["hostpci0"]);
        assert_eq!(check.missing_storages, ["nfs"]);

        let running = json!({
            "running": 1,
            "allowed_nodes": ["pve3"],
            "not_allowed_nodes": {
                "pve4": { "unavailable-resources": ["gpu1"] },
                "pve5": { "blocking-ha-resources": [{ "sid": "vm:102", "cause": "resource-affinity" }] },
                "pve3": {},
            },
            "local_disks": [],
            "local_resources": ["hostpci0"],
            "mapped-resources": ["hostpci0"],
            "mapped-resource-info": { "hostpci0": { "name": "gpu1", "live-migration": 1 } },
            "dependent-ha-resources": ["vm:104"],
        });
        let check = MigrationCheck::read(&running, "pve4");
        assert_eq!(check.missing_mappings, ["gpu1"]);
        assert_eq!(check.allowed_nodes, Some(vec!["pve3".to_owned()]));
        assert_eq!(check.dependent_resources, ["vm:104"]);
        assert_eq!(
            check.reasons("pve4"),
            ["the node lacks the mapped devices gpu1"]
        );
        assert_eq!(
            check.reasons("pve5"),
            ["high availability keeps it away from vm:102"]
        );
        assert_eq!(
            check.reasons("pve9"),
            ["the server does not allow node pve9"]
        );
        assert!(!check.is_blocked("pve3"), "a mapped device moves along");

        let container = json!({
            "running": 0, "allowed-nodes": ["pve3"], "dependent-ha-resources": ["ct:104"],
            "not-allowed-nodes": {
                "pve1": { "blocking-ha-resources": [{ "sid": "ct:103", "cause": "resource-affinity" }] },
            },
        });
        let check = MigrationCheck::read(&container, "pve1");
        assert!(check.is_blocked("pve1") && !check.is_blocked("pve3"));
        assert_eq!(check.blocking_resources, ["ct:103"]);
        assert_eq!(check.dependent_resources, ["ct:104"]);
    }

    #[test]
    fn a_running_machine_needs_devices_that_move_live() {
        let found = |info: Value| {
            let found = json!({
                "running": "1", "allowed_nodes": ["pve2"], "local_resources": ["usb0"],
                "mapped-resources": ["usb0"], "mapped-resource-info": info,
            });
            MigrationCheck::read(&found, "pve2").is_blocked("pve2")
        };
        assert!(found(json!({ "usb0": { "name": "stick" } })));
        assert!(
            found(Value::Null),
            "8.0 to 8.3 do not say and do not move them"
        );
        assert!(!found(
            json!({ "usb0": { "name": "stick", "live-migration": true } })
        ));
    }

    #[test]
    fn the_time_for_many_devices_grows_linearly() {
        let time = |count: usize| {
            let keys: Vec<String> = (0..count)
                .map(|number| format!("hostpci{number}"))
                .collect();
            let found = json!({ "local_resources": keys, "mapped-resources": keys });
            let start = std::time::Instant::now();
            let check = MigrationCheck::read(&found, "pve2");
            assert_eq!(
                (check.mapped_resources.len(), check.local_resources.len()),
                (count, 0)
            );
            start.elapsed()
        };
        let few = (0..5).map(|_| time(1_000)).min().unwrap_or_default();
        // A comparison of all pairs would take ten thousand times as long.
        assert!(time(100_000) < few * 2_000, "{few:?} for a thousand");
    }

    #[test]
    fn missing_members_block_nothing() {
        let found = json!({
            "running": 1, "allowed_nodes": [], "local_disks": [], "local_resources": [],
        });
        let check = MigrationCheck::read(&found, "pve2");
        assert!(check.running && !check.is_blocked("pve2"));
        // No member can be relied on.
        for answer in [
            Value::Null,
            json!([]),
            json!({ "not_allowed_nodes": [1], "running": [] }),
        ] {
            assert_eq!(
                MigrationCheck::read(&answer, "pve2"),
                MigrationCheck::default()
            );
        }
    }
}
