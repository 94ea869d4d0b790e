//! Exchanges over a socket: recorded answers of the real server, and TLS.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::line::{REASON, Scanner};
use super::*;
use crate::client::Client;
use crate::client::retry::RetryPolicy;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::request::Call;

#[test]
fn debug_shows_no_secret() {
    let path = "/api2/json/x?vncticket=s3cret";
    let mut request = WireRequest::new(Method::Get, "https://pve1:8006", path);
    request.headers.push((
        "Authorization".into(),
        "PVEAPIToken=root@pam!ci=s3cret".into(),
    ));
    request.body = Bytes::from_static(b"password=s3cret");
    let mut response = WireResponse::new(200, "{\"data\":{\"ticket\":\"s3cret\"}}");
    response
        .headers
        .push(("Set-Cookie".into(), "s3cret".into()));
    for text in [format!("{request:?}"), format!("{response:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn header_names_are_not_case_sensitive() {
    let mut response = WireResponse::new(200, "");
    response.headers.push(("retry-after".into(), "1".into()));
    assert_eq!(response.header("Retry-After"), Some("1"));
    assert_eq!(response.header("Date"), None);
}

/// Reads one request, head and body.
fn read_request(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream
        .read_exact(&mut body)
        .expect("as many bytes as announced");
    head + &String::from_utf8_lossy(&body)
}

/// Answers one connection with these bytes and closes it; returns the request.
fn answer_once(bytes: Vec<u8>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let request = read_request(&mut stream);
        stream.write_all(&bytes).expect("the client reads");
        request
    });
    (format!("http://{address}"), server)
}

fn client(url: &str) -> Client {
    Over::Hyper.client(url)
}

/// The transport of a test.
#[derive(Clone, Copy)]
enum Over {
    Hyper,
    #[cfg(feature = "reqwest")]
    Reqwest,
}

impl Over {
    fn transport(self, url: &str) -> Arc<dyn Transport> {
        match self {
            Self::Hyper => (Client::builder(url).build_transport()).expect("complete"),
            #[cfg(feature = "reqwest")]
            Self::Reqwest => {
                let policy = ::reqwest::redirect::Policy::none();
                let client = ::reqwest::Client::builder().redirect(policy).build();
                Arc::new(client.expect("complete"))
            }
        }
    }

    fn builder(self, url: &str) -> crate::ClientBuilder {
        Client::builder(url)
            .retry(RetryPolicy::none())
            .api_token("root@pam!ci", "secret")
            .transport(self.transport(url))
    }

    fn client(self, url: &str) -> Client {
        (self.builder(url).build()).expect("the settings are complete")
    }
}

/// Runs tests over each transport.
macro_rules! over_each_transport {
    ($($name:ident,)*) => {
        mod over_hyper {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Over::Hyper).await;
                }
            )*
        }

        #[cfg(feature = "reqwest")]
        mod over_reqwest {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Over::Reqwest).await;
                }
            )*
        }
    };
}

over_each_transport! {
    requests_have_the_servers_format,
    a_broken_connection_means_maybe_processed,
    a_refused_connection_means_never_sent,
    an_unresolved_name_means_never_sent,
    silence_ends_with_the_timeout,
    a_redirection_is_not_followed,
    an_ascii_phrase_is_reported,
    a_compressed_answer_is_decompressed,
    a_streamed_body_has_a_length,
    an_answer_is_streamed,
    a_connection_can_be_switched_to_another_protocol,
}

async fn an_ascii_phrase_is_reported(over: Over) {
    for (phrase, text) in [("VM 100 is locked", "VM 100 is locked"), ("", "")] {
        let answer =
            format!("HTTP/1.1 595 {phrase}\r\nContent-Length: 13\r\n\r\n{{\"data\":null}}");
        let (url, server) = answer_once(answer.into_bytes());
        let error = over.client(&url).execute(version()).await;
        server.join().expect("no panic");
        let Err(Error::Api(error)) = error else {
            panic!("{error:?}")
        };
        assert_eq!((error.status(), error.message()), (595, text));
    }
}

async fn a_compressed_answer_is_decompressed(over: Over) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (packed.write_all(b"{\"data\":\"unpacked\"}")).expect("memory");
    let packed = packed.finish().expect("memory");
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    )
    .into_bytes();
    answer.extend(packed);
    let (url, server) = answer_once(answer);
    let reply = over.client(&url).execute(version()).await;
    server.join().expect("no panic");
    assert_eq!(reply.expect("accepted").body, "{\"data\":\"unpacked\"}");
}

