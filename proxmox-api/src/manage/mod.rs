//! Everyday work on a cluster, on top of the generated calls: guests by number, batches, events, figures.

pub mod agent;
pub mod batch;
pub mod events;
pub mod guest;
pub mod inventory;
pub mod metrics;
pub mod tasks;
pub mod webhook;
