//! Answers generated from their shapes, each with the expected result of decoding.

use std::collections::BTreeMap;

use proxmox_e2e::shape::{Item, Member, Properties, Returns, Shapes, Ty};
use proxmox_e2e::show::{DELETED, EXTRA, TEXT, UNKNOWN_KEYS, UNKNOWN_VALUE};
use serde_json::{Map, Value, json};

/// The content of a generated answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every member, according to the schema.
    Full,
    /// Only required members.
    Minimal,
    /// Every spelling that servers use, in turn, and extra members.
    Unusual,
}

/// A task id in the server's form.
pub(crate) const UPID: &str = "UPID:pve1:00000C1C:0002C651:6B01F6B2:imgcopy::root@pam:";

/// A value in JSON, and the expected decoded value; `None` for nothing.
type Made = (Value, Option<Value>);

pub(crate) struct Maker<'a> {
    shapes: &'a Shapes,
    kind: Kind,
    /// By place: the number of spellings, and how often the place was reached.
    turns: BTreeMap<String, (usize, usize)>,
    /// The objects being generated, from the outermost to the innermost.
    inside: Vec<String>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(shapes: &'a Shapes, kind: Kind) -> Self {
        Self {
            shapes,
            kind,
            turns: BTreeMap::new(),
            inside: Vec::new(),
        }
    }

    /// Spellings used so far, and the number of those in the reached places.
    pub(crate) fn coverage(&self) -> (usize, usize) {
        let used = self.turns.values().map(|(all, reached)| *reached.min(all));
        (used.sum(), self.turns.values().map(|(all, _)| all).sum())
    }

    /// A whole answer.
    pub(crate) fn document(&mut self, returns: &Returns) -> Made {
        let (data, decoded) = match returns {
            Returns::Nothing | Returns::Bytes => (json!(null), None),
            Returns::Task { optional: false } => (json!(UPID), Some(json!(UPID))),
            Returns::Task { optional: true } => match self.turn("", 4) {
                0 if self.kind != Kind::Minimal => (json!(UPID), Some(json!(UPID))),
                2 => (json!(""), None),
                3 => (json!("OK"), None),
                _ => (json!(null), None),
            },
            Returns::Data(ty) => self.value(ty, "data"),
        };
        (json!({ "data": data }), decoded)
    }

    /// The index of the spelling for a place: each in turn, and different for neighbours.
    fn turn(&mut self, place: &str, count: usize) -> usize {
        if self.kind != Kind::Unusual || count == 0 {
            return 0;
        }
        let start: usize = place.bytes().map(usize::from).sum();
        let (all, reached) = self.turns.entry(place.to_owned()).or_default();
        *all = count;
        *reached += 1;
        (start + *reached) % count
    }

    fn among(&mut self, place: &str, spellings: Vec<Made>) -> Made {
        let turn = self.turn(place, spellings.len());
        spellings.into_iter().nth(turn).expect("one of them")
    }

    fn value(&mut self, ty: &Ty, place: &str) -> Made {
        let same = |value: Value| (value.clone(), Some(value));
        let to = |json: Value, decoded: Value| (json, Some(decoded));
        let spellings = match ty {
            Ty::Optional(of) => {
                if self.kind == Kind::Minimal || self.turn(&format!("{place}?"), 4) == 1 {
                    return (json!(null), None);
                }
                return self.value(of, place);
            }
            Ty::Pending(of) => {
                return match self.kind == Kind::Unusual && self.turn(&format!("{place}!"), 3) == 1 {
                    true => to(json!("deleted"), json!(DELETED)),
                    false => self.value(of, place),
                };
            }
            Ty::Boolean => vec![
                to(json!(1), json!(true)),
                to(json!(0), json!(false)),
                to(json!("1"), json!(true)),
                to(json!("0"), json!(false)),
                to(json!(""), json!(false)),
                same(json!(true)),
                same(json!(false)),
                to(json!(1.0), json!(true)),
            ],
            Ty::Integer => vec![
                same(json!(5)),
                same(json!(-1)),
                same(json!(0)),
                same(json!(i64::MAX)),
                to(json!("1790324416"), json!(1_790_324_416_i64)),
                to(json!("-7"), json!(-7)),
                to(json!(3.0), json!(3)),
                to(
                    json!(3.477_266_734_514_18e15),
                    json!(3_477_266_734_514_180_i64),
                ),
                to(json!("12.0"), json!(12)),
            ],
            Ty::Bytes => vec![
                same(json!(5)),
                same(json!(0)),
                same(json!(i64::MAX)),
                same(json!(u64::MAX)),
                to(json!("1790324416"), json!(1_790_324_416_i64)),
                to(json!("18446744073709551615"), json!(u64::MAX)),
                to(json!(3.0), json!(3)),
                to(
                    json!(3.477_266_734_514_18e15),
                    json!(3_477_266_734_514_180_i64),
                ),
            ],
            Ty::Vmid => vec![
                same(json!(100)),
                to(json!("999999999"), json!(999_999_999)),
                to(json!(101.0), json!(101)),
            ],
            Ty::Number => vec![
                same(json!(0.5)),
                to(json!(3), json!(3.0)),
                to(json!(0), json!(0.0)),
                to(json!("0.25"), json!(0.25)),
                to(json!("2"), json!(2.0)),
                same(json!(1e-7)),
                same(json!(-2.5)),
            ],
            Ty::Text => vec![
                same(json!("text")),
                same(json!("")),
                same(json!("ä \"quoted\" \\ line\nbreak \u{1F600}")),
                to(json!(12), json!("12")),
                to(json!(-1), json!("-1")),
                to(json!(0.5), json!("0.5")),
                to(json!(true), json!("1")),
            ],
            Ty::Json => vec![
                same(json!({ "k": [1, null, { "deep": "x" }], "b": 0.5 })),
                same(json!([])),
                same(json!("text")),
                same(json!(7)),
                same(json!(true)),
            ],
            Ty::List(of) => match **of {
                Ty::Vmid => vec![
                    to(json!("100,101"), json!([100, 101])),
                    to(json!("100; 101"), json!([100, 101])),
                    to(json!(100), json!([100])),
                    to(json!(""), json!([])),
                    to(json!([100, "101"]), json!([100, 101])),
                ],
                _ => vec![
                    to(json!("a,b"), json!(["a", "b"])),
                    to(json!("a; b c"), json!(["a", "b", "c"])),
                    to(json!(""), json!([])),
                    to(json!(7), json!(["7"])),
                    to(json!(["a", "b c"]), json!(["a", "b c"])),
                ],
            },
            Ty::Array(of) => return self.array(of, place),
            Ty::Map(of) => return self.map(of, place),
            Ty::Item(name) => {
                let shapes = self.shapes;
                return match &shapes.items[name] {
                    Item::Enum(values) => {
                        let mut all: Vec<Made> =
                            values.iter().map(|value| same(json!(value))).collect();
                        all.push(to(
                            json!("never seen"),
                            json!({ UNKNOWN_VALUE: "never seen" }),
                        ));
                        all.push(to(json!(-77), json!({ UNKNOWN_VALUE: "-77" })));
                        self.among(place, all)
                    }
                    Item::Struct(members) => {
                        self.inside.push(name.clone());
                        let object = self.object(members, place);
                        self.inside.pop();
                        object
                    }
                    Item::Properties(of) => self.properties(of, place),
                };
            }
        };
        self.among(place, spellings)
    }

    fn array(&mut self, of: &Ty, place: &str) -> Made {
        let inside = format!("{place}[]");
        let alone = matches!(
            of,
            Ty::Boolean | Ty::Integer | Ty::Bytes | Ty::Vmid | Ty::Number | Ty::Text
        );
        let count = match self.kind {
            _ if self.is_deep(of) => 0,
            Kind::Minimal => 0,
            Kind::Full => 2,
            Kind::Unusual => self.turn(place, if alone { 4 } else { 3 }),
        };
        if count == 3 {
            // Older releases send a single value instead of a list.
            let (json, decoded) = self.value(of, &inside);
            return (json, Some(Value::Array(decoded.into_iter().collect())));
        }
        let mut items = Vec::new();
        let mut found = Vec::new();
        for _ in 0..count {
            let (json, decoded) = self.value(of, &inside);
            items.push(json);
            found.extend(decoded);
        }
        (Value::Array(items), Some(Value::Array(found)))
    }

    /// The end of a tree: an object inside itself is generated two levels deep.
    fn is_deep(&self, of: &Ty) -> bool {
        let Ty::Item(name) = of else { return false };
        self.inside.iter().filter(|other| *other == name).count() > 1
    }

    fn map(&mut self, of: &Ty, place: &str) -> Made {
        let count = match self.kind {
            Kind::Minimal => 0,
            Kind::Full => 2,
            Kind::Unusual => self.turn(place, 5),
        };
        match count {
            3 => return (json!(""), Some(json!({}))),
            4 => return (json!([]), Some(json!({}))),
            _ => {}
        }
        let mut object = Map::new();
        let mut found = Map::new();
        for key in ["k1", "k 2"].iter().take(count) {
            let (json, decoded) = self.value(of, &format!("{place}.*"));
            object.insert((*key).to_owned(), json);
            if let Some(decoded) = decoded {
                found.insert((*key).to_owned(), decoded);
            }
        }
        (Value::Object(object), Some(Value::Object(found)))
    }

    fn object(&mut self, members: &[Member], place: &str) -> Made {
        let mut object = Map::new();
        let mut found = Map::new();
        let mut extra = Map::new();
        for member in members {
            let names = match member.indexed {
                true => vec![format!("{}0", member.name), format!("{}13", member.name)],
                false => vec![member.name.clone()],
            };
            for name in names {
                let inside = format!("{place}.{}", member.name);
                let turn = match (member.required, self.kind) {
                    (true, _) | (_, Kind::Full) => 0,
                    (_, Kind::Minimal) => 1,
                    (_, Kind::Unusual) => self.turn(&format!("{inside}?"), 6),
                };
                match turn {
                    1 => {}
                    3 => {
                        object.insert(name, Value::Null);
                    }
                    5 => {
                        let unfit = self.unfit(&member.ty);
                        if !unfit.is_empty() {
                            let turn = self.turn(&format!("{inside}!"), unfit.len());
                            object.insert(name.clone(), unfit[turn].clone());
                            extra.insert(name, unfit[turn].clone());
                        }
                    }
                    _ => {
                        let (mut json, decoded) = self.value(&member.ty, &inside);
                        if turn == 4
                            && let Some(rest) = self.spoil(&member.ty, &mut json, &inside)
                        {
                            extra.insert(name.clone(), rest);
                        }
                        object.insert(name.clone(), json);
                        if let Some(decoded) = decoded {
                            found.insert(name, decoded);
                        }
                    }
                }
            }
            if member.indexed && self.kind == Kind::Unusual {
                // These look like indexes, and are not.
                for index in ["256", "01", ""] {
                    let name = format!("{}{index}", member.name);
                    if !members.iter().any(|other| other.name == name) {
                        object.insert(name.clone(), json!(index));
                        extra.insert(name, json!(index));
                    }
                }
            }
        }
        if self.kind == Kind::Unusual {
            for (name, value) in [
                ("zz-later", json!({ "a": [1, "b", null] })),
                ("Zz9", json!(4.5)),
                ("zz null", json!(null)),
            ] {
                object.insert(name.to_owned(), value.clone());
                extra.insert(name.to_owned(), value);
            }
        }
        if !extra.is_empty() {
            found.insert(EXTRA.to_owned(), Value::Object(extra));
        }
        (Value::Object(object), Some(Value::Object(found)))
    }

    /// Adds a value that does not fit to a non-empty list or map; returns what is kept of it.
    fn spoil(&mut self, ty: &Ty, json: &mut Value, place: &str) -> Option<Value> {
        let of = match ty {
            Ty::Optional(of) | Ty::Pending(of) => return self.spoil(of, json, place),
            Ty::Array(of) | Ty::Map(of) => of,
            _ => return None,
        };
        let unfit = self.unfit(of);
        let turn = self.turn(&format!("{place}[]!"), unfit.len());
        let misfit = unfit.get(turn)?.clone();
        match json {
            Value::Array(items) if !items.is_empty() => {
                let place = self.turn(&format!("{place}[]?"), items.len() + 1);
                // Null values are absent and not counted.
                let taken = items[..place].iter().filter(|item| !item.is_null()).count();
                items.insert(place, misfit.clone());
                let mut rest = vec![Value::Null; taken];
                rest.push(misfit);
                let after = &items[place + 1..];
                let after = after.iter().filter(|item| !item.is_null()).count();
                rest.resize(rest.len() + after, Value::Null);
                Some(rest.into())
            }
            Value::Object(values) if !values.is_empty() => {
                values.insert("zz odd".to_owned(), misfit.clone());
                Some(json!({ "zz odd": misfit }))
            }
            _ => None,
        }
    }

    /// Values that do not fit the type even leniently.
    fn unfit(&self, ty: &Ty) -> Vec<Value> {
        match ty {
            Ty::Optional(of) | Ty::Pending(of) => self.unfit(of),
            Ty::Boolean => vec![json!("maybe"), json!(2), json!([1]), json!({})],
            Ty::Integer => vec![
                json!("abc"),
                json!(0.5),
                json!([]),
                json!({ "a": 1 }),
                json!(""),
            ],
            Ty::Bytes => vec![json!(-1), json!("-7"), json!(0.5), json!("abc"), json!([])],
            Ty::Vmid => vec![json!(-1), json!("x"), json!([100])],
            Ty::Number => vec![json!("abc"), json!({}), json!([0.5])],
            Ty::Text => vec![json!(["a"]), json!({ "a": "b" })],
            Ty::Json => vec![],
            Ty::List(of) => match **of {
                Ty::Vmid => vec![json!("abc"), json!({ "a": 1 })],
                _ => vec![json!({ "a": 1 })],
            },
            Ty::Array(of) => match &**of {
                Ty::Item(name) if matches!(self.shapes.items[name], Item::Struct(_)) => {
                    vec![json!("x"), json!({ "a": 1 })]
                }
                Ty::Boolean | Ty::Integer | Ty::Bytes | Ty::Vmid => {
                    vec![json!("x"), json!({ "a": 1 })]
                }
                _ => vec![json!({ "a": 1 })],
            },
            Ty::Map(_) => vec![json!(5), json!("x"), json!([1])],
            Ty::Item(name) => match &self.shapes.items[name] {
                Item::Enum(_) => vec![json!([]), json!({ "a": 1 })],
                Item::Struct(members) => {
                    let mut unfit = vec![json!("x"), json!(5), json!([1]), json!(true)];
                    if members.iter().any(|member| member.required) {
                        unfit.push(json!({ "zz-later": 1 }));
                    }
                    unfit
                }
                Item::Properties(_) => vec![json!([1])],
            },
        }
    }

    fn properties(&mut self, of: &Properties, place: &str) -> Made {
        let turn = match self.kind {
            Kind::Unusual => self.turn(place, 5),
            _ => 0,
        };
        if turn == 1 {
            return (json!("a=1,a=2"), Some(json!({ TEXT: "a=1,a=2" })));
        }
        let mut parts = Vec::new();
        let mut object = Map::new();
        let mut found = Map::new();
        for member in &of.keys {
            if !member.required && (self.kind == Kind::Minimal || turn == 2) {
                continue;
            }
            let (text, decoded) = self.key(&member.ty, &format!("{place}.{}", member.name));
            object.insert(member.name.clone(), json!(text));
            parts.push(match of.default_key.as_ref() == Some(&member.name) {
                true if !text.is_empty() => text,
                _ => format!("{}={text}", member.name),
            });
            found.insert(member.name.clone(), decoded);
        }
        if turn == 3 || turn == 4 {
            parts.push("zz-later=x y".to_owned());
            object.insert("zz-later".to_owned(), json!("x y"));
            found.insert(UNKNOWN_KEYS.to_owned(), json!({ "zz-later": "x y" }));
        }
        let json = match turn {
            // Some answers have the parsed form, which may nest.
            4 => {
                object.insert("zz-deep".to_owned(), json!({ "a": [1] }));
                found[UNKNOWN_KEYS]["zz-deep"] = json!({ "a": [1] });
                Value::Object(object)
            }
            _ => json!(parts.join(",")),
        };
        (json, Some(Value::Object(found)))
    }

    /// The value of a property string's key, and the expected result.
    fn key(&mut self, ty: &Ty, place: &str) -> (String, Value) {
        let spellings: Vec<(&str, Value)> = match ty {
            Ty::Boolean => vec![
                ("1", json!(true)),
                ("0", json!(false)),
                ("on", json!(true)),
                ("no", json!(false)),
            ],
            Ty::Integer => vec![("5", json!(5)), ("-3", json!(-3))],
            Ty::Bytes => vec![("5", json!(5))],
            Ty::Vmid => vec![("100", json!(100))],
            Ty::Number => vec![("0.5", json!(0.5)), ("3", json!(3.0))],
            Ty::List(_) => vec![("a;b", json!(["a", "b"])), ("a", json!(["a"]))],
            Ty::Item(name) => match &self.shapes.items[name] {
                Item::Enum(values) => {
                    let mut all: Vec<(&str, Value)> = values
                        .iter()
                        .map(|value| (value.as_str(), json!(value)))
                        .collect();
                    all.push(("never-seen", json!({ UNKNOWN_VALUE: "never-seen" })));
                    all
                }
                _ => vec![("text", json!("text"))],
            },
            _ => vec![("text", json!("text")), ("ä b/c:d", json!("ä b/c:d"))],
        };
        let turn = self.turn(place, spellings.len());
        let (text, decoded) = spellings.into_iter().nth(turn).expect("one of them");
        (text.to_owned(), decoded)
    }
}
