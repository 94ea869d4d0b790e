//! Request parameters as the server reads them: query, form and JSON bodies (wire protocol §4).

use std::collections::BTreeMap;

use serde_json::Value;

/// One parameter value before it is checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param {
    Text(String),
    List(Vec<Param>),
    /// An object in a JSON body; no parameter accepts one.
    Map,
}

impl Param {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The form for recorded requests.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map => Value::Object(serde_json::Map::new()),
        }
    }
}

pub(crate) type Params = BTreeMap<String, Param>;

/// How a release treats a key that comes more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// Since pve-http-server 5.0.2 (June 2023).
    List,
    Nul,
}

/// Decodes a query string or a form body.
///
/// Pairs end at `&` or `;`, a value ends at a second raw `=`, and a key without `=` is ignored.
pub(crate) fn form(input: &[u8], repeated: Repeated) -> Params {
    let mut params = Params::new();
    for pair in input.split(|b| matches!(b, b'&' | b';')) {
        let mut parts = pair.split(|b| *b == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let key = unescape(key);
        let value = unescape(value);
        match params.get_mut(&key) {
            None => {
                params.insert(key, Param::Text(value));
            }
            Some(Param::List(items)) => items.push(Param::Text(value)),
            Some(old) => {
                if let (Repeated::Nul, Param::Text(text)) = (repeated, &mut *old) {
                    text.push('\0');
                    text.push_str(&value);
                } else {
                    let first = std::mem::replace(old, Param::Map);
                    *old = Param::List(vec![first, Param::Text(value)]);
                }
            }
        }
    }
    params
}

fn unescape(bytes: &[u8]) -> String {
    let spaced: Vec<u8> = bytes
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    percent_encoding::percent_decode(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}

/// Decodes a JSON body. The error is the text of the 500 answer.
pub(crate) fn json(body: &[u8]) -> Result<Params, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        if body.is_empty() {
            "malformed JSON string, neither tag, array, object, number, string or atom, at character offset 0 \
             (before \"(end of string)\")"
                .to_owned()
        } else if error.is_eof() {
            let what = if error.to_string().contains("list") {
                ", or ] expected while parsing array"
            } else {
                ", or } expected while parsing object/hash"
            };
            let at = body.len();
            format!("{what}, at character offset {at} (before \"(end of string)\")")
        } else {
            format!("malformed JSON string: {error}")
        }
    })?;
    // Any other value is treated as an object; only null passes.
    let no_map = |text: &str| {
        Err(format!(
            "Can't use string (\"{text}\") as a HASH ref while \"strict refs\" in use"
        ))
    };
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Ok(Params::new()),
        Value::String(text) => return no_map(&text),
        Value::Number(number) => return no_map(&perl_number(&number)),
        Value::Array(_) | Value::Bool(_) => return Err("Not a HASH reference".to_owned()),
    };
    Ok(map
        .into_iter()
        .filter_map(|(key, value)| json_param(value).map(|value| (key, value)))
        .collect())
}

fn json_param(value: Value) -> Option<Param> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => Param::Text(if flag { "1" } else { "0" }.to_owned()),
        Value::Number(number) => Param::Text(perl_number(&number)),
        Value::String(text) => Param::Text(text),
        Value::Array(items) => Param::List(items.into_iter().filter_map(json_param).collect()),
        Value::Object(_) => Param::Map,
    })
}

/// A number as Perl prints it: `2.0` is `2`, `1e1` is `10`.
fn perl_number(number: &serde_json::Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(params: &Params, key: &str) -> Option<String> {
        params.get(key)?.text().map(str::to_owned)
    }

    #[test]
    fn form_quirks() {
        let p = form(
            b"vmid=200;name=abc&net0=virtio,bridge=vmbr0&d=a+b%2Bc&e=&bare&bad=%FFx",
            Repeated::List,
        );
        assert_eq!(text(&p, "vmid").as_deref(), Some("200"));
        assert_eq!(text(&p, "name").as_deref(), Some("abc"));
        assert_eq!(text(&p, "net0").as_deref(), Some("virtio,bridge"));
        assert_eq!(text(&p, "d").as_deref(), Some("a b+c"));
        assert_eq!(text(&p, "e").as_deref(), Some(""));
        assert_eq!(text(&p, "bad").as_deref(), Some("\u{FFFD}x"));
        assert!(!p.contains_key("bare"));
    }

    #[test]
    fn repeated_keys_by_release() {
        let list = form(b"a=1&a=2&a=3", Repeated::List);
        let nul = form(b"a=1&a=2&a=3", Repeated::Nul);
        assert_eq!(
            list["a"],
            Param::List(["1", "2", "3"].map(|t| Param::Text(t.into())).to_vec())
        );
        assert_eq!(nul["a"], Param::Text("1\x002\x003".into()));
    }

    #[test]
    fn json_values_become_perl_scalars() {
        let p = json(br#"{"a":2.0,"b":1e1,"c":2.5,"d":true,"e":null,"f":["x",1],"g":{"h":1}}"#)
            .expect("valid");
        assert_eq!(text(&p, "a").as_deref(), Some("2"));
        assert_eq!(text(&p, "b").as_deref(), Some("10"));
        assert_eq!(text(&p, "c").as_deref(), Some("2.5"));
        assert_eq!(text(&p, "d").as_deref(), Some("1"));
        assert!(!p.contains_key("e"));
        assert_eq!(p["g"], Param::Map);
        for (body, text) in [
            ("[1]", "Not a HASH reference"),
            ("0", "Can't use string (\"0\") as a HASH ref"),
            ("\"x\"", "Can't use string (\"x\") as a HASH ref"),
        ] {
            assert!(
                json(body.as_bytes()).is_err_and(|e| e.starts_with(text)),
                "{body}"
            );
        }
        assert_eq!(json(b"null").map(|p| p.len()), Ok(0));
        assert!(json(b"{").is_err());
    }
}
