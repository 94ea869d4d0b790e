//! No input causes a panic.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use proxmox_api::value::upid::Upid;
use proxmox_e2e::shape::Shapes;
use proxmox_e2e::show::TEXT;
use proxmox_e2e::{ANSWERS, PROPERTY_STRINGS};

use crate::documents::{Kind, Maker};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let outcome = runner(cases).run(strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn bytes_for_an_answer() {
    check(24, &prop::collection::vec(any::<u8>(), 0..256), |bytes| {
        for answer in ANSWERS {
            let _ = (answer.decode)(&bytes);
        }
    });
    let json_like = "[\\[\\]{}:,\"0-9a-z.eE+\\\\ -]{0,200}";
    check(24, &json_like, |text| {
        let text = format!("{{\"data\":{text}");
        for answer in ANSWERS {
            let _ = (answer.decode)(text.as_bytes());
        }
    });
}

#[test]
fn damaged_answers() {
    let shapes = Shapes::get();
    let documents: Vec<_> = ANSWERS
        .iter()
        .map(|answer| {
            let returns = &shapes.answers[&answer.to_string()];
            let body = Maker::new(shapes, Kind::Full).document(returns).0;
            (answer, serde_json::to_vec(&body).expect("JSON"))
        })
        .collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    check(24, &damage, |damage| {
        for (answer, body) in &documents {
            let mut body = body.clone();
            for (place, byte) in &damage {
                let place = place.index(body.len());
                match byte {
                    0..=31 => body.truncate(place.max(1)),
                    byte => body[place] = *byte,
                }
            }
            let _ = (answer.decode)(&body);
        }
    });
    println!("{} kinds of answers damaged, none panics", documents.len());
}

#[test]
fn text_for_a_property_string() {
    for strategy in [".{0,64}", "[a-z=,;: 0-9]{0,64}", "[,=]{0,12}"] {
        check(128, &strategy, |text| {
            for property in PROPERTY_STRINGS {
                let read = (property.read)(&text);
                if let Some(kept) = read.lenient.get(TEXT) {
                    assert!(read.strict.is_err(), "{}: {text}", property.name);
                    assert_eq!(*kept, text, "{}", property.name);
                    assert_eq!(read.written, text, "{}", property.name);
                }
            }
        });
    }
}

#[test]
fn text_for_a_task_id() {
    check(4_000, &".{0,120}", |text| {
        let _ = text.parse::<Upid>();
    });
    let field = "[0-9A-Fa-f]{0,18}|[a-z!@.:-]{0,8}|.{0,4}";
    check(4_000, &prop::collection::vec(field, 0..12), |fields| {
        let text = format!("UPID:{}", fields.join(":"));
        if let Ok(upid) = text.parse::<Upid>() {
            assert_eq!(upid.to_string(), text);
        }
    });
}
