//! The comparison of two releases: every difference is found, and its text is readable.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proxmox_codegen::diff::compare;
use proxmox_codegen::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, Parameters, Permissions, ProxyTo, Schema,
    Schemas, Type,
};
use proxmox_codegen::facts_json;
use proxmox_codegen::product::PVE;

fn empty(release: &str) -> Facts {
    Facts {
        product: &PVE,
        release: release.parse().unwrap(),
        package_version: None,
        source_sha256: "0".repeat(64),
        formats: Default::default(),
        endpoints: Default::default(),
    }
}

fn keys(list: &[(&str, Schema)]) -> Schemas {
    list.iter()
        .map(|(name, schema)| (name.to_string(), schema.clone()))
        .collect()
}

fn endpoint() -> Endpoint {
    Endpoint {
        name: Some("read".into()),
        protected: false,
        proxyto: None,
        allowtoken: true,
        download: false,
        upload: false,
        unstable: false,
        expose_credentials: false,
        permissions: None,
        parameters: Parameters {
            additional: Some(false),
            properties: keys(&[("p", Schema::of(Type::String))]),
        },
        returns: Schema::of(Type::Null),
    }
}

fn with(facts: &mut Facts, path: &str, method: Method, endpoint: Endpoint) {
    facts
        .endpoints
        .entry(path.into())
        .or_default()
        .insert(method, endpoint);
}

