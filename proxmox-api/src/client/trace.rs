//! Spans for requests, with the feature `tracing`; nothing without it.
//!
//! A span holds the verb, the path template, the request number of errors, and the outcome. It
//! holds neither parameters nor texts of the server.

use crate::error::{CallId, Error};
use crate::value::endpoint::Method;

/// The span of one call, `proxmox_api.call`.
#[cfg(feature = "tracing")]
pub(crate) struct Trace(tracing::Span);

#[cfg(feature = "tracing")]
impl Trace {
    pub(crate) fn new(method: Method, template: &str, name: &CallId) -> Self {
        use tracing::field::Empty;
        Self(tracing::debug_span!(
            target: "proxmox_api",
            "proxmox_api.call",
            method = method.as_str(),
            template,
            request = name.number(),
            host = Empty,
            status = Empty,
            retries = Empty,
            duration_ms = Empty,
            outcome = Empty,
        ))
    }

    /// Runs the call inside its span.
    pub(crate) async fn around<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        use tracing::Instrument;
        let start = tokio::time::Instant::now();
        let result = work.instrument(self.0.clone()).await;
        let duration = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.record("duration_ms", duration);
        self.0.record("outcome", outcome(result.as_ref().err()));
        result
    }

    /// Records the outcome of an attempt, counted from 1.
    pub(crate) fn attempt(&self, host: &str, number: u32, status: Option<u16>) {
        self.0.record("host", host);
        self.0.record("retries", number - 1);
        if let Some(status) = status {
            self.0.record("status", status);
        }
    }

    /// Records that the limits of the client made a request wait.
    pub(crate) fn waited(&self, time: std::time::Duration) {
        if !time.is_zero() {
            let waited_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(target: "proxmox_api", parent: &self.0, waited_ms, "waited for the limits of the client");
        }
    }

    /// Records that a request is sent again.
    pub(crate) fn again(&self, pause: std::time::Duration, elsewhere: bool) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(target: "proxmox_api", parent: &self.0, pause_ms, elsewhere, "sending again");
    }
}

/// The class of a failure, because its text may quote the request.
#[cfg(feature = "tracing")]
fn outcome(error: Option<&Error>) -> &'static str {
    match error {
        None => "accepted",
        Some(Error::Api(_)) => "refused",
        Some(Error::Connect(_)) => "not connected",
        Some(Error::Interrupted(_)) => "interrupted",
        Some(Error::Timeout(_)) => "timed out",
        Some(Error::Decode(_) | Error::Exceeded(_)) => "not readable",
        Some(Error::Auth(_)) => "not logged in",
        Some(_) => "not sent",
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) struct Trace;

#[cfg(not(feature = "tracing"))]
impl Trace {
    pub(crate) fn new(_: Method, _: &str, _: &CallId) -> Self {
        Self
    }

    pub(crate) async fn around<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        work.await
    }

    pub(crate) fn attempt(&self, _: &str, _: u32, _: Option<u16>) {}

    pub(crate) fn waited(&self, _: std::time::Duration) {}

    pub(crate) fn again(&self, _: std::time::Duration, _: bool) {}
}

#[cfg(all(test, feature = "tracing"))]
mod tests;
