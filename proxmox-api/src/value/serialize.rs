//! serde's traits for values of the API, through JSON.

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use crate::value::api_value::{ApiValue, Object, Scalar, View, extra_of};
use crate::value::list::List;
use crate::value::secret::{Secret, written, written_value};
use crate::value::{decode, list, property_string};

/// A value that is serialised with its secrets; made by [`with_secrets`].
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "does nothing unless serialized"
)]
pub struct WithSecrets<'a, T>(&'a T);

/// Serialises a value with its secrets.
///
/// All values of the API have serde's traits, in the names and shapes of the server: extra
/// members are beside the declared ones, indexed ones have their numbers, and values that did not
/// fit are in their place again. A value from a server that is written and read again is equal.
/// Secrets are left out, so that logs and files contain none by default:
///
/// ```
/// # #[cfg(feature = "qemu")]
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use proxmox_api::pve::qemu::QemuConfig;
/// use proxmox_api::value::with_secrets;
/// use serde_json::json;
///
/// let sent = json!({"digest": "1f", "cores": 2, "net0": "virtio,bridge=vmbr0", "cipassword": "tiger"});
/// let config: QemuConfig = serde_json::from_value(sent.clone())?;
/// assert_eq!(serde_json::to_value(with_secrets(&config))?, sent);
/// assert!(serde_json::to_value(&config)?.get("cipassword").is_none());
/// # Ok(())
/// # }
/// # #[cfg(feature = "qemu")]
/// # example().unwrap();
/// ```
///
/// Deserialising is as lenient as with an answer of a server. It needs a self-describing format,
/// such as JSON, TOML or YAML.
pub fn with_secrets<T: ApiValue>(value: &T) -> WithSecrets<'_, T> {
    WithSecrets(value)
}

impl<T: ApiValue> Serialize for WithSecrets<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        to_json(&self.0.view(), true).serialize(serializer)
    }
}

/// Writes a value without its secrets.
pub(crate) fn serialize<S: Serializer>(
    value: &dyn ApiValue,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    to_json(&value.view(), false).serialize(serializer)
}

/// Reads a value.
pub(crate) fn deserialize<'de, T: ApiValue, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let json = Value::deserialize(deserializer)?;
    decode::from_json(json).map_err(D::Error::custom)
}

/// A value in the shape of the server; `None` without a value, or for a secret that is left out.
pub(crate) fn to_json(view: &View<'_>, secrets: bool) -> Option<Value> {
    let each = |value: &dyn ApiValue| to_json(&value.view(), secrets);
    Some(match view {
        View::Absent | View::AbsentSecret => return None,
        // As the server writes them.
        View::Scalar(Scalar::Bool(value)) => u8::from(*value).into(),
        View::Scalar(scalar) => scalar.clone().into_json(),
        View::Secret(text) => match secrets {
            true => (*text).into(),
            false => return None,
        },
        View::Size(text, _) => (*text).into(),
        View::Json(value) => written_value(value, secrets)?,
        View::List(array) if list::is_one_text(*array) => array.joined(",").into(),
        View::List(array) | View::Array(array) => array.iter().filter_map(each).collect(),
        View::Map(map) => {
            let entries = map.entries().into_iter();
            let entries = entries.filter_map(|(key, value)| Some((key.to_owned(), each(value)?)));
            Value::Object(entries.collect())
        }
        View::Indexed(members) => {
            let entries = members.entries().into_iter();
            let entries =
                entries.filter_map(|(index, value)| Some((index.to_string(), each(value)?)));
            Value::Object(entries.collect())
        }
        View::Object(object) => match property_string::to_json(*object, secrets) {
            Some(written) => written,
            None => Value::Object(members(*object, secrets)),
        },
        View::Extra(extra) => written(extra, secrets).into(),
        View::UnknownKeys(unknown) => written(unknown.members(), secrets).into(),
    })
}

