//! A refusal by the server: what it said, and what that means.
//!
//! The server says almost everything with status 500 and a sentence, and where the sentence stands
//! depends on its age (wire protocol §5-7). What an endpoint says stands in the JSON body since 2025, and before
//! that only in the reason phrase. What goes wrong before an endpoint is reached stands in a body of plain text since
//! then. An answer that refuses a ticket or token, and one with a status of 595 and above, has only the phrase in every
//! version; a wrong password is an endpoint's answer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::error::Name;
use crate::retry::retry_after;
use crate::transport::WireResponse;

/// What a refusal means to a program.
///
/// Recognised from the status where that is telling and from the server's sentence where it is not
/// (wire protocol §6). The text itself stays available in [`ApiError::message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing the call is about is not there.
    NotFound,
    /// A thing of that name or number is there already.
    AlreadyExists,
    /// The guest runs already.
    AlreadyRunning,
    /// The guest does not run.
    NotRunning,
    /// The guest is locked by another operation, such as a backup.
    Locked,
    /// Another operation held a lock for too long. Trying again later helps.
    LockTimeout,
    /// The cluster has no quorum, so nothing can be changed.
    NoQuorum,
    /// The guest agent is not configured or does not answer.
    AgentNotRunning,
    /// The configuration changed since it was read; the `digest` given is out of date.
    ConfigChanged,
    /// A privilege is missing; see [`ApiError::missing_permission`].
    PermissionDenied,
    /// The endpoint does not accept API tokens.
    NeedsTicket,
    /// No valid ticket or token came with the request. The server does not tell an expired one from a
    /// wrong one.
    Unauthorized,
    /// The ticket this client holds ran out and it has no password to get another.
    TicketExpired,
    /// The CSRF prevention token was missing or wrong.
    InvalidCsrf,
    /// The server knows no such path, or not with this verb. Often it is older than the endpoint.
    UnknownMethod,
    /// One or more parameters were refused; see [`ApiError::errors`].
    ParameterVerification,
    /// The node named in the path cannot be reached or does not exist. With status 596 and above the work
    /// may go on there.
    NodeUnreachable,
    /// The request is larger than the server reads.
    TooLarge,
    /// Too many requests; see [`ApiError::retry_after`].
    RateLimited,
    /// The server or a proxy before it cannot serve requests at the moment.
    Unavailable,
    /// The server points elsewhere. Redirections are not followed.
    Redirected,
    /// The answer does not come from a Proxmox VE API, for instance a web page.
    NotTheApi,
    /// Anything else; the text says what.
    Other,
}

impl ErrorKind {
    /// The meaning of a sentence of the server, as found in errors and as the end of failed tasks.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let has = |needle: &str| text.contains(needle);
        let ends = text.trim_end_matches(['!', '.', '\n', ' ']);
        let guest = has("vm ") || has("ct ") || has("container ");
        // The order matters: what comes first is the more specific of two that could match.
        if has("no quorum") {
            Self::NoQuorum
        } else if has("no qemu guest agent configured")
            || (has("guest agent") && has("not running"))
        {
            Self::AgentNotRunning
        } else if has("detected modified configuration") || has("file change by other user") {
            Self::ConfigChanged
        } else if has("can't lock file") || has("lock request timeout") || has("acquire lock") {
            Self::LockTimeout
        } else if has("is locked (") {
            Self::Locked
        } else if has("already running") {
            Self::AlreadyRunning
        } else if has("not running") && guest {
            Self::NotRunning
        } else if has("hostname lookup") && has("failed") {
            Self::NodeUnreachable
        } else if has("already exist")
            || has("already defined")
            || (has("snapshot name") && has("already used"))
        {
            Self::AlreadyExists
        } else if has("permission check failed") {
            Self::PermissionDenied
        } else if (has("does not exist")
            || has("no such ")
            || has("unable to find configuration file")
            || (ends.ends_with("not found") && !ends.ends_with("command not found")))
            && !has("no such file or directory")
        {
            Self::NotFound
        } else {
            Self::Other
        }
    }

    fn of(status: u16, text: &str, errors: &BTreeMap<String, String>) -> Self {
        match status {
            300..=399 => Self::Redirected,
            400 if !errors.is_empty() || text.starts_with("Parameter verification failed") => {
                Self::of_parameters(errors)
            }
            401 if text.to_ascii_lowercase().contains("csrf") => Self::InvalidCsrf,
            401 => Self::Unauthorized,
            403 if text.contains("not available with API token") => Self::NeedsTicket,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            500 | 501 if text.starts_with("no such file '") || text.starts_with("no such uri") => {
                Self::UnknownMethod
            }
            501 if text.contains("data too large") => Self::TooLarge,
            501 if text.contains("not implemented")
                || text.contains("not available")
                || text.contains("no formatter") =>
            {
                Self::UnknownMethod
            }
            502..=504 => Self::Unavailable,
            595..=599 => Self::NodeUnreachable,
            _ => Self::of_text(text),
        }
    }

    /// A single parameter error can carry what other calls answer as a sentence.
    fn of_parameters(errors: &BTreeMap<String, String>) -> Self {
        let mut texts = errors.values();
        let (Some(text), None) = (texts.next(), texts.next()) else {
            return Self::ParameterVerification;
        };
        match Self::of_text(text) {
            _ if text.starts_with("Only root may") => Self::PermissionDenied,
            _ if text.starts_with("no such task") => Self::NotFound,
            kind @ (Self::AlreadyExists | Self::NotFound) => kind,
            _ => Self::ParameterVerification,
        }
    }
}

