//! The client: one server, one identity, shared by cloning.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::bounds::Bounds;
use crate::client::auth::{Auth, Clock, Login, SavedSession, TfaChallenge};
use crate::client::hosts::{Base, HostInfo, Hosts};
use crate::client::limit::{LimitWaits, Limits};
use crate::client::retry::Retries;
use crate::error::api::ApiError;
use crate::error::{Error, Name};
use crate::request::{Call, Scope, exchange};
use crate::task::Task;
use crate::transport::{Transport, WireRequest, WireResponse};
use crate::value::Secret;
use crate::value::decode::decode_data;
use crate::value::encode::Params;
use crate::value::endpoint::{Method, Release};
use crate::value::secret::Scrubber;
use crate::value::text::latin1_or_utf8;
use crate::value::upid::Upid;

pub mod auth;
pub(crate) mod availability;
mod builder;
mod environment;
pub mod hosts;
#[cfg(feature = "guests")]
mod kept;
pub mod limit;
pub mod retry;
mod rules;
pub(crate) mod send;
pub(crate) mod trace;

pub use builder::ClientBuilder;
use environment::from_variables;
use send::BoxFuture;

const FORM: &str = "application/x-www-form-urlencoded";
const TICKET: &str = "/access/ticket";

/// A connection to Proxmox VE: a server and who to be there.
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
/// # What it does by itself
///
/// | what | unless set | by |
/// |---|---|---|
/// | sends again what only reads, and what was never sent | 3 attempts within 30 seconds | [`ClientBuilder::retry`] |
/// | keeps requests waiting that are too many at once | 64, and 16 for one node | [`ClientBuilder::concurrency`] |
/// | keeps requests waiting that are too many in a row | 1,000 reads a minute after a burst of 1,000, 10 writes a second after a burst of 100 | [`ClientBuilder::rate_limit`] |
/// | gives up on a call | after 60 seconds, 10 for a connection | [`ClientBuilder::timeout`], [`ClientBuilder::attempt_timeout`] |
/// | goes through the proxy that the environment names | but for servers on this machine | [`ClientBuilder::proxy`] |
/// | goes on to another host when one is away | one host | [`ClientBuilder::host`] |
/// | logs in, renews the ticket after an hour, logs in again when it is refused | with a password | [`ClientBuilder::password`] |
/// | refuses to take in more than any honest server sends | see there | [`ClientBuilder::bounds`] |
/// | refuses to send a token where a ticket is needed | yes | [`ClientBuilder::check_token_access`] |
/// | refuses to send what the server's release lacks | no | [`ClientBuilder::check_availability`] |
///
/// Nothing that may have arrived and changes something is ever sent twice, unless the request says that this does no
/// harm.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    base: Base,
    hosts: Hosts,
    transport: Arc<dyn Transport>,
    retries: Retries,
    limits: Limits,
    auth: Auth,
    clock: Clock,
    user_agent: String,
    node: Option<String>,
    /// Whether every call is held against the server's release before it is sent.
    checks: bool,
    /// Whether values that no known release takes are kept back.
    checks_parameters: bool,
    checks_tokens: bool,
    headers: Vec<(String, Secret)>,
    pub(crate) bounds: Bounds,
    /// The time for a whole call; none unless set with a transport of the caller's own.
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    release: OnceCell<Release>,
    /// How many requests have a number.
    numbered: AtomicU64,
    /// What layers above keep with the client.
    #[cfg(feature = "guests")]
    kept: kept::Kept,
    task_poll: Option<std::time::Duration>,
    #[cfg(feature = "guests")]
    guest_places: std::time::Duration,
}

