//! Permits of listeners and connections: limited in total, and for each user or address.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The limits. Clones share them.
#[derive(Clone)]
pub(crate) struct Permits {
    max: usize,
    /// Limit for one user; 0 is no limit.
    max_per_user: usize,
    taken: Arc<Mutex<TakenPermits>>,
}

#[derive(Default)]
struct TakenPermits {
    all: usize,
    by: PerUser,
}

/// Counts by user. A token counts for its user.
#[derive(Debug, Default)]
pub(crate) struct PerUser(HashMap<String, usize>);

impl PerUser {
    pub(crate) fn of(&self, caller: &str) -> usize {
        self.0.get(user(caller)).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, caller: &str) {
        *self.0.entry(user(caller).to_owned()).or_default() += 1;
    }

    /// Decrements the count. Users without any are removed.
    pub(crate) fn remove(&mut self, caller: &str) {
        let user = user(caller);
        match self.of(user) {
            0 | 1 => drop(self.0.remove(user)),
            count => drop(self.0.insert(user.to_owned(), count - 1)),
        }
    }
}

/// A permit, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Permits,
    user: String,
}

/// The reason why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The total is reached.
    All,
    /// The user's limit is reached.
    User,
}

impl Permits {
    pub(crate) fn new(max: usize, max_per_user: u32) -> Self {
        Self {
            max,
            max_per_user: usize::try_from(max_per_user).unwrap_or(usize::MAX),
            taken: Arc::default(),
        }
    }

    /// Takes a permit for a user. A token takes one of its user's.
    pub(crate) fn take(&self, caller: &str) -> Result<Permit, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Full::All);
        }
        if self.max_per_user > 0 && taken.by.of(caller) >= self.max_per_user {
            return Err(Full::User);
        }
        taken.by.add(caller);
        taken.all += 1;
        Ok(Permit {
            permits: self.clone(),
            user: user(caller).to_owned(),
        })
    }

    /// The number of permits taken.
    pub(crate) fn taken(&self) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all
    }
}

/// The user of a token id `user@realm!name`.
pub(crate) fn user(caller: &str) -> &str {
    caller.split('!').next().unwrap_or_default()
}

impl Drop for Permit {
    fn drop(&mut self) {
        let taken = &self.permits.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        taken.by.remove(&self.user);
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("max", &self.max)
            .field("max_per_user", &self.max_per_user)
            .field("taken", &self.taken())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_permits_and_dropping_frees_them() {
        let permits = Permits::new(5, 2);
        let take = |caller| permits.take(caller);
        let mut granted = vec![take("a@pve").ok(), take("a@pve!one").ok()];
        assert_eq!(take("a@pve!two").err(), Some(Full::User));
        assert_eq!(take("a@pve").err(), Some(Full::User));
        granted.extend([take("b@pve").ok(), take("b@pve").ok(), take("c@pve").ok()]);
        assert!(granted.iter().all(Option::is_some));
        assert_eq!(take("d@pve").err(), Some(Full::All));
        assert_eq!(permits.taken(), 5);
        drop(granted.remove(0));
        let again = take("a@pve!two");
        assert!(again.is_ok());
        drop((granted, again));
        assert_eq!(permits.taken(), 0);
        assert!(permits.taken.lock().expect("no panic").by.0.is_empty());
        let unlimited = Permits::new(5, 0);
        let granted: Vec<_> = (0..5).map(|_| unlimited.take("a@pve")).collect();
        assert!(granted.iter().all(Result::is_ok));
    }
}
