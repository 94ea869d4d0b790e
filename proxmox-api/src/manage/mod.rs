//! Everyday work on a cluster, on top of the generated calls: guests by number, batches, events, figures.

pub mod agent;
pub mod backups;
pub mod batch;
pub mod clones;
pub mod container;
pub mod events;
pub mod firewall;
pub mod guest;
pub mod ha;
pub mod health;
pub mod image;
pub mod inventory;
pub mod machine;
pub mod maintenance;
pub mod metrics;
pub mod migration;
pub mod sdn;
pub mod tasks;
pub mod webhook;
pub mod work;
