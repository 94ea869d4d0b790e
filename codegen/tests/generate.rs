//! The whole generation from schema and overlay to text: its output, and the problems that stop it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its input should stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proxmox_codegen::facts::{Facts, Release};
use proxmox_codegen::facts_json;
use proxmox_codegen::generate::{Input, Output, catalog, explain, generate, openapi};

const AREAS: &str =
    "[[area]]\nname = \"all\"\nprefix = \"\"\nabout = \"Everything.\"\nalways = true\n";

/// One release with the given endpoints, as `schema/` holds it.
fn release(name: &str, endpoints: &str) -> (String, String) {
    let text = format!(
        r#"{{"product": "pve", "release": "{name}", "package_version": null, "source_sha256": "{}",
            "formats": {{}}, "endpoints": {endpoints}}}"#,
        "0".repeat(64)
    );
    (format!("{name}.json"), text)
}

fn input(releases: &[(&str, &str)], overlay: &[(&str, &str)]) -> Input {
    let mut files = BTreeMap::from([("areas.toml".to_owned(), AREAS.to_owned())]);
    files.extend(
        overlay
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
    );
    Input {
        releases: releases
            .iter()
            .map(|(name, endpoints)| release(name, endpoints))
            .collect(),
        overlay: files,
        ..Input::default()
    }
}

fn written(input: &Input) -> String {
    match generate(input) {
        Ok(output) => output.files["all.rs"].clone(),
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn problems(input: &Input) -> Vec<String> {
    generate(input).expect_err("this input has problems")
}

fn schema_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/pve")
}

fn read_below(folder: &Path, base: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, base, into);
        } else {
            let name = path
                .strip_prefix(base)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            into.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn committed() -> Input {
    let folder = schema_folder();
    let mut input = Input::default();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".json") {
            input
                .releases
                .insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    read_below(
        &folder.join("overlay"),
        &folder.join("overlay"),
        &mut input.overlay,
    );
    input.lock = fs::read_to_string(folder.join("names.lock")).ok();
    input
}

fn same(left: &Output, right: &Output) -> bool {
    left.files == right.files && left.lock == right.lock && left.report == right.report
}

#[test]
fn the_committed_schema_gives_the_same_bytes_every_time_and_every_endpoint() {
    let first = generate(&committed()).unwrap();
    let second = generate(&committed()).unwrap();
    assert!(same(&first, &second));
    let releases: BTreeMap<Release, Facts> = (committed().releases.values())
        .map(|text| facts_json::read(text).unwrap())
        .map(|facts| (facts.release, facts))
        .collect();
    let endpoints = |facts: &Facts| {
        let pairs = facts.endpoints.iter();
        let pairs =
            pairs.flat_map(|(path, verbs)| verbs.keys().map(move |verb| (path.clone(), *verb)));
        pairs.collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<_> = releases.values().flat_map(endpoints).collect();
    let (_, newest) = releases.last_key_value().unwrap();
    assert_eq!(first.report.endpoints, all.len());
    assert_eq!(first.report.newest_endpoints, endpoints(newest).len());
    let text: String = first.files.values().map(String::as_str).collect();
    assert_eq!(text.matches("const ENDPOINT: ").count(), all.len());
    assert!(
        first.report.returns_untyped.is_empty(),
        "{:?}",
        first.report.returns_untyped
    );
}

#[test]
fn privileges_match_the_checks_of_handlers() {
    let catalog = catalog(&committed()).unwrap();
    let mut checked = 0;
    let mut wrong = Vec::new();
    let lines = include_str!("privileges.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [call, _source, expected] = *line.split(" | ").collect::<Vec<_>>() else {
            panic!("a call, a source and words: {line}");
        };
        let (only, key) = match call.strip_prefix("only ") {
            Some(key) => (true, key),
            None => (false, call),
        };
        let mut calls = catalog.calls.iter();
        let found = calls.find(|call| format!("{} {}", call.verb, call.path) == key);
        let text = found
            .unwrap_or_else(|| panic!("{key} is not a call"))
            .privileges
            .join("\n");
        checked += 1;
        for words in expected.split("; ") {
            if !text.contains(words) {
                wrong.push(format!("{key} does not say: {words}\n    but: {text}"));
            }
        }
        if only && text.contains("\n* ") {
            wrong.push(format!(
                "{key} lists special cases, but its handler has none: {text}"
            ));
        }
        if text.contains("a login, but no privileges") {
            wrong.push(format!(
                "{key} needs privileges, but its documentation says none"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 60, "{checked} calls");
}

#[test]
fn names_do_not_depend_on_the_lock() {
    let locked = generate(&committed()).unwrap();
    let fresh = generate(&Input {
        lock: None,
        ..committed()
    })
    .unwrap();
    let only = |lock: &str, other: &str| {
        lock.lines()
            .filter(|line| !other.lines().any(|l| l == *line))
            .count()
    };
    // A few names were given before the generator chose names as it does now; all others are what it
    // would choose.
    assert!(only(&locked.lock, &fresh.lock) <= locked.lock.lines().count() / 20);
}

const TWO_RELEASES: [(&str, &str); 2] = [
    (
        "8.4",
        r#"{"/things": {"GET": {"parameters": {"kind": {"type": "string", "optional": true, "enum": ["a", "old"]}},
            "returns": {"type": "array", "items": {"type": "object", "properties": {
                "id": {"type": "string"}, "size": {"type": "integer"}}}}}}}"#,
    ),
    (
        "9.0",
        r#"{"/things": {"GET": {"parameters": {
                "kind": {"type": "string", "optional": true, "enum": ["a", "new"]},
                "limit": {"type": "integer", "optional": true, "minimum": 1}},
            "returns": {"type": "array", "items": {"type": "object", "properties": {
                "id": {"type": "string"}, "size": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}}}}}}"#,
    ),
];

