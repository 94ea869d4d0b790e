//! Descriptions of endpoints, as data.

use std::fmt;
use std::str::FromStr;

use crate::value::serialize::{variant_serde, word_serde};
use crate::value::text::shortened;

pub use crate::value::limits::Takes;

/// An HTTP verb of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads; parameters are in the query.
    Get,
    /// Creates something or starts an action; parameters are in the body.
    Post,
    /// Changes something; parameters are in the body.
    Put,
    /// Removes something; parameters are in the query.
    Delete,
}

impl Method {
    /// The verb in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether parameters of this verb go into a form body; with other verbs the server refuses a
    /// body ([wire protocol §2](crate::guide::wire_protocol)).
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

variant_serde!(Method {
    Get = "GET",
    Post = "POST",
    Put = "PUT",
    Delete = "DELETE",
});

/// A Proxmox VE release, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Release {
    /// The number before the dot.
    pub major: u8,
    /// The number after the dot.
    pub minor: u8,
}

impl Release {
    /// A release by its two numbers.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Release {
    type Err = String;

    /// Reads `9.2`, and of a version with more parts its first two, as `9.2.3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().splitn(3, '.');
        let mut number = || parts.next()?.parse().ok();
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(format!(
                "`{}` is not a release such as 9.2",
                shortened(text.to_owned())
            )),
        }
    }
}

word_serde!(Release);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The static description of one endpoint, taken from the schemas of the tracked releases.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The verb.
    pub method: Method,
    /// The path with its placeholders, such as `/nodes/{node}/qemu`.
    pub path: &'static str,
    /// The first tracked release that has it; `None` if the oldest one does.
    pub since: Option<Release>,
    /// The last tracked release that has it; `None` while the newest one does.
    pub until: Option<Release>,
    /// Whether an API token may call it; otherwise a ticket is needed.
    pub allow_token: bool,
    /// Whether it may answer with a file instead of JSON.
    pub download: bool,
    /// The permissions that a caller needs.
    pub permission: Permission,
    /// Names of parameters whose values are never printed.
    pub secrets: &'static [&'static str],
    /// Parameters that are a list in one text with a separator other than a comma, which the
    /// server's code splits only there.
    pub separators: &'static [(&'static str, char)],
    /// Limits of parameters that are narrower than their types, by name; names of indexed
    /// parameters end in `[n]`. A value within a limit is accepted by at least one tracked release.
    pub limits: &'static [(&'static str, Takes)],
    /// The parameters that not every release of the endpoint has.
    pub partial: &'static [Partial],
    /// Parameters with another name in newer releases; a client sends the name that the server's
    /// release knows.
    pub renamed: &'static [Renamed],
}

/// A parameter that is newer than its endpoint, or was removed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partial {
    /// Its wire name; that of an indexed parameter ends in `[n]`.
    pub name: &'static str,
    /// The first tracked release that has it; `None` if the oldest one does.
    pub since: Option<Release>,
    /// The last tracked release that has it; `None` while the newest one does.
    pub until: Option<Release>,
}

/// A parameter that was renamed in some release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renamed {
    /// Its name in requests, and before that release.
    pub old: &'static str,
    /// Its name since then.
    pub new: &'static str,
    /// The first tracked release with the new name.
    pub since: Release,
}

impl Renamed {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(old: &'static str, new: &'static str, since: Release) -> Self {
        Self { old, new, since }
    }
}

impl Partial {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, since: Option<Release>, until: Option<Release>) -> Self {
        Self { name, since, until }
    }

    /// Whether this is the parameter of that name in a request.
    #[must_use]
    pub fn names(&self, parameter: &str) -> bool {
        match self.name.strip_suffix("[n]") {
            Some(prefix) => parameter.strip_prefix(prefix).is_some_and(|index| {
                !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())
            }),
            None => self.name == parameter,
        }
    }
}

/// Whether a release lacks what exists from `since` to `until`. A release before the oldest tracked
/// one is assumed to have the same as that one.
pub(crate) fn lacks(release: Release, since: Option<Release>, until: Option<Release>) -> bool {
    since.is_some_and(|since| release < since) || until.is_some_and(|until| release > until)
}

/// Describes the releases in which something exists.
pub(crate) fn exists(
    parameter: Option<&str>,
    since: Option<Release>,
    until: Option<Release>,
) -> String {
    let what = parameter.map_or_else(|| "this call".to_owned(), |name| format!("`{name}`"));
    match (since, until) {
        (Some(since), Some(until)) => format!("{what} exists from {since} to {until}"),
        (Some(since), None) => format!("{what} exists since {since}"),
        (None, Some(until)) => format!("{what} exists until {until}"),
        (None, None) => format!("{what} exists in every tracked release"),
    }
}

impl Endpoint {
    /// Starts a description; generated code sets the values that differ from the defaults.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(method: Method, path: &'static str, permission: Permission) -> Self {
        Self {
            method,
            path,
            since: None,
            until: None,
            allow_token: true,
            download: false,
            permission,
            secrets: &[],
            separators: &[],
            limits: &[],
            partial: &[],
            renamed: &[],
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn since(mut self, major: u8, minor: u8) -> Self {
        self.since = Some(Release::new(major, minor));
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn until(mut self, major: u8, minor: u8) -> Self {
        self.until = Some(Release::new(major, minor));
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn ticket_only(mut self) -> Self {
        self.allow_token = false;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn download(mut self) -> Self {
        self.download = true;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn separators(mut self, separators: &'static [(&'static str, char)]) -> Self {
        self.separators = separators;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn limits(mut self, limits: &'static [(&'static str, Takes)]) -> Self {
        self.limits = limits;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn partial(mut self, partial: &'static [Partial]) -> Self {
        self.partial = partial;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn renamed(mut self, renamed: &'static [Renamed]) -> Self {
        self.renamed = renamed;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn secrets(mut self, secrets: &'static [&'static str]) -> Self {
        self.secrets = secrets;
        self
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The permissions that a caller needs.
///
/// Paths may hold placeholders: of the request, or else of a value in the request or a row of the
/// answer. Conditions that the schema only hints at are taken from the server's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// Only `root@pam` itself, not even its API tokens.
    Root,
    /// No login is needed.
    World,
    /// Any authenticated user, without further checks.
    Authenticated,
    /// All of these privileges on the path.
    All(&'static str, &'static [&'static str]),
    /// One of these privileges on the path.
    Any(&'static str, &'static [&'static str]),
    /// These privileges on the path, but only if the named parameter is given.
    Given(&'static str, &'static str, &'static [&'static str]),
    /// One of these privileges on `/access/groups`, on a group of the user in the request, or, to
    /// create a user, on each group of the new user.
    UserGroup(&'static [&'static str]),
    /// Being the user in the request.
    SelfUser,
    /// This privilege on the realm of the user in the request.
    UserRealm(&'static str),
    /// The right to change permissions on the path: `Permissions.Modify`, or the privilege to
    /// allocate such a guest, storage or pool.
    Modify(&'static str),
    /// Only for some calls: those with one of the parameters (any call, if none is named), and in
    /// the case that the text describes (every such call, if it is empty).
    When(&'static [&'static str], &'static str, &'static Permission),
    /// Refuses nothing: without this, the objects that the text names are left out of the answer,
    /// or skipped.
    Rows(&'static str, &'static Permission),
    /// A condition that is not a privilege, as text.
    Other(&'static str),
    /// Every one of these.
    And(&'static [Permission]),
    /// At least one of these.
    Or(&'static [Permission]),
}
