//! All errors, grouped by what a program can do about them.
//!
//! The first question after a failed call is whether the server may have acted on it. The variants
//! therefore separate "never sent" ([`Error::Connect`], [`Error::Request`], [`Error::Config`],
//! [`Error::Auth`]) from "may have been processed" ([`Error::Interrupted`], [`Error::Timeout`]) and
//! from a refusal by the server ([`Error::Api`]). Operations of more than one call end in
//! [`Error::Task`] or, for guests, in `Error::Guest`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bounds::Exceeded;
use crate::tls::{Fingerprint, TlsError};
use crate::transport::{ProxyError, TransportError};
use crate::value::decode::DecodeError;
use crate::value::endpoint::{Release, exists};
use crate::value::product::{PVE, Product};
use crate::value::upid::UpidError;

pub(crate) mod api;
pub(crate) mod auth;
mod call_id;
#[cfg(feature = "guests")]
pub(crate) mod delivery;
#[cfg(feature = "guests")]
pub(crate) mod guest;
mod local;
mod repetition;
pub(crate) mod task;
#[cfg(feature = "guests")]
pub(crate) mod work;

pub use api::{ApiError, ErrorKind, MissingPermission};
use auth::AuthError;
pub(crate) use call_id::CallId;
#[cfg(feature = "guests")]
pub use delivery::DeliveryError;
#[cfg(feature = "guests")]
pub use guest::{GuestError, GuestErrorKind};
use local::LocalParts;
pub use local::{ConfigError, DetachedError, LocalError};
pub(crate) use repetition::Failure;
use task::TaskError;
#[cfg(feature = "guests")]
pub use work::{UnfinishedError, WorkError};

