//! The same calls for programs without an asynchronous runtime. Feature `blocking`.
//!
//! Everything that can be awaited in this crate can also block: requests, uploads, tasks, and the
//! operations of the everyday layer, from starting a guest to batches and the next event.
//!
//! ```no_run
//! # #[cfg(all(feature = "nodes", feature = "qemu"))]
//! # fn example() -> Result<(), proxmox_api::Error> {
//! use proxmox_api::Client;
//! use proxmox_api::blocking::SendBlocking;
//! use proxmox_api::request::ApiRequest;
//!
//! let pve = Client::from_env()?;
//! for node in pve.nodes().get().send_blocking()? {
//!     println!("{}", node.node);
//! }
//! for entry in pve.nodes().node("pve1").tasks().get().items(100).blocking() {
//!     println!("{}", entry?.upid);
//! }
//! let task = pve.nodes().node("pve1").qemu().vmid(100).status().start().post().send_blocking()?;
//! task.wait().on_log(|line| println!("{line}")).send_blocking()?;
//! # #[cfg(feature = "guests")]
//! pve.guest(100).snapshot("before-upgrade").send_blocking()?.wait().send_blocking()?;
//! # Ok(())
//! # }
//! ```
//!
//! All of them share one runtime, which a thread of this crate runs, so blocking and asynchronous
//! code may use the same client.

use std::fmt;
use std::future::IntoFuture;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::client::Client;
use crate::client::auth::SavedSession;
use crate::error::{Error, RequestErrorKind};
use crate::stream::download::Download;
use crate::stream::lines::Lines;
use crate::stream::paging::{Items, Page, Pages};

/// Blocks until a value that could be awaited is complete.
pub trait SendBlocking<T>: IntoFuture<Output = Result<T, Error>> + Sized {
    /// Blocks the thread until the result is complete.
    ///
    /// # Errors
    /// Those of awaiting the value. [`RequestErrorKind::InsideRuntime`] in a thread of an
    /// asynchronous runtime; nothing is sent then. That includes `spawn_blocking` and
    /// `block_in_place`, which cannot be distinguished here: use `Handle::block_on` there, or
    /// block in a thread of your own.
    fn send_blocking(self) -> Result<T, Error> {
        if Handle::try_current().is_ok() {
            return Err(Error::request(
                &"a call".into(),
                RequestErrorKind::InsideRuntime,
            ));
        }
        // A request may need the runtime from the start.
        runtime()?.block_on(async { self.await })
    }
}

impl<T, F: IntoFuture<Output = Result<T, Error>>> SendBlocking<T> for F {}

fn runtime() -> Result<Arc<Runtime>, Error> {
    static RUNTIME: OnceLock<Result<Arc<Runtime>, String>> = OnceLock::new();
    (RUNTIME
        .get_or_init(|| start().map_err(|error| error.to_string()))
        .clone())
    .map_err(|error| Error::config(format!("no runtime for blocking calls: {error}")))
}

fn start() -> io::Result<Arc<Runtime>> {
    let runtime = Arc::new(Builder::new_current_thread().enable_all().build()?);
    let thread_runtime = Arc::clone(&runtime);
    // Between calls too, connections have to notice that the server closed them.
    std::thread::Builder::new()
        .name("proxmox-api".to_owned())
        .spawn(move || thread_runtime.block_on(std::future::pending::<()>()))?;
    Ok(runtime)
}

impl<T: 'static> Items<T> {
    /// The items for a `for` loop. After an error the iterator continues with the same page.
    pub fn blocking(self) -> BlockingItems<T> {
        BlockingItems(self)
    }
}

/// A blocking iterator over the items of a list; made by [`Items::blocking`].
#[derive(Debug)]
#[must_use = "does nothing unless iterated"]
pub struct BlockingItems<T>(Items<T>);

impl<T: 'static> Iterator for BlockingItems<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.try_next().send_blocking().transpose()
    }
}

impl<T: 'static> Pages<T> {
    /// The pages for a `for` loop. After an error the iterator continues with the same page.
    pub fn blocking(self) -> BlockingPages<T> {
        BlockingPages(self)
    }
}

/// A blocking iterator over the pages of a list; made by [`Pages::blocking`].
#[derive(Debug)]
#[must_use = "does nothing unless iterated"]
pub struct BlockingPages<T>(Pages<T>);

impl<T: 'static> Iterator for BlockingPages<T> {
    type Item = Result<Page<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.try_next().send_blocking().transpose()
    }
}

impl Lines {
    /// The lines for a `for` loop.
    pub fn blocking(self) -> BlockingLines {
        BlockingLines(self)
    }
}

/// A blocking iterator over the lines of an answer; made by [`Lines::blocking`].
#[derive(Debug)]
#[must_use = "does nothing unless iterated"]
pub struct BlockingLines(Lines);

impl Iterator for BlockingLines {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.try_next().send_blocking().transpose()
    }
}

impl Client {
    /// Like [`Client::save_session`], which returns no `Result` and so has no [`SendBlocking`].
    ///
    /// # Errors
    /// [`RequestErrorKind::InsideRuntime`] in a thread that belongs to an asynchronous runtime.
    pub fn save_session_blocking(&self) -> Result<Option<SavedSession>, Error> {
        async { Ok(self.save_session().await) }.send_blocking()
    }
}

impl Download {
    /// The rest of the file as a reader. Its errors hold an [`Error`].
    #[must_use]
    pub fn blocking(self) -> BlockingDownload {
        BlockingDownload {
            download: self,
            rest: Bytes::new(),
        }
    }
}

/// A download as a blocking reader for [`std::io`]; made by [`Download::blocking`].
pub struct BlockingDownload {
    download: Download,
    rest: Bytes,
}

impl BlockingDownload {
    /// The headers about the file.
    pub fn download(&self) -> &Download {
        &self.download
    }
}

impl Read for BlockingDownload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.rest.is_empty() {
            match self.download.chunk().send_blocking() {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl fmt::Debug for BlockingDownload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.download.fmt(f)
    }
}
