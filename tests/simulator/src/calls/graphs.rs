//! Graphs of recorded figures.

use serde_json::json;

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::state::cluster::answers::{NODE_PRESSURE, PRESSURE};
use crate::state::guest::Kind;

const NODE: [&str; 12] = [
    "loadavg",
    "maxcpu",
    "cpu",
    "iowait",
    "memtotal",
    "memused",
    "swaptotal",
    "swapused",
    "roottotal",
    "rootused",
    "netin",
    "netout",
];
/// Since 9.0, of nodes.
const LATER_NODE: [&str; 2] = ["memavailable", "arcsize"];
const GUEST: [&str; 10] = [
    "maxcpu",
    "cpu",
    "maxmem",
    "mem",
    "maxdisk",
    "disk",
    "netin",
    "netout",
    "diskread",
    "diskwrite",
];
/// Since 9.0, of guests.
const LATER_GUEST: [&str; 1] = ["memhost"];
/// How many lines a graph has colours for.
const COLOURS: usize = 2;

fn since_9(call: &Call<'_>) -> bool {
    call.cluster.schema.release().major >= 9
}

pub(super) fn node(call: &Call<'_>) -> ApiResult<Reply> {
    let folder = match since_9(call) {
        true => "pve-node-9.0",
        false => "pve2-node",
    };
    let name = call.owned("node");
    let exists = call.cluster.node(&name).is_some();
    graph(
        call,
        &format!("{folder}/{name}"),
        exists,
        &[&NODE],
        &[&LATER_NODE, NODE_PRESSURE],
    )
}

pub(super) fn guest(call: &Call<'_>, kind: Kind) -> ApiResult<Reply> {
    let vmid = call.vmid("vmid");
    let exists = (call.cluster.guests.get(&vmid)).is_some_and(|guest| guest.kind == kind);
    let file = guest_file(call, vmid);
    graph(call, &file, exists, &[&GUEST], &[&LATER_GUEST, &PRESSURE])
}

/// Where the figures of a guest are.
pub(super) fn guest_file(call: &Call<'_>, vmid: u32) -> String {
    match since_9(call) {
        true => format!("pve-vm-9.0/{vmid}"),
        false => format!("pve2-vm/{vmid}"),
    }
}

/// The handler has kept the old folder, which a server set up with 9 does not have.
pub(super) fn storage(call: &Call<'_>) -> ApiResult<Reply> {
    let (node, storage) = (call.owned("node"), call.owned("storage"));
    let exists = !since_9(call) && call.cluster.storages.contains_key(&storage);
    graph(
        call,
        &format!("pve2-storage/{node}/{storage}"),
        exists,
        &[&["total", "used"]],
        &[],
    )
}

/// The refusal where there are no figures.
pub(super) fn missing(file: &str) -> ApiError {
    ApiError::die(format!(
        "RRD error: opening '/var/lib/rrdcached/db/{file}': No such file or directory"
    ))
}

fn graph(
    call: &Call<'_>,
    file: &str,
    exists: bool,
    sources: &[&[&str]],
    later_sources: &[&[&str]],
) -> ApiResult<Reply> {
    let requested: Vec<&str> = split_list(call.text("ds").unwrap_or("")).collect();
    if requested.len() > COLOURS {
        return Err(ApiError::die("fixme: no color definition"));
    }
    if !exists {
        return Err(missing(file));
    }
    let later = since_9(call);
    let known = |name: &&str| {
        let also = later_sources.iter().filter(|_| later);
        sources.iter().chain(also).any(|names| names.contains(name))
    };
    if let Some(unknown) = requested.iter().find(|name| !known(name)) {
        return Err(ApiError::die(format!(
            "RRD error: No DS called '{unknown}' in '/var/lib/rrdcached/db/{file}'"
        )));
    }
    Ok(Reply::data(json!({
        "filename": format!("/var/lib/rrdcached/db/{file}_{}.png", requested.join("_")),
        "image": "\u{89}PNG\r\n\u{1a}\n",
    })))
}
