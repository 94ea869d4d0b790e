//! Answers of the cluster as the caller gets them.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use hyper::ext::ReasonPhrase;
use proxmox_api::error::ApiError;
use proxmox_api::transport::{OpenResponse, WireResponse};

use super::target::Target;
use crate::cluster::unanswered;
use crate::refusal::{Refusal, status_of};
use crate::room::Hold;

/// Fields that concern one connection, or that are set again.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
];

/// What was read of an answer.
pub(super) enum Collected {
    All(Bytes),
    /// More than was wanted; there is more to come.
    Start(Bytes),
}

pub(super) async fn collect(
    answer: &mut OpenResponse,
    most: usize,
    hold: &mut Hold,
) -> Result<Collected, Refusal> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unanswered(&error))? {
        hold.grow(chunk.len())?;
        body.extend_from_slice(&chunk);
        if body.len() > most {
            return Ok(Collected::Start(body.into()));
        }
    }
    Ok(Collected::All(body.into()))
}

/// The head of an answer as the caller gets it. The phrase is passed on too: some clients take the message from there.
pub(super) fn head(answer: &WireResponse) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if !answer.reason.is_empty()
        && let Ok(phrase) = ReasonPhrase::try_from(answer.reason.clone())
    {
        response.extensions_mut().insert(phrase);
    }
    // It was unpacked on the way, where it was packed.
    let unpacked = answer.header("content-encoding").is_some();
    for (name, value) in &answer.headers {
        let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) else {
            continue;
        };
        if HOP_BY_HOP.contains(&name) || (unpacked && name == header::CONTENT_ENCODING) {
            continue;
        }
        response.headers_mut().append(name, value);
    }
    response
}

pub(super) fn whole(answer: &WireResponse, body: Bytes) -> Response {
    let mut response = head(answer);
    *response.body_mut() = body.into();
    response
}

/// Passes an answer on as it comes; `read` is what was read of it.
pub(super) fn streamed(read: Option<(Bytes, Hold)>, answer: OpenResponse) -> Response {
    let mut response = head(answer.head());
    let packed = answer.head().header("content-encoding").is_some();
    let length = answer.head().header("content-length");
    if let Some(Ok(length)) = length.filter(|_| !packed).map(HeaderValue::try_from) {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    let chunks = stream::unfold(answer, async |mut answer| {
        let chunk = answer.chunk().await.transpose()?;
        Some((chunk, answer))
    });
    *response.body_mut() = match read {
        Some((start, hold)) => Body::from_stream(hold.stream(start).chain(chunks)),
        None => Body::from_stream(chunks),
    };
    response
}

/// A refusal of the cluster, in the one shape.
pub(super) fn refused(target: &Target, head_of: WireResponse, body: Bytes) -> Response {
    let mut answer = head_of;
    answer.body = body;
    let endpoint = format!("{} {}", target.method, target.path);
    let error = ApiError::read(&endpoint, &answer);
    let mut response = head(&answer);
    let refusal = Refusal::from(&error);
    *response.status_mut() = status_of(error.kind(), error.status());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    *response.body_mut() = refusal.to_json().into();
    response
}
