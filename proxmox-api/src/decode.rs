//! From an answer's JSON to typed values.
//!
//! The tokens come from `serde_json`. One concrete visitor hands each of them to a [`Slot`]: a place
//! that knows how to take it. A generated struct contributes a match from key to slot and nothing
//! else; objects, arrays, unknown keys, leniency and errors are handled here, once. See
//! `docs/adr/0001-decoding.md`.

use std::borrow::Cow;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::de::StrRead;

use crate::Secret;
use crate::property_string::{self, Rules, Undeclared};

/// Members of an object that its type does not declare.
pub type Extra = serde_json::Map<String, Value>;

/// What a slot would have taken; completes "expected …".
pub type Expected = &'static str;

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

    fn to_json(self) -> Value {
        match self {
            Self::Unset | Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::UInt(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
        }
    }

    fn describe(&self) -> String {
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
    fn family(&self, key: &str) -> Option<(usize, u8)> {
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

/// All settings of an object that are one text, by their names.
pub(crate) fn settings(object: &mut dyn Object) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    object.open(&mut |shape, slots| {
        let scalars = shape.required.len() + shape.optional.len();
        for (position, (name, slot)) in shape.names().zip(slots.iter_mut()).enumerate() {
            if position < scalars {
                found.extend(slot.text().map(|text| (name.to_owned(), text)));
            } else if let Inside::Family(family) = slot.inside() {
                family.each(&mut |number, slot| {
                    found.extend(slot.text().map(|text| (format!("{name}{number}"), text)));
                });
            }
        }
        if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
            let text = |(key, value): (&String, &Value)| Some((key.clone(), text_of(value)?));
            found.extend(rest.iter().filter_map(text));
        }
    });
    found
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

/// Prints an object with the members that are set.
#[doc(hidden)]
pub fn debug(object: &mut dyn Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut result = Ok(());
    object.open(&mut |shape, slots| {
        let mut out = f.debug_struct(shape.name);
        for (name, slot) in shape.names().zip(slots.iter_mut()) {
            slot.show(&mut |value| {
                out.field(name, value);
            });
        }
        if let Some(rest) = slots.last_mut() {
            let name = match shape.rules {
                None => "extra",
                Some(_) => "undeclared",
            };
            rest.show(&mut |value| {
                out.field(name, value);
            });
        }
        result = out.finish();
    });
    result
}

/// Lends a value that can only be looked at through its slots to a formatter.
pub(crate) struct Shown<'a, T: ?Sized>(RefCell<&'a mut T>);

impl<'a, T: ?Sized> Shown<'a, T> {
    pub(crate) fn new(value: &'a mut T) -> Self {
        Self(RefCell::new(value))
    }

    /// What it lends is given back before it is asked again.
    pub(crate) fn lend(&self) -> RefMut<'_, &'a mut T> {
        self.0.borrow_mut()
    }
}

impl fmt::Debug for Shown<'_, dyn Object + '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&mut **self.lend(), f)
    }
}

impl<T: Slot> fmt::Debug for Shown<'_, [T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for item in self.lend().iter_mut() {
            item.show(&mut |value| {
                list.entry(value);
            });
        }
        list.finish()
    }
}

impl<T: Slot> fmt::Debug for Shown<'_, BTreeMap<String, T>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, item) in self.lend().iter_mut() {
            item.show(&mut |value| {
                map.entry(key, value);
            });
        }
        map.finish()
    }
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
    // Looking at all of it once is cheaper than at each text for itself.
    match std::str::from_utf8(body) {
        Ok(text) => decode_text(text, slot),
        Err(error) => {
            // What comes before tells the place.
            let valid = &body[..error.valid_up_to()];
            let valid = std::str::from_utf8(valid).unwrap_or_default();
            match decode_text(valid, slot) {
                Ok(()) => Err(DecodeError::new("", NO_UTF8)),
                Err(error) => Err(DecodeError {
                    problem: NO_UTF8.to_owned(),
                    ..error
                }),
            }
        }
    }
}

