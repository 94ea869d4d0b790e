//! The entries of the overlay, from any file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::notes::Notes;
use crate::privileges::{Modifier, Privilege};

/// All entries of all files.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Named format to type name.
    pub(super) formats: Map<String>,
    /// Named format to the text type of the core that reads its parts.
    pub(super) text_types: Map<String>,
    /// Path prefix, then field, to type name.
    pub(super) property_strings: Map<Map<String>>,
    /// Path prefix, then field, to the type name of an enum.
    pub(super) enums: Map<Map<String>>,
    /// Path prefix, then indexed parameter, to its highest index.
    pub(super) last_index: Map<Map<u8>>,
    /// Type name to a place of the item.
    pub(super) items: Map<String>,
    /// Wire name to field name, if the usual rule gives a poor one.
    pub(super) names: Map<String>,
    /// Endpoint or path, then wire name, to field name: there and below only.
    pub(super) named: Map<Map<String>>,
    /// Endpoint, then the new name of a parameter, to its old name.
    pub(super) renamed: Map<Map<String>>,
    /// Path to the first words of the names of types there and below.
    pub(super) stems: Map<String>,
    /// Enum text to variant name, for the same reason.
    pub(super) variants: Map<String>,
    /// Objects that contain objects of their own kind, with the member that does.
    pub(super) recursive: Map<String>,
    /// Endpoint to the order of its required parameters; the others follow by name.
    pub(super) argument_order: Map<Vec<String>>,
    pub(super) tasks: Vec<String>,
    pub(super) optional_tasks: Vec<String>,
    pub(super) values: Values,
    /// String results that are not tasks, with their meaning.
    pub(super) texts: Map<String>,
    pub(super) bytes: Map<String>,
    pub(super) secrets: Secrets,
    pub(super) area: Vec<Area>,
    /// Answers without a type, with the reason.
    pub(super) open: Map<String>,
    /// Calls whose checks the dump declares completely, with the handler's line.
    pub(super) declared: Map<String>,
    /// Checks of handlers, each with its name in messages.
    pub(super) privilege: Vec<(String, Privilege)>,
    /// Likewise each with its name in messages.
    pub(super) modifier: Vec<(String, Modifier)>,
    /// Members that answers always have, with the reason; `None`: the dumps are trusted.
    pub(super) required: Option<Map<String>>,
    /// Objects that hold the word `deleted` for a setting that will be removed, each with its
    /// source.
    pub(super) pending: Map<String>,
    pub(super) list: Vec<ListFact>,
    /// Texts that stay texts, although they may hold several values.
    pub(super) text: Vec<ListFact>,
    pub(super) rule: Vec<Rule>,
    /// Request to the paths whose answers it accepts, apart from those that follow from its own
    /// path.
    pub(super) takes: Map<Vec<String>>,
    /// Requests that do not match the answer of their path, and parameters that do not match the
    /// member of that name, as `POST /path?name`, with their meaning.
    pub(super) apart: Map<String>,
    /// Summaries of calls.
    pub(super) endpoints: Map<String>,
    /// Endpoint to further search terms.
    pub(super) aliases: Map<Vec<String>>,
    /// Endpoint to commands of Proxmox VE's own programs that make the call.
    pub(super) commands: Map<Vec<String>>,
    /// Path to the usual names of the object there.
    pub(super) objects: Map<Vec<String>>,
    /// Endpoint to example code.
    pub(super) examples: Map<String>,
    /// Documentation of fields, by scope.
    pub(super) words: Map<Map<String>>,
    /// Documentation of types that several fields share.
    pub(super) types: Map<String>,
    pub(super) patch: Vec<Patch>,
    /// What people type, to words of the API.
    pub(super) synonyms: Map<Vec<String>>,
    /// Path to its rank in a search.
    pub(super) ranks: Map<u8>,
    /// What they are for, then a name, to values that the server accepts.
    pub(super) samples: Map<Map<String>>,
}

type Map<T> = BTreeMap<String, T>;

/// The entries of one file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    formats: Map<String>,
    text_types: Map<String>,
    property_strings: Map<Map<String>>,
    enums: Map<Map<String>>,
    last_index: Map<Map<u8>>,
    items: Map<String>,
    fields: Map<Field>,
    names: Map<Map<String>>,
    renamed: Map<Map<String>>,
    stems: Map<String>,
    variants: Map<String>,
    recursive: Map<String>,
    argument_order: Map<Vec<String>>,
    tasks: Vec<String>,
    optional_tasks: Vec<String>,
    byte_counts: Vec<String>,
    times: Vec<String>,
    volume_ids: Vec<String>,
    guest_numbers: Vec<String>,
    guest_number_formats: Vec<String>,
    checked_formats: Vec<String>,
    rest_of_path: Vec<String>,
    texts: Map<String>,
    bytes: Map<String>,
    suspicious: Vec<String>,
    secret: SecretEntries,
    public: SecretEntries,
    area: Vec<Area>,
    open: Map<String>,
    /// Extra members of answers; read by `recorded`, which sees answers.
    members: Map<String>,
    declared: Map<String>,
    privilege: Vec<Privilege>,
    modifier: Vec<Modifier>,
    required: Option<Map<String>>,
    pending: Map<String>,
    list: Vec<ListFact>,
    text: Vec<ListFact>,
    rule: Vec<Rule>,
    takes: Map<Vec<String>>,
    apart: Map<String>,
    endpoints: Map<String>,
    aliases: Map<Vec<String>>,
    commands: Map<Vec<String>>,
    objects: Map<Vec<String>>,
    examples: Map<String>,
    types: Map<String>,
    patch: Vec<Patch>,
    samples: Map<Map<String>>,
    synonyms: Map<Vec<String>>,
    ranks: Map<u8>,
}

