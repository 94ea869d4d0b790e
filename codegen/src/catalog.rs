//! Every call as data, for pages that list and search them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::product::Product;

/// All calls of the API and the types of their answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Catalog {
    #[serde(skip)]
    pub product: &'static Product,
    /// Oldest first.
    pub releases: Vec<String>,
    /// Module and its description.
    pub areas: Vec<(String, String)>,
    /// What people type, and the words of the API for it.
    pub synonyms: BTreeMap<String, Vec<String>>,
    /// Paths whose calls come first among those that fit as well.
    pub ranks: BTreeMap<String, u8>,
    pub calls: Vec<Call>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Call {
    pub verb: String,
    pub path: String,
    /// The module of its request type.
    pub area: String,
    pub summary: String,
    /// Other search terms for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The call in Rust, from the client on.
    pub rust: String,
    /// The request's type, if it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Its page in the documentation, below its area.
    pub page: String,
    /// The type of its answer.
    pub answer: String,
    /// The page of the answer's type: module, and page such as `struct.QemuConfig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_type: Option<(String, String)>,
    pub task: bool,
    /// API tokens may make it.
    pub token: bool,
    /// Paragraphs.
    pub privileges: Vec<String>,
    /// Indexes into the releases.
    pub releases: Vec<usize>,
    pub parameters: Vec<Argument>,
}

/// A parameter of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Argument {
    pub name: String,
    /// It is part of the path.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_path: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    pub ty: String,
    /// Meaning, unit, range, default and releases.
    pub about: String,
    /// Known values, or the keys of a property string.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Indexes into the releases, if not all of the call's have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<usize>,
}