const NO_UTF8: &str = "what follows is not UTF-8";

fn decode_text(body: &str, slot: &mut dyn Slot) -> Result<(), DecodeError> {
    let trail = RefCell::new(Trail::default());
    let mut json: Json<'_> = serde_json::Deserializer::from_str(body);
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

    fn inside(&mut self) -> Inside<'_> {
        Inside::Skip
    }

    fn show(&mut self, _: &mut dyn FnMut(&dyn fmt::Debug)) {}
}

struct Envelope<'a> {
    data: &'a mut dyn Slot,
    extra: &'a mut Extra,
}

impl Object for Envelope<'_> {
    fn open(&mut self, visit: &mut dyn FnMut(&'static Shape, &mut [&mut dyn Slot])) {
        const SHAPE: &Shape = &Shape {
            name: "object with a data member",
            required: &["data"],
            optional: &[],
            families: &[],
            rules: None,
        };
        visit(SHAPE, &mut [&mut *self.data, &mut *self.extra]);
    }
}

type Json<'a> = serde_json::Deserializer<StrRead<'a>>;

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

trait Along {
    fn key(&self, key: Cow<'_, str>);
}

impl Along for RefCell<Trail> {
    fn key(&self, key: Cow<'_, str>) {
        let key = Segment::Key(key.into_owned());
        self.borrow_mut().segments.push(key);
    }
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
        let array = match slot.inside() {
            Inside::Array(array) => array,
            Inside::Skip => {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                return Ok(Outcome::Taken);
            }
            inside => {
                // What takes an empty text for an empty hash takes an empty list for one as well.
                let map = matches!(inside, Inside::Map(_));
                let value: Value = serde::Deserialize::deserialize(
                    serde::de::value::SeqAccessDeserializer::new(seq),
                )?;
                return Ok(match value.as_array().is_some_and(Vec::is_empty) && map {
                    true => Outcome::Taken,
                    false => keep(slot, value),
                });
            }
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
        match slot.inside() {
            Inside::Object(object) => {
                let mut result = Ok(());
                object.open(&mut |shape, slots| result = members(shape, slots, &mut map, trail));
                result?;
            }
            Inside::Map(entries) => {
                while let Some(Key(key)) = map.next_key()? {
                    entry(entries, &key, &mut map, trail).inspect_err(|_| trail.key(key))?;
                }
            }
            Inside::Skip => {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
            }
            _ => {
                let value = serde::Deserialize::deserialize(
                    serde::de::value::MapAccessDeserializer::new(map),
                )?;
                return Ok(keep(slot, value));
            }
        }
        Ok(Outcome::Taken)
    }
}

/// Reads the members of an object.
fn members<'de, A: serde::de::MapAccess<'de>>(
    shape: &Shape,
    slots: &mut [&mut dyn Slot],
    map: &mut A,
    trail: &RefCell<Trail>,
) -> Result<(), A::Error> {
    let mut state = State::default();
    while let Some(Key(key)) = map.next_key()? {
        member(shape, slots, &key, map, &mut state, trail).inspect_err(|_| trail.key(key))?;
    }
    let bit = |bits: u64, index: usize| bits & (1 << index) != 0;
    match (0..shape.required.len()).find(|index| !bit(state.seen, *index)) {
        None => Ok(()),
        Some(index) => {
            let name = shape.required[index];
            let is = if bit(state.nulls, index) {
                "null"
            } else {
                "missing"
            };
            Err(fail(trail, format!("the required member `{name}` is {is}")))
        }
    }
}

/// How far an object was read.
#[derive(Default)]
struct State {
    /// Where the search for the next member starts.
    from: usize,
    /// A bit for each required member that came.
    seen: u64,
    /// A bit for each that came as null.
    nulls: u64,
}

/// Reads one member of an object.
fn member<'de, A: serde::de::MapAccess<'de>>(
    shape: &Shape,
    slots: &mut [&mut dyn Slot],
    key: &str,
    map: &mut A,
    state: &mut State,
    trail: &RefCell<Trail>,
) -> Result<(), A::Error> {
    let mut required = None;
    let refused = if let Some(index) = shape.find(key, &mut state.from) {
        let bit = if index < shape.required.len() {
            1 << index
        } else {
            0
        };
        let slot = &mut *slots[index];
        match map.next_value_seed(Fill { slot, trail })? {
            Outcome::Taken => {
                state.seen |= bit;
                return Ok(());
            }
            Outcome::Refused(expected, value) => {
                if bit != 0 {
                    required = Some(expected);
                    if value.is_null() {
                        state.nulls |= bit;
                    }
                }
                value
            }
        }
    } else if let Some((index, number)) = shape.family(key)
        && let Inside::Family(family) = slots[index].inside()
    {
        let mut result = Ok(Outcome::Taken);
        family.add(number, &mut |slot| {
            result = map.next_value_seed(Fill { slot, trail });
            matches!(result, Ok(Outcome::Taken))
        });
        match result? {
            Outcome::Taken => return Ok(()),
            Outcome::Refused(_, value) => value,
        }
    } else {
        let value = map.next_value()?;
        if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
            rest.insert(key.to_owned(), value);
        }
        return Ok(());
    };
    match required {
        // The same as not there; whether that is an error shows at the end.
        _ if refused.is_null() => Ok(()),
        Some(expected) => Err(refusal(trail, expected, &describe(&refused))),
        None => {
            if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
                rest.insert(key.to_owned(), refused);
            }
            Ok(())
        }
    }
}