async fn a_streamed_body_has_a_length(over: Over) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"data\":null}";
    let (url, server) = answer_once(answer.to_vec());
    let request = WireRequest::new(Method::Post, &url, "/api2/json/upload");
    let body = BodyStream::new(5, std::io::Cursor::new("bytes"));
    let sent = over.transport(&url).send_stream(request, body).await;
    assert_eq!(sent.expect("accepted").status, 200);
    let request = server.join().expect("no panic");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-length: 5") && !head.contains("transfer-encoding"),
        "{head}"
    );
    assert_eq!(body, "bytes");
}

async fn an_answer_is_streamed(over: Over) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npieces";
    let (url, server) = answer_once(answer.to_vec());
    let request = WireRequest::new(Method::Get, &url, "/api2/json/log");
    let mut opened = over.transport(&url).open(request).await.expect("accepted");
    assert_eq!(opened.head().status, 200);
    let mut body = Vec::new();
    while let Some(chunk) = opened.chunk().await.expect("complete") {
        body.extend_from_slice(&chunk);
    }
    server.join().expect("no panic");
    assert_eq!(body, b"pieces");
}

async fn a_connection_can_be_switched_to_another_protocol(over: Over) {
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
    let (url, server) = answer_once(answer.to_vec());
    let mut request = WireRequest::new(Method::Get, &url, "/api2/json/vncwebsocket");
    for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "echo")] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let upgraded = over
        .transport(&url)
        .upgrade(request)
        .await
        .expect("an answer");
    let Upgraded::Switched(head, mut stream) = upgraded else {
        panic!("{upgraded:?}")
    };
    assert_eq!(head.status, 101);
    let mut text = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await;
    server.join().expect("no panic");
    assert!(read.is_ok() && text == "hello", "{text}");
}

fn post(body: &str) -> Call {
    let mut call = Call::new(Method::Post, "/nodes/pve1/qemu");
    call.params.set(
        "name",
        crate::value::encode::ParamValue::One(body.to_owned()),
    );
    call
}

async fn requests_have_the_servers_format(over: Over) {
    let answer = || b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"data\":null}".to_vec();
    let (url, server) = answer_once(answer());
    over.client(&url)
        .execute(post("a b"))
        .await
        .expect("accepted");
    let request = server.join().expect("no panic");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    assert_eq!(
        lines.next(),
        Some("POST /api2/json/nodes/pve1/qemu HTTP/1.1")
    );
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    assert_eq!(headers["content-length"], "10");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["authorization"], "PVEAPIToken=root@pam!ci=secret");
    assert_eq!(headers["accept-encoding"], "gzip");
    assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("expect"));
    assert_eq!(body, "name=a%20b");

    let (url, server) = answer_once(answer());
    let mut get = Call::new(Method::Get, "/nodes");
    get.params
        .set("x", crate::value::encode::ParamValue::One("1;2".into()));
    over.client(&url).execute(get).await.expect("accepted");
    let request = server.join().expect("no panic").to_ascii_lowercase();
    assert!(
        request.starts_with("get /api2/json/nodes?x=1%3b2 http/1.1\r\n"),
        "{request}"
    );
    assert!(
        !request.contains("content-length") && !request.contains("content-type"),
        "{request}"
    );
}

async fn a_broken_connection_means_maybe_processed(over: Over) {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"da",
        b"\x15\x03\x01\x00\x02\x02\x28",
    ] {
        let (url, server) = answer_once(bytes.to_vec());
        let error = over
            .client(&url)
            .execute(post("x"))
            .await
            .expect_err("no complete answer");
        assert!(matches!(error, Error::Interrupted(_)), "{error}");
        assert!(!error.never_sent() && !error.is_retryable());
        server.join().expect("no panic");
    }
}

/// An address at which nothing listens, and that nobody else gets as long as the socket lives.
pub(super) fn unused_address() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = ([127, 0, 0, 1], 0).into();
    socket.bind(any).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

async fn a_refused_connection_means_never_sent(over: Over) {
    let (_socket, address) = unused_address();
    let url = format!("http://{address}");
    let error = over
        .client(&url)
        .execute(post("x"))
        .await
        .expect_err("nobody there");
    assert!(matches!(error, Error::Connect(_)) && error.is_retryable());
    let start = format!("POST /nodes/pve1/qemu #1: cannot connect to {url}: ");
    assert!(error.to_string().starts_with(&start), "{error}");
}

