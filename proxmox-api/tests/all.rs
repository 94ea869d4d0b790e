//! Tests that need no process of their own, in one program: linking it takes longer than running most of them.

#[cfg(all(feature = "blocking", feature = "full"))]
mod blocking;
#[cfg(feature = "guests")]
mod guests;
#[cfg(feature = "guests")]
mod guests_agent;
#[cfg(feature = "guests")]
mod guests_batch;
#[cfg(feature = "guests")]
mod guests_events;
#[cfg(feature = "guests")]
mod guests_tasks;
mod parameters;
#[cfg(feature = "full")]
mod parsers;
#[cfg(feature = "full")]
mod programs;
#[cfg(feature = "pools")]
mod requirements;
#[cfg(feature = "full")]
mod streams;
#[cfg(feature = "full")]
mod twisted;
#[cfg(all(
    feature = "cluster-firewall",
    feature = "cluster-sdn",
    feature = "nodes",
    feature = "qemu"
))]
mod values;
