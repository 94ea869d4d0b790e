//! `/v1/events/ws` and `/v1/events`: what happens, as it happens.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, SplitSink};
use futures_util::{SinkExt, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::app::App;
use crate::listener::Listener;
use crate::refusal::Refusal;

const PING: Duration = Duration::from_secs(30);
/// A listener that was not heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(90);
/// A listener that does not take a message within this time is dropped.
const SLOW: Duration = Duration::from_secs(10);
/// Tells events by WebSocket.
pub(super) async fn socket(
    State(app): State<App>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let is = |name: HeaderName, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let key = key.filter(|_| {
        *request.method() == Method::GET
            && is(header::UPGRADE, "websocket")
            && is(header::SEC_WEBSOCKET_VERSION, "13")
    });
    let Some(key) = key else {
        let text = "this is a WebSocket; /v1/events is the same without";
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, text));
    };
    let (headers, query) = (headers.clone(), request.uri().query().unwrap_or_default());
    let query = query.to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let listener = Listener::of(&app, &headers, &query).await?;
    let stopping = app.stopping();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        // Nobody has to say much here.
        let config = WebSocketConfig::default()
            .max_message_size(Some(4_096))
            .max_frame_size(Some(4_096));
        let stream = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        tell(listener, socket, stopping).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| Refusal::bad_request("the key of the WebSocket is wrong"))?;
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

async fn tell<S: AsyncRead + AsyncWrite + Unpin>(
    mut listener: Listener,
    socket: WebSocketStream<S>,
    stopping: impl Future<Output = ()>,
) {
    let (mut sink, mut stream) = socket.split();
    let mut stopping = std::pin::pin!(stopping);
    let mut ping = tokio::time::interval(PING);
    ping.reset();
    let mut heard = Instant::now();
    let (code, reason) = loop {
        tokio::select! {
            some = listener.next() => match some {
                Ok(some) => {
                    let texts = some.iter().map(|told| Message::text(told.text.as_ref()));
                    if let Err(reason) = send(&mut sink, texts).await {
                        break (CloseCode::Again, reason);
                    }
                }
                Err(reason) => break (CloseCode::Policy, reason),
            },
            message = stream.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => heard = Instant::now(),
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    break (CloseCode::Policy, "nothing was heard for too long".to_owned());
                }
                let ping = std::iter::once(Message::Ping(Bytes::new()));
                if let Err(reason) = send(&mut sink, ping).await {
                    break (CloseCode::Again, reason);
                }
            }
            () = &mut stopping => break (CloseCode::Away, "the gateway ends".to_owned()),
        }
    };
    tracing::info!(user = listener.user(), reason, "a listener was dropped");
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let _ = tokio::time::timeout(SLOW, sink.send(Message::Close(Some(frame)))).await;
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

/// Tells events as a text that goes on: server-sent events.
pub(super) async fn lines(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    const KEEP_ALIVE: Duration = Duration::from_secs(15);
    let listener = Listener::of(&app, &headers, query.as_deref().unwrap_or_default()).await?;
    let stopping = Box::pin(app.stopping());
    let parts = stream::unfold(Some((listener, stopping)), async |state| {
        let (mut listener, mut stopping) = state?;
        let text = tokio::select! {
            some = listener.next() => match some {
                Ok(some) => some.iter().map(|told| {
                    format!("id: {}\nevent: {}\ndata: {}\n\n", told.seq, told.kind, told.text)
                }).collect(),
                Err(reason) => {
                    let text = format!("event: dropped\ndata: {reason}\n\n");
                    return Some((Ok::<_, std::convert::Infallible>(text), None));
                }
            },
            () = tokio::time::sleep(KEEP_ALIVE) => ": nothing new\n\n".to_owned(),
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