async fn an_unresolved_name_means_never_sent(over: Over) {
    let error = over
        .client("no-such-host.invalid")
        .execute(post("x"))
        .await
        .expect_err("no such host");
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

async fn silence_ends_with_the_timeout(over: Over) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let client = over
        .builder(&url)
        .timeout(Duration::from_millis(50))
        .build()
        .expect("the settings are complete");
    let error = client
        .execute(post("x"))
        .await
        .expect_err("nothing answers");
    assert!(
        matches!(&error, Error::Timeout(timeout) if timeout.after() == Duration::from_millis(50)),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_server_causes_a_read_timeout() {
    let limit = Duration::from_millis(50);
    // Nothing at all, or a start without an end.
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"da"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (done, over) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            let mut streams = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().expect("a connection");
                read_request(&mut stream);
                stream.write_all(answer.as_bytes()).expect("somebody reads");
                streams.push(stream);
            }
            // Ends with an error once the test is over.
            let _ = over.recv();
        });
        let transport = Client::builder(&url)
            .timeout(Duration::from_secs(3600))
            .read_timeout(limit)
            .build_transport()
            .expect("complete");
        let request = || WireRequest::new(Method::Get, &url, "/api2/json/version");
        let opened = match transport.open(request()).await {
            Err(error) => error,
            Ok(answer) => answer.collect().await.expect_err("it is not over"),
        };
        let body = BodyStream::new(1, std::io::Cursor::new("x"));
        for error in [
            transport.send(request()).await.expect_err("no answer"),
            (transport.send_stream(request(), body).await).expect_err("no answer"),
            opened,
        ] {
            assert_eq!(error.timed_out_after(), Some(limit), "{error}");
        }
        drop(done);
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn a_timeout_while_connecting_means_never_sent() {
    // Accepts connections and sends no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let transport = Client::builder(&url)
        .timeout(Duration::from_millis(50))
        .connect_timeout(Duration::from_secs(3600))
        .build_transport()
        .expect("complete");
    let request = || WireRequest::new(Method::Post, &url, "/api2/json/pools");
    let body = BodyStream::new(1, std::io::Cursor::new("x"));
    for error in [
        transport.send(request()).await.expect_err("no TLS"),
        (transport.send_stream(request(), body).await).expect_err("no TLS"),
        transport.open(request()).await.expect_err("no TLS"),
        transport.upgrade(request()).await.expect_err("no TLS"),
    ] {
        assert!(error.is_never_sent(), "{error}");
        assert_eq!(error.timed_out_after(), None);
        assert_eq!(error.text(), "no connection within 50ms");
    }
}

async fn a_redirection_is_not_followed(over: Over) {
    let bytes = b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://127.0.0.1:1/x?password=y\r\n\
        Content-Length: 0\r\n\r\n";
    let (url, server) = answer_once(bytes.to_vec());
    let error = over
        .client(&url)
        .execute(post("x"))
        .await
        .expect_err("not followed");
    assert_eq!(error.kind(), Some(ErrorKind::Redirected));
    let text = error.to_string();
    assert_eq!(
        text,
        "POST /nodes/pve1/qemu #1: 301 Moved Permanently, to https://127.0.0.1:1 (redirections are not followed; set \
         the client's address to the API itself: https, port 8006)"
    );
    server.join().expect("no panic");
}

#[tokio::test]
async fn any_phrase_of_an_old_server_is_reported() {
    for phrase in [
        &b"VM 100 is locked"[..],
        b"Name ung\xfcltig",
        b"\x1b[31mred\x1b[0m",
        b"",
        b"OK",
    ] {
        let mut bytes = b"HTTP/1.1 500 ".to_vec();
        bytes.extend_from_slice(phrase);
        bytes.extend_from_slice(b"\r\nContent-Length: 13\r\n\r\n{\"data\":null}");
        let (url, server) = answer_once(bytes);
        let error = client(&url).execute(version()).await.expect_err("refused");
        server.join().expect("no panic");
        let Error::Api(error) = error else {
            panic!("{error}")
        };
        assert_eq!(error.reason_bytes(), phrase);
        let text: String = phrase.iter().map(|&byte| char::from(byte)).collect();
        assert_eq!(error.message(), text);
    }
}

