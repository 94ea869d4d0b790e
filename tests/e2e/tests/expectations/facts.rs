//! The crate's types compared with the facts, by code that it does not share with the generator.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_codegen::facts::{Additional, Endpoint, Facts, Format, Schema, Schemas, Type};
use proxmox_e2e::REQUESTS;
use proxmox_e2e::shape::{Item, Member, Returns, Shapes, Ty};

/// Compares schemas with shapes, and records the members of items that any schema has.
struct Comparison<'a> {
    shapes: &'a Shapes,
    formats: &'a BTreeMap<String, Schemas>,
    /// The places compared so far. Newer releases come first, and take precedence.
    compared_places: BTreeSet<String>,
    /// Within a property string in its parsed form: the type is that of its text, which requires keys
    /// that the schema calls optional, and has lists for arrays.
    in_property_string: bool,
    described: BTreeSet<(String, String)>,
    compared: usize,
    /// Strings with a more precise type, from the other side of a setting or from the overlay.
    more_precise: usize,
    problems: BTreeSet<String>,
}

/// The type without regard to optionality.
fn without_option(ty: &Ty) -> &Ty {
    match ty {
        Ty::Optional(of) | Ty::Pending(of) => without_option(of),
        ty => ty,
    }
}

impl<'a> Comparison<'a> {
    fn new(shapes: &'a Shapes, formats: &'a BTreeMap<String, Schemas>) -> Self {
        Self {
            shapes,
            formats,
            compared_places: BTreeSet::new(),
            in_property_string: false,
            described: BTreeSet::new(),
            compared: 0,
            more_precise: 0,
            problems: BTreeSet::new(),
        }
    }

    fn report(&mut self, place: &str, expected: &str, ty: &Ty) {
        self.problems.insert(format!(
            "{place}: the facts have {expected}, the type is {ty:?}"
        ));
    }

    fn item(&self, ty: &Ty) -> Option<(String, &'a Item)> {
        match ty {
            Ty::Item(name) => Some((name.clone(), &self.shapes.items[name])),
            _ => None,
        }
    }

    /// The dumps spell out a few levels of such a type, and end there.
    fn is_recursive(&self, ty: &Ty) -> bool {
        let Some((own, Item::Struct(members))) = self.item(ty) else {
            return false;
        };
        let holds = |member: &Member| matches!(&member.ty, Ty::Array(of) if matches!(&**of, Ty::Item(name) if *name == own));
        members.iter().any(holds)
    }

    fn compare(&mut self, place: &str, schema: &Schema, ty: &Ty) {
        let ty = without_option(ty);
        if let Some(choices) = &schema.one_of {
            for choice in choices {
                self.compare(place, choice, ty);
            }
            return;
        }
        let is_new = self.compared_places.insert(place.to_owned());
        self.compared += usize::from(is_new);
        let implied = match schema {
            Schema {
                properties: Some(_),
                ..
            }
            | Schema {
                additional: Some(Additional::Schema(_)),
                ..
            } => Type::Object,
            Schema { items: Some(_), .. } => Type::Array,
            _ => Type::Any,
        };
        match schema.ty.unwrap_or(implied) {
            Type::Array => match ty {
                Ty::List(_) if self.in_property_string => {}
                Ty::Array(of) => {
                    if let Some(items) = &schema.items {
                        self.compare(&format!("{place}[]"), items, of);
                    }
                }
                _ if is_new => self.report(place, "an array", ty),
                _ => {}
            },
            Type::Object => self.object(place, schema, ty, is_new),
            Type::String => self.text(place, schema, ty, is_new),
            _ if !is_new => {}
            Type::Boolean if !matches!(ty, Ty::Boolean) => self.report(place, "a boolean", ty),
            Type::Integer if !matches!(ty, Ty::Integer | Ty::Bytes | Ty::Vmid) => {
                self.report(place, "an integer", ty);
            }
            Type::Number if !matches!(ty, Ty::Number) => self.report(place, "a number", ty),
            Type::Null | Type::Any if !matches!(ty, Ty::Json) && !self.is_recursive(ty) => {
                self.report(place, "nothing", ty);
            }
            _ => {}
        }
    }

