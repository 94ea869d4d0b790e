//! Sections of configuration files: the required, fixed and allowed properties of each type of
//! entry.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// The properties of a section type; names separated by blanks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[derive(Default)]
struct Section {
    required: String,
    fixed: String,
    other: String,
    /// Of a storage: the allowed content types, and the defaults.
    content: String,
    default_content: String,
}

static SECTIONS: LazyLock<BTreeMap<String, BTreeMap<String, Section>>> =
    LazyLock::new(|| toml::from_str(include_str!("../sections.toml")).unwrap_or_default());

fn section(list: &str, kind: &str) -> Option<&'static Section> {
    SECTIONS.get(list)?.get(kind)
}

fn has(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|other| other == word)
}

impl Section {
    fn takes(&self, name: &str) -> bool {
        [&self.required, &self.fixed, &self.other]
            .iter()
            .any(|words| has(words, name))
    }
}

/// Refuses a property of other types. Properties that no type has are not checked here.
fn unexpected<'a>(list: &str, kind: &str, names: &[&'a str]) -> Option<&'a str> {
    let section = section(list, kind)?;
    let others = SECTIONS.get(list)?;
    names
        .iter()
        .copied()
        .find(|name| !section.takes(name) && others.values().any(|other| other.takes(name)))
}

/// Checks a new section.
pub(super) fn check_new(list: &str, kind: &str, names: &[&str]) -> Result<(), String> {
    let Some(section) = section(list, kind) else {
        return Ok(());
    };
    if let Some(name) = unexpected(list, kind, names) {
        return Err(format!("unexpected property '{name}'"));
    }
    let mut required = section.required.split_whitespace();
    match required.find(|name| !names.contains(name)) {
        Some(name) => Err(format!("missing value for required option '{name}'")),
        None => Ok(()),
    }
}

/// Checks a change of a section.
pub(super) fn check_changed(
    list: &str,
    kind: &str,
    names: &[&str],
    deleted: &[&str],
) -> Result<(), String> {
    let Some(section) = section(list, kind) else {
        return Ok(());
    };
    if let Some(name) = names.iter().find(|name| has(&section.fixed, name)) {
        return Err(format!("can't change value of fixed parameter '{name}'"));
    }
    if let Some(name) = unexpected(list, kind, names) {
        return Err(format!("unexpected property '{name}'"));
    }
    for name in deleted {
        if !section.takes(name) {
            return Err(format!("no such option '{name}'"));
        }
        if has(&section.required, name) {
            return Err(format!("unable to delete required option '{name}'"));
        }
        if has(&section.fixed, name) {
            return Err(format!("unable to delete fixed option '{name}'"));
        }
        if names.contains(name) {
            return Err(format!(
                "cannot set and delete property '{name}' at the same time!"
            ));
        }
    }
    Ok(())
}

/// The requested content types that a type of storage supports; `None` for an unknown type.
pub(super) fn content<'a>(
    kind: &str,
    requested: Option<&'a str>,
) -> Option<Result<Vec<&'a str>, String>> {
    let section = section("/storage", kind)?;
    let Some(requested) = requested else {
        return Some(Ok(section.default_content.split_whitespace().collect()));
    };
    let supported: Vec<&str> = crate::formats::split_list(requested)
        .filter(|content| has(&section.content, content))
        .collect();
    if !supported.is_empty() {
        return Some(Ok(supported));
    }
    Some(match has(&section.content, "none") {
        true => Ok(vec!["none"]),
        false => Err("storage does not support content type 'none'".into()),
    })
}

#[cfg(test)]
mod tests {
    use proxmox_codegen::facts::Method;

    use super::*;
    use crate::schema::ApiSchema;

    #[test]
    fn the_table_names_existing_types_and_parameters() {
        let table: BTreeMap<String, BTreeMap<String, Section>> =
            toml::from_str(include_str!("../sections.toml")).expect("sections");
        let schema = ApiSchema::load(crate::schema::newest_release()).expect("the newest release");
        for (list, types) in &table {
            let post = schema
                .endpoint(Method::Post, list)
                .or_else(|| schema.endpoint(Method::Post, schema.item_of(list)?))
                .unwrap_or_else(|| panic!("no POST {list}"));
            let known = post.parameters.properties["type"].values.clone();
            for (kind, section) in types {
                assert!(
                    known.iter().flatten().any(|other| other == kind),
                    "{list}: no {kind}"
                );
                for name in [&section.required, &section.fixed]
                    .into_iter()
                    .flat_map(|words| words.split_whitespace())
                {
                    // No call shows the path of a mount.
                    let known = post.parameters.properties.contains_key(name) || name == "path";
                    assert!(known, "{list} {kind}: no {name}");
                }
            }
        }
    }

    #[test]
    fn missing_and_unsupported_properties_are_refused() {
        let check_new = |names: &[&str]| check_new("/storage", "nfs", names);
        assert_eq!(check_new(&["server", "export"]), Ok(()));
        assert_eq!(
            check_new(&["server"]),
            Err("missing value for required option 'export'".into())
        );
        assert_eq!(
            check_new(&["server", "export", "vgname"]),
            Err("unexpected property 'vgname'".into())
        );
        let check_changed =
            |names: &[&str], deleted: &[&str]| check_changed("/storage", "nfs", names, deleted);
        assert_eq!(
            check_changed(&["server"], &[]),
            Err("can't change value of fixed parameter 'server'".into())
        );
        assert_eq!(
            check_changed(&[], &["nonsense"]),
            Err("no such option 'nonsense'".into())
        );
        assert_eq!(check_changed(&["options"], &["nodes"]), Ok(()));
    }
}
