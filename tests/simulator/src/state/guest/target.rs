//! The target of a migration to another cluster.

use std::fmt;

/// Requirements of a migration on its target.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) fingerprint: Option<String>,
    pub(crate) vmid: u32,
    pub(crate) storages: String,
    pub(crate) bridges: String,
    pub(crate) delete: bool,
}

/// The endpoint without the token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} at {}:{}", self.vmid, self.host, self.port)
    }
}
