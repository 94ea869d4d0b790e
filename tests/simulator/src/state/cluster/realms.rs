//! Realms and their users.

use serde_json::json;

use crate::state::cluster::Cluster;
use crate::state::records::Row;

impl Cluster {
    /// The built-in realms.
    pub(crate) fn configure_realms(&mut self) {
        let realm = |kind: &str, comment: &str| -> Row {
            [("type", kind), ("comment", comment)]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect()
        };
        let mut pve = realm("pve", "Proxmox VE authentication server");
        pve.insert("default".into(), json!("1"));
        let rows = vec![
            (
                "pam".to_owned(),
                realm("pam", "Linux PAM standard authentication"),
            ),
            ("pve".to_owned(), pve),
        ];
        self.records.insert(LIST.into(), rows);
    }
}

pub(crate) const LIST: &str = "/access/domains";
