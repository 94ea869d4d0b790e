//! Requests as plain values.

use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;
use crate::stream::download::Download;
use crate::stream::envelope::WithEnvelope;
use crate::stream::paging::{Items, Pages};
use crate::value::BoxFuture;
use crate::value::encode::ToParam;

pub use crate::client::call::Call;
pub use crate::client::request::Request;

/// A request of a known endpoint: every type named after a path and a verb, such as `QemuVmidClonePost`, and [`Request`]
/// itself.
pub trait ApiRequest: Sized {
    /// The type of its answer.
    type Output: 'static;

    /// The request without its setters.
    fn into_request(self) -> Request<Self::Output>;

    #[doc(hidden)]
    fn call_mut(&mut self) -> &mut Call;

    /// Sets any parameter by its wire name; see [`Request::param`].
    #[must_use]
    fn param(mut self, key: impl Into<String>, value: impl ToParam) -> Self {
        self.call_mut().put(key.into().into(), &value);
        self
    }

    /// Sets many parameters by their wire names; see [`Request::params`].
    #[must_use]
    fn params<K: Into<String>, V: ToParam>(
        mut self,
        params: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.call_mut().put_all(params);
        self
    }

    /// The same call, with the data of its answer decoded as any type that serde can read, such as
    /// [`Value`](crate::Value).
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::Value;
    /// use proxmox_api::request::ApiRequest;
    ///
    /// let version: Value = pve.version().get().answer_as().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn answer_as<T: DeserializeOwned + 'static>(self) -> Request<T> {
        self.into_request().answer_as()
    }

    /// See [`Request::with_envelope`].
    fn with_envelope(self) -> WithEnvelope<Self::Output> {
        self.into_request().with_envelope()
    }

    /// See [`Request::stream`].
    ///
    /// # Errors
    /// Those of [`Request::stream`].
    #[must_use = "a request does nothing until it is awaited"]
    fn stream(self) -> BoxFuture<'static, Result<Download, Error>> {
        self.into_request().stream()
    }

    /// See [`Request::pages`].
    fn pages<T: 'static>(self, size: u32) -> Pages<T>
    where
        Self: ApiRequest<Output = Vec<T>>,
    {
        self.into_request().pages(size)
    }

    /// See [`Request::items`].
    fn items<T: 'static>(self, size: u32) -> Items<T>
    where
        Self: ApiRequest<Output = Vec<T>>,
    {
        self.into_request().items(size)
    }
}

impl<T: 'static> ApiRequest for Request<T> {
    type Output = T;

    #[inline]
    fn into_request(self) -> Self {
        self
    }

    #[inline]
    fn call_mut(&mut self) -> &mut Call {
        &mut self.call
    }
}

impl Client {
    /// Sends a request that was built without a client, or with another one.
    ///
    /// # Errors
    /// Those of awaiting the request.
    pub async fn send<R: ApiRequest>(&self, request: R) -> Result<R::Output, Error> {
        request.into_request().with_client(self).await
    }
}

/// The methods of every request type, apart from its setters. Trait implementations that are the
/// same for hundreds of types are hidden in the documentation: repeated on every page they took a
/// third of it, and the trait's own page lists them.
#[allow(unused_macros, reason = "some areas have no request with setters")]
macro_rules! request_impls {
    ($name:ident: $output:ty) => {
        #[doc(hidden)]
        impl ApiRequest for $name {
            type Output = $output;

            #[inline]
            fn into_request(self) -> Request<$output> {
                self.0
            }

            #[inline]
            fn call_mut(&mut self) -> &mut Call {
                &mut self.0.call
            }
        }

        impl $name {
            /// Sets any parameter by its wire name, for parameters that this crate does not know.
            /// [`ApiRequest`] has the other methods of every request: streams, pages, other types
            /// for the answer.
            #[inline]
            pub fn param(self, key: impl Into<String>, value: impl ToParam) -> Self {
                Self(self.0.param(key, value))
            }

            /// Sets many parameters by their wire names; see [`Request::params`].
            #[inline]
            pub fn params<K: Into<String>, V: ToParam>(
                self,
                params: impl IntoIterator<Item = (K, V)>,
            ) -> Self {
                Self(self.0.params(params))
            }

            /// Marks the request as safe to send twice; see [`Request::repeatable`].
            #[inline]
            pub fn repeatable(self) -> Self {
                Self(self.0.repeatable())
            }

            /// The call that will be sent.
            #[inline]
            #[must_use]
            pub fn call(&self) -> &Call {
                self.0.call()
            }
        }

        #[doc(hidden)]
        impl IntoFuture for $name {
            type Output = Result<$output, Error>;
            type IntoFuture = BoxFuture<'static, Result<$output, Error>>;

            #[inline]
            fn into_future(self) -> Self::IntoFuture {
                self.0.into_future()
            }
        }

        #[doc(hidden)]
        impl fmt::Debug for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

pub(crate) use request_impls;
