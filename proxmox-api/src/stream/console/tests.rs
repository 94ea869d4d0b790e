//! Consoles with a server that is as strict about frames as the real one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::*;
use crate::error::api::ErrorKind;
use crate::testing::{Expect, Script};
use crate::tls::Fingerprint;

trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// The server's end of a WebSocket.
struct Peer(Box<dyn Line>);

impl Peer {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("a frame");
        bytes
    }

    /// The next frame, which has to be masked, unfragmented and not too long.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.bytes();
        assert_eq!(first & 0xf0, 0x80, "in one piece, no reserved bits");
        assert_eq!(second & 0x80, 0x80, "masked");
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.bytes())),
            127 => u64::from_be_bytes(self.bytes()),
            short => u64::from(short),
        };
        assert!(length <= 128 * 1024);
        let mask: [u8; 4] = self.bytes();
        let mut data = vec![0; usize::try_from(length).expect("short")];
        self.0.read_exact(&mut data).expect("as long as announced");
        for (byte, mask) in data.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        (first & 0x0f, data)
    }

    fn text(&mut self) -> String {
        let (opcode, data) = self.receive();
        assert!(opcode == 1 || opcode == 2, "data");
        String::from_utf8(data).expect("plain text")
    }

    fn send(&mut self, data: &[u8]) {
        let mut frame = vec![0x82];
        match u8::try_from(data.len()) {
            Ok(length @ 0..126) => frame.push(length),
            _ => {
                frame.push(127);
                frame.extend_from_slice(&(data.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(data);
        self.raw(&frame);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the client reads");
        self.0.flush().expect("the client reads");
    }
}

/// Reads a request and returns its head.
fn read_request(line: &mut dyn Line) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(line.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("plain text");
    let length = header(&head, "content-length").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    line.read_exact(&mut body).expect("the body");
    head
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn switched(key: &str) -> String {
    let accept = accepted(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

const OPENED: &str = "{\"data\":{\"user\":\"root@pam!ci\",\"ticket\":\"PVEVNC:1::s3c+/=\",\"port\":\"5900\",\
    \"upid\":\"x\",\"password\":\"pw\"}}";

/// Serves one console, and hands the connection over after sending `answer` to the WebSocket
/// request.
fn serve(
    answer: impl FnOnce(&str) -> String + Send + 'static,
    session: impl FnOnce(Peer, &str) + Send + 'static,
) -> (Client, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let accept = || listener.accept().expect("a connection").0;
        converse(&mut || Box::new(accept()), answer, session);
    });
    let client = Client::builder(url)
        .api_token("root@pam!ci", "secret")
        .build()
        .expect("complete");
    (client, server)
}

fn converse(
    accept: &mut dyn FnMut() -> Box<dyn Line>,
    answer: impl FnOnce(&str) -> String,
    session: impl FnOnce(Peer, &str),
) {
    let mut line = accept();
    let opening = read_request(&mut *line);
    assert!(opening.starts_with("POST "), "{opening}");
    let length = OPENED.len();
    let opened =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{OPENED}");
    line.write_all(opened.as_bytes()).expect("the client reads");
    line.flush().expect("the client reads");
    drop(line);
    let mut line = accept();
    let head = read_request(&mut *line);
    let answer = answer(header(&head, "sec-websocket-key").expect("a key"));
    line.write_all(answer.as_bytes()).expect("the client reads");
    line.flush().expect("the client reads");
    session(Peer(line), &(opening + &head));
}

async fn join(server: JoinHandle<()>) {
    let joined = tokio::task::spawn_blocking(move || server.join()).await;
    joined.expect("it ran").expect("no panic");
}

#[tokio::test]
async fn a_terminal_uses_the_protocol_of_the_web_interface() {
    let (client, server) = serve(switched, |mut peer, heads| {
        assert!(heads.starts_with("POST /api2/json/nodes/pve1/lxc/101/termproxy HTTP/1.1\r\n"));
        let path = "GET /api2/json/nodes/pve1/lxc/101/vncwebsocket?port=5900&\
            vncticket=PVEVNC%3A1%3A%3As3c%2B%2F%3D HTTP/1.1\r\n";
        assert!(heads.contains(path), "{heads}");
        let websocket = &heads[heads.find("GET ").expect("it is there")..];
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("authorization", "PVEAPIToken=root@pam!ci=secret"),
        ] {
            assert_eq!(header(websocket, name), Some(value));
        }
        assert_eq!(peer.text(), "root@pam!ci:PVEVNC:1::s3c+/=\n");
        peer.send(b"O");
        peer.send(b"Kwelcome");
        assert_eq!(peer.text(), "1:80:24:");
        assert_eq!(peer.text(), "0:4:l\u{e4}\n");
        let mut typed = Vec::new();
        while typed.len() < 100_000 {
            let (_, data) = peer.receive();
            let text = data.strip_prefix(b"0:").expect("input");
            let colon = text
                .iter()
                .position(|&byte| byte == b':')
                .expect("a length");
            let length: usize = std::str::from_utf8(&text[..colon])
                .expect("digits")
                .parse()
                .expect("digits");
            assert_eq!(text.len() - colon - 1, length);
            typed.extend_from_slice(&text[colon + 1..]);
        }
        assert!(typed.iter().all(|&byte| byte == b'x') && typed.len() == 100_000);
        peer.send(&vec![b'y'; 100_000]);
        // Like the real server: no close frame.
    });
    let console = client.lxc_console("pve1", 101);
    let mut terminal = console.terminal().await.expect("accepted");
    assert_eq!(
        terminal.read().await.expect("open").as_deref(),
        Some(&b"welcome"[..])
    );
    terminal.resize(80, 24).await.expect("open");
    terminal.write("l\u{e4}\n".as_bytes()).await.expect("open");
    terminal.write(&vec![b'x'; 100_000]).await.expect("open");
    let mut bytes = 0;
    while let Some(piece) = terminal.read().await.expect("a clean end") {
        bytes += piece.len();
    }
    assert_eq!(bytes, 100_000);
    for text in [format!("{terminal:?}"), format!("{console:?}")] {
        assert!(text.contains("/lxc/101") && !text.contains("s3c"), "{text}");
    }
    join(server).await;
}

#[tokio::test]
async fn a_terminal_gets_a_ping_every_thirty_seconds() {
    let (client, server) = serve(switched, |mut peer, _| {
        peer.text();
        peer.send(b"OK");
        assert_eq!(peer.text(), "2");
        assert_eq!(peer.text(), "2");
        peer.send(b"x");
        // More frames may be on their way; unread, they would reset the connection.
        let _ = std::io::copy(&mut *peer.0, &mut std::io::sink());
    });
    let console = client.node_console("pve1");
    let mut terminal = console.terminal().await.expect("accepted");
    // From here on, the clock advances whenever all tasks are idle.
    tokio::time::pause();
    let start = Instant::now();
    assert_eq!(
        terminal.read().await.expect("open").as_deref(),
        Some(&b"x"[..])
    );
    assert!(start.elapsed() >= Duration::from_secs(59));
    tokio::time::resume();
    drop(terminal);
    join(server).await;
}

#[tokio::test]
async fn a_terminal_can_use_any_input_and_output() {
    let (client, server) = serve(switched, |mut peer, _| {
        peer.text();
        peer.send(b"OK# ");
        let mut seen = vec![peer.text(), peer.text()];
        seen.sort();
        assert_eq!(seen, ["0:5:exit\n", "1:10:20:"]);
        peer.send(b"bye");
    });
    let mut terminal = (client.qemu_console("pve1", 100).param("serial", "serial0"))
        .terminal()
        .await
        .expect("accepted");
    let (mut screen, mut output) = tokio::io::duplex(100);
    let (mut input, mut keyboard) = tokio::io::duplex(100);
    let (resize, mut sizes) = tokio::sync::mpsc::channel(1);
    resize.send((10, 20)).await.expect("room");
    keyboard.write_all(b"exit\n").await.expect("room");
    terminal
        .attach(&mut input, &mut output, &mut sizes)
        .await
        .expect("a clean end");
    drop(output);
    let mut text = String::new();
    screen.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "# bye");
    join(server).await;
}

#[tokio::test]
async fn a_refused_ticket_is_reported() {
    let refusal = "{\"data\":null,\"message\":\"permission denied - invalid PVEVNC ticket\\n\"}";
    let length = refusal.len();
    let answer = format!(
        "HTTP/1.1 401 permission denied\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{refusal}"
    );
    let (client, server) = serve(move |_| answer, |_, _| {});
    let console = client.lxc_console("pve1", 101);
    let error = console.terminal().await.expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized), "{error}");
    assert!(error.to_string().contains("invalid PVEVNC ticket"));
    join(server).await;

    let (client, server) = serve(switched, |mut peer, _| {
        peer.text();
        peer.send(b"no");
    });
    let console = client.lxc_console("pve1", 101);
    let error = console.terminal().await.expect_err("refused");
    assert!(
        error.to_string().contains("did not accept the ticket"),
        "{error}"
    );
    join(server).await;
}

