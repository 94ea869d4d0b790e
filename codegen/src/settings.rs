//! Pairs of answers and the requests that set the same values.
//!
//! The dumps describe the answer of a GET and the parameters of a PUT separately, the answer less
//! carefully. Both get the more precise type, so that a value that was read can be written.

use std::collections::BTreeMap;

use crate::facts::Method;
use crate::overlay::Overlay;
use crate::union::{Endpoint, Fields, Kind, Node, Pair, Union};

/// All pairs, in the order of the requests.
fn pairs(union: &Union, overlay: &Overlay) -> Vec<Pair> {
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
                (last.starts_with('{') && lists(at(list, Method::Get)?)).then_some(list)
            })),
            _ => answers.extend(entries.get(path.as_str()).into_iter().flatten()),
        }
        answers.extend(overlay.settings_of(&key).iter().map(String::as_str));
        for get in answers {
            let Some(answer) = at(get, Method::Get) else {
                continue;
            };
            // A list beside a PUT has other elements; beside a POST it has what the POST creates,
            // if that can be changed.
            let beside = get == path && lists(answer);
            if beside && (*method == Method::Put || !entries.contains_key(path.as_str())) {
                continue;
            }
            let Some(members) = members(answer) else {
                continue;
            };
            let common = (members.keys())
                .filter(|name| *name != "digest" && request.parameters.contains_key(*name))
                .filter(|name| !path.ends_with(&format!("{{{name}}}")));
            if common.count() > 0 {
                found.push(Pair {
                    path: path.clone(),
                    method: *method,
                    get: get.to_owned(),
                });
            }
        }
    }
    found
}

fn lists(answer: &Endpoint) -> bool {
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

/// Whether a required value of this kind cannot express "not set".
fn is_always_set(kind: &Kind) -> bool {
    matches!(kind, Kind::Boolean | Kind::Integer | Kind::Number)
}

/// Gives both sides of each pair the same types, as far as the dumps allow it.
pub(crate) fn settle(union: &mut Union, overlay: &Overlay) {
    let pairs = pairs(union, overlay);
    for pair in &pairs {
        let Some(request) = (union.endpoints).get(&(pair.path.clone(), pair.method)) else {
            continue;
        };
        let parameters = request.parameters.clone();
        let Some(answer) = (union.endpoints).get_mut(&(pair.get.clone(), Method::Get)) else {
            continue;
        };
        let members = match &mut answer.returns.kind {
            Kind::Object(members) => members,
            Kind::Array(of) => match &mut of.kind {
                Kind::Object(members) => members,
                _ => continue,
            },
            _ => continue,
        };
        let mut changed: Vec<(String, Node)> = Vec::new();
        for (name, member) in members {
            // A configuration made by a program has no digest. What it does not set has to be told from
            // what it sets to 0 or false.
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
                agree(&mut member.node, &parameter.node);
                changed.push((name.clone(), member.node.clone()));
            }
        }
        if let Some(request) = (union.endpoints).get_mut(&(pair.path.clone(), pair.method)) {
            for (name, member) in changed {
                if let Some(parameter) = request.parameters.get_mut(&name) {
                    widen(&mut parameter.node, &member);
                }
            }
        }
    }
    union.pairs = pairs;
}

/// Gives an answer's value the type of the parameter.
fn agree(value: &mut Node, parameter: &Node) {
    let more_telling = match (&mut value.kind, &parameter.kind) {
        (Kind::Array(items), Kind::Array(parameters)) => return agree(items, parameters),
        // The format, or the overlay, marks a list in one text.
        (Kind::Array(items), Kind::String) => {
            if let (Kind::String, None) = (&items.kind, &items.format) {
                let format = parameter.format.as_ref();
                items.format =
                    format.and_then(|format| Some(format.strip_suffix("-list")?.to_owned()));
            }
            false
        }
        (Kind::Enum(known), Kind::Enum(taken)) => {
            for (text, presence) in taken {
                if !known.iter().any(|(other, _)| other == text) {
                    known.push((text.clone(), *presence));
                }
            }
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
    if more_telling {
        value.kind = parameter.kind.clone();
        value.format.clone_from(&parameter.format);
    }
}

/// Gives a parameter the type of an answer's value, if the dump describes it less precisely.
fn widen(parameter: &mut Node, value: &Node) {
    match (&mut parameter.kind, &value.kind) {
        (Kind::Array(parameters), Kind::Array(items)) => widen(parameters, items),
        (Kind::Enum(taken), Kind::Enum(known)) => {
            for (text, presence) in known {
                if !taken.iter().any(|(other, _)| other == text) {
                    taken.push((text.clone(), *presence));
                }
            }
        }
        (Kind::String, Kind::String) if parameter.format.is_none() => {
            parameter.format.clone_from(&value.format);
        }
        _ => {}
    }
}
