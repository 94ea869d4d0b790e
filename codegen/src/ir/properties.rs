//! Property strings of one name, merged from all their places.

use std::collections::BTreeMap;

use crate::overlay::Overlay;
use crate::place::Use;
use crate::union::{Fields, Kind, Node, Properties, Union};

/// Merges all property strings with the same name in the overlay.
pub(super) fn collect_properties(union: &Union, overlay: &Overlay) -> BTreeMap<String, Properties> {
    let mut found = BTreeMap::new();
    for ((path, method), endpoint) in &union.endpoints {
        let at = Use {
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
            &Use { result: true, ..at },
            &endpoint.returns,
            overlay,
            &mut found,
        );
    }
    found
}

fn leaf(at: &Use) -> &str {
    at.fields.last().map_or("", String::as_str)
}

fn collect(at: &Use, node: &Node, overlay: &Overlay, found: &mut BTreeMap<String, Properties>) {
    match &node.kind {
        Kind::Properties(properties) => match overlay.property_string_name(at, node) {
            Some(name) => {
                let known = found.entry(name).or_insert_with(|| properties.clone());
                absorb(known, properties);
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
fn absorb(known: &mut Properties, more: &Properties) {
    absorb_fields(&mut known.fields, &more.fields);
    known.default_key = known
        .default_key
        .take()
        .or_else(|| more.default_key.clone());
    for alias in &more.aliases {
        if !known.aliases.contains(alias) {
            known.aliases.push(alias.clone());
        }
    }
    for alias in &more.key_aliases {
        if !known.key_aliases.contains(alias) {
            known.key_aliases.push(alias.clone());
        }
    }
}

/// Adds the fields of `more`; a field of one side only is optional.
pub(super) fn absorb_fields(known: &mut Fields, more: &Fields) {
    for (name, field) in known.iter_mut() {
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
                    (Kind::Enum(values), Kind::Enum(others)) => {
                        for (text, presence) in others {
                            match values.iter_mut().find(|(known, _)| known == text) {
                                Some((_, known)) => *known = known.or(*presence),
                                None => values.push((text.clone(), *presence)),
                            }
                        }
                    }
                    (kind @ Kind::Enum(_), Kind::String) => *kind = Kind::String,
                    _ => {}
                }
            }
            None => field.node.optional = true,
        }
    }
    for (name, field) in more {
        if !known.contains_key(name) {
            let mut field = field.clone();
            field.node.optional = true;
            known.insert(name.clone(), field);
        }
    }
}
