//! From an answer's JSON to typed values.
//!
//! The tokens come from `serde_json`. One concrete visitor hands each of them to a [`Slot`]: a place
//! that knows how to take it. A generated struct contributes a match from key to slot and nothing
//! else; objects, arrays, unknown keys, leniency and errors are handled here, once. See
//! `docs/adr/0001-decoding.md`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::de::SliceRead;

use crate::Secret;

/// Members of an object that its type does not declare.
pub type Extra = serde_json::Map<String, Value>;

/// What a slot would have taken; completes "expected …".
pub type Expected = &'static str;

/// A JSON value without parts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(hidden)]
pub enum Scalar<'a> {
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
            Self::Bool(value) => if value { "1" } else { "0" }.into(),
            Self::Int(value) => value.to_string().into(),
            Self::UInt(value) => value.to_string().into(),
            Self::Float(value) => value.to_string().into(),
            Self::Text(value) => value.into(),
        })
    }

    fn to_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::UInt(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
        }
    }

    fn describe(&self) -> String {
        match *self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::UInt(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            // The text itself may be a secret.
            Self::Text(value) => format!("a text of {} characters", value.chars().count()),
        }
    }
}

/// A place that a JSON value is written to.
#[doc(hidden)]
pub trait Slot {
    /// Takes a scalar, leniently: servers mix numbers, digits in strings and 0/1 freely.
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected>;

    /// The object to fill, if this slot takes objects.
    fn object(&mut self) -> Option<&mut dyn Object> {
        None
    }

    /// The array to fill, if this slot takes arrays.
    fn array(&mut self) -> Option<&mut dyn Array> {
        None
    }

    /// The place for any JSON at all, if this slot takes everything.
    fn any(&mut self) -> Option<&mut Value> {
        None
    }
}

/// Whether a member must come, and which bit records that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct Need(u8);

impl Need {
    /// The member may be absent; a value it cannot hold stays in `extra`.
    pub const OPTIONAL: Self = Self(u8::MAX);

    /// The `bit`-th name of [`Object::required`].
    #[must_use]
    pub const fn required(bit: u8) -> Self {
        Self(bit)
    }

    fn bit(self) -> u64 {
        if self.0 < 64 { 1 << self.0 } else { 0 }
    }
}

/// The slots of an object's members.
#[doc(hidden)]
pub trait Object {
    /// The slot of a member; `None` sends it to `extra`.
    fn slot(&mut self, key: &str) -> Option<(Need, &mut dyn Slot)>;

    /// Where undeclared members go; `None` drops them.
    fn extra(&mut self) -> Option<&mut Extra>;

    /// Takes back the entry that [`Object::slot`] made for a member that then held nothing.
    fn forget(&mut self, _key: &str) {}

    /// The members that must come, at most 64.
    fn required(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The slots of an array's elements.
#[doc(hidden)]
pub trait Array {
    /// Adds an element and returns its slot.
    fn next(&mut self) -> &mut dyn Slot;

    /// Takes the last element back.
    fn trim(&mut self);
}

/// An answer that does not have the declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    problem: String,
    line: usize,
    column: usize,
}

impl DecodeError {
    pub(crate) fn new(path: &str, problem: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            problem: problem.into(),
            line: 0,
            column: 0,
        }
    }

