//! `schema/<product>/<release>.json`: the facts of one release as text.
//!
//! The layout is made for reading a git diff between two releases: one parameter, field or key per
//! line if it fits, maps sorted, lists in the order of the dump. Values that nearly every endpoint
//! has are omitted: `allowtoken` is written if it is false, `additional_parameters` if it is not
//! false (`null`: the dump does not say), `returns` always.
//!
//! Reading is strict: an unknown key, a duplicate or a wrong type is an error with its JSON pointer.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Number, Value};

use crate::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, Parameters, Permissions, ProxyTo, Release,
    Schema, Schemas, Type,
};
use crate::json::{Json, Layout, point};
use crate::product::Product;

/// The reason why a facts file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// JSON pointer; empty for the whole file.
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "at {}: {}", self.pointer, self.message)
        }
    }
}

impl std::error::Error for ReadError {}

type Result<T> = std::result::Result<T, ReadError>;

fn error<T>(pointer: &str, message: impl Into<String>) -> Result<T> {
    Err(ReadError {
        pointer: pointer.to_owned(),
        message: message.into(),
    })
}

/// Reads the output of [`write()`].
pub fn read(text: &str) -> Result<Facts> {
    let json: Json = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(err) => return error("", format!("not JSON: {err}")),
    };
    let mut top = Members::new("", &json)?;
    let facts = Facts {
        product: top.required("product", product)?,
        release: top.required("release", release)?,
        package_version: top.required("package_version", nullable(string))?,
        source_sha256: top.required("source_sha256", sha256)?,
        formats: top.required("formats", map(schemas))?,
        endpoints: top.required("endpoints", map(methods))?,
    };
    top.finish()?;
    Ok(facts)
}

/// The canonical text of `facts`: equal facts give equal bytes.
pub fn write(facts: &Facts) -> String {
    let formats = facts
        .formats
        .iter()
        .map(|(name, keys)| (name.clone(), write_schemas(keys)))
        .collect();
    let endpoints = facts
        .endpoints
        .iter()
        .map(|(path, methods)| {
            let methods = methods
                .iter()
                .map(|(method, endpoint)| (method.to_string(), write_endpoint(endpoint)))
                .collect();
            (path.clone(), Layout::Tall(methods))
        })
        .collect();
    Layout::Tall(vec![
        ("product".into(), Layout::string(facts.product.name)),
        ("release".into(), Layout::string(facts.release.to_string())),
        (
            "package_version".into(),
            facts
                .package_version
                .as_ref()
                .map_or(Layout::Line(Json::Null), Layout::string),
        ),
        ("source_sha256".into(), Layout::string(&facts.source_sha256)),
        ("formats".into(), Layout::Tall(formats)),
        ("endpoints".into(), Layout::Tall(endpoints)),
    ])
    .write()
}

/// Collects the members to write.
#[derive(Default)]
struct Writer(Vec<(String, Layout)>);

impl Writer {
    fn put(&mut self, key: &str, value: impl Into<Layout>) {
        self.0.push((key.to_owned(), value.into()));
    }

    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.put(key, Json::Bool(true));
        }
    }

    fn text(&mut self, key: &str, value: &Option<String>) {
        if let Some(text) = value {
            self.put(key, Json::string(text));
        }
    }

    fn number(&mut self, key: &str, value: Option<Number>) {
        if let Some(number) = value {
            self.put(key, Json::Number(number));
        }
    }

    fn strings(&mut self, key: &str, value: &Option<Vec<String>>) {
        if let Some(list) = value {
            self.put(key, Json::strings(list));
        }
    }
}

fn write_endpoint(endpoint: &Endpoint) -> Layout {
    let Endpoint {
        name,
        protected,
        proxyto,
        allowtoken,
        download,
        upload,
        unstable,
        expose_credentials,
        permissions,
        parameters,
        returns,
    } = endpoint;
    let mut out = Writer::default();
    out.text("name", name);
    out.flag("protected", *protected);
    match proxyto {
        None => {}
        Some(ProxyTo::Parameter(parameter)) => out.put("proxyto", Json::string(parameter)),
        Some(ProxyTo::NoNode) => out.put("proxyto", Json::Null),
    }
    if !allowtoken {
        out.put("allowtoken", Json::Bool(false));
    }
    out.flag("download", *download);
    out.flag("upload", *upload);
    out.flag("unstable", *unstable);
    out.flag("expose_credentials", *expose_credentials);
    if let Some(permissions) = permissions {
        let mut inner = Writer::default();
        inner.text("user", &permissions.user);
        if let Some(check) = &permissions.check {
            inner.put("check", write_check(check));
        }
        inner.flag("described", permissions.described);
        out.put("permissions", Layout::Object(inner.0));
    }
    if !parameters.properties.is_empty() {
        out.put("parameters", write_schemas(&parameters.properties));
    }
    match parameters.additional {
        Some(false) => {}
        Some(true) => out.put("additional_parameters", Json::Bool(true)),
        None => out.put("additional_parameters", Json::Null),
    }
    out.put("returns", write_schema(returns));
    Layout::Tall(out.0)
}

