//! A test server with a list of expected calls and their answers.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::client::Client;
use crate::client::retry::RetryPolicy;
use crate::error::Error;
use crate::transport::{BodyStream, Transport, TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;
use crate::value::encode::{ParamValue, ToParam};
use crate::value::endpoint::Method;

mod tasks;

use tasks::{ScriptedTask, Tasks};

/// A [`Transport`] that answers from a script instead of a network. Clones share the script.
///
/// Each expectation answers one request, the first that matches; expectations can be met in any
/// order. A request that matches none fails with an error that says so, and [`Script::finish`]
/// reports it and all unmet expectations.
///
/// ```
/// # #[cfg(feature = "qemu")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use proxmox_api::value::endpoint::Method;
/// use proxmox_api::task::AndWait as _;
/// use proxmox_api::testing::{Expect, Script};
/// use serde_json::json;
///
/// /// The code to be tested.
/// async fn stop_all(pve: &proxmox_api::Client) -> Result<usize, proxmox_api::Error> {
///     let qemu = pve.nodes().node("pve1").qemu();
///     let guests = qemu.get().await?;
///     for guest in &guests {
///         qemu.vmid(guest.vmid).status().stop().post().and_wait().await?;
///     }
///     Ok(guests.len())
/// }
///
/// let script = Script::new();
/// script.expect(Expect::get("/nodes/pve1/qemu").data(json!([{ "vmid": 100, "status": "running" }])));
/// script.expect(Expect::post("/nodes/pve1/qemu/100/status/stop").task_ok("qmstop"));
///
/// let pve = script.client()?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// assert_eq!(stop_all(&pve).await?, 1);
/// script.finish()?;
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "qemu"))]
/// # fn main() {}
/// ```
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: Vec<Expect>,
    tasks: Tasks,
    requests: Vec<WireRequest>,
    unexpected: Vec<String>,
}

impl Script {
    /// A script without expectations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an expectation; also while the script is in use.
    pub fn expect(&self, expectation: Expect) {
        self.lock().open.push(expectation);
    }

    /// A client that sends through the script, with an API token for tests. It does not retry.
    ///
    /// For a login with a password, give the script to
    /// [`ClientBuilder::transport`](crate::ClientBuilder::transport) and expect `POST /access/ticket`.
    ///
    /// # Errors
    /// Those of [`ClientBuilder::build`](crate::ClientBuilder::build).
    pub fn client(&self) -> Result<Client, Error> {
        Client::builder("pve1")
            .api_token("root@pam!test", "00000000-0000-0000-0000-000000000000")
            .retry(RetryPolicy::none())
            .transport(Arc::new(self.clone()))
            .build()
    }

    /// The requests so far, in the order they came.
    #[must_use]
    pub fn requests(&self) -> Vec<WireRequest> {
        self.lock().requests.clone()
    }

    /// Checks that every expectation was met, and that no other request came.
    ///
    /// # Errors
    /// Missing and unexpected requests.
    pub fn finish(&self) -> Result<(), ScriptError> {
        let state = self.lock();
        let mut lines = Vec::new();
        for expectation in state.open.iter().filter(|open| !open.is_met()) {
            lines.push(format!("{expectation} was expected and was not received"));
        }
        for line in &state.unexpected {
            lines.push(format!("{line} was received and not expected"));
        }
        if lines.is_empty() {
            return Ok(());
        }
        Err(ScriptError(lines))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &WireRequest) -> Result<WireResponse, TransportError> {
        let mut state = self.lock();
        state.requests.push(request.clone());
        let seen = ParsedRequest::of(request);
        let Some(place) = state.open.iter().position(|open| open.fits(&seen)) else {
            if let Some(answer) = state.tasks.answer(&seen) {
                return Ok(answer);
            }
            let line = seen.to_string();
            let open: Vec<_> = state.open.iter().map(Expect::to_string).collect();
            let open = match open.len() {
                0 => "nothing more".to_owned(),
                _ => open.join(", "),
            };
            state.unexpected.push(line.clone());
            return Err(TransportError::unscripted(format!(
                "the script does not expect {line}; it expects {open}"
            )));
        };
        if let Some(task) = &state.open[place].task {
            let task = task.clone();
            state.open[place].times.count();
            if matches!(state.open[place].times, Times::Left(0)) {
                drop(state.open.remove(place));
            }
            return Ok(state.tasks.start(task, &seen));
        }
        match state.open[place].times {
            Times::Left(1) => {
                let mut met = state.open.remove(place);
                drop(state);
                (met.answer)(request)
            }
            ref mut times => {
                times.count();
                (state.open[place].answer)(request)
            }
        }
    }
}

