//! The result of a call, and whether it fits the crate's types.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_e2e::answer::find;
use proxmox_e2e::show::{DATA, EXTRA, REST, TEXT, UNKNOWN_KEYS, UNKNOWN_VALUE};
use serde::Serialize;
use serde_json::Value;

/// One server's answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// `None` if there was no answer; `message` says why.
    pub status: Option<u16>,
    /// The text of a refusal, or the reason why there is no answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Errors of single parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, String>,
    /// The body of an accepted call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The outcome of the task that the call started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub fit: Fit,
}

impl Answer {
    /// Whether the server accepted the call.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// How the answer fits its type in the crate.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fit {
    /// Verb and template; `None` if the crate has no such endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether there was anything to decode.
    pub decoded: bool,
    /// The decode error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Extra members, by place.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub extra_members: BTreeSet<String>,
    /// Unknown enum values, invalid property strings, and list elements that do not fit.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unknown_values: BTreeSet<String>,
}

impl Fit {
    /// Examines an answer; `body` is that of an accepted call.
    #[must_use]
    pub fn of(method: &str, path: &str, body: Option<&Value>) -> Self {
        let mut fit = Self::default();
        let Some(answer) = find(method, path) else {
            return fit;
        };
        let name = answer.to_string();
        fit.endpoint = Some(name.clone());
        let Some(body) = body else { return fit };
        match serde_json::to_vec(body).map(|body| (answer.decode)(&body)) {
            Ok(Ok(data)) => {
                fit.decoded = true;
                if let Some(data) = data {
                    fit.walk("data", &data);
                }
            }
            Ok(Err(error)) => fit.problem = Some(error.to_string()),
            Err(error) => fit.problem = Some(error.to_string()),
        }
        fit
    }

    fn walk(&mut self, place: &str, data: &Value) {
        match data {
            Value::Object(object) => {
                for (name, value) in object {
                    match name.as_str() {
                        EXTRA | UNKNOWN_KEYS => {
                            for key in value.as_object().into_iter().flat_map(|extra| extra.keys())
                            {
                                self.extra_members
                                    .insert(format!("{place}.{}", unnumbered(key)));
                            }
                        }
                        DATA => self.walk(place, value),
                        UNKNOWN_VALUE | TEXT | REST => {
                            self.unknown_values.insert(format!("{place} = {value}"));
                        }
                        _ => self.walk(&format!("{place}.{}", unnumbered(name)), value),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.walk(&format!("{place}[]"), item);
                }
            }
            _ => {}
        }
    }
}

/// `net[n]` for `net0`: indexed members count as one.
pub(crate) fn unnumbered(name: &str) -> String {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match base.is_empty() || base == name {
        true => name.to_owned(),
        false => format!("{base}[n]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_without_a_type_are_named_with_their_place() {
        let body = json!({ "data": [{ "vmid": 100, "status": "running", "colour": "blue" }] });
        let fit = Fit::of("GET", "/nodes/pve1/qemu", Some(&body));
        assert_eq!(fit.endpoint.as_deref(), Some("GET /nodes/{node}/qemu"));
        assert!(fit.decoded, "{fit:?}");
        assert_eq!(fit.extra_members, ["data[].colour".to_owned()].into());
    }

    #[test]
    fn decode_errors_are_reported() {
        let body = json!({ "data": 7 });
        let fit = Fit::of("GET", "/nodes/pve1/qemu", Some(&body));
        assert!(!fit.decoded);
        assert!(fit.problem.is_some_and(|problem| problem.contains("data")));
    }
}
