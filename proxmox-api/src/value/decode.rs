//! Decoding of an answer's JSON to typed values.
//!
//! The tokens come from `serde_json`. One concrete visitor passes each of them to an [`ApiValue`].
//! A generated struct contributes only the table of its members; objects, arrays, unknown keys,
//! leniency and errors are handled here, once. See `docs/adr/0001-decoding.md`.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde_json::Value;
use serde_json::de::StrRead;

pub use crate::value::api_value::Extra;

use crate::bounds::{Bound, Bounds, Exceeded};
use crate::value::api_value::{
    ALLOCATION, ApiValue, Array, COPIES, Expected, ObjectSchema, Scalar, Target, extra_of_mut,
};
use crate::value::text::{OneLine, shortened};

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

    /// The same, with its texts changed and shortened.
    pub(crate) fn each(mut self, change: impl Fn(String) -> String) -> Self {
        self.path = shortened(change(self.path));
        self.problem = shortened(change(self.problem));
        self
    }

    /// The path in the JSON, such as `data[3].maxmem`; empty if the text is not a JSON object at
    /// all.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The problem at that path.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Line and column in the body, counted from 1; zeros if unknown.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            // The server chose the names of the members.
            write!(f, "at {}: ", OneLine(&self.path))?;
        }
        write!(f, "{}", OneLine(&self.problem))?;
        if self.line > 0 {
            write!(f, " (line {} column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for DecodeError {}

/// The body of an answer, and the memory limit for it with its decoded values.
#[derive(Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) memory: usize,
}

impl<'a> From<&'a [u8]> for Received<'a> {
    fn from(body: &'a [u8]) -> Self {
        let memory = Bounds::new().memory;
        Self { body, memory }
    }
}

/// Reads an answer: its `data` member, and the members beside it.
fn decode(
    Received { body, memory }: Received<'_>,
    data: &mut dyn ApiValue,
    extra: &mut Extra,
) -> Result<(), DecodeError> {
    // Checking all of it once is cheaper than each text separately.
    match std::str::from_utf8(body) {
        Ok(text) => decode_text(text, memory, data, extra),
        Err(error) => {
            // The valid part determines the path.
            let valid = &body[..error.valid_up_to()];
            let valid = std::str::from_utf8(valid).unwrap_or_default();
            match decode_text(valid, memory, data, extra) {
                Ok(()) => Err(DecodeError::new("", NO_UTF8)),
                Err(error) => Err(DecodeError {
                    problem: NO_UTF8.to_owned(),
                    ..error
                }),
            }
        }
    }
}

const NO_UTF8: &str = "the text is not UTF-8 from here on";
const NO_JSON: &str = "this is not JSON; read files with `stream()`";

fn decode_text(
    body: &str,
    memory: usize,
    data: &mut dyn ApiValue,
    extra: &mut Extra,
) -> Result<(), DecodeError> {
    let room = Room::of(memory, memory.saturating_sub(body.len()));
    let Err(first) = pass(
        body,
        data,
        extra,
        Context::new(Mode::Straight, room.clone()),
    ) else {
        return Ok(());
    };
    // Only a wrong shape can be recovered from. The second pass fills everything again from the
    // same text.
    if !first.is_shape {
        return Err(match body.trim_start().chars().next() {
            None | Some('{') => first.error,
            Some(_) => DecodeError {
                problem: NO_JSON.to_owned(),
                ..first.error
            },
        });
    }
    // The second pass replaces the result of the first.
    match pass(body, data, extra, Context::new(Mode::Careful, room)) {
        Ok(()) => {
            note_misfit(&first);
            Ok(())
        }
        // For a list without a fitting element, the error is that of its first element.
        Err(second) if first.error.path.starts_with(&second.error.path) => Err(first.error),
        Err(second) => Err(second.error),
    }
}

