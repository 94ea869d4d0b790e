//! Descriptions of endpoints, as data.

use std::fmt;
use std::str::FromStr;

use crate::value::serialize::{variant_serde, word_serde};
use crate::value::text::shortened;

pub use crate::value::limits::Takes;

/// An HTTP verb of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads; parameters travel in the query.
    Get,
    /// Creates something or starts an action; parameters travel in the body.
    Post,
    /// Changes something; parameters travel in the body.
    Put,
    /// Removes something; parameters travel in the query.
    Delete,
}

impl Method {
    /// The verb as it stands in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether parameters of this verb go into a form body; the server refuses a body elsewhere
    /// ([wire protocol §2](crate::guide::wire_protocol)).
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
                "`{}` is no release such as 9.2",
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
    /// Parameters that are a list in one text, with what stands between the items where that is not a comma: the
    /// code that reads them on the server splits them there only.
    pub separators: &'static [(&'static str, char)],
    /// What parameters take, where that is less than their types do: with a name for each, which for numbered ones ends
    /// in `[n]`. It is what at least one tracked release takes.
    pub limits: &'static [(&'static str, Takes)],
    /// The parameters that not every release of the endpoint has.
    pub partial: &'static [Partial],
    /// The parameters that newer releases call otherwise; a client sends the name that the server's release knows.
    pub renamed: &'static [Renamed],
}

/// A parameter that came later than its endpoint, or went before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partial {
    /// Its wire name; an indexed family's ends in `[n]`.
    pub name: &'static str,
    /// The first tracked release that has it; `None` if the oldest one does.
    pub since: Option<Release>,
    /// The last tracked release that has it; `None` while the newest one does.
    pub until: Option<Release>,
}

/// A parameter that is called otherwise since some release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renamed {
    /// Its name in a request, and before that release.
    pub old: &'static str,
    /// Its name since then.
    pub new: &'static str,
    /// The first tracked release that calls it so.
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

    /// Whether a parameter of the request is meant.
    #[must_use]
    pub fn names(&self, parameter: &str) -> bool {
        match self.name.strip_suffix("[n]") {
            Some(family) => parameter.strip_prefix(family).is_some_and(|index| {
                !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())
            }),
            None => self.name == parameter,
        }
    }
}

/// Whether a release lacks what exists from `since` to `until`. What the oldest tracked release has, one before it may
/// have too.
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
    /// Starts a description; generated code fills in what differs from the usual.
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
/// Paths may hold placeholders: of the request, or, where it has none of that name, of what a value in
/// it or a row of the answer names. What the schema only hints at is taken from the server's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// Only `root@pam` itself, not even its API tokens.
    Root,
    /// No login is needed.
    World,
    /// Any authenticated user, and nothing is checked besides.
    Authenticated,
    /// All of these privileges on the path.
    All(&'static str, &'static [&'static str]),
    /// One of these privileges on the path.
    Any(&'static str, &'static [&'static str]),
    /// These privileges on the path, but only when the named parameter is given.
    Given(&'static str, &'static str, &'static [&'static str]),
    /// One of these privileges on `/access/groups`, on a group of the user the request names, or, where a user
    /// is made, on each group it is made in.
    UserGroup(&'static [&'static str]),
    /// Being the user the request names.
    SelfUser,
    /// This privilege on the realm of the user the request names.
    UserRealm(&'static str),
    /// The right to change permissions on the path: `Permissions.Modify`, or what allots such a guest, storage or
    /// pool.
    Modify(&'static str),
    /// Only in some calls: those that have one of the parameters (any call, if none is named), and are
    /// in the case that the words name (every such call, if there are none).
    When(&'static [&'static str], &'static str, &'static Permission),
    /// Refuses nothing: what the words name is left out of the answer, or not acted on, where the
    /// caller lacks this.
    Rows(&'static str, &'static Permission),
    /// A condition that is no privilege, in words.
    Other(&'static str),
    /// Every one of these.
    And(&'static [Permission]),
    /// At least one of these.
    Or(&'static [Permission]),
}
