//! Requests as plain values.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde_json::Value;

use crate::client::{Client, Reply};
use crate::error::{Error, Name, RequestErrorKind};
use crate::stream::download::Download;
use crate::stream::envelope::WithEnvelope;
use crate::stream::paging::{Items, Pages};
use crate::task::Task;
use crate::value::api_value::ApiValue;
use crate::value::decode::{DecodeError, Extra, decode_answer, decode_beside};
use crate::value::encode::{ParamValue, Params, Problem, ToParam, escape};
use crate::value::endpoint::{Endpoint, Method};
use crate::value::list;

/// A request ready to be sent: verb, path and parameters.
///
/// Its `Debug` form hides the values of secret parameters.
#[derive(Clone)]
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) params: Params,
    pub(crate) endpoint: Option<&'static Endpoint>,
    /// Why it cannot be sent, where a value did not fit into its place.
    pub(crate) invalid: Option<Box<RequestErrorKind>>,
    /// Whether the caller says that sending it twice does no harm.
    pub(crate) repeatable: bool,
    pub(crate) scope: Scope,
}

/// Where a path lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Below the root of the API.
    Api,
    /// Below the server's address, for everybody.
    Outside,
}

impl Call {
    /// A call of a path that is already percent-encoded and starts with a slash.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            params: Params::default(),
            endpoint: None,
            invalid: None,
            repeatable: false,
            scope: Scope::Api,
        }
    }

    /// The verb.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The percent-encoded path below `/api2/json`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters that are not part of the path, secrets included.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The endpoint's description; `None` for a call by plain path.
    #[must_use]
    pub fn endpoint(&self) -> Option<&'static Endpoint> {
        self.endpoint
    }

    /// Whether it may be sent again after it may have arrived: always for GET, otherwise if
    /// [`Request::repeatable`] said so.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeatable || self.method == Method::Get
    }

    /// Whether a parameter's value must not be printed: the schema says so, or its name does where the schema does not
    /// know it.
    pub(crate) fn is_secret(&self, parameter: &str) -> bool {
        match self.endpoint {
            Some(endpoint) => {
                endpoint.secrets.contains(&parameter) || crate::value::secret::is_secret(parameter)
            }
            None => crate::value::secret::is_secret(parameter),
        }
    }

    /// What names the call where values do not belong, such as in logs: the verb and the template.
    #[must_use]
    pub fn name(&self) -> String {
        match self.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => format!("{} {}", self.method, self.path),
        }
    }
}

/// What the setters of all requests come down to.
#[allow(
    dead_code,
    reason = "which of them are used depends on the chosen areas"
)]
impl Call {
    /// Compiled here, once: a setter in a user's program is no more than a call of this.
    #[inline(never)]
    pub(crate) fn set(&mut self, key: &'static str, value: &dyn ToParam) {
        self.put(key.into(), value);
    }

    #[inline(never)]
    pub(crate) fn set_bool(&mut self, key: &'static str, value: bool) {
        self.set(key, &value);
    }

    #[inline(never)]
    pub(crate) fn set_integer(&mut self, key: &'static str, value: i64) {
        self.set(key, &value);
    }

    #[inline(never)]
    pub(crate) fn set_vmid(&mut self, key: &'static str, value: u32) {
        self.set(key, &value);
    }

    /// Sets a parameter to what `value` is as a `P`.
    #[inline]
    pub(crate) fn set_as<P: ToParam>(&mut self, key: &'static str, value: impl Into<P>) {
        self.set(key, &value.into());
    }

    /// Sets a parameter to an array of `P`.
    #[inline]
    pub(crate) fn set_all<P: ToParam>(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = impl Into<P>>,
    ) {
        let values: Vec<P> = values.into_iter().map(Into::into).collect();
        self.set(key, &values);
    }

    /// Sets one member of an indexed family.
    #[inline(never)]
    pub(crate) fn set_indexed(&mut self, name: &str, index: u8, value: &dyn ToParam) {
        self.put(format!("{name}{index}").into(), value);
    }

    /// Sets one member of an indexed family to what `value` is as a `P`.
    #[inline]
    pub(crate) fn set_indexed_as<P: ToParam>(
        &mut self,
        name: &str,
        index: u8,
        value: impl Into<P>,
    ) {
        self.set_indexed(name, index, &value.into());
    }

    fn put(&mut self, key: Cow<'static, str>, value: &dyn ToParam) {
        if let Some(problem) = value.problem() {
            self.refuse(&key, problem);
        }
        self.put_value(key, value.to_param());
    }

    /// Sets a parameter to what it is on the wire, apart from the separators of a list.
    pub(crate) fn put_value(&mut self, key: Cow<'static, str>, value: ParamValue) {
        let value = match (value, self.separator(&key)) {
            (ParamValue::One(text), Some(separator)) => {
                ParamValue::One(list::separated_by(separator, &text))
            }
            (value, _) => value,
        };
        self.params.set(key, value);
    }

