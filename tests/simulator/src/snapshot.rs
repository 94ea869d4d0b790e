//! The state of a cluster as JSON.
//!
//! Consoles and recorded requests are not part of it. Running tasks are restored as interrupted,
//! and their preparations undone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::guest_agent::Inside;
use crate::state::access::roles::{Group, Role, Rule, Subject};
use crate::state::access::{Identity, Token, User};
use crate::state::cluster::{Cluster, Node};
use crate::state::config::Config;
use crate::state::guest::{Guest, Kind, Snapshot};
use crate::state::storage::{Storage, Volume};
use crate::state::tasks::Task;

const VERSION: u64 = 1;

/// Writes the state.
pub(crate) fn save(cluster: &Cluster, release: &str) -> String {
    let guests: Map<String, Value> = cluster
        .guests
        .iter()
        .map(|(vmid, guest)| (vmid.to_string(), guest_json(guest)))
        .collect();
    let volumes: Vec<Value> = cluster
        .volumes
        .iter()
        .map(|((node, volid), volume)| {
            json!({
                "node": node, "volid": volid, "storage": volume.storage, "content": volume.content,
                "format": volume.format, "size": volume.size, "vmid": volume.vmid, "created": volume.created,
                "notes": volume.notes, "protected": volume.protected, "saved": volume.saved,
            })
        })
        .collect();
    let nodes: Vec<Value> = cluster
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name, "online": node.online, "cores": node.cores, "memory": node.memory,
                "booted": node.booted.as_secs(),
            })
        })
        .collect();
    let storages: Map<String, Value> = cluster
        .storages
        .iter()
        .map(|(id, storage)| {
            let value = json!({
                "type": storage.kind, "content": storage.content, "shared": storage.shared, "total": storage.total,
                "path": storage.path, "disabled": storage.disabled, "settings": storage.settings,
            });
            (id.clone(), value)
        })
        .collect();
    let tasks: Vec<Value> = cluster.tasks.iter().map(task_json).collect();
    let state = json!({
        "version": VERSION, "release": release, "time": millis(cluster.now), "cluster": cluster.name, "nodes": nodes,
        "storages": storages, "volumes": volumes, "guests": guests, "tasks": tasks, "pools": cluster.pools,
        "access": access_json(cluster), "records": cluster.records, "settings": cluster.settings,
        "sdn_running": cluster.sdn_running, "counter": cluster.counter(),
    });
    let mut text = serde_json::to_string_pretty(&state).unwrap_or_default();
    text.push('\n');
    text
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn guest_json(guest: &Guest) -> Value {
    let snapshots: Map<String, Value> = guest
        .snapshots
        .iter()
        .map(|(name, snapshot)| {
            let value = json!({
                "config": snapshot.config, "parent": snapshot.parent, "time": snapshot.time,
                "description": snapshot.description, "vmstate": snapshot.vmstate,
                "files": snapshot.files.as_ref().map(crate::guest_agent::output::files_to_json),
            });
            (name.clone(), value)
        })
        .collect();
    json!({
        "kind": guest.kind.api(), "node": guest.node, "config": guest.config, "pending": guest.pending,
        "snapshots": snapshots, "parent": guest.parent, "lock": guest.lock, "started": guest.started.map(millis),
        "paused": guest.paused, "pool": guest.pool, "up": guest.up.map(millis),
        "inside": guest.inside.as_ref().map(|inside| inside.to_json()),
    })
}

fn task_json(task: &Task) -> Value {
    let lines: Vec<(u64, &str)> = task
        .lines
        .iter()
        .map(|(at, line)| (millis(*at), line.as_str()))
        .collect();
    json!({
        "upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart, "start": millis(task.start),
        "kind": task.kind, "id": task.id, "user": task.owner.user, "token": task.owner.token, "lines": lines,
        "end": task.end.as_ref().map(|(at, status)| (millis(*at), status.as_str())),
    })
}

fn access_json(cluster: &Cluster) -> Value {
    let access = &cluster.access;
    let users: Map<String, Value> = access
        .users
        .iter()
        .map(|(id, user)| {
            let tokens: Map<String, Value> = user
                .tokens
                .iter()
                .map(|(name, token)| {
                    let value = json!({
                        "secret": token.secret, "expire": token.expire, "privsep": token.privsep,
                        "comment": token.comment,
                    });
                    (name.clone(), value)
                })
                .collect();
            let value = json!({
                "password": user.password, "totp": user.totp, "enabled": user.enabled, "settings": user.settings,
                "tokens": tokens,
            });
            (id.clone(), value)
        })
        .collect();
    let groups: Map<String, Value> = access
        .groups
        .iter()
        .map(|(id, group)| {
            let value = json!({ "comment": group.comment, "users": group.users });
            (id.clone(), value)
        })
        .collect();
    let roles: Map<String, Value> = access
        .roles
        .iter()
        .filter(|(_, role)| !role.builtin)
        .map(|(id, role)| (id.clone(), json!(role.privileges)))
        .collect();
    let rules: Vec<Value> = access
        .rules
        .iter()
        .map(|rule| {
            json!({
                "path": rule.path, "type": rule.subject.name(), "who": rule.ugid, "role": rule.role,
                "propagate": rule.propagate,
            })
        })
        .collect();
    json!({ "users": users, "groups": groups, "roles": roles, "rules": rules })
}

