//! The HTTP/1.x server.
//!
//! pveproxy is its own small line-based server, and what makes it different from others (free reason phrases, two
//! `Connection` headers, answers without a length, silence on oversized headers) is what a client has to cope with.
//! A general-purpose HTTP library would hide or repair most of it, so this is written on the socket.

use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::app::{App, Body};
use crate::clock::http_date;
use crate::console::{self, Console};
use crate::faults::Fault;
use crate::tunnel::Farewell;

/// The empty line after them counts, and fewer than 64 lines may come.
const MAX_FIELDS: usize = 62;
const MAX_HEADER_BYTES: usize = 8192;
const MAX_REQUEST_LINE: u64 = 1 << 20;
const KEEP_ALIVE_REQUESTS: u32 = 100;
const COMPRESS_ABOVE: usize = 1024;
/// How long a call may take that another process answers.
const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

/// Request line and headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Raw request target.
    pub(crate) target: String,
    pub(crate) minor: u8,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn wants_websocket(&self) -> bool {
        self.header("upgrade")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("websocket"))
    }

    /// Path and query, without scheme and authority.
    pub(crate) fn path_and_query(&self) -> (&str, &str) {
        let target = self.target.as_str();
        let target = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        target.split_once('?').unwrap_or((target, ""))
    }
}

/// An answer before it is put on the wire.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// `None` sends neither body nor `Content-Length`.
    pub(crate) body: Option<Vec<u8>>,
    /// Came through the privileged daemon, whose own `Connection` header is passed on.
    pub(crate) from_daemon: bool,
    pub(crate) close: bool,
    /// Held back like every refused login.
    pub(crate) delayed: bool,
    /// Nothing is sent and the connection is left to time out.
    pub(crate) silent: bool,
    /// Where the connection leads if it is upgraded.
    pub(crate) console: Option<Box<Console>>,
}

impl Response {
    pub(crate) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            headers: Vec::new(),
            body: None,
            from_daemon: false,
            close: false,
            delayed: false,
            silent: false,
            console: None,
        }
    }

    pub(crate) fn silence() -> Self {
        let mut response = Self::new(0, "");
        response.silent = true;
        response
    }

    pub(crate) fn with_body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        if !content_type.is_empty() {
            self.headers.push(("Content-Type", content_type.to_owned()));
        }
        self.body = Some(body);
        self
    }
}

/// What becomes of a request.
enum Outcome {
    Answer(Response),
    /// The body ends after so many bytes, whatever the length says.
    Cut(Response, usize),
    Close,
    /// The connection goes on as a WebSocket, which may break after so many bytes.
    Console(Box<Console>, Option<usize>),
    /// Nothing, for as long as the client stays.
    Hang,
}

pub(crate) enum ReadHead {
    Head(Head),
    /// Nothing more comes.
    Closed,
    /// Too many or too long headers: the real server just stops answering.
    Silence,
    Bad(Response),
}

/// Serves one connection until it closes.
pub(crate) async fn serve(stream: TlsStream<TcpStream>, app: &App) {
    let mut stream = BufReader::new(stream);
    let mut served = 0;
    loop {
        let read = match timeout(app.idle_timeout(), read_head(&mut stream)).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) | Err(_) => break,
        };
        served += 1;
        let mut cut = None;
        let (response, head) = match read {
            ReadHead::Head(head) => match respond(&mut stream, app, &head).await {
                Outcome::Answer(response) => (response, Some(head)),
                Outcome::Cut(response, after) => {
                    cut = Some(after);
                    (response, Some(head))
                }
                Outcome::Close => break,
                Outcome::Console(console, limit) => {
                    if shake_hands(stream.get_mut(), &head).await.is_ok() {
                        app.link_console(&console, None);
                        let mut leave = Leave(app, &console, Farewell::Sudden);
                        console::serve(&mut stream, &console, limit, &mut leave.2).await;
                    }
                    break;
                }
                Outcome::Hang => {
                    until_closed(&mut stream).await;
                    break;
                }
            },
            ReadHead::Bad(response) => (response, None),
            ReadHead::Silence => (Response::silence(), None),
            ReadHead::Closed => break,
        };
        if response.delayed {
            tokio::time::sleep(app.scaled(Duration::from_secs(3))).await;
        }
        if response.silent {
            wait_out(&mut stream, app.idle_timeout()).await;
            break;
        }
        let keep = keep_alive(head.as_ref(), &response, served);
        let empty = response.body.is_none();
        let Some(mut bytes) = encode(response, head.as_ref(), keep, app.clock().now()) else {
            wait_out(&mut stream, app.idle_timeout()).await;
            break;
        };
        if let Some(after) = cut {
            let body = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            bytes.truncate(body.map_or(0, |at| at + 4).saturating_add(after));
        }
        if stream.get_mut().write_all(&bytes).await.is_err()
            || stream.get_mut().flush().await.is_err()
        {
            break;
        }
        if !keep || cut.is_some() {
            break;
        }
        if empty {
            // Without a length the client cannot tell where the answer ends until the connection does.
            wait_out(&mut stream, app.idle_timeout()).await;
            break;
        }
    }
    // The real server ends the connection below TLS, which says no goodbye.
    let (mut stream, _) = stream.into_inner().into_inner();
    let _ = stream.shutdown().await;
    drain(&mut stream).await;
}