fn write_check(check: &Check) -> Layout {
    let mut out = Writer::default();
    match check {
        Check::Or(list) => out.put("or", Layout::Array(list.iter().map(write_check).collect())),
        Check::And(list) => out.put("and", Layout::Array(list.iter().map(write_check).collect())),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            out.put("perm", Json::string(path));
            out.put("privileges", Json::strings(privileges));
            out.flag("any", *any);
            out.text("require_param", require_param);
        }
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => {
            out.put("userid_group", Json::strings(privileges));
            out.text("groups_param", groups_param);
        }
        Check::UserIdParam(privilege) => out.put("userid_param", Json::string(privilege)),
        Check::PermModify(path) => out.put("perm_modify", Json::string(path)),
        Check::UserParam(parameter) => out.put("user_param", Json::string(parameter)),
        Check::Roles(roles) => out.put("roles", Json::strings(roles)),
    }
    Layout::Object(out.0)
}

fn write_schemas(schemas: &Schemas) -> Layout {
    Layout::Tall(
        schemas
            .iter()
            .map(|(name, schema)| (name.clone(), write_schema(schema)))
            .collect(),
    )
}

fn write_schema(schema: &Schema) -> Layout {
    let Schema {
        ty,
        optional,
        default,
        values,
        minimum,
        maximum,
        min_length,
        max_length,
        pattern,
        format,
        requires,
        alias,
        key_alias,
        default_key,
        properties,
        additional,
        items,
        one_of,
        type_property,
        instance_types,
        links,
        renderer,
    } = schema;
    let mut out = Writer::default();
    if let Some(ty) = ty {
        out.put("type", Json::string(ty.name()));
    }
    out.flag("optional", *optional);
    out.flag("default_key", *default_key);
    out.text("alias", alias);
    out.text("key_alias", key_alias);
    out.text("requires", requires);
    out.text("renderer", renderer);
    if let Some(format) = format {
        out.put(
            "format",
            match format {
                Format::Name(name) => Layout::string(name),
                Format::Keys(keys) => write_schemas(keys),
                Format::List(list) => Layout::Array(vec![write_schema(list)]),
            },
        );
    }
    if let Some(default) = default {
        out.put("default", write_default(default));
    }
    out.number("minimum", minimum.clone());
    out.number("maximum", maximum.clone());
    out.number("min_length", min_length.map(Number::from));
    out.number("max_length", max_length.map(Number::from));
    out.text("pattern", pattern);
    out.strings("enum", values);
    out.text("type_property", type_property);
    out.strings("instance_types", instance_types);
    match additional {
        None => {}
        Some(Additional::Allowed(allowed)) => out.put("additional", Json::Bool(*allowed)),
        Some(Additional::Schema(schema)) => out.put("additional", write_schema(schema)),
    }
    if let Some(items) = items {
        out.put("items", write_schema(items));
    }
    if let Some(list) = one_of {
        out.put(
            "one_of",
            Layout::Array(list.iter().map(write_schema).collect()),
        );
    }
    if let Some(properties) = properties {
        out.put("properties", write_schemas(properties));
    }
    out.strings("links", links);
    Layout::Object(out.0)
}

/// Defaults are scalars; nothing else could be read back.
fn write_default(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(value) => Json::Number(value.clone()),
        Value::String(value) => Json::string(value),
        other => Json::string(other.to_string()),
    }
}

/// The members of an object, taken one by one; remaining ones are an error.
struct Members<'a> {
    pointer: String,
    remaining: BTreeMap<&'a str, &'a Json>,
}

