//! Consoles of guests and nodes: terminal, VNC, SPICE ([wire protocol §10](crate::guide::wire_protocol)). Feature `console`.
//!
//! Terminal and VNC use a WebSocket over the client's own connections, so its trust settings, pins
//! included, apply to them too. The ticket of a console is valid for 40 seconds and is used at
//! once.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! let mut terminal = pve.lxc_console("pve1", 101).terminal().await?;
//! terminal.resize(80, 24).await?;
//! terminal.write(b"uptime\n").await?;
//! while let Some(output) = terminal.read().await? {
//!     println!("{}", String::from_utf8_lossy(&output));
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures_core::Stream;
use futures_util::{Sink, SinkExt};
use ring::digest::{Context as Digest, SHA1_FOR_LEGACY_USE_ONLY};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_websockets::{ClientBuilder, Config, Error as WsError, Limits, Message, WebSocketStream};

use crate::bounds::{Bound, Exceeded};
use crate::client::Client;
use crate::client::call::Call;
use crate::client::path::PathNode;
use crate::client::request::exchange;
use crate::client::send::{Delivered, Exchange, Exchanged, Received};
use crate::error::{CallId, Error};
use crate::transport::{Duplex, Transport, TransportError, Upgraded, WireRequest};
use crate::value::Secret;
use crate::value::decode::{DecodeError, decode_data};
use crate::value::encode::{ParamValue, ToParam};
use crate::value::endpoint::Method;

/// The server reads no frame of more than 128 KiB, and closes the connection after a fragmented
/// one.
const FRAME: usize = 32 * 1024;
/// The server closes a terminal that receives nothing for a while.
const PING: Duration = Duration::from_secs(30);
/// The limit on consecutive pings that are answered while nothing else is sent. A server that does
/// not read the answers would make them accumulate.
const PINGS: u32 = 10_000;
/// The time in which the terminal has to accept its ticket; the server itself waits 10 seconds for
/// it.
const GREETING: Duration = Duration::from_secs(15);

impl Client {
    /// The console of a container.
    pub fn lxc_console(&self, node: impl fmt::Display, vmid: impl fmt::Display) -> Console {
        self.console("lxc", &node, Some(&vmid))
    }

    /// The console of a virtual machine: its display, or a serial port as a terminal.
    pub fn qemu_console(&self, node: impl fmt::Display, vmid: impl fmt::Display) -> Console {
        self.console("qemu", &node, Some(&vmid))
    }

    /// A shell on a node.
    pub fn node_console(&self, node: impl fmt::Display) -> Console {
        self.console("", &node, None)
    }

    fn console(
        &self,
        kind: &str,
        node: &dyn fmt::Display,
        vmid: Option<&dyn fmt::Display>,
    ) -> Console {
        let mut place = PathNode::root(Some(self))
            .literal("nodes")
            .value("node", node);
        if let Some(vmid) = vmid {
            place = place.literal(kind).value("vmid", vmid);
        }
        Console {
            client: self.clone(),
            place,
            of: Of {
                kind: kind.to_owned(),
                node: node.to_string(),
                vmid: vmid.map(|vmid| vmid.to_string()),
            },
            params: Vec::new(),
        }
    }

    /// Attaches to a console that another program opened with [`Console::open_terminal`] or
    /// [`Console::open_vnc`]. The client has to be logged in as the same user, or by the same
    /// token.
    pub fn attach_console(&self, ticket: ConsoleTicket) -> Attach {
        Attach {
            client: self.clone(),
            ticket,
        }
    }
}

/// The owner of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Of {
    kind: String,
    node: String,
    vmid: Option<String>,
}

/// An open console on the server, which can be attached to within 40 seconds; see
/// [`Console::open_terminal`]. It can be passed to another process: [`ConsoleTicket::to_text`] and
/// `parse` turn it into a text and back. **Anyone who has it and the login of the user can use the
/// console.**
#[derive(Clone)]
pub struct ConsoleTicket {
    of: Of,
    port: String,
    user: String,
    ticket: Secret,
    password: Option<Secret>,
}

