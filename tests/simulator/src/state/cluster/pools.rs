//! Pools and their members.

use crate::state::cluster::Cluster;

impl Cluster {
    /// The pool of a storage.
    pub(crate) fn pool_of_storage(&self, storage: &str) -> Option<&String> {
        let mut pools = self.pools.keys();
        pools.find(|pool| has_storage(self, pool, storage))
    }
}

/// Path of the storages of a pool.
pub(crate) fn storages(pool: &str) -> String {
    format!("/pools/{pool}/storage")
}

pub(crate) fn has_storage(cluster: &Cluster, pool: &str, storage: &str) -> bool {
    cluster.entry(&storages(pool), storage).is_some()
}
