//! Recorded requests, for tests.

use std::fmt;

use serde_json::Value;

/// A request that the simulator answered.
#[derive(Clone)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Decoded path below `/api2/<format>`; the raw path if the request was refused before it was
    /// routed.
    pub path: String,
    /// `user@realm` or `user@realm!token`; `None` without a login.
    pub user: Option<String>,
    /// Query and body parameters as one JSON object; every scalar is a string.
    pub params: Value,
    /// Status of the answer; 0 if a fault prevented an answer.
    pub status: u16,
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut params = self.params.clone();
        for (key, value) in params.as_object_mut().into_iter().flatten() {
            let key = key.to_ascii_lowercase();
            if ["password", "secret", "otp", "tfa", "key", "token", "ticket"]
                .iter()
                .any(|word| key.contains(word))
            {
                *value = Value::from("…");
            }
        }
        f.debug_struct("RecordedRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("user", &self.user)
            .field("params", &params)
            .field("status", &self.status)
            .finish()
    }
}
