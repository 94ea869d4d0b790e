//! `/v1/events/ws` and `/v1/events`: streams of events.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, SplitSink};
use futures_util::{SinkExt, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};

use crate::app::App;
use crate::connections::Slot;
use crate::listener::Listener;
use crate::refusal::Refusal;

const PING: Duration = Duration::from_secs(30);
/// A listener that sends nothing for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(90);
/// A listener that does not read a message within this time is disconnected.
const SLOW: Duration = Duration::from_secs(10);
/// Maximum size of a message; clients have little to send.
const MAX_MESSAGE_BYTES: usize = 4_096;
/// Maximum bytes of the reason in a close frame.
const REASON: usize = 123;

/// The constant for the answer to a WebSocket key (RFC 6455).
fn accepted(key: &[u8]) -> String {
    let mut digest = Sha1::new();
    digest.update(key);
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.finalize())
}

/// Sends events over a WebSocket.
pub(super) async fn socket(
    State(app): State<App>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let is = |name: HeaderName, expected: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let key = key.filter(|_| {
        *request.method() == Method::GET
            && is(header::UPGRADE, "websocket")
            && is(header::SEC_WEBSOCKET_VERSION, "13")
    });
    let Some(key) = key else {
        let text = "this endpoint needs a WebSocket; /v1/events sends the same events without one";
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, text));
    };
    let (headers, query) = (headers.clone(), request.uri().query().unwrap_or_default());
    let query = query.to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    let slot = request.extensions().get::<Slot>().cloned();
    drop(request);
    let listener = Listener::start(&app, &headers, &query).await?;
    let stopping = app.stopping();
    tokio::spawn(async move {
        let _slot = slot;
        let Ok(upgraded) = upgrade.await else { return };
        let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE_BYTES));
        let socket = ServerBuilder::new().limits(limits);
        let socket = socket.serve(TokioIo::new(upgraded));
        send_events(listener, socket, stopping).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(accepted(key.as_bytes()));
    let accept = accept.map_err(|_| Refusal::bad_request("the WebSocket key is invalid"))?;
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

async fn send_events<S: AsyncRead + AsyncWrite + Unpin>(
    mut listener: Listener,
    socket: WebSocketStream<S>,
    stopping: impl Future<Output = ()>,
) {
    let (mut sink, mut stream) = socket.split();
    let mut stopping = std::pin::pin!(stopping);
    let mut ping = tokio::time::interval(PING);
    ping.reset();
    let mut last_message = Instant::now();
    let (code, reason) = loop {
        tokio::select! {
            events = listener.next() => match events {
                Ok(events) => {
                    let texts = events.iter().map(|event| Message::text(event.text.clone()));
                    if let Err(reason) = send(&mut sink, texts).await {
                        break (CloseCode::SERVICE_OVERLOAD, reason);
                    }
                }
                Err(reason) => break (CloseCode::POLICY_VIOLATION, reason),
            },
            message = stream.next() => match message {
                Some(Ok(message)) if !message.is_close() => last_message = Instant::now(),
                _ => return,
            },
            _ = ping.tick() => {
                if last_message.elapsed() > SILENCE {
                    let reason = "no message within the time limit".to_owned();
                    break (CloseCode::POLICY_VIOLATION, reason);
                }
                let ping = std::iter::once(Message::ping(Bytes::new()));
                if let Err(reason) = send(&mut sink, ping).await {
                    break (CloseCode::SERVICE_OVERLOAD, reason);
                }
            }
            () = &mut stopping => break (CloseCode::GOING_AWAY, "the gateway is shutting down".to_owned()),
        }
    };
    tracing::info!(user = listener.user(), reason, "a listener was dropped");
    let fits = |at: usize| reason.is_char_boundary(at);
    let end = (0..=reason.len().min(REASON)).rev().find(|at| fits(*at));
    let close = Message::close(Some(code), &reason[..end.unwrap_or(0)]);
    let _ = tokio::time::timeout(SLOW, sink.send(close)).await;
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    messages: impl Iterator<Item = Message>,
) -> Result<(), String> {
    let all = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    match tokio::time::timeout(SLOW, all).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("too slow".to_owned()),
    }
}

/// Sends events as server-sent events.
pub(super) async fn lines(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    const KEEP_ALIVE: Duration = Duration::from_secs(15);
    let listener = Listener::start(&app, &headers, query.as_deref().unwrap_or_default()).await?;
    let stopping = Box::pin(app.stopping());
    let parts = stream::unfold(Some((listener, stopping)), async |state| {
        let (mut listener, mut stopping) = state?;
        let text = tokio::select! {
            events = listener.next() => match events {
                Ok(events) => {
                    let mut lines = Vec::new();
                    for event in events {
                        let head = format!("id: {}\nevent: {}\ndata: ", event.seq, event.kind);
                        lines.extend_from_slice(head.as_bytes());
                        lines.extend_from_slice(&event.text);
                        lines.extend_from_slice(b"\n\n");
                    }
                    Bytes::from(lines)
                }
                Err(reason) => {
                    let text = format!("event: dropped\ndata: {reason}\n\n");
                    return Some((Ok::<_, std::convert::Infallible>(text.into()), None));
                }
            },
            () = tokio::time::sleep(KEEP_ALIVE) => Bytes::from_static(b": nothing new\n\n"),
            () = &mut stopping => return None,
        };
        Some((Ok(text), Some((listener, stopping))))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
