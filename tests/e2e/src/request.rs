//! Expected requests.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proxmox_api::Value;
use proxmox_api::request::Call;
use proxmox_api::value::decode::DecodeError;
use serde::Deserialize;

use crate::requests::CALLS;

/// By path and verb: the calls are generated code, the expected requests are data.
pub static REQUESTS: LazyLock<Vec<ExpectedRequest>> = LazyLock::new(|| {
    let text = include_str!("generated/requests.json");
    let file: File =
        serde_json::from_str(text).expect("requests.json is as the generator writes it");
    assert_eq!(file.requests.len(), CALLS.len());
    let newest = leak(file.newest);
    let expected = |(endpoint, build): &(&'static str, Build)| {
        let request = file.requests[*endpoint].clone();
        let (method, _) = endpoint.split_once(' ').expect("verb and path");
        let parameters = request.parameters.into_iter().map(Parameter::from);
        ExpectedRequest {
            endpoint,
            method,
            path: leak(request.path),
            release: request.release.map_or(newest, leak),
            build: *build,
            parameters: parameters.collect::<Vec<_>>().leak(),
        }
    };
    CALLS.iter().map(expected).collect()
});

/// Makes a call with all its parameters.
pub type Build = fn() -> Call;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    newest: String,
    requests: BTreeMap<String, Request>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    path: String,
    release: Option<String>,
    parameters: Vec<ParameterNotation>,
}

/// A parameter in the file's notation.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterNotation {
    name: String,
    #[serde(default = "yes")]
    known: bool,
    of: Option<String>,
    sent: ValueNotation,
}

/// A value in the file's notation.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum ValueNotation {
    One(String),
    Parts { parts: Vec<String> },
    Many(Vec<ValueNotation>),
}

fn yes() -> bool {
    true
}

/// Leaked, because tests use it until the end of the process.
fn leak(text: String) -> &'static str {
    text.leak()
}

impl From<ParameterNotation> for Parameter {
    fn from(parameter: ParameterNotation) -> Self {
        Self {
            name: leak(parameter.name),
            known: parameter.known,
            of: parameter.of.map(leak),
            sent: parameter.sent.into(),
        }
    }
}

impl From<ValueNotation> for Sent {
    fn from(value: ValueNotation) -> Self {
        match value {
            ValueNotation::One(text) => Self::One(leak(text)),
            ValueNotation::Parts { parts } => {
                Self::Parts(parts.into_iter().map(leak).collect::<Vec<_>>().leak())
            }
            ValueNotation::Many(all) => {
                Self::Many(all.into_iter().map(Self::from).collect::<Vec<_>>().leak())
            }
        }
    }
}

/// An endpoint called with all its parameters.
#[derive(Debug)]
pub struct ExpectedRequest {
    /// Verb and path template.
    pub endpoint: &'static str,
    pub method: &'static str,
    /// The expected request.
    pub path: &'static str,
    /// The newest release that has the endpoint.
    pub release: &'static str,
    /// Makes the call through the path tree.
    pub build: Build,
    pub parameters: &'static [Parameter],
}

/// A type that a request accepts as settings.
#[derive(Debug)]
pub struct WriteBack {
    /// Verb and path template of the request.
    pub endpoint: &'static str,
    /// The type of the answer.
    pub of: &'static str,
    /// Sets the members of an answer.
    pub write: fn(Value) -> Result<Written, DecodeError>,
}

/// Calls that set the members of an answer.
#[derive(Debug)]
pub struct Written {
    /// As a whole.
    pub whole: Call,
    /// Each optional member by its setter.
    pub singly: Call,
    /// The changes between the answer and itself.
    pub unchanged: Call,
}

/// A set parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Name on the wire.
    pub name: &'static str,
    /// Whether the release of [`ExpectedRequest::release`] has it.
    pub known: bool,
    /// Its type of property string.
    pub of: Option<&'static str>,
    pub sent: Sent,
}

/// The expected value.
#[derive(Debug)]
pub enum Sent {
    One(&'static str),
    /// A property string with its parts in any order.
    Parts(&'static [&'static str]),
    Many(&'static [Sent]),
}

impl Sent {
    /// Whether these texts, one for each occurrence of the key, are the value.
    #[must_use]
    pub fn is(&self, texts: &[&str]) -> bool {
        match (self, texts) {
            (Self::One(expected), [text]) => expected == text,
            (Self::Parts(parts), [text]) => {
                let mut expected = parts.to_vec();
                let mut found: Vec<&str> = text.split(',').collect();
                expected.sort_unstable();
                found.sort_unstable();
                expected == found
            }
            (Self::Many(all), texts) => {
                all.len() == texts.len()
                    && all.iter().zip(texts).all(|(sent, text)| sent.is(&[text]))
            }
            _ => false,
        }
    }
}