impl ConsoleTicket {
    /// The port of the node for the console. Only the server itself connects to it.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The user who opened it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The ticket, for programs that use the server's protocol themselves.
    #[must_use]
    pub fn ticket(&self) -> &Secret {
        &self.ticket
    }

    /// The password of a display; `None` for a terminal.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The whole ticket as one line of text, **with its secrets**, for another process.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        let text = serde_json::json!({
            "kind": self.of.kind,
            "node": self.of.node,
            "vmid": self.of.vmid,
            "port": self.port,
            "user": self.user,
            "ticket": self.ticket.expose(),
            "password": self.password.as_ref().map(Secret::expose),
        });
        Secret::new(text.to_string())
    }
}

impl std::str::FromStr for ConsoleTicket {
    type Err = DecodeError;

    /// Parses the output of [`ConsoleTicket::to_text`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |what: &str| DecodeError::new("ticket", format!("expected {what}"));
        // The error does not quote the text.
        let value: Value = serde_json::from_str(text).map_err(|_| invalid("a console's ticket"))?;
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        let needed = |key: &str| text(key).ok_or_else(|| invalid(key));
        Ok(Self {
            of: Of {
                kind: needed("kind")?,
                node: needed("node")?,
                vmid: text("vmid"),
            },
            port: needed("port")?,
            user: needed("user")?,
            ticket: Secret::new(needed("ticket")?),
            password: text("password").map(Secret::new),
        })
    }
}

