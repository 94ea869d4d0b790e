//! Limits on requests of each user.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::Caller;
use crate::config::LimitsConfig;
use crate::peer::prefix;
use crate::refusal::Refusal;

const WINDOW: u64 = 60;
/// How long an authenticated caller counts as known without being checked again.
const TRUST: u64 = 600;
/// Further callers share one count, so that forged credentials cannot exhaust memory.
const MAX_CALLERS: usize = 50_000;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The class of a request for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Logs in.
    Authentication,
    /// Only reads.
    Read,
    /// Changes something.
    Write,
    /// Works on many guests.
    Bulk,
}

/// The key under which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A user whose credentials the cluster accepted, with any ticket or token.
    User([u8; 32]),
    /// Requests without accepted credentials.
    Address(IpAddr),
    Others,
}

#[derive(Clone, Copy)]
struct Window {
    start: u64,
    used: u32,
}

#[derive(Default)]
struct Counts {
    windows: HashMap<(Key, Class), Window>,
    /// Callers that the cluster authenticated, with the end of their validity.
    accepted: HashMap<[u8; 32], u64>,
    /// When expired windows were last removed.
    swept: u64,
}

/// A clock, in seconds since 1970.
pub(crate) type Seconds = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The counts of all callers.
#[derive(Clone)]
pub(crate) struct Limits {
    config: LimitsConfig,
    counts: Arc<Mutex<Counts>>,
    clock: Seconds,
}

/// A caller's remaining requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    limit: u32,
    remaining: u32,
    /// Time of the reset, in seconds since 1970.
    reset: u64,
    /// Time to wait, if none are left.
    wait: Option<u64>,
    /// Whether it is the quota of a user, not of an address.
    is_of_user: bool,
}

pub(crate) fn system_clock() -> Seconds {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    })
}

impl Limits {
    pub(crate) fn new(config: LimitsConfig, clock: Seconds) -> Self {
        Self {
            config,
            counts: Arc::default(),
            clock,
        }
    }

    fn limit(&self, class: Class) -> u32 {
        match class {
            Class::Authentication => self.config.authentication,
            Class::Read => self.config.read,
            Class::Write => self.config.write,
            Class::Bulk => self.config.bulk,
        }
    }

    /// Counts a request; `None` if there is no limit.
    ///
    /// A request counts for its user if the cluster accepted the same credentials before. Other
    /// credentials can name any user, so their requests count for the address until
    /// [`accept`](Self::accept) also counts them for the user. So no caller can use up another
    /// user's quota, and a new login does not give a new quota.
    pub(crate) fn take(
        &self,
        caller: Option<&Caller>,
        address: IpAddr,
        class: Class,
    ) -> Option<Quota> {
        let now = (self.clock)();
        let by_address = Key::Address(prefix(address));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.limit(class);
        let Some(caller) = caller.filter(|_| class != Class::Authentication) else {
            return counts.quota((by_address, class), limit, now, true);
        };
        let user = Key::User(caller.user());
        let known = counts.accepted.get(&caller.key());
        if known.is_some_and(|until| *until > now) {
            return counts.quota((user, class), limit, now, true);
        }
        // Guessing credentials is limited like logins.
        let guesses = (
            (by_address, Class::Authentication),
            self.limit(Class::Authentication),
        );
        for (key, limit) in [guesses, ((user, class), limit)] {
            let quota = counts.quota(key, limit, now, false);
            if let Some(refused) = quota.filter(|quota| quota.wait.is_some()) {
                return Some(refused);
            }
        }
        let mut quota = counts.quota((by_address, class), limit, now, true)?;
        quota.is_of_user = false;
        Some(quota)
    }

    /// Records that the cluster accepted a caller's credentials with a request that was counted with
    /// this quota. Returns the user's quota.
    pub(crate) fn accept(
        &self,
        caller: &Caller,
        class: Class,
        quota: Option<Quota>,
    ) -> Option<Quota> {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.accepted.len() >= MAX_CALLERS {
            counts.accepted.retain(|_, until| *until > now);
        }
        if counts.accepted.len() < MAX_CALLERS {
            counts
                .accepted
                .insert(caller.key(), now.saturating_add(TRUST));
        }
        match quota {
            Some(quota) if !quota.is_of_user => {
                let user = Key::User(caller.user());
                counts.quota((user, class), self.limit(class), now, true)
            }
            other => other,
        }
    }

