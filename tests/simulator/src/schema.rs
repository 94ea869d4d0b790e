//! The facts of the simulated release, and the routing of a request path to an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use proxmox_codegen::facts::{Endpoint, Facts, Format, Method, Release, Schema, Schemas, Type};

use crate::embedded::section;
use crate::indexed::split_index;

/// The releases that can be simulated, oldest first, and their facts.
const RELEASES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/releases.rs"));

/// Releases accepted by [`crate::builder::Builder::release`], oldest first.
#[must_use]
pub fn releases() -> Vec<&'static str> {
    RELEASES.iter().map(|(name, _)| *name).collect()
}

/// The newest of [`releases`].
#[must_use]
pub fn newest_release() -> &'static str {
    RELEASES.last().map_or("", |(name, _)| name)
}

/// The newest of [`releases`] of each major release, oldest first.
#[must_use]
pub fn last_of_each_major() -> Vec<&'static str> {
    let releases = releases();
    let majors = releases.chunk_by(|one, next| one.split('.').next() == next.split('.').next());
    majors.filter_map(|major| major.last().copied()).collect()
}

/// The facts of a release.
///
/// # Errors
///
/// The release is not one of [`releases`].
pub fn facts(release: &str) -> Result<Facts, crate::error::Error> {
    ApiSchema::load(release)
        .map(|schema| schema.facts)
        .map_err(crate::error::Error::new)
}

/// Endpoints with a string result that is not a task, as `METHOD path`.
static TEXTS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    section("texts")
        .flat_map(|texts| texts.keys().cloned())
        .collect()
});

/// The constraints on a key of a property string beyond its type.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyRules {
    format: Option<String>,
    pattern: Option<String>,
    requires: Option<String>,
    values: Option<String>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    max_length: Option<u64>,
}

impl KeyRules {
    /// Adds constraints that the dump lacks to a key.
    fn apply(&self, schema: &mut Schema) {
        if schema.format.is_none() {
            schema.format = self.format.clone().map(Format::Name);
        }
        schema.pattern = schema.pattern.take().or_else(|| self.pattern.clone());
        schema.requires = schema.requires.take().or_else(|| self.requires.clone());
        let words = |text: &String| text.split_whitespace().map(str::to_owned).collect();
        schema.values = schema
            .values
            .take()
            .or_else(|| self.values.as_ref().map(words));
        schema.minimum = schema
            .minimum
            .take()
            .or_else(|| self.minimum.map(Into::into));
        schema.maximum = schema
            .maximum
            .take()
            .or_else(|| self.maximum.map(Into::into));
        schema.max_length = schema.max_length.or(self.max_length);
    }
}

/// The rules for the keys of named property strings.
static KEYS: LazyLock<BTreeMap<String, BTreeMap<String, KeyRules>>> =
    LazyLock::new(|| toml::from_str(include_str!("keys.toml")).unwrap_or_default());

/// Completes formats that a dump names without their keys.
fn complete(facts: &mut Facts) {
    // The server reads some values as one text although the dump has keys for them.
    facts
        .formats
        .retain(|name, _| crate::formats::check(name, "").is_none());
    let create = |path: &str| {
        let methods = facts.endpoints.get(path)?;
        Some(&methods.get(&Method::Post)?.parameters.properties)
    };
    // The alias of an optical drive.
    let drive =
        create("/nodes/{node}/qemu").and_then(|params| params.get("ide[n]")?.format.clone());
    let model = create("/cluster/qemu/custom-cpu-models")
        .and_then(|params| params.get("reported-model")?.values.clone());
    if let Some(Format::Keys(mut keys)) = drive {
        // It is no way to bring in a disk.
        keys.remove("import-from");
        facts.formats.insert("pve-qm-ide".to_owned(), keys);
    }
    if let Some(model) = model
        && let Some(cpu) = facts.formats.get_mut("pve-vm-cpu-conf")
        && let Some(schema) = cpu.get_mut("reported-model")
    {
        schema.values = Some(model);
    }
    if !facts.formats.contains_key("pve-sdn-dhcp-range") {
        let ends = ["start-address", "end-address"];
        let keys = ends.map(|end| (end.to_owned(), Schema::default()));
        facts
            .formats
            .insert("pve-sdn-dhcp-range".to_owned(), keys.into());
    }
}

pub(crate) struct ApiSchema {
    facts: Facts,
    root: Node,
}

#[derive(Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    placeholder: Option<(String, Box<Node>)>,
    /// The template, if endpoints exist at this node.
    path: Option<String>,
}

/// An endpoint and the values of its path.
pub(crate) struct FoundEndpoint<'a> {
    pub(crate) path: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) uri: Vec<(String, String)>,
}

