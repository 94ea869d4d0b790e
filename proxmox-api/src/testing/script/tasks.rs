//! Tasks whose status and log a script answers automatically.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ParsedRequest;
use crate::transport::WireResponse;
use crate::value::endpoint::Method;

/// A task to start.
#[derive(Clone)]
pub(super) struct ScriptedTask {
    kind: String,
    exit: String,
    pub(super) log: Vec<String>,
    pub(super) looks: u32,
}

impl ScriptedTask {
    pub(super) fn new(kind: &str, exit: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            exit: exit.to_owned(),
            log: Vec::new(),
            looks: 0,
        }
    }
}

/// The started tasks, by their UPIDs.
#[derive(Default)]
pub(super) struct Tasks(BTreeMap<String, ScriptedTask>);

impl Tasks {
    /// Starts a task, and answers with its UPID.
    pub(super) fn start(&mut self, task: ScriptedTask, seen: &ParsedRequest) -> WireResponse {
        let parts: Vec<&str> = seen.path.split('/').collect();
        let (node, guest) = match parts[..] {
            ["", "nodes", node, "qemu" | "lxc", guest, ..] => (node, guest),
            ["", "nodes", node, ..] => (node, ""),
            _ => ("pve1", ""),
        };
        let number = self.0.len() + 1;
        let kind = &task.kind;
        let upid =
            format!("UPID:{node}:{number:08X}:00000001:66000000:{kind}:{guest}:root@pam!test:");
        self.0.insert(upid.clone(), task);
        answer(upid.into())
    }

    /// The answer to a request about one of them.
    pub(super) fn answer(&mut self, seen: &ParsedRequest) -> Option<WireResponse> {
        let rest = seen.path.strip_prefix("/nodes/")?;
        let (node, rest) = rest.split_once("/tasks/")?;
        let (upid, what) = rest.split_once('/').unwrap_or((rest, ""));
        let task = self.0.get_mut(upid)?;
        match (seen.method, what) {
            (Method::Get, "status") => {
                let running = task.looks > 0;
                task.looks = task.looks.saturating_sub(1);
                let mut status = json!({
                    "upid": upid, "node": node, "type": task.kind, "user": "root@pam!test", "starttime": 0x6600_0000,
                    "status": if running { "running" } else { "stopped" },
                });
                if !running {
                    status["exitstatus"] = task.exit.as_str().into();
                }
                Some(answer(status))
            }
            (Method::Get, "log") => {
                let number = |name| seen.values(name).next().and_then(|text| text.parse().ok());
                let start: usize = number("start").unwrap_or(0);
                // Like the server: 50 by default, and 0 for all.
                let limit = match number("limit").unwrap_or(50) {
                    0 => usize::MAX,
                    limit => limit,
                };
                let lines = task.log.iter().enumerate().skip(start).take(limit);
                let lines: Vec<Value> = lines
                    .map(|(place, line)| json!({ "n": place + 1, "t": line }))
                    .collect();
                let lines = match task.log.is_empty() {
                    true => json!([{ "n": 1, "t": "no content" }]),
                    false => lines.into(),
                };
                let body = json!({ "data": lines, "total": task.log.len().max(1) });
                Some(response(&body))
            }
            (Method::Delete, "") => {
                if task.looks > 0 {
                    (task.looks, task.exit) = (0, "received interrupt".to_owned());
                }
                Some(answer(Value::Null))
            }
            _ => None,
        }
    }
}

fn answer(data: Value) -> WireResponse {
    response(&json!({ "data": data }))
}

fn response(body: &Value) -> WireResponse {
    let mut response = WireResponse::new(200, body.to_string());
    response.reason = "OK".into();
    response.headers.push((
        "content-type".to_owned(),
        "application/json;charset=UTF-8".to_owned(),
    ));
    response
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::testing::{Expect, Script};
    use crate::value::endpoint::Method;

    #[tokio::test(start_paused = true)]
    async fn a_task_can_be_waited_for() {
        let script = Script::new();
        let start = "/nodes/n2/qemu/101/status/start";
        script.expect(
            Expect::post(start)
                .task_ok("qmstart")
                .task_log(&["one", "two"])
                .task_looks(2),
        );
        script.expect(
            Expect::post(start)
                .task_fails("qmstart", "out of space")
                .task_log(&["tried"]),
        );
        let client = script.client().expect("complete");
        let begin = || client.request::<String>(Method::Post, start);

        let task = client.task(begin().await.expect("accepted").parse().expect("a UPID"));
        let upid = task.upid().expect("a task");
        assert_eq!((upid.node(), upid.id()), ("n2", Some("101")));
        let mut lines = Vec::new();
        let outcome = task.wait().on_log(|line| lines.push(line.to_owned())).await;
        assert!(outcome.expect("it ends").is_success());
        assert_eq!(lines, ["one", "two"]);

        let second = begin().await.expect("accepted");
        assert_ne!(Some(second.as_str()), task.as_str());
        let task = client.task(second.parse().expect("a UPID"));
        let error = task.wait().await.expect_err("it fails").to_string();
        assert!(
            error.contains("out of space") && error.contains("tried"),
            "{error}"
        );
        script.finish().expect("all came");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unexpected_poll_ends_a_wait_at_once() {
        let script = Script::new();
        let client = script.client().expect("complete");
        let upid = "UPID:pve1:00000001:00000001:66000000:qmstart:100:root@pam:";
        let start = tokio::time::Instant::now();
        let task = client.task(upid.parse().expect("a UPID"));
        let error = task.wait().await.expect_err("not expected");
        assert_eq!(start.elapsed(), std::time::Duration::ZERO, "{error}");
        assert_eq!(script.requests().len(), 1);
        let error = task.status().await.expect_err("not expected");
        assert!(matches!(error, Error::Unscripted(_)), "{error:?}");
        assert!(error.never_sent() && !error.is_retryable());
        assert!(
            error.to_string().contains("the script does not expect GET"),
            "{error}"
        );
    }
}
