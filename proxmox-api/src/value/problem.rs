//! Values that cannot be sent.

/// The reason why a value cannot be sent.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it would be misread; otherwise no known release accepts it.
    pub certain: bool,
    /// The wrong part, if it may be shown.
    pub value: Option<String>,
    /// The accepted values; completes "the parameter … takes …".
    pub allowed: String,
}

impl Problem {
    pub(crate) fn certain(value: impl Into<String>, allowed: &str) -> Self {
        Self {
            certain: true,
            value: Some(value.into()),
            allowed: allowed.to_owned(),
        }
    }

    pub(crate) fn doubt(value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            certain: false,
            value: Some(value.into()),
            allowed: allowed.into(),
        }
    }
}

/// A place to record that an argument is invalid for its key.
#[doc(hidden)]
pub trait Refuse {
    fn refuse(&mut self, key: &str, problem: Problem);
}
