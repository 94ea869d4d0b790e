//! Values as one text, in property strings and settings.

use std::borrow::Cow;

use crate::value::api_value::{Array, View};
use crate::value::problem::Problem;
use crate::value::{list, property_string};

impl View<'_> {
    /// The value as one text, for property strings and settings; `None` without a value or such a
    /// form.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Scalar(scalar) => scalar.text().map(Cow::into_owned),
            Self::Secret(text) => Some((*text).to_owned()),
            Self::Size(text, _) => Some((*text).to_owned()),
            // Inside a property string the comma is reserved; lists there use the semicolon.
            Self::List(array) => Some(array.joined(";")),
            Self::Object(object) => property_string::text(*object),
            Self::Absent
            | Self::AbsentSecret
            | Self::Json(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Indexed(_)
            | Self::Extra(_)
            | Self::UnknownKeys(_) => None,
        }
    }

    /// The reason why the server would misread the text.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self {
            Self::List(array) => list::problem(*array),
            Self::Object(object) => property_string::problem(*object),
            _ => None,
        }
    }
}

impl dyn Array + '_ {
    /// The texts of the elements.
    pub(crate) fn joined(&self, separator: &str) -> String {
        let texts: Vec<String> = self.iter().filter_map(|item| item.view().text()).collect();
        texts.join(separator)
    }
}
