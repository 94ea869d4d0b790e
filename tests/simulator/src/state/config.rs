//! The configuration of a guest, in the form of its file.

use std::collections::BTreeMap;

pub(crate) type Config = BTreeMap<String, String>;
