//! Property strings: several keys and values in one text, such as
//! `virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1` (wire protocol §4).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::Secret;
use crate::decode::{Extra, Scalar, Slot};

/// What a property string holds beyond its declared keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undeclared {
    keys: BTreeMap<String, String>,
    text: Option<String>,
    members: Extra,
}

impl Undeclared {
    /// Keys that the type does not declare; they are written back.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<String, String> {
        &self.keys
    }

    /// Adds or replaces a key that the type does not declare.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.keys.insert(key.into(), value.into());
    }

    /// What an answer in parsed form holds beyond the declared keys. Scalars are written back.
    #[must_use]
    pub fn members(&self) -> &Extra {
        &self.members
    }

    #[doc(hidden)]
    pub fn members_mut(&mut self) -> &mut Extra {
        &mut self.members
    }

    /// The whole text, where it could not be understood; it is written back as it came.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// A text that is no property string of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyError(String);

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PropertyError {}

/// The fixed rules of one kind of property string.
#[doc(hidden)]
#[derive(Debug)]
pub struct Rules {
    /// The key whose `key=` may be left out.
    pub default_key: Option<&'static str>,
    /// Other spellings: (alias, key).
    pub aliases: &'static [(&'static str, &'static str)],
    /// Keys that set two others: in `virtio=MAC`, (`virtio`, `macaddr`, `model`) sets the MAC and the model.
    pub key_aliases: &'static [(&'static str, &'static str, &'static str)],
    /// Keys that must be there.
    pub required: &'static [&'static str],
}

/// A typed property string.
#[doc(hidden)]
pub trait Properties {
    fn rules(&self) -> &'static Rules;
    fn property(&mut self, key: &str) -> Option<&mut dyn Slot>;
    fn undeclared(&mut self) -> &mut Undeclared;
    fn write(&self, out: &mut Writer<'_>);
}

/// Parses `text` into the fields of `into`, all at their defaults.
#[doc(hidden)]
pub fn parse(text: &str, into: &mut dyn Properties) -> Result<(), PropertyError> {
    let rules = into.rules();
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (key, value) = match (part.split_once('='), rules.default_key) {
            (Some(pair), _) => pair,
            (None, Some(key)) => (key, part),
            (None, None) => {
                return Err(PropertyError(format!(
                    "the part number {} has no key",
                    seen.len() + 1
                )));
            }
        };
        let mut assign = |key, value| -> Result<(), PropertyError> {
            if seen.contains(&key) {
                return Err(PropertyError(format!("the key `{key}` stands twice")));
            }
            seen.push(key);
            match into.property(key) {
                Some(slot) => slot.put(&Scalar::Text(value)).map_err(|expected| {
                    PropertyError(format!("the value of `{key}` is not of type {expected}"))
                }),
                None => {
                    into.undeclared().set(key, value);
                    Ok(())
                }
            }
        };
        if let Some((name, holder, kind)) = rules.key_aliases.iter().find(|(name, ..)| *name == key)
        {
            assign(kind, name)?;
            assign(holder, value)?;
        } else {
            let alias = rules.aliases.iter().find(|(alias, _)| *alias == key);
            assign(alias.map_or(key, |(_, key)| key), value)?;
        }
    }
    match rules.required.iter().find(|key| !seen.contains(key)) {
        None => Ok(()),
        Some(key) => Err(PropertyError(format!("the key `{key}` is missing"))),
    }
}