impl ApiSchema {
    /// Like [`ApiSchema::load`], and read once for all simulators of a program: that takes longer than
    /// all else that they do to start.
    pub(crate) fn shared(release: &str) -> Result<Arc<Self>, String> {
        static READ: Mutex<BTreeMap<String, Arc<ApiSchema>>> = Mutex::new(BTreeMap::new());
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = read.get(release) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Self::load(release)?);
        read.insert(release.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }

    pub(crate) fn load(release: &str) -> Result<Self, String> {
        let text = RELEASES
            .iter()
            .find(|(name, _)| *name == release)
            .map(|(_, text)| *text)
            .ok_or_else(|| {
                format!(
                    "release {release} is not known; there are {}",
                    releases().join(", ")
                )
            })?;
        let mut facts = proxmox_codegen::facts_json::read(text)
            .map_err(|error| format!("schema/pve/{release}.json: {error}"))?;
        for (name, keys) in &*KEYS {
            let Some(format) = facts.formats.get_mut(name) else {
                continue;
            };
            for (key, rules) in keys {
                if let Some(schema) = format.get_mut(key) {
                    rules.apply(schema);
                }
            }
        }
        complete(&mut facts);
        let mut root = Node::default();
        for path in facts.endpoints.keys() {
            let mut node = &mut root;
            for segment in path.split('/').filter(|s| !s.is_empty()) {
                node = match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                    Some(name) => {
                        &mut node
                            .placeholder
                            .get_or_insert_with(|| (name.to_owned(), Box::default()))
                            .1
                    }
                    None => node.literals.entry(segment.to_owned()).or_default(),
                };
            }
            node.path = Some(path.clone());
        }
        Ok(Self { facts, root })
    }

    pub(crate) fn release(&self) -> Release {
        self.facts.release
    }

    pub(crate) fn formats(&self) -> &BTreeMap<String, Schemas> {
        &self.facts.formats
    }

    pub(crate) fn endpoints(&self) -> &BTreeMap<String, BTreeMap<Method, Endpoint>> {
        &self.facts.endpoints
    }

    pub(crate) fn endpoint(&self, method: Method, path: &str) -> Option<&Endpoint> {
        self.facts.endpoints.get(path)?.get(&method)
    }

    /// Finds the endpoint for a decoded path.
    pub(crate) fn find(&self, method: Method, segments: &[&str]) -> Option<FoundEndpoint<'_>> {
        let mut node = &self.root;
        let mut uri = Vec::new();
        let mut rest = segments;
        while let Some((segment, tail)) = rest.split_first() {
            rest = tail;
            if let Some(next) = node.literals.get(*segment) {
                node = next;
                continue;
            }
            let (name, next) = node.placeholder.as_ref()?;
            let mut value = (*segment).to_owned();
            // The last placeholder of these two takes the rest of the path, including slashes.
            if matches!(name.as_str(), "volume" | "cidr") {
                for part in std::mem::take(&mut rest) {
                    value.push('/');
                    value.push_str(part);
                }
            }
            // The server matches paths as bytes; these bytes are white space to it.
            if value.contains([' ', '\t', '\n', '\r', '\x0b', '\x0c']) {
                return None;
            }
            uri.push((name.clone(), value));
            node = next;
        }
        let path = node.path.as_deref()?;
        let endpoint = self.endpoint(method, path)?;
        Some(FoundEndpoint {
            path,
            endpoint,
            uri,
        })
    }

    /// The template one parameter below this one.
    pub(crate) fn item_of(&self, path: &str) -> Option<&str> {
        let mut node = &self.root;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            node = if segment.starts_with('{') {
                &node.placeholder.as_ref()?.1
            } else {
                node.literals.get(segment)?
            };
        }
        node.placeholder.as_ref()?.1.path.as_deref()
    }

    /// The literal children of a path, for index answers.
    pub(crate) fn children(&self, segments: &[&str]) -> Vec<String> {
        let mut node = &self.root;
        for segment in segments {
            let next = node
                .literals
                .get(*segment)
                .or_else(|| node.placeholder.as_ref().map(|(_, next)| &**next));
            match next {
                Some(next) => node = next,
                None => return Vec::new(),
            }
        }
        node.literals.keys().cloned().collect()
    }
}

/// Whether a call of the endpoint forks a worker and answers with its UPID.
pub(crate) fn is_task(method: Method, path: &str, endpoint: &Endpoint) -> bool {
    let name = format!("{method} {path}");
    returns_type(&endpoint.returns) == Type::String && !TEXTS.contains(&name)
}

/// The type of a schema, which may be implicit.
pub(crate) fn returns_type(schema: &Schema) -> Type {
    schema.ty.unwrap_or_else(|| {
        if schema.properties.is_some() || schema.additional.is_some() {
            Type::Object
        } else if schema.items.is_some() {
            Type::Array
        } else if schema.values.is_some() || schema.format.is_some() || schema.pattern.is_some() {
            Type::String
        } else {
            Type::Any
        }
    })
}