#[test]
fn releases_widen_each_other() {
    let text = written(&input(&TWO_RELEASES, &[]));
    // Required in both stays required; missing in one is optional; integer and number are number.
    assert!(text.contains("pub id: String,"), "{text}");
    assert!(text.contains("pub size: f64,"), "{text}");
    assert!(text.contains("pub tags: Option<Vec<String>>,"), "{text}");
    // Values of all releases, with the releases that have them.
    assert!(text.contains("/// The value `new`. Since 9.0."), "{text}");
    assert!(text.contains("/// The value `old`. Until 8.4."), "{text}");
    assert!(text.contains("At least 1. Since 9.0."), "{text}");
}

#[test]
fn a_string_result_has_to_be_classified() {
    let endpoints = r#"{"/go": {"POST": {"returns": {"type": "string"}}}}"#;
    let found = problems(&input(&[("9.0", endpoints)], &[]));
    assert!(
        found
            .iter()
            .any(|p| p.contains("POST /go") && p.contains("returns.toml")),
        "{found:?}"
    );
    let task = input(
        &[("9.0", endpoints)],
        &[("returns.toml", "tasks = [\"POST /go\"]")],
    );
    assert!(written(&task).contains("Request<Task>"));
}

#[test]
fn a_list_needs_its_separator() {
    let endpoints = r#"{"/link": {"PUT": {"parameters": {
        "members": {"type": "string", "optional": true, "format": "pve-iface-list"},
        "domains": {"type": "string", "optional": true}}, "returns": {"type": "null"}}}}"#;
    let found = problems(&input(&[("9.0", endpoints)], &[]));
    assert!(
        found
            .iter()
            .any(|p| p.contains("PUT /link?members") && p.contains("lists.toml")),
        "{found:?}"
    );
    let lists = "[[list]]\nat = [\"PUT /link?members\"]\nsplit = \"blank\"\nsource = \"a.pm:1\"\n\
                 [[list]]\nat = [\"/link?domains\"]\nsplit = \"any\"\nundeclared = true\nsource = \"a.pm:2\"\n";
    let text = written(&input(&[("9.0", endpoints)], &[("lists.toml", lists)]));
    assert!(
        text.contains(".separators(&[(\"members\", ' ')])"),
        "{text}"
    );
    assert!(
        text.contains("domains: impl IntoItemsSetting<String,"),
        "{text}"
    );
    let typo = lists.replace("PUT /link?members", "PUT /link?member");
    let found = problems(&input(&[("9.0", endpoints)], &[("lists.toml", &typo)]));
    assert!(
        found
            .iter()
            .any(|p| p == "lists.toml:2: list PUT /link?member: matches nothing"),
        "{found:?}"
    );
}