/// Reads one entry of an object with any keys.
fn entry<'de, A: serde::de::MapAccess<'de>>(
    entries: &mut dyn Map,
    key: &str,
    map: &mut A,
    trail: &RefCell<Trail>,
) -> Result<(), A::Error> {
    let mut result = Ok(Outcome::Taken);
    entries.add(key, &mut |slot| {
        result = map.next_value_seed(Fill { slot, trail });
        matches!(result, Ok(Outcome::Taken))
    });
    match result? {
        Outcome::Taken | Outcome::Refused(_, Value::Null) => Ok(()),
        Outcome::Refused(expected, value) => Err(refusal(trail, expected, &describe(&value))),
    }
}

fn rest(slot: &mut dyn Slot) -> Option<&mut Extra> {
    match slot.inside() {
        Inside::Extra(extra) => Some(extra),
        Inside::Undeclared(undeclared) => Some(undeclared.members_mut()),
        _ => None,
    }
}

/// Gives an array or an object to a slot that lent out no place for it.
fn keep(slot: &mut dyn Slot, value: Value) -> Outcome {
    let expected = match slot.inside() {
        Inside::Any(any) => {
            *any = value;
            return Outcome::Taken;
        }
        Inside::Array(_) => "array",
        Inside::Map(_) | Inside::Family(_) | Inside::Object(_) => "object",
        Inside::Scalar | Inside::Skip | Inside::Extra(_) | Inside::Undeclared(_) => "scalar",
    };
    // Asking made an optional slot ready to be filled; it stays empty. Other slots refuse, rightly.
    let _ = slot.put(&Scalar::Null);
    Outcome::Refused(expected, value)
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

/// What scalar slots have besides `put`.
macro_rules! scalar_slot {
    (|$slot:ident| $text:expr) => {
        #[inline]
        fn text(&mut self) -> Option<String> {
            let $slot = &*self;
            Some($text)
        }

        #[inline]
        fn show(&mut self, out: &mut dyn FnMut(&dyn std::fmt::Debug)) {
            out(self);
        }
    };
}

pub(crate) use scalar_slot;

impl Slot for bool {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Bool(value) => *value,
            Scalar::Int(0) | Scalar::Float(0.0) | Scalar::Unset => false,
            Scalar::Int(1) | Scalar::Float(1.0) => true,
            Scalar::Text(text) => read_bool(text).ok_or("boolean")?,
            _ => return Err("boolean"),
        };
        Ok(())
    }

    scalar_slot!(|slot| u8::from(*slot).to_string());
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
        Scalar::Unset => Some(0),
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

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for u32 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let wide = integer(value).ok_or("integer")?;
        *self = wide
            .try_into()
            .map_err(|_| "integer from 0 to 4294967295")?;
        Ok(())
    }

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for f64 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match *value {
            Scalar::Int(value) => value as f64,
            Scalar::UInt(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Text(text) => text.trim().parse().map_err(|_| "number")?,
            Scalar::Unset => 0.0,
            Scalar::Bool(_) | Scalar::Null => return Err("number"),
        };
        Ok(())
    }

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for String {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Text(text) => (*text).to_owned(),
            value => value.text().ok_or("string")?.into_owned(),
        };
        Ok(())
    }

    scalar_slot!(|slot| slot.clone());
}

