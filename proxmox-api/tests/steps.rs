//! Work of several steps, on three releases, with what can go wrong in between.
#![cfg(feature = "guests")]

#[path = "steps/support.rs"]
mod support;

#[path = "steps/clones.rs"]
mod clones;
#[path = "steps/machine.rs"]
mod machine;
