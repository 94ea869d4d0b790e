//! Documentation lines: the overlay's texts, completed with facts.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Number, Value};

use super::Emitter;
use crate::facts::{Check, Method};
use crate::ir::{Endpoint, ItemId, Returns, ValueFacts};
use crate::overlay::Split;
use crate::place::Use;
use crate::privileges::{Need, Privilege};
use crate::product::Product;
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

/// Names under which rustdoc's search finds an item besides its own.
pub(super) fn aliased(names: &[String]) -> TokenStream {
    match names {
        [] => TokenStream::new(),
        // Only the documentation uses them; elsewhere they would make the crate larger.
        names => quote!(#[cfg_attr(doc, doc(alias(#(#names),*)))]),
    }
}

/// The texts that rustdoc's search would not find by the name itself. It ignores case and
/// underscores.
pub(super) fn aliases<'a>(name: &str, texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let fold = |text: &str| text.replace('_', "").to_lowercase();
    let known = fold(name);
    let allowed = |text: &&str| {
        let plain = |c: char| !matches!(c, '"' | '\'') && (c == ' ' || !c.is_whitespace());
        !text.is_empty() && text.chars().all(plain) && text.trim() == *text
    };
    (texts.into_iter().filter(allowed))
        .filter(|text| fold(text) != known)
        .map(str::to_owned)
        .collect()
}

impl Emitter<'_> {
    /// `Since 8.1.` and the like; empty if every release of `whole` has it.
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

    /// The documentation of a value at these places: that of an answer, which describes the value,
    /// before that of a parameter, which describes its effect. All places are looked up, so that
    /// texts of later places count as used, too.
    pub(super) fn meaning(&self, uses: &[Use]) -> Option<&str> {
        let found: Vec<_> = uses
            .iter()
            .filter_map(|at| Some((!at.result, self.overlay.meaning(at)?)))
            .collect();
        let best = found.iter().min_by_key(|(parameter, _)| *parameter);
        best.map(|(_, words)| *words)
    }

    /// The documentation of a type: its own, or that of its fields. That of a field with several
    /// values covers all of them.
    pub(super) fn type_meaning(&mut self, id: ItemId) -> Option<String> {
        let uses = &self.api.items[id].uses;
        let name = &self.names.items[id];
        let meanings: BTreeSet<&str> = (uses.iter())
            .filter_map(|at| self.overlay.meaning(at))
            .collect();
        if let Some(own) = self.overlay.type_meaning(name) {
            return Some(own.to_owned());
        }
        let leaves: BTreeSet<_> = uses.iter().filter_map(|at| at.fields.last()).collect();
        if meanings.len() > 1 && leaves.len() > 1 {
            // The words of one field would say something else of the others.
            self.undocumented += 1;
            self.undocumented_places.insert(format!("type {name}"));
        }
        let meaning = self.meaning(uses).map(str::to_owned)?;
        let field = uses.first().and_then(|at| at.fields.last());
        Some(match field {
            Some(field) if uses.iter().all(|at| at.element) => format!(
                "One element of the list `{field}` ({}).",
                within(&meaning).trim_end_matches('.')
            ),
            _ => meaning,
        })
    }

    /// A parameter's or field's line; counts undocumented ones.
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
                    self.undocumented_places.insert(at.key());
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
        let mentioned = text.contains("separated") || text.contains("joined");
        let several = several.filter(|_| !mentioned).map(|split| match split {
            Split::Any | Split::Comma => "Several are separated by commas.".to_owned(),
            Split::Blank => "Several are separated by spaces.".to_owned(),
            Split::Semicolon => "Several are separated by semicolons.".to_owned(),
            Split::Nul => "Several are separated by NUL characters.".to_owned(),
        });
        let range = describe_range(facts);
        let default = facts.default.as_ref().map(|default| match show(default) {
            text if text.is_empty() => "Empty by default.".to_owned(),
            text => format!("Default: `{text}`."),
        });
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

    /// The documentation of a request, for documents without links.
    pub(super) fn endpoint_text(&mut self, endpoint: &Endpoint) -> Vec<String> {
        let mut paragraphs = vec![self.summary(endpoint), format!("`{}`", endpoint.key())];
        let (needs, cases) = describe_permissions(endpoint);
        paragraphs.push(format!("Needs {needs}"));
        if !cases.is_empty() {
            paragraphs.push(bullets(&cases, ""));
        }
        let mut facts = Vec::new();
        match endpoint.returns {
            Returns::Task { optional: false } => facts.push("Runs as a task.".to_owned()),
            Returns::Task { optional: true } => {
                facts.push("Runs as a task, unless it completes with the answer.".to_owned());
            }
            _ => {}
        }
        let availability = self.availability(endpoint.presence, self.whole());
        facts.extend((!availability.is_empty()).then_some(availability));
        facts.extend(self.remarks(endpoint));
        if !facts.is_empty() {
            paragraphs.push(facts.join(" "));
        }
        paragraphs
    }

    /// The documentation of a call: its effect, code, answer, privileges and releases.
    pub(super) fn call_text(&mut self, endpoint: &Endpoint, arguments: &[String]) -> Vec<String> {
        let mut paragraphs = vec![self.summary(endpoint), format!("`{}`", endpoint.key())];
        paragraphs.push(self.example(endpoint));
        let how = match endpoint.returns {
            Returns::Task { optional: true } => "; it may complete with the answer",
            _ => "",
        };
        let gives = format!("* Gives: {}{how}", self.answer_words(&endpoint.returns));
        let (needs, cases) = describe_permissions(endpoint);
        let whole = self.whole();
        let availability = self.availability(endpoint.presence, whole);
        let releases = match availability.is_empty() {
            true => {
                let release = |index: usize| self.api.releases[index];
                format!("{} to {}", release(whole.first()), release(whole.last()))
            }
            false => availability.trim_end_matches('.').to_lowercase(),
        };
        let mut lines = arguments.to_vec();
        lines.push(gives);
        lines.push(format!("* Releases: {releases}"));
        lines.push(format!("* Needs: {needs}"));
        if !cases.is_empty() {
            lines.push(bullets(&cases, "  "));
        }
        paragraphs.push(lines.join("\n"));
        let remarks = self.remarks(endpoint);
        if !remarks.is_empty() {
            paragraphs.push(remarks.join(" "));
        }
        if let Some(example) = self.overlay.example(&endpoint.key()) {
            paragraphs.push(format!(
                "# Example\n\n{}",
                example_block(self.api.product, example, true)
            ));
        }
        paragraphs
    }

    fn remarks(&self, endpoint: &Endpoint) -> Vec<String> {
        let token = (!endpoint.allowtoken)
            .then(|| "Not with an API token: it requires a ticket.".to_owned());
        let open = self.overlay.open(&endpoint.key());
        let open = open.map(|reason| format!("The answer is open: {reason}"));
        token.into_iter().chain(open).collect()
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

/// A sentence as the continuation of another: its first letter is in lower case, unless it begins a
/// name.
pub(super) fn within(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            let rest = &sentence[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => sentence.to_owned(),
    }
}

/// The unit of a renderer, unless the text has it already.
fn unit(renderer: &str, words: &str) -> Option<&'static str> {
    let (sign, text) = match renderer {
        "bytes" => ("byte", "In bytes."),
        "timestamp" | "timestamp_gmt" if words.contains("Unix time") => return None,
        "timestamp" | "timestamp_gmt" => ("since 1970", "In seconds since 1970."),
        "duration" => ("second", "In seconds."),
        "fraction_as_percentage" => ("1 is", "A fraction; 1 is the whole."),
        _ => return None,
    };
    (!words.contains(sign)).then_some(text)
}

