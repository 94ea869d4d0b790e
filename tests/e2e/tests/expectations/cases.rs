//! Each fault that was seen with a real server has a test: `cases.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proxmox_api::error::ErrorKind;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    entry: String,
    /// Files and their tests.
    #[serde(default)]
    tests: Vec<String>,
    /// Texts of refusals, and their kinds.
    #[serde(default)]
    kinds: BTreeMap<String, String>,
    /// The expected refusals of the simulator's cases.
    refusal: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cases() -> Vec<Case> {
    let cases: Cases = toml::from_str(include_str!("cases.toml")).expect("cases.toml");
    cases.case
}

#[test]
fn every_case_has_a_test() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let entry = &case.entry;
        assert!(seen.insert(entry.clone()), "{entry} is listed twice");
        assert!(
            !case.tests.is_empty() || !case.kinds.is_empty(),
            "{entry} has no test"
        );
        for test in &case.tests {
            let (file, name) = test.split_once(' ').expect("a file and a name");
            let text = std::fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{entry}: {file}: {error}"));
            let found = text
                .split("#[")
                .filter(|part| part.contains(&format!("fn {name}(")));
            let mut tests =
                found.filter(|part| part.starts_with("test]") || part.starts_with("tokio::test"));
            assert!(tests.next().is_some(), "{entry}: {file} has no test {name}");
        }
        for (text, kind) in &case.kinds {
            assert_eq!(
                format!("{:?}", ErrorKind::of_text(text)),
                *kind,
                "{entry}: {text}"
            );
        }
        if let Some(refusal) = &case.refusal {
            let file = root().join("tests/simulator/tests/refusals/guests.toml");
            let text = std::fs::read_to_string(file).expect("refusals of guests");
            assert!(text.contains(refusal), "{entry}: no case expects {refusal}");
        }
    }
}

#[test]
fn no_entry_is_missing() {
    let folder = root().join("../shared/cases");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: the cases are not beside the workspace");
        return;
    };
    let covered: BTreeSet<String> = cases().into_iter().map(|case| case.entry).collect();
    let mut open = BTreeSet::new();
    let mut entries = 0;
    for file in files {
        let file = file.expect("a file").path();
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if file.extension().is_some_and(|ending| ending == "jsonl") {
            // Replayed completely by `strict.rs`, and the simulator's `validation.rs` and
            // `validate.rs`.
            let replayed = ["property-strings", "validation-9.2"];
            assert!(replayed.contains(&&*name), "{name} is replayed by no test");
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("readable");
        let listed: Vec<Value> = serde_json::from_str(&text).expect("a list of entries");
        for entry in listed {
            entries += 1;
            let entry = format!("{name} {}", entry["id"].as_str().expect("an id"));
            if !covered.contains(&entry) {
                open.insert(entry);
            }
        }
    }
    println!("{entries} entries are covered by {} cases", covered.len());
    assert!(open.is_empty(), "no case covers {open:?}");
}
