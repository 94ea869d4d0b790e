//! Lines of logs with the server's numbers.

use serde_json::Value;

use crate::value::serialize::record_serde;

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLogLine {
    /// Its number; the first is 1.
    pub number: u64,
    /// Its text, without a line break.
    pub text: String,
}

record_serde!(TaskLogLine { number, text });

impl TaskLogLine {
    pub(crate) fn read(place: u64, row: &Value) -> Self {
        let number = match row.get("n") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) => digits.parse().ok(),
            _ => None,
        };
        let text = row
            .get("t")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self {
            number: number.unwrap_or(place),
            text,
        }
    }

    /// Whether it is the server's message for a missing log ([wire protocol
    /// §8](crate::guide::wire_protocol)).
    pub(crate) fn stands_for_none(&self) -> bool {
        self.number == 1
            && (self.text == "no content" || self.text.starts_with("unable to open file"))
    }
}
