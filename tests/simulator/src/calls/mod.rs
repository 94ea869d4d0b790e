//! The calls with state behind them.

mod access;
mod agent;
mod backup;
mod ceph;
mod certificates;
mod cloudinit;
mod cluster;
mod consoles;
pub(crate) mod disks;
mod guests;
mod ha;
mod host;
mod network;
mod notified;
mod pools;
mod ports;
mod realms;
pub(crate) mod records;
pub(crate) mod remote;
mod rights;
mod rules;
mod sdn;
mod sections;
mod shown;
mod snapshots;
mod storage;
mod tasks;

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Endpoint, Method};
use serde_json::Value;

use crate::access::Identity;
use crate::console::{Console, Screen};
use crate::error::{ApiError, ApiResult};
use crate::guest::Kind;
use crate::params::{Param, Params};
use crate::upload::Received;
use crate::world::{Effect, Plan, World};

/// A checked call on its way to its handler.
pub(crate) struct Call<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) method: Method,
    /// The endpoint's path template.
    pub(crate) path: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) params: Params,
    /// The file that came with it.
    pub(crate) upload: Option<Received>,
    pub(crate) who: Identity,
}

/// What a call answers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) data: Value,
    pub(crate) total: Option<u64>,
    /// What would change, beside the data.
    pub(crate) changes: Option<String>,
    /// Name and text of a download.
    pub(crate) file: Option<(String, String)>,
    /// What an upgrade of the connection leads to.
    pub(crate) console: Option<Console>,
}

impl Reply {
    pub(crate) fn data(data: impl Into<Value>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }
}

impl Call<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Param::text)
    }

    fn owned(&self, name: &str) -> String {
        self.text(name).unwrap_or("").to_owned()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)
            .and_then(|text| text.strip_prefix('+').unwrap_or(text).parse().ok())
    }

    fn vmid(&self, name: &str) -> u32 {
        self.number(name)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0)
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// Text parameters, which answers may repeat.
    pub(crate) fn known(&self) -> BTreeMap<String, String> {
        texts(&self.params)
    }

    fn may(&self, path: &str, privilege: &str) -> bool {
        self.who.is_root() || self.world.privileges(&self.who, path).contains(privilege)
    }

    fn start(
        &mut self,
        kind: &str,
        id: impl ToString,
        seconds: f64,
        lines: Vec<String>,
        effect: Effect,
    ) -> Reply {
        let node = match self.text("node") {
            Some(node) => node.to_owned(),
            None => self
                .world
                .nodes
                .first()
                .map(|n| n.name.clone())
                .unwrap_or_default(),
        };
        let who = self.who.clone();
        Reply::data(self.world.start(Plan {
            node: &node,
            kind,
            id: id.to_string(),
            who: &who,
            seconds,
            lines,
            effect,
        }))
    }

    /// A task that ends at once with an error.
    fn fail(&mut self, kind: &str, id: impl ToString, error: String) -> Reply {
        self.start(kind, id, 0.1, Vec::new(), Effect::Fail(error))
    }

    /// An option that only root@pam itself may use.
    fn root_only(&self, option: &str) -> ApiResult<()> {
        if self.flag(option) && !self.who.is_root() {
            return Err(ApiError::parameter(
                option,
                "Only root may use this option.",
            ));
        }
        Ok(())
    }
}

/// The parameters that are one text each.
pub(crate) fn texts(params: &Params) -> BTreeMap<String, String> {
    params
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
        .collect()
}

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
        // Of a node and of a guest the task has another name.
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

/// Answers the call if it is one with state; `None` leaves it to the schema.
pub(crate) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    if let Err(error) = rights::check(call) {
        return Some(Err(error));
    }
    with_state(call).or_else(|| records::handle(call))
}

/// Leaves out of an answer what the caller may not see.
pub(crate) fn filter(call: &Call<'_>, data: &mut Value) {
    rights::filter(call, data);
}

pub(crate) use self::rights::modifiers;