/// Logs that a value was kept in `extra`. The text names the path and the kinds of value, and
/// quotes neither values nor keys that the server chose.
fn note_misfit(problem: &Failure) {
    #[cfg(feature = "tracing")]
    {
        let path = problem.declared.clone();
        let problem = DecodeError {
            path,
            ..problem.error.clone()
        };
        tracing::warn!(target: "proxmox_api", %problem, "a part of the answer does not have the declared type");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = problem;
}

struct Failure {
    error: DecodeError,
    /// The text is JSON, but not of the declared shape.
    is_shape: bool,
    /// The path, with stars for the keys that the server chose.
    #[cfg(feature = "tracing")]
    declared: String,
}

fn pass(
    body: &str,
    data: &mut dyn ApiValue,
    extra: &mut Extra,
    context: Context,
) -> Result<(), Failure> {
    let mut json: Json<'_> = serde_json::Deserializer::from_str(body);
    let envelope = Envelope {
        data,
        extra,
        context: &context,
    };
    let result = serde::Deserializer::deserialize_map(&mut json, envelope)
        .and_then(|()| json.end())
        // Where a part may be missing, exceeding the memory limit looks like another shape.
        .and_then(|()| context.room.check(&context));
    result.map_err(|error| {
        let is_over = context.room.is_over();
        let path = context.path.into_inner();
        Failure {
            is_shape: path.problem.is_some() && !is_over,
            #[cfg(feature = "tracing")]
            declared: path.text(Some("*")),
            error: path.explain(&error),
        }
    })
}

/// Reads a value from JSON in the shape of the server, as leniently as an answer.
///
/// # Errors
/// The JSON is of another kind, or lacks a required member; the error names the path.
pub fn from_json<T: ApiValue>(json: Value) -> Result<T, DecodeError> {
    let mut value = T::empty();
    fill_from_json(&mut value, &json)?;
    Ok(value)
}

fn fill_from_json(target: &mut dyn ApiValue, json: &Value) -> Result<(), DecodeError> {
    let context = Context::new(Mode::Careful, Room::endless());
    let seed = Seed {
        target,
        context: &context,
    };
    let result = match serde::de::DeserializeSeed::deserialize(seed, json) {
        Ok(Fit::Whole) => return Ok(()),
        Ok(Fit::Part(rest)) => Err(context.refusal("value that fits as a whole", &describe(&rest))),
        Ok(Fit::NoEntry(expected, rest) | Fit::Rejected(expected, rest)) => {
            Err(context.refusal(expected, &describe(&rest)))
        }
        Err(error) => Err(error),
    };
    result.map_err(|error: serde_json::Error| context.path.into_inner().explain(&error))
}

/// Reads the `data` member of an answer.
pub(crate) fn decode_data<'a, T: ApiValue>(
    received: impl Into<Received<'a>>,
) -> Result<T, DecodeError> {
    decode_answer(received, &mut Extra::new())
}

/// Like [`decode_data`]; `extra` gets the members beside `data`, and under `data` the values that
/// do not fit.
pub(crate) fn decode_answer<'a, T: ApiValue>(
    received: impl Into<Received<'a>>,
    extra: &mut Extra,
) -> Result<T, DecodeError> {
    let mut value = T::empty();
    decode(received.into(), &mut value, extra)?;
    Ok(value)
}

/// Decodes a stored answer as its request would: `T` is that request's
/// [`Output`](crate::request::ApiRequest::Output), and `body` the whole answer with its `data`
/// member.
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
/// Elements of a list that do not fit are skipped;
/// [`Answer::from_body`](crate::stream::envelope::Answer::from_body) keeps them.
///
/// # Errors
/// The body is not a JSON object with a `data` member, or that member does not have the shape of
/// `T`; the error names the path.
pub fn from_answer<T: ApiValue>(body: &[u8]) -> Result<T, DecodeError> {
    decode_data(body)
}

if_any_area! {
    /// Reads the members of an answer beside its `data` member.
    pub(crate) fn decode_beside<'a>(received: impl Into<Received<'a>>) -> Result<Extra, DecodeError> {
        let mut extra = Extra::new();
        decode(received.into(), &mut Skip, &mut extra)?;
        Ok(extra)
    }

    /// Accepts anything and keeps nothing.
    #[derive(Clone)]
    struct Skip;

    impl ApiValue for Skip {
        fn empty() -> Self {
            Self
        }

        fn set_scalar(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
            Ok(())
        }

        fn target(&mut self) -> Target<'_> {
            Target::Skip
        }

        fn view(&self) -> crate::value::api_value::View<'_> {
            crate::value::api_value::View::Absent
        }
    }
}

