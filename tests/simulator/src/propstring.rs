//! Property strings: `virtio=BC:24:11:00:00:01,bridge=vmbr0`.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Schemas, Type};

/// Splits a property string into its keys, aliases resolved.
///
/// The error is the text after `invalid format - `, without its newline.
pub(crate) fn parse(schemas: &Schemas, text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut default_used = false;
    for part in text.split(',') {
        if part.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = part.split_once('=') else {
            let default = schemas.iter().find(|(_, schema)| schema.default_key);
            let Some((key, _)) = default else {
                return Err("value without key, but schema does not define a default key".into());
            };
            if default_used || found.contains_key(key) {
                return Err(duplicate(key));
            }
            default_used = true;
            found.insert(key.clone(), part.to_owned());
            continue;
        };
        if key.is_empty() || value.is_empty() {
            return Err("missing key in comma-separated list property".into());
        }
        if found.contains_key(key) {
            return Err(duplicate(key));
        }
        let mut name = key;
        let mut schema = schemas.get(key);
        if let Some(alias) = schema.and_then(|s| s.alias.as_deref()) {
            if let Some(key_alias) = schema.and_then(|s| s.key_alias.as_deref())
                && found.insert(key_alias.to_owned(), key.to_owned()).is_some()
            {
                return Err(format!("key alias '{key_alias}' is already defined"));
            }
            name = alias;
            schema = schemas.get(alias);
        }
        let Some(schema) = schema else {
            return Err(format!(
                "invalid key in comma-separated list property: {name}"
            ));
        };
        let value = match (schema.ty, boolean(value)) {
            (Some(Type::Boolean), Some(true)) => "1",
            (Some(Type::Boolean), Some(false)) => "0",
            _ => value,
        };
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(duplicate(name));
        }
    }
    Ok(found)
}

fn duplicate(key: &str) -> String {
    format!("duplicate key in comma-separated list property: {key}")
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Writes keys back: the default key first and bare, a keyed alias in its short form, the rest by name.
pub(crate) fn print(schemas: &Schemas, keys: &BTreeMap<String, String>) -> String {
    let mut parts = Vec::new();
    let mut left = keys.clone();
    let aliased = schemas
        .values()
        .find_map(|s| Some((s.key_alias.as_ref()?, s.alias.as_ref()?)));
    if let Some((key_alias, alias)) = aliased
        && let (Some(key), Some(value)) = (left.get(key_alias), left.get(alias))
    {
        parts.push(format!("{key}={value}"));
        left.remove(key_alias);
        left.remove(alias);
    }
    if let Some((key, _)) = schemas.iter().find(|(_, s)| s.default_key)
        && let Some(value) = left.remove(key)
    {
        parts.push(value);
    }
    parts.extend(left.iter().map(|(key, value)| format!("{key}={value}")));
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxmox_codegen::facts::Schema;

    fn nic() -> Schemas {
        let plain = |ty| Schema {
            ty: Some(ty),
            optional: true,
            ..Schema::default()
        };
        Schemas::from([
            (
                "model".into(),
                Schema {
                    default_key: true,
                    ..plain(Type::String)
                },
            ),
            ("macaddr".into(), plain(Type::String)),
            (
                "virtio".into(),
                Schema {
                    alias: Some("macaddr".into()),
                    key_alias: Some("model".into()),
                    ..Schema::default()
                },
            ),
            ("bridge".into(), plain(Type::String)),
            ("firewall".into(), plain(Type::Boolean)),
        ])
    }

    #[test]
    fn key_alias_reads_and_writes_back() {
        let keys =
            parse(&nic(), "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=yes").expect("fine");
        assert_eq!(keys["model"], "virtio");
        assert_eq!(keys["macaddr"], "BC:24:11:00:00:01");
        assert_eq!(
            print(&nic(), &keys),
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"
        );
        let bare = parse(&nic(), "virtio,bridge=vmbr0").expect("fine");
        assert_eq!(print(&nic(), &bare), "virtio,bridge=vmbr0");
    }

    #[test]
    fn refusals() {
        assert_eq!(
            parse(&nic(), "virtio,bridge").unwrap_err(),
            "duplicate key in comma-separated list property: model"
        );
        assert_eq!(
            parse(&nic(), "virtio,bogus=1").unwrap_err(),
            "invalid key in comma-separated list property: bogus"
        );
        let mut bare = nic();
        bare.remove("model");
        assert!(parse(&bare, "x").unwrap_err().contains("default key"));
    }
}
