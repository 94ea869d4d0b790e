//! From an answer's JSON to typed values.
//!
//! The tokens come from `serde_json`. One concrete visitor hands each of them to a [`Slot`]: a place
//! that knows how to take it. A generated struct contributes a match from key to slot and nothing
//! else; objects, arrays, unknown keys, leniency and errors are handled here, once. See
//! `docs/adr/0001-decoding.md`.

mod show;
mod slot;
mod values;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde_json::Value;
use serde_json::de::StrRead;

use crate::bounds::{Bound, Bounds, Exceeded};

pub(crate) use show::Shown;
pub use show::debug;
pub use slot::{Array, Inside, Map, Numbered, Object, Scalar, Shape, Slot};
pub(crate) use slot::{rest, text_of};
pub(crate) use values::scalar_slot;

/// Members of an object that its type does not declare.
pub type Extra = serde_json::Map<String, Value>;

/// What a slot would have taken; completes "expected …".
pub type Expected = &'static str;

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
    let Err(first) = pass(body, slot, Mode::Straight) else {
        return Ok(());
    };
    // Only a shape can be made up for. The slot is filled anew from the same text, so nothing of the first
    // pass stays.
    if !first.is_shape {
        return Err(first.error);
    }
    match pass(body, slot, Mode::Careful) {
        Ok(()) => {
            note_misfit(&first.error);
            Ok(())
        }
        // A list of which nothing fits is told by its first element.
        Err(second) if first.error.path.starts_with(&second.error.path) => Err(first.error),
        Err(second) => Err(second.error),
    }
}

/// Says that a part was kept aside. The text names the place and the kinds of value, and quotes none.
fn note_misfit(problem: &DecodeError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "proxmox_api", %problem, "a part of the answer does not fit");
    #[cfg(not(feature = "tracing"))]
    let _ = problem;
}

struct Failure {
    error: DecodeError,
    /// The text is JSON, but not of the declared shape.
    is_shape: bool,
}

fn pass(body: &str, slot: &mut dyn Slot, mode: Mode) -> Result<(), Failure> {
    let context = Context {
        mode,
        trail: RefCell::default(),
    };
    let mut json: Json<'_> = serde_json::Deserializer::from_str(body);
    let fill = Fill {
        slot,
        context: &context,
    };
    let result = serde::de::DeserializeSeed::deserialize(fill, &mut json)
        .and_then(|outcome| match outcome {
            Outcome::Taken | Outcome::Partly(_) => Ok(()),
            Outcome::Nothing(expected, value) | Outcome::Refused(expected, value) => {
                Err(context.refusal(expected, &describe(&value)))
            }
        })
        .and_then(|()| json.end());
    result.map_err(|error| {
        let trail = context.trail.into_inner();
        Failure {
            is_shape: trail.problem.is_some(),
            error: trail.explain(&error),
        }
    })
}

/// Reads the `data` member of an answer.
pub(crate) fn decode_data<T: Slot + Default>(body: &[u8]) -> Result<T, DecodeError> {
    decode_answer(body, &mut Extra::new())
}

/// As [`decode_data`]; `extra` gets what stands beside that member, and under `data` what of it does not fit.
pub(crate) fn decode_answer<T: Slot + Default>(
    body: &[u8],
    extra: &mut Extra,
) -> Result<T, DecodeError> {
    let mut value = T::default();
    decode(
        body,
        &mut Envelope {
            data: &mut value,
            extra,
        },
    )?;
    Ok(value)
}

/// Decodes an answer that was kept, as the request it belongs to would have: `T` is that request's
/// [`Output`](crate::request::ApiRequest::Output), and `body` the whole answer with its `data` member.
///
/// ```
/// # #[cfg(feature = "pools")]
/// # fn example() -> Result<(), proxmox_api::value::decode::DecodeError> {
/// use proxmox_api::pve::pools::PoolsItem;
/// use proxmox_api::value::decode::from_answer;
///
/// let pools: Vec<PoolsItem> = from_answer(br#"{"data":[{"poolid":"web","comment":"x"}]}"#)?;
/// assert_eq!(pools[0].poolid, "web");
/// # Ok(())
/// # }
/// ```
///
/// Elements of a list that do not fit are left out; [`Answer::from_body`](crate::stream::envelope::Answer::from_body)
/// keeps them.
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
        visit(&ENVELOPE, &mut [&mut *self.data, &mut *self.extra]);
    }
}

static ENVELOPE: Shape = Shape {
    name: "object with a data member",
    required: &["data"],
    optional: &[],
    families: &[],
    rules: None,
};

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

/// How much trouble is taken over what does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// None: what cannot be left out ends the pass. Nearly all answers are read this way.
    Straight,
    /// Whatever can be left out is at hand as JSON while it is read, so that it can be kept aside whole.
    Careful,
}

struct Context {
    mode: Mode,
    trail: RefCell<Trail>,
}

