//! Calls with state.

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod answers;
pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod ceph;
pub(crate) mod certificates;
pub(crate) mod cloudinit;
pub(crate) mod cluster;
pub(crate) mod consoles;
pub(crate) mod disks;
pub(crate) mod graphs;
pub(crate) mod guests;
pub(crate) mod ha;
pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod notifications;
pub(crate) mod pools;
pub(crate) mod ports;
pub(crate) mod realms;
pub(crate) mod records;
pub(crate) mod remote;
pub(crate) mod rights;
pub(crate) mod rules;
pub(crate) mod sdn;
pub(crate) mod sections;
pub(crate) mod snapshots;
pub(crate) mod storage;
pub(crate) mod tasks;

use proxmox_codegen::facts::Method::{self, Delete, Get, Post, Put};
use serde_json::Value;

use crate::api_error::ApiResult;
use crate::calls::call::{Call, Reply};
use crate::console::Screen;
use crate::state::guest::Kind;

fn console_call(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let (place, last) = call.path.rsplit_once('/')?;
    let guest = match place {
        "/nodes/{node}/qemu/{vmid}" => Some(Kind::Qemu),
        "/nodes/{node}/lxc/{vmid}" => Some(Kind::Lxc),
        "/nodes/{node}" => None,
        "/access" if last == "vncticket" => return Some(consoles::check_ticket(call)),
        _ => return None,
    };
    Some(match (call.method, last) {
        (Method::Post, "vncproxy") => consoles::proxy(call, guest, "vncproxy", Screen::Display),
        (Method::Post, "vncshell") => consoles::proxy(call, guest, "vncshell", Screen::Display),
        // The tasks of nodes and guests have different names.
        (Method::Post, "termproxy") => {
            let task = if guest.is_some() {
                "vncproxy"
            } else {
                "vncshell"
            };
            consoles::proxy(call, guest, task, Screen::Terminal)
        }
        (Method::Get, "vncwebsocket") => consoles::connect(call, guest),
        (Method::Post, "spiceproxy" | "spiceshell") => consoles::spice(call, guest),
        (Method::Post, "mtunnel") => consoles::tunnel(call, guest?),
        (Method::Get, "mtunnelwebsocket") => consoles::enter_tunnel(call, guest?),
        _ => return None,
    })
}

/// Answers a call with state; `None` leaves it to the samples.
pub(crate) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    if let Err(error) = rights::check(call) {
        return Some(Err(error));
    }
    with_state(call).or_else(|| records::handle(call))
}

/// Removes from an answer what the caller may not see.
pub(crate) fn filter(call: &Call<'_>, data: &mut Value) {
    rights::filter(call, data);
}

