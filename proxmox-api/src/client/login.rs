//! Explicit logins.

use std::sync::Arc;

use serde_json::Value;

use super::auth::{Auth, Login, SavedSession, TfaChallenge, read_redirect};
use super::call::Call;
use super::state::{Client, Inner};
use crate::error::Error;
use crate::value::BoxFuture;
use crate::value::Secret;
use crate::value::decode::decode_data;

impl Client {
    /// Logs in now instead of with the first call, for example to check a password. Does nothing
    /// for a client with a token or a given ticket.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server refuses the login or asks for a second factor; see
    /// [`Client::answer_tfa`].
    pub async fn login(&self) -> Result<(), Error> {
        self.0.auth.log_in_now(&self.0).await
    }

    /// Completes a login that ended with [`AuthErrorKind::SecondFactor`](crate::client::auth::AuthErrorKind).
    /// `answer` is the kind and the code, such as `totp:123456` or `recovery:…` ([wire protocol §7](crate::guide::wire_protocol)).
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

    /// The session for use in another process, after a login; see
    /// [`ClientBuilder::session`](crate::ClientBuilder::session). `None` for a client with an API
    /// token.
    pub async fn save_session(&self) -> Option<SavedSession> {
        self.0.auth.save()
    }

    /// The address to which the user's browser has to go to log in; see
    /// [`ClientBuilder::openid`](crate::ClientBuilder::openid).
    ///
    /// # Errors
    /// Those of every request; [`Error::Config`] for a client that does not use OpenID.
    pub async fn openid_url(&self) -> Result<String, Error> {
        self.0.auth.openid_url(&self.0).await
    }

    /// Completes a login by OpenID. `url` is the address to which the browser was sent at the end:
    /// the redirect URL with `state` and `code` in its query.
    ///
    /// # Errors
    /// [`Error::Auth`] if the server does not accept it; [`Error::Config`] if `state` or `code` is
    /// missing, with the provider's error.
    pub async fn openid_login(&self, url: &str) -> Result<(), Error> {
        let (state, code) = read_redirect(url)?;
        self.0.auth.openid_login(&self.0, &state, &code).await
    }
}

impl Login for Inner {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn post(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Value, Error>> {
        Box::pin(async move {
            let client = Client(self);
            let name = client.call_id(&call);
            let reply = client.reply(&name, &call).await?;
            decode_data(&reply).map_err(|error| client.undecodable(name, &reply.secrets, error))
        })
    }
}
