//! For exchanges that are not one answer for one request: uploads, downloads, consoles.

use std::sync::Arc;

use tokio::time::Instant;

use super::rules::{check_path, place, refuses_session, signed};
use super::{API, Client, Inner, Reply};
use crate::client::auth::{Grant, Session};
use crate::client::hosts::{Base, Host, node_of};
use crate::client::limit::Permit;
use crate::client::retry::{Outcome, Repetition, worth_repeating};
use crate::client::trace::Trace;
use crate::error::api::ErrorKind;
use crate::error::{Error, Name, RequestErrorKind};
use crate::request::Call;
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};
use crate::value::endpoint::Method;

/// A call with all that goes with it, ready for the transport. It is sent attempt by attempt, each of which
/// ends with [`Prepared::answered`] or [`Prepared::failed`].
pub(crate) struct Prepared {
    client: Client,
    name: Name,
    call: Call,
    /// For no host yet.
    bare: WireRequest,
    grant: Grant,
    renewed: bool,
    node: Option<String>,
    /// In the order in which they are tried.
    hosts: Vec<Arc<Host>>,
    unreached: Vec<(String, TransportError)>,
    attempt: u32,
    start: Instant,
    repetition: Option<Repetition>,
}

impl Client {
    /// Checks a call and adds who sends it; logs in first where that is due.
    pub(crate) async fn prepare(&self, name: Name, call: Call) -> Result<Prepared, Error> {
        let refuse = |kind| Error::request(&name, kind);
        if let Some(problem) = call.invalid {
            return Err(refuse(RequestErrorKind::Path { problem }));
        }
        check_path(&call.path).map_err(|problem| refuse(RequestErrorKind::Path { problem }))?;
        let inner = self.parts();
        if inner.refuses_token(&call) {
            return Err(refuse(RequestErrorKind::NeedsTicket));
        }
        if inner.checks {
            inner.check(&name, &call).await?;
        }
        let path = format!("{API}{}", call.path);
        let bare = inner.compose(call.method, &path, &call.params);
        inner.check_size(&name, &bare)?;
        let writes = call.method != Method::Get;
        let grant = inner.auth.authorize(inner, writes).await;
        let grant = grant.map_err(|error| error.during(&name))?;
        let node = node_of(&bare.path);
        Ok(Prepared {
            client: self.clone(),
            name,
            call,
            bare,
            grant,
            renewed: false,
            hosts: inner.hosts.order(node.as_deref()),
            node,
            unreached: Vec::new(),
            attempt: 1,
            start: Instant::now(),
            repetition: None,
        })
    }

    fn parts(&self) -> &Inner {
        &self.0
    }
}

impl Prepared {
    /// What the call is called in errors.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The host of the attempt.
    fn base(&self) -> &Base {
        let host = self.hosts.get(self.unreached.len());
        host.map_or(&self.client.parts().base, |host| &host.base)
    }

    /// The server of the attempt, as `https://pve1:8006`.
    pub(crate) fn origin(&self) -> &str {
        &self.base().origin
    }

    /// Waits until the limits of the client let a request through.
    pub(crate) async fn admit(&mut self, trace: &Trace) -> Option<Permit> {
        let limits = &self.client.parts().limits;
        let admitted = limits.admit(self.call.method, self.node.as_deref(), None);
        let permit = admitted.await.ok()?;
        trace.waited(permit.waited);
        if let Some(repetition) = self.repetition.take() {
            repetition.use_up();
        }
        Some(permit)
    }

    /// What goes to the transport.
    pub(crate) fn request(&self) -> WireRequest {
        place(&signed(&self.bare, &self.grant), self.base())
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.client.parts().transport
    }

    /// Notes that there is an answer, of which the head is enough.
    pub(crate) fn answered(&self, head: &WireResponse, trace: &Trace) {
        trace.attempt(self.origin(), self.attempt, Some(head.status));
        let inner = self.client.parts();
        inner.limits.observe(head, (inner.clock)());
        if let Some(host) = self.hosts.get(self.unreached.len()) {
            host.note(&Ok(head.clone()));
        }
        inner.retries.give();
    }

