//! Decoding of one JSON value to an [`ApiValue`].

use std::fmt;

use serde_json::Value;

use super::any::{Key, Open, grown};
use super::context::{Context, Mode, NODE, NODE_MEMBERS, Segment, describe};
use crate::value::api_value::{
    ApiValue, Array, Expected, ObjectSchema, Scalar, Target, extra_of_mut,
};

/// The result of offering a value to a target.
pub(super) enum Fit {
    Whole,
    /// The target accepted a part; this is the rest, in the shape of the whole. In an array, null
    /// stands for accepted elements.
    Part(Value),
    /// Like [`Fit::Part`] for a list or a map without a fitting entry.
    NoEntry(Expected, Value),
    /// The target rejected it; this is the value.
    Rejected(Expected, Value),
}

impl Context {
    /// Offers a parsed value to a target; returns the part that it rejects.
    fn offer(&self, target: &mut dyn ApiValue, value: Value) -> Fit {
        let seed = Seed {
            target,
            context: self,
        };
        match serde::de::DeserializeSeed::deserialize(seed, &value) {
            Ok(fit) => fit,
            Err(_) => {
                self.path.take();
                Fit::Rejected("value of the declared shape", value)
            }
        }
    }
}

/// The rejected elements of an array, each in its position.
#[derive(Default)]
struct Rest(Vec<Value>);

impl Rest {
    fn keep(&mut self, index: usize, value: Value) {
        self.0.resize(index, Value::Null);
        self.0.push(value);
    }

    /// As long as the array, if any element was rejected.
    fn finish(mut self, count: usize) -> Vec<Value> {
        if !self.0.is_empty() {
            self.0.resize(count, Value::Null);
        }
        self.0
    }
}

/// Hands one JSON value to a target.
pub(super) struct Seed<'s, 'c> {
    pub(super) target: &'s mut dyn ApiValue,
    pub(super) context: &'c Context,
}