    /// Where in the JSON, such as `data[3].maxmem`; empty when the text is no JSON object at all.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Line and column in the body, counted from 1; zeros where no place can be named.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "at {}: ", self.path)?;
        }
        f.write_str(&self.problem)?;
        if self.line > 0 {
            write!(f, " (line {} column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for DecodeError {}

/// Reads one JSON document into a slot.
pub(crate) fn decode(body: &[u8], slot: &mut dyn Slot) -> Result<(), DecodeError> {
    let trail = RefCell::new(Trail::default());
    let mut json: Json<'_> = serde_json::Deserializer::from_slice(body);
    let result = serde::de::DeserializeSeed::deserialize(
        Fill {
            slot,
            trail: &trail,
        },
        &mut json,
    )
    .and_then(|outcome| match outcome {
        Outcome::Taken => Ok(()),
        Outcome::Refused(expected, value) => Err(refusal(&trail, expected, &describe(&value))),
    })
    .and_then(|()| json.end());
    result.map_err(|error| trail.into_inner().explain(&error))
}

/// Reads the `data` member of an answer.
pub(crate) fn decode_data<T: Slot + Default>(body: &[u8]) -> Result<T, DecodeError> {
    let mut value = T::default();
    let mut extra = Extra::new();
    decode(
        body,
        &mut Envelope {
            data: &mut value,
            extra: &mut extra,
        },
    )?;
    Ok(value)
}

/// Decodes an answer that was kept, as the request it belongs to would have: `T` is that request's
/// [`Output`](crate::request::ApiRequest::Output), and `body` the whole answer with its `data` member.
///
/// ```
/// # #[cfg(feature = "pools")]
/// # fn example() -> Result<(), proxmox_api::decode::DecodeError> {
/// use proxmox_api::api::pools::PoolsItem;
/// use proxmox_api::decode::from_answer;
///
/// let pools: Vec<PoolsItem> = from_answer(br#"{"data":[{"poolid":"web","comment":"x"}]}"#)?;
/// assert_eq!(pools[0].poolid, "web");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The body is no JSON object with a `data` member, or that member does not have the shape of `T`; the
/// error names the place.
pub fn from_answer<T: Slot + Default>(body: &[u8]) -> Result<T, DecodeError> {
    decode_data(body)
}

/// Reads what an answer holds beside its `data` member.
pub(crate) fn decode_beside(body: &[u8]) -> Result<Extra, DecodeError> {
    let mut extra = Extra::new();
    decode(
        body,
        &mut Envelope {
            data: &mut Skip,
            extra: &mut extra,
        },
    )?;
    Ok(extra)
}

/// Takes anything and keeps nothing.
struct Skip;

impl Slot for Skip {
    fn put(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Ok(())
    }

    fn object(&mut self) -> Option<&mut dyn Object> {
        Some(self)
    }

    fn array(&mut self) -> Option<&mut dyn Array> {
        Some(self)
    }
}

impl Object for Skip {
    fn slot(&mut self, _: &str) -> Option<(Need, &mut dyn Slot)> {
        Some((Need::OPTIONAL, self))
    }

    fn extra(&mut self) -> Option<&mut Extra> {
        None
    }
}

impl Array for Skip {
    fn next(&mut self) -> &mut dyn Slot {
        self
    }

    fn trim(&mut self) {}
}

struct Envelope<'a> {
    data: &'a mut dyn Slot,
    extra: &'a mut Extra,
}

impl Object for Envelope<'_> {
    fn slot(&mut self, key: &str) -> Option<(Need, &mut dyn Slot)> {
        (key == "data").then_some((Need::required(0), &mut *self.data))
    }

    fn extra(&mut self) -> Option<&mut Extra> {
        Some(self.extra)
    }

    fn required(&self) -> &'static [&'static str] {
        &["data"]
    }
}

impl Slot for Envelope<'_> {
    fn put(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("object with a data member")
    }

    fn object(&mut self) -> Option<&mut dyn Object> {
        Some(self)
    }
}

type Json<'a> = serde_json::Deserializer<SliceRead<'a>>;

