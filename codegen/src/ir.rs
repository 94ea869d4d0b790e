//! The intermediate representation: endpoints and the items they share, without names and text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

use crate::facts::{Method, Permissions, Release};
use crate::limits::Limits;
use crate::overlay::{Overlay, Renamed, Split};
use crate::place::Use;
use crate::privileges::Privilege;
use crate::product::Product;
use crate::union::{Field, Fields, Kind, Node, Presence, Properties, Union};

/// Everything the emitter needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) product: &'static Product,
    pub(crate) releases: Vec<Release>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) items: Vec<Item>,
    /// The number of members of answers that always come, with a reason in the overlay.
    pub(crate) sourced: usize,
    /// Those that the dumps require, without a reason in the overlay.
    pub(crate) unsourced: BTreeSet<String>,
}

impl Api {
    /// Whether a value is given as a text, and so could be confused with another.
    pub(crate) fn is_text(&self, ty: &Ty) -> bool {
        match ty {
            Ty::Text | Ty::TextType(_) | Ty::Secret | Ty::List(_) | Ty::Array(_) => true,
            Ty::Item(id) => !matches!(self.items[*id].kind, ItemKind::Struct(_)),
            _ => false,
        }
    }

    /// Whether the required parameters of an endpoint are given by name, because several of them
    /// are texts.
    pub(crate) fn is_named(&self, endpoint: &Endpoint) -> bool {
        let required = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required);
        required
            .filter(|parameter| self.is_text(&parameter.ty))
            .count()
            > 1
    }
}

pub(crate) type ItemId = usize;

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) path: String,
    pub(crate) method: Method,
    pub(crate) presence: Presence,
    pub(crate) allowtoken: bool,
    pub(crate) download: bool,
    pub(crate) permissions: Option<Permissions>,
    /// Additional checks of the handler.
    pub(crate) privileges: Vec<Privilege>,
    /// The checks of the handler are unknown: the dump does not declare them.
    pub(crate) unreviewed: bool,
    /// In the order of the path.
    pub(crate) placeholders: Vec<Parameter>,
    /// Without the placeholders; the required ones first, in the order they are passed.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) returns: Returns,
    /// Parameters with another name in newer releases.
    pub(crate) renamed: Vec<Renamed>,
    /// Answers that it accepts as a whole.
    pub(crate) settings: Vec<Settings>,
}

/// An answer that a request accepts as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) item: ItemId,
    /// Members that it does not accept.
    pub(crate) left_out: Vec<String>,
    /// Arrays that it accepts as lists in one text.
    pub(crate) lists: Vec<String>,
}

impl Endpoint {
    /// `POST /nodes/{node}/qemu`
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// Its name in Rust, if the overlay has one for this place.
    pub(crate) code: Option<String>,
    pub(crate) ty: Ty,
    pub(crate) required: bool,
    pub(crate) presence: Presence,
    pub(crate) secret: bool,
    /// The separator, if it is a list in one text.
    pub(crate) separator: Option<char>,
    /// For an array, of its elements.
    pub(crate) limits: Limits,
    pub(crate) facts: ValueFacts,
}

/// Facts about a value apart from its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ValueFacts {
    pub(crate) default: Option<Value>,
    pub(crate) minimum: Option<Number>,
    pub(crate) maximum: Option<Number>,
    pub(crate) max_length: Option<u64>,
    pub(crate) renderer: Option<String>,
    pub(crate) requires: Option<String>,
}

impl ValueFacts {
    fn of(node: &Node) -> Self {
        Self {
            default: node.default.clone(),
            minimum: node.minimum.clone(),
            maximum: node.maximum.clone(),
            max_length: node.max_length,
            renderer: node.renderer.clone(),
            requires: node.requires.clone(),
        }
    }

    /// Keeps the facts that both have.
    fn agree(&mut self, other: &Self) {
        fn same<T: PartialEq>(mine: &mut Option<T>, other: &Option<T>) {
            if mine != other {
                *mine = None;
            }
        }
        same(&mut self.default, &other.default);
        same(&mut self.minimum, &other.minimum);
        same(&mut self.maximum, &other.maximum);
        same(&mut self.max_length, &other.max_length);
        same(&mut self.renderer, &other.renderer);
        same(&mut self.requires, &other.requires);
    }
}

/// The type of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Nothing,
    Data(Ty),
    Task { optional: bool },
    Bytes,
}

