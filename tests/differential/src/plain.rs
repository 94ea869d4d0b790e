//! Normalizes texts and values that differ between runs and servers.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::call::Words;

/// Replacements in texts.
static EVERYWHERE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (
            r"UPID:[^:\s]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:([^:\s]+):[^:\s]*:[^:\s]+:",
            "UPID:$1",
        ),
        (
            r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
            "(UUID)",
        ),
        (r"\b[0-9a-f]{64}\b", "(SHA-256)"),
        (r"\b[0-9a-f]{40}\b", "(digest)"),
        (
            r"\b(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}\b",
            "(fingerprint)",
        ),
        (r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b", "(MAC)"),
        (r"\b1[5-9]\d{8}\b", "(time)"),
        (
            r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:Z|[+-]\d\d:?\d\d)?",
            "(time)",
        ),
        (r"\bcreation-qemu=[0-9.]+", "creation-qemu=(version)"),
        (
            r"(?s)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n?",
            "(certificate)",
        ),
        // The position in the server's source.
        (r" at /usr/\S+ line \d+\.?", ""),
        (r"(?s)\n.*Compilation failed.*", ""),
    ]
    .map(|(pattern, by)| (Regex::new(pattern).expect("a pattern"), by))
    .into()
});

/// Members whose values depend on the state of the server.
const RESTLESS: &[&str] = &[
    "avail",
    "balloon",
    "ballooninfo",
    "blockstat",
    "cpu",
    "ctime",
    "digest",
    "disk",
    "diskread",
    "diskwrite",
    "endtime",
    "free",
    "freemem",
    "fingerprint",
    "idle",
    "last_update",
    "loadavg",
    "maxdisk",
    "mem",
    "memhost",
    "netin",
    "netout",
    "notafter",
    "notbefore",
    "password",
    "pid",
    "pressurecpufull",
    "pressurecpusome",
    "pressureiofull",
    "pressureiosome",
    "pressurememoryfull",
    "pressurememorysome",
    "proxmox-support",
    "pstart",
    "repoid",
    "running-machine",
    "running-qemu",
    "snaptime",
    "ssl_fingerprint",
    "starttime",
    "ticket",
    "timestamp",
    "total",
    "uptime",
    "used",
    "used_fraction",
    "version",
    "vmgenid",
    "wait",
];

/// The normalized text.
#[must_use]
pub fn text(text: &str, words: &Words) -> String {
    let mut out = text.trim_end().to_owned();
    for (pattern, by) in EVERYWHERE.iter() {
        out = pattern.replace_all(&out, *by).into_owned();
    }
    // Longer ones first, because a name can be part of another.
    let mut names: Vec<(&String, &String)> =
        words.iter().filter(|(_, value)| value.len() > 2).collect();
    names.sort_by_key(|(name, value)| (std::cmp::Reverse(value.len()), *name));
    for (name, value) in names {
        out = whole(&out, value, &format!("{{{name}}}"));
    }
    out
}

/// Replaces a name unless it is part of a longer one.
fn whole(text: &str, name: &str, by: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, found) = rest.split_at(at);
        let after = &found[name.len()..];
        out.push_str(before);
        let inside = before
            .chars()
            .next_back()
            .or(out.chars().next_back())
            .is_some_and(part)
            || after.chars().next().is_some_and(part);
        out.push_str(if inside { name } else { by });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The value with normalized texts, volatile members replaced by their type, and sorted lists.
#[must_use]
pub fn value(json: &Value, words: &Words) -> Value {
    match json {
        Value::Object(object) => {
            let mut out = Map::new();
            for (name, member) in object {
                let member = match RESTLESS.contains(&name.as_str()) {
                    true => Value::from(format!("({})", kind(member))),
                    false => value(member, words),
                };
                // Keys are names of members, unless a map is by node, user or similar.
                let name = match words.iter().find(|(_, own)| *own == name) {
                    Some((word, _)) => format!("{{{word}}}"),
                    None => name.clone(),
                };
                out.insert(name, member);
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| value(item, words)).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        Value::String(string) => Value::from(text(string, words)),
        other => other.clone(),
    }
}

/// The JSON type of a value.
#[must_use]
pub fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words() -> Words {
        [("node", "pve1"), ("vm1", "9001"), ("storage", "local")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn texts_of_two_servers_become_one() {
        let message = "can't lock file '/var/lock/qemu-server/lock-9001.conf' on pve1 at /usr/share/perl5/PVE/X.pm line 12.\n";
        assert_eq!(
            text(message, &words()),
            "can't lock file '/var/lock/qemu-server/lock-{vm1}.conf' on {node}"
        );
        assert_eq!(
            text(
                "UPID:pve1:000000E2:0009A889:6B0974F3:qmcreate:9001:root@pam!ci:",
                &words()
            ),
            "UPID:qmcreate"
        );
        assert_eq!(
            text("at 1795781893, by BC:24:11:40:12:2F", &words()),
            "at (time), by (MAC)"
        );
    }

    #[test]
    fn names_inside_of_longer_ones_stay() {
        assert_eq!(
            text("locals pve12 local local_disks", &words()),
            "locals pve12 {storage} local_disks"
        );
    }

    #[test]
    fn lists_are_sorted_and_volatile_members_have_no_value() {
        let first = json!([{ "vmid": 9001, "uptime": 7 }, { "vmid": 4 }]);
        let second = json!([{ "vmid": 4 }, { "uptime": 900, "vmid": 9001 }]);
        assert_eq!(value(&first, &words()), value(&second, &words()));
    }
}
