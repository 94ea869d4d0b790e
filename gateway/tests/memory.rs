//! The limits on memory for callers: long lists of the cluster that are filtered, and bodies.
//! It is the only test in its process, because it measures the memory of the process.

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, token};
use proxmox_gateway::{Config, Gateway};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1024 * 1024;
/// Memory limit of one address.
const SHARE: usize = 64 * MIB;

/// A long list of guests.
fn list() -> Vec<u8> {
    let rows = (0..180_000).map(|number| {
        format!(
            "{{\"id\":\"qemu/{number}\",\"name\":\"vm{number:07}\",\"node\":\"n1\",\"status\":\"running\",\"vmid\":{number},\
             \"type\":\"qemu\",\"cpu\":0.0134,\"maxcpu\":4,\"mem\":1073741824,\"tags\":\"a;b\"}}"
        )
    });
    let rows: Vec<String> = rows.collect();
    format!("{{\"data\":[{}]}}", rows.join(",")).into_bytes()
}

/// A cluster that answers everything with a list, in a thread for each connection.
fn cluster(list: Arc<Vec<u8>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), list) = (stream, Arc::clone(&list)) else {
                return;
            };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
                        _ => return,
                    }
                }
                let length = list.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&list);
            });
        }
    });
    url
}

struct GatewayClient(SocketAddr);

impl GatewayClient {
    async fn connect(&self, request: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.0).await.expect("a connection");
        let text = format!(
            "{request} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: {}\r\n{headers}\r\n",
            token()
        );
        stream.write_all(text.as_bytes()).await.expect("sent");
        stream
    }

    async fn get(&self, path: &str) -> Answer {
        let mut stream = self.connect(&format!("GET {path}"), "").await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answered");
        Answer::parse(&answer)
    }

    /// The status and the length of an answer.
    async fn measure(&self, path: &str) -> (u16, usize) {
        let mut stream = self.connect(&format!("GET {path}"), "").await;
        let mut piece = vec![0; 64 * 1024];
        let (mut status, mut length) = (0, 0);
        loop {
            let count = stream.read(&mut piece).await.expect("answered");
            if count == 0 {
                return (status, length);
            }
            if length == 0 {
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                let digits = text.split(' ').nth(1).unwrap_or_default();
                status = digits.parse().expect("a status");
            }
            length += count;
        }
    }

    async fn used(&self) -> usize {
        let metrics = self.get("/metrics").await.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("gateway_reserved_bytes "));
        line.expect("the metric is there")
            .parse()
            .expect("a number")
    }

    /// Waits until the memory in use satisfies a condition.
    async fn until(&self, is: impl Fn(usize) -> bool) {
        let wait = async {
            while !is(self.used().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        waited.expect("in time");
    }
}

/// A memory figure of this process in bytes, if the system has it.
fn memory(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes = line.trim_matches([':', '\t', ' ']).strip_suffix(" kB")?;
    Some(kilobytes.parse::<usize>().ok()? * 1024)
}

const SELECTED: &str = "/api2/json/cluster/resources?status=running&sort=name&order=desc";

/// Many callers filter a long list at the same time.
async fn many_callers_filter(front: &GatewayClient, length: usize) {
    let calls = (0..24).map(|_| front.measure(SELECTED));
    let answers = futures_util::future::join_all(calls).await;
    let good = answers.iter().filter(|(status, _)| *status == 200);
    let refused = answers.iter().filter(|(status, _)| *status == 503);
    assert!(good.clone().all(|(_, got)| *got >= length), "{answers:?}");
    let (good, refused) = (good.count(), refused.count());
    println!("{good} got a list, {refused} were refused");
    assert!(good > 0 && good + refused == 24, "{answers:?}");
    front.until(|used| used == 0).await;
}

/// Callers that do not read their answers.
async fn clients_do_not_read(front: &GatewayClient) {
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = front.connect(&format!("GET {SELECTED}"), "").await;
        // The first bytes are sent when the whole answer is in memory.
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.expect("answered");
        assert_eq!(&start, b"HTTP/1.1 200");
        waiting.push(stream);
    }
    let used = front.used().await;
    assert!(used > SHARE / 2 && used <= SHARE, "{used}");
    let (status, _) = front.measure(SELECTED).await;
    assert_eq!(status, 503, "a third exceeds the limit");
    // Requests that need no memory are served.
    assert_eq!(front.get("/healthz").await.status, 200);
    // A list that is too long for its total is passed on without it.
    drop(waiting);
    front.until(|used| used == 0).await;
    let (status, got) = front.measure("/api2/json/nodes/n1/tasks?limit=50").await;
    assert!(status == 200 && got > SHARE / 4, "{status}, {got} bytes");
    front.until(|used| used == 0).await;
}

