//! Answers in the requested format.

use std::collections::BTreeMap;
use std::time::Duration;

use proxmox_codegen::facts::{Endpoint, Method, ProxyTo};
use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::app::head::{Admitted, Format};
use crate::app::pages::{PIXEL, directory, escape_html, page};
use crate::app::{App, Body};
use crate::calls::call::{Call, Reply};
use crate::faults::{Fault, TaskFault};
use crate::http::{Head, Response};
use crate::params::{Param, Params};
use crate::sample::{Fill, Sampler};
use crate::schema::is_task;
use crate::state::access::Identity;
use crate::state::cluster::Cluster;
use crate::state::effect::{Effect, Plan};
use crate::upload::{Received, Refusal};
use crate::validate::Validator;
use crate::{calls, params};

impl App {
    /// Answers a request that was read completely.
    pub(crate) fn answer(
        &self,
        head: &Head,
        admitted: &Admitted,
        body: Body,
        fault: Option<&Fault>,
    ) -> Response {
        let path = format!("/{}", admitted.segments.join("/"));
        let user = admitted.caller.as_ref().map(Identity::full);
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
            Body::Bytes(body) => params::form(&body, self.compat.repeated),
        };
        params.extend(params::form(query.as_bytes(), self.compat.repeated));
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
                let mut cluster = self.cluster();
                cluster.task_fault = match fault {
                    Some(Fault::TaskFails(text)) => Some(TaskFault::Fail(text.clone())),
                    Some(Fault::TaskWarns(count)) => Some(TaskFault::Warn(*count)),
                    _ => None,
                };
                let result = self.call(
                    &mut cluster,
                    admitted,
                    &path,
                    params,
                    file,
                    &mut from_daemon,
                );
                cluster.task_fault = None;
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

    fn call(
        &self,
        cluster: &mut Cluster,
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
        self.authorize(cluster, admitted, path, found.endpoint, &params)?;
        self.reach(cluster, found.endpoint, &mut params)?;

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
            cluster,
            method,
            path: found.path,
            endpoint: found.endpoint,
            params,
            upload,
            caller: admitted.caller.clone().unwrap_or(nobody),
        };
        match calls::handle(&mut call) {
            Some(Ok(mut reply)) => {
                let known = call.known();
                let sampler = self.sampler(&known, call.cluster.now);
                // The schema declares more members for mappings than the server sends.
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

    /// The answer of an endpoint without state: it has the schema's shape.
    fn generic(&self, call: &mut Call<'_>, segments: &[&str]) -> Reply {
        let mut known = call.known();
        let home = call
            .cluster
            .nodes
            .first()
            .map(|node| node.name.clone())
            .unwrap_or_default();
        if known
            .get("node")
            .is_none_or(|node| call.cluster.node(node).is_none())
        {
            known.insert("node".into(), home);
        }
        if is_task(call.method, call.path, call.endpoint) {
            return Reply::data(start_plain(
                call.cluster,
                call.endpoint,
                &call.caller,
                &known,
            ));
        }
        let returns = &call.endpoint.returns;
        if let Some(index) = directory(returns, &self.schema, segments) {
            return Reply::data(index);
        }
        // Console calls return more than the UPID of their task.
        let forks = returns
            .properties
            .as_ref()
            .is_some_and(|p| p.contains_key("upid"));
        if forks && call.method == Method::Post {
            let upid = start_plain(call.cluster, call.endpoint, &call.caller, &known);
            known.insert("upid".into(), upid.as_str().unwrap_or("").to_owned());
        }
        let sampler = self.sampler(&known, call.cluster.now);
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
        crate::calls::records::options::merge_options(call, &mut answer);
        Reply::data(answer)
    }

    fn authorize(
        &self,
        cluster: &Cluster,
        admitted: &Admitted,
        path: &str,
        endpoint: &Endpoint,
        params: &Params,
    ) -> ApiResult<()> {
        let Some(caller) = &admitted.caller else {
            return Ok(());
        };
        if caller.token.is_some() && !endpoint.allowtoken {
            return Err(ApiError::permission(&format!(
                "URI '{path}' not available with API token, need proper ticket.\n"
            )));
        }
        let Some(permissions) = &endpoint.permissions else {
            return if caller.is_root() {
                Ok(())
            } else {
                Err(ApiError::permission("user != root@pam"))
            };
        };
        if caller.is_root() || permissions.user.is_some() {
            return Ok(());
        }
        let Some(check) = &permissions.check else {
            return Ok(());
        };
        let texts = crate::calls::call::texts(params);
        cluster.check(caller, check, &texts)
    }

    /// Forwards the call to the node in its path, if that is another node.
    fn reach(
        &self,
        cluster: &Cluster,
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
            if let Some(first) = cluster.nodes.first() {
                params.insert(name.clone(), Param::Text(first.name.clone()));
            }
            return Ok(());
        }
        match cluster.node(&node) {
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
                if extended || self.compat.message_in_body {
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

    /// Formats other than JSON.
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
                // Without an image the answer has neither a body nor a length.
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
}

/// A call without data.
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
    cluster: &mut Cluster,
    endpoint: &Endpoint,
    caller: &Identity,
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
    cluster.start(Plan {
        node: known.get("node").map_or("", String::as_str),
        kind: &kind,
        id,
        owner: caller,
        seconds: 1.0,
        lines: vec![line],
        effect: Effect::Nothing,
    })
}
