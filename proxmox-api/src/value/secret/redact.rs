//! Printing JSON without the secrets in it.

use std::fmt;

use serde_json::{Map, Value};

use super::names::{is_secret, is_secret_text};

/// Prints like the value itself, without texts whose name or form is that of a secret.
pub(crate) struct Redacted<'a>(pub(crate) &'a Value);

/// The same for an object.
pub(crate) struct RedactedObject<'a>(pub(crate) &'a Map<String, Value>);

/// An object of which only names are known: the content of lists and objects is not printed.
pub(crate) struct RedactedNames<'a>(pub(crate) &'a Map<String, Value>);

/// The same for texts by name.
pub(crate) struct RedactedTexts<'a>(pub(crate) &'a std::collections::BTreeMap<String, String>);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) if is_secret_text(text) => f.write_str("String(…)"),
            Value::Array(items) => {
                f.write_str("Array ")?;
                f.debug_list().entries(items.iter().map(Redacted)).finish()
            }
            Value::Object(members) => {
                f.write_str("Object ")?;
                RedactedObject(members).fmt(f)
            }
            other => other.fmt(f),
        }
    }
}

impl fmt::Debug for RedactedObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            map.key(name);
            match is_secret(name) && !matches!(value, Value::Null | Value::Bool(_)) {
                true => map.value(&format_args!("…")),
                false => map.value(&Redacted(value)),
            };
        }
        map.finish()
    }
}

impl fmt::Debug for RedactedNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            map.key(name);
            match value {
                Value::Null | Value::Bool(_) => map.value(&format_args!("{value}")),
                _ if is_secret(name) => map.value(&format_args!("…")),
                Value::Number(_) => map.value(&format_args!("{value}")),
                Value::String(text) if is_secret_text(text) => map.value(&format_args!("…")),
                Value::String(text) => map.value(text),
                Value::Array(items) => map.value(&Many('[', items.len(), "element", ']')),
                Value::Object(members) => map.value(&Many('{', members.len(), "member", '}')),
            };
        }
        map.finish()
    }
}

/// A number of elements.
struct Many(char, usize, &'static str, char);

impl fmt::Debug for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(open, count, what, close) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{open}{count} {what}{plural}{close}")
    }
}

impl fmt::Debug for RedactedTexts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, text) in self.0 {
            map.key(name);
            match is_secret(name) || is_secret_text(text) {
                true => map.value(&format_args!("…")),
                false => map.value(text),
            };
        }
        map.finish()
    }
}

/// JSON of no declared type, without values whose name or form is that of a secret.
pub(crate) fn written_value(value: &Value, secrets: bool) -> Option<Value> {
    match value {
        value if secrets => Some(value.clone()),
        Value::String(text) if is_secret_text(text) => None,
        Value::Array(items) => Some(
            items
                .iter()
                .filter_map(|item| written_value(item, secrets))
                .collect(),
        ),
        Value::Object(members) => Some(written(members, secrets).into()),
        value => Some(value.clone()),
    }
}

/// The same for an object.
pub(crate) fn written(members: &Map<String, Value>, secrets: bool) -> Map<String, Value> {
    let is_kept = |name: &str, value: &Value| {
        secrets || !is_secret(name) || matches!(value, Value::Null | Value::Bool(_))
    };
    let members = members.iter().filter(|(name, value)| is_kept(name, value));
    members
        .filter_map(|(name, value)| Some((name.clone(), written_value(value, secrets)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_values_print_unchanged() {
        let value = json!({"a": [1, "b", null, true], "c": {"d": 1.5}});
        assert_eq!(format!("{:?}", Redacted(&value)), format!("{value:?}"));
        let Value::Object(map) = &value else {
            unreachable!("it is an object")
        };
        assert_eq!(format!("{:?}", RedactedObject(map)), format!("{map:?}"));
    }

    #[test]
    fn secrets_do_not_print_at_any_depth() {
        let value = json!({
            "password": "PLANTED", "list": [{"client-key": {"deep": "PLANTED"}}], "pin-code": 1234,
            "url": "otpauth://totp/x?secret=PLANTED", "note": "plain",
        });
        let text = format!("{:?}", Redacted(&value));
        assert!(
            !text.contains("PLANTED") && !text.contains("1234") && text.contains("plain"),
            "{text}"
        );
    }
}