impl fmt::Debug for ConsoleTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleTicket")
            .field("of", &self.of)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A console that was opened elsewhere; made by [`Client::attach_console`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Attach {
    client: Client,
    ticket: ConsoleTicket,
}

impl Attach {
    fn opened(&self) -> (Console, Opened) {
        let of = &self.ticket.of;
        let vmid = of.vmid.as_ref().map(|vmid| vmid as &dyn fmt::Display);
        let console = self.client.console(&of.kind, &of.node, vmid);
        let name = self
            .client
            .call_id(&console.call(Method::Get, "vncwebsocket"));
        let data = serde_json::json!({
            "port": self.ticket.port,
            "user": self.ticket.user,
            "ticket": self.ticket.ticket.expose(),
            "password": self.ticket.password.as_ref().map(Secret::expose),
        });
        (console, Opened { name, data })
    }

    /// Attaches to a terminal, once.
    ///
    /// # Errors
    /// Those of [`Console::terminal`]; a refusal if the ticket is too old or was used.
    pub async fn terminal(&self) -> Result<Terminal, Error> {
        let (console, opened) = self.opened();
        console.enter_terminal(opened).await
    }

    /// Attaches to a display, once.
    ///
    /// # Errors
    /// Those of [`Console::vnc`]; a refusal if the ticket is too old or was used.
    pub async fn vnc(&self) -> Result<Vnc, Error> {
        let (console, opened) = self.opened();
        console.enter_vnc(opened).await
    }
}

/// A console that can be opened; made by [`Client::lxc_console`], [`Client::qemu_console`] and
/// [`Client::node_console`].
#[derive(Clone)]
#[must_use = "does nothing unless opened"]
pub struct Console {
    client: Client,
    place: PathNode,
    of: Of,
    params: Vec<(String, ParamValue)>,
}

impl Console {
    /// Adds a parameter to the call that opens the console: `serial` for a machine's terminal,
    /// `height` for a container's display, `cmd` for the program of a node's shell, `proxy` for
    /// SPICE.
    pub fn param(mut self, name: impl Into<String>, value: impl ToParam) -> Self {
        self.params.push((name.into(), value.to_param()));
        self
    }

    /// Opens a terminal. Starts a task on the node, which ends with it.
    ///
    /// # Errors
    /// Those of every request; [`Error::Interrupted`] if the terminal does not accept the ticket.
    pub async fn terminal(&self) -> Result<Terminal, Error> {
        let opened = self.open("termproxy", &[]).await?;
        self.enter_terminal(opened).await
    }

    /// Opens a terminal for another program to attach to; see [`Client::attach_console`].
    ///
    /// # Errors
    /// Those of every request.
    pub async fn open_terminal(&self) -> Result<ConsoleTicket, Error> {
        let opened = self.open("termproxy", &[]).await?;
        self.hand_over(&opened, None)
    }

    /// Opens the display for another program to attach to; see [`Client::attach_console`].
    ///
    /// # Errors
    /// Those of [`Console::vnc`].
    pub async fn open_vnc(&self) -> Result<ConsoleTicket, Error> {
        let opened = self.open(self.display(), &[("websocket", "1")]).await?;
        let password = match opened.text("password") {
            Ok(password) => password,
            Err(_) => opened.text("ticket")?,
        };
        self.hand_over(&opened, Some(Secret::new(password)))
    }

    fn hand_over(&self, opened: &Opened, password: Option<Secret>) -> Result<ConsoleTicket, Error> {
        Ok(ConsoleTicket {
            of: self.of.clone(),
            port: opened.text("port")?,
            user: opened.text("user")?,
            ticket: Secret::new(opened.text("ticket")?),
            password,
        })
    }

    fn display(&self) -> &'static str {
        match self.of.vmid {
            None => "vncshell",
            Some(_) => "vncproxy",
        }
    }

    async fn enter_terminal(&self, opened: Opened) -> Result<Terminal, Error> {
        let user = opened.text("user")?;
        let ticket = opened.text("ticket")?;
        let socket = self.connect(&opened).await?;
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminal = Terminal {
            socket,
            ping,
            held: Bytes::new(),
        };
        let hello = format!("{user}:{ticket}\n");
        let greeting = async {
            terminal.socket.send(Bytes::from(hello)).await?;
            terminal.wait_for_greeting().await
        };
        match tokio::time::timeout(GREETING, greeting).await {
            Ok(greeted) => greeted?,
            Err(_) => {
                let error = TransportError::timed_out(GREETING);
                return Err(Error::transport(&opened.name, &self.client.url(), error));
            }
        }
        Ok(terminal)
    }

    /// Opens the display, as a stream of bytes that carries the RFB protocol. Starts a task on the
    /// node, which ends with it.
    ///
    /// # Errors
    /// Those of every request. A node's display refuses API tokens ([wire protocol §7](crate::guide::wire_protocol)).
    pub async fn vnc(&self) -> Result<Vnc, Error> {
        let opened = self.open(self.display(), &[("websocket", "1")]).await?;
        self.enter_vnc(opened).await
    }

    async fn enter_vnc(&self, opened: Opened) -> Result<Vnc, Error> {
        // Servers that make no separate password use the start of the ticket.
        let password = match opened.text("password") {
            Ok(password) => password,
            Err(_) => opened.text("ticket")?,
        };
        let socket = self.connect(&opened).await?;
        Ok(Vnc {
            socket,
            password: Secret::new(password),
            held: Bytes::new(),
        })
    }

    /// Reads the settings for a SPICE viewer.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn spice(&self) -> Result<SpiceFile, Error> {
        let call = match self.of.vmid {
            None => "spiceshell",
            Some(_) => "spiceproxy",
        };
        let opened = self.open(call, &[]).await?;
        let Value::Object(data) = opened.data else {
            return Err(opened.lacks("an object"));
        };
        let entries = data.into_iter().filter_map(|(key, value)| {
            let text = match value {
                Value::Null => return None,
                Value::String(text) => text,
                Value::Bool(value) => u8::from(value).to_string(),
                other => other.to_string(),
            };
            Some((key, text))
        });
        Ok(SpiceFile(entries.collect()))
    }

    fn call(&self, method: Method, below: &str) -> Call {
        self.place.literal(below).call(method)
    }

    async fn open(&self, below: &str, fixed: &[(&'static str, &str)]) -> Result<Opened, Error> {
        let mut call = self.call(Method::Post, below);
        for (name, value) in fixed {
            call.params.set(*name, value.to_param());
        }
        for (name, value) in &self.params {
            call.params.set(name.clone(), value.clone());
        }
        let (_, name, reply) = exchange(Some(self.client.clone()), call).await?;
        match decode_data(&reply) {
            Ok(data) => Ok(Opened { name, data }),
            Err(error) => Err(self.client.undecodable(name, &reply.secrets, error)),
        }
    }

    async fn connect(&self, opened: &Opened) -> Result<Socket, Error> {
        let mut call = self.call(Method::Get, "vncwebsocket");
        call.params.set("port", opened.text("port")?.to_param());
        let ticket = opened.text("ticket")?;
        call.params.set("vncticket", ticket.to_param());
        let name = self.client.call_id(&call);
        let mut switching = Switching(new_key()?);
        let delivery = self.client.deliver(&name, &call, &mut switching).await?;
        let origin = delivery.origin;
        let no_socket =
            |text: &str| Error::transport(&name, &origin, TransportError::interrupted(text));
        let Delivered::Switched(head, connection) = delivery.delivered else {
            return Err(no_socket("it did not switch to WebSocket"));
        };
        let accepted = accepted(&switching.0);
        if head.header("sec-websocket-accept") != Some(accepted.as_str()) {
            return Err(no_socket("its answer belongs to another WebSocket request"));
        }
        let frame = self.client.bounds().frame;
        let stream = ClientBuilder::new()
            .limits(Limits::default().max_payload_len(Some(frame)))
            .config(Config::default().frame_size(FRAME * 4))
            .take_over(connection);
        Ok(Socket {
            stream,
            name,
            origin,
            max: frame,
            pings: 0,
            closing: false,
        })
    }
}

/// A random `Sec-WebSocket-Key`.
fn new_key() -> Result<String, Error> {
    let mut key = [0; 16];
    (SystemRandom::new().fill(&mut key))
        .map_err(|_| Error::config("the system provides no random numbers"))?;
    Ok(STANDARD.encode(key))
}

/// The server's expected answer to a key (RFC 6455 §1.3).
fn accepted(key: &str) -> String {
    let mut digest = Digest::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.finish())
}