/// Answers plain HTTP on the TLS port.
pub(crate) async fn redirect_to_https<S>(stream: S, app: &App)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    let Ok(Ok(ReadHead::Head(head))) = timeout(app.idle_timeout(), read_head(&mut stream)).await
    else {
        return;
    };
    let Some(host) = head.header("host") else {
        wait_out(&mut stream, app.idle_timeout()).await;
        return;
    };
    let (status, reason) = if head.method == "GET" {
        (301, "Moved Permanently")
    } else {
        (308, "Permanent Redirect")
    };
    let mut response = Response::new(status, reason).with_body("", reason.as_bytes().to_vec());
    response
        .headers
        .push(("Location", format!("https://{host}{}", head.target)));
    if let Some(bytes) = encode(response, Some(&head), true, app.clock().now()) {
        let _ = stream.get_mut().write_all(&bytes).await;
    }
    let _ = stream.get_mut().shutdown().await;
}

async fn respond<S>(stream: &mut BufReader<S>, app: &App, head: &Head) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let admitted = match app.admit(head) {
        Ok(admitted) => admitted,
        Err(response) => return Outcome::Answer(*response),
    };
    let verdict = app.verdict(&admitted);
    let fault = verdict.fault.as_ref();
    let length = match fault {
        Some(Fault::DropBody(after)) => {
            let after = u64::try_from(*after).unwrap_or(u64::MAX);
            admitted.body_length.min(after)
        }
        _ => admitted.body_length,
    };
    let patience = app.idle_timeout();
    let body = if let Some(mut receiver) = app.receiver(head, &admitted) {
        read_body(stream, length, patience, |chunk| receiver.push(chunk))
            .await
            .map(|()| Body::Upload(receiver.finish()))
    } else {
        let mut bytes = Vec::new();
        read_body(stream, length, patience, |chunk| {
            bytes.extend_from_slice(chunk);
        })
        .await
        .map(|()| Body::Bytes(bytes))
    };
    let Some(body) = body else {
        return Outcome::Close;
    };
    if !verdict.latency.is_zero() {
        tokio::time::sleep(verdict.latency).await;
    }
    match fault {
        Some(Fault::Drop | Fault::DropBody(_)) => {
            app.unanswered(&admitted);
            return Outcome::Close;
        }
        Some(Fault::Hang) => {
            app.unanswered(&admitted);
            return Outcome::Hang;
        }
        _ => {}
    }
    let response = app.answer(head, &admitted, body, fault);
    let mut response = response;
    if head.wants_websocket()
        && let Some(console) = response.console.take()
    {
        let version = head.header("sec-websocket-version").map(str::trim);
        if version != Some("13") || head.header("sec-websocket-key").is_none() {
            let text = "websocket version 13 and a key are needed";
            return Outcome::Answer(plain_error(400, text));
        }
        let limit = match fault {
            Some(Fault::BreakConsole(after)) => Some(*after),
            _ => None,
        };
        return Outcome::Console(console, limit);
    }
    match fault {
        Some(Fault::DropAnswer) => Outcome::Close,
        Some(Fault::Truncate(after)) => Outcome::Cut(response, *after),
        Some(Fault::Timeout) => {
            tokio::time::sleep(app.scaled(PROXY_TIMEOUT)).await;
            Outcome::Answer(response)
        }
        _ => Outcome::Answer(response),
    }
}

