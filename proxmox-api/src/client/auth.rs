//! Authentication: an API token, or a ticket that is renewed ([wire protocol §7](crate::guide::wire_protocol)).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tokio::time::Instant;

use super::call::Call;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::value::BoxFuture;
use crate::value::Secret;
use crate::value::decode::DecodeError;
use crate::value::encode::ParamValue;
use crate::value::endpoint::{Endpoint, Method, Permission};
use crate::value::product::PVE;

mod saved;
mod second_factor;
mod texts;
mod token;

use crate::error::auth::Challenge;
pub use crate::error::auth::{AuthError, AuthErrorKind, TfaChallenge};
pub use saved::{SavedSession, SavedSessionError};
pub(crate) use second_factor::Handler;
pub use second_factor::TfaAnswer;
pub(crate) use texts::read_redirect;
use texts::{check_login, check_user, read_ticket};
pub use token::{ApiToken, ApiTokenError};

/// Source of the current time; see [`ClientBuilder::clock`](crate::ClientBuilder::clock).
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Every request carries the ticket, and servers limit the size of a request's head.
const MAX_TICKET: usize = 16 * 1024;
/// A ticket is valid for two hours; renewing it after one leaves an hour for a server that cannot
/// be reached.
const RENEW_AFTER: Duration = Duration::from_secs(60 * 60);
const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// The time before a failed renewal is tried again; the old ticket is used meanwhile.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// The time before a refused password is tried again: each attempt takes server time and may lock
/// the account.
const REFUSAL_COUNTS: Duration = Duration::from_secs(30);

/// Characters that a cookie or the Authorization field cannot hold unescaped. The server
/// percent-decodes both.
const HEADER_ESCAPES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'\\');

/// The credentials that the caller gave.
#[derive(Clone, Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    Token {
        id: String,
        secret: Secret,
    },
    /// Id and secret in one text.
    TokenText(Secret),
    Password {
        user: String,
        password: Secret,
    },
    Ticket {
        ticket: Secret,
        csrf: Option<Secret>,
    },
    OpenId(OpenId),
}

/// Hides secrets even where a secret was given in place of a name: behind an equals sign or a
/// second colon.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |text: &'_ str| -> String {
            match text.find(['=', ':']) {
                Some(end) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text.to_owned(),
            }
        };
        match self {
            Self::None => f.write_str("None"),
            Self::Token { id, secret } => f
                .debug_struct("Token")
                .field("id", &name(id))
                .field("secret", secret)
                .finish(),
            Self::TokenText(text) => f.debug_tuple("TokenText").field(text).finish(),
            Self::Password { user, password } => f
                .debug_struct("Password")
                .field("user", &name(user))
                .field("password", password)
                .finish(),
            Self::Ticket { ticket, csrf } => f
                .debug_struct("Ticket")
                .field("ticket", ticket)
                .field("csrf", csrf)
                .finish(),
            Self::OpenId(openid) => f.debug_tuple("OpenId").field(openid).finish(),
        }
    }
}

/// The OpenID realm, and the address to which the provider sends the browser.
#[derive(Clone, Debug)]
pub(crate) struct OpenId {
    pub(crate) realm: String,
    pub(crate) redirect_url: String,
}

/// Authentication headers of a request, and the session they belong to.
#[derive(Clone, Default)]
pub(crate) struct AuthHeaders {
    pub(crate) headers: Vec<(&'static str, Secret)>,
    pub(crate) session: Option<Arc<Session>>,
}

#[derive(Debug)]
pub(crate) struct Session {
    ticket: Secret,
    csrf: Option<Secret>,
    /// By this machine's clock.
    obtained: SystemTime,
}

impl Session {
    /// Whether the ticket is too old for any server.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        now.duration_since(self.obtained)
            .is_ok_and(|age| age >= LIFETIME)
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.ticket)
            .chain(&self.csrf)
            .map(Secret::expose)
    }
}

/// Sends the calls of a login; implemented by the client, so that this module needs no transport.
pub(crate) trait Login: Send + Sync + 'static {
    fn auth(&self) -> &Auth;

    /// Sends a call that is open to everybody and gives the answer's `data`.
    fn post(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Value, Error>>;
}

/// A login in progress. All waiting calls share its result.
type Running = BoxFuture<'static, Result<Arc<Session>, Error>>;

