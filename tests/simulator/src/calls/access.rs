//! Logins, users, tokens.

use proxmox_codegen::facts::Method;
use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::formats::split_list;
use crate::state::access::roles::{Group, Role, Rule, Subject};
use crate::state::access::{Identity, Login, Token, User};
use crate::state::cluster::Cluster;

pub(super) fn login(call: &mut Call<'_>) -> ApiResult<Reply> {
    let mut user = call.owned("username");
    if !user.contains('@') {
        user = format!("{user}@{}", call.text("realm").unwrap_or("pam"));
    }
    let refused = || ApiError::raise(401, "authentication failure");
    let now = call.cluster.now;
    let access = &call.cluster.access;
    let password = call.owned("password");
    let login = match call.text("tfa-challenge") {
        Some(challenge) if access.second_factor(&user, challenge, &password, now) => Login::Ok,
        Some(_) => Login::Refused,
        None => match (access.login(&user, &password, now), call.text("otp")) {
            // A valid code does not complete the login: the server still sends the challenge.
            (Login::NeedsSecondFactor, Some(code)) if !access.one_time_code(&user, code) => {
                Login::Refused
            }
            (login, _) => login,
        },
    };
    let mut answer = json!({
        "username": user,
        "CSRFPreventionToken": access.csrf(&user, now),
        "clustername": call.cluster.name,
    });
    match login {
        Login::Refused => return Err(refused()),
        Login::Ok => {
            answer["ticket"] = json!(access.ticket(&user, now));
            let identity = Identity {
                user: user.clone(),
                token: None,
            };
            answer["cap"] = access.capabilities(&identity, call.cluster.schema.release().major);
        }
        Login::NeedsSecondFactor => {
            answer["ticket"] = json!(access.challenge(&user, now));
            answer["NeedTFA"] = json!(1);
        }
    }
    Ok(Reply::data(answer))
}

/// The paths that a permission listing always has.
const SHOWN: [&str; 8] = [
    "/",
    "/access",
    "/access/groups",
    "/nodes",
    "/pool",
    "/sdn",
    "/storage",
    "/vms",
];

pub(super) fn permissions(call: &Call<'_>) -> ApiResult<Reply> {
    let access = &call.cluster.access;
    let identity = call.text("userid").map_or_else(
        || call.caller.clone(),
        |userid| match userid.split_once('!') {
            Some((user, token)) => Identity {
                user: user.to_owned(),
                token: Some(token.to_owned()),
            },
            None => Identity {
                user: userid.to_owned(),
                token: None,
            },
        },
    );
    let mut paths: Vec<String> = match call.text("path") {
        Some(path) => vec![path.to_owned()],
        None => SHOWN.iter().map(|path| (*path).to_owned()).collect(),
    };
    if call.text("path").is_none() {
        paths.extend(access.rules.iter().map(|rule| rule.path.clone()));
    }
    let mut answer = Map::new();
    for path in paths {
        let privileges = access.privileges(&identity, &path);
        if !privileges.is_empty() || call.text("path").is_some() {
            // Whether the privilege propagates.
            let here = |rule: &&Rule| rule.path == path && identity.full().starts_with(&rule.ugid);
            let stays = access.rules.iter().filter(here).any(|rule| !rule.propagate);
            let privileges: Map<String, Value> = privileges
                .into_iter()
                .map(|privilege| (privilege, json!(u8::from(!stays))))
                .collect();
            answer.insert(path, Value::Object(privileges));
        }
    }
    Ok(Reply::data(answer))
}

pub(super) fn find_user<'a>(cluster: &'a mut Cluster, userid: &str) -> ApiResult<&'a mut User> {
    cluster
        .access
        .users
        .get_mut(userid)
        .ok_or_else(|| ApiError::die(format!("no such user ('{userid}')")))
}

pub(super) fn change_password(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, password) = (call.owned("userid"), call.owned("password"));
    find_user(call.cluster, &userid)?.password = password;
    Ok(Reply::data(Value::Null))
}

pub(super) fn user_json(user: &User) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("enable".into(), json!(u8::from(user.enabled)));
    row.insert("expire".into(), json!(0));
    for (key, value) in &user.settings {
        let value = value
            .parse::<u64>()
            .map_or_else(|_| json!(value), |number| json!(number));
        row.insert(key.clone(), value);
    }
    row
}

pub(super) fn token_json(token: &Token) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("expire".into(), json!(token.expire));
    row.insert("privsep".into(), json!(u8::from(token.privsep)));
    if let Some(comment) = &token.comment {
        row.insert("comment".into(), json!(comment));
    }
    row
}

