//! Uploads, with streaming bodies.

use std::io;

use axum::extract::Request;
use axum::response::Response;
use futures_util::TryStreamExt;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use proxmox_api::transport::BodyStream;
use tokio_util::io::StreamReader;

use super::answer::{refused, whole};
use super::target::Target;
use crate::app::App;
use crate::cluster::unanswered;
use crate::refusal::Refusal;

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

pub(super) fn is_upload(target: &Target, headers: &HeaderMap) -> bool {
    let kind = content_type(headers).map(str::to_ascii_lowercase);
    target.method == Method::POST
        && target.path.ends_with("/upload")
        && kind.is_some_and(|kind| kind.starts_with("multipart/form-data"))
}

pub(super) async fn pass(
    app: &App,
    target: &Target,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let length = (headers.get(header::CONTENT_LENGTH))
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let Some(length) = length else {
        let text = "an upload needs a Content-Length";
        return Err(Refusal::new(StatusCode::LENGTH_REQUIRED, text));
    };
    let mut wire = target.wire(headers);
    if let Some(kind) = content_type(headers) {
        wire.headers
            .push(("content-type".to_owned(), kind.to_owned()));
    }
    let body = request
        .into_body()
        .into_data_stream()
        .map_err(io::Error::other);
    let body = BodyStream::new(length, StreamReader::new(body));
    let answer = app.cluster.send_stream(wire, body).await;
    let mut answer = answer.map_err(|error| unanswered(&error))?;
    let body = std::mem::take(&mut answer.body);
    match answer.status >= 400 && target.is_json() {
        true => Ok(refused(target, answer, body)),
        false => Ok(whole(&answer, body)),
    }
}
