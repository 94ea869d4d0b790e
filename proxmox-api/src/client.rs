//! The client: one server, one identity, shared by cloning.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::api_error::{ApiError, ErrorKind, latin1_or_utf8};
use crate::auth::{
    Auth, Clock, Credentials, Grant, Handler, Login, OpenId, SavedSession, TfaAnswer, TfaChallenge,
};
use crate::availability;
use crate::encode::{ParamValue, Params};
use crate::endpoint::{Method, Release};
use crate::error::{Error, RequestErrorKind};
use crate::hosts::{API, Base, Host, HostInfo, Hosts, node_of};
use crate::limit::{Limits, RateLimit, Settings};
use crate::request::{Call, LIKELY_SECRETS};
use crate::retry::{Retries, RetryPolicy};
use crate::secret::Secret;
use crate::task::Task;
use crate::tls::{Fingerprint, Identity, Trust, TrustStore};
use crate::trace::Trace;
use crate::transport::{HttpSettings, HttpTransport, Proxy, Transport, WireRequest, WireResponse};
use crate::upid::Upid;

/// A longer body is cut off by the server with the connection (wire protocol §2).
const BODY_LIMIT: usize = 512 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";
const TICKET: &str = "/access/ticket";
const AT_ONCE: usize = 64;
const AT_ONCE_PER_NODE: usize = 16;

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
    checks_tokens: bool,
    headers: Vec<(String, Secret)>,
    release: OnceCell<Release>,
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
        ClientBuilder {
            url: url.into(),
            more: Vec::new(),
            port: None,
            credentials: Credentials::None,
            session: None,
            handler: None,
            headers: Vec::new(),
            trust: Trust::default(),
            authorities: Vec::new(),
            identity: None,
            proxy: None,
            allow_http: false,
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            user_agent: concat!("proxmox-api/", env!("CARGO_PKG_VERSION")).to_owned(),
            transport: None,
            node: None,
            checks: false,
            checks_tokens: true,
            retry: RetryPolicy::new(),
            at_once: AT_ONCE,
            at_once_per_node: AT_ONCE_PER_NODE,
            rate: None,
            clock: Arc::new(SystemTime::now),
        }
    }

    /// A client from environment variables.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PROXMOX_HOST` | the server, as for [`Client::builder`]; required. Further nodes after a comma, as for [`ClientBuilder::host`] |
    /// | `PROXMOX_PORT` | its port, if `PROXMOX_HOST` names none; 8006 |
    /// | `PROXMOX_USERNAME` | `user@realm` |
    /// | `PROXMOX_TOKEN_ID` | an API token: its name alone, or `user@realm!name` |
    /// | `PROXMOX_TOKEN_SECRET` | the token's secret |
    /// | `PROXMOX_PASSWORD` | the password, where no token is given |
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

    /// Asks the cluster for its nodes and takes those with an address in, after the addresses that are known
    /// already: from then on a node's calls go to that node, and the others stand in for one that is away.
    /// Gives what [`Client::hosts`] gives then.
    ///
    /// They are expected on the port of the first address, or on 8006 behind a proxy, by the IP address
    /// they have in the cluster network, and have to be trusted like the first: a pinned fingerprint fits one
    /// node only.
    ///
    /// # Errors
    /// Those of `GET /cluster/status`, which takes the privilege `Sys.Audit` on `/`.
    pub async fn discover_hosts(&self) -> Result<Vec<HostInfo>, Error> {
        let call = Call::new(Method::Get, "/cluster/status");
        let name = call.name();
        let reply = self.execute(call).await?;
        let data: Value =
            crate::decode::decode_data(&reply.body).map_err(|error| Error::decode(name, error))?;
        let text = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
        let nodes: Vec<_> = (data.as_array().into_iter().flatten())
            .filter(|entry| text(entry, "type").as_deref() == Some("node"))
            .filter_map(|entry| Some((text(entry, "name")?, text(entry, "ip")?)))
            .filter(|(_, address)| address.parse::<std::net::IpAddr>().is_ok())
            .collect();
        self.0.hosts.learn(&nodes);
        Ok(self.hosts())
    }

    /// Logs in now rather than with the first call; checks a password. Does nothing for a client with a
    /// token or a given ticket.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server refuses the login or asks for a second factor; see
    /// [`Client::answer_tfa`].
    pub async fn login(&self) -> Result<(), Error> {
        self.0.auth.log_in_now(&*self.0).await
    }

    /// Completes a login that ended with [`AuthErrorKind::SecondFactor`](crate::auth::AuthErrorKind).
    /// `answer` is the kind and the code, such as `totp:123456` or `recovery:…` (wire protocol §7).
    ///
    /// # Errors
    /// [`Error::Auth`] if the server does not accept the answer.
    pub async fn answer_tfa(
        &self,
        challenge: &TfaChallenge,
        answer: impl Into<Secret>,
    ) -> Result<(), Error> {
        self.0
            .auth
            .answer(&*self.0, challenge, &answer.into())
            .await
    }

    /// The session to go on with in another process, once somebody logged in; see
    /// [`ClientBuilder::session`]. `None` for a client with an API token.
    pub async fn save_session(&self) -> Option<SavedSession> {
        self.0.auth.save().await
    }

    /// Where the user's browser has to go to log in; see [`ClientBuilder::openid`].
    ///
    /// # Errors
    /// As for every call; [`Error::Config`] for a client that logs in otherwise.
    pub async fn openid_url(&self) -> Result<String, Error> {
        self.0.auth.openid_url(&*self.0).await
    }

    /// Completes a login by OpenID. `url` is the address the browser was sent to at the end: the redirect URL with
    /// `state` and `code` in its query.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server does not accept it; [`Error::Config`] if either is missing, with what
    /// the provider says about it.
    pub async fn openid_login(&self, url: &str) -> Result<(), Error> {
        let (state, code) = crate::auth::read_redirect(url)?;
        self.0.auth.openid_login(&*self.0, &state, &code).await
    }

    /// A handle for a task that was started elsewhere.
    #[must_use]
    pub fn task(&self, upid: Upid) -> Task {
        Task::new(self.clone(), upid)
    }

    /// Gets a file that the server publishes outside its API, such as
    /// `/pve-docs/api-viewer/apidoc.js`. Goes without authentication.
    ///
    /// # Errors
    /// As for every call; [`Error::Api`] for any status but 2xx.
    pub async fn fetch(&self, path: &str) -> Result<Reply, Error> {
        let name = format!("GET {path}");
        let request = self
            .0
            .compose(Method::Get, path, &Params::default(), &name)?;
        let trace = Trace::new(Method::Get, path);
        let exchange = self.0.exchange(request, &name, true, &trace);
        let response = trace.around(exchange).await?;
        accept(&name, response, &[])
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn execute(&self, call: Call) -> Executing {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.run(call).await })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {:?})", self.0.base, self.0.auth)
    }
}

