//! The result of each fault for the caller: every fault is injected, and the results are compared
//! with the table in `docs/faults.md`. `FAULTS_WRITE=1` writes the table.

use std::fmt::Write as _;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error};
use proxmox_simulator::{Clock, Fault, Simulator, TOKEN_ID, TOKEN_SECRET};
use proxmox_test_support::page::Part;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

const PASSWORD: &str = "r00t-pa55";

/// The rows so far.
#[derive(Default)]
struct Matrix {
    rows: Vec<[String; 4]>,
    /// All texts that a caller could print.
    texts: String,
}

impl Matrix {
    /// `sent` is the number of times that the server received the request.
    fn row<T>(&mut self, fault: &str, request: &str, sent: usize, result: Result<T, Error>) {
        let seen = match &result {
            Ok(_) => "the answer".to_owned(),
            Err(error) => {
                let _ = write!(self.texts, "{error} {error:?}");
                description(error)
            }
        };
        let times = match sent {
            0 => "never".to_owned(),
            1 => "once".to_owned(),
            sent => format!("{sent} times"),
        };
        let row = [fault.to_owned(), request.to_owned(), times, seen];
        self.rows.push(row);
    }

    fn table(&self) -> String {
        let mut text =
            "| fault | request | reaches the server | the caller sees |\n|---|---|---|---|\n"
                .to_owned();
        let mut last = "";
        for [fault, request, times, seen] in &self.rows {
            let cell = if fault == last { "" } else { fault };
            let _ = writeln!(text, "| {cell} | {request} | {times} | {seen} |");
            last = fault;
        }
        text
    }
}

/// The error, without parts that differ between runs and systems.
fn description(error: &Error) -> String {
    let text = error.to_string();
    let (_, after) = text.split_once(": ").unwrap_or(("", &text));
    match error {
        Error::Api(api) => format!("`Error::Api`, `{:?}`: {after}", api.kind()),
        Error::Connect(error) if error.server_certificate().is_some() => {
            "`Error::Connect` with the certificate's fingerprint; never sent".into()
        }
        Error::Connect(error) if error.others().count() > 0 => {
            "`Error::Connect` with all the hosts; never sent".into()
        }
        Error::Connect(error) if error.text().contains("speak TLS") => {
            format!(
                "`Error::Connect`: … {}; never sent",
                error.text().split("; ").last().unwrap_or_default()
            )
        }
        Error::Connect(error) if error.text().starts_with("no connection within") => {
            "`Error::Connect`: no connection in time; never sent".into()
        }
        Error::Connect(_) => "`Error::Connect`; never sent".into(),
        Error::Interrupted(_) => "`Error::Interrupted`; may have been processed".into(),
        Error::Timeout(_) => "`Error::Timeout`; may be processed yet".into(),
        Error::Decode(_) => format!("`Error::Decode`: {after}"),
        Error::Auth(_) => format!("`Error::Auth`: {after}"),
        Error::Request(_) => format!("`Error::Request`: {after}"),
        other => format!("{other}"),
    }
}

fn patient() -> RetryPolicy {
    RetryPolicy::new().backoff(Duration::from_millis(1), Duration::from_millis(5))
}

fn with_token(url: &str) -> ClientBuilder {
    Client::builder(url)
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .retry(patient())
}

async fn simulator() -> Simulator {
    Simulator::builder()
        .time_factor(0.0)
        .user("root@pam", PASSWORD)
        .clock(Clock::manual(1_800_000_000))
        .qemu(100, "pve1", &[("name", "one")])
        .start()
        .await
        .expect("the simulator starts")
}

fn builder_for(pve: &Simulator) -> ClientBuilder {
    with_token(&pve.url()).ca_pem(pve.ca_pem())
}

const READ: &str = "/nodes/pve1/qemu/100/status/current";
const WRITE: &str = "/nodes/pve1/qemu/100/config";

/// Reads and writes with a simulator that has one fault.
async fn get_and_post(
    matrix: &mut Matrix,
    name: &str,
    times: Option<u32>,
    fault: Fault,
    adjust: fn(ClientBuilder) -> ClientBuilder,
) {
    for (method, verb, path) in [(Method::Get, "GET", READ), (Method::Post, "POST", WRITE)] {
        let pve = simulator().await;
        let ordered = pve.faults().on(verb, path);
        let ordered = match times {
            Some(times) => ordered.times(times),
            None => ordered,
        };
        let _handle = ordered.respond(fault.clone());
        let client = adjust(builder_for(&pve)).build().expect("complete");
        let mut request = client.request::<proxmox_api::Value>(method, path);
        if method == Method::Post {
            request = request.param("cores", "2");
        }
        let result = request.await;
        matrix.row(name, verb, pve.count_requests(verb, path), result);
    }
}

