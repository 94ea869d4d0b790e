//! Every endpoint, every answer and every property string, held against the schema.

use std::collections::BTreeSet;

use proxmox_simulator::{facts, releases};

mod answers;
mod cases;
mod documents;
mod meaning;
mod members;
mod noise;
mod properties;
mod releases;
mod replay;
mod secrets;
mod settings;
mod strict;
mod wires;

/// Every endpoint of any release, as `GET /path`, read from the facts.
fn endpoints() -> BTreeSet<String> {
    let mut endpoints = BTreeSet::new();
    for release in releases() {
        for (path, verbs) in &facts(release).expect(release).endpoints {
            endpoints.extend(verbs.keys().map(|verb| format!("{verb} {path}")));
        }
    }
    endpoints
}
