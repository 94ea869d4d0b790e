//! ACME accounts, and the certificates of a node.

use std::time::Duration;

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::field;
use crate::propstring;
use crate::sample::mix;
use crate::state::effect::{Edit, Effect};
use crate::state::records::Row;

const ACCOUNTS: &str = "/cluster/acme/account";

const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

const DAY: u64 = 86_400;

/// A certificate with a longer remaining validity is renewed only with `force`.
const RENEW_BEFORE: u64 = 30 * DAY;

pub(super) fn handle(call: &mut Call<'_>) -> Option<ApiResult<Reply>> {
    use Method::{Delete, Get, Post, Put};
    Some(match (call.method, call.path) {
        (Get, ACCOUNTS) => Ok(accounts(call)),
        (Post, ACCOUNTS) => register(call),
        (Get, "/cluster/acme/account/{name}") => account(call),
        (Put, "/cluster/acme/account/{name}") => update(call),
        (Delete, "/cluster/acme/account/{name}") => deactivate(call),
        (Get, "/nodes/{node}/certificates/info") => Ok(info(call)),
        (Post, "/nodes/{node}/certificates/custom") => custom(call),
        (Delete, "/nodes/{node}/certificates/custom") => {
            let edit = Edit::Remove(key(call), "pveproxy-ssl.pem".into());
            call.cluster.edit(edit);
            Ok(Reply::data(Value::Null))
        }
        (Post, "/nodes/{node}/certificates/acme/certificate") => order(call, "acmenewcert"),
        (Put, "/nodes/{node}/certificates/acme/certificate") => order(call, "acmerenew"),
        (Delete, "/nodes/{node}/certificates/acme/certificate") => revoke(call),
        _ => return None,
    })
}

/// Path of the node's certificates.
fn key(call: &Call<'_>) -> String {
    format!("/nodes/{}/certificates", call.owned("node"))
}

fn name(call: &Call<'_>) -> String {
    call.text("name").unwrap_or("default").to_owned()
}

fn accounts(call: &Call<'_>) -> Reply {
    let rows = call.cluster.rows(ACCOUNTS);
    Reply::data(
        rows.iter()
            .map(|(name, _)| json!({ "name": name }))
            .collect::<Value>(),
    )
}

fn register(call: &mut Call<'_>) -> ApiResult<Reply> {
    let name = name(call);
    if call.cluster.entry(ACCOUNTS, &name).is_some() {
        let text = format!("ACME account config file '{name}' already exists.");
        return Err(ApiError::parameter("name", text));
    }
    let row = crate::calls::records::rows::parameter_row(call, "name");
    let lines = vec![
        "Registering ACME account..".into(),
        "Registration successful".into(),
    ];
    let edit = Edit::Set(ACCOUNTS.into(), name.clone(), row);
    Ok(call.start("acmeregister", name, 1.0, lines, Effect::Edit(vec![edit])))
}

fn existing(call: &Call<'_>) -> ApiResult<(String, Row)> {
    let name = name(call);
    match call.cluster.entry(ACCOUNTS, &name).cloned() {
        Some(row) => Ok((name, row)),
        None => {
            let text = format!("ACME account config file '{name}' does not exist.");
            Err(ApiError::parameter("name", text))
        }
    }
}

fn account(call: &Call<'_>) -> ApiResult<Reply> {
    let (name, row) = existing(call)?;
    let contacts: Vec<String> =
        crate::calls::records::rows::listed(call_param(&row, "contact").as_ref())
            .iter()
            .map(|contact| format!("mailto:{contact}"))
            .collect();
    let directory = row
        .get("directory")
        .and_then(Value::as_str)
        .unwrap_or(DIRECTORY);
    let number = mix(&name, 5) % 1_000_000_000;
    let mut answer = json!({
        "account": { "status": "valid", "contact": contacts, "createdAt": crate::clock::iso_date(call.cluster.now.as_secs()) },
        "directory": directory, "location": format!("https://acme.example.org/acct/{number}"),
    });
    if let Some(terms) = row.get("tos_url") {
        answer["tos"] = terms.clone();
    }
    Ok(Reply::data(answer))
}

fn call_param(row: &Row, key: &str) -> Option<crate::params::Param> {
    let text = row.get(key)?.as_str()?;
    Some(crate::params::Param::Text(text.to_owned()))
}

