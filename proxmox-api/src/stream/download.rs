//! Answers that are files: parts of backups, task logs, the journal ([wire protocol §11](crate::guide::wire_protocol)). Those that consist of lines
//! can be read by [`lines`](crate::stream::lines).
//!
//! ```no_run
//! # #[cfg(feature = "node-storage")]
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::request::ApiRequest;
//!
//! let backup = "pbs:backup/vm/100/2026-01-01T00:00:00Z";
//! let restore = pve.nodes().node("pve1").storage().storage("pbs").file_restore();
//! let mut file = restore.download().get().volume(backup).filepath("L2V0Yw==").stream().await?;
//! file.save("etc.zip").await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::bounds::{Bounds, Exceeded};
use crate::client::call::Call;
use crate::client::request::Request;
use crate::client::send::{Delivered, Delivery, Exchange, Exchanged, Received};
use crate::client::{Client, KeptSecrets, kept_secrets};
use crate::error::{CallId, Error};
use crate::value::BoxFuture;

use crate::transport::{OpenResponse, Transport, WireRequest};
#[cfg(feature = "guests")]
use crate::transport::{TimeLimit, TransportError};
use crate::value::decode::DecodeError;
use crate::value::file::{PartFile, Readers};

/// A download; made by [`Request::stream`].
///
/// Pieces are handed over as the network delivers them, unpacked if the server packed them.
/// Dropping it closes the connection. The client's timeout applies while nothing arrives.
#[must_use = "does nothing unless read"]
pub struct Download {
    name: CallId,
    origin: String,
    response: OpenResponse,
    received: u64,
    client: Client,
    /// Secrets of the request, which must not appear in errors.
    secrets: KeptSecrets,
}

impl<T> Request<T> {
    /// Sends the request and returns the body of the answer piece by piece, undecoded.
    ///
    /// # Errors
    /// Those of awaiting the request, except for errors of decoding.
    #[must_use = "does nothing unless awaited"]
    pub fn stream(self) -> BoxFuture<'static, Result<Download, Error>> {
        start(self.client, self.call)
    }
}

fn start(client: Option<Client>, call: Call) -> BoxFuture<'static, Result<Download, Error>> {
    Box::pin(async move {
        let Some(client) = client else {
            return Err(Error::detached(call.id()));
        };
        let name = client.call_id(&call);
        let secrets = kept_secrets(&call);
        let mut exchange = DownloadExchange(client.bounds().refusal);
        let Delivery { delivered, origin } = client.deliver(&name, &call, &mut exchange).await?;
        match delivered {
            Delivered::Open(response) => Ok(Download {
                name,
                origin,
                response,
                received: 0,
                client,
                secrets,
            }),
            _ => Err(Error::config("the transport returned no stream")),
        }
    })
}

/// An answer with a streamed body, unless it is a refusal, of which at most this many bytes are
/// read.
struct DownloadExchange(usize);

impl Exchange for DownloadExchange {
    fn send<'a>(&'a mut self, transport: &'a dyn Transport, request: WireRequest) -> Exchanged<'a> {
        Box::pin(async move {
            let answer = transport.open(request).await?;
            match answer.head().status {
                200..300 => Ok(Received::Open(answer)),
                _ => Ok(Received::Whole(answer.collect_up_to(self.0).await?.0)),
            }
        })
    }
}

impl Download {
    /// The next piece; `None` after the last. Dropping the future loses nothing.
    ///
    /// A file without an announced length ends with the connection, so a truncated one cannot be
    /// distinguished from a complete one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the connection breaks, [`Error::Timeout`] if nothing arrives any
    /// more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|context| self.poll_piece(context))
            .await
            .transpose()
    }

    /// The deadline of an answer that is read as a whole.
    #[cfg(feature = "guests")]
    pub(crate) fn time_limit(&self) -> Option<TimeLimit> {
        TimeLimit::after(self.client.timeout()?)
    }

    /// The next piece, before the deadline.
    #[cfg(feature = "guests")]
    pub(crate) async fn chunk_within(
        &mut self,
        limit: Option<TimeLimit>,
    ) -> Result<Option<Bytes>, Error> {
        let Some(TimeLimit { at, duration }) = limit else {
            return self.chunk().await;
        };
        match tokio::time::timeout_at(at.into(), self.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) => {
                let late = TransportError::timed_out(duration);
                Err(Error::transport(&self.name, &self.origin, late))
            }
        }
    }

    /// Writes the rest of the file and returns its number of bytes.
    ///
    /// # Errors
    /// Those of [`Download::chunk`]; [`Error::Local`] if writing fails.
    pub async fn copy_to(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Result<u64, Error> {
        let before = self.received;
        while let Some(chunk) = self.chunk().await? {
            let written = writer.write_all(&chunk).await;
            written.map_err(|error| self.local("writing the file", error))?;
        }
        let flushed = writer.flush().await;
        flushed.map_err(|error| self.local("writing the file", error))?;
        Ok(self.received - before)
    }

    /// Writes the rest to a file and returns its number of bytes. The file appears when it is
    /// complete, and replaces one of that name.
    ///
    /// # Errors
    /// Those of [`Download::copy_to`].
    pub async fn save(&mut self, path: impl AsRef<Path>) -> Result<u64, Error> {
        let path = path.as_ref();
        let local = |download: &Self, error| download.local("writing the file", error);
        let place = path.to_owned();
        let begun = on_blocking_thread(move || {
            let part = PartFile::beside(&place, Readers::AsUsual)?;
            let file = part.file().try_clone()?;
            Ok((part, file))
        });
        let (part, file) = begun.await.map_err(|error| local(self, error))?;
        let mut file = tokio::fs::File::from_std(file);
        let count = self.copy_to(&mut file).await?;
        drop(file);
        let finished = on_blocking_thread(move || part.finish());
        finished.await.map_err(|error| local(self, error))?;
        Ok(count)
    }

    /// The number of bytes so far, unpacked.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The number of bytes of the whole file, if the server announced it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        if self.header("content-encoding").is_some() {
            return None;
        }
        self.header("content-length")?.parse().ok()
    }

    /// The content type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// The file name from the server. Check it before using it as a path.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        let (_, name) = self
            .header("content-disposition")?
            .split_once("filename=")?;
        let name = name.split(';').next().unwrap_or_default().trim();
        Some(name.trim_matches('"')).filter(|name| !name.is_empty())
    }

    /// A header field of the answer, by its name in upper or lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.head().header(name)
    }

    fn local(&self, what: &'static str, error: std::io::Error) -> Error {
        Error::local(&self.name, what, error)
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        self.client.bounds()
    }

    #[cfg(feature = "guests")]
    pub(crate) fn into_parts(self) -> (Client, CallId, KeptSecrets) {
        (self.client, self.name, self.secrets)
    }

    /// The error for a body that exceeds a limit.
    pub(crate) fn too_much(&self, exceeded: Exceeded) -> Error {
        Error::exceeded(&self.name, exceeded)
    }

    /// The error for an unexpected body.
    pub(crate) fn unreadable(&self, error: DecodeError) -> Error {
        let name = self.name.clone();
        self.client.undecodable(name, &self.secrets, error)
    }

    pub(crate) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        self.response.poll_chunk(context).map(|chunk| {
            Some(match chunk? {
                Ok(chunk) => {
                    self.received += chunk.len() as u64;
                    Ok(chunk)
                }
                Err(error) => Err(Error::transport(&self.name, &self.origin, error)),
            })
        })
    }
}

impl Stream for Download {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_piece(context)
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("endpoint", &self.name)
            .field("received", &self.received)
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// Runs blocking work on a thread for it.
async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests;
