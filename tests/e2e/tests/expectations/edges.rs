//! Values at the limits of the schemas are sent, and values just beyond are not. The limits are
//! read from the facts of all releases, independently of the generator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::error::RequestErrorKind;
use proxmox_api::request::ApiRequest as _;
use proxmox_api::testing::Script;
use proxmox_api::value::endpoint::Takes;
use proxmox_api::{Client, Error};
use proxmox_codegen::facts::{Schema, Type};
use proxmox_e2e::REQUESTS;
use proxmox_e2e::request::{ExpectedRequest, Sent};
use serde_json::{Number, Value};

/// A value, and the expected error if it is beyond the limit.
struct Edge {
    parameter: String,
    text: String,
    beyond: Option<String>,
}

impl Edge {
    fn fits(parameter: &str, text: impl ToString) -> Self {
        Self {
            parameter: parameter.to_owned(),
            text: text.to_string(),
            beyond: None,
        }
    }

    fn beyond(parameter: &str, text: impl ToString, range: impl ToString) -> Self {
        Self {
            beyond: Some(range.to_string()),
            ..Self::fits(parameter, text)
        }
    }
}

/// A parameter, according to all releases that have it.
type Schemas<'a> = Vec<&'a Schema>;

fn parameters<'a>(
    all: &'a [proxmox_codegen::facts::Facts],
) -> BTreeMap<String, BTreeMap<&'a str, Schemas<'a>>> {
    let mut found: BTreeMap<String, BTreeMap<&str, Schemas<'_>>> = BTreeMap::new();
    for facts in all {
        for (path, methods) in &facts.endpoints {
            for (method, endpoint) in methods {
                let schemas_of_endpoint = found.entry(format!("{method} {path}")).or_default();
                for (name, schema) in &endpoint.parameters.properties {
                    if !path.contains(&format!("{{{name}}}")) {
                        schemas_of_endpoint.entry(name).or_default().push(schema);
                    }
                }
            }
        }
    }
    found
}

/// The widest of the bounds; none if a release has none.
fn widest(
    schemas: &Schemas<'_>,
    bound: impl Fn(&Schema) -> Option<Number>,
    wider: fn(f64, f64) -> f64,
) -> Option<f64> {
    let bounds: Option<Vec<f64>> = schemas.iter().map(|one| bound(one)?.as_f64()).collect();
    bounds?.into_iter().reduce(wider)
}

fn length(schemas: &Schemas<'_>, bound: impl Fn(&Schema) -> Option<u64>) -> Option<u64> {
    let bounds: Option<Vec<u64>> = schemas.iter().map(|one| bound(one)).collect();
    bounds?.into_iter().max()
}

/// Values at the limits of a parameter, where one value suffices.
fn edges(name: &str, schemas: &Schemas<'_>) -> Vec<Edge> {
    let member = name.replace("[n]", "1");
    let all = |ty: Type| schemas.iter().all(|one| one.ty == Some(ty));
    let plain = |one: &&Schema| {
        one.one_of.is_none() && one.values.is_none() && one.items.is_none() && one.format.is_none()
    };
    if !schemas.iter().all(plain) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let min = widest(schemas, |one| one.minimum.clone(), f64::min);
    let max = widest(schemas, |one| one.maximum.clone(), f64::max);
    if all(Type::Integer) || all(Type::Number) {
        let step = if all(Type::Integer) { 1.0 } else { 0.5 };
        // Beyond 2^53 the facts' numbers are not exact.
        for (edge, beyond) in [(min, -step), (max, step)] {
            if let Some(edge) = edge.filter(|edge| edge.abs() < 9e15) {
                found.push(Edge::fits(&member, edge));
                found.push(Edge::beyond(&member, edge + beyond, edge));
            }
        }
    }
    let patterned = schemas.iter().any(|one| one.pattern.is_some());
    if all(Type::String)
        && !patterned
        && let Some(max) = length(schemas, |one| one.max_length)
    {
        let text = |length: u64| "a".repeat(usize::try_from(length).expect("it fits"));
        found.push(Edge::fits(&member, text(max)));
        found.push(Edge::beyond(&member, text(max + 1), max));
    }
    if all(Type::String) && schemas.iter().all(|one| one.pattern.is_some()) {
        found.push(Edge::beyond(&member, "\u{7} §", "match `"));
    }
    found
}

