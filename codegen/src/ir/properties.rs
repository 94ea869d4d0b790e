//! Property strings of one name, merged from all their places.

use std::collections::BTreeMap;

use crate::overlay::Overlay;
use crate::place::Place;
use crate::union::{Fields, Kind, Node, Properties, Union, add_values};

/// Merges all property strings with the same name in the overlay.
pub(super) fn collect_properties(union: &Union, overlay: &Overlay) -> BTreeMap<String, Properties> {
    let mut found = BTreeMap::new();
    for ((path, method), endpoint) in &union.endpoints {
        let at = Place {
            path: path.clone(),
            method: *method,
            fields: Vec::new(),
            element: false,
            result: false,
            owner: None,
        };
        for (name, field) in &endpoint.parameters {
            collect(&at.down(name), &field.node, overlay, &mut found);
        }
        collect(
            &Place { result: true, ..at },
            &endpoint.returns,
            overlay,
            &mut found,
        );
    }
    found
}

fn leaf(at: &Place) -> &str {
    at.fields.last().map_or("", String::as_str)
}

fn collect(at: &Place, node: &Node, overlay: &Overlay, found: &mut BTreeMap<String, Properties>) {
    match &node.kind {
        Kind::Properties(properties) => match overlay.property_string_name(at, node) {
            Some(name) => {
                let merged = found.entry(name).or_insert_with(|| properties.clone());
                merge(merged, properties);
            }
            None => overlay.problem(format!(
                "{}: this property string needs a name in names.toml: `\"{}\" = \"{}\"` under {}",
                at.key(),
                leaf(at),
                overlay.suggested(&at.path, leaf(at)),
                match &node.format {
                    Some(format) => format!(
                        "[property_strings.\"{}\"], or `\"{format}\" = …` under [formats]",
                        at.path
                    ),
                    None => format!("[property_strings.\"{}\"]", at.path),
                },
            )),
        },
        Kind::Array(items) => collect(&at.element(), items, overlay, found),
        Kind::Map(values) => collect(&at.down("*"), values, overlay, found),
        Kind::Object(fields) => {
            for (name, field) in fields {
                collect(&at.down(name), &field.node, overlay, found);
            }
        }
        _ => {}
    }
}

/// Adds the keys of `more`; a key of one side only is optional.
fn merge(merged: &mut Properties, more: &Properties) {
    merge_fields(&mut merged.fields, &more.fields);
    merged.default_key = merged
        .default_key
        .take()
        .or_else(|| more.default_key.clone());
    for alias in &more.aliases {
        if !merged.aliases.contains(alias) {
            merged.aliases.push(alias.clone());
        }
    }
    for alias in &more.key_aliases {
        if !merged.key_aliases.contains(alias) {
            merged.key_aliases.push(alias.clone());
        }
    }
}

/// Adds the fields of `more`; a field of one side only is optional.
pub(super) fn merge_fields(merged: &mut Fields, more: &Fields) {
    for (name, field) in merged.iter_mut() {
        match more.get(name) {
            Some(other) => {
                field.node.optional |= other.node.optional;
                let limits = std::mem::take(&mut field.node.limits);
                field.node.limits = limits.widen(other.node.limits.clone());
                if field.node.requires != other.node.requires {
                    field.node.requires = None;
                }
                field.presence = field.presence.or(other.presence);
                match (&mut field.node.kind, &other.node.kind) {
                    (Kind::Enum(values), Kind::Enum(others)) => add_values(values, others),
                    (kind @ Kind::Enum(_), Kind::String) => *kind = Kind::String,
                    _ => {}
                }
            }
            None => field.node.optional = true,
        }
    }
    for (name, field) in more {
        if !merged.contains_key(name) {
            let mut field = field.clone();
            field.node.optional = true;
            merged.insert(name.clone(), field);
        }
    }
}
