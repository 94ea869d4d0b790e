//! The permission checks of a method.

use super::import::Import;
use crate::facts::{Check, Permissions};
use crate::json::{Json, point};
use crate::product::Dialect;

impl Import {
    pub(super) fn permissions(&mut self, at: &str, json: &Json) -> Permissions {
        let mut permissions = Permissions {
            user: None,
            check: None,
            described: false,
        };
        for (key, value) in self.members(at, json) {
            let at = &point(at, key);
            match (key, self.dialect) {
                ("description", _) => permissions.described = self.string(at, value).is_some(),
                ("user", _) => permissions.user = self.user(at, value),
                ("check", Dialect::Perl) => permissions.check = self.perl_check(at, value),
                ("check" | "and" | "or", Dialect::Rust) => {
                    if permissions.check.is_some() {
                        self.problem(at, "a second check besides the first");
                    }
                    permissions.check = self.rust_check(at, key, value);
                }
                _ => self.unknown(at, key, "in permissions"),
            }
        }
        permissions
    }

    fn user(&mut self, at: &str, json: &Json) -> Option<String> {
        let user = self.string(at, json)?;
        if ["all", "world"].contains(&user) {
            return Some(user.to_owned());
        }
        self.expected(at, "\"all\" or \"world\"", json);
        None
    }

    fn perl_check(&mut self, at: &str, json: &Json) -> Option<Check> {
        let list = self.array(at, json);
        let head = match list {
            [] => {
                self.problem(at, "an empty permission check");
                return None;
            }
            // 8.3 wraps a few checks in one list too many.
            [inner @ Json::Array(_)] => return self.perl_check(&point(at, 0), inner),
            [head, ..] => self.string(&point(at, 0), head)?,
        };
        match head {
            "or" | "and" => {
                let checks: Vec<Check> = list
                    .iter()
                    .enumerate()
                    .skip(1)
                    .filter_map(|(n, json)| self.perl_check(&point(at, n), json))
                    .collect();
                Some(if head == "or" {
                    Check::Or(checks)
                } else {
                    Check::And(checks)
                })
            }
            "perm" => {
                let (path, privileges) = (self.nth(at, list, 1)?, self.nth(at, list, 2)?);
                let path = self.owned(&point(at, 1), path)?;
                let privileges = match privileges {
                    Json::String(one) => vec![one.clone()],
                    list => self.strings(&point(at, 2), list),
                };
                let mut any = false;
                let mut require_param = None;
                for (at, key, value) in self.options(at, list, 3) {
                    match key {
                        "any" => any = self.flag(&at, value),
                        "require_param" => require_param = self.owned(&at, value),
                        _ => self.unknown(&at, key, "as an option of \"perm\""),
                    }
                }
                Some(Check::Perm {
                    path,
                    privileges,
                    any,
                    require_param,
                })
            }
            "userid-group" => {
                let privileges = self.nth(at, list, 1)?;
                let privileges = self.strings(&point(at, 1), privileges);
                let mut groups_param = None;
                for (at, key, value) in self.options(at, list, 2) {
                    match key {
                        // Up to 7.1 its value only said that the parameter `groups` is meant.
                        "groups_param" if matches!(value, Json::Number(_)) => {
                            groups_param = self.flag(&at, value).then(|| "groups".to_owned());
                        }
                        "groups_param" => groups_param = self.owned(&at, value),
                        _ => self.unknown(&at, key, "as an option of \"userid-group\""),
                    }
                }
                Some(Check::UserIdGroup {
                    privileges,
                    groups_param,
                })
            }
            "userid-param" | "perm-modify" => {
                let value = self.nth(at, list, 1)?;
                let value = self.owned(&point(at, 1), value)?;
                self.options(at, list, 2)
                    .into_iter()
                    .for_each(|(at, key, _)| self.unknown(&at, key, "as an option of a check"));
                Some(if head == "perm-modify" {
                    Check::PermModify(value)
                } else {
                    Check::UserIdParam(value)
                })
            }
            _ if self.product.checks_roles => Some(Check::Roles(self.strings(at, json))),
            _ => {
                self.problem(
                    &point(at, 0),
                    format!("the permission check {head:?} is not known"),
                );
                None
            }
        }
    }

    fn nth<'j>(&mut self, at: &str, list: &'j [Json], n: usize) -> Option<&'j Json> {
        let found = list.get(n);
        if found.is_none() {
            self.problem(
                at,
                format!("element {n} of the permission check is missing"),
            );
        }
        found
    }

    /// The `key, value` pairs at the end of a check.
    fn options<'j>(
        &mut self,
        at: &str,
        list: &'j [Json],
        from: usize,
    ) -> Vec<(String, &'j str, &'j Json)> {
        let mut options = Vec::new();
        for (n, pair) in list.get(from..).unwrap_or_default().chunks(2).enumerate() {
            let n = from + 2 * n;
            match pair {
                [key, value] => {
                    if let Some(key) = self.string(&point(at, n), key) {
                        options.push((point(at, n + 1), key, value));
                    }
                }
                _ => self.problem(&point(at, n), "an option without a value"),
            }
        }
        options
    }

    fn rust_check(&mut self, at: &str, kind: &str, json: &Json) -> Option<Check> {
        match kind {
            "or" | "and" => {
                let mut checks = Vec::new();
                for (n, json) in self.array(at, json).iter().enumerate() {
                    let at = &point(at, n);
                    let members = self.members(at, json);
                    match members.as_slice() {
                        [(kind, json)] => {
                            checks.extend(self.rust_check(&point(at, kind), kind, json))
                        }
                        _ => self.problem(at, "expected an object with one member"),
                    }
                }
                Some(if kind == "or" {
                    Check::Or(checks)
                } else {
                    Check::And(checks)
                })
            }
            "check" => {
                let (mut path, mut privileges, mut any) = (None, None, None);
                for (key, value) in self.members(at, json) {
                    let at = &point(at, key);
                    match key {
                        "path" => path = Some(format!("/{}", self.strings(at, value).join("/"))),
                        "privs" => privileges = Some(self.strings(at, value)),
                        "partial" => any = Some(self.flag(at, value)),
                        _ => self.unknown(at, key, "in a permission check"),
                    }
                }
                match (path, privileges, any) {
                    (Some(path), Some(privileges), Some(any)) => Some(Check::Perm {
                        path,
                        privileges,
                        any,
                        require_param: None,
                    }),
                    _ => {
                        self.problem(at, "expected \"path\", \"privs\" and \"partial\"");
                        None
                    }
                }
            }
            "userParam" => self.owned(at, json).map(Check::UserParam),
            _ => {
                self.problem(at, format!("the permission check {kind:?} is not known"));
                None
            }
        }
    }
}