fn describe_range(facts: &ValueFacts) -> Option<String> {
    // Bounds as wide as the type add nothing.
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

fn bullets(lines: &[String], indent: &str) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("{indent}* {line}"))
        .collect();
    lines.join("\n")
}

/// Example code, which is compiled with the documentation.
pub(super) fn example_block(product: &Product, code: &str, uses: bool) -> String {
    // Imports come before the hidden lines around the calls.
    let (imports, code): (Vec<&str>, Vec<&str>) =
        (code.trim().lines()).partition(|line| uses && line.starts_with("use "));
    let mut lines = vec!["```no_run".to_owned()];
    lines.extend(imports.iter().map(|line| (*line).to_owned()));
    if !imports.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!(
        "# async fn example({product}: proxmox_api::Client) -> Result<(), Box<dyn std::error::Error>> {{"
    ));
    lines.extend(
        code.iter()
            .skip_while(|line| line.is_empty())
            .map(|line| (*line).to_owned()),
    );
    lines.push("# Ok(()) }".to_owned());
    lines.push("```".to_owned());
    lines.join("\n")
}

/// The permissions of a caller: what all calls need, and what some calls only.
fn describe_permissions(endpoint: &Endpoint) -> (String, Vec<String>) {
    let Some(permissions) = &endpoint.permissions else {
        return ("to be `root@pam` itself.".to_owned(), Vec::new());
    };
    let (always, sometimes) = checks(endpoint);
    let declared = permissions.check.as_ref().map(describe_check);
    let mut needs: Vec<String> = declared.into_iter().collect();
    needs.extend(always.into_iter().map(|p| describe_need(&p.check)));
    let always = match (&needs[..], permissions.user.as_deref()) {
        ([], _) if endpoint.unreviewed => {
            "a login; the schema names no privileges, but the server may check some.".to_owned()
        }
        ([], Some("world")) => "no login.".to_owned(),
        ([], _) if sometimes.is_empty() => "a login, but no privileges.".to_owned(),
        ([], _) if sometimes.iter().all(|privilege| privilege.rows.is_some()) => {
            "a login; what it does depends on the privileges:".to_owned()
        }
        ([], _) => "a login, and privileges that depend on the request:".to_owned(),
        ([need], _) => format!("{need}."),
        (several, _) => {
            // Within a choice, "and" would belong to its last part.
            let several: Vec<String> = (several.iter())
                .map(|need| match need.contains(" or ") {
                    true => format!("({need})"),
                    false => need.clone(),
                })
                .collect();
            format!("{}.", several.join(" and "))
        }
    };
    let cases = sometimes.into_iter();
    let cases = cases.map(|privilege| describe_case(endpoint.method, privilege));
    (always, cases.collect())
}

