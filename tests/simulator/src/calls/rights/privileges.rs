//! Sets of privileges, and their paths.

pub(crate) const SDN_SEE: &[&str] = &["SDN.Audit", "SDN.Allocate"];

pub(crate) const SDN_CHANGE: &[&str] = &["SDN.Allocate"];

pub(crate) const MAPPING_SEE: &[&str] = &["Mapping.Modify", "Mapping.Use", "Mapping.Audit"];

pub(crate) const STORAGE_SEE: &[&str] = &["Datastore.Audit", "Datastore.AllocateSpace"];

pub(crate) const NODE_SEE: &[&str] = &["Sys.Audit", "Sys.Modify"];

pub(crate) const SPACE: &[&str] = &["Datastore.AllocateSpace"];

pub(crate) const VNET: &str = "/sdn/zones/{zone}/{vnet}";

pub(crate) const VNETS: &str = "/cluster/sdn/vnets";
