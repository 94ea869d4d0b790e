//! The problems of a dump.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One problem in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `POST /nodes/{node}/qemu`, or a path if the problem is in no method, or `None`.
    pub endpoint: Option<String>,
    /// JSON pointer, relative to the method's object if `endpoint` names one, else to the array.
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, "{endpoint}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "at {}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of a dump. A problem that many endpoints share is reported once, with the first of
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// A problem of more endpoints than this is reported once.
const SHARED: usize = 5;

impl Problems {
    /// A line for each problem.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for problem in &self.0 {
            *counts
                .entry((&problem.pointer, &problem.message))
                .or_default() += 1;
        }
        let mut reported = BTreeSet::new();
        self.0
            .iter()
            .filter_map(|problem| {
                let key = (problem.pointer.as_str(), problem.message.as_str());
                match counts[&key] {
                    count if count <= SHARED => Some(problem.to_string()),
                    _ if !reported.insert(key) => None,
                    count => Some(format!(
                        "{problem} (and the same in {} more places)",
                        count - 1
                    )),
                }
            })
            .collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for Problems {}
