use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{Fake, ok};
use crate::transport::{TransportError, WireRequest, WireResponse};

fn words(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(choices).prop_map(str::to_owned)
}

prop_compose! {
    fn guests()(
        kind in prop::sample::select(&[Kind::Qemu, Kind::Lxc][..]),
        node in words(&["pve1", "pve2", "pve3"]),
        name in words(&["", "web", "db"]),
        status in words(&["running", "stopped", "paused", "unknown"]),
        lock in words(&["", "backup"]),
    ) -> GuestState {
        GuestState { kind, node, name, status, lock }
    }
}

prop_compose! {
    /// A moment of a cluster. Whether a task has ended is decided by `history`.
    fn moments()(
        guests in prop::collection::btree_map(100..106_u32, guests(), 0..6),
        nodes in prop::collection::btree_map(
            words(&["pve1", "pve2", "pve3"]), words(&["online", "offline", "unknown"]), 0..4),
        storages in prop::collection::btree_map(
            (words(&["pve1", "pve2"]), words(&["local", "nfs"])), words(&["available", "unknown"]), 0..4),
        unread in prop::collection::btree_map(words(&["pve1", "pve2"]), 0..9_u64, 0..2),
    ) -> State {
        State { guests, nodes, storages, unread, ..State::default() }
    }
}

/// Adds tasks to moments: each runs from one moment to another and is listed for some time after.
fn history() -> impl Strategy<Value = Vec<State>> {
    let tasks = prop::collection::vec((0..8_usize, 0..4_usize, 0..4_usize), 0..8);
    (prop::collection::vec(moments(), 1..8), tasks).prop_map(|(mut moments, tasks)| {
        for (number, (from, length, listed)) in tasks.into_iter().enumerate() {
            let upid = format!("UPID:pve1:{number:08X}:0002DDA4:6B01F6EE:qmstart:100:root@pam:");
            for (at, moment) in moments.iter_mut().enumerate() {
                if (from..=from + length + listed).contains(&at) {
                    let ended = (at >= from + length).then(|| "OK".to_owned());
                    let started = from as u64;
                    moment
                        .tasks
                        .insert(upid.clone(), TaskState { started, ended });
                }
            }
        }
        moments
    })
}

proptest! {
    #[test]
    fn events_replayed_give_the_final_state(history in history()) {
        let mut replayed = State::default();
        let mut seen = State::default();
        let mut starts: BTreeMap<String, u32> = BTreeMap::new();
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for moment in &history {
            for change in seen.changes_to(moment) {
                match &change {
                    Change::TaskStarted { upid, .. } => *starts.entry(upid.clone()).or_default() += 1,
                    Change::TaskEnded { upid, .. } => *ends.entry(upid.clone()).or_default() += 1,
                    _ => {}
                }
                replayed.apply(&change);
            }
            seen = replayed.clone();
            prop_assert_eq!(&replayed.guests, &moment.guests);
            prop_assert_eq!(&replayed.nodes, &moment.nodes);
            prop_assert_eq!(&replayed.storages, &moment.storages);
            for (upid, task) in &moment.tasks {
                prop_assert_eq!(replayed.tasks.get(upid), Some(task));
            }
        }
        prop_assert!(starts.values().chain(ends.values()).all(|count| *count == 1), "told once each");
        for moment in &history {
            for (upid, task) in &moment.tasks {
                prop_assert!(starts.contains_key(upid));
                prop_assert!(task.ended.is_none() || ends.contains_key(upid));
            }
        }
    }

    #[test]
    fn equal_states_have_no_changes(moment in moments()) {
        prop_assert_eq!(moment.changes_to(&moment), vec![]);
    }

    #[test]
    fn a_cursor_survives_being_kept(history in history()) {
        for moment in history {
            let text = moment.to_json().to_string();
            let json: Value = serde_json::from_str(&text).expect("it is JSON");
            prop_assert_eq!(State::from_json(&json), Some(moment));
        }
    }

    #[test]
    fn no_json_makes_a_cursor_panic(text in "\\PC{0,60}") {
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let _ = State::from_json(&json);
        let _ = State::from_json(&json!({ "version": 1, "guests": json }));
    }

    #[test]
    fn times_are_those_of_the_calendar(seconds in 0..4_102_444_800_u64) {
        let text = utc(seconds);
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().expect("digits");
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        // Counting the days from 1970 to that date the slow way gives the number back.
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let days: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>()
            + lengths.iter().take(month as usize - 1).sum::<u64>() + day - 1;
        let time = number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
        prop_assert_eq!(days * 86_400 + time, seconds);
    }
}

