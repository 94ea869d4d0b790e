//! Values of the API: answers, parameters, and texts with a structure.

pub(crate) mod address;
pub mod api_value;
pub(crate) mod compare;
pub(crate) mod debug;
pub mod decode;
pub mod encode;
pub mod endpoint;
mod extra;
pub(crate) mod file;
pub mod formats;
mod future;
#[cfg(feature = "guests")]
pub(crate) mod guest;
mod indexed_map;
pub mod input;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod log_line;
mod one_text;
pub mod open_enum;
mod parameter;
mod pending;
mod problem;
pub(crate) mod product;
pub mod property_string;
pub(crate) mod secret;
pub(crate) mod serialize;
#[doc(hidden)]
pub mod set;
pub mod settings;
pub(crate) mod text;
mod timestamp;
mod unknown_keys;
pub mod upid;

pub use api_value::ApiValue;
pub use future::BoxFuture;
pub use indexed_map::IndexedMap;
pub use list::List;
pub use pending::Pending;
pub use secret::Secret;
pub use serialize::{WithSecrets, with_secrets};
pub use settings::{Change, Changes, Settings};
pub use timestamp::Timestamp;
