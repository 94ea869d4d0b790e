//! How a request reaches the server.
//!
//! Everything above this module works on [`WireRequest`] and [`WireResponse`], so a test or another
//! way to the server replaces the network by implementing [`Transport`].

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::uri::Uri;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::api_error::latin1_or_utf8;
use crate::endpoint::Method;
use crate::error::Error;
use crate::tls::{Fingerprint, Trust, Untrusted};

/// The future of an exchange.
pub type Exchange<'a> =
    Pin<Box<dyn Future<Output = Result<WireResponse, TransportError>> + Send + 'a>>;

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
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

/// The network: HTTP/1.1 over TLS, as the server speaks it (wire protocol §2).
pub(crate) struct HttpTransport {
    pool: legacy::Client<Connector, Full<Bytes>>,
    timeout: Duration,
}

/// The server closes an idle connection after 5 seconds; a request sent at that moment is lost.
const IDLE: Duration = Duration::from_secs(3);

impl HttpTransport {
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = Connector {
            tcp,
            tls: TlsConnector::from(Arc::new(settings.trust.client_config()?)),
            timeout: settings.connect_timeout,
        };
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

    async fn exchange(&self, request: WireRequest) -> Result<WireResponse, TransportError> {
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", request.origin, request.path))
            .header(ACCEPT_ENCODING, "gzip");
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                TransportError::never_sent(format!("the header {name} cannot carry its value"))
            })?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let outgoing = builder.body(Full::new(request.body)).map_err(|_| {
            TransportError::never_sent(
                "the address or a header's name of the request is not usable",
            )
        })?;
        let exchange = async {
            let response = self
                .pool
                .request(outgoing)
                .await
                .map_err(|error| explain(&error))?;
            receive(response).await
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::timed_out(self.timeout)),
        }
    }
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
}

async fn receive(response: http::Response<Incoming>) -> Result<WireResponse, TransportError> {
    let (head, body) = response.into_parts();
    let reason = (head.extensions.get::<Phrase>())
        .map(Phrase::take)
        .unwrap_or_default();
    let headers: Vec<_> = (head.headers.iter())
        .map(|(name, value)| (name.as_str().to_owned(), latin1_or_utf8(value.as_bytes())))
        .collect();
    let body = body.collect().await.map_err(|error| {
        TransportError::interrupted(format!("the answer broke off: {}", root_cause(&error)))
    })?;
    let mut body = body.to_bytes();
    if find(&headers, "content-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
    {
        let mut plain = Vec::new();
        let mut packed = flate2::bufread::MultiGzDecoder::new(&*body);
        packed.read_to_end(&mut plain).map_err(|error| {
            TransportError::interrupted(format!("the answer does not unpack: {error}"))
        })?;
        body = Bytes::from(plain);
    }
    Ok(WireResponse {
        status: head.status.as_u16(),
        reason,
        headers,
        body,
    })
}

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

/// Makes connections: TCP, and TLS over it where the address says so.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    timeout: Duration,
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Line;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Line, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let tcp = self.tcp.call(uri);
        let (tls, limit) = (self.tls.clone(), self.timeout);
        Box::pin(async move {
            let connect = async move {
                let stream = tcp.await?.into_inner();
                if !secure {
                    return Ok::<_, BoxError>(Line::over(Stream::Plain(stream)));
                }
                let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
                Ok(Line::over(Stream::Secure(Box::new(stream))))
            };
            match tokio::time::timeout(limit, connect).await {
                Ok(result) => result,
                Err(_) => Err(format!("no connection within {limit:?}").into()),
            }
        })
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// The reason phrase of the last answer on a connection.
#[derive(Clone, Default)]
struct Phrase(Arc<Mutex<Vec<u8>>>);

impl Phrase {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.lock()))
    }
}

/// A connection that keeps the reason phrase for itself.
///
/// Below this, an answer whose phrase holds a control character does not parse, and one with a
/// character outside ASCII loses the phrase; the server writes both, and before 2025 nothing but the
/// phrase says what is wrong (wire protocol §5).
struct Line {
    stream: Stream,
    scanner: Scanner,
}

/// Takes reason phrases out of what comes over a connection.
#[derive(Default)]
struct Scanner {
    place: Place,
    phrase: Phrase,
}

/// Where in an answer the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    /// In its first characters, so many of which were what they have to be.
    Start(usize),
    Status,
    Phrase,
    /// Behind the phrase, or in something that is no HTTP.
    Rest,
}

impl Default for Place {
    fn default() -> Self {
        Self::Start(0)
    }
}

const START: &[u8] = b"HTTP/1.x ";

/// The most that is read at once: a TLS record.
const CHUNK: usize = 16 * 1024;

impl Scanner {
    /// The next thing to come is an answer.
    fn expect_answer(&mut self) {
        // A server may answer while it is still being written to.
        if matches!(self.place, Place::Rest) {
            self.place = Place::default();
        }
    }

    /// What was read, without the part of it that belongs to the phrase.
    fn take_phrase(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            self.place = match self.place {
                Place::Start(n)
                    if START[n] == byte || (START[n] == b'x' && byte.is_ascii_digit()) =>
                {
                    self.phrase.lock().clear();
                    if n + 1 == START.len() {
                        Place::Status
                    } else {
                        Place::Start(n + 1)
                    }
                }
                Place::Status if byte.is_ascii_digit() => Place::Status,
                Place::Status if byte == b' ' => Place::Phrase,
                Place::Phrase if byte != b'\r' && byte != b'\n' => {
                    self.phrase.lock().push(byte);
                    continue;
                }
                _ => {
                    self.place = Place::Rest;
                    kept.extend_from_slice(&bytes[i..]);
                    break;
                }
            };
            kept.push(byte);
        }
        kept
    }
}

impl Line {
    fn over(stream: Stream) -> Self {
        Self {
            stream,
            scanner: Scanner::default(),
        }
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.scanner.phrase.clone())
    }
}

impl hyper::rt::Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0; CHUNK];
        let mut read = ReadBuf::new(&mut room[..buffer.remaining().min(CHUNK)]);
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut read),
            Stream::Secure(stream) => Pin::new(stream).poll_read(context, &mut read),
        };
        match ready!(polled) {
            // The server closes the socket without ending TLS first, and many of its answers end with the
            // connection. One that announced its length is still known to be cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            result => result?,
        }
        let bytes = read.filled();
        if matches!(self.scanner.place, Place::Rest) || bytes.is_empty() {
            buffer.put_slice(bytes);
            return Poll::Ready(Ok(()));
        }
        let kept = self.scanner.take_phrase(bytes);
        if kept.is_empty() {
            // Nothing at all would mean the end of the connection.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&kept);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.scanner.expect_answer();
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
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
