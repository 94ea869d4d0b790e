//! The calls with state behind them.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Endpoint, Method};
use serde_json::{Map, Value, json};

use crate::access::{Identity, Login, Token, User, capabilities};
use crate::clock::iso_date;
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::guest::{Change, Config, Guest, GuestEffect, Kind, check_lock, volume_of};
use crate::params::{Param, Params};
use crate::sample::mix;
use crate::tasks::{Task, is_upid};
use crate::world::{Effect, GIB, Plan, Storage, Volume, World};

/// A checked call on its way to its handler.
pub(crate) struct Call<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) method: Method,
    /// The endpoint's path template.
    pub(crate) path: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) params: Params,
    pub(crate) who: Identity,
}

/// What a call answers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) data: Value,
    pub(crate) total: Option<u64>,
    /// Name and text of a download.
    pub(crate) file: Option<(String, String)>,
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
        self.params
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
            .collect()
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

/// Answers the call if it is one with state; `None` leaves it to the schema.
pub(crate) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    for kind in [Kind::Qemu, Kind::Lxc] {
        if let Some(rest) = call.path.strip_prefix(kind.create_path()) {
            return guests(call, kind, rest);
        }
    }
    Some(match (call.method, call.path) {
        (Get, "/version") => version(call),
        (Get, "/access/ticket") => Ok(Reply::data(Value::Null)),
        (Post, "/access/ticket") => login(call),
        (Get, "/access/permissions") => permissions(call),
        (Get, "/access/domains") => domains(),
        (Put, "/access/password") => change_password(call),
        (Get, "/access/users") => user_list(call),
        (Post, "/access/users") => user_create(call),
        (Get | Put | Delete, "/access/users/{userid}") => user(call),
        (Get, "/access/users/{userid}/token") => token_list(call),
        (_, "/access/users/{userid}/token/{tokenid}") => token(call),
        (Get, "/cluster/nextid") => next_id(call),
        (Get, "/cluster/resources") => resources(call),
        (Get, "/cluster/status") => cluster_status(call),
        (Get, "/cluster/tasks") => cluster_tasks(call),
        (Get, "/nodes") => nodes(call),
        (Get, "/nodes/{node}/status") => node_status(call),
        (Get, "/nodes/{node}/version") => version(call),
        (Get, "/nodes/{node}/tasks") => task_list(call),
        (Get, "/nodes/{node}/tasks/{upid}/status") => {
            task(call).map(|task| Reply::data(task.status()))
        }
        (Get, "/nodes/{node}/tasks/{upid}/log") => task_log(call),
        (Delete, "/nodes/{node}/tasks/{upid}") => task_stop(call),
        (Get, "/storage") => storage_configs(call),
        (Get, "/storage/{storage}") => storage_config(call),
        (Get, "/nodes/{node}/storage") => storage_list(call),
        (Get, "/nodes/{node}/storage/{storage}/status") => storage_status(call),
        (Get, "/nodes/{node}/storage/{storage}/content") => content(call),
        (Post, "/nodes/{node}/storage/{storage}/content") => allocate(call),
        (Get | Put | Delete, "/nodes/{node}/storage/{storage}/content/{volume}") => volume(call),
        (Post, "/nodes/{node}/storage/{storage}/download-url") => download(call),
        (Post, "/nodes/{node}/vzdump") => backup(call),
        (Post, "/nodes/{node}/startall") => every_guest(call, "startall", "start"),
        (Post, "/nodes/{node}/stopall") => every_guest(call, "stopall", "stop"),
        (Post, "/nodes/{node}/suspendall") => every_guest(call, "suspendall", "suspend"),
        _ => return None,
    })
}

fn version(call: &Call<'_>) -> ApiResult<Reply> {
    let release = call.world.schema.release();
    Ok(Reply::data(json!({
        "release": release.to_string(),
        "version": format!("{release}.{}", 1 + mix(&release.to_string(), 3) % 9),
        "repoid": format!("{:016x}", mix(&release.to_string(), 4)),
    })))
}

// ---- access ----

fn login(call: &mut Call<'_>) -> ApiResult<Reply> {
    let mut user = call.owned("username");
    if !user.contains('@') {
        user = format!("{user}@{}", call.text("realm").unwrap_or("pam"));
    }
    let refused = || ApiError::raise(401, "authentication failure");
    let now = call.world.now;
    let access = &call.world.access;
    let password = call.owned("password");
    let login = match call.text("tfa-challenge") {
        Some(challenge) if access.second_factor(&user, challenge, &password, now) => Login::Ok,
        Some(_) => Login::Refused,
        None => access.login(&user, &password, now),
    };
    let mut answer = json!({
        "username": user,
        "CSRFPreventionToken": access.csrf(&user, now),
        "clustername": call.world.cluster,
    });
    match login {
        Login::Refused => return Err(refused()),
        Login::Ok => {
            answer["ticket"] = json!(access.ticket(&user, now));
            answer["cap"] = capabilities();
        }
        Login::NeedsSecondFactor => {
            answer["ticket"] = json!(access.challenge(&user, now));
            answer["NeedTFA"] = json!(1);
        }
    }
    Ok(Reply::data(answer))
}

fn permissions(call: &Call<'_>) -> ApiResult<Reply> {
    let path = call.text("path").unwrap_or("/");
    let mut all = Map::new();
    for privileges in capabilities()
        .as_object()
        .into_iter()
        .flat_map(|areas| areas.values())
    {
        for privilege in privileges.as_object().into_iter().flat_map(Map::keys) {
            all.insert(privilege.clone(), json!(1));
        }
    }
    Ok(Reply::data(json!({ path: all })))
}

fn domains() -> ApiResult<Reply> {
    Ok(Reply::data(json!([
        { "realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication" },
        { "realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server", "default": 1 },
    ])))
}

fn find_user<'a>(world: &'a mut World, userid: &str) -> ApiResult<&'a mut User> {
    world
        .access
        .users
        .get_mut(userid)
        .ok_or_else(|| ApiError::die(format!("no such user ('{userid}')")))
}

fn change_password(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, password) = (call.owned("userid"), call.owned("password"));
    find_user(call.world, &userid)?.password = password;
    Ok(Reply::data(Value::Null))
}

fn user_json(user: &User) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("enable".into(), json!(u8::from(user.enabled)));
    row.insert("expire".into(), json!(0));
    for (key, value) in &user.settings {
        let value = value
            .parse::<u64>()
            .map_or_else(|_| json!(value), |number| json!(number));
        row.insert(key.clone(), value);
    }
    row
}

fn token_json(token: &Token) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("expire".into(), json!(token.expire));
    row.insert("privsep".into(), json!(u8::from(token.privsep)));
    if let Some(comment) = &token.comment {
        row.insert("comment".into(), json!(comment));
    }
    row
}

