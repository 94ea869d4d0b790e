//! Changes between two releases of a product.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, ProxyTo, Schema, Schemas, Type,
};

/// A change in at least this many endpoints is reported once, with its endpoints behind it.
const MANY: usize = 4;

/// The number of endpoints that such a change names.
const SHOWN: usize = 3;

/// The difference of two releases; `Display` is Markdown for a changelog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// `PVE 9.1`
    pub from: String,
    pub to: String,
    pub added: Vec<Name>,
    /// Parameters and answers of the added ones, one line each.
    pub about: BTreeMap<Name, Vec<String>>,
    pub removed: Vec<Name>,
    pub changed: BTreeMap<Name, Vec<Change>>,
    /// Property strings behind a named format.
    pub formats: BTreeMap<String, Vec<Change>>,
}

/// An endpoint; sorted by path, then verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub path: String,
    pub method: Method,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// One change of an endpoint or of a property string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub part: Part,
    /// The place within that part: `net[n].bridge`, `[].status`; empty for the whole.
    pub place: String,
    pub kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The endpoint, or the format, itself.
    Whole,
    Parameter,
    Returned,
    Key,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A short description.
    Added(String),
    Removed,
    /// Each entry is one aspect, such as `minimum 1 → 100`.
    Changed(Vec<String>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match (self.part, self.place.is_empty()) {
            (Part::Whole, _) => "",
            (Part::Parameter, _) => "parameter ",
            (Part::Returned, true) => "result",
            (Part::Returned, false) => "field ",
            (Part::Key, _) => "key ",
        };
        f.write_str(part)?;
        if !self.place.is_empty() {
            write!(f, "`{}`", self.place)?;
        }
        let gap = if part.is_empty() && self.place.is_empty() {
            ""
        } else {
            " "
        };
        match &self.kind {
            ChangeKind::Added(text) if text.is_empty() => write!(f, "{gap}added"),
            ChangeKind::Added(text) => write!(f, "{gap}added: {text}"),
            ChangeKind::Removed => write!(f, "{gap}removed"),
            ChangeKind::Changed(aspects) if gap.is_empty() => f.write_str(&aspects.join("; ")),
            ChangeKind::Changed(aspects) => write!(f, ": {}", aspects.join("; ")),
        }
    }
}

/// Compares two releases.
pub fn compare(old: &Facts, new: &Facts) -> Diff {
    let (before, after) = (endpoints(old), endpoints(new));
    let mut changed = BTreeMap::new();
    for (name, old) in &before {
        if let Some(new) = after.get(name) {
            let changes = endpoint(old, new);
            if !changes.is_empty() {
                changed.insert(name.clone(), changes);
            }
        }
    }
    let title = |facts: &Facts| format!("{} {}", facts.product.name.to_uppercase(), facts.release);
    let added = missing(&after, &before);
    Diff {
        from: title(old),
        to: title(new),
        about: (added.iter())
            .map(|name| (name.clone(), about(name, after[name])))
            .collect(),
        added,
        removed: missing(&before, &after),
        changed,
        formats: formats(old, new),
    }
}

/// The parameters and the answer of an endpoint.
fn about(name: &Name, endpoint: &Endpoint) -> Vec<String> {
    let in_path = |parameter: &str| name.path.contains(&format!("{{{parameter}}}"));
    let mut lines: Vec<String> = (endpoint.parameters.properties.iter())
        .filter(|(parameter, _)| !in_path(parameter))
        .map(|(parameter, schema)| format!("parameter `{parameter}`: {}", brief(schema)))
        .collect();
    let returns = &endpoint.returns;
    let fields = match (&returns.properties, &returns.items) {
        (Some(fields), _) => Some(fields),
        (None, Some(items)) => items.properties.as_ref(),
        (None, None) => None,
    };
    let result = returns.ty.map_or("anything", Type::name);
    lines.push(match fields.filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            let names: Vec<String> = fields.keys().map(|name| format!("`{name}`")).collect();
            format!("result: {result}, with {}", names.join(", "))
        }
        None => format!("result: {result}"),
    });
    lines
}

fn endpoints(facts: &Facts) -> BTreeMap<Name, &Endpoint> {
    facts
        .endpoints
        .iter()
        .flat_map(|(path, methods)| {
            methods.iter().map(|(&method, endpoint)| {
                let path = path.clone();
                (Name { path, method }, endpoint)
            })
        })
        .collect()
}

