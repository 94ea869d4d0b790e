//! Lists that the API writes as one string.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::value::decode::{Expected, Inside, Scalar, Slot};
use crate::value::encode::{ParamValue, ToParam};

/// A list that travels as one string, its items separated by commas.
///
/// The server also separates by `;` and white space; reading accepts all of them. Items must not
/// hold a separator themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T = String>(pub Vec<T>);

impl<T> Deref for List<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

/// The items of a text.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', ' ', '\t', '\n', '\r', '\0'])
        .filter(|item| !item.is_empty())
}

impl From<&str> for List {
    fn from(text: &str) -> Self {
        items(text).map(str::to_owned).collect()
    }
}

impl From<String> for List {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl<T, S: Into<T>> From<Vec<S>> for List<T> {
    fn from(items: Vec<S>) -> Self {
        Self(items.into_iter().map(Into::into).collect())
    }
}

impl<T, S: Into<T>, const N: usize> From<[S; N]> for List<T> {
    fn from(items: [S; N]) -> Self {
        Self(items.into_iter().map(Into::into).collect())
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

impl<T: fmt::Display> ToParam for List<T> {
    fn to_param(&self) -> ParamValue {
        ParamValue::One(self.to_string())
    }
}

impl<T: Default + Slot> Slot for List<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let text = value.text().ok_or("list")?;
        let mut list = Vec::new();
        for text in items(&text) {
            let mut item = T::default();
            item.put(&Scalar::Text(text))
                .map_err(|_| "list of items of the right type")?;
            list.push(item);
        }
        self.0 = list;
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        self.0.inside()
    }

    fn text(&mut self) -> Option<String> {
        let items: Vec<String> = self.0.iter_mut().filter_map(Slot::text).collect();
        // Inside a property string the comma is taken; lists there use the semicolon.
        Some(items.join(";"))
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        self.0.show(out);
    }
}
