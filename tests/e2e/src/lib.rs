//! What the tests hold the crate against: every request with everything set, every answer's shape,
//! and a look into what was decoded.

pub mod answer;
#[rustfmt::skip]
#[path = "generated/answers.rs"]
mod answers;
pub mod property;
#[rustfmt::skip]
#[path = "generated/requests.rs"]
mod requests;
#[rustfmt::skip]
#[path = "generated/settings.rs"]
mod settings;
pub mod shape;
pub mod show;
pub mod wire;

pub use answers::{ANSWERS, PROPERTY_STRINGS};
pub use requests::WIRES;
pub use settings::WRITE_BACKS;
