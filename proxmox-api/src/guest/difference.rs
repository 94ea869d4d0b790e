//! What differs between two configurations.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decode::{Inside, Object, rest, text_of};

/// The settings that are another text or gone, apart from what tells two versions apart.
pub(super) fn differences(
    before: &mut dyn Object,
    after: &mut dyn Object,
) -> Vec<(String, Option<String>)> {
    let mut before = settings(before);
    before.remove("digest");
    let mut after = settings(after);
    after.remove("digest");
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let gone: Vec<_> = gone.map(|name| (name.clone(), None)).collect();
    let set = after.into_iter();
    let set = set.filter(|(name, value)| before.get(name) != Some(value));
    set.map(|(name, value)| (name, Some(value)))
        .chain(gone)
        .collect()
}

/// All settings of an object that are one text, by their names.
fn settings(object: &mut dyn Object) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    object.open(&mut |shape, slots| {
        let scalars = shape.required.len() + shape.optional.len();
        for (position, (name, slot)) in shape.names().zip(slots.iter_mut()).enumerate() {
            if position < scalars {
                found.extend(slot.text().map(|text| (name.to_owned(), text)));
            } else if let Inside::Family(family) = slot.inside() {
                family.each(&mut |number, slot| {
                    found.extend(slot.text().map(|text| (format!("{name}{number}"), text)));
                });
            }
        }
        if let Some(rest) = slots.last_mut().and_then(|slot| rest(&mut **slot)) {
            let text = |(key, value): (&String, &Value)| Some((key.clone(), text_of(value)?));
            found.extend(rest.iter().filter_map(text));
        }
    });
    found
}
