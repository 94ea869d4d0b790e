//! Consoles: tickets for terminals and displays, and the connections made with them.

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::console::{Console, Screen};
use crate::formats::split_list;
use crate::schema::lookup;
use crate::state::cluster::Cluster;
use crate::state::config::Config;
use crate::state::guest::{Guest, Kind};

/// The target of a console: its access path, its displayed name, and whether it is off.
fn place(call: &Call<'_>, guest: Option<Kind>) -> ApiResult<(String, String, bool)> {
    let node = call.owned("node");
    match guest {
        Some(kind) => {
            let vmid = call.vmid("vmid");
            let guest = call.cluster.guest(kind, &node, vmid)?;
            Ok((
                format!("/vms/{vmid}"),
                guest.name(vmid).replace(' ', "-"),
                !guest.running(),
            ))
        }
        None => Ok((format!("/nodes/{node}"), node, false)),
    }
}

fn has_field(call: &Call<'_>, name: &str) -> bool {
    call.endpoint
        .returns
        .properties
        .as_ref()
        .is_some_and(|properties| lookup(properties, name).is_some())
}

/// `vncproxy`, `vncshell` and `termproxy`.
pub(super) fn proxy(
    call: &mut Call<'_>,
    guest: Option<Kind>,
    task: &str,
    screen: Screen,
) -> ApiResult<Reply> {
    if task == "vncshell" && screen == Screen::Display && call.caller.token.is_some() {
        return Err(ApiError::die(format!(
            "value '{}' does not look like a valid user name",
            call.caller.full()
        )));
    }
    let (path, host, dead) = place(call, guest)?;
    let user = call.caller.full();
    // The display of a virtual machine has a password unless it is a serial port.
    let serial = call
        .cluster
        .guests
        .get(&call.vmid("vmid"))
        .is_some_and(|guest| {
            let display = guest.config.get("vga").map_or("", String::as_str);
            display.trim_start_matches("type=").starts_with("serial")
        });
    let wants_password = call.flag("websocket")
        || call.flag("generate-password")
        || guest == Some(Kind::Qemu) && !serial;
    let password = (screen == Screen::Display && wants_password).then(|| {
        let bits = call.cluster.random();
        format!("{:08x}", bits >> 32)
    });
    let id = call.text("vmid").unwrap_or("").to_owned();
    let node = call.owned("node");
    let caller = call.caller.clone();
    let upid = call.cluster.start_open_ended(&node, task, &id, &caller);
    let cluster = &mut *call.cluster;
    // The requested node connects to the guest's node itself, and only then notices that it is
    // down.
    let away = cluster.node(&node).is_none_or(|node| !node.online);
    if away {
        let text = "command '/usr/bin/termproxy' failed: exit code 255";
        cluster.end_task(&upid, Err(text));
    } else if dead {
        let noun = guest.map_or("VM", Kind::noun);
        cluster.end_task(&upid, Err(&format!("{noun} {id} not running")));
    }
    let dead = dead || away;
    let port = cluster.free_port();
    let ticket = cluster
        .access
        .console_ticket(&path, &user, port, cluster.now);
    let ticket_text = match &password {
        Some(password) => format!("{password}:{ticket}"),
        None => ticket.clone(),
    };
    cluster.open_console(Console {
        port,
        path,
        user: user.clone(),
        ticket,
        password: password.clone(),
        upid: upid.clone(),
        screen,
        host,
        dead,
        issued: cluster.now,
        links: 0,
    });
    // In some releases the port is a string, contrary to the schema.
    let mut answer =
        json!({ "user": user, "ticket": ticket_text, "port": port.to_string(), "upid": upid });
    if screen == Screen::Display {
        answer["cert"] = json!(call.cluster.ca_pem);
        if let Some(password) = password.filter(|_| has_field(call, "password")) {
            answer["password"] = json!(password);
        }
    }
    Ok(Reply::data(answer))
}

/// `vncwebsocket`; without an upgrade it only checks the ticket.
pub(super) fn connect(call: &mut Call<'_>, guest: Option<Kind>) -> ApiResult<Reply> {
    let path = match guest {
        Some(_) => format!("/vms/{}", call.vmid("vmid")),
        None => format!("/nodes/{}", call.owned("node")),
    };
    let (port, ticket) = (call.owned("port"), call.owned("vncticket"));
    let user = call.caller.full();
    let console = call
        .cluster
        .consoles
        .iter()
        .find(|console| {
            console.port.to_string() == port
                && console.path == path
                && console.user == user
                && console.takes(&ticket)
        })
        .cloned()
        .ok_or_else(|| ApiError::raise(401, "permission denied - invalid PVEVNC ticket"))?;
    Ok(Reply {
        console: Some(console),
        ..Reply::data(json!({ "port": port }))
    })
}

