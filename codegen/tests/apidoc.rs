//! The importer with small dumps of both dialects: normalisation, refusals, and messages.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proxmox_codegen::apidoc::{self, Origin};
use proxmox_codegen::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, ProxyTo, Release, Schema, Type,
};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::{PBS, PDM, PMG, PVE, Product};
use serde_json::{Value, json};

fn parse(source: &str, product: &'static Product) -> Result<Facts, Vec<String>> {
    let origin = Origin {
        product,
        release: Release { major: 9, minor: 2 },
        package_version: None,
    };
    apidoc::parse(source.as_bytes(), &origin)
        .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn pve(source: &str) -> Result<Facts, Vec<String>> {
    parse(source, &PVE)
}

/// A dump with one method, `POST /a/{id}`.
fn perl(method: &Value) -> String {
    let mut whole = json!({
        "method": "POST", "name": "create", "allowtoken": 1, "description": "d",
        "parameters": {"additionalProperties": 0}, "returns": {"type": "null"},
    });
    merge(&mut whole, method);
    json!([{
        "path": "/a", "text": "a", "leaf": 0,
        "children": [{"path": "/a/{id}", "text": "{id}", "leaf": 1, "info": {"POST": whole}}],
    }])
    .to_string()
}

fn rust(method: &Value) -> String {
    let mut whole = json!({
        "method": "POST", "description": "d", "unstable": false,
        "parameters": {"additionalProperties": false, "description": "p", "properties": {}},
        "returns": {"type": "null"},
    });
    merge(&mut whole, method);
    json!([{"path": "/", "text": "r", "leaf": 1, "expanded": true, "info": {"POST": whole}}])
        .to_string()
}

/// `null` removes a member.
fn merge(whole: &mut Value, part: &Value) {
    for (key, value) in part.as_object().unwrap() {
        match value {
            Value::Null => {
                whole.as_object_mut().unwrap().remove(key);
            }
            value => whole[key] = value.clone(),
        }
    }
}

fn endpoint(method: &Value) -> Endpoint {
    pve(&perl(method)).unwrap().endpoints["/a/{id}"][&Method::Post].clone()
}

fn parameter(schema: &Value) -> Schema {
    endpoint(&json!({"parameters": {"properties": {"p": schema}}}))
        .parameters
        .properties["p"]
        .clone()
}

fn problems(method: &Value) -> Vec<String> {
    pve(&perl(method)).unwrap_err()
}

fn parameter_problems(schema: &Value) -> Vec<String> {
    problems(&json!({"parameters": {"properties": {"p": schema}}}))
}

#[test]
fn a_method() {
    let endpoint = endpoint(&json!({
        "protected": 1, "proxyto": "node", "allowtoken": 0, "download_allowed": 1, "expose_credentials": "1",
        "permissions": {"description": "more", "check": ["and",
            ["perm", "/a", ["A.B", "C.D"], "any", 1, "require_param", "pool"],
            ["or", ["userid-param", "self"], ["userid-group", ["U.M"], "groups_param", "create"]],
            ["perm-modify", "{path}"], [["perm", "/b", "E.F"]]]},
    }));
    assert_eq!(endpoint.name.as_deref(), Some("create"));
    assert_eq!(endpoint.proxyto, Some(ProxyTo::Parameter("node".into())));
    assert!(
        endpoint.protected
            && endpoint.download
            && endpoint.expose_credentials
            && !endpoint.allowtoken
    );
    assert_eq!(endpoint.parameters.additional, Some(false));
    let permissions = endpoint.permissions.unwrap();
    assert!(permissions.described);
    let perm = |path: &str, privileges: &[&str], any, require_param: Option<&str>| Check::Perm {
        path: path.into(),
        privileges: privileges.iter().map(ToString::to_string).collect(),
        any,
        require_param: require_param.map(Into::into),
    };
    assert_eq!(
        permissions.check,
        Some(Check::And(vec![
            perm("/a", &["A.B", "C.D"], true, Some("pool")),
            Check::Or(vec![
                Check::UserIdParam("self".into()),
                Check::UserIdGroup {
                    privileges: vec!["U.M".into()],
                    groups_param: Some("create".into()),
                },
            ]),
            Check::PermModify("{path}".into()),
            perm("/b", &["E.F"], false, None),
        ]))
    );
}

#[test]
fn defaults_of_a_method() {
    let plain = endpoint(&json!({"proxyto": "node"}));
    assert_eq!((plain.permissions, plain.protected), (None, false));
    let source = perl(&json!({"proxyto": "node", "parameters": {}})).replace("\"node\"", "null");
    let facts = pve(&source).unwrap();
    let endpoint = &facts.endpoints["/a/{id}"][&Method::Post];
    assert_eq!(endpoint.proxyto, Some(ProxyTo::NoNode));
    assert_eq!(endpoint.parameters.additional, None);
}

#[test]
fn flags_and_bounds_are_normalised() {
    let p = parameter(
        &json!({"type": "integer", "optional": "1", "minimum": "0", "maximum": "16777216"}),
    );
    assert!(p.optional);
    assert_eq!(p.minimum, Some(0.into()));
    assert_eq!(p.maximum, Some(16_777_216.into()));
    assert!(!parameter(&json!({"type": "integer", "optional": 0})).optional);
    let p = parameter(&json!({"type": "number", "minimum": 0.5, "maximum": "1.5"}));
    assert_eq!(p.minimum.unwrap().as_f64(), Some(0.5));
    assert_eq!(p.maximum.unwrap().as_f64(), Some(1.5));
    let source =
        perl(&json!({"parameters": {"properties": {"p": {"type": "string", "enum": ["x"]}}}}));
    let facts = pve(&source.replace("[\"x\"]", "null")).unwrap();
    let p = &facts.endpoints["/a/{id}"][&Method::Post]
        .parameters
        .properties["p"];
    assert_eq!(p.values, None);
}

#[test]
fn defaults_are_values_of_the_type() {
    let cases = [
        (
            json!({"type": "boolean", "default": "1"}),
            Some(json!(true)),
        ),
        (json!({"type": "boolean", "default": 0}), Some(json!(false))),
        (
            json!({"type": "boolean", "default": "Yes"}),
            Some(json!(true)),
        ),
        (
            json!({"type": "boolean", "default": "off"}),
            Some(json!(false)),
        ),
        (
            json!({"type": "boolean", "default": "0; in one case: 1"}),
            None,
        ),
        (json!({"type": "integer", "default": "42"}), Some(json!(42))),
        (json!({"type": "integer", "default": "as above"}), None),
        (json!({"type": "integer", "default": "5 or 6"}), None),
        (
            json!({"type": "number", "default": "0.5"}),
            Some(json!(0.5)),
        ),
        (json!({"type": "number", "default": "inf"}), None),
        (
            json!({"type": "string", "default": "now"}),
            Some(json!("now")),
        ),
        (json!({"type": "string", "default": ""}), Some(json!(""))),
        (json!({"type": "string", "default": 7}), Some(json!("7"))),
        (
            json!({"type": "string", "default": "what the node says"}),
            None,
        ),
        (
            json!({"type": "string", "default": "a b", "enum": ["a b"]}),
            Some(json!("a b")),
        ),
        (
            json!({"type": "string", "default": "all", "enum": ["x"]}),
            Some(json!("all")),
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(parameter(&schema).default, expected, "{schema}");
    }
    let source =
        perl(&json!({"parameters": {"properties": {"p": {"type": "string", "default": 77}}}}));
    let facts = pve(&source.replace("77", "null")).unwrap();
    let p = &facts.endpoints["/a/{id}"][&Method::Post]
        .parameters
        .properties["p"];
    assert_eq!(p.default, None);
}

#[test]
fn no_prose_stays() {
    let words = "Some Telling Words";
    let facts = pve(&perl(&json!({
        "description": words,
        "permissions": {"user": "all", "description": words},
        "parameters": {"properties": {"p": {
            "type": "string", "description": words, "verbose_description": words, "format_description": words,
            "title": words, "typetext": words, "default": words, "format": {"k": {
                "type": "string", "description": words, "typetext": words}}}}},
        "returns": {"type": "object", "description": words, "properties": {
            "f": {"type": "string", "description": words}}},
    })))
    .unwrap();
    let text = facts_json::write(&facts);
    assert!(!text.contains("Telling"), "{text}");
}

#[test]
fn schemas_of_all_kinds() {
    let p = parameter(
        &json!({"type": "string", "optional": 1, "requires": "q", "pattern": "[a-z]+",
            "minLength": 1, "maxLength": 9, "format": {
                "file": {"type": "string", "default_key": 1},
                "volume": {"alias": "file"},
                "virtio": {"alias": "macaddr", "keyAlias": "model"},
                "upper": {"type": "integer", "optional": 1, "min": 100, "max": 1000},
        }}),
    );
    assert_eq!((p.min_length, p.max_length), (Some(1), Some(9)));
    assert_eq!(
        (p.requires.as_deref(), p.pattern.as_deref()),
        (Some("q"), Some("[a-z]+"))
    );
    let Some(Format::Keys(keys)) = p.format else {
        panic!("no property string")
    };
    assert!(keys["file"].default_key);
    assert_eq!(keys["volume"].alias.as_deref(), Some("file"));
    assert_eq!(keys["virtio"].key_alias.as_deref(), Some("model"));
    assert_eq!(keys["upper"].maximum, None);

    let p = parameter(&json!({"type": "array", "type-property": "kind", "oneOf": [
        {"type": "array", "instance-types": ["x"], "optional": 1, "items": {"type": "string"}},
        {"instance-types": ["y", "z"], "items": {"type": "integer"}},
    ]}));
    let alternatives = p.one_of.unwrap();
    assert_eq!(p.type_property.as_deref(), Some("kind"));
    assert_eq!(
        alternatives[1].instance_types,
        Some(vec!["y".into(), "z".into()])
    );

    let returns = endpoint(&json!({"returns": {
        "type": "array", "links": [{"rel": "child", "href": "{id}"}],
        "items": {"type": "object", "additionalProperties": {"type": "integer", "renderer": "bytes"},
            "properties": {"f": {"default_key": 1, "type": "boolean"}}},
    }}))
    .returns;
    assert_eq!(returns.links, Some(vec!["{id}".into()]));
    let items = returns.items.unwrap();
    let Some(Additional::Schema(additional)) = items.additional else {
        panic!("no schema for further fields")
    };
    assert_eq!(additional.renderer.as_deref(), Some("bytes"));
    assert!(items.properties.unwrap()["f"].default_key);
}

#[test]
fn usage_lines_become_keys() {
    let format = |text: &str| json!({"type": "string", "format": "some-fmt", "typetext": text});
    let method = json!({"parameters": {"properties": {
        "a": format("[[on=]<1|0>] [,size=<integer>]"), "b": format("[[on=]<1|0>] [,size=<integer>]"),
        "c": {"type": "string", "format": "other-fmt", "typetext": "<just a hint>"},
    }}});
    let facts = pve(&perl(&method)).unwrap();
    assert_eq!(facts.formats.keys().collect::<Vec<_>>(), ["some-fmt"]);
    let keys = &facts.formats["some-fmt"];
    assert_eq!(keys["on"].ty, Some(Type::Boolean));
    assert!(keys["on"].default_key);

    let method =
        json!({"parameters": {"properties": {"a": format("[x=<y>]"), "b": format("[x=<z>]")}}});
    assert_eq!(
        problems(&method),
        ["POST /a/{id}: at /parameters/properties/b/typetext: \
          the usage of \"some-fmt\" differs from the one at POST /a/{id}"]
    );
    assert_eq!(
        parameter_problems(&format("x=<y")),
        ["POST /a/{id}: at /parameters/properties/p/typetext: \
          the usage of \"some-fmt\" cannot be read: no `>` in \"<y\""]
    );
}

/// The first two are the published forms of a file, the others are extracts.
#[test]
fn the_array_is_found() {
    let array = perl(&json!({}));
    let expected = pve(&array).unwrap().endpoints;
    for source in [
        format!("const apiSchema = {array}\n;\n\n"),
        format!(
            "const apiSchema = {array}\n;\n\nlet method2cmd = {{\n    GET: 'get'\n}};\nlet list = [1];\n"
        ),
        format!("var pmgapi = {array}\n;\n"),
        format!("// made by hand\nlet x=7;\nlet $api_2={array}"),
        format!("\u{feff}  {array}\n"),
    ] {
        assert_eq!(pve(&source).unwrap().endpoints, expected, "{source}");
    }
}

#[test]
fn files_without_a_dump_are_refused() {
    let array = perl(&json!({}));
    let js = format!("const apiSchema =\n{array}");
    let cut = &js[..js.len() - 5];
    let cases = [
        (
            String::new(),
            "no API dump: found neither a JSON array nor `const … = [`",
        ),
        (
            "{\"data\":null}".into(),
            "no API dump: found neither a JSON array nor `const … = [`",
        ),
        (
            "const apiSchema = 7;".into(),
            "no API dump: found neither a JSON array nor `const … = [`",
        ),
        (
            "constant = [1]".into(),
            "no API dump: found neither a JSON array nor `const … = [`",
        ),
        (
            "\n<!DOCTYPE html>\n<html><title>Login</title></html>".into(),
            "this is an HTML page, not an API dump (a login or error page?)",
        ),
        ("[]".into(), "the array holds no method"),
        ("const a = [7]".into(), "at /0: expected an object, found 7"),
        (
            "[{\"text\": \"a\"}]".into(),
            "at /0: the key \"path\" is missing",
        ),
        (
            "[{\"path\": \"a\", \"leaf\": 2}]".into(),
            "at /0/leaf: expected a flag (0 or 1), found 2\nat /0/path: the path \"a\" does not begin with a slash",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(pve(&source).unwrap_err().join("\n"), expected, "{source}");
    }
    let message = pve(cut).unwrap_err().join("\n");
    let end = cut.lines().nth(1).unwrap().len();
    assert!(
        message.starts_with(&format!("line 2, column {end}: EOF while parsing")),
        "{message}"
    );
    assert!(message.ends_with("; the file is cut off"), "{message}");
    let message = pve("const a = [1,\n  oops]").unwrap_err().join("\n");
    assert_eq!(message, "line 2, column 3: expected value");
    let message = pve("const a = [1 2]").unwrap_err().join("\n");
    assert_eq!(message, "line 1, column 14: expected `,` or `]`");
    let origin = Origin {
        product: &PVE,
        release: Release { major: 9, minor: 2 },
        package_version: None,
    };
    let message = apidoc::parse(b"[\xff]", &origin).unwrap_err().to_string();
    assert!(message.starts_with("not UTF-8 text: "), "{message}");
}

#[test]
fn keys_nobody_knows() {
    let cases = [
        (
            json!({"unheard": 1}),
            "at /unheard: the key \"unheard\" is not known on a method",
        ),
        (
            json!({"parameters": {"properties": {"p/q": {"type": "string", "colour": "x"}}}}),
            "at /parameters/properties/p~1q/colour: the key \"colour\" is not known on a parameter",
        ),
        (
            json!({"parameters": {"properties": {"p": {"type": "string", "format": {"k": {"colour": 1}}}}}}),
            "at /parameters/properties/p/format/k/colour: the key \"colour\" is not known on a key of a property string",
        ),
        (
            json!({"returns": {"items": {"properties": {"f": {"alias": "x"}}}}}),
            "at /returns/items/properties/f/alias: the key \"alias\" is not known on a field of the result",
        ),
        (
            json!({"returns": {"links": [{"rel": "child", "href": "x", "to": 1}]}}),
            "at /returns/links/0/to: the key \"to\" is not known on a link",
        ),
        (
            json!({"permissions": {"group": "x"}}),
            "at /permissions/group: the key \"group\" is not known in permissions",
        ),
        (
            json!({"permissions": {"check": ["perm", "/", ["A"], "all", 1]}}),
            "at /permissions/check/4: the key \"all\" is not known as an option of \"perm\"",
        ),
        // Exists in the server's sources, and in no dump yet.
        (
            json!({"parameters": {"oneOf": []}}),
            "at /parameters/oneOf: the key \"oneOf\" is not known at the root of parameters",
        ),
        (
            json!({"parameters": {"allOf": []}}),
            "at /parameters/allOf: the key \"allOf\" is not known at the root of parameters",
        ),
        (
            json!({"returns": {"oneOf": []}}),
            "at /returns/oneOf: the key \"oneOf\" is not known at the root of returns",
        ),
        (
            json!({"parameters": {"properties": {"p": {"allOf": []}}}}),
            "at /parameters/properties/p/allOf: the key \"allOf\" is not known on a parameter",
        ),
        (
            json!({"parameters": {"type-property-schema": {}}}),
            "at /parameters/type-property-schema: \
             the key \"type-property-schema\" is not known at the root of parameters",
        ),
        (
            json!({"parameters": {"properties": {"p": {"instance-type": "x"}}}}),
            "at /parameters/properties/p/instance-type: the key \"instance-type\" is not known on a parameter",
        ),
        (
            json!({"resolve_type": 1}),
            "at /resolve_type: the key \"resolve_type\" is not known on a method",
        ),
        (
            json!({"parameters": {"properties": {"p": {"type": "string", "alias": "q"}}}}),
            "at /parameters/properties/p/alias: the key \"alias\" is not known on a parameter",
        ),
    ];
    for (method, expected) in cases {
        assert_eq!(problems(&method), [format!("POST /a/{{id}}: {expected}")]);
    }
    let node = "[{\"path\": \"/a\", \"text\": \"a\", \"leaf\": 1, \"expanded\": 1, \"info\": {\"PATCH\": {}}}]";
    assert_eq!(
        pve(node).unwrap_err(),
        [
            "at /0/expanded: the key \"expanded\" is not known on a path node",
            "/a: at /0/info/PATCH: \"PATCH\" is not an HTTP verb the API uses",
        ]
    );
}

#[test]
fn values_of_unknown_types_are_refused() {
    let cases = [
        (
            json!({"type": ["string", "null"]}),
            "type: expected a string, found an array",
        ),
        (
            json!({"type": "text"}),
            "type: \"text\" is not a type the schema knows",
        ),
        (
            json!({"optional": "yes"}),
            "optional: expected a flag (0 or 1), found \"yes\"",
        ),
        (
            json!({"optional": 2}),
            "optional: expected a flag (0 or 1), found 2",
        ),
        (
            json!({"minimum": "few"}),
            "minimum: expected a number, found \"few\"",
        ),
        (
            json!({"minimum": [0]}),
            "minimum: expected a number, found an array",
        ),
        (
            json!({"maxLength": -1}),
            "maxLength: expected an integer that is not negative, found -1",
        ),
        (
            json!({"enum": {"a": 1}}),
            "enum: expected an array, found an object",
        ),
        (
            json!({"enum": ["a", 1]}),
            "enum/1: expected a string, found 1",
        ),
        (
            json!({"format": 7}),
            "format: expected a format name or an object, found 7",
        ),
        (
            json!({"format": ["x"]}),
            "format: expected a format name or an object, found an array",
        ),
        (
            json!({"requires": {"q": 1}}),
            "requires: expected a string, found an object",
        ),
        (json!({"pattern": 7}), "pattern: expected a string, found 7"),
        (
            json!({"items": [{"type": "string"}]}),
            "items: expected an object, found an array",
        ),
        (
            json!({"type": "string", "default": {}}),
            "default: expected a scalar, found an object",
        ),
        (
            json!({"type": "array", "default": 1}),
            "default: expected a default of type array, found 1",
        ),
        (
            json!({"description": 7}),
            "description: expected a string, found 7",
        ),
        (
            json!({"typetext": null}),
            "typetext: expected a string, found null",
        ),
        (
            json!({"oneOf": {}, "type-property": "t"}),
            "oneOf: expected an array, found an object",
        ),
        (
            json!({"oneOf": [{"type": "string"}], "type-property": "t"}),
            "oneOf/0: an alternative of a union that does not say when it applies",
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(
            parameter_problems(&schema),
            [format!(
                "POST /a/{{id}}: at /parameters/properties/p/{expected}"
            )]
        );
    }
    let cases = [
        (
            json!({"method": "GET"}),
            "at /method: expected \"POST\", found \"GET\"",
        ),
        (
            json!({"method": "UPLOAD"}),
            "at /method: expected \"POST\", found \"UPLOAD\"",
        ),
        (json!({"name": 7}), "at /name: expected a string, found 7"),
        (json!({"name": null}), "the key \"name\" is missing"),
        (json!({"returns": null}), "the key \"returns\" is missing"),
        (
            json!({"returns": []}),
            "at /returns: expected an object, found an array",
        ),
        (
            json!({"parameters": {"type": "array"}}),
            "at /parameters/type: parameters have to be an object",
        ),
        (
            json!({"allowtoken": "no"}),
            "at /allowtoken: expected a flag (0 or 1), found \"no\"",
        ),
        (
            json!({"permissions": {"user": "some"}}),
            "at /permissions/user: expected \"all\" or \"world\", found \"some\"",
        ),
        (
            json!({"permissions": {"check": []}}),
            "at /permissions/check: an empty permission check",
        ),
        (
            json!({"permissions": {"check": ["role", "x"]}}),
            "at /permissions/check/0: the permission check \"role\" is not known",
        ),
        (
            json!({"permissions": {"check": ["or", ["perm", "/"]]}}),
            "at /permissions/check/1: element 2 of the permission check is missing",
        ),
        (
            json!({"permissions": {"check": ["perm", "/", ["A"], "any"]}}),
            "at /permissions/check/3: an option without a value",
        ),
        (
            json!({"returns": {"links": [{"rel": "next", "href": "x"}]}}),
            "at /returns/links/0/rel: expected \"child\", found \"next\"",
        ),
    ];
    for (method, expected) in cases {
        assert_eq!(problems(&method), [format!("POST /a/{{id}}: {expected}")]);
    }
}

#[test]
fn a_method_may_not_occur_twice() {
    let source = perl(&json!({}));
    let again = source.replace("\"info\":{", "\"info\":{\"POST\":{},");
    assert_ne!(again, source);
    let problems = pve(&again).unwrap_err();
    assert!(
        problems.contains(
            &"/a/{id}: at /0/children/0/info/POST: the key \"POST\" appears twice".to_owned()
        ),
        "{problems:?}"
    );
    let node = &source[1..source.len() - 1];
    assert_eq!(
        pve(&format!("[{node},{node}]")).unwrap_err(),
        ["POST /a/{id}: the method is defined twice"]
    );
    let twice = source.replace("\"type\":\"null\"", "\"type\":\"null\",\"type\":\"string\"");
    assert_eq!(
        pve(&twice).unwrap_err(),
        ["POST /a/{id}: at /returns/type: the key \"type\" appears twice"]
    );
}

#[test]
fn all_problems_are_reported_in_one_run() {
    let found = problems(&json!({
        "x": 1, "parameters": {"properties": {"p": {"type": "text", "y": 1}, "q": {"optional": 3}}}, "returns": 7,
    }));
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|problem| problem.starts_with("POST /a/{id}: at /")),
        "{found:#?}"
    );
}

#[test]
fn the_rust_dialect() {
    let source = rust(&json!({
        "method": "UPLOAD", "unstable": true,
        "permissions": {"description": "more", "or": [
            {"check": {"path": ["a", "{id}"], "privs": ["A.B"], "partial": true}}, {"userParam": "userid"}]},
        "parameters": {"additionalProperties": true, "description": "p", "properties": {
            "mode": {"type": "string", "description": "d", "pattern": "/^[a-z]+$/", "typetext": "[kind=]<x>",
                "format": {"type": "object", "description": "d", "default_key": "kind", "properties": {
                    "kind": {"type": "string", "description": "d"},
                    "text": {"type": "string", "description": "d", "optional": 1}}}},
            "list": {"type": "string", "description": "d", "default": "a,b",
                "format": {"type": "array", "description": "d", "minLength": 1, "items": {"type": "string"}}},
        }},
        "returns": {"type": "array", "items": {"type": "object", "typeProperty": "kind",
            "typeSchema": {"type": "string", "enum": ["x", "y"]},
            "oneOf": [{"type": "object", "title": "x", "properties": {}}, {"type": "null", "title": "y"}]}},
    }));
    let facts = parse(&source, &PBS).unwrap();
    assert!(facts.formats.is_empty());
    let endpoint = &facts.endpoints["/"][&Method::Post];
    assert!(endpoint.upload && endpoint.unstable && endpoint.allowtoken && !endpoint.download);
    assert_eq!(endpoint.name, None);
    let permissions = endpoint.permissions.as_ref().unwrap();
    assert!(permissions.described);
    assert_eq!(
        permissions.check,
        Some(Check::Or(vec![
            Check::Perm {
                path: "/a/{id}".into(),
                privileges: vec!["A.B".into()],
                any: true,
                require_param: None,
            },
            Check::UserParam("userid".into()),
        ]))
    );
    let mode = &endpoint.parameters.properties["mode"];
    assert_eq!(mode.pattern.as_deref(), Some("^[a-z]+$"));
    let Some(Format::Keys(keys)) = &mode.format else {
        panic!("no property string")
    };
    assert!(keys["kind"].default_key && !keys["text"].default_key && keys["text"].optional);
    let Some(Format::List(list)) = &endpoint.parameters.properties["list"].format else {
        panic!("no list")
    };
    assert_eq!(list.min_length, Some(1));
    let items = endpoint.returns.items.as_ref().unwrap();
    assert_eq!(items.type_property.as_deref(), Some("kind"));
    let tag = &items.properties.as_ref().unwrap()["kind"];
    assert_eq!(tag.values, Some(vec!["x".into(), "y".into()]));
    assert_eq!(
        items.one_of.as_ref().unwrap()[1].instance_types,
        Some(vec!["y".into()])
    );

    // The dialects are not mixed up.
    assert_eq!(
        parse(&rust(&json!({"name": "x"})), &PDM).unwrap_err(),
        ["POST /: at /name: the key \"name\" is not known on a method"]
    );
    assert_eq!(
        problems(&json!({"permissions": {"or": []}})),
        ["POST /a/{id}: at /permissions/or: the key \"or\" is not known in permissions"]
    );
}

#[test]
fn roles_of_the_mail_gateway() {
    let source = perl(&json!({"download": 1, "permissions": {"check": ["admin", "audit"]}}));
    let facts = parse(&source, &PMG).unwrap();
    let endpoint = &facts.endpoints["/a/{id}"][&Method::Post];
    assert!(endpoint.download);
    assert_eq!(
        endpoint.permissions.as_ref().unwrap().check,
        Some(Check::Roles(vec!["admin".into(), "audit".into()]))
    );
    assert_eq!(pve(&source).unwrap_err().len(), 2);
}

/// A dump with nearly all possible keys.
fn rich() -> String {
    let method = json!({
        "protected": 1, "proxyto": "node",
        "permissions": {"user": "all", "check": ["or", ["perm", "/a", ["A.B"], "any", 1], ["userid-param", "self"]]},
        "parameters": {"additionalProperties": 0, "properties": {
            "net[n]": {"type": "string", "optional": 1, "format": {
                "model": {"type": "string", "enum": ["a", "b"], "default_key": 1},
                "a": {"alias": "mac", "keyAlias": "model"}, "mac": {"type": "string", "optional": 1}}},
            "some": {"type": "string", "format": "some-fmt", "typetext": "[[on=]<1|0>] [,x=<a|b>] [,y=([p];[q])|r]"},
            "size": {"type": "integer", "minimum": "0", "maximum": 10, "default": "5"},
            "many": {"type": "array", "type-property": "some", "oneOf": [
                {"instance-types": ["x"], "items": {"type": "string"}}]}}},
        "returns": {"type": "array", "links": [{"rel": "child", "href": "{id}"}], "items": {
            "type": "object", "additionalProperties": {"type": "number"}, "properties": {
                "f": {"type": "boolean", "optional": "1", "renderer": "bytes"}}}},
    });
    format!("const apiSchema = {}\n;\n", perl(&method))
}

/// Applies a mutation to any value of the document, by its position in a walk.
fn mutate(value: &mut Value, countdown: &mut usize, with: &Value) -> bool {
    if *countdown == 0 {
        *value = with.clone();
        return true;
    }
    *countdown -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|value| mutate(value, countdown, with)),
        Value::Object(members) => members
            .iter_mut()
            .any(|(_, value)| mutate(value, countdown, with)),
        _ => false,
    }
}

