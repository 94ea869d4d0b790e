//! What every endpoint sends.

use std::collections::{BTreeMap, BTreeSet};

use proxmox_api::error::ApiError;
use proxmox_api::value::encode::ParamValue;
use proxmox_api::{Client, Error};
use proxmox_e2e::WIRES;
use proxmox_e2e::wire::{Parameter, Sent, Wire};
use proxmox_simulator::{ROOT_PASSWORD, Simulator, releases};
use serde_json::Value;

fn texts(value: &ParamValue) -> Vec<&str> {
    value.texts().iter().map(String::as_str).collect()
}

/// What is wrong with the values that came under a parameter's name.
fn complaint(wire: &Wire, parameter: &Parameter, came: &[&str]) -> Option<String> {
    (!parameter.sent.is(came)).then(|| {
        format!(
            "{}: `{}` came as {came:?} instead of {:?}",
            wire.endpoint, parameter.name, parameter.sent
        )
    })
}

#[test]
fn every_endpoint_sends_what_the_schema_asks_for() {
    let mut complaints = Vec::new();
    let mut parameters = 0;
    for wire in WIRES {
        let call = (wire.build)();
        if call.name() != wire.endpoint || call.method().to_string() != wire.method {
            complaints.push(format!("{}: is {}", wire.endpoint, call.name()));
        }
        if call.path() != wire.path {
            complaints.push(format!(
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
            complaints.extend(complaint(wire, parameter, &set.unwrap_or_default()));
            let came = arrived.remove(parameter.name).unwrap_or_default();
            let came: Vec<&str> = came.iter().map(String::as_str).collect();
            complaints.extend(complaint(wire, parameter, &came));
        }
        if !arrived.is_empty() {
            complaints.push(format!("{}: nobody set {arrived:?}", wire.endpoint));
        }
    }
    println!("{} endpoints send {parameters} parameters", WIRES.len());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let named: std::collections::BTreeSet<String> =
        WIRES.iter().map(|wire| wire.endpoint.to_owned()).collect();
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

/// Read from the schema files, past everything that generates code from them.
#[test]
fn no_parameter_of_any_release_is_left_out() {
    let wires: BTreeMap<&str, BTreeSet<&str>> = WIRES
        .iter()
        .map(|wire| {
            (
                wire.endpoint,
                wire.parameters.iter().map(|p| p.name).collect(),
            )
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

/// Every call over TLS to a server that checks parameters as Proxmox VE does.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_accepts_every_call() {
    let mut by_release: BTreeMap<&str, Vec<Visit>> = BTreeMap::new();
    let mut visits = 0;
    for visit in WIRES.iter().flat_map(visits_of) {
        visits += 1;
        by_release.entry(visit.release).or_default().push(visit);
    }
    let mut complaints = Vec::new();
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
                request = match value {
                    _ if !visit.parameters.contains(name) => request,
                    _ if name == "type" && visit.kind.is_some() => {
                        request.param(name, visit.kind.unwrap_or_default())
                    }
                    ParamValue::One(text) => request.param(name, text.as_str()),
                    value => request.param(name, value.texts().to_vec()),
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
                complaints.push(format!("{}: never arrived ({outcome:?})", wire.endpoint));
                continue;
            };
            // A decoding error is no matter of the request.
            if let Some(api) = outcome.as_ref().and_then(Error::api)
                && !is_about_state(wire, api)
            {
                complaints.push(format!("{}: {api}", wire.endpoint));
                continue;
            }
            accepted += 1;
            *statuses.entry(seen.status).or_default() += 1;
            let sent = wire.parameters.iter();
            let own = |p: &&Parameter| !(p.name == "type" && visit.kind.is_some());
            for parameter in sent
                .filter(|p| visit.parameters.contains(p.name))
                .filter(own)
            {
                arrived += 1;
                let came = seen.params.get(parameter.name).unwrap_or(&Value::Null);
                complaints.extend(complaint(wire, parameter, &flat(came)));
            }
        }
    }
    println!(
        "the simulator accepts the parameters of {accepted} calls, {arrived} in number; \
         its answers by status: {statuses:?}"
    );
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert_eq!(accepted + NO_FORM.len(), visits);
}

/// A call of a release with some of a wire's parameters.
struct Visit {
    wire: &'static Wire,
    release: &'static str,
    parameters: BTreeSet<&'static str>,
    /// The type of section instead of the wire's.
    kind: Option<&'static str>,
}

/// A call of the newest release with all that it knows, and one for each parameter it no longer knows.
fn visits_of(wire: &'static Wire) -> Vec<Visit> {
    let known = wire.parameters.iter().filter(|p| p.known);
    let mut parameters: BTreeSet<&str> = known.map(|p| p.name).collect();
    let mut visits = foreign(wire, &mut parameters);
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

/// Takes out the parameters that sections of the wire's type do not have, for a call of another type.
fn foreign(wire: &'static Wire, parameters: &mut BTreeSet<&'static str>) -> Vec<Visit> {
    let facts = crate::releases::facts(wire.release);
    let schemas = wire.endpoint.split_once(' ').and_then(|(method, path)| {
        let endpoint = facts.endpoints.get(path)?.get(&method.parse().ok()?)?;
        Some(&endpoint.parameters.properties)
    });
    let schemas = schemas.expect("an endpoint of its release");
    let sent = |name: &str| wire.parameters.iter().find(|p| p.name == name);
    let Some(Sent::One(kind)) = sent("type").map(|parameter| &parameter.sent) else {
        return Vec::new();
    };
    let mut others: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in parameters.clone() {
        let schema = schemas.get(name);
        let schema = schema.filter(|schema| schema.type_property.as_deref() == Some("type"));
        let kinds = schema.and_then(|schema| schema.instance_types.as_ref());
        if let Some(other) = kinds.filter(|kinds| !kinds.iter().any(|own| own == kind)) {
            parameters.remove(name);
            others.entry(&other[0]).or_default().insert(name);
        }
    }
    let required = |name: &&str| schemas.get(*name).is_some_and(|schema| !schema.optional);
    let visits = others.into_iter().map(|(kind, mut names)| {
        names.extend(parameters.iter().copied().filter(required));
        Visit {
            wire,
            release: wire.release,
            parameters: names,
            kind: Some(kind),
        }
    });
    visits.collect()
}

/// Parameters that the server takes only without others, so that they are sent in a call of their own.
const APART: &[(&str, &[&str])] = &[(
    "POST /nodes/{node}/qemu/{vmid}/move_disk",
    &["target-digest", "target-disk", "target-vmid"],
)];

/// Parameters that the handler wants although the schema calls them optional.
const TOGETHER: &[(&str, &str)] = &[("POST /nodes/{node}/vzdump", "vmid")];

/// Endpoints that take no form.
const NO_FORM: &[(&str, &str)] = &[(
    "POST /nodes/{node}/storage/{storage}/upload",
    "which takes a multipart body",
)];

/// The parameters are fine, but what they name does not exist or is in another state.
fn is_about_state(wire: &Wire, api: &ApiError) -> bool {
    match api.status() {
        // Nobody has the credentials that were made up.
        401 => {
            let mut names = wire.parameters.iter().map(|parameter| parameter.name);
            names.any(|name| matches!(name, "password" | "ticket" | "vncticket"))
        }
        403 => api.message().contains("pool 'pool1' does not exist"),
        404 | 501 => false,
        _ => {
            let about = [
                "already exists",
                "no such task",
                "unknown option 'item1'",
                // A name that has to fit to what is in the file.
                "wrong file extension",
                "Realm does not exist",
                "must be different than source VMID",
                // The schema has it, but not for callers over the network.
                "only allowed on the command line interface",
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
