//! What a client takes in at most. All limits on what a server sends are here, and on what a packed file becomes.
//!
//! No honest server meets the defaults: they are there for those that are broken, taken over, or something else
//! altogether. [`ClientBuilder::bounds`](crate::ClientBuilder::bounds) sets others, for instance for a program with little
//! memory.
//!
//! ```
//! use proxmox_api::Client;
//! use proxmox_api::bounds::Bounds;
//!
//! let builder = Client::builder("pve1").bounds(Bounds::new().body(4 * 1024 * 1024).pages(100));
//! # let _ = builder;
//! ```

use std::fmt;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// As much as there can be where addresses are short.
const LARGE: usize = match (256 * KIB).checked_mul(MIB) {
    Some(bytes) => bytes,
    None => usize::MAX,
};

/// The limits on what comes in. Each counts for one answer.
///
/// Beyond one of them, a call ends with [`Error::Exceeded`](crate::Error::Exceeded), which names it. The server has
/// acted on the request then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until a client is built with them"]
pub struct Bounds {
    pub(crate) body: usize,
    pub(crate) unpacked: usize,
    pub(crate) memory: usize,
    pub(crate) refusal: usize,
    pub(crate) head: usize,
    pub(crate) reason: usize,
    pub(crate) line: usize,
    pub(crate) element: usize,
    pub(crate) frame: usize,
    pub(crate) file: usize,
    pub(crate) image: usize,
    pub(crate) window: usize,
    pub(crate) pages: usize,
    pub(crate) depth: usize,
}

impl Bounds {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            body: 32 * MIB,
            unpacked: 32 * MIB,
            memory: 56 * MIB,
            refusal: MIB,
            head: 256 * KIB,
            reason: 16 * KIB,
            line: MIB,
            element: 4 * MIB,
            frame: 4 * MIB,
            file: 32 * MIB,
            image: LARGE,
            window: 128 * MIB,
            pages: 100_000,
            depth: MAX_DEPTH,
        }
    }

    /// Bytes of an answer's body as it is received: 32 MiB. A download has no limit.
    pub const fn body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }

    /// Bytes of an answer's body once it is unpacked: 32 MiB. A download has no limit.
    pub const fn unpacked(mut self, bytes: usize) -> Self {
        self.unpacked = bytes;
        self
    }

    /// Bytes of memory that an answer takes with its body and all that it becomes: 56 MiB, by estimate. A body of many small
    /// values becomes many times as much.
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Bytes of the body of a refusal: 1 MiB. What is beyond is not read, and the call ends as a refusal all the same.
    pub const fn refusal(mut self, bytes: usize) -> Self {
        self.refusal = bytes;
        self
    }

    /// Bytes of the head of an answer: 256 KiB; at least 8 KiB. As many may come before it as interim answers. It may have
    /// 100 fields, whatever this is set to.
    pub const fn head(mut self, bytes: usize) -> Self {
        self.head = if bytes < MIN_HEAD { MIN_HEAD } else { bytes };
        self
    }

    /// Bytes of the reason phrase in the head: 16 KiB.
    pub const fn reason(mut self, bytes: usize) -> Self {
        self.reason = bytes;
        self
    }

    /// Bytes of one line of a text that is read line by line: 1 MiB.
    pub const fn line(mut self, bytes: usize) -> Self {
        self.line = bytes;
        self
    }

    /// Bytes of one element of a list that is read element by element: 4 MiB.
    pub const fn element(mut self, bytes: usize) -> Self {
        self.element = bytes;
        self
    }

    /// Bytes of one message of a console: 4 MiB.
    pub const fn frame(mut self, bytes: usize) -> Self {
        self.frame = bytes;
        self
    }

    /// Bytes of a file that is read from a guest into memory: 32 MiB.
    ///
    /// Releases before 9.1 give a file in one answer, in which a byte may take six. It is unpacked as it comes, so
    /// [`Bounds::body`] and [`Bounds::unpacked`] play no part.
    pub const fn file(mut self, bytes: usize) -> Self {
        self.file = bytes;
        self
    }

    /// Bytes of a packed image of this side once it is unpacked: 256 GiB. See `Image::file` of the everyday layer.
    pub const fn image(mut self, bytes: usize) -> Self {
        self.image = bytes;
        self
    }

    /// Bytes of memory that a packed image may demand for being unpacked, which is what it may refer back to: 128 MiB. What
    /// `xz` and `zstd` make takes no more unless they are told otherwise.
    pub const fn window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Pages of one list: 100,000. A server that ignores which page it is asked for gives them for ever.
    pub const fn pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// Levels of objects and lists within each other in JSON: 128, which is the most.
    pub const fn depth(mut self, levels: usize) -> Self {
        self.depth = if levels > MAX_DEPTH {
            MAX_DEPTH
        } else {
            levels
        };
        self
    }
}

