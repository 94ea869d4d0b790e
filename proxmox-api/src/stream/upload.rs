//! Uploads of files to a storage: ISO images, container templates, disk images ([wire protocol
//! §9](crate::guide::wire_protocol)).
//!
//! The file is read while it is sent, so memory does not depend on its size; see
//! `docs/streaming.md` for measurements.

use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};

use crate::client::Client;
use crate::client::path::PathNode;
use crate::client::request::Request;
use crate::client::send::{Delivered, Exchange, Exchanged, Failed, Received};
use crate::error::{CallId, Error, RequestErrorKind};
use crate::task::{Task, read_task};
use crate::transport::{BodyStream, Transport, WireRequest};
use crate::value::BoxFuture;
use crate::value::decode::Extra;
use crate::value::endpoint::{Endpoint, Method, Permission};
use crate::value::serialize::{record_serde, variant_serde};

static ENDPOINT: Endpoint = Endpoint::new(
    Method::Post,
    "/nodes/{node}/storage/{storage}/upload",
    Permission::All("/storage/{storage}", &["Datastore.AllocateTemplate"]),
);

impl Client {
    /// Uploads a file: [`POST
    /// /nodes/{node}/storage/{storage}/upload`](crate::pve::node_storage::NodeStorageStorageUploadPost).
    /// Awaiting it returns the task that moves the file to its place.
    ///
    /// The node has to be the one that the client is connected to, unless the storage is shared or
    /// that node can reach the other one by SSH ([wire protocol §9](crate::guide::wire_protocol)).
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// let task = pve
    ///     .upload("pve1", "local")
    ///     .path("debian-13.iso")
    ///     .on_progress(|progress| eprintln!("{} of {}", progress.sent, progress.total))
    ///     .await?;
    /// task.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upload(&self, node: impl fmt::Display, storage: impl fmt::Display) -> Upload {
        let place = PathNode::root(Some(self))
            .literal("nodes")
            .value("node", &node)
            .literal("storage")
            .value("storage", &storage)
            .literal("upload");
        Upload {
            request: place.request(&ENDPOINT, read_task),
            source: Source::Missing,
            name: None,
            content: None,
            checksum: Sum::None,
            watcher: None,
        }
    }
}

/// The kind of an uploaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UploadContent {
    /// An installation image, `.iso` or `.img`.
    Iso,
    /// A container template, `.tar` packed by gzip, xz, zstd or bzip2.
    Template,
    /// A disk or appliance to import, `.qcow2`, `.raw`, `.vmdk` or `.ova`. Since Proxmox VE 8.3.
    Import,
}

variant_serde!(UploadContent {
    Iso = "iso",
    Template = "vztmpl",
    Import = "import",
});

impl UploadContent {
    /// The text of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Template => "vztmpl",
            Self::Import => "import",
        }
    }

    /// The kind of a file of this name. The endings of each kind are those that the server
    /// requires.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".iso", ".img"]) {
            Some(Self::Iso)
        } else if ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2"]) {
            Some(Self::Template)
        } else if ends(&[".qcow2", ".raw", ".vmdk", ".ova"]) {
            Some(Self::Import)
        } else {
            None
        }
    }
}

/// The algorithm of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChecksumAlgorithm {
    /// 128 bits; broken, detects accidents only.
    Md5,
    /// 160 bits; broken, detects accidents only.
    Sha1,
    /// 224 bits.
    Sha224,
    /// 256 bits.
    Sha256,
    /// 384 bits.
    Sha384,
    /// 512 bits.
    Sha512,
}

variant_serde!(ChecksumAlgorithm {
    Md5 = "md5",
    Sha1 = "sha1",
    Sha224 = "sha224",
    Sha256 = "sha256",
    Sha384 = "sha384",
    Sha512 = "sha512",
});

impl ChecksumAlgorithm {
    /// The text of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha224 => 56,
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// The progress of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadProgress {
    /// The number of bytes of the file that were handed to the connection.
    pub sent: u64,
    /// The size of the file in bytes.
    pub total: u64,
}