#[tokio::test]
async fn an_answer_without_an_upgrade_is_an_error() {
    let plain = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{\"data\":null}";
    let (client, server) = serve(move |_| plain.to_owned(), |_, _| {});
    let error = client
        .lxc_console("pve1", 101)
        .vnc()
        .await
        .expect_err("none");
    assert!(error.to_string().contains("did not switch"), "{error}");
    join(server).await;

    let (client, server) = serve(|_| switched("another key"), |_, _| {});
    let error = client
        .lxc_console("pve1", 101)
        .vnc()
        .await
        .expect_err("none");
    assert!(
        error.to_string().contains("another WebSocket request"),
        "{error}"
    );
    join(server).await;
}

#[tokio::test]
async fn a_display_is_a_stream_of_bytes() {
    let (client, server) = serve(switched, |mut peer, heads| {
        assert!(heads.starts_with("POST /api2/json/nodes/pve1/qemu/100/vncproxy "));
        // Pings are answered; frames that look like HTTP are not changed.
        peer.raw(&[0x89, 1, b'p']);
        peer.send(b"RFB ");
        assert_eq!(peer.receive(), (10, b"p".to_vec()));
        assert_eq!(peer.text(), "003.008\n");
        let answer = b"HTTP/1.1 200 OK\r\n\r\n";
        peer.raw(&[0x82, answer.len() as u8]);
        assert_eq!(peer.text(), "more");
        peer.raw(answer);
        let mut came = 0;
        while came < 1_000_000 {
            came += peer.receive().1.len();
        }
        assert_eq!(peer.receive().0, 8, "a close frame");
    });
    let console = client.qemu_console("pve1", 100);
    let mut vnc = console.vnc().await.expect("accepted");
    assert_eq!(vnc.password().expose(), "pw");
    assert!(!format!("{vnc:?}").contains("pw"));
    let mut start = [0; 4];
    vnc.read_exact(&mut start).await.expect("open");
    assert_eq!(&start, b"RFB ");
    vnc.write_all(b"003.008\n").await.expect("open");
    vnc.flush().await.expect("open");
    vnc.write_all(b"more").await.expect("open");
    vnc.flush().await.expect("open");
    let mut answer = [0; 19];
    vnc.read_exact(&mut answer).await.expect("open");
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    vnc.write_all(&vec![7; 1_000_000]).await.expect("open");
    vnc.shutdown().await.expect("open");
    let mut rest = Vec::new();
    vnc.read_to_end(&mut rest).await.expect("a clean end");
    assert!(rest.is_empty());
    join(server).await;
}

#[tokio::test]
async fn a_pin_applies_to_consoles_and_tls_may_end_without_close_notify() {
    let generated =
        rcgen::generate_simple_self_signed(["another.example.org".to_owned()]).expect("made");
    let pin = Fingerprint::of(generated.cert.der());
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
        let mut accept = || -> Box<dyn Line> {
            let (stream, _) = listener.accept().expect("a connection");
            let tls = ServerConnection::new(config.clone()).expect("a session");
            Box::new(StreamOwned::new(tls, stream))
        };
        converse(&mut accept, switched, |mut peer, _| {
            peer.text();
            peer.send(b"OK");
            peer.send(b"over TLS");
        });
    });
    let client = Client::builder(format!("https://localhost:{port}"))
        .api_token("root@pam!ci", "secret")
        .fingerprint(pin)
        .build()
        .expect("complete");
    let console = client.lxc_console("pve1", 101);
    let mut terminal = console.terminal().await.expect("accepted");
    assert_eq!(
        terminal.read().await.expect("open").as_deref(),
        Some(&b"over TLS"[..])
    );
    assert_eq!(terminal.read().await.expect("a clean end"), None);
    join(server).await;
}

