//! The committed text form of the facts: it is complete, its layout is canonical, and reading is
//! strict.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proxmox_codegen::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, Parameters, Permissions, ProxyTo, Release,
    Schema, Schemas, Type,
};
use proxmox_codegen::facts_json::{read, write};
use proxmox_codegen::product;
use serde_json::{Number, Value};

fn committed() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/pve");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn committed_files_are_canonical() {
    let files = committed();
    assert!(files.len() >= 9, "found {} schema files", files.len());
    for (path, text) in files {
        let facts = read(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        assert!(
            write(&facts) == text,
            "{} is not as it would be written",
            path.display()
        );
        assert_eq!(
            path.file_stem().and_then(|stem| stem.to_str()),
            Some(facts.release.to_string().as_str())
        );
    }
}

/// Prose would be AGPL text. No fact needs two words in a row outside of patterns.
#[test]
fn committed_files_hold_no_prose() {
    fn walk(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            Value::String(text)
                if key != "pattern" && text.trim().contains(char::is_whitespace) =>
            {
                found.push(format!("{key}: {text}"));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, key, found)),
            Value::Object(members) => members
                .iter()
                .for_each(|(key, value)| walk(value, key, found)),
            _ => {}
        }
    }
    for (path, text) in committed() {
        let mut found = Vec::new();
        walk(&serde_json::from_str(&text).unwrap(), "", &mut found);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

const SMALL: &str = r#"{
 "product": "pve",
 "release": "9.2",
 "package_version": null,
 "source_sha256": "0000000000000000000000000000000000000000000000000000000000000000",
 "formats": {
  "one": {
   "a": {"type": "integer", "optional": true, "default_key": true}
  }
 },
 "endpoints": {
  "/x/{id}": {
   "GET": {
    "name": "read",
    "proxyto": null,
    "permissions": {"check": {"or": [{"perm": "/x", "privileges": ["A.B"]}, {"userid_param": "self"}]}},
    "parameters": {
     "id": {"type": "string"}
    },
    "additional_parameters": null,
    "returns": {
     "type": "array",
     "items": {
      "type": "object",
      "properties": {
       "size": {"type": "integer", "renderer": "bytes"}
      }
     },
     "links": ["{id}"]
    }
   }
  }
 }
}
"#;

#[test]
fn the_layout_is_as_documented() {
    let facts = read(SMALL).unwrap();
    assert_eq!(write(&facts), SMALL);
    let endpoint = &facts.endpoints["/x/{id}"][&Method::Get];
    assert_eq!(endpoint.proxyto, Some(ProxyTo::NoNode));
    assert_eq!(endpoint.parameters.additional, None);
    assert!(endpoint.allowtoken);
}

#[test]
fn long_lists_have_one_value_per_line() {
    let mut facts = read(SMALL).unwrap();
    let values: Vec<String> = (0..40).map(|n| format!("value{n}")).collect();
    let returns = &mut facts
        .endpoints
        .get_mut("/x/{id}")
        .unwrap()
        .get_mut(&Method::Get)
        .unwrap()
        .returns;
    *returns = Schema {
        ty: Some(Type::String),
        values: Some(values),
        ..Schema::default()
    };
    let text = write(&facts);
    assert!(
        text.contains("\n      \"value7\",\n      \"value8\",\n"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() <= 110));
}

#[test]
fn errors_have_a_pointer() {
    let cases = [
        (
            "\"product\": \"pve\"",
            "\"product\": 7",
            "at /product: expected a string, found a number",
        ),
        (
            "\"product\": \"pve\"",
            "\"product\": \"pxe\"",
            "at /product: \"pxe\" is not one of pve, pbs, pmg, pdm",
        ),
        (
            "\"release\": \"9.2\"",
            "\"release\": \"09.2\"",
            "at /release: \"09.2\" is not a release such as 9.2",
        ),
        (
            "0000\"",
            "000x\"",
            "at /source_sha256: expected 64 lower-case hex digits",
        ),
        (
            "\"name\": \"read\"",
            "\"names\": \"read\"",
            "at /endpoints/~1x~1{id}/GET/names: unknown key \"names\"",
        ),
        (
            "\"GET\"",
            "\"HEAD\"",
            "at /endpoints/~1x~1{id}/HEAD: \"HEAD\" is not an HTTP verb the API uses",
        ),
        (
            "\"userid_param\": \"self\"",
            "\"userid_param\": \"self\", \"any\": true",
            "at /endpoints/~1x~1{id}/GET/permissions/check/or/1/any: unknown key \"any\"",
        ),
        (
            "{\"userid_param\": \"self\"}",
            "{}",
            "at /endpoints/~1x~1{id}/GET/permissions/check/or/1: not a permission check",
        ),
        (
            "{\"type\": \"string\"}",
            "{\"type\": \"text\"}",
            "at /endpoints/~1x~1{id}/GET/parameters/id/type: \"text\" is not a type the schema knows",
        ),
        (
            "{\"type\": \"string\"}",
            "{\"type\": \"string\", \"type\": \"string\"}",
            "at /endpoints/~1x~1{id}/GET/parameters/id/type: the key appears twice",
        ),
        (
            "{\"type\": \"string\"}",
            "{\"type\": \"string\", \"max_length\": -1}",
            "at /endpoints/~1x~1{id}/GET/parameters/id/max_length: expected an integer that is not negative",
        ),
        (
            "\"links\"",
            "\"link\"",
            "at /endpoints/~1x~1{id}/GET/returns/link: unknown key \"link\"",
        ),
        (
            "\"formats\"",
            "\"format\"",
            "the key \"formats\" is missing",
        ),
    ];
    for (good, bad, expected) in cases {
        assert!(SMALL.contains(good), "{good}");
        let message = read(&SMALL.replacen(good, bad, 1)).unwrap_err().to_string();
        assert_eq!(message, expected);
    }
    let message = read(&SMALL[..200]).unwrap_err().to_string();
    assert!(message.starts_with("not JSON: "), "{message}");
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z][a-z0-9-]{0,8}(\\[n\\])?", 1 => any::<String>()]
}

