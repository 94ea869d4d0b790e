//! Limits on concurrent requests and on their rate.
//!
//! Proxmox VE serves its API from three processes, each of which handles one request at a time
//! (wire protocol §1). More concurrent requests only make all users wait longer.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Sleep};

use crate::transport::{WireResponse, retry_after};
use crate::value::endpoint::Method;
use crate::value::serialize::record_serde;

mod queue;

use queue::{Lane, Queue, QueueStatus};

/// A number of requests for each unit of time, and a burst.
///
/// A burst is sent without waiting; after it, requests wait. The allowance fills up again while
/// nothing is sent.
///
/// ```
/// use proxmox_api::client::limit::Rate;
///
/// let gentle = Rate::per_second(2.0).burst(10);
/// # let _ = gentle;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "does nothing unless used by a client"]
pub struct Rate {
    every: Duration,
    burst: u32,
}

impl Rate {
    /// That many requests each second on average, after a burst of ten seconds' worth. A rate that
    /// is not above zero counts as the lowest one, one request a day.
    pub fn per_second(rate: f64) -> Self {
        let rate = rate.max(1.0 / 86_400.0);
        Self {
            every: Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default(),
            // The cast saturates.
            burst: (rate * 10.0).ceil().max(1.0) as u32,
        }
    }

    /// That many requests each minute on average, after a burst of ten seconds' worth.
    pub fn per_minute(rate: f64) -> Self {
        Self::per_second(rate / 60.0)
    }

    /// The number of requests that may go out at once after a pause; at least one.
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }
}

/// The limits on the rate of a client's requests. GET counts as a read; POST, PUT, DELETE, logins
/// and uploads count as writes.
///
/// | setting | reads | writes |
/// |---|---|---|
/// | [`RateLimit::default`] | 1,000 a minute after a burst of 1,000 | 10 a second after a burst of 100 |
/// | [`RateLimit::strict`] | 10 a second, evenly spaced, together with writes | |
/// | [`RateLimit::none`] | no limit | no limit |
/// | [`RateLimit::together`] | one rate of your own for both | |
/// | [`RateLimit::separate`] | a rate of your own | another one |
///
/// ```
/// use proxmox_api::client::limit::{Rate, RateLimit};
///
/// let own = RateLimit::separate(Rate::per_second(50.0), Rate::per_second(1.0).burst(5));
/// # let _ = own;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "does nothing unless used by a client"]
pub struct RateLimit {
    reads: Option<Rate>,
    writes: Option<Rate>,
    /// Whether writes use the allowance of reads.
    together: bool,
}

impl RateLimit {
    /// No limit.
    pub const fn none() -> Self {
        Self {
            reads: None,
            writes: None,
            together: false,
        }
    }

    /// 10 requests a second, reads and writes together, evenly spaced.
    pub fn strict() -> Self {
        Self::together(Rate::per_second(10.0).burst(1))
    }

    /// One rate for all requests together.
    pub const fn together(rate: Rate) -> Self {
        Self {
            reads: Some(rate),
            writes: None,
            together: true,
        }
    }

    /// One rate for reads and another one for writes.
    pub const fn separate(reads: Rate, writes: Rate) -> Self {
        Self {
            reads: Some(reads),
            writes: Some(writes),
            together: false,
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::separate(
            Rate::per_minute(1000.0).burst(1000),
            Rate::per_second(10.0).burst(100),
        )
    }
}

impl From<Rate> for RateLimit {
    fn from(rate: Rate) -> Self {
        Self::together(rate)
    }
}

/// The number and duration of waits for the limits of a client; see
/// [`Client::limit_waits`](crate::Client::limit_waits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitWaits {
    /// The number of requests that had to wait, including those that were dropped meanwhile.
    pub requests: u64,
    /// The sum of their waiting times.
    pub total: Duration,
}

record_serde!(LimitWaits { requests, total });

/// The limits of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) at_once: usize,
    pub(crate) at_once_per_node: usize,
    pub(crate) rate: RateLimit,
}

/// Admits requests.
#[derive(Clone, Debug)]
pub(crate) struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    waited: AtomicU64,
    nanoseconds: AtomicU64,
}

/// Permission to run one request.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    node: Option<Arc<str>>,
    /// The time for which the request waited.
    pub(crate) waited: Duration,
}

/// The reason why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// Its deadline passed while it waited.
    TooLate,
    /// The server asks for a pause that ends after the deadline.
    Asked(Duration),
}

/// A longer pause that a server asks for does not delay other calls; they get the server's refusals
/// instead.
const MAX_HOLD: Duration = Duration::from_secs(60);

