//! The configuration of a guest, as its file holds it.

use std::collections::BTreeMap;

pub(crate) type Config = BTreeMap<String, String>;
