//! A refusal by the server: its text, status and meaning.
//!
//! The server reports almost every failure with status 500 and a sentence, whose location depends
//! on the server's age ([wire protocol §5-7](crate::guide::wire_protocol)). The text of an endpoint
//! is in the JSON body since 2025, and only in the reason phrase before. The text of a failure
//! before an endpoint is reached is in a plain-text body since 2025. An answer that refuses a
//! ticket or token, and one with a status of 595 and above, has only the phrase in every version. A
//! wrong password is an endpoint's answer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::error::CallId;
use crate::transport::{WireResponse, retry_after};
use crate::value::decode::read_any;
use crate::value::secret::Scrubber;
use crate::value::text::{OneLine, latin1_or_utf8};

mod kind;

pub use kind::ErrorKind;

/// A refusal: the server answered with an error.
#[derive(Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    name: CallId,
    status: u16,
    reason: Bytes,
    message: String,
    errors: BTreeMap<String, String>,
    kind: ErrorKind,
    retry_after: Option<Duration>,
    body: Bytes,
    hint: Option<String>,
}

impl ApiError {
    /// Reads an answer with a status other than 2xx. The server may quote the request, so secrets
    /// are removed before anything is read.
    pub(crate) fn new(name: &CallId, response: &WireResponse, secrets: &Scrubber) -> Self {
        let clean = without_secrets(response, secrets);
        let printable = clean.as_ref().unwrap_or(response);
        // JSON is searched after decoding, because a secret may be encoded twice. Of anything else
        // an excerpt is shown, which may end inside a secret.
        let (message, errors) = match Body::read(response) {
            body if body.is_json => body.texts(printable),
            _ => texts(printable),
        };
        let plain = |text: String| secrets.text(&text).into_owned();
        let message = plain(message);
        let errors: BTreeMap<_, _> = (errors.into_iter())
            .map(|(name, text)| (plain(name), plain(text)))
            .collect();
        let kind = match &clean {
            None => ErrorKind::of(response.status, &message, &errors),
            // A secret may have been part of a word that the classification needs.
            Some(_) => {
                let (message, errors) = texts(response);
                ErrorKind::of(response.status, &message, &errors)
            }
        };
        let location = (300..400)
            .contains(&response.status)
            .then(|| response.header("location"));
        let message = match location.flatten().map(origin_of) {
            Some(origin) => format!("{message}, to {origin}"),
            None => message,
        };
        Self(Box::new(Parts {
            name: name.clone(),
            status: response.status,
            kind,
            reason: printable.reason.clone(),
            message,
            errors,
            retry_after: retry_after(response),
            body: printable.body.clone(),
            hint: None,
        }))
    }

    /// Reads a refusal that a [`Transport`](crate::transport::Transport) returned outside of a
    /// client's call. `endpoint` names it in texts: `GET /nodes`. Secrets of the request that the
    /// answer quotes stay in it.
    #[must_use]
    pub fn read(endpoint: &str, response: &WireResponse) -> Self {
        Self::new(&CallId::from(endpoint), response, &Scrubber::new([]))
    }

    /// A web page instead of JSON: another server, or a proxy's login form.
    pub(crate) fn not_the_api(name: &CallId, response: &WireResponse, secrets: &Scrubber) -> Self {
        let clean = without_secrets(response, secrets);
        let response = clean.as_ref().unwrap_or(response);
        let title = html_title(&response.body).map_or_else(
            || "a web page".to_owned(),
            |title| format!("the web page \"{title}\""),
        );
        Self(Box::new(Parts {
            name: name.clone(),
            status: response.status,
            reason: response.reason.clone(),
            message: format!("answered with {title}; is this address a Proxmox VE API?"),
            errors: BTreeMap::new(),
            kind: ErrorKind::NotTheApi,
            retry_after: None,
            body: response.body.clone(),
            hint: None,
        }))
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }

