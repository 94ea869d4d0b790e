//! Several releases merged into one API that can talk to each of them.
//!
//! The newest release that has something decides its type and facts; a value that is optional or
//! missing in any release is optional; enums hold the values of all; every node records the
//! releases that have it.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::facts::{
    Additional, Facts, Format, Method, Permissions, Release, Schema, Schemas, Type,
};
use crate::limits::Limits;
use crate::product::Product;

/// The releases that have something, one bit each, the oldest release lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Presence(u32);

impl Presence {
    fn with(self, release: usize) -> Self {
        Self(self.0 | 1 << release)
    }

    /// The releases that have either.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the release is one of them.
    pub(crate) fn has(self, release: usize) -> bool {
        self.0 & (1 << release) != 0
    }

    /// Whether every release of `other` is in it.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Index of the oldest release.
    pub(crate) fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// Index of the newest release.
    pub(crate) fn last(self) -> usize {
        31 - self.0.leading_zeros() as usize
    }

    /// The releases between the first and the last that lack it.
    pub(crate) fn gaps(self) -> Vec<usize> {
        (self.first()..self.last())
            .filter(|bit| self.0 & (1 << bit) == 0)
            .collect()
    }
}

/// The merged API.
#[derive(Debug)]
pub(crate) struct Union {
    pub(crate) product: &'static Product,
    /// Oldest first.
    pub(crate) releases: Vec<Release>,
    pub(crate) endpoints: BTreeMap<(String, Method), Endpoint>,
    /// Requests that set the values of answers.
    pub(crate) settings_pairs: Vec<SettingsPair>,
}

/// Adds the values that an enum has at a further place.
pub(crate) fn add_values(values: &mut Vec<(String, Presence)>, more: &[(String, Presence)]) {
    for (text, presence) in more {
        match values.iter_mut().find(|(value, _)| value == text) {
            Some((_, known)) => *known = known.or(*presence),
            None => values.push((text.clone(), *presence)),
        }
    }
}

/// A request that sets the values of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SettingsPair {
    /// The path of the request.
    pub(crate) path: String,
    pub(crate) method: Method,
    /// The path of the answer.
    pub(crate) get: String,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) presence: Presence,
    pub(crate) allowtoken: bool,
    pub(crate) download: bool,
    pub(crate) permissions: Option<Permissions>,
    pub(crate) parameters: Fields,
    pub(crate) returns: Node,
}

pub(crate) type Fields = BTreeMap<String, Field>;

/// A parameter, a member of an object, or a key of a property string.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) presence: Presence,
    pub(crate) node: Node,
}

/// A merged schema.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
    pub(crate) default: Option<Value>,
    pub(crate) minimum: Option<Number>,
    pub(crate) maximum: Option<Number>,
    pub(crate) max_length: Option<u64>,
    /// The values that at least one release accepts.
    pub(crate) limits: Limits,
    /// The named format, if it has one.
    pub(crate) format: Option<String>,
    pub(crate) renderer: Option<String>,
    pub(crate) requires: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Enum(Vec<(String, Presence)>),
    Properties(Properties),
    Array(Box<Node>),
    Map(Box<Node>),
    Object(Fields),
    /// Any JSON: the schema has no type.
    Any,
}

/// The structure of a property string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    pub(crate) fields: Fields,
    pub(crate) default_key: Option<String>,
    /// (alias, key)
    pub(crate) aliases: Vec<(String, String)>,
    /// (name, key that holds the value, key that holds the name)
    pub(crate) key_aliases: Vec<(String, String, String)>,
}

/// One release's share of a merge.
#[derive(Clone, Copy)]
struct Part<'a> {
    release: usize,
    formats: &'a BTreeMap<String, Schemas>,
    schema: &'a Schema,
}

