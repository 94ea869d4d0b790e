//! The shapes of answers and parameters, according to the schema and its overlay.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

/// The shape of a value.
#[derive(Clone, Debug)]
pub enum Ty {
    Boolean,
    Integer,
    /// A number of bytes, without a sign.
    Bytes,
    Vmid,
    Number,
    Text,
    /// Any JSON.
    Json,
    /// A list in one text.
    List(Box<Ty>),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Optional(Box<Ty>),
    /// A value or the word `deleted`.
    Pending(Box<Ty>),
    Item(String),
}

#[derive(Clone, Debug)]
pub enum Item {
    Enum(Vec<String>),
    Struct(Vec<Member>),
    Properties(Properties),
}

/// A property string.
#[derive(Clone, Debug)]
pub struct Properties {
    pub keys: Vec<Member>,
    pub default_key: Option<String>,
    /// Alias and key.
    pub aliases: Vec<(String, String)>,
    /// In `virtio=MAC`: `virtio`, the key for the MAC, the key for `virtio`.
    pub key_aliases: Vec<(String, String, String)>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub indexed: bool,
    pub required: bool,
    pub ty: Ty,
}

/// The kind of an endpoint's answer.
#[derive(Clone, Debug)]
pub enum Returns {
    Nothing,
    Bytes,
    Task { optional: bool },
    Data(Ty),
}

/// All shapes.
#[derive(Debug)]
pub struct Shapes {
    pub items: BTreeMap<String, Item>,
    /// By verb and path.
    pub answers: BTreeMap<String, Returns>,
    /// By verb and path, then name.
    pub parameters: BTreeMap<String, BTreeMap<String, Ty>>,
}

impl Shapes {
    /// The shapes of this build.
    ///
    /// # Panics The generated file is invalid.
    pub fn get() -> &'static Self {
        static SHAPES: OnceLock<Shapes> = OnceLock::new();
        SHAPES.get_or_init(|| {
            let json: Value = serde_json::from_str(include_str!("generated/shapes.json"))
                .expect("shapes.json is JSON");
            Self {
                items: each(&json["items"], item),
                answers: each(&json["answers"], returns),
                parameters: each(&json["parameters"], |parameters| each(parameters, ty)),
            }
        })
    }

    /// The property string of a type, if it is one.
    #[must_use]
    pub fn properties(&self, ty: &Ty) -> Option<&Properties> {
        match ty {
            Ty::Item(name) => match self.items.get(name)? {
                Item::Properties(properties) => Some(properties),
                _ => None,
            },
            Ty::Optional(of) => self.properties(of),
            _ => None,
        }
    }
}

fn each<T>(json: &Value, read: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    let entries = json.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), read(value)))
        .collect()
}

fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn list<T>(json: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    json.as_array().into_iter().flatten().map(read).collect()
}

fn returns(json: &Value) -> Returns {
    match json.as_str() {
        Some("nothing") => Returns::Nothing,
        Some("bytes") => Returns::Bytes,
        Some("task") => Returns::Task { optional: false },
        Some("optional task") => Returns::Task { optional: true },
        _ => Returns::Data(ty(&json["data"])),
    }
}

fn item(json: &Value) -> Item {
    if let Some(values) = json.get("enum") {
        return Item::Enum(list(values, text));
    }
    if let Some(members) = json.get("struct") {
        return Item::Struct(list(members, member));
    }
    Item::Properties(Properties {
        keys: list(&json["keys"], member),
        default_key: json["default_key"].as_str().map(str::to_owned),
        aliases: list(&json["aliases"], |pair| (text(&pair[0]), text(&pair[1]))),
        key_aliases: list(&json["key_aliases"], |three| {
            (text(&three[0]), text(&three[1]), text(&three[2]))
        }),
    })
}

fn member(json: &Value) -> Member {
    let flag = |name: &str| json[name].as_bool().unwrap_or_default();
    Member {
        name: text(&json["name"]),
        indexed: flag("indexed"),
        required: flag("required"),
        ty: ty(&json["ty"]),
    }
}

fn ty(json: &Value) -> Ty {
    if let Some((kind, of)) = json.as_object().and_then(|object| object.iter().next()) {
        let of_ty = || Box::new(ty(of));
        return match kind.as_str() {
            "list" => Ty::List(of_ty()),
            "array" => Ty::Array(of_ty()),
            "map" => Ty::Map(of_ty()),
            "optional" => Ty::Optional(of_ty()),
            "pending" => Ty::Pending(of_ty()),
            "item" => Ty::Item(text(of)),
            other => panic!("shapes.json: {other:?} is no kind of type"),
        };
    }
    match json.as_str() {
        Some("boolean") => Ty::Boolean,
        Some("integer") => Ty::Integer,
        Some("bytes") => Ty::Bytes,
        Some("vmid") => Ty::Vmid,
        Some("number") => Ty::Number,
        Some("text" | "secret") => Ty::Text,
        Some("json") => Ty::Json,
        _ => panic!("shapes.json: {json} is no type"),
    }
}
