//! Privileges that handlers check themselves.
//!
//! At these endpoints the schema admits every user (`user => all`), or requires any of several
//! privileges, and the handler then checks each parameter. The checks of the real server's handlers
//! are data here.

pub(crate) mod guests;
pub(crate) mod handlers;
pub(crate) mod paths;
pub(crate) mod privileges;
pub(crate) mod table;

use Need::{All, Any, Check, Guests, Handler, Rows, RowsIn};
use proxmox_codegen::facts::Method;
use proxmox_codegen::facts::Method::Get;
use serde_json::Value;

use crate::api_error::ApiResult;
use crate::calls::call::Call;
use crate::calls::rights::handlers::bulk_action;
use crate::calls::rights::table::{Need, TABLE};
use crate::state::access::roles::modifiers;

fn needs<'a>(method: Method, path: &'a str) -> impl Iterator<Item = &'static Need> + 'a {
    TABLE
        .iter()
        .filter(move |(verb, template, _)| *verb == method && *template == path)
        .map(|(_, _, need)| need)
}

/// Refuses a call for the privileges that its handler checks.
pub(super) fn check(call: &Call<'_>) -> ApiResult<()> {
    if call.caller.is_root() {
        return Ok(());
    }
    needs(call.method, call.path).try_for_each(|need| match need {
        All(path, privileges) => match call.filled(path, None) {
            Some(path) => call.require(&path, privileges),
            None => Ok(()),
        },
        Any(path, privileges) => match call.filled(path, None) {
            Some(path) => call.require_any(&path, privileges),
            None => Ok(()),
        },
        Guests(privileges, text) => bulk_action(call, privileges, text),
        Check(check) => check(call),
        Rows(..) | RowsIn(..) | Handler => Ok(()),
    })
}

/// Removes from an answer what the caller may not see.
pub(super) fn filter(call: &Call<'_>, data: &mut Value) {
    if call.caller.is_root() || call.method != Get {
        return;
    }
    if call.path == "/nodes/{node}/storage/{storage}/content"
        && let Some(rows) = data.as_array_mut()
    {
        rows.retain(|row| {
            row["volid"]
                .as_str()
                .is_some_and(|volid| call.require_volume(None, volid, None).is_ok())
        });
    }
    if call.path == "/nodes/{node}/network"
        && let Some(rows) = data.as_array_mut()
    {
        rows.retain(|row| {
            let bridge = matches!(row["type"].as_str(), Some("bridge" | "OVSBridge"));
            let place = format!(
                "/sdn/zones/localnetwork/{}",
                row["iface"].as_str().unwrap_or("")
            );
            !bridge || call.require_any(&place, &["SDN.Audit", "SDN.Use"]).is_ok()
        });
    }
    for need in needs(call.method, call.path) {
        let (rows, path, privileges) = match need {
            Rows(path, privileges) => (Some(&mut *data), path, privileges),
            RowsIn(member, path, privileges) => (data.get_mut(*member), path, privileges),
            _ => continue,
        };
        if let Some(rows) = rows.and_then(Value::as_array_mut) {
            rows.retain(|row| {
                call.filled(path, Some(row))
                    .is_none_or(|path| call.require_any(&path, privileges).is_ok())
            });
        }
    }
    let audited = call.path != "/access/acl" || call.may("/access", "Sys.Audit");
    if let Some(rows) = data.as_array_mut().filter(|_| !audited) {
        rows.retain(|row| {
            row["path"]
                .as_str()
                .is_some_and(|path| call.require_any(path, &modifiers(path)).is_ok())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::schema::{ApiSchema, releases};

    #[test]
    fn every_endpoint_whose_handler_checks_privileges_is_in_the_table() {
        let mut missing = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for release in releases() {
            let schema = ApiSchema::load(release).expect("a known release");
            for (path, methods) in schema.endpoints() {
                for (method, endpoint) in methods {
                    if needs(*method, path).next().is_some() {
                        seen.insert((*method, path.clone()));
                    }
                    let Some(permissions) = &endpoint.permissions else {
                        continue;
                    };
                    let everybody = permissions.user.as_deref() == Some("all");
                    if everybody
                        && (permissions.described || *method != Get)
                        && needs(*method, path).next().is_none()
                    {
                        missing.insert(format!("{release} {method} {path}"));
                    }
                }
            }
        }
        assert_eq!(missing, BTreeSet::new());
        let named: BTreeSet<_> = TABLE
            .iter()
            .map(|(m, p, _)| (*m, (*p).to_owned()))
            .collect();
        let unknown: Vec<_> = named.difference(&seen).collect();
        assert!(unknown.is_empty(), "no release has {unknown:?}");
    }
}
