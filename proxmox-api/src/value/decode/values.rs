//! The slots of values that are not generated.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Array, Expected, Extra, Inside, Map, Object, Scalar, Shown, Slot};
use crate::Secret;
use crate::value::encode::Problem;
use crate::value::property_string;
use crate::value::secret::{Redacted, RedactedObject};

/// What scalar slots have besides `put`.
macro_rules! scalar_slot {
    (|$slot:ident| $text:expr) => {
        #[inline]
        fn text(&mut self) -> Option<String> {
            let $slot = &*self;
            Some($text)
        }

        #[inline]
        fn show(&mut self, out: &mut dyn FnMut(&dyn std::fmt::Debug)) {
            out(self);
        }
    };
}

pub(crate) use scalar_slot;

impl Slot for bool {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Bool(value) => *value,
            Scalar::Int(0) | Scalar::Float(0.0) | Scalar::Unset => false,
            Scalar::Int(1) | Scalar::Float(1.0) => true,
            Scalar::Text(text) => read_bool(text).ok_or("boolean")?,
            _ => return Err("boolean"),
        };
        Ok(())
    }

    scalar_slot!(|slot| u8::from(*slot).to_string());
}

/// Perl's booleans, and the words that property strings allow.
fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "" | "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

fn integer(value: &Scalar<'_>) -> Option<i64> {
    match *value {
        Scalar::Bool(value) => Some(value.into()),
        Scalar::Int(value) => Some(value),
        Scalar::Unset => Some(0),
        Scalar::UInt(_) | Scalar::Null => None,
        // Perl writes large sizes as floats; beyond 2^63 the cast below would not be exact.
        Scalar::Float(value) => {
            (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(value as i64)
        }
        Scalar::Text(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| {
                let float = text.parse::<f64>().ok()?;
                integer(&Scalar::Float(float))
            })
        }
    }
}

impl Slot for i64 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = integer(value).ok_or("integer")?;
        Ok(())
    }

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for u32 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let wide = integer(value).ok_or("integer")?;
        *self = wide
            .try_into()
            .map_err(|_| "integer from 0 to 4294967295")?;
        Ok(())
    }

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for f64 {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match *value {
            Scalar::Int(value) => value as f64,
            Scalar::UInt(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Text(text) => text.trim().parse().map_err(|_| "number")?,
            Scalar::Unset => 0.0,
            Scalar::Bool(_) | Scalar::Null => return Err("number"),
        };
        Ok(())
    }

    scalar_slot!(|slot| slot.to_string());
}

impl Slot for String {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Text(text) => (*text).to_owned(),
            value => value.text().ok_or("string")?.into_owned(),
        };
        Ok(())
    }

    scalar_slot!(|slot| slot.clone());
}

impl Slot for Secret {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.text().ok_or("string")?.into_owned().into();
        Ok(())
    }

    fn hides(&self) -> bool {
        true
    }

    scalar_slot!(|slot| slot.expose().to_owned());
}

impl Slot for Value {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.to_json();
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Any(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(&Redacted(self));
    }
}

impl Slot for Extra {
    fn put(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("object")
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Extra(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        if !self.is_empty() {
            out(&RedactedObject(self));
        }
    }
}

impl<T: Object> Slot for T {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        put_text(self, value)
    }

    fn inside(&mut self) -> Inside<'_> {
        Inside::Object(self)
    }

    fn text(&mut self) -> Option<String> {
        property_string::text(self)
    }

    fn problem(&mut self) -> Option<Problem> {
        property_string::problem(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        let object: &mut dyn Object = self;
        out(&Shown::new(object));
    }
}

/// A text fits an object that is a property string.
fn put_text(object: &mut dyn Object, value: &Scalar<'_>) -> Result<(), Expected> {
    let mut result = Ok(());
    object.open(&mut |shape, slots| {
        result = match (shape.rules, value.text()) {
            (None, _) => Err("object"),
            (_, None) => Err("property string"),
            (Some(rules), Some(text)) => {
                property_string::read_slots(&text, shape, rules, slots);
                Ok(())
            }
        }
    });
    result
}

impl<T: Slot + Default> Slot for Option<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let taken = match value {
            Scalar::Null | Scalar::Unset => None,
            value => Some(self.insert(T::default()).put(value)),
        };
        if !matches!(taken, Some(Ok(()))) {
            *self = None;
        }
        taken.unwrap_or(Ok(()))
    }

    fn inside(&mut self) -> Inside<'_> {
        // A new value is asked what it takes, and asked again to lend it out.
        if matches!(self.insert(T::default()).inside(), Inside::Scalar) {
            *self = None;
        }
        self.as_mut().map_or(Inside::Scalar, T::inside)
    }

    fn text(&mut self) -> Option<String> {
        self.as_mut()?.text()
    }

    fn hides(&self) -> bool {
        self.as_ref().is_some_and(T::hides)
    }

    fn problem(&mut self) -> Option<Problem> {
        self.as_mut()?.problem()
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        if let Some(inner) = self {
            inner.show(out);
        }
    }
}

impl<T: Slot + Default> Slot for Vec<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let mut only = None;
        // Older releases write one scalar where newer ones write an array.
        if !matches!(value, Scalar::Null | Scalar::Unset) {
            only.insert(T::default()).put(value).map_err(|_| "array")?;
        }
        self.clear();
        self.extend(only);
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        self.clear();
        Inside::Array(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(&Shown::new(&mut self[..]));
    }
}

impl<T: Slot + Default> Array for Vec<T> {
    fn next(&mut self) -> &mut dyn Slot {
        let index = self.len();
        self.push(T::default());
        &mut self[index]
    }

    fn trim(&mut self) {
        self.pop();
        // Room to grow is up to half of a long list, and what asked for the list may keep it.
        if (self.capacity() - self.len()) * size_of::<T>() > 4096 {
            self.shrink_to_fit();
        }
    }
}

impl<T: Slot + Default> Slot for BTreeMap<String, T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        match value {
            // Perl code returns an empty string or an empty list for an empty hash now and then.
            Scalar::Null | Scalar::Unset | Scalar::Text("") => {
                self.clear();
                Ok(())
            }
            _ => Err("object"),
        }
    }

    fn inside(&mut self) -> Inside<'_> {
        self.clear();
        Inside::Map(self)
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        out(&Shown::new(self));
    }
}

impl<T: Slot + Default> Map for BTreeMap<String, T> {
    fn add(&mut self, key: &str, fill: &mut dyn FnMut(&mut dyn Slot) -> bool) {
        let mut value = T::default();
        if fill(&mut value) {
            self.insert(key.to_owned(), value);
        }
    }
}
