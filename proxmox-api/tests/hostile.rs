//! Attacks by hostile servers on raw sockets, and their cost in memory and time.

use std::fmt::Write as _;
use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proxmox_api::bounds::Bounds;
use proxmox_api::client::limit::RateLimit;
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error, Value};
use proxmox_test_support::page::Part;
use proxmox_test_support::random::Random;

/// Serves each connection in a thread; returns the address.
fn serve(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), answer) = (stream, Arc::clone(&answer)) else {
                return;
            };
            std::thread::spawn(move || answer(&mut stream));
        }
    });
    url
}

/// Reads the head of a request with the start of its body; `None` at the end of the connection.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn builder(url: &str) -> ClientBuilder {
    Client::builder(url)
        .api_token("root@pam!ci", "0a1b2c3d")
        .rate_limit(RateLimit::none())
        .retry(RetryPolicy::none())
}

/// Refuses many calls, each with a unique phrase, and counts the callers that got another one.
async fn mixed_up(calls: usize, body: &'static str) -> usize {
    let url = serve(move |stream| {
        while let Some(head) = read_head(stream) {
            let id = head.split(['/', ' ']).nth(5).unwrap_or_default();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 500 phrase {id}\r\nContent-Length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let client = builder(&url).concurrency(8, 8).build().expect("complete");
    let wrong = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (client, wrong) = (client.clone(), Arc::clone(&wrong));
        tasks.spawn(async move {
            for number in (task..calls).step_by(64) {
                let call = client.request::<Value>(Method::Get, format!("/pools/{number}"));
                match call.await {
                    Err(Error::Api(error)) if error.reason() == format!("phrase {number}") => {}
                    _ => {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    wrong.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_refusal_has_its_own_phrase() {
    assert_eq!(mixed_up(10_000, r#"{"data":null}"#).await, 0);
    assert_eq!(mixed_up(10_000, "").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes; run it after a change of the transport"]
async fn every_one_of_half_a_million_refusals_has_its_own_phrase() {
    assert_eq!(mixed_up(250_000, r#"{"data":null}"#).await, 0);
    assert_eq!(mixed_up(250_000, "").await, 0);
}

/// A server's answer with bytes changed, dropped, duplicated or inserted.
fn damaged(answer: &[u8], random: &mut Random) -> Vec<u8> {
    let mut below = |limit: usize| random.index(limit.max(1));
    let mut bytes = answer.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        let fragments: [&[u8]; 12] = [
            b"\0",
            b"\r",
            b"\n",
            b"\r\n\r\n",
            b" ",
            b":",
            b"\xff\xe9",
            b"HTTP/1.1 200 OK\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"99999999999999999999",
            b"-1",
        ];
        match below(4) {
            0 => bytes[at] ^= 1 << below(8),
            1 => drop(bytes.remove(at)),
            2 => drop(bytes.splice(at..at, fragments[below(fragments.len())].iter().copied())),
            _ => {
                let end = (at + below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_answers_are_harmless() {
    let runs = std::env::var("HOSTILE_RUNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let runs: u64 = runs.unwrap_or(1_500);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed
        .write_all(br#"{"data":{"release":"9.1"}}"#)
        .expect("it is in memory");
    let packed = packed.finish().expect("it is in memory");
    let length = packed.len();
    let gzip = [
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n")
            .as_bytes(),
        &packed,
    ]
    .concat();
    let answers: [Vec<u8>; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\nServer: x\r\n\r\n{\"data\":{\"release\":\"9.1\"}}".to_vec(),
        b"HTTP/1.1 500 VM 100 is locked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"dat\r\n9\r\na\":null}x\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No ticket\r\nConnection: close\r\n\r\n".to_vec(),
        gzip,
    ];
    let seed = Arc::new(AtomicUsize::new(1));
    let url = serve({
        let answers = answers.clone();
        move |stream| {
            while read_head(stream).is_some() {
                let number = seed.fetch_add(1, Ordering::Relaxed);
                let mut random = Random(number as u64);
                let answer = damaged(&answers[number % answers.len()], &mut random);
                // The attacks that never end are elsewhere; here the end is missing.
                if stream.write_all(&answer).is_err() || random.index(3) > 0 {
                    return;
                }
            }
        }
    });
    let client = builder(&url)
        .timeout(Duration::from_millis(300))
        .concurrency(32, 32)
        .build()
        .expect("complete");
    let mut tasks = tokio::task::JoinSet::new();
    let errors = Arc::new(AtomicUsize::new(0));
    for _ in 0..32 {
        let (client, errors) = (client.clone(), Arc::clone(&errors));
        tasks.spawn(async move {
            for _ in 0..runs / 32 {
                let start = Instant::now();
                let outcome = client.request::<Value>(Method::Get, "/version").await;
                // A hundred times the limit, because the machine may be slow.
                assert!(
                    start.elapsed() < Duration::from_secs(30),
                    "the time is kept"
                );
                if let Err(error) = outcome {
                    let text = format!("{error} {error:?}");
                    assert!(text.len() < 6000 && !text.contains(['\0', '\r']), "{text}");
                    errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let errors = errors.load(Ordering::Relaxed);
    println!("{runs} damaged answers, {errors} errors");
    assert!(errors > 300, "some damage is detected: {errors}");
}

/// Counts requests by their first line.
type Seen = Arc<std::sync::Mutex<std::collections::BTreeMap<String, usize>>>;

#[test]
fn connections_of_an_ended_runtime_cause_no_duplicates() {
    let seen = Seen::default();
    let url = serve({
        let seen = Arc::clone(&seen);
        move |stream| {
            while let Some(head) = read_head(stream) {
                let line = head.lines().next().unwrap_or_default().to_owned();
                *seen.lock().expect("no panic").entry(line).or_default() += 1;
                if whole(stream, "200 OK", br#"{"data":null}"#).is_err() {
                    return;
                }
            }
        }
    });
    let client = builder(&url).build().expect("complete");
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    for round in 0..50 {
        // The connection belongs to the runtime that made it.
        let first = runtime();
        first
            .block_on(
                client
                    .request::<Value>(Method::Get, format!("/pools/{round}"))
                    .into_future(),
            )
            .expect("answered");
        drop(first);
        let path = format!("/pools/{round}/x");
        let outcome =
            runtime().block_on(client.request::<Value>(Method::Post, &path).into_future());
        let count = |path: &str| {
            let seen = seen.lock().expect("no panic");
            let line = seen
                .iter()
                .find(|(line, _)| line.starts_with(&format!("POST /api2/json{path} ")));
            line.map_or(0, |(_, count)| *count)
        };
        match outcome {
            Ok(_) => assert_eq!(count(&path), 1),
            Err(error) => {
                assert!(
                    matches!(error, Error::Interrupted(_) | Error::Connect(_)),
                    "{error}"
                );
                assert!(count(&path) <= 1);
            }
        }
    }
}

#[tokio::test]
async fn an_early_refused_upload_is_sent_once() {
    let seen = Arc::new(AtomicUsize::new(0));
    let url = serve({
        let seen = Arc::clone(&seen);
        move |stream| {
            if read_head(stream).is_some() {
                seen.fetch_add(1, Ordering::Relaxed);
                // Closing with unread data resets the connection.
                let _ = whole(stream, "413 too large\r\nConnection: close", b"");
            }
        }
    });
    let client = builder(&url).timeout(TIMEOUT).build().expect("complete");
    for round in 1..=20 {
        let upload = client
            .upload("pve1", "local")
            .bytes(vec![0; 4 << 20])
            .name("x.iso");
        match upload.await {
            Err(Error::Api(error)) => assert_eq!(error.status(), 413),
            Err(Error::Interrupted(_)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(seen.load(Ordering::Relaxed), round);
    }
}

// Attacks on memory. Each runs in its own process, because peak memory is counted by process.

const MIB: u64 = 1024 * 1024;
/// The memory limit of an attack.
const MAX_MEMORY: u64 = 64 * MIB;
/// The time limit of attacks that another limit should end; generous for slow machines.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The time limit of attacks that it should end.
const SHORT: Duration = Duration::from_secs(5);

/// The operation that is attacked.
#[derive(Clone, Copy)]
enum Operation {
    Call,
    Slow,
    Login,
    Typed,
    Begin,
    Discover,
    Upload,
    Proxied,
    TaskLog,
    #[cfg(feature = "cluster")]
    Rows,
    #[cfg(feature = "guests")]
    Guests,
    #[cfg(feature = "guests")]
    Inventory,
    #[cfg(feature = "guests")]
    Ha,
    #[cfg(feature = "qemu")]
    Tags,
    Stream,
    Lines,
    #[cfg(feature = "nodes")]
    Items,
    #[cfg(feature = "guests")]
    Webhook,
    #[cfg(feature = "guests")]
    File,
    #[cfg(feature = "console")]
    Terminal,
}

struct Attack {
    name: &'static str,
    operation: Operation,
    /// Answers the request with this head, and all further ones.
    serve: fn(&mut TcpStream, &str) -> std::io::Result<()>,
}

/// Writes until the client disconnects.
fn write_until_closed(stream: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    let many = piece.repeat(16 * 1024 / piece.len().max(1) + 1);
    loop {
        stream.write_all(&many)?;
    }
}

fn whole(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// Empty gzip members, one after the other.
fn empty_chunks(stream: &mut TcpStream) -> std::io::Result<()> {
    let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let empty = empty.finish()?;
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    write_until_closed(stream, head, &empty)
}

/// A compressed gigabyte, one megabyte long.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let spaces = vec![b' '; 1 << 20];
        for _ in 0..16 {
            packed.write_all(&spaces).expect("it is in memory");
        }
        packed.finish().expect("it is in memory").repeat(64)
    })
}

const JSON: &str = "Content-Type: application/json\r\n";

fn attacks() -> Vec<Attack> {
    let attack = |name, operation, serve| Attack {
        name,
        operation,
        serve,
    };
    vec![
        attack("an endless answer", Operation::Call, |stream, _| {
            write_until_closed(stream, "HTTP/1.1 200 OK\r\n\r\n", b"x")
        }),
        attack(
            "an endless answer in chunks",
            Operation::Call,
            |stream, _| {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
                write_until_closed(stream, head, chunk.as_bytes())
            },
        ),
        attack(
            "an answer with an announced length of a terabyte",
            Operation::Call,
            |stream, _| {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n";
                write_until_closed(stream, head, b"x")
            },
        ),
        attack(
            "a compressed answer of a gigabyte",
            Operation::Call,
            |stream, _| whole(stream, "200 OK\r\nContent-Encoding: gzip", bomb()),
        ),
        attack("an endless refusal", Operation::Call, |stream, _| {
            write_until_closed(stream, "HTTP/1.1 500 no\r\n\r\n", b"x")
        }),
        attack(
            "a compressed refusal of a gigabyte",
            Operation::Call,
            |stream, _| whole(stream, "500 no\r\nContent-Encoding: gzip", bomb()),
        ),
        attack("a refusal of 20 MiB", Operation::Call, |stream, _| {
            let text = format!("{{\"message\":\"{}\"}}", "x".repeat(20 << 20));
            whole(
                stream,
                &format!("500 no\r\n{}", JSON.trim()),
                text.as_bytes(),
            )
        }),
        attack(
            "a refusal of 100,000 parameters",
            Operation::Call,
            |stream, _| {
                let errors: Vec<_> = (0..100_000).map(|n| format!("\"p{n}\":\"x\"")).collect();
                let text = format!("{{\"errors\":{{{}}}}}", errors.join(","));
                whole(stream, "400 no", text.as_bytes())
            },
        ),
        attack(
            "a redirection to a long address",
            Operation::Call,
            |stream, _| {
                let address = "x".repeat(200_000);
                let head = format!("301 Moved\r\nLocation: https://{address}");
                whole(stream, &head, b"")
            },
        ),
        attack(
            "an endless refusal of an upload",
            Operation::Upload,
            |stream, _| write_until_closed(stream, "HTTP/1.1 500 no\r\n\r\n", b"x"),
        ),
        attack(
            "an endless answer of a proxy",
            Operation::Proxied,
            |stream, _| write_until_closed(stream, "HTTP/1.1 200 ", b"x"),
        ),
        attack(
            "an endless answer to the login",
            Operation::Login,
            |stream, _| write_until_closed(stream, "HTTP/1.1 200 OK\r\n\r\n", b"x"),
        ),
        attack("an endless reason phrase", Operation::Call, |stream, _| {
            write_until_closed(stream, "HTTP/1.1 500 ", b"x")
        }),
        attack("endless header fields", Operation::Call, |stream, _| {
            write_until_closed(stream, "HTTP/1.1 200 OK\r\nA: ", b"x")
        }),
        attack("10,000 header fields", Operation::Call, |stream, _| {
            whole(
                stream,
                &format!("200 OK{}", "\r\nA: b".repeat(10_000)),
                b"{}",
            )
        }),
        attack("endless interim answers", Operation::Call, |stream, _| {
            write_until_closed(stream, "", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        }),
        attack("100,000 nested lists", Operation::Call, |stream, _| {
            let body = format!("{{\"data\":{}", "[".repeat(100_000));
            whole(stream, "200 OK", body.as_bytes())
        }),
        attack(
            "a list of ten million objects",
            Operation::Call,
            |stream, _| {
                let body = format!("{{\"data\":[{}{{}}]}}", "{},".repeat(10 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack(
            "ten million lists of one number",
            Operation::Call,
            |stream, _| {
                let body = format!("{{\"data\":[{}0]}}", "[0],".repeat(7 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack(
            "objects with one member each, beside the data",
            Operation::Call,
            |stream, _| {
                let body = format!("{{\"x\":[{}0],\"data\":1}}", "{\"\":0},".repeat(3 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack("a text of 31 MiB", Operation::Call, |stream, _| {
            let body = format!("{{\"data\":\"{}\"}}", "x".repeat(31 << 20));
            whole(stream, "200 OK", body.as_bytes())
        }),
        #[cfg(feature = "cluster")]
        attack(
            "a million rows of a list with a type",
            Operation::Rows,
            |stream, _| {
                let row = "{\"id\":\"x\",\"type\":\"qemu\"},";
                let body = format!("{{\"data\":[{}0]}}", row.repeat(1 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "half a million guests in the list of guests",
            Operation::Guests,
            |stream, _| {
                let rows: Vec<_> = (0..1 << 19)
                    .map(|vmid| format!("{{\"vmid\":{vmid},\"node\":\"n\",\"type\":\"lxc\"}}"))
                    .collect();
                let body = format!("{{\"data\":[{}]}}", rows.join(","));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "eight million tags in the list of guests",
            Operation::Guests,
            |stream, _| {
                let tags = "a;".repeat(8 << 20);
                let row =
                    format!("{{\"vmid\":1,\"node\":\"n\",\"type\":\"lxc\",\"tags\":\"{tags}\"}}");
                let body = format!("{{\"data\":[{row}]}}");
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "lists instead of names in the list of guests",
            Operation::Guests,
            |stream, _| {
                let name = "[0],".repeat(7 << 20);
                let row =
                    format!("{{\"vmid\":1,\"node\":\"n\",\"type\":\"lxc\",\"name\":[{name}0]}}");
                let body = format!("{{\"data\":[{row}]}}");
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "half a million tags in the inventory",
            Operation::Inventory,
            |stream, _| {
                let tags = "a;".repeat(1 << 19);
                let row = format!(
                    "{{\"id\":\"lxc/1\",\"vmid\":1,\"node\":\"n\",\"type\":\"lxc\",\"tags\":\"{tags}\"}}"
                );
                let body = format!("{{\"data\":[{row}]}}");
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "a high-availability rule with 50,000 guests",
            Operation::Ha,
            |stream, head| {
                let sids: Vec<_> = (0..50_000).map(|vmid| format!("vm:{vmid}")).collect();
                ha(stream, head, &sids, |sids| {
                    let sids = sids.join(",");
                    format!(
                        "{{\"rule\":\"x\",\"type\":\"resource-affinity\",\"affinity\":\"negative\",\"resources\":\"{sids}\"}}"
                    )
                })
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "5,000 guests with 20,000 nodes each",
            Operation::Ha,
            |stream, head| {
                let sids: Vec<_> = (0..5_000).map(|vmid| format!("vm:{vmid}")).collect();
                ha(stream, head, &sids, |sids| {
                    let nodes: Vec<_> = (0..20_000).map(|node| format!("n{node}:1")).collect();
                    let (sids, nodes) = (sids.join(","), nodes.join(","));
                    format!(
                        "{{\"rule\":\"x\",\"type\":\"node-affinity\",\"nodes\":\"{nodes}\",\"resources\":\"{sids}\"}}"
                    )
                })
            },
        ),
        attack(
            "a cluster of 50,000 nodes",
            Operation::Discover,
            |stream, _| {
                let nodes: Vec<_> = (0..50_000)
                    .map(|number| {
                        format!(
                            "{{\"type\":\"node\",\"name\":\"n{number}\",\"ip\":\"fd00::{}:{}\"}}",
                            number >> 16,
                            number & 0xffff
                        )
                    })
                    .collect();
                let body = format!("{{\"data\":[{}]}}", nodes.join(","));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        #[cfg(feature = "qemu")]
        attack(
            "a list of eight million items in one text",
            Operation::Tags,
            |stream, _| {
                let tags = "a;".repeat(8 << 20);
                let body = format!("{{\"data\":{{\"digest\":\"x\",\"tags\":\"{tags}\"}}}}");
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack(
            "a name of 20 MiB beside the data",
            Operation::Typed,
            |stream, _| {
                let body = format!("{{\"data\":{{\"{}\":[}}}}", "x".repeat(20 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack("a ticket of 20 MiB", Operation::Login, |stream, _| {
            let ticket = format!("PVE:root@pam:6789ABCD::{}", "x".repeat(20 << 20));
            let body =
                format!("{{\"data\":{{\"ticket\":\"{ticket}\",\"username\":\"root@pam\"}}}}");
            whole(stream, "200 OK", body.as_bytes())
        }),
        attack(
            "a task with a name of 20 MiB",
            Operation::Begin,
            |stream, _| {
                let body = format!("{{\"data\":\"{}\"}}", "x".repeat(20 << 20));
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack(
            "a task with an exit status of 20 MiB",
            Operation::Begin,
            |stream, head| {
                let mut head = head.to_owned();
                while !head.is_empty() {
                    let end = "x".repeat(10 << 20);
                    let body = match head.split(' ').nth(1).unwrap_or_default() {
                    path if path.ends_with("/status") => {
                        format!("{{\"data\":{{\"status\":\"stopped\",\"exitstatus\":\"{end}{end}\"}}}}")
                    }
                    path if path.contains("/log?") => {
                        format!("{{\"data\":[{{\"n\":1,\"t\":\"{end}\"}},{{\"n\":2,\"t\":\"{end}\"}}],\"total\":2}}")
                    }
                    _ => r#"{"data":"UPID:pve1:00000001:00000002:00000003:vzdump:100:root@pam:"}"#.to_owned(),
                };
                    whole(stream, "200 OK", body.as_bytes())?;
                    head = read_head(stream).unwrap_or_default();
                }
                Ok(())
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "a refusal of 20 MiB by the guest agent",
            Operation::File,
            |stream, _| {
                let text = "x".repeat(20 << 20);
                let body = format!(
                    "{{\"data\":{{\"result\":{{\"error\":{{\"class\":\"x\",\"desc\":\"{text}\"}}}}}}}}"
                );
                whole(stream, "200 OK", body.as_bytes())
            },
        ),
        attack(
            "an endless chunk extension",
            Operation::Call,
            |stream, _| {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;";
                write_until_closed(stream, head, b"x")
            },
        ),
        attack("endless trailers", Operation::Call, |stream, _| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
            write_until_closed(stream, head, b"A: b\r\n")
        }),
        attack(
            "endless empty gzip members",
            Operation::Call,
            |stream, _| empty_chunks(stream),
        ),
        #[cfg(feature = "console")]
        attack(
            "an endless refusal of a console",
            Operation::Terminal,
            |stream, head| {
                let body =
                    br#"{"data":{"user":"root@pam","ticket":"PVEVNC:x","port":5900,"upid":"x"}}"#;
                if head.starts_with("POST") {
                    whole(stream, "200 OK", body)?;
                    let _ = read_head(stream);
                }
                write_until_closed(stream, "HTTP/1.1 500 no\r\n\r\n", b"x")
            },
        ),
        attack("a slow answer", Operation::Slow, |stream, _| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(200));
            }
        }),
        attack(
            "an endless refusal of a stream",
            Operation::Stream,
            |stream, _| write_until_closed(stream, "HTTP/1.1 500 no\r\n\r\n", b"x"),
        ),
        attack(
            "a compressed stream of a gigabyte",
            Operation::Stream,
            |stream, _| whole(stream, "200 OK\r\nContent-Encoding: gzip", bomb()),
        ),
        attack(
            "a stream of endless empty gzip members",
            Operation::Stream,
            |stream, _| empty_chunks(stream),
        ),
        attack("an endless line", Operation::Lines, |stream, _| {
            write_until_closed(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
                b"x",
            )
        }),
        attack("an endless list element", Operation::Lines, |stream, _| {
            write_until_closed(
                stream,
                &format!("HTTP/1.1 200 OK\r\n{JSON}\r\n{{\"data\":[\""),
                b"x",
            )
        }),
        attack("an endless task log", Operation::TaskLog, |stream, head| {
            let mut head = head.to_owned();
            while let Some((_, start)) = head.split_once("start=") {
                let digits = start.split('&').next().unwrap_or_default();
                let start: u64 = digits.parse().unwrap_or_default();
                let rows: Vec<_> = (1..=500)
                    .map(|n| format!("{{\"n\":{},\"t\":\"x\"}}", start + n))
                    .collect();
                let body = format!("{{\"data\":[{}]}}", rows.join(","));
                whole(stream, "200 OK", body.as_bytes())?;
                head = read_head(stream).unwrap_or_default();
            }
            Ok(())
        }),
        #[cfg(feature = "nodes")]
        attack("an endless list", Operation::Items, |stream, head| {
            let mut head = head.to_owned();
            while let Some((_, start)) = head.split_once("start=") {
                let digits = start.split(['&', ' ']).next().unwrap_or_default();
                let number: u64 = digits.parse().unwrap_or_default();
                let task = format!(
                    r#"{{"upid":"UPID:pve1:{number:08X}:0:0:x::root@pam:","node":"pve1","pid":{number},"pstart":1,"starttime":1,"type":"x","id":"","user":"root@pam"}}"#
                );
                let body = format!("{{\"data\":[{task}],\"total\":1000000000}}");
                whole(stream, "200 OK", body.as_bytes())?;
                head = read_head(stream).unwrap_or_default();
            }
            Ok(())
        }),
        #[cfg(feature = "guests")]
        attack(
            "an endless answer to a webhook",
            Operation::Webhook,
            |stream, _| write_until_closed(stream, "HTTP/1.1 200 OK\r\n\r\n", b"x"),
        ),
        #[cfg(feature = "guests")]
        attack(
            "an endless file in a guest",
            Operation::File,
            |stream, _| {
                let content = "eHh4".repeat(1 << 18);
                let body = format!(
                    "{{\"data\":{{\"content\":\"{content}\",\"bytes-read\":786432,\"truncated\":1}}}}"
                );
                loop {
                    whole(stream, "200 OK", body.as_bytes())?;
                    if read_head(stream).is_none() {
                        return Ok(());
                    }
                }
            },
        ),
        #[cfg(feature = "guests")]
        attack(
            "an endless file in a guest of an old release",
            Operation::File,
            |stream, head| {
                let mut head = head.to_owned();
                while head.contains("decode=") {
                    whole(stream, "400 no", br#"{"errors":{"decode":"not defined"}}"#)?;
                    head = read_head(stream).unwrap_or_default();
                }
                let start = format!("HTTP/1.1 200 OK\r\n{JSON}\r\n{{\"data\":{{\"content\":\"");
                write_until_closed(stream, &start, br"\u0001")
            },
        ),
        #[cfg(feature = "console")]
        attack(
            "an endless message of a console",
            Operation::Terminal,
            |stream, head| {
                console(stream, head)?;
                // A frame of a terabyte.
                write_until_closed(stream, "", b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00")
            },
        ),
        #[cfg(feature = "console")]
        attack(
            "an endless fragmented message of a console",
            Operation::Terminal,
            |stream, head| {
                console(stream, head)?;
                stream.write_all(b"\x02\x02OK")?;
                let piece = [b"\x00\x7e\x04\x00", [b'x'; 1024].as_slice()].concat();
                write_until_closed(stream, "", &piece)
            },
        ),
        #[cfg(feature = "console")]
        attack(
            "endless pings over a console, with unread answers",
            Operation::Terminal,
            |stream, head| {
                console(stream, head)?;
                stream.write_all(b"\x82\x02OK")?;
                let ping = [b"\x89\x7d".as_slice(), &[b'x'; 125]].concat();
                write_until_closed(stream, "", &ping)
            },
        ),
    ]
}

/// Answers high-availability requests with a resource for each of these, and a rule.
#[cfg(feature = "guests")]
fn ha(
    stream: &mut TcpStream,
    head: &str,
    sids: &[String],
    rule: impl Fn(&[String]) -> String,
) -> std::io::Result<()> {
    let mut head = head.to_owned();
    while !head.is_empty() {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let data = match path.rsplit('/').next().unwrap_or_default() {
            "version" => r#"{"release":"9.1","version":"9.1.1","repoid":"x"}"#.to_owned(),
            "resources" => {
                let rows: Vec<_> = (sids.iter())
                    .map(|sid| format!("{{\"sid\":\"{sid}\"}}"))
                    .collect();
                format!("[{}]", rows.join(","))
            }
            _ => format!("[{}]", rule(sids)),
        };
        whole(stream, "200 OK", format!("{{\"data\":{data}}}").as_bytes())?;
        head = read_head(stream).unwrap_or_default();
    }
    Ok(())
}

/// Opens a console.
#[cfg(feature = "console")]
fn console(stream: &mut TcpStream, head: &str) -> std::io::Result<()> {
    let body = br#"{"data":{"user":"root@pam","ticket":"PVEVNC:x","port":5900,"upid":"x"}}"#;
    // The second request may come over another connection.
    let mut head = head.to_owned();
    if head.starts_with("POST") {
        whole(stream, "200 OK", body)?;
        head = read_head(stream).unwrap_or_default();
    }
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .map(accepted);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        key.unwrap_or_default()
    );
    stream.write_all(head.as_bytes())?;
    Ok(())
}

/// The server's answer to a WebSocket key.
#[cfg(feature = "console")]
fn accepted(key: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.finish())
}

/// Runs the operation with the server at this address.
async fn run_operation(operation: Operation, url: &str) -> Result<(), Error> {
    let mut builder = builder(url).timeout(TIMEOUT);
    match operation {
        Operation::Login => builder = builder.password("root@pam", "0a1b2c3d"),
        Operation::Slow => builder = builder.timeout(SHORT),
        _ => {}
    }
    let client = builder.bounds(Bounds::new().pages(5000)).build()?;
    let request = client.request::<Value>(Method::Get, "/version");
    match operation {
        Operation::Call | Operation::Slow | Operation::Login => request.await.map(drop),
        Operation::Typed => {
            let request =
                client.request::<std::collections::BTreeMap<String, Value>>(Method::Get, "/x");
            request.await.map(drop)
        }
        Operation::Begin => {
            let upload = client
                .upload("pve1", "local")
                .bytes(vec![0; 10])
                .name("x.iso");
            upload.await?.wait().await.map(drop)
        }
        Operation::Discover => client.discover_hosts().await.map(drop),
        Operation::Upload => {
            let upload = client
                .upload("pve1", "local")
                .bytes(vec![0; 1 << 20])
                .name("x.iso");
            upload.await.map(drop)
        }
        Operation::Proxied => {
            let url = url.replace("http://", "");
            let proxied = (Client::builder("http://pve1.invalid:8006").danger_allow_http(true))
                .proxy(format!("http://{url}"))
                .retry(RetryPolicy::none())
                .timeout(TIMEOUT)
                .build()?;
            proxied
                .request::<Value>(Method::Get, "/version")
                .await
                .map(drop)
        }
        Operation::TaskLog => {
            let upid = "UPID:pve1:00000001:00000002:00000003:vzdump:100:root@pam:";
            client.task(upid.parse()?).log_tail(10).await.map(drop)
        }
        #[cfg(feature = "cluster")]
        Operation::Rows => client.cluster().resources().get().await.map(drop),
        #[cfg(feature = "guests")]
        Operation::Guests => client.listed_guests().await.map(drop),
        #[cfg(feature = "guests")]
        Operation::Inventory => {
            use proxmox_api::manage::inventory::Inventory;
            Inventory::fetch(&client).await.map(drop)
        }
        #[cfg(feature = "guests")]
        Operation::Ha => {
            use proxmox_api::manage::ha::HaView;
            HaView::fetch(&client).await.map(drop)
        }
        #[cfg(feature = "qemu")]
        Operation::Tags => {
            let machine = client.nodes().node("pve1").qemu().vmid(100);
            machine.config().get().await.map(drop)
        }
        Operation::Stream => {
            let mut stream = request.stream().await?;
            while stream.chunk().await?.is_some() {}
            Ok(())
        }
        Operation::Lines => {
            let mut lines = request.stream().await?.lines();
            while lines.try_next().await?.is_some() {}
            Ok(())
        }
        #[cfg(feature = "nodes")]
        Operation::Items => {
            use proxmox_api::request::ApiRequest;
            let mut items = client.nodes().node("pve1").tasks().get().items(1);
            while items.try_next().await?.is_some() {}
            Ok(())
        }
        #[cfg(feature = "guests")]
        Operation::Webhook => {
            use proxmox_api::manage::{events, webhook};
            let hook = webhook::Webhook::new("hook", url, "0a1b2c3d")?;
            let change = events::Change::NodeStatus {
                node: "pve1".to_owned(),
                old: None,
                new: "offline".to_owned(),
            };
            let event = events::Event::new(1_800_000_000, change);
            webhook::Deliverer::new()?.deliver(&hook, &event).await
        }
        #[cfg(feature = "guests")]
        Operation::File => {
            use proxmox_api::manage::guest::Kind;
            let guest = client.guest_at(100, "pve1", Kind::Qemu);
            guest.agent().read_file("/x").await.map(drop)
        }
        #[cfg(feature = "console")]
        Operation::Terminal => {
            let mut terminal = client.lxc_console("pve1", 100).terminal().await?;
            while terminal.read().await?.is_some() {}
            Ok(())
        }
    }
}

/// A memory figure of this process in bytes, if the system reports it.
fn memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line
        .trim_matches([':', '\t', ' '])
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kilobytes * 1024)
}

const ATTACK: &str = "HOSTILE_ATTACK";
const URL: &str = "HOSTILE_URL";
const MARK: &str = "attacked: ";

/// The process of one attack: prints memory, time and the result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process of one attack; started by the test below"]
async fn one_attack() {
    let (Ok(number), Ok(url)) = (std::env::var(ATTACK), std::env::var(URL)) else {
        return;
    };
    let number: usize = number.parse().expect("a number");
    let attack = attacks().remove(number);
    // An idle client, with everything that it loads.
    let idle = builder(&url).build().expect("complete");
    let before = memory("VmRSS").unwrap_or_default();
    let start = Instant::now();
    let result = run_operation(attack.operation, &url).await;
    let time = start.elapsed().as_millis();
    let peak = memory("VmHWM").unwrap_or_default();
    drop(idle);
    let seen = match &result {
        Ok(()) => "the answer".to_owned(),
        Err(error) => description(error),
    };
    println!("{MARK}{}|{time}|{seen}", peak.saturating_sub(before));
}

/// The start of a text.
fn start(text: &str, length: usize) -> String {
    match text.split_at_checked(length) {
        Some((start, _)) if start.len() < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    }
}

/// The error, without parts that differ between runs.
fn description(error: &Error) -> String {
    let text = error.to_string();
    assert!(
        text.len() < 1500,
        "{} bytes are too long for people",
        text.len()
    );
    assert!(format!("{error:?}").len() < 5000);
    let (_, after) = text.split_once(": ").unwrap_or(("", &text));
    match error {
        Error::Timeout(_) => "`Error::Timeout`".into(),
        Error::Interrupted(error) => format!("`Error::Interrupted`: {}", error.text()),
        Error::Connect(_) => {
            let text = text.rsplit(": ").next().unwrap_or_default();
            let words = text
                .split(' ')
                .filter(|word| !word.starts_with("127.0.0.1:"));
            format!("`Error::Connect`: {}", words.collect::<Vec<_>>().join(" "))
        }
        Error::Exceeded(_) => format!("`Error::Exceeded`: {after}"),
        // The place where memory runs out depends on the size of values.
        Error::Decode(_) if after.contains(" of memory") => {
            let (message, _) = after.split_once(" (line ").unwrap_or((after, ""));
            format!("`Error::Decode`: {message}")
        }
        Error::Decode(_) => format!("`Error::Decode`: {after}"),
        Error::Api(error) => format!("`Error::Api`, `{:?}`: {}", error.kind(), start(after, 40)),
        _ => start(&text, 100),
    }
}

/// The attack's memory, time in milliseconds, and what the caller sees.
fn run(number: usize, attack: &Attack) -> (u64, u64, String) {
    let serve_one = attack.serve;
    let url = serve(move |stream| {
        if let Some(head) = read_head(stream) {
            // It ends when the client disconnects.
            let _ = serve_one(stream, &head);
        }
    });
    let program = std::env::current_exe().expect("this test");
    let output = std::process::Command::new(program)
        .args(["--exact", "one_attack", "--ignored", "--nocapture"])
        .env(ATTACK, number.to_string())
        .env(URL, url)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.split(MARK).nth(1).and_then(|rest| rest.lines().next());
    let Some(line) = line else {
        panic!(
            "{}: {text} {}",
            attack.name,
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let mut parts = line.splitn(3, '|');
    let mut number = || parts.next()?.parse().ok();
    let (memory, time) = (number().expect("bytes"), number().expect("milliseconds"));
    (memory, time, parts.next().unwrap_or_default().to_owned())
}

#[test]
fn no_attack_uses_much_memory_and_each_is_an_error() {
    // It takes time to start.
    bomb();
    let mut rows = Vec::new();
    let mut table = "| attack | memory | time | the caller sees |\n|---|---|---|---|\n".to_owned();
    for (number, attack) in attacks().iter().enumerate() {
        let (memory, time, seen) = run(number, attack);
        assert!(
            memory < MAX_MEMORY,
            "{} took {} MiB",
            attack.name,
            memory / MIB
        );
        let _ = writeln!(
            table,
            "| {} | {} MiB | {}.{} s | {seen} |",
            attack.name,
            memory.div_ceil(MIB),
            time / 1000,
            time % 1000 / 100,
        );
        rows.push((attack.name, seen));
    }
    println!("{table}");
    let part = Part::read("faults.md", "attacks");
    if part.write_if_asked(&table) {
        return;
    }
    // Features that are not built are not attacked; memory and time differ between runs.
    for (name, seen) in rows {
        let row = part
            .written()
            .lines()
            .find(|row| row.starts_with(&format!("| {name} |")));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!("| {seen} |"))),
            "{name}: {seen}; FAULTS_WRITE=1 writes the table"
        );
    }
}