#[tokio::test]
async fn every_answer_on_a_reused_connection_has_its_own_phrase() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        for head in ["200 first", "299 \u{fc}", "200", "200 HTTP/1.1 200 x"] {
            read_request(&mut stream);
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 12\r\n\r\nHTTP/1.1 200");
            // In pieces, as a network may deliver it.
            for byte in answer.bytes() {
                stream.write_all(&[byte]).expect("the client reads");
            }
        }
    });
    let client = client(&url);
    let mut phrases = Vec::new();
    for _ in 0..4 {
        let reply = client.fetch("/x").await.expect("accepted");
        assert_eq!(reply.body, "HTTP/1.1 200");
        phrases.push(reply.reason);
    }
    assert_eq!(phrases, ["first", "\u{fc}", "", "HTTP/1.1 200 x"]);
    server.join().expect("no panic");
}

/// The scanner's output for bytes that arrive in pieces of these lengths.
fn scan(whole: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut scanner = Scanner::new(100, 1000);
    let mut moved = Vec::new();
    let mut left = whole;
    for cut in cuts.iter().cycle() {
        let (piece, more) = left.split_at((*cut).min(left.len()));
        moved.extend(scanner.move_phrases(piece).expect("a short phrase"));
        left = more;
        if left.is_empty() {
            break;
        }
    }
    moved
}

proptest::proptest! {
    #[test]
    fn a_phrase_is_found_regardless_of_chunks(
        interim in proptest::collection::vec(
            (102_u16..200, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20)),
            0..3,
        ),
        status in 200_u16..1000,
        phrase in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        cuts in proptest::collection::vec(1_usize..8, 1..100),
    ) {
        let clean = |phrase: Vec<u8>| -> Vec<u8> {
            phrase.into_iter().filter(|byte| !b"\r\n".contains(byte)).collect()
        };
        let (mut whole, mut expected) = (Vec::new(), Vec::new());
        for (status, phrase) in interim {
            whole.extend(format!("HTTP/1.1 {status} ").bytes());
            whole.extend(clean(phrase));
            whole.extend(b"\r\nLink: x\r\n\r\n");
            expected.extend(format!("HTTP/1.1 {status} \r\nLink: x\r\n\r\n").bytes());
        }
        let phrase = clean(phrase);
        let end = [b"\r\nA: b\r\n\r\n", &rest[..]].concat();
        whole.extend(format!("HTTP/1.1 {status} ").bytes());
        whole.extend([&phrase[..], &end].concat());
        let encoded = percent_encoding::percent_encode(&phrase, percent_encoding::NON_ALPHANUMERIC);
        expected.extend(format!("HTTP/1.1 {status} \r\n{REASON}: {encoded}").bytes());
        expected.extend(end);
        proptest::prop_assert_eq!(scan(&whole, &cuts), expected);
    }

    #[test]
    fn bytes_other_than_http_are_unchanged(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..60)) {
        proptest::prop_assume!(!bytes.starts_with(b"HTTP/1."));
        proptest::prop_assert_eq!(scan(&bytes, &[60]), bytes);
    }

    #[test]
    fn the_scanner_accepts_any_bytes(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        head in "HTTP/1[.][01] [0-9]{0,4} ?",
        cuts in proptest::collection::vec(1_usize..8, 1..100),
    ) {
        let whole = [head.as_bytes(), &bytes[..]].concat();
        let mut scanner = Scanner::new(20, 100);
        let mut left = &whole[..];
        for cut in cuts.iter().cycle() {
            let (piece, more) = left.split_at((*cut).min(left.len()));
            if scanner.move_phrases(piece).is_err() || more.is_empty() {
                break;
            }
            left = more;
        }
    }
}

/// The refusal of a server that sends these bytes.
async fn refusal(bytes: impl Into<Vec<u8>>) -> Error {
    let (url, server) = answer_once(bytes.into());
    let refused = client(&url).execute(version()).await;
    server.join().expect("no panic");
    refused.expect_err("refused")
}