    /// Records that the cluster refused a caller's credentials.
    pub(crate) fn reject(&self, caller: &Caller, address: IpAddr) {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.accepted.remove(&caller.key());
        let limit = self.limit(Class::Authentication);
        let guesses = (Key::Address(prefix(address)), Class::Authentication);
        let _ = counts.quota(guesses, limit, now, true);
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Counts {
    fn quota(
        &mut self,
        (key, class): (Key, Class),
        limit: u32,
        now: u64,
        take: bool,
    ) -> Option<Quota> {
        if limit == 0 {
            return None;
        }
        let is_over = |window: &Window| now >= window.start.saturating_add(WINDOW);
        let known = self.windows.contains_key(&(key, class));
        // At most once a second, because it is slow.
        if self.windows.len() >= MAX_CALLERS && !known && self.swept != now {
            self.swept = now;
            self.windows.retain(|_, window| !is_over(window));
        }
        let key = match known || self.windows.len() < MAX_CALLERS {
            true => key,
            false => Key::Others,
        };
        let empty = Window {
            start: now,
            used: 0,
        };
        let window = self.windows.entry((key, class)).or_insert(empty);
        if is_over(window) {
            *window = empty;
        }
        let reset = window.start.saturating_add(WINDOW);
        let left = limit.saturating_sub(window.used);
        let wait = (left == 0).then(|| reset.saturating_sub(now).max(1));
        if take && left > 0 {
            window.used = window.used.saturating_add(1);
        }
        Some(Quota {
            limit,
            remaining: left.saturating_sub(u32::from(take)),
            reset,
            wait,
            is_of_user: true,
        })
    }
}

impl Quota {
    /// The refusal, if none are left.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let wait = self.wait?;
        let message = format!("Rate limit exceeded. Try again in {wait} seconds.");
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, message);
        Some(refusal.retry_after(Duration::from_secs(wait)))
    }

    /// Adds the limits to the answer's headers.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);

    fn caller(secret: &str) -> Caller {
        token(&format!("me@pve!ci={secret}"))
    }

    fn token(text: &str) -> Caller {
        let mut headers = HeaderMap::new();
        let value = format!("PVEAPIToken={text}");
        headers.insert("authorization", value.parse().expect("a value"));
        Caller::from_headers(&headers).expect("a caller")
    }