/// Any input gives facts that survive their text form, or problems with a text.
fn check(source: &[u8], product: &'static Product) -> Result<(), TestCaseError> {
    let origin = Origin {
        product,
        release: Release { major: 1, minor: 0 },
        package_version: None,
    };
    match apidoc::parse(source, &origin) {
        Ok(facts) => {
            let again = facts_json::read(&facts_json::write(&facts));
            prop_assert_eq!(again.as_ref(), Ok(&facts));
        }
        Err(problems) => {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| !problem.message.is_empty()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn truncated(at in any::<prop::sample::Index>()) {
        let source = rich();
        check(&source.as_bytes()[..at.index(source.len())], &PVE)?;
    }

    #[test]
    fn with_other_bytes(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut source = rich().into_bytes();
        for (at, byte) in hits {
            let at = at.index(source.len());
            source[at] = byte;
        }
        check(&source, &PVE)?;
    }

    #[test]
    fn with_other_values(
        hits in prop::collection::vec((0_usize..120, prop::sample::select(vec![
            json!(null), json!(true), json!(-1), json!(1.5), json!(""), json!("[a=<"), json!("perm"), json!([]),
            json!([[]]), json!(["perm"]), json!({}), json!({"type": "string"}), json!({"": {"format": {}}}),
            json!({"check": ["or", ["perm", "/", "x", "any"]]}),
        ])), 1..4),
        product in prop::sample::select(vec![&PVE, &PMG, &PBS, &PDM]),
    ) {
        let text = rich();
        let array = text.trim_start_matches("const apiSchema = ").trim_end_matches("\n;\n");
        let mut value: Value = serde_json::from_str(array).unwrap();
        for (mut countdown, with) in hits {
            mutate(&mut value, &mut countdown, &with);
        }
        check(value.to_string().as_bytes(), product)?;
    }
}

#[test]
fn a_groups_param_that_is_a_flag_means_the_parameter_groups() {
    let facts = pve(&perl(&json!({
        "permissions": {"check": ["userid-group", ["U.M"], "groups_param", 1]},
    })))
    .unwrap();
    let endpoint = &facts.endpoints["/a/{id}"][&Method::Post];
    let check = endpoint.permissions.as_ref().unwrap().check.clone();
    assert_eq!(
        check,
        Some(Check::UserIdGroup {
            privileges: vec!["U.M".to_owned()],
            groups_param: Some("groups".to_owned()),
        })
    );
}

#[test]
fn a_problem_of_many_endpoints_is_reported_once() {
    let children: Vec<Value> = (0..9)
        .map(|n| {
            json!({"path": format!("/a/{n}"), "text": n.to_string(), "leaf": 1, "info": {"GET": {
                "method": "GET", "name": "read", "parameters": {}, "returns": {"type": "null"},
            }}})
        })
        .collect();
    let source = json!([{"path": "/a", "text": "a", "leaf": 0, "children": children}]).to_string();
    let origin = Origin {
        product: &PVE,
        release: Release { major: 6, minor: 0 },
        package_version: None,
    };
    let problems = apidoc::parse(source.as_bytes(), &origin).unwrap_err();
    assert_eq!(
        problems.lines(),
        ["GET /a/0: the key \"allowtoken\" is missing (and the same in 8 more places)"]
    );
}
