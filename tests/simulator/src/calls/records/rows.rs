//! Conversion of entries between parameters and answers.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Format, Method, Schema, Schemas, Type};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::ports;
use crate::calls::records::paths::{ACTIONS, parameter};
use crate::formats::split_list;
use crate::params::Param;
use crate::propstring;
use crate::schema::lookup;
use crate::state::records::{Row, Rows};

/// A field of an entry; null if it is missing.
pub(crate) fn field<'a>(row: &'a Row, key: &str) -> &'a Value {
    row.get(key).unwrap_or(&Value::Null)
}

/// The path with its placeholders filled in. Paths of guests are independent of the node.
pub(crate) fn place(call: &Call<'_>, path: &str) -> String {
    let mut out = String::new();
    let path = ["/nodes/{node}/qemu/{vmid}", "/nodes/{node}/lxc/{vmid}"]
        .iter()
        .find_map(|start| path.strip_prefix(start))
        .map(|rest| format!("/guests/{{vmid}}{rest}"))
        .unwrap_or_else(|| path.to_owned());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        match parameter(segment) {
            Some(name) => out.push_str(call.text(name).unwrap_or("")),
            None => out.push_str(segment),
        }
    }
    out
}

pub(crate) fn check_digest(call: &Call<'_>, current: &str) -> ApiResult<()> {
    match call.text("digest") {
        Some(digest) if digest != current => Err(ApiError::die(
            "detected modified configuration - file changed by other user? Try again.",
        )),
        _ => Ok(()),
    }
}

/// The parameters to store.
pub(crate) fn parameter_row(call: &Call<'_>, id: &str) -> Row {
    call.params
        .iter()
        .filter(|(key, _)| {
            *key != id
                && !ACTIONS.contains(&key.as_str())
                && !call.path.contains(&format!("{{{key}}}"))
        })
        .map(|(key, value)| (key.clone(), value.to_json()))
        .filter(|(_, value)| !value.is_object())
        .collect()
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "token", "key"]
        .iter()
        .any(|word| key.contains(word))
}

/// The schemas of an answer's fields, and of the parameters that set them.
pub(crate) struct Shape<'a> {
    pub(crate) returns: Option<&'a Schemas>,
    pub(crate) parameters: Vec<&'a Schemas>,
    pub(crate) formats: &'a BTreeMap<String, Schemas>,
}

impl<'a> Shape<'a> {
    pub(crate) fn of(call: &Call<'a>, schema: &'a crate::schema::ApiSchema, list: &str) -> Self {
        let returns = &call.endpoint.returns;
        let returns = returns
            .items
            .as_ref()
            .map_or(returns, |items| &**items)
            .properties
            .as_ref()
            .filter(|properties| !properties.is_empty());
        let item = schema.item_of(list).unwrap_or(list);
        let parameters = [
            (Method::Post, list),
            (Method::Post, item),
            (Method::Put, item),
            (Method::Put, list),
        ]
        .iter()
        .filter_map(|(method, path)| schema.endpoint(*method, path))
        .map(|endpoint| &endpoint.parameters.properties)
        .collect();
        Self {
            returns,
            parameters,
            formats: schema.formats(),
        }
    }

    pub(crate) fn show(&self, row: &Row) -> Row {
        row.iter()
            .filter_map(|(key, value)| {
                let declared = self.returns.and_then(|known| lookup(known, key));
                let parameter = self.parameters.iter().find_map(|known| lookup(known, key));
                (declared.is_some() || !is_secret(key)).then(|| {
                    (
                        key.clone(),
                        typed(value, declared, self.keys(parameter), parameter),
                    )
                })
            })
            .collect()
    }

    /// The keys of a property string.
    pub(crate) fn keys(&self, parameter: Option<&'a Schema>) -> Option<&'a Schemas> {
        match parameter?.format.as_ref()? {
            Format::Keys(keys) => Some(keys),
            Format::Name(name) => self.formats.get(name),
            Format::List(_) => None,
        }
    }
}

/// A stored text in the type of the answer.
fn typed(
    value: &Value,
    declared: Option<&Schema>,
    keys: Option<&Schemas>,
    parameter: Option<&Schema>,
) -> Value {
    let ty = declared.or(parameter).and_then(|schema| schema.ty);
    match (value, ty) {
        (Value::String(text), Some(Type::Integer | Type::Boolean)) => text
            .trim_start_matches('+')
            .parse::<i64>()
            .map_or_else(|_| value.clone(), Value::from),
        (Value::String(text), Some(Type::Number)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        (Value::String(text), Some(Type::Object)) => keys
            .and_then(|keys| object(keys, text))
            .unwrap_or_else(|| value.clone()),
        (Value::String(text), Some(Type::Array)) => json!([text]),
        (Value::Array(items), Some(Type::String)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            json!(items.join(","))
        }
        _ => value.clone(),
    }
}

/// A property string as an object. Numbers in it stay strings.
pub(crate) fn object(keys: &Schemas, text: &str) -> Option<Value> {
    let parts = propstring::parse(keys, text).ok()?;
    let row: Row = parts
        .into_iter()
        .map(|(key, part)| {
            let flag = keys.get(&key).and_then(|schema| schema.ty) == Some(Type::Boolean);
            let part = match part.as_str() {
                "1" | "on" | "yes" | "true" if flag => json!(1),
                "0" | "off" | "no" | "false" if flag => json!(0),
                _ => Value::String(part),
            };
            (key, part)
        })
        .collect();
    Some(Value::Object(row))
}

/// A text parameter that may be sent as a list.
pub(crate) fn listed(param: Option<&Param>) -> Vec<String> {
    match param {
        Some(Param::Text(text)) => split_list(text).map(str::to_owned).collect(),
        Some(Param::List(items)) => items
            .iter()
            .filter_map(Param::text)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn with_id(list: &List<'_>, id: &str, row: &Row) -> Row {
    let mut row = row.clone();
    row.insert(list.id.to_owned(), json!(id));
    row
}

/// Checks a node's network with a changed interface.
pub(crate) fn planned(rows: &Rows, id: &str, delete: &str, row: &mut Row) -> ApiResult<()> {
    ports::check_duplicates(rows, id, row)?;
    ports::rejoin(row);
    let mut planned = rows.clone();
    if let Some((_, stored)) = planned.iter_mut().find(|(key, _)| key == id) {
        for name in split_list(delete) {
            stored.remove(name);
        }
        stored.extend(row.clone());
    }
    ports::check(&planned)
}

/// A list of entries, as described by the schema.
pub(crate) struct List<'a> {
    pub(crate) path: &'a str,
    /// Name of the parameter with an entry's id.
    pub(crate) id: &'a str,
    pub(crate) strict: bool,
}
