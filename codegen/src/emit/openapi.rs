//! The API as an OpenAPI 3.1 document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Emitter;
use super::endpoint::argument_place;
use crate::facts::{Check, Method};
use crate::ir::{
    Api, Endpoint, ItemKind, Member, Parameter, PropertyString, Returns, Ty, ValueFacts,
};
use crate::names::{self, Names};
use crate::overlay::Overlay;
use crate::place::Place;
use crate::privileges::Need;
use crate::union::Presence;

/// The document of one release, given by its index, or of all of them together.
pub(crate) fn openapi(
    api: &Api,
    names: &Names,
    overlay: &Overlay,
    release: Option<usize>,
) -> Value {
    let mut writer = Writer {
        emitter: Emitter::new(api, names, overlay),
        release,
        needed: Vec::new(),
        written: BTreeMap::new(),
    };
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for endpoint in &api.endpoints {
        if !writer.has(endpoint.presence) {
            continue;
        }
        if let Some(area) = overlay.area(&endpoint.path) {
            tags.insert(area.name.clone(), area.about.clone());
        }
        let operation = writer.operation(endpoint);
        paths
            .entry(endpoint.path.clone())
            .or_default()
            .insert(names::verb(endpoint.method).to_lowercase(), operation);
    }
    let schemas = writer.schemas();
    let mut security = vec![json!({"ticket": [], "csrf": []})];
    let mut schemes = json!({
        "ticket": {
            "type": "apiKey",
            "in": "cookie",
            "name": api.product.cookie,
            "description": "The ticket from `POST /access/ticket`, valid for two hours.",
        },
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "CSRFPreventionToken",
            "description": "Returned with the ticket, and required with it by every call except GET.",
        },
    });
    if let Some((prefix, separator)) = api.product.token {
        security.insert(0, json!({"apiToken": []}));
        schemes["apiToken"] = json!({
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": format!("`{prefix}USER@REALM!TOKENID{separator}SECRET`"),
        });
    }
    let version = match release {
        Some(index) => api.releases[index].to_string(),
        None => api
            .releases
            .last()
            .map(|newest| format!("up to {newest}"))
            .unwrap_or_default(),
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("{} API", api.product.title),
            "version": version,
            "description": "Requests are forms; bodies of JSON are accepted as well. Numbers in answers may come as texts, and \
                flags as 0 and 1. Objects may hold members that are not listed here. Of each call, \
                `x-privileges` lists what its caller needs, all of it; `x-task` says that the answer is the name of a task, and \
                `x-releases` which releases have it.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{
            "url": "https://{host}:{port}/api2/json",
            "variables": {
                "host": {"default": "localhost", "description": "Any node of the cluster."},
                "port": {"default": api.product.port.to_string()},
            },
        }],
        "security": security,
        "tags": tags
            .into_iter()
            .map(|(name, about)| json!({"name": name, "description": about}))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "The server refuses the call, or it failed. The reason is in the status line and, on \
                        newer releases, in `message`.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
                },
            },
            "securitySchemes": schemes,
        },
    })
}

struct Writer<'a> {
    emitter: Emitter<'a>,
    release: Option<usize>,
    /// Items that are referred to and not written yet.
    needed: Vec<(usize, bool)>,
    written: BTreeMap<String, Value>,
}

