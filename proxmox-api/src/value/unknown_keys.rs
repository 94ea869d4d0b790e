//! The rules of property strings, and the keys beyond them.

use std::collections::BTreeMap;
use std::fmt;

use crate::value::extra::Extra;
use crate::value::limits::Takes;
use crate::value::problem::{Problem, Refuse};
use crate::value::secret::{RedactedObject, RedactedTexts, is_secret, is_secret_text};

/// Unknown keys of a property string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UnknownKeys {
    pub(super) keys: BTreeMap<String, String>,
    pub(super) text: Option<String>,
    pub(super) members: Extra,
    /// Texts that are invalid for their keys.
    pub(super) problem: Option<Problem>,
}

impl UnknownKeys {
    /// Keys that the type does not declare; they are written back.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<String, String> {
        &self.keys
    }

    /// Adds or replaces a key that the type does not declare.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.keys.insert(key.into(), value.into());
    }

    /// Members of an answer in parsed form beyond the declared keys. Scalars are written back.
    #[must_use]
    pub fn members(&self) -> &Extra {
        &self.members
    }

    #[doc(hidden)]
    pub fn members_mut(&mut self) -> &mut Extra {
        &mut self.members
    }

    /// Whether there is nothing beyond the declared keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.text.is_none() && self.members.is_empty()
    }

    /// The whole text, if it did not parse; it is written back unchanged.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl Refuse for UnknownKeys {
    #[cold]
    fn refuse(&mut self, key: &str, mut problem: Problem) {
        problem.allowed = format!("{} for its key `{key}`", problem.allowed);
        self.problem.get_or_insert(problem);
    }
}

/// Shows no value whose key is that of a secret.
impl fmt::Debug for UnknownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_deref();
        let text = text.map(|text| match is_secret(text) || is_secret_text(text) {
            true => "…",
            false => text,
        });
        f.debug_struct("UnknownKeys")
            .field("keys", &RedactedTexts(&self.keys))
            .field("text", &text)
            .field("members", &RedactedObject(&self.members))
            .finish()
    }
}

/// The fixed rules of one kind of property string.
#[doc(hidden)]
#[derive(Debug)]
pub struct PropertyStringRules {
    /// The key whose `key=` may be left out.
    pub default_key: Option<&'static str>,
    /// Other spellings: (alias, key).
    pub aliases: &'static [(&'static str, &'static str)],
    /// Keys that set two others: in `virtio=MAC`, (`virtio`, `macaddr`, `model`) sets the MAC and the model.
    pub key_aliases: &'static [(&'static str, &'static str, &'static str)],
    /// Limits of keys.
    pub limits: &'static [(&'static str, Takes)],
    /// Rules between keys.
    pub between: &'static [Between],
}

/// Rules that concern several keys.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Between {
    /// The key is required.
    Needed(&'static str),
    /// The key is forbidden.
    Never(&'static str),
    /// If the first is present, or true if it is a flag, the second is required.
    With(&'static str, &'static str),
    /// If the key is true, no other may have a value but 0.
    Alone(&'static str),
}

impl Between {
    /// The violated rule, if any.
    pub(super) fn broken(
        self,
        value: impl Fn(&str) -> Option<String>,
        others: &[(String, String)],
    ) -> Option<String> {
        let on = |key| value(key).is_some_and(|text| !matches!(text.as_str(), "0" | ""));
        match self {
            Self::Needed(key) if value(key).is_none() => {
                Some(format!("its key `{key}`, which the server requires"))
            }
            Self::Never(key) if value(key).is_some() => {
                Some(format!("no key `{key}`, which the server refuses there"))
            }
            Self::With(key, needs) if on(key) && value(needs).is_none() => {
                Some(format!("its key `{key}` only together with `{needs}`"))
            }
            Self::Alone(key)
                if on(key) && others.iter().any(|(name, text)| name != key && text != "0") =>
            {
                Some(format!("its key `{key}` only without other keys"))
            }
            _ => None,
        }
    }
}