/// The checks of every call, and those of some only.
fn checks(endpoint: &Endpoint) -> (Vec<&Privilege>, Vec<&Privilege>) {
    (endpoint.privileges.iter())
        .partition(|p| p.given.is_empty() && p.when.is_none() && p.rows.is_none())
}

/// The names of the privileges alone, for a table cell; `…` if some calls need more.
pub(super) fn privileges_in_short(endpoint: &Endpoint) -> String {
    let Some(permissions) = &endpoint.permissions else {
        return "root@pam".to_owned();
    };
    let (always, sometimes) = checks(endpoint);
    let declared = permissions.check.as_ref().map(check_in_short);
    let always = always
        .iter()
        .map(|privilege| need_in_short(&privilege.check));
    let needs: Vec<String> = declared.into_iter().chain(always).collect();
    let more = match sometimes.is_empty() {
        true => "",
        false => " …",
    };
    match (&needs[..], permissions.user.as_deref()) {
        ([], _) if !sometimes.is_empty() => "…".to_owned(),
        ([], Some("world")) => "no login".to_owned(),
        ([], _) => String::new(),
        (needs, _) => format!("{}{more}", needs.join(", ")),
    }
}

fn need_in_short(need: &Need) -> String {
    let join = |needs: &[Need], word: &str| {
        let needs: Vec<String> = needs.iter().map(need_in_short).collect();
        needs.join(word)
    };
    match need {
        Need::And(needs) => join(needs, ", "),
        Need::Or(needs) => join(needs, " or "),
        Need::Check(check) => check_in_short(check),
        Need::Root => "root@pam".to_owned(),
        Need::Other(_) => "…".to_owned(),
    }
}

fn check_in_short(check: &Check) -> String {
    let join = |checks: &[Check], word: &str| {
        let checks: Vec<String> = checks.iter().map(check_in_short).collect();
        checks.join(word)
    };
    match check {
        Check::Or(checks) => join(checks, " or "),
        Check::And(checks) => join(checks, ", "),
        Check::Perm {
            privileges,
            any: true,
            ..
        }
        | Check::UserIdGroup { privileges, .. } => match &privileges[..] {
            [first, others @ ..] if others.len() > 2 => {
                format!("{first} or {} others", others.len())
            }
            privileges => privileges.join(" or "),
        },
        Check::Perm { privileges, .. } => privileges.join(", "),
        Check::UserIdParam(what) if what == "self" => "own user".to_owned(),
        Check::UserIdParam(privilege) => privilege.clone(),
        Check::PermModify(_) => "Permissions.Modify".to_owned(),
        Check::UserParam(_) => "own user".to_owned(),
        Check::Roles(roles) => roles.join(" or "),
    }
}

/// A check of some calls only.
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
        let mut quoted: Vec<String> = Vec::new();
        for name in privileges {
            let name = format!("`{name}`");
            if !quoted.contains(&name) {
                quoted.push(name);
            }
        }
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
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => {
            let where_else = match groups_param.as_deref() {
                None => "on a group of the user",
                Some("create") => "on each group in `groups`",
                Some(_) => "on a group of the user and each group in `groups`",
            };
            let privileges = list(privileges, true);
            format!("{privileges} on path `/access/groups`, or {where_else}")
        }
        Check::UserIdParam(what) if what == "self" => "to be that user".to_owned(),
        Check::UserIdParam(privilege) => format!("`{privilege}` on the user's realm"),
        Check::PermModify(path) => format!("{} on path `{path}`", modifiers(path)),
        Check::UserParam(parameter) => format!("to be the user in `{parameter}`"),
        Check::Roles(roles) => format!("the role {}", list(roles, true)),
    }
}

/// The users who may change permissions on a path: on some paths, privileges on the object suffice.
fn modifiers(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        _ if path.starts_with('{') => {
            "`Permissions.Modify` (for a guest also `VM.Allocate`, for a storage `Datastore.Allocate`, for a pool \
             `Pool.Allocate`)"
        }
        Some("storage") => "one of `Permissions.Modify`, `Datastore.Allocate`",
        Some("vms") => "one of `Permissions.Modify`, `VM.Allocate`",
        Some("pool") => "one of `Permissions.Modify`, `Pool.Allocate`",
        _ => "`Permissions.Modify`",
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