/// Numbers as the schema has them; halves and quarters are exact in both directions.
fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        3 => any::<i64>().prop_map(Number::from),
        1 => any::<u64>().prop_map(Number::from),
        1 => any::<i32>().prop_map(|n| Number::from_f64(f64::from(n) / 4.0).unwrap()),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        number().prop_map(Value::Number),
        name().prop_map(Value::String),
    ]
}

fn ty() -> impl Strategy<Value = Type> {
    proptest::sample::select(vec![
        Type::Null,
        Type::Boolean,
        Type::Integer,
        Type::Number,
        Type::String,
        Type::Array,
        Type::Object,
        Type::Any,
    ])
}

prop_compose! {
    fn flat()(
        ty in option::of(ty()),
        (optional, default_key) in any::<(bool, bool)>(),
        default in option::of(scalar()),
        values in option::of(vec(name(), 0..20)),
        (minimum, maximum) in (option::of(number()), option::of(number())),
        (min_length, max_length) in any::<(Option<u64>, Option<u64>)>(),
        (pattern, requires, alias, key_alias) in
            (option::of(name()), option::of(name()), option::of(name()), option::of(name())),
        (type_property, renderer, format) in (option::of(name()), option::of(name()), option::of(name())),
        (instance_types, links) in (option::of(vec(name(), 0..3)), option::of(vec(name(), 0..3))),
    ) -> Schema {
        Schema {
            ty, optional, default, values, minimum, maximum, min_length, max_length, pattern,
            format: format.map(Format::Name),
            requires, alias, key_alias, default_key,
            properties: None, additional: None, items: None, one_of: None,
            type_property, instance_types, links, renderer,
        }
    }
}

fn schema() -> impl Strategy<Value = Schema> {
    flat().prop_recursive(3, 12, 4, |inner| {
        let keys = || btree_map(name(), inner.clone(), 0..3);
        let boxed = || inner.clone().prop_map(Box::new);
        (
            flat(),
            option::of(prop_oneof![
                keys().prop_map(Format::Keys),
                boxed().prop_map(Format::List)
            ]),
            option::of(keys()),
            option::of(prop_oneof![
                any::<bool>().prop_map(Additional::Allowed),
                boxed().prop_map(Additional::Schema)
            ]),
            option::of(boxed()),
            option::of(vec(inner.clone(), 0..3)),
        )
            .prop_map(
                |(flat, format, properties, additional, items, one_of)| Schema {
                    format: format.or(flat.format),
                    properties,
                    additional,
                    items,
                    one_of,
                    ..flat
                },
            )
    })
}

fn check() -> impl Strategy<Value = Check> {
    let names = || vec(name(), 0..4);
    let leaf = prop_oneof![
        (name(), names(), any::<bool>(), option::of(name())).prop_map(
            |(path, privileges, any, require_param)| {
                Check::Perm {
                    path,
                    privileges,
                    any,
                    require_param,
                }
            }
        ),
        (names(), option::of(name())).prop_map(|(privileges, groups_param)| Check::UserIdGroup {
            privileges,
            groups_param
        }),
        name().prop_map(Check::UserIdParam),
        name().prop_map(Check::PermModify),
        name().prop_map(Check::UserParam),
        names().prop_map(Check::Roles),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Check::Or),
            vec(inner, 0..3).prop_map(Check::And),
        ]
    })
}

fn schemas() -> impl Strategy<Value = Schemas> {
    btree_map(name(), schema(), 0..4)
}

prop_compose! {
    fn endpoint()(
        name in option::of(name()),
        flags in any::<[bool; 6]>(),
        proxyto in option::of(prop_oneof![Just(ProxyTo::NoNode), name().prop_map(ProxyTo::Parameter)]),
        permissions in option::of((option::of(name()), option::of(check()), any::<bool>())),
        properties in schemas(),
        additional in any::<Option<bool>>(),
        returns in schema(),
    ) -> Endpoint {
        let [protected, allowtoken, download, upload, unstable, expose_credentials] = flags;
        Endpoint {
            name, protected, proxyto, allowtoken, download, upload, unstable, expose_credentials,
            permissions: permissions.map(|(user, check, described)| Permissions { user, check, described }),
            parameters: Parameters { additional, properties },
            returns,
        }
    }
}

prop_compose! {
    fn facts()(
        product in proptest::sample::select(product::ALL.to_vec()),
        (major, minor) in any::<(u8, u8)>(),
        package_version in option::of(name()),
        source_sha256 in "[0-9a-f]{64}",
        formats in btree_map(name(), schemas(), 0..3),
        endpoints in btree_map(
            name(),
            btree_map(
                proptest::sample::select(vec![Method::Get, Method::Post, Method::Put, Method::Delete]),
                endpoint(),
                0..3,
            ),
            0..3,
        ),
    ) -> Facts {
        Facts {
            product, release: Release { major, minor }, package_version, source_sha256, formats, endpoints,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn facts_survive_their_text_form(facts in facts()) {
        let text = write(&facts);
        let again = read(&text).map_err(|err| TestCaseError::fail(format!("{err}\n{text}")))?;
        prop_assert_eq!(&again, &facts);
        prop_assert_eq!(write(&again), text);
    }
}
