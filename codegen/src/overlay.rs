//! What the dumps lack or get wrong, written by hand in `schema/<product>/overlay`.
//!
//! Every entry has to matter: one that matches nothing is a problem that fails the run.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::facts::{Additional, Facts, Format, Release, Schema};
use crate::facts_json;
use crate::ir::Use;
use crate::privileges::{self, Privilege, Privileges};
use crate::union::{Kind, Node};

/// The overlay of one product.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    names: Names,
    results: Results,
    secrets: Secrets,
    areas: Areas,
    open: BTreeMap<String, String>,
    /// Endpoint to other words by which people look for it.
    aliases: BTreeMap<String, Vec<String>>,
    /// Endpoint to code that shows it in use.
    examples: BTreeMap<String, String>,
    privileges: Privileges,
    /// Members that always come, with the reason; `None`: the dumps are believed.
    required: Option<BTreeMap<String, String>>,
    pending: BTreeMap<String, String>,
    lists: Lists,
    rules: Rules,
    settings: SettingsFile,
    words: Words,
    patches: Vec<(String, Patch)>,
    /// Not all releases take part, so an entry may match nothing.
    partial: bool,
    /// Entries that were of use, as `file: entry`.
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
}

/// `names.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Names {
    /// Named format to type name.
    formats: BTreeMap<String, String>,
    /// Named format to the text type of the core that reads its parts.
    text_types: BTreeMap<String, String>,
    /// Path prefix, then field, to type name.
    property_strings: BTreeMap<String, BTreeMap<String, String>>,
    /// Path prefix, then indexed family, to its highest index.
    families: BTreeMap<String, BTreeMap<String, u8>>,
    /// Type name to a place where the item stands.
    items: BTreeMap<String, String>,
    /// Wire name to field name, where the usual rule gives a poor one.
    fields: BTreeMap<String, String>,
    /// Enum text to variant name, likewise.
    variants: BTreeMap<String, String>,
    /// Endpoint to the order of its required parameters; the others follow by name.
    argument_order: BTreeMap<String, Vec<String>>,
}

/// `returns.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Results {
    tasks: Vec<String>,
    optional_tasks: Vec<String>,
    /// String results that name no task, each with what they are.
    texts: BTreeMap<String, String>,
    bytes: BTreeMap<String, String>,
}

/// `secrets.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Secrets {
    /// Parts of a name that make it look like a secret's, in lower case.
    suspicious: Vec<String>,
    secret: SecretEntries,
    public: SecretEntries,
}

/// Names wherever they stand, and single places as `POST /path#field`, each with what stands there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SecretEntries {
    names: BTreeMap<String, String>,
    places: BTreeMap<String, String>,
}

/// `areas.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Areas {
    area: Vec<Area>,
}

/// A module of the generated crate, with a feature of the same name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Area {
    pub(crate) name: String,
    pub(crate) prefix: String,
    /// One line for the module's documentation.
    pub(crate) about: String,
    /// Compiled whatever features are chosen.
    #[serde(default)]
    pub(crate) always: bool,
}

/// `aliases.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aliases {
    aliases: BTreeMap<String, Vec<String>>,
}

/// `examples/*.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    examples: BTreeMap<String, String>,
}

/// `words/*.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Words {
    endpoints: BTreeMap<String, String>,
    fields: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patches {
    patch: Vec<Patch>,
}

/// An entry of `patches/*.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    at: Vec<String>,
    pointer: String,
    replace: Option<toml::Table>,
    set: Option<toml::Table>,
    add: Option<toml::Table>,
    since: Option<String>,
    until: Option<String>,
    /// For the reader of the file; required, so that no fact comes from nowhere.
    #[expect(dead_code)]
    source: String,
    #[expect(dead_code)]
    reason: String,
}

/// `required.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Required {
    required: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    open: BTreeMap<String, String>,
    /// Members that answers hold and nobody declares, for `recorded`.
    #[expect(dead_code, reason = "read by `recorded`, which sees answers")]
    #[serde(default)]
    members: BTreeMap<String, String>,
}

/// `pending.toml`: objects that hold the word `deleted` for a setting that is to go, each with its source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    pending: BTreeMap<String, String>,
}

