//! Values that the schema accepts, for the generated tests.

use serde_json::{Number, Value};

use crate::facts::{Format, Schema, Schemas};
use crate::overlay::Overlay;

/// Unconstrained text, full of characters with a meaning in a form or a path.
const FREE_TEXT: &str = "a b&c=d;e+f%41/ü";

/// The value of a key whose schema is missing in the dumps.
pub(super) fn key<'a>(overlay: &'a Overlay, owner: &str, name: &str) -> Option<&'a str> {
    overlay.sample("keys", &format!("{owner}.{name}"))
}

/// A readable text, if the schema leaves the choice to people.
pub(super) fn readable(overlay: &Overlay, name: &str, valid: &str) -> String {
    if !["text", "item1"].contains(&valid) {
        return valid.to_owned();
    }
    let readable = overlay.sample("chosen", name);
    readable.map_or_else(|| name.replace(['-', '_'], ""), str::to_owned)
}

/// The value of a placeholder whose schema is too weak, or that must be more than valid.
pub(super) fn in_path<'a>(overlay: &'a Overlay, name: &str) -> Option<&'a str> {
    overlay.sample("placeholders", name)
}

/// A name for `unset` that the schema of `delete` accepts.
pub(super) fn unset(overlay: &Overlay, delete: Option<&Schema>, siblings: &Schemas) -> String {
    let choice = delete.and_then(|schema| {
        let items = schema.items.as_deref().unwrap_or(schema);
        items.values.as_ref()?.last()
    });
    choice.map_or_else(|| removable(overlay, siblings, 1), Clone::clone)
}

/// A setting that can be removed; another one for each number.
fn removable(overlay: &Overlay, siblings: &Schemas, number: usize) -> String {
    // A setting cannot be set and removed in the same call; of an indexed parameter only one index
    // is set.
    let mut indexed = siblings.keys().filter(|name| name.ends_with("[n]"));
    if let Some(prefix) = indexed.find_map(|name| overlay.sample("removed", name)) {
        return format!("{prefix}{}", number + 4);
    }
    let settings = siblings
        .iter()
        .filter(|(name, schema)| schema.optional && !name.contains('[') && *name != "delete");
    let names: Vec<&String> = settings.map(|(name, _)| name).collect();
    // The last settings have the fewest side effects.
    let choice = names.iter().rev().nth(number).or(names.last());
    choice.map_or("comment", |name| name).to_owned()
}

pub(super) fn integer(overlay: &Overlay, schema: Option<&Schema>) -> i64 {
    let Some(schema) = schema else { return 7 };
    if let Some(value) = schema.values.iter().flatten().find_map(|v| v.parse().ok()) {
        return value;
    }
    if let Some(Format::Name(format)) = &schema.format
        && let Some(value) = overlay
            .sample("formats", format)
            .and_then(|text| text.parse().ok())
    {
        return value;
    }
    let bound = |number: &Option<Number>| {
        let number = number.as_ref()?;
        number
            .as_i64()
            .or_else(|| number.as_f64().map(|n| n as i64))
    };
    7.max(bound(&schema.minimum).unwrap_or(7))
        .min(bound(&schema.maximum).unwrap_or(i64::MAX))
}

pub(super) fn number(schema: Option<&Schema>) -> f64 {
    let bound = |number: Option<&Option<Number>>| number?.as_ref()?.as_f64();
    let low = bound(schema.map(|schema| &schema.minimum)).unwrap_or(0.0);
    let high = bound(schema.map(|schema| &schema.maximum)).unwrap_or(f64::INFINITY);
    // Needs a fraction, so that its loss would be noticed.
    let middle = low + 0.5;
    if middle <= high { middle } else { high }
}

/// One item of a list that is a text.
pub(super) fn item(
    overlay: &Overlay,
    name: &str,
    schema: Option<&Schema>,
    siblings: &Schemas,
) -> String {
    match schema {
        _ if name == "delete" => removable(overlay, siblings, 0),
        _ if name == "revert" => removable(overlay, siblings, 2),
        Some(schema) if schema.format.is_some() => text(overlay, name, Some(schema), true),
        Some(schema) if schema.pattern.is_some() => {
            // The pattern is that of the whole list.
            let list = text(overlay, name, Some(schema), true);
            list.split(';').next().unwrap_or_default().to_owned()
        }
        _ => "item1".to_owned(),
    }
}

/// A text; inside of a property string without the characters that have a meaning there.
pub(super) fn text(overlay: &Overlay, name: &str, schema: Option<&Schema>, inside: bool) -> String {
    let Some(schema) = schema else {
        return "text".to_owned();
    };
    if let Some(value) = schema.values.iter().flatten().next() {
        return value.clone();
    }
    if let Some(Format::Name(format)) = &schema.format {
        let base = format
            .strip_suffix("-list")
            .or_else(|| format.strip_suffix("-opt"))
            .unwrap_or(format);
        let value = overlay
            .sample("formats", &format!("{base} {name}"))
            .or_else(|| overlay.sample("formats", base));
        return value.unwrap_or("item1").to_owned();
    }
    if let Some(pattern) = &schema.pattern {
        let value = overlay.sample_of_pattern(name, pattern);
        return value.unwrap_or("item1").to_owned();
    }
    let min_length = usize::try_from(schema.min_length.unwrap_or(0)).unwrap_or(0);
    let max_length = schema.max_length.unwrap_or(u64::MAX);
    let text = match &schema.default {
        Some(Value::String(default)) if !default.is_empty() && !inside => default.as_str(),
        _ if inside => "text",
        _ => match overlay.sample("texts", name) {
            Some(text) => text,
            None if max_length < 20 => "text",
            None => FREE_TEXT,
        },
    };
    let missing = min_length.saturating_sub(text.chars().count());
    let mut text = format!("{text}{}", "x".repeat(missing));
    text.truncate(
        usize::try_from(max_length)
            .unwrap_or(usize::MAX)
            .min(text.len()),
    );
    text
}
