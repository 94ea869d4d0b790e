//! The guest agent of a virtual machine, and a container's interfaces.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::guest_agent::output::{is_directory, refuse_write};
use crate::guest_agent::{Inside, as_bytes, as_characters};
use crate::params::Param;
use crate::state::effect::Effect;
use crate::state::guest::{GuestEffect, Kind, network};

/// Bytes that the server reads from the agent at a time.
const PIECE: usize = 1 << 20;

const MAX_READ: u64 = 16 << 20;

/// Commands that the agent accepts while the file systems are frozen.
const WHILE_FROZEN: [&str; 4] = ["fsfreeze-status", "fsfreeze-thaw", "info", "ping"];

const BLOCK: u64 = 128 << 20;

/// Answers a call below `/nodes/{node}/qemu/{vmid}/agent`.
pub(super) fn handle(call: &mut Call<'_>, command: &str) -> ApiResult<Reply> {
    let command = match command {
        "" => call.owned("command"),
        named => named.to_owned(),
    };
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    call.cluster.guest(Kind::Qemu, &node, vmid)?;
    match command.as_str() {
        "exec" => exec(call, vmid),
        "exec-status" => status(call, vmid),
        "file-read" => read(call, vmid),
        "file-write" => write(call, vmid),
        "set-user-password" => {
            accepting(call, vmid, "set-user-password")?;
            Ok(Reply::data(json!({ "result": {} })))
        }
        // Errors of commands without parameters are part of their results.
        plain => {
            available(call, vmid)?;
            let result = match disabled(call, vmid, plain) {
                Some(text) => json!({ "error": { "class": "CommandNotFound", "desc": text } }),
                None => result_of(call, vmid, plain)?,
            };
            Ok(Reply::data(json!({ "result": result })))
        }
    }
}

fn agent_error(text: &str) -> ApiError {
    ApiError::die(format!("Agent error: {text}"))
}

fn unopened(path: &str, mode: &str, problem: &str) -> ApiError {
    agent_error(&format!(
        "failed to open file '{path}' (mode: '{mode}'): {problem}"
    ))
}

/// Whether the agent responds.
fn available(call: &Call<'_>, vmid: u32) -> ApiResult<()> {
    let guest = call.cluster.guest(Kind::Qemu, &call.owned("node"), vmid)?;
    let silent = guest.inside.as_ref().is_some_and(|inside| inside.silent);
    let booting = guest.up.is_some_and(|up| up > call.cluster.now);
    if !guest.config.contains_key("agent") {
        Err(ApiError::die("No QEMU guest agent configured"))
    } else if !guest.running() {
        Err(ApiError::die(format!("VM {vmid} is not running")))
    } else if !guest.has_agent() || guest.paused || silent || booting {
        Err(ApiError::die("QEMU guest agent is not running"))
    } else {
        Ok(())
    }
}

/// The reason why the agent does not accept a command now.
fn disabled(call: &Call<'_>, vmid: u32, command: &str) -> Option<String> {
    let inside = call.cluster.guests.get(&vmid)?.inside.as_ref()?;
    (inside.frozen && !WHILE_FROZEN.contains(&command))
        .then(|| format!("Command guest-{command} has been disabled: the agent is in frozen state"))
}

/// The guest's inside, if its agent accepts this command.
fn accepting<'a>(call: &'a mut Call<'_>, vmid: u32, command: &str) -> ApiResult<&'a mut Inside> {
    available(call, vmid)?;
    if let Some(text) = disabled(call, vmid, command) {
        return Err(agent_error(&text));
    }
    inside(call, vmid)
}

fn inside<'a>(call: &'a mut Call<'_>, vmid: u32) -> ApiResult<&'a mut Inside> {
    call.cluster
        .guests
        .get_mut(&vmid)
        .map(|guest| guest.inside(vmid))
        .ok_or_else(|| ApiError::die(format!("VM {vmid} is not running")))
}

/// Text as bytes for the agent; the real server fails on a character that needs more than one.
fn narrow(text: &str) -> ApiResult<Vec<u8>> {
    as_bytes(text).ok_or_else(|| {
        ApiError::die(
            "Wide character in subroutine entry at /usr/share/perl5/PVE/QemuServer/Agent.pm line 135.",
        )
    })
}

