//! Comparison of values.

use crate::value::api_value::{ApiValue, Object, View};

/// Compares two objects of one type.
pub(crate) fn objects(left: &dyn Object, right: &dyn Object) -> bool {
    let mut same = false;
    left.fields(&mut |_, left| {
        right.fields(&mut |_, right| {
            same = all_equal(left.iter().copied(), right.iter().copied());
        });
    });
    same
}

fn all_equal<'a>(
    left: impl Iterator<Item = &'a dyn ApiValue>,
    right: impl Iterator<Item = &'a dyn ApiValue>,
) -> bool {
    left.zip(right)
        .all(|(left, right)| views(&left.view(), &right.view()))
}

pub(crate) fn views(left: &View<'_>, right: &View<'_>) -> bool {
    match (left, right) {
        (View::Absent, View::Absent) | (View::AbsentSecret, View::AbsentSecret) => true,
        (View::Scalar(left), View::Scalar(right)) => left == right,
        (View::Secret(left), View::Secret(right)) => left == right,
        (View::Size(left, None), View::Size(right, None)) => left == right,
        (View::Size(_, left), View::Size(_, right)) => left == right,
        (View::Json(left), View::Json(right)) => left == right,
        (View::List(left), View::List(right)) | (View::Array(left), View::Array(right)) => {
            left.count() == right.count() && all_equal(left.iter(), right.iter())
        }
        (View::Map(left), View::Map(right)) => entries(&left.entries(), &right.entries()),
        (View::Indexed(left), View::Indexed(right)) => entries(&left.entries(), &right.entries()),
        (View::Object(left), View::Object(right)) => objects(*left, *right),
        (View::Extra(left), View::Extra(right)) => left == right,
        (View::UnknownKeys(left), View::UnknownKeys(right)) => left == right,
        _ => false,
    }
}

fn entries<K: PartialEq>(left: &[(K, &dyn ApiValue)], right: &[(K, &dyn ApiValue)]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|((key, left), (other, right))| key == other && views(&left.view(), &right.view()))
}
