//! The driver of all requests: typed calls, streams, uploads, downloads, consoles, logins and
//! files.
//!
//! All of them share checks, login, limits, deadline, hosts, retry decisions and the span. They
//! differ in how one exchange is made, which is an [`Exchange`].

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Call, Scope};
use super::reply::{KeptSecrets, Reply, accept};
use super::rules::{
    check_path, check_query, is_page, is_unauthenticated, place, refuses_session, with_auth_headers,
};
use super::state::{Client, Inner};
use crate::bounds::{Bound, Bounds, Exceeded, is_deeper};
use crate::client::auth::{AuthHeaders, Session};
use crate::client::availability;
use crate::client::hosts::{Host, node_of};
use crate::client::limit::NotAdmitted;
use crate::client::retry::{Outcome, Repetition, retry_delay};
use crate::client::trace::Trace;
use crate::error::api::{ApiError, ErrorKind};
use crate::error::{CallId, Error, RequestErrorKind, WaitingFor};
#[cfg(feature = "console")]
use crate::transport::Duplex;
use crate::transport::{
    OpenResponse, TimeLimit, Transport, TransportError, WireRequest, WireResponse,
};
use crate::value::BoxFuture;
use crate::value::Secret;
use crate::value::decode::DecodeError;
use crate::value::encode::Params;
use crate::value::endpoint::{Endpoint, Method, Release};
use crate::value::product::PVE;

/// The server refuses a longer body, and closes the connection while the body may still be on its
/// way ([wire protocol §2](crate::guide::wire_protocol)).
pub(super) const BODY_LIMIT: usize = 512 * 1024;
/// The limit before [`WITH_LARGE_BODIES`].
pub(super) const OLD_BODY_LIMIT: usize = 64 * 1024;
const WITH_LARGE_BODIES: Release = Release::new(8, 4);

/// The result of an exchange.
pub(crate) enum Received {
    Whole(WireResponse),
    /// An accepted answer whose body is still arriving.
    Open(OpenResponse),
    /// A connection that has switched protocols, and the answer that says so.
    #[cfg(feature = "console")]
    Switched(WireResponse, Box<dyn Duplex>),
}

impl Received {
    fn head(&self) -> &WireResponse {
        match self {
            Self::Whole(answer) => answer,
            #[cfg(feature = "console")]
            Self::Switched(answer, _) => answer,
            Self::Open(answer) => answer.head(),
        }
    }
}

/// The reason why an exchange has no result.
pub(crate) enum Failed {
    Transport(TransportError),
    /// A local failure, which another attempt would not change.
    Here(Error),
}

impl From<TransportError> for Failed {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

pub(crate) type Exchanged<'a> = BoxFuture<'a, Result<Received, Failed>>;

/// How one exchange is made. It may be made several times.
pub(crate) trait Exchange: Send {
    fn send<'a>(&'a mut self, transport: &'a dyn Transport, request: WireRequest) -> Exchanged<'a>;

    /// Whether it can be made again at all.
    fn can_repeat(&self) -> bool {
        true
    }

