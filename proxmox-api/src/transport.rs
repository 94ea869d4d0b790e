//! How a request reaches the server.
//!
//! Everything above this module works on [`WireRequest`] and [`WireResponse`], so a test or another
//! way to the server replaces the network by implementing [`Transport`].

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::api_error::latin1_or_utf8;
use crate::endpoint::Method;
use crate::error::Error;
use crate::tls::{Fingerprint, Trust, Untrusted};

mod body;
mod connect;
mod line;
mod proxy;
mod streaming;

use body::{Flow, Outgoing};
use connect::Connector;
use line::Phrase;
pub(crate) use proxy::{Proxies, Proxy};
pub use streaming::{BodyStream, Chunks, Duplex, OpenResponse, Upgraded};

/// The future of an exchange.
pub type Exchange<'a> =
    Pin<Box<dyn Future<Output = Result<WireResponse, TransportError>> + Send + 'a>>;

/// The future of an exchange whose answer has a body that flows.
pub type Opening<'a> =
    Pin<Box<dyn Future<Output = Result<OpenResponse, TransportError>> + Send + 'a>>;

/// The future of a request to switch protocols.
pub type Upgrading<'a> =
    Pin<Box<dyn Future<Output = Result<Upgraded, TransportError>> + Send + 'a>>;

/// Carries one request to the server and its answer back.
///
/// An implementation sends what it is given and interprets nothing: authentication, the meaning of
/// statuses and repetition are the client's business. It must follow no redirection.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Exchanges one request for one answer, whatever its status.
    ///
    /// # Errors
    /// Only if no complete answer came. The error must say whether the request can have arrived.
    fn send(&self, request: WireRequest) -> Exchange<'_>;

    /// Like [`Transport::send`], with a body that is read while it is sent. The body that the request
    /// itself holds is empty.
    ///
    /// A transport that does not provide this cannot upload files.
    ///
    /// # Errors
    /// As for [`Transport::send`].
    fn send_stream(&self, request: WireRequest, body: BodyStream) -> Exchange<'_> {
        drop((request, body));
        Box::pin(async {
            Err(TransportError::never_sent(
                "this transport does not stream request bodies",
            ))
        })
    }

    /// Like [`Transport::send`], with an answer whose body is handed over as it comes.
    ///
    /// A transport that does not provide this holds a download in memory before the first byte is
    /// handed over.
    ///
    /// # Errors
    /// As for [`Transport::send`], for everything up to the body.
    fn open(&self, request: WireRequest) -> Opening<'_> {
        let exchange = self.send(request);
        Box::pin(async move { exchange.await.map(OpenResponse::from) })
    }

    /// Sends a request that asks to switch protocols; its headers say so.
    ///
    /// A transport that does not provide this has no consoles.
    ///
    /// # Errors
    /// As for [`Transport::send`].
    fn upgrade(&self, request: WireRequest) -> Upgrading<'_> {
        drop(request);
        Box::pin(async {
            Err(TransportError::never_sent(
                "this transport does not switch protocols",
            ))
        })
    }
}

/// A request as it goes out. Its `Debug` form shows neither header values nor parameters.
#[derive(Clone)]
#[non_exhaustive]
pub struct WireRequest {
    /// The verb.
    pub method: Method,
    /// Scheme, host and port, such as `https://pve1:8006`.
    pub origin: String,
    /// Percent-encoded path with its query, such as `/api2/json/nodes?full=1`.
    pub path: String,
    /// Header fields besides `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, whose length is sent exactly. Empty for GET and DELETE.
    pub body: Bytes,
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
        }
    }

    /// The first header field of that name, in any case.
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

/// An answer as it came in. Its `Debug` form shows no body, which may hold a ticket.
#[derive(Clone)]
#[non_exhaustive]
pub struct WireResponse {
    /// The status code; the server uses some that no standard knows, such as 596.
    pub status: u16,
    /// The reason phrase as it came. The server writes Latin-1, and puts texts there that stand
    /// nowhere else (wire protocol §5).
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