/// `rules.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    rule: Vec<Rule>,
}

/// What the server wants of keys of a property string beyond their schemas; one of its parts is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(rename = "type")]
    ty: String,
    pub(crate) needed: Option<String>,
    pub(crate) never: Option<String>,
    pub(crate) alone: Option<String>,
    pub(crate) with: Option<(String, String)>,
    /// The key that `pattern` is for.
    pub(crate) key: Option<String>,
    pub(crate) pattern: Option<String>,
    /// The parameter whose values are taken besides, as `POST /path?name`.
    pub(crate) or_values_of: Option<String>,
    /// For the reader of the file; required, so that no fact comes from nowhere.
    #[expect(dead_code)]
    source: String,
}

/// `settings.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SettingsFile {
    /// Request to the paths whose answers it takes, besides those that its own path tells.
    takes: BTreeMap<String, Vec<String>>,
    /// Requests about something else than what their path answers, and parameters that are something else than what the
    /// answer calls so, as `POST /path?name`, with what they are.
    apart: BTreeMap<String, String>,
}

/// `lists.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    list: Vec<ListFact>,
    /// Texts that stay texts, and may hold several values all the same.
    text: Vec<ListFact>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFact {
    at: Vec<String>,
    split: Split,
    /// The dumps do not say that it is a list.
    #[serde(default)]
    untold: bool,
    /// For the reader of the file; required, so that no fact comes from nowhere.
    #[expect(dead_code)]
    source: String,
}

/// How a list in one text is taken apart on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Split {
    /// At commas, semicolons and white space.
    Any,
    /// At white space.
    Blank,
    Comma,
    Semicolon,
    Nul,
}

impl Split {
    /// What is written between the items.
    pub(crate) fn separator(self) -> char {
        match self {
            Self::Any | Self::Comma => ',',
            Self::Blank => ' ',
            Self::Semicolon => ';',
            Self::Nul => '\0',
        }
    }
}

/// What a string result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringResult {
    Task { optional: bool },
    Text,
}

fn parse<T: serde::de::DeserializeOwned>(
    file: &str,
    text: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    match toml::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(format!("{file}: {}", error.to_string().trim_end()));
            None
        }
    }
}

/// Whether a text of any kind can stand there. What an object or a property string holds is decided member by member.
fn holds_text(node: &Node) -> bool {
    match &node.kind {
        Kind::String | Kind::Any => true,
        Kind::Array(of) | Kind::Map(of) => holds_text(of),
        _ => false,
    }
}

impl Overlay {
    /// Reads the overlay's files, by their paths below the overlay's folder.
    pub(crate) fn read(files: &BTreeMap<String, String>, partial: bool) -> Self {
        let mut overlay = Self {
            partial,
            ..Self::default()
        };
        let mut problems = Vec::new();
        for (file, text) in files {
            match file.as_str() {
                "names.toml" => {
                    overlay.names = parse(file, text, &mut problems).unwrap_or_default();
                }
                "returns.toml" => {
                    overlay.results = parse(file, text, &mut problems).unwrap_or_default();
                }
                "secrets.toml" => {
                    overlay.secrets = parse(file, text, &mut problems).unwrap_or_default();
                }
                "areas.toml" => {
                    overlay.areas = parse(file, text, &mut problems).unwrap_or_default();
                }
                "open.toml" => {
                    if let Some(open) = parse::<Open>(file, text, &mut problems) {
                        overlay.open = open.open;
                    }
                }
                "aliases.toml" => {
                    if let Some(aliases) = parse::<Aliases>(file, text, &mut problems) {
                        overlay.aliases = aliases.aliases;
                    }
                }
                _ if file.starts_with("examples/") => {
                    if let Some(examples) = parse::<Examples>(file, text, &mut problems) {
                        overlay.examples.extend(examples.examples);
                    }
                }
                "required.toml" => {
                    let required = parse::<Required>(file, text, &mut problems);
                    overlay.required = required.map(|required| required.required);
                }
                "privileges.toml" => match privileges::read(text) {
                    Ok(privileges) => overlay.privileges = privileges,
                    Err(error) => problems.push(format!("{file}: {error}")),
                },
                "pending.toml" => {
                    if let Some(pending) = parse::<Pending>(file, text, &mut problems) {
                        overlay.pending = pending.pending;
                    }
                }
                "rules.toml" => {
                    overlay.rules = parse(file, text, &mut problems).unwrap_or_default();
                }
                "settings.toml" => {
                    overlay.settings = parse(file, text, &mut problems).unwrap_or_default();
                }
                "lists.toml" => {
                    overlay.lists = parse(file, text, &mut problems).unwrap_or_default();
                }
                _ if file.starts_with("words/") => {
                    if let Some(words) = parse::<Words>(file, text, &mut problems) {
                        overlay.add_words(file, words, &mut problems);
                    }
                }
                _ if file.starts_with("patches/") => {
                    if let Some(patches) = parse::<Patches>(file, text, &mut problems) {
                        let named = patches.patch.into_iter().enumerate();
                        overlay.patches.extend(
                            named.map(|(n, patch)| (format!("{file}: patch {}", n + 1), patch)),
                        );
                    }
                }
                _ => problems.push(format!("{file}: no such overlay file is known")),
            }
        }
        overlay.problems = RefCell::new(problems);
        overlay
    }

