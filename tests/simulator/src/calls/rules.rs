//! Firewall rules: an order instead of ids.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use super::records::{Row, Shape, check_digest, digest, given, place};
use super::{Call, Reply};
use crate::error::{ApiError, ApiResult};
use crate::formats::split_list;

pub(super) fn handle(call: &mut Call<'_>) -> ApiResult<Reply> {
    let schema = std::sync::Arc::clone(&call.world.schema);
    let list = call
        .path
        .strip_suffix("/{pos}")
        .unwrap_or(call.path)
        .to_owned();
    let one = list != call.path;
    let key = place(call, &list);
    if list == "/cluster/firewall/groups/{group}" {
        let group = call.owned("group");
        let known = call
            .world
            .records
            .get("/cluster/firewall/groups")
            .is_some_and(|groups| groups.iter().any(|(own, _)| *own == group));
        if !known {
            return Err(ApiError::die(format!("no such security group '{group}'")));
        }
    }
    let rows = call.world.records.get(&key).cloned().unwrap_or_default();
    let stamp = digest(&rows);
    let pos = usize::try_from(call.number("pos").unwrap_or(0)).unwrap_or(usize::MAX);
    if one && pos >= rows.len() {
        return Err(ApiError::die(format!("no rule at position {pos}")));
    }
    if call.method == Method::Get {
        let shape = Shape::of(call, &schema, &list);
        let show = |at: usize, row: &Row| {
            let mut row = shape.show(row);
            // Of a single rule the position comes back as it stood in the path.
            row.insert(
                "pos".into(),
                if one {
                    json!(at.to_string())
                } else {
                    json!(at)
                },
            );
            row.insert("digest".into(), json!(stamp));
            Value::Object(row)
        };
        return Ok(Reply::data(if one {
            show(pos, &rows[pos].1)
        } else {
            rows.iter()
                .enumerate()
                .map(|(at, (_, row))| show(at, row))
                .collect()
        }));
    }
    check_digest(call, &stamp)?;
    let mut rows = rows;
    let mut row = given(call, "pos");
    let delete = call.owned("delete");
    for name in split_list(&delete) {
        let problem = match name {
            "type" | "action" => format!("unable to delete required property '{name}'"),
            _ if call.endpoint.parameters.properties.contains_key(name) => continue,
            _ => format!("no such property ('{name}')"),
        };
        return Err(ApiError::parameter("delete", problem));
    }
    if call.method == Method::Post {
        row.entry("enable").or_insert_with(|| json!("0"));
    }
    match call.method {
        Method::Post => {
            let at = pos.min(rows.len());
            rows.insert(at, (String::new(), row));
        }
        Method::Delete => {
            rows.remove(pos);
        }
        _ => match call
            .number("moveto")
            .filter(|to| usize::try_from(*to) != Ok(pos))
        {
            Some(to) => {
                // It comes to stand before the rule that is there now.
                let to = usize::try_from(to).unwrap_or(usize::MAX);
                let moved = rows.remove(pos);
                let to = if to > pos { to - 1 } else { to };
                rows.insert(to.min(rows.len()), moved);
            }
            None => {
                for name in split_list(&delete) {
                    rows[pos].1.remove(name);
                }
                rows[pos].1.extend(row);
            }
        },
    }
    call.world.records.insert(key, rows);
    Ok(Reply::data(Value::Null))
}