/// The server answered, and the answer is no.
#[derive(Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    name: Name,
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
    /// Reads everything an answer other than 2xx can hold. `secrets` are values that were sent with the
    /// request; the server may quote them, so they are taken out of every text.
    pub(crate) fn new(name: &Name, response: &WireResponse, secrets: &[&str]) -> Self {
        let reason = scrub(&latin1_or_utf8(&response.reason), secrets);
        let body = Body::read(response);
        let message = scrub(
            &body.message.unwrap_or_else(|| reason.trim().to_owned()),
            secrets,
        );
        let errors: BTreeMap<_, _> = (body.errors.into_iter())
            .map(|(key, text)| (key, scrub(&text, secrets)))
            .collect();
        let location = (300..400)
            .contains(&response.status)
            .then(|| response.header("location"));
        let message = match location.flatten().map(origin_of) {
            Some(origin) => format!("{message}, to {origin}"),
            None => message,
        };
        let reason_is_clean = secrets
            .iter()
            .all(|secret| !contains(&response.reason, secret.as_bytes()));
        Self(Box::new(Parts {
            name: name.clone(),
            status: response.status,
            kind: ErrorKind::of(response.status, &message, &errors),
            reason: match reason_is_clean {
                true => response.reason.clone(),
                false => Bytes::from(reason.into_bytes()),
            },
            message,
            errors,
            retry_after: retry_after(response),
            body: match secrets
                .iter()
                .all(|secret| !contains(&response.body, secret.as_bytes()))
            {
                true => response.body.clone(),
                false => Bytes::new(),
            },
            hint: None,
        }))
    }

    /// A page where JSON was to be: some other server, or a proxy's login form.
    pub(crate) fn not_the_api(name: &Name, response: &WireResponse) -> Self {
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

    /// Which of the client's requests this is the answer to; see
    /// [`Error::request_id`](crate::Error::request_id).
    #[must_use]
    pub fn request_id(&self) -> Option<u64> {
        self.0.name.number()
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0.name
    }

    /// The HTTP status. Besides the usual ones, 595 to 599 come from a node that could not reach the
    /// node the call is for (wire protocol §6).
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// What the refusal means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the server said, without the line break at its end: the `message` of the body, or else the
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

    /// The reason phrase as it came.
    #[must_use]
    pub fn reason_bytes(&self) -> &[u8] {
        &self.0.reason
    }

    /// The body as it came, for what this crate does not read out of it. Empty if it quoted a secret of
    /// the request.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// How long the server, or a proxy before it, asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What may be behind the refusal, from what this crate knows and the server does not say: since which
    /// release the call or a refused parameter exists, or what to check first.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        match self.0.kind {
            ErrorKind::NodeUnreachable => {
                Some("is the node's name in the path right, and is that node up?")
            }
            ErrorKind::UnknownMethod => Some("is the server too old for this call?"),
            ErrorKind::TooLarge if self.0.status == 501 => {
                Some("a server before 8.4 reads 64 KiB of parameters, a later one 512")
            }
            _ => None,
        }
    }

    /// The object and the privileges the server found missing, as `("/vms/102", "VM.Audit")`.
    #[must_use]
    pub fn missing_permission(&self) -> Option<(&str, &str)> {
        let message = self.0.message.strip_prefix("Permission check failed (")?;
        let (inside, _) = message.split_once(')')?;
        let (path, privileges) = inside.split_once(',')?;
        path.starts_with('/').then(|| (path, privileges.trim()))
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("endpoint", &self.0.name)
            .field("status", &self.0.status)
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("errors", &self.0.errors)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.name, self.0.status)?;
        if self.0.message.is_empty() {
            f.write_str(" without any text")?;
        } else {
            write!(f, " {}", OneLine(&self.0.message))?;
        }
        for (i, (name, text)) in self.0.errors.iter().enumerate() {
            write!(
                f,
                "{}{name}: {}",
                if i == 0 { " (" } else { "; " },
                OneLine(text)
            )?;
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

/// Prints text of a server so that it stays on its line and cannot steer a terminal.
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for line in self
            .0
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            f.write_str(separator)?;
            for c in line.chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?
                } else {
                    write!(f, "{c}")?
                }
            }
            separator = " / ";
        }
        Ok(())
    }
}

