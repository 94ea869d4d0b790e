//! Property strings of any type.

use std::fmt::Display;
use std::str::FromStr;

use proxmox_api::Value;
use proxmox_api::value::encode::ToParam;
use proxmox_api::value::property_string::PropertyError;

use crate::answer::{Kept, assert_kept};

/// A type of property string.
#[derive(Debug)]
pub struct PropertyType {
    pub name: &'static str,
    pub read: fn(&str) -> Read,
}

/// What became of a text.
#[derive(Debug)]
pub struct Read {
    /// What was understood, laid open; the error of strict reading otherwise.
    pub strict: Result<Value, String>,
    /// What lenient reading, which keeps what it does not understand, makes of it.
    pub lenient: Value,
    /// What lenient reading writes back.
    pub written: String,
    /// What lenient reading prints.
    pub printed: String,
}

pub(crate) fn read<T>(text: &str) -> Read
where
    T: FromStr<Err = PropertyError> + for<'a> From<&'a str> + Display + Kept + ToParam,
{
    let lenient = T::from(text);
    assert_kept(&lenient);
    Read {
        strict: text
            .parse::<T>()
            .map(|value| value.show().unwrap_or_default())
            .map_err(|error| error.to_string()),
        written: lenient.to_param().texts().join(","),
        printed: format!("{lenient:?} {lenient}"),
        lenient: lenient.show().unwrap_or_default(),
    }
}