static LOG_IN: Endpoint = Endpoint::new(Method::Post, PVE.login, Permission::World)
    .secrets(&["password", "tfa-challenge"]);
static OPENID_URL: Endpoint =
    Endpoint::new(Method::Post, "/access/openid/auth-url", Permission::World);
static OPENID_LOGIN: Endpoint =
    Endpoint::new(Method::Post, "/access/openid/login", Permission::World)
        .secrets(&["state", "code"]);

pub(crate) struct Auth {
    /// With OpenID, the server names the user after the login.
    user: OnceLock<String>,
    way: Credential,
    openid: Option<OpenId>,
    handler: Option<Handler>,
    clock: Clock,
}

enum Credential {
    Nothing,
    Token {
        header: Secret,
        secret: Secret,
    },
    Session {
        password: Option<Secret>,
        state: Mutex<State>,
    },
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// Renewal is not tried again before this time.
    pause: Option<SystemTime>,
    refusal: Option<Refusal>,
    running: Option<WeakShared<Running>>,
}

/// A login that the server refused.
struct Refusal {
    /// By the client's clock, and by the monotonic one.
    when: (SystemTime, Instant),
    error: AuthError,
}

impl Refusal {
    /// Whether it is too early to try again. A clock that stands still or was set back does not
    /// make this longer.
    fn counts(&self, now: SystemTime) -> bool {
        let (when, since) = self.when;
        let by_the_clock = now
            .duration_since(when)
            .is_ok_and(|age| age < REFUSAL_COUNTS);
        by_the_clock && since.elapsed() < REFUSAL_COUNTS
    }
}

/// The source of a request's authentication headers.
enum Source {
    Session(Arc<Session>),
    Login(Shared<Running>),
}

fn settings(error: ApiTokenError) -> Error {
    Error::config(error.to_string())
}

impl Credential {
    /// The token's id, and the headers of each request.
    fn token(token: &ApiToken) -> (String, Self) {
        let text = format!(
            "{}{}{}",
            token.id(),
            PVE.token_separator,
            token.secret().expose()
        );
        let header = Secret::new(format!(
            "{}{}",
            PVE.token,
            utf8_percent_encode(&text, HEADER_ESCAPES)
        ));
        let secret = token.secret().clone();
        (token.id().to_owned(), Self::Token { header, secret })
    }

    fn session(password: Option<Secret>) -> Self {
        Self::Session {
            password,
            state: Mutex::default(),
        }
    }
}

impl Auth {
    pub(crate) fn new(
        credentials: Credentials,
        saved: Option<SavedSession>,
        handler: Option<Handler>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let mut openid = None;
        let (user, way) = match credentials {
            Credentials::None if saved.is_some() => (None, Credential::session(None)),
            Credentials::OpenId(settings) => {
                openid = Some(settings);
                (None, Credential::session(None))
            }
            Credentials::None => (None, Credential::Nothing),
            Credentials::Token { id, secret } => {
                let (id, way) = Credential::token(&ApiToken::new(id, secret).map_err(settings)?);
                (Some(id), way)
            }
            Credentials::TokenText(text) => {
                let token = text.expose().parse().map_err(settings)?;
                let (id, way) = Credential::token(&token);
                (Some(id), way)
            }
            Credentials::Password { user, password } => {
                check_login(&user)?;
                if password.expose().is_empty() {
                    return Err(Error::config(format!("the password of {user} is empty")));
                }
                (Some(user), Credential::session(Some(password)))
            }
            Credentials::Ticket { ticket, csrf } => {
                let (user, issued) = read_ticket(ticket.expose()).ok_or_else(|| {
                    Error::config("the ticket does not have the form of a Proxmox VE ticket")
                })?;
                // The age counts by the server's clock, which may be ahead of ours.
                let obtained = issued.min(clock());
                let session = Arc::new(Session {
                    ticket,
                    csrf,
                    obtained,
                });
                let state = Mutex::new(State {
                    session: Some(session),
                    ..State::default()
                });
                (
                    Some(user),
                    Credential::Session {
                        password: None,
                        state,
                    },
                )
            }
        };
        let mut auth = Self {
            user: user.map(OnceLock::from).unwrap_or_default(),
            way,
            openid,
            handler,
            clock,
        };
        if let Some(saved) = saved {
            auth.restore(saved)?;
        }
        Ok(auth)
    }

