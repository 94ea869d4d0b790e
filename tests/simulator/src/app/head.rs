//! Decisions from the head of a request.

use proxmox_codegen::facts::Method;
use serde_json::Value;

use crate::app::App;
use crate::credentials::Credentials;
use crate::faults::MatchedFaults;
use crate::http::{Head, Response, plain_error};
use crate::state::access::Identity;
use crate::text::latin1;
use crate::upload::Receiver;
use crate::{documents, params, upload};

impl App {
    /// Receives the parts of an upload, if the request is one.
    pub(crate) fn receiver(&self, head: &Head, admitted: &Admitted) -> Option<Receiver> {
        let boundary = admitted.upload.as_deref()?;
        let (_, query) = head.path_and_query();
        let query = params::form(query.as_bytes(), self.compat.repeated);
        (admitted.body_length > 0).then(|| Receiver::new(boundary, &query))
    }

    /// The next step for a request after its head was checked.
    pub(crate) fn verdict(&self, admitted: &Admitted) -> MatchedFaults {
        self.faults
            .matching(&admitted.method.to_string(), &admitted.segments)
    }

    /// Records a request that gets no answer.
    pub(crate) fn unanswered(&self, admitted: &Admitted) {
        let path = format!("/{}", admitted.segments.join("/"));
        let user = admitted.caller.as_ref().map(Identity::full);
        self.record(&admitted.method.to_string(), &path, user, Value::Null, 0);
    }

    /// Decides from the headers whether the request is accepted.
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
        let caller = match self.authenticate(head, method, &segments) {
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
            self.check_upload(head, caller.as_ref(), &segments, boundary.is_some())?;
        } else if body_length > 0 {
            if !matches!(method, Method::Post | Method::Put) {
                let text = format!("Unexpected content for method '{}'", method);
                return Err(self.server_error(501, &text));
            }
            if body_length > self.compat.max_body {
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
            caller,
            body_length,
            json: content_type == "application/json",
            upload: boundary.filter(|_| uploading).map(str::to_owned),
        })
    }

    /// Checks before the body of an upload is read.
    fn check_upload(
        &self,
        head: &Head,
        caller: Option<&Identity>,
        segments: &[String],
        multipart: bool,
    ) -> Result<(), Response> {
        let path = format!("/storage/{}", segments.get(3).map_or("", String::as_str));
        let allowed = caller.is_some_and(|caller| {
            caller.is_root()
                || self
                    .cluster()
                    .privileges(caller, &path)
                    .contains("Datastore.AllocateTemplate")
        });
        if !allowed {
            let reason = format!("Permission check failed ({path}, Datastore.AllocateTemplate)");
            let mut response = Response::new(403, reason);
            response.delayed = true;
            return Err(response);
        }
        let (_, query) = head.path_and_query();
        let internal =
            params::form(query.as_bytes(), self.compat.repeated).contains_key("tmpfilename");
        match multipart && !internal {
            true => Ok(()),
            false => Err(Response::silence()),
        }
    }

    /// An error of the HTTP server; before 8.4 its text is in the reason phrase only.
    pub(crate) fn server_error(&self, status: u16, text: &str) -> Response {
        if self.compat.message_in_body {
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
        let cluster = self.cluster();
        let now = cluster.now;
        let path = segments.join("/");
        let open = OPEN.contains(&(method, path.as_str()));
        match Credentials::of(head) {
            Credentials::Token(text) => cluster
                .access
                .check_token(&text, now)
                .map(Some)
                .ok_or_else(|| refuse("Authentication failed!")),
            _ if open => Ok(None),
            Credentials::None => Err(refuse("No ticket")),
            Credentials::Ticket(ticket) => {
                let user = cluster
                    .access
                    .check_ticket(&ticket, now)
                    .ok_or_else(|| refuse("Authentication failed!"))?;
                let token = head.header("csrfpreventiontoken").unwrap_or("");
                let exempt = method == Method::Get || is_upload(method, segments);
                if !exempt && !cluster.access.check_csrf(token, &user, now) {
                    return Err(refuse("Permission denied - invalid csrf token"));
                }
                Ok(Some(Identity { user, token: None }))
            }
        }
    }
}

/// Calls that need no login.
const OPEN: [(Method, &str); 6] = [
    (Method::Get, "access/domains"),
    (Method::Get, "access/ticket"),
    (Method::Post, "access/ticket"),
    (Method::Post, "access/vncticket"),
    (Method::Post, "access/openid/auth-url"),
    (Method::Post, "access/openid/login"),
];

/// The format of answers for `/api2/<format>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    ExtJs,
    HtmlJs,
    /// Pages for a browser.
    Html,
    Png,
    /// The file that a SPICE viewer opens.
    SpiceConfig,
}

/// A request whose body may be read.
pub(crate) struct Admitted {
    pub(crate) format: Format,
    pub(crate) method: Method,
    pub(crate) segments: Vec<String>,
    pub(crate) caller: Option<Identity>,
    pub(crate) body_length: u64,
    pub(crate) json: bool,
    /// The boundary of an upload's parts.
    pub(crate) upload: Option<String>,
}

/// `POST /nodes/{node}/storage/{storage}/upload`, the only call with a multipart body.
fn is_upload(method: Method, segments: &[String]) -> bool {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    method == Method::Post && matches!(parts.as_slice(), ["nodes", _, "storage", _, "upload"])
}
