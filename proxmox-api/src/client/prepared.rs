//! For exchanges that are not one answer for one request: uploads, downloads, consoles.

use std::sync::Arc;

use super::{API, Client, Inner, Reply, check_path, name_of, refuses_session, signed};
use crate::auth::{Grant, Session};
use crate::endpoint::Method;
use crate::error::{Error, RequestErrorKind};
use crate::request::Call;
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};

/// A call with all that goes with it, ready for the transport.
pub(crate) struct Prepared {
    client: Client,
    name: String,
    call: Call,
    bare: WireRequest,
    grant: Grant,
}

impl Client {
    /// Checks a call and adds who sends it; logs in first where that is due.
    pub(crate) async fn prepare(&self, call: Call) -> Result<Prepared, Error> {
        let name = name_of(&call);
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
            inner.check(&call).await?;
        }
        let path = format!("{API}{}", call.path);
        let bare = inner.request(call.method, &path, &call.params, &name)?;
        let writes = call.method != Method::Get;
        let grant = inner.auth.authorize(inner, writes).await?;
        Ok(Prepared {
            client: self.clone(),
            name,
            call,
            bare,
            grant,
        })
    }

    fn parts(&self) -> &Inner {
        &self.0
    }
}

impl Prepared {
    /// The verb and the path, for errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What goes to the transport.
    pub(crate) fn request(&self) -> WireRequest {
        signed(&self.bare, &self.grant)
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.client.parts().transport
    }

    /// The error for an exchange that came to nothing.
    pub(crate) fn broken(&self, cause: TransportError) -> Error {
        Error::transport(&self.name, &self.bare.origin, cause)
    }

    /// Whether an answer is one, and what it refuses if not.
    pub(crate) fn judge(&self, response: WireResponse) -> Result<Reply, Error> {
        let session: Option<&Session> = self.grant.session.as_deref();
        self.client
            .parts()
            .judge(&self.name, response, &self.call, session)
    }

    /// After an answer that refuses the ticket: gets another and tells whether to send once more.
    pub(crate) async fn renew(&mut self, response: &WireResponse) -> Result<bool, Error> {
        let Some(refused) = (self.grant.session)
            .as_ref()
            .filter(|_| refuses_session(response))
        else {
            return Ok(false);
        };
        let refused = Arc::clone(refused);
        let inner = self.client.parts();
        let writes = self.call.method != Method::Get;
        let Some(grant) = inner.auth.replace(inner, &refused, writes).await? else {
            return Ok(false);
        };
        self.grant = grant;
        Ok(true)
    }
}
