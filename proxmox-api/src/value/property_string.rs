//! Property strings: several keys and values in one text, such as
//! `virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1` (wire protocol §4).

use std::collections::BTreeMap;
use std::fmt;

use crate::value::decode::{Expected, Extra, Inside, Object, Scalar, Shape, Slot, text_of};
use crate::value::encode::{ParamValue, Problem};
use crate::value::secret::{RedactedObject, RedactedTexts, is_secret, is_secret_text};

/// What a property string holds beyond its declared keys.
#[derive(Clone, Default, PartialEq, Eq)]
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

/// Shows no value whose key is that of a secret.
impl fmt::Debug for Undeclared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_deref();
        let text = text.map(|text| match is_secret(text) || is_secret_text(text) {
            true => "…",
            false => text,
        });
        f.debug_struct("Undeclared")
            .field("keys", &RedactedTexts(&self.keys))
            .field("text", &text)
            .field("members", &RedactedObject(&self.members))
            .finish()
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
}

/// Parses `text` into the members of `into`, all at their defaults.
#[doc(hidden)]
pub fn parse(text: &str, into: &mut dyn Object) -> Result<(), PropertyError> {
    let mut result = Ok(());
    into.open(&mut |shape, slots| {
        if let Some(rules) = shape.rules {
            result = fill(text, shape, rules, slots);
        }
    });
    result
}

/// Reads `text` into a value at its default, and keeps it as it is where it does not parse.
#[doc(hidden)]
pub fn read(text: &str, into: &mut dyn Object) {
    into.open(&mut |shape, slots| {
        if let Some(rules) = shape.rules {
            read_slots(text, shape, rules, slots);
        }
    });
}

/// As [`read`].
pub(crate) fn read_slots(text: &str, shape: &Shape, rules: &Rules, slots: &mut [&mut dyn Slot]) {
    if fill(text, shape, rules, slots).is_err() {
        clear(slots);
        if let Some(undeclared) = undeclared(slots) {
            undeclared.text = Some(text.to_owned());
        }
    }
}

fn clear(slots: &mut [&mut dyn Slot]) {
    for slot in slots {
        // Every slot of a property string can be empty.
        let _ = slot.put(&Scalar::Unset);
    }
}

fn undeclared<'a>(slots: &'a mut [&mut dyn Slot]) -> Option<&'a mut Undeclared> {
    match slots.last_mut()?.inside() {
        Inside::Undeclared(undeclared) => Some(undeclared),
        _ => None,
    }
}

