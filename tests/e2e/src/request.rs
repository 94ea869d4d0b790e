//! What must go over the wire.

use proxmox_api::Value;
use proxmox_api::request::Call;
use proxmox_api::value::decode::DecodeError;

/// An endpoint called with everything it takes.
#[derive(Debug)]
pub struct ExpectedRequest {
    /// Verb and path template.
    pub endpoint: &'static str,
    pub method: &'static str,
    /// As it must be sent.
    pub path: &'static str,
    /// The newest release that has the endpoint.
    pub release: &'static str,
    /// Makes the call through the path tree.
    pub build: fn() -> Call,
    pub parameters: &'static [Parameter],
}

/// An answer that a request takes as a whole.
#[derive(Debug)]
pub struct WriteBack {
    /// Verb and path template of the request.
    pub endpoint: &'static str,
    /// The type of the answer.
    pub of: &'static str,
    /// Sets what an answer holds.
    pub write: fn(Value) -> Result<Written, DecodeError>,
}

/// Calls that set one answer.
#[derive(Debug)]
pub struct Written {
    /// As a whole.
    pub whole: Call,
    /// Each member that the call can do without, by its setter.
    pub singly: Call,
    /// The changes between the answer and itself.
    pub unchanged: Call,
}

/// A parameter that was set.
#[derive(Debug)]
pub struct Parameter {
    /// On the wire.
    pub name: &'static str,
    /// The release of [`ExpectedRequest::release`] has it.
    pub known: bool,
    /// The type of property string it takes.
    pub of: Option<&'static str>,
    pub sent: Sent,
}

/// The value that must arrive.
#[derive(Debug)]
pub enum Sent {
    One(&'static str),
    /// A property string, its parts in any order.
    Parts(&'static [&'static str]),
    Many(&'static [Sent]),
}

impl Sent {
    /// Whether these texts, one for each time the key was sent, are the value.
    #[must_use]
    pub fn is(&self, texts: &[&str]) -> bool {
        match (self, texts) {
            (Self::One(wanted), [text]) => wanted == text,
            (Self::Parts(parts), [text]) => {
                let mut wanted = parts.to_vec();
                let mut found: Vec<&str> = text.split(',').collect();
                wanted.sort_unstable();
                found.sort_unstable();
                wanted == found
            }
            (Self::Many(all), texts) => {
                all.len() == texts.len()
                    && all.iter().zip(texts).all(|(sent, text)| sent.is(&[text]))
            }
            _ => false,
        }
    }
}
