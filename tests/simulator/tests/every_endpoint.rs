//! Every endpoint of every release answers a minimal valid call.

use std::path::Path;
use std::time::Duration;

use proxmox_codegen::facts::{Additional, Facts, Format, Method, Schema, Type};
use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator, minimal_requests, releases};

use serde_json::Value;

use crate::support::{Wire, login};

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn facts(release: &str) -> Facts {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../schema/pve/{release}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    proxmox_codegen::facts_json::read(&text)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Finds values that do not have the shape of their schema.
fn misfit(at: &str, schema: &Schema, value: &Value) -> Option<String> {
    let wrong = |what: &str| Some(format!("{at}: {what}, found {value}"));
    if let Some(choices) = &schema.one_of {
        return choices
            .iter()
            .all(|choice| misfit(at, choice, value).is_some())
            .then(|| format!("{at}: fits no alternative"));
    }
    // The real server also sends null for missing values, such as the tokens of a user without any,
    // and the services of a disk without any.
    if value.is_null() && (schema.optional || at.ends_with(".osdid-list")) {
        return None;
    }
    let ty = schema.ty?;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    match ty {
        Type::Any => None,
        Type::Null if value.is_null() => None,
        Type::Boolean if matches!(value.as_i64(), Some(0 | 1)) => None,
        // This one is a JSON boolean.
        Type::Boolean if value.is_boolean() && at.ends_with(".has-dbus-vmstate") => None,
        Type::Integer | Type::Number => {
            let Some(number) = number else {
                return wrong("no number");
            };
            let outside = |bound: &Option<serde_json::Number>, over: fn(f64, f64) -> bool| {
                bound
                    .as_ref()
                    .and_then(serde_json::Number::as_f64)
                    .is_some_and(|b| over(number, b))
            };
            if outside(&schema.minimum, |n, b| n < b) || outside(&schema.maximum, |n, b| n > b) {
                return wrong("out of bounds");
            }
            None
        }
        // The pending list of a container has numbers where the schema declares strings, as on the
        // real server.
        Type::String if value.is_number() && at.ends_with("].value") => None,
        Type::String => {
            let Some(text) = value.as_str() else {
                return wrong("no string");
            };
            let listed = schema
                .values
                .as_ref()
                .is_none_or(|values| values.is_empty() || values.iter().any(|v| v == text));
            if !listed {
                return wrong("not in the enumeration");
            }
            if schema.max_length.is_some_and(|max| text.len() as u64 > max) {
                return wrong("too long");
            }
            if matches!(&schema.format, Some(Format::Keys(_))) && text.is_empty() {
                return wrong("empty property string");
            }
            None
        }
        Type::Array => {
            let Some(items) = value.as_array() else {
                return wrong("no array");
            };
            let schema = schema.items.as_ref()?;
            items
                .iter()
                .enumerate()
                .find_map(|(index, item)| misfit(&format!("{at}[{index}]"), schema, item))
        }
        Type::Object => {
            let Some(object) = value.as_object() else {
                return wrong("no object");
            };
            if let Some(Additional::Schema(inner)) = &schema.additional {
                return object
                    .iter()
                    .find_map(|(key, value)| misfit(&format!("{at}.{key}"), inner, value));
            }
            schema
                .properties
                .iter()
                .flatten()
                .find_map(|(key, property)| match object.get(key) {
                    Some(value) => misfit(&format!("{at}.{key}"), property, value),
                    None if property.optional || key.contains(['[', '{']) => None,
                    None => Some(format!("{at}.{key}: missing")),
                })
        }
        _ => wrong(ty.name()),
    }
}

/// Finds values that no server sends.
fn meaningless(at: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text == "text" => Some(format!("{at} is {text:?}")),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let at = format!("{at}[{index}]");
            match item {
                Value::Object(members) if members.is_empty() => Some(format!("{at} is empty")),
                item => meaningless(&at, item),
            }
        }),
        Value::Object(members) => members
            .iter()
            .find_map(|(key, value)| meaningless(&format!("{at}.{key}"), value)),
        _ => None,
    }
}

