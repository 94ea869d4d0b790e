//! A transport that answers by a function, for the tests of this crate.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::client::Client;
use crate::client::retry::RetryPolicy;
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;

type Answer = Result<WireResponse, TransportError>;
type Script = Box<dyn FnMut(&WireRequest) -> Answer + Send>;

/// Answers each request by a function and keeps the requests.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<(Script, Vec<WireRequest>)>>);

impl Fake {
    pub(crate) fn new(script: impl FnMut(&WireRequest) -> Answer + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new((Box::new(script), Vec::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, (Script, Vec<WireRequest>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<WireRequest> {
        self.lock().1.clone()
    }

    /// The requests so far, as verb and path.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// A client with a token that sends through this transport.
    pub(crate) fn token_client(&self) -> Client {
        Client::builder("pve1")
            .api_token("root@pam!ci", TOKEN_SECRET)
            .transport(Arc::new(self.clone()))
            .retry(RetryPolicy::none())
            .build()
            .expect("the settings are complete")
    }
}

pub(crate) const TOKEN_SECRET: &str = "tok3n-s3cret";

impl Transport for Fake {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            // Lets every concurrent caller advance as far as it can before this answer.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let mut inner = self.lock();
            inner.1.push(request.clone());
            (inner.0)(&request)
        })
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

/// An accepted call.
pub(crate) fn ok(body: impl Into<String>) -> Answer {
    Ok(json(200, "OK", body))
}

/// Any answer.
pub(crate) fn json(status: u16, reason: &'static str, body: impl Into<String>) -> WireResponse {
    let mut response = WireResponse::new(status, body.into());
    response.reason = Bytes::from_static(reason.as_bytes());
    response.headers.push((
        "content-type".into(),
        "application/json;charset=UTF-8".into(),
    ));
    response
}
