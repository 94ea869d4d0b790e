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
    pub read: fn(&str) -> ReadResult,
}

/// The results for a text.
#[derive(Debug)]
pub struct ReadResult {
    /// The strictly parsed value as JSON, or the error.
    pub strict: Result<Value, String>,
    /// The leniently parsed value, which keeps everything.
    pub lenient: Value,
    /// The text written for the leniently parsed value.
    pub written: String,
    /// The `Debug` form of the leniently parsed value.
    pub printed: String,
}

pub(crate) fn read<T>(text: &str) -> ReadResult
where
    T: FromStr<Err = PropertyError> + for<'a> From<&'a str> + Display + Kept + ToParam,
{
    let lenient = T::from(text);
    assert_kept(&lenient);
    ReadResult {
        strict: text
            .parse::<T>()
            .map(|value| value.show().unwrap_or_default())
            .map_err(|error| error.to_string()),
        written: lenient.to_param().texts().join(","),
        printed: format!("{lenient:?} {lenient}"),
        lenient: lenient.show().unwrap_or_default(),
    }
}