/// The first and the last index of an indexed parameter, and the one after.
fn members(wire: &ExpectedRequest) -> Vec<Edge> {
    let call = (wire.build)();
    let limits = call.endpoint().map_or(&[][..], |endpoint| endpoint.limits);
    let mut found = Vec::new();
    for (name, takes) in limits {
        let (Some(prefix), Takes::Index(last)) = (name.strip_suffix("[n]"), takes) else {
            continue;
        };
        // The value that the call sends for the second index is valid for the others.
        let second = format!("{prefix}1");
        let sent = wire.parameters.iter().find(|one| one.name == second);
        let text = match sent.map(|one| &one.sent) {
            Some(Sent::One(text)) => (*text).to_owned(),
            Some(Sent::Parts(parts)) => parts.join(","),
            _ => continue,
        };
        let member = |index: u16| format!("{prefix}{index}");
        let last = u16::from(*last);
        found.push(Edge::fits(&member(0), &text));
        found.push(Edge::fits(&member(last), &text));
        let range = format!("the indexes 0 to {last}");
        found.push(Edge::beyond(&member(last + 1), &text, range));
    }
    found
}

/// Sends a call with one changed parameter; returns the error if it was not sent.
async fn refusal(client: &Client, wire: &ExpectedRequest, edge: Option<&Edge>) -> Option<Error> {
    let mut request = client.request::<Value>(proxmox_api::value::endpoint::Method::Get, "/");
    *request.call_mut() = (wire.build)();
    if let Some(edge) = edge {
        request = request.param(&*edge.parameter, edge.text.as_str());
    }
    match request.await {
        Err(error @ Error::Request(_)) => Some(error),
        _ => None,
    }
}

#[tokio::test]
async fn values_at_a_limit_are_sent_and_values_beyond_are_not() {
    let corrected = crate::releases::corrected();
    let described = parameters(&corrected);
    let client = Client::builder("pve1")
        .api_token("root@pam!test", "not-a-secret")
        .check_token_access(false)
        .retry(RetryPolicy::none())
        .transport(Arc::new(Script::new()))
        .build()
        .expect("the settings are complete");
    let (mut sent, mut refused, mut untried) = (0, 0, 0);
    let mut kinds = BTreeSet::new();
    let mut problems = Vec::new();
    for wire in REQUESTS.iter() {
        let schemas_by_name = described.get(wire.endpoint).expect("the facts have it");
        let mut all = members(wire);
        for (name, schemas) in schemas_by_name {
            let found = edges(name, schemas);
            let bounded = |one: &&Schema| {
                one.minimum.is_some()
                    || one.maximum.is_some()
                    || one.max_length.is_some()
                    || one.pattern.is_some()
            };
            if found.is_empty() && schemas.iter().any(bounded) {
                untried += 1;
            }
            all.extend(found);
        }
        if all.is_empty() {
            continue;
        }
        if let Some(error) = refusal(&client, wire, None).await {
            problems.push(format!("{}: as it is: {error}", wire.endpoint));
            continue;
        }
        for edge in &all {
            let Edge {
                parameter,
                text,
                beyond,
            } = edge;
            let start: String = text.chars().take(20).collect();
            let place = format!("{} `{parameter}` = {start:?}", wire.endpoint);
            match (refusal(&client, wire, Some(edge)).await, beyond) {
                (None, None) => sent += 1,
                (Some(error), None) => problems.push(format!("{place}: {error}")),
                (None, Some(range)) => {
                    problems.push(format!("{place}: is sent, and only {range} is allowed"));
                }
                (Some(error), Some(range)) => {
                    refused += 1;
                    let text = error.to_string();
                    let kind = match &error {
                        Error::Request(error) => error.kind(),
                        other => panic!("{other}"),
                    };
                    let parameter = format!("`{parameter}`");
                    if !(matches!(kind, RequestErrorKind::Parameter { .. })
                        && text.contains(&parameter)
                        && text.contains(range.as_str()))
                    {
                        problems.push(format!("{place}: does not say so: {text}"));
                    }
                    kinds.insert(text.split(" takes ").nth(1).unwrap_or_default().to_owned());
                }
            }
        }
    }
    println!(
        "{sent} values at an edge are sent, {refused} beyond one are not; {untried} parameters with bounds have a format, an \
         enum or choices, or bounds in some releases only, and are not tried"
    );
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
    assert!(sent > 500 && refused > 600 && kinds.len() > 100);
}
