//! Removing secrets from texts of a server, in any form in which it repeats them.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

const HIDDEN: &str = "…";
/// Shorter values are removed only as whole words, because they occur inside of other words.
const MIN_LENGTH: usize = 4;
/// From this length on a value is also searched in base64.
const MIN_ENCODED_LENGTH: usize = 6;

/// Finds known secrets in texts: as they are, percent-encoded in any spelling, as a form, escaped
/// as JSON or HTML, in hexadecimal digits, and in base64 at any offset.
#[derive(Default)]
pub(crate) struct Scrubber {
    /// The longest first.
    needles: Vec<Vec<u8>>,
}

impl Scrubber {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let trimmed = secret.trim();
            if trimmed.is_empty() {
                continue;
            }
            needles.push(trimmed.as_bytes().to_vec());
            if trimmed.len() != secret.len() {
                needles.push(secret.as_bytes().to_vec());
            }
            if secret.len() >= MIN_ENCODED_LENGTH {
                needles.extend(in_base64(secret.as_bytes()));
                needles.extend(in_hexadecimal(secret.as_bytes()));
            }
        }
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles }
    }

    /// The text without secrets.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            // Whole characters are removed, or escapes of them.
            Some(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
            None => Cow::Borrowed(text),
        }
    }

    /// The bytes without secrets; `None` if there were none.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.needles.is_empty() {
            return None;
        }
        for view in views(bytes) {
            for needle in &self.needles {
                view.find(needle, &mut found);
            }
        }
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut out = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for range in found {
            if range.start >= done {
                out.extend_from_slice(&bytes[done..range.start]);
                out.extend_from_slice(HIDDEN.as_bytes());
            }
            done = done.max(range.end);
        }
        out.extend_from_slice(&bytes[done..]);
        Some(out)
    }
}

fn in_hexadecimal(secret: &[u8]) -> [Vec<u8>; 2] {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    [digits.to_ascii_uppercase(), digits].map(String::into_bytes)
}

/// The part of a secret's base64 that does not depend on its offset.
fn in_base64(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..3).flat_map(move |offset| {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(secret);
        // Digits that hold bits of neighbouring bytes are unknown.
        let first = (offset * 8).div_ceil(6);
        let last = bytes.len() * 8 / 6;
        [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| {
            let digits = engine.encode(&bytes).into_bytes();
            digits.get(first..last).unwrap_or_default().to_vec()
        })
    })
}

/// A text with one kind of escapes decoded, and the origin of each byte.
struct View<'a> {
    decoded: Cow<'a, [u8]>,
    /// Start of each decoded byte, and the end of the last; `None` where nothing was decoded.
    starts: Option<Vec<usize>>,
}

impl View<'_> {
    fn find(&self, needle: &[u8], found: &mut Vec<Range<usize>>) {
        let text = &*self.decoded;
        let Some(&first) = needle.first() else { return };
        let mut at = 0;
        while let Some(next) = text[at..].iter().position(|&byte| byte == first) {
            let start = at + next;
            at = start + 1;
            if !text[start..].starts_with(needle) {
                continue;
            }
            let end = start + needle.len();
            let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            let before = start.checked_sub(1).and_then(|before| text.get(before));
            if needle.len() < MIN_LENGTH && !(alone(before) && alone(text.get(end))) {
                continue;
            }
            found.push(match &self.starts {
                Some(starts) => starts[start]..starts[end],
                None => start..end,
            });
            at = end;
        }
    }
}

fn views(bytes: &[u8]) -> Vec<View<'_>> {
    let mut views = vec![View {
        decoded: Cow::Borrowed(bytes),
        starts: None,
    }];
    let decoders: [(&[u8], Decoder); 4] =
        [(b"%", percent), (b"+", form), (b"\\", json), (b"&", html)];
    for (marks, decode) in decoders {
        if bytes.iter().any(|byte| marks.contains(byte)) {
            views.push(view(bytes, decode));
        }
    }
    views
}

/// The next character, and the length of its escape; `None` for an unescaped byte.
type Decoder = fn(&[u8]) -> Option<(Decoded, usize)>;

/// A character or byte, as up to four bytes.
struct Decoded([u8; 4], usize);

impl Decoded {
    fn byte(byte: u8) -> Self {
        Self([byte, 0, 0, 0], 1)
    }

    fn char(c: char) -> Self {
        let mut bytes = [0; 4];
        let length = c.encode_utf8(&mut bytes).len();
        Self(bytes, length)
    }
}

