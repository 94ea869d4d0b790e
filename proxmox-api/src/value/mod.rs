//! Values as the API writes them: answers, parameters, and the texts in both that have a structure.

pub(crate) mod address;
pub mod decode;
pub mod encode;
pub mod endpoint;
mod family;
pub(crate) mod file;
pub mod formats;
pub(crate) mod list;
pub mod open_enum;
mod pending;
pub mod property_string;
pub(crate) mod secret;
pub(crate) mod text;
pub mod upid;

pub use family::Family;
pub use list::List;
pub use pending::Pending;
pub use secret::Secret;
