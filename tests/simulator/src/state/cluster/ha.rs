//! High availability of guests.

use serde_json::{Value, json};

use crate::state::cluster::Cluster;
use crate::state::guest::Kind;
use crate::state::records::Row;

impl Cluster {
    /// The HA resource of a guest, if it has one.
    pub(crate) fn ha_resource(&self, vmid: u32) -> Option<&Row> {
        self.rows(RESOURCES)
            .iter()
            .find(|(sid, _)| vmid_of(sid) == Some(vmid))
            .map(|(_, row)| row)
    }

    /// The requested state of a managed guest; `None` if the manager ignores it.
    pub(crate) fn ha_state(&self, vmid: u32) -> Option<&str> {
        let row = self.ha_resource(vmid)?;
        let state = row.get("state").and_then(Value::as_str);
        Some(state.unwrap_or("started")).filter(|state| *state != "ignored")
    }

    pub(crate) fn ask_ha(&mut self, vmid: u32, state: &str) {
        let rows = self.records.entry(RESOURCES.to_owned()).or_default();
        for (_, row) in rows
            .iter_mut()
            .filter(|(sid, _)| vmid_of(sid) == Some(vmid))
        {
            row.insert("state".into(), json!(state));
        }
    }
}

pub(crate) const RESOURCES: &str = "/cluster/ha/resources";

pub(crate) fn vmid_of(sid: &str) -> Option<u32> {
    sid.rsplit(':').next()?.parse().ok()
}

/// `vm:100` of `vm:100`, `ct:100` or `100`.
pub(crate) fn full_id(cluster: &Cluster, sid: &str) -> String {
    if sid.contains(':') {
        return sid.to_owned();
    }
    let container = sid
        .parse()
        .ok()
        .and_then(|vmid| cluster.guests.get(&vmid))
        .is_some_and(|guest| guest.kind == Kind::Lxc);
    format!("{}:{sid}", if container { "ct" } else { "vm" })
}
