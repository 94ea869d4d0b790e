//! Health and metrics for the gateway's operators.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use proxmox_api::manage::metrics::{CONTENT_TYPE as PROMETHEUS, MetricFamily, MetricType, render};
use proxmox_api::transport::WireRequest;
use proxmox_api::value::endpoint::Method;
use tokio::time::Instant;

use crate::app::App;
use crate::refusal::Refusal;

/// Timeout for the health checks of the store and the cluster.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long the result of a check is reused.
const CACHED: Duration = Duration::from_secs(1);

/// Whether requests can be served. The endpoint needs no credentials, so all requests within a
/// second share one check.
pub(crate) async fn ready(State(app): State<App>) -> Result<&'static str, Refusal> {
    let mut cached = app.readiness.lock().await;
    let result = match *cached {
        Some((checked_at, result)) if checked_at.elapsed() < CACHED => result,
        _ => {
            let result = check(&app).await;
            *cached = Some((Instant::now(), result));
            result
        }
    };
    let unavailable = |what| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what);
    result.map(|()| "ready\n").map_err(unavailable)
}

/// Whether the store responds and the cluster is reachable.
async fn check(app: &App) -> Result<(), &'static str> {
    let store = tokio::time::timeout(TIMEOUT, app.store.ping()).await;
    if !matches!(store, Ok(Ok(()))) {
        return Err("the store does not respond");
    }
    // The list of realms needs no credentials.
    let realms = WireRequest::new(Method::Get, "", "/api2/json/access/domains");
    match tokio::time::timeout(TIMEOUT, app.cluster.open(realms)).await {
        Ok(Ok(answer)) if answer.head().status < 500 => Ok(()),
        _ => Err("the cluster cannot be reached"),
    }
}

/// The gateway's own figures for Prometheus.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let mut families = app.counters.families();
    let gauge = |name, help: &str, value: f64| {
        let mut family = MetricFamily::new(name, MetricType::Gauge, help);
        family.add(&[], value);
        family
    };
    let listening = app.listeners.taken();
    families.push(gauge(
        "gateway_listeners",
        "Listeners of events.",
        listening as f64,
    ));
    families.push(gauge(
        "gateway_reserved_bytes",
        "Memory reserved for bodies and lists.",
        app.memory.used() as f64,
    ));
    let newest = app.hub.newest();
    families.push(gauge(
        "gateway_newest_event",
        "Number of the newest event.",
        newest as f64,
    ));
    let mut response = render(&families).into_response();
    let kind = HeaderValue::from_static(PROMETHEUS);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
