//! Diagnostics of the overlay: used entries and their effects, and problems.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

/// The location of an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    /// Below the overlay's folder.
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Not all releases take part, so an entry may match nothing.
    partial: bool,
    /// Every entry that must have an effect.
    entries: BTreeMap<String, Location>,
    /// Used entries, with their endpoints or paths.
    used: RefCell<BTreeMap<String, BTreeSet<String>>>,
    problems: RefCell<Vec<String>>,
    /// Some of the problems are files that cannot be read, so others may follow from that.
    unreadable: Cell<bool>,
}

impl Notes {
    pub(super) fn new(partial: bool) -> Self {
        Self {
            partial,
            ..Self::default()
        }
    }

    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    pub(super) fn problem(&self, problem: String) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(super) fn unreadable(&self, problem: String) {
        self.unreadable.set(true);
        self.problem(problem);
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable.get()
    }

    pub(super) fn mismatch(&self, problem: String) {
        if !self.partial {
            self.problem(problem);
        }
    }

    /// Records an entry as used for an endpoint or a path; `place` is empty if the entry is for no
    /// particular one.
    pub(super) fn mark_used(&self, entry: String, place: &str) {
        let mut used = self.used.borrow_mut();
        let places = used.entry(entry).or_default();
        if !places.contains(place) {
            places.insert(place.to_owned());
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// All problems, unused entries among them.
    pub(super) fn finish(&self) -> Vec<String> {
        let mut problems = self.problems();
        if self.partial {
            return problems;
        }
        let used = self.used.borrow();
        let unused = (self.entries.iter()).filter(|(entry, _)| !used.contains_key(*entry));
        problems.extend(unused.map(|(entry, Location { file, line })| {
            format!("{file}:{line}: {}: matches nothing", bare(entry, file))
        }));
        problems
    }

    /// The entries with an effect on an endpoint, by location.
    pub(super) fn used_for(&self, endpoint: &str) -> Vec<(String, Location)> {
        let path = endpoint.split_once(' ').map_or(endpoint, |(_, path)| path);
        let used = self.used.borrow();
        let mut found: Vec<(String, Location)> = (used.iter())
            .filter(|(_, places)| places.contains(endpoint) || places.contains(path))
            .filter_map(|(entry, _)| {
                let location = self.entries.get(entry)?.clone();
                Some((bare(entry, &location.file).to_owned(), location))
            })
            .collect();
        found.sort_by(|(_, one), (_, other)| one.cmp(other));
        found
    }

    /// Records the locations of the entries of a file.
    pub(super) fn locate(&mut self, file: &str, text: &str) {
        let Ok(document) = DeTable::parse(text) else {
            return;
        };
        for (section, value) in document.get_ref() {
            let section = section.get_ref().as_ref();
            let mut entries = Vec::new();
            match (section, value.get_ref()) {
                ("members" | "suspicious" | "synonyms" | "ranks", _) => {}
                (
                    "tasks"
                    | "optional_tasks"
                    | "byte_counts"
                    | "times"
                    | "volume_ids"
                    | "guest_numbers"
                    | "guest_number_formats"
                    | "checked_formats"
                    | "rest_of_path",
                    DeValue::Array(array),
                ) => {
                    for element in array {
                        if let Some(text) = element.get_ref().as_str() {
                            entries.push((format!("{section} {text}"), element.span().start));
                        }
                    }
                }
                (_, DeValue::Array(array)) => {
                    for (element, number) in array.iter().zip(1..) {
                        if let Some(table) = element.get_ref().as_table() {
                            let first = table.iter().map(|(key, _)| key.span().start).min();
                            let offset = first.unwrap_or(element.span().start);
                            let names = names_of_element(file, section, number, table);
                            entries.extend(names.into_iter().map(|name| (name, offset)));
                        }
                    }
                }
                (_, DeValue::Table(table)) => entries = entries_of_table(section, table),
                _ => {}
            }
            for (entry, offset) in entries {
                let before = text.get(..offset).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let file = file.to_owned();
                self.entries.insert(entry, Location { file, line });
            }
        }
    }
}

/// The names of the entries in one element of an array of tables.
fn names_of_element(file: &str, section: &str, number: usize, table: &DeTable<'_>) -> Vec<String> {
    let at = table.get("at").and_then(|at| at.get_ref().as_array());
    let places = at.into_iter().flatten();
    let places = places.filter_map(|place| place.get_ref().as_str());
    match section {
        "list" | "text" => places.map(|place| format!("{section} {place}")).collect(),
        "privilege" => places
            .map(|place| format!("{file}: privilege {number} {place}"))
            .collect(),
        "area" => {
            let name = table.get("name").and_then(|name| name.get_ref().as_str());
            vec![format!("area {}", name.unwrap_or_default())]
        }
        _ => vec![format!("{file}: {section} {number}")],
    }
}

/// The entries of a table, and of the tables in it, each with its offset.
fn entries_of_table(section: &str, table: &DeTable<'_>) -> Vec<(String, usize)> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let name = key.get_ref();
        let DeValue::Table(inner) = value.get_ref() else {
            entries.push((format!("{section} {name}"), key.span().start));
            continue;
        };
        let prefix = match section {
            "secret" | "public" => format!("{section}.{name}"),
            "fields" => format!("words {name}"),
            section => format!("{section} {name}"),
        };
        for (entry, _) in inner {
            entries.push((format!("{prefix} {}", entry.get_ref()), entry.span().start));
        }
    }
    entries
}

/// An entry without the name of its file.
fn bare<'a>(entry: &'a str, file: &str) -> &'a str {
    let rest = entry.strip_prefix(file);
    rest.and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(entry)
}
