//! Bodies of requests and answers.

use std::future::Future as _;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead as _, ReadBuf};

use super::{BodyStream, Chunks, TransportError, root_cause};
use crate::bounds::{Bound, Exceeded};

/// The body of a request.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    Stream {
        body: BodyStream,
        left: u64,
        /// The number of bytes that were handed over.
        moved: Arc<AtomicU64>,
    },
}

/// The maximum size of one read.
const PIECE: usize = 128 * 1024;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (body, left, moved) = match self.get_mut() {
            Self::Whole(body) => {
                return Pin::new(body)
                    .poll_frame(context)
                    .map_err(|never| match never {});
            }
            Self::Stream { body, left, moved } => (body, left, moved),
        };
        if *left == 0 {
            return Poll::Ready(None);
        }
        let room = usize::try_from(*left).map_or(PIECE, |left| left.min(PIECE));
        let mut bytes = vec![0; room];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(body).poll_read(context, &mut read))?;
        let count = read.filled().len();
        if count == 0 {
            let text = format!("the body ended {left} bytes before its announced length");
            return Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                text,
            ))));
        }
        *left -= count as u64;
        moved.fetch_add(count as u64, Ordering::Relaxed);
        bytes.truncate(count);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// The body of an answer while it is collected and unpacked, up to a limit.
pub(super) enum DecodedBody {
    Identity(LimitedBuffer),
    Gzip(Box<flate2::write::MultiGzDecoder<LimitedBuffer>>, Ratio),
}

/// The packed size against the unpacked size. Packing usually makes a body smaller and adds an
/// eighth at worst; anything beyond is an attack that keeps the client busy with empty gzip
/// members.
#[derive(Default)]
pub(super) struct Ratio {
    packed: u64,
    unpacked: u64,
}

impl Ratio {
    /// The amount that the decoder may hold back.
    const SLACK: u64 = 64 * 1024;

    fn check(&self) -> Result<(), TransportError> {
        if self.packed <= self.unpacked + self.unpacked / 4 + Self::SLACK {
            return Ok(());
        }
        Err(TransportError::interrupted(
            "cannot decompress the answer: it is larger compressed than decompressed".to_owned(),
        ))
    }
}

/// Bytes up to a limit.
pub(super) struct LimitedBuffer {
    bytes: Vec<u8>,
    max: usize,
}

impl io::Write for LimitedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = self.max - self.bytes.len();
        if bytes.len() > free {
            self.bytes.extend_from_slice(&bytes[..free]);
            let exceeded = Exceeded::new(Bound::Unpacked, self.max);
            return Err(io::Error::other(exceeded));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DecodedBody {
    pub(super) fn new(packed: bool, max: usize) -> Self {
        let buffer = LimitedBuffer {
            bytes: Vec::new(),
            max,
        };
        match packed {
            true => {
                let unpack = flate2::write::MultiGzDecoder::new(buffer);
                Self::Gzip(Box::new(unpack), Ratio::default())
            }
            false => Self::Identity(buffer),
        }
    }

    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), TransportError> {
        match self {
            Self::Identity(buffer) => buffer.write_all(data).map_err(|error| no_gzip(&error)),
            Self::Gzip(unpack, ratio) => {
                // A piece may be large, so it is checked before all of it is unpacked.
                for piece in data.chunks(PACKED_PIECE) {
                    unpack.write_all(piece).map_err(|error| no_gzip(&error))?;
                    ratio.packed += piece.len() as u64;
                    ratio.unpacked = unpack.get_ref().bytes.len() as u64;
                    ratio.check()?;
                }
                Ok(())
            }
        }
    }

    /// The bytes so far.
    pub(super) fn so_far(self) -> Bytes {
        match self {
            Self::Identity(buffer) => buffer.bytes.into(),
            Self::Gzip(mut unpack, _) => std::mem::take(&mut unpack.get_mut().bytes).into(),
        }
    }

    pub(super) fn end(self) -> Result<Bytes, TransportError> {
        match self {
            Self::Identity(buffer) => Ok(buffer.bytes.into()),
            Self::Gzip(unpack, _) => match unpack.finish() {
                Ok(buffer) => Ok(buffer.bytes.into()),
                Err(error) => Err(no_gzip(&error)),
            },
        }
    }
}

/// The error of a body that ended early.
pub(super) trait BodyError: std::error::Error + 'static {}

impl<E: std::error::Error + 'static> BodyError for E {}

/// The maximum of packed bytes that are unpacked at once; they may grow a thousandfold.
const PACKED_PIECE: usize = 8 * 1024;

/// The body of an answer as a stream.
pub(super) struct Flow<B> {
    body: B,
    unpack: Option<flate2::write::MultiGzDecoder<Vec<u8>>>,
    ratio: Ratio,
    /// Received bytes that are not unpacked yet.
    packed: Bytes,
    /// The maximum time without data.
    limit: Duration,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    over: bool,
}

impl<B> Flow<B> {
    pub(super) fn new(body: B, packed: bool, limit: Duration) -> Self {
        Self {
            body,
            unpack: packed.then(|| flate2::write::MultiGzDecoder::new(Vec::new())),
            ratio: Ratio::default(),
            packed: Bytes::new(),
            limit,
            pause: None,
            over: false,
        }
    }

    fn take(&mut self, data: Bytes) -> Result<Bytes, TransportError> {
        let Some(unpack) = &mut self.unpack else {
            return Ok(data);
        };
        unpack.write_all(&data).map_err(|error| no_gzip(&error))?;
        let unpacked = std::mem::take(unpack.get_mut());
        self.ratio.packed += data.len() as u64;
        self.ratio.unpacked += unpacked.len() as u64;
        self.ratio.check()?;
        Ok(Bytes::from(unpacked))
    }

    fn end(&mut self) -> Option<Result<Bytes, TransportError>> {
        self.over = true;
        let rest = self.unpack.take()?.finish();
        Some(rest.map(Bytes::from).map_err(|error| no_gzip(&error)))
    }
}

impl<B> Chunks for Flow<B>
where
    B: Body<Data = Bytes, Error: BodyError> + Send + Unpin,
{
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            if !self.packed.is_empty() {
                let count = self.packed.len().min(PACKED_PIECE);
                let piece = self.packed.split_to(count);
                match self.take(piece) {
                    Ok(chunk) if chunk.is_empty() => continue,
                    chunk => {
                        self.over = chunk.is_err();
                        return Poll::Ready(Some(chunk));
                    }
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                let limit = self.limit;
                let pause = (self.pause).get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(pause.as_mut().poll(context));
                self.over = true;
                return Poll::Ready(Some(Err(TransportError::timed_out(limit))));
            };
            self.pause = None;
            let chunk = match frame {
                None => self.end(),
                Some(Err(error)) => Some(Err(broken_off(&error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Err(_) => continue,
                    Ok(data) if self.unpack.is_some() => {
                        self.packed = data;
                        continue;
                    }
                    Ok(data) => Some(Ok(data)),
                },
            };
            match chunk {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                chunk => return Poll::Ready(chunk),
            }
        }
    }
}

pub(super) fn broken_off(error: &(dyn std::error::Error + 'static)) -> TransportError {
    TransportError::interrupted(format!("the answer ended early: {}", root_cause(error)))
}

fn no_gzip(error: &io::Error) -> TransportError {
    let inner = error.get_ref();
    if let Some(exceeded) = inner.and_then(|inner| inner.downcast_ref::<Exceeded>()) {
        return TransportError::too_much(*exceeded);
    }
    TransportError::interrupted(format!("cannot decompress the answer: {error}"))
}