async fn shake_hands<S>(stream: &mut S, head: &Head) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let key = head.header("sec-websocket-key").unwrap_or("");
    let accept = console::accept_key(key.trim());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(protocol) = head.header("sec-websocket-protocol") {
        answer.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    answer.push_str("\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

/// Counts a connection out even where the server is stopped in the middle of it.
struct Leave<'a>(&'a App, &'a Console, Farewell);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.link_console(self.1, Some(self.2));
    }
}

/// `None` when the client stops before the end.
async fn read_body<S>(
    stream: &mut BufReader<S>,
    length: u64,
    patience: Duration,
    mut take: impl FnMut(&[u8]),
) -> Option<()>
where
    S: AsyncRead + Unpin,
{
    let mut left = length;
    let mut chunk = vec![0; usize::try_from(left).map_or(64 << 10, |left| left.min(64 << 10))];
    while left > 0 {
        let room = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        let read = timeout(patience, stream.read(&mut chunk[..room]))
            .await
            .ok()?
            .ok()?;
        if read == 0 {
            return None;
        }
        take(&chunk[..read]);
        left -= u64::try_from(read).ok()?;
    }
    Some(())
}

pub(crate) async fn read_head<S>(stream: &mut BufReader<S>) -> std::io::Result<ReadHead>
where
    S: AsyncRead + Unpin,
{
    let mut line = read_line(stream, MAX_REQUEST_LINE).await?;
    if line.is_empty() {
        return Ok(ReadHead::Closed);
    }
    // Some clients send an empty line after a body.
    if trimmed(&line).is_empty() {
        line = read_line(stream, MAX_REQUEST_LINE).await?;
        if line.is_empty() {
            return Ok(ReadHead::Closed);
        }
    }
    let text = latin1(trimmed(&line));
    let Some((method, target, major, minor)) = request_line(&text) else {
        return Ok(ReadHead::Bad(Response::new(400, "bad request")));
    };
    let mut head = Head {
        method,
        target,
        minor,
        headers: Vec::new(),
    };
    if major != 1 {
        let reason = format!("http protocol version {major}.{minor} not supported");
        return Ok(ReadHead::Bad(plain_error(506, &reason)));
    }
    if head.target.contains('@') && !head.target.starts_with('/') {
        return Ok(ReadHead::Bad(plain_error(400, "invalid url")));
    }
    let mut lines = 0;
    let mut bytes = 0;
    let mut overflow = false;
    loop {
        let line = read_line(stream, MAX_REQUEST_LINE).await?;
        if line.is_empty() {
            return Ok(ReadHead::Closed);
        }
        let line = trimmed(&line);
        if line.is_empty() {
            break;
        }
        lines += 1;
        bytes += line.len();
        if lines > MAX_FIELDS || bytes >= MAX_HEADER_BYTES {
            overflow = true;
        }
        if overflow {
            continue;
        }
        let text = latin1(line);
        if text.starts_with([' ', '\t'])
            && let Some((_, value)) = head.headers.last_mut()
        {
            value.push(' ');
            value.push_str(text.trim());
            continue;
        }
        match text.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
                head.headers
                    .push((name.to_owned(), value.trim().to_owned()));
            }
            _ => {
                return Ok(ReadHead::Bad(plain_error(
                    506,
                    "unable to parse request header",
                )));
            }
        }
    }
    Ok(if overflow {
        ReadHead::Silence
    } else {
        ReadHead::Head(head)
    })
}

/// The last three words of the request line, as the real server's unanchored match finds them.
fn request_line(line: &str) -> Option<(String, String, u32, u8)> {
    let at = line.rfind(" HTTP/")?;
    let (major, minor) = line[at + 6..].split_once('.')?;
    let (method, target) = line[..at].rsplit_once(' ')?;
    let method = method.rsplit(' ').next().unwrap_or(method);
    Some((
        method.to_owned(),
        target.to_owned(),
        major.parse().ok()?,
        minor.trim().parse().ok()?,
    ))
}

/// An error of the server itself rather than of an API method.
pub(crate) fn plain_error(status: u16, reason: &str) -> Response {
    Response::new(status, reason).with_body("", reason.as_bytes().to_vec())
}

