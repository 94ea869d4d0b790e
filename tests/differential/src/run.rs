//! The run: sends every call to both servers, and removes everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use proxmox_api::Value;
use proxmox_api::value::endpoint::Method;

use crate::answer::Answer;
use crate::call::{Call, Words};
use crate::compare::{Depth, compare};
use crate::list::{self, Scenario, Trace};
use crate::report::{Exchange, Report};
use crate::server::{Caller, Names, Server};

/// The calls to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Calls that every server refuses before it changes anything.
    pub refusals: bool,
    /// The scenarios, which create and remove objects.
    pub scenarios: Vec<Scenario>,
    /// Only calls with one of these texts in the endpoint or in the scenario's name.
    pub only: Vec<String>,
    /// The time limit of a task.
    pub patience: Duration,
}

/// The user whose token has no privileges, without the prefix.
const NOBODY: &str = "-nobody@pve";

/// Runs a plan on both servers.
#[derive(Debug)]
pub struct Run<'a> {
    pub first: Server,
    pub second: Server,
    pub names: Names,
    pub plan: Plan,
    pub progress: bool,
    /// Set from outside to stop early; created objects are removed all the same.
    pub stop: &'a AtomicBool,
}

impl Run<'_> {
    /// Sends everything.
    ///
    /// # Errors The reason why no call was made; a text for people.
    pub async fn execute(mut self) -> Result<Report, String> {
        let mut report = Report::new(&self.first, &self.second);
        if !self.plan.scenarios.is_empty() {
            self.no_conflicts().await?;
        }
        self.read(&mut report).await;
        if self.plan.refusals {
            self.refuse(&mut report).await?;
        }
        if !self.plan.scenarios.is_empty() {
            self.act(&mut report).await?;
        }
        report.interrupted = self.stop.load(Ordering::Relaxed);
        Ok(report)
    }

    fn is_selected(&self, what: &str) -> bool {
        self.plan.only.is_empty()
            || self
                .plan
                .only
                .iter()
                .any(|only| what.contains(only.as_str()))
    }

    fn bar(&self, length: usize, what: &'static str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length as u64).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {pos}/{len} {wide_bar} {eta}") {
            bar.set_style(style);
        }
        bar
    }

    /// Refuses to start if an existing object has a name or number that the scenarios use.
    async fn no_conflicts(&self) -> Result<(), String> {
        for server in [&self.first, &self.second] {
            let existing = self.traces(server).await;
            if let Some(first) = existing.first() {
                return Err(format!(
                    "{}: {first} exists already: choose other numbers or another prefix, or remove it",
                    server.title
                ));
            }
        }
        Ok(())
    }

    /// Objects with our prefix or one of our numbers.
    async fn traces(&self, server: &Server) -> Vec<String> {
        let mut found = Vec::new();
        for trace in list::TRACES {
            let items = self.own_items(server, trace).await;
            found.extend(items.iter().map(|item| {
                let name = member(item, trace.key).unwrap_or_default();
                format!("{name} in {}", trace.list)
            }));
        }
        found
    }

    /// The items of a list that belong to this run.
    async fn own_items(&self, server: &Server, trace: &Trace) -> Vec<Value> {
        let Some(path) = filled(trace.list, &server.words) else {
            return Vec::new();
        };
        // A list that this release does not have, or that is not visible, has no such items.
        let mut items = server.list(&path).await.unwrap_or_default();
        items.retain(|item| match (trace.key, member(item, "vmid")) {
            // The name can contain other numbers, such as a date.
            ("volid", Some(vmid)) => self.names.is_ours(&vmid),
            (key, _) => member(item, key).is_some_and(|name| {
                let name = name.rsplit(['/', ':']).next().unwrap_or(&name).to_owned();
                match key {
                    "volid" => name.starts_with(&self.names.prefix),
                    _ => self.names.is_ours(&name),
                }
            }),
        });
        items
    }

    /// Removes all objects of this run.
    async fn sweep(&self, server: &Server) {
        for trace in list::TRACES {
            let mut items = self.own_items(server, trace).await;
            // Nested pools are removed first.
            items.sort_by_key(|item| std::cmp::Reverse(member(item, trace.key)));
            for item in &items {
                let words = words_of(item, &server.words);
                if let Some((list, remove)) = trace.below {
                    let path = filled(list, &words).unwrap_or_default();
                    for below in server.list(&path).await.unwrap_or_default() {
                        self.remove(server, remove, &words_of(&below, &words)).await;
                    }
                }
                for call in trace.remove {
                    self.remove(server, call, &words).await;
                }
            }
        }
    }

    async fn remove(&self, server: &Server, call: &str, words: &Words) {
        let call = call
            .parse::<Call>()
            .ok()
            .and_then(|call| call.fill(words).ok());
        if let Some(call) = call {
            server
                .send(&call, Caller::Configured, self.plan.patience)
                .await;
        }
    }

    async fn both(&self, first: &Call, second: &Call, caller: Caller) -> (Answer, Answer) {
        tokio::join!(
            self.first.send(first, caller, self.plan.patience),
            self.second.send(second, caller, self.plan.patience)
        )
    }

    /// Sends a call to both servers and records the differences.
    async fn compare(
        &mut self,
        group: &str,
        call: &Call,
        caller: Caller,
        depth: Depth,
        report: &mut Report,
    ) {
        let filled = (call.fill(&self.first.words), call.fill(&self.second.words));
        let (first, second) = match filled {
            (Ok(first), Ok(second)) => (first, second),
            (Err(word), _) | (_, Err(word)) => {
                report.skip(group, call, format!("there is no value for {{{word}}}"));
                return;
            }
        };
        let (mut a, mut b) = self.both(&first, &second, caller).await;
        let differences = compare(
            &first.path,
            (&a, &self.first.words),
            (&b, &self.second.words),
            depth,
            &self.names,
        );
        remember(&a, &mut self.first.words);
        remember(&b, &mut self.second.words);
        blank(&mut a);
        blank(&mut b);
        report.add(Exchange {
            group: group.to_owned(),
            call: call.clone(),
            differences,
            first: a,
            second: b,
        });
    }

    async fn read(&mut self, report: &mut Report) {
        let templates: Vec<&str> = list::readings()
            .filter(|path| self.is_selected(&format!("GET {path}")))
            .collect();
        let bar = self.bar(templates.len(), "reading");
        let (mut first, mut second) = (ExistingObjects::default(), ExistingObjects::default());
        for template in templates {
            bar.inc(1);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let call = Call {
                method: Method::Get,
                path: template.to_owned(),
                params: Vec::new(),
            };
            let paths = (
                first.path(&self.first, template).await,
                second.path(&self.second, template).await,
            );
            let (Some(a), Some(b)) = paths else {
                report.skip(
                    "reading",
                    &call,
                    "there is no such object on both servers".into(),
                );
                continue;
            };
            // The same call, with each server's existing objects in the path.
            let mut variants = vec![Vec::new()];
            let everything = list::read_parameters(template);
            if !everything.is_empty() {
                variants.push(everything);
            }
            for params in variants {
                let with = |path: &str| Call {
                    method: Method::Get,
                    path: path.to_owned(),
                    params: params.clone(),
                };
                let (one, other) = (with(&a), with(&b));
                let (mut one, mut other) = self.both(&one, &other, Caller::Configured).await;
                let differences = compare(
                    &a,
                    (&one, &self.first.words),
                    (&other, &self.second.words),
                    Depth::Members,
                    &self.names,
                );
                blank(&mut one);
                blank(&mut other);
                report.add(Exchange {
                    group: "reading".into(),
                    call: with(template),
                    differences,
                    first: one,
                    second: other,
                });
            }
        }
        bar.finish_and_clear();
    }

    async fn refuse(&mut self, report: &mut Report) -> Result<(), String> {
        let calls: Vec<Call> = list::refusals()?
            .into_iter()
            .filter(|call| list::endpoint(call).is_some_and(|endpoint| self.is_selected(&endpoint)))
            .collect();
        let bar = self.bar(calls.len(), "refusals");
        for call in calls {
            bar.inc(1);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.compare("refusals", &call, Caller::Configured, Depth::Values, report)
                .await;
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn act(&mut self, report: &mut Report) -> Result<(), String> {
        let scenarios: Vec<Scenario> = self
            .plan
            .scenarios
            .iter()
            .filter(|scenario| {
                self.is_selected(&scenario.name)
                    || scenario.calls.iter().any(|call| {
                        !self.plan.only.is_empty()
                            && list::endpoint(call)
                                .is_some_and(|endpoint| self.is_selected(&endpoint))
                    })
            })
            .cloned()
            .collect();
        let bar = self.bar(scenarios.len(), "scenarios");
        let kept = (self.first.words.clone(), self.second.words.clone());
        for scenario in scenarios {
            bar.inc(1);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let lacks = |words: &Words| {
                scenario
                    .needs
                    .iter()
                    .find(|need| !words.contains_key(*need))
                    .cloned()
            };
            if let Some(word) = lacks(&self.first.words).or_else(|| lacks(&self.second.words)) {
                for call in &scenario.calls {
                    report.skip(
                        &scenario.name,
                        call,
                        format!("there is no value for {{{word}}}"),
                    );
                }
                continue;
            }
            if scenario.nobody {
                self.make_nobody().await?;
            }
            self.prepare(&scenario).await;
            for call in &scenario.calls {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.compare(
                    &scenario.name,
                    call,
                    scenario.caller(),
                    Depth::Values,
                    report,
                )
                .await;
                let fell = report.exchanges.last().is_some_and(|exchange| {
                    exchange.call == *call
                        && exchange.first.accepted() != exchange.second.accepted()
                });
                if scenario.mistakes && fell && call.method != Method::Get {
                    tokio::join!(self.sweep(&self.first), self.sweep(&self.second));
                    if scenario.nobody {
                        self.make_nobody().await?;
                    }
                    self.prepare(&scenario).await;
                }
            }
            for call in &scenario.undo {
                self.undo(call).await;
            }
            tokio::join!(self.sweep(&self.first), self.sweep(&self.second));
            (self.first.words, self.second.words) = kept.clone();
        }
        bar.finish_and_clear();
        for server in [&self.first, &self.second] {
            for trace in self.traces(server).await {
                report.left.push(format!("{}: {trace}", server.title));
            }
        }
        Ok(())
    }

    /// Creates the prerequisites of a scenario.
    async fn prepare(&mut self, scenario: &Scenario) {
        for call in &scenario.before {
            let filled = (call.fill(&self.first.words), call.fill(&self.second.words));
            if let (Ok(first), Ok(second)) = filled {
                let (a, b) = self.both(&first, &second, Caller::Configured).await;
                remember(&a, &mut self.first.words);
                remember(&b, &mut self.second.words);
            }
        }
    }

    /// Removes objects on both servers independently; missing ones are ignored.
    async fn undo(&self, call: &Call) {
        if let (Ok(first), Ok(second)) =
            (call.fill(&self.first.words), call.fill(&self.second.words))
        {
            self.both(&first, &second, Caller::Configured).await;
        }
    }

    /// Creates a user with a token without privileges on both servers.
    async fn make_nobody(&mut self) -> Result<(), String> {
        let user = format!("{}{NOBODY}", self.names.prefix);
        for server in [&mut self.first, &mut self.second] {
            let make = Call {
                method: Method::Post,
                path: "/access/users".into(),
                params: vec![("userid".into(), user.clone())],
            };
            let token = Call {
                method: Method::Post,
                path: format!("/access/users/{user}/token/differential"),
                params: vec![("privsep".into(), "0".into())],
            };
            server
                .send(&make, Caller::Configured, self.plan.patience)
                .await;
            let answer = server
                .send(&token, Caller::Configured, self.plan.patience)
                .await;
            let data = answer.body.as_ref().map(|body| &body["data"]);
            let secret = data.and_then(|data| data["value"].as_str());
            let Some(secret) = secret else {
                return Err(format!(
                    "{}: no token for {user}: {} {}",
                    server.title,
                    answer.status.unwrap_or_default(),
                    answer.message
                ));
            };
            server.set_nobody(&format!("{user}!differential"), secret)?;
        }
        Ok(())
    }
}

/// A path with filled placeholders; `None` if one has no value.
fn filled(path: &str, words: &Words) -> Option<String> {
    let call = Call {
        method: Method::Get,
        path: path.to_owned(),
        params: Vec::new(),
    };
    call.fill(words).ok().map(|call| call.path)
}

/// A string or number member of an item.
fn member(item: &Value, key: &str) -> Option<String> {
    match &item[key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The server's values, with the members of an item added.
fn words_of(item: &Value, words: &Words) -> Words {
    let mut words = words.clone();
    let object = item.as_object();
    for key in object.into_iter().flat_map(|object| object.keys()) {
        words.extend(member(item, key).map(|value| (key.clone(), value)));
    }
    words
}

/// Keeps values for later calls: the task, and the digest of a configuration.
fn remember(answer: &Answer, words: &mut Words) {
    let Some(data) = answer.body.as_ref().map(|body| &body["data"]) else {
        return;
    };
    if let Some(text) = data.as_str().filter(|text| text.starts_with("UPID:")) {
        words.insert("upid".into(), text.to_owned());
    }
    if let Some(text) = data["digest"].as_str() {
        words.insert("digest".into(), text.to_owned());
    }
}

/// Removes secrets from an answer.
fn blank(answer: &mut Answer) {
    fn walk(json: &mut Value) {
        match json {
            Value::Object(object) => {
                for (name, value) in object.iter_mut() {
                    let lower = name.to_ascii_lowercase();
                    let secret = [
                        "password",
                        "secret",
                        "ticket",
                        "csrf",
                        "private",
                        "token-value",
                    ]
                    .iter()
                    .any(|word| lower.contains(word))
                        || lower == "value" && value.as_str().is_some_and(|text| text.len() == 36);
                    match value {
                        Value::String(text) if secret => "(not shown)".clone_into(text),
                        other => walk(other),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    if let Some(body) = &mut answer.body {
        walk(body);
    }
}

/// Existing objects for the placeholders of paths.
#[derive(Debug, Default)]
struct ExistingObjects(BTreeMap<String, Option<String>>);

impl ExistingObjects {
    /// The template with an existing object for each placeholder.
    async fn path(&mut self, server: &Server, template: &str) -> Option<String> {
        let mut path = String::new();
        for segment in template.split('/').skip(1) {
            let Some(word) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                path = format!("{path}/{segment}");
                continue;
            };
            let known = format!("{path}/{{{word}}}");
            if !self.0.contains_key(&known) {
                let value = Self::first_of_list(server, &path, word).await;
                self.0.insert(known.clone(), value);
            }
            let value = self.0.get(&known)?.as_deref()?;
            let call = Call {
                method: Method::Get,
                path: format!("{path}/{{it}}"),
                params: Vec::new(),
            };
            path = call
                .fill(&Words::from([("it".into(), value.to_owned())]))
                .ok()?
                .path;
        }
        Some(path)
    }

    async fn first_of_list(server: &Server, path: &str, word: &str) -> Option<String> {
        match word {
            "node" => return server.words.get("node").cloned(),
            "storage" if path.starts_with("/nodes/") => {
                return server.words.get("storage").cloned();
            }
            _ => {}
        }
        let items = server.list(path).await.ok()?;
        let word_key = match word {
            "volume" => "volid",
            "url_seq" => "seq",
            word => word,
        };
        let names: BTreeSet<String> = items
            .iter()
            .filter_map(|item| {
                [word_key, "name", "id", "subdir"]
                    .iter()
                    .find_map(|key| member(item, key))
            })
            .collect();
        names.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_of_answers_are_not_kept() {
        let mut answer = Answer {
            body: Some(json!({ "data": {
                "ticket": "PVE:root@pam:…", "CSRFPreventionToken": "x", "username": "root@pam",
                "value": "11111111-2222-3333-4444-555555555555", "info": [{ "password": "p" }],
            } })),
            ..Answer::default()
        };
        blank(&mut answer);
        let text = answer.body.unwrap_or_default().to_string();
        assert_eq!(text.matches("(not shown)").count(), 4, "{text}");
        assert!(text.contains("root@pam\""));
    }
}