    fn text(&mut self, place: &str, schema: &Schema, ty: &Ty, is_new: bool) {
        let keys = match &schema.format {
            Some(Format::Keys(keys)) => Some(keys),
            Some(Format::Name(name)) => self.formats.get(name),
            _ => None,
        };
        if let Some(keys) = keys {
            let keys = keys.clone();
            match self.item(ty) {
                Some((name, Item::Properties(string))) => {
                    let own = keys.iter().filter(|(_, key)| key.alias.is_none());
                    let own = own.filter(|(name, _)| {
                        // `virtio=MAC` is another spelling of two keys, and a newer release may
                        // have a key as an alias.
                        let mut aliases = string.key_aliases.iter().map(|(from, ..)| from);
                        !aliases.any(|from| from == *name)
                            && !string.aliases.iter().any(|(from, _)| from == *name)
                    });
                    let own: Vec<_> = own.collect();
                    self.members(place, &name, own, &string.keys);
                }
                _ if is_new => self.report(place, "a property string", ty),
                _ => {}
            }
            return;
        }
        if !is_new {
            return;
        }
        let is_list = matches!(&schema.format, Some(Format::Name(name)) if name.ends_with("-list"));
        match (&schema.values, self.item(ty), ty) {
            (Some(values), Some((_, Item::Enum(known))), _) => {
                for value in values.iter().filter(|value| !known.contains(value)) {
                    self.report(place, &format!("the value {value:?}"), ty);
                }
            }
            (Some(_), ..) => self.report(place, "an enum", ty),
            (None, _, Ty::List(_)) => {}
            (None, _, Ty::Text) if is_list => {}
            (None, ..) if is_list => self.report(place, "a list", ty),
            (None, _, Ty::Text | Ty::Vmid) => {}
            (None, Some((_, Item::Enum(_) | Item::Properties(_))), _) => self.more_precise += 1,
            (None, ..) => self.report(place, "a text", ty),
        }
    }

    fn object(&mut self, place: &str, schema: &Schema, ty: &Ty, is_new: bool) {
        let declared: Vec<(&String, &Schema)> = schema
            .properties
            .iter()
            .flatten()
            // Old dumps describe a map as one member named `x.{id}`.
            .filter(|(name, _)| !name.contains('{'))
            .collect();
        match (ty, &schema.additional) {
            (Ty::Map(of), Some(Additional::Schema(values))) => {
                self.compare(&format!("{place}.*"), values, of);
            }
            (Ty::Json | Ty::Map(_), _) if declared.is_empty() => {}
            _ => match self.item(ty) {
                Some((name, Item::Struct(members))) => {
                    self.members(place, &name, declared, members);
                }
                // Some handlers return a property string in its parsed form.
                Some((name, Item::Properties(string))) => {
                    let outer = std::mem::replace(&mut self.in_property_string, true);
                    self.members(place, &name, declared, &string.keys);
                    self.in_property_string = outer;
                }
                _ if is_new => self.report(place, "an object", ty),
                _ => {}
            },
        }
    }

    fn members(
        &mut self,
        place: &str,
        item: &str,
        declared: Vec<(&String, &Schema)>,
        members: &[Member],
    ) {
        for (name, schema) in declared {
            let base = name.strip_suffix("[n]").unwrap_or(name);
            let place = format!("{place}.{name}");
            let indexed = name.ends_with("[n]");
            let has_name = |member: &&Member| member.name == base && member.indexed == indexed;
            let Some(member) = members.iter().find(has_name) else {
                self.problems
                    .insert(format!("{place}: {item} has no such member"));
                continue;
            };
            if member.required && schema.optional && !self.in_property_string {
                self.problems
                    .insert(format!("{place}: optional, and required in {item}"));
            }
            self.described.insert((item.to_owned(), base.to_owned()));
            self.compare(&place, schema, &member.ty);
        }
    }

    fn answer(&mut self, key: &str, endpoint: &Endpoint) {
        let (schema, place) = (&endpoint.returns, format!("{key}#"));
        if let Returns::Data(ty) = &self.shapes.answers[key] {
            return self.compare(&place, schema, ty);
        }
        if !self.compared_places.insert(place.clone()) {
            return;
        }
        match (&self.shapes.answers[key], schema.ty) {
            (Returns::Nothing, None | Some(Type::Null | Type::Any))
            | (Returns::Task { .. }, Some(Type::String))
            | (Returns::Bytes, _) => {}
            (returns, ty) => drop(self.problems.insert(format!(
                "{place}: the facts have {ty:?}, the type is {returns:?}"
            ))),
        }
    }
}

