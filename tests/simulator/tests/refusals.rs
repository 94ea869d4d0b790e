//! Calls that the real server refuses: the simulator gives the same status and text, in the same
//! order of checks.
//!
//! The calls are data in `tests/refusals/*.toml`. A case has the states it needs, the call, and the
//! expected result: `refused` is a status and a pattern for the text, `parameter` a name and a
//! pattern for its error, `task` a pattern for the end of the started task, `answer` a pattern for
//! the data. The parts of a call are separated by blanks, values are percent-encoded; `{archive}`
//! is the backup on the storage `files`, whose name depends on the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator, minimal_requests, releases};
use regex::Regex;
use serde::Deserialize;

use crate::support::{Answer, ask_with, login};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    state: BTreeMap<String, State>,
    case: Vec<Case>,
}

/// Calls that create a state; each of them must succeed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(default)]
    after: Vec<String>,
    calls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    call: String,
    /// States to apply, in order.
    #[serde(default)]
    given: Vec<String>,
    /// The caller; by default root@pam with a ticket.
    #[serde(default)]
    by: Option<String>,
    /// Access rules of the caller, as `path role`.
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    parameter: Option<String>,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    answer: Option<String>,
    /// Releases, if not all.
    #[serde(default)]
    releases: Option<Vec<String>>,
}

/// The releases that each case is run on.
fn tested_releases() -> [&'static str; 2] {
    ["8.4", proxmox_simulator::newest_release()]
}

fn files() -> Vec<(String, File)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refusals");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("a directory of cases")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a file of cases");
            let file = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (
                path.file_stem().expect("a name").display().to_string(),
                file,
            )
        })
        .collect();
    files.sort_by(|(left, _), (right, _)| left.cmp(right));
    files
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Sends a call written as `METHOD path key=value …`.
async fn send(pve: &Simulator, auth: &str, call: &str) -> Answer {
    let mut call = call.to_owned();
    if call.contains("{archive}") {
        let path = "/nodes/pve1/storage/files/content";
        let token = format!(
            "Authorization: PVEAPIToken={}={}\r\n",
            proxmox_simulator::TOKEN_ID,
            proxmox_simulator::TOKEN_SECRET
        );
        let found = ask_with(pve, "GET", path, &token, "content=backup")
            .await
            .data();
        call = call.replace("{archive}", found[0]["volid"].as_str().expect("a backup"));
    }
    let mut words = call.split_whitespace();
    let method = words.next().expect("a verb");
    let path = words.next().expect("a path");
    let form: Vec<String> = words
        .map(|word| {
            let (key, value) = word.split_once('=').expect("a parameter");
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            format!("{}={}", encode(key), encode(&value))
        })
        .collect();
    ask_with(pve, method, path, auth, &form.join("&")).await
}

/// How the call's task ends; `None` if it started none.
async fn outcome(pve: &Simulator, auth: &str, answer: &Answer) -> Option<String> {
    let data = answer.json()["data"].clone();
    let upid = data.as_str().filter(|text| text.starts_with("UPID:"))?;
    let node = upid.split(':').nth(1)?;
    let path = format!("/nodes/{node}/tasks/{upid}/status");
    for _ in 0..1_000 {
        let status = ask_with(pve, "GET", &path, auth, "").await.data();
        if let Some(text) = status["exitstatus"].as_str() {
            return Some(text.to_owned());
        }
        pve.clock().advance(Duration::from_secs(1));
    }
    panic!("task {upid} does not end");
}

struct Fixture {
    pve: Simulator,
    root: String,
    empty: String,
    states: BTreeMap<String, State>,
    /// Created states by name.
    snapshots: BTreeMap<String, String>,
}

impl Fixture {
    async fn open(release: &str, states: BTreeMap<String, State>) -> Self {
        let pve = Simulator::builder()
            .release(release)
            .node("pve1")
            .node("pve2")
            .offline_node("pve3")
            .storage(
                "files",
                "dir",
                &["images", "rootdir", "backup", "iso", "vztmpl", "snippets"],
                500 << 30,
            )
            .storage("shared", "nfs", &["images", "rootdir", "backup"], 500 << 30)
            .user("user@pve", "password")
            // Without an access rule, the user would be an administrator.
            .acl("/mapping/none", "user@pve", "NoAccess")
            .clock(Clock::manual(1_800_000_000))
            .time_factor(1.0)
            .start()
            .await
            .expect("starts");
        let root = login(&pve, "root@pam", ROOT_PASSWORD).await;
        let empty = pve.snapshot();
        Self {
            pve,
            root,
            empty,
            states,
            snapshots: BTreeMap::new(),
        }
    }

    /// Brings the simulator into a state, and caches it.
    async fn restore_state(&mut self, names: &[String]) {
        let key = names.join(" ");
        if let Some(state) = self.snapshots.get(&key) {
            self.pve.restore(state).expect("a state of its own");
            return;
        }
        self.pve.restore(&self.empty).expect("a state of its own");
        let mut calls = Vec::new();
        let mut done = Vec::new();
        for name in names {
            self.collect_calls(name, &mut done, &mut calls);
        }
        for call in calls {
            let answer = send(&self.pve, &self.root, &call).await;
            assert_eq!(answer.status, 200, "{key}: {call}: {answer}");
            if let Some(end) = outcome(&self.pve, &self.root, &answer).await {
                assert_eq!(end, "OK", "{key}: {call}");
            }
        }
        self.snapshots.insert(key, self.pve.snapshot());
    }