type Handler = fn(&mut Call<'_>) -> ApiResult<Reply>;

/// Verbs, path and handler.
type Route = (&'static [Method], &'static str, Handler);

/// A handler that selects its calls itself.
type Part = fn(&mut Call<'_>) -> Option<ApiResult<Reply>>;

const ANY: &[Method] = &[Get, Put, Post, Delete];

/// Calls and their handlers, where one function answers one path.
const ROUTES: &[Route] = &[
    (&[Get], "/version", |call| cluster::version(call)),
    (&[Get], "/access/ticket", |_| Ok(Reply::data(Value::Null))),
    (&[Post], "/access/ticket", |call| access::login(call)),
    (&[Get], "/access/permissions", |call| {
        access::permissions(call)
    }),
    (&[Get], "/access/domains", |call| realms::list(call)),
    (&[Post], "/access/domains", |call| realms::create(call)),
    (&[Post], "/access/domains/{realm}/sync", |call| {
        realms::sync(call)
    }),
    (ANY, "/access/domains/{realm}", |call| realms::one(call)),
    (&[Put], "/access/password", |call| {
        access::change_password(call)
    }),
    (&[Get], "/access/users", |call| access::user_list(call)),
    (&[Post], "/access/users", |call| access::user_create(call)),
    (&[Get, Put, Delete], "/access/users/{userid}", |call| {
        access::user(call)
    }),
    (&[Get], "/access/users/{userid}/token", |call| {
        access::token_list(call)
    }),
    (ANY, "/access/users/{userid}/token/{tokenid}", |call| {
        access::token(call)
    }),
    (&[Get], "/access/groups", |call| access::group_list(call)),
    (&[Post], "/access/groups", |call| access::group_create(call)),
    (ANY, "/access/groups/{groupid}", |call| access::group(call)),
    (&[Get], "/access/roles", |call| access::role_list(call)),
    (&[Post], "/access/roles", |call| access::role_create(call)),
    (ANY, "/access/roles/{roleid}", |call| access::role(call)),
    (&[Get], "/access/acl", |call| access::rule_list(call)),
    (&[Put], "/access/acl", |call| access::rule_change(call)),
    (&[Get], "/pools", |call| pools::list(call)),
    (&[Post], "/pools", |call| pools::create(call)),
    (&[Put], "/pools", |call| pools::change(call)),
    (&[Delete], "/pools", |call| pools::delete(call)),
    (&[Get], "/pools/{poolid}", |call| pools::get(call)),
    (&[Put], "/pools/{poolid}", |call| pools::change(call)),
    (&[Delete], "/pools/{poolid}", |call| pools::delete(call)),
    (&[Get], "/cluster/nextid", |call| cluster::next_id(call)),
    (&[Get], "/cluster/metrics/export", |call| {
        cluster::export(call)
    }),
    (&[Get], "/cluster/resources", |call| {
        cluster::resources(call)
    }),
    (&[Get], "/cluster/status", |call| {
        cluster::cluster_status(call)
    }),
    (&[Get], "/cluster/tasks", |call| tasks::cluster_tasks(call)),
    (&[Get], "/nodes", |call| cluster::nodes(call)),
    (&[Get], "/nodes/{node}/status", |call| {
        cluster::node_status(call)
    }),
    (&[Get], "/cluster/sdn/ipams/{ipam}/status", |call| {
        sdn::addresses(call)
    }),
    (&[Get], "/nodes/{node}/rrd", |call| graphs::node(call)),
    (&[Get], "/nodes/{node}/rrddata", |call| {
        cluster::node_samples(call)
    }),
    (&[Get], "/nodes/{node}/version", |call| {
        cluster::version(call)
    }),
    (&[Get], "/nodes/{node}/tasks", |call| tasks::task_list(call)),
    (&[Get], "/nodes/{node}/tasks/{upid}/status", |call| {
        tasks::task(call).map(|task| Reply::data(task.status()))
    }),
    (&[Get], "/nodes/{node}/tasks/{upid}/log", |call| {
        tasks::task_log(call)
    }),
    (&[Delete], "/nodes/{node}/tasks/{upid}", |call| {
        tasks::task_stop(call)
    }),
    (&[Get], "/storage", |call| storage::storage_configs(call)),
    (&[Post], "/storage", |call| storage::storage_create(call)),
    (&[Get], "/storage/{storage}", |call| {
        storage::storage_config(call)
    }),
    (&[Put], "/storage/{storage}", |call| {
        storage::storage_change(call)
    }),
    (&[Delete], "/storage/{storage}", |call| {
        storage::storage_delete(call)
    }),
    (&[Get], "/nodes/{node}/storage", |call| {
        storage::storage_list(call)
    }),
    (&[Get], "/nodes/{node}/storage/{storage}/status", |call| {
        storage::storage_status(call)
    }),
    (&[Get], "/nodes/{node}/storage/{storage}/rrd", |call| {
        graphs::storage(call)
    }),
    (&[Get], "/nodes/{node}/storage/{storage}/rrddata", |call| {
        storage::storage_samples(call)
    }),
    (&[Get], "/nodes/{node}/storage/{storage}/content", |call| {
        storage::content(call)
    }),
    (&[Post], "/nodes/{node}/storage/{storage}/content", |call| {
        storage::allocate(call)
    }),
    (
        &[Get, Put, Delete],
        "/nodes/{node}/storage/{storage}/content/{volume}",
        |call| storage::volume(call),
    ),
    (
        &[Post],
        "/nodes/{node}/storage/{storage}/download-url",
        |call| storage::download(call),
    ),
    (&[Post], "/nodes/{node}/storage/{storage}/upload", |call| {
        storage::upload(call)
    }),
    (
        &[Post],
        "/nodes/{node}/storage/{storage}/oci-registry-pull",
        |call| storage::pull(call),
    ),
    (&[Get], "/nodes/{node}/query-oci-repo-tags", |call| {
        storage::tags(call)
    }),
    (&[Post], "/nodes/{node}/vzdump", |call| backup::start(call)),
    (&[Get], "/nodes/{node}/vzdump/extractconfig", |call| {
        backup::config(call)
    }),
    (
        &[Get],
        "/nodes/{node}/storage/{storage}/prunebackups",
        |call| backup::prune_preview(call),
    ),
    (
        &[Delete],
        "/nodes/{node}/storage/{storage}/prunebackups",
        |call| backup::prune(call),
    ),
    (&[Post], "/nodes/{node}/status", |call| host::power(call)),
    (&[Post], "/nodes/{node}/startall", |call| {
        crate::calls::guests::power::every_guest(call, "startall", "start")
    }),
    (&[Post], "/nodes/{node}/stopall", |call| {
        crate::calls::guests::power::every_guest(call, "stopall", "stop")
    }),
    (&[Post], "/nodes/{node}/suspendall", |call| {
        crate::calls::guests::power::every_guest(call, "suspendall", "suspend")
    }),
    (&[Post], "/nodes/{node}/migrateall", |call| {
        crate::calls::guests::power::every_guest(call, "migrateall", "migrate")
    }),
];

/// Handlers that select their calls themselves.
const PARTS: &[Part] = &[
    console_call,
    disks::handle,
    ceph::handle,
    host::handle,
    |call| cloudinit::handle(call),
    certificates::handle,
    |call| guest_call(call, Kind::Qemu),
    |call| guest_call(call, Kind::Lxc),
    bulk_action,
    storage_call,
];

/// Calls of a storage that are answered by a sample unless they are refused.
fn storage_call(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    match (call.method, call.path) {
        (Get, "/nodes/{node}/storage/{storage}/identity") => storage::identity(call),
        (
            Get,
            "/nodes/{node}/storage/{storage}/file-restore/download"
            | "/nodes/{node}/storage/{storage}/file-restore/list"
            | "/nodes/{node}/storage/{storage}/import-metadata",
        ) => storage::no_volume(call),
        _ => None,
    }
}

fn guest_call(call: &mut Call<'_>, kind: Kind) -> Option<ApiResult<Reply>> {
    let rest = call.path.strip_prefix(kind.create_path())?;
    guests::guests(call, kind, rest)
}

/// `POST /cluster/bulk-action/guest/{action}`
fn bulk_action(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let action = call.path.strip_prefix("/cluster/bulk-action/guest/")?;
    let action = action.rsplit('/').next().unwrap_or("").to_owned();
    let task = format!("bulk{action}");
    (call.method == Post).then(|| crate::calls::guests::power::every_guest(call, &task, &action))
}

fn with_state(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let fits = |(methods, path, _): &&Route| *path == call.path && methods.contains(&call.method);
    match ROUTES.iter().find(fits) {
        Some((.., handler)) => Some(handler(call)),
        None => PARTS.iter().find_map(|part| part(call)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::params::Param;
    use crate::params::Params;
    use crate::schema::{ApiSchema, is_task};
    use crate::state::access::Identity;
    use crate::state::cluster::Cluster;
    use crate::state::cluster::Node;
    use crate::state::config::Config;
    use crate::state::guest::Guest;
    use std::collections::BTreeMap;

    /// A cluster with one node, one virtual machine and one container.
    fn cluster(schema: &Arc<ApiSchema>) -> Cluster {
        let now = Duration::from_secs(1_800_000_000);
        let mut cluster = Cluster::new(Arc::clone(schema), now, 0.0, 1);
        cluster.nodes.push(Node {
            name: "pve1".into(),
            online: true,
            cores: 4,
            memory: 1 << 34,
            booted: now,
        });
        cluster.configure_basics();
        disks::inventory(&mut cluster);
        for (vmid, kind) in [(100, Kind::Qemu), (101, Kind::Lxc)] {
            let mut guest = Guest::new(kind, "pve1", Config::new());
            guest.started = Some(now);
            cluster.guests.insert(vmid, guest);
        }
        cluster
    }

    /// The calls of the newest release without state: writes to them cannot be read back.
    #[test]
    fn the_list_of_calls_without_state_is_complete() {
        let schema =
            Arc::new(ApiSchema::load(crate::schema::newest_release()).expect("the newest release"));
        let mut requests = crate::sample::minimal_requests(crate::schema::newest_release())
            .expect("the newest release");
        // Writes come first, because they decide what reads return.
        requests.sort_by_key(|request| (request.method == "GET", request.method == "DELETE"));
        let mut cluster = cluster(&schema);
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut shapes = BTreeSet::new();
        for request in &requests {
            let method: Method = request.method.parse().expect("a verb");
            let mut params: Params = request
                .params
                .iter()
                .map(|(key, value)| (key.clone(), Param::Text(value.clone())))
                .collect();
            let names = request.template.split('/').zip(request.path.split('/'));
            for (name, value) in names {
                if let Some(name) = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
                    let lxc = request.template.starts_with("/nodes/{node}/lxc/{vmid}");
                    let value = match name {
                        "vmid" if lxc => "101".into(),
                        _ => percent_encoding::percent_decode_str(value).decode_utf8_lossy(),
                    };
                    params.insert(name.to_owned(), Param::Text(value.into_owned()));
                }
            }
            let endpoint = schema.endpoint(method, &request.template).expect("known");
            let mut call = Call {
                cluster: &mut cluster,
                method,
                path: &request.template,
                endpoint,
                params,
                upload: None,
                caller: Identity {
                    user: "root@pam".into(),
                    token: None,
                },
            };
            let has_state = handle(&mut call).is_some();
            let kind = match (has_state, method) {
                (true, Method::Get) => "reads from state",
                (true, _) => "writes with effect",
                (false, Method::Get) => "reads in shape only",
                (false, _) if is_task(method, &request.template, endpoint) => {
                    "tasks without effect"
                }
                (false, _) => "writes without effect",
            };
            *counts.entry(kind).or_default() += 1;
            if !has_state && method != Method::Get {
                shapes.insert(format!("{method} {}", request.template));
            }
        }
        for call in &shapes {
            println!("without effect: {call}");
        }
        for (kind, row) in [
            ("reads from state", "reads from the state"),
            ("reads in shape only", "reads in the right shape"),
            (
                "writes with effect",
                "writes with an effect that can be read back",
            ),
            (
                "writes without effect",
                "writes that are checked and change nothing",
            ),
            ("tasks without effect", "tasks that run and change nothing"),
        ] {
            let count = counts.get(kind).copied().unwrap_or_default();
            let row = format!("| {row} | {count} |");
            let document = include_str!("../../../../docs/simulator.md");
            assert!(
                document.contains(&row),
                "docs/simulator.md has to say: {row}"
            );
        }
    }
}