fn fill(
    text: &str,
    shape: &Shape,
    rules: &Rules,
    slots: &mut [&mut dyn Slot],
) -> Result<(), PropertyError> {
    let mut parts = 0;
    let mut from = 0;
    // A bit for each declared key.
    let mut seen = 0_u128;
    let mut assign = |key, value| -> Result<(), PropertyError> {
        let twice = match shape.find(key, &mut from) {
            Some(index) => {
                let bit = 1_u128.checked_shl(index as u32).unwrap_or_default();
                let twice = seen & bit != 0;
                seen |= bit;
                slots[index].put(&Scalar::Text(value)).map_err(|expected| {
                    PropertyError(format!("the value of `{key}` is not of type {expected}"))
                })?;
                twice
            }
            None => undeclared(slots).is_some_and(|undeclared| {
                let old = undeclared.keys.insert(key.to_owned(), value.to_owned());
                old.is_some()
            }),
        };
        match twice {
            false => Ok(()),
            true => Err(PropertyError(format!("the key `{key}` stands twice"))),
        }
    };
    for part in text.split(',') {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        parts += 1;
        let (key, value) = match (part.split_once('='), rules.default_key) {
            (Some(pair), _) => pair,
            (None, Some(key)) => (key, part),
            (None, None) => {
                return Err(PropertyError(format!("the part number {parts} has no key")));
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
    let missing = |(index, _): &(usize, _)| seen & (1 << index) == 0;
    match shape.required.iter().enumerate().find(missing) {
        None => Ok(()),
        Some((_, key)) => Err(PropertyError(format!("the key `{key}` is missing"))),
    }
}

impl Slot for Undeclared {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        match value {
            Scalar::Unset => {
                *self = Self::default();
                Ok(())
            }
            _ => Err("object"),
        }
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Undeclared(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        if *self != Self::default() {
            out(self);
        }
    }
}

/// Writes `value` as the server reads it, but for secrets.
#[doc(hidden)]
pub fn write(value: &mut dyn Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut result = Ok(());
    value.open(&mut |shape, slots| {
        if let Some(rules) = shape.rules {
            result = f.write_str(&join(shape, rules, slots, true));
        }
    });
    result
}

/// `value` as the server reads it.
#[doc(hidden)]
pub fn to_param(value: &mut dyn Object) -> ParamValue {
    ParamValue::One(text(value).unwrap_or_default())
}

/// A property string as the server reads it; nothing for another object.
pub(crate) fn text(value: &mut dyn Object) -> Option<String> {
    let mut text = None;
    value.open(&mut |shape, slots| {
        text = shape.rules.map(|rules| join(shape, rules, slots, false));
    });
    text
}

/// The declared keys that are set, with their values.
fn declared(shape: &Shape, slots: &mut [&mut dyn Slot]) -> Vec<(String, String)> {
    let pairs = shape.names().zip(slots);
    pairs
        .filter_map(|(key, slot)| Some((key.to_owned(), slot.text()?)))
        .collect()
}

fn join(shape: &Shape, rules: &Rules, slots: &mut [&mut dyn Slot], hide: bool) -> String {
    let mut parts = declared(shape, slots);
    if hide {
        for (key, slot) in shape.names().zip(slots.iter()) {
            if slot.hides()
                && let Some((_, value)) = parts.iter_mut().find(|(name, _)| name == key)
            {
                "…".clone_into(value);
            }
        }
    }
    let nothing = Undeclared::default();
    let undeclared = match undeclared(slots) {
        Some(undeclared) => undeclared,
        None => &nothing,
    };
    let hidden = |key: &str, text: &str| hide && (is_secret(key) || is_secret_text(text));
    if let Some(text) = &undeclared.text {
        return match hidden(text, text) {
            true => "…".to_owned(),
            false => text.clone(),
        };
    }
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
            .map(|(key, value)| match hidden(key, value) {
                true => (key.clone(), "…".to_owned()),
                false => (key.clone(), value.clone()),
            }),
    );
    let scalars = undeclared.members.iter();
    let scalars = scalars.filter_map(|(key, value)| Some((key.clone(), text_of(value)?)));
    parts.extend(scalars.map(|(key, text)| match hidden(&key, &text) {
        true => (key, "…".to_owned()),
        false => (key, text),
    }));
    // The default key goes first and bare; a value with `=` in it would be taken for a key.
    if let Some(default) = rules.default_key.and_then(|key| find(&parts, key)) {
        let (key, value) = parts.remove(default);
        let bare = !value.is_empty() && !value.contains('=');
        parts.insert(0, (if bare { String::new() } else { key }, value));
    }
    let mut text = String::new();
    for (key, value) in &parts {
        let comma = if text.is_empty() { "" } else { "," };
        let equals = if key.is_empty() { "" } else { "=" };
        text.extend([comma, key, equals, value]);
    }
    text
}

/// What would be read as something else: a comma begins a new key, an equals sign a value.
#[doc(hidden)]
pub fn problem(value: &mut dyn Object) -> Option<Problem> {
    let mut found = None;
    value.open(&mut |shape, slots| {
        if shape.rules.is_some() {
            found = problem_of(shape, slots);
        }
    });
    found
}

fn problem_of(shape: &Shape, slots: &mut [&mut dyn Slot]) -> Option<Problem> {
    if let Some(problem) = slots.iter_mut().find_map(|slot| slot.problem()) {
        return Some(problem);
    }
    let mut texts = declared(shape, slots);
    if let Some(undeclared) = undeclared(slots) {
        if undeclared.text.is_some() {
            // Kept as it came, and sent so.
            return None;
        }
        let scalars = undeclared.members.iter();
        let scalars = scalars.filter_map(|(key, value)| Some((key.clone(), text_of(value)?)));
        let more: Vec<_> = undeclared.keys.clone().into_iter().chain(scalars).collect();
        let wrong = |(key, _): &&(String, String)| key.is_empty() || key.contains([',', '=']);
        if let Some((key, _)) = more.iter().find(wrong) {
            return Some(Problem {
                value: Some(key.clone()),
                allowed: "keys without a comma or an equals sign, which end a key".to_owned(),
            });
        }
        texts.extend(more);
    }
    let (key, _) = texts.into_iter().find(|(_, text)| text.contains(','))?;
    Some(Problem {
        value: None,
        allowed: format!(
            "no comma in the value of its key `{key}`, where it would begin a new key"
        ),
    })
}

/// What every property string has, apart from its keys.
macro_rules! property_string_impls {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = property_string::PropertyError;

            #[inline]
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut value = Self::default();
                property_string::parse(text, &mut value)?;
                Ok(value)
            }
        }

        /// The text is not checked here: what cannot be understood is sent as it is.
        impl From<&str> for $name {
            #[inline]
            fn from(text: &str) -> Self {
                let mut value = Self::default();
                property_string::read(text, &mut value);
                value
            }
        }

        /// As the server reads it, but for secrets, which do not print.
        impl fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                property_string::write(&mut self.clone(), f)
            }
        }

        impl ToParam for $name {
            #[inline]
            fn to_param(&self) -> ParamValue {
                property_string::to_param(&mut self.clone())
            }

            #[inline]
            fn problem(&self) -> Option<Problem> {
                property_string::problem(&mut self.clone())
            }
        }

        object_impls!($name);
    };
}

pub(crate) use property_string_impls;
