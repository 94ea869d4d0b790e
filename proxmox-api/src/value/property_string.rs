//! Property strings: several keys and values in one text, such as
//! `virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1` ([wire protocol §4](crate::guide::wire_protocol)).

use std::fmt;

use serde_json::Value;

use crate::value::api_value::{
    ApiValue, Expected, Extra, Kind, Object, ObjectSchema, Scalar, Target, View, text_of,
};
use crate::value::compare;
use crate::value::encode::ParamValue;
use crate::value::limits;
use crate::value::parameter::OneText;
use crate::value::problem::Problem;
use crate::value::secret::{is_secret, is_secret_text};

pub use crate::value::unknown_keys::{Between, PropertyStringRules, UnknownKeys};

/// A text that is not a valid property string of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyError(String);

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PropertyError {}

/// Parses `text` into the members of `into`, all empty.
#[doc(hidden)]
pub fn parse(text: &str, into: &mut dyn Object) -> Result<(), PropertyError> {
    let mut result = Ok(());
    into.fields_mut(&mut |schema, fields| {
        if let Some(rules) = schema.rules {
            result = fill(text, schema, rules, fields, true);
        }
    });
    result?;
    match problem(into) {
        Some(problem) => Err(PropertyError(match problem.value {
            Some(value) => format!("it accepts {}; not {value:?}", problem.allowed),
            None => format!("it takes {}", problem.allowed),
        })),
        None => Ok(()),
    }
}

/// Reads `text`, and keeps it unchanged if it does not parse.
#[doc(hidden)]
#[inline]
pub fn read<T: Object>(text: &str) -> T {
    let mut value = T::empty();
    // A text is always accepted.
    let _ = set_scalar(&mut value, &text.into());
    value
}

/// The kind of property strings.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "never made")]
pub enum PropertyStrings {}

impl<T: Object + 'static> Kind<T> for PropertyStrings {
    fn empty() -> T {
        T::empty()
    }

    fn set_scalar(target: &mut T, value: &Scalar<'_>) -> Result<(), Expected> {
        set_scalar(target, value)
    }

    fn target(value: &mut T) -> Target<'_> {
        Target::Object(value)
    }

    fn view(value: &T) -> View<'_> {
        View::Object(value)
    }
}

impl<T: Object + 'static> OneText<T> for PropertyStrings {
    fn read(text: &str) -> T {
        read(text)
    }

    fn to_param(value: &T) -> ParamValue {
        to_param(value)
    }

    fn problem(value: &T) -> Option<Problem> {
        problem(value)
    }
}

/// A property string accepts a text.
pub(crate) fn set_scalar(object: &mut dyn Object, value: &Scalar<'_>) -> Result<(), Expected> {
    let mut result = Ok(());
    object.fields_mut(&mut |schema, fields| {
        let Some(rules) = schema.rules else {
            result = Err("object");
            return;
        };
        let Some(text) = value.text() else {
            result = Err("property string");
            return;
        };
        if fill(&text, schema, rules, fields, false).is_err() {
            for field in fields.iter_mut() {
                // Every key of a property string can be empty.
                let _ = field.set_scalar(&Scalar::Reset);
            }
            if let Some(unknown) = unknown_keys(fields) {
                unknown.text = Some(text.into_owned());
            }
        }
    });
    result
}

fn unknown_keys<'a>(fields: &'a mut [&mut dyn ApiValue]) -> Option<&'a mut UnknownKeys> {
    match fields.last_mut()?.target() {
        Target::UnknownKeys(unknown) => Some(unknown),
        _ => None,
    }
}

/// Refuses a number in a spelling that the server does not take.
fn check_spelling(read: &View<'_>, text: &str) -> Result<(), Expected> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match read {
        View::Scalar(Scalar::Int(_) | Scalar::UInt(_))
            if !digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Err("integer")
        }
        View::Scalar(Scalar::Float(_)) if text.trim() != text => Err("number"),
        _ => Ok(()),
    }
}

