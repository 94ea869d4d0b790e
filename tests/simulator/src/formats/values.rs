//! Formats of single values that are more than a pattern.

use crate::formats::patterns::{CONTENT_TYPES, is};
use crate::indexed::split_index;
use crate::privileges::all_privileges;

/// Whether a text is a calendar event: days of the week, a date and a time, each optional, or a
/// keyword such as `daily`.
pub(crate) fn calendar_event(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "annually",
        "quarterly",
        "semiannually",
        "semi-annually",
    ];
    const DAYS: [&str; 7] = [
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
    ];
    let parts: Vec<&str> = text.split_whitespace().collect();
    if let [word] = parts.as_slice()
        && WORDS.iter().any(|other| other.eq_ignore_ascii_case(word))
    {
        return true;
    }
    let day = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.len() >= 3 && DAYS.iter().any(|day| text == *day || text == day[..3])
    };
    let days = |text: &&&str| {
        text.split(',')
            .all(|part| part.split("..").all(day) && part.split("..").count() <= 2)
    };
    // A value, a range or `*`, optionally with a step.
    let unit = |text: &str| {
        text.split(',').all(|part| {
            let (value, step) = part.split_once('/').unwrap_or((part, "1"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits(step)
                && (value == "*" || value.split("..").count() <= 2 && value.split("..").all(digits))
        })
    };
    let mut rest = parts.as_slice();
    if let Some(first) = rest.first()
        && days(&first)
    {
        rest = &rest[1..];
    }
    let date = |text: &str| (2..=3).contains(&text.split('-').count()) && text.split('-').all(unit);
    let time = |text: &str| text.split(':').count() <= 3 && text.split(':').all(unit);
    match rest {
        [] => !parts.is_empty(),
        [one] => date(one) || time(one),
        [first, second] => date(first) && time(second),
        _ => false,
    }
}

/// Checks a list of connection tracking helpers.
pub(crate) fn unknown_helper(list: &str) -> Option<String> {
    const HELPERS: [&str; 9] = [
        "tftp",
        "snmp",
        "sip",
        "sane",
        "pptp",
        "netbios-ns",
        "irc",
        "ftp",
        "amanda",
    ];
    if list.ends_with(',') {
        return Some("extraneous commas in list".into());
    }
    let mut helpers = list.split(',').filter(|_| !list.is_empty());
    let unknown = helpers.find(|helper| !HELPERS.contains(helper))?;
    Some(format!("unknown helper {unknown}"))
}

/// Whether a privilege exists in some release.
pub(crate) fn is_privilege(name: &str) -> bool {
    [8, 9]
        .iter()
        .any(|major| all_privileges(*major).contains(name))
}

/// Whether a name is one of these indexed names with a valid index.
pub(crate) fn indexed(name: &str, prefixes: &[&str]) -> bool {
    split_index(name).is_some_and(|(prefix, _)| prefixes.contains(&prefix))
}

/// `content=path`: a relative path whose segments are valid file names.
pub(crate) fn is_override(value: &str) -> bool {
    let Some((content, path)) = value.split_once('=') else {
        return false;
    };
    CONTENT_TYPES.contains(&content)
        && is(r"[^.]*(?:\.?[^.]+)+", path)
        && path.len() < 1023
        && path.split('/').all(|part| part.len() < 255)
}

pub(crate) fn block_size(value: &str) -> (bool, String) {
    let text = value.to_ascii_lowercase();
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1024),
        None => text
            .strip_suffix('m')
            .map_or((&*text, 1), |digits| (digits, 1024 * 1024)),
    };
    if value.is_empty() {
        return (true, String::new());
    }
    if !is("[1-9][0-9]*", digits) {
        let text = "Use a positive number (no leading zeros) with an optional 'k' or 'm' suffix.";
        return (
            false,
            format!("invalid ZFS blocksize format '{value}'. {text}"),
        );
    }
    let bytes = digits
        .parse::<u64>()
        .unwrap_or(u64::MAX)
        .saturating_mul(unit);
    let text = "Must be a power of 2 between 512B and 16MiB (e.g., 4k, 8k, 16k, 64k, 1m).";
    (
        (512..=16 << 20).contains(&bytes) && bytes.is_power_of_two(),
        format!("value '{value}' is not a valid ZFS blocksize. {text}"),
    )
}

pub(crate) fn verdict_of(result: Result<(), String>) -> (bool, String) {
    (result.is_ok(), result.err().unwrap_or_default())
}
