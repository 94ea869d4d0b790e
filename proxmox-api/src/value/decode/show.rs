//! How what has slots is printed.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;

use super::{Object, Slot};

/// Prints an object with the members that are set.
#[doc(hidden)]
pub fn debug(object: &mut dyn Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut result = Ok(());
    object.open(&mut |shape, slots| {
        let mut out = f.debug_struct(shape.name);
        for (name, slot) in shape.names().zip(slots.iter_mut()) {
            slot.show(&mut |value| {
                out.field(name, value);
            });
        }
        if let Some(rest) = slots.last_mut() {
            let name = match shape.rules {
                None => "extra",
                Some(_) => "undeclared",
            };
            rest.show(&mut |value| {
                out.field(name, value);
            });
        }
        result = out.finish();
    });
    result
}

/// Lends a value that can only be looked at through its slots to a formatter.
pub(crate) struct Shown<'a, T: ?Sized>(RefCell<&'a mut T>);

impl<'a, T: ?Sized> Shown<'a, T> {
    pub(crate) fn new(value: &'a mut T) -> Self {
        Self(RefCell::new(value))
    }

    /// What it lends is given back before it is asked again.
    pub(crate) fn lend(&self) -> RefMut<'_, &'a mut T> {
        self.0.borrow_mut()
    }
}

impl fmt::Debug for Shown<'_, dyn Object + '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&mut **self.lend(), f)
    }
}

impl<T: Slot> fmt::Debug for Shown<'_, [T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for item in self.lend().iter_mut() {
            item.show(&mut |value| {
                list.entry(value);
            });
        }
        list.finish()
    }
}

impl<T: Slot> fmt::Debug for Shown<'_, BTreeMap<String, T>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, item) in self.lend().iter_mut() {
            item.show(&mut |value| {
                map.entry(key, value);
            });
        }
        map.finish()
    }
}
