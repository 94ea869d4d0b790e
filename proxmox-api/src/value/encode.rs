//! Encoding of typed parameters ([wire protocol §4](crate::guide::wire_protocol)).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::Secret;

pub use crate::value::problem::Problem;

/// All characters except the unreserved ones of RFC 3986: the server also splits on `;` and a
/// second `=`, and reads `+` as a space.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes one value so that no byte of it is read as syntax.
pub(crate) fn escape(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, ESCAPED)
}

/// The text of one parameter, before percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParamValue {
    /// A scalar, or a property string.
    One(String),
    /// An array; the key is sent once for each element.
    Many(Vec<String>),
}

impl ParamValue {
    /// The texts under the parameter's name, in the order they are sent.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    /// Whether it is a list that has this item.
    pub(crate) fn lists(&self, item: &str) -> bool {
        let mut texts = self.texts().iter();
        texts.any(|text| text.split(',').any(|name| name == item))
    }

    /// Renames an item of a list.
    fn rename(&mut self, old: &str, new: &str) {
        let texts = match self {
            Self::One(text) => std::slice::from_mut(text),
            Self::Many(texts) => texts,
        };
        for text in texts {
            let names = text.split(',');
            let names = names.map(|name| if name == old { new } else { name });
            *text = names.collect::<Vec<_>>().join(",");
        }
    }

    /// Whether it is an array of one element that is empty or 0.
    pub(crate) fn is_falsy_array(&self) -> bool {
        matches!(self, Self::Many(texts) if matches!(&texts[..], [only] if matches!(only.as_str(), "" | "0")))
    }
}

/// Parameters in the order they were first set; a key set again replaces its value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(Cow<'static, str>, ParamValue)>);

impl std::fmt::Debug for Params {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|(key, _)| key))
            .finish()
    }
}

