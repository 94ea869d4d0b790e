//! Many calls at once over real sockets, some refused at first: none is lost, none is done twice,
//! and memory does not grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proxmox_api::Client;
use proxmox_api::value::endpoint::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TASKS: usize = 64;
const REQUESTS: usize = 10_000;
/// The number of requests after which the server closes a connection, as its last answer announces
/// (wire protocol §2).
const KEEP_ALIVE: usize = 100;

/// The share of requests that get a 429, and a 503, once each.
const REFUSED: usize = 50;

/// The server's record: accepted and refused requests.
#[derive(Default)]
struct ServerLog {
    done: BTreeMap<String, usize>,
    refused: BTreeSet<String>,
}

type SharedLog = Arc<Mutex<ServerLog>>;

/// The refusal of a request's first attempt.
fn refusal(number: &str) -> Option<&'static str> {
    let number: usize = number.parse().ok()?;
    match number % REFUSED {
        0 | 1 => Some("429 Too Many Requests\r\nRetry-After: 0"),
        // Even numbers are reads.
        2 => Some("503 Service Unavailable"),
        _ => None,
    }
}

/// Echoes the last part of the path as `data`.
async fn serve(mut stream: TcpStream, log: SharedLog) {
    let mut left = KEEP_ALIVE;
    let mut bytes = Vec::new();
    while left > 0 {
        left -= 1;
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut some = [0; 1024];
            match stream.read(&mut some).await {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&some[..count]),
            }
        }
        let head = String::from_utf8_lossy(&bytes).into_owned();
        bytes.clear();
        let line = head.lines().next().unwrap_or_default();
        let path = line.split(' ').nth(1).unwrap_or_default();
        let number = path.rsplit('/').next().unwrap_or_default().to_owned();
        let refused = {
            let mut log = log.lock().expect("no panic");
            let refused = refusal(&number).filter(|_| log.refused.insert(line.to_owned()));
            if refused.is_none() {
                *log.done.entry(line.to_owned()).or_default() += 1;
            }
            refused
        };
        if let Some(refused) = refused {
            let answer =
                format!("HTTP/1.1 {refused}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            // A client that ignores the announcement repeats the request, which is counted.
            let _ = stream.write_all(answer.as_bytes()).await;
            return;
        }
        let kept = if left == 0 { "close" } else { "Keep-Alive" };
        let body = format!("{{\"data\":\"{number}\"}}");
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nConnection: {kept}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn server() -> (String, SharedLog) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let log = SharedLog::default();
    let servers_log = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&servers_log)));
        }
    });
    (url, log)
}

/// Resident memory in kilobytes, if the system reports it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

async fn run(client: &Client, numbers: std::ops::Range<usize>) {
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..TASKS {
        let client = client.clone();
        let mine = numbers.clone().skip(first).step_by(TASKS);
        tasks.spawn(async move {
            for number in mine {
                let method = if number % 2 == 0 {
                    Method::Get
                } else {
                    Method::Post
                };
                let answer = client
                    .request::<proxmox_api::Value>(method, format!("/pools/{number}"))
                    .await;
                assert_eq!(answer.expect("answered"), number.to_string());
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.expect("every call was answered with its own answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_requests_of_64_tasks_arrive_exactly_once() {
    let (url, log) = server().await;
    let client = Client::builder(url)
        .api_token("root@pam!ci", "secret")
        .rate_limit(proxmox_api::client::limit::RateLimit::none())
        .concurrency(TASKS, TASKS)
        .build()
        .expect("the settings are complete");
    run(&client, 0..REQUESTS / 5).await;
    let before = resident();
    run(&client, REQUESTS / 5..REQUESTS).await;
    let after = resident();

    let log = log.lock().expect("no panic");
    assert_eq!(log.done.len(), REQUESTS, "none is lost");
    let mut counts = log.done.iter();
    let twice = counts.find(|(_, count)| **count != 1);
    assert_eq!(twice, None, "done more than once");
    assert_eq!(log.refused.len(), REQUESTS / REFUSED * 3);
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.saturating_sub(before);
        println!(
            "{REQUESTS} requests; memory grew by {grown} kB over the last {}",
            REQUESTS / 5 * 4
        );
        // This includes the server's own record.
        assert!(grown < 16 * 1024, "memory grew by {grown} kB");
    }
}