fn with_state(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    if let Some(answer) = console_call(call) {
        return Some(answer);
    }
    let more = disks::handle(call)
        .or_else(|| ceph::handle(call))
        .or_else(|| host::handle(call))
        .or_else(|| cloudinit::handle(call));
    if let Some(answer) = more.or_else(|| certificates::handle(call)) {
        return Some(answer);
    }
    for kind in [Kind::Qemu, Kind::Lxc] {
        if let Some(rest) = call.path.strip_prefix(kind.create_path()) {
            return guests::guests(call, kind, rest);
        }
    }
    Some(match (call.method, call.path) {
        (Get, "/version") => cluster::version(call),
        (Get, "/access/ticket") => Ok(Reply::data(Value::Null)),
        (Post, "/access/ticket") => access::login(call),
        (Get, "/access/permissions") => access::permissions(call),
        (Get, "/access/domains") => realms::list(call),
        (Post, "/access/domains") => realms::create(call),
        (Post, "/access/domains/{realm}/sync") => realms::sync(call),
        (_, "/access/domains/{realm}") => realms::one(call),
        (Put, "/access/password") => access::change_password(call),
        (Get, "/access/users") => access::user_list(call),
        (Post, "/access/users") => access::user_create(call),
        (Get | Put | Delete, "/access/users/{userid}") => access::user(call),
        (Get, "/access/users/{userid}/token") => access::token_list(call),
        (_, "/access/users/{userid}/token/{tokenid}") => access::token(call),
        (Get, "/access/groups") => access::group_list(call),
        (Post, "/access/groups") => access::group_create(call),
        (_, "/access/groups/{groupid}") => access::group(call),
        (Get, "/access/roles") => access::role_list(call),
        (Post, "/access/roles") => access::role_create(call),
        (_, "/access/roles/{roleid}") => access::role(call),
        (Get, "/access/acl") => access::rule_list(call),
        (Put, "/access/acl") => access::rule_change(call),
        (Get, "/pools") => pools::list(call),
        (Post, "/pools") => pools::create(call),
        (Put, "/pools") => pools::change(call),
        (Delete, "/pools") => pools::delete(call),
        (Get, "/pools/{poolid}") => pools::get(call),
        (Put, "/pools/{poolid}") => pools::change(call),
        (Delete, "/pools/{poolid}") => pools::delete(call),
        (Get, "/cluster/nextid") => cluster::next_id(call),
        (Get, "/cluster/resources") => cluster::resources(call),
        (Get, "/cluster/status") => cluster::cluster_status(call),
        (Get, "/cluster/tasks") => tasks::cluster_tasks(call),
        (Get, "/nodes") => cluster::nodes(call),
        (Get, "/nodes/{node}/status") => cluster::node_status(call),
        (Get, "/nodes/{node}/rrddata") => cluster::node_samples(call),
        (Get, "/nodes/{node}/version") => cluster::version(call),
        (Get, "/nodes/{node}/tasks") => tasks::task_list(call),
        (Get, "/nodes/{node}/tasks/{upid}/status") => {
            tasks::task(call).map(|task| Reply::data(task.status()))
        }
        (Get, "/nodes/{node}/tasks/{upid}/log") => tasks::task_log(call),
        (Delete, "/nodes/{node}/tasks/{upid}") => tasks::task_stop(call),
        (Get, "/storage") => storage::storage_configs(call),
        (Post, "/storage") => storage::storage_create(call),
        (Get, "/storage/{storage}") => storage::storage_config(call),
        (Put, "/storage/{storage}") => storage::storage_change(call),
        (Delete, "/storage/{storage}") => storage::storage_delete(call),
        (Get, "/nodes/{node}/storage") => storage::storage_list(call),
        (Get, "/nodes/{node}/storage/{storage}/status") => storage::storage_status(call),
        (Get, "/nodes/{node}/storage/{storage}/identity") => return storage::identity(call),
        (
            Get,
            "/nodes/{node}/storage/{storage}/file-restore/download"
            | "/nodes/{node}/storage/{storage}/file-restore/list"
            | "/nodes/{node}/storage/{storage}/import-metadata",
        ) => return storage::no_volume(call),
        (Get, "/nodes/{node}/storage/{storage}/rrddata") => storage::storage_samples(call),
        (Get, "/nodes/{node}/storage/{storage}/content") => storage::content(call),
        (Post, "/nodes/{node}/storage/{storage}/content") => storage::allocate(call),
        (Get | Put | Delete, "/nodes/{node}/storage/{storage}/content/{volume}") => {
            storage::volume(call)
        }
        (Post, "/nodes/{node}/storage/{storage}/download-url") => storage::download(call),
        (Post, "/nodes/{node}/storage/{storage}/upload") => storage::upload(call),
        (Post, "/nodes/{node}/storage/{storage}/oci-registry-pull") => storage::pull(call),
        (Get, "/nodes/{node}/query-oci-repo-tags") => storage::tags(call),
        (Post, "/nodes/{node}/vzdump") => backup::start(call),
        (Get, "/nodes/{node}/vzdump/extractconfig") => backup::config(call),
        (Get, "/nodes/{node}/storage/{storage}/prunebackups") => backup::prune_preview(call),
        (Delete, "/nodes/{node}/storage/{storage}/prunebackups") => backup::prune(call),
        (Post, "/nodes/{node}/status") => host::power(call),
        (Post, "/nodes/{node}/startall") => guests::every_guest(call, "startall", "start"),
        (Post, "/nodes/{node}/stopall") => guests::every_guest(call, "stopall", "stop"),
        (Post, "/nodes/{node}/suspendall") => guests::every_guest(call, "suspendall", "suspend"),
        (Post, "/nodes/{node}/migrateall") => guests::every_guest(call, "migrateall", "migrate"),
        (Post, path) if path.starts_with("/cluster/bulk-action/guest/") => {
            let action = path.rsplit('/').next().unwrap_or("").to_owned();
            guests::every_guest(call, &format!("bulk{action}"), &action)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::guest::{Config, Guest};
    use crate::schema::{ApiSchema, is_task};
    use crate::world::Node;

    /// A cluster of one node, one machine and one container.
    fn world(schema: &Arc<ApiSchema>) -> World {
        let now = Duration::from_secs(1_800_000_000);
        let mut world = World::new(Arc::clone(schema), now, 0.0, 1);
        world.nodes.push(Node {
            name: "pve1".into(),
            online: true,
            cores: 4,
            memory: 1 << 34,
            booted: now,
        });
        world.configure_basics();
        disks::inventory(&mut world);
        for (vmid, kind) in [(100, Kind::Qemu), (101, Kind::Lxc)] {
            let mut guest = Guest::new(kind, "pve1", Config::new());
            guest.started = Some(now);
            world.guests.insert(vmid, guest);
        }
        world
    }

    /// The calls of the newest release that only answer in the right shape, so that what is written is not read back.
    #[test]
    fn which_calls_have_state_behind_them() {
        let schema =
            Arc::new(ApiSchema::load(crate::newest_release()).expect("the newest release"));
        let mut requests =
            crate::minimal_requests(crate::newest_release()).expect("the newest release");
        // What is written decides what is read.
        requests.sort_by_key(|request| (request.method == "GET", request.method == "DELETE"));
        let mut world = world(&schema);
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
                world: &mut world,
                method,
                path: &request.template,
                endpoint,
                params,
                upload: None,
                who: Identity {
                    user: "root@pam".into(),
                    token: None,
                },
            };
            let held = handle(&mut call).is_some();
            let kind = match (held, method) {
                (true, Method::Get) => "reads from state",
                (true, _) => "writes with effect",
                (false, Method::Get) => "reads in shape only",
                (false, _) if is_task(method, &request.template, endpoint) => {
                    "tasks without effect"
                }
                (false, _) => "writes without effect",
            };
            *counts.entry(kind).or_default() += 1;
            if !held && method != Method::Get {
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