/// Reads an answer with all its members.
struct Envelope<'a> {
    data: &'a mut dyn ApiValue,
    extra: &'a mut Extra,
    context: &'a Context,
}

impl<'de> serde::de::Visitor<'de> for Envelope<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a data member")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut problem = "missing";
        while let Some(Key(key)) = map.next_key()? {
            if key != DATA {
                let value = map.next_value_seed(Open(self.context))?;
                self.context
                    .charge(key.len().saturating_add(NODE / NODE_MEMBERS))?;
                self.extra.insert(key.into_owned(), value);
                continue;
            }
            let seed = Seed {
                target: &mut *self.data,
                context: self.context,
            };
            let fit = map.next_value_seed(seed);
            let refused = match fit.inspect_err(|_| self.context.key(DATA.into()))? {
                Fit::Whole => None,
                Fit::Part(rest) => {
                    self.extra.insert(DATA.to_owned(), rest);
                    None
                }
                Fit::Rejected(_, Value::Null) => {
                    problem = "null";
                    continue;
                }
                // An answer of another kind than expected is not an empty one.
                Fit::NoEntry(expected, value) | Fit::Rejected(expected, value) => {
                    Some((expected, value))
                }
            };
            if let Some((expected, value)) = refused {
                let error = self.context.refusal(expected, &describe(&value));
                self.context.key(DATA.into());
                return Err(error);
            }
            problem = "";
        }
        match problem {
            "" => Ok(()),
            problem => Err(self
                .context
                .fail(format!("the required member `{DATA}` is {problem}"))),
        }
    }
}

/// The member of an answer that holds its value.
const DATA: &str = "data";

type Json<'a> = serde_json::Deserializer<StrRead<'a>>;

/// The JSON path of an error, built while the error is returned, so that success costs nothing.
#[derive(Default)]
struct ErrorPath {
    /// Innermost first.
    segments: Vec<Segment>,
    problem: Option<String>,
}

enum Segment {
    Key(String),
    /// A key of an object with any keys.
    Named(String),
    Index(usize),
}

/// The effort for values that do not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// None: an invalid required member ends the pass. Nearly all answers are read this way.
    Straight,
    /// Optional parts are parsed to JSON before they are read, so that they can be kept whole.
    Careful,
}

/// The memory limit of a decode.
#[derive(Clone)]
pub(crate) struct Room {
    most: usize,
    /// `None` once it was exceeded.
    left: Cell<Option<usize>>,
}

impl Room {
    fn endless() -> Self {
        Self::of(usize::MAX, usize::MAX)
    }

    pub(crate) fn of(most: usize, left: usize) -> Self {
        let left = Cell::new(Some(left));
        Self { most, left }
    }

    pub(crate) fn take(&self, bytes: usize) {
        let left = self.left.get().and_then(|left| left.checked_sub(bytes));
        self.left.set(left);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.get().is_none()
    }

    pub(crate) fn exceeded(&self) -> Exceeded {
        Exceeded::new(Bound::Memory, self.most)
    }

    fn check<E: serde::de::Error>(&self, context: &Context) -> Result<(), E> {
        match self.is_over() {
            true => Err(context.fail(self.exceeded().to_string())),
            false => Ok(()),
        }
    }
}

/// The overhead of an object's first member, and of each further one that starts a new node.
const NODE: usize = 640;
/// The minimum of members of a node.
const NODE_MEMBERS: usize = 6;

struct Context {
    mode: Mode,
    room: Room,
    path: RefCell<ErrorPath>,
}

impl Context {
    fn new(mode: Mode, room: Room) -> Self {
        Self {
            mode,
            room,
            path: RefCell::default(),
        }
    }

