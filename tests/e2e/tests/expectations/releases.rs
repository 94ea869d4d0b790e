//! Answers of each release: its own schema with the overlay's corrections, before the releases are
//! merged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use proxmox_codegen::facts::{Additional, Facts, Format, Schema, Schemas, Type};
use proxmox_codegen::facts_json;
use proxmox_codegen::generate::{self, Input};
use proxmox_e2e::ANSWERS;
use proxmox_e2e::show::{EXTRA, REST};
use proxmox_simulator::releases;
use serde_json::{Map, Value, json};

use crate::documents::UPID;

/// The imported schema of a release.
pub(crate) fn facts(release: &str) -> &'static Facts {
    static ALL: OnceLock<BTreeMap<&str, Facts>> = OnceLock::new();
    let read = |release: &'static str| {
        let path = format!(
            "{}/../../schema/pve/{release}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(&path).expect(&path);
        (release, facts_json::read(&text).expect(&path))
    };
    &ALL.get_or_init(|| releases().into_iter().map(read).collect())[release]
}

/// Every release, with corrections.
pub(crate) fn corrected() -> Vec<Facts> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/pve");
    let mut input = Input {
        overlay: crate::overlay(),
        ..Input::default()
    };
    for release in releases() {
        let name = format!("{release}.json");
        let text = std::fs::read_to_string(schema.join(&name)).expect(&name);
        input.releases.insert(name, text);
    }
    generate::expected(&input).expect("the schema is readable")
}

/// Generates values of one release's shapes.
struct Maker<'a> {
    formats: &'a BTreeMap<String, Schemas>,
    /// Optional members too.
    full: bool,
}

impl Maker<'_> {
    fn value(&self, schema: &Schema) -> Value {
        if let Some(choice) = schema.one_of.iter().flatten().next() {
            return self.value(choice);
        }
        let first = schema.values.iter().flatten().next();
        let ty = schema.ty.unwrap_or(match schema {
            _ if schema.properties.is_some() => Type::Object,
            _ if schema.items.is_some() => Type::Array,
            _ if first.is_some() => Type::String,
            _ => Type::Any,
        });
        match ty {
            Type::Null => Value::Null,
            Type::Boolean => json!(1),
            Type::Integer => json!(self.integer(schema)),
            Type::Number => json!(0.5),
            Type::String => json!(self.text(schema)),
            Type::Array => match &schema.items {
                Some(items) => json!([self.value(items), self.value(items)]),
                None => json!([]),
            },
            Type::Object => self.object(schema),
            Type::Any => json!({ "any": ["thing"] }),
        }
    }

    fn object(&self, schema: &Schema) -> Value {
        let mut object = Map::new();
        for (name, member) in schema.properties.iter().flatten() {
            // Old dumps describe a map as one member named `x.{id}`.
            if name.contains('{') || (member.optional && !self.full) {
                continue;
            }
            object.insert(name.replace("[n]", "0"), self.value(member));
        }
        if let Some(Additional::Schema(values)) = &schema.additional {
            object.insert("key".to_owned(), self.value(values));
        }
        Value::Object(object)
    }

    fn integer(&self, schema: &Schema) -> i64 {
        let listed = schema.values.iter().flatten().find_map(|v| v.parse().ok());
        let least = schema.minimum.as_ref().and_then(|number| number.as_i64());
        listed.unwrap_or_else(|| least.unwrap_or(1).max(1))
    }

    fn text(&self, schema: &Schema) -> String {
        if let Some(first) = schema.values.iter().flatten().next() {
            return first.clone();
        }
        let keys = match &schema.format {
            Some(Format::Keys(keys)) => Some(keys),
            Some(Format::Name(name)) if name.starts_with("pve-vmid") => return "100".to_owned(),
            Some(Format::Name(name)) => self.formats.get(name),
            _ => None,
        };
        let Some(keys) = keys else {
            return "text".to_owned();
        };
        let parts = keys
            .iter()
            .filter(|(_, key)| key.alias.is_none() && (self.full || !key.optional))
            .map(|(name, key)| match self.value(key) {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            });
        parts.collect::<Vec<_>>().join(",")
    }
}

/// Members that did not fit or were unknown, by place.
fn extras(place: &str, decoded: &Value, found: &mut BTreeSet<String>) {
    match decoded {
        Value::Object(object) => {
            for (name, value) in object {
                match (name.as_str(), value) {
                    (EXTRA, Value::Object(extra)) => {
                        found.extend(extra.keys().map(|key| format!("{place}.{key}")));
                    }
                    (REST, rest) => {
                        found.insert(format!("{place}: {rest}"));
                    }
                    _ => extras(&format!("{place}.{name}"), value, found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                extras(&format!("{place}[]"), item, found);
            }
        }
        _ => {}
    }
}

/// The ends of trees without a limit in depth: the dumps allow anything there, and the type has one
/// more level.
const ENDS_OF_TREES: [&str; 2] = [
    "GET /nodes/{node}/ceph/osd.root.children[].children[].children[].children[].children[].any",
    "GET /nodes/{node}/disks/zfs/{name}.children[].children[].children[].children",
];

#[test]
fn answers_of_every_release_decode() {
    let mut problems = BTreeSet::new();
    let mut unfit = BTreeSet::new();
    let mut decoded = 0;
    let releases = corrected();
    for facts in &releases {
        let release = facts.release;
        for answer in ANSWERS {
            let methods = facts.endpoints.get(answer.path);
            let endpoint = methods.and_then(|methods| {
                let method = answer.method;
                methods
                    .iter()
                    .find(|(known, _)| known.to_string() == method)
            });
            let Some((_, endpoint)) = endpoint else {
                continue;
            };
            for full in [false, true] {
                let maker = Maker {
                    formats: &facts.formats,
                    full,
                };
                let data = match endpoint.returns.ty {
                    Some(Type::String) if endpoint.returns.values.is_none() => json!(UPID),
                    _ => maker.value(&endpoint.returns),
                };
                let body = serde_json::to_vec(&json!({ "data": data })).expect("JSON");
                match (answer.decode)(&body) {
                    Ok(data) => {
                        decoded += 1;
                        let data = data.unwrap_or_default();
                        extras(&answer.to_string(), &data, &mut unfit);
                    }
                    Err(error) => {
                        problems.insert(format!("{answer:?} of {release}: {error}"));
                    }
                }
            }
        }
    }
    println!(
        "{decoded} answers shaped by the corrected schemas of {} releases decode, {} do not; {} members are kept in extra",
        releases.len(),
        problems.len(),
        unfit.len()
    );
    for end in ENDS_OF_TREES {
        assert!(unfit.remove(end), "{end} is not kept any more");
    }
    assert!(unfit.is_empty(), "declared, yet kept in extra: {unfit:#?}");
    assert!(
        problems.is_empty(),
        "{}",
        problems.into_iter().collect::<Vec<_>>().join("\n")
    );
}
