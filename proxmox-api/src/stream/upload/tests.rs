//! Uploads with servers that parse them, refuse them, or close the connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::testing::{Fake, json};

const UPID: &str = "UPID:pve1:0000A1B2:00C3D4E5:6740A1B2:imgcopy::root@pam!ci:";

/// The request of a connection: its head and its body.
struct ReceivedRequest {
    head: String,
    body: Vec<u8>,
}

impl ReceivedRequest {
    fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .expect(name)
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).expect("plain text")
}

fn announced(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("an exact length");
    length.parse().expect("a number")
}

fn serve<T: Send + 'static>(
    handle: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Client, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || handle(listener.accept().expect("a connection").0));
    let client = Client::builder(url)
        .api_token("root@pam!ci", "secret")
        .build()
        .expect("the settings are complete");
    (client, server)
}

fn accept_one() -> (Client, JoinHandle<ReceivedRequest>) {
    serve(|mut stream| {
        let head = read_head(&mut stream);
        let mut body = vec![0; announced(&head)];
        stream.read_exact(&mut body).expect("as much as announced");
        let text = format!("{{\"data\":\"{UPID}\"}}");
        let length = text.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )
        .expect("the client reads");
        ReceivedRequest { head, body }
    })
}

#[tokio::test]
async fn the_body_is_exactly_what_the_server_parses() {
    let (client, server) = accept_one();
    let task = client
        .upload("pve1", "local")
        .bytes("DATA")
        .name("a.iso")
        .checksum(ChecksumAlgorithm::Md5, "0".repeat(32))
        .await
        .expect("accepted");
    assert_eq!(task.as_str(), Some(UPID));
    let seen = server.join().expect("no panic");
    assert!(
        seen.head
            .starts_with("POST /api2/json/nodes/pve1/storage/local/upload HTTP/1.1\r\n")
    );
    assert_eq!(
        seen.header("authorization"),
        "PVEAPIToken=root@pam!ci=secret"
    );
    assert!(!seen.head.to_ascii_lowercase().contains("transfer-encoding"));
    let boundary = seen
        .header("content-type")
        .strip_prefix("multipart/form-data; boundary=")
        .expect("the kind of body");
    assert!(!boundary.contains('"') && boundary.len() < 70);
    let zeros = "0".repeat(32);
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"checksum-algorithm\"\r\n\r\nmd5\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"checksum\"\r\n\r\n{zeros}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\
         Content-Type: application/octet-stream\r\n\r\nDATA\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&seen.body), expected);
}

#[tokio::test]
async fn a_file_is_sent_with_its_checksum_and_progress_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.qcow2");
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&path, &data).expect("room for it");
    let (client, server) = accept_one();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    client
        .upload("pve1", "local")
        .path(&path)
        .verified()
        .on_progress(move |progress| {
            assert_eq!(progress.total, 1_000_000);
            seen.lock().expect("no panic").push(progress.sent);
        })
        .await
        .expect("accepted")
        .detach();
    let body = server.join().expect("no panic").body;
    assert!(body.windows(data.len()).any(|window| window == data));
    let text = String::from_utf8_lossy(&body[..800]).into_owned();
    let sum = Sha256::digest(&data);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text.contains(&sum) && text.contains("\r\nsha256\r\n") && text.contains("import"));
    assert!(text.contains("filename=\"disk.qcow2\""), "{text}");
    let steps = steps.lock().expect("no panic");
    assert!(steps.len() > 5 && steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.last(), Some(&1_000_000));
}

