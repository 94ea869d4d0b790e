//! Comparison of two answers to one call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::answer::{Answer, unnumbered};
use crate::call::Words;
use crate::plain;
use crate::server::Names;

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One server did not answer.
    Unanswered,
    /// One accepts what the other refuses, or they refuse with different statuses.
    Status,
    /// The outcome of the task.
    Task,
    /// One answer decodes, the other does not.
    Decoding,
    /// The text of a refusal.
    Text,
    /// The error of a single parameter.
    Parameter,
    /// A value that both answers have.
    Value,
    /// A member that only one answer has.
    Member,
    /// A number in one answer, a string of its digits in the other.
    Spelling,
}

impl Kind {
    /// All kinds, the most serious first.
    pub const ALL: [Self; 9] = [
        Self::Unanswered,
        Self::Status,
        Self::Task,
        Self::Decoding,
        Self::Text,
        Self::Parameter,
        Self::Value,
        Self::Member,
        Self::Spelling,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unanswered => "only one server answered",
            Self::Status => "different statuses",
            Self::Task => "tasks that end differently",
            Self::Decoding => "only one answer decodes",
            Self::Text => "refused with different texts",
            Self::Parameter => "different errors of a parameter",
            Self::Value => "different values",
            Self::Member => "members that only one has",
            Self::Spelling => "numbers in one, strings in the other",
        })
    }
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    pub kind: Kind,
    /// The parameter, or the place in the answer; empty for the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    pub first: String,
    pub second: String,
}

/// How accepted answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The servers have different content: only the presence and type of members count.
    Members,
    /// The same was done to both servers: values count, too.
    Values,
}

/// The maximum of differences that are listed for an answer.
const MAX_DIFFERENCES: usize = 20;

/// The differences; `words` are the values of each server's placeholders.
#[must_use]
pub fn compare(
    path: &str,
    (first, first_words): (&Answer, &Words),
    (second, second_words): (&Answer, &Words),
    depth: Depth,
    names: &Names,
) -> Vec<Difference> {
    let mut found = Differences::default();
    let text_of = |answer: &Answer, words: &Words| match (answer.status, answer.accepted()) {
        (None, _) => format!("no answer: {}", answer.message),
        (Some(status), true) => status.to_string(),
        (Some(status), false) => {
            let errors: Vec<String> = answer
                .errors
                .iter()
                .map(|(name, text)| format!("{name}: {}", plain::text(text, words)))
                .collect();
            let message = plain::text(&answer.message, words);
            format!("{status} {message} {}", errors.join("; "))
                .trim_end()
                .to_owned()
        }
    };
    if first.status.is_none() || second.status.is_none() {
        if first.status != second.status {
            let (a, b) = (text_of(first, first_words), text_of(second, second_words));
            found.add(Kind::Unanswered, "", a, b);
        }
        return found.0;
    }
    if first.status != second.status {
        let (a, b) = (text_of(first, first_words), text_of(second, second_words));
        found.add(Kind::Status, "", a, b);
        return found.0;
    }
    if !first.accepted() {
        let a = plain::text(&first.message, first_words);
        let b = plain::text(&second.message, second_words);
        if a != b {
            found.add(Kind::Text, "", a, b);
        }
        let parameters: BTreeSet<&String> =
            first.errors.keys().chain(second.errors.keys()).collect();
        for name in parameters {
            let text = |answer: &Answer, words: &Words| match answer.errors.get(name) {
                Some(text) => plain::text(text, words),
                None => "(no complaint)".to_owned(),
            };
            let (a, b) = (text(first, first_words), text(second, second_words));
            if a != b {
                found.add(Kind::Parameter, name, a, b);
            }
        }
        return found.0;
    }
    if first.task.is_some() || second.task.is_some() {
        let end = |answer: &Answer, words: &Words| match &answer.task {
            Some(text) => plain::text(text, words),
            None => "(no task)".to_owned(),
        };
        let (a, b) = (end(first, first_words), end(second, second_words));
        if a != b {
            found.add(Kind::Task, "", a, b);
        }
        return found.0;
    }
    if first.fit.problem != second.fit.problem {
        let end = |answer: &Answer| {
            answer
                .fit
                .problem
                .clone()
                .unwrap_or_else(|| "decodes".into())
        };
        found.add(Kind::Decoding, "", end(first), end(second));
    }
    let body = |answer: &Answer, words: &Words| {
        let body = answer.body.clone().unwrap_or_default();
        let body = match depth {
            Depth::Values => only_ours(body, path, names),
            Depth::Members => body,
        };
        plain::value(&body, words)
    };
    let (a, b) = (body(first, first_words), body(second, second_words));
    match depth {
        Depth::Values => found.values("", &a, &b),
        Depth::Members => found.members(&a, &b),
    }
    found.0
}

