//! Settings that were changed and are not applied yet.

use std::fmt;

use crate::value::decode::{Expected, Inside, Scalar, Slot};

/// The new value of a setting whose change is not applied yet, or that the setting is to go.
///
/// The server writes the word `deleted` in the place of the value. A setting whose new value is that very word looks
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pending<T> {
    /// The setting will have this value.
    Set(T),
    /// The setting will have no value.
    Deleted,
}

/// What the server writes for [`Pending::Deleted`].
const DELETED: &str = "deleted";

impl<T> Pending<T> {
    /// The new value, unless the setting is to go.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Deleted => None,
        }
    }

    /// As [`Pending::value`], by value.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Deleted => None,
        }
    }

    /// Whether the setting is to go.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted)
    }

    fn inner(&mut self) -> Option<&mut T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Deleted => None,
        }
    }
}

impl<T: Default> Default for Pending<T> {
    fn default() -> Self {
        Self::Set(T::default())
    }
}

impl<T: Slot + Default> Slot for Pending<T> {
    fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        if *value == Scalar::Text(DELETED) {
            *self = Self::Deleted;
            return Ok(());
        }
        let mut inner = T::default();
        inner.put(value)?;
        *self = Self::Set(inner);
        Ok(())
    }

    fn inside(&mut self) -> Inside<'_> {
        *self = Self::default();
        self.inner().map_or(Inside::Scalar, T::inside)
    }

    fn text(&mut self) -> Option<String> {
        match self {
            Self::Set(value) => value.text(),
            Self::Deleted => Some(DELETED.to_owned()),
        }
    }

    fn show(&mut self, out: &mut dyn FnMut(&dyn fmt::Debug)) {
        match self {
            Self::Set(value) => value.show(out),
            Self::Deleted => out(&format_args!("Deleted")),
        }
    }
}
