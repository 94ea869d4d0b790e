//! Targets and matchers of notifications. They share one set of names and refer to each other by it
//! (proxmox-notify `api/mod.rs`, `api/sendmail.rs`, `api/smtp.rs`, `api/matcher.rs`).

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::Call;
use crate::calls::records::rows::field;
use crate::state::cluster::Cluster;
use crate::state::records::{MATCHERS, NOTIFICATION_ENDPOINTS, Row, Rows};

fn is_notification_list(list: &str) -> bool {
    list == MATCHERS || list.starts_with(NOTIFICATION_ENDPOINTS)
}

fn refuse(text: impl Into<String>) -> ApiError {
    ApiError::raise(400, text)
}

fn contains(rows: &Rows, id: &str) -> bool {
    rows.iter().any(|(key, _)| key == id)
}

fn texts<'a>(row: &'a Row, key: &str) -> Vec<&'a str> {
    match field(row, key) {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => vec![text],
        _ => Vec::new(),
    }
}

/// Refuses an invalid new entry.
pub(super) fn check_new(call: &Call<'_>, list: &str, id: &str, row: &Row) -> ApiResult<()> {
    if !is_notification_list(list) {
        return Ok(());
    }
    let mut lists = call
        .cluster
        .records
        .iter()
        .filter(|(list, _)| is_notification_list(list));
    if lists.any(|(_, rows)| contains(rows, id)) {
        return Err(refuse(format!(
            "Cannot create '{id}', an entity with the same name already exists"
        )));
    }
    check_entry(call, list, row)
}

/// Refuses an invalid changed entry.
pub(super) fn check_entry(call: &Call<'_>, list: &str, row: &Row) -> ApiResult<()> {
    let mail = [
        format!("{NOTIFICATION_ENDPOINTS}sendmail"),
        format!("{NOTIFICATION_ENDPOINTS}smtp"),
    ];
    let to = ["mailto", "mailto-user"];
    if mail.iter().any(|other| other == list) && !to.iter().any(|key| row.contains_key(*key)) {
        return Err(refuse(
            "must at least provide one recipient, either in mailto or in mailto-user",
        ));
    }
    if list == MATCHERS {
        let known = |target: &str| {
            let mut lists = call.cluster.records.iter();
            lists.any(|(list, rows)| {
                list.starts_with(NOTIFICATION_ENDPOINTS) && contains(rows, target)
            })
        };
        let targets = texts(row, "target");
        let missing = targets.into_iter().find(|target| !known(target));
        if let Some(target) = missing {
            let text = format!("endpoint '{target}' does not exist");
            return Err(ApiError::raise(404, text));
        }
    }
    Ok(())
}

/// Refuses to remove a target that a matcher uses. Removing a built-in entry resets it.
pub(super) fn remove(call: &mut Call<'_>, list: &str, id: &str) -> Option<ApiResult<()>> {
    if !is_notification_list(list) {
        return None;
    }
    let row = call.cluster.entry(list, id)?;
    if field(row, "origin") != "user-created" {
        let original = defaults(list, id)?;
        let rows = call.cluster.records.get_mut(list)?;
        let (_, row) = rows.iter_mut().find(|(key, _)| key == id)?;
        *row = original;
        return Some(Ok(()));
    }
    let matchers = call.cluster.rows(MATCHERS).iter();
    let users: Vec<&str> = matchers
        .filter(|(_, row)| list != MATCHERS && texts(row, "target").contains(&id))
        .map(|(name, _)| name.as_str())
        .collect();
    (!users.is_empty()).then(|| {
        Err(refuse(format!(
            "cannot delete '{id}', referenced by: {}",
            users.join(", ")
        )))
    })
}

/// Marks a built-in entry as changed.
pub(super) fn changed(list: &str, row: &mut Row) {
    if is_notification_list(list) && field(row, "origin") == "builtin" {
        row.insert("origin".into(), json!("modified-builtin"));
    }
}

/// The error for an outdated digest.
pub(super) fn digest_error(list: &str, error: ApiError) -> ApiError {
    match is_notification_list(list) {
        true => refuse(error.message.trim_end()),
        false => error,
    }
}

fn defaults(list: &str, id: &str) -> Option<Row> {
    let row = if list == MATCHERS && id == "default-matcher" {
        json!({ "mode": "all", "origin": "builtin", "target": ["mail-to-root"] })
    } else if list.strip_prefix(NOTIFICATION_ENDPOINTS) == Some("sendmail") && id == "mail-to-root"
    {
        json!({ "comment": "Mail to root@pam", "origin": "builtin", "mailto-user": ["root@pam"] })
    } else {
        return None;
    };
    row.as_object().cloned()
}

impl Cluster {
    /// The built-in notification targets and matchers.
    pub(crate) fn configure_notifications(&mut self) {
        for (list, id) in [
            (format!("{NOTIFICATION_ENDPOINTS}sendmail"), "mail-to-root"),
            (MATCHERS.to_owned(), "default-matcher"),
        ] {
            let row = defaults(&list, id).unwrap_or_default();
            self.records.insert(list, vec![(id.to_owned(), row)]);
        }
    }
}
