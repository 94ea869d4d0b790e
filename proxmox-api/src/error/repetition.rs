//! Whether something that failed can be repeated without harm: the one place that decides it.

use crate::transport::TransportError;

/// How a request failed, as far as repeating it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server's certificate is not trusted; nothing was sent, and the next attempt ends the same way.
    Untrusted,
    /// A script for tests does not expect it.
    Unscripted,
    /// Nothing was sent.
    NeverSent,
    /// It may have arrived, and no usable answer came.
    Lost,
    /// An answer came that is more than the client takes in, and would come again.
    TooMuch,
    /// Refused with this status.
    Refused(u16),
    /// Refused because a lock of the server was taken.
    LockTaken,
}

/// Who may repeat a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repetition {
    /// The client, automatically.
    pub(crate) by_the_client: bool,
    /// The program, which can know more and waits longer.
    pub(crate) by_the_program: bool,
}

impl Failure {
    pub(crate) fn of(error: &TransportError) -> Self {
        match (error.is_never_sent(), error.server_certificate()) {
            (true, Some(_)) => Self::Untrusted,
            (true, None) => Self::NeverSent,
            (false, _) if error.is_unscripted() => Self::Unscripted,
            (false, _) if error.exceeded().is_some() => Self::TooMuch,
            (false, _) => Self::Lost,
        }
    }

    /// Who may repeat the request; `repeatable` is what its call says of itself: that it only reads, or that the
    /// server acting on it twice does no harm.
    pub(crate) fn repetition(self, repeatable: bool) -> Repetition {
        let (by_the_client, by_the_program) = match self {
            Self::Untrusted | Self::Unscripted | Self::TooMuch => (false, false),
            Self::NeverSent => (true, true),
            Self::Lost => (repeatable, repeatable),
            // An answer instead of the work, by definition.
            Self::Refused(429) => (true, true),
            // Mostly nothing was done. A proxy that says so may be wrong, and so may the node that hands a call on.
            Self::Refused(503 | 595) => (repeatable, true),
            Self::Refused(502 | 504) => (repeatable, repeatable),
            // It comes after half a minute, or for a text that the server cannot write.
            Self::Refused(596..=599) => (false, repeatable),
            Self::Refused(_) => (false, false),
            Self::LockTaken => (false, true),
        };
        Repetition {
            by_the_client,
            by_the_program,
        }
    }
}
