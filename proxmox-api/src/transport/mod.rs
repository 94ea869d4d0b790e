//! The transport: how a request reaches the server.
//!
//! All layers above use [`WireRequest`] and [`WireResponse`], so a test or another way to the
//! server replaces the network by implementing [`Transport`].

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bounds::Exceeded;
use crate::tls::{Fingerprint, Untrusted};
use crate::value::BoxFuture;
use crate::value::endpoint::Method;
use crate::value::text::latin1_or_utf8;

mod body;
mod connect;
mod line;
mod network;
mod proxy;
mod receive;
#[cfg(feature = "reqwest")]
mod reqwest;
mod retry_after;
mod streaming;

pub(crate) use network::{HttpSettings, HttpTransport};
pub(crate) use proxy::{Proxies, Proxy, ProxyError};
pub(crate) use retry_after::retry_after;
pub use streaming::{BodyStream, Chunks, Duplex, OpenResponse, Upgraded};

/// Carries one request to the server and returns its answer.
///
/// An implementation sends what it is given and interprets nothing: the client handles
/// authentication, statuses and retries. It must not follow redirections.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Exchanges one request for one answer, whatever its status.
    ///
    /// # Errors
    /// Only if no complete answer arrived. The error must say whether the request may have arrived.
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>>;

    /// Like [`Transport::send`], with a body that is read while it is sent. The request's own body
    /// is empty.
    ///
    /// A transport that does not provide this cannot upload files.
    ///
    /// # Errors
    /// Those of [`Transport::send`].
    fn send_stream(
        &self,
        request: WireRequest,
        body: BodyStream,
    ) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        drop((request, body));
        Box::pin(async {
            Err(TransportError::never_sent(
                "this transport does not stream request bodies",
            ))
        })
    }

    /// Like [`Transport::send`], with an answer whose body is streamed.
    ///
    /// A transport that does not provide this holds a whole download in memory.
    ///
    /// # Errors
    /// Those of [`Transport::send`], for everything up to the body.
    fn open(&self, request: WireRequest) -> BoxFuture<'_, Result<OpenResponse, TransportError>> {
        let exchange = self.send(request);
        Box::pin(async move { exchange.await.map(OpenResponse::from) })
    }

    /// Sends a request that asks to switch protocols; its headers say so.
    ///
    /// A transport that does not provide this has no consoles.
    ///
    /// # Errors
    /// Those of [`Transport::send`].
    fn upgrade(&self, request: WireRequest) -> BoxFuture<'_, Result<Upgraded, TransportError>> {
        drop(request);
        Box::pin(async {
            Err(TransportError::never_sent(
                "this transport does not switch protocols",
            ))
        })
    }
}

/// A request for a transport. Its `Debug` form shows neither header values nor parameters.
#[derive(Clone)]
#[non_exhaustive]
pub struct WireRequest {
    /// The verb.
    pub method: Method,
    /// Scheme, host and port, such as `https://pve1:8006`.
    pub origin: String,
    /// Percent-encoded path with its query, such as `/api2/json/nodes?full=1`.
    pub path: String,
    /// Header fields other than `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, which is sent with its exact length. Empty for GET and DELETE.
    pub body: Bytes,
    /// The time limit of the exchange. A transport that observes it can report whether the request
    /// was sent by then; one that does not is dropped at the deadline.
    pub limit: Option<TimeLimit>,
}

/// A time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeLimit {
    /// The deadline.
    pub at: Instant,
    /// The whole duration, for errors.
    pub duration: Duration,
}

impl TimeLimit {
    /// This much time from now on.
    #[must_use]
    pub fn after(duration: Duration) -> Option<Self> {
        let at = tokio::time::Instant::now()
            .checked_add(duration)?
            .into_std();
        Some(Self { at, duration })
    }
}

impl WireRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, origin: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            method,
            origin: origin.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            limit: None,
        }
    }

    /// The first header field of that name, in upper or lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl fmt::Debug for WireRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("WireRequest")
            .field("method", &format_args!("{}", self.method))
            .field("origin", &self.origin)
            .field("path", &self.path.split('?').next().unwrap_or_default())
            .field("headers", &names)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// An answer from a transport. Its `Debug` form shows no body, which may hold a ticket.
#[derive(Clone)]
#[non_exhaustive]
pub struct WireResponse {
    /// The status code; the server uses some non-standard ones, such as 596.
    pub status: u16,
    /// The raw reason phrase. The server writes Latin-1, and some of its messages only there ([wire
    /// protocol §5](crate::guide::wire_protocol)).
    pub reason: Bytes,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
}

