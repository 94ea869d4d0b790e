//! Decoding the answer of any endpoint.

use std::fmt;

use proxmox_api::Value;
use proxmox_api::decode::{DecodeError, Slot, from_answer};
use proxmox_api::endpoint::Endpoint;
use proxmox_api::request::ApiRequest;
use proxmox_api::task::Task;
use proxmox_api::upid::Upid;

use crate::show::Show;

/// An endpoint and how its answers decode.
#[derive(Clone, Copy)]
pub struct Answer {
    pub endpoint: &'static Endpoint,
    /// From a body to the decoded value, laid open; `None` where the endpoint has no value to decode.
    pub decode: fn(&[u8]) -> Result<Option<Value>, DecodeError>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.endpoint, f)
    }
}

/// Whatever comes is as good as nothing.
pub(crate) fn nothing<R: ApiRequest<Output = ()>>(_: &[u8]) -> Result<Option<Value>, DecodeError> {
    Ok(None)
}

pub(crate) fn data<R>(body: &[u8]) -> Result<Option<Value>, DecodeError>
where
    R: ApiRequest,
    R::Output: Slot + Default + Show,
{
    Ok(from_answer::<R::Output>(body)?.show())
}

pub(crate) fn task<R: ApiRequest<Output = Task>>(
    body: &[u8],
) -> Result<Option<Value>, DecodeError> {
    from_answer::<String>(body).map(|text| Some(upid(&text)))
}

pub(crate) fn optional_task<R: ApiRequest<Output = Option<Task>>>(
    body: &[u8],
) -> Result<Option<Value>, DecodeError> {
    Ok(match from_answer::<Option<String>>(body)?.as_deref() {
        None | Some("" | "OK") => None,
        Some(text) => Some(upid(text)),
    })
}

/// The answer is a file.
pub(crate) fn bytes<R>(_: &[u8]) -> Result<Option<Value>, DecodeError>
where
    R: ApiRequest,
    R::Output: AsRef<[u8]>,
{
    Ok(None)
}

/// The task's id, or what stands in its place.
fn upid(text: &str) -> Value {
    match text.parse::<Upid>() {
        Ok(upid) => Value::from(upid.as_str()),
        Err(error) => serde_json::json!({ "(no UPID)": error.to_string() }),
    }
}
