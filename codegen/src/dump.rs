//! Facts written as a dump, in the dialect of the Perl products, as a server of that release would
//! publish it, without prose.
//!
//! [`apidoc::parse`](crate::apidoc::parse) reads the same facts from it. Tests and the simulator
//! get their dumps from here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::facts::{
    Additional, Check, Endpoint, Facts, Format, Parameters, Permissions, ProxyTo, Schema, Schemas,
    Type,
};

/// Writes `apidoc.js`.
#[must_use]
pub fn write(facts: &Facts) -> String {
    let tree = tree(facts);
    let text = serde_json::to_string_pretty(&tree).unwrap_or_default();
    format!("const apiSchema = {text}\n;\n")
}

/// The array of path nodes.
#[must_use]
pub fn tree(facts: &Facts) -> Value {
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for path in facts.endpoints.keys() {
        let mut path = path.as_str();
        while !path.is_empty() && paths.insert(path) {
            path = path.rfind('/').map_or("", |cut| &path[..cut]);
        }
    }
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in &paths {
        let above = path.rfind('/').map_or("", |cut| &path[..cut]);
        below.entry(above).or_default().push(path);
    }
    Value::Array(nodes(facts, &below, ""))
}

fn nodes(facts: &Facts, below: &BTreeMap<&str, Vec<&str>>, above: &str) -> Vec<Value> {
    let Some(paths) = below.get(above) else {
        return Vec::new();
    };
    let node = |path: &&str| {
        let text = path.rsplit('/').next().unwrap_or_default();
        let children = nodes(facts, below, path);
        let mut node = json!({
            "path": path,
            "text": text,
            "leaf": u8::from(children.is_empty()),
        });
        if let Some(methods) = facts.endpoints.get(*path) {
            let methods = methods.iter().map(|(verb, endpoint)| {
                (verb.to_string(), method(facts, &verb.to_string(), endpoint))
            });
            node["info"] = Value::Object(methods.collect());
        }
        if !children.is_empty() {
            node["children"] = Value::Array(children);
        }
        node
    };
    paths.iter().map(node).collect()
}

fn method(facts: &Facts, verb: &str, endpoint: &Endpoint) -> Value {
    let mut out = json!({
        "method": verb,
        "name": endpoint.name.as_deref().unwrap_or("unnamed"),
        "allowtoken": u8::from(endpoint.allowtoken),
        "parameters": parameters(facts, &endpoint.parameters),
        "returns": schema(facts, &endpoint.returns, Position::Returns),
    });
    for (key, flag) in [
        ("protected", endpoint.protected),
        (
            facts.product.download.first().unwrap_or(&"download"),
            endpoint.download,
        ),
        ("unstable", endpoint.unstable),
        ("expose_credentials", endpoint.expose_credentials),
    ] {
        if flag {
            out[key] = json!(1);
        }
    }
    match &endpoint.proxyto {
        Some(ProxyTo::Parameter(name)) => out["proxyto"] = json!(name),
        Some(ProxyTo::NoNode) => out["proxyto"] = Value::Null,
        None => {}
    }
    if let Some(rule) = &endpoint.permissions {
        out["permissions"] = permissions(rule);
    }
    out
}

fn parameters(facts: &Facts, parameters: &Parameters) -> Value {
    let mut out = Map::new();
    if let Some(additional) = parameters.additional {
        out.insert(
            "additionalProperties".to_owned(),
            json!(u8::from(additional)),
        );
    }
    if !parameters.properties.is_empty() {
        let properties = schemas(facts, &parameters.properties, Position::Parameter);
        out.insert("properties".to_owned(), properties);
    }
    Value::Object(out)
}

fn permissions(rule: &Permissions) -> Value {
    let mut out = Map::new();
    if let Some(user) = &rule.user {
        out.insert("user".to_owned(), json!(user));
    }
    if let Some(rule) = &rule.check {
        out.insert("check".to_owned(), check(rule));
    }
    if rule.described {
        out.insert("description".to_owned(), json!("The handler checks more."));
    }
    Value::Object(out)
}

fn check(rule: &Check) -> Value {
    let all = |word: &str, rules: &[Check]| {
        let rules = rules.iter().map(check);
        Value::Array(std::iter::once(json!(word)).chain(rules).collect())
    };
    match rule {
        Check::Or(rules) => all("or", rules),
        Check::And(rules) => all("and", rules),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            let mut out = vec![json!("perm"), json!(path), json!(privileges)];
            if *any {
                out.extend([json!("any"), json!(1)]);
            }
            if let Some(name) = require_param {
                out.extend([json!("require_param"), json!(name)]);
            }
            Value::Array(out)
        }
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => {
            let mut out = vec![json!("userid-group"), json!(privileges)];
            if let Some(name) = groups_param {
                out.extend([json!("groups_param"), json!(name)]);
            }
            Value::Array(out)
        }
        Check::UserIdParam(realm) => json!(["userid-param", realm]),
        Check::PermModify(path) => json!(["perm-modify", path]),
        Check::UserParam(name) => json!(["user-param", name]),
        Check::Roles(roles) => json!(roles),
    }
}