    fn limits(config: LimitsConfig) -> (Limits, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&time);
        let limits = Limits::new(config, Arc::new(move || clock.load(Ordering::Relaxed)));
        (limits, time)
    }

    #[test]
    fn each_user_has_a_window_of_a_minute_for_each_class() {
        let (limits, time) = limits(LimitsConfig {
            write: 2,
            ..LimitsConfig::default()
        });
        let (one, two) = (token("me@pve!ci=1"), token("other@pve!ci=1"));
        for caller in [&one, &two] {
            limits.accept(caller, Class::Write, None);
        }
        let take = |caller| {
            limits
                .take(Some(caller), HERE, Class::Write)
                .expect("limited")
        };
        assert_eq!(take(&one).remaining, 1);
        assert_eq!(take(&one).remaining, 0);
        time.store(1_020, Ordering::Relaxed);
        let refused = take(&one);
        assert_eq!(refused.wait, Some(40));
        assert_eq!(refused.reset, 1_060);
        let text = refused.refusal().expect("refused").to_string();
        assert_eq!(text, "429 Rate limit exceeded. Try again in 40 seconds.");
        // Other callers and other classes are not affected.
        assert_eq!(take(&two).wait, None);
        let read = limits.take(Some(&one), HERE, Class::Read).expect("limited");
        assert_eq!((read.limit, read.remaining), (1_000, 999));
        time.store(1_060, Ordering::Relaxed);
        assert_eq!(take(&one).remaining, 1);
    }

    #[test]
    fn guessing_credentials_is_limited_like_logins_and_affects_no_other_caller() {
        let (limits, _) = limits(LimitsConfig {
            authentication: 3,
            ..LimitsConfig::default()
        });
        let good = caller("good");
        limits.accept(&good, Class::Read, None);
        for guess in 0..3 {
            let guess = caller(&guess.to_string());
            let quota = limits.take(Some(&guess), HERE, Class::Read);
            assert_eq!(quota.expect("limited").wait, None);
            limits.reject(&guess, HERE);
        }
        let next = limits.take(Some(&caller("3")), HERE, Class::Read);
        assert!(next.expect("limited").wait.is_some());
        let good = limits.take(Some(&good), HERE, Class::Read);
        assert_eq!(good.expect("limited").wait, None);
    }

    #[test]
    fn a_new_login_does_not_give_a_new_quota() {
        let (limits, time) = limits(LimitsConfig {
            write: 5,
            ..LimitsConfig::default()
        });
        // Each request has another token, as after new logins.
        let mut taken = 0;
        for number in 0..20 {
            let address = IpAddr::from([10, 0, 0, number]);
            let new = token(&format!("me@pve!{number}=x"));
            let quota = limits.take(Some(&new), address, Class::Write);
            let quota = quota.expect("limited");
            if quota.wait.is_none() {
                taken += 1;
                let counted = limits.accept(&new, Class::Write, Some(quota));
                assert_eq!(counted.expect("limited").remaining, 5 - taken);
            }
        }
        assert_eq!(taken, 5);
        // Concurrent requests, sent before the token is accepted, count once it is.
        time.store(1_060, Ordering::Relaxed);
        let new = token("me@pve!many=x");
        let at_once: Vec<_> = (0..5)
            .map(|_| limits.take(Some(&new), HERE, Class::Write))
            .collect();
        for quota in at_once {
            assert_eq!(quota.expect("limited").wait, None);
            limits.accept(&new, Class::Write, quota);
        }
        let next = limits.take(Some(&new), ELSEWHERE, Class::Write);
        assert!(next.expect("limited").wait.is_some());
    }

    #[test]
    fn forged_credentials_do_not_use_the_quota_of_the_named_user() {
        let (limits, _) = limits(LimitsConfig {
            read: 3,
            ..LimitsConfig::default()
        });
        // Forged credentials that name a user, for an endpoint without authentication.
        let mut taken = 0;
        for number in 0..20 {
            let forged = token(&format!("me@pve!ci={number}"));
            let quota = limits.take(Some(&forged), ELSEWHERE, Class::Read);
            taken += u32::from(quota.expect("limited").wait.is_none());
        }
        assert_eq!(taken, 3, "they count for the address");
        let right = caller("right");
        let quota = limits.take(Some(&right), HERE, Class::Read);
        assert_eq!(quota.expect("limited").wait, None);
        let quota = limits.accept(&right, Class::Read, quota);
        assert_eq!(quota.expect("limited").remaining, 2);
    }

    #[test]
    fn addresses_of_one_ipv6_prefix_share_the_limit_on_logins() {
        let (limits, _) = limits(LimitsConfig::default());
        let login = |last: u16| {
            let address = IpAddr::from([0x2001, 0xdb8, 1, 2, last, 0, 0, last]);
            limits.take(None, address, Class::Authentication)
        };
        let waits: Vec<_> = (0..12)
            .map(|last| login(last).expect("limited").wait)
            .collect();
        assert!(waits[..10].iter().all(Option::is_none));
        assert!(waits[10..].iter().all(Option::is_some));
    }

    #[test]
    fn callers_above_the_maximum_share_a_count_without_slowing_down() {
        let (limits, time) = limits(LimitsConfig {
            read: 10,
            ..LimitsConfig::default()
        });
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let take = |number: u32| limits.take(None, address(number), Class::Read);
        let callers = u32::try_from(MAX_CALLERS).expect("few");
        let start = std::time::Instant::now();
        let refused = (0..callers + 100)
            .filter(|number| take(*number).is_some_and(|quota| quota.wait.is_some()));
        assert_eq!(
            refused.count(),
            90,
            "the last hundred callers share ten requests"
        );
        let once = start.elapsed();
        for number in 0..20_000 {
            take(callers + number);
        }
        // Scanning all windows for each request would take hundreds of times as long.
        assert!(
            start.elapsed() < once * 20,
            "{once:?}, {:?}",
            start.elapsed()
        );
        time.store(1_061, Ordering::Relaxed);
        assert_eq!(take(callers).expect("limited").remaining, 9);
    }

    #[test]
    fn no_limit_is_possible() {
        let (limits, _) = limits(LimitsConfig {
            read: 0,
            ..LimitsConfig::default()
        });
        assert_eq!(limits.take(None, HERE, Class::Read), None);
    }
}
