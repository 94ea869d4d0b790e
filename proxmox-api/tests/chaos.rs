//! Many calls over bad connections: two hosts of one cluster, each behind a proxy that resets,
//! delays, holds and cuts off connections. Nothing is done twice, and nothing is lost: the results
//! of the callers agree with the server's record. A seed determines the faults of the connections;
//! which call meets a fault is random.
//!
//! `CHAOS_CALLS` and `CHAOS_SEED` change the run; `FAULTS_WRITE=1` writes the counts into
//! `docs/faults.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proxmox_api::client::limit::RateLimit;
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error, Value};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use proxmox_test_support::page::Part;
use proxmox_test_support::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The fault of a connection. The numbers count bytes since its start.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Everything is delayed a little.
    Delayed,
    /// Reset as soon as it is open.
    Refused,
    /// Ends after this many sent bytes, by a reset or orderly.
    CutRequest(u64, bool),
    /// Ends after this many received bytes.
    CutAnswer(u64, bool),
    /// Hangs after this many received bytes.
    Held(u64),
}

const KINDS: [&str; 6] = [
    "none",
    "delayed",
    "reset at once",
    "cut off while sending",
    "cut off while answering",
    "held",
];

impl Fault {
    /// A TLS connection starts with about 2,000 bytes each way; a call has about 300.
    fn roll(random: &mut Random) -> Self {
        let at = 500 + random.below(4_000);
        let reset = random.below(2) == 0;
        match random.below(100) {
            0..40 => Self::None,
            40..55 => Self::Delayed,
            55..65 => Self::Refused,
            65..80 => Self::CutRequest(at, reset),
            80..95 => Self::CutAnswer(at, reset),
            _ => Self::Held(at),
        }
    }

    fn kind(self) -> usize {
        match self {
            Self::None => 0,
            Self::Delayed => 1,
            Self::Refused => 2,
            Self::CutRequest(..) => 3,
            Self::CutAnswer(..) => 4,
            Self::Held(_) => 5,
        }
    }
}

/// The number of connections.
type Live = Arc<AtomicU64>;
type Counts = Arc<[AtomicU64; KINDS.len()]>;

/// A proxy with faults before the server; returns its address.
async fn faulty(server: String, seed: u64, counts: Counts, live: Live) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut random = Random(seed);
        while let Ok((client, _)) = listener.accept().await {
            let fault = Fault::roll(&mut random);
            counts[fault.kind()].fetch_add(1, Ordering::Relaxed);
            let pauses = Random(random.below(u64::MAX));
            let (server, live) = (server.clone(), Arc::clone(&live));
            live.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                relay(client, server, fault, pauses).await;
                live.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    format!("https://{address}")
}

/// Copies bytes both ways until one side or the fault ends it.
async fn relay(client: TcpStream, server: String, fault: Fault, mut pauses: Random) {
    if let Fault::Refused = fault {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut client, mut server) = (client, server);
    let (mut up, mut down) = (vec![0; 1024], vec![0; 1024]);
    let (mut sent, mut came) = (0, 0);
    let mut end = None;
    while end.is_none() {
        let delay = match fault {
            Fault::Delayed => Duration::from_millis(pauses.below(4)),
            _ => Duration::ZERO,
        };
        let moved = tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(count @ 1..) => {
                    tokio::time::sleep(delay).await;
                    let room = match fault {
                        Fault::CutRequest(at, reset) if sent + count as u64 >= at => {
                            end = Some(reset);
                            at.saturating_sub(sent).min(count as u64) as usize
                        }
                        _ => count,
                    };
                    sent += count as u64;
                    server.write_all(&up[..room]).await
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count @ 1..) => {
                    tokio::time::sleep(delay).await;
                    let room = match fault {
                        Fault::CutAnswer(at, reset) if came + count as u64 >= at => {
                            end = Some(reset);
                            at.saturating_sub(came).min(count as u64) as usize
                        }
                        Fault::Held(at) if came >= at => 0,
                        _ => count,
                    };
                    came += count as u64;
                    client.write_all(&down[..room]).await
                }
                _ => return,
            },
        };
        if moved.is_err() {
            return;
        }
    }
    if end == Some(true) {
        let _ = client.set_zero_linger();
    } else {
        let _ = client.shutdown().await;
    }
}