    /// The first header field of that name, in any case.
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

/// Why no complete answer came.
#[derive(Debug)]
pub struct TransportError {
    fate: Fate,
    text: String,
    certificate: Option<Fingerprint>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    NeverSent,
    Unknown,
    TimedOut(Duration),
}

impl TransportError {
    /// The server cannot have seen any of the request: no connection, or none that was secure.
    #[must_use]
    pub fn never_sent(text: impl Into<String>) -> Self {
        Self {
            fate: Fate::NeverSent,
            text: text.into(),
            certificate: None,
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

    /// The connection broke at a point where the server may have acted already.
    #[must_use]
    pub fn interrupted(text: impl Into<String>) -> Self {
        Self {
            fate: Fate::Unknown,
            text: text.into(),
            certificate: None,
        }
    }

    /// The request went out, and its answer was not complete in time.
    #[must_use]
    pub fn timed_out(after: Duration) -> Self {
        Self {
            fate: Fate::TimedOut(after),
            text: format!("no answer within {after:?}"),
            certificate: None,
        }
    }

    /// Whether the server cannot have seen the request.
    #[must_use]
    pub fn is_never_sent(&self) -> bool {
        self.fate == Fate::NeverSent
    }

    /// The limit, if it was one that ended the exchange.
    #[must_use]
    pub fn timed_out_after(&self) -> Option<Duration> {
        match self.fate {
            Fate::TimedOut(after) => Some(after),
            Fate::NeverSent | Fate::Unknown => None,
        }
    }

    /// The cause in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
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

/// Settings of [`HttpTransport`].
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) trust: Trust,
    pub(crate) proxies: Proxies,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

/// The network: HTTP/1.1 over TLS, as the server speaks it (wire protocol §2).
pub(crate) struct HttpTransport {
    pool: legacy::Client<Connector, Outgoing>,
    timeout: Duration,
}

/// The server closes an idle connection after 5 seconds; a request sent at that moment is lost.
const IDLE: Duration = Duration::from_secs(3);

impl HttpTransport {
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self, Error> {
        let connector = Connector::new(
            settings.trust.client_config()?,
            Arc::new(settings.proxies.clone()),
            settings.connect_timeout,
        );
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_ignore_invalid_headers_in_responses(true)
            .build(connector);
        Ok(Self {
            pool,
            timeout: settings.timeout,
        })
    }

    /// Sends a request and waits for the head of the answer; no limit in time.
    async fn begin(
        &self,
        request: WireRequest,
        body: Outgoing,
        coding: Coding,
        way: &Way,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", request.origin, request.path));
        if coding == Coding::Gzip {
            builder = builder.header(ACCEPT_ENCODING, "gzip");
        }
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                TransportError::never_sent(format!("the header {name} cannot carry its value"))
            })?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let mut outgoing = builder.body(body).map_err(|_| {
            TransportError::never_sent(
                "the address or a header's name of the request is not usable",
            )
        })?;
        way.watch(capture_connection(&mut outgoing));
        self.pool
            .request(outgoing)
            .await
            .map_err(|error| explain(&error))
    }

    async fn exchange(&self, request: WireRequest) -> Result<WireResponse, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        let way = Way::default();
        let exchange =
            async { receive(self.begin(request, body, Coding::Gzip, &way).await?).await };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(way.too_slow(self.timeout)),
        }
    }

    /// Here the limit in time is one for standing still, since a big body takes as long as it takes.
    async fn exchange_stream(
        &self,
        request: WireRequest,
        body: BodyStream,
    ) -> Result<WireResponse, TransportError> {
        let moved = Arc::new(AtomicU64::new(0));
        let body = Outgoing::Stream {
            left: body.length(),
            body,
            moved: Arc::clone(&moved),
        };
        let way = Way::default();
        let exchange =
            async { receive(self.begin(request, body, Coding::Gzip, &way).await?).await };
        let mut exchange = std::pin::pin!(exchange);
        let mut before = 0;
        loop {
            if let Ok(result) = tokio::time::timeout(self.timeout, exchange.as_mut()).await {
                return result;
            }
            let now = moved.load(Ordering::Relaxed);
            if now == before {
                return Err(way.too_slow(self.timeout));
            }
            before = now;
        }
    }

    async fn open_answer(&self, request: WireRequest) -> Result<OpenResponse, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        // A server that is to compress a file reads all of it first.
        let way = Way::default();
        let begin = self.begin(request, body, Coding::Plain, &way);
        let answer = match tokio::time::timeout(self.timeout, begin).await {
            Ok(answer) => answer?,
            Err(_) => return Err(way.too_slow(self.timeout)),
        };
        let (head, body) = split(answer);
        let chunks = Flow::new(body, is_gzip(&head), self.timeout);
        Ok(OpenResponse::new(head, chunks))
    }

    async fn switch(&self, request: WireRequest) -> Result<Upgraded, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        let way = Way::default();
        let exchange = async {
            let answer = self.begin(request, body, Coding::Plain, &way).await?;
            if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                return receive(answer).await.map(Upgraded::Answered);
            }
            let mut answer = answer;
            let upgrade = hyper::upgrade::on(&mut answer);
            let (head, _) = split(answer);
            let stream = upgrade
                .await
                .map_err(|error| TransportError::interrupted(root_cause(&error)))?;
            Ok(Upgraded::Switched(head, Box::new(TokioIo::new(stream))))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(way.too_slow(self.timeout)),
        }
    }
}