    /// Notes that an attempt came to nothing, and gets ready for the next one, on another host or after a
    /// pause; an error if there is to be none.
    pub(crate) async fn failed(
        &mut self,
        cause: TransportError,
        trace: &Trace,
    ) -> Result<(), Error> {
        trace.attempt(self.origin(), self.attempt, None);
        let origin = self.origin().to_owned();
        let outcome: Outcome = Err(cause);
        if let Some(host) = self.hosts.get(self.unreached.len()) {
            host.note(&outcome);
        }
        let last = self.unreached.len() + 1 >= self.hosts.len();
        let next = match &outcome {
            Err(cause) if cause.is_never_sent() && !last => false,
            outcome => self.pause(outcome, trace).await,
        };
        let Err(cause) = outcome else { return Ok(()) };
        if next {
            return Ok(());
        }
        if cause.is_never_sent() && !last {
            self.unreached.push((origin, cause));
            return Ok(());
        }
        if cause.is_never_sent() && !self.unreached.is_empty() {
            let mut others = std::mem::take(&mut self.unreached);
            let (first, why) = others.remove(0);
            others.push((origin, cause));
            return Err(Error::nowhere(&self.name, first, why, others));
        }
        Err(Error::transport(&self.name, &origin, cause))
    }

    /// After an answer that refuses: waits where that passes by itself and another attempt does no harm, and
    /// tells whether there is to be one.
    pub(crate) async fn again(&mut self, response: &WireResponse, trace: &Trace) -> bool {
        self.pause(&Ok(response.clone()), trace).await
    }

    /// Waits before the next attempt, for which the hosts are asked anew; tells whether there is to be one.
    async fn pause(&mut self, outcome: &Outcome, trace: &Trace) -> bool {
        let repeatable = self.call.is_repeatable();
        // Asking for the order may take a host's turn to be tried, so not without need.
        if worth_repeating(outcome, repeatable).is_none() {
            return false;
        }
        let inner = self.client.parts();
        let order = inner.hosts.order(self.node.as_deref());
        let elsewhere = match (order.first(), self.hosts.get(self.unreached.len())) {
            (Some(next), Some(host)) => !Arc::ptr_eq(next, host),
            _ => false,
        };
        let spent = self.start.elapsed();
        let next = (inner.retries).next(outcome, repeatable, self.attempt, spent, elsewhere);
        let Some(next) = next else { return false };
        trace.again(next.pause, elsewhere);
        tokio::time::sleep(next.pause).await;
        self.repetition = Some(next);
        self.attempt += 1;
        self.hosts = order;
        self.unreached.clear();
        true
    }

    /// The error for an exchange that came to nothing and is not to be tried again.
    pub(crate) fn broken(&self, cause: TransportError) -> Error {
        Error::transport(&self.name, self.origin(), cause)
    }

    /// Whether an answer is one, and what it refuses if not.
    pub(crate) fn judge(&self, response: WireResponse) -> Result<Reply, Error> {
        let session: Option<&Session> = self.grant.session.as_deref();
        let expired = session.is_some() && !self.renewed && refuses_session(&response);
        let inner = self.client.parts();
        match inner.judge(&self.name, response, &self.call, session) {
            Err(Error::Api(error)) if expired && error.kind() == ErrorKind::Unauthorized => {
                Err(error.with_kind(ErrorKind::TicketExpired).into())
            }
            other => other,
        }
    }

    /// After an answer that refuses the ticket: gets another and tells whether to send once more.
    pub(crate) async fn renew(&mut self, response: &WireResponse) -> Result<bool, Error> {
        let refused = (self.grant.session.as_ref()).filter(|_| refuses_session(response));
        let Some(refused) = refused.filter(|_| !self.renewed) else {
            return Ok(false);
        };
        let refused = Arc::clone(refused);
        let inner = self.client.parts();
        let writes = self.call.method != Method::Get;
        let replaced = inner.auth.replace(inner, &refused, writes).await;
        let Some(grant) = replaced.map_err(|error| error.during(&self.name))? else {
            return Ok(false);
        };
        self.grant = grant;
        self.renewed = true;
        Ok(true)
    }
}
