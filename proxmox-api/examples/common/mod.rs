//! Shared parts of the examples: the server they work on.

#![allow(dead_code, reason = "no example uses all of it")]

use std::fmt;

use proxmox_api::{Client, ClientBuilder};
use proxmox_simulator::{Builder, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};

/// The error of an example. Prints as text, because `main` prints its error with `Debug`.
pub(crate) struct Failure(Box<dyn std::error::Error + Send + Sync>);

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The server of `PROXMOX_HOST` and the other variables of `Client::from_env`, or a simulated one,
/// set up by `furnish`. The simulator has to live as long as the client.
pub(crate) async fn open(
    furnish: impl FnOnce(Builder) -> Builder,
) -> Outcome<(Option<Simulator>, Client)> {
    let login = |builder: ClientBuilder| builder.api_token(TOKEN_ID, TOKEN_SECRET);
    open_with(furnish, login).await
}

/// The same, but the client logs in as root@pam, for what its API tokens may not do.
pub(crate) async fn open_as_root(
    furnish: impl FnOnce(Builder) -> Builder,
) -> Outcome<(Option<Simulator>, Client)> {
    let login = |builder: ClientBuilder| builder.password("root@pam", ROOT_PASSWORD);
    open_with(furnish, login).await
}

async fn open_with(
    furnish: impl FnOnce(Builder) -> Builder,
    login: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Outcome<(Option<Simulator>, Client)> {
    if std::env::var_os("PROXMOX_HOST").is_some_and(|host| !host.is_empty()) {
        return Ok((None, Client::from_env()?));
    }
    println!("PROXMOX_HOST is not set, so this works on a simulated cluster.\n");
    let simulator = furnish(cluster()).start().await?;
    let client = login(Client::builder(simulator.url()))
        .fingerprint(simulator.fingerprint().parse()?)
        .build()?;
    Ok((Some(simulator), client))
}

/// Two nodes of the newest release, or of the release in `SIMULATED_RELEASE`.
pub(crate) fn cluster() -> Builder {
    let builder = Simulator::builder().node("pve1").node("pve2");
    match variable("SIMULATED_RELEASE") {
        Some(release) => builder.release(release),
        None => builder,
    }
}

/// An environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
