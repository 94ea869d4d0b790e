//! Answers recorded from real servers, where they lie beside the workspace.

use std::fs;
use std::path::Path;

use proxmox_codegen::generate::Output;
use proxmox_codegen::recorded::{Observed, Shapes};
use serde_json::Value;

use crate::files;
use crate::product::PVE;

/// What recorded answers show.
pub(crate) struct Recorded {
    pub(crate) observed: Observed,
    /// What `required.toml` says of them and is not so.
    pub(crate) unproved: Vec<String>,
}

/// What the recorded answers show of the generated shapes; `None` where there are no recordings.
pub(crate) fn observe(root: &Path, output: &Output) -> Result<Option<Recorded>, String> {
    let folder = root.join("../shared/corpus");
    if !folder.is_dir() {
        return Ok(None);
    }
    let shapes = output
        .proof
        .get("shapes.json")
        .ok_or("no shapes.json is generated")?;
    let overlay = |name: &str| {
        fs::read_to_string(PVE.overlay(root).join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let shapes = Shapes::read(shapes, &overlay("open.toml")?)?;
    let mut observed = Observed::default();
    for path in files::files_below(&folder)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| named(&error))?;
        let record: Value = serde_json::from_str(&text).map_err(|error| named(&error))?;
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        let good = record["status"]
            .as_u64()
            .is_some_and(|status| (200..300).contains(&status));
        let endpoint = shapes.endpoint(text("method"), text("path"));
        if let (true, Some(endpoint), Some(data)) = (good, endpoint, record["response"].get("data"))
        {
            let real = record["recorded"] == Value::Bool(true);
            shapes.observe(endpoint, data, real, &mut observed);
        }
    }
    let unproved = shapes.unproved(&overlay("required.toml")?, &observed)?;
    Ok(Some(Recorded { observed, unproved }))
}
