//! The path tree that requests are made from.

use std::fmt;

use super::call::Call;
use super::request::{Decode, Request};
use super::state::Client;
use crate::error::RequestErrorKind;
use crate::value::encode::escape;
use crate::value::endpoint::Endpoint;
#[cfg(feature = "console")]
use crate::value::endpoint::Method;

/// A node of the path tree.
#[derive(Clone)]
pub(crate) struct PathNode {
    client: Option<Client>,
    path: String,
    invalid: Option<Box<RequestErrorKind>>,
}

impl PathNode {
    pub(crate) fn root(client: Option<&Client>) -> Self {
        Self {
            client: client.cloned(),
            path: String::new(),
            invalid: None,
        }
    }

    /// Appends a literal segment.
    #[must_use]
    pub(crate) fn literal(&self, segment: &str) -> Self {
        let mut at = self.clone();
        at.path.push('/');
        at.path.push_str(segment);
        at
    }

    /// Appends a value.
    #[must_use]
    pub(crate) fn value(&self, name: &str, value: &dyn fmt::Display) -> Self {
        self.segment(name, &value.to_string(), false)
    }

    /// Appends a value that may contain slashes: the server reads the rest of the path as one
    /// value.
    #[cfg(any(
        feature = "cluster-firewall",
        feature = "lxc",
        feature = "node-storage",
        feature = "qemu"
    ))]
    #[must_use]
    pub(crate) fn rest(&self, name: &str, value: &dyn fmt::Display) -> Self {
        self.segment(name, &value.to_string(), true)
    }

    /// A call of this path that belongs to no endpoint.
    #[cfg(feature = "console")]
    pub(crate) fn call(&self, method: Method) -> Call {
        Call {
            invalid: self.invalid.clone(),
            ..Call::new(method, self.path.clone())
        }
    }

    fn segment(&self, name: &str, value: &str, slashes: bool) -> Self {
        let mut at = self.clone();
        // The server decodes the whole path before it splits it, and drops empty segments.
        let problem = match value {
            "" => Some("is empty"),
            "." | ".." => Some("would change the path"),
            _ if !slashes && value.contains('/') => Some("contains a slash"),
            // The server's patterns for path values match no white space, so it would report an
            // unknown call.
            _ if value.contains([' ', '\t', '\n', '\r', '\x0b', '\x0c']) => {
                Some("contains white space, which no server accepts in a path")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            at.invalid.get_or_insert_with(|| {
                let problem = format!("the path value `{name}` {problem}");
                Box::new(RequestErrorKind::Path { problem })
            });
        }
        at.path.push('/');
        at.path.push_str(&escape(value).to_string());
        at
    }

    /// A request of this path.
    pub(crate) fn request<T>(&self, endpoint: &'static Endpoint, decode: Decode<T>) -> Request<T> {
        Request {
            client: self.client.clone(),
            call: self.call_of(endpoint),
            decode,
        }
    }

    #[inline(never)]
    fn call_of(&self, endpoint: &'static Endpoint) -> Call {
        Call {
            endpoint: Some(endpoint),
            invalid: self.invalid.clone(),
            ..Call::new(endpoint.method, self.path.clone())
        }
    }
}

impl fmt::Debug for PathNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() {
            "/"
        } else {
            &self.path
        })
    }
}
