//! Answers to the challenge for a second factor.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::error::auth::TfaChallenge;
use crate::value::BoxFuture;
use crate::value::Secret;

/// An answer to a [`TfaChallenge`]: the kind of factor, and its value.
#[derive(Clone)]
pub struct TfaAnswer {
    kind: String,
    value: Secret,
}

impl TfaAnswer {
    /// The six digits of an authenticator app. White space is removed.
    pub fn totp(code: impl Into<Secret>) -> Self {
        let code = code.into();
        let digits: String = code.expose().split_whitespace().collect();
        Self::other("totp", digits)
    }

    /// One of the recovery codes, each of which is valid once.
    pub fn recovery(code: impl Into<Secret>) -> Self {
        let code = code.into();
        Self::other("recovery", code.expose().trim())
    }

    /// The text that a Yubico key types when touched.
    pub fn yubico(code: impl Into<Secret>) -> Self {
        let code = code.into();
        Self::other("yubico", code.expose().trim())
    }

    /// The signed assertion of a WebAuthn authenticator as JSON, made for the challenge in
    /// [`TfaChallenge::details`]. The program has to talk to the authenticator.
    pub fn webauthn(assertion: impl Into<Secret>) -> Self {
        Self::other("webauthn", assertion)
    }

    /// Any kind the server names in [`TfaChallenge::methods`].
    pub fn other(kind: impl Into<String>, value: impl Into<Secret>) -> Self {
        Self {
            kind: kind.into(),
            value: value.into(),
        }
    }
}

impl From<TfaAnswer> for Secret {
    fn from(answer: TfaAnswer) -> Self {
        Self::new(format!("{}:{}", answer.kind, answer.value.expose()))
    }
}

impl fmt::Debug for TfaAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TfaAnswer({}, …)", self.kind)
    }
}

/// The program's handler for second factors.
#[derive(Clone)]
pub(crate) struct Handler(
    Arc<dyn Fn(TfaChallenge) -> BoxFuture<'static, Result<TfaAnswer, String>> + Send + Sync>,
);

impl Handler {
    pub(crate) fn new<F, A, E>(ask: F) -> Self
    where
        F: Fn(TfaChallenge) -> A + Send + Sync + 'static,
        A: Future<Output = Result<TfaAnswer, E>> + Send + 'static,
        E: fmt::Display,
    {
        Self(Arc::new(move |challenge| {
            let answer = ask(challenge);
            Box::pin(async move { answer.await.map_err(|error| error.to_string()) })
        }))
    }

    pub(crate) async fn ask(&self, challenge: &TfaChallenge) -> Result<TfaAnswer, String> {
        // The handler is the program's code and may panic, and other calls wait for its result.
        let answer = AssertUnwindSafe(async { (self.0)(challenge.clone()).await });
        let answer = answer.catch_unwind().await;
        answer.unwrap_or_else(|_| Err("the handler panicked".to_owned()))
    }
}
