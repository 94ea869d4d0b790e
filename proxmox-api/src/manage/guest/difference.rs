//! What differs between two configurations.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::request::Call;
use crate::value::api_value::{ApiValue, Object, View, extra_of, text_of};
use crate::value::encode::{ParamValue, Problem};

/// Puts the settings that are another text into the call, and the names of those that are gone into its
/// `delete`; apart from what tells two versions apart.
pub(crate) fn set_differences(call: &mut Call, before: &dyn Object, after: &dyn Object) {
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
fn settings(object: &dyn Object) -> BTreeMap<String, (String, Option<Problem>)> {
    let mut found = BTreeMap::new();
    let of = |value: &dyn ApiValue| {
        let view = value.view();
        Some((view.text()?, view.problem()))
    };
    object.fields(&mut |schema, fields| {
        for (name, field) in schema.names().zip(fields) {
            match field.view() {
                View::Indexed(members) => {
                    for (number, member) in members.entries() {
                        found.extend(of(member).map(|text| (format!("{name}{number}"), text)));
                    }
                }
                _ => found.extend(of(*field).map(|text| (name.to_owned(), text))),
            }
        }
        if let Some(extra) = extra_of(fields) {
            let text =
                |(key, value): (&String, &Value)| Some((key.clone(), (text_of(value)?, None)));
            found.extend(extra.iter().filter_map(text));
        }
    });
    found
}