/// A server of plain HTTP: answers each request line, or closes the connection if there is no
/// answer for it.
async fn raw(
    answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let (seen, answer) = (Arc::clone(&count), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            tokio::spawn(async move {
                while let Some(line) = request_line(&mut stream).await {
                    let number = seen.fetch_add(1, Ordering::SeqCst);
                    let Some(text) = answer(number, &line) else {
                        return;
                    };
                    if stream.write_all(text.as_bytes()).await.is_err() || text.contains("close") {
                        return;
                    }
                }
            });
        }
    });
    (url, count)
}

/// Reads a whole request and returns its first line.
async fn request_line(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(head.lines().next().unwrap_or_default().to_owned())
}

fn http(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

async fn version(client: Client) -> Result<(), Error> {
    client.version().get().await.map(drop)
}

const VERSION: &str = r#"{"data":{"release":"9.2","version":"9.2.1","repoid":"0"}}"#;

/// Reads and writes with a plain server; every number stands for one received request.
async fn both_raw(
    matrix: &mut Matrix,
    name: &str,
    answer: fn(usize, &str) -> Option<String>,
    before: bool,
) {
    for (method, verb) in [(Method::Get, "GET"), (Method::Post, "POST")] {
        let (url, count) = raw(answer).await;
        let client = with_token(&url).build().expect("complete");
        if before {
            version(client.clone())
                .await
                .expect("the first request is answered");
        }
        let result = client.request::<proxmox_api::Value>(method, "/pools").await;
        let sent = count.load(Ordering::SeqCst) - usize::from(before);
        matrix.row(name, verb, sent, result);
    }
}

async fn connections(matrix: &mut Matrix) {
    let closed = || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("https://{}", listener.local_addr().expect("it is bound"))
    };
    let same = |builder| builder;
    for (method, verb) in [(Method::Get, "GET"), (Method::Post, "POST")] {
        let client = with_token(&closed().await).build().expect("complete");
        let result = client.request::<proxmox_api::Value>(method, "/pools").await;
        matrix.row("connection refused", verb, 0, result);
    }
    let name = "connection refused by the first of three hosts";
    for (method, verb, path) in [(Method::Get, "GET", READ), (Method::Post, "POST", WRITE)] {
        let pve = simulator().await;
        let client = with_token(&closed().await)
            .host(pve.url())
            .host(closed().await)
            .ca_pem(pve.ca_pem())
            .build()
            .expect("complete");
        let mut request = client.request::<proxmox_api::Value>(method, path);
        if method == Method::Post {
            request = request.param("cores", "2");
        }
        let result = request.await;
        matrix.row(name, verb, pve.count_requests(verb, path), result);
    }
    let client = with_token(&closed().await)
        .host(closed().await)
        .build()
        .expect("complete");
    let result = client
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .await;
    matrix.row("connection refused by all hosts", "POST", 0, result);

    get_and_post(
        matrix,
        "the connection closes once, before processing",
        Some(1),
        Fault::Drop,
        same,
    )
    .await;
    get_and_post(
        matrix,
        "the connection closes each time",
        None,
        Fault::Drop,
        same,
    )
    .await;
    get_and_post(
        matrix,
        "the server processes the request, and the connection closes without an answer",
        Some(1),
        Fault::DropAnswer,
        same,
    )
    .await;
    get_and_post(
        matrix,
        "the answer ends early",
        Some(1),
        Fault::Truncate(5),
        same,
    )
    .await;
    get_and_post(matrix, "no answer comes", None, Fault::Hang, |builder| {
        builder
            .timeout(Duration::from_secs(1))
            .retry(patient().within(Duration::from_millis(500)))
    })
    .await;
    both_raw(
        matrix,
        "a connection that was used before is reset",
        |number, _| match number {
            1 => None,
            _ => http("200 OK", "", VERSION),
        },
        true,
    )
    .await;
}