/// Turns a connection into a WebSocket, with this key.
struct Switching(String);

impl Exchange for Switching {
    fn send<'a>(&'a mut self, transport: &'a dyn Transport, request: WireRequest) -> Exchanged<'a> {
        Box::pin(async move {
            Ok(match transport.upgrade(upgrade(request, &self.0)).await? {
                Upgraded::Switched(head, connection) => Received::Switched(head, connection),
                Upgraded::Answered(answer) => Received::Whole(answer),
            })
        })
    }
}

/// Adds the header fields that request a WebSocket.
fn upgrade(mut request: WireRequest, key: &str) -> WireRequest {
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Protocol", "binary"),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    request
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({:?})", self.place)
    }
}

/// The server's answer to a request for a console.
struct Opened {
    name: CallId,
    data: Value,
}

impl Opened {
    /// A member; the server writes the port as a number or as digits.
    fn text(&self, key: &'static str) -> Result<String, Error> {
        match self.data.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(self.lacks(key)),
        }
    }

    fn lacks(&self, what: &str) -> Error {
        let error = DecodeError::new("data", format!("expected {what}"));
        Error::decode(self.name.clone(), error)
    }
}

/// The WebSocket below a console.
struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    name: CallId,
    origin: String,
    /// The maximum length of a message.
    max: usize,
    /// The number of pings since something other than an answer to them was sent.
    pings: u32,
    /// Whether a close frame was sent.
    closing: bool,
}

impl Socket {
    fn broken(&self, error: &WsError) -> Error {
        if let WsError::PayloadTooLong { .. } = error {
            let exceeded = Exceeded::new(Bound::Frame, self.max);
            return Error::exceeded(&self.name, exceeded);
        }
        let error = TransportError::interrupted(error.to_string());
        Error::transport(&self.name, &self.origin, error)
    }

