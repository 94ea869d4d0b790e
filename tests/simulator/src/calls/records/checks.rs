//! Requirements on an entry beyond its parameters, and its refusals.

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::records::paths::NETWORK;
use crate::calls::records::rows::{List, field, listed};
use crate::calls::{ha, notifications, sdn, sections};
use crate::formats::split_list;
use crate::state::cluster::Cluster;
use crate::state::records::{MATCHERS, NOTIFICATION_ENDPOINTS, Row};

/// Adds derived members of an entry, and refuses invalid ones.
pub(crate) fn enrich(call: &Call<'_>, list: &str, id: &str, row: &mut Row) -> ApiResult<()> {
    let cluster = &*call.cluster;
    let mut set = |key: &str, value: Value| {
        row.entry(key.to_owned()).or_insert(value);
    };
    match list {
        path if path.ends_with("/firewall/aliases") => {
            let six = call.text("cidr").is_some_and(|cidr| cidr.contains(':'));
            set("ipversion", json!(if six { 6 } else { 4 }));
        }
        "/cluster/backup" => {
            verify_backup(call)?;
            set("enabled", json!("1"));
            set("type", json!("vzdump"));
        }
        "/cluster/replication" => {
            let (vmid, number) = id.split_once('-').unwrap_or((id, "0"));
            let guest = vmid.parse().ok().and_then(|vmid| cluster.guests.get(&vmid));
            let Some(guest) = guest else {
                return Err(ApiError::die(format!("Guest '{vmid}' does not exist.")));
            };
            let target = call.text("target").unwrap_or("");
            if cluster.node(target).is_none() {
                return Err(ApiError::die(format!("Target '{target}' does not exist.")));
            }
            if target == guest.node {
                return Err(ApiError::die("Source and target must not be identical"));
            }
            set("guest", json!(vmid));
            set("jobnum", json!(number));
            set("source", json!(guest.node));
        }
        "/cluster/jobs/realm-sync" if !call.params.contains_key("scope") => {
            return Err(ApiError::die("missing value for required option 'scope'"));
        }
        path if path.ends_with("/ipset/{name}")
            && call.text("cidr").is_some_and(|cidr| cidr.ends_with("/0")) =>
        {
            let text = "a zero prefix is not allowed in ipset entries";
            return Err(ApiError::parameter("cidr", text));
        }
        NETWORK => {
            set(
                "method",
                json!(if call.text("cidr").or(call.text("address")).is_some() {
                    "static"
                } else {
                    "manual"
                }),
            );
            set(
                "method6",
                json!(if call.text("cidr6").or(call.text("address6")).is_some() {
                    "static"
                } else {
                    "manual"
                }),
            );
            set("families", json!(["inet"]));
            set("priority", json!("10"));
        }
        path if path == MATCHERS || path.starts_with(NOTIFICATION_ENDPOINTS) => {
            set("origin", json!("user-created"));
        }
        path if path.starts_with("/cluster/ha/") => ha::enrich(call, path, id, row)?,
        path if path.starts_with("/cluster/sdn/") => sdn::enrich(call, path, id, row)?,
        _ => {}
    }
    Ok(())
}

/// Refuses a backup job with missing or contradicting settings. Most checks run under a lock, so
/// the refusal of a parameter is a plain text.
fn verify_backup(call: &Call<'_>) -> ApiResult<()> {
    let given = |name: &str| call.text(name).is_some_and(|text| !text.is_empty());
    let set = |name: &str| call.flag(name);
    if let Some(pool) = call.text("pool").filter(|pool| !pool.is_empty())
        && !call.cluster.pools.contains_key(pool)
    {
        return Err(ApiError::permission(&format!(
            "pool '{pool}' does not exist"
        )));
    }
    match (given("schedule"), given("starttime")) {
        (true, true) => {
            let text = "'starttime' and 'schedule' cannot both be set";
            return Err(ApiError::parameter("starttime", text));
        }
        (false, false) => {
            let text = "neither 'starttime' nor 'schedule' were set";
            return Err(ApiError::parameter("schedule", text));
        }
        _ => {}
    }
    let refuse = |name: &str, text: &str| {
        Err(ApiError::die(format!(
            "400 Parameter verification failed.\n{name}: {text}"
        )))
    };
    let chosen = given("vmid");
    for (name, also) in [
        ("all", set("all")),
        ("exclude", given("exclude")),
        ("pool", given("pool")),
    ] {
        if chosen && also {
            return refuse(name, "option conflicts with option 'vmid'");
        }
    }
    let everything = set("all") || given("exclude") || set("stop") || given("pool");
    if !chosen && !everything {
        return refuse("vmid", "property is missing");
    }
    Ok(())
}

/// Refuses an invalid change of an entry.
pub(crate) fn may_change(
    call: &Call<'_>,
    list: &List<'_>,
    id: &str,
    row: &Row,
    planned: &Row,
) -> ApiResult<()> {
    let names: Vec<&str> = row
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "type")
        .collect();
    let delete = listed(call.params.get("delete")).join(",");
    let deleted: Vec<&str> = split_list(&delete).collect();
    let kind = field(planned, "type").as_str().unwrap_or("");
    let operation = match list.path.strip_prefix("/cluster/sdn/") {
        Some(what) => format!("update sdn {} object failed: ", what.trim_end_matches('s')),
        None => String::new(),
    };
    // The name of this list ends in `s` in the singular, too.
    let operation = operation.replace(" dn object", " dns object");
    sections::check_changed(list.path, kind, &names, &deleted)
        .map_err(|text| ApiError::die(format!("{operation}{text}")))?;
    if list.path.starts_with("/cluster/sdn/") {
        sdn::verify(call, list.path, id, planned, false)?;
    } else if list.path == "/cluster/ha/rules" {
        ha::verify(call, id, planned, false)?;
    }
    notifications::check_entry(call, list.path, planned)
}

/// An entry of a set requires the set, and the alias that it names.
pub(crate) fn needs_set(call: &Call<'_>, key: &str, cidr: &str) -> ApiResult<()> {
    let has = |list: &str, name: &str| {
        let mut rows = call.cluster.rows(list).iter();
        rows.any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let (sets, name) = key.rsplit_once('/').unwrap_or_default();
    if !has(sets, name) {
        return Err(ApiError::die(format!("no such IPSet '{name}'")));
    }
    let alias = cidr.trim_start_matches("dc/").trim_start_matches("guest/");
    let place = sets.trim_end_matches("/ipset");
    let named = alias.starts_with(|c: char| c.is_ascii_alphabetic()) && !alias.contains(':');
    if named && !has(&format!("{place}/aliases"), alias) && !has("/cluster/firewall/aliases", alias)
    {
        return Err(ApiError::die(format!("no such alias '{cidr}'")));
    }
    Ok(())
}

pub(crate) fn move_children(cluster: &mut Cluster, from: &str, to: &str) {
    let below: Vec<String> = cluster
        .records
        .keys()
        .filter(|key| *key == from || key.starts_with(&format!("{from}/")))
        .cloned()
        .collect();
    for key in below {
        if let Some(rows) = cluster.records.remove(&key) {
            cluster.records.insert(key.replacen(from, to, 1), rows);
        }
    }
}
