//! Time limits of calls and of the logins that they share.

use super::*;

/// The future of an answer.
type Exchange = BoxFuture<'static, Result<WireResponse, TransportError>>;

/// Answers by an asynchronous function, and counts the requests.
struct SlowTransport<F>(F, Mutex<Vec<String>>);

impl<F: Fn(String) -> Exchange + Send + Sync + 'static> SlowTransport<F> {
    fn new(answer: F) -> Arc<Self> {
        Arc::new(Self(answer, Mutex::default()))
    }

    fn count(&self, path: &str) -> usize {
        let seen = self.1.lock().expect("no panic");
        seen.iter().filter(|seen| seen.ends_with(path)).count()
    }
}

impl<F> fmt::Debug for SlowTransport<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowTransport")
    }
}

impl<F: Fn(String) -> Exchange + Send + Sync> Transport for SlowTransport<F> {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        let path = request.path;
        self.1.lock().expect("no panic").push(path.clone());
        (self.0)(path)
    }
}

/// Answers a login after this time, and everything else at once.
fn slow_login(
    time: Duration,
    login: impl Fn() -> Result<WireResponse, TransportError> + Send + Sync + 'static,
) -> Arc<SlowTransport<impl Fn(String) -> Exchange + Send + Sync + 'static>> {
    let login = Arc::new(login);
    SlowTransport::new(move |path| {
        let login = Arc::clone(&login);
        Box::pin(async move {
            if path.ends_with("/access/ticket") {
                tokio::time::sleep(time).await;
                return login();
            }
            ok(r#"{"data":null}"#)
        })
    })
}

fn patient(transport: Arc<dyn Transport>, seconds: u64) -> ClientBuilder {
    Client::builder("pve1")
        .password("root@pam", PASSWORD)
        .transport(transport)
        .retry(RetryPolicy::none())
        .timeout(Duration::from_secs(seconds))
}

/// Sends that many calls at once; returns the errors and the duration in seconds.
async fn at_once(client: &Client, count: usize) -> (Vec<Result<Reply, Error>>, f64) {
    let start = tokio::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        calls.spawn(client.execute(call(Method::Get, "/version", &[])));
    }
    let results = calls.join_all().await;
    (results, start.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn a_hanging_login_delays_calls_by_their_time_limit_at_most() {
    let server = slow_login(Duration::from_secs(3600), || ok(login_answer(1)));
    let client = patient(server.clone(), 3).build().expect("complete");
    for round in 1..=3 {
        let (results, took) = at_once(&client, 64).await;
        for result in results {
            let error = result.expect_err("nobody is logged in");
            assert!(matches!(error, Error::Timeout(_)), "{error}");
            assert!(error.is_retryable());
        }
        assert!((2.9..3.1).contains(&took), "{took}");
        assert_eq!(server.count("/access/ticket"), round);
    }
    assert_eq!(server.count("/version"), 0);
    let saved = tokio::time::timeout(Duration::from_millis(1), client.save_session());
    assert_eq!(saved.await, Ok(None), "it does not wait for the login");
}

#[tokio::test(start_paused = true)]
async fn a_login_continues_when_its_callers_are_dropped() {
    let server = slow_login(Duration::from_millis(600), || ok(login_answer(1)));
    let client = patient(server.clone(), 60).build().expect("complete");
    let mut answered = 0;
    for _ in 0..10 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let call = client.execute(call(Method::Get, "/version", &[]));
            calls.spawn(tokio::time::timeout(Duration::from_millis(500), call));
        }
        let results = calls.join_all().await;
        answered += results.iter().filter(|result| result.is_ok()).count();
    }
    assert_eq!(answered, 180, "all but those before the login was complete");
    assert_eq!(server.count("/access/ticket"), 1);
}

