//! Decoding of every endpoint's answers.

use std::collections::BTreeSet;

use proxmox_e2e::ANSWERS;
use proxmox_e2e::answer::Answer;
use proxmox_e2e::shape::{Item, Member, Returns, Shapes, Ty};
use proxmox_e2e::show::{DATA, REST};
use serde_json::{Value, json};

use crate::documents::{Kind, Maker};

/// The first difference between two values.
fn difference(place: &str, found: &Value, expected: &Value) -> Option<String> {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
            keys.into_iter().find_map(|key| {
                let place = format!("{place}.{key}");
                match (found.get(key), expected.get(key)) {
                    (Some(found), Some(expected)) => difference(&place, found, expected),
                    (found, expected) => Some(format!("{place} is {found:?}, not {expected:?}")),
                }
            })
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => found
            .iter()
            .zip(expected)
            .enumerate()
            .find_map(|(at, (found, expected))| {
                difference(&format!("{place}[{at}]"), found, expected)
            }),
        _ if found == expected => None,
        _ => Some(format!("{place} is {found}, not {expected}")),
    }
}

/// Decodes a document and compares the result with the expected one.
fn complaint(answer: &Answer, body: &Value, expected: Option<&Value>) -> Option<String> {
    let text = serde_json::to_vec(body).expect("JSON");
    let problem = match ((answer.decode)(&text), expected) {
        (Ok(None), None) => return None,
        (Ok(Some(found)), Some(expected)) => difference("data", &found, expected)?,
        (Ok(found), expected) => format!("found {found:?}, not {expected:?}"),
        (Err(error), _) => format!("{error}"),
    };
    Some(format!("{answer:?}: {problem}"))
}

fn finish(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems[..problems.len().min(60)].join("\n")
    );
}

#[test]
fn full_and_minimal_answers() {
    let shapes = Shapes::get();
    let mut problems = Vec::new();
    for answer in ANSWERS {
        let returns = &shapes.answers[&answer.to_string()];
        for kind in [Kind::Full, Kind::Minimal] {
            let (body, expected) = Maker::new(shapes, kind).document(returns);
            problems.extend(complaint(answer, &body, expected.as_ref()));
        }
    }
    println!(
        "{} endpoints decode a full and a minimal answer",
        ANSWERS.len()
    );
    finish(&problems);
    let named: std::collections::BTreeSet<String> =
        ANSWERS.iter().map(ToString::to_string).collect();
    assert_eq!(named, crate::endpoints());
    assert_eq!(shapes.answers.len(), ANSWERS.len());
}

#[test]
fn unusual_answers() {
    let shapes = Shapes::get();
    let mut problems = Vec::new();
    let (mut documents, mut spellings, mut places) = (0, 0, 0);
    for answer in ANSWERS {
        let returns = &shapes.answers[&answer.to_string()];
        if matches!(returns, Returns::Nothing | Returns::Bytes) {
            continue;
        }
        let mut maker = Maker::new(shapes, Kind::Unusual);
        // Until every spelling was used in every place, and for a while no new place was reached.
        let mut complete = 0;
        while complete < 8 {
            let (body, expected) = maker.document(returns);
            documents += 1;
            if let Some(complaint) = complaint(answer, &body, expected.as_ref()) {
                problems.push(complaint);
                break;
            }
            let (used, all) = maker.coverage();
            complete = if used == all { complete + 1 } else { 0 };
        }
        spellings += maker.coverage().1;
        places += 1;
    }
    println!("{documents} unusual answers of {places} endpoints with {spellings} spellings decode");
    finish(&problems);
}

/// The struct of an answer or of its elements.
fn members<'a>(shapes: &'a Shapes, returns: &Returns) -> Option<(bool, &'a [Member])> {
    let Returns::Data(ty) = returns else {
        return None;
    };
    let (array, ty) = match ty {
        Ty::Array(of) => (true, &**of),
        ty => (false, ty),
    };
    match ty {
        Ty::Item(name) => match &shapes.items[name] {
            Item::Struct(members) => Some((array, members)),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn a_missing_required_member_is_named_and_rejects_its_element_only() {
    let shapes = Shapes::get();
    let mut checked = 0;
    for answer in ANSWERS {
        let returns = &shapes.answers[&answer.to_string()];
        let Some((array, members)) = members(shapes, returns) else {
            continue;
        };
        for member in members.iter().filter(|member| member.required) {
            let (mut body, _) = Maker::new(shapes, Kind::Full).document(returns);
            let holder = match array {
                true => &mut body["data"][1],
                false => &mut body["data"],
            };
            holder
                .as_object_mut()
                .expect("an object")
                .remove(&member.name);
            let text = serde_json::to_vec(&body).expect("JSON");
            let read = (answer.decode)(&text);
            if array {
                let found = read.expect("the other element fits").unwrap_or_default();
                let count = found[DATA].as_array().map(Vec::len);
                assert_eq!(count, Some(1), "{answer:?} without {}", member.name);
                let rest = json!([null, body["data"][1]]);
                assert_eq!(found[REST], rest, "{answer:?} without {}", member.name);
                body["data"].as_array_mut().expect("an array").remove(0);
            }
            let text = serde_json::to_vec(&body).expect("JSON");
            let error = (answer.decode)(&text).expect_err("the member is missing");
            let place = if array { "data[0]" } else { "data" };
            assert_eq!(error.path(), place, "{answer:?}");
            assert!(
                error.problem().contains(&member.name),
                "{answer:?}: {error}"
            );
            checked += 1;
        }
    }
    println!("{checked} required members are missed by name");
    assert!(checked > 300);
}
