//! Values that cannot be sent.

/// Why a value cannot be sent.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// It would arrive as something else; otherwise no release that is known takes it.
    pub certain: bool,
    /// The part that is wrong, where it may be shown.
    pub value: Option<String>,
    /// What the parameter takes instead; completes "the parameter … takes …".
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

/// Where it is noted that something given is no value of its key.
#[doc(hidden)]
pub trait Refuse {
    fn refuse(&mut self, key: &str, problem: Problem);
}