impl Context {
    fn key(&self, key: Cow<'_, str>) {
        self.segment(Segment::Key(key.into_owned()));
    }

    fn segment(&self, segment: Segment) {
        self.trail.borrow_mut().segments.push(segment);
    }

    fn refusal<E: serde::de::Error>(&self, expected: &str, found: &str) -> E {
        self.fail(format!("expected {expected}, found {found}"))
    }

    fn fail<E: serde::de::Error>(&self, problem: String) -> E {
        self.trail.borrow_mut().problem.get_or_insert(problem);
        E::custom("unexpected shape")
    }

    /// Offers a slot a value that is at hand; what it does not take comes back.
    fn offer(&self, slot: &mut dyn Slot, value: Value) -> Outcome {
        let fill = Fill {
            slot,
            context: self,
        };
        match serde::de::DeserializeSeed::deserialize(fill, &value) {
            Ok(outcome) => outcome,
            Err(_) => {
                self.trail.take();
                Outcome::Refused("value of the declared shape", value)
            }
        }
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
            if text.starts_with("recursion limit exceeded") {
                let depth = Bounds::new().depth;
                return Exceeded::new(Bound::Depth, depth).to_string();
            }
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
    /// The slot took a part; here is the rest, in the shape of the whole. In an array, null stands for what was taken.
    Partly(Value),
    /// As [`Outcome::Partly`], but there was nothing to take: a list or a map of which no entry fits.
    Nothing(Expected, Value),
    /// The slot did not want it; here it is.
    Refused(Expected, Value),
}

/// The elements of an array that were not taken, each in its place among those that were.
#[derive(Default)]
struct Rest(Vec<Value>);

impl Rest {
    fn keep(&mut self, index: usize, value: Value) {
        self.0.resize(index, Value::Null);
        self.0.push(value);
    }
}

/// Hands one JSON value to a slot.
struct Fill<'s, 'c> {
    slot: &'s mut dyn Slot,
    context: &'c Context,
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
        let Self { slot, context } = self;
        match slot.inside() {
            Inside::Array(array) => elements(array, &mut seq, context),
            Inside::Skip => {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Outcome::Taken)
            }
            inside => {
                // What takes an empty text for an empty hash takes an empty list for one as well.
                let map = matches!(inside, Inside::Map(_));
                let value: Value = serde::Deserialize::deserialize(
                    serde::de::value::SeqAccessDeserializer::new(seq),
                )?;
                Ok(match value.as_array().is_some_and(Vec::is_empty) && map {
                    true => Outcome::Taken,
                    false => keep(slot, value),
                })
            }
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        let Self { slot, context } = self;
        match slot.inside() {
            Inside::Object(object) => {
                let mut result = Ok(());
                object.open(&mut |shape, slots| result = members(shape, slots, &mut map, context));
                result.map(|()| Outcome::Taken)
            }
            Inside::Map(entries) => values(entries, &mut map, context),
            Inside::Skip => {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(Outcome::Taken)
            }
            _ => {
                let value = serde::Deserialize::deserialize(
                    serde::de::value::MapAccessDeserializer::new(map),
                )?;
                Ok(keep(slot, value))
            }
        }
    }
}

/// Reads the elements of an array. One that is null is not there.
fn elements<'de, A: serde::de::SeqAccess<'de>>(
    array: &mut dyn Array,
    seq: &mut A,
    context: &Context,
) -> Result<Outcome, A::Error> {
    let mut rest = Rest::default();
    let (mut index, mut taken) = (0, 0);
    loop {
        // An element that turns out not to exist is taken back by `trim`.
        let slot = array.next();
        let outcome = match context.mode {
            Mode::Straight => seq
                .next_element_seed(Fill { slot, context })
                .inspect_err(|_| context.segment(Segment::Index(index)))?,
            Mode::Careful => {
                let value = seq.next_element()?;
                value.map(|value| context.offer(slot, value))
            }
        };
        match outcome {
            Some(Outcome::Taken) => {
                taken += 1;
                index += 1;
            }
            Some(Outcome::Partly(part)) => {
                rest.keep(index, part);
                taken += 1;
                index += 1;
            }
            Some(Outcome::Refused(_, Value::Null)) => array.trim(),
            Some(Outcome::Nothing(expected, value) | Outcome::Refused(expected, value)) => {
                array.trim();
                if context.mode == Mode::Straight {
                    let error = context.refusal(expected, &describe(&value));
                    context.segment(Segment::Index(index));
                    return Err(error);
                }
                rest.keep(index, value);
                index += 1;
            }
            None => {
                array.trim();
                return Ok(match rest.0 {
                    rest if rest.is_empty() => Outcome::Taken,
                    rest if taken == 0 => Outcome::Nothing("array of such elements", rest.into()),
                    rest => Outcome::Partly(rest.into()),
                });
            }
        }
    }
}

