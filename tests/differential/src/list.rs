//! The list of calls: reads, calls that are refused before they change anything, and scenarios that
//! are undone.

use std::collections::BTreeSet;

use proxmox_api::value::endpoint::Method;
use proxmox_codegen::facts;
use proxmox_e2e::request::{ExpectedRequest, Sent};
use proxmox_e2e::{ANSWERS, REQUESTS};
use proxmox_simulator::releases;
use serde::Deserialize;

use crate::call::Call;
use crate::server::Caller;

/// A parameter that no endpoint has: a call with it is refused before it does anything.
pub const UNKNOWN_PARAMETER: &str = "differential-unknown";

/// A value that is not valid as number, flag, enum or name.
const NONSENSE: &str = "~";

/// Excluded: they wait for another kind of connection, or make the server download something.
const NOT_READ: &[&str] = &[
    "/nodes/{node}/apt/changelog",
    "/nodes/{node}/lxc/{vmid}/mtunnelwebsocket",
    "/nodes/{node}/lxc/{vmid}/vncwebsocket",
    "/nodes/{node}/qemu/{vmid}/mtunnelwebsocket",
    "/nodes/{node}/qemu/{vmid}/vncwebsocket",
    "/nodes/{node}/query-oci-repo-tags",
    "/nodes/{node}/query-url-metadata",
    "/nodes/{node}/scan/cifs",
    "/nodes/{node}/scan/iscsi",
    "/nodes/{node}/scan/nfs",
    "/nodes/{node}/scan/pbs",
    "/nodes/{node}/vncwebsocket",
];

/// The templates of all reading calls.
pub fn readings() -> impl Iterator<Item = &'static str> {
    ANSWERS
        .iter()
        .filter(|answer| answer.method == "GET" && !NOT_READ.contains(&answer.path))
        .map(|answer| answer.path)
}

/// Parameters of a reading call, where valid values are known.
#[must_use]
pub fn read_parameters(template: &str) -> Vec<(String, String)> {
    let wire = REQUESTS
        .iter()
        .find(|wire| wire.method == "GET" && wire.endpoint.ends_with(&format!(" {template}")));
    wire.map(parameters).unwrap_or_default()
}

fn parameters(wire: &ExpectedRequest) -> Vec<(String, String)> {
    fn put(name: &str, sent: &Sent, into: &mut Vec<(String, String)>) {
        match sent {
            Sent::One(text) => into.push((name.to_owned(), (*text).to_owned())),
            Sent::Parts(parts) => into.push((name.to_owned(), parts.join(","))),
            Sent::Many(items) => items.iter().for_each(|item| put(name, item, into)),
        }
    }
    let mut params = Vec::new();
    for parameter in wire.parameters.iter().filter(|parameter| parameter.known) {
        put(parameter.name, &parameter.sent, &mut params);
    }
    params
}

/// For every endpoint that changes something, three calls that no server carries out, because each
/// has an unknown parameter: one with valid values, one with nothing else, and one with invalid
/// values.
///
/// # Errors The facts of a release cannot be read.
pub fn refusals() -> Result<Vec<Call>, String> {
    let mut lenient: BTreeSet<String> = BTreeSet::new();
    for release in releases() {
        let facts = proxmox_simulator::facts(release).map_err(|error| error.to_string())?;
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                if endpoint.parameters.additional != Some(false) && *method != facts::Method::Get {
                    lenient.insert(format!("{method} {path}"));
                }
            }
        }
    }
    let mut calls = Vec::new();
    for wire in REQUESTS.iter().filter(|wire| wire.method != "GET") {
        if lenient.contains(wire.endpoint) {
            continue;
        }
        let call = (wire.build)();
        let path = wire.path.replacen("/nodes/pve1", "/nodes/{node}", 1);
        let valid = parameters(wire);
        let mut names: Vec<String> = valid.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        let nonsense = names
            .into_iter()
            .map(|name| (name, NONSENSE.to_owned()))
            .collect();
        for mut params in [valid, Vec::new(), nonsense] {
            params.push((UNKNOWN_PARAMETER.to_owned(), "1".to_owned()));
            calls.push(Call {
                method: call.method(),
                path: path.clone(),
                params,
            });
        }
    }
    Ok(calls)
}

/// A sequence of calls: objects that they create are used by later ones, and removed at the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// Placeholders that a server may have no value for.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether the calls are made with a token without privileges.
    #[serde(default)]
    pub nobody: bool,
    /// The calls are independent, and most are invalid: if a server accepts one, its result is
    /// removed and `before` is repeated, so that later calls are not affected.
    #[serde(default)]
    pub mistakes: bool,
    /// Calls made first by the user who runs the program; not compared.
    #[serde(default)]
    pub before: Vec<Call>,
    pub calls: Vec<Call>,
    /// Calls made at the end in any case, for objects that [`TRACES`] does not find.
    #[serde(default)]
    pub undo: Vec<Call>,
}

