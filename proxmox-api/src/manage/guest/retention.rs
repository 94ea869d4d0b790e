//! Choosing the snapshots or backups to keep.

use std::collections::BTreeSet;

use crate::value::serialize::{record_serde, variant_serde};

/// How many of each kind to keep, counted from the newest.
///
/// Each rule keeps the newest item of every period, up to its number, and skips periods for which
/// an earlier rule (in the order of the fields) has kept something. Periods are in UTC; weeks start
/// on Monday. Without rules everything is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest items.
    pub last: u32,
    /// One for each hour with items.
    pub hourly: u32,
    /// One for each day with items.
    pub daily: u32,
    /// One for each week with items.
    pub weekly: u32,
    /// One for each month with items.
    pub monthly: u32,
    /// One for each year with items.
    pub yearly: u32,
}

record_serde!(Retention {
    last,
    hourly,
    daily,
    weekly,
    monthly,
    yearly,
});

/// The decision on one item; see [`Retention::evaluate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It can go.
    Remove,
}

variant_serde!(Verdict {
    Keep = "keep",
    Remove = "remove",
});

impl Retention {
    /// Decides on items by their times, in seconds since 1970 and in any order. The result has the
    /// same order.
    #[must_use]
    #[inline]
    pub fn evaluate(&self, times: &[u64]) -> Vec<Verdict> {
        if *self == Self::default() {
            return vec![Verdict::Keep; times.len()];
        }
        let mut newest_first: Vec<usize> = (0..times.len()).collect();
        newest_first.sort_by(|a, b| times[*b].cmp(&times[*a]));
        let mut verdicts = vec![Verdict::Remove; times.len()];

        for index in newest_first.iter().take(self.last as usize) {
            verdicts[*index] = Verdict::Keep;
        }
        let rules: [(u32, PeriodOf); 5] = [
            (self.hourly, |time| (time / 3_600) as i64),
            (self.daily, |time| (time / 86_400) as i64),
            // 1970-01-01 was a Thursday.
            (self.weekly, |time| ((time / 86_400 + 3) / 7) as i64),
            (self.monthly, |time| {
                let (year, month) = month_of(time);
                year * 12 + month
            }),
            (self.yearly, |time| month_of(time).0),
        ];
        for (count, period_of) in rules {
            let mut covered: BTreeSet<i64> = newest_first
                .iter()
                .filter(|index| verdicts[**index] == Verdict::Keep)
                .map(|index| period_of(times[*index]))
                .collect();
            let mut kept = 0;
            for index in &newest_first {
                if kept == count {
                    break;
                }
                if verdicts[*index] == Verdict::Remove && covered.insert(period_of(times[*index])) {
                    verdicts[*index] = Verdict::Keep;
                    kept += 1;
                }
            }
        }
        verdicts
    }
}

/// The number of the period of a time.
type PeriodOf = fn(u64) -> i64;

/// Year and month (0 to 11) of a time, in UTC.
fn month_of(time: u64) -> (i64, i64) {
    // Years are counted from March, so that the leap day is the last one.
    let days = (time / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let january_first = if month < 10 { month + 2 } else { month - 10 };
    (year + era * 400 + i64::from(month >= 10), january_first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn kept(rule: Retention, times: &[u64]) -> Vec<u64> {
        let mut kept: Vec<u64> = (times.iter().zip(rule.evaluate(times)))
            .filter(|(_, verdict)| *verdict == Verdict::Keep)
            .map(|(time, _)| *time)
            .collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn months_follow_the_calendar() {
        assert_eq!(month_of(0), (1970, 0));
        assert_eq!(month_of(951_782_399), (2000, 1), "28 February 2000");
        assert_eq!(month_of(951_782_400), (2000, 1), "29 February 2000");
        assert_eq!(month_of(951_868_800), (2000, 2), "1 March 2000");
        assert_eq!(month_of(1_798_761_599), (2026, 11), "31 December 2026");
        assert_eq!(month_of(1_798_761_600), (2027, 0), "1 January 2027");
    }

    #[test]
    fn daily_and_weekly_rules_combine() {
        // Thirty nights from Sunday 1 November 2026 on.
        let nights: Vec<u64> = (0..30).map(|n| 1_793_491_200 + n * DAY + 7_200).collect();
        let rule = Retention {
            daily: 7,
            weekly: 2,
            ..Retention::default()
        };
        let days: Vec<u64> = (kept(rule, &nights).into_iter())
            .map(|time| (time - 1_793_491_200) / DAY + 1)
            .collect();
        // The newest seven reach back into the week of the 23rd, so the Sundays before that follow.
        assert_eq!(days, [15, 22, 24, 25, 26, 27, 28, 29, 30]);
    }

    prop_compose! {
        fn rules()(
            last in 0..4_u32, hourly in 0..4_u32, daily in 0..4_u32, weekly in 0..4_u32,
            monthly in 0..4_u32, yearly in 0..4_u32,
        ) -> Retention {
            Retention { last, hourly, daily, weekly, monthly, yearly }
        }
    }

    proptest! {
        #[test]
        fn retention_keeps_the_newest_and_at_most_the_given_number(
            rule in rules(),
            times in prop::collection::btree_set(0..4_000_000_000_u64, 0..60),
        ) {
            let times: Vec<u64> = times.into_iter().collect();
            let kept = kept(rule, &times);
            if rule == Retention::default() {
                prop_assert_eq!(kept, times);
                return Ok(());
            }
            let max = rule.last + rule.hourly + rule.daily + rule.weekly + rule.monthly + rule.yearly;
            prop_assert!(kept.len() <= max as usize);
            prop_assert_eq!(kept.last(), times.last(), "the newest stays");
            for newest in times.iter().rev().take(rule.last as usize) {
                prop_assert!(kept.contains(newest));
            }
            // With enough items, no rule is left unused.
            let hours: BTreeSet<u64> = times.iter().map(|time| time / 3_600).collect();
            prop_assert!(kept.len() >= (rule.last.max(rule.hourly) as usize).min(hours.len()));
        }

        #[test]
        fn retention_is_stable_when_repeated(
            rule in rules(),
            times in prop::collection::btree_set(0..400_000_000_u64, 1..60),
        ) {
            // A second run without new items keeps the same ones.
            let times: Vec<u64> = times.into_iter().collect();
            let once = kept(rule, &times);
            prop_assert_eq!(kept(rule, &once), once);
        }

        #[test]
        fn retention_does_not_depend_on_the_order(
            rule in rules(),
            mut times in prop::collection::vec(0..4_000_000_000_u64, 0..40),
        ) {
            let forward = kept(rule, &times);
            times.reverse();
            prop_assert_eq!(kept(rule, &times), forward);
        }

        #[test]
        fn nightly_runs_reach_a_constant_number(daily in 1..8_u32, weekly in 0..4_u32, nights in 60..120_u64) {
            // A snapshot every night and pruning at once, as in the example.
            let rule = Retention { daily, weekly, ..Retention::default() };
            let mut have: Vec<u64> = Vec::new();
            for night in 0..nights {
                have.push(1_793_491_200 + night * DAY);
                have = kept(rule, &have);
            }
            prop_assert!(have.len() <= (daily + weekly) as usize);
            for recent in 0..u64::from(daily) {
                prop_assert!(have.contains(&(1_793_491_200 + (nights - 1 - recent) * DAY)));
            }
        }
    }
}
