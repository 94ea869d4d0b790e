//! The privileges of each release.

use std::collections::BTreeSet;

/// Privileges by their area in the `cap` map; those without an area last.
pub(crate) const PRIVILEGES: [(&str, &[&str]); 8] = [
    (
        "vms",
        &[
            "VM.Allocate",
            "VM.Audit",
            "VM.Backup",
            "VM.Clone",
            "VM.Config.CDROM",
            "VM.Config.CPU",
            "VM.Config.Cloudinit",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.Console",
            "VM.Migrate",
            "VM.PowerMgmt",
            "VM.Snapshot",
            "VM.Snapshot.Rollback",
            "Permissions.Modify",
        ],
    ),
    (
        "storage",
        &[
            "Datastore.Allocate",
            "Datastore.AllocateSpace",
            "Datastore.AllocateTemplate",
            "Datastore.Audit",
            "Permissions.Modify",
        ],
    ),
    (
        "access",
        &["User.Modify", "Group.Allocate", "Permissions.Modify"],
    ),
    (
        "dc",
        &[
            "Sys.Audit",
            "Sys.Modify",
            "SDN.Allocate",
            "SDN.Audit",
            "SDN.Use",
        ],
    ),
    (
        "nodes",
        &[
            "Sys.Audit",
            "Sys.Console",
            "Sys.Incoming",
            "Sys.Modify",
            "Sys.PowerMgmt",
            "Sys.Syslog",
            "Sys.AccessNetwork",
            "Permissions.Modify",
        ],
    ),
    (
        "mapping",
        &[
            "Mapping.Audit",
            "Mapping.Modify",
            "Mapping.Use",
            "Permissions.Modify",
        ],
    ),
    (
        "sdn",
        &["SDN.Allocate", "SDN.Audit", "SDN.Use", "Permissions.Modify"],
    ),
    (
        "",
        &[
            "Pool.Allocate",
            "Pool.Audit",
            "Realm.Allocate",
            "Realm.AllocateUser",
        ],
    ),
];

/// Every privilege of a release with this major version.
pub(crate) fn all_privileges(major: u8) -> BTreeSet<String> {
    let later: &[&str] = if major >= 9 {
        &[
            "VM.Replicate",
            "VM.GuestAgent.Audit",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.GuestAgent.Unrestricted",
        ]
    } else {
        &["VM.Monitor"]
    };
    PRIVILEGES
        .iter()
        .flat_map(|(_, privileges)| privileges.iter())
        .chain(later)
        .map(|privilege| (*privilege).to_owned())
        .collect()
}
