//! Authentication realms.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::{check_digest, parameter_row};
use crate::calls::sections;
use crate::formats::split_list;
use crate::propstring;
use crate::state::cluster::Cluster;
use crate::state::cluster::realms::LIST;
use crate::state::effect::Edit;
use crate::state::records::{Row, digest};

fn visible(row: &Row) -> Row {
    row.iter()
        .filter(|(key, _)| key.as_str() != "password")
        .map(|(key, value)| {
            let flag = matches!(
                key.as_str(),
                "default" | "autocreate" | "port" | "verify" | "secure" | "case-sensitive"
            );
            let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
            let value = number
                .filter(|_| flag)
                .map_or_else(|| value.clone(), Value::from);
            (key.clone(), value)
        })
        .collect()
}

pub(super) fn list(call: &Call<'_>) -> ApiResult<Reply> {
    let rows = call.cluster.rows(LIST).iter();
    let rows = rows.map(|(realm, row)| {
        let mut entry = json!({ "realm": realm, "type": row.get("type") });
        let row = visible(row);
        for key in ["comment", "default"] {
            if let Some(value) = row.get(key) {
                entry[key] = value.clone();
            }
        }
        if let Some(tfa) = row.get("tfa").and_then(Value::as_str) {
            entry["tfa"] = json!(propstring::value(tfa, "type"));
        }
        entry
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

/// The default options of a sync are written with sorted keys.
fn in_order(row: &mut Row) {
    if let Some(Value::String(text)) = row.get_mut("sync-defaults-options") {
        let mut parts: Vec<&str> = text.split(',').collect();
        parts.sort_unstable();
        *text = parts.join(",");
    }
}

/// Clears the default mark of all realms.
fn prefer(cluster: &mut Cluster) {
    for (_, row) in cluster.records.get_mut(LIST).into_iter().flatten() {
        row.remove("default");
    }
}

pub(super) fn create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (realm, kind) = (call.owned("realm"), call.owned("type"));
    let fail = |text: String| Err(ApiError::die(format!("add auth server failed: {text}")));
    if call.cluster.entry(LIST, &realm).is_some() {
        return fail(format!("domain '{realm}' already exists"));
    }
    if matches!(kind.as_str(), "pam" | "pve") {
        return fail(format!("unable to create builtin type '{kind}'"));
    }
    if call.params.contains_key("check-connection") && !matches!(kind.as_str(), "ldap" | "ad") {
        let text = "'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'";
        return fail(text.into());
    }
    let mut row = parameter_row(call, "realm");
    row.remove("check-connection");
    in_order(&mut row);
    let names: Vec<&str> = row
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "type")
        .collect();
    if let Err(text) = sections::check_new(LIST, &kind, &names) {
        return fail(text);
    }
    if call.flag("default") {
        prefer(call.cluster);
    }
    call.cluster.edit(Edit::Set(LIST.into(), realm, row));
    Ok(Reply::data(Value::Null))
}

pub(super) fn one(call: &mut Call<'_>) -> ApiResult<Reply> {
    let realm = call.owned("realm");
    let stamp = digest(&call.cluster.records.get(LIST));
    let row = call.cluster.entry(LIST, &realm).cloned();
    match call.method {
        Method::Get => {
            let row =
                row.ok_or_else(|| ApiError::die(format!("domain '{realm}' does not exist")))?;
            let mut row = visible(&row);
            row.insert("digest".into(), json!(stamp));
            if realm == "pam" {
                row.insert("plugin".into(), json!("PVE::Auth::PAM"));
            }
            Ok(Reply::data(row))
        }
        Method::Delete => {
            if row.is_none() {
                return Err(ApiError::die(format!(
                    "delete auth server failed: authentication domain '{realm}' does not exist"
                )));
            }
            call.cluster.edit(Edit::Remove(LIST.into(), realm));
            Ok(Reply::data(Value::Null))
        }
        _ => {
            let fail = |text: &str| ApiError::die(format!("update auth server failed: {text}"));
            check_digest(call, &stamp).map_err(|error| fail(error.message.trim_end()))?;
            let mut row = row.ok_or_else(|| fail("cannot lookup undefined type!"))?;
            let mut new = parameter_row(call, "realm");
            new.remove("check-connection");
            in_order(&mut new);
            if new.is_empty() && !call.params.contains_key("delete") {
                return Err(fail("no options specified"));
            }
            let delete = call.owned("delete");
            let kind = row.get("type").and_then(Value::as_str).unwrap_or("");
            let names: Vec<&str> = new.keys().map(String::as_str).collect();
            let deleted: Vec<&str> = split_list(&delete).collect();
            // Deleted settings are not checked.
            sections::check_changed(LIST, kind, &names, &[]).map_err(|text| fail(&text))?;
            for key in deleted {
                row.remove(key);
            }
            row.extend(new);
            if call.flag("default") {
                prefer(call.cluster);
            }
            call.cluster.edit(Edit::Set(LIST.into(), realm, row));
            Ok(Reply::data(Value::Null))
        }
    }
}

/// A task imports the users of a directory.
pub(super) fn sync(call: &mut Call<'_>) -> ApiResult<Reply> {
    let realm = call.owned("realm");
    let Some(row) = call.cluster.entry(LIST, &realm) else {
        return Err(ApiError::parameter("realm", "Realm does not exist."));
    };
    let kind = row.get("type").and_then(Value::as_str).unwrap_or("");
    if !matches!(kind, "ad" | "ldap") {
        return Err(ApiError::die(format!(
            "Cannot sync realm type '{kind}'! Only LDAP/AD realms can be synced."
        )));
    }
    let lines = vec![format!("starting sync for realm {realm}")];
    Ok(call.start(
        "auth-realm-sync",
        realm,
        1.0,
        lines,
        crate::state::effect::Effect::Nothing,
    ))
}