/// A server that closes each connection after its first answer without announcing it, and waits
/// until the client has noticed.
async fn closes_idle() -> (String, Arc<AtomicUsize>, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let closed = Arc::new(Semaphore::new(0));
    let (seen, done) = (Arc::clone(&count), Arc::clone(&closed));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if request_line(&mut stream).await.is_none() {
                continue;
            }
            seen.fetch_add(1, Ordering::SeqCst);
            let answer = http("200 OK", "", VERSION).unwrap_or_default();
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            // The client closes the connection when it notices.
            let _ = stream.read_u8().await;
            done.add_permits(1);
        }
    });
    (url, count, closed)
}

async fn idle(matrix: &mut Matrix) {
    for (method, verb) in [(Method::Get, "GET"), (Method::Post, "POST")] {
        let (url, count, closed) = closes_idle().await;
        let client = with_token(&url).build().expect("complete");
        version(client.clone())
            .await
            .expect("the first request is answered");
        closed.acquire().await.expect("open").forget();
        let result = client.request::<proxmox_api::Value>(method, "/pools").await;
        let sent = count.load(Ordering::SeqCst) - 1;
        matrix.row("the server closes an idle connection", verb, sent, result);
    }
}

/// A task with a slow log, and one with a slow status.
async fn tasks(matrix: &mut Matrix) {
    for (name, path) in [
        (
            "the log of a task hangs once during a wait",
            "/nodes/*/tasks/*/log",
        ),
        (
            "the status of a task hangs once during a wait",
            "/nodes/*/tasks/*/status",
        ),
    ] {
        let pve = simulator().await;
        let client = builder_for(&pve)
            .timeout(Duration::from_millis(300))
            .build()
            .expect("complete");
        let start = "/nodes/pve1/qemu/100/status/start";
        let upid = client
            .request::<proxmox_api::Value>(Method::Post, start)
            .await
            .expect("accepted");
        let task = client.task(upid.as_str().expect("a UPID").parse().expect("a UPID"));
        let hangs = pve.faults().on("GET", path).times(1).respond(Fault::Hang);
        let log = Mutex::new(Vec::new());
        let wait = task.wait().poll_interval(Duration::from_millis(5));
        let result = wait
            .on_log(|line| log.lock().expect("no panic").push(line.to_owned()))
            .await;
        let log = log.into_inner().expect("no panic");
        let last = log.iter().filter(|line| *line == "TASK OK").count();
        assert_eq!(last, 1, "each line comes once: {log:?}");
        let once_more = hangs.hits() as usize + 1;
        matrix.row(name, "GET", once_more, result);
    }
}

async fn uploads(matrix: &mut Matrix) {
    let path = "/nodes/pve1/storage/local/upload";
    let status = |status, text: &str| Fault::Status(status, text.to_owned());
    for (name, fault) in [
        (
            "status 429 once, for an upload",
            status(429, "Too Many Requests"),
        ),
        (
            "status 503 once, for an upload",
            status(503, "Service Unavailable"),
        ),
        (
            "the connection closes within an upload",
            Fault::DropBody(1000),
        ),
        ("no answer to a complete upload", Fault::DropAnswer),
    ] {
        let pve = simulator().await;
        let _handle = pve.faults().on("POST", path).times(1).respond(fault);
        let client = builder_for(&pve).build().expect("complete");
        let upload = client.upload("pve1", "local").bytes(vec![0; 100_000]);
        let result = upload.name("x.iso").await;
        matrix.row(name, "POST", pve.count_requests("POST", path), result);
    }
    let path = "/nodes/pve1/journal";
    for (name, fault) in [
        (
            "status 503 once, for a download",
            status(503, "Service Unavailable"),
        ),
        ("a download ends early", Fault::Truncate(8)),
    ] {
        let pve = simulator().await;
        let _handle = pve.faults().on("GET", path).times(1).respond(fault);
        let client = builder_for(&pve).build().expect("complete");
        let journal = client
            .request::<proxmox_api::Value>(Method::Get, path)
            .stream();
        let result = match journal.await {
            Ok(mut file) => file.copy_to(&mut Vec::new()).await,
            Err(error) => Err(error),
        };
        matrix.row(name, "GET", pve.count_requests("GET", path), result);
    }
}

