//! From a request to its answer: routing, authentication, checks, formatting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxmox_codegen::facts::{Endpoint, Method, ProxyTo, Release};
use serde_json::{Map, Value, json};

use crate::RecordedRequest;
use crate::access::{Credentials, Identity};
use crate::calls::{self, Call, Reply};
use crate::clock::Clock;
use crate::console::Console;
use crate::documents;
use crate::error::{ApiError, ApiResult};
use crate::faults::{Fault, Faults, Spoil, Verdict};
use crate::http::{Head, Response, latin1, plain_error};
use crate::params::{self, Param, Params, Repeated};
use crate::sample::{Fill, Sampler};
use crate::schema::{ApiSchema, is_task};
use crate::tunnel::Farewell;
use crate::upload::{self, Received, Receiver, Refusal, Upload};
use crate::validate::Validator;
use crate::world::{Effect, Plan, World};

/// Calls that need no login.
const OPEN: [(Method, &str); 6] = [
    (Method::Get, "access/domains"),
    (Method::Get, "access/ticket"),
    (Method::Post, "access/ticket"),
    (Method::Post, "access/vncticket"),
    (Method::Post, "access/openid/auth-url"),
    (Method::Post, "access/openid/login"),
];

/// A server left running must not fill its memory with what it was asked.
const MAX_RECORDED: usize = 20_000;

pub(crate) struct App {
    schema: Arc<ApiSchema>,
    world: Mutex<World>,
    clock: Clock,
    factor: f64,
    idle: Duration,
    recorded: Mutex<VecDeque<RecordedRequest>>,
    faults: Faults,
    dialect: Dialect,
}

/// What changed on the wire between releases.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    /// Error text is in the body too, not only in the reason phrase (pve-http-server 5.2.0, January 2025).
    message_in_body: bool,
    repeated: Repeated,
    max_body: u64,
}

impl Dialect {
    fn of(release: Release) -> Self {
        let since = |major, minor| release >= Release { major, minor };
        Self {
            message_in_body: since(8, 4),
            repeated: if since(8, 0) {
                Repeated::List
            } else {
                Repeated::Nul
            },
            max_body: if since(8, 4) { 512 << 10 } else { 64 << 10 },
        }
    }
}

/// How `/api2/<format>` wants its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    ExtJs,
    HtmlJs,
    /// Pages for a browser.
    Html,
    Png,
    /// What a SPICE viewer opens.
    SpiceConfig,
}

/// One grey pixel, for the pictures of measurements.
const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b,
    0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0x00, 0x00, 0x00,
    0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82,
];

/// A request that may be read to its end.
pub(crate) struct Admitted {
    format: Format,
    method: Method,
    segments: Vec<String>,
    who: Option<Identity>,
    pub(crate) body_length: u64,
    json: bool,
    /// The boundary of an upload's parts.
    upload: Option<String>,
}

/// What came after the headers.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    Upload(Result<Upload, Refusal>),
}

impl App {
    /// What takes in the parts of an upload, if the request is one.
    pub(crate) fn receiver(&self, head: &Head, admitted: &Admitted) -> Option<Receiver> {
        let boundary = admitted.upload.as_deref()?;
        let (_, query) = head.path_and_query();
        let query = params::form(query.as_bytes(), self.dialect.repeated);
        (admitted.body_length > 0).then(|| Receiver::new(boundary, &query))
    }

    pub(crate) fn new(schema: Arc<ApiSchema>, world: World, clock: Clock, idle: Duration) -> Self {
        Self {
            dialect: Dialect::of(schema.release()),
            schema,
            factor: world.factor,
            world: Mutex::new(world),
            clock,
            idle,
            recorded: Mutex::default(),
            faults: Faults::default(),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.idle
    }

    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.factor)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What an admitted request meets.
    pub(crate) fn verdict(&self, admitted: &Admitted) -> Verdict {
        self.faults
            .meet(&admitted.method.to_string(), &admitted.segments)
    }

    /// Notes a request that is not answered.
    pub(crate) fn unanswered(&self, admitted: &Admitted) {
        let path = format!("/{}", admitted.segments.join("/"));
        let user = admitted.who.as_ref().map(Identity::full);
        self.record(&admitted.method.to_string(), &path, user, Value::Null, 0);
    }

