//! Property strings: read, written and read again.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use proxmox_e2e::PROPERTY_STRINGS;
use proxmox_e2e::shape::{Item, Member, Properties, Shapes, Ty};

use crate::meaning::meaning;

/// The random choices for a key.
#[derive(Clone, Debug)]
struct Choice {
    present: bool,
    pick: usize,
    number: i32,
    text: String,
    place: u8,
}

fn choice() -> impl Strategy<Value = Choice> {
    (
        any::<bool>(),
        any::<usize>(),
        -5_000..5_000,
        // All characters except comma and blanks.
        "[!-+\\--~äß€]{0,12}",
        any::<u8>(),
    )
        .prop_map(|(present, pick, number, text, place)| Choice {
            present,
            pick,
            number,
            text,
            place,
        })
}

fn value(member: &Member, choice: &Choice, shapes: &Shapes) -> String {
    let among = |values: &[&str]| values[choice.pick % values.len()].to_owned();
    match &member.ty {
        Ty::Boolean => among(&["0", "1", "on", "off", "yes", "No", "true", "FALSE", ""]),
        Ty::Integer | Ty::Bytes => choice.number.to_string(),
        Ty::Vmid => (i64::from(choice.number) + 5_100).to_string(),
        Ty::Number => (f64::from(choice.number) / 8.0).to_string(),
        Ty::List(_) => among(&["a", "a;b", "a;b;c", "", "a;;b"]),
        Ty::Item(name) => match &shapes.items[name] {
            Item::Enum(values) if choice.pick % (values.len() + 1) < values.len() => {
                values[choice.pick % (values.len() + 1)].clone()
            }
            _ => choice.text.clone(),
        },
        _ => choice.text.clone(),
    }
}

fn write_properties(of: &Properties, choices: &[Choice], shapes: &Shapes) -> String {
    let mut parts: Vec<(u8, String)> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    let find = |name: &str| of.keys.iter().position(|member| member.name == name);
    // A short form sets two keys at once.
    if let Some((name, holder, kind)) = of.key_aliases.get(choices[0].pick % 23)
        && let Some(at) = find(holder)
    {
        let value = value(&of.keys[at], &choices[at], shapes);
        parts.push((choices[at].place, format!("{name}={value}")));
        done.extend([holder.as_str(), kind.as_str()]);
    }
    for (member, choice) in of.keys.iter().zip(choices) {
        if done.contains(&member.name.as_str()) || !(choice.present || member.required) {
            continue;
        }
        let value = value(member, choice, shapes);
        let bare = of.default_key.as_ref() == Some(&member.name)
            && choice.pick % 2 == 0
            && !value.is_empty()
            && !value.contains('=');
        let alias = of.aliases.iter().find(|(_, key)| *key == member.name);
        parts.push((
            choice.place,
            match alias {
                _ if bare => value,
                Some((alias, _)) if choice.pick % 3 == 0 => format!("{alias}={value}"),
                _ => format!("{}={value}", member.name),
            },
        ));
    }
    if let Some(last) = choices.last().filter(|choice| choice.present) {
        parts.push((last.place, format!("zz-later={}", last.text)));
    }
    parts.sort();
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    parts.join(",")
}

#[test]
fn property_strings_keep_their_meaning() {
    let shapes = Shapes::get();
    let texts = Cell::new(0);
    for property in PROPERTY_STRINGS {
        let Item::Properties(of) = &shapes.items[property.name] else {
            panic!("{} is no property string", property.name);
        };
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let choices = prop::collection::vec(choice(), of.keys.len() + 1);
        let outcome = runner.run(&choices, |choices| {
            texts.set(texts.get() + 1);
            let text = write_properties(of, &choices, shapes);
            let read = (property.read)(&text);
            // Random values ignore bounds and formats; those that pass are parsed alike.
            if let Ok(strict) = &read.strict {
                prop_assert_eq!(strict, &read.lenient, "reading {:?}", text);
            }
            prop_assert_eq!(
                meaning(&read.written, of),
                meaning(&text, of),
                "{:?} became {:?}",
                text,
                read.written
            );
            let again = (property.read)(&read.written);
            prop_assert_eq!(&again.lenient, &read.lenient, "{:?}", read.written);
            prop_assert_eq!(&again.written, &read.written);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{}: {error}", property.name);
        }
    }
    println!(
        "{} texts of {} types of property strings keep their meaning",
        texts.get(),
        PROPERTY_STRINGS.len()
    );
    assert!(PROPERTY_STRINGS.len() > 60);
}
