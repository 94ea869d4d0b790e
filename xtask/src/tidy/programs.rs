//! Files of tests that no program contains.
//!
//! Cargo makes a program of each file in `tests` unless a manifest says `autotests = false`. There
//! a file that the manifest and `tests/all.rs` both forget would never run.

use std::path::Path;

use toml::{Table, Value};

use crate::files;

/// The forgotten files of all packages of a workspace.
pub(super) fn forgotten(root: &Path) -> Result<Vec<String>, String> {
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let members = workspace
        .get("workspace")
        .and_then(|own| own.get("members"));
    let members = members.and_then(Value::as_array).into_iter().flatten();
    let mut found = Vec::new();
    for member in members.filter_map(Value::as_str) {
        let lost = of_package(&root.join(member))?;
        found.extend(
            lost.into_iter()
                .map(|problem| format!("{member}/{problem}")),
        );
    }
    Ok(found)
}

fn manifest(path: &Path) -> Result<Table, String> {
    toml::from_str(&files::read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn of_package(package: &Path) -> Result<Vec<String>, String> {
    let manifest = manifest(&package.join("Cargo.toml"))?;
    let own = manifest.get("package").and_then(|own| own.get("autotests"));
    if own.and_then(Value::as_bool).unwrap_or(true) {
        return Ok(Vec::new());
    }
    let targets = manifest.get("test").and_then(Value::as_array);
    let targets: Vec<&str> = (targets.into_iter().flatten())
        .filter_map(|target| target.get("name")?.as_str())
        .collect();
    let tests = package.join("tests");
    let mut names = Vec::new();
    for path in files::files_below(&tests)? {
        if let Some(name) = files::relative(&tests, &path).strip_suffix(".rs")
            && !name.contains('/')
        {
            names.push(name.to_owned());
        }
    }
    let all = files::read(&tests.join("all.rs"))?;
    Ok(missing(&names, &targets, &all))
}

fn missing(names: &[String], targets: &[&str], all: &str) -> Vec<String> {
    let in_all = |name: &str| all.lines().any(|line| line == format!("mod {name};"));
    let known = |name: &&String| targets.contains(&name.as_str()) || in_all(name);
    let missing = names.iter().filter(|name| !known(name));
    missing
        .map(|name| format!("tests/{name}.rs runs nowhere: add `mod {name};` to tests/all.rs"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_target_or_a_module_of_all() {
        let names = ["all", "logs", "seed", "lost"].map(str::to_owned);
        assert_eq!(
            missing(&names, &["all", "logs"], "mod common;\nmod seed;\n"),
            ["tests/lost.rs runs nowhere: add `mod lost;` to tests/all.rs"]
        );
    }
}