/// The elements of `of` that are not in `in_`.
fn missing(of: &BTreeMap<Name, &Endpoint>, in_: &BTreeMap<Name, &Endpoint>) -> Vec<Name> {
    of.keys()
        .filter(|name| !in_.contains_key(name))
        .cloned()
        .collect()
}

fn formats(old: &Facts, new: &Facts) -> BTreeMap<String, Vec<Change>> {
    let names: BTreeSet<&String> = old.formats.keys().chain(new.formats.keys()).collect();
    let whole = |kind| {
        vec![Change {
            part: Part::Whole,
            place: String::new(),
            kind,
        }]
    };
    names
        .into_iter()
        .filter_map(|name| {
            let changes = match (old.formats.get(name), new.formats.get(name)) {
                (Some(old), Some(new)) => {
                    let mut found = PartChanges::new(Part::Key);
                    found.schemas("", old, new);
                    found.changes
                }
                (None, _) => whole(ChangeKind::Added(String::new())),
                (_, None) => whole(ChangeKind::Removed),
            };
            (!changes.is_empty()).then(|| (name.clone(), changes))
        })
        .collect()
}

fn endpoint(old: &Endpoint, new: &Endpoint) -> Vec<Change> {
    let mut aspects = Aspects::default();
    let flag = |aspects: &mut Aspects, old: bool, new: bool, yes: &str, no: &str| {
        if old != new {
            aspects.0.push(if new { yes } else { no }.to_owned());
        }
    };
    aspects.text("name", &old.name, &new.name);
    flag(
        &mut aspects,
        old.allowtoken,
        new.allowtoken,
        "API tokens are accepted",
        "API tokens are refused",
    );
    flag(
        &mut aspects,
        old.protected,
        new.protected,
        "runs in the privileged daemon",
        "no longer runs in the privileged daemon",
    );
    aspects.value("proxied to", &proxyto(old), &proxyto(new));
    flag(
        &mut aspects,
        old.download,
        new.download,
        "may answer with a file",
        "no longer answers with a file",
    );
    flag(
        &mut aspects,
        old.upload,
        new.upload,
        "takes a raw body",
        "no longer takes a raw body",
    );
    flag(
        &mut aspects,
        old.unstable,
        new.unstable,
        "marked unstable",
        "no longer unstable",
    );
    flag(
        &mut aspects,
        old.expose_credentials,
        new.expose_credentials,
        "sees the credentials of the caller",
        "no longer sees the credentials of the caller",
    );
    aspects.value(
        "permissions",
        &Some(permissions(old)),
        &Some(permissions(new)),
    );
    if old.parameters.additional != new.parameters.additional {
        let say = |additional| match additional {
            Some(true) => "accepted",
            Some(false) => "refused",
            None => "not specified",
        };
        aspects.0.push(format!(
            "unknown parameters {} → {}",
            say(old.parameters.additional),
            say(new.parameters.additional)
        ));
    }
    let mut whole = PartChanges::new(Part::Whole);
    whole.aspects("", aspects);
    let mut parameters = PartChanges::new(Part::Parameter);
    parameters.schemas("", &old.parameters.properties, &new.parameters.properties);
    let mut returned = PartChanges::new(Part::Returned);
    returned.schema("", &old.returns, &new.returns);
    [whole.changes, parameters.changes, returned.changes].concat()
}

fn proxyto(endpoint: &Endpoint) -> Option<String> {
    endpoint.proxyto.as_ref().map(|to| match to {
        ProxyTo::Parameter(parameter) => format!("{{{parameter}}}"),
        ProxyTo::NoNode => "no node".to_owned(),
    })
}

fn permissions(endpoint: &Endpoint) -> String {
    let Some(permissions) = &endpoint.permissions else {
        return "root only".to_owned();
    };
    let user = permissions.user.as_ref().map(|user| match user.as_str() {
        "all" => "any user".to_owned(),
        "world" => "anybody".to_owned(),
        other => other.to_owned(),
    });
    let check = permissions
        .check
        .as_ref()
        .map(|check| self::check(check, false));
    let described = permissions
        .described
        .then(|| "described in words".to_owned());
    let parts: Vec<String> = [user, check, described].into_iter().flatten().collect();
    parts.join(", ")
}

