//! Decoding of any JSON.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::context::{Context, MemoryLimit, Mode, NODE, NODE_MEMBERS};
use crate::value::api_value::{ALLOCATION, COPIES};

/// Reads any JSON, within the memory limit.
pub(super) struct Open<'c>(pub(super) &'c Context);

impl<'de> serde::de::DeserializeSeed<'de> for Open<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Open<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        let bytes = text.len().saturating_mul(COPIES);
        self.0.charge(bytes.saturating_add(ALLOCATION))?;
        Ok(text.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = seq.next_element_seed(Open(self.0))? {
            self.0.charge(grown(array.len(), size_of::<Value>()))?;
            array.push(value);
        }
        Ok(array.into())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(Key(key)) = map.next_key()? {
            let node = match object.len().is_multiple_of(NODE_MEMBERS) {
                true => NODE,
                false => 0,
            };
            self.0
                .charge(node.saturating_add(key.len()).saturating_add(ALLOCATION))?;
            let value = map.next_value_seed(Open(self.0))?;
            object.insert(key.into_owned(), value);
        }
        Ok(object.into())
    }
}

/// Reads any JSON, within this memory limit.
pub(crate) fn read_any(json: &[u8], memory: usize) -> Option<Value> {
    let context = Context::new(Mode::Straight, MemoryLimit::of(memory, memory));
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = serde::de::DeserializeSeed::deserialize(Open(&context), &mut json).ok()?;
    json.end().ok()?;
    Some(value)
}

/// The memory of one more element in an array of this length. The first allocation is larger.
pub(super) fn grown(count: usize, element: usize) -> usize {
    match count {
        0 if element <= 1024 => element.saturating_mul(4).saturating_add(ALLOCATION),
        0 => element.saturating_add(ALLOCATION),
        _ => element,
    }
}

/// An object's key, borrowed from the body unless it holds escapes.
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> serde::de::Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        json.deserialize_str(KeyVisitor)
    }
}
