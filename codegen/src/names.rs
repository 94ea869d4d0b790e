//! Every name of the generated crate, decided in one place.
//!
//! Names of path nodes and requests follow from paths alone. Items get the overlay's name, else
//! their previous name (the lock), else the shortest of their candidates that no other item wants.
//! The order of traversal does not matter.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use heck::{ToSnakeCase, ToUpperCamelCase};

use crate::facts::Method;
use crate::ir::{Api, Item, ItemKind, Member, Parameter};
use crate::overlay::Overlay;
use crate::place::{Place, camel_field};

/// The names of items, and the lock that keeps them.
#[derive(Debug)]
pub(crate) struct Names {
    /// By item.
    pub(crate) items: Vec<String>,
    pub(crate) lock: String,
}

/// Names that generated files import from the core.
const CORE_NAMES: &[&str] = &[
    "ApiRequest",
    "ApiValue",
    "Between",
    "BTreeMap",
    "Box",
    "BoxFuture",
    "Bytes",
    "Call",
    "Changes",
    "Cidr",
    "Client",
    "Default",
    "DiskKey",
    "DiskSize",
    "EncodedText",
    "Endpoint",
    "Error",
    "Expected",
    "Extra",
    "FromInteger",
    "Generated",
    "IndexedMap",
    "IntoFuture",
    "IntoItems",
    "IntoItemsSetting",
    "IntoSetting",
    "IntoValue",
    "IpAddress",
    "List",
    "MacAddr",
    "Method",
    "NodeName",
    "None",
    "Object",
    "ObjectSchema",
    "Objects",
    "Ok",
    "OpenEnum",
    "Option",
    "ParamValue",
    "Partial",
    "PathNode",
    "Pending",
    "Permission",
    "Problem",
    "PropertyStringRules",
    "Realm",
    "Renamed",
    "Release",
    "Request",
    "Result",
    "Root",
    "Scalar",
    "Secret",
    "Self",
    "Settings",
    "Several",
    "Some",
    "StorageId",
    "String",
    "Takes",
    "Task",
    "Timestamp",
    "ToParam",
    "UnknownKeys",
    "UnknownValue",
    "UserId",
    "Value",
    "Vec",
    "View",
    "VolumeId",
];

/// Rust's keywords, which cannot be names of fields or methods.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Whether a name is a valid identifier in Rust.
pub(crate) fn is_plain(name: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || c == '_';
    name.starts_with(first)
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !KEYWORDS.contains(&name)
        && name != "_"
        && name != "Self"
}

/// The maximum length of a type's name.
const MAX_LENGTH: usize = 40;

/// The methods of request types that are not setters.
const REQUEST_METHODS: &[&str] = &[
    "call",
    "changes",
    "clone",
    "into_future",
    "into_request",
    "param",
    "params",
    "repeatable",
    "settings",
    "unset",
];

/// A field, argument or method for a wire name.
pub(crate) fn field(overlay: &Overlay, wire: &str) -> String {
    if let Some(name) = overlay.field_name(wire) {
        return name.to_owned();
    }
    let name = wire.strip_suffix("[n]").unwrap_or(wire).to_snake_case();
    match name.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("n{name}"),
        _ if KEYWORDS.contains(&name.as_str()) => format!("{name}_"),
        _ => name,
    }
}

/// The field of a member, or the argument for a parameter, with the name for its place.
pub(crate) fn field_of(overlay: &Overlay, of: &impl Named) -> String {
    match of.rust_name() {
        Some(name) => name.to_owned(),
        None => field(overlay, &of.wire()),
    }
}

/// The setter of a request's parameter, with the name for its place.
pub(crate) fn setter_of(overlay: &Overlay, parameter: &Parameter) -> String {
    match &parameter.rust_name {
        Some(name) => name.clone(),
        None => setter(overlay, &parameter.name),
    }
}

/// A value with a wire name, and possibly a name of its own in Rust.
pub(crate) trait Named {
    /// With `[n]` for indexed parameters.
    fn wire(&self) -> Cow<'_, str>;
    fn rust_name(&self) -> Option<&str>;
}

impl Named for Parameter {
    fn wire(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn rust_name(&self) -> Option<&str> {
        self.rust_name.as_deref()
    }
}

impl Named for Member {
    fn wire(&self) -> Cow<'_, str> {
        Cow::Owned(self.full_name())
    }

    fn rust_name(&self) -> Option<&str> {
        self.rust_name.as_deref()
    }
}

/// A setter of a request.
pub(crate) fn setter(overlay: &Overlay, wire: &str) -> String {
    let name = field(overlay, wire);
    match REQUEST_METHODS.contains(&name.as_str()) {
        true => format!("{name}_"),
        false => name,
    }
}

