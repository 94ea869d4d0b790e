//! How many requests each caller may send in a minute.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::Caller;
use crate::config::LimitsConfig;
use crate::refusal::Refusal;

const WINDOW: u64 = 60;
/// How long a caller that the cluster believed is believed without being asked about.
const TRUST: u64 = 600;
/// Further callers share one count, so that made-up credentials cannot fill the memory.
const MOST_CALLERS: usize = 50_000;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What a request does, as far as limits go.
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

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Caller([u8; 32]),
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
    /// Callers that the cluster believed, and until when that counts.
    believed: HashMap<[u8; 32], u64>,
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

/// What a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u32,
    remaining: u32,
    /// In seconds since 1970.
    reset: u64,
    /// How long to wait, if nothing was left.
    wait: Option<u64>,
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

    fn most(&self, class: Class) -> u32 {
        match class {
            Class::Authentication => self.config.authentication,
            Class::Read => self.config.read,
            Class::Write => self.config.write,
            Class::Bulk => self.config.bulk,
        }
    }

    /// Counts a request; `None` where there is no limit.
    pub(crate) fn take(
        &self,
        caller: Option<&Caller>,
        address: IpAddr,
        class: Class,
    ) -> Option<Standing> {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match caller {
            Some(caller) if class != Class::Authentication => {
                let key = caller.key();
                let believed = counts.believed.get(&key).is_some_and(|until| *until > now);
                if !believed {
                    // Guessing credentials is limited as logins are.
                    let most = self.most(Class::Authentication);
                    let guesses = (Key::Address(address), Class::Authentication);
                    let standing = counts.standing(guesses, most, now, false);
                    if let Some(refused) = standing.filter(|standing| standing.wait.is_some()) {
                        return Some(refused);
                    }
                }
                Key::Caller(key)
            }
            _ => Key::Address(address),
        };
        counts.standing((key, class), self.most(class), now, true)
    }

    /// Learns how the cluster took a caller's credentials.
    pub(crate) fn learn(&self, caller: &Caller, address: IpAddr, believed: bool) {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = caller.key();
        if !believed {
            counts.believed.remove(&key);
            let most = self.most(Class::Authentication);
            let guesses = (Key::Address(address), Class::Authentication);
            let _ = counts.standing(guesses, most, now, true);
        } else if counts.believed.len() < MOST_CALLERS {
            counts.believed.insert(key, now.saturating_add(TRUST));
        } else {
            counts.believed.retain(|_, until| *until > now);
        }
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
    fn standing(
        &mut self,
        (key, class): (Key, Class),
        limit: u32,
        now: u64,
        take: bool,
    ) -> Option<Standing> {
        if limit == 0 {
            return None;
        }
        let is_over = |window: &Window| now >= window.start.saturating_add(WINDOW);
        if self.windows.len() >= MOST_CALLERS && !self.windows.contains_key(&(key, class)) {
            self.windows.retain(|_, window| !is_over(window));
        }
        let known = self.windows.contains_key(&(key, class));
        let key = match known || self.windows.len() < MOST_CALLERS {
            true => key,
            false => Key::Others,
        };
        let fresh = Window {
            start: now,
            used: 0,
        };
        let window = self.windows.entry((key, class)).or_insert(fresh);
        if is_over(window) {
            *window = fresh;
        }
        let reset = window.start.saturating_add(WINDOW);
        let left = limit.saturating_sub(window.used);
        let wait = (left == 0).then(|| reset.saturating_sub(now).max(1));
        if take && left > 0 {
            window.used = window.used.saturating_add(1);
        }
        Some(Standing {
            limit,
            remaining: left.saturating_sub(u32::from(take)),
            reset,
            wait,
        })
    }
}

impl Standing {
    /// The refusal, if nothing was left.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let wait = self.wait?;
        let message = format!("Rate limit exceeded. Try again in {wait} seconds.");
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, message);
        Some(refusal.retry_after(Duration::from_secs(wait)))
    }

    /// Tells the caller.
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

    fn caller(secret: &str) -> Caller {
        let mut headers = HeaderMap::new();
        let value = format!("PVEAPIToken=me@pve!ci={secret}");
        headers.insert("authorization", value.parse().expect("a value"));
        Caller::of(&headers).expect("a caller")
    }

    fn limits(config: LimitsConfig) -> (Limits, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&time);
        let limits = Limits::new(config, Arc::new(move || clock.load(Ordering::Relaxed)));
        (limits, time)
    }

    #[test]
    fn each_caller_has_a_window_of_a_minute_for_each_class() {
        let (limits, time) = limits(LimitsConfig {
            write: 2,
            ..LimitsConfig::default()
        });
        let (one, two) = (caller("1"), caller("2"));
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
        // Neither others nor other classes are concerned.
        assert_eq!(take(&two).wait, None);
        let read = limits.take(Some(&one), HERE, Class::Read).expect("limited");
        assert_eq!((read.limit, read.remaining), (1_000, 999));
        time.store(1_060, Ordering::Relaxed);
        assert_eq!(take(&one).remaining, 1);
    }

    #[test]
    fn guessing_credentials_is_limited_as_logins_are_and_harms_nobody_else() {
        let (limits, _) = limits(LimitsConfig {
            authentication: 3,
            ..LimitsConfig::default()
        });
        let good = caller("good");
        limits.learn(&good, HERE, true);
        for guess in 0..3 {
            let guess = caller(&guess.to_string());
            let standing = limits.take(Some(&guess), HERE, Class::Read);
            assert_eq!(standing.expect("limited").wait, None);
            limits.learn(&guess, HERE, false);
        }
        let next = limits.take(Some(&caller("3")), HERE, Class::Read);
        assert!(next.expect("limited").wait.is_some());
        let good = limits.take(Some(&good), HERE, Class::Read);
        assert_eq!(good.expect("limited").wait, None);
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
