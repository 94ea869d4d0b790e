//! Who the client is to the server: an API token, or a ticket that it renews (wire protocol §7).

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::value::Secret;
use crate::value::encode::{ParamValue, Params};

mod failure;
mod saved;
mod second_factor;
mod texts;
mod token;

use failure::Challenge;
pub use failure::{AuthError, AuthErrorKind, TfaChallenge};
pub use saved::{SavedSession, SavedSessionError};
pub(crate) use second_factor::Handler;
pub use second_factor::TfaAnswer;
pub(crate) use texts::read_redirect;
use texts::{check_login, check_user, read_ticket};
pub use token::{ApiToken, ApiTokenError};

/// Tells the time; see [`ClientBuilder::clock`](crate::ClientBuilder::clock).
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A ticket is good for two hours; renewing it after one leaves room for a server that is away.
const RENEW_AFTER: Duration = Duration::from_secs(60 * 60);
const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// How long to go on with the old ticket after renewing it failed.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// How long a refused password is not tried again: each try costs the server, and may lock the account.
const REFUSAL_COUNTS: Duration = Duration::from_secs(30);

/// What a cookie or the Authorization field cannot hold as it is. The server percent-decodes both.
const HEADER_ESCAPES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'\\');

/// What the user gave to log in with.
#[derive(Clone, Debug, Default)]
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

/// Where the user logs in, and where the browser goes then.
#[derive(Clone, Debug)]
pub(crate) struct OpenId {
    pub(crate) realm: String,
    pub(crate) redirect_url: String,
}

const TICKET: &str = "/access/ticket";
const OPENID_URL: &str = "/access/openid/auth-url";
const OPENID_LOGIN: &str = "/access/openid/login";

/// What goes with a request, and which session it came from.
#[derive(Clone, Default)]
pub(crate) struct Grant {
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
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.ticket)
            .chain(&self.csrf)
            .map(Secret::expose)
    }
}

/// Sends a login form; implemented by the client, so that this module needs no transport.
pub(crate) trait Login: Sync {
    /// Posts to a path that is open to everybody and gives the answer's `data`.
    fn post<'a>(
        &'a self,
        path: &'static str,
        form: Params,
        secrets: Vec<Secret>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Value, Error>> + Send + 'a>>;
}

pub(crate) struct Auth {
    /// With OpenID it is the server that says who logged in.
    user: OnceLock<String>,
    way: Way,
    openid: Option<OpenId>,
    handler: Option<Handler>,
    clock: Clock,
}

enum Way {
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
    /// Not before this time is renewing tried again.
    pause: Option<SystemTime>,
    refusal: Option<(SystemTime, AuthError)>,
}

fn settings(error: ApiTokenError) -> Error {
    Error::config(error.to_string())
}

