//! What a caller needs, in words.

use crate::facts::{Check, Method};
use crate::ir::Endpoint;
use crate::overlay::Overlay;
use crate::privileges::{MODIFY, Need, Privilege};

/// The permissions of a caller: what all calls need, and what some calls only.
pub(super) fn describe_permissions(
    overlay: &Overlay,
    endpoint: &Endpoint,
) -> (String, Vec<String>) {
    let Some(permissions) = &endpoint.permissions else {
        return ("to be `root@pam` itself.".to_owned(), Vec::new());
    };
    let (always, sometimes) = checks(endpoint);
    let declared = permissions
        .check
        .as_ref()
        .map(|check| describe_check(overlay, check));
    let mut needs: Vec<String> = declared.into_iter().collect();
    needs.extend(always.into_iter().map(|p| describe_need(overlay, &p.check)));
    let always = match (&needs[..], permissions.user.as_deref()) {
        ([], _) if endpoint.unreviewed => {
            "a login; the schema names no privileges, but the server may check some.".to_owned()
        }
        ([], Some("world")) => "no login.".to_owned(),
        ([], _) if sometimes.is_empty() => "a login, but no privileges.".to_owned(),
        ([], _) if sometimes.iter().all(|privilege| privilege.rows.is_some()) => {
            "a login; what it does depends on the privileges:".to_owned()
        }
        ([], _) => "a login, and privileges that depend on the request:".to_owned(),
        ([need], _) => format!("{need}."),
        (several, _) => {
            // Within a choice, "and" would belong to its last part.
            let several: Vec<String> = (several.iter())
                .map(|need| match need.contains(" or ") {
                    true => format!("({need})"),
                    false => need.clone(),
                })
                .collect();
            format!("{}.", several.join(" and "))
        }
    };
    let cases = sometimes.into_iter();
    let cases = cases.map(|privilege| describe_case(overlay, endpoint.method, privilege));
    (always, cases.collect())
}

/// The checks of every call, and those of some only.
fn checks(endpoint: &Endpoint) -> (Vec<&Privilege>, Vec<&Privilege>) {
    (endpoint.privileges.iter())
        .partition(|p| p.given.is_empty() && p.when.is_none() && p.rows.is_none())
}

/// The names of the privileges alone, for a table cell; `…` if some calls need more.
pub(super) fn privileges_in_short(endpoint: &Endpoint) -> String {
    let Some(permissions) = &endpoint.permissions else {
        return "root@pam".to_owned();
    };
    let (always, sometimes) = checks(endpoint);
    let declared = permissions.check.as_ref().map(check_in_short);
    let always = always
        .iter()
        .map(|privilege| need_in_short(&privilege.check));
    let needs: Vec<String> = declared.into_iter().chain(always).collect();
    let more = match sometimes.is_empty() {
        true => "",
        false => " …",
    };
    match (&needs[..], permissions.user.as_deref()) {
        ([], _) if !sometimes.is_empty() => "…".to_owned(),
        ([], Some("world")) => "no login".to_owned(),
        ([], _) => String::new(),
        (needs, _) => format!("{}{more}", needs.join(", ")),
    }
}

fn need_in_short(need: &Need) -> String {
    let join = |needs: &[Need], word: &str| {
        let needs: Vec<String> = needs.iter().map(need_in_short).collect();
        needs.join(word)
    };
    match need {
        Need::And(needs) => join(needs, ", "),
        Need::Or(needs) => join(needs, " or "),
        Need::Check(check) => check_in_short(check),
        Need::Root => "root@pam".to_owned(),
        Need::Other(_) => "…".to_owned(),
    }
}

fn check_in_short(check: &Check) -> String {
    let join = |checks: &[Check], word: &str| {
        let checks: Vec<String> = checks.iter().map(check_in_short).collect();
        checks.join(word)
    };
    match check {
        Check::Or(checks) => join(checks, " or "),
        Check::And(checks) => join(checks, ", "),
        Check::Perm {
            privileges,
            any: true,
            ..
        }
        | Check::UserIdGroup { privileges, .. } => match &privileges[..] {
            [first, others @ ..] if others.len() > 2 => {
                format!("{first} or {} others", others.len())
            }
            privileges => privileges.join(" or "),
        },
        Check::Perm { privileges, .. } => privileges.join(", "),
        Check::UserIdParam(what) if what == "self" => "own user".to_owned(),
        Check::UserIdParam(privilege) => privilege.clone(),
        Check::PermModify(_) => MODIFY.to_owned(),
        Check::UserParam(_) => "own user".to_owned(),
        Check::Roles(roles) => roles.join(" or "),
    }
}

