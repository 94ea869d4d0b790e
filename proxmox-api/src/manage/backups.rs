//! Backup jobs, existing backups, guests restored from them, pruning; replication jobs.
//!
//! One backup of one guest is [`Guest::backup`](super::guest::Guest::backup).

mod archive;
mod job;
mod prune;
mod replication;
mod restore;

pub(crate) use archive::reachable_nodes;
pub use archive::{Archive, FindBackups};
pub use job::{BackupJob, RunBackupJob};
pub use prune::{Prune, PruneOutcome};
pub use replication::ReplicationJob;
pub use restore::Recover;
