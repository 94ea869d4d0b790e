//! The one type of boxed futures.

use std::future::Future;
use std::pin::Pin;

/// A boxed future that can move to another thread.
///
/// Requests, operations and the methods of a [`Transport`](crate::transport::Transport) return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
