//! `cargo xtask tidy`: checks the imports of the code against the layers in ARCHITECTURE.md.

mod circles;
mod data;
mod imports;
mod layers;
mod links;
mod programs;
mod signatures;

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Outcome, files, say, workspace};
use layers::Table;

const PICTURE: &str = "ARCHITECTURE.md";
const LIBRARY: &str = "proxmox-api/src";
const GUIDE: &str = "proxmox-api/src/guide";

/// Check imports against the layers of ARCHITECTURE.md, and public types against what they have to be
///
/// A fenced block `layers <folder>` lists the modules of one source folder, the highest layer
/// first. A module may import modules on lower lines only; modules on one line are independent. No
/// more than two files may import each other in a circle.
/// Public signatures name no type of an internal crate. Public types of data are compared, written and read.
/// The documentation of the library, README.md included, links to no file of the checkout.
/// Each file of tests is part of a program.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Outcome {
    let root = workspace();
    let tables = tables(&root)?;
    let mut problems = Vec::new();
    let mut counted = 0;
    for (folder, table) in &tables {
        let (count, found) = check(folder, table, &sources(&root.join(folder))?)?;
        counted += count;
        problems.extend(found);
    }
    let library = sources(&root.join(LIBRARY))?;
    let mut named = signatures::violations(&library)?;
    named.extend(data::violations(&library)?);
    problems.extend(
        named
            .into_iter()
            .map(|problem| format!("{LIBRARY}/{problem}")),
    );
    let mut pages = library;
    pages.insert(
        "../../README.md".to_owned(),
        files::read(&root.join("README.md"))?,
    );
    for path in files::files_below(&root.join(GUIDE))? {
        pages.insert(
            files::relative(&root.join(LIBRARY), &path),
            files::read(&path)?,
        );
    }
    problems.extend(
        links::violations(&pages)
            .into_iter()
            .map(|problem| format!("{LIBRARY}/{problem}")),
    );
    problems.extend(programs::forgotten(&root)?);
    match problems.is_empty() {
        true => say(&format!(
            "{counted} imports in {} folders follow {PICTURE}\n",
            tables.len()
        )),
        false => Err(format!(
            "{} problems; the layers are drawn in {PICTURE}:\n  {}",
            problems.len(),
            problems.join("\n  ")
        )),
    }
}

fn tables(root: &Path) -> Result<BTreeMap<String, Table>, String> {
    layers::read(&files::read(&root.join(PICTURE))?)
}

/// The Rust files of a folder, by path below it.
fn sources(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut sources = BTreeMap::new();
    for path in files::files_below(folder)? {
        let name = files::relative(folder, &path);
        if name.ends_with(".rs") {
            sources.insert(name, files::read(&path)?);
        }
    }
    Ok(sources)
}

/// The number of imports of a folder, and the violations.
fn check(
    folder: &str,
    table: &Table,
    sources: &BTreeMap<String, String>,
) -> Result<(usize, Vec<String>), String> {
    let imports = imports::of(sources).map_err(|error| format!("{folder}/{error}"))?;
    let mut problems = layers::violations(table, &imports);
    problems.extend(circles::violations(&imports));
    let named = problems
        .into_iter()
        .map(|problem| format!("{folder}/{problem}"));
    Ok((imports.len(), named.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real folders pass, and fail once a file of the lowest layer imports one of the highest.
    #[test]
    fn an_import_against_the_layers_is_found_in_the_real_tree() {
        let root = workspace();
        for (folder, table) in tables(&root).expect("ARCHITECTURE.md has layers") {
            let mut sources = sources(&root.join(&folder)).expect("the folder is readable");
            let (count, problems) = check(&folder, &table, &sources).expect("the files parse");
            assert!(count > 0, "{folder} has imports");
            assert_eq!(problems, [""; 0]);
            let (lowest, highest) = table.ends().expect("at least two layers");
            sources.insert(
                format!("{lowest}/planted.rs"),
                format!("use crate::{highest}::anything;"),
            );
            let (_, problems) = check(&folder, &table, &sources).expect("the files parse");
            let planted = format!("{folder}/{lowest}/planted.rs:1: `{lowest}` imports `{highest}`");
            assert!(
                problems.iter().any(|problem| problem.starts_with(&planted)),
                "{folder}: {problems:?}"
            );
        }
    }
}