#[tokio::test]
async fn the_phrase_of_the_final_answer_is_used() {
    let end = "\r\nContent-Length: 13\r\n\r\n{\"data\":null}";
    for (interim, last, shown) in [
        (
            "100 Continue",
            "500 VM 100 is locked",
            "500 VM 100 is locked",
        ),
        ("103 Early Hints", "401 No ticket", "401 No ticket"),
        ("102 Processing", "500 \u{1b}[31mred", "500 \\u{1b}[31mred"),
        ("102 \u{1b}", "500", "500 without any text"),
    ] {
        let error = refusal(format!(
            "HTTP/1.1 {interim}\r\nLink: x\r\n\r\nHTTP/1.1 {last}{end}"
        ));
        let error = error.await;
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("GET /version #1: {shown}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_header_field_cannot_set_the_phrase() {
    let error = refusal(format!(
        "HTTP/1.1 500\r\n{REASON}: VM%20is%20locked\r\nContent-Length: 13\r\n\r\n{{\"data\":null}}"
    ));
    assert_eq!(
        error.await.to_string(),
        "GET /version #1: 500 without any text"
    );
}

/// The content of a recorded answer, read without any code of this crate.
struct RecordedAnswer {
    status: u16,
    phrase: Vec<u8>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl RecordedAnswer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = bytes[..end]
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::trim_ascii_end);
        let mut first = lines.next()?.splitn(3, |&byte| byte == b' ').skip(1);
        let status = std::str::from_utf8(first.next()?).ok()?.parse().ok()?;
        let headers = lines
            .filter_map(|line| {
                let line = String::from_utf8_lossy(line).into_owned();
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let phrase = first.next().unwrap_or_default().to_vec();
        Some(Self {
            status,
            phrase,
            headers,
            body: bytes[end + 4..].to_vec(),
        })
    }

    fn is(&self, header: &str, value: &str) -> bool {
        self.headers
            .get(header)
            .is_some_and(|found| found.starts_with(value))
    }
}

/// The kinds of some of them.
const MEANINGS: &[(&str, ErrorKind)] = &[
    ("02-no-auth", ErrorKind::Unauthorized),
    ("03-token-wrong", ErrorKind::Unauthorized),
    ("11-login-bad", ErrorKind::Unauthorized),
    ("114-plain-http-on-tls", ErrorKind::Redirected),
    ("12-login-missing-param", ErrorKind::ParameterVerification),
    ("126-body-too-big", ErrorKind::TooLarge),
    ("162-upload-perm", ErrorKind::PermissionDenied),
    ("18-post-no-csrf", ErrorKind::InvalidCsrf),
    ("201-qemu-config-missing", ErrorKind::NotFound),
    ("203-put-bad-digest", ErrorKind::ConfigChanged),
    ("206-locked-put", ErrorKind::Locked),
    ("209-put-empty", ErrorKind::InvalidParameter),
    ("21-post-dup-500", ErrorKind::AlreadyExists),
    ("221-task-nosuch", ErrorKind::NotFound),
    ("222-task-badupid", ErrorKind::ParameterVerification),
    ("227-remote-node", ErrorKind::NodeUnreachable),
    ("228-unknown-node", ErrorKind::NodeUnreachable),
    ("236-agent-notrunning", ErrorKind::NotRunning),
    ("24-login-with-token-auth", ErrorKind::NeedsTicket),
    ("280-proxied-unicode", ErrorKind::NodeUnreachable),
    ("283-proxied-timeout", ErrorKind::NodeUnreachable),
    ("30-400-errors", ErrorKind::ParameterVerification),
    ("304-token-dup", ErrorKind::AlreadyExists),
    ("314-user-delete-again", ErrorKind::NotFound),
    ("32-404ish-unknown-path", ErrorKind::UnknownMethod),
    ("322-storage-put-digest", ErrorKind::ConfigChanged),
    ("323-storage-missing", ErrorKind::NotFound),
    ("345-root-only-skiplock", ErrorKind::RootOnly),
    ("362-create-exists", ErrorKind::AlreadyExists),
    ("37-no-format", ErrorKind::UnknownMethod),
    ("39-outside-api2", ErrorKind::UnknownMethod),
    ("89-raise-404", ErrorKind::NotFound),
    ("98-perm-denied", ErrorKind::PermissionDenied),
    ("99c-html", ErrorKind::NotTheApi),
];

fn check(name: &str, recorded: &RecordedAnswer, result: Result<crate::client::Reply, Error>) {
    let page = recorded.status == 200 && recorded.is("content-type", "text/html");
    match result {
        Ok(reply) => {
            assert!(recorded.status == 200 && !page, "{name}: accepted");
            if recorded.is("content-encoding", "gzip") {
                assert!(
                    reply.body.len() > recorded.body.len(),
                    "{name}: not unpacked"
                );
            } else {
                assert_eq!(reply.body, recorded.body, "{name}");
            }
            assert_eq!(reply.reason.as_bytes(), recorded.phrase, "{name}");
        }
        Err(Error::Api(error)) => {
            assert!(recorded.status != 200 || page, "{name}: {error}");
            assert_eq!(error.status(), recorded.status, "{name}");
            assert_eq!(error.reason_bytes(), recorded.phrase, "{name}");
            let json: Value = serde_json::from_slice(&recorded.body).unwrap_or_default();
            let errors = json["errors"]
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>());
            let names: Vec<_> = error.errors().keys().cloned().collect();
            assert_eq!(names, errors.unwrap_or_default(), "{name}");
            let text = match json["message"].as_str() {
                _ if page => return,
                Some(message) => message.trim().to_owned(),
                None if !recorded.body.is_empty() => {
                    String::from_utf8_lossy(&recorded.body).trim().to_owned()
                }
                None => String::from_utf8_lossy(&recorded.phrase).trim().to_owned(),
            };
            assert!(
                error.message().starts_with(&text),
                "{name}: {text:?}, got {:?}",
                error.message()
            );
            assert!(!error.to_string().contains('\n'), "{name}");
        }
        Err(other) => panic!("{name}: {other}"),
    }
}

/// Recordings of the real server are not part of this repository; without them this test checks
/// nothing.
#[tokio::test]
async fn every_recorded_answer_gives_the_expected_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wire-samples");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no recordings in {}", folder.display());
        return;
    };
    let mut kinds = BTreeMap::new();
    let (mut answers, mut silent, mut other) = (0, 0, Vec::new());
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let file = std::fs::read(&path).expect("a readable file");
        let mark = b"\n<<< RESPONSE";
        let start = file
            .windows(mark.len())
            .position(|window| window == mark)
            .map(|at| at + mark.len());
        let Some(start) = start else {
            other.push(name);
            continue;
        };
        let rest = &file[start..];
        let line = rest.iter().position(|&byte| byte == b'\n').expect(&name);
        // The recorder added a line break at the end of the file.
        let bytes = rest[line + 1..].strip_suffix(b"\n").unwrap_or_default();
        let reference = RecordedAnswer::read(bytes);
        let (url, server) = answer_once(bytes.to_vec());
        // Avoids reading the system's root certificates hundreds of times.
        let client = Client::builder(&url)
            .retry(RetryPolicy::none())
            .danger_accept_invalid_certs(true)
            .build()
            .expect(&name);
        let result = client.execute(Call::new(Method::Get, "/version")).await;
        server.join().expect("no panic");
        match reference {
            Some(reference) => {
                if let Err(error) = &result {
                    kinds.insert(name.clone(), error.kind());
                }
                check(&name, &reference, result);
                answers += 1;
            }
            None => {
                assert!(matches!(result, Err(Error::Interrupted(_))), "{name}");
                silent += 1;
            }
        }
    }
    for (name, kind) in MEANINGS {
        assert_eq!(kinds.get(*name), Some(&Some(*kind)), "{name}");
    }
    println!("{answers} recorded answers and {silent} that never came give what they show");
    assert!(answers > 300);
    assert_eq!(other, ["291-websocket-handshake"], "no plain exchange");
}