#[test]
fn a_property_string_needs_a_name_and_gets_its_keys() {
    let endpoints = r#"{"/card": {"PUT": {"parameters": {"net[n]": {"type": "string", "optional": true, "format": {
        "model": {"type": "string", "default_key": true},
        "macaddr": {"type": "string", "optional": true},
        "e1000": {"alias": "macaddr", "key_alias": "model"},
        "rate": {"type": "number", "optional": true}}}}, "returns": {"type": "null"}}}}"#;
    let found = problems(&input(&[("9.0", endpoints)], &[]));
    assert!(
        found.iter().any(|p| p.contains("PUT /card?net[n]")),
        "{found:?}"
    );
    let names = "[property_strings.\"/card\"]\n\"net[n]\" = \"Card\"\n[last_index.\"/card\"]\n\"net[n]\" = 31\n";
    let text = written(&input(&[("9.0", endpoints)], &[("names.toml", names)]));
    assert!(text.contains("pub struct Card {"), "{text}");
    assert!(text.contains("pub fn e1000() -> Self"), "{text}");
    assert!(text.contains("net: impl IntoSetting<Card,"), "{text}");
}

#[test]
fn an_unused_entry_fails_the_run_and_all_problems_are_reported() {
    let overlay = [
        (
            "words/a.toml",
            "[endpoints]\n\"GET /nowhere\" = \"Nothing.\"\n",
        ),
        ("secrets.toml", "[secret.names]\nnever = \"nowhere\"\n"),
        (
            "patches/a.toml",
            "[[patch]]\nat = [\"GET /things\"]\npointer = \"/returns/items/properties/absent\"\nset = { optional = true }\nsource = \"a test\"\nreason = \"a test\"\n",
        ),
    ];
    let found = problems(&input(&TWO_RELEASES, &overlay));
    for part in [
        "GET /nowhere",
        "secret.names never",
        "patches/a.toml: patch 1",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(part)),
            "{part}: {found:?}"
        );
    }
}

#[test]
fn the_overlay_merges_enums_and_keeps_them_apart() {
    let choice = |name: &str, values: &str| {
        format!(r#""{name}": {{"type": "string", "enum": [{values}], "optional": true}}"#)
    };
    let levels = r#""high", "low""#;
    let endpoints = |other: &str| {
        format!(
            r#"{{"/pump": {{"PUT": {{"parameters": {{{}, {}}}, "returns": {{"type": "null"}}}}}},
                 "/tank": {{"PUT": {{"parameters": {{{}}}, "returns": {{"type": "null"}}}}}}}}"#,
            choice("level_in", levels),
            choice("level_out", other),
            choice("level_in", levels),
        )
    };
    let names = "[enums.\"/pump\"]\nlevel_in = \"Level\"\nlevel_out = \"Level\"\n";
    let generated = |other: &str| {
        let endpoints = endpoints(other);
        generate(&input(&[("9.0", &endpoints)], &[("names.toml", names)]))
    };
    let text = generated(levels).expect("there is no problem").files["all.rs"].clone();
    let enums: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix("pub enum "))
        .collect();
    assert_eq!(enums, ["Level {", "TankLevelIn {"], "{text}");
    let found = generated(r#""high""#).expect_err("the values differ");
    assert_eq!(
        found,
        [
            "PUT /pump?level_out: [enums] of names.toml gives this the name of an enum with other values; give all its places the same values by a patch (`set = { enum = […] }`), or leave this one out"
        ]
    );
}

/// All entries about one endpoint may be in one file, whatever their kinds.
#[test]
fn an_entry_may_be_in_any_file_but_only_once() {
    let entries = "tasks = [\"POST /go\"]\n\
                   [endpoints]\n\"POST /go\" = \"Sets off.\"\n\
                   [[patch]]\nat = [\"POST /go\"]\npointer = \"/parameters/speed\"\nadd = { type = \"integer\", optional = true }\n\
                   source = \"a test\"\nreason = \"a test\"\n";
    let endpoints = r#"{"/go": {"POST": {"parameters": {}, "returns": {"type": "string"}}}}"#;
    let releases = [("9.0", endpoints)];
    let text = written(&input(&releases, &[("travel/go.toml", entries)]));
    assert!(
        text.contains("Sets off.") && text.contains("pub fn speed<How>("),
        "{text}"
    );
    let again = "[endpoints]\n\"POST /go\" = \"Starts.\"\n";
    let found = problems(&input(
        &releases,
        &[("travel/go.toml", entries), ("words/a.toml", again)],
    ));
    assert_eq!(found, ["words/a.toml: endpoints POST /go is given twice"]);
}

