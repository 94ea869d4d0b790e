//! Failed logins, and the challenge for a second factor.

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::CallId;
use super::api::{ApiError, ErrorKind};
use crate::value::Secret;
use crate::value::product::PVE;
use crate::value::text::OneLine;

/// A login failed. See [`Error::Auth`](crate::Error::Auth).
#[derive(Clone, Debug)]
pub struct AuthError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    user: String,
    kind: AuthErrorKind,
    /// The call that needed the login.
    call: Option<CallId>,
}

/// The reason why a login failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// The server does not accept user and password, or the answer to a second factor.
    Refused(ApiError),
    /// The account has a second factor, which [`Client::answer_tfa`](crate::Client::answer_tfa) or
    /// the handler given to [`ClientBuilder::tfa`](crate::ClientBuilder::tfa) has to answer.
    SecondFactor(TfaChallenge),
    /// The handler for the second factor returned an error.
    NoAnswer {
        /// The challenge.
        challenge: TfaChallenge,
        /// The handler's error.
        problem: String,
    },
    /// There was no login yet; a client with OpenID starts with
    /// [`Client::openid_url`](crate::Client::openid_url).
    NotYet,
    /// The ticket that the client was given expired, and there is no password to get another.
    Expired,
    /// The server accepted the login and returned no ticket.
    NoTicket,
}

impl AuthError {
    pub(crate) fn new(user: &str, kind: AuthErrorKind) -> Self {
        Self(Box::new(Parts {
            user: user.to_owned(),
            kind,
            call: None,
        }))
    }

    /// Records the call that failed.
    pub(crate) fn for_call(mut self, call: &CallId) -> Self {
        self.0.call = Some(call.clone());
        self
    }

    /// The login if the server refused it, otherwise the call that needed one.
    pub(crate) fn name(&self) -> Option<&CallId> {
        match &self.0.kind {
            AuthErrorKind::Refused(error) => Some(error.name()),
            _ => self.0.call.as_ref(),
        }
    }

    /// The user of the login.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &AuthErrorKind {
        &self.0.kind
    }

    /// The challenge for a second factor, if that is missing.
    #[must_use]
    pub fn challenge(&self) -> Option<&TfaChallenge> {
        match &self.0.kind {
            AuthErrorKind::SecondFactor(challenge) | AuthErrorKind::NoAnswer { challenge, .. } => {
                Some(challenge)
            }
            _ => None,
        }
    }

    /// The server's refusal, if there was one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match &self.0.kind {
            AuthErrorKind::Refused(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match &self.0.kind {
            AuthErrorKind::Refused(_) => Some(ErrorKind::Unauthorized),
            AuthErrorKind::Expired => Some(ErrorKind::TicketExpired),
            _ => None,
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { user, kind, .. } = &*self.0;
        if let Some(name) = self.name() {
            write!(f, "{name}: ")?;
        }
        match kind {
            AuthErrorKind::Refused(error) => {
                let message = OneLine(error.message());
                write!(f, "the server refuses the login of {user}: {message}")
            }
            AuthErrorKind::SecondFactor(challenge) => {
                let methods = challenge.methods().join(", ");
                write!(f, "the login of {user} needs a second factor ({methods})")
            }
            AuthErrorKind::NoAnswer { problem, .. } => {
                let problem = OneLine(problem);
                write!(f, "no second factor for the login of {user}: {problem}")
            }
            AuthErrorKind::NotYet => f.write_str(
                "nobody logged in by OpenID yet: send the user to Client::openid_url, and give the address the browser comes \
                 back to to Client::openid_login",
            ),
            AuthErrorKind::Expired => {
                write!(
                    f,
                    "the ticket of {user} ran out and there is no password to get another: give the client one, or a \
                     new ticket"
                )
            }
            AuthErrorKind::NoTicket => {
                write!(f, "the login of {user} was accepted but gave no ticket")
            }
        }
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let error = self.api()?;
        Some(error)
    }
}

/// The server's challenge for a second factor.
#[derive(Clone)]
pub struct TfaChallenge(pub(crate) Arc<Challenge>);

pub(crate) struct Challenge {
    pub(crate) user: String,
    pub(crate) ticket: Secret,
}

impl TfaChallenge {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The kinds of answer that are accepted, such as `totp`, `recovery`, `webauthn`, `yubico`.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        match self.details() {
            Some(Value::Object(kinds)) => (kinds.into_iter())
                .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)))
                .map(|(kind, _)| kind)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The server's data about each kind: a WebAuthn challenge, the recovery codes left.
    #[must_use]
    pub fn details(&self) -> Option<Value> {
        let text = self
            .0
            .ticket
            .expose()
            .strip_prefix(PVE.challenge)?
            .split(':')
            .next()?;
        serde_json::from_str(&percent_decode_str(text).decode_utf8().ok()?).ok()
    }
}

impl fmt::Debug for TfaChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TfaChallenge")
            .field("user", &self.0.user)
            .field("methods", &self.methods())
            .finish_non_exhaustive()
    }
}