async fn statuses(matrix: &mut Matrix) {
    let same = |builder| builder;
    get_and_post(
        matrix,
        "the node in the path is down",
        None,
        Fault::NodeDown,
        same,
    )
    .await;
    get_and_post(
        matrix,
        "the node in the path takes longer than 30 seconds",
        None,
        Fault::Timeout,
        same,
    )
    .await;
    for (status, text) in [
        (500, "VM is locked (backup)"),
        (500, "can't lock file '/var/lock/x' - got timeout"),
        (500, "cluster not ready - no quorum?"),
        (403, "Permission check failed (/vms/100, VM.Audit)"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
    ] {
        let fault = Fault::Status(status, text.into());
        get_and_post(
            matrix,
            &format!("status {status}, {text}"),
            None,
            fault,
            same,
        )
        .await;
    }
    get_and_post(
        matrix,
        "status 503 once",
        Some(1),
        Fault::Status(503, "Service Unavailable".into()),
        same,
    )
    .await;
    both_raw(
        matrix,
        "status 429 once",
        |number, _| match number {
            0 => http("429 Too Many Requests", "Retry-After: 0\r\n", ""),
            _ => http("200 OK", "", VERSION),
        },
        false,
    )
    .await;
    both_raw(
        matrix,
        "status 429 with a pause of an hour",
        |_, _| http("429 Too Many Requests", "Retry-After: 3600\r\n", ""),
        false,
    )
    .await;
    both_raw(
        matrix,
        "a redirection",
        |_, _| {
            http(
                "301 Moved Permanently",
                "Location: https://other:8006/?x=1\r\n",
                "",
            )
        },
        false,
    )
    .await;
    let pve = simulator().await;
    let client = builder_for(&pve).build().expect("complete");
    let result = client
        .request::<proxmox_api::Value>(Method::Post, "/nope")
        .await;
    matrix.row("an unknown path", "POST", 1, result);
    let missing = client
        .request::<proxmox_api::Value>(Method::Put, "/nodes/pve1/qemu/999/config")
        .param("cores", "2")
        .await;
    matrix.row("a missing guest", "PUT", 1, missing);
}

async fn contents(matrix: &mut Matrix) {
    let page = "Content-Type: text/html\r\n";
    for (name, headers, body) in [
        ("a web page with status 200", page, "<title>Sign in</title>"),
        ("an empty answer", "", ""),
        ("incomplete JSON", "", r#"{"data":{"release":"9.2","vers"#),
        ("an answer without `data`", "", "{}"),
        (
            "a member of a wrong type",
            "",
            r#"{"data":{"release":{},"version":"9","repoid":"0"}}"#,
        ),
        (
            "a missing required member",
            "",
            r#"{"data":{"release":"9.2","version":"9"}}"#,
        ),
        (
            "a null required member",
            "",
            r#"{"data":{"release":"9.2","version":"9","repoid":null}}"#,
        ),
    ] {
        let answer = http("200 OK", headers, body);
        let (url, count) = raw(move |_, _| answer.clone()).await;
        let client = with_token(&url).build().expect("complete");
        let result = version(client).await;
        matrix.row(name, "GET", count.load(Ordering::SeqCst), result);
    }
}

async fn encryption(matrix: &mut Matrix) {
    let pve = simulator().await;
    let result = version(with_token(&pve.url()).build().expect("complete")).await;
    matrix.row(
        "a certificate of no known authority",
        "GET",
        pve.count_requests("GET", "/version"),
        result,
    );
    let other = simulator().await;
    let pinned = with_token(&pve.url()).fingerprint(other.fingerprint().parse().expect("a pin"));
    let result = version(pinned.build().expect("complete")).await;
    matrix.row(
        "a certificate other than the pinned one",
        "GET",
        pve.count_requests("GET", "/version"),
        result,
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 64];
            let _ = stream.read_exact(&mut some).await;
            let refusal = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(refusal.as_bytes()).await;
        }
    });
    let client = with_token(&url);
    let result = version(client.build().expect("complete")).await;
    matrix.row("no TLS on the port", "GET", 0, result);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The first bytes of a server's hello, without the rest.
            let mut some = [0; 64];
            let _ = stream.read_exact(&mut some).await;
            let _ = stream.write_all(b"\x16\x03\x03\x00\x7a\x02\x00\x00").await;
        }
    });
    let result = version(with_token(&url).build().expect("complete")).await;
    matrix.row("the TLS handshake ends early", "GET", 0, result);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    for (method, verb) in [(Method::Get, "GET"), (Method::Post, "POST")] {
        // Accepts the connection and sends nothing.
        let client = with_token(&url)
            .timeout(Duration::from_millis(100))
            .retry(RetryPolicy::none())
            .build()
            .expect("complete");
        let result = client.request::<proxmox_api::Value>(method, "/pools").await;
        let name = "the time limit ends during the TLS handshake";
        matrix.row(name, verb, 0, result);
    }

    let (url, ca_pem, count) = cut_off().await;
    let client = with_token(&url).ca_pem(ca_pem).build().expect("complete");
    let result = client
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .await;
    matrix.row(
        "TLS ends within the answer",
        "POST",
        count.load(Ordering::SeqCst),
        result,
    );
}