#[tokio::test]
async fn the_spice_file_has_the_servers_settings() {
    let script = Script::new();
    script.expect(
        Expect::post("/nodes/pve1/qemu/100/spiceproxy")
            .param("proxy", "pve1")
            .data(json!({
                "type": "spice", "host": "pvespiceproxy:1:100:pve1", "password": "s3cret", "tls-port": 61000,
                "proxy": "http://pve1:3128", "ca": "-----BEGIN\\nX\n-----END", "delete-this-file": 1, "x": null
            })),
    );
    let client = script.client().expect("complete");
    let file = client
        .qemu_console("pve1", 100)
        .param("proxy", "pve1")
        .spice()
        .await
        .expect("accepted");
    assert_eq!(file.get("tls-port"), Some("61000"));
    assert_eq!(
        file.text(),
        "[virt-viewer]\nca=-----BEGIN\\nX\\n-----END\ndelete-this-file=1\n\
         host=pvespiceproxy:1:100:pve1\npassword=s3cret\nproxy=http://pve1:3128\ntls-port=61000\ntype=spice\n"
    );
    assert!(!format!("{file:?}").contains("s3cret"));
    script.finish().expect("all came");
}

#[tokio::test]
async fn a_transport_without_upgrades_is_an_error() {
    let script = Script::new();
    let opened: Value = serde_json::from_str(OPENED).expect("JSON");
    script.expect(Expect::post("/nodes/pve1/lxc/1/termproxy").data(opened["data"].clone()));
    let client = script.client().expect("complete");
    let error = client
        .lxc_console("pve1", 1)
        .terminal()
        .await
        .expect_err("none");
    assert!(error.never_sent() && error.to_string().contains("does not switch protocols"));
    let error = client
        .lxc_console("pve1", "..")
        .terminal()
        .await
        .expect_err("no path");
    assert!(error.never_sent(), "{error}");
}

