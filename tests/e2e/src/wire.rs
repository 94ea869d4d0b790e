//! What must go over the wire.

use proxmox_api::request::Call;

/// An endpoint called with everything it takes.
#[derive(Debug)]
pub struct Wire {
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

/// A parameter that was set.
#[derive(Debug)]
pub struct Parameter {
    /// On the wire.
    pub name: &'static str,
    /// The release of [`Wire::release`] has it.
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
