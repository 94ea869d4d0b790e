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
use crate::value::input::{IntoItems, IntoItemsSetting, IntoSetting, IntoValue};
use crate::value::limits;
use crate::value::list::{self, List};

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
    /// Parameters with a value that no known release takes, and why.
    pub(crate) doubts: Vec<(String, RequestErrorKind)>,
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
            doubts: Vec::new(),
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

    /// Sets a parameter to what `value` is as a `P`.
    #[inline]
    pub(crate) fn set_as<P: ToParam, How>(
        &mut self,
        key: &'static str,
        value: impl IntoValue<P, How>,
    ) {
        match value.into_value() {
            Ok(value) => self.set(key, &value),
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets a parameter to what `value` is as a `P`, if it is there.
    #[inline]
    pub(crate) fn set_some<P: ToParam, How>(
        &mut self,
        key: &'static str,
        value: impl IntoSetting<P, How>,
    ) {
        match value.into_setting() {
            Ok(Some(value)) => self.set(key, &value),
            Ok(None) => {}
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets a parameter to a list of `P` in one text.
    #[inline]
    pub(crate) fn set_list<P, How>(&mut self, key: &'static str, items: impl IntoItems<P, How>)
    where
        List<P>: ToParam,
    {
        match items.into_items() {
            Ok(items) => self.set(key, &List(items)),
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets a parameter to a list of `P` in one text, if there is one.
    #[inline]
    pub(crate) fn set_some_list<P, How>(
        &mut self,
        key: &'static str,
        items: impl IntoItemsSetting<P, How>,
    ) where
        List<P>: ToParam,
    {
        match items.into_items_setting() {
            Ok(Some(items)) => self.set(key, &List(items)),
            Ok(None) => {}
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets a parameter to an array of `P`.
    #[inline]
    pub(crate) fn set_all<P: ToParam, How>(
        &mut self,
        key: &'static str,
        items: impl IntoItems<P, How>,
    ) {
        match items.into_items() {
            Ok(items) => self.set(key, &items),
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets a parameter to an array of `P`, if there is one.
    #[inline]
    pub(crate) fn set_some_all<P: ToParam, How>(
        &mut self,
        key: &'static str,
        items: impl IntoItemsSetting<P, How>,
    ) {
        match items.into_items_setting() {
            Ok(Some(items)) => self.set(key, &items),
            Ok(None) => {}
            Err(problem) => self.refuse(key, problem),
        }
    }

    /// Sets one member of an indexed family to what `value` is as a `P`, if it is there.
    #[inline]
    pub(crate) fn set_member<P: ToParam, Which, How>(
        &mut self,
        family: &'static str,
        index: impl IntoValue<u8, Which>,
        value: impl IntoSetting<P, How>,
    ) {
        match (index.into_value(), value.into_setting()) {
            (Ok(index), Ok(Some(value))) => self.set_indexed(family, index, &value),
            (Ok(_), Ok(None)) => {}
            (Err(problem), _) => self.refuse_index(family, problem),
            (_, Err(problem)) => self.refuse(family, problem),
        }
    }

    /// An index that no family has.
    #[cold]
    fn refuse_index(&mut self, family: &str, mut problem: Problem) {
        let limits = self.endpoint.map_or(&[][..], |endpoint| endpoint.limits);
        problem.allowed = limits::indexes(limits, family);
        let key = format!("{family}{}", problem.value.as_deref().unwrap_or_default());
        self.refuse(&key, problem);
    }

    #[inline(never)]
    fn set_indexed(&mut self, family: &str, index: u8, value: &dyn ToParam) {
        self.put(format!("{family}{index}").into(), value);
    }

    fn put(&mut self, key: Cow<'static, str>, value: &dyn ToParam) {
        if value.is_absent() {
            return;
        }
        self.doubts.retain(|(doubted, _)| *doubted != key);
        if let Some(problem) = value.problem() {
            self.refuse(&key, problem);
        }
        self.put_value(key, value.to_param());
    }

    pub(crate) fn put_all<K: Into<String>, V: ToParam>(
        &mut self,
        params: impl IntoIterator<Item = (K, V)>,
    ) {
        for (key, value) in params {
            self.put(key.into().into(), &value);
        }
    }

    /// Sets a parameter to what it is on the wire, apart from the separators of a list.
    pub(crate) fn put_value(&mut self, key: Cow<'static, str>, value: ParamValue) {
        let value = match (value, self.separator(&key)) {
            (ParamValue::One(text), Some(separator)) => {
                ParamValue::One(list::separated_by(separator, &text))
            }
            (value, _) => value,
        };
        if let ParamValue::Many(texts) = &value
            && let [only] = &texts[..]
            && matches!(only.as_str(), "" | "0")
        {
            // A lone value becomes an array by Perl's idea of truth, and is refused otherwise.
            let allowed = "more than one element, or one that is neither empty nor 0: the server takes \
                           that for no array";
            self.refuse(&key, Problem::doubt(only, allowed));
        }
        let limits = self.endpoint.map_or(&[][..], |endpoint| endpoint.limits);
        if let Some(problem) = limits::beyond(limits, &key, &value) {
            self.refuse(&key, problem);
        }
        self.params.set(key, value);
    }

    /// What stands between the items of a list in one text, where that is not a comma.
    fn separator(&self, key: &str) -> Option<char> {
        let separators = self.endpoint.map_or(&[][..], |e| e.separators);
        let found = separators.iter().find(|(name, _)| *name == key);
        found.map(|(_, separator)| *separator)
    }

    /// Notes why it cannot be sent, or why no server is known to take it; the first reason stays.
    #[cold]
    pub(crate) fn refuse(&mut self, key: &str, problem: Problem) {
        let certain = problem.certain;
        let reason = RequestErrorKind::Parameter {
            parameter: key.to_owned(),
            value: problem.value.filter(|_| !self.is_secret(key)),
            allowed: problem.allowed,
        };
        match certain {
            true => {
                self.invalid.get_or_insert_with(|| Box::new(reason));
            }
            false => self.doubts.push((key.to_owned(), reason)),
        }
    }

    /// Why it is not to be sent; `strict` for what no known release takes, too.
    pub(crate) fn reason_against(&self, strict: bool) -> Option<&RequestErrorKind> {
        let doubt = self.doubts.first().filter(|_| strict);
        self.invalid.as_deref().or(doubt.map(|(_, reason)| reason))
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

    /// Sets many parameters by their wire names, such as those of a JSON object; what is `None` or null is left
    /// out.
    pub fn params<K: Into<String>, V: ToParam>(
        mut self,
        params: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.call.put_all(params);
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

    #[inline]
    fn call_mut(&mut self) -> &mut Call {
        &mut self.call
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

            #[inline]
            fn call_mut(&mut self) -> &mut Call {
                &mut self.0.call
            }
        }

        impl $name {
            /// Sets any parameter by its wire name, for what this crate does not know yet.
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
