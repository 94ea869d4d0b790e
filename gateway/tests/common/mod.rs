//! A gateway in front of a simulated cluster, and a client that sends raw requests.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxmox_gateway::{Background, Config, Gateway};
use proxmox_simulator::{Builder, Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Pair {
    pub(crate) simulator: Simulator,
    pub(crate) gateway: Gateway,
}

/// Background work with the simulator's token, in short intervals.
pub(crate) fn background() -> Background {
    let mut background = Background::new(format!("{TOKEN_ID}={TOKEN_SECRET}"));
    background.interval_milliseconds = 20;
    background
}

impl Pair {
    pub(crate) async fn start(simulator: Builder, change: impl FnOnce(&mut Config)) -> Self {
        let simulator = simulator.start().await.expect("a simulator");
        let mut config = Config::default();
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.grpc = None;
        config.cluster.urls = vec![simulator.url()];
        config.cluster.fingerprints = vec![simulator.fingerprint().to_owned()];
        change(&mut config);
        let gateway = Gateway::start(config).await.expect("a gateway");
        Self { simulator, gateway }
    }

    /// Sends a request with the token of the simulator.
    pub(crate) async fn send(&self, request: &str, body: &str) -> Answer {
        let authorization = format!("Authorization: {}", token());
        self.send_with(request, &[&authorization], body).await
    }

    /// Sends a request with these header lines.
    pub(crate) async fn send_with(&self, request: &str, headers: &[&str], body: &str) -> Answer {
        let mut text = format!("{request} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.raw(text.as_bytes()).await
    }

    /// Logs in through the gateway.
    pub(crate) async fn login(&self, user: &str, password: &str) -> Answer {
        let form = "Content-Type: application/x-www-form-urlencoded";
        let body = format!("username={}&password={password}", user.replace('@', "%40"));
        self.send_with("POST /api2/json/access/ticket", &[form], &body)
            .await
    }

    /// Sends a request and reads only the head of the answer.
    pub(crate) async fn head(&self, request: &str, headers: &[&str]) -> Answer {
        let lines = headers.join("\r\n");
        let text = format!(
            "{request} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\n{lines}\r\n\r\n"
        );
        let stream = TcpStream::connect(self.gateway.address()).await;
        let mut stream = stream.expect("a connection");
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("read"));
        }
        Answer::parse(&answer)
    }

    /// Sends bytes and reads until the connection is closed.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.gateway.address()).await;
        let mut stream = stream.expect("a connection");
        // The gateway may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Answer::parse(&answer)
    }
}

pub(crate) fn token() -> String {
    format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}")
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().expect("a status line").splitn(3, ' ');
        let status = first.nth(1).expect("a status").parse().expect("a number");
        let reason = first.next().unwrap_or_default().to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = &bytes[end + 4..];
        let body = match headers.get("transfer-encoding").map(String::as_str) {
            Some("chunked") => unchunked(body),
            _ => body.to_vec(),
        };
        Self {
            status,
            reason,
            headers,
            body,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..at]).into_owned();
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        let rest = &body[at + 2..];
        whole.extend_from_slice(&rest[..size.min(rest.len())]);
        if size == 0 {
            break;
        }
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