/// Reads the values of an object with any keys. One that is null is not there.
fn values<'de, A: serde::de::MapAccess<'de>>(
    entries: &mut dyn Map,
    map: &mut A,
    context: &Context,
) -> Result<Outcome, A::Error> {
    let mut rest = Extra::new();
    let mut taken = 0;
    while let Some(Key(key)) = map.next_key()? {
        let outcome = added(&mut |fill| entries.add(&key, fill), map, context);
        match outcome {
            Ok(Outcome::Taken) => taken += 1,
            Ok(Outcome::Partly(part)) => {
                rest.insert(key.into_owned(), part);
                taken += 1;
            }
            Ok(Outcome::Refused(_, Value::Null)) => {}
            Ok(Outcome::Nothing(_, value) | Outcome::Refused(_, value))
                if context.mode == Mode::Careful =>
            {
                rest.insert(key.into_owned(), value);
            }
            Ok(Outcome::Nothing(expected, value) | Outcome::Refused(expected, value)) => {
                let error = context.refusal(expected, &describe(&value));
                context.key(key);
                return Err(error);
            }
            Err(error) => {
                context.key(key);
                return Err(error);
            }
        }
    }
    Ok(match rest.is_empty() {
        true => Outcome::Taken,
        false if taken == 0 => Outcome::Nothing("object of such values", rest.into()),
        false => Outcome::Partly(rest.into()),
    })
}

type Filling<'f> = &'f mut dyn FnMut(&mut dyn Slot) -> bool;

/// Reads a value into a slot that stays only if it could be filled.
fn added<'de, A: serde::de::MapAccess<'de>>(
    add: &mut dyn FnMut(Filling<'_>),
    map: &mut A,
    context: &Context,
) -> Result<Outcome, A::Error> {
    let mut at_hand = match context.mode {
        Mode::Straight => None,
        Mode::Careful => Some(map.next_value()?),
    };
    let mut result = Ok(Outcome::Taken);
    add(&mut |slot| {
        result = match at_hand.take() {
            Some(value) => Ok(context.offer(slot, value)),
            None => map.next_value_seed(Fill { slot, context }),
        };
        matches!(result, Ok(Outcome::Taken | Outcome::Partly(_)))
    });
    result
}

/// Reads the members of an object.
fn members<'de, A: serde::de::MapAccess<'de>>(
    shape: &Shape,
    slots: &mut [&mut dyn Slot],
    map: &mut A,
    context: &Context,
) -> Result<(), A::Error> {
    let mut state = State::default();
    while let Some(Key(key)) = map.next_key()? {
        member(shape, slots, &key, map, &mut state, context).inspect_err(|_| context.key(key))?;
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
            Err(context.fail(format!("the required member `{name}` is {is}")))
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

/// Reads one member of an object. What of it does not fit stays with the object's undeclared members, unless it
/// has to be there.
fn member<'de, A: serde::de::MapAccess<'de>>(
    shape: &Shape,
    slots: &mut [&mut dyn Slot],
    key: &str,
    map: &mut A,
    state: &mut State,
    context: &Context,
) -> Result<(), A::Error> {
    let outcome = if let Some(index) = shape.find(key, &mut state.from) {
        let slot = &mut *slots[index];
        if index < shape.required.len() {
            let bit = 1 << index;
            let outcome = map.next_value_seed(Fill { slot, context })?;
            match outcome {
                Outcome::Refused(_, Value::Null) => state.nulls |= bit,
                Outcome::Refused(expected, value) => {
                    return Err(context.refusal(expected, &describe(&value)));
                }
                // An answer of another kind than expected is not an empty one.
                Outcome::Nothing(expected, value) if std::ptr::eq(shape, &ENVELOPE) => {
                    return Err(context.refusal(expected, &describe(&value)));
                }
                Outcome::Taken | Outcome::Partly(_) | Outcome::Nothing(..) => state.seen |= bit,
            }
            outcome
        } else if context.mode == Mode::Straight {
            map.next_value_seed(Fill { slot, context })?
        } else {
            let outcome = context.offer(slot, map.next_value()?);
            if let Outcome::Nothing(..) | Outcome::Refused(..) = outcome {
                // It may be half filled. Every optional member takes this.
                let _ = slot.put(&Scalar::Null);
            }
            outcome
        }
    } else if let Some((index, number)) = shape.family(key)
        && let Inside::Family(family) = slots[index].inside()
    {
        added(&mut |fill| family.add(number, fill), map, context)?
    } else {
        let value = map.next_value()?;
        set_aside(slots, key, value);
        return Ok(());
    };
    match outcome {
        // Null is the same as not there; whether that is an error shows at the end.
        Outcome::Taken | Outcome::Refused(_, Value::Null) => {}
        Outcome::Partly(value) | Outcome::Nothing(_, value) | Outcome::Refused(_, value) => {
            set_aside(slots, key, value);
        }
    }
    Ok(())
}

/// Keeps what no slot holds with the object's undeclared members.
fn set_aside(slots: &mut [&mut dyn Slot], key: &str, value: Value) {
    if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
        rest.insert(key.to_owned(), value);
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
