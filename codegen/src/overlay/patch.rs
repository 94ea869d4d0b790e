//! Corrections of the facts.

use super::entries::Patch;
use super::notes::Notes;
use crate::facts::{Additional, Endpoint, Facts, Format, Release, Schema};
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
    let (table, how) = match (&patch.replace, &patch.set, &patch.add, &patch.copy) {
        (Some(table), None, None, None) => (table, How::Replace),
        (None, Some(table), None, None) => (table, How::Set),
        (None, None, Some(table), None) => (table, How::Add),
        (None, None, None, Some(from)) => return copy(patch, from, releases, notes),
        _ => return Err("needs one of replace, set, add and copy".to_owned()),
    };
    let json = serde_json::to_string(table).map_err(|error| error.to_string())?;
    let schema = facts_json::read_schema(how.name(), &json).map_err(|error| error.to_string())?;
    let members: Vec<&str> = table.keys().map(String::as_str).collect();
    let bound = |text: &Option<String>| text.as_deref().map(str::parse::<Release>).transpose();
    let (since, until) = (bound(&patch.since)?, bound(&patch.until)?);
    for at in &patch.at {
        let (verb, path) = at.split_once(' ').ok_or("an endpoint is VERB /path")?;
        let method = verb.parse()?;
        let mut applied = false;
        for facts in releases.iter_mut() {
            if since.is_some_and(|since| facts.release < since)
                || until.is_some_and(|until| facts.release > until)
            {
                continue;
            }
            let endpoint = facts
                .endpoints
                .get_mut(path)
                .and_then(|m| m.get_mut(&method));
            let Some(endpoint) = endpoint else { continue };
            let before = endpoint.clone();
            let found = change(endpoint, &patch.pointer, &schema, &members, how)?;
            applied |= found && *endpoint != before;
        }
        if !applied && !notes.is_partial() {
            return Err(format!("changes nothing of {at}"));
        }
        notes.mark(patch.entry.clone(), at);
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
    let bound = |text: &Option<String>| text.as_deref().map(str::parse::<Release>).transpose();
    let (since, until) = (bound(&patch.since)?, bound(&patch.until)?);
    let mut unknown: Vec<&String> = patch.without.iter().collect();
    for at in &patch.at {
        let mut applied = false;
        for facts in releases.iter_mut() {
            if since.is_some_and(|since| facts.release < since)
                || until.is_some_and(|until| facts.release > until)
            {
                continue;
            }
            let place = patch.from.as_ref().unwrap_or(&patch.pointer);
            let Some(mut schema) =
                method_of(facts, from)?.and_then(|endpoint| schema_at(endpoint, place))
            else {
                continue;
            };
            let Some(endpoint) = method_of(facts, at)? else {
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
            let found = change(endpoint, &patch.pointer, &schema, &[], How::Replace)?;
            applied |= found && *endpoint != before;
        }
        if !applied && !notes.is_partial() {
            return Err(format!(
                "changes nothing of {at}; has any release both it and {from}?"
            ));
        }
        notes.mark(patch.entry.clone(), at);
    }
    if let (Some(name), false) = (unknown.first(), notes.is_partial()) {
        return Err(format!("without: {from} has no {name}"));
    }
    Ok(())
}

fn method_of<'f>(facts: &'f mut Facts, at: &str) -> Result<Option<&'f mut Endpoint>, String> {
    let (verb, path) = at.split_once(' ').ok_or("an endpoint is VERB /path")?;
    let method = verb.parse()?;
    Ok((facts.endpoints.get_mut(path)).and_then(|methods| methods.get_mut(&method)))
}

/// The schema at a pointer to a result, an element or a member of it, or a parameter.
fn schema_at(endpoint: &Endpoint, pointer: &str) -> Option<Schema> {
    let mut tokens = pointer.strip_prefix('/')?.split('/');
    let name = |token: &str| token.replace("~1", "/").replace("~0", "~");
    let mut schema = match tokens.next()? {
        "returns" => &endpoint.returns,
        "parameters" => endpoint.parameters.properties.get(&name(tokens.next()?))?,
        _ => return None,
    };
    while let Some(token) = tokens.next() {
        schema = match token {
            "items" => schema.items.as_deref()?,
            "properties" => schema.properties.as_ref()?.get(&name(tokens.next()?))?,
            _ => return None,
        };
    }
    Some(schema.clone())
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Replace,
    Set,
    Add,
}

impl How {
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
    how: How,
) -> Result<bool, String> {
    let mut tokens = pointer
        .strip_prefix('/')
        .ok_or("a pointer starts with a slash")?
        .split('/')
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect::<Vec<_>>();
    let first = tokens.remove(0);
    let mut place = match first.as_str() {
        "returns" => &mut endpoint.returns,
        "parameters" if !tokens.is_empty() => {
            let name = tokens.remove(0);
            if how == How::Add && tokens.is_empty() {
                endpoint
                    .parameters
                    .properties
                    .entry(name)
                    .or_insert_with(|| schema.clone());
                return Ok(true);
            }
            match endpoint.parameters.properties.get_mut(&name) {
                Some(place) => place,
                None => return Ok(false),
            }
        }
        _ => return Err("a pointer starts with /returns or /parameters/<name>".to_owned()),
    };
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = match token.as_str() {
            "items" => place.items.as_deref_mut(),
            "additional" => match &mut place.additional {
                Some(Additional::Schema(schema)) => Some(&mut **schema),
                _ => None,
            },
            "one_of" => {
                let index = tokens.next().and_then(|token| token.parse::<usize>().ok());
                place
                    .one_of
                    .as_mut()
                    .zip(index)
                    .and_then(|(list, index)| list.get_mut(index))
            }
            "properties" | "format" => {
                let name = tokens.next().ok_or("a pointer ends in the middle")?;
                let schemas = match token.as_str() {
                    "properties" if how == How::Add => {
                        Some(place.properties.get_or_insert_with(Default::default))
                    }
                    "properties" => place.properties.as_mut(),
                    _ => match &mut place.format {
                        Some(Format::Keys(keys)) => Some(keys),
                        _ => None,
                    },
                };
                let Some(schemas) = schemas else {
                    return Ok(false);
                };
                if how == How::Add && tokens.peek().is_none() {
                    schemas.entry(name).or_insert_with(|| schema.clone());
                    return Ok(true);
                }
                schemas.get_mut(&name)
            }
            other => return Err(format!("`{other}` is not a part of a schema")),
        };
        match next {
            Some(next) => place = next,
            None => return Ok(false),
        }
    }
    match how {
        How::Replace => *place = schema.clone(),
        How::Set => set(place, schema, members)?,
        How::Add => return Err("add names a property that does not exist yet".to_owned()),
    }
    Ok(true)
}

fn set(place: &mut Schema, from: &Schema, members: &[&str]) -> Result<(), String> {
    for member in members {
        let from = from.clone();
        match *member {
            "type" => place.ty = from.ty,
            "optional" => place.optional = from.optional,
            "default" => place.default = from.default,
            "enum" => place.values = from.values,
            "minimum" => place.minimum = from.minimum,
            "maximum" => place.maximum = from.maximum,
            "min_length" => place.min_length = from.min_length,
            "max_length" => place.max_length = from.max_length,
            "pattern" => place.pattern = from.pattern,
            "format" => place.format = from.format,
            "requires" => place.requires = from.requires,
            "renderer" => place.renderer = from.renderer,
            "items" => place.items = from.items,
            "properties" => place.properties = from.properties,
            "additional" => place.additional = from.additional,
            other => return Err(format!("`{other}` cannot be set")),
        }
    }
    Ok(())
}