/// Keeps only the items that this run created in a list that has others, too.
fn only_ours(mut body: Value, path: &str, names: &Names) -> Value {
    if names.in_text(path) {
        return body;
    }
    if let Some(Value::Array(items)) = body.get_mut("data")
        && items.iter().all(Value::is_object)
    {
        items.retain(|item| names.in_value(item));
        if let Some(object) = body.as_object_mut() {
            object.retain(|name, _| name == "data");
        }
    }
    body
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, kind: Kind, place: &str, first: String, second: String) {
        if self.0.len() < MAX_DIFFERENCES {
            self.0.push(Difference {
                kind,
                place: place.to_owned(),
                first,
                second,
            });
        }
    }

    fn values(&mut self, place: &str, a: &Value, b: &Value) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                for name in keys(a, b) {
                    let place = format!("{place}.{name}");
                    let place = place.trim_start_matches('.');
                    match (a.get(name), b.get(name)) {
                        (Some(a), Some(b)) => self.values(place, a, b),
                        (a, b) => self.add(Kind::Member, place, json_text(a), json_text(b)),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => self.arrays(place, a, b),
            (a, b) if a == b => {}
            (a, b) => {
                let kind = match scalar(a).is_some() && scalar(a) == scalar(b) {
                    true => Kind::Spelling,
                    false => Kind::Value,
                };
                self.add(kind, place, json_text(Some(a)), json_text(Some(b)));
            }
        }
    }

    /// Items with an identifying member are compared by it, others by position.
    fn arrays(&mut self, place: &str, a: &[Value], b: &[Value]) {
        let Some(key) = own_name(a, b) else {
            for number in 0..a.len().max(b.len()) {
                let place = format!("{place}[{number}]");
                match (a.get(number), b.get(number)) {
                    (Some(a), Some(b)) => self.values(&place, a, b),
                    (a, b) => self.add(Kind::Member, &place, json_text(a), json_text(b)),
                }
            }
            return;
        };
        let by_name = |items: &[Value]| -> BTreeMap<String, Value> {
            items
                .iter()
                .filter_map(|item| Some((scalar(item.get(key)?)?, item.clone())))
                .collect()
        };
        let (a, b) = (by_name(a), by_name(b));
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let place = format!("{place}[{key}={name}]");
            match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => self.values(&place, a, b),
                (a, b) => self.add(Kind::Member, &place, json_text(a), json_text(b)),
            }
        }
    }

    fn members(&mut self, a: &Value, b: &Value) {
        let (mut left, mut right) = (Kinds::new(), Kinds::new());
        kinds("", a, &mut left);
        kinds("", b, &mut right);
        let places: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for place in places {
            // The content of an empty list cannot be compared, and a missing member is reported
            // instead of those below it.
            let parent = place.rfind(['.', '[']).map_or("", |at| &place[..at]);
            if !left.contains_key(parent) || !right.contains_key(parent) {
                continue;
            }
            match (left.get(place), right.get(place)) {
                (Some(a), Some(b)) if a.is_disjoint(b) => {
                    let kind = match (a.contains("number"), b.contains("number")) {
                        (true, false) if b.contains("text") => Kind::Spelling,
                        (false, true) if a.contains("text") => Kind::Spelling,
                        _ => Kind::Value,
                    };
                    self.add(kind, place, listed(a), listed(b));
                }
                (Some(_), Some(_)) => {}
                (a, b) => {
                    let absent = || "(absent)".to_owned();
                    let a = a.map_or_else(absent, listed);
                    let b = b.map_or_else(absent, listed);
                    // An empty list shows no items.
                    if !place.ends_with("[]") {
                        self.add(Kind::Member, place, a, b);
                    }
                }
            }
        }
    }
}

type Kinds = BTreeMap<String, BTreeSet<&'static str>>;

fn kinds(place: &str, json: &Value, found: &mut Kinds) {
    found
        .entry(place.to_owned())
        .or_default()
        .insert(plain::kind(json));
    match json {
        Value::Object(object) => {
            for (name, value) in object {
                let place = format!("{place}.{}", unnumbered(name));
                kinds(place.trim_start_matches('.'), value, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                kinds(&format!("{place}[]"), item, found);
            }
        }
        _ => {}
    }
}

fn listed(kinds: &BTreeSet<&'static str>) -> String {
    kinds.iter().copied().collect::<Vec<_>>().join(" or ")
}

fn keys<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

/// The member whose values distinguish the items of both lists.
fn own_name(a: &[Value], b: &[Value]) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "vmid", "volid", "userid", "groupid", "roleid", "realm", "tokenid", "poolid", "upid",
        "sid", "rule", "iface", "storage", "pos", "cidr", "zone", "vnet", "subnet", "snapname",
        "key", "id", "name", "node", "subdir", "n", "group",
    ];
    let tells = |items: &[Value], key: &str| {
        let names: BTreeSet<String> = items
            .iter()
            .filter_map(|item| scalar(item.get(key)?))
            .collect();
        names.len() == items.len()
    };
    NAMES
        .iter()
        .copied()
        .find(|key| !(a.is_empty() && b.is_empty()) && tells(a, key) && tells(b, key))
}

