//! The listener for HTTP: connections, requests, answers.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::app::{App, Body};
use crate::console;
use crate::console::Console;
use crate::faults::Fault;
use crate::http::{Head, ReadHead, Response, encode, plain_error, read_head, until_closed};
use crate::tunnel::TunnelEnd;

const KEEP_ALIVE_REQUESTS: u32 = 100;

/// The time limit of a call that another process answers.
const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of a request.
enum Outcome {
    Answer(Response),
    /// The body ends after this many bytes, whatever its announced length.
    Cut(Response, usize),
    Close,
    /// The connection becomes a WebSocket, which may break after this many bytes.
    Console(Box<Console>, Option<usize>),
    /// Nothing, until the client disconnects.
    Hang,
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
                        let mut leave = Leave(app, &console, TunnelEnd::Sudden);
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
    // The real server closes the connection without the end of TLS.
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

/// Counts the end of a connection even if the server is stopped during it.
struct Leave<'a>(&'a App, &'a Console, TunnelEnd);

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

/// Reads and discards until the peer closes or the time limit.
async fn wait_out<S>(stream: &mut S, time: Duration)
where
    S: AsyncRead + Unpin,
{
    let _ = timeout(time, until_closed(stream)).await;
}

/// Reads the rest of a client's request, so that the reset of an early close does not lose the
/// answer.
async fn drain<S>(stream: &mut S)
where
    S: AsyncRead + Unpin,
{
    wait_out(stream, Duration::from_millis(200)).await;
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