impl Writer<'_> {
    fn has(&self, presence: Presence) -> bool {
        self.release.is_none_or(|index| presence.has(index))
    }

    fn operation(&mut self, endpoint: &Endpoint) -> Value {
        let mut text = self.emitter.endpoint_text(endpoint);
        let summary = text.remove(0);
        text.remove(0);
        let mut operation = Map::new();
        operation.insert(
            "operationId".to_owned(),
            names::request(self.emitter.overlay, &endpoint.path, endpoint.method).into(),
        );
        operation.insert("summary".to_owned(), summary.into());
        operation.insert("description".to_owned(), text.join("\n\n").into());
        operation.insert(
            "tags".to_owned(),
            json!([self.emitter.path_area(&endpoint.path)]),
        );
        let world = endpoint
            .permissions
            .as_ref()
            .is_some_and(|permissions| permissions.user.as_deref() == Some("world"));
        if world {
            operation.insert("security".to_owned(), json!([]));
        } else if !endpoint.allowtoken {
            operation.insert("security".to_owned(), json!([{"ticket": [], "csrf": []}]));
        }
        // Data that OpenAPI has no keyword for; the description has it as text.
        operation.insert("x-privileges".to_owned(), privileges(endpoint));
        if let Returns::Task { optional } = endpoint.returns {
            let kind = if optional { "sometimes" } else { "always" };
            operation.insert("x-task".to_owned(), kind.into());
        }
        if self.release.is_none() {
            let releases = self.emitter.api.releases.iter().enumerate();
            let has = releases.filter(|(index, _)| endpoint.presence.has(*index));
            let names: Vec<String> = has.map(|(_, release)| release.to_string()).collect();
            operation.insert("x-releases".to_owned(), names.into());
        }
        let in_body = matches!(endpoint.method, Method::Post | Method::Put);
        let mut parameters: Vec<Value> = endpoint
            .placeholders
            .iter()
            .map(|parameter| self.parameter(endpoint, parameter, "path"))
            .collect();
        if in_body {
            if let Some(body) = self.body(endpoint) {
                operation.insert("requestBody".to_owned(), body);
            }
        } else {
            for parameter in &endpoint.parameters {
                if self.has(parameter.presence) {
                    parameters.push(self.parameter(endpoint, parameter, "query"));
                }
            }
        }
        operation.insert("parameters".to_owned(), parameters.into());
        operation.insert("responses".to_owned(), self.responses(endpoint));
        Value::Object(operation)
    }

    fn parameter(&mut self, endpoint: &Endpoint, parameter: &Parameter, place: &str) -> Value {
        let (schema, text) = self.argument(endpoint, parameter);
        json!({
            "name": parameter.name,
            "in": place,
            "required": place == "path" || parameter.required,
            "description": text,
            "schema": schema,
        })
    }

    fn argument(&mut self, endpoint: &Endpoint, parameter: &Parameter) -> (Value, String) {
        let at = argument_place(endpoint, &parameter.name);
        let text = self.emitter.value_text(
            std::slice::from_ref(&at),
            &parameter.name,
            &parameter.facts,
            parameter.presence,
            endpoint.presence,
        );
        let mut schema = self.schema(&parameter.ty, true);
        if parameter.secret {
            annotate(&mut schema, "format", "password".into());
        }
        bounds(&mut schema, &parameter.facts);
        (schema, text)
    }

    fn body(&mut self, endpoint: &Endpoint) -> Option<Value> {
        let mut object = ObjectSchema::default();
        for parameter in &endpoint.parameters {
            if !self.has(parameter.presence) {
                continue;
            }
            let (mut schema, text) = self.argument(endpoint, parameter);
            annotate(&mut schema, "description", text.into());
            object.add(&parameter.name, parameter.required, schema);
        }
        if object.is_empty() {
            return None;
        }
        let required = !object.required.is_empty();
        let schema = object.finish(false);
        Some(json!({
            "required": required,
            "content": {
                "application/x-www-form-urlencoded": {"schema": schema},
                "application/json": {"schema": schema},
            },
        }))
    }

    fn responses(&mut self, endpoint: &Endpoint) -> Value {
        let content = match &endpoint.returns {
            Returns::Bytes => {
                json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})
            }
            returns => {
                let data = match returns {
                    Returns::Data(ty) => self.schema(ty, false),
                    Returns::Task { optional } => {
                        let ty = match optional {
                            true => json!(["string", "null"]),
                            false => json!("string"),
                        };
                        json!({"type": ty, "description": "The UPID of the task."})
                    }
                    _ => json!({"type": "null"}),
                };
                json!({"application/json": {"schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": data},
                }}})
            }
        };
        json!({
            "200": {"description": "Done, or accepted if the answer is a task.", "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        })
    }

    /// A reference to a type; requests and answers spell flags differently.
    fn schema(&mut self, ty: &Ty, request: bool) -> Value {
        match ty {
            Ty::Boolean if request => json!({"type": "boolean"}),
            Ty::Boolean => json!({"type": ["boolean", "integer"]}),
            Ty::Integer | Ty::Time => json!({"type": "integer"}),
            Ty::Bytes => json!({"type": "integer", "minimum": 0}),
            Ty::GuestNumber => json!({"type": "integer", "minimum": 100, "maximum": 999_999_999}),
            Ty::Number => json!({"type": "number"}),
            Ty::Text | Ty::TextType(_) => json!({"type": "string"}),
            Ty::Secret => json!({"type": "string", "format": "password"}),
            Ty::Json => json!({}),
            Ty::List(of) => {
                let of = self.emitter.list_item(of);
                json!({"type": "string", "description": format!("A list in one text: {of}.")})
            }
            Ty::Array(of) => json!({"type": "array", "items": self.schema(of, request)}),
            Ty::Map(of) => {
                json!({"type": "object", "additionalProperties": self.schema(of, request)})
            }
            Ty::Optional(of) => {
                let of = self.schema(of, request);
                json!({"anyOf": [of, {"type": "null"}]})
            }
            Ty::Pending(of) => {
                let of = self.schema(of, request);
                json!({"anyOf": [of, {"const": "deleted"}]})
            }
            Ty::Item(id) => {
                self.needed.push((*id, request));
                let name = self.component(*id);
                json!({"$ref": format!("#/components/schemas/{name}")})
            }
        }
    }

    fn component(&self, id: usize) -> String {
        self.emitter.names.items[id].clone()
    }

    /// All items that are referred to, directly or not.
    fn schemas(&mut self) -> BTreeMap<String, Value> {
        while let Some((id, request)) = self.needed.pop() {
            let name = self.component(id);
            if self.written.contains_key(&name) {
                continue;
            }
            // Prevents endless recursion of a type that refers to itself.
            self.written.insert(name.clone(), Value::Null);
            let schema = self.item(id, request);
            self.written.insert(name, schema);
        }
        let mut schemas = std::mem::take(&mut self.written);
        schemas.insert(
            "Refusal".to_owned(),
            json!({
                "type": "object",
                "properties": {
                    "data": {"type": "null"},
                    "message": {"type": "string"},
                    "errors": {
                        "type": "object",
                        "description": "The error of each parameter.",
                        "additionalProperties": {"type": "string"},
                    },
                },
            }),
        );
        schemas
    }

    fn item(&mut self, id: usize, request: bool) -> Value {
        let api = self.emitter.api;
        let item = &api.items[id];
        let about = self.emitter.type_meaning(id);
        let mut schema = match &item.kind {
            ItemKind::Enum(values) => {
                let values: Vec<&String> = values
                    .iter()
                    .filter(|(_, presence)| self.has(*presence))
                    .map(|(text, _)| text)
                    .collect();
                json!({"type": "string", "enum": values})
            }
            ItemKind::PropertyString(string) => self.property_string(&item.places, string),
            ItemKind::Struct(members) => {
                let mut object = ObjectSchema::default();
                for member in members {
                    if self.has(member.presence) {
                        let schema = self.member(&item.places, member, request);
                        object.add(&member.full_name(), member.required, schema);
                    }
                }
                object.finish(true)
            }
        };
        if let Some(about) = about
            && schema.get("description").is_none()
        {
            annotate(&mut schema, "description", about.into());
        }
        schema
    }

    fn member(&mut self, places: &[Place], member: &Member, request: bool) -> Value {
        let name = member.full_name();
        let places: Vec<Place> = places
            .iter()
            .map(|at| {
                let mut at = at.clone();
                at.fields.push(name.clone());
                at
            })
            .collect();
        let text = self.emitter.value_text(
            &places,
            &name,
            &member.facts,
            member.presence,
            member.owner_presence,
        );
        let mut schema = self.schema(&member.ty, request);
        bounds(&mut schema, &member.facts);
        annotate(&mut schema, "description", text.into());
        schema
    }

    /// One text on the wire; its keys are described and, for tools of this project, listed.
    fn property_string(&mut self, places: &[Place], string: &PropertyString) -> Value {
        let mut lines = vec!["A property string, `key=value,key=value`:".to_owned()];
        let mut keys = Map::new();
        for member in &string.members {
            if !self.has(member.presence) {
                continue;
            }
            let schema = self.member(places, member, true);
            let text = schema["description"].as_str().unwrap_or_default();
            let required = match member.required {
                true => " (required)",
                false => "",
            };
            lines.push(format!("* `{}`{required}: {text}", member.name));
            keys.insert(member.name.clone(), schema);
        }
        json!({
            "type": "string",
            "description": lines.join("\n"),
            "x-property-string": {"default_key": string.default_key, "keys": keys},
        })
    }
}

/// Adds a keyword; beside a reference that is allowed since OpenAPI 3.1.
fn annotate(schema: &mut Value, keyword: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(keyword.to_owned(), value);
    }
}

