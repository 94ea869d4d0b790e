//! The header field `Retry-After`.

use std::time::Duration;

use httpdate::parse_http_date;

use super::WireResponse;

/// The pause that an answer asks for: in seconds, or until a time of day, which is read by the
/// clock of the answer's sender.
pub(crate) fn retry_after(answer: &WireResponse) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = parse_http_date(text).ok()?;
    let now = parse_http_date(answer.header("date")?.trim()).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}