/// The position of a schema, as far as it decides how the schema is written.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    Parameter,
    Returns,
    Field,
    Key,
}

impl Position {
    fn inner(self) -> Self {
        match self {
            Self::Returns => Self::Field,
            other => other,
        }
    }
}

fn schemas(facts: &Facts, of: &Schemas, position: Position) -> Value {
    let members = of
        .iter()
        .map(|(name, of)| (name.clone(), schema(facts, of, position)));
    Value::Object(members.collect())
}

fn schema(facts: &Facts, of: &Schema, position: Position) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    let flag = |flag: bool| flag.then(|| json!(1));
    put("type", of.ty.map(|ty| json!(ty.name())));
    put("optional", flag(of.optional));
    put("default", of.default.as_ref().map(default));
    put("enum", of.values.as_ref().map(|values| json!(values)));
    put("minimum", of.minimum.as_ref().map(|number| json!(number)));
    put("maximum", of.maximum.as_ref().map(|number| json!(number)));
    put("minLength", of.min_length.map(|length| json!(length)));
    put("maxLength", of.max_length.map(|length| json!(length)));
    put("pattern", of.pattern.as_ref().map(|pattern| json!(pattern)));
    put("requires", of.requires.as_ref().map(|name| json!(name)));
    put("alias", of.alias.as_ref().map(|name| json!(name)));
    put("keyAlias", of.key_alias.as_ref().map(|name| json!(name)));
    put("default_key", flag(of.default_key));
    put("renderer", of.renderer.as_ref().map(|name| json!(name)));
    put(
        "type-property",
        of.type_property.as_ref().map(|name| json!(name)),
    );
    put(
        "instance-types",
        of.instance_types.as_ref().map(|types| json!(types)),
    );
    let links = |links: &Vec<String>| -> Value {
        let links = links
            .iter()
            .map(|href| json!({ "rel": "child", "href": href }));
        links.collect()
    };
    put("links", of.links.as_ref().map(links));
    let properties = of.properties.as_ref();
    put(
        "properties",
        properties.map(|of| schemas(facts, of, position.inner())),
    );
    put(
        "additionalProperties",
        of.additional.as_ref().map(|additional| match additional {
            Additional::Allowed(allowed) => json!(u8::from(*allowed)),
            Additional::Schema(of) => schema(facts, of, position.inner()),
        }),
    );
    let items = of.items.as_ref();
    put("items", items.map(|of| schema(facts, of, position.inner())));
    let one_of = of.one_of.as_ref();
    put(
        "oneOf",
        one_of.map(|list| list.iter().map(|of| schema(facts, of, position)).collect()),
    );
    match &of.format {
        Some(Format::Name(name)) => {
            put("format", Some(json!(name)));
            // A dump shows the keys of a named format in a usage line.
            if position != Position::Returns
                && let Some(keys) = facts.formats.get(name)
            {
                put("typetext", Some(json!(usage(keys))));
            }
        }
        Some(Format::Keys(keys)) => put("format", Some(schemas(facts, keys, Position::Key))),
        // Only the Rust products have it.
        Some(Format::List(_)) | None => {}
    }
    Value::Object(out)
}

/// Flags are numbers in this dialect.
fn default(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!(u8::from(*value)),
        value => value.clone(),
    }
}

fn usage(keys: &Schemas) -> String {
    let part = |(position, (name, key)): (usize, (&String, &Schema))| {
        let name = match key.default_key {
            true => format!("[{name}=]"),
            false => format!("{name}="),
        };
        let value = match (&key.values, key.ty) {
            (Some(values), _) => values.join("|"),
            (None, Some(Type::Boolean)) => "1|0".to_owned(),
            (None, Some(Type::Integer)) => "integer".to_owned(),
            (None, Some(Type::Number)) => "number".to_owned(),
            _ => "text".to_owned(),
        };
        let comma = if position == 0 { "" } else { "," };
        match key.optional {
            true => format!("[{comma}{name}<{value}>]"),
            false => format!("{comma}{name}<{value}>"),
        }
    };
    let parts: Vec<String> = keys.iter().enumerate().map(part).collect();
    parts.join(" ")
}
