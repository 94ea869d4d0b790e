//! Differences of the wire format between releases.

use proxmox_codegen::facts::Release;

use crate::params::Repeated;

/// Differences of the wire format between releases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireCompat {
    /// Error text is in the body too, not only in the reason phrase (pve-http-server 5.2.0, January 2025).
    pub(crate) message_in_body: bool,
    pub(crate) repeated: Repeated,
    pub(crate) max_body: u64,
}

impl WireCompat {
    pub(crate) fn of(release: Release) -> Self {
        let since = |major, minor| release >= Release { major, minor };
        Self {
            message_in_body: since(8, 4),
            repeated: if since(8, 0) {
                Repeated::List
            } else {
                Repeated::Nul
            },
            max_body: if since(8, 4) { 512 << 10 } else { 64 << 10 },
        }
    }
}