#[tokio::test]
async fn a_reader_must_have_the_announced_length() {
    for (length, word) in [(9, "ended after 9 of 10"), (11, "more than the announced")] {
        let (client, server) = serve(|mut stream| {
            let head = read_head(&mut stream);
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body);
            // The connection may end before anything was written.
            let length = if head.is_empty() { 1 } else { announced(&head) };
            (length, body.len())
        });
        let error = client
            .upload("pve1", "local")
            .reader(10, io::Cursor::new(vec![7; length]))
            .name("x.img")
            .await
            .expect_err("not ten bytes");
        assert!(matches!(error, Error::Local(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(word), "{text}");
        assert_eq!(
            error.endpoint(),
            Some("POST /nodes/pve1/storage/local/upload")
        );
        drop(client);
        let (announced, came) = server.join().expect("no panic");
        assert!(came < announced, "the server must see it as incomplete");
    }
}

/// Produces zeros and counts them.
struct Zeros(Arc<AtomicU64>);

impl AsyncRead for Zeros {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let count = room.len();
        room.fill(0);
        buffer.advance(count);
        self.0.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

const GIB: u64 = 1 << 30;

#[tokio::test]
async fn dropping_the_future_ends_the_upload() {
    let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
    let (client, server) = serve(move |mut stream| {
        let head = read_head(&mut stream);
        let mut piece = vec![0; 1 << 20];
        stream.read_exact(&mut piece).expect("it has begun");
        started.send(()).expect("the test waits");
        let mut came = piece.len();
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            came += count;
        }
        (announced(&head), came)
    });
    let read = Arc::new(AtomicU64::new(0));
    let upload = client
        .upload("pve1", "local")
        .reader(64 * GIB, Zeros(read.clone()))
        .name("x.iso");
    tokio::select! {
        _ = upload.into_future() => panic!("nobody answered"),
        _ = has_started.recv() => {}
    }
    let server = tokio::task::spawn_blocking(move || server.join().expect("no panic"));
    let (announced, came) = server.await.expect("no panic");
    assert!(announced as u64 > 64 * GIB && came < announced);
    assert!(read.load(Ordering::Relaxed) < 64 * GIB);
}

#[tokio::test]
async fn an_early_refusal_is_reported() {
    let (client, server) = serve(|mut stream| {
        read_head(&mut stream);
        let phrase = "Permission check failed (/storage/local, Datastore.AllocateTemplate)";
        write!(stream, "HTTP/1.1 403 {phrase}\r\nConnection: close\r\n\r\n").expect("open");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        // The client has to notice the answer, not the end of the connection.
        let mut piece = vec![0; 1 << 20];
        while let Ok(1..) = stream.read(&mut piece) {}
    });
    let error = client
        .upload("pve1", "local")
        .reader(64 * GIB, Zeros(Arc::default()))
        .name("x.iso")
        .await
        .expect_err("refused");
    let api = error.api().expect("the server's refusal");
    assert_eq!(api.status(), 403);
    drop(client);
    let server = tokio::task::spawn_blocking(move || server.join().expect("no panic"));
    server.await.expect("no panic");
}

#[tokio::test]
async fn a_server_that_stops_reading_causes_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let client = Client::builder(url)
        .api_token("root@pam!ci", "secret")
        .timeout(std::time::Duration::from_millis(50))
        .build()
        .expect("complete");
    let error = client
        .upload("pve1", "local")
        .reader(GIB, Zeros(Arc::default()))
        .name("x.iso")
        .await
        .expect_err("nobody reads");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
}

#[tokio::test]
async fn invalid_uploads_are_not_sent() {
    let fake = Fake::new(|_| Ok(json(200, "OK", "{\"data\":null}")));
    let client = fake.token_client();
    let folder = tempfile::tempdir().expect("a folder");
    let upload = || client.upload("pve1", "local");
    let wrong = [
        (upload(), "there is no file"),
        (upload().bytes("x"), "has no name"),
        (upload().bytes("x").name("x.txt"), "set `content`"),
        (
            upload().bytes("x").name("a\"b.iso"),
            "accepts no file named",
        ),
        (
            upload().bytes("x").name("a\r\nb.iso"),
            "accepts no file named",
        ),
        (upload().path("/nonexistent/x.iso"), "/nonexistent/x.iso"),
        (upload().path(folder.path()).name("x.iso"), "not a file"),
        (
            upload()
                .bytes("x")
                .name("x.iso")
                .checksum(ChecksumAlgorithm::Sha1, "12"),
            "40 hexadecimal digits",
        ),
        (
            upload()
                .reader(1, io::Cursor::new(b"x"))
                .name("x.iso")
                .verified(),
            "only once",
        ),
        (
            client.upload("pve1", "a/b").bytes("x").name("x.iso"),
            "contains a slash",
        ),
        (upload().bytes("x").name("x.iso"), "does not stream"),
    ];
    for (upload, text) in wrong {
        let error = upload.await.expect_err(text);
        assert!(error.never_sent(), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn the_kind_follows_from_the_file_name() {
    for (name, content) in [
        ("A.ISO", Some(UploadContent::Iso)),
        ("x.img", Some(UploadContent::Iso)),
        ("debian.tar.zst", Some(UploadContent::Template)),
        ("x.qcow2", Some(UploadContent::Import)),
        ("x.ova", Some(UploadContent::Import)),
        ("x.txt", None),
    ] {
        assert_eq!(UploadContent::of_name(name), content, "{name}");
    }
}

#[test]
fn boundaries_are_random() {
    let one = boundary().expect("random numbers");
    assert_ne!(Ok(one.clone()), boundary());
    assert!(
        one.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    );
}