fn user_list(call: &Call<'_>) -> ApiResult<Reply> {
    let full = call.flag("full");
    let rows = call.world.access.users.iter().map(|(userid, user)| {
        let mut row = user_json(user);
        row.insert("userid".into(), json!(userid));
        row.insert("realm-type".into(), json!(userid.rsplit('@').next()));
        if full {
            row.insert("groups".into(), json!(""));
            let tokens: Vec<Value> = user
                .tokens
                .iter()
                .map(|(id, token)| {
                    let mut row = token_json(token);
                    row.insert("tokenid".into(), json!(id));
                    Value::Object(row)
                })
                .collect();
            row.insert(
                "tokens".into(),
                if tokens.is_empty() {
                    Value::Null
                } else {
                    json!(tokens)
                },
            );
        }
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn apply_user(call: &Call<'_>, user: &mut User) {
    if let Some(enable) = call.text("enable") {
        user.enabled = enable == "1";
    }
    for key in [
        "comment",
        "email",
        "expire",
        "firstname",
        "lastname",
        "keys",
    ] {
        if let Some(value) = call.text(key) {
            user.settings.insert(key.into(), value.to_owned());
        }
    }
}

fn user_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    if call.world.access.users.contains_key(&userid) {
        return Err(ApiError::die(format!(
            "create user failed: user '{userid}' already exists"
        )));
    }
    let mut user = User {
        password: call.owned("password"),
        enabled: true,
        ..User::default()
    };
    apply_user(call, &mut user);
    call.world.access.users.insert(userid, user);
    Ok(Reply::data(Value::Null))
}

fn user(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let mut user = find_user(call.world, &userid)?.clone();
    match call.method {
        Method::Get => {
            let mut row = user_json(&user);
            let tokens: Map<String, Value> = user
                .tokens
                .iter()
                .map(|(id, token)| (id.clone(), Value::Object(token_json(token))))
                .collect();
            row.insert(
                "tokens".into(),
                if tokens.is_empty() {
                    Value::Null
                } else {
                    json!(tokens)
                },
            );
            row.insert("groups".into(), json!([]));
            return Ok(Reply::data(row));
        }
        Method::Delete => {
            call.world.access.users.remove(&userid);
        }
        _ => {
            apply_user(call, &mut user);
            call.world.access.users.insert(userid, user);
        }
    }
    Ok(Reply::data(Value::Null))
}

fn token_list(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let user = find_user(call.world, &userid)?;
    let rows = user.tokens.iter().map(|(id, token)| {
        let mut row = token_json(token);
        row.insert("tokenid".into(), json!(id));
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn token(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, id) = (call.owned("userid"), call.owned("tokenid"));
    let secret = call.world.uuid();
    let (comment, privsep, expire) = (
        call.text("comment").map(str::to_owned),
        call.text("privsep").map(str::to_owned),
        call.number("expire"),
    );
    let method = call.method;
    let user = find_user(call.world, &userid)?;
    if method == Method::Post {
        if user.tokens.contains_key(&id) {
            return Err(ApiError::parameter("tokenid", "Token already exists."));
        }
        let token = Token {
            secret: secret.clone(),
            expire: expire.unwrap_or(0),
            privsep: privsep.as_deref() != Some("0"),
            comment,
        };
        let mut info = token_json(&token);
        // The value just given comes back as the text it was.
        info.insert("privsep".into(), json!(privsep.as_deref().unwrap_or("1")));
        info.remove("expire");
        user.tokens.insert(id.clone(), token);
        return Ok(Reply::data(json!({
            "full-tokenid": format!("{userid}!{id}"),
            "value": secret,
            "info": info,
        })));
    }
    let Some(token) = user.tokens.get_mut(&id) else {
        return Err(ApiError::die(format!(
            "no such token '{id}' for user '{userid}'"
        )));
    };
    match method {
        Method::Delete => {
            user.tokens.remove(&id);
            Ok(Reply::data(Value::Null))
        }
        Method::Put => {
            token.comment = comment.or(token.comment.take());
            token.expire = expire.unwrap_or(token.expire);
            token.privsep = privsep.map_or(token.privsep, |text| text == "1");
            Ok(Reply::data(token_json(token)))
        }
        _ => Ok(Reply::data(token_json(token))),
    }
}

// ---- cluster and nodes ----

fn next_id(call: &Call<'_>) -> ApiResult<Reply> {
    if call.text("vmid").is_some() {
        let vmid = call.vmid("vmid");
        if call.world.guests.contains_key(&vmid) {
            return Err(ApiError::parameter(
                "vmid",
                format!("VM {vmid} already exists"),
            ));
        }
        return Ok(Reply::data(vmid.to_string()));
    }
    Ok(Reply::data(call.world.free_vmid(100).to_string()))
}

fn node_row(world: &World, name: &str) -> Map<String, Value> {
    let mut row = Map::new();
    let Some(node) = world.node(name) else {
        return row;
    };
    row.insert("node".into(), json!(node.name));
    row.insert("id".into(), json!(format!("node/{}", node.name)));
    row.insert("type".into(), json!("node"));
    if !node.online {
        row.insert("status".into(), json!("offline"));
        return row;
    }
    let used: u64 = world
        .guests
        .values()
        .filter(|guest| guest.node == name && guest.running())
        .map(Guest::memory)
        .sum();
    let disk = world.storages.get("local").map_or(100 * GIB, |s| s.total);
    row.extend(
        [
            ("status", json!("online")),
            ("level", json!("")),
            ("cpu", json!(0.0625)),
            ("maxcpu", json!(node.cores)),
            ("mem", json!(2 * GIB + used.min(node.memory - 2 * GIB))),
            ("maxmem", json!(node.memory)),
            ("disk", json!(8 * GIB)),
            ("maxdisk", json!(disk)),
            (
                "uptime",
                json!(world.now.saturating_sub(node.booted).as_secs()),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    row
}

fn nodes(call: &Call<'_>) -> ApiResult<Reply> {
    let names: Vec<String> = call
        .world
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .collect();
    let rows = names
        .iter()
        .map(|name| Value::Object(node_row(call.world, name)));
    Ok(Reply::data(rows.collect::<Value>()))
}

fn node_status(call: &Call<'_>) -> ApiResult<Reply> {
    let name = call.owned("node");
    let row = node_row(call.world, &name);
    let of = |key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (mem, maxmem, disk, maxdisk) = (of("mem"), of("maxmem"), of("disk"), of("maxdisk"));
    let release = call.world.schema.release();
    let kernel = match release.major {
        7 => "5.15.102-1-pve",
        8 => "6.8.12-9-pve",
        _ => "6.17.2-1-pve",
    };
    Ok(Reply::data(json!({
        "uptime": of("uptime"),
        "cpu": 0.0625,
        "wait": 0,
        "idle": 0,
        "loadavg": ["0.42", "0.37", "0.31"],
        "kversion": format!("Linux {kernel} #1 SMP PREEMPT_DYNAMIC"),
        "current-kernel": {
            "sysname": "Linux", "release": kernel, "version": "#1 SMP PREEMPT_DYNAMIC", "machine": "x86_64",
        },
        "pveversion": format!("pve-manager/{release}.1/{:016x}", mix(&release.to_string(), 4)),
        "boot-info": { "mode": "efi", "secureboot": 0 },
        "cpuinfo": {
            "cpus": of("maxcpu"), "cores": of("maxcpu") / 2, "sockets": 1, "model": "Simulated CPU",
            "mhz": "3000.000", "hvm": "1", "user_hz": 100, "flags": "fpu vme de pse tsc msr",
        },
        "memory": { "total": maxmem, "used": mem, "free": maxmem - mem, "available": maxmem - mem },
        "swap": { "total": 0, "used": 0, "free": 0 },
        "rootfs": { "total": maxdisk, "used": disk, "free": maxdisk - disk, "avail": maxdisk - disk },
        "ksm": { "shared": 0 },
    })))
}

fn cluster_status(call: &Call<'_>) -> ApiResult<Reply> {
    let world = &call.world;
    let mut rows = vec![json!({
        "type": "cluster", "id": "cluster", "name": world.cluster, "nodes": world.nodes.len(), "quorate": 1,
        "version": world.nodes.len(),
    })];
    for (node, id) in world.nodes.iter().zip(1..) {
        rows.push(json!({
            "type": "node", "id": format!("node/{}", node.name), "name": node.name, "nodeid": id,
            "ip": format!("192.0.2.{id}"), "online": u8::from(node.online), "local": u8::from(id == 1), "level": "",
        }));
    }
    Ok(Reply::data(rows))
}

fn resources(call: &Call<'_>) -> ApiResult<Reply> {
    let world = &call.world;
    let wanted = call.text("type");
    let show = |kind| wanted.is_none_or(|wanted| wanted == kind);
    let mut rows = Vec::new();
    if show("vm") {
        for (vmid, guest) in &world.guests {
            let mut row = world.guest_json(*vmid, guest);
            let cpus = row.remove("cpus").unwrap_or_default();
            row.insert("maxcpu".into(), cpus);
            row.insert("id".into(), json!(format!("{}/{vmid}", guest.kind.api())));
            row.insert("type".into(), json!(guest.kind.api()));
            row.insert("node".into(), json!(guest.node));
            row.insert("template".into(), json!(u8::from(guest.template())));
            if let Some(pool) = &guest.pool {
                row.insert("pool".into(), json!(pool));
            }
            rows.push(Value::Object(row));
        }
    }
    if show("node") {
        for node in &world.nodes {
            rows.push(Value::Object(node_row(world, &node.name)));
        }
    }
    if show("storage") {
        for node in &world.nodes {
            for (id, storage) in &world.storages {
                rows.push(json!({
                    "id": format!("storage/{}/{id}", node.name), "type": "storage", "storage": id, "node": node.name,
                    "status": "available", "plugintype": storage.kind, "content": storage.content.join(","),
                    "shared": u8::from(storage.shared), "maxdisk": storage.total, "disk": world.used(&node.name, id),
                }));
            }
        }
    }
    if show("sdn") {
        for node in &world.nodes {
            rows.push(json!({
                "id": format!("sdn/{}/localnetwork", node.name), "type": "sdn", "sdn": "localnetwork",
                "node": node.name, "status": "ok",
            }));
        }
    }
    Ok(Reply::data(rows))
}

// ---- tasks ----

fn cluster_tasks(call: &Call<'_>) -> ApiResult<Reply> {
    let rows = call.world.tasks.iter().rev().take(25).map(|task| {
        let mut row = task.row();
        if let Some(row) = row.as_object_mut() {
            row.remove("pid");
            row.remove("pstart");
            if task.running() {
                row.remove("status");
            } else {
                row.insert("saved".into(), json!("1"));
            }
        }
        row
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn task_list(call: &Call<'_>) -> ApiResult<Reply> {
    let source = call.text("source").unwrap_or("archive");
    let node = call.owned("node");
    let verdicts: Vec<&str> = call
        .text("statusfilter")
        .map(|text| split_list(text).collect())
        .unwrap_or_default();
    let (since, until) = (call.number("since"), call.number("until"));
    let mut found: Vec<&Task> = call
        .world
        .tasks
        .iter()
        .rev()
        .filter(|task| task.node == node)
        .filter(|task| match source {
            "active" => task.running(),
            "all" => true,
            _ => !task.running(),
        })
        .filter(|task| call.text("vmid").is_none_or(|id| task.id == id))
        .filter(|task| call.text("typefilter").is_none_or(|kind| task.kind == kind))
        .filter(|task| {
            call.text("userfilter")
                .is_none_or(|user| task.who.full().contains(user))
        })
        .filter(|task| !call.flag("errors") || !matches!(task.verdict(), "ok"))
        .filter(|task| verdicts.is_empty() || verdicts.contains(&task.verdict()))
        .filter(|task| since.is_none_or(|since| task.start.as_secs() >= since))
        .filter(|task| until.is_none_or(|until| task.start.as_secs() <= until))
        .collect();
    let total = u64::try_from(found.len()).ok();
    let start = usize::try_from(call.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(call.number("limit").unwrap_or(50)).unwrap_or(usize::MAX);
    found.drain(..start.min(found.len()));
    found.truncate(limit);
    Ok(Reply {
        total,
        ..Reply::data(found.iter().map(|task| task.row()).collect::<Value>())
    })
}

fn task<'a>(call: &'a Call<'_>) -> ApiResult<&'a Task> {
    let upid = call.text("upid").unwrap_or("");
    if !is_upid(upid) {
        return Err(ApiError::parameter("upid", "unable to parse worker upid"));
    }
    call.world
        .task(upid)
        .ok_or_else(|| ApiError::parameter("upid", "no such task"))
}

fn task_log(call: &Call<'_>) -> ApiResult<Reply> {
    let upid = call.text("upid").unwrap_or("");
    if !is_upid(upid) {
        return Err(ApiError::parameter("upid", "unable to parse worker upid"));
    }
    let lines: Vec<&str> = match call.world.task(upid) {
        None => vec!["unable to open file - No such file or directory"],
        Some(task) => task.log(call.world.now),
    };
    if call.flag("download") {
        let name = call.world.task(upid).map_or_else(
            || "task.log".to_owned(),
            |task| {
                format!(
                    "task-{}-{}-{}.log",
                    task.node,
                    task.kind,
                    iso_date(task.start.as_secs())
                )
            },
        );
        let text = lines.iter().map(|line| format!("{line}\n")).collect();
        return Ok(Reply {
            file: Some((name, text)),
            ..Reply::default()
        });
    }
    let lines = if lines.is_empty() {
        vec!["no content"]
    } else {
        lines
    };
    let start = usize::try_from(call.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = match call.number("limit").unwrap_or(50) {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let page = lines
        .iter()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(at, line)| json!({ "n": at + 1, "t": line }));
    Ok(Reply {
        total: u64::try_from(lines.len()).ok(),
        ..Reply::data(page.collect::<Value>())
    })
}

fn task_stop(call: &mut Call<'_>) -> ApiResult<Reply> {
    let upid = task(call)?.upid.clone();
    call.world.stop_task(&upid);
    Ok(Reply::data(Value::Null))
}

// ---- storage ----

fn config_json(id: &str, storage: &Storage) -> Value {
    let mut row = json!({
        "storage": id, "type": storage.kind, "content": storage.content.join(","),
        "digest": format!("{:016x}{:016x}{:08x}", mix(id, 1), mix(id, 2), mix(id, 3) & 0xffff_ffff),
    });
    if let Some(path) = &storage.path {
        row["path"] = json!(path);
    }
    if storage.shared {
        row["shared"] = json!(1);
    }
    row
}

fn storage_configs(call: &Call<'_>) -> ApiResult<Reply> {
    let wanted = call.text("type");
    let rows = call
        .world
        .storages
        .iter()
        .filter(|(_, storage)| wanted.is_none_or(|kind| kind == storage.kind))
        .map(|(id, storage)| config_json(id, storage));
    Ok(Reply::data(rows.collect::<Value>()))
}

fn storage_config(call: &Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("storage");
    Ok(Reply::data(config_json(&id, call.world.storage(&id)?)))
}

fn storage_row(world: &World, node: &str, id: &str, storage: &Storage) -> Value {
    let used = world.used(node, id);
    // Per mille is exact enough for a gauge.
    let share = used
        .saturating_mul(1_000)
        .checked_div(storage.total)
        .unwrap_or(0);
    let share = u32::try_from(share).map_or(1.0, f64::from) / 1_000.0;
    json!({
        "storage": id, "type": storage.kind, "content": storage.content.join(","), "active": 1,
        "enabled": u8::from(!storage.disabled), "shared": u8::from(storage.shared), "total": storage.total,
        "used": used, "avail": storage.total.saturating_sub(used), "used_fraction": share,
    })
}

fn storage_list(call: &Call<'_>) -> ApiResult<Reply> {
    let node = call.owned("node");
    let content: Vec<&str> = call
        .text("content")
        .map(|text| split_list(text).collect())
        .unwrap_or_default();
    let rows = call
        .world
        .storages
        .iter()
        .filter(|(id, _)| {
            call.text("storage")
                .is_none_or(|wanted| wanted == id.as_str())
        })
        .filter(|(_, storage)| content.is_empty() || content.iter().any(|c| storage.holds(c)))
        .map(|(id, storage)| storage_row(call.world, &node, id, storage));
    Ok(Reply::data(rows.collect::<Value>()))
}

fn storage_status(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    Ok(Reply::data(storage_row(
        call.world,
        &node,
        &id,
        call.world.storage(&id)?,
    )))
}

fn content(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    call.world.storage(&id)?;
    let vmid = call.text("vmid").map(|_| call.vmid("vmid"));
    let rows = call
        .world
        .volumes
        .iter()
        .filter(|((on, _), volume)| volume.storage == id && (on.is_empty() || *on == node))
        .filter(|(_, volume)| call.text("content").is_none_or(|wanted| wanted == volume.content))
        .filter(|(_, volume)| vmid.is_none_or(|vmid| volume.vmid == Some(vmid)))
        .map(|((_, volid), volume)| {
            let mut row = json!({
                "volid": volid, "content": volume.content, "format": volume.format, "size": volume.size,
                "ctime": volume.created,
            });
            if let Some(vmid) = volume.vmid {
                row["vmid"] = json!(vmid);
            }
            if let Some(notes) = &volume.notes {
                row["notes"] = json!(notes);
            }
            if volume.content == "backup" {
                row["subtype"] = json!(if volid.contains("vzdump-lxc") { "lxc" } else { "qemu" });
                row["protected"] = json!(u8::from(volume.protected));
            }
            row
        });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn allocate(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let storage = call.world.storage(&id)?;
    let (vmid, name) = (call.vmid("vmid"), call.owned("filename"));
    let files = storage.is_file_based();
    let volid = if files {
        format!("{id}:{vmid}/{name}")
    } else {
        format!("{id}:{name}")
    };
    // A bare number is in kilobytes here, unlike everywhere else.
    let size = call.owned("size");
    let bytes = size
        .parse::<u64>()
        .ok()
        .and_then(|kib| kib.checked_mul(1024))
        .or_else(|| crate::guest::parse_size(&size))
        .ok_or_else(|| ApiError::parameter("size", "unable to parse size"))?;
    let key = call.world.volume_key(&node, &volid);
    if call.world.volumes.contains_key(&key) {
        return Err(ApiError::die(format!(
            "disk image '{volid}' already exists"
        )));
    }
    let created = call.world.now.as_secs();
    call.world.volumes.insert(
        key,
        Volume {
            storage: id,
            content: "images".into(),
            format: name
                .rsplit_once('.')
                .map_or("raw", |(_, format)| format)
                .to_owned(),
            size: bytes,
            vmid: Some(vmid),
            created,
            notes: None,
            protected: false,
        },
    );
    Ok(Reply::data(volid))
}

fn volume(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id) = (call.owned("node"), call.owned("storage"));
    let given = call.owned("volume");
    let volid = if given.contains(':') {
        given
    } else {
        format!("{id}:{given}")
    };
    let key = call.world.volume_key(&node, &volid);
    let path = call
        .world
        .storage(&id)?
        .path
        .clone()
        .unwrap_or_else(|| format!("/dev/{id}"));
    let (notes, protected) = (
        call.text("notes").map(str::to_owned),
        call.text("protected").map(|p| p == "1"),
    );
    let method = call.method;
    let Some(volume) = call.world.volumes.get_mut(&key) else {
        return Err(ApiError::die(format!(
            "volume_size_info on '{volid}' failed - no such volume"
        )));
    };
    match method {
        Method::Get => {
            let name = volid.split_once(':').map_or("", |(_, name)| name);
            let directory = if volume.content == "iso" || volume.content == "vztmpl" {
                "template/"
            } else {
                ""
            };
            let mut row = json!({
                "path": format!("{path}/{directory}{name}"), "size": volume.size, "used": volume.size,
                "format": if volume.format == "qcow2" { "qcow2" } else { "raw" },
            });
            if let Some(notes) = &volume.notes {
                row["notes"] = json!(notes);
            }
            Ok(Reply::data(row))
        }
        Method::Put => {
            volume.notes = notes.or(volume.notes.take());
            volume.protected = protected.unwrap_or(volume.protected);
            Ok(Reply::data(Value::Null))
        }
        _ => Ok(call.start("imgdel", volid, 0.5, Vec::new(), Effect::DeleteVolume(key))),
    }
}

fn download(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (node, id, name) = (
        call.owned("node"),
        call.owned("storage"),
        call.owned("filename"),
    );
    call.world.storage(&id)?;
    let content = call.owned("content");
    let volid = format!("{id}:{content}/{name}");
    let key = call.world.volume_key(&node, &volid);
    let created = call.world.now.as_secs();
    let volume = Volume {
        storage: id,
        format: if content == "vztmpl" { "tgz" } else { "iso" }.into(),
        content,
        size: 64 << 20,
        vmid: None,
        created,
        notes: None,
        protected: false,
    };
    let lines = vec![
        format!("downloading {} to {name}", call.owned("url")),
        "download of 64.00 MiB finished".into(),
    ];
    Ok(call.start("download", name, 2.0, lines, Effect::AddVolume(key, volume)))
}

fn backup(call: &mut Call<'_>) -> ApiResult<Reply> {
    let node = call.owned("node");
    let id = call.text("storage").unwrap_or("local").to_owned();
    let ids = call.owned("vmid");
    let Some(vmid) = split_list(&ids)
        .next()
        .and_then(|id| id.parse::<u32>().ok())
    else {
        let lines = vec!["INFO: Backup job finished successfully".into()];
        return Ok(call.start("vzdump", "", 1.0, lines, Effect::Nothing));
    };
    let holder = call.world.storage(&id)?;
    if !holder.holds("backup") {
        return Err(ApiError::parameter(
            "storage",
            format!("storage '{id}' does not support backups"),
        ));
    }
    let Some(guest) = call
        .world
        .guests
        .get(&vmid)
        .filter(|guest| guest.node == node)
    else {
        let lines = vec![format!(
            "ERROR: Backup of VM {vmid} failed - unable to find VM '{vmid}'"
        )];
        return Ok(call.start(
            "vzdump",
            vmid,
            0.5,
            lines,
            Effect::Fail("job errors".into()),
        ));
    };
    let now = call.world.now.as_secs();
    let stamp = iso_date(now)
        .trim_end_matches('Z')
        .replace(['-', ':'], "_")
        .replace('T', "-");
    let (api, extension) = match guest.kind {
        Kind::Qemu => ("qemu", "vma.zst"),
        Kind::Lxc => ("lxc", "tar.zst"),
    };
    let volid = format!("{id}:backup/vzdump-{api}-{vmid}-{stamp}.{extension}");
    let volume = Volume {
        storage: id,
        content: "backup".into(),
        format: extension.into(),
        size: guest.disk_size() / 4,
        vmid: Some(vmid),
        created: now,
        notes: Some(guest.name(vmid)),
        protected: false,
    };
    let lines = vec![
        format!("INFO: starting new backup job: vzdump {vmid}"),
        format!("INFO: Starting Backup of VM {vmid} ({api})"),
        format!("INFO: creating vzdump archive '{volid}'"),
        "INFO: 50% done".into(),
        "INFO: 100% done".into(),
        format!("INFO: Finished Backup of VM {vmid} (00:00:04)"),
        "INFO: Backup job finished successfully".into(),
    ];
    let key = call.world.volume_key(&node, &volid);
    Ok(call.start("vzdump", vmid, 4.0, lines, Effect::AddVolume(key, volume)))
}

fn every_guest(call: &mut Call<'_>, kind: &str, action: &'static str) -> ApiResult<Reply> {
    let node = call.owned("node");
    let wanted: Vec<u32> = call
        .text("vms")
        .map(|text| split_list(text).filter_map(|id| id.parse().ok()).collect())
        .unwrap_or_default();
    let guests: Vec<(u32, &'static str)> = call
        .world
        .guests
        .iter()
        .filter(|(vmid, guest)| guest.node == node && (wanted.is_empty() || wanted.contains(vmid)))
        .filter(|(_, guest)| guest.running() == (action != "start") && !guest.template())
        .map(|(vmid, _)| (*vmid, action))
        .collect();
    let lines = guests
        .iter()
        .map(|(vmid, _)| format!("{action} guest {vmid}"))
        .collect();
    Ok(call.start(kind, "", 2.0, lines, Effect::Each(guests)))
}

// ---- guests ----

/// Parameters of create and change calls that are no configuration.
const NOT_CONFIG: [&str; 26] = [
    "node",
    "vmid",
    "start",
    "pool",
    "unique",
    "storage",
    "archive",
    "force",
    "bwlimit",
    "live-restore",
    "ha-managed",
    "import-working-storage",
    "digest",
    "delete",
    "revert",
    "skiplock",
    "background_delay",
    "ostemplate",
    "password",
    "ssh-public-keys",
    "ignore-unpack-errors",
    "restore",
    "newid",
    "full",
    "snapname",
    "target",
];

fn guests(call: &mut Call<'_>, kind: Kind, rest: &str) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    let lxc = kind == Kind::Lxc;
    Some(match (call.method, rest) {
        (Get, "") => guest_list(call, kind),
        (Post, "") => create(call, kind),
        (Delete, "/{vmid}") => destroy(call, kind),
        (Get, "/{vmid}/config") => config(call, kind),
        (Put, "/{vmid}/config") => configure(call, kind),
        (Post, "/{vmid}/config") => configure_later(call, kind),
        (Get, "/{vmid}/pending") => pending(call, kind),
        (Get, "/{vmid}/status/current") => current(call, kind),
        (Post, "/{vmid}/status/start") => start(call, kind),
        (Post, "/{vmid}/status/stop") => power(
            call,
            kind,
            if lxc { "vzstop" } else { "qmstop" },
            1.0,
            lxc,
            GuestEffect::Stop,
        ),
        (Post, "/{vmid}/status/shutdown") => power(
            call,
            kind,
            if lxc { "vzshutdown" } else { "qmshutdown" },
            2.0,
            lxc,
            GuestEffect::Stop,
        ),
        (Post, "/{vmid}/status/reboot") => power(
            call,
            kind,
            if lxc { "vzreboot" } else { "qmreboot" },
            2.0,
            true,
            GuestEffect::Reboot,
        ),
        (Post, "/{vmid}/status/reset") => {
            power(call, kind, "qmreset", 0.5, true, GuestEffect::Reset)
        }
        (Post, "/{vmid}/status/suspend") => {
            let to_disk = call.flag("todisk");
            let name = if lxc {
                "vzsuspend"
            } else if to_disk {
                "qmsuspend"
            } else {
                "qmpause"
            };
            power(
                call,
                kind,
                name,
                1.0,
                true,
                GuestEffect::Suspend { to_disk },
            )
        }
        (Post, "/{vmid}/status/resume") => power(
            call,
            kind,
            if lxc { "vzresume" } else { "qmresume" },
            0.5,
            false,
            GuestEffect::Resume,
        ),
        (Post, "/{vmid}/clone") => clone(call, kind),
        (Post, "/{vmid}/template") => template(call, kind),
        (Get, "/{vmid}/snapshot") => snapshots(call, kind),
        (Post, "/{vmid}/snapshot") => snapshot(call, kind),
        (Delete, "/{vmid}/snapshot/{snapname}") => snapshot_delete(call, kind),
        (Get, "/{vmid}/snapshot/{snapname}/config") => snapshot_config(call, kind),
        (Put, "/{vmid}/snapshot/{snapname}/config") => snapshot_edit(call, kind),
        (Post, "/{vmid}/snapshot/{snapname}/rollback") => rollback(call, kind),
        (Put, "/{vmid}/resize") => resize(call, kind),
        (Post, "/{vmid}/move_disk") => move_disk(call, kind, "qmmove", "disk", "target-disk"),
        (Post, "/{vmid}/move_volume") => {
            move_disk(call, kind, "move_volume", "volume", "target-volume")
        }
        (Post, "/{vmid}/migrate") => migrate(call, kind),
        (Get, path) if path.starts_with("/{vmid}/agent/") || path == "/{vmid}/rrddata" => {
            agent_gate(call, kind)?
        }
        _ => return None,
    })
}

/// Agent calls need a running guest; the rest of them is made from the schema.
fn agent_gate(call: &Call<'_>, kind: Kind) -> Option<ApiResult<Reply>> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    match call.world.guest(kind, &node, vmid) {
        Err(error) => Some(Err(error)),
        Ok(guest) if call.path.contains("/agent/") && !guest.running() => {
            Some(Err(ApiError::die(format!("VM {vmid} is not running"))))
        }
        Ok(_) => None,
    }
}

fn guest_list(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let node = call.owned("node");
    let full = call.flag("full");
    let rows = call
        .world
        .guests
        .iter()
        .filter(|(_, guest)| guest.kind == kind && guest.node == node)
        .map(|(vmid, guest)| {
            let mut row = call.world.guest_json(*vmid, guest);
            if !full {
                row.remove("qmpstatus");
            }
            Value::Object(row)
        });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn config_params(call: &Call<'_>) -> Config {
    call.params
        .iter()
        .filter(|(key, _)| !NOT_CONFIG.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
        .collect()
}

fn create(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let noun = kind.noun();
    let restore = call.text("archive").is_some() || call.flag("restore");
    if let Some(other) = call.world.guests.get(&vmid) {
        if !(restore && call.flag("force")) {
            return Err(ApiError::die(format!(
                "unable to {} {noun} {vmid} - {} {vmid} already exists on node '{}'",
                if restore { "restore" } else { "create" },
                other.kind.noun(),
                other.node
            )));
        }
        call.world.guests.remove(&vmid);
        call.world
            .volumes
            .retain(|_, volume| volume.vmid != Some(vmid) || volume.content == "backup");
    }
    let task = match (kind, restore) {
        (Kind::Qemu, false) => "qmcreate",
        (Kind::Qemu, true) => "qmrestore",
        (Kind::Lxc, false) => "vzcreate",
        (Kind::Lxc, true) => "vzrestore",
    };
    let mut given = config_params(call);
    let mut lines = Vec::new();
    let source = match kind {
        Kind::Qemu => call.text("archive"),
        Kind::Lxc => call.text("ostemplate"),
    }
    .map(str::to_owned);
    if kind == Kind::Lxc && !given.contains_key("rootfs") {
        let storage = call.text("storage").unwrap_or("local-lvm");
        given.insert("rootfs".into(), format!("{storage}:4"));
    }
    for (key, value) in &given {
        let storage = volume_of(value).split_once(':').map(|(storage, _)| storage);
        if let Some(storage) = storage.filter(|_| kind.is_disk(key)) {
            call.world.storage(storage)?;
        }
    }
    if let Some(source) = source.filter(|source| source.contains(':')) {
        let key = call.world.volume_key(&node, &source);
        if !call.world.volumes.contains_key(&key) {
            let error =
                format!("unable to create {noun} {vmid} - volume '{source}' does not exist");
            return Ok(call.fail(task, vmid, error));
        }
        lines.push(format!("extracting archive '{source}'"));
    }
    let config = match call.world.build(kind, &node, vmid, &given) {
        Ok((config, made)) => {
            lines.splice(0..0, made);
            config
        }
        Err(error) => {
            return Ok(call.fail(
                task,
                vmid,
                format!("unable to create {noun} {vmid} - {error}"),
            ));
        }
    };
    let mut guest = Guest::new(kind, &node, config);
    guest.lock = Some("create".into());
    guest.pool = call.text("pool").map(str::to_owned);
    call.world.guests.insert(vmid, guest);
    let effect = GuestEffect::Created {
        start: call.flag("start"),
    };
    Ok(call.start(task, vmid, 2.0, lines, Effect::Guest(vmid, effect)))
}

fn destroy(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    if guest.config.get("protection").is_some_and(|p| p == "1") {
        return Err(ApiError::die(format!(
            "can't remove {noun} {vmid} - protection mode enabled"
        )));
    }
    let task = if kind == Kind::Lxc {
        "vzdestroy"
    } else {
        "qmdestroy"
    };
    let mut error = check_lock(guest).err();
    if call.flag("skiplock") {
        error = None;
    }
    if guest.running() && !(kind == Kind::Lxc && call.flag("force")) {
        error = Some(format!("{noun} {vmid} is running - destroy failed"));
    }
    if let Some(error) = error {
        return Ok(call.fail(task, vmid, error));
    }
    let lines = guest
        .config
        .iter()
        .filter(|(key, value)| {
            kind.is_disk(key) && value.contains(':') && !value.contains("media=cdrom")
        })
        .map(|(_, value)| {
            let name = volume_of(value)
                .split_once(':')
                .map_or("", |(_, name)| name);
            format!("  Logical volume \"{name}\" successfully removed.")
        })
        .collect();
    let force = call.flag("force");
    if let Some(guest) = call.world.guests.get_mut(&vmid) {
        if force && kind == Kind::Lxc {
            guest.started = None;
        }
        if call.params.contains_key("skiplock") {
            guest.lock = None;
        }
    }
    Ok(call.start(
        task,
        vmid,
        1.0,
        lines,
        Effect::Guest(vmid, GuestEffect::Destroy),
    ))
}

fn config(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let config = match call.text("snapshot") {
        Some(name) => guest
            .snapshots
            .get(name)
            .map(|snapshot| snapshot.config.clone())
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None if call.flag("current") => guest.config.clone(),
        None => guest.planned(),
    };
    let mut row = call.world.config_json(kind, &config);
    row.insert("digest".into(), json!(guest.digest()));
    if let Some(parent) = &guest.parent {
        row.insert("parent".into(), json!(parent));
    }
    if let Some(lock) = &guest.lock {
        row.insert("lock".into(), json!(lock));
    }
    Ok(Reply::data(row))
}

fn change(call: &Call<'_>, kind: Kind) -> ApiResult<Change> {
    call.root_only("skiplock")?;
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let list = |name: &str| -> Vec<String> {
        call.text(name)
            .map(|text| split_list(text).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let change = Change {
        set: config_params(call),
        delete: list("delete"),
        revert: list("revert"),
        digest: call.text("digest").map(str::to_owned),
        skip_lock: call.flag("skiplock"),
    };
    if change.is_empty() {
        return Err(ApiError::die("no options specified"));
    }
    call.world.check_change(kind, &change)?;
    call.world.guest(kind, &node, vmid)?;
    Ok(change)
}

fn configure(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    call.world.configure(vmid, &change).map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

fn configure_later(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let change = change(call, kind)?;
    let vmid = call.vmid("vmid");
    let lines = change
        .set
        .iter()
        .map(|(key, value)| format!("update VM {vmid}: -{key} {value}"))
        .collect();
    Ok(call.start(
        "qmconfig",
        vmid,
        0.5,
        lines,
        Effect::Guest(vmid, GuestEffect::Configure(change)),
    ))
}

fn pending(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let mut config = guest.config.clone();
    config.insert("digest".into(), guest.digest());
    let values = call.world.config_json(kind, &config);
    let planned = guest
        .pending
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
        .collect();
    let waiting = call.world.config_json(kind, &planned);
    let mut rows = Vec::new();
    for (key, value) in &values {
        let mut row = json!({ "key": key, "value": value });
        match guest.pending.get(key) {
            Some(None) => row["delete"] = json!(1),
            Some(Some(_)) => row["pending"] = waiting.get(key).cloned().unwrap_or_default(),
            None => {}
        }
        rows.push(row);
    }
    for (key, value) in &waiting {
        if !values.contains_key(key) {
            rows.push(json!({ "key": key, "pending": value }));
        }
    }
    Ok(Reply::data(rows))
}

fn current(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let mut row = call.world.guest_json(vmid, guest);
    row.insert("ha".into(), json!({ "managed": 0 }));
    if kind == Kind::Qemu {
        let agent = guest
            .config
            .get("agent")
            .is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1"));
        if agent {
            row.insert("agent".into(), json!(1));
        }
        if guest.running() {
            row.insert("running-qemu".into(), json!("10.1.2"));
            row.insert("running-machine".into(), json!("pc-i440fx-10.1+pve0"));
        }
    }
    Ok(Reply::data(row))
}

fn start(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    let task = if kind == Kind::Lxc {
        "vzstart"
    } else {
        "qmstart"
    };
    if kind == Kind::Lxc && guest.running() {
        return Err(ApiError::die(format!("CT {vmid} already running")));
    }
    let suspended = guest.lock.as_deref() == Some("suspended");
    let mut error = if suspended || call.flag("skiplock") {
        None
    } else {
        check_lock(guest).err()
    };
    if error.is_none() && guest.running() {
        error = Some(format!("{noun} {vmid} already running"));
    }
    if error.is_none() && guest.template() {
        error = Some(format!(
            "you can't start a {} if it's a template",
            noun.to_lowercase()
        ));
    }
    match error {
        Some(error) => Ok(call.fail(task, vmid, error)),
        None => Ok(call.start(
            task,
            vmid,
            1.5,
            Vec::new(),
            Effect::Guest(vmid, GuestEffect::Start),
        )),
    }
}

fn power(
    call: &mut Call<'_>,
    kind: Kind,
    task: &str,
    seconds: f64,
    must_run: bool,
    effect: GuestEffect,
) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.root_only("skiplock")?;
    let guest = call.world.guest(kind, &node, vmid)?;
    if must_run && !guest.running() {
        return Err(ApiError::die(format!("{} {vmid} not running", kind.noun())));
    }
    let resuming = matches!(effect, GuestEffect::Resume);
    if resuming && !guest.running() && guest.lock.as_deref() != Some("suspended") {
        return Err(ApiError::die(format!("{} {vmid} not running", kind.noun())));
    }
    if let (Err(error), false, false) = (check_lock(guest), resuming, call.flag("skiplock")) {
        return Ok(call.fail(task, vmid, error));
    }
    Ok(call.start(task, vmid, seconds, Vec::new(), Effect::Guest(vmid, effect)))
}

fn clone(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, newid) = (call.owned("node"), call.vmid("vmid"), call.vmid("newid"));
    let source = call.world.guest(kind, &node, vmid)?.clone();
    if let Some(other) = call.world.guests.get(&newid) {
        return Err(ApiError::die(format!(
            "unable to create {} {newid}: config file already exists on node '{}'",
            kind.noun(),
            other.node
        )));
    }
    check_lock(&source).map_err(ApiError::die)?;
    let task = if kind == Kind::Lxc {
        "vzclone"
    } else {
        "qmclone"
    };
    let full = call
        .text("full")
        .map_or(!source.template(), |full| full == "1");
    let from = match call.text("snapname") {
        Some(name) => source
            .snapshots
            .get(name)
            .map(|snapshot| snapshot.config.clone())
            .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?,
        None => source.config.clone(),
    };
    if !full && !source.template() {
        return Ok(call.fail(
            task,
            vmid,
            "Linked clone feature is not supported for this drive".into(),
        ));
    }
    let storage = call.text("storage").map(str::to_owned);
    let before = call.world.volumes.clone();
    let mut config = Config::new();
    let mut lines = Vec::new();
    for (key, value) in from {
        if key.starts_with("unused") || matches!(key.as_str(), "template" | "protection") {
            continue;
        }
        let owned = kind.is_disk(&key) && value.contains(':') && !value.contains("media=cdrom");
        let value = if owned {
            lines.push(format!(
                "create {} clone of drive {key} ({})",
                if full { "full" } else { "linked" },
                volume_of(&value)
            ));
            match call
                .world
                .copy_disk(kind, &node, newid, &value, storage.as_deref())
            {
                Ok(value) => value,
                Err(error) => {
                    call.world.volumes = before;
                    return Ok(call.fail(task, vmid, format!("clone failed: {error}")));
                }
            }
        } else if crate::validate::in_family(&key, "net") {
            let old = value.split(',').find_map(|part| {
                let (_, mac) = part.split_once('=')?;
                (mac.matches(':').count() == 5).then_some(mac)
            });
            let mac = call.world.mac();
            old.map_or_else(|| value.clone(), |old| value.replace(old, &mac))
        } else if key == "smbios1" {
            format!("uuid={}", call.world.uuid())
        } else if key == "vmgenid" {
            call.world.uuid()
        } else {
            value
        };
        config.insert(key, value);
    }
    let name_key = if kind == Kind::Lxc {
        "hostname"
    } else {
        "name"
    };
    let name = call.text(name_key).map_or_else(
        || {
            format!(
                "Copy-of-{}-{}",
                kind.noun(),
                source.name(vmid).replace(' ', "-")
            )
        },
        str::to_owned,
    );
    config.insert(name_key.into(), name);
    if let Some(description) = call.text("description") {
        config.insert("description".into(), description.to_owned());
    }
    let target = call.text("target").unwrap_or(&node).to_owned();
    let mut guest = Guest::new(kind, &target, config);
    guest.lock = Some("clone".into());
    guest.pool = call.text("pool").map(str::to_owned);
    call.world.guests.insert(newid, guest);
    if let Some(source) = call.world.guests.get_mut(&vmid) {
        source.lock = Some("clone".into());
    }
    let seconds = if full { 4.0 } else { 1.0 };
    lines.push("transferred 100.00% of the data".into());
    Ok(call.start(
        task,
        vmid,
        seconds,
        lines,
        Effect::Guest(newid, GuestEffect::Cloned { source: vmid }),
    ))
}

fn template(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let noun = kind.noun();
    if guest.template() {
        return Err(ApiError::die(format!(
            "you can't convert a template to a template ({noun} {vmid})"
        )));
    }
    if guest.running() {
        return Err(ApiError::die(format!(
            "you can't convert a {noun} to template if {noun} is running"
        )));
    }
    if !guest.snapshots.is_empty() {
        return Err(ApiError::die(format!(
            "unable to create template, because {noun} contains snapshots"
        )));
    }
    if kind == Kind::Lxc {
        call.world
            .apply_to_guest(vmid, GuestEffect::Template, &call.who)
            .map_err(ApiError::die)?;
        return Ok(Reply::data(Value::Null));
    }
    Ok(call.start(
        "qmtemplate",
        vmid,
        1.0,
        Vec::new(),
        Effect::Guest(vmid, GuestEffect::Template),
    ))
}

fn snapshots(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.world.guest(kind, &node, vmid)?;
    let mut rows: Vec<Value> = guest
        .snapshots
        .iter()
        .map(|(name, snapshot)| {
            let mut row = json!({
                "name": name, "snaptime": snapshot.time, "description": snapshot.description.as_deref().unwrap_or(""),
            });
            if let Some(parent) = &snapshot.parent {
                row["parent"] = json!(parent);
            }
            if kind == Kind::Qemu {
                row["vmstate"] = json!(u8::from(snapshot.vmstate));
            }
            row
        })
        .collect();
    let mut here = json!({
        "name": "current", "description": "You are here!", "digest": guest.digest(),
        "running": u8::from(guest.running()),
    });
    if let Some(parent) = &guest.parent {
        here["parent"] = json!(parent);
    }
    rows.push(here);
    Ok(Reply::data(rows))
}

fn snapshot(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    if matches!(name.as_str(), "current" | "pending") {
        return Err(ApiError::die(format!(
            "unable to use snapshot name '{name}' (reserved name)"
        )));
    }
    let guest = call.world.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzsnapshot"
    } else {
        "qmsnapshot"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot name '{name}' already used")));
    }
    let lines = guest
        .config
        .iter()
        .filter(|(key, value)| {
            kind.is_disk(key) && value.contains(':') && !value.contains("media=cdrom")
        })
        .map(|(key, value)| format!("snapshotting 'drive-{key}' ({})", volume_of(value)))
        .collect();
    let effect = GuestEffect::Snapshot {
        name,
        description: call.text("description").map(str::to_owned),
        vmstate: call.flag("vmstate"),
    };
    lock(call.world, vmid, "snapshot");
    Ok(call.start(task, vmid, 1.0, lines, Effect::Guest(vmid, effect)))
}

fn lock(world: &mut World, vmid: u32, why: &str) {
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.lock = Some(why.to_owned());
    }
}

fn snapshot_delete(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.world.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzdelsnapshot"
    } else {
        "qmdelsnapshot"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot '{name}' does not exist")));
    }
    lock(call.world, vmid, "snapshot-delete");
    let effect = GuestEffect::DeleteSnapshot { name };
    Ok(call.start(task, vmid, 1.0, Vec::new(), Effect::Guest(vmid, effect)))
}

fn snapshot_config(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.world.guest(kind, &node, vmid)?;
    let snapshot = guest
        .snapshots
        .get(&name)
        .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?;
    let mut row = call.world.config_json(kind, &snapshot.config);
    row.insert("snaptime".into(), json!(snapshot.time));
    if let Some(description) = &snapshot.description {
        row.insert("description".into(), json!(description));
    }
    if let Some(parent) = &snapshot.parent {
        row.insert("parent".into(), json!(parent));
    }
    Ok(Reply::data(row))
}

fn snapshot_edit(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    call.world.guest(kind, &node, vmid)?;
    let description = call.text("description").map(str::to_owned);
    let snapshot = call
        .world
        .guests
        .get_mut(&vmid)
        .and_then(|guest| guest.snapshots.get_mut(&name))
        .ok_or_else(|| ApiError::die(format!("snapshot '{name}' does not exist")))?;
    if description.is_some() {
        snapshot.description = description;
    }
    Ok(Reply::data(Value::Null))
}

fn rollback(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, name) = (
        call.owned("node"),
        call.vmid("vmid"),
        call.owned("snapname"),
    );
    let guest = call.world.guest(kind, &node, vmid)?;
    let task = if kind == Kind::Lxc {
        "vzrollback"
    } else {
        "qmrollback"
    };
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !guest.snapshots.contains_key(&name) {
        return Ok(call.fail(task, vmid, format!("snapshot '{name}' does not exist")));
    }
    let lines = guest
        .config
        .values()
        .filter_map(|value| value.split_once(":vm-").map(|_| volume_of(value)))
        .map(|volume| format!("rolling back volume '{volume}'"))
        .collect();
    let effect = GuestEffect::Rollback {
        name,
        start: call.flag("start"),
    };
    lock(call.world, vmid, "rollback");
    Ok(call.start(task, vmid, 1.0, lines, Effect::Guest(vmid, effect)))
}

fn resize(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let (disk, size) = (call.owned("disk"), call.owned("size"));
    let guest = call.world.guest(kind, &node, vmid)?;
    if let Some(digest) = call.text("digest")
        && digest != guest.digest()
    {
        return Err(ApiError::die(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    if !guest.config.contains_key(&disk) {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    }
    let effect = GuestEffect::Resize { disk, size };
    // Releases before 8.0 resized a disk without a task.
    if crate::schema::is_task(call.method, call.path, call.endpoint) {
        return Ok(call.start("resize", vmid, 0.5, Vec::new(), Effect::Guest(vmid, effect)));
    }
    call.world
        .apply_to_guest(vmid, effect, &call.who)
        .map_err(ApiError::die)?;
    Ok(Reply::data(Value::Null))
}

fn move_disk(
    call: &mut Call<'_>,
    kind: Kind,
    task: &str,
    key: &str,
    target: &str,
) -> ApiResult<Reply> {
    let (node, vmid, disk) = (call.owned("node"), call.vmid("vmid"), call.owned(key));
    let guest = call.world.guest(kind, &node, vmid)?;
    if !guest.config.contains_key(&disk) {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    }
    let storage = call.owned("storage");
    let target = call.text(target).map(str::to_owned);
    if target.is_none() {
        call.world.storage(&storage)?;
    }
    let lines = vec![format!("create full clone of drive {disk}")];
    let effect = GuestEffect::Move {
        disk,
        storage,
        target,
    };
    Ok(call.start(task, vmid, 3.0, lines, Effect::Guest(vmid, effect)))
}

fn migrate(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid, target) = (call.owned("node"), call.vmid("vmid"), call.owned("target"));
    let guest = call.world.guest(kind, &node, vmid)?;
    if target == node {
        return Err(ApiError::parameter("target", "target is local node."));
    }
    let task = if kind == Kind::Lxc {
        "vzmigrate"
    } else {
        "qmigrate"
    };
    if guest.running() && kind == Kind::Qemu && !call.flag("online") {
        return Err(ApiError::die("can't migrate running VM without --online"));
    }
    if let Err(error) = check_lock(guest) {
        return Ok(call.fail(task, vmid, error));
    }
    if !call.world.node(&target).is_some_and(|node| node.online) {
        return Err(ApiError::die(format!(
            "target node '{target}' is not online"
        )));
    }
    lock(call.world, vmid, "migrate");
    let lines = vec![
        format!(
            "starting migration of {} {vmid} to node '{target}'",
            kind.noun()
        ),
        "migration finished successfully (duration 00:00:03)".into(),
    ];
    Ok(call.start(
        task,
        vmid,
        3.0,
        lines,
        Effect::Guest(vmid, GuestEffect::Migrate { target }),
    ))
}
