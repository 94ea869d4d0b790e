//! The identification of a request in errors.

use std::fmt;

use crate::value::endpoint::Method;
use crate::value::text::Visible;

/// Verb and path of a request, and its number.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CallId {
    endpoint: String,
    number: Option<u64>,
    repeatable: bool,
}

impl CallId {
    /// Verb and path, as one line.
    pub(crate) fn new(method: Method, path: &str) -> Self {
        format!("{method} {}", Visible(path)).into()
    }

    pub(crate) fn repeatable(self, repeatable: bool) -> Self {
        Self { repeatable, ..self }
    }

    /// Whether the caller marked the call as safe to send twice.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub(crate) fn only_reads(&self) -> bool {
        self.endpoint.starts_with("GET ")
    }

    pub(crate) fn numbered(self, number: u64) -> Self {
        let number = Some(number);
        Self { number, ..self }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `None` for a call that was never a request of a client.
    pub(crate) fn number(&self) -> Option<u64> {
        self.number
    }
}

impl From<String> for CallId {
    fn from(endpoint: String) -> Self {
        Self {
            endpoint,
            number: None,
            repeatable: false,
        }
    }
}

impl From<&str> for CallId {
    fn from(endpoint: &str) -> Self {
        endpoint.to_owned().into()
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint)?;
        match self.number {
            Some(number) => write!(f, " #{number}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
