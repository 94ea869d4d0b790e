//! Decoding the answer of any endpoint.

use std::fmt;
use std::marker::PhantomData;

use proxmox_api::Value;
use proxmox_api::stream::envelope;
use proxmox_api::task::Task;
use proxmox_api::value::decode::{DecodeError, from_answer, from_json};
use proxmox_api::value::upid::Upid;
use proxmox_api::value::{ApiValue, with_secrets};
use serde_json::json;

use crate::ANSWERS;
use crate::show::{DATA, REST, Show};

/// An endpoint, and how to decode its answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub method: &'static str,
    /// The template.
    pub path: &'static str,
    /// Decodes a body to its value as JSON; `None` for endpoints without a value.
    pub decode: fn(&[u8]) -> Result<Option<Value>, DecodeError>,
    /// Decodes a body to the `Debug` form of the value.
    pub print: fn(&[u8]) -> Result<String, DecodeError>,
}

impl Answer {
    pub(crate) const fn new(
        method: &'static str,
        path: &'static str,
        decode: fn(&[u8]) -> Result<Option<Value>, DecodeError>,
        print: fn(&[u8]) -> Result<String, DecodeError>,
    ) -> Self {
        Self {
            method,
            path,
            decode,
            print,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Prints placeholders for types without a value.
pub(crate) fn nothing(_: &[u8]) -> Result<String, DecodeError> {
    Ok(String::new())
}

/// Requirements for a serialization round trip.
pub(crate) trait Kept: ApiValue + Show + PartialEq + fmt::Debug {}

impl<T: ApiValue + Show + PartialEq + fmt::Debug> Kept for T {}

/// Checks that a value survives serialization.
///
/// # Panics The value changed.
pub(crate) fn assert_kept<T: Kept>(value: &T) {
    let written = serde_json::to_value(with_secrets(value)).expect("JSON");
    let again: T = from_json(written.clone())
        .unwrap_or_else(|error| panic!("{value:?} was written as {written}: {error}"));
    assert!(
        again == *value && again.show() == value.show(),
        "{value:?} was written as {written} and read as {again:?}"
    );
}

/// Decoding of answers to a type; each kind of answer has its own function, of which only one
/// compiles.
pub(crate) struct Of<T>(PhantomData<T>);

impl Of<()> {
    /// Accepts any answer and decodes nothing.
    pub(crate) fn nothing(_: &[u8]) -> Result<Option<Value>, DecodeError> {
        Ok(None)
    }
}

impl<T: Kept> Of<T> {
    pub(crate) fn data(body: &[u8]) -> Result<Option<Value>, DecodeError> {
        let mut answer = envelope::Answer::<T>::from_body(body)?;
        let data = answer.data.show();
        assert_kept(&answer.data);
        Ok(match answer.extra.remove("data") {
            None => data,
            Some(rest) => Some(json!({ DATA: data, REST: rest })),
        })
    }
}

impl<T: ApiValue + fmt::Debug> Of<T> {
    pub(crate) fn print(body: &[u8]) -> Result<String, DecodeError> {
        Ok(format!("{:?}", from_answer::<T>(body)?))
    }
}

impl Of<Task> {
    pub(crate) fn task(body: &[u8]) -> Result<Option<Value>, DecodeError> {
        Ok(match from_answer::<Option<String>>(body)?.as_deref() {
            None | Some("" | "OK") => None,
            Some(text) => Some(upid(text)),
        })
    }
}

impl<T: AsRef<[u8]>> Of<T> {
    /// The answer is a file.
    pub(crate) fn bytes(_: &[u8]) -> Result<Option<Value>, DecodeError> {
        Ok(None)
    }
}

/// The task's id, or its replacement.
fn upid(text: &str) -> Value {
    match text.parse::<Upid>() {
        Ok(upid) => Value::from(upid.as_str()),
        Err(error) => json!({ "(no UPID)": error.to_string() }),
    }
}

/// The endpoint of a path: literal segments take precedence over placeholders.
#[must_use]
pub fn find(method: &str, path: &str) -> Option<&'static Answer> {
    // A client that put a `#` into the path sent only the part before it.
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path_segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let fits = |template: &str| -> Option<usize> {
        let template_segments: Vec<&str> = template.split('/').filter(|p| !p.is_empty()).collect();
        let greedy = matches!(template_segments.last(), Some(&("{volume}" | "{cidr}")));
        if template_segments.len() != path_segments.len()
            && !(greedy && path_segments.len() > template_segments.len())
        {
            return None;
        }
        let mut literals = 0;
        for (part, segment) in template_segments.iter().zip(&path_segments) {
            if part == segment {
                literals += 1;
            } else if !part.starts_with('{') {
                return None;
            }
        }
        Some(literals)
    };
    ANSWERS
        .iter()
        .filter(|answer| answer.method == method)
        .filter_map(|answer| Some((fits(answer.path)?, answer)))
        .max_by_key(|(literals, _)| *literals)
        .map(|(_, answer)| answer)
}
