use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::request::Call;
use crate::testing::{Fake, json, ok};
use crate::transport::{Exchange, Transport, WireRequest};
use crate::value::endpoint::Method;

/// Answers after a second and counts how many requests it has at once.
#[derive(Debug, Default)]
struct Slow {
    now: AtomicUsize,
    most: AtomicUsize,
    sent: AtomicUsize,
}

impl Transport for Slow {
    fn send(&self, _: WireRequest) -> Exchange<'_> {
        Box::pin(async move {
            self.sent.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
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
async fn so_many_requests_are_under_way_at_once() {
    let slow = Arc::new(Slow::default());
    let client = builder(slow.clone())
        .concurrency(5, 3)
        .build()
        .expect("complete");
    let start = Instant::now();
    all(&client, (0..20).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(slow.most.load(Ordering::SeqCst), 5);
    assert_eq!(start.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_keeps_no_one_from_the_others() {
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
        slow.most.load(Ordering::SeqCst),
        5,
        "3 for the one and 2 for the other"
    );
    assert_eq!(other, 1);
    assert_eq!(start.elapsed().as_secs(), 4, "12 calls, 3 at once");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_makes_room() {
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

fn friendly() -> Fake {
    Fake::new(|_| ok(r#"{"data":null}"#))
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_requests_keep_to_the_rate() {
    let client = builder(Arc::new(friendly()))
        .rate_limit(RateLimit::default())
        .build()
        .expect("complete");
    let start = Instant::now();
    for _ in 0..100 {
        client
            .execute(Call::new(Method::Get, "/version"))
            .await
            .expect("accepted");
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "a burst goes at once");
    all(&client, (0..50).map(|n| format!("/pools/p{n}"))).await;
    let took = start.elapsed().as_secs_f64();
    assert!(
        (4.9..5.1).contains(&took),
        "50 more take 5 seconds, not {took}"
    );

    tokio::time::advance(Duration::from_secs(3)).await;
    let start = Instant::now();
    all(&client, (0..30).map(|n| format!("/pools/p{n}"))).await;
    let took = start.elapsed().as_secs_f64();
    assert!(
        took < 0.11,
        "3 seconds of rest are worth 30 requests: {took}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_limit_means_none() {
    let client = builder(Arc::new(friendly()))
        .rate_limit(None)
        .build()
        .expect("complete");
    let start = Instant::now();
    all(&client, (0..500).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn odd_rates_do_no_harm() {
    for rate in [
        0.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
    ] {
        let limit = RateLimit::per_second(rate).burst(0);
        assert!(
            limit.burst == 1 && limit.every <= Duration::from_secs(86_401),
            "{rate}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_waits_when_the_server_asks_for_it() {
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
        let told = headers.clone();
        let fake = Fake::new(move |_| {
            let mut answer = json(200, "OK", r#"{"data":null}"#);
            if std::mem::take(&mut first) {
                let told = told
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()));
                answer.headers.extend(told);
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
async fn one_refusal_for_the_rate_holds_the_others_back_too() {
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
        "who does not repeat does not wait"
    );
    all(&client, (0..3).map(|n| format!("/pools/p{n}"))).await;
    assert_eq!(start.elapsed().as_secs(), 5);
}
