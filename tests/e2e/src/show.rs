//! Decoded values as JSON.
//!
//! Declared members have their names; members of `extra` are below [`EXTRA`], so that a test can
//! distinguish them.

use std::collections::BTreeMap;

use proxmox_api::value::Timestamp;
use proxmox_api::value::decode::Extra;
use proxmox_api::value::formats::{
    Cidr, DiskKey, DiskSize, EncodedText, IpAddress, MacAddr, NodeName, Realm, StorageId, UserId,
    VolumeId,
};
use proxmox_api::value::property_string::UnknownKeys;
use proxmox_api::{IndexedMap, List, Pending, Secret, Value};
use serde_json::{Map, json};

/// The key of extra members.
pub const EXTRA: &str = "(extra)";
/// The key of an unknown enum value's text.
pub const UNKNOWN_VALUE: &str = "(unknown value)";
/// The key of a property string's unknown keys.
pub const UNKNOWN_KEYS: &str = "(unknown keys)";
/// The key of an invalid property string's text.
pub const TEXT: &str = "(text)";

/// The key of a setting that will be removed.
pub const DELETED: &str = "(deleted)";
/// The key of rejected parts of a list or map, beside [`DATA`].
pub const REST: &str = "(rest)";
/// The key of accepted parts, if there is a [`REST`].
pub const DATA: &str = "(data)";

/// A value that can be converted; `None` if it is absent.
pub trait Show {
    fn show(&self) -> Option<Value>;
}

/// An object being converted.
#[derive(Debug, Default)]
pub struct JsonObject(Map<String, Value>);

impl JsonObject {
    pub fn put(&mut self, name: &str, value: &dyn Show) {
        if let Some(value) = value.show() {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// The members of an indexed parameter, each under its own name.
    pub fn indexed<T: Show>(&mut self, name: &str, members: &IndexedMap<T>) {
        for (index, member) in members {
            self.put(&format!("{name}{index}"), member);
        }
    }

    #[must_use]
    pub fn extra(mut self, extra: &Extra) -> Option<Value> {
        if !extra.is_empty() {
            self.0.insert(EXTRA.to_owned(), extra.clone().into());
        }
        Some(Value::Object(self.0))
    }

    #[must_use]
    pub fn unknown(mut self, unknown: &UnknownKeys) -> Option<Value> {
        let mut rest = unknown.members().clone();
        for (key, value) in unknown.keys() {
            rest.insert(key.clone(), json!(value));
        }
        if !rest.is_empty() {
            self.0.insert(UNKNOWN_KEYS.to_owned(), rest.into());
        }
        // The fields are empty then.
        Some(match unknown.text() {
            Some(text) => json!({ TEXT: text }),
            None => Value::Object(self.0),
        })
    }
}

/// The text of an enum's value.
#[must_use]
pub fn text(text: &str, unknown: bool) -> Option<Value> {
    Some(match unknown {
        true => json!({ UNKNOWN_VALUE: text }),
        false => json!(text),
    })
}

macro_rules! show_as_json {
    ($($ty:ty),*) => {$(
        impl Show for $ty {
            fn show(&self) -> Option<Value> {
                Some(json!(self))
            }
        }
    )*};
}

show_as_json!(bool, i64, u32, u64, f64, String, Timestamp, Value);

macro_rules! show_as_text {
    ($($ty:ty),*) => {$(
        impl Show for $ty {
            fn show(&self) -> Option<Value> {
                Some(json!(self.as_str()))
            }
        }
    )*};
}

show_as_text!(
    Cidr, DiskKey, DiskSize, IpAddress, MacAddr, NodeName, Realm, StorageId, UserId, VolumeId
);

/// Unchanged.
impl Show for EncodedText {
    fn show(&self) -> Option<Value> {
        Some(json!(self.encoded()))
    }
}

impl Show for Secret {
    fn show(&self) -> Option<Value> {
        Some(json!(self.expose()))
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> Option<Value> {
        self.as_ref()?.show()
    }
}

impl<T: Show> Show for Pending<T> {
    fn show(&self) -> Option<Value> {
        match self {
            Self::Set(value) => value.show(),
            Self::Deleted => Some(json!(DELETED)),
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> Option<Value> {
        Some(self.iter().map(Show::show).collect())
    }
}

impl<T: Show> Show for List<T> {
    fn show(&self) -> Option<Value> {
        self.0.show()
    }
}

impl<T: Show> Show for BTreeMap<String, T> {
    fn show(&self) -> Option<Value> {
        let mut out = JsonObject::default();
        for (key, value) in self {
            out.put(key, value);
        }
        Some(Value::Object(out.0))
    }
}