fn bounds(schema: &mut Value, facts: &ValueFacts) {
    let number = ["integer", "number"]
        .iter()
        .any(|ty| schema.get("type").is_some_and(|found| found == ty));
    if number {
        for (keyword, bound) in [("minimum", &facts.minimum), ("maximum", &facts.maximum)] {
            if let Some(bound) = bound {
                annotate(schema, keyword, Value::Number(bound.clone()));
            }
        }
    }
    if let Some(length) = facts.max_length
        && schema.get("type").is_some_and(|found| found == "string")
    {
        annotate(schema, "maxLength", length.into());
    }
    if let Some(default) = &facts.default
        && allows(schema, facts, default)
    {
        annotate(schema, "default", default.clone());
    }
}

/// Whether a default is a value of its own schema; a few mean "unlimited" or the like.
fn allows(schema: &Value, facts: &ValueFacts, default: &Value) -> bool {
    let bound = |bound: &Option<serde_json::Number>, fits: fn(f64, f64) -> bool| match (
        bound.as_ref().and_then(|bound| bound.as_f64()),
        default.as_f64(),
    ) {
        (Some(bound), Some(value)) => fits(value, bound),
        _ => true,
    };
    let ty = match default {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        _ => return false,
    };
    schema
        .get("type")
        .is_some_and(|found| found == ty || (found == "number" && ty == "integer"))
        && bound(&facts.minimum, |value, bound| value >= bound)
        && bound(&facts.maximum, |value, bound| value <= bound)
}

