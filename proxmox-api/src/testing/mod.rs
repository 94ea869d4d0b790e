//! For the tests of programs that use this crate: a server that answers from a script.

mod script;

#[cfg(test)]
mod fake;

pub use script::{Expect, Script, ScriptError};

#[cfg(test)]
pub(crate) use fake::*;