    /// Counts memory for something.
    fn charge<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        self.room.take(bytes);
        self.room.check(self)
    }

    fn key(&self, key: Cow<'_, str>) {
        self.segment(Segment::Key(key.into_owned()));
    }

    fn named(&self, key: Cow<'_, str>) {
        self.segment(Segment::Named(key.into_owned()));
    }

    fn segment(&self, segment: Segment) {
        self.path.borrow_mut().segments.push(segment);
    }

    fn refusal<E: serde::de::Error>(&self, expected: &str, found: &str) -> E {
        self.fail(format!("expected {expected}, found {found}"))
    }

    fn fail<E: serde::de::Error>(&self, problem: String) -> E {
        self.path.borrow_mut().problem.get_or_insert(problem);
        E::custom("unexpected shape")
    }

    /// Offers a parsed value to a target; returns the part that it rejects.
    fn offer(&self, target: &mut dyn ApiValue, value: Value) -> Fit {
        let seed = Seed {
            target,
            context: self,
        };
        match serde::de::DeserializeSeed::deserialize(seed, &value) {
            Ok(fit) => fit,
            Err(_) => {
                self.path.take();
                Fit::Rejected("value of the declared shape", value)
            }
        }
    }
}

impl ErrorPath {
    /// The path as text; with a replacement for the keys that the server chose, if given.
    fn text(&self, named: Option<&str>) -> String {
        let mut path = String::new();
        for segment in self.segments.iter().rev() {
            let key = match segment {
                Segment::Key(key) => key,
                Segment::Named(key) => named.unwrap_or(key),
                Segment::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
            };
            let dot = if path.is_empty() { "" } else { "." };
            path.extend([dot, key]);
        }
        path
    }

    fn explain(self, error: &serde_json::Error) -> DecodeError {
        let path = self.text(None);
        let problem = self.problem.unwrap_or_else(|| {
            let text = problem_of(error);
            if text.starts_with("recursion limit exceeded") {
                let depth = Bounds::new().depth;
                return Exceeded::new(Bound::Depth, depth).to_string();
            }
            text
        });
        DecodeError {
            path,
            problem,
            line: error.line(),
            column: error.column(),
        }
    }
}

