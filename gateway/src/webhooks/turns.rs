//! Whose turn it is to be told, so that nobody waits for a receiver that is slow.

use std::collections::{HashSet, VecDeque};

use crate::places::PerUser;

/// Webhooks that are at work at a time.
const AT_ONCE: usize = 64;
/// Those of one user among them.
const OF_ONE: usize = 8;

/// A webhook and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) hook: String,
    pub(crate) owner: String,
}

/// Webhooks that wait for their turn, in the order in which they came, and those that have theirs.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: VecDeque<Waiting>,
    /// Those that wait or are at work.
    known: HashSet<String>,
    /// How many of each user are at work.
    working: PerUser,
    all: usize,
}

impl Turns {
    /// Puts those at the end that do not wait yet and are not at work.
    pub(crate) fn wait(&mut self, due: impl IntoIterator<Item = Waiting>) {
        for one in due {
            if self.known.insert(one.hook.clone()) {
                self.queue.push_back(one);
            }
        }
    }

    /// The next one that may begin.
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

    /// Ends the turn of one that had begun.
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
    fn everybody_has_a_turn_whatever_others_wait_for() {
        let mut turns = Turns::default();
        turns.wait(waiting("a@pve!one", 20));
        turns.wait(waiting("a@pve!two", 20));
        turns.wait(waiting("b@pve", 1));
        let begun: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(begun.len(), OF_ONE + 1);
        assert_eq!(begun[OF_ONE].owner, "b@pve");
        // One that is at work or waits does not come twice.
        turns.wait(waiting("b@pve", 1));
        assert_eq!(turns.next(), None);
        // Whoever had a turn comes after those who had none.
        turns.end(&begun[0]);
        turns.end(&begun[0]);
        turns.wait([begun[0].clone()]);
        assert_eq!(
            turns.next().map(|one| one.hook).as_deref(),
            Some("a@pve!one 8")
        );
        assert_eq!(turns.next(), None);
        for one in begun {
            turns.end(&one);
        }
        let mut left = 0;
        while let Some(one) = turns.next() {
            turns.end(&one);
            left += 1;
        }
        assert_eq!(left, 32);
    }

    #[test]
    fn so_many_work_at_a_time() {
        let mut turns = Turns::default();
        for user in 0..20 {
            turns.wait(waiting(&format!("{user}@pve"), 10));
        }
        assert_eq!(std::iter::from_fn(|| turns.next()).count(), AT_ONCE);
    }
}