    /// Whether it streams a body, so that the call's time limit does not cover it.
    fn flows(&self) -> bool {
        false
    }
}

/// One request, one answer.
pub(crate) struct Plain;

impl Exchange for Plain {
    fn send<'a>(&'a mut self, transport: &'a dyn Transport, request: WireRequest) -> Exchanged<'a> {
        Box::pin(async move { Ok(Received::Whole(transport.send(request).await?)) })
    }
}

/// The result of a call, and the server it came from.
pub(crate) struct Delivery {
    pub(crate) delivered: Delivered,
    pub(crate) origin: String,
}

pub(crate) enum Delivered {
    Reply(Reply),
    Open(OpenResponse),
    #[cfg(feature = "console")]
    Switched(WireResponse, Box<dyn Duplex>),
}

impl Client {
    /// Sends a call and returns the result of the accepted answer.
    pub(crate) fn deliver<'a>(
        &'a self,
        name: &'a CallId,
        call: &'a Call,
        exchange: &'a mut dyn Exchange,
    ) -> BoxFuture<'a, Result<Delivery, Error>> {
        Box::pin(async move {
            let template = call.endpoint.map_or(&*call.path, |endpoint| endpoint.path);
            let template = template.split('?').next().unwrap_or_default();
            let trace = Trace::new(call.method, template, name);
            let mut sender = Sender {
                inner: &self.0,
                name,
                call,
                trace: &trace,
                deadline: Deadline::after(self.0.timeout),
            };
            trace.around(sender.run(exchange)).await
        })
    }

    /// A server's text without the secrets of a call and of the client.
    pub(crate) fn without_secrets(&self, call: &KeptSecrets, text: String) -> String {
        let call = call.iter().flat_map(|kept| kept.iter());
        let clean = match self.0.scrubber(call.map(Secret::expose)).text(&text) {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => None,
        };
        clean.unwrap_or(text)
    }

    /// The error for an answer that did not decode. Its path consists of names that the server
    /// chose.
    pub(crate) fn undecodable(
        &self,
        name: CallId,
        call: &KeptSecrets,
        error: DecodeError,
    ) -> Error {
        Error::decode(name, error.each(|text| self.without_secrets(call, text)))
    }

    /// Sends a call that is one request and one answer.
    pub(crate) async fn reply(&self, name: &CallId, call: &Call) -> Result<Reply, Error> {
        match self.deliver(name, call, &mut Plain).await?.delivered {
            Delivered::Reply(reply) => Ok(reply),
            _ => Err(Error::config(
                "the transport returned a stream instead of an answer",
            )),
        }
    }

    pub(crate) fn execute(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        self.execute_as(self.call_id(&call), call)
    }

    pub(crate) fn execute_as(
        &self,
        name: CallId,
        call: Call,
    ) -> BoxFuture<'static, Result<Reply, Error>> {
        let client = self.clone();
        Box::pin(async move { client.reply(&name, &call).await })
    }
}

/// The time limit of a call, and its deadline.
#[derive(Clone, Copy)]
struct Deadline {
    timeout: Option<Duration>,
    at: Option<Instant>,
}

impl Deadline {
    fn after(timeout: Option<Duration>) -> Self {
        let at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { timeout, at }
    }

    /// The result of the work, or `None` if it takes too long.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.at {
            Some(at) => tokio::time::timeout_at(at, work).await.ok(),
            None => Some(work.await),
        }
    }

    fn left(&self) -> Option<Duration> {
        let at = self.at?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}

/// The host of an attempt, its outcome, and the hosts before it to which no connection was made.
struct Attempt {
    host: Arc<Host>,
    outcome: Result<Received, TransportError>,
    unreached: Vec<(String, TransportError)>,
}

struct Sender<'a> {
    inner: &'a Arc<Inner>,
    name: &'a CallId,
    call: &'a Call,
    trace: &'a Trace,
    deadline: Deadline,
}

