//! Indexed parameters such as `net0`, and their highest indexes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::embedded::section;

/// The highest index of each indexed parameter, such as `net` for `net0` to `net31`.
pub(crate) static HIGHEST_INDEXES: LazyLock<BTreeMap<String, u32>> = LazyLock::new(|| {
    section("last_index")
        .flat_map(toml::Table::values)
        .filter_map(toml::Value::as_table)
        .flatten()
        .filter_map(|(name, highest)| {
            let highest = u32::try_from(highest.as_integer()?).ok()?;
            Some((name.strip_suffix("[n]")?.to_owned(), highest))
        })
        .collect()
});

/// `net12` as `("net", 12)`, if `net12` is an indexed parameter.
pub(crate) fn split_index(name: &str) -> Option<(&str, u32)> {
    let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[prefix.len()..];
    if prefix.is_empty() || digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let index = digits.parse().ok()?;
    (index <= *HIGHEST_INDEXES.get(prefix)?).then_some((prefix, index))
}

/// Whether a name is this indexed parameter with a valid index.
pub(crate) fn has_index(name: &str, prefix: &str) -> bool {
    split_index(name).is_some_and(|(found, _)| found == prefix)
}

/// `net` of `net0`, and any other name unchanged.
pub(crate) fn without_index(name: &str) -> &str {
    split_index(name).map_or(name, |(prefix, _)| prefix)
}