impl Seed<'_, '_> {
    fn scalar<E: serde::de::Error>(self, value: Scalar<'_>) -> Result<Fit, E> {
        if let Scalar::Text(text) = &value {
            self.context.charge(self.target.cost_of(text))?;
        }
        Ok(match self.target.set_scalar(&value) {
            Ok(()) => Fit::Whole,
            Err(expected) => Fit::Rejected(expected, value.into_json()),
        })
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Fit;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Fit, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Seed<'_, '_> {
    type Value = Fit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Fit, E> {
        self.scalar(Scalar::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Fit, E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Fit, E> {
        self.scalar(Scalar::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Fit, E> {
        self.scalar(match i64::try_from(value) {
            Ok(value) => Scalar::Int(value),
            Err(_) => Scalar::UInt(value),
        })
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Fit, E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Fit, E> {
        self.scalar(Scalar::Text(value.into()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Fit, A::Error> {
        let Self { target, context } = self;
        match target.target() {
            Target::Array(array) => elements(array, &mut seq, context),
            Target::Skip => {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Fit::Whole)
            }
            inside => {
                // A target that reads an empty text as an empty hash reads an empty list so, too.
                let map = matches!(inside, Target::Map(_));
                let value = Open(context).visit_seq(seq)?;
                Ok(match value.as_array().is_some_and(Vec::is_empty) && map {
                    true => Fit::Whole,
                    false => store_any(target, value),
                })
            }
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fit, A::Error> {
        let Self { target, context } = self;
        match target.target() {
            Target::Object(object) => {
                let mut result = Ok(());
                object.fields_mut(&mut |schema, fields| {
                    result = members(schema, fields, &mut map, context)
                });
                result.map(|()| Fit::Whole)
            }
            Target::Map(entries) => {
                values(&mut |key, fill| entries.add(key, fill), &mut map, context)
            }
            // An indexed parameter on its own, outside of an object.
            Target::Indexed(members) => values(
                &mut |key, fill| {
                    if let Ok(index) = key.parse() {
                        members.add(index, fill);
                    }
                },
                &mut map,
                context,
            ),
            Target::Skip => {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(Fit::Whole)
            }
            _ => {
                let value = Open(context).visit_map(map)?;
                Ok(store_any(target, value))
            }
        }
    }
}

/// Reads the elements of an array. A null element is skipped.
fn elements<'de, A: serde::de::SeqAccess<'de>>(
    array: &mut dyn Array,
    seq: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut rest = Rest::default();
    let (mut index, mut taken) = (0, 0);
    loop {
        // A rejected element is removed again.
        context.charge(grown(array.count(), array.element_size()))?;
        let target = array.push_empty();
        let fit = match context.mode {
            Mode::Straight => seq
                .next_element_seed(Seed { target, context })
                .inspect_err(|_| context.segment(Segment::Index(index)))?,
            Mode::Careful => {
                let value = seq.next_element_seed(Open(context))?;
                value.map(|value| context.offer(target, value))
            }
        };
        match fit {
            Some(Fit::Whole) => {
                taken += 1;
                index += 1;
            }
            Some(Fit::Part(part)) => {
                rest.keep(index, part);
                taken += 1;
                index += 1;
            }
            Some(Fit::Rejected(_, Value::Null)) => array.pop(),
            Some(Fit::NoEntry(expected, value) | Fit::Rejected(expected, value)) => {
                array.pop();
                if context.mode == Mode::Straight {
                    let error = context.refusal(expected, &describe(&value));
                    context.segment(Segment::Index(index));
                    return Err(error);
                }
                rest.keep(index, value);
                index += 1;
            }
            None => {
                array.pop();
                array.close();
                return Ok(match rest.finish(index) {
                    rest if rest.is_empty() => Fit::Whole,
                    rest if taken == 0 => Fit::NoEntry("array of such elements", rest.into()),
                    rest => Fit::Part(rest.into()),
                });
            }
        }
    }
}

/// Reads the values of an object with any keys. A null value is skipped.
fn values<'de, A: serde::de::MapAccess<'de>>(
    add: &mut dyn FnMut(&str, Filling<'_>),
    map: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut rest = serde_json::Map::new();
    let mut taken = 0;
    while let Some(Key(key)) = map.next_key()? {
        // The value itself is usually not larger.
        context.charge(key.len().saturating_add(NODE))?;
        let fit = added(&mut |fill| add(&key, fill), map, context);
        match fit {
            Ok(Fit::Whole) => taken += 1,
            Ok(Fit::Part(part)) => {
                rest.insert(key.into_owned(), part);
                taken += 1;
            }
            Ok(Fit::Rejected(_, Value::Null)) => {}
            Ok(Fit::NoEntry(_, value) | Fit::Rejected(_, value))
                if context.mode == Mode::Careful =>
            {
                rest.insert(key.into_owned(), value);
            }
            Ok(Fit::NoEntry(expected, value) | Fit::Rejected(expected, value)) => {
                let error = context.refusal(expected, &describe(&value));
                context.named(key);
                return Err(error);
            }
            Err(error) => {
                context.named(key);
                return Err(error);
            }
        }
    }
    Ok(match rest.is_empty() {
        true => Fit::Whole,
        false if taken == 0 => Fit::NoEntry("object of such values", rest.into()),
        false => Fit::Part(rest.into()),
    })
}

type Filling<'f> = &'f mut dyn FnMut(&mut dyn ApiValue) -> bool;

/// Reads a value into a new entry, which stays only if it was filled.
fn added<'de, A: serde::de::MapAccess<'de>>(
    add: &mut dyn FnMut(Filling<'_>),
    map: &mut A,
    context: &Context,
) -> Result<Fit, A::Error> {
    let mut at_hand = match context.mode {
        Mode::Straight => None,
        Mode::Careful => Some(map.next_value_seed(Open(context))?),
    };
    let mut result = None;
    add(&mut |target| {
        let fit = match at_hand.take() {
            Some(value) => Ok(context.offer(target, value)),
            None => map.next_value_seed(Seed { target, context }),
        };
        let stays = matches!(fit, Ok(Fit::Whole | Fit::Part(_)));
        result = Some(fit);
        stays
    });
    match (result, at_hand) {
        (Some(fit), _) => fit,
        // There is no such index.
        (None, Some(value)) => Ok(Fit::Rejected("index", value)),
        (None, None) => Ok(Fit::Rejected("index", map.next_value_seed(Open(context))?)),
    }
}

/// Reads the members of an object.
fn members<'de, A: serde::de::MapAccess<'de>>(
    schema: &ObjectSchema,
    fields: &mut [&mut dyn ApiValue],
    map: &mut A,
    context: &Context,
) -> Result<(), A::Error> {
    let mut state = State::default();
    while let Some(Key(key)) = map.next_key()? {
        member(schema, fields, &key, map, &mut state, context).inspect_err(|_| context.key(key))?;
    }
    let bit = |bits: u64, index: usize| bits & (1 << index) != 0;
    match (0..schema.required.len()).find(|index| !bit(state.seen, *index)) {
        None => Ok(()),
        Some(index) => {
            let name = schema.required[index];
            let is = if bit(state.nulls, index) {
                "null"
            } else {
                "missing"
            };
            Err(context.fail(format!("the required member `{name}` is {is}")))
        }
    }
}

/// The state of reading an object.
#[derive(Default)]
struct State {
    /// The start of the search for the next member.
    from: usize,
    /// A bit for each required member that was read.
    seen: u64,
    /// A bit for each member that was null.
    nulls: u64,
}

/// Reads one member of an object. A value that does not fit goes to the object's `extra`, unless
/// the member is required.
fn member<'de, A: serde::de::MapAccess<'de>>(
    schema: &ObjectSchema,
    fields: &mut [&mut dyn ApiValue],
    key: &str,
    map: &mut A,
    state: &mut State,
    context: &Context,
) -> Result<(), A::Error> {
    let fit = if let Some(index) = schema.find(key, &mut state.from) {
        let target = &mut *fields[index];
        if index < schema.required.len() {
            let bit = 1 << index;
            let fit = map.next_value_seed(Seed { target, context })?;
            match fit {
                Fit::Rejected(_, Value::Null) => state.nulls |= bit,
                Fit::Rejected(expected, value) => {
                    return Err(context.refusal(expected, &describe(&value)));
                }
                Fit::Whole | Fit::Part(_) | Fit::NoEntry(..) => state.seen |= bit,
            }
            fit
        } else if context.mode == Mode::Straight {
            map.next_value_seed(Seed { target, context })?
        } else {
            let fit = context.offer(target, map.next_value_seed(Open(context))?);
            if let Fit::NoEntry(..) | Fit::Rejected(..) = fit {
                // It may be half filled. Every optional member accepts null.
                let _ = target.set_scalar(&Scalar::Null);
            }
            fit
        }
    } else if let Some((index, number)) = schema.find_indexed(key)
        && let Target::Indexed(indexed) = fields[index].target()
    {
        added(&mut |fill| indexed.add(number, fill), map, context)?
    } else {
        let value = map.next_value_seed(Open(context))?;
        context.charge(key.len().saturating_add(NODE / NODE_MEMBERS))?;
        push_extra(fields, key, value);
        return Ok(());
    };
    match fit {
        // Null counts as missing; whether that is an error is decided at the end.
        Fit::Whole | Fit::Rejected(_, Value::Null) => {}
        Fit::Part(value) | Fit::NoEntry(_, value) | Fit::Rejected(_, value) => {
            push_extra(fields, key, value);
        }
    }
    Ok(())
}

/// Keeps a value without a field in the object's `extra`.
fn push_extra(fields: &mut [&mut dyn ApiValue], key: &str, value: Value) {
    if let Some(extra) = extra_of_mut(fields) {
        extra.insert(key.to_owned(), value);
    }
}

/// Passes an array or an object to a target that accepts any JSON.
fn store_any(target: &mut dyn ApiValue, value: Value) -> Fit {
    let expected = match target.target() {
        Target::Any(any) => {
            *any = value;
            return Fit::Whole;
        }
        Target::Array(_) => "array",
        Target::Map(_) | Target::Indexed(_) | Target::Object(_) => "object",
        Target::Scalar | Target::Skip | Target::Extra(_) | Target::UnknownKeys(_) => "scalar",
    };
    // Asking has filled an optional target with an empty value; this empties it again. Other fields
    // refuse, correctly.
    let _ = target.set_scalar(&Scalar::Null);
    Fit::Rejected(expected, value)
}