    /// The call, as `POST /nodes/pve1/qemu`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.0.name.endpoint()
    }

    /// The number of the client's request; see [`Error::request_id`](crate::Error::request_id).
    #[must_use]
    pub fn request_id(&self) -> Option<u64> {
        self.0.name.number()
    }

    pub(crate) fn name(&self) -> &CallId {
        &self.0.name
    }

    /// The HTTP status. Besides the usual ones, 595 to 599 come from a node that could not reach the
    /// node the call is for ([wire protocol §6](crate::guide::wire_protocol)).
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The meaning of the refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The text of the server, without the line break at its end: the `message` of the body, or else the
    /// reason phrase. Can have several lines, can be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The refused parameters, each with its reason.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, String> {
        &self.0.errors
    }

    /// The reason phrase as text; bytes that are not UTF-8 are read as Latin-1, which is what the server
    /// writes.
    #[must_use]
    pub fn reason(&self) -> String {
        latin1_or_utf8(&self.0.reason)
    }

    /// The reason phrase as raw bytes.
    #[must_use]
    pub fn reason_bytes(&self) -> &[u8] {
        &self.0.reason
    }

    /// The body as raw bytes, for parts that this crate does not read. A secret of the request in
    /// it is replaced by `…`.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The pause that the server, or a proxy before it, asks for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// A possible cause that the server does not name: the release that brought the call or the
    /// refused parameter, or something to check first.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        match self.0.kind {
            ErrorKind::NodeUnreachable => {
                Some("is the node's name in the path right, and is that node up?")
            }
            ErrorKind::UnknownMethod => {
                Some("does a value in the path have the form that the server requires?")
            }
            ErrorKind::NotFound if self.0.message.contains("onfiguration file 'nodes/") => {
                Some("the guest may be on another node; Client::guest finds it")
            }
            ErrorKind::Redirected => Some(
                "redirections are not followed; set the client's address to the API itself: https, port 8006",
            ),
            ErrorKind::ConfigChanged => {
                Some("read it again, and apply the change to the new version")
            }
            ErrorKind::LockTimeout => Some("another task holds the lock; try again later"),
            ErrorKind::Locked => Some(
                "another task holds the lock, or left it behind; the guest's task list shows which",
            ),
            ErrorKind::NoQuorum => Some(
                "nothing in the cluster can be changed until more than half of its votes are present",
            ),
            ErrorKind::Unavailable => {
                Some("this status does not come from Proxmox VE, but from a proxy in front of it")
            }
            ErrorKind::PendingChanges => Some("apply them or roll them back first"),
            ErrorKind::RootOnly => {
                Some("privileges and API tokens do not suffice; log in as root@pam")
            }
            ErrorKind::AgentNotRunning => Some(
                "is it installed and running in the guest, and enabled in the guest's options?",
            ),
            ErrorKind::TooLarge if self.0.status == 501 => {
                Some("a server before 8.4 reads 64 KiB of parameters, a later one 512")
            }
            _ => None,
        }
    }

    /// The object and the privileges that the server found missing.
    ///
    /// ```
    /// # fn example(error: &proxmox_api::error::ApiError) {
    /// if let Some(missing) = error.missing_permission() {
    ///     println!("needs one of {} on {}", missing.any_of.join(", "), missing.path);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn missing_permission(&self) -> Option<MissingPermission<'_>> {
        let message = self.0.message.strip_prefix("Permission check failed (")?;
        let (inside, _) = message.split_once(')')?;
        let (path, privileges) = inside.split_once(',')?;
        let any_of = privileges.split('|').map(str::trim).collect();
        path.starts_with('/')
            .then_some(MissingPermission { path, any_of })
    }
}

/// The permission that the caller lacks. See [`ApiError::missing_permission`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingPermission<'a> {
    /// The object, such as `/vms/102`.
    pub path: &'a str,
    /// Privileges of which one suffices, such as `VM.Audit`.
    pub any_of: Vec<&'a str>,
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("endpoint", &self.0.name)
            .field("status", &self.0.status)
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{}", OneLine(&self.0.message)))
            .field(
                "errors",
                &format_args!("{} parameters", self.0.errors.len()),
            )
            .finish_non_exhaustive()
    }
}