    /// Sends one frame: as text if it is UTF-8, as the web interface does. The server accepts
    /// either.
    async fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        let message = match std::str::from_utf8(&bytes) {
            Ok(_) => Message::text(bytes),
            Err(_) => Message::binary(bytes),
        };
        let sent = self.stream.send(message).await;
        self.pings = 0;
        sent.map_err(|error| self.broken(&error))
    }

    async fn close(&mut self) -> Result<(), Error> {
        let closed = std::future::poll_fn(|context| self.poll_close(context)).await;
        closed.map_err(|error| self.broken(&error))
    }

    /// Sends a close frame, without waiting for an answer: the server sends none.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut stream = Pin::new(&mut self.stream);
        let mut closed = Ok(());
        if !self.closing {
            self.closing = true;
            closed = stream.as_mut().start_send(Message::close(None, ""));
        }
        if closed.is_ok() {
            closed = ready!(stream.poll_flush(context));
        }
        Poll::Ready(match closed {
            Err(error) if !is_end(&error) => Err(error),
            _ => Ok(()),
        })
    }

    /// The next message; `None` at the end.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, WsError>>> {
        loop {
            return Poll::Ready(
                match ready!(Pin::new(&mut self.stream).poll_next(context)) {
                    None => None,
                    Some(Ok(message)) if message.is_close() => None,
                    Some(Ok(message)) if message.is_ping() => {
                        self.pings += 1;
                        if self.pings <= PINGS {
                            continue;
                        }
                        let text = "the server sends too many pings";
                        Some(Err(io::Error::other(text).into()))
                    }
                    Some(Ok(message)) if message.is_pong() => continue,
                    Some(Ok(message)) => Some(Ok(message.into_payload().into())),
                    Some(Err(error)) if is_end(&error) => None,
                    Some(Err(error)) => Some(Err(error)),
                },
            );
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        let bytes = std::future::poll_fn(|context| self.poll_bytes(context)).await;
        bytes.transpose().map_err(|error| self.broken(&error))
    }
}