/// The way to a problem, collected while errors travel outwards, so that success pays nothing.
#[derive(Default)]
struct Trail {
    /// Innermost first.
    segments: Vec<Segment>,
    problem: Option<String>,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl Trail {
    fn explain(self, error: &serde_json::Error) -> DecodeError {
        let mut path = String::new();
        for segment in self.segments.iter().rev() {
            match segment {
                Segment::Key(key) if path.is_empty() => path.push_str(key),
                Segment::Key(key) => path.extend([".", key]),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        let problem = self.problem.unwrap_or_else(|| {
            let text = error.to_string();
            match text.rfind(" at line ") {
                Some(end) => text[..end].to_owned(),
                None => text,
            }
        });
        DecodeError {
            path,
            problem,
            line: error.line(),
            column: error.column(),
        }
    }
}

fn refusal<E: serde::de::Error>(trail: &RefCell<Trail>, expected: &str, found: &str) -> E {
    fail(trail, format!("expected {expected}, found {found}"))
}

fn fail<E: serde::de::Error>(trail: &RefCell<Trail>, problem: String) -> E {
    trail.borrow_mut().problem.get_or_insert(problem);
    E::custom("unexpected shape")
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => Scalar::Null.describe(),
        Value::Bool(value) => Scalar::Bool(*value).describe(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => Scalar::Text(value).describe(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// What became of a value.
enum Outcome {
    Taken,
    /// The slot did not want it; here it is.
    Refused(Expected, Value),
}

/// Hands one JSON value to a slot.
struct Fill<'s, 't> {
    slot: &'s mut dyn Slot,
    trail: &'t RefCell<Trail>,
}

impl Fill<'_, '_> {
    fn scalar<E>(self, value: Scalar<'_>) -> Result<Outcome, E> {
        Ok(match self.slot.put(&value) {
            Ok(()) => Outcome::Taken,
            Err(expected) => Outcome::Refused(expected, value.to_json()),
        })
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Fill<'_, '_> {
    type Value = Outcome;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Outcome, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Fill<'_, '_> {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Outcome, E> {
        self.scalar(Scalar::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Outcome, E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Outcome, E> {
        self.scalar(Scalar::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Outcome, E> {
        self.scalar(match i64::try_from(value) {
            Ok(value) => Scalar::Int(value),
            Err(_) => Scalar::UInt(value),
        })
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Outcome, E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Outcome, E> {
        self.scalar(Scalar::Text(value))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Outcome, A::Error> {
        let Self { slot, trail } = self;
        let Some(array) = slot.array() else {
            let expected = expectation(slot);
            let value: Value =
                serde::Deserialize::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
            // What takes an empty text for an empty hash takes an empty list for one as well.
            let empty = expected == "object" && value.as_array().is_some_and(Vec::is_empty);
            if empty && slot.put(&Scalar::Text("")).is_ok() {
                return Ok(Outcome::Taken);
            }
            return Ok(keep(slot, expected, value));
        };
        let mut index = 0;
        loop {
            // An element that turns out not to exist is taken back by `trim`.
            let element = array.next();
            let outcome = match seq.next_element_seed(Fill {
                slot: element,
                trail,
            }) {
                Ok(Some(Outcome::Taken)) => Ok(()),
                Ok(Some(Outcome::Refused(expected, value))) => {
                    Err(refusal(trail, expected, &describe(&value)))
                }
                Ok(None) => {
                    array.trim();
                    return Ok(Outcome::Taken);
                }
                Err(error) => Err(error),
            };
            outcome.inspect_err(|_| trail.borrow_mut().segments.push(Segment::Index(index)))?;
            index += 1;
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        let Self { slot, trail } = self;
        let Some(object) = slot.object() else {
            let expected = expectation(slot);
            let value =
                serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
            return Ok(keep(slot, expected, value));
        };
        let mut seen = 0_u64;
        while let Some(Key(key)) = map.next_key()? {
            member(object, &key, &mut map, &mut seen, trail).inspect_err(|_| {
                trail
                    .borrow_mut()
                    .segments
                    .push(Segment::Key(key.into_owned()))
            })?;
        }
        let required = object.required();
        match (0..required.len()).find(|bit| seen & (1 << bit) == 0) {
            None => Ok(Outcome::Taken),
            Some(bit) => Err(fail(
                trail,
                format!("the required member `{}` is missing", required[bit]),
            )),
        }
    }
}

/// Reads one member of an object.
fn member<'de, A: serde::de::MapAccess<'de>>(
    object: &mut dyn Object,
    key: &str,
    map: &mut A,
    seen: &mut u64,
    trail: &RefCell<Trail>,
) -> Result<(), A::Error> {
    let (need, value) = match object.slot(key) {
        Some((need, slot)) => match map.next_value_seed(Fill { slot, trail })? {
            Outcome::Taken => {
                *seen |= need.bit();
                return Ok(());
            }
            Outcome::Refused(expected, value) => {
                object.forget(key);
                if value.is_null() {
                    // The same as not there; whether that is an error shows at the end.
                    return Ok(());
                }
                (Some((need, expected)), value)
            }
        },
        None => (None, map.next_value()?),
    };
    match (need, object.extra()) {
        (None | Some((Need::OPTIONAL, _)), Some(extra)) => {
            extra.insert(key.to_owned(), value);
            Ok(())
        }
        (None, None) => Ok(()),
        (Some((_, expected)), _) => Err(refusal(trail, expected, &describe(&value))),
    }
}

fn keep(slot: &mut dyn Slot, expected: Expected, value: Value) -> Outcome {
    match slot.any() {
        Some(any) => {
            *any = value;
            Outcome::Taken
        }
        None => Outcome::Refused(expected, value),
    }
}

/// What a slot that takes no such value takes instead; asked only on the way to an error.
fn expectation(slot: &mut dyn Slot) -> Expected {
    let expected = if slot.object().is_some() {
        "object"
    } else if slot.array().is_some() {
        "array"
    } else {
        "scalar"
    };
    // Asking made an optional slot ready to be filled; it stays empty. Other slots refuse, rightly.
    let _ = slot.put(&Scalar::Null);
    expected
}

/// An object's key, borrowed from the body unless it holds escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> serde::de::Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        json.deserialize_str(KeyVisitor)
    }
}

impl Slot for bool {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Bool(value) => *value,
            Scalar::Int(0) | Scalar::Float(0.0) => false,
            Scalar::Int(1) | Scalar::Float(1.0) => true,
            Scalar::Text(text) => read_bool(text).ok_or("boolean")?,
            _ => return Err("boolean"),
        };
        Ok(())
    }
}

/// Perl's booleans, and the words that property strings allow.
pub(crate) fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "" | "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

fn integer(value: &Scalar<'_>) -> Option<i64> {
    match *value {
        Scalar::Bool(value) => Some(value.into()),
        Scalar::Int(value) => Some(value),
        Scalar::UInt(_) | Scalar::Null => None,
        // Perl writes large sizes as floats; beyond 2^63 the cast below would not be exact.
        Scalar::Float(value) => {
            (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(value as i64)
        }
        Scalar::Text(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| {
                let float = text.parse::<f64>().ok()?;
                integer(&Scalar::Float(float))
            })
        }
    }
}

impl Slot for i64 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = integer(value).ok_or("integer")?;
        Ok(())
    }
}

impl Slot for u32 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let wide = integer(value).ok_or("integer")?;
        *self = wide
            .try_into()
            .map_err(|_| "integer from 0 to 4294967295")?;
        Ok(())
    }
}

impl Slot for f64 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match *value {
            Scalar::Int(value) => value as f64,
            Scalar::UInt(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Text(text) => text.trim().parse().map_err(|_| "number")?,
            Scalar::Bool(_) | Scalar::Null => return Err("number"),
        };
        Ok(())
    }
}

impl Slot for String {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.text().ok_or("string")?.into_owned();
        Ok(())
    }
}

impl Slot for Secret {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.text().ok_or("string")?.into_owned().into();
        Ok(())
    }
}

impl Slot for Value {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.to_json();
        Ok(())
    }

    fn any(&mut self) -> Option<&mut Value> {
        Some(self)
    }
}

impl<T: Slot + Default> Slot for Option<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Null => None,
            value => {
                let mut inner = T::default();
                inner.put(value)?;
                Some(inner)
            }
        };
        Ok(())
    }

    // Each asks a new value whether it takes such a thing, and asks it again to lend it out.

    fn object(&mut self) -> Option<&mut dyn Object> {
        if self.insert(T::default()).object().is_none() {
            *self = None;
        }
        self.as_mut()?.object()
    }

    fn array(&mut self) -> Option<&mut dyn Array> {
        if self.insert(T::default()).array().is_none() {
            *self = None;
        }
        self.as_mut()?.array()
    }

    fn any(&mut self) -> Option<&mut Value> {
        if self.insert(T::default()).any().is_none() {
            *self = None;
        }
        self.as_mut()?.any()
    }
}

impl<T: Slot + Default> Slot for Vec<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        self.clear();
        // Older releases write one scalar where newer ones write an array.
        if *value != Scalar::Null {
            let mut only = T::default();
            only.put(value).map_err(|_| "array")?;
            self.push(only);
        }
        Ok(())
    }

    fn array(&mut self) -> Option<&mut dyn Array> {
        self.clear();
        Some(self)
    }
}

