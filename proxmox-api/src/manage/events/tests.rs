use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Value;
use crate::client::Client;
use crate::manage::guest::Kind;
use crate::testing::{Fake, ok};
use crate::transport::{TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;

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
        prop_assert!(starts.values().chain(ends.values()).all(|count| *count == 1), "reported once each");
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
    fn a_cursor_survives_serialization(history in history()) {
        for moment in history {
            let text = moment.to_json().to_string();
            let json: Value = serde_json::from_str(&text).expect("it is JSON");
            prop_assert_eq!(State::from_json(&json), Some(moment));
        }
    }

    #[test]
    fn events_and_states_survive_serialization(history in history(), origin in 0..9_u64) {
        let mut before = State { origin, ..State::default() };
        for moment in history {
            for change in before.changes_to(&moment) {
                let event = Event::after(&before, 1_768_471_200 + origin, change);
                let text = serde_json::to_string(&event).expect("JSON");
                let back: Event = serde_json::from_str(&text).expect(&text);
                prop_assert_eq!(back.id(), event.id());
                prop_assert_eq!(back, event);
            }
            let text = serde_json::to_string(&moment).expect("JSON");
            let back: State = serde_json::from_str(&text).expect("a state");
            prop_assert_eq!(&back, &moment);
            before = State { origin, ..moment };
        }
    }

    #[test]
    fn no_json_causes_a_panic(text in "\\PC{0,60}") {
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let _ = State::from_json(&json);
        let _ = State::from_json(&json!({ "version": 1, "guests": json }));
    }

    #[test]
    fn times_follow_the_calendar(seconds in 0..4_102_444_800_u64) {
        let text = utc(seconds);
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().expect("digits");
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        // Counting the days from 1970 to that date one by one gives the number back.
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
fn an_event_has_the_documented_shape() {
    let change = Change::GuestStatus {
        vmid: 100,
        guest: guest("node1", "running"),
        old: "stopped".to_owned(),
    };
    let event = Event::new(1_768_471_200, change);
    let json = event.to_json();
    assert_eq!(json["type"], "guest.started");
    assert_eq!(json["timestamp"], "2026-01-15T10:00:00Z");
    assert_eq!(json["data"]["vmid"], 100);
    assert_eq!(json["data"]["node"], "node1");
    assert_eq!(json["data"]["old_status"], "stopped");
    assert_eq!(json["data"]["new_status"], "running");
    assert_eq!(event.change.kind(), "guest.started");
    assert_eq!(event.id(), event.clone().id());
    assert!(event.to_string().contains("guest.started"));
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
async fn no_task_is_lost_between_two_polls() {
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
        // Those it lists, and the newest of the others.
        Some(26),
        "tasks the server does not list are forgotten"
    );
}

#[tokio::test]
async fn an_unreachable_node_is_polled_again() {
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

    // A watch that is resumed from the cursor does not miss them either, even if it stops halfway.
    let kept = watch.cursor().expect("it has looked").to_json();
    let mut watch = Watch::resume(&client, State::from_json(&kept).expect("a cursor"));
    *reachable.lock().expect("no test panics with it") = true;
    for _ in 0..30 {
        watch.next_event().await.expect("it answers");
    }
    let kept = watch.cursor().expect("it has looked").clone();
    let mut watch = Watch::resume(&client, kept);
    assert_eq!(count(&mut watch).await, 2 * 49 - 30);
    assert_eq!(count(&mut watch).await, 0);
    assert!(watch.cursor().expect("it has looked").unread.is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_wait_loses_no_event() {
    use futures_util::StreamExt;

    let lists = Lists::default();
    let server = lists.server();
    let mut watch = Watch::new(&server.token_client());
    watch.poll().await.expect("the server answers");
    let (mut reported, mut gave_up) = (0, 0);
    for round in 1..=20_u32 {
        let rows = (1..=round).map(|n| task_row(n, "pve1", true).1).collect();
        lists.set(rows, Vec::new(), "");
        // Sometimes the caller waits for less time than a poll takes, or than the interval.
        let next = tokio::time::timeout(Duration::from_secs(2), StreamExt::next(&mut watch));
        match next.await {
            Ok(event) => {
                event.expect("it never ends").expect("the server answers");
                reported += 1;
            }
            Err(_) => gave_up += 1,
        }
    }
    // No single wait is as long as the interval between two polls.
    assert!(
        reported > 5 && gave_up > 2,
        "{reported} reported, {gave_up} gave up"
    );
    reported += watch.poll().await.expect("the server answers").len();
    assert_eq!(reported, 40);
}

#[tokio::test]
async fn a_running_task_missing_from_the_list_is_polled() {
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
    assert_eq!(events[0].change.kind(), "task.failed");
    assert!(matches!(&events[0].change, Change::TaskEnded { upid: ended, .. } if *ended == upid));
}

#[tokio::test]
async fn a_cursor_within_a_burst_resumes_with_the_next_event() {
    let lists = Lists::default();
    let server = lists.server();
    let mut watch = Watch::new(&server.token_client());
    watch.poll().await.expect("the server answers");
    let rows: Vec<String> = (1..6).map(|n| task_row(n, "pve1", true).1).collect();
    lists.set(rows, Vec::new(), "");
    let mut reported = Vec::new();
    for _ in 0..4 {
        reported.push(watch.next_event().await.expect("there are ten").change);
    }
    let cursor = watch.cursor().cloned().expect("it has looked");
    let mut resumed = Watch::resume(&server.token_client(), cursor);
    let rest = resumed.poll().await.expect("the server answers");
    reported.extend(rest.into_iter().map(|event| event.change));
    assert_eq!(reported.len(), 10);
    let mut upids: Vec<String> = reported
        .iter()
        .map(|change| format!("{change:?}"))
        .collect();
    upids.sort();
    upids.dedup();
    assert_eq!(upids.len(), 10, "each is reported once");
}

/// A cluster with an answer for each path prefix.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<Scripted>>);

/// Status, reason and body by path prefix.
type Scripted = BTreeMap<String, (u16, &'static str, String)>;

impl Cluster {
    fn set(&self, path: &str, data: &str) {
        let mut answers = self.0.lock().expect("no test panics with it");
        answers.insert(
            path.to_owned(),
            (200, "OK", format!(r#"{{"data":{data}}}"#)),
        );
    }

    fn refuse(&self, path: &str, status: u16, reason: &'static str) {
        let mut answers = self.0.lock().expect("no test panics with it");
        answers.insert(path.to_owned(), (status, reason, String::new()));
    }

    fn server(&self) -> Fake {
        let cluster = self.clone();
        Fake::new(move |request| {
            let answers = cluster.0.lock().expect("no test panics with it");
            let path = request.path.strip_prefix("/api2/json").unwrap_or_default();
            // The longest matching prefix.
            let fits = answers
                .iter()
                .rev()
                .find(|(start, _)| path.starts_with(*start));
            let Some((_, (status, reason, body))) = fits else {
                return Ok(crate::testing::json(500, "no such thing", ""));
            };
            Ok(crate::testing::json(*status, reason, body.clone()))
        })
    }
}

fn node_row(node: &str, status: &str) -> String {
    format!(r#"{{"id":"node/{node}","type":"node","node":"{node}","status":"{status}"}}"#)
}

fn guest_row(vmid: u32, node: &str, name: &str, status: &str) -> String {
    format!(
        r#"{{"id":"qemu/{vmid}","type":"qemu","vmid":{vmid},"node":"{node}","name":"{name}","status":"{status}"}}"#
    )
}

fn storage_row(node: &str, status: &str) -> String {
    format!(
        r#"{{"id":"storage/{node}/nfs","type":"storage","storage":"nfs","node":"{node}","status":"{status}"}}"#
    )
}

async fn kinds(watch: &mut Watch) -> Vec<String> {
    let events = watch.poll().await.expect("it answers");
    events
        .iter()
        .map(|event| event.change.kind().to_owned())
        .collect()
}

/// Two nodes, guests 100 and 101 on b, tasks of both.
fn two_nodes(cluster: &Cluster) -> Vec<String> {
    let rows = vec![
        node_row("a", "online"),
        node_row("b", "online"),
        guest_row(100, "b", "web", "running"),
        guest_row(101, "b", "db", "stopped"),
        storage_row("b", "available"),
    ];
    cluster.set("/cluster/resources", &format!("[{}]", rows.join(",")));
    let mut tasks: Vec<String> = (10..30).map(|n| task_row(n, "b", true).1).collect();
    tasks.extend((30..36).map(|n| task_row(n, "b", false).1));
    tasks.extend((10..20).map(|n| task_row(n, "a", true).1));
    cluster.set("/cluster/tasks", &format!("[{}]", tasks.join(",")));
    rows
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_a_node_causes_node_events_only() {
    let cluster = Cluster::default();
    two_nodes(&cluster);
    let fake = cluster.server();
    let mut watch = Watch::new(&fake.token_client());
    assert!(kinds(&mut watch).await.is_empty());

    // Its guests are unknown and nameless then, and its tasks are not on the cluster's list.
    let away = [
        node_row("a", "online"),
        node_row("b", "offline"),
        guest_row(100, "b", "", "unknown"),
        guest_row(101, "b", "", "unknown"),
        storage_row("b", "unknown"),
    ];
    cluster.set("/cluster/resources", &format!("[{}]", away.join(",")));
    let of_a: Vec<String> = (10..20).map(|n| task_row(n, "a", true).1).collect();
    cluster.set("/cluster/tasks", &format!("[{}]", of_a.join(",")));
    cluster.refuse("/nodes/b", 595, "No route to host");
    assert_eq!(kinds(&mut watch).await, ["node.offline"]);
    let before = fake.requests().len();
    for _ in 0..5 {
        assert!(kinds(&mut watch).await.is_empty());
    }
    assert_eq!(
        fake.requests().len() - before,
        10,
        "a node that is away is not asked"
    );

    // It is back, and its tasks one poll later.
    let rows = two_nodes(&cluster);
    cluster.set("/cluster/tasks", &format!("[{}]", of_a.join(",")));
    cluster.refuse("/nodes/b", 595, "No route to host");
    assert_eq!(kinds(&mut watch).await, ["node.online"]);
    two_nodes(&cluster);
    assert!(kinds(&mut watch).await.is_empty());

    // Changes meanwhile are reported as soon as they are known.
    cluster.set("/cluster/resources", &format!("[{}]", away.join(",")));
    assert_eq!(kinds(&mut watch).await, ["node.offline"]);
    let stopped = rows.join(",").replace("running", "stopped");
    cluster.set("/cluster/resources", &format!("[{stopped}]"));
    assert_eq!(kinds(&mut watch).await, ["node.online", "guest.stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_some_seconds_even_if_nodes_are_offline() {
    let cluster = Cluster::default();
    let rows: Vec<String> = (0..40)
        .map(|n| node_row(&format!("n{n}"), "online"))
        .collect();
    cluster.set("/cluster/resources", &format!("[{}]", rows.join(",")));
    let running: Vec<String> = (0..40)
        .flat_map(|n| (0..6).map(move |m| task_row(100 + m, &format!("n{n}"), false).1))
        .collect();
    cluster.set("/cluster/tasks", &format!("[{}]", running.join(",")));
    let fake = cluster.server();
    let slow = Slow(fake.clone());
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", "s3cret-s3cret")
        .transport(Arc::new(slow))
        .rate_limit(crate::client::limit::RateLimit::none())
        .build()
        .expect("complete settings");
    let mut watch = Watch::new(&client);
    watch.poll().await.expect("it answers");
    // All of them are offline, and the server has not noticed.
    cluster.set("/cluster/tasks", "[]");
    for _ in 0..3 {
        let (start, before) = (tokio::time::Instant::now(), fake.requests().len());
        assert!(kinds(&mut watch).await.is_empty(), "nothing is known");
        assert!(
            start.elapsed() <= Duration::from_secs(6),
            "{:?}",
            start.elapsed()
        );
        assert!(fake.requests().len() - before <= 2 + 40);
    }
}

/// Answers of single nodes take a minute.
#[derive(Debug)]
struct Slow(Fake);

impl crate::transport::Transport for Slow {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            if request.path.contains("/nodes/") {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            self.0.send(request).await
        })
    }
}

#[tokio::test]
async fn losing_permissions_does_not_look_like_removal() {
    let cluster = Cluster::default();
    let rows = two_nodes(&cluster);
    let mut watch = Watch::new(&cluster.server().token_client());
    assert!(kinds(&mut watch).await.is_empty());
    // All rights are revoked except for the list of nodes and the free guest numbers.
    cluster.set("/cluster/resources", "[]");
    cluster.set("/cluster/tasks", "[]");
    cluster.refuse("/cluster/nextid", 400, "Parameter verification failed.");
    cluster.refuse(
        "/storage",
        403,
        "Permission check failed (/storage/nfs, Datastore.Audit)",
    );
    cluster.refuse(
        "/nodes/b",
        403,
        "Permission check failed (/nodes/b, Sys.Audit)",
    );
    cluster.set(
        "/nodes",
        &format!("[{},{}]", node_row("a", "online"), node_row("b", "online")),
    );
    for _ in 0..3 {
        assert!(kinds(&mut watch).await.is_empty());
    }
    // Meanwhile a guest and a storage are removed, which can be found out.
    cluster.set("/cluster/nextid?vmid=101", "101");
    cluster.refuse("/storage", 500, "storage 'nfs' does not exist");
    assert_eq!(
        kinds(&mut watch).await,
        ["guest.removed", "storage.removed"]
    );
    // The rights are back: nothing is new.
    let rest: Vec<String> = (rows.into_iter())
        .filter(|row| !row.contains("101") && !row.contains("nfs"))
        .collect();
    cluster.set("/cluster/resources", &format!("[{}]", rest.join(",")));
    let tasks: Vec<String> = (10..30).map(|n| task_row(n, "b", true).1).collect();
    cluster.set("/cluster/tasks", &format!("[{}]", tasks.join(",")));
    cluster.set("/nodes/b/tasks", r#"{"status":"running"}"#);
    assert!(kinds(&mut watch).await.is_empty());
    // A node leaves, with its guests and storages.
    cluster.set(
        "/cluster/resources",
        &format!("[{}]", node_row("a", "online")),
    );
    cluster.set("/nodes", &format!("[{}]", node_row("a", "online")));
    cluster.set("/cluster/nextid", "100");
    assert_eq!(kinds(&mut watch).await, ["guest.removed", "node.removed"]);
}

#[tokio::test]
async fn a_truncated_task_list_reports_each_task_once() {
    let lists = Lists::default();
    let row = |n: u32| task_row(n, "pve1", true).1;
    lists.set((1..=25).map(row).collect(), Vec::new(), "");
    let mut watch = Watch::new(&lists.server().token_client());
    watch.poll().await.expect("the server answers");
    // Newer tasks push the first one out; then the right to see those of others is revoked and
    // granted again.
    lists.set((11..=35).map(row).collect(), Vec::new(), "");
    assert_eq!(watch.poll().await.expect("it answers").len(), 20);
    lists.set(vec![row(35)], Vec::new(), "");
    assert_eq!(watch.poll().await.expect("it answers"), vec![]);
    lists.set((1..=35).map(row).collect(), Vec::new(), "");
    assert_eq!(watch.poll().await.expect("it answers"), vec![]);
}

#[tokio::test]
async fn a_repeated_event_has_the_same_identifier() {
    let cluster = Cluster::default();
    let rows = two_nodes(&cluster);
    let client = cluster.server().token_client();
    let mut watch = Watch::new(&client);
    watch.poll().await.expect("it answers");
    let kept = watch.cursor().expect("it has looked").to_json();
    cluster.set(
        "/cluster/resources",
        &format!("[{}]", rows.join(",").replace("stopped", "running")),
    );
    let first = watch.poll().await.expect("it answers");
    // The program ended before it could keep the new cursor.
    let cursor = State::from_json(&kept).expect("a cursor");
    let again = Watch::resume(&client, cursor)
        .poll()
        .await
        .expect("it answers");
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!((first.len(), ids(&first)), (1, ids(&again)));
    let mut later = again[0].clone();
    later.time += 60;
    assert_eq!(later.id(), first[0].id());
    // The same change again is another event.
    cluster.set("/cluster/resources", &format!("[{}]", rows.join(",")));
    watch.poll().await.expect("it answers");
    cluster.set(
        "/cluster/resources",
        &format!("[{}]", rows.join(",").replace("stopped", "running")),
    );
    let second = watch.poll().await.expect("it answers");
    assert_eq!(second[0].change, first[0].change);
    assert_ne!(second[0].id(), first[0].id());
}

#[test]
fn an_event_has_one_name() {
    let change = |status: &str| Change::TaskEnded {
        upid: task_row(1, "a", true).0,
        status: status.to_owned(),
    };
    for (change, name) in [
        (change("OK"), "task.ended"),
        (change("WARNINGS: 2"), "task.ended"),
        (change("unknown"), "task.ended"),
        (change("out of space"), "task.failed"),
    ] {
        let event = Event::new(1, change);
        assert_eq!(event.change.kind(), name);
        assert_eq!(event.to_json()["type"], name);
        assert!(event.to_string().contains(&format!(" {name} ")));
        let posted: Value =
            serde_json::from_str(&crate::manage::webhook::Webhook::payload(&event)).expect("JSON");
        assert_eq!(posted["type"], name);
    }
}