/// The result of a call for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Accepted,
    Refused,
    Unknown,
    NeverSent,
}

/// A call that changes something, by verb, pool and comment.
type Change = (String, String, String);

fn outcome_of<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Accepted,
        Err(Error::Api(_)) => Outcome::Refused,
        Err(error) if error.never_sent() => Outcome::NeverSent,
        Err(Error::Interrupted(_) | Error::Timeout(_)) => Outcome::Unknown,
        Err(error) => panic!("{error}"),
    }
}

/// Creates, changes, reads and removes its own pools, whatever happens.
async fn work(
    client: Client,
    task: u64,
    calls: u64,
) -> (Vec<(Change, Outcome)>, BTreeMap<Outcome, u64>) {
    let (mut changes, mut reads) = (Vec::new(), BTreeMap::<Outcome, u64>::new());
    for number in 0..calls / 5 {
        let pool = format!("p{task}-{number}");
        let mut last = None;
        for (verb, comment) in [
            (Method::Post, "made"),
            (Method::Put, "one"),
            (Method::Put, "two"),
            (Method::Get, ""),
            (Method::Delete, ""),
        ] {
            let mut call = client
                .request::<Value>(verb, "/pools")
                .param("poolid", &pool);
            if !comment.is_empty() {
                call = call.param("comment", comment);
            }
            let result = call.await;
            let outcome = outcome_of(&result);
            if verb == Method::Get {
                *reads.entry(outcome).or_default() += 1;
                if let (Ok(rows), Some(comment)) = (&result, last) {
                    assert_eq!(rows[0]["comment"], comment, "{pool}");
                }
                continue;
            }
            last = (outcome == Outcome::Accepted).then_some(comment);
            changes.push((
                (verb.to_string(), pool.clone(), comment.to_owned()),
                outcome,
            ));
        }
    }
    (changes, reads)
}

#[derive(Default)]
struct Tally {
    calls: u64,
    /// By result, and by the number of times that the server saw the call.
    changes: BTreeMap<(Outcome, u64), u64>,
    reads: BTreeMap<Outcome, u64>,
}

const TASKS: u64 = 16;

/// One run. Every change is searched in the server's record.
async fn run(
    seed: u64,
    calls: u64,
    login: fn(ClientBuilder) -> ClientBuilder,
    tally: &mut Tally,
    counts: &Counts,
) {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .user("root@pam", PASSWORD)
        .start()
        .await
        .expect("it starts");
    let server = pve.url().replace("https://", "");
    let mut random = Random(seed);
    let live = Live::default();
    let mut way = async || {
        let seed = random.below(u64::MAX);
        faulty(server.clone(), seed, Arc::clone(counts), Arc::clone(&live)).await
    };
    let (one, two) = (way().await, way().await);
    let quick = RetryPolicy::new().backoff(Duration::from_millis(1), Duration::from_millis(10));
    let client = login(Client::builder(one).host(two).retry(quick))
        .fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
        .rate_limit(RateLimit::none())
        .attempt_timeout(Duration::from_millis(400))
        .timeout(Duration::from_secs(5))
        .build()
        .expect("complete");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(work(client.clone(), task, calls / TASKS));
    }
    let mut seen: BTreeMap<Change, u64> = BTreeMap::new();
    let mut outcome = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (changes, reads) = done.expect("no panic");
        for (kind, count) in reads {
            *tally.reads.entry(kind).or_default() += count;
            tally.calls += count;
        }
        outcome.extend(changes);
    }
    // A request that the client gave up may still arrive.
    drop(client);
    while live.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for request in pve.requests() {
        let text = |name: &str| {
            let value = request.params.get(name).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        if request.method != "GET" && request.path == "/pools" {
            let change = (request.method.clone(), text("poolid"), text("comment"));
            *seen.entry(change).or_default() += 1;
        }
    }
    for (change, outcome) in outcome {
        let times = seen.remove(&change).unwrap_or(0);
        let right = match outcome {
            Outcome::Accepted | Outcome::Refused => times == 1,
            Outcome::Unknown => times <= 1,
            Outcome::NeverSent => times == 0,
        };
        assert!(
            right,
            "seed {seed}: {change:?} is {outcome:?}, and the server saw it {times} times"
        );
        *tally.changes.entry((outcome, times)).or_default() += 1;
        tally.calls += 1;
    }
    assert!(seen.is_empty(), "unexpected requests: {seen:?}");
}

