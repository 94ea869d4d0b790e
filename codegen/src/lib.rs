//! Schema in, Rust out. See `ARCHITECTURE.md`.
pub mod apidoc;
pub mod diff;
pub mod facts;
pub mod facts_json;
mod json;
mod typetext;
