//! Consoles behind WebSockets: framing, the terminal protocol, a small shell and a small display (wire protocol §10).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{
    AsyncBufRead, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::time::timeout;

use crate::tunnel::{Tunnel, TunnelEnd};

/// The longest frame that the real server accepts.
const MAX_FRAME: u64 = 128 << 10;

/// The time in which a terminal expects the line with user and ticket.
const HANDSHAKE: Duration = Duration::from_secs(10);

const WIDTH: u16 = 64;

const HEIGHT: u16 = 48;

/// The kind of a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal behind the xterm.js protocol.
    Terminal,
    /// A VNC server.
    Display,
    /// The receiving end of a migration; `path` is its socket.
    Tunnel,
}

/// A console with an issued ticket.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) port: u16,
    /// Its access path, `/vms/100` or `/nodes/pve1`.
    pub(crate) path: String,
    /// The full id of the user who requested it.
    pub(crate) user: String,
    pub(crate) ticket: String,
    pub(crate) password: Option<String>,
    pub(crate) upid: String,
    pub(crate) screen: Screen,
    /// Name shown in the prompt.
    pub(crate) host: String,
    /// The console does not respond, as for a stopped guest.
    pub(crate) dead: bool,
    pub(crate) issued: Duration,
    /// Open connections.
    pub(crate) links: u32,
}

impl Console {
    /// Whether a text is this console's ticket, with or without the password before it.
    pub(crate) fn takes(&self, ticket: &str) -> bool {
        ticket == self.ticket
            || self.password.as_ref().is_some_and(|password| {
                ticket
                    .strip_prefix(password.as_str())
                    .and_then(|rest| rest.strip_prefix(':'))
                    == Some(&self.ticket)
            })
    }
}

/// Answer to the key of a handshake.
pub(crate) fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    STANDARD.encode(hash.as_ref())
}

/// Serves an upgraded connection until either side ends it.
pub(crate) async fn serve<S>(
    stream: &mut BufReader<S>,
    console: &Console,
    limit: Option<usize>,
    end: &mut TunnelEnd,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if console.dead {
        return;
    }
    let mut backend = Backend::new(console);
    let mut out = LimitedWriter { left: limit };
    if !out.send(stream, &backend.greeting()).await {
        return;
    }
    loop {
        let patience = if backend.waits_for_login() {
            HANDSHAKE
        } else {
            Duration::MAX
        };
        let frame = match timeout(patience, read_frame(stream)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(Broken::Closed)) | Err(_) => return,
            Ok(Err(Broken::Stuck)) => {
                // The real server stops reading such a connection but leaves it open.
                std::future::pending::<()>().await;
                return;
            }
        };
        let data = match frame {
            Frame::Close => return,
            Frame::Ping(payload) => {
                if stream
                    .get_mut()
                    .write_all(&header(0x8a, payload.len()))
                    .await
                    .is_err()
                    || stream.get_mut().write_all(&payload).await.is_err()
                    || stream.get_mut().flush().await.is_err()
                {
                    return;
                }
                continue;
            }
            Frame::Pong => continue,
            Frame::Data(data) => data,
        };
        let open = backend.take(&data);
        if let Backend::Tunnel(tunnel) = &backend {
            *end = tunnel.end;
        }
        let answer = backend.output();
        if !out.send(stream, &answer).await || !open {
            return;
        }
    }
}

/// The server's side of the byte stream, which a fault may cut.
struct LimitedWriter {
    left: Option<usize>,
}

impl LimitedWriter {
    /// `false` at the end of the connection.
    async fn send<S>(&mut self, stream: &mut BufReader<S>, data: &[u8]) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let keep = self.left.map_or(data.len(), |left| left.min(data.len()));
        self.left = self.left.map(|left| left - keep);
        let stream = stream.get_mut();
        for chunk in data[..keep].chunks(usize::try_from(MAX_FRAME).unwrap_or(usize::MAX)) {
            if stream.write_all(&header(0x82, chunk.len())).await.is_err()
                || stream.write_all(chunk).await.is_err()
            {
                return false;
            }
        }
        stream.flush().await.is_ok() && keep == data.len()
    }
}

