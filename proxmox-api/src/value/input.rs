//! Arguments of setters and verbs: integers of any width, texts, references, lists of all kinds,
//! and `Option`, where `None` sets nothing.
//!
//! The last parameter of these traits distinguishes their implementations and is always inferred.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::SystemTime;

use crate::value::Timestamp;
use crate::value::api_value::Generated;
use crate::value::list::{self, List};
use crate::value::parameter::OneText;
use crate::value::problem::Problem;

/// One value of type `P`, or anything that converts to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used where `{P}` is expected",
    label = "does not convert to `{P}`",
    note = "numbers take integers of any width, texts and types of texts take `&str` and `String`, all take themselves and references"
)]
pub trait IntoValue<P, How> {
    /// The value, or the reason why there is none.
    #[doc(hidden)]
    fn into_value(self) -> Result<P, Problem>;
}

/// One value of type `P` or an `Option` of it; `None` changes nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used where `{P}` is expected",
    label = "does not convert to `{P}`",
    note = "numbers take integers of any width, texts and types of texts take `&str` and `String`, all take themselves, references and `Option`"
)]
pub trait IntoSetting<P, How> {
    #[doc(hidden)]
    fn into_setting(self) -> Result<Option<P>, Problem>;
}

/// Several values of type `P`: arrays, slices, vectors, sets, iterators; for lists in one text also such a text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of `{P}`",
    label = "not several values that convert to `{P}`",
    note = "lists take arrays, slices, vectors, sets and iterators, owned or by reference"
)]
pub trait IntoItems<P, How> {
    #[doc(hidden)]
    fn into_items(self) -> Result<Vec<P>, Problem>;
}

/// Several values of type `P` or an `Option` of them; `None` changes nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of `{P}`",
    label = "not several values that convert to `{P}`",
    note = "lists take arrays, slices, vectors, sets and iterators, owned or by reference, and `Option` of them"
)]
pub trait IntoItemsSetting<P, How> {
    #[doc(hidden)]
    fn into_items_setting(self) -> Result<Option<Vec<P>>, Problem>;
}

/// Excludes single texts: an array cannot be given as one text.
#[diagnostic::on_unimplemented(
    message = "one text is not an array",
    note = "an array of one value is written `[value]`"
)]
pub trait Several {}

/// The kinds of conversions.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "never made")]
pub mod how {
    use std::marker::PhantomData;

    /// By `Into`.
    pub enum Plain {}
    /// As a text of a type that can be parsed.
    pub enum Words {}
    /// As a copy.
    pub enum Copied {}
    /// As a number of another width.
    pub enum Number {}
    pub struct ByRef<M>(PhantomData<M>);
    pub struct Maybe<M>(PhantomData<M>);
    pub struct MaybeRef<M>(PhantomData<M>);
    pub struct One<M>(PhantomData<M>);
    /// By an iterator.
    pub struct Each<M>(PhantomData<M>);
    /// As something to iterate over.
    pub struct Whole<M>(PhantomData<M>);
    pub struct WholeRef<M>(PhantomData<M>);
    /// As one text to be split.
    pub enum Text {}
}

use how::{ByRef, Copied, Each, Maybe, MaybeRef, Number, One, Plain, Text, Whole, WholeRef, Words};

impl<M> Several for Each<M> {}
impl<M> Several for Whole<M> {}
impl<M> Several for WholeRef<M> {}
impl<M: Several> Several for Maybe<M> {}
impl<M: Several> Several for MaybeRef<M> {}
impl<M: Several> Several for One<M> {}

impl<P, T: Into<P>> IntoValue<P, Plain> for T {
    #[inline]
    fn into_value(self) -> Result<P, Problem> {
        Ok(self.into())
    }
}

macro_rules! words {
    ($($ty:ty)*) => {$(
        impl<P: Generated> IntoValue<P, Words> for $ty
        where
            P::Kind: OneText<P>,
        {
            #[inline]
            fn into_value(self) -> Result<P, Problem> {
                Ok(P::Kind::read(&self))
            }
        }
    )*};
}

