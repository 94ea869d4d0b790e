//! Plain values, and containers of values of one type.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    ApiValue, Array, Expected, Extra, Generated, Kind, Map, Object, Objects, Scalar, Target, View,
};
use crate::Secret;

impl ApiValue for bool {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Bool(value) => *value,
            Scalar::Int(0) | Scalar::Float(0.0) | Scalar::Reset => false,
            Scalar::Int(1) | Scalar::Float(1.0) => true,
            Scalar::Text(text) => read_bool(text).ok_or("boolean")?,
            _ => return Err("boolean"),
        };
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(Scalar::Bool(*self))
    }
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
    match value {
        Scalar::Bool(value) => Some((*value).into()),
        Scalar::Int(value) => Some(*value),
        Scalar::Reset => Some(0),
        Scalar::UInt(_) | Scalar::Null => None,
        // Perl writes large sizes as floats; beyond 2^63 the cast below would not be exact.
        Scalar::Float(value) => {
            (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(*value as i64)
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

impl ApiValue for i64 {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = integer(value).ok_or("integer")?;
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(Scalar::Int(*self))
    }
}

impl ApiValue for u64 {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::UInt(value) => *value,
            Scalar::Text(text) if text.trim().parse::<Self>().is_ok() => {
                text.trim().parse().map_err(|_| "integer from 0")?
            }
            value => integer(value)
                .and_then(|value| value.try_into().ok())
                .ok_or("integer from 0")?,
        };
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(match i64::try_from(*self) {
            Ok(value) => Scalar::Int(value),
            Err(_) => Scalar::UInt(*self),
        })
    }
}

impl ApiValue for u32 {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let wide = integer(value).ok_or("integer")?;
        *self = wide
            .try_into()
            .map_err(|_| "integer from 0 to 4294967295")?;
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(Scalar::Int((*self).into()))
    }
}

impl ApiValue for f64 {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let number = match value {
            Scalar::Int(value) => *value as f64,
            Scalar::UInt(value) => *value as f64,
            Scalar::Float(value) => *value,
            Scalar::Text(text) => text.trim().parse().map_err(|_| "number")?,
            Scalar::Reset => 0.0,
            Scalar::Bool(_) | Scalar::Null => return Err("number"),
        };
        // JSON has no other numbers, so these could not be written back.
        *self = Some(number)
            .filter(|number| number.is_finite())
            .ok_or("number")?;
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(Scalar::Float(*self))
    }
}

impl ApiValue for String {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = match value {
            Scalar::Text(text) => text.clone().into_owned(),
            value => value.text().ok_or("string")?.into_owned(),
        };
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Scalar(self.as_str().into())
    }
}

impl ApiValue for Secret {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.text().ok_or("string")?.into_owned().into();
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View::Secret(self.expose())
    }

    fn absent() -> View<'static> {
        View::AbsentSecret
    }
}

impl ApiValue for Value {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        *self = value.clone().into_json();
        Ok(())
    }

    fn target(&mut self) -> Target<'_> {
        Target::Any(self)
    }

    fn view(&self) -> View<'_> {
        View::Json(self)
    }
}

impl ApiValue for Extra {
    fn empty() -> Self {
        Self::new()
    }

    fn set_scalar(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("object")
    }

    fn target(&mut self) -> Target<'_> {
        Target::Extra(self)
    }

    fn view(&self) -> View<'_> {
        View::Extra(self)
    }
}

impl<T: Generated> ApiValue for T {
    fn empty() -> Self {
        T::Kind::empty()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        T::Kind::set_scalar(self, value)
    }

    fn cost_of(&self, text: &str) -> usize {
        cost_of_parts(text)
    }

    fn target(&mut self) -> Target<'_> {
        T::Kind::target(self)
    }

    fn view(&self) -> View<'_> {
        T::Kind::view(self)
    }
}

/// A property string has a part for each comma. Compiled once, for all types.
fn cost_of_parts(text: &str) -> usize {
    let parts = text.bytes().filter(|byte| *byte == b',').count();
    (parts.saturating_add(1) * 4 * super::ALLOCATION).saturating_add(text.len())
}

impl<T: Object + 'static> Kind<T> for Objects {
    fn empty() -> T {
        T::empty()
    }

    fn set_scalar(_: &mut T, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("object")
    }

    fn target(value: &mut T) -> Target<'_> {
        Target::Object(value)
    }

    fn view(value: &T) -> View<'_> {
        View::Object(value)
    }
}

impl<T: ApiValue + Clone> ApiValue for Option<T> {
    fn empty() -> Self {
        None
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        // Compiled for every type: each value that may be dropped here costs much code.
        if matches!(value, Scalar::Null | Scalar::Reset) {
            *self = None;
            return Ok(());
        }
        let refused = self.insert(T::empty()).set_scalar(value);
        if refused.is_err() {
            *self = None;
        }
        refused
    }

    fn cost_of(&self, text: &str) -> usize {
        match self {
            Some(value) => value.cost_of(text),
            None => T::empty().cost_of(text),
        }
    }

    fn target(&mut self) -> Target<'_> {
        // The target of an empty value is known once there is one.
        if matches!(self.insert(T::empty()).target(), Target::Scalar) {
            *self = None;
        }
        match self {
            Some(value) => value.target(),
            None => Target::Scalar,
        }
    }

    fn view(&self) -> View<'_> {
        match self {
            Some(value) => value.view(),
            None => T::absent(),
        }
    }
}

impl<T: ApiValue + Clone> ApiValue for Vec<T> {
    fn empty() -> Self {
        Self::new()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        self.clear();
        // Older releases write one scalar where newer ones write an array.
        if !matches!(value, Scalar::Null | Scalar::Reset) {
            let mut only = T::empty();
            only.set_scalar(value).map_err(|_| "array")?;
            self.push(only);
        }
        Ok(())
    }

    fn target(&mut self) -> Target<'_> {
        self.clear();
        Target::Array(self)
    }

    fn view(&self) -> View<'_> {
        View::Array(self)
    }
}

impl<T: ApiValue + Clone> Array for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> &dyn ApiValue {
        &self[index]
    }

    fn push_empty(&mut self) -> &mut dyn ApiValue {
        let index = self.len();
        self.push(T::empty());
        &mut self[index]
    }

    fn element_size(&self) -> usize {
        size_of::<T>()
    }

    fn pop(&mut self) {
        self.pop();
    }

    fn close(&mut self) {
        // The spare capacity of a long list is up to half of it, and callers may keep the list.
        if (self.capacity() - self.len()) * size_of::<T>() > 4096 {
            self.shrink_to_fit();
        }
    }
}

impl<T: ApiValue + Clone> ApiValue for BTreeMap<String, T> {
    fn empty() -> Self {
        Self::new()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        match value {
            Scalar::Null | Scalar::Reset => {}
            // Perl code sometimes returns an empty string or an empty list for an empty hash.
            Scalar::Text(text) if text.is_empty() => {}
            _ => return Err("object"),
        }
        self.clear();
        Ok(())
    }

    fn target(&mut self) -> Target<'_> {
        self.clear();
        Target::Map(self)
    }

    fn view(&self) -> View<'_> {
        View::Map(self)
    }
}

impl<T: ApiValue + Clone> Map for BTreeMap<String, T> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a dyn ApiValue)) {
        for (key, value) in self {
            visit(key, value);
        }
    }

    fn add(&mut self, key: &str, fill: &mut dyn FnMut(&mut dyn ApiValue) -> bool) {
        let mut value = T::empty();
        if fill(&mut value) {
            self.insert(key.to_owned(), value);
        }
    }
}