/// A check of some calls only.
fn describe_case(overlay: &Overlay, method: Method, privilege: &Privilege) -> String {
    let need = describe_need(overlay, &privilege.check);
    let given: Vec<String> = privilege
        .given
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let given = given.join(", ");
    let case = match (&privilege.when, given.is_empty()) {
        (Some(when), true) => format!("When {when}"),
        (Some(when), false) => format!("With {given}, when {when}"),
        (None, false) => format!("With {given}"),
        (None, true) => String::new(),
    };
    let verb = match method {
        Method::Get => "shows",
        _ => "acts on",
    };
    match (&privilege.rows, case.is_empty()) {
        (Some(rows), true) => format!("It {verb} {rows} only with {need}."),
        (Some(rows), false) => format!("{case} it {verb} {rows} only with {need}."),
        (None, _) => format!("{case}: {need}."),
    }
}

fn describe_need(overlay: &Overlay, need: &Need) -> String {
    let join = |needs: &[Need], word: &str| {
        let parts: Vec<String> = needs
            .iter()
            .map(|need| match need {
                Need::And(_) | Need::Or(_) => format!("({})", describe_need(overlay, need)),
                need => describe_need(overlay, need),
            })
            .collect();
        parts.join(word)
    };
    match need {
        Need::And(needs) => join(needs, " and "),
        Need::Or(needs) => join(needs, " or "),
        Need::Check(check) => describe_check(overlay, check),
        Need::Root => "to be `root@pam` itself".to_owned(),
        Need::Other(words) => words.clone(),
    }
}

fn describe_check(overlay: &Overlay, check: &Check) -> String {
    let list = |privileges: &[String], any: bool| {
        let mut quoted: Vec<String> = Vec::new();
        for name in privileges {
            let name = format!("`{name}`");
            if !quoted.contains(&name) {
                quoted.push(name);
            }
        }
        match (any, quoted.len()) {
            (_, 1) => quoted.concat(),
            (true, _) => format!("one of {}", quoted.join(", ")),
            (false, _) => quoted.join(" and "),
        }
    };
    match check {
        Check::Or(checks) => join_checks(overlay, checks, "or"),
        Check::And(checks) => join_checks(overlay, checks, "and"),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            let privileges = list(privileges, *any);
            match require_param {
                Some(parameter) => {
                    format!("{privileges} on path `{path}` (when `{parameter}` is given)")
                }
                None => format!("{privileges} on path `{path}`"),
            }
        }
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => {
            let on_groups = match groups_param.as_deref() {
                None => "on a group of the user",
                Some("create") => "on each group in `groups`",
                Some(_) => "on a group of the user and each group in `groups`",
            };
            let privileges = list(privileges, true);
            format!("{privileges} on path `/access/groups`, or {on_groups}")
        }
        Check::UserIdParam(what) if what == "self" => "to be that user".to_owned(),
        Check::UserIdParam(privilege) => format!("`{privilege}` on the user's realm"),
        Check::PermModify(path) => format!("{} on path `{path}`", modifiers(overlay, path)),
        Check::UserParam(parameter) => format!("to be the user in `{parameter}`"),
        Check::Roles(roles) => format!("the role {}", list(roles, true)),
    }
}

/// The users who may change permissions on a path: on some paths, privileges on the object suffice.
fn modifiers(overlay: &Overlay, path: &str) -> String {
    if path.starts_with('{') {
        let others: Vec<String> = (overlay.modifiers())
            .map(|modifier| (&modifier.of, &modifier.privilege))
            .enumerate()
            .map(|(n, (of, privilege))| match n {
                0 => format!("for a {of} also `{privilege}`"),
                _ => format!("for a {of} `{privilege}`"),
            })
            .collect();
        return match others.is_empty() {
            true => format!("`{MODIFY}`"),
            false => format!("`{MODIFY}` ({})", others.join(", ")),
        };
    }
    match overlay.modifier_at(path) {
        Some(modifier) => format!("one of `{MODIFY}`, `{}`", modifier.privilege),
        None => format!("`{MODIFY}`"),
    }
}

fn join_checks(overlay: &Overlay, checks: &[Check], word: &str) -> String {
    let parts: Vec<String> = checks
        .iter()
        .map(|check| match check {
            Check::Or(_) | Check::And(_) => format!("({})", describe_check(overlay, check)),
            _ => describe_check(overlay, check),
        })
        .collect();
    parts.join(&format!(" {word} "))
}