fn guest(node: &str, status: &str) -> GuestState {
    GuestState {
        kind: Kind::Qemu,
        node: node.to_owned(),
        name: "ubuntu-server".to_owned(),
        status: status.to_owned(),
        lock: String::new(),
    }
}

#[test]
fn an_event_has_the_promised_shape() {
    let event = Event {
        time: 1_768_471_200,
        change: Change::GuestStatus {
            vmid: 100,
            guest: guest("node1", "running"),
            old: "stopped".to_owned(),
        },
    };
    let json = event.to_json();
    assert_eq!(json["type"], "vm.status.changed");
    assert_eq!(json["timestamp"], "2026-01-15T10:00:00Z");
    assert_eq!(json["data"]["vmid"], 100);
    assert_eq!(json["data"]["node"], "node1");
    assert_eq!(json["data"]["old_status"], "stopped");
    assert_eq!(json["data"]["new_status"], "running");
    assert_eq!(event.change.exact_kind(), "vm.started");
    assert_eq!(event.id(), event.clone().id());
    assert!(event.to_string().contains("vm.started"));
}

fn task_row(number: u32, node: &str, ended: bool) -> (String, String) {
    let upid = format!("UPID:{node}:{number:08X}:0002DDA4:{number:08X}:qmstart:100:root@pam:");
    let end = if ended {
        r#","endtime":9,"status":"OK""#
    } else {
        ""
    };
    let row = format!(
        r#"{{"upid":"{upid}","node":"{node}","type":"qmstart","id":"100","user":"root@pam",
            "starttime":{number},"pid":1,"pstart":1{end}}}"#
    );
    (upid, row)
}

/// A server whose task lists can be set.
#[derive(Clone, Default)]
struct Lists(Arc<Mutex<Answers>>);

/// The rows of the cluster's list, those of a node's, and the status of any task.
type Answers = (Vec<String>, Vec<String>, String);

impl Lists {
    fn set(&self, cluster: Vec<String>, node: Vec<String>, status: &str) {
        *self.0.lock().expect("no test panics with it") = (cluster, node, status.to_owned());
    }

    fn server(&self) -> Fake {
        let lists = self.clone();
        Fake::new(move |request| lists.answer(request))
    }

