//! Whether a failed request can be repeated safely: the one place that decides it.

use crate::transport::TransportError;

/// The kinds of failures, as far as retries need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server's certificate is not trusted; nothing was sent, and the next attempt would end
    /// the same way.
    Untrusted,
    /// A script for tests does not expect the request.
    Unscripted,
    /// Nothing was sent.
    NeverSent,
    /// The request may have arrived, and no usable answer came.
    Lost,
    /// The answer exceeds a limit, and would again.
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

    /// Who may repeat the request. `repeatable` says that its call only reads, or is marked as safe
    /// to send twice.
    pub(crate) fn repetition(self, repeatable: bool) -> Repetition {
        let (by_the_client, by_the_program) = match self {
            Self::Untrusted | Self::Unscripted | Self::TooMuch => (false, false),
            Self::NeverSent => (true, true),
            Self::Lost => (repeatable, repeatable),
            // 429 is, by definition, an answer instead of the work.
            Self::Refused(429) => (true, true),
            // Usually nothing was done. A proxy that says so may be wrong, and so may the node that
            // forwarded the call.
            Self::Refused(503 | 595) => (repeatable, true),
            Self::Refused(502 | 504) => (repeatable, repeatable),
            // They come after 30 seconds, or for a text that the server cannot write.
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