impl<'a> Members<'a> {
    fn new(pointer: &str, json: &'a Json) -> Result<Members<'a>> {
        let Json::Object(list) = json else {
            return error(
                pointer,
                format!("expected an object, found {}", json.kind()),
            );
        };
        let mut remaining = BTreeMap::new();
        for (key, value) in list {
            if remaining.insert(key.as_str(), value).is_some() {
                return error(&point(pointer, key), "the key appears twice");
            }
        }
        Ok(Members {
            pointer: pointer.to_owned(),
            remaining,
        })
    }

    fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str, &Json) -> Result<T>,
    ) -> Result<Option<T>> {
        self.remaining
            .remove(key)
            .map(|json| read(&point(&self.pointer, key), json))
            .transpose()
    }

    fn required<T>(&mut self, key: &str, read: impl FnOnce(&str, &Json) -> Result<T>) -> Result<T> {
        match self.optional(key, read)? {
            Some(value) => Ok(value),
            None => error(&self.pointer, format!("the key {key:?} is missing")),
        }
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        Ok(self.optional(key, bool)?.unwrap_or(false))
    }

    fn has(&self, key: &str) -> bool {
        self.remaining.contains_key(key)
    }

    fn finish(self) -> Result<()> {
        match self.remaining.keys().next() {
            None => Ok(()),
            Some(key) => error(&point(&self.pointer, key), format!("unknown key {key:?}")),
        }
    }
}

fn bool(pointer: &str, json: &Json) -> Result<bool> {
    match json {
        Json::Bool(value) => Ok(*value),
        other => error(
            pointer,
            format!("expected a boolean, found {}", other.kind()),
        ),
    }
}

fn string(pointer: &str, json: &Json) -> Result<String> {
    match json {
        Json::String(text) => Ok(text.clone()),
        other => error(
            pointer,
            format!("expected a string, found {}", other.kind()),
        ),
    }
}

fn number(pointer: &str, json: &Json) -> Result<Number> {
    match json {
        Json::Number(number) => Ok(number.clone()),
        other => error(
            pointer,
            format!("expected a number, found {}", other.kind()),
        ),
    }
}

fn length(pointer: &str, json: &Json) -> Result<u64> {
    match number(pointer, json)?.as_u64() {
        Some(length) => Ok(length),
        None => error(pointer, "expected an integer that is not negative"),
    }
}

fn scalar(pointer: &str, json: &Json) -> Result<Value> {
    match json {
        Json::Bool(value) => Ok(Value::Bool(*value)),
        Json::Number(value) => Ok(Value::Number(value.clone())),
        Json::String(value) => Ok(Value::String(value.clone())),
        other => error(
            pointer,
            format!("expected a scalar, found {}", other.kind()),
        ),
    }
}

fn sha256(pointer: &str, json: &Json) -> Result<String> {
    let text = string(pointer, json)?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(lower_hex) {
        Ok(text)
    } else {
        error(pointer, "expected 64 lower-case hex digits")
    }
}

fn product(pointer: &str, json: &Json) -> Result<&'static Product> {
    Product::named(&string(pointer, json)?).or_else(|message| error(pointer, message))
}

fn release(pointer: &str, json: &Json) -> Result<Release> {
    string(pointer, json)?
        .parse()
        .or_else(|message: String| error(pointer, message))
}

fn nullable<T>(
    read: impl FnOnce(&str, &Json) -> Result<T>,
) -> impl FnOnce(&str, &Json) -> Result<Option<T>> {
    move |pointer, json| match json {
        Json::Null => Ok(None),
        json => read(pointer, json).map(Some),
    }
}

fn list<T>(read: impl Fn(&str, &Json) -> Result<T>) -> impl Fn(&str, &Json) -> Result<Vec<T>> {
    move |pointer, json| match json {
        Json::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, json)| read(&point(pointer, n), json))
            .collect(),
        other => error(
            pointer,
            format!("expected an array, found {}", other.kind()),
        ),
    }
}

fn map<T>(
    read: impl Fn(&str, &Json) -> Result<T>,
) -> impl Fn(&str, &Json) -> Result<BTreeMap<String, T>> {
    move |pointer, json| {
        Members::new(pointer, json)?
            .remaining
            .into_iter()
            .map(|(key, json)| Ok((key.to_owned(), read(&point(pointer, key), json)?)))
            .collect()
    }
}

fn methods(pointer: &str, json: &Json) -> Result<BTreeMap<Method, Endpoint>> {
    Members::new(pointer, json)?
        .remaining
        .into_iter()
        .map(|(verb, json)| {
            let pointer = point(pointer, verb);
            let method = verb
                .parse()
                .or_else(|message: String| error(&pointer, message))?;
            Ok((method, endpoint(&pointer, json)?))
        })
        .collect()
}

fn endpoint(pointer: &str, json: &Json) -> Result<Endpoint> {
    let mut members = Members::new(pointer, json)?;
    let endpoint = Endpoint {
        name: members.optional("name", string)?,
        protected: members.flag("protected")?,
        proxyto: members
            .optional("proxyto", nullable(string))?
            .map(|parameter| parameter.map_or(ProxyTo::NoNode, ProxyTo::Parameter)),
        allowtoken: members.optional("allowtoken", bool)?.unwrap_or(true),
        download: members.flag("download")?,
        upload: members.flag("upload")?,
        unstable: members.flag("unstable")?,
        expose_credentials: members.flag("expose_credentials")?,
        permissions: members.optional("permissions", permissions)?,
        parameters: Parameters {
            properties: members.optional("parameters", schemas)?.unwrap_or_default(),
            additional: members
                .optional("additional_parameters", nullable(bool))?
                .unwrap_or(Some(false)),
        },
        returns: members.required("returns", schema)?,
    };
    members.finish()?;
    Ok(endpoint)
}

