//! Networks of nodes: planned and active.

use crate::state::cluster::Cluster;

impl Cluster {
    /// Activates the planned interfaces of a node.
    pub(crate) fn apply_network(&mut self, node: &str) {
        let planned = self.rows(&planned(node)).to_vec();
        self.records.insert(running(node), planned);
    }
}

/// Path of the planned interfaces.
pub(crate) fn planned(node: &str) -> String {
    format!("/nodes/{node}/network")
}

/// Path of the active interfaces.
pub(crate) fn running(node: &str) -> String {
    format!("/running/nodes/{node}/network")
}