#[test]
fn an_explanation_names_the_entries_of_an_endpoint_and_their_lines() {
    let found = explain(&committed(), "GET /nodes/{node}/apt").expect("the endpoint exists");
    let words = found
        .entries
        .iter()
        .find(|(entry, ..)| entry == "endpoints GET /nodes/{node}/apt");
    let (_, file, line) = words.expect("the endpoint is described");
    let overlay = &committed().overlay[file];
    let text = overlay.lines().nth(line - 1).unwrap_or_default();
    assert!(text.starts_with("\"GET /nodes/{node}/apt\" = "), "{text}");
    assert_eq!(found.call.path, "/nodes/{node}/apt");
    assert!(explain(&committed(), "GET /nowhere").is_err());
}

#[test]
fn a_patch_changes_the_facts_of_its_releases() {
    let patch = "[[patch]]\nat = [\"GET /things\"]\npointer = \"/returns/items/properties/id\"\nsince = \"9.0\"\n\
                 replace = { type = \"string\", optional = true }\nsource = \"a test\"\nreason = \"a test\"\n";
    let text = written(&input(&TWO_RELEASES, &[("patches/a.toml", patch)]));
    assert!(text.contains("pub id: Option<String>,"), "{text}");
}

#[test]
fn a_renamed_parameter_has_one_setter_and_is_sent_under_the_servers_name() {
    let releases = [
        (
            "9.0",
            r#"{"/copy": {"POST": {"parameters": {"newid": {"type": "integer"}, "max_speed": {"type": "integer", "optional": true}},
                "returns": {"type": "null"}}}}"#,
        ),
        (
            "9.1",
            r#"{"/copy": {"POST": {"parameters": {"new-id": {"type": "integer"}, "max-speed": {"type": "integer", "optional": true},
                "with": {"type": "string", "optional": true, "requires": "new-id"}}, "returns": {"type": "null"}}}}"#,
        ),
    ];
    // Without an entry: two names for one setter, with both remedies.
    let found = problems(&input(&releases, &[]));
    let clash = found
        .iter()
        .find(|problem| problem.contains("would both be called max_speed"));
    let clash = clash.unwrap_or_else(|| panic!("{found:?}"));
    assert!(clash.contains(r#"under [names."POST /copy"]"#), "{clash}");
    assert!(clash.contains(r#"under [renamed."POST /copy"]"#), "{clash}");

    let one = "[renamed.\"POST /copy\"]\n\"new-id\" = \"newid\"\n";
    let two = "[names.\"/copy\"]\n\"max-speed\" = \"top_speed\"\n";
    let text = written(&input(&releases, &[("a.toml", one), ("b.toml", two)]));
    assert!(text.contains("newid: impl IntoValue<i64,"), "{text}");
    assert!(
        text.contains("Renamed::new(\"newid\", \"new-id\", Release::new(9, 1))"),
        "{text}"
    );
    assert!(
        text.contains("pub fn max_speed<How>") && text.contains("pub fn top_speed<How>"),
        "{text}"
    );
    assert!(text.contains("\"max-speed\", top_speed"), "{text}");

    // Invalid entries, and entries without effect.
    let both = one.replace("\"new-id\" = \"newid\"", "\"with\" = \"new-id\"");
    let found = problems(&input(&releases, &[("a.toml", &both), ("b.toml", two)]));
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("release 9.1 has new-id as well")),
        "{found:?}"
    );
    let back = one.replace("\"new-id\" = \"newid\"", "newid = \"new-id\"");
    let found = problems(&input(&releases, &[("a.toml", &back), ("b.toml", two)]));
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("release 9.1 calls it new-id again")),
        "{found:?}"
    );
    let absent = two.replace("/copy", "/move");
    let found = problems(&input(&releases, &[("a.toml", one), ("b.toml", &absent)]));
    assert!(
        found
            .iter()
            .any(|problem| problem == "b.toml:2: names /move max-speed: matches nothing"),
        "{found:?}"
    );
}