    fn add_words(&mut self, file: &str, words: Words, problems: &mut Vec<String>) {
        for (endpoint, text) in words.endpoints {
            if self
                .words
                .endpoints
                .insert(endpoint.clone(), text)
                .is_some()
            {
                problems.push(format!("{file}: {endpoint} is described twice"));
            }
        }
        for (scope, fields) in words.fields {
            let known = self.words.fields.entry(scope.clone()).or_default();
            for (field, text) in fields {
                if known.insert(field.clone(), text).is_some() {
                    problems.push(format!("{file}: `{field}` of {scope} is described twice"));
                }
            }
        }
    }

    /// Records a problem; all of them are reported together.
    pub(crate) fn problem(&self, problem: String) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Records that an entry does not fit the schema, which is no problem where releases are left out.
    pub(crate) fn mismatch(&self, problem: String) {
        if !self.partial {
            self.problem(problem);
        }
    }

    fn mark(&self, entry: String) {
        self.used.borrow_mut().insert(entry);
    }

    pub(crate) fn argument_order(&self, endpoint: &str) -> &[String] {
        let Some(order) = self.names.argument_order.get(endpoint) else {
            return &[];
        };
        self.mark(format!("names.toml: argument_order {endpoint}"));
        order
    }

    /// The paths whose answers a request takes, besides those that its own path tells.
    pub(crate) fn settings_of(&self, endpoint: &str) -> &[String] {
        let Some(paths) = self.settings.takes.get(endpoint) else {
            return &[];
        };
        self.mark(format!("settings.toml: takes {endpoint}"));
        paths
    }

    /// Whether a request, or a parameter as `PUT /path?name`, is about something else than what the answer calls so.
    pub(crate) fn is_apart(&self, place: &str) -> bool {
        let found = self.settings.apart.contains_key(place);
        if found {
            self.mark(format!("settings.toml: apart {place}"));
        }
        found
    }

    pub(crate) fn answers_bytes(&self, endpoint: &str) -> bool {
        let found = self.results.bytes.contains_key(endpoint);
        if found {
            self.mark(format!("returns.toml: bytes {endpoint}"));
        }
        found
    }

    pub(crate) fn string_result(&self, endpoint: &str) -> Option<StringResult> {
        let listed = |list: &[String]| list.iter().any(|entry| entry == endpoint);
        if listed(&self.results.tasks) {
            self.mark(format!("returns.toml: tasks {endpoint}"));
            Some(StringResult::Task { optional: false })
        } else if listed(&self.results.optional_tasks) {
            self.mark(format!("returns.toml: optional_tasks {endpoint}"));
            Some(StringResult::Task { optional: true })
        } else if self.results.texts.contains_key(endpoint) {
            self.mark(format!("returns.toml: texts {endpoint}"));
            Some(StringResult::Text)
        } else {
            None
        }
    }

