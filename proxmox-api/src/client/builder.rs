//! Settings of a client.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::settings::ClientSettings;
use super::state::{Client, Inner};
use crate::bounds::Bounds;
use crate::client::auth::{
    Auth, Clock, Credentials, Handler, OpenId, SavedSession, TfaAnswer, TfaChallenge,
};
use crate::client::hosts::{Base, Host, Hosts};
use crate::client::limit::{Limits, RateLimit, Settings};
use crate::client::retry::{RetryBudget, RetryPolicy};
use crate::error::Error;
use crate::tls::{Fingerprint, Identity, Trust, TrustStore};
use crate::transport::{HttpSettings, HttpTransport, Proxies, Proxy, Transport};
use crate::value::Secret;
use crate::value::address::printable;

const TIMEOUT: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 64;
const AT_ONCE_PER_NODE: usize = 16;

impl Client {
    /// Starts the settings of a client. `url` is the server's address: `pve1`, `pve1:8006`,
    /// `https://pve1:8006`, or an address with a path if a proxy serves Proxmox VE below one.
    ///
    /// A bare name or IP address means https and port 8006; a URL is used as it is.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }
}

/// Header fields that the client or the transport sets.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "csrfpreventiontoken",
    "expect",
    "host",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

fn check_header(name: &str, value: &str) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::config(format!("the header {name:?} {what}")));
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return wrong("is set by the client itself");
    }
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return wrong("has an invalid name");
    }
    if value.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return wrong("has a value with a character that is not printable ASCII");
    }
    Ok(())
}

/// The settings of a client: addresses, credentials, TLS, limits; made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "does nothing unless built"]
pub struct ClientBuilder {
    url: String,
    /// Further addresses, each with the name of its node.
    more: Vec<(String, Option<String>)>,
    pub(super) port: Option<u16>,
    credentials: Credentials,
    session: Option<SavedSession>,
    handler: Option<Handler>,
    headers: Vec<(String, Secret)>,
    trust: Trust,
    authorities: Vec<Authority>,
    identity: Option<(Vec<u8>, Secret)>,
    proxy: ProxyMode,
    allow_http: bool,
    /// `None` for the default.
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    connect_timeout: Duration,
    bounds: Bounds,
    user_agent: String,
    transport: Option<Arc<dyn Transport>>,
    pub(super) node: Option<String>,
    checks: bool,
    checks_parameters: bool,
    checks_tokens: bool,
    retry: RetryPolicy,
    at_once: usize,
    at_once_per_node: usize,
    /// `None` for the default.
    rate: Option<RateLimit>,
    clock: Clock,
    task_poll: Option<Duration>,
    #[cfg(feature = "guests")]
    guest_locations: Duration,
}

#[derive(Clone)]
enum ProxyMode {
    Environment,
    Direct,
    Proxy(Secret),
}

#[derive(Clone)]
enum Authority {
    Pem(Vec<u8>),
    File(PathBuf),
}

