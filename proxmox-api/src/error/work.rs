//! Work of several steps that is impossible, or failed halfway.

use std::fmt;

use super::Error;
use crate::value::serialize::{record_serde, variant_serde};
use crate::value::upid::Upid;

/// The subject of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// A guest, by its number.
    Guest(u32),
    /// A node.
    Node(String),
    /// A volume, as `local:iso/x.iso`.
    Volume(String),
    /// Something else, as text: `backup job nightly`.
    Other(String),
}

variant_serde!(Subject {
    Guest(vmid) = "guest",
    Node(node) = "node",
    Volume(volume) = "volume",
    Other(words) = "other",
});

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(vmid) => write!(f, "guest {vmid}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Something that work left behind; see [`UnfinishedError::left`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// The object.
    pub subject: Subject,
    /// Its state, as text: `was made and is not set up`.
    pub state: String,
    /// The task that may still be working on it.
    pub task: Option<Upid>,
}

record_serde!(Left {
    subject,
    state,
    task,
});

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.state)
    }
}

/// Work that failed and left something behind. See [`Error::Unfinished`].
#[derive(Clone, Debug)]
pub struct UnfinishedError(Box<UnfinishedParts>);

#[derive(Clone, Debug)]
struct UnfinishedParts {
    cause: Error,
    left: Vec<Left>,
}

impl UnfinishedError {
    pub(crate) fn new(cause: Error, left: Vec<Left>) -> Self {
        Self(Box::new(UnfinishedParts { cause, left }))
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.0.cause
    }

    /// The objects that were made or changed and still exist, in that order.
    #[must_use]
    pub fn left(&self) -> &[Left] {
        &self.0.left
    }
}

impl fmt::Display for UnfinishedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.cause)?;
        for (index, left) in self.0.left.iter().enumerate() {
            write!(
                f,
                "{} {left}",
                if index == 0 { "; left behind:" } else { "," }
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for UnfinishedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
    }
}

/// The wanted state cannot be reached, for a reason that no single call reports. See [`Error::Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkError(Box<(Subject, String)>);

impl WorkError {
    /// Also for work defined outside of this crate.
    #[must_use]
    pub fn new(subject: Subject, problem: impl Into<String>) -> Self {
        Self(Box::new((subject, problem.into())))
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.0
    }

    /// The obstacle, and a remedy where there is one.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.0, self.0.1)
    }
}

impl std::error::Error for WorkError {}