/// Merges releases, given oldest first.
pub(crate) fn merge(product: &'static Product, releases: &[Facts]) -> Union {
    let mut parts: BTreeMap<(&String, Method), Vec<(usize, &crate::facts::Endpoint)>> =
        BTreeMap::new();
    for (release, facts) in releases.iter().enumerate() {
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                parts
                    .entry((path, *method))
                    .or_default()
                    .push((release, endpoint));
            }
        }
    }
    let endpoints = parts
        .into_iter()
        .map(|((path, method), parts)| ((path.clone(), method), merge_endpoint(releases, &parts)))
        .collect();
    Union {
        product,
        releases: releases.iter().map(|facts| facts.release).collect(),
        endpoints,
        settings_pairs: Vec::new(),
    }
}

fn merge_endpoint(releases: &[Facts], parts: &[(usize, &crate::facts::Endpoint)]) -> Endpoint {
    let presence = parts
        .iter()
        .fold(Presence::default(), |all, (release, _)| all.with(*release));
    let newest = parts[parts.len() - 1].1;
    let formats = |release: usize| &releases[release].formats;
    let parameters = merge_fields(
        parts.iter().map(|&(release, endpoint)| {
            (release, formats(release), &endpoint.parameters.properties)
        }),
        presence,
    );
    let returns: Vec<_> = parts
        .iter()
        .map(|&(release, endpoint)| Part {
            release,
            formats: formats(release),
            schema: &endpoint.returns,
        })
        .collect();
    Endpoint {
        presence,
        allowtoken: newest.allowtoken,
        download: newest.download,
        permissions: newest.permissions.clone(),
        parameters,
        returns: merge_schema(&returns),
    }
}

/// Merges named schemas; `owner` are the releases that have the object or call they belong to.
fn merge_fields<'a>(
    releases: impl Iterator<Item = (usize, &'a BTreeMap<String, Schemas>, &'a Schemas)>,
    owner: Presence,
) -> Fields {
    let mut parts: BTreeMap<&String, Vec<Part<'a>>> = BTreeMap::new();
    for (release, formats, schemas) in releases {
        for (name, schema) in schemas {
            // Old dumps write a map's members as one member named `x.{id}`.
            if !name.contains('{') {
                parts.entry(name).or_default().push(Part {
                    release,
                    formats,
                    schema,
                });
            }
        }
    }
    parts
        .into_iter()
        .filter(|(_, parts)| parts.iter().any(|part| !is_alias(part.schema)))
        .map(|(name, parts)| {
            let parts: Vec<_> = parts
                .into_iter()
                .filter(|part| !is_alias(part.schema))
                .collect();
            let presence = parts
                .iter()
                .fold(Presence::default(), |all, part| all.with(part.release));
            let mut node = merge_schema(&parts);
            node.optional |= !presence.covers(owner);
            (name.clone(), Field { presence, node })
        })
        .collect()
}

fn is_alias(schema: &Schema) -> bool {
    schema.alias.is_some()
}

fn effective_type(schema: &Schema) -> Type {
    match schema.ty {
        Some(ty) => ty,
        None if schema.properties.is_some() => Type::Object,
        None if schema.items.is_some() || schema.one_of.is_some() => Type::Array,
        None if schema.values.is_some() => Type::String,
        None => Type::Any,
    }
}

