//! A server that answers from a script, for tests of programs that use this crate.

mod script;

#[cfg(test)]
mod fake;

pub use script::{Expect, Script, ScriptError};

#[cfg(test)]
pub(crate) use fake::*;
