//! Errors of starting a simulator.

use std::fmt;

/// The reason why a simulator could not be started.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