impl WireResponse {
    /// An answer without a reason phrase and headers.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            reason: Bytes::new(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The first header field of that name, in upper or lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl fmt::Debug for WireResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireResponse")
            .field("status", &self.status)
            .field("reason", &latin1_or_utf8(&self.reason))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value)
}

/// The reason why no complete answer arrived.
#[derive(Clone, Debug)]
pub struct TransportError {
    fate: Kind,
    text: String,
    certificate: Option<Fingerprint>,
    expected: Vec<Fingerprint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    NeverSent,
    Unknown,
    TimedOut(Duration),
    /// The answer exceeds a limit.
    Exceeded(Exceeded),
    /// The script of a test does not expect it.
    Unscripted,
}

impl TransportError {
    /// The server cannot have received any of the request: no connection, or no secure one.
    #[must_use]
    pub fn never_sent(text: impl Into<String>) -> Self {
        Self {
            fate: Kind::NeverSent,
            text: text.into(),
            certificate: None,
            expected: Vec::new(),
        }
    }

    /// The server's certificate is not trusted, so nothing was sent.
    #[must_use]
    pub fn untrusted(text: impl Into<String>, certificate: Fingerprint) -> Self {
        Self {
            certificate: Some(certificate),
            ..Self::never_sent(text)
        }
    }

    /// The connection broke when the server may have acted already.
    #[must_use]
    pub fn interrupted(text: impl Into<String>) -> Self {
        Self {
            fate: Kind::Unknown,
            text: text.into(),
            certificate: None,
            expected: Vec::new(),
        }
    }

    /// The request was sent, and its answer was not complete in time.
    #[must_use]
    pub fn timed_out(after: Duration) -> Self {
        Self {
            fate: Kind::TimedOut(after),
            text: format!("no answer within {after:?}"),
            certificate: None,
            expected: Vec::new(),
        }
    }

    /// The answer exceeds a limit.
    #[must_use]
    pub fn too_much(exceeded: Exceeded) -> Self {
        Self {
            fate: Kind::Exceeded(exceeded),
            text: exceeded.to_string(),
            certificate: None,
            expected: Vec::new(),
        }
    }

    /// A script does not expect the request.
    pub(crate) fn unscripted(text: String) -> Self {
        Self {
            fate: Kind::Unscripted,
            ..Self::never_sent(text)
        }
    }

    /// Whether the script of a test, which replaces the server, does not expect the request.
    #[must_use]
    pub fn is_unscripted(&self) -> bool {
        self.fate == Kind::Unscripted
    }

    /// Whether the server cannot have received the request.
    #[must_use]
    pub fn is_never_sent(&self) -> bool {
        self.fate == Kind::NeverSent
    }

    /// The time limit, if it ended the exchange.
    #[must_use]
    pub fn timed_out_after(&self) -> Option<Duration> {
        match self.fate {
            Kind::TimedOut(after) => Some(after),
            _ => None,
        }
    }

    /// The limit that the answer exceeds, if that ended the exchange.
    #[must_use]
    pub fn exceeded(&self) -> Option<Exceeded> {
        match self.fate {
            Kind::Exceeded(exceeded) => Some(exceeded),
            _ => None,
        }
    }

    /// The cause as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds the expected fingerprints to the error for a certificate that is not trusted.
    #[must_use]
    pub fn expecting(mut self, fingerprints: impl IntoIterator<Item = Fingerprint>) -> Self {
        self.expected.extend(fingerprints);
        self
    }

    /// The expected fingerprints, if a certificate was refused and some are known.
    #[must_use]
    pub fn expected_certificates(&self) -> &[Fingerprint] {
        &self.expected
    }

    /// The fingerprint of the certificate that was not trusted, if that was the cause.
    #[must_use]
    pub fn server_certificate(&self) -> Option<Fingerprint> {
        self.certificate
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TransportError {}

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error and all its causes. An I/O error does not return its inner error as `source`.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

impl From<Untrusted> for TransportError {
    fn from(refusal: Untrusted) -> Self {
        Self::untrusted(refusal.to_string(), refusal.fingerprint).expecting(refusal.expected)
    }
}

fn untrusted<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Untrusted> {
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            other.0.downcast_ref::<Untrusted>()
        }
        _ => None,
    }
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        if let Some(refusal) = untrusted(cause) {
            return refusal.to_string();
        }
        text = cause.to_string();
        if let Some(rustls::Error::InvalidMessage(_)) = cause.downcast_ref::<rustls::Error>() {
            return format!("{text}; does the server speak TLS on this port?");
        }
    }
    text
}

#[cfg(test)]
mod tests;
