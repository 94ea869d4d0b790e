//! The state of a simulated cluster, by domain.

pub(crate) mod access;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod effect;
pub(crate) mod guest;
pub(crate) mod records;
pub(crate) mod storage;
pub(crate) mod tasks;
