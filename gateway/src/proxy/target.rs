//! A request in the form for the cluster.

use axum::extract::Request;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use proxmox_api::transport::WireRequest;
use proxmox_api::value::endpoint::Method as Verb;

use crate::caller::Caller;
use crate::refusal::Refusal;

/// A request on its way to the cluster.
pub(super) struct Target {
    verb: Verb,
    pub(super) method: Method,
    /// The path as received, percent-encoded, without the query.
    pub(super) path: String,
    pub(super) query: String,
    /// `json`, `extjs`, …
    format: String,
}

impl Target {
    pub(super) fn from_request(request: &Request) -> Result<Self, Refusal> {
        let verb = match *request.method() {
            Method::GET => Verb::Get,
            Method::POST => Verb::Post,
            Method::PUT => Verb::Put,
            Method::DELETE => Verb::Delete,
            ref other => {
                let text = format!("method '{other}' not available");
                return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text));
            }
        };
        let path = ascii(request.uri().path());
        let format = path.split('/').nth(2).unwrap_or_default().to_owned();
        Ok(Self {
            verb,
            method: request.method().clone(),
            query: ascii(request.uri().query().unwrap_or_default()),
            path,
            format,
        })
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == "json"
    }

    pub(super) fn wire(&self, headers: &HeaderMap) -> WireRequest {
        let target = match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        };
        let mut wire = WireRequest::new(self.verb, "", target);
        wire.headers = passed(headers);
        wire
    }
}

/// Escapes bytes that some clients send unescaped. The meaning for the cluster is the same.
fn ascii(text: &str) -> String {
    let escape = percent_encoding::CONTROLS;
    percent_encoding::utf8_percent_encode(text, escape).to_string()
}

/// The header fields of a request that are passed to the cluster. All others are dropped.
fn passed(headers: &HeaderMap) -> Vec<(String, String)> {
    // Other cookies are not passed on.
    let mut fields = Caller::from_headers(headers).map_or_else(Vec::new, |caller| caller.fields());
    let agent = headers.get(header::USER_AGENT);
    if let Some(agent) = agent.and_then(|value| value.to_str().ok()) {
        fields.push(("user-agent".to_owned(), agent.to_owned()));
    }
    fields
}
