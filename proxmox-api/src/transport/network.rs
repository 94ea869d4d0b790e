//! HTTP/1.1 over TCP and TLS.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use percent_encoding::percent_decode;

use super::body::{Flow, Outgoing};
use super::connect::Connector;
use super::line::REASON;
use super::proxy::Proxies;
use super::receive::{head, is_gzip, receive};
use super::{
    BodyStream, OpenResponse, Transport, TransportError, Upgraded, WireRequest, WireResponse,
    causes, root_cause, untrusted,
};
use crate::bounds::{Bound, Bounds, Exceeded};
use crate::tls::{TlsError, Trust};
use crate::value::BoxFuture;

/// Settings of [`HttpTransport`].
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) trust: Trust,
    pub(crate) proxies: Proxies,
    pub(crate) timeout: Duration,
    /// The maximum time without data.
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) bounds: Bounds,
}

/// The network: HTTP/1.1 over TLS, in the server's dialect ([wire protocol
/// §2](crate::guide::wire_protocol)).
pub(crate) struct HttpTransport {
    pool: legacy::Client<Connector, Outgoing>,
    timeout: Duration,
    idle_timeout: Option<Duration>,
    bounds: Bounds,
}

/// The server closes an idle connection after 5 seconds; a request sent at that moment is lost.
const IDLE: Duration = Duration::from_secs(3);

impl HttpTransport {
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self, TlsError> {
        let connector = Connector::new(
            settings.trust.settings()?,
            Arc::new(settings.proxies.clone()),
            settings.connect_timeout,
            settings.bounds,
        );
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_buf_size(settings.bounds.head)
            .build(connector);
        Ok(Self {
            pool,
            timeout: settings.timeout,
            idle_timeout: settings.read_timeout,
            bounds: settings.bounds,
        })
    }

    /// The deadline of the exchange, and the whole duration.
    fn limit(&self, request: &WireRequest) -> (tokio::time::Instant, Duration) {
        if let Some(limit) = request.limit {
            return (limit.at.into(), limit.duration);
        }
        let now = tokio::time::Instant::now();
        let at = now.checked_add(self.timeout);
        // More than a century is as good as no limit.
        (
            at.unwrap_or(now + Duration::from_secs(1 << 31)),
            self.timeout,
        )
    }

    /// Sends a request and waits for the head of the answer, without a time limit.
    async fn send_request(
        &self,
        request: WireRequest,
        body: Outgoing,
        coding: Coding,
        connection: &ConnectionWatch,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", request.origin, request.path));
        if coding == Coding::Gzip {
            builder = builder.header(ACCEPT_ENCODING, "gzip");
        }
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                TransportError::never_sent(format!("the header {name} has an invalid value"))
            })?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let mut outgoing = builder.body(body).map_err(|_| {
            TransportError::never_sent("the request's address or the name of a header is invalid")
        })?;
        connection.watch(capture_connection(&mut outgoing));
        connection
            .answer(self.pool.request(outgoing), self.bounds.head)
            .await
    }

    async fn exchange(&self, request: WireRequest) -> Result<WireResponse, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        let connection = ConnectionWatch::new(self.idle_timeout);
        let (at, duration) = self.limit(&request);
        let exchange = async {
            let answer = self
                .send_request(request, body, Coding::Gzip, &connection)
                .await?;
            receive(split(answer), self.idle_timeout, &self.bounds).await
        };
        match tokio::time::timeout_at(at, exchange).await {
            Ok(result) => result,
            Err(_) => Err(connection.too_slow(duration)),
        }
    }

    /// The time limit applies to times without data, since a large body may take long.
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
        // While the body is sent, the server sends nothing.
        let connection = ConnectionWatch::new(None);
        let exchange = async {
            let answer = self
                .send_request(request, body, Coding::Gzip, &connection)
                .await?;
            receive(split(answer), self.idle_timeout, &self.bounds).await
        };
        let mut exchange = std::pin::pin!(exchange);
        let limit = self.idle_timeout.unwrap_or(self.timeout);
        let mut before = 0;
        loop {
            if let Ok(result) = tokio::time::timeout(limit, exchange.as_mut()).await {
                return result;
            }
            let now = moved.load(Ordering::Relaxed);
            if now == before {
                return Err(connection.too_slow(limit));
            }
            before = now;
        }
    }

    async fn open_answer(&self, request: WireRequest) -> Result<OpenResponse, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        // A server that compresses a file reads all of it first.
        let connection = ConnectionWatch::new(self.idle_timeout);
        let (at, duration) = self.limit(&request);
        let send_request = self.send_request(request, body, Coding::Plain, &connection);
        let answer = match tokio::time::timeout_at(at, send_request).await {
            Ok(answer) => answer?,
            Err(_) => return Err(connection.too_slow(duration)),
        };
        let (head, body) = split(answer);
        let limit = self.idle_timeout.unwrap_or(self.timeout);
        let chunks = Flow::new(body, is_gzip(&head), limit);
        Ok(OpenResponse::new(head, chunks))
    }

    async fn switch(&self, request: WireRequest) -> Result<Upgraded, TransportError> {
        let mut request = request;
        let body = Outgoing::Whole(Full::new(std::mem::take(&mut request.body)));
        let connection = ConnectionWatch::new(self.idle_timeout);
        let (at, duration) = self.limit(&request);
        let exchange = async {
            let answer = self
                .send_request(request, body, Coding::Plain, &connection)
                .await?;
            if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                return receive(split(answer), self.idle_timeout, &self.bounds)
                    .await
                    .map(Upgraded::Answered);
            }
            let mut answer = answer;
            let upgrade = hyper::upgrade::on(&mut answer);
            let (head, _) = split(answer);
            let stream = upgrade
                .await
                .map_err(|error| TransportError::interrupted(root_cause(&error)))?;
            Ok(Upgraded::Switched(head, Box::new(TokioIo::new(stream))))
        };
        match tokio::time::timeout_at(at, exchange).await {
            Ok(result) => result,
            Err(_) => Err(connection.too_slow(duration)),
        }
    }
}