pub(super) fn user_list(call: &Call<'_>) -> ApiResult<Reply> {
    let full = call.flag("full");
    let all = call.may("/access/groups", "User.Modify") || call.may("/access/groups", "Sys.Audit");
    let me = call.caller.user.as_str();
    let separated = call.caller.token.is_some();
    let visible = call
        .cluster
        .access
        .users
        .iter()
        .filter(|(userid, _)| all || (!separated && *userid == me));
    let rows = visible.map(|(userid, user)| {
        let mut row = user_json(user);
        row.insert("userid".into(), json!(userid));
        let realm = userid.rsplit('@').next().unwrap_or("");
        if let Some(realm) = call.cluster.entry("/access/domains", realm) {
            row.insert("realm-type".into(), json!(realm.get("type")));
        }
        if full {
            row.insert(
                "groups".into(),
                json!(groups_of(call.cluster, userid).join(",")),
            );
            let tokens: Vec<Value> = user
                .tokens
                .iter()
                .map(|(id, token)| {
                    let mut row = token_json(token);
                    row.insert("tokenid".into(), json!(id));
                    Value::Object(row)
                })
                .collect();
            row.insert(
                "tokens".into(),
                if tokens.is_empty() {
                    Value::Null
                } else {
                    json!(tokens)
                },
            );
        }
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn apply_user(call: &Call<'_>, user: &mut User) {
    if let Some(enable) = call.text("enable") {
        user.enabled = enable == "1";
    }
    for key in [
        "comment",
        "email",
        "expire",
        "firstname",
        "lastname",
        "keys",
    ] {
        if let Some(value) = call.text(key) {
            user.settings.insert(key.into(), value.to_owned());
        }
    }
}

/// Makes a user a member of exactly the groups that a call names, or in addition with `append`.
fn join_groups(call: &mut Call<'_>, userid: &str) -> ApiResult<()> {
    let Some(requested) = call.text("groups") else {
        return Ok(());
    };
    let requested: Vec<String> = split_list(requested).map(str::to_owned).collect();
    let append = call.flag("append");
    let groups = &call.cluster.access.groups;
    if let Some(unknown) = requested.iter().find(|name| !groups.contains_key(*name)) {
        let verb = if call.method == Method::Post {
            "create"
        } else {
            "update"
        };
        return Err(ApiError::die(format!(
            "{verb} user failed: no such group '{unknown}'"
        )));
    }
    for (name, group) in &mut call.cluster.access.groups {
        if requested.contains(name) {
            group.users.insert(userid.to_owned());
        } else if !append {
            group.users.remove(userid);
        }
    }
    Ok(())
}

fn groups_of(cluster: &Cluster, userid: &str) -> Vec<String> {
    cluster
        .access
        .groups
        .iter()
        .filter(|(_, group)| group.users.contains(userid))
        .map(|(name, _)| name.clone())
        .collect()
}

pub(super) fn user_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    if call.cluster.access.users.contains_key(&userid) {
        return Err(ApiError::die(format!(
            "create user failed: user '{userid}' already exists"
        )));
    }
    let mut user = User {
        password: call.owned("password"),
        enabled: true,
        ..User::default()
    };
    apply_user(call, &mut user);
    join_groups(call, &userid)?;
    call.cluster.access.users.insert(userid, user);
    Ok(Reply::data(Value::Null))
}

pub(super) fn user(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let found = find_user(call.cluster, &userid).map(|user| user.clone());
    let mut user = match (found, call.method) {
        (Ok(user), _) => user,
        (Err(error), Method::Get) => return Err(error),
        // A missing user counts as deleted.
        (Err(_), Method::Delete) => return Ok(Reply::data(Value::Null)),
        (Err(error), _) => {
            return Err(ApiError::die(format!(
                "update user failed: {}",
                error.message
            )));
        }
    };
    match call.method {
        Method::Get => {
            let mut row = user_json(&user);
            let tokens: Map<String, Value> = user
                .tokens
                .iter()
                .map(|(id, token)| (id.clone(), Value::Object(token_json(token))))
                .collect();
            row.insert(
                "tokens".into(),
                if tokens.is_empty() {
                    Value::Null
                } else {
                    json!(tokens)
                },
            );
            row.insert("groups".into(), json!(groups_of(call.cluster, &userid)));
            return Ok(Reply::data(row));
        }
        Method::Delete => {
            let access = &mut call.cluster.access;
            access.users.remove(&userid);
            for group in access.groups.values_mut() {
                group.users.remove(&userid);
            }
            let token = format!("{userid}!");
            access
                .rules
                .retain(|rule| rule.ugid != userid && !rule.ugid.starts_with(&token));
        }
        _ => {
            join_groups(call, &userid)?;
            apply_user(call, &mut user);
            call.cluster.access.users.insert(userid, user);
        }
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn token_list(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let user = find_user(call.cluster, &userid)?;
    let rows = user.tokens.iter().map(|(id, token)| {
        let mut row = token_json(token);
        row.insert("tokenid".into(), json!(id));
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn token(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, id) = (call.owned("userid"), call.owned("tokenid"));
    let secret = call.cluster.uuid();
    let (comment, privsep, expire) = (
        call.text("comment").map(str::to_owned),
        call.text("privsep").map(str::to_owned),
        call.number("expire"),
    );
    let method = call.method;
    let user = find_user(call.cluster, &userid)?;
    if method == Method::Post {
        if user.tokens.contains_key(&id) {
            return Err(ApiError::parameter("tokenid", "Token already exists."));
        }
        let token = Token {
            secret: secret.clone(),
            expire: expire.unwrap_or(0),
            privsep: privsep.as_deref() != Some("0"),
            comment,
        };
        let mut info = token_json(&token);
        // The answer returns the value as the text that was sent.
        match &privsep {
            Some(value) => info.insert("privsep".into(), json!(value)),
            None => info.insert("privsep".into(), json!(1)),
        };
        match expire {
            Some(value) => info.insert("expire".into(), json!(value.to_string())),
            None => info.remove("expire"),
        };
        user.tokens.insert(id.clone(), token);
        return Ok(Reply::data(json!({
            "full-tokenid": format!("{userid}!{id}"),
            "value": secret,
            "info": info,
        })));
    }
    let Some(token) = user.tokens.get_mut(&id) else {
        return Err(ApiError::die(format!(
            "no such token '{id}' for user '{userid}'"
        )));
    };
    match method {
        Method::Delete => {
            user.tokens.remove(&id);
            Ok(Reply::data(Value::Null))
        }
        Method::Put => {
            token.comment = comment.or(token.comment.take());
            token.expire = expire.unwrap_or(token.expire);
            token.privsep = privsep.as_ref().map_or(token.privsep, |text| text == "1");
            let mut row = token_json(token);
            if let Some(value) = privsep {
                row.insert("privsep".into(), json!(value));
            }
            Ok(Reply::data(row))
        }
        _ => Ok(Reply::data(token_json(token))),
    }
}

pub(super) fn group_list(call: &Call<'_>) -> ApiResult<Reply> {
    let rows = call.cluster.access.groups.iter().map(|(id, group)| {
        let users: Vec<&str> = group.users.iter().map(String::as_str).collect();
        let mut row = json!({ "groupid": id, "users": users.join(",") });
        if let Some(comment) = &group.comment {
            row["comment"] = json!(comment);
        }
        row
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn group_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (id, comment) = (
        call.owned("groupid"),
        call.text("comment").map(str::to_owned),
    );
    if call.cluster.access.groups.contains_key(&id) {
        return Err(ApiError::die(format!(
            "create group failed: group '{id}' already exists"
        )));
    }
    let group = Group {
        comment,
        ..Group::default()
    };
    call.cluster.access.groups.insert(id, group);
    Ok(Reply::data(Value::Null))
}

pub(super) fn group(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (id, comment) = (
        call.owned("groupid"),
        call.text("comment").map(str::to_owned),
    );
    let method = call.method;
    let access = &mut call.cluster.access;
    let Some(group) = access.groups.get_mut(&id) else {
        let prefix = match method {
            Method::Put => "update group failed: ",
            Method::Delete => "delete group failed: ",
            _ => "",
        };
        return Err(ApiError::die(format!(
            "{prefix}group '{id}' does not exist"
        )));
    };
    match method {
        Method::Get => {
            let mut row = json!({ "members": group.users });
            if let Some(comment) = &group.comment {
                row["comment"] = json!(comment);
            }
            return Ok(Reply::data(row));
        }
        Method::Delete => {
            access.groups.remove(&id);
            access
                .rules
                .retain(|rule| rule.subject != Subject::Group || rule.ugid != id);
        }
        _ => group.comment = comment.or(group.comment.take()),
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn role_list(call: &Call<'_>) -> ApiResult<Reply> {
    let rows = call.cluster.access.roles.iter().map(|(id, role)| {
        let privileges: Vec<&str> = role.privileges.iter().map(String::as_str).collect();
        json!({ "roleid": id, "privs": privileges.join(","), "special": u8::from(role.builtin) })
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

fn wanted_privileges(call: &Call<'_>) -> ApiResult<std::collections::BTreeSet<String>> {
    let known = crate::privileges::all_privileges(call.cluster.schema.release().major);
    let privileges: std::collections::BTreeSet<String> =
        split_list(call.text("privs").unwrap_or(""))
            .map(str::to_owned)
            .collect();
    match privileges
        .iter()
        .find(|privilege| !known.contains(*privilege))
    {
        Some(unknown) => Err(ApiError::parameter(
            "privs",
            format!("invalid format - invalid privilege '{unknown}'\n"),
        )),
        None => Ok(privileges),
    }
}

pub(super) fn role_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("roleid");
    let reserved = id
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("PVE"));
    if reserved && call.cluster.schema.release().major >= 8 {
        let text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace";
        return Err(ApiError::parameter("roleid", text));
    }
    let privileges = wanted_privileges(call)?;
    if call.cluster.access.roles.contains_key(&id) {
        return Err(ApiError::die(format!(
            "create role failed: role '{id}' already exists"
        )));
    }
    let role = Role {
        privileges,
        builtin: false,
    };
    call.cluster.access.roles.insert(id, role);
    Ok(Reply::data(Value::Null))
}

pub(super) fn role(call: &mut Call<'_>) -> ApiResult<Reply> {
    let id = call.owned("roleid");
    let privileges = wanted_privileges(call)?;
    let (method, append) = (call.method, call.flag("append"));
    let access = &mut call.cluster.access;
    let Some(role) = access.roles.get_mut(&id) else {
        let prefix = match method {
            Method::Put => "update role failed: ",
            Method::Delete => "delete role failed: ",
            _ => "",
        };
        return Err(ApiError::die(format!("{prefix}role '{id}' does not exist")));
    };
    if method != Method::Get && role.builtin {
        let verb = if method == Method::Delete {
            "deleted"
        } else {
            "modified"
        };
        return Err(ApiError::die(format!(
            "auto-generated role '{id}' cannot be {verb}"
        )));
    }
    match method {
        Method::Get => {
            let row: Map<String, Value> = role
                .privileges
                .iter()
                .map(|p| (p.clone(), json!(1)))
                .collect();
            return Ok(Reply::data(row));
        }
        Method::Delete => {
            access.roles.remove(&id);
            access.rules.retain(|rule| rule.role != id);
        }
        _ if append => role.privileges.extend(privileges),
        _ => role.privileges = privileges,
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn rule_list(call: &Call<'_>) -> ApiResult<Reply> {
    let rows = call.cluster.access.rules.iter().map(|rule| {
        json!({
            "path": rule.path, "type": rule.subject.name(), "ugid": rule.ugid, "roleid": rule.role,
            "propagate": u8::from(rule.propagate),
        })
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn rule_change(call: &mut Call<'_>) -> ApiResult<Reply> {
    let path = call.owned("path");
    let root = path.trim_start_matches('/').split('/').next().unwrap_or("");
    let known = matches!(
        root,
        "" | "access" | "mapping" | "nodes" | "pool" | "sdn" | "storage" | "vms"
    );
    if !path.starts_with('/') || !known {
        return Err(ApiError::parameter(
            "path",
            format!("invalid ACL path '{path}'"),
        ));
    }
    let (delete, propagate) = (call.flag("delete"), call.text("propagate") != Some("0"));
    let list = |name: &str| -> Vec<String> {
        split_list(call.text(name).unwrap_or(""))
            .map(str::to_owned)
            .collect()
    };
    let roles = list("roles");
    let subjects: Vec<(Subject, String)> = [
        ("users", Subject::User),
        ("groups", Subject::Group),
        ("tokens", Subject::Token),
    ]
    .into_iter()
    .flat_map(|(name, subject)| list(name).into_iter().map(move |ugid| (subject, ugid)))
    .collect();
    if subjects.is_empty() {
        let text = "either 'users', 'groups' or 'tokens' is required.";
        let errors = ["users", "groups", "tokens"].map(|name| (name.to_owned(), text.to_owned()));
        return Err(ApiError::parameters(errors.into()));
    }
    let fail = |text: String| Err(ApiError::die(format!("ACL update failed: {text}")));
    let access = &mut call.cluster.access;
    for role in &roles {
        if !access.roles.contains_key(role) {
            return fail(format!("role '{role}' does not exist"));
        }
        for (subject, ugid) in &subjects {
            let exists = match subject {
                Subject::User => access.users.contains_key(ugid),
                Subject::Group => access.groups.contains_key(ugid),
                Subject::Token => ugid
                    .split_once('!')
                    .and_then(|(user, token)| access.users.get(user)?.tokens.get(token))
                    .is_some(),
            };
            if !exists {
                return fail(match (subject, ugid.split_once('!')) {
                    (Subject::Token, Some((user, token))) if access.users.contains_key(user) => {
                        format!("no such token '{token}' for user '{user}'")
                    }
                    (Subject::Token, Some((user, _))) => format!("no such user ('{user}')"),
                    _ => format!("{} '{ugid}' does not exist", subject.name()),
                });
            }
            access.rules.retain(|rule| {
                !(rule.path == path
                    && rule.subject == *subject
                    && rule.ugid == *ugid
                    && rule.role == *role)
            });
            if !delete {
                access.rules.push(Rule {
                    path: path.clone(),
                    subject: *subject,
                    ugid: ugid.clone(),
                    role: role.clone(),
                    propagate,
                });
            }
        }
    }
    Ok(Reply::data(Value::Null))
}