fn fill(
    text: &str,
    schema: &ObjectSchema,
    rules: &PropertyStringRules,
    fields: &mut [&mut dyn ApiValue],
    strict: bool,
) -> Result<(), PropertyError> {
    let mut parts = 0;
    let mut from = 0;
    // A bit for each declared key.
    let mut seen = 0_u128;
    let mut assign = |key: &str, value: &str| -> Result<(), PropertyError> {
        let twice = match schema.find(key, &mut from) {
            Some(index) => {
                let bit = 1_u128.checked_shl(index as u32).unwrap_or_default();
                let twice = seen & bit != 0;
                seen |= bit;
                let set = fields[index].set_scalar(&value.into());
                let checked = match set {
                    Ok(()) if strict => check_spelling(&fields[index].view(), value),
                    set => set,
                };
                checked.map_err(|expected| {
                    PropertyError(format!("the value of `{key}` is not of type {expected}"))
                })?;
                twice
            }
            None if strict => {
                return Err(PropertyError(format!("there is no key `{key}`")));
            }
            None => unknown_keys(fields).is_some_and(|unknown| {
                let old = unknown.keys.insert(key.to_owned(), value.to_owned());
                old.is_some()
            }),
        };
        match twice {
            false => Ok(()),
            true => Err(PropertyError(format!("the key `{key}` is given twice"))),
        }
    };
    for part in text.split(',') {
        if part.trim().is_empty() {
            continue;
        }
        // The server reads blanks as part of the key or value.
        let part = if strict { part } else { part.trim() };
        parts += 1;
        let (key, value) = match (part.split_once('='), rules.default_key) {
            (Some(pair), _) if !pair.0.is_empty() => pair,
            (Some(_), _) => {
                return Err(PropertyError(format!("the part number {parts} has no key")));
            }
            (None, Some(key)) => (key, part),
            (None, None) => {
                return Err(PropertyError(format!("the part number {parts} has no key")));
            }
        };
        if strict && value.is_empty() {
            return Err(PropertyError(format!(
                "the part number {parts} has no value"
            )));
        }
        if let Some((name, holder, kind)) = rules.key_aliases.iter().find(|(name, ..)| *name == key)
        {
            assign(kind, name)?;
            assign(holder, value)?;
        } else {
            let alias = rules.aliases.iter().find(|(alias, _)| *alias == key);
            assign(alias.map_or(key, |(_, key)| key), value)?;
        }
    }
    let missing = |(index, _): &(usize, _)| seen & (1 << index) == 0;
    match schema.required.iter().enumerate().find(missing) {
        None => Ok(()),
        Some((_, key)) => Err(PropertyError(format!("the key `{key}` is missing"))),
    }
}

impl ApiValue for UnknownKeys {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        match value {
            Scalar::Reset => {
                *self = Self::default();
                Ok(())
            }
            _ => Err("object"),
        }
    }

    fn target(&mut self) -> Target<'_> {
        Target::UnknownKeys(self)
    }

    fn view(&self) -> View<'_> {
        View::UnknownKeys(self)
    }
}

/// Writes `value` as the server reads it, without secrets.
#[doc(hidden)]
pub fn write(value: &dyn Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match Parts::of(value, Secrets::Hidden) {
        Some(parts) => f.write_str(&parts.join()),
        None => Ok(()),
    }
}

/// `value` as the server reads it.
fn to_param(value: &dyn Object) -> ParamValue {
    ParamValue::One(text(value).unwrap_or_default())
}

/// A property string as the server reads it; `None` for another object.
pub(crate) fn text(value: &dyn Object) -> Option<String> {
    Some(Parts::of(value, Secrets::Plain)?.join())
}

/// How secrets in a text are treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Plain,
    /// They are replaced.
    Hidden,
    /// They are left out.
    LeftOut,
}

impl Secrets {
    /// The replacement of a secret.
    fn of(self, text: String) -> Option<String> {
        match self {
            Self::Plain => Some(text),
            Self::Hidden => Some("…".to_owned()),
            Self::LeftOut => None,
        }
    }
}

/// The parts of a property string.
struct Parts {
    rules: &'static PropertyStringRules,
    /// The keys that are set, with their values: the declared ones, and then all others.
    pairs: Vec<(String, String)>,
    /// The number of declared ones.
    declared: usize,
    /// The whole text, if it did not parse.
    text: Option<String>,
    /// Members of the parsed form that are not texts.
    nested: Extra,
    is_parsed_form: bool,
}

impl Parts {
    fn of(value: &dyn Object, secrets: Secrets) -> Option<Self> {
        let mut parts = None;
        value.fields(&mut |schema, fields| {
            parts = schema
                .rules
                .map(|rules| Self::of_fields(schema, rules, fields, secrets));
        });
        parts
    }

