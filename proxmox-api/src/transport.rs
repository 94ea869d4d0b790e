//! How a request reaches the server.
//!
//! Everything above this module works on [`WireRequest`] and [`WireResponse`], so a test or another
//! way to the server replaces the network by implementing [`Transport`].

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};

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
#[derive(Debug)]
pub(crate) struct HttpTransport {
    http: reqwest::Client,
    timeout: Duration,
    connect_timeout: Duration,
}

/// The server closes an idle connection after 5 seconds; a request sent at that moment is lost.
const IDLE: Duration = Duration::from_secs(3);

impl HttpTransport {
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.trust.client_config()?)
            .http1_only()
            .http1_ignore_invalid_headers_in_responses(true)
            .pool_idle_timeout(IDLE)
            .timeout(settings.timeout)
            .connect_timeout(settings.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|error| Error::config(root_cause(&error)))?;
        Ok(Self {
            http,
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
        })
    }

    async fn exchange(&self, request: WireRequest) -> Result<WireResponse, TransportError> {
        let url = format!("{}{}", request.origin, request.path);
        let path = request.path.split('?').next().unwrap_or_default();
        let url = reqwest::Url::parse(&url)
            .ok()
            // The parser resolves dot segments, encoded ones too, which would change what is addressed.
            .filter(|url| url.path() == path)
            .ok_or_else(|| TransportError::never_sent("the address of the request is not a URL"))?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.http.request(method, url);
        for (name, value) in &request.headers {
            let refused =
                || TransportError::never_sent(format!("the header {name} cannot carry its value"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
            value.set_sensitive(true);
            builder = builder.header(header, value);
        }
        if !request.body.is_empty() {
            builder = builder.body(request.body);
        }
        let response = builder.send().await.map_err(|error| self.explain(error))?;
        let status = response.status();
        // hyper leaves a phrase away when it is the usual one, and empties one that is not ASCII.
        let reason = match response.extensions().get::<hyper::ext::ReasonPhrase>() {
            Some(phrase) => Bytes::copy_from_slice(phrase.as_bytes()),
            None => Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes()),
        };
        let headers = (response.headers().iter())
            .map(|(name, value)| (name.as_str().to_owned(), latin1_or_utf8(value.as_bytes())))
            .collect();
        let body = response.bytes().await.map_err(|error| {
            let error = self.explain(error);
            match error.fate {
                Fate::NeverSent => TransportError::interrupted(error.text),
                Fate::Unknown | Fate::TimedOut(_) => error,
            }
        })?;
        Ok(WireResponse {
            status: status.as_u16(),
            reason,
            headers,
            body,
        })
    }

    fn explain(&self, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        if error.is_connect() {
            if error.is_timeout() {
                let text = format!("no connection within {:?}", self.connect_timeout);
                return TransportError::never_sent(text);
            }
            let untrusted = causes(&error).find_map(untrusted);
            return TransportError {
                certificate: untrusted.map(|refusal| refusal.fingerprint),
                ..TransportError::never_sent(root_cause(&error))
            };
        }
        if error.is_timeout() {
            return TransportError::timed_out(self.timeout);
        }
        // hyper hands a request back as canceled only if it wrote none of it.
        let unwritten = causes(&error)
            .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_canceled);
        if error.is_builder() || unwritten {
            TransportError::never_sent(root_cause(&error))
        } else {
            TransportError::interrupted(root_cause(&error))
        }
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: WireRequest) -> Exchange<'_> {
        Box::pin(self.exchange(request))
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
