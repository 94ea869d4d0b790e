//! Generated values that are one text each, enums and property strings: parameters of these types
//! share their code.

use crate::value::api_value::{Generated, Kind};
use crate::value::encode::{ParamValue, ToParam};
use crate::value::problem::Problem;

/// A kind whose values are one text each.
#[doc(hidden)]
pub trait OneText<T>: Kind<T> {
    fn read(text: &str) -> T;

    fn to_param(value: &T) -> ParamValue;

    fn problem(value: &T) -> Option<Problem>;
}

impl<T: Generated> ToParam for T
where
    T::Kind: OneText<T>,
{
    fn to_param(&self) -> ParamValue {
        T::Kind::to_param(self)
    }

    fn problem(&self) -> Option<Problem> {
        T::Kind::problem(self)
    }
}
