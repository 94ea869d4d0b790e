//! Whether the connected server has what a request needs.
//!
//! The crate covers several releases at once, so a request can name an endpoint or a parameter that the
//! server does not have yet, or no longer. The descriptions of the endpoints know; the server's answer to
//! `GET /version` says which release it is.

use crate::client::{Client, Reply};
use crate::error::api::{ApiError, ErrorKind};
use crate::error::{Error, Name, RequestErrorKind};
use crate::pve::RELEASES;
use crate::request::Call;
use crate::value::decode::{DecodeError, decode_data};
use crate::value::endpoint::{Endpoint, Method, Partial, Release, unavailable};

impl Client {
    /// The release the server runs, such as 9.1. Asked for once; a client that outlives an upgrade keeps
    /// the old answer.
    ///
    /// # Errors
    /// Those of `GET /version`, which every authenticated user may call.
    pub async fn server_release(&self) -> Result<Release, Error> {
        self.release().await
    }

    /// Whether the server has the endpoint and all the parameters of a call, judged by its release. Sends
    /// nothing but, once, `GET /version`. A call by plain path passes: nothing is known about it.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// let request = pve.version().get();
    /// pve.check(request.call()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Request`] with [`RequestErrorKind::Unavailable`] if it does not; those of `GET /version`.
    pub async fn check(&self, call: &Call) -> Result<(), Error> {
        let name = Name::of(call);
        self.check_call(&name, call).await
    }
}

/// Tells the release.
pub(crate) const VERSION: &str = "/version";

/// The call that tells the release.
pub(crate) fn version_call() -> Call {
    Call::new(Method::Get, VERSION)
}

pub(crate) fn release_of(reply: &Reply) -> Result<Release, DecodeError> {
    let data: serde_json::Value = decode_data(&reply.body)?;
    ["release", "version"]
        .iter()
        .filter_map(|key| data.get(*key)?.as_str())
        .find_map(parse)
        .ok_or_else(|| {
            let problem = "expected a release such as 9.1, found none";
            DecodeError::new("data.release", problem)
        })
}

/// `9.1`, `7.4-3`, `9.0~beta`: the two numbers at the start.
fn parse(text: &str) -> Option<Release> {
    let (major, rest) = text.trim().split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(Release::new(
        major.parse().ok()?,
        rest[..digits].parse().ok()?,
    ))
}

/// Whether there is anything to be found out about a call at all.
pub(crate) fn is_in_doubt(call: &Call) -> bool {
    call.endpoint.is_some_and(|endpoint| {
        differs(endpoint.since, endpoint.until)
            || (endpoint.partial.iter())
                .any(|partial| call.params.iter().any(|p| partial.names(p.0)))
    })
}

/// Not the same in all releases this crate knows.
fn differs(since: Release, until: Option<Release>) -> bool {
    until.is_some() || RELEASES.first().is_some_and(|oldest| since > *oldest)
}

/// What of a call a server of that release does not have.
pub(crate) fn missing(call: &Call, server: Release) -> Option<RequestErrorKind> {
    let endpoint = call.endpoint?;
    if lacks(server, endpoint.since, endpoint.until) {
        return Some(RequestErrorKind::Unavailable {
            parameter: None,
            since: endpoint.since,
            until: endpoint.until,
            server,
        });
    }
    call.params.iter().find_map(|(name, _)| {
        let partial = partial(endpoint, name)?;
        lacks(server, partial.since, partial.until).then(|| RequestErrorKind::Unavailable {
            parameter: Some(name.to_owned()),
            since: partial.since,
            until: partial.until,
            server,
        })
    })
}

fn lacks(server: Release, since: Release, until: Option<Release>) -> bool {
    // What the oldest known release has, one before it may have too.
    let server = RELEASES
        .first()
        .map_or(server, |oldest| server.max(*oldest));
    unavailable(since, until, server).is_some()
}

fn partial(endpoint: &'static Endpoint, name: &str) -> Option<&'static Partial> {
    endpoint.partial.iter().find(|partial| partial.names(name))
}

/// In words: in which releases something exists.
pub(crate) fn exists(parameter: Option<&str>, since: Release, until: Option<Release>) -> String {
    let what = parameter.map_or_else(|| "this call".to_owned(), |name| format!("`{name}`"));
    match until {
        None => format!("{what} exists since {since}"),
        Some(until) if differs(since, None) => format!("{what} exists from {since} to {until}"),
        Some(until) => format!("{what} exists until {until}"),
    }
}

/// What the releases say about a refusal. `server` is the server's release where that is known anyway.
pub(crate) fn hint(error: &ApiError, call: &Call, server: Option<Release>) -> Option<String> {
    let Some(endpoint) = call.endpoint else {
        let unknown = error.kind() == ErrorKind::UnknownMethod;
        return unknown.then(|| "is the path right, and the server new enough for it?".to_owned());
    };
    // A server known to be of a fitting release refuses for another reason.
    let telling = |since, until| {
        differs(since, until) && server.is_none_or(|server| lacks(server, since, until))
    };
    let mut hints = Vec::new();
    if error.kind() == ErrorKind::UnknownMethod {
        if telling(endpoint.since, endpoint.until) {
            hints.push(exists(None, endpoint.since, endpoint.until));
        }
    } else if error.status() == 400 {
        for (name, text) in error.errors() {
            let Some(partial) = partial(endpoint, name) else {
                continue;
            };
            if text.contains("not defined in schema") && telling(partial.since, partial.until) {
                hints.push(exists(Some(name), partial.since, partial.until));
            }
        }
    }
    if hints.is_empty() {
        return None;
    }
    if let Some(server) = server {
        hints.push(format!("the server runs {server}"));
    }
    Some(hints.join("; "))
}

#[cfg(test)]
mod tests;
