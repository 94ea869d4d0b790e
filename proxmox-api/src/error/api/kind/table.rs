//! The table of refusals, and its matcher. It uses no other type of the crate, because `cargo xtask
//! coverage` includes it.

use std::sync::OnceLock;

const TEXT: &str = include_str!("kinds.tsv");

/// The source of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An answer with that status.
    Status(u16),
    /// A text without a status, such as the status of a failed task.
    Text,
    /// The text of a single refused parameter.
    Parameter,
}

#[derive(Debug)]
struct Row {
    kind: &'static str,
    scope: Scope,
    pattern: Pattern,
}

#[derive(Debug)]
enum Scope {
    Status(u16),
    Redirection,
    Parameter,
    All,
}

impl Scope {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "*" => Self::All,
            "3xx" => Self::Redirection,
            "parameter" => Self::Parameter,
            status => Self::Status(status.parse().ok()?),
        })
    }

    fn holds(&self, refusal: Refusal) -> bool {
        match (self, refusal) {
            (Self::Status(own), Refusal::Status(status)) => *own == status,
            (Self::Redirection, Refusal::Status(status)) => (300..400).contains(&status),
            (Self::Parameter, Refusal::Parameter) => true,
            (Self::All, Refusal::Status(_) | Refusal::Text) => true,
            _ => false,
        }
    }
}

/// Parts that follow each other in a text.
#[derive(Debug)]
struct Pattern {
    parts: Vec<&'static str>,
    starts: bool,
    ends: bool,
}

impl Pattern {
    fn read(text: &'static str) -> Self {
        let (starts, text) = match text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (ends, text) = match text.strip_suffix('$') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let parts = text.split('*').filter(|part| !part.is_empty()).collect();
        Self {
            parts,
            starts,
            ends,
        }
    }

    /// `text` is in lower case, `bare` the same without the punctuation at its end.
    fn fits(&self, text: &str, bare: &str) -> bool {
        let text = if self.ends { bare } else { text };
        let mut rest = text;
        for (number, part) in self.parts.iter().enumerate() {
            let last = number + 1 == self.parts.len();
            let at = match (number == 0 && self.starts, last && self.ends) {
                (true, true) => (rest == *part).then_some(0),
                (true, false) => rest.starts_with(part).then_some(0),
                (false, true) => rest.ends_with(part).then(|| rest.len() - part.len()),
                (false, false) => rest.find(part),
            };
            match at {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| lines().filter_map(read).collect())
}

fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read(line: &'static str) -> Option<Row> {
    let mut columns = line.split('\t');
    let (kind, scope, pattern) = (columns.next()?, columns.next()?, columns.next()?);
    if columns.next().is_some() {
        return None;
    }
    Some(Row {
        kind,
        scope: Scope::read(scope)?,
        pattern: Pattern::read(pattern),
    })
}

/// The name of the kind, by the first row that fits.
pub(crate) fn find(refusal: Refusal, text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    let bare = text.trim_end_matches(['!', '.', '\n', ' ']);
    rows()
        .iter()
        .find(|row| row.scope.holds(refusal) && row.pattern.fits(&text, bare))
        .map(|row| row.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_row() {
        for line in lines() {
            let row = read(line);
            assert!(row.is_some(), "{line:?}");
            let pattern = line.rsplit('\t').next().unwrap_or_default();
            assert_eq!(pattern, pattern.to_lowercase(), "{line:?}");
        }
    }

    #[test]
    fn no_row_is_shadowed_by_an_earlier_one() {
        let mut useless = Vec::new();
        for (number, row) in rows().iter().enumerate() {
            let sample = row.pattern.parts.join("x");
            let refusals = match row.scope {
                Scope::Status(status) => vec![Refusal::Status(status)],
                Scope::Redirection => vec![Refusal::Status(301)],
                Scope::Parameter => vec![Refusal::Parameter],
                Scope::All => vec![Refusal::Text],
            };
            for refusal in refusals {
                let bare = sample.trim_end_matches(['!', '.', '\n', ' ']);
                let first = rows()
                    .iter()
                    .position(|row| row.scope.holds(refusal) && row.pattern.fits(&sample, bare));
                if first.is_some_and(|first| first < number) {
                    useless.push(format!("{row:?} after {:?}", rows()[first.unwrap_or(0)]));
                }
            }
        }
        assert!(useless.is_empty(), "{}", useless.join("\n"));
    }

    #[test]
    fn patterns_match_as_documented() {
        let fits = |pattern: &'static str, text: &str| {
            let bare = text.trim_end_matches(['!', '.', '\n', ' ']);
            Pattern::read(pattern).fits(text, bare)
        };
        assert!(fits("lock * timeout", "can't get lock 'x' - got timeout"));
        assert!(!fits("timeout * lock", "can't get lock 'x' - got timeout"));
        assert!(fits("^no such", "no such thing") && !fits("^no such", "there is no such thing"));
        assert!(fits("not found$", "x not found!\n") && !fits("not found$", "not found here"));
        assert!(fits("^a*b$", "a and b.") && !fits("^a*b$", "ab and c"));
        assert!(fits("", "") && fits("", "anything"));
    }
}
