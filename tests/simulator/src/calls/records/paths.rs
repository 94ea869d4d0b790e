//! Lists with rules of their own, by path.

/// Parameters that say what to do rather than what to hold.
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

/// Lists that a fresh installation has entries in, which are made up here until something is written to them.
const FILLED: [&str; 1] = ["/nodes/{node}/apt/repositories"];

/// Whether a list starts empty and knows what is in it.
pub(crate) fn strict(path: &str) -> bool {
    !FILLED.contains(&path)
}

/// Options that are nothing but what was written.
pub(crate) fn plain_options(path: &str) -> bool {
    ["/cluster/firewall/", "/cluster/ha/", "/cluster/sdn/"]
        .iter()
        .any(|start| path.starts_with(start))
        || path.contains("/firewall/")
        || path == "/cluster/options"
}

/// Lists that are in several places, by the end of their path.
pub(crate) const ALIASES: &str = "/firewall/aliases";

pub(crate) const ENTRIES: &str = "/firewall/ipset/{name}";

pub(crate) fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}
