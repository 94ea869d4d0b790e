//! Memory while 2 GiB are uploaded and downloaded over TLS, and a long journal is read. Prints the
//! figures:
//!
//! ```text
//! cargo test --release -p proxmox-api --test memory -- --ignored --nocapture
//! ```

#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use proxmox_api::Client;
use proxmox_api::tls::Fingerprint;
use proxmox_api::value::endpoint::Method;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncRead, ReadBuf};

const SIZE: u64 = 2 << 30;
const LIMIT_KIB: u64 = 64 << 10;
/// More lines than would fit into the limit.
const LINES: u64 = 1 << 20;
const LINE: &str = "Jan 01 00:00:00 pve1 pvedaemon[1234]: <root@pam> \u{e4} \"start\" of task UPID:pve1:0001:0001:";

/// Bytes that are generated while they are read.
struct Generated(u64);

impl AsyncRead for Generated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let count = room
            .len()
            .min(usize::try_from(self.0).unwrap_or(usize::MAX));
        for (byte, value) in room[..count].iter_mut().zip(0_u8..=255) {
            *byte = value;
        }
        buffer.advance(count);
        self.0 -= count as u64;
        Poll::Ready(Ok(()))
    }
}

/// The peak memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .expect("a line")
        .trim()
        .parse()
        .expect("a number")
}

type Line = StreamOwned<ServerConnection, std::net::TcpStream>;

fn head_of(line: &mut Line) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        line.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("plain text")
}

/// Reads an upload, or sends as many bytes.
fn serve(mut line: Line) {
    let head = head_of(&mut line);
    let mut piece = vec![0; 64 << 10];
    if head.contains("/journal") {
        let kind = "Content-Type: application/json";
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{kind}\r\n\r\n{{\"data\":[");
        line.write_all(answer.as_bytes()).expect("the client reads");
        let entry = format!("{},", serde_json::json!(LINE));
        for _ in 1..LINES {
            line.write_all(entry.as_bytes()).expect("the client reads");
        }
        let last = format!("{}]}}", serde_json::json!(LINE));
        line.write_all(last.as_bytes()).expect("the client reads");
        line.flush().expect("the client reads");
        return;
    }
    if head.starts_with("GET ") {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        line.write_all(answer.as_bytes()).expect("the client reads");
        for _ in 0..SIZE / piece.len() as u64 {
            line.write_all(&piece).expect("the client reads");
        }
        line.flush().expect("the client reads");
        return;
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a length");
    let mut left: u64 = length.parse().expect("a number");
    assert!(left > SIZE);
    while left > 0 {
        let room = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        let count = line.read(&mut piece[..room]).expect("more");
        assert!(count > 0, "{left} bytes are missing");
        left -= count as u64;
    }
    let body = "{\"data\":\"UPID:pve1:00000001:00000001:66000000:imgcopy::root@pam!t:\"}";
    let length = body.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    line.write_all(answer.as_bytes()).expect("the client reads");
    line.flush().expect("the client reads");
}

#[tokio::test]
#[ignore = "moves 4 GiB"]
async fn two_gibibytes_are_uploaded_and_downloaded_in_constant_memory() {
    let generated =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_no_client_auth()
        .with_single_cert(vec![generated.cert.der().clone()], key)
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (stream, _) = listener.accept().expect("a connection");
            let tls = ServerConnection::new(config.clone()).expect("a session");
            serve(StreamOwned::new(tls, stream));
        }
    });
    let client = Client::builder(format!("https://localhost:{port}"))
        .api_token("root@pam!t", "secret")
        .fingerprint(Fingerprint::of(generated.cert.der()))
        .build()
        .expect("complete");
    let before = peak();

    let start = Instant::now();
    client
        .upload("pve1", "local")
        .reader(SIZE, Generated(SIZE))
        .name("big.iso")
        .await
        .expect("accepted")
        .detach();
    let up = start.elapsed();
    println!(
        "up:   {SIZE} bytes in {up:.1?}, peak {} KiB, {before} before",
        peak()
    );

    let start = Instant::now();
    let request = client.request::<proxmox_api::Value>(Method::Get, "/nodes/pve1/tasks/x/log");
    let mut file = request.stream().await.expect("accepted");
    let count = file
        .copy_to(&mut tokio::io::sink())
        .await
        .expect("complete");
    let down = start.elapsed();
    println!("down: {count} bytes in {down:.1?}, peak {} KiB", peak());

    let start = Instant::now();
    let request = client.request::<proxmox_api::Value>(Method::Get, "/nodes/pve1/journal");
    let mut lines = request.stream().await.expect("accepted").lines();
    let mut read = 0;
    while let Some(line) = lines.try_next().await.expect("a line") {
        assert_eq!(line, LINE);
        read += 1;
    }
    let took = start.elapsed();
    let bytes = read * LINE.len() as u64;
    println!(
        "read: {read} lines, {bytes} bytes in {took:.1?}, peak {} KiB",
        peak()
    );

    assert_eq!((count, read), (SIZE, LINES));
    assert!(bytes > LIMIT_KIB << 10, "they would not fit");
    assert!(peak() < LIMIT_KIB, "the process grew to {} KiB", peak());
    server.join().expect("no panic");
}
