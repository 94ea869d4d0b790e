//! Errors of operations on guests that no single call reports.

use std::fmt;
use std::time::Duration;

use super::api::ErrorKind;
use crate::value::guest::{GuestLocation, Kind};
use crate::value::text::OneLine;

/// An operation on a guest failed, for a reason that no single call reports. See [`Error::Guest`](crate::Error::Guest).
#[derive(Clone, Debug)]
pub struct GuestError(Box<GuestErrorKind>);

/// What is wrong with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestErrorKind {
    /// The cluster has no guest of this number that this user may see.
    NoSuchGuest {
        /// The number.
        vmid: u32,
    },
    /// The number belongs to another guest now, and nothing was done to that guest; see
    /// [`Guest`](crate::manage::guest::Guest).
    AnotherGuest {
        /// The number.
        vmid: u32,
        /// The kind of the guest that was meant.
        kind: Kind,
        /// The location of the guest that has the number now.
        now: GuestLocation,
        /// Whether it is certainly another guest. If not, the guest is on another node, nothing
        /// shows that it is the same, and the operation could not be undone.
        certain: bool,
    },
    /// The operation works with the other kind of guest only.
    WrongKind {
        /// The guest's number.
        vmid: u32,
        /// Its kind.
        is: Kind,
        /// The kind that the operation needs.
        needed: Kind,
    },
    /// Every number of the range is taken.
    NoFreeId {
        /// The lowest number that was allowed.
        first: u32,
        /// The highest number that was allowed.
        last: u32,
    },
    /// Every index for such a device is taken.
    NoFreeSlot {
        /// The guest's number.
        vmid: u32,
        /// The indexed setting, such as `scsi`.
        device: &'static str,
    },
    /// The configuration has no such setting.
    NoSuchSetting {
        /// The guest's number.
        vmid: u32,
        /// The setting's name, such as `net1`.
        key: String,
    },
    /// High availability accepted the request and did not carry it out.
    HighAvailability {
        /// The guest's number.
        vmid: u32,
        /// The state that high availability reports, such as `error`.
        state: String,
    },
    /// It was not done within the time limit. The operation continues on the server.
    TimedOut {
        /// The guest's number.
        vmid: u32,
        /// The state that was waited for.
        waiting_for: String,
        /// The time limit.
        after: Duration,
        /// The error of the last attempt; `None` if it succeeded and did not show the state.
        last: Option<String>,
    },
    /// The server accepted the backup request and started no task, as it does for a guest of
    /// another node.
    NotBackedUp {
        /// The guest's number.
        vmid: u32,
    },
    /// The guest agent refused the command. The server passes that on with status 200.
    AgentRefused {
        /// The guest's number.
        vmid: u32,
        /// The kind of refusal, as QEMU names it: `CommandNotFound` for a command that is disabled
        /// or unknown to the agent, `GenericError` for most others.
        class: String,
        /// The agent's message.
        desc: String,
    },
    /// An argument cannot be valid, so nothing was sent.
    InvalidInput {
        /// The guest's number.
        vmid: u32,
        /// The setting of the argument.
        input: &'static str,
        /// The problem, and how to fix it.
        problem: String,
    },
    /// The guest agent's answer cannot be used.
    Agent {
        /// The guest's number.
        vmid: u32,
        /// The problem with it.
        problem: String,
    },
}

impl GuestError {
    pub(super) fn new(reason: GuestErrorKind) -> Self {
        Self(Box::new(reason))
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &GuestErrorKind {
        &self.0
    }

    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match *self.0 {
            GuestErrorKind::NoSuchGuest { .. } => Some(ErrorKind::NotFound),
            _ => None,
        }
    }

    /// Whether it was detected before anything was changed.
    pub(crate) fn never_sent(&self) -> bool {
        match *self.0 {
            GuestErrorKind::NoSuchGuest { .. }
            | GuestErrorKind::AnotherGuest { .. }
            | GuestErrorKind::WrongKind { .. }
            | GuestErrorKind::NoFreeId { .. }
            | GuestErrorKind::NoFreeSlot { .. }
            | GuestErrorKind::InvalidInput { .. }
            | GuestErrorKind::NoSuchSetting { .. } => true,
            GuestErrorKind::HighAvailability { .. }
            | GuestErrorKind::TimedOut { .. }
            | GuestErrorKind::NotBackedUp { .. }
            | GuestErrorKind::AgentRefused { .. }
            | GuestErrorKind::Agent { .. } => false,
        }
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GuestErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchGuest { vmid } => {
                write!(
                    f,
                    "the cluster lists no guest {vmid}: there is none, or none this user may see"
                )
            }
            Self::AnotherGuest {
                vmid,
                kind,
                now,
                certain: true,
            } => write!(
                f,
                "guest {vmid}, {}, is gone and its number belongs to another guest, {} on node {}; nothing was \
                 done to that one, which a new handle would take for the one that is meant",
                kind.noun(),
                now.kind.noun(),
                now.node
            ),
            Self::AnotherGuest { vmid, now, .. } => write!(
                f,
                "guest {vmid} is not where it was, and nothing shows that {} of this number on node {} is the \
                 same; nothing was done to that one, which `locate` would take for the one that is meant",
                now.kind.noun(),
                now.node
            ),
            Self::WrongKind { vmid, is, needed } => write!(
                f,
                "guest {vmid} is {}, and this works with {} only",
                is.noun(),
                needed.noun()
            ),
            Self::NoFreeId { first, last } => {
                write!(f, "every guest number from {first} to {last} is taken")
            }
            Self::NoFreeSlot { vmid, device } => {
                write!(f, "guest {vmid} has no room for another {device} device")
            }
            Self::NoSuchSetting { vmid, key } => {
                write!(f, "the configuration of guest {vmid} has no {key}")
            }
            Self::HighAvailability { vmid, state } => write!(
                f,
                "high availability put guest {vmid} into the state {state:?} instead of the requested one"
            ),
            Self::TimedOut {
                vmid,
                waiting_for,
                after,
                last,
            } => {
                write!(f, "guest {vmid}: no {waiting_for} within {after:?}")?;
                match last {
                    Some(last) => write!(f, "; the last attempt failed: {last}"),
                    None => Ok(()),
                }
            }
            Self::NotBackedUp { vmid } => write!(
                f,
                "the server made no backup of guest {vmid}, as for a guest of another node"
            ),
            Self::AgentRefused { vmid, class, desc } => write!(
                f,
                "the guest agent of guest {vmid} refuses: {} ({})",
                OneLine(desc),
                OneLine(class)
            ),
            Self::InvalidInput {
                vmid,
                input,
                problem,
            } => write!(f, "guest {vmid}: {input}: {problem}"),
            Self::Agent { vmid, problem } => {
                write!(f, "guest agent of guest {vmid}: {problem}")
            }
        }
    }
}

impl std::error::Error for GuestError {}