    pub(crate) fn recorded(&self) -> MutexGuard<'_, VecDeque<RecordedRequest>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world as it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(self.clock.now());
        world
    }

    /// The world, unless somebody else has it at this moment.
    pub(crate) fn try_world(&self) -> Option<MutexGuard<'_, World>> {
        let mut world = self.world.try_lock().ok()?;
        world.settle(self.clock.now());
        Some(world)
    }

    pub(crate) fn restore(&self, state: &str) -> Result<(), String> {
        let mut world = self.world();
        // A broken state is found in a world to throw away.
        let mut trial = World::new(Arc::clone(&self.schema), world.now, self.factor, 0);
        crate::snapshot::restore(&mut trial, state)?;
        world.rest();
        crate::snapshot::restore(&mut world, state)
    }

    /// Decides from the headers whether the request is taken.
    pub(crate) fn admit(&self, head: &Head) -> Result<Admitted, Box<Response>> {
        self.check_head(head).map_err(|response| {
            let (path, _) = head.path_and_query();
            self.record(&head.method, path, None, Value::Null, response.status);
            Box::new(response)
        })
    }

    fn check_head(&self, head: &Head) -> Result<Admitted, Response> {
        let method = match head.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            other => {
                return Err(Response::new(
                    501,
                    format!("method '{other}' not available"),
                ));
            }
        };
        if head.header("transfer-encoding").is_some() {
            return Err(self.server_error(501, "chunked transfer encoding not supported"));
        }
        let (path, _) = head.path_and_query();
        let decoded = latin1(&percent_encoding::percent_decode_str(path).collect::<Vec<u8>>());
        if method == Method::Get
            && let Some(document) = documents::answer(&decoded, self.schema.release())
        {
            return Err(document);
        }
        let mut parts = decoded.split('/').filter(|part| !part.is_empty());
        if parts.next() != Some("api2") {
            return Err(self.server_error(500, &format!("no such file '{decoded}'")));
        }
        let format = parts.next().unwrap_or("");
        let segments: Vec<String> = parts.map(str::to_owned).collect();
        let named = format.len() >= 2
            && format.starts_with(|c: char| c.is_ascii_lowercase())
            && format
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !named {
            return Err(self.server_error(501, "no such uri"));
        }
        let who = match self.authenticate(head, method, &segments) {
            Err(refusal) if format == "html" => {
                let mut response = Response::new(301, "Moved");
                response.delayed = refusal.delayed;
                let login = "/api2/html/access/ticket".to_owned();
                response.headers.push(("Location", login));
                return Err(response);
            }
            other => other?,
        };
        let format = match format {
            "json" => Format::Json,
            "extjs" => Format::ExtJs,
            "htmljs" => Format::HtmlJs,
            "html" => Format::Html,
            "png" => Format::Png,
            "spiceconfig" => Format::SpiceConfig,
            other => {
                let text = format!("no formatter for uri /{}, {other}", segments.join("/"));
                return Err(self.server_error(501, &text));
            }
        };
        let body_length = match head.header("content-length") {
            Some(text) => text
                .parse()
                .map_err(|_| self.server_error(400, "invalid content length"))?,
            None => 0,
        };
        let content_type = head
            .header("content-type")
            .map_or("", |text| text.split(';').next().unwrap_or("").trim());
        let uploading = is_upload(method, &segments);
        let boundary = head.header("content-type").and_then(upload::boundary);
        if uploading && body_length > 0 {
            self.check_upload(head, who.as_ref(), &segments, boundary.is_some())?;
        } else if body_length > 0 {
            if !matches!(method, Method::Post | Method::Put) {
                let text = format!("Unexpected content for method '{}'", method);
                return Err(self.server_error(501, &text));
            }
            if body_length > self.dialect.max_body {
                return Err(self.server_error(501, "for data too large"));
            }
            let full = head.header("content-type").unwrap_or("");
            if !matches!(
                content_type,
                "" | "application/x-www-form-urlencoded" | "application/json"
            ) {
                let text = format!("upload 'Content-Type '{full}' not implemented");
                return Err(self.server_error(506, &text));
            }
        }
        Ok(Admitted {
            format,
            method,
            segments,
            who,
            body_length,
            json: content_type == "application/json",
            upload: boundary.filter(|_| uploading).map(str::to_owned),
        })
    }

    /// What is looked at before the body of an upload is read.
    fn check_upload(
        &self,
        head: &Head,
        who: Option<&Identity>,
        segments: &[String],
        multipart: bool,
    ) -> Result<(), Response> {
        let (_, query) = head.path_and_query();
        let internal =
            params::form(query.as_bytes(), self.dialect.repeated).contains_key("tmpfilename");
        if !multipart || internal {
            return Err(Response::silence());
        }
        let path = format!("/storage/{}", segments.get(3).map_or("", String::as_str));
        let allowed = who.is_some_and(|who| {
            who.is_root()
                || self
                    .world()
                    .privileges(who, &path)
                    .contains("Datastore.AllocateTemplate")
        });
        if allowed {
            return Ok(());
        }
        let reason = format!("Permission check failed ({path}, Datastore.AllocateTemplate)");
        let mut response = Response::new(403, reason);
        response.delayed = true;
        Err(response)
    }

    /// An error of the server itself; before 8.4 its text is in the reason phrase alone.
    fn server_error(&self, status: u16, text: &str) -> Response {
        if self.dialect.message_in_body {
            plain_error(status, text)
        } else {
            Response::new(status, text)
        }
    }

    fn authenticate(
        &self,
        head: &Head,
        method: Method,
        segments: &[String],
    ) -> Result<Option<Identity>, Response> {
        let refuse = |reason: &str| {
            let mut response = Response::new(401, reason);
            response.delayed = true;
            response
        };
        let world = self.world();
        let now = world.now;
        let path = segments.join("/");
        let open = OPEN.contains(&(method, path.as_str()));
        match Credentials::of(head) {
            Credentials::Token(text) => world
                .access
                .check_token(&text, now)
                .map(Some)
                .ok_or_else(|| refuse("Authentication failed!")),
            _ if open => Ok(None),
            Credentials::None => Err(refuse("No ticket")),
            Credentials::Ticket(ticket) => {
                let user = world
                    .access
                    .check_ticket(&ticket, now)
                    .ok_or_else(|| refuse("Authentication failed!"))?;
                let token = head.header("csrfpreventiontoken").unwrap_or("");
                let exempt = method == Method::Get || is_upload(method, segments);
                if !exempt && !world.access.check_csrf(token, &user, now) {
                    return Err(refuse("Permission denied - invalid csrf token"));
                }
                Ok(Some(Identity { user, token: None }))
            }
        }
    }

    /// Answers a request that was read to its end.
    pub(crate) fn answer(
        &self,
        head: &Head,
        admitted: &Admitted,
        body: Body,
        fault: Option<&Fault>,
    ) -> Response {
        let path = format!("/{}", admitted.segments.join("/"));
        let user = admitted.who.as_ref().map(Identity::full);
        let (_, query) = head.path_and_query();
        let mut file: Option<Received> = None;
        let mut params = match body {
            Body::Upload(Ok(upload)) => {
                file = Some(upload.file);
                upload.params
            }
            Body::Upload(Err(refusal)) => {
                let response = match refusal {
                    Refusal::BadRequest => Response::new(400, "Bad Request"),
                    Refusal::Failed(text) => self.server_error(500, &text),
                };
                self.record(&head.method, &path, user, Value::Null, response.status);
                return response;
            }
            Body::Bytes(body) if admitted.json => match params::json(&body) {
                Ok(params) => params,
                Err(text) => {
                    self.record(&head.method, &path, user, Value::Null, 500);
                    return self.server_error(500, &text);
                }
            },
            Body::Bytes(body) => params::form(&body, self.dialect.repeated),
        };
        params.extend(params::form(query.as_bytes(), self.dialect.repeated));
        params.remove("_dc");
        let uploaded = file.is_some();
        let recorded: Map<String, Value> = params
            .iter()
            .map(|(key, value)| (key.clone(), value.to_json()))
            .collect();

        let mut from_daemon = false;
        let result = match fault {
            Some(Fault::Status(status, text)) => {
                let mut error = ApiError::raise(*status, text);
                error.raised = !matches!(status, 500 | 501);
                Err(error.into())
            }
            Some(Fault::NodeDown) => Err(Failure::Proxy(595, "Connection refused")),
            fault => {
                let mut world = self.world();
                world.spoil = match fault {
                    Some(Fault::TaskFails(text)) => Some(Spoil::Fail(text.clone())),
                    Some(Fault::TaskWarns(count)) => Some(Spoil::Warn(*count)),
                    _ => None,
                };
                let result = self.call(&mut world, admitted, &path, params, file, &mut from_daemon);
                world.spoil = None;
                match fault {
                    Some(Fault::Timeout) => Err(Failure::Proxy(596, "Connection timed out")),
                    _ => result,
                }
            }
        };
        let mut response = self.render(admitted, result);
        response.close = uploaded;
        response.from_daemon = from_daemon && !uploaded;
        let status = match fault {
            Some(Fault::DropAnswer) => 0,
            _ if response.console.is_some() && head.wants_websocket() => 101,
            _ => response.status,
        };
        self.record(&head.method, &path, user, Value::Object(recorded), status);
        response
    }

    fn record(&self, method: &str, path: &str, user: Option<String>, params: Value, status: u16) {
        let mut recorded = self.recorded();
        if recorded.len() >= MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(RecordedRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            user,
            params,
            status,
        });
    }

    fn call(
        &self,
        world: &mut World,
        admitted: &Admitted,
        path: &str,
        mut params: Params,
        upload: Option<Received>,
        from_daemon: &mut bool,
    ) -> Result<Reply, Failure> {
        let method = admitted.method;
        let segments: Vec<&str> = admitted.segments.iter().map(String::as_str).collect();
        if segments.is_empty() && method == Method::Get {
            let subdirs: Vec<Value> = self
                .schema
                .children(&[])
                .into_iter()
                .map(|subdir| json!({ "subdir": subdir }))
                .collect();
            return Ok(Reply::data(Value::Array(subdirs)));
        }
        let Some(found) = self.schema.find(method, &segments) else {
            let mut error = ApiError::die(format!("Method '{} {path}' not implemented", method));
            error.status = 501;
            error.message.pop();
            return Err(error.into());
        };
        *from_daemon = found.endpoint.protected;
        let mut conflicts = BTreeMap::new();
        for (name, value) in &found.uri {
            if params
                .get(name)
                .is_some_and(|given| given.text() != Some(value))
            {
                let text = "duplicate parameter (already defined in URI) with conflicting values!";
                conflicts.insert(name.clone(), text.to_owned());
            }
            params.insert(name.clone(), Param::Text(value.clone()));
        }
        if !conflicts.is_empty() {
            return Err(ApiError::parameters(conflicts).into());
        }
        self.authorize(world, admitted, path, found.endpoint, &params)?;
        self.reach(world, found.endpoint, &mut params)?;

        let validator = Validator {
            formats: self.schema.formats(),
            major: self.schema.release().major,
        };
        let errors = validator.request(&found.endpoint.parameters, &mut params);
        if !errors.0.is_empty() {
            return Err(ApiError::parameters(errors.0).into());
        }
        let nobody = Identity {
            user: "nobody@pam".into(),
            token: None,
        };
        let mut call = Call {
            world,
            method,
            path: found.path,
            endpoint: found.endpoint,
            params,
            upload,
            who: admitted.who.clone().unwrap_or(nobody),
        };
        match calls::handle(&mut call) {
            Some(Ok(mut reply)) => {
                let known = call.known();
                let sampler = self.sampler(&known, call.world.now);
                // Of mappings more is declared than comes.
                if !call.path.starts_with("/cluster/mapping/") {
                    sampler.complete(&mut reply.data, &found.endpoint.returns);
                }
                calls::filter(&call, &mut reply.data);
                Ok(reply)
            }
            Some(Err(error)) => Err(error.into()),
            None => {
                let mut reply = self.generic(&mut call, &segments);
                calls::filter(&call, &mut reply.data);
                Ok(reply)
            }
        }
    }

    fn sampler<'a>(&'a self, known: &'a BTreeMap<String, String>, now: Duration) -> Sampler<'a> {
        Sampler {
            formats: self.schema.formats(),
            known,
            now: now.as_secs(),
        }
    }

    /// The answer of an endpoint without state of its own: right in shape, made from the schema.
    fn generic(&self, call: &mut Call<'_>, segments: &[&str]) -> Reply {
        let mut known = call.known();
        let home = call
            .world
            .nodes
            .first()
            .map(|node| node.name.clone())
            .unwrap_or_default();
        if known
            .get("node")
            .is_none_or(|node| call.world.node(node).is_none())
        {
            known.insert("node".into(), home);
        }
        if is_task(call.method, call.path, call.endpoint) {
            return Reply::data(start_plain(call.world, call.endpoint, &call.who, &known));
        }
        let returns = &call.endpoint.returns;
        if let Some(index) = directory(returns, &self.schema, segments) {
            return Reply::data(index);
        }
        // Console calls answer with more than the task they start.
        let forks = returns
            .properties
            .as_ref()
            .is_some_and(|p| p.contains_key("upid"));
        if forks && call.method == Method::Post {
            let upid = start_plain(call.world, call.endpoint, &call.who, &known);
            known.insert("upid".into(), upid.as_str().unwrap_or("").to_owned());
        }
        let sampler = self.sampler(&known, call.world.now);
        let fresh = (call.method == Method::Get)
            .then(|| sampler.fresh(call.path, returns))
            .flatten();
        let mut answer = match fresh {
            Some(mut answer) => {
                sampler.complete(&mut answer, returns);
                answer
            }
            None => sampler.value("", returns, Fill::All),
        };
        calls::records::lay_over(call, &mut answer);
        Reply::data(answer)
    }

    fn authorize(
        &self,
        world: &World,
        admitted: &Admitted,
        path: &str,
        endpoint: &Endpoint,
        params: &Params,
    ) -> ApiResult<()> {
        let Some(who) = &admitted.who else {
            return Ok(());
        };
        if who.token.is_some() && !endpoint.allowtoken {
            return Err(ApiError::permission(&format!(
                "URI '{path}' not available with API token, need proper ticket.\n"
            )));
        }
        let Some(permissions) = &endpoint.permissions else {
            return if who.is_root() {
                Ok(())
            } else {
                Err(ApiError::permission("user != root@pam"))
            };
        };
        if who.is_root() || permissions.user.is_some() {
            return Ok(());
        }
        let Some(check) = &permissions.check else {
            return Ok(());
        };
        let texts = calls::texts(params);
        world.check(who, check, &texts)
    }

    /// Passes the call to the node it names, as far as there is one.
    fn reach(
        &self,
        world: &World,
        endpoint: &Endpoint,
        params: &mut Params,
    ) -> Result<(), Failure> {
        let Some(ProxyTo::Parameter(name)) = &endpoint.proxyto else {
            return Ok(());
        };
        let Some(node) = params.get(name).and_then(Param::text).map(str::to_owned) else {
            return Err(ApiError::parameter(name, "proxyto parameter does not exist").into());
        };
        if node == "localhost" {
            if let Some(first) = world.nodes.first() {
                params.insert(name.clone(), Param::Text(first.name.clone()));
            }
            return Ok(());
        }
        match world.node(&node) {
            Some(known) if known.online => Ok(()),
            Some(_) => Err(Failure::Proxy(595, "Connection refused")),
            None => Err(ApiError::die(format!(
                "hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
            ))
            .into()),
        }
    }

    fn render(&self, admitted: &Admitted, result: Result<Reply, Failure>) -> Response {
        let extended = matches!(admitted.format, Format::ExtJs | Format::HtmlJs);
        let mut console = None;
        let mut status = 200;
        let mut reason = "OK".to_owned();
        let mut body = Map::new();
        match result {
            Err(Failure::Proxy(status, reason)) => return Response::new(status, reason),
            Ok(Reply {
                file: Some((name, text)),
                ..
            }) => {
                let mut response =
                    Response::new(200, "OK").with_body("text/plain", text.into_bytes());
                response.headers.push((
                    "Content-Disposition",
                    format!("attachment; filename=\"{name}\""),
                ));
                return response;
            }
            Ok(reply) => {
                console = reply.console;
                if extended {
                    body.insert("success".into(), json!(1));
                }
                body.insert("data".into(), reply.data);
                if let Some(changes) = reply.changes {
                    body.insert("changes".into(), json!(changes));
                }
                if let Some(total) = reply.total.filter(|total| *total > 0) {
                    body.insert("total".into(), json!(total));
                }
            }
            Err(Failure::Api(error)) => {
                body.insert("data".into(), Value::Null);
                if extended {
                    body.insert("success".into(), json!(0));
                    let code = if error.raised {
                        json!(error.status.to_string())
                    } else {
                        json!(error.status)
                    };
                    body.insert("status".into(), code);
                }
                if extended || self.dialect.message_in_body {
                    body.insert("message".into(), json!(error.message));
                }
                if !error.errors.is_empty() {
                    body.insert("errors".into(), json!(error.errors));
                }
                if !extended || error.status == 401 {
                    status = error.status;
                    reason = error.reason().to_owned();
                }
            }
        }
        match admitted.format {
            Format::Json | Format::ExtJs | Format::HtmlJs => {}
            Format::Html | Format::Png | Format::SpiceConfig => {
                let mut response = self.browser_page(admitted, &body, status, reason);
                response.delayed = status == 401;
                return response;
            }
        }
        let mut text = Value::Object(body).to_string();
        let mut content_type = "application/json;charset=UTF-8";
        if admitted.format == Format::HtmlJs {
            content_type = "text/html;charset=UTF-8";
            text = escape_html(&text);
        }
        let mut response = Response::new(status, reason).with_body(content_type, text.into_bytes());
        response.delayed = status == 401;
        response.console = console.map(Box::new);
        response
    }

    /// The formats that are no JSON.
    fn browser_page(
        &self,
        admitted: &Admitted,
        body: &Map<String, Value>,
        status: u16,
        reason: String,
    ) -> Response {
        let data = body.get("data").unwrap_or(&Value::Null);
        let mut response = Response::new(status, reason);
        match admitted.format {
            Format::Png => {
                // Without a picture there is nothing, not even a length.
                let picture = admitted.segments.last().is_some_and(|last| last == "rrd");
                response.headers.push(("Content-Type", "image/png".into()));
                response.body = (picture && status < 400).then(|| PIXEL.to_vec());
                response
            }
            Format::SpiceConfig => {
                let mut text = "[virt-viewer]\n".to_owned();
                for (key, value) in data.as_object().into_iter().flatten() {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    text.push_str(&format!("{key}={value}\n"));
                }
                response.with_body("application/x-virt-viewer;charset=UTF-8", text.into_bytes())
            }
            _ => {
                let login = admitted.segments == ["access", "ticket"];
                if let Some(ticket) = data["ticket"].as_str().filter(|_| login) {
                    let ticket = percent_encoding::utf8_percent_encode(
                        ticket,
                        percent_encoding::NON_ALPHANUMERIC,
                    );
                    let cookie = format!("PVEAuthCookie={ticket}; path=/; secure; SameSite=Lax;");
                    response.headers.push(("Set-Cookie", cookie));
                }
                let page = page(&admitted.segments, body, login && data.is_null());
                response.with_body("text/html;charset=UTF-8", page.into_bytes())
            }
        }
    }

    /// Counts a connection to a console in, or out.
    pub(crate) fn link_console(&self, console: &Console, leaves: Option<Farewell>) {
        self.world().link_console(&console.upid, leaves);
    }

    /// Whether a viewer may connect to this host, which is a ticket and a port.
    pub(crate) fn takes_spice_ticket(&self, host: &str) -> bool {
        let world = self.world();
        world.access.takes_spice_ticket(host, world.now)
    }
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A page that shows an answer, with links to what is below it, or the form to log in.
fn page(segments: &[String], body: &Map<String, Value>, login: bool) -> String {
    let title = escape_html(&format!("/{}", segments.join("/")));
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
         <h1>{title}</h1>\n"
    );
    if login {
        text.push_str(
            "<form method=\"post\" action=\"/api2/html/access/ticket\">\n<input name=\"username\">\n\
             <input name=\"password\" type=\"password\">\n<button>Log in</button>\n</form>\n",
        );
    }
    let below: Vec<&str> = body
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("subdir")?.as_str())
        .collect();
    if !below.is_empty() {
        text.push_str("<ul>\n");
        let base = format!("/api2/html/{}", segments.join("/"));
        for name in below {
            let (href, name) = (
                escape_html(&format!("{}/{name}", base.trim_end_matches('/'))),
                escape_html(name),
            );
            text.push_str(&format!("<li><a href=\"{href}\">{name}</a></li>\n"));
        }
        text.push_str("</ul>\n");
    }
    let shown = serde_json::to_string_pretty(body).unwrap_or_default();
    text.push_str(&format!(
        "<pre>{}</pre>\n</body>\n</html>\n",
        escape_html(&shown)
    ));
    text
}

