//! The queue of requests: which run, which wait, and which is next.
//!
//! All changes are whole operations under one lock that get the time as an argument. Concurrent
//! callers can therefore only produce sequences of operations, and the tests try sequences.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{Rate, RateLimit, Settings};

/// The allowance that a request uses: requests of one lane go in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) writes: bool,
    pub(super) node: Option<Arc<str>>,
}

/// The state of a request in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueueStatus {
    Granted,
    /// The request waits; nothing changes before this time unless another request ends.
    Waiting(Option<Instant>),
    /// The deadline of the request passed.
    TooLate,
    /// The server wants a pause that ends after the deadline of the request.
    Held(Duration),
}

#[derive(Debug)]
pub(super) struct Queue {
    at_once: usize,
    at_once_per_node: usize,
    running: usize,
    /// The number of running requests of each node that has any.
    nodes: HashMap<Arc<str>, usize>,
    reads: Option<Bucket>,
    writes: Option<Bucket>,
    together: bool,
    /// No request goes out before this time: the server asked for a pause.
    held: Option<Instant>,
    next: u64,
    lanes: BTreeMap<Lane, BTreeMap<u64, Waiter>>,
    /// Requests that were admitted and have not noticed yet.
    granted: BTreeMap<u64, Granted>,
}

#[derive(Debug)]
struct Granted {
    writes: bool,
    /// The delay that it adds to the time at which the allowance is full.
    cost: Duration,
}

#[derive(Debug, Default)]
struct Waiter {
    waker: Option<Waker>,
    /// The time of its timer.
    timer: Option<Instant>,
}

/// An allowance that fills up with time.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// The time at which it is full again.
    full: Option<Instant>,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, full: None }
    }

    /// The time at which the next one is available; `None` for now.
    fn ready(&self) -> Option<Instant> {
        let ahead = self.rate.every.saturating_mul(self.rate.burst - 1);
        self.full?.checked_sub(ahead)
    }

    /// Takes one; `unused` are those taken earlier that may be returned.
    fn take<'a>(&mut self, now: Instant, unused: impl Iterator<Item = &'a mut Granted>) {
        if let Some(full) = self.full {
            for earlier in unused {
                let without = full.checked_sub(earlier.cost).unwrap_or(full);
                // The part that has filled up by now is not returned.
                earlier.cost = full.max(now).saturating_duration_since(without.max(now));
            }
        }
        let full = self.full.map_or(now, |full| full.max(now));
        self.full = full.checked_add(self.rate.every).or(Some(full));
    }

    fn give_back(&mut self, cost: Duration) {
        self.full = self.full.and_then(|full| full.checked_sub(cost));
    }
}

impl Queue {
    pub(super) fn new(settings: Settings) -> Self {
        let RateLimit {
            reads,
            writes,
            together,
        } = settings.rate;
        Self {
            at_once: settings.at_once.max(1),
            at_once_per_node: settings.at_once_per_node.max(1),
            running: 0,
            nodes: HashMap::new(),
            reads: reads.map(Bucket::new),
            writes: writes.map(Bucket::new),
            together,
            held: None,
            next: 0,
            lanes: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }

    /// `None` if the request may go at once, else its number in the queue.
    pub(super) fn enter(
        &mut self,
        lane: Lane,
        now: Instant,
        wakers: &mut Vec<Waker>,
    ) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        let waiting = self.lanes.entry(lane).or_default();
        waiting.insert(number, Waiter::default());
        self.dispatch(now, wakers);
        match self.granted.remove(&number) {
            Some(_) => None,
            None => Some(number),
        }
    }

    /// The state of a waiting request, whose task is woken when the state changes.
    pub(super) fn poll(
        &mut self,
        lane: &Lane,
        number: u64,
        now: Instant,
        deadline: Option<Instant>,
        context: &Context<'_>,
        wakers: &mut Vec<Waker>,
    ) -> QueueStatus {
        if deadline.is_some_and(|deadline| deadline <= now) {
            return QueueStatus::TooLate;
        }
        self.dispatch(now, wakers);
        if self.granted.remove(&number).is_some() {
            return QueueStatus::Granted;
        }
        if let (Some(held), Some(deadline)) = (self.held, deadline)
            && held > deadline
        {
            return QueueStatus::Held(held.saturating_duration_since(now));
        }
        let until = self.earliest(lane).filter(|until| *until > now);
        let waiting = self.lanes.get_mut(lane);
        let Some(waiting) = waiting else {
            return QueueStatus::TooLate;
        };
        let first = waiting.first_key_value().map(|(first, _)| *first) == Some(number);
        let until = until.filter(|_| first);
        if let Some(waiter) = waiting.get_mut(&number) {
            waiter.waker = Some(context.waker().clone());
            waiter.timer = until;
        }
        QueueStatus::Waiting(until)
    }