/// A TLS server that announces more than it sends, and closes the socket without close_notify.
async fn cut_off() -> (String, String, Arc<AtomicUsize>) {
    let generated =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let chain = vec![CertificateDer::from(generated.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            if request_line(&mut stream).await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"data\":")
                    .await;
                let _ = stream.flush().await;
            }
            let (mut socket, _) = stream.into_inner();
            let _ = socket.shutdown().await;
        }
    });
    (
        format!("https://localhost:{port}"),
        generated.cert.pem(),
        count,
    )
}

async fn logins(matrix: &mut Matrix) {
    let with_password = |pve: &Simulator, password: &str| {
        Client::builder(pve.url())
            .password("root@pam", password)
            .ca_pem(pve.ca_pem())
            .retry(patient())
    };
    let pve = simulator().await;
    let result = version(
        with_password(&pve, "wr0ng-password")
            .build()
            .expect("complete"),
    )
    .await;
    matrix.row(
        "a wrong password",
        "GET",
        pve.count_requests("GET", "/version"),
        result,
    );

    let name = "the ticket expires during 20 calls";
    let pve = simulator().await;
    let here = Clock::manual(1_800_000_000);
    let now = here.clone();
    let client = with_password(&pve, PASSWORD).clock(move || UNIX_EPOCH + now.now());
    let client = client.build().expect("complete");
    client.login().await.expect("accepted");
    pve.clock().advance(Duration::from_secs(3 * 3600));
    pve.clear_requests();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(
            client
                .request::<proxmox_api::Value>(Method::Get, "/version")
                .into_future(),
        );
    }
    while let Some(result) = calls.join_next().await {
        result
            .expect("no panic")
            .expect("accepted with another ticket");
    }
    assert_eq!(
        pve.count_requests("POST", "/access/ticket"),
        1,
        "one login for all of them"
    );
    matrix.row(
        name,
        "20 GET",
        pve.count_requests("GET", "/version"),
        Ok(()),
    );

    let name = "both clocks advance by two hours";
    // The client's clock is behind by the server's earlier advance.
    here.advance(Duration::from_secs(3 * 3600));
    version(client.clone()).await.expect("with another ticket");
    pve.clock().advance(Duration::from_secs(2 * 3600));
    here.advance(Duration::from_secs(2 * 3600));
    pve.clear_requests();
    let result = version(client.clone()).await;
    matrix.row(name, "GET", pve.count_requests("GET", "/version"), result);

    let name = "the ticket expires by the client's clock, too";
    pve.clock().advance(Duration::from_secs(3 * 3600));
    here.advance(Duration::from_secs(6 * 3600));
    pve.clear_requests();
    let result = version(client).await;
    matrix.row(name, "GET", pve.count_requests("GET", "/version"), result);

    let (url, count) = raw(|_, line| match line.contains("/access/ticket") {
        true => http(
            "200 OK",
            "",
            r#"{"data":{"ticket":"PVE:root@pam:6B49D200::x","CSRFPreventionToken":"c"}}"#,
        ),
        false => Some("HTTP/1.1 401 Authentication failed!\r\nConnection: close\r\n\r\n".into()),
    })
    .await;
    let client = Client::builder(&url)
        .password("root@pam", PASSWORD)
        .retry(patient());
    let result = version(client.build().expect("complete")).await;
    let logins = 2;
    matrix.row(
        "every ticket is refused",
        "GET",
        count.load(Ordering::SeqCst) - logins,
        result,
    );

    let pve = Simulator::builder()
        .time_factor(0.0)
        .user("root@pam", PASSWORD)
        .second_factor("root@pam", "123456")
        .start()
        .await
        .expect("the simulator starts");
    let result = version(with_password(&pve, PASSWORD).build().expect("complete")).await;
    matrix.row(
        "a second factor is needed and there is no handler",
        "GET",
        pve.count_requests("GET", "/version"),
        result,
    );
    let calls = Arc::new(Mutex::new(0));
    let client = with_password(&pve, PASSWORD).tfa({
        let calls = Arc::clone(&calls);
        move |_| {
            *calls.lock().expect("no panic") += 1;
            async { Ok::<_, Error>(proxmox_api::client::auth::TfaAnswer::totp("123456")) }
        }
    });
    let result = version(client.build().expect("complete")).await;
    assert_eq!(*calls.lock().expect("no panic"), 1);
    matrix.row(
        "a second factor is needed and there is a handler",
        "GET",
        pve.count_requests("GET", "/version"),
        result,
    );
    pve.clear_requests();
    let result = version(
        with_token(&pve.url())
            .ca_pem(pve.ca_pem())
            .api_token(TOKEN_ID, "wr0ng-secret")
            .build()
            .expect("complete"),
    )
    .await;
    matrix.row(
        "a wrong API token",
        "GET",
        pve.count_requests("GET", "/api2/json/version"),
        result,
    );
}

