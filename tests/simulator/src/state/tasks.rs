//! Worker tasks: a UPID, a log that grows over time, an end (wire protocol §8).
//!
//! Nothing runs in the background. A task is planned when it starts, and what is due is settled before each request is
//! answered, so the same requests at the same times always give the same state.

use std::time::Duration;

use serde_json::{Value, json};

use crate::state::access::Identity;

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) upid: String,
    pub(crate) node: String,
    pub(crate) pid: u32,
    pub(crate) pstart: u64,
    /// When it started, since 1970.
    pub(crate) start: Duration,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) owner: Identity,
    /// Log lines and when they appear.
    pub(crate) lines: Vec<(Duration, String)>,
    pub(crate) end: Option<(Duration, String)>,
}

impl Task {
    pub(crate) fn running(&self) -> bool {
        self.end.is_none()
    }

    /// Log lines written so far.
    pub(crate) fn log(&self, now: Duration) -> Vec<&str> {
        self.lines
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, line)| line.as_str())
            .collect()
    }

    /// Ends the task: drops later lines and adds the last one.
    pub(crate) fn finish(&mut self, at: Duration, outcome: Result<u32, &str>) {
        self.lines.retain(|(when, _)| *when <= at);
        let (status, line) = match outcome {
            Ok(0) => ("OK".to_owned(), "TASK OK".to_owned()),
            Ok(warnings) => (
                format!("WARNINGS: {warnings}"),
                format!("TASK WARNINGS: {warnings}"),
            ),
            Err(text) => (text.replace('\n', " "), format!("TASK ERROR: {text}")),
        };
        self.lines.push((at, line));
        self.end = Some((at, status));
    }

    /// The members that all answers about the task have.
    fn identity(&self) -> Value {
        json!({
            "upid": self.upid,
            "node": self.node,
            "pid": self.pid,
            "pstart": self.pstart,
            "starttime": self.start.as_secs(),
            "type": self.kind,
            "id": self.id,
        })
    }

    pub(crate) fn status(&self) -> Value {
        let mut status = self.identity();
        status["user"] = json!(self.owner.user);
        status["status"] = json!(if self.running() { "running" } else { "stopped" });
        if let Some(token) = &self.owner.token {
            status["tokenid"] = json!(token);
        }
        if let Some((_, exit)) = &self.end {
            status["exitstatus"] = json!(exit);
        }
        status
    }

    /// One row of the node's task list.
    pub(crate) fn row(&self) -> Value {
        let mut row = self.identity();
        match &self.end {
            Some((at, exit)) => {
                row["endtime"] = json!(at.as_secs());
                row["status"] = json!(exit);
                row["user"] = json!(self.owner.user);
                if let Some(token) = &self.owner.token {
                    row["tokenid"] = json!(token);
                }
            }
            None => {
                row["status"] = json!("RUNNING");
                row["saved"] = json!("0");
                row["user"] = json!(self.owner.full());
            }
        }
        row
    }

    /// The status of the end for `statusfilter`.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.end.as_ref().map(|(_, exit)| exit.as_str()) {
            None => "unknown",
            Some("OK") => "ok",
            Some(exit) if exit.starts_with("WARNINGS: ") => "warning",
            Some("unexpected status") => "unknown",
            Some(_) => "error",
        }
    }
}

/// `UPID:node:pid:pstart:start:type:id:user:`.
pub(crate) fn upid(
    node: &str,
    pid: u32,
    pstart: u64,
    start: Duration,
    kind: &str,
    id: &str,
    owner: &Identity,
) -> String {
    format!(
        "UPID:{node}:{pid:08X}:{pstart:08X}:{:08X}:{kind}:{}:{}:",
        start.as_secs(),
        field(id),
        owner.full()
    )
}

/// Characters allowed in a field of a UPID.
fn field(id: &str) -> String {
    id.chars()
        .filter(|c| !matches!(c, ':' | '/') && !c.is_whitespace())
        .collect()
}

/// Whether a text has the form of a UPID.
pub(crate) fn is_upid(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let hex = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    match parts.as_slice() {
        ["UPID", node, pid, pstart, start, kind, _id, user, ""] => {
            !node.is_empty()
                && hex(pid, 8..=8)
                && hex(pstart, 8..=9)
                && hex(start, 8..=8)
                && !kind.is_empty()
                && user.contains('@')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upid_form() {
        let owner = Identity {
            user: "root@pam".into(),
            token: Some("test".into()),
        };
        let start = Duration::from_secs(0x6B01_F6B2);
        let text = upid("pve1", 0xC1C, 0x2_C651, start, "imgcopy", "", &owner);
        assert_eq!(
            text,
            "UPID:pve1:00000C1C:0002C651:6B01F6B2:imgcopy::root@pam!test:"
        );
        assert!(is_upid(&text));
        assert!(!is_upid("UPID:xx"));
        assert!(!is_upid(text.trim_end_matches(':')));
    }
}