/// The future of an untyped call.
type Executing = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// The server's answer to an accepted request. Its `Debug` form shows no body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The status, 200 to 299.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Starts to describe a client. `url` is the server's address: `pve1`, `pve1:8006`,
    /// `https://pve1:8006`, or an address with a path if a proxy serves Proxmox VE below one.
    ///
    /// A bare name or IP address means https and port 8006; a URL means what it says.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// A client from environment variables.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PROXMOX_HOST` | the server, as for [`Client::builder`]; required. Further nodes after a comma, as for [`ClientBuilder::host`] |
    /// | `PROXMOX_PORT` | its port, if `PROXMOX_HOST` names none; 8006 |
    /// | `PROXMOX_API_TOKEN` | an API token with its secret, as for [`ClientBuilder::api_token_text`] |
    /// | `PROXMOX_USERNAME` | `user@realm` |
    /// | `PROXMOX_TOKEN_ID` | an API token: its name alone, or `user@realm!name` |
    /// | `PROXMOX_TOKEN_SECRET` | the token's secret |
    /// | `PROXMOX_PASSWORD` | the password, where no token is given; white space is part of it |
    /// | `PROXMOX_NODE` | what [`Client::default_node`] returns |
    /// | `PROXMOX_FINGERPRINT` | SHA-256 fingerprint of the server's certificate |
    /// | `PROXMOX_CA_FILE` | PEM file with a further certificate authority |
    /// | `PROXMOX_INSECURE` | `1` accepts any certificate |
    ///
    /// An empty variable counts as absent.
    ///
    /// # Errors
    /// [`Error::Config`] if a variable is missing, does not parse or contradicts another.
    pub fn from_env() -> Result<Self, Error> {
        Self::builder_from_env()?.build()
    }

    /// Like [`Client::from_env`], for changing more before building.
    ///
    /// # Errors
    /// [`Error::Config`] if a variable is missing, does not parse or contradicts another.
    pub fn builder_from_env() -> Result<ClientBuilder, Error> {
        from_variables(&|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::config(format!("{name} is not UTF-8")))
            }
        })
    }

    /// The server's address, such as `https://pve1:8006`; the first one of several.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.base.to_string()
    }

    /// Who the client is to the server: `user@realm`, or `user@realm!name` for a token.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0.auth.user()
    }

    /// The node given to [`ClientBuilder::default_node`] or as `PROXMOX_NODE`, for programs that work on
    /// one node. The client itself makes no use of it.
    #[must_use]
    pub fn default_node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The addresses the client sends to, in the order of preference, and how they fare.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostInfo> {
        self.0.hosts.list()
    }

    /// How often requests of this client, all its clones included, waited for its own limits: concurrency, rate, and
    /// pauses that the server asked for. With the feature `tracing`, each wait is an event in the span of its call too.
    #[must_use]
    pub fn limit_waits(&self) -> LimitWaits {
        self.0.limits.waits()
    }

    /// Asks the cluster for its nodes and takes those with an address in, after the addresses that are known
    /// already: from then on a node's calls go to that node, and the others stand in for one that is away.
    /// Gives what [`Client::hosts`] gives then. Asked again, it also forgets the nodes that left the cluster since, or
    /// have another address; never an address that the client was built with.
    ///
    /// They are expected on the port of the first address, or on 8006 behind a proxy, by the IP address
    /// they have in the cluster network, and have to be trusted like the first: a pinned fingerprint fits one
    /// node only.
    ///
    /// # Errors
    /// [`Error::Config`] if a node could only be reached without encryption, where the client may not do that; no node is taken
    /// in then. Those of `GET /cluster/status`, which takes the privilege `Sys.Audit` on `/`.
    pub async fn discover_hosts(&self) -> Result<Vec<HostInfo>, Error> {
        let call = Call::new(Method::Get, "/cluster/status");
        let (_, name, reply) = exchange(Some(self.clone()), call).await?;
        let data: Value = crate::value::decode::decode_data(&reply.body)
            .map_err(|error| Error::decode(name, error))?;
        let text = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
        let address =
            |entry: &Value| text(entry, "ip").filter(|ip| ip.parse::<std::net::IpAddr>().is_ok());
        let nodes: Vec<_> = (data.as_array().into_iter().flatten())
            .filter(|entry| text(entry, "type").as_deref() == Some("node"))
            .filter_map(|entry| Some((text(entry, "name")?, address(entry))))
            .collect();
        self.0.hosts.learn(&nodes)?;
        Ok(self.hosts())
    }

    /// Logs in now rather than with the first call; checks a password. Does nothing for a client with a
    /// token or a given ticket.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server refuses the login or asks for a second factor; see
    /// [`Client::answer_tfa`].
    pub async fn login(&self) -> Result<(), Error> {
        self.0.auth.log_in_now(&self.0).await
    }

    /// Completes a login that ended with [`AuthErrorKind::SecondFactor`](crate::client::auth::AuthErrorKind).
    /// `answer` is the kind and the code, such as `totp:123456` or `recovery:…` (wire protocol §7).
    ///
    /// # Errors
    /// [`Error::Auth`] if the server does not accept the answer.
    pub async fn answer_tfa(
        &self,
        challenge: &TfaChallenge,
        answer: impl Into<Secret>,
    ) -> Result<(), Error> {
        self.0.auth.answer(&self.0, challenge, &answer.into()).await
    }

    /// The session to go on with in another process, once somebody logged in; see
    /// [`ClientBuilder::session`]. `None` for a client with an API token.
    pub async fn save_session(&self) -> Option<SavedSession> {
        self.0.auth.save()
    }

    /// Where the user's browser has to go to log in; see [`ClientBuilder::openid`].
    ///
    /// # Errors
    /// As for every call; [`Error::Config`] for a client that logs in otherwise.
    pub async fn openid_url(&self) -> Result<String, Error> {
        self.0.auth.openid_url(&self.0).await
    }

    /// Completes a login by OpenID. `url` is the address the browser was sent to at the end: the redirect URL with
    /// `state` and `code` in its query.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server does not accept it; [`Error::Config`] if either is missing, with what
    /// the provider says about it.
    pub async fn openid_login(&self, url: &str) -> Result<(), Error> {
        let (state, code) = crate::client::auth::read_redirect(url)?;
        self.0.auth.openid_login(&self.0, &state, &code).await
    }

    /// A handle for a task that was started elsewhere.
    pub fn task(&self, upid: Upid) -> Task {
        Task::new(self.clone(), upid)
    }

    /// Gets a file that the server publishes outside its API, such as
    /// `/pve-docs/api-viewer/apidoc.js`. Goes without authentication.
    ///
    /// # Errors
    /// As for every call; [`Error::Api`] for any status but 2xx; [`Error::Request`] for a path that does not start with a
    /// slash or leaves its place.
    pub async fn fetch(&self, path: &str) -> Result<Reply, Error> {
        // A query may hold secrets.
        let shown = path.split('?').next().unwrap_or_default();
        let name = self.number(Name::new(Method::Get, shown));
        let call = Call {
            scope: Scope::Outside,
            ..Call::new(Method::Get, path)
        };
        self.reply(&name, &call).await
    }

    pub(crate) fn task_poll(&self) -> Option<std::time::Duration> {
        self.0.task_poll
    }

    #[cfg(feature = "guests")]
    pub(crate) fn guest_places(&self) -> std::time::Duration {
        self.0.guest_places
    }

    /// What a call is called in errors, from now on.
    pub(crate) fn name(&self, call: &Call) -> Name {
        self.number(Name::of(call))
    }

    pub(crate) fn execute(&self, call: Call) -> Executing {
        self.execute_as(self.name(&call), call)
    }

    pub(crate) fn execute_as(&self, name: Name, call: Call) -> Executing {
        let client = self.clone();
        Box::pin(async move { client.reply(&name, &call).await })
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    fn number(&self, name: Name) -> Name {
        name.numbered(self.0.numbered.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) async fn release(&self) -> Result<Release, Error> {
        let ask = async || {
            let call = availability::version_call();
            let name = self.name(&call);
            let reply = self.reply(&name, &call).await?;
            availability::release_of(&reply).map_err(|error| Error::decode(name, error))
        };
        self.0.release.get_or_try_init(ask).await.copied()
    }

    pub(crate) async fn check_call(&self, name: &Name, call: &Call) -> Result<(), Error> {
        if !availability::is_in_doubt(call) {
            return Ok(());
        }
        match availability::missing(call, self.release().await?) {
            Some(kind) => Err(Error::request(name, kind)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {:?})", self.0.base, self.0.auth)
    }
}

impl Inner {
    /// Whether the server would only say that it wants a ticket for this.
    fn refuses_token(&self, call: &Call) -> bool {
        self.checks_tokens
            && self.auth.is_token()
            && call.endpoint.is_some_and(|endpoint| !endpoint.allow_token)
    }

    /// A request that is for no host yet.
    fn compose(&self, method: Method, path: &str, params: &Params) -> WireRequest {
        let mut path = path.to_owned();
        let mut body = String::new();
        if method.has_body() {
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
                .push(("Content-Type".to_owned(), FORM.to_owned()));
        }
        let own = self.headers.iter();
        request
            .headers
            .extend(own.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        request.body = Bytes::from(body);
        request
    }

    /// For texts that may repeat what was sent: what goes with every request, and `more`.
    fn scrubber<'a>(&'a self, more: impl Iterator<Item = &'a str>) -> Scrubber {
        let headers = self.headers.iter().map(|(_, value)| value.expose());
        Scrubber::new(more.chain(self.auth.secrets()).chain(headers))
    }
}

impl Login for Inner {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn post(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Value, Error>> {
        Box::pin(async move {
            let client = Client(self);
            let name = client.name(&call);
            let reply = client.reply(&name, &call).await?;
            decode_data(&reply.body).map_err(|error| Error::decode(name, error))
        })
    }
}

/// An answer's status decides whether it is one.
fn accept(
    name: &Name,
    response: WireResponse,
    secrets: impl FnOnce() -> Scrubber,
) -> Result<Reply, Error> {
    if !(200..300).contains(&response.status) {
        return Err(ApiError::new(name, &response, &secrets()).into());
    }
    let WireResponse {
        status,
        reason,
        headers,
        body,
    } = response;
    Ok(Reply {
        status,
        reason: latin1_or_utf8(&reason),
        headers,
        body,
    })
}

#[cfg(test)]
mod tests;
