//! What those who run the gateway look at.

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

/// How long the store and the cluster may take to say that they are there.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long such an answer counts.
const FRESH: Duration = Duration::from_secs(1);

/// Whether requests can be served. Anybody may ask, so all who ask within a second share an answer.
pub(crate) async fn ready(State(app): State<App>) -> Result<&'static str, Refusal> {
    let mut known = app.readiness.lock().await;
    let found = match *known {
        Some((at, found)) if at.elapsed() < FRESH => found,
        _ => {
            let found = check(&app).await;
            *known = Some((Instant::now(), found));
            found
        }
    };
    let not = |what| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what);
    found.map(|()| "ready\n").map_err(not)
}

/// Whether the store answers, and the cluster can be reached.
async fn check(app: &App) -> Result<(), &'static str> {
    let store = tokio::time::timeout(PATIENCE, app.store.ping()).await;
    if !matches!(store, Ok(Ok(()))) {
        return Err("the store does not answer");
    }
    // The list of realms is for everybody.
    let realms = WireRequest::new(Method::Get, "", "/api2/json/access/domains");
    match tokio::time::timeout(PATIENCE, app.cluster.open(realms)).await {
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
        "Those who listen to events.",
        listening as f64,
    ));
    families.push(gauge(
        "gateway_held_bytes",
        "Memory of bodies and lists that are under way.",
        app.room.held() as f64,
    ));
    let newest = app.hub.newest();
    families.push(gauge(
        "gateway_newest_event",
        "The number of the newest event.",
        newest as f64,
    ));
    let mut response = render(&families).into_response();
    let kind = HeaderValue::from_static(PROMETHEUS);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