/// The server ends a console by closing the connection, never by a close frame.
fn is_end(error: &WsError) -> bool {
    match error {
        WsError::AlreadyClosed => true,
        WsError::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// A terminal; made by [`Console::terminal`]. Dropping it ends the session.
pub struct Terminal {
    socket: Socket,
    ping: Interval,
    /// Bytes that arrived with the greeting.
    held: Bytes,
}

impl Terminal {
    /// Waits for the terminal's initial `OK`.
    async fn wait_for_greeting(&mut self) -> Result<(), Error> {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let Some(bytes) = self.socket.receive().await? else {
                break;
            };
            seen.extend_from_slice(&bytes);
        }
        if !seen.starts_with(b"OK") {
            let error = TransportError::interrupted("the terminal did not accept the ticket");
            return Err(Error::transport(
                &self.socket.name,
                &self.socket.origin,
                error,
            ));
        }
        self.held = Bytes::from(seen.split_off(2));
        Ok(())
    }

    /// The next output of the terminal; `None` at the end of the session. A character may be split
    /// between two pieces. Dropping the future loses nothing.
    ///
    /// The server closes a terminal that receives nothing, so this also sends a ping every 30
    /// seconds.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the connection breaks.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.held.is_empty() {
            return Ok(Some(std::mem::take(&mut self.held)));
        }
        loop {
            tokio::select! {
                bytes = self.socket.receive() => match bytes? {
                    Some(bytes) if bytes.is_empty() => {}
                    bytes => return Ok(bytes),
                },
                _ = self.ping.tick() => self.socket.send(Bytes::from_static(b"2")).await?,
            }
        }
    }

    /// Sends input.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the connection breaks or the session is over.
    pub async fn write(&mut self, input: &[u8]) -> Result<(), Error> {
        for piece in input.chunks(FRAME) {
            let mut message = format!("0:{}:", piece.len()).into_bytes();
            message.extend_from_slice(piece);
            self.socket.send(Bytes::from(message)).await?;
        }
        Ok(())
    }

    /// Sends the size of the window.
    ///
    /// # Errors
    /// Those of [`Terminal::write`].
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        let message = format!("1:{columns}:{rows}:");
        self.socket.send(Bytes::from(message)).await
    }

    /// Connects the terminal with an input and an output until either the session or the input
    /// ends. Window sizes come from a channel; close it to keep the size.
    ///
    /// # Errors
    /// Those of [`Terminal::read`]; [`Error::Local`] if input or output fail.
    pub async fn attach(
        &mut self,
        input: &mut (impl AsyncRead + Unpin + ?Sized),
        output: &mut (impl AsyncWrite + Unpin + ?Sized),
        sizes: &mut tokio::sync::mpsc::Receiver<(u16, u16)>,
    ) -> Result<(), Error> {
        let mut typed = vec![0; FRAME];
        let name = self.socket.name.clone();
        let local = |what, error| Error::local(&name, what, error);
        loop {
            tokio::select! {
                shown = self.read() => {
                    let Some(shown) = shown? else { return Ok(()) };
                    let written = output.write_all(&shown).await;
                    written.map_err(|error| local("writing the terminal's output", error))?;
                    let flushed = output.flush().await;
                    flushed.map_err(|error| local("writing the terminal's output", error))?;
                }
                count = input.read(&mut typed) => {
                    match count.map_err(|error| local("reading the terminal's input", error))? {
                        0 => return Ok(()),
                        count => self.write(&typed[..count]).await?,
                    }
                }
                Some((columns, rows)) = sizes.recv() => self.resize(columns, rows).await?,
            }
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the connection was broken before.
    pub async fn close(mut self) -> Result<(), Error> {
        self.socket.close().await
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terminal({})", self.socket.name)
    }
}

/// A display; made by [`Console::vnc`]. Dropping it ends the session.
///
/// It carries the RFB protocol as over TCP, so a local port can be connected to it with
/// [`tokio::io::copy_bidirectional`].
pub struct Vnc {
    socket: Socket,
    password: Secret,
    held: Bytes,
}

impl Vnc {
    /// The password of the VNC login.
    #[must_use]
    pub fn password(&self) -> &Secret {
        &self.password
    }
}

fn as_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        error if is_end(&error) => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error.to_string()),
    }
}

impl AsyncRead for Vnc {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            match ready!(self.socket.poll_bytes(context)) {
                None => return Poll::Ready(Ok(())),
                Some(bytes) => self.held = bytes.map_err(as_io)?,
            }
        }
        let count = buffer.remaining().min(self.held.len());
        buffer.put_slice(&self.held[..count]);
        self.held.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Vnc {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut stream = Pin::new(&mut self.socket.stream);
        ready!(stream.as_mut().poll_ready(context)).map_err(as_io)?;
        let piece = &bytes[..bytes.len().min(FRAME)];
        let message = Message::binary(Bytes::copy_from_slice(piece));
        stream.as_mut().start_send(message).map_err(as_io)?;
        // Accepted bytes are sent as far as possible now, since callers need not flush.
        match stream.poll_flush(context) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(as_io(error))),
            Poll::Ready(Ok(())) => self.socket.pings = 0,
            Poll::Pending => {}
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.socket.stream);
        stream.poll_flush(context).map_err(as_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_close(context).map_err(as_io)
    }
}

impl fmt::Debug for Vnc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vnc({})", self.socket.name)
    }
}

/// The settings of a SPICE viewer; made by [`Console::spice`]. Its ticket is valid for 40 seconds.
///
/// Its `Debug` form shows no values, since one of them is a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SpiceFile(BTreeMap<String, String>);

impl SpiceFile {
    /// One of its settings, such as `host` or `proxy`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The text of a `.vv` file, which `remote-viewer` opens. Holds the password, and asks the viewer
    /// to delete the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = "[virt-viewer]\n".to_owned();
        for (key, value) in &self.0 {
            // The format has an escape for line ends, and the cluster's certificate has many.
            let value = value.replace('\r', "").replace('\n', "\\n");
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }
}

impl fmt::Debug for SpiceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpiceFile")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