/// Finds a name, including indexed ones.
pub(crate) fn lookup<'a>(schemas: &'a Schemas, name: &str) -> Option<&'a Schema> {
    schemas.get(name).or_else(|| {
        let (prefix, _) = split_index(name)?;
        schemas.get(&format!("{prefix}[n]"))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proxmox_codegen::facts::{Additional, Format};

    use super::*;
    use crate::indexed::HIGHEST_INDEXES;

    fn visit(schema: &Schema, see: &mut impl FnMut(&Schema)) {
        see(schema);
        for inner in schema.properties.iter().flat_map(BTreeMap::values) {
            visit(inner, see);
        }
        for inner in schema.one_of.iter().flatten() {
            visit(inner, see);
        }
        if let Some(items) = &schema.items {
            visit(items, see);
        }
        if let Some(Additional::Schema(inner)) = &schema.additional {
            visit(inner, see);
        }
        if let Some(Format::Keys(keys)) = &schema.format {
            keys.values().for_each(|inner| visit(inner, see));
        }
    }

    fn parameters(see: &mut impl FnMut(&ApiSchema, &Schema)) {
        for release in releases() {
            let schema = ApiSchema::load(release).expect(release);
            for endpoint in schema.endpoints().values().flat_map(BTreeMap::values) {
                for parameter in endpoint.parameters.properties.values() {
                    visit(parameter, &mut |inner| see(&schema, inner));
                }
            }
        }
    }

    #[test]
    fn rules_for_keys_name_existing_keys() {
        let rules: BTreeMap<String, BTreeMap<String, KeyRules>> =
            toml::from_str(include_str!("keys.toml")).expect("rules");
        let schema = ApiSchema::load(newest_release()).expect("the newest release");
        for (name, keys) in &rules {
            let format = schema.formats().get(name);
            let format = format.unwrap_or_else(|| panic!("no {name}"));
            for key in keys.keys() {
                assert!(format.contains_key(key), "no {key} in {name}");
            }
        }
    }

    #[test]
    fn every_pattern_can_be_matched() {
        let mut refused = BTreeSet::new();
        let mut seen = BTreeSet::new();
        parameters(&mut |_, schema| {
            if let Some(pattern) = &schema.pattern {
                seen.insert(pattern.clone());
                if crate::pattern::matches(pattern, "").is_none() {
                    refused.insert(pattern.clone());
                }
            }
        });
        assert!(seen.len() > 60, "{}", seen.len());
        assert_eq!(refused, BTreeSet::new());
    }

    #[test]
    fn formats_that_accept_any_text_are_known() {
        let mut open = BTreeSet::new();
        parameters(&mut |api, schema| {
            if let Some(Format::Name(name)) = &schema.format {
                let known =
                    api.formats().contains_key(name) || crate::formats::check(name, "").is_some();
                if !known {
                    open.insert(name.clone());
                }
            }
        });
        let expected: BTreeSet<String> = UNCHECKED.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(open, expected);
    }

    /// Free text, and property strings whose keys no dump has.
    const UNCHECKED: &[&str] = &["pve-sdn-fabric-wireguard-interface", "string-alist"];

    #[test]
    fn tasks_are_counted() {
        let schema = ApiSchema::load(newest_release()).expect("the newest release");
        let tasks = schema
            .endpoints()
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .iter()
                    .map(move |(method, endpoint)| (path, *method, endpoint))
            })
            .filter(|(path, method, endpoint)| is_task(*method, path, endpoint))
            .count();
        assert_eq!(tasks, 94);
    }

    #[test]
    fn a_string_result_of_an_old_release_is_not_a_task() {
        let schema = ApiSchema::load("7.4").expect("7.4");
        let path = "/nodes/{node}/ceph/config";
        let endpoint = &schema.endpoints()[path][&Method::Get];
        assert!(!is_task(Method::Get, path, endpoint));
    }

    #[test]
    fn every_indexed_parameter_has_a_highest_index() {
        let mut missing = BTreeSet::new();
        for release in releases() {
            let api = ApiSchema::load(release).expect("a known release");
            for endpoint in api.endpoints().values().flat_map(BTreeMap::values) {
                let returned = endpoint.returns.properties.iter().flatten();
                for (name, _) in endpoint.parameters.properties.iter().chain(returned) {
                    if let Some(prefix) = name.strip_suffix("[n]")
                        && !HIGHEST_INDEXES.contains_key(prefix)
                    {
                        missing.insert(prefix.to_owned());
                    }
                }
            }
        }
        assert_eq!(missing, BTreeSet::new());
    }

    #[test]
    fn indexes_end_at_the_highest_index() {
        assert_eq!(split_index("net31"), Some(("net", 31)));
        assert_eq!(split_index("net32"), None);
        assert_eq!(split_index("ide4"), None);
        assert_eq!(split_index("net01"), None);
        assert_eq!(split_index("7"), None);
    }
}
