//! Pairs of answers and the requests that set the same values.
//!
//! The dumps describe the answer of a GET and the parameters of a PUT separately, the answer less
//! carefully. Both get the more precise type, so that a value that was read can be written.

use std::collections::BTreeMap;

use crate::facts::Method;
use crate::overlay::Overlay;
use crate::union::{Endpoint, Fields, Kind, Node, Presence, SettingsPair, Union};

/// All pairs, in the order of the requests.
fn settings_pairs(union: &Union, overlay: &Overlay) -> Vec<SettingsPair> {
    let mut found = Vec::new();
    let at = |path: &str, method| union.endpoints.get(&(path.to_owned(), method));
    // The paths of single entries by that of their list.
    let mut entries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, method) in union.endpoints.keys() {
        if let (Method::Put, Some((list, last))) = (method, path.rsplit_once('/'))
            && last.starts_with('{')
        {
            entries.entry(list).or_default().push(path);
        }
    }
    for ((path, method), request) in &union.endpoints {
        let key = format!("{method} {path}");
        if !matches!(method, Method::Put | Method::Post) || overlay.is_apart(&key) {
            continue;
        }
        let mut answers: Vec<&str> = vec![path];
        match method {
            Method::Put => answers.extend(path.rsplit_once('/').and_then(|(list, last)| {
                (last.starts_with('{') && is_list(at(list, Method::Get)?)).then_some(list)
            })),
            _ => answers.extend(entries.get(path.as_str()).into_iter().flatten()),
        }
        answers.extend(overlay.settings_of(&key).iter().map(String::as_str));
        for get in answers {
            let Some(answer) = at(get, Method::Get) else {
                continue;
            };
            // The list at the path of a PUT has other elements than the PUT sets. The list at the path
            // of a POST has what the POST creates, but matters only if an entry can be changed.
            let list_of_same_path = get == path && is_list(answer);
            if list_of_same_path && (*method == Method::Put || !entries.contains_key(path.as_str()))
            {
                continue;
            }
            let Some(members) = members(answer) else {
                continue;
            };
            let common = (members.keys())
                .filter(|name| *name != "digest" && request.parameters.contains_key(*name))
                .filter(|name| !path.ends_with(&format!("{{{name}}}")));
            if common.count() > 0 {
                found.push(SettingsPair {
                    path: path.clone(),
                    method: *method,
                    get: get.to_owned(),
                });
            }
        }
    }
    found
}

fn is_list(answer: &Endpoint) -> bool {
    matches!(answer.returns.kind, Kind::Array(_))
}

/// The members of the object, or of the elements of the list.
fn members(answer: &Endpoint) -> Option<&Fields> {
    match &answer.returns.kind {
        Kind::Object(members) => Some(members),
        Kind::Array(of) => match &of.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        },
        _ => None,
    }
}

fn members_mut(answer: &mut Endpoint) -> Option<&mut Fields> {
    match &mut answer.returns.kind {
        Kind::Object(members) => Some(members),
        Kind::Array(of) => match &mut of.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a required value of this kind cannot express "not set".
fn is_always_set(kind: &Kind) -> bool {
    matches!(kind, Kind::Boolean | Kind::Integer | Kind::Number)
}

/// Gives both sides of each pair the same types, as far as the dumps allow it.
pub(crate) fn unify(union: &mut Union, overlay: &Overlay) {
    let pairs = settings_pairs(union, overlay);
    for pair in &pairs {
        let Some(request) = (union.endpoints).get(&(pair.path.clone(), pair.method)) else {
            continue;
        };
        let parameters = request.parameters.clone();
        let Some(answer) = (union.endpoints).get_mut(&(pair.get.clone(), Method::Get)) else {
            continue;
        };
        let Some(members) = members_mut(answer) else {
            continue;
        };
        let mut changed: Vec<(String, Node)> = Vec::new();
        for (name, member) in members {
            // A configuration that a program builds has no digest, and must distinguish a value that is
            // not set from 0 and false.
            let settable = parameters.get(name).is_some_and(|parameter| {
                parameter.node.optional && is_always_set(&member.node.kind)
            });
            if name == "digest" || settable {
                member.node.optional = true;
            }
            if let Some(parameter) = parameters.get(name)
                && !overlay.is_apart(&format!("{} {}?{name}", pair.method, pair.path))
                && !overlay.is_apart(&format!("GET {}#{name}", pair.get))
            {
                refine_answer(&mut member.node, &parameter.node);
                changed.push((name.clone(), member.node.clone()));
            }
        }
        if let Some(request) = (union.endpoints).get_mut(&(pair.path.clone(), pair.method)) {
            for (name, member) in changed {
                if let Some(parameter) = request.parameters.get_mut(&name) {
                    refine_parameter(&mut parameter.node, &member);
                }
            }
        }
    }
    union.settings_pairs = pairs;
}

/// Gives an answer's value the type of the parameter, if that is more precise.
fn refine_answer(value: &mut Node, parameter: &Node) {
    let more_precise = match (&mut value.kind, &parameter.kind) {
        (Kind::Array(items), Kind::Array(parameters)) => return refine_answer(items, parameters),
        // The format, or the overlay, marks a list in one text.
        (Kind::Array(items), Kind::String) => {
            if let (Kind::String, None) = (&items.kind, &items.format) {
                let format = parameter.format.as_ref();
                items.format =
                    format.and_then(|format| Some(format.strip_suffix("-list")?.to_owned()));
            }
            false
        }
        (Kind::Enum(values), Kind::Enum(accepted)) => {
            add_missing(values, accepted);
            false
        }
        (Kind::String, Kind::String) => value.format.is_none() && parameter.format.is_some(),
        (Kind::String, Kind::Enum(_)) => true,
        (Kind::Integer, Kind::Integer) => parameter.format.is_some(),
        (Kind::Integer, Kind::Boolean) => true,
        // Answers have property strings in their parsed form, too.
        (Kind::String | Kind::Enum(_) | Kind::Object(_), Kind::Properties(_)) => true,
        _ => false,
    };
    if more_precise {
        value.kind = parameter.kind.clone();
        value.format.clone_from(&parameter.format);
    }
}

/// Gives a parameter the type of an answer's value, if the dump describes it less precisely.
fn refine_parameter(parameter: &mut Node, value: &Node) {
    match (&mut parameter.kind, &value.kind) {
        (Kind::Array(parameters), Kind::Array(items)) => refine_parameter(parameters, items),
        (Kind::Enum(accepted), Kind::Enum(values)) => add_missing(accepted, values),
        (Kind::String, Kind::String) if parameter.format.is_none() => {
            parameter.format.clone_from(&value.format);
        }
        _ => {}
    }
}

/// Adds the values that an enum lacks.
fn add_missing(values: &mut Vec<(String, Presence)>, more: &[(String, Presence)]) {
    for (text, presence) in more {
        if !values.iter().any(|(value, _)| value == text) {
            values.push((text.clone(), *presence));
        }
    }
}
