use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::time::Instant;

use super::*;
use crate::client::Client;
use crate::client::call::Call;
use crate::error::Error;
use crate::testing::{Fake, json, ok};
use crate::value::endpoint::Method;

fn client(fake: &Fake, policy: RetryPolicy) -> Client {
    Client::builder("pve1")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake.clone()))
        .retry(policy)
        .build()
        .expect("the settings are complete")
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Refused,
    Broken,
    Late,
    Status(u16),
}

impl Fault {
    fn outcome(self) -> Result<WireResponse, TransportError> {
        match self {
            Self::Refused => Err(TransportError::never_sent("connection refused")),
            Self::Broken => Err(TransportError::interrupted("connection reset")),
            Self::Late => Err(TransportError::timed_out(Duration::from_secs(1))),
            Self::Status(status) => Ok(json(status, "no", "")),
        }
    }
}

/// Fails that many times and accepts everything then.
fn failing(fault: Fault, times: usize) -> Fake {
    let mut left = times;
    Fake::new(move |_| {
        if left > 0 {
            left -= 1;
            return fault.outcome();
        }
        ok(r#"{"data":null}"#)
    })
}

fn call(method: Method) -> Call {
    Call::new(method, "/nodes/pve1/qemu/100/status/start")
}

#[tokio::test(start_paused = true)]
async fn only_safe_requests_are_retried() {
    use Fault::{Broken, Late, Refused, Status};
    for (fault, reads, writes) in [
        (Refused, true, true),
        (Broken, true, false),
        (Late, true, false),
        (Status(429), true, true),
        (Status(502), true, false),
        (Status(503), true, false),
        (Status(504), true, false),
        (Status(595), true, false),
        (Status(596), false, false),
        (Status(500), false, false),
        (Status(501), false, false),
        (Status(400), false, false),
        (Status(403), false, false),
        (Status(404), false, false),
        (Status(301), false, false),
    ] {
        for method in [Method::Get, Method::Post, Method::Put, Method::Delete] {
            let fake = failing(fault, 1);
            let result = client(&fake, RetryPolicy::new())
                .execute(call(method))
                .await;
            let again = if method == Method::Get { reads } else { writes };
            assert_eq!(result.is_ok(), again, "{fault:?} {method}");
            assert_eq!(
                fake.lines().len(),
                1 + usize::from(again),
                "{fault:?} {method}"
            );

            let fake = failing(fault, 1);
            let harmless = Call {
                repeatable: true,
                ..call(method)
            };
            let result = client(&fake, RetryPolicy::new()).execute(harmless).await;
            assert_eq!(result.is_ok(), reads, "{fault:?} {method}, repeatable");

            let fake = failing(fault, 1);
            let result = client(&fake, RetryPolicy::none())
                .execute(call(method))
                .await;
            assert!(
                result.is_err() && fake.lines().len() == 1,
                "{fault:?} {method}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_marked_as_repeatable_is_retried() {
    let fake = failing(Fault::Broken, 1);
    let client = client(&fake, RetryPolicy::new());
    let request = client
        .request::<crate::Value>(Method::Post, "/pools")
        .repeatable();
    assert!(request.call().is_repeatable());
    request.await.expect("the second attempt is accepted");
    assert_eq!(
        fake.lines(),
        ["POST /api2/json/pools", "POST /api2/json/pools"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_untrusted_certificate_is_not_retried() {
    let fake = Fake::new(|_| Err(TransportError::untrusted("not pinned", [7; 32].into())));
    let error = client(&fake, RetryPolicy::new())
        .execute(call(Method::Get))
        .await
        .expect_err("not trusted");
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_with_the_last_error() {
    let fake = failing(Fault::Broken, 9);
    let error = client(&fake, RetryPolicy::new().attempts(4))
        .execute(call(Method::Get))
        .await
        .expect_err("it never works");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
    assert_eq!(fake.lines().len(), 4);
}

#[test]
fn pauses_double_up_to_their_bound_and_are_random() {
    let policy = RetryPolicy::new()
        .attempts(100)
        .backoff(Duration::from_millis(100), Duration::from_secs(1))
        .budget(1_000_000);
    let bounds: Vec<_> = (0..6).map(|n| policy.bound(n).as_millis()).collect();
    assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
    assert_eq!(policy.bound(u32::MAX), Duration::from_secs(1));

    let retries = RetryBudget::new(policy.clone());
    let broken = Fault::Broken.outcome();
    for attempt in 1..6 {
        let bound = policy.bound(attempt - 1);
        let pauses: Vec<_> = (0..200)
            .map(|_| {
                let outcome = broken.as_ref();
                let next = retries.next(&outcome, true, attempt, Duration::ZERO, None, false);
                next.expect("one more").pause
            })
            .collect();
        assert!(pauses.iter().all(|pause| *pause <= bound), "{bound:?}");
        assert!(pauses.iter().any(|pause| *pause < bound / 2), "{bound:?}");
        assert!(pauses.iter().any(|pause| *pause > bound / 2), "{bound:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_requested_by_the_server_is_used() {
    let mut calls = 0;
    let fake = Fake::new(move |_| {
        calls += 1;
        if calls > 1 {
            return ok(r#"{"data":null}"#);
        }
        let mut answer = json(429, "Too Many Requests", "");
        answer.headers.push(("Retry-After".into(), "7".into()));
        Ok(answer)
    });
    let start = Instant::now();
    client(&fake, RetryPolicy::new())
        .execute(call(Method::Post))
        .await
        .expect("accepted at last");
    let waited = start.elapsed().as_secs_f64();
    assert!((7.0..7.5).contains(&waited), "{waited}");
}

#[test]
fn a_date_in_retry_after_is_read_by_the_servers_clock() {
    let asks = |after: &str, date: Option<&str>| {
        let mut answer = json(503, "no", "");
        answer.headers.push(("Retry-After".into(), after.into()));
        let date = date.map(|date| ("Date".into(), date.into()));
        answer.headers.extend(date);
        retry_after(&answer).map(|pause| pause.as_secs())
    };
    let now = Some("Wed, 21 Oct 2015 07:28:00 GMT");
    assert_eq!(asks("Wed, 21 Oct 2015 07:28:09 GMT", now), Some(9));
    assert_eq!(asks("Thu, 22 Oct 2015 07:28:00 GMT", now), Some(86_400));
    assert_eq!(asks("Wed, 21 Oct 2015 07:27:00 GMT", now), Some(0));
    assert_eq!(asks("Wed, 21 Oct 2015 07:28:09 GMT", None), None);
    assert_eq!(asks("soon", now), None);
    assert_eq!(asks("-1", now), None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_time_limit_is_not_started() {
    let fake = Fake::new(|_| {
        let mut answer = json(429, "Too Many Requests", "");
        answer.headers.push(("Retry-After".into(), "3600".into()));
        Ok(answer)
    });
    let start = Instant::now();
    let error = client(&fake, RetryPolicy::new())
        .execute(call(Method::Get))
        .await
        .expect_err("an hour is too long");
    let api = error.api().expect("the server's refusal");
    assert_eq!(api.retry_after(), Some(Duration::from_secs(3600)));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(fake.lines().len(), 1);
}

#[test]
fn no_attempt_starts_after_the_time_is_over() {
    let retries = RetryBudget::new(RetryPolicy::new().within(Duration::from_secs(60)));
    let late = Fault::Late.outcome();
    let late = late.as_ref();
    let pause = |spent| retries.next(&late, true, 1, Duration::from_secs(spent), None, false);
    assert!(pause(59).is_some());
    assert!(pause(61).is_none());
}

#[tokio::test(start_paused = true)]
async fn retries_do_not_triple_the_load_on_an_unreachable_server() {
    let down = Arc::new(AtomicUsize::new(1));
    let fake = Fake::new({
        let down = Arc::clone(&down);
        move |_| match down.load(Ordering::SeqCst) {
            1 => Fault::Broken.outcome(),
            _ => ok(r#"{"data":null}"#),
        }
    });
    let client = client(&fake, RetryPolicy::new().budget(5));
    for _ in 0..100 {
        client.execute(call(Method::Get)).await.expect_err("down");
    }
    assert_eq!(fake.lines().len(), 100 + 5);

    down.store(0, Ordering::SeqCst);
    for _ in 0..20 {
        client.execute(call(Method::Get)).await.expect("up again");
    }
    down.store(1, Ordering::SeqCst);
    let before = fake.lines().len();
    for _ in 0..10 {
        client.execute(call(Method::Get)).await.expect_err("down");
    }
    assert_eq!(fake.lines().len(), before + 10 + 2, "20 answers paid for 2");
}

#[tokio::test(start_paused = true)]
async fn a_login_is_retried_but_a_code_is_not() {
    let mut attempts = 0;
    let fake = Fake::new(move |request| {
        let form = String::from_utf8_lossy(&request.body);
        if !request.path.ends_with("/access/ticket") {
            return ok(r#"{"data":null}"#);
        }
        attempts += 1;
        match attempts {
            1 => Fault::Broken.outcome(),
            2 if !form.contains("tfa-challenge") => {
                ok(r#"{"data":{"username":"root@pam","NeedTFA":1,
                    "ticket":"PVE:!tfa!{\"totp\"%3Atrue}:6B49D200::c0de+"}}"#)
            }
            _ => Fault::Broken.outcome(),
        }
    });
    let client = Client::builder("pve1")
        .password("root@pam", "pa55-word")
        .transport(Arc::new(fake.clone()))
        .build()
        .expect("the settings are complete");
    let error = client.login().await.expect_err("a code is missing");
    let Error::Auth(error) = error else {
        panic!("{error}")
    };
    assert_eq!(fake.lines().len(), 2);
    let challenge = error.challenge().expect("the server asked");
    let error = client.answer_tfa(challenge, "totp:123456").await;
    assert!(matches!(error, Err(Error::Interrupted(_))));
    assert_eq!(fake.lines().len(), 3, "a code is good for one time");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_retry_returns_to_the_budget() {
    let down = Arc::new(AtomicUsize::new(1));
    let fake = Fake::new({
        let down = Arc::clone(&down);
        move |_| match down.load(Ordering::SeqCst) {
            1 => {
                let mut answer = json(429, "Too Many Requests", "");
                answer.headers.push(("Retry-After".into(), "9".into()));
                Ok(answer)
            }
            _ => Fault::Broken.outcome(),
        }
    });
    let client = client(&fake, RetryPolicy::new().budget(5));
    for _ in 0..10_000 {
        let call = client.execute(call(Method::Get));
        tokio::time::timeout(Duration::from_millis(1), call)
            .await
            .expect_err("it waits for the repetition");
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    down.store(0, Ordering::SeqCst);
    let before = fake.lines().len();
    for _ in 0..3 {
        client.execute(call(Method::Get)).await.expect_err("down");
    }
    assert_eq!(fake.lines().len(), before + 3 + 5, "the budget is full");
}

#[tokio::test(start_paused = true)]
async fn no_pause_overflows() {
    for seconds in [u64::MAX, u64::MAX - 1, u64::MAX / 1000, 1 << 62] {
        let fake = Fake::new(move |_| {
            let mut answer = json(429, "Too Many Requests", "");
            answer
                .headers
                .push(("Retry-After".into(), seconds.to_string()));
            Ok(answer)
        });
        let policy = RetryPolicy::new()
            .backoff(Duration::from_secs(1000), Duration::MAX)
            .within(Duration::MAX);
        let call = client(&fake, policy).execute(call(Method::Get));
        let given_up = tokio::time::timeout(Duration::from_secs(1), call).await;
        assert!(!matches!(given_up, Ok(Ok(_))));
    }
}

proptest::proptest! {
    #[test]
    fn no_header_causes_a_panic(
        text in "\\PC{0,40}",
        date in "[A-Z][a-z]{2}, [0-9]{1,20} (Jan|Feb|Dec|Xxx) [0-9]{1,20} [0-9]{1,20}:[0-9]{1,9}:[0-9]{1,20} GMT",
        number in proptest::prelude::any::<u64>(),
    ) {
        let number = number.to_string();
        for value in [&text, &date, &number] {
            for now in [&date, &text] {
                let mut answer = json(429, "Too Many Requests", "");
                answer.headers.push(("Retry-After".into(), value.clone()));
                answer.headers.push(("Date".into(), now.clone()));
                let _ = retry_after(&answer);
            }
        }
    }
}