    fn of_fields(
        schema: &ObjectSchema,
        rules: &'static PropertyStringRules,
        fields: &[&dyn ApiValue],
        secrets: Secrets,
    ) -> Self {
        let mut pairs = Vec::new();
        let mut has_secret = false;
        for (key, field) in schema.names().zip(fields) {
            let view = field.view();
            let text = match (&view, view.text()) {
                (View::Secret(_), Some(text)) => secrets.of(text),
                (_, text) => text,
            };
            has_secret |= matches!(view, View::Secret(_) | View::AbsentSecret);
            pairs.extend(text.map(|text| (key.to_owned(), text)));
        }
        let declared = pairs.len();
        let nothing = UnknownKeys::default();
        let view = fields.last().map(|field| field.view());
        let unknown = match view {
            Some(View::UnknownKeys(unknown)) => unknown,
            _ => &nothing,
        };
        let without_secrets =
            |key: &str, text: String| match is_secret(key) || is_secret_text(&text) {
                true => secrets.of(text),
                false => Some(text),
            };
        let keys = unknown.keys.iter();
        pairs.extend(
            keys.filter_map(|(key, text)| Some((key.clone(), without_secrets(key, text.clone())?))),
        );
        let mut nested = Extra::new();
        for (key, value) in &unknown.members {
            match text_of(value) {
                Some(text) => {
                    pairs.extend(without_secrets(key, text).map(|text| (key.clone(), text)))
                }
                None if secrets == Secrets::Plain || !is_secret(key) => {
                    nested.insert(key.clone(), value.clone());
                }
                None => {}
            }
        }
        let text = unknown.text.clone().map(|text| {
            let is_secret = has_secret || is_secret(&text) || is_secret_text(&text);
            match is_secret {
                true => secrets.of(text).unwrap_or_default(),
                false => text,
            }
        });
        Self {
            rules,
            pairs,
            declared,
            text,
            nested,
            is_parsed_form: !unknown.members.is_empty(),
        }
    }

    /// Takes over the keys of another.
    fn absorb(&mut self, other: Self) {
        let (declared, unknown) = other.pairs.split_at(other.declared);
        for (key, value) in declared {
            let known = self.pairs.iter_mut().find(|(name, _)| name == key);
            match known {
                Some((_, old)) => old.clone_from(value),
                None => {
                    let pair = (key.clone(), value.clone());
                    self.pairs.insert(self.declared, pair);
                    self.declared += 1;
                }
            }
        }
        for (key, value) in unknown {
            match self.pairs.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => old.clone_from(value),
                None => self.pairs.push((key.clone(), value.clone())),
            }
        }
    }

    fn join(mut self) -> String {
        if let Some(text) = self.text {
            return text;
        }
        let pairs = &mut self.pairs;
        let find = |pairs: &[(String, String)], key: &str| pairs.iter().position(|(k, _)| k == key);
        // The server itself writes `virtio=MAC` for model=virtio,macaddr=MAC.
        for (name, holder, kind) in self.rules.key_aliases {
            let declared = &pairs[..self.declared];
            let (Some(kind), Some(holder)) = (find(declared, kind), find(declared, holder)) else {
                continue;
            };
            if pairs[kind].1 != *name {
                continue;
            }
            let (_, held) = pairs.remove(holder);
            self.declared -= 1;
            let kind = if holder < kind { kind - 1 } else { kind };
            pairs[kind] = ((*name).to_owned(), held);
        }
        // The default key is first and bare; a value that contains `=` would be read as a key.
        if let Some(default) = self.rules.default_key.and_then(|key| find(pairs, key)) {
            let (key, value) = pairs.remove(default);
            let bare = !value.is_empty() && !value.contains('=');
            pairs.insert(0, (if bare { String::new() } else { key }, value));
        }
        let mut text = String::new();
        for (key, value) in pairs.iter() {
            let comma = if text.is_empty() { "" } else { "," };
            let equals = if key.is_empty() { "" } else { "=" };
            text.extend([comma, key, equals, value]);
        }
        text
    }
}

/// The text of `value` after adding the keys of `desired`; `None` if it has them.
pub(crate) fn merged(value: &dyn Object, desired: &dyn Object) -> Option<String> {
    let mut differs = false;
    value.fields(&mut |_, has| {
        desired.fields(&mut |_, wants| {
            differs = has
                .iter()
                .zip(wants)
                .any(|(has, wants)| match (has.view(), wants.view()) {
                    (_, View::Absent | View::AbsentSecret) => false,
                    (View::UnknownKeys(has), View::UnknownKeys(wants)) => {
                        let mut keys = wants.keys.iter();
                        wants.text.is_some() && has.text != wants.text
                            || keys.any(|(key, text)| has.keys.get(key) != Some(text))
                    }
                    (has, wants) => !compare::views(&has, &wants),
                });
        });
    });
    if !differs {
        return None;
    }
    let desired = Parts::of(desired, Secrets::Plain)?;
    let mut parts = Parts::of(value, Secrets::Plain)?;
    if desired.text.is_some() || parts.text.is_some() {
        return Some(desired.join());
    }
    parts.absorb(desired);
    Some(parts.join())
}

