//! A call with the type of its answer, and how it is sent.

use std::fmt;
use std::future::IntoFuture;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::reply::Reply;
use super::state::Client;
use crate::error::{CallId, Error};
use crate::value::BoxFuture;
use crate::value::api_value::ApiValue;
use crate::value::decode::{DecodeError, Extra, decode_answer, problem_of};
use crate::value::encode::ToParam;
use crate::value::endpoint::Method;

/// A call and the decoder of its answer.
///
/// Awaiting it sends it. Requests with optional parameters are types of their own that wrap this one.
#[must_use = "a request does nothing until it is awaited"]
pub struct Request<T> {
    pub(crate) client: Option<Client>,
    pub(crate) call: Call,
    pub(crate) decode: Decode<T>,
}

/// The decoder of an answer; the members beside `data` go to the last argument.
pub(crate) type Decode<T> = fn(&Client, &Reply, &mut Extra) -> Result<T, DecodeError>;

impl<T> Request<T> {
    /// Sets any parameter by its wire name, for parameters that this crate does not know.
    pub fn param(mut self, key: impl Into<String>, value: impl ToParam) -> Self {
        self.call.put(key.into().into(), &value);
        self
    }

    /// Sets many parameters by their wire names, such as those of a JSON object; `None` and null
    /// are left out.
    pub fn params<K: Into<String>, V: ToParam>(
        mut self,
        params: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.call.put_all(params);
        self
    }

    /// Marks the request as safe to send twice, so that it is sent again where a GET would be; see
    /// [`RetryPolicy`](crate::client::retry::RetryPolicy).
    pub fn repeatable(mut self) -> Self {
        self.call.repeatable = true;
        self
    }

    /// The call that will be sent.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Binds the request to a client, instead of the one that made it.
    pub fn with_client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }
}

impl<T> Request<T> {
    /// The same call, with its answer read as any type that serde can read.
    pub(crate) fn answer_as<D: DeserializeOwned + 'static>(self) -> Request<D> {
        let Self { client, call, .. } = self;
        Request {
            client,
            call,
            decode: reply::any,
        }
    }
}

impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            call: self.call.clone(),
            decode: self.decode,
        }
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

impl<T: 'static> IntoFuture for Request<T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'static, Result<T, Error>>;

    #[inline]
    fn into_future(self) -> BoxFuture<'static, Result<T, Error>> {
        let Self {
            client,
            call,
            decode,
        } = self;
        Box::pin(async move {
            let (client, name, reply) = exchange(client, call).await?;
            decode(&client, &reply, &mut Extra::new())
                .map_err(|error| client.undecodable(name, &reply.secrets, error))
        })
    }
}

/// Everything about sending that does not depend on the answer's type.
pub(crate) fn exchange(
    client: Option<Client>,
    call: Call,
) -> BoxFuture<'static, Result<(Client, CallId, Reply), Error>> {
    Box::pin(async move {
        let Some(client) = client else {
            return Err(Error::detached(call.id()));
        };
        let name = client.call_id(&call);
        let reply = client.execute_as(name.clone(), call).await?;
        Ok((client, name, reply))
    })
}

impl Client {
    /// A call of any path, for endpoints that this crate does not know. `path` starts with a slash,
    /// is relative to `/api2/json` and is sent as it is; a query in it is read as parameters. The
    /// data of the answer is decoded as any type that serde can read; [`Value`] accepts anything.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use proxmox_api::value::endpoint::Method;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Row {
    ///     node: String,
    ///     status: String,
    /// }
    ///
    /// let rows: Vec<Row> = pve.request(Method::Get, "/cluster/resources?type=node").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<T: DeserializeOwned + 'static>(
        &self,
        method: Method,
        path: impl Into<String>,
    ) -> Request<T> {
        let path = path.into();
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query)),
            None => (path.clone(), None),
        };
        let mut call = Call::new(method, path);
        if let Some(query) = query {
            call.put_query(query);
        }
        Request {
            client: Some(self.clone()),
            call,
            decode: reply::any,
        }
    }
}

/// Decoders of answers.
pub(crate) mod reply {
    use std::any::Any;

    use super::{
        ApiValue, Client, DecodeError, DeserializeOwned, Extra, Reply, Value, decode_answer,
        problem_of,
    };

    if_any_area! {
        /// Accepts any answer and decodes nothing.
        pub(crate) fn nothing(_: &Client, reply: &Reply, extra: &mut Extra) -> Result<(), DecodeError> {
            *extra = crate::value::decode::decode_beside(reply).unwrap_or_default();
            Ok(())
        }
    }

    /// Reads any type of serde.
    pub(crate) fn any<T: DeserializeOwned + 'static>(
        _: &Client,
        reply: &Reply,
        extra: &mut Extra,
    ) -> Result<T, DecodeError> {
        let data: Value = decode_answer(reply, extra)?;
        // A copy would double the memory.
        let data = match (Box::new(data) as Box<dyn Any>).downcast() {
            Ok(same) => return Ok(*same),
            Err(other) => other.downcast().map(|data| *data).unwrap_or(Value::Null),
        };
        serde_json::from_value(data).map_err(|error| DecodeError::new("data", problem_of(&error)))
    }

    pub(crate) fn data<T: ApiValue>(
        _: &Client,
        reply: &Reply,
        extra: &mut Extra,
    ) -> Result<T, DecodeError> {
        decode_answer(reply, extra)
    }

    #[cfg(feature = "node-storage")]
    pub(crate) fn bytes(
        _: &Client,
        reply: &Reply,
        _: &mut Extra,
    ) -> Result<bytes::Bytes, DecodeError> {
        Ok(reply.body.clone())
    }
}
