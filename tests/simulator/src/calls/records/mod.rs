//! Configuration that is stored as given: firewall, HA, SDN, jobs, networks, and other lists of
//! entries or sets of options.
//!
//! The schema shows which paths are lists, and of what. A list starts empty and refuses unknown
//! ids, unless a new installation has entries in it.

pub(crate) mod checks;
pub(crate) mod options;
pub(crate) mod paths;
pub(crate) mod refusals;
pub(crate) mod rows;
pub(crate) mod special;

use proxmox_codegen::facts::{Method, Type};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::answers::View;
use crate::calls::call::{Call, Reply};
use crate::calls::records::checks::{enrich, may_change, move_children, needs_set};
use crate::calls::records::options::options;
use crate::calls::records::paths::{ALIASES, ENTRIES, NETWORK, parameter, strict};
use crate::calls::records::refusals::{absent, already_exists_error, missing, noun};
use crate::calls::records::rows::{
    List, Shape, check_digest, field, listed, parameter_row, place, planned, with_id,
};
use crate::calls::records::special::other;
use crate::calls::{answers, ha, network, notifications, ports, rules, sdn, sections};
use crate::formats::split_list;
use crate::schema::{is_task, returns_type};
use crate::state::records::digest;

/// Answers from stored configuration; `None` leaves the call to the samples.
pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let path = call.path.to_owned();
    if path.starts_with("/cluster/sdn/vnets/{vnet}/firewall/") && !sdn::has_vnet(call) {
        return Some(Err(ApiError::die("invalid vnet specified")));
    }
    if let Some(answer) = network::handle(call)
        .or_else(|| ha::handle(call))
        .or_else(|| sdn::handle(call))
        .or_else(|| other(call))
    {
        return Some(answer);
    }
    if is_task(call.method, &path, call.endpoint) {
        return None;
    }
    let rules = path.ends_with("/firewall/rules")
        || path.ends_with("/firewall/rules/{pos}")
        || path == "/cluster/firewall/groups/{group}" && call.method != Method::Delete
        || path == "/cluster/firewall/groups/{group}/{pos}";
    if rules {
        return Some(rules::handle(call));
    }
    let list_at = |path: &str| -> Option<(String, String)> {
        let item = schema.item_of(path)?;
        let returns = &schema.endpoint(Method::Get, path)?.returns;
        (returns_type(returns) == Type::Array).then_some(())?;
        let id = parameter(item.rsplit('/').next()?)?.to_owned();
        let is_created = |at: &str| {
            schema
                .endpoint(Method::Post, at)
                .is_some_and(|post| at == item || post.parameters.properties.contains_key(&id))
        };
        (is_created(path) || is_created(item)).then(|| (path.to_owned(), id))
    };
    let quiet = returns_type(&call.endpoint.returns) == Type::Null;
    if (call.method == Method::Get || call.method == Method::Post && quiet)
        && let Some((list, id)) = list_at(&path)
    {
        let list = List {
            path: &list,
            id: &id,
            strict: strict(&list),
        };
        return match call.method {
            Method::Get => list_entries(call, &list),
            _ => Some(create(call, &list)),
        };
    }
    let (parent, last) = path.rsplit_once('/')?;
    if (call.method == Method::Get || quiet)
        && parameter(last).is_some()
        && let Some((list, id)) = list_at(parent)
    {
        let list = List {
            path: &list,
            id: &id,
            strict: strict(&list),
        };
        return match call.method {
            // A path below a list can be a property of the list instead of an entry.
            Method::Get if returns_type(&call.endpoint.returns) == Type::Array => None,
            Method::Get => entry(call, &list),
            Method::Post => Some(create(call, &list)),
            Method::Put => change(call, &list),
            Method::Delete => remove(call, &list),
        };
    }
    options(call)
}

fn list_entries(call: &Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let key = place(call, list.path);
    let rows = call.cluster.rows(&key);
    if rows.is_empty() && !list.strict {
        return None;
    }
    // An entry of a list can be a list itself; then it has to exist.
    if let Some((parent, id)) = key.rsplit_once('/').filter(|_| list.path.ends_with('}'))
        && call.cluster.entry(parent, id).is_none()
        && list.strict
    {
        return Some(Err(ApiError::die(format!(
            "no such {} '{id}'",
            noun(list.path.rsplit_once('/').map_or("", |(p, _)| p))
        ))));
    }
    let shape = Shape::of(call, &schema, list.path);
    let stamp = digest(&rows);
    let filters: Vec<(&str, &str)> = ["type", "guest", "resource"]
        .iter()
        .filter_map(|name| Some((*name, call.text(name)?)))
        .collect();
    let entries = rows
        .iter()
        .filter(|(_, row)| {
            filters
                .iter()
                .all(|(name, requested)| match (*name, row.get(*name)) {
                    ("resource", _) => row
                        .get("resources")
                        .and_then(Value::as_str)
                        .is_some_and(|all| split_list(all).any(|one| one == *requested)),
                    (_, Some(Value::String(own))) if list.path == NETWORK => {
                        network::fits(requested, own)
                    }
                    (_, Some(Value::String(own))) => own == requested,
                    _ => true,
                })
        })
        .map(|(id, stored)| {
            let mut row = shape.show(&with_id(list, id, stored));
            if stamped(call, list) {
                row.insert("digest".into(), json!(stamp));
            }
            answers::complete(call, list.path, id, stored, &stamp, View::List, &mut row);
            match list.path {
                NETWORK => network::complete(call, id, &mut row),
                "/cluster/ha/rules" => {
                    let at = rows.iter().position(|(name, _)| name == id);
                    row.insert("order".into(), json!(at.map_or(1, |at| at + 1)));
                }
                "/cluster/sdn/vnets/{vnet}/subnets" => {
                    row.insert("id".into(), json!(id));
                    sdn::ranges(&mut row);
                }
                _ => {}
            }
            Value::Object(row)
        });
    let mut entries: Vec<Value> = entries.collect();
    if list.path != NETWORK {
        return Some(Ok(Reply::data(entries)));
    }
    entries.extend(network::vnets(call));
    Some(Ok(Reply {
        changes: network::changes(call),
        ..Reply::data(entries)
    }))
}

