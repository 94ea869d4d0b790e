//! The table of layers, and imports that violate it.

use std::collections::BTreeMap;

use super::imports::Import;

/// The layers of a source folder.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Modules with their heights; higher ones may import lower ones.
    heights: BTreeMap<String, usize>,
}

#[cfg(test)]
impl Table {
    /// A module of the lowest layer and one of the highest.
    pub(super) fn ends(&self) -> Option<(&str, &str)> {
        let lowest = self.heights.iter().min_by_key(|(_, height)| **height)?;
        let highest = self.heights.iter().max_by_key(|(_, height)| **height)?;
        Some((lowest.0, highest.0))
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
            for module in row.split_whitespace() {
                if table.heights.insert(module.to_owned(), height).is_some() {
                    return Err(format!("layers of {folder}: `{module}` is listed twice"));
                }
            }
        }
        tables.insert(folder.trim().to_owned(), table);
    }
    match tables.is_empty() {
        true => Err("the document has no block of layers".to_owned()),
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

/// Imports against the order, and modules that are not in it.
pub(super) fn violations(table: &Table, imports: &[Import]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
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
            let relation = match own == other {
                true => "which is on the same line",
                false => "which is on a higher line",
            };
            problems.push(format!(
                "{}:{}: `{from}` imports `{to}` ({}), {relation}",
                import.from, import.line, import.path
            ));
        }
    }
    for (module, file) in seen {
        if !is_root(module) && !table.heights.contains_key(module) {
            problems.push(format!("{file}: `{module}` is in no layer"));
        }
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
            [
                "value.rs:3: `value` imports `client` (crate::client/send.rs), which is on a higher line"
            ]
        );
        assert_eq!(
            check("client.rs", "task.rs"),
            ["client.rs:3: `client` imports `task` (crate::task.rs), which is on the same line"]
        );
        assert_eq!(
            check("other.rs", "util.rs"),
            ["other.rs: `other` is in no layer"]
        );
    }

    #[test]
    fn a_module_may_be_listed_only_once() {
        let twice = "```layers x\na b\na\n```\n";
        assert_eq!(
            read(twice).err().as_deref(),
            Some("layers of x: `a` is listed twice")
        );
        assert!(read("no table").is_err());
    }
}