/// The method of a path node for the next segment.
pub(crate) fn step(overlay: &Overlay, segment: &str) -> String {
    let name = field(overlay, segment);
    match name.as_str() {
        // Path nodes can be cloned, and `clone` should keep its usual meaning.
        "clone" => format!("{name}_"),
        _ => name,
    }
}

/// A variant for an enum's text.
pub(crate) fn variant(overlay: &Overlay, text: &str) -> String {
    if let Some(name) = overlay.variant_name(text) {
        return name.to_owned();
    }
    let name = text
        .replace('+', " plus ")
        .replace('.', " ")
        .to_upper_camel_case();
    match name.chars().next() {
        None => "Empty".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("V{name}"),
        _ if name == "UnknownValue" || name == "Self" => format!("{name}_"),
        _ => name,
    }
}

/// The type of a path node.
pub(crate) fn path_node(overlay: &Overlay, path: &str) -> String {
    match path {
        "" | "/" => "Root".to_owned(),
        path => format!("{}Path", overlay.stem(path, true)),
    }
}

/// The type of a request.
pub(crate) fn request(overlay: &Overlay, path: &str, method: Method) -> String {
    format!("{}{}", overlay.stem(path, true), verb(method))
}

/// The type between a path and a request whose required parameters are given by name.
pub(crate) fn stage(overlay: &Overlay, path: &str, method: Method) -> String {
    format!("{}Required", request(overlay, path, method))
}

pub(crate) fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "Get",
        Method::Post => "Post",
        Method::Put => "Put",
        Method::Delete => "Delete",
    }
}

/// The names of types that are in use, each with what has it.
struct Claims<'a> {
    owners: BTreeMap<String, String>,
    overlay: &'a Overlay,
}

impl Claims<'_> {
    /// Takes a name; a name that is in use already is a problem.
    fn claim(&mut self, name: String, by: String) {
        if let Some(first) = self.owners.get(&name) {
            self.overlay.problem(format!(
                "the name {name} is wanted by {first} and by {by}; name one of them in names.toml: `{name}2 = \"{by}\"` \
                 under [items]"
            ));
        }
        self.owners.insert(name, by);
    }
}

/// Names every item.
pub(crate) fn decide(api: &Api, overlay: &Overlay, lock: Option<&str>) -> Names {
    let owners = CORE_NAMES
        .iter()
        .map(|name| ((*name).to_owned(), "the core".to_owned()));
    let mut claims = Claims {
        owners: owners.collect(),
        overlay,
    };
    claim_requests_and_paths(api, &mut claims);
    let locked = read_lock(lock.unwrap_or_default(), overlay);
    let mut names: Vec<Option<String>> = api
        .items
        .iter()
        .map(|item| {
            let name = given_name(item, &locked, overlay);
            if let Some(name) = &name {
                claims.claim(name.clone(), first_place(item));
            }
            name
        })
        .collect();
    assign_candidates(api, &mut names, &mut claims);
    let items: Vec<String> = names
        .into_iter()
        .zip(&api.items)
        .map(|(name, item)| {
            name.unwrap_or_else(|| {
                overlay.problem(format!(
                    "{0}: needs a name in names.toml: `A Name = \"{0}\"` under [items]",
                    first_place(item)
                ));
                String::from("Unnamed")
            })
        })
        .collect();
    for (name, item) in items.iter().zip(&api.items) {
        if name.len() > MAX_LENGTH {
            overlay.mismatch(format!(
                "{0}: the name {name} is too long; give it another one in names.toml: `A Name = \"{0}\"` under [items]",
                first_place(item)
            ));
        }
    }
    let lock = write_lock(&items, &api.items);
    Names { items, lock }
}

fn claim_requests_and_paths(api: &Api, claims: &mut Claims<'_>) {
    let overlay = claims.overlay;
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for endpoint in &api.endpoints {
        let mut path = endpoint.path.as_str();
        while !path.is_empty() && paths.insert(path) {
            path = path.rfind('/').map_or("", |cut| &path[..cut]);
        }
        let name = request(overlay, &endpoint.path, endpoint.method);
        claims.claim(name, endpoint.key());
        if api.is_named(endpoint) {
            let name = stage(overlay, &endpoint.path, endpoint.method);
            claims.claim(name, endpoint.key());
        }
    }
    // The core has the root of the tree.
    for path in paths.into_iter().filter(|path| *path != "/") {
        claims.claim(path_node(overlay, path), path.to_owned());
    }
}

/// The name of an item in the overlay, or else in the lock.
fn given_name(item: &Item, locked: &BTreeMap<String, String>, overlay: &Overlay) -> Option<String> {
    if let ItemKind::PropertyString(string) = &item.kind {
        return Some(string.name.clone());
    }
    let in_lock = || item.places.iter().find_map(|at| locked.get(&at.key()));
    enum_name(overlay, item)
        .or_else(|| overlay.item_name(&item.places))
        .map(str::to_owned)
        .or_else(|| in_lock().cloned())
}

