//! Documentation lines: the overlay's words, completed by what the facts say.

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Number, Value};

use super::Emitter;
use crate::facts::{Check, Permissions};
use crate::ir::{Endpoint, Returns, Use, ValueFacts};
use crate::union::Presence;

/// Paragraphs as doc attributes.
pub(super) fn doc(paragraphs: &[String]) -> TokenStream {
    let mut lines = Vec::new();
    for (position, paragraph) in paragraphs.iter().enumerate() {
        if position > 0 {
            lines.push(String::new());
        }
        lines.extend(paragraph.lines().map(|line| format!(" {line}")));
    }
    quote!(#(#[doc = #lines])*)
}

impl Emitter<'_> {
    /// `Since 8.1.` and the like; empty for what every release of `whole` has.
    pub(super) fn availability(&self, presence: Presence, whole: Presence) -> String {
        let release = |index: usize| self.api.releases[index];
        let mut text = String::new();
        if presence.first() > whole.first() {
            text.push_str(&format!("Since {}.", release(presence.first())));
        }
        if presence.last() < whole.last() {
            text.push_str(&format!(" Until {}.", release(presence.last())));
        }
        let gaps: Vec<String> = presence
            .gaps()
            .into_iter()
            .filter(|gap| whole.has(*gap))
            .map(|gap| release(gap).to_string())
            .collect();
        if !gaps.is_empty() {
            text.push_str(&format!(" Not in {}.", gaps.join(", ")));
        }
        text.trim_start().to_owned()
    }

    /// The words for what stands at these places. All are looked up: words that only a later place
    /// finds are of use too.
    pub(super) fn meaning(&self, uses: &[Use]) -> Option<&str> {
        let found: Vec<_> = uses
            .iter()
            .filter_map(|at| self.overlay.meaning(at))
            .collect();
        found.first().copied()
    }

    /// A parameter's or field's line; counts those that nobody described.
    pub(super) fn value_doc(
        &mut self,
        uses: &[Use],
        wire: &str,
        facts: &ValueFacts,
        presence: Presence,
        whole: Presence,
    ) -> TokenStream {
        doc(&[self.value_text(uses, wire, facts, presence, whole)])
    }

    /// The line itself.
    pub(super) fn value_text(
        &mut self,
        uses: &[Use],
        wire: &str,
        facts: &ValueFacts,
        presence: Presence,
        whole: Presence,
    ) -> String {
        let meaning = self.meaning(uses).map(str::to_owned);
        let mut text = match meaning {
            Some(meaning) => meaning,
            None => {
                self.undocumented += 1;
                if let Some(at) = uses.first() {
                    self.wordless.insert(at.key());
                }
                format!("The member `{wire}`.")
            }
        };
        self.documented += 1;
        let indexes = wire
            .ends_with("[n]")
            .then(|| {
                let last = uses
                    .iter()
                    .filter_map(|at| self.overlay.last_index(&at.path, wire));
                last.max().map(|last| format!("Indexes 0 to {last}."))
            })
            .flatten();
        let range = describe_range(facts);
        let default = facts
            .default
            .as_ref()
            .map(|default| format!("Default: `{}`.", show(default)));
        let unit = facts.renderer.as_deref().and_then(unit).map(str::to_owned);
        let requires = facts
            .requires
            .as_ref()
            .map(|other| format!("Only together with `{other}`."));
        let availability = self.availability(presence, whole);
        let more = [indexes, unit, range, default, requires, Some(availability)];
        let more: Vec<String> = more
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .collect();
        if !more.is_empty() {
            text = format!("{text} {}", more.join(" "));
        }
        text
    }

    /// What there is to say about a request.
    pub(super) fn endpoint_text(&mut self, endpoint: &Endpoint) -> Vec<String> {
        let key = endpoint.key();
        let mut paragraphs = vec![self.summary(endpoint), format!("`{key}`")];
        paragraphs.push(match &endpoint.permissions {
            None => "Needs to be `root@pam` itself.".to_owned(),
            Some(permissions) => describe_permissions(permissions),
        });
        let mut facts = Vec::new();
        match endpoint.returns {
            Returns::Task { optional: false } => facts.push("Runs as a task.".to_owned()),
            Returns::Task { optional: true } => {
                facts.push("Runs as a task, unless it is done at once.".to_owned());
            }
            _ => {}
        }
        if !endpoint.allowtoken {
            facts.push("Not with an API token: it wants a ticket.".to_owned());
        }
        let whole = self.whole();
        let availability = self.availability(endpoint.presence, whole);
        if !availability.is_empty() {
            facts.push(availability);
        }
        if let Some(reason) = self.overlay.open(&key) {
            facts.push(format!("The answer is open: {reason}"));
        }
        if !facts.is_empty() {
            paragraphs.push(facts.join(" "));
        }
        paragraphs
    }

    pub(super) fn summary(&mut self, endpoint: &Endpoint) -> String {
        let key = endpoint.key();
        match self.overlay.summary(&key) {
            Some(text) => text.to_owned(),
            None => {
                self.undescribed.insert(key.clone());
                format!("The call `{key}`.")
            }
        }
    }
}

