//! What a client was built with, to be read.

use std::time::Duration;

use super::limit::RateLimit;
use super::retry::RetryPolicy;
use super::state::Client;
use crate::tls::Fingerprint;

/// What a client was built with, apart from credentials, further headers and other secrets; see [`Client::settings`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The addresses, the first one first.
    pub urls: Vec<String>,
    /// Certificates that are trusted by their fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// Whether any certificate is trusted.
    pub accepts_invalid_certs: bool,
    /// The time for a whole call.
    pub timeout: Option<Duration>,
    /// The time for one attempt of it.
    pub attempt_timeout: Option<Duration>,
    /// The time for a connection.
    pub connect_timeout: Duration,
    /// What is sent again.
    pub retry: RetryPolicy,
    /// How many requests go out in a row.
    pub rate_limit: RateLimit,
    /// How many are under way at once.
    pub at_once: usize,
    /// How many of them for one node.
    pub at_once_per_node: usize,
    /// What the client calls itself.
    pub user_agent: String,
    /// Whether values that no known release takes are kept back.
    pub checks_parameters: bool,
    /// Whether calls that the server's release lacks are kept back.
    pub checks_availability: bool,
    /// Whether calls that want a ticket are kept back from a token.
    pub checks_token_access: bool,
}

impl Client {
    /// What the client was built with. Programs that hand their settings on, or show them, need not keep them beside it;
    /// [`Client::user`] and [`Client::default_node`] tell the rest.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        &self.0.settings
    }
}