#[test]
fn a_copy_can_come_from_another_place() {
    let endpoints = r#"{
        "/guest": {"POST": {"parameters": {
            "ide2": {"type": "string", "optional": true, "format": {"file": {"type": "string"}, "media": {"type": "string", "optional": true}}},
            "cdrom": {"type": "string", "optional": true, "format": "a-drive"}}, "returns": {"type": "null"}}}}"#;
    let copy = "[[patch]]\nat = [\"POST /guest\"]\npointer = \"/parameters/cdrom\"\ncopy = \"POST /guest\"\n\
                from = \"/parameters/ide2\"\nsource = \"a test\"\nreason = \"a test\"\n";
    let names = "[property_strings.\"/guest\"]\nide2 = \"GuestDrive\"\ncdrom = \"GuestDrive\"\n";
    let releases = [("9.0", endpoints)];
    let text = written(&input(&releases, &[("a.toml", copy), ("b.toml", names)]));
    assert!(
        text.contains("pub fn cdrom<How>(mut self, cdrom: impl IntoSetting<GuestDrive, How>)"),
        "{text}"
    );
}

#[test]
fn a_copy_takes_the_patched_schema_of_another_endpoint() {
    let endpoints = r#"{
        "/guest": {"GET": {"parameters": {}, "returns": {"type": "object", "properties": {
            "cores": {"type": "integer", "optional": true}, "digest": {"type": "string", "optional": true}}}}},
        "/guest/snapshot": {"GET": {"parameters": {}, "returns": {"type": "object"}}}}"#;
    let copy = "[[patch]]\nat = [\"GET /guest/snapshot\"]\npointer = \"/returns\"\ncopy = \"GET /guest\"\nwithout = [\"digest\"]\n\
                with = { taken = { type = \"integer\", optional = true } }\nsource = \"a test\"\nreason = \"a test\"\n";
    // The file's name sorts before that of the patch it must follow.
    let later = "[[patch]]\nat = [\"GET /guest\"]\npointer = \"/returns/properties/tags\"\nadd = { type = \"string\", optional = true }\n\
                 source = \"a test\"\nreason = \"a test\"\n";
    let releases = [("9.0", endpoints)];
    let text = written(&input(&releases, &[("a.toml", copy), ("b.toml", later)]));
    let snapshot = text
        .split("pub struct GuestSnapshot {")
        .nth(1)
        .unwrap_or_else(|| panic!("{text}"));
    let snapshot = snapshot.split("\n}").next().unwrap();
    for (field, there) in [
        ("cores", true),
        ("tags", true),
        ("taken", true),
        ("digest", false),
    ] {
        assert_eq!(
            snapshot.contains(&format!("pub {field}:")),
            there,
            "{field}: {snapshot}"
        );
    }
    for (wrong, expected) in [
        (
            copy.replace("\"digest\"", "\"nothing\""),
            "without: GET /guest has no nothing",
        ),
        (
            copy.replace("GET /guest\"\nwithout", "GET /else\"\nwithout"),
            "changes nothing of GET /guest/snapshot",
        ),
        (
            copy.replace("copy = \"GET /guest\"\n", "set = { optional = true }\n"),
            "are for `copy` only",
        ),
        (
            copy.replace("copy =", "from = \"/returns/items\"\ncopy ="),
            "changes nothing of GET /guest/snapshot",
        ),
    ] {
        let found = problems(&input(&releases, &[("a.toml", &wrong), ("b.toml", later)]));
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn an_unreadable_file_is_reported_without_consequential_errors() {
    let broken = [("names.toml", "[items\n"), ("returns.toml", "tasks = [")];
    let found = problems(&input(&TWO_RELEASES, &broken));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("names.toml:") && found[1].starts_with("returns.toml:"),
        "{found:?}"
    );
}

#[test]
fn missing_features_are_reported_with_the_lines_to_add() {
    let mut input = input(&TWO_RELEASES, &[]);
    let areas = "[[area]]\nname = \"all_things\"\nprefix = \"\"\nabout = \"All.\"\n";
    input
        .overlay
        .insert("areas.toml".to_owned(), areas.to_owned());
    for (manifest, expected) in [
        (
            "[features]\nfull = []\n",
            vec![
                "proxmox-api/Cargo.toml: the features do not match the areas: `all-things = []` under [features]",
                "proxmox-api/Cargo.toml: `full` lacks \"all-things\"",
            ],
        ),
        (
            "[features]\nfull = [\"all-things\"]\nall-things = []\n",
            vec![],
        ),
    ] {
        input.manifest = Some(manifest.to_owned());
        let found = generate(&input).err().unwrap_or_default();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_lock_freezes_a_name() {
    let mut input = input(&TWO_RELEASES, &[]);
    let free = generate(&input).unwrap();
    let (name, place) = free.lock.lines().next().unwrap().split_once(' ').unwrap();
    input.lock = Some(format!("Frozen {place}\n"));
    let frozen = generate(&input).unwrap();
    assert!(frozen.lock.contains(&format!("Frozen {place}")));
    assert!(
        !frozen
            .lock
            .lines()
            .any(|line| line.starts_with(&format!("{name} ")))
    );
}

const LOGIN: &str = r#"{"/login": {"POST": {"parameters": {
    "password": {"type": "string"}, "lock-token": {"type": "string"}, "totp-locked": {"type": "boolean"}
}, "returns": {"type": "object", "properties": {
    "recovery": {"type": "array", "items": {"type": "string"}}, "value": {"type": "string"}
}}}}}"#;
const SECRETS: &str = r#"
suspicious = ["pass", "recover", "token", "totp"]
[secret.names]
password = "a password"
recovery = "codes"
[secret.places]
"POST /login\u0023value" = "a new secret"
[public.names]
lock-token = "a lock"
"#;