words!(String &String Cow<'_, str>);

impl<P: Generated> IntoValue<P, Copied> for &P {
    #[inline]
    fn into_value(self) -> Result<P, Problem> {
        Ok(self.clone())
    }
}

/// Types that take any integer.
#[doc(hidden)]
pub trait FromInteger: Sized {
    fn from_integer(value: i64) -> Self;
}

/// The number in another width.
fn fit<P, T: Copy + ToString + TryInto<P>>(value: T, allowed: &str) -> Result<P, Problem> {
    value
        .try_into()
        .map_err(|_| Problem::certain(value.to_string(), allowed))
}

macro_rules! numbers {
    ($of:ty, $allowed:literal: $($ty:ty)*) => {$(
        impl IntoValue<$of, Number> for $ty {
            #[inline]
            fn into_value(self) -> Result<$of, Problem> {
                fit(self, $allowed)
            }
        }
    )*};
}

numbers!(i64, "integers of 64 bits with a sign": u64 i128 u128 isize usize);
numbers!(u64, "integers from 0 to 18446744073709551615": i8 i16 i32 i64 i128 isize u128 usize);
numbers!(u32, "integers from 0 to 4294967295": i8 i16 i32 i64 i128 isize u64 u128 usize);
numbers!(u8, "integers from 0 to 255": i8 i16 i32 i64 i128 isize u16 u32 u64 u128 usize);

macro_rules! floats {
    ($($ty:ty)*) => {$(
        impl IntoValue<f64, Number> for $ty {
            #[inline]
            fn into_value(self) -> Result<f64, Problem> {
                Ok(self as f64)
            }
        }
    )*};
}

floats!(i64 i128 isize u64 u128 usize);

macro_rules! from_integers {
    ($($ty:ty)*) => {$(
        impl<P: FromInteger> IntoValue<P, Number> for $ty {
            #[inline]
            fn into_value(self) -> Result<P, Problem> {
                fit(self, "integers of 64 bits with a sign").map(P::from_integer)
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i128 isize u8 u16 u32 u64 u128 usize);

macro_rules! by_reference {
    ($($ty:ty)*) => {$(
        impl<P, M> IntoValue<P, ByRef<M>> for &$ty
        where
            $ty: IntoValue<P, M>,
        {
            #[inline]
            fn into_value(self) -> Result<P, Problem> {
                (*self).into_value()
            }
        }
    )*};
}

by_reference!(bool f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize Timestamp SystemTime);

impl<'a, P, M> IntoValue<P, ByRef<M>> for &&'a str
where
    &'a str: IntoValue<P, M>,
{
    #[inline]
    fn into_value(self) -> Result<P, Problem> {
        (*self).into_value()
    }
}

impl<P, M, T: IntoValue<P, M>> IntoSetting<P, One<M>> for T {
    #[inline]
    fn into_setting(self) -> Result<Option<P>, Problem> {
        self.into_value().map(Some)
    }
}

impl<P, M, T: IntoValue<P, M>> IntoSetting<P, Maybe<M>> for Option<T> {
    #[inline]
    fn into_setting(self) -> Result<Option<P>, Problem> {
        self.map(T::into_value).transpose()
    }
}

impl<'a, P, M, T> IntoSetting<P, MaybeRef<M>> for &'a Option<T>
where
    &'a T: IntoValue<P, M>,
{
    #[inline]
    fn into_setting(self) -> Result<Option<P>, Problem> {
        self.as_ref().map(|value| value.into_value()).transpose()
    }
}

fn each<P, M, T: IntoValue<P, M>>(items: impl Iterator<Item = T>) -> Result<Vec<P>, Problem> {
    items.map(T::into_value).collect()
}

impl<P, M, T: IntoValue<P, M>, I: Iterator<Item = T>> IntoItems<P, Each<M>> for I {
    #[inline]
    fn into_items(self) -> Result<Vec<P>, Problem> {
        each(self)
    }
}

macro_rules! collections {
    ($([$($parameter:tt)*] $ty:ty;)*) => {$(
        impl<P, M, T: IntoValue<P, M>, $($parameter)*> IntoItems<P, Whole<M>> for $ty {
            #[inline]
            fn into_items(self) -> Result<Vec<P>, Problem> {
                each(self.into_iter())
            }
        }

        impl<'a, P, M, T, $($parameter)*> IntoItems<P, WholeRef<M>> for &'a $ty
        where
            &'a T: IntoValue<P, M>,
        {
            #[inline]
            fn into_items(self) -> Result<Vec<P>, Problem> {
                each(self.iter())
            }
        }
    )*};
}

collections! {
    [] Vec<T>;
    [] VecDeque<T>;
    [] BTreeSet<T>;
    [] List<T>;
    [S] HashSet<T, S>;
    [const N: usize] [T; N];
}

impl<'a, P, M, T> IntoItems<P, WholeRef<M>> for &'a [T]
where
    &'a T: IntoValue<P, M>,
{
    #[inline]
    fn into_items(self) -> Result<Vec<P>, Problem> {
        each(self.iter())
    }
}

/// The type of an item in a list in one text.
#[doc(hidden)]
pub trait Item: Sized {
    fn item(text: &str) -> Result<Self, Problem>;
}

impl Item for String {
    fn item(text: &str) -> Result<Self, Problem> {
        Ok(text.to_owned())
    }
}

impl Item for u32 {
    fn item(text: &str) -> Result<Self, Problem> {
        text.parse()
            .map_err(|_| Problem::certain(text, "integers from 0 to 4294967295"))
    }
}

macro_rules! texts {
    ($($ty:ty)*) => {$(
        impl<P: Item> IntoItems<P, Text> for $ty {
            #[inline]
            fn into_items(self) -> Result<Vec<P>, Problem> {
                list::items(self.as_ref()).map(P::item).collect()
            }
        }
    )*};
}

texts!(&str String &String Cow<'_, str>);

impl<P, M, T: IntoItems<P, M>> IntoItemsSetting<P, One<M>> for T {
    #[inline]
    fn into_items_setting(self) -> Result<Option<Vec<P>>, Problem> {
        self.into_items().map(Some)
    }
}

impl<P, M, T: IntoItems<P, M>> IntoItemsSetting<P, Maybe<M>> for Option<T> {
    #[inline]
    fn into_items_setting(self) -> Result<Option<Vec<P>>, Problem> {
        self.map(T::into_items).transpose()
    }
}

impl<'a, P, M, T> IntoItemsSetting<P, MaybeRef<M>> for &'a Option<T>
where
    &'a T: IntoItems<P, M>,
{
    #[inline]
    fn into_items_setting(self) -> Result<Option<Vec<P>>, Problem> {
        self.as_ref().map(|items| items.into_items()).transpose()
    }
}
