//! The state of decoding one answer: the memory limit, and the path of an error.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use serde_json::Value;

use super::error::DecodeError;
use crate::bounds::{Bound, Bounds, Exceeded};
use crate::value::api_value::Scalar;

/// The JSON path of an error, built while the error is returned, so that success costs nothing.
#[derive(Default)]
pub(super) struct ErrorPath {
    /// Innermost first.
    segments: Vec<Segment>,
    pub(super) problem: Option<String>,
}

pub(super) enum Segment {
    Key(String),
    /// A key of an object with any keys.
    Named(String),
    Index(usize),
}

/// The effort for values that do not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// None: an invalid required member ends the pass. Nearly all answers are read this way.
    Straight,
    /// Optional parts are parsed to JSON before they are read, so that they can be kept whole.
    Careful,
}

/// The memory limit of a decode.
#[derive(Clone)]
pub(crate) struct MemoryLimit {
    max: usize,
    /// `None` once it was exceeded.
    left: Cell<Option<usize>>,
}

impl MemoryLimit {
    pub(super) fn endless() -> Self {
        Self::of(usize::MAX, usize::MAX)
    }

    pub(crate) fn of(max: usize, left: usize) -> Self {
        let left = Cell::new(Some(left));
        Self { max, left }
    }

    pub(crate) fn take(&self, bytes: usize) {
        let left = self.left.get().and_then(|left| left.checked_sub(bytes));
        self.left.set(left);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.get().is_none()
    }

    pub(crate) fn exceeded(&self) -> Exceeded {
        Exceeded::new(Bound::Memory, self.max)
    }

    pub(super) fn check<E: serde::de::Error>(&self, context: &Context) -> Result<(), E> {
        match self.is_over() {
            true => Err(context.fail(self.exceeded().to_string())),
            false => Ok(()),
        }
    }
}

/// The overhead of an object's first member, and of each further one that starts a new node.
pub(super) const NODE: usize = 640;

/// The minimum of members of a node.
pub(super) const NODE_MEMBERS: usize = 6;

pub(super) struct Context {
    pub(super) mode: Mode,
    pub(super) memory: MemoryLimit,
    pub(super) path: RefCell<ErrorPath>,
}

impl Context {
    pub(super) fn new(mode: Mode, memory: MemoryLimit) -> Self {
        Self {
            mode,
            memory,
            path: RefCell::default(),
        }
    }

    /// Counts memory for something.
    pub(super) fn charge<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        self.memory.take(bytes);
        self.memory.check(self)
    }

    pub(super) fn key(&self, key: Cow<'_, str>) {
        self.segment(Segment::Key(key.into_owned()));
    }

    pub(super) fn named(&self, key: Cow<'_, str>) {
        self.segment(Segment::Named(key.into_owned()));
    }

    pub(super) fn segment(&self, segment: Segment) {
        self.path.borrow_mut().segments.push(segment);
    }

    pub(super) fn refusal<E: serde::de::Error>(&self, expected: &str, found: &str) -> E {
        self.fail(format!("expected {expected}, found {found}"))
    }

    pub(super) fn fail<E: serde::de::Error>(&self, problem: String) -> E {
        self.path.borrow_mut().problem.get_or_insert(problem);
        E::custom("unexpected shape")
    }
}

impl ErrorPath {
    /// The path as text; with a replacement for the keys that the server chose, if given.
    pub(super) fn text(&self, named: Option<&str>) -> String {
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

    pub(super) fn explain(self, error: &serde_json::Error) -> DecodeError {
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

pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => Scalar::Null.describe(),
        Value::Bool(value) => Scalar::Bool(*value).describe(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => Scalar::from(value.as_str()).describe(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}
