//! The bytes between the HTTP library and the socket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What a connection consists of.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// The reason phrase of the last answer on a connection.
#[derive(Clone, Default)]
pub(super) struct Phrase(Arc<Mutex<Vec<u8>>>);

impl Phrase {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.lock()))
    }
}

/// A connection that keeps the reason phrase for itself.
///
/// Below this, an answer whose phrase holds a control character does not parse, and one with a
/// character outside ASCII loses the phrase; the server writes both, and before 2025 nothing but the
/// phrase says what is wrong (wire protocol §5).
pub(super) struct Line {
    stream: Stream,
    scanner: Scanner,
}

/// Takes reason phrases out of what comes over a connection.
#[derive(Default)]
pub(super) struct Scanner {
    place: Place,
    pub(super) phrase: Phrase,
    /// What comes after this answer's head belongs to another protocol.
    switched: bool,
}

/// Where in an answer the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    /// In its first characters, so many of which were what they have to be.
    Start(usize),
    /// In the status code, whose digits so far make this number.
    Status(u16),
    Phrase,
    /// Behind the phrase, or in something that is no HTTP.
    Rest,
}

/// The status after which a connection is no HTTP any more.
const SWITCHED: u16 = 101;

impl Default for Place {
    fn default() -> Self {
        Self::Start(0)
    }
}

const START: &[u8] = b"HTTP/1.x ";

/// The most that is read at once: a TLS record.
const CHUNK: usize = 16 * 1024;

impl Scanner {
    /// The next thing to come is an answer.
    fn expect_answer(&mut self) {
        // A server may answer while it is still being written to.
        if matches!(self.place, Place::Rest) && !self.switched {
            self.place = Place::default();
        }
    }

    /// What was read, without the part of it that belongs to the phrase.
    pub(super) fn take_phrase(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            self.place = match self.place {
                Place::Start(n)
                    if START[n] == byte || (START[n] == b'x' && byte.is_ascii_digit()) =>
                {
                    self.phrase.lock().clear();
                    if n + 1 == START.len() {
                        Place::Status(0)
                    } else {
                        Place::Start(n + 1)
                    }
                }
                Place::Status(code) if byte.is_ascii_digit() => Place::Status(
                    code.saturating_mul(10)
                        .saturating_add(u16::from(byte - b'0')),
                ),
                Place::Status(code) if byte == b' ' => {
                    self.switched = code == SWITCHED;
                    Place::Phrase
                }
                Place::Phrase if byte != b'\r' && byte != b'\n' => {
                    self.phrase.lock().push(byte);
                    continue;
                }
                _ => {
                    self.place = Place::Rest;
                    kept.extend_from_slice(&bytes[i..]);
                    break;
                }
            };
            kept.push(byte);
        }
        kept
    }
}

impl Line {
    pub(super) fn over(stream: Stream) -> Self {
        Self {
            stream,
            scanner: Scanner::default(),
        }
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.scanner.phrase.clone())
    }
}

impl hyper::rt::Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0; CHUNK];
        let mut read = ReadBuf::new(&mut room[..buffer.remaining().min(CHUNK)]);
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut read),
            Stream::Secure(stream) => Pin::new(stream).poll_read(context, &mut read),
        };
        match ready!(polled) {
            // The server closes the socket without ending TLS first, and many of its answers end with the
            // connection. One that announced its length is still known to be cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            result => result?,
        }
        let bytes = read.filled();
        if matches!(self.scanner.place, Place::Rest) || bytes.is_empty() {
            buffer.put_slice(bytes);
            return Poll::Ready(Ok(()));
        }
        let kept = self.scanner.take_phrase(bytes);
        if kept.is_empty() {
            // Nothing at all would mean the end of the connection.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&kept);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Line {
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
