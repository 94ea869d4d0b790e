//! The interface facts of one release: the content of `schema/<product>/<release>.json`.
//!
//! Facts are normalised (flags are booleans, bounds are numbers) and hold no prose. `apidoc` makes
//! them from an official dump; all later steps read only these.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Number, Value};

use crate::product::Product;

/// Named schemas in alphabetical order: parameters, object fields, keys of a property string.
pub type Schemas = BTreeMap<String, Schema>;

/// One release of one product.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub product: &'static Product,
    pub release: Release,
    /// Version of the package that shipped the dump, if known.
    pub package_version: Option<String>,
    /// SHA-256 of the source file, lower-case hex.
    pub source_sha256: String,
    /// Named formats that are property strings, with the keys recovered from `typetext`.
    pub formats: BTreeMap<String, Schemas>,
    /// Path template, then method.
    pub endpoints: BTreeMap<String, BTreeMap<Method, Endpoint>>,
}

/// `major.minor` of a product release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub major: u8,
    pub minor: u8,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Release, String> {
        // Strict, because the text becomes a file name: no sign, no leading zero.
        let part = |text: &str| text.parse::<u8>().ok().filter(|n| n.to_string() == text);
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(Release {
                    major: part(major)?,
                    minor: part(minor)?,
                })
            })
            .ok_or_else(|| format!("{text:?} is not a release such as 9.2"))
    }
}

/// An HTTP verb the API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        })
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        match text {
            "GET" => Ok(Method::Get),
            "POST" => Ok(Method::Post),
            "PUT" => Ok(Method::Put),
            "DELETE" => Ok(Method::Delete),
            _ => Err(format!("{text:?} is not an HTTP verb the API uses")),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The method's name in Proxmox's own code; the Rust products have none.
    pub name: Option<String>,
    /// Runs in the privileged daemon.
    pub protected: bool,
    /// The node that serves the call; `None`: the one that was asked.
    pub proxyto: Option<ProxyTo>,
    /// May be called with an API token.
    pub allowtoken: bool,
    /// May answer with a file instead of JSON.
    pub download: bool,
    /// Takes the raw request body instead of parameters (marked by the Rust products).
    pub upload: bool,
    /// May change or disappear (marked by the Rust products).
    pub unstable: bool,
    /// The handler sees the caller's credentials.
    pub expose_credentials: bool,
    /// `None`: only root@pam.
    pub permissions: Option<Permissions>,
    pub parameters: Parameters,
    pub returns: Schema,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProxyTo {
    /// This path parameter names the node that serves the call.
    Parameter(String),
    /// The dump says that no parameter does (`null`): the server that is asked serves the call.
    NoNode,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Whether unknown parameters are accepted; `None`: the dump does not say.
    pub additional: Option<bool>,
    pub properties: Schemas,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Permissions {
    /// `all`: any authenticated user; `world`: no login needed.
    pub user: Option<String>,
    pub check: Option<Check>,
    /// The dump describes a further rule in prose, which is not kept.
    pub described: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    Or(Vec<Check>),
    And(Vec<Check>),
    Perm {
        path: String,
        privileges: Vec<String>,
        /// One of the privileges is enough.
        any: bool,
        /// Checked only when this parameter is given.
        require_param: Option<String>,
    },
    /// Privileges on the groups of the user in `userid`.
    UserIdGroup {
        privileges: Vec<String>,
        groups_param: Option<String>,
    },
    /// `self`, or a privilege on the realm of the user in `userid`.
    UserIdParam(String),
    /// The right to change permissions on that path.
    PermModify(String),
    /// The caller is the user this parameter names (PBS, PDM).
    UserParam(String),
    /// The caller has one of these roles (PMG).
    Roles(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
    Any,
}

impl Type {
    const ALL: [Type; 8] = [
        Type::Null,
        Type::Boolean,
        Type::Integer,
        Type::Number,
        Type::String,
        Type::Array,
        Type::Object,
        Type::Any,
    ];

    /// The dump's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String => "string",
            Type::Array => "array",
            Type::Object => "object",
            Type::Any => "any",
        }
    }
}

impl FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Type, String> {
        Type::ALL
            .into_iter()
            .find(|ty| ty.name() == text)
            .ok_or_else(|| format!("{text:?} is not a type the schema knows"))
    }
}

/// One schema: a parameter, a field, a result, or a key of a property string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    pub ty: Option<Type>,
    pub optional: bool,
    /// Only if the value is of the schema's type; prose defaults are dropped.
    pub default: Option<Value>,
    pub values: Option<Vec<String>>,
    pub minimum: Option<Number>,
    pub maximum: Option<Number>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<String>,
    pub format: Option<Format>,
    /// Another parameter or key that must be given, too.
    pub requires: Option<String>,
    /// Property strings: this key is another spelling of that one.
    pub alias: Option<String>,
    /// Property strings: giving this key also sets that one to this key's name.
    pub key_alias: Option<String>,
    /// Property strings: the key whose `key=` may be omitted.
    pub default_key: bool,
    pub properties: Option<Schemas>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub one_of: Option<Vec<Schema>>,
    pub type_property: Option<String>,
    pub instance_types: Option<Vec<String>>,
    /// `href` templates of the links to children, e.g. `{name}`.
    pub links: Option<Vec<String>>,
    /// A unit hint: `bytes`, `timestamp`, `duration` …
    pub renderer: Option<String>,
}

impl Schema {
    /// A required value of a type, without constraints.
    #[must_use]
    pub fn of(ty: Type) -> Self {
        Self {
            ty: Some(ty),
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    Name(String),
    /// A property string and its keys.
    Keys(Schemas),
    /// A list in one string; the schema is of type array (PBS, PDM).
    List(Box<Schema>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Additional {
    Allowed(bool),
    Schema(Box<Schema>),
}