    /// Whether a value must not be printed. A single place is decided before its name; a name that looks like a
    /// secret's has to be decided, unless its values are numbers or listed ones.
    pub(crate) fn is_secret(&self, at: &Use, node: &Node) -> bool {
        let key = at.key();
        let Secrets {
            suspicious,
            secret,
            public,
        } = &self.secrets;
        if secret.places.contains_key(&key) {
            self.mark(format!("secrets.toml: secret.places {key}"));
            return true;
        }
        let Some(name) = at.fields.last() else {
            return false;
        };
        let lower = name.to_ascii_lowercase();
        let looks_secret = suspicious.iter().any(|part| lower.contains(part));
        if public.places.contains_key(&key) {
            if looks_secret || secret.names.contains_key(name) {
                self.mark(format!("secrets.toml: public.places {key}"));
            }
            return false;
        }
        if !holds_text(node) {
            return false;
        }
        if secret.names.contains_key(name) {
            self.mark(format!("secrets.toml: secret.names {name}"));
            return true;
        }
        if public.names.contains_key(name) {
            if looks_secret {
                self.mark(format!("secrets.toml: public.names {name}"));
            }
            return false;
        }
        if looks_secret {
            self.problem(format!(
                "{key}: the name looks like a secret's; decide in secrets.toml whether it is one"
            ));
        }
        false
    }

    /// Whether the members of the object at a place may be the word `deleted`.
    pub(crate) fn is_pending(&self, at: &Use) -> bool {
        let key = at.key();
        let found = self.pending.contains_key(&key);
        if found {
            self.mark(format!("pending.toml: {key}"));
        }
        found
    }

    /// By the name of its format, or else by where it stands. Both may be given, because older releases have
    /// spelt out in place what later ones name.
    pub(crate) fn property_string_name(&self, at: &Use, node: &Node) -> Option<String> {
        let by_format = node
            .format
            .as_ref()
            .and_then(|format| self.names.formats.get_key_value(format));
        if let Some((format, _)) = by_format {
            self.mark(format!("names.toml: formats {format}"));
        }
        let leaf = at.fields.last()?;
        let by_place = prefixes(&at.path).find_map(|scope| {
            let name = self.names.property_strings.get(scope)?.get(leaf)?;
            Some((scope, name))
        });
        if let Some((scope, _)) = by_place {
            self.mark(format!("names.toml: property_strings {scope} {leaf}"));
        }
        by_format
            .or(by_place.map(|(_, name)| (leaf, name)))
            .map(|(_, name)| name.clone())
    }

    /// The highest index of an indexed family.
    pub(crate) fn last_index(&self, path: &str, family: &str) -> Option<u8> {
        for scope in prefixes(path) {
            if let Some(last) = self.names.families.get(scope).and_then(|t| t.get(family)) {
                self.mark(format!("names.toml: families {scope} {family}"));
                return Some(*last);
            }
        }
        self.problem(format!(
            "{path}: the family {family} needs its highest index in names.toml"
        ));
        None
    }

    /// What the server wants of the keys of a property string beyond their schemas.
    pub(crate) fn rules(&self, name: &str) -> impl Iterator<Item = &Rule> {
        let all = self.rules.rule.iter().enumerate();
        let own = all.filter(move |(_, rule)| rule.ty == name);
        own.map(|(position, rule)| {
            self.mark(format!("rules.toml: rule {}", position + 1));
            rule
        })
    }

    /// How the list in one text at this place is split.
    pub(crate) fn list(&self, at: &Use) -> Option<Split> {
        self.split(&self.lists.list, "list", at, |_| true)
    }

    /// How a list in one text is split that the dumps show as a plain text.
    pub(crate) fn untold_list(&self, at: &Use) -> Option<Split> {
        self.split(&self.lists.list, "list", at, |fact| fact.untold)
    }

    /// How several values are separated in a text that is no list.
    pub(crate) fn several(&self, at: &Use) -> Option<Split> {
        self.split(&self.lists.text, "text", at, |_| true)
    }