    /// Starts with a session of an earlier process.
    fn restore(&mut self, saved: SavedSession) -> Result<(), Error> {
        let state = match &mut self.way {
            Credential::Session { state, .. } => {
                state.get_mut().unwrap_or_else(PoisonError::into_inner)
            }
            Credential::Nothing | Credential::Token { .. } => {
                return Err(Error::config("an API token has no session to continue"));
            }
        };
        if state.session.is_some() {
            return Err(Error::config(
                "both a ticket and a saved session were set; remove one",
            ));
        }
        let user = self.user.get_or_init(|| saved.user.clone());
        if *user != saved.user {
            return Err(Error::config(format!(
                "the saved session is of {}, not of {user}",
                saved.user
            )));
        }
        state.session = Some(Arc::new(Session {
            ticket: saved.ticket,
            csrf: saved.csrf,
            obtained: saved.obtained.min((self.clock)()),
        }));
        Ok(())
    }

    /// The session for later use, if there is one.
    pub(crate) fn save(&self) -> Option<SavedSession> {
        let session = self.state()?.session.clone()?;
        Some(SavedSession {
            user: self.user()?.to_owned(),
            ticket: session.ticket.clone(),
            csrf: session.csrf.clone(),
            obtained: session.obtained,
        })
    }

    fn openid(&self) -> Result<&OpenId, Error> {
        self.openid
            .as_ref()
            .ok_or_else(|| Error::config("the client does not log in by OpenID"))
    }

    /// The address to which the user's browser has to go to log in.
    pub(crate) async fn openid_url<L: Login>(&self, login: &Arc<L>) -> Result<String, Error> {
        let openid = self.openid()?;
        let call = form(
            &OPENID_URL,
            [
                ("realm", &openid.realm),
                ("redirect-url", &openid.redirect_url),
            ],
        );
        match Arc::clone(login).post(call).await? {
            Value::String(url) => Ok(url),
            _ => Err(Error::decode(
                format!("{OPENID_URL}").into(),
                DecodeError::new("data", "expected a URL, found none"),
            )),
        }
    }

    /// Completes a login by OpenID with the values that the browser brought back.
    pub(crate) async fn openid_login<L: Login>(
        &self,
        login: &Arc<L>,
        state: &Secret,
        code: &Secret,
    ) -> Result<(), Error> {
        let openid = self.openid()?;
        let call = form(
            &OPENID_LOGIN,
            [
                ("state", state.expose()),
                ("code", code.expose()),
                ("redirect-url", &openid.redirect_url),
            ],
        );
        let with = Arc::clone(login);
        let work = async move {
            let auth = with.auth();
            let data = auth.refusal(Arc::clone(&with).post(call).await)?;
            let session = auth.session(&data)?;
            let user = data.get("username").and_then(Value::as_str);
            if let Some(user) = user.filter(|user| check_user(user).is_ok())
                && *auth.user.get_or_init(|| user.to_owned()) != user
            {
                return Err(Error::config(format!(
                    "{user} logged in, but the client is of {}",
                    auth.user().unwrap_or_default()
                )));
            }
            auth.keep(Arc::clone(&session));
            Ok(session)
        };
        self.run(Box::pin(work)).await.map(drop)
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.get().map(String::as_str)
    }

    /// A hint for a refusal that concerns the credentials.
    pub(crate) fn hint(&self, kind: ErrorKind) -> Option<String> {
        let user = self.user().unwrap_or_default();
        match (&self.way, kind) {
            (Credential::Nothing, ErrorKind::Unauthorized) => Some(
                "the client has no credentials: set an API token or a password, for example in PROXMOX_API_TOKEN".to_owned(),
            ),
            (Credential::Token { .. }, ErrorKind::Unauthorized) => Some(format!(
                "API token {user}: it does not exist, its secret is wrong, or it expired; the server does not distinguish these"
            )),
            (Credential::Token { .. }, ErrorKind::PermissionDenied) => Some(format!(
                "API token {user}: unless its privilege separation is off, it has only the rights given to the token itself"
            )),
            _ => None,
        }
    }

    pub(crate) fn has_password(&self) -> bool {
        let password = match &self.way {
            Credential::Session { password, .. } => password.as_ref(),
            _ => None,
        };
        password.is_some()
    }