/// A reference to a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ty {
    Boolean,
    Integer,
    GuestNumber,
    /// A number of bytes.
    Bytes,
    /// Seconds since 1970.
    Time,
    Number,
    Text,
    /// A text type of the core.
    TextType(String),
    Secret,
    /// Any JSON: the schema has no type.
    Json,
    /// A list in one string.
    List(Box<Ty>),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Optional(Box<Ty>),
    /// A setting's next value, or its removal.
    Pending(Box<Ty>),
    Item(ItemId),
}

/// A type of its own.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    pub(crate) uses: Vec<Use>,
}

#[derive(Debug)]
pub(crate) enum ItemKind {
    Enum(Vec<(String, Presence)>),
    PropertyString(PropertyString),
    Struct(Vec<Member>),
}

#[derive(Debug)]
pub(crate) struct PropertyString {
    /// From the overlay.
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(crate) default_key: Option<String>,
    pub(crate) aliases: Vec<(String, String)>,
    pub(crate) key_aliases: Vec<(String, String, String)>,
}

/// A member of a struct, or a key of a property string.
#[derive(Debug)]
pub(crate) struct Member {
    /// On the wire; for indexed parameters without `[n]`.
    pub(crate) name: String,
    /// Its name in Rust, if the overlay has one for its place.
    pub(crate) code: Option<String>,
    pub(crate) family: bool,
    pub(crate) ty: Ty,
    pub(crate) required: bool,
    pub(crate) presence: Presence,
    /// The releases of its owner.
    pub(crate) whole: Presence,
    pub(crate) limits: Limits,
    pub(crate) facts: ValueFacts,
}

impl Member {
    /// With `[n]` for indexed parameters.
    pub(crate) fn full_name(&self) -> String {
        match self.family {
            true => format!("{}[n]", self.name),
            false => self.name.clone(),
        }
    }

    /// A member with another name in Rust makes another type.
    fn shape_name(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.name),
            None => self.name.clone(),
        }
    }
}

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
        sourced: 0,
        unsourced: BTreeSet::new(),
    };
    let endpoints = union
        .endpoints
        .iter()
        .map(|((path, method), endpoint)| lowering.endpoint(path, *method, endpoint))
        .collect();
    let endpoints = with_settings(endpoints, union, &lowering.items, overlay);
    for item in &mut lowering.items {
        item.uses.sort();
        item.uses.dedup();
    }
    Api {
        product: union.product,
        releases: union.releases.clone(),
        endpoints,
        items: lowering.items,
        sourced: lowering.sourced,
        unsourced: lowering.unsourced,
    }
}

/// Sets the answers that each request accepts as a whole.
fn with_settings(
    mut endpoints: Vec<Endpoint>,
    union: &Union,
    items: &[Item],
    overlay: &Overlay,
) -> Vec<Endpoint> {
    let item_of = |endpoint: &Endpoint| match &endpoint.returns {
        Returns::Data(Ty::Item(id)) => Some(*id),
        Returns::Data(Ty::Array(of)) => match **of {
            Ty::Item(id) => Some(id),
            _ => None,
        },
        _ => None,
    };
    let answers: BTreeMap<String, ItemId> = (endpoints.iter())
        .filter(|endpoint| endpoint.method == Method::Get)
        .filter_map(|endpoint| Some((endpoint.path.clone(), item_of(endpoint)?)))
        .collect();
    for pair in &union.pairs {
        let is_of =
            |endpoint: &&mut Endpoint| endpoint.path == pair.path && endpoint.method == pair.method;
        let Some(endpoint) = endpoints.iter_mut().find(is_of) else {
            continue;
        };
        let Some(item) = answers.get(&pair.get).copied() else {
            continue;
        };
        let ItemKind::Struct(members) = &items[item].kind else {
            continue;
        };
        let known = endpoint.settings.iter().any(|known| known.item == item);
        // A request without parameters to set has no setters at all.
        if known
            || endpoint
                .parameters
                .iter()
                .all(|parameter| parameter.required)
        {
            continue;
        }
        let key = endpoint.key();
        let (mut left_out, mut lists) = (Vec::new(), Vec::new());
        for member in members {
            let name = match member.family {
                true => format!("{}[n]", member.name),
                false => member.name.clone(),
            };
            let parameter = endpoint.parameters.iter().find(|p| p.name == name);
            match parameter {
                Some(_)
                    if overlay.is_apart(&format!("{key}?{name}"))
                        || overlay.is_apart(&format!("GET {}#{name}", pair.get)) =>
                {
                    left_out.push(name);
                }
                Some(parameter) if one(&parameter.ty) != one(&member.ty) => {
                    overlay.mismatch(format!(
                        "{key}?{name}: is of another type than what GET {} answers; patch one of them, or say in \
                         settings.toml why they are apart: `\"{key}?{name}\" = \"…\"` under [apart]",
                        pair.get
                    ));
                    left_out.push(name);
                }
                Some(Parameter {
                    ty: Ty::List(_), ..
                }) if matches!(member.ty, Ty::Array(_)) => lists.push(name),
                Some(_) => {}
                None => left_out.push(name),
            }
        }
        endpoint.settings.push(Settings {
            item,
            left_out,
            lists,
        });
    }
    endpoints
}

