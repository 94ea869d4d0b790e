//! Networks of nodes: planned and active.

use crate::state::cluster::Cluster;
use crate::state::records::{Row, Rows};

impl Cluster {
    /// Activates the planned interfaces of a node.
    pub(crate) fn apply_network(&mut self, node: &str) {
        let planned: Rows = rows(self, &planned(node)).to_vec();
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

pub(crate) fn rows<'a>(cluster: &'a Cluster, key: &str) -> &'a [(String, Row)] {
    cluster.records.get(key).map_or(&[][..], Vec::as_slice)
}
