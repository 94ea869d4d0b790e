//! What tests of several crates share.

pub mod captured_log;
pub mod page;
pub mod random;