impl Transport for Script {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        let answer = self.answer(&request);
        Box::pin(async move { answer })
    }

    /// Reads an upload into memory; its fields count as parameters, the name of the file as
    /// `filename`.
    fn send_stream(
        &self,
        request: WireRequest,
        mut body: BodyStream,
    ) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            let read = body.read_to_end(&mut bytes).await;
            read.map_err(|error| TransportError::interrupted(error.to_string()))?;
            let mut request = request;
            request.body = Bytes::from(bytes);
            self.answer(&request)
        })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Script")
            .field("open", &state.open)
            .field("requests", &state.requests.len())
            .finish_non_exhaustive()
    }
}

/// The requests differ from the script; one line for each difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(Vec<String>);

impl ScriptError {
    /// The differences, as text.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for ScriptError {}

type Answer = Box<dyn FnMut(&WireRequest) -> Result<WireResponse, TransportError> + Send>;

/// A call that a [`Script`] expects, and its answer, by default `{"data":null}`.
#[must_use = "does nothing unless added to a script"]
pub struct Expect {
    method: Method,
    path: String,
    params: Vec<(String, ParamValue)>,
    times: Times,
    answer: Answer,
    /// The task that it starts, instead of the answer.
    task: Option<ScriptedTask>,
}

enum Times {
    Left(usize),
    /// Any number of times; holds whether it was met.
    Any(bool),
}

impl Times {
    fn count(&mut self) {
        match self {
            Self::Left(left) => *left = left.saturating_sub(1),
            Self::Any(met) => *met = true,
        }
    }
}

impl Expect {
    /// Expects a call of a path below `/api2/json`, written without percent-encoding.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let expectation = Self {
            method,
            path: path.into(),
            params: Vec::new(),
            times: Times::Left(1),
            answer: Box::new(|_| Err(TransportError::never_sent("no answer"))),
            task: None,
        };
        expectation.data(Value::Null)
    }

    /// Expects a GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// Expects a POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::Post, path)
    }

    /// Expects a PUT.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::Put, path)
    }

    /// Expects a DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// Expects this parameter, too. Other parameters may have any value.
    pub fn param(mut self, name: impl Into<String>, value: impl ToParam) -> Self {
        self.params.push((name.into(), value.to_param()));
        self
    }

    /// Expects the call this many times.
    pub fn times(mut self, count: usize) -> Self {
        self.times = Times::Left(count);
        self
    }

    /// Expects the call once or more. It answers only calls that no earlier expectation answers.
    pub fn repeatedly(mut self) -> Self {
        self.times = Times::Any(false);
        self
    }

    /// Answers with this data.
    pub fn data(self, data: Value) -> Self {
        self.body(200, "OK", json!({ "data": data }).to_string())
    }

    /// Starts a task of this kind, as `qmstart`, which succeeds. The script then answers requests
    /// for its status and its log, and to stop it.
    ///
    /// It belongs to the node and the guest in the path, and has a UPID of its own.
    pub fn task_ok(mut self, kind: &str) -> Self {
        self.task = Some(ScriptedTask::new(kind, "OK"));
        self
    }

    /// Starts a task of this kind that fails with this text; otherwise like [`Expect::task_ok`].
    pub fn task_fails(mut self, kind: &str, why: &str) -> Self {
        self.task = Some(ScriptedTask::new(kind, why));
        self
    }

    /// The lines in the log of the task set before.
    pub fn task_log(mut self, lines: &[&str]) -> Self {
        if let Some(task) = &mut self.task {
            task.log = lines.iter().map(|line| (*line).to_owned()).collect();
        }
        self
    }

    /// The number of polls that find the task set before still running; 0 by default.
    pub fn task_looks(mut self, looks: u32) -> Self {
        if let Some(task) = &mut self.task {
            task.looks = looks;
        }
        self
    }

    /// Refuses with this status and message, as the server does since Proxmox VE 8.4.
    pub fn refuse(self, status: u16, message: &str) -> Self {
        let body = json!({ "data": null, "message": format!("{message}\n") });
        self.body(status, message, body.to_string())
    }

    /// Refuses a parameter: status 400 and its name.
    pub fn refuse_parameter(self, name: &str, message: &str) -> Self {
        let text = "Parameter verification failed.";
        let body =
            json!({ "data": null, "message": format!("{text}\n"), "errors": { name: message } });
        self.body(400, text, body.to_string())
    }

    /// Answers with this text as it is.
    pub fn body(self, status: u16, reason: &str, body: impl Into<Bytes>) -> Self {
        let mut response = WireResponse::new(status, body);
        response.reason = Bytes::from(reason.to_owned());
        response.headers.push((
            "content-type".to_owned(),
            "application/json;charset=UTF-8".to_owned(),
        ));
        self.respond(move |_| Ok(response.clone()))
    }

    /// Gives no answer: there is no connection, or it breaks, or the server sends nothing.
    pub fn fail(self, error: TransportError) -> Self {
        let mut error = Some(error);
        self.respond(move |_| {
            Err((error.take()).unwrap_or_else(|| TransportError::interrupted("as scripted")))
        })
    }

    /// Answers by a function.
    pub fn respond(
        mut self,
        answer: impl FnMut(&WireRequest) -> Result<WireResponse, TransportError> + Send + 'static,
    ) -> Self {
        self.answer = Box::new(answer);
        self
    }

    fn is_met(&self) -> bool {
        matches!(self.times, Times::Left(0) | Times::Any(true))
    }

    fn fits(&self, seen: &ParsedRequest) -> bool {
        let has_param = |name: &str, value: &ParamValue| {
            let mut values = seen.values(name);
            match value {
                ParamValue::One(value) => values.next() == Some(value) && values.next().is_none(),
                ParamValue::Many(expected) => values.eq(expected),
            }
        };
        self.method == seen.method
            && self.path == seen.path
            && !matches!(self.times, Times::Left(0))
            && (self.params.iter()).all(|(name, value)| has_param(name, value))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (position, (name, _)) in self.params.iter().enumerate() {
            f.write_str(if position == 0 { " with " } else { ", " })?;
            f.write_str(name)?;
        }
        match self.times {
            Times::Left(count) if count != 1 => write!(f, " ({count} times)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expect({self})")
    }
}