    /// The entry whose place is the nearest.
    fn split(
        &self,
        facts: &[ListFact],
        table: &str,
        at: &Use,
        which: impl Fn(&ListFact) -> bool,
    ) -> Option<Split> {
        let leaf = at.fields.last()?;
        let exact = at.key();
        let key = at.owner.as_ref().map(|owner| format!("{owner}.{leaf}"));
        // Keys of a property string are named by its type: they are the same wherever it stands.
        let around = key.is_none().then(|| prefixes(&at.path));
        let around = around.into_iter().flatten();
        let around = around.map(|prefix| format!("{prefix}?{leaf}"));
        for place in std::iter::once(exact).chain(key).chain(around) {
            let mut facts = facts.iter().filter(|fact| which(fact));
            if let Some(fact) = facts.find(|fact| fact.at.contains(&place)) {
                self.mark(format!("lists.toml: {table} {place}"));
                return Some(fact.split);
            }
        }
        None
    }

    /// The text type of a named format.
    pub(crate) fn text_type(&self, format: &str) -> Option<String> {
        let name = self.names.text_types.get(format)?;
        self.mark(format!("names.toml: text_types {format}"));
        Some(name.clone())
    }

    /// The name that the overlay gives an item.
    pub(crate) fn item_name(&self, uses: &[Use]) -> Option<&str> {
        let (name, _) = self
            .names
            .items
            .iter()
            .find(|(_, place)| uses.iter().any(|at| at.key() == **place))?;
        self.mark(format!("names.toml: items {name}"));
        Some(name)
    }

    pub(crate) fn field_name(&self, wire: &str) -> Option<&str> {
        let name = self.names.fields.get(wire)?;
        self.mark(format!("names.toml: fields {wire}"));
        Some(name)
    }

    pub(crate) fn variant_name(&self, text: &str) -> Option<&str> {
        let name = self.names.variants.get(text)?;
        self.mark(format!("names.toml: variants {text}"));
        Some(name)
    }

    pub(crate) fn areas(&self) -> &[Area] {
        &self.areas.area
    }

