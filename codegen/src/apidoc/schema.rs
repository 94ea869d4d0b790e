//! Schemas: parameters, results and property strings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::import::{Import, Usage, boolean, number};
use super::keys::Position;
use super::problems::Problem;
use crate::facts::{Additional, Format, Schema, Schemas, Type};
use crate::json::{Json, point};
use crate::product::Dialect;
use crate::typetext;

impl Import {
    fn schemas(&mut self, at: &str, json: &Json, position: Position) -> Schemas {
        self.members(at, json)
            .into_iter()
            .map(|(name, json)| {
                (
                    name.to_owned(),
                    self.schema(&point(at, name), json, position),
                )
            })
            .collect()
    }

    pub(super) fn schema(&mut self, at: &str, json: &Json, position: Position) -> Schema {
        let mut schema = Schema::default();
        let (mut default, mut usage, mut tag) = (None, None, None);
        for (key, value) in self.members(at, json) {
            let at = &point(at, key);
            if !position.allows(self.dialect, key) {
                self.unknown(at, key, position.name());
                continue;
            }
            match key {
                "description" | "verbose_description" | "format_description" | "title" => {
                    self.string(at, value);
                }
                "typetext" => usage = self.string(at, value),
                "type" => schema.ty = self.ty(at, value),
                "optional" => schema.optional = self.flag(at, value),
                "default" => default = Some(value),
                "enum" => {
                    if *value != Json::Null {
                        schema.values = Some(self.strings(at, value));
                    }
                }
                "minimum" => schema.minimum = self.bound(at, value),
                "maximum" => schema.maximum = self.bound(at, value),
                "min" | "max" => {
                    self.bound(at, value);
                }
                "minLength" => schema.min_length = self.length(at, value),
                "maxLength" => schema.max_length = self.length(at, value),
                "pattern" => {
                    let pattern = self.string(at, value);
                    schema.pattern = pattern.map(|pattern| self.pattern(pattern).to_owned());
                }
                "format" => schema.format = self.format(at, value),
                "requires" => schema.requires = self.owned(at, value),
                "alias" => schema.alias = self.owned(at, value),
                "keyAlias" => schema.key_alias = self.owned(at, value),
                "default_key" => schema.default_key = self.flag(at, value),
                "properties" => schema.properties = Some(self.schemas(at, value, position.inner())),
                "additionalProperties" => {
                    schema.additional = Some(match value {
                        Json::Object(_) => {
                            Additional::Schema(Box::new(self.schema(at, value, position.inner())))
                        }
                        value => Additional::Allowed(self.flag(at, value)),
                    });
                }
                "items" => schema.items = Some(Box::new(self.schema(at, value, position.inner()))),
                "oneOf" => {
                    let list = self.array(at, value);
                    schema.one_of = Some(
                        list.iter()
                            .enumerate()
                            .map(|(n, json)| self.alternative(&point(at, n), json, position))
                            .collect(),
                    );
                }
                "type-property" | "typeProperty" => schema.type_property = self.owned(at, value),
                "instance-types" => schema.instance_types = Some(self.strings(at, value)),
                "typeSchema" => tag = Some(self.schema(at, value, Position::Tag)),
                "links" => schema.links = Some(self.links(at, value)),
                "renderer" => schema.renderer = self.owned(at, value),
                // Reached only if `Position::allows` and this match disagree.
                _ => self.unknown(at, key, position.name()),
            }
        }
        schema.default =
            default.and_then(|json| self.default(&point(at, "default"), json, &schema));
        if schema.one_of.is_some() && schema.type_property.is_none() {
            self.problem(
                at,
                "a union without a property that distinguishes its alternatives",
            );
        }
        match (tag, &schema.type_property) {
            (None, _) => {}
            (Some(tag), Some(name)) => {
                schema.properties = Some(Schemas::from([(name.clone(), tag)]))
            }
            (Some(_), None) => self.problem(&point(at, "typeSchema"), "a tag schema without a tag"),
        }
        if let (Some(text), Some(Format::Name(name))) = (usage, &schema.format)
            && text.contains('=')
        {
            self.usage(&point(at, "typetext"), name, text);
        }
        schema
    }

    fn ty(&mut self, at: &str, json: &Json) -> Option<Type> {
        match self.string(at, json)?.parse() {
            Ok(ty) => Some(ty),
            Err(message) => {
                self.problem(at, message);
                None
            }
        }
    }