/// What the JSON parser takes.
const MAX_DEPTH: usize = 128;
/// What the HTTP parser needs.
const MIN_HEAD: usize = 8 * KIB;

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

/// A limit of [`Bounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// [`Bounds::body`].
    Body,
    /// [`Bounds::unpacked`].
    Unpacked,
    /// [`Bounds::memory`].
    Memory,
    /// [`Bounds::refusal`].
    Refusal,
    /// [`Bounds::head`].
    Head,
    /// [`Bounds::reason`].
    Reason,
    /// [`Bounds::line`].
    Line,
    /// [`Bounds::element`].
    Element,
    /// [`Bounds::frame`].
    Frame,
    /// [`Bounds::file`].
    File,
    /// [`Bounds::image`].
    Image,
    /// [`Bounds::window`].
    Window,
    /// [`Bounds::pages`].
    Pages,
    /// [`Bounds::depth`].
    Depth,
}

/// A limit and that something is beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    bound: Bound,
    limit: usize,
}

impl Exceeded {
    pub(crate) const fn new(bound: Bound, limit: usize) -> Self {
        Self { bound, limit }
    }

    /// Which limit it is.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// What it is set to.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.bound {
            Bound::Body => write!(f, "the answer's body is longer than {limit} bytes"),
            Bound::Unpacked => {
                write!(
                    f,
                    "the answer's body is longer than {limit} bytes when unpacked"
                )
            }
            Bound::Memory => write!(f, "the answer takes more than {limit} bytes of memory"),
            Bound::Refusal => write!(f, "the refusal's body is longer than {limit} bytes"),
            Bound::Head => write!(
                f,
                "the answer's head is longer than {limit} bytes or has more than 100 fields"
            ),
            Bound::Reason => write!(f, "the reason phrase is longer than {limit} bytes"),
            Bound::Line => write!(f, "a line is longer than {limit} bytes"),
            Bound::Element => write!(f, "an element of the list is longer than {limit} bytes"),
            Bound::Frame => write!(f, "a message is longer than {limit} bytes"),
            Bound::File => write!(f, "the file is longer than {limit} bytes"),
            Bound::Image => write!(f, "the file is longer than {limit} bytes when unpacked"),
            Bound::Window => write!(
                f,
                "unpacking the file takes more than {limit} bytes of memory"
            ),
            Bound::Pages => write!(f, "the list has more than {limit} pages"),
            Bound::Depth => write!(f, "the JSON is nested deeper than {limit} levels"),
        }
    }
}

impl std::error::Error for Exceeded {}

/// Whether JSON is nested deeper than that. What is no JSON is left to the parser.
pub(crate) fn is_deeper(json: &[u8], levels: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    json.iter().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > levels
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_texts() {
        let json = br#"{"a":[{"b":"[[[\"[[["}],"c":[[]]}"#;
        assert!(is_deeper(json, 2));
        assert!(!is_deeper(json, 3));
        assert!(is_deeper("[".repeat(100_000).as_bytes(), 127));
    }

    #[test]
    fn limits_that_cannot_be_are_the_nearest_that_can() {
        assert_eq!(Bounds::new().head(0).head, MIN_HEAD);
        assert_eq!(Bounds::new().depth(usize::MAX).depth, MAX_DEPTH);
    }
}
