//! Permissions of users, and the permission rules of endpoints.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_codegen::facts::Check;

use crate::api_error::{ApiError, ApiResult};
use crate::formats::split_list;
use crate::state::access::Identity;
use crate::state::access::roles::modifiers;
use crate::state::cluster::Cluster;

/// The path normalized for permission lookups; `None` for an invalid one.
fn permission_path(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if text.is_empty() || !text.chars().all(fits) {
        return None;
    }
    let parts = text.split('/').filter(|part| !part.is_empty());
    Some(parts.fold(String::new(), |path, part| path + "/" + part)).map(|path| {
        if path.is_empty() {
            "/".to_owned()
        } else {
            path
        }
    })
}

/// An invalid user name ends a call before its parameters are checked.
fn check_user_name(userid: &str) -> ApiResult<()> {
    match crate::formats::check("pve-userid", userid) {
        Some(Err(text)) => Err(ApiError::die(text.trim_end())),
        _ => Ok(()),
    }
}

impl Cluster {
    /// The privileges of a user at a path, including those from pools.
    pub(crate) fn privileges(&self, identity: &Identity, path: &str) -> BTreeSet<String> {
        let mut privileges = self.access.privileges(identity, path);
        let pool = match path.trim_start_matches('/').split_once('/') {
            Some(("vms", vmid)) => vmid
                .parse()
                .ok()
                .and_then(|vmid: u32| self.guests.get(&vmid)?.pool.as_ref()),
            Some(("storage", storage)) => self.pool_of_storage(storage),
            _ => None,
        };
        if let Some(pool) = pool {
            privileges.extend(self.access.privileges(identity, &format!("/pool/{pool}")));
        }
        privileges
    }

    fn check_user_exists(&self, userid: &str) -> ApiResult<()> {
        match self.access.users.contains_key(userid) {
            true => Ok(()),
            false => Err(ApiError::die(format!("no such user ('{userid}')"))),
        }
    }

    /// Whether a user has one of these privileges on the groups of the user in `userid`; with
    /// `groups_param`, also on those in `groups`.
    fn check_groups(
        &self,
        identity: &Identity,
        privileges: &[String],
        groups_param: Option<&str>,
        params: &BTreeMap<String, String>,
    ) -> ApiResult<()> {
        let userid = params.get("userid").map_or("", String::as_str);
        let may = |path: &str| {
            let has = self.privileges(identity, path);
            privileges.iter().any(|p| has.contains(p))
        };
        let creates = groups_param == Some("create");
        if !creates {
            self.check_user_exists(userid)?;
        }
        let refusal = |path: &str| {
            let text = format!("{path}, {}", privileges.join("|"));
            Err(ApiError::permission(&text))
        };
        if may("/access/groups") {
            return Ok(());
        }
        if groups_param.is_some() {
            let groups = params.get("groups").map_or("", String::as_str);
            let mut groups = split_list(groups).peekable();
            if groups.peek().is_none() {
                return refusal("/access/groups");
            }
            for group in groups {
                let path = format!("/access/groups/{group}");
                if !may(&path) {
                    return refusal(&path);
                }
            }
        }
        let mut groups = self.access.groups.iter();
        let member = groups.any(|(name, group)| {
            group.users.contains(userid) && may(&format!("/access/groups/{name}"))
        });
        match creates || member {
            true => Ok(()),
            false => Err(ApiError::permission("")),
        }
    }

    /// Whether an endpoint's rule admits a user.
    pub(crate) fn check(
        &self,
        identity: &Identity,
        check: &Check,
        params: &BTreeMap<String, String>,
    ) -> ApiResult<()> {
        let fill = |path: &str| -> String {
            path.split('/')
                .map(
                    |part| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                        Some(name) => params.get(name).cloned().unwrap_or_else(|| "-".to_owned()),
                        None => part.to_owned(),
                    },
                )
                .collect::<Vec<_>>()
                .join("/")
        };
        let refuse = |text: &str| Err(ApiError::permission(text));
        let userid = params.get("userid").map_or("", String::as_str);
        match check {
            Check::Or(choices) => {
                let mut verdicts = choices
                    .iter()
                    .map(|choice| self.check(identity, choice, params));
                match verdicts.any(|verdict| verdict.is_ok()) {
                    true => Ok(()),
                    false => refuse(""),
                }
            }
            Check::And(all) => all
                .iter()
                .try_for_each(|check| self.check(identity, check, params)),
            Check::Perm {
                path,
                privileges,
                any,
                require_param,
            } => {
                if require_param
                    .as_ref()
                    .is_some_and(|name| !params.contains_key(name))
                {
                    return refuse("");
                }
                // Nobody has privileges at an invalid path, not even root's tokens.
                let path = permission_path(&fill(path));
                let has = path
                    .as_ref()
                    .map(|path| self.privileges(identity, path))
                    .unwrap_or_default();
                let path = path.unwrap_or_default();
                if *any {
                    if privileges.iter().any(|p| has.contains(p)) {
                        return Ok(());
                    }
                    return refuse(&format!("{path}, {}", privileges.join("|")));
                }
                match privileges.iter().find(|p| !has.contains(*p)) {
                    Some(missing) => refuse(&format!("{path}, {missing}")),
                    None => Ok(()),
                }
            }
            Check::UserIdParam(name) if name == "self" => {
                check_user_name(userid)?;
                self.check_user_exists(userid)?;
                match identity.full() == userid {
                    true => Ok(()),
                    false => refuse(""),
                }
            }
            Check::UserIdParam(_) => {
                check_user_name(userid)?;
                let realm = userid.rsplit_once('@').map_or("", |(_, realm)| realm);
                let path = format!("/access/realm/{realm}");
                if self
                    .privileges(identity, &path)
                    .contains("Realm.AllocateUser")
                {
                    Ok(())
                } else {
                    refuse(&format!("{path}, Realm.AllocateUser"))
                }
            }
            Check::UserIdGroup {
                privileges,
                groups_param,
            } => self.check_groups(identity, privileges, groups_param.as_deref(), params),
            Check::PermModify(path) => {
                let path = fill(path);
                let path = if path.is_empty() {
                    "/".to_owned()
                } else {
                    path
                };
                let privileges = self.privileges(identity, &path);
                let any_of = modifiers(&path);
                if any_of.iter().any(|p| privileges.contains(*p)) {
                    Ok(())
                } else {
                    refuse(&format!("{path}, {}", any_of.join("|")))
                }
            }
            Check::UserParam(_) | Check::Roles(_) => Ok(()),
        }
    }
}
