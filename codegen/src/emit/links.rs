//! Links into the documentation, and the tables of all calls.

use super::docs::aliases;
use super::permissions::privileges_in_short;
use super::{Emitter, INDEX, has_setters};
use crate::ir::{Endpoint, ItemId, Returns, Ty};
use crate::names;
use crate::place::Place;

/// The number of places that a type's page names; some types are used in dozens.
const PLACES: usize = 8;

/// The highest index of an indexed parameter that is a search term.
const INDEXES: u8 = 3;

impl Emitter<'_> {
    /// A link to the page or method that describes a call.
    pub(super) fn call_link(&self, endpoint: &Endpoint) -> String {
        let name = match has_setters(endpoint) {
            true => names::request(self.overlay, &endpoint.path, endpoint.method),
            false => {
                let verb = names::verb(endpoint.method).to_lowercase();
                format!("{}::{verb}", names::path_node(self.overlay, &endpoint.path))
            }
        };
        let path = match endpoint.path.as_str() {
            "/" if !has_setters(endpoint) => format!("super::{name}"),
            path => self.doc_path(&self.path_area(path), &name),
        };
        format!("[`{}`]({path})", endpoint.key())
    }

    /// The calls of a path, each a link.
    pub(super) fn calls_of(&self, path: &str) -> Vec<String> {
        let calls = self.api.endpoints.iter();
        let calls = calls.filter(|endpoint| endpoint.path == path);
        calls.map(|endpoint| self.call_link(endpoint)).collect()
    }

    fn item_link(&self, id: ItemId) -> String {
        let (home, name) = (&self.item_areas[id], &self.names.items[id]);
        match *home == self.current {
            true => format!("[`{name}`]"),
            false => format!("[`{name}`]({})", self.doc_path(home, name)),
        }
    }

    /// A path that is valid in the documentation of the current module.
    fn doc_path(&self, home: &str, name: &str) -> String {
        match home == self.current {
            true => name.to_owned(),
            false => format!("super::{home}::{name}"),
        }
    }

    /// The answer of a call, as text with links.
    pub(super) fn answer_words(&self, returns: &Returns) -> String {
        match returns {
            Returns::Nothing => "`()`".to_owned(),
            Returns::Data(ty) => self.type_words(ty),
            Returns::Task { .. } => self.core_link("Task", "crate::task::Task"),
            Returns::Bytes => self.core_link("Bytes", "bytes::Bytes"),
        }
    }

    /// A link to a type that all modules but the index import.
    fn core_link(&self, name: &str, path: &str) -> String {
        match self.current == INDEX {
            true => format!("[`{name}`]({path})"),
            false => format!("[`{name}`]"),
        }
    }

    fn type_words(&self, ty: &Ty) -> String {
        match ty {
            Ty::List(of) | Ty::Array(of) => format!("list of {}", self.type_words(of)),
            Ty::Map(of) => format!("map of {}", self.type_words(of)),
            Ty::Optional(of) => format!("{}, or `None`", self.type_words(of)),
            Ty::Pending(of) => format!("pending {}", self.type_words(of)),
            Ty::Item(id) => self.item_link(*id),
            Ty::Json => self.core_link("Value", "crate::Value"),
            ty => format!("`{}`", self.ty(ty).to_string().replace(' ', "")),
        }
    }

    /// The calls that return and accept a type.
    pub(super) fn calls_with_type(&self, places: &[Place]) -> String {
        let lines = [(true, "Given by"), (false, "Accepted by")];
        let lines = lines.iter().filter_map(|(result, verb)| {
            let mut calls: Vec<String> = Vec::new();
            for at in places.iter().filter(|at| at.result == *result) {
                let mut endpoints = self.api.endpoints.iter();
                let found = endpoints.find(|e| e.path == at.path && e.method == at.method);
                let link = self.call_link(found?);
                if !calls.contains(&link) {
                    calls.push(link);
                }
            }
            let more = calls.len().saturating_sub(PLACES);
            calls.truncate(PLACES);
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            (!calls.is_empty()).then(|| format!("{verb} {}{more}.", calls.join(", ")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The calls that accept a type, or one of its members, as `settings`; each a link.
    pub(super) fn calls_with_settings(&self, id: ItemId, member: Option<&str>) -> Vec<String> {
        let accepts = |endpoint: &&Endpoint| {
            (endpoint.settings.iter()).any(|settings| {
                // A digest is of the configuration that was read, and is not sent with it.
                let leaves_out =
                    |name| name == "digest" || settings.left_out.iter().any(|own| own == name);
                settings.item == id && !member.is_some_and(leaves_out)
            })
        };
        let calls = self.api.endpoints.iter().filter(accepts);
        calls.map(|endpoint| self.call_link(endpoint)).collect()
    }

    /// The calls of an area, or of all, as the rows of a table.
    pub(super) fn table_of_calls(&self, area: Option<&str>) -> Vec<String> {
        let calls = self.api.endpoints.iter();
        let calls =
            calls.filter(|endpoint| area.is_none_or(|area| self.path_area(&endpoint.path) == area));
        let rows: Vec<String> = calls
            .map(|endpoint| {
                format!(
                    "| {}<br><code>{}</code><br>→ {} | {} | {} |",
                    self.call_link(endpoint),
                    // A browser may break the line before each step.
                    self.rust_call(endpoint).replace(").", ")<wbr>."),
                    self.answer_words(&endpoint.returns),
                    privileges_in_short(endpoint),
                    self.availability(endpoint.presence, self.all_releases())
                        .trim_end_matches('.'),
                )
            })
            .collect();
        if rows.is_empty() {
            return rows;
        }
        // On a narrow screen the calls would be broken between all letters.
        let call = "<span style=\"display:inline-block;min-width:17em\">Call and answer</span>";
        let titles = format!("| {call} | Needs | Releases |");
        let head = [titles.as_str(), "|---|---|---|"];
        head.into_iter().map(str::to_owned).chain(rows).collect()
    }

    /// `nodes().node(node).qemu().post(vmid)`
    pub(super) fn rust_call(&self, endpoint: &Endpoint) -> String {
        let mut text = match endpoint.path.as_str() {
            "/" => "api().".to_owned(),
            _ => String::new(),
        };
        for segment in endpoint.path.split('/').filter(|part| !part.is_empty()) {
            let placeholder = segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let step = names::step(self.overlay, placeholder.unwrap_or(segment));
            text.push_str(&match placeholder {
                Some(name) => format!("{step}({}).", names::field(self.overlay, name)),
                None => format!("{step}()."),
            });
        }
        let required = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required);
        let verb = names::verb(endpoint.method).to_lowercase();
        if self.api.is_named(endpoint) {
            let steps: String = required
                .map(|parameter| {
                    let step = names::setter_of(self.overlay, parameter);
                    format!(".{step}({})", names::field_of(self.overlay, parameter))
                })
                .collect();
            return format!("{text}{verb}(){steps}");
        }
        let arguments: Vec<String> = required
            .map(|parameter| names::field_of(self.overlay, parameter))
            .collect();
        format!("{text}{verb}({})", arguments.join(", "))
    }

    /// Names on the wire that are search terms for the Rust name `name`.
    pub(super) fn wire_names(&self, path: &str, wire: &str, name: &str) -> Vec<String> {
        match wire.strip_suffix("[n]") {
            Some(prefix) => {
                let last = self.overlay.last_index(path, wire).unwrap_or(0);
                (0..=last.min(INDEXES))
                    .map(|index| format!("{prefix}{index}"))
                    .collect()
            }
            None => aliases(name, [wire]),
        }
    }
}
