//! Property strings: `virtio=BC:24:11:00:00:01,bridge=vmbr0`.

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Schema, Schemas, Type};

/// The value of a key, as written. Neither aliases nor the default key are known here.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut parts = text.split(',').filter_map(|part| part.split_once('='));
    parts.find_map(|(name, value)| (name == key).then_some(value))
}

/// Splits a property string into its keys, aliases resolved.
///
/// The error is the text after `invalid format - `, without its newline.
pub(crate) fn parse(schemas: &Schemas, text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut bare: Option<&str> = None;
    for part in text.split(',') {
        if part.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = part.split_once('=') else {
            if let Some(key) = bare {
                return Err(duplicate(key));
            }
            let default = schemas.iter().find(|(_, schema)| schema.default_key);
            let Some((key, schema)) = default else {
                return Err("value without key, but schema does not define a default key".into());
            };
            bare = Some(key);
            // A value that is false in Perl is overwritten.
            if found
                .get(key)
                .is_some_and(|old| !old.is_empty() && old != "0")
            {
                return Err(duplicate(key));
            }
            found.insert(key.clone(), plain(schema, part));
            continue;
        };
        // A line feed at the end is ignored, one within ends the match.
        let value = value.strip_suffix('\n').unwrap_or(value);
        if key.is_empty() || value.is_empty() || value.contains('\n') {
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
            if found.contains_key(alias) {
                return Err(format!("key '{alias}' is already defined (via alias)"));
            }
            name = alias;
            schema = schemas.get(alias);
        }
        // The later check of the keys reports unknown keys.
        let value = schema.map_or_else(|| value.to_owned(), |schema| plain(schema, value));
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// A value as it is stored: booleans as digits.
fn plain(schema: &Schema, value: &str) -> String {
    match (schema.ty, boolean(value)) {
        (Some(Type::Boolean), Some(true)) => "1".to_owned(),
        (Some(Type::Boolean), Some(false)) => "0".to_owned(),
        _ => value.to_owned(),
    }
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
    let needed = |key: &str| schemas.get(key).is_some_and(|schema| !schema.optional);
    let (first, last): (Vec<_>, Vec<_>) = left.iter().partition(|(key, _)| needed(key));
    let spelled = first.into_iter().chain(last);
    parts.extend(spelled.map(|(key, value)| format!("{key}={value}")));
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> Schemas {
        let plain = |ty| Schema {
            optional: true,
            ..Schema::of(ty)
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
    fn false_values_are_overwritten_and_booleans_become_digits() {
        let switch = Schemas::from([(
            "enabled".into(),
            Schema {
                default_key: true,
                ..Schema::of(Type::Boolean)
            },
        )]);
        for text in ["Yes", "enabled=0,1", "enabled=on", " ,1,"] {
            assert_eq!(parse(&switch, text).expect(text)["enabled"], "1", "{text}");
        }
        assert_eq!(parse(&switch, "OFF").expect("fine")["enabled"], "0");
        assert!(parse(&switch, "enabled=1,0").is_err());
        assert!(parse(&switch, "0,1").is_err());
    }

    #[test]
    fn refusals() {
        assert_eq!(
            parse(&nic(), "virtio,bridge").unwrap_err(),
            "duplicate key in comma-separated list property: model"
        );
        assert_eq!(
            parse(&nic(), "virtio=BC:24:11:00:00:01,macaddr=BC:24:11:00:00:02").unwrap_err(),
            "duplicate key in comma-separated list property: macaddr"
        );
        assert_eq!(
            parse(&nic(), "macaddr=BC:24:11:00:00:02,virtio=BC:24:11:00:00:01").unwrap_err(),
            "key 'macaddr' is already defined (via alias)"
        );
        for text in ["virtio,=x", "virtio,bridge=", "virtio,bridge=vm\nbr0"] {
            assert_eq!(
                parse(&nic(), text).unwrap_err(),
                "missing key in comma-separated list property"
            );
        }
        let mut bare = nic();
        bare.remove("model");
        assert!(parse(&bare, "x").unwrap_err().contains("default key"));
    }
}
