//! What the gateway holds in memory for its callers: long lists of the cluster that are chosen from, and bodies of requests.
//! The only test of its process, whose memory is looked at.

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
/// What one address may make the gateway hold.
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

struct Front(SocketAddr);

impl Front {
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

    /// The status of an answer, and how long the answer is.
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

    async fn held(&self) -> usize {
        let metrics = self.get("/metrics").await.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("gateway_held_bytes "));
        line.expect("it is told").parse().expect("a number")
    }

    /// Waits until what is held is as much as that.
    async fn until(&self, is: impl Fn(usize) -> bool) {
        let wait = async {
            while !is(self.held().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        waited.expect("in time");
    }
}

/// A figure of this process in bytes, where the system tells.
fn memory(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes = line.trim_matches([':', '\t', ' ']).strip_suffix(" kB")?;
    Some(kilobytes.parse::<usize>().ok()? * 1024)
}

const CHOSEN: &str = "/api2/json/cluster/resources?status=running&sort=name&order=desc";

/// Many callers choose from a long list at the same time.
async fn many_choose(front: &Front, length: usize) {
    let calls = (0..24).map(|_| front.measure(CHOSEN));
    let answers = futures_util::future::join_all(calls).await;
    let good = answers.iter().filter(|(status, _)| *status == 200);
    let refused = answers.iter().filter(|(status, _)| *status == 503);
    assert!(good.clone().all(|(_, got)| *got >= length), "{answers:?}");
    let (good, refused) = (good.count(), refused.count());
    println!("{good} got a list, {refused} were refused");
    assert!(good > 0 && good + refused == 24, "{answers:?}");
    front.until(|held| held == 0).await;
}

/// Callers that do not read what they asked for.
async fn nobody_reads(front: &Front) {
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(front.connect(&format!("GET {CHOSEN}"), "").await);
    }
    // Both answers are there, apart from what is in the buffers of the connections.
    front.until(|held| held > SHARE / 2).await;
    let (status, _) = front.measure(CHOSEN).await;
    assert_eq!(status, 503, "there is no room for a third");
    // What needs no room is served.
    assert_eq!(front.get("/healthz").await.status, 200);
    // A page is passed on without its total where the cluster sends more than a page.
    drop(waiting);
    front.until(|held| held == 0).await;
    let (status, got) = front.measure("/api2/json/nodes/n1/tasks?limit=50").await;
    assert!(status == 200 && got > SHARE / 4, "{status}, {got} bytes");
    front.until(|held| held == 0).await;
}

/// Callers that send all of a body but its end.
async fn bodies_have_no_end(front: &Front) {
    const MORE: usize = 20;
    let length = 500_000;
    let mut sending = Vec::new();
    for _ in 0..SHARE / length + MORE {
        let head = format!("Content-Length: {length}\r\n");
        let mut stream = front.connect("POST /v1/webhooks", &head).await;
        // One that is refused may be closed before all is sent.
        let _ = stream.write_all(&vec![b' '; length - 1]).await;
        sending.push(stream);
    }
    // Those for which there is no room are told.
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
    let held = front.held().await;
    assert!(held > SHARE / 2 && held <= SHARE, "{held}");
    drop(sending);
    front.until(|held| held == 0).await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

/// The same over gRPC, by callers without credentials: the start of a message in each of some streams.
async fn messages_have_no_end(front: &Front, grpc: SocketAddr) {
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
        // The server takes that much once it has said so, after its settings.
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
        .until(|held| held > SHARE / 10 * 9 && held <= SHARE)
        .await;
    drop(sending);
    front.until(|held| held == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_it_hold_more_than_a_share() {
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
    let front = Front(gateway.address());
    let (_, all) = front.measure("/api2/json/cluster/resources").await;
    assert!(all >= length, "what is not looked into flows through");
    let before = memory("VmRSS");
    many_choose(&front, length).await;
    nobody_reads(&front).await;
    bodies_have_no_end(&front).await;
    let grpc = gateway.grpc_address().expect("it is served");
    messages_have_no_end(&front, grpc).await;
    let (Some(before), Some(peak)) = (before, memory("VmHWM")) else {
        return;
    };
    let more = peak.saturating_sub(before) / MIB;
    println!("{more} MiB above {} MiB", before / MIB);
    // What may be held, twice while it is copied, and the buffers of some hundred connections on both sides. In untyped JSON
    // each of the lists alone takes more.
    assert!(more < 384, "{more} MiB");
}