impl Limits {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(settings)),
            waited: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and wakes the affected tasks.
    fn change<T>(&self, change: impl FnOnce(&mut Queue, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let result = change(&mut self.queue(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    pub(crate) fn waits(&self) -> LimitWaits {
        LimitWaits {
            requests: self.0.waited.load(Ordering::Relaxed),
            total: Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed)),
        }
    }

    /// Waits until a request may go out, at most until `deadline`; it counts as running until the
    /// permit is dropped. Dropping the future leaves the queue.
    pub(crate) async fn acquire(
        &self,
        method: Method,
        node: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<Permit, NotAdmitted> {
        let start = Instant::now();
        let lane = Lane {
            writes: method != Method::Get,
            node: node.map(Arc::from),
        };
        let node = lane.node.clone();
        let permit = |waited| Permit {
            limits: self.clone(),
            node: node.clone(),
            waited,
        };
        let entered = self.change(|queue, wakers| queue.enter(lane.clone(), start, wakers));
        let Some(number) = entered else {
            return Ok(permit(Duration::ZERO));
        };
        let mut position = QueuePosition {
            limits: self.clone(),
            lane,
            number,
            start,
            granted: false,
        };
        // Not every runtime has a timer, so it is only used if there is a time to wait for.
        let mut sleep: Option<Pin<Box<Sleep>>> = None;
        let admitted = std::future::poll_fn(|context| {
            loop {
                match position.poll(context, deadline) {
                    QueueStatus::Granted => return Poll::Ready(Ok(())),
                    QueueStatus::Held(pause) => return Poll::Ready(Err(NotAdmitted::Asked(pause))),
                    QueueStatus::TooLate => return Poll::Ready(Err(NotAdmitted::TooLate)),
                    QueueStatus::Waiting(until) => {
                        let until = [until, deadline].into_iter().flatten().min();
                        let Some(until) = until else {
                            return Poll::Pending;
                        };
                        let sleep =
                            sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                        if sleep.deadline() != until {
                            sleep.as_mut().reset(until);
                        }
                        ready!(sleep.as_mut().poll(context));
                    }
                }
            }
        });
        admitted.await?;
        position.granted = true;
        Ok(permit(start.elapsed()))
    }

    /// Applies the rate limit in an answer. `clock` is used for a time of day in it.
    pub(crate) fn observe(&self, answer: &WireResponse, clock: SystemTime) {
        let pause = match answer.status {
            429 => retry_after(answer).or_else(|| reset(answer, clock)),
            _ if remaining(answer) == Some(0) => reset(answer, clock),
            _ => None,
        };
        if let Some(pause) = pause.filter(|pause| *pause <= MAX_HOLD) {
            let until = Instant::now() + pause;
            self.change(|queue, wakers| queue.hold(until, wakers));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        (self.limits).change(|queue, wakers| queue.release(self.node.as_ref(), now, wakers));
    }
}

/// A request's position in the queue.
struct QueuePosition {
    limits: Limits,
    lane: Lane,
    number: u64,
    start: Instant,
    /// Whether the permit was handed over.
    granted: bool,
}

impl QueuePosition {
    fn poll(&self, context: &mut Context<'_>, deadline: Option<Instant>) -> QueueStatus {
        let now = Instant::now();
        self.limits.change(|queue, wakers| {
            queue.poll(&self.lane, self.number, now, deadline, context, wakers)
        })
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        let now = Instant::now();
        let shared = &self.limits.0;
        let waited = u64::try_from(now.duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        shared.waited.fetch_add(1, Ordering::Relaxed);
        shared.nanoseconds.fetch_add(waited, Ordering::Relaxed);
        if !self.granted {
            (self.limits).change(|queue, wakers| queue.leave(&self.lane, self.number, now, wakers));
        }
    }
}

fn number(answer: &WireResponse, names: [&str; 2]) -> Option<u64> {
    let text = names.into_iter().find_map(|name| answer.header(name))?;
    text.trim().parse().ok()
}

fn remaining(answer: &WireResponse) -> Option<u64> {
    number(answer, ["x-ratelimit-remaining", "ratelimit-remaining"])
}

/// The time until new requests are admitted. Some proxies send seconds, others the time of day.
fn reset(answer: &WireResponse, clock: SystemTime) -> Option<Duration> {
    const A_TIME_OF_DAY: u64 = 1_000_000_000;
    let number = number(answer, ["x-ratelimit-reset", "ratelimit-reset"])?;
    if number < A_TIME_OF_DAY {
        return Some(Duration::from_secs(number));
    }
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(number))?;
    then.duration_since(clock).ok()
}

#[cfg(test)]
mod tests;
