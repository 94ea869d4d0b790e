//! Storages and volumes of the cluster.

use crate::api_error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::state::cluster::Cluster;
use crate::state::storage::{Storage, VolumeKey};

impl Cluster {
    pub(crate) fn storage(&self, id: &str) -> ApiResult<&Storage> {
        self.storages
            .get(id)
            .ok_or_else(|| ApiError::die(format!("storage '{id}' does not exist")))
    }

    /// A storage that is enabled on a node.
    pub(crate) fn enabled_storage(&self, id: &str, node: &str) -> ApiResult<&Storage> {
        let storage = self.storage(id)?;
        if storage.disabled {
            return Err(ApiError::die(format!("storage '{id}' is disabled")));
        }
        let nodes = storage.settings.get("nodes");
        if nodes.is_some_and(|nodes| !split_list(nodes).any(|other| other == node)) {
            return Err(ApiError::die(format!(
                "storage '{id}' is not available on node '{node}'"
            )));
        }
        Ok(storage)
    }

    /// The key of a volume on a node.
    pub(crate) fn volume_key(&self, node: &str, volid: &str) -> VolumeKey {
        let shared = volid
            .split_once(':')
            .and_then(|(storage, _)| self.storages.get(storage))
            .is_some_and(|storage| storage.shared);
        let node = if shared { "" } else { node };
        (node.to_owned(), volid.to_owned())
    }

    /// Removes the volumes that were created for the guest in progress.
    pub(crate) fn remove_uncommitted(&mut self) {
        for key in std::mem::take(&mut self.uncommitted_volumes) {
            self.volumes.remove(&key);
        }
    }

    pub(crate) fn used(&self, node: &str, storage: &str) -> u64 {
        self.volumes
            .iter()
            .filter(|((on, _), volume)| volume.storage == storage && (on.is_empty() || on == node))
            .map(|(_, volume)| volume.size)
            .sum()
    }
}
