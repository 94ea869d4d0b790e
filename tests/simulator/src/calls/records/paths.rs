//! Paths with special rules.

/// Parameters that control the call and are not stored.
pub(crate) const ACTIONS: [&str; 10] = [
    "digest",
    "delete",
    "pos",
    "moveto",
    "rename",
    "lock-token",
    "purge",
    "force",
    "keep",
    "quiet",
];

pub(crate) const NETWORK: &str = "/nodes/{node}/network";

/// Lists with entries in a new installation; their answers are samples until something is written.
const FILLED: [&str; 1] = ["/nodes/{node}/apt/repositories"];

/// Whether a list starts empty and is fully known.
pub(crate) fn strict(path: &str) -> bool {
    !FILLED.contains(&path)
}

/// Options whose answer has only written values.
pub(crate) fn plain_options(path: &str) -> bool {
    ["/cluster/firewall/", "/cluster/ha/", "/cluster/sdn/"]
        .iter()
        .any(|start| path.starts_with(start))
        || path.contains("/firewall/")
        || path == "/cluster/options"
}

/// Lists that exist at several places, by the end of their path.
pub(crate) const ALIASES: &str = "/firewall/aliases";

pub(crate) const ENTRIES: &str = "/firewall/ipset/{name}";

pub(crate) fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}
