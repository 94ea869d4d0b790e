//! Files and file systems of a virtual machine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::call::{Agent, refusal};
use super::exec::Output;
use super::whole::{TooMuch, WholeFile};
use crate::bounds::{Bound, Exceeded};
use crate::client::Reply;
use crate::error::Error;
use crate::manage::guest::{GuestErrorKind, GuestLocation, Kind, unsigned};
use crate::request::ApiRequest;
use crate::value::BoxFuture;
use crate::value::decode::{DecodeError, Extra};
use crate::value::serialize::record_serde;

/// The maximum length of one write, in characters of Base64.
const WRITE_LIMIT: usize = 61_440;
/// Bytes that become [`WRITE_LIMIT`] characters.
pub(super) const WRITE_CHUNK: usize = WRITE_LIMIT / 4 * 3;
/// Bytes per read. Larger reads make the agent hold more in memory.
const READ_CHUNK: i64 = 4 * 1024 * 1024;
/// The maximum that releases without partial reads return of a file.
const READ_AT_ONCE: usize = 16 * 1024 * 1024;

/// The bytes that one call read, and whether the file ended; or the refusal of the agent.
type Part = Result<(bool, Vec<u8>), GuestErrorKind>;

/// A file system inside a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSystem {
    /// Where it is mounted, as `/` or `C:\`.
    pub mount_point: String,
    /// Its type, as `ext4`.
    pub file_system: String,
    /// Its size in bytes; `None` if the agent does not report it.
    pub total: Option<u64>,
    /// Bytes in use; `None` if the agent does not report them.
    pub used: Option<u64>,
}

record_serde!(FileSystem {
    mount_point,
    file_system,
    total,
    used,
});