impl Scenario {
    pub(crate) fn caller(&self) -> Caller {
        match self.nobody {
            true => Caller::Unprivileged,
            false => Caller::Configured,
        }
    }
}

#[derive(Deserialize)]
struct File {
    scenario: Vec<Scenario>,
}

/// The built-in scenarios.
///
/// # Errors The file is invalid.
pub fn scenarios() -> Result<Vec<Scenario>, String> {
    read(include_str!("../calls.toml"))
}

/// Parses scenarios.
///
/// # Errors The place that is invalid.
pub fn read(text: &str) -> Result<Vec<Scenario>, String> {
    toml::from_str::<File>(text)
        .map(|file| file.scenario)
        .map_err(|error| error.to_string())
}

/// A list with objects that a scenario may create, and how to remove them.
#[derive(Debug)]
pub struct Trace {
    /// The list.
    pub list: &'static str,
    /// The member that identifies items of this run.
    pub key: &'static str,
    /// Objects to remove first: a list within each item, and how to remove an item of that list.
    pub below: Option<(&'static str, &'static str)>,
    /// The placeholders here are members of the item.
    pub remove: &'static [&'static str],
}

impl Trace {
    const fn new(list: &'static str, key: &'static str, remove: &'static [&'static str]) -> Self {
        Self {
            list,
            key,
            below: None,
            remove,
        }
    }

    const fn with(mut self, list: &'static str, remove: &'static str) -> Self {
        self.below = Some((list, remove));
        self
    }
}

/// Objects that use others are removed before them.
pub const TRACES: &[Trace] = &[
    Trace::new(
        "/cluster/replication",
        "id",
        &["DELETE /cluster/replication/{id}?force=1"],
    ),
    Trace::new("/cluster/backup", "id", &["DELETE /cluster/backup/{id}"]),
    Trace::new(
        "/cluster/ha/rules",
        "rule",
        &["DELETE /cluster/ha/rules/{rule}"],
    ),
    Trace::new(
        "/cluster/ha/resources",
        "sid",
        &["DELETE /cluster/ha/resources/{sid}"],
    ),
    Trace::new(
        "/cluster/ha/groups",
        "group",
        &["DELETE /cluster/ha/groups/{group}"],
    ),
    Trace::new(
        "/cluster/jobs/realm-sync",
        "id",
        &["DELETE /cluster/jobs/realm-sync/{id}"],
    ),
    Trace::new(
        "/cluster/resources",
        "vmid",
        &[
            "POST /nodes/{node}/{type}/{vmid}/status/stop",
            "PUT /nodes/{node}/{type}/{vmid}/config?delete=lock&skiplock=1",
            "PUT /nodes/{node}/{type}/{vmid}/config?delete=lock",
            "PUT /nodes/{node}/{type}/{vmid}/config?protection=0",
            "DELETE /nodes/{node}/{type}/{vmid}?purge=1",
            "DELETE /nodes/{node}/{type}/{vmid}?purge=1&skiplock=1",
        ],
    ),
    Trace::new(
        "/nodes/{node}/storage/{storage}/content",
        "volid",
        &["DELETE /nodes/{node}/storage/{storage}/content/{volid}"],
    ),
    Trace::new("/pools", "poolid", &["DELETE /pools?poolid={poolid}"]),
    Trace::new("/storage", "storage", &["DELETE /storage/{storage}"]),
    Trace::new(
        "/access/users",
        "userid",
        &["DELETE /access/users/{userid}"],
    ),
    Trace::new(
        "/access/groups",
        "groupid",
        &["DELETE /access/groups/{groupid}"],
    ),
    Trace::new(
        "/access/roles",
        "roleid",
        &["DELETE /access/roles/{roleid}"],
    ),
    Trace::new(
        "/access/domains",
        "realm",
        &["DELETE /access/domains/{realm}"],
    ),
    Trace::new(
        "/cluster/sdn/fabrics/fabric",
        "id",
        &["DELETE /cluster/sdn/fabrics/fabric/{id}"],
    )
    .with(
        "/cluster/sdn/fabrics/node/{id}",
        "DELETE /cluster/sdn/fabrics/node/{fabric_id}/{node_id}",
    ),
    Trace::new(
        "/cluster/sdn/vnets",
        "vnet",
        &["DELETE /cluster/sdn/vnets/{vnet}"],
    )
    .with(
        "/cluster/sdn/vnets/{vnet}/subnets",
        "DELETE /cluster/sdn/vnets/{vnet}/subnets/{subnet}",
    ),
    Trace::new(
        "/cluster/sdn/zones",
        "zone",
        &["DELETE /cluster/sdn/zones/{zone}"],
    ),
    Trace::new(
        "/cluster/sdn/controllers",
        "controller",
        &["DELETE /cluster/sdn/controllers/{controller}"],
    ),
    Trace::new(
        "/cluster/sdn/ipams",
        "ipam",
        &["DELETE /cluster/sdn/ipams/{ipam}"],
    ),
    Trace::new(
        "/cluster/sdn/prefix-lists",
        "id",
        &["DELETE /cluster/sdn/prefix-lists/{id}"],
    ),
    Trace::new(
        "/cluster/firewall/groups",
        "group",
        &["DELETE /cluster/firewall/groups/{group}"],
    )
    .with(
        "/cluster/firewall/groups/{group}",
        "DELETE /cluster/firewall/groups/{group}/0",
    ),
    Trace::new(
        "/cluster/firewall/ipset",
        "name",
        &["DELETE /cluster/firewall/ipset/{name}"],
    )
    .with(
        "/cluster/firewall/ipset/{name}",
        "DELETE /cluster/firewall/ipset/{name}/{cidr}",
    ),
    Trace::new(
        "/cluster/firewall/aliases",
        "name",
        &["DELETE /cluster/firewall/aliases/{name}"],
    ),
    Trace::new(
        "/cluster/mapping/dir",
        "id",
        &["DELETE /cluster/mapping/dir/{id}"],
    ),
    Trace::new(
        "/cluster/mapping/pci",
        "id",
        &["DELETE /cluster/mapping/pci/{id}"],
    ),
    Trace::new(
        "/cluster/mapping/usb",
        "id",
        &["DELETE /cluster/mapping/usb/{id}"],
    ),
    Trace::new(
        "/cluster/notifications/matchers",
        "name",
        &["DELETE /cluster/notifications/matchers/{name}"],
    ),
    Trace::new(
        "/cluster/notifications/targets",
        "name",
        &["DELETE /cluster/notifications/endpoints/{type}/{name}"],
    ),
    Trace::new(
        "/cluster/metrics/server",
        "id",
        &["DELETE /cluster/metrics/server/{id}"],
    ),
    Trace::new(
        "/cluster/acme/plugins",
        "plugin",
        &["DELETE /cluster/acme/plugins/{plugin}"],
    ),
    Trace::new(
        "/cluster/qemu/custom-cpu-models",
        "cputype",
        &["DELETE /cluster/qemu/custom-cpu-models/{cputype}"],
    ),
];