    /// Removes a request that is not to be sent.
    pub(super) fn leave(
        &mut self,
        lane: &Lane,
        number: u64,
        now: Instant,
        wakers: &mut Vec<Waker>,
    ) {
        if let Some(granted) = self.granted.remove(&number) {
            if let Some(bucket) = self.bucket(lane.writes) {
                bucket.give_back(granted.cost);
            }
            self.release(lane.node.as_ref(), now, wakers);
            return;
        }
        if let Some(waiting) = self.lanes.get_mut(lane) {
            waiting.remove(&number);
            if waiting.is_empty() {
                self.lanes.remove(lane);
            }
        }
        self.dispatch(now, wakers);
    }

    /// A request is done.
    pub(super) fn release(
        &mut self,
        node: Option<&Arc<str>>,
        now: Instant,
        wakers: &mut Vec<Waker>,
    ) {
        self.running = self.running.saturating_sub(1);
        if let Some(node) = node
            && let Some(count) = self.nodes.get_mut(node)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.nodes.remove(node);
            }
        }
        self.dispatch(now, wakers);
    }

    /// Admits nothing before a time.
    pub(super) fn hold(&mut self, until: Instant, wakers: &mut Vec<Waker>) {
        self.held = Some(self.held.map_or(until, |held| held.max(until)));
        // Requests with an earlier deadline fail.
        let waiting = self.lanes.values_mut().flat_map(BTreeMap::values_mut);
        wakers.extend(waiting.filter_map(|waiter| waiter.waker.take()));
    }

    fn bucket(&mut self, writes: bool) -> Option<&mut Bucket> {
        match writes && !self.together {
            true => self.writes.as_mut(),
            false => self.reads.as_mut(),
        }
    }

    /// The time at which a lane's next request may go; `None` for now.
    fn earliest(&self, lane: &Lane) -> Option<Instant> {
        let bucket = match lane.writes && !self.together {
            true => &self.writes,
            false => &self.reads,
        };
        let ready = bucket.as_ref().and_then(Bucket::ready);
        [ready, self.held].into_iter().flatten().max()
    }

    fn has_room(&self, lane: &Lane) -> bool {
        let busy = |node| self.nodes.get(node).copied().unwrap_or(0) >= self.at_once_per_node;
        self.running < self.at_once && !lane.node.as_ref().is_some_and(busy)
    }

    /// Admits waiting requests in order, and wakes those without a timer.
    fn dispatch(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        loop {
            let free = self.lanes.iter().filter(|(lane, _)| {
                self.has_room(lane) && self.earliest(lane).is_none_or(|then| then <= now)
            });
            let first = free
                .filter_map(|(lane, waiting)| Some((*waiting.first_key_value()?.0, lane.clone())))
                .min();
            let Some((number, lane)) = first else { break };
            if let Some(waiting) = self.lanes.get_mut(&lane) {
                let waiter = waiting.remove(&number).unwrap_or_default();
                wakers.extend(waiter.waker);
                if waiting.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
            self.running += 1;
            if let Some(node) = &lane.node {
                *self.nodes.entry(Arc::clone(node)).or_default() += 1;
            }
            let writes = lane.writes && !self.together;
            let mut cost = Duration::ZERO;
            let bucket = match writes {
                true => self.writes.as_mut(),
                false => self.reads.as_mut(),
            };
            if let Some(bucket) = bucket {
                let unused = self.granted.values_mut();
                bucket.take(now, unused.filter(|earlier| earlier.writes == writes));
                cost = bucket.rate.every;
            }
            self.granted.insert(number, Granted { writes, cost });
        }
        let times: Vec<_> = self.lanes.keys().map(|lane| self.earliest(lane)).collect();
        for (waiting, then) in self.lanes.values_mut().zip(times) {
            let Some(then) = then.filter(|then| *then > now) else {
                continue;
            };
            if let Some(mut first) = waiting.first_entry()
                && (first.get().timer).is_none_or(|timer| timer > then || timer <= now)
            {
                wakers.extend(first.get_mut().waker.take());
            }
        }
    }
}

#[cfg(test)]
mod tests;
