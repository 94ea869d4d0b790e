//! Undecoded answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(feature = "guests")]
use crate::bounds::Bounds;
use crate::error::api::ApiError;
use crate::error::{CallId, Error};
use crate::transport::WireResponse;
use crate::value::Secret;
use crate::value::decode::Received;
use crate::value::secret::Scrubber;
use crate::value::text::latin1_or_utf8;

/// The server's answer to an accepted request. Its `Debug` form shows no body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The status, 200 to 299.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
    /// Secrets of the request, which must not appear in errors.
    pub(crate) secrets: KeptSecrets,
    /// The limit on the memory of the decoded answer.
    pub(crate) memory: usize,
}

impl<'a> From<&'a Reply> for Received<'a> {
    fn from(reply: &'a Reply) -> Self {
        let (body, memory) = (&reply.body, reply.memory);
        Self { body, memory }
    }
}

/// Secrets of a request, kept while the server may quote them.
pub(crate) type KeptSecrets = Option<Arc<[Secret]>>;

impl Reply {
    /// A reply of which only the body is known.
    #[cfg(feature = "guests")]
    pub(crate) fn of_body(body: Bytes) -> Self {
        Self {
            status: 200,
            reason: String::new(),
            headers: Vec::new(),
            body,
            secrets: None,
            memory: Bounds::new().memory,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// The answer if its status means success, the refusal otherwise.
pub(super) fn accept(
    name: &CallId,
    response: WireResponse,
    secrets: impl FnOnce() -> Scrubber,
    kept: KeptSecrets,
    memory: usize,
) -> Result<Reply, Error> {
    if !(200..300).contains(&response.status) {
        return Err(ApiError::new(name, &response, &secrets()).into());
    }
    let WireResponse {
        status,
        reason,
        headers,
        body,
    } = response;
    Ok(Reply {
        status,
        reason: latin1_or_utf8(&reason),
        headers,
        body,
        secrets: kept,
        memory,
    })
}
