//! Strict reader of the official API dumps.
//!
//! Every Proxmox product publishes its API as a JavaScript file that assigns one JSON array: a tree
//! of path nodes, each with the methods of that path. Two dialects exist: the Perl products (PVE,
//! PMG) and the Rust products (PBS, PDM). This module turns both into [`Facts`].
//!
//! * Every key must be known in its place, and every value must have a known type; anything else is
//!   a [`Problem`]. A change of the dialect is therefore noticed at the import and not as a missing
//!   field later.
//! * Flags become booleans (`1`, `"1"`, `true`), bounds become numbers (`"0"`), `enum: null` goes away.
//! * Prose is dropped. A default is kept if it is a value of the schema's type: `"1"` of a boolean
//!   becomes `true`, a sentence on an integer is dropped. A string default with a space is dropped,
//!   because it describes what the default depends on, unless it is one of the schema's values.
//! * `min` and `max` on keys of property strings are misspelt bounds that the server ignores, so
//!   they are ignored here too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::facts::{
    Additional, Check, Endpoint, Facts, Format, Method, Parameters, Permissions, ProxyTo, Release,
    Schema, Schemas, Type,
};
use crate::json::{Json, point};
use crate::product::{Dialect, Product};
use crate::typetext;

/// Facts that are not in the dump.
#[derive(Clone, Debug)]
pub struct Origin {
    pub product: &'static Product,
    pub release: Release,
    pub package_version: Option<String>,
}

/// One problem in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `POST /nodes/{node}/qemu`, or a path if the problem is in no method, or `None`.
    pub endpoint: Option<String>,
    /// JSON pointer, relative to the method's object if `endpoint` names one, else to the array.
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, "{endpoint}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "at {}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of a dump. A problem that many endpoints share is reported once, with the first of
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// A problem of more endpoints than this is reported once.
const SHARED: usize = 5;

impl Problems {
    /// A line for each problem.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for problem in &self.0 {
            *counts
                .entry((&problem.pointer, &problem.message))
                .or_default() += 1;
        }
        let mut reported = BTreeSet::new();
        self.0
            .iter()
            .filter_map(|problem| {
                let key = (problem.pointer.as_str(), problem.message.as_str());
                match counts[&key] {
                    count if count <= SHARED => Some(problem.to_string()),
                    _ if !reported.insert(key) => None,
                    count => Some(format!(
                        "{problem} (and the same in {} more places)",
                        count - 1
                    )),
                }
            })
            .collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for Problems {}

