//! Injected faults.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// A fault for a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The call is not made; the answer has this status and text, as reason phrase and as message.
    Status(u16, String),
    /// The request waits this long before it continues with another fault or its normal answer. Not
    /// scaled by the time factor.
    Latency(Duration),
    /// The connection closes after the request was read; the call is not made.
    Drop,
    /// The call is made, then the connection closes without an answer.
    DropAnswer,
    /// The connection closes after this many bytes of the request's body; the call is not made.
    DropBody(usize),
    /// The call is not made and no answer is sent until the client disconnects.
    Hang,
    /// The call is made and the answer announces its whole length, but ends after this many bytes
    /// of the body.
    Truncate(usize),
    /// `595 Connection refused`: the node that should answer cannot be reached. The call is not made.
    NodeDown,
    /// The call is made; after thirty simulated seconds the answer is `596 Connection timed out`.
    Timeout,
    /// The call is made; the task it starts changes nothing and ends with this error.
    TaskFails(String),
    /// The call is made; the task it starts succeeds with this many warnings.
    TaskWarns(u32),
    /// A console connection breaks after the server sent this many bytes through it.
    BreakConsole(usize),
}

/// The result of a task that was started under a fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TaskFault {
    Fail(String),
    Warn(u32),
}

struct Rule {
    id: u64,
    /// `None` is any.
    method: Option<String>,
    path: Vec<String>,
    skip: u32,
    /// `None` is unlimited.
    left: Option<u32>,
    hits: u32,
    fault: Fault,
}

#[derive(Default)]
struct Rules {
    list: Vec<Rule>,
    last_id: u64,
    /// Hits of rules that were used up or removed.
    past: Vec<(u64, u32)>,
}

/// The faults of a simulator; see [`crate::Simulator::faults`]. Clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Rules>>);

/// The faults of one request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MatchedFaults {
    pub(crate) latency: Duration,
    pub(crate) fault: Option<Fault>,
}

impl Faults {
    /// Starts a fault for requests of a method and a path.
    ///
    /// The method is `GET`, `POST`, `PUT`, `DELETE` or `*`. The path is relative to `/api2/json`,
    /// and the same for every format; a segment `*` or in braces matches any one segment, `**` at
    /// the end any number of them: `/nodes/*/qemu`, `/nodes/{node}/qemu/{vmid}/config`,
    /// `/cluster/**`. Faults do not apply to requests that are refused before they are routed, such
    /// as those without a valid login.
    pub fn on(&self, method: &str, path: &str) -> NewFault {
        NewFault {
            faults: self.clone(),
            method: (method != "*").then(|| method.to_ascii_uppercase()),
            path: path
                .split('/')
                .filter(|segment| !segment.is_empty())
                .map(str::to_owned)
                .collect(),
            skip: 0,
            times: None,
        }
    }

    /// Adds a fault written as text: `[TIMESx ]METHOD PATH KIND[:ARGUMENT]`.
    ///
    /// Kinds are `status:CODE:TEXT`, `latency:MILLISECONDS`, `drop`, `drop-answer`, `drop-body:BYTES`, `hang`,
    /// `truncate:BYTES`, `node-down`, `timeout`, `task-fails:TEXT`, `task-warns:COUNT` and `break-console:BYTES`, as in
    /// `2x POST /nodes/*/qemu status:500:out of space`.
    ///
    /// # Errors
    ///
    /// The text does not have this form.
    pub fn add(&self, text: &str) -> Result<FaultHandle, Error> {
        let wrong = |what: &str| Error::new(format!("fault {text:?}: {what}"));
        let (times, rest) = match text.split_once("x ") {
            Some((times, rest)) if times.parse::<u32>().is_ok() => (times.parse().ok(), rest),
            _ => (None, text),
        };
        let mut parts = rest.splitn(3, ' ');
        let (Some(method), Some(path), Some(kind)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("expected METHOD PATH KIND"));
        };
        if !matches!(method, "GET" | "POST" | "PUT" | "DELETE" | "*") {
            return Err(wrong("the method is GET, POST, PUT, DELETE or *"));
        }
        if !path.starts_with('/') {
            return Err(wrong("the path starts with a slash"));
        }
        let fault = kind.parse().map_err(|what: String| wrong(&what))?;
        let mut new = self.on(method, path);
        new.times = times;
        Ok(new.respond(fault))
    }

    /// Removes all faults.
    pub fn clear(&self) {
        let mut rules = self.lock();
        let gone: Vec<(u64, u32)> = rules.list.drain(..).map(|r| (r.id, r.hits)).collect();
        rules.past.extend(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the matching faults of a request.
    pub(crate) fn matching(&self, method: &str, segments: &[String]) -> MatchedFaults {
        let mut verdict = MatchedFaults::default();
        let mut rules = self.lock();
        for rule in &mut rules.list {
            if !rule.matches(method, segments) {
                continue;
            }
            if verdict.fault.is_some() && !matches!(rule.fault, Fault::Latency(_)) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.left == Some(0) {
                continue;
            }
            rule.left = rule.left.map(|left| left - 1);
            rule.hits += 1;
            match &rule.fault {
                Fault::Latency(time) => verdict.latency += *time,
                fault => verdict.fault = Some(fault.clone()),
            }
        }
        verdict
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().list.iter().map(|rule| {
                format!(
                    "{} /{} {:?}",
                    rule.method.as_deref().unwrap_or("*"),
                    rule.path.join("/"),
                    rule.fault
                )
            }))
            .finish()
    }
}

