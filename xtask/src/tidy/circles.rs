//! Files that import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::Import;

/// The maximum of files that import each other: a module and one of its parts.
const LARGEST: usize = 2;

/// Every circle that is too large.
pub(super) fn violations(imports: &[Import]) -> Vec<String> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        if import.from != import.to {
            graph.entry(&import.from).or_default().insert(&import.to);
            graph.entry(&import.to).or_default();
        }
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|start| (*start, reachable(&graph, start)))
        .collect();
    let mut reported = BTreeSet::new();
    let mut problems = Vec::new();
    for file in graph.keys() {
        let circle: Vec<&str> = reach[file]
            .iter()
            .copied()
            .filter(|other| reach[other].contains(file))
            .collect();
        if circle.len() > LARGEST && reported.insert(circle.clone()) {
            let edges: Vec<String> = imports
                .iter()
                .filter(|import| {
                    import.from != import.to
                        && circle.contains(&import.from.as_str())
                        && circle.contains(&import.to.as_str())
                })
                .map(|import| format!("{}:{} -> {}", import.from, import.line, import.to))
                .collect();
            problems.push(format!(
                "{file}: {} files import each other in a circle:\n      {}",
                circle.len(),
                edges.join("\n      ")
            ));
        }
    }
    problems
}

fn reachable<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = graph[start].iter().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(graph[file].iter().copied());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Vec<Import> {
        let edge = |(from, to): &(&str, &str)| Import {
            from: (*from).to_owned(),
            line: 1,
            to: (*to).to_owned(),
            path: String::new(),
        };
        edges.iter().map(edge).collect()
    }

    #[test]
    fn two_files_may_import_each_other_and_three_may_not() {
        assert!(violations(&graph(&[("a", "b"), ("b", "a"), ("b", "c")])).is_empty());
        let found = violations(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]));
        assert_eq!(found.len(), 1);
        let problem = &found[0];
        assert!(problem.starts_with("a: 3 files"), "{problem}");
        assert!(!problem.contains("d:1"), "{problem}");
    }
}
