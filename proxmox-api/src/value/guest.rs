//! The two kinds of guests, and their locations.

use std::fmt;

use crate::value::serialize::{record_serde, word_serde};

mod name;

pub use name::ParseNameError;

/// The kind of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

impl Kind {
    /// The text in paths and resource identifiers: `qemu` or `lxc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "qemu" => Some(Self::Qemu),
            "lxc" => Some(Self::Lxc),
            _ => None,
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Qemu => "a virtual machine",
            Self::Lxc => "a container",
        }
    }
}

/// Parses the output of [`Kind::as_str`].
impl std::str::FromStr for Kind {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::read(text)
            .ok_or_else(|| ParseNameError::new("kind of guest", text, vec!["qemu", "lxc"]))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

word_serde!(Kind);

/// The location of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GuestLocation {
    /// The node it belongs to.
    pub node: String,
    /// The kind of the guest.
    pub kind: Kind,
}

record_serde!(GuestLocation { node, kind });
