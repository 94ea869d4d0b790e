//! The one type of boxed futures.

use std::future::Future;
use std::pin::Pin;

/// A future of any kind that can go to another thread.
///
/// Requests, operations and the methods of a [`Transport`](crate::transport::Transport) give it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