#[test]
fn an_inconsistent_lock_is_refused() {
    let mut input = committed();
    let lock = input.lock.unwrap();
    let line = lock.lines().next().unwrap();
    let (name, place) = line.split_once(' ').unwrap();
    input.lock = Some(format!("{lock}{name}Two {place}\n{name} {place}#other\n"));
    let problems = problems(&input).join("\n");
    assert!(
        problems.contains(&format!("names.lock: {place} is in line 1 and")),
        "{problems}"
    );
    assert!(
        problems.contains(&format!("names.lock: {name} is in line 1 and")),
        "{problems}"
    );
}

#[test]
fn secrets_have_their_type_in_parameters_answers_and_arrays() {
    let text = written(&input(&[("9.0", LOGIN)], &[("secrets.toml", SECRETS)]));
    assert!(text.contains(".secrets(&[\"password\"])"), "{text}");
    assert!(text.contains("password: impl IntoValue<Secret,"), "{text}");
    assert!(
        text.contains("lock_token: impl IntoValue<String,"),
        "{text}"
    );
    assert!(text.contains("pub recovery: Vec<Secret>"), "{text}");
    assert!(text.contains("pub value: Secret"), "{text}");
}

#[test]
fn a_name_that_looks_like_a_secret_must_be_decided() {
    let undecided = SECRETS.replace("lock-token", "other-token");
    let found = problems(&input(&[("9.0", LOGIN)], &[("secrets.toml", &undecided)]));
    for part in [
        "POST /login?lock-token: the name looks like a secret's",
        "public.names other-token: matches nothing",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(part)),
            "{part}: {found:?}"
        );
    }
    assert!(
        !found.iter().any(|problem| problem.contains("totp-locked")),
        "no secret is a boolean: {found:?}"
    );
}

#[test]
fn a_broken_file_is_named() {
    let mut input = input(&TWO_RELEASES, &[("names.toml", "formats = 3")]);
    let found = problems(&input);
    assert!(
        found
            .iter()
            .any(|problem| problem.starts_with("names.toml: ")),
        "{found:?}"
    );
    input.releases.insert("9.9.json".to_owned(), "{".to_owned());
    assert!(
        problems(&input)
            .iter()
            .any(|problem| problem.starts_with("9.9.json: "))
    );
}

