//! Task lists, states and logs.

use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::clock::iso_date;
use crate::formats::split_list;
use crate::state::tasks::{Task, is_upid};

pub(super) fn cluster_tasks(call: &Call<'_>) -> ApiResult<Reply> {
    let all = call.may("/", "Sys.Audit");
    let visible = call
        .cluster
        .tasks
        .iter()
        .rev()
        .filter(|task| all || task.owner.user == call.caller.user);
    let rows = visible.take(25).map(|task| {
        let mut row = task.row();
        if let Some(row) = row.as_object_mut() {
            row.remove("pid");
            row.remove("pstart");
            if task.running() {
                row.remove("status");
            } else {
                row.insert("saved".into(), json!("1"));
            }
        }
        row
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn task_list(call: &Call<'_>) -> ApiResult<Reply> {
    let source = call.text("source").unwrap_or("archive");
    let node = call.owned("node");
    let verdicts: Option<Vec<String>> = call
        .text("statusfilter")
        .map(|text| split_list(text).map(str::to_ascii_lowercase).collect());
    let user = call.text("userfilter").map(str::to_ascii_lowercase);
    let (since, until) = (call.number("since"), call.number("until"));
    let all = call.may(&format!("/nodes/{node}"), "Sys.Audit");
    let mut found: Vec<&Task> = call
        .cluster
        .tasks
        .iter()
        .rev()
        .filter(|task| task.node == node && (all || task.owner.user == call.caller.user))
        .filter(|task| match source {
            "active" => task.running(),
            "all" => true,
            _ => !task.running(),
        })
        .filter(|task| call.text("vmid").is_none_or(|id| task.id == id))
        .filter(|task| call.text("typefilter").is_none_or(|kind| task.kind == kind))
        .filter(|task| {
            user.as_ref()
                .is_none_or(|user| task.owner.full().to_ascii_lowercase().contains(user))
        })
        // `errors` includes every status except `ok`, and overrides `statusfilter`.
        .filter(|task| match &verdicts {
            _ if call.flag("errors") => task.verdict() != "ok",
            Some(verdicts) => verdicts.iter().any(|verdict| verdict == task.verdict()),
            None => true,
        })
        .filter(|task| since.is_none_or(|since| task.start.as_secs() >= since))
        .filter(|task| until.is_none_or(|until| task.start.as_secs() <= until))
        .collect();
    found.sort_by_key(|task| !task.running());
    let total = u64::try_from(found.len()).ok();
    let start = usize::try_from(call.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(call.number("limit").unwrap_or(50)).unwrap_or(usize::MAX);
    found.drain(..start.min(found.len()));
    found.truncate(limit);
    Ok(Reply {
        total,
        ..Reply::data(found.iter().map(|task| task.row()).collect::<Value>())
    })
}

/// Tasks of others need an auditor's privilege on the node, and stopping them the right to change
/// it.
fn may_see(call: &Call<'_>, privilege: &str) -> ApiResult<()> {
    // The owner is part of the UPID, even if the task does not exist.
    let mut parts = call.text("upid").unwrap_or("").split(':').skip(1);
    let (node, owner) = (parts.next().unwrap_or(""), parts.nth(5).unwrap_or(""));
    let path = format!("/nodes/{node}");
    if owner.split('!').next() == Some(&call.caller.user) || call.may(&path, privilege) {
        return Ok(());
    }
    Err(ApiError::permission(&format!("{path}, {privilege}")))
}

pub(super) fn task<'a>(call: &'a Call<'_>) -> ApiResult<&'a Task> {
    let upid = call.text("upid").unwrap_or("");
    if !is_upid(upid) {
        return Err(ApiError::parameter("upid", "unable to parse worker upid"));
    }
    let task =
        (call.cluster.task(upid)).ok_or_else(|| ApiError::parameter("upid", "no such task"))?;
    may_see(call, "Sys.Audit")?;
    Ok(task)
}

pub(super) fn task_log(call: &Call<'_>) -> ApiResult<Reply> {
    let upid = call.text("upid").unwrap_or("");
    if !is_upid(upid) {
        return Err(ApiError::parameter("upid", "unable to parse worker upid"));
    }
    may_see(call, "Sys.Audit")?;
    let lines: Vec<&str> = match call.cluster.task(upid) {
        None => vec!["unable to open file - No such file or directory"],
        Some(task) => task.log(call.cluster.now),
    };
    if call.flag("download") {
        let name = call.cluster.task(upid).map_or_else(
            || "task.log".to_owned(),
            |task| {
                format!(
                    "task-{}-{}-{}.log",
                    task.node,
                    task.kind,
                    iso_date(task.start.as_secs())
                )
            },
        );
        let text = lines.iter().map(|line| format!("{line}\n")).collect();
        return Ok(Reply {
            file: Some((name, text)),
            ..Reply::default()
        });
    }
    let lines = if lines.is_empty() {
        vec!["no content"]
    } else {
        lines
    };
    let start = usize::try_from(call.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = match call.number("limit").unwrap_or(50) {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let page = lines
        .iter()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(at, line)| json!({ "n": at + 1, "t": line }));
    Ok(Reply {
        total: u64::try_from(lines.len()).ok(),
        ..Reply::data(page.collect::<Value>())
    })
}

pub(super) fn task_stop(call: &mut Call<'_>) -> ApiResult<Reply> {
    may_see(call, "Sys.Modify")?;
    let upid = call.owned("upid");
    if !is_upid(&upid) {
        return Err(ApiError::parameter("upid", "unable to parse worker upid"));
    }
    if call.cluster.task(&upid).is_none() {
        return Err(ApiError::parameter("upid", "no such task"));
    }
    call.cluster.stop_task(&upid);
    Ok(Reply::data(Value::Null))
}
