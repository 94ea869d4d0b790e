//! Selection of resources: filters, order and paging.
//!
//! Items are copied from the answer as bytes. Only the members that the selection needs are parsed,
//! so a list needs little more memory than its bytes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use http::StatusCode;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::pages::{Page, Query};
use crate::refusal::Refusal;

/// Maximum items selected from one list.
const MAX_ITEMS: usize = 200_000;

/// The selection of resources that the cluster itself does not support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Members with required values.
    equal: Vec<(&'static str, String)>,
    sort: Option<String>,
    descending: bool,
    page: Option<Page>,
}

const OWN: [&str; 7] = ["status", "node", "pool", "sort", "order", "start", "limit"];

impl Selection {
    /// Splits a query into the part for the cluster and the part done here; `None` if the latter is
    /// empty.
    pub(crate) fn from_query(query: &Query) -> Result<Option<(Query, Self)>, Refusal> {
        if OWN.iter().all(|key| query.get(key).is_none()) {
            return Ok(None);
        }
        let equal = ["status", "node", "pool"].into_iter();
        let equal = equal.filter_map(|key| Some((key, query.get(key)?.to_owned())));
        let descending = match query.get("order") {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(Refusal::parameters([("order", "must be asc or desc")])),
        };
        let selection = Self {
            equal: equal.collect(),
            sort: query.get("sort").map(str::to_owned),
            descending,
            page: Page::from_query(query)?,
        };
        Ok(Some((query.without(&OWN), selection)))
    }

    pub(crate) fn page(&self) -> Option<Page> {
        self.page
    }

    /// An answer with the selected items in order, and their number on all pages.
    pub(crate) fn select(&self, answer: &[u8]) -> Result<(Vec<u8>, u64), Refusal> {
        let bad = |text: &str| Refusal::new(StatusCode::BAD_GATEWAY, text);
        let no_list = || bad("the cluster's answer is not a list");
        let mut items = Items::of(answer).ok_or_else(no_list)?;
        let mut found: Vec<(Key, &[u8])> = Vec::new();
        while let Some(item) = items.next().ok_or_else(no_list)? {
            let mut text = serde_json::Deserializer::from_slice(item);
            let key = Item(self).deserialize(&mut text).map_err(|_| no_list())?;
            if let Some(key) = key {
                if found.len() >= MAX_ITEMS {
                    return Err(bad("the cluster's list is too long"));
                }
                found.push((key, item));
            }
        }
        if self.sort.is_some() {
            found.sort_by(|(one, _), (other, _)| one.compare(other, self.descending));
        } else if self.descending {
            found.reverse();
        }
        let total = found.len() as u64;
        let page = self.page.unwrap_or(Page { start: 0, limit: 0 });
        let start = usize::try_from(page.start).unwrap_or(usize::MAX);
        let limit = match page.limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let mut selected = b"{\"data\":[".to_vec();
        for (number, (_, item)) in found.iter().skip(start).take(limit).enumerate() {
            if number > 0 {
                selected.push(b',');
            }
            selected.extend_from_slice(item);
        }
        selected.extend_from_slice(b"]}");
        Ok((selected, total))
    }
}

/// The items of the list in an answer's `data`.
struct Items<'a> {
    rest: &'a [u8],
    is_first: bool,
}

impl<'a> Items<'a> {
    /// The items of a whole answer; `None` if it has no such list. Members after the list are
    /// ignored.
    fn of(answer: &'a [u8]) -> Option<Self> {
        let mut rest = after(answer, b'{')?;
        loop {
            let (name, behind) = value::<Text>(rest)?;
            rest = after(behind, b':')?;
            if name.0 == "data" {
                rest = after(rest, b'[')?;
                let is_first = true;
                return Some(Self { rest, is_first });
            }
            let (IgnoredAny, behind) = value(rest)?;
            rest = after(behind, b',')?;
        }
    }

    /// The next item: `Some(None)` after the last one, `None` if the text is not valid.
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        if after(self.rest, b']').is_some() {
            return Some(None);
        }
        if !std::mem::take(&mut self.is_first) {
            self.rest = after(self.rest, b',')?;
        }
        let text = self.rest.trim_ascii_start();
        let (IgnoredAny, rest) = value(text)?;
        self.rest = rest;
        Some(Some(&text[..text.len() - rest.len()]))
    }
}

/// The text after a byte, if that byte is next.
fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(&[byte])
}

/// A JSON value and the text after it.
fn value<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

/// The sort key of an item.
#[derive(Clone, Debug, PartialEq)]
enum Key<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    /// No value, or one that cannot be ordered.
    None,
}

impl Key<'_> {
    /// Numbers come before texts. Items without a value come last in both orders.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let rank = |key: &Self| match key {
            Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::None => 2,
        };
        let order = match (self, other) {
            (Self::None, _) | (_, Self::None) => return rank(self).cmp(&rank(other)),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => rank(self).cmp(&rank(other)),
        };
        if descending { order.reverse() } else { order }
    }
}

/// Reads the sort key of an item; `None` if the item is not selected.
struct Item<'s>(&'s Selection);

impl<'a> DeserializeSeed<'a> for Item<'_> {
    type Value = Option<Key<'a>>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Item<'_> {
    type Value = Option<Key<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(selection) = self;
        let mut key = Key::None;
        let mut matching = vec![false; selection.equal.len()];
        while let Some(Text(name)) = map.next_key()? {
            let sorts = selection.sort.as_deref() == Some(&*name);
            let filters = selection.equal.iter().position(|(known, _)| *known == name);
            if !sorts && filters.is_none() {
                let IgnoredAny = map.next_value()?;
                continue;
            }
            let value: Key = map.next_value()?;
            if let Some(at) = filters {
                matching[at] = matches!(&value, Key::Text(text) if *text == selection.equal[at].1);
            }
            if sorts {
                key = value;
            }
        }
        Ok(matching.into_iter().all(|matches| matches).then_some(key))
    }
}

