//! The OpenAPI document: the cluster's API and the gateway's own.

use std::sync::Arc;

use http::StatusCode;
use proxmox_api::Value;
use proxmox_codegen::generate::{self, Input};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::refusal::Refusal;

mod schema {
    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}

/// The gateway's own part.
const NATIVE: &str = include_str!("native.json");

/// Finished documents by release.
#[derive(Debug, Default)]
pub(crate) struct Documents([OnceCell<Arc<str>>; schema::RELEASES.len()]);

fn failed(problem: impl std::fmt::Display) -> Refusal {
    tracing::error!(%problem, "the OpenAPI document cannot be built");
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the document cannot be built",
    )
}

fn input() -> Input {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Input {
        releases: schema::RELEASES.iter().map(owned).collect(),
        overlay: schema::OVERLAY.iter().map(owned).collect(),
        lock: Some(schema::LOCK.to_owned()),
        ..Input::default()
    }
}

/// Merges both parts.
fn document(release: &str) -> Result<Arc<str>, String> {
    let parsed = release
        .parse()
        .map_err(|_| format!("{release:?} is not a release"))?;
    let mut whole =
        generate::openapi(&input(), Some(parsed)).map_err(|problems| problems.join("; "))?;
    let native: Value = serde_json::from_str(NATIVE).map_err(|error| error.to_string())?;
    let mut paths = serde_json::Map::new();
    for (path, item) in whole["paths"].as_object().into_iter().flatten() {
        paths.insert(format!("/api2/json{path}"), item.clone());
    }
    for (path, item) in native["paths"].as_object().into_iter().flatten() {
        paths.insert(path.clone(), item.clone());
    }
    whole["paths"] = Value::Object(paths);
    for part in ["schemas", "responses"] {
        let known = whole["components"][part].as_object_mut();
        let Some(known) = known else { continue };
        for (name, item) in native["components"][part].as_object().into_iter().flatten() {
            known.insert(name.clone(), item.clone());
        }
    }
    if let (Some(tags), Some(more)) = (whole["tags"].as_array_mut(), native["tags"].as_array()) {
        tags.extend(more.iter().cloned());
    }
    whole["servers"] = json!([{ "url": "/" }]);
    whole["info"]["title"] = "Proxmox VE API and gateway".into();
    serde_json::to_string(&whole)
        .map(Arc::from)
        .map_err(|error| error.to_string())
}

impl Documents {
    /// The releases that have a document, the oldest first.
    pub(crate) fn releases() -> impl DoubleEndedIterator<Item = &'static str> {
        schema::RELEASES
            .iter()
            .map(|(name, _)| name.trim_end_matches(".json"))
    }

    /// The document of a release, built on first use.
    pub(crate) async fn of(&self, release: &'static str) -> Result<Arc<str>, Refusal> {
        let position = Self::releases().position(|known| known == release);
        let cell = position.and_then(|position| self.0.get(position));
        let cell = cell.ok_or_else(|| failed("no release is known"))?;
        let built = cell.get_or_try_init(|| async move {
            let built = tokio::task::spawn_blocking(move || document(release)).await;
            built.map_err(failed)?.map_err(failed)
        });
        built.await.cloned()
    }
}