impl Sender<'_> {
    async fn run(&mut self, exchange: &mut dyn Exchange) -> Result<Delivery, Error> {
        let (inner, call) = (self.inner, self.call);
        let open = call.scope == Scope::Outside || is_unauthenticated(call.method, &call.path);
        let request = self.prepare(open).await?;
        // Unauthenticated endpoints get no headers: an expired ticket or token would make them
        // fail.
        let mut grant = AuthHeaders::default();
        if !open {
            let granted = inner.auth.authorize(inner, call.method != Method::Get);
            grant = self.logged_in(granted).await?;
        }
        let mut renewed = false;
        loop {
            let (received, origin) = self
                .attempts(with_auth_headers(&request, &grant), exchange)
                .await?;
            let answer = match received {
                #[cfg(feature = "console")]
                Received::Switched(head, connection) => {
                    let delivered = Delivered::Switched(head, connection);
                    return Ok(Delivery { delivered, origin });
                }
                Received::Open(answer) => {
                    self.check_response(answer.head().clone(), grant.session.as_deref())?;
                    let delivered = Delivered::Open(answer);
                    return Ok(Delivery { delivered, origin });
                }
                Received::Whole(answer) => answer,
            };
            let refused = grant.session.clone().filter(|_| refuses_session(&answer));
            let mut expired = false;
            if let Some(refused) = refused.filter(|_| !renewed) {
                renewed = true;
                let writes = call.method != Method::Get;
                let replaced = match exchange.can_repeat() {
                    true => {
                        self.logged_in(inner.auth.replace(inner, &refused, writes))
                            .await?
                    }
                    false => None,
                };
                if let Some(replaced) = replaced {
                    grant = replaced;
                    continue;
                }
                // The server refused a recent ticket that the client was given for another reason;
                // a ticket of its own login was valid before.
                expired = inner.auth.has_password() || refused.is_over((inner.clock)());
            }
            let reply = match self.check_response(answer, grant.session.as_deref()) {
                Err(Error::Api(error)) if expired && error.kind() == ErrorKind::Unauthorized => {
                    return Err(error.with_kind(ErrorKind::TicketExpired).into());
                }
                judged => judged?,
            };
            let depth = inner.bounds.depth;
            if depth < Bounds::new().depth && !self.is_file() && is_deeper(&reply.body, depth) {
                let exceeded = Exceeded::new(Bound::Depth, depth);
                return Err(Error::exceeded(self.name, exceeded));
            }
            self.note_release(&reply);
            let delivered = Delivered::Reply(reply);
            return Ok(Delivery { delivered, origin });
        }
    }

    /// Makes all checks that need no server, and writes the request, without a host.
    async fn prepare(&self, open: bool) -> Result<WireRequest, Error> {
        let (inner, call) = (self.inner, self.call);
        let refuse = |kind| Err(Error::request(self.name, kind));
        if let Some(reason) = call.reason_against(inner.checks_parameters) {
            return refuse(reason.clone());
        }
        let checked = match call.scope {
            Scope::Api => check_path(&call.path),
            Scope::Outside => check_query(&call.path),
        };
        if let Err(problem) = checked {
            return refuse(RequestErrorKind::Path { problem });
        }
        let renamed = match open {
            true => None,
            false => self.renamed().await?,
        };
        let params = renamed.as_ref().unwrap_or(&call.params);
        let request = match call.scope {
            Scope::Api => inner.compose(call.method, &format!("{}{}", PVE.api, call.path), params),
            Scope::Outside => inner.compose(call.method, &call.path, params),
        };
        if !open {
            if inner.refuses_token(call) {
                return refuse(RequestErrorKind::NeedsTicket);
            }
            if inner.checks {
                self.check_release(&request).await?;
            }
        }
        let limit = match inner.release.get() {
            Some(release) if *release < WITH_LARGE_BODIES => OLD_BODY_LIMIT,
            _ => BODY_LIMIT,
        };
        let size = request.body.len();
        match size <= limit {
            true => Ok(request),
            false => refuse(RequestErrorKind::BodyTooLarge { size, limit }),
        }
    }

    /// The parameters by the names of the server's release, if those differ.
    async fn renamed(&self) -> Result<Option<Params>, Error> {
        let names = self.call.endpoint.map_or(&[][..], |known| known.renamed);
        let named = |old: &str| {
            let mut params = self.call.params.iter();
            params.any(|(name, value)| name == old || name == "delete" && value.lists(old))
        };
        if !names.iter().any(|renamed| named(renamed.old)) {
            return Ok(None);
        }
        let client = Client(Arc::clone(self.inner));
        let release = match self.deadline.within(client.server_release()).await {
            Some(release) => release?,
            None => return Err(self.too_late(WaitingFor::Release)),
        };
        let names = names.iter().filter(|renamed| release >= renamed.since);
        let mut params = self.call.params.clone();
        names.for_each(|renamed| params.rename(renamed.old, renamed.new));
        Ok(Some(params))
    }

    async fn check_release(&self, request: &WireRequest) -> Result<(), Error> {
        let client = Client(Arc::clone(self.inner));
        let check = async {
            client.check_call(self.name, self.call).await?;
            if request.body.len() > OLD_BODY_LIMIT {
                client.server_release().await?;
            }
            Ok(())
        };
        match self.deadline.within(check).await {
            Some(checked) => checked,
            None => Err(self.too_late(WaitingFor::Release)),
        }
    }

    /// Waits for a login, which belongs to the client and continues without this call.
    async fn logged_in<T>(
        &self,
        login: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut login = std::pin::pin!(login);
        // Usually there is nothing to wait for, and not every runtime has a timer.
        let once = poll_fn(|context| Poll::Ready(login.as_mut().poll(context)));
        let result = match once.await {
            Poll::Ready(result) => Some(result),
            Poll::Pending => self.deadline.within(login).await,
        };
        match result {
            Some(result) => result.map_err(|error| error.for_call(self.name)),
            None => Err(self.too_late(WaitingFor::Login)),
        }
    }

    fn too_late(&self, what: WaitingFor) -> Error {
        Error::late(self.name, self.deadline.timeout.unwrap_or_default(), what)
    }

    /// Sends a request to its host, to another host while no connection is made, and again where
    /// that is safe. Returns the answer and the host that sent it.
    async fn attempts(
        &mut self,
        request: WireRequest,
        exchange: &mut dyn Exchange,
    ) -> Result<(Received, String), Error> {
        let inner = self.inner;
        let node = node_of(&request.path);
        let start = Instant::now();
        let repeatable = self.call.is_repeatable();
        let mut hosts = inner.hosts.candidates(node.as_deref());
        let mut repetition: Option<Repetition> = None;
        let mut before: Option<Attempt> = None;
        for attempt in 1.. {
            let mut unreached = Vec::new();
            let mut tried: Option<Attempt> = None;
            for (i, host) in hosts.iter().enumerate() {
                let admitted =
                    (inner.limits).acquire(request.method, node.as_deref(), self.deadline.at);
                let permit = match admitted.await {
                    Ok(permit) => permit,
                    Err(why) => return self.not_admitted(why, unreached, before),
                };
                self.trace.waited(permit.waited);
                if let Some(repetition) = repetition.take() {
                    repetition.use_up();
                }
                let request = place(&request, &host.base);
                let outcome = self.exchange(request, exchange).await?;
                drop(permit);
                let head: Outcome<'_> = outcome.as_ref().map(Received::head);
                host.record(&head);
                let status = head.ok().map(|answer| answer.status);
                self.trace.attempt(&host.base.origin, attempt, status);
                let another = exchange.can_repeat() && i + 1 < hosts.len();
                match outcome {
                    Err(error) if error.is_never_sent() && another => {
                        unreached.push((host.base.origin.clone(), error));
                    }
                    outcome => {
                        tried = Some(Attempt {
                            host: Arc::clone(host),
                            outcome,
                            unreached: std::mem::take(&mut unreached),
                        });
                        break;
                    }
                }
            }
            // There is at least one host, and the last one always has an outcome.
            let Some(tried) = tried else { break };
            let head: Outcome<'_> = tried.outcome.as_ref().map(Received::head);
            if let Ok(answer) = head {
                inner.limits.observe(answer, (inner.clock)());
            }
            if !exchange.can_repeat() || retry_delay(&head, repeatable).is_none() {
                return self.finish(tried);
            }
            // Asking for the candidates may use up a host's turn to be tested, so only on demand.
            hosts = inner.hosts.candidates(node.as_deref());
            let elsewhere = (hosts.first()).is_some_and(|next| !Arc::ptr_eq(next, &tried.host));
            let (spent, left) = (start.elapsed(), self.deadline.left());
            let next = (inner.retries).next(&head, repeatable, attempt, spent, left, elsewhere);
            let Some(next) = next else {
                return self.finish(tried);
            };
            self.trace.again(next.pause, elsewhere);
            // Not every runtime has a timer.
            if !next.pause.is_zero() {
                tokio::time::sleep(next.pause).await;
            }
            repetition = Some(next);
            before = Some(tried);
        }
        Err(Error::config("the client has no host"))
    }

    /// One exchange with one host; an error if it failed on this side.
    async fn exchange(
        &mut self,
        mut request: WireRequest,
        exchange: &mut dyn Exchange,
    ) -> Result<Result<Received, TransportError>, Error> {
        let transport = &*self.inner.transport;
        let start = Instant::now();
        let limit = match exchange.flows() {
            true => None,
            false => self.limit(start),
        };
        request.limit = limit;
        let sent = exchange.send(transport, request);
        let outcome = match limit {
            // A transport that keeps the limit itself gives a better error; this is for one that
            // does not.
            Some(TimeLimit { at, duration }) => {
                match tokio::time::timeout_at(at.into(), sent).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(TransportError::timed_out(duration).into()),
                }
            }
            None => sent.await,
        };
        if exchange.flows() {
            let took = start.elapsed();
            self.deadline.at = self.deadline.at.and_then(|at| at.checked_add(took));
        }
        match outcome {
            Ok(received) => Ok(Ok(received)),
            Err(Failed::Transport(error)) => Ok(Err(error)),
            Err(Failed::Here(error)) => Err(error),
        }
    }

    /// The limit for one attempt: its own, or the remaining time of the call.
    fn limit(&self, now: Instant) -> Option<TimeLimit> {
        let call = (self.deadline.at).zip(self.deadline.timeout);
        let attempt = (self.inner.attempt_timeout)
            .and_then(|timeout| Some((now.checked_add(timeout)?, timeout)));
        let (at, duration) = match (call, attempt) {
            (Some(call), Some(attempt)) => call.min(attempt),
            (call, attempt) => call.or(attempt)?,
        };
        Some(TimeLimit {
            at: at.into_std(),
            duration,
        })
    }

    /// An earlier attempt says more than the lack of time for another one.
    fn not_admitted(
        &self,
        why: NotAdmitted,
        mut unreached: Vec<(String, TransportError)>,
        before: Option<Attempt>,
    ) -> Result<(Received, String), Error> {
        if !unreached.is_empty() {
            let (origin, first) = unreached.remove(0);
            return Err(Error::connect(self.name, origin, first, unreached));
        }
        if let Some(before) = before {
            return self.finish(before);
        }
        Err(self.too_late(match why {
            NotAdmitted::TooLate => WaitingFor::Limits,
            NotAdmitted::Asked(pause) => WaitingFor::ServerPause(pause),
        }))
    }

    /// The answer, or the error for an exchange that is not repeated.
    fn finish(&self, tried: Attempt) -> Result<(Received, String), Error> {
        let Attempt {
            host,
            outcome,
            mut unreached,
        } = tried;
        let origin = host.base.origin.clone();
        match outcome {
            Ok(received) => {
                self.inner.retries.deposit();
                Ok((received, origin))
            }
            Err(last) if last.is_never_sent() && !unreached.is_empty() => {
                let (first_origin, first) = unreached.remove(0);
                unreached.push((origin, last));
                Err(Error::connect(self.name, first_origin, first, unreached))
            }
            Err(error) => Err(Error::transport(self.name, &origin, error)),
        }
    }

    /// Checks that the answer comes from the API and is not a refusal.
    fn check_response(
        &self,
        response: WireResponse,
        session: Option<&Session>,
    ) -> Result<Reply, Error> {
        let (inner, call) = (self.inner, self.call);
        let secrets = || {
            let session = session.into_iter().flat_map(Session::secrets);
            inner.scrubber(super::rules::secrets_of(call).chain(session))
        };
        if (200..300).contains(&response.status) && !self.is_file() && is_page(&response) {
            return Err(ApiError::not_the_api(self.name, &response, &secrets()).into());
        }
        let kept = super::rules::kept_secrets(call);
        accept(self.name, response, secrets, kept, inner.bounds.memory).map_err(|error| match error
        {
            Error::Api(error) => {
                let hint = availability::hint(&error, call, inner.release.get().copied())
                    .or_else(|| inner.auth.hint(error.kind()));
                error.with_hint(hint).into()
            }
            other => other,
        })
    }

    fn is_file(&self) -> bool {
        let download = |endpoint: &Endpoint| endpoint.download;
        self.call.scope == Scope::Outside || self.call.endpoint.is_some_and(download)
    }

    fn note_release(&self, reply: &Reply) {
        let tells = self.call.method == Method::Get && self.call.path == availability::VERSION;
        let known = self.inner.release.get().is_some();
        if tells
            && !known
            && let Ok(release) = availability::release_of(reply)
        {
            // Another call may have been faster.
            let _ = self.inner.release.set(release);
        }
    }
}