impl Rule {
    fn matches(&self, method: &str, segments: &[String]) -> bool {
        if self
            .method
            .as_deref()
            .is_some_and(|expected| expected != method)
        {
            return false;
        }
        let mut segments_left = segments.iter();
        for pattern in &self.path {
            if pattern == "**" {
                return true;
            }
            let any = pattern == "*" || (pattern.starts_with('{') && pattern.ends_with('}'));
            match segments_left.next() {
                Some(segment) if any || segment == pattern => {}
                _ => return false,
            }
        }
        segments_left.next().is_none()
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, argument) = text.split_once(':').unwrap_or((text, ""));
        let number = || {
            argument
                .parse::<usize>()
                .map_err(|_| format!("{kind} takes a number, not {argument:?}"))
        };
        let fault = match kind {
            "status" => {
                let (code, reason) = argument.split_once(':').unwrap_or((argument, "fault"));
                let code = code
                    .parse()
                    .ok()
                    .filter(|code| (200..1000).contains(code))
                    .ok_or_else(|| format!("no status code: {code:?}"))?;
                return Ok(Self::Status(code, reason.to_owned()));
            }
            "latency" => {
                let milliseconds = u64::try_from(number()?).unwrap_or(u64::MAX);
                return Ok(Self::Latency(Duration::from_millis(milliseconds)));
            }
            "drop-body" => return number().map(Self::DropBody),
            "truncate" => return number().map(Self::Truncate),
            "break-console" => return number().map(Self::BreakConsole),
            "task-warns" => {
                return Ok(Self::TaskWarns(
                    u32::try_from(number()?).unwrap_or(u32::MAX),
                ));
            }
            "task-fails" => return Ok(Self::TaskFails(argument.to_owned())),
            "drop" => Self::Drop,
            "drop-answer" => Self::DropAnswer,
            "hang" => Self::Hang,
            "node-down" => Self::NodeDown,
            "timeout" => Self::Timeout,
            other => return Err(format!("unknown kind {other:?}")),
        };
        if argument.is_empty() {
            Ok(fault)
        } else {
            Err(format!("{kind} takes no argument"))
        }
    }
}

/// An incomplete fault; see [`Faults::on`].
#[derive(Debug)]
#[must_use = "does nothing unless respond() is called"]
pub struct NewFault {
    faults: Faults,
    method: Option<String>,
    path: Vec<String>,
    skip: u32,
    times: Option<u32>,
}

impl NewFault {
    /// The number of requests that it applies to; by default all.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Skips this many requests first.
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Activates the fault. If several match a request, the one added first applies; latencies add
    /// up.
    pub fn respond(self, fault: Fault) -> FaultHandle {
        let mut rules = self.faults.lock();
        rules.last_id += 1;
        let id = rules.last_id;
        rules.list.push(Rule {
            id,
            method: self.method,
            path: self.path,
            skip: self.skip,
            left: self.times,
            hits: 0,
            fault,
        });
        drop(rules);
        FaultHandle {
            faults: self.faults,
            id,
        }
    }
}

