//! Perl patterns in the schema, matched with Rust's `regex`, and turned into example values.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

type Cache = Mutex<HashMap<String, Option<Arc<Regex>>>>;

fn compiled(pattern: &str) -> Option<Arc<Regex>> {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    let cache = CACHE.get_or_init(Mutex::default);
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(pattern) {
        return known.clone();
    }
    // The schema has counted repeats of Unicode classes, which are large when compiled.
    let compiled = RegexBuilder::new(&anchored(pattern))
        .size_limit(256 << 20)
        .build()
        .ok()
        .map(Arc::new);
    cache.insert(pattern.to_owned(), compiled.clone());
    compiled
}

/// Whether `value` matches, or `None` for a pattern that Rust's engine does not support.
pub(crate) fn matches(pattern: &str, value: &str) -> Option<bool> {
    compiled(pattern).map(|regex| regex.is_match(value))
}

/// As Perl's `m/^$pattern$/`: no group around it, and `$` allows a final newline.
fn anchored(pattern: &str) -> String {
    format!("^{}\\n?\\z", translate(pattern))
}

/// Translates Perl syntax: flag groups with `^`, atomic groups, `{,n}`, `\0`.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("(?^") {
            let (flags, tail) = tail.split_once(':').unwrap_or((tail, ""));
            let flags: String = flags
                .chars()
                .filter(|f| matches!(f, 'i' | 'm' | 's' | 'x'))
                .collect();
            out.push_str(&format!("(?{flags}:"));
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("(?>") {
            out.push_str("(?:");
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("{,") {
            out.push_str("{0,");
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("\\0") {
            out.push_str("\\x00");
            rest = tail;
        } else if c == '\\' {
            let end = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            match &rest[..end] {
                "\\_" => out.push('_'),
                other => out.push_str(other),
            }
            rest = &rest[end..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// A short text that matches, of at least `min` characters if the pattern can repeat.
pub(crate) fn example(pattern: &str, min: usize) -> Option<String> {
    let hir = regex_syntax::parse(&translate(pattern)).ok()?;
    (0..8)
        .map(|extra| {
            let mut text = String::new();
            grow(&hir, extra, &mut text);
            text
        })
        .find(|text| text.chars().count() >= min && matches(pattern, text).unwrap_or(false))
}

fn grow(hir: &Hir, extra: u32, out: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => out.push(pick(class)),
        HirKind::Repetition(repetition) => {
            let count = repetition.min.saturating_add(extra);
            let times = repetition.max.map_or(count, |max| count.min(max));
            for _ in 0..times {
                grow(&repetition.sub, extra, out);
            }
        }
        HirKind::Capture(capture) => grow(&capture.sub, extra, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| grow(part, extra, out)),
        HirKind::Alternation(choices) => {
            if let Some(first) = choices.first() {
                grow(first, extra, out);
            }
        }
    }
}

fn pick(class: &Class) -> char {
    let holds = |c: char| match class {
        Class::Unicode(set) => set.ranges().iter().any(|r| r.start() <= c && c <= r.end()),
        Class::Bytes(set) => u8::try_from(u32::from(c))
            .is_ok_and(|b| set.ranges().iter().any(|r| r.start() <= b && b <= r.end())),
    };
    ('a'..='z')
        .chain('0'..='9')
        .chain('A'..='Z')
        .chain('!'..='~')
        .chain(std::iter::once(' '))
        .find(|c| holds(*c))
        .unwrap_or('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_spellings() {
        assert_eq!(matches(r"(?^i:[a-z]+)", "ABC"), Some(true));
        assert_eq!(
            matches(r"(?^u:^((?>[+-]?[\w\-\._=]+,?)+)$)", "+a,-b"),
            Some(true)
        );
        assert_eq!(matches(r"[A-Za-z0-9\-_\s]{,8}", "123456789"), Some(false));
        assert_eq!(matches(r"[a-z]+", "abc\n"), Some(true));
        assert_eq!(matches(r"[a-z]+", "abc!"), Some(false));
        assert_eq!(matches(r"(unclosed", "x"), None);
    }

    #[test]
    fn examples_match_their_pattern() {
        for pattern in [
            r"[1-9][0-9]{2,8}-\d{1,9}",
            r"([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}",
            r"^https?://.*",
            r"(?^:[A-Za-z][A-Za-z0-9\.\-_]+)",
            r"\S{2,}",
        ] {
            let text = example(pattern, 0).expect(pattern);
            assert_eq!(matches(pattern, &text), Some(true), "{pattern} -> {text}");
        }
        assert!(example("[a-z]*", 3).is_some_and(|t| t.len() >= 3));
    }
}