/// The error of every call in this crate.
///
/// Its text is one line that names the endpoint and includes the texts of its causes.
/// [`std::error::Error::source`] returns the causes as values. The text never holds a password,
/// ticket or token secret. `#17` in it is [`Error::request_id`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered and refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No connection was made, so the request was never sent.
    #[error(transparent)]
    Connect(ConnectError),
    /// The connection broke after the request went out; the server may have acted on it.
    #[error(transparent)]
    Interrupted(InterruptedError),
    /// No complete answer within the time limit; the server may still act on the request.
    #[error(transparent)]
    Timeout(TimeoutError),
    /// The answer exceeds a limit of the client; the server has acted on the request. Or a local
    /// file exceeds a limit when it is unpacked.
    #[error(transparent)]
    Exceeded(ExceededError),
    /// The server accepted the request, but its answer does not match the endpoint's type.
    #[error(transparent)]
    Decode(DecodeFailure),
    /// The login failed, so the request was never sent.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A task failed, or waiting for it ended early.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The request is invalid and was not sent.
    #[error(transparent)]
    Request(RequestError),
    /// The settings of the client are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A [`Script`](crate::testing::Script), which replaces a server in tests, does not expect the
    /// request.
    #[error(transparent)]
    Unscripted(UnscriptedError),
    /// A request without a client was awaited.
    #[error(transparent)]
    Detached(DetachedError),
    /// Reading local data to send, or writing received data, failed.
    #[error(transparent)]
    Local(LocalError),
    /// A text is not the identifier of a task.
    #[error(transparent)]
    Upid(#[from] UpidError),
    /// An operation on a guest failed, for a reason that no single call reports.
    #[cfg(feature = "guests")]
    #[error(transparent)]
    Guest(GuestError),
    /// The wanted state cannot be reached, for a reason that no single call reports.
    #[cfg(feature = "guests")]
    #[error(transparent)]
    Work(#[from] WorkError),
    /// Work of several steps failed and left something behind.
    #[cfg(feature = "guests")]
    #[error(transparent)]
    Unfinished(UnfinishedError),
    /// An event could not be delivered to a webhook.
    #[cfg(feature = "guests")]
    #[error(transparent)]
    Delivery(DeliveryError),
}

impl From<TlsError> for Error {
    fn from(cause: TlsError) -> Self {
        ConfigError::caused(cause).into()
    }
}

impl From<ProxyError> for Error {
    fn from(cause: ProxyError) -> Self {
        ConfigError::caused(cause).into()
    }
}

#[cfg(feature = "guests")]
impl From<GuestErrorKind> for Error {
    fn from(reason: GuestErrorKind) -> Self {
        Self::Guest(GuestError::new(reason))
    }
}

impl Error {
    /// The error for an answer that exceeds a limit.
    pub(crate) fn exceeded(name: &CallId, exceeded: Exceeded) -> Self {
        let name = name.clone();
        Self::Exceeded(ExceededError(Box::new((name, exceeded))))
    }

    /// The error for an answer that did not decode.
    pub(crate) fn decode(name: CallId, cause: DecodeError) -> Self {
        Self::Decode(DecodeFailure(Box::new(DecodeParts { name, cause })))
    }

    /// The error for a request without a client.
    pub(crate) fn detached(name: CallId) -> Self {
        let endpoint = name.endpoint().to_owned();
        Self::Detached(DetachedError { endpoint })
    }

    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self::Config(ConfigError::new(text.into()))
    }

    pub(crate) fn request(name: &CallId, kind: RequestErrorKind) -> Self {
        let name = name.clone();
        Self::Request(RequestError(Box::new(RequestParts { name, kind })))
    }

    pub(crate) fn local(name: &CallId, what: &'static str, cause: std::io::Error) -> Self {
        Self::Local(LocalError(Box::new(LocalParts {
            name: name.clone(),
            what,
            cause: Arc::new(cause),
        })))
    }

    /// Adds to a failed login the call that needed it.
    pub(crate) fn for_call(self, call: &CallId) -> Self {
        match self {
            Self::Auth(error) => Self::Auth(error.for_call(call)),
            other => other,
        }
    }

    /// Classifies a transport error by whether the request may have arrived.
    pub(crate) fn transport(name: &CallId, origin: &str, cause: TransportError) -> Self {
        if cause.is_unscripted() {
            let name = name.clone();
            let text = cause.text().to_owned();
            return Self::Unscripted(UnscriptedError(Box::new((name, text))));
        }
        if cause.is_never_sent() {
            return Self::connect(name, origin.to_owned(), cause, Vec::new());
        }
        if let Some(exceeded) = cause.exceeded() {
            return Self::exceeded(name, exceeded);
        }
        let name = name.clone();
        let origin = origin.to_owned();
        if let Some(after) = cause.timed_out_after() {
            Self::Timeout(TimeoutError(Box::new(TimeoutParts {
                name,
                origin,
                after,
                waiting_for: WaitingFor::Answer,
            })))
        } else {
            let text = cause.text().to_owned();
            Self::Interrupted(InterruptedError(Box::new(InterruptedParts {
                name,
                origin,
                text,
            })))
        }
    }

    /// The error for a call whose deadline passed before it was sent.
    pub(crate) fn late(name: &CallId, after: Duration, waiting_for: WaitingFor) -> Self {
        Self::Timeout(TimeoutError(Box::new(TimeoutParts {
            name: name.clone(),
            origin: String::new(),
            after,
            waiting_for,
        })))
    }

    /// The error for several hosts without a connection; the causes are in the order of the
    /// attempts.
    pub(crate) fn connect(
        name: &CallId,
        origin: String,
        cause: TransportError,
        others: Vec<(String, TransportError)>,
    ) -> Self {
        let name = name.clone();
        let parts = ConnectParts {
            name,
            origin,
            cause,
            others,
        };
        Self::Connect(ConnectError(Box::new(parts)))
    }

    /// The meaning of the server's refusal, or of a failed task's text. `None` for errors that do
    /// not come from the API.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Api(error) => Some(error.kind()),
            Self::Auth(error) => error.kind(),
            Self::Task(error) => error.kind(),
            #[cfg(feature = "guests")]
            Self::Guest(error) => error.kind(),
            #[cfg(feature = "guests")]
            Self::Unfinished(error) => error.cause().kind(),
            _ => None,
        }
    }

    /// The refusal itself, when the server gave one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            Self::Auth(error) => error.api(),
            Self::Task(error) => error.cause().and_then(Self::api),
            #[cfg(feature = "guests")]
            Self::Unfinished(error) => error.cause().api(),
            _ => None,
        }
    }

    /// The call that failed, as `POST /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Detached(error) => Some(&error.endpoint),
            Self::Task(_) => None,
            #[cfg(feature = "guests")]
            Self::Unfinished(error) => error.cause().endpoint(),
            other => other.name().map(CallId::endpoint),
        }
    }

    /// The number of the client's request, counted from 1: the `request` of its span, and the
    /// number after `#` in the error's text. `None` for errors without a request.
    ///
    /// All attempts of one call have one number; a login within it has its own. For a refused login
    /// or a failed task it is the number of the request that reported it, if there was one.
    #[must_use]
    pub fn request_id(&self) -> Option<u64> {
        self.name().and_then(CallId::number)
    }

    fn name(&self) -> Option<&CallId> {
        match self {
            Self::Api(error) => Some(error.name()),
            Self::Connect(error) => Some(&error.0.name),
            Self::Interrupted(error) => Some(&error.0.name),
            Self::Timeout(error) => Some(&error.0.name),
            Self::Exceeded(error) => Some(&error.0.0),
            Self::Unscripted(error) => Some(&error.0.0),
            Self::Decode(error) => Some(&error.0.name),
            Self::Request(error) => Some(&error.0.name),
            Self::Local(error) => Some(&error.0.name),
            Self::Auth(error) => error.name(),
            Self::Task(error) => error.cause().and_then(Self::name),
            Self::Config(_) | Self::Detached(_) | Self::Upid(_) => None,
            #[cfg(feature = "guests")]
            Self::Guest(_) | Self::Delivery(_) | Self::Work(_) => None,
            #[cfg(feature = "guests")]
            Self::Unfinished(error) => error.cause().name(),
        }
    }

    /// Whether the request certainly never reached the server.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        match self {
            #[cfg(feature = "guests")]
            Self::Guest(error) => error.never_sent(),
            #[cfg(feature = "guests")]
            Self::Work(_) => true,
            Self::Connect(_)
            | Self::Auth(_)
            | Self::Request(_)
            | Self::Config(_)
            | Self::Detached(_)
            | Self::Unscripted(_)
            | Self::Upid(_) => true,
            Self::Timeout(error) => error.never_sent(),
            _ => false,
        }
    }

    /// Whether the same request may succeed later and is safe to repeat: the cause is temporary,
    /// and either the server did not act on the request or the request only reads.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let failure = match self {
            Self::Connect(error) => Failure::of(&error.0.cause),
            Self::Timeout(error) if error.never_sent() => Failure::NeverSent,
            Self::Interrupted(_) | Self::Timeout(_) => Failure::Lost,
            Self::Api(error) => match error.kind() {
                ErrorKind::LockTimeout => Failure::LockTaken,
                // The operation may have been carried out.
                ErrorKind::AgentTimeout | ErrorKind::MonitorTimeout => Failure::Lost,
                ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::NodeUnreachable => {
                    Failure::Refused(error.status())
                }
                _ => return false,
            },
            _ => return false,
        };
        let repeatable = self.name().is_some_and(CallId::is_repeatable);
        failure.repetition(repeatable).by_the_program
    }
}

