//! The error of decoding.

use std::fmt;

use crate::value::text::{OneLine, shortened};

/// An answer that does not have the declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub(super) path: String,
    pub(super) problem: String,
    pub(super) line: usize,
    pub(super) column: usize,
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
