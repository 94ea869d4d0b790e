//! Configuration that is held as it was given: firewall, HA, SDN, jobs, networks and whatever else is a list of entries
//! or a set of options.
//!
//! Which paths are lists, and of what, is read off the schema. They start empty and refuse unknown ids, but for those that
//! a fresh installation has entries in.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Format, Method, Schema, Schemas, Type};
use serde_json::{Map, Value, json};

use super::shown::{self, View};
use super::{Call, Reply, ha, network, notified, ports, rules, sdn, sections};
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::guest::Kind;
use crate::params::Param;
use crate::propstring;
use crate::schema::{is_task, lookup, returns_type};
use crate::world::World;

/// An entry as it was given: texts, and lists of texts.
pub(crate) type Row = Map<String, Value>;
/// Entries by id, in their order.
pub(crate) type Rows = Vec<(String, Row)>;

/// A field of an entry; null where it has none.
pub(super) fn field<'a>(row: &'a Row, key: &str) -> &'a Value {
    row.get(key).unwrap_or(&Value::Null)
}

/// Parameters that say what to do rather than what to hold.
const ACTIONS: [&str; 10] = [
    "digest",
    "delete",
    "pos",
    "moveto",
    "rename",
    "lock-token",
    "purge",
    "force",
    "keep",
    "quiet",
];

const NETWORK: &str = "/nodes/{node}/network";

/// Lists that a fresh installation has entries in, which are made up here until something is written to them.
const FILLED: [&str; 1] = ["/nodes/{node}/apt/repositories"];

/// Whether a list starts empty and knows what is in it.
fn strict(path: &str) -> bool {
    !FILLED.contains(&path)
}

/// Options that are nothing but what was written.
fn plain_options(path: &str) -> bool {
    ["/cluster/firewall/", "/cluster/ha/", "/cluster/sdn/"]
        .iter()
        .any(|start| path.starts_with(start))
        || path.contains("/firewall/")
        || path == "/cluster/options"
}

/// What is said of an entry that is missing or there already, by what is done; `*` is its id. A text that starts with
/// `@` names the parameter it is about, one that starts with `=` has a status of its own, an empty one refuses nothing.
struct Words {
    list: &'static str,
    read: &'static str,
    change: &'static str,
    remove: &'static str,
    make: &'static str,
}

const fn words(
    list: &'static str,
    read: &'static str,
    change: &'static str,
    remove: &'static str,
    make: &'static str,
) -> Words {
    Words {
        list,
        read,
        change,
        remove,
        make,
    }
}

const WORDS: [Words; 23] = [
    words(
        "/cluster/acme/plugins",
        "ACME plugin '*' not defined",
        "ACME plugin ID '*' does not exist",
        "",
        "ACME plugin ID '*' already exists",
    ),
    words(
        "/cluster/metrics/server",
        "status server entry '*' does not exist",
        "no such server '*'",
        "cannot lookup undefined type!",
        "Metric server '*' already exists",
    ),
    words(
        "/cluster/mapping/dir",
        "mapping '*' not found",
        "update directory mapping failed: dir ID '*' does not exist",
        "",
        "create directory mapping failed: dir ID '*' already defined",
    ),
    words(
        "/cluster/mapping/pci",
        "mapping '*' not found",
        "update hardware mapping failed: pci ID '*' does not exist",
        "",
        "create hardware mapping failed: pci ID '*' already defined",
    ),
    words(
        "/cluster/mapping/usb",
        "mapping '*' not found",
        "update hardware mapping failed: usb ID '*' does not exist",
        "",
        "create hardware mapping failed: usb ID '*' already defined",
    ),
    words(
        "/cluster/backup",
        "@id No such job '*'",
        "no such vzdump job",
        "400 Parameter verification failed.\nid: No such job '*'",
        "Job '*' already exists",
    ),
    words(
        "/cluster/replication",
        "no such replication job '*'",
        "no such job '*'",
        "no such job '*'",
        "replication job '*' already exists",
    ),
    words(
        "/cluster/qemu/custom-cpu-models",
        "Custom cputype '*' not found",
        "custom CPU model '*' does not exist",
        "custom CPU model '*' does not exist",
        "custom CPU model '*' already exists",
    ),
    words(
        "/cluster/sdn/zones",
        "sdn '*' does not exist",
        "update sdn zone object failed: sdn '*' does not exist",
        "delete sdn zone object failed: sdn '*' does not exist",
        "create sdn zone object failed: sdn zone object ID '*' already defined",
    ),
    words(
        "/cluster/sdn/vnets",
        "sdn vnet '*' does not exist",
        "sdn vnet '*' does not exist",
        "sdn vnet '*' does not exist",
        "create sdn vnet object failed: sdn vnet object ID '*' already defined",
    ),
    words(
        "/cluster/sdn/vnets/{vnet}/subnets",
        "sdn subnet '*' does not exist",
        "update sdn subnet object failed: sdn subnet '*' does not exist",
        "",
        "create sdn subnet object failed: sdn subnet object ID '*' already defined",
    ),
    words(
        "/cluster/sdn/controllers",
        "sdn '*' does not exist",
        "update sdn controller object failed: sdn '*' does not exist",
        "delete sdn controller object failed: sdn '*' does not exist",
        "create sdn controller object failed: sdn controller object ID '*' already defined",
    ),
    words(
        "/cluster/sdn/dns",
        "sdn '*' does not exist",
        "update sdn dns object failed: sdn '*' does not exist",
        "delete sdn dns object failed: sdn '*' does not exist",
        "create sdn dns object failed: sdn dns object ID '*' already defined",
    ),
    words(
        "/cluster/sdn/ipams",
        "sdn '*' does not exist",
        "update sdn ipam object failed: sdn '*' does not exist",
        "delete sdn zone object failed: sdn '*' does not exist",
        "create sdn ipam object failed: sdn ipam object ID '*' already defined",
    ),
    words(
        "/cluster/ha/resources",
        "no such resource '*'",
        "update resources config failed: no such resource '*'",
        "cannot delete service '*', not HA managed!",
        "create resource failed: resource ID '*' already defined",
    ),
    words(
        "/cluster/ha/groups",
        "no such ha group '*'",
        "no such ha group '*'",
        "no such ha group '*'",
        "create ha group failed: ha group ID '*' already defined",
    ),
    words(
        "/cluster/ha/rules",
        "no such ha rule '*'",
        "update HA rules failed: HA rule '*' does not exist",
        "",
        "create ha rule failed: HA rule '*' already defined",
    ),
    words(
        "/cluster/jobs/realm-sync",
        "@id No such job '*'",
        "no such realm-sync job",
        "400 Parameter verification failed.\nid: No such job '*'",
        "Job '*' already exists",
    ),
    words(
        "/nodes/{node}/network",
        "interface does not exist",
        "interface does not exist",
        "interface does not exist",
        "interface already exists",
    ),
    words(
        ALIASES,
        "@name no such alias",
        "@name no such alias",
        "",
        "@name alias '*' already exists",
    ),
    words(
        ENTRIES,
        "@cidr no such IP/Network",
        "no such entry '*'",
        "",
        "@cidr address '*' already exists",
    ),
    words(
        NOTIFIED,
        "=404 endpoint '*' not found",
        "=404 endpoint '*' not found",
        "=404 endpoint '*' not found",
        "=400 Cannot create '*', an entity with the same name already exists",
    ),
    words(
        MATCHERS,
        "=404 matcher '*' not found",
        "=404 matcher '*' not found",
        "=404 matcher '*' not found",
        "=400 Cannot create '*', an entity with the same name already exists",
    ),
];