#[test]
fn types_match_the_facts() {
    let shapes = Shapes::get();
    let releases = crate::releases::corrected();
    let none = BTreeMap::new();
    let mut comparison = Comparison::new(shapes, &none);
    // A renamed parameter keeps its first name.
    let renamed: BTreeMap<(&str, &str), &str> = REQUESTS
        .iter()
        .flat_map(|request| {
            let known = (request.build)()
                .endpoint()
                .map_or(&[][..], |endpoint| endpoint.renamed);
            known
                .iter()
                .map(|renamed| ((request.endpoint, renamed.new), renamed.old))
        })
        .collect();
    let mut accepted: BTreeSet<(String, String)> = BTreeSet::new();
    for facts in releases.iter().rev() {
        comparison.formats = &facts.formats;
        for (key, path, endpoint) in endpoints(facts) {
            let parameters = &shapes.parameters[&key];
            for (name, schema) in &endpoint.parameters.properties {
                if path.contains(&format!("{{{name}}}")) {
                    continue;
                }
                let name = renamed
                    .get(&(key.as_str(), name.as_str()))
                    .map_or(name.as_str(), |old| old);
                accepted.insert((key.clone(), name.to_owned()));
                let place = format!("{key}?{name}");
                match parameters.get(name) {
                    Some(ty) => comparison.compare(&place, schema, ty),
                    None => drop(
                        comparison
                            .problems
                            .insert(format!("{place}: is not accepted")),
                    ),
                }
            }
            comparison.answer(&key, endpoint);
        }
    }
    let mut problems = comparison.problems;
    for (key, parameters) in &shapes.parameters {
        let unknown = parameters
            .keys()
            .filter(|name| !accepted.contains(&(key.clone(), (*name).clone())));
        problems.extend(unknown.map(|name| format!("{key}?{name}: no release has it")));
    }
    for (name, item) in &shapes.items {
        let members = match item {
            Item::Enum(_) => continue,
            Item::Struct(members) => members,
            Item::Properties(string) => &string.keys,
        };
        for member in members {
            if !comparison
                .described
                .contains(&(name.clone(), member.name.clone()))
            {
                problems.insert(format!("{name}.{}: no release has it", member.name));
            }
        }
    }
    println!(
        "{} places have the types of {} releases; {} texts have a more precise type",
        comparison.compared,
        releases.len(),
        comparison.more_precise
    );
    let all: Vec<String> = problems.into_iter().collect();
    assert!(all.is_empty(), "{}:\n{}", all.len(), all.join("\n"));
}

fn endpoints(facts: &Facts) -> impl Iterator<Item = (String, &str, &Endpoint)> {
    facts.endpoints.iter().flat_map(|(path, methods)| {
        let of = move |(method, endpoint)| (format!("{method} {path}"), path.as_str(), endpoint);
        methods.iter().map(of)
    })
}

#[test]
fn a_type_that_contradicts_the_facts_is_found() {
    let none = BTreeMap::new();
    let array = Schema {
        items: Some(Box::new(Schema::of(Type::Integer))),
        ..Schema::of(Type::Array)
    };
    let object = |member: &str| Schema {
        properties: Some(Schemas::from([(
            member.to_owned(),
            Schema::of(Type::Integer),
        )])),
        ..Schema::of(Type::Object)
    };
    let list = Schema {
        format: Some(Format::Name("pve-node-list".to_owned())),
        ..Schema::of(Type::String)
    };
    let index = || Ty::Item("CephOsdNode".to_owned());
    for (schema, ty, fits) in [
        (Schema::of(Type::Boolean), Ty::Boolean, true),
        (Schema::of(Type::Boolean), Ty::Text, false),
        (
            Schema::of(Type::Integer),
            Ty::Optional(Box::new(Ty::Vmid)),
            true,
        ),
        (Schema::of(Type::Integer), Ty::Number, false),
        (Schema::of(Type::String), Ty::Integer, false),
        (array.clone(), Ty::Array(Box::new(Ty::Integer)), true),
        (array.clone(), Ty::Array(Box::new(Ty::Text)), false),
        (array, Ty::List(Box::new(Ty::Integer)), false),
        (list.clone(), Ty::List(Box::new(Ty::Text)), true),
        (list, Ty::Boolean, false),
        (object("id"), index(), true),
        (object("missing"), index(), false),
        (object("id"), Ty::Text, false),
    ] {
        let mut comparison = Comparison::new(Shapes::get(), &none);
        comparison.compare("GET /place#", &schema, &ty);
        assert_eq!(comparison.problems.is_empty(), fits, "{schema:?} as {ty:?}");
    }
}