impl<'a> Deserialize<'a> for Key<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'a> Visitor<'a> for Any {
            type Value = Key<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, yes: bool) -> Result<Key<'a>, E> {
                Ok(Key::Number(u8::from(yes).into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Key<'a>, E> {
                Ok(Key::Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Key<'a>, E> {
                Ok(Key::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Key<'a>, E> {
                Ok(Key::Number(number))
            }

            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Key<'a>, E> {
                Ok(Key::Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'a>, E> {
                Ok(Key::Text(text.to_owned().into()))
            }

            fn visit_unit<E>(self) -> Result<Key<'a>, E> {
                Ok(Key::None)
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Key<'a>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Key::None)
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Key<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Key::None)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A text, borrowed if it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selection(query: &str) -> Selection {
        let selection = Selection::from_query(&Query::parse(query)).expect("good");
        selection.expect("some").1
    }

    /// The names of the selected items, and their number on all pages.
    fn names(query: &str, items: &Value) -> (Value, u64) {
        let answer = json!({ "x": [{ "data": [1] }], "data": items }).to_string();
        let (selected, total) = selection(query).select(answer.as_bytes()).expect("a list");
        let selected: Value = serde_json::from_slice(&selected).expect("JSON");
        let items = selected["data"].as_array().expect("a list");
        let names = items.iter().map(|item| item["name"].clone()).collect();
        (Value::Array(names), total)
    }

    #[test]
    fn resources_are_filtered_sorted_and_paged() {
        let all = json!([
            {"name": "b", "status": "running", "vmid": 9},
            {"name": "a", "status": "running", "vmid": 10},
            {"status": "running"},
            {"name": "c", "status": "stopped", "vmid": 1},
        ]);
        let found = names("type=vm&status=running&sort=name&order=asc", &all);
        assert_eq!(found, (json!(["a", "b", null]), 3));
        let found = names("sort=vmid&order=desc&start=1&limit=1", &all);
        assert_eq!(found, (json!(["b"]), 4));
        let found = names("sort=status&status=stopped", &all);
        assert_eq!(found, (json!(["c"]), 1));
        assert_eq!(names("order=desc", &all).0, json!(["c", null, "a", "b"]));
        assert_eq!(names("pool=x", &all), (json!([]), 0));
        assert!(Selection::from_query(&Query::parse("order=up")).is_err());
        assert!(Selection::from_query(&Query::parse("start=x")).is_err());
        let kept = Selection::from_query(&Query::parse("type=vm&sort=x")).expect("good");
        assert_eq!(kept.expect("some").0.to_text(), "type=vm");
    }

    #[test]
    fn values_of_all_types_have_a_total_order() {
        let values = [
            json!("95"),
            json!(10),
            json!(9),
            json!("5"),
            json!(null),
            json!([1, {"a": 2}]),
            json!(true),
            json!(1e300),
            json!("\u{e4}\n"),
            json!({}),
        ];
        // The result must not depend on the order in the answer.
        let mut items: Vec<Value> = (0..values.len())
            .map(|number| json!({"name": number, "x": values[number]}))
            .collect();
        let sorted = |items: &[Value], order: &str| {
            let query = format!("sort=x&order={order}");
            let (names, _) = names(&query, &items.to_vec().into());
            names.as_array().expect("a list")[..7].to_vec()
        };
        let (up, mut down) = (sorted(&items, "asc"), sorted(&items, "desc"));
        assert_eq!(json!(up), json!([6, 2, 1, 7, 3, 0, 8]));
        down.reverse();
        assert_eq!(up, down);
        for turn in 0..500 {
            let count = items.len();
            items.swap(turn % count, (turn * 7 + 3) % count);
            assert_eq!(sorted(&items, "asc"), up);
        }
    }

    #[test]
    fn the_bytes_of_items_are_unchanged() {
        let item = "{ \"status\" : \"run\\u006eing\", \"n\":1.50,\"status2\":\"\\ud800\", \"\\u0061\":{\"\":[]}  }";
        let answer = format!("\n{{\"total\":7,\"data\" : [ {item} ,\t{{\"status\":\"x\"}} ]\n}}");
        let (selected, total) = selection("status=running")
            .select(answer.as_bytes())
            .expect("a list");
        assert_eq!(total, 1);
        let selected = String::from_utf8(selected).expect("text");
        assert_eq!(selected, format!("{{\"data\":[{item}]}}"));
        let bare = selection("sort=x")
            .select(b"{\"data\":[]}")
            .expect("a list");
        assert_eq!(bare, (b"{\"data\":[]}".to_vec(), 0));
    }

    #[test]
    fn answers_without_a_list_of_objects_are_refused() {
        let deep = format!("{{\"data\":[{}", "[".repeat(100_000));
        for answer in [
            "",
            "{}",
            "[]",
            "{\"data\":{}}",
            "{\"data\":null}",
            "{\"data\":[1]}",
            "{\"data\":[{}",
            "{\"data\":[{},]}",
            "{\"data\":[{}{}]}",
            "{\"data\":[,{}]}",
            "{\"data\":[{\"status\":}]}",
            "{\"x\":1 \"data\":[]}",
            &deep,
        ] {
            let refusal = selection("sort=x").select(answer.as_bytes());
            assert_eq!(refusal.expect_err(answer).status(), 502, "{answer}");
        }
        let many = format!("{{\"data\":[{}{{}}]}}", "{},".repeat(MAX_ITEMS));
        let refusal = selection("sort=x").select(many.as_bytes());
        assert_eq!(refusal.expect_err("too many").status(), 502);
    }
}
