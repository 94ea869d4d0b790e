//! What is read strictly, as `parse` does, and what is refused: what the server's parser says of the same texts.

use std::collections::BTreeMap;
use std::path::Path;

use proxmox_e2e::{PROPERTY_STRINGS, WIRES};
use serde::Deserialize;

use proxmox_e2e::property::PropertyType;

/// A text and what becomes of it.
#[derive(Deserialize)]
struct Case {
    /// The type of property string.
    #[serde(default)]
    of: String,
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    parameter: String,
    text: String,
    ok: bool,
    /// A piece of the error.
    #[serde(default)]
    error: String,
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

/// Each kind of refusal, with what the message has to say.
#[test]
fn every_kind_of_mistake_is_refused_by_name() {
    let cases = cases(include_str!("property-strings.jsonl"));
    for case in &cases {
        let read = (named(&case.of).read)(&case.text);
        match (&read.strict, case.ok) {
            (Ok(_), true) => {}
            (Err(error), false) => {
                assert!(error.contains(&case.error), "{}: {error}", case.text);
                // What is not understood is kept all the same.
                assert_eq!(
                    (named(&case.of).read)(&read.written).lenient,
                    read.lenient,
                    "{}",
                    case.text
                );
            }
            (strict, _) => panic!("{} {:?}: {strict:?}", case.of, case.text),
        }
    }
    assert!(cases.iter().filter(|case| !case.ok).count() > 25);
}

/// What the server's own parser said, where that is beside the workspace.
#[test]
fn the_servers_parser_agrees() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/property-strings.jsonl");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: what the server's parser said is not beside the workspace");
        return;
    };
    let types: BTreeMap<(&str, String), &str> = WIRES
        .iter()
        .flat_map(|wire| {
            let typed = wire.parameters.iter();
            typed.filter_map(|parameter| {
                Some(((wire.endpoint, parameter.name.to_owned()), parameter.of?))
            })
        })
        .collect();
    let cases = cases(&text);
    let (mut same, mut wrong, mut untyped) = (0, Vec::new(), 0);
    for case in &cases {
        let parameter = case.parameter.replace("[n]", "1");
        let Some(of) = types.get(&(case.endpoint.as_str(), parameter)) else {
            untyped += 1;
            continue;
        };
        let read = (named(of).read)(&case.text);
        match read.strict.is_ok() == case.ok {
            true => same += 1,
            false => wrong.push(format!(
                "{of} {:?}: the server says {}, {:?}",
                case.text,
                case.ok,
                read.strict.err()
            )),
        }
    }
    // That server has a key that the schema of its release does not show, and lacks some of a newer one.
    wrong.retain(|line| {
        !line.starts_with("ResourceScheduling ") && !line.contains("there is no key `host-tunnel`")
    });
    println!(
        "{same} of {} texts are read or refused as the server does, {untyped} belong to no typed parameter",
        cases.len()
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
