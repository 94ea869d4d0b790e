//! The meaning of a property string, independent of its spelling and of the crate.

use std::collections::BTreeMap;

use proxmox_e2e::shape::{Properties, Ty};

/// Keys and normalized values; the text itself if it is not such a property string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Keys(BTreeMap<String, String>),
    Text(String),
}

pub(crate) fn meaning(text: &str, of: &Properties) -> Meaning {
    match keys(text, of) {
        Some(keys) => Meaning::Keys(keys),
        None => Meaning::Text(text.to_owned()),
    }
}

fn keys(text: &str, of: &Properties) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (key, value) = match part.split_once('=') {
            Some(pair) => pair,
            None => (of.default_key.as_deref()?, part),
        };
        if let Some((name, holder, kind)) = of.key_aliases.iter().find(|(name, ..)| name == key) {
            insert(&mut found, kind, name.clone())?;
            insert(&mut found, holder, normal(value, of, holder)?)?;
            continue;
        }
        let alias = of.aliases.iter().find(|(alias, _)| alias == key);
        let key = alias.map_or(key, |(_, key)| key);
        insert(&mut found, key, normal(value, of, key)?)?;
    }
    let needed = of.keys.iter().filter(|member| member.required);
    for member in needed {
        found.get(&member.name)?;
    }
    Some(found)
}

fn insert(found: &mut BTreeMap<String, String>, key: &str, value: String) -> Option<()> {
    found.insert(key.to_owned(), value).is_none().then_some(())
}

/// One spelling for each value; `None` for invalid values.
fn normal(value: &str, of: &Properties, key: &str) -> Option<String> {
    let ty = of.keys.iter().find(|member| member.name == key);
    Some(match ty.map(|member| &member.ty) {
        Some(Ty::Boolean) => match value.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => "1".to_owned(),
            "" | "0" | "off" | "no" | "false" => "0".to_owned(),
            _ => return None,
        },
        Some(Ty::Integer | Ty::Bytes | Ty::Vmid | Ty::Number) => {
            value.trim().parse::<f64>().ok()?.to_string()
        }
        Some(Ty::List(_)) => {
            let items = value.split([';', ' ']).filter(|item| !item.is_empty());
            items.collect::<Vec<_>>().join(";")
        }
        _ => value.to_owned(),
    })
}