/// The limit on refused parameters in an error's text, and on the bytes about them.
const MAX_ERRORS: usize = 20;
const MAX_ERROR_BYTES: usize = 2000;

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.name, self.0.status)?;
        if self.0.message.is_empty() {
            f.write_str(" without any text")?;
        } else {
            write!(f, " {}", OneLine(&self.0.message))?;
        }
        let mut room = MAX_ERROR_BYTES;
        let fits = |(name, text): &(&String, &String)| {
            let before = room;
            room = room.saturating_sub(name.len() + text.len());
            before > 0
        };
        let printed: Vec<_> = (self.0.errors.iter().take(MAX_ERRORS).take_while(fits)).collect();
        for (i, (name, text)) in printed.iter().enumerate() {
            write!(
                f,
                "{}{}: {}",
                if i == 0 { " (" } else { "; " },
                OneLine(name),
                OneLine(text)
            )?;
        }
        if self.0.errors.len() > printed.len() {
            write!(f, "; and {} more", self.0.errors.len() - printed.len())?;
        }
        if !self.0.errors.is_empty() {
            f.write_str(")")?;
        }
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

/// The memory limit for a decoded refusal. Refusals are short.
const MEMORY: usize = 32 * 1024 * 1024;

/// The answer without secrets of the request; `None` if it has none.
fn without_secrets(response: &WireResponse, secrets: &Scrubber) -> Option<WireResponse> {
    let phrase = latin1_or_utf8(&response.reason);
    let reason = secrets.bytes(phrase.as_bytes());
    let body = secrets.bytes(&response.body);
    if reason.is_none() && body.is_none() {
        return None;
    }
    let or =
        |clean: Option<Vec<u8>>, other: &Bytes| clean.map_or_else(|| other.clone(), Bytes::from);
    Some(WireResponse {
        reason: or(reason, &response.reason),
        body: or(body, &response.body),
        ..response.clone()
    })
}

/// The server's message, and the refused parameters.
fn texts(response: &WireResponse) -> (String, BTreeMap<String, String>) {
    Body::read(response).texts(response)
}

/// The members of an error's body, of any JSON type.
#[derive(Default)]
struct Body {
    message: Option<String>,
    errors: BTreeMap<String, String>,
    is_json: bool,
}

impl Body {
    /// The message and the refused parameters, from the body or else from the phrase.
    fn texts(self, response: &WireResponse) -> (String, BTreeMap<String, String>) {
        let reason = || latin1_or_utf8(&response.reason).trim().to_owned();
        (self.message.unwrap_or_else(reason), self.errors)
    }

    fn read(response: &WireResponse) -> Self {
        let bytes = response.body.as_ref();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Self::default();
        }
        if let Some(Value::Object(mut object)) = read_any(bytes, MEMORY) {
            let mut body = Self {
                is_json: true,
                ..Self::default()
            };
            if let Some(Value::String(text)) = object.remove("message") {
                body.message = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
            }
            if let Some(Value::Object(errors)) = object.remove("errors") {
                body.errors = errors
                    .into_iter()
                    .map(|(name, text)| (name, plain(text)))
                    .collect();
            }
            return body;
        }
        let start = bytes.trim_ascii_start();
        if start.starts_with(b"{") || start.starts_with(b"[") {
            let start = excerpt(bytes);
            let reason = latin1_or_utf8(&response.reason);
            let message = format!("{} (the answer's JSON is damaged: {start})", reason.trim());
            return Self {
                message: Some(message.trim().to_owned()),
                ..Self::default()
            };
        }
        if start.starts_with(b"<") {
            let reason = latin1_or_utf8(&response.reason);
            let message = html_title(bytes)
                .filter(|title| !title.contains(reason.trim()))
                .map(|title| format!("{} (web page \"{title}\")", reason.trim()));
            return Self {
                message,
                ..Self::default()
            };
        }
        Self {
            message: Some(excerpt(bytes)),
            ..Self::default()
        }
    }
}

/// Two errors of one parameter are joined by a backslash and an n ([wire protocol
/// §4](crate::guide::wire_protocol)).
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text.replace("\\n", "\n").trim().to_owned(),
        other => other.to_string(),
    }
}

const EXCERPT: usize = 2000;

fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(EXCERPT)];
    let text = String::from_utf8_lossy(cut).trim().to_owned();
    if cut.len() < bytes.len() {
        format!("{text}…")
    } else {
        text
    }
}

fn html_title(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 * 1024)]);
    let lower = text.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = text[start..end]
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    (!title.is_empty()).then(|| title.chars().take(100).collect())
}

/// The part of a URL that cannot hold parameters of the request.
fn origin_of(location: &str) -> String {
    let rest = location
        .split_once("://")
        .map_or(location, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    match location.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://{host}"),
        None => "another path".to_owned(),
    }
}

#[cfg(test)]
mod tests;
