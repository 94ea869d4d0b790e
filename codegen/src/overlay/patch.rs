//! Corrections of the facts.

use super::entries::Patch;
use super::notes::Notes;
use crate::facts::{Additional, Endpoint, Facts, Format, Method, Release, Schema};
use crate::facts_json;

/// Applies a patch to the facts of every release in its range.
pub(super) fn apply(patch: &Patch, releases: &mut [Facts], notes: &Notes) {
    if let Err(problem) = correct(patch, releases, notes) {
        notes.problem(format!(
            "{} ({} {}): {problem}",
            patch.entry,
            patch.at.join(", "),
            patch.pointer
        ));
    }
}

fn correct(patch: &Patch, releases: &mut [Facts], notes: &Notes) -> Result<(), String> {
    let of_copies = patch.with.is_some() || patch.from.is_some() || !patch.without.is_empty();
    if patch.copy.is_none() && of_copies {
        return Err("`from`, `with` and `without` are for `copy` only".to_owned());
    }
    let (table, operation) = match (&patch.replace, &patch.set, &patch.add, &patch.copy) {
        (Some(table), None, None, None) => (table, Operation::Replace),
        (None, Some(table), None, None) => (table, Operation::Set),
        (None, None, Some(table), None) => (table, Operation::Add),
        (None, None, None, Some(from)) => return copy(patch, from, releases, notes),
        _ => return Err("needs one of replace, set, add and copy".to_owned()),
    };
    let json = serde_json::to_string(table).map_err(|error| error.to_string())?;
    let schema =
        facts_json::read_schema(operation.name(), &json).map_err(|error| error.to_string())?;
    let members: Vec<&str> = table.keys().map(String::as_str).collect();
    let in_range = Range::of(patch)?;
    for at in &patch.at {
        let mut applied = false;
        for facts in releases.iter_mut().filter(|facts| in_range.holds(facts)) {
            let Some(endpoint) = endpoint_of(facts, at)? else {
                continue;
            };
            let before = endpoint.clone();
            let found = change(endpoint, &patch.pointer, &schema, &members, operation)?;
            applied |= found && *endpoint != before;
        }
        if !applied && !notes.is_partial() {
            return Err(format!("changes nothing of {at}"));
        }
        notes.mark_used(patch.entry.clone(), at);
    }
    Ok(())
}

/// Takes what another endpoint has, at the same place unless the patch says where, release by release.
fn copy(patch: &Patch, from: &str, releases: &mut [Facts], notes: &Notes) -> Result<(), String> {
    let with = match &patch.with {
        Some(table) => {
            let json = serde_json::json!({ "type": "object", "properties": table }).to_string();
            let schema =
                facts_json::read_schema("with", &json).map_err(|error| error.to_string())?;
            schema.properties.unwrap_or_default()
        }
        None => Default::default(),
    };
    let in_range = Range::of(patch)?;
    let mut unknown: Vec<&String> = patch.without.iter().collect();
    for at in &patch.at {
        let mut applied = false;
        for facts in releases.iter_mut().filter(|facts| in_range.holds(facts)) {
            let pointer = patch.from.as_ref().unwrap_or(&patch.pointer);
            let Some(mut schema) =
                endpoint_of(facts, from)?.and_then(|endpoint| schema_at(endpoint, pointer))
            else {
                continue;
            };
            let Some(endpoint) = endpoint_of(facts, at)? else {
                continue;
            };
            let before = endpoint.clone();
            if let Some(properties) = &mut schema.properties {
                for name in &patch.without {
                    if properties.remove(name).is_some() {
                        unknown.retain(|other| *other != name);
                    }
                }
            }
            if !with.is_empty() {
                let properties = schema.properties.get_or_insert_default();
                properties.extend(with.clone());
            }
            let found = change(endpoint, &patch.pointer, &schema, &[], Operation::Replace)?;
            applied |= found && *endpoint != before;
        }
        if !applied && !notes.is_partial() {
            return Err(format!(
                "changes nothing of {at}; has any release both it and {from}?"
            ));
        }
        notes.mark_used(patch.entry.clone(), at);
    }
    if let (Some(name), false) = (unknown.first(), notes.is_partial()) {
        return Err(format!("without: {from} has no {name}"));
    }
    Ok(())
}

/// The releases that a patch is for.
struct Range {
    since: Option<Release>,
    until: Option<Release>,
}

impl Range {
    fn of(patch: &Patch) -> Result<Self, String> {
        let release = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        Ok(Self {
            since: release(&patch.since)?,
            until: release(&patch.until)?,
        })
    }

    fn holds(&self, facts: &Facts) -> bool {
        self.since.is_none_or(|since| facts.release >= since)
            && self.until.is_none_or(|until| facts.release <= until)
    }
}

/// The verb and path of an endpoint such as `POST /path`.
pub(super) fn verb_and_path(endpoint: &str) -> Result<(Method, &str), String> {
    let (verb, path) = endpoint
        .split_once(' ')
        .ok_or("an endpoint is VERB /path")?;
    Ok((verb.parse()?, path))
}

