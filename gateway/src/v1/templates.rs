//! `/v1/templates`: guests as templates.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use proxmox_api::manage::guest::Guest;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Error, Value};
use serde::Deserialize;
use serde_json::json;

use super::lists;
use crate::app::App;
use crate::caller::Caller;
use crate::json::Json;
use crate::refusal::Refusal;

const PATH: &str = "/v1/templates";
const MAX_TAGS: usize = 32;

/// Request to make a template from a guest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTemplate {
    source_vmid: u32,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    /// The template's number; the lowest free one by default.
    #[serde(default)]
    vmid: Option<u32>,
    /// The storage of its disks; by default those of the guest.
    #[serde(default)]
    storage: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let page = lists::page(query.as_deref())?;
    let client = app.cluster.client(&caller)?;
    let resources = client.request(Method::Get, "/cluster/resources");
    let resources: Value = resources.param("type", "vm").await?;
    let guests = resources.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut templates: Vec<&Value> = (guests.iter())
        .filter(|guest| matches!(&guest["template"], Value::Number(one) if one.as_i64() == Some(1)))
        .collect();
    templates.sort_by_key(|guest| guest["vmid"].as_u64());
    let items = templates.into_iter().map(|guest| {
        let tags = guest["tags"].as_str().unwrap_or_default();
        let tags: Vec<&str> = tags.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).collect();
        json!({
            "vmid": guest["vmid"], "name": guest["name"], "node": guest["node"], "kind": guest["type"], "tags": tags,
            "pool": guest["pool"], "cpus": guest["maxcpu"], "memory_bytes": guest["maxmem"], "disk_bytes": guest["maxdisk"],
        })
    });
    Ok(lists::cut(items.collect(), page, PATH))
}

pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Json(new): Json<NewTemplate>,
) -> Result<Response, Refusal> {
    let caller = Caller::changing(&headers)?;
    if new.tags.len() > MAX_TAGS {
        let problem = format!("are more than {MAX_TAGS}");
        return Err(Refusal::parameters([("tags", problem)]));
    }
    let client = app.cluster.client(&caller)?;
    let source = client.guest(new.source_vmid);
    let mut clone = match new.vmid {
        Some(vmid) => source.clone_to(vmid),
        None => source.clone_within(100..=999_999_999),
    };
    clone = clone.name(&new.name).full(true);
    if let Some(description) = &new.description {
        clone = clone.description(description);
    }
    if let Some(storage) = &new.storage {
        clone = clone.storage(storage);
    }
    let cloned = clone.await?;
    let (guest, upid) = (cloned.guest, cloned.started.upid().map(ToString::to_string));
    let answer = json!({
        "vmid": guest.vmid(), "name": new.name, "status": "creating", "upid": upid,
        "source_vmid": new.source_vmid,
    });
    // Copying can take long; the caller sees the task, and later the template.
    tokio::spawn(async move {
        let vmid = guest.vmid();
        let copied = cloned.started.wait().await.map(drop);
        let done = match copied {
            Ok(()) => finish(guest, new.tags).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(vmid, %error, "making a template failed");
        }
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn finish(guest: Guest, tags: Vec<String>) -> Result<(), Error> {
    if !tags.is_empty() {
        guest.add_tags(tags).await?;
    }
    guest.make_template().await?.wait().await.map(drop)
}
