//! A minimal HTTP client over TLS that shows the bytes on the wire.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Long enough for a loaded machine; only a broken server makes a test wait this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Wire {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{self}");
        self.json()["data"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.status,
            self.reason,
            String::from_utf8_lossy(&self.body)
        )
    }
}

impl Wire {
    pub(crate) async fn open(pve: &Simulator) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pve.ca_pem().as_bytes()).expect("PEM"))
            .expect("a certificate authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(pve.address()).await.expect("listening");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .expect("TLS");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("open connection");
        self.stream.flush().await.expect("open connection");
    }

    /// Reads until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        tokio::time::timeout(PATIENCE, async {
            // A connection without a TLS close_notify counts, too.
            while self.fill().await {}
            std::mem::take(&mut self.buffer)
        })
        .await
        .expect("the server closes")
    }

    /// The next bytes; `None` if the server closes the connection earlier.
    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, async {
            while self.buffer.len() < count {
                if !self.fill().await {
                    return None;
                }
            }
            Some(self.buffer.drain(..count).collect())
        })
        .await
        .expect("bytes in time")
    }

    /// Whether the connection ends without a TLS close_notify.
    pub(crate) async fn ends_abruptly(&mut self) -> bool {
        let mut byte = [0];
        let end = tokio::time::timeout(PATIENCE, self.stream.read(&mut byte));
        let end = end.await.expect("an end in time");
        end.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer before the close")
    }

    /// `None` when the server closes without an answer.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer())
            .await
            .expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head: String = self.buffer[..end].iter().copied().map(char::from).collect();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a status line");
        let (_, status) = status.split_once(' ').expect("a status");
        let (code, reason) = status.split_once(' ').expect("a reason");
        let mut answer = Answer {
            status: code.parse().expect("a number"),
            reason: reason.to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.buffer.len() < length {
                assert!(self.fill().await, "closed inside a body");
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Some(answer)
    }
}

/// Sends one request as root@pam's token on a connection of its own.
pub(crate) async fn ask(pve: &Simulator, method: &str, path: &str, form: &str) -> Answer {
    let auth = format!("Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n");
    ask_with(pve, method, path, &auth, form).await
}

/// Sends one request with these header lines, each ending in CRLF. GET and DELETE take the form as query.
pub(crate) async fn ask_with(
    pve: &Simulator,
    method: &str,
    path: &str,
    headers: &str,
    form: &str,
) -> Answer {
    let mut wire = Wire::open(pve).await;
    let request = if matches!(method, "GET" | "DELETE") {
        let query = if form.is_empty() {
            String::new()
        } else {
            format!("?{form}")
        };
        format!("{method} /api2/json{path}{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    } else {
        format!(
            "{method} /api2/json{path} HTTP/1.1\r\nHost: x\r\n{headers}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )
    };
    wire.send(request.as_bytes()).await;
    wire.answer().await
}

/// Logs in; returns header lines with a ticket and its CSRF token.
pub(crate) async fn login(pve: &Simulator, user: &str, password: &str) -> String {
    let form = format!("username={}&password={password}", user.replace('@', "%40"));
    let data = ask_with(pve, "POST", "/access/ticket", "", &form)
        .await
        .data();
    let text = |key: &str| data[key].as_str().expect("a string").to_owned();
    format!(
        "Cookie: PVEAuthCookie={}\r\nCSRFPreventionToken: {}\r\n",
        text("ticket"),
        text("CSRFPreventionToken")
    )
}

/// Waits for a call's task; returns its exit status.
pub(crate) async fn finish(pve: &Simulator, answer: &Answer) -> String {
    let upid = answer.data().as_str().expect("a UPID").to_owned();
    assert!(upid.starts_with("UPID:"), "{upid}");
    let node = upid.split(':').nth(1).expect("a node").to_owned();
    loop {
        let status = ask(
            pve,
            "GET",
            &format!("/nodes/{node}/tasks/{upid}/status"),
            "",
        )
        .await
        .data();
        if status["status"] == "stopped" {
            return status["exitstatus"]
                .as_str()
                .expect("an exit status")
                .to_owned();
        }
        // Advances simulated time, so the test does not depend on real time.
        pve.clock().advance(Duration::from_millis(500));
    }
}