    fn answer(&self, request: &WireRequest) -> Result<WireResponse, TransportError> {
        let (cluster, node, status) = self.0.lock().expect("no test panics with it").clone();
        let path = request.path.as_str();
        if path.ends_with("/cluster/tasks") {
            ok(format!(r#"{{"data":[{}]}}"#, cluster.join(",")))
        } else if path.ends_with("/cluster/resources") {
            ok(r#"{"data":[]}"#)
        } else if path.contains("/status") {
            ok(status)
        } else {
            ok(format!(r#"{{"data":[{}]}}"#, node.join(",")))
        }
    }
}

#[tokio::test]
async fn no_task_is_lost_between_two_looks() {
    let lists = Lists::default();
    let rows = |numbers: std::ops::Range<u32>| -> Vec<String> {
        numbers.map(|n| task_row(n, "pve1", true).1).collect()
    };
    lists.set(rows(1..26), Vec::new(), "");
    let mut watch = Watch::new(&lists.server().token_client());
    assert_eq!(watch.poll().await.expect("the server answers"), vec![]);

    // More tasks than the cluster lists; the node knows them all.
    lists.set(rows(75..100), rows(25..100), "");
    let events = watch.poll().await.expect("the server answers");
    let started = (events.iter())
        .filter(|event| matches!(event.change, Change::TaskStarted { .. }))
        .count();
    assert_eq!((started, events.len()), (74, 148));
    assert_eq!(watch.poll().await.expect("the server answers"), vec![]);
    let kept = watch.cursor().map(|cursor| cursor.tasks.len());
    assert_eq!(
        kept,
        Some(25),
        "tasks the server does not list are forgotten"
    );
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_is_asked_again() {
    let rows = |numbers: std::ops::Range<u32>| -> Vec<String> {
        numbers.map(|n| task_row(n, "pve1", true).1).collect()
    };
    let lists = Lists::default();
    lists.set(rows(1..26), Vec::new(), "");
    let reachable = Arc::new(Mutex::new(false));
    let server = {
        let (lists, reachable) = (lists.clone(), Arc::clone(&reachable));
        Fake::new(move |request| {
            let down = !*reachable.lock().expect("no test panics with it");
            if down && request.path.contains("/nodes/pve1/tasks?") {
                return Ok(crate::testing::json(595, "Connection refused", ""));
            }
            lists.answer(request)
        })
    };
    let client = server.token_client();
    let mut watch = Watch::new(&client);
    let count = async |watch: &mut Watch| watch.poll().await.expect("it answers").len();
    assert_eq!(count(&mut watch).await, 0);
    lists.set(rows(75..100), rows(25..105), "");
    assert_eq!(count(&mut watch).await, 50, "the others are not known yet");
    lists.set(rows(80..105), rows(25..105), "");
    assert_eq!(count(&mut watch).await, 10);

    // Whoever goes on from the cursor does not miss them either, even if it stops in the middle.
    let kept = watch.cursor().expect("it has looked").to_json();
    let mut watch = Watch::resume(&client, State::from_json(&kept).expect("a cursor"));
    *reachable.lock().expect("no test panics with it") = true;
    for _ in 0..30 {
        watch.next().await.expect("it answers");
    }
    let kept = watch.cursor().expect("it has looked").clone();
    let mut watch = Watch::resume(&client, kept);
    assert_eq!(count(&mut watch).await, 2 * 49 - 30);
    assert_eq!(count(&mut watch).await, 0);
    assert!(watch.cursor().expect("it has looked").unread.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_loses_nothing() {
    use futures_util::StreamExt;

    let lists = Lists::default();
    let server = lists.server();
    let mut watch = Watch::new(&server.token_client());
    watch.poll().await.expect("the server answers");
    let (mut told, mut gave_up) = (0, 0);
    for round in 1..=20_u32 {
        let rows = (1..=round).map(|n| task_row(n, "pve1", true).1).collect();
        lists.set(rows, Vec::new(), "");
        // Now and then somebody waits for less time than a look takes, or than lies between two.
        let next = tokio::time::timeout(Duration::from_secs(2), StreamExt::next(&mut watch));
        match next.await {
            Ok(event) => {
                event.expect("it never ends").expect("the server answers");
                told += 1;
            }
            Err(_) => gave_up += 1,
        }
    }
    // No single wait is as long as the time between two looks.
    assert!(told > 5 && gave_up > 2, "{told} told, {gave_up} gave up");
    told += watch.poll().await.expect("the server answers").len();
    assert_eq!(told, 40);
}

#[tokio::test]
async fn a_running_task_that_drops_out_of_the_list_is_asked_for() {
    let lists = Lists::default();
    let (upid, row) = task_row(1, "pve2", false);
    lists.set(vec![row], Vec::new(), "");
    let mut watch = Watch::new(&lists.server().token_client());
    watch.poll().await.expect("the server answers");
    lists.set(
        Vec::new(),
        Vec::new(),
        r#"{"data":{"status":"stopped","exitstatus":"VM is locked (backup)"}}"#,
    );
    let events = watch.poll().await.expect("the server answers");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].change.exact_kind(), "task.failed");
    assert!(matches!(&events[0].change, Change::TaskEnded { upid: ended, .. } if *ended == upid));
}

#[tokio::test]
async fn a_cursor_in_the_middle_of_a_burst_goes_on_with_the_next_event() {
    let lists = Lists::default();
    let server = lists.server();
    let mut watch = Watch::new(&server.token_client());
    watch.poll().await.expect("the server answers");
    let rows: Vec<String> = (1..6).map(|n| task_row(n, "pve1", true).1).collect();
    lists.set(rows, Vec::new(), "");
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(watch.next().await.expect("there are ten").change);
    }
    let cursor = watch.cursor().cloned().expect("it has looked");
    let mut resumed = Watch::resume(&server.token_client(), cursor);
    let rest = resumed.poll().await.expect("the server answers");
    told.extend(rest.into_iter().map(|event| event.change));
    assert_eq!(told.len(), 10);
    let mut upids: Vec<String> = told.iter().map(|change| format!("{change:?}")).collect();
    upids.sort();
    upids.dedup();
    assert_eq!(upids.len(), 10, "each is told once");
}