const ACCEPTED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"data\":null}";

/// A TLS server with a self-signed certificate that accepts the requests of `connections`.
fn tls_server(name: &str, connections: usize) -> (String, rcgen::Certificate, JoinHandle<()>) {
    tls_server_with(name, connections, ACCEPTED)
}

fn tls_server_with(
    name: &str,
    connections: usize,
    answer: &'static [u8],
) -> (String, rcgen::Certificate, JoinHandle<()>) {
    let generated = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let chain = vec![CertificateDer::from(generated.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || {
        for _ in 0..connections {
            let (stream, _) = listener.accept().expect("a connection");
            let tls = ServerConnection::new(config.clone()).expect("a session");
            serve(StreamOwned::new(tls, stream), answer);
        }
    });
    (format!("https://localhost:{port}"), generated.cert, server)
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>, answer: &[u8]) {
    // A client that does not trust the certificate ends the handshake.
    if stream.conn.complete_io(&mut stream.sock).is_err() {
        return;
    }
    assert_eq!(stream.conn.alpn_protocol(), None);
    read_request(&mut stream);
    stream.write_all(answer).expect("the client reads");
    stream.flush().expect("the client reads");
    // Like the real server: the socket closes without the end of TLS.
    stream
        .sock
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
}

#[tokio::test]
async fn an_answer_may_end_with_the_connection() {
    for (answer, accepted) in [
        (
            &b"HTTP/1.1 401 Authentication failed!\r\nConnection: close\r\n\r\n"[..],
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":null}",
            true,
        ),
    ] {
        let (url, certificate, server) = tls_server_with("localhost", 1, answer);
        let pin = Fingerprint::of(certificate.der());
        let client = Client::builder(&url)
            .retry(RetryPolicy::none())
            .fingerprint(pin)
            .build()
            .expect("complete");
        match client.execute(version()).await {
            Ok(reply) => assert!(accepted && reply.body == "{\"data\":null}"),
            Err(error) => {
                assert!(!accepted);
                let text = error.to_string();
                let start =
                    "GET /version #1: 401 Authentication failed! (the client has no credentials";
                assert!(text.starts_with(start), "{text}");
            }
        }
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn an_answer_shorter_than_announced_is_an_error() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"data\"";
    let (url, certificate, server) = tls_server_with("localhost", 1, answer);
    let pin = Fingerprint::of(certificate.der());
    let client = Client::builder(&url)
        .retry(RetryPolicy::none())
        .fingerprint(pin)
        .build()
        .expect("complete");
    let error = client.execute(version()).await.expect_err("cut off");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
    server.join().expect("no panic");
}

fn version() -> Call {
    Call::new(Method::Get, "/version")
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_and_its_fingerprint_reported() {
    let (url, certificate, server) = tls_server("localhost", 2);
    let error = client(&url)
        .execute(version())
        .await
        .expect_err("no authority signed it");
    assert!(error.never_sent() && !error.is_retryable());
    let fingerprint = Fingerprint::of(certificate.der());
    let Error::Connect(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.server_certificate(), Some(fingerprint));
    assert!(
        error.to_string().contains(&fingerprint.to_string()),
        "{error}"
    );

    let pinned = Client::builder(&url)
        .retry(RetryPolicy::none())
        .fingerprint(fingerprint)
        .build()
        .expect("complete");
    pinned
        .execute(version())
        .await
        .expect("exactly this certificate is trusted");
    server.join().expect("no panic");
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused() {
    let (url, certificate, server) = tls_server("localhost", 1);
    let pinned = Client::builder(&url)
        .retry(RetryPolicy::none())
        .fingerprint(Fingerprint::of(b"another"))
        .danger_accept_invalid_certs(true)
        .build()
        .expect("complete");
    let error = pinned
        .execute(version())
        .await
        .expect_err("not the pinned one")
        .to_string();
    let fingerprint = Fingerprint::of(certificate.der());
    let expected = Fingerprint::of(b"another");
    let text = format!("it is not the pinned one; expected {expected}, shown {fingerprint}");
    assert!(error.contains(&text), "{error}");
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_pin_does_not_check_the_name() {
    let (url, certificate, server) = tls_server("another.example.org", 1);
    let pin = Fingerprint::of(certificate.der());
    let pinned = Client::builder(&url)
        .retry(RetryPolicy::none())
        .fingerprint(pin)
        .build()
        .expect("complete");
    pinned
        .execute(version())
        .await
        .expect("exactly this certificate is trusted");
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_further_authority_is_trusted_for_the_names_in_its_certificates() {
    for (name, accepted) in [("localhost", true), ("another.example.org", false)] {
        let (url, certificate, server) = tls_server(name, 1);
        let client = Client::builder(&url)
            .retry(RetryPolicy::none())
            .ca_pem(certificate.pem())
            .build()
            .expect("complete");
        let result = client.execute(version()).await;
        assert_eq!(result.is_ok(), accepted, "{name}: {:?}", result.err());
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn any_certificate_is_accepted_only_by_setting() {
    let (url, _, server) = tls_server("another.example.org", 1);
    let insecure = Client::builder(&url)
        .retry(RetryPolicy::none())
        .danger_accept_invalid_certs(true)
        .build()
        .expect("complete");
    insecure.execute(version()).await.expect("anything goes");
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_server_without_tls_has_its_own_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream
            .write_all(b"SSH-2.0-OpenSSH_10.0\r\n")
            .expect("the client reads");
        // Until the client closes it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = client(&url)
        .execute(version())
        .await
        .expect_err("no TLS on this port");
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("does the server speak TLS on this port?"),
        "{error}"
    );
    server.join().expect("no panic");
}
