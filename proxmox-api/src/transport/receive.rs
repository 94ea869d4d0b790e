//! Reading of answers, for all transports.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};

use super::body::{BodyError, DecodedBody, broken_off};
use super::{TransportError, WireResponse};
use crate::bounds::{Bound, Bounds, Exceeded};
use crate::value::text::latin1_or_utf8;

pub(super) fn is_gzip(head: &WireResponse) -> bool {
    head.header("content-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
}

/// The head of an answer, with its reason phrase.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, reason: Bytes) -> WireResponse {
    let mut head = WireResponse::new(status.as_u16(), Bytes::new());
    head.reason = reason;
    head.headers = (headers.iter())
        .map(|(name, value)| (name.as_str().to_owned(), latin1_or_utf8(value.as_bytes())))
        .collect();
    head
}

/// The whole answer, unpacked. The body of a refusal is truncated at its limit; any other body
/// fails there.
pub(super) async fn receive<B>(
    (mut response, mut body): (WireResponse, B),
    idle_timeout: Option<Duration>,
    bounds: &Bounds,
) -> Result<WireResponse, TransportError>
where
    B: Body<Data = Bytes, Error: BodyError> + Unpin,
{
    let refusal = response.status >= 400;
    let (max, max_unpacked) = match refusal {
        true => (bounds.refusal, bounds.refusal),
        false => (bounds.body, bounds.unpacked),
    };
    let mut received = 0_usize;
    let mut plain = DecodedBody::new(is_gzip(&response), max_unpacked);
    loop {
        let next = match idle_timeout {
            None => body.frame().await,
            Some(limit) => (tokio::time::timeout(limit, body.frame()).await)
                .map_err(|_| TransportError::timed_out(limit))?,
        };
        let Some(frame) = next else { break };
        let taken = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                received = received.saturating_add(data.len());
                match received > max {
                    true => Err(TransportError::too_much(Exceeded::new(Bound::Body, max))),
                    false => plain.take(&data),
                }
            }
            Ok(Err(_)) => Ok(()),
            // A server that refuses an upload closes the connection while the rest is still being
            // sent, which resets it. The refusal itself is complete without a body.
            Err(_) if refusal && response.header("content-length").is_none() => break,
            Err(error) => return Err(broken_off(&error)),
        };
        match taken {
            // The text of a refusal is at its start.
            Err(error) if refusal && error.exceeded().is_some() => {
                response.body = plain.so_far();
                return Ok(response);
            }
            taken => taken?,
        }
    }
    response.body = plain.end()?;
    Ok(response)
}
