//! Values made from a schema: answers for endpoints without state, and parameters that pass the
//! checks.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proxmox_codegen::facts::{Additional, Format, Method, Schema, Schemas, Type};
use serde_json::{Map, Value, json};

use crate::clock::iso_date;
use crate::schema::{ApiSchema, lookup, returns_type};
use crate::{formats, pattern, propstring};

const MAX_DEPTH: usize = 12;

/// Answers of a newly installed node, by path. `$node`, `$vmid`, `$now`, `$earlier`, `$later`,
/// `$date`, `$digest` and `$fingerprint` are replaced.
static ANSWERS: LazyLock<BTreeMap<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("answers.json")).unwrap_or_default());

/// What every node answers at a path, its placeholders as they are.
pub(crate) fn fresh_node(path: &str) -> &'static Value {
    ANSWERS.get(path).unwrap_or(&Value::Null)
}

/// Fields of later releases. The real server also sends others that no schema declares.
const LATER_FIELDS: [&str; 4] = ["memhost", "current-kernel", "boot-info", "available"];

/// Optional members that are filled in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    All,
    Required,
}

pub(crate) struct Sampler<'a> {
    pub(crate) formats: &'a BTreeMap<String, Schemas>,
    /// Values from the request that answers repeat, such as the node.
    pub(crate) known: &'a BTreeMap<String, String>,
    pub(crate) now: u64,
}

