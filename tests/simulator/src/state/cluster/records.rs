//! Configuration that is stored as lists of entries.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::formats::split_list;
use crate::state::cluster::Cluster;
use crate::state::records::{Row, Rows};

impl Cluster {
    /// Removes the configuration of a removed guest; with `purge` also its entries in jobs.
    pub(crate) fn forget_guest(&mut self, vmid: u32, purge: bool) {
        let prefix = format!("/guests/{vmid}/");
        self.records.retain(|key, _| !key.starts_with(&prefix));
        self.settings.retain(|key, _| !key.starts_with(&prefix));
        if !purge {
            return;
        }
        let id = vmid.to_string();
        for (key, rows) in &mut self.records {
            match key.as_str() {
                "/cluster/ha/resources" => {
                    rows.retain(|(sid, _)| sid.rsplit(':').next() != Some(&id));
                }
                "/cluster/replication" => {
                    rows.retain(|(job, _)| job.split('-').next() != Some(&id));
                }
                "/cluster/backup" => {
                    for (_, row) in rows {
                        if let Some(Value::String(list)) = row.get_mut("vmid") {
                            let left: Vec<&str> =
                                split_list(list).filter(|one| *one != id).collect();
                            *list = left.join(",");
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The default configuration of a node and a cluster.
    pub(crate) fn configure_basics(&mut self) {
        let row = |pairs: &[(&str, &str)]| -> Row {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), json!(value)))
                .collect()
        };
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for (name, number) in names.iter().zip(1..) {
            let address = format!("192.0.2.{number}");
            let cidr = format!("{address}/24");
            let mut wire = row(&[
                ("type", "eth"),
                ("active", "1"),
                ("exists", "1"),
                ("method", "manual"),
                ("method6", "manual"),
                ("priority", "3"),
            ]);
            wire.insert("families".into(), json!(["inet"]));
            let mut bridge = row(&[
                ("type", "bridge"),
                ("active", "1"),
                ("autostart", "1"),
                ("method", "static"),
                ("method6", "manual"),
                ("priority", "4"),
                ("address", &address),
                ("netmask", "24"),
                ("cidr", &cidr),
                ("gateway", "192.0.2.254"),
                ("bridge_ports", "eno1"),
                ("bridge_stp", "off"),
                ("bridge_fd", "0"),
            ]);
            bridge.insert("families".into(), json!(["inet"]));
            // The first port belongs to the bridge, the others are free.
            let free = (0..8).map(|port| (format!("eth{port}"), wire.clone()));
            let mut rows = vec![("eno1".to_owned(), wire.clone())];
            rows.extend(free);
            rows.push(("vmbr0".to_owned(), bridge));
            self.records
                .insert(crate::state::cluster::network::planned(name), rows);
            self.apply_network(name);
        }
        self.records.insert(
            "/cluster/sdn/ipams".into(),
            vec![("pve".to_owned(), row(&[("type", "pve")]))],
        );
        self.configure_notifications();
        self.configure_realms();
        self.apply_sdn();
    }

    /// The entries of a list; none if there is no such list.
    pub(crate) fn rows(&self, list: &str) -> &[(String, Row)] {
        self.records.get(list).map_or(&[], Vec::as_slice)
    }

    /// An entry of a list.
    pub(crate) fn entry(&self, list: &str, id: &str) -> Option<&Row> {
        let mut rows = self.rows(list).iter();
        rows.find(|(key, _)| key == id).map(|(_, row)| row)
    }

    /// The zone of a virtual network.
    pub(crate) fn zone_of_vnet(&self, vnet: &str) -> Option<&str> {
        self.entry("/cluster/sdn/vnets", vnet)?
            .get("zone")?
            .as_str()
    }

    /// Activates the planned network.
    pub(crate) fn apply_sdn(&mut self) {
        self.sdn_running = self.sdn_planned();
    }

    pub(crate) fn sdn_planned(&self) -> BTreeMap<String, Rows> {
        self.records
            .iter()
            .filter(|(key, _)| key.starts_with("/cluster/sdn/"))
            .map(|(key, rows)| (key.clone(), rows.clone()))
            .collect()
    }
}
