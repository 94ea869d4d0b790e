//! All tests of the gateway but those of its logs, in one program: linking it takes longer than running most of them.

mod common;

mod design_document;
mod documents;
mod front;
mod gateway;
mod grpc;
mod native;
#[cfg(feature = "postgres")]
mod postgres;
mod security;
mod vclusters;