/// The report of a change of one endpoint, in both directions.
fn report(change: impl FnOnce(&mut Endpoint)) -> (Vec<String>, Vec<String>) {
    let (mut old, mut new) = (empty("9.1"), empty("9.2"));
    with(&mut old, "/x", Method::Get, endpoint());
    let mut changed = endpoint();
    change(&mut changed);
    with(&mut new, "/x", Method::Get, changed);
    let lines = |old: &Facts, new: &Facts| {
        compare(old, new)
            .changed
            .values()
            .flatten()
            .map(ToString::to_string)
            .collect()
    };
    (lines(&old, &new), lines(&new, &old))
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn every_aspect_of_an_endpoint_is_seen() {
    type Case = (fn(&mut Endpoint), &'static str, &'static str);
    let cases: [Case; 11] = [
        (
            |e| e.name = text("get"),
            "name `read` → `get`",
            "name `get` → `read`",
        ),
        (
            |e| e.protected = true,
            "runs in the privileged daemon",
            "no longer runs in the privileged daemon",
        ),
        (
            |e| e.proxyto = Some(ProxyTo::Parameter("node".into())),
            "proxied to none → {node}",
            "proxied to {node} → none",
        ),
        (
            |e| e.allowtoken = false,
            "API tokens are refused",
            "API tokens are accepted",
        ),
        (
            |e| e.download = true,
            "may answer with a file",
            "no longer answers with a file",
        ),
        (
            |e| e.upload = true,
            "takes a raw body",
            "no longer takes a raw body",
        ),
        (
            |e| e.unstable = true,
            "marked unstable",
            "no longer unstable",
        ),
        (
            |e| e.expose_credentials = true,
            "sees the credentials of the caller",
            "no longer sees the credentials of the caller",
        ),
        (
            |e| {
                e.permissions = Some(Permissions {
                    user: text("all"),
                    check: Some(Check::And(vec![
                        Check::Perm {
                            path: "/a".into(),
                            privileges: vec!["A.B".into(), "C.D".into()],
                            any: true,
                            require_param: text("pool"),
                        },
                        Check::Or(vec![
                            Check::UserIdParam("self".into()),
                            Check::UserIdParam("R.A".into()),
                            Check::UserIdGroup {
                                privileges: vec!["U.M".into()],
                                groups_param: text("create"),
                            },
                            Check::PermModify("/b".into()),
                            Check::UserParam("userid".into()),
                            Check::Roles(vec!["x".into(), "y".into()]),
                        ]),
                    ])),
                    described: true,
                });
            },
            "permissions root only → any user, A.B|C.D on /a if pool is given and (the user itself or R.A on the realm \
             of the user or U.M on the groups of the user (create) or may change permissions on /b or the user named \
             by userid or role x|y), described in words",
            "",
        ),
        (
            |e| e.parameters.additional = None,
            "unknown parameters refused → not specified",
            "unknown parameters not specified → refused",
        ),
        (
            |e| e.returns = Schema::of(Type::String),
            "result: type null → string",
            "result: type string → null",
        ),
    ];
    for (change, forth, back) in cases {
        let found = report(change);
        assert_eq!(found.0, [forth]);
        assert_eq!(found.1.len(), 1);
        assert!(back.is_empty() || found.1 == [back], "{found:?}");
    }
}

#[test]
fn every_aspect_of_a_schema_is_seen() {
    type Case = (fn(&mut Schema), &'static str);
    let cases: [Case; 26] = [
        (
            |p| p.ty = Some(Type::Integer),
            "parameter `p`: type string → integer",
        ),
        (|p| p.optional = true, "parameter `p`: now optional"),
        (
            |p| p.default = Some("x".into()),
            "parameter `p`: default none → \"x\"",
        ),
        (
            |p| p.values = Some(vec!["a".into(), "b".into()]),
            "parameter `p`: limited to values `a`, `b`",
        ),
        (
            |p| p.minimum = Some(1.into()),
            "parameter `p`: minimum none → 1",
        ),
        (
            |p| p.maximum = Some(1.into()),
            "parameter `p`: maximum none → 1",
        ),
        (
            |p| p.min_length = Some(1),
            "parameter `p`: minimum length none → 1",
        ),
        (
            |p| p.max_length = Some(1),
            "parameter `p`: maximum length none → 1",
        ),
        (
            |p| p.pattern = text("[a-z]+"),
            "parameter `p`: pattern none → `[a-z]+`",
        ),
        (
            |p| p.pattern = Some("x".repeat(61)),
            "parameter `p`: has a pattern now",
        ),
        (
            |p| p.format = Some(Format::Name("f".into())),
            "parameter `p`: format none → `f`",
        ),
        (
            |p| p.format = Some(Format::Keys(Schemas::new())),
            "parameter `p`: format none → keys",
        ),
        (
            |p| p.format = Some(Format::List(Box::new(Schema::of(Type::Array)))),
            "parameter `p`: format none → list",
        ),
        (
            |p| p.requires = text("q"),
            "parameter `p`: requires none → `q`",
        ),
        (
            |p| p.alias = text("q"),
            "parameter `p`: alias of none → `q`",
        ),
        (
            |p| p.key_alias = text("q"),
            "parameter `p`: sets none → `q`",
        ),
        (
            |p| p.default_key = true,
            "parameter `p`: its key may be omitted",
        ),
        (
            |p| p.properties = Some(keys(&[("q", Schema::of(Type::Boolean))])),
            "parameter `p.q` added: boolean, required",
        ),
        (
            |p| p.additional = Some(Additional::Allowed(true)),
            "parameter `p`: further fields none → allowed",
        ),
        (
            |p| p.additional = Some(Additional::Schema(Box::new(Schema::of(Type::Number)))),
            "parameter `p.*` added: number, required",
        ),
        (
            |p| p.items = Some(Box::new(Schema::of(Type::Integer))),
            "parameter `p[]` added: integer, required",
        ),
        (
            |p| {
                p.one_of = Some(vec![Schema {
                    instance_types: Some(vec!["x".into()]),
                    optional: true,
                    ..Schema::of(Type::Array)
                }]);
            },
            "parameter `p|x` added: array",
        ),
        (
            |p| p.type_property = text("kind"),
            "parameter `p`: distinguished by none → `kind`",
        ),
        (
            |p| p.instance_types = Some(vec!["x".into()]),
            "parameter `p`: limited to cases `x`",
        ),
        (
            |p| p.links = Some(vec!["{id}".into()]),
            "parameter `p`: links none → {id}",
        ),
        (
            |p| p.renderer = text("bytes"),
            "parameter `p`: unit none → `bytes`",
        ),
    ];
    for (change, expected) in cases {
        let found = report(|endpoint| change(endpoint.parameters.properties.get_mut("p").unwrap()));
        assert_eq!(found.0, [expected]);
        assert_eq!(found.1.len(), 1, "{expected}");
    }
}

#[test]
fn nested_changes_name_their_place() {
    let schema = |maximum: u64, values: &[&str]| {
        let inner = Schema {
            maximum: Some(maximum.into()),
            values: Some(values.iter().map(ToString::to_string).collect()),
            ..Schema::of(Type::Integer)
        };
        let keys_of = |name: &str| keys(&[(name, inner.clone())]);
        Schema {
            format: Some(Format::Keys(keys_of("key"))),
            properties: Some(keys_of("field")),
            items: Some(Box::new(Schema {
                properties: Some(keys_of("item")),
                ..Schema::of(Type::Object)
            })),
            additional: Some(Additional::Schema(Box::new(inner.clone()))),
            one_of: Some(vec![Schema {
                instance_types: Some(vec!["x".into(), "y".into()]),
                ..inner.clone()
            }]),
            ..Schema::of(Type::Object)
        }
    };
    let (mut old, mut new) = (empty("9.1"), empty("9.2"));
    let returning = |schema| Endpoint {
        returns: schema,
        ..endpoint()
    };
    with(
        &mut old,
        "/x",
        Method::Get,
        returning(schema(1, &["a", "b"])),
    );
    with(
        &mut new,
        "/x",
        Method::Get,
        returning(schema(2, &["c", "b"])),
    );
    let lines: Vec<String> = compare(&old, &new)
        .changed
        .values()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let aspects = "values added: `c`; values removed: `a`; maximum 1 → 2";
    let expected: Vec<String> = ["key", "[].item", "field", ".*", "|x", "|y"]
        .iter()
        .map(|place| format!("field `{place}`: {aspects}"))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn the_order_of_values_is_not_a_change() {
    let facts = |values: &[&str]| {
        let mut facts = empty("9.1");
        let mut endpoint = endpoint();
        endpoint.returns.values = Some(values.iter().map(ToString::to_string).collect());
        with(&mut facts, "/x", Method::Get, endpoint);
        facts
    };
    assert!(
        compare(&facts(&["a", "b"]), &facts(&["b", "a"]))
            .changed
            .is_empty()
    );
}

#[test]
fn as_markdown() {
    let (mut old, mut new) = (empty("9.1"), empty("9.2"));
    old.formats.insert("gone".into(), Schemas::new());
    old.formats
        .insert("some".into(), keys(&[("a", Schema::of(Type::String))]));
    new.formats.insert(
        "some".into(),
        keys(&[
            ("a", Schema::of(Type::Integer)),
            ("b", Schema::of(Type::String)),
        ]),
    );
    with(&mut old, "/old", Method::Delete, endpoint());
    with(&mut new, "/new", Method::Get, endpoint());
    with(&mut new, "/new", Method::Put, endpoint());
    let size = Schema {
        optional: true,
        minimum: Some(1.into()),
        maximum: Some(9.into()),
        default: Some(3.into()),
        ..Schema::of(Type::Integer)
    };
    for n in 0..5 {
        let path = format!("/each/{n}");
        with(&mut old, &path, Method::Get, endpoint());
        let mut changed = endpoint();
        changed.returns.optional = true;
        if n < 2 {
            changed
                .parameters
                .properties
                .insert("size".into(), size.clone());
        }
        if n == 3 {
            changed.parameters.properties.clear();
        }
        with(&mut new, &path, Method::Get, changed);
    }
    let expected = "\
## PVE 9.1 → PVE 9.2

### Endpoints added (2)

- `GET /new`
  - parameter `p`: string, required
  - result: null
- `PUT /new`
  - parameter `p`: string, required
  - result: null

### Endpoints removed (1)

- `/old`: DELETE

### Property strings

- `gone`: removed
- `some`: key `a`: type string → integer; key `b` added: string, required

### Changed in several endpoints

- result: now optional (`GET /each/0`, `GET /each/1`, `GET /each/2` and 2 more)

### Endpoints changed (3)

- `GET /each/0`, `GET /each/1`
  - parameter `size` added: integer, 1 to 9, default 3
- `GET /each/3`
  - parameter `p` removed
";
    assert_eq!(compare(&old, &new).to_string(), expected);
}

#[test]
fn the_tracked_releases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/pve");
    let load = |release: &str| {
        let text = fs::read_to_string(folder.join(format!("{release}.json"))).unwrap();
        facts_json::read(&text).unwrap()
    };
    // Endpoints added and removed on each step.
    let steps = [
        ("8.0", 17, 8),
        ("8.1", 35, 0),
        ("8.2", 2, 0),
        ("8.3", 16, 2),
        ("8.4", 5, 0),
        ("9.0", 24, 1),
        ("9.1", 21, 0),
        ("9.2", 26, 0),
    ];
    let mut releases: Vec<proxmox_codegen::facts::Release> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        })
        .collect();
    releases.sort();
    for pair in releases.windows(2) {
        let (from, to) = (pair[0].to_string(), pair[1].to_string());
        let (old, new) = (load(&from), load(&to));
        let (forth, back) = (compare(&old, &new), compare(&new, &old));
        let count = |facts: &Facts| facts.endpoints.values().flatten().count();
        assert_eq!(
            count(&old) + forth.added.len() - forth.removed.len(),
            count(&new),
            "{from} to {to}"
        );
        if let Some((_, added, removed)) = steps.iter().find(|(release, ..)| *release == to) {
            assert_eq!(
                (forth.added.len(), forth.removed.len()),
                (*added, *removed),
                "{from} to {to}"
            );
        }
        assert_eq!((&forth.added, &forth.removed), (&back.removed, &back.added));
        assert!(forth.changed.keys().eq(back.changed.keys()));
        let same = compare(&new, &new).to_string();
        assert_eq!(same, format!("## PVE {to} → PVE {to}\n\nNo differences.\n"));

        // Releases without a reported change are equal except in two meaningless respects: the
        // order of values, which for one enum is the hash order of a Perl process, and `any` of one
        // privilege.
        for (path, methods) in &old.endpoints {
            for (&method, endpoint) in methods {
                let name = proxmox_codegen::diff::Name {
                    path: path.clone(),
                    method,
                };
                let Some(now) = new
                    .endpoints
                    .get(path)
                    .and_then(|methods| methods.get(&method))
                else {
                    continue;
                };
                let mut sorted = [endpoint.clone(), now.clone()];
                for endpoint in &mut sorted {
                    for schema in endpoint.parameters.properties.values_mut() {
                        schema.values.iter_mut().for_each(|values| values.sort());
                    }
                    let permissions = endpoint.permissions.as_mut();
                    if let Some(Check::Perm {
                        privileges, any, ..
                    }) = permissions.and_then(|all| all.check.as_mut())
                    {
                        *any &= privileges.len() > 1;
                    }
                }
                assert_eq!(
                    sorted[0] != sorted[1],
                    forth.changed.contains_key(&name),
                    "{name}"
                );
            }
        }
    }
}
