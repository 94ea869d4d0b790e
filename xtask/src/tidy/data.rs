//! Public types of data, which programs log, keep, compare and read again.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;

/// Folders of the library whose public types are data by default.
const FOLDERS: &[&str] = &["client", "manage", "stream", "task", "tls", "value"];

/// Traits that a type of data implements.
const NEEDED: &[&str] = &["Serialize", "Deserialize", "PartialEq"];

/// Macros of the library that implement some of these traits for the type in their first argument.
const MACROS: &[(&str, &[&str])] = &[
    ("generic_record_serde", &["Serialize", "Deserialize"]),
    ("generic_serde_impls", &["Serialize", "Deserialize"]),
    ("impl_into_future", &["IntoFuture"]),
    ("impl_into_started", &["IntoFuture"]),
    ("record_serde", &["Serialize", "Deserialize"]),
    ("serde_impls", &["Serialize", "Deserialize"]),
    ("variant_serde", &["Serialize", "Deserialize"]),
    ("word_serde", &["Serialize", "Deserialize"]),
];

/// A type with one of these traits has behaviour or is an error.
const NO_DATA: &[&str] = &["Error", "IntoFuture", "Stream", "Work", "Transport"];

/// Types that lack something, each with the reason.
const LACKING: &[(&str, &[&str])] = &[
    (
        "it holds a client, a connection or a function",
        &[
            "client::Call",
            "client::Client",
            "client::ClientBuilder",
            "client::Reply",
            "manage::Agent",
            "manage::Batch",
            "manage::Cloned",
            "manage::Deliverer",
            "manage::Guest",
            "manage::GuestConsole",
            "manage::Made",
            "manage::Moved",
            "manage::Operation",
            "manage::StartedOperation",
            "manage::TaskEnd",
            "manage::Track",
            "stream::Attach",
            "stream::Console",
            "stream::Terminal",
            "stream::Vnc",
            "task::Task",
            "task::Waiting",
            "tls::KnownHosts",
        ],
    ),
    (
        "it has secrets, and is written by a method whose name says so, if at all",
        &[
            "client::ApiToken",
            "client::SavedSession",
            "client::TfaAnswer",
            "manage::CloudInit",
            "manage::Remote",
            "manage::Webhook",
            "stream::ConsoleTicket",
            "stream::SpiceFile",
            "value::Params",
            "value::WithSecrets",
        ],
    ),
    (
        "it is a setting of a client",
        &[
            "client::ClientSettings",
            "client::Rate",
            "client::RateLimit",
            "client::RetryPolicy",
        ],
    ),
    (
        "it is part of a wanted state, made by setters",
        &["manage::Image", "manage::Template"],
    ),
    (
        "it is a view of another value",
        &[
            "manage::Change",
            "manage::BatchProgress",
            "manage::Selection",
        ],
    ),
    (
        "it is a comparison, which is repeated instead of read",
        &["value::Change", "value::Changes"],
    ),
    (
        "it has its own text form, for Prometheus",
        &["manage::MetricFamily"],
    ),
    (
        "it describes calls and values in generated code",
        &[
            "value::Acceptance",
            "value::Between",
            "value::Endpoint",
            "value::Enums",
            "value::ObjectSchema",
            "value::Objects",
            "value::ParamValue",
            "value::Partial",
            "value::Permission",
            "value::Problem",
            "value::PropertyStringRules",
            "value::PropertyStrings",
            "value::Renamed",
            "value::Scalar",
            "value::Takes",
            "value::Target",
            "value::UnknownKeys",
            "value::UnknownValue",
            "value::View",
        ],
    ),
];

#[derive(Default)]
struct Type {
    has: BTreeSet<String>,
    place: Option<(String, usize)>,
}

/// Public types of data that lack a trait without a reason, and unnecessary reasons.
pub(super) fn violations(sources: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    check(sources, LACKING)
}