/// The members of an object, with the values that did not fit in their place.
fn members(object: &dyn Object, secrets: bool) -> Map<String, Value> {
    let mut found = Map::new();
    object.fields(&mut |schema, fields| {
        let mut rest = match extra_of(fields) {
            Some(extra) => written(extra, secrets),
            None => Map::new(),
        };
        for (name, field) in schema.names().zip(fields) {
            match field.view() {
                View::AbsentSecret if !secrets => {
                    rest.remove(name);
                }
                View::Indexed(members) => {
                    for (index, member) in members.entries() {
                        let name = format!("{name}{index}");
                        let rest = rest.remove(&name);
                        add(&mut found, name, &member.view(), rest, secrets);
                    }
                }
                View::Absent | View::AbsentSecret => {}
                view => add(
                    &mut found,
                    name.to_owned(),
                    &view,
                    rest.remove(name),
                    secrets,
                ),
            }
        }
        found.append(&mut rest);
    });
    found
}

fn add(
    found: &mut Map<String, Value>,
    name: String,
    view: &View<'_>,
    rest: Option<Value>,
    secrets: bool,
) {
    let written = match (view, &rest) {
        // Elements can only be put back into an array.
        (View::List(array), Some(Value::Array(_))) => to_json(&View::Array(*array), secrets),
        _ => to_json(view, secrets),
    };
    let Some(mut written) = written else { return };
    if let Some(rest) = rest {
        put_back(&mut written, rest);
    }
    found.insert(name, written);
}

/// Puts the values that did not fit back between the others. An existing value in such a place was
/// set by the program and stays.
fn put_back(fit: &mut Value, rest: Value) {
    match (fit, rest) {
        (Value::Array(fit), Value::Array(rest)) => {
            let mut taken = std::mem::take(fit).into_iter().peekable();
            for misfit in rest {
                let is_part = misfit
                    .as_array()
                    .is_some_and(|misfit| misfit.contains(&Value::Null))
                    && taken.peek().is_some_and(Value::is_array);
                if misfit.is_null() || is_part {
                    let Some(mut element) = taken.next() else {
                        continue;
                    };
                    put_back(&mut element, misfit);
                    fit.push(element);
                } else {
                    fit.push(misfit);
                }
            }
            fit.extend(taken);
        }
        (Value::Object(fit), Value::Object(rest)) => {
            for (key, misfit) in rest {
                match fit.get_mut(&key) {
                    Some(value) => put_back(value, misfit),
                    None => {
                        fit.insert(key, misfit);
                    }
                }
            }
        }
        _ => {}
    }
}

/// serde's traits for a type of values.
macro_rules! serde_impls {
    ($name:ident) => {
        impl serde::Serialize for $name {
            #[inline]
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::value::serialize::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            #[inline]
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::value::serialize::deserialize(deserializer)
            }
        }
    };
}

/// Like `serde_impls`, for a type with a parameter.
macro_rules! generic_serde_impls {
    ($name:ident) => {
        impl<T: crate::value::api_value::ApiValue + Clone> serde::Serialize for $name<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::value::serialize::serialize(self, serializer)
            }
        }

        impl<'de, T: crate::value::api_value::ApiValue + Clone> serde::Deserialize<'de>
            for $name<T>
        {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::value::serialize::deserialize(deserializer)
            }
        }
    };
}

/// serde's traits for a struct of the everyday layer: its fields by their names.
#[allow(unused_macros, reason = "without features there is little to use it")]
macro_rules! record_serde {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let fields: &[(&str, &dyn $crate::value::serialize::Field)] =
                    &[$((stringify!($field), &self.$field),)*];
                $crate::value::serialize::record(fields, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut fields = $crate::value::serialize::Fields::read(deserializer)?;
                Ok(Self { $($field: fields.take(stringify!($field))?,)* })
            }
        }
    };
}

/// As `record_serde`, for a struct with a parameter.
macro_rules! generic_record_serde {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl<T: serde::Serialize> serde::Serialize for $name<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let fields: &[(&str, &dyn $crate::value::serialize::Field)] =
                    &[$((stringify!($field), &self.$field),)*];
                $crate::value::serialize::record(fields, serializer)
            }
        }

        impl<'de, T: serde::de::DeserializeOwned> serde::Deserialize<'de> for $name<T> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut fields = $crate::value::serialize::Fields::read(deserializer)?;
                Ok(Self { $($field: fields.take(stringify!($field))?,)* })
            }
        }
    };
}

