//! The requests of every endpoint.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_api::error::ApiError;
use proxmox_api::request::Call;
use proxmox_api::value::encode::ParamValue;
use proxmox_api::{Client, Error};
use proxmox_e2e::REQUESTS;
use proxmox_e2e::request::{ExpectedRequest, Parameter, Sent};
use proxmox_simulator::{ROOT_PASSWORD, Simulator, releases};
use serde_json::Value;

fn texts(value: &ParamValue) -> Vec<&str> {
    value.texts().iter().map(String::as_str).collect()
}

/// The problem with the values of a parameter.
fn complaint(wire: &ExpectedRequest, parameter: &Parameter, came: &[&str]) -> Option<String> {
    (!parameter.sent.is(came)).then(|| {
        format!(
            "{}: `{}` came as {came:?} instead of {:?}",
            wire.endpoint, parameter.name, parameter.sent
        )
    })
}

#[test]
fn every_endpoint_sends_the_expected_request() {
    let mut problems = Vec::new();
    let mut parameters = 0;
    for wire in REQUESTS.iter() {
        let call = (wire.build)();
        if call.name() != wire.endpoint || call.method().to_string() != wire.method {
            problems.push(format!("{}: is {}", wire.endpoint, call.name()));
        }
        if call.path() != wire.path {
            problems.push(format!(
                "{}: goes to {} instead of {}",
                wire.endpoint,
                call.path(),
                wire.path
            ));
        }
        let encoded = call.params().encode();
        let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in encoded.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').expect("a pair");
            assert!(!value.contains(['=', ';', '+', ' ']), "{pair}");
            arrived.entry(decode(key)).or_default().push(decode(value));
        }
        for parameter in wire.parameters {
            parameters += 1;
            let set = call.params().get(parameter.name).map(texts);
            problems.extend(complaint(wire, parameter, &set.unwrap_or_default()));
            let came = arrived.remove(parameter.name).unwrap_or_default();
            let came: Vec<&str> = came.iter().map(String::as_str).collect();
            problems.extend(complaint(wire, parameter, &came));
        }
        if !arrived.is_empty() {
            problems.push(format!("{}: nobody set {arrived:?}", wire.endpoint));
        }
    }
    println!("{} endpoints send {parameters} parameters", REQUESTS.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let named: std::collections::BTreeSet<String> = REQUESTS
        .iter()
        .map(|wire| wire.endpoint.to_owned())
        .collect();
    assert_eq!(named, crate::endpoints());
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn renamed(call: &Call) -> &'static [proxmox_api::value::endpoint::Renamed] {
    call.endpoint().map_or(&[], |endpoint| endpoint.renamed)
}

/// The name of a parameter in a release.
fn name_in<'n>(release: &str, call: &Call, name: &'n str) -> &'n str {
    let (major, minor) = release.split_once('.').expect("a release");
    let number = |text: &str| text.parse().expect("a number");
    let release = proxmox_api::value::endpoint::Release::new(number(major), number(minor));
    let known = renamed(call).iter();
    let mut known = known.filter(|renamed| renamed.old == name && release >= renamed.since);
    known.next().map_or(name, |renamed| renamed.new)
}