fn check(check: &Check, nested: bool) -> String {
    let joined = |list: &[Check], word: &str| {
        let parts: Vec<String> = list.iter().map(|part| self::check(part, true)).collect();
        let text = parts.join(word);
        if nested && list.len() > 1 {
            format!("({text})")
        } else {
            text
        }
    };
    match check {
        Check::Or(list) => joined(list, " or "),
        Check::And(list) => joined(list, " and "),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            let privileges = privileges.join(if *any { "|" } else { "+" });
            let only = require_param.as_ref().map_or(String::new(), |parameter| {
                format!(" if {parameter} is given")
            });
            format!("{privileges} on {path}{only}")
        }
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => {
            let also = groups_param
                .as_ref()
                .map_or(String::new(), |how| format!(" ({how})"));
            format!("{} on the groups of the user{also}", privileges.join("+"))
        }
        Check::UserIdParam(what) if what == "self" => "the user itself".to_owned(),
        Check::UserIdParam(privilege) => format!("{privilege} on the realm of the user"),
        Check::PermModify(path) => format!("may change permissions on {path}"),
        Check::UserParam(parameter) => format!("the user named by {parameter}"),
        Check::Roles(roles) => format!("role {}", roles.join("|")),
    }
}

/// The changed aspects of one thing.
#[derive(Default)]
struct Aspects(Vec<String>);

impl Aspects {
    fn value<T: PartialEq + fmt::Display>(&mut self, what: &str, old: &Option<T>, new: &Option<T>) {
        if old == new {
            return;
        }
        let show = |value: &Option<T>| {
            value
                .as_ref()
                .map_or("none".to_owned(), |value| format!("{value}"))
        };
        self.0.push(format!("{what} {} → {}", show(old), show(new)));
    }

    fn text(&mut self, what: &str, old: &Option<String>, new: &Option<String>) {
        let quote = |text: &Option<String>| text.as_ref().map(|text| format!("`{text}`"));
        self.value(what, &quote(old), &quote(new));
    }

    /// For a pattern that is too long to read, only reports that it changed.
    fn pattern(&mut self, old: &Option<String>, new: &Option<String>) {
        const READABLE: usize = 60;
        if [old, new]
            .into_iter()
            .flatten()
            .all(|pattern| pattern.len() <= READABLE)
        {
            return self.text("pattern", old, new);
        }
        if old != new {
            self.0.push(
                match (old, new) {
                    (None, _) => "has a pattern now",
                    (_, None) => "no longer has a pattern",
                    _ => "pattern changed",
                }
                .to_owned(),
            );
        }
    }

    fn set(&mut self, what: &str, old: &Option<Vec<String>>, new: &Option<Vec<String>>) {
        let list = |values: Vec<&String>| {
            let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            quoted.join(", ")
        };
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => self
                .0
                .push(format!("limited to {what} {}", list(new.iter().collect()))),
            (Some(_), None) => self.0.push(format!("no longer limited to certain {what}")),
            (Some(old), Some(new)) => {
                let gone: Vec<&String> = old.iter().filter(|value| !new.contains(value)).collect();
                let come: Vec<&String> = new.iter().filter(|value| !old.contains(value)).collect();
                if !come.is_empty() {
                    self.0.push(format!("{what} added: {}", list(come)));
                }
                if !gone.is_empty() {
                    self.0.push(format!("{what} removed: {}", list(gone)));
                }
            }
        }
    }
}

/// Collects the changes of one part.
struct PartChanges {
    part: Part,
    changes: Vec<Change>,
}

impl PartChanges {
    fn new(part: Part) -> PartChanges {
        let changes = Vec::new();
        PartChanges { part, changes }
    }

    fn push(&mut self, place: &str, kind: ChangeKind) {
        self.changes.push(Change {
            part: self.part,
            place: place.to_owned(),
            kind,
        });
    }

    fn aspects(&mut self, place: &str, aspects: Aspects) {
        if !aspects.0.is_empty() {
            self.push(place, ChangeKind::Changed(aspects.0));
        }
    }