record_serde!(UploadProgress { sent, total });

/// An upload of a file to a storage; made by [`Client::upload`], sent by awaiting it.
///
/// Dropping the future ends the upload: the connection closes, and the server discards the data.
/// The upload as a whole has no time limit; the client's timeout applies while no bytes move.
#[must_use = "does nothing unless awaited"]
pub struct Upload {
    request: Request<Task>,
    source: Source,
    name: Option<String>,
    content: Option<UploadContent>,
    checksum: Sum,
    watcher: Option<Watcher>,
}

type Reader = Pin<Box<dyn AsyncRead + Send>>;
type Watcher = Arc<Mutex<Box<dyn FnMut(UploadProgress) + Send>>>;

enum Source {
    Missing,
    Path(PathBuf),
    Bytes(Bytes),
    Reader(u64, Reader),
}

enum Sum {
    None,
    Given(ChecksumAlgorithm, String),
    Computed,
}

impl Upload {
    /// Sends this file, under its own name unless another is set.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Source::Path(path.into());
        self
    }

    /// Sends the bytes of a reader, exactly `length` of them. Needs a
    /// [`name`](Upload::name).
    pub fn reader(mut self, length: u64, reader: impl AsyncRead + Send + 'static) -> Self {
        self.source = Source::Reader(length, Box::pin(reader));
        self
    }

    /// Sends these bytes. Needs a [`name`](Upload::name).
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.source = Source::Bytes(bytes.into());
        self
    }

    /// The name of the file on the storage. The server replaces characters other than letters,
    /// digits, dots, hyphens and underscores.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The kind of the file; by default derived from its name.
    pub fn content(mut self, content: UploadContent) -> Self {
        self.content = Some(content);
        self
    }

    /// Lets the server check the received data; a difference fails the task, not this call.
    /// `checksum` is hexadecimal.
    pub fn checksum(mut self, algorithm: ChecksumAlgorithm, checksum: impl Into<String>) -> Self {
        self.checksum = Sum::Given(algorithm, checksum.into());
        self
    }

    /// Lets the server check the received data against a SHA-256 checksum, for which the file is
    /// read once more in advance. Not for a [`reader`](Upload::reader).
    pub fn verified(mut self) -> Self {
        self.checksum = Sum::Computed;
        self
    }

    /// Reports the progress of the upload, after every piece. Runs in the task of the connection,
    /// so it has to return quickly. Starts again from zero if the file is sent again: to another
    /// host, or with another ticket.
    pub fn on_progress(mut self, watcher: impl FnMut(UploadProgress) + Send + 'static) -> Self {
        self.watcher = Some(Arc::new(Mutex::new(Box::new(watcher))));
        self
    }

    async fn send(mut self, client: Client, called: CallId) -> Result<Task, Error> {
        let refuse = {
            let called = called.clone();
            move |problem: String| Error::request(&called, RequestErrorKind::Argument { problem })
        };
        let name = self.file_name().map_err(&refuse)?;
        let content = match self.content {
            Some(content) => content,
            None => UploadContent::of_name(&name).ok_or_else(|| {
                refuse(format!(
                    "the kind of file is not clear from the name {name:?}; set `content`"
                ))
            })?,
        };
        let mut fields = vec![("content", content.as_str().to_owned())];
        let checksum = match std::mem::replace(&mut self.checksum, Sum::None) {
            Sum::None => None,
            Sum::Given(algorithm, text) => Some((algorithm, text)),
            Sum::Computed => {
                let text = self.compute().await.map_err(&refuse)?;
                Some((ChecksumAlgorithm::Sha256, text))
            }
        };
        if let Some((algorithm, text)) = checksum {
            if text.len() != algorithm.digits() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                let digits = algorithm.digits();
                let algorithm = algorithm.as_str();
                return Err(refuse(format!(
                    "a {algorithm} checksum consists of {digits} hexadecimal digits"
                )));
            }
            fields.push(("checksum-algorithm", algorithm.as_str().to_owned()));
            fields.push(("checksum", text));
        }
        let mut sending = UploadExchange {
            source: &mut self.source,
            fields,
            name,
            watcher: self.watcher.clone(),
            called: &called,
        };
        let delivery = client.deliver(&called, &self.request.call, &mut sending);
        match delivery.await?.delivered {
            Delivered::Reply(reply) => read_task(&client, &reply, &mut Extra::new())
                .map_err(|error| client.undecodable(called.clone(), &reply.secrets, error)),
            _ => Err(Error::config(
                "the transport returned a stream instead of an answer",
            )),
        }
    }

    fn file_name(&self) -> Result<String, String> {
        let name = match (&self.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, Source::Path(path)) => match path.file_name().and_then(|name| name.to_str()) {
                Some(name) => name.to_owned(),
                None => return Err(format!("{} has no file name; set `name`", path.display())),
            },
            (None, Source::Missing) => {
                return Err("there is no file; set `path`, `bytes` or `reader`".to_owned());
            }
            (None, _) => return Err("the file has no name; set `name`".to_owned()),
        };
        // The server ends the name at a quote and has no escape for it.
        if name.is_empty() || name.contains(|c: char| c == '"' || c.is_control()) {
            return Err(format!("the server accepts no file named {name:?}"));
        }
        Ok(name)
    }

    async fn compute(&mut self) -> Result<String, String> {
        if !self.source.is_repeatable() {
            return Err("a reader can be read only once; set the checksum".to_owned());
        }
        let (_, mut reader) = self.source.open().await?;
        let mut digest = Sha256::new();
        let mut piece = vec![0; 128 * 1024];
        loop {
            match reader.read(&mut piece).await {
                Ok(0) => break,
                Ok(count) => digest.update(&piece[..count]),
                Err(error) => return Err(format!("cannot read the file: {error}")),
            }
        }
        Ok((digest.finalize().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

impl Source {
    fn is_repeatable(&self) -> bool {
        matches!(self, Self::Path(_) | Self::Bytes(_))
    }

    async fn open(&mut self) -> Result<(u64, Reader), String> {
        match self {
            Self::Path(path) => {
                let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
                let file = tokio::fs::File::open(&*path).await;
                let file = file.map_err(|error| named(&error))?;
                let facts = file.metadata().await.map_err(|error| named(&error))?;
                if !facts.is_file() {
                    return Err(named(&"not a file"));
                }
                Ok((facts.len(), Box::pin(file)))
            }
            Self::Bytes(bytes) => {
                Ok((bytes.len() as u64, Box::pin(io::Cursor::new(bytes.clone()))))
            }
            Self::Reader(..) => match std::mem::replace(self, Self::Missing) {
                Self::Reader(length, reader) => Ok((length, reader)),
                _ => Err("the file was taken already".to_owned()),
            },
            Self::Missing => Err("there is no file; set `path`, `bytes` or `reader`".to_owned()),
        }
    }
}

/// The form with the file, made again for each attempt.
struct UploadExchange<'a> {
    source: &'a mut Source,
    fields: Vec<(&'static str, String)>,
    name: String,
    watcher: Option<Watcher>,
    called: &'a CallId,
}

impl UploadExchange<'_> {
    async fn once(
        &mut self,
        transport: &dyn Transport,
        mut request: WireRequest,
    ) -> Result<Received, Failed> {
        let called = self.called;
        let refuse = |problem: String| {
            Failed::Here(Error::request(
                called,
                RequestErrorKind::Argument { problem },
            ))
        };
        let (length, reader) = self.source.open().await.map_err(refuse)?;
        let failure = Failure::default();
        let file = Metered {
            reader: reader.take(length),
            sent: 0,
            total: length,
            watcher: self.watcher.clone(),
            failure: failure.clone(),
        };
        let form = Form::new(&self.fields, &self.name).map_err(refuse)?;
        let kind = format!("multipart/form-data; boundary={}", form.boundary);
        request.headers.push(("Content-Type".to_owned(), kind));
        let length = form.before.len() as u64 + length + form.after.len() as u64;
        let body = (io::Cursor::new(form.before).chain(file)).chain(io::Cursor::new(form.after));
        let body = BodyStream::new(length, body);
        let answer = transport.send_stream(request, body).await;
        match (answer, failure.take()) {
            (Err(_), Some(cause)) => {
                let error = Error::local(called, "reading the file", cause);
                Err(Failed::Here(error))
            }
            (answer, _) => Ok(Received::Whole(answer?)),
        }
    }
}

impl Exchange for UploadExchange<'_> {
    fn send<'a>(&'a mut self, transport: &'a dyn Transport, request: WireRequest) -> Exchanged<'a> {
        Box::pin(self.once(transport, request))
    }

    fn can_repeat(&self) -> bool {
        self.source.is_repeatable()
    }

    fn flows(&self) -> bool {
        true
    }
}

impl IntoFuture for Upload {
    type Output = Result<Task, Error>;
    type IntoFuture = BoxFuture<'static, Result<Task, Error>>;

    fn into_future(self) -> BoxFuture<'static, Result<Task, Error>> {
        Box::pin(async move {
            let call = self.request.call();
            let Some(client) = self.request.client.clone() else {
                return Err(Error::detached(call.id()));
            };
            let name = client.call_id(call);
            self.send(client, name).await
        })
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Missing => "nothing".to_owned(),
            Source::Path(path) => path.display().to_string(),
            Source::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Source::Reader(length, _) => format!("{length} bytes of a reader"),
        };
        f.debug_struct("Upload")
            .field("path", &self.request.call().path())
            .field("source", &source)
            .field("name", &self.name)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// The parts of the body around the file. The server finds the parts by patterns, so their order,
/// the spelling of their headers and the unquoted boundary are fixed.
struct Form {
    boundary: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Form {
    fn new(fields: &[(&str, String)], name: &str) -> Result<Self, String> {
        let boundary = boundary()?;
        let mut before = String::new();
        for (field, value) in fields {
            before.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n"
            ));
        }
        before.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ));
        let after = format!("\r\n--{boundary}--\r\n");
        Ok(Self {
            boundary,
            before: before.into_bytes(),
            after: after.into_bytes(),
        })
    }
}

