//! Sessions that are kept between processes.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::texts::check_user;
use crate::value::Secret;

/// A login for use in another process: the user, the ticket, and its age.
///
/// [`Client::save_session`](crate::Client::save_session) returns it and
/// [`ClientBuilder::session`](crate::ClientBuilder::session) takes it. Its text, from
/// [`SavedSession::to_secret`], is as good as the password for two hours: keep it where nobody else
/// can read it.
///
/// ```
/// # fn example(text: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use proxmox_api::Client;
/// use proxmox_api::client::auth::SavedSession;
///
/// let session: SavedSession = text.parse()?;
/// let pve = Client::builder("pve1").session(session).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SavedSession {
    pub(super) user: String,
    pub(super) ticket: Secret,
    pub(super) csrf: Option<Secret>,
    pub(super) obtained: SystemTime,
}

const FIRST_LINE: &str = "proxmox-api session 2";
/// The first format, which wrote values unescaped.
const OLD_FIRST_LINE: &str = "proxmox-api session 1";
/// Control characters, and the escape character.
const LINE_ENDS: &AsciiSet = &CONTROLS.add(b'%');

impl SavedSession {
    /// The user of the session.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// When the ticket was obtained, by this machine's clock and to the second.
    #[must_use]
    pub fn obtained(&self) -> SystemTime {
        self.obtained
    }

    /// The session as text for parsing, one `key=value` in each line.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        let seconds = self
            .obtained
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        // The server chooses the values, and a line end would begin another key.
        let line = |text: &str| utf8_percent_encode(text, LINE_ENDS).to_string();
        let mut text = format!(
            "{FIRST_LINE}\nuser={}\nobtained={seconds}\nticket={}\n",
            line(&self.user),
            line(self.ticket.expose())
        );
        if let Some(csrf) = &self.csrf {
            text.push_str(&format!("csrf={}\n", line(csrf.expose())));
        }
        Secret::new(text)
    }
}

impl FromStr for SavedSession {
    type Err = SavedSessionError;

    fn from_str(text: &str) -> Result<Self, SavedSessionError> {
        let wrong = |what| Err(SavedSessionError(what));
        let mut lines = text.lines();
        let escaped = match lines.next() {
            Some(FIRST_LINE) => true,
            Some(OLD_FIRST_LINE) => false,
            _ => return wrong("it does not start like one"),
        };
        let plain = |value: &str| match escaped {
            true => percent_decode_str(value)
                .decode_utf8()
                .ok()
                .map(|text| text.into_owned()),
            false => Some(value.to_owned()),
        };
        let (mut user, mut obtained, mut ticket, mut csrf) = (None, None, None, None);
        for line in lines.filter(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some(("user", value)) => user = plain(value),
                Some(("obtained", value)) => obtained = Some(value),
                Some(("ticket", value)) => ticket = plain(value),
                Some(("csrf", value)) => csrf = plain(value),
                // A key of a later format.
                Some(_) => {}
                None => return wrong("a line is not key=value"),
            }
        }
        let Some(user) = user.filter(|user| check_user(user).is_ok()) else {
            return wrong("it has no user");
        };
        let Some(ticket) = ticket.filter(|ticket| !ticket.is_empty()) else {
            return wrong("it has no ticket");
        };
        let obtained = obtained
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let Some(obtained) = obtained else {
            return wrong("it has no time");
        };
        Ok(Self {
            user,
            ticket: ticket.into(),
            csrf: csrf.map(Secret::from),
            obtained,
        })
    }
}

impl fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedSession({}, …)", self.user)
    }
}

/// A text that is not a saved session. Shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedSessionError(&'static str);

impl fmt::Display for SavedSessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a saved session: {}", self.0)
    }
}

impl std::error::Error for SavedSessionError {}
