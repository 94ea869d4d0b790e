//! Indexed values of one name.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Index, IndexMut};

use crate::value::api_value::{ApiValue, Expected, Indexed, Scalar, Target, View};
use crate::value::serialize::generic_serde_impls;

/// The values of an indexed parameter, such as `net0` and `net2`, by index.
///
/// It has the methods of a [`BTreeMap`](std::collections::BTreeMap); indexes need no reference.
/// These maps are small, and a sorted list is far less code for each type of value, in this crate
/// and in every program that reads a configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IndexedMap<T>(Vec<(u8, T)>);

impl<T> IndexedMap<T> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn position(&self, number: u8) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(known, _)| *known)
    }

    /// The value at that index.
    #[must_use]
    pub fn get(&self, number: impl Borrow<u8>) -> Option<&T> {
        let position = self.position(*number.borrow()).ok()?;
        Some(&self.0[position].1)
    }

    /// The value at that index, mutable.
    pub fn get_mut(&mut self, number: impl Borrow<u8>) -> Option<&mut T> {
        let position = self.position(*number.borrow()).ok()?;
        Some(&mut self.0[position].1)
    }

    /// Whether there is a value at that index.
    #[must_use]
    pub fn contains_key(&self, number: impl Borrow<u8>) -> bool {
        self.position(*number.borrow()).is_ok()
    }

    /// Adds a value; returns the previous one at that index.
    pub fn insert(&mut self, number: u8, value: T) -> Option<T> {
        match self.position(number) {
            Ok(position) => Some(std::mem::replace(&mut self.0[position].1, value)),
            Err(position) => {
                self.0.insert(position, (number, value));
                None
            }
        }
    }

    /// Removes a value.
    pub fn remove(&mut self, number: impl Borrow<u8>) -> Option<T> {
        let position = self.position(*number.borrow()).ok()?;
        Some(self.0.remove(position).1)
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values in the order of their indexes.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&u8, &T)> + ExactSizeIterator {
        self.0.iter().map(|(number, value)| (number, value))
    }

    /// All values in the order of their indexes, mutable.
    pub fn iter_mut(
        &mut self,
    ) -> impl DoubleEndedIterator<Item = (&u8, &mut T)> + ExactSizeIterator {
        self.0.iter_mut().map(|(number, value)| (&*number, value))
    }

    /// The indexes, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &u8> + ExactSizeIterator {
        self.0.iter().map(|(number, _)| number)
    }

    /// The values, in the order of their indexes.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<T> Default for IndexedMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for IndexedMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// # Panics
/// There is no value at that index; [`IndexedMap::get`] does not panic.
impl<T> Index<&u8> for IndexedMap<T> {
    type Output = T;

    #[track_caller]
    fn index(&self, number: &u8) -> &T {
        match self.get(number) {
            Some(value) => value,
            None => panic!("there is no value at index {number}"),
        }
    }
}

/// # Panics
/// There is no value at that index; [`IndexedMap::get`] does not panic.
impl<T> Index<u8> for IndexedMap<T> {
    type Output = T;

    #[track_caller]
    fn index(&self, number: u8) -> &T {
        &self[&number]
    }
}

/// # Panics
/// There is no value at that index; [`IndexedMap::get_mut`] does not panic.
impl<T> IndexMut<u8> for IndexedMap<T> {
    #[track_caller]
    fn index_mut(&mut self, number: u8) -> &mut T {
        &mut self[&number]
    }
}

/// # Panics
/// There is no value at that index; [`IndexedMap::get_mut`] does not panic.
impl<T> IndexMut<&u8> for IndexedMap<T> {
    #[track_caller]
    fn index_mut(&mut self, number: &u8) -> &mut T {
        match self.get_mut(number) {
            Some(value) => value,
            None => panic!("there is no value at index {number}"),
        }
    }
}

impl<T> FromIterator<(u8, T)> for IndexedMap<T> {
    fn from_iter<I: IntoIterator<Item = (u8, T)>>(members: I) -> Self {
        let mut indexed = Self::new();
        indexed.extend(members);
        indexed
    }
}

impl<T> Extend<(u8, T)> for IndexedMap<T> {
    fn extend<I: IntoIterator<Item = (u8, T)>>(&mut self, members: I) {
        for (number, value) in members {
            self.insert(number, value);
        }
    }
}

impl<T> IntoIterator for IndexedMap<T> {
    type Item = (u8, T);
    type IntoIter = std::vec::IntoIter<(u8, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a IndexedMap<T> {
    type Item = (&'a u8, &'a T);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, (u8, T)>, fn(&'a (u8, T)) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(number, value)| (number, value))
    }
}

impl<T: ApiValue + Clone> ApiValue for IndexedMap<T> {
    fn empty() -> Self {
        Self::new()
    }

    fn set_scalar(&mut self, _: &Scalar<'_>) -> Result<(), Expected> {
        Err("indexed members")
    }

    fn target(&mut self) -> Target<'_> {
        Target::Indexed(self)
    }

    fn view(&self) -> View<'_> {
        View::Indexed(self)
    }
}

impl<T: ApiValue + Clone> Indexed for IndexedMap<T> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(u8, &'a dyn ApiValue)) {
        for (number, value) in &self.0 {
            visit(*number, value);
        }
    }

    fn add(&mut self, number: u8, fill: &mut dyn FnMut(&mut dyn ApiValue) -> bool) {
        let mut value = T::empty();
        if fill(&mut value) {
            self.insert(number, value);
        }
    }
}

generic_serde_impls!(IndexedMap);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::IndexedMap;

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(steps in prop::collection::vec((any::<bool>(), 0_u8..12, 0..100), 0..60)) {
            let mut indexed = IndexedMap::new();
            let mut map = BTreeMap::new();
            for (insert, number, value) in steps {
                if insert {
                    prop_assert_eq!(indexed.insert(number, value), map.insert(number, value));
                } else {
                    prop_assert_eq!(indexed.remove(number), map.remove(&number));
                }
                prop_assert_eq!(indexed.get(number), map.get(&number));
                prop_assert_eq!(indexed.contains_key(number), map.contains_key(&number));
            }
            prop_assert!(indexed.iter().eq(map.iter()));
            prop_assert!((&indexed).into_iter().eq(&map));
            prop_assert!(indexed.keys().eq(map.keys()) && indexed.values().eq(map.values()));
            prop_assert_eq!((indexed.len(), indexed.is_empty()), (map.len(), map.is_empty()));
            prop_assert_eq!(format!("{indexed:?}"), format!("{map:?}"));
            prop_assert_eq!(&indexed, &map.clone().into_iter().collect());
            prop_assert!(indexed.into_iter().eq(map));
        }
    }
}