    fn schemas(&mut self, place: &str, old: &Schemas, new: &Schemas) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let place = if place.is_empty() {
                name.clone()
            } else {
                format!("{place}.{name}")
            };
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => self.schema(&place, old, new),
                (None, Some(new)) => self.push(&place, ChangeKind::Added(brief(new))),
                (_, None) => self.push(&place, ChangeKind::Removed),
            }
        }
    }

    fn schema(&mut self, place: &str, old: &Schema, new: &Schema) {
        let mut aspects = Aspects::default();
        aspects.value("type", &old.ty.map(Type::name), &new.ty.map(Type::name));
        if old.optional != new.optional {
            let now = if new.optional {
                "now optional"
            } else {
                "now required"
            };
            aspects.0.push(now.to_owned());
        }
        aspects.value("default", &old.default, &new.default);
        aspects.set("values", &old.values, &new.values);
        aspects.value("minimum", &old.minimum, &new.minimum);
        aspects.value("maximum", &old.maximum, &new.maximum);
        aspects.value("minimum length", &old.min_length, &new.min_length);
        aspects.value("maximum length", &old.max_length, &new.max_length);
        aspects.pattern(&old.pattern, &new.pattern);
        aspects.value("format", &format_name(old), &format_name(new));
        aspects.text("requires", &old.requires, &new.requires);
        aspects.text("alias of", &old.alias, &new.alias);
        aspects.text("sets", &old.key_alias, &new.key_alias);
        if old.default_key != new.default_key {
            let now = if new.default_key {
                "its key may be omitted"
            } else {
                "its key is required"
            };
            aspects.0.push(now.to_owned());
        }
        aspects.text("distinguished by", &old.type_property, &new.type_property);
        aspects.set("cases", &old.instance_types, &new.instance_types);
        aspects.text("unit", &old.renderer, &new.renderer);
        aspects.value("links", &links(old), &links(new));
        aspects.value("further fields", &further(old), &further(new));
        self.aspects(place, aspects);

        if let (Some(Format::Keys(old)), Some(Format::Keys(new))) = (&old.format, &new.format) {
            self.schemas(place, old, new);
        }
        if let (Some(Format::List(old)), Some(Format::List(new))) = (&old.format, &new.format) {
            self.schema(&format!("{place}[]"), old, new);
        }
        self.nested(
            &format!("{place}[]"),
            old.items.as_deref(),
            new.items.as_deref(),
        );
        let empty = Schemas::new();
        self.schemas(
            place,
            old.properties.as_ref().unwrap_or(&empty),
            new.properties.as_ref().unwrap_or(&empty),
        );
        self.nested(&format!("{place}.*"), additional(old), additional(new));
        self.alternatives(place, old, new);
    }

    fn nested(&mut self, place: &str, old: Option<&Schema>, new: Option<&Schema>) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => self.schema(place, old, new),
            (None, Some(new)) => self.push(place, ChangeKind::Added(brief(new))),
            (Some(_), None) => self.push(place, ChangeKind::Removed),
        }
    }

    /// Alternatives are paired by their cases.
    fn alternatives(&mut self, place: &str, old: &Schema, new: &Schema) {
        let by_case = |schema: &Schema| -> BTreeMap<String, Schema> {
            schema
                .one_of
                .iter()
                .flatten()
                .flat_map(|alternative| {
                    let cases = alternative.instance_types.iter().flatten();
                    cases.map(|case| {
                        let mut alternative = alternative.clone();
                        alternative.instance_types = None;
                        (case.clone(), alternative)
                    })
                })
                .collect()
        };
        let (old, new) = (by_case(old), by_case(new));
        let cases: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for case in cases {
            self.nested(&format!("{place}|{case}"), old.get(case), new.get(case));
        }
    }
}

fn format_name(schema: &Schema) -> Option<String> {
    schema.format.as_ref().map(|format| match format {
        Format::Name(name) => format!("`{name}`"),
        Format::Keys(_) => "keys".to_owned(),
        Format::List(_) => "list".to_owned(),
    })
}

fn links(schema: &Schema) -> Option<String> {
    schema.links.as_ref().map(|links| links.join(", "))
}

fn further(schema: &Schema) -> Option<&'static str> {
    match schema.additional {
        Some(Additional::Allowed(true)) => Some("allowed"),
        Some(Additional::Allowed(false)) => Some("not allowed"),
        Some(Additional::Schema(_)) | None => None,
    }
}

