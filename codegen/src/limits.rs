//! Limits that values are checked against before they are sent: the values that at least one
//! release accepts.

use serde_json::Number;

use crate::facts::{Format, Schema};

/// The bounds of a parameter or key; empty if a release has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) minimum: Option<Number>,
    pub(crate) maximum: Option<Number>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    /// The dumps' patterns, without duplicates.
    pub(crate) patterns: Vec<String>,
    pub(crate) format: Option<String>,
}

impl Limits {
    pub(crate) fn of(schema: &Schema) -> Self {
        Self {
            minimum: schema.minimum.clone(),
            maximum: schema.maximum.clone(),
            min_length: schema.min_length,
            max_length: schema.max_length,
            patterns: schema.pattern.iter().cloned().collect(),
            format: match &schema.format {
                Some(Format::Name(name)) => Some(name.clone()),
                _ => None,
            },
        }
    }

    /// The values that one of the two accepts.
    pub(crate) fn widen(self, other: Self) -> Self {
        // A bound that one side lacks bounds nothing.
        fn wider<T>(
            left: Option<T>,
            right: Option<T>,
            left_is_wider: impl Fn(&T, &T) -> bool,
        ) -> Option<T> {
            let (left, right) = (left?, right?);
            Some(if left_is_wider(&left, &right) {
                left
            } else {
                right
            })
        }
        let number = |n: &Number| n.as_f64().unwrap_or_default();
        let mut patterns = Vec::new();
        if !self.patterns.is_empty() && !other.patterns.is_empty() {
            patterns = self.patterns;
            for pattern in other.patterns {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        Self {
            minimum: wider(self.minimum, other.minimum, |a, b| number(a) <= number(b)),
            maximum: wider(self.maximum, other.maximum, |a, b| number(a) >= number(b)),
            min_length: wider(self.min_length, other.min_length, |a, b| a <= b),
            max_length: wider(self.max_length, other.max_length, |a, b| a >= b),
            patterns,
            format: self
                .format
                .filter(|format| Some(format) == other.format.as_ref()),
        }
    }
}

/// A Perl pattern in the syntax of the library's engine. `\w` accepts all characters outside ASCII,
/// which is more than in Perl.
pub(crate) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let length = if let Some(tail) = rest.strip_prefix("(?^") {
            let flags = tail.split(':').next().unwrap_or_default();
            let supported: String = flags.chars().filter(|c| "imsx".contains(*c)).collect();
            out.push_str(&format!("(?{supported}:"));
            "(?^:".len() + flags.len()
        } else if rest.starts_with("(?>") {
            out.push_str("(?:");
            3
        } else if rest.starts_with("{,") {
            out.push_str("{0,");
            2
        } else if rest.starts_with("\\w") {
            out.push_str(match in_class {
                true => r"\w\x{80}-\x{10FFFF}",
                false => r"[\w\x{80}-\x{10FFFF}]",
            });
            2
        } else if rest.starts_with("\\0") {
            out.push_str(r"\x00");
            2
        } else if rest.starts_with("\\_") {
            out.push('_');
            2
        } else if c == '\\' {
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            length
        } else {
            match c {
                '[' if in_class => out.push_str("\\["),
                '[' => {
                    in_class = true;
                    out.push(c);
                }
                ']' => {
                    in_class = false;
                    out.push(c);
                }
                // Some classes have `-` where it cannot start a range.
                '&' | '~' if in_class => out.extend(['\\', c]),
                _ => out.push(c),
            }
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn perl_spellings() {
        assert_eq!(translate(r"(?^i:[a-z]+)"), r"(?i:[a-z]+)");
        assert_eq!(translate(r"(?^:a)"), r"(?:a)");
        assert_eq!(translate(r"[\w\-]{,8}"), r"[\w\x{80}-\x{10FFFF}\-]{0,8}");
        assert_eq!(translate(r"\w+\.\d"), r"[\w\x{80}-\x{10FFFF}]+\.\d");
        assert_eq!(translate(r"a\0b"), r"a\x00b");
    }
}
