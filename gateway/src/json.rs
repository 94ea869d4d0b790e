//! JSON bodies.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::Share;
use crate::refusal::Refusal;

const BODY: usize = 512 * 1024;

/// A JSON body. The content type is ignored.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let mut reservation = Share::of_request(request.extensions())?.reserve();
        let body = reservation.read(request.into_body(), BODY).await?;
        // An empty body counts as an empty object.
        let body = if body.is_empty() { "{}".into() } else { body };
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(Refusal::bad_request(format!(
                "the body is invalid: {error}"
            ))),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => {
                let mut response = Response::new(Body::from(text));
                let kind = HeaderValue::from_static("application/json;charset=UTF-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
            }
        }
    }
}
