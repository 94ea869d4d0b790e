//! Corrections and additions to the dumps, written by hand in `schema/<product>/overlay`.
//!
//! Every entry must have an effect: one that matches nothing is a problem that fails the run.

mod entries;
mod notes;
mod patch;
mod rename;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::place::{Place, camel_field, words};
use crate::privileges::{Modifier, Privilege};
use crate::union::{Kind, Node};
use entries::{Entries, ListFact, Secrets};
use notes::Notes;

pub(crate) use entries::{Area, Rule, Split};
pub(crate) use notes::Location;
pub(crate) use rename::Renamed;

/// The overlay of one product.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    entries: Entries,
    notes: Notes,
    /// By endpoint.
    renamed: RefCell<BTreeMap<String, Vec<Renamed>>>,
}

/// The meaning of a string result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringResult {
    Task { optional: bool },
    Text,
}

/// Whether a text can occur at that place. The members of objects and property strings are checked
/// one by one.
fn holds_text(node: &Node) -> bool {
    match &node.kind {
        Kind::String | Kind::Any => true,
        Kind::Array(of) | Kind::Map(of) => holds_text(of),
        _ => false,
    }
}

/// The entries of all files in one table, for programs that need a few of them unchanged.
///
/// # Errors
/// The name of a file that cannot be read.
pub fn merged(files: &BTreeMap<String, String>) -> Result<toml::Table, String> {
    let mut all = toml::Table::new();
    for (file, text) in files {
        let table = toml::from_str(text).map_err(|error| format!("{file}: {error}"))?;
        merge(&mut all, table);
    }
    Ok(all)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (Some(toml::Value::Array(into)), toml::Value::Array(from)) => into.extend(from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

impl Overlay {
    /// Reads the overlay's files, by their paths below the overlay's folder. Any entry may be in
    /// any file.
    pub(crate) fn read(files: &BTreeMap<String, String>, partial: bool) -> Self {
        let mut notes = Notes::new(partial);
        let entries = Entries::read(files, &mut notes);
        Self {
            entries,
            notes,
            renamed: RefCell::default(),
        }
    }

    /// Records a problem; all of them are reported together.
    pub(crate) fn problem(&self, problem: String) {
        self.notes.problem(problem);
    }

    /// Records that an entry does not match the schema, which is not a problem if releases are
    /// omitted.
    pub(crate) fn mismatch(&self, problem: String) {
        self.notes.mismatch(problem);
    }

    /// The files that cannot be read, if there are any; other problems may follow from that.
    pub(crate) fn unreadable(&self) -> Vec<String> {
        match self.notes.is_unreadable() {
            true => self.notes.problems(),
            false => Vec::new(),
        }
    }

    /// The problems so far.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.notes.problems()
    }

    /// Ends the run: all problems, including unused entries.
    pub(crate) fn finish(&self) -> Vec<String> {
        self.notes.finish()
    }

    /// The entries with an effect on an endpoint so far, and their locations.
    pub(crate) fn used_for(&self, endpoint: &str) -> Vec<(String, Location)> {
        self.notes.used_for(endpoint)
    }

    /// Applies the patches to the facts of every release. Copies come last, since their sources may
    /// be patched.
    pub(crate) fn patch(&self, releases: &mut [Facts]) {
        let (copies, others): (Vec<_>, Vec<_>) =
            (self.entries.patch.iter()).partition(|patch| patch.copy.is_some());
        for patch in others.into_iter().chain(copies) {
            patch::apply(patch, releases, &self.notes);
        }
    }

    /// Gives renamed parameters the name that callers know, in every release.
    pub(crate) fn rename(&self, releases: &mut [Facts]) {
        for (endpoint, names) in &self.entries.renamed {
            for (new, old) in names {
                match rename::apply(endpoint, old, new, releases) {
                    Ok(renamed) => {
                        self.mark_used(format!("renamed {endpoint} {new}"), endpoint);
                        let mut all = self.renamed.borrow_mut();
                        all.entry(endpoint.clone()).or_default().push(renamed);
                    }
                    Err(rename::Problem::NotRenamed) => {}
                    Err(rename::Problem::Invalid(problem)) => {
                        self.problem(format!("renamed {endpoint} {new}: {problem}"));
                    }
                }
            }
        }
    }

    /// The parameters of an endpoint that are sent by another name since some release.
    pub(crate) fn renamed(&self, endpoint: &str) -> Vec<Renamed> {
        let all = self.renamed.borrow();
        all.get(endpoint).cloned().unwrap_or_default()
    }

    fn mark_used(&self, entry: String, place: &str) {
        self.notes.mark_used(entry, place);
    }

    pub(crate) fn argument_order(&self, endpoint: &str) -> &[String] {
        let Some(order) = self.entries.argument_order.get(endpoint) else {
            return &[];
        };
        self.mark_used(format!("argument_order {endpoint}"), endpoint);
        order
    }

    /// The paths whose answers a request accepts, apart from those that follow from its own path.
    pub(crate) fn settings_of(&self, endpoint: &str) -> &[String] {
        let Some(paths) = self.entries.takes.get(endpoint) else {
            return &[];
        };
        self.mark_used(format!("takes {endpoint}"), endpoint);
        paths
    }

    /// Whether a request, or a parameter as `PUT /path?name`, does not match the answer of that
    /// name; or a member of one answer, as `GET /path#name`, does not match the requests.
    pub(crate) fn is_apart(&self, place: &str) -> bool {
        let found = self.entries.apart.contains_key(place);
        if found {
            let endpoint = place.split(['?', '#']).next().unwrap_or(place);
            self.mark_used(format!("apart {place}"), endpoint);
        }
        found
    }

    pub(crate) fn answers_bytes(&self, endpoint: &str) -> bool {
        let found = self.entries.bytes.contains_key(endpoint);
        if found {
            self.mark_used(format!("bytes {endpoint}"), endpoint);
        }
        found
    }

    pub(crate) fn string_result(&self, endpoint: &str) -> Option<StringResult> {
        let listed = |list: &[String]| list.iter().any(|entry| entry == endpoint);
        if listed(&self.entries.tasks) {
            self.mark_used(format!("tasks {endpoint}"), endpoint);
            Some(StringResult::Task { optional: false })
        } else if listed(&self.entries.optional_tasks) {
            self.mark_used(format!("optional_tasks {endpoint}"), endpoint);
            Some(StringResult::Task { optional: true })
        } else if self.entries.texts.contains_key(endpoint) {
            self.mark_used(format!("texts {endpoint}"), endpoint);
            Some(StringResult::Text)
        } else {
            None
        }
    }

    /// Whether a value must not be printed. An entry for a place precedes one for a name. A name
    /// that looks like a secret's must be decided, unless its values are numbers or enumerated.
    pub(crate) fn is_secret(&self, at: &Place, node: &Node) -> bool {
        let (key, endpoint) = (at.key(), at.endpoint());
        let Secrets {
            suspicious,
            secret,
            public,
        } = &self.entries.secrets;
        if secret.places.contains_key(&key) {
            self.mark_used(format!("secret.places {key}"), &endpoint);
            return true;
        }
        let Some(name) = at.fields.last() else {
            return false;
        };
        let lower = name.to_ascii_lowercase();
        let looks_secret = suspicious.iter().any(|part| lower.contains(part));
        if public.places.contains_key(&key) {
            if looks_secret || secret.names.contains_key(name) {
                self.mark_used(format!("public.places {key}"), &endpoint);
            }
            return false;
        }
        if !holds_text(node) {
            return false;
        }
        if secret.names.contains_key(name) {
            self.mark_used(format!("secret.names {name}"), &endpoint);
            return true;
        }
        if public.names.contains_key(name) {
            if looks_secret {
                self.mark_used(format!("public.names {name}"), &endpoint);
            }
            return false;
        }
        if looks_secret {
            self.problem(format!(
                "{key}: the name looks like a secret's; decide in secrets.toml whether it is one: `{name} = \"what it is\"` \
                 under [secret.names] or [public.names]"
            ));
        }
        false
    }

    /// Whether the members of the object at a place may be the word `deleted`.
    pub(crate) fn is_pending(&self, at: &Place) -> bool {
        let key = at.key();
        let found = self.entries.pending.contains_key(&key);
        if found {
            self.mark_used(format!("pending {key}"), &at.endpoint());
        }
        found
    }

    /// By the name of its format, or else by its place. Both may be given, because older releases
    /// spell out formats that later ones name.
    pub(crate) fn property_string_name(&self, at: &Place, node: &Node) -> Option<String> {
        let by_format = node
            .format
            .as_ref()
            .and_then(|format| self.entries.formats.get_key_value(format));
        if let Some((format, _)) = by_format {
            self.mark_used(format!("formats {format}"), &at.endpoint());
        }
        let leaf = at.fields.last()?;
        let by_place = prefixes(&at.path).find_map(|scope| {
            let name = self.entries.property_strings.get(scope)?.get(leaf)?;
            Some((scope, name))
        });
        if let Some((scope, _)) = by_place {
            self.mark_used(format!("property_strings {scope} {leaf}"), &at.endpoint());
        }
        by_format
            .or(by_place.map(|(_, name)| (leaf, name)))
            .map(|(_, name)| name.clone())
    }

    /// The name of an enum that the overlay merges with others, or keeps from them.
    pub(crate) fn enum_name(&self, at: &Place) -> Option<&str> {
        let (place, leaf) = (at.fields.join("."), at.fields.last()?);
        let (scope, field, name) = prefixes(&at.path).find_map(|scope| {
            let enums = self.entries.enums.get(scope)?;
            let (field, name) = (enums.get_key_value(&place)).or(enums.get_key_value(leaf))?;
            Some((scope, field, name))
        })?;
        self.mark_used(format!("enums {scope} {field}"), &at.endpoint());
        Some(name)
    }

    /// The highest index of an indexed parameter.
    pub(crate) fn last_index(&self, path: &str, parameter: &str) -> Option<u8> {
        for scope in prefixes(path) {
            if let Some(last) = self
                .entries
                .last_index
                .get(scope)
                .and_then(|t| t.get(parameter))
            {
                self.mark_used(format!("last_index {scope} {parameter}"), path);
                return Some(*last);
            }
        }
        self.problem(format!(
            "{path}: the indexed parameter {parameter} needs its highest index in names.toml, as the server's code has it: \
             `\"{parameter}\" = 31` under [last_index.\"{path}\"]"
        ));
        None
    }

    /// The server's constraints on the keys of a property string beyond their schemas.
    pub(crate) fn rules(&self, name: &str) -> impl Iterator<Item = &Rule> {
        let own = (self.entries.rule.iter()).filter(move |rule| rule.ty == name);
        own.inspect(|rule| self.mark_used(rule.entry.clone(), ""))
    }

    /// Whether samples omit a key: the server never accepts it, or accepts no other key with it.
    pub(crate) fn is_omitted(&self, name: &str, key: &str) -> bool {
        let is_key = |name: &Option<String>| name.as_deref() == Some(key);
        self.rules(name)
            .any(|rule| is_key(&rule.alone) || is_key(&rule.never))
    }

    /// A value that the server accepts.
    pub(crate) fn sample(&self, kind: &str, name: &str) -> Option<&str> {
        let value = self.entries.samples.get(kind)?.get(name)?;
        self.mark_used(format!("samples {kind} {name}"), "");
        Some(value)
    }

    /// A value that a pattern accepts: by the name of the parameter and a piece of the pattern, or by the name.
    pub(crate) fn sample_of_pattern(&self, name: &str, pattern: &str) -> Option<&str> {
        let samples = self.entries.samples.get("patterns")?.keys();
        let fits = |key: &&String| {
            key.split_once(' ')
                .is_some_and(|(of, piece)| of == name && pattern.contains(piece))
        };
        let key = samples.into_iter().find(fits).map_or(name, String::as_str);
        self.sample("patterns", key)
    }

    /// Whether an integer counts bytes.
    pub(crate) fn is_byte_count(&self, at: &Place) -> bool {
        self.is_listed(&self.entries.values.byte_counts, "byte_counts", at)
    }

    /// Whether a number is that of a guest.
    pub(crate) fn is_guest_number(&self, at: &Place, format: Option<&str>) -> bool {
        format.is_some_and(|format| self.has_guest_numbers(format))
            || self.is_listed(&self.entries.values.guest_numbers, "guest_numbers", at)
    }

    /// Whether the values of a named format are numbers of guests.
    pub(crate) fn has_guest_numbers(&self, format: &str) -> bool {
        let formats = &self.entries.values.guest_number_formats;
        self.is_named(formats, "guest_number_formats", format)
    }

    /// Whether the client checks the values of a named format.
    pub(crate) fn is_checked(&self, format: &str) -> bool {
        self.is_named(
            &self.entries.values.checked_formats,
            "checked_formats",
            format,
        )
    }

    /// Whether the value of a placeholder is the rest of the path.
    pub(crate) fn takes_rest(&self, placeholder: &str) -> bool {
        self.is_named(
            &self.entries.values.rest_of_path,
            "rest_of_path",
            placeholder,
        )
    }

    fn is_named(&self, names: &[String], section: &str, name: &str) -> bool {
        let found = names.iter().any(|known| known == name);
        if found {
            self.mark_used(format!("{section} {name}"), "");
        }
        found
    }

    /// Whether an integer is a time in seconds since 1970.
    pub(crate) fn is_time(&self, at: &Place) -> bool {
        self.is_listed(&self.entries.values.times, "times", at)
    }

    /// Whether a text is a volume id.
    pub(crate) fn is_volume_id(&self, at: &Place) -> bool {
        self.is_listed(&self.entries.values.volume_ids, "volume_ids", at)
    }

    /// Whether a place is listed, by name or by path and name.
    fn is_listed(&self, listed: &[String], section: &str, at: &Place) -> bool {
        let Some(leaf) = at.fields.last() else {
            return false;
        };
        let by_prefix = prefixes(&at.path).map(|prefix| format!("{prefix}?{leaf}"));
        let key = at.owner.as_ref().map(|owner| format!("{owner}.{leaf}"));
        let places = [leaf.clone(), at.key()]
            .into_iter()
            .chain(key)
            .chain(by_prefix);
        let found = places.filter(|place| listed.contains(place));
        let found: Vec<String> = found.collect();
        for place in &found {
            self.mark_used(format!("{section} {place}"), &at.endpoint());
        }
        !found.is_empty()
    }

    /// The split of the list in one text at this place.
    pub(crate) fn list(&self, at: &Place) -> Option<Split> {
        self.split(&self.entries.list, "list", at, |_| true)
    }

    /// The split of a list in one text that the dumps show as a plain text.
    pub(crate) fn undeclared_list(&self, at: &Place) -> Option<Split> {
        self.split(&self.entries.list, "list", at, |fact| fact.undeclared)
    }

    /// The separators of several values in a text that is not a list.
    pub(crate) fn several(&self, at: &Place) -> Option<Split> {
        self.split(&self.entries.text, "text", at, |_| true)
    }

    /// The entry with the nearest place.
    fn split(
        &self,
        facts: &[ListFact],
        table: &str,
        at: &Place,
        is_candidate: impl Fn(&ListFact) -> bool,
    ) -> Option<Split> {
        let leaf = at.fields.last()?;
        let exact = at.key();
        let key = at.owner.as_ref().map(|owner| format!("{owner}.{leaf}"));
        // Keys of a property string are named by its type: they are the same in any place.
        let above = key.is_none().then(|| prefixes(&at.path));
        let above = above.into_iter().flatten();
        let by_prefix = above.map(|prefix| format!("{prefix}?{leaf}"));
        for place in std::iter::once(exact).chain(key).chain(by_prefix) {
            let mut facts = facts.iter().filter(|fact| is_candidate(fact));
            if let Some(fact) = facts.find(|fact| fact.at.contains(&place)) {
                self.mark_used(format!("{table} {place}"), &at.endpoint());
                return Some(fact.split);
            }
        }
        None
    }

    /// The text type of a named format.
    pub(crate) fn text_type(&self, format: &str) -> Option<String> {
        let name = self.entries.text_types.get(format)?;
        self.mark_used(format!("text_types {format}"), "");
        Some(name.clone())
    }

    /// The overlay's name of an item.
    pub(crate) fn item_name(&self, places: &[Place]) -> Option<&str> {
        let (name, _) = (self.entries.items.iter())
            .find(|(_, place)| places.iter().any(|at| at.key() == **place))?;
        for at in places {
            self.mark_used(format!("items {name}"), &at.endpoint());
        }
        Some(name)
    }

    pub(crate) fn field_name(&self, wire: &str) -> Option<&str> {
        let name = self.entries.names.get(wire)?;
        self.mark_used(format!("fields {wire}"), "");
        Some(name)
    }

    /// The name of a parameter or a field at this place and below.
    pub(crate) fn name_at(&self, at: &Place) -> Option<String> {
        let leaf = at.fields.last()?;
        let endpoint = at.endpoint();
        let mut scopes = std::iter::once(endpoint.as_str()).chain(prefixes(&at.path));
        let (scope, name) = scopes.find_map(|scope| {
            let name = self.entries.named.get(scope)?.get(leaf)?;
            Some((scope, name))
        })?;
        self.mark_used(format!("names {scope} {leaf}"), &endpoint);
        Some(name.clone())
    }

    /// The member of an object that contains further objects of its kind.
    pub(crate) fn recursion(&self, at: &Place) -> Option<&str> {
        let key = at.key();
        let member = self.entries.recursive.get(&key)?;
        self.mark_used(format!("recursive {key}"), &at.endpoint());
        Some(member)
    }

    /// The words of a path for the name of its object: `/nodes/{node}/qemu/{vmid}/config` is
    /// `QemuConfig`.
    pub(crate) fn stem(&self, path: &str, placeholders: bool) -> String {
        let start = prefixes(path).find_map(|above| {
            let word = self.entries.stems.get(above)?;
            self.mark_used(format!("stems {above}"), path);
            Some((above, word))
        });
        match start {
            None if path == "/" => "Root".to_owned(),
            Some((above, word)) => {
                format!("{word}{}", words(&path[above.len()..], placeholders))
            }
            None => words(path, placeholders),
        }
    }

    /// A suggested name for a property string at a place.
    pub(crate) fn suggested(&self, path: &str, leaf: &str) -> String {
        format!("{}{}", self.stem(path, false), camel_field(leaf))
    }

    pub(crate) fn variant_name(&self, text: &str) -> Option<&str> {
        let name = self.entries.variants.get(text)?;
        self.mark_used(format!("variants {text}"), "");
        Some(name)
    }

    pub(crate) fn areas(&self) -> &[Area] {
        &self.entries.area
    }

    /// The area of a path: the one with the longest prefix.
    pub(crate) fn area(&self, path: &str) -> Option<&Area> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let area = (self.entries.area.iter())
            .filter(|area| below(&area.prefix))
            .max_by_key(|area| area.prefix.len())?;
        self.mark_used(format!("area {}", area.name), path);
        Some(area)
    }

    /// The reason why an endpoint's result has no type, if the overlay has one.
    pub(crate) fn untyped_reason(&self, endpoint: &str) -> Option<&str> {
        let reason = self.entries.open.get(endpoint)?;
        self.mark_used(format!("open {endpoint}"), endpoint);
        Some(reason)
    }

    /// The handler's checks of an endpoint beyond those of the dump. `parameters` are the names of
    /// its parameters.
    pub(crate) fn privileges<'a>(
        &'a self,
        endpoint: &str,
        parameters: &[&str],
    ) -> Vec<Cow<'a, Privilege>> {
        let all = self.entries.privilege.iter();
        all.filter(|(_, privilege)| privilege.at.iter().any(|at| at == endpoint))
            .filter_map(|(entry, privilege)| {
                self.mark_used(format!("{entry} {endpoint}"), endpoint);
                let known = |name: &String| parameters.contains(&name.as_str());
                if privilege.given.iter().all(known) {
                    return Some(Cow::Borrowed(privilege));
                }
                let mut own = privilege.clone();
                own.given.retain(known);
                if own.given.is_empty() {
                    self.mismatch(format!(
                        "{entry}: {endpoint} has none of the parameters {}",
                        privilege.given.join(", ")
                    ));
                    return None;
                }
                Some(Cow::Owned(own))
            })
            .collect()
    }

    /// The privileges other than `Permissions.Modify` that suffice to change permissions.
    pub(crate) fn modifiers(&self) -> impl Iterator<Item = &Modifier> {
        let all = self.entries.modifier.iter();
        all.inspect(|(entry, _)| self.mark_used(entry.clone(), ""))
            .map(|(_, modifier)| modifier)
    }

    /// The modifier for an object at a path.
    pub(crate) fn modifier_at(&self, path: &str) -> Option<&Modifier> {
        let mut modifiers = self.modifiers();
        modifiers.find(|modifier| {
            let below = path.strip_prefix(&modifier.path);
            below.is_some_and(|below| below.starts_with('/'))
        })
    }

    /// Whether answers always have a member that the dumps require: the overlay has a reason.
    pub(crate) fn is_always_present(&self, at: &Place) -> bool {
        let Some(required) = &self.entries.required else {
            return true;
        };
        let place = at.key();
        let Some(reason) = required.get(&place) else {
            return false;
        };
        let valid = match reason.split_once(' ') {
            Some(("recorded", count)) => count.parse::<u32>().is_ok_and(|count| count > 0),
            Some((_, file)) => file.contains('/'),
            None => false,
        };
        if !valid {
            self.problem(format!(
                "required {place}: a reason is `recorded <number>` or `<package> <file>:<line>`"
            ));
        }
        self.mark_used(format!("required {place}"), &at.endpoint());
        true
    }

    /// Whether the dump's rule for an endpoint is known to be complete.
    pub(crate) fn is_declared(&self, endpoint: &str) -> bool {
        let found = self.entries.declared.contains_key(endpoint);
        if found {
            self.mark_used(format!("declared {endpoint}"), endpoint);
        }
        found
    }

    /// Search terms for a call, other than those of the path.
    pub(crate) fn aliases(&self, endpoint: &str) -> &[String] {
        let Some(aliases) = self.entries.aliases.get(endpoint) else {
            return &[];
        };
        self.mark_used(format!("aliases {endpoint}"), endpoint);
        aliases
    }

    /// The commands of Proxmox VE's own programs that make a call.
    pub(crate) fn commands(&self, endpoint: &str) -> &[String] {
        let Some(commands) = self.entries.commands.get(endpoint) else {
            return &[];
        };
        self.mark_used(format!("commands {endpoint}"), endpoint);
        commands
    }

    /// The usual names of the object at a path.
    pub(crate) fn objects_at(&self, path: &str) -> &[String] {
        let Some(names) = self.entries.objects.get(path) else {
            return &[];
        };
        self.mark_used(format!("objects {path}"), path);
        names
    }

    /// The usual names of the objects in the list at a path.
    pub(crate) fn objects_in(&self, path: &str) -> &[String] {
        let mut items = self.entries.objects.iter().filter(|(item, _)| {
            item.rsplit_once('/')
                .is_some_and(|(above, last)| above == path && last.starts_with('{'))
        });
        let Some((item, names)) = items.next() else {
            return &[];
        };
        self.mark_used(format!("objects {item}"), path);
        names
    }

    /// What people type, and the words of the API for it.
    pub(crate) fn synonyms(&self) -> &BTreeMap<String, Vec<String>> {
        &self.entries.synonyms
    }

    /// Paths whose calls a search shows first.
    pub(crate) fn ranks(&self) -> &BTreeMap<String, u8> {
        &self.entries.ranks
    }

    pub(crate) fn example(&self, endpoint: &str) -> Option<&str> {
        let code = self.entries.examples.get(endpoint)?;
        self.mark_used(format!("examples {endpoint}"), endpoint);
        Some(code)
    }

    pub(crate) fn summary(&self, endpoint: &str) -> Option<&str> {
        let text = self.entries.endpoints.get(endpoint)?;
        self.mark_used(format!("endpoints {endpoint}"), endpoint);
        Some(text)
    }

    /// The documentation of a type, if that of its fields does not fit.
    pub(crate) fn type_meaning(&self, name: &str) -> Option<&str> {
        let text = self.entries.types.get(name)?;
        self.mark_used(format!("types {name}"), "");
        Some(text)
    }

    /// The documentation of a field: the nearest scope takes precedence, and in it the longest
    /// matching suffix.
    pub(crate) fn meaning(&self, at: &Place) -> Option<&str> {
        let endpoint = at.endpoint();
        for scope in std::iter::once(endpoint.as_str()).chain(prefixes(&at.path)) {
            let Some(fields) = self.entries.words.get(scope) else {
                continue;
            };
            let role = if at.result { '#' } else { '?' };
            for start in 0..at.fields.len() {
                let suffix = at.fields[start..].join(".");
                for key in [format!("{role}{suffix}"), suffix] {
                    if let Some(text) = fields.get(&key) {
                        self.mark_used(format!("words {scope} {key}"), &endpoint);
                        return Some(text);
                    }
                }
            }
        }
        None
    }
}

/// A path and everything above it, longest first, down to `/`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.rmatch_indices('/').map(|(cut, _)| &path[..cut.max(1)]);
    std::iter::once(path).chain(cuts)
}
