//! Calls as texts with placeholders.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proxmox_api::value::endpoint::Method;
use serde::{Deserialize, Serialize};

/// Values by the name of their placeholder: `node` for `{node}`.
pub type Words = BTreeMap<String, String>;

/// Characters that need no encoding in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One call: `VERB /path?name=value&name=value`. Values are percent-encoded; `{word}` in path and
/// values is filled in for each server, but not `{{word}}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Call {
    pub method: Method,
    /// Below `/api2/json`, encoded, with placeholders.
    pub path: String,
    pub params: Vec<(String, String)>,
}

impl Call {
    /// The call with one server's values.
    ///
    /// # Errors A placeholder without a value on the server.
    pub fn fill(&self, words: &Words) -> Result<Self, String> {
        let params = self
            .params
            .iter()
            .map(|(name, value)| Ok((fill(name, words, false)?, fill(value, words, false)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            method: self.method,
            path: fill(&self.path, words, true)?,
            params,
        })
    }
}

/// Replaces each `{word}`; double braces and unknown ones stay.
fn fill(text: &str, words: &Words, in_path: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        if let Some((inside, after)) = after
            .strip_prefix('{')
            .and_then(|text| text.split_once("}}"))
        {
            out.push_str("{{");
            out.push_str(inside);
            out.push_str("}}");
            rest = after;
            continue;
        }
        let word = after.split_once('}').filter(|(word, _)| is_word(word));
        let Some((word, after)) = word else {
            out.push('{');
            rest = after;
            continue;
        };
        let value = words.get(word).ok_or_else(|| word.to_owned())?;
        match in_path {
            true => out.extend(utf8_percent_encode(value, SEGMENT)),
            false => out.push_str(value),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?}: {what}");
        let (verb, target) = text
            .split_once(' ')
            .ok_or_else(|| wrong("expected a verb, a space and a path"))?;
        let method = match verb {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            _ => return Err(wrong("the verb must be GET, POST, PUT or DELETE")),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with('/') {
            return Err(wrong("the path must start with a slash"));
        }
        let mut params = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong("a parameter without `=`"))?;
            let decode = |text: &str| {
                percent_decode_str(text)
                    .decode_utf8()
                    .map(|text| text.into_owned())
                    .map_err(|_| wrong("a value is not UTF-8"))
            };
            params.push((decode(name)?, decode(value)?));
        }
        Ok(Self {
            method,
            path: path.to_owned(),
            params,
        })
    }
}

impl TryFrom<String> for Call {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Call> for String {
    fn from(call: Call) -> Self {
        call.to_string()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters that need no encoding in a value.
        const VALUE: &AsciiSet = &percent_encoding::CONTROLS
            .add(b'%')
            .add(b'&')
            .add(b'#')
            .add(b' ')
            .add(b'+');
        write!(f, "{} {}", self.method, self.path)?;
        for (number, (name, value)) in self.params.iter().enumerate() {
            let sign = if number == 0 { '?' } else { '&' };
            let name = utf8_percent_encode(name, VALUE);
            let value = utf8_percent_encode(value, VALUE);
            write!(f, "{sign}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        [
            ("node", "pve1"),
            ("volume", "local:iso/a b.iso"),
            ("p", "diff"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn a_call_survives_its_text_form() {
        let text = "PUT /nodes/{node}/qemu/100/config?description=a%20b%26c%25d&tags=x;y&net0=virtio,bridge=vmbr0";
        let call: Call = text.parse().expect("a call");
        assert_eq!(call.params[0].1, "a b&c%d");
        assert_eq!(call.params[2].1, "virtio,bridge=vmbr0");
        assert_eq!(call.to_string().parse::<Call>(), Ok(call));
    }

    #[test]
    fn values_are_encoded_in_paths_and_plain_in_parameters() {
        let call: Call =
            "GET /nodes/{node}/storage/local/content/{volume}?volume={volume}&x={\"a\":1}&y={{node}}-{node}"
                .parse()
                .expect("a call");
        let filled = call.fill(&words()).expect("all words are there");
        assert_eq!(
            filled.path,
            "/nodes/pve1/storage/local/content/local%3Aiso%2Fa%20b.iso"
        );
        assert_eq!(filled.params[0].1, "local:iso/a b.iso");
        assert_eq!(filled.params[1].1, "{\"a\":1}");
        assert_eq!(filled.params[2].1, "{{node}}-pve1");
    }

    #[test]
    fn errors_name_a_placeholder_without_a_value() {
        let call: Call = "GET /nodes/{other}/status".parse().expect("a call");
        assert_eq!(call.fill(&words()), Err("other".to_owned()));
    }

    #[test]
    fn invalid_calls_are_refused_with_their_place() {
        for text in ["GET", "FETCH /x", "GET x", "GET /x?a"] {
            let error = text.parse::<Call>().expect_err("no call");
            assert!(error.contains(text), "{error}");
        }
    }
}
