//! Strict parsing, as by `parse`, compared with the server's parser: refusals by the crate, and by
//! the simulator's validation.

use std::collections::BTreeMap;
use std::path::Path;

use proxmox_codegen::facts::Format;
use proxmox_e2e::property::PropertyType;
use proxmox_e2e::request::{ExpectedRequest, Parameter, Sent};
use proxmox_e2e::shape::{Item, Properties, Shapes, Ty};
use proxmox_e2e::{PROPERTY_STRINGS, REQUESTS};
use proxmox_simulator::Rules;
use serde::Deserialize;

use crate::meaning::{Meaning, meaning};

/// A text and its expected result.
#[derive(Deserialize)]
struct Case {
    endpoint: String,
    parameter: String,
    text: String,
    ok: bool,
    /// A part of the crate's error.
    #[serde(default)]
    error: String,
    /// The result of the server's parser.
    parsed: Option<BTreeMap<String, serde_json::Value>>,
}

fn cases(text: &str) -> Vec<Case> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn named(name: &str) -> &'static PropertyType {
    let mut all = PROPERTY_STRINGS.iter();
    all.find(|property| property.name == name)
        .unwrap_or_else(|| panic!("{name} is no type of property string"))
}

/// The property string type of a parameter, by endpoint and parameter.
fn types() -> BTreeMap<(&'static str, String), &'static str> {
    let of = |wire: &'static ExpectedRequest, parameter: &'static Parameter| {
        Some(((wire.endpoint, parameter.name.to_owned()), parameter.of?))
    };
    REQUESTS
        .iter()
        .flat_map(|wire| wire.parameters.iter().filter_map(move |p| of(wire, p)))
        .collect()
}

/// The release for most requests.
fn newest() -> &'static str {
    proxmox_simulator::releases().pop().expect("a release")
}

/// The parameter that selects an object's type, and the first type that has a property string here.
fn kind(endpoint: &str, parameter: &str) -> Option<(&'static str, &'static str)> {
    let (method, path) = endpoint.split_once(' ')?;
    let methods = crate::releases::facts(newest()).endpoints.get(path)?;
    let endpoint = methods.get(&method.parse().ok()?)?;
    let schema = endpoint.parameters.properties.get(parameter)?;
    let mut choices = schema.one_of.iter().flatten();
    let choice = choices.find(|choice| {
        let item = choice.items.as_deref().unwrap_or(choice);
        matches!(item.format, Some(Format::Keys(_)))
    })?;
    let kind = choice.instance_types.as_ref()?.first()?;
    Some((schema.type_property.as_ref()?, kind))
}

/// Whether the simulator's validation accepts a text, or its error.
fn validated(rules: &Rules, endpoint: &str, parameter: &str, text: &str) -> Result<(), String> {
    let mut parameters = vec![(parameter, text)];
    parameters.extend(kind(endpoint, parameter));
    let mut refused = rules
        .refusals(endpoint, &parameters)
        .unwrap_or_else(|| panic!("{endpoint} is of no use here"));
    // For an array, the element is named.
    let mut own = refused.remove(parameter);
    own = own.or_else(|| refused.remove(&format!("{parameter}[0]")));
    own.map_or(Ok(()), Err)
}

