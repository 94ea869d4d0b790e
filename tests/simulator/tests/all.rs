//! All tests of the simulator, in one program: linking it takes longer than running most of them.

mod support;

mod agent;
mod configuration;
mod consoles;
mod every_endpoint;
mod faults;
mod hosts;
mod refusals;
mod samples;
mod snapshots;
mod state;
mod validation;
mod wire;
