//! Settings with changes that are not applied.

use crate::value::api_value::{ApiValue, Expected, Scalar, Target, View};
use crate::value::serialize::generic_serde_impls;

/// The new value of a setting whose change is not applied, or its removal.
///
/// The server writes the word `deleted` in place of the value. A setting whose new value is that
/// word looks the same.
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
    /// The new value, unless the setting will be removed.
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

    /// Whether the setting will be removed.
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

impl<T: ApiValue + Clone> ApiValue for Pending<T> {
    fn empty() -> Self {
        Self::Set(T::empty())
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        if *value == Scalar::from(DELETED) {
            *self = Self::Deleted;
            return Ok(());
        }
        let mut inner = T::empty();
        inner.set_scalar(value)?;
        *self = Self::Set(inner);
        Ok(())
    }

    fn cost_of(&self, text: &str) -> usize {
        T::empty().cost_of(text)
    }

    fn target(&mut self) -> Target<'_> {
        *self = Self::empty();
        self.inner().map_or(Target::Scalar, T::target)
    }

    fn view(&self) -> View<'_> {
        match self {
            Self::Set(value) => value.view(),
            Self::Deleted => View::Scalar(DELETED.into()),
        }
    }

    fn absent() -> View<'static> {
        T::absent()
    }
}

generic_serde_impls!(Pending);