#[tokio::test(start_paused = true)]
async fn all_waiting_calls_share_the_failure_of_a_login() {
    let server = slow_login(Duration::from_secs(1), || {
        Ok(json(500, "no", r#"{"data":null,"message":"no quorum"}"#))
    });
    let client = patient(server.clone(), 60).build().expect("complete");
    let (results, took) = at_once(&client, 64).await;
    for result in results {
        let error = result.expect_err("nobody is logged in");
        assert_eq!(error.api().map(ApiError::status), Some(500), "{error}");
    }
    assert!((0.9..1.1).contains(&took), "{took}");
    assert_eq!(server.count("/access/ticket"), 1);
    // A timeout says nothing about the password, so the next call asks again.
    at_once(&client, 1).await;
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_remembered_for_thirty_seconds_even_if_the_clock_stands_still() {
    let refused = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let server = slow_login(Duration::ZERO, {
        let refused = Arc::clone(&refused);
        move || match refused.load(Ordering::SeqCst) {
            true => Ok(json(401, "authentication failure", "")),
            false => ok(login_answer(1)),
        }
    });
    let client = patient(server.clone(), 60)
        .clock(|| UNIX_EPOCH + Duration::from_secs(1_800_000_000))
        .build()
        .expect("complete");
    for _ in 0..5 {
        let (results, _) = at_once(&client, 20).await;
        assert!(results.iter().all(Result::is_err));
    }
    assert_eq!(server.count("/access/ticket"), 1);
    refused.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert!(at_once(&client, 1).await.0[0].is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(at_once(&client, 1).await.0[0].is_ok());
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_renewal_delays_no_call_while_the_ticket_is_valid() {
    let clock = ManualClock::default();
    let logins = Arc::new(AtomicU64::new(0));
    let server = SlowTransport::new(move |path| {
        let logins = Arc::clone(&logins);
        Box::pin(async move {
            if path.ends_with("/access/ticket") && logins.fetch_add(1, Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            ok(login_answer(1))
        })
    });
    let client = patient(server.clone(), 60)
        .clock(clock.clock())
        .build()
        .expect("complete");
    let (results, _) = at_once(&client, 10).await;
    assert!(results.iter().all(Result::is_ok));
    clock.forward(RENEWAL);
    let (results, took) = at_once(&client, 10).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(took < 0.1, "{took}");
    assert_eq!(server.count("/access/ticket"), 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_the_queue_and_every_attempt() {
    let hangs = |_: String| -> Exchange { Box::pin(std::future::pending()) };
    let server = SlowTransport::new(hangs);
    let client = Client::builder("pve1")
        .transport(server.clone())
        .concurrency(2, 2)
        .timeout(Duration::from_secs(5))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 10).await;
    assert!((4.9..5.1).contains(&took), "{took}");
    let mut unsent = 0;
    for result in results {
        let error = result.expect_err("it hangs");
        let Error::Timeout(error) = &error else {
            panic!("{error}")
        };
        assert_eq!(error.after(), Duration::from_secs(5));
        unsent += usize::from(error.waiting_for() == WaitingFor::Limits);
    }
    assert_eq!((unsent, server.count("/version")), (8, 2));

    let answers = AtomicU64::new(0);
    let server = SlowTransport::new(move |_| match answers.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Box::pin(std::future::pending()),
        _ => Box::pin(async { ok(r#"{"data":null}"#) }),
    });
    let client = Client::builder("pve1")
        .transport(server.clone())
        .timeout(Duration::from_secs(5))
        .attempt_timeout(Duration::from_secs(1))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 1).await;
    assert!(results[0].is_ok(), "the third attempt is answered");
    assert!((2.0..3.0).contains(&took), "{took}");
    assert_eq!(server.count("/version"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_time_limit_ends_the_call_at_once() {
    let fake = Fake::new(|request| {
        let mut answer = match request.path.ends_with("/version") {
            true => json(429, "Too Many Requests", ""),
            false => json(200, "OK", r#"{"data":null}"#),
        };
        let headers = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "40")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        answer.headers.extend(headers);
        if answer.status == 429 {
            answer.headers.push(("Retry-After".into(), "20".into()));
        }
        Ok(answer)
    });
    let client = Client::builder("pve1")
        .transport(Arc::new(fake.clone()))
        .timeout(Duration::from_secs(5))
        .build()
        .expect("complete");
    let (results, took) = at_once(&client, 1).await;
    let error = results[0].as_ref().expect_err("refused");
    let retry_after = error.api().and_then(ApiError::retry_after);
    assert_eq!(retry_after, Some(Duration::from_secs(20)), "{error}");
    assert!(took < 0.1, "{took}");

    let (results, took) = at_once(&client, 1).await;
    let error = results[0].as_ref().expect_err("not sent");
    assert_eq!(
        error.to_string(),
        "GET /version #2: not sent: the server asks for a pause of 20s, the time limit is 5s"
    );
    assert!(error.never_sent());
    assert!(took < 0.1, "{took}");
    assert_eq!(fake.lines().len(), 1);
}
