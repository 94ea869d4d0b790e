//! Options: one set of settings at a path.

use proxmox_codegen::facts::{Method, Type};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::answers;
use crate::calls::call::{Call, Reply};
use crate::calls::records::paths::plain_options;
use crate::calls::records::rows::{Shape, check_digest, object, parameter_row, place};
use crate::formats::split_list;
use crate::schema::returns_type;
use crate::state::records::{Row, digest};

/// Options that are read and written at one path.
pub(crate) fn options(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let read = schema.endpoint(Method::Get, call.path)?;
    schema.endpoint(Method::Put, call.path)?;
    if !matches!(returns_type(&read.returns), Type::Object | Type::Any) {
        return None;
    }
    let key = place(call, call.path);
    match call.method {
        Method::Get if plain_options(call.path) => {
            let options = call.cluster.settings.get(&key).cloned().unwrap_or_default();
            let mut row = shown_options(call, &schema, &options);
            if call.path.ends_with("/firewall/options") {
                row.insert("digest".into(), json!(digest(&options)));
            }
            answers::options(call, &mut row);
            Some(Ok(Reply::data(row)))
        }
        Method::Put if returns_type(&call.endpoint.returns) == Type::Null => {
            let options = call.cluster.settings.get(&key).cloned().unwrap_or_default();
            if call.path.ends_with("/firewall/options")
                && let Err(error) = check_digest(call, &digest(&options))
            {
                return Some(Err(error));
            }
            let (row, delete) = (parameter_row(call, ""), call.owned("delete"));
            let known = &call.endpoint.parameters.properties;
            if call.path.ends_with("/firewall/options")
                && let Some(name) = split_list(&delete).find(|name| !known.contains_key(*name))
            {
                let text = format!("no such option '{name}'");
                return Some(Err(ApiError::parameter("delete", text)));
            }
            let options = call.cluster.settings.entry(key).or_default();
            for name in split_list(&delete) {
                options.remove(name);
            }
            options.extend(row);
            Some(Ok(Reply::data(Value::Null)))
        }
        _ => None,
    }
}

fn shown_options(call: &Call<'_>, schema: &crate::schema::ApiSchema, stored: &Row) -> Row {
    let shape = Shape::of(call, schema, call.path);
    let mut row = shape.show(stored);
    if call.path == "/cluster/options" {
        // These property strings are returned as objects.
        for (key, value) in &mut row {
            let parameter = shape.parameters.iter().find_map(|known| known.get(key));
            let keys = shape.keys(parameter);
            if let (Some(keys), Some(text)) = (keys, value.as_str())
                && let Some(parts) = object(keys, text)
            {
                *value = parts;
            }
        }
    }
    row
}

/// Merges stored options over an answer made from the schema.
pub(crate) fn merge_options(call: &Call<'_>, answer: &mut Value) {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let Some(stored) = call.cluster.settings.get(&place(call, call.path)) else {
        return;
    };
    if let (Method::Get, Some(object)) = (call.method, answer.as_object_mut()) {
        object.extend(shown_options(call, &schema, stored));
    }
}