/// The endpoint of a call in a scenario.
#[must_use]
pub fn endpoint(call: &Call) -> Option<String> {
    let method = match call.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    };
    // A placeholder stands for one segment.
    proxmox_e2e::answer::find(method, &call.path.replace(['{', '}'], "_")).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_valid_and_name_endpoints() {
        let scenarios = scenarios().expect("calls.toml reads");
        assert!(scenarios.len() > 10);
        let mut names = BTreeSet::new();
        for scenario in &scenarios {
            assert!(
                names.insert(&scenario.name),
                "{} is there twice",
                scenario.name
            );
            for call in scenario
                .calls
                .iter()
                .chain(&scenario.undo)
                .chain(&scenario.before)
            {
                assert!(
                    endpoint(call).is_some() || scenario.name == "no-such-endpoint",
                    "{}: {call} belongs to no endpoint",
                    scenario.name
                );
            }
        }
    }

    #[test]
    fn cleanup_calls_name_endpoints() {
        for trace in TRACES {
            let lists = [trace.list]
                .into_iter()
                .chain(trace.below.map(|(list, _)| list));
            let lists = lists.map(|list| format!("GET {list}"));
            let removals = trace
                .remove
                .iter()
                .copied()
                .chain(trace.below.map(|(_, call)| call));
            let removals = removals.map(|call| call.replace("{type}", "qemu"));
            // The kind of a target is part of the path.
            let removals = removals.map(|call| call.replace("endpoints/qemu", "endpoints/smtp"));
            for text in lists.chain(removals) {
                let call: Call = text.parse().expect("a call");
                assert!(endpoint(&call).is_some(), "{text}");
            }
        }
    }

    #[test]
    fn no_refused_call_lacks_the_unknown_parameter() {
        let calls = refusals().expect("the facts read");
        assert!(calls.len() > 900, "{}", calls.len());
        for call in &calls {
            assert!(call.method != Method::Get);
            assert_eq!(
                call.params.last().map(|(name, _)| name.as_str()),
                Some(UNKNOWN_PARAMETER)
            );
        }
        for wire in REQUESTS.iter() {
            assert!(
                wire.parameters
                    .iter()
                    .all(|parameter| parameter.name != UNKNOWN_PARAMETER)
            );
        }
    }

    #[test]
    fn every_endpoint_is_called_or_excluded() {
        let mut called: BTreeSet<String> = readings().map(|path| format!("GET {path}")).collect();
        called.extend(
            refusals()
                .expect("the facts read")
                .iter()
                .filter_map(endpoint),
        );
        called.extend(
            scenarios()
                .expect("calls.toml reads")
                .iter()
                .flat_map(|scenario| &scenario.calls)
                .filter_map(endpoint),
        );
        called.extend(NOT_READ.iter().map(|path| format!("GET {path}")));
        let missing: Vec<&str> = REQUESTS
            .iter()
            .map(|wire| wire.endpoint)
            .filter(|endpoint| !called.contains(*endpoint))
            .collect();
        assert_eq!(missing, [""; 0]);
    }
}