/// A place in the text, for errors.
struct Located<'a> {
    value: &'a Value,
    path: String,
}

type Read<T> = Result<T, String>;

impl<'a> Located<'a> {
    fn get(&self, key: &str) -> Located<'a> {
        static NULL: Value = Value::Null;
        Located {
            value: self.value.get(key).unwrap_or(&NULL),
            path: if self.path.is_empty() {
                key.to_owned()
            } else {
                format!("{}.{key}", self.path)
            },
        }
    }

    fn wrong<T>(&self, expected: &str) -> Read<T> {
        Err(format!("{}: expected {expected}", self.path))
    }

    /// Any type of serde.
    fn read<T: serde::de::DeserializeOwned>(&self) -> Read<T> {
        T::deserialize(self.value).map_err(|error| format!("{}: {error}", self.path))
    }

    fn text(&self) -> Read<String> {
        self.value
            .as_str()
            .map_or_else(|| self.wrong("a text"), |text| Ok(text.to_owned()))
    }

    fn time(&self) -> Read<Duration> {
        Ok(Duration::from_millis(self.read()?))
    }

    fn optional<T>(&self, read: impl FnOnce(&Self) -> Read<T>) -> Read<Option<T>> {
        if self.value.is_null() {
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn list<T>(&self, read: impl Fn(&Located<'a>) -> Read<T>) -> Read<Vec<T>> {
        let Some(items) = self.value.as_array() else {
            return self.wrong("a list");
        };
        items
            .iter()
            .enumerate()
            .map(|(index, value)| {
                read(&Located {
                    value,
                    path: format!("{}[{index}]", self.path),
                })
            })
            .collect()
    }

    fn map<T>(&self, read: impl Fn(&Located<'a>) -> Read<T>) -> Read<BTreeMap<String, T>> {
        let Some(items) = self.value.as_object() else {
            return self.wrong("an object");
        };
        items
            .keys()
            .map(|key| Ok((key.clone(), read(&self.get(key))?)))
            .collect()
    }
}

/// Replaces the state; the schema, the clock and the speed stay.
pub(crate) fn restore(cluster: &mut Cluster, text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let root = Located {
        value: &value,
        path: String::new(),
    };
    let version: u64 = root.get("version").read()?;
    if version != VERSION {
        return Err(format!("version: {version} is not {VERSION}"));
    }
    // Times keep their distance from now.
    let then = root.get("time").time()?;
    let now = cluster.now;
    let shift = |at: Duration| (now + at).saturating_sub(then);
    cluster.name = root.get("cluster").text()?;
    cluster.nodes = root.get("nodes").list(|node| {
        Ok(Node {
            name: node.get("name").text()?,
            online: node.get("online").read()?,
            cores: node.get("cores").read()?,
            memory: node.get("memory").read()?,
            booted: shift(Duration::from_secs(node.get("booted").read()?)),
        })
    })?;
    cluster.storages = root.get("storages").map(|storage| {
        Ok(Storage {
            kind: storage.get("type").text()?,
            content: storage.get("content").read()?,
            shared: storage.get("shared").read()?,
            total: storage.get("total").read()?,
            path: storage.get("path").read()?,
            disabled: storage.get("disabled").read()?,
            settings: storage.get("settings").read()?,
        })
    })?;
    cluster.volumes = root
        .get("volumes")
        .list(|volume| {
            let key = (volume.get("node").text()?, volume.get("volid").text()?);
            let volume = Volume {
                storage: volume.get("storage").text()?,
                content: volume.get("content").text()?,
                format: volume.get("format").text()?,
                size: volume.get("size").read()?,
                vmid: volume.get("vmid").read()?,
                created: volume.get("created").read()?,
                notes: volume.get("notes").read()?,
                protected: volume.get("protected").read()?,
                saved: volume.get("saved").read()?,
            };
            Ok((key, volume))
        })?
        .into_iter()
        .collect();
    cluster.guests = root
        .get("guests")
        .map(|guest| read_guest(guest, &shift))?
        .into_iter()
        .map(|(vmid, guest)| {
            let vmid = vmid
                .parse()
                .map_err(|_| format!("guests.{vmid}: expected a number"))?;
            Ok((vmid, guest))
        })
        .collect::<Read<_>>()?;
    cluster.tasks = root
        .get("tasks")
        .list(|task| read_task(task, &shift, now))?;
    for task in value["tasks"].as_array().into_iter().flatten() {
        let vmid = task["id"].as_str().and_then(|id| id.parse().ok());
        if let (true, Some(vmid)) = (task["end"].is_null(), vmid) {
            cluster.undo_preparations(vmid);
        }
    }
    cluster.pools = root.get("pools").read()?;
    read_access(cluster, &root.get("access"))?;
    cluster.records = root.get("records").read()?;
    cluster.settings = root.get("settings").read()?;
    cluster.sdn_running = root.get("sdn_running").read()?;
    cluster.count_from(root.get("counter").read()?);
    Ok(())
}

fn read_guest(guest: &Located<'_>, shift: &impl Fn(Duration) -> Duration) -> Read<Guest> {
    let kind = match guest.get("kind").text()?.as_str() {
        "qemu" => Kind::Qemu,
        "lxc" => Kind::Lxc,
        _ => return guest.get("kind").wrong("qemu or lxc"),
    };
    let config: Config = guest.get("config").read()?;
    let mut restored = Guest::new(kind, &guest.get("node").text()?, config);
    restored.pending = guest.get("pending").read()?;
    restored.snapshots = guest.get("snapshots").map(|snapshot| {
        Ok(Snapshot {
            config: snapshot.get("config").read()?,
            parent: snapshot.get("parent").read()?,
            time: snapshot.get("time").read()?,
            description: snapshot.get("description").read()?,
            vmstate: snapshot.get("vmstate").read()?,
            files: snapshot.get("files").optional(|files| {
                crate::guest_agent::output::files_from_json(files.value)
                    .map_or_else(|| files.wrong("files"), Ok)
            })?,
        })
    })?;
    restored.parent = guest.get("parent").read()?;
    restored.lock = guest.get("lock").read()?;
    restored.started = guest.get("started").optional(Located::time)?.map(shift);
    restored.paused = guest.get("paused").read()?;
    restored.pool = guest.get("pool").read()?;
    restored.up = guest.get("up").optional(Located::time)?.map(shift);
    let inside = guest.get("inside").optional(|inside| {
        Inside::from_json(inside.value, shift)
            .map_or_else(|| inside.wrong("the inside of a guest"), Ok)
    })?;
    restored.inside = inside.map(Box::new);
    Ok(restored)
}

fn read_task(
    task: &Located<'_>,
    shift: &impl Fn(Duration) -> Duration,
    now: Duration,
) -> Read<Task> {
    let lines: Vec<(u64, String)> = task.get("lines").read()?;
    let end: Option<(u64, String)> = task.get("end").read()?;
    let mut restored = Task {
        upid: task.get("upid").text()?,
        node: task.get("node").text()?,
        pid: task.get("pid").read()?,
        pstart: task.get("pstart").read()?,
        start: shift(task.get("start").time()?),
        kind: task.get("kind").text()?,
        id: task.get("id").text()?,
        owner: Identity {
            user: task.get("user").text()?,
            token: task.get("token").read()?,
        },
        lines: lines
            .into_iter()
            .map(|(at, line)| (shift(Duration::from_millis(at)), line))
            .collect(),
        end: end.map(|(at, status)| (shift(Duration::from_millis(at)), status)),
    };
    if restored.running() {
        restored.finish(now, Err("received interrupt"));
    }
    Ok(restored)
}

fn read_access(cluster: &mut Cluster, from: &Located<'_>) -> Read<()> {
    let access = &mut cluster.access;
    access.users = from.get("users").map(|user| {
        Ok(User {
            password: user.get("password").text()?,
            totp: user.get("totp").read()?,
            enabled: user.get("enabled").read()?,
            settings: user.get("settings").read()?,
            tokens: user.get("tokens").map(|token| {
                Ok(Token {
                    secret: token.get("secret").text()?,
                    expire: token.get("expire").read()?,
                    privsep: token.get("privsep").read()?,
                    comment: token.get("comment").read()?,
                })
            })?,
        })
    })?;
    access.groups = from.get("groups").map(|group| {
        Ok(Group {
            comment: group.get("comment").read()?,
            users: group.get("users").read()?,
        })
    })?;
    access.roles.retain(|_, role| role.builtin);
    access.roles.extend(from.get("roles").map(|role| {
        Ok(Role {
            privileges: role.read()?,
            builtin: false,
        })
    })?);
    access.rules = from.get("rules").list(|rule| {
        let subject = match rule.get("type").text()?.as_str() {
            "user" => Subject::User,
            "group" => Subject::Group,
            "token" => Subject::Token,
            _ => return rule.get("type").wrong("user, group or token"),
        };
        Ok(Rule {
            path: rule.get("path").text()?,
            subject,
            ugid: rule.get("who").text()?,
            role: rule.get("role").text()?,
            propagate: rule.get("propagate").read()?,
        })
    })?;
    Ok(())
}
