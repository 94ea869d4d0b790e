//! `/v1/events/ws` and `/v1/events`: what happens, as it happens.

use std::sync::Arc;
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
use proxmox_api::Client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::app::App;
use crate::caller::Caller;
use crate::events::{Filter, Hub, Lost, Told};
use crate::pages::Query;
use crate::permissions::Permissions;
use crate::refusal::Refusal;

const PING: Duration = Duration::from_secs(30);
/// A listener that was not heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(90);
/// A listener that does not take a message within this time is dropped.
const SLOW: Duration = Duration::from_secs(10);
/// How often the cluster is asked what a listener may see.
const ASK: Duration = Duration::from_secs(60);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Somebody who listens.
struct Listener {
    hub: Hub,
    seq: i64,
    filter: Filter,
    client: Client,
    user: String,
    permissions: Permissions,
    asked: Instant,
    /// One of the places that there are.
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn of(app: &App, headers: &HeaderMap, query: &str) -> Result<Self, Refusal> {
        let caller = Caller::required(headers)?;
        if caller.has_ticket() && !is_same_site(headers) {
            let text = "a page of another site must not listen";
            return Err(Refusal::new(StatusCode::FORBIDDEN, text));
        }
        if !app.watches {
            let text = "the gateway has no API token to watch the cluster with";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        let query = Query::parse(query);
        let filter = Filter::read(query.get("types"), query.get("vmids"), query.get("nodes"))?;
        let last = headers
            .get(LAST_EVENT_ID)
            .and_then(|value| value.to_str().ok());
        let seq = match query.get("cursor").or(last) {
            None => app.hub.newest(),
            Some(cursor) => {
                let wrong = |_| Refusal::parameters([("cursor", "is none of this gateway")]);
                let seq: i64 = cursor.parse().map_err(wrong)?;
                app.hub.check(seq).await.map_err(|lost| match lost {
                    Lost::TooOld => Refusal::new(
                        StatusCode::GONE,
                        "the events after this cursor are not kept any more; begin anew without one",
                    ),
                    Lost::Store(error) => error.into(),
                })?;
                seq
            }
        };
        let client = app.cluster.client(&caller)?;
        let permissions = Permissions::fetch(&client, None).await?;
        let place = Arc::clone(&app.listeners)
            .try_acquire_owned()
            .map_err(|_| {
                let refusal =
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many are listening");
                refusal.retry_after(Duration::from_secs(30))
            })?;
        Ok(Self {
            hub: app.hub.clone(),
            seq,
            filter,
            client,
            user: caller.claims(),
            permissions,
            asked: Instant::now(),
            _place: place,
        })
    }

    /// What this one is told next; waits until there is something.
    async fn next(&mut self) -> Result<Vec<Arc<Told>>, String> {
        loop {
            self.hub.wait_after(self.seq).await;
            let some = self.hub.after(self.seq).await.map_err(|lost| match lost {
                Lost::TooOld => "too slow: the events that follow are not kept any more".to_owned(),
                Lost::Store(error) => error.to_string(),
            })?;
            if self.asked.elapsed() > ASK {
                let permissions = Permissions::fetch(&self.client, None).await;
                self.permissions = permissions.map_err(|error| match error.api() {
                    Some(refusal) if refusal.status() == 401 => {
                        "the credentials are not valid any more".to_owned()
                    }
                    _ => "the cluster does not tell what may be seen".to_owned(),
                })?;
                self.asked = Instant::now();
            }
            // Nothing is waited for from here on, so nothing is lost when the caller stops waiting.
            if let Some(last) = some.last() {
                self.seq = last.seq;
            }
            let (filter, user, permissions) = (&self.filter, &self.user, &self.permissions);
            let wanted = some
                .into_iter()
                .filter(|told| filter.wants(told) && told.subject.is_visible(user, permissions));
            let wanted: Vec<_> = wanted.collect();
            if !wanted.is_empty() {
                return Ok(wanted);
            }
        }
    }
}

/// Whether a browser sends this from a page of the gateway itself; other programs do not say where they are.
fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(&header::ORIGIN) {
        None => !headers.contains_key(header::ORIGIN),
        Some(origin) => origin.split_once("://").map(|(_, host)| host) == text(&header::HOST),
    }
}

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
    tracing::info!(user = listener.user, reason, "a listener was dropped");
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
