//! The identifiers of tasks ([wire protocol §8](crate::guide::wire_protocol)).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A task's identifier: `UPID:node:pid:pstart:starttime:type:id:user:`.
///
/// Also reads the form of Proxmox Backup Server, with one more field. Printing returns the text
/// that was read.
///
/// ```
/// use proxmox_api::value::upid::Upid;
///
/// let upid: Upid = "UPID:pve1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam!ci:".parse()?;
/// assert_eq!(upid.node(), "pve1");
/// assert_eq!(upid.task_type(), "qmstart");
/// assert_eq!(upid.id(), Some("100"));
/// assert_eq!((upid.user(), upid.token()), ("root@pam", Some("ci")));
/// # Ok::<(), proxmox_api::value::upid::UpidError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upid {
    text: String,
    node: Range32,
    task_type: Range32,
    id: Range32,
    user: Range32,
    pid: u32,
    pstart: u64,
    starttime: u64,
    task_id: Option<u64>,
}

/// Byte positions in the text, whose length is at most [`MAX_LENGTH`].
type Range32 = (u32, u32);

const MAX_LENGTH: usize = 4096;

impl Upid {
    /// The text of the identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The node that runs the task. Its status and log can be read through any node.
    #[must_use]
    pub fn node(&self) -> &str {
        self.part(self.node)
    }

    /// The number of the worker process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The start of the process, in clock ticks since the node booted; distinguishes processes with
    /// the same number.
    #[must_use]
    pub fn pstart(&self) -> u64 {
        self.pstart
    }

    /// The start of the task, in seconds since 1970, by the node's clock.
    #[must_use]
    pub fn starttime(&self) -> u64 {
        self.starttime
    }

    /// The type of the task, such as `qmcreate` or `vzdump`.
    #[must_use]
    pub fn task_type(&self) -> &str {
        self.part(self.task_type)
    }

    /// The subject of the task, such as a guest's number; `None` if the task has none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        Some(self.part(self.id)).filter(|id| !id.is_empty())
    }

    /// The user who started it, as `user@realm`, without the token's name.
    #[must_use]
    pub fn user(&self) -> &str {
        let owner = self.part(self.user);
        owner.split_once('!').map_or(owner, |(user, _)| user)
    }

    /// The name of the API token that started it.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.part(self.user).split_once('!').map(|(_, token)| token)
    }

    /// The counter that Proxmox Backup Server adds; `None` for Proxmox VE.
    #[must_use]
    pub fn task_id(&self) -> Option<u64> {
        self.task_id
    }

    fn part(&self, (start, end): Range32) -> &str {
        let range: Range<usize> = start as usize..end as usize;
        self.text.get(range).unwrap_or_default()
    }
}

impl FromStr for Upid {
    type Err = UpidError;

    fn from_str(text: &str) -> Result<Self, UpidError> {
        let problem = |what| Err(UpidError(what));
        if text.len() > MAX_LENGTH {
            return problem("it is too long");
        }
        let mut parts = Vec::with_capacity(10);
        let mut start = 0_u32;
        for part in text.split(':') {
            let length = u32::try_from(part.len()).map_err(|_| UpidError("it is too long"))?;
            parts.push((part, (start, start + length)));
            start += length + 1;
        }
        if parts.first().map(|(part, _)| *part) != Some("UPID") {
            return problem("it does not start with `UPID:`");
        }
        let (pid, pstart, task_id, starttime, task_type, id, user) = match parts.as_slice() {
            [_, _, pid, pstart, starttime, task_type, id, user, ("", _)] => {
                (pid, pstart, None, starttime, task_type, id, user)
            }
            [
                _,
                _,
                pid,
                pstart,
                task_id,
                starttime,
                task_type,
                id,
                user,
                ("", _),
            ] => (pid, pstart, Some(task_id), starttime, task_type, id, user),
            _ => return problem("it does not have the fields of a UPID, each ended by a colon"),
        };
        let node = parts[1];
        for (part, what) in [
            (node.0, "the node is missing"),
            (task_type.0, "the type is missing"),
            (user.0, "the user is missing"),
        ] {
            if part.is_empty() {
                return problem(what);
            }
        }
        if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return problem("it holds a slash, white space or a control character");
        }
        Ok(Self {
            text: text.to_owned(),
            node: node.1,
            task_type: task_type.1,
            id: id.1,
            user: user.1,
            pid: u32::try_from(hexadecimal(pid.0)?)
                .map_err(|_| UpidError("the pid is too large"))?,
            pstart: hexadecimal(pstart.0)?,
            starttime: hexadecimal(starttime.0)?,
            task_id: task_id.map(|part| hexadecimal(part.0)).transpose()?,
        })
    }
}