const PASSWORD: &str = "r00t-pa55";

fn table(tally: &Tally, counts: &Counts, calls: u64, seed: u64) -> String {
    let mut text = format!(
        "`CHAOS_CALLS={calls} CHAOS_SEED={seed} cargo test -p proxmox-api --all-features --test chaos -- --nocapture`, in whole rounds\n\
         of five calls for each caller:\n\n"
    );
    let count = |kind: usize| counts[kind].load(Ordering::Relaxed);
    let all: u64 = (0..KINDS.len()).map(count).sum();
    let faults: Vec<_> = (KINDS.iter().enumerate())
        .map(|(kind, name)| format!("{} {name}", count(kind)))
        .collect();
    let _ = writeln!(
        text,
        "{} calls over {all} connections ({}).\n",
        tally.calls,
        faults.join(", ")
    );
    text += "| result for the caller | changes, seen by the server once | changes, never seen | changes, seen twice | reads |\n";
    text += "|---|---|---|---|---|\n";
    for (outcome, name) in [
        (Outcome::Accepted, "the answer"),
        (Outcome::Refused, "a refusal"),
        (Outcome::Unknown, "it may have been processed"),
        (Outcome::NeverSent, "it was never sent"),
    ] {
        let changes = |times| tally.changes.get(&(outcome, times)).copied().unwrap_or(0);
        let reads = tally.reads.get(&outcome).copied().unwrap_or(0);
        let (once, never, twice) = (changes(1), changes(0), changes(2));
        let _ = writeln!(text, "| {name} | {once} | {never} | {twice} | {reads} |");
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_duplicated_or_lost() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let calls = number("CHAOS_CALLS").unwrap_or(1_200);
    let seed = number("CHAOS_SEED").unwrap_or(1);
    let counts: Counts = Arc::default();
    let mut tally = Tally::default();
    let by_token = |builder: ClientBuilder| builder.api_token(TOKEN_ID, TOKEN_SECRET);
    let by_password = |builder: ClientBuilder| builder.password("root@pam", PASSWORD);
    let once = |builder: ClientBuilder| {
        let builder = builder.api_token(TOKEN_ID, TOKEN_SECRET);
        builder.retry(RetryPolicy::none())
    };
    for (offset, login) in [by_token, by_password, once].into_iter().enumerate() {
        run(seed + offset as u64, calls / 3, login, &mut tally, &counts).await;
    }
    let table = table(&tally, &counts, calls, seed);
    println!("{table}");
    // Some calls were affected.
    assert!(
        tally
            .changes
            .keys()
            .any(|(outcome, _)| *outcome == Outcome::Unknown)
    );
    let seen = |times| tally.changes.get(&(Outcome::Unknown, times)).copied();
    assert!(
        seen(0).is_some() && seen(1).is_some(),
        "both happen: {:?}",
        tally.changes
    );
    // The counts differ between runs.
    Part::read("faults.md", "chaos").write_if_asked(&table);
}
