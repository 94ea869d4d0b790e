//! What the examples share: the server they work on.

#![allow(dead_code, reason = "no example uses all of it")]

use std::fmt;

use proxmox_api::Client;
use proxmox_simulator::{Builder, Simulator, TOKEN_ID, TOKEN_SECRET};

/// What ends an example. Printed as text: what `main` gives back is shown in its `Debug` form.
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

/// The server that `PROXMOX_HOST` and the other variables of `Client::from_env` name, or else a simulated one,
/// set up by `furnish`. The simulator has to stay alive while the client is used.
pub(crate) async fn open(
    furnish: impl FnOnce(Builder) -> Builder,
) -> Outcome<(Option<Simulator>, Client)> {
    if std::env::var_os("PROXMOX_HOST").is_some_and(|host| !host.is_empty()) {
        return Ok((None, Client::from_env()?));
    }
    println!("PROXMOX_HOST is not set, so this works on a simulated cluster.\n");
    let simulator = furnish(cluster()).start().await?;
    let client = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse()?)
        .build()?;
    Ok((Some(simulator), client))
}

/// Two nodes of the newest release, or of the one in `SIMULATED_RELEASE`.
pub(crate) fn cluster() -> Builder {
    let builder = Simulator::builder().node("pve1").node("pve2");
    match variable("SIMULATED_RELEASE") {
        Some(release) => builder.release(release),
        None => builder,
    }
}

/// A variable of the environment that is there and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
