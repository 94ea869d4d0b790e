//! The table of layers, and imports that run against it.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::Import;

/// The layers of a source folder.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Modules with their heights; higher ones may import lower ones.
    heights: BTreeMap<String, usize>,
    /// Pairs of modules of which the first still imports the second, against the order.
    exceptions: BTreeSet<(String, String)>,
    /// Modules inside of which files still import each other in a circle.
    circles: BTreeSet<String>,
}

impl Table {
    /// The circles that no exception covers, and exceptions that cover none.
    pub(super) fn circles(&self, found: Vec<(String, String)>) -> Vec<String> {
        let mut needed = BTreeSet::new();
        let mut problems = Vec::new();
        for (file, problem) in found {
            let module = module(&file).to_owned();
            match self.circles.contains(&module) {
                true => {
                    needed.insert(module);
                }
                false => problems.push(problem),
            }
        }
        for module in self.circles.difference(&needed) {
            problems.push(format!(
                "the exception for a circle in `{module}` is not needed any more"
            ));
        }
        problems
    }
}

/// The tables of a document, by source folder.
pub(super) fn read(document: &str) -> Result<BTreeMap<String, Table>, String> {
    let mut tables = BTreeMap::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(folder) = line.strip_prefix("```layers ") else {
            continue;
        };
        let rows: Vec<&str> = lines
            .by_ref()
            .take_while(|line| !line.starts_with("```"))
            .filter(|line| !line.trim().is_empty())
            .collect();
        let mut table = Table::default();
        for (height, row) in rows.iter().rev().enumerate() {
            if let Some(module) = row.strip_prefix("except circle in ") {
                table.circles.insert(module.trim().to_owned());
                continue;
            }
            if let Some(pair) = row.strip_prefix("except ") {
                let Some((from, to)) = pair.trim().split_once(" -> ") else {
                    return Err(format!("layers of {folder}: write `except from -> to`"));
                };
                table.exceptions.insert((from.to_owned(), to.to_owned()));
                continue;
            }
            for module in row.split_whitespace() {
                if table.heights.insert(module.to_owned(), height).is_some() {
                    return Err(format!("layers of {folder}: `{module}` is listed twice"));
                }
            }
        }
        tables.insert(folder.trim().to_owned(), table);
    }
    match tables.is_empty() {
        true => Err("no block of layers is in the document".to_owned()),
        false => Ok(tables),
    }
}

/// The first part of a file's path without its suffix: `client` for `client.rs` and for `client/auth.rs`.
fn module(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_root(module: &str) -> bool {
    matches!(module, "lib" | "main")
}

/// The imports that no exception covers.
pub(super) fn regular(table: &Table, imports: &[Import]) -> Vec<Import> {
    let excepted = |import: &Import| {
        let pair = (
            module(&import.from).to_owned(),
            module(&import.to).to_owned(),
        );
        table.exceptions.contains(&pair)
    };
    imports
        .iter()
        .filter(|import| !excepted(import))
        .cloned()
        .collect()
}

pub(super) fn violations(table: &Table, imports: &[Import]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    let mut needed = BTreeSet::new();
    for import in imports {
        for file in [&import.from, &import.to] {
            seen.insert(module(file), file);
        }
        let (from, to) = (module(&import.from), module(&import.to));
        if from == to || is_root(from) {
            continue;
        }
        if let (Some(own), Some(other)) = (table.heights.get(from), table.heights.get(to))
            && own <= other
        {
            let pair = (from.to_owned(), to.to_owned());
            if table.exceptions.contains(&pair) {
                needed.insert(pair);
                continue;
            }
            let relation = match own == other {
                true => "which stands beside it",
                false => "which stands above it",
            };
            problems.push(format!(
                "{}:{}: `{from}` imports `{to}` ({}), {relation}",
                import.from, import.line, import.path
            ));
        }
    }
    for (module, file) in seen {
        if !is_root(module) && !table.heights.contains_key(module) {
            problems.push(format!("{file}: `{module}` stands in no layer"));
        }
    }
    for (from, to) in table.exceptions.difference(&needed) {
        problems.push(format!(
            "the exception `{from} -> {to}` is not needed any more"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(from: &str, to: &str) -> Import {
        Import {
            from: from.to_owned(),
            line: 3,
            to: to.to_owned(),
            path: format!("crate::{to}"),
        }
    }

    const PICTURE: &str = "text\n```layers some/src\nclient task\nvalue\n\nutil\n```\nmore";

    #[test]
    fn imports_may_only_run_downwards() {
        let tables = read(PICTURE).unwrap_or_default();
        let table = &tables["some/src"];
        let check = |from, to| violations(table, &[import(from, to)]);
        assert_eq!(check("client/send.rs", "value/list.rs"), [""; 0]);
        assert_eq!(check("client.rs", "util.rs"), [""; 0]);
        assert_eq!(check("lib.rs", "client.rs"), [""; 0]);
        assert_eq!(
            check("value.rs", "client/send.rs"),
            ["value.rs:3: `value` imports `client` (crate::client/send.rs), which stands above it"]
        );
        assert_eq!(
            check("client.rs", "task.rs"),
            ["client.rs:3: `client` imports `task` (crate::task.rs), which stands beside it"]
        );
        assert_eq!(
            check("other.rs", "util.rs"),
            ["other.rs: `other` stands in no layer"]
        );
    }

    #[test]
    fn an_exception_covers_one_pair_and_goes_when_it_is_not_needed() {
        let picture = "```layers x\nclient\nvalue\nexcept value -> client\n```\n";
        let tables = read(picture).unwrap_or_default();
        let table = &tables["x"];
        assert_eq!(table.circles(Vec::new()), [""; 0]);
        let back = [import("value.rs", "client.rs")];
        assert_eq!(violations(table, &back), [""; 0]);
        assert!(regular(table, &back).is_empty());
        assert_eq!(
            violations(table, &[import("client.rs", "value.rs")]),
            ["the exception `value -> client` is not needed any more"]
        );
    }

    #[test]
    fn a_table_that_names_a_module_twice_is_refused() {
        let twice = "```layers x\na b\na\n```\n";
        assert_eq!(
            read(twice).err().as_deref(),
            Some("layers of x: `a` is listed twice")
        );
        assert!(read("no table").is_err());
    }
}