/// The messages of a connection that receives these bytes.
async fn received(bytes: &[u8], max: usize) -> Vec<Result<Bytes, WsError>> {
    let (mut peer, connection) = tokio::io::duplex(1 << 20);
    peer.write_all(bytes).await.expect("room");
    peer.shutdown().await.expect("open");
    let stream = ClientBuilder::new()
        .limits(Limits::default().max_payload_len(Some(max)))
        .take_over(Box::new(connection) as Box<dyn Duplex>);
    let mut socket = Socket {
        stream,
        name: CallId::new(Method::Get, "/x"),
        origin: String::new(),
        max,
        pings: 0,
        closing: false,
    };
    let mut received = Vec::new();
    // Nothing follows an error.
    while received.last().is_none_or(Result::is_ok)
        && let Some(next) = std::future::poll_fn(|context| socket.poll_bytes(context)).await
    {
        received.push(next);
    }
    received
}

proptest::proptest! {
    #[test]
    fn no_frame_causes_a_panic_and_messages_are_limited(
        frames in proptest::collection::vec(
            (proptest::prelude::any::<u8>(), 0_u8..131, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..70)), 0..12,
        ),
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
    ) {
        let mut bytes = Vec::new();
        for (first, length, data) in frames {
            // Mostly valid frames.
            let honest = u8::try_from(data.len()).expect("short");
            bytes.extend([first & 0x8f, if length < 120 { honest } else { length }]);
            bytes.extend(data);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for bytes in [&bytes, &noise] {
            let received = runtime.block_on(received(bytes, 64));
            let long = received.iter().flatten().find(|message| message.len() > 64);
            proptest::prop_assert!(long.is_none(), "{long:?}");
        }
    }
}
