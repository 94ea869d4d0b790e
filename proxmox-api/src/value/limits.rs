//! Limits of parameters and keys that are narrower than their types, and checks of values against
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex_lite::Regex;

use crate::value::encode::ParamValue;
use crate::value::problem::Problem;

/// The values that a parameter or a key of a property string accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Takes {
    /// Integers in this range.
    Integer(i64, i64),
    /// Numbers in this range.
    Number(f64, f64),
    /// Texts of this many characters.
    Length(u32, u32),
    /// The indexes of an indexed parameter: 0 to this.
    Index(u8),
    /// Texts that match one of these patterns as a whole.
    Pattern(&'static [&'static str]),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Texts of a named format.
    Format(&'static str),
}

/// The problem with a parameter's value.
pub(crate) fn beyond(
    limits: &[(&'static str, Takes)],
    key: &str,
    value: &ParamValue,
) -> Option<Problem> {
    if limits.is_empty() {
        return None;
    }
    let indexed = split_index(key);
    limits.iter().find_map(|(name, takes)| {
        let index = match name.strip_suffix("[n]") {
            Some(name) => indexed.filter(|(prefix, _)| *prefix == name)?.1,
            None if *name == key => "",
            None => return None,
        };
        match (takes, value) {
            (Takes::Index(last), _) => (index.parse::<u8>().map_or(true, |index| index > *last))
                .then(|| Problem::doubt(index, format!("the indexes 0 to {last}"))),
            (takes, ParamValue::One(text)) => takes.refuse(text),
            (takes, ParamValue::Many(texts)) => texts.iter().find_map(|text| takes.refuse(text)),
        }
    })
}

/// The accepted indexes of an indexed parameter, as text.
pub(crate) fn indexes(limits: &[(&'static str, Takes)], prefix: &str) -> String {
    let has_prefix = |name: &str| name.strip_suffix("[n]") == Some(prefix);
    let last = limits.iter().find_map(|(name, takes)| match takes {
        Takes::Index(last) if has_prefix(name) => Some(*last),
        _ => None,
    });
    Takes::Index(last.unwrap_or(u8::MAX)).words()
}

/// The problem with the value of a key.
pub(crate) fn beyond_one(
    limits: &[(&'static str, Takes)],
    key: &str,
    text: &str,
) -> Option<Problem> {
    let mut limits_of_key = limits.iter().filter(|(name, _)| *name == key);
    limits_of_key.find_map(|(_, takes)| takes.refuse(text))
}

/// An indexed parameter's name and index.
fn split_index(key: &str) -> Option<(&str, &str)> {
    let digits = key.len() - key.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    (digits > 0).then(|| key.split_at(key.len() - digits))
}

impl Takes {
    fn refuse(self, text: &str) -> Option<Problem> {
        let fits = match self {
            Self::Integer(min, max) => {
                // A number beyond 64 bits is beyond every bound.
                let digits = text.strip_prefix('+').unwrap_or(text);
                digits
                    .parse::<i64>()
                    .is_ok_and(|n| (min..=max).contains(&n))
            }
            Self::Number(min, max) => text.parse::<f64>().is_ok_and(|n| (min..=max).contains(&n)),
            Self::Length(min, max) => {
                let length = text.chars().count();
                length >= min as usize && length <= max as usize
            }
            Self::Index(_) => true,
            Self::Pattern(patterns) => patterns.iter().any(|pattern| matches(pattern, text)),
            Self::OneOf(texts) => texts.contains(&text),
            Self::Format(name) => accepts(name, text).unwrap_or(true),
        };
        (!fits).then(|| Problem::doubt(text, self.words()))
    }

    /// The accepted values, as text.
    fn words(self) -> String {
        match self {
            Self::Integer(i64::MIN, max) => format!("integers up to {max}"),
            Self::Integer(min, i64::MAX) => format!("integers from {min}"),
            Self::Integer(min, max) => format!("integers from {min} to {max}"),
            Self::Number(f64::NEG_INFINITY, max) => format!("numbers up to {max}"),
            Self::Number(min, f64::INFINITY) => format!("numbers from {min}"),
            Self::Number(min, max) => format!("numbers from {min} to {max}"),
            Self::Length(min, u32::MAX) => format!("texts of at least {min} characters"),
            Self::Length(0, max) => format!("texts of at most {max} characters"),
            Self::Length(min, max) => format!("texts of {min} to {max} characters"),
            Self::Index(last) => format!("the indexes 0 to {last}"),
            Self::Pattern(patterns) => format!("texts that match `{}`", patterns.join("` or `")),
            Self::OneOf([only]) => format!("`{only}`"),
            Self::OneOf(texts) => format!("one of `{}`", texts.join("`, `")),
            Self::Format(name) => words_for(name).to_owned(),
        }
    }
}

/// Whether a text matches as a whole. Like the server, it accepts a line end after the text.
fn matches(pattern: &str, text: &str) -> bool {
    // A pattern that does not compile refuses nothing.
    Regex::new(&format!("^{pattern}\n?$")).map_or(true, |regex| regex.is_match(text))
}

/// The values of a named format, as text.
fn words_for(format: &str) -> &'static str {
    match format {
        "disk-size" => "sizes such as `32G`",
        "mac-addr" => "MAC addresses of single cards, such as `BC:24:11:00:00:01`",
        "ipv4" => "IPv4 addresses",
        "ipv6" => "IPv6 addresses",
        "CIDR" | "FullRangeCIDR" => "networks such as `192.0.2.0/24`",
        "pve-ipv4-config" => {
            "IPv4 addresses with a prefix, such as `192.0.2.9/24`, `dhcp` or `manual`"
        }
        "pve-ipv6-config" => "IPv6 addresses with a prefix, `auto`, `dhcp` or `manual`",
        "address" => "host names and addresses",
        "pve-node" => "names of letters, digits and inner hyphens",
        "pve-configid" => {
            "names of two or more letters, digits, `-` and `_` that start with a letter"
        }
        "pve-storage-id" => {
            "names of storages: letters, digits, `-`, `_` and `.`, from a letter to a letter or digit"
        }
        "pve-volume-id" => "volumes, as `storage:name`",
        "pve-volume-id-or-qm-path" => {
            "volumes, as `storage:name`, absolute paths, `none` and `cdrom`"
        }
        "pve-volume-id-or-absolute-path" => "volumes, as `storage:name`, and absolute paths",
        "pve-lxc-mp-string" => "paths without `.` and `..` in them",
        "pve-lxc-dev-string" => "paths below `/dev/` without `.` and `..` in them",
        "urlencoded" => "percent-encoded texts",
        _ => "other texts",
    }
}

/// Whether a text is of a named format; `None` for an unknown format.
fn accepts(format: &str, text: &str) -> Option<bool> {
    // Like the server, it accepts a line end after the text.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let unit = ['K', 'M', 'G', 'T'];
    let ascii = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let starts = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric());
    let id = |text: &str, more| text.len() > 1 && starts(text) && ascii(text, more);
    let volume = |text: &str| {
        text.split_once(':')
            .filter(|(_, name)| !name.is_empty() && !name.contains('\n'))
            .is_some_and(|(storage, _)| id(storage, "-_.") && ends(storage))
    };
    let path = |text: &str| text.starts_with('/');
    let label =
        |text: &str| !text.is_empty() && ascii(text, "-") && !text.starts_with('-') && ends(text);
    let dns = |text: &str| text.split('.').all(label);
    let dots = |text: &str| {
        let mut parts = text.split('/').skip(1);
        parts.any(|part| matches!(part, "." | ".."))
    };
    Some(match format {
        "disk-size" => {
            let number = text.strip_suffix("iB");
            let number = number.map_or_else(
                || text.strip_suffix(unit).unwrap_or(text),
                |number| number.strip_suffix(unit).unwrap_or_default(),
            );
            let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
            [whole, rest]
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        }
        "mac-addr" => {
            let bytes: Vec<&str> = text.split(':').collect();
            let byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            // The lowest bit of the first byte marks group addresses.
            let single = |first: &str| u8::from_str_radix(first, 16).is_ok_and(|n| n & 1 == 0);
            bytes.len() == 6 && bytes.iter().all(byte) && single(bytes[0])
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "CIDR" => cidr(text, 8, 8),
        "FullRangeCIDR" => cidr(text, 0, 0),
        "pve-ipv4-config" => matches!(text, "dhcp" | "manual") || cidr(text, 8, 129),
        "pve-ipv6-config" => matches!(text, "auto" | "dhcp" | "manual") || cidr(text, 33, 8),
        "address" => text.parse::<IpAddr>().is_ok() || dns(text),
        "pve-node" => label(text),
        "pve-configid" => id(text, "-_"),
        "pve-storage-id" => id(text, "-_.") && ends(text),
        "pve-volume-id" => volume(text),
        "pve-volume-id-or-qm-path" => {
            matches!(text, "none" | "cdrom") || path(text) || volume(text)
        }
        "pve-volume-id-or-absolute-path" => path(text) || volume(text),
        // Only at the beginning of a path is `.` taken, and `..` without more behind it.
        "pve-lxc-mp-string" => !text.starts_with("../") && !dots(text),
        "pve-lxc-dev-string" => text.starts_with("/dev/") && !dots(text),
        // What follows a percent sign is not checked.
        "urlencoded" => ascii(text, "%-_.!~*'()"),
        _ => return None,
    })
}

/// Whether a text is a network with a prefix of at least this many bits; a minimum above the
/// address's length accepts none.
fn cidr(text: &str, least4: u8, least6: u8) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let Some(Ok(prefix)) = (!prefix.starts_with('+')).then(|| prefix.parse::<u8>()) else {
        return false;
    };
    match address.parse() {
        Ok(IpAddr::V4(_)) => (least4..=32).contains(&prefix),
        Ok(IpAddr::V6(_)) => (least6..=128).contains(&prefix),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(takes: Takes, text: &str) -> Option<String> {
        Some(takes.refuse(text)?.allowed)
    }

    #[test]
    fn bounds_are_inclusive_and_described() {
        let cores = Takes::Integer(1, 128);
        assert_eq!(refused(cores, "1"), None);
        assert_eq!(refused(cores, "128"), None);
        let words = Some("integers from 1 to 128".to_owned());
        for text in ["0", "129", "-1", "1.5", "many", "99999999999999999999"] {
            assert_eq!(refused(cores, text), words, "{text}");
        }
        assert_eq!(
            refused(Takes::Integer(16, i64::MAX), "15").as_deref(),
            Some("integers from 16")
        );
        assert_eq!(refused(Takes::Number(0.0, 1.5), "1.5"), None);
        assert!(refused(Takes::Number(0.0, 1.5), "1.6").is_some());
        assert_eq!(refused(Takes::Length(0, 3), "äöü"), None);
        assert!(refused(Takes::Length(0, 3), "äöüx").is_some());
    }

    #[test]
    fn an_index_is_checked_for_its_own_parameter_only() {
        let limits = &[
            ("net[n]", Takes::Index(31)),
            ("net", Takes::Length(0, 1)),
            ("hostpci[n]", Takes::Index(15)),
        ];
        let value = ParamValue::One("virtio".to_owned());
        let text = |key| beyond(limits, key, &value).map(|problem| problem.allowed);
        assert_eq!(text("net31"), None);
        assert_eq!(text("net32").as_deref(), Some("the indexes 0 to 31"));
        assert_eq!(text("net300").as_deref(), Some("the indexes 0 to 31"));
        assert_eq!(text("hostpci16").as_deref(), Some("the indexes 0 to 15"));
        assert_eq!(text("virtio99"), None);
        assert!(text("net").is_some_and(|text| text.contains("characters")));
    }

    #[test]
    fn a_pattern_must_match_the_whole_text() {
        let takes = Takes::Pattern(&["[a-z]+", r"\d{2}"]);
        for text in ["abc", "12", "abc\n"] {
            assert_eq!(refused(takes, text), None, "{text}");
        }
        for text in ["", "ab1", "123"] {
            assert!(refused(takes, text).is_some(), "{text}");
        }
        assert_eq!(refused(Takes::Pattern(&["("]), "x"), None);
    }

    #[test]
    fn formats() {
        for (format, good, bad) in [
            (
                "disk-size",
                &["32", "32G", "1.5T", "4GiB", "8M\n"][..],
                &["", "G", "-1", "4X", "1.G", "4iB", "4GiBiB", "iB"][..],
            ),
            (
                "mac-addr",
                &["BC:24:11:00:00:01"],
                &["BD:24:11:00:00:01", "BC:24:11", "bc-24-11-00-00-01"],
            ),
            (
                "CIDR",
                &["192.0.2.0/24", "2001:db8::/32"],
                &["192.0.2.0", "192.0.2.0/33", "x/8", "192.0.2.0/+8"],
            ),
            (
                "pve-ipv4-config",
                &["dhcp", "192.0.2.1/24"],
                &["auto", "2001:db8::1/64"],
            ),
            (
                "pve-ipv6-config",
                &["auto", "2001:db8::1/64"],
                &["192.0.2.1/24", ""],
            ),
            (
                "pve-volume-id",
                &["local:iso/a.iso"],
                &["local", "l:x", ":x", "local:", "local:a\nb"],
            ),
            (
                "pve-volume-id-or-qm-path",
                &["none", "/dev/sr0", "ab:c"],
                &["nothing"],
            ),
            ("pve-configid", &["a1", "net-0"], &["a", "1a", "a b"]),
            (
                "pve-node",
                &["a", "pve-1", "pve-1\n"],
                &["-a", "a-", "a.b", "", "\n"],
            ),
            (
                "urlencoded",
                &["a%20b", "", "a%2", "100%"],
                &["a b", "a+b", "ü"],
            ),
            (
                "pve-lxc-mp-string",
                &["/srv/shop", "srv", "./srv", ".", "..", "/srv/.shop"],
                &["/srv/../shop", "/srv/.", "../srv", "./../srv"],
            ),
            (
                "pve-lxc-dev-string",
                &["/dev/fuse", "/dev/net/tun"],
                &["/srv/fuse", "/dev/../fuse", "/dev/."],
            ),
            (
                "address",
                &["a.example", "192.0.2.1", "::1"],
                &["-a", "a..b"],
            ),
        ] {
            for text in good {
                assert_eq!(accepts(format, text), Some(true), "{format} {text}");
            }
            for text in bad {
                assert_eq!(accepts(format, text), Some(false), "{format} {text}");
            }
        }
        assert_eq!(accepts("of-tomorrow", "x"), None);
    }
}
