//! Patterns that several formats use.

use crate::pattern;

pub(crate) fn is(pattern: &str, value: &str) -> bool {
    pattern::matches(pattern, value).unwrap_or(true)
}

pub(crate) const NODE: &str = "(?^i:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)";

pub(crate) const CONFIG_ID: &str = "(?^i:[a-z][a-z0-9_-]+)";

pub(crate) const STORAGE_ID: &str = r"(?^i:[a-z][a-z0-9\-_.]*[a-z0-9])";

pub(crate) const IFACE: &str = r"(?^i:[a-z][a-z0-9_]{1,20}(?:[:.]\d+)?)";

pub(crate) const REALM: &str = r"[A-Za-z][A-Za-z0-9.\-_]+";

pub(crate) const DNS: &str = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*";

pub(crate) const EMAIL: &str = r"[\w+\-~]+(?:\.[\w+\-~]+)*@[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*";

pub(crate) const EMAIL_USER: &str = r"[\w+\-~]+(?:\.[\w+\-~]+)*";

pub(crate) const CONTENT_TYPES: [&str; 8] = [
    "images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import",
];

pub(crate) const VOLUME: &str = r"(?^i:[a-z][a-z0-9\-_.]*[a-z0-9]):.+";
