//! `/api2/…`, passed through to the cluster with the caller's credentials.
//!
//! Answers are streamed unchanged, except refusals in the format `json`, which get one shape and a
//! specific status, and lists, which get headers about paging.

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
use crate::memory::{Reservation, Share};
use crate::pages::{self, Page, Query};
use crate::refusal::Refusal;
use crate::selection::Selection;
use answer::{Collected, collect, head, refused, streamed};
use target::Target;

/// The cluster's limit on bodies.
const BODY: usize = 512 * 1024;
/// Maximum size of a list of resources that is filtered, sorted or paged.
const LIST: usize = 32 * 1024 * 1024;
/// Maximum size of a list that is parsed for its total. Longer ones are passed on without it.
const PAGE: usize = 4 * 1024 * 1024;
/// Maximum bytes read of a refusal.
const REFUSED: usize = 256 * 1024;

/// Passes a request through.
pub(crate) async fn pass(State(app): State<App>, request: Request) -> Response {
    exchange(&app, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn exchange(app: &App, request: Request) -> Result<Response, Refusal> {
    let mut target = Target::from_request(&request)?;
    if upgrade::is_upgrade(request.headers()) {
        return upgrade::pass(app, &target, request).await;
    }
    if upload::is_upload(&target, request.headers()) {
        return upload::pass(app, &target, request).await;
    }
    let share = Share::of_request(request.extensions())?;
    let (parts, body) = request.into_parts();
    let mut sent = share.reserve();
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
        && let Some((rest, requested)) = Selection::from_query(&query)?
    {
        target.query = rest.to_text();
        selection = Some(requested);
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
        let mut reservation = share.reserve();
        let body = match collect(&mut answer, REFUSED, &mut reservation).await? {
            Collected::All(body) => body,
            Collected::Start(_) => Bytes::new(),
        };
        return Ok(refused(&target, head, body));
    }
    if status != 200 || !is_list {
        return Ok(streamed(None, answer));
    }
    let mut reservation = share.reserve();
    if let Some(selection) = selection {
        let Collected::All(body) = collect(&mut answer, LIST, &mut reservation).await? else {
            let text = format!("the cluster's answer is longer than {LIST} bytes");
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, text));
        };
        return selected(
            &target,
            &query,
            answer.head(),
            body,
            reservation,
            &selection,
        );
    }
    let page = Page::from_query(&query).ok().flatten();
    if page.is_none() && !pages::is_paged(&target.path) {
        return Ok(streamed(None, answer));
    }
    let body = match collect(&mut answer, PAGE, &mut reservation).await? {
        Collected::All(body) => body,
        Collected::Start(start) => return Ok(streamed(Some((start, reservation)), answer)),
    };
    let page = page.unwrap_or(Page {
        start: 0,
        limit: 50,
    });
    let total = pages::total(&body);
    let mut response = buffered(answer.head(), body, reservation);
    if let Some(total) = total {
        page.write(&target.path, &query, total, response.headers_mut());
    }
    Ok(response)
}

/// A body that stays in memory until it is sent.
fn buffered(head_of: &WireResponse, body: Bytes, reservation: Reservation) -> Response {
    let mut response = head(head_of);
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    *response.body_mut() = reservation.until_sent(body);
    response
}

/// Filters and sorts a list of resources.
fn selected(
    target: &Target,
    query: &Query,
    head: &WireResponse,
    body: Bytes,
    mut reservation: Reservation,
    selection: &Selection,
) -> Result<Response, Refusal> {
    let (selected, total) = selection.select(&body)?;
    reservation.shrink(body.len());
    drop(body);
    reservation.grow(selected.len())?;
    let mut response = buffered(head, selected.into(), reservation);
    match selection.page() {
        Some(page) => page.write(&target.path, query, total, response.headers_mut()),
        None => {
            let total = HeaderValue::from(total);
            response.headers_mut().insert(pages::TOTAL, total);
        }
    }
    Ok(response)
}
