//! Answers of the cluster, converted for the caller.

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
use crate::memory::Reservation;
use crate::refusal::{Refusal, status_of};

/// Header fields that concern one connection, or that the gateway sets itself.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
];

/// The part of an answer that was read.
pub(super) enum Collected {
    All(Bytes),
    /// The start of a body that is longer than the maximum.
    Start(Bytes),
}

pub(super) async fn collect(
    answer: &mut OpenResponse,
    max: usize,
    reservation: &mut Reservation,
) -> Result<Collected, Refusal> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unanswered(&error))? {
        reservation.grow(chunk.len())?;
        body.extend_from_slice(&chunk);
        if body.len() > max {
            return Ok(Collected::Start(body.into()));
        }
    }
    Ok(Collected::All(body.into()))
}

/// The answer's head for the caller. The reason phrase is passed on, because some clients read the
/// message from it.
pub(super) fn head(answer: &WireResponse) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if !answer.reason.is_empty()
        && let Ok(phrase) = ReasonPhrase::try_from(answer.reason.clone())
    {
        response.extensions_mut().insert(phrase);
    }
    // The body is already decompressed.
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

/// Streams an answer; `read` is the part that was read already.
pub(super) fn streamed(read: Option<(Bytes, Reservation)>, answer: OpenResponse) -> Response {
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
        Some((start, reservation)) => Body::from_stream(reservation.stream(start).chain(chunks)),
        None => Body::from_stream(chunks),
    };
    response
}

/// Converts a refusal of the cluster to the gateway's format.
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