fn exec(call: &mut Call<'_>, vmid: u32) -> ApiResult<Reply> {
    let words: Vec<String> = match call.params.get("command") {
        Some(Param::List(items)) => items
            .iter()
            .filter_map(Param::text)
            .map(str::to_owned)
            .collect(),
        // Before 8.0 the command is one text, with zero bytes or spaces between the words.
        Some(Param::Text(text)) if text.contains('\0') => {
            text.split('\0').map(str::to_owned).collect()
        }
        Some(Param::Text(text)) => split_list(text).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let input = call.text("input-data").map(narrow).transpose()?;
    if words.is_empty() && input.is_none() {
        return Err(ApiError::die("command or input-data (or both) required"));
    }
    let (now, factor) = (call.cluster.now, call.cluster.factor);
    let inside = accepting(call, vmid, "exec")?;
    if words.is_empty() {
        return Err(agent_error("Parameter 'path' is missing"));
    }
    inside
        .run(&words, &input.unwrap_or_default(), now, factor)
        .map(|pid| Reply::data(json!({ "pid": pid })))
        .map_err(|text| agent_error(&text))
}

fn write(call: &mut Call<'_>, vmid: u32) -> ApiResult<Reply> {
    let (path, text) = (call.owned("file"), call.owned("content"));
    let encoded = call.text("encode") == Some("0");
    let narrowed = if encoded { Vec::new() } else { narrow(&text)? };
    let inside = accepting(call, vmid, "file-open")?;
    if let Some(problem) = refuse_write(&inside.files, &path) {
        return Err(unopened(&path, "wb", problem));
    }
    let content = if encoded {
        let text: String = text.split_ascii_whitespace().collect();
        STANDARD
            .decode(text)
            .map_err(|_| agent_error("'buf-b64' does not look like base64"))?
    } else {
        narrowed
    };
    inside.files.insert(path, Arc::new(content));
    Ok(Reply::data(Value::Null))
}

fn status(call: &mut Call<'_>, vmid: u32) -> ApiResult<Reply> {
    let (pid, now) = (call.owned("pid"), call.cluster.now);
    let inside = accepting(call, vmid, "exec-status")?;
    let known = pid.parse().ok().and_then(|pid| inside.status(pid, now));
    known
        .map(Reply::data)
        .ok_or_else(|| agent_error(&format!("PID {pid} does not exist")))
}

fn read(call: &mut Call<'_>, vmid: u32) -> ApiResult<Reply> {
    let path = call.owned("file");
    let size = |name: &str| usize::try_from(call.number(name)?).ok();
    let max = usize::try_from(MAX_READ).unwrap_or(usize::MAX);
    let (offset, count) = (size("offset").unwrap_or(0), size("count").unwrap_or(max));
    let decode = call.text("decode") != Some("0");
    let inside = accepting(call, vmid, "file-open")?;
    let Some(file) = inside.files.get(&path) else {
        let problem = if is_directory(&inside.files, &path) {
            "Is a directory"
        } else {
            "No such file or directory"
        };
        return Err(unopened(&path, "r", problem));
    };
    let mut left = file.get(offset..).unwrap_or_default();
    let mut content = String::new();
    let (mut read, mut ended) = (0, false);
    // Each chunk is encoded separately, so there can be padding in the middle of content that is
    // not decoded.
    while read < count && !ended {
        let length = PIECE.min(count - read);
        let (piece, rest) = left.split_at(length.min(left.len()));
        ended = piece.len() < length;
        left = rest;
        read += piece.len();
        content.push_str(&if decode {
            as_characters(piece)
        } else {
            STANDARD.encode(piece)
        });
    }
    let mut answer = json!({ "content": content, "bytes-read": read });
    if !ended {
        answer["truncated"] = json!(1);
    }
    Ok(Reply::data(answer))
}

/// The commands without parameters.
fn result_of(call: &mut Call<'_>, vmid: u32, command: &str) -> ApiResult<Value> {
    let now = call.cluster.now;
    let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    match command {
        "fsfreeze-freeze" | "fsfreeze-thaw" => {
            let inside = inside(call, vmid)?;
            let freeze = command == "fsfreeze-freeze";
            let changed = inside.frozen != freeze;
            inside.frozen = freeze;
            return Ok(json!(u8::from(changed)));
        }
        "shutdown" | "suspend-disk" | "suspend-ram" | "suspend-hybrid" => {
            let effect = match command {
                "suspend-ram" | "suspend-hybrid" => GuestEffect::Suspend { to_disk: false },
                _ => GuestEffect::Stop,
            };
            call.cluster.schedule(1.0, Effect::Guest(vmid, effect));
            return Ok(Value::Null);
        }
        _ => {}
    }
    let node = call.owned("node");
    let guest = call.cluster.guest(Kind::Qemu, &node, vmid)?;
    let windows = guest.config.get("ostype").is_some_and(|os| {
        os.starts_with("win") || matches!(os.as_str(), "wxp" | "w2k" | "w2k3" | "w2k8" | "wvista")
    });
    let size = guest.disk_size();
    Ok(match command {
        "ping" => json!({}),
        "fsfreeze-status" => {
            let frozen = guest.inside.as_ref().is_some_and(|inside| inside.frozen);
            json!(if frozen { "frozen" } else { "thawed" })
        }
        "fstrim" => json!({ "paths": [{ "path": "/", "minimum": 0, "trimmed": size / 2 }] }),
        "get-fsinfo" => json!([{
            "name": if windows { r"\\?\Volume{5f1a8a60-0000-0000-0000-100000000000}\" } else { "sda1" },
            "mountpoint": if windows { r"C:\" } else { "/" },
            "type": if windows { "NTFS" } else { "ext4" },
            "total-bytes": size, "used-bytes": size / 4,
            "disk": [{
                "bus-type": "scsi", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/sda", "serial": "0QEMU_QEMU_HARDDISK",
                "pci-controller": { "domain": 0, "bus": 1, "slot": 1, "function": 0 },
            }],
        }]),
        "get-host-name" => {
            let name = guest.inside.as_ref().map(|inside| inside.hostname());
            json!({ "host-name": name.unwrap_or_else(|| guest.name(vmid).replace(' ', "-")) })
        }
        "get-memory-block-info" => json!({ "size": BLOCK }),
        "get-memory-blocks" => (0..guest.memory().div_ceil(BLOCK))
            .map(|index| json!({ "phys-index": index, "online": true, "can-offline": index > 0 }))
            .collect(),
        "get-osinfo" if windows => json!({
            "id": "mswindows", "name": "Microsoft Windows", "pretty-name": "Windows Server 2025 Standard",
            "version": "Microsoft Windows Server 2025", "version-id": "2025", "variant": "server",
            "variant-id": "server", "kernel-release": "26100", "kernel-version": "10.0", "machine": "x86_64",
        }),
        "get-osinfo" => json!({
            "id": "debian", "name": "Debian GNU/Linux", "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)", "version-id": "13", "kernel-release": "6.12.48+deb13-amd64",
            "kernel-version": "#1 SMP", "machine": "x86_64",
        }),
        "get-time" => json!(nanoseconds),
        "get-timezone" => json!({ "offset": 0, "zone": "UTC" }),
        "get-users" => json!([]),
        "get-vcpus" => (0..guest.cpus())
            .map(|id| json!({ "logical-id": id, "online": true, "can-offline": id > 0 }))
            .collect(),
        "network-get-interfaces" => network::interfaces(vmid, guest)
            .iter()
            .map(|interface| {
                json!({
                    "name": interface.name, "hardware-address": interface.mac,
                    "ip-addresses": network::addresses(interface),
                    "statistics": {
                        "rx-bytes": 120_000, "rx-packets": 900, "rx-errs": 0, "rx-dropped": 0,
                        "tx-bytes": 60_000, "tx-packets": 700, "tx-errs": 0, "tx-dropped": 0,
                    },
                })
            })
            .collect(),
        "info" => json!({ "version": "10.1.2", "supported_commands": supported() }),
        other => json!({ "error": {
            "class": "CommandNotFound", "desc": format!("The command guest-{other} has not been found"),
        } }),
    })
}

fn supported() -> Value {
    [
        "exec", "exec-status", "file-close", "file-open", "file-read", "file-seek", "file-write", "fsfreeze-freeze",
        "fsfreeze-status", "fsfreeze-thaw", "fstrim", "get-fsinfo", "get-host-name", "get-memory-block-info",
        "get-memory-blocks", "get-osinfo", "get-time", "get-timezone", "get-users", "get-vcpus", "info",
        "network-get-interfaces", "ping", "set-user-password", "shutdown", "suspend-disk", "suspend-hybrid",
        "suspend-ram",
    ]
    .iter()
    .map(|name| json!({ "name": format!("guest-{name}"), "enabled": true, "success-response": true }))
    .collect()
}

/// `GET /nodes/{node}/lxc/{vmid}/interfaces`.
pub(super) fn container_interfaces(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, vmid) = (call.owned("node"), call.vmid("vmid"));
    let guest = call.cluster.guest(Kind::Lxc, &node, vmid)?;
    if !guest.running() {
        return Ok(Reply::data(Value::Null));
    }
    let rows = network::interfaces(vmid, guest);
    let rows = rows.iter().map(|interface| {
        let mut row = json!({
            "name": interface.name, "hwaddr": interface.mac, "hardware-address": interface.mac,
        });
        // The names of the address families differ from the guest agent's.
        row["ip-addresses"] = interface
            .addresses
            .iter()
            .map(|(ip, prefix)| {
                let family = if ip.contains(':') { "inet6" } else { "inet" };
                json!({ "ip-address": ip, "ip-address-type": family, "prefix": prefix })
            })
            .collect();
        for (ip, prefix) in &interface.addresses {
            let key = if ip.contains(':') { "inet6" } else { "inet" };
            if row.get(key).is_none() {
                row[key] = json!(format!("{ip}/{prefix}"));
            }
        }
        row
    });
    Ok(Reply::data(rows.collect::<Value>()))
}
