//! Answers recorded from real servers, if they are beside the workspace.

use std::fs;
use std::path::Path;

use proxmox_codegen::generate::Output;
use proxmox_codegen::product::Product;
use proxmox_codegen::recorded::{Observed, Shapes};
use serde_json::Value;

use crate::{files, regen};

/// The statistics of recorded answers.
pub(crate) struct Recorded {
    pub(crate) observed: Observed,
    /// Claims of the overlay that the recordings disprove.
    pub(crate) unconfirmed: Vec<String>,
}

/// The recorded answers compared with the generated shapes; `None` without recordings.
pub(crate) fn observe(
    product: &Product,
    root: &Path,
    output: &Output,
) -> Result<Option<Recorded>, String> {
    let folder = root.join("../shared/corpus");
    if !folder.is_dir() {
        return Ok(None);
    }
    let shapes = output
        .expectations
        .get("shapes.json")
        .ok_or("no shapes.json is generated")?;
    let shapes = Shapes::read(shapes, &regen::read_input(product, root)?.overlay)?;
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
    let unconfirmed = shapes.unconfirmed(&observed);
    Ok(Some(Recorded {
        observed,
        unconfirmed,
    }))
}