    /// What stands between the items of a list in one text, where that is not a comma.
    fn separator(&self, key: &str) -> Option<char> {
        let separators = self.endpoint.map_or(&[][..], |e| e.separators);
        let found = separators.iter().find(|(name, _)| *name == key);
        found.map(|(_, separator)| *separator)
    }

    /// Notes why it cannot be sent; the first reason stays.
    #[cold]
    pub(crate) fn refuse(&mut self, key: &str, problem: Problem) {
        let secret = self.is_secret(key);
        self.invalid.get_or_insert_with(|| {
            Box::new(RequestErrorKind::Parameter {
                parameter: key.to_owned(),
                value: problem.value.filter(|_| !secret),
                allowed: problem.allowed,
            })
        });
    }

    /// Adds a key to the `delete` parameter.
    #[inline(never)]
    pub(crate) fn unset(&mut self, key: String) {
        if let Some(problem) = list::not_one_item(&key) {
            self.refuse("delete", problem);
        }
        let value = match self.params.get("delete") {
            Some(ParamValue::One(keys)) if !keys.is_empty() => {
                ParamValue::One(format!("{keys},{key}"))
            }
            Some(ParamValue::Many(keys)) => {
                ParamValue::Many(keys.iter().cloned().chain([key]).collect())
            }
            _ => ParamValue::One(key),
        };
        self.params.set("delete", value);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Shown<'a>(&'a Call);

        impl fmt::Debug for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut map = f.debug_map();
                for (key, value) in self.0.params.iter() {
                    map.key(&key);
                    match value {
                        _ if self.0.is_secret(key) => map.value(&format_args!("…")),
                        ParamValue::One(value) => map.value(value),
                        ParamValue::Many(values) => map.value(values),
                    };
                }
                map.finish()
            }
        }

        f.debug_struct("Call")
            .field("method", &format_args!("{}", self.method))
            .field("path", &self.path)
            .field("params", &Shown(self))
            .finish()
    }
}

/// A call and how to read its answer.
///
/// Awaiting it sends it. Requests with optional parameters are types of their own that wrap this one.
#[must_use = "a request does nothing until it is awaited"]
pub struct Request<T> {
    pub(crate) client: Option<Client>,
    pub(crate) call: Call,
    pub(crate) decode: Decode<T>,
}

/// How an answer is read; what stands beside its data goes to the last argument.
pub(crate) type Decode<T> = fn(&Client, &Reply, &mut Extra) -> Result<T, DecodeError>;

/// The future of a request under way.
pub type Sending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl<T> Request<T> {
    /// Sets any parameter by its wire name, for what this crate does not know yet.
    pub fn param(mut self, key: impl Into<String>, value: impl ToParam) -> Self {
        self.call.put(key.into().into(), &value);
        self
    }

    /// Says that it does no harm if the server acts on this twice, so that it is sent again where a GET would
    /// be; see [`RetryPolicy`](crate::client::retry::RetryPolicy).
    pub fn repeatable(mut self) -> Self {
        self.call.repeatable = true;
        self
    }

    /// What will be sent.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Binds the request to a client, replacing the one it came from.
    pub fn with_client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
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
    type IntoFuture = Sending<T>;

    #[inline]
    fn into_future(self) -> Sending<T> {
        let Self {
            client,
            call,
            decode,
        } = self;
        Box::pin(async move {
            let (client, name, reply) = exchange(client, call).await?;
            decode(&client, &reply, &mut Extra::new()).map_err(|error| Error::decode(name, error))
        })
    }
}

/// Everything about sending that does not depend on the answer's type.
pub(crate) fn exchange(client: Option<Client>, call: Call) -> Sending<(Client, Name, Reply)> {
    Box::pin(async move {
        let Some(client) = client else {
            return Err(Error::detached(Name::of(&call)));
        };
        let name = client.name(&call);
        let reply = client.execute_as(name.clone(), call).await?;
        Ok((client, name, reply))
    })
}

/// A request of a known endpoint.
pub trait ApiRequest: Sized {
    /// What awaiting it gives.
    type Output: 'static;

    /// The request without its setters.
    fn into_request(self) -> Request<Self::Output>;

    /// As [`Request::with_envelope`].
    fn with_envelope(self) -> WithEnvelope<Self::Output> {
        self.into_request().with_envelope()
    }

    /// As [`Request::stream`].
    ///
    /// # Errors
    /// Those of [`Request::stream`].
    #[must_use = "a request does nothing until it is awaited"]
    fn stream(self) -> Sending<Download> {
        self.into_request().stream()
    }

    /// As [`Request::pages`].
    fn pages<T: 'static>(self, size: u32) -> Pages<T>
    where
        Self: ApiRequest<Output = Vec<T>>,
    {
        self.into_request().pages(size)
    }

    /// As [`Request::items`].
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
}

impl Client {
    /// Sends a request that was built elsewhere, through this client.
    ///
    /// # Errors
    /// Those of awaiting the request.
    pub async fn send<R: ApiRequest>(&self, request: R) -> Result<R::Output, Error> {
        request.into_request().with_client(self).await
    }

