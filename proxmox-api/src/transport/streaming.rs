//! Exchanges beyond one request and one answer: streamed bodies, and connections that switch
//! protocols.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{TransportError, WireResponse};
use crate::bounds::{Bound, Bounds, Exceeded};

/// A request body that is read while it is sent, so that memory does not depend on its size.
pub struct BodyStream {
    length: u64,
    reader: Pin<Box<dyn AsyncRead + Send>>,
}

impl BodyStream {
    /// A body of exactly `length` bytes. The server accepts no other kind ([wire protocol
    /// §2](crate::guide::wire_protocol)).
    pub fn new(length: u64, reader: impl AsyncRead + Send + 'static) -> Self {
        Self {
            length,
            reader: Box::pin(reader),
        }
    }

    /// Its number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl AsyncRead for BodyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.as_mut().poll_read(context, buffer)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyStream({} bytes)", self.length)
    }
}

/// The source of the pieces of an answer's body.
pub trait Chunks: Send {
    /// The next piece; `None` after the last. Dropping the caller loses no pieces.
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>>;
}

/// An answer whose body is still arriving.
pub struct OpenResponse {
    head: WireResponse,
    chunks: Box<dyn Chunks>,
}

impl OpenResponse {
    /// An answer from its head, whose body is ignored, and the source of the body.
    pub fn new(head: WireResponse, chunks: impl Chunks + 'static) -> Self {
        Self {
            head,
            chunks: Box::new(chunks),
        }
    }

    /// Status, reason and headers.
    #[must_use]
    pub fn head(&self) -> &WireResponse {
        &self.head
    }

    /// The next piece of the body; `None` after the last.
    ///
    /// # Errors
    /// If the body breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        std::future::poll_fn(|context| self.chunks.poll_chunk(context))
            .await
            .transpose()
    }

    pub(crate) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        self.chunks.poll_chunk(context)
    }

    /// Waits for the whole body, up to the default of [`Bounds::body`].
    ///
    /// # Errors
    /// If the body breaks off, or is longer.
    pub async fn collect(self) -> Result<WireResponse, TransportError> {
        let max = Bounds::new().body;
        match self.collect_up_to(max).await? {
            (answer, true) => Ok(answer),
            (_, false) => Err(TransportError::too_much(Exceeded::new(Bound::Body, max))),
        }
    }

    /// The answer with at most so much of its body, and whether the body is complete.
    pub(crate) async fn collect_up_to(
        mut self,
        max: usize,
    ) -> Result<(WireResponse, bool), TransportError> {
        let mut body = Vec::new();
        let mut whole = true;
        while whole && let Some(chunk) = self.chunk().await? {
            let room = max - body.len();
            whole = chunk.len() <= room;
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        self.head.body = Bytes::from(body);
        Ok((self.head, whole))
    }
}

impl From<WireResponse> for OpenResponse {
    /// A complete answer, as one piece.
    fn from(mut response: WireResponse) -> Self {
        let body = Whole(Some(std::mem::take(&mut response.body)));
        Self::new(response, body)
    }
}

impl fmt::Debug for OpenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenResponse")
            .field("status", &self.head.status)
            .finish_non_exhaustive()
    }
}

struct Whole(Option<Bytes>);

impl Chunks for Whole {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransportError>>> {
        Poll::Ready(self.0.take().filter(|body| !body.is_empty()).map(Ok))
    }
}

/// A connection that carries bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The server's reaction to a request to switch to another protocol.
#[non_exhaustive]
pub enum Upgraded {
    /// It switched (status 101): the head of its answer, and the connection.
    Switched(WireResponse, Box<dyn Duplex>),
    /// It answered like any other request instead.
    Answered(WireResponse),
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, response) = match self {
            Self::Switched(head, _) => ("Switched", head),
            Self::Answered(response) => ("Answered", response),
        };
        f.debug_tuple(name).field(response).finish()
    }
}
