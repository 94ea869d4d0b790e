//! Roles, groups and access rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::privileges::{PRIVILEGES, all_privileges};
use crate::state::access::{Access, Identity};

/// Path of each area's privileges in the `cap` map of a login.
fn area_path(area: &str) -> &'static str {
    match area {
        "vms" => "/vms",
        "storage" => "/storage",
        "access" => "/access",
        "nodes" => "/nodes",
        "mapping" => "/mapping",
        "sdn" => "/sdn",
        _ => "/",
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    pub(crate) privileges: BTreeSet<String>,
    pub(crate) builtin: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) comment: Option<String>,
    pub(crate) users: BTreeSet<String>,
}

/// The subject of an access rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    User,
    Group,
    Token,
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Token => "token",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) subject: Subject,
    /// User, group or full token id.
    pub(crate) ugid: String,
    pub(crate) role: String,
    pub(crate) propagate: bool,
}

/// The built-in roles.
pub(crate) fn builtin_roles(major: u8) -> BTreeMap<String, Role> {
    let all = all_privileges(major);
    let pick = |test: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        all.iter()
            .filter(|privilege| test(privilege))
            .cloned()
            .collect()
    };
    // Privileges that only root@pam and the role Administrator have (pve-access-control
    // `AccessControl.pm`, `create_roles`).
    let root_like = [
        "Mapping.Modify",
        "Realm.Allocate",
        "Sys.Modify",
        "Sys.PowerMgmt",
        "Sys.Incoming",
        "Sys.AccessNetwork",
        "Permissions.Modify",
    ];
    let roles = [
        ("Administrator", all.clone()),
        ("NoAccess", BTreeSet::new()),
        ("PVEAdmin", pick(&|p| !root_like.contains(&p))),
        ("PVEAuditor", pick(&|p| p.ends_with(".Audit"))),
        ("PVEDatastoreAdmin", pick(&|p| p.starts_with("Datastore."))),
        (
            "PVEDatastoreUser",
            pick(&|p| matches!(p, "Datastore.Audit" | "Datastore.AllocateSpace")),
        ),
        ("PVEMappingAdmin", pick(&|p| p.starts_with("Mapping."))),
        ("PVEMappingAuditor", pick(&|p| p == "Mapping.Audit")),
        (
            "PVEMappingUser",
            pick(&|p| matches!(p, "Mapping.Audit" | "Mapping.Use")),
        ),
        ("PVEPoolAdmin", pick(&|p| p.starts_with("Pool."))),
        ("PVEPoolUser", pick(&|p| p == "Pool.Audit")),
        ("PVESDNAdmin", pick(&|p| p.starts_with("SDN."))),
        (
            "PVESDNUser",
            pick(&|p| matches!(p, "SDN.Audit" | "SDN.Use")),
        ),
        (
            "PVESysAdmin",
            pick(&|p| matches!(p, "Sys.Audit" | "Sys.Console" | "Sys.Syslog")),
        ),
        (
            "PVETemplateUser",
            pick(&|p| matches!(p, "VM.Audit" | "VM.Clone")),
        ),
        (
            "PVEUserAdmin",
            pick(&|p| matches!(p, "User.Modify" | "Group.Allocate" | "Realm.AllocateUser")),
        ),
        ("PVEVMAdmin", pick(&|p| p.starts_with("VM."))),
        (
            "PVEVMUser",
            pick(&|p| {
                matches!(
                    p,
                    "VM.Audit"
                        | "VM.Backup"
                        | "VM.Config.CDROM"
                        | "VM.Config.Cloudinit"
                        | "VM.Console"
                        | "VM.GuestAgent.Audit"
                        | "VM.GuestAgent.FileRead"
                        | "VM.GuestAgent.FileSystemMgmt"
                        | "VM.GuestAgent.FileWrite"
                        | "VM.PowerMgmt"
                )
            }),
        ),
    ];
    roles
        .into_iter()
        .map(|(name, privileges)| {
            let role = Role {
                privileges,
                builtin: true,
            };
            (name.to_owned(), role)
        })
        .collect()
}

impl Access {
    /// The privileges of a user at a path.
    ///
    /// The rule nearest to the path decides; at one path a rule for the user precedes those for its
    /// groups. A token with privilege separation has only privileges that both it and its user
    /// have.
    pub(crate) fn privileges(&self, identity: &Identity, path: &str) -> BTreeSet<String> {
        let user = if identity.user == "root@pam" {
            self.roles
                .get("Administrator")
                .map(|role| role.privileges.clone())
                .unwrap_or_default()
        } else {
            let groups: BTreeSet<&str> = self
                .groups
                .iter()
                .filter(|(_, group)| group.users.contains(&identity.user))
                .map(|(name, _)| name.as_str())
                .collect();
            self.rules_at(path, |rule| match rule.subject {
                Subject::User => (rule.ugid == identity.user).then_some(1),
                Subject::Group => groups.contains(rule.ugid.as_str()).then_some(0),
                Subject::Token => None,
            })
        };
        let separated = identity
            .token
            .as_ref()
            .and_then(|token| self.users.get(&identity.user)?.tokens.get(token))
            .is_some_and(|token| token.privsep);
        if !separated {
            return user;
        }
        let full = identity.full();
        let token = self.rules_at(path, |rule| {
            (rule.subject == Subject::Token && rule.ugid == full).then_some(0)
        });
        user.intersection(&token).cloned().collect()
    }

    fn rules_at(&self, path: &str, rank: impl Fn(&Rule) -> Option<u8>) -> BTreeSet<String> {
        let mut at = path;
        loop {
            let here: Vec<(u8, &Rule)> = self
                .rules
                .iter()
                .filter(|rule| rule.path == at && (at == path || rule.propagate))
                .filter_map(|rule| Some((rank(rule)?, rule)))
                .collect();
            if let Some(best) = here.iter().map(|(rank, _)| *rank).max() {
                return here
                    .iter()
                    .filter(|(rank, _)| *rank == best)
                    .filter_map(|(_, rule)| self.roles.get(&rule.role))
                    .flat_map(|role| role.privileges.iter().cloned())
                    .collect();
            }
            if at == "/" {
                return BTreeSet::new();
            }
            at = match at.rsplit_once('/') {
                Some(("", _)) | None => "/",
                Some((parent, _)) => parent,
            };
        }
    }

    /// The `cap` map of a login answer.
    pub(crate) fn capabilities(&self, identity: &Identity, major: u8) -> Value {
        let all = all_privileges(major);
        PRIVILEGES
            .iter()
            .filter(|(area, _)| !area.is_empty())
            .map(|(area, privileges)| {
                let has = self.privileges(identity, area_path(area));
                let visible: serde_json::Map<String, Value> = all
                    .iter()
                    .filter(|p| {
                        privileges.contains(&p.as_str()) || (*area == "vms" && p.starts_with("VM."))
                    })
                    .filter(|p| has.contains(*p))
                    .map(|p| (p.clone(), json!(1)))
                    .collect();
                ((*area).to_owned(), Value::Object(visible))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Any of these privileges allows changing the rules at a path.
pub(crate) fn modifiers(path: &str) -> Vec<&'static str> {
    let area = path.trim_start_matches('/').split_once('/');
    let more = match area.map(|(area, _)| area) {
        Some("storage") => Some("Datastore.Allocate"),
        Some("vms") => Some("VM.Allocate"),
        Some("pool") => Some("Pool.Allocate"),
        _ => None,
    };
    std::iter::once("Permissions.Modify").chain(more).collect()
}