/// Writes `value` as the server reads it.
#[doc(hidden)]
pub fn write(
    value: &dyn Properties,
    undeclared: &Undeclared,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if let Some(text) = &undeclared.text {
        return f.write_str(text);
    }
    let mut parts = Vec::new();
    value.write(&mut Writer { parts: &mut parts });
    let rules = value.rules();
    // `virtio=MAC` is what the server itself writes for model=virtio,macaddr=MAC.
    let find = |parts: &[(String, String)], key: &str| parts.iter().position(|(k, _)| k == key);
    for (name, holder, kind) in rules.key_aliases {
        let (Some(kind), Some(holder)) = (find(&parts, kind), find(&parts, holder)) else {
            continue;
        };
        if parts[kind].1 != *name {
            continue;
        }
        let (_, held) = parts.remove(holder);
        let kind = if holder < kind { kind - 1 } else { kind };
        parts[kind] = ((*name).to_owned(), held);
    }
    parts.extend(
        undeclared
            .keys
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    let scalars = undeclared.members.iter().filter_map(|(key, value)| {
        let text = match value {
            Value::Bool(value) => u8::from(*value).to_string(),
            Value::Number(value) => value.to_string(),
            Value::String(value) => value.clone(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((key.clone(), text))
    });
    parts.extend(scalars);
    // The default key goes first and bare; a value with `=` in it would be taken for a key.
    if let Some(default) = rules.default_key.and_then(|key| find(&parts, key)) {
        let (key, value) = parts.remove(default);
        let bare = !value.is_empty() && !value.contains('=');
        parts.insert(0, (if bare { String::new() } else { key }, value));
    }
    for (position, (key, value)) in parts.iter().enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let equals = if key.is_empty() { "" } else { "=" };
        write!(f, "{comma}{key}{equals}{value}")?;
    }
    Ok(())
}

/// Collects the keys that are set.
#[doc(hidden)]
#[derive(Debug)]
pub struct Writer<'a> {
    parts: &'a mut Vec<(String, String)>,
}

impl Writer<'_> {
    pub fn put(&mut self, key: &str, value: &dyn Property) {
        if let Some(text) = value.property_text() {
            self.parts.push((key.to_owned(), text));
        }
    }
}

/// A value inside a property string.
#[doc(hidden)]
pub trait Property {
    /// The text, or `None` when not set.
    fn property_text(&self) -> Option<String>;
}

impl<T: Property> Property for Option<T> {
    fn property_text(&self) -> Option<String> {
        self.as_ref()?.property_text()
    }
}

impl Property for bool {
    fn property_text(&self) -> Option<String> {
        Some(u8::from(*self).to_string())
    }
}

impl Property for Secret {
    fn property_text(&self) -> Option<String> {
        Some(self.expose().to_owned())
    }
}

macro_rules! property_by_display {
    ($($ty:ty),*) => {$(
        impl Property for $ty {
            fn property_text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

property_by_display!(i64, u32, f64, String);

/// Reads `text`, and keeps it as it is where it does not parse.
#[doc(hidden)]
pub fn read<T: Properties + Default>(text: &str, into: &mut T) {
    if parse(text, into).is_err() {
        *into = T::default();
        into.undeclared().text = Some(text.to_owned());
    }
}

/// What every property string has, apart from its keys.
macro_rules! property_string_impls {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = $crate::property_string::PropertyError;

            #[inline]
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut value = Self::default();
                $crate::property_string::parse(text, &mut value)?;
                Ok(value)
            }
        }

        /// The text is not checked here: what cannot be understood is sent as it is.
        impl From<&str> for $name {
            #[inline]
            fn from(text: &str) -> Self {
                let mut value = Self::default();
                $crate::property_string::read(text, &mut value);
                value
            }
        }

        impl std::fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::property_string::write(self, &self.undeclared, f)
            }
        }

        impl $crate::encode::ToParam for $name {
            #[inline]
            fn to_param(&self) -> $crate::encode::ParamValue {
                $crate::encode::ParamValue::One(self.to_string())
            }
        }

        impl $crate::decode::Slot for $name {
            #[inline]
            fn put(
                &mut self,
                value: &$crate::decode::Scalar<'_>,
            ) -> Result<(), $crate::decode::Expected> {
                let text = value.text().ok_or("property string")?;
                *self = Self::default();
                $crate::property_string::read(&text, self);
                Ok(())
            }

            #[inline]
            fn object(&mut self) -> Option<&mut dyn $crate::decode::Object> {
                Some(self)
            }
        }

        // Some answers hold the parsed form of what they accept as a property string.
        impl $crate::decode::Object for $name {
            #[inline]
            fn slot(
                &mut self,
                key: &str,
            ) -> Option<($crate::decode::Need, &mut dyn $crate::decode::Slot)> {
                let slot = $crate::property_string::Properties::property(self, key)?;
                Some(($crate::decode::Need::OPTIONAL, slot))
            }

            #[inline]
            fn extra(&mut self) -> Option<&mut $crate::decode::Extra> {
                Some(self.undeclared.members_mut())
            }
        }
    };
}

pub(crate) use property_string_impls;
