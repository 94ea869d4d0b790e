//! The bytes between the HTTP library and the socket.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::bounds::{Bound, Bounds, Exceeded};

/// The stream of a connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// The header field that carries a reason phrase through the HTTP parser, percent-encoded, as the
/// first field of its answer. A field of this name that the server sends comes after it and is
/// dropped.
pub(super) const REASON: &str = "x-proxmox-api-reason";

/// A connection that moves reason phrases into a header field of the same answer.
///
/// hyper does not parse an answer whose phrase holds a control character, and drops a phrase with
/// characters outside ASCII. The server writes both, and before 2025 only the phrase holds the
/// error ([wire protocol §5](crate::guide::wire_protocol)). As a header field, a phrase cannot be
/// attached to another answer.
pub(super) struct ReasonPhraseStream {
    stream: Stream,
    scanner: Scanner,
    /// Bytes to read before further ones of the stream.
    held: Bytes,
}

/// Moves reason phrases in the bytes of a connection.
pub(super) struct Scanner {
    place: ScanState,
    phrase: Vec<u8>,
    max_phrase: usize,
    /// The number of bytes before the end of the final answer's first line, and their limit.
    before: usize,
    max_head: usize,
    /// The bytes after this answer's head belong to another protocol.
    switched: bool,
}

/// The position of the next byte in an answer.
#[derive(Clone, Copy)]
enum ScanState {
    /// In its first characters, this many of which matched.
    Start(usize),
    /// In the status code: its digits so far as a number, and their count.
    Status(u16, u8),
    Phrase(u16),
    /// In the head of an interim answer, which another answer follows; whether its line is empty so
    /// far.
    Interim(bool),
    /// After the phrase, or in something other than HTTP.
    Rest,
}

/// The status after which a connection carries another protocol.
const SWITCHED: u16 = 101;

const START: &[u8] = b"HTTP/1.x ";

/// The maximum size of one read: a TLS record.
const CHUNK: usize = 16 * 1024;

impl Scanner {
    /// Limits the bytes of a phrase, and of all interim answers together.
    pub(super) fn new(max_phrase: usize, max_head: usize) -> Self {
        Self {
            place: ScanState::Start(0),
            phrase: Vec::new(),
            max_phrase,
            before: 0,
            max_head,
            switched: false,
        }
    }

    /// The next bytes are an answer.
    fn expect_answer(&mut self) {
        // A server may answer while the request is still being written.
        if matches!(self.place, ScanState::Rest) && !self.switched {
            self.place = ScanState::Start(0);
            self.before = 0;
        }
    }

    /// The bytes, with each phrase moved to a header field.
    pub(super) fn move_phrases(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Exceeded> {
        let mut moved = Vec::with_capacity(bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            let ends = byte == b'\r' || byte == b'\n';
            self.before += 1;
            if self.before > self.max_head {
                return Err(Exceeded::new(Bound::Head, self.max_head));
            }
            self.place = match self.place {
                ScanState::Start(n)
                    if START[n] == byte || (START[n] == b'x' && byte.is_ascii_digit()) =>
                {
                    if n + 1 == START.len() {
                        ScanState::Status(0, 0)
                    } else {
                        ScanState::Start(n + 1)
                    }
                }
                ScanState::Status(code, digits) if byte.is_ascii_digit() && digits < 3 => {
                    ScanState::Status(code * 10 + u16::from(byte - b'0'), digits + 1)
                }
                ScanState::Status(code, 3) if byte == b' ' => ScanState::Phrase(code),
                ScanState::Status(code, 3) if ends => self.end_line(code, byte, &mut moved),
                ScanState::Phrase(code) if ends => self.end_line(code, byte, &mut moved),
                ScanState::Phrase(code) => {
                    if self.phrase.len() >= self.max_phrase {
                        return Err(Exceeded::new(Bound::Reason, self.max_phrase));
                    }
                    self.phrase.push(byte);
                    self.place = ScanState::Phrase(code);
                    continue;
                }
                ScanState::Interim(true) if byte == b'\n' => ScanState::Start(0),
                ScanState::Interim(empty) => {
                    ScanState::Interim(byte == b'\n' || (empty && byte == b'\r'))
                }
                _ => {
                    self.place = ScanState::Rest;
                    moved.extend_from_slice(&bytes[i..]);
                    break;
                }
            };
            moved.push(byte);
        }
        Ok(moved)
    }

    /// At the end of the status line, which this byte begins.
    fn end_line(&mut self, code: u16, byte: u8, moved: &mut Vec<u8>) -> ScanState {
        let phrase = std::mem::take(&mut self.phrase);
        if (100..200).contains(&code) && code != SWITCHED {
            return ScanState::Interim(byte == b'\n');
        }
        self.switched = code == SWITCHED;
        let phrase = percent_encode(&phrase, NON_ALPHANUMERIC);
        moved.extend_from_slice(format!("\r\n{REASON}: {phrase}").as_bytes());
        ScanState::Rest
    }
}

impl ReasonPhraseStream {
    pub(super) fn over(stream: Stream, bounds: &Bounds) -> Self {
        Self {
            stream,
            scanner: Scanner::new(bounds.reason, bounds.head),
            held: Bytes::new(),
        }
    }
}

impl Connection for ReasonPhraseStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for ReasonPhraseStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            // Uninitialised: clearing it took a third of the processor time of a small request.
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut read = ReadBuf::uninit(&mut chunk[..buffer.remaining().min(CHUNK)]);
            let polled = match &mut self.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut read),
                Stream::Secure(stream) => Pin::new(stream).poll_read(context, &mut read),
            };
            match ready!(polled) {
                // The server closes the socket without ending TLS first, and many of its answers
                // end with the connection. hyper still detects a truncated answer with an announced
                // length.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                result => result?,
            }
            let bytes = read.filled();
            if matches!(self.scanner.place, ScanState::Rest) || bytes.is_empty() {
                buffer.put_slice(bytes);
                return Poll::Ready(Ok(()));
            }
            // A piece within a phrase leaves no bytes, and returning none would mean the end.
            let moved = self.scanner.move_phrases(bytes);
            self.held = Bytes::from(moved.map_err(io::Error::other)?);
        }
        let count = buffer.remaining().min(self.held.len());
        buffer.put_slice(&self.held.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for ReasonPhraseStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.scanner.expect_answer();
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
