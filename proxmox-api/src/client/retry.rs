//! Retries of requests.
//!
//! One rule precedes every setting: a request that may have arrived is repeated only if it only
//! reads, or if the caller marked it as safe to repeat.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::Failure;
use crate::transport::{TransportError, WireResponse, retry_after};

/// The number, the pace and the duration of retries.
///
/// | failure | GET, or [`repeatable`](crate::request::Request::repeatable) | others |
/// |---|---|---|
/// | no connection came about | again | again |
/// | the server's certificate is not trusted | no | no |
/// | the connection broke, or no answer in time | again | no |
/// | status 429 | again | again |
/// | status 502, 503, 504 or 595 | again | no |
/// | any other refusal, status 500 above all | no | no |
///
/// The pause before a retry is random between zero and a bound that doubles each time, so that many
/// clients do not return at once. A pause that the server asks for (`Retry-After`) takes
/// precedence.
///
/// ```
/// use std::time::Duration;
/// use proxmox_api::client::retry::RetryPolicy;
///
/// let patient = RetryPolicy::new()
///     .attempts(6)
///     .backoff(Duration::from_millis(200), Duration::from_secs(10))
///     .within(Duration::from_secs(120));
/// let never = RetryPolicy::none();
/// # let _ = (patient, never);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "does nothing unless used by a client"]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    max_pause: Duration,
    within: Duration,
    budget: u32,
}

impl RetryPolicy {
    /// The default: 3 attempts with pauses of up to 100 ms at first and 5 s at most, within 30
    /// seconds, and a budget of 20.
    pub const fn new() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(100),
            max_pause: Duration::from_secs(5),
            within: Duration::from_secs(30),
            budget: 20,
        }
    }

    /// No retries. A client with several hosts still tries the next one while no connection is
    /// made.
    pub const fn none() -> Self {
        Self {
            attempts: 1,
            ..Self::new()
        }
    }

    /// The maximum number of attempts, the first one included; at least one.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// The bounds of the pause: before the first retry, and of any later one.
    pub const fn backoff(mut self, first: Duration, max_pause: Duration) -> Self {
        self.first = first;
        self.max_pause = max_pause;
        self
    }

    /// The time after the first attempt in which retries may start. A retry that would have to
    /// start later is not made.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The number of retries in the client's budget, shared by all its calls. Each retry takes one,
    /// and ten answered requests give one back, so that an unreachable server does not get three
    /// times the load.
    pub const fn budget(mut self, budget: u32) -> Self {
        self.budget = budget;
        self
    }

    /// The bound of the pause before a retry, counted from 0.
    fn bound(&self, repetition: u32) -> Duration {
        let doubled = 2u32
            .checked_pow(repetition)
            .map(|times| self.first.saturating_mul(times));
        doubled.unwrap_or(self.max_pause).min(self.max_pause)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// The outcome of one attempt.
pub(crate) type Outcome<'a> = Result<&'a WireResponse, &'a TransportError>;

/// A policy and the rest of its budget.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    policy: RetryPolicy,
    /// In tenths.
    left: AtomicU32,
}

/// A retry that was decided. It returns to the budget unless it is used.
#[derive(Debug)]
pub(crate) struct Repetition {
    pub(crate) pause: Duration,
    budget: RetryBudget,
    used: bool,
}

impl Repetition {
    /// The request is about to be sent again.
    pub(crate) fn use_up(mut self) {
        self.used = true;
    }
}

impl Drop for Repetition {
    fn drop(&mut self) {
        if !self.used {
            self.budget.refund(ONE);
        }
    }
}

const ONE: u32 = 10;

impl RetryBudget {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let left = AtomicU32::new(policy.budget.saturating_mul(ONE));
        Self(Arc::new(Shared { policy, left }))
    }

    /// The next attempt and the pause before it; `None` if there is none. `left` is the remaining
    /// time of the call, `spent` the time since the first attempt, `elsewhere` whether the next
    /// attempt goes to another host.
    pub(crate) fn next(
        &self,
        outcome: &Outcome<'_>,
        repeatable: bool,
        attempts: u32,
        spent: Duration,
        left: Option<Duration>,
        elsewhere: bool,
    ) -> Option<Repetition> {
        let requested_delay = retry_delay(outcome, repeatable)?;
        if attempts >= self.0.policy.attempts {
            return None;
        }
        let pause = match requested_delay {
            Some(requested_delay) => requested_delay.saturating_add(self.jitter(attempts - 1)),
            None if elsewhere => Duration::ZERO,
            None => self.jitter(attempts - 1),
        };
        let fits = spent
            .checked_add(pause)
            .is_some_and(|then| then <= self.0.policy.within)
            && left.is_none_or(|left| pause < left);
        (fits && self.withdraw()).then(|| Repetition {
            pause,
            budget: self.clone(),
            used: false,
        })
    }

    fn jitter(&self, repetition: u32) -> Duration {
        let bound = self.0.policy.bound(repetition);
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random() % bound.saturating_add(1).max(1))
    }

    fn withdraw(&self) -> bool {
        self.0
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(ONE)
            })
            .is_ok()
    }

    /// Counts an answered request.
    pub(crate) fn deposit(&self) {
        self.refund(1);
    }

    fn refund(&self, tenths: u32) {
        let max = self.0.policy.budget.saturating_mul(ONE);
        // Fails where the budget is full.
        let _ = (self.0.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < max).then(|| left.saturating_add(tenths).min(max))
        });
    }
}

/// Whether another attempt can succeed and is safe, and the pause that the server asks for before
/// it.
pub(crate) fn retry_delay(outcome: &Outcome<'_>, repeatable: bool) -> Option<Option<Duration>> {
    let (failure, pause) = match outcome {
        Ok(answer) => (Failure::Refused(answer.status), retry_after(answer)),
        Err(error) => (Failure::of(error), None),
    };
    failure
        .repetition(repeatable)
        .by_the_client
        .then_some(pause)
}

/// Random enough to spread retries: the random keys of a hasher.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