/// The permissions of a caller, in the notation of `schema/`; an empty list if any login suffices,
/// or none is needed.
fn privileges(endpoint: &Endpoint) -> Value {
    let Some(permissions) = &endpoint.permissions else {
        return json!([{"root": true}]);
    };
    let declared = permissions.check.iter().map(check_json);
    let handlers = endpoint.privileges.iter().map(|privilege| {
        let mut entry = Map::new();
        if !privilege.given.is_empty() {
            entry.insert("given".to_owned(), json!(privilege.given));
        }
        if let Some(when) = &privilege.when {
            entry.insert("when".to_owned(), json!(when));
        }
        if let Some(rows) = &privilege.rows {
            entry.insert("rows".to_owned(), json!(rows));
        }
        match (entry.is_empty(), need_json(&privilege.check)) {
            (true, check) => check,
            (false, check) => {
                entry.insert("check".to_owned(), check);
                Value::Object(entry)
            }
        }
    });
    declared.chain(handlers).collect()
}

fn need_json(need: &Need) -> Value {
    match need {
        Need::And(needs) => json!({"and": needs.iter().map(need_json).collect::<Vec<_>>()}),
        Need::Or(needs) => json!({"or": needs.iter().map(need_json).collect::<Vec<_>>()}),
        Need::Check(check) => check_json(check),
        Need::Root => json!({"root": true}),
        Need::Other(words) => json!({"other": words}),
    }
}

fn check_json(check: &Check) -> Value {
    match check {
        Check::Or(checks) => json!({"or": checks.iter().map(check_json).collect::<Vec<_>>()}),
        Check::And(checks) => json!({"and": checks.iter().map(check_json).collect::<Vec<_>>()}),
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => {
            let mut entry = json!({"perm": path, "privileges": privileges});
            if *any {
                entry["any"] = true.into();
            }
            if let Some(parameter) = require_param {
                entry["require_param"] = json!(parameter);
            }
            entry
        }
        Check::UserIdGroup {
            privileges,
            groups_param,
        } => json!({"userid_group": privileges, "groups_param": groups_param}),
        Check::UserIdParam(what) => json!({"userid_param": what}),
        Check::PermModify(path) => json!({"perm_modify": path}),
        Check::UserParam(parameter) => json!({"user_param": parameter}),
        Check::Roles(roles) => json!({"roles": roles}),
    }
}

#[derive(Default)]
struct ObjectSchema {
    properties: Map<String, Value>,
    indexed: Map<String, Value>,
    required: Vec<String>,
}

impl ObjectSchema {
    fn add(&mut self, name: &str, required: bool, schema: Value) {
        match name.strip_suffix("[n]") {
            Some(prefix) => {
                self.indexed.insert(format!("^{prefix}[0-9]+$"), schema);
            }
            None => {
                self.properties.insert(name.to_owned(), schema);
                if required {
                    self.required.push(name.to_owned());
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.indexed.is_empty()
    }

    fn finish(self, open: bool) -> Value {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), Value::Object(self.properties));
        if !self.indexed.is_empty() {
            schema.insert("patternProperties".to_owned(), Value::Object(self.indexed));
        }
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), self.required.into());
        }
        schema.insert("additionalProperties".to_owned(), open.into());
        Value::Object(schema)
    }
}

impl Emitter<'_> {
    fn list_item(&self, of: &Ty) -> String {
        match of {
            Ty::Item(id) => format!("each a `{}`", self.names.items[*id]),
            Ty::GuestNumber => "of guest numbers".to_owned(),
            Ty::Integer => "of integers".to_owned(),
            Ty::TextType(name) => format!("each a `{name}`"),
            _ => "of texts".to_owned(),
        }
    }
}
