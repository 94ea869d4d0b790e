//! A Proxmox VE to develop and test against: the HTTP API on loopback TLS, in this process.
//!
//! It behaves like pveproxy on the wire (reason phrases, error bodies, closing after five idle
//! seconds), checks every request against the schema of its release, answers every endpoint of that
//! release, and keeps the state of nodes, storages, virtual machines, containers, snapshots and
//! tasks.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use proxmox_simulator::Simulator;
//!
//! let pve = Simulator::builder().release("9.2").node("pve1").start().await?;
//! println!("{} {}", pve.url(), pve.fingerprint());
//! // … point a client at it …
//! for request in pve.requests() {
//!     println!("{} {} -> {}", request.method, request.path, request.status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The server stops when the [`Simulator`] is dropped.

mod agent_control;
mod api_error;
mod app;
mod builder;
mod calls;
mod clock;
mod console;
mod credentials;
mod documents;
mod embedded;
mod error;
mod faults;
mod formats;
mod guest_agent;
mod http;
mod indexed;
mod params;
mod pattern;
mod privileges;
mod propstring;
mod recorded;
mod sample;
mod schema;
mod server;
mod snapshot;
mod spice;
mod state;
mod text;
mod tls;
mod tunnel;
mod upload;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use crate::agent_control::GuestAgent;
use crate::app::App;
pub use crate::builder::Builder;
pub use crate::clock::Clock;
pub use crate::error::Error;
pub use crate::faults::{Fault, FaultHandle, Faults, NewFault};
pub use crate::guest_agent::output::CommandOutput;
pub use crate::recorded::RecordedRequest;
pub use crate::sample::{MinimalRequest, minimal_requests};
pub use crate::schema::{facts, last_of_each_major, newest_release, releases};
pub use crate::validate::Rules;

/// Password of root@pam unless the builder sets another.
pub const ROOT_PASSWORD: &str = "password";

/// Id of the API token every simulator has.
pub const TOKEN_ID: &str = "root@pam!test";

/// Secret of [`TOKEN_ID`].
pub const TOKEN_SECRET: &str = "11111111-2222-3333-4444-555555555555";

/// A running server.
pub struct Simulator {
    address: SocketAddr,
    spice_address: SocketAddr,
    fingerprint: String,
    ca_pem: String,
    release: String,
    app: Arc<App>,
    /// Dropping it ends the open connections.
    _stop: watch::Sender<()>,
    server: JoinHandle<()>,
    /// Its own runtime, if it was started without one.
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Settings of a new simulator.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The listening address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the SPICE proxy; the real one has port 3128.
    #[must_use]
    pub fn spice_address(&self) -> SocketAddr {
        self.spice_address
    }

    /// SHA-256 of the server's certificate, `AA:BB:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Certificate of the authority that signed the server's, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The release being played.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The requests so far, in the order of their answers; beyond some ten thousand the oldest are
    /// dropped.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.app.recorded().iter().cloned().collect()
    }

    /// The number of requests so far for a call.
    #[must_use]
    pub fn count_requests(&self, method: &str, path: &str) -> usize {
        (self.app.recorded().iter())
            .filter(|request| request.method == method && request.path == path)
            .count()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.app.recorded().clear();
    }

    /// The whole state as JSON: nodes, storages, guests, tasks, users, configuration. It holds
    /// passwords and token secrets. After a restore, running tasks are interrupted and their
    /// preparations undone.
    #[must_use]
    pub fn snapshot(&self) -> String {
        snapshot::save(&self.app.cluster(), &self.release)
    }

    /// Restores a state of [`Simulator::snapshot`], of this simulator or of another. Running tasks
    /// are interrupted; tickets stay valid if their users still exist.
    ///
    /// # Errors
    ///
    /// The text is not a valid state; nothing has changed then.
    pub fn restore(&self, state: &str) -> Result<(), Error> {
        self.app
            .restore(state)
            .map_err(|error| Error::new(format!("state: {error}")))
    }

    /// Injected faults; none at the start.
    ///
    /// ```
    /// # use proxmox_simulator::{Fault, Simulator};
    /// # async fn example(pve: Simulator) {
    /// let full = pve
    ///     .faults()
    ///     .on("POST", "/nodes/*/qemu")
    ///     .times(1)
    ///     .respond(Fault::TaskFails("no space left".into()));
    /// // … the next virtual machine is not made …
    /// assert_eq!(full.hits(), 1);
    /// # }
    /// ```
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.app.faults().clone()
    }

    /// The clock of the simulator.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.app.clock().clone()
    }

    /// Makes a node unreachable, or reachable again. Unknown names are ignored.
    pub fn set_online(&self, node: &str, online: bool) {
        for known in &mut self.app.cluster().nodes {
            if known.name == node {
                known.online = online;
            }
        }
    }

    /// Sets the result of the self-assessment of a node's disk, as `PASSED` or `FAILED`; pools with
    /// a disk that does not pass are degraded. Unknown names are ignored.
    pub fn set_disk_health(&self, node: &str, device: &str, health: &str) {
        self.app.cluster().set_disk_health(node, device, health);
    }

    /// The guest agent of a virtual machine, to set its files and the results of programs.
    #[must_use]
    pub fn guest_agent(&self, vmid: u32) -> GuestAgent {
        GuestAgent::new(Arc::clone(&self.app), vmid)
    }

    /// Locks a guest as a running backup would, or unlocks it. Unknown numbers are ignored.
    pub fn set_lock(&self, vmid: u32, lock: Option<&str>) {
        if let Some(guest) = self.app.cluster().guests.get_mut(&vmid) {
            guest.lock = lock.map(str::to_owned);
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("url", &self.url())
            .field("release", &self.release)
            .finish_non_exhaustive()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Accepts connections; those without TLS come from SPICE viewers.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: Arc<App>,
    stopped: watch::Receiver<()>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of file descriptors; give connections time to end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, app, mut stopped) = (acceptor.clone(), Arc::clone(&app), stopped.clone());
        tokio::spawn(async move {
            let served = async {
                match acceptor {
                    Some(acceptor) => connection(stream, acceptor, &app).await,
                    None => spice::serve(stream, &app).await,
                }
            };
            tokio::select! {
                () = served => {}
                // Fails only if the simulator is gone.
                _ = stopped.changed() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, app: &App) {
    const TLS_HANDSHAKE: u8 = 0x16;
    const PATIENCE: Duration = Duration::from_secs(10);
    // Small answers must not wait for a full segment.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match tokio::time::timeout(PATIENCE, stream.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        _ => return,
    }
    if first[0] != TLS_HANDSHAKE {
        crate::server::redirect_to_https(stream, app).await;
        return;
    }
    if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        crate::server::serve(stream, app).await;
    }
}
