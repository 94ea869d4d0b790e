//! Documents about the API: the dump of the simulated release at its usual address, and two that a
//! real server does not have, the explorer at `/api-explorer/` and the OpenAPI document at
//! `/api2/json/openapi.json`.

use std::sync::LazyLock;

use proxmox_codegen::facts::Release;
use proxmox_codegen::generate::Input;
use proxmox_codegen::{dump, facts_json, generate, site};

use crate::embedded::SCHEMA;
use crate::http::Response;

static INPUT: LazyLock<Input> = LazyLock::new(|| {
    let mut input = Input::default();
    for (name, text) in SCHEMA {
        let text = (*text).to_owned();
        match name.strip_prefix("overlay/") {
            Some(name) => {
                input.overlay.insert(name.to_owned(), text);
            }
            None if name.ends_with(".json") => {
                input.releases.insert((*name).to_owned(), text);
            }
            None if *name == "names.lock" => input.lock = Some(text),
            None => {}
        }
    }
    input
});

static EXPLORER: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let catalog = generate::catalog(&INPUT).map_err(|problems| problems.join("\n"))?;
    site::page(&catalog, None)
});

/// The document at a path, without a login; the first request takes as long as generating it.
pub(crate) fn answer(path: &str, release: Release) -> Option<Response> {
    let (kind, text) = match path {
        "/api-explorer" => {
            let mut moved = Response::new(301, "Moved");
            moved
                .headers
                .push(("Location", "/api-explorer/".to_owned()));
            return Some(moved);
        }
        "/api-explorer/" => ("text/html; charset=UTF-8", EXPLORER.clone()),
        "/pve-docs/api-viewer/apidoc.js" => {
            let facts = INPUT.releases.get(&format!("{release}.json"));
            let facts = facts.map(|text| facts_json::read(text).map_err(|error| error.to_string()));
            let facts = facts.unwrap_or_else(|| Err(format!("release {release} is not tracked")));
            (
                "application/javascript",
                facts.map(|facts| dump::write(&facts)),
            )
        }
        "/api2/json/openapi.json" => {
            let document = generate::openapi(&INPUT, Some(release));
            let text = document.map(|document| document.to_string());
            (
                "application/json",
                text.map_err(|problems| problems.join("\n")),
            )
        }
        _ => return None,
    };
    Some(match text {
        Ok(text) => Response::new(200, "OK").with_body(kind, text.into_bytes()),
        Err(problem) => Response::new(500, "the document cannot be generated")
            .with_body("text/plain", problem.into_bytes()),
    })
}
