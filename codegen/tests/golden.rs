//! The code of a few typical endpoints, compared byte by byte with golden files.
//!
//! It is generated from three releases, without documentation and examples, so that neither a new
//! release nor new documentation changes the files.
//!
//! `GOLDEN_WRITE=1 cargo test -p proxmox-codegen --test golden` writes them; read their diff.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its input should stop"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::facts_json;
use proxmox_codegen::generate::{Input, generate};

/// The endpoints, with the feature that each covers.
const ENDPOINTS: &[(&str, &str)] = &[
    ("GET /access/domains", "a list that everybody may read"),
    ("POST /access/ticket", "secrets, and an order of arguments"),
    ("PUT /access/password", "a secret parameter, and no answer"),
    ("GET /cluster/ha", "an index of what is below"),
    ("GET /cluster/log", "a list with a limit"),
    (
        "POST /nodes/{node}/vzdump",
        "a task or none, enums and property strings",
    ),
    ("PUT /nodes/{node}/config", "indexed property strings"),
    ("GET /nodes/{node}/report", "a text"),
    (
        "GET /nodes/{node}/hardware/pci/{pciid}",
        "a call that is gone",
    ),
    (
        "GET /nodes/{node}/storage/{storage}/file-restore/download",
        "a file",
    ),
    (
        "DELETE /nodes/{node}/storage/{storage}/content/{volume}",
        "a value with slashes at the end of the path",
    ),
    ("GET /pools/{poolid}", "nested objects"),
    ("GET /version", "one object"),
];

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn read_below(folder: &Path, base: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, base, into);
        } else {
            let name = path.strip_prefix(base).unwrap().to_string_lossy();
            into.insert(name.replace('\\', "/"), fs::read_to_string(&path).unwrap());
        }
    }
}

const RELEASES: [&str; 3] = ["7.4.json", "8.4.json", "9.2.json"];

/// The committed schema with the listed endpoints alone.
fn input() -> Input {
    let schema = folder("../schema/pve");
    let mut input = Input {
        lock: fs::read_to_string(schema.join("names.lock")).ok(),
        partial: true,
        ..Input::default()
    };
    let overlay = schema.join("overlay");
    read_below(&overlay, &overlay, &mut input.overlay);
    let is_prose = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or_default();
        ["docs.toml", "examples.toml", "aliases.toml"].contains(&file)
    };
    input.overlay.retain(|name, _| !is_prose(name));
    for release in RELEASES {
        let text = fs::read_to_string(schema.join(release)).unwrap();
        let mut facts = facts_json::read(&text).unwrap();
        facts.endpoints.retain(|path, verbs| {
            verbs.retain(|verb, _| {
                let endpoint = format!("{verb} {path}");
                ENDPOINTS.iter().any(|(listed, _)| *listed == endpoint)
            });
            !verbs.is_empty()
        });
        let text = facts_json::write(&facts);
        input.releases.insert(release.to_owned(), text);
    }
    input
}

#[test]
fn the_code_of_typical_endpoints_equals_the_golden_files() {
    let mut output = generate(&input()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    // Most areas have none of the endpoints.
    output
        .files
        .retain(|_, text| text.contains("const ENDPOINT: "));
    let golden = folder("tests/golden");
    let mut known = BTreeMap::new();
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let _ = fs::remove_dir_all(&golden);
        fs::create_dir_all(&golden).unwrap();
        for (name, text) in &output.files {
            fs::write(golden.join(name), text).unwrap();
        }
    }
    read_below(&golden, &golden, &mut known);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&output.files), names(&known));
    for (name, text) in &output.files {
        let differs = text
            .lines()
            .zip(known[name].lines())
            .position(|(new, old)| new != old);
        assert!(
            text == &known[name],
            "tests/golden/{name} differs, first in line {:?}; GOLDEN_WRITE=1 writes it",
            differs.map(|line| line + 1)
        );
    }
    for (endpoint, shows) in ENDPOINTS {
        let text = format!("`{endpoint}`");
        let in_golden_file = output.files.values().any(|file| file.contains(&text));
        assert!(in_golden_file, "{endpoint} ({shows}) is in no golden file");
    }
}