impl Way {
    /// The id, and what goes with each request.
    fn token(token: &ApiToken) -> (String, Self) {
        let text = format!("{}={}", token.id(), token.secret().expose());
        let header = Secret::new(format!(
            "PVEAPIToken={}",
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
            Credentials::None if saved.is_some() => (None, Way::session(None)),
            Credentials::OpenId(settings) => {
                openid = Some(settings);
                (None, Way::session(None))
            }
            Credentials::None => (None, Way::Nothing),
            Credentials::Token { id, secret } => {
                let (id, way) = Way::token(&ApiToken::new(id, secret).map_err(settings)?);
                (Some(id), way)
            }
            Credentials::TokenText(text) => {
                let token = text.expose().parse().map_err(settings)?;
                let (id, way) = Way::token(&token);
                (Some(id), way)
            }
            Credentials::Password { user, password } => {
                check_login(&user)?;
                if password.expose().is_empty() {
                    return Err(Error::config(format!("the password of {user} is empty")));
                }
                (Some(user), Way::session(Some(password)))
            }
            Credentials::Ticket { ticket, csrf } => {
                let (user, issued) = read_ticket(ticket.expose()).ok_or_else(|| {
                    Error::config("the ticket does not have the form of a Proxmox VE ticket")
                })?;
                // Its age counts by the server's clock, which may be ahead of ours.
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
                    Way::Session {
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
            Way::Session { state, .. } => state.get_mut(),
            Way::Nothing | Way::Token { .. } => {
                return Err(Error::config("an API token has no session to go on with"));
            }
        };
        if state.session.is_some() {
            return Err(Error::config(
                "a ticket and a saved session were given; one is enough",
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

    /// The session to go on with later, if there is one.
    pub(crate) async fn save(&self) -> Option<SavedSession> {
        let Way::Session { state, .. } = &self.way else {
            return None;
        };
        let session = state.lock().await.session.clone()?;
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

    /// Where the user has to go to log in.
    pub(crate) async fn openid_url(&self, login: &dyn Login) -> Result<String, Error> {
        let openid = self.openid()?;
        let form = form([
            ("realm", &openid.realm),
            ("redirect-url", &openid.redirect_url),
        ]);
        match login.post(OPENID_URL, form, Vec::new()).await? {
            Value::String(url) => Ok(url),
            _ => Err(Error::decode(
                format!("POST {OPENID_URL}").into(),
                crate::value::decode::DecodeError::new("data", "expected a URL, found none"),
            )),
        }
    }

    /// Completes a login by OpenID with what the browser brought back.
    pub(crate) async fn openid_login(
        &self,
        login: &dyn Login,
        state: &Secret,
        code: &Secret,
    ) -> Result<(), Error> {
        let openid = self.openid()?;
        let Way::Session { state: own, .. } = &self.way else {
            return Err(Error::config("the client does not log in by OpenID"));
        };
        let form = form([
            ("state", state.expose()),
            ("code", code.expose()),
            ("redirect-url", &openid.redirect_url),
        ]);
        let mut own = own.lock().await;
        let answer = login.post(OPENID_LOGIN, form, vec![state.clone(), code.clone()]);
        let data = self.refusal(answer.await)?;
        let session = self.session(&data)?;
        let user = data.get("username").and_then(Value::as_str);
        if let Some(user) = user.filter(|user| check_user(user).is_ok())
            && *self.user.get_or_init(|| user.to_owned()) != user
        {
            return Err(Error::config(format!(
                "{user} logged in, but the client is of {}",
                self.user().unwrap_or_default()
            )));
        }
        own.session = Some(session);
        own.pause = None;
        Ok(())
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.get().map(String::as_str)
    }

    pub(crate) fn is_token(&self) -> bool {
        matches!(self.way, Way::Token { .. })
    }

    /// Values that must not appear in any text.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        match &self.way {
            Way::Nothing => None,
            Way::Token { secret, .. } => Some(secret.expose()),
            Way::Session { password, .. } => password.as_ref().map(Secret::expose),
        }
        .into_iter()
    }

    /// The headers for a request; logs in or renews the ticket first where that is due.
    pub(crate) async fn authorize(&self, login: &dyn Login, writes: bool) -> Result<Grant, Error> {
        match &self.way {
            Way::Nothing => Ok(Grant::default()),
            Way::Token { header, .. } => Ok(Grant {
                headers: vec![("Authorization", header.clone())],
                session: None,
            }),
            Way::Session { password, state } => {
                // Held while logging in, so that everybody else waits for the one who does.
                let mut state = state.lock().await;
                let session = self.fresh(&mut state, login, password.as_ref()).await?;
                Ok(grant(session, writes))
            }
        }
    }

    /// New headers after the server refused those of `old`; `None` if there is no way to get any.
    pub(crate) async fn replace(
        &self,
        login: &dyn Login,
        old: &Arc<Session>,
        writes: bool,
    ) -> Result<Option<Grant>, Error> {
        let Way::Session {
            password: Some(password),
            state,
        } = &self.way
        else {
            return Ok(None);
        };
        let mut state = state.lock().await;
        let replaced = state
            .session
            .as_ref()
            .filter(|current| !Arc::ptr_eq(current, old))
            .cloned();
        let session = match replaced {
            Some(session) => session,
            None => {
                state.session = None;
                self.log_in(&mut state, login, password).await?
            }
        };
        Ok(Some(grant(session, writes)))
    }

    /// Logs in now, whether or not there is a ticket.
    pub(crate) async fn log_in_now(&self, login: &dyn Login) -> Result<(), Error> {
        match &self.way {
            Way::Session {
                password: Some(password),
                state,
            } => {
                let mut state = state.lock().await;
                state.refusal = None;
                self.log_in(&mut state, login, password).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Completes a login that asked for a second factor.
    pub(crate) async fn answer(
        &self,
        login: &dyn Login,
        challenge: &TfaChallenge,
        answer: &Secret,
    ) -> Result<(), Error> {
        let Way::Session { state, .. } = &self.way else {
            return Err(Error::config(
                "only a login with a password can be asked for a second factor",
            ));
        };
        let mut state = state.lock().await;
        state.session = Some(self.respond(login, challenge, answer).await?);
        state.refusal = None;
        Ok(())
    }

    async fn respond(
        &self,
        login: &dyn Login,
        challenge: &TfaChallenge,
        answer: &Secret,
    ) -> Result<Arc<Session>, Error> {
        let ticket = challenge.0.ticket.expose();
        let form = form([
            ("username", &challenge.0.user),
            ("tfa-challenge", ticket),
            ("password", answer.expose()),
        ]);
        let secrets = vec![challenge.0.ticket.clone(), answer.clone()];
        let data = self.refusal(login.post(TICKET, form, secrets).await)?;
        self.session(&data)
    }

    /// Asks whoever the caller named for the second factor, and the server whether it is the right one.
    async fn second_factor(
        &self,
        login: &dyn Login,
        challenge: &TfaChallenge,
        handler: &Handler,
    ) -> Result<Arc<Session>, Error> {
        match handler.ask(challenge).await {
            Ok(answer) => self.respond(login, challenge, &answer.into()).await,
            Err(problem) => {
                let kind = AuthErrorKind::NoAnswer {
                    challenge: challenge.clone(),
                    problem,
                };
                Err(self.error(kind).into())
            }
        }
    }

    async fn fresh(
        &self,
        state: &mut State,
        login: &dyn Login,
        password: Option<&Secret>,
    ) -> Result<Arc<Session>, Error> {
        let Some(session) = state.session.clone() else {
            return match password {
                Some(password) => self.log_in(state, login, password).await,
                None if self.openid.is_some() && self.user().is_none() => {
                    Err(self.error(AuthErrorKind::NotYet).into())
                }
                None => Err(self.error(AuthErrorKind::Expired).into()),
            };
        };
        let now = (self.clock)();
        let age = now.duration_since(session.obtained).unwrap_or_default();
        if age < RENEW_AFTER || (age < LIFETIME && state.pause.is_some_and(|until| now < until)) {
            return Ok(session);
        }
        // A ticket stands in for the password, so that no second factor is asked for.
        let user = self.user().unwrap_or_default();
        let form = form([("username", user), ("password", session.ticket.expose())]);
        let secrets = vec![session.ticket.clone()];
        let answer = login.post(TICKET, form, secrets).await;
        match answer.and_then(|data| self.session(&data)) {
            Ok(session) => {
                state.session = Some(session.clone());
                state.pause = None;
                Ok(session)
            }
            Err(error) if error.kind() == Some(ErrorKind::Unauthorized) => match password {
                Some(password) => {
                    state.session = None;
                    self.log_in(state, login, password).await
                }
                None => {
                    state.session = None;
                    Err(self.error(AuthErrorKind::Expired).into())
                }
            },
            Err(_) if age < LIFETIME => {
                state.pause = Some(now + RENEW_AGAIN);
                Ok(session)
            }
            Err(error) => Err(error),
        }
    }

    async fn log_in(
        &self,
        state: &mut State,
        login: &dyn Login,
        password: &Secret,
    ) -> Result<Arc<Session>, Error> {
        let now = (self.clock)();
        if let Some((when, refusal)) = &state.refusal {
            // A clock that was set back must not prolong this.
            if now
                .duration_since(*when)
                .is_ok_and(|age| age < REFUSAL_COUNTS)
            {
                return Err(refusal.clone().into());
            }
        }
        let user = self.user().unwrap_or_default();
        let form = form([("username", user), ("password", password.expose())]);
        let answer = login.post(TICKET, form, vec![password.clone()]).await;
        let mut session = self.refusal(answer).and_then(|data| self.session(&data));
        if let (Err(Error::Auth(error)), Some(handler)) = (&session, &self.handler)
            && let AuthErrorKind::SecondFactor(challenge) = error.reason()
        {
            let challenge = challenge.clone();
            session = self.second_factor(login, &challenge, handler).await;
        }
        match session {
            Ok(session) => {
                *state = State {
                    session: Some(session.clone()),
                    ..State::default()
                };
                Ok(session)
            }
            Err(error) => {
                if let Error::Auth(refusal) = &error {
                    state.refusal = Some((now, refusal.clone()));
                }
                Err(error)
            }
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
        let asks = data.get("NeedTFA").is_some_and(|asks| {
            !matches!(asks, Value::Null | Value::Bool(false))
                && asks != 0
                && asks != "0"
                && asks != ""
        });
        if asks || ticket.expose().starts_with("PVE:!tfa!") {
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
        let csrf = text("CSRFPreventionToken");
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
            Way::Nothing => "nobody",
            Way::Token { .. } => "API token",
            Way::Session { .. } => "ticket",
        };
        write!(f, "{way} {}", self.user().unwrap_or_default())
    }
}

fn grant(session: Arc<Session>, writes: bool) -> Grant {
    let ticket = utf8_percent_encode(session.ticket.expose(), HEADER_ESCAPES);
    let mut headers = vec![("Cookie", Secret::new(format!("PVEAuthCookie={ticket}")))];
    if let (true, Some(csrf)) = (writes, &session.csrf) {
        headers.push(("CSRFPreventionToken", csrf.clone()));
    }
    Grant {
        headers,
        session: Some(session),
    }
}

fn form<const N: usize>(pairs: [(&'static str, &str); N]) -> Params {
    let mut form = Params::default();
    for (key, value) in pairs {
        form.set(key, ParamValue::One(value.to_owned()));
    }
    form
}

#[cfg(test)]
mod tests;
