use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::client::call::Call;
use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::testing::{Fake, json, ok};
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;
use crate::value::endpoint::Method;

/// Answers after a second and counts its concurrent requests.
#[derive(Debug, Default)]
struct Slow {
    now: AtomicUsize,
    max: AtomicUsize,
    sent: AtomicUsize,
}

impl Transport for Slow {
    fn send(&self, _: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            self.sent.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.max.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            ok(r#"{"data":null}"#)
        })
    }
}

fn builder(transport: Arc<dyn Transport>) -> ClientBuilder {
    Client::builder("pve1")
        .api_token("root@pam!ci", "secret")
        .transport(transport)
}

async fn all(client: &Client, calls: impl IntoIterator<Item = String>) {
    let mut running = tokio::task::JoinSet::new();
    for path in calls {
        running.spawn(client.execute(Call::new(Method::Get, path)));
    }
    while let Some(result) = running.join_next().await {
        result.expect("no panic").expect("accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_concurrent_requests_is_limited() {
    let slow = Arc::new(Slow::default());
    let client = builder(slow.clone())
        .concurrency(5, 3)
        .build()
        .expect("complete");
    let start = Instant::now();
    all(&client, (0..20).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(slow.max.load(Ordering::SeqCst), 5);
    assert_eq!(start.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_does_not_delay_calls_to_others() {
    let slow = Arc::new(Slow::default());
    let client = builder(slow.clone())
        .concurrency(5, 3)
        .build()
        .expect("complete");
    let start = Instant::now();
    let node =
        |name: &'static str, calls| (0..calls).map(move |n| format!("/nodes/{name}/qemu/{n}"));
    let busy = all(&client, node("pve1", 12));
    let other = async {
        all(&client, node("pve2", 2)).await;
        start.elapsed().as_secs()
    };
    let ((), other) = tokio::join!(busy, other);
    assert_eq!(
        slow.max.load(Ordering::SeqCst),
        5,
        "3 for the one and 2 for the other"
    );
    assert_eq!(other, 1);
    assert_eq!(start.elapsed().as_secs(), 4, "12 calls, 3 at once");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_frees_its_place() {
    let slow = Arc::new(Slow::default());
    let client = builder(slow.clone())
        .concurrency(1, 1)
        .build()
        .expect("complete");
    for _ in 0..3 {
        let call = client.execute(Call::new(Method::Get, "/version"));
        tokio::time::timeout(Duration::from_millis(10), call)
            .await
            .expect_err("it takes a second");
    }
    client
        .execute(Call::new(Method::Get, "/version"))
        .await
        .expect("there is room");
    assert_eq!(slow.sent.load(Ordering::SeqCst), 4);
}

fn accepting_server() -> Fake {
    Fake::new(|_| ok(r#"{"data":null}"#))
}

fn calls(method: Method, count: usize) -> impl Iterator<Item = Call> {
    (0..count).map(move |n| Call::new(method, format!("/pools/p{n}")))
}

/// The duration of that many concurrent calls.
async fn time_of(client: &Client, calls: impl IntoIterator<Item = Call>) -> f64 {
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for call in calls {
        running.spawn(client.execute(call));
    }
    while let Some(result) = running.join_next().await {
        result.expect("no panic").expect("accepted");
    }
    start.elapsed().as_secs_f64()
}

fn assert_near(time: f64, expected: f64) {
    assert!((time - expected).abs() < 0.2, "{time} s, not {expected} s");
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_have_separate_allowances() {
    let client = builder(Arc::new(accepting_server()))
        .rate_limit(RateLimit::default())
        .concurrency(5000, 5000)
        .build()
        .expect("complete");
    assert_near(time_of(&client, calls(Method::Get, 1000)).await, 0.0);
    assert_near(time_of(&client, calls(Method::Post, 40)).await, 0.0);
    assert_near(time_of(&client, calls(Method::Put, 40)).await, 0.0);
    assert_near(time_of(&client, calls(Method::Delete, 20)).await, 0.0);
    assert_eq!(client.limit_waits(), LimitWaits::default());
    assert_near(time_of(&client, calls(Method::Post, 50)).await, 5.0);
    // The allowance of five seconds for reads is available by now.
    assert_near(time_of(&client, calls(Method::Get, 83 + 100)).await, 6.0);

    let waits = client.limit_waits();
    assert_eq!(waits.requests, 50 + 100);
    let expected = (1..=50).map(|n| f64::from(n) / 10.0).sum::<f64>()
        + (1..=100).map(|n| f64::from(n) * 0.06).sum::<f64>();
    let total = waits.total.as_secs_f64();
    assert!(
        (total - expected).abs() < expected / 50.0,
        "{total}, not {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_read_does_not_delay_writes() {
    let rates = RateLimit::separate(
        Rate::per_second(1.0).burst(1),
        Rate::per_second(1.0).burst(5),
    );
    let client = builder(Arc::new(accepting_server()))
        .rate_limit(rates)
        .concurrency(2, 1)
        .build()
        .expect("complete");
    let on_node =
        |method, count| (0..count).map(move |n| Call::new(method, format!("/nodes/pve1/qemu/{n}")));
    let reads = time_of(&client, on_node(Method::Get, 20));
    let writes = time_of(&client, on_node(Method::Post, 5));
    let (reads, writes) = tokio::join!(reads, writes);
    assert_near(reads, 19.0);
    assert_near(writes, 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_strict_limit_admits_ten_requests_a_second() {
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let fake = Fake::new({
        let sent = Arc::clone(&sent);
        move |_| {
            sent.lock().expect("no panic").push(Instant::now());
            ok(r#"{"data":null}"#)
        }
    });
    let client = builder(Arc::new(fake))
        .rate_limit(RateLimit::strict())
        .build()
        .expect("complete");
    let both = calls(Method::Get, 20).chain(calls(Method::Post, 20));
    assert_near(time_of(&client, both).await, 3.9);
    let sent = sent.lock().expect("no panic");
    for window in sent.windows(11) {
        assert!(window[10] - window[0] >= Duration::from_millis(995));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_after_a_burst_follow_the_rate() {
    let client = builder(Arc::new(accepting_server()))
        .rate_limit(Rate::per_second(10.0))
        .build()
        .expect("complete");
    assert_near(time_of(&client, calls(Method::Get, 100)).await, 0.0);
    assert_near(time_of(&client, calls(Method::Get, 50)).await, 5.0);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_near(time_of(&client, calls(Method::Get, 30)).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_use_no_allowance() {
    let client = builder(Arc::new(accepting_server()))
        .rate_limit(RateLimit::default())
        .build()
        .expect("complete");
    time_of(&client, calls(Method::Post, 100)).await;
    let mut sent = 0;
    for _ in 0..12 {
        let mut running = tokio::task::JoinSet::new();
        for call in calls(Method::Post, 2000) {
            let call = client.execute(call);
            running.spawn(tokio::time::timeout(Duration::from_millis(1050), call));
        }
        while let Some(result) = running.join_next().await {
            sent += usize::from(result.expect("no panic").is_ok());
        }
    }
    assert!((115..=130).contains(&sent), "10 a second, not {sent}");
    assert_near(time_of(&client, calls(Method::Post, 1)).await, 0.1);
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_keep_no_permit() {
    let slow = Arc::new(Slow::default());
    let client = builder(slow.clone())
        .concurrency(8, 4)
        .build()
        .expect("complete");
    for round in 0..10 {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..2000 {
            let path = format!("/nodes/pve{}/qemu/{n}", n % 5);
            let call = client.execute(Call::new(Method::Get, path));
            // Some are running by then, most wait.
            let time = Duration::from_millis((n * 7 + round) % 900);
            running.spawn(tokio::time::timeout(time, call));
        }
        while let Some(result) = running.join_next().await {
            assert!(result.expect("no panic").is_err());
        }
    }
    // It counts dropped requests as still running.
    slow.now.store(0, Ordering::SeqCst);
    slow.max.store(0, Ordering::SeqCst);
    let start = Instant::now();
    all(
        &client,
        (0..16).map(|n| format!("/nodes/pve{}/qemu/{n}", n % 2)),
    )
    .await;
    assert_eq!(slow.max.load(Ordering::SeqCst), 8);
    assert_eq!(start.elapsed().as_secs(), 2, "16 calls, 8 at once");
}

#[tokio::test(start_paused = true)]
async fn no_limit_means_none() {
    let client = builder(Arc::new(accepting_server()))
        .rate_limit(RateLimit::none())
        .build()
        .expect("complete");
    let start = Instant::now();
    all(&client, (0..500).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn invalid_rates_are_harmless() {
    for rate in [
        0.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
    ] {
        let limit = Rate::per_second(rate).burst(0);
        assert!(
            limit.burst == 1 && limit.every <= Duration::from_secs(86_401),
            "{rate}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_requested_by_the_server_delays_every_call() {
    for (headers, waits) in [
        (
            vec![("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9")],
            9,
        ),
        (
            vec![("RateLimit-Remaining", "0"), ("RateLimit-Reset", "9")],
            9,
        ),
        (
            vec![
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", "1800000012"),
            ],
            12,
        ),
        (
            vec![
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", "1700000000"),
            ],
            0,
        ),
        (
            vec![("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "9")],
            0,
        ),
        (vec![("X-RateLimit-Remaining", "0")], 0),
        (
            vec![
                ("X-RateLimit-Remaining", "none"),
                ("X-RateLimit-Reset", "soon"),
            ],
            0,
        ),
        (
            vec![
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", "4000"),
            ],
            0,
        ),
    ] {
        let mut first = true;
        let fields = headers.clone();
        let fake = Fake::new(move |_| {
            let mut answer = json(200, "OK", r#"{"data":null}"#);
            if std::mem::take(&mut first) {
                let fields = fields
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()));
                answer.headers.extend(fields);
            }
            Ok(answer)
        });
        let client = builder(Arc::new(fake))
            .clock(|| UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .build()
            .expect("complete");
        let start = Instant::now();
        client
            .execute(Call::new(Method::Get, "/version"))
            .await
            .expect("accepted");
        client
            .execute(Call::new(Method::Post, "/pools"))
            .await
            .expect("accepted");
        assert_eq!(start.elapsed().as_secs(), waits, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_delays_other_calls_too() {
    let mut refused = false;
    let fake = Fake::new(move |_| {
        if std::mem::replace(&mut refused, true) {
            return ok(r#"{"data":null}"#);
        }
        let mut answer = json(429, "Too Many Requests", "");
        answer.headers.push(("retry-after".into(), "5".into()));
        Ok(answer)
    });
    let client = builder(Arc::new(fake))
        .retry(RetryPolicy::none())
        .build()
        .expect("complete");
    let start = Instant::now();
    client
        .execute(Call::new(Method::Get, "/version"))
        .await
        .expect_err("refused");
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "calls without retries do not wait"
    );
    all(&client, (0..3).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(start.elapsed().as_secs(), 5);
}

proptest::proptest! {
    #[test]
    fn no_header_causes_a_panic(
        remaining in "[0-9]{0,3}|.{0,9}", reset in "[0-9]{0,25}|-[0-9]{1,20}|.{0,9}", status in 200_u16..600,
    ) {
        let limits = Limits::new(Settings {
            at_once: 1,
            at_once_per_node: 1,
            rate: RateLimit::default(),
        });
        let mut answer = json(status, "x", "");
        for name in ["X-RateLimit-Reset", "RateLimit-Reset", "Retry-After"] {
            answer.headers.push((name.into(), reset.clone()));
        }
        answer.headers.push(("X-RateLimit-Remaining".into(), remaining));
        limits.observe(&answer, UNIX_EPOCH);
        limits.observe(&answer, UNIX_EPOCH + Duration::from_secs(1 << 40));
    }
}
