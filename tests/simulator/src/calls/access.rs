//! Logins, users, tokens.

use proxmox_codegen::facts::Method;
use serde_json::{Map, Value, json};

use super::{Call, Reply};
use crate::access::{Login, Token, User, capabilities};
use crate::error::{ApiError, ApiResult};
use crate::world::World;

pub(super) fn login(call: &mut Call<'_>) -> ApiResult<Reply> {
    let mut user = call.owned("username");
    if !user.contains('@') {
        user = format!("{user}@{}", call.text("realm").unwrap_or("pam"));
    }
    let refused = || ApiError::raise(401, "authentication failure");
    let now = call.world.now;
    let access = &call.world.access;
    let password = call.owned("password");
    let login = match call.text("tfa-challenge") {
        Some(challenge) if access.second_factor(&user, challenge, &password, now) => Login::Ok,
        Some(_) => Login::Refused,
        None => access.login(&user, &password, now),
    };
    let mut answer = json!({
        "username": user,
        "CSRFPreventionToken": access.csrf(&user, now),
        "clustername": call.world.cluster,
    });
    match login {
        Login::Refused => return Err(refused()),
        Login::Ok => {
            answer["ticket"] = json!(access.ticket(&user, now));
            answer["cap"] = capabilities();
        }
        Login::NeedsSecondFactor => {
            answer["ticket"] = json!(access.challenge(&user, now));
            answer["NeedTFA"] = json!(1);
        }
    }
    Ok(Reply::data(answer))
}

pub(super) fn permissions(call: &Call<'_>) -> ApiResult<Reply> {
    let path = call.text("path").unwrap_or("/");
    let mut all = Map::new();
    for privileges in capabilities()
        .as_object()
        .into_iter()
        .flat_map(|areas| areas.values())
    {
        for privilege in privileges.as_object().into_iter().flat_map(Map::keys) {
            all.insert(privilege.clone(), json!(1));
        }
    }
    Ok(Reply::data(json!({ path: all })))
}

pub(super) fn domains() -> ApiResult<Reply> {
    Ok(Reply::data(json!([
        { "realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication" },
        { "realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server", "default": 1 },
    ])))
}

pub(super) fn find_user<'a>(world: &'a mut World, userid: &str) -> ApiResult<&'a mut User> {
    world
        .access
        .users
        .get_mut(userid)
        .ok_or_else(|| ApiError::die(format!("no such user ('{userid}')")))
}

pub(super) fn change_password(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, password) = (call.owned("userid"), call.owned("password"));
    find_user(call.world, &userid)?.password = password;
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
    let rows = call.world.access.users.iter().map(|(userid, user)| {
        let mut row = user_json(user);
        row.insert("userid".into(), json!(userid));
        row.insert("realm-type".into(), json!(userid.rsplit('@').next()));
        if full {
            row.insert("groups".into(), json!(""));
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

pub(super) fn user_create(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    if call.world.access.users.contains_key(&userid) {
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
    call.world.access.users.insert(userid, user);
    Ok(Reply::data(Value::Null))
}

pub(super) fn user(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let mut user = find_user(call.world, &userid)?.clone();
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
            row.insert("groups".into(), json!([]));
            return Ok(Reply::data(row));
        }
        Method::Delete => {
            call.world.access.users.remove(&userid);
        }
        _ => {
            apply_user(call, &mut user);
            call.world.access.users.insert(userid, user);
        }
    }
    Ok(Reply::data(Value::Null))
}

pub(super) fn token_list(call: &mut Call<'_>) -> ApiResult<Reply> {
    let userid = call.owned("userid");
    let user = find_user(call.world, &userid)?;
    let rows = user.tokens.iter().map(|(id, token)| {
        let mut row = token_json(token);
        row.insert("tokenid".into(), json!(id));
        Value::Object(row)
    });
    Ok(Reply::data(rows.collect::<Value>()))
}

pub(super) fn token(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (userid, id) = (call.owned("userid"), call.owned("tokenid"));
    let secret = call.world.uuid();
    let (comment, privsep, expire) = (
        call.text("comment").map(str::to_owned),
        call.text("privsep").map(str::to_owned),
        call.number("expire"),
    );
    let method = call.method;
    let user = find_user(call.world, &userid)?;
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
        // The value just given comes back as the text it was.
        info.insert("privsep".into(), json!(privsep.as_deref().unwrap_or("1")));
        info.remove("expire");
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
            token.privsep = privsep.map_or(token.privsep, |text| text == "1");
            Ok(Reply::data(token_json(token)))
        }
        _ => Ok(Reply::data(token_json(token))),
    }
}