impl Inner {
    pub(crate) async fn server_release(&self) -> Result<Release, Error> {
        let ask = async || {
            let reply = self.run_boxed(availability::version_call()).await?;
            availability::release_of(&reply)
        };
        self.release.get_or_try_init(ask).await.copied()
    }

    pub(crate) async fn check(&self, call: &Call) -> Result<(), Error> {
        if !availability::is_in_doubt(call) {
            return Ok(());
        }
        match availability::missing(call, self.server_release().await?) {
            Some(kind) => Err(Error::request(&name_of(call), kind)),
            None => Ok(()),
        }
    }

    /// Whether the server would only say that it wants a ticket for this.
    fn refuses_token(&self, call: &Call) -> bool {
        self.checks_tokens
            && self.auth.is_token()
            && call.endpoint.is_some_and(|endpoint| !endpoint.allow_token)
    }

    /// For a call that is made within another one.
    fn run_boxed(
        &self,
        call: Call,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + '_>> {
        Box::pin(self.run(call))
    }

    async fn run(&self, call: Call) -> Result<Reply, Error> {
        let method = call.method;
        let template = match call.endpoint {
            Some(endpoint) => endpoint.path.to_owned(),
            None => call.path.clone(),
        };
        let trace = Trace::new(method, &template);
        trace.around(self.perform(call, &trace)).await
    }