/// No connection: the name did not resolve, the port is closed, the certificate is not trusted, or
/// the TLS handshake failed. See [`Error::Connect`].
#[derive(Clone, Debug)]
pub struct ConnectError(Box<ConnectParts>);

#[derive(Clone, Debug)]
struct ConnectParts {
    name: CallId,
    origin: String,
    cause: TransportError,
    others: Vec<(String, TransportError)>,
}

impl ConnectError {
    /// The call, as `GET /version`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The server, as `https://pve1:8006`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The cause as text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.cause.text()
    }

    /// The other hosts of the client that were tried, each with the cause as text.
    pub fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        (self.0.others.iter()).map(|(origin, cause)| (origin.as_str(), cause.text()))
    }

    /// The certificates that were expected, if the server showed another: the pinned ones, or the
    /// one that the server showed first.
    #[must_use]
    pub fn expected_certificates(&self) -> &[Fingerprint] {
        self.0.cause.expected_certificates()
    }

    /// The certificate that the server showed, if it was not trusted. After comparing it with the
    /// server's own, pass it to [`ClientBuilder::fingerprint`](crate::ClientBuilder::fingerprint).
    #[must_use]
    pub fn server_certificate(&self) -> Option<Fingerprint> {
        self.0.cause.server_certificate()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectParts {
            name,
            origin,
            cause,
            others,
        } = &*self.0;
        write!(f, "{name}: cannot connect to {origin}: {}", cause.text())?;
        for (origin, cause) in others {
            write!(f, "; nor to {origin}: {}", cause.text())?;
        }
        if self.server_certificate().is_some() || !others.is_empty() {
            return Ok(());
        }
        let refused = cause
            .text()
            .to_ascii_lowercase()
            .contains("connection refused");
        let Product {
            name,
            port,
            service,
            ..
        } = PVE;
        let usual = origin.ends_with(&format!(":{port}"));
        match (origin.ends_with(":443"), usual) {
            (true, _) => write!(f, " ({name} itself listens on port {port})"),
            (_, true) if refused => write!(f, " (is the service {service} running there?)"),
            (_, false) if refused => {
                write!(
                    f,
                    " (is that the right port? {name} itself listens on {port})"
                )
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
    }
}

/// A request that a script for tests does not expect. See [`Error::Unscripted`].
#[derive(Clone, Debug)]
pub struct UnscriptedError(Box<(CallId, String)>);

impl UnscriptedError {
    /// The call, as `GET /version`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.0.endpoint()
    }
}

