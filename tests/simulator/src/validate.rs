//! Parameter checks with Proxmox's rules and texts (wire protocol §4 and §6).

use std::collections::BTreeMap;

use proxmox_codegen::facts::{Additional, Format, Parameters, Schema, Schemas, Type};

use crate::formats;
use crate::params::{Param, Params};
use crate::pattern;
use crate::propstring;
use crate::schema::{lookup, split_index};

/// Refused parameters: name to text.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub(crate) BTreeMap<String, String>);

impl Errors {
    fn add(&mut self, path: &str, text: impl Into<String>) {
        let text = text.into();
        match self.0.get_mut(path) {
            // The real separator is a backslash and an n, not a line break.
            Some(old) => {
                old.push_str("\\n");
                old.push_str(&text);
            }
            None => {
                self.0.insert(path.to_owned(), text);
            }
        }
    }
}

pub(crate) struct Validator<'a> {
    pub(crate) formats: &'a BTreeMap<String, Schemas>,
}

impl Validator<'_> {
    /// Checks a request, after turning lone values into arrays and arrays into lists where the schema asks for it.
    pub(crate) fn request(&self, parameters: &Parameters, params: &mut Params) -> Errors {
        for (name, param) in params.iter_mut() {
            if let Some(schema) = lookup(&parameters.properties, name) {
                normalize(schema, param);
            }
        }
        let mut errors = Errors::default();
        let additional = parameters.additional.map(Additional::Allowed);
        self.object(
            "",
            &parameters.properties,
            params,
            additional.as_ref(),
            &mut errors,
        );
        errors
    }

    fn object(
        &self,
        path: &str,
        schemas: &Schemas,
        values: &Params,
        additional: Option<&Additional>,
        errors: &mut Errors,
    ) {
        let at = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        for (name, schema) in schemas {
            if name.ends_with("[n]") {
                continue;
            }
            if let Some(wanted) = &schema.instance_types {
                let fits = schema
                    .type_property
                    .as_ref()
                    .and_then(|property| values.get(property))
                    .and_then(Param::text)
                    .is_none_or(|value| wanted.iter().any(|w| w == value));
                if !fits && !values.contains_key(name) {
                    continue;
                }
            }
            match values.get(name) {
                Some(value) => self.value(&at(name), schema, value, values, errors),
                None if schema.optional
                    || schema.alias.is_some()
                    || schema.one_of.is_some()
                    || schema.ty == Some(Type::Null) => {}
                None => errors.add(&at(name), "property is missing and it is not optional"),
            }
        }
        for (name, value) in values {
            let known = schemas.get(name);
            let schema = known.or_else(|| lookup(schemas, name));
            let Some(schema) = schema else {
                match additional {
                    Some(Additional::Allowed(false)) => errors.add(
                        &at(name),
                        "property is not defined in schema and the schema does not allow additional properties",
                    ),
                    Some(Additional::Schema(schema)) => {
                        self.value(&at(name), schema, value, values, errors);
                    }
                    _ => {}
                }
                continue;
            };
            if known.is_none() {
                self.value(&at(name), schema, value, values, errors);
            }
            if let Some(required) = &schema.requires
                && !values.contains_key(required)
            {
                errors.add(
                    &at(required),
                    format!("missing property required by '{}'", at(name)),
                );
            }
        }
    }

    fn value(
        &self,
        path: &str,
        schema: &Schema,
        value: &Param,
        siblings: &Params,
        errors: &mut Errors,
    ) {
        if let Some(choices) = &schema.one_of {
            self.one_of(path, schema, choices, value, siblings, errors);
            return;
        }
        if !type_fits(path, schema.ty, value, errors) {
            return;
        }
        match value {
            Param::Text(text) => self.text(path, schema, text, errors),
            Param::List(items) => {
                if let Some(item) = &schema.items {
                    for (index, value) in items.iter().enumerate() {
                        self.value(&format!("{path}[{index}]"), item, value, siblings, errors);
                    }
                }
            }
            Param::Map => {}
        }
    }

    fn one_of(
        &self,
        path: &str,
        schema: &Schema,
        choices: &[Schema],
        value: &Param,
        siblings: &Params,
        errors: &mut Errors,
    ) {
        let kind = schema
            .type_property
            .as_ref()
            .and_then(|property| siblings.get(property))
            .and_then(Param::text);
        let mut first = None;
        for choice in choices {
            let wanted = choice.instance_types.as_deref().unwrap_or_default();
            if kind.is_some_and(|kind| !wanted.is_empty() && !wanted.iter().any(|w| w == kind)) {
                continue;
            }
            let mut tried = Errors::default();
            let lone;
            let value = if choice.items.is_some() && matches!(value, Param::Text(_)) {
                lone = Param::List(vec![value.clone()]);
                &lone
            } else {
                value
            };
            self.value(path, choice, value, siblings, &mut tried);
            if tried.0.is_empty() {
                return;
            }
            first.get_or_insert(tried);
        }
        for (path, text) in first.unwrap_or_default().0 {
            errors.add(&path, text);
        }
    }

    fn text(&self, path: &str, schema: &Schema, text: &str, errors: &mut Errors) {
        if let Some(format) = &schema.format
            && let Err(error) = self.format(path, format, text)
        {
            errors.add(path, format!("invalid format - {error}"));
            return;
        }
        if let Some(pattern) = &schema.pattern
            && pattern::matches(pattern, text) == Some(false)
        {
            errors.add(path, "value does not match the regex pattern");
            return;
        }
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            errors.add(path, format!("value may only be {max} characters long"));
            return;
        }
        if let Some(min) = schema.min_length.filter(|min| length < *min) {
            errors.add(
                path,
                format!("value must be at least {min} characters long"),
            );
            return;
        }
        if let Some(number) = number(text) {
            let beyond = |bound: &Option<serde_json::Number>, over: fn(f64, f64) -> bool| {
                bound
                    .as_ref()
                    .filter(|bound| bound.as_f64().is_some_and(|b| over(number, b)))
                    .cloned()
            };
            if let Some(max) = beyond(&schema.maximum, |n, b| n > b) {
                errors.add(path, format!("value must have a maximum value of {max}"));
                return;
            }
            if let Some(min) = beyond(&schema.minimum, |n, b| n < b) {
                errors.add(path, format!("value must have a minimum value of {min}"));
                return;
            }
        }
        if let Some(values) = &schema.values
            && !values.iter().any(|v| v == text)
        {
            errors.add(
                path,
                format!(
                    "value '{text}' does not have a value in the enumeration '{}'",
                    values.join(", ")
                ),
            );
        }
    }

    fn format(&self, path: &str, format: &Format, text: &str) -> Result<(), String> {
        let schemas = match format {
            Format::Keys(schemas) => schemas,
            Format::List(_) => return Ok(()),
            Format::Name(name) => match self.formats.get(name) {
                Some(schemas) => schemas,
                None => return formats::check(name, text).unwrap_or(Ok(())),
            },
        };
        let keys = propstring::parse(schemas, text).map_err(|error| format!("{error}\n"))?;
        let pruning = matches!(format, Format::Name(name) if name == "prune-backups");
        if pruning && keys.get("keep-all").is_some_and(|all| all == "1") && keys.len() > 1 {
            return Err("keep-all cannot be set together with other options.\n".into());
        }
        let values: Params = keys
            .into_iter()
            .map(|(key, value)| (key, Param::Text(value)))
            .collect();
        let mut errors = Errors::default();
        self.object(
            path,
            schemas,
            &values,
            Some(&Additional::Allowed(false)),
            &mut errors,
        );
        if errors.0.is_empty() {
            return Ok(());
        }
        let mut text = "format error\n".to_owned();
        for (path, error) in &errors.0 {
            text.push_str(&format!("{path}: {}\n", error.trim_end_matches('\n')));
        }
        Err(text)
    }
}