/// Whether a request has a connection, and the maximum time without data from then on.
struct ConnectionWatch {
    connection: OnceLock<CaptureConnection>,
    idle_timeout: Option<Duration>,
}

impl ConnectionWatch {
    fn new(idle_timeout: Option<Duration>) -> Self {
        let connection = OnceLock::new();
        Self {
            connection,
            idle_timeout,
        }
    }

    fn watch(&self, connection: CaptureConnection) {
        // Set once, as a request is sent once.
        let _ = self.connection.set(connection);
    }

    fn is_connected(&self) -> bool {
        let connection = self.connection.get();
        connection.is_some_and(|captured| captured.connection_metadata().is_some())
    }

    async fn answer(
        &self,
        sending: legacy::ResponseFuture,
        longest_head: usize,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let mut sending = std::pin::pin!(sending);
        let mut pause = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = sending.as_mut().poll(context) {
                return Poll::Ready(answer.map_err(|error| explain(&error, longest_head)));
            }
            let Some(limit) = self.idle_timeout.filter(|_| self.is_connected()) else {
                return Poll::Pending;
            };
            let pause = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(pause.as_mut().poll(context));
            Poll::Ready(Err(TransportError::timed_out(limit)))
        })
        .await
    }

    /// The error at the deadline.
    fn too_slow(&self, limit: Duration) -> TransportError {
        match self.is_connected() {
            true => TransportError::timed_out(limit),
            false => TransportError::never_sent(format!("no connection within {limit:?}")),
        }
    }
}

/// The accepted encodings of the answer.
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
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(self.exchange(request))
    }

    fn send_stream(
        &self,
        request: WireRequest,
        body: BodyStream,
    ) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(self.exchange_stream(request, body))
    }

    fn open(&self, request: WireRequest) -> BoxFuture<'_, Result<OpenResponse, TransportError>> {
        Box::pin(self.open_answer(request))
    }

    fn upgrade(&self, request: WireRequest) -> BoxFuture<'_, Result<Upgraded, TransportError>> {
        Box::pin(self.switch(request))
    }
}

/// The head of an answer, and its body.
fn split(response: http::Response<Incoming>) -> (WireResponse, Incoming) {
    let (mut parts, body) = response.into_parts();
    // The first one is ours.
    let reason = (parts.headers.get(REASON))
        .map(|phrase| percent_decode(phrase.as_bytes()).collect())
        .unwrap_or_default();
    parts.headers.remove(REASON);
    (head(parts.status, &parts.headers, reason), body)
}

fn explain(error: &legacy::Error, longest_head: usize) -> TransportError {
    let exceeded = causes(error).find_map(|cause| {
        let too_long = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|error| error.is_parse() && error.to_string().contains("too large"));
        let head = too_long.then(|| Exceeded::new(Bound::Head, longest_head));
        cause.downcast_ref::<Exceeded>().copied().or(head)
    });
    if let Some(exceeded) = exceeded {
        return TransportError::too_much(exceeded);
    }
    let text = root_cause(error);
    // hyper returns a request as canceled only if it wrote none of it.
    let unwritten = causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_canceled);
    if error.is_connect() || unwritten {
        let untrusted = causes(error).find_map(untrusted);
        return TransportError {
            certificate: untrusted.map(|refusal| refusal.fingerprint),
            expected: untrusted.map_or_else(Vec::new, |refusal| refusal.expected.clone()),
            ..TransportError::never_sent(text)
        };
    }
    TransportError::interrupted(text)
}
