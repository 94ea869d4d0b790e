//! Decoding of an answer's JSON to typed values.
//!
//! The tokens come from `serde_json`. One concrete visitor passes each of them to an [`ApiValue`].
//! A generated struct contributes only the table of its members; objects, arrays, unknown keys,
//! leniency and errors are handled here, once. See `docs/adr/0001-decoding.md`.

mod any;
mod context;
mod error;
mod typed;

use std::fmt;

use serde_json::Value;
use serde_json::de::StrRead;

use crate::bounds::Bounds;
use crate::value::api_value::ApiValue;

use any::{Key, Open};
use context::{Context, Mode, NODE, NODE_MEMBERS, describe};
use typed::{Fit, Seed};

pub(crate) use any::read_any;
pub(crate) use context::{MemoryLimit, problem_of};
pub use error::DecodeError;

pub use crate::value::api_value::Extra;

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
    let memory = MemoryLimit::of(memory, memory.saturating_sub(body.len()));
    let Err(first) = pass(
        body,
        data,
        extra,
        Context::new(Mode::Straight, memory.clone()),
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
    match pass(body, data, extra, Context::new(Mode::Careful, memory)) {
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
        .and_then(|()| context.memory.check(&context));
    result.map_err(|error| {
        let is_over = context.memory.is_over();
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
    let context = Context::new(Mode::Careful, MemoryLimit::endless());
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
    use crate::value::api_value::{Expected, Scalar, Target, View};

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

        fn view(&self) -> View<'_> {
            View::Absent
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

/// A number that may be written as a text.
pub(crate) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}