fn normalize(schema: &Schema, param: &mut Param) {
    if schema.ty == Some(Type::Array) {
        // Perl truth: "0" and "" are not wrapped and then fail the type check.
        if matches!(param, Param::Text(text) if !text.is_empty() && text != "0") {
            let text = std::mem::replace(param, Param::Map);
            *param = Param::List(vec![text]);
        }
    } else if let (Param::List(items), Some(Format::Name(name))) = (&*param, &schema.format)
        && name.ends_with("-list")
    {
        let joined: Vec<&str> = items.iter().filter_map(Param::text).collect();
        *param = Param::Text(joined.join(","));
    }
}

fn type_fits(path: &str, ty: Option<Type>, value: &Param, errors: &mut Errors) -> bool {
    let Some(ty) = ty else { return true };
    let name = match ty {
        Type::Any => return true,
        ty => ty.name(),
    };
    match (value, ty) {
        (Param::List(_), Type::Array)
        | (Param::Map, Type::Object)
        | (Param::Text(_), Type::String) => true,
        (Param::List(_), _) => {
            errors.add(path, format!("type check ('{name}') failed - got ARRAY"));
            false
        }
        (Param::Map, _) => {
            errors.add(path, format!("type check ('{name}') failed - got HASH"));
            false
        }
        (Param::Text(_), Type::Array | Type::Object | Type::Null) => {
            errors.add(path, format!("type check ('{name}') failed"));
            false
        }
        (Param::Text(text), _) => {
            let fits = match ty {
                Type::Boolean => matches!(text.as_str(), "0" | "1"),
                Type::Integer => is_integer(text),
                _ => number(text).is_some(),
            };
            if !fits {
                errors.add(path, format!("type check ('{name}') failed - got '{text}'"));
            }
            fits
        }
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The number a text spells, if it spells one.
fn number(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain && text.bytes().any(|b| b.is_ascii_digit()) {
        text.strip_prefix('+').unwrap_or(text).parse().ok()
    } else {
        None
    }
}

/// Whether a parameter name is `family` plus an index.
pub(crate) fn in_family(name: &str, family: &str) -> bool {
    split_index(name).is_some_and(|(f, _)| f == family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string() -> Schema {
        Schema {
            ty: Some(Type::String),
            optional: true,
            ..Schema::default()
        }
    }

    fn check(schemas: Schemas, params: &[(&str, Param)]) -> BTreeMap<String, String> {
        let formats = BTreeMap::new();
        let validator = Validator { formats: &formats };
        let mut params = params
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        let parameters = Parameters {
            additional: Some(false),
            properties: schemas,
        };
        validator.request(&parameters, &mut params).0
    }

    fn t(text: &str) -> Param {
        Param::Text(text.into())
    }

    #[test]
    fn types() {
        let schemas = || {
            Schemas::from([
                (
                    "i".into(),
                    Schema {
                        ty: Some(Type::Integer),
                        minimum: Some(0.into()),
                        ..string()
                    },
                ),
                (
                    "b".into(),
                    Schema {
                        ty: Some(Type::Boolean),
                        ..string()
                    },
                ),
                (
                    "n".into(),
                    Schema {
                        ty: Some(Type::Number),
                        maximum: Some(8.into()),
                        ..string()
                    },
                ),
                ("s".into(), string()),
                (
                    "a".into(),
                    Schema {
                        ty: Some(Type::Array),
                        ..string()
                    },
                ),
            ])
        };
        let one = |name: &str, value: Param| check(schemas(), &[(name, value)]).remove(name);
        assert_eq!(one("i", t("+1")), None);
        assert_eq!(
            one("i", t("")).as_deref(),
            Some("type check ('integer') failed - got ''")
        );
        assert_eq!(
            one("i", t("2.5")).as_deref(),
            Some("type check ('integer') failed - got '2.5'")
        );
        assert_eq!(
            one("i", t("-1")).as_deref(),
            Some("value must have a minimum value of 0")
        );
        assert_eq!(
            one("b", t("true")).as_deref(),
            Some("type check ('boolean') failed - got 'true'")
        );
        assert_eq!(one("n", t("1e0")), None);
        assert_eq!(
            one("n", t("8.5")).as_deref(),
            Some("value must have a maximum value of 8")
        );
        assert_eq!(
            one("n", t("inf")).as_deref(),
            Some("type check ('number') failed - got 'inf'")
        );
        assert_eq!(
            one("s", Param::List(vec![t("a")])).as_deref(),
            Some("type check ('string') failed - got ARRAY")
        );
        assert_eq!(
            one("s", Param::Map).as_deref(),
            Some("type check ('string') failed - got HASH")
        );
        assert_eq!(one("a", t("x")), None);
        assert_eq!(
            one("a", t("0")).as_deref(),
            Some("type check ('array') failed")
        );
    }

    #[test]
    fn presence_and_relations() {
        let schemas = Schemas::from([
            (
                "must".into(),
                Schema {
                    optional: false,
                    ..string()
                },
            ),
            (
                "sum".into(),
                Schema {
                    requires: Some("algo".into()),
                    ..string()
                },
            ),
            ("algo".into(), string()),
            (
                "net[n]".into(),
                Schema {
                    max_length: Some(3),
                    ..string()
                },
            ),
        ]);
        let errors = check(
            schemas,
            &[
                ("sum", t("x")),
                ("bogus", t("1")),
                ("net31", t("long")),
                ("net32", t("x")),
            ],
        );
        assert_eq!(errors["must"], "property is missing and it is not optional");
        assert_eq!(errors["algo"], "missing property required by 'sum'");
        assert_eq!(errors["net31"], "value may only be 3 characters long");
        let unknown =
            "property is not defined in schema and the schema does not allow additional properties";
        assert_eq!(errors["bogus"], unknown);
        assert_eq!(errors["net32"], unknown);
        assert_eq!(errors.len(), 5);
    }

    #[test]
    fn property_string_errors_name_the_key() {
        let memory = Schemas::from([(
            "current".into(),
            Schema {
                ty: Some(Type::Integer),
                default_key: true,
                ..string()
            },
        )]);
        let schemas = Schemas::from([(
            "memory".into(),
            Schema {
                format: Some(Format::Keys(memory)),
                ..string()
            },
        )]);
        assert_eq!(
            check(schemas, &[("memory", t("abc"))])["memory"],
            "invalid format - format error\nmemory.current: type check ('integer') failed - got 'abc'\n"
        );
    }

    #[test]
    fn lists_join_and_enums_name_their_values() {
        let schemas = Schemas::from([
            (
                "tags".into(),
                Schema {
                    format: Some(Format::Name("pve-tag-list".into())),
                    ..string()
                },
            ),
            (
                "e".into(),
                Schema {
                    values: Some(vec!["a".into(), "b".into()]),
                    ..string()
                },
            ),
        ]);
        let errors = check(
            schemas,
            &[("tags", Param::List(vec![t("a"), t("b")])), ("e", t("x"))],
        );
        assert_eq!(errors.len(), 1);
        assert_eq!(
            errors["e"],
            "value 'x' does not have a value in the enumeration 'a, b'"
        );
    }
}
