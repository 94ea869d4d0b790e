//! Refusals: one shape, and one table of statuses.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use proxmox_api::Error;
use proxmox_api::error::{ApiError, ErrorKind, GuestErrorKind};
use serde::Serialize;

/// An answer with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    errors: BTreeMap<String, String>,
    retry_after: Option<Duration>,
}

/// The body of a refusal.
#[derive(Serialize)]
struct Body<'a> {
    /// Clients of Proxmox VE expect this member.
    data: (),
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    errors: &'a BTreeMap<String, String>,
    message: &'a str,
    status: u16,
}

impl Refusal {
    /// A refusal with a text.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: BTreeMap::new(),
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication failure")
    }

    /// Invalid parameters, each with a reason.
    pub(crate) fn parameters<K: Into<String>, V: Into<String>>(
        errors: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut refusal = Self::bad_request("Parameter verification failed.");
        let pairs = errors.into_iter();
        refusal.errors = pairs
            .map(|(name, text)| (name.into(), text.into()))
            .collect();
        refusal
    }

    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The message, and the errors of parameters.
    pub(crate) fn text(&self) -> String {
        let errors = self
            .errors
            .iter()
            .map(|(name, text)| format!("; {name}: {text}"));
        format!("{}{}", self.message, errors.collect::<String>())
    }

    /// The body as it is sent.
    pub(crate) fn to_json(&self) -> String {
        let body = Body {
            data: (),
            errors: &self.errors,
            message: &self.message,
            status: self.status.as_u16(),
        };
        // A map of strings: it cannot fail.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.message)
    }
}

impl std::error::Error for Refusal {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.to_json().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json;charset=UTF-8"),
        );
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
        }
        response
    }
}

/// The status for this kind of refusal, or the cluster's own where no other is more specific.
pub(crate) fn status_of(kind: ErrorKind, cluster_status: u16) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists
        | ErrorKind::AlreadyRunning
        | ErrorKind::NotRunning
        | ErrorKind::Running
        | ErrorKind::NoChange
        | ErrorKind::InUse
        | ErrorKind::Protected
        | ErrorKind::PendingChanges
        | ErrorKind::ConfigChanged
        | ErrorKind::AgentNotRunning => StatusCode::CONFLICT,
        ErrorKind::Locked | ErrorKind::LockTimeout => StatusCode::LOCKED,
        ErrorKind::PermissionDenied | ErrorKind::RootOnly | ErrorKind::NeedsTicket => {
            StatusCode::FORBIDDEN
        }
        ErrorKind::Unauthorized | ErrorKind::TicketExpired | ErrorKind::InvalidCsrf => {
            StatusCode::UNAUTHORIZED
        }
        ErrorKind::ParameterVerification | ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::NoQuorum | ErrorKind::Unavailable | ErrorKind::StorageUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::NodeUnreachable | ErrorKind::NotTheApi | ErrorKind::Redirected => {
            StatusCode::BAD_GATEWAY
        }
        ErrorKind::Timeout | ErrorKind::AgentTimeout | ErrorKind::MonitorTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => match cluster_status {
            // Statuses above 594 are used only between nodes of a cluster.
            595..=599 => StatusCode::BAD_GATEWAY,
            400..=599 => {
                StatusCode::from_u16(cluster_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

impl From<&ApiError> for Refusal {
    fn from(error: &ApiError) -> Self {
        Self {
            status: status_of(error.kind(), error.status()),
            message: error.message().to_owned(),
            errors: error.errors().clone(),
            retry_after: error.retry_after(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if let Some(api) = error.api() {
            return api.into();
        }
        if let Some(kind) = error.kind() {
            return Self::new(status_of(kind, 500), error.to_string());
        }
        let status = match &error {
            Error::Connect(_) | Error::Interrupted(_) | Error::Exceeded(_) | Error::Decode(_) => {
                StatusCode::BAD_GATEWAY
            }
            Error::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Error::Auth(_) => StatusCode::UNAUTHORIZED,
            Error::Request(_) | Error::Upid(_) => StatusCode::BAD_REQUEST,
            Error::Guest(guest) => match guest.reason() {
                GuestErrorKind::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
                GuestErrorKind::InvalidInput { .. } | GuestErrorKind::NoSuchSetting { .. } => {
                    StatusCode::BAD_REQUEST
                }
                GuestErrorKind::Agent { .. } | GuestErrorKind::AgentRefused { .. } => {
                    StatusCode::BAD_GATEWAY
                }
                _ => StatusCode::CONFLICT,
            },
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}
