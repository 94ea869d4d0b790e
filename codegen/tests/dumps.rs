//! The importer with the official dumps. They are not part of this repository; these tests need
//! them beside it, as `shared/apidoc/<product>/<release>.{js,json}`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proxmox_codegen::apidoc::{self, Origin};
use proxmox_codegen::facts::{Facts, Format, Schema};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::{PBS, PDM, PMG, PVE, Product};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The dumps of a product: release and file. Empty, with a message, without dumps.
fn dumps(product: &str) -> Vec<(String, PathBuf)> {
    let folder = root().join("../shared/apidoc").join(product);
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: no dumps at {}", folder.display());
        return Vec::new();
    };
    let mut dumps: Vec<(String, PathBuf)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                path,
            )
        })
        .collect();
    dumps.sort();
    dumps
}

fn import(
    path: &Path,
    product: &'static Product,
    release: &str,
    package_version: Option<String>,
) -> Facts {
    let origin = Origin {
        product,
        release: release.parse().unwrap(),
        package_version,
    };
    apidoc::parse(&fs::read(path).unwrap(), &origin)
        .unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()))
}

#[test]
fn an_import_reproduces_the_committed_files() {
    for (release, path) in dumps("pve") {
        let committed = root().join(format!("schema/pve/{release}.json"));
        let text = fs::read_to_string(&committed).unwrap();
        let version = facts_json::read(&text).unwrap().package_version;
        let facts = import(&path, &PVE, &release, version);
        assert!(
            facts_json::write(&facts) == text,
            "{} differs from an import",
            committed.display()
        );
    }
}

fn schemas(facts: &Facts) -> (usize, usize) {
    fn walk(schema: &Schema, count: &mut (usize, usize)) {
        count.0 += 1;
        let nested = schema.properties.iter().flatten().map(|(_, schema)| schema);
        nested.for_each(|schema| walk(schema, count));
        schema.items.iter().for_each(|schema| walk(schema, count));
        schema
            .one_of
            .iter()
            .flatten()
            .for_each(|schema| walk(schema, count));
        match &schema.format {
            None | Some(Format::Name(_)) => {}
            Some(Format::Keys(keys)) => {
                count.1 += 1;
                keys.values().for_each(|schema| walk(schema, count));
            }
            Some(Format::List(list)) => {
                count.1 += 1;
                walk(list, count);
            }
        }
    }
    let mut count = (0, 0);
    for endpoint in facts
        .endpoints
        .values()
        .flat_map(|methods| methods.values())
    {
        endpoint
            .parameters
            .properties
            .values()
            .for_each(|schema| walk(schema, &mut count));
        walk(&endpoint.returns, &mut count);
    }
    count
}

/// The other products are read, too: paths, methods, downloads, uploads, property strings.
#[test]
fn the_other_products() {
    let expected = [
        ("pbs", &PBS, [246, 367, 11, 5, 106]),
        ("pmg", &PMG, [221, 338, 2, 0, 0]),
        ("pdm", &PDM, [253, 327, 7, 0, 1320]),
    ];
    for (name, product, numbers) in expected {
        for (release, path) in dumps(name) {
            let facts = import(&path, product, &release, None);
            let methods = || {
                facts
                    .endpoints
                    .values()
                    .flat_map(|methods| methods.values())
            };
            let found = [
                facts.endpoints.len(),
                methods().count(),
                methods().filter(|endpoint| endpoint.download).count(),
                methods().filter(|endpoint| endpoint.upload).count(),
                schemas(&facts).1,
            ];
            assert_eq!(found, numbers, "{name} {release}");
            assert_eq!(
                facts_json::read(&facts_json::write(&facts)).as_ref(),
                Ok(&facts)
            );
        }
    }
}

/// A truncated download ends at any byte.
#[test]
fn a_truncated_dump_is_refused() {
    let Some((release, path)) = dumps("pve").pop() else {
        return;
    };
    let source = fs::read(path).unwrap();
    let origin = Origin {
        product: &PVE,
        release: release.parse().unwrap(),
        package_version: None,
    };
    let end = source.iter().rposition(|&byte| byte == b']').unwrap();
    for part in 0..24 {
        let cut = end * part / 23;
        let message = apidoc::parse(&source[..cut], &origin)
            .unwrap_err()
            .to_string();
        let known = ["; the file is cut off", "nor `const … = [`"];
        assert!(
            known.iter().any(|known| message.ends_with(known)),
            "cut at {cut}: {message}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// A damaged dump gives facts that can be written and read, or problems.
    #[test]
    fn a_damaged_dump_causes_no_panic(
        hits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]{0,3}"), 1..12),
    ) {
        if let Some((release, path)) = dumps("pve").pop() {
            let mut source = fs::read(path).unwrap();
            for (at, text) in hits {
                let at = at.index(source.len());
                source.splice(at..=at, text.into_bytes());
            }
            let origin = Origin {
                product: &PVE,
                release: release.parse().unwrap(),
                package_version: None,
            };
            match apidoc::parse(&source, &origin) {
                Ok(facts) => {
                    let again = facts_json::read(&facts_json::write(&facts));
                    prop_assert_eq!(again.as_ref(), Ok(&facts));
                }
                Err(problems) => prop_assert!(!problems.to_string().is_empty()),
            }
        }
    }
}

/// Writes every committed release as a dump, and reads it back.
#[test]
fn facts_become_a_dump_and_facts_again() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("schema/pve")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let facts = facts_json::read(&fs::read_to_string(&path).unwrap()).unwrap();
        let dump = proxmox_codegen::dump::write(&facts);
        let origin = Origin {
            product: &PVE,
            release: facts.release,
            package_version: facts.package_version.clone(),
        };
        let mut read = apidoc::parse(dump.as_bytes(), &origin)
            .unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
        assert_ne!(read.source_sha256, facts.source_sha256);
        read.source_sha256.clone_from(&facts.source_sha256);
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                assert_eq!(&read.endpoints[path][method], endpoint, "{method} {path}");
            }
        }
        assert!(read == facts, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}
