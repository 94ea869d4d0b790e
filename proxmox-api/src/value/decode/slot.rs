//! Places that values are written to.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::{Expected, Extra};
use crate::value::encode::Problem;
use crate::value::property_string::{Rules, Undeclared};

/// A JSON value without parts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(hidden)]
pub enum Scalar<'a> {
    /// No value at all: the slot goes back to its default.
    Unset,
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(&'a str),
}

impl Scalar<'_> {
    /// The value as the text the server would write it as; `None` for null.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match *self {
            Self::Null => return None,
            Self::Unset => "".into(),
            Self::Bool(value) => if value { "1" } else { "0" }.into(),
            Self::Int(value) => value.to_string().into(),
            Self::UInt(value) => value.to_string().into(),
            Self::Float(value) => value.to_string().into(),
            Self::Text(value) => value.into(),
        })
    }

    pub(super) fn to_json(self) -> Value {
        match self {
            Self::Unset | Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::UInt(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match *self {
            Self::Unset | Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::UInt(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            // The text itself may be a secret.
            Self::Text(value) => format!("a text of {} characters", value.chars().count()),
        }
    }
}

/// A place that a value is written to, from JSON or from a part of a property string.
#[doc(hidden)]
pub trait Slot {
    /// Takes a scalar, leniently: servers mix numbers, digits in strings and 0/1 freely.
    /// [`Scalar::Unset`] empties the slot. What is refused leaves it as it was, or empty.
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected>;

    /// What the slot takes besides scalars. An optional slot is filled with an empty value by this.
    fn inside(&mut self) -> Inside<'_> {
        Inside::Scalar
    }

    /// The value as one text, as property strings and settings hold it; `None` when it is not set or
    /// has no such form.
    fn text(&mut self) -> Option<String> {
        None
    }

    /// Whether the text must not be printed.
    fn hides(&self) -> bool {
        false
    }

    /// Why the text would not be read as what the value is.
    fn problem(&mut self) -> Option<Problem> {
        None
    }

    /// Hands out something to print, unless the value is not set.
    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug));
}

/// What a slot takes besides scalars.
#[doc(hidden)]
#[expect(
    missing_debug_implementations,
    reason = "the slots it lends out have none"
)]
pub enum Inside<'a> {
    Scalar,
    /// Anything at all, which is dropped.
    Skip,
    Any(&'a mut Value),
    Array(&'a mut dyn Array),
    Map(&'a mut dyn Map),
    Family(&'a mut dyn Numbered),
    Object(&'a mut dyn Object),
    /// The place for what an object does not declare.
    Extra(&'a mut Extra),
    Undeclared(&'a mut Undeclared),
}

/// A struct with a slot for each member.
#[doc(hidden)]
pub trait Object {
    /// Lends out the slots: one for each name of the shape, in its order, and the place for all others.
    fn open(&mut self, visit: &mut dyn FnMut(&'static Shape, &mut [&mut dyn Slot]));
}

/// The names of an object's members.
#[derive(Debug)]
#[doc(hidden)]
pub struct Shape {
    /// The type's own name.
    pub name: &'static str,
    /// Members that must come, at most 64.
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
    /// Prefixes of numbered members.
    pub families: &'static [&'static str],
    /// Set for property strings.
    pub rules: Option<&'static Rules>,
}

impl Shape {
    /// The slot of a member that is not of a family. The search starts where the last one ended: members
    /// often come in the same order.
    #[inline]
    pub(crate) fn find(&self, key: &str, from: &mut usize) -> Option<usize> {
        if let Some(index) = position(self.required, key) {
            return Some(index);
        }
        let (before, after) = self.optional.split_at(*from);
        let index = match position(after, key) {
            Some(index) => before.len() + index,
            None => position(before, key)?,
        };
        *from = index + 1;
        Some(self.required.len() + index)
    }

    /// The slot of a family, and the number in it.
    pub(super) fn family(&self, key: &str) -> Option<(usize, u8)> {
        let (name, index) = indexed(key)?;
        let position = self.families.iter().position(|family| *family == name)?;
        Some((self.required.len() + self.optional.len() + position, index))
    }

    /// All names in the order of their slots.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.required
            .iter()
            .chain(self.optional)
            .chain(self.families)
            .copied()
    }
}

/// Most names differ in their length or first byte, which is cheaper to see than calling a comparison.
#[inline]
fn position(names: &[&str], key: &str) -> Option<usize> {
    let first = key.as_bytes().first();
    names.iter().position(|name| {
        name.len() == key.len() && name.as_bytes().first() == first && *name == key
    })
}

/// The slots of an array's elements.
#[doc(hidden)]
pub trait Array {
    /// Adds an element and returns its slot.
    fn next(&mut self) -> &mut dyn Slot;

    /// Takes the last element back.
    fn trim(&mut self);
}

/// The slots of an object with any keys, all with values of one type.
#[doc(hidden)]
pub trait Map {
    /// Adds an entry, if its slot could be filled.
    fn add(&mut self, key: &str, fill: &mut dyn FnMut(&mut dyn Slot) -> bool);
}

/// The slots of numbered members such as `net0`.
#[doc(hidden)]
pub trait Numbered {
    /// Lends out all members.
    fn each(&mut self, visit: &mut dyn FnMut(u8, &mut dyn Slot));

    /// Adds a member, if its slot could be filled.
    fn add(&mut self, index: u8, fill: &mut dyn FnMut(&mut dyn Slot) -> bool);
}

/// Splits `net12` into `net` and 12; `None` for what is not an index between 0 and 255.
fn indexed(key: &str) -> Option<(&str, u8)> {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &key[name.len()..];
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && !digits.is_empty()).then(|| Some((name, digits.parse().ok()?)))?
}

/// A JSON scalar as the server would write it into a text.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(u8::from(*value).to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(crate) fn rest(slot: &mut dyn Slot) -> Option<&mut Extra> {
    match slot.inside() {
        Inside::Extra(extra) => Some(extra),
        Inside::Undeclared(undeclared) => Some(undeclared.members_mut()),
        _ => None,
    }
}
