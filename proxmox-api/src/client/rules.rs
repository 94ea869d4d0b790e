//! Checks of requests and answers that do not depend on the endpoint.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::auth::AuthHeaders;
use super::call::Call;
use super::hosts::Base;
use super::reply::KeptSecrets;
use crate::transport::{WireRequest, WireResponse};
use crate::value::Secret;
use crate::value::decode::read_any;
use crate::value::encode::ParamValue;
use crate::value::endpoint::Method;
use crate::value::product::PVE;

const TICKET: &str = PVE.login;

pub(super) fn place(request: &WireRequest, base: &Base) -> WireRequest {
    WireRequest {
        origin: base.origin.clone(),
        path: format!("{}{}", base.prefix, request.path),
        ..request.clone()
    }
}

pub(super) fn with_auth_headers(request: &WireRequest, grant: &AuthHeaders) -> WireRequest {
    let mut request = request.clone();
    for (name, value) in &grant.headers {
        let header = ((*name).to_owned(), value.expose().to_owned());
        request.headers.push(header);
    }
    request
}

/// Values that a server may quote in an error and that must not be logged; for a property string
/// also the values of its keys.
pub(super) fn secrets_of(call: &Call) -> impl Iterator<Item = &str> {
    (call.params.iter())
        .filter(|(name, _)| call.is_secret(name))
        .flat_map(|(_, value)| match value {
            ParamValue::One(value) => std::slice::from_ref(value).iter(),
            ParamValue::Many(values) => values.iter(),
        })
        .flat_map(|value| {
            let parts = value.split(',').filter_map(|part| part.split_once('='));
            let secret = parts.filter(|(key, _)| crate::value::secret::is_secret(key.trim()));
            std::iter::once(value.as_str()).chain(secret.map(|(_, value)| value))
        })
}

/// The same, owned, for use after the call.
pub(crate) fn kept_secrets(call: &Call) -> KeptSecrets {
    let kept: Vec<_> = secrets_of(call).map(Secret::from).collect();
    (!kept.is_empty()).then(|| kept.into())
}

/// Whether the server answers the call without authentication ([wire protocol
/// §7](crate::guide::wire_protocol)).
pub(super) fn is_unauthenticated(method: Method, path: &str) -> bool {
    matches!(
        (method, path),
        (Method::Get, "/access/domains")
            | (Method::Get | Method::Post, TICKET)
            | (
                Method::Post,
                "/access/vncticket" | "/access/openid/auth-url" | "/access/openid/login"
            )
    )
}

/// The memory limit for a decoded refusal.
const MEMORY: usize = 32 * 1024 * 1024;

/// Whether the server refused the session before it looked at the request. Such an answer has no
/// body, though a proxy may make one of the reason phrase. Endpoints that check a password
/// themselves answer 401 with another text.
pub(super) fn refuses_session(response: &WireResponse) -> bool {
    const BEFORE_THE_ENDPOINT: &[&str] = &[
        "No ticket",
        "Authentication failed!",
        "Permission denied - invalid csrf token",
        "permission denied - invalid PVE ticket",
    ];
    if response.status != 401 || response.body.is_empty() {
        return response.status == 401;
    }
    let data: Option<Value> = read_any(&response.body, MEMORY);
    let text = data.as_ref().and_then(|data| data.get("message")?.as_str());
    text.is_some_and(|text| BEFORE_THE_ENDPOINT.contains(&text.trim()))
}

pub(super) fn is_page(response: &WireResponse) -> bool {
    response
        .header("content-type")
        .is_some_and(|kind| kind.trim_start().starts_with("text/html"))
        && response.header("content-disposition").is_none()
}

/// A path outside the API, which may have a query. It is appended to the address, so its first
/// character decides where the request goes.
pub(super) fn check_query(path: &str) -> Result<(), String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if let Some(c) = query.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(format!(
            "the query contains the character '{}', which has to be percent-encoded",
            c.escape_default()
        ));
    }
    match path.strip_suffix('/').filter(|path| !path.is_empty()) {
        Some(folder) => check_path(folder),
        None => check_path(path),
    }
}

/// The server drops empty segments, and clients and proxies resolve dot segments, so either would
/// reach another endpoint.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("the path {path:?} does not start with a slash"));
    };
    let is_invalid =
        |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(byte));
    if let Some(byte) = path.bytes().find(|byte| is_invalid(byte)) {
        let character = char::from(byte).escape_default();
        return Err(match byte {
            b'?' => "parameters cannot be part of the path; set them with `param`".to_owned(),
            _ => format!(
                "the path contains the character '{character}', which has to be percent-encoded"
            ),
        });
    }
    for segment in rest.split('/').filter(|_| !rest.is_empty()) {
        match percent_decode_str(segment).decode_utf8_lossy().as_ref() {
            "" => return Err(format!("the path {path:?} has an empty segment")),
            "." | ".." => {
                return Err(format!(
                    "the path {path:?} has a segment that would change the path"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