    fn collect_calls(&self, name: &str, done: &mut Vec<String>, calls: &mut Vec<String>) {
        if done.iter().any(|other| other == name) {
            return;
        }
        let state = &self
            .states
            .get(name)
            .unwrap_or_else(|| panic!("no state {name}"));
        for before in &state.after {
            self.collect_calls(before, done, calls);
        }
        calls.extend(state.calls.iter().cloned());
        done.push(name.to_owned());
    }

    async fn run_case(&mut self, case: &Case) -> Result<(), String> {
        self.restore_state(&case.given).await;
        for rule in &case.roles {
            let (path, role) = rule.split_once(' ').expect("a path and a role");
            let call = format!("PUT /access/acl path={path} roles={role} users=user@pve");
            let answer = send(&self.pve, &self.root, &call).await;
            assert_eq!(answer.status, 200, "{call}: {answer}");
        }
        let auth = match case.by.as_deref() {
            None => self.root.clone(),
            Some("token") => format!(
                "Authorization: PVEAPIToken={}={}\r\n",
                proxmox_simulator::TOKEN_ID,
                proxmox_simulator::TOKEN_SECRET
            ),
            Some(user) => login(&self.pve, user, "password").await,
        };
        let answer = send(&self.pve, &auth, &case.call).await;
        let fits = |pattern: &str, text: &str| {
            let pattern = Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
            if pattern.is_match(text) {
                Ok(())
            } else {
                Err(format!("{answer}, not {pattern}"))
            }
        };
        if let Some(expected) = &case.refused {
            let (status, pattern) = expected.split_once(' ').expect("a status and a text");
            if status != answer.status.to_string() {
                return Err(format!("{answer}, not {expected}"));
            }
            return fits(pattern, &answer.reason);
        }
        if let Some(expected) = &case.parameter {
            let (name, pattern) = expected.split_once(": ").expect("a name and a text");
            if answer.status != 400 {
                return Err(format!("{answer}, not 400 {expected}"));
            }
            let errors = answer.json()["errors"].clone();
            let text = errors[name].as_str().unwrap_or("");
            return fits(pattern, text.trim_end());
        }
        if answer.status != 200 {
            return Err(format!("{answer}"));
        }
        if let Some(pattern) = &case.task {
            let root = self.root.clone();
            let end = outcome(&self.pve, &root, &answer).await;
            let end = end.ok_or_else(|| format!("{answer} is no task"))?;
            let pattern = Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
            return if pattern.is_match(&end) {
                Ok(())
            } else {
                Err(format!("the task ends with {end:?}, not {pattern}"))
            };
        }
        let pattern = case
            .answer
            .as_deref()
            .expect("a case has an expected result");
        let data = answer.json()["data"].clone();
        fits(
            pattern,
            &data
                .as_str()
                .map_or_else(|| data.to_string(), str::to_owned),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_texts_of_the_real_server() {
    let files = files();
    let mut states = BTreeMap::new();
    for (name, file) in &files {
        for (state, calls) in &file.state {
            let known = states.insert(state.clone(), calls.clone()).is_some();
            assert!(!known, "{name} has state {state} a second time");
        }
    }
    let mut problems = Vec::new();
    let mut calls = 0;
    for release in tested_releases() {
        let mut fixture = Fixture::open(release, states.clone()).await;
        for (name, file) in &files {
            for case in &file.case {
                let fits = |list: &Vec<String>| list.iter().any(|other| other == release);
                if !case.releases.as_ref().is_none_or(fits) {
                    continue;
                }
                calls += 1;
                if let Err(text) = fixture.run_case(case).await {
                    problems.push(format!("{release} {name}: {}: {text}", case.call));
                }
            }
        }
    }
    println!("{calls} calls");
    assert!(
        problems.is_empty(),
        "{} of {calls} calls:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// Calls that users without privileges may make: login, their own account, and calls that return
/// nothing private.
const OPEN: [&str; 10] = [
    "POST /access/ticket",
    "POST /access/vncticket",
    "POST /access/openid/auth-url",
    "POST /access/openid/login",
    "POST /access/tfa",
    "DELETE /access/ticket",
    "PUT /access/password",
    "POST /access/tfa/{userid}",
    "PUT /access/tfa/{userid}/{id}",
    "DELETE /access/tfa/{userid}/{id}",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_privileges_changes_nothing() {
    let mut problems = Vec::new();
    let mut calls = 0;
    for release in releases() {
        let pve = Simulator::builder()
            .release(release)
            .node("pve1")
            .node("pve2")
            .qemu(100, "pve1", &[("scsi0", "local-lvm:4")])
            .user("user@pve", "password")
            // Without an access rule, the user would be an administrator.
            .acl("/mapping/none", "user@pve", "NoAccess")
            .clock(Clock::manual(1_800_000_000))
            .start()
            .await
            .expect("starts");
        let auth = login(&pve, "user@pve", "password").await;
        for request in minimal_requests(release).expect("a known release") {
            let name = format!("{} {}", request.method, request.template);
            // The body is not multipart; the server closes the connection.
            let upload = request.template.ends_with("/upload");
            if request.method == "GET" || upload || OPEN.contains(&name.as_str()) {
                continue;
            }
            let form: Vec<String> = request
                .params
                .iter()
                .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
                .collect();
            let answer =
                ask_with(&pve, &request.method, &request.path, &auth, &form.join("&")).await;
            calls += 1;
            if answer.status == 200 {
                problems.push(format!("{release} {name}: {answer}"));
            }
        }
    }
    assert!(calls > 2_000, "{calls} calls");
    assert!(
        problems.is_empty(),
        "{} of {calls} calls:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
