//! The state that all clones of a client share.

#[cfg(feature = "guests")]
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::auth::{Auth, Clock};
use super::call::Call;
#[cfg(feature = "guests")]
use super::extensions::Extensions;
use super::hosts::{Base, HostInfo, Hosts};
use super::limit::{LimitWaits, Limits};
use super::retry::RetryBudget;
use super::settings::ClientSettings;
use crate::bounds::Bounds;
use crate::error::CallId;
use crate::transport::{Transport, WireRequest};
use crate::value::Secret;
use crate::value::encode::Params;
use crate::value::endpoint::{Method, Release};
use crate::value::secret::Scrubber;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A connection to Proxmox VE: a server's address and credentials.
///
/// Cloning is cheap and shares connections and login. Nothing is sent before the first call; with a
/// password, that call logs in.
///
/// ```no_run
/// # async fn example() -> Result<(), proxmox_api::Error> {
/// use proxmox_api::Client;
///
/// let pve = Client::builder("https://pve1.example.org:8006")
///     .api_token("root@pam!ci", std::env::var("TOKEN_SECRET").unwrap_or_default())
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// # Automatic behaviour
///
/// | behaviour | default | setting |
/// |---|---|---|
/// | retries reads, and requests that were never sent | 3 attempts within 30 seconds | [`ClientBuilder::retry`](crate::ClientBuilder::retry) |
/// | limits concurrent requests | 64, and 16 for one node | [`ClientBuilder::concurrency`](crate::ClientBuilder::concurrency) |
/// | limits the rate of requests | 1,000 reads a minute after a burst of 1,000, 10 writes a second after a burst of 100 | [`ClientBuilder::rate_limit`](crate::ClientBuilder::rate_limit) |
/// | ends a call | after 60 seconds, 10 for a connection | [`ClientBuilder::timeout`](crate::ClientBuilder::timeout), [`ClientBuilder::attempt_timeout`](crate::ClientBuilder::attempt_timeout) |
/// | uses the proxy of the environment | except for servers on this machine | [`ClientBuilder::proxy`](crate::ClientBuilder::proxy) |
/// | uses another host if one is unreachable | one host | [`ClientBuilder::host`](crate::ClientBuilder::host) |
/// | logs in, renews the ticket after an hour, logs in again when it is refused | with a password | [`ClientBuilder::password`](crate::ClientBuilder::password) |
/// | refuses answers larger than any usual one | see there | [`ClientBuilder::bounds`](crate::ClientBuilder::bounds) |
/// | refuses to send a token for an endpoint that requires a ticket | yes | [`ClientBuilder::check_token_access`](crate::ClientBuilder::check_token_access) |
/// | refuses calls that the server's release lacks | no | [`ClientBuilder::check_availability`](crate::ClientBuilder::check_availability) |
///
/// A request that changes something and may have arrived is never sent twice, unless it is marked
/// as safe to repeat.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(crate) struct Inner {
    pub(super) base: Base,
    pub(super) hosts: Hosts,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) retries: RetryBudget,
    pub(super) limits: Limits,
    pub(super) auth: Auth,
    pub(super) clock: Clock,
    pub(super) user_agent: String,
    pub(super) node: Option<String>,
    /// Whether every call is checked against the server's release before it is sent.
    pub(super) checks: bool,
    /// Whether values that no known release accepts are refused before sending.
    pub(super) checks_parameters: bool,
    pub(super) checks_tokens: bool,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) bounds: Bounds,
    pub(super) settings: ClientSettings,
    /// The time limit of a whole call; `None` by default for a transport of the caller's own.
    pub(super) timeout: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) release: OnceCell<Release>,
    /// The number of requests so far.
    pub(super) numbered: AtomicU64,
    /// The state of higher layers.
    #[cfg(feature = "guests")]
    pub(super) kept: Extensions,
    pub(super) task_poll: Option<Duration>,
    #[cfg(feature = "guests")]
    pub(super) guest_locations: Duration,
}

impl Client {
    /// The server's address, such as `https://pve1:8006`; the first one of several.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.base.to_string()
    }

    /// The user as the server sees it: `user@realm`, or `user@realm!name` for a token.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0.auth.user()
    }

    /// The node given to [`ClientBuilder::default_node`](crate::ClientBuilder::default_node) or as
    /// `PROXMOX_NODE`, for programs that work on one node. The client itself does not use it.
    #[must_use]
    pub fn default_node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The addresses the client sends to, in the order of preference, with their health.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostInfo> {
        self.0.hosts.list()
    }

    /// The number and duration of this client's waits (all its clones included) for its own limits:
    /// concurrency, rate, and pauses that the server asked for. With the feature `tracing`, each
    /// wait is also an event in the span of its call.
    #[must_use]
    pub fn limit_waits(&self) -> LimitWaits {
        self.0.limits.waits()
    }

    pub(crate) fn task_poll(&self) -> Option<Duration> {
        self.0.task_poll
    }

    #[cfg(feature = "guests")]
    pub(crate) fn guest_locations(&self) -> Duration {
        self.0.guest_locations
    }

    /// The identification of a call in errors, with the next number.
    pub(crate) fn call_id(&self, call: &Call) -> CallId {
        self.number(call.id())
    }

    #[cfg(feature = "guests")]
    pub(crate) fn timeout(&self) -> Option<std::time::Duration> {
        self.0.timeout
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    pub(super) fn number(&self, name: CallId) -> CallId {
        name.numbered(self.0.numbered.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The value of a type that all clones of this client share, made at the first use.
    #[cfg(feature = "guests")]
    pub(crate) fn keep<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        self.0.kept.get()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {:?})", self.0.base, self.0.auth)
    }
}

impl Inner {
    /// Whether the client has a token and the endpoint accepts tickets only.
    pub(super) fn refuses_token(&self, call: &Call) -> bool {
        self.checks_tokens
            && self.auth.is_token()
            && call.endpoint.is_some_and(|endpoint| !endpoint.allow_token)
    }

    /// A request without a host.
    pub(super) fn compose(&self, method: Method, path: &str, params: &Params) -> WireRequest {
        let mut path = path.to_owned();
        let mut body = String::new();
        let mut encoding = FORM;
        if method.has_body() && params.needs_json() {
            body = params.to_json();
            encoding = JSON;
        } else if method.has_body() {
            body = params.encode();
        } else if !params.is_empty() {
            path = format!("{path}?{}", params.encode());
        }
        let mut request = WireRequest::new(method, String::new(), path);
        request
            .headers
            .push(("User-Agent".to_owned(), self.user_agent.clone()));
        if !body.is_empty() {
            request
                .headers
                .push(("Content-Type".to_owned(), encoding.to_owned()));
        }
        let own = self.headers.iter();
        request
            .headers
            .extend(own.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        request.body = Bytes::from(body);
        request
    }

    /// A filter for texts that may quote secrets: those of every request, and `more`.
    pub(super) fn scrubber<'a>(&'a self, more: impl Iterator<Item = &'a str>) -> Scrubber {
        let headers = self.headers.iter().map(|(_, value)| value.expose());
        Scrubber::new(more.chain(self.auth.secrets()).chain(headers))
    }
}