fn view(bytes: &[u8], decode: Decoder) -> View<'static> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut starts = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (Decoded(value, count), length) =
            decode(&bytes[at..]).unwrap_or((Decoded::byte(byte), 1));
        for &byte in &value[..count] {
            decoded.push(byte);
            starts.push(at);
        }
        at += length;
    }
    starts.push(bytes.len());
    View {
        decoded: decoded.into(),
        starts: Some(starts),
    }
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| plain)
}

fn percent(rest: &[u8]) -> Option<(Decoded, usize)> {
    if rest.first() != Some(&b'%') {
        return None;
    }
    let byte = u8::try_from(hex(rest.get(1..3))?).ok()?;
    Some((Decoded::byte(byte), 3))
}

fn form(rest: &[u8]) -> Option<(Decoded, usize)> {
    match rest.first() {
        Some(b'+') => Some((Decoded::byte(b' '), 1)),
        _ => percent(rest),
    }
}

fn json(rest: &[u8]) -> Option<(Decoded, usize)> {
    if rest.first() != Some(&b'\\') {
        return None;
    }
    let byte = match rest.get(1)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'u' => {
            let first = hex(rest.get(2..6))?;
            if let Some(c) = char::from_u32(first) {
                return Some((Decoded::char(c), 6));
            }
            let second = match rest.get(6..8) {
                Some(b"\\u") => hex(rest.get(8..12))?,
                _ => return None,
            };
            let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
            let c = char::decode_utf16(pair).next()?.ok()?;
            return Some((Decoded::char(c), 12));
        }
        _ => return None,
    };
    Some((Decoded::byte(byte), 2))
}

fn html(rest: &[u8]) -> Option<(Decoded, usize)> {
    let end = rest.iter().take(10).position(|&byte| byte == b';')?;
    let name = std::str::from_utf8(rest.get(..end)?)
        .ok()?
        .strip_prefix('&')?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => hex(Some(digits.as_bytes()))?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((Decoded::char(c), end + 1))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn scrubbed(secret: &str, text: &str) -> String {
        Scrubber::new([secret]).text(text).into_owned()
    }

    /// The forms in which a server or a proxy repeats a request.
    fn encodings(secret: &str, before: &str) -> Vec<String> {
        let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        let json = serde_json::to_string(secret).expect("a text has a JSON form");
        let ascii: String = json
            .chars()
            .map(|c| match c.is_ascii() {
                true => c.to_string(),
                false => {
                    let mut units = [0; 2];
                    let units = c.encode_utf16(&mut units);
                    units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }
            })
            .collect();
        let html = secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;");
        vec![
            secret.to_owned(),
            (secret.bytes().map(|byte| format!("%{byte:02x}"))).collect(),
            percent.replace("%20", "+"),
            percent,
            json,
            ascii,
            html,
            secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
            secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
            STANDARD.encode(format!("{before}{secret}")),
            URL_SAFE.encode(format!("{before}{secret}after")),
        ]
    }

    proptest! {
        #[test]
        fn every_encoding_of_a_secret_is_removed(
            secret in "[ -~äß語😀]{8,40}", before in "[a-z]{0,5}", around in "[a-z .:]{0,10}",
        ) {
            prop_assume!(secret.trim() == secret);
            for (number, form) in encodings(&secret, &before).into_iter().enumerate() {
                let text = format!("{around} ({form}) {around}");
                let clean = scrubbed(&secret, &text);
                prop_assert!(clean.contains('…'), "{number}: {clean}");
                let middle = &form.trim_matches('"');
                prop_assert!(!clean.contains(middle), "{number}: {clean}");
            }
        }

        #[test]
        fn texts_without_secrets_are_unchanged(text in "\\PC{0,200}") {
            prop_assume!(!text.contains('…'));
            prop_assert_eq!(scrubbed("S3cr3t-of-the-t3st", &text), text);
        }

        #[test]
        fn no_bytes_cause_a_panic(
            secrets in prop::collection::vec("\\PC{0,12}", 0..4), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let scrubber = Scrubber::new(secrets.iter().map(String::as_str));
            let _ = scrubber.bytes(&bytes);
        }
    }

    #[test]
    fn a_short_secret_is_removed_only_as_a_whole_word() {
        assert_eq!(
            scrubbed("abc", "abc is not abcd, but (abc)"),
            "… is not abcd, but (…)"
        );
        assert_eq!(scrubbed("", "nothing to find"), "nothing to find");
    }

    #[test]
    fn a_secret_within_another_is_removed_completely() {
        let scrubber = Scrubber::new(["inner", "an inner part"]);
        assert_eq!(scrubber.text("x an inner part, inner"), "x …, …");
    }
}
