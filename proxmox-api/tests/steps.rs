//! Operations of several steps on three releases, with failures in between.
#![cfg(feature = "guests")]

#[path = "steps/support.rs"]
mod support;

#[path = "steps/backups.rs"]
mod backups;
#[path = "steps/clones.rs"]
mod clones;
#[cfg(feature = "console")]
#[path = "steps/cluster_state.rs"]
mod cluster_state;
#[cfg(feature = "console")]
#[path = "steps/consoles.rs"]
mod consoles;
#[path = "steps/container.rs"]
mod container;
#[path = "steps/firewall.rs"]
mod firewall;
#[path = "steps/ha.rs"]
mod ha;
#[path = "steps/health.rs"]
mod health;
#[path = "steps/machine.rs"]
mod machine;
#[path = "steps/maintenance.rs"]
mod maintenance;
#[cfg(feature = "console")]
#[path = "steps/matrix.rs"]
mod matrix;
#[path = "steps/migration.rs"]
mod migration;
#[path = "steps/sdn.rs"]
mod sdn;
#[cfg(feature = "console")]
#[path = "steps/stopped.rs"]
mod stopped;
#[path = "steps/watch.rs"]
mod watch;