    /// A call of any path, for endpoints this crate does not know. `path` starts with a slash, goes
    /// below `/api2/json` and is sent as it is.
    pub fn request(&self, method: Method, path: impl Into<String>) -> Request<Value> {
        Request {
            client: Some(self.clone()),
            call: Call::new(method, path),
            decode: reply::data,
        }
    }
}

/// How answers are read.
#[doc(hidden)]
pub mod reply {
    use super::{
        ApiValue, Client, DecodeError, Extra, Reply, Task, Value, decode_answer, decode_beside,
    };

    /// Whatever comes is as good as nothing.
    pub fn nothing(_: &Client, reply: &Reply, extra: &mut Extra) -> Result<(), DecodeError> {
        *extra = decode_beside(&reply.body).unwrap_or_default();
        Ok(())
    }

    pub fn data<T: ApiValue>(
        _: &Client,
        reply: &Reply,
        extra: &mut Extra,
    ) -> Result<T, DecodeError> {
        decode_answer(&reply.body, extra)
    }

    pub fn bytes(_: &Client, reply: &Reply, _: &mut Extra) -> Result<bytes::Bytes, DecodeError> {
        Ok(reply.body.clone())
    }

    /// Whatever it says of the task, the call has worked.
    pub fn task(client: &Client, reply: &Reply, extra: &mut Extra) -> Result<Task, DecodeError> {
        let named: Value = decode_answer(&reply.body, extra)?;
        Ok(Task::of_answer(client.clone(), &named))
    }
}

/// A place in the path tree.
#[doc(hidden)]
#[derive(Clone)]
pub struct At {
    client: Option<Client>,
    path: String,
    invalid: Option<Box<RequestErrorKind>>,
}

impl At {
    pub fn root(client: Option<&Client>) -> Self {
        Self {
            client: client.cloned(),
            path: String::new(),
            invalid: None,
        }
    }

    /// One literal segment down.
    #[must_use]
    pub fn literal(&self, segment: &str) -> Self {
        let mut at = self.clone();
        at.path.push('/');
        at.path.push_str(segment);
        at
    }

    /// One value down.
    #[must_use]
    pub fn value(&self, name: &str, value: &dyn fmt::Display) -> Self {
        self.segment(name, &value.to_string(), false)
    }

    /// One value down that may hold slashes: the server reads the rest of the path as one value there.
    #[must_use]
    pub fn rest(&self, name: &str, value: &dyn fmt::Display) -> Self {
        self.segment(name, &value.to_string(), true)
    }

    /// A call of this path that is not read as any endpoint's.
    #[cfg(feature = "console")]
    pub(crate) fn call(&self, method: Method) -> Call {
        Call {
            invalid: self.invalid.clone(),
            ..Call::new(method, self.path.clone())
        }
    }

    fn segment(&self, name: &str, value: &str, slashes: bool) -> Self {
        let mut at = self.clone();
        // The server decodes the whole path before it splits it, and drops empty segments.
        let problem = match value {
            "" => Some("is empty"),
            "." | ".." => Some("would leave its place in the path"),
            _ if !slashes && value.contains('/') => Some("contains a slash"),
            _ => None,
        };
        if let Some(problem) = problem {
            at.invalid.get_or_insert_with(|| {
                let problem = format!("the path value `{name}` {problem}");
                Box::new(RequestErrorKind::Path { problem })
            });
        }
        at.path.push('/');
        at.path.push_str(&escape(value).to_string());
        at
    }

    /// A request of this path.
    pub fn request<T>(&self, endpoint: &'static Endpoint, decode: Decode<T>) -> Request<T> {
        Request {
            client: self.client.clone(),
            call: self.call_of(endpoint),
            decode,
        }
    }

    #[inline(never)]
    fn call_of(&self, endpoint: &'static Endpoint) -> Call {
        Call {
            endpoint: Some(endpoint),
            invalid: self.invalid.clone(),
            ..Call::new(endpoint.method, self.path.clone())
        }
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() {
            "/"
        } else {
            &self.path
        })
    }
}

/// What every request type has, apart from its setters.
#[allow(unused_macros, reason = "some areas have no request with setters")]
macro_rules! request_impls {
    ($name:ident: $output:ty) => {
        impl ApiRequest for $name {
            type Output = $output;

            #[inline]
            fn into_request(self) -> Request<$output> {
                self.0
            }
        }

        impl $name {
            /// Sets any parameter by its wire name, for what this crate does not know yet.
            #[inline]
            pub fn param(self, key: impl Into<String>, value: impl ToParam) -> Self {
                Self(self.0.param(key, value))
            }

            /// Says that it does no harm if the server acts on this twice; see
            /// [`Request::repeatable`].
            #[inline]
            pub fn repeatable(self) -> Self {
                Self(self.0.repeatable())
            }

            /// What will be sent.
            #[inline]
            #[must_use]
            pub fn call(&self) -> &Call {
                self.0.call()
            }
        }

        impl IntoFuture for $name {
            type Output = Result<$output, Error>;
            type IntoFuture = Sending<$output>;

            #[inline]
            fn into_future(self) -> Self::IntoFuture {
                self.0.into_future()
            }
        }

        impl fmt::Debug for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

pub(crate) use request_impls;
