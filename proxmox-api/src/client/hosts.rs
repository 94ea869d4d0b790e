//! The addresses of a cluster, and the choice of one for a request.
//!
//! Every node of a cluster serves the whole API and forwards calls for other nodes, so a request
//! may go to any of them. It goes to the node it is about if that node's address is known, and
//! otherwise to the first address that works.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use crate::client::retry::Outcome;
use crate::error::Error;
use crate::value::address::{Address, is_this_machine, printable};
use crate::value::product::PVE;
use crate::value::serialize::record_serde;

/// The time for which an address that failed is skipped; doubles with each failure in a row.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// One slow answer says little about a host; several in a row mean that it hangs.
const TIMEOUTS: u32 = 3;

/// A parsed server address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Scheme, host and port.
    pub(crate) origin: String,
    /// The path prefix of a proxy before `/api2`; empty or starting with a slash.
    pub(crate) prefix: String,
}

impl Base {
    pub(crate) fn parse(text: &str, port: Option<u16>) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = |what: &dyn fmt::Display| {
            let address = printable(text);
            Error::config(format!("the server address {address:?} {what}"))
        };
        let (bare, full) = match text.split_once("://") {
            Some(_) => (false, text.to_owned()),
            // An IPv6 address has colons of its own.
            None if text.parse::<std::net::Ipv6Addr>().is_ok() => {
                (true, format!("https://[{text}]"))
            }
            None => (true, format!("https://{text}")),
        };
        let address = Address::parse(&full).map_err(|error| wrong(&error))?;
        let usual = match address.scheme() {
            "https" => 443,
            "http" => 80,
            _ => return Err(wrong(&"must be https or http")),
        };
        if address.login().is_some() {
            return Err(wrong(
                &"must not contain credentials; use api_token or password",
            ));
        }
        if address.query().is_some() {
            return Err(wrong(&"must not have a query or fragment"));
        }
        let port = match (address.port(), port) {
            (Some(named), Some(other)) if named != other => {
                return Err(wrong(&format_args!(
                    "has another port than PROXMOX_PORT, {other}"
                )));
            }
            (Some(port), _) | (None, Some(port)) => port,
            (None, None) if bare => PVE.port,
            (None, None) => usual,
        };
        let prefix = address.path().trim_end_matches('/');
        let prefix = prefix
            .strip_suffix(PVE.api)
            .unwrap_or(prefix)
            .trim_end_matches('/');
        Ok(Self {
            origin: address.origin(port),
            prefix: prefix.to_owned(),
        })
    }

    /// Whether the address may be used, by the same rule for configured and for discovered
    /// addresses.
    pub(crate) fn check(&self, allow_http: bool) -> Result<(), Error> {
        let (scheme, host, _) = self.parts();
        if scheme != "http" || allow_http || is_this_machine(host) {
            return Ok(());
        }
        Err(Error::config(format!(
            "{self} is not encrypted; use https, or allow it with danger_allow_http"
        )))
    }

    /// Whether requests to it are not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.parts().0 == "http"
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

impl Base {
    /// Scheme, host and port apart; the host without brackets.
    fn parts(&self) -> (&str, &str, &str) {
        let (scheme, rest) = self
            .origin
            .split_once("://")
            .unwrap_or(("https", &self.origin));
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (scheme, host, port)
    }

    /// The node this may be, where the host is given by name: nodes are named like their hosts.
    fn likely_node(&self) -> Option<&str> {
        let (_, host, _) = self.parts();
        if host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        host.split('.').next().filter(|label| !label.is_empty())
    }

    /// The same service on another host.
    fn on(&self, host: &str) -> Self {
        let (scheme, _, port) = self.parts();
        // Behind a proxy, the port is the proxy's.
        let port = if self.prefix.is_empty() && !matches!(port, "443" | "80") {
            port.to_owned()
        } else {
            PVE.port.to_string()
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        Self {
            origin: format!("{scheme}://{host}:{port}"),
            prefix: String::new(),
        }
    }
}

/// One address of a client, as [`Client::hosts`](crate::Client::hosts) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInfo {
    /// The address, such as `https://pve2:8006`.
    pub url: String,
    /// The node at this address, as far as known.
    pub node: Option<String>,
    /// Whether requests go there at present; `false` for some time after a failure.
    pub up: bool,
}

record_serde!(HostInfo { url, node, up });

/// An address and its health.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) base: Base,
    /// Whether the cluster named it, and not the caller.
    discovered: bool,
    state: Mutex<HostState>,
}

#[derive(Debug, Default)]
struct HostState {
    node: Option<String>,
    failures: u32,
    timeouts: u32,
    down: Option<Instant>,
}

impl Host {
    pub(crate) fn new(base: Base, node: Option<String>) -> Self {
        let node = node.or_else(|| base.likely_node().map(str::to_owned));
        let state = Mutex::new(HostState {
            node,
            ..HostState::default()
        });
        Self {
            base,
            discovered: false,
            state,
        }
    }

