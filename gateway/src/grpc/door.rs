//! What every call passes: credentials, limits, logs; and what errors become.

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
use crate::limits::{Class, Standing};
use crate::refusal::Refusal;
use crate::room::Hold;

/// The way in.
#[derive(Clone, Debug)]
pub(super) struct Door(App);

/// A call that was let in.
pub(super) struct Call {
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
}

impl Door {
    pub(super) fn new(app: &App) -> Self {
        Self(app.clone())
    }

    pub(super) fn app(&self) -> &App {
        &self.0
    }

    /// Lets a call in with its caller's credentials.
    pub(super) fn enter<T>(
        &self,
        request: &Request<T>,
        name: &str,
        class: Class,
    ) -> Result<Call, Status> {
        let headers = request.metadata().clone().into_headers();
        let peer = origin(&self.0, request.extensions().get(), &headers);
        let caller = Caller::required(&headers).map_err(refused)?;
        let standing = self.0.limits.take(Some(&caller), peer, class);
        if let Some(refusal) = standing.as_ref().and_then(|standing| standing.refusal()) {
            return Err(refused(refusal));
        }
        if let Some(note) = request.extensions().get::<Note>() {
            // Fails where it is noted already.
            let _ = note.0.set(Noted {
                name: name.to_owned(),
                class,
                caller: caller.clone(),
                peer,
                standing,
            });
        }
        let client = self.0.cluster.client(&caller).map_err(refused)?;
        Ok(Call { client, headers })
    }
}

/// Where a call comes from.
fn origin(app: &App, connection: Option<&TcpConnectInfo>, headers: &HeaderMap) -> IpAddr {
    let peer = connection.and_then(TcpConnectInfo::remote_addr);
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip().to_canonical());
    app.proxies.origin(peer, headers)
}

/// A body whose bytes are held, until the whole message is read.
fn held(body: Body, mut hold: Hold) -> Body {
    Body::from_stream(body.into_data_stream().map(move |piece| {
        let piece = piece?;
        let room = hold.grow(piece.len());
        room.map_err(|refusal| axum::Error::new(Status::resource_exhausted(refusal.text())))?;
        Ok::<_, axum::Error>(piece)
    }))
}

/// What is to be said of a call once it is over.
#[derive(Clone, Default)]
struct Note(Arc<OnceLock<Noted>>);

struct Noted {
    name: String,
    class: Class,
    caller: Caller,
    peer: IpAddr,
    standing: Option<Standing>,
}

/// Logs calls with how they were answered, and counts credentials that the cluster refused.
pub(super) async fn note(State(app): State<App>, mut request: HttpRequest, next: Next) -> Response {
    let began = Instant::now();
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let peer = origin(&app, request.extensions().get(), request.headers());
    let hold = app.room.share(peer).hold();
    let request = request.map(|body| held(body, hold));
    let response = next.run(request).await;
    let Some(noted) = note.0.get() else {
        return response;
    };
    let Noted {
        name,
        class,
        caller,
        peer,
        standing,
    } = noted;
    // A refusal has it in its head; what comes without was let in.
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<i32>().ok());
    let code = Code::from_i32(code.unwrap_or(0));
    match code {
        Code::Unauthenticated => app.limits.disbelieve(caller, *peer),
        // No call succeeds without the cluster.
        Code::Ok => drop(app.limits.believe(caller, *class, *standing)),
        _ => {}
    }
    let user = caller.claims();
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match class {
        Class::Read => {
            tracing::debug!(target: "access", call = name, ?code, user, %peer, milliseconds);
        }
        _ => tracing::info!(target: "audit", call = name, ?code, user, %peer, milliseconds),
    }
    response
}

/// What a refusal of the gateway becomes.
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

/// What an error of a call to the cluster becomes.
pub(super) fn failed(error: Error) -> Status {
    let own = match &error {
        Error::Guest(guest) => match guest.reason() {
            GuestErrorKind::NoSuchGuest { .. } => Some(Code::NotFound),
            GuestErrorKind::TimedOut { .. } => Some(Code::DeadlineExceeded),
            GuestErrorKind::NoFreeId { .. } => Some(Code::ResourceExhausted),
            _ => None,
        },
        _ => error.kind().and_then(code),
    };
    let refusal = Refusal::from(error);
    match own {
        Some(code) => Status::new(code, refusal.text()),
        None => refused(refusal),
    }
}

pub(super) fn invalid(field: &str, problem: &str) -> Status {
    Status::invalid_argument(format!("{field} {problem}"))
}

/// Refuses what would mean something else in a path or in a setting with several keys.
pub(super) fn plain<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !text.is_empty() && text.chars().all(fits) && !text.starts_with('.') {
        true => Ok(text),
        false => Err(invalid(
            field,
            "has to be a name of letters, digits, -, _ and .",
        )),
    }
}

/// What was begun.
pub(super) fn operation(started: &StartedOperation, vmid: u32) -> Operation {
    Operation {
        name: started.upid().map(ToString::to_string).unwrap_or_default(),
        done: started.task().is_done(),
        vmid,
        ..Operation::default()
    }
}
