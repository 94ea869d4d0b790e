//! `cargo xtask import` from a server. Runs with `--features live`.

#![cfg(feature = "live")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const DUMP: &str = r#"const apiSchema = [{"path": "/version", "text": "version", "leaf": 1, "info": {"GET": {
    "method": "GET", "name": "version", "allowtoken": 1, "permissions": {"user": "all"},
    "parameters": {"additionalProperties": 0}, "returns": {"type": "object", "properties": {}}}}}];
let viewer = {};
"#;

/// A server that answers every request, and ends with the test.
struct Server {
    port: u16,
    pem: String,
    fingerprint: String,
}

impl Server {
    fn start() -> Server {
        let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = generated.cert.der().clone();
        let fingerprint: Vec<String> = Sha256::digest(&der)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
            generated.signing_key.serialize_der(),
        ));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                // A client that does not trust the certificate disconnects.
                let _ = answer(StreamOwned::new(connection, socket.unwrap()));
            }
        });
        Server {
            port,
            pem: generated.cert.pem(),
            fingerprint: fingerprint.join(":"),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

fn answer(stream: impl std::io::Read + Write) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first)?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, body) = match first.split(' ').nth(1) {
        Some("/pve-docs/api-viewer/apidoc.js" | "/other/place.js?v=1") => ("200 OK", DUMP),
        Some("/cut.js") => ("200 OK", &DUMP[..100]),
        Some("/login") => ("200 OK", "<!DOCTYPE html><html></html>"),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

struct TestFolder(TempDir);

impl TestFolder {
    fn new() -> TestFolder {
        TestFolder(TempDir::new().unwrap())
    }

    fn written(&self) -> PathBuf {
        self.0.path().join("pve/9.2.json")
    }

    fn import(&self, source: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["import", source, "--release", "9.2", "--schema-dir"])
            .arg(self.0.path())
            .args(more)
            .output()
            .unwrap()
    }

    fn imported(&self, source: &str, more: &[&str]) -> String {
        let output = self.import(source, more);
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(self.written()).unwrap()
    }

    fn refused(&self, source: &str, more: &[&str]) -> String {
        let output = self.import(source, more);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!self.written().exists());
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn a_dump_is_imported_from_a_trusted_host() {
    let server = Server::start();
    let folder = TestFolder::new();
    let text = folder.imported(&server.url(""), &["--fingerprint", &server.fingerprint]);
    assert!(text.contains("\"/version\": {\n   \"GET\": {"), "{text}");

    let ca = folder.0.path().join("ca.pem");
    fs::write(&ca, &server.pem).unwrap();
    assert_eq!(
        folder.imported(&server.url("/"), &["--ca", ca.to_str().unwrap()]),
        text
    );
    assert_eq!(
        folder.imported(&server.url("/other/place.js?v=1"), &["--insecure"]),
        text
    );
}

#[test]
fn an_untrusted_host_is_refused() {
    let server = Server::start();
    let folder = TestFolder::new();
    let message = folder.refused(&server.url(""), &[]);
    assert!(message.contains(&server.fingerprint), "{message}");
    let message = folder.refused(&server.url(""), &["--fingerprint", &["00"; 32].join(":")]);
    assert!(message.contains(&server.fingerprint), "{message}");
    let message = folder.refused(&server.url(""), &["--fingerprint", "00:11"]);
    assert!(message.contains("--fingerprint: "), "{message}");
    let message = folder.refused(&server.url("").replace("https", "http"), &[]);
    assert!(message.contains("--insecure accepts that"), "{message}");
}

#[test]
fn answers_without_a_dump_are_refused() {
    let server = Server::start();
    let folder = TestFolder::new();
    for (path, expected) in [
        ("/none.js", "404"),
        ("/cut.js", "the file is cut off"),
        ("/login", "this is an HTML page"),
    ] {
        let url = server.url(path);
        let message = folder.refused(&url, &["--fingerprint", &server.fingerprint]);
        assert!(
            message.contains(expected) && message.contains(&url),
            "{message}"
        );
    }
}
