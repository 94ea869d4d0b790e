//! The meaning of a refusal.

use std::collections::BTreeMap;

use table::Refusal;

mod table;

/// The kinds, and their names for the table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The meaning of a refusal, for a program.
        ///
        /// Derived from the status, or from the server's text where the status does not tell ([wire
        /// protocol §6](crate::guide::wire_protocol)), by one table of patterns. The text itself is
        /// in [`ApiError::message`](super::ApiError::message).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $name,)*
        }

        const ALL: &[(&str, ErrorKind)] = &[$((stringify!($name), ErrorKind::$name)),*];
    };
}

kinds! {
    /// The object of the call does not exist.
    NotFound,
    /// An object of that name or number exists already.
    AlreadyExists,
    /// The guest runs already.
    AlreadyRunning,
    /// The guest does not run.
    NotRunning,
    /// The guest runs, and must be stopped for this.
    Running,
    /// Nothing to do: it is in the wanted state already.
    NoChange,
    /// It is in use by another guest, a snapshot or high availability.
    InUse,
    /// The thing is protected from being changed or removed.
    Protected,
    /// The guest is locked by another operation, such as a backup, or the network configuration by somebody else.
    Locked,
    /// Another operation held a lock for too long. A later attempt can succeed.
    LockTimeout,
    /// The network configuration has changes that are not applied; apply or roll back first.
    PendingChanges,
    /// The cluster has no quorum, so nothing can be changed.
    NoQuorum,
    /// The guest agent is not configured or does not answer.
    AgentNotRunning,
    /// The guest agent did not answer in time, for example while its guest starts. It may have
    /// carried out the request.
    AgentTimeout,
    /// The virtual machine's process did not answer in time. It may have carried out the request.
    MonitorTimeout,
    /// An operation on the server took too long, and may continue there.
    Timeout,
    /// The operation was interrupted on the server.
    Interrupted,
    /// The configuration changed since it was read; the given `digest` is out of date.
    ConfigChanged,
    /// A privilege is missing; see [`ApiError::missing_permission`](super::ApiError::missing_permission).
    PermissionDenied,
    /// Only `root@pam` may do it, with a ticket; neither privileges nor tokens suffice.
    RootOnly,
    /// The endpoint does not accept API tokens.
    NeedsTicket,
    /// The request had no valid ticket or token. The server does not distinguish an expired one
    /// from a wrong one.
    Unauthorized,
    /// The ticket of this client expired and it has no password to get another.
    TicketExpired,
    /// The CSRF prevention token was missing or wrong.
    InvalidCsrf,
    /// The server has no such path, or not with this verb, or a value in the path does not match
    /// its pattern. The server may be older than the endpoint.
    UnknownMethod,
    /// The release replaced the call, for example groups of high availability by rules.
    Replaced,
    /// One or more parameters were refused; see [`ApiError::errors`](super::ApiError::errors).
    ParameterVerification,
    /// The request does not fit the state of the server; the text says why.
    InvalidParameter,
    /// This guest, storage or server does not support it.
    NotSupported,
    /// The name is reserved on the server.
    ReservedName,
    /// A disk or device is local to its node.
    NotShared,
    /// The storage is disabled, not online, or not available on the node.
    StorageUnavailable,
    /// No space is left, or no number.
    NoSpace,
    /// The node in the path cannot be reached or does not exist. With status 596 and above the
    /// operation may continue there.
    NodeUnreachable,
    /// The request is larger than the server reads.
    TooLarge,
    /// Too many requests; see [`ApiError::retry_after`](super::ApiError::retry_after).
    RateLimited,
    /// The server or a proxy before it cannot serve requests now.
    Unavailable,
    /// The server redirects elsewhere. Redirections are not followed.
    Redirected,
    /// The answer does not come from a Proxmox VE API, for instance a web page.
    NotTheApi,
    /// Something below the API failed: a program, a file, a device, another service. The text names
    /// it.
    Internal,
    /// Anything else; see the text.
    Other,
}

impl ErrorKind {
    /// The kind for a text of the server, as found in errors and as the status of failed tasks.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self::find(Refusal::Text, text)
    }

    pub(super) fn of(status: u16, text: &str, errors: &BTreeMap<String, String>) -> Self {
        if status == 400
            && (!errors.is_empty() || text.starts_with("Parameter verification failed"))
        {
            let mut texts = errors.values();
            return match (texts.next(), texts.next()) {
                // A single parameter error can have the text that other calls answer as a message.
                (Some(text), None) => Self::find(Refusal::Parameter, text),
                _ => Self::ParameterVerification,
            };
        }
        Self::find(Refusal::Status(status), text)
    }

    fn find(refusal: Refusal, text: &str) -> Self {
        let found = table::find(refusal, text);
        let named = found.and_then(|name| ALL.iter().find(|(known, _)| *known == name));
        named.map_or(Self::Other, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_row_names_a_kind() {
        let rows = include_str!("kind/kinds.tsv").lines();
        for row in rows.filter(|row| !row.is_empty() && !row.starts_with('#')) {
            let name = row.split('\t').next().unwrap_or_default();
            assert!(ALL.iter().any(|(known, _)| *known == name), "{row}");
        }
    }

    #[test]
    fn texts_of_handlers_have_a_kind_or_a_reason_for_none() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema/pve/refusals.tsv");
        let file = std::fs::read_to_string(path).expect("the file exists");
        let texts = file.lines().filter_map(|line| line.strip_prefix("text\t"));
        let (mut all, mut other) = (0, 0);
        for line in texts {
            let mut columns = line.split('\t');
            let text = columns.next().unwrap_or_default();
            all += 1;
            if ErrorKind::of_text(&text.replace('*', "x")) == ErrorKind::Other {
                other += 1;
                assert!(
                    columns.nth(1).is_some(),
                    "no program can act on {text:?}: why?"
                );
            }
        }
        println!("{other} of {all} texts are of no kind");
        assert!(all > 2_400 && other < 40, "{other} of {all}");
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,80}", status in any::<u16>()) {
            let _ = ErrorKind::of_text(&text);
            let _ = ErrorKind::of(status, &text, &BTreeMap::new());
        }
    }
}