/// Merges one node's schemas, oldest first; there is at least one.
fn merge_schema(parts: &[Part<'_>]) -> Node {
    let flat: Vec<Schema> = parts.iter().map(|part| flatten(part.schema)).collect();
    let parts: Vec<Part<'_>> = parts
        .iter()
        .zip(&flat)
        .map(|(part, schema)| Part { schema, ..*part })
        .collect();
    let newest = parts[parts.len() - 1].schema;
    let types: Vec<Type> = parts
        .iter()
        .map(|part| effective_type(part.schema))
        .collect();
    // A later release may have a type where an earlier one has none, and the other way round.
    let known = |ty: &Type| !matches!(ty, Type::Any | Type::Null);
    let mut ty = *types
        .iter()
        .rev()
        .find(|ty| known(ty))
        .unwrap_or(&types[types.len() - 1]);
    if ty == Type::Integer && types.contains(&Type::Number) {
        ty = Type::Number;
    }
    let same: Vec<Part<'_>> = parts
        .iter()
        .copied()
        .filter(|part| {
            let own = effective_type(part.schema);
            own == ty || (ty == Type::Number && own == Type::Integer)
        })
        .collect();
    let nullable = types.contains(&Type::Null) && ty != Type::Null;
    Node {
        kind: merge_kind(ty, &same),
        optional: nullable || parts.iter().any(|part| part.schema.optional),
        default: newest.default.clone(),
        minimum: newest.minimum.clone(),
        maximum: newest.maximum.clone(),
        max_length: newest.max_length,
        limits: match same.len() == parts.len() {
            true => (same.iter().map(|part| Limits::of(part.schema)))
                .reduce(Limits::widen)
                .unwrap_or_default(),
            false => Limits::default(),
        },
        format: match &newest.format {
            Some(Format::Name(name)) => Some(name.clone()),
            _ => None,
        },
        renderer: parts
            .iter()
            .rev()
            .find_map(|part| part.schema.renderer.clone()),
        requires: newest.requires.clone(),
    }
}

/// Merges the kinds of schemas that have one type; `parts` is not empty.
fn merge_kind(ty: Type, parts: &[Part<'_>]) -> Kind {
    let presence = parts
        .iter()
        .fold(Presence::default(), |all, part| all.with(part.release));
    let newest = parts[parts.len() - 1].schema;
    match ty {
        Type::Null => Kind::Null,
        Type::Boolean => Kind::Boolean,
        // Two fields enumerate numbers as strings; only the numbers matter.
        Type::Integer => Kind::Integer,
        Type::Number => Kind::Number,
        Type::Any => Kind::Any,
        Type::String => match merge_properties(parts) {
            Some(properties) => Kind::Properties(properties),
            None if newest.values.is_some() => Kind::Enum(merge_values(parts)),
            None => Kind::String,
        },
        Type::Array => {
            let items: Vec<Part<'_>> = parts
                .iter()
                .filter_map(|part| {
                    Some(Part {
                        schema: part.schema.items.as_deref()?,
                        ..*part
                    })
                })
                .collect();
            Kind::Array(Box::new(match items.is_empty() {
                true => Node::any(),
                false => merge_schema(&items),
            }))
        }
        Type::Object => {
            let fields = merge_fields(
                parts.iter().filter_map(|part| {
                    Some((part.release, part.formats, part.schema.properties.as_ref()?))
                }),
                presence,
            );
            let values: Vec<Part<'_>> = parts
                .iter()
                .filter_map(|part| match &part.schema.additional {
                    Some(Additional::Schema(schema)) => Some(Part { schema, ..*part }),
                    _ => None,
                })
                .collect();
            match (fields.is_empty(), values.is_empty()) {
                (false, _) => Kind::Object(fields),
                (true, false) => Kind::Map(Box::new(merge_schema(&values))),
                (true, true) => Kind::Any,
            }
        }
    }
}

impl Node {
    fn any() -> Self {
        Self {
            kind: Kind::Any,
            optional: false,
            default: None,
            minimum: None,
            maximum: None,
            max_length: None,
            limits: Limits::default(),
            format: None,
            renderer: None,
            requires: None,
        }
    }
}

fn merge_values(parts: &[Part<'_>]) -> Vec<(String, Presence)> {
    let mut values: Vec<(String, Presence)> = Vec::new();
    // The newest release's order first, then values of older ones only.
    for part in parts.iter().rev() {
        for value in part.schema.values.iter().flatten() {
            match values.iter_mut().find(|(known, _)| known == value) {
                Some((_, presence)) => *presence = presence.with(part.release),
                None => values.push((value.clone(), Presence::default().with(part.release))),
            }
        }
    }
    values
}

/// The keys of a property string, written inline or found by its format's name.
fn keys<'a>(part: &Part<'a>) -> Option<&'a Schemas> {
    match part.schema.format.as_ref()? {
        Format::Keys(keys) => Some(keys),
        Format::Name(name) => part.formats.get(name),
        Format::List(_) => None,
    }
}

fn merge_properties(parts: &[Part<'_>]) -> Option<Properties> {
    let keyed: Vec<_> = parts
        .iter()
        .filter_map(|part| Some((part.release, part.formats, keys(part)?)))
        .collect();
    if keyed.is_empty() {
        return None;
    }
    let owner = keyed
        .iter()
        .fold(Presence::default(), |all, (release, ..)| all.with(*release));
    let mut properties = Properties {
        fields: merge_fields(keyed.iter().copied(), owner),
        ..Properties::default()
    };
    for (_, _, keys) in keyed.iter().rev() {
        for (name, schema) in *keys {
            if schema.default_key && properties.default_key.is_none() {
                properties.default_key = Some(name.clone());
            }
            let Some(target) = &schema.alias else {
                continue;
            };
            // An alias of one release may be a key in another.
            if properties.fields.contains_key(name) {
                properties.fields.remove(name);
            }
            match &schema.key_alias {
                Some(kind) => {
                    let alias = (name.clone(), target.clone(), kind.clone());
                    if !properties.key_aliases.contains(&alias) {
                        properties.key_aliases.push(alias);
                    }
                }
                None => {
                    let alias = (name.clone(), target.clone());
                    if !properties.aliases.contains(&alias) {
                        properties.aliases.push(alias);
                    }
                }
            }
        }
    }
    properties.aliases.sort();
    properties.key_aliases.sort();
    Some(properties)
}

/// A schema with its tagged alternatives merged into one: the members of all of them, optional
/// unless every alternative requires them.
fn flatten(schema: &Schema) -> Schema {
    let mut flat = schema.clone();
    flat.optional |= schema.instance_types.is_some();
    let Some(alternatives) = flat.one_of.take() else {
        return flat;
    };
    flat.optional |= alternatives.iter().any(|alternative| alternative.optional);
    flat.items = alternatives
        .iter()
        .filter_map(|alternative| alternative.items.as_deref().cloned())
        .reduce(join)
        .map(Box::new);
    flat
}

/// A schema that accepts the values of both.
fn join(left: Schema, right: Schema) -> Schema {
    let format = match (left.format, right.format) {
        (Some(Format::Keys(left)), Some(Format::Keys(right))) => {
            Some(Format::Keys(join_schemas(left, right)))
        }
        (Some(Format::Keys(keys)), other) | (other, Some(Format::Keys(keys))) => {
            // The other alternative's keys are not in the dump, so none of these is certain.
            let _ = other;
            let keys = keys
                .into_iter()
                .map(|(name, schema)| {
                    (
                        name,
                        Schema {
                            optional: true,
                            ..schema
                        },
                    )
                })
                .collect();
            Some(Format::Keys(keys))
        }
        (left, right) => left.filter(|left| Some(left) == right.as_ref()),
    };
    let values = match (left.values, right.values) {
        (Some(mut left), Some(right)) => {
            left.extend(
                right
                    .into_iter()
                    .filter(|value| !left.contains(value))
                    .collect::<Vec<_>>(),
            );
            Some(left)
        }
        _ => None,
    };
    Schema {
        ty: left.ty.or(right.ty),
        format,
        values,
        ..Schema::default()
    }
}

fn join_schemas(mut left: Schemas, mut right: Schemas) -> Schemas {
    for (name, schema) in &mut left {
        schema.optional |= !right.contains_key(name);
    }
    for (name, mut schema) in std::mem::take(&mut right) {
        match left.get_mut(&name) {
            Some(known) => {
                known.optional |= schema.optional;
                let (old, new) = (known.values.take(), schema.values.take());
                known.values = match (old, new) {
                    (Some(mut old), Some(new)) => {
                        for value in new {
                            if !old.contains(&value) {
                                old.push(value);
                            }
                        }
                        Some(old)
                    }
                    _ => None,
                };
            }
            None => {
                schema.optional = true;
                left.insert(name, schema);
            }
        }
    }
    left
}
