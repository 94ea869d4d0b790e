//! `/api2/…`, passed through to the cluster with the caller's credentials.
//!
//! Answers are handed over as they come, but for refusals in the format `json`, which get one shape and a status that
//! tells, and for lists, which get headers about their pages.

mod answer;
mod parameters;
mod target;
mod upgrade;
mod upload;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, StatusCode};
use proxmox_api::transport::WireResponse;

use crate::app::App;
use crate::cluster::unanswered;
use crate::pages::{self, Page, Query};
use crate::refusal::Refusal;
use crate::room::{Hold, Share};
use crate::selection::Selection;
use answer::{Collected, collect, head, refused, streamed};
use target::Target;

/// What the cluster reads at most.
const BODY: usize = 512 * 1024;
/// A list of resources that is chosen from, at most.
const LIST: usize = 32 * 1024 * 1024;
/// A list that is looked into for its total, at most. Longer ones are passed on without it.
const PAGE: usize = 4 * 1024 * 1024;
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
    let share = Share::of(request.extensions())?;
    let (parts, body) = request.into_parts();
    let mut sent = share.hold();
    let body = sent.read(body, BODY).await?;
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
    drop(sent);
    let mut answer = answer.map_err(|error| unanswered(&error))?;
    let status = answer.head().status;
    if status >= 400 && target.is_json() {
        let head = answer.head().clone();
        let mut hold = share.hold();
        let body = match collect(&mut answer, REFUSED, &mut hold).await? {
            Collected::All(body) => body,
            Collected::Start(_) => Bytes::new(),
        };
        return Ok(refused(&target, head, body));
    }
    if status != 200 || !is_list {
        return Ok(streamed(None, answer));
    }
    let mut hold = share.hold();
    if let Some(selection) = selection {
        let Collected::All(body) = collect(&mut answer, LIST, &mut hold).await? else {
            let text = format!("the cluster's answer is longer than {LIST} bytes");
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, text));
        };
        return selected(&target, &query, answer.head(), body, hold, &selection);
    }
    let page = Page::of(&query).ok().flatten();
    if page.is_none() && !pages::is_paged(&target.path) {
        return Ok(streamed(None, answer));
    }
    let body = match collect(&mut answer, PAGE, &mut hold).await? {
        Collected::All(body) => body,
        Collected::Start(start) => return Ok(streamed(Some((start, hold)), answer)),
    };
    let page = page.unwrap_or(Page {
        start: 0,
        limit: 50,
    });
    let total = pages::total(&body);
    let mut response = held(answer.head(), body, hold);
    if let Some(total) = total {
        page.write(&target.path, &query, total, response.headers_mut());
    }
    Ok(response)
}

/// A body that is held until it is sent.
fn held(head_of: &WireResponse, body: Bytes, hold: Hold) -> Response {
    let mut response = head(head_of);
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    *response.body_mut() = hold.until_sent(body);
    response
}

/// A list of resources, as far as it is wanted.
fn selected(
    target: &Target,
    query: &Query,
    head: &WireResponse,
    body: Bytes,
    mut hold: Hold,
    selection: &Selection,
) -> Result<Response, Refusal> {
    let (chosen, total) = selection.choose(&body)?;
    hold.shrink(body.len());
    drop(body);
    hold.grow(chosen.len())?;
    let mut response = held(head, chosen.into(), hold);
    match selection.page() {
        Some(page) => page.write(&target.path, query, total, response.headers_mut()),
        None => {
            let total = HeaderValue::from(total);
            response.headers_mut().insert(pages::TOTAL, total);
        }
    }
    Ok(response)
}