/// Read from the schema files, independently of the generator.
#[test]
fn no_parameter_of_any_release_is_missing() {
    let wires: BTreeMap<&str, BTreeSet<&str>> = REQUESTS
        .iter()
        .map(|wire| {
            let mut names: BTreeSet<&str> = wire.parameters.iter().map(|p| p.name).collect();
            // A client sends the release's name.
            names.extend(renamed(&(wire.build)()).iter().map(|renamed| renamed.new));
            (wire.endpoint, names)
        })
        .collect();
    let mut checked = 0;
    let mut missing = Vec::new();
    for release in releases() {
        let facts = crate::releases::facts(release);
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                let key = format!("{method} {path}");
                let Some(wire) = wires.get(key.as_str()) else {
                    missing.push(format!("{release}: {key}"));
                    continue;
                };
                for name in endpoint.parameters.properties.keys() {
                    if path.contains(&format!("{{{name}}}")) {
                        continue;
                    }
                    checked += 1;
                    let sent = name.replace("[n]", "1");
                    if !wire.contains(sent.as_str()) {
                        missing.push(format!("{release}: {key} `{name}`"));
                    }
                }
            }
        }
    }
    println!(
        "{checked} parameters of {} releases are all sent",
        releases().len()
    );
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn flat(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

/// Sends every call over TLS to a server that checks parameters like Proxmox VE.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_accepts_every_call() {
    let mut by_release: BTreeMap<&str, Vec<Visit>> = BTreeMap::new();
    let mut visits = 0;
    for visit in REQUESTS.iter().flat_map(visits_of) {
        visits += 1;
        by_release.entry(visit.release).or_default().push(visit);
    }
    let mut problems = Vec::new();
    let (mut accepted, mut arrived) = (0, 0);
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for (release, visits) in by_release {
        let pve = Simulator::builder()
            .release(release)
            .node("pve1")
            .node("pve2")
            .time_factor(0.0)
            .start()
            .await
            .expect("the simulator starts");
        let client = Client::builder(pve.url())
            .password("root@pam", ROOT_PASSWORD)
            .ca_pem(pve.ca_pem())
            .rate_limit(proxmox_api::client::limit::RateLimit::none())
            .build()
            .expect("the settings are complete");
        for visit in visits {
            let wire = visit.wire;
            let call = (wire.build)();
            let mut request = client.request::<Value>(call.method(), call.path());
            for (name, value) in call.params().iter() {
                if let Some((own, kind)) = visit.kind.filter(|(own, _)| *own == name) {
                    request = request.param(own, kind);
                    continue;
                }
                let sent = name_in(release, &call, name).to_owned();
                request = match value {
                    _ if !visit.parameters.contains(name) => request,
                    ParamValue::One(text) => request.param(sent, text.as_str()),
                    value => request.param(sent, value.texts().to_vec()),
                };
            }
            if let Some((_, reason)) = NO_FORM.iter().find(|(key, _)| *key == wire.endpoint) {
                println!("not sent: {}, {reason}", wire.endpoint);
                continue;
            }
            pve.clear_requests();
            let outcome = request.await.err();
            let requests = pve.requests();
            let Some(seen) = requests.last().filter(|seen| seen.method == wire.method) else {
                problems.push(format!("{}: never arrived ({outcome:?})", wire.endpoint));
                continue;
            };
            // A decode error does not concern the request.
            if let Some(api) = outcome.as_ref().and_then(Error::api)
                && !is_about_state(wire, api)
            {
                problems.push(format!("{}: {api}", wire.endpoint));
                continue;
            }
            accepted += 1;
            *statuses.entry(seen.status).or_default() += 1;
            let sent = wire.parameters.iter();
            let replaced = |name: &str| visit.kind.is_some_and(|(key, _)| key == name);
            for parameter in sent.filter(|p| visit.parameters.contains(p.name) && !replaced(p.name))
            {
                arrived += 1;
                let name = name_in(release, &call, parameter.name);
                let came = seen.params.get(name).unwrap_or(&Value::Null);
                problems.extend(complaint(wire, parameter, &flat(came)));
            }
        }
    }
    println!(
        "the simulator accepts the parameters of {accepted} calls, {arrived} in number; \
         its answers by status: {statuses:?}"
    );
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
    assert_eq!(accepted + NO_FORM.len(), visits);
}

/// A call of a release with some of the parameters.
struct Visit {
    wire: &'static ExpectedRequest,
    release: &'static str,
    parameters: BTreeSet<&'static str>,
    /// A parameter that selects the kind of object, and the value to select.
    kind: Option<(&'static str, &'static str)>,
}

/// Parameters of some kinds of objects only: the parameter that selects the kind, and the
/// parameters of other kinds than the selected one, by a kind that has them.
fn of_other_kinds(
    wire: &'static ExpectedRequest,
) -> Option<(&'static str, BTreeMap<&'static str, BTreeSet<&'static str>>)> {
    let facts = crate::releases::facts(wire.release);
    let (method, path) = wire.endpoint.split_once(' ')?;
    let endpoint = facts.endpoints.get(path)?.get(&method.parse().ok()?)?;
    let schemas = &endpoint.parameters.properties;
    let kinds_of = |name: &str| {
        let schema = schemas.get(name)?;
        Some((
            schema.type_property.clone()?,
            schema.instance_types.clone()?,
        ))
    };
    let mut others: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut which = None;
    for parameter in wire.parameters.iter().filter(|p| p.known) {
        let Some((property, kinds)) = kinds_of(parameter.name) else {
            continue;
        };
        let property = wire.parameters.iter().find(|p| p.name == property)?;
        let Sent::One(own) = property.sent else {
            continue;
        };
        if !kinds.iter().any(|kind| kind == own) {
            let known = schemas.get(property.name)?.values.clone()?;
            let kind = kinds.into_iter().find(|kind| known.contains(kind))?;
            others
                .entry(String::leak(kind))
                .or_default()
                .insert(parameter.name);
            which = Some(property.name);
        }
    }
    Some((which?, others))
}

