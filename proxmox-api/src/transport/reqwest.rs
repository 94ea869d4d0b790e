//! A transport on a `reqwest::Client` that the program configured (feature `reqwest`).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyDataStream;
use hyper::ext::ReasonPhrase;
use reqwest::{Body, Client, Version};

use super::body::{Flow, Outgoing};
use super::receive::{head, is_gzip, receive};
use super::{
    BodyStream, OpenResponse, Transport, TransportError, Upgraded, WireRequest, WireResponse,
    causes, root_cause,
};
use crate::bounds::{Bounds, Exceeded};
use crate::value::BoxFuture;
use crate::value::endpoint::Method;

/// The maximum time without data, for requests without a time limit.
const IDLE: Duration = Duration::from_secs(60);

/// Sends through a client that the program configured: its proxies, name resolution, TLS and
/// connection pool apply, and the settings of this crate for them do not.
///
/// ```
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use proxmox_api::Client;
///
/// let http = reqwest::Client::builder()
///     .redirect(reqwest::redirect::Policy::none())
///     .http1_only()
///     .build()?;
/// let client = Client::builder("https://pve1.example.org:8006")
///     .api_token("root@pam!ci", "secret")
///     .transport(Arc::new(http))
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// Its limitations, compared with the transport of this crate:
///
/// * A reason phrase with characters outside ASCII is lost, and an answer whose phrase holds a
///   control character is a broken connection. Servers before 8.4 report the reason of a refusal in
///   the phrase only.
/// * The servers end connections without ending TLS. An answer without a length, such as that to an
///   expired ticket, is then a broken connection, unless the TLS library accepts such an end. With
///   API tokens this affects refusals only.
/// * A time limit that ends a request before there is a connection cannot be distinguished from one
///   that ends it later, except for `reqwest`'s own `connect_timeout`; so a request that was
///   certainly not sent may count as possibly sent.
/// * Refused certificates are reported without their fingerprint, and pins and trust on first use
///   are not available.
/// * Redirections are followed unless the client is built with a policy of none. Build it so: a
///   redirection may lead to another server, with the credentials.
/// * The limit on the size of an answer's head is that of the client; those on bodies are the
///   defaults of [`Bounds`]. [`ClientBuilder::bounds`](crate::ClientBuilder::bounds) sets the limits
///   of what is decoded only.
impl Transport for Client {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            let limit = Limit::of(&request);
            limit
                .hold(async move {
                    let answer = send_request(self, request, None, true).await?;
                    receive(split(answer), None, &Bounds::new()).await
                })
                .await
        })
    }

    fn send_stream(
        &self,
        request: WireRequest,
        body: BodyStream,
    ) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            let moved = Arc::new(AtomicU64::new(0));
            let length = body.length();
            let body = Outgoing::Stream {
                left: length,
                body,
                moved,
            };
            let body = Body::wrap_stream(BodyDataStream::new(body));
            let answer = send_request(self, request, Some((length, body)), true).await?;
            receive(split(answer), None, &Bounds::new()).await
        })
    }

    fn open(&self, request: WireRequest) -> BoxFuture<'_, Result<OpenResponse, TransportError>> {
        Box::pin(async move {
            let limit = Limit::of(&request);
            let answer = limit.hold(send_request(self, request, None, false)).await?;
            let (head, body) = split(answer);
            let packed = is_gzip(&head);
            Ok(OpenResponse::new(head, Flow::new(body, packed, IDLE)))
        })
    }

    fn upgrade(&self, request: WireRequest) -> BoxFuture<'_, Result<Upgraded, TransportError>> {
        Box::pin(async move {
            let limit = Limit::of(&request);
            limit
                .hold(async move {
                    let answer = send_request(self, request, None, false).await?;
                    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                        let answer = receive(split(answer), None, &Bounds::new()).await?;
                        return Ok(Upgraded::Answered(answer));
                    }
                    let head = head_of(&answer);
                    let stream = answer.upgrade().await.map_err(explain)?;
                    Ok(Upgraded::Switched(head, Box::new(stream)))
                })
                .await
        })
    }
}

/// The time limit of a request.
struct Limit(Option<super::TimeLimit>);

impl Limit {
    fn of(request: &WireRequest) -> Self {
        Self(request.limit)
    }

    async fn hold<T>(
        self,
        exchange: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        let Some(limit) = self.0 else {
            return exchange.await;
        };
        match tokio::time::timeout_at(limit.at.into(), exchange).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::timed_out(limit.duration)),
        }
    }
}

/// Sends a request and waits for the head of the answer.
async fn send_request(
    client: &Client,
    request: WireRequest,
    stream: Option<(u64, Body)>,
    gzip: bool,
) -> Result<reqwest::Response, TransportError> {
    let method = http::Method::from_bytes(request.method.as_str().as_bytes())
        .map_err(|_| TransportError::never_sent("the verb is invalid"))?;
    let mut builder = client
        .request(method, format!("{}{}", request.origin, request.path))
        .version(Version::HTTP_11);
    for (name, value) in &request.headers {
        let mut value = http::HeaderValue::from_str(value).map_err(|_| {
            TransportError::never_sent(format!("the header {name} has an invalid value"))
        })?;
        value.set_sensitive(true);
        builder = builder.header(name, value);
    }
    if gzip {
        builder = builder.header(http::header::ACCEPT_ENCODING, "gzip");
    }
    builder = match stream {
        Some((length, body)) => builder
            .header(http::header::CONTENT_LENGTH, length)
            .body(body),
        None if request.body.is_empty() && request.method == Method::Get => builder,
        None => builder.body(request.body),
    };
    builder.send().await.map_err(explain)
}

fn head_of(answer: &reqwest::Response) -> WireResponse {
    let reason = answer
        .extensions()
        .get::<ReasonPhrase>()
        .map(|phrase| Bytes::copy_from_slice(phrase.as_bytes()))
        .or_else(|| {
            let known = answer.status().canonical_reason()?;
            Some(Bytes::from_static(known.as_bytes()))
        });
    head(
        answer.status(),
        answer.headers(),
        reason.unwrap_or_default(),
    )
}

fn split(answer: reqwest::Response) -> (WireResponse, Body) {
    let head = head_of(&answer);
    (head, http::Response::from(answer).into_body())
}

fn explain(error: reqwest::Error) -> TransportError {
    // The address may hold parameters.
    let error = error.without_url();
    let text = root_cause(&error);
    let unwritten = causes(&error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_canceled);
    if let Some(exceeded) = causes(&error).find_map(|cause| cause.downcast_ref::<Exceeded>()) {
        return TransportError::too_much(*exceeded);
    }
    match error.is_connect() || error.is_builder() || unwritten {
        true => TransportError::never_sent(text),
        false => TransportError::interrupted(text),
    }
}
