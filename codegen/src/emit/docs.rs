//! Documentation lines: the overlay's texts, completed with facts.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Number, Value};

use super::Emitter;
use super::permissions::describe_permissions;
use crate::ir::{Endpoint, ItemId, Returns, ValueFacts};
use crate::overlay::Split;
use crate::place::Place;
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
    /// `Since 8.1.` and the like; empty if every release of the owner has it.
    pub(super) fn availability(&self, presence: Presence, owner: Presence) -> String {
        let release = |index: usize| self.api.releases[index];
        let mut text = String::new();
        let later = presence.first() > owner.first();
        let gone = presence.last() < owner.last();
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
            .filter(|gap| owner.has(*gap))
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
    pub(super) fn meaning(&self, places: &[Place]) -> Option<&str> {
        let found: Vec<_> = places
            .iter()
            .filter_map(|at| Some((!at.result, self.overlay.meaning(at)?)))
            .collect();
        let best = found.iter().min_by_key(|(parameter, _)| *parameter);
        best.map(|(_, words)| *words)
    }

    /// The documentation of a type: its own, or that of its fields. That of a field with several
    /// values covers all of them.
    pub(super) fn type_meaning(&mut self, id: ItemId) -> Option<String> {
        let places = &self.api.items[id].places;
        let name = &self.names.items[id];
        let meanings: BTreeSet<&str> = (places.iter())
            .filter_map(|at| self.overlay.meaning(at))
            .collect();
        if let Some(own) = self.overlay.type_meaning(name) {
            return Some(own.to_owned());
        }
        let leaves: BTreeSet<_> = places.iter().filter_map(|at| at.fields.last()).collect();
        if meanings.len() > 1 && leaves.len() > 1 {
            // The words of one field would say something else of the others.
            self.undocumented += 1;
            self.undocumented_places.insert(format!("type {name}"));
        }
        let meaning = self.meaning(places).map(str::to_owned)?;
        let field = places.first().and_then(|at| at.fields.last());
        Some(match field {
            Some(field) if places.iter().all(|at| at.element) => format!(
                "One element of the list `{field}` ({}).",
                within(&meaning).trim_end_matches('.')
            ),
            _ => meaning,
        })
    }

    /// A parameter's or field's line; counts undocumented ones.
    pub(super) fn value_doc(
        &mut self,
        places: &[Place],
        wire: &str,
        facts: &ValueFacts,
        presence: Presence,
        owner: Presence,
    ) -> TokenStream {
        doc(&[self.value_text(places, wire, facts, presence, owner)])
    }

    /// The line itself.
    pub(super) fn value_text(
        &mut self,
        places: &[Place],
        wire: &str,
        facts: &ValueFacts,
        presence: Presence,
        owner: Presence,
    ) -> String {
        let meaning = self.meaning(places).map(str::to_owned);
        let mut text = match meaning {
            Some(meaning) => meaning,
            None => {
                self.undocumented += 1;
                if let Some(at) = places.first() {
                    self.undocumented_places.insert(at.key());
                }
                format!("The member `{wire}`.")
            }
        };
        self.documented += 1;
        let indexes = wire
            .ends_with("[n]")
            .then(|| {
                let last = places
                    .iter()
                    .filter_map(|at| self.overlay.last_index(&at.path, wire));
                last.max().map(|last| format!("Indexes 0 to {last}."))
            })
            .flatten();
        let several = places.iter().find_map(|at| self.overlay.several(at));
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
        let availability = self.availability(presence, owner);
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
        let (needs, cases) = describe_permissions(self.overlay, endpoint);
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
        let availability = self.availability(endpoint.presence, self.all_releases());
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
        let (needs, cases) = describe_permissions(self.overlay, endpoint);
        let all = self.all_releases();
        let availability = self.availability(endpoint.presence, all);
        let releases = match availability.is_empty() {
            true => {
                let release = |index: usize| self.api.releases[index];
                format!("{} to {}", release(all.first()), release(all.last()))
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
        let permissions = endpoint.permissions.as_ref();
        let is_open = permissions.and_then(|all| all.user.as_deref()) == Some("world");
        let token = (!endpoint.allowtoken).then(|| match is_open {
            true => "Not with an API token.".to_owned(),
            false => "Not with an API token: it requires a ticket.".to_owned(),
        });
        let untyped = self.overlay.untyped_reason(&endpoint.key());
        let untyped = untyped.map(|reason| format!("The answer has no type: {reason}"));
        token.into_iter().chain(untyped).collect()
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
pub(super) fn example_block(product: &Product, code: &str, with_imports: bool) -> String {
    // Imports come before the hidden lines around the calls.
    let (imports, code): (Vec<&str>, Vec<&str>) =
        (code.trim().lines()).partition(|line| with_imports && line.starts_with("use "));
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