fn permissions(pointer: &str, json: &Json) -> Result<Permissions> {
    let mut members = Members::new(pointer, json)?;
    let permissions = Permissions {
        user: members.optional("user", string)?,
        check: members.optional("check", check)?,
        described: members.flag("described")?,
    };
    members.finish()?;
    Ok(permissions)
}

fn check(pointer: &str, json: &Json) -> Result<Check> {
    let mut members = Members::new(pointer, json)?;
    let strings = list(string);
    let parsed = if members.has("or") {
        Check::Or(members.required("or", list(check))?)
    } else if members.has("and") {
        Check::And(members.required("and", list(check))?)
    } else if members.has("perm") {
        Check::Perm {
            path: members.required("perm", string)?,
            privileges: members.required("privileges", strings)?,
            any: members.flag("any")?,
            require_param: members.optional("require_param", string)?,
        }
    } else if members.has("userid_group") {
        Check::UserIdGroup {
            privileges: members.required("userid_group", strings)?,
            groups_param: members.optional("groups_param", string)?,
        }
    } else if members.has("userid_param") {
        Check::UserIdParam(members.required("userid_param", string)?)
    } else if members.has("perm_modify") {
        Check::PermModify(members.required("perm_modify", string)?)
    } else if members.has("user_param") {
        Check::UserParam(members.required("user_param", string)?)
    } else if members.has("roles") {
        Check::Roles(members.required("roles", strings)?)
    } else {
        return error(pointer, "not a permission check");
    };
    members.finish()?;
    Ok(parsed)
}

/// Reads one schema in the notation of the files; `pointer` names it in errors.
pub(crate) fn read_schema(pointer: &str, text: &str) -> Result<Schema> {
    match serde_json::from_str::<Json>(text) {
        Ok(json) => schema(pointer, &json),
        Err(err) => error(pointer, format!("not JSON: {err}")),
    }
}

fn schemas(pointer: &str, json: &Json) -> Result<Schemas> {
    map(schema)(pointer, json)
}

fn schema(pointer: &str, json: &Json) -> Result<Schema> {
    let mut members = Members::new(pointer, json)?;
    let strings = list(string);
    let schema = Schema {
        ty: members.optional("type", ty)?,
        optional: members.flag("optional")?,
        default: members.optional("default", scalar)?,
        values: members.optional("enum", &strings)?,
        minimum: members.optional("minimum", number)?,
        maximum: members.optional("maximum", number)?,
        min_length: members.optional("min_length", length)?,
        max_length: members.optional("max_length", length)?,
        pattern: members.optional("pattern", string)?,
        format: members.optional("format", format)?,
        requires: members.optional("requires", string)?,
        alias: members.optional("alias", string)?,
        key_alias: members.optional("key_alias", string)?,
        default_key: members.flag("default_key")?,
        properties: members.optional("properties", schemas)?,
        additional: members.optional("additional", additional)?,
        items: members.optional("items", schema)?.map(Box::new),
        one_of: members.optional("one_of", list(schema))?,
        type_property: members.optional("type_property", string)?,
        instance_types: members.optional("instance_types", &strings)?,
        links: members.optional("links", &strings)?,
        renderer: members.optional("renderer", string)?,
    };
    members.finish()?;
    Ok(schema)
}

fn ty(pointer: &str, json: &Json) -> Result<Type> {
    string(pointer, json)?
        .parse()
        .or_else(|message: String| error(pointer, message))
}

fn format(pointer: &str, json: &Json) -> Result<Format> {
    match json {
        Json::String(name) => Ok(Format::Name(name.clone())),
        Json::Array(list) => match list.as_slice() {
            [json] => Ok(Format::List(Box::new(schema(&point(pointer, 0), json)?))),
            _ => error(pointer, "expected an array of one schema"),
        },
        json => Ok(Format::Keys(schemas(pointer, json)?)),
    }
}

fn additional(pointer: &str, json: &Json) -> Result<Additional> {
    match json {
        Json::Bool(allowed) => Ok(Additional::Allowed(*allowed)),
        json => Ok(Additional::Schema(Box::new(schema(pointer, json)?))),
    }
}