/// Names the other items: a name with one candidate item is assigned, and the other items try their
/// next candidate.
fn assign_candidates(api: &Api, names: &mut [Option<String>], claims: &mut Claims<'_>) {
    let candidates: Vec<Vec<String>> = (api.items.iter())
        .map(|item| candidates(claims.overlay, item))
        .collect();
    for round in 0..candidates.iter().map(Vec::len).max().unwrap_or(0) {
        let mut by_name: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
        for (item, candidates) in candidates.iter().enumerate() {
            if let (None, Some(name)) = (&names[item], candidates.get(round)) {
                by_name.entry(name).or_default().push(item);
            }
        }
        for (name, items) in by_name {
            if let ([item], false) = (items.as_slice(), claims.owners.contains_key(name)) {
                claims.claim(name.clone(), first_place(&api.items[*item]));
                names[*item] = Some(name.clone());
            }
        }
    }
}

fn enum_name<'a>(overlay: &'a Overlay, item: &Item) -> Option<&'a str> {
    let ItemKind::Enum(_) = item.kind else {
        return None;
    };
    item.places.iter().find_map(|at| overlay.enum_name(at))
}

/// What messages and the lock call an item.
fn first_place(item: &Item) -> String {
    item.places.first().map(Place::key).unwrap_or_default()
}

fn read_lock(text: &str, overlay: &Overlay) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        let Some((name, place)) = line.split_once(' ') else {
            overlay.problem(format!("names.lock: line {number} is not an entry"));
            continue;
        };
        for word in [name, place] {
            if let Some(first) = lines.insert(word, number) {
                overlay.problem(format!(
                    "names.lock: {word} is in line {first} and in line {number}: keep the line that callers know, \
                     delete the other"
                ));
            }
        }
        names.insert(place.to_owned(), name.to_owned());
    }
    names
}

fn write_lock(names: &[String], items: &[Item]) -> String {
    let mut lines: Vec<String> = names
        .iter()
        .zip(items)
        .filter(|(_, item)| !matches!(item.kind, ItemKind::PropertyString(_)))
        .map(|(name, item)| format!("{name} {}\n", first_place(item)))
        .collect();
    lines.sort();
    lines.concat()
}

/// Possible names of an item, the best first.
fn candidates(overlay: &Overlay, item: &Item) -> Vec<String> {
    let mut places: Vec<&Place> = item.places.iter().collect();
    places.sort_by_key(|at| (at.fields.len(), at.path.matches('/').count(), at.key()));
    let Some(first) = places.first() else {
        return Vec::new();
    };
    let parents = first
        .fields
        .iter()
        .map(|field| camel_field(field))
        .collect::<Vec<_>>();
    let suffix = if first.element && matches!(item.kind, ItemKind::Struct(_)) {
        "Item"
    } else {
        ""
    };
    let mut names = Vec::new();
    if let (ItemKind::Enum(_), Some(leaf)) = (&item.kind, first.fields.last()) {
        let leaf = camel_field(leaf);
        let owners: BTreeSet<_> = places.iter().map(|at| at.owner.as_deref()).collect();
        match owners.first() {
            Some(Some(owner)) if owners.len() == 1 => names.push(format!("{owner}{leaf}")),
            _ => {
                let common = places.iter().fold(first.path.clone(), |common, at| {
                    common_path(&common, &at.path)
                });
                if !common.is_empty() && common != "/nodes/{node}" && common != "/nodes" {
                    names.push(format!("{}{leaf}", overlay.stem(&common, false)));
                }
            }
        }
        names.push(format!("{}{leaf}", overlay.stem(&first.path, false)));
    }
    let parents = parents.concat();
    names.push(format!(
        "{}{parents}{suffix}",
        overlay.stem(&first.path, false)
    ));
    let verb = verb(first.method);
    let role = if first.result { "Result" } else { "" };
    names.push(format!(
        "{}{verb}{parents}{suffix}",
        overlay.stem(&first.path, false)
    ));
    names.push(format!(
        "{}{parents}{suffix}",
        overlay.stem(&first.path, true)
    ));
    names.push(format!(
        "{}{verb}{role}{parents}{suffix}",
        overlay.stem(&first.path, true)
    ));
    names
}

fn common_path(left: &str, right: &str) -> String {
    let same = left
        .split('/')
        .zip(right.split('/'))
        .take_while(|(left, right)| left == right);
    same.map(|(segment, _)| segment)
        .collect::<Vec<_>>()
        .join("/")
}