/// Calls every endpoint of a release in a cluster with one guest, whose tasks never end.
async fn walk(release: &str, container: bool) -> (usize, Vec<String>) {
    let builder = Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .idle_timeout(Duration::from_secs(60))
        .clock(Clock::manual(1_800_000_000));
    let settings: &[(&str, &str)] = if container {
        &[
            ("rootfs", "local-lvm:4"),
            ("net0", "name=eth0,bridge=vmbr0"),
        ]
    } else {
        &[
            ("scsi0", "local-lvm:4"),
            ("net0", "virtio,bridge=vmbr0"),
            ("agent", "1"),
        ]
    };
    let builder = if container {
        builder.lxc(100, "pve1", settings)
    } else {
        builder.qemu(100, "pve1", settings).running(100)
    };
    let pve = builder.start().await.expect("starts");
    let auth = login(&pve, "root@pam", ROOT_PASSWORD).await;
    let mut wire = Wire::open(&pve).await;
    let mut problems = Vec::new();
    let facts = facts(release);
    let requests = minimal_requests(release).expect("a known release");
    for request in &requests {
        let form: Vec<String> = request
            .params
            .iter()
            .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
            .collect();
        let form = form.join("&");
        let text = match request.method.as_str() {
            "GET" | "DELETE" => format!(
                "{} /api2/json{}?{form} HTTP/1.1\r\nHost: x\r\n{auth}\r\n",
                request.method, request.path
            ),
            // The only call that takes a file.
            method if request.template.ends_with("/upload") => {
                let body = "--B\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n\
                            --B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\r\n\
                            data\r\n--B--\r\n";
                format!(
                    "{method} /api2/json{} HTTP/1.1\r\nHost: x\r\n{auth}\
                     Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n{body}",
                    request.path,
                    body.len()
                )
            }
            method => format!(
                "{method} /api2/json{} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {}\r\n\r\n{form}",
                request.path,
                form.len()
            ),
        };
        wire.send(text.as_bytes()).await;
        let answer = wire.answer().await;
        // The sampled ids and tickets do not exist, so calls with state may answer 500. An unknown
        // endpoint, a refused parameter or a refused caller is an error.
        let says = |text: &[u8]| answer.body.windows(text.len()).any(|w| w == text);
        let known_refusal = answer.status == 400
            && (says(b"unknown option 'item1'")
                || says(b"upid\":")
                || says(b"does not exist")
                || says(b"wrong file extension")
                || says(b"invalid rule type 'group' for rule_env 'group'")
                || says(b"'PVE' namespace")
                || says(b"neither 'starttime' nor 'schedule' were set")
                || says(b"No such job")
                || says(b"No such storage")
                || says(b"no such alias")
                || says(b"no such IP/Network")
                || says(b"already exists"))
            || answer.status == 404 && says(b"not found")
            || answer.status == 401
                && [
                    "invalid PVEVNC ticket",
                    "invalid PVETUNNEL ticket",
                    "authentication failure",
                ]
                .iter()
                .any(|end| answer.reason.ends_with(end));
        if !(matches!(answer.status, 200 | 500) || known_refusal) {
            problems.push(format!(
                "{release} {} {} [{form}]: {answer}",
                request.method, request.template
            ));
        }
        // No answer has meaningless values, unless the call sent them. The excluded lists return
        // earlier writes; the metadata of OSDs is not simulated.
        let written = [
            "/cluster/notifications/endpoints/",
            "/cluster/sdn/dns/",
            "/nodes/{node}/ceph/osd/",
        ];
        let echoed = written
            .iter()
            .any(|start| request.template.starts_with(start))
            || request.path.contains("text")
            || request.params.iter().any(|(_, v)| v == "text");
        if answer.status == 200 && request.method == "GET" && !echoed {
            let body = answer.json()["data"].clone();
            if let Some(text) = meaningless("data", &body) {
                problems.push(format!("{release} {}: {text}", request.template));
            }
        }
        // A stopped container has null for its interfaces.
        let none = request.template == "/nodes/{node}/lxc/{vmid}/interfaces";
        // The property strings of this endpoint are returned as objects, contrary to the schema
        // (pve-manager `VZDump.pm`).
        let apart = request.template == "/nodes/{node}/vzdump/defaults";
        if answer.status == 200 && !none && !apart {
            let method: Method = request.method.parse().expect("a verb");
            let returns = &facts.endpoints[&request.template][&method].returns;
            if let Some(text) = misfit("data", returns, &answer.json()["data"]) {
                problems.push(format!(
                    "{release} {} {}: {text}",
                    request.method, request.template
                ));
            }
        }
        // The header of a privileged daemon comes first; the last one applies to this connection.
        if answer.all("connection").last() == Some(&"close") {
            wire = Wire::open(&pve).await;
        }
    }
    (requests.len(), problems)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_releases() {
    let mut total = 0;
    let mut problems = Vec::new();
    for release in releases() {
        for container in [false, true] {
            let (calls, found) = walk(release, container).await;
            total += calls;
            problems.extend(found);
        }
    }
    assert!(
        problems.is_empty(),
        "{} of {total} calls:\n{}",
        problems.len(),
        problems.join("\n")
    );
    let endpoints = |release| {
        let facts = facts(release);
        facts
            .endpoints
            .values()
            .map(|verbs| verbs.len())
            .sum::<usize>()
    };
    let expected: usize = releases().into_iter().map(endpoints).sum();
    assert_eq!(
        total / 2,
        expected,
        "every endpoint of every release is called"
    );
}