/// serde's traits for an enum of the everyday layer: the word of a variant, or an object of that word and what the variant
/// holds, which is a list if it is more than one thing.
#[allow(unused_macros, reason = "without features there is little to use it")]
macro_rules! variant_serde {
    ($name:ident { $($variant:ident $(($($held:ident),+))? = $word:literal),* $(,)? }) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant $(($($held),+))? => {
                        let held: &[&dyn $crate::value::serialize::Field] = &[$($($held),+)?];
                        $crate::value::serialize::variant($word, held, serializer)
                    })*
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let variant = $crate::value::serialize::Variant::read(deserializer)?;
                match variant.word() {
                    $($word => {
                        let held: &[&str] = &[$($(stringify!($held)),+)?];
                        let mut _held = variant.held(held)?;
                        Ok(Self::$variant $(($(_held.take(stringify!($held))?),+))?)
                    })*
                    other => Err(serde::de::Error::unknown_variant(other, &[$($word),*])),
                }
            }
        }
    };
}

/// serde's traits for types that are one word, by `Display` and `FromStr`.
#[allow(unused_macros, reason = "without features there is little to use it")]
macro_rules! word_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

#[allow(
    unused_imports,
    reason = "without features there is little to use them"
)]
pub(crate) use {
    generic_record_serde, generic_serde_impls, record_serde, serde_impls, variant_serde, word_serde,
};

/// A field of a record.
pub(crate) trait Field {
    fn to_json(&self) -> Result<Value, serde_json::Error>;
}

impl<T: Serialize> Field for T {
    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

pub(crate) fn record<S: Serializer>(
    fields: &[(&str, &dyn Field)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut record = serializer.serialize_map(Some(fields.len()))?;
    for (name, field) in fields {
        let value = field.to_json().map_err(serde::ser::Error::custom)?;
        record.serialize_entry(name, &value)?;
    }
    record.end()
}

#[allow(dead_code, reason = "without features there is nothing to use it")]
pub(crate) fn variant<S: Serializer>(
    word: &str,
    held: &[&dyn Field],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let values: Result<Vec<Value>, _> = held.iter().map(|one| one.to_json()).collect();
    let mut values = values.map_err(serde::ser::Error::custom)?;
    let content = match values.len() {
        0 => return serializer.serialize_str(word),
        1 => values.remove(0),
        _ => Value::Array(values),
    };
    let mut variant = serializer.serialize_map(Some(1))?;
    variant.serialize_entry(word, &content)?;
    variant.end()
}

/// A variant that is read, by its word.
#[allow(dead_code, reason = "without features there is nothing to use it")]
pub(crate) struct Variant(String, Option<Value>);

#[allow(dead_code, reason = "without features there is nothing to use it")]
impl Variant {
    pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let one = match Value::deserialize(deserializer)? {
            Value::String(word) => Some(Self(word, None)),
            Value::Object(one) if one.len() == 1 => one
                .into_iter()
                .next()
                .map(|(word, held)| Self(word, Some(held))),
            _ => None,
        };
        one.ok_or_else(|| D::Error::custom("expected a word, or an object with one member"))
    }

    pub(crate) fn word(&self) -> &str {
        &self.0
    }

    /// What the variant holds, by these names.
    pub(crate) fn held<E: serde::de::Error>(&self, names: &[&str]) -> Result<Fields, E> {
        let values = match (names.len(), self.1.clone()) {
            (0, None) => Vec::new(),
            (1, Some(held)) => vec![held],
            (2.., Some(Value::Array(values))) => values,
            _ => return Err(E::custom(format!("`{}` holds something else", self.0))),
        };
        if values.len() != names.len() {
            let needed = names.len();
            return Err(E::invalid_length(values.len(), &&*needed.to_string()));
        }
        let names = names.iter().map(|name| (*name).to_owned());
        Ok(Fields(names.zip(values).collect()))
    }
}

/// The fields of a record that is read. A missing one counts as null; unknown ones are skipped.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self)
    }

    pub(crate) fn take<T: DeserializeOwned, E: serde::de::Error>(
        &mut self,
        name: &str,
    ) -> Result<T, E> {
        let value = self.0.remove(name).unwrap_or_default();
        serde_json::from_value(value).map_err(|error| E::custom(format!("{name}: {error}")))
    }
}

generic_serde_impls!(List);
serde_impls!(Secret);