fn check(
    sources: &BTreeMap<String, String>,
    lacking: &[(&str, &[&str])],
) -> Result<Vec<String>, String> {
    let mut types: BTreeMap<(String, String), Type> = BTreeMap::new();
    for (file, text) in sources {
        let folder = file.split(['/', '.']).next().unwrap_or_default();
        if !FOLDERS.contains(&folder) || file.ends_with("tests.rs") || file.contains("tests/") {
            continue;
        }
        let parsed = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
        for item in &parsed.items {
            read(folder, file, item, &mut types);
        }
    }
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for ((folder, name), found) in &types {
        let Some((file, line)) = &found.place else {
            continue;
        };
        let missing: Vec<&str> = NEEDED
            .iter()
            .copied()
            .filter(|needed| !found.has.contains(*needed))
            .collect();
        if missing.is_empty() || NO_DATA.iter().any(|one| found.has.contains(*one)) {
            continue;
        }
        let path = format!("{folder}::{name}");
        if lacking.iter().any(|(_, names)| names.contains(&&*path)) {
            used.insert(path);
            continue;
        }
        problems.push(format!(
            "{file}:{line}: `{name}` is public and lacks {}; if it is not data, list `{path}` with the reason in xtask/src/tidy/data.rs",
            missing.join(", ")
        ));
    }
    let named = lacking.iter().flat_map(|(_, names)| *names);
    problems.extend(
        named
            .filter(|name| !used.contains(**name))
            .map(|name| format!("xtask/src/tidy/data.rs: `{name}` lacks nothing, or is not there")),
    );
    Ok(problems)
}

fn read(folder: &str, file: &str, item: &Item, types: &mut BTreeMap<(String, String), Type>) {
    let mut declared =
        |name: &syn::Ident, visibility: &syn::Visibility, attributes: &[syn::Attribute]| {
            let found = types
                .entry((folder.to_owned(), name.to_string()))
                .or_default();
            found.has.extend(derived(attributes));
            if matches!(visibility, syn::Visibility::Public(_)) {
                found.place = Some((file.to_owned(), name.span().start().line));
            }
        };
    match item {
        Item::Struct(item) => declared(&item.ident, &item.vis, &item.attrs),
        Item::Enum(item) => declared(&item.ident, &item.vis, &item.attrs),
        Item::Impl(item) => {
            let implemented = item.trait_.as_ref().and_then(|(path, _)| last(path));
            let of = match &*item.self_ty {
                syn::Type::Path(path) => last(&path.path),
                _ => None,
            };
            if let (Some(implemented), Some(of)) = (implemented, of) {
                let found = types.entry((folder.to_owned(), of)).or_default();
                found.has.insert(implemented);
            }
        }
        Item::Macro(item) => {
            let by = last(&item.mac.path).unwrap_or_default();
            let first = item.mac.tokens.clone().into_iter().next();
            let traits = MACROS.iter().find(|(name, _)| *name == by);
            if let (Some((_, traits)), Some(name)) = (traits, first) {
                let found = types
                    .entry((folder.to_owned(), name.to_string()))
                    .or_default();
                found.has.extend(traits.iter().map(|one| (*one).to_owned()));
            }
        }
        _ => {}
    }
}

fn last(path: &syn::Path) -> Option<String> {
    Some(path.segments.last()?.ident.to_string())
}

fn derived(attributes: &[syn::Attribute]) -> Vec<String> {
    let derives = attributes
        .iter()
        .filter(|one| one.path().is_ident("derive"));
    let tokens = derives.filter_map(|one| one.meta.require_list().ok());
    tokens
        .flat_map(|list| list.tokens.clone())
        .map(|token| token.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, lacking: &[(&str, &[&str])]) -> Vec<String> {
        let sources = BTreeMap::from([("manage/disks.rs".to_owned(), text.to_owned())]);
        check(&sources, lacking).expect("it parses")
    }

    #[test]
    fn data_types_without_a_trait_are_found() {
        let text = "#[derive(Clone)]\npub struct Disk { pub size: u64 }\n\
                    struct Hidden;\n\
                    #[derive(PartialEq)]\npub struct Whole { pub size: u64 }\nrecord_serde!(Whole { size });\n\
                    pub struct Ask;\nimpl_into_future!(Ask => Disk);\n\
                    pub struct Wrong;\nimpl std::error::Error for Wrong {}\n";
        let problems = found(text, &[]);
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        let start =
            "manage/disks.rs:2: `Disk` is public and lacks Serialize, Deserialize, PartialEq;";
        assert!(problem.starts_with(start), "{problem}");
        assert!(found(text, &[("for a reason", &["manage::Disk"])]).is_empty());
    }

    #[test]
    fn unnecessary_reasons_are_found() {
        let problems = found(
            "pub struct Disk;\n",
            &[("none", &["manage::Disk", "manage::Gone"])],
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
