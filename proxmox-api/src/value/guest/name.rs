//! Names of kinds and actions, as programs are given them.

use std::fmt;

/// A text that is none of the names that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNameError {
    of: &'static str,
    text: String,
    known: Vec<&'static str>,
}

impl ParseNameError {
    pub(crate) fn new(of: &'static str, text: &str, known: Vec<&'static str>) -> Self {
        let text = text.to_owned();
        Self { of, text, known }
    }

    /// The names there are.
    #[must_use]
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, text, known } = self;
        write!(f, "{text:?} is no {of}; there are {}", known.join(", "))
    }
}

impl std::error::Error for ParseNameError {}