    async fn perform(&self, call: Call, trace: &Trace) -> Result<Reply, Error> {
        let name = name_of(&call);
        let refuse = |kind| Err(Error::request(&name, kind));
        if let Some(problem) = call.invalid {
            return refuse(RequestErrorKind::Path { problem });
        }
        check_path(&call.path)
            .map_err(|problem| Error::request(&name, RequestErrorKind::Path { problem }))?;
        let path = format!("{API}{}", call.path);
        let writes = call.method != Method::Get;
        let repeatable = call.is_repeatable();

        // These work for everybody; a ticket or token that is out of date would only get in the way.
        if open_to_all(call.method, &call.path) {
            let request = self.compose(call.method, &path, &call.params, &name)?;
            let response = self.exchange(request, &name, repeatable, trace).await?;
            return self.judge(&name, response, &call, None);
        }
        if self.refuses_token(&call) {
            return refuse(RequestErrorKind::NeedsTicket);
        }
        if self.checks {
            self.check(&call).await?;
        }
        // Before logging in, so that what cannot be sent costs nothing.
        let request = self.compose(call.method, &path, &call.params, &name)?;
        let grant = self.auth.authorize(self, writes).await?;
        let response = self
            .exchange(signed(&request, &grant), &name, repeatable, trace)
            .await?;
        let session = grant.session;
        let Some(refused) = session.as_ref().filter(|_| refuses_session(&response)) else {
            return self.judge(&name, response, &call, session.as_deref());
        };
        match self.auth.replace(self, refused, writes).await? {
            Some(grant) => {
                let response = self
                    .exchange(signed(&request, &grant), &name, repeatable, trace)
                    .await?;
                self.judge(&name, response, &call, grant.session.as_deref())
            }
            None => match self.judge(&name, response, &call, Some(refused)) {
                Err(Error::Api(error)) if error.kind() == ErrorKind::Unauthorized => {
                    Err(error.with_kind(ErrorKind::TicketExpired).into())
                }
                other => other,
            },
        }
    }

    /// A request that is for no host yet.
    fn compose(
        &self,
        method: Method,
        path: &str,
        params: &Params,
        name: &str,
    ) -> Result<WireRequest, Error> {
        let mut path = path.to_owned();
        let mut body = String::new();
        if method.has_body() {
            body = params.encode();
        } else if !params.is_empty() {
            path = format!("{path}?{}", params.encode());
        }
        if body.len() > BODY_LIMIT {
            let kind = RequestErrorKind::BodyTooLarge {
                size: body.len(),
                limit: BODY_LIMIT,
            };
            return Err(Error::request(name, kind));
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
        Ok(request)
    }

    /// Sends a request to the host it is for, to another one while none can be connected to, and again
    /// where that does no harm.
    async fn exchange(
        &self,
        request: WireRequest,
        name: &str,
        repeatable: bool,
        trace: &Trace,
    ) -> Result<WireResponse, Error> {
        let node = node_of(&request.path);
        let start = Instant::now();
        let mut hosts = self.hosts.order(node.as_deref());
        for attempt in 1.. {
            let mut unreached = Vec::new();
            let mut result = None;
            for host in &hosts {
                let permit = self.limits.admit(node.as_deref()).await;
                let outcome = self.transport.send(place(&request, &host.base)).await;
                drop(permit);
                host.note(&outcome);
                let status = outcome.as_ref().ok().map(|answer| answer.status);
                trace.attempt(&host.base.origin, attempt, status);
                match outcome {
                    Err(error) if error.is_never_sent() && hosts.len() > unreached.len() + 1 => {
                        unreached.push((host.base.origin.clone(), error));
                    }
                    outcome => {
                        result = Some((Arc::clone(host), outcome));
                        break;
                    }
                }
            }
            // There is at least one host, and the last one always gives a result.
            let Some((host, outcome)) = result else { break };
            if let Ok(answer) = &outcome {
                self.limits.heed(answer, (self.clock)());
            }
            hosts = self.hosts.order(node.as_deref());
            let elsewhere = hosts.first().is_some_and(|next| !Arc::ptr_eq(next, &host));
            let spent = start.elapsed();
            if let Some(pause) =
                (self.retries).pause(&outcome, repeatable, attempt, spent, elsewhere)
            {
                trace.again(pause, elsewhere);
                tokio::time::sleep(pause).await;
                continue;
            }
            return match outcome {
                Ok(answer) => {
                    self.retries.give();
                    Ok(answer)
                }
                Err(last) if last.is_never_sent() && !unreached.is_empty() => {
                    let (origin, first) = unreached.remove(0);
                    unreached.push((host.base.origin.clone(), last));
                    Err(Error::nowhere(name, origin, first, unreached))
                }
                Err(error) => Err(Error::transport(name, &host.base.origin, error)),
            };
        }
        Err(Error::config("the client has no host"))
    }

    fn judge(
        &self,
        name: &str,
        response: WireResponse,
        call: &Call,
        session: Option<&crate::auth::Session>,
    ) -> Result<Reply, Error> {
        let download = call.endpoint.is_some_and(|endpoint| endpoint.download);
        if (200..300).contains(&response.status) && !download && is_page(&response) {
            return Err(ApiError::not_the_api(name, &response).into());
        }
        let secrets: Vec<&str> = (secrets_of(call))
            .chain(self.auth.secrets())
            .chain(self.headers.iter().map(|(_, value)| value.expose()))
            .chain(session.into_iter().flat_map(|session| session.secrets()))
            .collect();
        accept(name, response, &secrets).map_err(|error| match error {
            Error::Api(error) => {
                let hint = availability::hint(&error, call, self.release.get().copied());
                error.with_hint(hint).into()
            }
            other => other,
        })
    }
}

impl Login for Inner {
    fn post<'a>(
        &'a self,
        path: &'static str,
        form: Params,
        secrets: Vec<Secret>,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Error>> + Send + 'a>> {
        Box::pin(async move {
            let name = format!("POST {path}");
            let template = path;
            let path = format!("{API}{path}");
            let request = self.compose(Method::Post, &path, &form, &name)?;
            // A second ticket does no harm, but a code is good for one time only.
            let repeatable = form.get("tfa-challenge").is_none() && form.get("code").is_none();
            let trace = Trace::new(Method::Post, template);
            let exchange = self.exchange(request, &name, repeatable, &trace);
            let response = trace.around(exchange).await?;
            if (200..300).contains(&response.status) && is_page(&response) {
                return Err(ApiError::not_the_api(&name, &response).into());
            }
            let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
            let reply = accept(&name, response, &secrets)?;
            crate::decode::decode_data(&reply.body).map_err(|error| Error::decode(name, error))
        })
    }
}

