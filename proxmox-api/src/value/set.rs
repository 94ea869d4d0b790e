//! The implementation of setters of property strings and answers.

use serde_json::Value;

use crate::value::IndexedMap;
use crate::value::api_value::Extra;
use crate::value::input::{IntoItems, IntoItemsSetting, IntoSetting, IntoValue};
use crate::value::problem::Problem;

pub use crate::value::problem::Refuse;

/// An invalid argument is kept like a value of a server that does not fit its field.
impl Refuse for Extra {
    #[cold]
    fn refuse(&mut self, key: &str, problem: Problem) {
        let value = problem.value.map_or(Value::Null, Value::from);
        self.insert(key.to_owned(), value);
    }
}

/// Sets an optional member, if there is a value.
#[doc(hidden)]
#[inline]
pub fn set<P, How>(
    slot: &mut Option<P>,
    rest: &mut dyn Refuse,
    key: &str,
    value: impl IntoSetting<P, How>,
) {
    match value.into_setting() {
        Ok(Some(value)) => *slot = Some(value),
        Ok(None) => {}
        Err(problem) => rest.refuse(key, problem),
    }
}

/// Sets an optional list or array, if there is one.
#[doc(hidden)]
#[inline]
pub fn set_list<P, How, L: From<Vec<P>>>(
    slot: &mut Option<L>,
    rest: &mut dyn Refuse,
    key: &str,
    items: impl IntoItemsSetting<P, How>,
) {
    match items.into_items_setting() {
        Ok(Some(items)) => *slot = Some(items.into()),
        Ok(None) => {}
        Err(problem) => rest.refuse(key, problem),
    }
}

/// Sets a required member.
#[doc(hidden)]
#[inline]
pub fn put<P, How>(slot: &mut P, rest: &mut dyn Refuse, key: &str, value: impl IntoValue<P, How>) {
    match value.into_value() {
        Ok(value) => *slot = value,
        Err(problem) => rest.refuse(key, problem),
    }
}

/// Sets a required list or array.
#[doc(hidden)]
#[inline]
pub fn put_list<P, How, L: From<Vec<P>>>(
    slot: &mut L,
    rest: &mut dyn Refuse,
    key: &str,
    items: impl IntoItems<P, How>,
) {
    match items.into_items() {
        Ok(items) => *slot = items.into(),
        Err(problem) => rest.refuse(key, problem),
    }
}

/// Sets an indexed member, if there is a value.
#[doc(hidden)]
#[inline]
pub fn set_member<P, Which, How>(
    members: &mut IndexedMap<P>,
    rest: &mut dyn Refuse,
    prefix: &str,
    index: impl IntoValue<u8, Which>,
    value: impl IntoSetting<P, How>,
) {
    let index = match index.into_value() {
        Ok(index) => index,
        Err(problem) => {
            let number = problem.value.clone().unwrap_or_default();
            return rest.refuse(&format!("{prefix}{number}"), problem);
        }
    };
    match value.into_setting() {
        Ok(Some(value)) => {
            members.insert(index, value);
        }
        Ok(None) => {}
        Err(problem) => rest.refuse(&format!("{prefix}{index}"), problem),
    }
}
