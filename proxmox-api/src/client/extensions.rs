//! State that higher layers keep in the client.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One value of each type.
#[derive(Default)]
pub(super) struct Extensions(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Extensions {
    /// The value of that type, made at the first use.
    pub(super) fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut kept = (self.0.lock()).unwrap_or_else(PoisonError::into_inner);
        let make = || -> Arc<dyn Any + Send + Sync> { Arc::new(T::default()) };
        let kept = kept.entry(TypeId::of::<T>()).or_insert_with(make);
        // The key is its type.
        Arc::clone(kept).downcast().unwrap_or_default()
    }
}
