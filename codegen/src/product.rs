//! The Proxmox products. A further one needs a row here, its schema and its overlay.

use std::fmt;
use std::path::{Path, PathBuf};

/// A product, as far as neither its dumps nor its overlay describe it.
#[derive(Debug, PartialEq, Eq)]
pub struct Product {
    /// The name of its schema folder, and of its module in the crate.
    pub name: &'static str,
    pub title: &'static str,
    pub(crate) dialect: Dialect,
    /// A path that every release has and no other product has.
    mark: &'static str,
    /// The keys by which its dumps mark methods that may answer with a file.
    pub(crate) download: &'static [&'static str],
    /// Its permission checks name roles and not privileges.
    pub(crate) checks_roles: bool,
    pub port: u16,
    /// The path at which its servers serve their dump.
    pub dump: Option<&'static str>,
    /// The cookie that carries a ticket.
    pub cookie: &'static str,
    /// The prefix of an API token in the `Authorization` field, and the separator between its id
    /// and its secret.
    pub token: Option<(&'static str, char)>,
    /// The program that makes calls from a shell of the server.
    pub(crate) shell: Option<&'static str>,
    /// The folder of the generated expectations, if its code is generated.
    expectations: Option<&'static str>,
}

/// How a dump is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Perl,
    Rust,
}

pub static PVE: Product = Product {
    name: "pve",
    title: "Proxmox VE",
    dialect: Dialect::Perl,
    mark: "/nodes/{node}/qemu/{vmid}",
    download: &["download_allowed"],
    checks_roles: false,
    port: 8006,
    dump: Some("/pve-docs/api-viewer/apidoc.js"),
    cookie: "PVEAuthCookie",
    token: Some(("PVEAPIToken=", '=')),
    shell: Some("pvesh"),
    expectations: Some("tests/e2e/src/generated"),
};

pub static PBS: Product = Product {
    name: "pbs",
    title: "Proxmox Backup Server",
    dialect: Dialect::Rust,
    mark: "/admin/datastore",
    download: &[],
    checks_roles: false,
    port: 8007,
    dump: None,
    cookie: "PBSAuthCookie",
    token: Some(("PBSAPIToken=", ':')),
    shell: None,
    expectations: None,
};

pub static PMG: Product = Product {
    name: "pmg",
    title: "Proxmox Mail Gateway",
    dialect: Dialect::Perl,
    mark: "/config/mail",
    download: &["download", "download_allowed"],
    checks_roles: true,
    port: 8006,
    dump: None,
    cookie: "PMGAuthCookie",
    token: None,
    shell: Some("pmgsh"),
    expectations: None,
};

pub static PDM: Product = Product {
    name: "pdm",
    title: "Proxmox Datacenter Manager",
    dialect: Dialect::Rust,
    mark: "/pve/remotes",
    download: &[],
    checks_roles: false,
    port: 8443,
    dump: None,
    cookie: "PDMAuthCookie",
    token: Some(("PDMAPIToken=", ':')),
    shell: None,
    expectations: None,
};

pub static ALL: [&Product; 4] = [&PVE, &PBS, &PMG, &PDM];

impl Product {
    /// The product of an API with these paths, if it is known.
    #[must_use]
    pub fn of<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Option<&'static Product> {
        ALL.into_iter()
            .find(|product| paths.clone().any(|path| path == product.mark))
    }

    /// The product of that name.
    ///
    /// # Errors
    ///
    /// The names that there are.
    pub fn named(name: &str) -> Result<&'static Product, String> {
        ALL.into_iter()
            .find(|product| product.name == name)
            .ok_or_else(|| {
                let names = ALL.map(|product| product.name).join(", ");
                format!("{name:?} is not one of {names}")
            })
    }

    /// One file of facts for each release, and the overlay.
    #[must_use]
    pub fn schema(&self, root: impl AsRef<Path>) -> PathBuf {
        root.as_ref().join("schema").join(self.name)
    }

    #[must_use]
    pub fn overlay(&self, root: impl AsRef<Path>) -> PathBuf {
        self.schema(root).join("overlay")
    }

    /// The names of generated types.
    #[must_use]
    pub fn lock(&self, root: impl AsRef<Path>) -> PathBuf {
        self.schema(root).join("names.lock")
    }

    /// The generated part of the crate.
    #[must_use]
    pub fn code(&self, root: impl AsRef<Path>) -> PathBuf {
        root.as_ref().join("proxmox-api/src").join(self.name)
    }

    /// The generated expectations of the tests; `None` if there is no generated code.
    #[must_use]
    pub fn expectations(&self, root: impl AsRef<Path>) -> Option<PathBuf> {
        self.expectations.map(|below| root.as_ref().join(below))
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
