//! `/v1`: work over several calls, for programs in any language.

mod batch;
mod events;
mod lists;
mod metrics;
mod templates;
mod vclusters;
mod webhooks;

use axum::Router;
use axum::routing::{get, post};
use http::StatusCode;

use crate::app::App;
use crate::refusal::Refusal;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/batch/vms/action", post(batch::act))
        .route("/events", get(events::lines))
        .route("/events/ws", get(events::socket))
        .route("/nodes/{node}/metrics", get(metrics::of_node))
        .route("/templates", get(templates::list).post(templates::create))
        .route("/vclusters", get(vclusters::list).post(vclusters::create))
        .route(
            "/vclusters/{id}",
            get(vclusters::get).delete(vclusters::delete),
        )
        .route("/vclusters/{id}/kubeconfig", get(vclusters::kubeconfig))
        .route("/vclusters/{id}/scale", post(vclusters::scale))
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route(
            "/webhooks/{id}",
            get(webhooks::get)
                .put(webhooks::change)
                .patch(webhooks::change)
                .delete(webhooks::delete),
        )
        .route("/webhooks/{id}/deliveries", get(webhooks::deliveries))
        .route("/webhooks/{id}/rotate-secret", post(webhooks::rotate))
        .route("/webhooks/{id}/test", post(webhooks::test))
        .fallback(async || Refusal::not_found("no such path"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not accept the method",
            )
        })
}