impl Agent {
    /// Reads a whole file: [`GET /nodes/{node}/qemu/{vmid}/agent/file-read`](crate::pve::qemu::QemuVmidAgentFileReadGet), piece by piece.
    ///
    /// # Errors
    /// [`Error::Exceeded`] if it is larger than [`Bounds::file`](crate::bounds::Bounds::file), 32
    /// MiB by default; [`GuestErrorKind::Agent`] if it is larger than 16 MiB and the release is
    /// older than 9.1, which cannot read beyond that; see [`Agent`] and [`Guest`](crate::manage::guest::Guest).
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let bounds = *self.guest.client().bounds();
        let max = bounds.file;
        let too_long = Exceeded::new(Bound::File, max);
        for _ in 0..bounds.pages {
            let offset = i64::try_from(content.len()).unwrap_or(i64::MAX);
            let piece = self
                .guest
                .ask_agent(|vm| {
                    let request = vm.agent().file_read().get(path);
                    let request = request.decode(false).offset(offset).count(READ_CHUNK);
                    request.into_request()
                })
                .await;
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) if offset == 0 && knows_no_pieces(&error) => {
                    return self.read_file_at_once(path, max).await;
                }
                Err(error) => return Err(error),
            };
            let bytes = decode_pieces(&piece.content)
                .ok_or_else(|| self.unusable("the content from the server is not Base64"))?;
            if bytes.len() > max - content.len() {
                return Err(self.too_much(path, too_long).await);
            }
            content.extend_from_slice(&bytes);
            if piece.truncated != Some(true) || bytes.is_empty() {
                return Ok(content);
            }
        }
        let pieces = Exceeded::new(Bound::Pages, bounds.pages);
        Err(self.too_much(path, pieces).await)
    }

    /// Reads a file from a release without partial reads.
    async fn read_file_at_once(&self, path: &str, max: usize) -> Result<Vec<u8>, Error> {
        let guest = &self.guest;
        let send = |location: &GuestLocation| -> BoxFuture<'static, Result<Part, Error>> {
            let request = guest.qemu_at(location).agent().file_read().get(path);
            let request = request.into_request();
            let decode = request.decode;
            let vmid = guest.vmid();
            // The agent never returns more, whatever the client's limit.
            let max = max.min(READ_AT_ONCE);
            let mut whole = WholeFile::new(max);
            Box::pin(async move {
                let mut answer = request.stream().await?;
                let limit = answer.time_limit();
                while let Some(chunk) = answer.chunk_within(limit).await? {
                    whole.take(&chunk).map_err(|much| match much {
                        TooMuch::File => answer.too_much(Exceeded::new(Bound::File, max)),
                        TooMuch::Beside => answer.unreadable(DecodeError::new(
                            "data",
                            "the answer has more than the file",
                        )),
                    })?;
                }
                let (rest, content) = whole.end();
                let (client, name, secrets) = answer.into_parts();
                let clean = |text: &str| client.without_secrets(&secrets, text.to_owned());
                if let Some(refusal) = refusal(vmid, &rest, clean) {
                    return Ok(Err(refusal));
                }
                let reply = Reply::of_body(rest.into());
                let read = decode(&client, &reply, &mut Extra::new())
                    .map_err(|error| client.undecodable(name, &secrets, error))?;
                Ok(Ok((read.truncated == Some(true), content)))
            })
        };
        let (truncated, content) = guest.call(Some(Kind::Qemu), &send).await??;
        match truncated {
            true => Err(self.unusable("the file is larger than 16 MiB, the limit of this release")),
            false => Ok(content),
        }
    }

    /// The error for a file beyond a limit of the client.
    async fn too_much(&self, path: &str, exceeded: Exceeded) -> Error {
        let location = match self.guest.location().await {
            Ok(location) => location,
            Err(error) => return error,
        };
        let request = self.guest.qemu_at(&location).agent().file_read().get(path);
        let name = self.guest.client().call_id(&request.into_request().call);
        Error::exceeded(&name, exceeded)
    }

    /// Writes a whole file, replacing an existing one: [`POST
    /// /nodes/{node}/qemu/{vmid}/agent/file-write`](crate::pve::qemu::QemuVmidAgentFileWritePost).
    ///
    /// One call takes 46,080 bytes. A longer file is first collected in `path.partial` and renamed
    /// at the end. That needs `sh`, `base64` and `mv` in the machine, and the privilege to run
    /// programs.
    ///
    /// # Errors
    /// [`GuestErrorKind::Agent`] if one of the programs fails; see [`Agent`] and [`Guest`](crate::manage::guest::Guest).
    pub async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        if content.len() <= WRITE_CHUNK {
            return self.write_once(path, content).await;
        }
        let partial = format!("{path}.partial");
        let written = self.write_partial(&partial, path, content).await;
        if written.is_err() {
            // The first error is the one to report.
            let _ = self.exec(["rm", "-f", "--", &partial]).await;
        }
        written
    }

    async fn write_partial(&self, partial: &str, path: &str, content: &[u8]) -> Result<(), Error> {
        let mut pieces = content.chunks(WRITE_CHUNK);
        self.write_once(partial, pieces.next().unwrap_or_default())
            .await?;
        for piece in pieces {
            let append = self.exec(["sh", "-c", r#"base64 -d >> "$1""#, "sh", partial]);
            self.must_work(append.input(STANDARD.encode(piece)).await?)?;
        }
        self.must_work(self.exec(["mv", "-f", "--", partial, path]).await?)
    }

    async fn write_once(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let content = STANDARD.encode(content);
        self.guest
            .ask_agent(|vm| {
                let request = vm.agent().file_write().post();
                let request = request.file(path).content(content.as_str());
                request.encode(false).into_request()
            })
            .await
            .map(drop)
    }

    #[inline]
    fn must_work(&self, output: Output) -> Result<(), Error> {
        if output.success() {
            return Ok(());
        }
        let message = output.stderr_text();
        let message: String = message.trim().chars().take(200).collect();
        Err(self.unusable(&format!(
            "writing the file ended with {}: {message}",
            output.end()
        )))
    }

    /// The machine's file systems: [`GET /nodes/{node}/qemu/{vmid}/agent/get-fsinfo`](crate::pve::qemu::QemuVmidAgentGetFsinfoPath::get).
    ///
    /// # Errors
    /// See [`Agent`] and [`Guest`](crate::manage::guest::Guest).
    pub async fn file_systems(&self) -> Result<Vec<FileSystem>, Error> {
        let answer = self
            .guest
            .ask_agent(|vm| vm.agent().get_fsinfo().get().into_request())
            .await?;
        Ok((answer.result.unwrap_or_default().into_iter())
            .map(|row| FileSystem {
                mount_point: row.mountpoint.unwrap_or_default(),
                file_system: row.type_.unwrap_or_default(),
                total: row.total_bytes.map(|bytes| unsigned(Some(bytes))),
                used: row.used_bytes.map(|bytes| unsigned(Some(bytes))),
            })
            .collect())
    }
}

/// Whether the server does not know the parameters for partial reads.
#[inline]
fn knows_no_pieces(error: &Error) -> bool {
    match error {
        Error::Api(error) => ["decode", "offset", "count"]
            .iter()
            .any(|name| error.errors().contains_key(*name)),
        _ => false,
    }
}

/// Decodes Base64 that may have padding in the middle: the server asks the agent for 1 MiB at once
/// and concatenates the answers.
#[inline]
fn decode_pieces(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text.trim();
    while !rest.is_empty() {
        let padding = rest.find('=').unwrap_or(rest.len());
        let end = rest.get(padding..)?.find(|c| c != '=');
        let (piece, more) = rest.split_at(end.map_or(rest.len(), |end| padding + end));
        STANDARD.decode_vec(piece, &mut bytes).ok()?;
        rest = more;
    }
    Some(bytes)
}