/// A request, parsed as the server would.
struct ParsedRequest {
    method: Method,
    path: String,
    params: Vec<(String, String)>,
}

impl ParsedRequest {
    fn of(request: &WireRequest) -> Self {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let text = |raw: &str| percent_decode_str(raw).decode_utf8_lossy().into_owned();
        let path = path.strip_prefix("/api2/json").unwrap_or(path);
        let body = String::from_utf8_lossy(&request.body);
        let boundary = (request.header("content-type"))
            .and_then(|kind| kind.strip_prefix("multipart/form-data; boundary="));
        let (form, parts) = match boundary {
            None if request.header("content-type") == Some("application/json") => {
                ("", members(&body))
            }
            None => (&*body, Vec::new()),
            Some(boundary) => ("", parts(&body, boundary)),
        };
        let params = (query.split('&').chain(form.split('&')))
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (text(name), text(value))
            })
            .chain(parts)
            .collect();
        Self {
            method: request.method,
            path: text(path),
            params,
        }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        (self.params.iter())
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

/// The members of a JSON body; an array once for each element.
fn members(body: &str) -> Vec<(String, String)> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let body: serde_json::Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let values = body.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => values.iter().map(text).collect(),
            value => vec![text(value)],
        };
        values.into_iter().map(move |value| (name.clone(), value))
    });
    values.collect()
}

/// The fields of an upload, and the name of its file.
fn parts(body: &str, boundary: &str) -> Vec<(String, String)> {
    let read = |part: &str| {
        let (head, value) = part.split_once("\r\n\r\n")?;
        let value = value.strip_suffix("\r\n").unwrap_or(value);
        let quoted = |name: &str| head.split_once(&format!(" {name}=\""))?.1.split('"').next();
        let value = quoted("filename").unwrap_or(value);
        Some((quoted("name")?.to_owned(), value.to_owned()))
    };
    body.split(&format!("--{boundary}"))
        .filter_map(read)
        .collect()
}

