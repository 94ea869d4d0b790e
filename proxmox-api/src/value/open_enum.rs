//! Enums that keep unknown values.

use std::fmt;

use crate::value::api_value::{Expected, Kind, Scalar, Target, View};
use crate::value::encode::ParamValue;
use crate::value::parameter::OneText;
use crate::value::problem::Problem;

/// A value that this version of the crate has no variant for, kept unchanged.
///
/// Its content is read through the enum's `as_str`, so that code keeps working when a later version
/// of the crate adds a variant for the value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnknownValue(Box<str>);

impl UnknownValue {
    #[doc(hidden)]
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    #[doc(hidden)]
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An enum that keeps unknown values.
#[doc(hidden)]
pub trait OpenEnum: Clone + PartialEq + 'static {
    /// The texts of the known values, and the values themselves, in the same order.
    const KNOWN_VALUES: (&'static [&'static str], &'static [Self]);

    fn unknown(other: UnknownValue) -> Self;

    fn other(&self) -> Option<&UnknownValue>;
}

/// The text of the API.
#[doc(hidden)]
#[inline]
pub fn text<T: OpenEnum>(value: &T) -> &str {
    if let Some(other) = value.other() {
        return other.text();
    }
    let (texts, values) = T::KNOWN_VALUES;
    // A loop is much less code than iterators, for each enum.
    let mut position = 0;
    while position < values.len() && values[position] != *value {
        position += 1;
    }
    texts.get(position).copied().unwrap_or_default()
}

/// The value for a text of the API.
#[doc(hidden)]
#[inline]
pub fn value<T: OpenEnum>(text: &str) -> T {
    let (texts, values) = T::KNOWN_VALUES;
    match position(texts, text) {
        Some(position) => values[position].clone(),
        None => T::unknown(UnknownValue::new(text)),
    }
}

/// Compiled once, for all enums.
#[inline(never)]
fn position(texts: &[&str], text: &str) -> Option<usize> {
    texts.iter().position(|known| *known == text)
}

/// The kind of open enums.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "never made")]
pub enum Enums {}

impl<T: OpenEnum> Kind<T> for Enums {
    fn empty() -> T {
        T::unknown(UnknownValue::new(""))
    }

    fn set_scalar(target: &mut T, scalar: &Scalar<'_>) -> Result<(), Expected> {
        scalar.with_text(&mut |text| *target = value(text))
    }

    fn target(_: &mut T) -> Target<'_> {
        Target::Scalar
    }

    fn view(value: &T) -> View<'_> {
        View::Scalar(text(value).into())
    }
}

impl<T: OpenEnum> OneText<T> for Enums {
    fn read(text: &str) -> T {
        value(text)
    }

    fn to_param(value: &T) -> ParamValue {
        ParamValue::One(text(value).to_owned())
    }

    fn problem(_: &T) -> Option<Problem> {
        None
    }
}

/// The methods and traits of every open enum. Of traits that are implemented several times, for
/// owned and borrowed texts, the documentation shows one.
macro_rules! open_enum_impls {
    ($name:ident { $($text:literal $variant:ident),* $(,)? }) => {
        impl Generated for $name {
            type Kind = open_enum::Enums;
        }

        impl Eq for $name {}

        #[doc(hidden)]
        impl OpenEnum for $name {
            const KNOWN_VALUES: (&'static [&'static str], &'static [Self]) =
                (&[$($text,)*], Self::KNOWN);

            #[inline]
            fn unknown(other: UnknownValue) -> Self {
                Self::UnknownValue(other)
            }

            #[inline]
            fn other(&self) -> Option<&UnknownValue> {
                match self {
                    Self::UnknownValue(other) => Some(other),
                    _ => None,
                }
            }
        }

        impl $name {
            /// The values that this version of the crate knows.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant,)*];

            /// The text of the API.
            #[inline]
            #[must_use]
            pub fn as_str(&self) -> &str {
                open_enum::text(self)
            }
        }

        impl From<&str> for $name {
            #[inline]
            fn from(text: &str) -> Self {
                open_enum::value(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            #[inline]
            fn from_str(text: &str) -> Result<Self, std::convert::Infallible> {
                Ok(open_enum::value(text))
            }
        }

        #[doc(hidden)]
        impl AsRef<str> for $name {
            #[inline]
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        // So that an optional one is compared with `as_deref`. The methods of texts would be listed
        // for every enum.
        #[doc(hidden)]
        impl std::ops::Deref for $name {
            type Target = str;

            #[inline]
            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            #[inline]
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        #[doc(hidden)]
        impl PartialEq<&str> for $name {
            #[inline]
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        /// In the order of the texts.
        #[doc(hidden)]
        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        /// In the order of the texts.
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl fmt::Debug for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        serde_impls!($name);
    };
}

pub(crate) use open_enum_impls;

#[cfg(test)]
#[expect(unreachable_pub, reason = "what the macro declares is public")]
mod tests {
    use crate::support::*;

    #[derive(Clone, PartialEq)]
    enum Colour {
        Red,
        Blue,
        UnknownValue(UnknownValue),
    }

    open_enum_impls!(Colour { "red" Red, "blue" Blue });

    #[test]
    fn known_and_unknown_values_keep_their_text() {
        assert_eq!(Colour::from("red"), Colour::Red);
        assert_eq!(Colour::Red.as_str(), "red");
        assert_eq!(Colour::from("mauve").to_string(), "mauve");
    }

    #[test]
    fn values_compare_with_texts_and_known_ones_are_listed() {
        let red: Colour = "red".parse().expect("any text is a value");
        assert!(red == "red" && red == *"red" && red != "blue" && red.as_ref() == "red");
        assert_eq!(Some(red.clone()).as_deref(), Some("red"));
        assert_eq!(Colour::KNOWN, [Colour::Red, Colour::Blue]);
        let mut sorted = [Colour::Red, "mauve".into(), Colour::Blue];
        sorted.sort();
        assert_eq!(
            sorted.map(|colour| colour.to_string()),
            ["blue", "mauve", "red"]
        );
    }

    #[test]
    fn values_are_strings_in_json() {
        let colours: Vec<Colour> = serde_json::from_str(r#"["red","mauve",7]"#).expect("texts");
        assert_eq!(
            serde_json::to_string(&colours).expect("JSON"),
            r#"["red","mauve","7"]"#
        );
    }
}