#[test]
fn a_call_is_documented_with_example_answer_and_search_terms() {
    let endpoints = r#"{"/things": {"POST": {"permissions": {"check": {"perm": "/", "privileges": ["Thing.Make"]}},
            "parameters": {"thing-id": {"type": "string"}, "size-max": {"type": "integer", "optional": true}},
            "returns": {"type": "object", "properties": {"state": {"type": "string", "optional": true}}}}}}"#;
    let overlay = [
        (
            "aliases.toml",
            "[aliases]\n\"POST /things\" = [\"make a thing\"]",
        ),
        (
            "examples/all.toml",
            "[examples]\n\"POST /things\" = '''\nuse std::fmt;\nlet thing = 1;\n'''",
        ),
    ];
    let output = generate(&input(&[("9.0", endpoints)], &overlay)).unwrap();
    let text = &output.files["all.rs"];
    for wanted in [
        "//! | [`POST /things`](ThingsPost)<br><code>things()<wbr>.post(thing_id)</code><br>→ [`Things`] | Thing.Make |  |",
        "/// let answer = pve.things().post(\"thingid\").await?;",
        "/// * Gives: [`Things`]",
        "/// * Releases: 9.0 to 9.0",
        "/// * Needs: `Thing.Make` on path `/`.",
        "/// use std::fmt;\n///\n/// # async fn example",
        "/// let thing = 1;",
        "    \"POST /things\", \"make a thing\", \"POST things\", \"pvesh create /things\", \"thing-id\", \"Thing.Make\"\n)))]\n#[derive",
        "#[cfg_attr(doc, doc(alias(\"size-max\")))]",
        "#[cfg_attr(doc, doc(alias(\"/things\")))]",
        "/// Leads to [`POST /things`](ThingsPost).",
        "/// Given by [`POST /things`](ThingsPost).",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let index = &output.files["index.rs"];
    let row = "//! | [`POST /things`](super::all::ThingsPost)<br><code>things()<wbr>.post(thing_id)</code><br>→ [`Things`](super::all::Things) | Thing.Make |  |";
    assert!(index.contains(row), "{index}");

    let useless = ("aliases.toml", "[aliases]\n\"GET /nothing\" = [\"x\"]");
    let found = problems(&input(&[("9.0", endpoints)], &[useless]));
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("GET /nothing: matches nothing")),
        "{found:?}"
    );
}

#[test]
fn checks_of_handlers_are_data_and_documentation_and_unread_ones_are_listed() {
    let call = |hint: &str| {
        format!(
            r#"{{"permissions": {{"user": "all"{hint}}}, "parameters": {{"id": {{"type": "string"}},
                "size": {{"type": "integer", "optional": true}}}}, "returns": {{"type": "null"}}}}"#
        )
    };
    let endpoints = format!(
        r#"{{"/things": {{"POST": {}}}, "/things/{{id}}": {{"PUT": {}, "DELETE": {}}}}}"#,
        call(r#", "described": true"#),
        call(r#", "described": true"#),
        call(""),
    );
    let privileges = r#"
        [declared]
        "DELETE /things/{id}" = "things Things.pm:9"
        [[privilege]]
        at = ["POST /things"]
        check = { or = [{ perm = "/things/{id}", privileges = ["Thing.Make"] }, { root = true }] }
        source = "things Things.pm:1"
        [[privilege]]
        at = ["POST /things"]
        given = ["size"]
        check = { perm = "/", privileges = ["Space.Use", "Space.Own"], any = true }
        source = "things Things.pm:2"
    "#;
    let releases = [("9.0", endpoints.as_str())];
    let output = generate(&input(&releases, &[("privileges.toml", privileges)])).unwrap();
    let text = &output.files["all.rs"];
    for wanted in [
        "* Needs: `Thing.Make` on path `/things/{id}` or to be `root@pam` itself.",
        "* With `size`: one of `Space.Use`, `Space.Own` on path `/`.",
        "a login, but no privileges.",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let squeezed: String = text.split_whitespace().collect();
    let squeezed = squeezed.replace(",)", ")").replace(",]", "]");
    let data = r#"Permission::And(&[Permission::Or(&[Permission::All("/things/{id}",&["Thing.Make"]),Permission::Root]),Permission::When(&["size"],"",&Permission::Any("/",&["Space.Use","Space.Own"]))])"#;
    assert!(squeezed.contains(data), "{squeezed}");
    assert_eq!(output.report.privileges, 2);
    let unreviewed: Vec<_> = output.report.privileges_unreviewed.iter().collect();
    assert_eq!(unreviewed, ["PUT /things/{id}"]);

    let wrong = privileges.replace("given = [\"size\"]", "given = [\"weight\"]");
    let found = problems(&input(&releases, &[("privileges.toml", &wrong)]));
    assert!(
        found
            .iter()
            .any(|p| p.contains("POST /things has none of the parameters weight")),
        "{found:?}"
    );
}

/// The input of `cargo xtask diff`: the crate with the releases up to a given one.
#[test]
fn every_prefix_of_the_releases_generates() {
    let all = committed();
    for last in ["7.4.json", "8.3.json"] {
        let mut input = all.clone();
        input.partial = true;
        input.releases.retain(|name, _| name.as_str() <= last);
        if let Err(problems) = generate(&input) {
            panic!("up to {last}: {problems:?}");
        }
    }
}

#[test]
fn a_file_must_be_named_after_its_release() {
    let mut input = committed();
    let text = input.releases["9.2.json"].clone();
    input.releases.insert("backup.json".to_owned(), text);
    let problems = generate(&input).unwrap_err();
    assert_eq!(
        problems,
        ["backup.json: has release 9.2; a file must be named after its release"]
    );
}

/// Every `$ref` in a document.
fn references(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (key, value) in members {
                match value.as_str() {
                    Some(text) if key == "$ref" => found.push(text.to_owned()),
                    _ => references(value, found),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn an_openapi_document_has_the_calls_of_its_release_and_no_dangling_reference() {
    let input = committed();
    for (name, text) in [&input.releases].into_iter().flatten() {
        let facts = proxmox_codegen::facts_json::read(text).unwrap();
        if !["7.4.json", "9.2.json"].contains(&name.as_str()) {
            continue;
        }
        let document = openapi(&input, Some(facts.release)).unwrap();
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                let operation = &document["paths"][path][method.to_string().to_lowercase()];
                let text = operation.to_string();
                assert!(operation["summary"].is_string(), "{name}: {method} {path}");
                for parameter in endpoint.parameters.properties.keys() {
                    // An indexed parameter is a pattern, such as `^net[0-9]+$`.
                    let pattern = parameter.replace("[n]", "[0-9]+");
                    assert!(
                        text.contains(&pattern),
                        "{name}: {method} {path} {parameter}"
                    );
                }
            }
        }
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), facts.endpoints.len(), "{name}");
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{name}: {reference}");
        }
    }
    let unknown = proxmox_codegen::facts::Release { major: 1, minor: 0 };
    let problems = openapi(&input, Some(unknown)).unwrap_err();
    assert!(
        problems[0].contains("release 1.0 is not tracked"),
        "{problems:?}"
    );
}