async fn requests(matrix: &mut Matrix) {
    let pve = Simulator::builder()
        .release("7.4")
        .time_factor(0.0)
        .start()
        .await
        .expect("the simulator starts");
    let client = builder_for(&pve).build().expect("complete");
    let result = (client.access().password().put())
        .userid("bob@pve")
        .password("hunter22")
        .await;
    matrix.row(
        "a token for an endpoint that requires a ticket",
        "PUT",
        pve.count_requests("PUT", "/access/password"),
        result,
    );
    let text = "x".repeat(600 * 1024);
    let result = client
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .param("comment", text.as_str())
        .await;
    matrix.row(
        "parameters beyond the server's limit",
        "POST",
        pve.count_requests("POST", "/pools"),
        result,
    );
    let knows = builder_for(&pve).build().expect("complete");
    version(knows.clone()).await.expect("answered");
    let text = "x".repeat(100 * 1024);
    let result = knows
        .request::<proxmox_api::Value>(Method::Post, "/pools")
        .param("comment", text.as_str())
        .await;
    matrix.row(
        "parameters beyond the limit of a server known to be before 8.4",
        "POST",
        pve.count_requests("POST", "/pools"),
        result,
    );
    let result = client.nodes_like("..").await;
    matrix.row("a value that would change the path", "GET", 0, result);

    let result = client.pools().get().poolid("p").await;
    matrix.row(
        "a parameter that is newer than the server",
        "GET",
        pve.count_requests("GET", "/pools"),
        result,
    );
    pve.clear_requests();
    let client = builder_for(&pve)
        .check_availability(true)
        .build()
        .expect("complete");
    let result = client.pools().get().poolid("p").await;
    matrix.row(
        "the same with `check_availability`",
        "GET",
        pve.count_requests("GET", "/pools"),
        result,
    );
}

trait NodesLike {
    async fn nodes_like(&self, value: &str) -> Result<(), Error>;
}

impl NodesLike for Client {
    async fn nodes_like(&self, value: &str) -> Result<(), Error> {
        self.request::<proxmox_api::Value>(Method::Get, format!("/nodes/{value}/qemu"))
            .await
            .map(drop)
    }
}

#[tokio::test]
async fn the_fault_matrix() {
    let mut matrix = Matrix::default();
    connections(&mut matrix).await;
    idle(&mut matrix).await;
    uploads(&mut matrix).await;
    tasks(&mut matrix).await;
    statuses(&mut matrix).await;
    contents(&mut matrix).await;
    encryption(&mut matrix).await;
    logins(&mut matrix).await;
    requests(&mut matrix).await;
    let table = matrix.table();
    println!("{table}");

    for secret in [TOKEN_SECRET, PASSWORD, "wr0ng", "hunter22", "6B49D200::x"] {
        let texts = &matrix.texts;
        assert!(!texts.contains(secret), "{secret} in {texts}");
    }
    Part::read("faults.md", "table").hold(&table);
}