/// Each kind of refusal, with the expected part of the message.
#[test]
fn every_kind_of_mistake_is_refused_with_its_key() {
    let cases = cases(include_str!("property-strings.jsonl"));
    let types = types();
    let rules = Rules::of(newest()).expect("a known release");
    let mut wrong = Vec::new();
    for case in &cases {
        let parameter = case.parameter.replace("[n]", "1");
        let of = types[&(case.endpoint.as_str(), parameter.clone())];
        let read = (named(of).read)(&case.text);
        match (&read.strict, case.ok) {
            (Ok(_), true) => {}
            (Err(error), false) => {
                if !error.contains(&case.error) {
                    wrong.push(format!("{of} {:?}: {error}", case.text));
                }
                // Lenient parsing keeps it.
                assert_eq!(
                    (named(of).read)(&read.written).lenient,
                    read.lenient,
                    "{}",
                    case.text
                );
            }
            (strict, _) => wrong.push(format!("{of} {:?}: {strict:?}", case.text)),
        }
        let verdict = validated(&rules, &case.endpoint, &parameter, &case.text);
        if verdict.is_ok() != case.ok {
            wrong.push(format!("the simulator: {of} {:?}: {verdict:?}", case.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.iter().filter(|case| !case.ok).count() > 25);
}

/// Texts made of values that a type accepts, with constructs that the parser always accepts or
/// refuses.
fn variations(parts: &[&str], of: &Properties) -> Vec<(String, bool)> {
    let text = parts.join(",");
    let mut all = vec![
        (text.clone(), true),
        (format!(",{text},,"), true),
        (format!("{text},zz-unknown=1"), false),
        (format!("{text},=1"), false),
    ];
    let reversed: Vec<&str> = parts.iter().rev().copied().collect();
    all.push((reversed.join(","), true));
    for (at, part) in parts.iter().enumerate() {
        let with = |other: &str| {
            let mut parts = parts.to_vec();
            parts[at] = other;
            parts.join(",")
        };
        let Some((key, value)) = part.split_once('=') else {
            all.push((format!("{text},{part}"), false));
            continue;
        };
        let member = of.keys.iter().find(|member| member.name == key);
        all.push((format!("{text},{part}"), false));
        all.push((with(&format!("{key}=")), false));
        match member.map(|member| &member.ty) {
            Some(Ty::Boolean) => {
                for yes in ["on", "YES", "True", "0", "off", "no", "False"] {
                    all.push((with(&format!("{key}={yes}")), true));
                }
                all.push((with(&format!("{key}=perhaps")), false));
            }
            Some(Ty::Integer | Ty::Bytes | Ty::Vmid | Ty::Number) => {
                if !value.starts_with('-') {
                    all.push((with(&format!("{key}=+{value}")), true));
                }
                all.push((with(&format!("{key}=many")), false));
            }
            _ => {}
        }
        if member.is_some_and(|member| member.required) {
            let mut parts = parts.to_vec();
            parts.remove(at);
            all.push((parts.join(","), false));
        }
    }
    all
}

/// Rules for every property string, on both sides.
#[test]
fn the_parsers_rules_apply_to_every_type() {
    let shapes = Shapes::get();
    let rules = Rules::of(newest()).expect("a known release");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for wire in REQUESTS.iter().filter(|wire| wire.release == newest()) {
        for parameter in wire.parameters.iter().filter(|parameter| parameter.known) {
            let Some(of) = parameter.of.filter(|of| !seen.contains_key(of)) else {
                continue;
            };
            // This one has its own, more lenient parser.
            if of == "StartupOrder" {
                continue;
            }
            let parts = match &parameter.sent {
                Sent::Parts(parts) => parts,
                Sent::Many([Sent::Parts(parts), ..]) => parts,
                _ => continue,
            };
            let Item::Properties(properties) = &shapes.items[of] else {
                panic!("{of} is no property string");
            };
            let variations = variations(parts, properties);
            seen.insert(of, variations.len());
            for (text, fine) in variations {
                let read = (named(of).read)(&text).strict;
                if read.is_ok() != fine {
                    wrong.push(format!("the crate: {of} {text:?}: {read:?}"));
                }
                let verdict = validated(&rules, wire.endpoint, parameter.name, &text);
                if verdict.is_ok() != fine {
                    wrong.push(format!("the simulator: {of} {text:?}: {verdict:?}"));
                }
            }
        }
    }
    println!(
        "{} texts of {} types are read or refused as they should be",
        seen.values().sum::<usize>(),
        seen.len()
    );
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen.len() > 60, "{}", seen.len());
}

/// The results of the server's own parser, if they are beside the workspace.
#[test]
fn parsing_agrees_with_the_servers_parser() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/property-strings.jsonl");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: the results of the server's parser are not beside the workspace");
        return;
    };
    let shapes = Shapes::get();
    let types = types();
    let cases = cases(&text);
    let (mut same, mut wrong) = (0, Vec::new());
    let mut untyped: BTreeMap<String, usize> = BTreeMap::new();
    // That server has a key that is missing in its release's dump, and lacks some keys of the dump.
    let mut other_release: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let parameter = case.parameter.replace("[n]", "1");
        let Some(of) = types.get(&(case.endpoint.as_str(), parameter)) else {
            let place = format!("{} {}", case.endpoint, case.parameter);
            *untyped.entry(place).or_default() += 1;
            continue;
        };
        let read = (named(of).read)(&case.text);
        if read.strict.is_ok() != case.ok {
            let error = read.strict.err().unwrap_or_default();
            let newer = [
                (
                    "ResourceScheduling",
                    *of == "ResourceScheduling" && !case.ok,
                ),
                (
                    "host-tunnel",
                    error.contains("there is no key `host-tunnel`"),
                ),
            ];
            match newer.iter().find(|(_, newer)| *newer) {
                Some((what, _)) => *other_release.entry(what).or_default() += 1,
                None => wrong.push(format!(
                    "{of} {:?}: the server says {}, {error:?}",
                    case.text, case.ok
                )),
            }
            continue;
        }
        // The written text has the meaning that the server read; for `prune-backups` the server
        // adds and drops default keys.
        if let (Some(parsed), Item::Properties(of)) = (&case.parsed, &shapes.items[*of])
            && case.parameter != "prune-backups"
        {
            let plain = |value: &serde_json::Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            let parts = parsed
                .iter()
                .map(|(key, value)| format!("{key}={}", plain(value)));
            let parsed = meaning(&parts.collect::<Vec<_>>().join(","), of);
            let written = meaning(&read.written, of);
            if !matches!(parsed, Meaning::Keys(_)) || parsed != written {
                wrong.push(format!(
                    "{:?}: {written:?}, the server {parsed:?}",
                    case.text
                ));
                continue;
            }
        }
        same += 1;
    }
    println!(
        "{same} of {} texts are read or refused as the server does; not comparable: {other_release:?}, \
         of no typed parameter: {untyped:?}",
        cases.len()
    );
    // The former optical drive is an alias of a drive with a type.
    assert!(untyped.keys().all(|place| place.ends_with(" cdrom")));
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
