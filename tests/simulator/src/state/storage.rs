//! Storages and the volumes on them.

use std::collections::BTreeMap;

use crate::state::config::Config;

pub(crate) const GIB: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) kind: String,
    pub(crate) content: Vec<String>,
    pub(crate) shared: bool,
    pub(crate) total: u64,
    pub(crate) path: Option<String>,
    pub(crate) disabled: bool,
    /// Settings that the simulator only stores.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Storage {
    /// Whether volumes are files with a format, in directories.
    pub(crate) fn is_file_based(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "dir" | "nfs" | "cifs" | "cephfs" | "btrfs" | "glusterfs"
        )
    }

    pub(crate) fn holds(&self, content: &str) -> bool {
        self.content.iter().any(|c| c == content)
    }
}

/// The node of a local volume (empty for a shared one), and the volume id.
pub(crate) type VolumeKey = (String, String);

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) storage: String,
    pub(crate) content: String,
    pub(crate) format: String,
    pub(crate) size: u64,
    pub(crate) vmid: Option<u32>,
    pub(crate) created: u64,
    pub(crate) notes: Option<String>,
    pub(crate) protected: bool,
    /// The content of a backup.
    pub(crate) saved: Option<Config>,
}
