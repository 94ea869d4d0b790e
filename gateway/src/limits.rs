//! How many requests each user may send in a minute.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::Caller;
use crate::config::LimitsConfig;
use crate::peer::home;
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
    /// A user whose credentials the cluster took, in whatever ticket or token.
    User([u8; 32]),
    /// Those of whom nothing is known but where they are.
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
    /// When windows that are over were last removed.
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

/// What a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u32,
    remaining: u32,
    /// In seconds since 1970.
    reset: u64,
    /// How long to wait, if nothing was left.
    wait: Option<u64>,
    /// Whether it was counted for a user, and not for an address.
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

    fn most(&self, class: Class) -> u32 {
        match class {
            Class::Authentication => self.config.authentication,
            Class::Read => self.config.read,
            Class::Write => self.config.write,
            Class::Bulk => self.config.bulk,
        }
    }

    /// Counts a request; `None` where there is no limit.
    ///
    /// A request counts for its user if the cluster took the same credentials before. Others name whom they like, so they
    /// count for their address, until [`believe`](Self::believe) counts them for the user as well; thus nobody uses up what
    /// another has, and a new login is no new allowance.
    pub(crate) fn take(
        &self,
        caller: Option<&Caller>,
        address: IpAddr,
        class: Class,
    ) -> Option<Standing> {
        let now = (self.clock)();
        let home = Key::Address(home(address));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.most(class);
        let Some(caller) = caller.filter(|_| class != Class::Authentication) else {
            return counts.standing((home, class), most, now, true);
        };
        let user = Key::User(caller.user());
        let known = counts.believed.get(&caller.key());
        if known.is_some_and(|until| *until > now) {
            return counts.standing((user, class), most, now, true);
        }
        // Guessing credentials is limited as logins are.
        let guesses = (
            (home, Class::Authentication),
            self.most(Class::Authentication),
        );
        for (place, most) in [guesses, ((user, class), most)] {
            let standing = counts.standing(place, most, now, false);
            if let Some(refused) = standing.filter(|standing| standing.wait.is_some()) {
                return Some(refused);
            }
        }
        let mut standing = counts.standing((home, class), most, now, true)?;
        standing.is_of_user = false;
        Some(standing)
    }

    /// Learns that the cluster took a caller's credentials, with a request that had this standing; what it is then.
    pub(crate) fn believe(
        &self,
        caller: &Caller,
        class: Class,
        standing: Option<Standing>,
    ) -> Option<Standing> {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.believed.len() >= MOST_CALLERS {
            counts.believed.retain(|_, until| *until > now);
        }
        if counts.believed.len() < MOST_CALLERS {
            counts
                .believed
                .insert(caller.key(), now.saturating_add(TRUST));
        }
        match standing {
            Some(standing) if !standing.is_of_user => {
                let user = Key::User(caller.user());
                counts.standing((user, class), self.most(class), now, true)
            }
            other => other,
        }
    }

    /// Learns that the cluster refused a caller's credentials.
    pub(crate) fn disbelieve(&self, caller: &Caller, address: IpAddr) {
        let now = (self.clock)();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.believed.remove(&caller.key());
        let most = self.most(Class::Authentication);
        let guesses = (Key::Address(home(address)), Class::Authentication);
        let _ = counts.standing(guesses, most, now, true);
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
        let known = self.windows.contains_key(&(key, class));
        // Once a second at most, since it takes a while.
        if self.windows.len() >= MOST_CALLERS && !known && self.swept != now {
            self.swept = now;
            self.windows.retain(|_, window| !is_over(window));
        }
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
            is_of_user: true,
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

    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);

    fn caller(secret: &str) -> Caller {
        token(&format!("me@pve!ci={secret}"))
    }

    fn token(text: &str) -> Caller {
        let mut headers = HeaderMap::new();
        let value = format!("PVEAPIToken={text}");
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
    fn each_user_has_a_window_of_a_minute_for_each_class() {
        let (limits, time) = limits(LimitsConfig {
            write: 2,
            ..LimitsConfig::default()
        });
        let (one, two) = (token("me@pve!ci=1"), token("other@pve!ci=1"));
        for caller in [&one, &two] {
            limits.believe(caller, Class::Write, None);
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
        limits.believe(&good, Class::Read, None);
        for guess in 0..3 {
            let guess = caller(&guess.to_string());
            let standing = limits.take(Some(&guess), HERE, Class::Read);
            assert_eq!(standing.expect("limited").wait, None);
            limits.disbelieve(&guess, HERE);
        }
        let next = limits.take(Some(&caller("3")), HERE, Class::Read);
        assert!(next.expect("limited").wait.is_some());
        let good = limits.take(Some(&good), HERE, Class::Read);
        assert_eq!(good.expect("limited").wait, None);
    }

    #[test]
    fn a_new_login_is_no_new_allowance() {
        let (limits, time) = limits(LimitsConfig {
            write: 5,
            ..LimitsConfig::default()
        });
        // Each request with another ticket or token, as the cluster gives them to whoever logs in.
        let mut taken = 0;
        for number in 0..20 {
            let address = IpAddr::from([10, 0, 0, number]);
            let fresh = token(&format!("me@pve!{number}=x"));
            let standing = limits.take(Some(&fresh), address, Class::Write);
            let standing = standing.expect("limited");
            if standing.wait.is_none() {
                taken += 1;
                let counted = limits.believe(&fresh, Class::Write, Some(standing));
                assert_eq!(counted.expect("limited").remaining, 5 - taken);
            }
        }
        assert_eq!(taken, 5);
        // What was sent at once, before any was believed, counts when it is.
        time.store(1_060, Ordering::Relaxed);
        let fresh = token("me@pve!many=x");
        let at_once: Vec<_> = (0..5)
            .map(|_| limits.take(Some(&fresh), HERE, Class::Write))
            .collect();
        for standing in at_once {
            assert_eq!(standing.expect("limited").wait, None);
            limits.believe(&fresh, Class::Write, standing);
        }
        let next = limits.take(Some(&fresh), ELSEWHERE, Class::Write);
        assert!(next.expect("limited").wait.is_some());
    }

    #[test]
    fn nobody_uses_up_what_another_has() {
        let (limits, _) = limits(LimitsConfig {
            read: 3,
            ..LimitsConfig::default()
        });
        // Made-up credentials that name a user, for something that is open to everybody.
        let mut taken = 0;
        for number in 0..20 {
            let forged = token(&format!("me@pve!ci={number}"));
            let standing = limits.take(Some(&forged), ELSEWHERE, Class::Read);
            taken += u32::from(standing.expect("limited").wait.is_none());
        }
        assert_eq!(taken, 3, "they count for the address");
        let own = caller("right");
        let standing = limits.take(Some(&own), HERE, Class::Read);
        assert_eq!(standing.expect("limited").wait, None);
        let standing = limits.believe(&own, Class::Read, standing);
        assert_eq!(standing.expect("limited").remaining, 2);
    }

    #[test]
    fn whoever_has_a_network_has_no_more_logins() {
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
    fn many_callers_share_a_count_and_cost_little() {
        let (limits, time) = limits(LimitsConfig {
            read: 10,
            ..LimitsConfig::default()
        });
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let take = |number: u32| limits.take(None, address(number), Class::Read);
        let most = u32::try_from(MOST_CALLERS).expect("few");
        let start = std::time::Instant::now();
        let refused = (0..most + 100)
            .filter(|number| take(*number).is_some_and(|standing| standing.wait.is_some()));
        assert_eq!(refused.count(), 90, "the last hundred share ten");
        let once = start.elapsed();
        for number in 0..20_000 {
            take(most + number);
        }
        // Looking through all windows for each of them would take hundreds of times as long.
        assert!(
            start.elapsed() < once * 20,
            "{once:?}, {:?}",
            start.elapsed()
        );
        time.store(1_061, Ordering::Relaxed);
        assert_eq!(take(most).expect("limited").remaining, 9);
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