#[test]
fn the_code_of_another_product_has_no_word_of_the_first() {
    let endpoints = r#"{"/nodes/{node}/things/{name}": {"GET": {"permissions": {"user": "all"},
        "parameters": {"node": {"type": "string"}, "name": {"type": "string"}},
        "returns": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        "PUT": {"parameters": {"size": {"type": "integer"}, "name": {"type": "string"}, "node": {"type": "string"}},
        "returns": {"type": "null"}}}}"#;
    let mut input = input(&[("4.2", endpoints)], &[]);
    for text in input.releases.values_mut() {
        *text = text.replace("\"pve\"", "\"pbs\"");
    }
    let output = generate(&input).unwrap();
    let document = openapi(&input, None).unwrap();
    let texts = [output.files, output.expectations]
        .into_iter()
        .flat_map(BTreeMap::into_values)
        .chain([document.to_string()]);
    let texts: Vec<String> = texts.collect();
    for text in &texts {
        for word in ["pve", "Proxmox VE", "qemu", "8006"] {
            assert!(
                !text.to_lowercase().contains(&word.to_lowercase()),
                "{word}: {text}"
            );
        }
    }
    let all = texts.concat();
    for word in [
        "proxmox_api::pbs::",
        "Proxmox Backup Server API",
        "8007",
        "PBSAPIToken=USER@REALM!TOKENID:SECRET",
        "async fn example(pbs: proxmox_api::Client)",
    ] {
        assert!(all.contains(word), "{word}");
    }
}

#[test]
fn releases_of_two_products_are_refused() {
    let mut input = input(&[("9.1", "{}"), ("9.2", "{}")], &[]);
    let newer = input.releases.get_mut("9.2.json").unwrap();
    *newer = newer.replace("\"pve\"", "\"pbs\"");
    assert_eq!(
        problems(&input),
        ["9.2.json: is of pbs, and the others are of another product"]
    );
}

#[test]
fn the_root_has_calls_of_its_own() {
    let endpoints = r#"{"/": {"GET": {"returns": {"type": "array", "items": {"type": "object",
        "properties": {"subdir": {"type": "string"}}}}},
        "PUT": {"parameters": {"size": {"type": "integer", "optional": true}}, "returns": {"type": "null"}}},
        "/things": {"GET": {"returns": {"type": "null"}}}}"#;
    let code = written(&input(&[("9.2", endpoints)], &[]));
    for text in [
        "impl super::Root {\n    /// The call `GET /`.",
        "[`GET /`](super::Root::get)",
        "let list = pve.api().get().await?;",
        "pub fn put(&self) -> RootPut {",
        "pub struct RootItem {",
    ] {
        assert!(code.contains(text), "{text}: {code}");
    }
    assert!(!code.contains("struct Root("), "{code}");
}
