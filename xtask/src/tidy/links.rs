//! Links of the documentation that lead to files of the checkout, which its readers elsewhere lack.

use std::collections::BTreeMap;

/// The links to files, with page and line. README.md is the front page of the documentation.
pub(super) fn violations(pages: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, text) in pages {
        for (number, line) in text.lines().enumerate() {
            if name.ends_with(".rs") && !line.trim_start().starts_with("//") {
                continue;
            }
            for target in targets(line).filter(|target| is_file(target)) {
                problems.push(format!(
                    "{name}:{}: links to `{target}`, which readers of the documentation do not have",
                    number + 1
                ));
            }
        }
    }
    problems
}

/// What the links of a line of Markdown point to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let rest = line.split("](").skip(1);
    rest.filter_map(|rest| rest.split([')', ' ']).next())
}

/// Addresses, sections and items of Rust are none.
fn is_file(target: &str) -> bool {
    let elsewhere = target.contains("://") || target.starts_with('#') || target.contains("::");
    !elsewhere && (target.contains('/') || target.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_and_others_are_not() {
        let page = |name: &str, text: &str| {
            violations(&BTreeMap::from([(name.to_owned(), text.to_owned())])).len()
        };
        assert_eq!(page("a.md", "See [x](docs/x.md) and [y](../y)."), 2);
        assert_eq!(page("a.rs", "//! See [x](X.md)."), 1);
        for text in [
            "[x](#features), [y](https://example.org/x.md), [z](crate::task::Task)",
            "[`Task`](Task) `](docs`",
        ] {
            assert_eq!(page("a.md", text), 0, "{text}");
        }
        assert_eq!(page("a.rs", "let text = \"[x](docs/x.md)\";"), 0);
    }
}
