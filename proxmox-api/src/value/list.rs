//! Lists that the API writes as one text.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::value::api_value::{
    ALLOCATION, ApiValue, Array, COPIES, Expected, Scalar, Target, View,
};
use crate::value::encode::{ParamValue, ToParam};
use crate::value::problem::Problem;

/// A list that is sent as one text.
///
/// Reading accepts commas, semicolons and white space as separators, as the server's checks do.
/// Writing uses the separator of the code behind the parameter: a comma nearly everywhere, a space
/// for [those listed with the endpoint](crate::value::endpoint::Endpoint::separators), a semicolon
/// inside of property strings. An item that holds a separator would arrive as several; a request
/// with such an item is refused before sending.
///
/// It can be used as the [`Vec`] of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T = String>(pub Vec<T>);

// Hidden, because the page of this type would repeat that of `Vec`.
#[doc(hidden)]
impl<T> Deref for List<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

#[doc(hidden)]
impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

/// The item separators of the server's checks.
fn separates(c: char) -> bool {
    matches!(c, ',' | ';' | '\0') || c.is_ascii_whitespace() || c == '\x0b'
}

/// The items of a text.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(separates).filter(|item| !item.is_empty())
}

/// The list in `text` with other separators.
pub(crate) fn separated_by(separator: char, text: &str) -> String {
    let mut list = String::with_capacity(text.len());
    for item in items(text) {
        if !list.is_empty() {
            list.push(separator);
        }
        list.push_str(item);
    }
    list
}

/// The problem with a text that would arrive as several items.
pub(crate) fn not_one_item(item: &str) -> Option<Problem> {
    let what = match item.chars().find(|c| separates(*c))? {
        ',' => "a comma",
        ';' => "a semicolon",
        '\0' => "a NUL character",
        _ => "white space",
    };
    Some(Problem::certain(
        item,
        &format!(
            "items without {what}, where the server ends an item; pass several items separately"
        ),
    ))
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

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
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

    fn problem(&self) -> Option<Problem> {
        self.0
            .iter()
            .find_map(|item| not_one_item(&item.to_string()))
    }
}

impl<T: ApiValue + Clone> ApiValue for List<T> {
    fn empty() -> Self {
        Self(Vec::new())
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        let text = value.text().ok_or("list")?;
        let mut list = Vec::new();
        for text in items(&text) {
            let mut item = T::empty();
            item.set_scalar(&text.into())
                .map_err(|_| "list of items of the right type")?;
            list.push(item);
        }
        self.0 = list;
        Ok(())
    }

    fn cost_of(&self, text: &str) -> usize {
        let each = size_of::<T>().saturating_add(2 * ALLOCATION);
        (items(text).count().saturating_mul(each)).saturating_add(text.len().saturating_mul(COPIES))
    }

    fn target(&mut self) -> Target<'_> {
        self.0.target()
    }

    fn view(&self) -> View<'_> {
        View::List(&self.0)
    }
}

/// The problem with an item that would arrive as several.
pub(crate) fn problem(list: &dyn Array) -> Option<Problem> {
    list.iter()
        .filter_map(|item| item.view().text())
        .find_map(|item| not_one_item(&item))
}

/// Whether a list stays the same as one text.
pub(crate) fn is_one_text(list: &dyn Array) -> bool {
    list.iter().all(|item| {
        let text = item.view().text().unwrap_or_default();
        items(&text).eq([text.as_str()])
    })
}
