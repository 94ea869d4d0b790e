//! Local failures.

use std::fmt;
use std::sync::Arc;

use super::CallId;

/// A request that was built without a client and then awaited. See
/// [`Error::Detached`](crate::Error::Detached).
#[derive(Clone, Debug)]
pub struct DetachedError {
    pub(super) endpoint: String,
}

impl DetachedError {
    /// The call, as `GET /version`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for DetachedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: not sent: the request belongs to no client; use Client::send",
            self.endpoint
        )
    }
}

impl std::error::Error for DetachedError {}

/// Reading or writing a local file or stream failed. See [`Error::Local`](crate::Error::Local).
///
/// An upload that ends this way is incomplete, so the server discards it.
#[derive(Clone, Debug)]
pub struct LocalError(pub(super) Box<LocalParts>);

#[derive(Clone, Debug)]
pub(super) struct LocalParts {
    pub(super) name: CallId,
    pub(super) what: &'static str,
    pub(super) cause: Arc<std::io::Error>,
}

impl LocalError {
    /// The call, as `POST /nodes/pve1/storage/local/upload`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The error of the system.
    #[must_use]
    pub fn cause(&self) -> &std::io::Error {
        &self.0.cause
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LocalParts { name, what, cause } = &*self.0;
        write!(f, "{name}: {what}: {cause}")
    }
}

impl std::error::Error for LocalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0.cause)
    }
}

/// Invalid settings of a client. See [`Error::Config`](crate::Error::Config).
#[derive(Clone, Debug)]
pub struct ConfigError(Box<ConfigParts>);

#[derive(Clone, Debug)]
struct ConfigParts {
    text: String,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ConfigError {
    pub(super) fn new(text: String) -> Self {
        Self(Box::new(ConfigParts { text, cause: None }))
    }

    pub(super) fn caused(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(ConfigParts {
            text: cause.to_string(),
            cause: Some(Arc::new(cause)),
        }))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client settings: {}", self.0.text)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.0.cause.as_deref()?;
        Some(cause)
    }
}
