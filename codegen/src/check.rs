//! Checks of names that would be invalid in Rust, before anything is written.

use std::collections::BTreeMap;

use crate::ir::{Api, ItemKind, Member};
use crate::names::{self, Names};
use crate::overlay::Overlay;

/// Reports names that are not identifiers, or occur twice.
pub(crate) fn check(api: &Api, names: &Names, overlay: &Overlay) {
    let mut check = Check { overlay };
    for area in overlay.areas() {
        check.name(&area.name, "areas.toml");
    }
    for (item, name) in api.items.iter().zip(&names.items) {
        check.name(name, "names.toml");
        let scope = item.places.first().map_or("", |at| at.path.as_str());
        let section = format!("[names.\"{scope}\"]");
        match &item.kind {
            ItemKind::Enum(values) => {
                let variants = values
                    .iter()
                    .map(|(text, _)| (names::variant(overlay, text), text.as_str()))
                    .chain([("UnknownValue".to_owned(), "any other value")]);
                check.distinct(name, "[variants]", variants);
            }
            ItemKind::PropertyString(string) => {
                check.distinct(name, &section, members(overlay, &string.members, "unknown"));
            }
            ItemKind::Struct(list) => {
                check.distinct(name, &section, members(overlay, list, "extra"))
            }
        }
    }
    let mut steps: BTreeMap<String, Vec<(String, &str)>> = BTreeMap::new();
    for endpoint in &api.endpoints {
        let setters = endpoint
            .parameters
            .iter()
            .map(|p| (names::setter_of(overlay, p), p.name.as_str()));
        check.distinct(
            &endpoint.key(),
            &format!("[names.\"{}\"]", endpoint.key()),
            setters,
        );
        // The path `/` is the root itself.
        let own = endpoint.path.trim_end_matches('/');
        let mut path = own;
        while let Some((above, segment)) = path.rsplit_once('/') {
            let step = names::step(overlay, segment.trim_matches(['{', '}']));
            let ways = steps.entry(above.to_owned()).or_default();
            if !ways.iter().any(|(_, known)| *known == segment) {
                ways.push((step, segment));
            }
            path = above;
        }
        let verb = names::verb(endpoint.method).to_lowercase();
        steps
            .entry(own.to_owned())
            .or_default()
            .push((verb, "its verb"));
    }
    for (path, ways) in steps {
        check.distinct(&path, "[fields]", ways.into_iter());
    }
}

fn members<'a>(
    overlay: &'a Overlay,
    members: &'a [Member],
    reserved: &'static str,
) -> impl Iterator<Item = (String, &'a str)> {
    members
        .iter()
        .map(move |member| (names::field_of(overlay, member), member.name.as_str()))
        .chain([(reserved.to_owned(), "extra members")])
}

struct Check<'a> {
    overlay: &'a Overlay,
}

impl Check<'_> {
    fn name(&mut self, name: &str, at: &str) {
        if !names::is_plain(name) {
            self.overlay
                .problem(format!("{at}: `{name}` cannot be a name in Rust"));
        }
    }

    /// `section` is the section of the overlay for an entry that fixes it.
    fn distinct<'n>(
        &mut self,
        holder: &str,
        section: &str,
        names: impl Iterator<Item = (String, &'n str)>,
    ) {
        let more = match section.strip_prefix("[names.") {
            Some(endpoint) if endpoint.contains(' ') => {
                format!(
                    "; or, if newer releases call the same parameter so, `\"NEW\" = \"OLD\"` under [renamed.{endpoint}"
                )
            }
            _ => String::new(),
        };
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for (name, wire) in names {
            self.name(&name, &format!("{holder}: `{wire}`"));
            if let Some(other) = known.insert(name.clone(), wire) {
                self.overlay.problem(format!(
                    "{holder}: `{other}` and `{wire}` would both be called {name}; call one of them \
                     otherwise in names.toml: `\"{wire}\" = \"{name}_2\"` under {section}{more}"
                ));
            }
        }
    }
}
