//! More than one answer for one request: files, lists by the page, lines, and consoles.

#[cfg(feature = "console")]
pub mod console;
pub mod download;
pub mod envelope;
pub mod lines;
pub mod paging;
pub mod upload;
