//! Schema in, Rust out. See `ARCHITECTURE.md`.
pub mod facts;
