//! Whether the connected server has the endpoint and the parameters of a request.
//!
//! The crate covers several releases at once, so a request can name an endpoint or a parameter that
//! the server does not have. The endpoint descriptions hold the releases; the server's answer to
//! `GET /version` names its release.

use super::call::Call;
use super::reply::Reply;
use crate::error::RequestErrorKind;
use crate::error::api::{ApiError, ErrorKind};
use crate::value::decode::{DecodeError, decode_data};
use crate::value::endpoint::{Endpoint, Method, Partial, Release, exists, lacks};

/// The path that names the server's release.
pub(crate) const VERSION: &str = "/version";

/// The call that asks for the server's release.
pub(crate) fn version_call() -> Call {
    Call::new(Method::Get, VERSION)
}

pub(crate) fn release_of(reply: &Reply) -> Result<Release, DecodeError> {
    let data: serde_json::Value = decode_data(reply)?;
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

/// Whether any tracked release lacks the endpoint or a parameter of a call.
pub(crate) fn is_in_doubt(call: &Call) -> bool {
    call.endpoint.is_some_and(|endpoint| {
        endpoint.since.or(endpoint.until).is_some()
            || (endpoint.partial.iter())
                .any(|partial| call.params.iter().any(|p| partial.names(p.0)))
    })
}

/// The error for the part of a call that a server of that release does not have.
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

fn partial(endpoint: &'static Endpoint, name: &str) -> Option<&'static Partial> {
    endpoint.partial.iter().find(|partial| partial.names(name))
}

/// A hint for a refusal, from the releases of the endpoint. `server` is the server's release if it
/// is known already.
pub(crate) fn hint(error: &ApiError, call: &Call, server: Option<Release>) -> Option<String> {
    let Some(endpoint) = call.endpoint else {
        let unknown = error.kind() == ErrorKind::UnknownMethod;
        return unknown
            .then(|| "is the path right, and is the server new enough for it?".to_owned());
    };
    // If the server's release has it, the refusal has another reason.
    let telling = |since: Option<Release>, until: Option<Release>| {
        since.or(until).is_some() && server.is_none_or(|server| lacks(server, since, until))
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
