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
use crate::place::{Use, camel_field};

/// The names of items, and the lock that keeps them.
#[derive(Debug)]
pub(crate) struct Names {
    /// By item.
    pub(crate) items: Vec<String>,
    pub(crate) lock: String,
}

/// Names that generated files import from the core.
const TAKEN: &[&str] = &[
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
const LONGEST: usize = 40;

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
    match of.code() {
        Some(code) => code.to_owned(),
        None => field(overlay, &of.wire()),
    }
}

/// The setter of a request's parameter, with the name for its place.
pub(crate) fn setter_of(overlay: &Overlay, parameter: &Parameter) -> String {
    match &parameter.code {
        Some(code) => code.clone(),
        None => setter(overlay, &parameter.name),
    }
}

/// A value with a wire name, and possibly a name of its own in Rust.
pub(crate) trait Named {
    /// With `[n]` for indexed parameters.
    fn wire(&self) -> Cow<'_, str>;
    fn code(&self) -> Option<&str>;
}

impl Named for Parameter {
    fn wire(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl Named for Member {
    fn wire(&self) -> Cow<'_, str> {
        Cow::Owned(self.full_name())
    }

    fn code(&self) -> Option<&str> {
        self.code.as_deref()
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
pub(crate) fn place(overlay: &Overlay, path: &str) -> String {
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

/// Names every item.
pub(crate) fn decide(api: &Api, overlay: &Overlay, lock: Option<&str>) -> Names {
    let mut taken: BTreeMap<String, String> = TAKEN
        .iter()
        .map(|name| ((*name).to_owned(), "the core".to_owned()))
        .collect();
    let mut claim = |name: String, by: String, overlay: &Overlay| {
        if let Some(first) = taken.get(&name) {
            overlay.problem(format!(
                "the name {name} is wanted by {first} and by {by}; name one of them in names.toml: `{name}2 = \"{by}\"` \
                 under [items]"
            ));
        }
        taken.insert(name, by);
    };
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for endpoint in &api.endpoints {
        let mut path = endpoint.path.as_str();
        while !path.is_empty() && paths.insert(path) {
            path = path.rfind('/').map_or("", |cut| &path[..cut]);
        }
        claim(
            request(overlay, &endpoint.path, endpoint.method),
            endpoint.key(),
            overlay,
        );
        if api.is_named(endpoint) {
            claim(
                stage(overlay, &endpoint.path, endpoint.method),
                endpoint.key(),
                overlay,
            );
        }
    }
    // The root of the tree is taken already.
    for path in paths.into_iter().filter(|path| *path != "/") {
        claim(place(overlay, path), path.to_owned(), overlay);
    }

    let locked = read_lock(lock.unwrap_or_default(), overlay);
    let mut names: Vec<Option<String>> = api
        .items
        .iter()
        .map(|item| {
            let name = match &item.kind {
                ItemKind::PropertyString(string) => Some(string.name.clone()),
                kind => enum_name(overlay, kind, item)
                    .or_else(|| overlay.item_name(&item.uses))
                    .map(str::to_owned)
                    .or_else(|| {
                        item.uses
                            .iter()
                            .find_map(|at| locked.get(&at.key()).cloned())
                    }),
            };
            if let Some(name) = &name {
                claim(name.clone(), describe(item), overlay);
            }
            name
        })
        .collect();

    // A name with one candidate item is assigned; the other items try their next candidate.
    let candidates: Vec<Vec<String>> = (api.items.iter())
        .map(|item| candidates(overlay, item))
        .collect();
    for round in 0..candidates.iter().map(Vec::len).max().unwrap_or(0) {
        let mut wanted: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
        for (item, candidates) in candidates.iter().enumerate() {
            if let (None, Some(name)) = (&names[item], candidates.get(round)) {
                wanted.entry(name).or_default().push(item);
            }
        }
        for (name, items) in wanted {
            if let ([item], false) = (items.as_slice(), taken.contains_key(name)) {
                taken.insert(name.clone(), describe(&api.items[*item]));
                names[*item] = Some(name.clone());
            }
        }
    }
    let items: Vec<String> = names
        .into_iter()
        .zip(&api.items)
        .map(|(name, item)| {
            name.unwrap_or_else(|| {
                overlay.problem(format!(
                    "{0}: needs a name in names.toml: `A Name = \"{0}\"` under [items]",
                    describe(item)
                ));
                String::from("Unnamed")
            })
        })
        .collect();
    for (name, item) in items.iter().zip(&api.items) {
        if name.len() > LONGEST {
            overlay.mismatch(format!(
                "{0}: the name {name} is too long; give it another one in names.toml: `A Name = \"{0}\"` under [items]",
                describe(item)
            ));
        }
    }
    let mut lines: Vec<String> = items
        .iter()
        .zip(&api.items)
        .filter(|(_, item)| !matches!(item.kind, ItemKind::PropertyString(_)))
        .map(|(name, item)| format!("{name} {}\n", describe(item)))
        .collect();
    lines.sort();
    Names {
        items,
        lock: lines.concat(),
    }
}

fn enum_name<'a>(overlay: &'a Overlay, kind: &ItemKind, item: &Item) -> Option<&'a str> {
    let ItemKind::Enum(_) = kind else {
        return None;
    };
    item.uses.iter().find_map(|at| overlay.enum_name(at))
}

fn describe(item: &Item) -> String {
    item.uses.first().map(Use::key).unwrap_or_default()
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
                    "names.lock: {word} stands in line {first} and in line {number}: keep the line that callers know, \
                     delete the other"
                ));
            }
        }
        names.insert(place.to_owned(), name.to_owned());
    }
    names
}

/// Possible names of an item, the best first.
fn candidates(overlay: &Overlay, item: &Item) -> Vec<String> {
    let mut uses: Vec<&Use> = item.uses.iter().collect();
    uses.sort_by_key(|at| (at.fields.len(), at.path.matches('/').count(), at.key()));
    let Some(first) = uses.first() else {
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
        let owners: BTreeSet<_> = uses.iter().map(|at| at.owner.as_deref()).collect();
        match owners.first() {
            Some(Some(owner)) if owners.len() == 1 => names.push(format!("{owner}{leaf}")),
            _ => {
                let common = uses.iter().fold(first.path.clone(), |common, at| {
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