/// A type as far as its values can be set: a list counts as an array.
fn one(ty: &Ty) -> (bool, &Ty) {
    match ty {
        Ty::List(of) | Ty::Array(of) => (true, of),
        Ty::Optional(of) => one(of),
        ty => (false, ty),
    }
}

struct Lowering<'a> {
    overlay: &'a Overlay,
    releases: usize,
    /// By name, all places merged.
    properties: BTreeMap<String, Properties>,
    shapes: BTreeMap<Shape, ItemId>,
    items: Vec<Item>,
    sourced: usize,
    unsourced: BTreeSet<String>,
}

impl Lowering<'_> {
    fn endpoint(
        &mut self,
        path: &str,
        method: Method,
        endpoint: &crate::union::Endpoint,
    ) -> Endpoint {
        let at = Use {
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
                    code: None,
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
        let returns = self.returns(&Use { result: true, ..at }, &key, endpoint);
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
        let hinted = endpoint
            .permissions
            .as_ref()
            .is_some_and(|permissions| permissions.described || permissions.check.is_none());
        let declared = self.overlay.is_declared(&key);
        if declared && !(hinted && privileges.is_empty()) {
            self.overlay.mismatch(format!(
                "privileges.toml: {key} has checks, so it cannot be declared"
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
            unreviewed: newest && hinted && !declared && privileges.is_empty(),
            privileges,
            placeholders,
            parameters,
            returns,
            renamed: self.overlay.renamed(&key),
            settings: Vec::new(),
        }
    }

    fn parameter(&mut self, at: &Use, name: &str, field: &Field, whole: Presence) -> Parameter {
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
            code: self.overlay.name_at(&at),
            ty: if is_secret { hidden(ty) } else { ty },
            required: !field.node.optional && field.presence.covers(whole),
            presence: field.presence,
            secret,
            separator,
            limits: limits(&field.node),
            facts: ValueFacts::of(&field.node),
        }
    }

    fn returns(&mut self, at: &Use, key: &str, endpoint: &crate::union::Endpoint) -> Returns {
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

    fn ty(&mut self, at: &Use, node: &Node) -> Ty {
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
                self.agree(id, values, at);
                Ty::Item(id)
            }
            Kind::Properties(_) => self.property_string(at, node),
            Kind::Array(items) => Ty::Array(Box::new(self.ty(&at.element(), items))),
            Kind::Map(values) => Ty::Map(Box::new(self.ty(&at.down("*"), values))),
            Kind::Object(fields) if self.overlay.recursion(at).is_some() => {
                self.recursive(at, fields)
            }
            Kind::Object(fields) => {
                let whole = fields
                    .values()
                    .fold(Presence::default(), |all, field| all.or(field.presence));
                let members = self.members(at, fields, whole);
                let shape = members
                    .iter()
                    .map(|m| (m.shape_name(), m.family, m.ty.clone(), m.required))
                    .collect();
                let mut fresh = Some(members);
                let id = match self.shapes.get(&Shape::Struct(shape)) {
                    Some(id) => *id,
                    None => {
                        let members = fresh.take().unwrap_or_default();
                        let shape = members
                            .iter()
                            .map(|m| (m.shape_name(), m.family, m.ty.clone(), m.required))
                            .collect();
                        self.intern(Shape::Struct(shape), at, || ItemKind::Struct(members))
                    }
                };
                self.items[id].uses.push(at.clone());
                if let (ItemKind::Struct(known), Some(more)) = (&mut self.items[id].kind, fresh) {
                    for (member, more) in known.iter_mut().zip(more) {
                        member.presence = member.presence.or(more.presence);
                        member.whole = member.whole.or(more.whole);
                        member.facts.agree(&more.facts);
                    }
                }
                Ty::Item(id)
            }
        }
    }

    /// An object that contains objects of its own kind: one type with the members of all levels in
    /// the dumps.
    fn recursive(&mut self, at: &Use, fields: &Fields) -> Ty {
        let below = self.overlay.recursion(at).unwrap_or_default().to_owned();
        let whole = fields
            .values()
            .fold(Presence::default(), |all, field| all.or(field.presence));
        let mut all = fields.clone();
        let holder = all.remove(&below);
        let mut deeper = holder.clone();
        while let Some(field) = deeper.take() {
            if let Kind::Array(items) = field.node.kind
                && let Kind::Object(mut fields) = items.kind
            {
                deeper = fields.remove(&below);
                absorb_fields(&mut all, &fields);
            }
        }
        let mut members = self.members(at, &all, whole);
        let id = self.items.len();
        match holder {
            Some(holder) => {
                let member = Member {
                    code: None,
                    name: below.clone(),
                    family: false,
                    ty: Ty::Array(Box::new(Ty::Item(id))),
                    required: false,
                    presence: holder.presence,
                    whole,
                    limits: limits(&holder.node),
                    facts: ValueFacts::of(&holder.node),
                };
                let place = members.partition_point(|member| member.name < below);
                members.insert(place, member);
            }
            None => self
                .overlay
                .mismatch(format!("{}: has no member {below}", at.key())),
        }
        self.items.push(Item {
            kind: ItemKind::Struct(members),
            uses: vec![at.clone()],
        });
        Ty::Item(id)
    }

    /// The meaning of an integer.
    fn integer(&self, at: &Use, node: &Node) -> Ty {
        let listed = (self.overlay.is_byte_count(at), self.overlay.is_time(at));
        match (node.renderer.as_deref(), listed) {
            (Some("bytes"), _) | (_, (true, _)) => Ty::Bytes,
            (Some("timestamp" | "timestamp_gmt"), _) | (_, (_, true)) => Ty::Time,
            _ => Ty::Integer,
        }
    }

    /// The type of a member that must not be printed.
    fn hidden_member(&self, at: &Use, ty: Ty) -> Ty {
        let hidden = hidden(ty);
        if !self.holds_secret(&hidden) {
            self.overlay.problem(format!(
                "{}: secrets.toml calls it a secret, but its type can only be printed",
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

    fn text_at(&self, at: &Use, format: Option<&str>) -> Ty {
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

    fn members(&mut self, at: &Use, fields: &Fields, whole: Presence) -> Vec<Member> {
        let pending = self.overlay.is_pending(at);
        fields
            .iter()
            .map(|(name, field)| {
                let at = at.down(name);
                let base = name.strip_suffix("[n]");
                let mut required =
                    base.is_none() && !field.node.optional && field.presence.covers(whole);
                if required && at.result && at.owner.is_none() {
                    match self.overlay.is_sourced_for(&at) {
                        true => self.sourced += 1,
                        false => {
                            required = false;
                            self.unsourced.insert(at.key());
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
                    code: self.overlay.name_at(&at),
                    family: base.is_some(),
                    ty: match pending {
                        true => Ty::Pending(Box::new(ty)),
                        false => ty,
                    },
                    required,
                    presence: field.presence,
                    whole,
                    limits: limits(&field.node),
                    facts: ValueFacts::of(&field.node),
                }
            })
            .collect()
    }

    fn property_string(&mut self, at: &Use, node: &Node) -> Ty {
        // `collect_properties` has reported places without a name.
        let Some(name) = self.overlay.property_string_name(at, node) else {
            return Ty::Text;
        };
        let Some(properties) = self.properties.get(&name).cloned() else {
            return Ty::Text;
        };
        let whole = properties
            .fields
            .values()
            .fold(Presence::default(), |all, field| all.or(field.presence));
        // Keys are visited once for each place, so that the items inside have all their places.
        let inside = Use {
            owner: Some(name.clone()),
            ..at.clone()
        };
        let members = self.members(&inside, &properties.fields, whole);
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

    /// Adds the values that an enum has at a further place. Only without all the releases may they be others.
    fn agree(&mut self, id: ItemId, values: &[(String, Presence)], at: &Use) {
        let ItemKind::Enum(known) = &mut self.items[id].kind else {
            return;
        };
        let mut differ = known.len() != values.len();
        for (text, presence) in values {
            match known.iter_mut().find(|(other, _)| other == text) {
                Some((_, known)) => *known = known.or(*presence),
                None => {
                    differ = true;
                    known.push((text.clone(), *presence));
                }
            }
        }
        if differ {
            self.overlay.mismatch(format!(
                "{}: [enums] of names.toml gives this the name of an enum with other values; give all its places the same \
                 values by a patch (`set = {{ enum = […] }}`), or leave this one out",
                at.key()
            ));
        }
    }

    fn intern(&mut self, shape: Shape, at: &Use, kind: impl FnOnce() -> ItemKind) -> ItemId {
        let next = self.items.len();
        let id = *self.shapes.entry(shape).or_insert(next);
        if id == next {
            self.items.push(Item {
                kind: kind(),
                uses: Vec::new(),
            });
        }
        self.items[id].uses.push(at.clone());
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

/// The names in braces of a path, in order.
pub(crate) fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// Merges all property strings with the same name in the overlay.
fn collect_properties(union: &Union, overlay: &Overlay) -> BTreeMap<String, Properties> {
    let mut found = BTreeMap::new();
    for ((path, method), endpoint) in &union.endpoints {
        let at = Use {
            path: path.clone(),
            method: *method,
            fields: Vec::new(),
            element: false,
            result: false,
            owner: None,
        };
        for (name, field) in &endpoint.parameters {
            collect(&at.down(name), &field.node, overlay, &mut found);
        }
        collect(
            &Use { result: true, ..at },
            &endpoint.returns,
            overlay,
            &mut found,
        );
    }
    found
}

fn leaf(at: &Use) -> &str {
    at.fields.last().map_or("", String::as_str)
}

fn collect(at: &Use, node: &Node, overlay: &Overlay, found: &mut BTreeMap<String, Properties>) {
    match &node.kind {
        Kind::Properties(properties) => match overlay.property_string_name(at, node) {
            Some(name) => {
                let known = found.entry(name).or_insert_with(|| properties.clone());
                absorb(known, properties);
            }
            None => overlay.problem(format!(
                "{}: this property string needs a name in names.toml: `\"{}\" = \"{}\"` under {}",
                at.key(),
                leaf(at),
                overlay.suggested(&at.path, leaf(at)),
                match &node.format {
                    Some(format) => format!(
                        "[property_strings.\"{}\"], or `\"{format}\" = …` under [formats]",
                        at.path
                    ),
                    None => format!("[property_strings.\"{}\"]", at.path),
                },
            )),
        },
        Kind::Array(items) => collect(&at.element(), items, overlay, found),
        Kind::Map(values) => collect(&at.down("*"), values, overlay, found),
        Kind::Object(fields) => {
            for (name, field) in fields {
                collect(&at.down(name), &field.node, overlay, found);
            }
        }
        _ => {}
    }
}

/// Adds the keys of `more`; a key of one side only is optional.
fn absorb(known: &mut Properties, more: &Properties) {
    absorb_fields(&mut known.fields, &more.fields);
    known.default_key = known
        .default_key
        .take()
        .or_else(|| more.default_key.clone());
    for alias in &more.aliases {
        if !known.aliases.contains(alias) {
            known.aliases.push(alias.clone());
        }
    }
    for alias in &more.key_aliases {
        if !known.key_aliases.contains(alias) {
            known.key_aliases.push(alias.clone());
        }
    }
}

/// Adds the fields of `more`; a field of one side only is optional.
fn absorb_fields(known: &mut Fields, more: &Fields) {
    for (name, field) in known.iter_mut() {
        match more.get(name) {
            Some(other) => {
                field.node.optional |= other.node.optional;
                let limits = std::mem::take(&mut field.node.limits);
                field.node.limits = limits.widen(other.node.limits.clone());
                if field.node.requires != other.node.requires {
                    field.node.requires = None;
                }
                field.presence = field.presence.or(other.presence);
                match (&mut field.node.kind, &other.node.kind) {
                    (Kind::Enum(values), Kind::Enum(others)) => {
                        for (text, presence) in others {
                            match values.iter_mut().find(|(known, _)| known == text) {
                                Some((_, known)) => *known = known.or(*presence),
                                None => values.push((text.clone(), *presence)),
                            }
                        }
                    }
                    (kind @ Kind::Enum(_), Kind::String) => *kind = Kind::String,
                    _ => {}
                }
            }
            None => field.node.optional = true,
        }
    }
    for (name, field) in more {
        if !known.contains_key(name) {
            let mut field = field.clone();
            field.node.optional = true;
            known.insert(name.clone(), field);
        }
    }
}
