//! The common traits of values of the API, for filling and for reading them.
//!
//! Decoding, printing, comparing and serialising are implemented once, on these traits; see
//! `docs/adr/0001-decoding.md`.

mod plain;

use std::any::Any;
use std::borrow::Cow;

use serde_json::Value;

use crate::value::unknown_keys::{PropertyStringRules, UnknownKeys};

pub use crate::value::extra::Extra;

/// The accepted kind of value; completes "expected …".
pub type Expected = &'static str;

/// A JSON value without parts.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub enum Scalar<'a> {
    /// No value at all: the target becomes empty.
    Reset,
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// The value as the text the server would write it as; `None` for null.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Reset => "".into(),
            Self::Bool(value) => if *value { "1" } else { "0" }.into(),
            Self::Int(value) => value.to_string().into(),
            Self::UInt(value) => value.to_string().into(),
            Self::Float(value) => value.to_string().into(),
            Self::Text(value) => Cow::Borrowed(value),
        })
    }

    /// Calls `take` with the text. The types of enums are many, and this is compiled once.
    pub(super) fn with_text(&self, take: &mut dyn FnMut(&str)) -> Result<(), Expected> {
        take(&self.text().ok_or("string")?);
        Ok(())
    }

    pub(super) fn into_json(self) -> Value {
        match self {
            Self::Reset | Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::UInt(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Reset | Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::UInt(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            // The text itself may be a secret.
            Self::Text(value) => format!("a text of {} characters", value.chars().count()),
        }
    }
}

impl<'a> From<&'a str> for Scalar<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

/// The overhead of an allocation.
pub(crate) const ALLOCATION: usize = 16;

/// The number of copies of a text that exist while it moves from the buffer to its value.
pub(crate) const COPIES: usize = 2;

/// A type of values in answers, in parameters, or in both.
///
/// All generated types implement it, and so do the types of their members. It cannot be implemented
/// outside of this crate.
pub trait ApiValue: Copied {
    /// A value to be filled.
    #[doc(hidden)]
    fn empty() -> Self
    where
        Self: Sized;

    /// Takes a scalar, leniently: servers mix numbers, digits in strings and 0/1 freely.
    /// [`Scalar::Reset`] empties the value. A refused scalar leaves it unchanged, or empty.
    #[doc(hidden)]
    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected>;

    /// The target for the parts of a value that is not a scalar. This fills an optional value with
    /// an empty one.
    #[doc(hidden)]
    fn target(&mut self) -> Target<'_> {
        Target::Scalar
    }

    /// The value, for reading.
    #[doc(hidden)]
    fn view(&self) -> View<'_>;

    /// The approximate memory of a text once it is this value, in bytes.
    #[doc(hidden)]
    fn cost_of(&self, text: &str) -> usize {
        text.len().saturating_mul(COPIES).saturating_add(ALLOCATION)
    }

    /// The view of an optional value of this type without a value.
    #[doc(hidden)]
    fn absent() -> View<'static>
    where
        Self: Sized,
    {
        View::Absent
    }
}

/// Copies of values whose type is not known where they are made.
#[doc(hidden)]
pub trait Copied: 'static {
    /// Puts a copy into a value of the same type.
    fn copy_into(&self, target: &mut dyn Copied);

    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Clone + 'static> Copied for T {
    fn copy_into(&self, target: &mut dyn Copied) {
        if let Some(target) = target.any_mut().downcast_mut::<T>() {
            // `clone_from` is twice the code for each type.
            *target = self.clone();
        }
    }

    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A generated type.
#[doc(hidden)]
pub trait Generated: Clone + 'static {
    type Kind: Kind<Self>;
}

/// The common implementation of all generated types of one kind, which is compiled once.
#[doc(hidden)]
pub trait Kind<T> {
    fn empty() -> T;

