//! Fair scheduling of webhooks, so that a slow receiver does not delay others.

use std::collections::{HashSet, VecDeque};

use crate::permits::PerUser;

/// Maximum webhooks processed at the same time.
const AT_ONCE: usize = 64;
/// Maximum webhooks of one user among them.
const OF_ONE: usize = 8;

/// A webhook and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) hook: String,
    pub(crate) owner: String,
}

/// The queue of webhooks, and those being processed.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: VecDeque<Waiting>,
    /// Webhooks in the queue or being processed.
    known: HashSet<String>,
    /// Number of webhooks being processed, by user.
    working: PerUser,
    all: usize,
}

impl Schedule {
    /// Appends webhooks that are not in the queue and not being processed.
    pub(crate) fn wait(&mut self, due: impl IntoIterator<Item = Waiting>) {
        for one in due {
            if self.known.insert(one.hook.clone()) {
                self.queue.push_back(one);
            }
        }
    }

    /// The next webhook to process.
    pub(crate) fn next(&mut self) -> Option<Waiting> {
        if self.all >= AT_ONCE {
            return None;
        }
        let at = (self.queue.iter()).position(|one| self.working.of(&one.owner) < OF_ONE)?;
        let one = self.queue.remove(at)?;
        self.working.add(&one.owner);
        self.all += 1;
        Some(one)
    }

    /// Ends the turn of a webhook.
    pub(crate) fn end(&mut self, one: &Waiting) {
        if !self.known.remove(&one.hook) {
            return;
        }
        self.all = self.all.saturating_sub(1);
        self.working.remove(&one.owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(owner: &str, count: usize) -> Vec<Waiting> {
        let one = |number| Waiting {
            hook: format!("{owner} {number}"),
            owner: owner.to_owned(),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_user_gets_a_turn() {
        let mut schedule = Schedule::default();
        schedule.wait(waiting("a@pve!one", 20));
        schedule.wait(waiting("a@pve!two", 20));
        schedule.wait(waiting("b@pve", 1));
        let begun: Vec<_> = std::iter::from_fn(|| schedule.next()).collect();
        assert_eq!(begun.len(), OF_ONE + 1);
        assert_eq!(begun[OF_ONE].owner, "b@pve");
        // A webhook that is in the queue or being processed is not added again.
        schedule.wait(waiting("b@pve", 1));
        assert_eq!(schedule.next(), None);
        // New webhooks come before those that had a turn.
        schedule.end(&begun[0]);
        schedule.end(&begun[0]);
        schedule.wait([begun[0].clone()]);
        assert_eq!(
            schedule.next().map(|one| one.hook).as_deref(),
            Some("a@pve!one 8")
        );
        assert_eq!(schedule.next(), None);
        for one in begun {
            schedule.end(&one);
        }
        let mut left = 0;
        while let Some(one) = schedule.next() {
            schedule.end(&one);
            left += 1;
        }
        assert_eq!(left, 32);
    }

    #[test]
    fn the_number_of_turns_at_a_time_is_limited() {
        let mut schedule = Schedule::default();
        for user in 0..20 {
            schedule.wait(waiting(&format!("{user}@pve"), 10));
        }
        assert_eq!(std::iter::from_fn(|| schedule.next()).count(), AT_ONCE);
    }
}