impl Sampler<'_> {
    /// The answer of a newly installed node at a path, with the fields of the release.
    pub(crate) fn fresh(&self, path: &str, schema: &Schema) -> Option<Value> {
        let mut answer = self.filled(ANSWERS.get(path)?);
        trim(&mut answer, schema);
        Some(answer)
    }

    /// An answer with its placeholders replaced.
    fn filled(&self, value: &Value) -> Value {
        let day = 86_400;
        match value {
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (key.clone(), self.filled(value)))
                .collect::<Map<_, _>>()
                .into(),
            Value::String(text) => match text.as_str() {
                "$now" => json!(self.now),
                "$earlier" => json!(self.now.saturating_sub(30 * day)),
                "$later" => json!(self.now + 700 * day),
                "$date" => json!(iso_date(self.now)),
                "$digest" => json!(format!("{:016x}{:016x}{:08x}", mix("a", 1), mix("a", 2), 7)),
                "$fingerprint" => json!(vec!["5A"; 32].join(":")),
                text => {
                    let of = |key: &str| self.known.get(key).map_or("", String::as_str);
                    json!(
                        text.replace("$node", of("node"))
                            .replace("$vmid", of("vmid"))
                    )
                }
            },
            other => other.clone(),
        }
    }

    /// A JSON value of the schema's shape, always the same for the same name and schema.
    pub(crate) fn value(&self, name: &str, schema: &Schema, fill: Fill) -> Value {
        self.deep(name, schema, fill, 0)
    }

    fn deep(&self, name: &str, schema: &Schema, fill: Fill, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(choice) = schema.one_of.as_ref().and_then(|choices| choices.first()) {
            return self.deep(name, choice, fill, depth + 1);
        }
        match returns_type(schema) {
            Type::Null => Value::Null,
            Type::Boolean => json!(u8::from(mix(name, 0).is_multiple_of(2))),
            Type::Integer => json!(self.integer(name, schema)),
            Type::Number => {
                let low = bound(&schema.minimum).unwrap_or(0.0);
                let high = bound(&schema.maximum).unwrap_or(low + 1.0);
                number(low + (high - low) / 4.0)
            }
            Type::String => json!(self.text(name, schema, fill)),
            Type::Any => {
                if schema.ty.is_none() && schema.properties.is_none() {
                    Value::Object(Map::new())
                } else {
                    json!("text")
                }
            }
            Type::Array => match &schema.items {
                // The content of the elements is unknown.
                Some(items) if blank(items) => json!([]),
                Some(items) => {
                    let mut list = vec![self.deep(name, items, Fill::All, depth + 1)];
                    if mix(name, 1).is_multiple_of(2) && returns_type(items) == Type::Object {
                        list.push(self.deep(name, items, Fill::Required, depth + 1));
                    }
                    Value::Array(list)
                }
                None => json!([]),
            },
            Type::Object => {
                let mut object = Map::new();
                for (key, property) in schema.properties.iter().flatten() {
                    if fill == Fill::Required && (property.optional || key.ends_with("[n]")) {
                        continue;
                    }
                    let key = key
                        .strip_suffix("[n]")
                        .map_or_else(|| key.clone(), |k| format!("{k}0"));
                    // A template name such as `{id}` stands for a map.
                    let key = key.trim_matches(['{', '}']).to_owned();
                    let value = self.deep(&key, property, fill, depth + 1);
                    object.insert(key, value);
                }
                if let Some(Additional::Schema(inner)) = &schema.additional {
                    object.insert("item1".into(), self.deep("item1", inner, fill, depth + 1));
                }
                Value::Object(object)
            }
        }
    }

    /// Adds required members and removes those of later releases.
    pub(crate) fn complete(&self, value: &mut Value, schema: &Schema) {
        match value {
            Value::Array(items) => {
                if let Some(schema) = &schema.items {
                    for item in items {
                        self.complete(item, schema);
                    }
                }
            }
            Value::Object(object) => {
                let Some(properties) = schema.properties.as_ref().filter(|p| !p.is_empty()) else {
                    return;
                };
                object.retain(|key, _| {
                    lookup(properties, key).is_some() || !LATER_FIELDS.contains(&key.as_str())
                });
                for (key, property) in properties {
                    match object.get_mut(key) {
                        Some(inner) => self.complete(inner, property),
                        None if property.optional || key.contains(['[', '{']) => {}
                        None => {
                            object.insert(key.clone(), self.value(key, property, Fill::Required));
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn integer(&self, name: &str, schema: &Schema) -> i64 {
        if let Some(known) = self.known.get(name).and_then(|text| text.parse().ok()) {
            return known;
        }
        if let Some(Format::Name(format)) = &schema.format
            && let Some(example) =
                crate::formats::examples::example(format).and_then(|e| e.parse().ok())
        {
            return example;
        }
        let guess = match schema.renderer.as_deref() {
            Some("bytes") => 8 << 30,
            Some("timestamp" | "timestamp_gmt") => i64::try_from(self.now).unwrap_or(0),
            Some("duration") => 3_600,
            _ => 1,
        };
        let low = schema
            .minimum
            .as_ref()
            .and_then(as_integer)
            .unwrap_or(i64::MIN);
        let high = schema
            .maximum
            .as_ref()
            .and_then(as_integer)
            .unwrap_or(i64::MAX);
        let guess = schema
            .values
            .as_ref()
            .and_then(|values| values.first()?.parse().ok())
            .unwrap_or(guess);
        guess.max(low).min(high)
    }

    /// A text the schema accepts.
    pub(crate) fn text(&self, name: &str, schema: &Schema, fill: Fill) -> String {
        match schema.ty {
            Some(Type::Boolean) => return "1".into(),
            Some(Type::Integer) => return self.integer(name, schema).to_string(),
            Some(Type::Number) => {
                return bound(&schema.minimum).unwrap_or(1.0).max(0.0).to_string();
            }
            _ => {}
        }
        if let Some(values) = schema.values.as_ref().filter(|values| !values.is_empty()) {
            return values[usize::try_from(mix(name, 2)).unwrap_or(0) % values.len()].clone();
        }
        let fits = |text: &str| {
            let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            schema
                .pattern
                .as_ref()
                .is_none_or(|p| pattern::matches(p, text) != Some(false))
                && schema.min_length.is_none_or(|min| length >= min)
                && schema.max_length.is_none_or(|max| length <= max)
        };
        if let Some(known) = self.known.get(name).filter(|known| {
            fits(known)
                && match &schema.format {
                    Some(Format::Name(format)) => {
                        formats::check(format, known) != Some(Err(String::new()))
                            && !matches!(formats::check(format, known), Some(Err(_)))
                    }
                    Some(Format::Keys(_) | Format::List(_)) => false,
                    None => true,
                }
        }) {
            return known.clone();
        }
        let sample = match &schema.format {
            Some(Format::Keys(keys)) => Some(self.property_string(keys, fill)),
            Some(Format::Name(format)) => match self.formats.get(format) {
                Some(keys) => Some(self.property_string(keys, fill)),
                None => crate::formats::examples::example(format).map(str::to_owned),
            },
            Some(Format::List(_)) | None => None,
        };
        if let Some(sample) = sample.filter(|sample| fits(sample)) {
            return sample;
        }
        let min = usize::try_from(schema.min_length.unwrap_or(0)).unwrap_or(0);
        if let Some(sample) = schema
            .pattern
            .as_ref()
            .and_then(|p| pattern::example(p, min))
        {
            return sample;
        }
        if let Some(Value::String(default)) = &schema.default
            && fits(default)
        {
            return default.clone();
        }
        let mut plain = match name {
            "creation_time" => iso_date(self.now),
            "dev_node" | "devices" | "device" => "sdb".into(),
            "lv_name" | "vg_name" => "osd-block-0".into(),
            "lv_path" | "physical_device" => "/dev/osd-block-0".into(),
            "lv_uuid" => "AAAAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGGGG".into(),
            "support_discard" => "1".into(),
            "type" => "hdd".into(),
            _ => "text".to_owned(),
        };
        while plain.len() < min {
            plain.push('t');
        }
        plain
    }

    fn property_string(&self, schemas: &Schemas, fill: Fill) -> String {
        let mut keys = BTreeMap::new();
        for (key, schema) in schemas {
            let included = fill == Fill::All || !schema.optional;
            if schema.alias.is_none() && included {
                keys.insert(key.clone(), self.text(key, schema, fill));
            }
        }
        if keys.is_empty() {
            let first = schemas
                .iter()
                .filter(|(_, schema)| schema.alias.is_none())
                .max_by_key(|(_, schema)| schema.default_key);
            if let Some((key, schema)) = first {
                keys.insert(key.clone(), self.text(key, schema, fill));
            }
        }
        propstring::print(schemas, &keys)
    }
}

/// Whether a schema does not restrict a value.
fn blank(schema: &Schema) -> bool {
    let bare = schema.properties.as_ref().is_none_or(|p| p.is_empty())
        && schema.additional.is_none()
        && schema.one_of.is_none()
        && schema.items.is_none();
    let restricted = schema.values.is_some() || schema.format.is_some() || schema.pattern.is_some();
    bare && !restricted
        && matches!(
            returns_type(schema),
            Type::Object | Type::Any | Type::String
        )
}

/// Removes fields that a release does not have.
fn trim(value: &mut Value, schema: &Schema) {
    match value {
        Value::Array(items) => {
            for item in items {
                if let Some(schema) = &schema.items {
                    trim(item, schema);
                }
            }
        }
        Value::Object(members) => {
            let Some(known) = schema.properties.as_ref().filter(|p| !p.is_empty()) else {
                return;
            };
            members.retain(|key, _| lookup(known, key).is_some());
            for (key, value) in members {
                if let Some(schema) = lookup(known, key) {
                    trim(value, schema);
                }
            }
        }
        _ => {}
    }
}

/// A number as Perl prints it: without a fraction where there is none.
pub(crate) fn number(value: f64) -> Value {
    match format!("{value}").parse::<i64>() {
        Ok(whole) => json!(whole),
        Err(_) => json!(value),
    }
}

fn bound(number: &Option<serde_json::Number>) -> Option<f64> {
    number.as_ref().and_then(serde_json::Number::as_f64)
}

fn as_integer(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // Bounds in the schema are far below the point where this loses digits.
        format!("{:.0}", float.ceil()).parse().ok()
    })
}

/// A number that depends only on its input (FNV-1a).
pub(crate) fn mix(text: &str, salt: u64) -> u64 {
    text.bytes()
        .chain(salt.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// A minimal call of an endpoint, with values that pass the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MinimalRequest {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// Path below `/api2/json`, every placeholder filled and percent-encoded.
    pub path: String,
    /// The endpoint's path template.
    pub template: String,
    /// Required parameters that are not in the path; an array parameter once per element.
    pub params: Vec<(String, String)>,
}

/// Parameters that handlers require although the schema does not.
const BEYOND_SCHEMA: [(Method, &str, &str, &str); 7] = [
    (
        Method::Post,
        "/cluster/notifications/endpoints/sendmail",
        "mailto",
        "admin@example.org",
    ),
    (
        Method::Post,
        "/cluster/notifications/endpoints/smtp",
        "mailto",
        "admin@example.org",
    ),
    (Method::Put, "/access/acl", "users", "root@pam"),
    (Method::Post, "/nodes/{node}/vzdump", "vmid", "100"),
    (Method::Post, "/nodes/{node}/lxc", "storage", "local-lvm"),
    (
        Method::Post,
        "/nodes/{node}/qemu/{vmid}/move_disk",
        "storage",
        "local-lvm",
    ),
    (
        Method::Post,
        "/nodes/{node}/lxc/{vmid}/move_volume",
        "storage",
        "local-lvm",
    ),
];

/// One [`MinimalRequest`] for every endpoint of a release, in the order of the schema file.
///
/// # Errors
///
/// The release is not one of [`crate::schema::releases`].
pub fn minimal_requests(release: &str) -> Result<Vec<MinimalRequest>, crate::error::Error> {
    let schema = ApiSchema::load(release).map_err(crate::error::Error::new)?;
    let mut requests = Vec::new();
    for (template, methods) in schema.endpoints() {
        for (method, endpoint) in methods {
            requests.push(minimal(
                &schema,
                *method,
                template,
                &endpoint.parameters.properties,
            ));
        }
    }
    Ok(requests)
}

fn minimal(
    schema: &ApiSchema,
    method: Method,
    template: &str,
    properties: &Schemas,
) -> MinimalRequest {
    let known: BTreeMap<String, String> = [
        ("node", "pve1"),
        ("vmid", "100"),
        ("storage", "local"),
        ("volume", "local:iso/debian-13.iso"),
        (
            "upid",
            "UPID:pve1:00000C1C:0002C651:6B01F6B2:imgcopy::root@pam:",
        ),
        ("username", "root@pam"),
        ("userid", "someone@pve"),
        ("password", crate::ROOT_PASSWORD),
        ("newid", "900"),
        ("path", "/vms"),
        ("target", "pve2"),
        ("action", "ACCEPT"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let sampler = Sampler {
        formats: schema.formats(),
        known: &known,
        now: 0,
    };
    let text = Schema::of(Type::String);
    let mut in_path = Vec::new();
    let path = template
        .split('/')
        .map(
            |segment| match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some(name) => {
                    in_path.push(name.to_owned());
                    let property = properties.get(name).unwrap_or(&text);
                    let value = sampler.text(name, property, Fill::Required);
                    percent_encoding::utf8_percent_encode(
                        &value,
                        percent_encoding::NON_ALPHANUMERIC,
                    )
                    .to_string()
                }
                None => segment.to_owned(),
            },
        )
        .collect::<Vec<_>>()
        .join("/");
    let mut params = Vec::new();
    for (name, property) in properties {
        let optional = property.optional || property.one_of.is_some() || name.ends_with("[n]");
        if optional || in_path.contains(name) {
            continue;
        }
        let item = match (&property.items, property.ty) {
            (Some(items), Some(Type::Array)) => items,
            _ => property,
        };
        params.push((name.clone(), sampler.text(name, item, Fill::Required)));
    }
    // The parameters that a given one requires.
    let mut at = 0;
    while at < params.len() {
        let required = properties
            .get(&params[at].0)
            .and_then(|p| p.requires.clone());
        if let Some(name) = required
            && !params.iter().any(|(have, _)| *have == name)
            && !in_path.contains(&name)
            && let Some(property) = properties.get(&name)
        {
            let value = sampler.text(&name, property, Fill::Required);
            params.push((name, value));
        }
        at += 1;
    }
    let more = BEYOND_SCHEMA
        .iter()
        .filter(|(verb, path, _, _)| *verb == method && *path == template)
        .map(|(_, _, name, value)| ((*name).to_owned(), (*value).to_owned()));
    params.extend(more.filter(|(name, _)| properties.contains_key(name)));
    MinimalRequest {
        method: method.to_string(),
        path,
        template: template.to_owned(),
        params,
    }
}
