//! Schema in, Rust out. See `ARCHITECTURE.md`.
pub mod apidoc;
pub mod catalog;
mod check;
pub mod diff;
mod emit;
pub mod facts;
pub mod facts_json;
pub mod generate;
mod ir;
mod json;
mod names;
mod overlay;
pub mod privileges;
pub mod recorded;
mod render;
pub mod surface;
mod typetext;
mod union;