fn update(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (name, mut row) = existing(call)?;
    row.extend(crate::calls::records::rows::parameter_row(call, "name"));
    let edit = Edit::Set(ACCOUNTS.into(), name.clone(), row);
    Ok(call.start(
        "acmeupdate",
        name,
        0.5,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

fn deactivate(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (name, _) = existing(call)?;
    let edit = Edit::Remove(ACCOUNTS.into(), name.clone());
    Ok(call.start(
        "acmedeactivate",
        name,
        0.5,
        Vec::new(),
        Effect::Edit(vec![edit]),
    ))
}

/// A certificate in an answer.
fn certificate(call: &Call<'_>, file: &str, issuer: &str, names: &[String], days: u64) -> Row {
    let now = call.cluster.now.as_secs();
    let seed = format!("{file} {now} {}", names.join(" "));
    let fingerprint: Vec<String> = (0..32)
        .map(|byte| format!("{:02X}", mix(&seed, byte) & 0xff))
        .collect();
    let row = json!({
        "filename": file, "subject": format!("/CN={}", names.first().map_or("", String::as_str)), "issuer": issuer,
        "san": names, "notbefore": now, "notafter": now + days * DAY, "fingerprint": fingerprint.join(":"),
        "public-key-bits": 2048, "public-key-type": "rsaEncryption",
    });
    row.as_object().cloned().unwrap_or_default()
}

fn info(call: &Call<'_>) -> Reply {
    let node = call.owned("node");
    let booted = call
        .cluster
        .node(&node)
        .map_or(Duration::ZERO, |node| node.booted)
        .as_secs();
    let dated = |mut row: Row, days: u64| {
        row.insert("notbefore".into(), json!(booted));
        row.insert("notafter".into(), json!(booted + days * DAY));
        row
    };
    let issuer = "/CN=Proxmox Virtual Environment/O=PVE Cluster Manager CA";
    let mut authority = certificate(call, "pve-root-ca.pem", issuer, &[], 3_650);
    authority.insert("subject".into(), json!(issuer));
    authority.insert("pem".into(), json!(call.cluster.ca_pem));
    let own = certificate(
        call,
        "pve-ssl.pem",
        issuer,
        std::slice::from_ref(&node),
        730,
    );
    let mut rows = vec![dated(authority, 3_650), dated(own, 730)];
    let more = call.cluster.rows(&key(call)).iter();
    rows.extend(more.map(|(_, row)| row.clone()));
    Reply::data(rows.into_iter().map(Value::Object).collect::<Value>())
}

fn custom(call: &mut Call<'_>) -> ApiResult<Reply> {
    let (file, pem) = ("pveproxy-ssl.pem", call.owned("certificates"));
    if !pem.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
        let text = "Certificate is not in PEM format";
        return Err(ApiError::parameter("certificates", text));
    }
    if call.cluster.entry(&key(call), file).is_some() && !call.flag("force") {
        return Err(ApiError::parameter(
            "force",
            "Custom certificate exists but 'force' is not set.",
        ));
    }
    let node = call.owned("node");
    let mut row = certificate(call, file, "/CN=Custom", &[node], 365);
    row.insert("pem".into(), json!(pem));
    let edit = Edit::Set(key(call), file.into(), row.clone());
    call.cluster.edit(edit);
    Ok(Reply::data(row))
}

/// The domains in the node's configuration.
fn domains(call: &Call<'_>) -> Vec<String> {
    let config = format!("/nodes/{}/config", call.owned("node"));
    let Some(config) = call.cluster.settings.get(&config) else {
        return Vec::new();
    };
    let text = |key: &String, value: &Value| -> Vec<String> {
        let text = value.as_str().unwrap_or("");
        if key == "acme" {
            let domains = propstring::value(text, "domains").unwrap_or("");
            return domains
                .split(';')
                .filter(|d| !d.is_empty())
                .map(str::to_owned)
                .collect();
        }
        let named = propstring::value(text, "domain").or_else(|| text.split(',').next());
        named.map(str::to_owned).into_iter().collect()
    };
    config
        .iter()
        .filter(|(key, _)| key.starts_with("acme"))
        .flat_map(|(key, value)| text(key, value))
        .collect()
}

fn order(call: &mut Call<'_>, task: &str) -> ApiResult<Reply> {
    let file = "pveproxy-ssl.pem";
    let domains = domains(call);
    if domains.is_empty() {
        return Err(ApiError::die("No ACME domains configured"));
    }
    if call.cluster.rows(ACCOUNTS).is_empty() {
        return Err(ApiError::die(
            "ACME account config file 'default' does not exist.",
        ));
    }
    let old = call.cluster.entry(&key(call), file);
    let ends = old.and_then(|row| field(row, "notafter").as_u64());
    match (task, ends) {
        ("acmenewcert", Some(_)) if !call.flag("force") => {
            return Err(ApiError::parameter(
                "force",
                "Custom certificate exists but 'force' is not set.",
            ));
        }
        ("acmerenew", None) => {
            return Err(ApiError::die(
                "No current (custom) certificate found, please order a new certificate!",
            ));
        }
        ("acmerenew", Some(ends))
            if !call.flag("force") && ends > call.cluster.now.as_secs() + RENEW_BEFORE =>
        {
            return Err(ApiError::parameter(
                "force",
                "Certificate does not expire within the next 30 days, and 'force' is not set.",
            ));
        }
        _ => {}
    }
    let row = certificate(call, file, "/C=US/O=Let's Encrypt/CN=R10", &domains, 90);
    let lines = vec![
        "Placing ACME order".into(),
        "All domains validated!".into(),
        "Setting pveproxy certificate and key".into(),
    ];
    let edit = Edit::Set(key(call), file.into(), row);
    Ok(call.start(task, "", 2.0, lines, Effect::Edit(vec![edit])))
}

fn revoke(call: &mut Call<'_>) -> ApiResult<Reply> {
    let edit = Edit::Remove(key(call), "pveproxy-ssl.pem".into());
    Ok(call.start("acmerevoke", "", 1.0, Vec::new(), Effect::Edit(vec![edit])))
}