/// Whether entries have a digest.
fn stamped(call: &Call<'_>, list: &List<'_>) -> bool {
    let returns = &call.endpoint.returns;
    let returns = returns.items.as_ref().map_or(returns, |items| &**items);
    returns
        .properties
        .as_ref()
        .is_none_or(|known| known.is_empty() || known.contains_key("digest"))
        || list.path.starts_with("/cluster/ha/")
}

pub(crate) fn entry(call: &Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let id = call.owned(list.id);
    let rows = call.cluster.rows(&place(call, list.path));
    let Some(at) = rows.iter().position(|(name, _)| *name == id) else {
        return absent(list, &id, call.method);
    };
    let stored = &rows[at].1;
    let mut row = Shape::of(call, &schema, list.path).show(&with_id(list, &id, stored));
    let stamp = digest(&rows);
    if stamped(call, list) {
        row.insert("digest".into(), json!(stamp));
    }
    answers::complete(call, list.path, &id, stored, &stamp, View::Alone, &mut row);
    match list.path {
        "/cluster/ha/rules" => {
            row.insert("order".into(), json!(at + 1));
        }
        "/cluster/sdn/vnets/{vnet}/subnets" => {
            row.insert("id".into(), json!(id));
            sdn::ranges(&mut row);
        }
        path if path.ends_with(ALIASES) => {
            row.remove("digest");
        }
        // A single interface has fewer members, with numbers as numbers.
        NETWORK => {
            let wire = row.get("type").is_some_and(|kind| kind == "eth");
            row.retain(|key, _| key != "iface" && (wire || key != "exists"));
            for key in ["active", "exists", "priority"] {
                let number = row
                    .get(key)
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse::<u32>().ok());
                if let Some(number) = number {
                    row.insert(key.to_owned(), json!(number));
                }
            }
        }
        _ => {}
    }
    Some(Ok(Reply::data(row)))
}

fn create(call: &mut Call<'_>, list: &List<'_>) -> ApiResult<Reply> {
    let mut id = call.owned(list.id);
    if id.is_empty() {
        let bits = call.cluster.random();
        id = format!("backup-{:08x}-{:04x}", bits >> 32, bits & 0xffff);
    }
    let key = place(call, list.path);
    let mut row = parameter_row(call, list.id);
    let names: Vec<&str> = row
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "type")
        .collect();
    sections::check_new(list.path, call.text("type").unwrap_or(""), &names)
        .map_err(ApiError::die)?;
    enrich(call, list.path, &id, &mut row)?;
    if list.path.ends_with(ENTRIES) {
        needs_set(call, &key, &id)?;
    }
    let stamp = digest(&call.cluster.rows(&key));
    check_digest(call, &stamp).map_err(|error| notifications::digest_error(list.path, error))?;
    notifications::check_new(call, list.path, &id, &row)?;
    let old = call.text("rename").map(str::to_owned);
    let rows = call.cluster.records.entry(key.clone()).or_default();
    let at = |id: &str| rows.iter().position(|(name, _)| name == id);
    if let Some(old) = old {
        let from = at(&old).ok_or_else(|| match list.path.rsplit('/').next() {
            Some("ipset") => ApiError::parameter(list.id, format!("IPSet '{old}' does not exist")),
            Some("groups") if list.path.contains("firewall") => {
                ApiError::parameter(list.id, format!("Security group '{old}' does not exist"))
            }
            _ => missing(list, &old, Method::Put).unwrap_or_else(|| ApiError::die("")),
        })?;
        if old != id && at(&id).is_some() {
            return Err(already_exists_error(list, &id));
        }
        rows[from].0.clone_from(&id);
        rows[from].1.extend(row);
        move_children(
            call.cluster,
            &format!("{key}/{old}"),
            &format!("{key}/{id}"),
        );
        if list.path == "/cluster/firewall/groups" {
            let rows = call.cluster.records.iter_mut();
            let rules = rows.filter(|(key, _)| key.ends_with("/firewall/rules"));
            for (_, rule) in rules.flat_map(|(_, rows)| rows) {
                if field(rule, "type") == "group" && field(rule, "action") == old.as_str() {
                    rule.insert("action".into(), json!(id));
                }
            }
        }
        return Ok(Reply::data(Value::Null));
    }
    if at(&id).is_some() {
        return Err(already_exists_error(list, &id));
    }
    if list.path.starts_with("/cluster/sdn/") {
        sdn::verify(call, list.path, &id, &row, true)?;
    } else if list.path == "/cluster/ha/rules" {
        ha::verify(call, &id, &row, true)?;
    }
    let rows = call.cluster.records.entry(key.clone()).or_default();
    if list.path == NETWORK {
        ports::check_duplicates(rows, &id, &row)?;
        ports::rejoin(&mut row);
        let mut planned = rows.clone();
        planned.push((id.clone(), row.clone()));
        ports::check(&planned)?;
    }
    // The newest entry of a set is first.
    let place = if list.path.ends_with("/ipset/{name}") {
        0
    } else {
        rows.len()
    };
    rows.insert(place, (id.clone(), row));
    ha::changed(call, list.path, &id);
    Ok(Reply::data(Value::Null))
}