/// A call that brings no data.
enum Failure {
    Api(ApiError),
    /// The node could not be reached: a bare status, in every format.
    Proxy(u16, &'static str),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// Starts a task that changes nothing; its UPID.
fn start_plain(
    world: &mut World,
    endpoint: &Endpoint,
    who: &Identity,
    known: &BTreeMap<String, String>,
) -> Value {
    let kind = endpoint
        .name
        .as_deref()
        .unwrap_or("task")
        .replace(['_', '-'], "");
    let id = [
        "vmid", "storage", "name", "service", "id", "userid", "realm",
    ]
    .iter()
    .find_map(|key| known.get(*key).cloned())
    .unwrap_or_default();
    let line = format!("{kind} {id}").trim().to_owned();
    world.start(Plan {
        node: known.get("node").map_or("", String::as_str),
        kind: &kind,
        id,
        who,
        seconds: 1.0,
        lines: vec![line],
        effect: Effect::Nothing,
    })
}

/// `POST /nodes/{node}/storage/{storage}/upload`, the one call with a body of parts.
fn is_upload(method: Method, segments: &[String]) -> bool {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    method == Method::Post && matches!(parts.as_slice(), ["nodes", _, "storage", _, "upload"])
}

/// What the indexes of guests tell, which is less than there is, and not all of it is there.
const VM_INDEX: &str = "config cloudinit pending status unlink vncproxy termproxy migrate resize move rrd rrddata monitor \
    agent snapshot spiceproxy sendkey firewall mtunnel remote_migrate";
const VM_STATUS_INDEX: &str = "current start stop reset shutdown suspend reboot";
const CT_INDEX: &str = "config pending status vncproxy termproxy vncwebsocket spiceproxy migrate clone rrd rrddata firewall \
    snapshot resize interfaces";
const CT_STATUS_INDEX: &str = "current start stop shutdown reboot migrate";
const FIREWALL_INDEX: &str = "rules aliases ipset refs options";

/// The answer of a directory index: the literal children of the path.
fn directory(
    returns: &proxmox_codegen::facts::Schema,
    schema: &ApiSchema,
    segments: &[&str],
) -> Option<Value> {
    let link = returns.links.as_ref()?.first()?;
    let key = link.strip_prefix('{')?.strip_suffix('}')?;
    let items = returns.items.as_ref()?;
    if items
        .properties
        .as_ref()
        .is_some_and(|p| !p.is_empty() && !p.contains_key(key))
    {
        return None;
    }
    let told = match segments {
        ["nodes", _, "qemu", _] => Some(VM_INDEX),
        ["nodes", _, "qemu", _, "status"] => Some(VM_STATUS_INDEX),
        ["nodes", _, "lxc", _] => Some(CT_INDEX),
        ["nodes", _, "lxc", _, "status"] => Some(CT_STATUS_INDEX),
        ["nodes", _, "qemu" | "lxc", _, "firewall"] => Some(FIREWALL_INDEX),
        _ => None,
    };
    let names: Vec<String> = match told {
        Some(told) => {
            let there = schema.children(segments);
            let told = told.split_whitespace().map(str::to_owned);
            // These are elsewhere, but not here.
            told.filter(|name| matches!(name.as_str(), "move" | "migrate") || there.contains(name))
                .collect()
        }
        None => schema.children(segments),
    };
    if names.is_empty() {
        return None;
    }
    Some(names.into_iter().map(|name| json!({ key: name })).collect())
}
