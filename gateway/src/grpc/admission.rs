//! Common part of all calls: credentials, limits, logs, and conversion of errors.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use http::HeaderMap;
use proxmox_api::error::ErrorKind;
use proxmox_api::manage::guest::{GuestErrorKind, StartedOperation};
use proxmox_api::{Client, Error};
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Request, Status};

use crate::app::App;
use crate::caller::Caller;
use crate::gpve::v1::Operation;
use crate::limits::{Class, Quota};
use crate::memory::Reservation;
use crate::refusal::Refusal;

/// Admits calls.
#[derive(Clone, Debug)]
pub(super) struct Admission(App);

/// An admitted call.
pub(super) struct Call {
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
}

impl Admission {
    pub(super) fn new(app: &App) -> Self {
        Self(app.clone())
    }

    pub(super) fn app(&self) -> &App {
        &self.0
    }

    /// Admits a call with its caller's credentials.
    pub(super) fn enter<T>(
        &self,
        request: &Request<T>,
        name: &str,
        class: Class,
    ) -> Result<Call, Status> {
        let headers = request.metadata().clone().into_headers();
        let peer = origin(&self.0, request.extensions().get(), &headers);
        let caller = Caller::required(&headers).map_err(refused)?;
        let quota = self.0.limits.take(Some(&caller), peer, class);
        if let Some(refusal) = quota.as_ref().and_then(|quota| quota.refusal()) {
            return Err(refused(refusal));
        }
        if let Some(note) = request.extensions().get::<CallNote>() {
            // Fails if the call is logged already.
            let _ = note.0.set(CallDetails {
                name: name.to_owned(),
                class,
                caller: caller.clone(),
                peer,
                quota,
            });
        }
        let client = self.0.cluster.client(&caller).map_err(refused)?;
        Ok(Call { client, headers })
    }
}

/// The address of a call's client.
fn origin(app: &App, connection: Option<&TcpConnectInfo>, headers: &HeaderMap) -> IpAddr {
    let peer = connection.and_then(TcpConnectInfo::remote_addr);
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip().to_canonical());
    app.proxies.origin(peer, headers)
}

/// A body whose bytes stay reserved until the whole message is read.
fn reserved(body: Body, mut reservation: Reservation) -> Body {
    Body::from_stream(body.into_data_stream().map(move |piece| {
        let piece = piece?;
        let grown = reservation.grow(piece.len());
        grown.map_err(|refusal| axum::Error::new(Status::resource_exhausted(refusal.text())))?;
        Ok::<_, axum::Error>(piece)
    }))
}

/// What is logged when a call ends.
#[derive(Clone, Default)]
struct CallNote(Arc<OnceLock<CallDetails>>);

struct CallDetails {
    name: String,
    class: Class,
    caller: Caller,
    peer: IpAddr,
    quota: Option<Quota>,
}

/// Logs the status of calls, and counts credentials that the cluster refused.
pub(super) async fn log_calls(
    State(app): State<App>,
    mut request: HttpRequest,
    next: Next,
) -> Response {
    let started = Instant::now();
    let note = CallNote::default();
    request.extensions_mut().insert(note.clone());
    let peer = origin(&app, request.extensions().get(), request.headers());
    let reservation = app.memory.share(peer).reserve();
    let request = request.map(|body| reserved(body, reservation));
    let response = next.run(request).await;
    let Some(details) = note.0.get() else {
        return response;
    };
    let CallDetails {
        name,
        class,
        caller,
        peer,
        quota,
    } = details;
    // A refusal has the status in its head; a call without one was admitted.
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<i32>().ok());
    let code = Code::from_i32(code.unwrap_or(0));
    match code {
        Code::Unauthenticated => app.limits.reject(caller, *peer),
        // No call succeeds without the cluster.
        Code::Ok => drop(app.limits.accept(caller, *class, *quota)),
        _ => {}
    }
    let user = caller.claims();
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match class {
        Class::Read => {
            tracing::debug!(target: "access", call = name, ?code, user, %peer, milliseconds);
        }
        _ => tracing::info!(target: "audit", call = name, ?code, user, %peer, milliseconds),
    }
    response
}

/// The gRPC status of a refusal by the gateway.
pub(super) fn refused(refusal: Refusal) -> Status {
    let code = match refusal.status().as_u16() {
        400 | 413 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::FailedPrecondition,
        410 => Code::OutOfRange,
        423 => Code::Aborted,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    };
    Status::new(code, refusal.text())
}

fn code(kind: ErrorKind) -> Option<Code> {
    Some(match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::ConfigChanged | ErrorKind::Locked | ErrorKind::LockTimeout => Code::Aborted,
        ErrorKind::UnknownMethod | ErrorKind::NotSupported | ErrorKind::Replaced => {
            Code::Unimplemented
        }
        ErrorKind::NoSpace => Code::ResourceExhausted,
        _ => return None,
    })
}

/// The gRPC status of an error from the cluster.
pub(super) fn failed(error: Error) -> Status {
    let specific_code = match &error {
        Error::Guest(guest) => match guest.reason() {
            GuestErrorKind::NoSuchGuest { .. } => Some(Code::NotFound),
            GuestErrorKind::TimedOut { .. } => Some(Code::DeadlineExceeded),
            GuestErrorKind::NoFreeId { .. } => Some(Code::ResourceExhausted),
            _ => None,
        },
        _ => error.kind().and_then(code),
    };
    let refusal = Refusal::from(error);
    match specific_code {
        Some(code) => Status::new(code, refusal.text()),
        None => refused(refusal),
    }
}

pub(super) fn invalid(field: &str, problem: &str) -> Status {
    Status::invalid_argument(format!("{field} {problem}"))
}

/// Refuses texts that would change the meaning of a path or of a property string.
pub(super) fn plain<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !text.is_empty() && text.chars().all(fits) && !text.starts_with('.') {
        true => Ok(text),
        false => Err(invalid(
            field,
            "must consist of letters, digits, -, _ and .",
        )),
    }
}

/// The operation that was started.
pub(super) fn operation(started: &StartedOperation, vmid: u32) -> Operation {
    Operation {
        name: started.upid().map(ToString::to_string).unwrap_or_default(),
        done: started.task().is_done(),
        vmid,
        ..Operation::default()
    }
}
