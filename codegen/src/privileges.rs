//! Checks of handlers that the dumps do not declare: `[[privilege]]` of the overlay.

use serde::Deserialize;

use crate::facts::Check;

/// The privilege to change permissions.
pub(crate) const MODIFY: &str = "Permissions.Modify";

/// One check of a handler.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Privilege {
    /// Endpoints, as `POST /path`.
    pub(crate) at: Vec<String>,
    /// The check is made only if the request has one of these parameters.
    #[serde(default)]
    pub(crate) given: Vec<String>,
    /// The case in which the check is made, if the parameters do not decide it.
    pub(crate) when: Option<String>,
    /// Nothing is refused: these parts of the answer are omitted, or these objects skipped.
    pub(crate) rows: Option<String>,
    /// The condition.
    pub(crate) check: Need,
    /// The line it was read from.
    #[expect(
        dead_code,
        reason = "for readers of the file; required, so that every fact has a source"
    )]
    pub(crate) source: String,
}

/// Another privilege with which one may change the permissions of objects below a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Modifier {
    pub(crate) path: String,
    /// The kind of object.
    pub(crate) of: String,
    pub(crate) privilege: String,
    /// The line it was read from.
    #[expect(
        dead_code,
        reason = "for readers of the file; required, so that every fact has a source"
    )]
    source: String,
}

/// A condition for a caller.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "NeedTable")]
pub(crate) enum Need {
    /// All of these.
    And(Vec<Need>),
    /// One of these.
    Or(Vec<Need>),
    /// A check in the form of the dumps.
    Check(Check),
    /// The caller is `root@pam` itself.
    Root,
    /// A condition that is not a privilege, as text.
    Other(String),
}

/// The file's notation, like that of the schema files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NeedTable {
    and: Option<Vec<Need>>,
    or: Option<Vec<Need>>,
    perm: Option<String>,
    privileges: Option<Vec<String>>,
    any: Option<bool>,
    require_param: Option<String>,
    perm_modify: Option<String>,
    root: Option<bool>,
    other: Option<String>,
}

impl TryFrom<NeedTable> for Need {
    type Error = &'static str;

    fn try_from(table: NeedTable) -> Result<Self, Self::Error> {
        if table.perm.is_none()
            && (table.privileges.is_some() || table.any.is_some() || table.require_param.is_some())
        {
            return Err("privileges belong to a perm");
        }
        let mut found = Vec::new();
        found.extend(table.and.map(Need::And));
        found.extend(table.or.map(Need::Or));
        if let Some(path) = table.perm {
            found.push(Need::Check(Check::Perm {
                path,
                privileges: table.privileges.unwrap_or_default(),
                any: table.any.unwrap_or(false),
                require_param: table.require_param,
            }));
        }
        found.extend(
            table
                .perm_modify
                .map(|path| Need::Check(Check::PermModify(path))),
        );
        found.extend(table.root.filter(|root| *root).map(|_| Need::Root));
        found.extend(table.other.map(Need::Other));
        match (found.pop(), found.is_empty()) {
            (Some(need), true) => Ok(need),
            _ => Err("a check is one of and, or, perm, perm_modify, root and other"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_exactly_one_condition() {
        let check = |text: &str| {
            toml::from_str::<Privilege>(&format!(
                "at = [\"GET /a\"]\nsource = \"a b.pm:1\"\ncheck = {text}"
            ))
            .map(|privilege| privilege.check)
        };
        let perm = |path: &str, any| {
            Need::Check(Check::Perm {
                path: path.to_owned(),
                privileges: vec!["A".to_owned()],
                any,
                require_param: None,
            })
        };
        assert_eq!(
            check(r#"{ perm = "/a", privileges = ["A"], any = true }"#),
            Ok(perm("/a", true))
        );
        assert_eq!(
            check(r#"{ or = [{ root = true }, { perm = "/b", privileges = ["A"] }] }"#),
            Ok(Need::Or(vec![Need::Root, perm("/b", false)]))
        );
        for wrong in [
            "{}",
            "{ root = false }",
            r#"{ root = true, other = "x" }"#,
            r#"{ other = "x", any = true }"#,
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
