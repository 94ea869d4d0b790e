//! The client: one server, one identity, shared by cloning.

pub mod auth;
mod availability;
mod builder;
pub(crate) mod call;
mod calls;
mod environment;
#[cfg(feature = "guests")]
mod extensions;
pub mod hosts;
pub mod limit;
mod login;
pub(crate) mod path;
mod release;
mod reply;
pub(crate) mod request;
pub mod retry;
mod rules;
pub(crate) mod send;
mod settings;
mod state;
mod trace;

pub use builder::ClientBuilder;
pub(crate) use reply::KeptSecrets;
pub use reply::Reply;
pub(crate) use rules::kept_secrets;
pub use settings::ClientSettings;
pub use state::Client;

#[cfg(test)]
mod tests;
