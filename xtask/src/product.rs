//! The locations of a product's parts in the workspace. Another product is another value, with
//! schema and overlay.

use std::path::{Path, PathBuf};

use proxmox_codegen::facts::Release;

use crate::files;

/// The folders and files of one product, below the workspace.
#[derive(Debug)]
pub(crate) struct Product {
    /// The name for `import`.
    pub(crate) name: &'static str,
    /// One file of facts for each release.
    pub(crate) schema: &'static str,
    pub(crate) overlay: &'static str,
    pub(crate) lock: &'static str,
    /// The generated part of the crate.
    pub(crate) code: &'static str,
    /// The expectations of the tests.
    pub(crate) expectations: &'static str,
}

pub(crate) const PVE: Product = Product {
    name: "pve",
    schema: "schema/pve",
    overlay: "schema/pve/overlay",
    lock: "schema/pve/names.lock",
    code: "proxmox-api/src/pve",
    expectations: "tests/e2e/src/generated",
};

impl Product {
    pub(crate) fn schema(&self, root: &Path) -> PathBuf {
        root.join(self.schema)
    }

    /// The file of the newest release.
    pub(crate) fn newest(&self, root: &Path) -> Result<PathBuf, String> {
        let files = files::files_below(&self.schema(root))?;
        let release = |path: &PathBuf| -> Option<Release> {
            let name = path.file_name()?.to_str()?;
            name.strip_suffix(".json")?.parse().ok()
        };
        let newest = files.into_iter().max_by_key(release);
        newest.ok_or_else(|| format!("{}: contains no release", self.schema))
    }

    pub(crate) fn overlay(&self, root: &Path) -> PathBuf {
        root.join(self.overlay)
    }

    pub(crate) fn lock(&self, root: &Path) -> PathBuf {
        root.join(self.lock)
    }

    pub(crate) fn code(&self, root: &Path) -> PathBuf {
        root.join(self.code)
    }

    pub(crate) fn expectations(&self, root: &Path) -> PathBuf {
        root.join(self.expectations)
    }
}
