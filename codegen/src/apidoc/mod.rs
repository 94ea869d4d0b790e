//! Strict reader of the official API dumps.
//!
//! Every Proxmox product publishes its API as a JavaScript file that assigns one JSON array: a tree
//! of path nodes, each with the methods of that path. Two dialects exist: the Perl products (PVE,
//! PMG) and the Rust products (PBS, PDM). This module turns both into [`Facts`].
//!
//! * Every key must be known in its place, and every value must have a known type; anything else is
//!   a [`Problem`]. A change of the dialect is therefore noticed at the import and not as a missing
//!   field later.
//! * Flags become booleans (`1`, `"1"`, `true`), bounds become numbers (`"0"`), `enum: null` goes away.
//! * Prose is dropped. A default is kept if it is a value of the schema's type: `"1"` of a boolean
//!   becomes `true`, a sentence on an integer is dropped. A string default with a space is dropped,
//!   because it describes what the default depends on, unless it is one of the schema's values.
//! * `min` and `max` on keys of property strings are misspelt bounds that the server ignores, so
//!   they are ignored here too.

mod import;
mod keys;
mod method;
mod permissions;
mod problems;
mod schema;
mod source;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::facts::{Facts, Release};
use crate::json::point;
use crate::product::Product;
use import::Import;

pub use problems::{Problem, Problems};

/// Facts that are not in the dump.
#[derive(Clone, Debug)]
pub struct Origin {
    pub product: &'static Product,
    pub release: Release,
    pub package_version: Option<String>,
}

/// SHA-256 of a source file, in the form of the schema files.
pub fn sha256(source: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(source)
        .iter()
        .fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// Reads a dump: `apidoc.js`, `apidata.js`, or the bare JSON array.
///
/// # Errors
///
/// All problems, in the order of the file.
pub fn parse(source: &[u8], origin: &Origin) -> Result<Facts, Problems> {
    let tree = match source::tree(source) {
        Ok(tree) => tree,
        Err(message) => {
            return Err(Problems(vec![Problem {
                endpoint: None,
                pointer: String::new(),
                message,
            }]));
        }
    };
    let mut import = Import {
        product: origin.product,
        dialect: origin.product.dialect,
        endpoint: None,
        problems: Vec::new(),
        usages: BTreeMap::new(),
        endpoints: BTreeMap::new(),
    };
    for (n, node) in tree.iter().enumerate() {
        import.node(&point("", n), node);
    }
    import.endpoint = None;
    if import.endpoints.is_empty() && import.problems.is_empty() {
        import.problem("", "the array holds no method");
    }
    let formats = import.formats();
    if !import.problems.is_empty() {
        return Err(Problems(import.problems));
    }
    Ok(Facts {
        product: origin.product,
        release: origin.release,
        package_version: origin.package_version.clone(),
        source_sha256: sha256(source),
        formats,
        endpoints: import.endpoints,
    })
}
