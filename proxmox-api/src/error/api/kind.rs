//! What a refusal means.

use std::collections::BTreeMap;

/// What a refusal means to a program.
///
/// Recognised from the status where that is telling and from the server's sentence where it is not
/// (wire protocol §6). The text itself stays available in [`ApiError::message`](super::ApiError::message).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing the call is about is not there.
    NotFound,
    /// A thing of that name or number is there already.
    AlreadyExists,
    /// The guest runs already.
    AlreadyRunning,
    /// The guest does not run.
    NotRunning,
    /// The guest is locked by another operation, such as a backup.
    Locked,
    /// Another operation held a lock for too long. Trying again later helps.
    LockTimeout,
    /// The cluster has no quorum, so nothing can be changed.
    NoQuorum,
    /// The guest agent is not configured or does not answer.
    AgentNotRunning,
    /// The configuration changed since it was read; the `digest` given is out of date.
    ConfigChanged,
    /// A privilege is missing; see [`ApiError::missing_permission`](super::ApiError::missing_permission).
    PermissionDenied,
    /// The endpoint does not accept API tokens.
    NeedsTicket,
    /// No valid ticket or token came with the request. The server does not tell an expired one from a
    /// wrong one.
    Unauthorized,
    /// The ticket this client holds ran out and it has no password to get another.
    TicketExpired,
    /// The CSRF prevention token was missing or wrong.
    InvalidCsrf,
    /// The server knows no such path, or not with this verb. Often it is older than the endpoint.
    UnknownMethod,
    /// One or more parameters were refused; see [`ApiError::errors`](super::ApiError::errors).
    ParameterVerification,
    /// The node named in the path cannot be reached or does not exist. With status 596 and above the work
    /// may go on there.
    NodeUnreachable,
    /// The request is larger than the server reads.
    TooLarge,
    /// Too many requests; see [`ApiError::retry_after`](super::ApiError::retry_after).
    RateLimited,
    /// The server or a proxy before it cannot serve requests at the moment.
    Unavailable,
    /// The server points elsewhere. Redirections are not followed.
    Redirected,
    /// The answer does not come from a Proxmox VE API, for instance a web page.
    NotTheApi,
    /// Anything else; the text says what.
    Other,
}

impl ErrorKind {
    /// The meaning of a sentence of the server, as found in errors and as the end of failed tasks.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let has = |needle: &str| text.contains(needle);
        let ends = text.trim_end_matches(['!', '.', '\n', ' ']);
        let guest = has("vm ") || has("ct ") || has("container ");
        // The order matters: what comes first is the more specific of two that could match.
        if has("no quorum") {
            Self::NoQuorum
        } else if has("no qemu guest agent configured")
            || (has("guest agent") && has("not running"))
        {
            Self::AgentNotRunning
        } else if has("detected modified configuration") || has("file change by other user") {
            Self::ConfigChanged
        } else if has("can't lock file") || has("lock request timeout") || has("acquire lock") {
            Self::LockTimeout
        } else if has("is locked (") {
            Self::Locked
        } else if has("already running") {
            Self::AlreadyRunning
        } else if has("not running") && guest {
            Self::NotRunning
        } else if has("hostname lookup") && has("failed") {
            Self::NodeUnreachable
        } else if has("already exist")
            || has("already defined")
            || (has("snapshot name") && has("already used"))
        {
            Self::AlreadyExists
        } else if has("permission check failed") {
            Self::PermissionDenied
        } else if (has("does not exist")
            || has("no such ")
            || has("unable to find configuration file")
            || (ends.ends_with("not found") && !ends.ends_with("command not found")))
            && !has("no such file or directory")
        {
            Self::NotFound
        } else {
            Self::Other
        }
    }

    pub(super) fn of(status: u16, text: &str, errors: &BTreeMap<String, String>) -> Self {
        match status {
            300..=399 => Self::Redirected,
            400 if !errors.is_empty() || text.starts_with("Parameter verification failed") => {
                Self::of_parameters(errors)
            }
            401 if text.to_ascii_lowercase().contains("csrf") => Self::InvalidCsrf,
            401 => Self::Unauthorized,
            403 if text.contains("not available with API token") => Self::NeedsTicket,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            500 | 501 if text.starts_with("no such file '") || text.starts_with("no such uri") => {
                Self::UnknownMethod
            }
            501 if text.contains("data too large") => Self::TooLarge,
            501 if text.contains("not implemented")
                || text.contains("not available")
                || text.contains("no formatter") =>
            {
                Self::UnknownMethod
            }
            502..=504 => Self::Unavailable,
            595..=599 => Self::NodeUnreachable,
            _ => Self::of_text(text),
        }
    }

    /// A single parameter error can carry what other calls answer as a sentence.
    fn of_parameters(errors: &BTreeMap<String, String>) -> Self {
        let mut texts = errors.values();
        let (Some(text), None) = (texts.next(), texts.next()) else {
            return Self::ParameterVerification;
        };
        match Self::of_text(text) {
            _ if text.starts_with("Only root may") => Self::PermissionDenied,
            _ if text.starts_with("no such task") => Self::NotFound,
            kind @ (Self::AlreadyExists | Self::NotFound) => kind,
            _ => Self::ParameterVerification,
        }
    }
}