impl fmt::Display for ParsedRequest {
    /// Shows only the names of parameters, since a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (position, (name, _)) in self.params.iter().enumerate() {
            f.write_str(if position == 0 { " with " } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::api::ErrorKind;

    async fn get(client: &Client, path: &str) -> Result<Value, Error> {
        client.request::<Value>(Method::Get, path).await
    }

    #[tokio::test]
    async fn each_expectation_answers_matching_calls() {
        let script = Script::new();
        script.expect(
            Expect::put("/pools/a b")
                .param("members", vec!["1", "2"])
                .data(json!("list")),
        );
        script.expect(Expect::get("/x").param("full", true).data(json!(1)));
        script.expect(Expect::get("/x").times(2).data(json!(2)));
        script.expect(Expect::get("/x").repeatedly().data(json!(3)));
        let client = script.client().expect("complete");
        let full = client
            .request::<Value>(Method::Get, "/x")
            .param("full", true);
        for expected in [2, 2, 3, 3] {
            assert_eq!(get(&client, "/x").await.expect("expected"), expected);
        }
        assert_eq!(full.await.expect("expected"), 1);
        let put = client
            .request::<Value>(Method::Put, "/pools/a%20b")
            .param("members", vec!["1", "2"]);
        assert_eq!(put.await.expect("expected"), "list");
        assert_eq!(script.requests().len(), 6);
        script.finish().expect("all came");
    }

    #[tokio::test]
    async fn missing_and_unexpected_calls_are_reported() {
        let script = Script::new();
        script.expect(Expect::get("/x").times(2));
        script.expect(Expect::post("/y").param("name", "v"));
        script.expect(Expect::get("/z").repeatedly());
        let client = script.client().expect("complete");
        get(&client, "/x").await.expect("expected");
        let request = client
            .request::<Value>(Method::Post, "/y")
            .param("password", "s3cret");
        let error = request.await.expect_err("another parameter").to_string();
        assert!(
            error.contains("does not expect POST /y with password;"),
            "{error}"
        );
        assert!(
            error.contains("GET /x, POST /y with name, GET /z"),
            "{error}"
        );
        let error = script.finish().expect_err("three things are missing");
        assert_eq!(
            error.lines(),
            [
                "GET /x was expected and was not received",
                "POST /y with name was expected and was not received",
                "GET /z was expected and was not received",
                "POST /y with password was received and not expected"
            ]
        );
        for text in [format!("{script:?}"), error.to_string()] {
            assert!(!text.contains("s3cret"));
        }
    }

    #[tokio::test]
    async fn an_upload_is_parsed() {
        let script = Script::new();
        let place = "/nodes/pve1/storage/local/upload";
        script.expect(
            Expect::post(place)
                .param("content", "iso")
                .param("checksum-algorithm", "sha256")
                .param("filename", "x y.iso")
                .task_ok("imgcopy"),
        );
        let client = script.client().expect("complete");
        let upload = || client.upload("pve1", "local").bytes("a&b=c");
        let task = upload().name("x y.iso").verified().await.expect("expected");
        assert_eq!(task.upid().map(|upid| upid.task_type()), Some("imgcopy"));
        script.finish().expect("all came");

        let error = upload()
            .name("z.iso")
            .await
            .expect_err("once only")
            .to_string();
        let expected = format!("POST {place} with content, filename; it expects nothing more");
        assert!(error.contains(&expected), "{error}");
    }

    #[tokio::test]
    async fn refusals_and_failures_are_like_a_servers() {
        let script = Script::new();
        script.expect(Expect::get("/a").refuse(500, "VM 100 not running"));
        script.expect(Expect::get("/b").refuse_parameter("vmid", "no such VM"));
        script.expect(Expect::get("/c").fail(TransportError::interrupted("gone")));
        script.expect(Expect::post("/nodes/n2/x").task_ok("qmstart"));
        let client = script.client().expect("complete");
        let error = get(&client, "/a").await.expect_err("refused");
        assert_eq!(error.kind(), Some(ErrorKind::NotRunning), "{error}");
        let error = get(&client, "/b").await.expect_err("refused");
        assert_eq!(error.api().expect("refused").errors()["vmid"], "no such VM");
        let error = get(&client, "/c").await.expect_err("broken");
        assert!(matches!(error, Error::Interrupted(_)), "{error}");
        let upid = client.request::<Value>(Method::Post, "/nodes/n2/x").await;
        let upid = upid.expect("accepted");
        let upid: crate::value::upid::Upid =
            (upid.as_str().expect("a text")).parse().expect("a UPID");
        assert_eq!((upid.node(), upid.task_type()), ("n2", "qmstart"));
        script.finish().expect("all came");
    }
}
