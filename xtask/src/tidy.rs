//! `cargo xtask tidy`: holds the imports of the code against the layers that ARCHITECTURE.md draws.

mod circles;
mod imports;
mod layers;

use std::collections::BTreeMap;
use std::fs;

use crate::{Outcome, files, say, workspace};

const PICTURE: &str = "ARCHITECTURE.md";

/// Check that imports follow the layers of ARCHITECTURE.md.
///
/// A fenced block `layers <folder>` lists the modules of one source folder, the highest layer first. A module may import what
/// stands on lower lines only; modules on one line are independent. No more than two files may import each other in a circle.
/// Lines `except a -> b` and `except circle in a` let a pair, or circles inside of a module, pass for the time being.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Outcome {
    let root = workspace();
    let picture =
        fs::read_to_string(root.join(PICTURE)).map_err(|error| format!("{PICTURE}: {error}"))?;
    let tables = layers::read(&picture)?;
    let mut problems = Vec::new();
    let mut counted = 0;
    for (folder, table) in &tables {
        let mut files = BTreeMap::new();
        for path in files::files_below(&root.join(folder))? {
            let Ok(name) = path.strip_prefix(root.join(folder)) else {
                continue;
            };
            let name = name.to_string_lossy().replace('\\', "/");
            if name.ends_with(".rs") {
                let text = fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                files.insert(name, text);
            }
        }
        let found = imports::of(&files).map_err(|error| format!("{folder}/{error}"))?;
        counted += found.len();
        let mut here = layers::violations(table, &found);
        let circles = circles::violations(&layers::regular(table, &found));
        here.extend(table.circles(circles));
        problems.extend(
            here.into_iter()
                .map(|problem| format!("{folder}/{problem}")),
        );
    }
    match problems.is_empty() {
        true => say(&format!(
            "{counted} imports in {} folders follow {PICTURE}\n",
            tables.len()
        )),
        false => Err(format!(
            "{} problems with imports; the layers are drawn in {PICTURE}:\n  {}",
            problems.len(),
            problems.join("\n  ")
        )),
    }
}
