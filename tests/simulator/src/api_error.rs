//! Errors of API methods, as they go out on the wire.

use std::collections::BTreeMap;

/// A refusal of an API method.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    /// Ends with a newline if the real text does.
    pub(crate) message: String,
    pub(crate) errors: BTreeMap<String, String>,
    /// Raised with a status instead of a plain `die`; extjs shows that status as a string.
    pub(crate) raised: bool,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A plain `die`: status 500.
    pub(crate) fn die(text: impl Into<String>) -> Self {
        let mut message = text.into();
        message.push('\n');
        Self {
            status: 500,
            message,
            errors: BTreeMap::new(),
            raised: false,
        }
    }

    pub(crate) fn raise(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            raised: true,
            ..Self::die(text)
        }
    }

    /// Refused parameters, by name.
    pub(crate) fn parameters(errors: BTreeMap<String, String>) -> Self {
        Self {
            errors,
            ..Self::raise(400, "Parameter verification failed.")
        }
    }

    pub(crate) fn parameter(name: &str, text: impl Into<String>) -> Self {
        Self::parameters(BTreeMap::from([(name.to_owned(), text.into())]))
    }

    /// A missing privilege; some handlers do not name it.
    pub(crate) fn permission(text: &str) -> Self {
        if text.is_empty() {
            return Self::raise(403, "Permission check failed");
        }
        Self::raise(403, format!("Permission check failed ({text})"))
    }

    /// The first line of the message.
    pub(crate) fn reason(&self) -> &str {
        self.message.split('\n').next().unwrap_or("")
    }
}