impl ClientBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            more: Vec::new(),
            port: None,
            credentials: Credentials::None,
            session: None,
            handler: None,
            headers: Vec::new(),
            trust: Trust::default(),
            authorities: Vec::new(),
            identity: None,
            proxy: ProxyMode::Environment,
            allow_http: false,
            timeout: None,
            attempt_timeout: None,
            read_timeout: None,
            connect_timeout: Duration::from_secs(10),
            bounds: Bounds::new(),
            user_agent: concat!("proxmox-api/", env!("CARGO_PKG_VERSION")).to_owned(),
            transport: None,
            node: None,
            checks: false,
            checks_parameters: true,
            checks_tokens: true,
            retry: RetryPolicy::new(),
            at_once: AT_ONCE,
            at_once_per_node: AT_ONCE_PER_NODE,
            rate: None,
            clock: Arc::new(SystemTime::now),
            task_poll: None,
            #[cfg(feature = "guests")]
            guest_locations: Duration::from_secs(10),
        }
    }

    /// Uses an API token: its id as `user@realm!name`, and its secret. Replaces other credentials.
    pub fn api_token(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.credentials = Credentials::Token {
            id: id.into(),
            secret: secret.into(),
        };
        self
    }

    /// Uses an API token given as one text, as Proxmox VE shows it for the `Authorization` header:
    /// `user@realm!name=secret`, with or without `PVEAPIToken=` before it. Replaces other
    /// credentials. [`ApiToken`](crate::client::auth::ApiToken) parses such a text without a
    /// client.
    pub fn api_token_text(mut self, text: impl Into<Secret>) -> Self {
        self.credentials = Credentials::TokenText(text.into());
        self
    }

    /// Logs in with a password; `user` is `user@realm`. The client renews the ticket while it
    /// exists. Replaces other credentials.
    ///
    /// After the server has refused a login, further calls fail with the same error for 30 seconds
    /// and nothing is sent, because each attempt takes the server 3 seconds and may lock the
    /// account. After that the next call logs in again, once for all waiting calls.
    /// [`Client::login`] logs in at once. Other failures of a login are errors of the calls that
    /// waited for it and are not remembered.
    pub fn password(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.credentials = Credentials::Password {
            user: user.into(),
            password: password.into(),
        };
        self
    }

    /// Uses a ticket that was obtained elsewhere, with its CSRF prevention token, without which the
    /// client can only read. The client renews the ticket while it exists; a client that is idle
    /// for two hours loses it. Replaces other credentials.
    pub fn ticket(mut self, ticket: impl Into<Secret>, csrf: Option<Secret>) -> Self {
        self.credentials = Credentials::Ticket {
            ticket: ticket.into(),
            csrf,
        };
        self
    }

    /// Logs in by OpenID, in a browser. The provider sends the browser to `redirect_url` at the
    /// end; the provider has to know this address, and the program has to read the address that the
    /// browser opens. Replaces other credentials.
    ///
    /// ```no_run
    /// # async fn example(came_back: String) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::Client;
    ///
    /// let pve = Client::builder("pve1").openid("company", "http://localhost:9876/").build()?;
    /// println!("log in at {}", pve.openid_url().await?);
    /// pve.openid_login(&came_back).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn openid(mut self, realm: impl Into<String>, redirect_url: impl Into<String>) -> Self {
        self.credentials = Credentials::OpenId(OpenId {
            realm: realm.into(),
            redirect_url: redirect_url.into(),
        });
        self
    }

    /// Continues a session of an earlier process, until its ticket cannot be renewed. With the
    /// [`ClientBuilder::password`] of the same user, the client then logs in again.
    pub fn session(mut self, session: SavedSession) -> Self {
        self.session = Some(session);
        self
    }

    /// The handler that is called when a login with a password needs a second factor. All calls
    /// wait meanwhile, each until its [`ClientBuilder::timeout`]; the handler is called once for
    /// all of them. [`Client::login`] waits without a limit. Without a handler, the login ends with
    /// [`AuthErrorKind::SecondFactor`](crate::client::auth::AuthErrorKind).
    ///
    /// ```
    /// # use proxmox_api::Client;
    /// use proxmox_api::client::auth::TfaAnswer;
    ///
    /// # fn read_line(_: &str) -> std::io::Result<String> { Ok(String::new()) }
    /// let builder = Client::builder("pve1")
    ///     .password("root@pam", "secret")
    ///     .tfa(|challenge| async move {
    ///         let code = read_line(&format!("code for {}: ", challenge.user()))?;
    ///         Ok::<_, std::io::Error>(TfaAnswer::totp(code))
    ///     });
    /// # let _ = builder;
    /// ```
    pub fn tfa<F, A, E>(mut self, ask: F) -> Self
    where
        F: Fn(TfaChallenge) -> A + Send + Sync + 'static,
        A: Future<Output = Result<TfaAnswer, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.handler = Some(Handler::new(ask));
        self
    }

    /// Whether a call of an endpoint that refuses API tokens fails before it is sent, if the client
    /// has a token. On by default.
    pub fn check_token_access(mut self, check: bool) -> Self {
        self.checks_tokens = check;
        self
    }

    /// Sends a header field with every request, for example for a proxy before the server. The
    /// fields that the client sets itself are refused. The value is treated as a secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Trusts exactly the certificate with this fingerprint, whatever its issuer and name. May be
    /// called once for each node of a cluster. Certificate authorities are ignored then, and TLS
    /// sessions are not resumed, so that every connection shows its certificate.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.trust.pins.push(fingerprint);
        self
    }

    /// Trusts a further certificate authority, given as PEM text, besides those of the system. The one of
    /// a cluster is `/etc/pve/pve-root-ca.pem`.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities
            .push(Authority::Pem(pem.as_ref().to_owned()));
        self
    }

    /// Like [`ClientBuilder::ca_pem`], from a file that is read by [`ClientBuilder::build`].
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.authorities
            .push(Authority::File(path.as_ref().to_owned()));
        self
    }

    /// Asks the program about a certificate that no authority has signed when a host first shows
    /// it, and requires the same certificate from then on, as SSH does. A certificate that an
    /// authority has signed is accepted without asking.
    ///
    /// ```
    /// # use proxmox_api::Client;
    /// use proxmox_api::tls::KnownHosts;
    ///
    /// # fn confirm(_: &str) -> bool { false }
    /// let known = KnownHosts::in_file("known_hosts", |host, fingerprint| {
    ///     confirm(&format!("{host} shows {fingerprint}; is that right?"))
    /// });
    /// let builder = Client::builder("pve1").trust_on_first_use(known);
    /// # let _ = builder;
    /// ```
    pub fn trust_on_first_use(mut self, store: impl TrustStore + 'static) -> Self {
        self.trust.first_use = Some(Arc::new(store));
        self
    }

    /// Shows a client certificate to the server, or to a proxy before it that asks for one. Both
    /// are PEM texts, the certificate first in its chain; they may be the same text.
    pub fn client_certificate(
        mut self,
        chain_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
    ) -> Self {
        let key = Secret::new(String::from_utf8_lossy(key_pem.as_ref()));
        self.identity = Some((chain_pem.as_ref().to_owned(), key));
        self
    }

    /// Uses a proxy: `http://proxy:3128`, which has to allow `CONNECT` to the servers, or
    /// `socks5://proxy:1080`, which resolves the servers' names itself. The address may contain
    /// name and password for the proxy.
    ///
    /// The default comes from the environment: `HTTPS_PROXY`, or else `ALL_PROXY`, except for the
    /// servers in `NO_PROXY` and on this machine; for a server without encryption, `http_proxy` is
    /// read first. Lower-case variables take precedence over upper-case ones.
    /// [`ClientBuilder::build`] reads them.
    pub fn proxy(mut self, url: impl Into<Secret>) -> Self {
        self.proxy = ProxyMode::Proxy(url.into());
        self
    }

    /// Uses no proxy, and ignores the environment.
    pub fn no_proxy(mut self) -> Self {
        self.proxy = ProxyMode::Direct;
        self
    }

    /// Accepts any certificate. Anyone between client and server can then read and change
    /// everything, the credentials included. A pinned fingerprint is as easy and safe, and is
    /// checked in any case.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.trust.anything = accept;
        self
    }

    /// Allows addresses that start with `http://`, where anyone between client and server can read
    /// everything. Without this, only addresses of this machine are allowed, and not through a
    /// proxy on another machine. The setting also applies to addresses that
    /// [`Client::discover_hosts`] finds.
    pub fn danger_allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// The time limit of a call, which covers everything that its caller waits for: the queue
    /// before the limits, a login, retries and the pauses before them, and the exchange. 60 seconds
    /// by default; the server gives up on most calls after 30 ([wire protocol
    /// §6](crate::guide::wire_protocol)). If the server asks for a pause that is longer than the
    /// remaining time, the call ends at once.
    /// [`TimeoutError::waiting_for`](crate::error::TimeoutError::waiting_for) says where the time
    /// went.
    ///
    /// A login belongs to the client, not to the caller: it has this time limit for itself, and
    /// continues if the call that needed it gave up.
    ///
    /// For the body of an upload or download, this is the longest time in which no bytes move,
    /// unless [`ClientBuilder::read_timeout`] sets another. The transfer as a whole has no limit.
    ///
    /// With a [`ClientBuilder::transport`] of your own there is no limit by default, since it needs
    /// the timer of a tokio runtime.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The time limit of one attempt, from the moment at which the client's limits admit it to the
    /// end of the answer. By default it is the remaining time of the call's
    /// [`ClientBuilder::timeout`]. With a lower limit, a request that only reads gets another
    /// attempt after one that hangs.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// The longest time in which the server sends nothing: from the connection to the answer, and
    /// from one piece of the answer to the next. No limit by default.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = Some(timeout);
        self
    }

    /// The time limit for making a connection, proxy and TLS included; 10 seconds by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The limits on answers of the server; [`Bounds::new`] by default.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The name of the client in the server's access log.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Sends through this transport instead of the network. It is then responsible for TLS and
    /// timeouts.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// The node that [`Client::default_node`] returns.
    pub fn default_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Adds the address of another node of the same cluster, which is used if those before it
    /// cannot be reached. May be called several times; the order is the order of preference.
    ///
    /// An address that fails is skipped for 5 seconds, longer each time, and then tried again. A
    /// request goes to the next address if none of it was sent; a request that may have arrived
    /// goes to another address only if it may be sent again at all, see [`RetryPolicy`]. A host
    /// that is given by name is assumed to be the node of that name, and is preferred for calls
    /// about that node.
    pub fn host(mut self, url: impl Into<String>) -> Self {
        self.more.push((url.into(), None));
        self
    }

    /// Like [`ClientBuilder::host`], for an address that does not contain the name of its node.
    pub fn node_host(mut self, node: impl Into<String>, url: impl Into<String>) -> Self {
        self.more.push((url.into(), Some(node.into())));
        self
    }

    /// The policy for retries; [`RetryPolicy::new`] by default.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The maximum of concurrent requests, in all and for one node; 64 and 16 by default. Further
    /// requests wait. All clones of the client count together.
    pub fn concurrency(mut self, in_all: usize, for_one_node: usize) -> Self {
        self.at_once = in_all;
        self.at_once_per_node = for_one_node;
        self
    }

    /// The limit on the rate of requests. By default it is [`RateLimit::default`]: 1,000 reads a
    /// minute after a burst of 1,000, and 10 other requests a second after a burst of 100, so that
    /// a program in a loop does not block the server's few processes for others.
    /// [`RateLimit::strict`] limits all requests to 10 a second, [`RateLimit::none`] none. All
    /// clones of the client count together, logins and retries included. A request that is dropped
    /// while it waits uses nothing; [`Client::limit_waits`] counts the waits. With a
    /// [`ClientBuilder::transport`] of your own there is no limit by default.
    pub fn rate_limit(mut self, limit: impl Into<RateLimit>) -> Self {
        self.rate = Some(limit.into());
        self
    }

    /// The maximum age of the list of all guests, in which handles made by [`Client::guest`] look
    /// up their node; ten seconds by default. All handles of a client and its clones share the
    /// list. An outdated entry costs one more request and does no harm.
    /// [`Guest::listed`](crate::manage::guest::Guest::listed) returns the other values of the list.
    #[cfg(feature = "guests")]
    pub fn guest_locations(mut self, age: Duration) -> Self {
        self.guest_locations = age;
        self
    }

    /// The interval at which tasks are polled while they are waited for, unless the wait sets its
    /// own. By default every second at first and every five seconds later.
    pub fn task_poll(mut self, interval: Duration) -> Self {
        self.task_poll = Some(interval);
        self
    }

    /// Checks every call against the release of the server before sending it. A call that the
    /// server does not have fails with an error that names the releases that have it. Costs one
    /// `GET /version` when first needed; off by default. See [`Client::check`].
    pub fn check_availability(mut self, check: bool) -> Self {
        self.checks = check;
        self
    }

    /// Refuses to send a value that no tracked release accepts: a number out of bounds, a text that
    /// does not match its pattern, an index beyond the highest. On by default; turn it off for a
    /// server that is newer and accepts more.
    ///
    /// A value that would change its meaning on the wire is refused in any case.
    pub fn check_parameters(mut self, check: bool) -> Self {
        self.checks_parameters = check;
        self
    }

    /// Uses this clock instead of the system's, to decide when a ticket is renewed. For tests that
    /// cannot wait an hour.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The transport that [`ClientBuilder::build`] would use, for a transport of your own that
    /// wraps it.
    ///
    /// # Errors
    /// [`Error::Config`] if a certificate authority cannot be read, or a proxy's address does not parse.
    pub fn build_transport(&self) -> Result<Arc<dyn Transport>, Error> {
        if let Some(transport) = &self.transport {
            return Ok(Arc::clone(transport));
        }
        let mut trust = self.trust.clone();
        for authority in &self.authorities {
            match authority {
                Authority::Pem(pem) => trust.add_pem(pem)?,
                Authority::File(path) => {
                    let named = |error: &dyn fmt::Display| {
                        Error::config(format!("CA file {}: {error}", path.display()))
                    };
                    let pem = std::fs::read(path).map_err(|error| named(&error))?;
                    trust.add_pem(&pem)?;
                }
            }
        }
        if let Some((chain, key)) = &self.identity {
            let identity = Identity::from_pem(chain, key.expose().as_bytes())?;
            trust.identity = Some(Arc::new(identity));
        }
        let proxies = match &self.proxy {
            ProxyMode::Environment => Proxies::from_environment()?,
            ProxyMode::Direct => Proxies::default(),
            ProxyMode::Proxy(url) => Proxies::one(Proxy::parse(url.expose())?),
        };
        let settings = HttpSettings {
            trust,
            proxies,
            timeout: self.timeout.unwrap_or(TIMEOUT),
            read_timeout: self.read_timeout,
            connect_timeout: self.connect_timeout,
            bounds: self.bounds,
        };
        Ok(Arc::new(HttpTransport::new(&settings)?))
    }

    /// Makes the client. Sends nothing.
    ///
    /// # Errors
    /// [`Error::Config`] if the address, the credentials or a certificate authority do not parse.
    pub fn build(self) -> Result<Client, Error> {
        let base = Base::parse(&self.url, self.port)?;
        let mut hosts = vec![Host::new(base.clone(), None)];
        for (url, node) in &self.more {
            let base = Base::parse(url, self.port)?;
            hosts.push(Host::new(base, node.clone()));
        }
        for Host { base, .. } in &hosts {
            base.check(self.allow_http)?;
            if let ProxyMode::Proxy(url) = &self.proxy
                && base.is_plain()
                && !self.allow_http
                && !Proxy::parse(url.expose())?.is_on_this_machine()
            {
                return Err(Error::config(format!(
                    "{base} is not encrypted, and the proxy is on another machine; use https, or allow it by \
                     danger_allow_http"
                )));
            }
        }
        if self
            .user_agent
            .bytes()
            .any(|byte| !(b' '..=b'~').contains(&byte))
        {
            return Err(Error::config(
                "the user agent contains a character that is not printable ASCII",
            ));
        }
        let transport = self.build_transport()?;
        let rate = match (self.rate, &self.transport) {
            (Some(rate), _) => rate,
            (None, None) => RateLimit::default(),
            (None, Some(_)) => RateLimit::none(),
        };
        let timeout = match (self.timeout, &self.transport) {
            (None, None) => Some(TIMEOUT),
            (timeout, _) => timeout,
        };
        let limits = Limits::new(Settings {
            at_once: self.at_once,
            at_once_per_node: self.at_once_per_node,
            rate,
        });
        for (name, value) in &self.headers {
            check_header(name, value.expose())?;
        }
        let settings = ClientSettings {
            urls: hosts.iter().map(|host| host.base.to_string()).collect(),
            fingerprints: self.trust.pins.clone(),
            accepts_invalid_certs: self.trust.anything,
            timeout,
            attempt_timeout: self.attempt_timeout,
            connect_timeout: self.connect_timeout,
            retry: self.retry.clone(),
            rate_limit: rate,
            at_once: self.at_once,
            at_once_per_node: self.at_once_per_node,
            user_agent: self.user_agent.clone(),
            checks_parameters: self.checks_parameters,
            checks_availability: self.checks,
            checks_token_access: self.checks_tokens,
        };
        let auth = Auth::new(
            self.credentials,
            self.session,
            self.handler,
            self.clock.clone(),
        )?;
        Ok(Client(Arc::new(Inner {
            base,
            hosts: Hosts::new(hosts, self.allow_http),
            transport,
            retries: RetryBudget::new(self.retry),
            limits,
            auth,
            clock: self.clock,
            user_agent: self.user_agent,
            node: self.node,
            checks: self.checks,
            checks_parameters: self.checks_parameters,
            checks_tokens: self.checks_tokens,
            headers: self.headers,
            bounds: self.bounds,
            settings,
            timeout,
            attempt_timeout: self.attempt_timeout,
            release: OnceCell::new(),
            numbered: AtomicU64::new(0),
            #[cfg(feature = "guests")]
            kept: super::extensions::Extensions::default(),
            task_poll: self.task_poll,
            #[cfg(feature = "guests")]
            guest_locations: self.guest_locations,
        })))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &printable(&self.url))
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