/// A random boundary.
fn boundary() -> Result<String, String> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| "the system provides no random numbers".to_owned())?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("proxmox-api-{digits}"))
}

/// The error of reading the file, passed from the task of the connection to the caller.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        kind.into()
    }
}

/// A file that counts the bytes read, and has exactly the announced length.
struct Metered {
    reader: Take<Reader>,
    sent: u64,
    total: u64,
    watcher: Option<Watcher>,
    failure: Failure,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.sent == self.total {
            let mut byte = [0];
            let mut more = ReadBuf::new(&mut byte);
            let polled = self.reader.get_mut().as_mut().poll_read(context, &mut more);
            match ready!(polled) {
                Ok(()) if more.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => Err(io::Error::other(format!(
                    "it has more than the announced {} bytes",
                    self.total
                ))),
                Err(error) => Err(error),
            }
        } else {
            ready!(Pin::new(&mut self.reader).poll_read(context, buffer))
        };
        let count = (buffer.filled().len() - before) as u64;
        let read = match read {
            Ok(()) if count == 0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ended after {} of {} bytes", self.sent, self.total),
            )),
            read => read,
        };
        if let Err(error) = read {
            return Poll::Ready(Err(self.failure.set(error)));
        }
        self.sent += count;
        let (sent, total) = (self.sent, self.total);
        if let Some(watcher) = &self.watcher {
            watcher.lock().unwrap_or_else(PoisonError::into_inner)(UploadProgress { sent, total });
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