fn change(call: &mut Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let key = place(call, list.path);
    let mut id = call.owned(list.id);
    let mut row = parameter_row(call, list.id);
    let stamp = digest(&call.cluster.rows(&key));
    if let Err(error) = check_digest(call, &stamp) {
        return Some(Err(notifications::digest_error(list.path, error)));
    }
    let delete = listed(call.params.get("delete")).join(",");
    let rename = call.text("rename").map(str::to_owned);
    let rows = call.cluster.records.entry(key.clone()).or_default();
    if rename
        .as_ref()
        .is_some_and(|name| rows.iter().any(|(other, _)| other == name))
    {
        return Some(Err(already_exists_error(
            list,
            rename.as_deref().unwrap_or(""),
        )));
    }
    if list.path == NETWORK
        && let Err(error) = planned(rows, &id, &delete, &mut row)
    {
        return Some(Err(error));
    }
    let Some((_, stored)) = rows.iter().find(|(name, _)| *name == id) else {
        return absent(list, &id, call.method);
    };
    let mut planned = stored.clone();
    for name in split_list(&delete) {
        planned.remove(name);
    }
    planned.extend(row.clone());
    if let Err(error) = may_change(call, list, &id, &row, &planned) {
        return Some(Err(error));
    }
    let rows = call.cluster.records.entry(key.clone()).or_default();
    let Some((own, stored)) = rows.iter_mut().find(|(name, _)| *name == id) else {
        return absent(list, &id, call.method);
    };
    // An alias is replaced as a whole.
    if list.path.ends_with(ALIASES) {
        stored.remove("comment");
    }
    for name in split_list(&delete) {
        stored.remove(name);
    }
    stored.extend(row);
    notifications::changed(list.path, stored);
    if let Some(name) = rename {
        own.clone_from(&name);
        move_children(
            call.cluster,
            &format!("{key}/{id}"),
            &format!("{key}/{name}"),
        );
        id = name;
    }
    ha::changed(call, list.path, &id);
    Some(Ok(Reply::data(Value::Null)))
}

fn remove(call: &mut Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let key = place(call, list.path);
    let id = call.owned(list.id);
    let rows = call.cluster.rows(&key);
    if call.cluster.entry(&key, &id).is_none() {
        if let Some(error) = sdn::no_addresses(call, list.path) {
            return Some(Err(error));
        }
        return absent(list, &id, call.method);
    }
    let below = format!("{key}/{id}");
    let holds = |key: &str| !call.cluster.rows(key).is_empty();
    let filled = holds(&below) || holds(&format!("{below}/subnets"));
    let refused = check_digest(call, &digest(&rows))
        .and_then(|()| sdn::may_remove(call, list.path, &id))
        .err();
    if let Some(error) = refused {
        return Some(Err(error));
    }
    if filled && !call.flag("force") {
        let text = match list.path {
            "/cluster/sdn/vnets" => {
                "delete sdn vnet object failed: 400 Parameter verification failed.\nvnet: Can't delete vnet if subnets \
                 exists"
                    .to_owned()
            }
            "/cluster/firewall/groups" => format!("Security group '{id}' is not empty"),
            _ => format!("{} '{id}' is not empty", noun(list.path)),
        };
        return Some(Err(ApiError::die(text)));
    }
    if let Some(done) = notifications::remove(call, list.path, &id) {
        return Some(done.map(|()| Reply::data(Value::Null)));
    }
    let prefix = format!("{below}/");
    call.cluster
        .records
        .retain(|key, _| *key != below && !key.starts_with(&prefix));
    if let Some(rows) = call.cluster.records.get_mut(&key) {
        rows.retain(|(name, _)| *name != id);
    }
    Some(Ok(Reply::data(Value::Null)))
}