    fn discovered(base: Base, node: String) -> Self {
        Self {
            discovered: true,
            ..Self::new(base, Some(node))
        }
    }

    fn state(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the outcome of an attempt.
    pub(crate) fn record(&self, outcome: &Outcome<'_>) {
        let mut state = self.state();
        let failed = match outcome {
            Ok(answer) => matches!(answer.status, 502..=504),
            Err(error) if error.timed_out_after().is_some() => {
                state.timeouts = state.timeouts.saturating_add(1);
                state.timeouts >= TIMEOUTS
            }
            Err(error) => error.exceeded().is_none(),
        };
        if failed {
            let pause = PAUSE.saturating_mul(2u32.saturating_pow(state.failures));
            state.failures = state.failures.saturating_add(1);
            state.down = Some(Instant::now() + pause.min(MAX_PAUSE));
        } else if outcome.is_ok() {
            state.failures = 0;
            state.timeouts = 0;
            state.down = None;
        }
    }
}

/// The addresses of a client, the preferred one first.
#[derive(Debug)]
pub(crate) struct Hosts {
    all: RwLock<Vec<Arc<Host>>>,
    allow_http: bool,
}

impl Hosts {
    /// `allow_http` says whether discovered addresses may be unencrypted.
    pub(crate) fn new(hosts: Vec<Host>, allow_http: bool) -> Self {
        Self {
            all: RwLock::new(hosts.into_iter().map(Arc::new).collect()),
            allow_http,
        }
    }

    fn all(&self) -> Vec<Arc<Host>> {
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The hosts for a call about a node, in the order in which to try them. Failed hosts come
    /// last; once the pause of a host is over, one caller gets it at its usual position, to test
    /// it.
    pub(crate) fn candidates(&self, node: Option<&str>) -> Vec<Arc<Host>> {
        let mut hosts = self.all();
        if hosts.len() < 2 {
            return hosts;
        }
        if let Some(node) = node {
            // Stable: otherwise by priority.
            hosts.sort_by_key(|host| host.state().node.as_deref() != Some(node));
        }
        let now = Instant::now();
        let mut up = Vec::with_capacity(hosts.len());
        let mut down = Vec::new();
        for host in hosts {
            let mut state = host.state();
            let passed_over = state.down.is_some_and(|until| {
                // Only the first caller tests it; the others do not need this host.
                now < until || !up.is_empty()
            });
            if !passed_over && state.down.is_some() {
                state.down = Some(now + PAUSE);
            }
            let until = state.down;
            drop(state);
            if passed_over {
                down.push((until, host));
            } else {
                up.push(host);
            }
        }
        down.sort_by_key(|(until, _)| *until);
        up.extend(down.into_iter().map(|(_, host)| host));
        up
    }

    pub(crate) fn list(&self) -> Vec<HostInfo> {
        let info = |host: Arc<Host>| {
            let state = host.state();
            HostInfo {
                url: host.base.to_string(),
                node: state.node.clone(),
                up: state.down.is_none(),
            }
        };
        self.all().into_iter().map(info).collect()
    }

    /// Adds the nodes of a cluster by name and address, and removes discovered ones that left the
    /// cluster or moved. Addresses that the caller configured stay. An address that the client
    /// could not have been built with is an error, and then nothing is added.
    pub(crate) fn update(&self, nodes: &[(String, Option<String>)]) -> Result<(), Error> {
        // An empty node list is invalid; ignore it.
        if nodes.is_empty() {
            return Ok(());
        }
        let mut hosts = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = hosts.first().map(|host| host.base.clone()) else {
            return Ok(());
        };
        for address in nodes.iter().filter_map(|(_, address)| address.as_deref()) {
            let known = hosts.iter().any(|host| host.base.parts().1 == address);
            if !known {
                model.on(address).check(self.allow_http)?;
            }
        }
        hosts.retain(|host| {
            let node = host.state().node.clone();
            let listed = nodes.iter().find(|(name, _)| Some(name) == node.as_ref());
            !host.discovered
                || listed.is_some_and(|(_, address)| {
                    (address.as_deref()).is_none_or(|address| host.base.parts().1 == address)
                })
        });
        for (name, address) in nodes {
            let address = address.as_deref();
            let known = hosts.iter().find(|host| {
                host.state().node.as_deref() == Some(name) || Some(host.base.parts().1) == address
            });
            match (known, address) {
                (Some(host), _) => host.state().node = Some(name.clone()),
                (None, Some(address)) => {
                    let host = Host::discovered(model.on(address), name.clone());
                    hosts.push(Arc::new(host));
                }
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// The node that a path below the API is about.
pub(crate) fn node_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix(PVE.api)?.strip_prefix("/nodes/")?;
    let name = rest
        .split(['/', '?'])
        .next()
        .filter(|name| !name.is_empty())?;
    Some(percent_decode_str(name).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests;
