//! The `Debug` form of values.

use std::fmt;

use serde_json::Value;

use crate::Secret;
use crate::value::api_value::{Extra, Object, Scalar, View};
use crate::value::secret::{Redacted, RedactedObject, is_secret};

/// Prints an object with the members that are set.
pub(crate) fn object(object: &dyn Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut result = Ok(());
    object.fields(&mut |schema, fields| {
        let mut out = f.debug_struct(schema.name);
        let mut secrets = Vec::new();
        for (name, field) in schema.names().zip(fields) {
            match field.view() {
                View::Absent => {}
                View::AbsentSecret => secrets.push(name),
                View::Indexed(members) if members.entries().is_empty() => {}
                view => {
                    out.field(name, &DebugView(view));
                }
            }
        }
        match fields.last().map(|others| others.view()) {
            Some(View::Extra(extra)) if !extra.is_empty() => {
                out.field("extra", &Others(extra, &secrets));
            }
            Some(View::UnknownKeys(unknown)) if !unknown.is_empty() => {
                match unknown.text().is_some() && !secrets.is_empty() {
                    // The text may hold a secret value of one of them.
                    true => out.field("unknown", &format_args!("…")),
                    false => out.field("unknown", unknown),
                };
            }
            _ => {}
        }
        result = out.finish();
    });
    result
}

/// Extra members. A member with the name of a secret is a value that did not fit.
struct Others<'a>(&'a Extra, &'a [&'static str]);

impl fmt::Debug for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            let secret = is_secret(name) && !matches!(value, Value::Null | Value::Bool(_));
            match secret || self.1.contains(&name.as_str()) {
                true => map.entry(name, &format_args!("…")),
                false => map.entry(name, &Redacted(value)),
            };
        }
        map.finish()
    }
}

/// A value, printed from its view.
pub(crate) struct DebugView<'a>(pub(crate) View<'a>);

impl fmt::Debug for DebugView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            View::Absent | View::AbsentSecret => f.write_str("None"),
            View::Scalar(scalar) => match scalar {
                Scalar::Reset | Scalar::Null => f.write_str("None"),
                Scalar::Bool(value) => fmt::Debug::fmt(value, f),
                Scalar::Int(value) => fmt::Debug::fmt(value, f),
                Scalar::UInt(value) => fmt::Debug::fmt(value, f),
                Scalar::Float(value) => fmt::Debug::fmt(value, f),
                Scalar::Text(value) => fmt::Debug::fmt(value, f),
            },
            View::Secret(_) => fmt::Debug::fmt(&Secret::default(), f),
            View::Size(text, _) => fmt::Debug::fmt(*text, f),
            View::Json(value) => Redacted(value).fmt(f),
            View::List(array) | View::Array(array) => f
                .debug_list()
                .entries(array.iter().map(|item| DebugView(item.view())))
                .finish(),
            View::Map(map) => {
                let entries = map.entries().into_iter();
                let entries = entries.map(|(key, value)| (key, DebugView(value.view())));
                f.debug_map().entries(entries).finish()
            }
            View::Indexed(members) => {
                let entries = members.entries().into_iter();
                let entries = entries.map(|(index, value)| (index, DebugView(value.view())));
                f.debug_map().entries(entries).finish()
            }
            View::Object(inner) => object(*inner, f),
            View::Extra(extra) => RedactedObject(extra).fmt(f),
            View::UnknownKeys(unknown) => fmt::Debug::fmt(unknown, f),
        }
    }
}
