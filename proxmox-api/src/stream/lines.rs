//! Reading of answers line by line.
//!
//! The journal of a node can be of any length. It is read while it arrives:
//!
//! ```no_run
//! # #[cfg(feature = "nodes")]
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::request::ApiRequest;
//!
//! let journal = pve.nodes().node("pve1").journal().get().since(1_780_000_000);
//! let mut lines = journal.stream().await?.lines();
//! while let Some(line) = lines.try_next().await? {
//!     println!("{line}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Memory holds only the lines of one piece of the answer. For the log of a task there is
//! [`WaitBuilder::lines`](crate::task::WaitBuilder::lines).

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde_json::Value;

use crate::bounds::{Bound, Exceeded};
use crate::error::Error;
use crate::stream::download::Download;
use crate::value::decode::{DecodeError, read_any};

impl Download {
    /// The rest of the answer as lines: those of a text, or the texts of a JSON list.
    pub fn lines(self) -> Lines {
        let json = self.content_type().is_none_or(|kind| kind.contains("json"));
        let splitter = match json {
            true => Splitter::List(List::new(self.bounds().element)),
            false => Splitter::Text(Vec::new(), self.bounds().line),
        };
        Lines {
            download: self,
            splitter,
            ready: VecDeque::new(),
            over: false,
        }
    }
}

/// The lines of an answer; made by [`Download::lines`].
#[must_use = "does nothing unless read"]
pub struct Lines {
    download: Download,
    splitter: Splitter,
    ready: VecDeque<String>,
    over: bool,
}

enum Splitter {
    /// With the start of a line, and the maximum length of one.
    Text(Vec<u8>, usize),
    List(List),
}

/// The reason why reading stopped.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Unreadable(DecodeError),
    TooMuch(Exceeded),
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        Self::TooMuch(exceeded)
    }
}

impl Lines {
    /// The next line, without its end; `None` after the last. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of [`Download::chunk`]; [`Error::Decode`] if the answer is not a list of lines, or is
    /// truncated.
    pub async fn try_next(&mut self) -> Result<Option<String>, Error> {
        std::future::poll_fn(|context| self.poll_line(context))
            .await
            .transpose()
    }

    /// The source of the lines.
    pub fn download(&self) -> &Download {
        &self.download
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<String, Error>>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(line)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let taken = match ready!(self.download.poll_piece(context)) {
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(bytes)) => self.splitter.take(&bytes, &mut self.ready),
                None => {
                    self.over = true;
                    self.splitter.end(&mut self.ready)
                }
            };
            if let Err(problem) = taken {
                self.over = true;
                self.ready.clear();
                return Poll::Ready(Some(Err(match problem {
                    Problem::Unreadable(error) => self.download.unreadable(error),
                    Problem::TooMuch(exceeded) => self.download.too_much(exceeded),
                })));
            }
        }
    }
}

impl Stream for Lines {
    type Item = Result<String, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(context)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("download", &self.download)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

impl Splitter {
    fn take(&mut self, bytes: &[u8], lines: &mut VecDeque<String>) -> Result<(), Problem> {
        match self {
            Self::List(list) => bytes.iter().try_for_each(|&byte| list.take(byte, lines)),
            Self::Text(start, max) => {
                let mut pieces = bytes.split(|&byte| byte == b'\n');
                let mut piece = pieces.next().unwrap_or_default();
                for next in pieces {
                    start.extend_from_slice(piece);
                    if start.len() > *max {
                        break;
                    }
                    lines.push_back(text(start));
                    start.clear();
                    piece = next;
                }
                start.extend_from_slice(piece);
                match start.len() > *max {
                    true => Err(Exceeded::new(Bound::Line, *max).into()),
                    false => Ok(()),
                }
            }
        }
    }

    fn end(&mut self, lines: &mut VecDeque<String>) -> Result<(), Problem> {
        match self {
            Self::List(list) => Ok(list.end()?),
            Self::Text(start, _) => {
                if !start.is_empty() {
                    lines.push_back(text(start));
                }
                Ok(())
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

/// Extracts the entries of the list in `data` from JSON that arrives in pieces. It finds the end of
/// each entry; the JSON parser reads the entry.
#[derive(Default)]
struct List {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The current key of the outermost object, with its quotes.
    key: Vec<u8>,
    /// Whether the key is complete, so that its value follows.
    named: bool,
    position: Position,
    entry: Vec<u8>,
    max: usize,
    count: usize,
}

#[derive(Default, PartialEq, Eq)]
enum Position {
    #[default]
    Before,
    Inside,
    Behind,
}

impl List {
    fn new(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    fn take(&mut self, byte: u8, lines: &mut VecDeque<String>) -> Result<(), Problem> {
        if self.in_string {
            self.keep(byte)?;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte)?;
            }
            b'[' if self.depth == 1 && self.named && self.key == b"\"data\"" => {
                self.depth += 1;
                self.position = Position::Inside;
            }
            b'{' | b'[' => {
                self.keep(byte)?;
                self.depth += 1;
            }
            b']' if self.position == Position::Inside && self.depth == 2 => {
                self.depth -= 1;
                self.give(lines)?;
                self.position = Position::Behind;
            }
            b'}' | b']' => {
                let Some(depth) = self.depth.checked_sub(1) else {
                    return Err(no_json().into());
                };
                self.depth = depth;
                self.keep(byte)?;
            }
            b',' if self.position == Position::Inside && self.depth == 2 => self.give(lines)?,
            b',' if self.depth == 1 => {
                self.named = false;
                self.key.clear();
            }
            b':' if self.depth == 1 => self.named = true,
            _ if self.depth == 0 && !byte.is_ascii_whitespace() => return Err(no_json().into()),
            _ => self.keep(byte)?,
        }
        Ok(())
    }

    fn keep(&mut self, byte: u8) -> Result<(), Exceeded> {
        // Relevant keys are shorter.
        const MAX_KEY: usize = 16;
        if self.position == Position::Inside {
            if self.entry.len() >= self.max {
                return Err(Exceeded::new(Bound::Element, self.max));
            }
            self.entry.push(byte);
            return Ok(());
        }
        let named = self.depth != 1 || self.named || self.key.len() >= MAX_KEY;
        if !named && !byte.is_ascii_whitespace() {
            self.key.push(byte);
        }
        Ok(())
    }

    fn give(&mut self, lines: &mut VecDeque<String>) -> Result<(), Problem> {
        let entry = std::mem::take(&mut self.entry);
        if entry.trim_ascii().is_empty() {
            return Ok(());
        }
        let wrong = |problem: &str| {
            Err(DecodeError::new(&format!("data[{}]", self.count), problem.to_owned()).into())
        };
        let line = match read_any(&entry, self.max.saturating_mul(4)) {
            Some(Value::String(line)) => line,
            // A task's log numbers its lines.
            Some(Value::Object(mut row)) => match row.remove("t") {
                Some(Value::String(line)) => line,
                _ => return wrong("expected a line, found an object without one"),
            },
            Some(_) => return wrong("expected a line, found another value"),
            None => return wrong("expected a line, found no JSON"),
        };
        self.count += 1;
        lines.push_back(line);
        Ok(())
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.depth > 0 || self.in_string {
            return Err(DecodeError::new("data", "the answer ends within the list"));
        }
        match self.position {
            Position::Behind => Ok(()),
            _ => Err(DecodeError::new("data", "expected a list, found none")),
        }
    }
}

fn no_json() -> DecodeError {
    DecodeError::new("", "expected a JSON object with a list of lines")
}

#[cfg(test)]
mod tests;