    /// The area of a path: the one with the longest prefix.
    pub(crate) fn area(&self, path: &str) -> Option<&Area> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let area = self
            .areas
            .area
            .iter()
            .filter(|area| below(&area.prefix))
            .max_by_key(|area| area.prefix.len())?;
        self.mark(format!("areas.toml: {}", area.name));
        Some(area)
    }

    /// Why an endpoint's result stays open, where the overlay says so.
    pub(crate) fn open(&self, endpoint: &str) -> Option<&str> {
        let reason = self.open.get(endpoint)?;
        self.mark(format!("open.toml: {endpoint}"));
        Some(reason)
    }

    /// What the handler of an endpoint checks beside what the dump declares. `parameters` are the
    /// names of its parameters.
    pub(crate) fn privileges<'a>(
        &'a self,
        endpoint: &str,
        parameters: &[&str],
    ) -> Vec<Cow<'a, Privilege>> {
        let all = self.privileges.privilege.iter().enumerate();
        all.filter(|(_, privilege)| privilege.at.iter().any(|at| at == endpoint))
            .filter_map(|(n, privilege)| {
                self.mark(format!("privileges.toml: privilege {}, {endpoint}", n + 1));
                let known = |name: &String| parameters.contains(&name.as_str());
                if privilege.given.iter().all(known) {
                    return Some(Cow::Borrowed(privilege));
                }
                let mut own = privilege.clone();
                own.given.retain(known);
                if own.given.is_empty() {
                    self.mismatch(format!(
                        "privileges.toml: {endpoint} has none of the parameters {}",
                        privilege.given.join(", ")
                    ));
                    return None;
                }
                Some(Cow::Owned(own))
            })
            .collect()
    }

    /// Whether somebody looked that a member which the dumps require always comes.
    pub(crate) fn is_vouched_for(&self, at: &Use) -> bool {
        let Some(required) = &self.required else {
            return true;
        };
        let place = at.key();
        let Some(reason) = required.get(&place) else {
            return false;
        };
        let sourced = match reason.split_once(' ') {
            Some(("recorded", count)) => count.parse::<u32>().is_ok_and(|count| count > 0),
            Some((_, file)) => file.contains('/'),
            None => false,
        };
        if !sourced {
            self.problem(format!(
                "required.toml: {place}: a reason is `recorded <number>` or `<package> <file>:<line>`"
            ));
        }
        self.mark(format!("required.toml: {place}"));
        true
    }

    /// Whether the dump's rule for an endpoint is known to be the whole of it.
    pub(crate) fn is_declared(&self, endpoint: &str) -> bool {
        let found = self.privileges.declared.contains_key(endpoint);
        if found {
            self.mark(format!("privileges.toml: declared {endpoint}"));
        }
        found
    }

    /// Words other than those of the path by which people look for a call.
    pub(crate) fn aliases(&self, endpoint: &str) -> &[String] {
        let Some(aliases) = self.aliases.get(endpoint) else {
            return &[];
        };
        self.mark(format!("aliases.toml: {endpoint}"));
        aliases
    }

    pub(crate) fn example(&self, endpoint: &str) -> Option<&str> {
        let code = self.examples.get(endpoint)?;
        self.mark(format!("examples: {endpoint}"));
        Some(code)
    }

    pub(crate) fn summary(&self, endpoint: &str) -> Option<&str> {
        let text = self.words.endpoints.get(endpoint)?;
        self.mark(format!("words: {endpoint}"));
        Some(text)
    }

    /// What a field means: the nearest scope wins, and in it the longest matching suffix.
    pub(crate) fn meaning(&self, at: &Use) -> Option<&str> {
        let endpoint = format!("{} {}", at.method, at.path);
        for scope in std::iter::once(endpoint.as_str()).chain(prefixes(&at.path)) {
            let Some(fields) = self.words.fields.get(scope) else {
                continue;
            };
            let role = if at.result { '#' } else { '?' };
            for start in 0..at.fields.len() {
                let suffix = at.fields[start..].join(".");
                for key in [format!("{role}{suffix}"), suffix] {
                    if let Some(text) = fields.get(&key) {
                        self.mark(format!("words: {scope} {key}"));
                        return Some(text);
                    }
                }
            }
        }
        None
    }

    /// Applies the patches to the facts of every release.
    pub(crate) fn patch(&self, releases: &mut [Facts]) {
        for (entry, patch) in &self.patches {
            if let Err(problem) = self.apply(entry, patch, releases) {
                self.problem(format!(
                    "{entry} ({} {}): {problem}",
                    patch.at.join(", "),
                    patch.pointer
                ));
            }
        }
    }

    fn apply(&self, entry: &str, patch: &Patch, releases: &mut [Facts]) -> Result<(), String> {
        let (table, how) = match (&patch.replace, &patch.set, &patch.add) {
            (Some(table), None, None) => (table, How::Replace),
            (None, Some(table), None) => (table, How::Set),
            (None, None, Some(table)) => (table, How::Add),
            _ => return Err("wants one of replace, set and add".to_owned()),
        };
        let json = serde_json::to_string(table).map_err(|error| error.to_string())?;
        let schema =
            facts_json::read_schema(how.name(), &json).map_err(|error| error.to_string())?;
        let members: Vec<&str> = table.keys().map(String::as_str).collect();
        let bound = |text: &Option<String>| text.as_deref().map(str::parse::<Release>).transpose();
        let (since, until) = (bound(&patch.since)?, bound(&patch.until)?);
        for at in &patch.at {
            let (verb, path) = at.split_once(' ').ok_or("an endpoint is VERB /path")?;
            let method = verb.parse()?;
            let mut applied = false;
            for facts in releases.iter_mut() {
                if since.is_some_and(|since| facts.release < since)
                    || until.is_some_and(|until| facts.release > until)
                {
                    continue;
                }
                let endpoint = facts
                    .endpoints
                    .get_mut(path)
                    .and_then(|m| m.get_mut(&method));
                let Some(endpoint) = endpoint else { continue };
                let before = endpoint.clone();
                let found = change(endpoint, &patch.pointer, &schema, &members, how)?;
                applied |= found && *endpoint != before;
            }
            if !applied && !self.partial {
                return Err(format!("changes nothing of {at}"));
            }
            self.mark(entry.to_owned());
        }
        Ok(())
    }

    /// The problems so far.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// Ends the run: all problems, unused entries among them.
    pub(crate) fn finish(&self) -> Vec<String> {
        let used = self.used.borrow();
        let mut problems = self.problems.borrow().clone();
        if self.partial {
            return problems;
        }
        let mut entries: Vec<String> = Vec::new();
        let names = &self.names;
        entries.extend(
            names
                .formats
                .keys()
                .map(|k| format!("names.toml: formats {k}")),
        );
        for (scope, families) in &names.families {
            entries.extend(
                families
                    .keys()
                    .map(|k| format!("names.toml: families {scope} {k}")),
            );
        }
        entries.extend(
            names
                .text_types
                .keys()
                .map(|k| format!("names.toml: text_types {k}")),
        );
        for (scope, fields) in &names.property_strings {
            entries.extend(
                fields
                    .keys()
                    .map(|k| format!("names.toml: property_strings {scope} {k}")),
            );
        }
        entries.extend(names.items.keys().map(|k| format!("names.toml: items {k}")));
        entries.extend(
            names
                .fields
                .keys()
                .map(|k| format!("names.toml: fields {k}")),
        );
        entries.extend(
            names
                .variants
                .keys()
                .map(|k| format!("names.toml: variants {k}")),
        );
        entries.extend(
            names
                .argument_order
                .keys()
                .map(|k| format!("names.toml: argument_order {k}")),
        );
        let results = &self.results;
        entries.extend(
            results
                .tasks
                .iter()
                .map(|k| format!("returns.toml: tasks {k}")),
        );
        entries.extend(
            results
                .optional_tasks
                .iter()
                .map(|k| format!("returns.toml: optional_tasks {k}")),
        );
        entries.extend(
            results
                .texts
                .keys()
                .map(|k| format!("returns.toml: texts {k}")),
        );
        entries.extend(
            results
                .bytes
                .keys()
                .map(|k| format!("returns.toml: bytes {k}")),
        );
        for (kind, listed) in [
            ("secret", &self.secrets.secret),
            ("public", &self.secrets.public),
        ] {
            let names = listed.names.keys().map(|k| format!("names {k}"));
            let places = listed.places.keys().map(|k| format!("places {k}"));
            entries.extend(
                names
                    .chain(places)
                    .map(|entry| format!("secrets.toml: {kind}.{entry}")),
            );
        }
        entries.extend(
            self.areas
                .area
                .iter()
                .map(|a| format!("areas.toml: {}", a.name)),
        );
        entries.extend(self.open.keys().map(|k| format!("open.toml: {k}")));
        let required = self.required.iter().flatten();
        entries.extend(required.map(|(k, _)| format!("required.toml: {k}")));
        let privileges = &self.privileges;
        entries.extend(
            privileges
                .declared
                .keys()
                .map(|k| format!("privileges.toml: declared {k}")),
        );
        for (n, privilege) in privileges.privilege.iter().enumerate() {
            entries.extend(
                privilege
                    .at
                    .iter()
                    .map(|at| format!("privileges.toml: privilege {}, {at}", n + 1)),
            );
        }
        entries.extend(self.pending.keys().map(|k| format!("pending.toml: {k}")));
        let settings = &self.settings;
        entries.extend((settings.takes.keys()).map(|k| format!("settings.toml: takes {k}")));
        entries.extend((settings.apart.keys()).map(|k| format!("settings.toml: apart {k}")));
        let rules = 1..=self.rules.rule.len();
        entries.extend(rules.map(|position| format!("rules.toml: rule {position}")));
        for (table, facts) in [("list", &self.lists.list), ("text", &self.lists.text)] {
            let places = facts.iter().flat_map(|fact| &fact.at);
            entries.extend(places.map(|place| format!("lists.toml: {table} {place}")));
        }
        entries.extend(self.aliases.keys().map(|k| format!("aliases.toml: {k}")));
        entries.extend(self.examples.keys().map(|k| format!("examples: {k}")));
        entries.extend(self.words.endpoints.keys().map(|k| format!("words: {k}")));
        for (scope, fields) in &self.words.fields {
            entries.extend(fields.keys().map(|k| format!("words: {scope} {k}")));
        }
        problems.extend(
            entries
                .into_iter()
                .filter(|entry| !used.contains(entry))
                .map(|entry| format!("{entry}: matches nothing")),
        );
        problems
    }
}