/// A property string as JSON: as a text, or in parsed form if the text would be misread; `None` for
/// another object.
pub(crate) fn to_json(value: &dyn Object, secrets: bool) -> Option<Value> {
    let secrets = match secrets {
        true => Secrets::Plain,
        false => Secrets::LeftOut,
    };
    let parts = Parts::of(value, secrets)?;
    // White space around a part is ignored.
    let plain = |(key, value): &(String, String)| {
        let start = match parts.rules.default_key == Some(key) {
            true => value,
            false => key,
        };
        let inside = start.trim_start() == start && value.trim_end() == value;
        inside && !key.is_empty() && !key.contains([',', '=']) && !value.contains(',')
    };
    if parts.text.is_some() || !parts.is_parsed_form && parts.pairs.iter().all(plain) {
        return Some(parts.join().into());
    }
    let mut members = parts.nested;
    for (key, value) in parts.pairs {
        members.entry(key).or_insert(value.into());
    }
    Some(members.into())
}

/// A value that would be misread, for example because a comma starts a new key, or that no server
/// accepts.
#[doc(hidden)]
pub fn problem(value: &dyn Object) -> Option<Problem> {
    let mut found = None;
    value.fields(&mut |schema, fields| {
        if let Some(rules) = schema.rules {
            found = problem_of(schema, rules, fields);
        }
    });
    let parts = Parts::of(value, Secrets::Plain)?;
    if parts.text.is_some() {
        // A text that did not parse is kept and sent unchanged.
        return found.filter(|problem| problem.certain);
    }
    if found.as_ref().is_some_and(|problem| problem.certain) {
        return found;
    }
    let wrong = |(key, _): &&(String, String)| key.is_empty() || key.contains([',', '=']);
    if let Some((key, _)) = parts.pairs[parts.declared..].iter().find(wrong) {
        return Some(Problem::certain(
            key,
            "keys without a comma or an equals sign, which end a key",
        ));
    }
    if let Some((key, _)) = parts.pairs.iter().find(|(_, text)| text.contains(',')) {
        return Some(Problem {
            certain: true,
            value: None,
            allowed: format!(
                "no comma in the value of its key `{key}`, where it would begin a new key"
            ),
        });
    }
    let value = |key: &str| -> Option<String> {
        let (_, text) = parts.pairs.iter().find(|(name, _)| name == key)?;
        Some(text.clone())
    };
    found.or_else(|| {
        let rules = parts.rules.between.iter();
        let allowed = rules
            .copied()
            .find_map(|rule| rule.broken(value, &parts.pairs))?;
        Some(Problem {
            certain: false,
            value: None,
            allowed,
        })
    })
}

/// The worst problem of single keys.
fn problem_of(
    schema: &ObjectSchema,
    rules: &PropertyStringRules,
    fields: &[&dyn ApiValue],
) -> Option<Problem> {
    if let Some(View::UnknownKeys(unknown)) = fields.last().map(|field| field.view())
        && let Some(problem) = &unknown.problem
    {
        return Some(problem.clone());
    }
    let mut doubt = None;
    for (key, field) in schema.names().zip(fields) {
        let view = field.view();
        let beyond = || limits::beyond_one(rules.limits, key, &view.text()?);
        let Some(mut problem) = view.problem().or_else(beyond) else {
            continue;
        };
        problem.allowed = format!("{} for its key `{key}`", problem.allowed);
        problem.value = problem.value.filter(|_| !matches!(view, View::Secret(_)));
        match problem.certain {
            true => return Some(problem),
            false => doubt = doubt.or(Some(problem)),
        }
    }
    doubt
}

/// The methods and traits of every property string, apart from its keys. Of the conversions from
/// texts the documentation shows the one from `&str`.
macro_rules! property_string_impls {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = property_string::PropertyError;

            #[inline]
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut value = <Self as Object>::empty();
                property_string::parse(text, &mut value)?;
                Ok(value)
            }
        }

        /// The text is not checked here: a text that does not parse is sent unchanged.
        impl From<&str> for $name {
            #[inline]
            fn from(text: &str) -> Self {
                property_string::read(text)
            }
        }

        /// The form that the server reads, without secrets, which do not print.
        impl fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                property_string::write(self, f)
            }
        }
    };
}

pub(crate) use property_string_impls;