/// Lists that are in several places, by the end of their path.
const ALIASES: &str = "/firewall/aliases";
const ENTRIES: &str = "/firewall/ipset/{name}";
pub(super) const NOTIFIED: &str = "/cluster/notifications/endpoints/";
pub(super) const MATCHERS: &str = "/cluster/notifications/matchers";

fn words_of(list: &str) -> Option<&'static Words> {
    WORDS.iter().find(|words| {
        words.list == list
            || matches!(words.list, ALIASES | ENTRIES) && list.ends_with(words.list)
            || words.list == NOTIFIED && list.starts_with(NOTIFIED)
    })
}

/// The refusal that a text stands for.
fn refusal(text: &str, id: &str) -> Option<ApiError> {
    let text = text.replace('*', id);
    if text.is_empty() {
        return None;
    }
    let marked = |mark: char| text.strip_prefix(mark)?.split_once(' ');
    if let Some((name, text)) = marked('@') {
        return Some(ApiError::parameter(name, text));
    }
    Some(
        match marked('=').and_then(|(status, text)| Some((status.parse().ok()?, text))) {
            Some((status, text)) => ApiError::raise(status, text),
            None => ApiError::die(text),
        },
    )
}

/// What an entry is called in errors.
fn noun(list: &str) -> &'static str {
    match list.rsplit('/').next().unwrap_or("") {
        "aliases" => "alias",
        "ipset" => "IPSet",
        "{name}" => "entry",
        "resources" => "resource",
        "groups" if list.contains("firewall") => "security group",
        "groups" => "group",
        "rules" => "rule",
        "zones" => "zone",
        "vnets" => "vnet",
        "subnets" => "subnet",
        "backup" => "job",
        "replication" => "replication job",
        "network" => "interface",
        _ => "object",
    }
}

/// The path with its parameters filled in; guests keep theirs wherever they go.
pub(super) fn place(call: &Call<'_>, path: &str) -> String {
    let mut out = String::new();
    let path = ["/nodes/{node}/qemu/{vmid}", "/nodes/{node}/lxc/{vmid}"]
        .iter()
        .find_map(|start| path.strip_prefix(start))
        .map(|rest| format!("/guests/{{vmid}}{rest}"))
        .unwrap_or_else(|| path.to_owned());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        match parameter(segment) {
            Some(name) => out.push_str(call.text(name).unwrap_or("")),
            None => out.push_str(segment),
        }
    }
    out
}

fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

pub(crate) fn digest(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    // What is empty has the digest of an empty file.
    let text = if matches!(text.as_str(), "[]" | "{}") {
        ""
    } else {
        &text
    };
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(super) fn check_digest(call: &Call<'_>, current: &str) -> ApiResult<()> {
    match call.text("digest") {
        Some(given) if given != current => Err(ApiError::die(
            "detected modified configuration - file changed by other user? Try again.",
        )),
        _ => Ok(()),
    }
}

/// A list of entries, as the schema tells of it.
struct List<'a> {
    path: &'a str,
    /// Name of the parameter that holds an entry's id.
    id: &'a str,
    strict: bool,
}