/// Whether a request got as far as a connection.
#[derive(Default)]
struct Way(OnceLock<CaptureConnection>);

impl Way {
    fn watch(&self, connection: CaptureConnection) {
        // Set once, as a request is sent once.
        let _ = self.0.set(connection);
    }

    /// The error when the time is over.
    fn too_slow(&self, limit: Duration) -> TransportError {
        let connection = self.0.get();
        if connection.is_some_and(|captured| captured.connection_metadata().is_some()) {
            return TransportError::timed_out(limit);
        }
        TransportError::never_sent(format!("no connection within {limit:?}"))
    }
}

/// What the server is told it may do to the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: WireRequest) -> Exchange<'_> {
        Box::pin(self.exchange(request))
    }

    fn send_stream(&self, request: WireRequest, body: BodyStream) -> Exchange<'_> {
        Box::pin(self.exchange_stream(request, body))
    }

    fn open(&self, request: WireRequest) -> Opening<'_> {
        Box::pin(self.open_answer(request))
    }

    fn upgrade(&self, request: WireRequest) -> Upgrading<'_> {
        Box::pin(self.switch(request))
    }
}

fn broken_off(error: &hyper::Error) -> TransportError {
    TransportError::interrupted(format!("the answer broke off: {}", root_cause(error)))
}

fn no_gzip(error: &io::Error) -> TransportError {
    TransportError::interrupted(format!("the answer does not unpack: {error}"))
}

fn is_gzip(head: &WireResponse) -> bool {
    head.header("content-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
}

/// The head of an answer, and its body.
fn split(response: http::Response<Incoming>) -> (WireResponse, Incoming) {
    let (parts, body) = response.into_parts();
    let mut head = WireResponse::new(parts.status.as_u16(), Bytes::new());
    head.reason = (parts.extensions.get::<Phrase>())
        .map(Phrase::take)
        .unwrap_or_default();
    head.headers = (parts.headers.iter())
        .map(|(name, value)| (name.as_str().to_owned(), latin1_or_utf8(value.as_bytes())))
        .collect();
    (head, body)
}

async fn receive(response: http::Response<Incoming>) -> Result<WireResponse, TransportError> {
    let (mut response, mut body) = split(response);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_)) => {}
            // A server that refuses an upload closes the connection while the rest is still sent, which
            // resets it. The refusal itself is complete without a body.
            Err(_) if response.status >= 400 && response.header("content-length").is_none() => {
                break;
            }
            Err(error) => return Err(broken_off(&error)),
        }
    }
    response.body = Bytes::from(bytes);
    if is_gzip(&response) {
        let mut plain = Vec::new();
        let mut packed = flate2::bufread::MultiGzDecoder::new(&*response.body);
        packed
            .read_to_end(&mut plain)
            .map_err(|error| no_gzip(&error))?;
        response.body = Bytes::from(plain);
    }
    Ok(response)
}

type BoxError = Box<dyn StdError + Send + Sync>;

fn explain(error: &legacy::Error) -> TransportError {
    let text = root_cause(error);
    // hyper hands a request back as canceled only if it wrote none of it.
    let unwritten = causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_canceled);
    if error.is_connect() || unwritten {
        let untrusted = causes(error).find_map(untrusted);
        return TransportError {
            certificate: untrusted.map(|refusal| refusal.fingerprint),
            ..TransportError::never_sent(text)
        };
    }
    TransportError::interrupted(text)
}

/// An error and all that is below it. What an I/O error wraps is not its `source`.
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