impl Params {
    /// Sets a parameter, replacing an earlier value of the same name.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: ParamValue) {
        let key = key.into();
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value set for `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ParamValue> {
        self.iter()
            .find_map(|(known, value)| (known == key).then_some(value))
    }

    /// Every parameter with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamValue)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Renames a parameter, in `delete` too. A parameter that has the new name already stays as it
    /// is.
    pub(crate) fn rename(&mut self, old: &str, new: &'static str) {
        if self.get(new).is_none()
            && let Some((name, _)) = self.0.iter_mut().find(|(name, _)| name == old)
        {
            *name = Cow::Borrowed(new);
        }
        if let Some((_, list)) = self.0.iter_mut().find(|(name, _)| name == "delete") {
            list.rename(old, new);
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the arrays can only be sent in a JSON body: in a form, the server makes an
    /// array of a single value only if Perl reads the value as true.
    pub(crate) fn needs_json(&self) -> bool {
        self.iter().any(|(_, value)| value.is_falsy_array())
    }

    /// A JSON object for a body. Its values are the same texts as in the form.
    pub(crate) fn to_json(&self) -> String {
        let members = self.iter().map(|(key, value)| {
            let value = match value {
                ParamValue::One(text) => Value::from(text.as_str()),
                ParamValue::Many(texts) => Value::from(texts.as_slice()),
            };
            (key.to_owned(), value)
        });
        Value::Object(members.collect()).to_string()
    }

    /// The form encoding, for queries and bodies.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let mut pair = |key: &str, value: &str| {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(&format!("{}={}", escape(key), escape(value)));
        };
        for (key, value) in self.iter() {
            match value {
                ParamValue::One(value) => pair(key, value),
                ParamValue::Many(values) => values.iter().for_each(|value| pair(key, value)),
            }
        }
        out
    }
}

/// A type that can be sent as a parameter.
pub trait ToParam {
    /// The value as the server reads it.
    fn to_param(&self) -> ParamValue;

    /// Whether there is nothing to set.
    #[doc(hidden)]
    fn is_absent(&self) -> bool {
        false
    }

    /// The reason why the server would misread or refuse the value.
    #[doc(hidden)]
    fn problem(&self) -> Option<Problem> {
        None
    }
}

impl ToParam for bool {
    fn to_param(&self) -> ParamValue {
        // Outside of property strings, the server reads only 0 and 1 as booleans.
        ParamValue::One(u8::from(*self).to_string())
    }
}

macro_rules! to_param_by_display {
    ($($ty:ty),*) => {$(
        impl ToParam for $ty {
            fn to_param(&self) -> ParamValue {
                ParamValue::One(self.to_string())
            }
        }
    )*};
}

to_param_by_display!(i64, i32, u64, u32, u16, u8, usize, f64, str, String);

impl ToParam for &String {
    fn to_param(&self) -> ParamValue {
        ParamValue::One((*self).clone())
    }
}

impl<T: ToParam> ToParam for Option<T> {
    fn is_absent(&self) -> bool {
        self.as_ref().is_none_or(ToParam::is_absent)
    }

    fn problem(&self) -> Option<Problem> {
        self.as_ref()?.problem()
    }

    fn to_param(&self) -> ParamValue {
        match self {
            Some(value) => value.to_param(),
            None => ParamValue::One(String::new()),
        }
    }
}

/// Null sets nothing, an array is sent as an array, and an object cannot be a parameter.
impl ToParam for Value {
    fn is_absent(&self) -> bool {
        self.is_null()
    }

    fn problem(&self) -> Option<Problem> {
        let wrong = match self {
            Self::Array(items) => items.iter().any(|item| item.is_array() || item.is_object()),
            other => other.is_object(),
        };
        wrong.then(|| Problem {
            certain: true,
            value: None,
            allowed: "texts, numbers, booleans and arrays of them, not JSON objects".to_owned(),
        })
    }

    fn to_param(&self) -> ParamValue {
        match self {
            Self::Bool(flag) => flag.to_param(),
            Self::String(text) => text.to_param(),
            Self::Array(items) => items.to_param(),
            Self::Null => ParamValue::One(String::new()),
            other => ParamValue::One(other.to_string()),
        }
    }
}

impl ToParam for &str {
    fn to_param(&self) -> ParamValue {
        ParamValue::One((*self).to_owned())
    }
}

impl ToParam for Secret {
    fn to_param(&self) -> ParamValue {
        ParamValue::One(self.expose().to_owned())
    }
}

impl<T: ToParam> ToParam for Vec<T> {
    fn problem(&self) -> Option<Problem> {
        self.iter().find_map(ToParam::problem)
    }

    fn to_param(&self) -> ParamValue {
        let mut values = Vec::with_capacity(self.len());
        for item in self {
            match item.to_param() {
                ParamValue::One(value) => values.push(value),
                ParamValue::Many(more) => values.extend(more),
            }
        }
        ParamValue::Many(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a form body as the server does: pairs end at `&` or `;`, a value ends at a second
    /// unescaped `=`, `+` is a space.
    fn read_like_the_server(body: &str) -> Vec<(String, String)> {
        let text = |raw: &str| {
            let raw = raw.replace('+', " ");
            percent_encoding::percent_decode_str(&raw)
                .decode_utf8_lossy()
                .into_owned()
        };
        body.split(['&', ';'])
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let mut parts = pair.split('=');
                let key = parts.next().unwrap_or_default();
                (text(key), text(parts.next().unwrap_or_default()))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_text_reaches_the_server_unchanged(pairs in prop::collection::vec((".+", ".*"), 0..6)) {
            let mut params = Params::default();
            for (key, value) in &pairs {
                params.set(key.clone(), ParamValue::One(value.clone()));
            }
            let seen = read_like_the_server(&params.encode());
            let sent: Vec<_> = params
                .iter()
                .map(|(key, value)| match value {
                    ParamValue::One(value) => (key.to_owned(), value.clone()),
                    ParamValue::Many(_) => unreachable!("only scalars were set"),
                })
                .collect();
            prop_assert_eq!(seen, sent);
        }
    }

    #[test]
    fn an_array_repeats_its_key_and_a_boolean_is_a_digit() {
        let mut params = Params::default();
        params.set("command", vec!["ls", "-l /"].to_param());
        params.set("force", true.to_param());
        assert_eq!(params.encode(), "command=ls&command=-l%20%2F&force=1");
        assert!(!params.needs_json());
    }

    #[test]
    fn a_single_element_that_perl_reads_as_false_is_sent_as_json() {
        for only in ["0", ""] {
            let mut params = Params::default();
            params.set("command", vec![only].to_param());
            params.set("input-data", "\"a\" & ü".to_param());
            assert!(params.needs_json(), "{only:?}");
            let json: Value = serde_json::from_str(&params.to_json()).expect("JSON");
            let expected = serde_json::json!({"command": [only], "input-data": "\"a\" & ü"});
            assert_eq!(json, expected);
        }
        for more in [vec!["0", "0"], vec!["00"], vec![]] {
            let mut params = Params::default();
            params.set("command", more.to_param());
            params.set("force", "0".to_param());
            assert!(!params.needs_json(), "{more:?}");
        }
    }
}