/// Answers what is held; `None` leaves the call to the schema.
pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.world.schema);
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
        let made = |at: &str| {
            schema
                .endpoint(Method::Post, at)
                .is_some_and(|post| at == item || post.parameters.properties.contains_key(&id))
        };
        (made(path) || made(item)).then(|| (path.to_owned(), id))
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
            // What is below may be a part of the list rather than an entry of it.
            Method::Get if returns_type(&call.endpoint.returns) == Type::Array => None,
            Method::Get => entry(call, &list),
            Method::Post => Some(create(call, &list)),
            Method::Put => change(call, &list),
            Method::Delete => remove(call, &list),
        };
    }
    options(call)
}

/// Takes the parameters to hold.
pub(super) fn given(call: &Call<'_>, id: &str) -> Row {
    call.params
        .iter()
        .filter(|(key, _)| {
            *key != id
                && !ACTIONS.contains(&key.as_str())
                && !call.path.contains(&format!("{{{key}}}"))
        })
        .map(|(key, value)| (key.clone(), value.to_json()))
        .filter(|(_, value)| !value.is_object())
        .collect()
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "token", "key"]
        .iter()
        .any(|word| key.contains(word))
}

/// The schemas of an answer's fields, and of the parameters they were given by.
pub(super) struct Shape<'a> {
    returns: Option<&'a Schemas>,
    given: Vec<&'a Schemas>,
    formats: &'a BTreeMap<String, Schemas>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(call: &Call<'a>, schema: &'a crate::schema::ApiSchema, list: &str) -> Self {
        let returns = &call.endpoint.returns;
        let returns = returns
            .items
            .as_ref()
            .map_or(returns, |items| &**items)
            .properties
            .as_ref()
            .filter(|properties| !properties.is_empty());
        let item = schema.item_of(list).unwrap_or(list);
        let given = [
            (Method::Post, list),
            (Method::Post, item),
            (Method::Put, item),
            (Method::Put, list),
        ]
        .iter()
        .filter_map(|(method, path)| schema.endpoint(*method, path))
        .map(|endpoint| &endpoint.parameters.properties)
        .collect();
        Self {
            returns,
            given,
            formats: schema.formats(),
        }
    }

    pub(super) fn show(&self, row: &Row) -> Row {
        row.iter()
            .filter_map(|(key, value)| {
                let declared = self.returns.and_then(|known| lookup(known, key));
                let given = self.given.iter().find_map(|known| lookup(known, key));
                (declared.is_some() || !is_secret(key))
                    .then(|| (key.clone(), typed(value, declared, self.keys(given), given)))
            })
            .collect()
    }

    /// The keys of a property string.
    fn keys(&self, given: Option<&'a Schema>) -> Option<&'a Schemas> {
        match given?.format.as_ref()? {
            Format::Keys(keys) => Some(keys),
            Format::Name(name) => self.formats.get(name),
            Format::List(_) => None,
        }
    }
}

