//! JSON with the order of members and duplicate keys, which `serde_json::Value` loses. Also the
//! layout of the committed schema files.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Lines are filled up to this column, if the value fits on one line at all.
const WIDTH: usize = 110;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn string(text: impl Into<String>) -> Json {
        Json::String(text.into())
    }

    pub(crate) fn strings(list: &[String]) -> Json {
        Json::Array(list.iter().map(Json::string).collect())
    }

    /// For error messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

/// Appends one reference token to a JSON pointer (RFC 6901).
pub(crate) fn point(pointer: &str, token: impl fmt::Display) -> String {
    let token = token.to_string().replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{token}")
}

/// JSON with hints for the layout.
#[derive(Debug)]
pub(crate) enum Layout {
    /// Always on one line.
    Line(Json),
    Array(Vec<Layout>),
    Object(Vec<(String, Layout)>),
    /// One member per line even if all would fit, so that a new member is one new line.
    Tall(Vec<(String, Layout)>),
}

impl From<Json> for Layout {
    fn from(json: Json) -> Layout {
        match json {
            Json::Array(list) => Layout::Array(list.into_iter().map(Layout::from).collect()),
            Json::Object(members) => Layout::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (key, Layout::from(value)))
                    .collect(),
            ),
            scalar => Layout::Line(scalar),
        }
    }
}

impl Layout {
    pub(crate) fn string(text: impl Into<String>) -> Layout {
        Layout::Line(Json::string(text))
    }

    pub(crate) fn write(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out, 0, 0, 0);
        out.push('\n');
        out
    }

    /// The text on one line, unless it must not be on one line or is longer than `room`.
    fn compact(&self, room: usize) -> Option<String> {
        let mut out = String::new();
        (self.compact_to(&mut out, room) && out.len() <= room).then_some(out)
    }

    fn compact_to(&self, out: &mut String, room: usize) -> bool {
        if out.len() > room {
            return false;
        }
        match self {
            Layout::Line(json) => {
                write_json(out, json);
                true
            }
            Layout::Array(list) => {
                out.push('[');
                for (n, value) in list.iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    if !value.compact_to(out, room) {
                        return false;
                    }
                }
                out.push(']');
                true
            }
            Layout::Tall(members) if !members.is_empty() => false,
            Layout::Object(members) | Layout::Tall(members) => {
                out.push('{');
                for (n, (key, value)) in members.iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    write_string(out, key);
                    out.push_str(": ");
                    if !value.compact_to(out, room) {
                        return false;
                    }
                }
                out.push('}');
                true
            }
        }
    }

    /// `used`: columns before this value; `after`: columns a comma behind it takes.
    fn write_to(&self, out: &mut String, indent: usize, used: usize, after: usize) {
        if let Layout::Line(json) = self {
            return write_json(out, json);
        }
        if let Some(text) = self.compact(WIDTH.saturating_sub(used + after)) {
            out.push_str(&text);
            return;
        }
        let inner = indent + 1;
        let line = |out: &mut String, n: usize| {
            out.push_str(if n > 0 { ",\n" } else { "\n" });
            out.extend(std::iter::repeat_n(' ', inner));
        };
        match self {
            Layout::Line(_) => {}
            Layout::Array(list) => {
                out.push('[');
                for (n, value) in list.iter().enumerate() {
                    line(out, n);
                    let comma = usize::from(n + 1 < list.len());
                    value.write_to(out, inner, inner, comma);
                }
            }
            Layout::Object(members) | Layout::Tall(members) => {
                out.push('{');
                for (n, (key, value)) in members.iter().enumerate() {
                    line(out, n);
                    let start = out.len();
                    write_string(out, key);
                    out.push_str(": ");
                    let comma = usize::from(n + 1 < members.len());
                    let used = inner + out.len() - start;
                    value.write_to(out, inner, used, comma);
                }
            }
        }
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
        out.push(if matches!(self, Layout::Array(_)) {
            ']'
        } else {
            '}'
        });
    }
}

fn write_json(out: &mut String, json: &Json) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(value) => out.push_str(&value.to_string()),
        Json::String(text) => write_string(out, text),
        Json::Array(list) => {
            out.push('[');
            for (n, value) in list.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_json(out, value);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (n, (key, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_string(out, key);
                out.push_str(": ");
                write_json(out, value);
            }
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