/// The schema of fields with names of their own.
fn additional(schema: &Schema) -> Option<&Schema> {
    match &schema.additional {
        Some(Additional::Schema(inner)) => Some(inner),
        _ => None,
    }
}

/// A short description of a new parameter or field.
fn brief(schema: &Schema) -> String {
    let mut words = Vec::new();
    if let Some(alias) = &schema.alias {
        words.push(format!("alias of `{alias}`"));
    }
    words.extend(schema.ty.map(|ty| ty.name().to_owned()));
    match &schema.format {
        Some(Format::Name(name)) => words.push(format!("`{name}`")),
        Some(Format::Keys(keys)) => words.push(format!("property string of {} keys", keys.len())),
        Some(Format::List(_)) => words.push("list".to_owned()),
        None => {}
    }
    if let Some(values) = &schema.values {
        let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        words.push(match quoted.len() {
            0..=8 => quoted.join(" | "),
            n => format!("one of {n} values"),
        });
    }
    match (&schema.minimum, &schema.maximum) {
        (Some(minimum), Some(maximum)) => words.push(format!("{minimum} to {maximum}")),
        (Some(minimum), None) => words.push(format!("from {minimum}")),
        (None, Some(maximum)) => words.push(format!("up to {maximum}")),
        (None, None) => {}
    }
    words.extend(
        schema
            .default
            .as_ref()
            .map(|default| format!("default {default}")),
    );
    if !schema.optional && schema.alias.is_none() {
        words.push("required".to_owned());
    }
    words.join(", ")
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {} → {}", self.from, self.to)?;
        if self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.formats.is_empty()
        {
            return writeln!(f, "\nNo differences.");
        }
        if !self.added.is_empty() {
            writeln!(f, "\n### Endpoints added ({})\n", self.added.len())?;
            for name in &self.added {
                writeln!(f, "- `{name}`")?;
                for line in self.about.get(name).into_iter().flatten() {
                    writeln!(f, "  - {line}")?;
                }
            }
        }
        paths(f, "Endpoints removed", &self.removed)?;
        if !self.formats.is_empty() {
            writeln!(f, "\n### Property strings\n")?;
            for (name, changes) in &self.formats {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                writeln!(f, "- `{name}`: {}", changes.join("; "))?;
            }
        }

        let mut wide: BTreeMap<&Change, Vec<&Name>> = BTreeMap::new();
        for (name, changes) in &self.changed {
            for change in changes {
                wide.entry(change).or_default().push(name);
            }
        }
        wide.retain(|_, names| names.len() >= MANY);
        if !wide.is_empty() {
            writeln!(f, "\n### Changed in several endpoints\n")?;
            for (change, names) in &wide {
                let first_names: Vec<String> = names
                    .iter()
                    .take(SHOWN)
                    .map(|name| format!("`{name}`"))
                    .collect();
                writeln!(
                    f,
                    "- {change} ({} and {} more)",
                    first_names.join(", "),
                    names.len() - SHOWN
                )?;
            }
        }
        // Endpoints with the very same changes share an entry, at the place of the first of them.
        let mut own: Vec<(Vec<&Name>, Vec<&Change>)> = Vec::new();
        for (name, changes) in &self.changed {
            let changes: Vec<&Change> = changes
                .iter()
                .filter(|change| !wide.contains_key(change))
                .collect();
            if changes.is_empty() {
                continue;
            }
            match own.iter_mut().find(|(_, known)| *known == changes) {
                Some((names, _)) => names.push(name),
                None => own.push((vec![name], changes)),
            }
        }
        if !own.is_empty() {
            let count: usize = own.iter().map(|(names, _)| names.len()).sum();
            writeln!(f, "\n### Endpoints changed ({count})\n")?;
            for (names, changes) in own {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                writeln!(f, "- {}", names.join(", "))?;
                for change in changes {
                    writeln!(f, "  - {change}")?;
                }
            }
        }
        Ok(())
    }
}

fn paths(f: &mut fmt::Formatter<'_>, title: &str, names: &[Name]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n### {title} ({})\n", names.len())?;
    let mut by_path: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in names {
        by_path
            .entry(&name.path)
            .or_default()
            .push(name.method.to_string());
    }
    for (path, methods) in by_path {
        writeln!(f, "- `{path}`: {}", methods.join(", "))?;
    }
    Ok(())
}
