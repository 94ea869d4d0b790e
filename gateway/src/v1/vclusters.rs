//! `/v1/vclusters`: Kubernetes clusters as guests.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use proxmox_api::{Client, Value};
use serde::Deserialize;
use serde_json::json;

use super::lists;
use crate::app::App;
use crate::caller::Caller;
use crate::config::VclustersConfig;
use crate::json::Json;
use crate::refusal::Refusal;
use crate::vclusters::{NewVcluster, Resources, Vclusters, finish};

const PATH: &str = "/v1/vclusters";

/// A new size.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    resources: Resources,
}

fn config(app: &App) -> Result<&VclustersConfig, Refusal> {
    let missing = || {
        let text = "the gateway has no template for vclusters; set [vclusters] in its settings";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    };
    app.vclusters.as_ref().ok_or_else(missing)
}

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn with<'a>(app: &'a App, client: &'a Client) -> Result<Vclusters<'a>, Refusal> {
    let config = config(app)?;
    Ok(Vclusters { client, config })
}

pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let page = lists::page(query.as_deref())?;
    let client = app.cluster.client(&caller)?;
    let found = with(&app, &client)?.list().await?;
    Ok(lists::cut(found.iter().map(value).collect(), page, PATH))
}

pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Json(new): Json<NewVcluster>,
) -> Result<Response, Refusal> {
    let caller = Caller::changing(&headers)?;
    let client = app.cluster.client(&caller)?;
    let (vcluster, started, guest) = with(&app, &client)?.create(&new).await?;
    let mut answer = value(&vcluster);
    answer["upid"] = json!(started.upid().map(ToString::to_string));
    tokio::spawn(async move {
        let vmid = guest.vmid();
        if let Err(error) = finish(started, guest, new.resources).await {
            tracing::warn!(vmid, %error, "creating a vcluster failed");
        }
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

pub(super) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::required(&headers)?;
    let client = app.cluster.client(&caller)?;
    Ok(Json(value(&with(&app, &client)?.get(&id).await?)))
}

pub(super) async fn kubeconfig(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let client = app.cluster.client(&caller)?;
    let text = with(&app, &client)?.kubeconfig(&id).await?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    // It contains a key.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(super) async fn scale(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(scale): Json<Scale>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::changing(&headers)?;
    let client = app.cluster.client(&caller)?;
    let (scaled, waits) = with(&app, &client)?.scale(&id, &scale.resources).await?;
    let mut answer = value(&scaled);
    answer["restart_needed"] = waits.into();
    Ok(Json(answer))
}

pub(super) async fn delete(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let caller = Caller::changing(&headers)?;
    let client = app.cluster.client(&caller)?;
    let started = with(&app, &client)?.delete(&id).await?;
    let answer =
        json!({ "id": id, "status": "deleting", "upid": started.upid().map(ToString::to_string) });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}
