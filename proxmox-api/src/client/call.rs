//! Verb, path and parameters of one request.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::error::{CallId, RequestErrorKind};
use crate::value::api_value::Object;
use crate::value::encode::{ParamValue, Params, Problem, ToParam};
use crate::value::endpoint::{Endpoint, Method};
use crate::value::input::{IntoItems, IntoItemsSetting, IntoSetting, IntoValue};
use crate::value::limits;
use crate::value::list::{self, List};
use crate::value::settings::{self, Acceptance, Change, Written};

/// A request ready to be sent: verb, path and parameters.
///
/// Its `Debug` form hides the values of secret parameters.
#[derive(Clone)]
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) params: Params,
    pub(crate) endpoint: Option<&'static Endpoint>,
    /// The reason why it cannot be sent, if a value cannot be encoded in its place.
    pub(crate) invalid: Option<Box<RequestErrorKind>>,
    /// Parameters with a value that no known release accepts, and the reasons.
    pub(crate) doubts: Vec<(String, RequestErrorKind)>,
    /// Whether the caller marked the call as safe to send twice.
    pub(crate) repeatable: bool,
    pub(crate) scope: Scope,
}

/// The root of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Below the root of the API.
    Api,
    /// Below the server's address, without authentication.
    Outside,
}

impl Call {
    /// A call of a path that is percent-encoded already and starts with a slash.
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

    /// Whether it may be sent again after it may have arrived: always for GET, otherwise only after
    /// [`Request::repeatable`](crate::request::Request::repeatable).
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeatable || self.method == Method::Get
    }

    /// Whether a parameter's value must not be printed: by the schema, or by its name if the schema
    /// does not know it.
    pub(crate) fn is_secret(&self, parameter: &str) -> bool {
        match self.endpoint {
            Some(endpoint) => {
                endpoint.secrets.contains(&parameter) || crate::value::secret::is_secret(parameter)
            }
            None => crate::value::secret::is_secret(parameter),
        }
    }

    /// The call in the text of errors: verb and path, unescaped.
    pub(crate) fn id(&self) -> CallId {
        let path = percent_decode_str(&self.path).decode_utf8_lossy();
        CallId::new(self.method, &path).repeatable(self.is_repeatable())
    }

    /// The call without values, for logs: the verb and the path template.
    #[must_use]
    pub fn name(&self) -> String {
        match self.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => format!("{} {}", self.method, self.path),
        }
    }
}

/// The setters of all requests call these.
#[allow(
    dead_code,
    reason = "which of them are used depends on the chosen areas"
)]
impl Call {
    /// Not generic, so that a setter in a user's program compiles to one call of this.
    #[inline(never)]
    pub(crate) fn set(&mut self, key: &'static str, value: &dyn ToParam) {
        self.put(key.into(), value);
    }

    /// Sets a parameter to `value`, converted to `P`.
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

    /// Sets a parameter to `value`, converted to `P`, if there is a value.
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

    /// Sets one index of an indexed parameter to `value`, converted to `P`, if there is a value.
    #[inline]
    pub(crate) fn set_member<P: ToParam, Which, How>(
        &mut self,
        prefix: &'static str,
        index: impl IntoValue<u8, Which>,
        value: impl IntoSetting<P, How>,
    ) {
        match (index.into_value(), value.into_setting()) {
            (Ok(index), Ok(Some(value))) => self.set_indexed(prefix, index, &value),
            (Ok(_), Ok(None)) => {}
            (Err(problem), _) => self.refuse_index(prefix, problem),
            (_, Err(problem)) => self.refuse(prefix, problem),
        }
    }

    /// Refuses an index that the parameter does not have.
    #[cold]
    fn refuse_index(&mut self, prefix: &str, mut problem: Problem) {
        let limits = self.endpoint.map_or(&[][..], |endpoint| endpoint.limits);
        problem.allowed = limits::indexes(limits, prefix);
        let key = format!("{prefix}{}", problem.value.as_deref().unwrap_or_default());
        self.refuse(&key, problem);
    }

    #[inline(never)]
    fn set_indexed(&mut self, prefix: &str, index: u8, value: &dyn ToParam) {
        self.put(format!("{prefix}{index}").into(), value);
    }

