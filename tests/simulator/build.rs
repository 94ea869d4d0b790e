//! Embeds the files of `schema/pve`: the documents that the simulator serves, and the releases that
//! it simulates. A new file needs no line here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).unwrap_or_default();
    let schema = variable("CARGO_MANIFEST_DIR").join("../../schema/pve");
    println!("cargo::rerun-if-changed={}", schema.display());
    let mut files = Vec::new();
    list(&schema, &mut files)?;
    files.sort();
    let mut code = "[\n".to_owned();
    for file in files {
        let name = file.strip_prefix(&schema).unwrap_or(&file);
        let name = name.to_string_lossy().replace('\\', "/");
        let path = file.to_string_lossy().into_owned();
        let _ = writeln!(code, "    ({name:?}, include_str!({path:?})),");
    }
    code.push(']');
    fs::write(variable("OUT_DIR").join("schema.rs"), code)?;
    let releases = releases(&schema)?;
    fs::write(variable("OUT_DIR").join("releases.rs"), releases)
}

/// The releases, oldest first, with their facts.
fn releases(schema: &Path) -> io::Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(schema)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".json") else {
            continue;
        };
        let numbers: Result<Vec<u32>, _> = name.split('.').map(str::parse).collect();
        let numbers =
            numbers.map_err(|_| io::Error::other("the file is named after its release"))?;
        let path = path.to_string_lossy().into_owned();
        found.push((numbers, format!("({name:?}, include_str!({path:?}))")));
    }
    found.sort();
    let entries: Vec<String> = found.into_iter().map(|(_, entry)| entry).collect();
    Ok(format!("&[{}]", entries.join(", ")))
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, into)?,
            false => into.push(path),
        }
    }
    Ok(())
}