/// An answer's status decides whether it is one.
fn accept(name: &str, response: WireResponse, secrets: &[&str]) -> Result<Reply, Error> {
    if !(200..300).contains(&response.status) {
        return Err(ApiError::new(name, &response, secrets).into());
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

fn place(request: &WireRequest, base: &Base) -> WireRequest {
    WireRequest {
        origin: base.origin.clone(),
        path: format!("{}{}", base.prefix, request.path),
        ..request.clone()
    }
}

fn signed(request: &WireRequest, grant: &Grant) -> WireRequest {
    let mut request = request.clone();
    for (name, value) in &grant.headers {
        let header = ((*name).to_owned(), value.expose().to_owned());
        request.headers.push(header);
    }
    request
}

/// The verb and the path as a person would write it.
fn name_of(call: &Call) -> String {
    format!(
        "{} {}",
        call.method,
        percent_decode_str(&call.path).decode_utf8_lossy()
    )
}

/// Values that a server may quote in an error and that must not get into a log.
fn secrets_of(call: &Call) -> impl Iterator<Item = &str> {
    let declared = call
        .endpoint
        .map_or(&[] as &[&str], |endpoint| endpoint.secrets);
    (call.params.iter())
        .filter(|(name, _)| declared.contains(name) || LIKELY_SECRETS.contains(name))
        .flat_map(|(_, value)| match value {
            ParamValue::One(value) => std::slice::from_ref(value).iter().map(String::as_str),
            ParamValue::Many(values) => values.iter().map(String::as_str),
        })
}

/// What the server answers without knowing who asks (wire protocol §7).
fn open_to_all(method: Method, path: &str) -> bool {
    matches!(
        (method, path),
        (Method::Get, "/access/domains")
            | (Method::Get | Method::Post, TICKET)
            | (
                Method::Post,
                "/access/vncticket" | "/access/openid/auth-url" | "/access/openid/login"
            )
    )
}

/// Refused before the request was looked at: such an answer has no body. Endpoints that check
/// a password of their own answer 401 with one.
fn refuses_session(response: &WireResponse) -> bool {
    response.status == 401 && response.body.is_empty()
}

fn is_page(response: &WireResponse) -> bool {
    response
        .header("content-type")
        .is_some_and(|kind| kind.trim_start().starts_with("text/html"))
        && response.header("content-disposition").is_none()
}

/// The server drops empty segments and the way there resolves dotted ones, so either would reach
/// another endpoint than was meant.
fn check_path(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("the path {path:?} does not start with a slash"));
    };
    let odd = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(byte));
    if let Some(byte) = path.bytes().find(|byte| odd(byte)) {
        let shown = char::from(byte).escape_default();
        return Err(match byte {
            b'?' => "parameters do not go into the path; set them with `param`".to_owned(),
            _ => format!("the path holds the character '{shown}', which has to be percent-encoded"),
        });
    }
    for segment in rest.split('/').filter(|_| !rest.is_empty()) {
        match percent_decode_str(segment).decode_utf8_lossy().as_ref() {
            "" => return Err(format!("the path {path:?} has an empty part")),
            "." | ".." => {
                return Err(format!(
                    "the path {path:?} has a part that leaves its place"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Header fields that the client or the way of sending decides on.
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

/// How to reach a server and who to be there; made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: String,
    /// Further addresses, each with the node that is there.
    more: Vec<(String, Option<String>)>,
    port: Option<u16>,
    credentials: Credentials,
    session: Option<SavedSession>,
    handler: Option<Handler>,
    headers: Vec<(String, Secret)>,
    trust: Trust,
    authorities: Vec<Authority>,
    identity: Option<(Vec<u8>, Secret)>,
    proxy: Option<Secret>,
    allow_http: bool,
    timeout: Duration,
    connect_timeout: Duration,
    user_agent: String,
    transport: Option<Arc<dyn Transport>>,
    node: Option<String>,
    checks: bool,
    checks_tokens: bool,
    retry: RetryPolicy,
    at_once: usize,
    at_once_per_node: usize,
    /// `None` while nothing was said.
    rate: Option<Option<RateLimit>>,
    clock: Clock,
}

#[derive(Clone)]
enum Authority {
    Pem(Vec<u8>),
    File(PathBuf),
}

impl ClientBuilder {
    /// Uses an API token: its id as `user@realm!name`, and its secret. Replaces other credentials.
    pub fn api_token(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.credentials = Credentials::Token {
            id: id.into(),
            secret: secret.into(),
        };
        self
    }

    /// Logs in with a password; `user` is `user@realm`. The ticket is renewed as long as the client
    /// lives. Replaces other credentials.
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

    /// Whom to ask when a login with a password needs a second factor. All calls wait meanwhile, and it
    /// is asked once for all of them. Without this, the login ends with
    /// [`AuthErrorKind::SecondFactor`](crate::auth::AuthErrorKind).
    ///
    /// ```
    /// # use proxmox_api::Client;
    /// use proxmox_api::auth::TfaAnswer;
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
    /// for. May be called once for each node of a cluster. Certificate authorities play no part then.
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

    /// Goes through an HTTP proxy, which has to allow `CONNECT` to the servers: `http://proxy:3128`. Name and
    /// password for it may stand in the address. There is none unless set; the environment's `https_proxy` is not
    /// looked at.
    pub fn proxy(mut self, url: impl Into<Secret>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Accepts any certificate, so anybody on the way to the server can read and change everything,
    /// the credentials included. A pinned fingerprint is as easy and safe, and is checked in any case.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.trust.anything = accept;
        self
    }

    /// Allows an address that starts with `http://`, where everything is sent readable for anybody on the
    /// way. Without this only addresses of this machine may.
    pub fn danger_allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// The time one exchange may take in all; 60 seconds unless set. The server gives up on most
    /// calls after 30 by itself (wire protocol §6).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The time for making a connection, TLS included; 10 seconds unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
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

    /// How many requests may go out in a second; `None` for as many as there are. Unless set it is 10 a second
    /// after a burst of 100, so that a program in a loop does not take the server's few processes from
    /// everybody else; a program with many calls to make in a row sets more. Counts for all clones of the client
    /// together, logins and repetitions included. With a [`ClientBuilder::transport`] of one's own
    /// there is no limit unless set.
    pub fn rate_limit(mut self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.rate = Some(limit.into());
        self
    }

    /// Holds every call against the release of the server before sending it, so that one the server does not
    /// have fails with the release that brought it. Costs one `GET /version` when first needed; off unless
    /// set. See [`Client::check`].
    pub fn check_availability(mut self, check: bool) -> Self {
        self.checks = check;
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
    /// [`Error::Config`] if a certificate authority cannot be read.
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
        let proxy = match &self.proxy {
            Some(url) => Some(Proxy::parse(url.expose())?),
            None => None,
        };
        let settings = HttpSettings {
            trust,
            proxy,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
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
            if base.is_readable_by_all() && !self.allow_http {
                return Err(Error::config(format!(
                    "{base} is not encrypted; use https, or allow it by danger_allow_http"
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
            (None, None) => Some(RateLimit::default()),
            (None, Some(_)) => None,
        };
        let limits = Limits::new(Settings {
            at_once: self.at_once,
            at_once_per_node: self.at_once_per_node,
            rate,
        });
        for (name, value) in &self.headers {
            check_header(name, value.expose())?;
        }
        let auth = Auth::new(
            self.credentials,
            self.session,
            self.handler,
            self.clock.clone(),
        )?;
        Ok(Client(Arc::new(Inner {
            base,
            hosts: Hosts::new(hosts),
            transport,
            retries: Retries::new(self.retry),
            limits,
            auth,
            clock: self.clock,
            user_agent: self.user_agent,
            node: self.node,
            checks: self.checks,
            checks_tokens: self.checks_tokens,
            headers: self.headers,
            release: OnceCell::new(),
        })))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &self.url.rsplit('@').next().unwrap_or_default())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

type Variables<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Error>;

fn from_variables(read: Variables<'_>) -> Result<ClientBuilder, Error> {
    let read = |name: &str| -> Result<Option<String>, Error> {
        let value = read(name)?.map(|value| value.trim().to_owned());
        Ok(value.filter(|value| !value.is_empty()))
    };
    let host = read("PROXMOX_HOST")?.ok_or_else(|| Error::config("PROXMOX_HOST is not set"))?;
    let mut hosts = host
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    let mut builder = Client::builder(hosts.next().unwrap_or_default());
    for host in hosts {
        builder = builder.host(host);
    }
    if let Some(port) = read("PROXMOX_PORT")? {
        let port = port
            .parse()
            .map_err(|_| Error::config(format!("PROXMOX_PORT {port:?} is no port")))?;
        builder.port = Some(port);
    }
    let user = read("PROXMOX_USERNAME")?;
    let secret = read("PROXMOX_TOKEN_SECRET")?;
    let password = read("PROXMOX_PASSWORD")?;
    match (read("PROXMOX_TOKEN_ID")?, secret) {
        (Some(id), Some(secret)) => builder = builder.api_token(token_id(id, user)?, secret),
        (Some(_), None) => {
            return Err(Error::config(
                "PROXMOX_TOKEN_ID is set, but PROXMOX_TOKEN_SECRET is not",
            ));
        }
        (None, Some(_)) => {
            return Err(Error::config(
                "PROXMOX_TOKEN_SECRET is set, but PROXMOX_TOKEN_ID is not",
            ));
        }
        (None, None) => match (user, password) {
            (Some(user), Some(password)) => builder = builder.password(user, password),
            (Some(_), None) => {
                return Err(Error::config(
                    "PROXMOX_USERNAME is set, but neither PROXMOX_TOKEN_ID nor PROXMOX_PASSWORD is",
                ));
            }
            (None, Some(_)) => {
                return Err(Error::config(
                    "PROXMOX_PASSWORD is set, but PROXMOX_USERNAME is not",
                ));
            }
            (None, None) => {
                return Err(Error::config(
                    "no credentials: set PROXMOX_USERNAME, PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET",
                ));
            }
        },
    }
    if let Some(text) = read("PROXMOX_FINGERPRINT")? {
        let pin = text
            .parse()
            .map_err(|error| Error::config(format!("PROXMOX_FINGERPRINT: {error}")))?;
        builder = builder.fingerprint(pin);
    }
    if let Some(path) = read("PROXMOX_CA_FILE")? {
        builder = builder.ca_file(path);
    }
    match read("PROXMOX_INSECURE")?.as_deref() {
        Some("1" | "true" | "yes" | "on") => builder = builder.danger_accept_invalid_certs(true),
        None | Some("0" | "false" | "no" | "off") => {}
        Some(_) => return Err(Error::config("PROXMOX_INSECURE has to be 0 or 1")),
    }
    builder.node = read("PROXMOX_NODE")?;
    Ok(builder)
}

fn token_id(id: String, user: Option<String>) -> Result<String, Error> {
    match (id.split_once('!'), user) {
        (None, None) => Err(Error::config(
            "PROXMOX_TOKEN_ID has no user and PROXMOX_USERNAME is not set",
        )),
        (None, Some(user)) => Ok(format!("{user}!{id}")),
        (Some((owner, _)), Some(user)) if owner != user => Err(Error::config(format!(
            "PROXMOX_TOKEN_ID belongs to {owner}, but PROXMOX_USERNAME is {user}"
        ))),
        (Some(_), _) => Ok(id),
    }
}

mod prepared;

pub(crate) use prepared::Prepared;

#[cfg(test)]
mod tests;