pub(super) fn endpoint_of<'f>(
    facts: &'f mut Facts,
    endpoint: &str,
) -> Result<Option<&'f mut Endpoint>, String> {
    let (method, path) = verb_and_path(endpoint)?;
    Ok((facts.endpoints.get_mut(path)).and_then(|methods| methods.get_mut(&method)))
}

/// A token of a JSON pointer without escapes.
fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The schema at a pointer to a result, an element or a member of it, or a parameter.
fn schema_at(endpoint: &Endpoint, pointer: &str) -> Option<Schema> {
    let mut tokens = pointer.strip_prefix('/')?.split('/');
    let mut schema = match tokens.next()? {
        "returns" => &endpoint.returns,
        "parameters" => endpoint
            .parameters
            .properties
            .get(&unescaped(tokens.next()?))?,
        _ => return None,
    };
    while let Some(token) = tokens.next() {
        schema = match token {
            "items" => schema.items.as_deref()?,
            "properties" => schema
                .properties
                .as_ref()?
                .get(&unescaped(tokens.next()?))?,
            _ => return None,
        };
    }
    Some(schema.clone())
}

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Replace,
    Set,
    Add,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Set => "set",
            Self::Add => "add",
        }
    }
}

/// Changes the schema at `pointer`; false if the release has no such place.
fn change(
    endpoint: &mut Endpoint,
    pointer: &str,
    schema: &Schema,
    members: &[&str],
    operation: Operation,
) -> Result<bool, String> {
    let mut tokens = pointer
        .strip_prefix('/')
        .ok_or("a pointer starts with a slash")?
        .split('/')
        .map(unescaped)
        .collect::<Vec<_>>();
    let first = tokens.remove(0);
    let mut target = match first.as_str() {
        "returns" => &mut endpoint.returns,
        "parameters" if !tokens.is_empty() => {
            let name = tokens.remove(0);
            if operation == Operation::Add && tokens.is_empty() {
                endpoint
                    .parameters
                    .properties
                    .entry(name)
                    .or_insert_with(|| schema.clone());
                return Ok(true);
            }
            match endpoint.parameters.properties.get_mut(&name) {
                Some(target) => target,
                None => return Ok(false),
            }
        }
        _ => return Err("a pointer starts with /returns or /parameters/<name>".to_owned()),
    };
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = match token.as_str() {
            "items" => target.items.as_deref_mut(),
            "additional" => match &mut target.additional {
                Some(Additional::Schema(schema)) => Some(&mut **schema),
                _ => None,
            },
            "one_of" => {
                let index = tokens.next().and_then(|token| token.parse::<usize>().ok());
                target
                    .one_of
                    .as_mut()
                    .zip(index)
                    .and_then(|(list, index)| list.get_mut(index))
            }
            "properties" | "format" => {
                let name = tokens.next().ok_or("a pointer ends in the middle")?;
                let schemas = match token.as_str() {
                    "properties" if operation == Operation::Add => {
                        Some(target.properties.get_or_insert_with(Default::default))
                    }
                    "properties" => target.properties.as_mut(),
                    _ => match &mut target.format {
                        Some(Format::Keys(keys)) => Some(keys),
                        _ => None,
                    },
                };
                let Some(schemas) = schemas else {
                    return Ok(false);
                };
                if operation == Operation::Add && tokens.peek().is_none() {
                    schemas.entry(name).or_insert_with(|| schema.clone());
                    return Ok(true);
                }
                schemas.get_mut(&name)
            }
            other => return Err(format!("`{other}` is not a part of a schema")),
        };
        match next {
            Some(next) => target = next,
            None => return Ok(false),
        }
    }
    match operation {
        Operation::Replace => *target = schema.clone(),
        Operation::Set => set(target, schema, members)?,
        Operation::Add => return Err("add names a property that does not exist yet".to_owned()),
    }
    Ok(true)
}

fn set(target: &mut Schema, from: &Schema, members: &[&str]) -> Result<(), String> {
    for member in members {
        let from = from.clone();
        match *member {
            "type" => target.ty = from.ty,
            "optional" => target.optional = from.optional,
            "default" => target.default = from.default,
            "enum" => target.values = from.values,
            "minimum" => target.minimum = from.minimum,
            "maximum" => target.maximum = from.maximum,
            "min_length" => target.min_length = from.min_length,
            "max_length" => target.max_length = from.max_length,
            "pattern" => target.pattern = from.pattern,
            "format" => target.format = from.format,
            "requires" => target.requires = from.requires,
            "renderer" => target.renderer = from.renderer,
            "items" => target.items = from.items,
            "properties" => target.properties = from.properties,
            "additional" => target.additional = from.additional,
            other => return Err(format!("`{other}` cannot be set")),
        }
    }
    Ok(())
}
