//! Lists of configuration entries.

use serde_json::{Map, Value};

/// An entry with its given values: texts, and lists of texts.
pub(crate) type Row = Map<String, Value>;

/// Entries by id, in order.
pub(crate) type Rows = Vec<(String, Row)>;

pub(crate) fn digest(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    // An empty list has the digest of an empty file.
    let text = if matches!(text.as_str(), "[]" | "{}") {
        ""
    } else {
        &text
    };
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) const NOTIFICATION_ENDPOINTS: &str = "/cluster/notifications/endpoints/";

pub(crate) const MATCHERS: &str = "/cluster/notifications/matchers";
