//! The state of an import, and the reading of single values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Number;

use super::problems::Problem;
use crate::facts::{Endpoint, Method};
use crate::json::{Json, point};
use crate::product::{Dialect, Product};

/// A usage line of a named format, and the endpoint that shows it.
pub(super) struct Usage {
    pub(super) text: String,
    pub(super) endpoint: Option<String>,
    pub(super) pointer: String,
}

pub(super) struct Import {
    pub(super) product: &'static Product,
    pub(super) dialect: Dialect,
    /// The endpoint being read.
    pub(super) endpoint: Option<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) usages: BTreeMap<String, Usage>,
    pub(super) endpoints: BTreeMap<String, BTreeMap<Method, Endpoint>>,
}

impl Import {
    pub(super) fn problem(&mut self, at: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            endpoint: self.endpoint.clone(),
            pointer: at.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn expected(&mut self, at: &str, what: &str, found: &Json) {
        let found_text = match found {
            Json::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
            Json::Number(number) => number.to_string(),
            Json::Bool(value) => value.to_string(),
            other => other.kind().to_owned(),
        };
        self.problem(at, format!("expected {what}, found {found_text}"));
    }

    pub(super) fn unknown(&mut self, at: &str, key: &str, place: &str) {
        self.problem(at, format!("the key {key:?} is not known {place}"));
    }

    /// The members of an object, without repeated keys.
    pub(super) fn members<'j>(&mut self, at: &str, json: &'j Json) -> Vec<(&'j str, &'j Json)> {
        let Json::Object(list) = json else {
            self.expected(at, "an object", json);
            return Vec::new();
        };
        let mut seen = BTreeSet::new();
        let mut members = Vec::with_capacity(list.len());
        for (key, value) in list {
            if seen.insert(key.as_str()) {
                members.push((key.as_str(), value));
            } else {
                self.problem(&point(at, key), format!("the key {key:?} appears twice"));
            }
        }
        members
    }

    pub(super) fn array<'j>(&mut self, at: &str, json: &'j Json) -> &'j [Json] {
        match json {
            Json::Array(list) => list,
            other => {
                self.expected(at, "an array", other);
                &[]
            }
        }
    }

    pub(super) fn string<'j>(&mut self, at: &str, json: &'j Json) -> Option<&'j str> {
        match json {
            Json::String(text) => Some(text),
            other => {
                self.expected(at, "a string", other);
                None
            }
        }
    }

    pub(super) fn owned(&mut self, at: &str, json: &Json) -> Option<String> {
        self.string(at, json).map(str::to_owned)
    }

    pub(super) fn strings(&mut self, at: &str, json: &Json) -> Vec<String> {
        self.array(at, json)
            .iter()
            .enumerate()
            .filter_map(|(n, json)| self.owned(&point(at, n), json))
            .collect()
    }

    pub(super) fn flag(&mut self, at: &str, json: &Json) -> bool {
        let known = match json {
            Json::Bool(value) => Some(*value),
            Json::Number(number) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Json::String(text) => match text.as_str() {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            },
            _ => None,
        };
        known.unwrap_or_else(|| {
            self.expected(at, "a flag (0 or 1)", json);
            false
        })
    }

    pub(super) fn bound(&mut self, at: &str, json: &Json) -> Option<Number> {
        let number = match json {
            Json::Number(number) => Some(number.clone()),
            Json::String(text) => numeric(text),
            _ => None,
        };
        if number.is_none() {
            self.expected(at, "a number", json);
        }
        number
    }

    pub(super) fn length(&mut self, at: &str, json: &Json) -> Option<u64> {
        let length = self.bound(at, json)?.as_u64();
        if length.is_none() {
            self.expected(at, "an integer that is not negative", json);
        }
        length
    }
}

/// A boolean as the server reads it.
pub(super) fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(value) => Some(*value),
        Json::Number(number) => match number.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => Some(true),
            "0" | "off" | "no" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn number(json: &Json) -> Option<Number> {
    match json {
        Json::Number(number) => Some(number.clone()),
        Json::String(text) => numeric(text),
        _ => None,
    }
}

/// Numbers as text, such as `"0"`.
pub(super) fn numeric(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    plain
        .then(|| text.parse().ok())
        .flatten()
        .and_then(Number::from_f64)
}
