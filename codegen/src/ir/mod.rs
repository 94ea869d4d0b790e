//! The intermediate representation: endpoints and the items they share, without names and text.

pub(crate) mod lower;
mod properties;
mod settings;

use std::collections::BTreeSet;

use serde_json::{Number, Value};

use crate::facts::{Method, Permissions, Release};
use crate::limits::Limits;
use crate::overlay::Renamed;
use crate::place::Place;
use crate::privileges::Privilege;
use crate::product::Product;
use crate::union::{Node, Presence};

/// Everything the emitter needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) product: &'static Product,
    pub(crate) releases: Vec<Release>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) items: Vec<Item>,
    /// The number of members that answers always have, with a reason in the overlay.
    pub(crate) required_with_reason: usize,
    /// Those that the dumps require, without a reason in the overlay.
    pub(crate) required_without_reason: BTreeSet<String>,
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
    pub(crate) rust_name: Option<String>,
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
    fn keep_common(&mut self, other: &Self) {
        fn keep_equal<T: PartialEq>(own: &mut Option<T>, other: &Option<T>) {
            if own != other {
                *own = None;
            }
        }
        keep_equal(&mut self.default, &other.default);
        keep_equal(&mut self.minimum, &other.minimum);
        keep_equal(&mut self.maximum, &other.maximum);
        keep_equal(&mut self.max_length, &other.max_length);
        keep_equal(&mut self.renderer, &other.renderer);
        keep_equal(&mut self.requires, &other.requires);
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

/// A type that the generated crate defines.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    pub(crate) places: Vec<Place>,
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
    pub(crate) rust_name: Option<String>,
    /// It stands for `net0`, `net1` and so on.
    pub(crate) indexed: bool,
    pub(crate) ty: Ty,
    pub(crate) required: bool,
    pub(crate) presence: Presence,
    /// The releases of its owner.
    pub(crate) owner_presence: Presence,
    pub(crate) limits: Limits,
    pub(crate) facts: ValueFacts,
}

impl Member {
    /// With `[n]` for indexed parameters.
    pub(crate) fn full_name(&self) -> String {
        match self.indexed {
            true => format!("{}[n]", self.name),
            false => self.name.clone(),
        }
    }

    /// A member with another name in Rust makes another type.
    fn shape_name(&self) -> String {
        match &self.rust_name {
            Some(rust_name) => format!("{} {rust_name}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The names in braces of a path, in order.
pub(crate) fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}
