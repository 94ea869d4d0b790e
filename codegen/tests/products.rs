//! The other Proxmox products: their dumps are imported and generated, with an overlay of the
//! required decisions only.
//!
//! The dumps are beside the workspace; without them the test says that it is skipped.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its input should stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::apidoc::{self, Origin};
use proxmox_codegen::facts_json;
use proxmox_codegen::generate::{Input, Output, generate};
use proxmox_codegen::product::{PBS, PDM, PMG, PVE, Product};

const DUMPS: [(&Product, &str, &str); 3] = [
    (&PBS, "4.2", "pbs/4.2.json"),
    (&PDM, "1.1", "pdm/1.1.json"),
    (&PMG, "6.3", "pmg/6.3.js"),
];

#[allow(dead_code, reason = "the generator needs only a part")]
#[path = "../../proxmox-api/src/value/product.rs"]
mod library;

#[test]
fn the_library_has_the_same_facts() {
    let (ours, theirs) = (&PVE, &library::PVE);
    assert_eq!(ours.title, theirs.name);
    assert_eq!(ours.port, theirs.port);
    assert_eq!(ours.cookie, theirs.cookie);
    assert_eq!(ours.token, Some((theirs.token, theirs.token_separator)));
}

/// A format that the library does not know would pass without a check.
#[test]
fn the_library_checks_the_formats_that_the_overlay_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = fs::read_to_string(PVE.overlay(&root).join("rules.toml")).unwrap();
    let rules: toml::Table = rules.parse().unwrap();
    let library = root.join("proxmox-api/src/value/limits.rs");
    let library = fs::read_to_string(library).unwrap();
    let (_, checks) = library.split_once("fn accepts(").unwrap();
    let (checks, _) = checks.split_once("\n}\n").unwrap();
    let known: BTreeSet<&str> = checks
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "))
        .map(|(format, _)| format)
        .collect();
    let formats = rules["checked_formats"].as_array().unwrap();
    let formats: BTreeSet<&str> = formats.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(formats, known);
}

fn dump(path: &str) -> Option<Vec<u8>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/apidoc");
    fs::read(folder.join(path)).ok()
}

/// The decisions that a run requires, made in the simplest way.
#[derive(Default)]
struct Decisions {
    texts: Vec<String>,
    strings: Vec<(String, String)>,
    items: Vec<String>,
    lists: Vec<String>,
    apart: Vec<String>,
    /// Problems that only a change of the generator can fix.
    left: Vec<String>,
}

impl Decisions {
    fn take(&mut self, problem: &str) {
        let place = problem.split(": ").next().unwrap_or_default();
        let endpoint = place.split(['?', '#']).next().unwrap_or_default();
        let leaf = || place.rsplit(['?', '#', '.']).next().unwrap_or_default();
        if problem.contains("the result is a string") {
            self.texts.push(place.to_owned());
        } else if problem.contains("this property string needs a name") {
            let (_, path) = endpoint.split_once(' ').unwrap();
            self.strings
                .push((path.to_owned(), leaf().trim_end_matches("[]").to_owned()));
        } else if problem.contains("is too long")
            || problem.contains(": needs a name in names.toml")
        {
            self.items.push(place.to_owned());
        } else if problem.contains("how the server splits this list") {
            self.lists.push(place.to_owned());
        } else if problem.contains("say in settings.toml") {
            self.apart.push(place.to_owned());
        } else {
            self.left.push(problem.to_owned());
        }
    }

    fn overlay(&self) -> String {
        let mut text =
            "[[area]]\nname = \"all\"\nprefix = \"\"\nabout = \"Everything.\"\nalways = true\n\
                        [required]\n[texts]\n"
                .to_owned();
        for endpoint in &self.texts {
            let _ = writeln!(text, "{endpoint:?} = \"a text, or a task\"");
        }
        let mut scopes: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        for (n, (path, leaf)) in self.strings.iter().enumerate() {
            let fields = scopes.entry(path).or_default();
            if fields.iter().all(|(_, known)| known != leaf) {
                fields.push((n, leaf));
            }
        }
        for (path, fields) in scopes {
            let _ = writeln!(text, "[property_strings.{path:?}]");
            for (n, leaf) in fields {
                let _ = writeln!(text, "{leaf:?} = \"String{n}\"");
            }
        }
        let _ = writeln!(text, "[items]");
        for (n, place) in self.items.iter().enumerate() {
            let _ = writeln!(text, "Item{n} = {place:?}");
        }
        let _ = writeln!(text, "[apart]");
        for place in &self.apart {
            let _ = writeln!(text, "{place:?} = \"of another type\"");
        }
        for place in &self.lists {
            let _ = writeln!(
                text,
                "[[list]]\nat = [{place:?}]\nsplit = \"any\"\nsource = \"a test\""
            );
        }
        text
    }
}

/// Generates, and adds decisions until the run reports no problem that a decision can fix.
fn settled(mut input: Input) -> Result<Output, Vec<String>> {
    let mut decisions = Decisions::default();
    loop {
        input
            .overlay
            .insert("all.toml".to_owned(), decisions.overlay());
        let problems = match generate(&input) {
            Ok(output) => return Ok(output),
            Err(problems) => problems,
        };
        let before = decisions.overlay();
        for problem in problems {
            decisions.take(&problem);
        }
        if !decisions.left.is_empty() || decisions.overlay() == before {
            return Err(decisions.left);
        }
    }
}

#[test]
fn the_dumps_of_other_products_can_be_imported_and_generated() {
    for (product, release, path) in DUMPS {
        let Some(text) = dump(path) else {
            println!("skipped: there is no dump {path}");
            continue;
        };
        let origin = Origin {
            product,
            release: release.parse().unwrap(),
            package_version: None,
        };
        let facts = apidoc::parse(&text, &origin).unwrap_or_else(|problems| {
            panic!("{path}: {:?}", problems.lines());
        });
        let endpoints: usize = facts.endpoints.values().map(BTreeMap::len).sum();
        let input = Input {
            releases: BTreeMap::from([(format!("{release}.json"), facts_json::write(&facts))]),
            partial: true,
            ..Input::default()
        };
        let output = settled(input).unwrap_or_else(|problems| panic!("{path}: {problems:#?}"));
        let code = &output.files["all.rs"];
        assert_eq!(output.report.endpoints, endpoints, "{path}");
        assert_eq!(
            code.matches("const ENDPOINT: ").count(),
            endpoints,
            "{path}"
        );
        println!(
            "{path}: {endpoints} endpoints, {} lines, {} answers untyped",
            code.lines().count(),
            output.report.returns_untyped.len()
        );
    }
}
