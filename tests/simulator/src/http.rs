//! The HTTP/1.x server.
//!
//! pveproxy is a small line-based server, and clients have to handle its differences from other
//! servers (free reason phrases, two `Connection` headers, answers without a length, silence on
//! oversized headers). A general-purpose HTTP library would hide or repair most of them, so this
//! reads and writes the socket itself.

use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::clock::http_date;
use crate::console::Console;
use crate::text::latin1;

/// The server accepts fewer than 64 lines, including the empty last one.
const MAX_HEADER_LINES: usize = 62;

const MAX_HEADER_BYTES: usize = 8192;

const MAX_REQUEST_LINE: u64 = 1 << 20;

const COMPRESS_ABOVE: usize = 1024;

/// Request line and headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Raw request target.
    pub(crate) target: String,
    /// Of the HTTP version: 0 or 1.
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
    /// Answered by the privileged daemon, whose own `Connection` header is passed on.
    pub(crate) from_daemon: bool,
    pub(crate) close: bool,
    /// Delayed like every refused login.
    pub(crate) delayed: bool,
    /// Nothing is sent and the connection is left to time out.
    pub(crate) silent: bool,
    /// The console of an upgraded connection.
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

pub(crate) enum ReadHead {
    Head(Head),
    /// The connection is closed.
    Closed,
    /// Too many or too long headers: the real server stops answering.
    Silence,
    Bad(Response),
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
        if lines > MAX_HEADER_LINES || bytes >= MAX_HEADER_BYTES {
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

/// `None` if the real server could not write the reason phrase.
pub(crate) fn encode(
    mut response: Response,
    head: Option<&Head>,
    keep_alive: bool,
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
    let connection = if keep_alive { "Keep-Alive" } else { "close" };
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

pub(crate) async fn until_closed<S>(stream: &mut S)
where
    S: AsyncRead + Unpin,
{
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {}
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
    fn phrases_that_the_server_cannot_write() {
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
