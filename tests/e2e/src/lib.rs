//! Expectations: every request with all parameters set, the shape of every answer, and access to decoded values.

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
pub mod request;
pub mod shape;
pub mod show;

pub use answers::{ANSWERS, PROPERTY_STRINGS};
pub use request::REQUESTS;
pub use settings::WRITE_BACKS;