    pub(crate) fn is_token(&self) -> bool {
        matches!(self.way, Credential::Token { .. })
    }

    /// Values that must not appear in any text.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        match &self.way {
            Credential::Nothing => None,
            Credential::Token { secret, .. } => Some(secret.expose()),
            Credential::Session { password, .. } => password.as_ref().map(Secret::expose),
        }
        .into_iter()
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        match &self.way {
            Credential::Session { state, .. } => {
                Some(state.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Credential::Nothing | Credential::Token { .. } => None,
        }
    }

    /// The headers for a request; waits for a login or the renewal of the ticket first where that is due.
    pub(crate) async fn authorize<L: Login>(
        &self,
        login: &Arc<L>,
        writes: bool,
    ) -> Result<AuthHeaders, Error> {
        let source = match &self.way {
            Credential::Nothing => return Ok(AuthHeaders::default()),
            Credential::Token { header, .. } => {
                return Ok(AuthHeaders {
                    headers: vec![("Authorization", header.clone())],
                    session: None,
                });
            }
            Credential::Session { password, state } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                self.source(&mut state, login, password.as_ref())?
            }
        };
        let session = match source {
            Source::Session(session) => session,
            Source::Login(running) => running.await?,
        };
        Ok(grant(session, writes))
    }

    /// New headers after the server refused those of `old`; `None` if there is no way to get any.
    pub(crate) async fn replace<L: Login>(
        &self,
        login: &Arc<L>,
        old: &Arc<Session>,
        writes: bool,
    ) -> Result<Option<AuthHeaders>, Error> {
        let Credential::Session {
            password: Some(password),
            state,
        } = &self.way
        else {
            return Ok(None);
        };
        let source = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match &state.session {
                Some(current) if !Arc::ptr_eq(current, old) => Source::Session(Arc::clone(current)),
                _ => {
                    state.session = None;
                    self.join_login(&mut state, login, password)?
                }
            }
        };
        let session = match source {
            Source::Session(session) => session,
            Source::Login(running) => running.await?,
        };
        Ok(Some(grant(session, writes)))
    }

    /// Logs in now, whether or not there is a ticket.
    pub(crate) async fn log_in_now<L: Login>(&self, login: &Arc<L>) -> Result<(), Error> {
        let Credential::Session {
            password: Some(password),
            state,
        } = &self.way
        else {
            return Ok(());
        };
        let source = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.refusal = None;
            self.join_login(&mut state, login, password)?
        };
        match source {
            Source::Session(_) => Ok(()),
            Source::Login(running) => running.await.map(drop),
        }
    }

    /// Completes a login that asked for a second factor.
    pub(crate) async fn answer<L: Login>(
        &self,
        login: &Arc<L>,
        challenge: &TfaChallenge,
        answer: &Secret,
    ) -> Result<(), Error> {
        if !matches!(self.way, Credential::Session { .. }) {
            return Err(Error::config(
                "only a password login can need a second factor",
            ));
        }
        let (with, challenge, answer) = (Arc::clone(login), challenge.clone(), answer.clone());
        let work = async move {
            let session = respond(&with, &challenge, &answer).await?;
            with.auth().keep(Arc::clone(&session));
            Ok(session)
        };
        self.run(Box::pin(work)).await.map(drop)
    }

    /// Calls the handler for the second factor, and sends its answer to the server.
    async fn second_factor<L: Login>(
        &self,
        login: &Arc<L>,
        challenge: &TfaChallenge,
        handler: &Handler,
    ) -> Result<Arc<Session>, Error> {
        match handler.ask(challenge).await {
            Ok(answer) => respond(login, challenge, &answer.into()).await,
            Err(problem) => {
                let kind = AuthErrorKind::NoAnswer {
                    challenge: challenge.clone(),
                    problem,
                };
                Err(self.error(kind).into())
            }
        }
    }

    /// The current session, or the login to wait for.
    fn source<L: Login>(
        &self,
        state: &mut State,
        login: &Arc<L>,
        password: Option<&Secret>,
    ) -> Result<Source, Error> {
        let Some(session) = state.session.clone() else {
            return match (running(state), password) {
                (Some(running), _) => Ok(Source::Login(running)),
                (None, Some(password)) => self.join_login(state, login, password),
                (None, None) if self.openid.is_some() && self.user().is_none() => {
                    Err(self.error(AuthErrorKind::NotYet).into())
                }
                (None, None) => Err(self.error(AuthErrorKind::Expired).into()),
            };
        };
        let now = (self.clock)();
        let age = now.duration_since(session.obtained).unwrap_or_default();
        let lives = age < LIFETIME;
        if age < RENEW_AFTER || (lives && state.pause.is_some_and(|until| now < until)) {
            return Ok(Source::Session(session));
        }
        let renewal = match running(state) {
            Some(running) => running,
            None => {
                let work = renew(Arc::clone(login), Arc::clone(&session), lives);
                start(state, Box::pin(work))
            }
        };
        // While the ticket is valid, calls do not wait for a renewal in progress.
        match lives && tokio::runtime::Handle::try_current().is_ok() {
            true => Ok(Source::Session(session)),
            false => Ok(Source::Login(renewal)),
        }
    }

    /// The running login with the password, or a new one.
    fn join_login<L: Login>(
        &self,
        state: &mut State,
        login: &Arc<L>,
        password: &Secret,
    ) -> Result<Source, Error> {
        if let Some(running) = running(state) {
            return Ok(Source::Login(running));
        }
        let now = (self.clock)();
        if let Some(refusal) = state.refusal.as_ref().filter(|refusal| refusal.counts(now)) {
            return Err(refusal.error.clone().into());
        }
        let work = log_in(Arc::clone(login), password.clone());
        Ok(Source::Login(start(state, Box::pin(work))))
    }

    /// Runs a login that the caller requested; other calls wait for it.
    async fn run(&self, work: Running) -> Result<Arc<Session>, Error> {
        let running = match self.state() {
            Some(mut state) => start(&mut state, work),
            None => return work.await,
        };
        running.await
    }

    /// Makes this the current session.
    fn keep(&self, session: Arc<Session>) {
        if let Some(mut state) = self.state() {
            *state = State {
                session: Some(session),
                running: state.running.take(),
                ..State::default()
            };
        }
    }

    /// Tells "wrong password" from other failures of a login.
    fn refusal(&self, answer: Result<Value, Error>) -> Result<Value, Error> {
        match answer {
            Err(Error::Api(error)) if error.status() == 401 => {
                Err(self.error(AuthErrorKind::Refused(error)).into())
            }
            other => other,
        }
    }

    fn session(&self, data: &Value) -> Result<Arc<Session>, Error> {
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(Secret::from);
        let Some(ticket) = text("ticket") else {
            return Err(self.error(AuthErrorKind::NoTicket).into());
        };
        for key in ["ticket", "username", PVE.csrf] {
            if text(key).is_some_and(|text| text.expose().len() > MAX_TICKET) {
                let path = format!("data.{key}");
                let problem = format!("a ticket has {MAX_TICKET} bytes at most");
                let error = DecodeError::new(&path, problem);
                return Err(Error::decode(format!("{LOG_IN}").into(), error));
            }
        }
        let asks = data.get("NeedTFA").is_some_and(|asks| {
            !matches!(asks, Value::Null | Value::Bool(false))
                && asks != 0
                && asks != "0"
                && asks != ""
        });
        if asks || ticket.expose().starts_with(PVE.challenge) {
            let user = text("username");
            let user = user
                .as_ref()
                .map(Secret::expose)
                .or(self.user())
                .unwrap_or_default();
            let parts = Challenge {
                user: user.to_owned(),
                ticket,
            };
            let challenge = TfaChallenge(Arc::new(parts));
            return Err(self.error(AuthErrorKind::SecondFactor(challenge)).into());
        }
        let csrf = text(PVE.csrf);
        Ok(Arc::new(Session {
            ticket,
            csrf,
            obtained: (self.clock)(),
        }))
    }

    fn error(&self, kind: AuthErrorKind) -> AuthError {
        AuthError::new(self.user().unwrap_or_default(), kind)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Credential::Nothing => "nobody",
            Credential::Token { .. } => "API token",
            Credential::Session { .. } => "ticket",
        };
        write!(f, "{way} {}", self.user().unwrap_or_default())
    }
}

