//! Limits on all input: on the answers of a server, and on the size of unpacked files.
//!
//! The defaults are far above the answers of a working server; they protect against broken and
//! hostile ones. [`ClientBuilder::bounds`](crate::ClientBuilder::bounds) sets other limits, for
//! example for a program with little memory.
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
/// The largest value where `usize` has 32 bits.
const LARGE: usize = match (256 * KIB).checked_mul(MIB) {
    Some(bytes) => bytes,
    None => usize::MAX,
};

/// The limits on input. Each applies to one answer.
///
/// A call whose answer exceeds one of them ends with [`Error::Exceeded`](crate::Error::Exceeded),
/// which names the limit. The server has acted on the request by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "does nothing unless used by a client"]
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

    /// Bytes of memory for an answer, its body and the decoded values together: 56 MiB, by
    /// estimate. A body of many small values takes many times its size when it is decoded.
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Bytes of the body of a refusal: 1 MiB. The rest is not read, and the call still ends as a
    /// refusal.
    pub const fn refusal(mut self, bytes: usize) -> Self {
        self.refusal = bytes;
        self
    }

    /// Bytes of the head of an answer: 256 KiB; at least 8 KiB. Interim answers before it may have
    /// as many in all. The number of header fields is always limited to 100.
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
    /// Releases before 9.1 send a file in one answer, in which a byte may take six. It is decoded
    /// while it arrives, so [`Bounds::body`] and [`Bounds::unpacked`] do not apply.
    pub const fn file(mut self, bytes: usize) -> Self {
        self.file = bytes;
        self
    }

    /// Bytes of a compressed local image once it is unpacked: 256 GiB. See `Image::file` of the
    /// everyday layer.
    pub const fn image(mut self, bytes: usize) -> Self {
        self.image = bytes;
        self
    }

    /// Bytes of memory that unpacking a compressed image may demand (its window): 128 MiB. Images
    /// packed by `xz` and `zstd` with their default settings take no more.
    pub const fn window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Pages of one list: 100,000. A server that ignores the requested page would send them for
    /// ever.
    pub const fn pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// Levels of nested objects and lists in JSON: 128, which is also the maximum.
    pub const fn depth(mut self, levels: usize) -> Self {
        self.depth = if levels > MAX_DEPTH {
            MAX_DEPTH
        } else {
            levels
        };
        self
    }
}

/// The maximum of the JSON parser.
const MAX_DEPTH: usize = 128;
/// The minimum of the HTTP parser.
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

/// A limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    bound: Bound,
    limit: usize,
}

impl Exceeded {
    pub(crate) const fn new(bound: Bound, limit: usize) -> Self {
        Self { bound, limit }
    }

    /// The limit that was exceeded.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The value of the limit.
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
                    "the answer's body is longer than {limit} bytes when decompressed"
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
            Bound::Image => write!(f, "the file is longer than {limit} bytes when decompressed"),
            Bound::Window => write!(
                f,
                "decompressing the file takes more than {limit} bytes of memory"
            ),
            Bound::Pages => write!(f, "the list has more than {limit} pages"),
            Bound::Depth => write!(f, "the JSON is nested deeper than {limit} levels"),
        }
    }
}

impl std::error::Error for Exceeded {}

/// Whether JSON is nested deeper than that. Invalid JSON is left to the parser.
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
    fn invalid_limits_become_the_nearest_valid_ones() {
        assert_eq!(Bounds::new().head(0).head, MIN_HEAD);
        assert_eq!(Bounds::new().depth(usize::MAX).depth, MAX_DEPTH);
    }
}
