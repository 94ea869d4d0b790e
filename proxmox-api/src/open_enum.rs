//! Enums that keep values they do not know.

use std::fmt;

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

/// What every open enum has, apart from its variants.
macro_rules! open_enum_impls {
    ($name:ident) => {
        impl From<&str> for $name {
            #[inline]
            fn from(text: &str) -> Self {
                Self::listed(text)
                    .unwrap_or_else(|| Self::Unlisted($crate::open_enum::Unlisted::new(text)))
            }
        }

        impl Default for $name {
            #[inline]
            fn default() -> Self {
                Self::Unlisted($crate::open_enum::Unlisted::default())
            }
        }

        impl From<String> for $name {
            #[inline]
            fn from(text: String) -> Self {
                text.as_str().into()
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            #[inline]
            fn from_str(text: &str) -> Result<Self, std::convert::Infallible> {
                Ok(text.into())
            }
        }

        impl std::fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::encode::ToParam for $name {
            #[inline]
            fn to_param(&self) -> $crate::encode::ParamValue {
                self.as_str().to_param()
            }
        }

        impl $crate::property_string::Property for $name {
            #[inline]
            fn property_text(&self) -> Option<String> {
                Some(self.as_str().to_owned())
            }
        }

        impl $crate::decode::Slot for $name {
            #[inline]
            fn put(
                &mut self,
                value: &$crate::decode::Scalar<'_>,
            ) -> Result<(), $crate::decode::Expected> {
                *self = value.text().ok_or("string")?.as_ref().into();
                Ok(())
            }
        }
    };
}

pub(crate) use open_enum_impls;

#[cfg(test)]
mod tests {
    use super::Unlisted;

    #[derive(Clone, Debug, PartialEq)]
    enum Colour {
        Red,
        Unlisted(Unlisted),
    }

    impl Colour {
        fn as_str(&self) -> &str {
            match self {
                Self::Red => "red",
                Self::Unlisted(other) => other.text(),
            }
        }

        fn listed(text: &str) -> Option<Self> {
            (text == "red").then_some(Self::Red)
        }
    }

    open_enum_impls!(Colour);

    #[test]
    fn listed_and_unlisted_values_keep_their_text() {
        assert_eq!(Colour::from("red"), Colour::Red);
        assert_eq!(Colour::from("mauve").to_string(), "mauve");
        assert_eq!(Colour::default().as_str(), "");
    }
}