/// An active fault. Dropping the handle keeps it active.
#[derive(Clone, Debug)]
pub struct FaultHandle {
    faults: Faults,
    id: u64,
}

impl FaultHandle {
    /// The number of requests that it applied to so far.
    #[must_use]
    pub fn hits(&self) -> u32 {
        let rules = self.faults.lock();
        let current = rules
            .list
            .iter()
            .find(|rule| rule.id == self.id)
            .map(|rule| rule.hits);
        let past = || rules.past.iter().find(|(id, _)| *id == self.id);
        current
            .or_else(|| past().map(|(_, hits)| *hits))
            .unwrap_or(0)
    }

    /// Removes the fault.
    pub fn remove(&self) {
        let mut rules = self.faults.lock();
        if let Some(at) = rules.list.iter().position(|rule| rule.id == self.id) {
            let rule = rules.list.remove(at);
            rules.past.push((rule.id, rule.hits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn patterns_choose_requests() {
        let faults = Faults::default();
        let one = faults.on("get", "/nodes/*/qemu").respond(Fault::Drop);
        let tree = faults.on("*", "/cluster/**").respond(Fault::Hang);
        let named = faults
            .on("PUT", "/nodes/{node}/qemu/{vmid}/config")
            .respond(Fault::NodeDown);
        let matching = |method: &str, text: &str| faults.matching(method, &path(text)).fault;
        assert_eq!(matching("GET", "/nodes/pve1/qemu"), Some(Fault::Drop));
        assert_eq!(matching("POST", "/nodes/pve1/qemu"), None);
        assert_eq!(matching("GET", "/nodes/pve1/qemu/100"), None);
        assert_eq!(matching("GET", "/nodes"), None);
        assert_eq!(
            matching("DELETE", "/cluster/ha/groups/a"),
            Some(Fault::Hang)
        );
        assert_eq!(
            matching("PUT", "/nodes/n/qemu/1/config"),
            Some(Fault::NodeDown)
        );
        assert_eq!((one.hits(), tree.hits(), named.hits()), (1, 1, 1));
        one.remove();
        assert_eq!(matching("GET", "/nodes/pve1/qemu"), None);
        assert_eq!(one.hits(), 1);
        faults.clear();
        assert_eq!(matching("GET", "/cluster/status"), None);
        assert_eq!(tree.hits(), 1);
    }

    #[test]
    fn faults_are_used_up_in_turn() {
        let faults = Faults::default();
        let status = Fault::Status(500, "no".into());
        let _ = faults
            .on("GET", "/version")
            .skip(1)
            .times(2)
            .respond(status.clone());
        let _ = faults
            .on("GET", "/version")
            .respond(Fault::Latency(Duration::from_millis(2)));
        let _ = faults
            .on("GET", "/**")
            .respond(Fault::Latency(Duration::from_millis(3)));
        let found: Vec<MatchedFaults> = (0..4)
            .map(|_| faults.matching("GET", &path("/version")))
            .collect();
        let hit: Vec<bool> = found
            .iter()
            .map(|verdict| verdict.fault.is_some())
            .collect();
        assert_eq!(hit, [false, true, true, false]);
        assert!(found.iter().all(|v| v.latency == Duration::from_millis(5)));
    }

    #[test]
    fn faults_as_text() {
        let faults = Faults::default();
        let handle = faults
            .add("2x POST /nodes/*/qemu status:500:out of space: really")
            .expect("a fault");
        let text = "out of space: really".to_owned();
        let matching = || faults.matching("POST", &path("/nodes/a/qemu")).fault;
        assert_eq!(matching(), Some(Fault::Status(500, text.clone())));
        assert_eq!(matching(), Some(Fault::Status(500, text)));
        assert_eq!(matching(), None);
        assert_eq!(handle.hits(), 2);
        assert_eq!(
            "latency:250".parse(),
            Ok(Fault::Latency(Duration::from_millis(250)))
        );
        assert_eq!(
            "task-fails:no: space".parse(),
            Ok(Fault::TaskFails("no: space".into()))
        );
        for bad in [
            "GET /version",
            "get /version drop",
            "GET version drop",
            "GET /version explode",
            "GET /version drop:1",
            "GET /version truncate:x",
            "GET /version status:99999",
        ] {
            let error = faults.add(bad).expect_err(bad).to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}