fn header(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(medium)) => {
            head.push(126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    head
}

#[derive(Debug, PartialEq)]
enum Frame {
    Data(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

#[derive(Debug, PartialEq)]
enum Broken {
    Closed,
    /// Fragmented, unmasked, too long or of an unknown kind.
    Stuck,
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

async fn read_frame<S>(stream: &mut S) -> Result<Frame, Broken>
where
    S: AsyncBufRead + Unpin,
{
    let mut start = [0; 2];
    stream.read_exact(&mut start).await?;
    let [first, second] = start;
    let whole = first & 0x80 != 0;
    let plain = first & 0x70 == 0;
    let masked = second & 0x80 != 0;
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if !whole || !plain || !masked || length > MAX_FRAME {
        return Err(Broken::Stuck);
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut data = vec![0; usize::try_from(length).map_err(|_| Broken::Stuck)?];
    stream.read_exact(&mut data).await?;
    for (byte, key) in data.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    match first & 0x0f {
        1 | 2 => Ok(Frame::Data(data)),
        8 => Ok(Frame::Close),
        9 => Ok(Frame::Ping(data)),
        10 => Ok(Frame::Pong),
        _ => Err(Broken::Stuck),
    }
}

enum Backend<'a> {
    Terminal(Terminal<'a>),
    Display(Display<'a>),
    Tunnel(Tunnel),
}

impl<'a> Backend<'a> {
    fn new(console: &'a Console) -> Self {
        match console.screen {
            Screen::Terminal => Self::Terminal(Terminal::new(console)),
            Screen::Tunnel => Self::Tunnel(Tunnel::new()),
            Screen::Display => Self::Display(Display {
                host: &console.host,
                input: Vec::new(),
                output: Vec::new(),
                stage: Stage::Version,
            }),
        }
    }

    fn waits_for_login(&self) -> bool {
        matches!(self, Self::Terminal(terminal) if !terminal.logged_in)
    }

    fn greeting(&self) -> Vec<u8> {
        match self {
            Self::Terminal(_) | Self::Tunnel(_) => Vec::new(),
            Self::Display(_) => b"RFB 003.008\n".to_vec(),
        }
    }

    /// Reads input of the client; `false` ends the connection.
    fn take(&mut self, data: &[u8]) -> bool {
        match self {
            Self::Terminal(terminal) => terminal.take(data),
            Self::Display(display) => display.take(data),
            Self::Tunnel(tunnel) => tunnel.take(data),
        }
    }

    fn output(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Terminal(terminal) => &mut terminal.output,
            Self::Display(display) => &mut display.output,
            Self::Tunnel(tunnel) => &mut tunnel.output,
        })
    }
}

/// The terminal protocol and a shell with a few commands.
struct Terminal<'a> {
    console: &'a Console,
    logged_in: bool,
    /// Bytes of an incomplete message.
    input: Vec<u8>,
    line: Vec<u8>,
    size: (u32, u32),
    output: Vec<u8>,
}

impl<'a> Terminal<'a> {
    fn new(console: &'a Console) -> Self {
        Self {
            console,
            logged_in: false,
            input: Vec::new(),
            line: Vec::new(),
            size: (80, 24),
            output: Vec::new(),
        }
    }

    fn take(&mut self, data: &[u8]) -> bool {
        self.input.extend_from_slice(data);
        if !self.logged_in {
            let Some(end) = self.input.iter().position(|b| *b == b'\n') else {
                return self.input.len() < 4096;
            };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            // A user id has no colon, a ticket has several.
            let fits = line
                .trim_end_matches('\n')
                .split_once(':')
                .is_some_and(|(user, ticket)| {
                    user == self.console.user && self.console.takes(ticket)
                });
            if !fits {
                return false;
            }
            self.logged_in = true;
            self.output.extend_from_slice(b"OK");
            self.prompt();
        }
        loop {
            match message(&self.input) {
                Parsed::More => return true,
                Parsed::Bad => return false,
                Parsed::Message(used, message) => {
                    self.input.drain(..used);
                    match message {
                        Message::Ping => {}
                        Message::Resize(columns, rows) => self.size = (columns, rows),
                        Message::Input(data) => {
                            if !self.typed(&data) {
                                return false;
                            }
                        }
                    }
                }
            }
        }
    }

    fn prompt(&mut self) {
        let prompt = format!("root@{}:~# ", self.console.host);
        self.output.extend_from_slice(prompt.as_bytes());
    }

    fn typed(&mut self, data: &[u8]) -> bool {
        for byte in data {
            match byte {
                b'\r' | b'\n' => {
                    self.output.extend_from_slice(b"\r\n");
                    let line = std::mem::take(&mut self.line);
                    if !self.command(String::from_utf8_lossy(&line).trim()) {
                        return false;
                    }
                    self.prompt();
                }
                0x7f | 0x08 => {
                    if self.line.pop().is_some() {
                        self.output.extend_from_slice(b"\x08 \x08");
                    }
                }
                0x03 => {
                    self.line.clear();
                    self.output.extend_from_slice(b"^C\r\n");
                    self.prompt();
                }
                0x04 if self.line.is_empty() => return false,
                byte => {
                    self.line.push(*byte);
                    self.output.push(*byte);
                }
            }
        }
        true
    }

    /// Runs a line; `false` ends the shell.
    fn command(&mut self, line: &str) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let text = match word {
            "" => String::new(),
            "exit" | "logout" => return false,
            "echo" => format!("{rest}\r\n"),
            "hostname" => format!("{}\r\n", self.console.host),
            "whoami" => "root\r\n".to_owned(),
            "stty" if rest == "size" => format!("{} {}\r\n", self.size.1, self.size.0),
            "repeat" => match rest.parse::<usize>() {
                // Enough to fill many frames without filling memory.
                Ok(count) => "x".repeat(count.min(16 << 20)) + "\r\n",
                Err(_) => "repeat: expected a number\r\n".to_owned(),
            },
            other => format!("sh: {other}: not found\r\n"),
        };
        self.output.extend_from_slice(text.as_bytes());
        true
    }
}

#[derive(Debug, PartialEq)]
enum Message {
    Input(Vec<u8>),
    Resize(u32, u32),
    Ping,
}

#[derive(Debug, PartialEq)]
enum Parsed {
    More,
    Bad,
    /// The length of a message, and the message.
    Message(usize, Message),
}

/// The first message of a terminal's input.
fn message(input: &[u8]) -> Parsed {
    /// A number up to a colon, and the position after it.
    fn number(input: &[u8], from: usize) -> Result<Option<(usize, usize)>, ()> {
        let rest = input.get(from..).unwrap_or_default();
        match rest.iter().position(|b| *b == b':') {
            Some(colon) => std::str::from_utf8(&rest[..colon])
                .ok()
                .and_then(|text| text.parse().ok())
                .map(|number| Some((number, from + colon + 1)))
                .ok_or(()),
            None if rest.len() > 10 => Err(()),
            None => Ok(None),
        }
    }
    let size = |input: &[u8]| -> Result<Option<Parsed>, ()> {
        let Some((columns, at)) = number(input, 2)? else {
            return Ok(None);
        };
        let Some((rows, at)) = number(input, at)? else {
            return Ok(None);
        };
        let side = |number| u32::try_from(number).map_err(|_| ());
        Ok(Some(Parsed::Message(
            at,
            Message::Resize(side(columns)?, side(rows)?),
        )))
    };
    let text = |input: &[u8]| -> Result<Option<Parsed>, ()> {
        let Some((length, at)) = number(input, 2)? else {
            return Ok(None);
        };
        let end = at.checked_add(length).ok_or(())?;
        Ok(input
            .get(at..end)
            .map(|data| Parsed::Message(end, Message::Input(data.to_vec()))))
    };
    let parsed = match input {
        [] | [b'0' | b'1'] => Ok(None),
        [b'2', ..] => Ok(Some(Parsed::Message(1, Message::Ping))),
        [b'0', b':', ..] => text(input),
        [b'1', b':', ..] => size(input),
        _ => Err(()),
    };
    match parsed {
        Ok(Some(parsed)) => parsed,
        Ok(None) => Parsed::More,
        Err(()) => Parsed::Bad,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Version,
    Security,
    Init,
    Running,
}

/// A VNC server without a password that shows a black screen.
struct Display<'a> {
    host: &'a str,
    input: Vec<u8>,
    output: Vec<u8>,
    stage: Stage,
}

impl Display<'_> {
    fn take(&mut self, data: &[u8]) -> bool {
        self.input.extend_from_slice(data);
        while let Some(used) = self
            .message_length()
            .filter(|length| *length <= self.input.len())
        {
            if used == 0 {
                return false;
            }
            let message: Vec<u8> = self.input.drain(..used).collect();
            match self.stage {
                Stage::Version => {
                    if !message.starts_with(b"RFB 003.") {
                        return false;
                    }
                    // One security type: none.
                    self.output.extend_from_slice(&[1, 1]);
                    self.stage = Stage::Security;
                }
                Stage::Security => {
                    self.output.extend_from_slice(&[0; 4]);
                    self.stage = Stage::Init;
                }
                Stage::Init => {
                    self.initialize();
                    self.stage = Stage::Running;
                }
                Stage::Running => {
                    // A client requests a full update by kind 3 with the incremental flag unset.
                    if message.starts_with(&[3, 0]) {
                        self.update();
                    }
                }
            }
        }
        true
    }

    /// The length of the next message; 0 for an unknown one.
    fn message_length(&self) -> Option<usize> {
        let byte = |at: usize| self.input.get(at).copied().map(usize::from);
        match self.stage {
            Stage::Version => Some(12),
            Stage::Security | Stage::Init => Some(1),
            Stage::Running => Some(match byte(0)? {
                0 => 20,
                2 => 4 + 4 * (byte(2)? << 8 | byte(3)?),
                3 => 10,
                4 => 8,
                5 => 6,
                6 => {
                    let length = byte(4)? << 24 | byte(5)? << 16 | byte(6)? << 8 | byte(7)?;
                    if length > 1 << 20 {
                        return Some(0);
                    }
                    8 + length
                }
                _ => 0,
            }),
        }
    }

    fn initialize(&mut self) {
        self.output.extend_from_slice(&WIDTH.to_be_bytes());
        self.output.extend_from_slice(&HEIGHT.to_be_bytes());
        // 32 bits a pixel, depth 24, little endian, true colour, 255 for each of red, green, blue.
        self.output
            .extend_from_slice(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
        let length = u32::try_from(self.host.len()).unwrap_or(0);
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(self.host.as_bytes());
    }

    fn update(&mut self) {
        self.output.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
        self.output.extend_from_slice(&WIDTH.to_be_bytes());
        self.output.extend_from_slice(&HEIGHT.to_be_bytes());
        self.output.extend_from_slice(&[0; 4]);
        let pixels = usize::from(WIDTH) * usize::from(HEIGHT) * 4;
        self.output.resize(self.output.len() + pixels, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(screen: Screen) -> Console {
        Console {
            port: 5900,
            path: "/vms/100".into(),
            user: "root@pam!test".into(),
            ticket: "PVEVNC:6B01F7D7::sig".into(),
            password: Some("abc:defg".into()),
            upid: String::new(),
            screen,
            host: "one".into(),
            dead: false,
            issued: Duration::ZERO,
            links: 0,
        }
    }

    #[test]
    fn the_key_of_the_recorded_handshake() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn a_terminal_accepts_split_and_merged_messages() {
        let console = console(Screen::Terminal);
        let mut terminal = Terminal::new(&console);
        assert!(terminal.take(b"root@pam!test:PVEVNC:6B01"));
        assert!(terminal.output.is_empty());
        assert!(terminal.take(b"F7D7::sig\n1:120:40:20:4:ec"));
        assert_eq!(std::mem::take(&mut terminal.output), b"OKroot@one:~# ");
        assert!(terminal.take(b"ho0:13: x\rstty size\r"));
        assert_eq!(
            String::from_utf8_lossy(&terminal.output),
            "echo x\r\nx\r\nroot@one:~# stty size\r\n40 120\r\nroot@one:~# "
        );
        terminal.output.clear();
        assert!(terminal.take(b"0:3:a\x7f\r"));
        assert_eq!(terminal.output, b"a\x08 \x08\r\nroot@one:~# ");
        assert!(!terminal.take(b"0:5:exit\r"));
        assert!(!Terminal::new(&console).take(b"root@pam!test:PVEVNC:other\n"));
        assert!(!Terminal::new(&console).take(b"root@pam:PVEVNC:6B01F7D7::sig\n"));
        assert!(console.takes("abc:defg:PVEVNC:6B01F7D7::sig"));
        assert!(!console.takes("abc:PVEVNC:6B01F7D7::sig"));
    }

    #[test]
    fn terminal_messages() {
        assert_eq!(message(b"0:3:ab"), Parsed::More);
        assert_eq!(message(b"0:3"), Parsed::More);
        assert_eq!(message(b"1:80:2"), Parsed::More);
        assert_eq!(message(b"22"), Parsed::Message(1, Message::Ping));
        assert_eq!(
            message(b"1:80:25:0:"),
            Parsed::Message(8, Message::Resize(80, 25))
        );
        for bad in [
            b"x".as_slice(),
            b"0x",
            b"0:x:",
            b"0:123456789012",
            b"1:1:x:",
        ] {
            assert_eq!(message(bad), Parsed::Bad, "{bad:?}");
        }
    }

    #[test]
    fn a_display_sends_its_greeting_and_updates() {
        let console = console(Screen::Display);
        let mut backend = Backend::new(&console);
        assert_eq!(backend.greeting(), b"RFB 003.008\n");
        assert!(backend.take(b"RFB 003.008\n\x01\x01"));
        let output = backend.output();
        assert_eq!(output[..6], [1, 1, 0, 0, 0, 0]);
        assert!(output.ends_with(b"one"));
        // A key, a pointer, two update requests of which one is incremental.
        assert!(backend.take(&[4, 1, 0, 0, 0, 0, 0, 65, 5, 0, 0, 0, 0, 0]));
        assert!(backend.output().is_empty());
        assert!(backend.take(&[
            3, 1, 0, 0, 0, 0, 0, 64, 0, 48, 3, 0, 0, 0, 0, 0, 0, 64, 0, 48
        ]));
        assert_eq!(backend.output().len(), 16 + 64 * 48 * 4);
        assert!(!backend.take(&[99]));
    }

    #[tokio::test]
    async fn frames_that_the_real_server_cannot_read() {
        let read = |bytes: &'static [u8]| async move { read_frame(&mut &*bytes).await };
        assert_eq!(
            read(&[0x82, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await,
            Ok(Frame::Data(b"hi".to_vec()))
        );
        assert_eq!(read(&[0x82, 0x02, b'h', b'i']).await, Err(Broken::Stuck));
        assert_eq!(
            read(&[0x02, 0x81, 0, 0, 0, 0, b'h']).await,
            Err(Broken::Stuck)
        );
        assert_eq!(
            read(&[0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 1]).await,
            Err(Broken::Stuck)
        );
        assert_eq!(read(&[0x88, 0x80, 0, 0, 0, 0]).await, Ok(Frame::Close));
        assert_eq!(read(&[0x82]).await, Err(Broken::Closed));
    }
}
