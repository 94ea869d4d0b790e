//! Tasks with scripted answers; the waiting time is skipped.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::client::path::PathNode;
use crate::error::ErrorKind;
use crate::testing::{Fake, json, ok};
use crate::transport::{TransportError, WireRequest, WireResponse};
use crate::value::endpoint::{Endpoint, Permission};

const UPID: &str = "UPID:pve1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam!ci:";
const BASE: &str = "/api2/json/nodes/pve1/tasks/UPID%3Apve1%3A000012BE%3A0002DDA4%3A6B01F6EE%3Aqmstart%3A100%3Aroot%40pam%21ci%3A";

type Answer = Result<WireResponse, TransportError>;

fn task(fake: &Fake) -> Task {
    fake.token_client().task(UPID.parse().expect("a UPID"))
}

fn running() -> Answer {
    ok(r#"{"data":{"status":"running","pid":4798}}"#)
}

fn stopped(exit: &str) -> Answer {
    ok(serde_json::json!({"data": {"status": "stopped", "exitstatus": exit}}).to_string())
}

fn is_log(request: &WireRequest) -> bool {
    request.path.starts_with(&format!("{BASE}/log?"))
}

/// Answers the n-th poll of the status; there is no log.
fn polls(mut poll: impl FnMut(usize) -> Answer + Send + 'static) -> Fake {
    let mut number = 0;
    Fake::new(move |request| {
        if is_log(request) {
            return ok(r#"{"data":[{"n":1,"t":"no content"}],"total":1}"#);
        }
        assert_eq!(request.path, format!("{BASE}/status"));
        number += 1;
        poll(number)
    })
}

/// A task whose log grows: at the n-th poll it has the lines of `steps[n]`; it ends with the last.
fn logging(steps: &'static [&'static [&'static str]], exit: &'static str) -> Fake {
    let mut poll = 0;
    Fake::new(move |request| {
        if !is_log(request) {
            poll += 1;
            return if poll < steps.len() {
                running()
            } else {
                stopped(exit)
            };
        }
        let number = |name: &str| -> usize {
            let (_, rest) = request
                .path
                .split_once(&format!("{name}="))
                .expect("it is asked for");
            rest.split('&')
                .next()
                .and_then(|digits| digits.parse().ok())
                .expect("a number")
        };
        let lines = steps[poll.min(steps.len()) - 1];
        let rows: Vec<_> = (1..)
            .zip(lines)
            .skip(number("start"))
            .take(number("limit"))
            .map(|(n, t)| serde_json::json!({"n": n, "t": t}))
            .collect();
        ok(serde_json::json!({"data": rows, "total": lines.len()}).to_string())
    })
}

async fn lines_of(task: &Task) -> Vec<String> {
    let mut lines = Vec::new();
    task.wait()
        .on_log(|line| lines.push(line.to_owned()))
        .await
        .expect("the task succeeds");
    lines
}

#[test]
fn outcomes_are_distinguished() {
    for (text, outcome) in [
        ("OK", TaskOutcome::Ok),
        ("WARNINGS: 2", TaskOutcome::Warnings(2)),
        (
            "VM is locked (backup)",
            TaskOutcome::Failed("VM is locked (backup)".into()),
        ),
        (
            "unexpected status",
            TaskOutcome::Interrupted("unexpected status".into()),
        ),
        (
            "received interrupt",
            TaskOutcome::Interrupted("received interrupt".into()),
        ),
        (
            "command 'dd' failed: interrupted by signal",
            TaskOutcome::Interrupted("command 'dd' failed: interrupted by signal".into()),
        ),
        (
            "received interrupt from nobody",
            TaskOutcome::Failed("received interrupt from nobody".into()),
        ),
        (
            "WARNINGS: many",
            TaskOutcome::Failed("WARNINGS: many".into()),
        ),
        ("", TaskOutcome::Failed(String::new())),
    ] {
        assert_eq!(TaskOutcome::read(text), outcome);
        assert_eq!(outcome.to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn polls_become_less_frequent() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let fake = polls({
        let times = Arc::clone(&times);
        move |number| {
            times
                .lock()
                .expect("no panic")
                .push(start.elapsed().as_millis());
            if number < 7 { running() } else { stopped("OK") }
        }
    });
    assert_eq!(task(&fake).wait().await.expect("success"), TaskOutcome::Ok);
    let times = times.lock().expect("no panic").clone();
    assert_eq!(times, [0, 1000, 2500, 4750, 8125, 13125, 18125]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_an_error_with_text_and_kind() {
    let fake = polls(|_| stopped("VM is locked (backup)"));
    let error = task(&fake).wait().await.expect_err("it failed");
    assert_eq!(error.kind(), Some(ErrorKind::Locked));
    assert_eq!(
        error.to_string(),
        format!("task {UPID} failed: VM is locked (backup)")
    );
    let outcome = task(&fake)
        .wait()
        .outcome()
        .await
        .expect("asked for as a value");
    assert_eq!(outcome, TaskOutcome::Failed("VM is locked (backup)".into()));
}

/// A failed task with a log of this many lines, of which the server counts `counted` at first.
fn failed_after(lines: u64, counted: u64, exit: &'static str) -> Fake {
    Fake::new(move |request| {
        if !is_log(request) {
            return stopped(exit);
        }
        let start = number(request, "start");
        let end = lines.min(start + number(request, "limit"));
        let text = |n| match n {
            n if n == lines => format!("TASK ERROR: {exit}"),
            n => format!("line {n}"),
        };
        let rows: Vec<_> = (start + 1..=end)
            .map(|n| serde_json::json!({"n": n, "t": text(n)}))
            .collect();
        ok(serde_json::json!({"data": rows, "total": counted.max(end)}).to_string())
    })
}

fn number(request: &WireRequest, name: &str) -> u64 {
    let parameter = request.path.split_once(&format!("{name}="));
    (parameter.and_then(|(_, rest)| rest.split('&').next()?.parse().ok())).expect("it is asked for")
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_failed_task_has_the_end_of_the_log() {
    let requests = |fake: &Fake| fake.requests().iter().filter(|call| is_log(call)).count();
    for (lines, counted, polls) in [
        (1, 1, 1),
        (3, 3, 1),
        (300, 300, 1),
        // The server counts the whole log at once: one jump to its end.
        (5_000, 5_000, 2),
        // The server counts the lines it has read, so all have to be read.
        (1_200, 0, 3),
        (1_000, 0, 3),
    ] {
        let fake = failed_after(lines, counted, "disk full");
        let error = task(&fake).wait().await.expect_err("it failed");
        assert_eq!(requests(&fake), polls, "{lines} lines, {counted} counted");
        let Error::Task(error) = error else {
            panic!("a task error")
        };
        let logged: Vec<String> = (error.log().iter()).map(|line| line.text.clone()).collect();
        let first = lines.saturating_sub(10).max(1);
        let expected: Vec<String> = (first..lines).map(|n| format!("line {n}")).collect();
        assert_eq!(logged, expected, "{lines} lines, {counted} counted");
    }
    let error = task(&failed_after(3, 3, "disk full")).wait().await;
    assert_eq!(
        error.expect_err("it failed").to_string(),
        format!("task {UPID} failed: disk full (its log ends: line 1 | line 2)")
    );
    let interrupted = task(&failed_after(2, 2, "received interrupt")).wait().await;
    assert_eq!(
        interrupted.expect_err("it was stopped").to_string(),
        format!("task {UPID} was interrupted: received interrupt (its log ends: line 1)")
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_without_the_log_if_that_is_unreadable() {
    for trouble in [
        || Ok(json(403, "Permission check failed", "")),
        || Ok(json(595, "Connection refused", "")),
        || Err(TransportError::interrupted("connection reset")),
        || ok(r#"{"data":"nonsense"}"#),
    ] {
        let fake = Fake::new(move |request| match is_log(request) {
            true => trouble(),
            false => stopped("disk full"),
        });
        let error = task(&fake).wait().await.expect_err("it failed");
        assert_eq!(error.to_string(), format!("task {UPID} failed: disk full"));
    }
}

#[tokio::test(start_paused = true)]
async fn long_and_unusual_lines_stay_on_the_errors_line() {
    let fake = Fake::new(|request| match is_log(request) {
        true => ok(serde_json::json!({"data": [
            {"n": 1, "t": "ä".repeat(500)},
            {"n": 2, "t": "a\u{1b}[31mb\rc"},
        ], "total": 2})
        .to_string()),
        false => stopped("disk full"),
    });
    let text = task(&fake).wait().await.expect_err("it failed").to_string();
    assert!(
        text.contains(&format!("{}… | a", "ä".repeat(160))),
        "{text}"
    );
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_a_stream() {
    let fake = logging(&[&["a"], &["a", "b"], &["a", "b", "c", "TASK OK"]], "OK");
    let mut lines = task(&fake).wait().lines();
    let mut logged = Vec::new();
    loop {
        // Dropping the wait for the next line does not lose it.
        let tolerance = tokio::time::timeout(Duration::from_millis(700), lines.try_next());
        match tolerance.await {
            Ok(line) => match line.expect("the task succeeds") {
                Some(line) => logged.push(line),
                None => break,
            },
            Err(_) => assert_eq!(lines.outcome(), None),
        }
    }
    assert_eq!(logged, ["a", "b", "c", "TASK OK"]);
    assert_eq!(lines.outcome(), Some(&TaskOutcome::Ok));
    assert!(lines.try_next().await.expect("nothing more").is_none());

    let mut lines = task(&failed_after(3, 3, "disk full")).wait().lines();
    for expected in ["line 1", "line 2", "TASK ERROR: disk full"] {
        let line = lines.try_next().await.expect("the lines come first");
        assert_eq!(line.as_deref(), Some(expected));
    }
    let error = lines.try_next().await.expect_err("then how it ended");
    assert!(error.to_string().contains("failed: disk full"), "{error}");
    assert!(lines.try_next().await.expect("nothing more").is_none());
}

#[tokio::test(start_paused = true)]
async fn warnings_are_a_success() {
    let outcome = task(&polls(|_| stopped("WARNINGS: 3")))
        .wait()
        .await
        .expect("success");
    assert_eq!(outcome, TaskOutcome::Warnings(3));
    assert!(outcome.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_does_not_stop_the_task() {
    let fake = polls(|_| running());
    let start = Instant::now();
    let error = task(&fake)
        .wait()
        .timeout(Duration::from_secs(30))
        .await
        .expect_err("too slow");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    assert_eq!(
        error.to_string(),
        format!("task {UPID} did not end within 30s; it continues on node pve1")
    );
    let Error::Task(error) = error else {
        panic!("a task error")
    };
    assert!(error.may_be_running());
    assert!(
        fake.requests()
            .iter()
            .all(|request| request.method == Method::Get)
    );
}

#[tokio::test(start_paused = true)]
async fn temporary_errors_do_not_end_the_wait() {
    let fake = polls(|number| match number {
        1 => Ok(json(
            400,
            "Parameter verification failed.",
            r#"{"errors":{"upid":"no such task"}}"#,
        )),
        2 => running(),
        3 => Ok(json(599, "Too many redirections", "")),
        4 => Err(TransportError::interrupted("connection reset")),
        5 => Err(TransportError::never_sent("connection refused")),
        6 => Err(TransportError::timed_out(Duration::from_secs(60))),
        7 => Ok(json(596, "Connection timed out", "")),
        _ => stopped("OK"),
    });
    assert_eq!(task(&fake).wait().await.expect("success"), TaskOutcome::Ok);
    assert_eq!(fake.requests().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn persistent_errors_end_the_wait() {
    let gone = polls(|_| Ok(json(595, "Connection refused", "")));
    let error = task(&gone).wait().await.expect_err("nobody there");
    assert_eq!(gone.requests().len(), 11);
    assert_eq!(error.kind(), Some(ErrorKind::NodeUnreachable));
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot poll task {UPID}, which may still be"))
    );

    let unknown = polls(|_| Ok(json(400, "", r#"{"errors":{"upid":"no such task"}}"#)));
    let error = task(&unknown).wait().await.expect_err("no such task");
    assert_eq!(unknown.requests().len(), 4);
    assert_eq!(error.kind(), Some(ErrorKind::NotFound));

    let refused = polls(|_| {
        Ok(json(
            403,
            "Permission check failed (/nodes/pve1, Sys.Audit)",
            "",
        ))
    });
    task(&refused).wait().await.expect_err("not allowed");
    assert_eq!(refused.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_log_line_comes_once_and_in_order() {
    let fake = logging(
        &[
            &["no content"],
            &["no content"],
            &["starting"],
            &["starting", "step 1"],
            &["starting", "step 1"],
            &["starting", "step 1", "step 1", "step 2", "TASK OK"],
        ],
        "OK",
    );
    assert_eq!(
        lines_of(&task(&fake)).await,
        ["starting", "step 1", "step 1", "step 2", "TASK OK"]
    );
}

#[tokio::test(start_paused = true)]
async fn incomplete_lines_are_not_reported() {
    let fake = logging(
        &[
            &["a", "transferred 1"],
            &["a", "transferred 100%"],
            &["a", "transferred 100%", "b"],
        ],
        "OK",
    );
    assert_eq!(lines_of(&task(&fake)).await, ["a", "transferred 100%", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_message_for_a_missing_log_is_not_a_line() {
    let fake = logging(
        &[&["unable to open file - No such file or directory"], &["x"]],
        "OK",
    );
    assert_eq!(lines_of(&task(&fake)).await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn long_logs_come_in_pages() {
    let total = 2 * PAGE + 7;
    let mut polled = false;
    let fake = Fake::new(move |request| {
        if !is_log(request) {
            let answer = if polled { stopped("OK") } else { running() };
            polled = true;
            return answer;
        }
        let start: u64 = (request
            .path
            .split_once("start=")
            .expect("it is asked for")
            .1)
            .split('&')
            .next()
            .and_then(|digits| digits.parse().ok())
            .expect("a number");
        let end = (start + PAGE).min(total);
        let rows: Vec<_> = (start + 1..=end)
            .map(|n| serde_json::json!({"n": n, "t": n.to_string()}))
            .collect();
        ok(serde_json::json!({"data": rows, "total": total}).to_string())
    });
    let expected: Vec<_> = (1..=total).map(|n| n.to_string()).collect();
    assert_eq!(lines_of(&task(&fake)).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_connection_reset_loses_and_repeats_no_line() {
    let mut number = 0;
    let fake = Fake::new(move |request| {
        number += 1;
        match number {
            1 => running(),
            2 => ok(r#"{"data":[{"n":1,"t":"a"},{"n":2,"t":"b"},{"n":3,"t":"c"}]}"#),
            4 | 6 => Err(TransportError::interrupted("connection reset")),
            _ if !is_log(request) => stopped("OK"),
            _ => {
                assert!(request.path.contains("start=2"), "{}", request.path);
                ok(r#"{"data":[{"n":3,"t":"c"},{"n":4,"t":"d"}]}"#)
            }
        }
    });
    assert_eq!(lines_of(&task(&fake)).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_custom_interval_is_used() {
    let fake = polls(|number| if number < 4 { running() } else { stopped("OK") });
    let start = Instant::now();
    task(&fake)
        .wait()
        .poll_interval(Duration::from_millis(200))
        .await
        .expect("success");
    assert_eq!(start.elapsed(), Duration::from_millis(600));
}

#[tokio::test(start_paused = true)]
async fn no_timeout_overflows() {
    let fake = polls(|number| if number < 3 { running() } else { stopped("OK") });
    let waiting = task(&fake).wait().timeout(Duration::MAX);
    waiting.await.expect("success");
    let fake = polls(|_| running());
    let waiting = task(&fake).wait().poll_interval(Duration::MAX);
    let late = waiting.timeout(Duration::from_secs(5)).await;
    assert!(
        late.expect_err("too slow")
            .to_string()
            .contains("within 5s")
    );
}

#[tokio::test]
async fn stop_and_log_use_the_tasks_node() {
    let fake = Fake::new(|request| match request.method {
        Method::Delete => ok(r#"{"data":null}"#),
        _ => ok(r#"{"data":[{"t":"one","n":"5"},{"t":"two"}],"total":6}"#),
    });
    let task = task(&fake);
    task.stop().await.expect("accepted");
    let lines = task.log(4, 2).await.expect("accepted");
    assert_eq!(
        lines,
        [
            TaskLogLine {
                number: 5,
                text: "one".into()
            },
            TaskLogLine {
                number: 6,
                text: "two".into()
            }
        ]
    );
    assert_eq!(
        fake.lines(),
        [
            format!("DELETE {BASE}"),
            format!("GET {BASE}/log?start=4&limit=2")
        ]
    );
}

#[tokio::test]
async fn an_invalid_status_is_an_error() {
    let error = task(&polls(|_| ok(r#"{"data":{"pid":1}}"#)))
        .status()
        .await
        .expect_err("no status");
    assert!(error.to_string().contains("data.status"), "{error}");
}

/// A request that starts a task, against a server that gives this answer and then a task that ends
/// at the second poll.
fn order(answer: &'static str) -> (Fake, Request<Task>) {
    static START: Endpoint = Endpoint::new(Method::Post, "/start", Permission::Authenticated);
    let mut count = 0;
    let fake = Fake::new(move |request| {
        if request.method == Method::Post {
            return ok(format!(r#"{{"data":{answer}}}"#));
        }
        count += 1;
        let status = ["running", "stopped"][usize::from(count > 1)];
        ok(format!(
            r#"{{"data":{{"status":"{status}","exitstatus":"OK"}}}}"#
        ))
    });
    let client = fake.token_client();
    let request = PathNode::root(Some(&client))
        .literal("start")
        .request(&START, read_task);
    (fake, request)
}

#[tokio::test(start_paused = true)]
async fn work_without_a_task_is_done() {
    for answer in ["null", r#""""#, r#""OK""#] {
        let (fake, request) = order(answer);
        let task = request.clone().await.expect("it worked");
        assert!(task.is_done() && task.upid().is_none() && task.as_str().is_none());
        assert_eq!(task.to_string(), "done at once");
        assert_eq!(task.wait().await.expect("it is done"), TaskOutcome::Ok);
        assert_eq!(
            task.wait().outcome().await.expect("it is done"),
            TaskOutcome::Ok
        );
        assert!(!task.status().await.expect("it is done").is_running());
        assert!(task.log(0, 0).await.expect("it has none").is_empty());
        assert!(task.log_tail(5).await.expect("it has none").is_empty());
        task.stop().await.expect("nothing to stop");
        assert_eq!(
            request.and_wait().await.expect("it is done"),
            TaskOutcome::Ok
        );
        assert_eq!(fake.requests().len(), 2, "nobody is asked about it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_upid_does_not_fail_the_call() {
    for (answer, shown) in [
        (r#""UPID:pve1:0:0:task""#, "UPID:pve1:0:0:task"),
        (
            r#""UPID:pve1:test:0002DDA4:6B01F6EE:qmstart:100:root@pam:""#,
            "UPID:pve1:test:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
        ),
        (r#""line\nend""#, "line / end"),
        ("17", "17"),
        (r#"{"a":1}"#, r#"{"a":1}"#),
    ] {
        let (fake, request) = order(answer);
        let task = request.clone().await.expect("it worked");
        assert!(!task.is_done() && task.upid().is_none());
        assert_eq!(task.to_string(), shown);
        for error in [
            task.wait().await.expect_err("it cannot be polled"),
            task.wait()
                .outcome()
                .await
                .expect_err("it cannot be polled"),
            task.status().await.expect_err("it cannot be polled"),
            task.log(0, 0).await.expect_err("it cannot be polled"),
            task.stop().await.expect_err("it cannot be polled"),
            request.and_wait().await.expect_err("it cannot be polled"),
        ] {
            let Error::Task(task) = &error else {
                panic!("{error:?}");
            };
            assert!(matches!(task.reason(), TaskErrorKind::Unreadable(_)) && task.may_be_running());
            assert!(error.to_string().contains("the call succeeded"), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(fake.requests().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_sets_the_polling_interval() {
    const UPID: &str = r#""UPID:pve1:00001234:0002DDA4:6B01F6EE:qmstart:100:root@pam:""#;
    let (fake, request) = order(UPID);
    let start = tokio::time::Instant::now();
    request.clone().and_wait().await.expect("it ends well");
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let (fake_too, _) = order(UPID);
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", "s3cret-s3cret")
        .transport(std::sync::Arc::new(fake_too))
        .task_poll(Duration::from_secs(7))
        .build()
        .expect("complete settings");
    let start = tokio::time::Instant::now();
    let request = request.with_client(&client);
    request.and_wait().await.expect("it ends well");
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    drop(fake);
}

#[tokio::test(start_paused = true)]
async fn a_failure_repeats_no_secret_of_the_client() {
    use crate::testing::TOKEN_SECRET;
    let hex: String = (TOKEN_SECRET.bytes().map(|byte| format!("{byte:02x}"))).collect();
    let line = format!("curl -H {TOKEN_SECRET} {hex}");
    let fake = Fake::new(move |request| match is_log(request) {
        true => ok(serde_json::json!({"data": [{"n": 1, "t": line}], "total": 1}).to_string()),
        false => stopped(&format!("command '{line}' failed")),
    });
    let error = task(&fake).wait().await.expect_err("it failed");
    let text = format!("{error} {error:?}");
    assert!(text.contains("curl -H …"), "{text}");
    assert!(
        !text.contains(TOKEN_SECRET) && !text.contains(&hex),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_repeats_no_secret_of_the_call_that_started_it() {
    const SECRET: &str = "pl4nted pa55/w0rd";
    static BEGIN: Endpoint = Endpoint {
        secrets: &["password"],
        ..Endpoint::new(Method::Post, "/begin", Permission::Authenticated)
    };
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let line = format!("mount -o password={SECRET},hex={hex}");
    let fake = Fake::new(move |request| {
        if request.path.ends_with("/begin") {
            return ok(serde_json::json!({ "data": UPID }).to_string());
        }
        match is_log(request) {
            true => ok(serde_json::json!({"data": [{"n": 1, "t": line}], "total": 1}).to_string()),
            false => stopped(&format!("command '{line}' failed")),
        }
    });
    let client = fake.token_client();
    let request = PathNode::root(Some(&client))
        .literal("begin")
        .request(&BEGIN, read_task);
    let task = request.param("password", SECRET).await.expect("it begins");
    let error = task.wait().await.expect_err("it failed");
    let outcome = task.wait().outcome().await.expect("it is known");
    for text in [
        format!("{error} {error:?}"),
        format!("{outcome:?} {task:?}"),
    ] {
        assert!(text.contains("mount -o password=…"), "{text}");
        assert!(!text.contains(SECRET) && !text.contains(&hex), "{text}");
    }
}