async fn read_line<S>(stream: &mut BufReader<S>, limit: u64) -> std::io::Result<Vec<u8>>
where
    S: AsyncRead + Unpin,
{
    let mut line = Vec::new();
    stream.take(limit).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn keep_alive(head: Option<&Head>, response: &Response, served: u32) -> bool {
    let Some(head) = head else { return false };
    if response.status >= 400 || response.close || served >= KEEP_ALIVE_REQUESTS {
        return false;
    }
    match head.header("connection") {
        Some(value) => !value.to_ascii_lowercase().contains("close"),
        None => head.minor >= 1,
    }
}

/// `None` when the reason phrase holds what the real server fails to write.
pub(crate) fn encode(
    mut response: Response,
    head: Option<&Head>,
    keep: bool,
    now: Duration,
) -> Option<Vec<u8>> {
    if response.reason.contains('\r') {
        response = Response::new(400, "Bad Request");
    }
    let mut reason = Vec::new();
    for c in response.reason.chars() {
        reason.push(u8::try_from(u32::from(c)).ok()?);
    }
    let encoding = head
        .and_then(|head| head.header("accept-encoding"))
        .unwrap_or("");
    let mut content_encoding = None;
    if let Some(body) = &mut response.body
        && body.len() > COMPRESS_ABOVE
    {
        if encoding.contains("gzip") {
            let mut gzip =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            if gzip.write_all(body).is_ok()
                && let Ok(packed) = gzip.finish()
            {
                *body = packed;
                content_encoding = Some("gzip");
            }
        } else if encoding.contains("deflate") {
            let mut zlib =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            if zlib.write_all(body).is_ok()
                && let Ok(packed) = zlib.finish()
            {
                *body = packed;
                content_encoding = Some("deflate");
            }
        }
    }
    let version = match head {
        Some(head) if head.minor >= 1 => "1.1",
        _ => "1.0",
    };
    let date = http_date(now);
    let mut out = Vec::with_capacity(512 + response.body.as_ref().map_or(0, Vec::len));
    out.extend_from_slice(format!("HTTP/{version} {} ", response.status).as_bytes());
    out.extend_from_slice(&reason);
    out.extend_from_slice(b"\r\nCache-Control: max-age=0\r\n");
    if response.from_daemon && response.status < 400 {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    let connection = if keep { "Keep-Alive" } else { "close" };
    out.extend_from_slice(
        format!(
            "Connection: {connection}\r\nDate: {date}\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n"
        )
        .as_bytes(),
    );
    if let Some(encoding) = content_encoding {
        out.extend_from_slice(format!("Content-Encoding: {encoding}\r\n").as_bytes());
    }
    if let Some(body) = &response.body {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    for (name, value) in &response.headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("Expires: {date}\r\n\r\n").as_bytes());
    if let Some(body) = response.body {
        out.extend_from_slice(&body);
    }
    Some(out)
}

/// Reads and forgets until the peer closes or the time is over.
async fn wait_out<S>(stream: &mut S, time: Duration)
where
    S: AsyncRead + Unpin,
{
    let _ = timeout(time, until_closed(stream)).await;
}

pub(crate) async fn until_closed<S>(stream: &mut S)
where
    S: AsyncRead + Unpin,
{
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {}
}

/// Takes what a client is still sending, so that the reset of an early close does not eat the answer.
async fn drain<S>(stream: &mut S)
where
    S: AsyncRead + Unpin,
{
    wait_out(stream, Duration::from_millis(200)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        let parse = |line: &str| request_line(line).map(|(m, t, ..)| format!("{m} {t}"));
        assert_eq!(
            parse("GET /api2/json/version HTTP/1.1").as_deref(),
            Some("GET /api2/json/version")
        );
        assert_eq!(
            parse("GET /api2/json/ver sion HTTP/1.1").as_deref(),
            Some("/api2/json/ver sion")
        );
        assert_eq!(parse("GET /x"), None);
    }

    #[test]
    fn phrases_the_server_cannot_write() {
        let now = Duration::ZERO;
        assert!(encode(Response::new(500, "snow \u{2603}"), None, false, now).is_none());
        let latin = encode(Response::new(500, "gr\u{fc}n"), None, false, now).expect("Latin-1");
        assert!(latin.starts_with(b"HTTP/1.0 500 gr\xfcn\r\n"));
        let cr = encode(Response::new(500, "a\rb"), None, false, now).expect("replaced");
        assert!(cr.starts_with(b"HTTP/1.0 400 Bad Request\r\n"));
    }

    #[test]
    fn absolute_targets_lose_their_authority() {
        let head = Head {
            method: "GET".into(),
            target: "https://127.0.0.1:8006/api2/json/version?x=1".into(),
            minor: 1,
            headers: Vec::new(),
        };
        assert_eq!(head.path_and_query(), ("/api2/json/version", "x=1"));
    }
}
