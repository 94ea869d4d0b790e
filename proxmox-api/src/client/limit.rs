//! How much is asked of the servers at once and in a row.
//!
//! A Proxmox VE serves its API from three processes, each of which does one thing at a time (wire protocol
//! §1). Asking more of them only makes everybody wait, other users included.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::client::retry::retry_after;
use crate::transport::WireResponse;

/// A number of requests for each second, with room for a burst.
///
/// A burst goes out as fast as the servers answer; after it, requests wait for their turn. The
/// allowance fills up again while nothing is sent.
///
/// ```
/// use proxmox_api::client::limit::RateLimit;
///
/// let gentle = RateLimit::per_second(2.0).burst(10);
/// # let _ = gentle;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a limit does nothing until a client is built with it"]
pub struct RateLimit {
    every: Duration,
    burst: u32,
}

impl RateLimit {
    /// So many requests each second on average, after a burst of ten seconds' worth. What is not a
    /// number above zero counts as the least that can be counted, one request in a day.
    pub fn per_second(rate: f64) -> Self {
        let rate = rate.max(1.0 / 86_400.0);
        Self {
            every: Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default(),
            // Saturates, which suits.
            burst: (rate * 10.0).ceil().max(1.0) as u32,
        }
    }

    /// How many requests may go out at once after a time of rest; at least one.
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }
}

/// 10 requests a second, after a burst of 100.
impl Default for RateLimit {
    fn default() -> Self {
        Self::per_second(10.0)
    }
}

/// What a client is told to keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) at_once: usize,
    pub(crate) at_once_per_node: usize,
    pub(crate) rate: Option<RateLimit>,
}

/// Lets requests through.
#[derive(Debug)]
pub(crate) struct Limits {
    all: Arc<Semaphore>,
    per_node: usize,
    nodes: Mutex<HashMap<String, Arc<Semaphore>>>,
    rate: Option<RateLimit>,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    /// When the allowance will be full again.
    full: Option<Instant>,
    /// Nothing before this: the server said so.
    held: Option<Instant>,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(crate) struct Permit(#[allow(dead_code, reason = "held for its end")] Held);

type Held = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// Names of nodes come from paths, of which a program may make many that mean nothing.
const MANY_NODES: usize = 256;
/// Who asks for more than this gets a refusal noticed instead of every call delayed.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

impl Limits {
    pub(crate) fn new(settings: Settings) -> Self {
        let most = |permits: usize| permits.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(most(settings.at_once))),
            per_node: most(settings.at_once_per_node),
            nodes: Mutex::default(),
            rate: settings.rate,
            times: Mutex::default(),
        }
    }

    /// Waits until a request may go out; it counts as under way until the permit is dropped.
    pub(crate) async fn admit(&self, node: Option<&str>) -> Permit {
        // The node's first, so that those who wait for a slow node keep nobody else away.
        let node = match node {
            Some(node) => self.node(node).acquire_owned().await.ok(),
            None => None,
        };
        // Neither is ever closed, so both are there.
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        let turn = self.turn(Instant::now());
        // Asking for no time must not take a runtime's timer, which not every runtime has.
        if turn > Instant::now() {
            tokio::time::sleep_until(turn).await;
        }
        // Others may have been told to wait in the meantime.
        while let Some(held) = self.held() {
            tokio::time::sleep_until(held).await;
        }
        Permit((node, all))
    }

    fn node(&self, name: &str) -> Arc<Semaphore> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= MANY_NODES {
            nodes.retain(|_, permits| Arc::strong_count(permits) > 1);
        }
        let permits = nodes
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_node)));
        Arc::clone(permits)
    }

    fn held(&self) -> Option<Instant> {
        self.times().held.filter(|held| *held > Instant::now())
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next request may go out by the rate alone.
    fn turn(&self, now: Instant) -> Instant {
        let Some(RateLimit { every, burst }) = self.rate else {
            return now;
        };
        let mut times = self.times();
        let full = times.full.map_or(now, |full| full.max(now));
        times.full = Some(full + every);
        let ahead = every.saturating_mul(burst - 1);
        full.checked_sub(ahead).map_or(now, |turn| turn.max(now))
    }

    /// Heeds what an answer says about the rate. `clock` is for a time of day in it.
    pub(crate) fn heed(&self, answer: &WireResponse, clock: SystemTime) {
        let pause = match answer.status {
            429 => retry_after(answer).or_else(|| reset(answer, clock)),
            _ if remaining(answer) == Some(0) => reset(answer, clock),
            _ => None,
        };
        if let Some(pause) = pause.filter(|pause| *pause <= LONGEST_HOLD) {
            let until = Instant::now() + pause;
            let mut times = self.times();
            times.held = Some(times.held.map_or(until, |held| held.max(until)));
        }
    }
}

fn number(answer: &WireResponse, name: &str) -> Option<u64> {
    let text = answer
        .header(&format!("x-ratelimit-{name}"))
        .or_else(|| answer.header(&format!("ratelimit-{name}")))?;
    text.trim().parse().ok()
}

fn remaining(answer: &WireResponse) -> Option<u64> {
    number(answer, "remaining")
}

/// Until new requests are let in. Some proxies send seconds, others the time of day.
fn reset(answer: &WireResponse, clock: SystemTime) -> Option<Duration> {
    const A_TIME_OF_DAY: u64 = 1_000_000_000;
    let number = number(answer, "reset")?;
    if number < A_TIME_OF_DAY {
        return Some(Duration::from_secs(number));
    }
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(number))?;
    then.duration_since(clock).ok()
}

#[cfg(test)]
mod tests;