impl fmt::Display for UnscriptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, text) = &*self.0;
        write!(f, "{name}: {text}")
    }
}

impl std::error::Error for UnscriptedError {}

/// The connection broke before the answer was complete. See [`Error::Interrupted`].
#[derive(Clone, Debug)]
pub struct InterruptedError(Box<InterruptedParts>);

#[derive(Clone, Debug)]
struct InterruptedParts {
    name: CallId,
    origin: String,
    text: String,
}

impl InterruptedError {
    /// The call, as `POST /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The cause as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Display for InterruptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InterruptedParts { name, origin, text } = &*self.0;
        write!(
            f,
            "{name}: no usable answer from {origin}, which may have processed the request: {text}"
        )
    }
}

impl std::error::Error for InterruptedError {}

/// No complete answer in time. See [`Error::Timeout`].
#[derive(Clone, Debug)]
pub struct TimeoutError(Box<TimeoutParts>);

#[derive(Clone, Debug)]
struct TimeoutParts {
    name: CallId,
    origin: String,
    after: Duration,
    waiting_for: WaitingFor,
}

/// The phase in which the time limit of a call was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitingFor {
    /// The answer. The server may still act on the request.
    Answer,
    /// The client's own limits: too many other requests were before it. The call was not sent.
    Limits,
    /// A pause that the server asked for, which is longer than the remaining time. The call was not
    /// sent, and ended at once.
    ServerPause(Duration),
    /// The login, which continues. The call was not sent.
    Login,
    /// The server's release, for
    /// [`ClientBuilder::check_availability`](crate::ClientBuilder::check_availability). The call
    /// was not sent.
    Release,
}

impl TimeoutError {
    /// The call, as `POST /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The limit that was exceeded.
    #[must_use]
    pub fn after(&self) -> Duration {
        self.0.after
    }

    /// The phase that took too long.
    #[must_use]
    pub fn waiting_for(&self) -> WaitingFor {
        self.0.waiting_for
    }

    fn never_sent(&self) -> bool {
        self.0.waiting_for != WaitingFor::Answer
    }
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TimeoutParts {
            name,
            origin,
            after,
            waiting_for,
        } = &*self.0;
        match waiting_for {
            WaitingFor::Answer => {
                write!(f, "{name}: no answer from {origin} within {after:?}")?;
                match name.only_reads() {
                    true => Ok(()),
                    false => f.write_str("; it may still process the request"),
                }
            }
            WaitingFor::Limits => write!(
                f,
                "{name}: not sent within {after:?}: it waited in this client's queue behind other requests"
            ),
            WaitingFor::ServerPause(pause) => write!(
                f,
                "{name}: not sent: the server asks for a pause of {pause:?}, the time limit is {after:?}"
            ),
            WaitingFor::Login => {
                write!(
                    f,
                    "{name}: not sent within {after:?}: the login takes longer"
                )
            }
            WaitingFor::Release => write!(
                f,
                "{name}: not sent within {after:?}: the server's release is not known yet"
            ),
        }
    }
}

impl std::error::Error for TimeoutError {}

/// An answer that exceeds a limit of the client. See [`Error::Exceeded`].
#[derive(Clone, Debug)]
pub struct ExceededError(Box<(CallId, Exceeded)>);