/// An entry of `fields`: the name of a field in any place, or the documentation of the fields of a
/// scope.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Field {
    Name(String),
    Words(Map<String>),
}

/// Types of values that the dumps show as plain integers or texts: names in any place, and single
/// places.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) byte_counts: Vec<String>,
    pub(super) times: Vec<String>,
    pub(super) volume_ids: Vec<String>,
    pub(super) guest_numbers: Vec<String>,
    /// Named formats of such numbers.
    pub(super) guest_number_formats: Vec<String>,
    /// Named formats that the client checks.
    pub(super) checked_formats: Vec<String>,
    /// Placeholders whose value may hold slashes.
    pub(super) rest_of_path: Vec<String>,
}

/// The values that are never printed.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Parts of a name that make it look like a secret's, in lower case.
    pub(super) suspicious: Vec<String>,
    pub(super) secret: SecretEntries,
    pub(super) public: SecretEntries,
}

/// Names in any place, and single places as `POST /path#field`, each with its meaning.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SecretEntries {
    pub(super) names: Map<String>,
    pub(super) places: Map<String>,
}

/// A module of the generated crate, with a feature of the same name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Area {
    pub(crate) name: String,
    pub(crate) prefix: String,
    /// One line for the module's documentation.
    pub(crate) about: String,
    /// Compiled with any choice of features.
    #[serde(default)]
    pub(crate) always: bool,
}

/// A correction of the facts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patch {
    /// The name of the entry in messages.
    #[serde(skip)]
    pub(super) entry: String,
    pub(super) at: Vec<String>,
    pub(super) pointer: String,
    pub(super) replace: Option<toml::Table>,
    pub(super) set: Option<toml::Table>,
    pub(super) add: Option<toml::Table>,
    /// The endpoint whose schema at the same place is copied, after all other patches.
    pub(super) copy: Option<String>,
    /// The place there, if it is another one; only with `copy`.
    pub(super) from: Option<String>,
    /// Additional members of the copy; only with `copy`.
    pub(super) with: Option<toml::Table>,
    /// Members that are not copied; only with `copy`.
    #[serde(default)]
    pub(super) without: Vec<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    /// For readers of the file; required, so that every fact has a source.
    #[expect(dead_code)]
    source: String,
    #[expect(dead_code)]
    reason: String,
}

/// A constraint of the server on keys of a property string beyond their schemas; one of its parts
/// is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The name of the entry in messages.
    #[serde(skip)]
    pub(super) entry: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(crate) needed: Option<String>,
    pub(crate) never: Option<String>,
    pub(crate) alone: Option<String>,
    pub(crate) with: Option<(String, String)>,
    /// The key that the following are for.
    pub(crate) key: Option<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) values: Option<Vec<String>>,
    pub(crate) format: Option<String>,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    /// The parameter whose values are accepted, too, as `POST /path?name`.
    pub(crate) or_values_of: Option<String>,
    /// For readers of the file; required, so that every fact has a source.
    #[expect(dead_code)]
    source: String,
}

/// The separators of a text with several values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListFact {
    pub(super) at: Vec<String>,
    pub(super) split: Split,
    /// The dumps do not mark it as a list.
    #[serde(default)]
    pub(super) undeclared: bool,
    /// For readers of the file; required, so that every fact has a source.
    #[expect(dead_code)]
    source: String,
}

/// The way in which the server splits a list in one text.
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
    /// The separator for writing.
    pub(crate) fn separator(self) -> char {
        match self {
            Self::Any | Self::Comma => ',',
            Self::Blank => ' ',
            Self::Semicolon => ';',
            Self::Nul => '\0',
        }
    }
}

/// Adds entries to those of other files; each may be given once.
fn add<T>(section: &str, into: &mut Map<T>, from: Map<T>, file: &str, notes: &Notes) {
    for (key, value) in from {
        let problem = format!("{file}: {section} {key} is given twice");
        if into.insert(key, value).is_some() {
            notes.problem(problem);
        }
    }
}

fn add_below<T>(
    section: &str,
    into: &mut Map<Map<T>>,
    from: Map<Map<T>>,
    file: &str,
    notes: &Notes,
) {
    for (scope, entries) in from {
        let section = format!("{section} {scope}");
        add(
            &section,
            into.entry(scope).or_default(),
            entries,
            file,
            notes,
        );
    }
}

