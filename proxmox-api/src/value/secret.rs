//! Values that must never be printed.

use std::fmt;

mod names;
mod redact;
mod scrub;

pub(crate) use names::{is_secret, is_secret_text};
pub(crate) use redact::{
    Redacted, RedactedNames, RedactedObject, RedactedTexts, written, written_value,
};
pub(crate) use scrub::Scrubber;

/// A password, ticket or key. It prints as `Secret(…)`; [`Secret::expose`] returns its value.
///
/// serde leaves it out; see [`with_secrets`](crate::value::with_secrets).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&Secret> for Secret {
    fn from(value: &Secret) -> Self {
        value.clone()
    }
}

impl From<&String> for Secret {
    fn from(value: &String) -> Self {
        Self(value.clone())
    }
}
