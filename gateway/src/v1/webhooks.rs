//! `/v1/webhooks`: receivers of events.
//!
//! A webhook belongs to the user or token that created it, and gets the events that its owner may
//! see.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use proxmox_api::{Secret, Value};
use serde::Deserialize;
use serde_json::json;

use super::lists;
use crate::app::App;
use crate::caller::Caller;
use crate::events::{is_name, test_event, unique};
use crate::json::Json;
use crate::permissions::Permissions;
use crate::permits::user;
use crate::random::random;
use crate::refusal::Refusal;
use crate::store::{Delivery, Hook};
use crate::time::{now, utc};
use crate::webhooks::payload;

const PATH: &str = "/v1/webhooks";
const MAX_NAME: usize = 128;
/// Bytes of a generated secret.
const SECRET: std::ops::RangeInclusive<usize> = 8..=256;
/// How long the previous secret is also used, in seconds: default and maximum.
const GRACE: u64 = 24 * 3_600;
const MAX_GRACE: u64 = 7 * 24 * 3_600;

/// Settings of a webhook. Missing members stay unchanged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    name: Option<String>,
    url: Option<String>,
    /// Names of events, of which each may end in `*`; all events if empty.
    events: Option<Vec<String>>,
    secret: Option<String>,
    enabled: Option<bool>,
}

/// How a secret is replaced.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    secret: Option<String>,
    grace_seconds: Option<u64>,
}

fn hook_json(hook: &Hook) -> Value {
    json!({
        "id": hook.id, "name": hook.name, "url": hook.url.expose(), "events": hook.events,
        "enabled": hook.enabled, "owner": hook.owner, "created_at": utc(hook.created),
        "previous_secret_until": hook.old.as_ref().map(|(_, until)| utc(*until)),
    })
}

fn shown_delivery(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id, "type": delivery.kind, "status": delivery.status, "attempts": delivery.attempts,
        "response_status": delivery.code,
        "error": Some(&delivery.problem).filter(|problem| !problem.is_empty()),
        "created_at": utc(delivery.created), "next_attempt_at": delivery.due.map(utc),
        "finished_at": delivery.finished.map(utc),
        "payload": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
    })
}

/// The caller's user. Reading the caller's permissions from the cluster authenticates it.
async fn owner(app: &App, caller: &Caller) -> Result<String, Refusal> {
    let client = app.cluster.client(caller)?;
    Permissions::fetch(&client, None).await?;
    Ok(caller.claims())
}

/// A webhook of this caller. A user's tickets also give access to webhooks of the user's tokens.
async fn own_hook(app: &App, caller: &Caller, id: &str) -> Result<Hook, Refusal> {
    let owner = owner(app, caller).await?;
    let hooks = app.store.hooks().await?;
    let found = hooks
        .into_iter()
        .find(|hook| hook.id == id && is_of(hook, &owner));
    found.ok_or_else(|| Refusal::not_found(format!("there is no webhook {id:?}")))
}

fn is_of(hook: &Hook, owner: &str) -> bool {
    hook.owner == owner || user(&hook.owner) == owner
}

impl Settings {
    fn apply(self, app: &App, hook: &mut Hook) -> Result<(), Refusal> {
        let mut wrong: Vec<(&str, String)> = Vec::new();
        if let Some(name) = self.name {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                wrong.push(("name", format!("must have 1 to {MAX_NAME} characters")));
            }
            hook.name = name;
        }
        if let Some(url) = self.url {
            if let Err(problem) = app.deliverer.receiver(&url) {
                wrong.push(("url", problem));
            }
            hook.url = url.into();
        }
        if let Some(events) = self.events {
            if let Some(unknown) = events.iter().find(|name| !is_name(name)) {
                wrong.push(("events", format!("{unknown:?} is not an event")));
            }
            hook.events = unique(events);
        }
        if let Some(secret) = self.secret {
            if !SECRET.contains(&secret.len()) {
                wrong.push(("secret", secret_problem()));
            }
            hook.secret = secret.into();
        }
        hook.enabled = self.enabled.unwrap_or(hook.enabled);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Refusal::parameters(wrong)),
        }
    }
}

fn secret_problem() -> String {
    format!("must have {} to {} bytes", SECRET.start(), SECRET.end())
}

fn new_secret() -> Result<Secret, Refusal> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?).into())
}

pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let page = lists::page(query.as_deref())?;
    let owner = owner(&app, &caller).await?;
    let hooks = app.store.hooks().await?;
    let items = hooks
        .iter()
        .filter(|hook| is_of(hook, &owner))
        .map(hook_json);
    Ok(lists::cut(items.collect(), page, PATH))
}

pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Json(settings): Json<Settings>,
) -> Result<Response, Refusal> {
    let caller = Caller::changing(&headers)?;
    let missing = [
        ("name", settings.name.is_none()),
        ("url", settings.url.is_none()),
    ];
    let missing = missing.into_iter().filter(|(_, missing)| *missing);
    let missing: Vec<_> = missing
        .map(|(name, _)| (name, "property is missing and it is not optional"))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal::parameters(missing));
    }
    let generated_secret = match settings.secret {
        Some(_) => None,
        None => Some(new_secret()?),
    };
    let owner = owner(&app, &caller).await?;
    let mut hook = Hook {
        id: format!("wh-{}", hex(&random::<8>()?)),
        owner,
        name: String::new(),
        url: "".into(),
        events: Vec::new(),
        secret: generated_secret.clone().unwrap_or_else(|| "".into()),
        old: None,
        enabled: true,
        created: now(),
    };
    settings.apply(&app, &mut hook)?;
    let others = app.store.hooks().await?;
    let others = others
        .iter()
        .filter(|other| user(&other.owner) == user(&hook.owner))
        .count();
    let max = app.deliverer.config().per_user;
    if others >= usize::try_from(max).unwrap_or(usize::MAX) {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("there are {max} webhooks already"),
        ));
    }
    app.store.put_hook(&hook).await?;
    let mut answer = hook_json(&hook);
    // A generated secret is shown once.
    if let Some(secret) = generated_secret {
        answer["secret"] = secret.expose().into();
    }
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::required(&headers)?;
    Ok(Json(hook_json(&own_hook(&app, &caller, &id).await?)))
}

pub(super) async fn change(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(settings): Json<Settings>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::changing(&headers)?;
    let mut hook = own_hook(&app, &caller, &id).await?;
    settings.apply(&app, &mut hook)?;
    app.store.put_hook(&hook).await?;
    Ok(Json(hook_json(&hook)))
}

pub(super) async fn delete(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let caller = Caller::changing(&headers)?;
    let hook = own_hook(&app, &caller, &id).await?;
    app.store.delete_hook(&hook.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test event to the webhook, and returns the result.
pub(super) async fn test(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::changing(&headers)?;
    let hook = own_hook(&app, &caller, &id).await?;
    let (kind, data) = test_event(&hook.name);
    let event = format!("evt-{}", hex(&random::<8>()?));
    let time = now();
    let mut delivery = Delivery {
        id: format!("{}-{event}", hook.id),
        webhook: hook.id.clone(),
        kind: kind.to_owned(),
        body: payload(&event, time, kind, &data),
        created: time,
        attempts: 0,
        due: None,
        status: "pending".to_owned(),
        code: None,
        problem: String::new(),
        finished: None,
    };
    let attempt = app.deliverer.deliver(&hook, &delivery.body).await.once();
    app.deliverer.record(&mut delivery, &attempt);
    app.store.put_delivery(&delivery).await?;
    Ok(Json(shown_delivery(&delivery)))
}

pub(super) async fn deliveries(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let caller = Caller::required(&headers)?;
    let page = lists::page(query.as_deref())?;
    let hook = own_hook(&app, &caller, &id).await?;
    let number = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
    let (list, total) = (app
        .store
        .deliveries(&hook.id, number(page.start), number(page.limit)))
    .await?;
    let items = list.iter().map(shown_delivery).collect();
    let path = format!("{PATH}/{}/deliveries", hook.id);
    Ok(lists::answer(items, page, total, &path))
}

/// Replaces the secret. For a time, deliveries are also signed with the previous one.
pub(super) async fn rotate(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(rotation): Json<Rotation>,
) -> Result<Json<Value>, Refusal> {
    let caller = Caller::changing(&headers)?;
    let grace = rotation.grace_seconds.unwrap_or(GRACE);
    if grace > MAX_GRACE {
        let problem = format!("is more than {MAX_GRACE}");
        return Err(Refusal::parameters([("grace_seconds", problem)]));
    }
    let (secret, is_made) = match rotation.secret {
        Some(secret) if SECRET.contains(&secret.len()) => (Secret::from(secret), false),
        Some(_) => return Err(Refusal::parameters([("secret", secret_problem())])),
        None => (new_secret()?, true),
    };
    let mut hook = own_hook(&app, &caller, &id).await?;
    let old = std::mem::replace(&mut hook.secret, secret);
    hook.old = Some((old, now() + grace));
    app.store.put_hook(&hook).await?;
    let mut answer = hook_json(&hook);
    if is_made {
        answer["secret"] = hook.secret.expose().into();
    }
    Ok(Json(answer))
}
