//! Everyday work on a cluster, on top of the generated calls: guests by number, batches, events, figures.

pub mod agent;
pub mod batch;
pub mod clones;
pub mod events;
pub mod guest;
pub mod image;
pub mod inventory;
pub mod machine;
pub mod metrics;
pub mod tasks;
pub mod webhook;
pub mod work;
