//! When a request is sent again.
//!
//! The rule that stands above every setting: what may have arrived is repeated only if it reads, or if the
//! caller said that repeating it does no harm.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::Failure;
use crate::transport::{TransportError, WireResponse, retry_after};

/// How often, how fast and for how long a request is sent again.
///
/// | what happened | GET, or [`repeatable`](crate::request::Request::repeatable) | others |
/// |---|---|---|
/// | no connection came about | again | again |
/// | the server's certificate is not trusted | no | no |
/// | the connection broke, or no answer in time | again | no |
/// | status 429 | again | again |
/// | status 502, 503, 504 or 595 | again | no |
/// | any other refusal, status 500 above all | no | no |
///
/// The pause before a repetition is chosen at random between nothing and a bound that doubles each time, so
/// that many clients do not come back at once. Where the server says how long to wait (`Retry-After`), it
/// gets that.
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
#[must_use = "a policy does nothing until a client is built with it"]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    longest: Duration,
    within: Duration,
    budget: u32,
}

impl RetryPolicy {
    /// The usual one: 3 attempts with pauses of up to 100 ms at first and 5 s at most, within 30 seconds,
    /// and a budget of 20.
    pub const fn new() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            within: Duration::from_secs(30),
            budget: 20,
        }
    }

    /// Sends nothing twice. A client of several hosts still goes on to the next one while none could be
    /// connected to.
    pub const fn none() -> Self {
        Self {
            attempts: 1,
            ..Self::new()
        }
    }

    /// How often a request is sent at most, the first time included; at least once.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// The bounds of the pause: before the first repetition, and before any.
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// No repetition starts later than this after the first attempt did. One that would have to wait longer
    /// is not made at all.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// How many repetitions the client has in its budget, over all its calls. Each takes one away, and ten
    /// answered requests give one back: a server that is down is not asked three times as much.
    pub const fn budget(mut self, budget: u32) -> Self {
        self.budget = budget;
        self
    }

    /// The bound of the pause before a repetition, counted from 0.
    fn bound(&self, repetition: u32) -> Duration {
        let doubled = 2u32
            .checked_pow(repetition)
            .map(|times| self.first.saturating_mul(times));
        doubled.unwrap_or(self.longest).min(self.longest)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of one attempt.
pub(crate) type Outcome<'a> = Result<&'a WireResponse, &'a TransportError>;

/// A policy and what is left of its budget.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    policy: RetryPolicy,
    /// In tenths.
    left: AtomicU32,
}

/// A repetition that is to come. It goes back into the budget unless it is used.
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

    /// The next attempt and how long to wait before it; `None` if there is to be none. `left` is the time the call has
    /// yet, `spent` that since
    /// the first attempt, `elsewhere` whether the next one goes to another host.
    pub(crate) fn next(
        &self,
        outcome: &Outcome<'_>,
        repeatable: bool,
        attempts: u32,
        spent: Duration,
        left: Option<Duration>,
        elsewhere: bool,
    ) -> Option<Repetition> {
        let asked = retry_delay(outcome, repeatable)?;
        if attempts >= self.0.policy.attempts {
            return None;
        }
        let pause = match asked {
            Some(asked) => asked.saturating_add(self.jitter(attempts - 1)),
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

    /// A request was answered.
    pub(crate) fn deposit(&self) {
        self.refund(1);
    }

    fn refund(&self, tenths: u32) {
        let most = self.0.policy.budget.saturating_mul(ONE);
        // Fails where the budget is full.
        let _ = (self.0.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < most).then(|| left.saturating_add(tenths).min(most))
        });
    }
}

/// Whether another attempt can succeed and do no harm, and the pause the server asks for before it.
pub(crate) fn retry_delay(outcome: &Outcome<'_>, repeatable: bool) -> Option<Option<Duration>> {
    let (failure, asked) = match outcome {
        Ok(answer) => (Failure::Refused(answer.status), retry_after(answer)),
        Err(error) => (Failure::of(error), None),
    };
    failure
        .repetition(repeatable)
        .by_the_client
        .then_some(asked)
}

/// Good enough to spread repetitions: the keys of a hasher, which are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
