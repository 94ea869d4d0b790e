use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::error::api::ErrorKind;
use crate::testing::{Fake, json};
use crate::value::BoxFuture;
use crate::value::endpoint::Method;

fn serve<T: Send + 'static>(
    handle: impl FnOnce(TcpStream, String) -> T + Send + 'static,
) -> (Client, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().expect("a connection").0;
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            bytes.push(byte[0]);
        }
        handle(stream, String::from_utf8(bytes).expect("plain text"))
    });
    let client = Client::builder(url)
        .api_token("root@pam!ci", "secret")
        .timeout(Duration::from_millis(100))
        .build()
        .expect("the settings are complete");
    (client, server)
}

fn log(client: &Client) -> BoxFuture<'static, Result<Download, Error>> {
    let request = client.request::<crate::Value>(Method::Get, "/nodes/pve1/tasks/x/log");
    request.param("download", true).stream()
}

#[tokio::test]
async fn chunks_arrive_before_the_file_is_complete() {
    let (go_on, wait) = std::sync::mpsc::channel();
    let (client, server) = serve(move |mut stream, head| {
        let start = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
            Content-Disposition: attachment; filename=\"task.log\"\r\nConnection: close\r\n\r\nfirst";
        stream
            .write_all(start.as_bytes())
            .expect("the client reads");
        wait.recv().expect("the test goes on");
        stream.write_all(b"second").expect("the client reads");
        head
    });
    let mut file = log(&client).await.expect("an answer");
    assert_eq!(file.content_type(), Some("text/plain"));
    assert_eq!(file.file_name(), Some("task.log"));
    assert_eq!(file.length(), None);
    let first = file.chunk().await.expect("open").expect("a piece");
    assert_eq!((first.as_ref(), file.received()), (&b"first"[..], 5));
    go_on.send(()).expect("the server waits");
    let mut rest = Vec::new();
    assert_eq!(file.copy_to(&mut rest).await.expect("complete"), 6);
    assert_eq!(rest, b"second");
    assert_eq!(file.chunk().await.expect("over"), None);
    let head = server.join().expect("no panic").to_ascii_lowercase();
    assert!(head.starts_with("get /api2/json/nodes/pve1/tasks/x/log?download=1 "));
    assert!(head.contains("authorization: pveapitoken=root@pam!ci=secret"));
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn a_compressed_file_is_always_decompressed() {
    let text: Vec<u8> = (0..300_000_u32).map(|i| (i % 7 * (i % 31)) as u8).collect();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&text).expect("room");
    let packed = packer.finish().expect("room");
    for cut in [0, 20] {
        let mut packed = packed.clone();
        packed.truncate(packed.len() - cut);
        let (client, server) = serve(move |mut stream, _| {
            let length = packed.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
            )
            .expect("the client reads");
            stream.write_all(&packed).expect("the client reads");
        });
        let mut file = log(&client).await.expect("an answer");
        assert_eq!(file.length(), None);
        let mut whole = Vec::new();
        let result = file.copy_to(&mut whole).await;
        if cut == 0 {
            assert_eq!(result.expect("complete"), 300_000);
            assert!(whole == text);
        } else {
            let error = result.expect_err("its end is missing");
            assert!(error.to_string().contains("cannot decompress"), "{error}");
        }
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn an_incomplete_file_is_an_error_and_is_removed() {
    let (client, server) = serve(|mut stream, _| {
        let start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst";
        stream.write_all(start).expect("the client reads");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.zip");
    let mut file = log(&client).await.expect("an answer");
    assert_eq!(file.length(), Some(100));
    let error = file.save(&path).await.expect_err("95 bytes are missing");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0
    );
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_saved_file_replaces_an_older_one() {
    let (client, server) = serve(|mut stream, _| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew";
        stream.write_all(answer).expect("the client reads");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.zip");
    std::fs::write(&path, "older").expect("room");
    let mut file = log(&client).await.expect("an answer");
    assert_eq!(file.save(&path).await.expect("complete"), 3);
    assert_eq!(std::fs::read(&path).expect("there"), b"new");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_silent_server_causes_a_timeout() {
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let (client, server) = serve(move |mut stream, _| {
        let start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst";
        stream.write_all(start).expect("the client reads");
        let _ = wait.recv();
    });
    let mut file = log(&client).await.expect("an answer");
    file.chunk().await.expect("open").expect("a piece");
    let error = file.chunk().await.expect_err("nothing more comes");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    drop(end);
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_refused_download_is_an_api_error() {
    let (client, server) = serve(|mut stream, _| {
        let body =
            "{\"data\":null,\"message\":\"Permission check failed (/nodes/pve1, Sys.Audit)\\n\"}";
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 403 no\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("open");
    });
    let error = log(&client).await.expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::PermissionDenied), "{error}");
    server.join().expect("no panic");
}

#[tokio::test]
async fn every_transport_can_return_a_whole_file() {
    let fake = Fake::new(|_| Ok(json(200, "OK", "all of it")));
    let client = fake.token_client();
    let mut file = log(&client).await.expect("an answer");
    assert_eq!(
        file.chunk().await.expect("open").expect("a piece"),
        "all of it"
    );
    assert_eq!(file.chunk().await.expect("over"), None);
}

#[tokio::test]
async fn concurrent_saves_to_one_path_do_not_mix() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("task.log");
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "keep").expect("written");
    // Attack by somebody who knows the process id.
    #[cfg(unix)]
    {
        let planted = format!(".task.log.{}.part", std::process::id());
        std::os::unix::fs::symlink(&victim, folder.path().join(planted)).expect("a link");
    }
    for _ in 0..10 {
        let saved = ["a", "b"].map(|letter| {
            let body = letter.repeat(100_000);
            let path = path.clone();
            tokio::spawn(async move {
                let fake = Fake::new(move |_| Ok(json(200, "OK", body.clone())));
                let mut file = log(&fake.token_client()).await.expect("an answer");
                file.save(&path).await.expect("saved")
            })
        });
        for save in saved {
            assert_eq!(save.await.expect("no panic"), 100_000);
        }
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(
            text == "a".repeat(100_000) || text == "b".repeat(100_000),
            "a mix"
        );
    }
    assert_eq!(
        std::fs::read_to_string(&victim).expect("it is there"),
        "keep"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_saved_file_keeps_the_mode_and_link_of_the_previous_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::write(&real, "old").expect("written");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("set");
    std::os::unix::fs::symlink("real", &link).expect("a link");
    let fake = Fake::new(|_| Ok(json(200, "OK", "new")));
    let mut file = log(&fake.token_client()).await.expect("an answer");
    file.save(&link).await.expect("saved");
    assert_eq!(std::fs::read_to_string(&real).expect("it is there"), "new");
    let mode = std::fs::metadata(&real)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(std::fs::read_link(&link).is_ok(), "still a link");
}
