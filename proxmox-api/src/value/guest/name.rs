//! Parsing of names of kinds and actions.

use std::fmt;

/// A text that is not one of the known names.
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

    /// The known names.
    #[must_use]
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, text, known } = self;
        write!(
            f,
            "{text:?} is not a {of}; known ones are {}",
            known.join(", ")
        )
    }
}

impl std::error::Error for ParseNameError {}