    pub(crate) fn put(&mut self, key: Cow<'static, str>, value: &dyn ToParam) {
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

    /// Sets the parameters of the request that `value` has members for.
    #[inline(never)]
    pub(crate) fn put_settings(&mut self, value: &dyn Object, acceptance: Acceptance) {
        for (name, written) in settings::all(value) {
            if acceptance.accepts(&name) {
                let written = acceptance.form(&name, written);
                self.put_written(name, written);
            }
        }
    }

    /// Applies those changes that the request has parameters for.
    #[inline(never)]
    pub(crate) fn put_changes(
        &mut self,
        changes: &[Change],
        digest: Option<&str>,
        acceptance: Acceptance,
    ) {
        for change in changes {
            let name = change.name();
            if !acceptance.accepts(name) {
                continue;
            }
            match change.written() {
                Some(written) => {
                    let written = acceptance.form(name, written.clone());
                    self.put_written(name.to_owned(), written);
                }
                None if acceptance.removes => self.unset(name.to_owned()),
                None => {
                    let allowed = "a value: this call removes no settings";
                    let problem = Problem {
                        certain: true,
                        value: None,
                        allowed: allowed.to_owned(),
                    };
                    self.refuse(name, problem);
                }
            }
        }
        if let Some(digest) = digest
            && acceptance.accepts(settings::DIGEST)
        {
            self.set(settings::DIGEST, &digest);
        }
    }

    fn put_written(&mut self, name: String, written: Written) {
        if let Some(problem) = written.problem {
            self.refuse(&name, problem);
        }
        self.put_value(name.into(), written.value);
    }

    /// Sets the parameters of a query; a name that occurs several times becomes an array.
    pub(crate) fn put_query(&mut self, query: &str) {
        let text = |raw: &str| {
            let raw = raw.replace('+', " ");
            let text = percent_decode_str(&raw).decode_utf8();
            text.map(Cow::into_owned)
        };
        for pair in query.split(['&', ';']).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Ok(name), Ok(value)) = (text(name), text(value)) else {
                let problem = format!("{name:?} in the query is not UTF-8 once it is decoded");
                let problem = Box::new(RequestErrorKind::Path { problem });
                self.invalid.get_or_insert(problem);
                continue;
            };
            let value = match self.params.get(&name) {
                None => ParamValue::One(value),
                Some(known) => {
                    let known = known.texts().iter().cloned();
                    ParamValue::Many(known.chain([value]).collect())
                }
            };
            self.put_value(name.into(), value);
        }
    }

    /// Sets a parameter to its value on the wire, except for the separators of a list.
    pub(crate) fn put_value(&mut self, key: Cow<'static, str>, value: ParamValue) {
        let value = match (value, self.separator(&key)) {
            (ParamValue::One(text), Some(separator)) => {
                ParamValue::One(list::separated_by(separator, &text))
            }
            (value, _) => value,
        };
        if value.is_falsy_array() && !self.method.has_body() {
            let allowed = "more than one element, or one that is neither empty nor 0: the server takes \
                           that for no array";
            let only = value.texts().concat();
            self.refuse(&key, Problem::doubt(only, allowed));
        }
        let limits = self.endpoint.map_or(&[][..], |endpoint| endpoint.limits);
        if let Some(problem) = limits::beyond(limits, &key, &value) {
            self.refuse(&key, problem);
        }
        self.params.set(key, value);
    }

    /// The separator of a list in one text, if it is not a comma.
    fn separator(&self, key: &str) -> Option<char> {
        let separators = self.endpoint.map_or(&[][..], |e| e.separators);
        let found = separators.iter().find(|(name, _)| *name == key);
        found.map(|(_, separator)| *separator)
    }

    /// Records why it cannot be sent, or why no known release accepts it; the first reason stays.
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

    /// The reason not to send it; with `strict`, also a value that no known release accepts.
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
        struct DebugParams<'a>(&'a Call);

        impl fmt::Debug for DebugParams<'_> {
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
            .field("params", &DebugParams(self))
            .finish()
    }
}
