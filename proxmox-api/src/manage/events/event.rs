//! A change with the time at which it was seen.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::change::Change;
use super::state::State;
use super::time::utc;
use crate::Value;

/// A change, and the time at which it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The time at which it was seen, in seconds since 1970, by this machine's clock.
    pub time: u64,
    /// The change.
    pub change: Change,
    /// The start of the watch, and the number of this change of the same object.
    occurrence: (u64, u64),
}

impl Event {
    /// A change that was seen at a time, in seconds since 1970.
    #[must_use]
    pub fn new(time: u64, change: Change) -> Self {
        Self {
            time,
            change,
            occurrence: (0, 0),
        }
    }

    /// The next change of its subject, after those in this state.
    pub(super) fn after(state: &State, time: u64, change: Change) -> Self {
        // The identifier of a task is unique, so all watches use the same one.
        let occurrence = match change.is_of_task() {
            true => (0, 0),
            false => {
                let reported = state.reported.get(&change.about());
                (state.origin, reported.copied().unwrap_or(0) + 1)
            }
        };
        Self {
            time,
            change,
            occurrence,
        }
    }

    /// An identifier made from the content of the event, and not from the time at which it was
    /// seen: a resumed watch that reports an event again gives it the same identifier. Events of
    /// tasks have the same identifier in all watches; other events of different watches have
    /// different ones.
    #[must_use]
    #[inline]
    pub fn id(&self) -> String {
        let (origin, count) = self.occurrence;
        let (kind, data) = (self.change.kind(), self.change.data());
        let text = format!("{origin} {count} {kind} {data}");
        let hash = Sha256::digest(text.as_bytes());
        let digits: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("evt-{digits}")
    }

    /// `{"type":"guest.started","timestamp":"2026-01-15T10:00:00Z","data":{…}}`.
    #[must_use]
    #[inline]
    pub fn to_json(&self) -> Value {
        json!({
            "type": self.change.kind(),
            "timestamp": utc(self.time),
            "data": self.change.data(),
        })
    }
}

/// One line of text.
impl fmt::Display for Event {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.change.data();
        write!(f, "{} {}", utc(self.time), self.change.kind())?;
        for (key, value) in data.as_object().into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::String(text) => write!(f, " {key}={}", text.escape_debug())?,
                other => write!(f, " {key}={other}")?,
            }
        }
        Ok(())
    }
}

/// Like [`Event::to_json`], with further members for reading it back.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = self.to_json();
        json["time"] = self.time.into();
        json["occurrence"] = json!([self.occurrence.0, self.occurrence.1]);
        let besides = match &self.change {
            Change::GuestCreated { guest, .. }
            | Change::GuestRemoved { guest, .. }
            | Change::GuestStatus { guest, .. }
            | Change::GuestMigrated { guest, .. }
            | Change::GuestChanged { guest, .. } => Some(("lock", guest.lock.as_str().into())),
            Change::TaskStarted { started, .. } => Some(("started", (*started).into())),
            _ => None,
        };
        if let Some((name, value)) = besides {
            json["data"][name] = value;
        }
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::read(&json).ok_or_else(|| D::Error::custom("this is not an event"))
    }
}

impl Event {
    fn read(json: &Value) -> Option<Self> {
        let count = |place: usize| json.get("occurrence")?.get(place)?.as_u64();
        Some(Self {
            time: json.get("time")?.as_u64()?,
            change: Change::read(json.get("type")?.as_str()?, json.get("data")?)?,
            occurrence: (count(0)?, count(1)?),
        })
    }
}