impl ExceededError {
    /// The call, as `GET /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.0.endpoint()
    }

    /// The limit.
    #[must_use]
    pub fn exceeded(&self) -> Exceeded {
        self.0.1
    }
}

impl fmt::Display for ExceededError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, exceeded) = &*self.0;
        write!(f, "{name}: {exceeded} (a limit of `ClientBuilder::bounds`)")
    }
}

impl std::error::Error for ExceededError {}

/// An accepted request whose answer could not be read. See [`Error::Decode`].
#[derive(Clone, Debug)]
pub struct DecodeFailure(Box<DecodeParts>);

#[derive(Clone, Debug)]
struct DecodeParts {
    name: CallId,
    cause: DecodeError,
}

impl DecodeFailure {
    /// The call, as `GET /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The cause, with the path in the JSON.
    #[must_use]
    pub fn cause(&self) -> &DecodeError {
        &self.0.cause
    }
}

impl fmt::Display for DecodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: cannot read the answer: {}",
            self.0.name, self.0.cause
        )
    }
}

impl std::error::Error for DecodeFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
    }
}

/// A request that was refused before sending. See [`Error::Request`].
#[derive(Clone, Debug)]
pub struct RequestError(Box<RequestParts>);

#[derive(Clone, Debug)]
struct RequestParts {
    name: CallId,
    kind: RequestErrorKind,
}

/// The reason why a request was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The encoded parameters exceed the server's limit ([wire protocol
    /// §2](crate::guide::wire_protocol)).
    BodyTooLarge {
        /// The size of the body in bytes.
        size: usize,
        /// The server's limit in bytes.
        limit: usize,
    },
    /// The endpoint does not accept API tokens and the client uses one.
    NeedsTicket,
    /// The server's release does not have it; see [`Client::check`](crate::Client::check).
    Unavailable {
        /// The missing parameter; `None` for the call as a whole.
        parameter: Option<String>,
        /// The first release that has it; `None` if the oldest tracked one does.
        since: Option<Release>,
        /// The last release that has it; `None` while the newest one does.
        until: Option<Release>,
        /// The server's release.
        server: Release,
    },
    /// A parameter's value would change its meaning on the wire, or no release accepts it.
    Parameter {
        /// Its wire name.
        parameter: String,
        /// The value, or the part of it that is wrong; `None` for a secret.
        value: Option<String>,
        /// The accepted values; completes "the parameter … takes …".
        allowed: String,
    },
    /// An argument of the request cannot be sent.
    Argument {
        /// The problem with it.
        problem: String,
    },
    /// A blocking call was made inside an asynchronous runtime, which it would block.
    InsideRuntime,
    /// The path would name another endpoint: an empty segment, a dot segment, or a character that
    /// is not allowed in a path.
    Path {
        /// The problem with it.
        problem: String,
    },
}

impl RequestError {
    /// The call, as `PUT /access/password`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The reason why it was not sent.
    #[must_use]
    pub fn kind(&self) -> &RequestErrorKind {
        &self.0.kind
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: not sent: ", self.0.name)?;
        match &self.0.kind {
            RequestErrorKind::BodyTooLarge { size, limit } => {
                write!(f, "the parameters take {size} bytes, the server reads {limit}")
            }
            RequestErrorKind::NeedsTicket => f.write_str(
                "this endpoint refuses API tokens; use a client that logs in with a password or ticket",
            ),
            RequestErrorKind::Unavailable {
                parameter,
                since,
                until,
                server,
            } => {
                let exists = exists(parameter.as_deref(), *since, *until);
                write!(f, "{exists}; the server runs {server}")
            }
            RequestErrorKind::Parameter {
                parameter,
                value,
                allowed,
            } => {
                write!(f, "the parameter `{parameter}` takes {allowed}")?;
                match value {
                    Some(value) => write!(f, "; not {value:?}"),
                    None => Ok(()),
                }
            }
            RequestErrorKind::Path { problem } | RequestErrorKind::Argument { problem } => {
                f.write_str(problem)
            }
            RequestErrorKind::InsideRuntime => f.write_str(
                "a blocking call would stall the asynchronous runtime that it runs in; await the request instead",
            ),
        }
    }
}

impl std::error::Error for RequestError {}

#[cfg(all(test, feature = "guests", feature = "tracing"))]
mod secrets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod texts;
