//! What differs between two configurations.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::request::Call;
use crate::value::decode::{Inside, Object, Slot, rest, text_of};
use crate::value::encode::{ParamValue, Problem};

/// Puts the settings that are another text into the call, and the names of those that are gone into its
/// `delete`; apart from what tells two versions apart.
pub(super) fn set_differences(call: &mut Call, before: &mut dyn Object, after: &mut dyn Object) {
    let mut before = settings(before);
    before.remove("digest");
    let mut after = settings(after);
    after.remove("digest");
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    for name in gone {
        call.unset(name.clone());
    }
    for (name, (value, problem)) in after {
        if before.get(&name).map(|(old, _)| old) == Some(&value) {
            continue;
        }
        if let Some(problem) = problem {
            call.refuse(&name, problem);
        }
        call.put_value(name.into(), ParamValue::One(value));
    }
}

/// All settings of an object that are one text, by their names, and what is wrong with them.
fn settings(object: &mut dyn Object) -> BTreeMap<String, (String, Option<Problem>)> {
    let mut found = BTreeMap::new();
    let of = |slot: &mut dyn Slot| Some((slot.text()?, slot.problem()));
    object.open(&mut |shape, slots| {
        let scalars = shape.required.len() + shape.optional.len();
        for (position, (name, slot)) in shape.names().zip(slots.iter_mut()).enumerate() {
            if position < scalars {
                found.extend(of(&mut **slot).map(|text| (name.to_owned(), text)));
            } else if let Inside::Family(family) = slot.inside() {
                family.each(&mut |number, slot| {
                    found.extend(of(slot).map(|text| (format!("{name}{number}"), text)));
                });
            }
        }
        if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
            let text =
                |(key, value): (&String, &Value)| Some((key.clone(), (text_of(value)?, None)));
            found.extend(rest.iter().filter_map(text));
        }
    });
    found
}
