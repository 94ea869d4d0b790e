//! Extra members of answers.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::value::secret::{RedactedNames, written};

/// Members of an object that its type does not declare, and parts of declared members that do not fit their types.
///
/// It is used like the [`Map`] of JSON that it holds. Unlike that one, it is safe to print: its
/// `Debug` form shows names, numbers and texts, but no text whose name or form is that of a secret,
/// and of lists and objects only their length, since those may be a secret in another shape than
/// expected. serde leaves out members of such names and forms too; see
/// [`with_secrets`](crate::value::with_secrets).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extra(Map<String, Value>);

impl Extra {
    /// Without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Deref for Extra {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Extra {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<Map<String, Value>> for Extra {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl From<Extra> for Map<String, Value> {
    fn from(extra: Extra) -> Self {
        extra.0
    }
}

impl From<Extra> for Value {
    fn from(extra: Extra) -> Self {
        Self::Object(extra.0)
    }
}

impl IntoIterator for Extra {
    type Item = (String, Value);
    type IntoIter = serde_json::map::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Extra {
    type Item = (&'a String, &'a Value);
    type IntoIter = serde_json::map::Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RedactedNames(&self.0).fmt(f)
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(&self.0, false).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn extra(value: Value) -> Extra {
        let Value::Object(members) = value else {
            unreachable!("it is an object")
        };
        members.into()
    }

    #[test]
    fn secrets_are_not_printed_or_serialized_by_default() {
        let extra = extra(json!({
            "brand-new": "plain", "count": 7, "on": true, "none": null,
            "password": "PLANTED", "pin-code": 1234, "url": "otpauth://totp/x?secret=PLANTED",
            "data": { "token": "PLANTED" }, "value": ["PLANTED", 1], "csrf": false,
        }));
        let text = format!("{extra:?} {extra:#?}");
        assert!(
            !text.contains("PLANTED") && !text.contains("1234"),
            "{text}"
        );
        for part in [
            "\"brand-new\": \"plain\"",
            "\"count\": 7",
            "\"on\": true",
            "\"none\": null",
            "\"password\": …",
            "\"data\": {1 member}",
            "\"value\": [2 elements]",
            "\"csrf\": false",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let written = serde_json::to_value(&extra).expect("it is JSON");
        assert_eq!(
            written,
            json!({
                "brand-new": "plain", "count": 7, "on": true, "none": null, "data": {}, "value": ["PLANTED", 1],
                "csrf": false,
            })
        );
        let read: Extra = serde_json::from_value(written.clone()).expect("it reads back");
        assert_eq!(Value::from(read), written);
    }
}