/// The calls of the newest release with all parameters, one for each kind of object with parameters
/// of its own, and one for each parameter that the newest release has dropped.
fn visits_of(wire: &'static ExpectedRequest) -> Vec<Visit> {
    let known = wire.parameters.iter().filter(|p| p.known);
    let mut parameters: BTreeSet<&str> = known.map(|p| p.name).collect();
    let mut visits = Vec::new();
    if let Some((property, others)) = of_other_kinds(wire) {
        let facts = crate::releases::facts(wire.release);
        let required = |name: &str| {
            let (method, path) = wire.endpoint.split_once(' ')?;
            let endpoint = facts.endpoints.get(path)?.get(&method.parse().ok()?)?;
            let schema = endpoint.parameters.properties.get(name)?;
            let always = !schema.optional && schema.instance_types.is_none();
            (always && schema.one_of.is_none()).then_some(())
        };
        for (kind, own) in others {
            let needed =
                |name: &&str| *name == property || own.contains(*name) || required(name).is_some();
            visits.push(Visit {
                wire,
                release: wire.release,
                parameters: parameters.iter().copied().filter(needed).collect(),
                kind: Some((property, kind)),
            });
            parameters.retain(|name| !own.contains(name));
        }
    }
    if let Some((_, apart)) = APART.iter().find(|(key, _)| *key == wire.endpoint) {
        let facts = crate::releases::facts(wire.release);
        let required = |name: &&str| {
            let (method, path) = wire.endpoint.split_once(' ')?;
            let endpoint = facts.endpoints.get(path)?.get(&method.parse().ok()?)?;
            let schema = endpoint.parameters.properties.get(*name)?;
            (!schema.optional).then_some(())
        };
        let own = |name: &&str| apart.contains(name) || required(name).is_some();
        visits.push(Visit {
            wire,
            release: wire.release,
            parameters: parameters.iter().copied().filter(own).collect(),
            kind: None,
        });
        parameters.retain(|name| !apart.contains(name));
    }
    visits.push(Visit {
        wire,
        release: wire.release,
        parameters,
        kind: None,
    });
    for dropped in wire.parameters.iter().filter(|p| !p.known) {
        let visit = releases().into_iter().rev().find_map(|release| {
            let facts = crate::releases::facts(release);
            let (method, path) = wire.endpoint.split_once(' ')?;
            let methods = facts.endpoints.get(path)?;
            let endpoint = methods.get(&method.parse().ok()?)?;
            let schemas = &endpoint.parameters.properties;
            let companion = schemas.get(dropped.name)?.requires.as_deref();
            let needed = |name: &str| {
                companion == Some(name)
                    || TOGETHER.contains(&(wire.endpoint, name))
                    || schemas.get(name).is_some_and(|schema| !schema.optional)
            };
            let sent = wire.parameters.iter().map(|p| p.name);
            Some(Visit {
                wire,
                release,
                parameters: sent
                    .filter(|name| *name == dropped.name || needed(name))
                    .collect(),
                kind: None,
            })
        });
        visits.push(visit.expect("some release has it"));
    }
    visits
}

/// Parameters that exclude others, so they are sent in separate calls.
const APART: &[(&str, &[&str])] = &[(
    "POST /nodes/{node}/qemu/{vmid}/move_disk",
    &["target-digest", "target-disk", "target-vmid"],
)];

/// Parameters that the handler requires although the schema declares them optional.
const TOGETHER: &[(&str, &str)] = &[
    ("POST /cluster/backup", "schedule"),
    ("POST /nodes/{node}/vzdump", "vmid"),
];

/// Endpoints that accept no form.
const NO_FORM: &[(&str, &str)] = &[(
    "POST /nodes/{node}/storage/{storage}/upload",
    "which takes a multipart body",
)];

/// The parameters are valid, but their objects do not exist or are in another state.
fn is_about_state(wire: &ExpectedRequest, api: &ApiError) -> bool {
    match api.status() {
        // The made-up credentials are unknown.
        401 => {
            let mut names = wire.parameters.iter().map(|parameter| parameter.name);
            names.any(|name| matches!(name, "password" | "ticket" | "vncticket"))
        }
        403 => api.message().contains("(pool '") && api.message().contains("' does not exist"),
        404 => ["not found", "does not exist"]
            .iter()
            .any(|words| api.message().contains(words)),
        501 => false,
        _ => {
            let about = [
                "already exists",
                "no such task",
                // The sample is an existing role.
                "'PVE' namespace",
                "No such job",
                "No such storage",
                "no such alias",
                "no such IP/Network",
                "unknown option 'item1'",
                // A name that must match the content of the file.
                "wrong file extension",
                "Realm does not exist",
                "must be different than source VMID",
                // The schema has it, but not for callers over the network.
                "only allowed on the command line interface",
                // Each is valid without the other.
                "cannot use 'snapshot' parameter with 'current'",
            ];
            let is = |text: &String| about.iter().any(|words| text.contains(words));
            api.errors().values().all(is)
        }
    }
}

#[test]
fn a_property_string_may_come_in_any_order() {
    let sent = Sent::Parts(&["virtio", "bridge=vmbr0"]);
    assert!(sent.is(&["bridge=vmbr0,virtio"]));
    assert!(!sent.is(&["bridge=vmbr0"]));
    assert!(!sent.is(&["virtio,bridge=vmbr0,firewall=1"]));
}