/// A path and everything above it, longest first, down to `/`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.rmatch_indices('/').map(|(cut, _)| &path[..cut.max(1)]);
    std::iter::once(path).chain(cuts)
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Replace,
    Set,
    Add,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Set => "set",
            Self::Add => "add",
        }
    }
}

/// Changes the schema at `pointer`; false when the release has no such place.
fn change(
    endpoint: &mut crate::facts::Endpoint,
    pointer: &str,
    schema: &Schema,
    members: &[&str],
    how: How,
) -> Result<bool, String> {
    let mut tokens = pointer
        .strip_prefix('/')
        .ok_or("a pointer starts with a slash")?
        .split('/')
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect::<Vec<_>>();
    let first = tokens.remove(0);
    let mut place = match first.as_str() {
        "returns" => &mut endpoint.returns,
        "parameters" if !tokens.is_empty() => {
            let name = tokens.remove(0);
            if how == How::Add && tokens.is_empty() {
                endpoint
                    .parameters
                    .properties
                    .entry(name)
                    .or_insert_with(|| schema.clone());
                return Ok(true);
            }
            match endpoint.parameters.properties.get_mut(&name) {
                Some(place) => place,
                None => return Ok(false),
            }
        }
        _ => return Err("a pointer starts with /returns or /parameters/<name>".to_owned()),
    };
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = match token.as_str() {
            "items" => place.items.as_deref_mut(),
            "additional" => match &mut place.additional {
                Some(Additional::Schema(schema)) => Some(&mut **schema),
                _ => None,
            },
            "one_of" => {
                let index = tokens.next().and_then(|token| token.parse::<usize>().ok());
                place
                    .one_of
                    .as_mut()
                    .zip(index)
                    .and_then(|(list, index)| list.get_mut(index))
            }
            "properties" | "format" => {
                let name = tokens.next().ok_or("a pointer ends in the middle")?;
                let schemas = match token.as_str() {
                    "properties" if how == How::Add => {
                        Some(place.properties.get_or_insert_with(Default::default))
                    }
                    "properties" => place.properties.as_mut(),
                    _ => match &mut place.format {
                        Some(Format::Keys(keys)) => Some(keys),
                        _ => None,
                    },
                };
                let Some(schemas) = schemas else {
                    return Ok(false);
                };
                if how == How::Add && tokens.peek().is_none() {
                    schemas.entry(name).or_insert_with(|| schema.clone());
                    return Ok(true);
                }
                schemas.get_mut(&name)
            }
            other => return Err(format!("`{other}` is no part of a schema")),
        };
        match next {
            Some(next) => place = next,
            None => return Ok(false),
        }
    }
    match how {
        How::Replace => *place = schema.clone(),
        How::Set => set(place, schema, members)?,
        How::Add => return Err("add names a property that does not exist yet".to_owned()),
    }
    Ok(true)
}

fn set(place: &mut Schema, from: &Schema, members: &[&str]) -> Result<(), String> {
    for member in members {
        let from = from.clone();
        match *member {
            "type" => place.ty = from.ty,
            "optional" => place.optional = from.optional,
            "default" => place.default = from.default,
            "enum" => place.values = from.values,
            "minimum" => place.minimum = from.minimum,
            "maximum" => place.maximum = from.maximum,
            "min_length" => place.min_length = from.min_length,
            "max_length" => place.max_length = from.max_length,
            "pattern" => place.pattern = from.pattern,
            "format" => place.format = from.format,
            "requires" => place.requires = from.requires,
            "renderer" => place.renderer = from.renderer,
            "items" => place.items = from.items,
            "properties" => place.properties = from.properties,
            "additional" => place.additional = from.additional,
            other => return Err(format!("`{other}` cannot be set")),
        }
    }
    Ok(())
}