/// The login under way, if there is one.
fn running(state: &State) -> Option<Shared<Running>> {
    let running = state.running.as_ref()?.upgrade()?;
    // A waiting call drives it to its end, and its result is then in the state.
    running.peek().is_none().then_some(running)
}

/// Starts a login. It belongs to the client: on a runtime it continues even if all waiting calls
/// are dropped; without a runtime the next call that needs it continues it.
fn start(state: &mut State, work: Running) -> Shared<Running> {
    let running = work.shared();
    state.running = running.downgrade();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(running.clone().map(drop));
    }
    running
}

async fn log_in<L: Login>(login: Arc<L>, password: Secret) -> Result<Arc<Session>, Error> {
    let auth = login.auth();
    let user = auth.user().unwrap_or_default();
    let mut call = form(
        &LOG_IN,
        [("username", user), ("password", password.expose())],
    );
    // A second ticket has no side effects.
    call.repeatable = true;
    let began = ((auth.clock)(), Instant::now());
    let answer = Arc::clone(&login).post(call).await;
    let mut session = auth.refusal(answer).and_then(|data| auth.session(&data));
    if let (Err(Error::Auth(error)), Some(handler)) = (&session, &auth.handler)
        && let AuthErrorKind::SecondFactor(challenge) = error.reason()
    {
        let challenge = challenge.clone();
        session = auth.second_factor(&login, &challenge, handler).await;
    }
    match &session {
        Ok(session) => auth.keep(Arc::clone(session)),
        Err(Error::Auth(error)) => {
            if let Some(mut state) = auth.state() {
                state.refusal = Some(Refusal {
                    when: began,
                    error: error.clone(),
                });
            }
        }
        Err(_) => {}
    }
    session
}

