//! Time for importing the dumps and generating the crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::facts::Release;
use proxmox_codegen::generate::{self, Input};

use super::measure::{self, Cost};
use super::table::{Table, Unit};
use crate::Outcome;
use crate::files;
use files::files_below;

/// The only column.
pub(super) const COLUMN: &str = "this workspace";

pub(super) fn run(
    dumps: Option<&Path>,
    rounds: usize,
    scratch: &Path,
    table: &mut Table,
) -> Result<(), String> {
    super::progress("regen: building this program for release");
    let workspace = crate::workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = measure::command(cargo, &workspace);
    build
        .args(["build", "--release", "--package", "xtask", "--target-dir"])
        .arg(scratch.join("xtask"));
    measure::run(&build, scratch)?;
    let program = scratch.join("xtask/release/xtask");
    let xtask = |arguments: &[&str]| {
        let mut command = measure::command(&program, &workspace);
        command.args(arguments);
        measure::run(&command, scratch).map(|(cost, _)| cost)
    };
    let dumps = match dumps {
        Some(folder) => dumps_of(folder)?,
        None => {
            table.note("import: pass the folder of the official dumps, RELEASE.js, as --dumps");
            Vec::new()
        }
    };
    let schema = scratch.join("schema");
    for round in 0..rounds * 3 {
        super::progress(&format!("regen, round {}", round + 1));
        if !dumps.is_empty() {
            let mut total = Cost::default();
            for (release, dump) in &dumps {
                let (release, schema) = (release.to_string(), schema.to_string_lossy());
                let dump = dump.to_string_lossy();
                let options = ["--release", &release, "--schema-dir", &schema];
                let cost = xtask(&[&["import", &dump] as &[&str], &options].concat())?;
                total.cpu += cost.cpu;
                total.wall += cost.wall;
                total.peak = total.peak.max(cost.peak);
            }
            add(table, &format!("import of {} dumps", dumps.len()), total);
        }
        for count in ["3", "6", "9"] {
            let cost = xtask(&["bench", "regen", "--only-regen", count])?;
            add(table, &format!("regen of {count} releases"), cost);
        }
    }
    Ok(())
}

fn add(table: &mut Table, title: &str, cost: Cost) {
    for (what, unit, value) in [
        ("wall", Unit::Seconds, cost.wall),
        ("CPU", Unit::Seconds, cost.cpu),
        ("peak memory", Unit::Megabytes, cost.peak),
    ] {
        table.add(&format!("{title}, {what}"), unit, COLUMN, value);
    }
}

/// Generates into memory from this many of the newest releases; runs in a process of its own.
pub(super) fn regen(count: usize) -> Outcome {
    let schema = proxmox_codegen::product::PVE.schema(crate::workspace());
    let mut input = Input {
        partial: true,
        ..Input::default()
    };
    let mut releases = BTreeMap::new();
    for path in files_below(&schema)? {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(&schema).unwrap_or(&path);
        let name = name.to_string_lossy().replace('\\', "/");
        if let Some(part) = name.strip_prefix("overlay/") {
            input.overlay.insert(part.to_owned(), text);
        } else if name == "names.lock" {
            input.lock = Some(text);
        } else if let Some(Ok(release)) = name.strip_suffix(".json").map(str::parse::<Release>) {
            releases.insert(release, (name, text));
        }
    }
    if releases.len() < count {
        return Err(format!("there are only {} releases", releases.len()));
    }
    input.releases = releases.into_values().rev().take(count).collect();
    let output = generate::generate(&input).map_err(|problems| problems.join("\n"))?;
    crate::say(&format!("{} files\n", output.files.len()))
}

/// Dumps by release, from their file names.
fn dumps_of(folder: &Path) -> Result<Vec<(Release, PathBuf)>, String> {
    let mut dumps: Vec<(Release, PathBuf)> = files_below(folder)?
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let release = name.strip_suffix(".js").or(name.strip_suffix(".json"))?;
            Some((release.parse().ok()?, path.clone()))
        })
        .collect();
    dumps.sort();
    match dumps.is_empty() {
        true => Err(format!("{}: no RELEASE.js", folder.display())),
        false => Ok(dumps),
    }
}