/// What can be read out of an error's body, whatever it is.
#[derive(Default)]
struct Body {
    message: Option<String>,
    errors: BTreeMap<String, String>,
}

impl Body {
    fn read(response: &WireResponse) -> Self {
        let bytes = response.body.as_ref();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Self::default();
        }
        if let Ok(Value::Object(mut object)) = serde_json::from_slice(bytes) {
            let mut body = Self::default();
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
            let shown = excerpt(bytes);
            let reason = latin1_or_utf8(&response.reason);
            let message = format!("{} (the answer's JSON is damaged: {shown})", reason.trim());
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

/// Two errors of one parameter come joined by a backslash and an n (wire protocol §4).
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text.replace("\\n", "\n").trim().to_owned(),
        other => other.to_string(),
    }
}

/// The server writes a reason phrase as single Latin-1 bytes; one in UTF-8 would come from a proxy.
pub(crate) fn latin1_or_utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
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

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.len() >= SHORTEST_SECRET
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

/// Shorter values would blank out innocent text, and give nothing away that guessing would not.
const SHORTEST_SECRET: usize = 4;

pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets
        .iter()
        .filter(|secret| secret.len() >= SHORTEST_SECRET)
    {
        if text.contains(secret) {
            text = text.replace(secret, "…");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, reason: &[u8], body: &str) -> WireResponse {
        let mut response = WireResponse::new(status, Bytes::copy_from_slice(body.as_bytes()));
        response.reason = Bytes::copy_from_slice(reason);
        response
    }

    fn error(status: u16, reason: &str, body: &str) -> ApiError {
        ApiError::new(
            &"PUT /nodes/pve1/qemu/100/config".into(),
            &answer(status, reason.as_bytes(), body),
            &[],
        )
    }

    #[test]
    fn sentences_have_a_meaning() {
        for (text, kind) in [
            (
                "Configuration file 'nodes/pve1/qemu-server/9.conf' does not exist",
                ErrorKind::NotFound,
            ),
            ("no such user ('bob@pve')", ErrorKind::NotFound),
            (
                "unable to find configuration file for VM 9 on node 'pve1'",
                ErrorKind::NotFound,
            ),
            ("storage ID 'nas' already defined", ErrorKind::AlreadyExists),
            (
                "unable to create VM 1 - VM 1 already exists on node 'pve1'",
                ErrorKind::AlreadyExists,
            ),
            ("VM 100 already running", ErrorKind::AlreadyRunning),
            ("snapshot name 's1' already used", ErrorKind::AlreadyExists),
            (
                "address 'fe80::1' already used on link 0 by node 'b'",
                ErrorKind::Other,
            ),
            ("mapping 'gpu' not found", ErrorKind::NotFound),
            ("sh: zfs: command not found", ErrorKind::Other),
            ("VM quit/powerdown failed - got timeout", ErrorKind::Other),
            ("block job 'drive-scsi0' - got timeout", ErrorKind::Other),
            ("database is locked", ErrorKind::Other),
            ("CT 100 not running", ErrorKind::NotRunning),
            ("VM 100 is not running", ErrorKind::NotRunning),
            (
                "QEMU guest agent is not running",
                ErrorKind::AgentNotRunning,
            ),
            ("No QEMU guest agent configured", ErrorKind::AgentNotRunning),
            ("VM is locked (backup)", ErrorKind::Locked),
            ("CT is locked (snapshot)", ErrorKind::Locked),
            (
                "can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout",
                ErrorKind::LockTimeout,
            ),
            (
                "error with cfs lock 'storage-x': got lock request timeout",
                ErrorKind::LockTimeout,
            ),
            ("cluster not ready - no quorum?", ErrorKind::NoQuorum),
            (
                "checksum mismatch (file change by other user?)",
                ErrorKind::ConfigChanged,
            ),
            (
                "RRD error: opening 'x': No such file or directory",
                ErrorKind::Other,
            ),
            ("pvestatd is not running", ErrorKind::Other),
            ("no options specified", ErrorKind::Other),
        ] {
            assert_eq!(ErrorKind::of_text(text), kind, "{text}");
        }
    }

    #[test]
    fn old_servers_say_it_in_the_reason_phrase_only() {
        let error = error(500, "VM is locked (backup)", "{\"data\":null}");
        assert_eq!(error.message(), "VM is locked (backup)");
        assert_eq!(error.kind(), ErrorKind::Locked);
    }

    #[test]
    fn a_latin1_phrase_is_text_and_stays_available_as_bytes() {
        let error = ApiError::new(
            &"GET /x".into(),
            &answer(500, b"latin1 \xfc\xe9", "{\"data\":null}"),
            &[],
        );
        assert_eq!(error.message(), "latin1 üé");
        assert_eq!(error.reason_bytes(), b"latin1 \xfc\xe9");
    }

    #[test]
    fn every_refused_parameter_is_shown_on_one_line() {
        let body = r#"{"message":"Parameter verification failed.\n","data":null,
            "errors":{"cores":"type check ('integer') failed - got 'x'","vmid":"bad\\nworse\n"}}"#;
        let error = error(400, "Parameter verification failed.", body);
        assert_eq!(error.kind(), ErrorKind::ParameterVerification);
        assert_eq!(
            error.to_string(),
            "PUT /nodes/pve1/qemu/100/config: 400 Parameter verification failed. \
             (cores: type check ('integer') failed - got 'x'; vmid: bad / worse)"
        );
    }

    #[test]
    fn a_damaged_body_does_not_hide_the_phrase() {
        let error = error(500, "VM is locked (backup)", r#"{"data":null,"mess"#);
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(
            error.message().contains(r#"{"data":null,"mess"#),
            "{}",
            error.message()
        );
    }

    #[test]
    fn a_proxys_page_is_named_by_its_title() {
        let page = "<html><head><title>Gateway\n down</title></head></html>";
        let error = error(502, "Bad Gateway", page);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.message(), "Bad Gateway (web page \"Gateway down\")");
    }

    #[test]
    fn an_empty_answer_still_says_where() {
        let text = error(500, "", "").to_string();
        assert_eq!(
            text,
            "PUT /nodes/pve1/qemu/100/config: 500 without any text"
        );
    }

    #[test]
    fn control_characters_cannot_steer_a_terminal() {
        let text = error(500, "", r#"{"message":"escape \u001b[31mred"}"#).to_string();
        assert!(text.ends_with(r"500 escape \u{1b}[31mred"), "{text}");
    }

    #[test]
    fn the_missing_privilege_can_be_read() {
        let error = error(403, "Permission check failed (/vms/102, VM.Audit)", "");
        assert_eq!(error.missing_permission(), Some(("/vms/102", "VM.Audit")));
        let other = self::error(403, "Permission check failed (user != root@pam)", "");
        assert_eq!(other.missing_permission(), None);
    }

    #[test]
    fn a_quoted_secret_is_taken_out_everywhere() {
        let response = answer(
            400,
            b"got 'hunter22'",
            r#"{"message":"got 'hunter22'","errors":{"password":"'hunter22' is weak"}}"#,
        );
        let error = ApiError::new(&"PUT /access/password".into(), &response, &["hunter22"]);
        for text in [
            error.to_string(),
            format!("{error:?}"),
            error.reason(),
            error.message().to_owned(),
        ] {
            assert!(!text.contains("hunter22"), "{text}");
        }
        assert!(error.body().is_empty());
    }

    #[test]
    fn a_redirection_names_the_host_but_not_the_query() {
        let mut response = answer(301, b"Moved", "");
        response.headers.push((
            "Location".into(),
            "https://u:p@other:8006/x?password=hunter22".into(),
        ));
        let error = ApiError::new(&"GET /version".into(), &response, &[]);
        assert_eq!(error.kind(), ErrorKind::Redirected);
        assert_eq!(
            error.to_string(),
            "GET /version: 301 Moved, to https://other:8006"
        );
    }

    #[test]
    fn waiting_times_are_read() {
        let mut response = answer(429, b"Too Many Requests", "");
        response.headers.push(("retry-after".into(), "7".into()));
        let error = ApiError::new(&"GET /version".into(), &response, &[]);
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}