/// Gets a new ticket for an old one; `lives` says whether the old one is still valid meanwhile.
async fn renew<L: Login>(
    login: Arc<L>,
    session: Arc<Session>,
    lives: bool,
) -> Result<Arc<Session>, Error> {
    let auth = login.auth();
    // The old ticket is sent as the password, so the server asks for no second factor.
    let user = auth.user().unwrap_or_default();
    let mut call = form(
        &LOG_IN,
        [("username", user), ("password", session.ticket.expose())],
    );
    call.repeatable = true;
    let answer = Arc::clone(&login).post(call).await;
    let error = match answer.and_then(|data| auth.session(&data)) {
        Ok(session) => {
            auth.keep(Arc::clone(&session));
            return Ok(session);
        }
        Err(error) => error,
    };
    if error.kind() == Some(ErrorKind::Unauthorized) {
        if let Some(mut state) = auth.state() {
            state.session = None;
        }
        return match &auth.way {
            Credential::Session {
                password: Some(password),
                ..
            } => log_in(Arc::clone(&login), password.clone()).await,
            _ => Err(auth.error(AuthErrorKind::Expired).into()),
        };
    }
    match lives {
        true => {
            if let Some(mut state) = auth.state() {
                state.pause = (auth.clock)().checked_add(RENEW_AGAIN);
            }
            Ok(session)
        }
        false => Err(error),
    }
}

/// Answers the challenge for a second factor. A code is valid once only, so the call is not
/// repeated.
async fn respond<L: Login>(
    login: &Arc<L>,
    challenge: &TfaChallenge,
    answer: &Secret,
) -> Result<Arc<Session>, Error> {
    let call = form(
        &LOG_IN,
        [
            ("username", &*challenge.0.user),
            ("tfa-challenge", challenge.0.ticket.expose()),
            ("password", answer.expose()),
        ],
    );
    let auth = login.auth();
    let data = auth.refusal(Arc::clone(login).post(call).await)?;
    auth.session(&data)
}

fn grant(session: Arc<Session>, writes: bool) -> AuthHeaders {
    let ticket = utf8_percent_encode(session.ticket.expose(), HEADER_ESCAPES);
    let cookie = format!("{}={ticket}", PVE.cookie);
    let mut headers = vec![("Cookie", Secret::new(cookie))];
    if let (true, Some(csrf)) = (writes, &session.csrf) {
        headers.push((PVE.csrf, csrf.clone()));
    }
    AuthHeaders {
        headers,
        session: Some(session),
    }
}

fn form<const N: usize>(endpoint: &'static Endpoint, pairs: [(&'static str, &str); N]) -> Call {
    let mut call = Call::new(endpoint.method, endpoint.path);
    call.endpoint = Some(endpoint);
    for (key, value) in pairs {
        call.params.set(key, ParamValue::One(value.to_owned()));
    }
    call
}

#[cfg(test)]
mod tests;