/// `POST /access/vncticket`, with which a terminal verifies its ticket.
pub(super) fn check_ticket(call: &Call<'_>) -> ApiResult<Reply> {
    let (user, path, ticket) = (
        call.owned("authid"),
        call.owned("path"),
        call.owned("vncticket"),
    );
    let known = call
        .cluster
        .consoles
        .iter()
        .any(|console| console.user == user && console.path == path && console.takes(&ticket));
    if known {
        Ok(Reply::data(Value::Null))
    } else {
        Err(ApiError::raise(401, "authentication failure"))
    }
}

/// The connection data of a SPICE viewer.
pub(super) fn spice(call: &mut Call<'_>, guest: Option<Kind>) -> ApiResult<Reply> {
    let (_, host, dead) = place(call, guest)?;
    let node = call.owned("node");
    if dead {
        let noun = guest.map_or("VM", Kind::noun);
        return Err(ApiError::die(format!(
            "{noun} {} not running",
            call.vmid("vmid")
        )));
    }
    let id = call.text("vmid").unwrap_or("").to_owned();
    let caller = call.caller.clone();
    let now = call.cluster.now;
    // The display behind the proxy sends nothing, so the task ends immediately.
    let upid = call
        .cluster
        .start_open_ended(&node, "spiceproxy", &id, &caller);
    call.cluster.end_task(&upid, Ok(0));
    let proxy = call.text("proxy").unwrap_or(&node).to_owned();
    let proxy = if proxy.contains("://") {
        proxy
    } else {
        format!("http://{proxy}:{}", call.cluster.spice_port)
    };
    let port = 61_000;
    let ticket = call
        .cluster
        .access
        .spice_ticket(call.vmid("vmid"), &node, port, now);
    let title = match guest {
        Some(_) => format!("VM {id} - {host}"),
        None => format!("Shell on '{node}'"),
    };
    Ok(Reply::data(json!({
        "type": "spice",
        "title": title,
        "host": ticket,
        "tls-port": port,
        "proxy": proxy,
        "password": format!("{:016x}", call.cluster.random()),
        "ca": Cluster::one_line(&call.cluster.ca_pem),
        "host-subject": format!("CN={node}"),
        "delete-this-file": 1,
        "secure-attention": "Ctrl+Alt+Ins",
        "toggle-fullscreen": "Shift+F11",
        "release-cursor": "Ctrl+Alt+R",
    })))
}

/// `mtunnel`: reserves the number for a guest from another cluster.
pub(super) fn tunnel(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    for storage in split_list(&call.owned("storages")) {
        call.cluster.storage(storage)?;
    }
    if call.cluster.guests.contains_key(&vmid) {
        let noun = kind.noun();
        return Err(ApiError::parameter(
            "vmid",
            format!("unable to create empty {noun} config - {noun} {vmid} already exists"),
        ));
    }
    let mut guest = Guest::new(kind, &node, Config::new());
    guest.lock = Some("create".into());
    call.cluster.guests.insert(vmid, guest);
    let (folder, task) = match kind {
        Kind::Qemu => ("qemu-server", "qmtunnel"),
        Kind::Lxc => ("lxc", "vzmtunnel"),
    };
    let socket = format!("/run/{folder}/{vmid}.mtunnel");
    let (user, caller) = (call.caller.full(), call.caller.clone());
    let cluster = &mut *call.cluster;
    let upid = cluster.start_open_ended(&node, task, &vmid.to_string(), &caller);
    let ticket = cluster.access.tunnel_ticket(&socket, &user, cluster.now);
    cluster.open_console(Console {
        port: 0,
        path: socket.clone(),
        user,
        ticket: ticket.clone(),
        password: None,
        upid: upid.clone(),
        screen: Screen::Tunnel,
        host: vmid.to_string(),
        dead: false,
        issued: cluster.now,
        links: 0,
    });
    Ok(Reply::data(
        json!({ "ticket": ticket, "upid": upid, "socket": socket }),
    ))
}

/// `mtunnelwebsocket`.
pub(super) fn enter_tunnel(call: &mut Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.cluster.guest(kind, &node, vmid)?;
    let (socket, ticket, user) = (
        call.owned("socket"),
        call.owned("ticket"),
        call.caller.full(),
    );
    let mut consoles = call.cluster.consoles.iter();
    let console = consoles
        .find(|console| {
            console.screen == Screen::Tunnel
                && console.path == socket
                && console.user == user
                && console.takes(&ticket)
        })
        .cloned()
        .ok_or_else(|| ApiError::raise(401, "permission denied - invalid PVETUNNEL ticket"))?;
    Ok(Reply {
        console: Some(console),
        ..Reply::data(json!({ "socket": socket }))
    })
}