/// Numbers, digits and booleans as text.
fn scalar(json: &Value) -> Option<String> {
    match json {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        _ => None,
    }
}

fn json_text(json: Option<&Value>) -> String {
    const MAX_LENGTH: usize = 300;
    let Some(json) = json else {
        return "(absent)".to_owned();
    };
    let text = json.to_string();
    match text.char_indices().nth(MAX_LENGTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names {
            node: None,
            storage: "local".into(),
            bridge: "vmbr0".into(),
            template: None,
            prefix: "dfr".into(),
            vmids: 9000..=9009,
        }
    }

    fn accepted(body: Value) -> Answer {
        Answer {
            status: Some(200),
            body: Some(body),
            ..Answer::default()
        }
    }

    fn refused(status: u16, message: &str, errors: &[(&str, &str)]) -> Answer {
        Answer {
            status: Some(status),
            message: message.into(),
            errors: errors
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            ..Answer::default()
        }
    }

    fn differences(a: &Answer, b: &Answer, depth: Depth) -> Vec<(Kind, String)> {
        let words = Words::new();
        compare("/x", (a, &words), (b, &words), depth, &names())
            .into_iter()
            .map(|difference| (difference.kind, difference.place))
            .collect()
    }

    #[test]
    fn equal_answers_do_not_differ() {
        let answer = accepted(json!({ "data": { "name": "a", "uptime": 1 } }));
        let later = accepted(json!({ "data": { "name": "a", "uptime": 99 } }));
        assert_eq!(differences(&answer, &later, Depth::Values), []);
        let refusal = refused(500, "no such VM\n", &[]);
        assert_eq!(
            differences(&refusal, &refused(500, "no such VM", &[]), Depth::Values),
            []
        );
    }

    #[test]
    fn a_different_status_is_the_only_difference() {
        let (a, b) = (accepted(json!({ "data": 1 })), refused(403, "no", &[]));
        assert_eq!(
            differences(&a, &b, Depth::Values),
            [(Kind::Status, String::new())]
        );
    }

    #[test]
    fn refusals_differ_by_text_and_by_parameter() {
        let a = refused(400, "failed", &[("vmid", "too small"), ("name", "bad")]);
        let b = refused(400, "failed!", &[("vmid", "too large"), ("name", "bad")]);
        assert_eq!(
            differences(&a, &b, Depth::Values),
            [
                (Kind::Text, String::new()),
                (Kind::Parameter, "vmid".into())
            ]
        );
    }

    #[test]
    fn values_differ_by_place_and_numbers_by_spelling() {
        let a = accepted(json!({ "data": { "cores": 2, "name": "a", "only": 1 } }));
        let b = accepted(json!({ "data": { "cores": "2", "name": "b" } }));
        assert_eq!(
            differences(&a, &b, Depth::Values),
            [
                (Kind::Spelling, "data.cores".into()),
                (Kind::Value, "data.name".into()),
                (Kind::Member, "data.only".into()),
            ]
        );
    }

    #[test]
    fn lists_of_the_whole_server_are_compared_by_created_items() {
        let a = accepted(json!({ "data": [{ "vmid": 9000, "name": "x" }, { "vmid": 100 }] }));
        let b = accepted(json!({ "data": [{ "vmid": 7 }, { "vmid": 9000, "name": "y" }] }));
        assert_eq!(
            differences(&a, &b, Depth::Values),
            [(Kind::Value, "data[vmid=9000].name".into())]
        );
    }

    #[test]
    fn members_are_compared_by_type_if_values_differ_by_nature() {
        let a = accepted(json!({ "data": [{ "id": 1, "name": "x", "net0": "a" }] }));
        let b = accepted(json!({ "data": [{ "id": "7", "net5": "b", "size": 3 }] }));
        assert_eq!(
            differences(&a, &b, Depth::Members),
            [
                (Kind::Spelling, "data[].id".into()),
                (Kind::Member, "data[].name".into()),
                (Kind::Member, "data[].size".into()),
            ]
        );
    }
}