fn parse<T: DeserializeOwned>(file: &str, text: &str, notes: &Notes) -> Option<T> {
    match toml::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            notes.unreadable(format!("{file}: {}", error.to_string().trim_end()));
            None
        }
    }
}

impl Entries {
    /// Reads the files in the order of their names.
    pub(super) fn read(files: &BTreeMap<String, String>, notes: &mut Notes) -> Self {
        let mut entries = Self::default();
        for (file, text) in files {
            if let Some(read) = parse::<File>(file, text, notes) {
                notes.locate(file, text);
                entries.add(file, read, notes);
            }
        }
        entries
    }

    fn add(&mut self, file: &str, from: File, notes: &Notes) {
        let mut words = Map::new();
        let mut names = Map::new();
        for (key, field) in from.fields {
            match field {
                Field::Name(name) => drop(names.insert(key, name)),
                Field::Words(fields) => drop(words.insert(key, fields)),
            }
        }
        drop(from.members);
        for (section, into, from) in [
            ("formats", &mut self.formats, from.formats),
            ("text_types", &mut self.text_types, from.text_types),
            ("items", &mut self.items, from.items),
            ("fields", &mut self.names, names),
            ("stems", &mut self.stems, from.stems),
            ("variants", &mut self.variants, from.variants),
            ("recursive", &mut self.recursive, from.recursive),
            ("texts", &mut self.texts, from.texts),
            ("bytes", &mut self.bytes, from.bytes),
            ("open", &mut self.open, from.open),
            ("declared", &mut self.declared, from.declared),
            ("pending", &mut self.pending, from.pending),
            ("apart", &mut self.apart, from.apart),
            ("endpoints", &mut self.endpoints, from.endpoints),
            ("examples", &mut self.examples, from.examples),
            ("types", &mut self.types, from.types),
        ] {
            add(section, into, from, file, notes);
        }
        if let Some(required) = from.required {
            let into = self.required.get_or_insert_default();
            add("required", into, required, file, notes);
        }
        for (section, into, from) in [
            (
                "argument_order",
                &mut self.argument_order,
                from.argument_order,
            ),
            ("aliases", &mut self.aliases, from.aliases),
            ("commands", &mut self.commands, from.commands),
            ("objects", &mut self.objects, from.objects),
            ("takes", &mut self.takes, from.takes),
            ("synonyms", &mut self.synonyms, from.synonyms),
        ] {
            add(section, into, from, file, notes);
        }
        add("ranks", &mut self.ranks, from.ranks, file, notes);
        let strings = (&mut self.property_strings, from.property_strings);
        add_below("property_strings", strings.0, strings.1, file, notes);
        add_below("enums", &mut self.enums, from.enums, file, notes);
        add_below(
            "last_index",
            &mut self.last_index,
            from.last_index,
            file,
            notes,
        );
        add_below("names", &mut self.named, from.names, file, notes);
        add_below("renamed", &mut self.renamed, from.renamed, file, notes);
        add_below("words", &mut self.words, words, file, notes);
        add_below("samples", &mut self.samples, from.samples, file, notes);
        self.secrets.suspicious.extend(from.suspicious);
        for (section, into, from) in [
            ("secret", &mut self.secrets.secret, from.secret),
            ("public", &mut self.secrets.public, from.public),
        ] {
            let names = format!("{section}.names");
            add(&names, &mut into.names, from.names, file, notes);
            let places = format!("{section}.places");
            add(&places, &mut into.places, from.places, file, notes);
        }
        self.tasks.extend(from.tasks);
        self.optional_tasks.extend(from.optional_tasks);
        self.values.byte_counts.extend(from.byte_counts);
        self.values.times.extend(from.times);
        self.values.volume_ids.extend(from.volume_ids);
        self.values.guest_numbers.extend(from.guest_numbers);
        let formats = from.guest_number_formats;
        self.values.guest_number_formats.extend(formats);
        self.values.checked_formats.extend(from.checked_formats);
        self.values.rest_of_path.extend(from.rest_of_path);
        self.area.extend(from.area);
        self.list.extend(from.list);
        self.text.extend(from.text);
        for (n, privilege) in from.privilege.into_iter().enumerate() {
            let entry = format!("{file}: privilege {}", n + 1);
            self.privilege.push((entry, privilege));
        }
        for (n, modifier) in from.modifier.into_iter().enumerate() {
            let entry = format!("{file}: modifier {}", n + 1);
            self.modifier.push((entry, modifier));
        }
        for (n, mut rule) in from.rule.into_iter().enumerate() {
            rule.entry = format!("{file}: rule {}", n + 1);
            self.rule.push(rule);
        }
        for (n, mut patch) in from.patch.into_iter().enumerate() {
            patch.entry = format!("{file}: patch {}", n + 1);
            self.patch.push(patch);
        }
    }
}
