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
    /// Starts to describe a client. `url` is the server's address: `pve1`, `pve1:8006`,
    /// `https://pve1:8006`, or an address with a path if a proxy serves Proxmox VE below one.
    ///
    /// A bare name or IP address means https and port 8006; a URL means what it says.
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
        return wrong("has a name that no header can have");
    }
    if value.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return wrong("has a value with a character that is not printable ASCII");
    }
    Ok(())
}

/// The settings of a client: addresses, credentials, TLS, limits; made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: String,
    /// Further addresses, each with the node that is there.
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
    /// `None` while nothing was set.
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
    /// `None` while nothing was set.
    rate: Option<RateLimit>,
    clock: Clock,
    task_poll: Option<Duration>,
    #[cfg(feature = "guests")]
    guest_places: Duration,
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
            guest_places: Duration::from_secs(10),
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
    /// `user@realm!name=secret`, with or without `PVEAPIToken=` before it. Replaces other credentials. See
    /// [`ApiToken`](crate::client::auth::ApiToken) for reading such a text apart from a client.
    pub fn api_token_text(mut self, text: impl Into<Secret>) -> Self {
        self.credentials = Credentials::TokenText(text.into());
        self
    }

    /// Logs in with a password; `user` is `user@realm`. The ticket is renewed as long as the client
    /// lives. Replaces other credentials.
    ///
    /// A login that the server refuses counts for 30 seconds, in which further calls fail with the same error and
    /// nothing is sent: each attempt takes the server 3 seconds, and may lock the account. After that the next call
    /// asks again, once for all that wait; [`Client::login`] asks at once. Other failures count for those who waited and
    /// for nobody else.
    pub fn password(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.credentials = Credentials::Password {
            user: user.into(),
            password: password.into(),
        };
        self
    }

    /// Uses a ticket that was obtained elsewhere, with its CSRF prevention token, without which the
    /// client can only read. The ticket is renewed as long as the client lives; a client that is idle for
    /// two hours loses it. Replaces other credentials.
    pub fn ticket(mut self, ticket: impl Into<Secret>, csrf: Option<Secret>) -> Self {
        self.credentials = Credentials::Ticket {
            ticket: ticket.into(),
            csrf,
        };
        self
    }

    /// Logs in by OpenID, in a browser. `redirect_url` is where the provider sends the browser at the end; the provider
    /// has to know it, and something there has to read the address. Replaces other credentials.
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

    /// Goes on with a session of an earlier process: alone, until its ticket cannot be renewed, or with the
    /// [`ClientBuilder::password`] of the same user to log in again then.
    pub fn session(mut self, session: SavedSession) -> Self {
        self.session = Some(session);
        self
    }

    /// The handler that is called when a login with a password needs a second factor. All calls wait meanwhile, each until its
    /// [`ClientBuilder::timeout`], and it is asked once for all of them; [`Client::login`] waits as long as it takes. Without this, the login ends with
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

    /// Whether a call of an endpoint that is known to refuse API tokens fails before it is sent, for a client that
    /// has one; it does unless set.
    pub fn check_token_access(mut self, check: bool) -> Self {
        self.checks_tokens = check;
        self
    }

    /// Sends a header field with every request, such as what a proxy before the server wants. Those that the
    /// client sets itself cannot be given. The value is treated as a secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Trusts exactly the certificate of this fingerprint, whoever issued it and whatever name it is
    /// for. May be called once for each node of a cluster. Certificate authorities play no part then, and
    /// no session of TLS is resumed, so that every connection shows its certificate.
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

    /// Asks about a certificate that no authority vouches for when a host first shows it, and insists on the same one from
    /// then on, as SSH does. A certificate that an authority vouches for is not asked about.
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

    /// Shows a certificate of its own to the server, or to a proxy before it that asks for one. Both are PEM texts, the
    /// certificate first in its chain; they may be the same text.
    pub fn client_certificate(
        mut self,
        chain_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
    ) -> Self {
        let key = Secret::new(String::from_utf8_lossy(key_pem.as_ref()));
        self.identity = Some((chain_pem.as_ref().to_owned(), key));
        self
    }

    /// Goes through a proxy: `http://proxy:3128`, which has to allow `CONNECT` to the servers, or
    /// `socks5://proxy:1080`, which gets their names and not their addresses. Name and password for it may stand
    /// in the address.
    ///
    /// Unless set, it is the one that the environment names: `HTTPS_PROXY`, or else `ALL_PROXY`, but for the
    /// servers in `NO_PROXY` and on this machine; for a server without encryption `http_proxy` comes first. In
    /// small letters they come before those in capitals. [`ClientBuilder::build`] reads them.
    pub fn proxy(mut self, url: impl Into<Secret>) -> Self {
        self.proxy = ProxyMode::Proxy(url.into());
        self
    }

    /// Goes through no proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.proxy = ProxyMode::Direct;
        self
    }

    /// Accepts any certificate, so anybody on the way to the server can read and change everything,
    /// the credentials included. A pinned fingerprint is as easy and safe, and is checked in any case.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.trust.anything = accept;
        self
    }

    /// Allows an address that starts with `http://`, where everything is sent readable for anybody on the
    /// way. Without this only addresses of this machine may, and not through a proxy elsewhere; that goes for addresses that
    /// [`Client::discover_hosts`] finds too.
    pub fn danger_allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// The time a call may take in all, with everything its caller waits for: the queue before the limits, a login,
    /// repetitions and the pauses before them, and the exchange. 60 seconds unless set; the server gives up on most
    /// calls after 30 by itself ([wire protocol §6](crate::guide::wire_protocol)). A pause that the server asks for and that does not fit in ends the
    /// call at once. [`TimeoutError::waiting_for`](crate::error::TimeoutError::waiting_for) says where the time went.
    ///
    /// A login is the client's, not the caller's: it has this time for itself, and goes on when the call that needed
    /// it gave up.
    ///
    /// The body of an upload or download takes as long as it takes: for it, this is the time in which nothing moves,
    /// unless [`ClientBuilder::read_timeout`] says another.
    ///
    /// With a [`ClientBuilder::transport`] of your own there is no limit unless set, since it needs the timer of a tokio
    /// runtime.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The time one attempt may take, from being let through by the limits to the end of the answer; as much as is left
    /// of the call's [`ClientBuilder::timeout`] unless set. With less than that, what only reads gets another
    /// attempt after one that hangs.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// The time the server may keep still: from the connection to the answer, and from one piece of the
    /// answer to the next. No limit of its own unless set.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = Some(timeout);
        self
    }

    /// The time for making a connection, proxy and TLS included; 10 seconds unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// What is taken in at most of what a server sends; [`Bounds::new`] unless set.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// What the client calls itself in the server's access log.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Sends through this instead of the network. TLS and timeouts are its own business then.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// What [`Client::default_node`] returns.
    pub fn default_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Adds the address of another node of the same cluster, for when those before it cannot be reached. May
    /// be called several times; the order is the order of preference.
    ///
    /// An address that fails is passed over for 5 seconds, longer each time, and then tried again. A request
    /// goes on to the next address if none of it was sent; what may have arrived is sent elsewhere only where
    /// it would be sent again at all, see [`RetryPolicy`]. A host that is given by name is taken for the node
    /// of that name, and gets that node's calls first.
    pub fn host(mut self, url: impl Into<String>) -> Self {
        self.more.push((url.into(), None));
        self
    }

    /// Like [`ClientBuilder::host`], for an address that does not tell the name of its node.
    pub fn node_host(mut self, node: impl Into<String>, url: impl Into<String>) -> Self {
        self.more.push((url.into(), Some(node.into())));
        self
    }

    /// When a request is sent again; [`RetryPolicy::new`] unless set.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How many requests may be under way at once, in all and for one node; 64 and 16 unless set. Further ones
    /// wait. Counts for all clones of the client together.
    pub fn concurrency(mut self, in_all: usize, for_one_node: usize) -> Self {
        self.at_once = in_all;
        self.at_once_per_node = for_one_node;
        self
    }

    /// How many requests may go out in a row. Unless set, it is [`RateLimit::default`]: reads are limited to 1,000 a
    /// minute after a burst of 1,000, everything else to 10 a second after a burst of 100, so that a program in a loop
    /// does not take the server's few processes from everybody else. [`RateLimit::strict`] limits all to 10 a second,
    /// [`RateLimit::none`] nothing. Counts for all clones of the client together, logins and repetitions included. A
    /// request that is given up while it waits uses nothing; [`Client::limit_waits`] counts who waited. With a
    /// [`ClientBuilder::transport`] of your own there is no limit unless set.
    pub fn rate_limit(mut self, limit: impl Into<RateLimit>) -> Self {
        self.rate = Some(limit.into());
        self
    }

    /// How old the list of all guests may be that tells handles made by [`Client::guest`] where theirs are; ten
    /// seconds unless set. All handles of a client and its clones share it. A place that is out of date costs
    /// another look and does no harm. [`Guest::listed`](crate::manage::guest::Guest::listed) tells what else it says.
    #[cfg(feature = "guests")]
    pub fn guest_places(mut self, age: Duration) -> Self {
        self.guest_places = age;
        self
    }

    /// How often tasks are looked at while they are waited for, where nothing else is said; every second at first and
    /// every five later unless set.
    pub fn task_poll(mut self, interval: Duration) -> Self {
        self.task_poll = Some(interval);
        self
    }

    /// Holds every call against the release of the server before sending it, so that one the server does not
    /// have fails with the release that brought it. Costs one `GET /version` when first needed; off unless
    /// set. See [`Client::check`].
    pub fn check_availability(mut self, check: bool) -> Self {
        self.checks = check;
        self
    }

    /// Refuses to send a value that no tracked release takes: a number out of bounds, a text outside of its pattern, an
    /// index outside of its family. On unless set; off for a server that is newer and takes more.
    ///
    /// A value that would arrive as something else is refused all the same.
    pub fn check_parameters(mut self, check: bool) -> Self {
        self.checks_parameters = check;
        self
    }

    /// Tells the time by this instead of the system's clock; decides when a ticket is renewed. For
    /// tests that cannot wait an hour.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The transport that [`ClientBuilder::build`] would use: for one of one's own that adds to it.
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
                "the user agent holds a character that is not printable ASCII",
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
            guest_places: self.guest_places,
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
