//! Comparison of recorded answers with the generated shapes: extra members, and how often each member
//! occurs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::overlay;

/// The generated shapes, and the overlay's list of open ones.
#[derive(Debug)]
pub struct Shapes {
    json: Value,
    /// Places, with the reason.
    open: BTreeMap<String, String>,
    /// Members that answers always have, with the reason.
    required: BTreeMap<String, String>,
    /// Placeholders whose value may hold slashes.
    rest_of_path: Vec<String>,
}

/// The statistics of a set of answers. Places are spelled as `GET /path#name.name[]`.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub answers: usize,
    /// Members that are neither declared nor listed as open, and how often they occurred.
    pub extra: BTreeMap<String, usize>,
    /// Those that are listed as open.
    pub open: BTreeMap<String, usize>,
    /// Declared members of answers from servers: the number of objects that could have them, and of those
    /// that have them.
    pub members: BTreeMap<String, Occurrence>,
}

/// The occurrences of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrence {
    pub objects: usize,
    /// With a value that is not null.
    pub present: usize,
}

/// The overlay, as far as it matters here.
#[derive(Deserialize)]
struct Entries {
    #[serde(default)]
    members: BTreeMap<String, String>,
    #[serde(default)]
    required: BTreeMap<String, String>,
    #[serde(default)]
    rest_of_path: Vec<String>,
}

impl Shapes {
    /// From the generated `shapes.json` and the overlay's files.
    ///
    /// # Errors
    /// Which of them cannot be read.
    pub fn read(shapes: &str, files: &BTreeMap<String, String>) -> Result<Self, String> {
        let json = serde_json::from_str(shapes).map_err(|error| format!("shapes.json: {error}"))?;
        let entries: Result<Entries, _> = overlay::merged(files)?.try_into();
        let entries = entries.map_err(|error| format!("overlay: {error}"))?;
        Ok(Self {
            json,
            open: entries.members,
            required: entries.required,
            rest_of_path: entries.rest_of_path,
        })
    }

    /// The endpoint of a path, as `GET /path` with placeholders: matching literal segments take
    /// precedence over placeholders.
    #[must_use]
    pub fn endpoint(&self, method: &str, path: &str) -> Option<&str> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let matching_literals = |template: &str| -> Option<usize> {
            let parts: Vec<&str> = template.split('/').filter(|p| !p.is_empty()).collect();
            let last = parts
                .last()
                .and_then(|last| last.strip_prefix('{')?.strip_suffix('}'));
            let takes_rest =
                last.is_some_and(|last| self.rest_of_path.iter().any(|name| name == last));
            if parts.len() != segments.len() && !(takes_rest && segments.len() > parts.len()) {
                return None;
            }
            let pairs = || parts.iter().zip(&segments);
            pairs()
                .all(|(part, segment)| part == segment || part.starts_with('{'))
                .then(|| pairs().filter(|(part, segment)| part == segment).count())
        };
        let answers = self.json["answers"].as_object()?;
        answers
            .keys()
            .filter_map(|key| {
                let (verb, template) = key.split_once(' ')?;
                (verb == method)
                    .then(|| matching_literals(template))
                    .flatten()
                    .map(|literals| (literals, key))
            })
            .max_by_key(|(literals, _)| *literals)
            .map(|(_, key)| key.as_str())
    }

    /// Counts the `data` of an answer. A made-up answer (not `from_server`) does not
    /// count for the occurrence of members.
    pub fn observe(
        &self,
        endpoint: &str,
        data: &Value,
        from_server: bool,
        observed: &mut Observed,
    ) {
        let mut seen = Observed::default();
        if let Some(ty) = self.json["answers"][endpoint].get("data") {
            self.value(ty, data, &format!("{endpoint}#"), &mut seen);
        }
        observed.answers += 1;
        for (into, from) in [
            (&mut observed.extra, seen.extra),
            (&mut observed.open, seen.open),
        ] {
            for (place, count) in from {
                *into.entry(place).or_default() += count;
            }
        }
        for (place, count) in seen.members.into_iter().filter(|_| from_server) {
            let known = observed.members.entry(place).or_default();
            known.objects += count.objects;
            known.present += count.present;
        }
    }

    /// The members that the overlay requires because of recordings, and that these recordings do
    /// not confirm.
    #[must_use]
    pub fn unconfirmed(&self, observed: &Observed) -> Vec<String> {
        // The overlay's places do not distinguish elements.
        let mut seen: BTreeMap<String, Occurrence> = BTreeMap::new();
        for (place, occurrence) in &observed.members {
            let all = seen
                .entry(place.replace("[]", "").replace("#.", "#"))
                .or_default();
            all.objects += occurrence.objects;
            all.present += occurrence.present;
        }
        let mut problems = Vec::new();
        for (place, reason) in &self.required {
            let recorded = seen.get(place).copied().unwrap_or_default();
            if recorded.present < recorded.objects {
                problems.push(format!(
                    "{place}: listed as required, but recorded in {} of {} objects",
                    recorded.present, recorded.objects
                ));
            } else if let Some(count) = reason.strip_prefix("recorded ")
                && count
                    .parse::<usize>()
                    .is_ok_and(|count| count > recorded.objects)
            {
                problems.push(format!(
                    "{place}: listed as recorded {count} times, but recorded {} times",
                    recorded.objects
                ));
            }
        }
        problems
    }

    fn value(&self, ty: &Value, json: &Value, place: &str, observed: &mut Observed) {
        let Some((kind, of)) = ty.as_object().and_then(|ty| ty.iter().next()) else {
            return;
        };
        match (kind.as_str(), json) {
            ("optional" | "pending", json) => self.value(of, json, place, observed),
            ("array", Value::Array(items)) => {
                for item in items {
                    self.value(of, item, &format!("{place}[]"), observed);
                }
            }
            ("map", Value::Object(object)) => {
                for value in object.values() {
                    self.value(of, value, &below(place, "*"), observed);
                }
            }
            ("item", Value::Object(object)) => {
                let name = of.as_str().unwrap_or_default();
                if let Some(members) = self.json["items"][name]["struct"].as_array() {
                    self.members(members, object, place, observed);
                }
            }
            _ => {}
        }
    }

    fn members(
        &self,
        members: &[Value],
        object: &Map<String, Value>,
        place: &str,
        observed: &mut Observed,
    ) {
        for member in members.iter().filter(|member| !is_indexed(member)) {
            let name = member["name"].as_str().unwrap_or_default();
            let seen = observed.members.entry(below(place, name)).or_default();
            seen.objects += 1;
            seen.present += usize::from(object.get(name).is_some_and(|value| !value.is_null()));
        }
        for (key, value) in object {
            let base = key.trim_end_matches(|c: char| c.is_ascii_digit());
            let member = members.iter().find(|member| match is_indexed(member) {
                true => member["name"] == base && base != key,
                false => member["name"] == *key,
            });
            let place = below(place, key);
            match member {
                Some(member) => self.value(&member["ty"], value, &place, observed),
                None if self.open.contains_key(&place) => {
                    *observed.open.entry(place).or_default() += 1;
                }
                None => *observed.extra.entry(place).or_default() += 1,
            }
        }
    }
}