/// A held text in the type the answer has.
fn typed(
    value: &Value,
    declared: Option<&Schema>,
    keys: Option<&Schemas>,
    given: Option<&Schema>,
) -> Value {
    let ty = declared.or(given).and_then(|schema| schema.ty);
    match (value, ty) {
        (Value::String(text), Some(Type::Integer | Type::Boolean)) => text
            .trim_start_matches('+')
            .parse::<i64>()
            .map_or_else(|_| value.clone(), Value::from),
        (Value::String(text), Some(Type::Number)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        (Value::String(text), Some(Type::Object)) => keys
            .and_then(|keys| object(keys, text))
            .unwrap_or_else(|| value.clone()),
        (Value::String(text), Some(Type::Array)) => json!([text]),
        (Value::Array(items), Some(Type::String)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            json!(items.join(","))
        }
        _ => value.clone(),
    }
}

/// A property string as the object it stands for. Whoever takes it apart leaves numbers the texts that they are.
fn object(keys: &Schemas, text: &str) -> Option<Value> {
    let parts = propstring::parse(keys, text).ok()?;
    let row: Row = parts
        .into_iter()
        .map(|(key, part)| {
            let flag = keys.get(&key).and_then(|schema| schema.ty) == Some(Type::Boolean);
            let part = match part.as_str() {
                "1" | "on" | "yes" | "true" if flag => json!(1),
                "0" | "off" | "no" | "false" if flag => json!(0),
                _ => Value::String(part),
            };
            (key, part)
        })
        .collect();
    Some(Value::Object(row))
}

/// Why nothing can be done with an entry that is not there, unless that is as good as done.
fn missing(list: &List<'_>, id: &str, method: Method) -> Option<ApiError> {
    match words_of(list.path) {
        Some(words) => refusal(
            match method {
                Method::Get => words.read,
                Method::Delete => words.remove,
                _ => words.change,
            },
            id,
        ),
        None => Some(ApiError::die(format!("no such {} '{id}'", noun(list.path)))),
    }
}

/// The answer to a call about an entry that is not there; `None` where the list may have others.
fn absent(list: &List<'_>, id: &str, method: Method) -> Option<ApiResult<Reply>> {
    list.strict.then(|| match missing(list, id, method) {
        Some(error) => Err(error),
        None => Ok(Reply::data(Value::Null)),
    })
}

fn with_id(list: &List<'_>, id: &str, row: &Row) -> Row {
    let mut row = row.clone();
    row.insert(list.id.to_owned(), json!(id));
    row
}

fn list_entries(call: &Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.world.schema);
    let key = place(call, list.path);
    let rows = call.world.records.get(&key).map_or(&[][..], Vec::as_slice);
    if rows.is_empty() && !list.strict {
        return None;
    }
    // An entry of a list may be a list itself, and then has to exist.
    if let Some((parent, id)) = key.rsplit_once('/').filter(|_| list.path.ends_with('}'))
        && !call
            .world
            .records
            .get(parent)
            .is_some_and(|rows| rows.iter().any(|(own, _)| own == id))
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
    let shown = rows
        .iter()
        .filter(|(_, row)| {
            filters
                .iter()
                .all(|(name, wanted)| match (*name, row.get(*name)) {
                    ("resource", _) => row
                        .get("resources")
                        .and_then(Value::as_str)
                        .is_some_and(|all| split_list(all).any(|one| one == *wanted)),
                    (_, Some(Value::String(own))) if list.path == NETWORK => {
                        network::fits(wanted, own)
                    }
                    (_, Some(Value::String(own))) => own == wanted,
                    _ => true,
                })
        })
        .map(|(id, held)| {
            let mut row = shape.show(&with_id(list, id, held));
            if stamped(call, list) {
                row.insert("digest".into(), json!(stamp));
            }
            shown::complete(call, list.path, id, held, &stamp, View::List, &mut row);
            match list.path {
                NETWORK => network::complete(call, id, &mut row),
                "/cluster/ha/rules" => {
                    let at = rows.iter().position(|(own, _)| own == id);
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
    let mut shown: Vec<Value> = shown.collect();
    if list.path != NETWORK {
        return Some(Ok(Reply::data(shown)));
    }
    shown.extend(network::vnets(call));
    Some(Ok(Reply {
        changes: network::changes(call),
        ..Reply::data(shown)
    }))
}

/// Whether entries come with a digest.
fn stamped(call: &Call<'_>, list: &List<'_>) -> bool {
    let returns = &call.endpoint.returns;
    let returns = returns.items.as_ref().map_or(returns, |items| &**items);
    returns
        .properties
        .as_ref()
        .is_none_or(|known| known.is_empty() || known.contains_key("digest"))
        || list.path.starts_with("/cluster/ha/")
}

fn entry(call: &Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.world.schema);
    let id = call.owned(list.id);
    let rows = call
        .world
        .records
        .get(&place(call, list.path))
        .map_or(&[][..], Vec::as_slice);
    let Some(at) = rows.iter().position(|(own, _)| *own == id) else {
        return absent(list, &id, call.method);
    };
    let held = &rows[at].1;
    let mut row = Shape::of(call, &schema, list.path).show(&with_id(list, &id, held));
    let stamp = digest(&rows);
    if stamped(call, list) {
        row.insert("digest".into(), json!(stamp));
    }
    shown::complete(call, list.path, &id, held, &stamp, View::Alone, &mut row);
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
        // Of one interface less is told, and numbers as numbers.
        NETWORK => {
            row.retain(|key, _| !matches!(key.as_str(), "iface" | "exists"));
            for key in ["active", "priority"] {
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
        let bits = call.world.random();
        id = format!("backup-{:08x}-{:04x}", bits >> 32, bits & 0xffff);
    }
    let key = place(call, list.path);
    let mut row = given(call, list.id);
    let names: Vec<&str> = row
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "type")
        .collect();
    sections::made(list.path, call.text("type").unwrap_or(""), &names).map_err(ApiError::die)?;
    enrich(call, list.path, &id, &mut row)?;
    if list.path.ends_with(ENTRIES) {
        needs_set(call, &key, &id)?;
    }
    let stamp = digest(&call.world.records.get(&key).map_or(&[][..], Vec::as_slice));
    check_digest(call, &stamp).map_err(|error| notified::stale(list.path, error))?;
    notified::may_make(call, list.path, &id, &row)?;
    let old = call.text("rename").map(str::to_owned);
    let rows = call.world.records.entry(key.clone()).or_default();
    let at = |id: &str| rows.iter().position(|(own, _)| own == id);
    if let Some(old) = old {
        let from = at(&old).ok_or_else(|| match list.path.rsplit('/').next() {
            Some("ipset") => ApiError::parameter(list.id, format!("IPSet '{old}' does not exist")),
            Some("groups") if list.path.contains("firewall") => {
                ApiError::parameter(list.id, format!("Security group '{old}' does not exist"))
            }
            _ => missing(list, &old, Method::Put).unwrap_or_else(|| ApiError::die("")),
        })?;
        if old != id && at(&id).is_some() {
            return Err(taken(list, &id));
        }
        rows[from].0.clone_from(&id);
        rows[from].1.extend(row);
        move_children(call.world, &format!("{key}/{old}"), &format!("{key}/{id}"));
        if list.path == "/cluster/firewall/groups" {
            let rows = call.world.records.iter_mut();
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
        return Err(taken(list, &id));
    }
    if list.path.starts_with("/cluster/sdn/") {
        sdn::verify(call, list.path, &id, &row, true)?;
    } else if list.path == "/cluster/ha/rules" {
        ha::verify(call, &id, &row, true)?;
    }
    let rows = call.world.records.entry(key.clone()).or_default();
    if list.path == NETWORK {
        ports::check_duplicates(rows, &id, &row)?;
        ports::rejoin(&mut row);
        let mut planned = rows.clone();
        planned.push((id.clone(), row.clone()));
        ports::check(&planned)?;
    }
    // The newest entry of a set comes first.
    let place = if list.path.ends_with("/ipset/{name}") {
        0
    } else {
        rows.len()
    };
    rows.insert(place, (id.clone(), row));
    ha::changed(call, list.path, &id);
    Ok(Reply::data(Value::Null))
}

/// An entry of a set needs the set, and an alias that it names.
fn needs_set(call: &Call<'_>, key: &str, cidr: &str) -> ApiResult<()> {
    let has = |list: &str, name: &str| {
        let mut rows = call.world.records.get(list).into_iter().flatten();
        rows.any(|(own, _)| own.eq_ignore_ascii_case(name))
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

/// Why there can be no second one; the firewall refuses the parameter rather than the call.
fn taken(list: &List<'_>, id: &str) -> ApiError {
    if let Some(error) = words_of(list.path).and_then(|words| refusal(words.make, id)) {
        return error;
    }
    let text = match list.path.rsplit('/').next().unwrap_or("") {
        "ipset" => format!("IPSet '{id}' already exists"),
        "groups" if list.path.contains("firewall") => {
            format!("Security group '{id}' already exists")
        }
        _ => return ApiError::die(format!("{} '{id}' already defined", noun(list.path))),
    };
    ApiError::parameter(list.id, text)
}

fn move_children(world: &mut World, from: &str, to: &str) {
    let below: Vec<String> = world
        .records
        .keys()
        .filter(|key| *key == from || key.starts_with(&format!("{from}/")))
        .cloned()
        .collect();
    for key in below {
        if let Some(rows) = world.records.remove(&key) {
            world.records.insert(key.replacen(from, to, 1), rows);
        }
    }
}

/// Adds what an entry has beyond what it was given, and refuses what cannot be.
fn enrich(call: &Call<'_>, list: &str, id: &str, row: &mut Row) -> ApiResult<()> {
    let world = &*call.world;
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
            let guest = vmid.parse().ok().and_then(|vmid| world.guests.get(&vmid));
            let Some(guest) = guest else {
                return Err(ApiError::die(format!("Guest '{vmid}' does not exist.")));
            };
            let target = call.text("target").unwrap_or("");
            if target == guest.node || world.node(target).is_none() {
                return Err(ApiError::die(format!(
                    "guest {vmid} cannot be replicated to '{target}'"
                )));
            }
            set("guest", json!(vmid));
            set("jobnum", json!(number));
            set("source", json!(guest.node));
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
        path if path == MATCHERS || path.starts_with(NOTIFIED) => {
            set("origin", json!("user-created"));
        }
        path if path.starts_with("/cluster/ha/") => ha::enrich(call, path, id, row)?,
        path if path.starts_with("/cluster/sdn/") => sdn::enrich(call, path, id, row)?,
        _ => {}
    }
    Ok(())
}

/// Refuses a backup job that says too little or too much. Most of it is looked at under a lock, so that the refusal of a
/// parameter comes as a text.
fn verify_backup(call: &Call<'_>) -> ApiResult<()> {
    let given = |name: &str| call.text(name).is_some_and(|text| !text.is_empty());
    let set = |name: &str| call.flag(name);
    if let Some(pool) = call.text("pool").filter(|pool| !pool.is_empty())
        && !call.world.pools.contains_key(pool)
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

/// Looks at a node's network as it would be with an interface changed.
fn planned(rows: &Rows, id: &str, delete: &str, row: &mut Row) -> ApiResult<()> {
    ports::check_duplicates(rows, id, row)?;
    ports::rejoin(row);
    let mut planned = rows.clone();
    if let Some((_, held)) = planned.iter_mut().find(|(own, _)| own == id) {
        for name in split_list(delete) {
            held.remove(name);
        }
        held.extend(row.clone());
    }
    ports::check(&planned)
}

/// Refuses what an entry cannot become.
fn may_change(
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
    let doing = match list.path.strip_prefix("/cluster/sdn/") {
        Some(what) => format!("update sdn {} object failed: ", what.trim_end_matches('s')),
        None => String::new(),
    };
    // The name of this one ends in an s of its own.
    let doing = doing.replace(" dn object", " dns object");
    sections::changed(list.path, kind, &names, &deleted)
        .map_err(|text| ApiError::die(format!("{doing}{text}")))?;
    if list.path.starts_with("/cluster/sdn/") {
        sdn::verify(call, list.path, id, planned, false)?;
    } else if list.path == "/cluster/ha/rules" {
        ha::verify(call, id, planned, false)?;
    }
    notified::may_be(call, list.path, planned)
}

fn change(call: &mut Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let key = place(call, list.path);
    let mut id = call.owned(list.id);
    let mut row = given(call, list.id);
    let stamp = digest(&call.world.records.get(&key).map_or(&[][..], Vec::as_slice));
    if let Err(error) = check_digest(call, &stamp) {
        return Some(Err(notified::stale(list.path, error)));
    }
    let delete = listed(call.params.get("delete")).join(",");
    let rename = call.text("rename").map(str::to_owned);
    let rows = call.world.records.entry(key.clone()).or_default();
    if rename
        .as_ref()
        .is_some_and(|name| rows.iter().any(|(own, _)| own == name))
    {
        return Some(Err(taken(list, rename.as_deref().unwrap_or(""))));
    }
    if list.path == NETWORK
        && let Err(error) = planned(rows, &id, &delete, &mut row)
    {
        return Some(Err(error));
    }
    let Some((_, held)) = rows.iter().find(|(own, _)| *own == id) else {
        return absent(list, &id, call.method);
    };
    let mut planned = held.clone();
    for name in split_list(&delete) {
        planned.remove(name);
    }
    planned.extend(row.clone());
    if let Err(error) = may_change(call, list, &id, &row, &planned) {
        return Some(Err(error));
    }
    let rows = call.world.records.entry(key.clone()).or_default();
    let Some((own, held)) = rows.iter_mut().find(|(own, _)| *own == id) else {
        return absent(list, &id, call.method);
    };
    // An alias is written anew.
    if list.path.ends_with(ALIASES) {
        held.remove("comment");
    }
    for name in split_list(&delete) {
        held.remove(name);
    }
    held.extend(row);
    notified::changed(list.path, held);
    if let Some(name) = rename {
        own.clone_from(&name);
        move_children(call.world, &format!("{key}/{id}"), &format!("{key}/{name}"));
        id = name;
    }
    ha::changed(call, list.path, &id);
    Some(Ok(Reply::data(Value::Null)))
}

fn remove(call: &mut Call<'_>, list: &List<'_>) -> Option<ApiResult<Reply>> {
    let key = place(call, list.path);
    let id = call.owned(list.id);
    let rows = call.world.records.get(&key).map_or(&[][..], Vec::as_slice);
    if !rows.iter().any(|(own, _)| *own == id) {
        return absent(list, &id, call.method);
    }
    let below = format!("{key}/{id}");
    let holds = |key: &str| {
        call.world
            .records
            .get(key)
            .is_some_and(|rows| !rows.is_empty())
    };
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
    if let Some(done) = notified::remove(call, list.path, &id) {
        return Some(done.map(|()| Reply::data(Value::Null)));
    }
    let prefix = format!("{below}/");
    call.world
        .records
        .retain(|key, _| *key != below && !key.starts_with(&prefix));
    if let Some(rows) = call.world.records.get_mut(&key) {
        rows.retain(|(own, _)| *own != id);
    }
    Some(Ok(Reply::data(Value::Null)))
}

/// Options that are read and written at one path.
fn options(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.world.schema);
    let read = schema.endpoint(Method::Get, call.path)?;
    schema.endpoint(Method::Put, call.path)?;
    if !matches!(returns_type(&read.returns), Type::Object | Type::Any) {
        return None;
    }
    let key = place(call, call.path);
    match call.method {
        Method::Get if plain_options(call.path) => {
            let held = call.world.settings.get(&key).cloned().unwrap_or_default();
            let mut row = shown_options(call, &schema, &held);
            if call.path.ends_with("/firewall/options") {
                row.insert("digest".into(), json!(digest(&held)));
            }
            shown::options(call, &mut row);
            Some(Ok(Reply::data(row)))
        }
        Method::Put if returns_type(&call.endpoint.returns) == Type::Null => {
            let held = call.world.settings.get(&key).cloned().unwrap_or_default();
            if call.path.ends_with("/firewall/options")
                && let Err(error) = check_digest(call, &digest(&held))
            {
                return Some(Err(error));
            }
            let (row, delete) = (given(call, ""), call.owned("delete"));
            let known = &call.endpoint.parameters.properties;
            if call.path.ends_with("/firewall/options")
                && let Some(name) = split_list(&delete).find(|name| !known.contains_key(*name))
            {
                let text = format!("no such option '{name}'");
                return Some(Err(ApiError::parameter("delete", text)));
            }
            let held = call.world.settings.entry(key).or_default();
            for name in split_list(&delete) {
                held.remove(name);
            }
            held.extend(row);
            Some(Ok(Reply::data(Value::Null)))
        }
        _ => None,
    }
}

fn shown_options(call: &Call<'_>, schema: &crate::schema::ApiSchema, held: &Row) -> Row {
    let shape = Shape::of(call, schema, call.path);
    let mut row = shape.show(held);
    if call.path == "/cluster/options" {
        // Here property strings are taken apart.
        for (key, value) in &mut row {
            let given = shape.given.iter().find_map(|known| known.get(key));
            let keys = shape.keys(given);
            if let (Some(keys), Some(text)) = (keys, value.as_str())
                && let Some(parts) = object(keys, text)
            {
                *value = parts;
            }
        }
    }
    row
}

/// Lays options that were written over an answer made from the schema.
pub(crate) fn lay_over(call: &Call<'_>, answer: &mut Value) {
    let schema = std::sync::Arc::clone(&call.world.schema);
    let Some(held) = call.world.settings.get(&place(call, call.path)) else {
        return;
    };
    if let (Method::Get, Some(object)) = (call.method, answer.as_object_mut()) {
        object.extend(shown_options(call, &schema, held));
    }
}

/// What is made from lists rather than being one.
fn other(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let world = &*call.world;
    let rows = |key: &str| world.records.get(key).map_or(&[][..], Vec::as_slice);
    Some(match (call.method, call.path) {
        (Method::Get, path) if path.ends_with("/firewall/refs") => {
            let own = place(call, path.strip_suffix("/refs").unwrap_or(path));
            let mut found = Vec::new();
            for (scope, place) in [("dc", "/cluster/firewall"), ("guest", own.as_str())] {
                if scope == "guest" && own == "/cluster/firewall" {
                    continue;
                }
                for (kind, list, sign) in [("ipset", "ipset", "+"), ("alias", "aliases", "")] {
                    if call.text("type").is_some_and(|wanted| wanted != kind) {
                        continue;
                    }
                    for (name, row) in rows(&format!("{place}/{list}")) {
                        let mut entry = json!({
                            "type": kind, "name": name, "ref": format!("{sign}{name}"), "scope": scope,
                        });
                        if let Some(comment) = row.get("comment") {
                            entry["comment"] = comment.clone();
                        }
                        found.push(entry);
                    }
                }
            }
            Ok(Reply::data(found))
        }
        (Method::Get, "/cluster/notifications/targets") => {
            let mut found = Vec::new();
            for (list, rows) in &world.records {
                let Some(kind) = list.strip_prefix(NOTIFIED) else {
                    continue;
                };
                for (name, row) in rows {
                    let mut entry =
                        json!({ "name": name, "type": kind, "origin": field(row, "origin") });
                    for key in ["comment", "disable"] {
                        if let Some(value) = row.get(key) {
                            entry[key] = value.clone();
                        }
                    }
                    found.push(entry);
                }
            }
            Ok(Reply::data(found))
        }
        (Method::Get, "/access/users/{userid}/tfa") => {
            let userid = call.owned("userid");
            let realm = userid.rsplit_once('@').map_or("", |(_, realm)| realm);
            let Some((_, realm)) = rows("/access/domains").iter().find(|(own, _)| own == realm)
            else {
                let text = format!("auth domain '{realm}' does not exist");
                return Some(Err(ApiError::die(text)));
            };
            let mut row = json!({});
            let tfa = field(realm, "tfa").as_str().unwrap_or("").split(',');
            if let Some(kind) = tfa.filter_map(|part| part.strip_prefix("type=")).next() {
                row["realm"] = json!(kind);
            }
            if call.flag("multiple") {
                row["user"] = json!([]);
            }
            Ok(Reply::data(row))
        }
        (Method::Get, "/nodes/{node}/syslog") => Ok(Reply {
            total: Some(1),
            ..Reply::data(json!([{ "n": 1, "t": "-- No entries --" }]))
        }),
        (Method::Get, "/cluster/backup/{id}/included_volumes") => {
            let id = call.owned("id");
            match rows("/cluster/backup").iter().find(|(own, _)| *own == id) {
                Some((_, job)) => Ok(Reply::data(json!({ "children": included(call, job) }))),
                None => Err(ApiError::parameter("id", format!("No such job '{id}'"))),
            }
        }
        // Nothing was logged, which has a line of its own.
        (Method::Get, path) if path.ends_with("/firewall/log") => Ok(Reply {
            total: Some(1),
            ..Reply::data(json!([{ "n": 1, "t": "no content" }]))
        }),
        (Method::Get, "/cluster/firewall/macros") => {
            let rows = rules::MACROS.split_whitespace();
            Ok(Reply::data(
                rows.map(|name| json!({ "macro": name, "descr": format!("{name} traffic") }))
                    .collect::<Value>(),
            ))
        }
        (Method::Get, "/cluster/backup-info/not-backed-up") => {
            let jobs = rows("/cluster/backup");
            let left = world
                .guests
                .iter()
                .filter(|(vmid, guest)| !jobs.iter().any(|(_, job)| covers(job, **vmid, guest)));
            let rows = left.map(|(vmid, guest)| {
                json!({ "vmid": vmid, "type": guest.kind.api(), "name": guest.name(*vmid) })
            });
            Ok(Reply::data(rows.collect::<Value>()))
        }
        (Method::Get, "/nodes/{node}/replication") => {
            let node = call.owned("node");
            let jobs = rows("/cluster/replication").iter().filter(|(_, row)| {
                row.get("source").and_then(Value::as_str) == Some(&node)
                    && call
                        .text("guest")
                        .is_none_or(|guest| row.get("guest") == Some(&json!(guest)))
            });
            Ok(Reply::data(
                jobs.map(|(id, row)| replica(world, id, row))
                    .collect::<Value>(),
            ))
        }
        (Method::Get, "/nodes/{node}/replication/{id}/status") => {
            let id = call.owned("id");
            match rows("/cluster/replication")
                .iter()
                .find(|(own, _)| *own == id)
            {
                Some((_, row)) => Ok(Reply::data(replica(world, &id, row))),
                None => Err(ApiError::die(format!("no such replication job '{id}'"))),
            }
        }
        _ => return None,
    })
}

/// The guests that a backup job takes, with their volumes and why these are in it or not.
fn included(call: &Call<'_>, job: &Row) -> Vec<Value> {
    let part = |value: &str, key: &str| {
        let mut parts = value.split(',').filter_map(|part| part.split_once('='));
        parts.find_map(|(own, value)| (own == key).then(|| value.to_owned()))
    };
    let guests = call.world.guests.iter();
    let taken = guests.filter(|(vmid, guest)| {
        covers(job, **vmid, guest) && call.may(&format!("/vms/{vmid}"), "VM.Audit")
    });
    taken
        .map(|(vmid, guest)| {
            let disks = guest.config.iter().filter(|(key, value)| {
                guest.kind.is_disk(key)
                    && !key.starts_with("unused")
                    && part(value, "media").as_deref() != Some("cdrom")
            });
            let children: Vec<Value> = disks
                .map(|(key, value)| {
                    let backup = part(value, "backup");
                    let volume = crate::guest::volume_of(value);
                    let (taken, why) = match guest.kind {
                        Kind::Qemu => {
                            let why = if backup.is_some() { "backup=no" } else { "backup=yes" };
                            (backup.as_deref() != Some("0"), why)
                        }
                        Kind::Lxc if key == "rootfs" => (true, "rootfs"),
                        Kind::Lxc if volume.starts_with('/') => (false, "not a volume"),
                        Kind::Lxc if backup.as_deref() == Some("1") => (true, "enabled"),
                        Kind::Lxc => (false, "disabled"),
                    };
                    json!({
                        "id": format!("{vmid}:{key}"), "name": volume, "included": u8::from(taken), "reason": why,
                        "leaf": 1,
                    })
                })
                .collect();
            json!({
                "id": vmid, "type": guest.kind.api(), "name": guest.name(*vmid), "leaf": u8::from(children.is_empty()),
                "children": children,
            })
        })
        .collect()
}

/// Whether a backup job takes a guest.
fn covers(job: &Row, vmid: u32, guest: &crate::guest::Guest) -> bool {
    let text = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or("");
    let lists = |key: &str| split_list(text(key)).any(|id| id == vmid.to_string());
    let chosen = lists("vmid")
        || text("all") == "1" && !lists("exclude")
        || !text("pool").is_empty() && guest.pool.as_deref() == Some(text("pool"));
    chosen && (text("node").is_empty() || text("node") == guest.node)
}

fn replica(world: &World, id: &str, row: &Row) -> Value {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("");
    let guest: u32 = text("guest").parse().unwrap_or(0);
    let kind = world
        .guests
        .get(&guest)
        .map_or("qemu", |guest| guest.kind.api());
    let mut entry = json!({
        "id": id, "guest": guest, "jobnum": text("jobnum").parse::<u32>().unwrap_or(0), "type": "local",
        "source": text("source"), "target": text("target"), "vmtype": kind, "fail_count": 0, "last_sync": 0,
        "last_try": 0, "duration": 0, "next_sync": world.now.as_secs() / 900 * 900 + 900,
        "schedule": row.get("schedule").cloned().unwrap_or_else(|| json!("*/15")),
    });
    for key in ["comment", "disable", "rate"] {
        if let Some(value) = row.get(key) {
            entry[key] = value.clone();
        }
    }
    entry
}

impl World {
    /// Forgets what was configured for a guest that is gone; with `purge` also the jobs that name it.
    pub(crate) fn forget_guest(&mut self, vmid: u32, purge: bool) {
        let own = format!("/guests/{vmid}/");
        self.records.retain(|key, _| !key.starts_with(&own));
        self.settings.retain(|key, _| !key.starts_with(&own));
        if !purge {
            return;
        }
        let id = vmid.to_string();
        for (key, rows) in &mut self.records {
            match key.as_str() {
                "/cluster/ha/resources" => {
                    rows.retain(|(sid, _)| sid.rsplit(':').next() != Some(&id));
                }
                "/cluster/replication" => {
                    rows.retain(|(job, _)| job.split('-').next() != Some(&id));
                }
                "/cluster/backup" => {
                    for (_, row) in rows {
                        if let Some(Value::String(list)) = row.get_mut("vmid") {
                            let left: Vec<&str> =
                                split_list(list).filter(|one| *one != id).collect();
                            *list = left.join(",");
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// What every node and cluster has before anything is configured.
    pub(crate) fn configure_basics(&mut self) {
        let row = |pairs: &[(&str, &str)]| -> Row {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), json!(value)))
                .collect()
        };
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for (name, number) in names.iter().zip(1..) {
            let own = format!("192.0.2.{number}");
            let cidr = format!("{own}/24");
            let mut wire = row(&[
                ("type", "eth"),
                ("active", "1"),
                ("exists", "1"),
                ("method", "manual"),
                ("method6", "manual"),
                ("priority", "3"),
            ]);
            wire.insert("families".into(), json!(["inet"]));
            let mut bridge = row(&[
                ("type", "bridge"),
                ("active", "1"),
                ("autostart", "1"),
                ("method", "static"),
                ("method6", "manual"),
                ("priority", "4"),
                ("address", &own),
                ("netmask", "24"),
                ("cidr", &cidr),
                ("gateway", "192.0.2.254"),
                ("bridge_ports", "eno1"),
                ("bridge_stp", "off"),
                ("bridge_fd", "0"),
            ]);
            bridge.insert("families".into(), json!(["inet"]));
            // The first port carries the bridge, the others are free.
            let free = (0..8).map(|port| (format!("eth{port}"), wire.clone()));
            let mut rows = vec![("eno1".to_owned(), wire.clone())];
            rows.extend(free);
            rows.push(("vmbr0".to_owned(), bridge));
            self.records.insert(network::planned(name), rows);
            self.apply_network(name);
        }
        self.records.insert(
            "/cluster/sdn/ipams".into(),
            vec![("pve".to_owned(), row(&[("type", "pve")]))],
        );
        self.configure_notifications();
        self.configure_realms();
        self.apply_sdn();
    }

    /// Puts the planned network in force.
    pub(crate) fn apply_sdn(&mut self) {
        self.sdn_running = self.sdn_planned();
    }

    pub(crate) fn sdn_planned(&self) -> BTreeMap<String, Rows> {
        self.records
            .iter()
            .filter(|(key, _)| key.starts_with("/cluster/sdn/"))
            .map(|(key, rows)| (key.clone(), rows.clone()))
            .collect()
    }
}

/// One text parameter that may have come as a list.
pub(super) fn listed(param: Option<&Param>) -> Vec<String> {
    match param {
        Some(Param::Text(text)) => split_list(text).map(str::to_owned).collect(),
        Some(Param::List(items)) => items
            .iter()
            .filter_map(Param::text)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}