/// Callers that do not send the end of a body.
async fn bodies_are_incomplete(front: &GatewayClient) {
    const MORE: usize = 20;
    let length = 500_000;
    let mut sending = Vec::new();
    for _ in 0..SHARE / length + MORE {
        let head = format!("Content-Length: {length}\r\n");
        let mut stream = front.connect("POST /v1/webhooks", &head).await;
        // A refused connection may be closed before everything is sent.
        let _ = stream.write_all(&vec![b' '; length - 1]).await;
        sending.push(stream);
    }
    // Requests above the limit get 503.
    let mut refused = 0;
    let wait = async {
        while refused < MORE {
            let mut kept = Vec::new();
            for mut stream in sending.drain(..) {
                let mut start = [0; 12];
                let read = stream.read_exact(&mut start);
                match tokio::time::timeout(Duration::from_millis(1), read).await {
                    Err(_) => {
                        kept.push(stream);
                        continue;
                    }
                    Ok(Ok(_)) => assert_eq!(&start, b"HTTP/1.1 503"),
                    Ok(Err(error)) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
                }
                refused += 1;
            }
            sending = kept;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.expect("in time");
    let used = front.used().await;
    assert!(used > SHARE / 2 && used <= SHARE, "{used}");
    drop(sending);
    front.until(|used| used == 0).await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

/// The same over gRPC without credentials: several streams, each with the start of a message.
async fn messages_are_incomplete(front: &GatewayClient, grpc: SocketAddr) {
    const STREAMS: usize = 3;
    const SENT: usize = 60_000;
    const WINDOW_UPDATE: u8 = 8;
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/gpve.v1.GuestService/List"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let fields = fields.map(|(name, value)| [vec![0], text(name), text(value)].concat());
    // 500,000 bytes are announced.
    let message = [&[0, 0, 7, 0xa1, 0x20], vec![0; SENT].as_slice()].concat();
    let mut calls = Vec::new();
    for stream in (1..).step_by(2).take(STREAMS) {
        calls.extend(frame(1, 4, stream, &fields.concat()));
        for piece in message.chunks(16_000) {
            calls.extend(frame(0, 0, stream, piece));
        }
    }
    let mut sending = Vec::new();
    for _ in 0..SHARE / (STREAMS * SENT) + 20 {
        let mut stream = TcpStream::connect(grpc).await.expect("a connection");
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let start = [preface.as_slice(), &frame(4, 0, 0, &[])].concat();
        stream.write_all(&start).await.expect("sent");
        // The server accepts this much after its settings and a larger window.
        let mut head = [0; 9];
        while head[3] != WINDOW_UPDATE {
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("short")];
            stream.read_exact(&mut payload).await.expect("a frame");
        }
        stream.write_all(&calls).await.expect("sent");
        sending.push(stream);
    }
    front
        .until(|used| used > SHARE / 10 * 9 && used <= SHARE)
        .await;
    drop(sending);
    front.until(|used| used == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_use_more_memory_than_its_limit() {
    let list = Arc::new(list());
    let length = list.len();
    assert!((24 * MIB..32 * MIB).contains(&length), "{length}");
    let mut config = Config::default();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.grpc = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.cluster.urls = vec![cluster(list)];
    config.limits.read = 0;
    config.limits.write = 0;
    let gateway = Gateway::start(config).await.expect("a gateway");
    let front = GatewayClient(gateway.address());
    let (_, all) = front.measure("/api2/json/cluster/resources").await;
    assert!(all >= length, "a list without a selection is streamed");
    let before = memory("VmRSS");
    many_callers_filter(&front, length).await;
    clients_do_not_read(&front).await;
    bodies_are_incomplete(&front).await;
    let grpc = gateway.grpc_address().expect("it is served");
    messages_are_incomplete(&front, grpc).await;
    let (Some(before), Some(peak)) = (before, memory("VmHWM")) else {
        return;
    };
    let more = peak.saturating_sub(before) / MIB;
    println!("{more} MiB above {} MiB", before / MIB);
    // The limit, twice because of copies, and the buffers of several hundred connections on both
    // sides. Parsed as untyped JSON, each list alone would need more.
    assert!(more < 384, "{more} MiB");
}
