//! The permissions of a user, from `GET /access/permissions`.

use std::collections::BTreeMap;

use proxmox_api::{Client, Error, Value};

/// Privileges by path, each with whether it propagates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions(BTreeMap<String, BTreeMap<String, bool>>);

impl Permissions {
    /// The permissions of the client's own user, or of another, which requires `Sys.Audit` on
    /// `/access`.
    pub(crate) async fn fetch(client: &Client, of: Option<&str>) -> Result<Self, Error> {
        use proxmox_api::value::endpoint::Method;
        let mut request = client.request(Method::Get, "/access/permissions");
        if let Some(user) = of {
            request = request.param("userid", user);
        }
        let answer: Value = request.await?;
        Ok(Self::read(&answer))
    }

    fn read(answer: &Value) -> Self {
        let paths = answer.as_object().into_iter().flatten();
        let paths = paths.map(|(path, privileges)| {
            let privileges = privileges.as_object().into_iter().flatten();
            let privileges = privileges.map(|(name, propagates)| {
                let propagates = match propagates {
                    Value::Bool(yes) => *yes,
                    Value::String(text) => text != "0" && !text.is_empty(),
                    number => number.as_i64() != Some(0),
                };
                (name.clone(), propagates)
            });
            (path.clone(), privileges.collect())
        });
        Self(paths.collect())
    }

    /// Whether a privilege is held on a path. The nearest listed path decides: the path itself, or
    /// one above it that propagates the privilege.
    pub(crate) fn allow(&self, path: &str, privilege: &str) -> bool {
        if let Some(privileges) = self.0.get(path) {
            return privileges.contains_key(privilege);
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            above = parent;
            let key = if parent.is_empty() { "/" } else { parent };
            if let Some(listed) = self.0.get(key) {
                return listed.get(privilege) == Some(&true);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_listed_path_decides() {
        let permissions = Permissions::read(&json!({
            "/": {"Sys.Audit": 1},
            "/vms": {"VM.Audit": 1, "VM.Monitor": 0},
            "/vms/101": {"VM.PowerMgmt": 1},
            "/nodes/node2": {"Sys.Modify": "0"},
        }));
        for (path, privilege, held) in [
            ("/vms/100", "VM.Audit", true),
            ("/vms/100", "VM.Monitor", false),
            ("/vms", "VM.Monitor", true),
            // It has privileges of its own, which replace the inherited ones.
            ("/vms/101", "VM.Audit", false),
            ("/vms/100", "Sys.Audit", false),
            ("/nodes/node1", "Sys.Audit", true),
            ("/nodes/node2", "Sys.Modify", true),
            ("/nodes/node2/x", "Sys.Modify", false),
            ("/", "Sys.Audit", true),
            ("/storage/local", "Datastore.Audit", false),
        ] {
            assert_eq!(
                permissions.allow(path, privilege),
                held,
                "{path} {privilege}"
            );
        }
        assert!(!Permissions::read(&json!(null)).allow("/", "Sys.Audit"));
    }
}