fn unit(renderer: &str) -> Option<&'static str> {
    Some(match renderer {
        "bytes" => "In bytes.",
        "timestamp" | "timestamp_gmt" => "In seconds since 1970.",
        "duration" => "In seconds.",
        "fraction_as_percentage" => "A fraction; 1 is the whole.",
        _ => return None,
    })
}

fn describe_range(facts: &ValueFacts) -> Option<String> {
    // Bounds beyond any use only say "an integer".
    let number = |number: &Number| number.to_string();
    match (&facts.minimum, &facts.maximum, facts.max_length) {
        (Some(minimum), Some(maximum), _) => {
            Some(format!("From {} to {}.", number(minimum), number(maximum)))
        }
        (Some(minimum), None, _) => Some(format!("At least {}.", number(minimum))),
        (None, Some(maximum), _) => Some(format!("At most {}.", number(maximum))),
        (None, None, Some(length)) => Some(format!("At most {length} characters.")),
        (None, None, None) => None,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A permission check in words.
fn describe_permissions(permissions: &Permissions) -> String {
    let mut text = match (&permissions.check, permissions.user.as_deref()) {
        (Some(check), _) => format!("Needs {}.", describe_check(check)),
        (None, Some("world")) => "Needs no login.".to_owned(),
        (None, _) => "Open to every authenticated user.".to_owned(),
    };
    if permissions.described {
        text.push_str(" What it does or shows depends on further privileges.");
    }
    text
}

fn describe_check(check: &Check) -> String {
    let list = |privileges: &[String], word: &str| {
        let quoted: Vec<String> = privileges.iter().map(|name| format!("`{name}`")).collect();
        quoted.join(&format!(" {word} "))
    };
    match check {
        Check::Or(checks) => join_checks(checks, "or"),
        Check::And(checks) => join_checks(checks, "and"),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            let privileges = list(privileges, if *any { "or" } else { "and" });
            match require_param {
                Some(parameter) => {
                    format!("on `{path}`, when `{parameter}` is given: {privileges}")
                }
                None => format!("on `{path}`: {privileges}"),
            }
        }
        Check::UserIdGroup { privileges, .. } => {
            format!("on a group of the user: {}", list(privileges, "or"))
        }
        Check::UserIdParam(what) if what == "self" => "to be that user".to_owned(),
        Check::UserIdParam(privilege) => format!("on the user's realm: `{privilege}`"),
        Check::PermModify(path) => format!("the right to change permissions on `{path}`"),
        Check::UserParam(parameter) => format!("to be the user in `{parameter}`"),
        Check::Roles(roles) => format!("the role {}", list(roles, "or")),
    }
}

fn join_checks(checks: &[Check], word: &str) -> String {
    let parts: Vec<String> = checks
        .iter()
        .map(|check| match check {
            Check::Or(_) | Check::And(_) => format!("({})", describe_check(check)),
            _ => describe_check(check),
        })
        .collect();
    parts.join(&format!(" {word} "))
}
