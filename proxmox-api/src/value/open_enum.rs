//! Enums that keep values they do not know.

use std::fmt;

use crate::value::decode::{Expected, Scalar};

/// A value that this version of the crate has no variant for, kept as the server sent it.
///
/// Its content is read through the enum's `as_str`, so that code keeps working when a later version
/// of the crate gives the value a variant of its own.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Unlisted(Box<str>);

impl Unlisted {
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

impl fmt::Debug for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An enum that keeps values it does not know.
#[doc(hidden)]
pub trait OpenEnum: Clone + PartialEq + 'static {
    /// The texts of the values it knows, and the values themselves, in the same order.
    const LISTED: (&'static [&'static str], &'static [Self]);

    fn unlisted(other: Unlisted) -> Self;

    fn other(&self) -> Option<&Unlisted>;
}

/// The text of the API.
#[doc(hidden)]
#[inline]
pub fn text<T: OpenEnum>(value: &T) -> &str {
    if let Some(other) = value.other() {
        return other.text();
    }
    let (texts, values) = T::LISTED;
    // A loop is a fraction of the code that iterators are, for each enum.
    let mut position = 0;
    while position < values.len() && values[position] != *value {
        position += 1;
    }
    texts.get(position).copied().unwrap_or_default()
}

/// The value of a text of the API.
#[doc(hidden)]
#[inline]
pub fn value<T: OpenEnum>(text: &str) -> T {
    let (texts, values) = T::LISTED;
    match position(texts, text) {
        Some(position) => values[position].clone(),
        None => T::unlisted(Unlisted::new(text)),
    }
}

/// Compiled once, for all enums.
#[inline(never)]
fn position(texts: &[&str], text: &str) -> Option<usize> {
    texts.iter().position(|known| *known == text)
}

/// Fills a slot.
#[doc(hidden)]
#[inline]
pub fn put<T: OpenEnum>(slot: &mut T, scalar: &Scalar<'_>) -> Result<(), Expected> {
    *slot = value(&scalar.text().ok_or("string")?);
    Ok(())
}

/// What every open enum has, apart from its variants.
macro_rules! open_enum_impls {
    ($name:ident: $($text:literal $variant:ident,)*) => {
        impl OpenEnum for $name {
            const LISTED: (&'static [&'static str], &'static [Self]) =
                (&[$($text,)*], &[$(Self::$variant,)*]);

            #[inline]
            fn unlisted(other: Unlisted) -> Self {
                Self::Unlisted(other)
            }

            #[inline]
            fn other(&self) -> Option<&Unlisted> {
                match self {
                    Self::Unlisted(other) => Some(other),
                    _ => None,
                }
            }
        }

        impl $name {
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

        impl From<String> for $name {
            #[inline]
            fn from(text: String) -> Self {
                open_enum::value(&text)
            }
        }

        impl Default for $name {
            #[inline]
            fn default() -> Self {
                Self::Unlisted(Unlisted::default())
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

        impl Slot for $name {
            #[inline]
            fn put(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
                open_enum::put(self, value)
            }

            scalar_slot!(|slot| slot.as_str().to_owned());
        }
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
        Unlisted(Unlisted),
    }

    open_enum_impls!(Colour: "red" Red,);

    #[test]
    fn listed_and_unlisted_values_keep_their_text() {
        assert_eq!(Colour::from("red"), Colour::Red);
        assert_eq!(Colour::Red.as_str(), "red");
        assert_eq!(Colour::from("mauve").to_string(), "mauve");
        assert_eq!(Colour::default().as_str(), "");
    }
}
