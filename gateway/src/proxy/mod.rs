//! `/api2/…`, passed through to the cluster with the caller's credentials.
//!
//! Answers are handed over as they come, but for refusals in the format `json`, which get one shape and a status that
//! tells, and for lists, which get headers about their pages.

mod answer;
mod parameters;
mod target;
mod upgrade;
mod upload;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, StatusCode};
use proxmox_api::Value;
use proxmox_api::transport::WireResponse;
use serde_json::json;

use crate::app::App;
use crate::cluster::unanswered;
use crate::pages::{self, Page, Query, Selection};
use crate::refusal::Refusal;
use answer::{collect, refused, streamed, whole};
use target::Target;

/// What the cluster reads at most.
const BODY: usize = 512 * 1024;
/// How long all of such a body may take, however steadily it comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A list that is looked into, at most.
const LIST: usize = 64 * 1024 * 1024;
/// What is read of a refusal.
const REFUSED: usize = 256 * 1024;

/// Passes a request through.
pub(crate) async fn pass(State(app): State<App>, request: Request) -> Response {
    exchange(&app, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn exchange(app: &App, request: Request) -> Result<Response, Refusal> {
    let mut target = Target::of(&request)?;
    if upgrade::is_wanted(request.headers()) {
        return upgrade::pass(app, &target, request).await;
    }
    if upload::is_one(&target, request.headers()) {
        return upload::pass(app, &target, request).await;
    }
    let (parts, body) = request.into_parts();
    let body = read(body, BODY).await?;
    let parameters = parameters::read(&target.method, &target.path, &parts.headers, body)?;
    if !parameters.query.is_empty() {
        let separator = if target.query.is_empty() { "" } else { "&" };
        target.query = format!("{}{separator}{}", target.query, parameters.query);
    }
    let query = Query::parse(&target.query);
    let is_list = target.method == Method::GET && target.is_json();
    let mut selection = None;
    if is_list
        && target.path.ends_with("/cluster/resources")
        && let Some((rest, wanted)) = Selection::of(&query)?
    {
        target.query = rest.to_text();
        selection = Some(wanted);
    }
    let mut wire = target.wire(&parts.headers);
    if let Some(kind) = parameters
        .content_type
        .filter(|_| !parameters.body.is_empty())
    {
        wire.headers.push(("content-type".to_owned(), kind));
    }
    wire.body = parameters.body;
    let answer = app.cluster.open(wire).await;
    let mut answer = answer.map_err(|error| unanswered(&error))?;
    let status = answer.head().status;
    if status >= 400 && target.is_json() {
        let head = answer.head().clone();
        let body = collect(&mut answer, REFUSED).await?;
        return Ok(refused(&target, head, body));
    }
    if status != 200 || !is_list {
        return Ok(streamed(answer));
    }
    if let Some(selection) = selection {
        let body = collect(&mut answer, LIST).await?;
        return selected(&target, &query, answer.head(), &body, &selection);
    }
    let page = Page::of(&query).ok().flatten();
    if page.is_none() && !pages::is_paged(&target.path) {
        return Ok(streamed(answer));
    }
    let body = collect(&mut answer, LIST).await?;
    let page = page.unwrap_or(Page {
        start: 0,
        limit: 50,
    });
    let mut response = whole(answer.head(), body.clone());
    if let Some(total) = pages::total(&body) {
        page.write(&target.path, &query, total, response.headers_mut());
    }
    Ok(response)
}

async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    use http_body_util::{BodyExt, LengthLimitError, Limited};
    let whole = tokio::time::timeout(PATIENCE, Limited::new(body, most).collect());
    let whole = whole.await.map_err(|_| {
        let text = format!("the body was not there within {} s", PATIENCE.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
    })?;
    match whole {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {most} bytes"),
        )),
        Err(_) => Err(Refusal::bad_request("the body broke off")),
    }
}

/// A list of resources, as far as it is wanted.
fn selected(
    target: &Target,
    query: &Query,
    head: &WireResponse,
    body: &[u8],
    selection: &Selection,
) -> Result<Response, Refusal> {
    let no_list = || Refusal::new(StatusCode::BAD_GATEWAY, "the cluster's answer is no list");
    let mut envelope: Value = serde_json::from_slice(body).map_err(|_| no_list())?;
    let Some(Value::Array(items)) = envelope.get_mut("data").map(Value::take) else {
        return Err(no_list());
    };
    let (items, total) = selection.apply(items);
    let mut response = whole(head, json!({ "data": items }).to_string().into());
    match selection.page() {
        Some(page) => page.write(&target.path, query, total, response.headers_mut()),
        None => {
            let total = HeaderValue::from(total);
            response.headers_mut().insert(pages::TOTAL, total);
        }
    }
    Ok(response)
}