impl Slot for Secret {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.text().ok_or("string")?.into_owned().into();
        Ok(())
    }

    scalar_slot!(|slot| slot.expose().to_owned());
}

impl Slot for Value {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.to_json();
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Any(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(self);
    }
}

impl Slot for Extra {
    fn put(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("object")
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Extra(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        if !self.is_empty() {
            out(self);
        }
    }
}

impl<T: Object> Slot for T {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        put_text(self, value)
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Object(self)
    }

    fn text(&mut self) -> Option<String> {
        property_string::text(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        let object: &mut dyn Object = self;
        out(&Shown::new(object));
    }
}

/// A text fits an object that is a property string.
fn put_text(object: &mut dyn Object, value: &Scalar<'_>) -> Result<(), Expected> {
    let mut result = Ok(());
    object.open(&mut |shape, slots| {
        result = match (shape.rules, value.text()) {
            (None, _) => Err("object"),
            (_, None) => Err("property string"),
            (Some(rules), Some(text)) => {
                property_string::read_slots(&text, shape, rules, slots);
                Ok(())
            }
        }
    });
    result
}

impl<T: Slot + Default> Slot for Option<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let taken = match value {
            Scalar::Null | Scalar::Unset => None,
            value => Some(self.insert(T::default()).put(value)),
        };
        if !matches!(taken, Some(Ok(()))) {
            *self = None;
        }
        taken.unwrap_or(Ok(()))
    }

    fn inside(&mut self) -> Inside<'_> {
        // A new value is asked what it takes, and asked again to lend it out.
        if matches!(self.insert(T::default()).inside(), Inside::Scalar) {
            *self = None;
        }
        self.as_mut().map_or(Inside::Scalar, T::inside)
    }

    fn text(&mut self) -> Option<String> {
        self.as_mut()?.text()
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        if let Some(inner) = self {
            inner.show(out);
        }
    }
}

impl<T: Slot + Default> Slot for Vec<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let mut only = None;
        // Older releases write one scalar where newer ones write an array.
        if !matches!(value, Scalar::Null | Scalar::Unset) {
            only.insert(T::default()).put(value).map_err(|_| "array")?;
        }
        self.clear();
        self.extend(only);
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        self.clear();
        Inside::Array(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(&Shown::new(&mut self[..]));
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

impl<T: Slot + Default> Slot for BTreeMap<String, T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        match value {
            // Perl code returns an empty string or an empty list for an empty hash now and then.
            Scalar::Null | Scalar::Unset | Scalar::Text("") => {
                self.clear();
                Ok(())
            }
            _ => Err("object"),
        }
    }

    fn inside(&mut self) -> Inside<'_> {
        self.clear();
        Inside::Map(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(&Shown::new(self));
    }
}

impl<T: Slot + Default> Map for BTreeMap<String, T> {
    fn add(&mut self, key: &str, fill: &mut dyn FnMut(&mut dyn Slot) -> bool) {
        let mut value = T::default();
        if fill(&mut value) {
            self.insert(key.to_owned(), value);
        }
    }
}

/// Splits `net12` into `net` and 12; `None` for what is not an index between 0 and 255.
fn indexed(key: &str) -> Option<(&str, u8)> {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &key[name.len()..];
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && !digits.is_empty()).then(|| Some((name, digits.parse().ok()?)))?
}