fn hexadecimal(digits: &str) -> Result<u64, UpidError> {
    // `from_str_radix` would accept a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(UpidError("a number in it is not hexadecimal"));
    }
    u64::from_str_radix(digits, 16).map_err(|_| UpidError("a number in it is empty or too large"))
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upid({:?})", self.text)
    }
}

impl AsRef<str> for Upid {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl serde::Serialize for Upid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Upid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a task identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpidError(&'static str);

impl fmt::Display for UpidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a UPID: {}", self.0)
    }
}

impl std::error::Error for UpidError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_survive_a_round_trip(
            node in "[a-zA-Z0-9-]{1,20}",
            pid in any::<u32>(),
            pstart in any::<u64>(),
            starttime in any::<u32>(),
            task_type in "[a-z]{1,12}",
            id in "[a-zA-Z0-9_.@-]{0,12}",
            user in "[a-z0-9]{1,8}@[a-z]{2,5}",
            token in prop::option::of("[a-zA-Z][a-zA-Z0-9._-]{1,8}"),
            task_id in prop::option::of(any::<u32>()),
        ) {
            let counter = task_id.map(|n| format!("{n:08X}:")).unwrap_or_default();
            let owner = token.as_ref().map_or(user.clone(), |token| format!("{user}!{token}"));
            let text = format!(
                "UPID:{node}:{pid:08X}:{pstart:08X}:{counter}{starttime:08X}:{task_type}:{id}:{owner}:"
            );
            let upid: Upid = text.parse().expect("every field has a form the server writes");
            prop_assert_eq!(upid.to_string(), text);
            prop_assert_eq!(upid.node(), node);
            prop_assert_eq!(upid.pid(), pid);
            prop_assert_eq!(upid.pstart(), pstart);
            prop_assert_eq!(upid.starttime(), u64::from(starttime));
            prop_assert_eq!(upid.task_type(), task_type);
            prop_assert_eq!(upid.id().unwrap_or_default(), id);
            prop_assert_eq!(upid.user(), user);
            prop_assert_eq!(upid.token(), token.as_deref());
            prop_assert_eq!(upid.task_id(), task_id.map(u64::from));
        }

        #[test]
        fn no_text_causes_a_panic(text in "(UPID)?[:0-9A-F\\PC]{0,80}") {
            if let Ok(upid) = text.parse::<Upid>() {
                prop_assert_eq!(upid.as_str(), text);
            }
        }
    }

    #[test]
    fn errors_describe_the_problem() {
        for (text, what) in [
            ("", "does not start"),
            ("OK", "does not start"),
            ("UPID:pve1", "fields"),
            (
                "UPID:pve1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam",
                "fields",
            ),
            (
                "UPID:pve1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam:x",
                "fields",
            ),
            (
                "UPID::000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "node is missing",
            ),
            (
                "UPID:pve1:000012BG:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "not hexadecimal",
            ),
            (
                "UPID:pve1:+00012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "not hexadecimal",
            ),
            (
                "UPID:pve1:1000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "pid is too large",
            ),
            (
                "UPID:pve1::0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "empty",
            ),
            (
                "UPID:p/1:000012BE:0002DDA4:6B01F6EE:qmstart:100:root@pam:",
                "slash",
            ),
        ] {
            let error = text.parse::<Upid>().expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