    /// The Rust products write `/^…$/`.
    fn pattern<'j>(&self, pattern: &'j str) -> &'j str {
        match self.dialect {
            Dialect::Perl => pattern,
            Dialect::Rust => pattern
                .strip_prefix('/')
                .and_then(|inner| inner.strip_suffix('/'))
                .unwrap_or(pattern),
        }
    }

    /// One alternative of a union. The Rust products name its tag in the title.
    fn alternative(&mut self, at: &str, json: &Json, position: Position) -> Schema {
        let mut schema = self.schema(at, json, position);
        if let (Dialect::Rust, Json::Object(members)) = (self.dialect, json) {
            schema.instance_types =
                members
                    .iter()
                    .find_map(|(key, value)| match (key.as_str(), value) {
                        ("title", Json::String(title)) => Some(vec![title.clone()]),
                        _ => None,
                    });
        }
        if schema.instance_types.is_none() {
            self.problem(
                at,
                "an alternative of a union that does not say when it applies",
            );
        }
        schema
    }

    fn links(&mut self, at: &str, json: &Json) -> Vec<String> {
        let mut links = Vec::new();
        for (n, json) in self.array(at, json).iter().enumerate() {
            let at = &point(at, n);
            for (key, value) in self.members(at, json) {
                let at = &point(at, key);
                match key {
                    "href" => links.extend(self.owned(at, value)),
                    "rel" => {
                        if !matches!(self.string(at, value), None | Some("child")) {
                            self.expected(at, "\"child\"", value);
                        }
                    }
                    _ => self.unknown(at, key, "on a link"),
                }
            }
        }
        links
    }

    fn format(&mut self, at: &str, json: &Json) -> Option<Format> {
        match (json, self.dialect) {
            (Json::String(name), Dialect::Perl) => Some(Format::Name(name.clone())),
            (Json::Object(_), Dialect::Perl) => {
                Some(Format::Keys(self.schemas(at, json, Position::Key)))
            }
            (Json::Object(_), Dialect::Rust) => self.rust_format(at, json),
            (_, Dialect::Perl) => {
                self.expected(at, "a format name or an object", json);
                None
            }
            (_, Dialect::Rust) => {
                self.expected(at, "an object", json);
                None
            }
        }
    }

    fn rust_format(&mut self, at: &str, json: &Json) -> Option<Format> {
        // Here `default_key` names the key, while a schema's own `default_key` is a flag.
        let mut default_key = None;
        let Json::Object(members) = json else {
            return None;
        };
        let mut rest = Vec::with_capacity(members.len());
        for (key, value) in members {
            if key == "default_key" {
                default_key = self.owned(&point(at, key), value);
            } else {
                rest.push((key.clone(), value.clone()));
            }
        }
        let schema = self.schema(at, &Json::Object(rest), Position::Format);
        match schema.ty {
            Some(Type::Array) => Some(Format::List(Box::new(schema))),
            Some(Type::Object) => {
                // Not kept: property strings keep unknown keys in any case, and no dump describes
                // the type of such a key.
                if let Some(Additional::Schema(_)) = schema.additional {
                    self.problem(
                        &point(at, "additionalProperties"),
                        "a property string whose further keys have a schema",
                    );
                }
                let mut keys = schema.properties.unwrap_or_default();
                if let Some(name) = default_key {
                    match keys.get_mut(&name) {
                        Some(key) => key.default_key = true,
                        None => self.problem(
                            &point(at, "default_key"),
                            format!("there is no key {name:?}"),
                        ),
                    }
                }
                Some(Format::Keys(keys))
            }
            _ => {
                self.problem(at, "expected the type \"array\" or \"object\"");
                None
            }
        }
    }

    /// The default, if it is a value of the schema's type.
    fn default(&mut self, at: &str, json: &Json, schema: &Schema) -> Option<Value> {
        if let Json::Array(_) | Json::Object(_) = json {
            self.expected(at, "a scalar", json);
            return None;
        }
        match (schema.ty, json) {
            (_, Json::Null) => None,
            (Some(Type::Boolean), json) => boolean(json).map(Value::Bool),
            (Some(Type::Integer), json) => number(json)
                .filter(|number| !number.is_f64())
                .map(Value::Number),
            (Some(Type::Number), json) => number(json).map(Value::Number),
            (_, Json::String(text)) => {
                let known = schema
                    .values
                    .as_ref()
                    .is_some_and(|values| values.contains(text));
                (known || !text.contains(char::is_whitespace)).then(|| Value::String(text.clone()))
            }
            (Some(Type::String), Json::Number(number)) => Some(Value::String(number.to_string())),
            (_, json) => {
                let what = schema.ty.map_or("any", Type::name);
                self.expected(at, &format!("a default of type {what}"), json);
                None
            }
        }
    }

    /// Records the usage line of a named format.
    fn usage(&mut self, at: &str, format: &str, text: &str) {
        match self.usages.get(format) {
            None => {
                let usage = Usage {
                    text: text.to_owned(),
                    endpoint: self.endpoint.clone(),
                    pointer: at.to_owned(),
                };
                self.usages.insert(format.to_owned(), usage);
            }
            Some(known) if known.text == text => {}
            Some(known) => {
                let elsewhere = known.endpoint.clone().unwrap_or_default();
                self.problem(
                    at,
                    format!("the usage of {format:?} differs from the one at {elsewhere}"),
                );
            }
        }
    }

    /// The property strings found in usage lines.
    pub(super) fn formats(&mut self) -> BTreeMap<String, Schemas> {
        let mut formats = BTreeMap::new();
        for (name, usage) in std::mem::take(&mut self.usages) {
            match typetext::parse(&usage.text) {
                Ok(keys) => {
                    formats.insert(name, keys);
                }
                Err(message) => self.problems.push(Problem {
                    endpoint: usage.endpoint,
                    pointer: usage.pointer,
                    message: format!("the usage of {name:?} cannot be read: {message}"),
                }),
            }
        }
        formats
    }
}
