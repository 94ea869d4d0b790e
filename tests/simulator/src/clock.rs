//! The simulated time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The simulator's source of time: ticket ages, task progress, `Date` headers.
///
/// Clones share one time, so a test keeps a clone and moves the simulator's time with [`Clock::advance`].
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// A clock that moves only when advanced.
    fixed: Option<Duration>,
    ahead_ms: AtomicU64,
}

impl Clock {
    /// Follows the machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(None)
    }

    /// A clock that starts at `unix_seconds` and moves only by [`Clock::advance`].
    #[must_use]
    pub fn manual(unix_seconds: u64) -> Self {
        Self::new(Some(Duration::from_secs(unix_seconds)))
    }

    fn new(fixed: Option<Duration>) -> Self {
        Self(Arc::new(Inner {
            fixed,
            ahead_ms: AtomicU64::new(0),
        }))
    }

    /// Jumps forward, on a manual and on a system clock alike.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Time since 1970-01-01 UTC.
    #[must_use]
    pub fn now(&self) -> Duration {
        let base = self.0.fixed.unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        });
        base.saturating_add(Duration::from_millis(
            self.0.ahead_ms.load(Ordering::SeqCst),
        ))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("now", &self.now())
            .field("manual", &self.0.fixed.is_some())
            .finish()
    }
}

/// Year, month, day, hour, minute, second of a Unix time, in UTC.
fn civil(unix: u64) -> (u64, u64, u64, u64, u64, u64) {
    let days = unix / 86_400;
    let rest = unix % 86_400;
    // Howard Hinnant's days-to-civil, shifted so that every intermediate is positive.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    (year, month, day, rest / 3_600, rest % 3_600 / 60, rest % 60)
}

/// `Sat, 21 Nov 2026 19:49:17 GMT`.
pub(crate) fn http_date(at: Duration) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (year, month, day, hour, minute, second) = civil(at.as_secs());
    let weekday = DAYS[usize::try_from(at.as_secs() / 86_400 % 7).unwrap_or(0)];
    let month = MONTHS[usize::try_from(month.saturating_sub(1))
        .unwrap_or(0)
        .min(11)];
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// `2026-11-21T19:54:22Z`.
pub(crate) fn iso_date(unix: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_recorded_exchanges() {
        let at = Duration::from_secs(1_795_290_862);
        assert_eq!(http_date(at), "Sat, 21 Nov 2026 19:54:22 GMT");
        assert_eq!(iso_date(1_795_290_862), "2026-11-21T19:54:22Z");
        assert_eq!(iso_date(951_782_400), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn clones_share_their_time() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now(), Duration::from_secs(1_005));
    }
}
