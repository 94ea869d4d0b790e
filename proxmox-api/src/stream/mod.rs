//! Exchanges beyond one request and one answer: files, paged lists, lines, and consoles.

#[cfg(feature = "console")]
pub mod console;
pub mod download;
pub mod envelope;
pub mod lines;
pub mod paging;
pub mod upload;