/// SHA-256 of a source file, in the form of the schema files.
pub fn sha256(source: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(source)
        .iter()
        .fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// Reads a dump: `apidoc.js`, `apidata.js`, or the bare JSON array.
///
/// # Errors
///
/// All problems, in the order of the file.
pub fn parse(source: &[u8], origin: &Origin) -> Result<Facts, Problems> {
    let tree = match tree(source) {
        Ok(tree) => tree,
        Err(message) => {
            return Err(Problems(vec![Problem {
                endpoint: None,
                pointer: String::new(),
                message,
            }]));
        }
    };
    let mut import = Import {
        product: origin.product,
        dialect: origin.product.dialect,
        endpoint: None,
        problems: Vec::new(),
        usages: BTreeMap::new(),
        endpoints: BTreeMap::new(),
    };
    for (n, node) in tree.iter().enumerate() {
        import.node(&point("", n), node);
    }
    import.endpoint = None;
    if import.endpoints.is_empty() && import.problems.is_empty() {
        import.problem("", "the array holds no method");
    }
    let formats = import.formats();
    if !import.problems.is_empty() {
        return Err(Problems(import.problems));
    }
    Ok(Facts {
        product: origin.product,
        release: origin.release,
        package_version: origin.package_version.clone(),
        source_sha256: sha256(source),
        formats,
        endpoints: import.endpoints,
    })
}

/// The JSON array in the file.
fn tree(source: &[u8]) -> Result<Vec<Json>, String> {
    let text = std::str::from_utf8(source).map_err(|err| format!("not UTF-8 text: {err}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = array_start(text)?;
    let (before, array) = text.split_at(start);
    let mut reader = serde_json::Deserializer::from_str(array);
    match Json::deserialize(&mut reader) {
        Ok(Json::Array(list)) => Ok(list),
        Ok(other) => Err(format!("expected an array, found {}", other.kind())),
        Err(err) => {
            let place = format!(" at line {} column {}", err.line(), err.column());
            let message = err.to_string();
            let message = message.strip_suffix(&place).unwrap_or(&message);
            let line = before.matches('\n').count() + err.line();
            let column = match err.line() {
                1 => before.len() - before.rfind('\n').map_or(0, |at| at + 1) + err.column(),
                _ => err.column(),
            };
            let cut = if err.is_eof() {
                "; the file is cut off"
            } else {
                ""
            };
            Err(format!("line {line}, column {column}: {message}{cut}"))
        }
    }
}

/// The start of the array: at the start, or after the first `const NAME =` (or `var`, `let`) that
/// assigns one.
fn array_start(text: &str) -> Result<usize, String> {
    let body = text.trim_start();
    if body.starts_with('[') {
        return Ok(text.len() - body.len());
    }
    if body.starts_with('<') {
        return Err("this is an HTML page, not an API dump (a login or error page?)".to_owned());
    }
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        // Blank lines start nothing; without this check each would be read again for each line
        // before it.
        if !line.trim_start().is_empty()
            && let Some(offset) = assignment(&text[at..])
        {
            return Ok(at + offset);
        }
        at += line.len();
    }
    Err("no API dump: found neither a JSON array nor `const … = [`".to_owned())
}

/// The offset of the `[` if `text` begins with an assignment of an array.
fn assignment(text: &str) -> Option<usize> {
    let rest = text.trim_start();
    let rest = ["const", "var", "let"]
        .into_iter()
        .find_map(|word| rest.strip_prefix(word))?;
    let name = rest.trim_start();
    if name.len() == rest.len() {
        return None;
    }
    let rest = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if rest.len() == name.len() {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    rest.starts_with('[').then_some(text.len() - rest.len())
}

/// The position of a schema, which determines its allowed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Parameters,
    Parameter,
    Returns,
    Field,
    /// A key of a property string.
    Key,
    /// The schema of a whole property string (Rust).
    Format,
    /// The property that distinguishes the alternatives of a union (Rust).
    Tag,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Parameters => "at the root of parameters",
            Place::Parameter => "on a parameter",
            Place::Returns => "at the root of returns",
            Place::Field => "on a field of the result",
            Place::Key => "on a key of a property string",
            Place::Format => "on the schema of a property string",
            Place::Tag => "on the schema of a union's tag",
        }
    }

    /// The place of nested schemas.
    fn inner(self) -> Place {
        match self {
            Place::Parameters | Place::Parameter => Place::Parameter,
            Place::Returns | Place::Field => Place::Field,
            Place::Key | Place::Format | Place::Tag => Place::Key,
        }
    }

    fn allows(self, dialect: Dialect, key: &str) -> bool {
        const VALUE: &[&str] = &[
            "type",
            "description",
            "optional",
            "default",
            "enum",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "pattern",
            "format",
        ];
        let more: &[&str] = match (dialect, self) {
            (Dialect::Perl, Place::Parameters) => {
                return ["type", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Perl, Place::Parameter) => &[
                "verbose_description",
                "format_description",
                "title",
                "typetext",
                "items",
                "requires",
                "oneOf",
                "type-property",
                "instance-types",
            ],
            (Dialect::Perl, Place::Returns) => &[
                "properties",
                "additionalProperties",
                "items",
                "links",
                "renderer",
            ],
            (Dialect::Perl, Place::Field) => &[
                "verbose_description",
                "format_description",
                "title",
                "typetext",
                "properties",
                "additionalProperties",
                "items",
                "links",
                "renderer",
                "requires",
                "default_key",
                "oneOf",
                "type-property",
                "instance-types",
            ],
            (Dialect::Perl, Place::Key) => &[
                "verbose_description",
                "format_description",
                "typetext",
                "requires",
                "alias",
                "keyAlias",
                "default_key",
                "min",
                "max",
            ],
            (Dialect::Perl, Place::Format | Place::Tag) => return false,
            (Dialect::Rust, Place::Parameters) => {
                return ["description", "properties", "additionalProperties"].contains(&key);
            }
            (Dialect::Rust, Place::Parameter) => {
                &["typetext", "properties", "additionalProperties", "items"]
            }
            (Dialect::Rust, Place::Returns) => &["properties", "additionalProperties", "items"],
            (Dialect::Rust, Place::Field) => &[
                "title",
                "typetext",
                "properties",
                "additionalProperties",
                "items",
                "oneOf",
                "typeProperty",
                "typeSchema",
            ],
            (Dialect::Rust, Place::Key) => &["typetext"],
            (Dialect::Rust, Place::Format) => {
                let known = [
                    "type",
                    "description",
                    "properties",
                    "additionalProperties",
                    "default_key",
                    "items",
                    "minLength",
                    "maxLength",
                ];
                return known.contains(&key);
            }
            (Dialect::Rust, Place::Tag) => return ["type", "description", "enum"].contains(&key),
        };
        VALUE.contains(&key) || more.contains(&key)
    }
}

/// A usage line of a named format, and the endpoint that shows it.
struct Usage {
    text: String,
    endpoint: Option<String>,
    pointer: String,
}

struct Import {
    product: &'static Product,
    dialect: Dialect,
    /// The endpoint being read.
    endpoint: Option<String>,
    problems: Vec<Problem>,
    usages: BTreeMap<String, Usage>,
    endpoints: BTreeMap<String, BTreeMap<Method, Endpoint>>,
}

impl Import {
    fn problem(&mut self, at: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            endpoint: self.endpoint.clone(),
            pointer: at.to_owned(),
            message: message.into(),
        });
    }

    fn expected(&mut self, at: &str, what: &str, found: &Json) {
        let shown = match found {
            Json::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
            Json::Number(number) => number.to_string(),
            Json::Bool(value) => value.to_string(),
            other => other.kind().to_owned(),
        };
        self.problem(at, format!("expected {what}, found {shown}"));
    }

    fn unknown(&mut self, at: &str, key: &str, place: &str) {
        self.problem(at, format!("the key {key:?} is not known {place}"));
    }

    /// The members of an object, without repeated keys.
    fn members<'j>(&mut self, at: &str, json: &'j Json) -> Vec<(&'j str, &'j Json)> {
        let Json::Object(list) = json else {
            self.expected(at, "an object", json);
            return Vec::new();
        };
        let mut seen = BTreeSet::new();
        let mut members = Vec::with_capacity(list.len());
        for (key, value) in list {
            if seen.insert(key.as_str()) {
                members.push((key.as_str(), value));
            } else {
                self.problem(&point(at, key), format!("the key {key:?} appears twice"));
            }
        }
        members
    }

    fn array<'j>(&mut self, at: &str, json: &'j Json) -> &'j [Json] {
        match json {
            Json::Array(list) => list,
            other => {
                self.expected(at, "an array", other);
                &[]
            }
        }
    }

    fn string<'j>(&mut self, at: &str, json: &'j Json) -> Option<&'j str> {
        match json {
            Json::String(text) => Some(text),
            other => {
                self.expected(at, "a string", other);
                None
            }
        }
    }

    fn owned(&mut self, at: &str, json: &Json) -> Option<String> {
        self.string(at, json).map(str::to_owned)
    }

    fn strings(&mut self, at: &str, json: &Json) -> Vec<String> {
        self.array(at, json)
            .iter()
            .enumerate()
            .filter_map(|(n, json)| self.owned(&point(at, n), json))
            .collect()
    }

    fn flag(&mut self, at: &str, json: &Json) -> bool {
        let known = match json {
            Json::Bool(value) => Some(*value),
            Json::Number(number) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Json::String(text) => match text.as_str() {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            },
            _ => None,
        };
        known.unwrap_or_else(|| {
            self.expected(at, "a flag (0 or 1)", json);
            false
        })
    }

    fn bound(&mut self, at: &str, json: &Json) -> Option<Number> {
        let number = match json {
            Json::Number(number) => Some(number.clone()),
            Json::String(text) => numeric(text),
            _ => None,
        };
        if number.is_none() {
            self.expected(at, "a number", json);
        }
        number
    }

    fn length(&mut self, at: &str, json: &Json) -> Option<u64> {
        let length = self.bound(at, json)?.as_u64();
        if length.is_none() {
            self.expected(at, "an integer that is not negative", json);
        }
        length
    }

    fn node(&mut self, at: &str, json: &Json) {
        let members = self.members(at, json);
        let mut path = None;
        for &(key, value) in &members {
            let at = point(at, key);
            match key {
                "path" => path = self.string(&at, value),
                "text" => {
                    self.string(&at, value);
                }
                "leaf" => {
                    self.flag(&at, value);
                }
                "expanded" if self.dialect == Dialect::Rust => {
                    self.flag(&at, value);
                }
                "info" | "children" => {}
                _ => self.unknown(&at, key, "on a path node"),
            }
        }
        let Some(path) = path else {
            if matches!(json, Json::Object(_)) && !members.iter().any(|(key, _)| *key == "path") {
                self.problem(at, "the key \"path\" is missing");
            }
            return;
        };
        if !path.starts_with('/') {
            self.problem(
                &point(at, "path"),
                format!("the path {path:?} does not begin with a slash"),
            );
        }
        for &(key, value) in &members {
            let at = point(at, key);
            match key {
                "info" => {
                    self.endpoint = Some(path.to_owned());
                    for (verb, method) in self.members(&at, value) {
                        self.endpoint = Some(path.to_owned());
                        self.verb(&point(&at, verb), path, verb, method);
                    }
                    self.endpoint = None;
                }
                "children" => {
                    for (n, child) in self.array(&at, value).iter().enumerate() {
                        self.node(&point(&at, n), child);
                    }
                }
                _ => {}
            }
        }
    }

    fn verb(&mut self, at: &str, path: &str, verb: &str, json: &Json) {
        let method: Method = match verb.parse() {
            Ok(method) => method,
            Err(message) => return self.problem(at, message),
        };
        self.endpoint = Some(format!("{verb} {path}"));
        if self
            .endpoints
            .get(path)
            .is_some_and(|methods| methods.contains_key(&method))
        {
            return self.problem("", "the method is defined twice");
        }
        let endpoint = self.method(verb, json);
        self.endpoints
            .entry(path.to_owned())
            .or_default()
            .insert(method, endpoint);
    }

    fn method(&mut self, verb: &str, json: &Json) -> Endpoint {
        let perl = self.dialect == Dialect::Perl;
        let mut endpoint = Endpoint {
            name: None,
            protected: false,
            proxyto: None,
            allowtoken: true,
            download: false,
            upload: false,
            unstable: false,
            expose_credentials: false,
            permissions: None,
            parameters: Parameters::default(),
            returns: Schema::default(),
        };
        let members = self.members("", json);
        for &(key, value) in &members {
            let at = &point("", key);
            match key {
                "description" => {
                    self.string(at, value);
                }
                "method" => match (self.string(at, value), verb) {
                    (None, _) => {}
                    (Some(name), verb) if name == verb => {}
                    (Some("DOWNLOAD"), "GET") if !perl => endpoint.download = true,
                    (Some("UPLOAD"), "POST") if !perl => endpoint.upload = true,
                    _ => self.expected(at, &format!("{verb:?}"), value),
                },
                "parameters" => endpoint.parameters = self.parameters(at, value),
                "returns" => endpoint.returns = self.schema(at, value, Place::Returns),
                "permissions" => endpoint.permissions = Some(self.permissions(at, value)),
                "unstable" => endpoint.unstable = self.flag(at, value),
                "name" if perl => endpoint.name = self.owned(at, value),
                "allowtoken" if perl => endpoint.allowtoken = self.flag(at, value),
                "protected" if perl => endpoint.protected = self.flag(at, value),
                key if self.product.download.contains(&key) => {
                    endpoint.download = self.flag(at, value);
                }
                "expose_credentials" if perl => endpoint.expose_credentials = self.flag(at, value),
                "proxyto" if perl => {
                    endpoint.proxyto = match value {
                        Json::Null => Some(ProxyTo::NoNode),
                        value => self.owned(at, value).map(ProxyTo::Parameter),
                    };
                }
                _ => self.unknown(at, key, "on a method"),
            }
        }
        let required: &[&str] = match self.dialect {
            Dialect::Perl => &["method", "name", "allowtoken", "parameters", "returns"],
            Dialect::Rust => &["method", "parameters", "returns"],
        };
        if matches!(json, Json::Object(_)) {
            for key in required {
                if !members.iter().any(|(known, _)| known == key) {
                    self.problem("", format!("the key {key:?} is missing"));
                }
            }
        }
        endpoint
    }

    fn parameters(&mut self, at: &str, json: &Json) -> Parameters {
        let schema = self.schema(at, json, Place::Parameters);
        if !matches!(schema.ty, None | Some(Type::Object)) {
            self.problem(&point(at, "type"), "parameters have to be an object");
        }
        Parameters {
            additional: match schema.additional {
                None => None,
                Some(Additional::Allowed(allowed)) => Some(allowed),
                Some(Additional::Schema(_)) => {
                    self.problem(
                        &point(at, "additionalProperties"),
                        "expected a flag (0 or 1), found an object",
                    );
                    None
                }
            },
            properties: schema.properties.unwrap_or_default(),
        }
    }

    fn permissions(&mut self, at: &str, json: &Json) -> Permissions {
        let mut permissions = Permissions {
            user: None,
            check: None,
            described: false,
        };
        for (key, value) in self.members(at, json) {
            let at = &point(at, key);
            match (key, self.dialect) {
                ("description", _) => permissions.described = self.string(at, value).is_some(),
                ("user", _) => permissions.user = self.user(at, value),
                ("check", Dialect::Perl) => permissions.check = self.perl_check(at, value),
                ("check" | "and" | "or", Dialect::Rust) => {
                    if permissions.check.is_some() {
                        self.problem(at, "a second check besides the first");
                    }
                    permissions.check = self.rust_check(at, key, value);
                }
                _ => self.unknown(at, key, "in permissions"),
            }
        }
        permissions
    }

    fn user(&mut self, at: &str, json: &Json) -> Option<String> {
        let user = self.string(at, json)?;
        if ["all", "world"].contains(&user) {
            return Some(user.to_owned());
        }
        self.expected(at, "\"all\" or \"world\"", json);
        None
    }

    fn perl_check(&mut self, at: &str, json: &Json) -> Option<Check> {
        let list = self.array(at, json);
        let head = match list {
            [] => {
                self.problem(at, "an empty permission check");
                return None;
            }
            // 8.3 wraps a few checks in one list too many.
            [inner @ Json::Array(_)] => return self.perl_check(&point(at, 0), inner),
            [head, ..] => self.string(&point(at, 0), head)?,
        };
        match head {
            "or" | "and" => {
                let checks: Vec<Check> = list
                    .iter()
                    .enumerate()
                    .skip(1)
                    .filter_map(|(n, json)| self.perl_check(&point(at, n), json))
                    .collect();
                Some(if head == "or" {
                    Check::Or(checks)
                } else {
                    Check::And(checks)
                })
            }
            "perm" => {
                let (path, privileges) = (self.nth(at, list, 1)?, self.nth(at, list, 2)?);
                let path = self.owned(&point(at, 1), path)?;
                let privileges = match privileges {
                    Json::String(one) => vec![one.clone()],
                    list => self.strings(&point(at, 2), list),
                };
                let mut any = false;
                let mut require_param = None;
                for (at, key, value) in self.options(at, list, 3) {
                    match key {
                        "any" => any = self.flag(&at, value),
                        "require_param" => require_param = self.owned(&at, value),
                        _ => self.unknown(&at, key, "as an option of \"perm\""),
                    }
                }
                Some(Check::Perm {
                    path,
                    privileges,
                    any,
                    require_param,
                })
            }
            "userid-group" => {
                let privileges = self.nth(at, list, 1)?;
                let privileges = self.strings(&point(at, 1), privileges);
                let mut groups_param = None;
                for (at, key, value) in self.options(at, list, 2) {
                    match key {
                        // Up to 7.1 its value only said that the parameter `groups` is meant.
                        "groups_param" if matches!(value, Json::Number(_)) => {
                            groups_param = self.flag(&at, value).then(|| "groups".to_owned());
                        }
                        "groups_param" => groups_param = self.owned(&at, value),
                        _ => self.unknown(&at, key, "as an option of \"userid-group\""),
                    }
                }
                Some(Check::UserIdGroup {
                    privileges,
                    groups_param,
                })
            }
            "userid-param" | "perm-modify" => {
                let value = self.nth(at, list, 1)?;
                let value = self.owned(&point(at, 1), value)?;
                self.options(at, list, 2)
                    .into_iter()
                    .for_each(|(at, key, _)| self.unknown(&at, key, "as an option of a check"));
                Some(if head == "perm-modify" {
                    Check::PermModify(value)
                } else {
                    Check::UserIdParam(value)
                })
            }
            _ if self.product.checks_roles => Some(Check::Roles(self.strings(at, json))),
            _ => {
                self.problem(
                    &point(at, 0),
                    format!("the permission check {head:?} is not known"),
                );
                None
            }
        }
    }

    fn nth<'j>(&mut self, at: &str, list: &'j [Json], n: usize) -> Option<&'j Json> {
        let found = list.get(n);
        if found.is_none() {
            self.problem(
                at,
                format!("element {n} of the permission check is missing"),
            );
        }
        found
    }

    /// The `key, value` pairs at the end of a check.
    fn options<'j>(
        &mut self,
        at: &str,
        list: &'j [Json],
        from: usize,
    ) -> Vec<(String, &'j str, &'j Json)> {
        let mut options = Vec::new();
        for (n, pair) in list.get(from..).unwrap_or_default().chunks(2).enumerate() {
            let n = from + 2 * n;
            match pair {
                [key, value] => {
                    if let Some(key) = self.string(&point(at, n), key) {
                        options.push((point(at, n + 1), key, value));
                    }
                }
                _ => self.problem(&point(at, n), "an option without a value"),
            }
        }
        options
    }

    fn rust_check(&mut self, at: &str, kind: &str, json: &Json) -> Option<Check> {
        match kind {
            "or" | "and" => {
                let mut checks = Vec::new();
                for (n, json) in self.array(at, json).iter().enumerate() {
                    let at = &point(at, n);
                    let members = self.members(at, json);
                    match members.as_slice() {
                        [(kind, json)] => {
                            checks.extend(self.rust_check(&point(at, kind), kind, json))
                        }
                        _ => self.problem(at, "expected an object with one member"),
                    }
                }
                Some(if kind == "or" {
                    Check::Or(checks)
                } else {
                    Check::And(checks)
                })
            }
            "check" => {
                let (mut path, mut privileges, mut any) = (None, None, None);
                for (key, value) in self.members(at, json) {
                    let at = &point(at, key);
                    match key {
                        "path" => path = Some(format!("/{}", self.strings(at, value).join("/"))),
                        "privs" => privileges = Some(self.strings(at, value)),
                        "partial" => any = Some(self.flag(at, value)),
                        _ => self.unknown(at, key, "in a permission check"),
                    }
                }
                match (path, privileges, any) {
                    (Some(path), Some(privileges), Some(any)) => Some(Check::Perm {
                        path,
                        privileges,
                        any,
                        require_param: None,
                    }),
                    _ => {
                        self.problem(at, "expected \"path\", \"privs\" and \"partial\"");
                        None
                    }
                }
            }
            "userParam" => self.owned(at, json).map(Check::UserParam),
            _ => {
                self.problem(at, format!("the permission check {kind:?} is not known"));
                None
            }
        }
    }

    fn schemas(&mut self, at: &str, json: &Json, place: Place) -> Schemas {
        self.members(at, json)
            .into_iter()
            .map(|(name, json)| (name.to_owned(), self.schema(&point(at, name), json, place)))
            .collect()
    }

    fn schema(&mut self, at: &str, json: &Json, place: Place) -> Schema {
        let mut schema = Schema::default();
        let (mut default, mut usage, mut tag) = (None, None, None);
        for (key, value) in self.members(at, json) {
            let at = &point(at, key);
            if !place.allows(self.dialect, key) {
                self.unknown(at, key, place.name());
                continue;
            }
            match key {
                "description" | "verbose_description" | "format_description" | "title" => {
                    self.string(at, value);
                }
                "typetext" => usage = self.string(at, value),
                "type" => schema.ty = self.ty(at, value),
                "optional" => schema.optional = self.flag(at, value),
                "default" => default = Some(value),
                "enum" => {
                    if *value != Json::Null {
                        schema.values = Some(self.strings(at, value));
                    }
                }
                "minimum" => schema.minimum = self.bound(at, value),
                "maximum" => schema.maximum = self.bound(at, value),
                "min" | "max" => {
                    self.bound(at, value);
                }
                "minLength" => schema.min_length = self.length(at, value),
                "maxLength" => schema.max_length = self.length(at, value),
                "pattern" => {
                    let pattern = self.string(at, value);
                    schema.pattern = pattern.map(|pattern| self.pattern(pattern).to_owned());
                }
                "format" => schema.format = self.format(at, value),
                "requires" => schema.requires = self.owned(at, value),
                "alias" => schema.alias = self.owned(at, value),
                "keyAlias" => schema.key_alias = self.owned(at, value),
                "default_key" => schema.default_key = self.flag(at, value),
                "properties" => schema.properties = Some(self.schemas(at, value, place.inner())),
                "additionalProperties" => {
                    schema.additional = Some(match value {
                        Json::Object(_) => {
                            Additional::Schema(Box::new(self.schema(at, value, place.inner())))
                        }
                        value => Additional::Allowed(self.flag(at, value)),
                    });
                }
                "items" => schema.items = Some(Box::new(self.schema(at, value, place.inner()))),
                "oneOf" => {
                    let list = self.array(at, value);
                    schema.one_of = Some(
                        list.iter()
                            .enumerate()
                            .map(|(n, json)| self.alternative(&point(at, n), json, place))
                            .collect(),
                    );
                }
                "type-property" | "typeProperty" => schema.type_property = self.owned(at, value),
                "instance-types" => schema.instance_types = Some(self.strings(at, value)),
                "typeSchema" => tag = Some(self.schema(at, value, Place::Tag)),
                "links" => schema.links = Some(self.links(at, value)),
                "renderer" => schema.renderer = self.owned(at, value),
                // Reached only if `Place::allows` and this match disagree.
                _ => self.unknown(at, key, place.name()),
            }
        }
        schema.default =
            default.and_then(|json| self.default(&point(at, "default"), json, &schema));
        if schema.one_of.is_some() && schema.type_property.is_none() {
            self.problem(
                at,
                "a union without a property that distinguishes its alternatives",
            );
        }
        match (tag, &schema.type_property) {
            (None, _) => {}
            (Some(tag), Some(name)) => {
                schema.properties = Some(Schemas::from([(name.clone(), tag)]))
            }
            (Some(_), None) => self.problem(&point(at, "typeSchema"), "a tag schema without a tag"),
        }
        if let (Some(text), Some(Format::Name(name))) = (usage, &schema.format)
            && text.contains('=')
        {
            self.usage(&point(at, "typetext"), name, text);
        }
        schema
    }

    fn ty(&mut self, at: &str, json: &Json) -> Option<Type> {
        match self.string(at, json)?.parse() {
            Ok(ty) => Some(ty),
            Err(message) => {
                self.problem(at, message);
                None
            }
        }
    }

    /// The Rust products write `/^…$/`.
    fn pattern<'j>(&self, pattern: &'j str) -> &'j str {
        match self.dialect {
            Dialect::Perl => pattern,
            Dialect::Rust => pattern
                .strip_prefix('/')
                .and_then(|inner| inner.strip_suffix('/'))
                .unwrap_or(pattern),
        }
    }

    /// One alternative of a union. The Rust products name its tag in the title.
    fn alternative(&mut self, at: &str, json: &Json, place: Place) -> Schema {
        let mut schema = self.schema(at, json, place);
        if let (Dialect::Rust, Json::Object(members)) = (self.dialect, json) {
            schema.instance_types =
                members
                    .iter()
                    .find_map(|(key, value)| match (key.as_str(), value) {
                        ("title", Json::String(title)) => Some(vec![title.clone()]),
                        _ => None,
                    });
        }
        if schema.instance_types.is_none() {
            self.problem(
                at,
                "an alternative of a union that does not say when it applies",
            );
        }
        schema
    }

    fn links(&mut self, at: &str, json: &Json) -> Vec<String> {
        let mut links = Vec::new();
        for (n, json) in self.array(at, json).iter().enumerate() {
            let at = &point(at, n);
            for (key, value) in self.members(at, json) {
                let at = &point(at, key);
                match key {
                    "href" => links.extend(self.owned(at, value)),
                    "rel" => {
                        if !matches!(self.string(at, value), None | Some("child")) {
                            self.expected(at, "\"child\"", value);
                        }
                    }
                    _ => self.unknown(at, key, "on a link"),
                }
            }
        }
        links
    }

    fn format(&mut self, at: &str, json: &Json) -> Option<Format> {
        match (json, self.dialect) {
            (Json::String(name), Dialect::Perl) => Some(Format::Name(name.clone())),
            (Json::Object(_), Dialect::Perl) => {
                Some(Format::Keys(self.schemas(at, json, Place::Key)))
            }
            (Json::Object(_), Dialect::Rust) => self.rust_format(at, json),
            (_, Dialect::Perl) => {
                self.expected(at, "a format name or an object", json);
                None
            }
            (_, Dialect::Rust) => {
                self.expected(at, "an object", json);
                None
            }
        }
    }

    fn rust_format(&mut self, at: &str, json: &Json) -> Option<Format> {
        // Here `default_key` names the key, while a schema's own `default_key` is a flag.
        let mut default_key = None;
        let Json::Object(members) = json else {
            return None;
        };
        let mut rest = Vec::with_capacity(members.len());
        for (key, value) in members {
            if key == "default_key" {
                default_key = self.owned(&point(at, key), value);
            } else {
                rest.push((key.clone(), value.clone()));
            }
        }
        let schema = self.schema(at, &Json::Object(rest), Place::Format);
        match schema.ty {
            Some(Type::Array) => Some(Format::List(Box::new(schema))),
            Some(Type::Object) => {
                // Not kept: property strings keep unknown keys in any case, and no dump describes
                // the type of such a key.
                if let Some(Additional::Schema(_)) = schema.additional {
                    self.problem(
                        &point(at, "additionalProperties"),
                        "a property string whose further keys have a schema",
                    );
                }
                let mut keys = schema.properties.unwrap_or_default();
                if let Some(name) = default_key {
                    match keys.get_mut(&name) {
                        Some(key) => key.default_key = true,
                        None => self.problem(
                            &point(at, "default_key"),
                            format!("there is no key {name:?}"),
                        ),
                    }
                }
                Some(Format::Keys(keys))
            }
            _ => {
                self.problem(at, "expected the type \"array\" or \"object\"");
                None
            }
        }
    }

    /// The default, if it is a value of the schema's type.
    fn default(&mut self, at: &str, json: &Json, schema: &Schema) -> Option<Value> {
        if let Json::Array(_) | Json::Object(_) = json {
            self.expected(at, "a scalar", json);
            return None;
        }
        match (schema.ty, json) {
            (_, Json::Null) => None,
            (Some(Type::Boolean), json) => boolean(json).map(Value::Bool),
            (Some(Type::Integer), json) => number(json)
                .filter(|number| !number.is_f64())
                .map(Value::Number),
            (Some(Type::Number), json) => number(json).map(Value::Number),
            (_, Json::String(text)) => {
                let known = schema
                    .values
                    .as_ref()
                    .is_some_and(|values| values.contains(text));
                (known || !text.contains(char::is_whitespace)).then(|| Value::String(text.clone()))
            }
            (Some(Type::String), Json::Number(number)) => Some(Value::String(number.to_string())),
            (_, json) => {
                let what = schema.ty.map_or("any", Type::name);
                self.expected(at, &format!("a default of type {what}"), json);
                None
            }
        }
    }

    /// Records the usage line of a named format.
    fn usage(&mut self, at: &str, format: &str, text: &str) {
        match self.usages.get(format) {
            None => {
                let usage = Usage {
                    text: text.to_owned(),
                    endpoint: self.endpoint.clone(),
                    pointer: at.to_owned(),
                };
                self.usages.insert(format.to_owned(), usage);
            }
            Some(known) if known.text == text => {}
            Some(known) => {
                let elsewhere = known.endpoint.clone().unwrap_or_default();
                self.problem(
                    at,
                    format!("the usage of {format:?} differs from the one at {elsewhere}"),
                );
            }
        }
    }

    /// The property strings found in usage lines.
    fn formats(&mut self) -> BTreeMap<String, Schemas> {
        let mut formats = BTreeMap::new();
        for (name, usage) in std::mem::take(&mut self.usages) {
            match typetext::parse(&usage.text) {
                Ok(keys) => {
                    formats.insert(name, keys);
                }
                Err(message) => self.problems.push(Problem {
                    endpoint: usage.endpoint,
                    pointer: usage.pointer,
                    message: format!("the usage of {name:?} cannot be read: {message}"),
                }),
            }
        }
        formats
    }
}

/// A boolean as the server reads it.
fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(value) => Some(*value),
        Json::Number(number) => match number.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => Some(true),
            "0" | "off" | "no" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(json: &Json) -> Option<Number> {
    match json {
        Json::Number(number) => Some(number.clone()),
        Json::String(text) => numeric(text),
        _ => None,
    }
}

/// Numbers as text, such as `"0"`.
fn numeric(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    plain
        .then(|| text.parse().ok())
        .flatten()
        .and_then(Number::from_f64)
}
