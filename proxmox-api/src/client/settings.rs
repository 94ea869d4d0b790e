//! The settings of a client, for reading.

use std::time::Duration;

use super::limit::RateLimit;
use super::retry::RetryPolicy;
use super::state::Client;
use crate::tls::Fingerprint;

/// The settings of a client, without credentials, further headers and other secrets; see
/// [`Client::settings`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The addresses, in order of preference.
    pub urls: Vec<String>,
    /// The fingerprints of trusted certificates.
    pub fingerprints: Vec<Fingerprint>,
    /// Whether any certificate is trusted.
    pub accepts_invalid_certs: bool,
    /// The time limit of a whole call.
    pub timeout: Option<Duration>,
    /// The time limit of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// The time limit for a connection.
    pub connect_timeout: Duration,
    /// The policy for retries.
    pub retry: RetryPolicy,
    /// The limit on the rate of requests.
    pub rate_limit: RateLimit,
    /// The maximum of concurrent requests.
    pub at_once: usize,
    /// The maximum of concurrent requests for one node.
    pub at_once_per_node: usize,
    /// The name of the client in the server's access log.
    pub user_agent: String,
    /// Whether values that no known release accepts are refused before sending.
    pub checks_parameters: bool,
    /// Whether calls that the server's release lacks are refused before sending.
    pub checks_availability: bool,
    /// Whether calls that need a ticket are refused before sending if the client has a token.
    pub checks_token_access: bool,
}

impl Client {
    /// The settings of the client, so that programs that show them or pass them on need not keep
    /// them. [`Client::user`] and [`Client::default_node`] return the rest.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        &self.0.settings
    }
}
