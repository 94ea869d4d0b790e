//! Documentation lines: the overlay's words, completed by what the facts say.

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Number, Value};

use super::Emitter;
use crate::facts::{Check, Method};
use crate::ir::{Endpoint, Returns, Use, ValueFacts};
use crate::overlay::Split;
use crate::privileges::{Need, Privilege};
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
        let later = presence.first() > whole.first();
        let gone = presence.last() < whole.last();
        let (first, last) = (release(presence.first()), release(presence.last()));
        match (later, gone) {
            (true, true) if first == last => text.push_str(&format!("Only in {first}.")),
            (true, true) => text.push_str(&format!("From {first} to {last}.")),
            (true, false) => text.push_str(&format!("Since {first}.")),
            (false, true) => text.push_str(&format!("Until {last}.")),
            (false, false) => {}
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
        let several = uses.iter().find_map(|at| self.overlay.several(at));
        let told = text.contains("separated") || text.contains("joined");
        let several = several.filter(|_| !told).map(|split| match split {
            Split::Any | Split::Comma => "Several are separated by commas.".to_owned(),
            Split::Blank => "Several are separated by spaces.".to_owned(),
            Split::Semicolon => "Several are separated by semicolons.".to_owned(),
            Split::Nul => "Several are separated by NUL characters.".to_owned(),
        });
        let range = describe_range(facts);
        let default = facts
            .default
            .as_ref()
            .map(|default| format!("Default: `{}`.", show(default)));
        let unit = facts
            .renderer
            .as_deref()
            .and_then(|renderer| unit(renderer, &text))
            .map(str::to_owned);
        let requires = facts
            .requires
            .as_ref()
            .map(|other| format!("Only together with `{other}`."));
        let availability = self.availability(presence, whole);
        let more = [
            several,
            indexes,
            unit,
            range,
            default,
            requires,
            Some(availability),
        ];
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
        paragraphs.extend(describe_permissions(endpoint));
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

/// The unit that a renderer means, unless the words say it already.
fn unit(renderer: &str, words: &str) -> Option<&'static str> {
    let (sign, text) = match renderer {
        "bytes" => ("byte", "In bytes."),
        "timestamp" | "timestamp_gmt" => ("since 1970", "In seconds since 1970."),
        "duration" => ("second", "In seconds."),
        "fraction_as_percentage" => ("1 is", "A fraction; 1 is the whole."),
        _ => return None,
    };
    (!words.contains(sign)).then_some(text)
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

/// What a caller needs, in words: a paragraph, and a list of what only some calls need.
fn describe_permissions(endpoint: &Endpoint) -> Vec<String> {
    let Some(permissions) = &endpoint.permissions else {
        return vec!["Needs to be `root@pam` itself.".to_owned()];
    };
    let (always, sometimes): (Vec<_>, Vec<_>) = endpoint
        .privileges
        .iter()
        .partition(|p| p.given.is_empty() && p.when.is_none() && p.rows.is_none());
    let declared = permissions.check.as_ref().map(describe_check);
    let mut needs: Vec<String> = declared.into_iter().collect();
    needs.extend(always.into_iter().map(|p| describe_need(&p.check)));
    let mut paragraphs = vec![match (&needs[..], permissions.user.as_deref()) {
        ([], _) if endpoint.untold => {
            "The schema names no privileges; the server may check some.".to_owned()
        }
        ([], Some("world")) => "Needs no login.".to_owned(),
        ([], _) if sometimes.is_empty() => "Open to every authenticated user.".to_owned(),
        ([], _) if sometimes.iter().all(|privilege| privilege.rows.is_some()) => {
            "Every authenticated user may call it; what it does depends on their privileges:"
                .to_owned()
        }
        ([], _) => "What it needs depends on the request:".to_owned(),
        ([need], _) => format!("Needs {need}."),
        (several, _) => {
            let several: Vec<String> = several.iter().map(|need| format!("({need})")).collect();
            format!("Needs {}.", several.join(" and "))
        }
    }];
    if !sometimes.is_empty() {
        let lines: Vec<String> = sometimes
            .into_iter()
            .map(|privilege| format!("* {}", describe_case(endpoint.method, privilege)))
            .collect();
        paragraphs.push(lines.join("\n"));
    }
    paragraphs
}

/// A check that only some calls meet.
fn describe_case(method: Method, privilege: &Privilege) -> String {
    let need = describe_need(&privilege.check);
    let given: Vec<String> = privilege
        .given
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let given = given.join(", ");
    let case = match (&privilege.when, given.is_empty()) {
        (Some(when), true) => format!("When {when}"),
        (Some(when), false) => format!("With {given}, when {when}"),
        (None, false) => format!("With {given}"),
        (None, true) => String::new(),
    };
    let verb = match method {
        Method::Get => "shows",
        _ => "acts on",
    };
    match (&privilege.rows, case.is_empty()) {
        (Some(rows), true) => format!("It {verb} {rows} only with {need}."),
        (Some(rows), false) => format!("{case} it {verb} {rows} only with {need}."),
        (None, _) => format!("{case}: {need}."),
    }
}

fn describe_need(need: &Need) -> String {
    let join = |needs: &[Need], word: &str| {
        let parts: Vec<String> = needs
            .iter()
            .map(|need| match need {
                Need::And(_) | Need::Or(_) => format!("({})", describe_need(need)),
                need => describe_need(need),
            })
            .collect();
        parts.join(word)
    };
    match need {
        Need::And(needs) => join(needs, " and "),
        Need::Or(needs) => join(needs, " or "),
        Need::Check(check) => describe_check(check),
        Need::Root => "to be `root@pam` itself".to_owned(),
        Need::Other(words) => words.clone(),
    }
}

fn describe_check(check: &Check) -> String {
    let list = |privileges: &[String], any: bool| {
        let quoted: Vec<String> = privileges.iter().map(|name| format!("`{name}`")).collect();
        match (any, quoted.len()) {
            (_, 1) => quoted.concat(),
            (true, _) => format!("one of {}", quoted.join(", ")),
            (false, _) => quoted.join(" and "),
        }
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
            let privileges = list(privileges, *any);
            match require_param {
                Some(parameter) => {
                    format!("{privileges} on path `{path}` (when `{parameter}` is given)")
                }
                None => format!("{privileges} on path `{path}`"),
            }
        }
        Check::UserIdGroup { privileges, .. } => {
            format!("{} on a group of the user", list(privileges, true))
        }
        Check::UserIdParam(what) if what == "self" => "to be that user".to_owned(),
        Check::UserIdParam(privilege) => format!("`{privilege}` on the user's realm"),
        Check::PermModify(path) => format!("the right to change permissions on `{path}`"),
        Check::UserParam(parameter) => format!("to be the user in `{parameter}`"),
        Check::Roles(roles) => format!("the role {}", list(roles, true)),
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
