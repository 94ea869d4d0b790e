//! From the union to the intermediate representation.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::properties::{collect_properties, merge_fields};
use super::settings::with_settings;
use super::{
    Api, Endpoint, Item, ItemId, ItemKind, Member, Parameter, PropertyString, Returns, Ty,
    ValueFacts, placeholders,
};
use crate::facts::Method;
use crate::limits::Limits;
use crate::overlay::{Overlay, Split};
use crate::place::Place;
use crate::privileges::Privilege;
use crate::union::{Field, Fields, Kind, Node, Presence, Properties, Union, add_values};

/// The key by which equal items become one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    /// The same values under the same name.
    Enum(String, Vec<String>),
    /// By the name that the overlay gives.
    NamedEnum(String),
    PropertyString(String),
    Struct(Vec<(String, bool, Ty, bool)>),
}

/// Lowers the union; problems are reported through the overlay.
pub(crate) fn lower(union: &Union, overlay: &Overlay) -> Api {
    let mut lowering = Lowering {
        overlay,
        releases: union.releases.len(),
        properties: collect_properties(union, overlay),
        shapes: BTreeMap::new(),
        items: Vec::new(),
        required_with_reason: 0,
        required_without_reason: BTreeSet::new(),
    };
    let endpoints = union
        .endpoints
        .iter()
        .map(|((path, method), endpoint)| lowering.endpoint(path, *method, endpoint))
        .collect();
    let endpoints = with_settings(endpoints, union, &lowering.items, overlay);
    for item in &mut lowering.items {
        item.places.sort();
        item.places.dedup();
    }
    Api {
        product: union.product,
        releases: union.releases.clone(),
        endpoints,
        items: lowering.items,
        required_with_reason: lowering.required_with_reason,
        required_without_reason: lowering.required_without_reason,
    }
}

struct Lowering<'a> {
    overlay: &'a Overlay,
    releases: usize,
    /// By name, all places merged.
    properties: BTreeMap<String, Properties>,
    shapes: BTreeMap<Shape, ItemId>,
    items: Vec<Item>,
    required_with_reason: usize,
    required_without_reason: BTreeSet<String>,
}