impl<T: Slot + Default> Array for Vec<T> {
    fn next(&mut self) -> &mut dyn Slot {
        let index = self.len();
        self.push(T::default());
        &mut self[index]
    }

    fn trim(&mut self) {
        self.pop();
        // Room to grow is up to half of a long list, and what asked for the list may keep it.
        if (self.capacity() - self.len()) * size_of::<T>() > 4096 {
            self.shrink_to_fit();
        }
    }
}

impl<T: Slot + Default> Slot for Box<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        (**self).put(value)
    }

    fn object(&mut self) -> Option<&mut dyn Object> {
        (**self).object()
    }

    fn array(&mut self) -> Option<&mut dyn Array> {
        (**self).array()
    }

    fn any(&mut self) -> Option<&mut Value> {
        (**self).any()
    }
}

impl<T: Slot + Default> Slot for BTreeMap<String, T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        self.clear();
        match value {
            // Perl code returns an empty string or an empty list for an empty hash now and then.
            Scalar::Null | Scalar::Text("") => Ok(()),
            _ => Err("object"),
        }
    }

    fn object(&mut self) -> Option<&mut dyn Object> {
        self.clear();
        Some(self)
    }
}

impl<T: Slot + Default> Object for BTreeMap<String, T> {
    fn slot(&mut self, key: &str) -> Option<(Need, &mut dyn Slot)> {
        Some((Need::required(63), self.entry(key.to_owned()).or_default()))
    }

    fn extra(&mut self) -> Option<&mut Extra> {
        None
    }

    fn forget(&mut self, key: &str) {
        self.remove(key);
    }
}

/// Splits `net12` into `net` and 12; `None` for what is not an index between 0 and 255.
#[doc(hidden)]
#[must_use]
pub fn indexed(key: &str) -> Option<(&str, u8)> {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &key[name.len()..];
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && !digits.is_empty()).then(|| Some((name, digits.parse().ok()?)))?
}

/// Takes back what [`family`] made for `key`, if the family is `name`.
#[doc(hidden)]
pub fn strike<T>(map: &mut BTreeMap<u8, T>, name: &str, key: &str) {
    if let Some((_, index)) = indexed(key).filter(|(family, _)| *family == name) {
        map.remove(&index);
    }
}

/// The slot of one member of an indexed family.
#[doc(hidden)]
pub fn family<T: Slot + Default>(map: &mut BTreeMap<u8, T>, index: u8) -> &mut dyn Slot {
    map.entry(index).or_default()
}
