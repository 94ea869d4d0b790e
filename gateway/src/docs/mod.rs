//! The documentation of the API: `/api2/json/openapi.json`, and the page `/api-explorer/` to read
//! it and try calls.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use proxmox_api::Value;
use proxmox_api::value::endpoint::Method;

use crate::app::App;
use crate::caller::Caller;
use crate::documents::Documents;
use crate::refusal::Refusal;

const PAGE: &str = include_str!("explorer.html");
const SCRIPT: &str = include_str!("explorer.js");

/// The release of the cluster if the caller may read it, otherwise the newest one known.
async fn release(app: &App, caller: Option<Caller>) -> &'static str {
    let known = |version: &str| {
        Documents::releases().find(|name| {
            let rest = version.strip_prefix(*name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let known = async {
        let client = app.cluster.client(&caller?).ok()?;
        let answer: Value = client.request(Method::Get, "/version").await.ok()?;
        known(answer["version"].as_str()?)
    };
    let newest = Documents::releases().next_back();
    known.await.or(newest).unwrap_or_default()
}

pub(crate) async fn openapi(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let release = release(&app, Caller::from_headers(&headers)).await;
    let text = app.documents.of(release).await?;
    let mut response = text.to_string().into_response();
    let kind = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn file(text: &'static str, kind: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // The page loads nothing from other servers and must not be framed by other sites.
    let policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; \
        base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    let name = HeaderName::from_static("referrer-policy");
    headers.insert(name, HeaderValue::from_static("no-referrer"));
    response
}

pub(crate) async fn page() -> Response {
    file(PAGE, "text/html; charset=utf-8")
}

pub(crate) async fn script() -> Response {
    file(SCRIPT, "text/javascript; charset=utf-8")
}
