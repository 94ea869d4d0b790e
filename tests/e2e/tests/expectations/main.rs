//! Every endpoint, answer and property string, compared with the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proxmox_simulator::{facts as facts_of, releases};

mod answers;
mod cases;
mod documents;
mod edges;
mod facts;
mod fuzz;
mod meaning;
mod members;
mod properties;
mod releases;
mod replay;
mod requests;
mod secrets;
mod settings;
mod strict;

/// Every endpoint of any release, as `GET /path`, read from the facts.
fn endpoints() -> BTreeSet<String> {
    let mut endpoints = BTreeSet::new();
    for release in releases() {
        for (path, verbs) in &facts_of(release).expect(release).endpoints {
            endpoints.extend(verbs.keys().map(|verb| format!("{verb} {path}")));
        }
    }
    endpoints
}

/// The files of the overlay, by their paths below its folder.
fn overlay() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/pve/overlay");
    texts(&folder, "", &mut found);
    found
}

/// The files of a folder and its subfolders, by path below it.
fn texts(folder: &Path, below: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{below}{name}");
        match path.is_dir() {
            true => texts(&path, &format!("{name}/"), found),
            false => {
                let text = std::fs::read_to_string(&path).expect("readable");
                found.insert(name, text);
            }
        }
    }
}