fn is_indexed(member: &Value) -> bool {
    member["indexed"] == Value::Bool(true)
}

fn below(place: &str, name: &str) -> String {
    match place.ends_with('#') {
        true => format!("{place}{name}"),
        false => format!("{place}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_counted_and_extra_ones_are_listed() {
        let shapes = json!({
            "items": {
                "Thing": { "struct": [
                    { "name": "id", "required": true, "ty": "text" },
                    { "name": "net", "indexed": true, "ty": "text" },
                    { "name": "parts", "ty": { "array": { "item": "Thing" } } },
                ] },
            },
            "answers": {
                "GET /things": { "data": { "array": { "item": "Thing" } } },
                "GET /things/{id}": { "data": { "item": "Thing" } },
                "GET /things/all": { "data": { "map": { "item": "Thing" } } },
            },
        });
        let open = "[open]\n[members]\n\"GET /things#[].free\" = \"says who made it\"\n";
        let required = r#"
            [required]
            "GET /things#id" = "things Things.pm:1"
            "GET /things#parts.id" = "recorded 2"
            "GET /things/{id}#id" = "things Things.pm:2"
        "#;
        let files = [
            ("things/open.toml", open),
            ("things/required.toml", required),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let shapes = Shapes::read(&shapes.to_string(), &files.into()).unwrap();
        assert_eq!(
            shapes.endpoint("GET", "/things/all?x=1"),
            Some("GET /things/all")
        );
        assert_eq!(
            shapes.endpoint("GET", "/things/7"),
            Some("GET /things/{id}")
        );
        assert_eq!(shapes.endpoint("PUT", "/things/7"), None);
        let mut observed = Observed::default();
        let list = json!([
            { "id": "a", "net0": "x", "free": 1, "odd": 1 },
            { "id": null, "net": "x", "parts": [{ "id": "b", "odd": 2 }] },
        ]);
        shapes.observe("GET /things", &list, true, &mut observed);
        let made_up = json!({ "k": { "odd": 1 } });
        shapes.observe("GET /things/all", &made_up, false, &mut observed);
        let names: Vec<_> = observed.extra.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "GET /things#[].net",
                "GET /things#[].odd",
                "GET /things#[].parts[].odd",
                "GET /things/all#*.odd",
            ]
        );
        assert_eq!(
            observed.open,
            BTreeMap::from([("GET /things#[].free".to_owned(), 1)])
        );
        let id = observed.members["GET /things#[].id"];
        assert_eq!((id.objects, id.present), (2, 1));
        assert!(!observed.members.contains_key("GET /things/all#*.id"));
        assert_eq!(
            shapes.unconfirmed(&observed),
            [
                "GET /things#id: listed as required, but recorded in 1 of 2 objects",
                "GET /things#parts.id: listed as recorded 2 times, but recorded 1 times",
            ]
        );
        assert_eq!(observed.answers, 2);
    }
}