    fn set_scalar(target: &mut T, value: &Scalar<'_>) -> Result<(), Expected>;

    fn target(value: &mut T) -> Target<'_>;

    fn view(value: &T) -> View<'_>;
}

/// The kind of structs.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "never made")]
pub enum Objects {}

/// The target of a value other than a scalar.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "the values have none")]
pub enum Target<'a> {
    Scalar,
    /// Accepts anything and drops it.
    Skip,
    Any(&'a mut Value),
    Array(&'a mut dyn Array),
    Map(&'a mut dyn Map),
    Indexed(&'a mut dyn Indexed),
    Object(&'a mut dyn Object),
    Extra(&'a mut Extra),
    UnknownKeys(&'a mut UnknownKeys),
}

/// A value, for reading.
#[doc(hidden)]
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it may contain a secret")]
pub enum View<'a> {
    Absent,
    /// There is no value; it would be a secret.
    AbsentSecret,
    Scalar(Scalar<'a>),
    Secret(&'a str),
    /// The size of a disk: its text, and its bytes if it parses. Sizes of the same number of bytes
    /// are equal.
    Size(&'a str, Option<u64>),
    Json(&'a Value),
    /// An array that is one text on the wire.
    List(&'a dyn Array),
    Array(&'a dyn Array),
    Map(&'a dyn Map),
    Indexed(&'a dyn Indexed),
    Object(&'a dyn Object),
    Extra(&'a Extra),
    UnknownKeys(&'a UnknownKeys),
}

/// A struct with a field for each member.
#[doc(hidden)]
pub trait Object {
    fn empty() -> Self
    where
        Self: Sized;

    /// Lends the fields: one for each name of the schema, in its order, and the `extra` for all
    /// others.
    fn fields(&self, visit: &mut dyn FnMut(&'static ObjectSchema, &[&dyn ApiValue]));

    /// Like [`Object::fields`], mutable.
    fn fields_mut(
        &mut self,
        visit: &mut dyn FnMut(&'static ObjectSchema, &mut [&mut dyn ApiValue]),
    );
}

/// A copy of an object.
#[doc(hidden)]
#[inline]
pub fn copy<T: Object>(value: &T) -> T {
    let mut copy = T::empty();
    copy_fields(value, &mut copy);
    copy
}

/// Compiled once, for all objects.
fn copy_fields(value: &dyn Object, copy: &mut dyn Object) {
    value.fields(&mut |_, fields| {
        copy.fields_mut(&mut |_, copies| {
            for (field, copy) in fields.iter().zip(copies) {
                let (field, copy): (&dyn Copied, &mut dyn Copied) = (*field, *copy);
                field.copy_into(copy);
            }
        });
    });
}

/// The names of an object's members.
#[derive(Debug)]
#[doc(hidden)]
pub struct ObjectSchema {
    /// The type's own name.
    pub name: &'static str,
    /// Members that must come, at most 64.
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
    /// Prefixes of indexed members.
    pub indexed: &'static [&'static str],
    /// Set for property strings.
    pub rules: Option<&'static PropertyStringRules>,
}

impl ObjectSchema {
    /// The field of a member without an index. The search starts where the last one ended: members
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

    /// The field of an indexed member, and its index.
    pub(super) fn find_indexed(&self, key: &str) -> Option<(usize, u8)> {
        let (name, index) = split_index(key)?;
        let position = self.indexed.iter().position(|known| *known == name)?;
        Some((self.required.len() + self.optional.len() + position, index))
    }

    /// All names in the order of their fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.required
            .iter()
            .chain(self.optional)
            .chain(self.indexed)
            .copied()
    }
}

/// Most names differ in their length or first byte, which is cheaper to compare than the whole.
#[inline]
fn position(names: &[&str], key: &str) -> Option<usize> {
    let first = key.as_bytes().first();
    names.iter().position(|name| {
        name.len() == key.len() && name.as_bytes().first() == first && *name == key
    })
}

/// An array of values of one type.
#[doc(hidden)]
pub trait Array {
    fn count(&self) -> usize;

    /// The element at a position below the length.
    fn get(&self, index: usize) -> &dyn ApiValue;

    /// Adds an empty element.
    fn push_empty(&mut self) -> &mut dyn ApiValue;

    /// The memory of an empty element, in bytes.
    fn element_size(&self) -> usize;

    /// Removes the last element.
    fn pop(&mut self);

    /// No more elements come.
    fn close(&mut self);
}

impl dyn Array + '_ {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn ApiValue> {
        (0..self.count()).map(|index| self.get(index))
    }
}

/// An object with any keys, all with values of one type.
#[doc(hidden)]
pub trait Map {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a dyn ApiValue));

    /// Adds an entry if `fill` accepts its value.
    fn add(&mut self, key: &str, fill: &mut dyn FnMut(&mut dyn ApiValue) -> bool);
}

impl dyn Map + '_ {
    pub(crate) fn entries(&self) -> Vec<(&str, &dyn ApiValue)> {
        let mut entries = Vec::new();
        self.each(&mut |key, value| entries.push((key, value)));
        entries
    }
}

/// Indexed members such as `net0`.
#[doc(hidden)]
pub trait Indexed {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(u8, &'a dyn ApiValue));

    /// Adds a member if `fill` accepts its value.
    fn add(&mut self, index: u8, fill: &mut dyn FnMut(&mut dyn ApiValue) -> bool);
}

impl dyn Indexed + '_ {
    pub(crate) fn entries(&self) -> Vec<(u8, &dyn ApiValue)> {
        let mut entries = Vec::new();
        self.each(&mut |index, value| entries.push((index, value)));
        entries
    }
}

/// Splits `net12` into `net` and 12; `None` without an index between 0 and 255.
fn split_index(key: &str) -> Option<(&str, u8)> {
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

/// The field for extra members of an object.
pub(crate) fn extra_of<'a>(fields: &'a [&dyn ApiValue]) -> Option<&'a Extra> {
    match fields.last()?.view() {
        View::Extra(extra) => Some(extra),
        View::UnknownKeys(unknown) => Some(unknown.members()),
        _ => None,
    }
}

/// Like [`extra_of`], mutable.
pub(crate) fn extra_of_mut<'a>(fields: &'a mut [&mut dyn ApiValue]) -> Option<&'a mut Extra> {
    match fields.last_mut()?.target() {
        Target::Extra(extra) => Some(extra),
        Target::UnknownKeys(unknown) => Some(unknown.members_mut()),
        _ => None,
    }
}

/// Implements [`Object`] for a struct, from one list of its members: their names on the wire and
/// their fields.
macro_rules! object {
    (@kind) => {
        Objects
    };
    (@kind $($rule:tt)+) => {
        property_string::PropertyStrings
    };
    (@rules) => {
        None
    };
    (@rules $($rule:tt)+) => {
        Some(&PropertyStringRules { $($rule)+ })
    };
    ($name:ident {
        $(required: [$($required:literal $required_field:ident),* $(,)?],)?
        $(optional: [$($optional:literal $optional_field:ident),* $(,)?],)?
        $(indexed: [$($indexed:literal $indexed_field:ident),* $(,)?],)?
        $(property_string: { $($rule:tt)+ },)?
        others: $others:ident,
    }) => {
        impl Generated for $name {
            type Kind = object!(@kind $($($rule)+)?);
        }

        impl Clone for $name {
            #[inline]
            fn clone(&self) -> Self {
                api_value::copy(self)
            }
        }

        impl Object for $name {
            #[inline]
            fn empty() -> Self {
                Self {
                    $($($required_field: ApiValue::empty(),)*)?
                    $($($optional_field: None,)*)?
                    $($($indexed_field: IndexedMap::new(),)*)?
                    $others: Default::default(),
                }
            }

            #[inline]
            fn fields(&self, visit: &mut dyn FnMut(&'static ObjectSchema, &[&dyn ApiValue])) {
                visit(
                    Self::SCHEMA,
                    &[
                        $($(&self.$required_field,)*)?
                        $($(&self.$optional_field,)*)?
                        $($(&self.$indexed_field,)*)?
                        &self.$others,
                    ],
                );
            }

            #[inline]
            fn fields_mut(
                &mut self,
                visit: &mut dyn FnMut(&'static ObjectSchema, &mut [&mut dyn ApiValue]),
            ) {
                visit(
                    Self::SCHEMA,
                    &mut [
                        $($(&mut self.$required_field,)*)?
                        $($(&mut self.$optional_field,)*)?
                        $($(&mut self.$indexed_field,)*)?
                        &mut self.$others,
                    ],
                );
            }
        }

        impl $name {
            const SCHEMA: &'static ObjectSchema = &ObjectSchema {
                name: stringify!($name),
                required: &[$($($required),*)?],
                optional: &[$($($optional),*)?],
                indexed: &[$($($indexed),*)?],
                rules: object!(@rules $($($rule)+)?),
            };

            /// Changes the value in place, within an expression.
            #[inline]
            #[must_use]
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }

            /// Reads a value from JSON in the shape of the server, as leniently as an answer.
            ///
            /// # Errors
            /// A required member is missing, or the JSON is of another kind; the error names the
            /// place.
            #[inline]
            pub fn from_json(json: Value) -> Result<Self, decode::DecodeError> {
                decode::from_json(json)
            }
        }

        impl fmt::Debug for $name {
            /// Members that are not set are left out.
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                debug::object(self, f)
            }
        }

        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                compare::objects(self, other)
            }
        }

        serde_impls!($name);
    };
}

pub(crate) use object;