impl Lowering<'_> {
    fn endpoint(
        &mut self,
        path: &str,
        method: Method,
        endpoint: &crate::union::Endpoint,
    ) -> Endpoint {
        let at = Place {
            path: path.to_owned(),
            method,
            fields: Vec::new(),
            element: false,
            result: false,
            owner: None,
        };
        let key = format!("{method} {path}");
        let placeholders: Vec<Parameter> = placeholders(path)
            .map(|name| match endpoint.parameters.get(name) {
                Some(field) => Parameter {
                    required: true,
                    ..self.parameter(&at, name, field, endpoint.presence)
                },
                // The dump omits a few, although they are part of the path.
                None => Parameter {
                    name: name.to_owned(),
                    rust_name: None,
                    ty: Ty::Text,
                    required: true,
                    presence: endpoint.presence,
                    secret: false,
                    separator: None,
                    limits: Limits::default(),
                    facts: ValueFacts::default(),
                },
            })
            .collect();
        let mut parameters: Vec<Parameter> = endpoint
            .parameters
            .iter()
            .filter(|(name, _)| {
                !placeholders
                    .iter()
                    .any(|placeholder| placeholder.name == **name)
            })
            .map(|(name, field)| self.parameter(&at, name, field, endpoint.presence))
            .collect();
        let order = self.overlay.argument_order(&key);
        let rank = |parameter: &Parameter| {
            let position = order.iter().position(|name| *name == parameter.name);
            (
                !parameter.required,
                position.unwrap_or(order.len()),
                parameter.name.clone(),
            )
        };
        parameters.sort_by_key(rank);
        let returns = self.returns(&Place { result: true, ..at }, &key, endpoint);
        let known: Vec<&str> = placeholders
            .iter()
            .chain(&parameters)
            .map(|parameter| parameter.name.as_str())
            .collect();
        let privileges: Vec<Privilege> = self
            .overlay
            .privileges(&key, &known)
            .into_iter()
            .map(Cow::into_owned)
            .collect();
        let may_check_more = endpoint
            .permissions
            .as_ref()
            .is_some_and(|permissions| permissions.described || permissions.check.is_none());
        let declared = self.overlay.is_declared(&key);
        if declared && !(may_check_more && privileges.is_empty()) {
            self.overlay.mismatch(format!(
                "privileges.toml: the checks of {key} are known; remove it from [declared]"
            ));
        }
        let newest = endpoint.presence.has(self.releases - 1);
        Endpoint {
            path: path.to_owned(),
            method,
            presence: endpoint.presence,
            allowtoken: endpoint.allowtoken,
            download: endpoint.download,
            permissions: endpoint.permissions.clone(),
            unreviewed: newest && may_check_more && !declared && privileges.is_empty(),
            privileges,
            placeholders,
            parameters,
            returns,
            renamed: self.overlay.renamed(&key),
            settings: Vec::new(),
        }
    }

    fn parameter(
        &mut self,
        at: &Place,
        name: &str,
        field: &Field,
        owner_presence: Presence,
    ) -> Parameter {
        let at = at.down(name);
        let ty = self.ty(&at, &field.node);
        let is_secret = self.overlay.is_secret(&at, &field.node);
        let secret = is_secret || self.holds_secret(&ty);
        let separator = match ty {
            Ty::List(_) => self.overlay.list(&at).map(Split::separator),
            _ => None,
        };
        Parameter {
            name: name.to_owned(),
            rust_name: self.overlay.name_at(&at),
            ty: if is_secret { hidden(ty) } else { ty },
            required: !field.node.optional && field.presence.covers(owner_presence),
            presence: field.presence,
            secret,
            separator,
            limits: limits(&field.node),
            facts: ValueFacts::of(&field.node),
        }
    }

    fn returns(&mut self, at: &Place, key: &str, endpoint: &crate::union::Endpoint) -> Returns {
        let node = &endpoint.returns;
        if self.overlay.answers_bytes(key) {
            return Returns::Bytes;
        }
        if matches!(node.kind, Kind::Null) {
            return Returns::Nothing;
        }
        if matches!(node.kind, Kind::String) {
            match self.overlay.string_result(key) {
                Some(crate::overlay::StringResult::Text) => {}
                Some(crate::overlay::StringResult::Task { optional }) => {
                    return Returns::Task {
                        optional: optional || node.optional,
                    };
                }
                None => self.overlay.problem(format!(
                    "{key}: the result is a string; say in returns.toml whether it names a task: `\"{key}\",` in `tasks`, or \
                     `\"{key}\" = \"what it says\"` under [texts]"
                )),
            }
        }
        let ty = self.ty(at, node);
        let ty = match self.overlay.is_secret(at, node) {
            true => self.hidden_member(at, ty),
            false => ty,
        };
        Returns::Data(match node.optional {
            true => Ty::Optional(Box::new(ty)),
            false => ty,
        })
    }

    fn ty(&mut self, at: &Place, node: &Node) -> Ty {
        match &node.kind {
            Kind::Null | Kind::Any => Ty::Json,
            Kind::Boolean => Ty::Boolean,
            Kind::Integer if self.overlay.is_guest_number(at, node.format.as_deref()) => {
                Ty::GuestNumber
            }
            Kind::Integer => self.integer(at, node),
            Kind::Number => Ty::Number,
            Kind::String if self.overlay.is_volume_id(at) => Ty::TextType("VolumeId".to_owned()),
            Kind::String => self.text_at(at, node.format.as_deref()),
            Kind::Enum(values) => {
                let leaf = at.fields.last().map_or("", String::as_str);
                let shape = match self.overlay.enum_name(at) {
                    Some(name) => Shape::NamedEnum(name.to_owned()),
                    None => {
                        let mut texts: Vec<String> =
                            values.iter().map(|(text, _)| text.clone()).collect();
                        texts.sort();
                        Shape::Enum(leaf.to_owned(), texts)
                    }
                };
                let id = self.intern(shape, at, || ItemKind::Enum(values.clone()));
                self.add_enum_values(id, values, at);
                Ty::Item(id)
            }
            Kind::Properties(_) => self.property_string(at, node),
            Kind::Array(items) => Ty::Array(Box::new(self.ty(&at.element(), items))),
            Kind::Map(values) => Ty::Map(Box::new(self.ty(&at.down("*"), values))),
            Kind::Object(fields) if self.overlay.recursion(at).is_some() => {
                self.recursive(at, fields)
            }
            Kind::Object(fields) => {
                let owner_presence = fields
                    .values()
                    .fold(Presence::default(), |all, field| all.or(field.presence));
                let members = self.members(at, fields, owner_presence);
                self.structure(at, members)
            }
        }
    }

    /// The type of an object with these members: the same for all objects of one shape.
    fn structure(&mut self, at: &Place, members: Vec<Member>) -> Ty {
        let shape = members
            .iter()
            .map(|m| (m.shape_name(), m.indexed, m.ty.clone(), m.required))
            .collect();
        let mut members = Some(members);
        let id = self.intern(Shape::Struct(shape), at, || {
            ItemKind::Struct(members.take().unwrap_or_default())
        });
        // Left if another object has this shape already.
        if let (ItemKind::Struct(known), Some(members)) = (&mut self.items[id].kind, members) {
            for (known, member) in known.iter_mut().zip(members) {
                known.presence = known.presence.or(member.presence);
                known.owner_presence = known.owner_presence.or(member.owner_presence);
                known.facts.keep_common(&member.facts);
            }
        }
        Ty::Item(id)
    }

    /// An object that contains objects of its own kind: one type with the members of all levels in
    /// the dumps.
    fn recursive(&mut self, at: &Place, fields: &Fields) -> Ty {
        let name = self.overlay.recursion(at).unwrap_or_default().to_owned();
        let owner_presence = fields
            .values()
            .fold(Presence::default(), |all, field| all.or(field.presence));
        let mut all = fields.clone();
        let holder = all.remove(&name);
        let mut next_level = holder.clone();
        while let Some(field) = next_level.take() {
            if let Kind::Array(items) = field.node.kind
                && let Kind::Object(mut fields) = items.kind
            {
                next_level = fields.remove(&name);
                merge_fields(&mut all, &fields);
            }
        }
        let mut members = self.members(at, &all, owner_presence);
        let id = self.items.len();
        match holder {
            Some(holder) => {
                let member = Member {
                    rust_name: None,
                    name: name.clone(),
                    indexed: false,
                    ty: Ty::Array(Box::new(Ty::Item(id))),
                    required: false,
                    presence: holder.presence,
                    owner_presence,
                    limits: limits(&holder.node),
                    facts: ValueFacts::of(&holder.node),
                };
                let index = members.partition_point(|member| member.name < name);
                members.insert(index, member);
            }
            None => self
                .overlay
                .mismatch(format!("{}: has no member {name}", at.key())),
        }
        self.items.push(Item {
            kind: ItemKind::Struct(members),
            places: vec![at.clone()],
        });
        Ty::Item(id)
    }

    /// The meaning of an integer.
    fn integer(&self, at: &Place, node: &Node) -> Ty {
        let listed = (self.overlay.is_byte_count(at), self.overlay.is_time(at));
        match (node.renderer.as_deref(), listed) {
            (Some("bytes"), _) | (_, (true, _)) => Ty::Bytes,
            (Some("timestamp" | "timestamp_gmt"), _) | (_, (_, true)) => Ty::Time,
            _ => Ty::Integer,
        }
    }

    /// The type of a member that must not be printed.
    fn hidden_member(&self, at: &Place, ty: Ty) -> Ty {
        let hidden = hidden(ty);
        if !self.holds_secret(&hidden) {
            self.overlay.problem(format!(
                "{}: secrets.toml lists it as a secret, but the crate cannot hide values of its type",
                at.key()
            ));
        }
        hidden
    }

    /// Whether a property string has a key that must not be printed.
    fn holds_secret(&self, ty: &Ty) -> bool {
        match ty {
            Ty::Secret => true,
            Ty::Array(of) | Ty::List(of) | Ty::Map(of) | Ty::Optional(of) => self.holds_secret(of),
            Ty::Item(id) => match &self.items[*id].kind {
                ItemKind::PropertyString(string) => {
                    string.members.iter().any(|member| member.ty == Ty::Secret)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn text_at(&self, at: &Place, format: Option<&str>) -> Ty {
        let ty = self.text(format);
        let split = match ty {
            Ty::List(_) => self.overlay.list(at),
            _ => self.overlay.undeclared_list(at),
        };
        match (split, &ty) {
            (None, Ty::List(_)) if !at.result => self.overlay.problem(format!(
                "{0}: say in lists.toml how the server splits this list: `[[list]]`, `at = [\"{0}\"]`, `split = \"comma\"`, \
                 `source = \"the file and line that splits it\"`",
                at.key()
            )),
            (Some(Split::Comma | Split::Blank | Split::Nul), _) if at.owner.is_some() => {
                self.overlay.problem(format!(
                    "{}: within a property string lists are written with semicolons",
                    at.key()
                ));
            }
            _ => {}
        }
        match (split, ty) {
            (Some(_), ty @ Ty::List(_)) | (None, ty) => ty,
            (Some(_), ty) => Ty::List(Box::new(ty)),
        }
    }

    fn text(&self, format: Option<&str>) -> Ty {
        let Some(format) = format else {
            return Ty::Text;
        };
        if let Some(name) = self.overlay.text_type(format) {
            return Ty::TextType(name);
        }
        match format.strip_suffix("-list") {
            Some(of) if self.overlay.has_guest_numbers(of) => Ty::List(Box::new(Ty::GuestNumber)),
            Some(of) => Ty::List(Box::new(self.text(Some(of)))),
            None => Ty::Text,
        }
    }

    fn members(&mut self, at: &Place, fields: &Fields, owner_presence: Presence) -> Vec<Member> {
        let pending = self.overlay.is_pending(at);
        fields
            .iter()
            .map(|(name, field)| {
                let at = at.down(name);
                let base = name.strip_suffix("[n]");
                let mut required =
                    base.is_none() && !field.node.optional && field.presence.covers(owner_presence);
                if required && at.result && at.owner.is_none() {
                    match self.overlay.is_always_present(&at) {
                        true => self.required_with_reason += 1,
                        false => {
                            required = false;
                            self.required_without_reason.insert(at.key());
                        }
                    }
                }
                let ty = self.ty(&at, &field.node);
                let ty = match self.overlay.is_secret(&at, &field.node) {
                    true => self.hidden_member(&at, ty),
                    false => ty,
                };
                Member {
                    name: base.unwrap_or(name).to_owned(),
                    rust_name: self.overlay.name_at(&at),
                    indexed: base.is_some(),
                    ty: match pending {
                        true => Ty::Pending(Box::new(ty)),
                        false => ty,
                    },
                    required,
                    presence: field.presence,
                    owner_presence,
                    limits: limits(&field.node),
                    facts: ValueFacts::of(&field.node),
                }
            })
            .collect()
    }

    fn property_string(&mut self, at: &Place, node: &Node) -> Ty {
        // `collect_properties` has reported places without a name.
        let Some(name) = self.overlay.property_string_name(at, node) else {
            return Ty::Text;
        };
        let Some(properties) = self.properties.get(&name).cloned() else {
            return Ty::Text;
        };
        let owner_presence = properties
            .fields
            .values()
            .fold(Presence::default(), |all, field| all.or(field.presence));
        // Keys are visited once for each place, so that the items inside have all their places.
        let inside = Place {
            owner: Some(name.clone()),
            ..at.clone()
        };
        let members = self.members(&inside, &properties.fields, owner_presence);
        let id = self.intern(Shape::PropertyString(name.clone()), at, || {
            ItemKind::PropertyString(PropertyString {
                name,
                members,
                default_key: properties.default_key,
                aliases: properties.aliases,
                key_aliases: properties.key_aliases,
            })
        });
        Ty::Item(id)
    }

    /// Adds the values that an enum has at a further place. They may differ only if the run omits
    /// releases.
    fn add_enum_values(&mut self, id: ItemId, values: &[(String, Presence)], at: &Place) {
        let ItemKind::Enum(known) = &mut self.items[id].kind else {
            return;
        };
        let before = known.len();
        add_values(known, values);
        if known.len() != before || before != values.len() {
            self.overlay.mismatch(format!(
                "{}: [enums] of names.toml gives this the name of an enum with other values; give all its places the same \
                 values by a patch (`set = {{ enum = […] }}`), or leave this one out",
                at.key()
            ));
        }
    }

    fn intern(&mut self, shape: Shape, at: &Place, kind: impl FnOnce() -> ItemKind) -> ItemId {
        let next = self.items.len();
        let id = *self.shapes.entry(shape).or_insert(next);
        if id == next {
            self.items.push(Item {
                kind: kind(),
                places: Vec::new(),
            });
        }
        self.items[id].places.push(at.clone());
        id
    }
}

/// The type with its texts replaced by secrets.
fn hidden(ty: Ty) -> Ty {
    match ty {
        Ty::Text => Ty::Secret,
        Ty::Array(of) => Ty::Array(Box::new(hidden(*of))),
        Ty::Map(of) => Ty::Map(Box::new(hidden(*of))),
        Ty::Optional(of) => Ty::Optional(Box::new(hidden(*of))),
        other => other,
    }
}

/// The limits of a value, or of an array's elements.
fn limits(node: &Node) -> Limits {
    match &node.kind {
        Kind::Array(items) => items.limits.clone(),
        _ => node.limits.clone(),
    }
}