/// The problem with JSON, without its position and without the value, which may be a secret, and
/// long.
pub(crate) fn problem_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(text, _)| text);
    let parts = (text.strip_prefix("invalid type: "))
        .or_else(|| text.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match parts {
        Some((found, expected)) => {
            let kind = found.split([' ', '`', '"']).next().unwrap_or_default();
            format!("expected {expected}, found {kind}")
        }
        // The variant is a text of the server.
        None => match text.strip_prefix("unknown variant ") {
            Some(rest) => match rest.rsplit_once("`, expected ") {
                Some((_, expected)) => format!("unknown variant, expected {expected}"),
                None => "unknown variant".to_owned(),
            },
            None => text.to_owned(),
        },
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => Scalar::Null.describe(),
        Value::Bool(value) => Scalar::Bool(*value).describe(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => Scalar::from(value.as_str()).describe(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The result of offering a value to a target.
enum Fit {
    Whole,
    /// The target accepted a part; this is the rest, in the shape of the whole. In an array, null
    /// stands for accepted elements.
    Part(Value),
    /// Like [`Fit::Part`] for a list or a map without a fitting entry.
    NoEntry(Expected, Value),
    /// The target rejected it; this is the value.
    Rejected(Expected, Value),
}

/// The rejected elements of an array, each in its position.
#[derive(Default)]
struct Rest(Vec<Value>);

impl Rest {
    fn keep(&mut self, index: usize, value: Value) {
        self.0.resize(index, Value::Null);
        self.0.push(value);
    }

    /// As long as the array, if any element was rejected.
    fn finish(mut self, count: usize) -> Vec<Value> {
        if !self.0.is_empty() {
            self.0.resize(count, Value::Null);
        }
        self.0
    }
}

/// Hands one JSON value to a target.
struct Seed<'s, 'c> {
    target: &'s mut dyn ApiValue,
    context: &'c Context,
}

impl Seed<'_, '_> {
    fn scalar<E: serde::de::Error>(self, value: Scalar<'_>) -> Result<Fit, E> {
        if let Scalar::Text(text) = &value {
            self.context.charge(self.target.cost_of(text))?;
        }
        Ok(match self.target.set_scalar(&value) {
            Ok(()) => Fit::Whole,
            Err(expected) => Fit::Rejected(expected, value.into_json()),
        })
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Fit;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Fit, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Seed<'_, '_> {
    type Value = Fit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Fit, E> {
        self.scalar(Scalar::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Fit, E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Fit, E> {
        self.scalar(Scalar::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Fit, E> {
        self.scalar(match i64::try_from(value) {
            Ok(value) => Scalar::Int(value),
            Err(_) => Scalar::UInt(value),
        })
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Fit, E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Fit, E> {
        self.scalar(Scalar::Text(value.into()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Fit, A::Error> {
        let Self { target, context } = self;
        match target.target() {
            Target::Array(array) => elements(array, &mut seq, context),
            Target::Skip => {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Fit::Whole)
            }
            inside => {
                // A target that reads an empty text as an empty hash reads an empty list so, too.
                let map = matches!(inside, Target::Map(_));
                let value = Open(context).visit_seq(seq)?;
                Ok(match value.as_array().is_some_and(Vec::is_empty) && map {
                    true => Fit::Whole,
                    false => store_any(target, value),
                })
            }
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fit, A::Error> {
        let Self { target, context } = self;
        match target.target() {
            Target::Object(object) => {
                let mut result = Ok(());
                object.fields_mut(&mut |schema, fields| {
                    result = members(schema, fields, &mut map, context)
                });
                result.map(|()| Fit::Whole)
            }
            Target::Map(entries) => {
                values(&mut |key, fill| entries.add(key, fill), &mut map, context)
            }
            // An indexed parameter on its own, outside of an object.
            Target::Indexed(members) => values(
                &mut |key, fill| {
                    if let Ok(index) = key.parse() {
                        members.add(index, fill);
                    }
                },
                &mut map,
                context,
            ),
            Target::Skip => {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(Fit::Whole)
            }
            _ => {
                let value = Open(context).visit_map(map)?;
                Ok(store_any(target, value))
            }
        }
    }
}

/// The memory of one more element in an array of this length. The first allocation is larger.
fn grown(count: usize, element: usize) -> usize {
    match count {
        0 if element <= 1024 => element.saturating_mul(4).saturating_add(ALLOCATION),
        0 => element.saturating_add(ALLOCATION),
        _ => element,
    }
}

/// Reads any JSON, within the memory limit.
struct Open<'c>(&'c Context);

impl<'de> serde::de::DeserializeSeed<'de> for Open<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Open<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        let bytes = text.len().saturating_mul(COPIES);
        self.0.charge(bytes.saturating_add(ALLOCATION))?;
        Ok(text.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = seq.next_element_seed(Open(self.0))? {
            self.0.charge(grown(array.len(), size_of::<Value>()))?;
            array.push(value);
        }
        Ok(array.into())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(Key(key)) = map.next_key()? {
            let node = match object.len().is_multiple_of(NODE_MEMBERS) {
                true => NODE,
                false => 0,
            };
            self.0
                .charge(node.saturating_add(key.len()).saturating_add(ALLOCATION))?;
            let value = map.next_value_seed(Open(self.0))?;
            object.insert(key.into_owned(), value);
        }
        Ok(object.into())
    }
}

/// Reads any JSON, within this memory limit.
pub(crate) fn read_any(json: &[u8], memory: usize) -> Option<Value> {
    let context = Context::new(Mode::Straight, Room::of(memory, memory));
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = serde::de::DeserializeSeed::deserialize(Open(&context), &mut json).ok()?;
    json.end().ok()?;
    Some(value)
}

/// Reads the elements of an array. A null element is skipped.
fn elements<'de, A: serde::de::SeqAccess<'de>>(
    array: &mut dyn Array,
    seq: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut rest = Rest::default();
    let (mut index, mut taken) = (0, 0);
    loop {
        // A rejected element is removed again.
        context.charge(grown(array.count(), array.element_size()))?;
        let target = array.push_empty();
        let fit = match context.mode {
            Mode::Straight => seq
                .next_element_seed(Seed { target, context })
                .inspect_err(|_| context.segment(Segment::Index(index)))?,
            Mode::Careful => {
                let value = seq.next_element_seed(Open(context))?;
                value.map(|value| context.offer(target, value))
            }
        };
        match fit {
            Some(Fit::Whole) => {
                taken += 1;
                index += 1;
            }
            Some(Fit::Part(part)) => {
                rest.keep(index, part);
                taken += 1;
                index += 1;
            }
            Some(Fit::Rejected(_, Value::Null)) => array.pop(),
            Some(Fit::NoEntry(expected, value) | Fit::Rejected(expected, value)) => {
                array.pop();
                if context.mode == Mode::Straight {
                    let error = context.refusal(expected, &describe(&value));
                    context.segment(Segment::Index(index));
                    return Err(error);
                }
                rest.keep(index, value);
                index += 1;
            }
            None => {
                array.pop();
                array.close();
                return Ok(match rest.finish(index) {
                    rest if rest.is_empty() => Fit::Whole,
                    rest if taken == 0 => Fit::NoEntry("array of such elements", rest.into()),
                    rest => Fit::Part(rest.into()),
                });
            }
        }
    }
}

/// Reads the values of an object with any keys. A null value is skipped.
fn values<'de, A: serde::de::MapAccess<'de>>(
    add: &mut dyn FnMut(&str, Filling<'_>),
    map: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut rest = serde_json::Map::new();
    let mut taken = 0;
    while let Some(Key(key)) = map.next_key()? {
        // The value itself is usually not larger.
        context.charge(key.len().saturating_add(NODE))?;
        let fit = added(&mut |fill| add(&key, fill), map, context);
        match fit {
            Ok(Fit::Whole) => taken += 1,
            Ok(Fit::Part(part)) => {
                rest.insert(key.into_owned(), part);
                taken += 1;
            }
            Ok(Fit::Rejected(_, Value::Null)) => {}
            Ok(Fit::NoEntry(_, value) | Fit::Rejected(_, value))
                if context.mode == Mode::Careful =>
            {
                rest.insert(key.into_owned(), value);
            }
            Ok(Fit::NoEntry(expected, value) | Fit::Rejected(expected, value)) => {
                let error = context.refusal(expected, &describe(&value));
                context.named(key);
                return Err(error);
            }
            Err(error) => {
                context.named(key);
                return Err(error);
            }
        }
    }
    Ok(match rest.is_empty() {
        true => Fit::Whole,
        false if taken == 0 => Fit::NoEntry("object of such values", rest.into()),
        false => Fit::Part(rest.into()),
    })
}

type Filling<'f> = &'f mut dyn FnMut(&mut dyn ApiValue) -> bool;

/// Reads a value into a new entry, which stays only if it was filled.
fn added<'de, A: serde::de::MapAccess<'de>>(
    add: &mut dyn FnMut(Filling<'_>),
    map: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut at_hand = match context.mode {
        Mode::Straight => None,
        Mode::Careful => Some(map.next_value_seed(Open(context))?),
    };
    let mut result = None;
    add(&mut |target| {
        let fit = match at_hand.take() {
            Some(value) => Ok(context.offer(target, value)),
            None => map.next_value_seed(Seed { target, context }),
        };
        let stays = matches!(fit, Ok(Fit::Whole | Fit::Part(_)));
        result = Some(fit);
        stays
    });
    match (result, at_hand) {
        (Some(fit), _) => fit,
        // There is no such index.
        (None, Some(value)) => Ok(Fit::Rejected("index", value)),
        (None, None) => Ok(Fit::Rejected("index", map.next_value_seed(Open(context))?)),
    }
}

/// Reads the members of an object.
fn members<'de, A: serde::de::MapAccess<'de>>(
    schema: &ObjectSchema,
    fields: &mut [&mut dyn ApiValue],
    map: &mut A,
    context: &Context,
) -> Result<(), A::Error> {
    let mut state = State::default();
    while let Some(Key(key)) = map.next_key()? {
        member(schema, fields, &key, map, &mut state, context).inspect_err(|_| context.key(key))?;
    }
    let bit = |bits: u64, index: usize| bits & (1 << index) != 0;
    match (0..schema.required.len()).find(|index| !bit(state.seen, *index)) {
        None => Ok(()),
        Some(index) => {
            let name = schema.required[index];
            let is = if bit(state.nulls, index) {
                "null"
            } else {
                "missing"
            };
            Err(context.fail(format!("the required member `{name}` is {is}")))
        }
    }
}

/// The state of reading an object.
#[derive(Default)]
struct State {
    /// The start of the search for the next member.
    from: usize,
    /// A bit for each required member that was read.
    seen: u64,
    /// A bit for each member that was null.
    nulls: u64,
}

/// Reads one member of an object. A value that does not fit goes to the object's `extra`, unless
/// the member is required.
fn member<'de, A: serde::de::MapAccess<'de>>(
    schema: &ObjectSchema,
    fields: &mut [&mut dyn ApiValue],
    key: &str,
    map: &mut A,
    state: &mut State,
    context: &Context,
) -> Result<(), A::Error> {
    let fit = if let Some(index) = schema.find(key, &mut state.from) {
        let target = &mut *fields[index];
        if index < schema.required.len() {
            let bit = 1 << index;
            let fit = map.next_value_seed(Seed { target, context })?;
            match fit {
                Fit::Rejected(_, Value::Null) => state.nulls |= bit,
                Fit::Rejected(expected, value) => {
                    return Err(context.refusal(expected, &describe(&value)));
                }
                Fit::Whole | Fit::Part(_) | Fit::NoEntry(..) => state.seen |= bit,
            }
            fit
        } else if context.mode == Mode::Straight {
            map.next_value_seed(Seed { target, context })?
        } else {
            let fit = context.offer(target, map.next_value_seed(Open(context))?);
            if let Fit::NoEntry(..) | Fit::Rejected(..) = fit {
                // It may be half filled. Every optional member accepts null.
                let _ = target.set_scalar(&Scalar::Null);
            }
            fit
        }
    } else if let Some((index, number)) = schema.find_indexed(key)
        && let Target::Indexed(family) = fields[index].target()
    {
        added(&mut |fill| family.add(number, fill), map, context)?
    } else {
        let value = map.next_value_seed(Open(context))?;
        context.charge(key.len().saturating_add(NODE / NODE_MEMBERS))?;
        push_extra(fields, key, value);
        return Ok(());
    };
    match fit {
        // Null counts as missing; whether that is an error is decided at the end.
        Fit::Whole | Fit::Rejected(_, Value::Null) => {}
        Fit::Part(value) | Fit::NoEntry(_, value) | Fit::Rejected(_, value) => {
            push_extra(fields, key, value);
        }
    }
    Ok(())
}

/// Keeps a value without a field in the object's `extra`.
fn push_extra(fields: &mut [&mut dyn ApiValue], key: &str, value: Value) {
    if let Some(extra) = extra_of_mut(fields) {
        extra.insert(key.to_owned(), value);
    }
}

/// Passes an array or an object to a target that accepts any JSON.
fn store_any(target: &mut dyn ApiValue, value: Value) -> Fit {
    let expected = match target.target() {
        Target::Any(any) => {
            *any = value;
            return Fit::Whole;
        }
        Target::Array(_) => "array",
        Target::Map(_) | Target::Indexed(_) | Target::Object(_) => "object",
        Target::Scalar | Target::Skip | Target::Extra(_) | Target::UnknownKeys(_) => "scalar",
    };
    // Asking has filled an optional target with an empty value; this empties it again. Other fields
    // refuse, correctly.
    let _ = target.set_scalar(&Scalar::Null);
    Fit::Rejected(expected, value)
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
/// A number that may be written as a text.
pub(crate) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}
