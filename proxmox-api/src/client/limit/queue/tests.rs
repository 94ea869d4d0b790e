//! Sequences of operations of concurrent callers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const BURST: u32 = 5;
const EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Op {
    Enter {
        writes: bool,
        node: usize,
    },
    /// A waiting caller polls.
    Poll(usize),
    /// A caller that waits, or was admitted and has not noticed, leaves.
    Leave(usize),
    Release(usize),
    Hold(u64),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any::<bool>(), 0..4_usize).prop_map(|(writes, node)| Op::Enter { writes, node }),
        4 => any::<usize>().prop_map(Op::Poll),
        3 => any::<usize>().prop_map(Op::Leave),
        2 => any::<usize>().prop_map(Op::Release),
        1 => (0..300_u64).prop_map(Op::Hold),
        3 => (0..300_u64).prop_map(Op::Pass),
    ]
}

fn settings() -> Settings {
    let rate = Rate {
        every: EVERY,
        burst: BURST,
    };
    Settings {
        at_once: 6,
        at_once_per_node: 2,
        rate: RateLimit::separate(rate, rate),
    }
}

fn lane(writes: bool, node: usize) -> Lane {
    Lane {
        writes,
        node: (node > 0).then(|| Arc::from(format!("pve{node}"))),
    }
}

/// A caller in the queue, whose task runs when it was woken or its timer fires.
struct Caller {
    number: u64,
    lane: Lane,
    woken: Arc<Flag>,
}

struct Flag(AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Caller {
    fn poll(&self, queue: &mut Queue, now: Instant) -> QueueStatus {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut wakers = Vec::new();
        let context = Context::from_waker(&waker);
        let standing = queue.poll(&self.lane, self.number, now, None, &context, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        standing
    }

    /// Whether its task polls again without being woken, at this time or before.
    fn looks(&self, queue: &Queue, by: Instant) -> bool {
        let waiter = (queue.lanes.get(&self.lane)).and_then(|lane| lane.get(&self.number));
        let timer = waiter.and_then(|waiter| waiter.timer);
        self.woken.0.load(Ordering::SeqCst) || timer.is_some_and(|timer| timer <= by)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn limits_hold_every_request_is_admitted_and_the_queue_empties(
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut queue = Queue::new(settings());
        let mut waiting: Vec<Caller> = Vec::new();
        let mut running: Vec<Lane> = Vec::new();
        let mut sent: BTreeMap<bool, Vec<Instant>> = BTreeMap::new();
        let mut now = Instant::now();
        let mut held = now;
        for op in ops {
            let mut wakers = Vec::new();
            match op {
                Op::Enter { writes, node } => {
                    let lane = lane(writes, node);
                    match queue.enter(lane.clone(), now, &mut wakers) {
                        None => {
                            prop_assert!(now >= held);
                            sent.entry(writes).or_default().push(now);
                            running.push(lane);
                        }
                        Some(number) => {
                            let woken = Arc::new(Flag(AtomicBool::new(true)));
                            waiting.push(Caller { number, lane, woken });
                        }
                    }
                }
                Op::Poll(at) if !waiting.is_empty() => {
                    let at = at % waiting.len();
                    if waiting[at].poll(&mut queue, now) == QueueStatus::Granted {
                        let lane = waiting.remove(at).lane;
                        sent.entry(lane.writes).or_default().push(now);
                        running.push(lane);
                    }
                }
                Op::Leave(at) if !waiting.is_empty() => {
                    let caller = waiting.remove(at % waiting.len());
                    queue.leave(&caller.lane, caller.number, now, &mut wakers);
                }
                Op::Release(at) if !running.is_empty() => {
                    let lane = running.remove(at % running.len());
                    queue.release(lane.node.as_ref(), now, &mut wakers);
                }
                Op::Hold(time) => {
                    held = held.max(now + Duration::from_millis(time));
                    queue.hold(held, &mut wakers);
                }
                Op::Pass(time) => now += Duration::from_millis(time),
                Op::Poll(_) | Op::Leave(_) | Op::Release(_) => {}
            }
            wakers.into_iter().for_each(Waker::wake);

            prop_assert!(running.len() <= 6);
            for node in 1..4 {
                let of_node = lane(false, node).node;
                let count = running.iter().filter(|lane| lane.node == of_node).count();
                prop_assert!(count <= 2);
            }
            for caller in &waiting {
                if queue.granted.contains_key(&caller.number) {
                    prop_assert!(caller.looks(&queue, now), "it may go and sleeps");
                    continue;
                }
                let first = queue.lanes[&caller.lane].first_key_value().map(|(first, _)| *first);
                if first == Some(caller.number) && queue.has_room(&caller.lane) {
                    let then = queue.earliest(&caller.lane).unwrap_or(now).max(now);
                    prop_assert!(caller.looks(&queue, then), "only time is in its way");
                }
            }
        }
        // A caller that notices its admission late sends late, so the running ones add to the
        // burst.
        for sent in sent.values() {
            for (i, first) in sent.iter().enumerate() {
                for (n, last) in sent[i..].iter().enumerate() {
                    let refilled = (*last - *first).as_millis() / EVERY.as_millis();
                    prop_assert!(n as u128 <= u128::from(BURST) + 6 + refilled);
                }
            }
        }
        // When all have left, the queue is in its first state.
        for caller in waiting.drain(..) {
            queue.leave(&caller.lane, caller.number, now, &mut Vec::new());
        }
        for lane in running.drain(..) {
            queue.release(lane.node.as_ref(), now, &mut Vec::new());
        }
        prop_assert_eq!(queue.running, 0);
        prop_assert!(queue.nodes.is_empty() && queue.lanes.is_empty() && queue.granted.is_empty());
        now = now.max(held) + EVERY * 20;
        for writes in [false, true] {
            let mut at_once = 0;
            while queue.enter(lane(writes, 0), now, &mut Vec::new()).is_none() {
                at_once += 1;
                queue.release(None, now, &mut Vec::new());
            }
            prop_assert_eq!(at_once, BURST);
        }
    }
}

#[test]
fn a_late_return_does_not_admit_two_requests() {
    let rate = Rate {
        every: EVERY,
        burst: 1,
    };
    let mut queue = Queue::new(Settings {
        rate: RateLimit::together(rate),
        ..settings()
    });
    let now = Instant::now();
    let enter = |queue: &mut Queue, now| queue.enter(lane(false, 0), now, &mut Vec::new());
    assert_eq!(enter(&mut queue, now), None);
    let slow = enter(&mut queue, now).expect("it waits");
    let later = now + EVERY * 5;
    // It is admitted and does not notice.
    queue.dispatch(now + EVERY, &mut Vec::new());
    assert_eq!(enter(&mut queue, later), None);
    queue.leave(&lane(false, 0), slow, later, &mut Vec::new());
    assert!(enter(&mut queue, later).is_some(), "one for each {EVERY:?}");
}
